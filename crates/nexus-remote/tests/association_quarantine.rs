//! Ending sessions: quarantine, recovery, leaving.

#![allow(clippy::unwrap_used, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

mod association_support;

use association_support::*;
use nexus_actor_core::path::ActorUid;
use nexus_actor_core::{DeadLetterReason, Refusal, TerminationReason};
use nexus_remote::association::*;
use nexus_remote::wire::*;

fn pair(seed: u64) -> Net {
    let mut net = Net::new(2, seed);
    net.tell(0, 1, 0);
    net.tell(1, 0, 0);
    net.run(S(2));
    net
}

fn by_operator(net: &mut Net, node: usize, peer: usize) {
    net.with_side(node, peer, |a, now| a.quarantine(now, None, QuarantineReason::ByOperator));
}

/// Covers: S67, S68, S72
#[test]
fn nothing_passes_in_either_direction_and_both_sides_are_told_once() {
    let mut net = pair(67);
    net.nodes[1].deaf = true;
    for n in 1..=5 {
        net.tell(0, 1, n);
    }
    by_operator(&mut net, 0, 1);
    let taken = [(DeadLetterReason::Unconfirmed, 5)];
    assert_eq!(net.side(0, 1).lost(), taken, "what a connection had taken, of which nobody knows");
    assert!(matches!(net.send(0, 1, "/user/a", 0, 9, 16), Err(Refusal::Quarantined)));
    net.nodes[1].deaf = false;
    net.catch_up(1);
    net.run(S(30));
    let before = net.numbers(0).len();
    for n in 1..=5 {
        let _may_be_refused = net.send(1, 0, "/user/a", 0, n, 16);
    }
    net.run(S(60));
    assert_eq!(net.numbers(0).len(), before, "none is delivered from it");
    let events = &net.side(0, 1).events;
    let told: Vec<_> = events
        .iter()
        .filter_map(|e| match e {
            AssociationEvent::Quarantined { uid, reason, deadline, facts } => {
                Some((*uid, *reason, *deadline, facts.clone()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].0, told[0].1, told[0].2),
        (Some(ActorUid::new(2)), QuarantineReason::ByOperator, None)
    );
    assert!(!told[0].3.is_empty());
    let peer = net.side(1, 0);
    assert_eq!(peer.count(|e| matches!(e, AssociationEvent::QuarantinedByPeer { .. })), 1);
    assert_eq!(peer.quarantined(), [], "not in return");
    net.check_accounting(0, 1);
    net.check_accounting(1, 0);
}

/// Covers: S69, S73
#[test]
fn a_new_incarnation_is_accepted_at_once() {
    for (restarted, dials) in [(1, 1), (1, 0), (0, 0), (0, 1)] {
        let mut net = pair(69);
        by_operator(&mut net, 0, 1);
        net.run(S(5));
        net.kill(restarted);
        net.start(restarted, 700);
        if restarted == 1 && dials == 0 {
            // Who quarantined for good does not look for the next incarnation; it comes by itself.
            assert!(net.send(0, 1, "/user/a", 0, 1, 16).is_err());
        }
        let other = 1 - dials;
        if restarted == 1 {
            net.tell(1, 0, 50);
            net.run(S(7));
            assert_eq!(net.numbers(0).last(), Some(&50), "{restarted} {dials}");
            net.tell(0, 1, 51);
            net.run(S(2));
            assert_eq!(net.numbers(1).last(), Some(&51), "{restarted} {dials}");
        } else {
            net.tell(dials, other, 60);
            net.run(S(7));
            assert_eq!(net.numbers(other).last(), Some(&60), "{restarted} {dials}");
        }
    }
}

/// Covers: S70
#[test]
fn a_quarantined_uid_that_keeps_probing_costs_nothing() {
    let mut net = pair(70);
    by_operator(&mut net, 0, 1);
    for n in 0..200 {
        let _queued = net.send(1, 0, "/user/a", 0, n, 16);
        net.run(S(18));
        assert!(net.open_connections() <= 1);
    }
    assert_eq!(net.side(0, 1).state(), StateKind::Quarantined);
    let notices = net.side(0, 1).count(|e| matches!(e, AssociationEvent::RefusedPeer { .. }));
    assert!(notices <= 3_600 / 30 + 1, "{notices} in an hour");
    assert_eq!(net.side(1, 0).count(|e| matches!(e, AssociationEvent::QuarantinedByPeer { .. })), 1);
    assert_eq!(net.side(0, 1).association.quarantined_uids().count(), 1);
}

/// Covers: S74
#[test]
fn quarantining_an_old_uid_leaves_the_newer_one_untouched() {
    let mut net = pair(74);
    let old = ActorUid::new(555);
    net.with_side(0, 1, |a, now| a.quarantine(now, Some(old), QuarantineReason::ByOperator));
    net.tell(0, 1, 1);
    net.run(S(1));
    assert_eq!(net.numbers(1), [0, 1]);
    assert_eq!(net.side(0, 1).state(), StateKind::Connected);
    let remembered: Vec<_> = net.side(0, 1).association.quarantined_uids().map(|q| q.uid).collect();
    assert_eq!(remembered, [old]);
    // The old one is refused from now on, as a claim as well as by name.
    net.kill(1);
    net.start(1, 555);
    net.tell(1, 0, 9);
    net.run(S(5));
    assert_eq!(net.numbers(0), [0]);
}

/// Covers: S76
#[test]
fn recovery_starts_a_new_session_without_a_restart() {
    for healer in [0, 1] {
        let mut net = pair(76);
        net.watch(0, 1, "/user/a", 77, 1);
        net.watch(1, 0, "/user/a", 77, 2);
        net.run(S(2));
        let session = net.side(0, 1).inbound.session();
        // Under way when the session ends, and taken by nobody.
        net.partition(0, 1);
        for (node, peer) in [(0, 1), (1, 0)] {
            for n in 0..3 {
                let path = net.path(peer, &format!("/user/s{n}"), 5);
                net.with_side(node, peer, |a, now| a.stop(now, &path)).unwrap();
            }
        }
        net.run(MS(10));
        net.heal(0, 1);
        by_operator(&mut net, healer, 1 - healer);
        net.run(S(20));
        for (node, peer) in [(0, 1), (1, 0)] {
            let given_up =
                net.side(node, peer).count(|e| matches!(e, AssociationEvent::SystemMessageLost { .. }));
            assert_eq!(given_up, 3, "{healer} {node}");
            assert!(net.nodes[node].stops.is_empty(), "{healer} {node}");
            let notices = &net.side(node, peer).notices;
            assert_eq!(notices.len(), 1, "{healer} {node}");
            assert_eq!(notices[0].reason, TerminationReason::Quarantined);
            assert!(net.nodes[node].watched.is_empty());
        }
        net.with_side(healer, 1 - healer, |a, now| a.recover(now));
        net.run(S(10));
        net.tell(0, 1, 11);
        net.tell(1, 0, 12);
        net.run(S(5));
        assert_eq!(net.numbers(1).last(), Some(&11), "{healer}");
        assert_eq!(net.numbers(0).last(), Some(&12), "{healer}");
        assert_ne!(net.side(0, 1).inbound.session(), session);
        net.watch(0, 1, "/user/a", 77, 1);
        net.run(S(2));
        net.stop_actor(1, "/user/a");
        net.run(S(2));
        assert_eq!(net.side(0, 1).notices.len(), 2);
    }
}

/// A healed partition needs no operator: the quarantine of an unreachable peer has a deadline.
#[test]
fn a_healed_partition_recovers_by_itself() {
    let mut net = pair(64);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(20));
    net.partition(0, 1);
    net.run(S(15));
    assert_eq!(net.side(0, 1).state(), StateKind::Quarantined);
    net.heal(0, 1);
    net.run(S(60));
    assert_eq!(net.side(0, 1).state(), StateKind::Connected);
    net.tell(0, 1, 1);
    net.run(S(1));
    assert_eq!(net.numbers(1), [0, 1]);
    assert_eq!(net.side(0, 1).notices.len(), 1);
}

/// Covers: S75
#[test]
fn a_removed_association_leaves_its_refusals_behind() {
    let mut net = pair(75);
    by_operator(&mut net, 0, 1);
    net.kill(1);
    net.run(S(3_700));
    assert_eq!(net.side(0, 1).count(|e| matches!(e, AssociationEvent::Unused)), 1);
    let kept: Vec<_> = net.side(0, 1).association.quarantined_uids().copied().collect();
    assert_eq!(kept.len(), 1);
    net.nodes[0].sides.clear();
    net.start(1, 2);
    net.side(0, 1).association.remember_quarantined(kept);
    net.tell(1, 0, 5);
    net.run(S(5));
    assert_eq!(net.numbers(0), [0], "still refused");
}

/// Covers: S71
#[test]
fn a_peer_that_leaves_is_not_a_failure() {
    let mut net = pair(71);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(2));
    net.with_side(1, 0, |a, now| a.leave(now));
    net.run(S(2));
    let side = net.side(0, 1);
    assert_eq!(side.count(|e| matches!(e, AssociationEvent::Left { .. })), 1);
    assert_eq!(side.quarantined(), []);
    assert_eq!(side.notices[0].reason, TerminationReason::Left);
    assert_eq!(side.state(), StateKind::Unassociated);
    let left = side.association.quarantined_uids().next().copied().unwrap();
    assert_eq!((left.uid, left.reason), (ActorUid::new(2), QuarantineReason::Left));
    assert_eq!(net.side(1, 0).count(|e| matches!(e, AssociationEvent::Closed { clean: true })), 1);
    assert_eq!(net.side(1, 0).quarantined(), []);
    // Its next incarnation is welcome, in both directions.
    net.kill(1);
    net.start(1, 30);
    net.tell(0, 1, 7);
    net.run(S(2));
    assert_eq!(net.numbers(1), [7]);
}

