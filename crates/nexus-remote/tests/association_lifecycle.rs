//! Associating, losing and resuming connections, incarnations.

#![allow(clippy::unwrap_used, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

mod association_support;

use std::time::Duration;

use association_support::*;
use nexus_actor_core::path::ActorUid;
use nexus_actor_core::{DeadLetterReason, Instant};
use nexus_remote::association::*;

/// Covers: S17
#[test]
fn nothing_reaches_the_peer_before_the_handshake_is_complete_and_all_of_it_after() {
    for seed in 0..50 {
        let mut net = Net::new(2, seed);
        net.latency = MS(10);
        // The handshake takes its time.
        (net.loss, net.jitter) = (0.3, MS(200));
        let stop = net.path(1, "/user/s0", 5);
        net.tell(0, 1, 0);
        net.with_side(0, 1, |a, now| a.stop(now, &stop)).unwrap();
        net.watch(0, 1, "/user/a", 77, 1);
        let mut sent = 1;
        for _ in 0..400 {
            if net.side(0, 1).associated() == 0 {
                net.tell(0, 1, sent);
                sent += 1;
            }
            net.run(MS(5));
            let met = net.nodes[1].sides.get(&0).is_some_and(|side| side.associated() > 0);
            let seen = net.nodes[1].delivered.len() + net.nodes[1].stops.len() + net.nodes[1].watched.len();
            assert!(met || seen == 0, "seed {seed}: {seen} of them before");
        }
        (net.loss, net.jitter) = (0.0, MS(0));
        net.run(S(20));
        assert_eq!(net.numbers(1), (0..sent).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!((net.nodes[1].stops.len(), net.nodes[1].watched.len()), (1, 1), "seed {seed}");
    }
}

/// Covers: S1, TST-60
#[test]
fn the_first_send_associates_and_arrives() {
    let mut net = Net::new(2, 1);
    for n in 0..5 {
        net.tell(0, 1, n);
    }
    assert!(net.nodes[1].delivered.is_empty());
    net.run(S(1));
    assert_eq!(net.numbers(1), [0, 1, 2, 3, 4]);
    for (node, peer) in [(0, 1), (1, 0)] {
        assert_eq!(net.side(node, peer).associated(), 1, "{node}");
        assert_eq!(net.side(node, peer).association.remote().cloned(), Some(net.id(peer)));
        net.check_accounting(node, peer);
    }
    let s = net.side(0, 1).association.statistics();
    assert_eq!((s.sent, s.acknowledged, s.in_flight), (5, 5, 0));
}

fn unreachable(net: &mut Net) -> Vec<(DeadLetterReason, u64)> {
    net.side(0, 1).lost()
}

/// Covers: S2
#[test]
fn what_was_sent_before_the_peer_listens_arrives_in_order() {
    let mut net = Net::new(2, 2);
    net.nodes[1].up = false;
    for n in 0..100 {
        net.tell(0, 1, n);
    }
    net.run(S(15));
    net.nodes[1].up = true;
    let took = net.run_till(S(1), |net| net.nodes[1].delivered.len() == 100);
    assert!(took <= MS(600), "{took:?}");
    assert_eq!(net.numbers(1), (0..100).collect::<Vec<_>>());
    assert_eq!(unreachable(&mut net), []);
}

/// Covers: S3
#[test]
fn an_address_never_reached_is_given_up_and_the_next_send_starts_afresh() {
    let mut net = Net::new(2, 3);
    net.nodes[1].up = false;
    for n in 0..10 {
        net.tell(0, 1, n);
    }
    net.run(MS(19_990));
    assert_eq!(unreachable(&mut net), []);
    net.run(MS(20));
    assert_eq!(unreachable(&mut net), [(DeadLetterReason::Unreachable, 10)]);
    assert_eq!(net.side(0, 1).state(), StateKind::Unassociated);
    assert_eq!(net.side(0, 1).quarantined(), []);
    net.check_accounting(0, 1);
    let dials = net.dials;
    net.run(S(100));
    assert_eq!(net.dials, dials, "nothing waits, nothing is dialled");
    net.nodes[1].up = true;
    net.tell(0, 1, 10);
    net.run(S(1));
    assert_eq!(net.numbers(1), [10]);
}

/// Covers: S4
#[test]
fn a_simultaneous_first_dial_ends_with_one_association_and_every_message() {
    for (seed, skew) in (0..200).map(|s| (s, Duration::from_micros(s * 30))) {
        for first in [0, 1] {
            let mut net = Net::new(2, seed);
            let second = 1 - first;
            net.tell(first, second, 1);
            net.run(skew);
            net.tell(second, first, 2);
            net.run(S(3));
            assert_eq!((net.numbers(second), net.numbers(first)), (vec![1], vec![2]), "{seed} {first}");
            assert_eq!(net.open_connections(), 1, "{seed} {first}");
            for (node, peer) in [(0, 1), (1, 0)] {
                assert_eq!(net.side(node, peer).associated(), 1, "{seed} {first} {node}");
                assert_eq!(net.side(node, peer).lost(), []);
                net.check_accounting(node, peer);
            }
        }
    }
}

/// The larger uid keeps the connection it dialled, and a side that lost the race does not disturb it.
#[test]
fn the_larger_uid_keeps_its_outbound_connection() {
    let mut net = Net::new(2, 9);
    net.tell(0, 1, 1);
    net.tell(1, 0, 2);
    net.run(S(1));
    let live = net.side(1, 0).association.live_connection().unwrap();
    assert!(!live.is_accepted(), "{live}");
    assert!(net.side(0, 1).association.live_connection().unwrap().is_accepted());
}

/// Covers: S5
#[test]
fn the_first_message_arrives_when_the_peer_dialled_first() {
    let mut net = Net::new(2, 5);
    net.with_side(1, 0, |a, now| a.associate(now));
    net.run(S(1));
    let dials = net.dials;
    net.tell(0, 1, 1);
    net.run(S(1));
    assert_eq!(net.numbers(1), [1]);
    assert_eq!(net.dials, dials);
}

/// Covers: S6, S142
#[test]
fn a_broken_connection_is_made_again_and_nothing_is_lost() {
    let mut net = Net::new(2, 6);
    net.tell(0, 1, 0);
    net.run(S(2));
    for n in 1..50 {
        net.tell(0, 1, n);
    }
    net.cut(0, 1);
    for n in 50..100 {
        net.tell(0, 1, n);
    }
    net.run(S(2));
    assert_eq!(net.numbers(1), (0..100).collect::<Vec<_>>());
    for (node, peer) in [(0, 1), (1, 0)] {
        let uid = net.nodes[peer].uid;
        let side = net.side(node, peer);
        assert_eq!((side.associated(), side.disconnected()), (2, 1), "{node}");
        assert!(side.events.iter().all(|e| match e {
            AssociationEvent::Associated { remote, .. } => remote.uid() == uid,
            AssociationEvent::Disconnected { uid: lost, .. } => *lost == uid,
            _ => true,
        }));
        assert_eq!(side.lost(), []);
        net.check_accounting(node, peer);
    }
}

/// Covers: S7
#[test]
fn a_known_peer_is_tried_for_ever_without_haste() {
    let mut net = Net::new(2, 7);
    net.tell(0, 1, 0);
    net.run(S(2));
    net.partition(0, 1);
    net.cut(0, 1);
    net.tell(0, 1, 1);
    let before = net.dials;
    net.run(S(3_600));
    let dials = net.dials - before;
    // Of both ends: each attempt takes the connect timeout of 5 s and a wait of 4 s to 5 s.
    assert!((700..=820).contains(&dials), "{dials} dials in an hour");
    assert!(net.side(0, 1).association.statistics().in_flight == 1);
    net.heal(0, 1);
    net.run(S(11));
    assert_eq!(net.numbers(1), [0, 1]);
}

/// Covers: S8, S25
#[test]
fn an_idle_connection_closes_and_the_next_send_opens_it_again() {
    let mut net = Net::new(2, 8);
    net.tell(0, 1, 0);
    net.run(S(290));
    assert_eq!(net.open_connections(), 1);
    net.run(S(30));
    assert_eq!(net.open_connections(), 0);
    assert_eq!(net.side(0, 1).state(), StateKind::Suspended);
    let uid = net.nodes[1].uid;
    assert_eq!(net.side(0, 1).association.remote().map(|r| r.uid()), Some(uid));
    let dials = net.dials;
    net.run(S(600));
    assert_eq!(net.dials, dials, "idle is not broken");
    net.tell(0, 1, 1);
    net.run(S(1));
    assert_eq!(net.numbers(1), [0, 1]);
    let resumed = net.side(0, 1).count(|e| matches!(e, AssociationEvent::Associated { resumed: true, .. }));
    assert_eq!(resumed, 1);
}

/// The identity and what is unacknowledged outlive the connection that was closed.
///
/// Covers: S8, S51
#[test]
fn what_is_unacknowledged_outlives_an_idle_close() {
    let mut net = Net::new(2, 88);
    net.tell(0, 1, 0);
    net.run(S(2));
    // Every control frame is lost: the messages, their acknowledgements, the beats.
    net.loss = 1.0;
    for n in 0..5 {
        let path = net.path(1, &format!("/user/s{n}"), 5);
        net.with_side(0, 1, |a, now| a.stop(now, &path)).unwrap();
    }
    net.run_till(S(590), |net| net.open_connections() == 0);
    let s = net.side(0, 1).association.statistics();
    assert_eq!(s.system_messages, 5, "they remain");
    let uid = net.nodes[1].uid;
    assert_eq!(net.side(0, 1).association.remote().map(|r| r.uid()), Some(uid));
    net.loss = 0.0;
    net.tell(0, 1, 1);
    net.run(S(10));
    assert_eq!(net.nodes[1].stops, (0..5).map(|n| format!("/user/s{n}")).collect::<Vec<_>>());
    assert_eq!(net.numbers(1), [0, 1]);
}

/// Covers: S9
#[test]
fn nothing_is_lost_to_a_concurrent_idle_close() {
    for skew in 0..400 {
        let mut net = Net::new(2, skew);
        net.tell(0, 1, 0);
        net.run(S(1));
        // One side closes for idleness while the other sends, at every offset around it.
        net.run_till(S(400), |net| net.open_connections() == 0 || net.now >= Instant::from_millis(300_995));
        net.run(Duration::from_micros(skew * 25));
        net.tell(0, 1, 1);
        net.tell(1, 0, 2);
        net.watch(0, 1, "/user/a", 77, 1);
        net.run(S(3));
        assert_eq!((net.numbers(1), net.numbers(0)), (vec![0, 1], vec![2]), "{skew}");
        assert_eq!(net.nodes[1].watched.len(), 1, "{skew}");
        assert_eq!(net.side(0, 1).lost(), []);
    }
}

/// Covers: S10
#[test]
fn a_restarted_peer_is_usable_within_a_second_of_listening() {
    for dead_for in [0, 1, 7, 30, 55] {
        let mut net = Net::new(2, dead_for);
        net.tell(0, 1, 0);
        net.run(S(2));
        net.kill(1);
        net.run(S(dead_for));
        net.tell(0, 1, 1);
        net.run(MS(10));
        net.start(1, 1_000);
        net.tell(0, 1, 2);
        let took = net.run_till(S(2), |net| net.nodes[1].delivered.len() == 2);
        assert!(took <= S(1), "{dead_for}: {took:?}");
        assert_eq!(net.numbers(1), [1, 2], "{dead_for}");
        let known = net.side(0, 1).association.remote().map(|r| r.uid().get());
        assert_eq!(known, Some(1_000));
    }
}

/// As S10, with watches across: the quarantine of the old incarnation does not keep names from the new one.
#[test]
fn a_watched_peer_that_restarts_is_usable_within_a_second() {
    for dead_for in [1, 2, 5, 20] {
        let mut net = Net::new(2, dead_for);
        net.watch(0, 1, "/user/a", 77, 1);
        net.run(S(2));
        net.kill(1);
        net.run(S(dead_for));
        net.tell(0, 1, 1);
        net.start(1, 1_000);
        let took = net.run_till(S(2), |net| net.nodes[1].delivered.len() == 1);
        assert!(took <= S(1), "{dead_for}: {took:?}");
        assert_eq!(net.side(0, 1).notices.len(), 1, "{dead_for}");
    }
}

/// Covers: S11, S12
#[test]
fn old_references_do_not_reach_the_new_incarnation() {
    let mut net = Net::new(2, 11);
    let _sent = net.send(0, 1, "/user/a", 77, 0, 16).unwrap();
    net.run(S(2));
    net.kill(1);
    net.run(MS(500));
    for n in 1..=3 {
        let _sent = net.send(0, 1, "/user/a", 77, n, 16).unwrap();
    }
    net.tell(0, 1, 4);
    net.nodes[1].actors.insert("/user/a".into(), ActorUid::new(78));
    net.start(1, 1_000);
    net.run(S(2));
    assert_eq!(net.numbers(1), [4], "only what was for the name");
    assert_eq!(net.side(0, 1).lost(), [(DeadLetterReason::NoSuchActor, 3)]);
    net.check_accounting(0, 1);
}

/// Covers: S161
#[test]
fn what_an_incarnation_took_with_it_is_unconfirmed() {
    let mut net = Net::new(2, 161);
    net.tell(0, 1, 0);
    net.run(S(2));
    net.latency = MS(50);
    for n in 1..=20 {
        net.tell(0, 1, n);
    }
    net.run(MS(10));
    let delivered_before = net.nodes[1].delivered.len() as u64;
    net.kill(1);
    let taken = net.nodes[1].delivered.len() as u64 - delivered_before;
    for n in 21..=25 {
        net.tell(0, 1, n);
    }
    net.start(1, 1_000);
    net.run(S(3));
    // The acknowledgement of what the old one took died with it.
    assert!(taken <= 20);
    assert_eq!(net.side(0, 1).lost(), [(DeadLetterReason::Unconfirmed, 20)]);
    assert_eq!(net.numbers(1), [21, 22, 23, 24, 25]);
    let s = net.side(0, 1).association.statistics();
    assert_eq!((s.sent, s.acknowledged, s.lost, s.in_flight), (26, 6, 20, 0));
}

/// Covers: S13
#[test]
fn a_peer_that_restarts_every_second_leaves_no_state_behind() {
    let mut net = Net::new(2, 13);
    for round in 0..60 {
        net.start(1, 1_000 + round);
        for n in 0..3 {
            net.tell(0, 1, round * 10 + n);
        }
        let known = move |net: &mut Net| {
            net.side(0, 1).association.remote().is_some_and(|r| r.uid().get() == 1_000 + round)
        };
        let took = net.run_till(S(2), known);
        assert!(took <= S(1), "{round}: {took:?}");
        net.run(S(1) - took.min(S(1)));
        net.kill(1);
    }
    assert!(net.side(0, 1).association.quarantined_uids().count() <= 16);
    net.check_accounting(0, 1);
    assert_eq!(net.side(0, 1).quarantined(), []);
}

/// Covers: S15, S143
#[test]
fn every_transition_is_told_once_and_in_order() {
    let mut net = Net::new(2, 15);
    for round in 0..20 {
        net.tell(0, 1, round);
        let pause = net.rng.u64(0..3_000);
        net.run(MS(pause));
        match net.rng.u8(0..4) {
            0 => net.cut(0, 1),
            1 => net.half_open(0, 1),
            2 => {
                net.kill(1);
                net.run(MS(300));
                net.start(1, 5_000 + round);
            }
            _ => {}
        }
    }
    net.run(S(60));
    let side = net.side(0, 1);
    let mut last = StateKind::Unassociated;
    let mut connected = false;
    for event in &side.events {
        match event {
            AssociationEvent::StateChanged(change) => {
                assert_eq!(change.from, last);
                last = change.to.kind();
            }
            AssociationEvent::Associated { .. } => assert!(!std::mem::replace(&mut connected, true)),
            AssociationEvent::Disconnected { .. } => assert!(std::mem::replace(&mut connected, false)),
            _ => {}
        }
    }
    assert_eq!(last, side.state());
    assert!(side.association.history().count() <= 16);
}

/// A connection whose other end is gone without a word is found by the peer's new dial at once.
#[test]
fn a_half_open_connection_moves_over_when_the_peer_names_the_session() {
    let mut net = Net::new(2, 19);
    net.tell(0, 1, 0);
    net.tell(1, 0, 0);
    net.run(S(2));
    net.half_open(0, 1);
    net.tell(1, 0, 1);
    net.tell(0, 1, 1);
    net.run(S(1));
    assert_eq!((net.numbers(0), net.numbers(1)), (vec![0, 1], vec![0, 1]));
    assert_eq!(net.side(0, 1).lost(), []);
}

/// Covers: S98
#[test]
fn an_hour_of_sending_to_a_broken_peer_costs_no_more_than_the_bounds() {
    let config = AssociationConfig::builder().lane_messages_max(1_000).lane_bytes_max(64 * 1024);
    let mut net = Net::with(2, 98, config.build().unwrap());
    net.tell(0, 1, 0);
    net.run(S(2));
    net.kill(1);
    let mut refused = 0;
    for _ in 0..3_600 {
        net.run(S(1));
        for n in 0..5 {
            refused += u64::from(net.send(0, 1, "/user/a", 0, n, 16).is_err());
        }
        let s = net.side(0, 1).association.statistics();
        assert!(s.in_flight <= 1_000 && s.in_flight_bytes <= 64 * 1024, "{s:?}");
    }
    assert!(refused > 16_000);
    assert_eq!(net.side(0, 1).association.statistics().refused, refused);
    net.check_accounting(0, 1);
}

/// Covers: S16
#[test]
fn diagnostics_tell_the_state_since_when_and_why() {
    let mut net = Net::new(2, 16);
    assert_eq!(net.side(0, 1).association.last_change(), None);
    net.tell(0, 1, 0);
    net.run(S(1));
    let change = net.side(0, 1).association.last_change().cloned().unwrap();
    assert_eq!((change.from, change.to.kind()), (StateKind::Associating, StateKind::Connected));
    assert_eq!(change.uid, Some(net.nodes[1].uid));
    net.kill(1);
    net.run(MS(900));
    match net.side(0, 1).association.state() {
        AssociationState::Gated { cause, .. } => assert_eq!(*cause, GateCause::Dial(DialError::Refused)),
        other => panic!("{other:?}"),
    }
    let kinds: Vec<_> = net.side(0, 1).association.history().map(|c| c.to.kind()).collect();
    assert_eq!(kinds[..3], [StateKind::Associating, StateKind::Connected, StateKind::Suspended]);
}
