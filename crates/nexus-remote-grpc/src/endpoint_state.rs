//! The life of the connection to one address, without the connection: a machine that is told what happened and when,
//! and says what to do.
//!
//! It reads no clock and opens nothing. The driver feeds it with `handle_*`, then takes every [`EndpointAction`], sets the
//! mailbox's admission to [`EndpointState::refusal`], and calls back at [`EndpointState::poll_timeout`].
//!
//! ```text
//!            ensure_connected                    connected
//! Idle ------------------------> Connecting <---------------- Waiting
//!   ^                             |      |                       ^
//!   |  given up, peer left        |      +----- failed ----------+
//!   +-----------------------------+                              |
//!   ^                             v connected                    |
//!   +------- peer left -------- Connected ------- lost ----------+
//! ```
//!
//! A peer that is [never dialled](EndpointState::never_dialled) knows no attempts: it is connected from the call that it
//! opens, whatever was before, until that call is lost.
//!
//! # Source
//! `ensureConnected` and `handleConnectionFailure` of protoactor-go's endpoint writer. Unlike there a connection that has
//! served is made again without waiting for traffic, silence is noticed, and nothing is lost without a record.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nexus_actor_core::{Backoff, DeadLetterReason, Instant, Refusal};
use nexus_remote::EndpointStatistics;
use nexus_remote::association::Patience;
use nexus_remote::backpressure::BackpressureSignal;

/// How an endpoint stands, as its users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionState {
    /// Messages flow.
    Connected,
    /// Suspended by hand: nothing is sent or accepted until it is resumed.
    Suspended,
    /// Being connected, for the first time or again.
    Reconnecting,
    /// Neither connected nor on the way to it: unused, given up, refused or shut down.
    Closed,
}

impl ConnectionState {
    /// The word used in reports, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Suspended => "suspended",
            Self::Reconnecting => "reconnecting",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often and how fast a connection is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReconnectPolicy {
    /// Attempts before an address is given up, the first included; 5 by default, at least 1.
    pub max_retries: u32,
    /// The wait after the first failure; 200 ms by default, above zero. Each further one is twice as long.
    pub initial_backoff: Duration,
    /// The longest wait; 5 s by default, at least the first. Equal to it, every wait is the same.
    pub max_backoff: Duration,
    /// By what part a wait is lengthened or shortened at random; 0.2 by default, 0 to below 1. The longest wait holds
    /// all the same.
    pub jitter: f64,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            max_retries: 5,
            initial_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            jitter: 0.2,
        }
    }
}

impl ReconnectPolicy {
    /// Waits that double from `initial` to `max`, without jitter.
    #[must_use]
    pub const fn exponential(max_retries: u32, initial: Duration, max: Duration) -> Self {
        Self { max_retries, initial_backoff: initial, max_backoff: max, jitter: 0.0 }
    }

    /// The same wait each time, without jitter. protoactor-go's is 5 tries, 2 s.
    #[must_use]
    pub const fn fixed(max_retries: u32, wait: Duration) -> Self {
        Self::exponential(max_retries, wait, wait)
    }

    /// The wait after `failures` failures in a row; `random` is uniform in 0..1.
    #[must_use]
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let Self { initial_backoff: initial, max_backoff: max, jitter, .. } = *self;
        Backoff { initial, max, jitter }.delay(failures, random)
    }

    /// The waits of one row of attempts.
    #[must_use]
    pub fn delays(&self, seed: u64) -> ReconnectDelays {
        ReconnectDelays { policy: *self, failures: 0, random: fastrand::Rng::with_seed(seed) }
    }
}

/// The waits that a [`ReconnectPolicy`] allows in a row: as many as it has tries.
#[derive(Clone, Debug)]
pub struct ReconnectDelays {
    policy: ReconnectPolicy,
    failures: u32,
    random: fastrand::Rng,
}

