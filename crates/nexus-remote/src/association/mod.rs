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
mod config;
mod deadline;
mod event;
mod handshake;
mod heartbeat;
mod inbound;
mod input;
mod lane;
mod leave;
mod link;
mod pending;
mod quarantine;
mod reconnect;
mod session;
mod state;
mod system_messages;
mod tables;
mod timer;
mod transmit;
mod watch;

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use nexus_actor_core::path::{ActorPath, ActorUid, Address};
use nexus_actor_core::remote::{Encode, PendingReply, ReplyKey};
use nexus_actor_core::serialization::scope::{self, LiftedReply};
use nexus_actor_core::serialization::{EncodeError, SerializerId};
use nexus_actor_core::{
    AskError, CorrelationId, DeadLetterReason, Headers, Instant, Refusal, TerminationReason,
};

use self::lane::{Fallen, Freed, Lane, Salvage};
use self::leave::Closing;
use self::link::Link;
use self::pending::PendingAsks;
use self::quarantine::QuarantineBook;
use self::reconnect::Backoff;
use self::session::Session;
use self::state::History;
use self::system_messages::SystemOut;
use self::tables::OutTables;
use self::timer::TimerTable;
use self::watch::{PeerWatches, WatchBook, WatchRefused};
use crate::config_error::ConfigError;
use crate::failure_detector::{HealthSnapshot, HeartbeatMonitor};
use crate::wire::{
    CapabilityFlags, DefineManifest, DefineReference, EnvelopeReply, EnvelopeWriter, Lookup, NodeAddress,
    QuarantineReason, RemoteNodeId, ReplyFailed, ReplyWriter, SystemMessage, WireError, WirePath,
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
pub use state::{AssociationState, GateCause, StateChange, StateKind, SuspendCause};
pub use timer::Timer;
pub use transmit::Transmit;

/// Falling below a mark is reported at this part of it, so that a lane at a mark does not report every message.
const MARK_RELEASE: f64 = 0.9;

/// One message was accepted.
#[must_use]
pub struct Sent {
    /// Its id.
    pub correlation_id: CorrelationId,
    /// Bytes of its frame.
    pub size: usize,
    /// Wake the association's driver: it is idle.
    pub wake: bool,
    /// The ask that travels with the message. Call its `pending_at` with this key outside the lock.
    pub ask: Option<(Arc<dyn PendingReply>, ReplyKey)>,
}

impl core::fmt::Debug for Sent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "sent {} wake {} ask {:?}", self.correlation_id, self.wake, self.ask.as_ref().map(|a| a.1))
    }
}

/// Counts of one association since it was made. Messages are envelopes, replies and lookups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssociationStatistics {
    /// Messages accepted for sending.
    pub sent: u64,
    /// Of them, those the peer has acknowledged.
    pub acknowledged: u64,
    /// Of them, those recorded as lost.
    pub lost: u64,
    /// Of them, those waiting or unacknowledged: always `sent - acknowledged - lost`.
    pub in_flight: u64,
    /// Messages refused to their callers.
    pub refused: u64,
    /// Bytes waiting and unacknowledged.
    pub in_flight_bytes: u64,
    /// Asks that wait for an answer.
    pub asks: u64,
    /// Answers that came too late, twice, or with a wrong key.
    pub answers_ignored: u64,
    /// System messages unacknowledged or queued.
    pub system_messages: u64,
    /// Actors watched at the peer.
    pub watching: u64,
    /// Actors the peer watches here.
    pub watched: u64,
    /// Recipients with a number.
    pub recipients: u64,
    /// Connections made over all time.
    pub connections: u64,
    /// Attempts that failed over all time.
    pub attempts_failed: u64,
    /// Control frames of the peer that said nothing useful: late, repeated or of another session.
    pub frames_ignored: u64,
}

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
    system: SystemOut,
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
    last_used: Instant,
    last_heard: Instant,
    connected_at: Instant,
    /// Since when the connection is down, and what dials have shown since.
    down: Option<session::Down>,
    reported_by_peer: bool,
    /// The refusal last reported, and when we last reported one of ours.
    refused_reason: Option<crate::wire::RefuseReason>,
    refusal_reported: Option<Instant>,
    events: VecDeque<AssociationEvent>,
    salvage: VecDeque<Salvage>,
    statistics: AssociationStatistics,
}

