//! Quarantine, recovery and leaving.

use nexus_actor_core::{AskError, DeadLetterReason, TerminationReason};
use nexus_remote::RemotingControl;
use nexus_remote::event::RemotingLifecycleEvent as Event;
use nexus_remote::wire::QuarantineReason;

use crate::kit::*;

/// Covers: S67, S68, S72, S70, S36, HS-42
#[test]
fn a_quarantine_by_the_operator_is_told_once_and_lets_nothing_pass() {
    let (sim, [a, b]) = nodes(67, ["a", "b"]);
    let (at_a, at_b) = (probe(a.system(), "ear"), probe(b.system(), "ear"));
    let (to_b, to_a) = (far(&a, &b, "/user/ear"), far(&b, &a, "/user/ear"));
    to_b.tell(Talk::Say(0));
    to_a.tell(Talk::Say(0));
    at_a.watch(&to_b);
    at_b.watch(&to_a);
    let kept = to_b.ask(Talk::Keep).timeout(s(60));
    sim.run(s(3));
    a.remoting().quarantine(&b.authority().to_string(), QuarantineReason::ByOperator);
    assert_eq!(sim.wait(s(1), kept), Some(Err(AskError::Quarantined)));
    for n in 1..=5 {
        to_b.tell(Talk::Say(n));
        to_a.tell(Talk::Say(n));
    }
    sim.run(s(600));
    assert_eq!((numbers(&at_a), at_b.take_messages().len()), (vec![0], 2));
    assert_eq!(lost(&a), [(DeadLetterReason::Quarantined, 5)].into());
    // Refused whenever it tries, the peer gives up after its time.
    assert_eq!(lost(&b), [(DeadLetterReason::Unreachable, 5)].into());
    let told: Vec<_> = a
        .lifecycle()
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::Quarantined { authority, reason, facts, deadline, .. } => {
                Some((authority, reason, facts, deadline))
            }
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0].0, told[0].1, told[0].3), (b.authority(), QuarantineReason::ByOperator, None));
    assert!(!told[0].2.is_empty());
    assert_eq!(
        b.count(|event| matches!(
            event,
            Event::QuarantinedByPeer { reason: QuarantineReason::ByOperator, .. }
        )),
        1
    );
    assert_eq!(b.count(|event| matches!(event, Event::Quarantined { .. })), 0, "not in return");
    let reason = |probe: &nexus_testkit::TestProbe<Talk>| {
        probe.take_terminations().into_iter().map(|(_, reason)| reason).collect::<Vec<_>>()
    };
    assert_eq!(reason(&at_a), [TerminationReason::Quarantined]);
    assert_eq!(reason(&at_b).len(), 1);
    for node in [&a, &b] {
        assert!(node.remoting().tasks() <= 2);
        assert_eq!(node.remoting().associations(), 1);
    }
}

/// Covers: S69, S73, S74
#[test]
fn a_restart_ends_a_quarantine_without_an_operator() {
    for dials in ["a", "b"] {
        let (sim, [a, b]) = nodes(69, ["a", "b"]);
        let to_b = far(&a, &b, "/user/ear");
        to_b.tell(Talk::Say(0));
        sim.run(s(1));
        let peer = b.authority().to_string();
        a.remoting().quarantine(&peer, QuarantineReason::ByOperator);
        sim.run(s(5));
        b.kill();
        let b = know(sim.successor(&b, |config| config));
        let ear_b = probe(b.system(), "ear");
        let ear_a = probe(a.system(), "ear");
        if dials == "b" {
            far(&b, &a, "/user/ear").tell(Talk::Say(1));
            sim.run(s(1));
            assert_eq!(numbers(&ear_a), [1]);
        } else {
            // Who quarantined for good looks for the next incarnation when asked to.
            a.remoting().associate(&peer_parts(&b)).unwrap();
            to_b.tell(Talk::Say(1));
            sim.run(s(5));
            far(&b, &a, "/user/ear").tell(Talk::Say(1));
            sim.run(s(1));
        }
        to_b.tell(Talk::Say(2));
        sim.run(s(1));
        assert_eq!(numbers(&ear_b).last(), Some(&2), "{dials}: {:?}", a.lifecycle());
        assert_eq!(a.count(|event| matches!(event, Event::Quarantined { .. })), 1);
        assert_eq!(a.turns_of(&b).last(), Some(&"connected"));
    }
}

fn peer_parts(node: &nexus_testkit::SimNode) -> nexus_actor_core::path::ActorPathParts {
    node.system().address().to_string().parse().unwrap()
}

