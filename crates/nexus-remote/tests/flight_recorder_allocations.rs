//! What recording costs in memory. A process of its own, for the counter counts everything.

use std::alloc::System;

use nexus_actor_core::path::Authority;
use nexus_actor_core::{CorrelationId, DeadLetterReason, Instant};
use nexus_remote::flight_recorder::{FlightEvent, FlightKind, RemotingFlightRecorder};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test: two at once would count each other's.
///
/// Covers: S140
#[test]
fn recording_takes_no_memory_however_often_the_ring_turns_over() {
    let recorder = RemotingFlightRecorder::new(1_024);
    let association = recorder.intern(&Authority::new("host", 1));
    let region = Region::new(GLOBAL);
    for n in 0..100_000_u64 {
        recorder.record(FlightEvent {
            time: Instant::from_nanos(n),
            association,
            correlation_id: CorrelationId::new(n, 1),
            kind: FlightKind::Lost { reason: DeadLetterReason::Unreachable, bytes: n },
        });
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations, change.bytes_allocated), (0, 0, 0));
    assert_eq!(recorder.snapshot().overwritten, 100_000 - 1_024);
}
