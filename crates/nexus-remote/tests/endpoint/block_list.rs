//! The block list and the allow list of a running node.

use nexus_actor_core::{AskError, DeadLetterReason, Refusal, TerminationReason};
use nexus_remote::event::{RefusedBy, RemotingLifecycleEvent as Event};
use nexus_remote::wire::{QuarantineReason, RefuseReason};
use nexus_remote::{EndpointSource, RemotingControl, RemotingError};
use nexus_testkit::{Cut, DialFate, Direction, SimNode, Simulation};

use crate::kit::*;

/// How often `node` told that a handshake was refused as *blocked*.
fn refusals(node: &SimNode, side: RefusedBy) -> usize {
    node.count(
        |event| matches!(event, Event::Refused { by, reason: RefuseReason::Blocked, .. } if *by == side),
    )
}

/// The states in the reports of `node`.
fn states(node: &SimNode) -> Vec<&'static str> {
    node.remoting().endpoints().iter().map(|report| report.state).collect()
}

/// A live peer is cut off, both sides say why, what waited is recorded, and unblocking needs no restart.
///
/// Covers: S127
#[test]
fn a_peer_is_blocked_and_unblocked_at_run_time() {
    for by_name in [true, false] {
        let (sim, [a, b]) = nodes(1_270, ["a", "b"]);
        let listed = if by_name { "b".to_string() } else { b.authority().to_string() };
        let (at_a, at_b) = (probe(a.system(), "ear"), probe(b.system(), "ear"));
        let (to_b, to_a) = (far(&a, &b, "/user/ear"), far(&b, &a, "/user/ear"));
        to_b.tell(Talk::Say(0));
        to_a.tell(Talk::Say(0));
        at_a.watch(&to_b);
        at_b.watch(&to_a);
        let kept = to_b.ask(Talk::Keep).timeout(s(60));
        sim.run(s(3));
        // These wait when it happens.
        a.link().stall(Direction::Outbound);
        sim.run(ms(10));
        for n in 0..2_000 {
            to_b.tell(Talk::Blob(vec![n as u8; 1_000]));
        }
        sim.run(ms(10));
        a.remoting().block_system(&listed).unwrap();
        a.link().pass(Direction::Outbound);
        assert_eq!(sim.wait(s(1), kept), Some(Err(AskError::Blocked)));
        assert_eq!(a.remoting().list_blocked_systems(), [&*listed]);
        assert_eq!(to_b.try_tell(Talk::Say(1)).map_err(|e| e.refusal), Err(Refusal::Blocked));
        assert_eq!(sim.wait(s(9), to_b.ask(|r| Talk::Echo(1, r))), Some(Err(AskError::Blocked)));
        to_a.tell(Talk::Say(1));
        sim.run(s(60));

        // Every message of a has one fate: heard, perhaps heard, or recorded as blocked.
        let heard = at_b.take_messages().len() - 2;
        let losses = lost(&a);
        let [blocked, unconfirmed] = [DeadLetterReason::Blocked, DeadLetterReason::Unconfirmed]
            .map(|reason| losses.get(&reason).copied().unwrap_or(0));
        assert_eq!(losses.values().sum::<usize>(), blocked + unconfirmed, "{losses:?}");
        // The ask that was refused is one of them.
        let blocked = blocked - 1;
        assert!(blocked > 0 && unconfirmed + blocked <= 2_000, "{losses:?}");
        assert!((2_000 - blocked - unconfirmed..=2_000 - blocked).contains(&heard), "{heard} {losses:?}");
        // What b had for a is refused with the same word in the end.
        assert_eq!((numbers(&at_a), lost(&b).get(&DeadLetterReason::Blocked)), (vec![0], Some(&1)));
        let is = QuarantineReason::Blocked;
        assert_eq!(a.count(|e| matches!(e, Event::Quarantined { reason, .. } if *reason == is)), 1);
        assert_eq!(b.count(|e| matches!(e, Event::QuarantinedByPeer { reason, .. } if *reason == is)), 1);
        assert!(refusals(&a, RefusedBy::Us) >= 1 && refusals(&b, RefusedBy::Peer) >= 1);
        assert_eq!(states(&a), ["blocked"]);
        assert!(!a.is_connected_to(&b) && !b.is_connected_to(&a));
        for probe in [&at_a, &at_b] {
            let told: Vec<_> = probe.take_terminations().into_iter().map(|(_, reason)| reason).collect();
            assert_eq!(told, [TerminationReason::Quarantined]);
        }
        // An operator lifts it by the list and by nothing else.
        let recovered = a.remoting().recover(&b.authority().to_string());
        assert!(matches!(recovered, Err(RemotingError::InvalidAddress { .. })), "{recovered:?}");
        assert!(matches!(far_error(&a, &b), Some(Refusal::Blocked)));

        assert!(a.remoting().unblock_system(&listed) && !a.remoting().unblock_system(&listed));
        sim.run(s(2));
        assert!(a.is_connected_to(&b) && b.is_connected_to(&a));
        to_b.tell(Talk::Say(2));
        to_a.tell(Talk::Say(2));
        sim.run(s(1));
        assert_eq!((numbers(&at_a), numbers(&at_b)), (vec![2], vec![2]), "by the references of before");
        assert_eq!(states(&a), ["connected"]);
    }
}

