//! The numbers of an association.

use alloc::sync::Arc;
use core::time::Duration;

use crate::config_error::{ConfigError, Violations};
use crate::failure_detector::DetectorChoice;
use crate::wire::{CapabilityFlags, limit};

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

/// Changes numbers of an [`AssociationConfig`] before it is built.
#[derive(Clone, Debug)]
pub struct AssociationConfigBuilder {
    config: AssociationConfig,
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

impl AssociationConfigBuilder {
    /// How long one dial may take (L25).
    ///
    /// Default 5 s; above zero.
    #[must_use]
    pub const fn connect_timeout(mut self, value: Duration) -> Self {
        self.config.connect_timeout = value;
        self
    }

    /// How long one handshake may take on a connection (L1).
    ///
    /// Default 10 s; longer than the handshake retry.
    #[must_use]
    pub const fn handshake_timeout(mut self, value: Duration) -> Self {
        self.config.handshake_timeout = value;
        self
    }

    /// After how long an unanswered request, or an unconfirmed answer, is sent again.
    ///
    /// Default 1 s; above zero.
    #[must_use]
    pub const fn handshake_retry(mut self, value: Duration) -> Self {
        self.config.handshake_retry = value;
        self
    }

    /// After how long an address without a session is given up: what waits is recorded as *unreachable* (L25).
    ///
    /// Default 20 s; at least the handshake retry.
    #[must_use]
    pub const fn never_reached_timeout(mut self, value: Duration) -> Self {
        self.config.never_reached_timeout = value;
        self
    }

    /// How the wait between attempts grows (L25).
    ///
    /// Default exponential from 200 ms to 5 s; waits are above zero and `min` is at most `max`.
    #[must_use]
    pub const fn reconnect_policy(mut self, value: ReconnectPolicy) -> Self {
        self.config.reconnect_policy = value;
        self
    }

    /// By which part a wait is shortened or lengthened at random.
    ///
    /// Default 0.2; from 0 to below 1.
    #[must_use]
    pub const fn reconnect_jitter(mut self, value: f64) -> Self {
        self.config.reconnect_jitter = value;
        self
    }

    /// After how many failed attempts in a row a peer is given up until something is sent.
    ///
    /// Default none: a known peer is tried for ever. At least 1.
    #[must_use]
    pub const fn reconnect_attempts_max(mut self, value: Option<u32>) -> Self {
        self.config.reconnect_attempts_max = value;
        self
    }

    /// The longest wait while dials are refused, so that a restarted peer is found soon (L25).
    ///
    /// Default 500 ms; above zero.
    #[must_use]
    pub const fn refused_delay_max(mut self, value: Duration) -> Self {
        self.config.refused_delay_max = value;
        self
    }

    /// For how long refused dials keep the short wait.
    ///
    /// Default 1 min; zero turns it off.
    #[must_use]
    pub const fn refused_window(mut self, value: Duration) -> Self {
        self.config.refused_window = value;
        self
    }

    /// After how long with the connection closed and nothing but refused dials a watched peer counts as dead.
    ///
    /// Default 3 s; `None` turns this evidence off, for a proxy may refuse on behalf of a living peer. Above zero.
    #[must_use]
    pub const fn refused_verdict(mut self, value: Option<Duration>) -> Self {
        self.config.refused_verdict = value;
        self
    }

    /// Which failure detector judges the peer's heartbeats.
    ///
    /// Default phi with threshold 10, acceptable pause 10 s.
    #[must_use]
    pub fn detector(mut self, value: DetectorChoice) -> Self {
        self.config.detector = value;
        self
    }

    /// How often a heartbeat is sent while something is watched or unacknowledged (L24).
    ///
    /// Default 1 s; from 1 ms to 1 h.
    #[must_use]
    pub const fn heartbeat_interval(mut self, value: Duration) -> Self {
        self.config.heartbeat_interval = value;
        self
    }

    /// How long a watch waits for an address without a session before its watchers are told *unreachable*.
    ///
    /// Default 11 s; at least the heartbeat interval.
    #[must_use]
    pub const fn first_answer_allowance(mut self, value: Duration) -> Self {
        self.config.first_answer_allowance = value;
        self
    }

