//! Ends in order, and in disorder.

use nexus_actor_core::{AskError, DeadLetterReason, Refusal, TellError};
use nexus_remote::event::RemotingLifecycleEvent as Event;
use nexus_remote::{RemotingControl, RemotingError};
use nexus_testkit::{Cut, DialFate, Direction, SimNode, Simulation};

use crate::kit::*;

fn shut(sim: &Simulation, node: &SimNode) -> Option<Result<(), nexus_actor_core::ShutdownError>> {
    let system = node.system().clone();
    sim.wait(s(60), async move { system.shutdown().await })
}

/// Covers: S109
#[test]
fn a_peer_that_vanished_does_not_hold_up_the_end() {
    for how in ["frozen", "black hole", "dialling", "refused"] {
        let (sim, [a, b]) = nodes(109, ["a", "b"]);
        let to = far(&a, &b, "/user/ear");
        if how == "dialling" {
            a.link().set_dials(DialFate::Hold);
        }
        if how == "refused" {
            a.link().set_dials(DialFate::Refuse);
        }
        to.tell(Talk::Say(0));
        sim.run(s(1));
        match how {
            "frozen" => b.freeze(),
            "black hole" => {
                a.link().stall(Direction::Outbound);
                a.link().stall(Direction::Inbound);
            }
            _ => {}
        }
        for n in 1..100 {
            to.tell(Talk::Say(n));
        }
        let started = sim.now();
        let ended = shut(&sim, &a);
        assert_eq!(ended, Some(Ok(())), "{how}");
        assert!(sim.now() - started <= s(11), "{how}: {:?}", sim.now() - started);
        let (sent, acknowledged) = (100, if matches!(how, "dialling" | "refused") { 0 } else { 1 });
        // Of what a connection had taken nobody knows whether it was delivered.
        let recorded = a.lost(DeadLetterReason::Shutdown) + a.lost(DeadLetterReason::Unconfirmed);
        assert_eq!(recorded, sent - acknowledged, "{how}: {:?}", lost(&a));
        assert_eq!(recorded, a.letters().len(), "{how}");
        if matches!(how, "dialling" | "refused") {
            assert_eq!(a.lost(DeadLetterReason::Shutdown), sent, "{how}");
        }
        assert_eq!(a.remoting().tasks(), 0, "{how}");
        sim.settle();
        assert_eq!(a.tasks(), 0, "{how}: nothing of the node runs");
    }
}

/// Who says something and ends has said it, though nobody knew the peer before.
///
/// Covers: S108
#[test]
fn what_was_said_while_the_connection_was_made_arrives_before_the_end() {
    for when in ["the dial", "a redial", "the request"] {
        let (sim, [a, b]) = nodes(108, ["a", "b"]);
        let ear = probe(b.system(), "ear");
        let to = far(&a, &b, "/user/ear");
        if when == "a redial" {
            to.tell(Talk::Say(0));
            sim.run(s(1));
            assert_eq!(numbers(&ear), [0], "{when}");
        }
        if when == "the request" {
            a.link().stall(Direction::Inbound);
        } else {
            for node in [&a, &b] {
                node.link().set_dials(DialFate::Hold);
            }
            a.link().cut(Cut::Close);
        }
        sim.settle();
        to.tell(Talk::Say(1));
        sim.settle();
        a.system().begin_shutdown();
        sim.run(ms(500));
        assert_eq!(a.remoting().tasks(), 1, "{when}: the listener is gone, the attempt goes on");
        a.link().set_dials(DialFate::Pass);
        a.link().pass(Direction::Inbound);
        let started = sim.now();
        assert_eq!(shut(&sim, &a), Some(Ok(())), "{when}");
        assert!(sim.now() - started < s(1), "{when}: {:?}", sim.now() - started);
        sim.run(s(1));
        assert_eq!(numbers(&ear), [1], "{when}");
        assert!(a.letters().is_empty(), "{when}: {:?}", a.letters());
        let turns = b.turns_of(&a);
        assert!(turns.ends_with(&["connected", "left", "disconnected"]), "{when}: {turns:?}");
    }
}

