//! What passes between nodes frame by frame: lost, repeated, late, and of another session.

use nexus_actor_core::path::ActorUid;
use nexus_actor_core::{AskError, DeadLetterReason, TerminationReason};
use nexus_remote::event::{RefusedBy, RemotingLifecycleEvent as Event};
use nexus_remote::wire::{
    Acknowledge, ControlFrame, Preamble, QuarantineReason, Refuse, RefuseReason, SystemMessage, VersionRange,
};
use nexus_testkit::{Cut, Direction, Disturbance, SimNode};

use crate::kit::*;
use crate::puppet::{Puppet, at_port, confirmation, hello, ours, request, request_of};

fn connected(node: &SimNode) -> usize {
    node.count(|event| matches!(event, Event::Connected { .. }))
}

/// The actors that peers asked to stop here, which nobody may: each request is recorded once, in order.
fn stops(node: &SimNode) -> Vec<String> {
    node.letters()
        .iter()
        .filter(|letter| letter.reason() == DeadLetterReason::Denied)
        .map(|letter| letter.context().recipient.as_ref().unwrap().elements().to_string())
        .collect()
}

fn names(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("/user/s{n}")).collect()
}

/// Covers: S18, S26, S17
#[test]
fn a_request_is_repeated_until_its_own_answer_comes() {
    let (sim, [a]) = nodes(18, ["a"]);
    let decoy = sim.decoy(None);
    let to: nexus_actor_core::ActorRef<Talk> =
        a.system().resolve(&format!("{}://d@{}/user/x", own_scheme(), decoy.authority())).unwrap();
    let ear = probe(a.system(), "ear");
    for n in 0..3 {
        to.tell(Talk::Say(n));
    }
    ear.watch(&to);
    let (mut puppet, first) = Puppet::dialled(&sim, &decoy);
    // No answer: the same request once a second, and nothing else.
    for second in 1..=3 {
        sim.run(s(1));
        match puppet.hear().as_slice() {
            [ControlFrame::Request(again)] => assert_eq!(**again, first, "second {second}"),
            other => panic!("second {second}: {other:?}"),
        }
    }
    assert_eq!(puppet.ordinary, 0, "nothing before the handshake is complete");
    let good = Puppet::answer(decoy.authority(), "d", 50, &first);
    let (mut late, mut stale) = (good.clone(), good.clone());
    late.echo ^= 1;
    stale.peer_uid = ActorUid::new(1);
    let mut bytes = Vec::new();
    Preamble::OURS.encode(&mut bytes);
    puppet.write(&bytes);
    for (name, wrong) in [("of an earlier attempt", late), ("for an earlier incarnation", stale)] {
        puppet.say(&ControlFrame::Ack(Box::new(wrong)));
        sim.run(ms(100));
        assert_eq!(connected(&a), 0, "an answer {name}");
        assert_eq!(puppet.hear(), [], "an answer {name}");
    }
    // The right one, several times.
    for _ in 0..3 {
        puppet.say(&ControlFrame::Ack(Box::new(good.clone())));
    }
    puppet.establish(good.session);
    sim.run(ms(100));
    assert_eq!(connected(&a), 1);
    assert_eq!(puppet.hear_system().len(), 1, "the watch");
    assert_eq!(puppet.ordinary, 2 + 3, "two definitions and three messages");
    assert!(!puppet.is_closed());
    assert_eq!(a.count(|event| matches!(event, Event::Quarantined { .. } | Event::Disconnected { .. })), 0);
}

/// Covers: S18
#[test]
fn handshakes_complete_though_their_frames_are_lost_doubled_and_swapped() {
    for seed in 0..20 {
        let (sim, [a, b]) = nodes(180 + seed, ["a", "b"]);
        for (node, n) in [(&a, 0), (&b, 1)] {
            node.link().disturb(seed * 2 + n, Disturbance { lose: 0.4, double: 0.3, swap: 0.2 });
        }
        let ear = probe(b.system(), "ear");
        far(&a, &b, "/user/ear").tell(Talk::Say(1));
        sim.run(s(60));
        assert_eq!(numbers(&ear), [1], "seed {seed}");
        assert_eq!(lost(&a).len(), 0, "seed {seed}");
    }
}