    /// After how long without traffic a connection is closed; the session stays (L31).
    ///
    /// Default 5 min; longer than the liveness interval.
    #[must_use]
    pub const fn idle_timeout(mut self, value: Duration) -> Self {
        self.config.idle_timeout = value;
        self
    }

    /// After how long without hearing anything the peer is asked for a sign of life (L31).
    ///
    /// Default 1 min; at least the heartbeat interval.
    #[must_use]
    pub const fn liveness_interval(mut self, value: Duration) -> Self {
        self.config.liveness_interval = value;
        self
    }

    /// After how long unused an association may be removed (L31).
    ///
    /// Default 1 h; longer than the idle timeout.
    #[must_use]
    pub const fn forget_timeout(mut self, value: Duration) -> Self {
        self.config.forget_timeout = value;
        self
    }

    /// How long an unreachable or undelivered incarnation stays quarantined; other reasons have no end.
    ///
    /// Default 30 s; above zero.
    #[must_use]
    pub const fn quarantine_period(mut self, value: Duration) -> Self {
        self.config.quarantine_period = value;
        self
    }

    /// How long a refused incarnation without a deadline is remembered at least (L21).
    ///
    /// Default 1 h; at least the quarantine period.
    #[must_use]
    pub const fn quarantine_memory(mut self, value: Duration) -> Self {
        self.config.quarantine_memory = value;
        self
    }

    /// How many refused incarnations are remembered; the oldest goes first (L21).
    ///
    /// Default 16; from 1 to 4,096.
    #[must_use]
    pub const fn quarantine_uids_max(mut self, value: usize) -> Self {
        self.config.quarantine_uids_max = value;
        self
    }

    /// After how long an unacknowledged system message ends the session (L31).
    ///
    /// Default 10 min; longer than the system resend interval.
    #[must_use]
    pub const fn system_give_up(mut self, value: Duration) -> Self {
        self.config.system_give_up = value;
        self
    }

    /// After how long without an acknowledgement system messages are sent again.
    ///
    /// Default 1 s; above zero.
    #[must_use]
    pub const fn system_resend(mut self, value: Duration) -> Self {
        self.config.system_resend = value;
        self
    }

    /// How many system messages are sent again in one round.
    ///
    /// Default 256; from 1 to the system window.
    #[must_use]
    pub const fn system_resend_max(mut self, value: usize) -> Self {
        self.config.system_resend_max = value;
        self
    }

    /// How many system messages are unacknowledged at a time; watches and notices beyond it wait as wanted state.
    ///
    /// Default 1,024; at least 1, at most the system queue.
    #[must_use]
    pub const fn system_window(mut self, value: usize) -> Self {
        self.config.system_window = value;
        self
    }

    /// How many system messages that cannot wait as state are kept; one more ends the session (L16).
    ///
    /// Default 20,000; from 1 to 1,000,000.
    #[must_use]
    pub const fn system_queue_max(mut self, value: usize) -> Self {
        self.config.system_queue_max = value;
        self
    }

    /// As the system queue, in bytes (L16).
    ///
    /// Default 8 MiB; at least 4 KiB.
    #[must_use]
    pub const fn system_queue_bytes_max(mut self, value: usize) -> Self {
        self.config.system_queue_bytes_max = value;
        self
    }

    /// How many actors are watched in one direction (L18); the next is answered *limit*.
    ///
    /// Default 100,000; at least 1.
    #[must_use]
    pub const fn watches_max(mut self, value: usize) -> Self {
        self.config.watches_max = value;
        self
    }

    /// How many local watchers one remote actor has (L18); the next is answered *limit*.
    ///
    /// Default 10,000; at least 1.
    #[must_use]
    pub const fn watchers_max(mut self, value: usize) -> Self {
        self.config.watchers_max = value;
        self
    }

    /// How many messages wait or are unacknowledged (L15); an empty lane takes one in any case.
    ///
    /// Default 1,000,000; at least 1.
    #[must_use]
    pub const fn lane_messages_max(mut self, value: usize) -> Self {
        self.config.lane_messages_max = value;
        self
    }

