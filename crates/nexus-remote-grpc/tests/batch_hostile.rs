//! Feeds random bytes and damaged messages to the decoder: it may not panic, hang, or take memory that is not backed by
//! received bytes.
//!
//! `NEXUS_FUZZ_ROUNDS` sets how many inputs of each sort are made (default 100,000), `NEXUS_FUZZ_SEED` the seed; a
//! failure prints the seed and the round.

use std::alloc::System;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use nexus_remote_grpc::endpoint::pid_entry::PidEntry;
use nexus_remote_grpc::wire::batch::{
    Batch, BatchLimits, BatchWriter, Full, Incoming, OutgoingEnvelope, TypeName, WireForm, decode,
};
use nexus_testkit::{HostileRounds, fill};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the decoder may take for each byte received: an empty entry of a table comes in two bytes and is kept in 24, an id of
/// a block list comes in three and is kept in up to 49.
const FACTOR: usize = 17;

/// And besides, in all.
const AHEAD: usize = 1024;

/// The vectors, and a batch that has everything.
fn corpus() -> Vec<Vec<u8>> {
    let mut lines = include_str!("vectors.txt").lines();
    let mut messages = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with('W') {
            let hex = lines.next().expect("the bytes").as_bytes().chunks(2);
            let digits = hex.map(|pair| std::str::from_utf8(pair).expect("hex"));
            messages.push(digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect());
        }
    }
    assert_eq!(messages.len(), 53);
    messages
}

