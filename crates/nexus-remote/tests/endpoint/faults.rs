//! Sessions over links that fail at every byte.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use nexus_actor_core::{AskError, DeadLetterReason};
use nexus_remote::RemotingControl;
use nexus_remote::wire::QuarantineReason;
use nexus_testkit::{Cut, Direction, SimNode};

use crate::kit::*;

fn quiet(from: &SimNode, to: &SimNode) {
    let statistics = from.remoting().statistics(&to.authority().to_string()).unwrap();
    assert_eq!(statistics.in_flight, 0, "{statistics:?}");
}

/// Covers: S160, S163, S32, S30
#[test]
fn a_connection_cut_at_every_turn_loses_nothing() {
    // A thousand cuts; with sockets, which cost time, half as many.
    for seed in 0..if crate::OVER_TCP { 2 } else { 4 } {
        let (sim, [a, b]) = nodes(160 + seed, ["a", "b"]);
        let (at_a, at_b) = (probe(a.system(), "ear"), probe(b.system(), "ear"));
        let (to_b, to_a) = (far(&a, &b, "/user/ear"), far(&b, &a, "/user/ear"));
        a.link().cut_each_after(seed, 100..60_000);
        let mut n = 0;
        while a.link().counts().cut < 250 {
            if n - at_b.len() as u64 <= 4_000 && n - at_a.len() as u64 <= 4_000 {
                for _ in 0..400 {
                    to_b.tell(Talk::Say(n));
                    to_a.tell(Talk::Say(n));
                    n += 1;
                }
            }
            sim.run(ms(20));
        }
        a.link().spare();
        sim.run(s(30));
        for ear in [&at_a, &at_b] {
            let numbers = numbers(ear);
            assert_eq!(numbers.len() as u64, n, "seed {seed}");
            assert!(numbers.iter().copied().eq(0..n), "seed {seed}: in order, none twice");
        }
        assert_eq!(lost(&a).len() + lost(&b).len(), 0);
        assert_eq!(accounts(&a, &b), (n, n, 0));
        assert_eq!(accounts(&b, &a), (n, n, 0));
    }
}

/// Covers: S163
#[test]
fn bytes_that_pass_one_at_a_time_and_late_are_the_same_bytes() {
    let (sim, [a, b]) = nodes(163, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    parrot(b.system(), "parrot");
    b.link().throttle(Some(1));
    b.link().delay(2);
    let to = far(&a, &b, "/user/ear");
    for n in 0..50 {
        to.tell(Talk::Say(n));
    }
    let ask = far(&a, &b, "/user/parrot").ask(|reply| Talk::Echo(4, reply));
    assert_eq!(sim.wait(s(4), ask), Some(Ok(4)));
    assert_eq!(numbers(&ear), (0..50).collect::<Vec<_>>());
}

/// Covers: S161, S142
#[test]
fn what_a_dead_incarnation_did_not_acknowledge_is_recorded_once() {
    for seed in 0..5 {
        let (sim, [a, b]) = nodes(1_610 + seed, ["a", "b"]);
        let ear = probe(b.system(), "ear");
        let to = far(&a, &b, "/user/ear");
        let mut sent = 0;
        for round in 0..20 {
            for _ in 0..200 {
                to.tell(Talk::Say(sent));
                sent += 1;
            }
            if round == 10 {
                // Its socket takes bytes that it never reads.
                b.link().stall(Direction::Inbound);
            }
            sim.run(ms(1 + seed));
        }
        let delivered = ear.len();
        b.kill();
        let b = know(sim.successor(&b, |config| config));
        let after = probe(b.system(), "ear");
        sim.run(s(5));
        let unconfirmed = a.lost(DeadLetterReason::Unconfirmed);
        assert!(unconfirmed > 0);
        let letters = a.letters();
        let mut ids: Vec<_> = letters.iter().map(|letter| letter.context().correlation_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), letters.len(), "each once");
        let again = numbers(&after);
        assert!(again.is_sorted());
        // Delivered and unacknowledged counts on both sides; nothing is missing.
        assert!(delivered + unconfirmed + again.len() >= usize::try_from(sent).unwrap(), "seed {seed}");
        let (counted, acknowledged, lost) = accounts(&a, &b);
        assert_eq!((counted, acknowledged + lost), (sent, sent), "seed {seed}");
        assert_eq!(letters.len(), usize::try_from(lost).unwrap());
        quiet(&a, &b);
    }
}

