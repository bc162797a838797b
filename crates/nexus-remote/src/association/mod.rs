//! Everything known of one peer address, over all its incarnations: a machine without sockets, tasks or clock.
//!
//! An [`Association`] takes commands of the local node, `handle_*` inputs of its driver, and gives `poll_*`
//! outputs. It never reads a clock, never blocks, and never fails on a peer's fault: that becomes a change of
//! state, a close and an event. What it keeps of a peer are
//!
//! - the *ordinary lane*: user frames, numbered by position, kept until acknowledged, so that a broken connection
//!   loses nothing while both incarnations live;
//! - *system messages*: watches, notices, stops; numbered, acknowledged, sent again, exactly once per session;
//! - *pending asks*, the tables of short numbers, and the timers of reconnecting, heartbeats and quarantine.
//!
//! Two locks are meant to go with a peer: one around the [`Association`], one around its [`Inbound`], the
//! receiving side of the ordinary lane, which the reader holds while it delivers a batch.
//!
//! # The handshake in three steps
//! The opener sends a request, the acceptor answers, and the opener's first acknowledgement confirms. Until then
//! the acceptor has changed nothing: a replayed or abandoned request costs it neither its session nor its
//! connection. An answered but unconfirmed session is remembered, so that an opener whose connection broke right
//! after the answer resumes it.
//!
//! # When both dial at once
//! The side with the larger uid keeps the connection it opened. It lets the other's request wait until its own
//! attempt has come to an end, so an attempt that fails costs nothing.

mod admission;
mod allowance;
mod config;
mod deadline;
mod event;
mod forget;
mod handshake;
mod heartbeat;
mod inbound;
mod input;
mod lane;
mod leave;
mod link;
mod pending;
mod pressure;
mod quarantine;
mod quarantine_memory;
mod reconnect;
mod send;
mod session;
mod state;
mod statistics;
mod system_messages;
mod tables;
mod timer;
mod transmit;
mod watch;

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use nexus_actor_core::path::{ActorPath, ActorUid, Address};
use nexus_actor_core::remote::{PendingReply, ReplyKey};
use nexus_actor_core::{CorrelationId, Instant, Refusal};

use self::allowance::Allowance;
use self::lane::{Lane, Salvage};
use self::leave::Closing;
use self::link::Link;
use self::pending::PendingAsks;
use self::pressure::Marks;
use self::quarantine::QuarantineBook;
use self::reconnect::Backoff;
use self::send::refusal_of;
use self::session::Session;
use self::state::History;
use self::system_messages::SystemOut;
use self::tables::OutTables;
use self::timer::TimerTable;
use self::watch::{PeerWatches, WatchBook};
use crate::config_error::ConfigError;
use crate::failure_detector::{HealthSnapshot, HeartbeatMonitor};
use crate::throttle::Throttle;
use crate::wire::{
    CapabilityFlags, NodeAddress, QuarantineReason, RefuseReason, RemoteNodeId, SystemMessage, WirePath,
};

pub use admission::{Admission, AdmissionConfig, AdmissionFault, Admitted, ConnectionNumber};
pub use config::{AssociationConfig, AssociationConfigBuilder, Overflow, Patience, ReconnectPolicy};
pub use event::{
    AssociationEvent, CloseReason, ConnectionId, DialError, LostCause, LostMessage, PressureLevel,
    TerminationNotice, WatcherId,
};
pub use handshake::{PeerProof, refusal};
pub use inbound::{Attachment, Inbound, InboundFault, Placed, ReferenceEntry};
pub use quarantine::QuarantinedUid;
pub use quarantine_memory::QuarantineMemory;
pub use send::Sent;
pub use state::{AssociationState, GateCause, StateChange, StateKind, SuspendCause};
pub use statistics::AssociationStatistics;
pub use timer::Timer;
pub use transmit::Transmit;

