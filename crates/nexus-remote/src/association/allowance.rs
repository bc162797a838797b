//! How many system messages a peer may send in what time (limit L17).

use core::time::Duration;

use nexus_actor_core::Instant;

/// A bucket that fills at a constant rate, kept as the time at which it is full again. What is taken beyond it, since
/// it was read already, is a debt: the next has to wait for it.
#[derive(Debug)]
pub(super) struct Allowance {
    /// The time of one.
    each: Duration,
    /// The time of a whole bucket.
    whole: Duration,
    full_at: Instant,
}

impl Allowance {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let each = Duration::from_secs(1) / per_second.max(1);
        Self { each, whole: each.saturating_mul(burst), full_at: Instant::ZERO }
    }

    /// Takes one; when the next may be read, if that is not now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        self.full_at = self.full_at.max(now) + self.each;
        let taken = self.full_at - now;
        (taken > self.whole).then(|| now + (taken - self.whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L17: below, at and above the limit, at once and over time.
    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let mut now = Instant::from_millis(5);
        let ms = Duration::from_millis(1);
        let mut allowance = Allowance::new(1_000, 3);
        for (n, wait) in [(1, None), (2, None), (3, None), (4, Some(1)), (5, Some(2))] {
            assert_eq!(allowance.take(now), wait.map(|n| now + n * ms), "{n}");
        }
        now += 2 * ms;
        // The debt is paid, and nothing is left.
        assert_eq!(allowance.take(now), Some(now + ms));
        for _ in 0..10_000 {
            now += ms;
            assert_eq!(allowance.take(now), Some(now + ms));
        }
        now += 2 * ms;
        assert_eq!(allowance.take(now), None);
        // A long pause is worth a whole bucket and no more.
        now += Duration::from_secs(3_600);
        assert_eq!((0..4).filter_map(|_| allowance.take(now)).count(), 1);
    }
}
