//! Figures of one peer at a moment, and the thresholds an operator sets on them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use nexus_actor_core::CorrelationId;

use nexus_actor_core::remote_authority::AuthorityState;

use crate::backpressure::BackpressureSignal;
use crate::config_error::{ConfigError, Violations};
use crate::json::Object;

/// The state of one association and its figures at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteAuthoritySnapshot {
    /// The peer, `host:port`.
    pub authority: String,
    /// What this node thinks of it.
    pub state: AuthorityState,
    /// When the state changed last, in milliseconds on this node's monotonic clock; 0 if never.
    pub last_change: u64,
    /// Messages waiting or unacknowledged.
    pub deferred_count: u32,
    /// Its figures.
    pub metric: RemotingMetric,
}

impl RemoteAuthoritySnapshot {
    /// As a JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (state, uid) = match &self.state {
            AuthorityState::Connected { uid } => ("connected", Some(uid.get())),
            AuthorityState::Quarantine { .. } => ("quarantined", None),
            _ => ("unresolved", None),
        };
        self.metric
            .object()
            .with("state", state)
            .with_some("uid", uid)
            .with("last_change_ms", self.last_change)
            .with("deferred_count", self.deferred_count)
            .finish()
    }
}

/// Figures of one peer at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotingMetric {
    /// The peer, `host:port`.
    pub authority: String,
    /// Round trip of the last answered heartbeat in milliseconds; 0 before the first.
    pub latency_ms: u32,
    /// Messages waiting in the lanes toward the peer, or [`u32::MAX`] if more.
    pub deferred_depth: u32,
    /// Messages lost and connections broken since the association began.
    pub error_count: u64,
    /// How full the lanes are; `None` before the first signal.
    pub backpressure: Option<BackpressureSignal>,
    /// The last fault in words.
    pub last_error: Option<String>,
    /// The message, handshake or heartbeat this was taken at.
    pub correlation_id: CorrelationId,
}

impl RemotingMetric {
    /// Figures of a peer of which nothing is known yet.
    #[must_use]
    pub fn new(authority: impl Into<String>) -> Self {
        Self {
            authority: authority.into(),
            latency_ms: 0,
            deferred_depth: 0,
            error_count: 0,
            backpressure: None,
            last_error: None,
            correlation_id: CorrelationId::NIL,
        }
    }

    /// As a JSON object; what is `None` is left out.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.object().finish()
    }

    fn object(&self) -> Object {
        Object::new()
            .with("event", "metric")
            .with("authority", self.authority.as_str())
            .with("latency_ms", self.latency_ms)
            .with("deferred_depth", self.deferred_depth)
            .with("error_count", self.error_count)
            .with_some("backpressure", self.backpressure.map(BackpressureSignal::as_str))
            .with_some("last_error", self.last_error.as_deref())
            .with_correlation(self.correlation_id)
    }
}

/// Limits on [`RemotingMetric`] whose crossing is an event. None is set by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SreThresholds {
    /// Round trips longer than this are reported.
    pub round_trip: Option<Duration>,
    /// More waiting messages than this are reported.
    pub queue_depth: Option<u32>,
}

/// Which threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ThresholdKind {
    /// [`SreThresholds::round_trip`], in milliseconds.
    RoundTrip,
    /// [`SreThresholds::queue_depth`], in messages.
    QueueDepth,
}

impl ThresholdKind {
    /// Every kind, in the order of its code.
    pub const ALL: [Self; 2] = [Self::RoundTrip, Self::QueueDepth];

    /// The word used in events and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundTrip => "round_trip_ms",
            Self::QueueDepth => "queue_depth",
        }
    }
}

impl fmt::Display for ThresholdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A figure crossed its threshold, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThresholdCrossed {
    /// The peer, `host:port`.
    pub authority: String,
    /// Which threshold.
    pub kind: ThresholdKind,
    /// The figure now.
    pub value: u64,
    /// The threshold.
    pub threshold: u64,
    /// That of the metric.
    pub correlation_id: CorrelationId,
}

impl ThresholdCrossed {
    /// Whether the figure is over the threshold now.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.value > self.threshold
    }

    /// As a JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        Object::new()
            .with("event", "threshold")
            .with("authority", self.authority.as_str())
            .with("kind", self.kind.as_str())
            .with("value", self.value)
            .with("threshold", self.threshold)
            .with("over", self.is_over())
            .with_correlation(self.correlation_id)
            .finish()
    }
}

impl SreThresholds {
    /// No thresholds.
    #[must_use]
    pub const fn new() -> Self {
        Self { round_trip: None, queue_depth: None }
    }

