//! Which actors remoting consists of, how a path becomes a reference, and what is rebuilt when it fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use nexus_actor_core::path::Authority;
use nexus_actor_core::remote_authority::AuthorityState;
use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::system::ResolveError;
use nexus_actor_core::{ActorSystem, DeadLetterReason, TerminationReason};
use nexus_remote::backpressure::BackpressureHook;
use nexus_remote::event::RemotingLifecycleEvent as Event;
use nexus_remote::transport::{
    Listener, LoopbackTransport, RemoteTransport, TransportBind, TransportChannel, TransportEndpoint,
    TransportError, TransportFactory, TransportHandle,
};
use nexus_remote::wire::{ControlFrame, NodeAddress, PREAMBLE_BYTES, Preamble, QuarantineReason, RawFrame};
use nexus_remote::{
    RemoteActorRefProvider, RemotingControl, RemotingError, RemotingExtension, RemotingExtensionConfig,
    WithRemoting,
};

use crate::kit::*;

const ROLES: [&str; 3] =
    ["/system/remoting", "/system/remoting/endpoint_manager", "/system/remote_watcher_daemon"];

fn living(system: &ActorSystem) -> Vec<&'static str> {
    ROLES.into_iter().filter(|path| system.find(path).is_some()).collect()
}

/// Covers: ROLE-40, ROLE-45, ROLE-46, ROLE-55, ROLE-60, HS-47, HS-48, RT-32
#[test]
fn the_roles_are_actors_of_the_system_from_the_start_to_the_end() {
    let (sim, [a, b]) = nodes(45, ["a", "b"]);
    sim.settle();
    assert_eq!(living(a.system()), ROLES, "it has started by itself");
    parrot(a.system(), "parrot");
    let ask = far(&b, &a, "/user/parrot").ask(|reply| Talk::Echo(1, reply));
    assert_eq!(sim.wait(s(2), ask), Some(Ok(1)), "and it listens");
    let late = know(sim.node_with("late", |c| c.with_auto_start(false)));
    sim.settle();
    assert_eq!(living(late.system()), [""; 0]);
    late.remoting().start().unwrap();
    sim.settle();
    assert_eq!(living(late.system()), ROLES);
    let names: Vec<_> = late.lifecycle().iter().map(|(_, event)| event.name()).collect();
    assert_eq!(names, ["listen_started"]);
    for node in [&a, &late] {
        let system = node.system().clone();
        assert_eq!(sim.wait(s(20), async move { system.shutdown().await }), Some(Ok(())));
        assert_eq!(living(node.system()), [""; 0]);
    }
}

