//! Corners of the endpoint layer where two things happen at once or something is left behind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nexus_actor_core::runtime::{BoxFuture, PumpRuntime, Runtime};
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::system::ActorFailed;
use nexus_actor_core::{
    Actor, ActorError, ActorRef, ActorSystem, AskError, Context, DeadLetterReason, Directive, Instant, Props,
    Reply, Signal, SupervisorStrategy,
};
use nexus_remote::backpressure::BackpressureHook;
use nexus_remote::event::RemotingLifecycleEvent;
use nexus_remote::transport::{
    LoopbackNetwork, LoopbackTransport, RemoteTransport, TransportBind, TransportChannel, TransportEndpoint,
    TransportError, TransportFactory, TransportHandle,
};
use nexus_remote::wire::QuarantineReason;
use nexus_remote::{
    RemotingControl, RemotingControlHandle, RemotingError, RemotingExtension, RemotingExtensionConfig,
    WithRemoting,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Counter {
    Add(i64),
    Get(Reply<i64>),
    Keep(Reply<i64>),
    Fill(Vec<u8>),
    Bomb,
}

impl Message for Counter {
    const MANIFEST: &'static str = "review.counter@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match decoder.postcard()? {
            Self::Bomb => panic!("a decoder with a bug"),
            message => Ok(message),
        }
    }
}

#[derive(Default)]
struct Tally {
    n: i64,
    kept: Vec<Reply<i64>>,
}

impl Actor for Tally {
    type Msg = Counter;
    async fn receive(&mut self, msg: Counter, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match msg {
            Counter::Add(by) => self.n += by,
            Counter::Get(reply) => reply.send(self.n),
            Counter::Keep(reply) => self.kept.push(reply),
            Counter::Fill(_) | Counter::Bomb => {}
        }
        Ok(())
    }
}

const LIMIT: Duration = Duration::from_secs(30);

fn config(network: &LoopbackNetwork) -> RemotingExtensionConfig {
    RemotingExtensionConfig::default()
        .with_canonical_host("127.0.0.1")
        .with_canonical_port(0)
        .with_transport_scheme("fraktor.loopback")
        .with_transport_factory(TransportFactory::new().with_loopback(network))
}

fn build(name: &str, pump: &PumpRuntime, config: RemotingExtensionConfig) -> ActorSystem {
    let system =
        ActorSystem::builder(name).with_runtime(pump.clone()).with_remoting(config).build().expect("builds");
    system.register::<Counter>().expect("registers");
    system
}

fn handle(system: &ActorSystem) -> RemotingControlHandle {
    system.extension::<RemotingExtension>().expect("extension").handle()
}

fn authority(system: &ActorSystem) -> String {
    system.address().authority.expect("listens").to_string()
}

fn counter_at(from: &ActorSystem, at: &ActorSystem) -> ActorRef<Counter> {
    from.resolve(&format!("{}/user/counter", at.address())).expect("resolves")
}

/// Two systems that talk, and a counter on the second.
fn pair(pump: &PumpRuntime) -> (ActorSystem, ActorSystem, ActorRef<Counter>) {
    let network = LoopbackNetwork::new();
    let (a, b) = (build("a", pump, config(&network)), build("b", pump, config(&network)));
    b.spawn("counter", Props::from_fn(Tally::default)).expect("spawns");
    let far = counter_at(&a, &b);
    assert_eq!(pump.block_on(LIMIT, far.ask(Counter::Get)), Some(Ok(0)));
    (a, b, far)
}

fn shut_down(pump: &PumpRuntime, system: &ActorSystem) {
    let system = system.clone();
    assert_eq!(pump.block_on(LIMIT, async move { system.shutdown().await }), Some(Ok(())));
}

/// An ask whose deadline passed leaves nothing at the association, though the peer never answers.
#[test]
fn timed_out_ask_frees_its_place() {
    let pump = PumpRuntime::new();
    let (a, b, far) = pair(&pump);
    let ask = far.ask(Counter::Keep).timeout(Duration::from_millis(200));
    assert!(matches!(pump.block_on(LIMIT, ask), Some(Err(AskError::Timeout { .. }))));
    assert_eq!(handle(&a).statistics(&authority(&b)).expect("known").asks, 0);
}

