//! Requests, answers, refusals and claims, frame by frame.

#![allow(clippy::unwrap_used, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

mod association_support;

use association_support::*;
use nexus_actor_core::path::{ActorPathScheme, ActorUid};
use nexus_actor_core::{CorrelationId, DeadLetterReason, Instant};
use nexus_remote::association::*;
use nexus_remote::wire::*;

fn node(port: u16, uid: u64) -> RemoteNodeId {
    RemoteNodeId::at(NodeAddress::of(&address(port)).unwrap(), ActorUid::new(uid)).unwrap()
}

fn hello(from: &RemoteNodeId, nonce: u64, capabilities: u64) -> AssociationHandshake {
    AssociationHandshake::new(
        ActorPathScheme::FraktorLoopback,
        from.clone(),
        CapabilityFlags::from_bits(capabilities),
        nonce,
        CorrelationId::new(1, 2),
    )
    .unwrap()
}

const LIMITS: SessionLimits =
    SessionLimits { frame_max: 256 * 1024, message_max: 256 * 1024, window_bytes: u32::MAX };

fn request(from: &RemoteNodeId, to: u16) -> Request {
    Request {
        handshake: hello(from, 11, 0),
        to: NodeAddress::of(&address(to)).unwrap(),
        session: 0,
        peer_uid: ActorUid::ANY,
        receive_next: 0,
        system_next: 0,
        limits: LIMITS,
    }
}

fn ack(from: &RemoteNodeId, request: &Request, session: u64) -> Ack {
    Ack {
        handshake: hello(from, 22, 0),
        to: request.handshake.node().address().clone(),
        session,
        peer_uid: request.handshake.node().uid(),
        receive_next: 0,
        system_next: 0,
        limits: LIMITS,
        echo: request.handshake.nonce(),
        resumed: false,
    }
}

