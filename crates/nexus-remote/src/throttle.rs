//! Lets a storm of like events be a few with counts.

use alloc::collections::BTreeMap;
use core::time::Duration;

use nexus_actor_core::Instant;

/// Lets one event of each kind through in a while and counts the rest (L27, S144). Of kinds it knows a bounded
/// number; what finds no place counts as one kind more.
#[derive(Debug)]
pub struct Throttle<K> {
    kinds: BTreeMap<K, Held>,
    others: Option<Held>,
    every: Duration,
    kinds_max: usize,
    /// Until then no kind of a full table has rested, so none is looked for: strangers choose kinds, and each would cost a
    /// pass over all.
    crowded_until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    /// When one was last let through.
    last: Instant,
    back: u64,
}

impl<K: Ord> Throttle<K> {
    /// Lets one of each kind through in `every`, for up to `kinds_max` kinds.
    #[must_use]
    pub const fn new(every: Duration, kinds_max: usize) -> Self {
        Self { kinds: BTreeMap::new(), others: None, every, kinds_max, crowded_until: Instant::ZERO }
    }

    /// Whether this one of `kind` is let through: then how many were held back since the last.
    pub fn pass(&mut self, now: Instant, kind: K) -> Option<u64> {
        let every = self.every;
        if let Some(held) = self.kinds.get_mut(&kind) {
            return held.pass(now, every);
        }
        if self.kinds.len() >= self.kinds_max && now >= self.crowded_until {
            let mut back = 0;
            self.kinds.retain(|_, held| {
                let stays = now - held.last < every;
                if !stays {
                    back += held.back;
                }
                stays
            });
            let oldest = self.kinds.values().map(|held| held.last).min();
            self.crowded_until = oldest.map_or(now, |last| last + every);
            if back > 0 {
                self.others.get_or_insert(Held { last: now, back: 0 }).back += back;
            }
        }
        if self.kinds.len() < self.kinds_max {
            self.kinds.insert(kind, Held { last: now, back: 0 });
            return Some(0);
        }
        match &mut self.others {
            Some(held) => held.pass(now, every),
            others => {
                *others = Some(Held { last: now, back: 0 });
                Some(0)
            }
        }
    }
}

impl Held {
    fn pass(&mut self, now: Instant, every: Duration) -> Option<u64> {
        if now - self.last < every {
            self.back += 1;
            return None;
        }
        self.last = now;
        Some(core::mem::take(&mut self.back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(100);

    #[test]
    fn one_of_each_kind_passes_and_carries_the_count_of_the_rest() {
        let ms = Instant::from_millis;
        let mut throttle = Throttle::new(EVERY, 10);
        assert_eq!(throttle.pass(ms(0), 'a'), Some(0));
        for n in 0..99 {
            assert_eq!(throttle.pass(ms(n), 'a'), None);
            assert_eq!(throttle.pass(ms(n), 'b'), (n == 0).then_some(0), "{n}");
        }
        assert_eq!(throttle.pass(ms(99), 'a'), None);
        assert_eq!(throttle.pass(ms(100), 'a'), Some(100));
        assert_eq!(throttle.pass(ms(101), 'a'), None);
        assert_eq!(throttle.pass(ms(200), 'b'), Some(98));
    }

    /// L27: below, at and above the number of kinds.
    #[test]
    fn kinds_beyond_the_limit_are_one_kind() {
        let ms = Instant::from_millis;
        let mut throttle = Throttle::new(EVERY, 3);
        for kind in 0..1_000 {
            let passed = throttle.pass(ms(1), kind);
            assert_eq!(passed, (kind <= 3).then_some(0), "{kind}");
            assert!(throttle.kinds.len() <= 3);
        }
        assert_eq!(throttle.pass(ms(2), 0), None);
        // The kinds that have rested make room; what they held back is told with the others.
        assert_eq!(throttle.pass(ms(101), 7), Some(0));
        for kind in 8..10 {
            assert_eq!(throttle.pass(ms(101), kind), Some(0));
        }
        assert_eq!(throttle.pass(ms(101), 99), Some(997));
    }
}
