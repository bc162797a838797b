//! What is exported, and how it stays whole while endpoints come and go.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nexus_actor_core::system::{ActorSystem, WeakSystem};
use nexus_actor_core::{DeadLetterReason, dead_letter::DeadLetters};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::endpoint_statistics::{
    ADDRESSES_MAX, ENDED, EndpointReport, EndpointSource, EndpointStatisticsSnapshot, OTHER_ADDRESSES,
};

/// Every series that is exported, as Prometheus shows its name.
pub const SERIES: [&str; 9] = [
    "nexus_endpoint_queue_size",
    "nexus_endpoint_queue_capacity",
    "nexus_endpoint_deadletters_total",
    "nexus_endpoint_sent_total",
    "nexus_endpoint_send_failures_total",
    "nexus_endpoint_reconnect_attempts_total",
    "nexus_endpoint_received_total",
    "nexus_endpoint_unknown_total",
    "nexus_deadletters_total",
];

/// The longest address that is a label (L27); a longer one counts for the others.
const ADDRESS_BYTES_MAX: usize = 256;

/// One series of endpoints: name without the suffix of counters, help, and the figure.
type Row = (&'static str, &'static str, fn(&EndpointStatisticsSnapshot) -> u64);

const GAUGES: [Row; 2] = [
    ("nexus_endpoint_queue_size", "Messages that wait or are unacknowledged", |s| s.queue_size),
    ("nexus_endpoint_queue_capacity", "Messages that fit into the queue", |s| s.queue_capacity),
];

const COUNTERS: [Row; 6] = [
    ("nexus_endpoint_deadletters", "Messages to the address that became dead letters", |s| s.dead_letters),
    ("nexus_endpoint_sent", "Messages handed to the wire", |s| s.sent),
    ("nexus_endpoint_send_failures", "Messages that were refused and given up", |s| s.send_failures),
    ("nexus_endpoint_reconnect_attempts", "Attempts to connect again", |s| s.reconnect_attempts),
    ("nexus_endpoint_received", "Messages that came from the address", |s| s.received),
    ("nexus_endpoint_unknown", "Messages sent on a stream that broke, of which nobody can tell", |s| {
        s.unknown
    }),
];