fn machine(capabilities: u64) -> Association {
    let config = AssociationConfig::builder().capabilities(CapabilityFlags::from_bits(capabilities));
    Association::new(config.build().unwrap(), node(1, 100), address(2), 0, 7).unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// The control frames waiting for `conn`.
fn frames(a: &mut Association, now: Instant, conn: ConnectionId) -> Vec<ControlFrame> {
    let mut out = Transmit::new();
    let mut frames = Vec::new();
    while a.poll_transmit(now, conn, &mut out) {
        let mut bytes = &out.head[..];
        if bytes.starts_with(&MAGIC) {
            bytes = &bytes[PREAMBLE_BYTES..];
        }
        while !bytes.is_empty() {
            let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize + 4;
            let raw = RawFrame::from_bytes(&bytes[..length]).unwrap();
            if raw.header.kind.lane() != Lane::Ordinary {
                frames.push(ControlFrame::decode(raw).unwrap());
            }
            bytes = &bytes[length..];
        }
    }
    frames
}

fn dial(a: &mut Association, now: Instant) -> (ConnectionId, Request) {
    let conn = a.poll_dial(now).expect("a dial");
    a.handle_dialled(now, conn, Ok(()));
    match frames(a, now, conn).as_slice() {
        [ControlFrame::Request(request)] => (conn, (**request).clone()),
        other => panic!("{other:?}"),
    }
}

fn events(a: &mut Association) -> Vec<AssociationEvent> {
    std::iter::from_fn(|| a.poll_event()).collect()
}

/// A machine connected by its own dial to the node at port 2 with `uid`, in session 5.
fn connected(uid: u64) -> (Association, ConnectionId) {
    let mut a = machine(0);
    a.associate(at(0));
    let (conn, request) = dial(&mut a, at(0));
    a.handle_control(at(1), conn, ControlFrame::Ack(Box::new(ack(&node(2, uid), &request, 5))));
    assert_eq!(a.state().kind(), StateKind::Connected);
    frames(&mut a, at(1), conn);
    events(&mut a);
    (a, conn)
}

/// Covers: HS-35, HS-30
#[test]
fn request_and_answer_complete_the_handshake_and_the_first_acknowledgement_confirms() {
    let mut a = machine(0);
    a.associate(at(0));
    assert_eq!(*a.state(), AssociationState::Associating { attempt: 1 });
    let (conn, request) = dial(&mut a, at(0));
    assert_eq!(request.to, NodeAddress::of(&address(2)).unwrap());
    let answer = ack(&node(2, 200), &request, 5);
    a.handle_control(at(1), conn, ControlFrame::Ack(Box::new(answer)));
    assert_eq!(*a.state(), AssociationState::Connected { remote_id: node(2, 200) });
    match frames(&mut a, at(1), conn).as_slice() {
        [ControlFrame::Acknowledge(acknowledge)] => {
            assert_eq!((acknowledge.session, acknowledge.next), (5, 0));
        }
        other => panic!("{other:?}"),
    }
}

/// Covers: S18
#[test]
fn a_lost_request_or_answer_is_sent_again_and_repetitions_change_nothing() {
    for seed in 0..100 {
        let mut net = Net::new(2, seed);
        net.loss = 0.3;
        net.duplication = 0.3;
        net.jitter = MS(300);
        net.tell(0, 1, 0);
        net.run(S(60));
        assert_eq!(net.numbers(1), [0], "{seed}");
        for (node, peer) in [(0, 1), (1, 0)] {
            let uids: Vec<_> = net
                .side(node, peer)
                .events
                .iter()
                .filter_map(|e| match e {
                    AssociationEvent::Associated { remote, session, .. } => Some((remote.uid(), *session)),
                    _ => None,
                })
                .collect();
            assert!(
                !uids.is_empty() && uids.windows(2).all(|w| w[0] == w[1]),
                "{seed}: one session: {uids:?}"
            );
            assert_eq!(net.side(node, peer).lost(), []);
        }
    }
    let mut a = machine(0);
    a.associate(at(0));
    let (conn, request) = dial(&mut a, at(0));
    for second in 1..=3 {
        assert_eq!(a.poll_timeout(), Some((at(second * 1_000), Timer::HandshakeRetry)));
        a.handle_timeout(at(second * 1_000));
        assert_eq!(frames(&mut a, at(0), conn), [ControlFrame::Request(Box::new(request.clone()))]);
    }
    let answer = ControlFrame::Ack(Box::new(ack(&node(2, 200), &request, 5)));
    for _ in 0..3 {
        a.handle_control(at(3_500), conn, answer.clone());
    }
    let associated = |e: &AssociationEvent| matches!(e, AssociationEvent::Associated { .. });
    assert_eq!(events(&mut a).iter().filter(|e| associated(e)).count(), 1);
}

/// Covers: S26, HS-36, SEC-07
#[test]
fn an_answer_to_another_attempt_is_ignored() {
    let mut a = machine(0);
    a.associate(at(0));
    let (conn, request) = dial(&mut a, at(0));
    let good = ack(&node(2, 200), &request, 5);
    for (name, wrong) in [
        ("an earlier nonce", Ack { echo: request.handshake.nonce() ^ 1, ..good.clone() }),
        ("an earlier incarnation of ours", Ack { peer_uid: ActorUid::new(99), ..good.clone() }),
        ("somebody else's", Ack { to: NodeAddress::of(&address(9)).unwrap(), ..good.clone() }),
    ] {
        a.handle_control(at(1), conn, ControlFrame::Ack(Box::new(wrong)));
        assert_eq!(a.state().kind(), StateKind::Associating, "{name}");
    }
    assert_eq!(a.statistics().frames_ignored, 3);
    // Our own request, sent back to us.
    a.handle_control(at(1), conn, ControlFrame::Request(Box::new(request)));
    assert_eq!(a.state().kind(), StateKind::Associating);
    a.handle_control(at(1), conn, ControlFrame::Ack(Box::new(good)));
    assert_eq!(a.state().kind(), StateKind::Connected);
}

/// Covers: S19, S24
#[test]
fn a_request_that_cannot_be_meant_is_refused_with_its_reason() {
    let us = NodeAddress::of(&address(1)).unwrap();
    let conn = ConnectionId::accepted(1);
    for (name, request, reason, named) in [
        ("another port", request(&node(2, 200), 9), RefuseReason::WrongAddress, true),
        ("our own uid", request(&node(2, 100), 1), RefuseReason::UidCollision, false),
        ("another peer's address", request(&node(3, 300), 1), RefuseReason::ProtocolFault, false),
    ] {
        let mut a = machine(0);
        a.handle_accepted(at(0), conn, request.clone(), PeerProof::Claimed);
        assert_eq!(a.poll_close(), None, "{name}: first the refusal");
        match frames(&mut a, at(0), conn).as_slice() {
            [ControlFrame::Refuse(refuse)] => {
                assert_eq!((refuse.reason, refuse.echo), (reason, 11), "{name}");
                assert_eq!(refuse.known_by.as_ref(), named.then_some(&us), "{name}");
                assert_eq!(refuse.asked_for.as_ref(), named.then_some(&request.to), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(a.poll_close(), Some((conn, CloseReason::Refused(reason))), "{name}");
        assert_eq!(a.state().kind(), StateKind::Unassociated, "{name}");
    }
}

/// Covers: S19, S22
#[test]
fn a_refusal_for_good_is_reported_at_once_with_what_the_peer_said() {
    for (reason, expected) in [
        (RefuseReason::WrongAddress, QuarantineReason::WrongAddress),
        (RefuseReason::Version, QuarantineReason::Version),
        (RefuseReason::UidCollision, QuarantineReason::UidCollision),
    ] {
        let mut a = machine(0);
        let h = a.intern(
            &nexus_actor_core::path::ActorPath::new(address(2), "/user/a", ActorUid::ANY),
            nexus_actor_core::serialization::SerializerId::POSTCARD,
            "m@1",
        );
        let _sent = a.send(at(0), h.unwrap(), None, &mut |e| e.put(b"x")).unwrap();
        let (conn, request) = dial(&mut a, at(0));
        let known_by = Some(NodeAddress::of(&address(7)).unwrap());
        let versions = VersionRange { min: 2, max: 3 };
        let refuse =
            Refuse { known_by: known_by.clone(), versions, ..refusal(&node(7, 700), Some(&request), reason) };
        a.handle_control(at(1), conn, ControlFrame::Refuse(Box::new(refuse)));
        assert_eq!(a.state().kind(), StateKind::Quarantined);
        let events = events(&mut a);
        assert!(events.iter().any(|e| matches!(
            e,
            AssociationEvent::RefusedByPeer { reason: r, known_by: k, versions: v, .. }
                if *r == reason && *k == known_by && *v == versions
        )));
        let facts = events.iter().find_map(|e| match e {
            AssociationEvent::Quarantined { reason, deadline: None, facts, .. } if *reason == expected => {
                Some(facts.clone())
            }
            _ => None,
        });
        let told = match reason {
            RefuseReason::Version => ["2..=3".to_string(), Preamble::OURS.versions.to_string()],
            RefuseReason::WrongAddress => [address(2).to_string(), address(7).to_string()]
                .map(|address| address.split("://").nth(1).unwrap().to_string()),
            _ => [String::new(), String::new()],
        };
        let facts = facts.unwrap();
        assert!(told.iter().all(|told| facts.contains(told)), "{told:?} in {facts}");
        assert!(events.iter().any(
            |e| matches!(e, AssociationEvent::Lost(lost) if lost.reason == DeadLetterReason::Quarantined)
        ));
    }
}

/// A refusal for now is tried again.
#[test]
fn a_refusal_for_now_is_tried_again() {
    for reason in [RefuseReason::Blocked, RefuseReason::Limit, RefuseReason::Left, RefuseReason::Other] {
        let mut a = machine(0);
        a.associate(at(0));
        let (conn, request) = dial(&mut a, at(0));
        let refuse = refusal(&node(2, 200), Some(&request), reason);
        a.handle_control(at(1), conn, ControlFrame::Refuse(Box::new(refuse)));
        match a.state() {
            AssociationState::Gated { cause: GateCause::Refused(r), .. } => assert_eq!(*r, reason),
            other => panic!("{other:?}"),
        }
        let (until, timer) = a.poll_timeout().unwrap();
        assert_eq!(timer, Timer::Dial);
        a.handle_timeout(until);
        assert!(a.poll_dial(until).is_some());
    }
}

/// Covers: S23
#[test]
fn only_what_both_offer_is_used_and_unknown_bits_mean_nothing() {
    for (ours, theirs, both) in [(0b011, 0b110, 0b010), (u64::MAX, 1 << 63, 1 << 63), (0, u64::MAX, 0)] {
        let mut a = machine(ours);
        a.associate(at(0));
        let (conn, request) = dial(&mut a, at(0));
        let answer = ack(&node(2, 200), &request, 5);
        let answer = Ack { handshake: hello(&node(2, 200), 22, theirs), ..answer };
        a.handle_control(at(1), conn, ControlFrame::Ack(Box::new(answer)));
        assert_eq!(a.capabilities(), Some(CapabilityFlags::from_bits(both)));

        let mut b = machine(ours);
        let conn = ConnectionId::accepted(1);
        let asked = Request { handshake: hello(&node(2, 200), 1, theirs), ..request_from_2() };
        b.handle_accepted(at(0), conn, asked, PeerProof::Claimed);
        confirm(&mut b, at(1), conn);
        assert_eq!(b.capabilities(), Some(CapabilityFlags::from_bits(both)));
    }
}

fn request_from_2() -> Request {
    request(&node(2, 200), 1)
}

/// Reads our answer on `conn` and confirms it; returns the session.
fn confirm(a: &mut Association, now: Instant, conn: ConnectionId) -> u64 {
    let session = match frames(a, now, conn).as_slice() {
        [ControlFrame::Ack(ack)] => ack.session,
        other => panic!("{other:?}"),
    };
    let acknowledge = Acknowledge { session, next: 0, credit_messages: 0, credit_bytes: 0 };
    a.handle_control(now, conn, ControlFrame::Acknowledge(acknowledge));
    session
}

/// T7: a recorded request answered again costs the session nothing, because it is never confirmed.
///
/// Covers: SEC-07, ERR-17
#[test]
fn an_unconfirmed_answer_changes_nothing() {
    let (mut a, live) = connected(200);
    let replay = Request { session: 5, peer_uid: ActorUid::new(100), ..request_from_2() };
    let conn = ConnectionId::accepted(1);
    a.handle_accepted(at(10), conn, replay, PeerProof::Claimed);
    assert_eq!((a.live_connection(), a.state().kind()), (Some(live), StateKind::Connected));
    assert!(matches!(frames(&mut a, at(10), conn).as_slice(), [ControlFrame::Ack(_)]));
    // Frames before the confirmation are not looked at.
    let uid = ActorUid::new(200);
    a.handle_control(at(11), conn, ControlFrame::Leave { uid });
    a.handle_control(
        at(11),
        conn,
        ControlFrame::Quarantined { uid: ActorUid::new(100), reason: QuarantineReason::ByOperator },
    );
    let acknowledge = Acknowledge { session: 6, next: 0, credit_messages: 0, credit_bytes: 0 };
    a.handle_control(at(11), conn, ControlFrame::Acknowledge(acknowledge));
    assert_eq!((a.live_connection(), a.state().kind()), (Some(live), StateKind::Connected));
    a.handle_timeout(at(10_010));
    frames(&mut a, at(10_010), conn);
    assert_eq!(a.poll_close(), Some((conn, CloseReason::TimedOut)));
    assert_eq!((a.live_connection(), a.state().kind()), (Some(live), StateKind::Connected));
}

/// T10: a second incarnation that claims a live address counts only once our own dial is answered by it.
#[test]
fn a_plain_claim_of_a_live_address_counts_once_our_dial_is_answered_by_it() {
    for (name, answering, expected) in [("a squatter", 200, 200), ("a restart", 201, 201)] {
        let (mut a, live) = connected(200);
        let claim = ConnectionId::accepted(1);
        a.handle_accepted(at(10), claim, request(&node(2, 201), 1), PeerProof::Claimed);
        assert_eq!(a.poll_close(), Some((claim, CloseReason::Unproven)), "{name}");
        assert_eq!(a.live_connection(), Some(live), "{name}");
        let (conn, asked) = dial(&mut a, at(10));
        assert_eq!((asked.session, asked.peer_uid), (5, ActorUid::new(200)), "{name}");
        let mut answer = ack(&node(2, answering), &asked, if answering == 200 { 5 } else { 9 });
        answer.resumed = answering == 200;
        a.handle_control(at(12), conn, ControlFrame::Ack(Box::new(answer)));
        assert_eq!(a.remote().map(|r| r.uid().get()), Some(expected), "{name}");
        let kept = a.live_connection() == Some(live);
        assert_eq!(kept, answering == 200, "{name}: undisturbed");
    }
    // Nobody answers our dial: the claim is not believed while the address is alive.
    let (mut a, live) = connected(200);
    a.handle_accepted(at(10), ConnectionId::accepted(1), request(&node(2, 201), 1), PeerProof::Claimed);
    let conn = a.poll_dial(at(10)).unwrap();
    a.handle_dialled(at(11), conn, Err(DialError::Refused));
    assert_eq!((a.live_connection(), a.state().kind()), (Some(live), StateKind::Connected));
    // A proven one is believed at once.
    let proven = ConnectionId::accepted(2);
    a.handle_accepted(at(20), proven, request(&node(2, 201), 1), PeerProof::Proven);
    confirm(&mut a, at(21), proven);
    assert_eq!(a.remote().map(|r| r.uid().get()), Some(201));
}

/// Covers: S12
#[test]
fn a_request_for_an_incarnation_that_is_gone_is_answered_with_the_living_one() {
    // As the new incarnation sees it: the old one's session is named, and is not resumed.
    let mut b = machine(0);
    let conn = ConnectionId::accepted(1);
    let resume = Request { session: 5, peer_uid: ActorUid::new(77), receive_next: 9, ..request_from_2() };
    b.handle_accepted(at(0), conn, resume, PeerProof::Claimed);
    let answer = match frames(&mut b, at(0), conn).as_slice() {
        [ControlFrame::Ack(ack)] => (**ack).clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(answer.handshake.node().uid(), ActorUid::new(100), "its own uid");
    assert!(!answer.resumed && answer.session != 5, "{answer:?}");
    // An acknowledgement of the old session confirms nothing: none of its bytes is looked at.
    let acknowledge = Acknowledge { session: 5, next: 9, credit_messages: 0, credit_bytes: 0 };
    b.handle_control(at(1), conn, ControlFrame::Acknowledge(acknowledge));
    let message = SystemMessage::Stop { path: WirePath::new("/user/a").unwrap(), uid: ActorUid::ANY };
    b.handle_control(at(1), conn, ControlFrame::System { seq: 0, message });
    assert!(
        !events(&mut b).iter().any(|e| matches!(
            e,
            AssociationEvent::StopRequested { .. } | AssociationEvent::Associated { .. }
        ))
    );
    assert!(b.attachment(conn).is_none(), "nor of its ordinary lane");

    // As the old one's peer sees it: the answer ends the session and names the new incarnation.
    let (mut a, live) = connected(200);
    a.handle_connection_lost(at(10), live, LostCause::Broken);
    a.associate(at(10));
    let now = a.poll_timeout().map_or(at(10), |(next, _)| next.max(at(10)));
    a.handle_timeout(now);
    let (conn, asked) = dial(&mut a, now);
    assert_eq!((asked.session, asked.peer_uid), (5, ActorUid::new(200)));
    a.handle_control(now, conn, ControlFrame::Ack(Box::new(ack(&node(2, 201), &asked, 9))));
    let told = events(&mut a);
    let changed = |e: &AssociationEvent| matches!(e, AssociationEvent::Reincarnated { old, new } if (old.get(), new.get()) == (200, 201));
    assert_eq!(told.iter().filter(|e| changed(e)).count(), 1, "{told:?}");
    assert_eq!(a.remote().map(|r| r.uid().get()), Some(201));
}

/// Covers: S22
#[test]
fn the_highest_version_of_both_is_agreed() {
    let range = |min, max| VersionRange { min, max };
    for (ours, theirs, agreed) in [
        (range(1, 1), range(1, 1), Some(1)),
        (range(1, 3), range(1, 1), Some(1)),
        (range(1, 3), range(2, 9), Some(3)),
        (range(2, 5), range(1, 4), Some(4)),
        (range(1, 1), range(2, 9), None),
        (range(4, 9), range(1, 3), None),
    ] {
        assert_eq!(ours.agree(theirs), agreed, "{ours} {theirs}");
        assert_eq!(theirs.agree(ours), agreed, "{theirs} {ours}: whoever dials");
    }
}

/// Covers: S27
#[test]
fn a_handshake_never_waits_behind_control_traffic() {
    let mut net = Net::new(2, 27);
    net.tell(0, 1, 0);
    net.run(S(2));
    for n in 0..5_000 {
        net.watch(0, 1, &format!("/user/w{n}"), 5, n);
    }
    net.run(MS(3));
    net.cut(0, 1);
    for n in 5_000..10_000 {
        net.watch(0, 1, &format!("/user/w{n}"), 5, n);
    }
    let took = net.run_till(S(2), |net| net.side(0, 1).state() == StateKind::Connected);
    assert!(took <= MS(20), "{took:?}");
    net.run(S(5));
    assert_eq!(net.side(0, 1).notices.len(), 10_000);
}

/// An accepted connection in handshake is held only as long as a handshake may take, and only so many of them.
#[test]
fn connections_in_handshake_are_bounded() {
    let mut a = machine(0);
    let mut refused = 0;
    for n in 0..100 {
        let conn = ConnectionId::accepted(n);
        let request = Request { handshake: hello(&node(2, 200), n + 1, 0), ..request_from_2() };
        a.handle_accepted(at(n), conn, request, PeerProof::Claimed);
        refused +=
            frames(&mut a, at(n), conn).iter().filter(|f| matches!(f, ControlFrame::Refuse(_))).count();
        while a.poll_close().is_some() {}
    }
    assert_eq!(refused, 0, "a newer one takes the place of an older one");
    a.handle_timeout(at(20_000));
    assert_eq!(a.poll_close(), Some((ConnectionId::accepted(99), CloseReason::TimedOut)));
    assert_eq!(a.poll_close(), None);
}

/// L6: below, at and above the connections of one association.
#[test]
fn a_peer_has_so_many_connections_and_the_next_is_refused() {
    for max in [3, 8] {
        let config = AssociationConfig::builder().connections_max(max).build().unwrap();
        let mut a = Association::new(config, node(1, 100), address(2), 0, 7).unwrap();
        // Nobody writes and closes yet: each stays until its last words are taken.
        let conn = |n: usize| ConnectionId::accepted(n as u64);
        for n in 1..=max + 2 {
            let request = request(&node(2, 200), 1);
            a.handle_accepted(at(n as u64), conn(n), request, PeerProof::Claimed);
        }
        for n in 1..=max + 2 {
            let said = frames(&mut a, at(99), conn(n));
            match said.first() {
                Some(ControlFrame::Ack(_)) => assert!(n <= max, "{n} of {max}"),
                Some(ControlFrame::Refuse(refuse)) => {
                    assert!(n > max, "{n} of {max}");
                    assert_eq!(refuse.reason, RefuseReason::Limit);
                }
                other => panic!("{n} of {max}: {other:?}"),
            }
        }
        let told = events(&mut a);
        let refused: Vec<_> = told
            .iter()
            .filter_map(|event| match event {
                AssociationEvent::RefusedPeer { reason, held_back, .. } => Some((*reason, *held_back)),
                _ => None,
            })
            .collect();
        assert_eq!(refused, [(RefuseReason::Limit, 0)], "one event for the reason");
    }
}
