//! Full lanes: what refuses, what waits, what is told.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use nexus_actor_core::{AskError, DeadLetterReason, Refusal, TellError};
use nexus_remote::RemotingControl;
use nexus_remote::association::{Overflow, Patience};
use nexus_remote::backpressure::BackpressureSignal;
use nexus_remote::metric::RemotingMetric;
use nexus_testkit::{Direction, SimNode, Simulation};

use crate::kit::*;

fn small(sim: &Simulation, name: &str, messages: u32) -> SimNode {
    know(sim.node_with(name, |c| c.with_queue_messages_max(messages)))
}

/// Covers: S90, S91, S162
#[test]
fn a_peer_that_does_not_read_costs_its_bounds_and_no_more() {
    let (sim, [b, c]) = nodes(90, ["b", "c"]);
    let a = know(sim.node_with("a", |config| config.with_queue_bytes_max(1024 * 1024)));
    let (at_b, at_c) = (probe(b.system(), "ear"), probe(c.system(), "ear"));
    let (to_b, to_c) = (far(&a, &b, "/user/ear"), far(&a, &c, "/user/ear"));
    to_b.tell(Talk::Say(0));
    to_c.tell(Talk::Say(0));
    sim.run(s(1));
    b.freeze();
    let (mut accepted, mut refused) = (1u64, 0u64);
    for round in 0..100 {
        for _ in 0..100 {
            match to_b.try_tell(Talk::Blob(vec![1; 1_000])) {
                Ok(()) => accepted += 1,
                Err(TellError { refusal: Refusal::QueueFull { bytes, messages }, .. }) => {
                    // The message that reaches the bound is the last one taken.
                    assert!(
                        bytes < 1024 * 1024 + 1_100 && messages > 0,
                        "{messages} messages, {bytes} bytes"
                    );
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        to_c.tell(Talk::Say(round + 1));
        sim.run(ms(20));
        assert_eq!(at_c.len() as u64, round + 2, "other peers are not slowed");
    }
    assert!(refused > 5_000, "{refused}");
    let statistics = a.remoting().statistics(&b.authority().to_string()).unwrap();
    assert!(statistics.in_flight_bytes < 1024 * 1024 + 1_100, "{statistics:?}");
    assert_eq!(statistics.refused, refused);
    // A plain tell records each it gives up.
    for _ in 0..10 {
        to_b.tell(Talk::Blob(vec![1; 1_000]));
    }
    assert_eq!(a.lost(DeadLetterReason::QueueFull), 10);
    for letter in a.letters() {
        let context = letter.context();
        let depth = context.detail.clone().unwrap();
        assert!(depth.contains(&statistics.in_flight.to_string()), "the depth: {depth}");
        assert_eq!(context.recipient.as_ref().unwrap().elements(), "/user/ear");
    }
    let other = a.remoting().statistics(&c.authority().to_string()).unwrap();
    assert_eq!((other.refused, other.lost), (0, 0), "counted per peer");
    b.thaw();
    sim.run(s(5));
    assert_eq!(at_b.len() as u64, accepted, "what was accepted arrives");
}

/// Covers: S92
#[test]
fn a_send_waits_for_room_and_blocks_nobody() {
    let sim = simulation(92);
    let (a, b) = (small(&sim, "a", 100), know(sim.node("b")));
    let ear = probe(b.system(), "ear");
    let other = parrot(a.system(), "parrot");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    b.freeze();
    let sent = Arc::new(Mutex::new(0));
    for sender in 0..5u64 {
        let (to, sent) = (to.clone(), sent.clone());
        a.system().spawn_task(async move {
            for n in 0..100 {
                to.send(Talk::Say(sender * 1_000 + n)).await.unwrap();
                *sent.lock().unwrap() += 1;
            }
        });
    }
    sim.run(s(2));
    let before = *sent.lock().unwrap();
    assert!((90..=110).contains(&before), "{before} of 500 fit");
    assert!(matches!(to.try_tell(Talk::Say(9)), Err(TellError { refusal: Refusal::QueueFull { .. }, .. })));
    assert_eq!(sim.wait(s(1), other.ask(|reply| Talk::Echo(5, reply))), Some(Ok(5)), "others go on");
    b.thaw();
    sim.run(s(5));
    assert_eq!(*sent.lock().unwrap(), 500);
    let numbers = numbers(&ear);
    assert_eq!(numbers.len(), 501);
    for sender in 0..5 {
        assert!(numbers[1..].iter().filter(|n| **n / 1_000 == sender).is_sorted());
    }
    assert_eq!(lost(&a).len(), 0);
}

/// What is refused counts once, when it is given up, as a failure to send; as a dead letter where its sender has not got it
/// back.
///
/// Covers: BP-04, ST-07
#[test]
fn a_message_counts_once_when_it_is_given_up() {
    let sim = simulation(922);
    let (a, b) = (small(&sim, "a", 10), know(sim.node("b")));
    let ear = probe(b.system(), "ear");
    let keeper = parrot(a.system(), "keeper");
    let to = far(&a, &b, "/user/ear");
    // Failures to send, and dead letters.
    let counts = || {
        let counted = a.remoting().get_endpoint_statistics(&b.authority().to_string()).unwrap();
        (counted.send_failures, counted.dead_letters)
    };
    to.tell(Talk::Say(0));
    let _asked: Vec<_> = (0..3).map(|_| far(&b, &a, "/user/keeper").ask(Talk::Keep)).collect();
    sim.run(s(1));
    b.freeze();
    sim.run(s(1));
    for n in 1..=10 {
        to.tell(Talk::Say(n));
    }
    assert_eq!(counts(), (0, 0), "they fit");
    let mut context = Context::from_waker(Waker::noop());
    let [mut taken, mut dropped, mut failed] = [11, 12, 13].map(|n| to.send(Talk::Say(n)));
    for _ in 0..3 {
        for waiting in [&mut taken, &mut dropped, &mut failed] {
            assert!(Pin::new(waiting).poll(&mut context).is_pending());
        }
    }
    assert_eq!(counts(), (0, 0), "they wait");
    to.tell(Talk::Say(20));
    assert_eq!(counts(), (1, 1));
    assert!(to.try_tell(Talk::Say(21)).is_err());
    assert_eq!(counts(), (2, 1));
    assert_eq!(sim.wait(s(1), to.ask(Talk::Keep)), Some(Err(AskError::Full)));
    assert_eq!(counts(), (3, 2));
    assert!(to.try_tell(Talk::Unspeakable(Unspeakable)).is_err());
    assert_eq!(counts(), (4, 2));
    drop(dropped);
    assert_eq!(counts(), (5, 2), "its sender dropped it");

    // One answer has room beyond the messages. That there is none is said once, with the answer or by itself.
    keeper.tell(Talk::Answer(1));
    sim.run(ms(1));
    assert_eq!(counts(), (5, 2));
    keeper.tell(Talk::Answer(2));
    sim.run(ms(1));
    assert_eq!(counts(), (6, 3));
    keeper.tell(Talk::Stop);
    sim.run(ms(1));
    assert_eq!(counts(), (7, 4));
    assert_eq!(a.letters().len(), 4);

    b.thaw();
    sim.run(s(5));
    assert!(Pin::new(&mut taken).poll(&mut context).is_ready());
    drop(taken);
    sim.run(s(1));
    assert_eq!((ear.len(), counts()), (12, (7, 4)), "it had only waited");
    a.remoting().quarantine(&b.authority().to_string(), nexus_remote::wire::QuarantineReason::ByOperator);
    assert!(matches!(Pin::new(&mut failed).poll(&mut context), Poll::Ready(Err(_))));
    drop(failed);
    assert_eq!(counts(), (8, 4));
}

/// Who waits for room at a peer that dies is told, not left.
///
/// Covers: S92, S36
#[test]
fn a_send_that_waits_learns_of_the_end() {
    for end in ["quarantine", "shutdown"] {
        let sim = simulation(921);
        let (a, b) = (small(&sim, "a", 10), know(sim.node("b")));
        let to = far(&a, &b, "/user/ear");
        to.tell(Talk::Say(0));
        sim.run(s(1));
        b.freeze();
        while to.try_tell(Talk::Say(1)).is_ok() {}
        let waiting = to.clone();
        let result = Arc::new(Mutex::new(None));
        let out = result.clone();
        a.system().spawn_task(async move {
            let told = waiting.send(Talk::Say(2)).await.map_err(|error| error.refusal);
            *out.lock().unwrap() = Some(told);
        });
        sim.run(s(1));
        assert!(result.lock().unwrap().is_none(), "it waits");
        if end == "quarantine" {
            a.remoting()
                .quarantine(&b.authority().to_string(), nexus_remote::wire::QuarantineReason::ByOperator);
        } else {
            a.system().begin_shutdown();
        }
        sim.run(s(15));
        let told = result.lock().unwrap().clone();
        assert!(matches!(told, Some(Err(Refusal::Quarantined | Refusal::Shutdown))), "{end}: {told:?}");
    }
}

/// Covers: S94, BP-44, CFG-22
#[test]
fn marks_are_told_once_per_crossing_to_listeners_stream_and_recorder() {
    let sim = simulation(94);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    let a = know(sim.node_with("a", |c| {
        c.with_queue_messages_max(1_000).with_backpressure_listener(move |signal, authority: &str| {
            told.lock().unwrap().push((signal, authority.to_string()));
        })
    }));
    let b = know(sim.node("b"));
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    for round in 1..=2 {
        b.freeze();
        for n in 0..1_000 {
            to.tell(Talk::Say(n));
            if n % 100 == 0 {
                sim.run(ms(1));
            }
        }
        sim.run(s(1));
        let upward = [BackpressureSignal::Warning, BackpressureSignal::Critical];
        let signals: Vec<_> = heard.lock().unwrap().iter().map(|(signal, _)| *signal).collect();
        assert_eq!(signals[(round - 1) * 3..], upward, "round {round}");
        b.thaw();
        sim.run(s(3));
        let signals: Vec<_> = heard.lock().unwrap().iter().map(|(signal, _)| *signal).collect();
        assert_eq!(signals.last(), Some(&BackpressureSignal::Normal));
        let expected: Vec<_> =
            upward.into_iter().chain([BackpressureSignal::Normal]).cycle().take(round * 3).collect();
        // On the way down Warning may be passed by in one acknowledgement.
        let downward = signals.clone();
        assert_eq!(downward.iter().filter(|s| **s == BackpressureSignal::Critical).count(), round);
        assert_eq!(downward.len(), expected.len(), "{downward:?}");
    }
    assert!(heard.lock().unwrap().iter().all(|(_, authority)| *authority == b.authority().to_string()));
    let events = a.pressure();
    let on_stream = events.iter().filter(|event| event.listener.is_none()).count();
    assert_eq!(on_stream, 6);
    assert_eq!(events.len() - on_stream, 6, "one more for the listener that was told");
    let critical = events.iter().find(|event| event.signal == BackpressureSignal::Critical).unwrap();
    assert!(critical.messages > 850 && critical.bytes > 0, "{critical:?}");
    assert_eq!(ear.len(), 2_001);
    // A guard that is dropped ends its listener.
    let late = Arc::new(Mutex::new(0));
    let count = late.clone();
    let guard =
        a.remoting().register_backpressure_listener(Arc::new(move |_: BackpressureSignal, _: &str| {
            *count.lock().unwrap() += 1
        }));
    drop(guard);
    b.freeze();
    for n in 0..900 {
        to.tell(Talk::Say(n));
    }
    sim.run(s(1));
    assert_eq!(*late.lock().unwrap(), 0);
}

/// Covers: S98, S99
#[test]
fn what_is_sent_to_a_broken_peer_waits_within_the_bounds() {
    let sim = simulation(98);
    let (a, b) = (small(&sim, "a", 500), know(sim.node("b")));
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    for node in [&a, &b] {
        node.link().set_dials(nexus_testkit::DialFate::Hold);
    }
    a.link().cut(nexus_testkit::Cut::Reset);
    for n in 1..=3_600 {
        to.tell(Talk::Say(n));
        sim.run(s(1));
    }
    let statistics = a.remoting().statistics(&b.authority().to_string()).unwrap();
    assert_eq!(statistics.in_flight, 500);
    assert_eq!(a.lost(DeadLetterReason::QueueFull), 3_100);
    assert!(a.remoting().tasks() <= 3);
    for node in [&a, &b] {
        node.link().set_dials(nexus_testkit::DialFate::Pass);
    }
    sim.run(s(30));
    assert_eq!(numbers(&ear), (0..=500).collect::<Vec<_>>(), "kept, and sent after");
}

/// Covers: S86
#[test]
fn beats_pass_a_link_that_is_full() {
    let sim = simulation(86);
    let a = know(sim.node_with("a", |c| c.with_metrics_interval(Some(s(1)))));
    let b = know(sim.node("b"));
    let round_trips = Arc::new(Mutex::new(Vec::new()));
    let to_them = round_trips.clone();
    a.system()
        .event_stream()
        .subscribe(move |metric: &RemotingMetric| to_them.lock().unwrap().push(metric.latency_ms))
        .forever();
    parrot(b.system(), "parrot");
    let ear = probe(b.system(), "ear");
    let here = probe(a.system(), "here");
    here.watch(&far(&a, &b, "/user/parrot"));
    let to = far(&a, &b, "/user/ear");
    sim.run(s(5));
    // A slow link, 3 MB/s, while megabytes wait.
    a.link().stall(Direction::Outbound);
    let mut sent = 0u64;
    for step in 0..2_000 {
        while step % 100 == 0 && to.try_tell(Talk::Blob(vec![0; 10_000])).is_ok() {
            sent += 1;
            if u64::is_multiple_of(sent, 1_000) {
                break;
            }
        }
        a.link().allow(Direction::Outbound, 32 * 1024);
        sim.run(ms(10));
    }
    let suspects =
        a.count(|event| matches!(event, nexus_remote::event::RemotingLifecycleEvent::Suspect { .. }));
    assert_eq!(suspects, 0);
    let round_trips = round_trips.lock().unwrap().clone();
    assert!(round_trips.len() > 20, "{round_trips:?}");
    assert!(round_trips.iter().all(|ms| *ms <= 250), "a quarter of their interval: {round_trips:?}");
    assert!(here.take_terminations().is_empty());
    a.link().pass(Direction::Outbound);
    sim.run(s(10));
    assert_eq!(ear.len() as u64, sent);
}

/// A node that always has something to say can be asked all the same; what not even so finds room is recorded.
///
/// Covers: S92
#[test]
fn answers_find_room_in_a_lane_full_of_messages() {
    let sim = simulation(922);
    let (a, b) = (small(&sim, "a", 80), know(sim.node("b")));
    let ear = probe(b.system(), "ear");
    parrot(a.system(), "parrot");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    a.link().stall(Direction::Outbound);
    while to.try_tell(Talk::Say(1)).is_ok() {}
    let asks: Vec<_> = (0..30)
        .map(|n| far(&b, &a, "/user/parrot").ask(|reply| Talk::Echo(n, reply)).timeout(s(4)))
        .collect();
    sim.run(s(1));
    assert!(to.try_tell(Talk::Say(1)).is_err(), "messages find none");
    a.link().pass(Direction::Outbound);
    let answers: Vec<_> = asks.into_iter().map(|ask| sim.wait(s(5), ask).unwrap()).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10, "an eighth of the lane");
    assert_eq!(a.lost(DeadLetterReason::QueueFull), 20, "{:?}", lost(&a));
    assert!(ear.len() >= 80);
}

/// Covers: S91
#[test]
fn the_oldest_is_given_up_when_so_configured() {
    let sim = simulation(911);
    let a =
        know(sim.node_with("a", |c| c.with_queue_messages_max(10).with_queue_overflow(Overflow::DropOldest)));
    let b = know(sim.node("b"));
    let ear = probe(b.system(), "ear");
    a.link().set_dials(nexus_testkit::DialFate::Hold);
    let to = far(&a, &b, "/user/ear");
    for n in 0..30 {
        to.tell(Talk::Say(n));
    }
    sim.settle();
    assert_eq!(lost(&a), [(DeadLetterReason::QueueFull, 20)].into());
    assert!(
        a.letters()
            .iter()
            .all(|letter| letter.context().recipient.as_ref().unwrap().elements() == "/user/ear")
    );
    a.link().set_dials(nexus_testkit::DialFate::Pass);
    sim.run(s(10));
    assert_eq!(numbers(&ear), (20..30).collect::<Vec<_>>());
    assert_eq!(accounts(&a, &b), (30, 10, 20));
}

/// Covers: S99
#[test]
fn what_waits_for_a_lost_connection_is_kept_or_given_up() {
    for patience in [Patience::Keep, Patience::Drop] {
        let sim = simulation(99);
        let a = know(sim.node_with("a", |c| c.with_queue_patience(patience)));
        let b = know(sim.node("b"));
        let ear = probe(b.system(), "ear");
        let to = far(&a, &b, "/user/ear");
        to.tell(Talk::Say(0));
        sim.run(s(1));
        for node in [&a, &b] {
            node.link().set_dials(nexus_testkit::DialFate::Hold);
        }
        a.link().cut(nexus_testkit::Cut::Reset);
        sim.run(ms(100));
        for n in 1..=5 {
            to.tell(Talk::Say(n));
        }
        sim.settle();
        let kept = patience == Patience::Keep;
        let expected = if kept { [].into() } else { [(DeadLetterReason::Unreachable, 5)].into() };
        assert_eq!(lost(&a), expected, "{patience:?}: at once");
        for node in [&a, &b] {
            node.link().set_dials(nexus_testkit::DialFate::Pass);
        }
        sim.run(s(15));
        to.tell(Talk::Say(6));
        sim.run(s(15));
        to.tell(Talk::Say(7));
        sim.run(s(1));
        let numbers = numbers(&ear);
        if kept {
            assert_eq!(numbers, (0..=7).collect::<Vec<_>>());
        } else {
            assert_eq!((numbers[0], numbers.last()), (0, Some(&7)), "{numbers:?}");
            assert!(!numbers.iter().any(|n| (1..=5).contains(n)), "{numbers:?}");
        }
    }
}

/// Covers: S96
#[test]
fn many_small_messages_take_few_writes_and_one_leaves_at_once() {
    let (sim, [a, b]) = nodes(96, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    assert_eq!(numbers(&ear), [0]);
    // On an idle link: no time passes until it has arrived, in one write of its own.
    for n in 1..=20 {
        let before = a.link().counts().writes_outbound;
        to.tell(Talk::Say(n));
        sim.settle();
        assert_eq!(numbers(&ear), [n]);
        assert!(a.link().counts().writes_outbound - before <= 2);
        sim.run(ms(50));
    }
    // A slow link: 4 KiB in a hundredth of a second.
    a.link().stall(Direction::Outbound);
    let before = a.link().counts();
    for n in 0..20_000 {
        to.tell(Talk::Say(n));
    }
    while ear.len() < 20_000 {
        a.link().allow(Direction::Outbound, 4_096);
        sim.run(ms(10));
    }
    let writes = a.link().counts().writes_outbound - before.writes_outbound;
    let bytes = a.link().counts().bytes_outbound - before.bytes_outbound;
    assert!(writes < 20_000 / 50, "{writes} writes for 20,000 messages of {bytes} bytes");
    assert!(numbers(&ear).into_iter().eq(0..20_000));
}

/// The news that there will be no answer finds no room either: it is recorded, for the asker learns only by its deadline.
#[test]
fn an_asker_that_cannot_be_told_is_recorded() {
    let sim = simulation(92);
    let (a, b) = (know(sim.node("a")), small(&sim, "b", 8));
    let parrot = parrot(b.system(), "parrot");
    let ear = probe(a.system(), "ear");
    let asks: Vec<_> = (0..20).map(|_| far(&a, &b, "/user/parrot").ask(Talk::Keep).timeout(s(30))).collect();
    let to_a = far(&b, &a, "/user/ear");
    to_a.tell(Talk::Say(0));
    sim.run(s(1));
    b.link().stall(Direction::Outbound);
    while to_a.try_tell(Talk::Say(1)).is_ok() {}
    // It drops what it was asked.
    parrot.stop();
    sim.run(s(1));
    let recorded =
        b.letters().iter().filter(|letter| letter.message.to_string().contains("no answer")).count();
    assert_eq!(b.lost(DeadLetterReason::QueueFull), recorded);
    b.link().pass(Direction::Outbound);
    let told = asks
        .into_iter()
        .map(|ask| sim.wait(s(60), ask).unwrap())
        .filter(|answer| *answer == Err(AskError::NoReply))
        .count();
    assert!(recorded > 0 && told > 0, "{recorded} recorded, {told} told");
    assert_eq!(recorded + told, 20, "each has one end");
    assert!(!ear.is_empty());
}
