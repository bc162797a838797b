//! Death watch across nodes.

use std::sync::{Arc, Mutex};

use nexus_actor_core::{DeadLetterReason, TerminationReason};
use nexus_remote::event::RemotingLifecycleEvent as Event;
use nexus_remote::failure_detector::{DeadlineConfig, DetectorChoice};
use nexus_remote::wire::QuarantineReason;
use nexus_testkit::{Cut, DialFate, Direction, ProbeEvent, SimNode, TestProbe};

use crate::kit::*;

fn watches(from: &SimNode, to: &SimNode) -> (u64, u64, u64) {
    from.remoting()
        .statistics(&to.authority().to_string())
        .map_or((0, 0, 0), |it| (it.watching, it.watched, it.system_messages))
}

/// Covers: S54, S60, RT-17
#[test]
fn the_end_of_a_watched_actor_is_told_once() {
    let (sim, [a, b]) = nodes(54, ["a", "b"]);
    let parrot_at_b = parrot(b.system(), "parrot");
    let ear = probe(a.system(), "ear");
    let url = b.url("/user/parrot");
    let system = a.system().clone();
    let target = sim.wait(s(1), async move { system.lookup::<Talk>(&url).await }).unwrap().unwrap();
    ear.watch(&target);
    sim.run(s(5));
    assert!(ear.is_empty());
    assert_eq!((watches(&a, &b), watches(&b, &a)), ((1, 0, 0), (0, 1, 0)));
    parrot_at_b.stop();
    sim.run(s(30));
    assert_eq!(ear.take_terminations(), [(target.path(), TerminationReason::Stopped)]);
    assert_eq!((watches(&a, &b), watches(&b, &a)), ((0, 0, 0), (0, 0, 0)));
    // Failed for good is told as such.
    let second = b.system().spawn("second", nexus_actor_core::Props::from_fn(Parrot::default)).unwrap();
    ear.watch(&far(&a, &b, "/user/second"));
    sim.run(s(1));
    second.tell(Talk::Stop);
    sim.run(s(1));
    assert_eq!(ear.take_terminations().len(), 1);
    // After an unwatch nothing is told, and no beat is sent.
    let third = parrot(b.system(), "third");
    let target = far(&a, &b, "/user/third");
    ear.watch(&target);
    sim.run(s(5));
    ear.unwatch(&target);
    sim.run(s(5));
    let bytes = a.link().counts().bytes_outbound;
    sim.run(s(20));
    assert_eq!(a.link().counts().bytes_outbound, bytes, "beats have ceased");
    third.stop();
    sim.run(s(5));
    assert!(ear.is_empty());
}

/// One that is given up leaves no watch behind, and the end of the waiting node is the end of the wait.
#[test]
fn who_waits_for_an_actor_elsewhere_watches_it() {
    let (sim, [a, b]) = nodes(540, ["a", "b"]);
    let [first, _second] = ["first", "second"].map(|name| parrot(b.system(), name));
    let [to_first, to_second] = ["first", "second"].map(|name| far(&a, &b, &format!("/user/{name}")));
    let given_up = to_second.stopped();
    let ended = Arc::new(Mutex::new(Vec::new()));
    for (name, stopped) in [("first", to_first.stopped()), ("second", to_second.stopped())] {
        let ended = ended.clone();
        a.system().spawn_task(async move {
            stopped.await;
            ended.lock().unwrap().push(name);
        });
    }
    sim.run(s(1));
    assert_eq!((watches(&a, &b).0, watches(&b, &a).1), (2, 2));
    let helpers = a.system().processes().count();
    drop(given_up);
    first.stop();
    sim.run(s(1));
    assert_eq!(*ended.lock().unwrap(), ["first"]);
    assert_eq!((watches(&a, &b).0, watches(&b, &a).1), (1, 1));
    assert_eq!(a.system().processes().count(), helpers - 2);
    a.system().begin_shutdown();
    sim.run(s(1));
    assert_eq!(*ended.lock().unwrap(), ["first", "second"]);
}

