//! Encodes and decodes exactly the vectors of `docs/wire.md`.

extern crate alloc;

use alloc::collections::BTreeMap;

use core::time::Duration;

use nexus_actor_core::path::{ActorPathScheme, ActorUid};
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::serialization::SerializerId;
use nexus_actor_core::{AskError, CorrelationId, Headers, TerminationReason};
use nexus_remote::wire::*;

const PAGE: &str = include_str!("../../../docs/wire.md");

/// The vectors of the page by name.
fn vectors() -> BTreeMap<&'static str, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("```golden ") else { continue };
        let mut bytes = Vec::new();
        for line in lines.by_ref().take_while(|line| *line != "```") {
            let hex = line.split('#').next().unwrap_or_default();
            bytes.extend(hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("a byte")));
        }
        assert!(found.insert(name, bytes).is_none(), "{name} is there twice");
    }
    found
}

struct Page {
    vectors: BTreeMap<&'static str, Vec<u8>>,
}

impl Page {
    #[track_caller]
    fn take(&mut self, name: &str) -> Vec<u8> {
        self.vectors.remove(name).unwrap_or_else(|| panic!("the page has no vector {name}"))
    }

    #[track_caller]
    fn control(&mut self, name: &str, frame: ControlFrame) {
        let bytes = self.take(name);
        let mut encoded = Vec::new();
        frame.encode(&mut encoded);
        assert_eq!(hex(&encoded), hex(&bytes), "{name}: encoded");
        let raw = RawFrame::from_bytes(&bytes).expect(name);
        assert_eq!(ControlFrame::decode(raw).expect(name), frame, "{name}: decoded");
        self.through_reader(name, &bytes, frame.kind());
    }

    #[track_caller]
    fn ordinary(&mut self, name: &str, frame: OrdinaryFrame<'_>) {
        let bytes = self.take(name);
        let mut encoded = Vec::new();
        frame.encode(&mut encoded);
        assert_eq!(hex(&encoded), hex(&bytes), "{name}: encoded");
        let raw = RawFrame::from_bytes(&bytes).expect(name);
        assert_eq!(OrdinaryFrame::decode(raw).expect(name), frame, "{name}: decoded");
        self.through_reader(name, &bytes, raw.header.kind);
    }