/// A system that has received messages over a wire is freed once it is shut down and dropped.
#[test]
fn nothing_keeps_a_system_alive() {
    let pump = PumpRuntime::new();
    let (a, b, far) = pair(&pump);
    drop(far);
    shut_down(&pump, &a);
    shut_down(&pump, &b);
    pump.run_until_idle();
    let (weak_a, weak_b) = (a.downgrade(), b.downgrade());
    drop((a, b));
    pump.advance(Duration::from_secs(60));
    pump.run_until_idle();
    assert!(weak_b.upgrade().is_none(), "the node that received");
    assert!(weak_a.upgrade().is_none(), "the node that sent");
}

/// A shutdown goes on when nobody waits for it any more, and whoever waits later sees its end.
#[test]
fn shutdown_outlives_its_future() {
    let pump = PumpRuntime::new();
    let (a, _b, far) = pair(&pump);
    let remoting = handle(&a);
    far.tell(Counter::Add(1));
    {
        let mut waiting = Box::pin(remoting.shutdown_and_wait());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
    }
    let again = remoting.clone();
    assert_eq!(pump.block_on(LIMIT, async move { again.shutdown_and_wait().await }), Some(()));
    assert_eq!((remoting.tasks(), remoting.associations()), (0, 0));
    assert!(matches!(remoting.start(), Err(RemotingError::Shutdown)));
}

/// A start that failed may be repeated at once; nothing of the first is in its way.
#[test]
fn start_after_a_failed_start() {
    let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
    let holder = build("holder", &pump, config(&network));
    let port = holder.address().authority.expect("listens").port();
    let late = build("late", &pump, config(&network).with_canonical_port(port).with_auto_start(false));
    let remoting = handle(&late);
    assert!(matches!(remoting.shutdown(), Err(RemotingError::NotStarted)));
    for _ in 0..2 {
        assert!(matches!(remoting.start(), Err(RemotingError::TransportUnavailable(_))));
    }
    pump.run_until_idle();
    shut_down(&pump, &holder);
    // A subscriber may use the control: nothing is published under its lock.
    let (seen, within) = (Arc::new(AtomicUsize::new(0)), remoting.clone());
    let count = seen.clone();
    let _listening = late.event_stream().subscribe(move |event: &RemotingLifecycleEvent| {
        if matches!(event, RemotingLifecycleEvent::ListenStarted { .. }) {
            count.fetch_add(1, Ordering::Relaxed);
            within.start().expect("has been started");
        }
    });
    remoting.start().expect("the port is free");
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    pump.run_until_idle();
    assert_eq!(remoting.tasks(), 1);
}

/// Uses the control of its node while it is made to listen.
struct Curious {
    inner: LoopbackTransport,
    control: Arc<OnceLock<RemotingControlHandle>>,
    ends: bool,
}

impl RemoteTransport for Curious {
    fn scheme(&self) -> &str {
        LoopbackTransport::SCHEME
    }
    fn spawn_listener(&self, bind: &TransportBind) -> Result<TransportHandle, TransportError> {
        let control = self.control.get().expect("made before the start");
        control.start().expect("is under way");
        if self.ends {
            control.shutdown().expect("has begun to start");
        }
        self.inner.spawn_listener(bind)
    }
    fn open_channel(&self, remote: &TransportEndpoint) -> Result<TransportChannel, TransportError> {
        self.inner.open_channel(remote)
    }
    fn install_backpressure_hook(&self, hook: Box<dyn BackpressureHook + Send + Sync>) {
        self.inner.install_backpressure_hook(hook);
    }
}

/// A transport is the application's: no lock is held while it begins to listen, and a shutdown from there holds.
#[test]
fn transport_may_use_the_control_while_it_binds() {
    for ends in [false, true] {
        let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
        let control = Arc::<OnceLock<RemotingControlHandle>>::default();
        let (to, of) = (control.clone(), network.clone());
        let factory = TransportFactory::new().with_transport(LoopbackTransport::SCHEME, move || {
            Ok(Arc::new(Curious { inner: LoopbackTransport::new(&of), control: to.clone(), ends }))
        });
        let system =
            build("a", &pump, config(&network).with_auto_start(false).with_transport_factory(factory));
        let remoting = handle(&system);
        assert!(control.set(remoting.clone()).is_ok());
        let (tell, told) = channel();
        let starter = remoting.clone();
        std::thread::spawn(move || tell.send(starter.start()));
        let started = told.recv_timeout(LIMIT).expect("not kept waiting by its own call");
        pump.run_until_idle();
        if ends {
            assert!(matches!(started, Err(RemotingError::Shutdown)), "{started:?}");
            assert_eq!(remoting.tasks(), 0);
        } else {
            assert!(started.is_ok(), "{started:?}");
            assert_eq!(remoting.tasks(), 1);
            assert!(remoting.start().is_ok());
        }
        shut_down(&pump, &system);
    }
}

