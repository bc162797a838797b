//! When to dial again.

use core::time::Duration;

use nexus_actor_core::Instant;

use super::config::{AssociationConfig, ReconnectPolicy};

/// Counts failed attempts and says how long to wait after each.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Failures in a row.
    failures: u32,
    /// Since when every dial was refused by a host that is up.
    refused_since: Option<Instant>,
}

impl Backoff {
    /// The attempt under way, counting from 1.
    pub(super) const fn attempt(&self) -> u32 {
        self.failures.saturating_add(1)
    }

    pub(super) const fn reset(&mut self) {
        self.failures = 0;
        self.refused_since = None;
    }

    /// Notes a failed attempt and returns the wait before the next.
    ///
    /// A host that refuses is up with nobody listening, so a restarted peer is expected any moment: for the
    /// first minute the wait stays short. A proxy may refuse on behalf of a living peer, hence both numbers are
    /// configuration.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        refused: bool,
        config: &AssociationConfig,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        let wait = match config.reconnect_policy() {
            ReconnectPolicy::Fixed(wait) => wait,
            ReconnectPolicy::Exponential { min, max } => {
                min.saturating_mul(1_u32 << self.failures.min(20)).min(max)
            }
        };
        self.failures = self.failures.saturating_add(1);
        let mut ceiling = Duration::MAX;
        if refused {
            let since = *self.refused_since.get_or_insert(now);
            if now - since < config.refused_window() {
                ceiling = config.refused_delay_max();
            }
        } else {
            self.refused_since = None;
        }
        let jitter = config.reconnect_jitter();
        // The ceilings hold with the jitter: it only ever shortens what is at one.
        let factor = 1.0 - jitter + 2.0 * jitter * rng.f64();
        let bound = match config.reconnect_policy() {
            ReconnectPolicy::Fixed(_) => Duration::MAX,
            ReconnectPolicy::Exponential { max, .. } => max,
        };
        wait.min(ceiling).mul_f64(factor).min(ceiling).min(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn run(config: &AssociationConfig, refused: bool, count: usize) -> Vec<Duration> {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::default();
        let mut now = Instant::ZERO;
        (0..count)
            .map(|_| {
                let wait = backoff.failed(now, refused, config, &mut rng);
                now += wait;
                wait
            })
            .collect()
    }

    /// Covers: S7
    #[test]
    fn waits_grow_between_their_bounds_with_jitter() {
        let config = AssociationConfig::builder().build().unwrap();
        let waits = run(&config, false, 40);
        for (i, (wait, base)) in waits.iter().zip([200, 400, 800, 1_600, 3_200, 5_000, 5_000]).enumerate() {
            let base = Duration::from_millis(base);
            assert!(*wait >= base.mul_f64(0.8) && *wait <= base.mul_f64(1.2), "{i}: {wait:?}");
            assert!(*wait <= Duration::from_secs(5), "{i}: {wait:?}");
        }
        assert!(waits[10..].iter().all(|w| *w >= Duration::from_secs(4)));
        assert!(waits[10..].windows(2).any(|w| w[0] != w[1]), "no jitter");
    }

    /// Covers: S10
    #[test]
    fn refused_dials_wait_at_most_half_a_second_for_a_minute() {
        let config = AssociationConfig::builder().build().unwrap();
        let waits = run(&config, true, 400);
        let mut at = Duration::ZERO;
        for wait in waits {
            if at < Duration::from_secs(60) {
                assert!(wait <= Duration::from_millis(500), "at {at:?}: {wait:?}");
            } else {
                assert!(wait >= Duration::from_secs(4), "at {at:?}: {wait:?}");
            }
            at += wait;
        }
    }

    #[test]
    fn a_fixed_policy_does_not_grow() {
        let config = AssociationConfig::builder()
            .reconnect_policy(ReconnectPolicy::Fixed(Duration::from_secs(2)))
            .reconnect_jitter(0.0)
            .build()
            .unwrap();
        assert!(run(&config, false, 9).iter().all(|w| *w == Duration::from_secs(2)));
    }
}
