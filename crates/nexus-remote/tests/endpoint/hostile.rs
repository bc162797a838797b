//! Connections that are not from nodes of ours, or from nodes that lie.

use nexus_remote::RemotingControl;
use nexus_remote::event::{RefusedBy, RemotingLifecycleEvent as Event};
use nexus_remote::wire::{
    CapabilityFlags, ControlFrame, FrameReader, NodeAddress, Preamble, QuarantineReason, RefuseReason,
    VersionRange,
};
use nexus_testkit::{SimNode, Simulation, Stranger};

use crate::kit::*;
use crate::puppet::{confirmation, hello, ours, request};

/// The control frames that a node sent.
pub(crate) fn frames(bytes: &[u8]) -> Vec<ControlFrame> {
    let mut reader = FrameReader::new();
    reader.spare()[..bytes.len()].copy_from_slice(bytes);
    reader.received(bytes.len());
    let mut frames = Vec::new();
    while let Some(raw) = reader.next_frame().unwrap() {
        frames.push(ControlFrame::decode(raw).unwrap());
    }
    frames
}

/// Two nodes that talk, so that a test sees whether they are disturbed.
fn talking(seed: u64) -> (Simulation, SimNode, SimNode) {
    let (sim, [a, b]) = nodes(seed, ["a", "b"]);
    parrot(b.system(), "parrot");
    assert_eq!(sim.wait(s(2), far(&a, &b, "/user/parrot").ask(|r| Talk::Echo(1, r))), Some(Ok(1)));
    (sim, a, b)
}

#[track_caller]
fn undisturbed(sim: &Simulation, a: &SimNode, b: &SimNode) {
    assert_eq!(sim.wait(s(2), far(a, b, "/user/parrot").ask(|r| Talk::Echo(2, r))), Some(Ok(2)));
    assert_eq!(a.turns_of(b), ["connected"]);
}

/// Covers: S20
#[test]
fn bytes_that_are_not_ours_end_their_connection_only() {
    let mut random = fastrand::Rng::with_seed(20);
    let mut openings: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03],
        vec![0; 64],
        vec![0xff; 5_000],
    ];
    for _ in 0..40 {
        let size = random.usize(1..3_000);
        openings.push((0..size).map(|_| random.u8(..)).collect());
    }
    let (sim, a, b) = talking(20);
    for (n, bytes) in openings.iter().enumerate() {
        let stranger = sim.stranger(b.authority());
        let _taken = stranger.write(bytes);
        sim.run(ms(10));
        assert!(stranger.is_closed(), "opening {n}: {bytes:?}");
    }
    sim.run(s(20));
    let reports = b.strangers();
    assert!((1..=3).contains(&reports.len()), "rate-limited: {reports:?}");
    undisturbed(&sim, &a, &b);
    assert_eq!(b.remoting().tasks(), 2, "listener and one connection");
}

/// Covers: S21
#[test]
fn who_says_nothing_or_little_is_closed_in_time() {
    let (sim, a, b) = talking(21);
    let silent = sim.stranger(b.authority());
    let slow = sim.stranger(b.authority());
    let bytes = hello(ours(), &request(&b, 0));
    for (second, byte) in bytes.iter().take(12).enumerate() {
        assert_eq!(silent.is_closed(), second >= 3, "second {second}");
        if !slow.is_closed() {
            let _taken = slow.write(&[*byte]);
        }
        assert_eq!(slow.is_closed(), second >= 10, "second {second}");
        sim.run(s(1) + ms(1));
    }
    undisturbed(&sim, &a, &b);
    assert_eq!(b.remoting().tasks(), 2);
}

/// Covers: S21
#[test]
fn a_thousand_silent_connections_do_not_keep_a_real_peer_out() {
    let (sim, a, b) = talking(210);
    let strangers: Vec<Stranger> = (0..1_000)
        .map(|n| {
            let stranger = sim.stranger(b.authority());
            if n % 50 == 0 {
                sim.settle();
            }
            stranger
        })
        .collect();
    sim.settle();
    let open = strangers.iter().filter(|stranger| !stranger.is_closed()).count();
    assert_eq!(open, 128, "the limit of those not yet associated");
    assert!(strangers[999 - 127..].iter().all(|stranger| !stranger.is_closed()), "the oldest went");
    let c = know(sim.node("c"));
    let answer = far(&c, &b, "/user/parrot").ask(|r| Talk::Echo(3, r)).timeout(s(1));
    assert_eq!(sim.wait(s(2), answer), Some(Ok(3)));
    sim.run(s(15));
    assert!(strangers.iter().all(Stranger::is_closed));
    undisturbed(&sim, &a, &b);
    assert_eq!(b.remoting().tasks(), 3, "listener and two connections");
}

