//! The numbers of an association.

mod builder;
mod rules;

use core::time::Duration;

use crate::failure_detector::DetectorChoice;
use crate::wire::{CapabilityFlags, limit};

pub use builder::AssociationConfigBuilder;

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconnectPolicy {
    /// Doubles from `min` to `max`.
    Exponential {
        /// The first wait.
        min: Duration,
        /// The longest wait.
        max: Duration,
    },
    /// Always the same.
    Fixed(Duration),
}

impl ReconnectPolicy {
    fn is_valid(self) -> bool {
        match self {
            Self::Exponential { min, max } => !min.is_zero() && min <= max,
            Self::Fixed(wait) => !wait.is_zero(),
        }
    }
}

/// What a full lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The new message is refused and its caller told.
    RefuseNewest,
    /// The oldest message that no connection has taken yet is recorded as *queue full* to make room. The new
    /// one is refused only when everything kept has been handed to a connection already.
    DropOldest,
}

/// What becomes of waiting messages while the connection to a known peer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// They are kept within the bounds and sent afterwards.
    Keep,
    /// What no connection has taken is recorded as *unreachable* at once, and so is what comes.
    Drop,
}

/// The numbers of an association: immutable, shared by all associations of a node.
///
/// Every number has a default that suits a data-center network; [`AssociationConfig::builder`] changes them.
#[derive(Clone, Debug)]
pub struct AssociationConfig {
    connect_timeout: Duration,
    handshake_timeout: Duration,
    handshake_retry: Duration,
    never_reached_timeout: Duration,
    reconnect_policy: ReconnectPolicy,
    reconnect_jitter: f64,
    reconnect_attempts_max: Option<u32>,
    refused_delay_max: Duration,
    refused_window: Duration,
    refused_verdict: Option<Duration>,
    detector: DetectorChoice,
    connection_detector: Option<DetectorChoice>,
    heartbeat_interval: Duration,
    first_answer_allowance: Duration,
    idle_timeout: Duration,
    liveness_interval: Duration,
    forget_timeout: Duration,
    quarantine_period: Duration,
    quarantine_memory: Duration,
    quarantine_uids_max: usize,
    system_give_up: Duration,
    system_resend: Duration,
    system_resend_max: usize,
    system_window: usize,
    system_queue_max: usize,
    system_queue_bytes_max: usize,
    system_rate: u32,
    system_burst: u32,
    watches_max: usize,
    watchers_max: usize,
    lane_messages_max: usize,
    lane_bytes_max: usize,
    overflow: Overflow,
    patience: Patience,
    warning_mark: f64,
    critical_mark: f64,
    frame_max: u32,
    window_bytes: u32,
    acknowledge_bytes: u32,
    acknowledge_delay: Duration,
    references_max: u32,
    manifests_max: u16,
    table_bytes_max: usize,
    recipients_max: usize,
    asks_max: usize,
    connections_max: usize,
    flush_timeout: Duration,
    turn_bytes_max: usize,
    history_max: usize,
    capabilities: CapabilityFlags,
}

impl AssociationConfig {
    /// A builder that holds the defaults.
    #[must_use]
    pub fn builder() -> AssociationConfigBuilder {
        AssociationConfigBuilder {
            config: Self {
                connect_timeout: Duration::from_secs(5),
                handshake_timeout: Duration::from_secs(10),
                handshake_retry: Duration::from_secs(1),
                never_reached_timeout: Duration::from_secs(20),
                reconnect_policy: ReconnectPolicy::Exponential {
                    min: Duration::from_millis(200),
                    max: Duration::from_secs(5),
                },
                reconnect_jitter: 0.2,
                reconnect_attempts_max: None,
                refused_delay_max: Duration::from_millis(500),
                refused_window: Duration::from_secs(60),
                refused_verdict: Some(Duration::from_secs(3)),
                detector: DetectorChoice::default(),
                connection_detector: None,
                heartbeat_interval: Duration::from_secs(1),
                first_answer_allowance: Duration::from_secs(11),
                idle_timeout: Duration::from_secs(300),
                liveness_interval: Duration::from_secs(60),
                forget_timeout: Duration::from_secs(3_600),
                quarantine_period: Duration::from_secs(30),
                quarantine_memory: Duration::from_secs(3_600),
                quarantine_uids_max: 16,
                system_give_up: Duration::from_secs(600),
                system_resend: Duration::from_secs(1),
                system_resend_max: 256,
                system_window: 1_024,
                system_queue_max: 20_000,
                system_queue_bytes_max: 8 * 1024 * 1024,
                system_rate: 10_000,
                system_burst: 20_000,
                watches_max: 100_000,
                watchers_max: 10_000,
                lane_messages_max: 1_000_000,
                lane_bytes_max: 64 * 1024 * 1024,
                overflow: Overflow::RefuseNewest,
                patience: Patience::Keep,
                warning_mark: 0.6,
                critical_mark: 0.85,
                frame_max: limit::FRAME,
                window_bytes: 64 * 1024 * 1024 + 256 * 1024,
                acknowledge_bytes: 64 * 1024,
                acknowledge_delay: Duration::from_millis(20),
                references_max: 16_384,
                manifests_max: 1_024,
                table_bytes_max: 4 * 1024 * 1024,
                recipients_max: 1_048_576,
                asks_max: 65_536,
                connections_max: 8,
                flush_timeout: Duration::from_secs(3),
                turn_bytes_max: 64 * 1024,
                history_max: 16,
                capabilities: CapabilityFlags::NONE,
            },
        }
    }

