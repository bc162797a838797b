//! What is counted of one endpoint, on either wire.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use portable_atomic::{AtomicU64, Ordering};

/// Addresses that figures are told apart by (L27). Peers choose their names; what is beyond is one address more.
pub const ADDRESSES_MAX: usize = 1_024;
/// The address under which those beyond [`ADDRESSES_MAX`] are counted.
pub const OTHER_ADDRESSES: &str = "other";
/// The state of an [`EndpointReport`] that sums up endpoints of an address which have ended.
pub const ENDED: &str = "ended";

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
    /// Messages and answers toward this address that became dead letters, be it when they were sent or later.
    pub dead_letters: u64,
    /// Messages handed to the wire; on the native wire messages accepted for it, of which `queue_size` wait or are
    /// unacknowledged.
    pub sent: u64,
    /// Messages and answers that were refused and given up, each once: a `send().await` counts when it fails or is
    /// dropped while it waits, not while it waits. On the gRPC wire also those that were queued and fit into no batch.
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
        if cfg!(feature = "_no_statistics") {
            return;
        }
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
        if cfg!(feature = "_no_statistics") {
            return;
        }
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
        if cfg!(feature = "_no_statistics") {
            return;
        }
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

impl EndpointStatisticsSnapshot {
    /// The totals without the state of the queue, which an endpoint that has ended does not have.
    #[must_use]
    pub const fn totals(self) -> Self {
        Self { queue_capacity: 0, queue_size: 0, ..self }
    }

    /// What was counted since `earlier`, figure by figure; the queue as it is in `self`. A figure that went back counts as none.
    #[must_use]
    pub const fn since(self, earlier: &Self) -> Self {
        Self {
            queue_capacity: self.queue_capacity,
            queue_size: self.queue_size,
            dead_letters: self.dead_letters.saturating_sub(earlier.dead_letters),
            sent: self.sent.saturating_sub(earlier.sent),
            send_failures: self.send_failures.saturating_sub(earlier.send_failures),
            reconnect_attempts: self.reconnect_attempts.saturating_sub(earlier.reconnect_attempts),
            unknown: self.unknown.saturating_sub(earlier.unknown),
            received: self.received.saturating_sub(earlier.received),
        }
    }

    /// Both added up, figure by figure.
    #[must_use]
    pub const fn plus(self, other: &Self) -> Self {
        Self {
            queue_capacity: self.queue_capacity.saturating_add(other.queue_capacity),
            queue_size: self.queue_size.saturating_add(other.queue_size),
            dead_letters: self.dead_letters.saturating_add(other.dead_letters),
            sent: self.sent.saturating_add(other.sent),
            send_failures: self.send_failures.saturating_add(other.send_failures),
            reconnect_attempts: self.reconnect_attempts.saturating_add(other.reconnect_attempts),
            unknown: self.unknown.saturating_add(other.unknown),
            received: self.received.saturating_add(other.received),
        }
    }
}

/// One endpoint as whoever watches a node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReport {
    /// Which wire: `fraktor` or `protoactor`.
    pub protocol: &'static str,
    /// `host:port`, or the id of a client that only dialled out.
    pub address: Arc<str>,
    /// A word for its state, such as `connected`; [`ENDED`] for the sum of those that are no more.
    pub state: &'static str,
    /// Its figures.
    pub statistics: EndpointStatisticsSnapshot,
}

/// Whatever has endpoints.
pub trait EndpointSource: Send + Sync {
    /// The endpoints there are, and those that have ended as one [`ENDED`] report for each address: the sum over all
    /// reports of an address never goes back.
    fn endpoints(&self) -> Vec<EndpointReport>;
}

/// What endpoints had counted that have ended, so that totals over all time stay whole.
///
/// Keep it behind a lock that is held both while an endpoint moves into it and while reports are made: an endpoint is
/// then seen in one place or the other, never in both or in none.
#[derive(Clone, Debug, Default)]
pub struct EndedEndpoints {
    addresses: BTreeMap<Arc<str>, EndpointStatisticsSnapshot>,
    others: Option<EndpointStatisticsSnapshot>,
}