impl ReconnectDelays {
    /// The next wait, `None` when the tries are used up.
    pub fn next_delay(&mut self) -> Option<Duration> {
        if self.failures >= self.policy.max_retries {
            return None;
        }
        self.failures += 1;
        Some(self.policy.delay(self.failures, self.random.f64()))
    }

    /// Begins a new row.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// When a silent peer is asked, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// The silence after which the peer is asked whether it is there; asked again once in each further interval. 15 s by
    /// default.
    pub interval: Duration,
    /// The silence after which the connection counts as lost; 45 s by default, longer than the interval.
    pub timeout: Duration,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(15), timeout: Duration::from_secs(45) }
    }
}

/// The literal name of [`HeartbeatConfig`] in one of the source documents.
pub type Heartbeat = HeartbeatConfig;

/// The numbers of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndpointStateConfig {
    /// How often and how fast a connection is tried.
    pub reconnect_policy: ReconnectPolicy,
    /// When silence counts.
    pub heartbeat: HeartbeatConfig,
    /// The time for one attempt, dial and handshake together; 15 s by default. Waiting for a turn to dial is no part of it.
    pub attempt_timeout: Duration,
    /// What becomes of waiting messages while a connection that has served is lost; by default they are recorded at once.
    pub patience: Patience,
    /// How long the queue must be Critical without a break until new messages are refused at once; never by default.
    pub auto_throttle: Option<Duration>,
}

impl Default for EndpointStateConfig {
    fn default() -> Self {
        Self {
            reconnect_policy: ReconnectPolicy::default(),
            heartbeat: HeartbeatConfig::default(),
            attempt_timeout: Duration::from_secs(15),
            patience: Patience::Drop,
            auto_throttle: None,
        }
    }
}

/// Why a connection is not there any more, or is to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectCause {
    /// The stream or its connection failed; the text is the transport's.
    Stream(Arc<str>),
    /// The peer said goodbye: it sent a disconnect request.
    PeerLeft,
    /// The peer was silent for longer than the heartbeat's timeout.
    Heartbeat {
        /// How long it had been silent.
        silence: Duration,
    },
    /// An attempt took longer than it may.
    AttemptTimeout,
    /// The peer is blocked, or blocks this node.
    Blocked,
    /// This node shuts down.
    Shutdown,
    /// A connection that nobody waits for any more was made.
    Unwanted,
}

impl fmt::Display for DisconnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(why) => f.write_str(why),
            Self::PeerLeft => f.write_str("the peer disconnected"),
            Self::Heartbeat { silence } => write!(f, "the peer was silent for {silence:?}"),
            Self::AttemptTimeout => f.write_str("no answer in time"),
            Self::Blocked => f.write_str("blocked"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::Unwanted => f.write_str("not wanted any more"),
        }
    }
}

/// Why an endpoint ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TerminatedReason {
    /// The tries are used up.
    Unreachable {
        /// How many there were; 0 of a peer that is never dialled.
        attempts: u32,
        /// What the last one said.
        last: DisconnectCause,
    },
    /// The peer said goodbye.
    PeerLeft,
    /// The peer is blocked, or blocks this node.
    Blocked,
    /// This node shuts down.
    Shutdown,
}

impl TerminatedReason {
    /// The reason recorded for what waited.
    #[must_use]
    pub const fn dead_letter_reason(&self) -> DeadLetterReason {
        match self {
            Self::Unreachable { .. } | Self::PeerLeft => DeadLetterReason::Unreachable,
            Self::Blocked => DeadLetterReason::Blocked,
            Self::Shutdown => DeadLetterReason::Shutdown,
        }
    }
}