    /// A builder that holds these numbers.
    #[must_use]
    pub fn to_builder(&self) -> AssociationConfigBuilder {
        AssociationConfigBuilder { config: self.clone() }
    }

    /// See [`AssociationConfigBuilder::connect_timeout`].
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// See [`AssociationConfigBuilder::handshake_timeout`].
    #[must_use]
    pub const fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    /// See [`AssociationConfigBuilder::handshake_retry`].
    #[must_use]
    pub const fn handshake_retry(&self) -> Duration {
        self.handshake_retry
    }

    /// See [`AssociationConfigBuilder::never_reached_timeout`].
    #[must_use]
    pub const fn never_reached_timeout(&self) -> Duration {
        self.never_reached_timeout
    }

    /// See [`AssociationConfigBuilder::reconnect_policy`].
    #[must_use]
    pub const fn reconnect_policy(&self) -> ReconnectPolicy {
        self.reconnect_policy
    }

    /// See [`AssociationConfigBuilder::reconnect_jitter`].
    #[must_use]
    pub const fn reconnect_jitter(&self) -> f64 {
        self.reconnect_jitter
    }

    /// See [`AssociationConfigBuilder::reconnect_attempts_max`].
    #[must_use]
    pub const fn reconnect_attempts_max(&self) -> Option<u32> {
        self.reconnect_attempts_max
    }

    /// See [`AssociationConfigBuilder::refused_delay_max`].
    #[must_use]
    pub const fn refused_delay_max(&self) -> Duration {
        self.refused_delay_max
    }

    /// See [`AssociationConfigBuilder::refused_window`].
    #[must_use]
    pub const fn refused_window(&self) -> Duration {
        self.refused_window
    }

    /// See [`AssociationConfigBuilder::refused_verdict`].
    #[must_use]
    pub const fn refused_verdict(&self) -> Option<Duration> {
        self.refused_verdict
    }

    /// See [`AssociationConfigBuilder::detector`].
    #[must_use]
    pub const fn detector(&self) -> &DetectorChoice {
        &self.detector
    }

    /// See [`AssociationConfigBuilder::connection_detector`].
    #[must_use]
    pub fn connection_detector(&self) -> &DetectorChoice {
        self.connection_detector.as_ref().unwrap_or(&self.detector)
    }

    /// See [`AssociationConfigBuilder::heartbeat_interval`].
    #[must_use]
    pub const fn heartbeat_interval(&self) -> Duration {
        self.heartbeat_interval
    }

    /// See [`AssociationConfigBuilder::first_answer_allowance`].
    #[must_use]
    pub const fn first_answer_allowance(&self) -> Duration {
        self.first_answer_allowance
    }

    /// See [`AssociationConfigBuilder::idle_timeout`].
    #[must_use]
    pub const fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// See [`AssociationConfigBuilder::liveness_interval`].
    #[must_use]
    pub const fn liveness_interval(&self) -> Duration {
        self.liveness_interval
    }

    /// See [`AssociationConfigBuilder::forget_timeout`].
    #[must_use]
    pub const fn forget_timeout(&self) -> Duration {
        self.forget_timeout
    }

    /// See [`AssociationConfigBuilder::quarantine_period`].
    #[must_use]
    pub const fn quarantine_period(&self) -> Duration {
        self.quarantine_period
    }

    /// See [`AssociationConfigBuilder::quarantine_memory`].
    #[must_use]
    pub const fn quarantine_memory(&self) -> Duration {
        self.quarantine_memory
    }

    /// See [`AssociationConfigBuilder::quarantine_uids_max`].
    #[must_use]
    pub const fn quarantine_uids_max(&self) -> usize {
        self.quarantine_uids_max
    }

    /// See [`AssociationConfigBuilder::system_give_up`].
    #[must_use]
    pub const fn system_give_up(&self) -> Duration {
        self.system_give_up
    }