/// Covers: ROLE-42, HS-44, HS-45, HS-46, API-57, API-66
#[test]
fn the_provider_resolves_paths_of_every_node_and_begins_what_they_need() {
    let (sim, [a, b]) = nodes(44, ["a", "b"]);
    let (here, ear) = (probe(a.system(), "here"), probe(b.system(), "ear"));
    let remoting = a.system().extension::<RemotingExtension>().unwrap().handle();
    let provider = RemoteActorRefProvider::new(a.system(), remoting);
    // Own paths, however they are written, never touch the network.
    for own in ["/user/here".to_string(), a.url("/user/here")] {
        provider.resolve_actor_ref::<Talk>(&own).unwrap().tell(Talk::Say(1));
        assert_eq!(provider.pid(&own).unwrap().to_string(), format!("{}/here", a.authority()));
    }
    let lazy = a.system().resolve::<Talk>(&b.url("/user/ear")).unwrap();
    assert_eq!(provider.pid(&b.url("/user/ear")).unwrap().to_string(), format!("{}/ear", b.authority()));
    sim.run(s(1));
    assert_eq!(numbers(&here), [1, 1]);
    assert_eq!(a.link().counts().dialled, 0, "a plain resolve connects when something is sent");
    assert_eq!(provider.authority_state(b.authority()).unwrap(), AuthorityState::Unresolved);
    // Another node's is connected to at once.
    let c = know(sim.node("c"));
    let _unused = provider.resolve_actor_ref::<Talk>(&c.url("/user/ear")).unwrap();
    assert!(sim.until(s(1), || a.is_connected_to(&c)));
    // What is sent meanwhile waits.
    let eager = provider.resolve_actor_ref::<Talk>(&b.url("/user/ear")).unwrap();
    assert_eq!(eager, lazy);
    let quick = provider.resolve_actor_ref::<Talk>(&b.url("/user/nobody")).unwrap();
    eager.tell(Talk::Say(2));
    here.watch(&quick);
    let waiting = |at: &nexus_testkit::SimNode| {
        let all = a.remoting().connections_snapshot();
        let found = all.iter().find(|snapshot| snapshot.authority == at.authority().to_string());
        found.map(|snapshot| snapshot.deferred_count)
    };
    assert_eq!((waiting(&b), waiting(&c)), (Some(1), Some(0)));
    assert!(sim.until(s(1), || a.is_connected_to(&b)));
    sim.run(s(1));
    assert_eq!(numbers(&ear), [2]);
    assert!(matches!(
        provider.authority_state(b.authority()).unwrap(),
        AuthorityState::Connected { uid } if a.lifecycle().last().unwrap().1.uid() == Some(uid)
    ));
    let told = here.take_terminations();
    assert_eq!(told.len(), 1, "through the daemon");
    assert_eq!(told[0].1, TerminationReason::NeverExisted);
    assert!(matches!(provider.resolve_actor_ref::<Talk>("user"), Err(ResolveError::InvalidPath { .. })));
    assert!(matches!(provider.pid("user"), Err(ResolveError::InvalidPath { .. })));
    // A system that is built with the provider must have the extension.
    let built = ActorSystem::builder("c")
        .with_runtime(PumpRuntime::new())
        .with_actor_ref_provider(RemoteActorRefProvider::std())
        .build();
    let error = built.map(|_| ()).unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    assert!(text.contains("RemotingExtension"), "{text}");
}

/// The error of remoting behind an error of the builder.
fn remoting_error(error: &nexus_actor_core::BuildError) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<RemotingError>() {
            return format!("{error:?}");
        }
        cause = error.source();
    }
    panic!("{error}: not an error of remoting");
}