/// Everything known of one peer. See the [module documentation](self).
pub struct Association {
    config: Arc<AssociationConfig>,
    local: RemoteNodeId,
    /// The scheme under which this node speaks to the peer.
    peer: Address,
    /// The peer's address as the handshake names it.
    peer_node: NodeAddress,
    state: AssociationState,
    history: History,
    session: Option<Session>,
    /// A session we have answered and that its opener has not confirmed yet: it may come back for it.
    unconfirmed: Option<(ActorUid, u64)>,
    /// Counts sessions, so that an ask knows whether its question is of this one.
    era: u64,
    links: Vec<Link>,
    live: Option<ConnectionId>,
    connection_next: u64,
    dial_wanted: Option<ConnectionId>,
    /// A new incarnation claims to live at the peer's address; our own dial must be answered by it.
    claim: Option<handshake::Claim>,
    timers: TimerTable,
    backoff: Backoff,
    rng: fastrand::Rng,
    correlation: CorrelationId,
    lane: Lane,
    tables: OutTables,
    asks: PendingAsks,
    /// The ask of the message accepted last, on its way out.
    asked: Option<(Arc<dyn PendingReply>, ReplyKey)>,
    system: SystemOut,
    /// What of the peer's system messages may come now.
    allowance: Allowance,
    watches: WatchBook,
    peer_watches: PeerWatches,
    book: QuarantineBook,
    monitor: HeartbeatMonitor,
    /// The peer is being asked for a sign of life although nothing is watched or unacknowledged.
    probing: bool,
    /// What was handed out has waited for longer than a heartbeat.
    overdue: bool,
    heartbeat_out: Option<u32>,
    heartbeat_reply_out: Option<u32>,
    acknowledge_now: bool,
    acknowledge_bytes: usize,
    acknowledged_out: u64,
    system_acknowledge_now: bool,
    leave_out: bool,
    frame_max: u32,
    window: usize,
    marks: Marks,
    pressure: PressureLevel,
    room_wanted: bool,
    suspended: bool,
    closing: Option<Closing>,
    closed: bool,
    /// The user asked for a connection and none was made since.
    wish: bool,
    driver_idle: bool,
    wake: bool,
    /// What was read last was one ordinary frame.
    took_one: bool,
    last_used: Instant,
    last_heard: Instant,
    connected_at: Instant,
    /// Since when the connection is down, and what dials have shown since.
    down: Option<session::Down>,
    reported_by_peer: bool,
    /// The peer's refusal last reported.
    refused_reason: Option<RefuseReason>,
    /// Refusals of ours.
    refusals: Throttle<RefuseReason>,
    events: VecDeque<AssociationEvent>,
    salvage: VecDeque<Salvage>,
    statistics: AssociationStatistics,
}

impl core::fmt::Debug for Association {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Association")
            .field("peer", &self.peer)
            .field("state", &self.state)
            .field("session", &self.session)
            .field("live", &self.live)
            .field("statistics", &self.statistics)
            .finish_non_exhaustive()
    }
}

impl Association {
    /// Nothing is known of the node at `peer` yet, and nothing is done before a command or an input.
    ///
    /// `seed` starts the generator of nonces, session ids, ask secrets and jitter: 64 bits from the operating
    /// system, or of the simulation's own. `number` is the association's own within its node: it is the upper
    /// half of the slots of its asks, so that an answer from elsewhere finds its way.
    ///
    /// # Errors
    /// When `peer` cannot be dialled under the wire's rules, or a custom detector's settings are refused.
    pub fn new(
        config: Arc<AssociationConfig>,
        local: RemoteNodeId,
        peer: Address,
        number: u16,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        let peer_node = NodeAddress::of(&peer).map_err(|error| {
            let mut found = crate::config_error::Violations::new();
            found.add("peer", &peer, error.to_string());
            match found.into_result() {
                Err(error) => error,
                Ok(()) => ConfigError { violations: Vec::new() },
            }
        })?;
        let mut monitor = HeartbeatMonitor::new(config.detector().build()?, config.heartbeat_interval());
        if !config.connection_detector().is_same(config.detector()) {
            monitor = monitor.with_connection_detector(config.connection_detector().build()?);
        }
        let allowance = Allowance::new(config.system_rate(), config.system_burst());
        let mut rng = fastrand::Rng::with_seed(seed);
        let correlation = CorrelationId::new(rng.u64(1..), rng.u32(..));
        Ok(Self {
            history: History::new(config.history_max()),
            tables: OutTables::new(&config),
            asks: PendingAsks::new(config.asks_max(), number),
            asked: None,
            marks: Marks::new(&config),
            refusals: Throttle::new(config.quarantine_period(), RefuseReason::ALL.len()),
            frame_max: config.frame_max(),
            window: usize::MAX,
            config,
            local,
            peer,
            peer_node,
            state: AssociationState::Unassociated,
            session: None,
            unconfirmed: None,
            era: 1,
            links: Vec::new(),
            live: None,
            connection_next: 0,
            dial_wanted: None,
            claim: None,
            timers: TimerTable::default(),
            backoff: Backoff::default(),
            rng,
            correlation,
            lane: Lane::new(),
            system: SystemOut::default(),
            allowance,
            watches: WatchBook::default(),
            peer_watches: PeerWatches::default(),
            book: QuarantineBook::default(),
            monitor,
            probing: false,
            overdue: false,
            heartbeat_out: None,
            heartbeat_reply_out: None,
            acknowledge_now: false,
            acknowledge_bytes: 0,
            acknowledged_out: 0,
            system_acknowledge_now: false,
            leave_out: false,
            pressure: PressureLevel::Normal,
            room_wanted: false,
            suspended: false,
            closing: None,
            closed: false,
            wish: false,
            driver_idle: true,
            wake: false,
            took_one: false,
            last_used: Instant::ZERO,
            last_heard: Instant::ZERO,
            connected_at: Instant::ZERO,
            down: None,
            reported_by_peer: false,
            refused_reason: None,
            events: VecDeque::new(),
            salvage: VecDeque::new(),
            statistics: AssociationStatistics::default(),
        })
    }

