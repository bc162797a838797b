//! Two systems that talk: over the loopback on a pump in virtual time, and over TCP on tokio.

use std::time::Duration;

use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{
    Actor, ActorError, ActorRef, ActorSystem, Context, Props, Reply, Signal, TerminationReason,
};
use nexus_remote::transport::{LoopbackNetwork, TransportFactory};
use nexus_remote::{RemotingControl, RemotingExtension, RemotingExtensionConfig, WithRemoting};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Counter {
    Add(i64),
    Get(Reply<i64>),
    Join(ActorRef<Counter>),
    WhenGone(ActorRef<Counter>, Reply<String>),
}

impl Message for Counter {
    const MANIFEST: &'static str = "test.counter@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

#[derive(Default)]
struct Tally {
    n: i64,
    waiting: Option<Reply<String>>,
}

impl Actor for Tally {
    type Msg = Counter;
    async fn receive(&mut self, msg: Counter, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match msg {
            Counter::Add(by) => self.n += by,
            Counter::Get(reply) => reply.send(self.n),
            Counter::Join(peer) => peer.tell(Counter::Add(self.n)),
            Counter::WhenGone(who, reply) => {
                cx.watch(&who);
                self.waiting = Some(reply);
            }
        }
        Ok(())
    }
    async fn signal(&mut self, signal: Signal, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Terminated { who, reason } = signal
            && let Some(reply) = self.waiting.take()
        {
            reply.send(format!("{} {reason}", who.path().elements()));
        }
        Ok(())
    }
}

fn loopback(name: &str, pump: &PumpRuntime, network: &LoopbackNetwork) -> ActorSystem {
    let config = RemotingExtensionConfig::default()
        .with_canonical_host("127.0.0.1")
        .with_canonical_port(0)
        .with_transport_scheme("fraktor.loopback")
        .with_transport_factory(TransportFactory::new().with_loopback(network));
    let system =
        ActorSystem::builder(name).with_runtime(pump.clone()).with_remoting(config).build().expect("builds");
    system.register::<Counter>().expect("registers");
    system
}

#[test]
fn remoting_loopback() {
    let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
    let (a, b) = (loopback("a", &pump, &network), loopback("b", &pump, &network));
    let counter = b.spawn("counter", Props::from_fn(Tally::default)).expect("spawns");
    let far: ActorRef<Counter> = a.resolve(&format!("{}/user/counter", b.address())).expect("resolves");
    for _ in 0..1_000 {
        far.tell(Counter::Add(1));
    }
    let limit = Duration::from_secs(5);
    assert_eq!(pump.block_on(limit, far.ask(Counter::Get)), Some(Ok(1_000)));
    // A reference travels and is used.
    let here = a.spawn("here", Props::from_fn(Tally::default)).expect("spawns");
    far.tell(Counter::Join(here.clone()));
    assert_eq!(pump.block_on(limit, far.ask(Counter::Get)), Some(Ok(1_000)));
    pump.run_until_idle();
    assert_eq!(pump.block_on(limit, here.ask(Counter::Get)), Some(Ok(1_000)));
    // A lookup finds the incarnation; a watch tells of its end.
    let system = a.clone();
    let url = format!("{}/user/counter", b.address());
    let found = pump
        .block_on(limit, async move { system.lookup::<Counter>(&url).await })
        .expect("answers")
        .expect("lives");
    assert_eq!(found.path().uid(), counter.path().uid());
    let gone = here.ask(|reply| Counter::WhenGone(found, reply));
    pump.run_until_idle();
    pump.advance(Duration::from_millis(100));
    counter.stop();
    assert_eq!(pump.block_on(limit, gone), Some(Ok(format!("/user/counter {}", TerminationReason::Stopped))));
    let system = a.clone();
    assert_eq!(pump.block_on(Duration::from_secs(20), async move { system.shutdown().await }), Some(Ok(())));
    let system = b.clone();
    assert_eq!(pump.block_on(Duration::from_secs(20), async move { system.shutdown().await }), Some(Ok(())));
}

/// An address that was only named is forgotten like one that was used; a reference keeps it.
#[test]
fn an_address_never_used_is_forgotten() {
    let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
    let a = loopback("a", &pump, &network);
    let remoting = a.extension::<RemotingExtension>().expect("has remoting").handle();
    let named: ActorRef<Counter> =
        a.resolve("fraktor.loopback://x@127.0.0.1:9/user/counter").expect("resolves");
    assert_eq!(remoting.associations(), 1);
    pump.advance(Duration::from_secs(2 * 3_600 + 1));
    assert_eq!(remoting.associations(), 1, "a reference lives");
    drop(named);
    pump.advance(Duration::from_secs(3_600 + 1));
    assert_eq!(remoting.associations(), 0);
}

fn tcp(name: &str) -> ActorSystem {
    let config = RemotingExtensionConfig::default().with_canonical_port(0);
    let system = ActorSystem::builder(name).with_remoting(config).build().expect("builds");
    system.register::<Counter>().expect("registers");
    if std::env::var_os("SHOW").is_some() {
        let who = name.to_string();
        system
            .event_stream()
            .subscribe(move |e: &nexus_remote::event::RemotingLifecycleEvent| {
                eprintln!("{who} {}", e.to_json())
            })
            .forever();
        let who = name.to_string();
        system
            .event_stream()
            .subscribe(move |e: &nexus_actor_core::dead_letter::DeadLetterEvent| eprintln!("{who} {e:?}"))
            .forever();
        let who = name.to_string();
        system
            .event_stream()
            .subscribe(move |e: &nexus_remote::StrangerEvent| eprintln!("{who} {e:?}"))
            .forever();
    }
    system
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_over_tcp() {
    let (a, b) = (tcp("a"), tcp("b"));
    let _counter = b.spawn("counter", Props::from_fn(Tally::default)).expect("spawns");
    let far: ActorRef<Counter> = a.resolve(&format!("{}/user/counter", b.address())).expect("resolves");
    for _ in 0..100_000 {
        far.send(Counter::Add(1)).await.expect("sends");
    }
    assert_eq!(far.ask(Counter::Get).await, Ok(100_000));
    let handle = a.extension::<RemotingExtension>().expect("extension").handle();
    assert_eq!(handle.connections_snapshot().len(), 1);
    a.shutdown().await.expect("ends");
    b.shutdown().await.expect("ends");
    assert_eq!(handle.tasks(), 0);
}
