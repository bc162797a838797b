//! The phi detector against an independent computation on recorded intervals.

use core::time::Duration;

use nexus_remote::failure_detector::{FailureDetector, PhiConfig, PhiFailureDetector, evaluate};

const COUNT: usize = 10_000;

/// A small generator of the test's own, so that a seed means the same intervals for ever.
struct Rng(u64);

impl Rng {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (core::f64::consts::TAU * self.unit()).cos()
    }
}

fn recording(kind: &str) -> Vec<Duration> {
    let mut rng = Rng(0x5eed_0001);
    let mut burst = 0;
    (0..COUNT)
        .map(|_| match kind {
            "normal" => 1.0 + 0.15 * rng.normal(),
            // Log-normal: a long tail to the right, as of a loaded host.
            "skewed" => (0.35 * rng.normal() - 0.06).exp(),
            // Nothing for a while, then what was held back at once.
            "bursty" => {
                burst = if burst == 0 { 1 + (rng.unit() * 6.0) as usize } else { burst - 1 };
                if burst == 0 { 2.0 + 2.0 * rng.unit() } else { 0.001 + 0.01 * rng.unit() }
            }
            other => panic!("{other}"),
        })
        .map(|seconds| Duration::from_nanos((seconds.max(0.000_5) * 1e9) as u64))
        .collect()
}

/// The classic detector written down anew: a plain window, two passes per step, the platform's library, and phi
/// as published. Gives the false alarms and the detection time in seconds.
fn independent(config: &PhiConfig, intervals: &[Duration]) -> (usize, f64) {
    let expected = config.heartbeat_interval.as_secs_f64();
    let mut window = vec![expected * 0.875, expected * 1.125];
    let phi = |window: &[f64], silence: f64| {
        let n = window.len() as f64;
        let mean = window.iter().sum::<f64>() / n;
        let variance = window.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let deviation = variance.sqrt().max(config.min_deviation.as_secs_f64());
        let y = (silence - mean - config.acceptable_pause.as_secs_f64()) / deviation;
        let e = (-y * (1.5976 + 0.070566 * y * y)).exp();
        if y > 0.0 { -(e / (1.0 + e)).log10() } else { -(1.0 - 1.0 / (1.0 + e)).log10() }
    };
    let mut alarms = 0;
    for interval in intervals {
        let interval = interval.as_secs_f64();
        if phi(&window, interval) >= config.threshold {
            alarms += 1;
            continue;
        }
        if window.len() == config.samples_max {
            window.remove(0);
        }
        window.push(interval);
    }
    let (mut low, mut high) = (0.0, 1_000.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if phi(&window, middle) < config.threshold { low = middle } else { high = middle }
    }
    (alarms, high)
}

/// Covers: S88, FD-02
#[test]
fn false_alarms_and_detection_time_match_an_independent_computation() {
    let mut alarms_in_all = 0;
    for kind in ["normal", "skewed", "bursty"] {
        let intervals = recording(kind);
        for threshold in [1.0, 3.0, 8.0, 10.0] {
            for pause_ms in [0, 500, 10_000] {
                let config = PhiConfig::default()
                    .with_threshold(threshold)
                    .with_acceptable_pause(Duration::from_millis(pause_ms));
                let (alarms, detection) = independent(&config, &intervals);
                let mut detector = PhiFailureDetector::new(config).unwrap();
                let ours = evaluate(&mut detector, intervals.iter().copied());
                let name = format!("{kind}, threshold {threshold}, pause {pause_ms} ms");
                assert_eq!(ours.intervals, COUNT, "{name}");
                // Ours counts whole microseconds; an interval on the very edge may fall to the other side.
                assert!(
                    ours.false_alarms.abs_diff(alarms) <= 1,
                    "{name}: {} not {alarms}",
                    ours.false_alarms
                );
                let seconds = ours.detection_time.as_secs_f64();
                assert!(
                    (seconds - detection).abs() <= 0.001 * detection,
                    "{name}: {seconds} not {detection}"
                );
                assert!((0.0..=1.0).contains(&ours.false_alarm_rate()), "{name}");
                assert!(detector.is_monitoring());
                alarms_in_all += alarms;
                if pause_ms == 10_000 {
                    assert_eq!(alarms, 0, "{name}: the acceptable pause covers all of it");
                }
            }
        }
    }
    assert!(alarms_in_all > 100, "the recordings must be hard enough to compare anything");
}
