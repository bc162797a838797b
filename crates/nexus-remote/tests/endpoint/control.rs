//! What an application does with remoting, by the names of the quick start.

use std::error::Error;
use std::sync::{Arc, Mutex};

use nexus_actor_core::path::ActorPathParts;
use nexus_actor_core::remote_authority::AuthorityState;
use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::{ActorSystem, AskError, DeadLetterReason, ResolveError};
use nexus_remote::backpressure::{BackpressureSignal, RemotingBackpressureListener};
use nexus_remote::event::RemotingLifecycleEvent as Event;
use nexus_remote::metric::RemoteAuthoritySnapshot;
use nexus_remote::transport::{LoopbackNetwork, TransportFactory};
use nexus_remote::wire::QuarantineReason;
use nexus_remote::{
    RemotingControl, RemotingError, RemotingExtension, RemotingExtensionConfig, WithRemoting,
};
use nexus_testkit::Direction;

use crate::kit::*;

/// Notes what it is told.
#[derive(Default)]
struct Ear(Mutex<Vec<(BackpressureSignal, String)>>);

impl RemotingBackpressureListener for Ear {
    fn on_signal(&self, signal: BackpressureSignal, authority: &str) {
        self.0.lock().unwrap().push((signal, authority.to_string()));
    }
}

/// Covers: API-43, API-44, API-45, API-46, API-47, API-48, API-50, ST-13, DM-06, DM-10
#[test]
fn each_operation_has_its_effect() {
    let sim = nexus_testkit::Simulation::new(43);
    let a = know(sim.node_with("a", |c| c.with_queue_messages_max(100)));
    let b = know(sim.node("b"));
    let control: &dyn RemotingControl = a.remoting();
    let authority = b.authority().to_string();
    control.start().unwrap();
    assert_eq!(control.connections_snapshot(), []);

    let parts: ActorPathParts = b.system().address().to_string().parse().unwrap();
    control.associate(&parts).unwrap();
    sim.run(s(1));
    let snapshot = control.connections_snapshot();
    let [RemoteAuthoritySnapshot { authority: named, state, deferred_count, .. }] = &snapshot[..] else {
        panic!("{snapshot:?}")
    };
    assert_eq!((named, *deferred_count), (&authority, 0));
    assert!(matches!(state, AuthorityState::Connected { uid } if !uid.is_any()), "without a message");
    let mine = ActorPathParts::from_authority(&a.authority().to_string()).unwrap();
    assert!(matches!(control.associate(&mine), Err(RemotingError::InvalidAddress { .. })));

    let ear = Arc::new(Ear::default());
    let guard = control.register_backpressure_listener(ear.clone());
    a.link().stall(Direction::Outbound);
    let to = far(&a, &b, "/user/nobody");
    for n in 0..60 {
        to.tell(Talk::Say(n));
    }
    sim.run(s(1));
    assert_eq!(*ear.0.lock().unwrap(), [(BackpressureSignal::Warning, authority.clone())]);
    assert_eq!(control.connections_snapshot()[0].deferred_count, 60);
    drop(guard);
    assert_eq!(Arc::strong_count(&ear), 1, "released");

    sim.run(s(4));
    let before = sim.now().as_millis();
    control.quarantine(&authority, QuarantineReason::ByOperator);
    control.quarantine("10.9.9.9:9", QuarantineReason::ByOperator);
    sim.run(s(1));
    let snapshot = &control.connections_snapshot()[0];
    assert_eq!(snapshot.state, AuthorityState::Quarantine { deadline: None });
    assert_eq!((snapshot.last_change, snapshot.deferred_count), (before, 0));
    assert_eq!(control.connections_snapshot().len(), 1, "of an unknown authority nothing is made");
    let reason = |event: &Event| match event {
        Event::Quarantined { reason, .. } => Some(*reason),
        _ => None,
    };
    let reasons: Vec<_> = a.lifecycle().iter().filter_map(|(_, event)| reason(event)).collect();
    assert_eq!(reasons, [QuarantineReason::ByOperator]);
    let ask = to.ask(|reply| Talk::Echo(1, reply));
    assert_eq!(sim.wait(s(1), ask), Some(Err(AskError::Quarantined)));

    a.link().pass(Direction::Outbound);
    control.recover(&authority).unwrap();
    assert!(matches!(control.recover("10.9.9.9:9"), Err(RemotingError::UnknownAuthority { .. })));
    let ask = to.ask(|reply| Talk::Echo(1, reply));
    assert_eq!(sim.wait(s(4), ask), Some(Err(AskError::NoSuchActor)), "it answers again");

    control.shutdown().unwrap();
    sim.run(s(11));
    assert_eq!(b.count(|event| matches!(event, Event::Left { .. })), 1);
    assert!(matches!(control.start(), Err(RemotingError::Shutdown)));
    assert!(matches!(control.associate(&parts), Err(RemotingError::Shutdown | RemotingError::NotStarted)));
    assert_eq!(b.lost(DeadLetterReason::NoSuchActor), 1);
}

