//! System messages and watches across an association.

#![allow(clippy::unwrap_used, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

mod association_support;

use association_support::*;
use nexus_actor_core::TerminationReason;
use nexus_actor_core::path::ActorUid;
use nexus_remote::association::*;
use nexus_remote::wire::*;

fn reasons(net: &mut Net, node: usize, peer: usize) -> Vec<TerminationReason> {
    net.side(node, peer).notices.iter().map(|n| n.reason.clone()).collect()
}

fn stops(net: &mut Net, from: usize, to: usize, range: std::ops::Range<u64>) {
    for n in range {
        let path = net.path(to, &format!("/user/s{n}"), 5);
        net.with_side(from, to, |a, now| a.stop(now, &path)).unwrap();
    }
}

fn stop_names(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("/user/s{n}")).collect()
}

/// Covers: S42, S43
#[test]
fn a_lost_system_message_holds_up_the_later_ones_and_is_sent_again() {
    // The first, one in the middle, the last, and the acknowledgement of any.
    for (seed, at) in (0..60).flat_map(|seed| [(seed, 0), (seed, 5), (seed, 9)]) {
        let mut net = Net::new(2, seed);
        net.tell(0, 1, 0);
        net.run(S(1));
        for n in 0..10 {
            net.loss = if n == at { 1.0 } else { 0.0 };
            stops(&mut net, 0, 1, n..n + 1);
            net.run(MS(1));
        }
        net.loss = 0.0;
        net.run(S(5));
        assert_eq!(net.nodes[1].stops, stop_names(0..10), "{seed} {at}");
        assert_eq!(net.side(0, 1).association.statistics().system_messages, 0);
    }
    // Acknowledgements are lost: repetitions are acknowledged and not delivered.
    let mut net = Net::new(2, 43);
    net.tell(0, 1, 0);
    net.run(S(1));
    stops(&mut net, 0, 1, 0..10);
    net.run(std::time::Duration::from_micros(500));
    net.loss = 1.0;
    net.run(S(4));
    net.loss = 0.0;
    net.run(S(3));
    assert_eq!(net.nodes[1].stops, stop_names(0..10));
    assert_eq!(net.side(0, 1).association.statistics().system_messages, 0);
}

/// Covers: S44, S46
#[test]
fn system_messages_survive_loss_and_forced_disconnects() {
    for (total, loss, cuts) in [(500, 0.05, false), (5_000, 0.1, true)] {
        // Little is sent again per round: most of it would be thrown away behind the next loss.
        let config = AssociationConfig::builder().system_resend_max(32).build().unwrap();
        let mut net = Net::with(3, total, config);
        net.loss = loss;
        net.duplication = 0.05;
        for n in (0..total).step_by(50) {
            stops(&mut net, 0, 1, n..n + 50);
            stops(&mut net, 1, 0, n..n + 50);
            stops(&mut net, 2, 1, n..n + 50);
            net.run(MS(50));
            if cuts && n % 250 == 0 {
                net.run(S(1));
                net.cut(0, 1);
            }
        }
        // Each loss costs a resend interval of a second, whatever waits behind it.
        let all = 2 * total as usize;
        for _ in 0..150 {
            if net.nodes[1].stops.len() < all || net.nodes[0].stops.len() < total as usize {
                net.run(S(10));
            }
        }
        let mut from_two: Vec<String> = Vec::new();
        let mut from_zero: Vec<String> = Vec::new();
        for (i, name) in net.nodes[1].stops.iter().enumerate() {
            // Both senders stop the same names in the same order: each name comes twice, each series in order.
            if from_zero.len() < total as usize && *name == format!("/user/s{}", from_zero.len()) {
                from_zero.push(name.clone());
            } else {
                assert_eq!(*name, format!("/user/s{}", from_two.len()), "at {i}");
                from_two.push(name.clone());
            }
        }
        assert_eq!((from_zero.len() as u64, from_two.len() as u64), (total, total));
        assert_eq!(net.nodes[0].stops, stop_names(0..total));
        assert_eq!(net.side(0, 1).quarantined(), []);
    }
}

