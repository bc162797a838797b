//! `decode(encode(x)) == x` for every frame, and encoding beside the limits.

use core::time::Duration;

use nexus_actor_core::path::{ActorPathScheme, ActorUid};
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::serialization::{EncodeError, SerializerId};
use nexus_actor_core::{AskError, CorrelationId, Headers, TerminationReason};
use nexus_remote::wire::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn uid() -> impl Strategy<Value = ActorUid> {
    any::<u64>().prop_map(ActorUid::new)
}

fn correlation() -> impl Strategy<Value = CorrelationId> {
    (any::<u64>(), any::<u32>()).prop_map(|(hi, lo)| CorrelationId::new(hi, lo))
}

fn key() -> impl Strategy<Value = ReplyKey> {
    (any::<u64>(), any::<u32>()).prop_map(|(secret, slot)| ReplyKey { secret, slot })
}

fn path() -> impl Strategy<Value = String> {
    vec("[a-zA-Z0-9$_~:@-]{1,8}", 1..=32).prop_map(|elements| format!("/{}", elements.join("/")))
}

fn wire_path() -> impl Strategy<Value = WirePath> {
    path().prop_map(|text| WirePath::new(text).expect("within the limits"))
}

fn node() -> impl Strategy<Value = NodeAddress> {
    (
        "[a-z][a-z0-9-]{0,100}[a-z]",
        prop_oneof!["([a-z]{1,20}\\.){0,5}[a-z]{1,20}", Just("::1".to_string()), Just(String::new())],
        option::of(1..=u16::MAX),
    )
        .prop_map(|(system, host, port)| NodeAddress::new(system, host, port).expect("within the limits"))
}

fn scheme() -> impl Strategy<Value = ActorPathScheme> {
    prop_oneof![
        Just(ActorPathScheme::FraktorTcp),
        Just(ActorPathScheme::FraktorTls),
        Just(ActorPathScheme::FraktorLoopback),
        "[a-z.]{1,32}".prop_map(|name| ActorPathScheme::from_name(&name)),
    ]
}

fn handshake() -> impl Strategy<Value = AssociationHandshake> {
    (scheme(), node(), 1..=u64::MAX, any::<u64>(), any::<u64>(), correlation()).prop_map(
        |(scheme, node, uid, capabilities, nonce, seed)| {
            let node = RemoteNodeId::at(node, ActorUid::new(uid)).expect("not zero");
            let capabilities = CapabilityFlags::from_bits(capabilities);
            AssociationHandshake::new(scheme, node, capabilities, nonce, seed).expect("within the limits")
        },
    )
}

fn limits() -> impl Strategy<Value = SessionLimits> {
    any::<[u32; 3]>().prop_map(|[frame_max, message_max, window_bytes]| SessionLimits {
        frame_max,
        message_max,
        window_bytes,
    })
}

fn request() -> impl Strategy<Value = Request> {
    (handshake(), node(), any::<[u64; 4]>(), limits()).prop_map(|(handshake, to, numbers, limits)| Request {
        handshake,
        to,
        session: numbers[0],
        peer_uid: ActorUid::new(numbers[1]),
        receive_next: numbers[2],
        system_next: numbers[3],
        limits,
    })
}

fn ack() -> impl Strategy<Value = Ack> {
    (request(), 1..=u64::MAX, any::<u64>(), any::<bool>()).prop_map(|(terms, session, echo, resumed)| Ack {
        handshake: terms.handshake,
        to: terms.to,
        session,
        peer_uid: terms.peer_uid,
        receive_next: terms.receive_next,
        system_next: terms.system_next,
        limits: terms.limits,
        echo,
        resumed,
    })
}

fn refuse() -> impl Strategy<Value = Refuse> {
    let reason = proptest::sample::select(RefuseReason::ALL.to_vec());
    (reason, any::<u64>(), option::of(node()), option::of(node()), uid(), 1..=u16::MAX, 1..=u16::MAX)
        .prop_map(|(reason, echo, asked_for, known_by, uid, a, b)| Refuse {
            reason,
            echo,
            asked_for,
            known_by,
            uid,
            versions: VersionRange { min: a.min(b), max: a.max(b) },
        })
}