    /// As the messages, in bytes (L15).
    ///
    /// Default 64 MiB; at least 1 KiB.
    #[must_use]
    pub const fn lane_bytes_max(mut self, value: usize) -> Self {
        self.config.lane_bytes_max = value;
        self
    }

    /// What a full lane does.
    ///
    /// Default: the newest message is refused.
    #[must_use]
    pub const fn overflow(mut self, value: Overflow) -> Self {
        self.config.overflow = value;
        self
    }

    /// What becomes of waiting messages while the connection is lost.
    ///
    /// Default: they are kept within the bounds and sent afterwards.
    #[must_use]
    pub const fn patience(mut self, value: Patience) -> Self {
        self.config.patience = value;
        self
    }

    /// From which part of the fuller bound the lane's pressure is *warning*.
    ///
    /// Default 0.6; above 0 and below the critical mark.
    #[must_use]
    pub const fn warning_mark(mut self, value: f64) -> Self {
        self.config.warning_mark = value;
        self
    }

    /// Above which part of the fuller bound the lane's pressure is *critical*.
    ///
    /// Default 0.85; above the warning mark and at most 1.
    #[must_use]
    pub const fn critical_mark(mut self, value: f64) -> Self {
        self.config.critical_mark = value;
        self
    }

    /// The largest frame, by its length field, in bytes (L7); the smaller of both nodes holds.
    ///
    /// Default 256 KiB; from 1 KiB to 256 KiB.
    #[must_use]
    pub const fn frame_max(mut self, value: u32) -> Self {
        self.config.frame_max = value;
        self
    }

    /// How many unacknowledged bytes we let the peer have under way to us.
    ///
    /// Default 64 MiB + 256 KiB; at least the acknowledgement threshold and two frames, else a sender could wait for ever.
    #[must_use]
    pub const fn window_bytes(mut self, value: u32) -> Self {
        self.config.window_bytes = value;
        self
    }

    /// After how many received bytes an acknowledgement is due at once.
    ///
    /// Default 64 KiB; at least 1.
    #[must_use]
    pub const fn acknowledge_bytes(mut self, value: u32) -> Self {
        self.config.acknowledge_bytes = value;
        self
    }

    /// How long an acknowledgement may wait for a ride when less was received and more is expected.
    ///
    /// Default 20 ms; shorter than the heartbeat interval.
    #[must_use]
    pub const fn acknowledge_delay(mut self, value: Duration) -> Self {
        self.config.acknowledge_delay = value;
        self
    }

    /// Entries of the reference table in each direction (L14); the coldest is replaced.
    ///
    /// Default 16,384; from 1 to 16,384.
    #[must_use]
    pub const fn references_max(mut self, value: u32) -> Self {
        self.config.references_max = value;
        self
    }

    /// Entries of the manifest table in each direction (L14); the coldest is replaced.
    ///
    /// Default 1,024; from 1 to 1,024.
    #[must_use]
    pub const fn manifests_max(mut self, value: u16) -> Self {
        self.config.manifests_max = value;
        self
    }

    /// Bytes of names in the tables of one direction (L14).
    ///
    /// Default 4 MiB; at least 4 KiB.
    #[must_use]
    pub const fn table_bytes_max(mut self, value: usize) -> Self {
        self.config.table_bytes_max = value;
        self
    }

    /// Recipients that hold a number at a time, each of a live remote reference here.
    ///
    /// Default 1,048,576; at least 1.
    #[must_use]
    pub const fn recipients_max(mut self, value: usize) -> Self {
        self.config.recipients_max = value;
        self
    }

    /// Asks awaiting an answer from the peer (L19); the next is refused.
    ///
    /// Default 65,536; from 1 to 65,536.
    #[must_use]
    pub const fn asks_max(mut self, value: usize) -> Self {
        self.config.asks_max = value;
        self
    }

    /// Connections of one association, those in handshake included (L6).
    ///
    /// Default 8; at least 3: one serving, one dialled, one accepted.
    #[must_use]
    pub const fn connections_max(mut self, value: usize) -> Self {
        self.config.connections_max = value;
        self
    }

    /// How long an orderly leave may take before the rest is recorded as *shutdown* (L28).
    ///
    /// Default 3 s; at most 1 h.
    #[must_use]
    pub const fn flush_timeout(mut self, value: Duration) -> Self {
        self.config.flush_timeout = value;
        self
    }

