//! A node of ours and a node in Go, on the wire of protoactor-go: each asks the other, ours spawns an actor there and
//! watches it. The node in Go is `interop/protoactor-go`, built on the way; where there is no Go it says so and is done.
//!
//! ```text
//! cargo run -p nexus-actor --features grpc --example protoactor_go
//! ```

use core::error::Error;
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nexus_actor::grpc::{Config, Remote};
use nexus_actor::pid::Pid;
use nexus_actor::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

/// A text comes back: `google.protobuf.StringValue` both ways, as the actor `echo` of the Go node has it.
#[derive(Message)]
#[message(protobuf)]
struct Echo(String, Reply<String>);

struct Echoer;

impl Actor for Echoer {
    type Msg = Echo;

    async fn receive(
        &mut self,
        Echo(text, reply): Echo,
        cx: &mut Context<'_, Self>,
    ) -> Result<(), ActorError> {
        println!("rust: {text:?} from {:?}", cx.peer().map(ToString::to_string));
        reply.send(text);
        Ok(())
    }
}

/// Answers when it watches an actor, and tells when that actor has ended.
struct Watcher(mpsc::UnboundedSender<TerminationReason>);

impl Actor for Watcher {
    type Msg = (ActorRef<Echo>, Reply<()>);

    async fn receive(
        &mut self,
        (who, watched): Self::Msg,
        cx: &mut Context<'_, Self>,
    ) -> Result<(), ActorError> {
        cx.watch(&who);
        watched.send(());
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Terminated { reason, .. } = signal {
            // The example may be over.
            let _ = self.0.send(reason);
        }
        Ok(())
    }
}

/// The node in Go, which reads commands and prints events, one JSON object a line. It ends with its standard input.
struct GoNode {
    child: Child,
    commands: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
}

impl GoNode {
    fn start(program: &Path) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(program)
            .arg("node")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let commands = child.stdin.take().ok_or("it is piped")?;
        let events = BufReader::new(child.stdout.take().ok_or("it is piped")?).lines();
        Ok(Self { child, commands, events })
    }

    async fn event(&mut self, wanted: &[&str]) -> Result<Value, Box<dyn Error>> {
        loop {
            let line = self.events.next_line().await?.ok_or("the Go node has ended")?;
            let event: Value = serde_json::from_str(&line)?;
            if event["event"].as_str().is_some_and(|name| wanted.contains(&name)) {
                return Ok(event);
            }
        }
    }

    /// Carries out a command and returns what came of it.
    async fn run(&mut self, command: Value) -> Result<Value, Box<dyn Error>> {
        self.commands.write_all(format!("{command}\n").as_bytes()).await?;
        let answer = self.event(&["done", "failed"]).await?;
        if answer["event"] == "done" { Ok(answer) } else { Err(format!("{command}: {answer}").into()) }
    }
}

/// Builds the node in Go. `Ok(Err(..))` says what is missing here.
async fn build() -> Result<Result<PathBuf, String>, Box<dyn Error>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/protoactor-go");
    // The Go that is here, not another one fetched for the purpose.
    let go = || {
        let mut go = Command::new("go");
        go.env("GOTOOLCHAIN", "local").current_dir(&source).stdin(Stdio::null());
        go
    };
    match go().arg("version").output().await {
        Err(error) => return Ok(Err(format!("Go is not installed ({error})"))),
        Ok(version) => println!("{}", String::from_utf8_lossy(&version.stdout).trim()),
    }
    let modules = go().args(["mod", "download"]).output().await?;
    if !modules.status.success() {
        let why = String::from_utf8_lossy(&modules.stderr).trim().replace('\n', "; ");
        return Ok(Err(format!("its Go modules could not be fetched ({why})")));
    }
    let program = std::env::current_exe()?.with_file_name("protoactor-go-node");
    let build = go().args(["build", "-buildvcs=false", "-o"]).arg(&program).arg(".").output().await?;
    if !build.status.success() {
        return Err(format!("the Go node: {}", String::from_utf8_lossy(&build.stderr)).into());
    }
    Ok(Ok(program))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let program = match build().await? {
        Ok(program) => program,
        Err(missing) => {
            println!("skipped: protoactor_go: {missing}");
            return Ok(());
        }
    };
    let mut go = GoNode::start(&program)?;
    let there = go.event(&["listening"]).await?["address"].as_str().ok_or("an address")?.to_owned();

    let system = ActorSystem::builder("rust").build()?;
    system.register::<Echo>()?;
    system.spawn("echo", Props::from_fn(|| Echoer))?;
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await?;
    println!("go listens on {there}, rust on {}", remote.address());

    let echo: ActorRef<Echo> = remote.resolve(&Pid::new(there.as_str(), "echo"))?;
    let text = echo.ask(|reply| Echo("from rust to go".into(), reply)).await?;
    println!("rust: go answers {text:?}");

    let question = json!({
        "do": "ask", "id": 1, "to": format!("{}/echo", remote.address()), "timeout_ms": 5_000,
        "type": "google.protobuf.StringValue", "value": "from go to rust",
    });
    let answer = go.run(question).await?;
    println!("go: rust answers {}", answer["value"]);

    // The pid that comes back is the actor's; its name alone is not.
    let pid = remote.spawn_remote_named(&there, "bob", "echo").await?;
    println!("rust: go spawned {pid}");
    let bob: ActorRef<Echo> = remote.resolve(&pid)?;
    let (ended, mut ends) = mpsc::unbounded_channel();
    let watcher = system.spawn("watcher", Props::from_fn(move || Watcher(ended.clone())))?;
    // Two senders have no order between them: only after its answer does the watch go ahead of the question below,
    // and the answer to that shows that bob has it.
    watcher.ask(|watched| (bob.clone(), watched)).await?;
    let same = bob.ask(|reply| Echo("are you there".into(), reply)).await?;
    go.run(json!({ "do": "stop", "id": 2, "to": pid.to_string() })).await?;
    let reason = tokio::time::timeout(Duration::from_secs(10), ends.recv()).await?;
    println!("rust: {pid} has ended: {reason:?}");

    system.shutdown().await?;
    drop(go.commands);
    go.child.wait().await?;
    let as_expected = text == "from rust to go"
        && answer["value"] == "from go to rust"
        && same == "are you there"
        && reason == Some(TerminationReason::Stopped);
    if as_expected { Ok(()) } else { Err("go and rust do not agree".into()) }
}