fn termination() -> impl Strategy<Value = TerminationReason> {
    prop_oneof![
        Just(TerminationReason::Stopped),
        "\\PC{0,200}".prop_map(TerminationReason::Failed),
        Just(TerminationReason::NeverExisted),
        Just(TerminationReason::Unreachable),
        Just(TerminationReason::Quarantined),
        Just(TerminationReason::Left),
        Just(TerminationReason::Limit),
        Just(TerminationReason::Shutdown),
    ]
}

fn system() -> impl Strategy<Value = SystemMessage> {
    prop_oneof![
        (wire_path(), uid()).prop_map(|(path, uid)| SystemMessage::Watch { path, uid }),
        (wire_path(), uid()).prop_map(|(path, uid)| SystemMessage::Unwatch { path, uid }),
        (wire_path(), uid()).prop_map(|(path, uid)| SystemMessage::Stop { path, uid }),
        (wire_path(), uid(), termination(), any::<u64>())
            .prop_map(|(path, uid, reason, after)| SystemMessage::Terminated { path, uid, reason, after }),
    ]
}

fn control() -> impl Strategy<Value = ControlFrame> {
    let reason = proptest::sample::select(QuarantineReason::ALL.to_vec());
    prop_oneof![
        request().prop_map(|frame| ControlFrame::Request(Box::new(frame))),
        ack().prop_map(|frame| ControlFrame::Ack(Box::new(frame))),
        refuse().prop_map(|frame| ControlFrame::Refuse(Box::new(frame))),
        (uid(), any::<u32>()).prop_map(|(uid, seq)| ControlFrame::Heartbeat { uid, seq }),
        (uid(), any::<u32>()).prop_map(|(uid, seq)| ControlFrame::HeartbeatReply { uid, seq }),
        any::<(u64, u64, u32, u32)>().prop_map(|(session, next, credit_messages, credit_bytes)| {
            ControlFrame::Acknowledge(Acknowledge { session, next, credit_messages, credit_bytes })
        }),
        (any::<u64>(), system()).prop_map(|(seq, message)| ControlFrame::System { seq, message }),
        any::<(u64, u64)>().prop_map(|(session, next)| ControlFrame::SystemAcknowledge { session, next }),
        (uid(), reason).prop_map(|(uid, reason)| ControlFrame::Quarantined { uid, reason }),
        uid().prop_map(|uid| ControlFrame::Leave { uid }),
        Just(ControlFrame::Left),
    ]
}

fn ask_error() -> impl Strategy<Value = AskError> {
    prop_oneof![
        (any::<u64>(), 0..1_000_000_000_u32)
            .prop_map(|(seconds, nanos)| AskError::Timeout { after: Duration::new(seconds, nanos) }),
        Just(AskError::Full),
        Just(AskError::Stopped),
        Just(AskError::NoSuchActor),
        Just(AskError::NoReply),
        Just(AskError::Unreachable),
        Just(AskError::Quarantined),
        Just(AskError::Blocked),
        "\\PC{0,200}".prop_map(AskError::Decode),
        "\\PC{0,200}".prop_map(AskError::Encode),
        any::<(u32, u32)>()
            .prop_map(|(size, limit)| AskError::TooLarge { size: size as usize, limit: limit as usize }),
        Just(AskError::Denied),
        Just(AskError::Suspended),
        Just(AskError::Shutdown),
    ]
}

fn headers() -> impl Strategy<Value = Headers> {
    vec(("\\PC{0,20}", "\\PC{0,40}"), 0..=20).prop_map(|pairs| {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.set(name, value);
        }
        headers
    })
}

fn reply_to() -> impl Strategy<Value = Option<(ReplyKey, Option<String>)>> {
    option::of((key(), option::of("fraktor\\.tcp://[a-z]{1,20}@[a-z]{1,20}\\.[a-z]{1,20}:[1-9][0-9]{1,3}")))
}

#[track_caller]
fn same(frame: &OrdinaryFrame<'_>) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    let raw = RawFrame::from_bytes(&bytes).expect("one frame");
    assert_eq!(&OrdinaryFrame::decode(raw).expect("a valid frame"), frame);
    // One byte less or more never passes for the frame.
    assert!(RawFrame::from_bytes(&bytes[..bytes.len() - 1]).is_err());
}