/// Sent, delivered, refused and recorded agree at every quiet moment of a life with everything in it.
///
/// Covers: S142, S15
#[test]
fn the_books_balance_whatever_happens() {
    for seed in 0..4u64 {
        let (sim, [a, first]) = nodes(1_420 + seed, ["a", "b"]);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut b = first;
        let mut ear = probe(b.system(), "ear");
        let to = far(&a, &b, "/user/ear");
        let (mut tried, mut delivered) = (0u64, 0usize);
        for _ in 0..60 {
            for _ in 0..random.u64(1..200) {
                to.tell(Talk::Say(tried));
                tried += 1;
            }
            match random.u32(0..8) {
                0 => drop(a.link().cut(Cut::Reset)),
                1 => drop(b.link().cut(Cut::Close)),
                2 => {
                    sim.run(ms(random.u64(0..30)));
                    delivered += ear.len();
                    b.kill();
                    sim.run(ms(random.u64(0..3_000)));
                    b = know(sim.successor(&b, |config| config));
                    ear = probe(b.system(), "ear");
                }
                3 => {
                    b.freeze();
                    sim.run(ms(random.u64(0..3_000)));
                    b.thaw();
                }
                4 => to.tell(Talk::Unspeakable(Unspeakable)),
                _ => {}
            }
            sim.run(ms(random.u64(0..500)));
            accounts(&a, &b);
        }
        sim.run(s(60));
        delivered += ear.len();
        let (sent, acknowledged, lost) = accounts(&a, &b);
        quiet(&a, &b);
        let encode = a.lost(DeadLetterReason::Encode) as u64;
        assert_eq!(sent, tried, "seed {seed}: none was refused");
        assert_eq!(a.letters().len() as u64, lost + encode, "seed {seed}: {:?}", crate::kit::lost(&a));
        assert!(acknowledged <= delivered as u64 + b.letters().len() as u64, "seed {seed}");
        assert!(delivered as u64 + lost >= sent, "seed {seed}");
        assert_eq!((a.remoting().tasks(), b.remoting().tasks()), (2, 2));
    }
}

