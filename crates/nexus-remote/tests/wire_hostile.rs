//! Feeds random bytes and damaged frames to every decoder: none may panic, hang, or take memory that is not backed by
//! received bytes.
//!
//! `NEXUS_FUZZ_ROUNDS` sets how many inputs of each sort are made (default 200,000), `NEXUS_FUZZ_SEED` the seed; a
//! failure prints the seed and the round.

use std::alloc::System;

use fastrand::Rng;
use nexus_remote::wire::*;
use nexus_testkit::{HostileRounds, fill};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PAGE: &str = include_str!("../../../docs/wire.md");

/// What a decoder may take beyond what was received (L8).
const AHEAD: usize = 64 * 1024;

/// Runs `work` and says that all its allocations together stay within the bound.
#[track_caller]
fn bounded<R>(received: usize, work: impl FnOnce() -> R) -> R {
    let before = ALLOCATOR.stats().bytes_allocated;
    let result = work();
    let taken = ALLOCATOR.stats().bytes_allocated - before;
    assert!(taken <= received + AHEAD, "{taken} bytes allocated for {received} received");
    result
}

/// The vectors of the page, one frame each.
fn corpus() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("```golden ") || line.ends_with(" preamble") {
            continue;
        }
        let block = lines.by_ref().take_while(|line| *line != "```");
        let hex = block.flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
        frames.push(hex.map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect());
    }
    assert!(frames.len() > 20);
    frames
}

/// Gives one whole frame to both decoders and uses all that comes out. Returns whether one accepted it.
fn decode(raw: RawFrame<'_>, scratch: &mut Vec<u8>) -> bool {
    let received = raw.wire_len();
    scratch.clear();
    let control = bounded(received, || ControlFrame::decode(raw));
    // Views allocate nothing; only the text of a failure is copied, and a bad path is told why in a text.
    let before = ALLOCATOR.stats().bytes_allocated;
    let ordinary = OrdinaryFrame::decode(raw);
    let taken = ALLOCATOR.stats().bytes_allocated - before;
    assert!(
        taken
            <= match raw.header.kind {
                FrameKind::Envelope | FrameKind::Reply => 0,
                _ => received + 128,
            }
    );
    assert!(control.is_err() || ordinary.is_err());
    if let Ok(frame) = &control {
        frame.encode(scratch);
    }
    if let Ok(frame) = &ordinary {
        match frame {
            OrdinaryFrame::Envelope(envelope) => bounded(4 * received, || {
                if let Some(pairs) = envelope.headers {
                    assert_eq!(pairs.iter().count(), pairs.len());
                    assert!(pairs.to_headers().len() <= pairs.len());
                }
                if let Some(reply_to) = envelope.reply_to {
                    let _ = reply_to.foreign_address();
                }
            }),
            OrdinaryFrame::Reply(reply) => {
                let _ = reply.found();
            }
            OrdinaryFrame::ReplyFailed(_)
            | OrdinaryFrame::DefineReference(_)
            | OrdinaryFrame::DefineManifest(_)
            | OrdinaryFrame::Lookup(_) => {}
        }
        frame.encode(scratch);
    }
    if control.is_err() && ordinary.is_err() {
        return false;
    }
    // What was accepted is written as a frame that is accepted.
    let again = RawFrame::from_bytes(scratch).expect("what we write is a frame");
    assert!(if control.is_ok() {
        ControlFrame::decode(again).is_ok()
    } else {
        OrdinaryFrame::decode(again).is_ok()
    });
    true
}

/// Feeds `bytes` to a stream reader in random pieces. `open` says whether the handshake is over. Returns the frames.
fn stream(rng: &mut Rng, open: bool, bytes: &[u8], scratch: &mut Vec<u8>) -> u64 {
    let mut reader = FrameReader::new();
    if open {
        reader.feed(&Preamble::OURS.to_bytes());
        assert!(reader.next_frame().expect("our own preamble").is_none());
        reader.established(limit::FRAME);
    }
    let (mut rest, mut received) = (bytes, 0);
    while !rest.is_empty() {
        let piece = if rng.bool() { rng.usize(1..=rest.len()) } else { rng.usize(1..=rest.len().min(8)) };
        let took = bounded(received, || reader.feed(&rest[..piece]));
        assert!(took > 0, "a reader without room waits for ever");
        (rest, received) = (&rest[took..], received + took);
        assert!(reader.capacity() <= received + PREAMBLE_BYTES + AHEAD);
        loop {
            match reader.next_frame() {
                Ok(Some(raw)) => {
                    decode(raw, scratch);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.next_frame().err(), Some(error), "a fault stays");
                    return reader.completed();
                }
            }
        }
    }
    reader.completed()
}

