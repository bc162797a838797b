//! What the settings must satisfy, each and together.

use alloc::format;
use core::time::Duration;

use nexus_actor_core::path::ActorPathScheme;

use super::RemotingExtensionConfig;
use crate::config_error::{ConfigError, Violations};
use crate::failure_detector::DetectorChoice;
use crate::flight_recorder::RECORDER_SIZE_MAX;
use crate::host::{is_host, is_wildcard};
use crate::wire::limit;

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// A shorter heartbeat or handshake is no rhythm a clock and a scheduler keep.
const BRIEFEST: Duration = Duration::from_millis(1);
/// Room for a full handshake and any control frame.
const FRAME_MIN: u32 = 8 * 1024;
const FRAME_MAX: u32 = limit::FRAME;
/// As many as the slots of one association's keys can tell apart.
const ASKS_MAX: u32 = 65_536;
const SYSTEM_MESSAGES_MAX: u32 = 1_000_000;

/// What may stand in a block or allow list.
pub(crate) fn check_listed(found: &mut Violations, field: &'static str, system: &str) {
    let rule = "must name a system or host:port in 1 to 255 bytes";
    found.require((1..=255).contains(&system.len()), field, &system, rule);
}

impl RemotingExtensionConfig {
    /// Checks every setting and those that must agree with each other.
    ///
    /// # Errors
    /// One [`ConfigError`] that lists all that are wrong, each with its value and its rule.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut found = Violations::new();
        self.validate_addresses(&mut found);
        self.validate_times(&mut found);
        self.validate_bounds(&mut found);
        self.validate_detector(&mut found, "watch_detector", &self.watch_detector);
        self.validate_detector(&mut found, "connection_detector", &self.connection_detector);
        found.absorb("sre_thresholds", self.values.sre_thresholds.validate());
        found.into_result()
    }

    fn validate_addresses(&self, found: &mut Violations) {
        let host = self.canonical_host();
        let bind = self.bind_address();
        if is_wildcard(host) {
            let (setting, value) = match &self.canonical_host {
                Some(host) => ("canonical_host", host),
                None => ("bind", &bind.host),
            };
            found.add(
                setting,
                value,
                "listening on all interfaces announces no address a peer could dial; \
                 set with_canonical_host to the host name or address under which peers reach this node",
            );
        }
        let names =
            [("canonical_host", self.canonical_host.as_ref()), ("bind", self.bind.as_ref().map(|b| &b.host))];
        for (setting, name) in names {
            if let Some(name) = name {
                found.require(
                    is_host(name),
                    setting,
                    name,
                    "must be a host name or address of 1 to 255 bytes",
                );
            }
        }
        if self.is_plaintext_beyond_host() && !self.values.insecure_plaintext && is_host(&bind.host) {
            found.add(
                "bind",
                self.bind_text(),
                "is reachable from other hosts without TLS; the ways on are TLS, fraktor.tls, which is not available \
                 in this version, and with_insecure_plaintext(true), which warns at every start",
            );
        }
        let scheme = self.transport_scheme.as_str();
        let valid = scheme.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        found.require(
            valid && self.transport_scheme != ActorPathScheme::Fraktor,
            "transport_scheme",
            &scheme,
            "must name a transport, as fraktor.tcp does: lower-case letters, digits, plus, minus and dot",
        );
        for system in &self.blocked_systems {
            check_listed(found, "blocked_systems", system);
        }
        for system in self.allowed_systems.iter().flatten() {
            check_listed(found, "allowed_systems", system);
        }
    }

    fn validate_times(&self, found: &mut Violations) {
        let v = &self.values;
        for (name, value) in [
            ("first_byte_timeout", v.first_byte_timeout),
            ("connect_timeout", v.connect_timeout),
            ("reconnect_initial_backoff", v.reconnect_initial_backoff),
            ("refused_dial_wait_max", v.refused_dial_wait_max),
            ("refused_dials_give_up", v.refused_dials_give_up),
            ("shutdown_timeout", v.shutdown_timeout),
        ] {
            let rule = "must be above zero and at most an hour";
            found.require(!value.is_zero() && value <= HOUR, name, &value, rule);
        }
        for (name, value) in
            [("handshake_timeout", v.handshake_timeout), ("heartbeat_interval", v.heartbeat_interval)]
        {
            let rule = "must be from 1 ms to an hour";
            found.require((BRIEFEST..=HOUR).contains(&value), name, &value, rule);
        }
        for (name, value) in [
            ("quarantine_period", v.quarantine_period),
            ("probe_after", v.probe_after),
            ("idle_timeout", v.idle_timeout),
            ("system_message_give_up", v.system_message_give_up),
            ("never_reached_give_up", v.never_reached_give_up),
        ] {
            let rule = "must be above zero and at most a day";
            found.require(!value.is_zero() && value <= DAY, name, &value, rule);
        }
        let mut at_least = |name, value: Duration, other: &str, least: Duration| {
            let rule = format!("must be at least {other} ({least:?})");
            found.require(value >= least, name, &value, rule);
        };
        at_least("handshake_timeout", v.handshake_timeout, "first_byte_timeout", v.first_byte_timeout);
        at_least("handshake_timeout", v.handshake_timeout, "connect_timeout", v.connect_timeout);
        let initial = v.reconnect_initial_backoff;
        at_least("handshake_timeout", v.handshake_timeout, "reconnect_initial_backoff", initial);
        at_least("reconnect_max_backoff", v.reconnect_max_backoff, "reconnect_initial_backoff", initial);
        at_least("never_reached_give_up", v.never_reached_give_up, "connect_timeout", v.connect_timeout);
        at_least("dead_uid_memory", v.dead_uid_memory, "quarantine_period", v.quarantine_period);
        let handshake = v.handshake_timeout;
        at_least("system_message_give_up", v.system_message_give_up, "handshake_timeout", handshake);
        at_least("probe_after", v.probe_after, "heartbeat_interval", v.heartbeat_interval);
        at_least("shutdown_timeout", v.shutdown_timeout, "shutdown_flush", v.shutdown_flush);
        let mut longer = |name, value: Duration, other: &str, bound: Duration| {
            let rule = format!("must be longer than {other} ({bound:?})");
            found.require(value > bound, name, &value, rule);
        };
        longer("idle_timeout", v.idle_timeout, "probe_after", v.probe_after);
        longer("forget_after", v.forget_after, "idle_timeout", v.idle_timeout);
        if let Some(interval) = v.metrics_interval {
            let rule = "must be at least 10 ms, or none";
            found.require(interval >= Duration::from_millis(10), "metrics_interval", &interval, rule);
        }
    }

    fn validate_bounds(&self, found: &mut Violations) {
        let v = &self.values;
        for (name, value) in [
            ("queue_messages_max", v.queue_messages_max),
            ("watches_max", v.watches_max),
            ("dials_in_flight_max", v.dials_in_flight_max),
            ("endpoint_manager_batch_size", v.endpoint_manager_batch_size),
            ("reconnect_max_retries", v.reconnect_max_retries.unwrap_or(1)),
        ] {
            found.require(value >= 1, name, &value, "must be at least 1");
        }
        found.require(
            (1..=u32::from(u16::MAX)).contains(&v.inbound_associations_max),
            "inbound_associations_max",
            &v.inbound_associations_max,
            format!("must be from 1 to {}", u16::MAX),
        );
        found.require(v.connections_max >= 3, "connections_max", &v.connections_max, "must be at least 3");
        found.require(
            (FRAME_MIN..=FRAME_MAX).contains(&v.frame_bytes_max),
            "frame_bytes_max",
            &v.frame_bytes_max,
            format!("must be from {FRAME_MIN} to {FRAME_MAX}"),
        );
        for (name, value) in
            [("queue_bytes_max", v.queue_bytes_max), ("system_bytes_max", v.system_bytes_max)]
        {
            let rule = format!("must be at least frame_bytes_max ({})", v.frame_bytes_max);
            found.require(value >= v.frame_bytes_max as usize, name, &value, rule);
        }
        found.require(
            v.endpoint_manager_queue_size >= v.endpoint_manager_batch_size,
            "endpoint_manager_queue_size",
            &v.endpoint_manager_queue_size,
            format!("must be at least endpoint_manager_batch_size ({})", v.endpoint_manager_batch_size),
        );
        found.within("system_messages_max", v.system_messages_max, 1..=SYSTEM_MESSAGES_MAX);
        found.within("system_message_rate", v.system_message_rate, 1..=SYSTEM_MESSAGES_MAX);
        found.within("system_message_burst", v.system_message_burst, 1..=SYSTEM_MESSAGES_MAX);
        found.within("pending_asks_max", v.pending_asks_max, 1..=ASKS_MAX);
        let jitter = v.reconnect_jitter;
        found.require((0.0..1.0).contains(&jitter), "reconnect_jitter", &jitter, "must be from 0 to below 1");
        found.require(
            (16..=RECORDER_SIZE_MAX).contains(&v.flight_recorder_size),
            "flight_recorder_size",
            &v.flight_recorder_size,
            format!("must be from 16 to {RECORDER_SIZE_MAX}"),
        );
        if let Err(error) = self.backpressure_marks().validate() {
            for violation in error.violations {
                found.add(violation.setting, violation.value, violation.rule);
            }
        }
    }

    fn validate_detector(&self, found: &mut Violations, name: &'static str, detector: &DetectorChoice) {
        found.absorb(name, detector.validate());
        let heartbeat = self.values.heartbeat_interval;
        let agrees = |own: Duration| own == heartbeat;
        match detector {
            DetectorChoice::Phi(phi) => {
                if !agrees(phi.heartbeat_interval) {
                    let rule =
                        format!("its heartbeat_interval must be that of this configuration ({heartbeat:?})");
                    found.add(name, format!("{:?}", phi.heartbeat_interval), rule);
                }
                if phi.acceptable_pause < heartbeat {
                    let rule =
                        format!("its acceptable_pause must be at least heartbeat_interval ({heartbeat:?})");
                    found.add(name, format!("{:?}", phi.acceptable_pause), rule);
                }
            }
            DetectorChoice::Deadline(deadline) => {
                if !agrees(deadline.heartbeat_interval) {
                    let rule =
                        format!("its heartbeat_interval must be that of this configuration ({heartbeat:?})");
                    found.add(name, format!("{:?}", deadline.heartbeat_interval), rule);
                }
            }
            DetectorChoice::Custom(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure_detector::{DeadlineConfig, DeadlineFailureDetector, PhiConfig};
    use crate::metric::SreThresholds;
    use alloc::boxed::Box;
    use alloc::string::{String, ToString};
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};
    use proptest::sample::Index;

    fn config() -> RemotingExtensionConfig {
        RemotingExtensionConfig::default()
    }

    fn offending(config: &RemotingExtensionConfig) -> Vec<String> {
        config
            .validate()
            .map_or_else(|e| e.violations.iter().map(|v| v.setting.to_string()).collect(), |()| Vec::new())
    }

    #[test]
    fn all_interfaces_need_an_announced_host() {
        for host in ["0.0.0.0", "::", "[::]", "::ffff:0.0.0.0", "0.0.0.0."] {
            let error = config().with_bind(host, 1).with_insecure_plaintext(true).validate().unwrap_err();
            assert_eq!(error.violations[0].setting, "bind", "{host}");
            assert!(error.violations[0].rule.contains("with_canonical_host"), "{host}");
            assert!(error.to_string().contains(host), "{host}");
            let announced = config().with_bind(host, 1).with_canonical_host("shop-1");
            announced.with_insecure_plaintext(true).validate().unwrap();
            let error = config().with_canonical_host(host).with_insecure_plaintext(true).validate();
            assert_eq!(error.unwrap_err().violations[0].setting, "canonical_host", "{host}");
        }
    }

    #[test]
    fn plain_text_beyond_this_host_must_be_asked_for() {
        for (host, local) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("[::1]", true),
            ("::ffff:127.0.0.1", true),
            ("LocalHost", true),
            ("localhost.", true),
            ("10.0.0.2", false),
            ("::2", false),
            ("shop-1", false),
            ("localhost.example.org", false),
        ] {
            let bound = config().with_bind(host, 25520).with_canonical_host("shop-1");
            match bound.validate() {
                Ok(()) => assert!(local, "{host}"),
                Err(error) => {
                    assert!(!local, "{host}");
                    assert_eq!(error.violations.len(), 1, "{host}: {error}");
                    let rule = &error.violations[0].rule;
                    assert!(rule.contains("TLS") && rule.contains("with_insecure_plaintext(true)"), "{rule}");
                }
            }
            let allowed = bound.clone().with_insecure_plaintext(true);
            allowed.validate().unwrap();
            assert_eq!(allowed.warnings().len(), usize::from(!local), "{host}: a warning at every start");
            bound.clone().with_transport_scheme("fraktor.tls://").validate().unwrap();
            bound.with_transport_scheme("fraktor.loopback").validate().unwrap();
        }
    }

    /// Covers: CFG-20, CFG-23, CFG-25
    #[test]
    fn each_setting_is_checked_at_its_edge() {
        let s = Duration::from_secs;
        let ms = Duration::from_millis;
        let zero = Duration::ZERO;
        let tick = Duration::from_nanos(1);
        let phi = |phi: PhiConfig| DetectorChoice::Phi(phi);
        for (config, expected) in [
            (config().with_first_byte_timeout(zero), "first_byte_timeout"),
            (config().with_first_byte_timeout(s(10)), ""),
            (config().with_first_byte_timeout(s(10) + tick), "handshake_timeout"),
            (config().with_connect_timeout(s(10)), ""),
            (config().with_connect_timeout(s(10) + tick), "handshake_timeout"),
            (config().with_connect_timeout(zero), "connect_timeout"),
            (config().with_reconnect_initial_backoff(zero), "reconnect_initial_backoff"),
            (config().with_reconnect_initial_backoff(s(5)), ""),
            (config().with_reconnect_initial_backoff(s(5) + tick), "reconnect_max_backoff"),
            (config().with_reconnect_jitter(0.0), ""),
            (config().with_reconnect_jitter(0.99), ""),
            (config().with_reconnect_jitter(1.0), "reconnect_jitter"),
            (config().with_reconnect_jitter(f64::NAN), "reconnect_jitter"),
            (config().with_reconnect_max_retries(Some(0)), "reconnect_max_retries"),
            (config().with_reconnect_max_retries(Some(1)), ""),
            (config().with_refused_dial_wait_max(zero), "refused_dial_wait_max"),
            (config().with_refused_dials_give_up(HOUR), ""),
            (config().with_refused_dials_give_up(HOUR + tick), "refused_dials_give_up"),
            (config().with_never_reached_give_up(s(5)), ""),
            (config().with_never_reached_give_up(s(5) - tick), "never_reached_give_up"),
            (config().with_quarantine_period(zero), "quarantine_period"),
            (config().with_quarantine_period(HOUR), ""),
            (config().with_quarantine_period(HOUR + tick), "dead_uid_memory"),
            (config().with_system_message_give_up(s(10)), ""),
            (config().with_system_message_give_up(s(10) - tick), "system_message_give_up"),
            (config().with_probe_after(s(1)), ""),
            (config().with_probe_after(s(1) - tick), "probe_after"),
            (config().with_idle_timeout(s(60) + tick), ""),
            (config().with_idle_timeout(s(60)), "idle_timeout"),
            (config().with_forget_after(s(300) + tick), ""),
            (config().with_forget_after(s(300)), "forget_after"),
            (config().with_shutdown_timeout(s(3)), ""),
            (config().with_shutdown_timeout(s(3) - tick), "shutdown_timeout"),
            (config().with_queue_messages_max(0), "queue_messages_max"),
            (config().with_queue_messages_max(1), ""),
            (config().with_queue_bytes_max(256 * 1024), ""),
            (config().with_queue_bytes_max(256 * 1024 - 1), "queue_bytes_max"),
            (config().with_system_messages_max(0), "system_messages_max"),
            (config().with_pending_asks_max(65_536), ""),
            (config().with_pending_asks_max(65_537), "pending_asks_max"),
            (config().with_system_messages_max(1_000_000), ""),
            (config().with_system_messages_max(1_000_001), "system_messages_max"),
            (config().with_system_message_rate(0), "system_message_rate"),
            (config().with_system_message_rate(1), ""),
            (config().with_system_message_rate(1_000_001), "system_message_rate"),
            (config().with_system_message_burst(0), "system_message_burst"),
            (config().with_system_message_burst(1_000_000), ""),
            (config().with_system_message_burst(1_000_001), "system_message_burst"),
            (config().with_system_bytes_max(256 * 1024 - 1), "system_bytes_max"),
            (config().with_frame_bytes_max(FRAME_MAX), ""),
            (config().with_frame_bytes_max(FRAME_MAX + 1), "frame_bytes_max"),
            (config().with_frame_bytes_max(FRAME_MIN), ""),
            (config().with_frame_bytes_max(FRAME_MIN - 1), "frame_bytes_max"),
            (config().with_pending_asks_max(0), "pending_asks_max"),
            (config().with_watches_max(0), "watches_max"),
            (config().with_inbound_associations_max(0), "inbound_associations_max"),
            (config().with_inbound_associations_max(65_535), ""),
            (config().with_inbound_associations_max(65_536), "inbound_associations_max"),
            (config().with_dials_in_flight_max(0), "dials_in_flight_max"),
            (config().with_dials_in_flight_max(1), ""),
            (config().with_connections_max(2), "connections_max"),
            (config().with_connections_max(3), ""),
            (config().with_endpoint_manager_batch_size(0), "endpoint_manager_batch_size"),
            (config().with_endpoint_manager_queue_size(1_000), ""),
            (config().with_endpoint_manager_queue_size(999), "endpoint_manager_queue_size"),
            (config().with_backpressure_warning_threshold(0.85), "backpressure_warning_threshold"),
            (config().with_backpressure_warning_threshold(0.84), ""),
            (config().with_backpressure_critical_threshold(1.01), "backpressure_critical_threshold"),
            (config().with_flight_recorder_size(16), ""),
            (config().with_flight_recorder_size(15), "flight_recorder_size"),
            (config().with_flight_recorder_size(RECORDER_SIZE_MAX + 1), "flight_recorder_size"),
            (config().with_metrics_interval(None), ""),
            (config().with_metrics_interval(Some(ms(10))), ""),
            (config().with_metrics_interval(Some(ms(10) - tick)), "metrics_interval"),
            (
                config().with_sre_thresholds(SreThresholds::new().with_round_trip(tick)),
                "sre_thresholds.round_trip",
            ),
            (config().with_transport_scheme("my+wire"), ""),
            (config().with_transport_scheme(""), "transport_scheme"),
            (config().with_transport_scheme("fraktor"), "transport_scheme"),
            (config().with_transport_scheme("a b"), "transport_scheme"),
            (config().with_canonical_host(""), "canonical_host"),
            (config().with_canonical_host("a b").with_bind("localhost", 1), "canonical_host"),
            (config().with_blocked_systems([""]), "blocked_systems"),
            (config().with_blocked_systems(["shop", "h:1"]), ""),
            (config().with_allowed_systems(["x".repeat(256)]), "allowed_systems"),
            (config().with_allowed_systems(["shop", "h:1"]), ""),
            (config().with_heartbeat_interval(ms(100)), ""),
            (config().with_heartbeat_interval(ms(1)), ""),
            (config().with_heartbeat_interval(ms(1) - tick), "heartbeat_interval"),
            (
                config().with_watch_detector(phi(PhiConfig::default().with_threshold(0.5))),
                "watch_detector.threshold",
            ),
            (
                config().with_connection_detector(phi(PhiConfig::default().with_acceptable_pause(ms(999)))),
                "connection_detector",
            ),
            (
                config().with_connection_detector(DetectorChoice::Deadline(
                    DeadlineConfig::default().with_heartbeat_interval(ms(999)),
                )),
                "connection_detector",
            ),
        ] {
            let expected: Vec<&str> = if expected.is_empty() { Vec::new() } else { alloc::vec![expected] };
            assert_eq!(offending(&config), expected, "{config:?}");
        }
        // One zero breaks several rules: its own, and those of the settings bound to it.
        assert!(offending(&config().with_heartbeat_interval(zero)).len() >= 3);
    }

    /// Covers: S134
    #[test]
    fn one_error_lists_every_offender_with_value_and_rule() {
        let error = config()
            .with_bind("0.0.0.0", 1)
            .with_handshake_timeout(Duration::from_millis(100))
            .with_forget_after(Duration::from_secs(1))
            .with_frame_bytes_max(1)
            .with_backpressure_warning_threshold(0.9)
            .with_reconnect_jitter(7.5)
            .validate()
            .unwrap_err();
        let text = error.to_string();
        for (setting, value, rule) in [
            ("bind", "0.0.0.0", "with_canonical_host"),
            ("bind", "0.0.0.0:1", "with_insecure_plaintext(true)"),
            ("handshake_timeout", "100ms", "must be at least reconnect_initial_backoff (200ms)"),
            ("handshake_timeout", "100ms", "must be at least first_byte_timeout (3s)"),
            ("handshake_timeout", "100ms", "must be at least connect_timeout (5s)"),
            ("forget_after", "1s", "must be longer than idle_timeout (300s)"),
            ("frame_bytes_max", "1", "must be from 8192 to 262144"),
            ("backpressure_warning_threshold", "0.9", "must be below backpressure_critical_threshold (0.85)"),
            ("reconnect_jitter", "7.5", "must be from 0 to below 1"),
        ] {
            let found = error
                .violations
                .iter()
                .any(|v| v.setting == setting && v.value == value && v.rule.contains(rule));
            assert!(found, "{setting} = {value}: {rule} not in {text}");
        }
        assert_eq!(error.violations.len(), 9, "{text}");
        assert!(text.starts_with("9 settings are refused: bind = 0.0.0.0: "), "{text}");
    }

    type Change = Box<dyn Fn(RemotingExtensionConfig) -> RemotingExtensionConfig>;

    /// Every setting that associations read, at the edges of its own rule and of those it shares with others.
    fn changes() -> Vec<Change> {
        type Setter<T> = fn(RemotingExtensionConfig, T) -> RemotingExtensionConfig;
        let mut changes: Vec<Change> = Vec::new();
        let times: [Setter<Duration>; 17] = [
            RemotingExtensionConfig::with_first_byte_timeout,
            RemotingExtensionConfig::with_handshake_timeout,
            RemotingExtensionConfig::with_connect_timeout,
            RemotingExtensionConfig::with_heartbeat_interval,
            RemotingExtensionConfig::with_reconnect_initial_backoff,
            RemotingExtensionConfig::with_reconnect_max_backoff,
            RemotingExtensionConfig::with_refused_dial_wait_max,
            RemotingExtensionConfig::with_refused_dials_give_up,
            RemotingExtensionConfig::with_never_reached_give_up,
            RemotingExtensionConfig::with_quarantine_period,
            RemotingExtensionConfig::with_dead_uid_memory,
            RemotingExtensionConfig::with_system_message_give_up,
            RemotingExtensionConfig::with_probe_after,
            RemotingExtensionConfig::with_idle_timeout,
            RemotingExtensionConfig::with_forget_after,
            RemotingExtensionConfig::with_shutdown_flush,
            RemotingExtensionConfig::with_shutdown_timeout,
        ];
        let tick = Duration::from_nanos(1);
        for set in times {
            for at in [BRIEFEST, Duration::from_millis(20), HOUR / 3_600, HOUR / 60, HOUR / 12, HOUR, DAY] {
                for value in [at - tick, at, at + tick] {
                    changes.push(Box::new(move |config| set(config, value)));
                }
            }
            changes.push(Box::new(move |config| set(config, tick)));
        }
        let counts: [Setter<u32>; 7] = [
            RemotingExtensionConfig::with_queue_messages_max,
            RemotingExtensionConfig::with_system_messages_max,
            RemotingExtensionConfig::with_system_message_rate,
            RemotingExtensionConfig::with_system_message_burst,
            RemotingExtensionConfig::with_frame_bytes_max,
            RemotingExtensionConfig::with_pending_asks_max,
            RemotingExtensionConfig::with_watches_max,
        ];
        for set in counts {
            for value in [0, 1, 255, 8_192, 65_536, 65_537, FRAME_MAX, FRAME_MAX + 1, 1_000_001, u32::MAX] {
                changes.push(Box::new(move |config| set(config, value)));
            }
        }
        for value in [0, 1, 1_024, 8_192, 262_144, usize::MAX] {
            changes.push(Box::new(move |config| config.with_queue_bytes_max(value)));
            changes.push(Box::new(move |config| config.with_system_bytes_max(value)));
        }
        for value in [f64::NAN, -0.1, 0.0, f64::MIN_POSITIVE, 0.6, 0.85, 0.99, 1.0, 1.01] {
            changes.push(Box::new(move |config| config.with_reconnect_jitter(value)));
            changes.push(Box::new(move |config| config.with_backpressure_warning_threshold(value)));
            changes.push(Box::new(move |config| config.with_backpressure_critical_threshold(value)));
        }
        for value in [None, Some(0), Some(1)] {
            changes.push(Box::new(move |config| config.with_reconnect_max_retries(value)));
        }
        let deadline = DetectorChoice::Deadline(DeadlineConfig::default());
        let own = DetectorChoice::Custom(Arc::new(|| {
            Box::new(DeadlineFailureDetector::new(DeadlineConfig::default()).expect("holds"))
        }));
        for detector in [deadline, own] {
            let other = detector.clone();
            changes.push(Box::new(move |config| config.with_watch_detector(detector.clone())));
            changes.push(Box::new(move |config| config.with_connection_detector(other.clone())));
        }
        changes
    }

    /// Nothing that `validate` accepts is refused afterwards under names the user has never written.
    fn starts_if_valid(config: &RemotingExtensionConfig) -> bool {
        let valid = config.validate().is_ok();
        if valid && let Err(error) = config.association_config() {
            panic!("{error}\n{config:?}");
        }
        valid
    }

    /// Covers: S134
    #[test]
    fn any_two_settings_that_are_valid_make_associations() {
        let changes = changes();
        let mut valid = 0;
        for (n, first) in changes.iter().enumerate() {
            let once = first(config());
            for second in &changes[n..] {
                valid += usize::from(starts_if_valid(&second(once.clone())));
            }
        }
        assert!(valid > 10_000, "{valid}");
    }

    proptest! {
        /// Covers: S134
        #[test]
        fn any_settings_that_are_valid_make_associations(picks in vec(any::<Index>(), 3..8)) {
            let changes = changes();
            starts_if_valid(&picks.iter().fold(config(), |config, pick| pick.get(&changes)(config)));
        }
    }
}