/// Covers: S22
#[test]
fn a_peer_of_another_version_is_named_with_its_range() {
    let (sim, [a]) = nodes(22, ["a"]);
    let decoy = sim.decoy(None);
    let to: nexus_actor_core::ActorRef<Talk> =
        a.system().resolve(&format!("{}://d@{}/user/x", own_scheme(), decoy.authority())).unwrap();
    let ask = to.ask(|reply| Talk::Echo(1, reply)).timeout(s(30));
    let (puppet, request) = Puppet::dialled(&sim, &decoy);
    let theirs = VersionRange { min: ours().max + 1, max: ours().max + 4 };
    let refuse = Refuse {
        reason: RefuseReason::Version,
        echo: request.handshake.nonce(),
        asked_for: None,
        known_by: None,
        uid: ActorUid::ANY,
        versions: theirs,
    };
    let mut bytes = Vec::new();
    Preamble { versions: theirs }.encode(&mut bytes);
    refuse.encode(&mut bytes);
    puppet.write(&bytes);
    let started = sim.now();
    assert_eq!(sim.wait(s(29), ask), Some(Err(AskError::Quarantined)));
    assert!(sim.now() - started < s(1), "at once, not by timeout");
    let by_peer = |event: &Event| {
        matches!(event, Event::Refused { by: RefusedBy::Peer, reason: RefuseReason::Version, .. })
    };
    assert_eq!(a.count(by_peer), 1);
    let facts = a.lifecycle().into_iter().find_map(|(_, event)| match event {
        Event::Quarantined { reason: QuarantineReason::Version, facts, .. } => Some(facts),
        _ => None,
    });
    let facts = facts.expect("a quarantine for its version");
    for range in [ours(), theirs] {
        assert!(facts.contains(&range.to_string()), "{range} is not named in {facts}");
    }
}

/// Nothing of a peer is looked at before its handshake is complete.
///
/// Covers: S17
#[test]
fn what_comes_before_the_confirmation_reaches_nobody() {
    let (sim, [b]) = nodes(17, ["b"]);
    let ear = probe(b.system(), "ear");
    let mut puppet = Puppet::dial(&sim, &b, &request(&b, 0));
    puppet.stop(0, "/user/s0");
    puppet.tell_first("/user/ear", 7);
    sim.run(s(11));
    puppet.hear();
    assert!(ear.is_empty());
    assert_eq!(stops(&b), Vec::<String>::new());
    assert!(puppet.is_closed(), "a handshake has its time");
    assert_eq!(connected(&b), 0);
}

/// Covers: S12
#[test]
fn what_was_meant_for_an_incarnation_that_is_gone_reaches_nobody() {
    let (sim, [old]) = nodes(12, ["b"]);
    let mut puppet = Puppet::associated(&sim, &old, 9);
    let (session, uid) = (puppet.session, puppet.peer);
    puppet.hear();
    old.kill();
    let b = know(sim.successor(&old, |config| config));
    let ear = probe(b.system(), "ear");
    // The old session is to go on, and its bytes follow without waiting for the answer.
    let mut resume = request_of(&at_port(9, 9), &b, 0);
    (resume.session, resume.peer_uid) = (session, uid);
    let mut puppet = Puppet::dial(&sim, &b, &resume);
    let heard = puppet.hear();
    let [ControlFrame::Ack(ack)] = heard.as_slice() else { panic!("{heard:?}") };
    assert_ne!(ack.handshake.node().uid(), uid, "the new incarnation names itself");
    assert!(!ack.resumed && ack.session != session, "{ack:?}");
    let mut blind = (**ack).clone();
    blind.session = session;
    puppet.say(&confirmation(&blind));
    puppet.stop(0, "/user/s0");
    puppet.tell_first("/user/ear", 7);
    sim.run(s(1));
    assert!(ear.is_empty());
    assert_eq!(stops(&b), Vec::<String>::new());
    assert_eq!(connected(&b), 0, "what names the old session confirms nothing");
}

