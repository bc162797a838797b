//! Which incarnations of a peer are refused, why and until when.

use alloc::collections::VecDeque;
use core::time::Duration;

use nexus_actor_core::Instant;
use nexus_actor_core::path::ActorUid;

use crate::wire::QuarantineReason;

/// One refused incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantinedUid {
    /// The incarnation.
    pub uid: ActorUid,
    /// Why.
    pub reason: QuarantineReason,
    /// Since when.
    pub since: Instant,
    /// When it ends by itself; `None` for never.
    pub deadline: Option<Instant>,
}

/// The refused incarnations of one address (L21): the oldest goes when there are too many, never the newest.
#[derive(Debug, Default)]
pub(super) struct QuarantineBook {
    entries: VecDeque<QuarantinedUid>,
}

impl QuarantineBook {
    pub(super) fn insert(&mut self, entry: QuarantinedUid, max: usize) {
        self.entries.retain(|e| e.uid != entry.uid);
        while self.entries.len() >= max.max(1) {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    pub(super) fn remove(&mut self, uid: ActorUid) {
        self.entries.retain(|e| e.uid != uid);
    }

    /// The entry of `uid`, if it still holds at `now`.
    pub(super) fn get(&self, uid: ActorUid, now: Instant) -> Option<&QuarantinedUid> {
        self.entries.iter().find(|e| e.uid == uid && e.deadline.is_none_or(|at| now < at))
    }

    /// Drops what has ended by itself, and what is older than `keep`; the newest stays in any case.
    pub(super) fn expire(&mut self, now: Instant, keep: Duration) {
        let newest = self.entries.back().map(|e| e.uid);
        self.entries.retain(|e| match e.deadline {
            Some(at) => now < at,
            None => Some(e.uid) == newest || now - e.since < keep,
        });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &QuarantinedUid> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn entry(uid: u64, deadline: Option<u64>) -> QuarantinedUid {
        QuarantinedUid {
            uid: ActorUid::new(uid),
            reason: QuarantineReason::ByOperator,
            since: Instant::from_millis(uid),
            deadline: deadline.map(Instant::from_millis),
        }
    }

    /// L21: below, at and above the limit.
    #[test]
    fn the_oldest_goes_and_the_newest_stays() {
        for count in [15_u64, 16, 17, 1_000] {
            let mut book = QuarantineBook::default();
            for uid in 1..=count {
                book.insert(entry(uid, None), 16);
            }
            assert_eq!(book.iter().count() as u64, count.min(16));
            assert!(book.get(ActorUid::new(count), Instant::ZERO).is_some());
            assert_eq!(book.get(ActorUid::new(1), Instant::ZERO).is_some(), count <= 16, "{count}");
            book.expire(Instant::from_millis(10_000_000), Duration::from_secs(3_600));
            assert_eq!(book.iter().map(|e| e.uid.get()).collect::<Vec<_>>(), [count]);
        }
    }

    #[test]
    fn a_deadline_ends_it() {
        let mut book = QuarantineBook::default();
        book.insert(entry(1, Some(100)), 16);
        assert!(book.get(ActorUid::new(1), Instant::from_millis(99)).is_some());
        assert!(book.get(ActorUid::new(1), Instant::from_millis(100)).is_none());
        book.expire(Instant::from_millis(100), Duration::from_secs(1));
        assert_eq!(book.iter().count(), 0);
    }
}
