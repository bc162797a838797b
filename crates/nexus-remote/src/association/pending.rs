//! Asks that wait for the peer's answer.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use nexus_actor_core::remote::{PendingReply, ReplyKey};

struct Entry {
    secret: u64,
    /// The session run in which the question was framed; an earlier one's answer cannot come any more.
    era: u64,
    ask: Arc<dyn PendingReply>,
}

/// Entries that one look for asks nobody waits for goes on by.
const STEP: usize = 256;

/// The asks of one association (L19), keyed by a slot and 64 random bits.
///
/// The upper 16 bits of a slot are the association's own number in its node, so that an answer that comes by
/// another association is led here by its slot alone.
pub(super) struct PendingAsks {
    slots: Vec<Option<Entry>>,
    free: Vec<u16>,
    count: usize,
    max: usize,
    prefix: u32,
    /// Where the next look for asks that nobody waits for begins.
    hand: usize,
}

impl PendingAsks {
    pub(super) const fn new(max: usize, prefix: u16) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), count: 0, max, prefix: (prefix as u32) << 16, hand: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// Gives an ask its key; `None` when the table is full.
    pub(super) fn insert(
        &mut self,
        ask: Arc<dyn PendingReply>,
        era: u64,
        rng: &mut fastrand::Rng,
    ) -> Option<ReplyKey> {
        if self.count >= self.max {
            return None;
        }
        let entry = Some(Entry { secret: rng.u64(..), era, ask });
        let secret = entry.as_ref().map_or(0, |e| e.secret);
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[usize::from(index)] = entry;
                index
            }
            None => {
                let index = u16::try_from(self.slots.len()).ok()?;
                self.slots.push(entry);
                index
            }
        };
        self.count += 1;
        Some(ReplyKey { secret, slot: self.prefix | u32::from(index) })
    }

    fn index(&self, key: ReplyKey) -> Option<usize> {
        if key.slot & 0xffff_0000 != self.prefix {
            return None;
        }
        let index = (key.slot & 0xffff) as usize;
        let entry = self.slots.get(index)?.as_ref()?;
        (entry.secret == key.secret).then_some(index)
    }

    /// Takes the ask with this whole key; a wrong, late or foreign key finds none.
    pub(super) fn take(&mut self, key: ReplyKey) -> Option<Arc<dyn PendingReply>> {
        let index = self.index(key)?;
        let entry = self.slots[index].take()?;
        // An index is at most 16 bits.
        self.free.push(index as u16);
        self.count -= 1;
        Some(entry.ask)
    }

    /// The question of `key` has been framed anew in the run `era`.
    pub(super) fn carry(&mut self, key: ReplyKey, era: u64) {
        if let Some(index) = self.index(key)
            && let Some(entry) = &mut self.slots[index]
        {
            entry.era = era;
        }
    }

    /// Takes every ask whose question was framed before the run `era`.
    pub(super) fn take_before(&mut self, era: u64) -> Vec<Arc<dyn PendingReply>> {
        self.take_if(0..self.slots.len(), |entry| entry.era < era)
    }

    /// Takes those asks that nobody waits for any more among the next [`STEP`] entries.
    pub(super) fn take_over(&mut self) -> Vec<Arc<dyn PendingReply>> {
        let from = if self.hand < self.slots.len() { self.hand } else { 0 };
        let to = (from + STEP).min(self.slots.len());
        self.hand = to;
        self.take_if(from..to, |entry| entry.ask.is_over())
    }

    fn take_if(
        &mut self,
        among: Range<usize>,
        mut test: impl FnMut(&Entry) -> bool,
    ) -> Vec<Arc<dyn PendingReply>> {
        let mut taken = Vec::new();
        if self.count == 0 {
            return taken;
        }
        let first = among.start;
        for (index, slot) in (first..).zip(self.slots.get_mut(among).unwrap_or_default()) {
            if slot.as_ref().is_some_and(&mut test)
                && let Some(entry) = slot.take()
            {
                self.free.push(index as u16);
                self.count -= 1;
                taken.push(entry.ask);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};
    use nexus_actor_core::AskError;
    use nexus_actor_core::remote::Route;
    use nexus_actor_core::serialization::DecodeError;

    struct Nobody;
    impl PendingReply for Nobody {
        fn complete(&self, _: &[u8]) -> Result<(), DecodeError> {
            Ok(())
        }
        fn fail(&self, _: AskError) {}
        fn pending_at(&self, _: Option<(Arc<dyn Route>, ReplyKey)>) {}
        fn is_over(&self) -> bool {
            false
        }
    }

    /// L19: below, at and above the limit; a key is good once and only as a whole.
    #[test]
    fn a_key_is_good_once_and_as_a_whole() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut asks = PendingAsks::new(65_536, 7);
        let keys: Vec<_> = (0..65_536).filter_map(|_| asks.insert(Arc::new(Nobody), 1, &mut rng)).collect();
        assert_eq!((keys.len(), asks.len()), (65_536, 65_536));
        assert_eq!(asks.insert(Arc::new(Nobody), 1, &mut rng), None);
        assert!(keys.iter().all(|k| k.slot >> 16 == 7));

        let key = keys[40_000];
        for (name, wrong) in [
            ("secret", ReplyKey { secret: key.secret ^ 1, ..key }),
            ("association", ReplyKey { slot: key.slot ^ 0x1_0000, ..key }),
            ("slot", ReplyKey { slot: key.slot ^ 1, ..key }),
        ] {
            assert!(asks.take(wrong).is_none(), "{name}");
        }
        assert!(asks.take(key).is_some());
        assert!(asks.take(key).is_none(), "twice");
        let anew = asks.insert(Arc::new(Nobody), 2, &mut rng).unwrap();
        assert_eq!(anew.slot, key.slot);
        assert!(asks.take(key).is_none(), "a late answer must not reach the slot's next ask");
        asks.carry(keys[3], 2);
        assert_eq!(asks.take_before(2).len(), 65_534);
        assert_eq!(asks.len(), 2);
    }

    /// Counts how often it is asked whether it is over.
    struct Asked(&'static AtomicUsize, bool);
    impl PendingReply for Asked {
        fn complete(&self, _: &[u8]) -> Result<(), DecodeError> {
            Ok(())
        }
        fn fail(&self, _: AskError) {}
        fn pending_at(&self, _: Option<(Arc<dyn Route>, ReplyKey)>) {}
        fn is_over(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            self.1
        }
    }

    /// A look at a full table costs the same however many wait, and every place has its turn.
    #[test]
    fn a_look_for_asks_that_are_over_is_short_and_gets_around() {
        static LOOKS: AtomicUsize = AtomicUsize::new(0);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut asks = PendingAsks::new(65_536, 0);
        for n in 0..65_536 {
            let over = [0, 255, 256, 65_535].contains(&n);
            assert!(asks.insert(Arc::new(Asked(&LOOKS, over)), 1, &mut rng).is_some());
        }
        assert_eq!(asks.take_over().len(), 2);
        assert_eq!(LOOKS.load(Ordering::Relaxed), STEP);
        assert_eq!(asks.take_over().len(), 1);
        let rest: usize = (2..65_536 / STEP).map(|_| asks.take_over().len()).sum();
        assert_eq!((rest, asks.len()), (1, 65_532));
        assert_eq!(LOOKS.load(Ordering::Relaxed), 65_536);
        // Around again.
        assert!(asks.take_over().is_empty());
        assert_eq!(LOOKS.load(Ordering::Relaxed), 65_536 + STEP - 2);
    }
}