impl fmt::Display for TerminatedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { attempts: 0, last } => write!(f, "unreachable: {last}"),
            Self::Unreachable { attempts: 1, last } => write!(f, "unreachable after 1 attempt: {last}"),
            Self::Unreachable { attempts, last } => {
                write!(f, "unreachable after {attempts} attempts: {last}")
            }
            Self::PeerLeft => f.write_str("the peer disconnected"),
            Self::Blocked => f.write_str("blocked"),
            Self::Shutdown => f.write_str("shutdown"),
        }
    }
}

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointAction {
    /// Dial, open the call and shake hands; then say [`EndpointState::handle_connected`],
    /// [`EndpointState::handle_connect_failed`] or [`EndpointState::handle_blocked`].
    Connect {
        /// Which attempt of this row, from 1.
        attempt: u32,
    },
    /// An attempt other than the very first begins: publish `EndpointReconnectEvent`. Precedes its `Connect`.
    Reconnecting {
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// The connection serves: publish `EndpointConnectedEvent`, register watches again.
    Connected {
        /// The id that the node there gave.
        system_id: Arc<str>,
        /// Whether the id is another than before: what was watched there is gone.
        is_new_incarnation: bool,
        /// Whether there was a connection before since the endpoint was made or given up.
        again: bool,
    },
    /// Ask the silent peer whether it is there.
    Probe,
    /// End the call, or give up the attempt under way; what comes of either afterwards is of no interest. `PeerLeft` and
    /// `Stream` need no goodbye.
    Disconnect {
        /// Why.
        cause: DisconnectCause,
    },
    /// What waits in the user queue becomes dead letters.
    Discard {
        /// Their reason.
        reason: DeadLetterReason,
    },
    /// Nothing is sent or accepted until `Resumed`.
    Suspended,
    /// Sending goes on.
    Resumed,
    /// The endpoint has ended: publish `EndpointTerminatedEvent` with the final statistics, tell watchers, forget it.
    Terminated {
        /// Why.
        reason: TerminatedReason,
    },
}

/// The way to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Link {
    /// Nothing is wanted of it.
    Idle,
    /// An attempt is under way; without a deadline while it waits for its turn to dial.
    Connecting { deadline: Option<Instant> },
    /// Between two attempts, or after the last.
    Waiting { until: Instant },
    /// Messages flow, or would if it were not suspended.
    Connected { heard: Instant, asked: Instant },
    /// Broken or not made, and suspended: nobody tries until it is resumed.
    Held,
    /// Refused until told otherwise.
    Blocked,
    /// Shut down for good.
    Closed,
}

/// One row of attempts, from the first message or the loss of a connection until it serves or is given up.
#[derive(Clone, Debug)]
struct Attempts {
    delays: ReconnectDelays,
    /// Begun in this row.
    made: u32,
    last: DisconnectCause,
    /// The peer has called during the wait at hand, which is worth one attempt beside the row.
    is_called: bool,
    /// While that one is under way: until when the row waits.
    beside: Option<Instant>,
}

/// The queue has been Critical since then, or is refused by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Throttle {
    Off,
    Critical { until: Instant },
    Refusing,
}

/// A timer that fires this much late shows that this process stood still, not the peer.
const LATE: Duration = Duration::from_secs(1);

/// Everything kept about the connection to one address. See the [module documentation](self).
#[derive(Debug)]
pub struct EndpointState {
    config: EndpointStateConfig,
    statistics: Arc<EndpointStatistics>,
    link: Link,
    /// The way to it is opened by the peer alone.
    never_dialled: bool,
    suspended: bool,
    attempts: Attempts,
    /// Attempts begun since the endpoint was made.
    begun: u64,
    /// The id given last. Kept over a termination: a restarted node is told from a broken connection.
    system_id: Option<Arc<str>>,
    /// A connection has served since the endpoint was begun.
    served: bool,
    signal: BackpressureSignal,
    throttle: Throttle,
    actions: VecDeque<EndpointAction>,
    /// How often it has ended.
    ends: u64,
}