/// Covers: S55
#[test]
fn the_notice_comes_after_the_last_message() {
    let (sim, [a, b]) = nodes(55, ["a", "b"]);
    for round in 0..5 {
        let name = format!("counter{round}");
        let counter = parrot(b.system(), &name);
        let ear: TestProbe<Talk> = TestProbe::spawn_watching(
            a.system(),
            &format!("ear{round}"),
            [far(&a, &b, &format!("/user/{name}")).to_any()],
        )
        .unwrap();
        sim.run(s(1));
        if round % 2 == 1 {
            // A break on the way.
            a.link().cut_after(5_000, Cut::Reset);
        }
        counter.tell(Talk::CountAndStop(far(&b, &a, &format!("/user/ear{round}")), 1_000));
        sim.run(s(10));
        let events = ear.take();
        assert_eq!(events.len(), 1_001, "round {round}");
        assert!(
            matches!(events.last(), Some(ProbeEvent::Terminated { reason: TerminationReason::Stopped, .. })),
            "round {round}: {:?}",
            events.last()
        );
    }
}

/// Covers: S56, S67
#[test]
fn a_crash_is_told_within_the_time() {
    // The process is gone and its port refuses; or it is only silent.
    for (gone, limit) in [(true, ms(3_600)), (false, s(12))] {
        let (sim, [a, b]) = nodes(56, ["a", "b"]);
        parrot(b.system(), "parrot");
        let ear = probe(a.system(), "ear");
        ear.watch(&far(&a, &b, "/user/parrot"));
        sim.run(s(20));
        let started = sim.now();
        if gone {
            b.kill();
        } else {
            b.freeze();
        }
        assert!(sim.until(s(60), || !ear.is_empty()));
        assert!(sim.now() - started <= limit, "{gone}: {:?}", sim.now() - started);
        if gone {
            assert!(sim.now() - started >= s(3), "not before the dials have been refused for so long");
        }
        let told = ear.take_terminations();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].1, TerminationReason::Unreachable);
        sim.run(s(5));
        assert!(ear.is_empty());
        assert_eq!(a.count(|event| matches!(event, Event::Quarantined { .. })), 1);
    }
}

/// Covers: S57, S58
#[test]
fn a_watch_of_what_is_not_there_is_answered_once() {
    let (sim, [a, b]) = nodes(57, ["a", "b"]);
    let ear = probe(a.system(), "ear");
    ear.watch(&far(&a, &b, "/user/never"));
    sim.run(s(2));
    let told = ear.take_terminations();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, TerminationReason::NeverExisted);
    assert!(!told[0].1.existed());
    // A host that refuses, one that never answers.
    for fate in [DialFate::Refuse, DialFate::Hold] {
        let (sim, [a, b]) = nodes(58, ["a", "b"]);
        let ear = probe(a.system(), "ear");
        a.link().set_dials(fate);
        ear.watch(&far(&a, &b, "/user/never"));
        assert!(sim.until(s(25), || !ear.is_empty()), "{fate:?}");
        sim.run(s(60));
        let told = ear.take_terminations();
        assert_eq!(told.len(), 1, "{fate:?}");
        assert_eq!(told[0].1, TerminationReason::Unreachable, "{fate:?}");
    }
}

/// Covers: S59
#[test]
fn a_restart_faster_than_the_detector_is_noticed() {
    let (sim, [a, b]) = nodes(59, ["a", "b"]);
    parrot(b.system(), "parrot");
    let ear = probe(a.system(), "ear");
    ear.watch(&far(&a, &b, "/user/parrot"));
    sim.run(s(5));
    b.kill();
    let b = know(sim.successor(&b, |config| config));
    parrot(b.system(), "parrot");
    sim.run(s(3));
    assert_eq!(ear.take_terminations().len(), 1);
    sim.run(s(60));
    assert!(ear.is_empty());
    assert_eq!((watches(&a, &b), watches(&b, &a)), ((0, 0, 0), (0, 0, 0)));
}