    // Commands of the local node

    /// Starts the time after which an association that is never used is forgotten. Call it once when it is made:
    /// a peer can name addresses by the thousand, and each would stay otherwise.
    pub fn begin(&mut self, now: Instant) {
        self.last_used = now;
        self.timers.start(Timer::Forget, now + self.config.forget_timeout());
    }

    /// Asks for a connection although nothing is sent yet. An address that is never reached is given up after
    /// `never_reached_timeout`.
    pub fn associate(&mut self, now: Instant) {
        if self.closing.is_some() || self.closed {
            return;
        }
        self.wish = self.live.is_none();
        self.last_used = now;
        self.ensure_connection(now);
    }

    /// Asks the peer to stop an actor; the peer decides whether it may.
    ///
    /// # Errors
    /// When nothing can be sent to the peer, or the path breaks the wire's rules. A full queue ends the session.
    pub fn stop(&mut self, now: Instant, target: &ActorPath) -> Result<(), Refusal> {
        self.check_open(|| target.uid().is_any())?;
        let path = WirePath::of(target).map_err(refusal_of)?;
        let message = SystemMessage::Stop { path, uid: target.uid() };
        let (max, bytes) = (self.config.system_queue_max(), self.config.system_queue_bytes_max());
        if !self.system.enqueue(now, message, max, bytes) {
            let facts = alloc::format!("{} system messages wait", self.system.len());
            self.quarantine_for(now, QuarantineReason::SystemBufferFull, facts);
            return Err(Refusal::Quarantined);
        }
        self.last_used = now;
        self.ensure_connection(now);
        self.arm_system_timers(now);
        self.wake_driver();
        Ok(())
    }

    /// Nothing is sent or accepted until [`resume`](Self::resume): what is sent waits within the bounds, and the
    /// node records what arrives (see [`accepts_ordinary`](Self::accepts_ordinary)). Heartbeats go on.
    pub fn suspend(&mut self, now: Instant) {
        if self.suspended || self.closed || matches!(self.state, AssociationState::Quarantined { .. }) {
            return;
        }
        self.suspended = true;
        if self.live.is_none() {
            self.drop_attempts(CloseReason::Superseded);
            self.stop_attempts();
        }
        self.enter(now, AssociationState::Suspended { cause: SuspendCause::ByHand });
    }

    /// Ends a suspension by hand.
    pub fn resume(&mut self, now: Instant) {
        if !core::mem::take(&mut self.suspended) {
            return;
        }
        match (&self.session, self.live) {
            (Some(session), Some(_)) => {
                let remote_id = session.remote.clone();
                self.enter(now, AssociationState::Connected { remote_id });
            }
            (Some(_), None) => {
                let cause = SuspendCause::Lost(LostCause::ByUs(CloseReason::Idle));
                self.enter(now, AssociationState::Suspended { cause });
                self.connect_if_needed(now);
            }
            (None, _) => {
                self.enter(now, AssociationState::Unassociated);
                self.connect_if_needed(now);
            }
        }
        self.wake_driver();
    }

    /// Whether ordinary frames of the peer may be delivered. While not, the node records them as *suspended*.
    #[must_use]
    pub const fn accepts_ordinary(&self) -> bool {
        !self.suspended
    }

    // Reading

    /// The peer's address.
    #[must_use]
    pub const fn peer(&self) -> &Address {
        &self.peer
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> &AssociationState {
        &self.state
    }

    /// The last changes of state, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &StateChange> {
        self.history.iter()
    }

