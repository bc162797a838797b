//! A fixed ring of the last events, cheap enough to be always on.
//!
//! The structure of an entry follows Java's flight recorder: every entry has a number, a time, the association
//! and the correlation id it belongs to, a kind, and up to two figures whose meaning the kind fixes. What is
//! written is numbers only; names are resolved when a [`RecorderSnapshot`] is read.
//!
//! | word | holds |
//! |---|---|
//! | stamp | which entry the slot has and whether it is complete |
//! | 0 | time, nanoseconds of the runtime's clock |
//! | 1 | kind (8 bits), small figure such as a reason's code (24), association number (32) |
//! | 2, 3 | the kind's two figures |
//! | 4, 5 | correlation id, upper 64 and lower 32 bits |

mod kind;
mod slot;
mod snapshot;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

use hashbrown::HashMap;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;
use nexus_actor_core::{CorrelationId, Instant};
use portable_atomic::{AtomicU64, Ordering};

use self::kind::{lifecycle, metric_kind};
use self::slot::Slot;
use crate::correlation_trace::{CorrelationTrace, HopKind};
use crate::event::RemotingEvent;

pub use kind::FlightKind;
pub use snapshot::{FlightRecord, RecorderSnapshot};

/// Entries a recorder keeps by default: one mebibyte.
pub const RECORDER_SIZE: usize = 16_384;
/// The largest ring: a gibibyte.
pub const RECORDER_SIZE_MAX: usize = 1 << 24;
/// Authorities a recorder can name; what belongs to further ones is recorded without a name.
pub const AUTHORITIES_MAX: usize = 65_536;

/// Stands for an authority in a recorder. Made by [`RemotingFlightRecorder::intern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct AssociationNumber(u32);

impl AssociationNumber {
    /// The node itself, or a peer beyond [`AUTHORITIES_MAX`].
    pub const NONE: Self = Self(0);
}

/// One entry as it is handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightEvent {
    /// When.
    pub time: Instant,
    /// Of which association.
    pub association: AssociationNumber,
    /// Of which message, handshake or heartbeat; [`CorrelationId::NIL`] of none.
    pub correlation_id: CorrelationId,
    /// What.
    pub kind: FlightKind,
}

#[derive(Debug, Default)]
struct Authorities {
    by_number: Vec<Authority>,
    numbers: HashMap<Authority, AssociationNumber>,
}

/// Records what happens in a fixed ring.
///
/// Recording takes no lock and no memory and never waits: two atomic operations and six plain stores. When the
/// ring is full the oldest entry goes. Where a target lacks 64-bit atomics, they are emulated with locks.
///
/// An entry whose slot is just being written by a thread that is a whole ring behind is given up and counted in
/// [`RecorderSnapshot::lost`]; a half-written entry is never shown.
#[derive(Debug)]
pub struct RemotingFlightRecorder {
    enabled: AtomicBool,
    head: AtomicU64,
    lost: AtomicU64,
    mask: u64,
    slots: Box<[Slot]>,
    authorities: Lock<Authorities>,
}

impl Default for RemotingFlightRecorder {
    fn default() -> Self {
        Self::new(RECORDER_SIZE)
    }
}

