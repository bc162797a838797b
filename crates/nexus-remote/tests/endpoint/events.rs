//! What is told of an association's life, in which order, and of messages that could not be written or read.

use std::sync::{Arc, Mutex};

use nexus_actor_core::DeadLetterReason;
use nexus_actor_core::event_stream::{EventStreamEvent, SerializationDirection, SerializationFailure};
use nexus_actor_core::remote_authority::{AuthorityEvent, AuthorityState};
use nexus_remote::RemotingControl;
use nexus_remote::association::{AssociationState, StateKind};
use nexus_remote::event::{AssociationStateChanged, RemotingLifecycleEvent as Event};
use nexus_remote::flight_recorder::FlightKind;
use nexus_remote::metric::{SreThresholds, ThresholdCrossed};
use nexus_remote::wire::QuarantineReason;
use nexus_testkit::{Cut, DialFate, Direction, SimNode};

use crate::kit::*;

type Log<T> = Arc<Mutex<Vec<T>>>;

/// Everything of one type that the node publishes from now on.
fn log<T: Clone + Send + Sync + 'static>(node: &SimNode) -> Log<T> {
    let log = Log::default();
    let to = log.clone();
    node.system().event_stream().subscribe(move |event: &T| to.lock().unwrap().push(event.clone())).forever();
    log
}

