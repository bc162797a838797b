//! One place of the ring, written and read without a lock.

use core::sync::atomic::fence;

use portable_atomic::{AtomicU64, Ordering};

/// One line of the ring: a cache line of its own, so that neighbours written by two threads do not fight.
///
/// `stamp` is 0 at first, `2n + 1` while entry `n` is being written and `2n + 2` once it is complete.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Slot {
    pub(super) stamp: AtomicU64,
    pub(super) words: [AtomicU64; WORDS],
}

pub(super) const WORDS: usize = 6;

impl Slot {
    /// Writes entry `number`; false if another writer has the slot.
    #[inline]
    pub(super) fn write(&self, number: u64, words: [u64; WORDS]) -> bool {
        let writing = number.wrapping_mul(2).wrapping_add(1);
        let before = self.stamp.load(Ordering::Relaxed);
        // Odd: a writer that is a whole ring behind is still in here. Larger: one that is ahead has been here.
        // Either way waiting would block, so this entry is given up and counted.
        if before & 1 == 1
            || before > writing
            || self.stamp.compare_exchange(before, writing, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // A reader that sees any of the words below also sees the odd stamp after its own fence.
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.stamp.store(writing + 1, Ordering::Release);
        true
    }

    /// Entry `number`, unless it is being written or has been replaced. `between` runs between the two looks at
    /// the stamp.
    #[inline]
    pub(super) fn read(&self, number: u64, between: impl FnOnce()) -> Option<[u64; WORDS]> {
        let complete = number.wrapping_mul(2).wrapping_add(2);
        if self.stamp.load(Ordering::Acquire) != complete {
            return None;
        }
        let mut words = [0; WORDS];
        for (value, word) in words.iter_mut().zip(&self.words) {
            *value = word.load(Ordering::Relaxed);
        }
        between();
        fence(Ordering::Acquire);
        (self.stamp.load(Ordering::Relaxed) == complete).then_some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_replaced_while_it_is_read_is_detected() {
        let slot = Slot::default();
        assert!(slot.write(0, [10; WORDS]));
        assert_eq!(slot.read(0, || ()), Some([10; WORDS]));
        // Replaced whole, and caught in the middle, between the reader's two looks.
        assert_eq!(slot.read(0, || assert!(slot.write(4, [11; WORDS]))), None);
        assert_eq!(slot.read(4, || slot.stamp.store(17, Ordering::Relaxed)), None);
        // A writer overtaken by a whole ring does not overwrite the newer entry.
        let slot = Slot::default();
        assert!(slot.write(4, [12; WORDS]));
        assert!(!slot.write(0, [13; WORDS]));
        assert_eq!(slot.read(4, || ()), Some([12; WORDS]));
    }
}