/// Covers: S108
#[test]
fn an_orderly_leave_delivers_everything_accepted_before() {
    let mut net = pair(108);
    net.latency = MS(20);
    for n in 1..2_000 {
        net.tell(0, 1, n);
    }
    net.with_side(0, 1, |a, now| a.leave(now));
    assert!(matches!(net.send(0, 1, "/user/a", 0, 9_999, 16), Err(Refusal::Shutdown)));
    net.run(S(2));
    assert_eq!(net.numbers(1), (0..2_000).collect::<Vec<_>>());
    assert_eq!(net.side(0, 1).lost(), []);
    assert_eq!(net.side(0, 1).count(|e| matches!(e, AssociationEvent::Closed { clean: true })), 1);
    assert_eq!(net.side(1, 0).count(|e| matches!(e, AssociationEvent::Left { .. })), 1);
    net.check_accounting(0, 1);
}

/// Who leaves right behind an answer has confirmed it: the peer records nothing as lost.
///
/// Covers: S108, S142
#[test]
fn a_leave_confirms_the_answer_it_had_just_before() {
    let mut net = pair(142);
    net.latency = MS(1);
    net.run(S(1));
    let (probe, _) = net.ask(0, 1, "/user/a").unwrap();
    net.run_till(S(1), |_| probe.result().is_some());
    assert!(matches!(probe.result(), Some(Ok(_))));
    net.with_side(0, 1, |a, now| a.leave(now));
    net.run(S(2));
    assert_eq!(net.side(0, 1).count(|e| matches!(e, AssociationEvent::Closed { clean: true })), 1);
    assert_eq!(net.side(1, 0).count(|e| matches!(e, AssociationEvent::Left { .. })), 1);
    assert_eq!(net.side(1, 0).lost(), []);
    net.check_accounting(1, 0);
}

