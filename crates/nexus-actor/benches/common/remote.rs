//! Workloads between two processes over TCP.

use core::time::Duration;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use nexus_actor::prelude::*;
use nexus_actor::provider::{ActorRefProvider, Route};
use nexus_actor::remote::{RemoteActorRefProvider, RemotingExtension, RemotingExtensionConfig};
use nexus_actor::serialization::{DecodeError, Decoder, EncodeError, Encoder, SerializerId};
use serde::{Deserialize, Serialize};

use super::{floor, runtime};

/// The role of the other process.
pub(crate) const ROLE: &str = "--other-node";

/// The payload of a tell: 16 bytes.
pub(crate) type Payload = [u8; 16];

/// Through serde, as most applications have it: the payload and one byte for the variant.
#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "bench.traffic@1")]
pub(crate) enum Traffic {
    Hit(Payload),
    Get(Reply<u64>),
    /// Answers how many hits there were since the last time.
    Take(Reply<u64>),
}

/// The same payload with a codec by hand.
pub(crate) struct Bare(Payload);

impl Message for Bare {
    const MANIFEST: &'static str = "bench.bare@1";

    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.put(&self.0)
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut payload = Payload::default();
        payload.copy_from_slice(decoder.take(16)?);
        Ok(Self(payload))
    }
}

#[derive(Default)]
pub(crate) struct Counter(u64);

impl Actor for Counter {
    type Msg = Traffic;

    async fn receive(&mut self, traffic: Traffic, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match traffic {
            Traffic::Hit(payload) => self.0 += u64::from(core::hint::black_box(payload)[0] & 1),
            Traffic::Get(reply) => reply.send(self.0),
            Traffic::Take(reply) => reply.send(core::mem::take(&mut self.0)),
        }
        Ok(())
    }
}

/// Counts bare messages and tells the sum of each step's.
struct BareCounter {
    counted: u64,
    total: ActorRef<Total>,
}

/// What the bare messages came to.
#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "bench.total@1")]
pub(crate) enum Total {
    Add(u64),
    Take(u64, Reply<u64>),
}

#[derive(Default)]
struct Sum {
    sum: u64,
    waiting: Option<(u64, Reply<u64>)>,
}

impl Actor for Sum {
    type Msg = Total;

    async fn receive(&mut self, total: Total, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match total {
            Total::Add(count) => self.sum += count,
            Total::Take(at, reply) => self.waiting = Some((at, reply)),
        }
        if self.waiting.as_ref().is_some_and(|(at, _)| self.sum >= *at)
            && let Some((_, reply)) = self.waiting.take()
        {
            reply.send(core::mem::take(&mut self.sum));
        }
        Ok(())
    }
}

/// Bare messages are counted in steps of this.
const STEP: u64 = 1000;

impl Actor for BareCounter {
    type Msg = Bare;

    async fn receive(&mut self, bare: Bare, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        self.counted += u64::from(core::hint::black_box(bare).0[0] & 1);
        if self.counted == STEP {
            self.counted = 0;
            self.total.tell(Total::Add(STEP));
        }
        Ok(())
    }
}

/// A node on a free port.
pub(crate) fn node(name: &str, recorder: bool) -> ActorSystem {
    let _inside = runtime().enter();
    let config = RemotingExtensionConfig::default()
        .with_canonical_host("127.0.0.1")
        .with_canonical_port(0)
        .with_flight_recorder_enabled(recorder);
    ActorSystem::builder(name).with_remoting(config).build().expect("a node")
}

/// The actors of the other node.
pub(crate) fn serve(system: &ActorSystem) {
    system.register::<Traffic>().expect("registers");
    system.register::<Bare>().expect("registers");
    system.register::<Total>().expect("registers");
    system.spawn("counter", Props::from_fn(Counter::default)).expect("spawns");
    let total = system.spawn("total", Props::from_fn(Sum::default)).expect("spawns");
    let bare = Props::from_fn(move || BareCounter { counted: 0, total: total.clone() });
    system.spawn("bare", bare).expect("spawns");
}