/// Covers: S47
#[test]
fn an_acknowledgement_of_another_session_or_of_the_future_changes_nothing() {
    let mut net = Net::new(2, 47);
    net.tell(0, 1, 0);
    net.run(S(1));
    net.partition(0, 1);
    stops(&mut net, 0, 1, 0..5);
    net.tell(0, 1, 1);
    let conn = net.side(0, 1).association.live_connection().unwrap();
    let session = net
        .side(0, 1)
        .events
        .iter()
        .find_map(|e| match e {
            AssociationEvent::Associated { session, .. } => Some(*session),
            _ => None,
        })
        .unwrap();
    let before = net.side(0, 1).association.statistics();
    for (session, next) in [(session ^ 1, 3), (session, 6), (session, u64::MAX), (session ^ 1, 0)] {
        net.with_side(0, 1, |a, now| {
            a.handle_control(now, conn, ControlFrame::SystemAcknowledge { session, next });
            let next = if next == 3 { 9 } else { next };
            if next != 6 && next != u64::MAX {
                let acknowledge = Acknowledge { session, next, credit_messages: 0, credit_bytes: 0 };
                a.handle_control(now, conn, ControlFrame::Acknowledge(acknowledge));
            }
        });
        let s = net.side(0, 1).association.statistics();
        assert_eq!((s.system_messages, s.in_flight), (before.system_messages, before.in_flight));
    }
    assert_eq!(net.side(0, 1).quarantined(), []);
}

/// Covers: S48
#[test]
fn a_new_incarnation_ends_watches_and_gives_up_system_messages() {
    let mut net = Net::new(2, 48);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(2));
    net.partition(0, 1);
    stops(&mut net, 0, 1, 0..3);
    net.kill(1);
    net.heal(0, 1);
    net.start(1, 900);
    net.tell(0, 1, 1);
    net.run(S(2));
    let given_up = net.side(0, 1).count(|e| matches!(e, AssociationEvent::SystemMessageLost { .. }));
    assert_eq!(given_up, 3);
    assert_eq!(reasons(&mut net, 0, 1), [TerminationReason::Unreachable]);
    stops(&mut net, 0, 1, 7..9);
    net.run(S(1));
    assert_eq!(net.nodes[1].stops, stop_names(7..9), "the sequence starts anew");
}

/// Covers: S49, S64
#[test]
fn a_cut_shorter_than_the_verdict_is_no_death() {
    for seconds in [1, 2, 5, 9] {
        let mut net = Net::new(2, seconds);
        net.watch(0, 1, "/user/a", 77, 1);
        net.run(S(30));
        net.partition(0, 1);
        net.run(MS(500));
        stops(&mut net, 0, 1, 0..3);
        net.tell(0, 1, 1);
        net.run(S(seconds) - MS(500));
        net.heal(0, 1);
        net.run(S(15));
        assert_eq!(net.side(0, 1).quarantined(), [], "{seconds}");
        assert_eq!(net.side(0, 1).notices, [], "{seconds}");
        // A partition swallows what was in the sockets; a transport would repeat it. So does a new connection.
        net.cut(0, 1);
        net.run(S(5));
        assert_eq!(net.nodes[1].stops, stop_names(0..3), "{seconds}");
        assert_eq!(net.numbers(1), [1], "{seconds}");
    }
}

/// Covers: S50
#[test]
fn a_system_message_older_than_the_give_up_time_ends_the_session() {
    let mut net = Net::new(2, 50);
    net.tell(0, 1, 0);
    net.run(S(2));
    net.partition(0, 1);
    net.cut(0, 1);
    stops(&mut net, 0, 1, 0..1);
    net.run(S(598));
    assert_eq!(net.side(0, 1).quarantined(), []);
    net.run(S(4));
    assert_eq!(net.side(0, 1).quarantined(), [QuarantineReason::SystemMessageUndelivered]);
    let lost = net.side(0, 1).count(|e| matches!(e, AssociationEvent::SystemMessageLost { .. }));
    assert_eq!(lost, 1);
}