/// Covers: S15
#[test]
fn a_link_that_never_lets_a_handshake_pass_is_only_that() {
    let (sim, [a, b]) = nodes(18, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    // Cut inside the handshake, a hundred times over.
    a.link().cut_each_after(1, 1..150);
    to.tell(Talk::Say(0));
    sim.run(s(15));
    a.link().spare();
    sim.run(s(10));
    assert_eq!(numbers(&ear), [0]);
    assert_eq!(a.turns_of(&b).iter().filter(|turn| **turn == "quarantined").count(), 0);
    assert_eq!((a.remoting().tasks(), b.remoting().tasks()), (2, 2));
}

/// What one node sent to one peer, as both of them count it.
struct Ledger {
    /// Handed to `tell` and accepted or refused.
    tried: u64,
    /// Seen by the peer's actor.
    delivered: u64,
}

/// At a quiet moment each message has one fate, and both ends know the same of it; or which rule is broken.
fn imbalance(from: &SimNode, to: &SimNode, ledger: &Ledger) -> Option<String> {
    let statistics = from.remoting().statistics(&to.authority().to_string()).unwrap();
    // Letters of a node about what was for an actor of `of`.
    let about = |node: &SimNode, peer: &SimNode, of: &SimNode, test: fn(DeadLetterReason) -> bool| {
        let letters = node.letters().into_iter().filter(|letter| {
            let context = letter.context();
            let recipient = context.recipient.as_ref().unwrap().address().authority.clone();
            let other = context.peer.as_ref().map_or(recipient.as_ref(), |peer| peer.authority.as_ref());
            recipient.as_ref() == Some(of.authority()) && other == Some(peer.authority())
        });
        letters.filter(|letter| test(letter.reason())).count() as u64
    };
    let refusal = |reason| matches!(reason, DeadLetterReason::QueueFull | DeadLetterReason::Encode);
    let (at_receiver, recorded) = (about(to, from, to, |_| true), about(from, to, to, |_| true));
    let refused = about(from, to, to, refusal);
    let rules = [
        ("nothing is in flight", statistics.in_flight == 0),
        ("sent = acknowledged + lost", statistics.sent == statistics.acknowledged + statistics.lost),
        ("tried = sent + refused", ledger.tried == statistics.sent + refused),
        ("recorded = lost + refused", recorded == statistics.lost + refused),
        (
            "acknowledged = delivered + recorded there",
            statistics.acknowledged == ledger.delivered + at_receiver,
        ),
    ];
    let broken = rules.iter().find(|(_, holds)| !holds)?.0;
    Some(format!(
        "{broken}: tried {}, delivered {}, recorded there {at_receiver}, here {recorded}, refused {refused}, {statistics:?}",
        ledger.tried, ledger.delivered
    ))
}

/// Covers: S142
#[test]
fn at_each_quiet_moment_the_books_balance_for_each_peer() {
    for seed in 0..3u64 {
        let sim = simulation(1_000 + seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let nodes: Vec<_> =
            ["a", "b", "c"].map(|name| know(sim.node_with(name, |c| c.with_queue_messages_max(300)))).into();
        let ears: Vec<_> = nodes.iter().map(|node| probe(node.system(), "ear")).collect();
        let mut ledgers: std::collections::BTreeMap<(usize, usize), Ledger> =
            std::collections::BTreeMap::new();
        for round in 0..25 {
            for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0)] {
                let ledger = ledgers.entry((from, to)).or_insert(Ledger { tried: 0, delivered: 0 });
                let ear = far(&nodes[from], &nodes[to], "/user/ear");
                let nobody = far(&nodes[from], &nodes[to], "/user/nobody");
                // At times more than fits.
                for n in 0..random.u64(0..500) {
                    match n % 50 {
                        7 => nobody.tell(Talk::Say(0)),
                        11 => ear.tell(Talk::Unspeakable(Unspeakable)),
                        13 => ear.tell(Talk::Blob(vec![0; 10_000])),
                        _ => ear.tell(Talk::Say((from * 10 + to) as u64)),
                    }
                    ledger.tried += 1;
                }
            }
            let node = &nodes[random.usize(0..3)];
            match random.u32(0..6) {
                0 => drop(node.link().cut(Cut::Reset)),
                1 => node.link().cut_after(random.u64(1..20_000), Cut::Close),
                2 => {
                    node.freeze();
                    sim.run(s(2));
                    node.thaw();
                }
                3 => {
                    node.link().stall(Direction::Inbound);
                    sim.run(s(2));
                    node.link().pass(Direction::Inbound);
                }
                _ => {}
            }
            sim.run(s(15));
            for (at, ear) in ears.iter().enumerate() {
                for event in ear.take() {
                    let nexus_testkit::ProbeEvent::Message { peer, .. } = event else { continue };
                    let from = peer.and_then(|address| address.authority);
                    let from = nodes.iter().position(|node| Some(node.authority()) == from.as_ref()).unwrap();
                    ledgers.get_mut(&(from, at)).unwrap().delivered += 1;
                }
            }
            for ((from, to), ledger) in &ledgers {
                let broken = imbalance(&nodes[*from], &nodes[*to], ledger);
                assert_eq!(broken, None, "seed {seed}, round {round}, {from} to {to}");
            }
        }
        assert!(nodes.iter().any(|node| node.lost(DeadLetterReason::QueueFull) > 0), "seed {seed}");
    }
}