/// Covers: API-40, API-41, API-42, CFG-21, CFG-43
#[test]
fn an_extension_is_made_from_its_configuration_or_not_at_all() {
    let pump = PumpRuntime::new();
    let network = LoopbackNetwork::new();
    let config = RemotingExtensionConfig::default()
        .with_transport_scheme("fraktor.loopback")
        .with_transport_factory(TransportFactory::new().with_loopback(&network));
    let system = ActorSystem::builder("s").with_runtime(pump.clone()).build().unwrap();
    for made in [RemotingExtension::new, RemotingExtension::install] {
        let deficient = config.clone().with_queue_messages_max(0);
        assert!(matches!(made(&system, &deficient), Err(RemotingError::Config(_))));
        let nothing = config.clone().with_transport_scheme("fraktor.pigeon");
        assert!(matches!(made(&system, &nothing), Err(RemotingError::TransportUnavailable(_))));
    }
    let by_hand = RemotingExtension::new(&system, &config.clone().with_auto_start(false)).unwrap();
    assert_eq!(by_hand.handle().address(), None);
    assert_eq!(by_hand.handle().tasks(), 0);
    let at_once = RemotingExtension::new(&system, &config).unwrap();
    assert_eq!(at_once.handle().address().unwrap().to_string(), "fraktor.loopback://s@127.0.0.1:25520");
    // Two extensions cannot listen at one address: the second fails and leaves nothing.
    by_hand.handle().start().unwrap_err();
    assert_eq!((by_hand.handle().address(), by_hand.handle().tasks()), (None, 0));
    // So does a system that is built with what cannot be.
    let built = ActorSystem::builder("t")
        .with_runtime(pump)
        .with_remoting(config.with_queue_messages_max(0))
        .build()
        .map(drop);
    let error = built.unwrap_err();
    let causes = core::iter::successors(Some(&error as &dyn Error), |error: &&dyn Error| (*error).source());
    assert!(causes.map(ToString::to_string).any(|text| text.contains("queue_messages_max")), "{error}");
}

/// All that a program without remoting needs to get it.
///
/// Covers: API-68, CFG-44, MIG-05
#[test]
fn with_remoting_is_the_one_addition() {
    let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
    let config = || {
        RemotingExtensionConfig::default()
            .with_canonical_port(0)
            .with_transport_scheme("fraktor.loopback")
            .with_transport_factory(TransportFactory::new().with_loopback(&network))
    };
    let with = |name| {
        let builder = ActorSystem::builder(name).with_runtime(pump.clone());
        let system = builder.with_remoting(config()).build().unwrap();
        system.register::<Talk>().unwrap();
        system
    };
    let (a, b) = (with("a"), with("b"));
    parrot(&b, "parrot");
    let url = format!("{}/user/parrot", b.address());
    let without = ActorSystem::builder("c").with_runtime(pump.clone()).build().unwrap();
    assert!(matches!(without.resolve::<Talk>(&url), Err(ResolveError::NoRemoting { .. })));
    let far = a.resolve::<Talk>(&url).unwrap();
    assert_eq!(pump.block_on(s(5), far.ask(|reply| Talk::Echo(3, reply))), Some(Ok(3)));
}