/// Covers: S61
#[test]
fn two_that_watch_each_other() {
    for stop in [[true, false], [false, true], [true, true]] {
        let (sim, [a, b]) = nodes(61, ["a", "b"]);
        let (at_a, at_b) = (parrot(a.system(), "x"), parrot(b.system(), "x"));
        let (ear_a, ear_b) = (probe(a.system(), "ear"), probe(b.system(), "ear"));
        ear_a.watch(&far(&a, &b, "/user/x"));
        ear_b.watch(&far(&b, &a, "/user/x"));
        sim.run(s(3));
        for (actor, stop) in [(&at_a, stop[0]), (&at_b, stop[1])] {
            if stop {
                actor.stop();
            }
        }
        sim.run(s(5));
        assert_eq!(ear_a.take_terminations().len(), usize::from(stop[1]), "{stop:?}");
        assert_eq!(ear_b.take_terminations().len(), usize::from(stop[0]), "{stop:?}");
        at_a.stop();
        at_b.stop();
        sim.run(s(5));
        assert_eq!((watches(&a, &b), watches(&b, &a)), ((0, 0, 0), (0, 0, 0)), "{stop:?}");
    }
}

/// Covers: S62
#[test]
fn many_watchers_of_one_actor_are_told_by_one_notice() {
    let (sim, [a, b]) = nodes(62, ["a", "b"]);
    let one = parrot(b.system(), "one");
    let ears: Vec<_> = (0..50).map(|n| probe(a.system(), &format!("ear{n}"))).collect();
    for ear in &ears {
        ear.watch(&far(&a, &b, "/user/one"));
    }
    sim.run(s(3));
    assert_eq!((watches(&a, &b), watches(&b, &a)), ((1, 0, 0), (0, 1, 0)));
    // One leaves: the others are told all the same.
    ears[0].unwatch(&far(&a, &b, "/user/one"));
    sim.run(s(3));
    one.stop();
    sim.run(s(3));
    for (n, ear) in ears.iter().enumerate() {
        assert_eq!(ear.take_terminations().len(), usize::from(n > 0), "watcher {n}");
    }
    assert_eq!((watches(&a, &b), watches(&b, &a)), ((0, 0, 0), (0, 0, 0)));
}

/// Covers: S63
#[test]
fn nothing_is_kept_of_a_watcher_whose_node_crashed() {
    let (sim, [a, b]) = nodes(63, ["a", "b"]);
    let parrot_at_b = parrot(b.system(), "parrot");
    let ear = probe(a.system(), "ear");
    ear.watch(&far(&a, &b, "/user/parrot"));
    sim.run(s(5));
    assert_eq!(watches(&b, &a), (0, 1, 0));
    a.kill();
    sim.run(s(15));
    assert_eq!(watches(&b, &a), (0, 0, 0), "its silence is noticed");
    let a = know(sim.successor(&a, |config| config));
    far(&a, &b, "/user/parrot").tell(Talk::Say(0));
    sim.run(s(5));
    assert_eq!(watches(&b, &a), (0, 0, 0));
    parrot_at_b.stop();
    sim.run(s(5));
    assert_eq!(watches(&b, &a), (0, 0, 0));
    assert_eq!(a.lost(DeadLetterReason::NoSuchActor), 0);
}

/// A watcher that stops takes its watch with it.
///
/// Covers: S60
#[test]
fn a_watcher_that_stops_leaves_no_watch() {
    let (sim, [a, b]) = nodes(601, ["a", "b"]);
    parrot(b.system(), "parrot");
    for round in 0..3 {
        let ear = probe(a.system(), &format!("ear{round}"));
        ear.watch(&far(&a, &b, "/user/parrot"));
        sim.run(s(2));
        assert_eq!((watches(&a, &b), watches(&b, &a)), ((1, 0, 0), (0, 1, 0)));
        ear.stop();
        sim.run(s(5));
        assert_eq!((watches(&a, &b), watches(&b, &a)), ((0, 0, 0), (0, 0, 0)), "round {round}");
    }
}

