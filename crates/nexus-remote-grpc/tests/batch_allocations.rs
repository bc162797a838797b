//! A writer whose buffers have grown takes no memory, and a reader takes the same few pieces however many envelopes there are.

use std::alloc::System;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use nexus_remote_grpc::endpoint::pid_entry::PidEntry;
use nexus_remote_grpc::wire::batch::{
    BatchLimits, BatchWriter, Incoming, OutgoingEnvelope, TypeName, WireForm, decode,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

/// How often a thing is measured.
const TRIES: usize = 5;

/// The only test of this file: the allocator counts for the whole process.
#[test]
fn a_batch_takes_no_memory_for_an_envelope() {
    let name = TypeName { package: "google.protobuf", name: "StringValue" };
    let entries = |what: &str| -> Vec<_> {
        (0..50).map(|number| Arc::new(PidEntry::new("127.0.0.1:29002", format!("{what}{number}")))).collect()
    };
    let (targets, senders) = (entries("target"), entries("sender"));
    let mut writer = BatchWriter::new(BatchLimits::default());
    let mut message = BytesMut::with_capacity(256 * 1024);
    for (round, actors) in [(0, 50), (1, 50), (2, 1), (3, 7), (4, 50)] {
        // The harness has a thread of its own, which takes memory now and then: the least of a few tries is the writer's.
        let taken = (0..TRIES)
            .map(|_| {
                let before = allocations();
                for number in 0..1_000 {
                    let envelope = OutgoingEnvelope {
                        sender: Some(&senders[number % actors]),
                        ..OutgoingEnvelope::new(name, b"\x0a\x0d sixteen bytes", &targets[number % actors])
                    };
                    writer.push(&envelope).expect("room");
                }
                message.clear();
                writer.finish(WireForm::W1, &mut message);
                allocations() - before
            })
            .min();
        assert_eq!(taken, Some(0), "round {round}: pieces of memory for 1,000 envelopes");

        let taken = (0..TRIES).map(|_| {
            let bytes = Bytes::copy_from_slice(&message);
            let before = allocations();
            let Ok(Incoming::Batch(batch)) = decode(bytes, &BatchLimits::default()) else {
                panic!("a batch")
            };
            assert_eq!(batch.envelopes().filter(|envelope| envelope.is_ok()).count(), 1_000);
            allocations() - before
        });
        // The three tables, their texts, and what makes a piece of the bytes shared.
        assert!(taken.min() <= Some(5), "round {round}");
    }
}