fn far_error(from: &SimNode, to: &SimNode) -> Option<Refusal> {
    match from.system().resolve::<Talk>(&to.url("/user/other")) {
        Ok(_) => None,
        Err(nexus_actor_core::system::ResolveError::Refused(refusal)) => Some(refusal),
        Err(other) => panic!("{other:?}"),
    }
}

/// Whatever the association is doing when its peer is blocked: nothing more is dialled, accepted or taken, and when it is
/// unblocked it works again, save what was refused for another reason.
///
/// Covers: S127
#[test]
fn a_peer_can_be_blocked_in_every_state() {
    type Prepare = fn(&Simulation, &SimNode, &SimNode);
    let cases: [(&str, Prepare); 8] = [
        ("unassociated", |_, _, _| {}),
        ("associating", |_, a, _| {
            a.link().set_dials(DialFate::Hold);
        }),
        ("gated", |_, a, _| {
            a.link().set_dials(DialFate::Refuse);
        }),
        ("connected", |_, _, _| {}),
        ("suspended", |_, a, b| a.remoting().suspend(&b.authority().to_string()).unwrap()),
        ("lost", |sim, a, _| {
            a.link().set_dials(DialFate::Refuse);
            a.link().cut(Cut::Reset);
            sim.settle();
        }),
        ("quarantined", |_, a, b| {
            a.remoting().quarantine(&b.authority().to_string(), QuarantineReason::ByOperator);
        }),
        ("quarantined for a while", |_, a, b| {
            a.remoting().quarantine(&b.authority().to_string(), QuarantineReason::Unreachable);
        }),
    ];
    for (name, prepare) in cases {
        let (sim, [a, b]) = nodes(1_271, ["a", "b"]);
        parrot(b.system(), "parrot");
        parrot(a.system(), "parrot");
        let (to_b, to_a) = (far(&a, &b, "/user/parrot"), far(&b, &a, "/user/parrot"));
        let fresh = matches!(name, "unassociated" | "associating" | "gated");
        if !fresh {
            assert_eq!(sim.wait(s(2), to_b.ask(|r| Talk::Echo(0, r))), Some(Ok(0)), "{name}");
        }
        prepare(&sim, &a, &b);
        if matches!(name, "associating" | "gated") {
            to_b.tell(Talk::Say(0));
        }
        sim.settle();
        a.remoting().block_system("b").unwrap();
        a.link().set_dials(DialFate::Pass);
        let dialled = a.link().counts().dialled;
        assert_eq!(to_b.try_tell(Talk::Say(1)).map_err(|e| e.refusal), Err(Refusal::Blocked), "{name}");
        let ask = to_a.ask(|r| Talk::Echo(9, r)).timeout(s(5));
        assert!(matches!(sim.wait(s(6), ask), Some(Err(_))), "{name}");
        sim.run(s(120));
        assert_eq!(a.link().counts().dialled, dialled, "{name}: nothing is dialled");
        assert!(!a.is_connected_to(&b) && states(&a) == ["blocked"], "{name}: {:?}", states(&a));

        assert!(a.remoting().unblock_system("b"));
        if name == "quarantined" {
            assert_eq!(to_b.try_tell(Talk::Say(1)).map_err(|e| e.refusal), Err(Refusal::Quarantined));
            a.remoting().recover(&b.authority().to_string()).unwrap();
        }
        sim.run(s(2));
        for (to, n) in [(&to_b, 1), (&to_a, 2)] {
            assert_eq!(sim.wait(s(2), to.ask(|r| Talk::Echo(n, r))), Some(Ok(n)), "{name} {n}");
        }
    }
}

