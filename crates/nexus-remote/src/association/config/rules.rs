//! What the numbers of an association must satisfy, each and together.

use core::time::Duration;

use super::AssociationConfig;
use crate::config_error::{ConfigError, Violations};
use crate::wire::limit;

impl AssociationConfig {
    /// Lists every offending setting with its value and its rule.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut found = Violations::new();
        found.above_zero("connect_timeout", self.connect_timeout);
        found.longer_than(
            "handshake_timeout",
            self.handshake_timeout,
            "handshake_retry",
            self.handshake_retry,
        );
        found.above_zero("handshake_retry", self.handshake_retry);
        found.not_below(
            "never_reached_timeout",
            self.never_reached_timeout,
            "handshake_retry",
            self.handshake_retry,
        );
        found.require(
            self.reconnect_policy.is_valid(),
            "reconnect_policy",
            &self.reconnect_policy,
            "waits must be above zero and min at most max",
        );
        found.require(
            self.reconnect_jitter >= 0.0 && self.reconnect_jitter < 1.0,
            "reconnect_jitter",
            &self.reconnect_jitter,
            "must be from 0 to below 1",
        );
        found.require(
            self.reconnect_attempts_max != Some(0),
            "reconnect_attempts_max",
            &self.reconnect_attempts_max,
            "must be at least 1, or none",
        );
        found.above_zero("refused_delay_max", self.refused_delay_max);
        found.require(
            self.refused_verdict != Some(Duration::ZERO),
            "refused_verdict",
            &self.refused_verdict,
            "must be above zero, or none",
        );
        found.require(
            self.heartbeat_interval >= Duration::from_millis(1)
                && self.heartbeat_interval <= Duration::from_secs(3_600),
            "heartbeat_interval",
            &self.heartbeat_interval,
            "must be from 1 ms to 1 h",
        );
        found.not_below(
            "first_answer_allowance",
            self.first_answer_allowance,
            "heartbeat_interval",
            self.heartbeat_interval,
        );
        found.longer_than("idle_timeout", self.idle_timeout, "liveness_interval", self.liveness_interval);
        found.not_below(
            "liveness_interval",
            self.liveness_interval,
            "heartbeat_interval",
            self.heartbeat_interval,
        );
        found.longer_than("forget_timeout", self.forget_timeout, "idle_timeout", self.idle_timeout);
        found.above_zero("quarantine_period", self.quarantine_period);
        found.not_below(
            "quarantine_memory",
            self.quarantine_memory,
            "quarantine_period",
            self.quarantine_period,
        );
        found.within("quarantine_uids_max", self.quarantine_uids_max, 1..=4_096);
        found.longer_than("system_give_up", self.system_give_up, "system_resend", self.system_resend);
        found.above_zero("system_resend", self.system_resend);
        found.require(
            self.system_resend_max >= 1 && self.system_resend_max <= self.system_window,
            "system_resend_max",
            &self.system_resend_max,
            "must be from 1 to system_window",
        );
        found.require(
            self.system_window >= 1 && self.system_window <= self.system_queue_max,
            "system_window",
            &self.system_window,
            "must be from 1 to system_queue_max",
        );
        found.within("system_queue_max", self.system_queue_max, 1..=1_000_000);
        found.require(
            self.system_queue_bytes_max >= 4 * 1024,
            "system_queue_bytes_max",
            &self.system_queue_bytes_max,
            "must be at least 4 KiB",
        );
        found.within("system_rate", self.system_rate, 1..=1_000_000);
        found.within("system_burst", self.system_burst, 1..=1_000_000);
        found.at_least("watches_max", self.watches_max, 1);
        found.at_least("watchers_max", self.watchers_max, 1);
        found.at_least("lane_messages_max", self.lane_messages_max, 1);
        found.require(
            self.lane_bytes_max >= 1_024,
            "lane_bytes_max",
            &self.lane_bytes_max,
            "must be at least 1 KiB",
        );
        found.require(
            self.warning_mark > 0.0 && self.warning_mark < self.critical_mark,
            "warning_mark",
            &self.warning_mark,
            "must be above 0 and below critical_mark",
        );
        found.require(
            self.critical_mark > self.warning_mark && self.critical_mark <= 1.0,
            "critical_mark",
            &self.critical_mark,
            "must be above warning_mark and at most 1",
        );
        found.require(
            (1_024..=limit::FRAME).contains(&self.frame_max),
            "frame_max",
            &self.frame_max,
            "must be from 1 KiB to 256 KiB",
        );
        found.require(
            u64::from(self.window_bytes) >= u64::from(self.acknowledge_bytes) + 2 * u64::from(self.frame_max),
            "window_bytes",
            &self.window_bytes,
            "must be at least acknowledge_bytes plus two frame_max",
        );
        found.at_least("acknowledge_bytes", self.acknowledge_bytes, 1);
        found.require(
            self.acknowledge_delay < self.heartbeat_interval,
            "acknowledge_delay",
            &self.acknowledge_delay,
            "must be shorter than heartbeat_interval",
        );
        found.within("references_max", self.references_max, 1..=16_384);
        found.within("manifests_max", self.manifests_max, 1..=1_024);
        found.require(
            self.table_bytes_max >= 4 * 1024,
            "table_bytes_max",
            &self.table_bytes_max,
            "must be at least 4 KiB",
        );
        found.at_least("recipients_max", self.recipients_max, 1);
        found.within("asks_max", self.asks_max, 1..=65_536);
        found.at_least("connections_max", self.connections_max, 3);
        found.require(
            self.flush_timeout <= Duration::from_secs(3_600),
            "flush_timeout",
            &self.flush_timeout,
            "must be at most 1 h",
        );
        found.require(
            (4 * 1024..=1024 * 1024).contains(&self.turn_bytes_max),
            "turn_bytes_max",
            &self.turn_bytes_max,
            "must be from 4 KiB to 1 MiB",
        );
        found.within("history_max", self.history_max, 1..=1_024);
        found.absorb("detector", self.detector.validate());
        if let Some(detector) = &self.connection_detector {
            found.absorb("connection_detector", detector.validate());
        }
        found.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::association::{AssociationConfigBuilder, ReconnectPolicy};
    use alloc::string::String;
    use alloc::vec::Vec;