/// Covers: S65, S69, S76
#[test]
fn after_the_notice_nothing_comes_from_the_dead_until_a_new_session() {
    let (sim, [a, b]) = nodes(65, ["a", "b"]);
    parrot(b.system(), "parrot");
    let ear = probe(a.system(), "ear");
    let to_a = far(&b, &a, "/user/ear");
    ear.watch(&far(&a, &b, "/user/parrot"));
    to_a.tell(Talk::Say(0));
    sim.run(s(5));
    // Black-holed both ways, both dials held: a's view of b is death, b's of a is silence.
    for node in [&a, &b] {
        node.link().stall(Direction::Inbound);
        node.link().stall(Direction::Outbound);
        node.link().set_dials(DialFate::Hold);
    }
    to_a.tell(Talk::Say(1));
    assert!(sim.until(s(15), || ear.len() == 2));
    for node in [&a, &b] {
        node.link().pass(Direction::Inbound);
        node.link().pass(Direction::Outbound);
        node.link().set_dials(DialFate::Pass);
    }
    sim.run(s(10));
    assert_eq!(numbers(&ear), [0], "no zombies");
    to_a.tell(Talk::Say(2));
    // The quarantine of a silent peer has a deadline: without an operator there is a new session.
    sim.run(s(40));
    to_a.tell(Talk::Say(3));
    far(&a, &b, "/user/parrot").tell(Talk::Say(9));
    sim.run(s(10));
    assert_eq!(numbers(&ear).last(), Some(&3));
    assert_eq!(ear.take_terminations().len(), 1);
}

/// Covers: S51
#[test]
fn watches_survive_cuts_and_are_told_exactly_once() {
    for seed in 0..6 {
        let (sim, [a, b]) = nodes(490 + seed, ["a", "b"]);
        let ear = probe(a.system(), "ear");
        let actors: Vec<_> = (0..60).map(|n| parrot(b.system(), &format!("p{n}"))).collect();
        a.link().cut_each_after(seed, 200..4_000);
        b.link().cut_each_after(seed + 100, 200..4_000);
        for (n, actor) in actors.iter().enumerate() {
            let target = far(&a, &b, &format!("/user/p{n}"));
            ear.watch(&target);
            if n % 5 == 4 {
                sim.run(ms(300));
                ear.unwatch(&target);
            }
            if n % 3 == 0 {
                sim.run(ms(200));
            }
            actor.stop();
        }
        sim.run(s(60));
        a.link().spare();
        b.link().spare();
        sim.run(s(60));
        let mut told: Vec<_> =
            ear.take_terminations().into_iter().map(|(who, _)| who.elements().to_string()).collect();
        let all = told.len();
        told.sort();
        told.dedup();
        assert_eq!(told.len(), all, "seed {seed}: none twice");
        assert!(all >= 48, "seed {seed}: {all} of the 48 that stayed watched");
        assert!(a.link().counts().cut + b.link().counts().cut > 0);
        assert_eq!((watches(&a, &b), watches(&b, &a)), ((0, 0, 0), (0, 0, 0)), "seed {seed}");
        for node in [&a, &b] {
            assert_eq!(node.count(|event| matches!(event, Event::Quarantined { .. })), 0, "seed {seed}");
        }
    }
}

/// Covers: S48
#[test]
fn a_new_incarnation_ends_watches_and_gives_up_what_was_for_the_old_one() {
    let (sim, [a, b]) = nodes(48, ["a", "b"]);
    let ear = probe(a.system(), "ear");
    for n in 0..20 {
        parrot(b.system(), &format!("p{n}"));
        ear.watch(&far(&a, &b, &format!("/user/p{n}")));
    }
    sim.run(s(2));
    // Never taken by anybody.
    a.link().stall(Direction::Outbound);
    for n in 0..3 {
        far(&a, &b, &format!("/user/s{n}")).stop();
    }
    sim.run(ms(100));
    b.kill();
    let b = know(sim.successor(&b, |config| config));
    a.link().pass(Direction::Outbound);
    far(&a, &b, "/user/x").tell(Talk::Say(0));
    sim.run(s(5));
    let told = ear.take_terminations();
    assert_eq!(told.len(), 20, "each once");
    assert!(told.iter().all(|(_, reason)| *reason == TerminationReason::Unreachable), "{told:?}");
    let recorded: Vec<_> = a
        .letters()
        .iter()
        .filter_map(|letter| letter.context().detail.clone())
        .filter(|detail| detail.contains("Stop"))
        .collect();
    assert_eq!(recorded.len(), 3, "{:?}", a.letters());
    for (n, detail) in recorded.iter().enumerate() {
        assert!(detail.contains(&format!("/user/s{n}")), "{detail}");
    }
    assert_eq!(b.lost(DeadLetterReason::Denied), 0, "the new one got none of them");
    // The numbers begin anew.
    far(&a, &b, "/user/s9").stop();
    sim.run(s(1));
    assert_eq!(b.lost(DeadLetterReason::Denied), 1);
    sim.run(s(60));
    assert!(ear.is_empty());
    assert_eq!((watches(&a, &b), watches(&b, &a)), ((0, 0, 0), (0, 0, 0)));
}