    /// See [`AssociationConfigBuilder::system_resend`].
    #[must_use]
    pub const fn system_resend(&self) -> Duration {
        self.system_resend
    }

    /// See [`AssociationConfigBuilder::system_resend_max`].
    #[must_use]
    pub const fn system_resend_max(&self) -> usize {
        self.system_resend_max
    }

    /// See [`AssociationConfigBuilder::system_window`].
    #[must_use]
    pub const fn system_window(&self) -> usize {
        self.system_window
    }

    /// See [`AssociationConfigBuilder::system_queue_max`].
    #[must_use]
    pub const fn system_queue_max(&self) -> usize {
        self.system_queue_max
    }

    /// See [`AssociationConfigBuilder::system_queue_bytes_max`].
    #[must_use]
    pub const fn system_queue_bytes_max(&self) -> usize {
        self.system_queue_bytes_max
    }

    /// See [`AssociationConfigBuilder::watches_max`].
    #[must_use]
    pub const fn watches_max(&self) -> usize {
        self.watches_max
    }

    /// See [`AssociationConfigBuilder::watchers_max`].
    #[must_use]
    pub const fn watchers_max(&self) -> usize {
        self.watchers_max
    }

    /// See [`AssociationConfigBuilder::system_rate`].
    #[must_use]
    pub const fn system_rate(&self) -> u32 {
        self.system_rate
    }

    /// See [`AssociationConfigBuilder::system_burst`].
    #[must_use]
    pub const fn system_burst(&self) -> u32 {
        self.system_burst
    }

    /// See [`AssociationConfigBuilder::lane_messages_max`].
    #[must_use]
    pub const fn lane_messages_max(&self) -> usize {
        self.lane_messages_max
    }

    /// See [`AssociationConfigBuilder::lane_bytes_max`].
    #[must_use]
    pub const fn lane_bytes_max(&self) -> usize {
        self.lane_bytes_max
    }

    /// See [`AssociationConfigBuilder::overflow`].
    #[must_use]
    pub const fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// See [`AssociationConfigBuilder::patience`].
    #[must_use]
    pub const fn patience(&self) -> Patience {
        self.patience
    }

    /// See [`AssociationConfigBuilder::warning_mark`].
    #[must_use]
    pub const fn warning_mark(&self) -> f64 {
        self.warning_mark
    }

    /// See [`AssociationConfigBuilder::critical_mark`].
    #[must_use]
    pub const fn critical_mark(&self) -> f64 {
        self.critical_mark
    }

    /// See [`AssociationConfigBuilder::frame_max`].
    #[must_use]
    pub const fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// See [`AssociationConfigBuilder::window_bytes`].
    #[must_use]
    pub const fn window_bytes(&self) -> u32 {
        self.window_bytes
    }

    /// See [`AssociationConfigBuilder::acknowledge_bytes`].
    #[must_use]
    pub const fn acknowledge_bytes(&self) -> u32 {
        self.acknowledge_bytes
    }

    /// See [`AssociationConfigBuilder::acknowledge_delay`].
    #[must_use]
    pub const fn acknowledge_delay(&self) -> Duration {
        self.acknowledge_delay
    }

    /// See [`AssociationConfigBuilder::references_max`].
    #[must_use]
    pub const fn references_max(&self) -> u32 {
        self.references_max
    }

    /// See [`AssociationConfigBuilder::manifests_max`].
    #[must_use]
    pub const fn manifests_max(&self) -> u16 {
        self.manifests_max
    }

    /// See [`AssociationConfigBuilder::table_bytes_max`].
    #[must_use]
    pub const fn table_bytes_max(&self) -> usize {
        self.table_bytes_max
    }

    /// See [`AssociationConfigBuilder::recipients_max`].
    #[must_use]
    pub const fn recipients_max(&self) -> usize {
        self.recipients_max
    }

    /// See [`AssociationConfigBuilder::asks_max`].
    #[must_use]
    pub const fn asks_max(&self) -> usize {
        self.asks_max
    }

    /// See [`AssociationConfigBuilder::connections_max`].
    #[must_use]
    pub const fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// See [`AssociationConfigBuilder::flush_timeout`].
    #[must_use]
    pub const fn flush_timeout(&self) -> Duration {
        self.flush_timeout
    }

    /// See [`AssociationConfigBuilder::turn_bytes_max`].
    #[must_use]
    pub const fn turn_bytes_max(&self) -> usize {
        self.turn_bytes_max
    }

    /// See [`AssociationConfigBuilder::history_max`].
    #[must_use]
    pub const fn history_max(&self) -> usize {
        self.history_max
    }

    /// See [`AssociationConfigBuilder::capabilities`].
    #[must_use]
    pub const fn capabilities(&self) -> CapabilityFlags {
        self.capabilities
    }
}
