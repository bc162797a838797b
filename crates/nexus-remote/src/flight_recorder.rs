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

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, fence};
use core::time::Duration;

use hashbrown::HashMap;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorUid, Authority};
use nexus_actor_core::{CorrelationId, DeadLetterReason, Instant};
use portable_atomic::{AtomicU64, Ordering};

use crate::backpressure::BackpressureSignal;
use crate::correlation_trace::{CorrelationTrace, HopKind};
use crate::event::{RemotingEvent, RemotingLifecycleEvent};
use crate::json::Object;
use crate::metric::{RemotingMetric, ThresholdKind};
use crate::wire::{QuarantineReason, RefuseReason};

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

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlightKind {
    /// A message passed.
    Hop {
        /// Where.
        hop: HopKind,
        /// Its size on the wire.
        bytes: u64,
    },
    /// A message is lost.
    Lost {
        /// Why.
        reason: DeadLetterReason,
        /// Its size on the wire.
        bytes: u64,
    },
    /// See [`RemotingLifecycleEvent::ListenStarted`].
    ListenStarted,
    /// See [`RemotingLifecycleEvent::AssociationAttempt`].
    AssociationAttempt {
        /// Which try, counting from 1.
        attempt: u32,
    },
    /// See [`RemotingLifecycleEvent::Connected`].
    Connected {
        /// The peer's incarnation.
        uid: ActorUid,
        /// Whether the session goes on.
        resumed: bool,
    },
    /// See [`RemotingLifecycleEvent::Disconnected`].
    Disconnected {
        /// The peer's incarnation.
        uid: ActorUid,
    },
    /// See [`RemotingLifecycleEvent::Gated`].
    Gated {
        /// When it is tried again.
        until: Instant,
    },
    /// See [`RemotingLifecycleEvent::Suspended`].
    Suspended {
        /// The peer's incarnation.
        uid: ActorUid,
    },
    /// See [`RemotingLifecycleEvent::Resumed`].
    Resumed {
        /// The peer's incarnation.
        uid: ActorUid,
    },
    /// See [`RemotingLifecycleEvent::Quarantined`].
    Quarantined {
        /// The incarnation refused.
        uid: ActorUid,
        /// Why.
        reason: QuarantineReason,
    },
    /// See [`RemotingLifecycleEvent::QuarantinedByPeer`].
    QuarantinedByPeer {
        /// The peer's incarnation.
        uid: ActorUid,
        /// Why.
        reason: QuarantineReason,
    },
    /// See [`RemotingLifecycleEvent::QuarantineLifted`].
    QuarantineLifted {
        /// The incarnation that had been refused.
        uid: ActorUid,
    },
    /// See [`RemotingLifecycleEvent::Left`].
    Left {
        /// The peer's incarnation.
        uid: ActorUid,
    },
    /// See [`RemotingLifecycleEvent::Refused`].
    Refused {
        /// Why.
        reason: RefuseReason,
    },
    /// See [`RemotingLifecycleEvent::Suspect`].
    Suspect {
        /// The peer's incarnation.
        uid: ActorUid,
        /// The suspicion in thousandths.
        suspicion_milli: u64,
    },
    /// See [`RemotingLifecycleEvent::Reachable`].
    Reachable {
        /// The peer's incarnation.
        uid: ActorUid,
    },
    /// See [`RemotingLifecycleEvent::Shutdown`].
    Shutdown,
    /// A mark was crossed.
    Backpressure {
        /// The level reached.
        signal: BackpressureSignal,
        /// Messages waiting.
        messages: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A heartbeat was answered.
    HeartbeatReply {
        /// The peer's incarnation.
        uid: ActorUid,
        /// How long it took.
        round_trip: Duration,
    },
    /// A transport failed and is rebuilt.
    TransportFault,
    /// Figures of the peer; see [`RemotingMetric`].
    Metric {
        /// Milliseconds.
        latency_ms: u32,
        /// Messages.
        deferred_depth: u32,
        /// Faults.
        error_count: u64,
        /// The level, if known.
        backpressure: Option<BackpressureSignal>,
    },
    /// An operator's threshold was crossed.
    Threshold {
        /// Which.
        kind: ThresholdKind,
        /// The figure.
        value: u64,
        /// The threshold.
        threshold: u64,
    },
}

/// A kind as numbers: code, a small figure of at most 24 bits, two large ones.
type Words = (u8, u32, u64, u64);

/// The position of `item` in the list of all, as a code.
fn code<T: PartialEq>(all: &[T], item: T) -> u32 {
    // Every variant is in its list, which a test checks; the fallback decodes to nothing.
    all.iter().position(|x| *x == item).map_or(0xff_ffff, |i| i as u32)
}

fn item<T: Copy>(all: &[T], code: u32) -> Option<T> {
    all.get(code as usize).copied()
}

impl FlightKind {
    #[inline]
    fn encode(self) -> Words {
        match self {
            Self::Hop { hop, bytes } => (1, code(&HopKind::ALL, hop), bytes, 0),
            Self::Lost { reason, bytes } => (2, code(&DeadLetterReason::ALL, reason), bytes, 0),
            Self::ListenStarted => (3, 0, 0, 0),
            Self::AssociationAttempt { attempt } => (4, 0, u64::from(attempt), 0),
            Self::Connected { uid, resumed } => (5, u32::from(resumed), uid.get(), 0),
            Self::Disconnected { uid } => (6, 0, uid.get(), 0),
            Self::Gated { until } => (7, 0, until.as_nanos(), 0),
            Self::Suspended { uid } => (8, 0, uid.get(), 0),
            Self::Resumed { uid } => (9, 0, uid.get(), 0),
            Self::Quarantined { uid, reason } => (10, u32::from(reason.code()), uid.get(), 0),
            Self::QuarantinedByPeer { uid, reason } => (11, u32::from(reason.code()), uid.get(), 0),
            Self::QuarantineLifted { uid } => (12, 0, uid.get(), 0),
            Self::Left { uid } => (13, 0, uid.get(), 0),
            Self::Refused { reason } => (14, u32::from(reason.code()), 0, 0),
            Self::Suspect { uid, suspicion_milli } => (15, 0, uid.get(), suspicion_milli),
            Self::Reachable { uid } => (16, 0, uid.get(), 0),
            Self::Shutdown => (17, 0, 0, 0),
            Self::Backpressure { signal, messages, bytes } => {
                (18, code(&BackpressureSignal::ALL, signal), messages, bytes)
            }
            Self::HeartbeatReply { uid, round_trip } => {
                (19, 0, uid.get(), u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX))
            }
            Self::TransportFault => (20, 0, 0, 0),
            Self::Metric { latency_ms, deferred_depth, error_count, backpressure } => (
                21,
                backpressure.map_or(0, |signal| 1 + code(&BackpressureSignal::ALL, signal)),
                u64::from(latency_ms) << 32 | u64::from(deferred_depth),
                error_count,
            ),
            Self::Threshold { kind, value, threshold } => {
                (22, code(&ThresholdKind::ALL, kind), value, threshold)
            }
        }
    }

    fn decode((kind, small, a, b): Words) -> Option<Self> {
        let uid = ActorUid::new(a);
        let quarantine = || QuarantineReason::from_code(u8::try_from(small).ok()?);
        Some(match kind {
            1 => Self::Hop { hop: item(&HopKind::ALL, small)?, bytes: a },
            2 => Self::Lost { reason: item(&DeadLetterReason::ALL, small)?, bytes: a },
            3 => Self::ListenStarted,
            4 => Self::AssociationAttempt { attempt: u32::try_from(a).ok()? },
            5 => Self::Connected { uid, resumed: small != 0 },
            6 => Self::Disconnected { uid },
            7 => Self::Gated { until: Instant::from_nanos(a) },
            8 => Self::Suspended { uid },
            9 => Self::Resumed { uid },
            10 => Self::Quarantined { uid, reason: quarantine()? },
            11 => Self::QuarantinedByPeer { uid, reason: quarantine()? },
            12 => Self::QuarantineLifted { uid },
            13 => Self::Left { uid },
            14 => Self::Refused { reason: RefuseReason::from_code(u8::try_from(small).ok()?)? },
            15 => Self::Suspect { uid, suspicion_milli: b },
            16 => Self::Reachable { uid },
            17 => Self::Shutdown,
            18 => {
                Self::Backpressure { signal: item(&BackpressureSignal::ALL, small)?, messages: a, bytes: b }
            }
            19 => Self::HeartbeatReply { uid, round_trip: Duration::from_nanos(b) },
            20 => Self::TransportFault,
            21 => Self::Metric {
                latency_ms: (a >> 32) as u32,
                deferred_depth: a as u32,
                error_count: b,
                backpressure: match small.checked_sub(1) {
                    None => None,
                    Some(code) => Some(item(&BackpressureSignal::ALL, code)?),
                },
            },
            22 => Self::Threshold { kind: item(&ThresholdKind::ALL, small)?, value: a, threshold: b },
            _ => return None,
        })
    }

    /// The word used in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hop { .. } => "hop",
            Self::Lost { .. } => "lost",
            Self::ListenStarted => "listen_started",
            Self::AssociationAttempt { .. } => "association_attempt",
            Self::Connected { .. } => "connected",
            Self::Disconnected { .. } => "disconnected",
            Self::Gated { .. } => "gated",
            Self::Suspended { .. } => "suspended",
            Self::Resumed { .. } => "resumed",
            Self::Quarantined { .. } => "quarantined",
            Self::QuarantinedByPeer { .. } => "quarantined_by_peer",
            Self::QuarantineLifted { .. } => "quarantine_lifted",
            Self::Left { .. } => "left",
            Self::Refused { .. } => "refused",
            Self::Suspect { .. } => "suspect",
            Self::Reachable { .. } => "reachable",
            Self::Shutdown => "shutdown",
            Self::Backpressure { .. } => "backpressure",
            Self::HeartbeatReply { .. } => "heartbeat_reply",
            Self::TransportFault => "transport_fault",
            Self::Metric { .. } => "metric",
            Self::Threshold { .. } => "threshold",
        }
    }
}