fn black_hole(nodes: [&SimNode; 2], holds: bool) {
    for node in nodes {
        for direction in [Direction::Inbound, Direction::Outbound] {
            if holds {
                node.link().stall(direction);
            } else {
                node.link().pass(direction);
            }
        }
        node.link().set_dials(if holds { DialFate::Hold } else { DialFate::Pass });
    }
}

/// Covers: S49, S64
#[test]
fn a_cut_that_ends_before_the_verdict_is_no_death() {
    for seconds in [1, 4, 9] {
        for breaks in [false, true] {
            let (sim, [a, b]) = nodes(49, ["a", "b"]);
            let (ear, at_b) = (probe(a.system(), "ear"), probe(b.system(), "ear"));
            let parrots: Vec<_> = (0..4).map(|n| parrot(b.system(), &format!("p{n}"))).collect();
            for n in 0..2 {
                ear.watch(&far(&a, &b, &format!("/user/p{n}")));
            }
            let to = far(&a, &b, "/user/ear");
            to.tell(Talk::Say(0));
            sim.run(s(20));
            black_hole([&a, &b], true);
            if breaks {
                a.link().cut(Cut::Reset);
            }
            // In the cut: a watch, a stop of one that was watched before, a message.
            ear.watch(&far(&a, &b, "/user/p2"));
            far(&a, &b, "/user/s0").stop();
            parrots[0].stop();
            to.tell(Talk::Say(1));
            sim.run(s(seconds));
            assert!(ear.is_empty(), "{seconds} {breaks}");
            black_hole([&a, &b], false);
            sim.run(s(15));
            let told = ear.take_terminations();
            assert_eq!(told.len(), 1, "{seconds} {breaks}: {told:?}");
            assert_eq!((told[0].0.elements(), &told[0].1), ("/user/p0", &TerminationReason::Stopped));
            assert_eq!(b.lost(DeadLetterReason::Denied), 1, "{seconds} {breaks}: the stop arrived");
            to.tell(Talk::Say(2));
            parrots[2].stop();
            sim.run(s(2));
            assert_eq!(numbers(&at_b), [0, 1, 2], "{seconds} {breaks}");
            assert_eq!(ear.take_terminations().len(), 1, "watched in the cut");
            for node in [&a, &b] {
                assert_eq!(node.count(|event| matches!(event, Event::Quarantined { .. })), 0);
            }
            assert_eq!(lost(&a).len(), 0);
        }
    }
}

/// Covers: S50
#[test]
fn a_system_message_that_nobody_takes_ends_the_session() {
    // A detector more patient than the give-up time, so that it is the message's age that decides.
    let sim = simulation(50);
    let mut detector = DeadlineConfig::default();
    detector.deadline = s(600);
    let a = know(sim.node_with("a", |c| {
        c.with_system_message_give_up(s(60)).with_watch_detector(DetectorChoice::Deadline(detector))
    }));
    let b = know(sim.node("b"));
    let ear = probe(a.system(), "ear");
    for n in 0..5 {
        parrot(b.system(), &format!("p{n}"));
        ear.watch(&far(&a, &b, &format!("/user/p{n}")));
    }
    sim.run(s(2));
    black_hole([&a, &b], true);
    far(&a, &b, "/user/s0").stop();
    let started = sim.now();
    sim.run(s(59));
    assert!(ear.is_empty());
    assert_eq!(a.count(|event| matches!(event, Event::Quarantined { .. })), 0);
    sim.run(s(3));
    let why: Vec<_> = a
        .lifecycle()
        .into_iter()
        .filter_map(|(at, event)| match event {
            Event::Quarantined { reason, .. } => Some((reason, at - started)),
            _ => None,
        })
        .collect();
    assert_eq!(why.len(), 1);
    assert_eq!(why[0].0, QuarantineReason::SystemMessageUndelivered);
    assert!(why[0].1 >= s(60), "{why:?}");
    let told = ear.take_terminations();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(
        a.letters().iter().any(|letter| letter
            .context()
            .detail
            .as_ref()
            .is_some_and(|it| it.contains("Stop")))
    );
}