/// Is the other process: a node and the other ends of the raw programs, until its standard input closes.
pub(crate) fn run(recorder: bool) {
    let system = node("b", recorder);
    serve(&system);
    let listeners = runtime().block_on(async {
        let swap = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        (swap, echo)
    });
    let port = |listener: &tokio::net::TcpListener| listener.local_addr().expect("is bound").port();
    println!("{} {} {}", system.address(), port(&listeners.0), port(&listeners.1));
    runtime().spawn(async move {
        while let Ok((stream, _)) = listeners.0.accept().await {
            tokio::spawn(floor::serve_swap(stream));
        }
    });
    runtime().spawn(async move {
        while let Ok((stream, _)) = listeners.1.accept().await {
            tokio::spawn(floor::serve_echo(stream));
        }
    });
    let _ = std::io::stdin().read(&mut [0]);
}

/// Two processes: this one with a node, and the other.
pub(crate) struct Pair {
    other: Child,
    pub(crate) system: ActorSystem,
    pub(crate) address: String,
    pub(crate) swap_port: u16,
    pub(crate) echo_port: u16,
    pub(crate) counter: ActorRef<Traffic>,
    pub(crate) bare: ActorRef<Bare>,
    total: ActorRef<Total>,
}

impl Pair {
    /// Starts the other process and talks to it once.
    pub(crate) fn start(recorder: bool) -> Self {
        let this = std::env::current_exe().expect("a program has a path");
        let mut other = Command::new(this)
            .arg(ROLE)
            .arg(if recorder { "recorder" } else { "plain" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the other process starts");
        let mut line = String::new();
        BufReader::new(other.stdout.take().expect("is piped"))
            .read_line(&mut line)
            .expect("the other speaks");
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[address, swap, echo] = words.as_slice() else { panic!("the other process said {line:?}") };
        let system = node("a", recorder);
        let at = |name: &str| format!("{address}/user/{name}");
        let counter: ActorRef<Traffic> = system.resolve(&at("counter")).expect("resolves");
        let pair = Self {
            other,
            bare: system.resolve(&at("bare")).expect("resolves"),
            total: system.resolve(&at("total")).expect("resolves"),
            system,
            address: address.to_owned(),
            swap_port: swap.parse().expect("a port"),
            echo_port: echo.parse().expect("a port"),
            counter: counter.clone(),
        };
        runtime().block_on(async { counter.ask(Traffic::Take).await.expect("the other node answers") });
        pair
    }

    /// The way to the other node and the number of its counter there, as references use them.
    pub(crate) fn route(&self) -> (Arc<dyn Route>, u32) {
        let remoting = self.system.extension::<RemotingExtension>().expect("is installed").handle();
        let provider = RemoteActorRefProvider::new(&self.system, remoting);
        let path = self.counter.path();
        let route = provider.route(&self.system, path.address()).expect("is connected");
        let number = route.intern(&path, SerializerId::POSTCARD, Traffic::MANIFEST).expect("has room");
        (route, number)
    }

    pub(crate) fn total(&self) -> ActorRef<Total> {
        self.total.clone()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        drop(self.other.stdin.take());
        let _ = self.other.wait();
    }
}

/// `senders` tasks send `n` messages in all; the time ends with the confirmed count. Also says how many were lost.
pub(crate) async fn tell(counter: ActorRef<Traffic>, senders: u64, n: u64) -> (Duration, u64) {
    let each = n.div_ceil(senders);
    let start = Instant::now();
    let sending: Vec<_> = (0..senders)
        .map(|_| {
            let counter = counter.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    if counter.send(Traffic::Hit([1; 16])).await.is_err() {
                        break;
                    }
                }
            })
        })
        .collect();
    for sender in sending {
        sender.await.expect("sends");
    }
    // A full mailbox or lane may hold this up well beyond the default deadline.
    let counted = loop {
        match counter.ask(Traffic::Take).timeout(Duration::from_secs(60)).await {
            Ok(counted) => break counted,
            // An ask does not wait for room as a send does.
            Err(AskError::Full) => tokio::task::yield_now().await,
            Err(error) => panic!("the counter answers: {error}"),
        }
    };
    (start.elapsed(), (each * senders).saturating_sub(counted))
}