/// Covers: S50
#[test]
fn who_is_watched_where_nothing_is_taken_any_more_is_told_of() {
    // A detector more patient than the give-up time, so that it is the message's age that decides.
    let mut detector = nexus_remote::failure_detector::DeadlineConfig::default();
    detector.deadline = S(900);
    let detector = nexus_remote::failure_detector::DetectorChoice::Deadline(detector);
    let config = AssociationConfig::builder().detector(detector).refused_verdict(None).build().unwrap();
    let mut net = Net::with(2, 50, config);
    for n in 0..4 {
        net.nodes[1].actors.insert(format!("/user/w{n}"), ActorUid::new(5));
        net.watch(0, 1, &format!("/user/w{n}"), 5, n);
    }
    net.run(S(2));
    net.partition(0, 1);
    net.cut(0, 1);
    stops(&mut net, 0, 1, 0..1);
    net.run(S(598));
    assert_eq!((net.side(0, 1).quarantined(), net.side(0, 1).notices.len()), (vec![], 0));
    net.run(S(4));
    assert_eq!(net.side(0, 1).quarantined(), [QuarantineReason::SystemMessageUndelivered]);
    assert_eq!(net.side(0, 1).notices.len(), 4, "each once");
    net.run(S(60));
    assert_eq!(net.side(0, 1).notices.len(), 4);
}

/// Covers: S45
#[test]
fn what_is_repeated_on_a_slow_link_is_bounded_per_round() {
    let mut net = Net::new(2, 45);
    net.tell(0, 1, 0);
    net.run(S(2));
    // All arrive, no acknowledgement does.
    net.holes.insert((1, 0));
    stops(&mut net, 0, 1, 0..3_000);
    net.run(MS(500));
    let of = |net: &Net| net.frames.get(&FrameKind::System.code()).copied().unwrap_or(0);
    let mut rounds = Vec::new();
    for _ in 0..6 {
        let before = of(&net);
        net.run(S(1));
        rounds.push(of(&net) - before);
    }
    assert!(rounds.iter().all(|frames| *frames <= 256), "{rounds:?}");
    assert!(rounds.iter().any(|frames| *frames > 0), "{rounds:?}");
    net.heal(0, 1);
    net.run(S(30));
    assert_eq!(net.nodes[1].stops, stop_names(0..3_000));
}

/// Covers: S51
#[test]
fn unacknowledged_system_messages_outlive_every_connection() {
    let mut net = Net::new(2, 51);
    net.tell(0, 1, 0);
    net.run(S(2));
    for round in 0..50 {
        stops(&mut net, 0, 1, round * 10..round * 10 + 10);
        let pause = net.rng.u64(0..3_000);
        net.run(std::time::Duration::from_micros(pause));
        net.cut(0, 1);
    }
    net.run(S(20));
    assert_eq!(net.nodes[1].stops, stop_names(0..500));
}

/// Covers: S52, S112
#[test]
fn ten_thousand_watches_end_at_once_without_suspicion() {
    let mut net = Net::new(2, 52);
    for n in 0..10_000 {
        net.nodes[1].actors.insert(format!("/user/w{n}"), ActorUid::new(5));
        net.watch(0, 1, &format!("/user/w{n}"), 5, n);
    }
    net.run(S(5));
    assert_eq!(net.nodes[1].watched.len(), 10_000);
    for n in 0..10_000 {
        net.stop_actor(1, &format!("/user/w{n}"));
        if n % 10 == 0 {
            net.tell(0, 1, n);
        }
    }
    net.with_side(1, 0, |a, now| a.leave(now));
    net.run(S(5));
    assert_eq!(net.side(0, 1).notices.len(), 10_000);
    assert!(reasons(&mut net, 0, 1).iter().all(|r| *r == TerminationReason::Stopped), "before its goodbye");
    assert_eq!(net.side(0, 1).quarantined(), []);
    assert_eq!(net.side(0, 1).count(|e| matches!(e, AssociationEvent::Health { .. })), 0);
    assert_eq!(net.numbers(1).len(), 1_000);
}