/// Covers: S76, TST-63
#[test]
fn recovery_on_either_side_starts_a_new_session_without_a_restart() {
    for healer in ["a", "b"] {
        let (sim, [a, b]) = nodes(76, ["a", "b"]);
        let (at_a, at_b) = (probe(a.system(), "ear"), probe(b.system(), "ear"));
        let (to_b, to_a) = (far(&a, &b, "/user/ear"), far(&b, &a, "/user/ear"));
        to_b.tell(Talk::Say(0));
        at_a.watch(&to_b);
        at_b.watch(&to_a);
        sim.run(s(3));
        a.remoting().quarantine(&b.authority().to_string(), QuarantineReason::ByOperator);
        sim.run(s(10));
        assert_eq!((at_a.take_terminations().len(), at_b.take_terminations().len()), (1, 1));
        let (by, peer) = if healer == "a" { (&a, &b) } else { (&b, &a) };
        by.remoting().recover(&peer.authority().to_string()).unwrap();
        sim.run(s(2));
        if healer == "b" {
            a.remoting().recover(&b.authority().to_string()).unwrap();
        }
        to_b.tell(Talk::Say(1));
        to_a.tell(Talk::Say(2));
        sim.run(s(5));
        assert_eq!(numbers(&at_b).last(), Some(&1), "{healer}: {:?}", a.lifecycle());
        assert_eq!(numbers(&at_a), [2], "{healer}");
        // Watches of the new session work as those of the first.
        at_a.watch(&to_b);
        sim.run(s(2));
        at_b.stop();
        sim.run(s(2));
        assert_eq!(at_a.take_terminations().len(), 1, "{healer}");
        let lifted = a.count(|event| matches!(event, Event::QuarantineLifted { .. }));
        assert_eq!(lifted, 1, "{healer}: {:?}", a.lifecycle());
        let (sent, acknowledged, lost) = accounts(&a, &b);
        assert_eq!(sent, acknowledged + lost);
    }
    let (_, [a]) = nodes(761, ["a"]);
    assert!(a.remoting().recover("127.0.0.1:9").is_err());
}

/// Covers: S71, S108
#[test]
fn who_leaves_in_order_is_not_taken_for_failed() {
    let (sim, [a, b]) = nodes(71, ["a", "b"]);
    parrot(b.system(), "parrot");
    let (at_a, to_a) = (probe(a.system(), "ear"), far(&b, &a, "/user/ear"));
    at_a.watch(&far(&a, &b, "/user/parrot"));
    let ask = far(&a, &b, "/user/parrot").ask(Talk::Keep).timeout(s(60));
    sim.run(s(3));
    for n in 0..5_000 {
        to_a.tell(Talk::Say(n));
    }
    let system = b.system().clone();
    assert_eq!(sim.wait(s(20), async move { system.shutdown().await }), Some(Ok(())));
    sim.run(s(1));
    assert_eq!(numbers(&at_a), (0..5_000).collect::<Vec<_>>(), "everything accepted before");
    let told = at_a.take_terminations();
    assert_eq!(told.len(), 1);
    assert!(matches!(told[0].1, TerminationReason::Left | TerminationReason::Stopped), "{told:?}");
    assert!(matches!(sim.wait(s(1), ask), Some(Err(_))), "not only at its deadline");
    sim.run(s(60));
    assert_eq!(a.turns_of(&b).iter().filter(|turn| **turn == "left").count(), 1, "{:?}", a.turns_of(&b));
    assert_eq!(a.count(|event| matches!(event, Event::Quarantined { .. } | Event::Suspect { .. })), 0);
    // Its successor is a node like any other.
    let b = know(sim.successor(&b, |config| config));
    let ear = probe(b.system(), "ear");
    far(&a, &b, "/user/ear").tell(Talk::Say(1));
    assert!(sim.until(s(1), || !ear.is_empty()), "{:?}", a.lifecycle());
}

/// A forgotten association leaves its refusals to the next one, for as long as dead uids are remembered.
///
/// Covers: S75
#[test]
fn a_refusal_outlives_its_association_for_its_time() {
    let sim = nexus_testkit::Simulation::new(75);
    let a =
        know(sim.node_with("a", |config| config.with_forget_after(s(301)).with_dead_uid_memory(s(3_600))));
    let b = know(sim.node("b"));
    let ear = probe(a.system(), "ear");
    let to_a = far(&b, &a, "/user/ear");
    to_a.tell(Talk::Say(0));
    sim.run(s(1));
    a.remoting().quarantine(&b.authority().to_string(), QuarantineReason::ByOperator);
    let quarantined = sim.now();
    assert!(sim.until(s(3_000), || a.remoting().associations() == 0));
    for minute in [30, 75] {
        sim.run(s(60 * minute).saturating_sub(sim.now() - quarantined));
        to_a.tell(Talk::Say(minute));
        sim.run(s(40));
    }
    assert_eq!(numbers(&ear), [0, 75], "{:?}", a.lifecycle());
}
