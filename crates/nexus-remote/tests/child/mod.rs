//! The test `peer` of this program, run as a process of its own that can be killed.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

pub(crate) type Lines = tokio::io::Lines<BufReader<ChildStdout>>;

/// Far more than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Starts it with its parameters in `variable`, and returns what it prints.
pub(crate) fn start(variable: &str, parameters: &str) -> (Child, Lines) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "peer", "--nocapture", "--test-threads=1"])
        .env(variable, parameters)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// The rest of the next line that begins with `word`.
pub(crate) async fn said(lines: &mut Lines, word: &str) -> String {
    loop {
        let line = tokio::time::timeout(LIMIT, lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("it has not said {word:?} within {LIMIT:?}")).unwrap();
        let line = line.unwrap_or_else(|| panic!("it ended before it said {word}"));
        if let Some(rest) = line.strip_prefix(word) {
            return rest.to_string();
        }
    }
}
