//! A node in a process of its own.

use core::time::Duration;
use std::process::Stdio;

use anyhow::{Context as _, anyhow, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// How long a process may take to say that it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A process of this program that ends with us: it is killed when this is dropped, and ends by itself when its
/// standard input does, should we be killed.
pub(crate) struct OwnChild {
    child: Child,
    stdin: Option<ChildStdin>,
    line: String,
}

impl OwnChild {
    /// Starts this program with `arguments` and waits for the first line it prints.
    pub(crate) async fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program is not found")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .context("no second process")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| anyhow!("the second process has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        match tokio::time::timeout(START_TIMEOUT, lines.next_line()).await {
            Ok(Ok(Some(line))) => Ok(Self { child, stdin, line }),
            Ok(Ok(None)) => bail!("the second process ended: {}", child.wait().await?),
            Ok(Err(error)) => Err(error).context("the second process cannot be read"),
            Err(_) => bail!("the second process printed nothing within {START_TIMEOUT:?}"),
        }
    }

    /// The first line it printed.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`, and waits until the process is gone.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("the process cannot be killed")
    }

    /// Ends its standard input, at which it shuts down, and waits for a good end.
    pub(crate) async fn end(mut self, timeout: Duration) -> anyhow::Result<()> {
        drop(self.stdin.take());
        let status = tokio::time::timeout(timeout, self.child.wait())
            .await
            .map_err(|_| anyhow!("the process did not end within {timeout:?}"))??;
        ensure!(status.success(), "the process ended with {status}");
        Ok(())
    }
}

/// A node of its own process, started with `nexus-cli node`.
pub(crate) struct NodeProcess {
    process: OwnChild,
    address: String,
}

impl NodeProcess {
    /// Starts a node; returns when it accepts connections.
    pub(crate) async fn start(system: &str, bind: &str) -> anyhow::Result<Self> {
        let arguments = ["node", "--system", system, "--bind", bind, "--until-stdin-ends"];
        let process = OwnChild::start(&arguments).await?;
        let address = process
            .line()
            .strip_prefix("listening ")
            .ok_or_else(|| anyhow!("the node printed {:?} instead of its address", process.line()))?
            .to_string();
        Ok(Self { process, address })
    }

    /// `fraktor.tcp://system@host:port`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `host:port`
    pub(crate) fn authority(&self) -> &str {
        self.address.split_once('@').map_or("", |(_, authority)| authority)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id().unwrap_or(0)
    }

    /// `kill -9`, and waits until the process is gone.
    pub(crate) async fn kill(self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Has the node shut down in order.
    pub(crate) async fn end(self, timeout: Duration) -> anyhow::Result<()> {
        self.process.end(timeout).await
    }
}