/// Covers: S42, S43, S46
#[test]
fn system_messages_are_taken_in_order_once_and_apart_by_sender() {
    let (sim, [b]) = nodes(42, ["b"]);
    let (mut one, mut two) = (Puppet::associated(&sim, &b, 11), Puppet::associated(&sim, &b, 12));
    // The first is lost: those behind it wait for it.
    one.stop(1, "/user/s1");
    one.stop(2, "/user/s2");
    sim.settle();
    assert_eq!(stops(&b), Vec::<String>::new());
    // Another sender's numbers are its own.
    two.stop(0, "/user/t0");
    sim.settle();
    assert_eq!(stops(&b), ["/user/t0"]);
    for seq in 0..3 {
        one.stop(seq, &format!("/user/s{seq}"));
    }
    sim.settle();
    assert_eq!(stops(&b), ["/user/t0", "/user/s0", "/user/s1", "/user/s2"]);
    assert_eq!(one.hear_acknowledged().last(), Some(&3));
    // One in the middle, and repetitions: acknowledged again, and taken by nobody.
    one.stop(4, "/user/s4");
    for seq in [0, 1, 2] {
        one.stop(seq, &format!("/user/s{seq}"));
        sim.settle();
        assert_eq!(one.hear_acknowledged().last(), Some(&3), "{seq} again");
    }
    two.stop(0, "/user/t0");
    sim.settle();
    assert_eq!(two.hear_acknowledged().last(), Some(&1));
    assert_eq!(stops(&b).len(), 4);
    one.stop(3, "/user/s3");
    one.stop(4, "/user/s4");
    sim.settle();
    assert_eq!(stops(&b)[4..], ["/user/s3", "/user/s4"]);
    assert_eq!(one.hear_acknowledged().last(), Some(&5));
}

/// Covers: S42, S47, S147
#[test]
fn an_unacknowledged_notice_is_repeated_by_time_and_only_its_own_acknowledgement_ends_that() {
    let (sim, [b]) = nodes(47, ["b"]);
    let mut puppet = Puppet::associated(&sim, &b, 9);
    let watched: Vec<_> = (0..3).map(|n| parrot(b.system(), &format!("p{n}"))).collect();
    for n in 0..3 {
        puppet.watch(n, &format!("/user/p{n}"));
    }
    sim.settle();
    puppet.hear();
    watched.iter().for_each(nexus_actor_core::ActorRef::stop);
    sim.run(ms(100));
    let notices = puppet.hear_system();
    assert_eq!(notices.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [0, 1, 2]);
    for (_, message) in &notices {
        let SystemMessage::Terminated { reason, .. } = message else { panic!("{message:?}") };
        assert_eq!(*reason, TerminationReason::Stopped);
    }
    // Acknowledgements of another session, of the past, of what was never sent.
    let session = puppet.session;
    for (session, next) in [(session ^ 1, 3), (session, 0), (session, 4), (session, u64::MAX)] {
        puppet.say(&ControlFrame::SystemAcknowledge { session, next });
        puppet.say(&ControlFrame::Acknowledge(Acknowledge {
            session,
            next: next.max(1),
            credit_messages: u32::MAX,
            credit_bytes: u32::MAX,
        }));
    }
    // Answers its beats so that it lives.
    let alive = |puppet: &mut Puppet, seconds: u64| {
        let mut again = Vec::new();
        for _ in 0..seconds * 10 {
            sim.run(ms(100));
            for frame in puppet.hear() {
                match frame {
                    ControlFrame::Heartbeat { seq, .. } => {
                        puppet.say(&ControlFrame::HeartbeatReply { uid: ActorUid::new(9), seq });
                    }
                    ControlFrame::System { seq, .. } => again.push(seq),
                    _ => {}
                }
            }
        }
        again
    };
    let again = alive(&mut puppet, 5);
    assert!(again.len() >= 9 && again.chunks(3).all(|round| *round == [0, 1, 2]), "{again:?}");
    // The first is acknowledged: the others go on, the last one too, until it is.
    puppet.say(&ControlFrame::SystemAcknowledge { session, next: 1 });
    let again = alive(&mut puppet, 3);
    assert!(again.len() >= 4 && again.chunks(2).all(|round| *round == [1, 2]), "{again:?}");
    puppet.say(&ControlFrame::SystemAcknowledge { session, next: 3 });
    assert_eq!(alive(&mut puppet, 5), [] as [u64; 0]);
    assert_eq!(b.count(|event| matches!(event, Event::Quarantined { .. })), 0);
    assert!(!puppet.is_closed());
    assert_eq!(puppet.ordinary, 0, "no table was sent for any of it");
}