/// Collects figures from any number of sources when it is asked. A handle: clones are the same registry.
///
/// Totals never go back: not when an endpoint ends, not when a source forgets one. Of addresses the first 1,024 have
/// series of their own for as long as the registry lives; the rest are one, with the address `other`.
#[derive(Clone, Default)]
pub struct MetricsRegistry(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    sources: Vec<Arc<dyn EndpointSource>>,
    dead_letters: Vec<DeadLetters>,
    systems: Vec<WeakSystem>,
    /// What the sources said of each address the last time.
    last: BTreeMap<Key, EndpointStatisticsSnapshot>,
    series: BTreeMap<Key, Series>,
    /// How many of the series are of one address.
    named: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    protocol: &'static str,
    address: Arc<str>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Series {
    /// Totals over all time, and the queues there are now.
    figures: EndpointStatisticsSnapshot,
    /// There is such an endpoint now: its queue is shown.
    is_live: bool,
}

impl MetricsRegistry {
    /// A registry without sources.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks `source` for its endpoints as well.
    pub fn add_source(&self, source: impl EndpointSource + 'static) {
        self.lock().sources.push(Arc::new(source));
    }

    /// Shows the dead letters of `system` as well, and says that the process is not healthy once it shuts down.
    pub fn add_system(&self, system: &ActorSystem) {
        let mut inner = self.lock();
        inner.dead_letters.push(system.dead_letters().clone());
        inner.systems.push(system.downgrade());
    }

    /// All series in the text format of OpenMetrics 1.0.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.lock().scrape()));
        // Writing to a text does not fail.
        let written = encode(&mut text, &registry);
        debug_assert!(written.is_ok());
        text
    }

    /// The endpoints there are now, of all sources.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointReport> {
        // Not under the lock: a scrape need not wait for somebody who looks.
        let sources = self.lock().sources.clone();
        let all = sources.iter().flat_map(|source| source.endpoints());
        all.filter(|report| report.state != ENDED).collect()
    }

    /// Whether none of the systems has begun to shut down.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let systems = self.lock().systems.clone();
        systems.iter().all(|system| system.upgrade().is_some_and(|system| !system.is_shutting_down()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here is half changed by a source that panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Brings the series up to date with the sources.
    fn scrape(&mut self) -> Scrape {
        let mut sums: BTreeMap<Key, (EndpointStatisticsSnapshot, bool)> = BTreeMap::new();
        for report in self.sources.iter().flat_map(|source| source.endpoints()) {
            let key = Key { protocol: report.protocol, address: report.address };
            let (sum, is_live) = sums.entry(key).or_default();
            *sum = sum.plus(&report.statistics);
            *is_live |= report.state != ENDED;
        }
        for series in self.series.values_mut() {
            *series = Series { figures: series.figures.totals(), is_live: false };
        }
        let last = core::mem::take(&mut self.last);
        for (key, (sum, is_live)) in sums {
            let grown = growth(last.get(&key), sum);
            let series = self.series_of(&key);
            series.figures = series.figures.plus(&grown);
            series.is_live |= is_live;
            self.last.insert(key, sum);
        }
        let dead_letters = DeadLetterReason::ALL
            .into_iter()
            .map(|reason| (reason, self.dead_letters.iter().map(|letters| letters.count(reason)).sum()))
            .collect();
        let series = self.series.iter().map(|(key, series)| (key.clone(), *series)).collect();
        Scrape { series, dead_letters }
    }

    fn series_of(&mut self, key: &Key) -> &mut Series {
        let key = if self.series.contains_key(key) || &*key.address == OTHER_ADDRESSES {
            key.clone()
        } else if self.named < ADDRESSES_MAX && key.address.len() <= ADDRESS_BYTES_MAX {
            self.named += 1;
            key.clone()
        } else {
            Key { protocol: key.protocol, address: OTHER_ADDRESSES.into() }
        };
        self.series.entry(key).or_default()
    }
}

/// What the totals have grown by. A total that went back belongs to another endpoint of that address, whose source keeps
/// no sums: what it counts is on top.
fn growth(
    last: Option<&EndpointStatisticsSnapshot>,
    now: EndpointStatisticsSnapshot,
) -> EndpointStatisticsSnapshot {
    let last = last.copied().unwrap_or_default();
    let grown = |figure: fn(&EndpointStatisticsSnapshot) -> u64| {
        let (last, now) = (figure(&last), figure(&now));
        now.checked_sub(last).unwrap_or(now)
    };
    EndpointStatisticsSnapshot {
        queue_capacity: now.queue_capacity,
        queue_size: now.queue_size,
        dead_letters: grown(|s| s.dead_letters),
        sent: grown(|s| s.sent),
        send_failures: grown(|s| s.send_failures),
        reconnect_attempts: grown(|s| s.reconnect_attempts),
        unknown: grown(|s| s.unknown),
        received: grown(|s| s.received),
    }
}

/// The series at one moment.
#[derive(Debug)]
struct Scrape {
    series: Vec<(Key, Series)>,
    dead_letters: Vec<(DeadLetterReason, u64)>,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, figure) in GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (key, series) in self.series.iter().filter(|(_, series)| series.is_live) {
                let value = i64::try_from(figure(&series.figures)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(metric.encode_family(&key.labels())?)?;
            }
        }
        for (name, help, figure) in COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (key, series) in &self.series {
                let value = figure(&series.figures);
                ConstCounter::new(value).encode(metric.encode_family(&key.labels())?)?;
            }
        }
        let help = "Messages that will never be delivered, of all systems of this process";
        let mut metric = encoder.encode_descriptor("nexus_deadletters", help, None, MetricType::Counter)?;
        for (reason, count) in &self.dead_letters {
            let labels = [("reason", reason.as_str())];
            ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Key {
    fn labels(&self) -> [(&'static str, &str); 2] {
        [("address", &self.address), ("protocol", self.protocol)]
    }
}

impl fmt::Debug for MetricsRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        write!(f, "MetricsRegistry({} sources, {} series)", inner.sources.len(), inner.series.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;
    use nexus_actor_core::lock::Lock;

    /// A source that says what it is told to.
    #[derive(Clone, Default)]
    struct Mock(Arc<Lock<Vec<EndpointReport>>>);

    impl EndpointSource for Mock {
        fn endpoints(&self) -> Vec<EndpointReport> {
            self.0.lock().clone()
        }
    }

    impl Mock {
        fn say(&self, reports: Vec<EndpointReport>) {
            *self.0.lock() = reports;
        }
    }

    fn report(address: &str, sent: u64) -> EndpointReport {
        EndpointReport {
            protocol: "fraktor",
            address: address.into(),
            state: "connected",
            statistics: EndpointStatisticsSnapshot {
                queue_capacity: 10,
                queue_size: 1,
                sent,
                ..EndpointStatisticsSnapshot::default()
            },
        }
    }

    fn ended(address: &str, sent: u64) -> EndpointReport {
        let mut report = report(address, sent);
        report.state = ENDED;
        report.statistics = report.statistics.totals();
        report
    }

    /// The value of one series; `None` when it is not exported.
    fn value(registry: &MetricsRegistry, series: &str) -> Option<u64> {
        let text = registry.encode();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    fn sent(registry: &MetricsRegistry, address: &str) -> Option<u64> {
        let series = format!("nexus_endpoint_sent_total{{address=\"{address}\",protocol=\"fraktor\"}}");
        value(registry, &series)
    }

    fn registry() -> (Mock, MetricsRegistry) {
        let (mock, registry) = (Mock::default(), MetricsRegistry::new());
        registry.add_source(mock.clone());
        (mock, registry)
    }

    /// The whole text of one scrape: names, types, labels and each figure in its place.
    ///
    /// Covers: TST-40, MET-01, MET-02, MET-03, MET-04, MET-06, MET-08
    #[test]
    fn every_figure_is_exported_under_its_name() {
        let (mock, registry) = registry();
        let statistics = EndpointStatisticsSnapshot {
            queue_capacity: 100,
            queue_size: 1,
            dead_letters: 2,
            sent: 3,
            send_failures: 4,
            reconnect_attempts: 5,
            unknown: 6,
            received: 7,
        };
        let address = "10.0.0.2:25520".into();
        mock.say(vec![EndpointReport { protocol: "protoactor", address, state: "connected", statistics }]);
        let text = registry.encode();
        let endpoint: Vec<_> = text.lines().filter(|line| !line.contains("nexus_deadletters")).collect();
        let of = |name: &str, value: u64| {
            format!("{name}{{address=\"10.0.0.2:25520\",protocol=\"protoactor\"}} {value}")
        };
        let mut expected = Vec::new();
        for ((name, help, _), value) in GAUGES.into_iter().zip([1, 100]) {
            expected.extend([format!("# HELP {name} {help}"), format!("# TYPE {name} gauge")]);
            expected.push(of(name, value));
        }
        for ((name, help, _), value) in COUNTERS.into_iter().zip([2, 3, 4, 5, 7, 6]) {
            expected.extend([format!("# HELP {name} {help}"), format!("# TYPE {name} counter")]);
            expected.push(of(&format!("{name}_total"), value));
        }
        expected.push("# EOF".to_string());
        assert_eq!(
            endpoint.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            expected.join("\n")
        );
        for series in SERIES {
            assert!(text.lines().any(|line| line.starts_with(series)), "{series}");
        }
    }

    /// Whether the source keeps sums or not: what has been exported is never taken back, and nothing counts twice.
    ///
    /// Covers: CNF-11, MET-05
    #[test]
    fn totals_never_go_back() {
        for keeps_sums in [true, false] {
            let (mock, registry) = registry();
            mock.say(vec![report("a:1", 5), report("b:1", 1)]);
            assert_eq!((sent(&registry, "a:1"), sent(&registry, "b:1")), (Some(5), Some(1)));
            mock.say(vec![report("a:1", 7), report("b:1", 1)]);
            assert_eq!(sent(&registry, "a:1"), Some(7));
            assert_eq!(sent(&registry, "a:1"), Some(7), "asked twice, counted once");
            // It ends.
            mock.say(if keeps_sums {
                vec![ended("a:1", 7), report("b:1", 2)]
            } else {
                vec![report("b:1", 2)]
            });
            assert_eq!((sent(&registry, "a:1"), sent(&registry, "b:1")), (Some(7), Some(2)));
            let size = "nexus_endpoint_queue_size{address=\"a:1\",protocol=\"fraktor\"}";
            assert_eq!(value(&registry, size), None, "an endpoint that is no more has no queue");
            // Another begins at the same address.
            mock.say(if keeps_sums {
                vec![ended("a:1", 7), report("a:1", 3)]
            } else {
                vec![report("a:1", 3)]
            });
            assert_eq!((sent(&registry, "a:1"), value(&registry, size)), (Some(10), Some(1)), "{keeps_sums}");
            assert_eq!(sent(&registry, "b:1"), Some(2));
        }
    }

    /// L27: below, at and above the number of addresses. Who has a series keeps it, and nothing is lost in the sum.
    #[test]
    fn addresses_beyond_the_limit_are_one() {
        for count in [ADDRESSES_MAX - 1, ADDRESSES_MAX, ADDRESSES_MAX + 1, 3 * ADDRESSES_MAX] {
            let (mock, registry) = registry();
            mock.say(vec![report("first:1", 1)]);
            assert_eq!(sent(&registry, "first:1"), Some(1));
            let mut reports: Vec<_> = (1..count).map(|n| report(&format!("a{n}:1"), 1)).collect();
            reports.push(report("first:1", 2));
            for _ in 0..2 {
                mock.say(reports.clone());
                let text = registry.encode();
                let series =
                    text.lines().filter(|line| line.starts_with("nexus_endpoint_sent_total")).count();
                let others = count.saturating_sub(ADDRESSES_MAX);
                assert_eq!(series, count.min(ADDRESSES_MAX) + usize::from(others > 0), "{count}");
                assert_eq!(sent(&registry, "first:1"), Some(2));
                assert_eq!(sent(&registry, "other"), (others > 0).then_some(others as u64), "{count}");
            }
            // What a peer calls itself is no reason to keep more of it.
            let long = "x".repeat(ADDRESS_BYTES_MAX + 1);
            mock.say(vec![report(&long, 1)]);
            assert_eq!(sent(&registry, &long), None);
            assert!(sent(&registry, "other") >= Some(1));
        }
    }

    /// A name with quotes, line ends or backslashes stays one label of one line.
    ///
    /// Covers: T35
    #[test]
    fn a_peer_cannot_write_series() {
        let (mock, registry) = registry();
        let name = "a\"} 1\nnexus_endpoint_sent_total{address=\"b:1\",protocol=\"fraktor\"} 9\n\\";
        mock.say(vec![report(name, 1)]);
        assert_eq!(sent(&registry, "b:1"), None);
        let text = registry.encode();
        let lines: Vec<_> =
            text.lines().filter(|line| line.starts_with("nexus_endpoint_sent_total")).collect();
        let escaped = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        assert_eq!(
            lines,
            [format!("nexus_endpoint_sent_total{{address=\"{escaped}\",protocol=\"fraktor\"}} 1")
                .to_string()]
        );
    }
}
