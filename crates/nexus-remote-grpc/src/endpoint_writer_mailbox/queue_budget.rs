//! How much memory the queues toward all peers of a node may take together (limit L29).
//!
//! Each queue has bounds of its own, but a peer that calls may have any number of names, and each name has a queue. So from half
//! of what all may take, a queue that has its share of it takes nothing more: those who hold much are refused, and who
//! holds little is served as before.

use std::sync::Arc;

use portable_atomic::{AtomicUsize, Ordering};

/// What is counted at a time, so that a message costs nothing here. A queue smaller than this is not counted.
const CHUNK: usize = 64 * 1024;
/// Memory of an entry beside its payload.
const ENTRY: usize = 128;
/// Of what all may take, what goes to each of the queues in which much waits is this part at least.
const SHARES: usize = 16;

/// What all queues of a node hold.
#[derive(Debug)]
pub(crate) struct QueueBudget {
    /// Bytes, in whole chunks.
    held: AtomicUsize,
    /// Queues that hold some.
    holders: AtomicUsize,
    max: usize,
}

impl QueueBudget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), holders: AtomicUsize::new(0), max })
    }

    /// Whether so much is more than one queue may hold now.
    fn is_too_much(&self, bytes: usize) -> bool {
        bytes >= CHUNK
            && self.held.load(Ordering::Relaxed) >= self.max / 2
            && bytes >= self.max / (SHARES * self.holders.load(Ordering::Relaxed).max(1))
    }
}

/// The part of one queue. Changes under the lock of the queue; what is dropped is given back.
#[derive(Debug, Default)]
pub(crate) struct QueueShare {
    budget: Option<Arc<QueueBudget>>,
    chunks: usize,
    bytes: usize,
}

impl QueueShare {
    pub(crate) const fn of(budget: Arc<QueueBudget>) -> Self {
        Self { budget: Some(budget), chunks: 0, bytes: 0 }
    }

    /// So many messages wait, with so many bytes.
    #[inline]
    pub(crate) fn set(&mut self, messages: usize, bytes: usize) {
        self.bytes = bytes + ENTRY * messages;
        let chunks = self.bytes / CHUNK;
        // One more is kept than is needed: at its edge a queue would count each message.
        if chunks > self.chunks
            || chunks + 1 < self.chunks
            || (chunks == 0 && messages == 0 && self.chunks > 0)
        {
            self.count(chunks);
        }
    }

    fn count(&mut self, chunks: usize) {
        let Some(budget) = &self.budget else { return };
        let before = std::mem::replace(&mut self.chunks, chunks);
        if chunks > before {
            budget.held.fetch_add((chunks - before) * CHUNK, Ordering::Relaxed);
        } else {
            budget.held.fetch_sub((before - chunks) * CHUNK, Ordering::Relaxed);
        }
        if before == 0 {
            budget.holders.fetch_add(1, Ordering::Relaxed);
        } else if chunks == 0 {
            budget.holders.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether nothing more is to be taken.
    pub(crate) fn is_full(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_too_much(self.bytes))
    }
}

impl Drop for QueueShare {
    fn drop(&mut self) {
        if self.chunks > 0 {
            self.count(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: L29
    #[test]
    fn who_holds_much_is_refused_and_who_holds_little_is_not() {
        let budget = QueueBudget::new(64 * CHUNK);
        let mut large = QueueShare::of(budget.clone());
        let mut small = QueueShare::of(budget.clone());
        large.set(0, 32 * CHUNK - 1);
        assert!(!large.is_full(), "below half of all");
        large.set(0, 32 * CHUNK);
        assert!(large.is_full());
        small.set(1, CHUNK - ENTRY - 1);
        assert!(!small.is_full(), "it is not even counted");
        small.set(1, 2 * CHUNK - ENTRY - 1);
        assert!(!small.is_full(), "below its share, which is two chunks of two queues");
        small.set(1, 2 * CHUNK - ENTRY);
        assert!(small.is_full());
        large.set(0, 29 * CHUNK);
        assert!(!small.is_full() && !large.is_full(), "it was worked off");
        drop(large);
        small.set(0, 0);
        assert_eq!((budget.held.load(Ordering::Relaxed), budget.holders.load(Ordering::Relaxed)), (0, 0));
    }

    /// However many queues there are, all together hold little more than they may.
    #[test]
    fn any_number_of_queues_hold_no_more_than_they_may() {
        let budget = QueueBudget::new(1 << 30);
        let mut queues = Vec::new();
        for _ in 0..1_000 {
            let mut queue = QueueShare::of(budget.clone());
            let mut bytes = 0;
            while !queue.is_full() && bytes < 64 << 20 {
                bytes += 32 * 1024;
                queue.set(0, bytes);
            }
            queues.push(queue);
        }
        let held = budget.held.load(Ordering::Relaxed);
        assert!((1 << 29..1 << 30).contains(&held), "{held}");
        drop(queues);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
