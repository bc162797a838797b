//! The codec alone, on one thread.

use core::hint::black_box;
use core::time::Duration;
use std::time::Instant;

use nexus_actor::CorrelationId;
use nexus_actor::path::{ActorPathScheme, ActorUid};
use nexus_actor::remote::wire::{
    AssociationHandshake, CapabilityFlags, ControlFrame, EnvelopeWriter, FrameReader, NodeAddress,
    OrdinaryFrame, PREAMBLE_BYTES, Preamble, RawFrame, RemoteNodeId, Request, SessionLimits, limit,
};

/// Envelopes per buffer.
const BATCH: u64 = 1000;
/// The payload of an envelope.
const PAYLOAD: [u8; 17] = [7; 17];
/// What a frame of [`PAYLOAD`] has in all.
const FRAME: usize = 24 + PAYLOAD.len();

fn batch(out: &mut Vec<u8>) {
    for i in 0..BATCH {
        let id = CorrelationId::new(i, 1);
        let mut writer = EnvelopeWriter::begin(out, limit::FRAME, 1, 1, id, None).expect("no headers");
        writer.encoder().put(&PAYLOAD).expect("fits");
        writer.finish(None).expect("fits");
    }
}

/// Writes `n` envelopes.
pub(crate) fn encode_envelopes(n: u64) -> Duration {
    let mut out = Vec::with_capacity(FRAME * BATCH as usize);
    let start = Instant::now();
    for _ in 0..n.div_ceil(BATCH) {
        out.clear();
        batch(&mut out);
        black_box(&out);
    }
    start.elapsed()
}

/// The floor of [`encode_envelopes`]: the same bytes copied, frame by frame.
pub(crate) fn encode_floor(n: u64) -> Duration {
    let mut out = Vec::with_capacity(FRAME * BATCH as usize);
    let start = Instant::now();
    for _ in 0..n.div_ceil(BATCH) {
        out.clear();
        for i in 0..BATCH {
            let mut head = [0; 24];
            head[..8].copy_from_slice(&black_box(i).to_le_bytes());
            out.extend_from_slice(&head);
            out.extend_from_slice(&PAYLOAD);
        }
        black_box(&out);
    }
    start.elapsed()
}

/// Cuts `n` envelopes from a stream and reads them.
pub(crate) fn decode_envelopes(n: u64) -> Duration {
    let mut bytes = Vec::new();
    batch(&mut bytes);
    let mut reader = FrameReader::new();
    reader.feed(&Preamble::OURS.to_bytes());
    assert!(reader.next_frame().expect("a preamble").is_none());
    reader.established(limit::FRAME);
    let start = Instant::now();
    for _ in 0..n.div_ceil(BATCH) {
        let mut fed = 0;
        let mut read = 0;
        while read < BATCH {
            fed += reader.feed(&bytes[fed..]);
            while let Some(raw) = reader.next_frame().expect("whole frames") {
                let frame = OrdinaryFrame::decode(raw).expect("our own frame");
                black_box(&frame);
                read += 1;
            }
        }
    }
    start.elapsed()
}

/// The floor of [`decode_envelopes`]: walks the lengths and looks at each byte of the payload once.
pub(crate) fn decode_floor(n: u64) -> Duration {
    let mut bytes = Vec::new();
    batch(&mut bytes);
    let mut buffer = vec![0; bytes.len()];
    let start = Instant::now();
    for _ in 0..n.div_ceil(BATCH) {
        // A stream is copied into the reader's buffer once.
        buffer.copy_from_slice(black_box(&bytes));
        let mut rest = &buffer[..];
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let (body, next) = tail.split_at(u32::from_le_bytes(*head) as usize);
            black_box(body);
            rest = next;
        }
    }
    start.elapsed()
}

/// A request as an opener sends it.
pub(crate) fn request() -> Request {
    let address = NodeAddress::new("bench", "127.0.0.1", Some(25520)).expect("an address");
    let node = RemoteNodeId::at(address.clone(), ActorUid::new(7)).expect("a node");
    let handshake = AssociationHandshake::new(
        ActorPathScheme::FraktorTcp,
        node,
        CapabilityFlags::from_bits(0),
        11,
        CorrelationId::new(1, 2),
    )
    .expect("a handshake");
    Request {
        handshake,
        to: address,
        session: 0,
        peer_uid: ActorUid::ANY,
        receive_next: 0,
        system_next: 0,
        limits: SessionLimits { frame_max: limit::FRAME, message_max: limit::FRAME, window_bytes: u32::MAX },
    }
}

/// Writes and reads `n` control frames.
pub(crate) fn control(frame: &ControlFrame, n: u64) -> Duration {
    let mut out = Vec::new();
    let start = Instant::now();
    for _ in 0..n {
        out.clear();
        black_box(frame).encode(&mut out);
        let raw = RawFrame::from_bytes(black_box(&out)).expect("a frame");
        black_box(ControlFrame::decode(raw).expect("our own frame"));
    }
    start.elapsed()
}

/// Writes and reads `n` handshakes: preamble and request.
pub(crate) fn handshake(n: u64) -> Duration {
    let request = request();
    let mut out = Vec::new();
    let start = Instant::now();
    for _ in 0..n {
        out.clear();
        Preamble::OURS.encode(&mut out);
        black_box(&request).encode(&mut out);
        let raw = RawFrame::from_bytes(black_box(&out[PREAMBLE_BYTES..])).expect("a frame");
        black_box(ControlFrame::decode(raw).expect("our own frame"));
    }
    start.elapsed()
}