/// However far the handshake of a peer has come: once it is blocked, nothing of it arrives.
///
/// Covers: S127
#[test]
fn a_peer_can_be_blocked_at_every_step_of_its_handshake() {
    let mut connected = 0;
    for steps in 0..40 {
        let (sim, [a, b]) = nodes(1_272, ["a", "b"]);
        let ear = probe(a.system(), "ear");
        // One small read at a time, so that the handshake takes many turns.
        a.link().throttle(Some(16));
        let to_a = far(&b, &a, "/user/ear");
        to_a.tell(Talk::Say(0));
        for _ in 0..steps {
            sim.run(ms(1));
        }
        connected += usize::from(a.is_connected_to(&b));
        a.remoting().block_system(&b.authority().to_string()).unwrap();
        let heard = ear.take_messages().len();
        to_a.tell(Talk::Say(1));
        sim.run(s(30));
        assert!(!a.is_connected_to(&b), "{steps}");
        assert!(ear.len() <= 1 - heard, "{steps}: nothing beyond what was on its way");
        a.link().throttle(None);
        a.remoting().unblock_system(&b.authority().to_string());
        to_a.tell(Talk::Say(2));
        sim.run(s(6));
        assert_eq!(numbers(&ear).last(), Some(&2), "{steps}");
    }
    assert!(connected > 0 && connected < 40, "{connected}");
}

/// With an allow list, whoever is not on it is refused as one who is blocked is, from the start and when it changes.
///
/// Covers: S127
#[test]
fn an_allow_list_refuses_all_others() {
    let sim = simulation(1_273);
    let a = know(sim.node_with("a", |config| config.with_allowed_systems(["c"])));
    let (b, c) = (know(sim.node("b")), know(sim.node("c")));
    for node in [&a, &b, &c] {
        parrot(node.system(), "parrot");
    }
    let ask = |from: &SimNode, to: &SimNode| {
        let to = from.system().resolve::<Talk>(&to.url("/user/parrot"));
        to.ok().and_then(|to| sim.wait(s(9), to.ask(|r| Talk::Echo(1, r)).timeout(s(8)))?.ok())
    };
    assert_eq!((ask(&a, &b), ask(&b, &a), ask(&a, &c), ask(&c, &a)), (None, None, Some(1), Some(1)));
    assert!(refusals(&a, RefusedBy::Us) >= 1 && refusals(&b, RefusedBy::Peer) >= 1);
    assert_eq!(a.remoting().list_allowed_systems(), Some(vec!["c".to_string()]));
    // The other way round, c is cut off. The block list is the stronger one.
    a.remoting().set_allowed_systems(Some(vec!["b".to_string()])).unwrap();
    sim.run(s(1));
    assert!(!a.is_connected_to(&c));
    sim.run(s(30));
    assert_eq!((ask(&a, &b), ask(&b, &a), ask(&a, &c), ask(&c, &a)), (Some(1), Some(1), None, None));
    a.remoting().block_system("b").unwrap();
    sim.run(s(30));
    assert_eq!((ask(&a, &b), ask(&a, &c)), (None, None));
    a.remoting().set_allowed_systems(None).unwrap();
    sim.run(s(10));
    assert_eq!((ask(&a, &b), ask(&a, &c), ask(&c, &a)), (None, Some(1), Some(1)));
    for wrong in ["".to_string(), "x".repeat(256)] {
        assert!(matches!(a.remoting().block_system(&wrong), Err(RemotingError::Config(_))));
        assert!(matches!(a.remoting().set_allowed_systems(Some(vec![wrong])), Err(RemotingError::Config(_))));
    }
    assert_eq!((a.remoting().list_allowed_systems(), a.remoting().list_blocked_systems().len()), (None, 1));
}
