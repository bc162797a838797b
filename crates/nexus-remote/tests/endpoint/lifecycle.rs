//! How associations begin, break, idle and begin again.

use std::sync::{Arc, Mutex};

use nexus_actor_core::remote_authority::AuthorityState;
use nexus_actor_core::{AskError, DeadLetterReason};
use nexus_remote::RemotingControl;
use nexus_remote::association::Patience;
use nexus_remote::event::RemotingLifecycleEvent as Event;
use nexus_testkit::{Cut, DialFate, Direction};

use crate::kit::*;

/// Covers: S1, S17, S143, S158
#[test]
fn a_first_message_makes_the_association_and_arrives() {
    let (sim, [a, b]) = nodes(1, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    for n in 0..10 {
        to.tell(Talk::Say(n));
    }
    assert!(sim.until(s(1), || ear.len() == 10));
    assert_eq!(numbers(&ear), (0..10).collect::<Vec<_>>());
    sim.run(s(5));
    assert_eq!(a.turns_of(&b), ["connected"]);
    assert_eq!(b.turns_of(&a), ["connected"]);
    let uid_at = |node: &nexus_testkit::SimNode| {
        node.lifecycle().iter().find_map(|(_, event)| match event {
            Event::Connected { authority, uid, resumed: false, .. } => Some((authority.clone(), *uid)),
            _ => None,
        })
    };
    let ((at_b, of_b), (at_a, of_a)) = (uid_at(&a).unwrap(), uid_at(&b).unwrap());
    assert_eq!((&at_b, &at_a), (b.authority(), a.authority()));
    assert_ne!(of_a, of_b, "every incarnation has its own uid");
}

/// Covers: S2
#[test]
fn messages_wait_for_a_node_that_starts_within_the_time() {
    let (sim, [a, b]) = nodes(2, ["a", "b"]);
    b.kill();
    sim.settle();
    let to = far(&a, &b, "/user/ear");
    for n in 0..100 {
        to.tell(Talk::Say(n));
        sim.run(ms(50));
    }
    let b = know(sim.successor(&b, |config| config));
    let ear = probe(b.system(), "ear");
    assert!(sim.until(s(2), || ear.len() == 100), "{:?}", a.lifecycle());
    assert_eq!(numbers(&ear), (0..100).collect::<Vec<_>>());
    assert_eq!(lost(&a).len(), 0);
}

/// Covers: S3, S36, DL-03, DL-11, ERR-05, EV-21
#[test]
fn what_waited_for_a_node_that_never_came_is_recorded() {
    let (sim, [a, b]) = nodes(3, ["a", "b"]);
    b.kill();
    sim.settle();
    let to = far(&a, &b, "/user/ear");
    for n in 0..7 {
        to.tell(Talk::Say(n));
    }
    let ask = to.ask(|reply| Talk::Echo(1, reply)).timeout(s(60));
    assert_eq!(sim.wait(s(59), ask), Some(Err(AskError::Unreachable)));
    assert!(sim.now().as_nanos() < 30_000_000_000, "not only at the deadline");
    sim.run(s(1));
    assert_eq!(lost(&a), [(DeadLetterReason::Unreachable, 8)].into());
    assert_eq!(a.count(|event| matches!(event, Event::Quarantined { .. })), 0);
    assert!(a.count(|event| matches!(event, Event::Gated { .. })) > 1);
    let states: Vec<_> = a.remoting().connections_snapshot().into_iter().map(|it| it.state).collect();
    assert!(states.iter().all(|state| *state == AuthorityState::Unresolved), "{states:?}");
    let attempts = a.count(|event| matches!(event, Event::AssociationAttempt { .. }));
    sim.run(s(60));
    assert_eq!(a.count(|event| matches!(event, Event::AssociationAttempt { .. })), attempts, "it rests");
    to.tell(Talk::Say(8));
    sim.run(s(1));
    assert!(a.count(|event| matches!(event, Event::AssociationAttempt { .. })) > attempts, "a fresh attempt");
    // Accounted for to the last message.
    assert_eq!(accounts(&a, &b), (9, 0, 8));
}

/// Covers: S4
#[test]
fn nodes_that_dial_each_other_at_once_have_one_association() {
    for seed in 0..20 {
        let (sim, [a, b]) = nodes(400 + seed, ["a", "b"]);
        let (at_a, at_b) = (probe(a.system(), "ear"), probe(b.system(), "ear"));
        let (to_b, to_a) = (far(&a, &b, "/user/ear"), far(&b, &a, "/user/ear"));
        for n in 0..50 {
            to_b.tell(Talk::Say(n));
            to_a.tell(Talk::Say(n));
        }
        assert!(sim.until(s(5), || at_a.len() == 50 && at_b.len() == 50), "seed {seed}");
        sim.run(s(10));
        for (node, ear) in [(&a, &at_a), (&b, &at_b)] {
            assert_eq!(numbers(ear), (0..50).collect::<Vec<_>>());
            assert_eq!(node.remoting().associations(), 1);
            assert_eq!(node.remoting().tasks(), 2, "one listener and one connection");
            assert_eq!(lost(node).len(), 0);
        }
    }
}

/// Covers: S5
#[test]
fn the_first_message_to_a_peer_that_dialled_first_arrives() {
    let (sim, [a, b]) = nodes(5, ["a", "b"]);
    b.remoting().associate(&a.system().address().to_string().parse().unwrap()).unwrap();
    assert!(sim.until(s(1), || b.is_connected_to(&a) && a.is_connected_to(&b)));
    let ear = probe(b.system(), "ear");
    far(&a, &b, "/user/ear").tell(Talk::Say(1));
    sim.settle();
    assert_eq!(numbers(&ear), [1]);
    assert_eq!(a.link().counts().dialled, 0, "over the connection there is");
}

/// Covers: S6, S143, S64
#[test]
fn a_broken_connection_is_made_again_and_reported_once() {
    for how in [Cut::Reset, Cut::Close] {
        let (sim, [a, b]) = nodes(6, ["a", "b"]);
        let ear = probe(b.system(), "ear");
        let to = far(&a, &b, "/user/ear");
        to.tell(Talk::Say(0));
        ear.watch(&far(&b, &a, "/user/nobody"));
        sim.run(s(1));
        a.link().cut(how);
        for n in 1..100 {
            to.tell(Talk::Say(n));
        }
        sim.run(s(5));
        assert_eq!(numbers(&ear), (0..100).collect::<Vec<_>>(), "{how:?}");
        for (node, peer) in [(&a, &b), (&b, &a)] {
            assert_eq!(node.turns_of(peer), ["connected", "disconnected", "connected"], "{how:?}");
            let log = node.lifecycle();
            let uids: Vec<_> = log.iter().filter_map(|(_, event)| event.uid()).collect();
            assert!(uids.windows(2).all(|pair| pair[0] == pair[1]), "{log:?}");
            let resumed: Vec<_> = log
                .iter()
                .filter_map(|(_, event)| match event {
                    Event::Connected { resumed, .. } => Some(*resumed),
                    _ => None,
                })
                .collect();
            assert_eq!(resumed, [false, true]);
        }
        assert_eq!(lost(&a).len() + lost(&b).len(), 0);
    }
}

/// Covers: S7
#[test]
fn a_peer_that_is_down_is_tried_gently_for_ever() {
    let (sim, [a, b]) = nodes(7, ["a", "b"]);
    far(&a, &b, "/user/ear").tell(Talk::Say(0));
    sim.run(s(1));
    // Black-holed: dials are neither answered nor refused.
    a.link().set_dials(DialFate::Hold);
    b.kill();
    far(&a, &b, "/user/ear").tell(Talk::Say(1));
    sim.run(s(3_600));
    let attempts: Vec<_> = a
        .lifecycle()
        .into_iter()
        .filter_map(|(at, event)| matches!(event, Event::AssociationAttempt { .. }).then_some(at))
        .collect();
    assert!((300..1_000).contains(&attempts.len()), "{} attempts in an hour", attempts.len());
    // A dial may take 5 s, then comes a wait of up to 5 s, a fifth of which is jitter.
    let gaps: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).skip(20).collect();
    assert!(gaps.iter().all(|gap| *gap >= s(9) && *gap <= s(10)), "{gaps:?}");
    assert!(gaps.windows(2).any(|pair| pair[0] != pair[1]), "no jitter");
    assert!(sim.now() - *attempts.last().unwrap() < s(20), "it goes on");
    a.link().set_dials(DialFate::Pass);
    let b = know(sim.successor(&b, |config| config));
    let ear = probe(b.system(), "ear");
    sim.run(s(15));
    assert_eq!(a.turns_of(&b).last(), Some(&"connected"));
    drop(ear);
}