/// One line of the ring: a cache line of its own, so that neighbours written by two threads do not fight.
///
/// `stamp` is 0 at first, `2n + 1` while entry `n` is being written and `2n + 2` once it is complete.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    stamp: AtomicU64,
    words: [AtomicU64; WORDS],
}

const WORDS: usize = 6;

impl Slot {
    /// Writes entry `number`; false if another writer has the slot.
    #[inline]
    fn write(&self, number: u64, words: [u64; WORDS]) -> bool {
        let writing = number.wrapping_mul(2).wrapping_add(1);
        let before = self.stamp.load(Ordering::Relaxed);
        // Odd: a writer that is a whole ring behind is still in here. Larger: one that is ahead has been here.
        // Either way waiting would block, so this entry is given up and counted.
        if before & 1 == 1
            || before > writing
            || self.stamp.compare_exchange(before, writing, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // A reader that sees any of the words below also sees the odd stamp after its own fence.
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.stamp.store(writing + 1, Ordering::Release);
        true
    }

    /// Entry `number`, unless it is being written or has been replaced. `between` runs between the two looks at
    /// the stamp.
    #[inline]
    fn read(&self, number: u64, between: impl FnOnce()) -> Option<[u64; WORDS]> {
        let complete = number.wrapping_mul(2).wrapping_add(2);
        if self.stamp.load(Ordering::Acquire) != complete {
            return None;
        }
        let mut words = [0; WORDS];
        for (value, word) in words.iter_mut().zip(&self.words) {
            *value = word.load(Ordering::Relaxed);
        }
        between();
        fence(Ordering::Acquire);
        (self.stamp.load(Ordering::Relaxed) == complete).then_some(words)
    }
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

fn metric_kind(metric: &RemotingMetric) -> FlightKind {
    FlightKind::Metric {
        latency_ms: metric.latency_ms,
        deferred_depth: metric.deferred_depth,
        error_count: metric.error_count,
        backpressure: metric.backpressure,
    }
}

fn lifecycle(event: &RemotingLifecycleEvent) -> FlightKind {
    use RemotingLifecycleEvent as E;
    match *event {
        E::ListenStarted { .. } => FlightKind::ListenStarted,
        E::AssociationAttempt { attempt, .. } => FlightKind::AssociationAttempt { attempt },
        E::Connected { uid, resumed, .. } => FlightKind::Connected { uid, resumed },
        E::Disconnected { uid, .. } => FlightKind::Disconnected { uid },
        E::Gated { until, .. } => FlightKind::Gated { until },
        E::Suspended { uid, .. } => FlightKind::Suspended { uid },
        E::Resumed { uid, .. } => FlightKind::Resumed { uid },
        E::Quarantined { uid, reason, .. } => FlightKind::Quarantined { uid, reason },
        E::QuarantinedByPeer { uid, reason, .. } => FlightKind::QuarantinedByPeer { uid, reason },
        E::QuarantineLifted { uid, .. } => FlightKind::QuarantineLifted { uid },
        E::Left { uid, .. } => FlightKind::Left { uid },
        E::Refused { reason, .. } => FlightKind::Refused { reason },
        // The conversion saturates.
        E::Suspect { uid, suspicion, .. } => {
            FlightKind::Suspect { uid, suspicion_milli: (suspicion * 1_000.0) as u64 }
        }
        E::Reachable { uid, .. } => FlightKind::Reachable { uid },
        E::Shutdown { .. } => FlightKind::Shutdown,
    }
}

/// One entry as it is read out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightRecord {
    /// Its number, counting from 0 since the recorder was made; gaps are entries lost or being written.
    pub number: u64,
    /// The entry.
    pub event: FlightEvent,
}

/// What a recorder held at a moment.
#[derive(Clone, Debug)]
pub struct RecorderSnapshot {
    /// The entries, oldest first.
    pub records: Vec<FlightRecord>,
    /// Entries ever handed in.
    pub recorded: u64,
    /// Of them, those that newer ones have replaced.
    pub overwritten: u64,
    /// Of them, those given up because their slot was being written. Never waited for.
    pub lost: u64,
    /// Of the newest, those that could not be read now: being written, just replaced, or lost.
    pub skipped: u64,
    authorities: Vec<Authority>,
}

impl RecorderSnapshot {
    /// The authority that a number stands for; `None` for [`AssociationNumber::NONE`].
    #[must_use]
    pub fn authority(&self, number: AssociationNumber) -> Option<&Authority> {
        self.authorities.get((number.0 as usize).checked_sub(1)?)
    }