/// Covers: S109
#[test]
fn a_leave_ends_in_time_whatever_the_peer_does() {
    for fault in 0..4 {
        let mut net = pair(109);
        match fault {
            0 => net.nodes[1].deaf = true,
            1 => net.partition(0, 1),
            2 => net.kill(1),
            _ => {
                net.partition(0, 1);
                net.cut(0, 1);
            }
        }
        net.run(MS(1));
        for n in 1..=10 {
            net.tell(0, 1, n);
        }
        net.with_side(0, 1, |a, now| a.leave(now));
        let closed =
            |net: &mut Net| net.side(0, 1).count(|e| matches!(e, AssociationEvent::Closed { .. })) == 1;
        let took = net.run_till(S(4), closed);
        assert!(took <= S(3), "{fault}: {took:?}");
        let lost: u64 = net.side(0, 1).lost().iter().map(|l| l.1).sum();
        assert_eq!(lost, 10, "{fault}");
        assert!(
            net.side(0, 1)
                .lost()
                .iter()
                .all(|l| matches!(l.0, DeadLetterReason::Shutdown | DeadLetterReason::Unconfirmed)),
            "{fault}"
        );
        assert_eq!(net.side(0, 1).association.poll_timeout(), None, "{fault}: nothing is left to wait for");
        net.check_accounting(0, 1);
    }
}