    fn names(builder: AssociationConfigBuilder) -> Vec<String> {
        builder.build().map_or_else(
            |e| e.violations.into_iter().map(|v| v.setting.into_owned()).collect(),
            |_| Vec::new(),
        )
    }

    /// Covers: S134
    #[test]
    fn one_error_lists_every_offending_setting_with_value_and_rule() {
        let s = Duration::from_secs;
        let builder = AssociationConfig::builder()
            .handshake_timeout(s(1))
            .handshake_retry(s(2))
            .idle_timeout(s(10))
            .liveness_interval(s(20))
            .warning_mark(0.9)
            .reconnect_jitter(f64::NAN)
            .system_rate(0)
            .system_burst(1_000_001)
            .lane_messages_max(0)
            .asks_max(65_537);
        let error = builder.clone().build().unwrap_err();
        let text = alloc::format!("{error}");
        for part in ["handshake_timeout = 1s", "longer than handshake_retry", "asks_max = 65537", "NaN"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(
            names(builder),
            [
                "handshake_timeout",
                "reconnect_jitter",
                "idle_timeout",
                "system_rate",
                "system_burst",
                "lane_messages_max",
                "warning_mark",
                "critical_mark",
                "asks_max"
            ]
        );
    }

    /// Each rule below, at and above its limit.
    #[test]
    fn limits_hold_below_at_and_above() {
        let b = AssociationConfig::builder;
        let ms = Duration::from_millis;
        for (name, builder, ok) in [
            ("default", b(), true),
            ("retry at timeout", b().handshake_retry(ms(10_000)), false),
            ("retry below timeout", b().handshake_retry(ms(9_999)), true),
            ("asks at", b().asks_max(65_536), true),
            ("asks none", b().asks_max(0), false),
            ("frame below", b().frame_max(1_023), false),
            ("frame at least", b().frame_max(1_024), true),
            ("frame at most", b().frame_max(limit::FRAME), true),
            ("frame above", b().frame_max(limit::FRAME + 1), false),
            ("references none", b().references_max(0), false),
            ("references above", b().references_max(16_385), false),
            ("jitter one", b().reconnect_jitter(1.0), false),
            ("jitter none", b().reconnect_jitter(0.0), true),
            ("mark at critical", b().warning_mark(0.85), false),
            ("critical one", b().critical_mark(1.0), true),
            ("critical above", b().critical_mark(1.01), false),
            ("window too small", b().window_bytes(2 * limit::FRAME), false),
            ("window at", b().window_bytes(2 * limit::FRAME + 64 * 1024), true),
            ("no attempts", b().reconnect_attempts_max(Some(0)), false),
            (
                "min above max",
                b().reconnect_policy(ReconnectPolicy::Exponential { min: ms(2), max: ms(1) }),
                false,
            ),
        ] {
            assert_eq!(builder.build().is_ok(), ok, "{name}");
        }
    }
}