proptest! {
    /// Covers: DM-02
    #[test]
    fn control_frames_come_back_as_they_were(frame in control()) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let raw = RawFrame::from_bytes(&bytes).expect("one frame");
        prop_assert_eq!(ControlFrame::decode(raw).expect("a valid frame"), frame);
        // Trailing bytes and a cut body are faults whatever the frame.
        let mut longer = bytes.clone();
        longer.push(0);
        let length = (longer.len() as u32 - 4).to_le_bytes();
        longer[..4].copy_from_slice(&length);
        prop_assert!(ControlFrame::decode(RawFrame::from_bytes(&longer).expect("one frame")).is_err());
        if raw.body.is_empty() { return Ok(()); }
        let cut = RawFrame { header: raw.header, body: &raw.body[..raw.body.len() - 1] };
        prop_assert!(ControlFrame::decode(cut).is_err());
    }

    #[test]
    fn ordinary_frames_come_back_as_they_were(
        key in key(), correlation_id in correlation(), error in ask_error(), payload in vec(any::<u8>(), 0..300),
        path in path(), manifest in "[a-z.@0-9]{1,256}", uid in uid(), id in any::<u32>(), small in any::<[u16; 2]>(),
    ) {
        same(&OrdinaryFrame::Reply(Reply { key, correlation_id, payload: &payload }));
        same(&OrdinaryFrame::ReplyFailed(ReplyFailed { key, correlation_id, error }));
        same(&OrdinaryFrame::DefineReference(DefineReference::new(id, uid, &path).expect("a path")));
        let [number, serializer] = small;
        let serializer = SerializerId(serializer);
        same(&OrdinaryFrame::DefineManifest(DefineManifest::new(number, serializer, &manifest).expect("a name")));
        same(&OrdinaryFrame::Lookup(Lookup::new(key, correlation_id, &manifest, &path).expect("names")));
    }

    /// Covers: SER-04, SER-06, DM-05
    #[test]
    fn envelopes_come_back_as_they_were(
        recipient in any::<u32>(), manifest in any::<u16>(), correlation_id in correlation(), headers in headers(),
        reply in reply_to(), payload in vec(any::<u8>(), 0..300), before in vec(any::<u8>(), 0..50),
    ) {
        let reply_to = reply.as_ref().map(|(key, foreign)| match foreign {
            None => EnvelopeReply::to_sender(*key),
            Some(address) => EnvelopeReply::to_foreign(*key, address).expect("an address"),
        });
        let mut bytes = before.clone();
        let mut writer =
            EnvelopeWriter::begin(&mut bytes, limit::FRAME, recipient, manifest, correlation_id, Some(&headers))
                .expect("within the limits");
        writer.encoder().put(&payload).expect("room");
        let length = writer.finish(reply_to).expect("within the limit");
        prop_assert_eq!(length, bytes.len() - before.len());
        prop_assert_eq!(&bytes[..before.len()], &before[..]);

        let view = Envelope::decode(RawFrame::from_bytes(&bytes[before.len()..]).expect("one frame")).expect("valid");
        prop_assert_eq!((view.recipient, view.manifest, view.correlation_id), (recipient, manifest, correlation_id));
        prop_assert_eq!((view.reply_to, view.payload), (reply_to, &payload[..]));
        prop_assert_eq!(view.headers.map(|pairs| pairs.to_headers()).unwrap_or_default(), headers.clone());
        let foreign = reply.as_ref().and_then(|(_, foreign)| foreign.clone());
        let parsed = view.reply_to.and_then(|reply| reply.foreign_address().expect("an address"));
        prop_assert_eq!(parsed.map(|address| address.to_string()), foreign);
        same(&OrdinaryFrame::Envelope(view));

        // The whole envelope in memory says the same.
        let reference = DefineReference::new(recipient, ActorUid::new(4), "/user/a").expect("a path");
        let kind = DefineManifest::new(manifest, SerializerId::POSTCARD, "a@1").expect("a name");
        let envelope = RemotingEnvelope::from_wire(8, 9, &reference, &kind, &view);
        prop_assert_eq!((envelope.sequence_no, envelope.priority), (9, MessagePriority::User));
        prop_assert_eq!(envelope.define_reference(recipient), reference);
        prop_assert_eq!(envelope.define_manifest(manifest), Ok(kind));
        let mut again = Vec::new();
        envelope.write(&mut again, limit::FRAME, recipient, manifest).expect("within the limits");
        prop_assert_eq!(&again[..], &bytes[before.len()..]);
    }

    /// Part of S128; `wire_hostile` goes further.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400), kind in 0..FrameKind::ALL.len(), flags in 0..8_u8) {
        let _ = RawFrame::from_bytes(&bytes).map(|raw| (ControlFrame::decode(raw), OrdinaryFrame::decode(raw)).0);
        let header = FrameHeader { flags, ..FrameHeader::of(FrameKind::ALL[kind]) };
        let raw = RawFrame { header, body: &bytes };
        let _ = ControlFrame::decode(raw);
        let _ = OrdinaryFrame::decode(raw);
        let mut reader = FrameReader::new();
        reader.feed(&bytes);
        let _ = reader.next_frame();
    }

    #[test]
    fn a_damaged_control_frame_never_panics(frame in control(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = RawFrame::from_bytes(&bytes).map(ControlFrame::decode);
    }
}