/// Covers: S8, S9
#[test]
fn an_idle_connection_closes_and_opens_again_without_loss() {
    let (sim, [a, b]) = nodes(8, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    assert_eq!(a.remoting().tasks(), 2);
    assert!(sim.until(s(900), || a.remoting().tasks() == 1 && b.remoting().tasks() == 1), "it closes");
    assert_eq!(a.remoting().associations(), 1);
    let uid = a.lifecycle().iter().find_map(|(_, event)| event.uid());
    to.tell(Talk::Say(1));
    sim.run(s(1));
    assert_eq!(numbers(&ear), [0, 1]);
    let again = a.lifecycle().iter().rev().find_map(|(_, event)| match event {
        Event::Connected { uid, resumed, .. } => Some((*uid, *resumed)),
        _ => None,
    });
    assert_eq!(again, uid.map(|uid| (uid, true)), "the same incarnation, the same session");
    // Sends that meet the closing.
    for round in 0..30 {
        let from = 2 + round * 3;
        sim.run(s(299) + ms(900));
        for n in 0..3 {
            to.tell(Talk::Say(from + n));
            sim.run(ms(70));
        }
    }
    sim.run(s(10));
    assert_eq!(numbers(&ear), (2..92).collect::<Vec<_>>());
    assert_eq!(lost(&a).len(), 0);
}

/// Covers: S10, S11, S12, S161
#[test]
fn a_restarted_peer_is_usable_within_a_second_by_name() {
    for seed in 0..10 {
        let (sim, [a, b]) = nodes(1_000 + seed, ["a", "b"]);
        let old = probe(b.system(), "ear");
        let by_name = far(&a, &b, "/user/ear");
        let url = b.url("/user/ear");
        let system = a.system().clone();
        let by_reference = sim.wait(s(1), async move { system.lookup::<Talk>(&url).await }).unwrap().unwrap();
        by_reference.tell(Talk::Say(0));
        sim.run(s(1));
        assert_eq!(numbers(&old), [0]);
        // In flight when it dies: not acknowledged, of an incarnation that is gone.
        b.freeze();
        by_name.tell(Talk::Say(1));
        by_reference.tell(Talk::Say(2));
        sim.run(ms(100));
        b.kill();
        sim.run(s(2) + ms(seed * 37));
        by_name.tell(Talk::Say(3));
        by_reference.tell(Talk::Say(4));
        sim.run(s(4));
        let b = know(sim.successor(&b, |config| config));
        let ear = probe(b.system(), "ear");
        let up = sim.now();
        by_name.tell(Talk::Say(5));
        assert!(sim.until(s(1), || !ear.is_empty()), "seed {seed}: {:?}", a.lifecycle());
        assert!(sim.now() - up <= s(1));
        by_reference.tell(Talk::Say(6));
        sim.run(s(5));
        // What no connection ever took and was for the name goes to the new one.
        assert_eq!(numbers(&ear), [3, 5], "seed {seed}");
        assert_eq!(
            lost(&a),
            [(DeadLetterReason::Unconfirmed, 2), (DeadLetterReason::NoSuchActor, 1)].into(),
            "seed {seed}: {:?}",
            a.letters()
        );
        assert_eq!(lost(&b), [(DeadLetterReason::NoSuchActor, 1)].into(), "sent after it was known");
        let uids: Vec<_> = a
            .lifecycle()
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Connected { uid, .. } => Some(*uid),
                _ => None,
            })
            .collect();
        assert_ne!(uids.first(), uids.last());
    }
}