/// Covers: ERR-01, ERR-04, ERR-07, ERR-19
#[test]
fn remoting_that_cannot_start_ends_the_build_or_the_start() {
    let sim = nexus_testkit::Simulation::new(1);
    let holder = know(sim.node("holder"));
    let taken = holder.authority().port();
    sim.settle();
    let refused = |adjust: Box<dyn Fn(RemotingExtensionConfig) -> RemotingExtensionConfig>| {
        remoting_error(&sim.try_node("a", adjust).map(|_| ()).unwrap_err())
    };
    for (error, expected) in [
        (refused(Box::new(move |c| c.with_canonical_port(taken))), "TransportUnavailable(AddressInUse"),
        (
            refused(Box::new(|c| c.with_transport_scheme("fraktor.pigeon"))),
            "TransportUnavailable(NotAvailable",
        ),
        (refused(Box::new(|c| c.with_queue_messages_max(0))), "Config("),
    ] {
        assert!(error.starts_with(expected), "{error}");
    }
    // What is wrong with the address shows when it is used: without automatic start, at `start`.
    let late = know(sim.node_with("late", |c| c.with_canonical_port(taken).with_auto_start(false)));
    let remoting: &dyn RemotingControl = late.remoting();
    let parts = holder.system().address().to_string().parse().unwrap();
    assert!(matches!(remoting.associate(&parts), Err(RemotingError::NotStarted)));
    assert!(matches!(remoting.shutdown(), Err(RemotingError::NotStarted)));
    let error = remoting.start().unwrap_err();
    assert!(
        matches!(&error, RemotingError::TransportUnavailable(TransportError::AddressInUse { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    let system = holder.system().clone();
    assert_eq!(sim.wait(s(20), async move { system.shutdown().await }), Some(Ok(())));
    remoting.start().unwrap();
    assert!(matches!(remoting.recover("127.0.0.1:9"), Err(RemotingError::UnknownAuthority { .. })));
}

/// The operations as an application has them: as a trait object.
///
/// Covers: ROLE-41
#[test]
fn every_operation_acts() {
    let sim = nexus_testkit::Simulation::new(41);
    let a = know(sim.node_with("a", |c| c.with_auto_start(false)));
    let b = know(sim.node("b"));
    let remoting: &dyn RemotingControl = a.remoting();
    remoting.start().unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    let guard = remoting.register_backpressure_listener(Arc::new(move |_, _: &str| {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    remoting.associate(&b.system().address().to_string().parse().unwrap()).unwrap();
    assert!(sim.until(s(1), || a.is_connected_to(&b)));
    let peer = b.authority().to_string();
    a.link().stall(nexus_testkit::Direction::Outbound);
    far(&a, &b, "/user/x").tell(Talk::Say(0));
    sim.run(s(2));
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    drop(guard);
    a.link().pass(nexus_testkit::Direction::Outbound);
    let state = || {
        let snapshot = remoting.connections_snapshot();
        assert_eq!((snapshot.len(), &snapshot[0].authority), (1, &peer));
        snapshot[0].state
    };
    sim.run(s(1));
    assert!(matches!(state(), AuthorityState::Connected { .. }));
    remoting.quarantine(&peer, QuarantineReason::ByOperator);
    sim.run(s(1));
    assert!(matches!(state(), AuthorityState::Quarantine { deadline: None }));
    remoting.recover(&peer).unwrap();
    sim.run(s(1));
    far(&a, &b, "/user/x").tell(Talk::Say(0));
    sim.run(s(5));
    assert!(matches!(state(), AuthorityState::Connected { .. }));
    remoting.shutdown().unwrap();
    sim.run(s(20));
    assert_eq!((remoting.connections_snapshot().len(), heard.load(Ordering::SeqCst)), (0, 1));
    assert_eq!(a.lifecycle().last().unwrap().1.name(), "shutdown");
}

/// A handshake that is refused for good ends in quarantine, and what waited for it in dead letters.
///
/// Covers: HS-40, ERR-02, DL-11
#[test]
fn a_handshake_that_fails_for_good_is_a_quarantine() {
    let (sim, [a, b]) = nodes(40, ["a", "b"]);
    let wrong = b.url("/user/parrot").replace("://b@", "://other@");
    let to: nexus_actor_core::ActorRef<Talk> = a.system().resolve(&wrong).unwrap();
    to.tell(Talk::Say(1));
    to.tell(Talk::Say(2));
    sim.run(s(2));
    assert_eq!(lost(&a), [(DeadLetterReason::Quarantined, 2)].into());
    let events = a.lifecycle();
    let reasons: Vec<_> = events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Quarantined { reason, facts, .. } => Some((*reason, facts.is_empty())),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [(QuarantineReason::WrongAddress, false)], "{events:?}");
    assert!(matches!(
        a.system().remote_authorities().state(b.authority()),
        AuthorityState::Quarantine { deadline: None }
    ));
}

/// What a node sends first, on any transport: a fixed number of bytes that says which protocol and versions it speaks,
/// then frames that say how long they are.
///
/// Covers: TR-11, TR-19
#[tokio::test]
async fn every_transport_carries_the_same_framing() {
    let network = nexus_remote::transport::LoopbackNetwork::new();
    let factory = TransportFactory::default().with_loopback(&network);
    for scheme in ["fraktor.loopback", "fraktor.tcp"] {
        let transport = factory.create(scheme).unwrap();
        let listener = transport.spawn_listener(&TransportBind::new("127.0.0.1", 0)).unwrap();
        let config = RemotingExtensionConfig::default()
            .with_canonical_port(0)
            .with_transport_scheme(scheme)
            .with_transport_factory(factory.clone());
        let system = ActorSystem::builder("a").with_remoting(config).build().unwrap();
        let url = format!("{scheme}://b@{}/user/x", listener.local_address());
        system.resolve::<Talk>(&url).map(|_| ()).unwrap_or_else(|e| panic!("{e}"));
        let remoting = system.extension::<RemotingExtension>().unwrap().handle();
        remoting.associate(&format!("{scheme}://b@{}", listener.local_address()).parse().unwrap()).unwrap();
        let channel = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        let request = loop {
            let mut buffer = [0; 4096];
            let read = std::future::poll_fn(|cx| channel.poll_read(cx, &mut buffer)).await.unwrap();
            bytes.extend_from_slice(&buffer[..read]);
            if bytes.len() < PREAMBLE_BYTES {
                continue;
            }
            let (preamble, rest) = bytes.split_at(PREAMBLE_BYTES);
            assert_eq!(preamble, Preamble::OURS.to_bytes(), "{scheme}");
            // The length of what follows it, little-endian.
            let Some(length) = rest.first_chunk::<4>() else { continue };
            let length = u32::from_le_bytes(*length) as usize;
            if rest.len() >= 4 + length {
                assert_eq!(rest.len(), 4 + length, "{scheme}: and nothing else before the answer");
                break ControlFrame::decode(RawFrame::from_bytes(rest).unwrap()).unwrap();
            }
        };
        let ControlFrame::Request(request) = request else { panic!("{scheme}: {request:?}") };
        let own = remoting.address().unwrap();
        assert_eq!(Some(request.handshake.node().address()), NodeAddress::of(&own).ok().as_ref());
        drop(channel);
        system.shutdown().await.unwrap();
    }
}

/// A loopback whose listener can be made to fail, and whose making can be refused.
struct Brittle {
    inner: LoopbackTransport,
    fate: Arc<Fate>,
}

#[derive(Default)]
struct Fate {
    /// Transports made, and makings to refuse.
    made: AtomicUsize,
    refuse: AtomicUsize,
    /// Listeners whose number is below fail.
    broken: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Fate {
    fn break_listener(&self) {
        self.broken.store(self.made.load(Ordering::SeqCst), Ordering::SeqCst);
        self.waker.lock().unwrap().take().unwrap().wake();
    }
}

struct BrittleListener {
    inner: TransportHandle,
    fate: Arc<Fate>,
    number: usize,
}

impl Listener for BrittleListener {
    fn local_address(&self) -> Authority {
        self.inner.local_address()
    }
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<TransportChannel, TransportError>> {
        if self.number <= self.fate.broken.load(Ordering::SeqCst) {
            return Poll::Ready(Err(TransportError::Closed { address: self.local_address() }));
        }
        *self.fate.waker.lock().unwrap() = Some(cx.waker().clone());
        self.inner.poll_accept(cx)
    }
    fn close(&self) {
        self.inner.close();
    }
}

impl RemoteTransport for Brittle {
    fn scheme(&self) -> &str {
        LoopbackTransport::SCHEME
    }
    fn spawn_listener(&self, bind: &TransportBind) -> Result<TransportHandle, TransportError> {
        let inner = self.inner.spawn_listener(bind)?;
        let number = self.fate.made.load(Ordering::SeqCst);
        Ok(TransportHandle::new(BrittleListener { inner, fate: self.fate.clone(), number }))
    }
    fn open_channel(&self, remote: &TransportEndpoint) -> Result<TransportChannel, TransportError> {
        self.inner.open_channel(remote)
    }
    fn install_backpressure_hook(&self, hook: Box<dyn BackpressureHook + Send + Sync>) {
        self.inner.install_backpressure_hook(hook);
    }
}

fn brittle(
    sim: &nexus_testkit::Simulation,
    fate: &Arc<Fate>,
) -> impl FnOnce(RemotingExtensionConfig) -> RemotingExtensionConfig {
    let (network, fate) = (sim.network().unwrap().clone(), fate.clone());
    move |config| {
        config.with_transport_factory(TransportFactory::new().with_transport(
            LoopbackTransport::SCHEME,
            move || {
                if fate.refuse.load(Ordering::SeqCst) > 0 {
                    fate.refuse.fetch_sub(1, Ordering::SeqCst);
                    return Err(TransportError::Closed { address: Authority::new("broken", 1) });
                }
                fate.made.fetch_add(1, Ordering::SeqCst);
                Ok(Arc::new(Brittle { inner: LoopbackTransport::new(&network), fate: fate.clone() }))
            },
        ))
    }
}

/// Covers: FD-06, ERR-06
#[test]
fn a_transport_that_fails_is_made_again_with_growing_waits() {
    let sim = nexus_testkit::Simulation::new(6);
    let fate = Arc::<Fate>::default();
    let a = know(sim.node_with("a", brittle(&sim, &fate)));
    let b = know(sim.node("b"));
    let (at_a, at_b) = (probe(a.system(), "ear"), probe(b.system(), "ear"));
    far(&b, &a, "/user/ear").tell(Talk::Say(0));
    sim.run(s(1));
    assert_eq!(fate.made.load(Ordering::SeqCst), 1);
    fate.refuse.store(4, Ordering::SeqCst);
    let broken_at = sim.now();
    fate.break_listener();
    sim.run(ms(100));
    assert_eq!(a.listener_faults().len(), 1);
    let snapshot = a.remoting().flight_recorder().snapshot();
    let faults = |snapshot: &nexus_remote::flight_recorder::RecorderSnapshot| {
        snapshot
            .records
            .iter()
            .map(|record| snapshot.to_json(record))
            .filter(|j| j.contains("transport_fault"))
            .count()
    };
    assert_eq!(faults(&snapshot), 1);
    // Connections there are go on, in both directions, while nobody can dial.
    far(&b, &a, "/user/ear").tell(Talk::Say(1));
    far(&a, &b, "/user/ear").tell(Talk::Say(2));
    sim.settle();
    assert_eq!((numbers(&at_a), numbers(&at_b)), (vec![0, 1], vec![2]));
    sim.run(s(30));
    assert_eq!(fate.made.load(Ordering::SeqCst), 2, "made anew by the factory");
    let listens: Vec<_> = a
        .lifecycle()
        .into_iter()
        .filter_map(|(at, event)| match event {
            Event::ListenStarted { authority, .. } => Some((at - broken_at, authority)),
            _ => None,
        })
        .collect();
    // Waits of 0.2, 0.4, 0.8, 1.6 and 3.2 s.
    assert_eq!(listens, [(ms(6_200), a.authority().clone())], "at the port that was announced");
    assert_eq!(a.listener_faults().len(), 5);
    let snapshot = a.remoting().flight_recorder().snapshot();
    assert_eq!(faults(&snapshot), 5);
    let c = know(sim.node("c"));
    far(&c, &a, "/user/ear").tell(Talk::Say(3));
    sim.run(s(1));
    assert_eq!(numbers(&at_a), [3]);
    // A second failure waits as little as the first.
    fate.break_listener();
    sim.run(ms(300));
    assert_eq!(fate.made.load(Ordering::SeqCst), 3);
    // Pressure is heard of the new transport too: one that is stalled by a peer that stands still.
    c.freeze();
    let to = far(&a, &c, "/user/ear");
    for _ in 0..100 {
        to.tell(Talk::Blob(vec![0; 20_000]));
    }
    sim.run(s(2));
    assert!(!a.pressure().is_empty());
}