/// Below, at and above the bytes of a handshake (L2).
#[test]
fn a_handshake_has_so_many_bytes_and_no_more() {
    let (sim, a, b) = talking(2);
    // A preamble of 16 bytes, and a header of 20 that claims a request of `body` bytes.
    let claim = |body: u32| {
        let mut bytes = Vec::new();
        Preamble::OURS.encode(&mut bytes);
        bytes.extend_from_slice(&(16 + body).to_le_bytes());
        bytes.extend_from_slice(&[0x01, 0, 0, 0]);
        bytes.extend_from_slice(&[0; 12]);
        bytes
    };
    for (body, stays) in
        [(4_059, true), (4_060, true), (4_061, false), (1 << 20, false), (u32::MAX - 16, false)]
    {
        let stranger = sim.stranger(b.authority());
        let _taken = stranger.write(&claim(body));
        sim.run(ms(10));
        assert_eq!(!stranger.is_closed(), stays, "a request of {body} bytes");
    }
    // So many bytes that never become a frame.
    let stranger = sim.stranger(b.authority());
    let _taken = stranger.write(&claim(4_060));
    for n in 0..10 {
        let _taken = stranger.write(&[0; 500]);
        sim.run(ms(1));
        assert_eq!(stranger.is_closed(), n >= 8, "after {} bytes", 36 + (n + 1) * 500);
    }
    sim.run(s(20));
    undisturbed(&sim, &a, &b);
}

/// Covers: S19, S117, ROLE-50
#[test]
fn a_request_for_another_node_is_refused_with_both_names() {
    let (sim, a, b) = talking(19);
    for to in [
        NodeAddress::new("other", b.authority().host(), Some(b.authority().port())).unwrap(),
        NodeAddress::new("b", "alias.example", Some(b.authority().port())).unwrap(),
    ] {
        let mut wrong = request(&b, 0);
        wrong.to = to.clone();
        let stranger = sim.stranger(b.authority());
        let _taken = stranger.write(&hello(ours(), &wrong));
        sim.run(ms(10));
        let answer = frames(&stranger.read().unwrap());
        let Some(ControlFrame::Refuse(refuse)) = answer.first() else { panic!("{answer:?}") };
        assert_eq!(refuse.reason, RefuseReason::WrongAddress);
        assert_eq!(refuse.asked_for.as_ref(), Some(&to));
        assert_eq!(refuse.known_by, NodeAddress::of(&b.system().address()).ok());
        sim.run(s(2));
        assert!(stranger.is_closed());
    }
    // A node that was told the wrong name learns at once, not by timeout.
    let wrong = b.url("/user/parrot").replace("://b@", "://other@");
    let to: nexus_actor_core::ActorRef<Talk> = a.system().resolve(&wrong).unwrap();
    let started = sim.now();
    let answer = sim.wait(s(20), to.ask(|r| Talk::Echo(1, r)).timeout(s(19)));
    assert!(matches!(answer, Some(Err(_))), "{answer:?}");
    assert!(sim.now() - started < s(1), "{:?}", sim.now() - started);
    let refused = a.count(|event| {
        matches!(event, Event::Refused { by: RefusedBy::Peer, reason: RefuseReason::WrongAddress, .. })
    });
    assert_eq!(refused, 1);
}