/// A suspension that the machine did not take on, or gave up for a quarantine, drops no message afterwards.
#[test]
fn suspension_ends_with_a_quarantine() {
    for suspend_first in [true, false] {
        let pump = PumpRuntime::new();
        let (a, b, far) = pair(&pump);
        b.register::<Counter>().ok();
        let (remoting, peer) = (handle(&b), authority(&a));
        if suspend_first {
            remoting.suspend(&peer).expect("known");
        }
        remoting.quarantine(&peer, QuarantineReason::ByOperator);
        if !suspend_first {
            remoting.suspend(&peer).expect("known");
        }
        pump.run_until_idle();
        remoting.recover(&peer).expect("known");
        pump.run_until_idle();
        pump.advance(Duration::from_secs(40));
        pump.run_until_idle();
        far.tell(Counter::Add(1));
        let ask = far.ask(Counter::Get).timeout(Duration::from_secs(5));
        assert_eq!(pump.block_on(LIMIT, ask), Some(Ok(1)), "suspend first: {suspend_first}");
        assert_eq!(b.dead_letters().count(DeadLetterReason::Suspended), 0);
    }
}

/// A connection whose peer reads nothing ends soon after the association has given it up.
#[test]
fn stuck_connection_is_closed() {
    let network = LoopbackNetwork::with_pipe_bytes_max(4 * 1024);
    let (pump, other) = (PumpRuntime::new(), PumpRuntime::new());
    let (a, b) = (build("a", &pump, config(&network)), build("b", &other, config(&network)));
    b.spawn("counter", Props::from_fn(Tally::default)).expect("spawns");
    let far = counter_at(&a, &b);
    far.tell(Counter::Add(1));
    for _ in 0..20 {
        pump.run_until_idle();
        other.run_until_idle();
    }
    assert_eq!(handle(&a).tasks(), 2);
    // From here the other node stands still.
    for _ in 0..100 {
        far.tell(Counter::Fill(vec![0; 1_000]));
    }
    pump.run_until_idle();
    handle(&a).quarantine(&authority(&b), QuarantineReason::ByOperator);
    pump.run_until_idle();
    pump.advance(Duration::from_secs(2));
    pump.run_until_idle();
    assert_eq!(handle(&a).tasks(), 1, "only the listener runs");
}

/// A decoder that panics costs its message: the next one arrives.
#[test]
fn panicking_decoder_costs_one_message() {
    let pump = PumpRuntime::new();
    let (_a, b, far) = pair(&pump);
    far.tell(Counter::Add(1));
    far.tell(Counter::Bomb);
    far.tell(Counter::Add(1));
    assert_eq!(pump.block_on(LIMIT, far.ask(Counter::Get)), Some(Ok(2)));
    assert_eq!(b.dead_letters().count(DeadLetterReason::Decode), 1);
}

fn tcp(runtime: &tokio::runtime::Runtime, name: &str, port: u16) -> ActorSystem {
    let _entered = runtime.enter();
    let config =
        RemotingExtensionConfig::default().with_canonical_host("127.0.0.1").with_canonical_port(port);
    let system = ActorSystem::builder(name).with_remoting(config).build().expect("builds");
    system.register::<Counter>().expect("registers");
    system.spawn("counter", Props::from_fn(Tally::default)).expect("spawns");
    system
}

/// A peer that crashed and came back is heard: the end of its old session does not reach into the new one.
#[test]
fn next_incarnation_is_heard() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (here, there) = (runtime().expect("runtime"), runtime().expect("runtime"));
    let (a, b) = (tcp(&here, "a", 0), tcp(&there, "b", 0));
    let port = b.address().authority.expect("listens").port();
    assert_eq!(here.block_on(counter_at(&a, &b).ask(Counter::Get)), Ok(0));
    assert_eq!(there.block_on(counter_at(&b, &a).ask(Counter::Get)), Ok(0));
    let far = counter_at(&a, &b);
    there.shutdown_timeout(Duration::from_secs(5));
    drop(b);
    let again = runtime().expect("runtime");
    let b = tcp(&again, "b", port);
    let near = counter_at(&b, &a);
    for n in 1..=20 {
        near.tell(Counter::Add(1));
        let ask = near.ask(Counter::Get).timeout(Duration::from_secs(10));
        assert_eq!(again.block_on(ask), Ok(n));
    }
    assert_eq!(here.block_on(far.ask(Counter::Get)), Ok(0));
}