/// Uses all that comes out of a batch, and writes what is sound again. Returns how many envelopes were sound.
fn use_up(batch: &Batch, writer: &mut BatchWriter, scratch: &mut Vec<u8>) -> usize {
    // Views take nothing.
    let before = ALLOCATOR.stats().bytes_allocated;
    let (mut sound, mut all) = (0, 0);
    for envelope in batch.envelopes() {
        all += 1;
        match envelope {
            Ok(envelope) => {
                sound += 1;
                assert_eq!(batch.type_name(envelope.type_index), Some(envelope.type_name));
                assert_eq!(batch.target(envelope.target_index), Some(envelope.target));
                assert_eq!(envelope.sender_index.and_then(|index| batch.sender(index)), envelope.sender);
                assert!(envelope.serializer >= 0);
                if let Some(header) = envelope.header {
                    assert_eq!(header.iter().count(), header.len());
                }
            }
            Err(fault) => {
                assert!(fault.type_index.is_none_or(|index| batch.type_name(index).is_some()));
                assert!(fault.target_index.is_none_or(|index| batch.target(index).is_some()));
                assert!(fault.sender_index.is_none_or(|index| batch.sender(index).is_some()));
            }
        }
    }
    assert_eq!(all, batch.len());
    assert_eq!(ALLOCATOR.stats().bytes_allocated, before, "views of a batch took memory");

    writer.clear();
    let name = TypeName { package: "p", name: "Name" };
    let mut written = Vec::new();
    for envelope in batch.envelopes().flatten() {
        let target = Arc::new(PidEntry::new(envelope.target.address.unwrap_or("a:1"), envelope.target.id));
        let sender = envelope.sender.map(|sender| Arc::new(PidEntry::new(sender.address, sender.id)));
        let header = envelope.header.map(|header| header.to_headers());
        let outgoing = OutgoingEnvelope {
            sender: sender.as_ref(),
            serializer: envelope.serializer,
            header: header.as_ref(),
            target_request_id: envelope.target_request_id,
            sender_request_id: envelope.sender_request_id,
            ..OutgoingEnvelope::new(name, envelope.payload, &target)
        };
        match writer.push(&outgoing) {
            Ok(()) => written.push((envelope.payload, envelope.serializer, header, sender.is_some())),
            Err(Full::Entry(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    scratch.clear();
    writer.finish(WireForm::W1, scratch);
    let again = decode(Bytes::copy_from_slice(scratch), &BatchLimits::default()).expect("what we write");
    let Incoming::Batch(again) = again else { panic!("a batch was written") };
    assert_eq!(again.len(), written.len());
    for (envelope, (payload, serializer, header, has_sender)) in again.envelopes().zip(written) {
        let envelope = envelope.expect("what we write is sound");
        assert_eq!((envelope.payload, envelope.serializer), (payload, serializer));
        assert_eq!(envelope.sender.is_some(), has_sender);
        let found = envelope.header.map(|header| header.to_headers());
        assert_eq!(found.unwrap_or_default(), header.unwrap_or_default());
    }
    sound
}

/// Gives the decoder one message. Returns whether it was accepted, and how many sound envelopes it had.
fn give(input: &[u8], writer: &mut BatchWriter, scratch: &mut Vec<u8>) -> (bool, usize) {
    let message = Bytes::copy_from_slice(input);
    let before = ALLOCATOR.stats().bytes_allocated;
    let read = decode(message, &BatchLimits::default());
    let taken = ALLOCATOR.stats().bytes_allocated - before;
    assert!(taken <= FACTOR * input.len() + AHEAD, "{taken} bytes taken for {} received", input.len());
    match read {
        Ok(Incoming::Batch(batch)) => (true, use_up(&batch, writer, scratch)),
        Ok(_) => (true, 0),
        Err(_) => (false, 0),
    }
}

fn put_field(number: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    prost::encoding::encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// Random bytes: as they are, or as the entries of the tables of a batch, or as a handshake.
fn random(rng: &mut Rng, out: &mut Vec<u8>) {
    let mut content = Vec::new();
    match rng.u8(0..4) {
        0 => {
            let length = rng.usize(0..90);
            fill(rng, length, out);
            return;
        }
        1 => {
            let length = rng.usize(0..90);
            fill(rng, length, &mut content);
            return put_field(rng.u8(1..5), &content, out);
        }
        // Sometimes very many entries of nothing, which is where a table costs the most for its bytes.
        2 if rng.u8(..) == 0 => {
            let (number, count) = (rng.u8(1..5), rng.usize(0..5_000));
            (0..count).for_each(|_| put_field(number, b"", &mut content));
        }
        _ => {
            for _ in 0..rng.usize(0..20) {
                let mut entry = Vec::new();
                let length = rng.usize(0..24);
                fill(rng, length, &mut entry);
                // Small numbers make fields that are known and lengths that fit.
                if rng.bool() {
                    entry.iter_mut().for_each(|byte| *byte %= 64);
                }
                put_field(rng.u8(1..5), &entry, &mut content);
            }
        }
    }
    put_field(if rng.u8(0..8) == 0 { rng.u8(1..5) } else { 1 }, &content, out);
}

/// Damages `message` in a few places.
fn damage(rng: &mut Rng, corpus: &[Vec<u8>], message: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..=3) {
        nexus_testkit::damage(rng, corpus, message);
    }
    // Mostly the length of a batch is made true again, so that the damage reaches what is in it.
    if message.len() > 3 && message[0] == 0x0a && rng.u8(0..4) != 0 {
        let content = message.split_off(if message[1] < 0x80 { 2 } else { 3 });
        message.clear();
        put_field(1, &content, message);
    }
}

/// The only test of this file: the allocator counts for the whole process.
/// Part of S128: the decoder of the gRPC wire.
#[test]
fn hostile_messages_neither_panic_nor_take_memory() {
    let rounds = HostileRounds::from_env(100_000, 4);
    let corpus = corpus();
    let (mut input, mut scratch) = (Vec::new(), Vec::new());
    let mut writer = BatchWriter::new(BatchLimits::default());
    let started = std::time::Instant::now();
    for sort in ["random", "damaged"] {
        let (mut accepted, mut sound) = (0_u64, 0_u64);
        rounds.run(sort, |rng| {
            input.clear();
            if sort == "random" {
                random(rng, &mut input);
            } else {
                input.extend_from_slice(&corpus[rng.usize(..corpus.len())]);
                damage(rng, &corpus, &mut input);
            }
            let (whole, envelopes) = give(&input, &mut writer, &mut scratch);
            accepted += u64::from(whole);
            sound += envelopes as u64;
        });
        let rounds = rounds.count;
        println!(
            "{sort}: {rounds} inputs, {accepted} accepted, {sound} sound envelopes, {:?}",
            started.elapsed()
        );
        // Were nothing accepted, nothing behind the frame would have been tried.
        assert!(rounds < 1_000 || (accepted > 0 && accepted < rounds && sound > 0));
    }
}
