//! The detector that learns nothing.

use core::time::Duration;

use nexus_actor_core::Instant;

use super::{Arrival, FailureDetector, SUSPICION_MAX};
use crate::config_error::{ConfigError, Violations};

/// Settings of [`DeadlineFailureDetector`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadlineConfig {
    /// Silence after which the peer counts as lost; 11 s by default, at least the heartbeat interval, at most
    /// a day.
    pub deadline: Duration,
    /// How often beats are expected; 1 s by default, above zero. Bounds what an own pause is forgiven.
    pub heartbeat_interval: Duration,
    /// Time allowed for the very first answer; 11 s by default, at least the heartbeat interval.
    pub first_heartbeat_allowance: Duration,
}

impl Default for DeadlineConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(11),
            heartbeat_interval: Duration::from_secs(1),
            first_heartbeat_allowance: Duration::from_secs(11),
        }
    }
}

impl DeadlineConfig {
    /// Sets [`Self::deadline`].
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets [`Self::heartbeat_interval`].
    #[must_use]
    pub const fn with_heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// Sets [`Self::first_heartbeat_allowance`].
    #[must_use]
    pub const fn with_first_heartbeat_allowance(mut self, allowance: Duration) -> Self {
        self.first_heartbeat_allowance = allowance;
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`ConfigError`] listing all that are out of range or contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut found = Violations::new();
        found.above_zero("heartbeat_interval", self.heartbeat_interval);
        found.require(
            self.deadline >= self.heartbeat_interval && self.deadline <= Duration::from_secs(86_400),
            "deadline",
            &self.deadline,
            "must be at least heartbeat_interval and at most a day",
        );
        found.not_below(
            "first_heartbeat_allowance",
            self.first_heartbeat_allowance,
            "heartbeat_interval",
            self.heartbeat_interval,
        );
        found.into_result()
    }
}

/// Counts a peer as lost after a fixed silence, whatever its rhythm was.
///
/// Its suspicion is the silence in deadlines: the threshold is 1.
#[derive(Debug)]
pub struct DeadlineFailureDetector {
    config: DeadlineConfig,
    state: Option<Silence>,
}

#[derive(Debug)]
struct Silence {
    /// The last beat; `None` while the first is awaited.
    last: Option<Instant>,
    since: Instant,
    graced: bool,
}

impl DeadlineFailureDetector {
    /// A detector that has heard nothing yet.
    ///
    /// # Errors
    /// [`ConfigError`] listing every setting out of range.
    pub fn new(config: DeadlineConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config, state: None })
    }

    const fn allowed(&self, silence: &Silence) -> Duration {
        if silence.last.is_some() { self.config.deadline } else { self.config.first_heartbeat_allowance }
    }
}

impl FailureDetector for DeadlineFailureDetector {
    fn expect(&mut self, now: Instant) {
        if self.state.is_none() {
            self.state = Some(Silence { last: None, since: now, graced: false });
        }
    }

    fn heartbeat(&mut self, now: Instant) -> Arrival {
        let arrival = match self.state {
            None | Some(Silence { last: None, .. }) => Arrival::First,
            Some(Silence { last: Some(last), .. }) if now <= last => return Arrival::Ignored,
            Some(Silence { last: Some(last), .. }) if !self.is_available(now) => {
                Arrival::Recovered { silence: now - last }
            }
            Some(Silence { last: Some(last), since, .. }) => {
                let interval = now - last;
                if now - since > self.config.deadline / 3 * 2 && interval > self.config.heartbeat_interval * 2
                {
                    Arrival::Slow { interval }
                } else {
                    Arrival::Regular { interval }
                }
            }
        };
        self.state = Some(Silence { last: Some(now), since: now, graced: false });
        arrival
    }

    fn suspicion(&self, now: Instant) -> f64 {
        self.state.as_ref().map_or(0.0, |silence| {
            let allowed = self.allowed(silence).as_nanos() as f64;
            ((now - silence.since).as_nanos() as f64 / allowed).min(SUSPICION_MAX)
        })
    }

    fn threshold(&self) -> f64 {
        1.0
    }

    fn is_monitoring(&self) -> bool {
        self.state.is_some()
    }

    fn next_suspicion_at(&self) -> Option<Instant> {
        self.state.as_ref().map(|silence| silence.since + self.allowed(silence))
    }

    fn local_pause(&mut self, now: Instant, late: Duration) {
        let Some(at) = self.next_suspicion_at() else { return };
        if let Some(silence) = &mut self.state {
            silence.since +=
                super::forgiven(now, at, late, self.config.heartbeat_interval, &mut silence.graced);
        }
    }

    fn reset(&mut self) {
        self.state = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn five_seconds() -> DeadlineFailureDetector {
        let config = DeadlineConfig::default()
            .with_deadline(Duration::from_secs(5))
            .with_first_heartbeat_allowance(Duration::from_secs(3));
        DeadlineFailureDetector::new(config).unwrap()
    }

    #[test]
    fn the_deadline_is_exact() {
        let mut d = five_seconds();
        assert!(d.is_available(ms(100_000)) && !d.is_monitoring());
        d.expect(ms(0));
        assert!(d.is_available(ms(2_999)) && !d.is_available(ms(3_000)));
        assert_eq!(d.heartbeat(ms(1_000)), Arrival::First);
        for (at, available) in [(5_999, true), (6_000, false), (6_001, false)] {
            assert_eq!(d.is_available(ms(at)), available, "{at}");
            assert_eq!(d.suspicion(ms(at)) < d.threshold(), available, "{at}");
        }
        assert_eq!(d.heartbeat(ms(9_000)), Arrival::Recovered { silence: Duration::from_secs(8) });
        assert_eq!(d.heartbeat(ms(9_000)), Arrival::Ignored);
        assert_eq!(d.heartbeat(ms(8_000)), Arrival::Ignored);
        assert_eq!(d.heartbeat(ms(13_000)), Arrival::Slow { interval: Duration::from_secs(4) });
        assert_eq!(d.suspicion(Instant::FAR_FUTURE), SUSPICION_MAX);
        d.reset();
        assert!(!d.is_monitoring());
    }

    #[test]
    fn an_own_pause_is_discounted() {
        let mut d = five_seconds();
        d.heartbeat(ms(0));
        d.local_pause(ms(60_000), Duration::from_secs(59));
        assert!(d.is_available(ms(60_999)));
        assert!(!d.is_available(ms(64_000)));
    }

    #[test]
    fn settings_are_checked() {
        let ok = DeadlineConfig::default();
        for (name, config, violations) in [
            ("default", ok.clone(), 0),
            ("deadline at the interval", ok.clone().with_deadline(Duration::from_secs(1)), 0),
            ("deadline below", ok.clone().with_deadline(Duration::from_millis(999)), 1),
            ("deadline at a day", ok.clone().with_deadline(Duration::from_secs(86_400)), 0),
            ("deadline above", ok.clone().with_deadline(Duration::from_secs(86_401)), 1),
            ("no interval", ok.clone().with_heartbeat_interval(Duration::ZERO), 1),
            ("allowance below", ok.with_first_heartbeat_allowance(Duration::from_millis(1)), 1),
        ] {
            let found = config.validate().map_or_else(|e| e.violations.len(), |()| 0);
            assert_eq!(found, violations, "{name}");
        }
    }
}