/// A runtime that panics at so many of the next spawns.
#[derive(Clone)]
struct Fragile(PumpRuntime, Arc<AtomicUsize>);

impl Runtime for Fragile {
    fn spawn(&self, future: BoxFuture) {
        let left = &self.1;
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            panic!("out of tasks");
        }
        self.0.spawn(future);
    }

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        self.0.sleep_until(at)
    }
}

/// Watches whom it is given, and counts those that have terminated.
struct Mourner(Vec<ActorRef<Counter>>, Arc<AtomicUsize>);

impl Actor for Mourner {
    type Msg = ();
    async fn receive(&mut self, (): (), cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        self.0.iter().for_each(|who| cx.watch(who));
        Ok(())
    }
    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if matches!(signal, Signal::Terminated { .. }) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// The watcher daemon fails while it starts a watch, and is restarted, or stopped where that is how the system
/// supervises: no watch is forgotten, neither of those before nor the one it was at, in either direction.
#[test]
fn failing_watcher_daemon_forgets_no_watch() {
    const PEERS: usize = 5;
    for restarted in [true, false] {
        let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
        let broken = Arc::new(AtomicUsize::new(0));
        let system = ActorSystem::builder("a")
            .with_runtime(Fragile(pump.clone(), broken.clone()))
            .with_supervision(
                SupervisorStrategy::one_for_one().with_budget(u32::from(restarted), Duration::from_secs(60)),
            )
            .with_remoting(config(&network))
            .build()
            .expect("builds");
        system.register::<Counter>().expect("registers");
        let local = system.spawn("counter", Props::from_fn(Tally::default)).expect("spawns");
        let peers: Vec<_> = (0..PEERS).map(|n| build(&format!("p{n}"), &pump, config(&network))).collect();
        let far: Vec<_> = peers
            .iter()
            .map(|peer| {
                peer.spawn("counter", Props::from_fn(Tally::default)).expect("spawns");
                counter_at(&system, peer)
            })
            .collect();
        let (mine, theirs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // A watch in each direction, with the first peer.
        let (near, count) = (counter_at(&peers[0], &system), theirs.clone());
        let mourner = Props::from_fn(move || Mourner(vec![near.clone()], count.clone()));
        peers[0].spawn("mourner", mourner).expect("spawns").tell(());
        let (first, count) = (far[0].clone(), mine.clone());
        let mourner = Props::from_fn(move || Mourner(vec![first.clone()], count.clone()));
        system.spawn("first", mourner).expect("spawns").tell(());
        pump.run_until_idle();
        // The others are dialled by the daemon.
        let (others, count) = (far[1..].to_vec(), mine.clone());
        let mourner = Props::from_fn(move || Mourner(others.clone(), count.clone()));
        let others = system.spawn("others", mourner).expect("spawns");
        let failed = Arc::new(AtomicUsize::new(0));
        let fail = failed.clone();
        let _failures = system.event_stream().subscribe(move |event: &ActorFailed| {
            assert_eq!(event.path.elements(), "/system/remote_watcher_daemon");
            assert_eq!(event.directive == Directive::Restart, restarted);
            fail.fetch_add(1, Ordering::SeqCst);
        });
        broken.store(1, Ordering::SeqCst);
        others.tell(());
        pump.run_until_idle();
        for _ in 0..60 {
            pump.advance(Duration::from_secs(1));
            pump.run_until_idle();
        }
        assert_eq!(failed.load(Ordering::SeqCst), 1);
        assert_eq!((mine.load(Ordering::SeqCst), theirs.load(Ordering::SeqCst)), (0, 0));
        for peer in &peers {
            peer.find("/user/counter").expect("lives").stop();
        }
        local.stop();
        pump.run_until_idle();
        pump.advance(Duration::from_secs(2));
        pump.run_until_idle();
        assert_eq!((mine.load(Ordering::SeqCst), theirs.load(Ordering::SeqCst)), (PEERS, 1));
    }
}