/// Covers: S44, S42, S43, S46
#[test]
fn system_messages_survive_random_loss_and_forced_disconnects() {
    for (total, share, cuts) in [(500, 0.05, false), (1_000, 0.1, true)] {
        let (sim, [a, b, c]) = nodes(440, ["a", "b", "c"]);
        for (n, node) in [&a, &b, &c].into_iter().enumerate() {
            node.link().disturb(n as u64, Disturbance { lose: share, double: 0.05, swap: 0.05 });
        }
        for n in (0..total).step_by(50) {
            for n in n..n + 50 {
                let path = format!("/user/s{n}");
                far(&a, &b, &path).stop();
                far(&b, &a, &path).stop();
                far(&c, &b, &path).stop();
            }
            sim.run(ms(50));
            if cuts && n % 200 == 0 {
                sim.run(s(2));
                a.link().cut(Cut::Reset);
            }
        }
        sim.run(s(600));
        assert!(a.link().counts().disturbed > 20, "{:?}", a.link().counts());
        assert_eq!(stops(&a), names(0..total));
        for from in [&a, &c] {
            let of: Vec<_> = b
                .letters()
                .iter()
                .filter(|letter| {
                    letter.context().peer.as_ref().unwrap().authority.as_ref() == Some(from.authority())
                })
                .map(|letter| letter.context().recipient.as_ref().unwrap().elements().to_string())
                .collect();
            assert_eq!(of, names(0..total));
        }
        for node in [&a, &b, &c] {
            assert_eq!(node.count(|event| matches!(event, Event::Quarantined { .. })), 0);
        }
    }
}

