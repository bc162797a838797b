//! Messages, questions and references between nodes.

use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{ActorRef, AskError, DeadLetterReason, Headers, Refusal, ResolveError, TellError};
use nexus_testkit::{ProbeEvent, TestProbe};
use serde::{Deserialize, Serialize};

use crate::kit::*;

/// Covers: S28, S97
#[test]
fn a_burst_of_a_hundred_thousand_arrives_whole_and_in_order() {
    let (sim, [a, b]) = nodes(97, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    for n in 0..100_000 {
        to.tell(Talk::Say(n));
    }
    sim.run(s(5));
    let numbers = numbers(&ear);
    assert_eq!(numbers.len(), 100_000);
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(lost(&a).len(), 0);
    assert_eq!(accounts(&a, &b), (100_000, 100_000, 0));
}

/// Covers: S29
#[test]
fn order_holds_for_each_pair_of_many() {
    let (sim, [a, b]) = nodes(29, ["a", "b"]);
    let ears: Vec<_> = (0..8).map(|n| probe(b.system(), &format!("ear{n}"))).collect();
    let senders: Vec<_> = (0..8).map(|n| parrot(a.system(), &format!("sender{n}"))).collect();
    let refs: Vec<_> = (0..8).map(|n| far(&a, &b, &format!("/user/ear{n}"))).collect();
    for n in 0..500 {
        for (at, sender) in senders.iter().enumerate() {
            for to in &refs {
                sender.tell(Talk::Use(to.clone(), n * 8 + at as u64));
            }
        }
    }
    sim.run(s(5));
    for ear in &ears {
        let numbers = numbers(ear);
        assert_eq!(numbers.len(), 4_000);
        for sender in 0..8 {
            let of: Vec<_> = numbers.iter().filter(|n| **n % 8 == sender).collect();
            assert!(of.is_sorted(), "sender {sender}");
        }
    }
}

/// Covers: S33, S36
#[test]
fn nobody_there_is_answered_at_once() {
    let (sim, [a, b]) = nodes(33, ["a", "b"]);
    let ask = far(&a, &b, "/user/nobody").ask(|reply| Talk::Echo(1, reply)).timeout(s(30));
    let started = sim.now();
    assert_eq!(sim.wait(s(29), ask), Some(Err(AskError::NoSuchActor)));
    assert!(sim.now() - started < s(1));
    assert_eq!(lost(&b), [(DeadLetterReason::NoSuchActor, 1)].into());
    let letter = &b.letters()[0];
    assert_eq!(letter.context().recipient.as_ref().unwrap().elements(), "/user/nobody");
    assert_eq!(letter.context().peer.as_ref().unwrap().authority.as_ref(), Some(a.authority()));
    // What is not below `/user` is nobody's business.
    for path in ["/system/remoting", "/system/remote_watcher_daemon", "/temp/x"] {
        let ask = far(&a, &b, path).ask(|reply| Talk::Echo(1, reply));
        assert_eq!(sim.wait(s(4), ask), Some(Err(AskError::NoSuchActor)), "{path}");
    }
    // An actor that has stopped, and one that drops the question.
    let parrot = parrot(b.system(), "parrot");
    let kept = far(&a, &b, "/user/parrot").ask(Talk::Keep).timeout(s(30));
    sim.settle();
    parrot.stop();
    assert_eq!(sim.wait(s(4), kept), Some(Err(AskError::NoReply)));
    let late = far(&a, &b, "/user/parrot").ask(|reply| Talk::Echo(1, reply));
    assert_eq!(sim.wait(s(4), late), Some(Err(AskError::NoSuchActor)));
}

/// Covers: S34
#[test]
fn a_message_that_cannot_be_encoded_costs_itself() {
    let (sim, [a, b]) = nodes(34, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    to.tell(Talk::Unspeakable(Unspeakable));
    let refused = to.try_tell(Talk::Unspeakable(Unspeakable));
    assert!(
        matches!(&refused, Err(TellError { refusal: Refusal::Encode(_), message: Talk::Unspeakable(_) })),
        "{refused:?}"
    );
    to.tell(Talk::Say(1));
    sim.run(s(1));
    assert_eq!(numbers(&ear), [0, 1]);
    assert_eq!(lost(&a), [(DeadLetterReason::Encode, 1)].into());
}

/// A message that only the sender knows.
#[derive(Debug, Serialize, Deserialize)]
struct Unregistered(u64);

impl Message for Unregistered {
    const MANIFEST: &'static str = "test.unregistered@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

/// Encoded in a way that its receiver does not understand.
#[derive(Debug)]
struct Garbled;

impl Message for Garbled {
    const MANIFEST: &'static str = "test.talk@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.put(&[0xff; 7])
    }
    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// The beginning of a message and no more.
#[derive(Debug)]
struct Truncated;

impl Message for Truncated {
    const MANIFEST: &'static str = "test.talk@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        // `Talk::Blob` of a hundred bytes, of which there are two.
        encoder.put(&[1, 100, 7, 7])
    }
    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// Covers: S35, S129, ROLE-49
#[test]
fn a_message_that_cannot_be_decoded_costs_itself() {
    let (sim, [a, b]) = nodes(35, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let url = b.url("/user/ear");
    let to = far(&a, &b, "/user/ear");
    to.tell(Talk::Say(0));
    let stranger: ActorRef<Unregistered> = a.system().resolve(&url).unwrap();
    stranger.tell(Unregistered(1));
    let garbled: ActorRef<Garbled> = a.system().resolve(&url).unwrap();
    garbled.tell(Garbled);
    let truncated: ActorRef<Truncated> = a.system().resolve(&url).unwrap();
    truncated.tell(Truncated);
    to.tell(Talk::Say(1));
    sim.run(s(1));
    assert_eq!(numbers(&ear), [0, 1]);
    assert_eq!(lost(&b), [(DeadLetterReason::Decode, 3)].into());
    assert_eq!(lost(&a).len(), 0, "at the receiver only");
    let why: Vec<_> = b.letters().iter().map(|letter| letter.context().detail.clone().unwrap()).collect();
    assert!(why[0].contains("register"), "names the missing call: {why:?}");
    assert_eq!(a.turns_of(&b), ["connected"]);
}

/// The wrong type costs the message, never a wrong delivery.
///
/// Covers: S35
#[test]
fn a_registered_message_of_another_type_is_not_delivered() {
    let (sim, [a, b]) = nodes(351, ["a", "b"]);
    b.system().register::<Unregistered>().unwrap();
    let ear = probe(b.system(), "ear");
    let other: TestProbe<Unregistered> = TestProbe::spawn(b.system(), "other").unwrap();
    let wrong: ActorRef<Unregistered> = a.system().resolve(&b.url("/user/ear")).unwrap();
    wrong.tell(Unregistered(1));
    let right: ActorRef<Unregistered> = a.system().resolve(&b.url("/user/other")).unwrap();
    right.tell(Unregistered(2));
    sim.run(s(1));
    assert!(ear.is_empty());
    assert_eq!(other.take_messages().iter().map(|m| m.0).collect::<Vec<_>>(), [2]);
    assert_eq!(lost(&b), [(DeadLetterReason::Decode, 1)].into());
    let url = b.url("/user/ear");
    let system = a.system().clone();
    let found = sim.wait(s(2), async move { system.lookup::<Unregistered>(&url).await }).unwrap();
    assert!(matches!(found, Err(AskError::Decode(_))), "{found:?}");
}

/// Covers: S37
#[test]
fn a_reference_travels_to_a_third_node_and_reaches_its_actor() {
    let (sim, [a, b, c]) = nodes(37, ["a", "b", "c"]);
    let ear = probe(a.system(), "ear");
    let parrot_at_b = parrot(b.system(), "parrot");
    parrot(c.system(), "parrot");
    // a's reference goes by b to c, which uses it.
    let (at_b, at_c) = (far(&a, &b, "/user/parrot"), far(&a, &c, "/user/parrot"));
    at_b.tell(Talk::Use(ear.actor().clone(), 1));
    at_c.tell(Talk::Use(ear.actor().clone(), 2));
    let b_to_c = far(&b, &c, "/user/parrot");
    b_to_c.tell(Talk::Use(far(&b, &a, "/user/ear"), 3));
    sim.run(s(2));
    let mut said = numbers(&ear);
    said.sort_unstable();
    assert_eq!(said, [1, 2, 3]);
    // A reference that travelled names one incarnation.
    let again = parrot_at_b.path();
    assert!(!again.uid().is_any());
    assert_eq!(sim.wait(s(2), at_b.ask(|reply| Talk::Pass(at_c.clone(), 4, reply))), Some(Ok(4)));
}

/// A question that is passed on: to a third node, and home again.
///
/// Covers: S37
#[test]
fn a_reply_that_is_passed_on_answers_the_asker() {
    let (sim, [a, b, c]) = nodes(371, ["a", "b", "c"]);
    let here = parrot(a.system(), "parrot");
    parrot(b.system(), "parrot");
    parrot(c.system(), "parrot");
    let (at_b, at_c) = (far(&a, &b, "/user/parrot"), far(&a, &c, "/user/parrot"));
    let cases = [("third", at_c.clone()), ("same", at_b.clone()), ("home", here)];
    for (n, (name, to)) in cases.into_iter().enumerate() {
        let ask = at_b.ask(|reply| Talk::Pass(to, n as u64, reply)).timeout(s(3));
        assert_eq!(sim.wait(s(4), ask), Some(Ok(n as u64)), "{name}");
    }
    // Passed on to nobody: told as such.
    let nobody = far(&a, &c, "/user/nobody");
    let ask = at_b.ask(|reply| Talk::Pass(nobody, 9, reply)).timeout(s(30));
    assert_eq!(sim.wait(s(5), ask), Some(Err(AskError::NoSuchActor)));
    for node in [&a, &b, &c] {
        for snapshot in nexus_remote::RemotingControl::connections_snapshot(node.remoting()) {
            assert_eq!(node.remoting().statistics(&snapshot.authority).unwrap().asks, 0, "no ask is left");
        }
    }
}

/// Covers: S38, CNF-98
#[test]
fn what_a_node_sends_to_itself_never_touches_the_network() {
    let (sim, _) = nodes(38, []);
    let a = know(sim.node_with("a", |c| {
        c.with_canonical_host("no-such-host.invalid").with_canonical_port(4711).with_bind("127.0.0.1", 0)
    }));
    let ear = probe(a.system(), "ear");
    assert_eq!(a.system().address().authority.unwrap().to_string(), "no-such-host.invalid:4711");
    let to = far(&a, &a, "/user/ear");
    to.tell(Talk::Say(1));
    let url = a.url("/user/ear");
    let system = a.system().clone();
    let found = sim.wait(s(1), async move { system.lookup::<Talk>(&url).await }).unwrap().unwrap();
    found.tell(Talk::Say(2));
    sim.run(s(1));
    assert_eq!(numbers(&ear), [1, 2]);
    assert_eq!(a.link().counts().dialled, 0);
    assert_eq!(a.remoting().associations(), 0);
}

/// Covers: S40
#[test]
fn headers_cross_unchanged_and_in_order() {
    let (sim, [a, b]) = nodes(40, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    let full =
        (0..64).fold(Headers::new(), |headers, n| headers.with(format!("key-{n}"), format!("värde {n}")));
    let cases = [
        Headers::new().with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        Headers::new().with("empty", "").with("unknown.vendor/x", "kept"),
        full.clone(),
    ];
    for headers in &cases {
        to.tell_with_headers(Talk::Say(1), headers.clone());
    }
    to.tell(Talk::Say(2));
    let over = to.try_tell_with(Talk::Say(3), Some(full.with("one", "more")));
    assert!(over.is_err(), "65 pairs");
    sim.run(s(1));
    let seen: Vec<_> = ear
        .take()
        .into_iter()
        .map(|event| match event {
            ProbeEvent::Message { headers, peer, .. } => {
                assert_eq!(peer.unwrap().authority.as_ref(), Some(a.authority()));
                headers
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seen.len(), 4);
    for (sent, seen) in cases.iter().zip(&seen) {
        assert_eq!(Some(sent), seen.as_ref());
    }
    assert_eq!(seen[3], None);
}

/// Covers: S102
#[test]
fn a_message_over_the_limit_is_refused_with_size_and_limit() {
    let (sim, [a, b]) = nodes(102, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    let limit = 256 * 1024;
    // Around the message a frame has less than 1 KiB.
    let cases = [(limit - 1024, true), (limit + 1, false), (8 * limit, false)];
    for (size, fits) in cases {
        match to.try_tell(Talk::Blob(vec![7; size])) {
            Ok(()) => assert!(fits, "{size}"),
            Err(TellError { refusal: Refusal::TooLarge { size: told, limit: at }, message }) => {
                assert!(!fits, "{size}: {told} over {at}");
                assert!(told > at, "{told} over {at}");
                assert!(at <= limit);
                assert!(
                    matches!(message, Talk::Blob(bytes) if bytes.len() == size),
                    "the message comes back"
                );
            }
            Err(other) => panic!("{size}: {other}"),
        }
    }
    to.tell(Talk::Blob(vec![7; limit + 1]));
    to.tell(Talk::Say(1));
    sim.run(s(2));
    assert_eq!(ear.len(), 2);
    assert_eq!(lost(&a), [(DeadLetterReason::TooLarge, 1)].into());
    assert_eq!(a.turns_of(&b), ["connected"], "the link is untouched");
}

/// The size that just fits and the one byte that does not.
///
/// Covers: S102
#[test]
fn the_limit_of_a_message_is_exact() {
    let (sim, [a, b]) = nodes(1_020, ["a", "b"]);
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    let fits = |size: usize| to.try_tell(Talk::Blob(vec![7; size])).is_ok();
    let (mut low, mut high) = (256 * 1024 - 1024, 256 * 1024);
    assert!(fits(low) && !fits(high));
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    let accepted = a.remoting().statistics(&b.authority().to_string()).unwrap().sent;
    sim.run(s(5));
    assert_eq!(ear.len() as u64, accepted, "what was accepted arrives, the largest included");
    assert_eq!(lost(&a).len() + lost(&b).len(), 0);
}

/// Covers: S145, S146
#[test]
fn every_message_reaches_its_actor_while_tables_change() {
    let (sim, [a, b]) = nodes(145, ["a", "b"]);
    let mut names = 0u64;
    for round in 0..200 {
        let ears: Vec<_> = (0..6)
            .map(|_| {
                names += 1;
                (names, probe(b.system(), &format!("ear{names}")))
            })
            .collect();
        let refs: Vec<_> =
            ears.iter().map(|(name, _)| (*name, far(&a, &b, &format!("/user/ear{name}")))).collect();
        for (name, to) in &refs {
            to.tell(Talk::Say(*name));
        }
        if round % 7 == 0 {
            a.link().cut(nexus_testkit::Cut::Reset);
        }
        for (name, to) in refs.iter().rev() {
            to.tell(Talk::Say(*name));
        }
        drop(refs);
        sim.run(s(1));
        for (name, ear) in ears {
            assert_eq!(numbers(&ear), [name, name], "round {round}");
            ear.stop();
        }
    }
    assert_eq!(lost(&a).len() + lost(&b).len(), 0);
    let recipients = a.remoting().statistics(&b.authority().to_string()).unwrap().recipients;
    assert!(recipients < 50, "{recipients} names are kept of 1,200");
}

/// Covers: S148
#[test]
fn questions_leave_nothing_behind() {
    let (sim, [a, b]) = nodes(148, ["a", "b"]);
    parrot(b.system(), "parrot");
    let to = far(&a, &b, "/user/parrot");
    for round in 0..20u64 {
        let asks: Vec<_> = (0..1_000).map(|n| to.ask(|reply| Talk::Echo(round * 1_000 + n, reply))).collect();
        let dropped: Vec<_> = (0..10).map(|_| to.ask(Talk::Keep)).collect();
        drop(dropped);
        sim.settle();
        for (n, ask) in asks.into_iter().enumerate() {
            assert_eq!(sim.wait(s(1), ask), Some(Ok(round * 1_000 + n as u64)));
        }
    }
    let statistics = a.remoting().statistics(&b.authority().to_string()).unwrap();
    assert_eq!(statistics.asks, 0);
    assert!(statistics.recipients <= 1, "{statistics:?}");
}

/// A lookup finds one incarnation; its name may have another one later.
///
/// Covers: S11
#[test]
fn a_lookup_gives_a_reference_to_one_incarnation() {
    let (sim, [a, b]) = nodes(110, ["a", "b"]);
    let look = |name: &str| {
        let (url, system) = (b.url(name), a.system().clone());
        sim.wait(s(4), async move { system.lookup::<Talk>(&url).await }).unwrap()
    };
    assert_eq!(look("/user/ear").unwrap_err(), AskError::NoSuchActor);
    let first = probe(b.system(), "ear");
    let found = look("/user/ear").unwrap();
    assert_eq!(found.path().uid(), first.actor().path().uid());
    first.stop();
    sim.run(s(1));
    let second = probe(b.system(), "ear");
    found.tell(Talk::Say(1));
    far(&a, &b, "/user/ear").tell(Talk::Say(2));
    sim.run(s(1));
    assert_eq!(numbers(&second), [2]);
    assert_eq!(lost(&b), [(DeadLetterReason::NoSuchActor, 1)].into());
    assert_ne!(look("/user/ear").unwrap(), found);
}

/// Covers: S117, S120
#[test]
fn urls_that_lead_nowhere_say_why() {
    let (sim, [a]) = nodes(120, ["a"]);
    let own = a.authority().to_string();
    let cases: [(String, fn(&ResolveError) -> bool); 4] = [
        (format!("{}://", own_scheme()), |e| matches!(e, ResolveError::InvalidPath { .. })),
        ("nonsense".into(), |e| matches!(e, ResolveError::InvalidPath { .. })),
        (format!("{}://b@127.0.0.1:1/user/x", other_scheme()), |e| {
            e.to_string() == "no way to that node: no transport for the scheme of this address"
                && matches!(e, ResolveError::Refused(refusal) if refusal.reason() == DeadLetterReason::Unreachable)
        }),
        // Our own address under another name.
        (format!("{}://other@{own}/user/x", own_scheme()), |e| {
            matches!(e, ResolveError::Refused(Refusal::NoSuchActor))
        }),
    ];
    for (url, expected) in cases {
        let error = a.system().resolve::<Talk>(&url).unwrap_err();
        assert!(expected(&error), "{url}: {error:?}");
    }
    // References survive being printed and read.
    let ear = probe(a.system(), "ear");
    let printed = ear.actor().path().to_string();
    let read: ActorRef<Talk> = a.system().resolve(&printed).unwrap();
    assert_eq!(read, *ear.actor());
    read.tell(Talk::Say(1));
    sim.settle();
    assert_eq!(numbers(&ear), [1]);
}

/// Covers: S146
#[test]
fn a_receiver_that_restarts_never_gives_a_message_to_a_wrong_actor() {
    for seed in 0..5u64 {
        let (sim, [a, first]) = nodes(1_460 + seed, ["a", "b"]);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut b = first;
        let (mut sent, mut delivered, mut at_receivers) = (0_usize, 0, 0);
        for round in 0..8 {
            // Of twenty names some live in each incarnation, others in the next.
            let ears: Vec<_> = (0..20)
                .filter(|_| random.bool())
                .map(|n| (n, probe(b.system(), &format!("ear{n}"))))
                .collect();
            for _ in 0..300 {
                let n = random.u64(0..20);
                far(&a, &b, &format!("/user/ear{n}")).tell(Talk::Say(n));
                sent += 1;
            }
            match random.u32(0..3) {
                0 => sim.run(ms(50)),
                1 => sim.settle(),
                _ => {}
            }
            if round == 7 {
                sim.run(s(10));
            } else {
                b.kill();
                sim.settle();
            }
            for (n, ear) in &ears {
                let numbers = numbers(ear);
                assert!(numbers.iter().all(|said| said == n), "seed {seed}: {n} got {numbers:?}");
                delivered += numbers.len();
            }
            at_receivers += b.letters().len();
            if round < 7 {
                b = know(sim.successor(&b, |config| config));
            }
        }
        let recorded = a.letters().len();
        assert!(delivered > 100, "seed {seed}: {delivered}");
        assert!(delivered + at_receivers + recorded >= sent, "seed {seed}: nothing vanishes");
    }
}

/// Covers: S149
#[test]
fn a_message_without_a_sender_has_none_at_its_receiver() {
    let (sim, [a, b]) = nodes(149, ["a", "b"]);
    // Both kinds cross by the same numbers of recipient and type.
    parrot(b.system(), "parrot");
    let (nobody, somebody) = (far(&a, &b, "/user/nobody"), far(&a, &b, "/user/parrot"));
    for n in 0..3 {
        nobody.tell(Talk::Say(n));
        let ask = nobody.ask(|reply| Talk::Echo(n, reply));
        assert_eq!(sim.wait(s(4), ask), Some(Err(AskError::NoSuchActor)));
        somebody.tell(Talk::Say(n));
        let ask = somebody.ask(|reply| Talk::Echo(n, reply));
        assert_eq!(sim.wait(s(4), ask), Some(Ok(n)));
    }
    assert!(b.letters().iter().all(|letter| letter.sender.is_none()), "{:?}", b.letters());
    // Nobody is answered who did not ask.
    let statistics = a.remoting().statistics(&b.authority().to_string()).unwrap();
    assert_eq!((statistics.asks, statistics.answers_ignored), (0, 0));
    assert_eq!(b.remoting().statistics(&a.authority().to_string()).unwrap().sent, 6, "six answers");
}

/// A deadline that passes says what is known: of an actor that is silent, that time has passed; of a peer that nobody
/// reaches, that.
///
/// Covers: S36
#[test]
fn a_deadline_that_passes_without_a_connection_names_that() {
    let (sim, [a, b, c]) = nodes(36, ["a", "b", "c"]);
    parrot(b.system(), "parrot");
    let to = far(&a, &b, "/user/parrot");
    let after = s(2);
    let silent = to.ask(Talk::Keep).timeout(after);
    assert_eq!(sim.wait(s(3), silent), Some(Err(AskError::Timeout { after })));
    b.kill();
    c.kill();
    sim.settle();
    // The default deadline of five seconds is shorter than what an address never reached is given.
    let unheard = to.ask(|reply| Talk::Echo(1, reply));
    assert_eq!(sim.wait(s(6), unheard), Some(Err(AskError::Unreachable)));
    let never_reached = far(&a, &c, "/user/parrot").ask(|reply| Talk::Echo(1, reply));
    assert_eq!(sim.wait(s(6), never_reached), Some(Err(AskError::Unreachable)));
}