fn length(rng: &mut Rng) -> usize {
    match rng.u8(..) {
        0 => rng.usize(0..6_000),
        1..=15 => rng.usize(0..700),
        _ => rng.usize(0..90),
    }
}

/// Random bytes: as they are, behind a preamble, or as the body of a frame with a true header.
fn random(rng: &mut Rng, out: &mut Vec<u8>) {
    let length = length(rng);
    match rng.u8(0..4) {
        0 => fill(rng, length, out),
        1 => {
            out.extend_from_slice(&Preamble::OURS.to_bytes());
            fill(rng, length, out);
        }
        _ => {
            out.extend_from_slice(&(length as u32 + 16).to_le_bytes());
            out.push(rng.choice(FrameKind::ALL).map_or(0, FrameKind::code));
            // Often a flag that exists, since an unknown one ends the reading at once.
            out.push(if rng.bool() { rng.u8(0..8) } else { 0 });
            fill(rng, 14, out);
            // Small numbers make lengths that fit.
            let start = out.len();
            fill(rng, length, out);
            if rng.bool() {
                for byte in &mut out[start..] {
                    *byte %= 32;
                }
            }
        }
    }
}

/// Damages `frame` in a few places.
fn damage(rng: &mut Rng, corpus: &[Vec<u8>], frame: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..=3) {
        // One change in nine is a number that some length may be.
        if rng.u8(0..9) != 0 {
            nexus_testkit::damage(rng, corpus, frame);
        } else if !frame.is_empty() {
            let at = rng.usize(..frame.len());
            let number = *rng.choice(&[0_u32, 15, 16, 262_144, 262_145, u32::MAX, 0x8000_0000]).unwrap_or(&0);
            for (to, byte) in frame[at..].iter_mut().zip(number.to_le_bytes()) {
                *to = byte;
            }
        }
    }
    // Mostly the length is made true again, so that the damage reaches the body.
    if rng.u8(0..4) != 0
        && let Some(claimed) = frame.len().checked_sub(4)
    {
        frame[..4].copy_from_slice(&(claimed as u32).to_le_bytes());
    }
}

/// The only test of this file: the allocator counts for the whole process.
/// Part of S128: the decoders of the native wire.
#[test]
fn hostile_bytes_neither_panic_nor_take_memory() {
    let rounds = HostileRounds::from_env(200_000, 3);
    let corpus = corpus();
    let (mut input, mut many, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    let started = std::time::Instant::now();
    for sort in ["random", "damaged"] {
        let (mut whole, mut accepted, mut streamed) = (0_u64, 0_u64, 0_u64);
        rounds.run(sort, |rng| {
            input.clear();
            if sort == "random" {
                random(rng, &mut input);
            } else {
                input.extend_from_slice(&corpus[rng.usize(..corpus.len())]);
                damage(rng, &corpus, &mut input);
            }
            if let Ok(raw) = RawFrame::from_bytes(&input) {
                whole += 1;
                accepted += u64::from(decode(raw, &mut scratch));
            }
            // The input in the midst of a stream: sound frames before and behind it.
            many.clear();
            let open = rng.u8(0..4) != 0;
            if open {
                many.extend_from_slice(&corpus[rng.usize(..corpus.len())]);
            } else if sort == "damaged" {
                many.extend_from_slice(&Preamble::OURS.to_bytes());
            }
            many.extend_from_slice(&input);
            many.extend_from_slice(&corpus[rng.usize(..corpus.len())]);
            streamed += stream(rng, open, &many, &mut scratch);
        });
        let rounds = rounds.count;
        println!(
            "{sort}: {rounds} inputs, {whole} whole frames, {accepted} accepted, {streamed} frames streamed, {:?}",
            started.elapsed()
        );
        // Were nothing accepted, nothing behind the header would have been tried.
        assert!(rounds < 1_000 || (accepted > 0 && accepted < rounds && streamed > 0));
    }
}