/// Covers: S53, S95
#[test]
fn what_cannot_wait_is_one_quarantine_and_what_can_waits() {
    let config = AssociationConfig::builder().system_queue_max(1_100).build().unwrap();
    let mut net = Net::with(2, 53, config);
    net.tell(0, 1, 0);
    net.run(S(2));
    net.nodes[1].deaf = true;
    for n in 0..5_000 {
        net.watch(0, 1, &format!("/user/w{n}"), 5, n);
    }
    assert_eq!(net.side(0, 1).quarantined(), [], "watches wait as wanted state");
    let mut refused = 0;
    for n in 0..1_000 {
        let path = net.path(1, &format!("/user/s{n}"), 5);
        refused += u64::from(net.with_side(0, 1, |a, now| a.stop(now, &path)).is_err());
    }
    assert!(refused > 0);
    assert_eq!(net.side(0, 1).quarantined(), [QuarantineReason::SystemBufferFull]);
    assert_eq!(net.side(0, 1).notices.len(), 5_000);
}

/// Covers: S54, S57, S62
#[test]
fn each_watcher_gets_one_notice_and_the_wire_carries_one() {
    let mut net = Net::new(2, 54);
    for watcher in 0..10 {
        net.watch(0, 1, "/user/a", 77, watcher);
    }
    net.watch(0, 1, "/user/never", 3, 99);
    net.run(S(2));
    net.stop_actor(1, "/user/a");
    net.run(S(2));
    let notices = &net.side(0, 1).notices;
    assert_eq!(notices.len(), 2);
    assert_eq!((notices[0].reason.clone(), notices[0].watchers.len()), (TerminationReason::NeverExisted, 1));
    assert!(!notices[0].reason.existed());
    assert_eq!((notices[1].reason.clone(), notices[1].watchers.len()), (TerminationReason::Stopped, 10));
    assert_eq!(notices[1].target.uid().get(), 77);
    assert_eq!(net.frames.get(&FrameKind::System.code()), Some(&4), "two watches, two notices");
}

/// Covers: S55
#[test]
fn a_notice_never_overtakes_the_last_messages_of_its_actor() {
    for seed in 0..50 {
        let mut net = Net::new(2, seed);
        net.watch(0, 1, "/user/a", 77, 1);
        net.run(S(2));
        net.jitter = MS(5);
        for n in 0..1_000 {
            net.tell(1, 0, n);
        }
        net.stop_actor(1, "/user/a");
        if seed % 2 == 1 {
            net.run(MS(1));
            net.cut(0, 1);
        }
        let mut delivered_at_notice = None;
        net.run_till(S(10), |net| {
            let count = net.nodes[0].delivered.len();
            let told = !net.side(0, 1).notices.is_empty();
            if told {
                delivered_at_notice = Some(count);
            }
            told
        });
        assert_eq!(delivered_at_notice, Some(1_000), "{seed}");
        assert_eq!(net.side(0, 1).inbound.held(), 0);
    }
}

/// Covers: S56
#[test]
fn a_crash_is_told_within_the_detectors_time_or_after_three_seconds_of_refusals() {
    // The host vanishes.
    let mut net = Net::new(2, 56);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(30));
    net.partition(0, 1);
    let took = net.run_till(S(20), |net| !net.side(0, 1).notices.is_empty());
    assert!(took > S(9) && took < S(12), "{took:?}");
    assert_eq!(reasons(&mut net, 0, 1), [TerminationReason::Unreachable]);
    assert_eq!(net.side(0, 1).quarantined(), [QuarantineReason::Unreachable]);
    // The process ends.
    let mut net = Net::new(2, 56);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(30));
    net.kill(1);
    let took = net.run_till(S(20), |net| !net.side(0, 1).notices.is_empty());
    assert!(took >= S(3) && took < S(4), "{took:?}");
    assert_eq!(reasons(&mut net, 0, 1), [TerminationReason::Unreachable]);
    match net.side(0, 1).association.state() {
        AssociationState::Quarantined {
            deadline: Some(_), reason: QuarantineReason::Unreachable, ..
        } => {}
        other => panic!("{other:?}"),
    }
    // A connection that closed once is no death while dials fail for other reasons.
    let mut net = Net::new(2, 56);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(30));
    net.cut(0, 1);
    net.partition(0, 1);
    net.run(S(7));
    assert_eq!(net.side(0, 1).notices, []);
}