/// As [`tell`] with one sender, for messages with a codec by hand.
pub(crate) async fn tell_bare(bare: ActorRef<Bare>, total: ActorRef<Total>, n: u64) -> Duration {
    let n = n.next_multiple_of(STEP);
    let start = Instant::now();
    let sender = tokio::spawn(async move {
        for _ in 0..n {
            if bare.send(Bare([1; 16])).await.is_err() {
                break;
            }
        }
    });
    sender.await.expect("sends");
    total.ask(|reply| Total::Take(n, reply)).timeout(Duration::from_secs(60)).await.expect("answers");
    start.elapsed()
}

/// The times of `n` asks, one at a time.
pub(crate) async fn asks(counter: ActorRef<Traffic>, n: u64) -> Vec<Duration> {
    let mut took = Vec::with_capacity(n as usize);
    for _ in 0..n {
        let start = Instant::now();
        counter.ask(Traffic::Get).await.expect("answers");
        took.push(start.elapsed());
    }
    took
}

/// `n` asks of which `outstanding` are under way at a time, each by a task of its own.
pub(crate) async fn asks_at_once(counter: ActorRef<Traffic>, outstanding: u64, n: u64) -> Duration {
    let each = n.div_ceil(outstanding);
    let start = Instant::now();
    let asking: Vec<_> = (0..outstanding)
        .map(|_| {
            let counter = counter.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    counter.ask(Traffic::Get).await.expect("answers");
                }
            })
        })
        .collect();
    for asker in asking {
        asker.await.expect("asks");
    }
    start.elapsed()
}

/// Messages of one burst of [`enqueue`]: few enough that no lane is ever full.
const BURST: u64 = 1000;

/// The time of `n` calls that queue a message for the other node, without the rest of their way.
pub(crate) async fn enqueue(
    route: Arc<dyn Route>,
    number: u32,
    counter: ActorRef<Traffic>,
    n: u64,
) -> Duration {
    let mut took = Duration::ZERO;
    // The variant of a hit, then its payload.
    let payload = [0_u8; 17];
    for _ in 0..n.div_ceil(BURST) {
        let start = Instant::now();
        for _ in 0..BURST {
            route.send(number, None, &mut |encoder| encoder.put(&payload)).expect("has room");
        }
        took += start.elapsed();
        counter.ask(Traffic::Take).await.expect("answers");
    }
    took
}

/// The same calls by a typed reference, through serde.
pub(crate) async fn enqueue_typed(counter: ActorRef<Traffic>, n: u64) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..n.div_ceil(BURST) {
        let start = Instant::now();
        for _ in 0..BURST {
            counter.tell(Traffic::Hit([0; 16]));
        }
        took += start.elapsed();
        counter.ask(Traffic::Take).await.expect("answers");
    }
    took
}

/// The floor of [`enqueue`]: a frame into the shared buffer, which another task swaps out.
pub(crate) async fn enqueue_floor(n: u64) -> Duration {
    let swap = Arc::new(floor::Swap::default());
    let writer = {
        let swap = swap.clone();
        tokio::spawn(async move {
            let mut out = Vec::new();
            loop {
                swap.take(&mut out).await;
                core::hint::black_box(&out);
            }
        })
    };
    let mut took = Duration::ZERO;
    for _ in 0..n.div_ceil(BURST) {
        let start = Instant::now();
        for _ in 0..BURST {
            swap.push(&[7; floor::FRAME]);
        }
        took += start.elapsed();
        tokio::task::yield_now().await;
    }
    writer.abort();
    took
}
