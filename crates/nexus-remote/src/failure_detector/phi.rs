//! The phi accrual detector.

use alloc::collections::VecDeque;
use core::time::Duration;

use nexus_actor_core::Instant;

use super::math::{exp_neg, ln_1p, sqrt};
use super::{Arrival, FailureDetector, SUSPICION_MAX};
use crate::config_error::{ConfigError, Violations};

/// Coefficients of the logistic approximation of the normal distribution's tail.
const LINEAR: f64 = 1.5976;
const CUBIC: f64 = 0.070_566;
const LN_10: f64 = core::f64::consts::LN_10;

/// Settings of [`PhiFailureDetector`].
///
/// With the defaults a peer that beat regularly counts as lost 11.6 s after its last beat.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PhiConfig {
    /// Suspicion from which the peer counts as lost; 10 by default, 1 to 100. A phi of `n` stands for a chance
    /// of 10^-n that the silence is only lateness; each step more costs about a tenth of a deviation of patience.
    pub threshold: f64,
    /// Intervals remembered; 200 by default, 2 to 10,000, four bytes each and peer.
    pub samples_max: usize,
    /// Floor of the deviation, so that a very regular peer is not suspected for its first hiccup; 100 ms by
    /// default, above zero.
    pub min_deviation: Duration,
    /// Silence tolerated on top of what was learned; 10 s by default, at most an hour. This is what covers
    /// collections and short network pauses; it is paid in full in the detection time.
    pub acceptable_pause: Duration,
    /// The rhythm expected before any was learned; 1 s by default, above zero, at most an hour.
    pub heartbeat_interval: Duration,
    /// Time allowed for the very first answer; 11 s by default, at least the heartbeat interval.
    pub first_heartbeat_allowance: Duration,
}

impl Default for PhiConfig {
    fn default() -> Self {
        Self {
            threshold: 10.0,
            samples_max: 200,
            min_deviation: Duration::from_millis(100),
            acceptable_pause: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(1),
            first_heartbeat_allowance: Duration::from_secs(11),
        }
    }
}

impl PhiConfig {
    /// Sets [`Self::threshold`].
    #[must_use]
    pub const fn with_threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// Sets [`Self::samples_max`].
    #[must_use]
    pub const fn with_samples_max(mut self, samples: usize) -> Self {
        self.samples_max = samples;
        self
    }

    /// Sets [`Self::min_deviation`].
    #[must_use]
    pub const fn with_min_deviation(mut self, deviation: Duration) -> Self {
        self.min_deviation = deviation;
        self
    }

