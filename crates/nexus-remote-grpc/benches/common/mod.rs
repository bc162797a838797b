//! Two of our nodes, each a process of its own, and what they say to each other.
#![allow(dead_code, reason = "each benchmark uses its part")]

use core::time::Duration;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use nexus_actor_core::pid::Pid;
use nexus_actor_core::serialization::protobuf::{Named, ProtobufCodec, ProtobufForm};
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, ActorRef, ActorSystem, Context, Props, Reply};
use nexus_remote_grpc::{Config, ConfigOption, Remote};
use tokio::runtime::Runtime;

/// The role of the process that receives.
pub(crate) const RECEIVER: &str = "--receiver";
/// The role of the process that sends and measures.
pub(crate) const SENDER: &str = "--sender";

/// Worker threads of each process.
const WORKERS: usize = 2;
/// Questions that are not counted: connections, tables and caches are warm after them.
const WARM_UP: usize = 1_000;

/// The messages of protoactor's benchmark: `google.protobuf.BytesValue`, answered where somebody asks.
pub(crate) enum Load {
    Hit(Vec<u8>),
    Ask(Vec<u8>, Reply<Vec<u8>>),
    /// How many hits there were since the last time.
    Take(Reply<u64>),
}

impl Message for Load {
    const MANIFEST: &'static str = "bench.load@1";
    const PROTOBUF: Option<ProtobufCodec<Self>> = Some(ProtobufCodec {
        forms: &[
            ProtobufForm::tell_of::<Vec<u8>>(),
            ProtobufForm::ask_of::<Vec<u8>>(),
            ProtobufForm::ask_of::<()>(),
        ],
        encode: |message, encoder| match message {
            Self::Hit(payload) => encoder.protobuf(payload),
            Self::Ask(payload, reply) => {
                encoder.reply_protobuf(reply)?;
                encoder.protobuf(payload)
            }
            Self::Take(reply) => {
                encoder.reply_protobuf(reply)?;
                encoder.protobuf(&())
            }
        },
        decode: |named: &Named<'_>| {
            if named.is::<Vec<u8>>() {
                let payload = named.protobuf()?;
                let asks = named.has_sender;
                return Ok(if asks { Self::Ask(payload, Reply::protobuf()) } else { Self::Hit(payload) });
            }
            if named.is::<()>() {
                return Ok(Self::Take(Reply::protobuf()));
            }
            Err(named.unknown::<Self>())
        },
    });

    fn encode(&self, _: &mut Encoder<'_>) -> Result<(), EncodeError> {
        Err(EncodeError::failed("only on the protobuf wire"))
    }

    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError::failed("only on the protobuf wire"))
    }
}

#[derive(Default)]
struct Counter(u64);

impl Actor for Counter {
    type Msg = Load;

    async fn receive(&mut self, message: Load, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match message {
            Load::Hit(payload) => self.0 += u64::from(!core::hint::black_box(payload).is_empty()),
            Load::Ask(payload, reply) => reply.send(payload),
            Load::Take(reply) => reply.send(core::mem::take(&mut self.0)),
        }
        Ok(())
    }
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .expect("the operating system gives threads")
    })
}

/// Runs `work` on a worker thread and waits for it from outside.
pub(crate) fn on_worker<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    runtime().block_on(async { tokio::spawn(work).await.expect("no workload panics") })
}

/// The largest resident set of this process so far, in bytes, where `/proc` says so. What `getrusage` tells begins with
/// that of the process that started this one.
pub(crate) fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// A node on a free port.
pub(crate) struct Node {
    system: ActorSystem,
    pub(crate) remote: Remote,
}

impl Node {
    pub(crate) fn start(name: &str, options: impl IntoIterator<Item = ConfigOption>) -> Self {
        let config = Config::new("127.0.0.1", 0).with(options);
        runtime().block_on(async {
            let system = ActorSystem::builder(name).build().expect("a system");
            system.register::<Load>().expect("registered once");
            let remote = Remote::start(&system, config).await.expect("a node");
            Self { system, remote }
        })
    }
}

/// Is the process that receives, until its standard input ends. A line asks for its peak memory.
pub(crate) fn receive() {
    let node = Node::start("receiver", []);
    node.system.spawn("counter", Props::from_fn(Counter::default)).expect("a free name");
    println!("{}", node.remote.address());
    let mut line = [0];
    while std::io::stdin().read(&mut line).is_ok_and(|length| length > 0) {
        println!("{}", peak_memory());
    }
}

/// A process of its own that receives; it ends with this one.
pub(crate) struct Receiver {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
    pub(crate) address: String,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let this = std::env::current_exe().expect("a program has a path");
        let mut process = Command::new(this)
            .arg(RECEIVER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the other process starts");
        let said = BufReader::new(process.stdout.take().expect("is piped"));
        let mut receiver = Self { process, said, address: String::new() };
        receiver.address = receiver.line();
        receiver
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("the other process speaks");
        line.trim().to_owned()
    }

    /// Its largest resident set so far, in bytes.
    pub(crate) fn peak_memory(&mut self) -> u64 {
        self.process.stdin.as_mut().expect("is piped").write_all(b"\n").expect("the other process lives");
        self.line().parse().expect("a number of bytes")
    }

    /// Its counter, for a sender of `node`.
    pub(crate) fn counter(&self, node: &Node) -> ActorRef<Load> {
        node.remote.resolve(&Pid::new(&*self.address, "counter")).expect("a pid")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends `messages` of `payload` bytes and returns how long it took until the receiver had counted the last one, and how
/// many it counted.
pub(crate) async fn send(counter: ActorRef<Load>, messages: usize, payload: usize) -> (Duration, u64) {
    let start = Instant::now();
    for _ in 0..messages {
        counter.send(Load::Hit(vec![1; payload])).await.expect("the receiver lives");
    }
    let counted = loop {
        match counter.ask(Load::Take).await {
            Ok(counted) => break counted,
            // An ask does not wait for room as a send does.
            Err(nexus_actor_core::AskError::Full) => tokio::task::yield_now().await,
            Err(error) => panic!("the counter answers: {error}"),
        }
    };
    (start.elapsed(), counted)
}

/// Asks `asks` times, one after the other, and returns how long each took, shortest first.
pub(crate) async fn ask(counter: ActorRef<Load>, asks: usize, payload: usize) -> Vec<Duration> {
    let mut took = Vec::with_capacity(asks);
    for turn in 0..WARM_UP + asks {
        let start = Instant::now();
        let payload = vec![1; payload];
        counter.ask(|reply| Load::Ask(payload, reply)).await.expect("the receiver lives");
        if turn >= WARM_UP {
            took.push(start.elapsed());
        }
    }
    took.sort_unstable();
    took
}
