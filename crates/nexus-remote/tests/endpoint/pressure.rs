//! Pressure that no queue shows: a connection that takes nothing, a peer that is doubted.

use std::sync::{Arc, Mutex};

use nexus_actor_core::event_stream::EventStreamEvent;
use nexus_actor_core::{DeadLetterReason, Refusal, TellError};
use nexus_remote::RemotingControl;
use nexus_remote::backpressure::BackpressureSignal::{self, Normal, Warning};
use nexus_remote::event::{RemotingBackpressureEvent, RemotingLifecycleEvent as Event};
use nexus_remote::flight_recorder::FlightKind;
use nexus_testkit::{Direction, SimNode};

use crate::kit::*;

/// How often pressure was recorded.
fn recorded(node: &SimNode) -> usize {
    let snapshot = node.remoting().flight_recorder().snapshot();
    snapshot.records.iter().filter(|r| matches!(r.event.kind, FlightKind::Backpressure { .. })).count()
}

fn signals(node: &SimNode) -> Vec<BackpressureSignal> {
    node.pressure().iter().filter(|event| event.listener.is_none()).map(|event| event.signal).collect()
}

/// A transport's signal reaches listeners, stream and recorder, in that order; meanwhile nothing leaves the lane, whose
/// bounds hold. On both ends of a connection: of the accepted one the transport knows only where it came from.
///
/// Covers: BP-41, BP-42, BP-43, BP-49, EV-24, EV-25
#[test]
fn a_connection_that_takes_nothing_is_told_of() {
    for dials in ["a", "b"] {
        let sim = simulation(42);
        let a = know(sim.node_with("a", |c| c.with_queue_messages_max(1_000)));
        let b = know(sim.node("b"));
        let ear = probe(b.system(), "ear");
        let (from, to) = if dials == "a" { (&a, &b) } else { (&b, &a) };
        from.remoting().associate(&to.system().address().to_string().parse().unwrap()).unwrap();
        assert!(sim.until(s(1), || a.is_connected_to(&b)));
        assert_eq!(a.link().counts().dialled, u64::from(dials == "a"));
        let far = far(&a, &b, "/user/ear");
        far.tell(Talk::Say(0));
        sim.run(s(1));

        let heard = Arc::new(Mutex::new(Vec::new()));
        let (by_listener, by_stream, by_feed) = (heard.clone(), heard.clone(), heard.clone());
        let (first, second) = (a.clone(), a.clone());
        let guard = a.remoting().register_backpressure_listener(Arc::new(
            move |signal: BackpressureSignal, authority: &str| {
                let so_far = (first.pressure().len(), recorded(&first));
                by_listener.lock().unwrap().push(format!("listener {signal} {authority} {so_far:?}"));
            },
        ));
        a.system()
            .event_stream()
            .subscribe(move |event: &RemotingBackpressureEvent| {
                if event.listener.is_some() {
                    let text = format!("stream {} {}", event.signal, recorded(&second));
                    by_stream.lock().unwrap().push(text);
                }
            })
            .forever();
        a.system()
            .event_stream()
            .subscribe(move |event: &EventStreamEvent| {
                if let EventStreamEvent::RemotingBackpressure(record) = event
                    && record.json.contains("listener")
                {
                    let json = &record.json;
                    assert!(json.contains("\"signal\"") && json.contains("\"authority\""), "{json}");
                    by_feed.lock().unwrap().push("feed".to_string());
                }
            })
            .forever();
        // A connection in full use stalls all the time, and nobody wants to hear of it.
        for n in 1..=10 {
            a.link().stall(Direction::Outbound);
            far.tell(Talk::Say(n));
            sim.run(ms(300));
            a.link().pass(Direction::Outbound);
            sim.run(ms(1));
        }
        sim.run(s(2));
        assert_eq!((heard.lock().unwrap().len(), ear.len()), (0, 11), "{dials}");

        a.link().stall(Direction::Outbound);
        for n in 11..=20 {
            far.tell(Talk::Say(n));
        }
        sim.run(ms(900));
        assert_eq!(signals(&a), []);
        sim.run(ms(200));
        assert_eq!(signals(&a), [Warning], "ten of a thousand places: it is not the lane that says so");
        let told = std::mem::take(&mut *heard.lock().unwrap());
        let peer = b.authority();
        assert_eq!(
            told,
            [format!("listener warning {peer} (0, 0)"), "stream warning 0".to_string(), "feed".to_string(),],
            "{dials}"
        );
        assert_eq!(recorded(&a), 2, "once for the listener, once for everybody");
        assert_eq!(a.pressure()[1].messages, 10);
        // What waits is held within its bounds while the connection takes nothing.
        let mut refused = 0;
        for n in 21..=1_100 {
            match far.try_tell(Talk::Say(n)) {
                Ok(()) => {}
                Err(TellError { refusal: Refusal::QueueFull { .. }, .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        sim.run(s(1));
        assert_eq!((ear.len(), refused), (11, 90), "{dials}");
        a.link().pass(Direction::Outbound);
        sim.run(s(1));
        assert_eq!(numbers(&ear), (0..=1_010).collect::<Vec<_>>());
        assert_eq!(signals(&a).last(), Some(&Normal), "{:?}", signals(&a));
        let before = signals(&a).len();
        drop(guard);
        // A connection that ends while it takes nothing ends its stall.
        a.link().stall(Direction::Outbound);
        far.tell(Talk::Say(2_000));
        sim.run(s(2));
        assert_eq!(signals(&a)[before..], [Warning]);
        a.link().cut(nexus_testkit::Cut::Reset);
        a.link().pass(Direction::Outbound);
        sim.run(s(5));
        assert_eq!(signals(&a)[before..], [Warning, Normal]);
        assert_eq!(numbers(&ear), [2_000]);
    }
}

/// A peer that falls silent is doubted, which is pressure too, and trusted again when it is heard: nothing is lost.
///
/// Covers: FD-01, FD-04, FD-05, ROLE-54, OBS-06
#[test]
fn a_silent_peer_is_suspected_and_reachable_again() {
    let (sim, [a, b]) = nodes(18, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(2));
    let peer = b.authority().to_string();
    let health = || a.remoting().health(&peer).unwrap();
    assert!(!health().monitoring, "nothing is watched and everything acknowledged: no beats");
    assert_eq!(a.remoting().health("127.0.0.1:9"), None);
    let started = sim.now();
    b.freeze();
    to.tell(Talk::Say(1));
    sim.run(s(8));
    let first = health();
    assert!(first.monitoring && first.uid == a.lifecycle()[1].1.uid().unwrap(), "{first:?}");
    sim.run(ms(500));
    assert!(health().suspicion > first.suspicion, "{first:?} {:?}", health());
    sim.run(s(12));
    let since = |test: fn(&Event) -> bool| {
        a.lifecycle().iter().find(|(at, event)| *at > started && test(event)).map(|(at, _)| *at - started)
    };
    let suspected = since(|event| matches!(event, Event::Suspect { .. })).unwrap();
    assert!(suspected > s(9) && suspected < s(16), "{suspected:?}");
    assert_eq!(signals(&a), [Warning]);
    assert_eq!(a.turns_of(&b), ["connected", "suspect", "disconnected"], "and nothing worse");
    b.thaw();
    sim.run(s(20));
    assert_eq!(a.turns_of(&b).iter().filter(|turn| **turn == "reachable").count(), 1);
    assert_eq!(a.turns_of(&b)[a.turns_of(&b).len() - 2..], ["connected", "reachable"]);
    assert_eq!(signals(&a), [Warning, Normal]);
    assert_eq!(numbers(&ear), [0, 1]);
    assert_eq!(lost(&a).len(), 0);
}

/// With something watched the same silence is a death: told, quarantined, and recorded for what was on its way.
///
/// Covers: DL-11, DL-12, ERR-18
#[test]
fn a_silent_peer_that_is_watched_is_suspected_and_lost() {
    let (sim, [a, b]) = nodes(180, ["a", "b"]);
    parrot(b.system(), "parrot");
    let here = probe(a.system(), "here");
    let to = far(&a, &b, "/user/parrot");
    to.tell(Talk::Say(0));
    here.watch(&to);
    sim.run(s(20));
    b.freeze();
    to.tell(Talk::Say(1));
    to.tell(Talk::Say(2));
    sim.run(s(15));
    let turns = a.turns_of(&b);
    assert_eq!(turns, ["connected", "suspect", "disconnected", "quarantined"]);
    assert_eq!(here.take_terminations().len(), 1);
    assert_eq!(lost(&a), [(DeadLetterReason::Unconfirmed, 2)].into());
    assert_eq!(signals(&a), [Warning]);
    b.kill();
    let b = know(sim.successor(&b, |config| config));
    let ear = probe(b.system(), "parrot");
    sim.run(s(40));
    to.tell(Talk::Say(3));
    sim.run(s(5));
    assert_eq!(numbers(&ear), [3]);
    assert_eq!(signals(&a), [Warning, Normal]);
    let reachable = a.count(|event| matches!(event, Event::Reachable { .. }));
    assert_eq!(reachable, 0, "another incarnation answers, not the one that was doubted");
}