/// Covers: S110, S111
#[test]
fn leaving_twice_or_during_a_handshake_ends_once_and_opens_nothing() {
    for stage in 0..4 {
        let mut net = Net::new(2, 111);
        if stage == 1 {
            net.nodes[1].up = false;
        }
        net.tell(0, 1, 0);
        match stage {
            0 | 1 => {}
            2 => net.run(MS(2)),
            _ => net.run(S(1)),
        }
        for _ in 0..3 {
            net.with_side(0, 1, |a, now| a.leave(now));
        }
        net.run(S(5));
        let dials = net.dials;
        for n in 0..3 {
            assert!(matches!(net.send(0, 1, "/user/a", 0, n, 16), Err(Refusal::Shutdown)));
        }
        net.watch(0, 1, "/user/a", 77, 1);
        net.with_side(0, 1, |a, now| {
            a.associate(now);
            a.leave(now);
            a.abort(now);
        });
        net.run(S(30));
        assert_eq!(net.dials, dials, "{stage}");
        let closed = net.side(0, 1).count(|e| matches!(e, AssociationEvent::Closed { .. }));
        assert_eq!(closed, 1, "{stage}");
        assert_eq!(net.side(0, 1).notices[0].reason, TerminationReason::Shutdown);
        assert_eq!(net.open_connections(), 0, "{stage}");
        net.check_accounting(0, 1);
    }
}

/// Covers: HS-41
#[test]
fn a_protocol_fault_ends_the_session_until_an_operator_recovers_it() {
    let mut net = pair(41);
    let conn = net.side(0, 1).association.live_connection().unwrap();
    net.with_side(0, 1, |a, now| {
        a.handle_fault(now, conn, QuarantineReason::FrameTooLong, &"a frame of 4 GiB");
    });
    net.run(S(120));
    assert_eq!(net.side(0, 1).quarantined(), [QuarantineReason::FrameTooLong]);
    assert_eq!(net.side(0, 1).state(), StateKind::Quarantined);
    net.with_side(0, 1, |a, now| a.recover(now));
    net.run(S(10));
    net.tell(0, 1, 1);
    net.run(S(5));
    assert_eq!(net.numbers(1), [0, 1]);
}

/// Suspended by hand: what is sent waits within the bounds, heartbeats go on, and nobody is suspected.
#[test]
fn a_suspension_by_hand_holds_messages_and_keeps_the_peer_alive() {
    let mut net = pair(77);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(5));
    net.with_side(0, 1, |a, now| a.suspend(now));
    net.tell(0, 1, 1);
    net.run(S(60));
    assert_eq!(net.numbers(1), [0]);
    assert!(!net.side(0, 1).association.accepts_ordinary());
    assert_eq!((net.side(0, 1).notices.len(), net.side(1, 0).quarantined()), (0, vec![]));
    net.with_side(0, 1, |a, now| a.resume(now));
    net.run(S(2));
    assert_eq!(net.numbers(1), [0, 1]);
    assert_eq!(net.side(0, 1).state(), StateKind::Connected);
}
