//! What a recorder held at a moment, for reading.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use nexus_actor_core::CorrelationId;
use nexus_actor_core::path::Authority;

use super::{AssociationNumber, FlightEvent, FlightKind};
use crate::backpressure::BackpressureSignal;
use crate::correlation_trace::CorrelationTrace;
use crate::json::Object;

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
    pub(super) authorities: Vec<Authority>,
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
            FlightKind::HeartbeatSlow { uid, interval } => {
                object.with_uid(uid).with("interval_ms", crate::event::saturating_millis(interval))
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
