//! How a detector would have done on recorded intervals.

use core::time::Duration;

use nexus_actor_core::Instant;

use super::{Arrival, FailureDetector};

/// What a detector made of a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Intervals fed.
    pub intervals: usize,
    /// Of them, those at whose end the peer was wrongly counted as lost.
    pub false_alarms: usize,
    /// Silence after the last beat until the peer counts as lost.
    pub detection_time: Duration,
}

impl Evaluation {
    /// False alarms per interval, 0 to 1.
    #[must_use]
    pub fn false_alarm_rate(&self) -> f64 {
        if self.intervals == 0 { 0.0 } else { self.false_alarms as f64 / self.intervals as f64 }
    }
}

/// Feeds `intervals` to a reset `detector`: how often it was wrong, and how fast it is after the last one.
///
/// For choosing settings from the rhythm of one's own network. The detector is left as after the last beat.
pub fn evaluate(
    detector: &mut dyn FailureDetector,
    intervals: impl IntoIterator<Item = Duration>,
) -> Evaluation {
    detector.reset();
    let mut now = Instant::ZERO;
    detector.heartbeat(now);
    let (mut count, mut false_alarms) = (0, 0);
    for interval in intervals {
        now += interval;
        count += 1;
        false_alarms += usize::from(matches!(detector.heartbeat(now), Arrival::Recovered { .. }));
    }
    let detection_time = detector.next_suspicion_at().map_or(Duration::MAX, |at| at - now);
    Evaluation { intervals: count, false_alarms, detection_time }
}