const KEY: ReplyKey = ReplyKey { secret: 1, slot: 2 };

fn begin<'v>(out: &'v mut Vec<u8>, headers: Option<&Headers>) -> Result<EnvelopeWriter<'v>, WireError> {
    EnvelopeWriter::begin(out, limit::FRAME, 1, 2, CorrelationId::NIL, headers)
}

/// L12: below, at and above both limits, on the sending side and on the reading side.
#[test]
fn headers_are_refused_above_their_limits() {
    let count = |n: usize| (0..n).fold(Headers::new(), |h, i| h.with(i.to_string(), ""));
    // One byte of count, three of lengths, one of name.
    let bytes = |n: usize| Headers::new().with("n", "v".repeat(n - 5));
    let name = |n: usize| Headers::new().with("n".repeat(n), "");
    for (what, headers, accepted) in [
        ("63 pairs", count(63), true),
        ("64 pairs", count(64), true),
        ("65 pairs", count(65), false),
        ("8191 bytes", bytes(8191), true),
        ("8192 bytes", bytes(8192), true),
        ("8193 bytes", bytes(8193), false),
        ("name of 254", name(254), true),
        ("name of 255", name(255), true),
        ("name of 256", name(256), false),
    ] {
        let mut out = b"before".to_vec();
        let written = begin(&mut out, Some(&headers)).and_then(|writer| writer.finish(None));
        assert_eq!(written.is_ok(), accepted, "{what}: {written:?}");
        if accepted {
            let raw = RawFrame::from_bytes(&out[6..]).expect("one frame");
            let view = Envelope::decode(raw).expect(what);
            assert_eq!(view.headers.map(|pairs| pairs.to_headers()), Some(headers), "{what}");
        } else {
            assert_eq!(out, b"before", "{what}: taken back");
        }
    }
    for (what, count, length, expected) in [
        ("65 pairs", 65_u8, 1 + 65 * 3, WireRule::TooMany { count: 65, limit: 64 }),
        ("8193 bytes", 1, 8193, WireRule::TooLong { length: 8193, limit: 8192 }),
        ("bytes left over", 1, 5, WireRule::LengthMismatch),
    ] {
        let mut body = 1_u32.to_le_bytes().to_vec();
        body.extend_from_slice(&(length as u16).to_le_bytes());
        body.push(count);
        body.resize(6 + length, 0);
        let header = FrameHeader { flags: 4, ..FrameHeader::of(FrameKind::Envelope) };
        let read = Envelope::decode(RawFrame { header, body: &body });
        assert_eq!(read.err().map(|error| error.rule), Some(expected), "{what}");
    }
}