/// Covers: S110, S36
#[test]
fn after_the_end_sends_are_refused_and_nothing_is_dialled() {
    let (sim, [a, b, c]) = nodes(110, ["a", "b", "c"]);
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    let ask = to.ask(Talk::Keep).timeout(s(60));
    let unused = far(&a, &c, "/user/ear");
    sim.run(s(1));
    a.system().begin_shutdown();
    sim.settle();
    let dialled = a.link().counts().dialled;
    to.tell(Talk::Say(1));
    unused.tell(Talk::Say(1));
    assert!(matches!(to.try_tell(Talk::Say(2)), Err(TellError { refusal: Refusal::Shutdown, .. })));
    assert!(a.system().resolve::<Talk>(&b.url("/user/other")).is_err());
    let late = unused.ask(|reply| Talk::Echo(1, reply));
    assert_eq!(sim.wait(s(20), late), Some(Err(AskError::Shutdown)));
    let answer = sim.wait(s(20), ask);
    assert!(
        matches!(
            answer,
            Some(Err(AskError::Shutdown | AskError::NoReply | AskError::NoSuchActor | AskError::Unreachable))
        ),
        "{answer:?}"
    );
    assert_eq!(shut(&sim, &a), Some(Ok(())));
    to.tell(Talk::Say(3));
    sim.run(s(60));
    assert_eq!(a.link().counts().dialled, dialled);
    assert_eq!(a.lost(DeadLetterReason::Shutdown), 4, "{:?}", lost(&a));
    assert!(matches!(a.remoting().start(), Err(RemotingError::Shutdown)));
}

/// Covers: S111
#[test]
fn a_shutdown_completes_once_and_frees_the_port() {
    for when in ["at once", "during a handshake", "while dialling", "twice", "connected"] {
        let (sim, [a, b]) = nodes(111, ["a", "b"]);
        let to = far(&a, &b, "/user/ear");
        match when {
            "during a handshake" => {
                a.link().stall(Direction::Inbound);
                to.tell(Talk::Say(0));
                sim.settle();
            }
            "while dialling" => {
                a.link().set_dials(DialFate::Hold);
                to.tell(Talk::Say(0));
                sim.settle();
            }
            "connected" => {
                to.tell(Talk::Say(0));
                sim.run(s(1));
            }
            _ => {}
        }
        if when == "twice" {
            a.remoting().shutdown().unwrap();
            a.remoting().shutdown().unwrap();
            a.system().begin_shutdown();
        }
        assert_eq!(shut(&sim, &a), Some(Ok(())), "{when}");
        assert_eq!(shut(&sim, &a), Some(Ok(())), "{when}");
        let handle = a.remoting().clone();
        assert_eq!(sim.wait(s(1), async move { handle.shutdown_and_wait().await }), Some(()), "{when}");
        assert_eq!(a.count(|event| matches!(event, Event::Shutdown { .. })), 1, "{when}");
        assert_eq!((a.remoting().tasks(), a.remoting().associations()), (0, 0), "{when}");
        let next = sim.successor(&a, |config| config);
        assert_eq!(next.authority(), a.authority(), "{when}");
        sim.settle();
        assert_eq!(a.tasks(), 0, "{when}");
    }
}

/// Covers: S71
#[test]
fn remoting_can_end_while_its_system_lives_on() {
    let (sim, [a, b]) = nodes(113, ["a", "b"]);
    let here = parrot(a.system(), "parrot");
    far(&a, &b, "/user/ear").tell(Talk::Say(0));
    sim.run(s(1));
    a.remoting().shutdown().unwrap();
    sim.run(s(15));
    assert_eq!(a.remoting().tasks(), 0);
    assert_eq!(sim.wait(s(1), here.ask(|reply| Talk::Echo(3, reply))), Some(Ok(3)));
    assert_eq!(b.turns_of(&a), ["connected", "left", "disconnected"]);
    assert_eq!(shut(&sim, &a), Some(Ok(())));
}

/// Covers: S112
#[test]
fn ten_thousand_watches_go_out_before_the_goodbye() {
    let (sim, [a, b]) = nodes(112, ["a", "b"]);
    let ear = probe(a.system(), "ear");
    for n in 0..10_000 {
        let name = format!("p{n}");
        parrot(b.system(), &name);
        ear.watch(&far(&a, &b, &format!("/user/{name}")));
    }
    sim.run(s(10));
    let peer = b.authority().to_string();
    assert_eq!(a.remoting().statistics(&peer).unwrap().watching, 10_000);
    assert_eq!(shut(&sim, &b), Some(Ok(())));
    sim.run(s(5));
    assert_eq!(ear.take_terminations().len(), 10_000);
    assert_eq!(a.count(|event| matches!(event, Event::Quarantined { .. })), 0);
    assert_eq!(a.turns_of(&b), ["connected", "left", "disconnected"]);
    assert_eq!(a.remoting().statistics(&peer).map_or(0, |it| it.watching), 0);
}