/// A process that is being killed closes its connections one by one and may take one more dial meanwhile. The dial
/// that then fails is no refusal, and must not stand against those that follow.
#[test]
fn a_crash_in_the_middle_of_a_dial_is_told_after_three_seconds_of_refusals() {
    let mut cut_short = 0;
    for gap in [0, 1, 5, 10, 20] {
        let mut net = Net::new(2, 56);
        net.watch(0, 1, "/user/a", 77, 1);
        net.run(S(30));
        net.cut(0, 1);
        net.run(MS(gap) / 10);
        cut_short += usize::from(net.side(0, 1).state() == StateKind::Associating);
        net.kill(1);
        let took = net.run_till(S(20), |net| !net.side(0, 1).notices.is_empty());
        assert!(took >= S(3) && took < S(4), "{gap}: {took:?}");
    }
    assert!(cut_short > 0, "no gap caught a handshake under way");
}

/// Covers: S58
#[test]
fn a_watch_on_an_address_that_never_answers_is_told_within_the_allowance() {
    for hole in [false, true] {
        let mut net = Net::new(2, 58);
        net.nodes[1].up = false;
        if hole {
            net.partition(0, 1);
        }
        net.watch(0, 1, "/user/a", 77, 1);
        net.watch(0, 1, "/user/b", 77, 2);
        net.run(S(10));
        assert_eq!(net.side(0, 1).notices, [], "{hole}");
        net.run(S(2));
        let told = [TerminationReason::Unreachable, TerminationReason::Unreachable];
        assert_eq!(reasons(&mut net, 0, 1), told, "{hole}");
        net.run(S(60));
        assert_eq!(net.side(0, 1).notices.len(), 2);
        assert_eq!(net.side(0, 1).quarantined(), [], "{hole}");
    }
}

/// Covers: S59
#[test]
fn watchers_of_the_old_incarnation_are_told_when_a_new_one_answers() {
    for gap in [0, 100, 1_000, 2_900] {
        let mut net = Net::new(2, 59);
        net.watch(0, 1, "/user/a", 77, 1);
        net.run(S(10));
        net.kill(1);
        net.run(MS(gap));
        net.start(1, 800);
        net.run(S(15));
        assert_eq!(reasons(&mut net, 0, 1), [TerminationReason::Unreachable], "{gap}");
    }
}

/// Covers: S60
#[test]
fn after_an_unwatch_there_is_no_notice_and_no_heartbeat() {
    let mut net = Net::new(2, 60);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(10));
    let beats = |net: &Net| net.frames.get(&FrameKind::Heartbeat.code()).copied().unwrap_or(0);
    assert!(beats(&net) >= 18, "both ends ask every second");
    net.unwatch(0, 1, "/user/a", 77, 1);
    net.run(S(3));
    let before = beats(&net);
    net.run(S(50));
    assert_eq!(beats(&net), before);
    assert!(net.nodes[1].watched.is_empty());
    net.stop_actor(1, "/user/a");
    net.run(S(5));
    assert_eq!(net.side(0, 1).notices, []);
    // Watching again works, and a watch of a dead one is answered.
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(5));
    assert_eq!(reasons(&mut net, 0, 1), [TerminationReason::NeverExisted]);
}