/// The check itself: it finds a message too many and one too few.
#[test]
fn books_with_a_message_missing_do_not_balance() {
    let (sim, [a, b]) = nodes(1_421, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    for n in 0..10 {
        far(&a, &b, "/user/ear").tell(Talk::Say(n));
    }
    sim.run(s(1));
    let delivered = ear.len() as u64;
    for (tried, delivered, broken) in [
        (10, delivered, None),
        (11, delivered, Some("tried")),
        (10, delivered - 1, Some("acknowledged")),
        (10, delivered + 1, Some("acknowledged")),
    ] {
        let found = imbalance(&a, &b, &Ledger { tried, delivered });
        assert_eq!(found.as_deref().and_then(|it| it.split(' ').next()), broken, "{tried} {delivered}");
    }
    // One under way, and one that was recorded and forgotten.
    a.link().stall(Direction::Outbound);
    far(&a, &b, "/user/ear").tell(Talk::Say(10));
    let found = imbalance(&a, &b, &Ledger { tried: 11, delivered });
    assert!(found.is_some_and(|it| it.starts_with("nothing is in flight")));
}

/// Panics when it is woken, and counts how often.
#[derive(Default)]
struct Landmine(AtomicUsize);

impl Wake for Landmine {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("on purpose: a waker with a bug");
    }
}

/// An executor whose wake-ups panic harms nobody who waits for the same: answers in one batch, the end of a session, room
/// in a lane, the end of a node.
#[test]
fn a_waker_that_panics_costs_nobody_else_anything() {
    let sim = simulation(3600);
    let (a, b) = (know(sim.node_with("a", |c| c.with_queue_messages_max(10))), know(sim.node("b")));
    let at_b = parrot(b.system(), "parrot");
    let to = far(&a, &b, "/user/parrot");
    let mine = Arc::<Landmine>::default();
    let waker = Waker::from(mine.clone());
    let mut cx = Context::from_waker(&waker);
    let woken = || mine.0.swap(0, Ordering::SeqCst);

    let mut first = pin!(to.ask(Talk::Keep));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let second = to.ask(Talk::Keep);
    sim.settle();
    for n in [1, 2] {
        at_b.tell(Talk::Answer(n));
    }
    assert_eq!(sim.wait(s(1), second), Some(Ok(2)));
    assert_eq!(woken(), 1);
    assert_eq!(a.turns_of(&b), ["connected"], "and the connection goes on");

    a.link().stall(Direction::Inbound);
    while to.try_tell(Talk::Say(0)).is_ok() {}
    let mut first = pin!(to.send(Talk::Say(1)));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let (second, waits) = (to.clone(), Arc::new(()));
    let held = waits.clone();
    let second = async move {
        let sent = second.send(Talk::Say(2)).await;
        drop(held);
        sent.is_ok()
    };
    assert_eq!(sim.wait(ms(10), second), None);
    a.link().pass(Direction::Inbound);
    sim.run(s(1));
    assert_eq!(Arc::strong_count(&waits), 1, "the second has been sent");
    assert_eq!(woken(), 1);

    let mut first = pin!(to.ask(Talk::Keep));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let second = to.ask(Talk::Keep);
    sim.settle();
    a.remoting().quarantine(&b.authority().to_string(), QuarantineReason::ByOperator);
    assert_eq!(sim.wait(s(1), second), Some(Err(AskError::Quarantined)));
    assert_eq!(woken(), 1);

    let (remoting, again) = (a.remoting().clone(), a.remoting().clone());
    let mut first = pin!(remoting.shutdown_and_wait());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert_eq!(sim.wait(s(12), async move { again.shutdown_and_wait().await }), Some(()));
    assert_eq!(woken(), 1);
}
