//! What an entry says, and how it is kept as numbers.

use core::time::Duration;

use nexus_actor_core::path::ActorUid;
use nexus_actor_core::{DeadLetterReason, Instant};

use crate::backpressure::BackpressureSignal;
use crate::correlation_trace::HopKind;
use crate::event::RemotingLifecycleEvent;
use crate::metric::{RemotingMetric, ThresholdKind};
use crate::wire::{QuarantineReason, RefuseReason};

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
    /// See [`RemotingLifecycleEvent::HeartbeatSlow`].
    HeartbeatSlow {
        /// The peer's incarnation.
        uid: ActorUid,
        /// Time since the answer before.
        interval: Duration,
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
pub(super) type Words = (u8, u32, u64, u64);

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
    pub(super) fn encode(self) -> Words {
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
            Self::HeartbeatSlow { uid, interval } => {
                (23, 0, uid.get(), u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX))
            }
        }
    }

    pub(super) fn decode((kind, small, a, b): Words) -> Option<Self> {
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
            23 => Self::HeartbeatSlow { uid, interval: Duration::from_nanos(b) },
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
            Self::HeartbeatSlow { .. } => "heartbeat_slow",
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

pub(super) fn metric_kind(metric: &RemotingMetric) -> FlightKind {
    FlightKind::Metric {
        latency_ms: metric.latency_ms,
        deferred_depth: metric.deferred_depth,
        error_count: metric.error_count,
        backpressure: metric.backpressure,
    }
}

pub(super) fn lifecycle(event: &RemotingLifecycleEvent) -> FlightKind {
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
        E::HeartbeatSlow { uid, interval, .. } => FlightKind::HeartbeatSlow { uid, interval },
        E::Reachable { uid, .. } => FlightKind::Reachable { uid },
        E::Shutdown { .. } => FlightKind::Shutdown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