    /// The entries of one message, oldest first.
    pub fn of_message(&self, id: CorrelationId) -> impl Iterator<Item = &FlightRecord> {
        self.records.iter().filter(move |record| record.event.correlation_id == id)
    }

    /// The hops of messages, oldest first; those without a named authority are left out.
    pub fn traces(&self) -> impl Iterator<Item = CorrelationTrace> {
        self.records.iter().filter_map(|record| match record.event.kind {
            FlightKind::Hop { hop, .. } => Some(CorrelationTrace {
                correlation_id: record.event.correlation_id,
                authority: self.authority(record.event.association)?.clone(),
                hop,
            }),
            _ => None,
        })
    }

    /// One entry as a JSON object, with `number`, `time_ns`, `event` and what its kind has.
    #[must_use]
    pub fn to_json(&self, record: &FlightRecord) -> String {
        let event = &record.event;
        let mut object = Object::new()
            .with("number", record.number)
            .with("time_ns", event.time.as_nanos())
            .with("event", event.kind.name())
            .with_some("authority", self.authority(event.association).map(ToString::to_string))
            .with_correlation(event.correlation_id);
        object = match event.kind {
            FlightKind::Hop { hop, bytes } => object.with("hop", hop.as_str()).with("bytes", bytes),
            FlightKind::Lost { reason, bytes } => object.with("reason", reason.as_str()).with("bytes", bytes),
            FlightKind::AssociationAttempt { attempt } => object.with("attempt", attempt),
            FlightKind::Connected { uid, resumed } => object.with_uid(uid).with("resumed", resumed),
            FlightKind::Disconnected { uid }
            | FlightKind::Suspended { uid }
            | FlightKind::Resumed { uid }
            | FlightKind::QuarantineLifted { uid }
            | FlightKind::Left { uid }
            | FlightKind::Reachable { uid } => object.with_uid(uid),
            FlightKind::Gated { until } => object.with("until_ms", until.as_millis()),
            FlightKind::Quarantined { uid, reason } | FlightKind::QuarantinedByPeer { uid, reason } => {
                object.with_uid(uid).with("reason", reason.as_str())
            }
            FlightKind::Refused { reason } => object.with("reason", reason.as_str()),
            FlightKind::Suspect { uid, suspicion_milli } => {
                object.with_uid(uid).with("suspicion", suspicion_milli as f64 / 1_000.0)
            }
            FlightKind::Backpressure { signal, messages, bytes } => {
                object.with("signal", signal.as_str()).with("messages", messages).with("bytes", bytes)
            }
            FlightKind::HeartbeatReply { uid, round_trip } => {
                let nanos = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
                object.with_uid(uid).with("round_trip_ns", nanos)
            }
            FlightKind::Metric { latency_ms, deferred_depth, error_count, backpressure } => object
                .with("latency_ms", latency_ms)
                .with("deferred_depth", deferred_depth)
                .with("error_count", error_count)
                .with_some("backpressure", backpressure.map(BackpressureSignal::as_str)),
            FlightKind::Threshold { kind, value, threshold } => {
                object.with("kind", kind.as_str()).with("value", value).with("threshold", threshold)
            }
            FlightKind::ListenStarted | FlightKind::Shutdown | FlightKind::TransportFault => object,
        };
        object.finish()
    }
}

/// One line of JSON per entry, oldest first, behind a line with the counts.
impl fmt::Display for RecorderSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = Object::new()
            .with("event", "recorder")
            .with("recorded", self.recorded)
            .with("overwritten", self.overwritten)
            .with("lost", self.lost)
            .with("skipped", self.skipped);
        f.write_str(&counts.finish())?;
        for record in &self.records {
            write!(f, "\n{}", self.to_json(record))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RefusedBy;

    fn event(n: u64) -> FlightEvent {
        FlightEvent {
            time: Instant::from_nanos(n),
            association: AssociationNumber::NONE,
            correlation_id: CorrelationId::new(n, n as u32),
            kind: FlightKind::Hop { hop: HopKind::Send, bytes: n },
        }
    }

    /// Covers: S140, API-60
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

    #[test]
    fn unknown_codes_decode_to_nothing() {
        for words in [
            (0, 0, 0, 0),
            (255, 0, 0, 0),
            (1, 3, 0, 0),
            (2, 16, 0, 0),
            (10, 0, 0, 0),
            (10, 300, 0, 0),
            (14, 0, 0, 0),
            (18, 3, 0, 0),
            (21, 4, 0, 0),
            (22, 2, 0, 0),
            (4, 0, u64::MAX, 0),
        ] {
            assert_eq!(FlightKind::decode(words), None, "{words:?}");
        }
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

    #[test]
    fn an_entry_replaced_while_it_is_read_is_detected() {
        let slot = Slot::default();
        assert!(slot.write(0, [10; WORDS]));
        assert_eq!(slot.read(0, || ()), Some([10; WORDS]));
        // Replaced whole, and caught in the middle, between the reader's two looks.
        assert_eq!(slot.read(0, || assert!(slot.write(4, [11; WORDS]))), None);
        assert_eq!(slot.read(4, || slot.stamp.store(17, Ordering::Relaxed)), None);
        // A writer overtaken by a whole ring does not overwrite the newer entry.
        let slot = Slot::default();
        assert!(slot.write(4, [12; WORDS]));
        assert!(!slot.write(0, [13; WORDS]));
        assert_eq!(slot.read(4, || ()), Some([12; WORDS]));
    }

    /// Covers: DM-07
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
