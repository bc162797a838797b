//! What a run costs: latencies, processor time, memory.

use core::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// Round trips, in nanoseconds, to three digits.
pub(crate) struct Latencies(Histogram<u64>);

/// The longest one told apart.
const LONGEST: u64 = 600_000_000_000;

impl Latencies {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, 3)?))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST);
        self.0.saturating_record(nanos.clamp(1, LONGEST));
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that a share of all stays within; `None` when nothing was recorded.
    pub(crate) fn quantile(&self, share: f64) -> Option<Micros> {
        (!self.0.is_empty()).then(|| Micros(self.0.value_at_quantile(share) as f64 / 1e3))
    }

    pub(crate) fn max(&self) -> Option<Micros> {
        (!self.0.is_empty()).then(|| Micros(self.0.max() as f64 / 1e3))
    }
}

/// Microseconds, written with one digit behind the point.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Micros(pub(crate) f64);

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.0 * 10.0).round() / 10.0)
    }
}

impl core::fmt::Display for Micros {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.0 < 1_000.0 { write!(f, "{:.1} us", self.0) } else { write!(f, "{:.2} ms", self.0 / 1e3) }
    }
}

/// `text` for an optional latency.
pub(crate) fn or_dash(latency: Option<Micros>) -> String {
    latency.map_or_else(|| String::from("-"), |latency| latency.to_string())
}

/// Seconds, or a ratio, to as many digits as are worth anything.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Processor time this process has used, in user and kernel; `None` where that is not known.
pub(crate) fn cpu_time() -> Option<Duration> {
    if !cfg!(unix) {
        return None;
    }
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; what counts comes behind it.
    let fields = stat.rsplit_once(')')?.1;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    // The kernel reports hundredths of a second to programs on every architecture that Linux runs on today.
    Some(Duration::from_millis(ticks * 10))
}

/// Resident memory of this process in KiB; `None` where that is not known.
pub(crate) fn resident_kib() -> Option<u64> {
    if !cfg!(unix) {
        return None;
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time since a point in time.
pub(crate) struct CpuWatch(Option<Duration>);

impl CpuWatch {
    pub(crate) fn start() -> Self {
        Self(cpu_time())
    }

    pub(crate) fn seconds(&self) -> Option<f64> {
        Some(rounded(cpu_time()?.saturating_sub(self.0?).as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_recorded() {
        let mut latencies = Latencies::new().unwrap();
        assert_eq!(latencies.quantile(0.5), None);
        for micros in 1..=100 {
            latencies.record(Duration::from_micros(micros));
        }
        latencies.record(Duration::MAX);
        assert!((latencies.quantile(0.5).unwrap().0 - 51.0).abs() < 0.1);
        assert_eq!(latencies.count(), 101);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells_time_and_memory() {
        assert!(cpu_time().is_some());
        assert!(resident_kib().is_some_and(|kib| kib > 100));
    }
}
