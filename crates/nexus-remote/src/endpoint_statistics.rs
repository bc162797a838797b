//! What is counted of one endpoint, on either wire.

use portable_atomic::{AtomicU64, Ordering};

/// Live figures of the endpoint of one address. Written by whoever queues, sends or reconnects, read when somebody looks:
/// plain atomics, no lock.
///
/// A figure is exact by itself; two figures read one after the other may belong to different moments.
#[derive(Debug, Default)]
pub struct EndpointStatistics {
    queue_capacity: AtomicU64,
    queue_size: AtomicU64,
    dead_letters: AtomicU64,
    sent: AtomicU64,
    send_failures: AtomicU64,
    reconnect_attempts: AtomicU64,
    unknown: AtomicU64,
    received: AtomicU64,
}

/// The figures of an endpoint at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStatisticsSnapshot {
    /// Messages that fit into the queue.
    pub queue_capacity: u64,
    /// Messages that wait in it.
    pub queue_size: u64,
    /// Messages toward this address that became dead letters.
    pub dead_letters: u64,
    /// Messages handed to the wire.
    pub sent: u64,
    /// Messages that could not be handed to the wire, and batches refused by it.
    pub send_failures: u64,
    /// Attempts to connect again.
    pub reconnect_attempts: u64,
    /// Of the messages sent, those that a broken stream had taken and nobody can tell of.
    pub unknown: u64,
    /// Messages that came from this address.
    pub received: u64,
}

impl EndpointStatistics {
    /// All at zero, with a queue of `queue_capacity` messages.
    #[must_use]
    pub fn new(queue_capacity: u64) -> Self {
        let statistics = Self::default();
        statistics.queue_capacity.store(queue_capacity, Ordering::Relaxed);
        statistics
    }

    /// Notes how full the queue is.
    pub fn record_queue_state(&self, capacity: u64, size: u64) {
        self.queue_capacity.store(capacity, Ordering::Relaxed);
        self.queue_size.store(size, Ordering::Relaxed);
    }

    /// Counts one dead letter.
    pub fn increment_dead_letter(&self) {
        self.add_dead_letters(1);
    }

    /// Counts `count` dead letters.
    pub fn add_dead_letters(&self, count: u64) {
        self.dead_letters.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts messages handed to the wire.
    pub fn add_sent(&self, count: u64) {
        self.sent.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts messages that could not be handed to the wire.
    pub fn add_send_failures(&self, count: u64) {
        self.send_failures.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts one attempt to connect again.
    pub fn increment_reconnect_attempt(&self) {
        self.reconnect_attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts messages that a broken stream had taken.
    pub fn add_unknown(&self, count: u64) {
        self.unknown.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts messages that came in.
    pub fn add_received(&self, count: u64) {
        self.received.fetch_add(count, Ordering::Relaxed);
    }

    /// The figures now.
    #[must_use]
    pub fn snapshot(&self) -> EndpointStatisticsSnapshot {
        let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        EndpointStatisticsSnapshot {
            queue_capacity: get(&self.queue_capacity),
            queue_size: get(&self.queue_size),
            dead_letters: get(&self.dead_letters),
            sent: get(&self.sent),
            send_failures: get(&self.send_failures),
            reconnect_attempts: get(&self.reconnect_attempts),
            unknown: get(&self.unknown),
            received: get(&self.received),
        }
    }
}