    /// Sets [`Self::round_trip`].
    #[must_use]
    pub const fn with_round_trip(mut self, limit: Duration) -> Self {
        self.round_trip = Some(limit);
        self
    }

    /// Sets [`Self::queue_depth`].
    #[must_use]
    pub const fn with_queue_depth(mut self, limit: u32) -> Self {
        self.queue_depth = Some(limit);
        self
    }

    /// Checks every threshold.
    ///
    /// # Errors
    /// [`ConfigError`] listing the offending ones.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut found = Violations::new();
        if let Some(limit) = self.round_trip {
            let rule = "must be at least a millisecond, the metric's unit";
            found.require(limit >= Duration::from_millis(1), "round_trip", &limit, rule);
        }
        found.into_result()
    }

    fn limits(&self, metric: &RemotingMetric) -> [Option<(ThresholdKind, u64, u64)>; 2] {
        [
            self.round_trip.map(|limit| {
                let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                (ThresholdKind::RoundTrip, u64::from(metric.latency_ms), limit)
            }),
            self.queue_depth
                .map(|limit| (ThresholdKind::QueueDepth, u64::from(metric.deferred_depth), u64::from(limit))),
        ]
    }
}

/// Watches one peer's figures against thresholds: one report per crossing, not one per metric.
#[derive(Clone, Debug, Default)]
pub struct ThresholdWatch {
    thresholds: SreThresholds,
    over: [bool; 2],
}

impl ThresholdWatch {
    /// A watch that has seen nothing over `thresholds`.
    #[must_use]
    pub const fn new(thresholds: SreThresholds) -> Self {
        Self { thresholds, over: [false; 2] }
    }

    /// Notes `metric`; gives what it crossed since the last one.
    pub fn update(&mut self, metric: &RemotingMetric) -> Vec<ThresholdCrossed> {
        let mut crossed = Vec::new();
        for (over, limit) in self.over.iter_mut().zip(self.thresholds.limits(metric)) {
            let Some((kind, value, threshold)) = limit else { continue };
            if core::mem::replace(over, value > threshold) != *over {
                crossed.push(ThresholdCrossed {
                    authority: metric.authority.clone(),
                    kind,
                    value,
                    threshold,
                    correlation_id: metric.correlation_id,
                });
            }
        }
        crossed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: MET-09, MET-12, DM-08, CNF-53
    #[test]
    fn json_has_every_field_and_leaves_out_what_is_unknown() {
        let mut metric = RemotingMetric::new("10.0.0.2:25520");
        assert_eq!(
            metric.to_json(),
            r#"{"authority":"10.0.0.2:25520","correlation_id":"000000000000000000000000","deferred_depth":0,"error_count":0,"event":"metric","latency_ms":0}"#
        );
        metric.latency_ms = u32::MAX;
        metric.deferred_depth = 70_000;
        metric.error_count = 3;
        metric.backpressure = Some(BackpressureSignal::Warning);
        metric.last_error = Some(String::from("said \"no\"\n"));
        metric.correlation_id = CorrelationId::new(0xab, 0xcd);
        assert_eq!(
            metric.to_json(),
            r#"{"authority":"10.0.0.2:25520","backpressure":"warning","correlation_id":"00000000000000ab000000cd","deferred_depth":70000,"error_count":3,"event":"metric","last_error":"said \"no\"\n","latency_ms":4294967295}"#
        );
    }

    /// Covers: CFG-27
    #[test]
    fn a_threshold_is_reported_once_per_crossing() {
        let limits = SreThresholds::new().with_round_trip(Duration::from_millis(50)).with_queue_depth(10);
        let mut watch = ThresholdWatch::new(limits);
        let mut metric = RemotingMetric::new("a:1");
        let mut seen = Vec::new();
        for (latency_ms, depth) in [(49, 9), (50, 10), (51, 10), (80, 11), (80, 12), (50, 12), (0, 0)] {
            (metric.latency_ms, metric.deferred_depth) = (latency_ms, depth);
            seen.extend(watch.update(&metric).into_iter().map(|c| (c.kind, c.value, c.is_over())));
        }
        assert_eq!(
            seen,
            [
                (ThresholdKind::RoundTrip, 51, true),
                (ThresholdKind::QueueDepth, 11, true),
                (ThresholdKind::RoundTrip, 50, false),
                (ThresholdKind::QueueDepth, 0, false),
            ]
        );
        assert!(ThresholdWatch::default().update(&metric).is_empty(), "none set, none reported");
        assert!(SreThresholds::new().with_round_trip(Duration::from_micros(999)).validate().is_err());
        assert!(SreThresholds::new().with_round_trip(Duration::from_millis(1)).validate().is_ok());
    }
}