/// Covers: S61
#[test]
fn two_that_watch_each_other_get_one_notice_each() {
    for (first, second) in [(true, false), (false, true), (true, true)] {
        let mut net = Net::new(2, 61);
        net.watch(0, 1, "/user/a", 77, 1);
        net.watch(1, 0, "/user/a", 77, 2);
        net.run(S(2));
        if first {
            net.unwatch(0, 1, "/user/a", 77, 1);
            net.stop_actor(0, "/user/a");
        }
        if second {
            net.unwatch(1, 0, "/user/a", 77, 2);
            net.stop_actor(1, "/user/a");
        }
        net.run(S(2));
        assert_eq!(net.side(1, 0).notices.len(), usize::from(first && !second));
        assert_eq!(net.side(0, 1).notices.len(), usize::from(second && !first));
        for (node, peer) in [(0, 1), (1, 0)] {
            let live = net.side(node, peer).association.statistics();
            let expected = 0;
            assert_eq!(live.watched + live.watching, expected, "{first} {second}");
        }
    }
}

/// Covers: S63
#[test]
fn the_watched_side_forgets_a_watcher_whose_node_crashed() {
    let mut net = Net::new(2, 63);
    for n in 0..100 {
        net.nodes[1].actors.insert(format!("/user/w{n}"), ActorUid::new(5));
        net.watch(0, 1, &format!("/user/w{n}"), 5, n);
    }
    net.run(S(5));
    assert_eq!(net.nodes[1].watched.len(), 100);
    net.kill(0);
    net.run(S(15));
    assert!(net.nodes[1].watched.is_empty());
    assert_eq!(net.side(1, 0).association.statistics().watched, 0);
}

/// Covers: S65
#[test]
fn after_a_notice_nothing_of_that_session_arrives_any_more() {
    let mut net = Net::new(2, 65);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(30));
    net.partition(0, 1);
    for n in 0..10 {
        net.tell(1, 0, n);
    }
    net.run_till(S(20), |net| !net.side(0, 1).notices.is_empty());
    let session = net.side(0, 1).inbound.session();
    net.heal(0, 1);
    for n in 10..20 {
        let _late = net.send(1, 0, "/user/a", 77, n, 16);
    }
    net.run(S(20));
    assert!(net.numbers(0).is_empty(), "no zombies while the session is over");
    net.run(S(60));
    net.tell(1, 0, 99);
    net.run(S(5));
    assert_eq!(net.numbers(0).last(), Some(&99));
    assert_ne!(net.side(0, 1).inbound.session(), session);
    assert!(!net.numbers(0).iter().any(|n| *n < 10), "what the old session had sent is gone with it");
}

/// T28: a node that was paused suspects nobody.
#[test]
fn an_own_pause_is_not_mistaken_for_death() {
    for seconds in [2, 9, 60, 3_600] {
        let mut net = Net::new(2, seconds);
        net.watch(0, 1, "/user/a", 77, 1);
        net.run(S(30));
        // Only this node's machine stands still; the peer's heartbeats wait in the socket.
        net.nodes[0].paused = true;
        net.run(S(seconds.min(9)));
        let now = net.now + (S(seconds) - S(seconds.min(9)));
        if seconds > 9 {
            // The whole host slept: nobody's clock ran.
            net.now = now;
        }
        net.catch_up(0);
        net.run(S(5));
        assert_eq!(net.side(0, 1).notices, [], "{seconds}");
        assert_eq!(net.side(0, 1).quarantined(), [], "{seconds}");
    }
}

/// Covers: S79
#[test]
fn no_leftover_timer_disturbs_a_healthy_association_for_weeks() {
    let mut net = Net::new(2, 79);
    for day in 0..21 {
        net.tell(0, 1, day);
        // An hour of each day with heartbeats, in one direction or the other; the rest of it idle.
        let (watching, watched) = if day % 2 == 0 { (0, 1) } else { (1, 0) };
        net.watch(watching, watched, "/user/a", 77, day);
        net.run(S(3_600));
        net.unwatch(watching, watched, "/user/a", 77, day);
        net.run(S(82_800));
    }
    assert_eq!(net.numbers(1), (0..21).collect::<Vec<_>>());
    for (node, peer) in [(0, 1), (1, 0)] {
        assert_eq!(net.side(node, peer).quarantined(), []);
        assert_eq!(net.side(node, peer).notices, []);
        assert_eq!(net.side(node, peer).lost(), []);
    }
}