    /// The stream reader finds the same frame.
    #[track_caller]
    fn through_reader(&self, name: &str, bytes: &[u8], kind: FrameKind) {
        let mut reader = FrameReader::new();
        reader.feed(&Preamble::OURS.to_bytes());
        assert!(reader.next_frame().expect(name).is_none());
        if kind.lane() != Lane::Handshake {
            reader.established(limit::FRAME);
        }
        reader.feed(bytes);
        let frame = reader.next_frame().expect(name).expect(name);
        assert_eq!((frame.header.kind, frame.wire_len()), (kind, bytes.len()), "{name}");
        assert_eq!(frame.body, &bytes[FrameHeader::BYTES..], "{name}");
        assert!(reader.next_frame().expect(name).is_none());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

const OPENER: ActorUid = ActorUid::new(0x1111_1111_1111_1111);
const ACCEPTOR: ActorUid = ActorUid::new(0x2222_2222_2222_2222);
const SESSION: u64 = 0x5e_5510;
const LIMITS: SessionLimits =
    SessionLimits { frame_max: 262_144, message_max: 67_108_864, window_bytes: u32::MAX };
const KEY: ReplyKey = ReplyKey { secret: 0x1122_3344_5566_7788, slot: 7 };
const ID: CorrelationId = CorrelationId::new(0x0102_0304_0506_0708, 0x090a_0b0c);

fn node(system: &str, host: &str, port: u16) -> NodeAddress {
    NodeAddress::new(system, host, (port != 0).then_some(port)).expect("a node")
}

fn introduce(
    address: NodeAddress,
    uid: ActorUid,
    capabilities: u64,
    nonce: u64,
    seed: CorrelationId,
) -> AssociationHandshake {
    let node = RemoteNodeId::at(address, uid).expect("a uid");
    let capabilities = CapabilityFlags::from_bits(capabilities);
    AssociationHandshake::new(ActorPathScheme::FraktorTcp, node, capabilities, nonce, seed).expect("a scheme")
}

/// Covers: DM-01, DM-02, DM-03, SER-05
#[test]
fn the_page_and_the_program_agree_on_every_vector() {
    let mut page = Page { vectors: vectors() };

    let preamble = page.take("preamble");
    assert_eq!(hex(&Preamble::OURS.to_bytes()), hex(&preamble));
    let mut reader = FrameReader::new();
    reader.feed(&preamble);
    assert!(reader.next_frame().expect("a preamble").is_none());
    assert_eq!(reader.preamble(), Some(Preamble::OURS));

    let seed = CorrelationId::new(0x0102_0304_0506_0708, 0x0a0b_0c0d);
    let handshake = introduce(node("shop", "10.0.0.1", 25520), OPENER, 1, 0xaabb_ccdd_eeff_0011, seed);
    page.control(
        "request",
        ControlFrame::Request(Box::new(Request {
            handshake,
            to: node("store", "store.example", 25521),
            session: 0,
            peer_uid: ActorUid::ANY,
            receive_next: 0,
            system_next: 0,
            limits: LIMITS,
        })),
    );
    page.control(
        "request-resume",
        ControlFrame::Request(Box::new(Request {
            handshake: introduce(node("shop", "10.0.0.1", 0), OPENER, 0, 5, CorrelationId::new(1, 2)),
            to: node("store", "::1", 25521),
            session: SESSION,
            peer_uid: ACCEPTOR,
            receive_next: 1000,
            system_next: 3,
            limits: LIMITS,
        })),
    );
    let seed = CorrelationId::new(0x33, 0x44);
    page.control(
        "ack",
        ControlFrame::Ack(Box::new(Ack {
            handshake: introduce(node("store", "store.example", 25521), ACCEPTOR, 0, 0x99, seed),
            to: node("shop", "10.0.0.1", 25520),
            session: SESSION,
            peer_uid: OPENER,
            receive_next: 0,
            system_next: 0,
            limits: LIMITS,
            echo: 0xaabb_ccdd_eeff_0011,
            resumed: false,
        })),
    );
    page.control(
        "refuse-wrong-address",
        ControlFrame::Refuse(Box::new(Refuse {
            reason: RefuseReason::WrongAddress,
            echo: 0xaabb_ccdd_eeff_0011,
            asked_for: Some(node("store", "nat.example", 1)),
            known_by: Some(node("store", "store.example", 25521)),
            uid: ACCEPTOR,
            versions: VERSIONS,
        })),
    );
    page.control(
        "refuse-version",
        ControlFrame::Refuse(Box::new(Refuse {
            reason: RefuseReason::Version,
            echo: 0,
            asked_for: None,
            known_by: None,
            uid: ActorUid::ANY,
            versions: VersionRange { min: 2, max: 5 },
        })),
    );

    page.control("heartbeat", ControlFrame::Heartbeat { uid: OPENER, seq: 42 });
    page.control("heartbeat-reply", ControlFrame::HeartbeatReply { uid: ACCEPTOR, seq: 42 });
    page.control(
        "acknowledge",
        ControlFrame::Acknowledge(Acknowledge {
            session: SESSION,
            next: 1000,
            credit_messages: 4096,
            credit_bytes: Acknowledge::UNLIMITED,
        }),
    );
    let path = || WirePath::new("/user/counter").expect("a path");
    let uid = ActorUid::new(77);
    for (name, message) in [
        ("system-watch", SystemMessage::Watch { path: path(), uid }),
        ("system-unwatch", SystemMessage::Unwatch { path: path(), uid }),
        (
            "system-terminated",
            SystemMessage::Terminated {
                path: path(),
                uid,
                reason: TerminationReason::Failed("disk full".into()),
                after: 1000,
            },
        ),
        ("system-stop", SystemMessage::Stop { path: path(), uid }),
    ] {
        page.control(name, ControlFrame::System { seq: 3, message });
    }
    page.control("system-acknowledge", ControlFrame::SystemAcknowledge { session: SESSION, next: 4 });
    page.control(
        "quarantined",
        ControlFrame::Quarantined { uid: ACCEPTOR, reason: QuarantineReason::SystemBufferFull },
    );
    page.control("leave", ControlFrame::Leave { uid: OPENER });
    page.control("left", ControlFrame::Left);

    let reference = DefineReference::new(9, uid, "/user/counter").expect("a path");
    page.ordinary("define-reference", OrdinaryFrame::DefineReference(reference));
    let manifest = DefineManifest::new(3, SerializerId::POSTCARD, "shop.counter@1").expect("a name");
    page.ordinary("define-manifest", OrdinaryFrame::DefineManifest(manifest));

    let envelope = Envelope {
        recipient: 9,
        manifest: 3,
        correlation_id: ID,
        reply_to: None,
        headers: None,
        payload: &[0, 2],
    };
    page.ordinary("envelope", OrdinaryFrame::Envelope(envelope));
    let reply_to = Some(EnvelopeReply::to_sender(KEY));
    page.ordinary("envelope-reply", OrdinaryFrame::Envelope(Envelope { reply_to, ..envelope }));
    let third = EnvelopeReply::to_foreign(KEY, "fraktor.tcp://third@10.0.0.3:25520").expect("an address");
    let address = third.foreign_address().expect("an address").expect("a third node");
    assert_eq!(address.to_string(), "fraktor.tcp://third@10.0.0.3:25520");
    page.ordinary(
        "envelope-foreign-reply",
        OrdinaryFrame::Envelope(Envelope { reply_to: Some(third), ..envelope }),
    );

    // The way of the lane: payload encoded in place.
    let bytes = page.take("envelope-headers");
    let headers = Headers::new().with("trace", "4f2").with("k", "");
    let mut written = Vec::new();
    let mut writer =
        EnvelopeWriter::begin(&mut written, limit::FRAME, 9, 3, ID, Some(&headers)).expect("small headers");
    writer.encoder().put(&[0, 2]).expect("room");
    let length = writer.finish(reply_to).expect("a small frame");
    assert_eq!((hex(&written), length), (hex(&bytes), bytes.len()));
    let raw = RawFrame::from_bytes(&bytes).expect("one frame");
    let view = Envelope::decode(raw).expect("an envelope");
    assert_eq!(view.headers.map(|pairs| pairs.to_headers()), Some(headers));
    assert_eq!((view.reply_to, view.payload), (reply_to, &[0, 2][..]));
    page.vectors.insert("envelope-headers", bytes.clone());
    page.ordinary("envelope-headers", OrdinaryFrame::Envelope(view));

    let reply = Reply { key: KEY, correlation_id: ID, payload: &[6] };
    page.ordinary("reply", OrdinaryFrame::Reply(reply));
    let payload = 77_u64.to_le_bytes();
    let found = Reply { payload: &payload, ..reply };
    assert_eq!(found.found(), Ok(uid));
    page.ordinary("reply-to-lookup", OrdinaryFrame::Reply(found));
    for (name, error) in [
        ("reply-failed", AskError::Decode("unknown manifest".into())),
        ("reply-failed-timeout", AskError::Timeout { after: Duration::from_millis(5250) }),
        ("reply-failed-too-large", AskError::TooLarge { size: 300_000, limit: 262_144 }),
    ] {
        let failed = ReplyFailed { key: KEY, correlation_id: ID, error };
        page.ordinary(name, OrdinaryFrame::ReplyFailed(failed));
    }
    let lookup = Lookup::new(KEY, ID, "shop.counter@1", "/user/counter").expect("names");
    page.ordinary("lookup", OrdinaryFrame::Lookup(lookup));

    assert!(page.vectors.is_empty(), "vectors that no test reads: {:?}", page.vectors.keys());
}

/// The tables of the page name every kind and every reason with its code.
#[test]
fn the_page_lists_every_code() {
    for kind in FrameKind::ALL {
        let row = format!("| {:#04x} | {kind:?} |", kind.code());
        assert!(PAGE.contains(&row), "{row}");
    }
    for reason in QuarantineReason::ALL {
        assert!(PAGE.contains(&format!("| {} | {reason}", reason.code())), "{reason}");
        assert_eq!(QuarantineReason::from_code(reason.code()), Some(reason));
    }
    for reason in RefuseReason::ALL {
        assert!(PAGE.contains(&format!("| {} | {reason} |", reason.code())), "{reason}");
        assert_eq!(RefuseReason::from_code(reason.code()), Some(reason));
    }
}
