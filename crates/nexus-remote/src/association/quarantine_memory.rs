//! Refused incarnations that outlive their associations.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashMap;
use nexus_actor_core::Instant;
use nexus_actor_core::path::Address;

use super::quarantine::QuarantinedUid;

/// The refused incarnations of addresses whose associations are gone, until there is one again (L21). Bounded:
/// the address kept longest goes first.
#[derive(Debug)]
pub struct QuarantineMemory {
    addresses: HashMap<Address, (u64, Vec<QuarantinedUid>)>,
    /// The order in which they were kept.
    order: BTreeMap<u64, Address>,
    next: u64,
    uids: usize,
    uids_max: usize,
    keep: Duration,
}

impl QuarantineMemory {
    /// A memory of at most `uids_max` incarnations, each refused for `keep` unless it has a deadline.
    #[must_use]
    pub fn new(uids_max: usize, keep: Duration) -> Self {
        Self { addresses: HashMap::new(), order: BTreeMap::new(), next: 0, uids: 0, uids_max, keep }
    }

    /// Keeps what the association with `address` refused; what has ended is not kept.
    pub fn keep(&mut self, now: Instant, address: &Address, uids: impl IntoIterator<Item = QuarantinedUid>) {
        let before = self.take(now, address);
        let held: Vec<_> = before.into_iter().chain(uids).filter(|entry| self.holds(now, entry)).collect();
        if held.is_empty() {
            return;
        }
        self.uids += held.len();
        self.next += 1;
        self.order.insert(self.next, address.clone());
        self.addresses.insert(address.clone(), (self.next, held));
        while self.uids > self.uids_max && self.order.len() > 1 {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.uids -= self.addresses.remove(&oldest).map_or(0, |(_, uids)| uids.len());
        }
    }

    /// Takes what is still refused at `address`, for its next association.
    pub fn take(&mut self, now: Instant, address: &Address) -> Vec<QuarantinedUid> {
        let Some((order, mut uids)) = self.addresses.remove(address) else { return Vec::new() };
        self.order.remove(&order);
        self.uids -= uids.len();
        uids.retain(|entry| self.holds(now, entry));
        uids
    }

    fn holds(&self, now: Instant, entry: &QuarantinedUid) -> bool {
        entry.deadline.map_or(now - entry.since < self.keep, |at| now < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::association::quarantine::tests::entry;

    /// L21: below, at and above the limit of a node.
    #[test]
    fn a_node_remembers_so_many_and_forgets_the_oldest() {
        let at = |n: u64| alloc::format!("fraktor.tcp://b@h:{n}").parse::<Address>().unwrap();
        let hour = Duration::from_secs(3_600);
        for count in [3, 4, 5, 9] {
            let mut memory = QuarantineMemory::new(4, hour);
            for n in 1..=count {
                memory.keep(Instant::ZERO, &at(n), [entry(n, None)]);
            }
            for n in 1..=count {
                let kept = memory.take(Instant::ZERO, &at(n));
                assert_eq!(kept.len(), usize::from(n + 4 > count), "{n} of {count}");
            }
            assert_eq!((memory.uids, memory.order.len()), (0, 0));
        }
        let mut memory = QuarantineMemory::new(4, hour);
        memory.keep(Instant::ZERO, &at(1), (1..=9).map(|uid| entry(uid, None)));
        memory.keep(Instant::ZERO, &at(1), [entry(10, Some(50))]);
        assert_eq!(memory.take(Instant::from_millis(49), &at(1)).len(), 10, "the newest address stays whole");
        memory.keep(Instant::ZERO, &at(1), [entry(1, Some(50)), entry(2, None)]);
        let left = |memory: &mut QuarantineMemory, now: u64| {
            let left = memory.take(Instant::from_millis(now), &at(1));
            memory.keep(Instant::from_millis(now), &at(1), left.iter().copied());
            left.iter().map(|e| e.uid.get()).collect::<Vec<_>>()
        };
        assert_eq!(left(&mut memory, 49), [1, 2]);
        assert_eq!(left(&mut memory, 50), [2], "its deadline has passed");
        assert_eq!(left(&mut memory, 3_600_001), [2]);
        assert_eq!(left(&mut memory, 3_600_002), [0; 0], "it has been refused for long enough");
        assert!(memory.addresses.is_empty());
    }
}