impl RemotingFlightRecorder {
    /// A recorder of `size` entries of 64 bytes, raised to a power of two of at most [`RECORDER_SIZE_MAX`]. It is on.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = size.clamp(1, RECORDER_SIZE_MAX).next_power_of_two();
        Self {
            enabled: AtomicBool::new(true),
            head: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            mask: size as u64 - 1,
            slots: (0..size).map(|_| Slot::default()).collect(),
            authorities: Lock::default(),
        }
    }

    /// Entries it keeps.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.slots.len()
    }

    /// Turns recording on or off; what was recorded stays.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Whether it records.
    #[must_use]
    #[inline]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// The number that stands for `authority` here. Takes a lock: ask once per association and keep it.
    pub fn intern(&self, authority: &Authority) -> AssociationNumber {
        let mut table = self.authorities.lock();
        if let Some(number) = table.numbers.get(authority) {
            return *number;
        }
        if table.by_number.len() >= AUTHORITIES_MAX {
            return AssociationNumber::NONE;
        }
        table.by_number.push(authority.clone());
        let number = AssociationNumber(table.by_number.len() as u32);
        table.numbers.insert(authority.clone(), number);
        number
    }

    /// Records `event`; costs one relaxed load while off.
    #[inline]
    pub fn record(&self, event: FlightEvent) {
        if self.is_enabled() {
            self.push(event);
        }
    }

    /// Records a hop of a message, the way for the send and receive paths.
    #[inline]
    pub fn record_hop(
        &self,
        time: Instant,
        association: AssociationNumber,
        correlation_id: CorrelationId,
        hop: HopKind,
        bytes: u64,
    ) {
        self.record(FlightEvent { time, association, correlation_id, kind: FlightKind::Hop { hop, bytes } });
    }

    /// Records a hop that names its authority. Looks the authority up under a lock; [`Self::record_hop`] does not.
    pub fn record_trace(&self, time: Instant, trace: &CorrelationTrace) {
        if self.is_enabled() {
            let association = self.intern(&trace.authority);
            self.record_hop(time, association, trace.correlation_id, trace.hop, 0);
        }
    }

    /// Records an event of the observation layer. Looks its authority up under a lock; not for every message.
    pub fn record_event(&self, time: Instant, event: &RemotingEvent) {
        if !self.is_enabled() {
            return;
        }
        let (association, kind) = match event {
            RemotingEvent::Lifecycle(event) => (self.intern(event.authority()), lifecycle(event)),
            RemotingEvent::Backpressure(event) => (
                self.intern(&event.authority),
                FlightKind::Backpressure {
                    signal: event.signal,
                    messages: event.messages,
                    bytes: event.bytes,
                },
            ),
            RemotingEvent::Metric(metric) => (self.intern_text(&metric.authority), metric_kind(metric)),
            RemotingEvent::Trace(trace) => return self.record_trace(time, trace),
            RemotingEvent::Threshold(crossed) => (
                self.intern_text(&crossed.authority),
                FlightKind::Threshold {
                    kind: crossed.kind,
                    value: crossed.value,
                    threshold: crossed.threshold,
                },
            ),
        };
        self.record(FlightEvent { time, association, correlation_id: event.correlation_id(), kind });
    }

    fn intern_text(&self, authority: &str) -> AssociationNumber {
        let parsed = authority.rsplit_once(':').and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some(Authority::new(host, port.parse().ok()?))
        });
        parsed.map_or(AssociationNumber::NONE, |authority| self.intern(&authority))
    }

    #[inline]
    fn push(&self, event: FlightEvent) {
        let number = self.head.fetch_add(1, Ordering::Relaxed);
        let (kind, small, a, b) = event.kind.encode();
        let meta =
            u64::from(kind) << 56 | u64::from(small & 0xff_ffff) << 32 | u64::from(event.association.0);
        let id = event.correlation_id;
        let words = [event.time.as_nanos(), meta, a, b, id.hi, u64::from(id.lo)];
        if !self.slots[(number & self.mask) as usize].write(number, words) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the ring holds now, oldest first. Recording goes on meanwhile.
    #[must_use]
    pub fn snapshot(&self) -> RecorderSnapshot {
        let authorities = self.authorities.lock().by_number.clone();
        let head = self.head.load(Ordering::Acquire);
        let first = head.saturating_sub(self.slots.len() as u64);
        let mut records = Vec::with_capacity((head - first) as usize);
        for number in first..head {
            let slot = &self.slots[(number & self.mask) as usize];
            let Some([time, meta, a, b, hi, lo]) = slot.read(number, || ()) else { continue };
            let words = ((meta >> 56) as u8, (meta >> 32) as u32 & 0xff_ffff, a, b);
            let Some(kind) = FlightKind::decode(words) else { continue };
            let event = FlightEvent {
                time: Instant::from_nanos(time),
                association: AssociationNumber(meta as u32),
                correlation_id: CorrelationId::new(hi, lo as u32),
                kind,
            };
            records.push(FlightRecord { number, event });
        }
        let skipped = (head - first) - records.len() as u64;
        RecorderSnapshot {
            records,
            recorded: head,
            overwritten: first,
            lost: self.lost.load(Ordering::Relaxed),
            skipped,
            authorities,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpressure::BackpressureSignal;
    use crate::event::{RefusedBy, RemotingLifecycleEvent};
    use crate::metric::{RemotingMetric, ThresholdKind};
    use crate::wire::{QuarantineReason, RefuseReason};
    use core::time::Duration;
    use nexus_actor_core::DeadLetterReason;
    use nexus_actor_core::path::ActorUid;

    fn event(n: u64) -> FlightEvent {
        FlightEvent {
            time: Instant::from_nanos(n),
            association: AssociationNumber::NONE,
            correlation_id: CorrelationId::new(n, n as u32),
            kind: FlightKind::Hop { hop: HopKind::Send, bytes: n },
        }
    }

    /// Covers: S140, API-60, OBS-01
    #[test]
    fn the_oldest_go_and_are_counted() {
        let recorder = RemotingFlightRecorder::new(8);
        for (records, first, overwritten) in [(7_u64, 0_u64, 0_u64), (8, 0, 0), (9, 1, 1), (100, 92, 92)] {
            while recorder.head.load(Ordering::Relaxed) < records {
                recorder.record(event(recorder.head.load(Ordering::Relaxed)));
            }
            let snapshot = recorder.snapshot();
            let numbers: Vec<_> = snapshot.records.iter().map(|r| r.number).collect();
            assert_eq!(numbers, (first..records).collect::<Vec<_>>(), "{records}");
            assert!(snapshot.records.iter().all(|r| r.event == event(r.number)), "{records}");
            let counts = (snapshot.recorded, snapshot.overwritten, snapshot.lost, snapshot.skipped);
            assert_eq!(counts, (records, overwritten, 0, 0));
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        for (asked, got) in
            [(0, 1), (1, 1), (2, 2), (3, 4), (1_000, 1_024), (16_384, 16_384), (16_385, 32_768)]
        {
            assert_eq!(RemotingFlightRecorder::new(asked).size(), got, "{asked}");
        }
        assert_eq!(size_of::<Slot>(), 64);
    }

    #[test]
    fn off_records_nothing_and_keeps_what_was() {
        let recorder = RemotingFlightRecorder::new(8);
        recorder.record(event(0));
        recorder.set_enabled(false);
        recorder.record(event(1));
        let trace = CorrelationTrace {
            correlation_id: CorrelationId::NIL,
            authority: Authority::new("a", 1),
            hop: HopKind::Send,
        };
        recorder.record_trace(Instant::ZERO, &trace);
        recorder.record_event(Instant::ZERO, &trace.into());
        assert_eq!(recorder.snapshot().recorded, 1);
        recorder.set_enabled(true);
        recorder.record(event(2));
        assert_eq!(recorder.snapshot().recorded, 2);
    }

    /// Every kind with telling figures.
    fn kinds() -> Vec<FlightKind> {
        let uid = ActorUid::new(u64::MAX - 1);
        let mut kinds = alloc::vec![
            FlightKind::ListenStarted,
            FlightKind::AssociationAttempt { attempt: u32::MAX },
            FlightKind::Connected { uid, resumed: true },
            FlightKind::Connected { uid, resumed: false },
            FlightKind::Disconnected { uid },
            FlightKind::Gated { until: Instant::FAR_FUTURE },
            FlightKind::Suspended { uid },
            FlightKind::Resumed { uid },
            FlightKind::QuarantineLifted { uid },
            FlightKind::Left { uid },
            FlightKind::Suspect { uid, suspicion_milli: 10_123 },
            FlightKind::HeartbeatSlow { uid, interval: Duration::from_millis(7_200) },
            FlightKind::Reachable { uid },
            FlightKind::Shutdown,
            FlightKind::HeartbeatReply { uid, round_trip: Duration::from_nanos(77) },
            FlightKind::TransportFault,
        ];
        kinds.extend(HopKind::ALL.map(|hop| FlightKind::Hop { hop, bytes: u64::MAX }));
        kinds.extend(DeadLetterReason::ALL.map(|reason| FlightKind::Lost { reason, bytes: 5 }));
        kinds.extend(QuarantineReason::ALL.map(|reason| FlightKind::Quarantined { uid, reason }));
        kinds.extend(QuarantineReason::ALL.map(|reason| FlightKind::QuarantinedByPeer { uid, reason }));
        kinds.extend(RefuseReason::ALL.map(|reason| FlightKind::Refused { reason }));
        kinds.extend(ThresholdKind::ALL.map(|kind| FlightKind::Threshold { kind, value: 1, threshold: 2 }));
        for signal in BackpressureSignal::ALL {
            kinds.push(FlightKind::Backpressure { signal, messages: 3, bytes: 4 });
        }
        for backpressure in [None, Some(BackpressureSignal::Normal), Some(BackpressureSignal::Critical)] {
            kinds.push(FlightKind::Metric {
                latency_ms: u32::MAX,
                deferred_depth: 70_000,
                error_count: 9,
                backpressure,
            });
        }
        kinds
    }

    /// Number, time, kind, association, correlation id and figures: what an entry of Java's recorder has.
    ///
    /// Covers: OBS-01
    #[test]
    fn every_kind_reads_back_as_it_was_written() {
        let recorder = RemotingFlightRecorder::new(256);
        let association = recorder.intern(&Authority::new("10.0.0.2", 25520));
        let id = CorrelationId::new(u64::MAX, u32::MAX);
        for kind in kinds() {
            recorder.record(FlightEvent {
                time: Instant::from_nanos(5),
                association,
                correlation_id: id,
                kind,
            });
        }
        let snapshot = recorder.snapshot();
        let back: Vec<_> = snapshot.of_message(id).map(|r| r.event.kind).collect();
        assert_eq!(back, kinds());
        for record in &snapshot.records {
            let json: serde_json::Value = serde_json::from_str(&snapshot.to_json(record)).unwrap();
            assert_eq!(json["authority"], "10.0.0.2:25520");
            assert_eq!(json["event"], record.event.kind.name());
            assert_eq!(json["correlation_id"], "ffffffffffffffffffffffff");
        }
        assert_eq!(alloc::format!("{snapshot}").lines().count(), 1 + snapshot.records.len());
    }

    /// Covers: S140
    #[test]
    fn a_half_written_entry_is_skipped_and_never_waited_for() {
        let recorder = RemotingFlightRecorder::new(4);
        for n in 0..4 {
            recorder.record(event(n));
        }
        // A writer of entry 4 that stopped half way in slot 0.
        let number = recorder.head.fetch_add(1, Ordering::Relaxed);
        recorder.slots[0].stamp.store(number * 2 + 1, Ordering::Relaxed);
        recorder.slots[0].words[2].store(u64::MAX, Ordering::Relaxed);
        let snapshot = recorder.snapshot();
        assert_eq!(snapshot.records.iter().map(|r| r.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(snapshot.skipped, 1);
        // A ring later another writer comes to that slot: it gives its entry up instead of waiting.
        for n in 5..9 {
            recorder.record(event(n));
        }
        let snapshot = recorder.snapshot();
        assert_eq!(snapshot.records.iter().map(|r| r.number).collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!((snapshot.lost, snapshot.skipped, snapshot.overwritten), (1, 1, 5));
        // When the slow one is done the slot serves again.
        recorder.slots[0].stamp.store(number * 2 + 2, Ordering::Relaxed);
        for n in 9..13 {
            recorder.record(event(n));
        }
        assert_eq!(recorder.snapshot().records.iter().map(|r| r.number).collect::<Vec<_>>(), [9, 10, 11, 12]);
    }

    /// Covers: DM-07, API-60, OBS-05
    #[test]
    fn events_metrics_and_traces_keep_peer_and_correlation() {
        let recorder = RemotingFlightRecorder::new(64);
        let authority = Authority::new("::1", 25520);
        let id = CorrelationId::new(7, 9);
        let mut metric = RemotingMetric::new(authority.to_string());
        metric.correlation_id = id;
        let trace =
            CorrelationTrace { correlation_id: id, authority: authority.clone(), hop: HopKind::Receive };
        let refused = RemotingLifecycleEvent::Refused {
            authority: authority.clone(),
            by: RefusedBy::Us,
            reason: RefuseReason::Blocked,
            held_back: 0,
            correlation_id: id,
        };
        for event in [refused.into(), metric.into(), RemotingEvent::from(trace.clone())] {
            recorder.record_event(Instant::from_millis(1), &event);
        }
        recorder.record_trace(Instant::from_millis(2), &trace);
        let snapshot = recorder.snapshot();
        let found: Vec<_> = snapshot
            .of_message(id)
            .map(|r| (snapshot.authority(r.event.association).cloned(), r.event.kind.name()))
            .collect();
        let named = |name| (Some(authority.clone()), name);
        assert_eq!(found, [named("refused"), named("metric"), named("hop"), named("hop")]);
        assert_eq!(snapshot.traces().collect::<Vec<_>>(), [trace.clone(), trace]);
    }

    #[test]
    fn the_table_of_authorities_is_bounded() {
        let recorder = RemotingFlightRecorder::new(1);
        let first = recorder.intern(&Authority::new("h", 1));
        assert_eq!(recorder.intern(&Authority::new("h", 1)), first);
        for i in 1..AUTHORITIES_MAX {
            let host = alloc::format!("h{i}");
            assert_ne!(recorder.intern(&Authority::new(&host, 1)), AssociationNumber::NONE, "{i}");
        }
        assert_eq!(recorder.intern(&Authority::new("one too many", 1)), AssociationNumber::NONE);
        assert_eq!(recorder.intern(&Authority::new("h", 1)), first);
        assert_eq!(recorder.snapshot().authority(AssociationNumber::NONE), None);
        assert_eq!(recorder.snapshot().authority(AssociationNumber(u32::MAX)), None);
    }
}
