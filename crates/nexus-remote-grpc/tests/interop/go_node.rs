//! Builds the program in `interop/protoactor-go` and drives it. Its README lists commands and events.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;

use crate::support::own_host;

/// How long anything awaited of a Go node may take. Its own longest wait is ten seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// How many bytes of the node's log a failure shows.
const LOG_SHOWN: usize = 4096;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interop/protoactor-go");

/// Which of the two incompatible wires the Go program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    W1,
    W2,
}

impl Generation {
    pub(crate) const BOTH: [Self; 2] = [Self::W1, Self::W2];

    fn go_needed(self) -> [u32; 3] {
        match self {
            Self::W1 => [1, 21, 0],
            Self::W2 => [1, 25, 3],
        }
    }

    /// The arguments that choose this generation for each `go` command but the first word.
    fn selection(self) -> &'static [&'static str] {
        match self {
            Self::W1 => &["-modfile=go.mod"],
            Self::W2 => &["-modfile=w2.mod", "-tags=w2"],
        }
    }

    fn program_name(self) -> &'static str {
        match self {
            Self::W1 => "go-node-w1",
            Self::W2 => "go-node-w2",
        }
    }

    /// The program, built once; `None` where it cannot be had here, which a line on stderr then says.
    ///
    /// # Panics
    /// If our Go source does not compile, or anything is missing and `NEXUS_INTEROP=required`.
    pub(crate) fn program(self) -> Option<PathBuf> {
        static PROGRAMS: [OnceLock<Option<PathBuf>>; 2] = [OnceLock::new(), OnceLock::new()];
        PROGRAMS[self as usize].get_or_init(|| build(self)).clone()
    }
}

fn build(generation: Generation) -> Option<PathBuf> {
    if let Err(missing) = prepare(generation) {
        assert!(std::env::var_os("NEXUS_INTEROP").is_none_or(|wish| wish != "required"), "{missing}");
        // Past the capture of the test harness: a test that did not run must be seen.
        let _ = writeln!(std::io::stderr(), "skipped: live protoactor-go nodes, {generation:?}: {missing}");
        return None;
    }
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(generation.program_name());
    let mut build = go();
    build.args(["build", "-buildvcs=false"]).args(generation.selection());
    let built = build.arg("-o").arg(&program).arg(".").output().expect("go ran a moment ago");
    assert!(built.status.success(), "{SOURCE} does not compile:\n{}", String::from_utf8_lossy(&built.stderr));
    Some(program)
}