/// L7: a frame within the limit is written, a larger one leaves no trace; an error or a panic of the encoder neither.
#[test]
fn a_writer_takes_back_what_it_does_not_finish() {
    let mut out = b"before".to_vec();
    let foreign = "f".repeat(limit::ADDRESS);
    for (above, accepted) in [(0, true), (1, false)] {
        let mut writer = begin(&mut out, None).expect("no headers");
        let payload = vec![7; writer.room() + above];
        let put = writer.encoder().put(&payload);
        assert_eq!(put.is_ok(), accepted);
        if accepted {
            let reply_to = EnvelopeReply::to_foreign(KEY, &foreign).expect("at the limit");
            assert_eq!(writer.finish(Some(reply_to)), Ok(limit::FRAME as usize + 4), "all room is used");
            assert!(Envelope::decode(RawFrame::from_bytes(&out[6..]).expect("one frame")).is_ok());
            out.truncate(6);
        } else {
            assert!(matches!(put, Err(EncodeError::TooLarge { .. })));
            drop(writer);
        }
        assert_eq!(out, b"before");
    }
    let panicked = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
        let mut writer = begin(&mut out, None).expect("no headers");
        writer.encoder().put(b"half").expect("room");
        std::panic::resume_unwind(Box::new("a serializer"));
    }));
    assert!(panicked.is_err());
    assert_eq!(out, b"before");

    let mut writer = ReplyWriter::begin(&mut out, 40, KEY, CorrelationId::NIL);
    assert_eq!(writer.room(), 40 - 16 - 12);
    writer.encoder().put(&[1; 12]).expect("room");
    assert!(writer.encoder().put(&[1]).is_err());
    assert_eq!(writer.finish(), Ok(44));
    out.truncate(6);
    // A limit smaller than the head is kept as well.
    let writer = ReplyWriter::begin(&mut out, 20, KEY, CorrelationId::NIL);
    assert_eq!(writer.room(), 0);
    assert!(writer.finish().is_err());
    assert_eq!(out, b"before");
}

/// Part of S23: what only one side offers is never among the common flags.
#[test]
fn unknown_capabilities_are_read_and_not_used() {
    let (ours, theirs) = (CapabilityFlags::LARGE_LANE, CapabilityFlags::from_bits(u64::MAX));
    assert_eq!(ours.common(theirs), CapabilityFlags::LARGE_LANE);
    assert_eq!(CapabilityFlags::NONE.common(theirs), CapabilityFlags::NONE);
}

/// What a later version may send where this one has a list: never a fault.
#[test]
fn unknown_codes_are_read_as_the_page_says() {
    let frame = |kind, body: &[u8]| ControlFrame::decode(RawFrame { header: FrameHeader::of(kind), body });
    let quarantined = frame(FrameKind::Quarantined, &[1, 0, 0, 0, 0, 0, 0, 0, 200]).expect("a frame");
    let uid = ActorUid::new(1);
    assert_eq!(quarantined, ControlFrame::Quarantined { uid, reason: QuarantineReason::ByPeer });

    let mut body = vec![0; 8];
    body.extend_from_slice(&[
        3, 2, 0, b'/', b'a', 9, 0, 0, 0, 0, 0, 0, 0, 99, 2, 0, b'h', b'm', 5, 0, 0, 0, 0, 0, 0, 0,
    ]);
    let ControlFrame::System { message: SystemMessage::Terminated { reason, after, .. }, .. } =
        frame(FrameKind::System, &body).expect("a frame")
    else {
        panic!("a termination");
    };
    assert_eq!(reason, TerminationReason::Failed("reason 99 of a later version: hm".into()));
    assert_eq!(after, 5);
    body[8] = 5;
    assert_eq!(frame(FrameKind::System, &body).err().map(|e| e.rule), Some(WireRule::Unknown { value: 5 }));

    // Seconds and nanoseconds that would overflow.
    let mut body = vec![0; 12];
    body.push(1);
    body.extend_from_slice(&[0xff; 16]);
    body.extend_from_slice(&[0, 0]);
    let raw = RawFrame { header: FrameHeader::of(FrameKind::ReplyFailed), body: &body };
    let failed = ReplyFailed::decode(raw).expect("a frame");
    assert_eq!(failed.error, AskError::Timeout { after: Duration::new(u64::MAX, 999_999_999) });
}