/// Who hears of a connection finds the authority's state set, and what waited for it on its way.
///
/// Covers: HS-37, HS-34, BP-48, EV-23
#[test]
fn a_connection_is_told_after_its_state_is_set_and_what_waited_is_sent() {
    let (sim, [a, b]) = nodes(37, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    for n in 0..50 {
        to.tell(Talk::Blob(vec![n; 1_000]));
    }
    assert_eq!(a.remoting().connections_snapshot()[0].deferred_count, 50);
    let seen = Log::default();
    let (out, node, peer) = (seen.clone(), a.clone(), b.authority().clone());
    a.system()
        .event_stream()
        .subscribe(move |event: &Event| {
            if let Event::Connected { uid, .. } = event {
                let state = node.system().remote_authorities().state(&peer);
                let sent = node.link().counts().bytes_outbound;
                out.lock().unwrap().push((*uid, state, sent));
            }
        })
        .forever();
    sim.run(s(1));
    let seen = seen.lock().unwrap();
    let [(uid, state, sent)] = seen[..] else { panic!("{seen:?}") };
    assert_eq!(state, AuthorityState::Connected { uid });
    assert!(sent > 50 * 1_000, "{sent} bytes");
    assert_eq!(ear.len(), 50);
    assert_eq!(a.remoting().connections_snapshot()[0].deferred_count, 0);
}

/// Each change of state is one event with its time and reason, none is left out, and the turns that have a name of their
/// own follow in the feed, the recorder and the core's record of authorities.
///
/// Covers: HS-31, HS-33, HS-42, ROLE-51, ROLE-52, EV-20, EV-21, EV-29
#[test]
fn every_change_of_state_is_told_with_its_time_and_reason() {
    let sim = simulation(33);
    let a = know(sim.node_with("a", |c| c.with_auto_start(false)));
    let b = know(sim.node("b"));
    let changes = log::<AssociationStateChanged>(&a);
    let feed = log::<EventStreamEvent>(&a);
    let authorities = log::<AuthorityEvent>(&a);
    a.remoting().start().unwrap();
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    let state = || a.system().remote_authorities().state(b.authority());
    assert!(matches!(state(), AuthorityState::Connected { .. }));
    // Unreachable for a while, and reached again.
    a.link().set_dials(DialFate::Refuse);
    b.link().set_dials(DialFate::Refuse);
    a.link().cut(Cut::Reset);
    to.tell(Talk::Say(1));
    sim.run(s(2));
    a.link().set_dials(DialFate::Pass);
    sim.run(s(3));
    assert_eq!(numbers(&ear), [0, 1]);
    // Refused by the operator, recovered, and left.
    a.remoting().quarantine(&b.authority().to_string(), QuarantineReason::Unreachable);
    sim.run(s(1));
    let deadline = sim.now() + s(29);
    assert_eq!(state(), AuthorityState::Quarantine { deadline: Some(deadline) });
    sim.run(s(40));
    let lifted = authorities.lock().unwrap().iter().any(|event| {
        matches!(event.from, AuthorityState::Quarantine { .. }) && event.to == AuthorityState::Unresolved
    });
    assert!(lifted, "the deadline passed");
    to.tell(Talk::Say(2));
    sim.run(s(2));
    assert!(matches!(state(), AuthorityState::Connected { .. }));
    let remoting = a.remoting().clone();
    sim.wait(s(20), async move { remoting.shutdown_and_wait().await }).unwrap();

    let changes = changes.lock().unwrap();
    assert!(changes.iter().all(|event| event.authority == *b.authority()));
    let mut now = StateKind::Unassociated;
    let mut at = nexus_actor_core::Instant::ZERO;
    for AssociationStateChanged { change, .. } in changes.iter() {
        assert_eq!(change.from, now, "none is left out: {changes:?}");
        assert!(change.at >= at, "in order");
        (now, at) = (change.to.kind(), change.at);
    }
    let path: Vec<_> = changes.iter().map(|event| event.change.to.kind()).collect();
    let mut kinds = path.clone();
    kinds.dedup();
    for kind in [
        StateKind::Associating,
        StateKind::Connected,
        StateKind::Gated,
        StateKind::Quarantined,
        StateKind::Unassociated,
    ] {
        assert!(kinds.contains(&kind), "{kind:?} in {path:?}");
    }
    let quarantined = changes.iter().find_map(|event| match &event.change.to {
        AssociationState::Quarantined { deadline, reason, .. } => Some((event.change.at, *deadline, *reason)),
        _ => None,
    });
    let (since, until, reason) = quarantined.unwrap();
    assert_eq!((until, reason), (Some(since + s(30)), QuarantineReason::Unreachable));

    let names: Vec<_> = a.lifecycle().iter().map(|(_, event)| event.name()).collect();
    for name in [
        "listen_started",
        "association_attempt",
        "connected",
        "gated",
        "quarantined",
        "quarantine_lifted",
        "shutdown",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!((names.first(), names.last()), (Some(&"listen_started"), Some(&"shutdown")));
    let fed: Vec<_> = feed
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| match event {
            EventStreamEvent::RemotingLifecycle(record) => Some(record.name),
            _ => None,
        })
        .collect();
    assert_eq!(fed, names, "the same in words");
    let recorded = a.remoting().flight_recorder().snapshot();
    let kinds =
        |test: fn(&FlightKind) -> bool| recorded.records.iter().filter(|r| test(&r.event.kind)).count();
    let told = |name| names.iter().filter(|n| **n == name).count();
    assert_eq!(kinds(|kind| matches!(kind, FlightKind::Connected { .. })), told("connected"));
    assert_eq!(kinds(|kind| matches!(kind, FlightKind::Gated { .. })), told("gated"));
    assert_eq!(kinds(|kind| matches!(kind, FlightKind::Quarantined { .. })), 1);
}

/// Covers: DL-10, ERR-03, EV-26, SER-08
#[test]
fn what_cannot_be_written_or_read_is_an_event_and_a_dead_letter() {
    let (sim, [a, b]) = nodes(26, ["a", "b"]);
    let failures = |node: &SimNode| {
        let feed = log::<EventStreamEvent>(node);
        move || -> Vec<SerializationFailure> {
            let feed = feed.lock().unwrap();
            let failed = feed.iter().filter_map(|event| match event {
                EventStreamEvent::Serialization(failure) => Some(failure.clone()),
                _ => None,
            });
            failed.collect()
        }
    };
    let (at_a, at_b) = (failures(&a), failures(&b));
    parrot(b.system(), "parrot");
    let to = far(&a, &b, "/user/parrot");
    to.tell(Talk::Unspeakable(Unspeakable));
    to.tell(Talk::Say(1));
    sim.run(s(1));
    let [ref failure] = at_a()[..] else { panic!("{:?}", at_a()) };
    assert_eq!(failure.direction, SerializationDirection::Encode);
    assert_eq!(failure.manifest, "test.talk@1");
    assert_eq!(failure.recipient.as_ref().unwrap().to_string(), b.url("/user/parrot"));
    assert!(!failure.error.is_empty());
    assert_eq!(lost(&a), [(DeadLetterReason::Encode, 1)].into());
    assert_eq!(a.letters()[0].pid.as_ref().unwrap().to_string(), format!("{}/parrot", b.authority()));
    assert_eq!((at_b().len(), lost(&b).len()), (0, 0), "nothing of it was sent");
    // A type that the receiver has not registered.
    let deaf = sim.node("c");
    let at_c = failures(&deaf);
    parrot(deaf.system(), "parrot");
    far(&a, &deaf, "/user/parrot").tell(Talk::Say(2));
    sim.run(s(1));
    let [ref failure] = at_c()[..] else { panic!("{:?}", at_c()) };
    assert_eq!((failure.direction, &*failure.manifest), (SerializationDirection::Decode, "test.talk@1"));
    assert_eq!(lost(&deaf), [(DeadLetterReason::Decode, 1)].into());
}

/// Watches go before what waits, and are answered while messages find no room.
///
/// Covers: PRI-01, PRI-05, PRI-07, ROLE-48
#[test]
fn system_messages_go_before_user_messages() {
    let sim = simulation(7);
    let a = know(sim.node_with("a", |c| c.with_queue_messages_max(1_000)));
    let b = know(sim.node("b"));
    let ear = probe(b.system(), "ear");
    let mortal = parrot(b.system(), "mortal");
    let here = probe(a.system(), "here");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    a.link().stall(Direction::Outbound);
    for _ in 0..1_050 {
        to.tell(Talk::Blob(vec![0; 1_000]));
    }
    sim.run(ms(10));
    assert_eq!(a.lost(DeadLetterReason::QueueFull), 50, "messages find no room");
    // What the connection has taken already goes first; then comes the watch, before the rest of the messages.
    here.watch(&far(&a, &b, "/user/mortal"));
    sim.run(ms(10));
    a.link().allow(Direction::Outbound, 400 * 1_024);
    sim.run(ms(100));
    mortal.stop();
    sim.run(ms(100));
    assert!(ear.len() < 500, "{} messages went before", ear.len());
    assert_eq!(here.take_terminations().len(), 1);
    assert_eq!(a.lost(DeadLetterReason::QueueFull), 50, "and nothing else was lost for it");
    a.link().pass(Direction::Outbound);
    sim.run(s(5));
    assert_eq!(ear.len(), 1_001);
}

/// Each peer is held against the thresholds by itself.
///
/// Covers: CFG-27, OBS-15
#[test]
fn a_threshold_is_crossed_by_one_peer_and_not_by_another() {
    let sim = simulation(27);
    let a = know(sim.node_with("a", |c| {
        c.with_metrics_interval(Some(s(1))).with_sre_thresholds(SreThresholds::new().with_queue_depth(10))
    }));
    let (b, c) = (know(sim.node("b")), know(sim.node("c")));
    let crossed = log::<ThresholdCrossed>(&a);
    let (to_b, to_c) = (far(&a, &b, "/user/x"), far(&a, &c, "/user/x"));
    to_b.tell(Talk::Say(0));
    to_c.tell(Talk::Say(0));
    sim.run(s(2));
    b.freeze();
    for n in 0..20 {
        to_b.tell(Talk::Say(n));
        to_c.tell(Talk::Say(n));
    }
    sim.run(s(6));
    b.thaw();
    sim.run(s(6));
    let seen: Vec<_> =
        crossed.lock().unwrap().iter().map(|c| (c.authority.clone(), c.is_over(), c.threshold)).collect();
    let peer = b.authority().to_string();
    assert_eq!(seen, [(peer.clone(), true, 10), (peer, false, 10)]);
}
