//! Which actors remoting consists of, how a path becomes a reference, and what is rebuilt when it fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use nexus_actor_core::path::Authority;
use nexus_actor_core::remote_authority::AuthorityState;
use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::system::ResolveError;
use nexus_actor_core::{ActorSystem, TerminationReason};
use nexus_remote::backpressure::BackpressureHook;
use nexus_remote::event::RemotingLifecycleEvent as Event;
use nexus_remote::transport::{
    Listener, LoopbackTransport, RemoteTransport, TransportBind, TransportChannel, TransportEndpoint,
    TransportError, TransportFactory, TransportHandle,
};
use nexus_remote::{RemoteActorRefProvider, RemotingControl, RemotingExtension, RemotingExtensionConfig};

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

/// Covers: ROLE-42, HS-44, HS-45, HS-46, FLOW-13
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
    // Another node's is connected to at once, and what is sent meanwhile waits.
    let eager = provider.resolve_actor_ref::<Talk>(&b.url("/user/ear")).unwrap();
    assert_eq!(eager, lazy);
    let quick = provider.resolve_actor_ref::<Talk>(&b.url("/user/nobody")).unwrap();
    eager.tell(Talk::Say(2));
    here.watch(&quick);
    let snapshot = a.remoting().connections_snapshot();
    assert_eq!((snapshot.len(), snapshot[0].deferred_count), (1, 1));
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
    let (network, fate) = (sim.network().clone(), fate.clone());
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