/// Covers: S13, S15
#[test]
fn a_peer_that_restarts_every_second_leaves_nothing_behind() {
    let (sim, [a, first]) = nodes(13, ["a", "b"]);
    let mut b = first;
    let to = far(&a, &b, "/user/ear");
    let mut n = 0;
    for _ in 0..60 {
        for _ in 0..20 {
            to.tell(Talk::Say(n));
            n += 1;
            sim.run(ms(50));
        }
        b.kill();
        b = know(sim.successor(&b, |config| config));
    }
    let ear = probe(b.system(), "ear");
    to.tell(Talk::Say(n));
    assert!(sim.until(s(1), || !ear.is_empty()), "associated with the last");
    sim.run(s(2));
    assert_eq!(a.remoting().associations(), 1);
    assert_eq!(a.remoting().tasks(), 2);
    let (sent, acknowledged, lost) = accounts(&a, &b);
    assert_eq!(sent, acknowledged + lost);
    assert!(!a.system().is_shutting_down());
}

/// Covers: S14, S98
#[test]
fn short_lived_peers_leave_nothing_behind() {
    let sim = simulation(14);
    let a = know(sim.node_with("a", |c| c.with_forget_after(s(600))));
    sim.run(s(1));
    let before = a.tasks();
    for n in 0..40 {
        let b = know(sim.node(&format!("b{n}")));
        let ear = probe(b.system(), "ear");
        far(&a, &b, "/user/ear").tell(Talk::Say(n));
        sim.run(ms(500));
        assert_eq!(numbers(&ear), [n]);
        b.kill();
    }
    assert_eq!(a.remoting().associations(), 40);
    sim.run(s(1_500));
    assert_eq!(a.remoting().associations(), 0, "forgotten after the removal time");
    assert_eq!(a.remoting().tasks(), 1, "the listener");
    assert_eq!(a.tasks(), before);
}

