//! The events and figures that both wires have, of the native one.

use std::sync::{Arc, Mutex};

use nexus_actor_core::DeadLetterReason;
use nexus_remote::endpoint_statistics::ENDED;
use nexus_remote::event::RemotingLifecycleEvent;
use nexus_remote::wire::QuarantineReason;
use nexus_remote::{
    EndpointConnectedEvent, EndpointReconnectEvent, EndpointSource, EndpointStatisticsSnapshot,
    EndpointTerminatedEvent, EndpointThrottledEvent, RemotingControl,
};
use nexus_testkit::{Cut, DialFate, Direction, SimNode};

use crate::kit::*;

/// What a node published of its endpoints, one word for each.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn of(node: &SimNode) -> Self {
        let heard = Self::default();
        let stream = node.system().event_stream();
        let out = heard.0.clone();
        stream
            .subscribe(move |e: &EndpointConnectedEvent| {
                out.lock().unwrap().push(format!("connected {}", e.system_id));
            })
            .forever();
        let out = heard.0.clone();
        stream
            .subscribe(move |e: &EndpointReconnectEvent| {
                out.lock().unwrap().push(format!("reconnect {}", e.attempt));
            })
            .forever();
        let out = heard.0.clone();
        stream
            .subscribe(move |e: &EndpointThrottledEvent| {
                out.lock().unwrap().push(format!("throttled {}", e.level.as_str()));
            })
            .forever();
        let out = heard.0.clone();
        stream
            .subscribe(move |e: &EndpointTerminatedEvent| {
                let text = format!("terminated {} sent {}", e.reason, e.statistics.sent);
                out.lock().unwrap().push(text);
            })
            .forever();
        heard
    }

    fn take(&self) -> Vec<String> {
        core::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn figures(node: &SimNode, peer: &SimNode) -> EndpointStatisticsSnapshot {
    node.remoting().get_endpoint_statistics(&peer.authority().to_string()).unwrap()
}

/// Connected, throttled, lost, tried again, connected again with the level told anew, and cut for good: each once.
///
/// Covers: EV-01, EV-02, EV-03, EV-04, EV-06
#[test]
fn the_life_of_an_endpoint_is_told_in_order() {
    let sim = simulation(9_001);
    let a = know(sim.node_with("a", |config| config.with_queue_messages_max(100)));
    let b = know(sim.node("b"));
    let heard = Heard::of(&a);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    let [connected] = &heard.take()[..] else { panic!() };
    let uid = a.lifecycle().into_iter().find_map(|(_, event)| match event {
        RemotingLifecycleEvent::Connected { uid, .. } => Some(uid),
        _ => None,
    });
    assert_eq!(*connected, format!("connected {}", uid.unwrap()));

    a.link().stall(Direction::Outbound);
    for n in 0..90 {
        to.tell(Talk::Say(n));
        sim.settle();
    }
    assert_eq!(heard.take(), ["throttled warning", "throttled critical"]);
    assert_eq!((figures(&a, &b).queue_size, figures(&a, &b).queue_capacity), (90, 100));
    a.link().pass(Direction::Outbound);
    sim.run(s(1));
    assert_eq!(heard.take(), ["throttled normal"]);
    assert_eq!(figures(&a, &b).queue_size, 0);

    sim.run(s(5));
    a.link().set_dials(DialFate::Refuse);
    b.link().set_dials(DialFate::Refuse);
    a.link().cut(Cut::Reset);
    sim.settle();
    to.tell(Talk::Say(1));
    assert!(sim.until(s(5), || figures(&a, &b).reconnect_attempts == 3));
    a.link().set_dials(DialFate::Pass);
    assert!(sim.until(s(5), || a.is_connected_to(&b)));
    let tries: Vec<_> = (1..=4).map(|n| format!("reconnect {n}")).collect();
    let mut expected = tries.clone();
    expected.extend([connected.clone(), "throttled normal".to_string()]);
    assert_eq!(heard.take(), expected);
    assert_eq!(figures(&a, &b).reconnect_attempts, 4);
    assert_eq!(ear.len(), 92);

    a.remoting().quarantine(&b.authority().to_string(), QuarantineReason::ByOperator);
    sim.run(s(1));
    assert_eq!(heard.take(), ["terminated by operator sent 92"]);
    a.remoting().recover(&b.authority().to_string()).unwrap();
    sim.run(s(2));
    assert_eq!(heard.take(), [&**connected], "another endpoint: nothing is made again");
}

/// Whatever ends an endpoint says so once, with its reason and last figures; one that never began does not.
///
/// Covers: EV-01, S152
#[test]
fn an_end_is_told_once_with_its_reason() {
    for (way, expected) in [
        ("never reached", "terminated Dial(Refused) sent 1"),
        ("left", "terminated left sent 1"),
        ("shut down", "terminated shutdown sent 1"),
        ("quarantined by the peer", "terminated by the peer: by operator sent 1"),
        ("blocked", "terminated blocked sent 1"),
        ("unused", "terminated unused sent 1"),
        ("never begun", ""),
    ] {
        let (sim, [a, b]) = nodes(9_002, ["a", "b"]);
        let heard = Heard::of(&a);
        let _ear = probe(b.system(), "ear");
        if way == "never reached" {
            a.link().set_dials(DialFate::Refuse);
        }
        let to = far(&a, &b, "/user/ear");
        if way != "never begun" {
            to.tell(Talk::Say(0));
            sim.run(s(25));
        }
        let (at_a, at_b) = (a.authority().to_string(), b.authority().to_string());
        match way {
            "left" => b.remoting().shutdown().unwrap(),
            "shut down" | "never begun" => a.remoting().shutdown().unwrap(),
            "quarantined by the peer" => b.remoting().quarantine(&at_a, QuarantineReason::ByOperator),
            "blocked" => a.remoting().block_system(&at_b).unwrap(),
            "unused" => {
                drop(to);
                sim.run(s(4 * 3_600));
                assert_eq!(a.remoting().associations(), 0);
            }
            _ => {}
        }
        sim.run(s(25));
        let ends: Vec<_> = heard.take().into_iter().filter(|e| e.starts_with("terminated")).collect();
        assert_eq!(ends, if expected.is_empty() { vec![] } else { vec![expected] }, "{way}");
    }
}

/// Each message is in one place: it is delivered, waits, or is a dead letter, be it refused at once or lost later.
///
/// Covers: S142, ST-06, ST-07, ST-10, DIAG-06
#[test]
fn every_message_is_in_one_figure() {
    let sim = simulation(9_003);
    let a = know(sim.node_with("a", |config| config.with_queue_messages_max(50)));
    let b = know(sim.node("b"));
    let ear = probe(b.system(), "ear");
    parrot(b.system(), "parrot");
    let to = far(&a, &b, "/user/ear");
    let peer = b.authority().to_string();
    assert_eq!(a.remoting().get_endpoint_statistics("nowhere:1"), None);
    to.tell(Talk::Say(0));
    assert_eq!(sim.wait(s(2), far(&a, &b, "/user/parrot").ask(|r| Talk::Echo(1, r))), Some(Ok(1)));
    sim.run(s(1));
    let then = figures(&a, &b);
    assert_eq!((then.sent, then.received, then.queue_size, then.queue_capacity), (2, 1, 0, 50));
    assert_eq!((figures(&b, &a).sent, figures(&b, &a).received), (1, 2));

    // Fifty fit, the others are refused; what waits when the peer is quarantined is lost.
    a.link().stall(Direction::Outbound);
    sim.run(ms(10));
    for n in 0..60 {
        to.tell(Talk::Say(n));
    }
    let then = figures(&a, &b);
    assert_eq!((then.sent, then.queue_size, then.send_failures, then.dead_letters), (52, 50, 10, 10));
    a.remoting().quarantine(&peer, QuarantineReason::ByOperator);
    sim.run(s(1));
    let then = figures(&a, &b);
    assert_eq!((then.sent, then.queue_size, then.send_failures, then.dead_letters), (52, 0, 10, 60));
    assert_eq!(a.lost(DeadLetterReason::QueueFull), 10);
    assert_eq!(a.letters().len(), 60);
    assert_eq!(ear.len(), 1);
}

/// The totals of associations that are forgotten, and of all of them at the end, stay in the reports.
///
/// Covers: CNF-11, ST-05
#[test]
fn totals_outlive_their_endpoints() {
    let (sim, [a, b]) = nodes(9_004, ["a", "b"]);
    let _ear = probe(b.system(), "ear");
    let (address, mut sent) = (b.authority().to_string(), 0);
    for round in 1..=3 {
        let to = far(&a, &b, "/user/ear");
        for n in 0..10 {
            to.tell(Talk::Say(n));
        }
        sent += 10;
        sim.run(s(1));
        let total = || a.remoting().endpoints().iter().map(|report| report.statistics.sent).sum::<u64>();
        assert_eq!(total(), sent, "{round}");
        if round == 3 {
            a.remoting().shutdown().unwrap();
            sim.run(s(15));
        } else {
            drop(to);
            sim.run(s(4 * 3_600));
            assert_eq!(a.remoting().get_endpoint_statistics(&address), None, "{round}");
        }
        let reports = a.remoting().endpoints();
        assert_eq!(reports.len(), 1);
        assert_eq!((reports[0].state, &*reports[0].address), (ENDED, &*address));
        assert_eq!((reports[0].protocol, reports[0].statistics.queue_capacity), ("fraktor", 0));
        assert_eq!(total(), sent, "{round}");
    }
}
