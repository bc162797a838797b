//! A queue of a fixed or growing capacity that gives back what it has no room for.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

/// Why a queue did not take a value.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueError<T> {
    /// The queue holds its capacity; this is the value that was offered.
    OfferError(T),
}

impl<T> QueueError<T> {
    /// The value that was offered.
    #[must_use]
    pub fn into_inner(self) -> T {
        match self {
            Self::OfferError(value) => value,
        }
    }
}

impl<T> fmt::Debug for QueueError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfferError(_) => f.write_str("OfferError(..)"),
        }
    }
}

impl<T> fmt::Display for QueueError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfferError(_) => f.write_str("queue full"),
        }
    }
}

impl<T> core::error::Error for QueueError<T> {}

/// First in, first out, over a ring buffer.
///
/// The capacity is a bound and not a reservation: memory is taken as values come. A fixed queue, which is the
/// default, refuses the newest value when full; a dynamic one doubles its capacity instead and is bounded by
/// memory alone. Not synchronized: its owner keeps it behind its own lock.
#[derive(Clone, Debug)]
pub struct RingQueue<T> {
    ring: VecDeque<T>,
    capacity: usize,
    dynamic: bool,
}

impl<T> RingQueue<T> {
    /// A fixed queue for `capacity` values. With capacity 0 it takes none.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { ring: VecDeque::new(), capacity, dynamic: false }
    }

    /// The same queue, growing when full (`true`) or fixed (`false`).
    #[must_use]
    pub const fn with_dynamic(mut self, dynamic: bool) -> Self {
        self.dynamic = dynamic;
        self
    }

    /// Appends `value`.
    ///
    /// # Errors
    /// [`QueueError::OfferError`] with the value when the queue is fixed and full; nothing changed.
    pub fn offer(&mut self, value: T) -> Result<(), QueueError<T>> {
        if self.ring.len() >= self.capacity {
            if !self.dynamic {
                return Err(QueueError::OfferError(value));
            }
            self.capacity = self.capacity.saturating_mul(2).max(1);
        }
        self.ring.push_back(value);
        Ok(())
    }

    /// Takes the oldest value.
    pub fn poll(&mut self) -> Option<T> {
        self.ring.pop_front()
    }

    /// Takes up to `max` of the oldest values, oldest first.
    ///
    /// # Source
    /// `PopMany` of protoactor-go's ring queue.
    pub fn poll_many(&mut self, max: usize) -> Vec<T> {
        let count = max.min(self.ring.len());
        self.ring.drain(..count).collect()
    }

    /// Moves up to `max` of the oldest values to the end of `into` and returns how many. Lets a batch's buffer be
    /// used again.
    pub fn poll_many_into(&mut self, max: usize, into: &mut impl Extend<T>) -> usize {
        let count = max.min(self.ring.len());
        into.extend(self.ring.drain(..count));
        count
    }

    /// How many values wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// How many values fit before a fixed queue refuses or a dynamic one grows.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether it grows when full.
    #[must_use]
    pub const fn is_dynamic(&self) -> bool {
        self.dynamic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: RT-12, RT-13, API-19, API-20
    #[test]
    fn a_fixed_queue_refuses_the_newest_and_gives_it_back() {
        for capacity in [0_usize, 1, 2, 7] {
            let mut queue = RingQueue::new(capacity).with_dynamic(false);
            for value in 0..capacity {
                assert_eq!(queue.offer(value), Ok(()), "capacity {capacity}");
            }
            assert_eq!(queue.offer(99), Err(QueueError::OfferError(99)), "capacity {capacity}");
            assert_eq!((queue.len(), queue.capacity()), (capacity, capacity));
            if queue.poll().is_some() {
                assert_eq!(queue.offer(99), Ok(()), "room again");
            }
        }
    }

    #[test]
    fn a_dynamic_queue_grows() {
        for capacity in [0, 1, 4] {
            let mut queue = RingQueue::new(capacity).with_dynamic(true);
            for value in 0..100 {
                assert_eq!(queue.offer(value), Ok(()));
                assert!(queue.len() <= queue.capacity());
            }
            assert_eq!(queue.poll_many(1000), (0..100).collect::<Vec<_>>());
        }
    }

    /// Covers: RT-14, API-19
    #[test]
    fn many_are_taken_in_order_across_the_end_of_the_ring() {
        let mut queue = RingQueue::new(8);
        let (mut offered, mut polled) = (0, 0);
        for round in 0..50 {
            while queue.offer(offered).is_ok() {
                offered += 1;
            }
            let max = round % 10;
            let batch = queue.poll_many(max);
            assert_eq!(batch.len(), max.min(8));
            for value in batch {
                assert_eq!(value, polled);
                polled += 1;
            }
        }
        while queue.offer(offered).is_ok() {
            offered += 1;
        }
        let mut rest = Vec::new();
        assert_eq!(queue.poll_many_into(3, &mut rest), 3);
        assert_eq!(queue.poll_many_into(usize::MAX, &mut rest), queue.capacity() - 3);
        assert_eq!(rest, (polled..offered).collect::<Vec<_>>());
        assert_eq!((queue.poll(), queue.is_empty()), (None, true));
    }
}