    /// Sets [`Self::acceptable_pause`].
    #[must_use]
    pub const fn with_acceptable_pause(mut self, pause: Duration) -> Self {
        self.acceptable_pause = pause;
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
        let hour = Duration::from_secs(3_600);
        found.require(
            (1.0..=100.0).contains(&self.threshold),
            "threshold",
            &self.threshold,
            "must be from 1 to 100",
        );
        found.within("samples_max", self.samples_max, 2..=10_000);
        found.require(
            !self.min_deviation.is_zero() && self.min_deviation <= hour,
            "min_deviation",
            &self.min_deviation,
            "must be above zero and at most an hour",
        );
        found.require(
            self.acceptable_pause <= hour,
            "acceptable_pause",
            &self.acceptable_pause,
            "must be at most an hour",
        );
        found.require(
            !self.heartbeat_interval.is_zero() && self.heartbeat_interval <= hour,
            "heartbeat_interval",
            &self.heartbeat_interval,
            "must be above zero and at most an hour",
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

/// Suspects a peer when its silence has become improbable under the rhythm it had so far.
///
/// phi is `-log10` of the chance that a beat is still to come, with the intervals taken as normally distributed
/// around their mean plus the acceptable pause. A beat costs one square root; asking whether the peer is
/// available costs a comparison, since the moment of suspicion is worked out at the beat.
///
/// An interval within the acceptable pause is learned even if it was long: a peer that pauses often is given more
/// time. An interval that ended in suspicion is an outage and is not learned.
/// # Source
/// Hayashibara et al., "The phi accrual failure detector" (2004), with Akka's logistic approximation of the
/// normal tail and its acceptable pause. Differences: the first estimate deviates by an eighth of the
/// interval, not a quarter, to stay under 12 s by default; this node's own pauses are discounted.
#[derive(Debug)]
pub struct PhiFailureDetector {
    config: PhiConfig,
    /// Deviations between the mean and the moment phi reaches the threshold.
    threshold_deviations: f64,
    intervals: Intervals,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    /// Asked, never answered.
    Awaiting {
        since: Instant,
        graced: bool,
    },
    /// Heard. `since` is the last beat, moved forward by what this node itself was away.
    Beating {
        last: Instant,
        since: Instant,
        mean: f64,
        deviation: f64,
        suspect_at: Instant,
        graced: bool,
    },
}

impl PhiFailureDetector {
    /// A detector that has heard nothing yet.
    ///
    /// # Errors
    /// [`ConfigError`] listing every setting out of range.
    pub fn new(config: PhiConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let threshold_deviations = deviations_at(config.threshold);
        let intervals = Intervals::new(config.samples_max);
        Ok(Self { config, threshold_deviations, intervals, state: State::Idle })
    }

    /// Its settings.
    #[must_use]
    pub const fn config(&self) -> &PhiConfig {
        &self.config
    }

    /// phi at `now`; the same as [`FailureDetector::suspicion`].
    #[must_use]
    pub fn phi(&self, now: Instant) -> f64 {
        self.suspicion(now)
    }

    fn beating(&self, now: Instant) -> State {
        let mean = self.intervals.mean() + nanos(self.config.acceptable_pause);
        let deviation = self.intervals.deviation().max(nanos(self.config.min_deviation));
        let suspect_at = now + from_nanos(mean + self.threshold_deviations * deviation);
        State::Beating { last: now, since: now, mean, deviation, suspect_at, graced: false }
    }
}

impl FailureDetector for PhiFailureDetector {
    fn expect(&mut self, now: Instant) {
        if matches!(self.state, State::Idle) {
            self.state = State::Awaiting { since: now, graced: false };
        }
    }

    fn heartbeat(&mut self, now: Instant) -> Arrival {
        let arrival = match self.state {
            State::Idle | State::Awaiting { .. } => {
                // Two made-up samples with the expected mean and deviation: one odd first interval must not
                // be all there is to go by. They leave the memory like any other.
                let interval = self.config.heartbeat_interval;
                self.intervals.clear();
                self.intervals.push(interval - interval / 8);
                self.intervals.push(interval + interval / 8);
                Arrival::First
            }
            State::Beating { last, .. } if now <= last => return Arrival::Ignored,
            State::Beating { last, suspect_at, .. } if now >= suspect_at => {
                Arrival::Recovered { silence: now - last }
            }
            State::Beating { last, since, .. } => {
                // Measured from `since`: what this node was away says nothing about the peer.
                let learned = now - since;
                if !learned.is_zero() {
                    self.intervals.push(learned);
                }
                let interval = now - last;
                let pause = self.config.acceptable_pause;
                if !pause.is_zero() && learned > pause / 3 * 2 {
                    Arrival::Slow { interval }
                } else {
                    Arrival::Regular { interval }
                }
            }
        };
        self.state = self.beating(now);
        arrival
    }

    fn suspicion(&self, now: Instant) -> f64 {
        match self.state {
            State::Idle => 0.0,
            State::Awaiting { since, .. } => {
                let part = nanos(now - since) / nanos(self.config.first_heartbeat_allowance);
                (self.config.threshold * part).min(SUSPICION_MAX)
            }
            State::Beating { since, mean, deviation, suspect_at, .. } => {
                let phi = phi((nanos(now - since) - mean) / deviation);
                // The moment of suspicion is exact to the nanosecond, phi only to rounding: the moment decides.
                if now >= suspect_at {
                    phi.max(self.config.threshold)
                } else {
                    phi.min(self.config.threshold.next_down())
                }
            }
        }
    }

    fn threshold(&self) -> f64 {
        self.config.threshold
    }

    fn is_monitoring(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    fn next_suspicion_at(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Awaiting { since, .. } => Some(since + self.config.first_heartbeat_allowance),
            State::Beating { suspect_at, .. } => Some(suspect_at),
        }
    }

    fn local_pause(&mut self, now: Instant, late: Duration) {
        let Some(at) = self.next_suspicion_at() else { return };
        let interval = self.config.heartbeat_interval;
        match &mut self.state {
            State::Idle => {}
            State::Awaiting { since, graced } => {
                *since += super::forgiven(now, at, late, interval, graced);
            }
            State::Beating { since, suspect_at, graced, .. } => {
                let by = super::forgiven(now, at, late, interval, graced);
                *since += by;
                *suspect_at += by;
            }
        }
    }

    fn reset(&mut self) {
        self.intervals.clear();
        self.state = State::Idle;
    }
}

/// phi of a silence that exceeds the mean by `y` deviations.
///
/// `-log10(e / (1 + e))` with `e = exp(-z)` is `softplus(z) / ln 10`, and in this form nothing can overflow and
/// no precision is lost at either end.
fn phi(y: f64) -> f64 {
    let z = y * (LINEAR + CUBIC * y * y);
    let size = z.abs();
    let softplus = z.max(0.0) + ln_1p(exp_neg(size));
    (softplus / LN_10).clamp(0.0, SUSPICION_MAX)
}

/// The inverse of [`phi`] for `phi >= 1`.
fn deviations_at(phi: f64) -> f64 {
    let a = phi * LN_10;
    let z = a + ln_1p(-exp_neg(a));
    // The cubic is convex and rising right of zero, so Newton's steps fall monotonically onto the root.
    let mut y = z / LINEAR;
    for _ in 0..64 {
        let next = y - (y * (LINEAR + CUBIC * y * y) - z) / (LINEAR + 3.0 * CUBIC * y * y);
        if next >= y {
            break;
        }
        y = next;
    }
    y
}

fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

fn from_nanos(nanos: f64) -> Duration {
    // The conversion saturates, and turns NaN into zero.
    Duration::from_nanos(nanos as u64)
}

/// The last intervals with their sums, in whole microseconds so that the sums are exact and never drift.
#[derive(Debug)]
struct Intervals {
    samples: VecDeque<u32>,
    samples_max: usize,
    sum: u64,
    sum_of_squares: u128,
}

impl Intervals {
    const fn new(samples_max: usize) -> Self {
        Self { samples: VecDeque::new(), samples_max, sum: 0, sum_of_squares: 0 }
    }

    fn push(&mut self, interval: Duration) {
        // No accepted interval comes near the 71 minutes that fit, given the hour that bounds the pause.
        let micros = u32::try_from(interval.as_micros()).unwrap_or(u32::MAX);
        if self.samples.len() == self.samples_max
            && let Some(oldest) = self.samples.pop_front()
        {
            self.sum -= u64::from(oldest);
            self.sum_of_squares -= u128::from(oldest) * u128::from(oldest);
        }
        self.samples.push_back(micros);
        self.sum += u64::from(micros);
        self.sum_of_squares += u128::from(micros) * u128::from(micros);
    }

    fn clear(&mut self) {
        self.samples.clear();
        self.sum = 0;
        self.sum_of_squares = 0;
    }

    /// In nanoseconds.
    fn mean(&self) -> f64 {
        self.sum as f64 * 1_000.0 / self.samples.len().max(1) as f64
    }

    /// Of the whole population, in nanoseconds.
    fn deviation(&self) -> f64 {
        let n = self.samples.len().max(1);
        let scaled = n as u128 * self.sum_of_squares - u128::from(self.sum) * u128::from(self.sum);
        sqrt(scaled as f64) * 1_000.0 / n as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn detector(config: PhiConfig) -> PhiFailureDetector {
        PhiFailureDetector::new(config).unwrap()
    }

    fn no_pause() -> PhiConfig {
        PhiConfig::default().with_acceptable_pause(Duration::ZERO)
    }

    /// Beats every second from 0 to `last` inclusive, in seconds.
    fn beaten(config: PhiConfig, last: u64) -> PhiFailureDetector {
        let mut d = detector(config);
        for s in 0..=last {
            d.heartbeat(ms(s * 1_000));
        }
        d
    }

    #[test]
    fn phi_agrees_with_the_formula_as_published() {
        for i in -600..=900 {
            let y = f64::from(i) * 0.01;
            let e = (-y * (1.5976 + 0.070566 * y * y)).exp();
            let published = if y > 0.0 { -(e / (1.0 + e)).log10() } else { -(1.0 - 1.0 / (1.0 + e)).log10() };
            let ours = phi(y);
            // The published form loses digits left of the mean, where 1 - 1/(1+e) is close to one.
            assert!(
                (ours - published).abs() <= 1e-9 * published.abs() + 1e-12,
                "phi({y}) = {ours}, {published}"
            );
        }
        for y in [f64::INFINITY, 1e300, 1e9] {
            assert_eq!(phi(y), SUSPICION_MAX);
        }
        assert_eq!(phi(-1e9), 0.0);
    }

    #[test]
    fn the_moment_of_suspicion_inverts_phi() {
        for threshold in [1.0, 1.5, 3.0, 8.0, 10.0, 12.0, 50.0, 100.0] {
            let back = phi(deviations_at(threshold));
            assert!((back - threshold).abs() < 1e-9 * threshold, "{threshold} -> {back}");
        }
    }

    /// Covers: S80, FD-02, TST-60
    #[test]
    fn suspicion_rises_and_crosses_when_the_formula_says() {
        for (name, config) in [
            ("default", PhiConfig::default()),
            ("no pause", no_pause()),
            ("threshold 8", no_pause().with_threshold(8.0)),
            ("wide floor", no_pause().with_min_deviation(Duration::from_millis(700))),
        ] {
            let d = beaten(config.clone(), 300);
            // Mean 1 s, deviation at its floor: solve phi = threshold by bisection on the published formula.
            let (mut low, mut high) = (0.0_f64, 100.0_f64);
            for _ in 0..200 {
                let y = f64::midpoint(low, high);
                let e = (-y * (1.5976 + 0.070566 * y * y)).exp();
                if -(e / (1.0 + e)).log10() < config.threshold { low = y } else { high = y }
            }
            let predicted =
                1.0 + config.acceptable_pause.as_secs_f64() + low * config.min_deviation.as_secs_f64();
            let mut before = -1.0;
            let mut crossed = None;
            for step in 0..20_000 {
                let now = ms(300_000 + step);
                let suspicion = d.suspicion(now);
                assert!(suspicion >= before, "{name}: fell at {now}");
                assert!(suspicion.is_finite());
                assert_eq!(d.is_available(now), suspicion < d.threshold(), "{name} at {now}");
                if suspicion >= d.threshold() && crossed.is_none() {
                    crossed = Some(step as f64 / 1_000.0);
                }
                before = suspicion;
            }
            let crossed = crossed.expect(name);
            assert!((crossed - predicted).abs() <= predicted * 0.01, "{name}: {crossed} not {predicted}");
        }
        let far = beaten(PhiConfig::default(), 3);
        assert_eq!(far.suspicion(Instant::FAR_FUTURE), SUSPICION_MAX);
    }

    #[test]
    fn the_default_gives_up_within_twelve_seconds() {
        for beats in [0, 1, 2, 10, 500] {
            let d = beaten(PhiConfig::default(), beats);
            let silence = d.next_suspicion_at().unwrap() - ms(beats * 1_000);
            assert!(
                silence > Duration::from_secs(11) && silence < Duration::from_secs(12),
                "{beats}: {silence:?}"
            );
        }
    }

    /// Covers: S81
    #[test]
    fn a_first_answer_has_its_own_allowance() {
        let mut d = detector(PhiConfig::default());
        assert!(!d.is_monitoring());
        assert!(d.is_available(ms(1_000_000)), "nothing was asked for yet");
        assert_eq!(d.suspicion(ms(1_000_000)), 0.0);
        d.expect(ms(5_000));
        d.expect(ms(9_000));
        assert!(d.is_monitoring());
        assert!(d.is_available(ms(15_999)));
        assert!(d.suspicion(ms(15_999)) < d.threshold());
        assert!(!d.is_available(ms(16_000)));
        assert!(d.suspicion(ms(16_000)) >= d.threshold());
        assert_eq!(d.next_suspicion_at(), Some(ms(16_000)));
        assert_eq!(d.heartbeat(ms(17_000)), Arrival::First);
        assert!(d.is_available(ms(17_000)));
    }

    /// Covers: S82
    #[test]
    fn an_acceptable_pause_is_not_suspected_and_a_long_one_is_named() {
        let two_thirds = Duration::from_secs(10) / 3 * 2;
        let first_over = two_thirds.as_millis() as u64 + 1;
        for (name, pause_ms, slow) in [
            ("regular", 1_000, false),
            ("half", 5_000, false),
            ("two thirds", first_over - 1, false),
            ("over two thirds", first_over, true),
            ("almost all", 9_999, true),
        ] {
            let mut d = beaten(PhiConfig::default(), 20);
            let now = ms(20_000 + pause_ms);
            assert!(d.is_available(now), "{name}");
            let interval = Duration::from_millis(pause_ms);
            let expected = if slow { Arrival::Slow { interval } } else { Arrival::Regular { interval } };
            assert_eq!(d.heartbeat(now), expected, "{name}");
            // One warning, not one per beat from then on.
            assert!(matches!(d.heartbeat(now + Duration::from_secs(1)), Arrival::Regular { .. }), "{name}");
        }
    }

    /// Covers: S83
    #[test]
    fn an_outage_is_not_learned() {
        let mut d = beaten(PhiConfig::default(), 50);
        let before = d.next_suspicion_at().unwrap() - ms(50_000);
        assert!(!d.is_available(ms(90_000)));
        assert_eq!(d.heartbeat(ms(90_000)), Arrival::Recovered { silence: Duration::from_secs(40) });
        assert!(d.is_available(ms(90_000)));
        assert_eq!(d.next_suspicion_at().unwrap() - ms(90_000), before);
    }

    /// Covers: S84
    #[test]
    fn the_deviation_has_a_floor() {
        for min_ms in [10, 100, 400] {
            let d = beaten(no_pause().with_min_deviation(Duration::from_millis(min_ms)), 1_000);
            let late = ms(1_000_000 + 1_000 + min_ms);
            assert!(d.is_available(late), "floor {min_ms} ms");
            assert!(d.suspicion(late) < 1.0, "one deviation late is everyday");
        }
    }

    /// Covers: S85
    #[test]
    fn duplicates_and_old_beats_change_nothing() {
        let mut d = beaten(PhiConfig::default(), 30);
        let (at, mean, deviation) = (d.next_suspicion_at(), d.intervals.mean(), d.intervals.deviation());
        for now in [ms(30_000), ms(29_999), ms(0), Instant::ZERO] {
            assert_eq!(d.heartbeat(now), Arrival::Ignored);
        }
        assert_eq!(d.next_suspicion_at(), at);
        assert_eq!((d.intervals.mean(), d.intervals.deviation()), (mean, deviation));
        assert_eq!(d.suspicion(ms(10)), d.suspicion(ms(30_000)), "a time before the last beat is no silence");
        d.reset();
        assert!(!d.is_monitoring(), "a new incarnation starts with nothing");
        assert!(d.intervals.samples.is_empty());
    }

    /// Covers: S87
    #[test]
    fn an_own_pause_suspects_nobody_and_saves_no_dead() {
        // Stopped for a minute between two beats: nobody is suspected until a fresh beat could have come.
        let mut d = beaten(no_pause(), 30);
        let woken = ms(91_000);
        assert!(!d.is_available(woken));
        d.local_pause(woken, Duration::from_secs(60));
        assert!(d.is_available(woken));
        assert!(d.suspicion(woken) < d.threshold());
        assert!(d.is_available(woken + Duration::from_millis(999)));
        assert!(!d.is_available(woken + Duration::from_secs(2)), "but the silence goes on counting");
        // The pause is not learned.
        let (mean, back) = (d.intervals.mean(), woken + Duration::from_millis(900));
        assert!(matches!(d.heartbeat(back), Arrival::Regular { .. }));
        assert!((d.intervals.mean() - mean).abs() < nanos(Duration::from_millis(50)));

        // Small lateness is discounted exactly, and never makes up time.
        let mut d = beaten(PhiConfig::default(), 30);
        let at = d.next_suspicion_at().unwrap();
        d.local_pause(ms(31_300), Duration::from_millis(300));
        assert_eq!(d.next_suspicion_at(), Some(at + Duration::from_millis(300)));

        // A peer that was lost before the pause stays lost.
        let mut d = beaten(PhiConfig::default(), 30);
        assert!(!d.is_available(ms(50_000)));
        d.local_pause(ms(110_000), Duration::from_secs(60));
        assert!(!d.is_available(ms(110_000)));

        // A node that is late by two seconds at every tick still finds a dead peer.
        let mut d = beaten(PhiConfig::default(), 30);
        let mut now = ms(30_000);
        let found = (0..100).find(|_| {
            now += Duration::from_secs(3);
            d.local_pause(now, Duration::from_secs(2));
            !d.is_available(now)
        });
        assert!(found.is_some_and(|ticks| ticks < 15), "{found:?}");

        // The allowance for a first answer is treated alike.
        let mut d = detector(PhiConfig::default());
        d.heartbeat_tick(ms(0), ms(0));
        d.heartbeat_tick(ms(60_000), ms(1_000));
        assert!(d.is_available(ms(60_000)));
        assert!(!d.is_available(ms(71_000)));
    }

    #[test]
    fn every_setting_is_checked_and_all_are_listed() {
        let ok = PhiConfig::default();
        let hour = Duration::from_secs(3_600);
        let beyond = hour + Duration::from_nanos(1);
        for (name, config, refused) in [
            ("default", ok.clone(), None),
            ("threshold low", ok.clone().with_threshold(1.0_f64.next_down()), Some("threshold")),
            ("threshold at 1", ok.clone().with_threshold(1.0), None),
            ("threshold at 100", ok.clone().with_threshold(100.0), None),
            ("threshold high", ok.clone().with_threshold(100.1), Some("threshold")),
            ("threshold nan", ok.clone().with_threshold(f64::NAN), Some("threshold")),
            ("samples low", ok.clone().with_samples_max(1), Some("samples_max")),
            ("samples at 2", ok.clone().with_samples_max(2), None),
            ("samples at max", ok.clone().with_samples_max(10_000), None),
            ("samples high", ok.clone().with_samples_max(10_001), Some("samples_max")),
            ("deviation zero", ok.clone().with_min_deviation(Duration::ZERO), Some("min_deviation")),
            ("deviation tiny", ok.clone().with_min_deviation(Duration::from_nanos(1)), None),
            ("pause at an hour", ok.clone().with_acceptable_pause(hour), None),
            ("pause high", ok.clone().with_acceptable_pause(beyond), Some("acceptable_pause")),
            ("interval zero", ok.clone().with_heartbeat_interval(Duration::ZERO), Some("heartbeat_interval")),
            (
                "allowance at the interval",
                ok.clone().with_first_heartbeat_allowance(Duration::from_secs(1)),
                None,
            ),
            (
                "allowance below the interval",
                ok.clone().with_first_heartbeat_allowance(Duration::from_millis(999)),
                Some("first_heartbeat_allowance"),
            ),
        ] {
            let found = PhiFailureDetector::new(config).err().map(|e| e.violations[0].setting.to_string());
            assert_eq!(found.as_deref(), refused, "{name}");
        }
        let all = ok.with_threshold(0.0).with_samples_max(0).with_min_deviation(Duration::ZERO);
        assert_eq!(all.validate().unwrap_err().violations.len(), 3);
    }
}
