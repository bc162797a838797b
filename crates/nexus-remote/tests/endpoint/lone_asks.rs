//! A question somebody waits for, when nothing else is on its way, is written by whoever asks.

use nexus_actor_core::AskError;
use nexus_remote::RemotingControl;
use nexus_testkit::{Cut, Direction, SimNode, Simulation};

use crate::kit::*;

/// Two nodes that know each other, at rest: references and types have their numbers, everything is acknowledged.
fn acquainted(seed: u64) -> (Simulation, [SimNode; 2]) {
    let (sim, [a, b]) = nodes(seed, ["a", "b"]);
    parrot(b.system(), "parrot");
    let ask = far(&a, &b, "/user/parrot").ask(|reply| Talk::Echo(1, reply));
    assert_eq!(sim.wait(s(4), ask), Some(Ok(1)));
    sim.run(s(1));
    (sim, [a, b])
}

fn writes(node: &SimNode) -> u64 {
    node.link().counts().writes_outbound
}

/// The first of several questions goes out before anybody else runs; those behind it, and what nobody waits for, go
/// together.
#[test]
fn a_lone_question_does_not_wait_for_the_connection() {
    let (sim, [a, b]) = acquainted(700);
    let to = far(&a, &b, "/user/parrot");
    let before = writes(&a);
    to.tell(Talk::Say(1));
    assert_eq!(writes(&a), before, "nobody waits for it");
    sim.run(s(1));

    let before = writes(&a);
    let first = to.ask(|reply| Talk::Echo(2, reply));
    assert_eq!(writes(&a), before + 1);
    let more: Vec<_> = (3..100).map(|n| to.ask(|reply| Talk::Echo(n, reply))).collect();
    to.tell(Talk::Say(1));
    assert_eq!(writes(&a), before + 1, "a system call each");
    assert_eq!(sim.wait(s(4), first), Some(Ok(2)));
    for (n, ask) in (3..100).zip(more) {
        assert_eq!(sim.wait(s(4), ask), Some(Ok(n)));
    }

    sim.run(s(1));
    to.tell(Talk::Say(1));
    let before = writes(&a);
    let behind = to.ask(|reply| Talk::Echo(5, reply));
    assert_eq!(writes(&a), before, "the connection has been woken for what is before it");
    assert_eq!(sim.wait(s(4), behind), Some(Ok(5)));
    assert_eq!(accounts(&a, &b).2, 0);
}

/// The answer to a question that came alone goes out before anybody else runs; of questions that came together the
/// answers go together.
#[test]
fn the_answer_to_a_lone_question_does_not_wait_for_the_connection() {
    let (sim, [a, b]) = acquainted(704);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    assert_eq!(numbers(&ear), [0]);

    let ask = to.ask(|reply| Talk::Echo(1, reply));
    sim.run(s(1));
    let [Talk::Echo(1, reply)] = <[Talk; 1]>::try_from(ear.take_messages()).unwrap() else { panic!() };
    let before = writes(&b);
    reply.send(7);
    assert_eq!(writes(&b), before + 1);
    assert_eq!(sim.wait(s(4), ask), Some(Ok(7)));
    sim.run(s(1));

    // The first of these is written by its asker; the others share a write, and arrive together.
    let asks: Vec<_> = (1..5).map(|n| to.ask(|reply| Talk::Echo(n, reply))).collect();
    sim.run(s(1));
    let questions = ear.take_messages();
    assert_eq!(questions.len(), 4);
    let before = writes(&b);
    for question in questions {
        let Talk::Echo(n, reply) = question else { panic!() };
        reply.send(n);
    }
    assert_eq!(writes(&b), before, "a system call each");
    for (n, ask) in (1..5).zip(asks) {
        assert_eq!(sim.wait(s(4), ask), Some(Ok(n)));
    }
    sim.run(s(1));
    assert_eq!(writes(&b), before + 1);
}

/// A channel that takes a part of the question, wherever it is cut: the connection goes on behind it, in order.
#[test]
fn what_the_channel_did_not_take_comes_next() {
    for taken in 0..60 {
        let (sim, [a, b]) = acquainted(701);
        let ear = probe(b.system(), "ear");
        let to = far(&a, &b, "/user/ear");
        to.tell(Talk::Say(0));
        sim.run(s(1));
        assert_eq!(numbers(&ear), [0]);

        a.link().stall(Direction::Outbound);
        a.link().allow(Direction::Outbound, taken);
        let before = a.link().counts().bytes_outbound;
        let ask = to.ask(|reply| Talk::Echo(1, reply));
        let written = a.link().counts().bytes_outbound - before;
        assert!(written == taken || written < taken && written > 36, "{written} of {taken} bytes");
        to.tell(Talk::Say(2));
        let other = far(&a, &b, "/user/parrot").ask(|reply| Talk::Echo(3, reply));
        sim.run(ms(100));
        a.link().pass(Direction::Outbound);
        assert_eq!(sim.wait(s(4), other), Some(Ok(3)), "{taken}");
        let [Talk::Echo(1, reply), Talk::Say(2)] = <[Talk; 2]>::try_from(ear.take_messages()).unwrap() else {
            panic!("another order, {taken} bytes taken")
        };
        reply.send(7);
        assert_eq!(sim.wait(s(4), ask), Some(Ok(7)));
    }
}

/// A connection that breaks under the asker's write, at any byte: the session goes on over the next one, and the question
/// arrives once.
///
/// Covers: S160
#[test]
fn a_write_that_fails_is_a_break_like_any_other() {
    for left in 1..60 {
        let (sim, [a, b]) = acquainted(702);
        let ear = probe(b.system(), "ear");
        let to = far(&a, &b, "/user/ear");
        to.tell(Talk::Say(0));
        sim.run(s(1));
        a.link().cut_after(left, if left % 2 == 0 { Cut::Reset } else { Cut::Close });
        let ask = to.ask(|reply| Talk::Echo(1, reply));
        to.tell(Talk::Say(2));
        sim.run(s(5));
        assert_eq!(a.link().counts().cut, 1);
        let [Talk::Say(0), Talk::Echo(1, reply), Talk::Say(2)] =
            <[Talk; 3]>::try_from(ear.take_messages()).unwrap()
        else {
            panic!("lost, doubled or out of order, cut after {left} bytes")
        };
        reply.send(7);
        assert_eq!(sim.wait(s(4), ask), Some(Ok(7)));
        assert_eq!(accounts(&a, &b).2, 0);
    }
}

/// A node that leaves with a question just written and answered late: its asker is told, and the node ends.
#[test]
fn a_shutdown_behind_a_lone_question_ends() {
    let (sim, [a, b]) = acquainted(703);
    let ask = far(&a, &b, "/user/parrot").ask(Talk::Keep);
    a.remoting().shutdown().unwrap();
    sim.run(s(10));
    let answer = sim.wait(s(4), ask);
    assert!(matches!(answer, Some(Err(AskError::Shutdown))), "{answer:?}");
    assert_eq!(a.link().counts().live, 0);
}