impl EndpointState {
    /// An unused endpoint; `seed` decides its jitter.
    #[must_use]
    pub fn new(config: EndpointStateConfig, statistics: Arc<EndpointStatistics>, seed: u64) -> Self {
        let delays = config.reconnect_policy.delays(seed);
        Self {
            config,
            statistics,
            link: Link::Idle,
            never_dialled: false,
            suspended: false,
            attempts: Attempts {
                delays,
                made: 0,
                last: DisconnectCause::AttemptTimeout,
                is_called: false,
                beside: None,
            },
            begun: 0,
            system_id: None,
            served: false,
            signal: BackpressureSignal::Normal,
            throttle: Throttle::Off,
            actions: VecDeque::new(),
            ends: 0,
        }
    }

    /// The same for a peer that opens its calls itself and cannot be dialled: see [`handle_accepted`](Self::handle_accepted).
    #[must_use]
    pub const fn never_dialled(mut self) -> Self {
        self.never_dialled = true;
        self
    }

    /// Its numbers.
    #[must_use]
    pub const fn config(&self) -> &EndpointStateConfig {
        &self.config
    }

    /// How often and how fast a connection is tried.
    #[must_use]
    pub const fn reconnect_policy(&self) -> &ReconnectPolicy {
        &self.config.reconnect_policy
    }

    /// When silence counts.
    #[must_use]
    pub const fn heartbeat(&self) -> &HeartbeatConfig {
        &self.config.heartbeat
    }

    /// Its figures, those of the queue among them.
    #[must_use]
    pub const fn statistics(&self) -> &Arc<EndpointStatistics> {
        &self.statistics
    }

    /// How it stands.
    #[must_use]
    pub const fn connection_state(&self) -> ConnectionState {
        match self.link {
            Link::Blocked | Link::Closed => ConnectionState::Closed,
            _ if self.suspended => ConnectionState::Suspended,
            Link::Connected { .. } => ConnectionState::Connected,
            Link::Connecting { .. } | Link::Waiting { .. } | Link::Held => ConnectionState::Reconnecting,
            Link::Idle => ConnectionState::Closed,
        }
    }

    /// Whether there is a connection, be it suspended.
    #[must_use]
    pub const fn is_linked(&self) -> bool {
        matches!(self.link, Link::Connected { .. })
    }