/// Covers: S53
#[test]
fn a_full_system_buffer_is_one_quarantine() {
    let sim = simulation(53);
    let a = know(sim.node_with("a", |c| c.with_system_messages_max(1_000)));
    let b = know(sim.node("b"));
    let ear = probe(a.system(), "ear");
    for n in 0..10 {
        parrot(b.system(), &format!("p{n}"));
        ear.watch(&far(&a, &b, &format!("/user/p{n}")));
    }
    sim.run(s(2));
    a.link().stall(Direction::Outbound);
    for n in 0..1_000 {
        far(&a, &b, &format!("/user/s{n}")).stop();
    }
    sim.settle();
    assert_eq!(a.count(|event| matches!(event, Event::Quarantined { .. })), 0, "as many as there may be");
    for n in 1_000..4_000 {
        far(&a, &b, &format!("/user/s{n}")).stop();
    }
    sim.settle();
    let why: Vec<_> = a
        .lifecycle()
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::Quarantined { reason, .. } => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(why, [QuarantineReason::SystemBufferFull]);
    assert_eq!(ear.take_terminations().len(), 10, "who was watched there is told of");
}

/// A warning and a restored opinion, as the node tells them.
///
/// Covers: S81, S83
#[test]
fn a_peer_that_never_answered_is_suspected_and_one_that_answers_again_is_not() {
    // Nobody watches across it, so that suspicion has no consequence.
    let (sim, [a, b]) = nodes(83, ["a", "b"]);
    parrot(b.system(), "parrot");
    let ear = probe(a.system(), "ear");
    ear.watch(&far(&a, &b, "/user/parrot"));
    sim.run(s(30));
    let started = sim.now();
    b.freeze();
    sim.run(s(20));
    let suspects: Vec<_> = a
        .lifecycle()
        .into_iter()
        .filter_map(|(at, event)| match event {
            Event::Suspect { suspicion, .. } => Some((at - started, suspicion)),
            _ => None,
        })
        .collect();
    assert_eq!(suspects.len(), 1, "once: {suspects:?}");
    let (after, suspicion) = suspects[0];
    // A mean of 1 s, a pause of 10 s, and the floor of the deviation.
    assert!(after > ms(10_500) && after < s(12), "{after:?}");
    assert!((10.0..11.0).contains(&suspicion), "{suspicion}");
    b.thaw();
    sim.run(s(60));
    // The next session begins with what was learned, not with the outage.
    ear.watch(&far(&a, &b, "/user/parrot"));
    sim.run(s(30));
    let started = sim.now();
    b.freeze();
    sim.run(s(20));
    let again: Vec<_> = a
        .lifecycle()
        .into_iter()
        .filter_map(|(at, event)| matches!(event, Event::Suspect { .. }).then_some(at))
        .filter(|at| *at >= started)
        .collect();
    assert_eq!(again.len(), 1);
    assert!(again[0] - started < s(12), "{:?}", again[0] - started);
}

/// Covers: S82
#[test]
fn a_pause_that_nearly_was_too_long_is_one_warning_and_no_suspicion() {
    let (sim, [a, b]) = nodes(82, ["a", "b"]);
    parrot(b.system(), "parrot");
    let ear = probe(a.system(), "ear");
    ear.watch(&far(&a, &b, "/user/parrot"));
    sim.run(s(30));
    let warnings = || {
        let warned = |event| match event {
            Event::HeartbeatSlow { interval, .. } => Some(interval),
            _ => None,
        };
        a.lifecycle().into_iter().filter_map(|(_, event)| warned(event)).collect::<Vec<_>>()
    };
    // Two thirds of the acceptable pause of 10 s are 6.7 s, and a beat may be a second old when the pause begins.
    b.freeze();
    sim.run(s(5));
    b.thaw();
    sim.run(s(30));
    assert_eq!(warnings(), []);
    b.freeze();
    sim.run(s(9));
    b.thaw();
    sim.run(s(30));
    let warned = warnings();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0] > s(8) && warned[0] < ms(10_500), "{warned:?}");
    assert!(a.lifecycle().iter().all(|(_, event)| !matches!(event, Event::Suspect { .. })));
    assert!(ear.take_terminations().is_empty());
}