#[derive(Clone, Copy, Debug)]
struct Marks {
    warning: (usize, usize),
    critical: (usize, usize),
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
        let monitor = HeartbeatMonitor::new(config.detector().build()?, config.heartbeat_interval());
        let mut rng = fastrand::Rng::with_seed(seed);
        let correlation = CorrelationId::new(rng.u64(1..), rng.u32(..));
        Ok(Self {
            history: History::new(config.history_max()),
            tables: OutTables::new(&config),
            asks: PendingAsks::new(config.asks_max(), number),
            marks: Marks::new(&config),
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
            last_used: Instant::ZERO,
            last_heard: Instant::ZERO,
            connected_at: Instant::ZERO,
            down: None,
            reported_by_peer: false,
            refused_reason: None,
            refusal_reported: None,
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

    /// Gives a recipient its number, which stays good over all sessions until it is released as often as it
    /// was interned.
    ///
    /// # Errors
    /// [`Refusal::Limit`] when too many recipients hold a number, [`Refusal::Encode`] when path or manifest break
    /// the wire's rules.
    pub fn intern(
        &mut self,
        path: &ActorPath,
        serializer: SerializerId,
        manifest: &'static str,
    ) -> Result<u32, Refusal> {
        self.tables.intern(path, serializer, manifest)
    }

    /// Gives a number back.
    pub fn release(&mut self, recipient: u32) {
        self.tables.release(recipient);
    }

    /// Sends one message. `encode` runs at most once; what it wrote is taken back when it fails or panics.
    ///
    /// At most once, in order per recipient; lost only with the peer's incarnation or session. Nothing is
    /// allocated besides what the lane needs to grow and what `encode` allocates.
    ///
    /// # Errors
    /// Nothing was queued, and the message is as it was.
    pub fn send(
        &mut self,
        now: Instant,
        recipient: u32,
        headers: Option<&Headers>,
        encode: Encode<'_>,
    ) -> Result<Sent, Refusal> {
        if headers.is_none()
            && self.live.is_some()
            && self.closing.is_none()
            && !self.is_full()
            && let Some((reference, manifest)) = self.tables.known(recipient, self.lane.next())
        {
            let result = self.send_known(now, reference, manifest, encode);
            if result.is_err() {
                self.statistics.refused += 1;
            }
            return result;
        }
        let result = self.try_send(now, recipient, headers, encode);
        if result.is_err() {
            self.statistics.refused += 1;
        }
        result
    }

    /// The usual message: the peer knows the recipient by its number, and there is room.
    #[inline]
    fn send_known(
        &mut self,
        now: Instant,
        reference: u32,
        manifest: u16,
        encode: Encode<'_>,
    ) -> Result<Sent, Refusal> {
        let Some(mut encoding) = scope::Encoding::begin() else { return Err(reentry()) };
        let correlation_id = self.correlation.next();
        let (era, asks, rng) = (self.era, &mut self.asks, &mut self.rng);
        // Dropped on the way, also by a panic in `encode`, the writer takes back what it wrote.
        let mut writer = EnvelopeWriter::begin_plain(
            self.lane.buffer(),
            self.frame_max,
            reference,
            manifest,
            correlation_id,
        );
        if let Err(error) = encode(&mut writer.encoder()) {
            let limit = writer.room();
            return Err(encode_refusal(error, limit));
        }
        let mut ask = None;
        let size = if encoding.has_lifted() {
            match finish_with_reply(writer, encoding.take_lifted(), asks, era, rng) {
                Ok((size, asked)) => {
                    ask = asked;
                    size
                }
                Err(Some(error)) => return Err(refusal_of(error)),
                Err(None) => {
                    drop(encoding);
                    return Err(self.asks_full());
                }
            }
        } else {
            writer.finish_plain()
        };
        drop(encoding);
        self.correlation = correlation_id;
        Ok(self.committed(now, size, correlation_id, ask))
    }

    fn try_send(
        &mut self,
        now: Instant,
        recipient: u32,
        headers: Option<&Headers>,
        encode: Encode<'_>,
    ) -> Result<Sent, Refusal> {
        let for_name = || self.tables.recipient(recipient).is_some_and(|r| r.path.uid().is_any());
        self.check_open(for_name)?;
        self.make_room()?;
        let assigned = self.tables.assign(recipient, self.lane.next())?;
        self.define(&assigned)?;
        let correlation_id = self.correlation.next();
        let frame_max = self.frame_max;
        let written = {
            let (era, asks, rng) = (self.era, &mut self.asks, &mut self.rng);
            let (reference, manifest) = (assigned.reference, assigned.manifest);
            let buffer = self.lane.buffer();
            // Dropped on the way, also by a panic in `encode`, the writer takes back what it wrote.
            let mut writer =
                EnvelopeWriter::begin(buffer, frame_max, reference, manifest, correlation_id, headers)
                    .map_err(refusal_of)?;
            let limit = writer.room();
            let lifted = encode_in_scope(limit, || encode(&mut writer.encoder()))?;
            finish_with_reply(writer, lifted, asks, era, rng)
        };
        match written {
            Ok((size, ask)) => {
                self.correlation = correlation_id;
                Ok(self.committed(now, size, correlation_id, ask))
            }
            Err(Some(error)) => Err(refusal_of(error)),
            Err(None) => Err(self.asks_full()),
        }
    }

    fn committed(
        &mut self,
        now: Instant,
        size: usize,
        correlation_id: CorrelationId,
        ask: Option<(Arc<dyn PendingReply>, ReplyKey)>,
    ) -> Sent {
        self.lane.commit(size, true);
        self.statistics.sent += 1;
        self.last_used = now;
        if self.live.is_none() {
            self.ensure_connection(now);
        }
        self.note_pressure();
        let wake = core::mem::take(&mut self.driver_idle) | core::mem::take(&mut self.wake);
        Sent { correlation_id, size, wake, ask }
    }

    /// A full table may hold asks that nobody waits for; they go before the next one is refused.
    #[cold]
    fn asks_full(&mut self) -> Refusal {
        self.wake = true;
        for ask in self.asks.take_over() {
            // Its `fail` changes nothing any more; the event carries it out of the lock to be dropped.
            self.events.push_back(AssociationEvent::AskFailed { ask, error: AskError::Full });
        }
        Refusal::Limit("remote asks pending")
    }

    /// Answers an ask of the peer. `correlation_id` is the question's.
    ///
    /// # Errors
    /// Nothing was queued.
    pub fn reply(
        &mut self,
        now: Instant,
        to: ReplyKey,
        correlation_id: CorrelationId,
        encode: Encode<'_>,
    ) -> Result<Sent, Refusal> {
        self.check_open(|| false)?;
        self.make_room_for_answer()?;
        let mut writer = ReplyWriter::begin(self.lane.buffer(), self.frame_max, to, correlation_id);
        let limit = writer.room();
        // A reply inside a reply is refused by its own serialization: nothing lifts it here.
        if encode_in_scope(limit, || encode(&mut writer.encoder()))?.is_some() {
            return Err(Refusal::Encode(String::from("an answer cannot carry a Reply")));
        }
        let size = writer.finish().map_err(refusal_of)?;
        Ok(self.committed(now, size, correlation_id, None))
    }

    /// Tells the peer that an ask of it will not be answered.
    ///
    /// # Errors
    /// Nothing was queued; the asker will learn by its deadline.
    pub fn reply_failed(
        &mut self,
        now: Instant,
        to: ReplyKey,
        correlation_id: CorrelationId,
        why: AskError,
    ) -> Result<Sent, Refusal> {
        self.check_open(|| false)?;
        self.make_room_for_answer()?;
        let buffer = self.lane.buffer();
        let start = buffer.len();
        ReplyFailed { key: to, correlation_id, error: why }.encode(buffer);
        let size = buffer.len() - start;
        Ok(self.committed(now, size, correlation_id, None))
    }

    /// Asks the peer for the incarnation that lives at `path`; `ask` is completed with its uid (8 bytes,
    /// little-endian) or fails.
    ///
    /// # Errors
    /// Nothing was queued.
    pub fn lookup(
        &mut self,
        now: Instant,
        path: &ActorPath,
        manifest: &str,
        ask: Arc<dyn PendingReply>,
    ) -> Result<Sent, Refusal> {
        self.check_open(|| true)?;
        self.make_room()?;
        let correlation_id = self.correlation.next();
        let Some(key) = self.asks.insert(ask.clone(), self.era, &mut self.rng) else {
            return Err(self.asks_full());
        };
        let lookup = match Lookup::new(key, correlation_id, manifest, path.elements()) {
            Ok(lookup) => lookup,
            Err(error) => {
                let _again = self.asks.take(key);
                return Err(refusal_of(error));
            }
        };
        self.correlation = correlation_id;
        let buffer = self.lane.buffer();
        let start = buffer.len();
        lookup.encode(buffer);
        let size = buffer.len() - start;
        Ok(self.committed(now, size, correlation_id, Some((ask, key))))
    }

    /// The asker gave up. Drop what is returned outside the lock.
    #[must_use = "to be dropped outside the lock"]
    pub fn forget(&mut self, key: ReplyKey) -> Option<Arc<dyn PendingReply>> {
        self.asks.take(key)
    }

    /// Watches `target` for `watcher`: exactly one [`AssociationEvent::Terminated`] names it unless it is
    /// unwatched before.
    pub fn watch(&mut self, now: Instant, watcher: WatcherId, target: &ActorPath) {
        let reason = if self.closing.is_some() || self.closed {
            TerminationReason::Shutdown
        } else if let AssociationState::Quarantined { reason, .. } = &self.state
            && (!self.may_probe() || !target.uid().is_any())
        {
            match reason {
                QuarantineReason::Unreachable => TerminationReason::Unreachable,
                _ => TerminationReason::Quarantined,
            }
        } else {
            let (targets, watchers) = (self.config.watches_max(), self.config.watchers_max());
            match self.watches.watch(watcher, target, targets, watchers) {
                Ok(()) => {
                    self.last_used = now;
                    self.ensure_connection(now);
                    if self.session.is_none() {
                        self.timers.start(Timer::FirstAnswer, now + self.config.first_answer_allowance());
                    }
                    self.update_monitor(now);
                    self.wake_driver();
                    return;
                }
                Err(WatchRefused::Limit) => TerminationReason::Limit,
                Err(WatchRefused::NotAPath) => TerminationReason::NeverExisted,
            }
        };
        self.events.push_back(AssociationEvent::Terminated(TerminationNotice {
            target: target.clone(),
            watchers: alloc::vec![watcher],
            reason,
            session: 0,
            after: 0,
        }));
    }

    /// Ends a watch. A notice already on its way as an event still names the watcher.
    pub fn unwatch(&mut self, now: Instant, watcher: WatcherId, target: &ActorPath) {
        self.watches.unwatch(watcher, target);
        self.last_used = now;
        self.update_monitor(now);
        self.wake_driver();
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

    /// An actor here terminated, named as the peer watched it. Nothing happens unless the peer still watches it.
    ///
    /// Its last messages must have been sent before: the notice does not overtake them.
    pub fn local_terminated(
        &mut self,
        now: Instant,
        path: &WirePath,
        uid: ActorUid,
        reason: TerminationReason,
    ) {
        if self.peer_watches.terminated(path, uid, reason, self.lane.next()) {
            self.last_used = now;
            self.ensure_connection(now);
            self.wake_driver();
        }
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

    /// How full the ordinary lane is.
    #[must_use]
    pub const fn pressure(&self) -> PressureLevel {
        self.pressure
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

    /// The counts.
    #[must_use]
    pub fn statistics(&mut self) -> AssociationStatistics {
        let freed = {
            let before = (self.lane.messages(), self.lane.bytes());
            self.lane.count();
            Freed { messages: before.0 - self.lane.messages(), bytes: before.1 - self.lane.bytes() }
        };
        self.statistics.acknowledged += freed.messages as u64;
        AssociationStatistics {
            in_flight: self.lane.messages() as u64,
            in_flight_bytes: self.lane.bytes() as u64,
            asks: self.asks.len() as u64,
            system_messages: self.system.len() as u64,
            watching: self.watches.len() as u64,
            watched: self.peer_watches.len() as u64,
            recipients: self.tables.len() as u64,
            ..self.statistics
        }
    }

    /// Whether a send would find room in the lane. If not, one [`AssociationEvent::Room`] follows when it would.
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        if self.check_open(|| true).is_err() {
            // Waiting is of no use; the send says why.
            return true;
        }
        let full = self.is_full();
        self.room_wanted |= full;
        !full
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

    /// Whether the state lets messages in at all.
    #[inline]
    fn check_open(&self, for_name: impl FnOnce() -> bool) -> Result<(), Refusal> {
        if self.live.is_some() && self.closing.is_none() {
            return Ok(());
        }
        self.check_open_slow(for_name())
    }

    #[cold]
    fn check_open_slow(&self, for_name: bool) -> Result<(), Refusal> {
        if self.closing.is_some() || self.closed {
            return Err(Refusal::Shutdown);
        }
        match &self.state {
            AssociationState::Quarantined { reason, .. } => {
                if *reason == QuarantineReason::Blocked {
                    return Err(Refusal::Blocked);
                }
                // What is sent to a name may reach the peer's next incarnation.
                if self.may_probe() && for_name { Ok(()) } else { Err(Refusal::Quarantined) }
            }
            AssociationState::Unassociated
            | AssociationState::Associating { .. }
            | AssociationState::Connected { .. }
            | AssociationState::Suspended { .. }
            | AssociationState::Gated { .. } => {
                let lost = self.session.is_some() && !self.suspended;
                if lost && self.config.patience() == Patience::Drop && self.down.is_some() {
                    return Err(Refusal::Unreachable);
                }
                Ok(())
            }
        }
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

    #[inline]
    fn is_full(&self) -> bool {
        let messages = self.lane.messages();
        messages > 0
            && (messages >= self.config.lane_messages_max()
                || self.lane.bytes() >= self.config.lane_bytes_max())
    }

    #[inline]
    fn make_room(&mut self) -> Result<(), Refusal> {
        if self.is_full() { self.make_room_slow() } else { Ok(()) }
    }

    /// Answers find room in a lane that is full of messages, or a node that always has something to say could
    /// not be asked. There are at most as many as the peer has questions, and an eighth of the lane.
    #[inline]
    fn make_room_for_answer(&mut self) -> Result<(), Refusal> {
        let (messages, bytes) = (self.config.lane_messages_max(), self.config.lane_bytes_max());
        let beyond = self.lane.messages() >= messages.saturating_add((messages / 8).max(1))
            || self.lane.bytes() >= bytes.saturating_add(bytes / 8);
        if beyond { self.make_room() } else { Ok(()) }
    }

    #[cold]
    fn make_room_slow(&mut self) -> Result<(), Refusal> {
        let (before, bytes) = (self.lane.messages(), self.lane.bytes());
        self.lane.count();
        self.freed(Freed { messages: before - self.lane.messages(), bytes: bytes - self.lane.bytes() });
        while self.is_full() {
            let fallen = match self.config.overflow() {
                Overflow::RefuseNewest => None,
                Overflow::DropOldest => self.lane.drop_oldest(&self.tables.meanings()),
            };
            let Some(fallen) = fallen else {
                self.room_wanted = true;
                let (messages, bytes) = (self.lane.messages(), self.lane.bytes());
                return Err(Refusal::QueueFull { messages, bytes });
            };
            self.fell(&fallen, DeadLetterReason::QueueFull);
        }
        Ok(())
    }

    /// One message left the lane undelivered.
    fn fell(&mut self, fallen: &Fallen, reason: DeadLetterReason) {
        self.statistics.lost += 1;
        self.wake = true;
        let lost = self.lost_message(fallen, reason);
        self.events.push_back(AssociationEvent::Lost(lost));
        if let Some(ask) = fallen.ask.and_then(|key| self.asks.take(key)) {
            let error = AskError::from_reason(reason);
            self.events.push_back(AssociationEvent::AskFailed { ask, error });
        }
    }

    fn lost_message(&self, fallen: &Fallen, reason: DeadLetterReason) -> LostMessage {
        LostMessage {
            recipient: fallen.recipient.as_ref().map(|r| r.path.clone()),
            peer: self.peer.clone(),
            reason,
            size: fallen.size,
            correlation_id: fallen.correlation_id,
        }
    }

    fn define(&mut self, assigned: &tables::Assigned) -> Result<(), Refusal> {
        if let Some(recipient) = &assigned.recipient {
            if assigned.define_manifest {
                self.define_manifest(assigned.manifest, recipient.serializer, recipient.manifest)?;
            }
            let path = &recipient.path;
            let frame =
                DefineReference::new(assigned.reference, path.uid(), path.elements()).map_err(refusal_of)?;
            let buffer = self.lane.buffer();
            let start = buffer.len();
            frame.encode(buffer);
            let size = buffer.len() - start;
            self.lane.commit_definition(size, assigned.reference, assigned.replaced.clone());
        } else if assigned.define_manifest
            && let Some((serializer, name)) = self.tables.manifest(assigned.manifest)
        {
            self.define_manifest(assigned.manifest, serializer, name)?;
        }
        Ok(())
    }

    fn define_manifest(&mut self, id: u16, serializer: SerializerId, name: &str) -> Result<(), Refusal> {
        let frame = DefineManifest::new(id, serializer, name).map_err(refusal_of)?;
        let buffer = self.lane.buffer();
        let start = buffer.len();
        frame.encode(buffer);
        let size = buffer.len() - start;
        self.lane.commit(size, false);
        Ok(())
    }

    /// Room was made by acknowledgement.
    fn freed(&mut self, freed: Freed) {
        self.statistics.acknowledged += freed.messages as u64;
        if freed.bytes > 0 {
            self.note_pressure();
            self.note_room();
        }
    }

    fn note_room(&mut self) {
        if self.room_wanted && !self.is_full() {
            self.room_wanted = false;
            self.events.push_back(AssociationEvent::Room);
        }
    }

    #[inline]
    fn note_pressure(&mut self) {
        let (messages, bytes) = (self.lane.messages(), self.lane.bytes());
        let level = self.marks.level(messages, bytes, self.pressure);
        if level != self.pressure {
            self.pressure = level;
            self.wake = true;
            self.events.push_back(AssociationEvent::Pressure { level, messages, bytes });
        }
    }
}

impl Marks {
    fn new(config: &AssociationConfig) -> Self {
        // The mark is at the first count that reaches it.
        let at = |part: f64, max: usize| {
            let exact = part * max as f64;
            let floor = exact as usize;
            if (floor as f64) < exact { floor + 1 } else { floor }
        };
        let both = |part| (at(part, config.lane_messages_max()), at(part, config.lane_bytes_max()));
        let critical = both(config.critical_mark());
        // Critical begins above its mark, warning at it.
        let above =
            |at: usize, part: f64, max: usize| if at as f64 > part * max as f64 { at } else { at + 1 };
        let mark = config.critical_mark();
        Self {
            warning: both(config.warning_mark()),
            critical: (
                above(critical.0, mark, config.lane_messages_max()),
                above(critical.1, mark, config.lane_bytes_max()),
            ),
        }
    }

    #[inline]
    fn level(&self, messages: usize, bytes: usize, now: PressureLevel) -> PressureLevel {
        let over = |mark: (usize, usize)| messages >= mark.0 || bytes >= mark.1;
        let held = |mark: (usize, usize)| {
            let low = |m: usize| (m as f64 * MARK_RELEASE) as usize;
            messages >= low(mark.0).max(1) || bytes >= low(mark.1).max(1)
        };
        if over(self.critical) || (now == PressureLevel::Critical && held(self.critical)) {
            PressureLevel::Critical
        } else if over(self.warning) || (now >= PressureLevel::Warning && held(self.warning)) {
            PressureLevel::Warning
        } else {
            PressureLevel::Normal
        }
    }
}

/// An ask and the key it waits under.
type Asked = Option<(Arc<dyn PendingReply>, ReplyKey)>;

/// Completes an envelope with what its payload lifted. `Err(None)` when the table of asks is full; on any error
/// the frame is taken back and the message keeps its reply.
fn finish_with_reply(
    writer: EnvelopeWriter<'_>,
    lifted: Option<LiftedReply>,
    asks: &mut PendingAsks,
    era: u64,
    rng: &mut fastrand::Rng,
) -> Result<(usize, Asked), Option<WireError>> {
    match lifted {
        None => writer.finish(None).map(|size| (size, None)).map_err(Some),
        Some(LiftedReply::Pending(pending)) => {
            let key = asks.insert(pending.clone(), era, rng).ok_or(None)?;
            match writer.finish(Some(EnvelopeReply::to_sender(key))) {
                Ok(size) => Ok((size, Some((pending, key)))),
                Err(error) => {
                    // The message keeps its reply; only the place here goes.
                    let _again = asks.take(key);
                    Err(Some(error))
                }
            }
        }
        Some(LiftedReply::Foreign(foreign)) => {
            let address = foreign.to.route.address().to_string();
            let reply = EnvelopeReply::to_foreign(foreign.to.key, &address).map_err(Some)?;
            let size = writer.finish(Some(reply)).map_err(Some)?;
            foreign.passed_on();
            Ok((size, None))
        }
    }
}

#[cold]
fn reentry() -> Refusal {
    Refusal::Encode(String::from("a message cannot be sent from inside the serialization of another"))
}

#[cold]
fn encode_refusal(error: EncodeError, limit: usize) -> Refusal {
    match error {
        EncodeError::TooLarge { .. } => Refusal::TooLarge { size: limit.saturating_add(1), limit },
        error => Refusal::Encode(error.to_string()),
    }
}

/// Runs `encode` as the encoding of one message and returns the reply it lifted.
fn encode_in_scope(
    limit: usize,
    encode: impl FnOnce() -> Result<(), EncodeError>,
) -> Result<Option<LiftedReply>, Refusal> {
    match scope::encode(encode) {
        Ok((Ok(()), lifted)) => Ok(lifted),
        Ok((Err(EncodeError::TooLarge { .. }), _)) => {
            Err(Refusal::TooLarge { size: limit.saturating_add(1), limit })
        }
        Ok((Err(error), _)) => Err(Refusal::Encode(error.to_string())),
        Err(()) => Err(Refusal::Encode(String::from(
            "a message cannot be sent from inside the serialization of another",
        ))),
    }
}

#[cold]
fn refusal_of(error: WireError) -> Refusal {
    match error.rule {
        crate::wire::WireRule::TooLong { length, limit } => Refusal::TooLarge { size: length, limit },
        _ => Refusal::Encode(error.to_string()),
    }
}