    /// Bytes of small frames copied into one write turn; a chunk follows by reference.
    ///
    /// Default 64 KiB; from 4 KiB to 1 MiB.
    #[must_use]
    pub const fn turn_bytes_max(mut self, value: usize) -> Self {
        self.config.turn_bytes_max = value;
        self
    }

    /// How many changes of state are remembered for diagnostics.
    ///
    /// Default 16; from 1 to 1,024.
    #[must_use]
    pub const fn history_max(mut self, value: usize) -> Self {
        self.config.history_max = value;
        self
    }

    /// What this node offers beyond version 1; only what both offer is used.
    ///
    /// Default nothing.
    #[must_use]
    pub const fn capabilities(mut self, value: CapabilityFlags) -> Self {
        self.config.capabilities = value;
        self
    }

    /// The finished numbers.
    ///
    /// # Errors
    /// One error that lists every offending setting with its value and its rule, pairs included.
    pub fn build(self) -> Result<Arc<AssociationConfig>, ConfigError> {
        let c = self.config;
        let mut found = Violations::new();
        found.require(
            c.connect_timeout > Duration::ZERO,
            "connect_timeout",
            &c.connect_timeout,
            "must be above zero",
        );
        found.require(
            c.handshake_timeout > c.handshake_retry,
            "handshake_timeout",
            &c.handshake_timeout,
            "must be longer than handshake_retry",
        );
        found.require(
            c.handshake_retry > Duration::ZERO,
            "handshake_retry",
            &c.handshake_retry,
            "must be above zero",
        );
        found.require(
            c.never_reached_timeout >= c.handshake_retry,
            "never_reached_timeout",
            &c.never_reached_timeout,
            "must be at least handshake_retry",
        );
        found.require(
            c.reconnect_policy.is_valid(),
            "reconnect_policy",
            &c.reconnect_policy,
            "waits must be above zero and min at most max",
        );
        found.require(
            c.reconnect_jitter >= 0.0 && c.reconnect_jitter < 1.0,
            "reconnect_jitter",
            &c.reconnect_jitter,
            "must be from 0 to below 1",
        );
        found.require(
            c.reconnect_attempts_max != Some(0),
            "reconnect_attempts_max",
            &c.reconnect_attempts_max,
            "must be at least 1, or none",
        );
        found.require(
            c.refused_delay_max > Duration::ZERO,
            "refused_delay_max",
            &c.refused_delay_max,
            "must be above zero",
        );
        found.require(
            c.refused_verdict != Some(Duration::ZERO),
            "refused_verdict",
            &c.refused_verdict,
            "must be above zero, or none",
        );
        found.require(
            c.heartbeat_interval >= Duration::from_millis(1)
                && c.heartbeat_interval <= Duration::from_secs(3_600),
            "heartbeat_interval",
            &c.heartbeat_interval,
            "must be from 1 ms to 1 h",
        );
        found.require(
            c.first_answer_allowance >= c.heartbeat_interval,
            "first_answer_allowance",
            &c.first_answer_allowance,
            "must be at least heartbeat_interval",
        );
        found.require(
            c.idle_timeout > c.liveness_interval,
            "idle_timeout",
            &c.idle_timeout,
            "must be longer than liveness_interval",
        );
        found.require(
            c.liveness_interval >= c.heartbeat_interval,
            "liveness_interval",
            &c.liveness_interval,
            "must be at least heartbeat_interval",
        );
        found.require(
            c.forget_timeout > c.idle_timeout,
            "forget_timeout",
            &c.forget_timeout,
            "must be longer than idle_timeout",
        );
        found.require(
            c.quarantine_period > Duration::ZERO,
            "quarantine_period",
            &c.quarantine_period,
            "must be above zero",
        );
        found.require(
            c.quarantine_memory >= c.quarantine_period,
            "quarantine_memory",
            &c.quarantine_memory,
            "must be at least quarantine_period",
        );
        found.require(
            (1..=4_096).contains(&c.quarantine_uids_max),
            "quarantine_uids_max",
            &c.quarantine_uids_max,
            "must be from 1 to 4096",
        );
        found.require(
            c.system_give_up > c.system_resend,
            "system_give_up",
            &c.system_give_up,
            "must be longer than system_resend",
        );
        found.require(
            c.system_resend > Duration::ZERO,
            "system_resend",
            &c.system_resend,
            "must be above zero",
        );
        found.require(
            c.system_resend_max >= 1 && c.system_resend_max <= c.system_window,
            "system_resend_max",
            &c.system_resend_max,
            "must be from 1 to system_window",
        );
        found.require(
            c.system_window >= 1 && c.system_window <= c.system_queue_max,
            "system_window",
            &c.system_window,
            "must be from 1 to system_queue_max",
        );
        found.require(
            (1..=1_000_000).contains(&c.system_queue_max),
            "system_queue_max",
            &c.system_queue_max,
            "must be from 1 to 1000000",
        );
        found.require(
            c.system_queue_bytes_max >= 4 * 1024,
            "system_queue_bytes_max",
            &c.system_queue_bytes_max,
            "must be at least 4 KiB",
        );
        found.require(c.watches_max >= 1, "watches_max", &c.watches_max, "must be at least 1");
        found.require(c.watchers_max >= 1, "watchers_max", &c.watchers_max, "must be at least 1");
        found.require(
            c.lane_messages_max >= 1,
            "lane_messages_max",
            &c.lane_messages_max,
            "must be at least 1",
        );
        found.require(
            c.lane_bytes_max >= 1_024,
            "lane_bytes_max",
            &c.lane_bytes_max,
            "must be at least 1 KiB",
        );
        found.require(
            c.warning_mark > 0.0 && c.warning_mark < c.critical_mark,
            "warning_mark",
            &c.warning_mark,
            "must be above 0 and below critical_mark",
        );
        found.require(
            c.critical_mark > c.warning_mark && c.critical_mark <= 1.0,
            "critical_mark",
            &c.critical_mark,
            "must be above warning_mark and at most 1",
        );
        found.require(
            (1_024..=limit::FRAME).contains(&c.frame_max),
            "frame_max",
            &c.frame_max,
            "must be from 1 KiB to 256 KiB",
        );
        found.require(
            u64::from(c.window_bytes) >= u64::from(c.acknowledge_bytes) + 2 * u64::from(c.frame_max),
            "window_bytes",
            &c.window_bytes,
            "must be at least acknowledge_bytes plus two frame_max",
        );
        found.require(
            c.acknowledge_bytes >= 1,
            "acknowledge_bytes",
            &c.acknowledge_bytes,
            "must be at least 1",
        );
        found.require(
            c.acknowledge_delay < c.heartbeat_interval,
            "acknowledge_delay",
            &c.acknowledge_delay,
            "must be shorter than heartbeat_interval",
        );
        found.require(
            (1..=16_384).contains(&c.references_max),
            "references_max",
            &c.references_max,
            "must be from 1 to 16384",
        );
        found.require(
            (1..=1_024).contains(&c.manifests_max),
            "manifests_max",
            &c.manifests_max,
            "must be from 1 to 1024",
        );
        found.require(
            c.table_bytes_max >= 4 * 1024,
            "table_bytes_max",
            &c.table_bytes_max,
            "must be at least 4 KiB",
        );
        found.require(c.recipients_max >= 1, "recipients_max", &c.recipients_max, "must be at least 1");
        found.require((1..=65_536).contains(&c.asks_max), "asks_max", &c.asks_max, "must be from 1 to 65536");
        found.require(c.connections_max >= 3, "connections_max", &c.connections_max, "must be at least 3");
        found.require(
            c.flush_timeout <= Duration::from_secs(3_600),
            "flush_timeout",
            &c.flush_timeout,
            "must be at most 1 h",
        );
        found.require(
            (4 * 1024..=1024 * 1024).contains(&c.turn_bytes_max),
            "turn_bytes_max",
            &c.turn_bytes_max,
            "must be from 4 KiB to 1 MiB",
        );
        found.require(
            (1..=1_024).contains(&c.history_max),
            "history_max",
            &c.history_max,
            "must be from 1 to 1024",
        );
        found.absorb("detector", c.detector.validate());
        found.into_result()?;
        Ok(Arc::new(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