impl EndedEndpoints {
    /// None has ended.
    #[must_use]
    pub const fn new() -> Self {
        Self { addresses: BTreeMap::new(), others: None }
    }

    /// Adds the last figures of an endpoint. Beyond [`ADDRESSES_MAX`] addresses they count for [`OTHER_ADDRESSES`].
    pub fn add(&mut self, address: &str, last: EndpointStatisticsSnapshot) {
        let last = last.totals();
        if let Some(sum) = self.addresses.get_mut(address) {
            *sum = sum.plus(&last);
        } else if self.addresses.len() < ADDRESSES_MAX {
            self.addresses.insert(address.into(), last);
        } else {
            self.others = Some(self.others.unwrap_or_default().plus(&last));
        }
    }

    /// One report for each address.
    pub fn reports(&self, protocol: &'static str) -> impl Iterator<Item = EndpointReport> + '_ {
        let others = self.others.map(|sum| (Arc::from(OTHER_ADDRESSES), sum));
        self.addresses
            .iter()
            .map(|(address, sum)| (address.clone(), *sum))
            .chain(others)
            .map(move |(address, statistics)| EndpointReport { protocol, address, state: ENDED, statistics })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn counted(n: u64) -> EndpointStatisticsSnapshot {
        EndpointStatisticsSnapshot {
            queue_capacity: n,
            queue_size: n,
            dead_letters: n,
            sent: n,
            send_failures: n,
            reconnect_attempts: n,
            unknown: n,
            received: n,
        }
    }

    /// Each figure has its own place, and the queue is what it was last said to be.
    ///
    /// Covers: ST-01, ST-03, ST-07
    #[test]
    fn every_figure_is_counted_by_itself() {
        let statistics = EndpointStatistics::new(9);
        assert_eq!(statistics.snapshot(), EndpointStatisticsSnapshot { queue_capacity: 9, ..counted(0) });
        statistics.record_queue_state(10, 1);
        statistics.record_queue_state(10, 2);
        statistics.increment_dead_letter();
        statistics.add_dead_letters(2);
        statistics.add_sent(4);
        statistics.add_send_failures(5);
        statistics.increment_reconnect_attempt();
        statistics.add_unknown(7);
        statistics.add_received(8);
        let expected = EndpointStatisticsSnapshot {
            queue_capacity: 10,
            queue_size: 2,
            dead_letters: 3,
            sent: 4,
            send_failures: 5,
            reconnect_attempts: 1,
            unknown: 7,
            received: 8,
        };
        assert_eq!(statistics.snapshot(), expected);
        let earlier = EndpointStatisticsSnapshot { sent: 1, received: 9, queue_size: 7, ..counted(0) };
        let since = EndpointStatisticsSnapshot { sent: 3, received: 0, ..expected };
        assert_eq!(expected.since(&earlier), since);
        assert_eq!(
            expected.since(&expected),
            EndpointStatisticsSnapshot { queue_capacity: 10, queue_size: 2, ..counted(0) }
        );
        assert_eq!(since.plus(&earlier).sent, expected.sent);
    }

    /// L27: below, at and above the number of addresses; nothing that was counted is lost.
    #[test]
    fn ended_endpoints_are_summed_up_in_bounded_memory() {
        for count in [ADDRESSES_MAX - 1, ADDRESSES_MAX, ADDRESSES_MAX + 1, ADDRESSES_MAX + 500] {
            let mut ended = EndedEndpoints::new();
            for n in 0..count {
                ended.add(&format!("h{n}:1"), counted(1));
                ended.add("h0:1", counted(2));
            }
            let reports: Vec<_> = ended.reports("fraktor").collect();
            let others = count.saturating_sub(ADDRESSES_MAX);
            assert_eq!(reports.len(), count.min(ADDRESSES_MAX) + usize::from(others > 0), "{count}");
            let sum = reports.iter().fold(counted(0), |sum, report| sum.plus(&report.statistics));
            assert_eq!(sum, counted(3 * count as u64).totals(), "{count}");
            let last = reports.last().unwrap();
            if others > 0 {
                assert_eq!((&*last.address, last.statistics.sent), (OTHER_ADDRESSES, others as u64));
            }
        }
    }
}