/// Checks that Go is there, is new enough, and has the modules.
fn prepare(generation: Generation) -> Result<(), String> {
    let version =
        go().args(["env", "GOVERSION"]).output().map_err(|error| format!("Go is not installed ({error})"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let needed = generation.go_needed();
    if parse_version(&version) < Some(needed) {
        let [major, minor, patch] = needed;
        return Err(format!("needs Go {major}.{minor}.{patch}, this is {version}"));
    }
    let mut download = go();
    download.args(["mod", "download", generation.selection()[0]]);
    let download = download.output().map_err(|error| error.to_string())?;
    if download.status.success() {
        Ok(())
    } else {
        let why = String::from_utf8_lossy(&download.stderr).trim().replace('\n', "; ");
        Err(format!("its Go modules could not be fetched ({why})"))
    }
}

fn go() -> Command {
    let mut go = Command::new("go");
    // The Go that is here, unless another one is asked for: nothing is fetched for the purpose.
    if std::env::var_os("GOTOOLCHAIN").is_none() {
        go.env("GOTOOLCHAIN", "local");
    }
    go.current_dir(SOURCE).stdin(Stdio::null());
    go
}

/// `go1.26.8` or `go1.26rc1`, as `go env GOVERSION` prints it.
fn parse_version(text: &str) -> Option<[u32; 3]> {
    let text = text.strip_prefix("go")?;
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let mut parts = text[..end].split('.').map(|part| part.parse().unwrap_or(0));
    Some([parts.next()?, parts.next()?, parts.next().unwrap_or(0)])
}

/// A command that was sent and whose answer is still to come.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Pending(u64);

/// A running Go node. It is killed when dropped.
pub(crate) struct GoNode {
    generation: Generation,
    child: Child,
    stdin: ChildStdin,
    events: mpsc::UnboundedReceiver<Value>,
    /// Events that came before the one that was awaited.
    passed: VecDeque<Value>,
    commands: u64,
    log: Arc<Mutex<Vec<u8>>>,
    address: String,
    system_id: String,
}

impl GoNode {
    /// Starts a node with the flags of its command line and waits until it listens; `None` where there is no Go.
    pub(crate) async fn start(generation: Generation, flags: &[&str]) -> Option<Self> {
        let program = generation.program()?;
        let mut child = tokio::process::Command::new(program)
            .arg("node")
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program was built a moment ago");
        let log = Arc::new(Mutex::new(Vec::new()));
        keep_log(child.stderr.take().expect("piped"), Arc::clone(&log));
        let stdin = child.stdin.take().expect("piped");
        let events = read_events(child.stdout.take().expect("piped"));
        let mut node = Self {
            generation,
            child,
            stdin,
            events,
            passed: VecDeque::new(),
            commands: 0,
            log,
            address: String::new(),
            system_id: String::new(),
        };
        let listening = node.event("listening", |_| true).await;
        node.address = text(&listening, "address").to_owned();
        node.system_id = text(&listening, "system_id").to_owned();
        Some(node)
    }

    /// Starts a node at a host of its own, whose port stays free after its end: see [`own_host`].
    pub(crate) async fn start_alone(generation: Generation) -> Option<Self> {
        Self::start(generation, &["-host", &own_host()]).await
    }

    /// Another node at the address of one that has ended.
    pub(crate) async fn start_again(generation: Generation, address: &str) -> Option<Self> {
        let (host, port) = address.rsplit_once(':').expect("an address has a port");
        Self::start(generation, &["-host", host, "-port", port]).await
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The id that the node gives in its handshake, new on every start.
    pub(crate) fn system_id(&self) -> &str {
        &self.system_id
    }

    /// How commands and events name an actor of this node.
    pub(crate) fn actor(&self, id: &str) -> String {
        format!("{}/{id}", self.address)
    }

    /// Sends a command and does not wait for its answer.
    pub(crate) async fn send(&mut self, mut command: Value) -> Pending {
        self.commands += 1;
        command["id"] = json!(self.commands);
        let line = format!("{command}\n");
        if let Err(error) = self.stdin.write_all(line.as_bytes()).await {
            self.fail(&format!("takes no commands: {error}"));
        }
        Pending(self.commands)
    }

    /// The event `done`, or the text of the error.
    pub(crate) async fn answer(&mut self, Pending(id): Pending) -> Result<Value, String> {
        let answer = self.next(&format!("the answer to command {id}"), |event| event["id"] == id).await;
        if answer["event"] == "done" { Ok(answer) } else { Err(text(&answer, "error").to_owned()) }
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn try_run(&mut self, command: Value) -> Result<Value, String> {
        let pending = self.send(command).await;
        self.answer(pending).await
    }

    /// Like [`try_run`](Self::try_run) for a command that must succeed.
    pub(crate) async fn run(&mut self, command: Value) -> Value {
        let shown = command.to_string();
        match self.try_run(command).await {
            Ok(done) => done,
            Err(error) => self.fail(&format!("failed to carry out {shown}: {error}")),
        }
    }

    /// Waits for an event of this name that fits, and leaves the others in their order for later calls.
    pub(crate) async fn event(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.next(&format!("an event {name:?}"), |event| event["event"] == name && fits(event)).await
    }

    /// Whether an event of this name that fits has come already. Ask only after an answer that tells that it would have.
    pub(crate) fn has_event(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> bool {
        while let Ok(event) = self.events.try_recv() {
            self.passed.push_back(event);
        }
        self.passed.iter().any(|event| event["event"] == name && fits(event))
    }

    async fn next(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(place) = self.passed.iter().position(&fits) {
            return self.passed.remove(place).expect("it was found there");
        }
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Some(event)) if fits(&event) => return event,
                Ok(Some(event)) => self.passed.push_back(event),
                Ok(None) => self.fail(&format!("ended before {what}")),
                Err(_) => self.fail(&format!("gave no {what} within {DEADLINE:?}")),
            }
        }
    }

    /// `kill -9`, and waits for the end.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("the process is ours");
    }

    /// Waits for the node to end by itself, as it does when its runtime panics, and returns the end of its log.
    pub(crate) async fn exited(mut self) -> String {
        if tokio::time::timeout(DEADLINE, self.child.wait()).await.is_err() {
            self.fail("goes on");
        }
        // The log is whole when the events have ended too.
        while self.events.recv().await.is_some() {}
        self.shown_log()
    }

    /// Sends a signal by name: `STOP` hangs the whole process, `CONT` lets it go on.
    pub(crate) fn signal(&self, name: &str) {
        let process = self.child.id().expect("the process runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &process]).status().expect("there is a kill");
        assert!(sent.success(), "no signal {name} for {process}");
    }

    fn shown_log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        String::from_utf8_lossy(&log).into_owned()
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        let passed: Vec<_> = self.passed.iter().map(Value::to_string).collect();
        panic!(
            "the Go node {} ({:?}) {what}\nits events:\n{}\nits log:\n{}",
            self.address,
            self.generation,
            passed.join("\n"),
            self.shown_log(),
        );
    }
}

fn read_events(stdout: impl AsyncRead + Unpin + Send + 'static) -> mpsc::UnboundedReceiver<Value> {
    let (events, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let event =
                serde_json::from_str(&line).unwrap_or_else(|_| json!({ "event": "garbled", "line": line }));
            // Nobody listens any more; the pipe is read all the same, so that the node does not wait for room.
            let _ = events.send(event);
        }
    });
    receiver
}

fn keep_log(stderr: impl AsyncRead + Unpin + Send + 'static, log: Arc<Mutex<Vec<u8>>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let mut log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            log.extend_from_slice(&line);
            log.push(b'\n');
            let excess = log.len().saturating_sub(LOG_SHOWN);
            log.drain(..excess);
        }
    });
}

/// A field of an event that is a text.
#[track_caller]
pub(crate) fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_else(|| panic!("no text {field:?} in {event}"))
}
