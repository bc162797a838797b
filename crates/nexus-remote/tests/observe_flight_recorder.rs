//! The flight recorder under many threads.

use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nexus_actor_core::path::Authority;
use nexus_actor_core::{CorrelationId, Instant};
use nexus_remote::flight_recorder::{FlightEvent, FlightKind, FlightRecord, RemotingFlightRecorder};

const THREADS: u64 = 6;
const EACH: u64 = 100_000;

/// An entry all of whose words follow from one number, so that a mixture of two entries shows.
fn event(n: u64) -> FlightEvent {
    FlightEvent {
        time: Instant::from_nanos(n),
        association: Default::default(),
        correlation_id: CorrelationId::new(!n, n as u32),
        kind: FlightKind::Backpressure {
            signal: nexus_remote::backpressure::BackpressureSignal::Warning,
            messages: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            bytes: n ^ 0x5555_5555_5555_5555,
        },
    }
}

fn is_whole(record: &FlightRecord) -> bool {
    record.event == event(record.event.time.as_nanos())
}

/// Covers: S140
#[test]
fn readers_see_only_whole_entries_while_many_write() {
    // A ring far smaller than the number of writers' entries in flight makes every kind of collision happen.
    for size in [2, 16, 1_024] {
        let recorder = RemotingFlightRecorder::new(size);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0_usize;
                while !done.load(Ordering::Relaxed) {
                    let snapshot = recorder.snapshot();
                    assert!(snapshot.records.iter().all(is_whole), "a torn entry was shown");
                    assert!(snapshot.records.is_sorted_by_key(|r| r.number));
                    assert!(snapshot.records.len() as u64 + snapshot.skipped <= size as u64);
                    seen += snapshot.records.len();
                }
                seen
            });
            let writers: Vec<_> = (0..THREADS)
                .map(|t| {
                    let recorder = &recorder;
                    scope.spawn(move || (0..EACH).for_each(|i| recorder.record(event(t * EACH + i))))
                })
                .collect();
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
        let snapshot = recorder.snapshot();
        assert_eq!(snapshot.recorded, THREADS * EACH);
        assert_eq!(snapshot.overwritten, THREADS * EACH - size as u64);
        assert!(snapshot.records.iter().all(is_whole));
        // At rest nothing is in the middle of being written: what is missing was given up and counted.
        assert_eq!(snapshot.records.len() as u64 + snapshot.skipped, size as u64);
        assert!(snapshot.skipped <= snapshot.lost);
    }
}

#[test]
fn one_authority_has_one_number_whoever_asks_first() {
    let recorder = RemotingFlightRecorder::new(1);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for i in 0..100 {
                    let authority = Authority::new("host", i);
                    let number = recorder.intern(&authority);
                    assert_eq!(recorder.snapshot().authority(number), Some(&authority));
                }
            });
        }
    });
}