/// L11 and the wire's own limits on texts: below, at and above.
#[test]
fn texts_are_refused_above_their_limits() {
    fn manifest(text: &str) -> Result<(), WireError> {
        DefineManifest::new(1, SerializerId::JSON, text).map(|_| ())
    }
    fn lookup(text: &str) -> Result<(), WireError> {
        Lookup::new(KEY, CorrelationId::NIL, text, "/user/a").map(|_| ())
    }
    fn address(text: &str) -> Result<(), WireError> {
        EnvelopeReply::to_foreign(KEY, text).map(|_| ())
    }
    fn scheme(text: &str) -> Result<(), WireError> {
        let node = RemoteNodeId::new("a", "b", Some(1), ActorUid::new(1)).expect("a node");
        let scheme = ActorPathScheme::from_name(text);
        AssociationHandshake::new(scheme, node, CapabilityFlags::NONE, 1, CorrelationId::NIL).map(|_| ())
    }
    type Make = fn(&str) -> Result<(), WireError>;
    let makes: [(&str, Make, usize); 4] = [
        ("manifest", manifest, limit::MANIFEST),
        ("lookup", lookup, limit::MANIFEST),
        ("address", address, limit::ADDRESS),
        ("scheme", scheme, limit::SCHEME),
    ];
    for (name, make, most) in makes {
        assert_eq!(make(&"a".repeat(most - 1)), Ok(()), "{name}");
        assert_eq!(make(&"a".repeat(most)), Ok(()), "{name}");
        let rule = |text: &str| make(text).err().map(|error| error.rule);
        let above = "a".repeat(most + 1);
        assert_eq!(rule(&above), Some(WireRule::TooLong { length: most + 1, limit: most }), "{name}");
        assert_eq!(rule(""), Some(WireRule::Empty), "{name}");
        assert_eq!(rule("a\u{1b}[2J"), Some(WireRule::ControlCharacter), "{name}");
    }
}

/// A text that explains is cut between two characters, and a longer one from a peer is refused.
#[test]
fn a_long_explanation_is_cut_when_it_is_written() {
    for (what, given, kept) in [
        ("below", "x".repeat(limit::TEXT - 1), limit::TEXT - 1),
        ("at", "x".repeat(limit::TEXT), limit::TEXT),
        ("above", "x".repeat(limit::TEXT + 1), limit::TEXT),
        ("within a character", "é".repeat(limit::TEXT).split_off(2) + "x", limit::TEXT),
        ("odd", format!("x{}", "é".repeat(limit::TEXT)), limit::TEXT - 1),
    ] {
        let error = AskError::Decode(given);
        let mut bytes = Vec::new();
        ReplyFailed { key: KEY, correlation_id: CorrelationId::NIL, error }.encode(&mut bytes);
        let read = ReplyFailed::decode(RawFrame::from_bytes(&bytes).expect("one frame")).expect(what);
        assert!(matches!(&read.error, AskError::Decode(text) if text.len() == kept), "{what}");
    }
    let mut body = vec![0; 12 + 1 + 16];
    body[12] = 9;
    body.extend_from_slice(&(limit::TEXT as u16 + 1).to_le_bytes());
    body.resize(body.len() + limit::TEXT + 1, b'x');
    let raw = RawFrame { header: FrameHeader::of(FrameKind::ReplyFailed), body: &body };
    assert!(matches!(ReplyFailed::decode(raw), Err(WireError { rule: WireRule::TooLong { .. }, .. })));
}

/// An address in an envelope that is none costs the answer, not the message.
#[test]
fn a_foreign_address_is_parsed_only_as_a_whole_address() {
    for (text, valid) in [
        ("fraktor.tcp://a@h:1", true),
        ("fraktor.tcp://a@[::1]:65535", true),
        ("fraktor.tcp://a@h:1/", false),
        ("fraktor.tcp://a@h:1/user/x", false),
        ("fraktor.tcp://a@h:1#5", false),
        ("fraktor.tcp://a", false),
        ("fraktor.tcp://a@h", false),
        ("a@h:1", false),
        ("://a@h:1", false),
        ("fraktor.tcp://@h:1", false),
        ("fraktor.tcp://a@:1", false),
        ("fraktor.tcp://a@h:0", false),
        ("://", false),
        ("/", false),
    ] {
        let reply_to = EnvelopeReply::to_foreign(KEY, text).expect("a short text");
        assert_eq!(reply_to.foreign_address().is_ok(), valid, "{text}");
    }
}