/// A reference that was not used for longer than the association is remembered.
///
/// Covers: S8
#[test]
fn a_reference_outlives_a_forgotten_association() {
    let (sim, [a, b]) = nodes(88, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    parrot(b.system(), "parrot");
    let (to, asked) = (far(&a, &b, "/user/ear"), far(&a, &b, "/user/parrot"));
    to.tell(Talk::Say(0));
    sim.run(s(3 * 3_600));
    to.tell(Talk::Say(1));
    assert_eq!(sim.wait(s(3), asked.ask(|reply| Talk::Echo(7, reply))), Some(Ok(7)));
    let here = probe(a.system(), "here");
    far(&b, &a, "/user/here").tell(Talk::Say(2));
    sim.run(s(2));
    assert_eq!(numbers(&ear), [0, 1]);
    assert_eq!(numbers(&here), [2]);
    for node in [&a, &b] {
        assert_eq!(node.remoting().associations(), 1);
        assert_eq!(node.remoting().tasks(), 2, "one connection serves both directions");
        assert_eq!(node.count(|event| matches!(event, Event::Quarantined { .. })), 0);
        assert_eq!(lost(node).len(), 0);
    }
}

/// Covers: S143
#[test]
fn a_suspended_association_sends_and_takes_nothing_until_it_is_resumed() {
    let (sim, [a, b]) = nodes(143, ["a", "b"]);
    let (at_a, at_b) = (probe(a.system(), "ear"), probe(b.system(), "ear"));
    let (to_b, to_a) = (far(&a, &b, "/user/ear"), far(&b, &a, "/user/ear"));
    to_b.tell(Talk::Say(0));
    to_a.tell(Talk::Say(0));
    sim.run(s(1));
    let peer = b.authority().to_string();
    a.remoting().suspend(&peer).unwrap();
    sim.settle();
    to_b.tell(Talk::Say(1));
    to_a.tell(Talk::Say(1));
    sim.run(s(5));
    assert_eq!((numbers(&at_a), numbers(&at_b)), (vec![0], vec![0]));
    assert_eq!(a.lost(DeadLetterReason::Suspended), 1, "inbound is recorded: {:?}", a.letters());
    a.remoting().resume(&peer).unwrap();
    sim.run(s(5));
    to_a.tell(Talk::Say(2));
    sim.run(s(1));
    assert_eq!(numbers(&at_b), [1], "outbound waited");
    assert_eq!(numbers(&at_a), [2]);
    let turns = a.turns_of(&b);
    assert_eq!(turns.iter().filter(|turn| **turn == "suspended").count(), 1, "{turns:?}");
    assert_eq!(turns.iter().filter(|turn| **turn == "resumed").count(), 1, "{turns:?}");
    assert!(matches!(
        a.remoting().suspend("nowhere:1"),
        Err(nexus_remote::RemotingError::UnknownAuthority { .. })
    ));
}

/// Nobody waits for an answer that a suspension has made impossible.
#[test]
fn who_asks_across_a_suspension_is_told_of_it() {
    let (sim, [a, b]) = nodes(1430, ["a", "b"]);
    parrot(a.system(), "parrot");
    let at_b = parrot(b.system(), "parrot");
    let (to_a, to_b) = (far(&b, &a, "/user/parrot"), far(&a, &b, "/user/parrot"));
    assert_eq!(sim.wait(s(2), to_b.ask(|r| Talk::Echo(1, r))), Some(Ok(1)));
    let (answered_late, failed_late) = (to_b.ask(Talk::Keep), to_b.ask(Talk::Keep));
    sim.settle();
    let peer = b.authority().to_string();
    a.remoting().suspend(&peer).unwrap();
    sim.settle();
    // An answer comes while nothing is accepted, and the news that there is none: both askers here learn at once.
    at_b.tell(Talk::Answer(7));
    assert_eq!(sim.wait(ms(100), answered_late), Some(Err(AskError::Suspended)));
    at_b.stop();
    assert_eq!(sim.wait(ms(100), failed_late), Some(Err(AskError::NoReply)));
    assert_eq!(a.lost(DeadLetterReason::Suspended), 1, "{:?}", a.letters());
    // Questions of the suspended peer are recorded, and answered as soon as something may be sent again.
    let theirs = to_a.ask(|r| Talk::Echo(2, r)).timeout(s(60));
    let (system, path, found) = (b.system().clone(), a.url("/user/parrot"), Arc::<Mutex<_>>::default());
    let out = found.clone();
    let lookup = async move {
        let answer = system.lookup::<Talk>(&path).await;
        *out.lock().unwrap() = answer.err();
    };
    assert_eq!(sim.wait(ms(500), lookup), None);
    assert_eq!(a.lost(DeadLetterReason::Suspended), 3, "{:?}", a.letters());
    // A question to it waits, and its deadline says for what.
    let ours = to_b.ask(|r| Talk::Echo(3, r)).timeout(s(2));
    assert_eq!(sim.wait(s(3), ours), Some(Err(AskError::Suspended)));
    a.remoting().resume(&peer).unwrap();
    assert_eq!(sim.wait(s(1), theirs), Some(Err(AskError::Suspended)));
    assert_eq!(*found.lock().unwrap(), Some(AskError::Suspended));
}

/// Covers: S64
#[test]
fn a_half_open_link_of_a_few_seconds_is_not_a_death() {
    let (sim, [a, b]) = nodes(64, ["a", "b"]);
    let parrot = parrot(b.system(), "parrot");
    let ear = probe(a.system(), "ear");
    ear.watch(&far(&a, &b, "/user/parrot"));
    sim.run(s(5));
    a.link().stall(Direction::Inbound);
    sim.run(s(6));
    a.link().pass(Direction::Inbound);
    sim.run(s(20));
    assert!(ear.take_terminations().is_empty());
    parrot.stop();
    sim.run(s(1));
    assert_eq!(ear.take_terminations().len(), 1);
}

/// Every limit that a peer can run into ends that association, and nothing else of the node.
///
/// Covers: S15, S99
#[test]
fn a_limit_that_is_reached_costs_one_association() {
    let (sim, [b, c]) = nodes(15, ["b", "c"]);
    let a = know(sim.node_with("a", |config| {
        config
            .with_reconnect_max_retries(Some(3))
            .with_queue_messages_max(50)
            .with_system_messages_max(100)
            .with_queue_patience(Patience::Drop)
    }));
    parrot(c.system(), "parrot");
    let (to_b, to_c) = (far(&a, &b, "/user/ear"), far(&a, &c, "/user/parrot"));
    for to in [&to_b, &to_c] {
        to.tell(Talk::Say(0));
    }
    sim.run(s(1));
    b.kill();
    sim.settle();
    for round in 0..200 {
        to_b.tell(Talk::Say(round));
        far(&a, &b, &format!("/user/s{round}")).stop();
        sim.run(ms(100));
        let answer = sim.wait(s(1), to_c.ask(|reply| Talk::Echo(round, reply)));
        assert_eq!(answer, Some(Ok(round)));
    }
    assert_eq!(a.turns_of(&c), ["connected"]);
    sim.run(s(600));
    assert!(!a.system().is_shutting_down());
    let (sent, acknowledged, lost) = accounts(&a, &b);
    assert_eq!(sent, acknowledged + lost, "nothing waits for ever");
    // What is sent after all that starts afresh.
    let b = know(sim.successor(&b, |config| config));
    let ear = probe(b.system(), "ear");
    far(&a, &b, "/user/ear").tell(Talk::Say(9));
    sim.run(s(40));
    far(&a, &b, "/user/ear").tell(Talk::Say(10));
    sim.run(s(5));
    assert_eq!(numbers(&ear).last(), Some(&10));
}

/// Covers: S27
#[test]
fn a_handshake_does_not_wait_behind_control_traffic() {
    let (sim, [a, b]) = nodes(27, ["a", "b"]);
    let ear = probe(a.system(), "ear");
    far(&a, &b, "/user/x").tell(Talk::Say(0));
    sim.run(s(1));
    // Ten thousand watches wait for a link that takes nothing, when it breaks.
    a.link().stall(Direction::Outbound);
    for n in 0..10_000 {
        ear.watch(&far(&a, &b, &format!("/user/never{n}")));
    }
    sim.run(s(1));
    assert_eq!(a.remoting().statistics(&b.authority().to_string()).unwrap().watching, 10_000);
    a.link().cut(Cut::Reset);
    // From here no more than 2 KiB pass in a hundredth of a second.
    let started = sim.now();
    let connected =
        |node: &nexus_testkit::SimNode| node.turns_of(&b).iter().filter(|turn| **turn == "connected").count();
    while connected(&a) < 2 {
        sim.run(ms(10));
        a.link().allow(Direction::Outbound, 2_048);
        assert!(sim.now() - started < s(1), "{:?}", a.turns_of(&b));
    }
    a.link().pass(Direction::Outbound);
    sim.run(s(10));
    let told = ear.take_terminations();
    assert_eq!(told.len(), 10_000);
    assert!(told.iter().all(|(_, reason)| !reason.existed()));
}

/// Covers: S158
#[test]
fn references_of_different_nodes_are_different() {
    let (sim, [a, b, c]) = nodes(158, ["a", "b", "c"]);
    for node in [&a, &b, &c] {
        parrot(node.system(), "parrot");
    }
    // Seen from one node: three actors of one name are three.
    let seen = [far(&a, &a, "/user/parrot"), far(&a, &b, "/user/parrot"), far(&a, &c, "/user/parrot")];
    for (n, one) in seen.iter().enumerate() {
        for (m, other) in seen.iter().enumerate() {
            assert_eq!(one == other, n == m, "{n} {m}");
            assert_eq!(one.path() == other.path(), n == m, "{n} {m}");
        }
    }
    // Each reaches its own.
    for (n, to) in seen.iter().enumerate() {
        let answer = sim.wait(s(2), to.ask(|reply| Talk::Echo(n as u64, reply)));
        assert_eq!(answer, Some(Ok(n as u64)));
    }
    assert!(b.is_connected_to(&a) && c.is_connected_to(&a) && !b.is_connected_to(&c));
}

/// An association that was looked for in vain and would have been forgotten, but for a reference that lives, looks
/// again as soon as something is sent.
#[test]
fn an_association_that_is_kept_for_a_reference_can_still_connect() {
    let (sim, [a, b]) = nodes(10, ["a", "b"]);
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    b.kill();
    sim.run(s(3_700));
    let b = know(sim.successor(&b, |config| config));
    let ear = probe(b.system(), "ear");
    to.tell(Talk::Say(1));
    assert!(sim.until(s(10), || ear.len() == 1), "{:?}", a.turns_of(&b));
    assert_eq!(numbers(&ear), [1]);
}

/// A reply that is kept keeps its association: the answer does not go on beside a new one.
#[test]
fn a_reply_that_is_kept_keeps_its_association() {
    for keep in [true, false] {
        let sim = nexus_testkit::Simulation::new(11);
        let a = know(sim.node("a"));
        let b = know(sim.node_with("b", |config| config.with_forget_after(s(400))));
        parrot(b.system(), "parrot");
        let to = far(&a, &b, "/user/parrot");
        let ask = if keep { to.ask(Talk::Keep) } else { to.ask(|reply| Talk::Echo(1, reply)) };
        sim.run(s(1));
        // The asker's side is gone, so that only the reply is left.
        drop(ask);
        a.kill();
        sim.run(s(1_500));
        assert_eq!(b.remoting().associations(), usize::from(keep));
    }
}