/// Covers: S45
#[test]
fn repetitions_do_not_fill_a_slow_link() {
    let (sim, [a, b]) = nodes(45, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    sim.run(s(1));
    // No acknowledgement gets through.
    a.link().stall(Direction::Inbound);
    for n in 0..5_000 {
        far(&a, &b, &format!("/user/s{n}")).stop();
    }
    sim.run(ms(100));
    let mut rounds = Vec::new();
    for _ in 0..6 {
        let before = a.link().counts().bytes_outbound;
        sim.run(s(1));
        rounds.push(a.link().counts().bytes_outbound - before);
    }
    // 256 of less than a hundred bytes each, and a beat.
    assert!(rounds.iter().all(|bytes| *bytes < 256 * 100 + 1_000), "{rounds:?}");
    assert!(rounds.iter().any(|bytes| *bytes > 1_000), "they are repeated: {rounds:?}");
    a.link().pass(Direction::Inbound);
    sim.run(s(30));
    assert_eq!(stops(&b), names(0..5_000));
    assert_eq!(numbers(&ear), [0]);
}

/// Covers: S30, S163
#[test]
fn messages_pass_once_and_in_order_beneath_every_fault() {
    for seed in 0..6 {
        let (sim, [a, b]) = nodes(300 + seed, ["a", "b"]);
        let (at_a, at_b) = (probe(a.system(), "ear"), probe(b.system(), "ear"));
        let (to_b, to_a) = (far(&a, &b, "/user/ear"), far(&b, &a, "/user/ear"));
        for (n, node) in [&a, &b].into_iter().enumerate() {
            node.link().disturb(seed + n as u64, Disturbance { lose: 0.1, double: 0.2, swap: 0.2 });
            node.link().cut_each_after(seed * 3 + n as u64, 2_000..20_000);
        }
        for n in 0..4_000 {
            to_b.tell(Talk::Say(n));
            to_a.tell(Talk::Say(n));
            if n % 40 == 0 {
                sim.run(ms(200));
            }
        }
        for node in [&a, &b] {
            node.link().spare();
            node.link().disturb(0, None);
        }
        sim.run(s(60));
        for ear in [&at_a, &at_b] {
            assert!(numbers(ear).into_iter().eq(0..4_000), "seed {seed}");
        }
        assert_eq!(lost(&a).len() + lost(&b).len(), 0, "seed {seed}");
        assert!(a.link().counts().cut + b.link().counts().cut > 4);
    }
}

/// Covers: S85, S80
#[test]
fn only_a_fresh_answer_of_the_right_incarnation_is_a_sign_of_life() {
    // Answers of the right kind keep it alive; repeated, outdated and foreign ones do not.
    for (name, alive) in
        [("fresh", true), ("repeated", false), ("never asked for", false), ("foreign", false)]
    {
        let (sim, [b]) = nodes(85, ["b"]);
        let mut puppet = Puppet::associated(&sim, &b, 9);
        parrot(b.system(), "parrot");
        puppet.watch(0, "/user/parrot");
        let mut last = 0;
        let started = sim.now();
        let mut suspected = None;
        for tenth in 0..300 {
            sim.run(ms(100));
            for frame in puppet.hear() {
                let ControlFrame::Heartbeat { seq, .. } = frame else { continue };
                // The first ten are answered well, so that there is something to go by.
                let (uid, seq) = match name {
                    _ if alive || tenth < 100 => {
                        last = seq;
                        (9, seq)
                    }
                    "repeated" => (9, last),
                    "never asked for" => (9, seq + 1_000),
                    _ => (10, seq),
                };
                puppet.say(&ControlFrame::HeartbeatReply { uid: ActorUid::new(uid), seq });
            }
            let suspects = b.count(|event| matches!(event, Event::Suspect { .. }));
            if suspects > 0 && suspected.is_none() {
                suspected = Some(sim.now() - started);
            }
            if puppet.is_closed() {
                break;
            }
        }
        // Eleven seconds and a bit after the last that counted.
        let in_time = suspected.is_some_and(|after| after > s(20) && after < s(23));
        assert_eq!((suspected.is_none(), in_time), (alive, !alive), "{name}: {suspected:?}");
    }
}

/// Covers: S103
#[test]
fn a_frame_that_is_never_completed_ends_its_connection_only() {
    let (sim, [a, b]) = nodes(1_030, ["a", "b"]);
    parrot(b.system(), "parrot");
    let to = far(&a, &b, "/user/parrot");
    assert_eq!(sim.wait(s(2), to.ask(|reply| Talk::Echo(1, reply))), Some(Ok(1)));
    let mut puppet = Puppet::associated(&sim, &b, 9);
    puppet.hear();
    // The head of an envelope of 200 kB, and a byte of it now and then.
    let mut head = 200_000_u32.to_le_bytes().to_vec();
    head.extend_from_slice(&[0x20, 0, 0, 0]);
    head.extend_from_slice(&[0; 12]);
    puppet.write(&head);
    for second in 0..9 {
        sim.run(s(1));
        puppet.write(&[0]);
        sim.settle();
        puppet.hear();
        assert!(!puppet.is_closed(), "second {second}");
    }
    sim.run(s(2));
    puppet.hear();
    assert!(puppet.is_closed());
    assert_eq!(sim.wait(s(2), to.ask(|reply| Talk::Echo(2, reply))), Some(Ok(2)));
    assert_eq!(a.turns_of(&b), ["connected"]);
}

/// Who has been answered and says no more costs one connection for the time of a handshake.
///
/// Covers: S21
#[test]
fn a_handshake_that_is_never_confirmed_ends_in_time() {
    let (sim, [b]) = nodes(211, ["b"]);
    let mut puppet = Puppet::dial(&sim, &b, &request(&b, 0));
    assert!(matches!(puppet.hear().as_slice(), [ControlFrame::Ack(_)]));
    sim.run(s(9));
    puppet.hear();
    assert!(!puppet.is_closed());
    sim.run(s(2));
    puppet.hear();
    assert!(puppet.is_closed());
    assert_eq!((connected(&b), b.remoting().tasks()), (0, 1));
    // As with one that says its hello without a preamble of ours.
    let stranger = sim.stranger(b.authority());
    let _taken = stranger.write(&hello(ours(), &request(&b, 0))[8..]);
    sim.run(ms(10));
    assert!(stranger.is_closed());
}
