//! How the numbers of an association are changed.

use alloc::sync::Arc;
use core::time::Duration;

use super::{AssociationConfig, Overflow, Patience, ReconnectPolicy};
use crate::config_error::ConfigError;
use crate::failure_detector::DetectorChoice;
use crate::wire::CapabilityFlags;

/// Changes numbers of an [`AssociationConfig`] before it is built.
#[derive(Clone, Debug)]
pub struct AssociationConfigBuilder {
    pub(super) config: AssociationConfig,
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

    /// Which failure detector judges the peer's heartbeats while something is watched across the association.
    ///
    /// Default phi with threshold 10, acceptable pause 10 s.
    #[must_use]
    pub fn detector(mut self, value: DetectorChoice) -> Self {
        self.config.detector = value;
        self
    }

    /// Which failure detector judges them while nothing is watched: whether the connection is still good.
    ///
    /// Default that of [`detector`](Self::detector).
    #[must_use]
    pub fn connection_detector(mut self, value: DetectorChoice) -> Self {
        self.config.connection_detector = Some(value);
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

    /// How many system messages a second are taken from the peer in the long run (L17); beyond it nothing is read from it
    /// for as long as they are too many.
    ///
    /// Default 10,000; from 1 to 1,000,000.
    #[must_use]
    pub const fn system_rate(mut self, per_second: u32) -> Self {
        self.config.system_rate = per_second;
        self
    }

    /// How many are taken at once after a pause (L17).
    ///
    /// Default 20,000; from 1 to 1,000,000.
    #[must_use]
    pub const fn system_burst(mut self, value: u32) -> Self {
        self.config.system_burst = value;
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
        self.config.check()?;
        Ok(Arc::new(self.config))
    }
}