    /// Whether it is between two attempts, or after the last.
    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self.link, Link::Waiting { .. })
    }

    /// Whether there is no connection, none is under way, and the end of a suspension will begin none.
    pub(crate) const fn is_at_rest(&self) -> bool {
        matches!(self.link, Link::Idle | Link::Blocked | Link::Closed)
    }

    /// Which attempt is under way or was the last, from 1; 0 when there was none since it last served.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempts.made
    }

    /// The number of the attempt begun last, over all rows.
    pub(crate) const fn attempt_number(&self) -> u64 {
        self.begun
    }

    /// Whether that attempt is the one under way.
    pub(crate) const fn is_under_way(&self, number: u64) -> bool {
        matches!(self.link, Link::Connecting { .. }) && self.begun == number
    }

    /// When something last came from the peer; `None` without a connection.
    #[must_use]
    pub const fn heard_at(&self) -> Option<Instant> {
        let Link::Connected { heard, .. } = self.link else { return None };
        Some(heard)
    }

    /// The id that the node there gave last.
    #[must_use]
    pub const fn system_id(&self) -> Option<&Arc<str>> {
        self.system_id.as_ref()
    }

    /// The level of the queue as last told.
    #[must_use]
    pub const fn throttle_level(&self) -> BackpressureSignal {
        self.signal
    }

    /// Whether new messages are refused because the queue was Critical for too long.
    #[must_use]
    pub const fn is_throttled(&self) -> bool {
        matches!(self.throttle, Throttle::Refusing)
    }

    /// Whether it refuses until [`retry`](Self::retry) or [`handle_unblocked`](Self::handle_unblocked).
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        matches!(self.link, Link::Blocked)
    }

    /// Whether user messages may be queued now.
    #[must_use]
    pub fn accepts_deliver(&self) -> bool {
        self.refusal().is_none()
    }

    /// Why user messages may not be queued now; `None` if they may. The driver hands it to the mailbox after each input.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self.link {
            Link::Blocked => return Some(Refusal::Blocked),
            Link::Closed => return Some(Refusal::Shutdown),
            Link::Connecting { .. } | Link::Waiting { .. }
                if self.served && self.config.patience == Patience::Drop && !self.suspended =>
            {
                return Some(Refusal::Unreachable);
            }
            Link::Idle
            | Link::Connecting { .. }
            | Link::Waiting { .. }
            | Link::Connected { .. }
            | Link::Held => {}
        }
        (self.throttle == Throttle::Refusing)
            .then_some(Refusal::Limit("the queue toward the peer has been critical for too long"))
    }

    /// Something is to be sent: connects unless that is done, under way or refused. A peer that is never dialled and has
    /// no call open is unreachable.
    pub fn ensure_connected(&mut self, now: Instant) {
        match self.link {
            Link::Idle if self.suspended => self.link = Link::Held,
            Link::Idle if self.never_dialled => {
                self.attempts.last = DisconnectCause::Stream(Arc::from("it has no call open"));
                self.give_up();
            }
            Link::Idle => self.begin(now),
            Link::Connecting { .. }
            | Link::Waiting { .. }
            | Link::Connected { .. }
            | Link::Held
            | Link::Blocked
            | Link::Closed => {}
        }
    }

    /// The attempt under way succeeded, and the node there said who it is.
    pub fn handle_connected(&mut self, now: Instant, system_id: impl Into<Arc<str>>) {
        if !matches!(self.link, Link::Connecting { .. }) {
            // Given up meanwhile.
            self.push(EndpointAction::Disconnect { cause: DisconnectCause::Unwanted });
            return;
        }
        self.serves(now, system_id.into());
    }

    /// The peer opened a call, and said who it is: of a peer that is never dialled. The call serves from now on, also in the
    /// place of one that is not known to be over. A suspension stays.
    pub fn handle_accepted(&mut self, now: Instant, system_id: impl Into<Arc<str>>) {
        match self.link {
            Link::Blocked => self.push(EndpointAction::Disconnect { cause: DisconnectCause::Blocked }),
            Link::Closed => self.push(EndpointAction::Disconnect { cause: DisconnectCause::Shutdown }),
            Link::Idle
            | Link::Connecting { .. }
            | Link::Waiting { .. }
            | Link::Connected { .. }
            | Link::Held => self.serves(now, system_id.into()),
        }
    }

    fn serves(&mut self, now: Instant, system_id: Arc<str>) {
        let is_new_incarnation = self.system_id.as_ref().is_some_and(|before| *before != system_id);
        self.system_id = Some(system_id.clone());
        self.link = Link::Connected { heard: now, asked: now };
        let again = core::mem::replace(&mut self.served, true);
        self.reset_attempts();
        self.push(EndpointAction::Connected { system_id, is_new_incarnation, again });
    }

    /// Attempt `number` has to wait for its turn to dial. Its time does not run meanwhile: that others are dialled says nothing of
    /// the peer. Whatever gives an attempt up gives up this one as well.
    pub(crate) fn handle_turn_awaited(&mut self, number: u64) {
        if self.is_under_way(number) {
            self.link = Link::Connecting { deadline: None };
        }
    }

    /// It is the turn of attempt `number`: its time begins.
    pub(crate) fn handle_dialling(&mut self, now: Instant, number: u64) {
        if self.is_under_way(number) {
            self.link = Link::Connecting { deadline: Some(now + self.config.attempt_timeout) };
        }
    }

    /// The attempt under way failed: dial, call or handshake.
    pub fn handle_connect_failed(&mut self, now: Instant, why: impl Into<Arc<str>>) {
        if matches!(self.link, Link::Connecting { .. }) {
            self.attempt_failed(now, DisconnectCause::Stream(why.into()));
        }
    }

    /// The peer has opened a call to this node: it is there. Who waits for the next attempt makes one at once, beside the
    /// row, whose count and instants stay as they are. In each wait there is one: a peer that calls without end is not
    /// dialled without end.
    pub fn handle_called(&mut self, now: Instant) {
        let Link::Waiting { until } = self.link else { return };
        if core::mem::replace(&mut self.attempts.is_called, true) {
            return;
        }
        self.attempts.beside = Some(until);
        self.begin_attempt(now, self.attempts.made + 1);
    }

    /// The connection ended, or is to be counted as ended. While connecting it is a failed attempt.
    pub fn handle_disconnected(&mut self, now: Instant, cause: DisconnectCause) {
        match (&self.link, &cause) {
            (Link::Connected { .. } | Link::Connecting { .. }, DisconnectCause::Blocked) => {
                self.handle_blocked(now);
            }
            (Link::Connected { .. }, DisconnectCause::PeerLeft) => {
                self.push(EndpointAction::Disconnect { cause });
                self.terminate(TerminatedReason::PeerLeft);
            }
            (Link::Connected { .. }, _) => self.lost(now, cause),
            (Link::Connecting { .. }, _) => {
                self.push(EndpointAction::Disconnect { cause: cause.clone() });
                self.attempt_failed(now, cause);
            }
            // It ended before, and that was acted upon.
            (Link::Idle | Link::Waiting { .. } | Link::Held | Link::Blocked | Link::Closed, _) => {}
        }
    }

    /// The peer is on the block list, or answered that this node is on its.
    pub fn handle_blocked(&mut self, _now: Instant) {
        match self.link {
            Link::Idle => {
                self.link = Link::Blocked;
                return;
            }
            // Nothing lifts a shutdown.
            Link::Blocked | Link::Closed => return,
            Link::Connecting { .. } | Link::Connected { .. } => {
                self.push(EndpointAction::Disconnect { cause: DisconnectCause::Blocked });
            }
            Link::Waiting { .. } | Link::Held => {}
        }
        self.terminate(TerminatedReason::Blocked);
        self.link = Link::Blocked;
    }

    /// The peer is not blocked any more; the next message connects.
    pub fn handle_unblocked(&mut self) {
        if self.link == Link::Blocked {
            self.link = Link::Idle;
        }
    }

    /// Something came from the peer, by whichever connection.
    pub fn handle_received(&mut self, now: Instant) {
        if let Link::Connected { heard, .. } = &mut self.link {
            *heard = now.max(*heard);
        }
    }

    /// The queue reached another level.
    pub fn handle_throttled(&mut self, now: Instant, signal: BackpressureSignal) {
        self.signal = signal;
        self.throttle = match (signal, self.throttle, self.config.auto_throttle) {
            (BackpressureSignal::Critical, Throttle::Off, Some(after)) => {
                Throttle::Critical { until: now + after }
            }
            (BackpressureSignal::Critical, throttle, _) => throttle,
            _ => Throttle::Off,
        };
    }

    /// Sends and accepts nothing until [`resume`](Self::resume); messages wait within the queue's bounds. A connection
    /// that is there is kept, one that is not is not made.
    pub fn suspend(&mut self) {
        if self.suspended || self.link == Link::Closed {
            return;
        }
        self.suspended = true;
        match self.link {
            Link::Connecting { .. } => {
                self.push(EndpointAction::Disconnect { cause: DisconnectCause::Unwanted });
                self.link = Link::Held;
            }
            Link::Waiting { .. } => self.link = Link::Held,
            Link::Idle | Link::Connected { .. } | Link::Held | Link::Blocked | Link::Closed => {}
        }
        self.push(EndpointAction::Suspended);
    }

    /// Ends a suspension; a connection that was lost or wanted meanwhile is tried at once.
    pub fn resume(&mut self, now: Instant) {
        if !self.suspended {
            return;
        }
        self.suspended = false;
        self.push(EndpointAction::Resumed);
        match &mut self.link {
            Link::Held if self.never_dialled => self.give_up(),
            Link::Held => {
                self.reset_attempts();
                self.attempt_now(now);
            }
            // Nobody listened to the peer meanwhile.
            Link::Connected { heard, asked } => (*heard, *asked) = (now, now),
            Link::Idle | Link::Connecting { .. } | Link::Waiting { .. } | Link::Blocked | Link::Closed => {}
        }
    }

    /// Whether it is suspended by hand.
    #[must_use]
    pub const fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Connects now, whatever was waited for: an operator asks, or the peer is not blocked any more. A connection that
    /// serves is left alone.
    pub fn retry(&mut self, now: Instant) {
        match self.link {
            Link::Idle | Link::Blocked if self.never_dialled => self.link = Link::Idle,
            Link::Idle | Link::Blocked => {
                self.link = Link::Idle;
                self.ensure_connected(now);
            }
            Link::Waiting { .. } => {
                self.reset_attempts();
                self.attempt_now(now);
            }
            Link::Connecting { .. } | Link::Connected { .. } | Link::Held | Link::Closed => {}
        }
    }

    /// The node shuts down. Final.
    pub fn close(&mut self) {
        let used = match self.link {
            Link::Closed => return,
            Link::Idle | Link::Blocked => false,
            Link::Connecting { .. } | Link::Connected { .. } => {
                self.push(EndpointAction::Disconnect { cause: DisconnectCause::Shutdown });
                true
            }
            Link::Waiting { .. } | Link::Held => true,
        };
        if used {
            self.terminate(TerminatedReason::Shutdown);
        } else {
            self.push(EndpointAction::Discard { reason: DeadLetterReason::Shutdown });
        }
        self.suspended = false;
        self.link = Link::Closed;
    }

    /// A moment named by [`poll_timeout`](Self::poll_timeout) has come. Early or late calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Throttle::Critical { until } = self.throttle
            && now >= until
        {
            self.throttle = Throttle::Refusing;
        }
        match self.link {
            Link::Connecting { deadline: Some(deadline) } if now >= deadline => {
                let cause = DisconnectCause::AttemptTimeout;
                self.push(EndpointAction::Disconnect { cause: cause.clone() });
                self.attempt_failed(now, cause);
            }
            Link::Waiting { until } if now >= until => self.waited(now),
            Link::Connected { .. } if !self.suspended => self.listen(now),
            Link::Idle
            | Link::Connecting { .. }
            | Link::Waiting { .. }
            | Link::Connected { .. }
            | Link::Held
            | Link::Blocked
            | Link::Closed => {}
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None` while nothing is waited for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let link = match self.link {
            Link::Connecting { deadline } => deadline,
            Link::Waiting { until } => Some(until),
            Link::Connected { heard, asked } if !self.suspended => {
                let HeartbeatConfig { interval, timeout } = self.config.heartbeat;
                Some((heard.max(asked) + interval).min(heard + timeout))
            }
            Link::Idle | Link::Connected { .. } | Link::Held | Link::Blocked | Link::Closed => None,
        };
        let throttle = match self.throttle {
            Throttle::Critical { until } => Some(until),
            Throttle::Off | Throttle::Refusing => None,
        };
        [link, throttle].into_iter().flatten().min()
    }

    /// Whether something is to be done.
    #[must_use]
    pub fn has_action(&self) -> bool {
        !self.actions.is_empty()
    }

    /// What to do next, `None` when all is done.
    pub fn poll_action(&mut self) -> Option<EndpointAction> {
        self.actions.pop_front()
    }

    /// How many actions wait.
    pub(crate) fn actions(&self) -> usize {
        self.actions.len()
    }

    /// How often it has [ended](EndpointAction::Terminated) since it was made.
    pub(crate) const fn ends(&self) -> u64 {
        self.ends
    }

    fn push(&mut self, action: EndpointAction) {
        self.actions.push_back(action);
    }

    fn reset_attempts(&mut self) {
        self.attempts.delays.reset();
        self.attempts.made = 0;
        self.attempts.is_called = false;
        self.attempts.beside = None;
    }

    fn begin(&mut self, now: Instant) {
        self.served = false;
        self.reset_attempts();
        self.attempt_now(now);
    }

    fn attempt_now(&mut self, now: Instant) {
        self.attempts.made += 1;
        self.begin_attempt(now, self.attempts.made);
    }

    fn begin_attempt(&mut self, now: Instant, attempt: u32) {
        self.begun += 1;
        if attempt > 1 || self.served {
            self.statistics.increment_reconnect_attempt();
            self.push(EndpointAction::Reconnecting { attempt });
        }
        self.link = Link::Connecting { deadline: Some(now + self.config.attempt_timeout) };
        self.push(EndpointAction::Connect { attempt });
    }

    fn attempt_failed(&mut self, now: Instant, cause: DisconnectCause) {
        self.attempts.last = cause;
        match self.attempts.beside.take() {
            Some(until) => self.link = Link::Waiting { until },
            None => self.wait(now),
        }
    }

    /// Waits for the next attempt. After the last of a first connection there is one more wait, so that both rows, this
    /// one and that after a loss, give up after the same time.
    fn wait(&mut self, now: Instant) {
        self.attempts.is_called = false;
        match self.attempts.delays.next_delay() {
            Some(delay) => self.link = Link::Waiting { until: now + delay },
            None => self.give_up(),
        }
    }

    fn waited(&mut self, now: Instant) {
        if self.attempts.made < self.config.reconnect_policy.max_retries {
            self.attempt_now(now);
        } else {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        let (attempts, last) = (self.attempts.made, self.attempts.last.clone());
        self.terminate(TerminatedReason::Unreachable { attempts, last });
    }

    /// A connection that served is gone. The first attempt comes after the first wait: a peer that accepts and hangs up
    /// is not dialled in a circle, and all that lose a node at once do not return at once.
    fn lost(&mut self, now: Instant, cause: DisconnectCause) {
        self.push(EndpointAction::Disconnect { cause: cause.clone() });
        self.reset_attempts();
        self.attempts.last = cause;
        if self.suspended {
            self.link = Link::Held;
            return;
        }
        if self.never_dialled {
            return self.give_up();
        }
        if self.config.patience == Patience::Drop {
            self.push(EndpointAction::Discard { reason: DeadLetterReason::Unreachable });
        }
        self.wait(now);
    }

    fn terminate(&mut self, reason: TerminatedReason) {
        self.link = Link::Idle;
        self.served = false;
        self.reset_attempts();
        self.ends += 1;
        self.push(EndpointAction::Discard { reason: reason.dead_letter_reason() });
        self.push(EndpointAction::Terminated { reason });
    }

    fn listen(&mut self, now: Instant) {
        let due = self.poll_timeout();
        let Link::Connected { heard, asked } = &mut self.link else { return };
        let HeartbeatConfig { interval, timeout } = self.config.heartbeat;
        // What this process slept through says nothing about the peer.
        let late = due.map_or(Duration::ZERO, |due| now - due);
        if late > LATE {
            *heard = (*heard + late).min(now);
        }
        let silence = now - *heard;
        if silence >= timeout {
            self.lost(now, DisconnectCause::Heartbeat { silence });
        } else if now - (*heard).max(*asked) >= interval || late > LATE {
            *asked = now;
            self.push(EndpointAction::Probe);
        }
    }
}

#[cfg(test)]
mod tests;