    /// When and why the present state was entered; `None` before the first change.
    #[must_use]
    pub fn last_change(&self) -> Option<&StateChange> {
        self.history.last()
    }

    /// The peer's incarnation, if a session runs.
    #[must_use]
    pub fn remote(&self) -> Option<&RemoteNodeId> {
        self.session.as_ref().map(|s| &s.remote)
    }

    /// The session that runs; `None` when there is none.
    #[must_use]
    pub fn session(&self) -> Option<u64> {
        self.session.as_ref().map(|s| s.id)
    }

    /// What both sides can do, if a session runs.
    #[must_use]
    pub fn capabilities(&self) -> Option<CapabilityFlags> {
        self.session.as_ref().map(|s| s.capabilities)
    }

    /// The connection that serves the association.
    #[must_use]
    pub const fn live_connection(&self) -> Option<ConnectionId> {
        self.live
    }

    /// The largest frame both nodes take.
    #[must_use]
    pub const fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// What the heartbeats say.
    #[must_use]
    pub fn health(&self, now: Instant) -> HealthSnapshot {
        self.monitor.snapshot(now)
    }

    /// The refused incarnations, to be kept when the association is dropped.
    pub fn quarantined_uids(&self) -> impl Iterator<Item = &QuarantinedUid> {
        self.book.iter()
    }

    /// Takes over refused incarnations that were kept from an earlier association with this address.
    pub fn remember_quarantined(&mut self, uids: impl IntoIterator<Item = QuarantinedUid>) {
        for entry in uids {
            self.book.insert(entry, self.config.quarantine_uids_max());
        }
    }

    // Outputs

    /// The next thing the node must know. Lost messages come last and one by one.
    pub fn poll_event(&mut self) -> Option<AssociationEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        loop {
            let salvage = self.salvage.front_mut()?;
            if let Some((fallen, reason)) = salvage.next() {
                return Some(AssociationEvent::Lost(self.lost_message(&fallen, reason)));
            }
            self.salvage.pop_front();
        }
    }

    /// Frees what the lane keeps for its next burst, if nothing waits in it; for an association that has gone quiet.
    pub fn shrink(&mut self) {
        self.lane.shrink();
    }

    /// Whether [`poll_event`](Self::poll_event) would return something.
    #[inline]
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.events.is_empty() || !self.salvage.is_empty()
    }

    /// Events that wait, save lost messages, which take no memory of their own: a node that leaves them here reads
    /// nothing that makes more of them.
    #[inline]
    #[must_use]
    pub fn events_waiting(&self) -> usize {
        self.events.len()
    }

    /// The earliest deadline and what it is for; call [`handle_timeout`](Self::handle_timeout) then.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next()
    }

    /// Whether [`poll_event`](Self::poll_event) or [`poll_dial`](Self::poll_dial) would return something: a sender
    /// need not ask both after every message.
    #[inline]
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.events.is_empty() || !self.salvage.is_empty() || self.dial_wanted.is_some() || self.wake
    }

    /// Whether a connection serves the association.
    #[inline]
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The connection that serves the association.
    #[must_use]
    pub const fn live(&self) -> Option<ConnectionId> {
        self.live
    }

    /// Messages waiting and unacknowledged.
    #[inline]
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.lane.messages()
    }

    /// The id of the message accepted last.
    #[must_use]
    pub const fn last_correlation_id(&self) -> CorrelationId {
        self.correlation
    }

    /// Whether something happened that an idle driver must look at; asked once after each command, also after a
    /// refused one. An accepted send says it in its [`Sent`].
    #[must_use]
    pub fn take_wake(&mut self) -> bool {
        core::mem::take(&mut self.wake)
    }

    // Inside

    fn wake_driver(&mut self) {
        self.driver_idle = false;
        self.wake = true;
    }

    fn enter(&mut self, now: Instant, to: AssociationState) {
        if self.state == to {
            return;
        }
        let from = core::mem::replace(&mut self.state, to.clone()).kind();
        let uid = self.session.as_ref().map(|s| s.remote.uid());
        let change = StateChange { at: now, from, to, uid };
        self.history.push(change.clone());
        self.events.push_back(AssociationEvent::StateChanged(change));
        self.wake_driver();
    }

    /// Whether a quarantined peer is probably dead, so that its next incarnation is looked for.
    fn may_probe(&self) -> bool {
        matches!(
            self.state,
            AssociationState::Quarantined {
                reason: QuarantineReason::Unreachable | QuarantineReason::SystemMessageUndelivered,
                ..
            }
        )
    }
}