/// Covers: S22, S23
#[test]
fn versions_and_features_are_agreed() {
    let (sim, a, b) = talking(22);
    let own = ours();
    for (min, max, agreed) in
        [(own.min, own.max, true), (own.min, own.max + 9, true), (own.max + 1, own.max + 9, false)]
    {
        let stranger = sim.stranger(b.authority());
        // Features that nobody knows.
        let _taken = stranger.write(&hello(VersionRange { min, max }, &request(&b, u64::MAX)));
        sim.run(ms(50));
        let answer = frames(&stranger.read().unwrap());
        match answer.first() {
            Some(ControlFrame::Ack(ack)) => {
                assert!(agreed, "{min} to {max}");
                assert_eq!(ack.echo, 7);
                let offered = ack.handshake.capabilities().bits();
                assert_eq!(
                    offered & !CapabilityFlags::LARGE_LANE.bits(),
                    0,
                    "nothing that is only the peer's"
                );
            }
            Some(ControlFrame::Refuse(refuse)) => {
                assert!(!agreed, "{min} to {max}: {refuse:?}");
                assert_eq!(refuse.reason, RefuseReason::Version);
                assert_eq!(refuse.versions, own);
            }
            other => panic!("{other:?}"),
        }
    }
    // This side reports it too, with both ranges.
    let reports: Vec<_> = b.strangers().into_iter().map(|event| event.why).collect();
    assert_eq!(reports.len(), 1, "{reports:?}");
    let (theirs, ours) = (VersionRange { min: own.max + 1, max: own.max + 9 }, own);
    for range in [theirs, ours] {
        assert!(reports[0].contains(&range.to_string()), "{range} in {reports:?}");
    }
    sim.run(s(15));
    undisturbed(&sim, &a, &b);
}

/// After the handshake: a frame that is too long, one of an unknown kind, ordinary traffic before its time.
///
/// Covers: S103, S17
#[test]
fn a_peer_that_breaks_the_protocol_loses_its_session_only() {
    let cases: [(&str, Vec<u8>, QuarantineReason); 4] = [
        ("too long", (256u32 * 1024 + 1).to_le_bytes().to_vec(), QuarantineReason::FrameTooLong),
        ("negative", u32::MAX.to_le_bytes().to_vec(), QuarantineReason::FrameTooLong),
        ("too short", 3u32.to_le_bytes().to_vec(), QuarantineReason::ProtocolFault),
        (
            "unknown kind",
            [16u32.to_le_bytes().to_vec(), vec![0x7f; 16]].concat(),
            QuarantineReason::ProtocolFault,
        ),
    ];
    for (name, bytes, reason) in cases {
        let (sim, a, b) = talking(103);
        let stranger = sim.stranger(b.authority());
        let _taken = stranger.write(&hello(ours(), &request(&b, 0)));
        sim.run(ms(50));
        let answer = frames(&stranger.read().unwrap());
        let Some(ControlFrame::Ack(ack)) = answer.first() else { panic!("{answer:?}") };
        let mut frame = Vec::new();
        confirmation(ack).encode(&mut frame);
        let _taken = stranger.write(&frame);
        sim.run(ms(50));
        let mut frame = bytes;
        frame.resize(frame.len().max(20), 0);
        let _taken = stranger.write(&frame);
        sim.run(s(2));
        assert!(
            stranger.is_closed() || {
                let _last = stranger.read();
                stranger.is_closed()
            },
            "{name}"
        );
        let why: Vec<_> = b
            .lifecycle()
            .into_iter()
            .filter_map(|(_, event)| match event {
                Event::Quarantined { reason, .. } => Some(reason),
                _ => None,
            })
            .collect();
        assert_eq!(why, [reason], "{name}");
        undisturbed(&sim, &a, &b);
        assert_eq!(b.remoting().tasks(), 2, "{name}");
    }
}

/// A listed system is refused with its reason, whoever dials.
///
/// Covers: CFG-13
#[test]
fn a_blocked_system_is_refused_both_ways() {
    for by_name in [true, false] {
        let (sim, [b]) = nodes(127, ["b"]);
        let listed = if by_name { "b".to_string() } else { b.authority().to_string() };
        let a = know(sim.node_with("a", |c| c.with_blocked_systems([listed])));
        assert!(a.system().resolve::<Talk>(&b.url("/user/x")).is_err());
        let ask = far(&b, &a, "/user/x").ask(|r| Talk::Echo(1, r)).timeout(s(30));
        let answer = sim.wait(s(31), ask);
        assert!(matches!(answer, Some(Err(_))), "{answer:?}");
        for (node, by) in [(&a, RefusedBy::Us), (&b, RefusedBy::Peer)] {
            let told = node.count(|event| {
                matches!(event, Event::Refused { by: who, reason: RefuseReason::Blocked, .. } if *who == by)
            });
            assert!(told >= 1, "{by:?}: {:?}", node.lifecycle());
        }
        assert!(a.remoting().connections_snapshot().is_empty());
    }
}
