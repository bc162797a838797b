//! One association at run time: the machine behind its lock, and the route that actors send by.

use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use nexus_actor_core::event_stream::{EventStreamEvent, SerializationDirection, SerializationFailure};
use nexus_actor_core::lock::{Guard, Lock};
use nexus_actor_core::path::{ActorPath, ActorUid, Address, Authority};
use nexus_actor_core::remote::{Encode, PendingReply, ReplyKey, Route};
use nexus_actor_core::remote_authority::AuthorityState;
use nexus_actor_core::scheduler::Cancel;
use nexus_actor_core::serialization::{DecodeError, SerializerId, scope};
use portable_atomic::{AtomicBool, Ordering};

use nexus_actor_core::{ActorSystem, AnyRef, AskError, CorrelationId, Headers, Instant, Refusal};

use super::backlog::Backlog;
use super::connection::Connection;
use super::dials::DialSlot;
use super::figures::EndpointLife;
use super::inbox::Posted;
use super::manager::EndpointManagerCommand;
use super::node::{Latch, Node};
use super::pen::{Loan, Pen};
use super::pressure::Pressure;
use super::reader::Intake;
use super::room::Room;
use super::watcher::WatchCommand;
use crate::association::{Association, AssociationState, ConnectionId, DialError, LostCause, Sent, Transmit};
use crate::backpressure::BackpressureSignal;
use crate::correlation_trace::{HopKind, TraceSampling};
use crate::flight_recorder::AssociationNumber;
use crate::metric::{RemoteAuthoritySnapshot, RemotingMetric, ThresholdCrossed, ThresholdWatch};
use crate::transport::TransportChannel;
use crate::wire::RemoteNodeId;

/// The association with one peer node, shared by senders, connections and the manager.
pub(crate) struct Peer {
    pub(crate) node: Arc<Node>,
    me: Weak<Self>,
    address: Address,
    authority: Authority,
    number: u16,
    pub(crate) recorded_as: AssociationNumber,
    /// Copied from the configuration: looked at for every message.
    pub(crate) sampling: TraceSampling,
    pub(super) machine: Lock<Machine>,
    /// What only readers use.
    pub(crate) intake: Lock<Intake>,
    /// Senders that wait for room.
    room: Lock<Room>,
    /// Another [`STRETCH`] waits for the connection: the next sender that may wait lets others run.
    ahead: AtomicBool,
    /// What the machine said last of accepting ordinary frames.
    suspended: AtomicBool,
    facts: Lock<Facts>,
    closed: Latch,
    pub(super) backlog: Backlog,
    /// This node has use for it. If not, it is there because a peer dialled or was named by another.
    adopted: AtomicBool,
}

/// What operators are shown.
#[derive(Default)]
struct Facts {
    errors: u64,
    last_error: Option<String>,
    /// The level told last; `None` before the first.
    told: Option<BackpressureSignal>,
    pressure: Pressure,
    thresholds: ThresholdWatch,
    suspended: bool,
    endpoint: EndpointLife,
    /// The answer last refused, and recorded.
    answer_refused: Option<ReplyKey>,
}

pub(super) struct Machine {
    pub(super) association: Association,
    /// When the driver last had something to write. While it has, senders take this for the time: a clock costs
    /// as much as a message. `None` as soon as the driver found nothing or a connection ended.
    pub(super) busy_since: Option<Instant>,
    /// Messages that were sent at that time.
    borrowed: u32,
    /// The bytes waiting for the connection at which senders give way the next time.
    give_way_at: usize,
    /// The timer that runs.
    armed: Option<Armed>,
    /// Counts timers, so that each knows whether it still is the one.
    timers: u64,
    pub(super) drivers: Vec<Driver>,
    /// For what senders write themselves; kept for its memory.
    pub(super) scratch: Transmit,
    /// The association was flooded when it was last asked.
    flooded: bool,
    /// Readers that wait until the node has caught up.
    readers: Vec<Waker>,
    /// It waits for its turn to dial.
    queued: bool,
    /// Its turn has come.
    granted: Option<DialSlot>,
}

/// What a driver is given to write.
pub(crate) struct Given {
    /// The machine wants the connection closed once this is written.
    pub(crate) closing: bool,
    /// So much of it is written already.
    pub(crate) written: usize,
    /// Nothing: the connection is to be given up.
    pub(crate) broken: bool,
}

/// A timer for the machine's earliest deadline. It is noted before it is scheduled: it may run at once.
struct Armed {
    at: Instant,
    number: u64,
    cancel: Option<Cancel>,
}

/// The connection task as the machine's side sees it.
pub(super) struct Driver {
    pub(super) id: ConnectionId,
    pub(super) waker: Option<Waker>,
    closing: bool,
    /// Once it serves.
    pub(super) channel: Option<TransportChannel>,
    pub(super) pen: Pen,
}

impl Driver {
    const fn new(id: ConnectionId) -> Self {
        Self { id, waker: None, closing: false, channel: None, pen: Pen::Driver }
    }
}

/// What the machine wants done, collected under its lock and done outside, by [`Peer::fulfil`].
#[derive(Default)]
pub(crate) struct Wants {
    wakers: Vec<Waker>,
    dials: Vec<(ConnectionId, DialSlot)>,
    /// A place for a dial that is not wanted any more.
    spare: Option<DialSlot>,
    posted: bool,
    arm: Option<(Instant, u64)>,
    disarm: Vec<Cancel>,
}

impl Wants {
    pub(crate) const fn new() -> Self {
        Self {
            wakers: Vec::new(),
            dials: Vec::new(),
            spare: None,
            posted: false,
            arm: None,
            disarm: Vec::new(),
        }
    }
}

impl Peer {
    pub(crate) fn new(
        node: &Arc<Node>,
        local: RemoteNodeId,
        address: Address,
        authority: Authority,
        number: u16,
    ) -> Option<Arc<Self>> {
        let association =
            Association::new(node.association_config.clone(), local, address.clone(), number, node.random())
                .ok()?;
        let recorded_as = node.recorder.intern(&authority);
        Some(Arc::new_cyclic(|me| Self {
            node: node.clone(),
            me: me.clone(),
            address,
            authority,
            number,
            recorded_as,
            sampling: node.config.trace_sampling(),
            machine: Lock::new(Machine {
                association,
                busy_since: None,
                borrowed: 0,
                give_way_at: STRETCH,
                armed: None,
                timers: 0,
                drivers: Vec::new(),
                scratch: Transmit::new(),
                flooded: false,
                readers: Vec::new(),
                queued: false,
                granted: None,
            }),
            intake: Lock::new(Intake::new(&node.association_config)),
            room: Lock::default(),
            ahead: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            facts: Lock::new(Facts {
                thresholds: ThresholdWatch::new(node.config.sre_thresholds()),
                ..Facts::default()
            }),
            closed: Latch::default(),
            backlog: Backlog::new(node.config.endpoint_manager_batch_size() as usize),
            adopted: AtomicBool::new(false),
        }))
    }

    pub(crate) fn is_adopted(&self) -> bool {
        self.adopted.load(Ordering::Acquire)
    }

    /// Notes that this node has use for it; true the first time.
    pub(crate) fn adopt(&self) -> bool {
        !self.adopted.swap(true, Ordering::AcqRel)
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    pub(super) fn arc(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Runs `f` on the machine and then does what the machine wants: wakes drivers, dials, arms the timer, posts
    /// what it has to tell.
    pub(crate) fn apply<R>(&self, f: impl FnOnce(&mut Association, Instant) -> R) -> R {
        self.apply_at(self.node.now(), f)
    }

    /// [`apply`](Self::apply) for a caller that has looked at the clock.
    pub(crate) fn apply_at<R>(&self, now: Instant, f: impl FnOnce(&mut Association, Instant) -> R) -> R {
        let mut wants = Wants::default();
        let result = self.collect_at(now, &mut wants, f);
        self.fulfil(&mut wants);
        result
    }

    /// [`apply_at`](Self::apply_at) under another lock: what the machine wants is added to `wants`, for
    /// [`fulfil`](Self::fulfil) once no lock is held.
    pub(crate) fn collect_at<R>(
        &self,
        now: Instant,
        wants: &mut Wants,
        f: impl FnOnce(&mut Association, Instant) -> R,
    ) -> R {
        let mut machine = self.machine.lock();
        let result = f(&mut machine.association, now);
        self.harvest(&mut machine, now, wants);
        result
    }

    /// Has what waits go out: wakes the connection that serves, or begins one.
    pub(crate) fn flush(&self) {
        self.apply(|association, now| association.associate(now));
        self.wake_connections();
    }

    /// Has the connection that serves look for what waits.
    pub(crate) fn wake_connections(&self) {
        let wakers: Vec<_> = {
            let mut machine = self.machine.lock();
            machine.drivers.iter_mut().filter_map(|driver| driver.waker.take()).collect()
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// Reads the machine without changing what it wants.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&mut Association) -> R) -> R {
        f(&mut self.machine.lock().association)
    }

    fn harvest(&self, machine: &mut Machine, now: Instant, wants: &mut Wants) {
        let Machine {
            association,
            busy_since,
            armed,
            timers,
            drivers,
            flooded,
            readers,
            queued,
            granted,
            ..
        } = machine;
        if !association.is_live() {
            *busy_since = None;
        }
        self.suspended.store(!association.accepts_ordinary(), Ordering::Release);
        let was_flooded = core::mem::replace(flooded, association.is_flooded());
        if association.has_event() || self.backlog.has_more() || *flooded || was_flooded {
            self.post(association, wants);
            let behind = association.events_waiting() > 0 || *flooded;
            if self.backlog.note_behind(behind) && !behind {
                wants.wakers.append(readers);
            }
        }
        if association.wants_dial() {
            if granted.is_none() && !*queued {
                *granted = self.node.dials.ask(&self.node, &self.authority, &self.me);
                *queued = granted.is_none();
            }
            if let Some(slot) = granted.take()
                && let Some(conn) = association.poll_dial(now)
            {
                drivers.push(Driver::new(conn));
                wants.dials.push((conn, slot));
            }
        } else if granted.is_some() {
            wants.spare = granted.take();
        }
        while let Some((conn, _)) = association.poll_close() {
            if let Some(driver) = drivers.iter_mut().find(|driver| driver.id == conn) {
                driver.closing = true;
                wants.wakers.extend(driver.waker.take());
            }
        }
        if association.take_wake() {
            wants.wakers.extend(drivers.iter_mut().filter_map(|driver| driver.waker.take()));
        }
        match (association.poll_timeout(), &*armed) {
            (Some((at, _)), Some(running)) if running.at <= at => {}
            (Some((at, _)), _) => {
                *timers += 1;
                let new = Armed { at, number: *timers, cancel: None };
                if let Some(cancel) = armed.replace(new).and_then(|old| old.cancel) {
                    wants.disarm.push(cancel);
                }
                wants.arm = Some((at, *timers));
            }
            // A timer that runs for nothing is harmless and stops by itself.
            (None, _) => {}
        }
    }

    /// Hands out what the association has to tell, as much as may wait.
    fn post(&self, association: &mut Association, wants: &mut Wants) {
        let Some(me) = self.arc() else { return };
        loop {
            while self.backlog.has_room()
                && let Some(event) = association.poll_event()
            {
                self.node.inbox.post(Posted::new(me.clone()), event);
                wants.posted = true;
            }
            if !self.backlog.note_more(association.has_event()) {
                return;
            }
        }
    }

    /// Whether something may be read from the peer: not while the node is behind with what that leads to, or the peer
    /// ahead of what it may send.
    pub(crate) fn poll_caught_up(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.backlog.is_behind() {
            return Poll::Ready(());
        }
        let mut machine = self.machine.lock();
        if !self.backlog.is_behind() {
            return Poll::Ready(());
        }
        if !machine.readers.iter().any(|waker| waker.will_wake(cx.waker())) {
            machine.readers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Does what the machine wanted. Not under a lock: it wakes tasks, dials and starts timers.
    pub(crate) fn fulfil(&self, wants: &mut Wants) {
        let Wants { wakers, dials, spare, posted, arm, disarm } = wants;
        for waker in wakers.drain(..) {
            waker.wake();
        }
        for cancel in disarm.drain(..) {
            cancel.cancel();
        }
        if let Some((at, number)) = arm.take() {
            self.arm(at, number);
        }
        for (conn, slot) in dials.drain(..) {
            self.dial(conn, slot);
        }
        drop(spare.take());
        if core::mem::take(posted) {
            self.node.notify();
        }
    }

    fn arm(&self, at: Instant, number: u64) {
        let Some(system) = self.node.system.upgrade() else { return };
        let me = self.me.clone();
        let cancel = system.scheduler().schedule_at(at, move || {
            if let Some(peer) = me.upgrade() {
                {
                    let mut machine = peer.machine.lock();
                    if machine.armed.as_ref().is_some_and(|running| running.number == number) {
                        machine.armed = None;
                    }
                }
                peer.apply(|association, now| association.handle_timeout(now));
            }
        });
        let superseded = {
            let mut machine = self.machine.lock();
            match &mut machine.armed {
                Some(running) if running.number == number => {
                    running.cancel = Some(cancel);
                    None
                }
                // It has run already, or another thread armed an earlier one meanwhile.
                _ => Some(cancel),
            }
        };
        if let Some(cancel) = superseded {
            cancel.cancel();
        }
    }

    /// Its turn to dial has come; the place comes back when it has no use for it.
    pub(super) fn grant(&self, slot: DialSlot) -> Option<DialSlot> {
        let mut machine = self.machine.lock();
        machine.queued = false;
        if !machine.association.wants_dial() {
            return Some(slot);
        }
        machine.granted.replace(slot)
    }

    fn dial(&self, conn: ConnectionId, slot: DialSlot) {
        let Some(me) = self.arc() else { return };
        let opened = self.node.transport().map(|transport| {
            let endpoint = crate::transport::TransportEndpoint::new(self.authority.clone())
                .with_connect_timeout(self.node.config.connect_timeout());
            transport.open_channel(&endpoint)
        });
        match opened {
            Some(Ok(channel)) => self.node.spawn(Connection::dialled(me, conn, channel).run(slot)),
            Some(Err(error)) => {
                let error = dial_error(&error);
                self.apply(|association, now| association.handle_dialled(now, conn, Err(error)));
                self.forget_connection(conn);
            }
            None => {
                self.apply(|association, now| {
                    association.handle_dialled(now, conn, Err(DialError::Failed));
                });
                self.forget_connection(conn);
            }
        }
    }

    /// A connection that the peer opened begins to serve this association.
    pub(crate) fn add_driver(&self, conn: ConnectionId) {
        self.machine.lock().drivers.push(Driver::new(conn));
    }

    /// `channel` begins to carry bytes for `conn`. Its driver's handle stays until the connection is forgotten.
    pub(crate) fn begin_to_serve(&self, conn: ConnectionId, channel: TransportChannel) {
        let mut machine = self.machine.lock();
        if let Some(driver) = machine.drivers.iter_mut().find(|driver| driver.id == conn) {
            driver.channel = Some(channel);
        }
    }

    pub(crate) fn forget_connection(&self, conn: ConnectionId) {
        let old = {
            let mut machine = self.machine.lock();
            let at = machine.drivers.iter().position(|driver| driver.id == conn);
            at.map(|at| machine.drivers.swap_remove(at))
        };
        drop(old);
    }

    /// The connection has ended.
    pub(crate) fn connection_ended(&self, conn: ConnectionId, cause: LostCause) {
        self.machine.lock().busy_since = None;
        self.forget_connection(conn);
        self.apply(|association, now| association.handle_connection_lost(now, conn, cause));
    }

    /// Asks for what to write next on `conn`, and registers its task's waker for when there is more.
    pub(crate) fn poll_transmit(
        &self,
        cx: &Context<'_>,
        conn: ConnectionId,
        transmit: &mut Transmit,
        now: Instant,
    ) -> Given {
        let mut wants = Wants::default();
        let mut old = None;
        let given = {
            let mut guard = self.machine.lock();
            let machine = &mut *guard;
            let mut given = Given { closing: true, written: 0, broken: false };
            if let Some(driver) = machine.drivers.iter_mut().find(|driver| driver.id == conn) {
                match &driver.waker {
                    Some(waker) if waker.will_wake(cx.waker()) => {}
                    _ => old = driver.waker.replace(cx.waker().clone()),
                }
                given.closing = driver.closing;
                match core::mem::take(&mut driver.pen) {
                    Pen::Driver | Pen::Idle => {
                        let busy = machine.association.poll_transmit(now, conn, transmit);
                        machine.busy_since = busy.then_some(now);
                        machine.borrowed = 0;
                        machine.give_way_at = machine.association.unsent_bytes() + STRETCH;
                        if !busy {
                            driver.pen = Pen::Idle;
                        }
                    }
                    Pen::Lent { .. } => {
                        transmit.clear();
                        driver.pen = Pen::Lent { missed: true };
                        given.closing = false;
                    }
                    Pen::Left(left, written) => {
                        *transmit = left;
                        given.written = written;
                    }
                    Pen::Broken => {
                        transmit.clear();
                        given.broken = true;
                    }
                }
            } else {
                transmit.clear();
            }
            self.harvest(machine, now, &mut wants);
            given
        };
        drop(old);
        self.fulfil(&mut wants);
        given
    }

    /// Whether the machine wants `conn` closed; registers the waker for when it does.
    pub(crate) fn poll_closing(&self, cx: &Context<'_>, conn: ConnectionId) -> bool {
        let (closing, old) = {
            let mut machine = self.machine.lock();
            let closing = machine.association.is_closing(conn);
            match machine.drivers.iter_mut().find(|driver| driver.id == conn) {
                None => (true, None),
                Some(driver) => match &driver.waker {
                    Some(waker) if waker.will_wake(cx.waker()) => (closing, None),
                    _ => (closing, driver.waker.replace(cx.waker().clone())),
                },
            }
        };
        drop(old);
        closing
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    pub(crate) fn note_error(&self, what: &str) {
        let mut facts = self.facts.lock();
        facts.errors += 1;
        facts.last_error = Some(String::from(what));
    }

    pub(crate) fn note_lost(&self) {
        self.facts.lock().errors += 1;
    }

    /// Notes how full the lanes are.
    pub(crate) fn note_lane(&self, signal: BackpressureSignal) {
        self.facts.lock().pressure.lane(signal);
    }

    /// Notes which incarnation the detector doubts, and returns which it doubted before.
    pub(crate) fn note_suspect(&self, uid: Option<ActorUid>) -> Option<ActorUid> {
        self.facts.lock().pressure.suspect(uid)
    }

    /// One more connection has taken nothing for long, or one less.
    pub(super) fn note_stall(&self, begins: bool) {
        self.facts.lock().pressure.stalled(begins);
        if let Some(manager) = self.node.manager() {
            manager.tell(EndpointManagerCommand::PressureChanged { authority: self.authority.to_string() });
        }
    }

    /// The level of pressure, if it is another than was told last.
    pub(crate) fn pressure_change(&self) -> Option<BackpressureSignal> {
        let mut facts = self.facts.lock();
        let changed = facts.pressure.change();
        if changed.is_some() {
            facts.told = changed;
        }
        changed
    }

    /// Notes `metric` and gives the thresholds that it crossed.
    pub(crate) fn crossed(&self, metric: &RemotingMetric) -> Vec<ThresholdCrossed> {
        self.facts.lock().thresholds.update(metric)
    }

    /// Notes what was told of a suspension by hand, and returns what had been told before.
    pub(crate) fn note_suspended(&self, suspended: bool) -> bool {
        core::mem::replace(&mut self.facts.lock().suspended, suspended)
    }

    /// The id of the message that was sent last.
    pub(crate) fn last_sent(&self) -> CorrelationId {
        self.read(|association| association.last_correlation_id())
    }

    pub(crate) fn remote_uid(&self) -> ActorUid {
        self.read(|association| association.remote().map_or(ActorUid::ANY, RemoteNodeId::uid))
    }

    /// The level of pressure that was told last.
    pub(super) fn signal(&self) -> BackpressureSignal {
        self.facts.lock().told.unwrap_or(BackpressureSignal::Normal)
    }

    /// Refuses the peer from now on, or no longer, as the node's block list says at this moment.
    pub(crate) fn follow_block_list(&self) {
        // The list is asked under the machine's lock: whoever comes last has the last word.
        self.apply(|association, now| association.set_blocked(now, self.node.is_blocked(&self.address)));
    }

    /// Notes a turn in the life of what both wires call the endpoint.
    pub(super) fn note_endpoint<R>(&self, f: impl FnOnce(&mut EndpointLife) -> R) -> R {
        f(&mut self.facts.lock().endpoint)
    }

    /// The figures of this peer now.
    pub(crate) fn metric(&self) -> RemotingMetric {
        let now = self.node.now();
        let (depth, latency) = self.read(|association| {
            let health = association.health(now);
            (association.statistics().in_flight, health.round_trip)
        });
        let mut metric = RemotingMetric::new(self.authority.to_string());
        metric.latency_ms = latency.map_or(0, |trip| u32::try_from(trip.as_millis()).unwrap_or(u32::MAX));
        metric.deferred_depth = u32::try_from(depth).unwrap_or(u32::MAX);
        metric.correlation_id = self.last_sent();
        let facts = self.facts.lock();
        metric.error_count = facts.errors;
        metric.backpressure = facts.told;
        metric.last_error.clone_from(&facts.last_error);
        metric
    }

    /// The state and figures of this peer now.
    pub(crate) fn snapshot(&self) -> RemoteAuthoritySnapshot {
        let metric = self.metric();
        let (state, last_change) = self.read(|association| {
            let since = association.last_change().map_or(Instant::ZERO, |change| change.at);
            (association.state().clone(), since)
        });
        let state = match state {
            AssociationState::Connected { remote_id } => AuthorityState::Connected { uid: remote_id.uid() },
            AssociationState::Quarantined { deadline, .. } => AuthorityState::Quarantine { deadline },
            AssociationState::Unassociated
            | AssociationState::Associating { .. }
            | AssociationState::Suspended { .. }
            | AssociationState::Gated { .. } => AuthorityState::Unresolved,
        };
        RemoteAuthoritySnapshot {
            authority: self.authority.to_string(),
            state,
            last_change: last_change.as_millis(),
            deferred_count: metric.deferred_depth,
            metric,
        }
    }

    /// The association has left in order, or was given up.
    pub(crate) fn closed(&self) {
        self.closed.set();
    }

    pub(crate) async fn when_closed(&self) {
        poll_fn(|cx| self.closed.poll(cx)).await;
    }

    /// Wakes every sender that waits for room.
    pub(crate) fn wake_room(&self) {
        let waiting = self.room.lock().take();
        waiting.wake();
    }

    #[cold]
    fn after_event(&self, mut guard: Guard<'_, Machine>, now: Instant, wake: bool) {
        let mut wants = Wants::default();
        if wake {
            wants.wakers.extend(guard.drivers.iter_mut().filter_map(|driver| driver.waker.take()));
        }
        self.harvest(&mut guard, now, &mut wants);
        drop(guard);
        self.fulfil(&mut wants);
    }

    /// Runs a send. The usual case costs the lock and the encoding, nothing else.
    ///
    /// `is_lone` tells whether the sender had better write it. It is asked only of what would wake the driver, so that
    /// a tell among many does not pay for it.
    fn transact(
        &self,
        f: impl FnOnce(&mut Association, Instant) -> Result<Sent, Refusal>,
        is_lone: impl FnOnce(&Association, Sent) -> bool,
    ) -> Result<(), Refusal> {
        let (sent, ask, now, depth) = {
            let mut guard = self.machine.lock();
            let machine = &mut *guard;
            let now = match machine.busy_since {
                Some(now) if machine.borrowed < BORROWED => {
                    machine.borrowed += 1;
                    now
                }
                // Also while a stalled connection does not look at the clock.
                _ => {
                    machine.borrowed = 0;
                    self.node.now()
                }
            };
            let sent = f(&mut machine.association, now);
            // The driver runs or has just been woken, and looks at the clock itself.
            machine.busy_since = machine.association.is_live().then_some(now);
            let sent = match sent {
                Ok(sent) => sent,
                Err(refusal) => {
                    self.after_event(guard, now, false);
                    return Err(refusal);
                }
            };
            if sent.wake && is_lone(&machine.association, sent) {
                return self.finish_lone(guard, sent, now);
            }
            let ask = if sent.asked { machine.association.take_asked() } else { None };
            let depth = machine.association.waiting();
            let unsent = machine.association.unsent_bytes();
            if unsent > machine.give_way_at {
                machine.give_way_at = unsent + STRETCH;
                self.ahead.store(true, Ordering::Relaxed);
            }
            if sent.wake || machine.association.has_output() {
                self.after_event(guard, now, sent.wake);
            }
            (sent, ask, now, depth)
        };
        self.note_sent(sent, ask, now, depth);
        Ok(())
    }

    /// What follows a message that was taken, without the lock.
    #[inline(always)]
    fn note_sent(
        &self,
        sent: Sent,
        ask: Option<(Arc<dyn PendingReply>, ReplyKey)>,
        now: Instant,
        depth: usize,
    ) {
        let Sent { correlation_id, size, .. } = sent;
        if let Some((pending, key)) = ask
            && let Some(me) = self.arc()
        {
            pending.pending_at(Some((me, key)));
        }
        if self.sampling.traces(correlation_id, depth) {
            self.node.recorder.record_hop(now, self.recorded_as, correlation_id, HopKind::Send, size as u64);
            crate::log::hop(&self.authority, HopKind::Send, correlation_id, size);
        }
    }

    /// The rest of [`transact`](Self::transact) for a message that its sender had better write. Apart, so that the
    /// usual message does not carry what belongs to this one.
    #[cold]
    fn finish_lone(&self, mut guard: Guard<'_, Machine>, sent: Sent, now: Instant) -> Result<(), Refusal> {
        let machine = &mut *guard;
        let ask = if sent.asked { machine.association.take_asked() } else { None };
        let depth = machine.association.waiting();
        let loan = Loan::take(self, machine, now);
        self.after_event(guard, now, loan.is_none());
        self.note_sent(sent, ask, now, depth);
        if let Some(loan) = loan {
            loan.write();
        }
        Ok(())
    }
}

/// So many messages may take the driver's time for the time.
const BORROWED: u32 = 256;

/// Bytes that may wait for the connection before a sender that may wait lets others run, and again after as many
/// more. What is written soon after it was encoded is still in the processor's caches.
const STRETCH: usize = 64 * 1024;

/// What a failed dial means to the machine.
pub(crate) fn dial_error(error: &crate::transport::TransportError) -> DialError {
    use crate::transport::TransportError;
    match error {
        TransportError::Refused { .. } => DialError::Refused,
        TransportError::TimedOut { .. } => DialError::TimedOut,
        TransportError::NameNotFound { .. } => DialError::Unresolved,
        _ => DialError::Failed,
    }
}

impl Route for Peer {
    fn address(&self) -> &Address {
        &self.address
    }

    fn system(&self) -> Option<ActorSystem> {
        self.node.system.upgrade()
    }

    fn intern(
        &self,
        path: &ActorPath,
        serializer: SerializerId,
        manifest: &'static str,
    ) -> Result<u32, Refusal> {
        scope::refuse_reentry()?;
        self.read(|association| association.intern(path, serializer, manifest))
    }

    fn release(&self, recipient: u32) {
        self.outside(move |peer| peer.read(|association| association.release(recipient)));
    }

    fn send(&self, recipient: u32, headers: Option<&Headers>, encode: Encode<'_>) -> Result<(), Refusal> {
        // Re-entry would wait for the lock this thread holds: the serialization of a message that is being sent
        // to this peer sends to it.
        scope::refuse_reentry()?;
        let sent = self.transact(
            |association, now| association.send(now, recipient, headers, encode),
            Association::is_lone_ask,
        );
        if let Err(Refusal::Encode(why)) = &sent {
            self.encode_failed(self.read(|association| association.recipient(recipient)), why);
        }
        sent
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read(Association::has_room) {
            return Poll::Ready(());
        }
        self.room.lock().enter(cx.waker());
        // Asked after registering: room made in between is not missed.
        if !self.read(Association::has_room) {
            return Poll::Pending;
        }
        self.forget_room(cx.waker());
        Poll::Ready(())
    }

    #[inline]
    fn poll_pace(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ahead.load(Ordering::Relaxed) || !self.ahead.swap(false, Ordering::Relaxed) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn forget_room(&self, waker: &Waker) {
        let gone = self.room.lock().leave(waker);
        // Another send of the same task may have shared its place, and registers anew.
        if let Some(waker) = gone {
            waker.wake();
        }
    }

    fn reply(&self, to: ReplyKey, id: CorrelationId, encode: Encode<'_>) -> Result<(), Refusal> {
        scope::refuse_reentry()?;
        let sent = self
            .transact(|association, now| association.reply(now, to, id, encode), Association::is_lone_answer);
        if let Err(refusal) = &sent {
            if let Refusal::Encode(why) = refusal {
                self.encode_failed(None, why);
            }
            self.facts.lock().answer_refused = Some(to);
            self.node.dead_answer(&self.address, "answer", id, refusal);
        }
        sent
    }

    fn reply_failed(&self, to: ReplyKey, id: CorrelationId, why: AskError) {
        self.outside(move |peer| {
            let sent =
                peer.transact(|association, now| association.reply_failed(now, to, id, why), |_, _| false);
            // Of an answer that was refused a moment ago there is a record.
            if let Err(refusal) = sent
                && peer.facts.lock().answer_refused.take() != Some(to)
            {
                peer.node.dead_answer(&peer.address, "no answer", id, &refusal);
            }
        });
    }

    fn absence(&self) -> Option<AskError> {
        self.read(|association| association.absence())
    }

    fn forget(&self, key: ReplyKey) {
        self.outside(move |peer| {
            let ask = peer.read(|association| association.forget(key));
            drop(ask);
        });
    }

    fn watch(&self, target: &ActorPath, watcher: AnyRef) {
        self.to_watcher(|peer| WatchCommand::Watch { peer, target: target.clone(), watcher });
    }

    fn unwatch(&self, target: &ActorPath, watcher: &AnyRef) {
        let watcher = watcher.clone();
        self.to_watcher(|peer| WatchCommand::Unwatch { peer, target: target.clone(), watcher });
    }

    fn stop(&self, target: &ActorPath) {
        if scope::is_encoding() {
            let target = target.clone();
            return self.outside(move |peer| peer.stop(&target));
        }
        if let Err(refusal) = self.apply(|association, now| association.stop(now, target)) {
            self.node.dead_system_message(&self.address, "stop", target, &refusal);
        }
    }

    fn lookup(&self, path: &ActorPath, manifest: &'static str, found: Arc<dyn PendingReply>) {
        if let Err(refusal) = scope::refuse_reentry() {
            return found.fail(AskError::from(refusal));
        }
        let found: Arc<dyn PendingReply> = Arc::new(FoundUid(found));
        let sent = self.transact(
            |association, now| association.lookup(now, path, manifest, found.clone()),
            |_, _| false,
        );
        if let Err(refusal) = sent {
            found.fail(AskError::from(refusal));
        }
    }
}

impl Peer {
    /// Runs `f` now, or, inside the serialization of a message, as soon as that is over: this thread may hold the
    /// machine's lock.
    fn outside(&self, f: impl FnOnce(&Self) + Send + 'static) {
        if !scope::is_encoding() {
            return f(self);
        }
        if let (Some(me), Some(system)) = (self.arc(), self.node.system.upgrade()) {
            system.spawn_task(async move { f(&me) });
        }
    }

    /// Tells that a message could not be written. The dead letter is its sender's to record.
    #[cold]
    fn encode_failed(&self, recipient: Option<(ActorPath, SerializerId, &'static str)>, why: &str) {
        let Some(system) = self.node.system.upgrade() else { return };
        system.event_stream().publish_with(|| {
            let (path, serializer, manifest) = match recipient {
                Some((path, serializer, manifest)) => (Some(path), serializer, manifest),
                None => (None, SerializerId::POSTCARD, ""),
            };
            EventStreamEvent::Serialization(SerializationFailure {
                direction: SerializationDirection::Encode,
                manifest: manifest.into(),
                serializer,
                recipient: path,
                correlation_id: CorrelationId::NIL,
                error: why.into(),
            })
        });
    }

    fn to_watcher(&self, command: impl FnOnce(Arc<Self>) -> WatchCommand) {
        if let Some(me) = self.arc() {
            self.node.tell_watcher(command(me));
        }
    }
}

/// Turns a lookup's answer, 8 bytes on the wire, into the value its ask waits for.
struct FoundUid(Arc<dyn PendingReply>);

impl PendingReply for FoundUid {
    fn complete(&self, payload: &[u8]) -> Result<(), DecodeError> {
        let Ok(bytes) = <[u8; 8]>::try_from(payload) else {
            let error = DecodeError::failed("the answer to a lookup has 8 bytes");
            self.0.fail(AskError::Decode(error.to_string()));
            return Err(error);
        };
        let mut value = Vec::new();
        nexus_actor_core::serialization::Encoder::new(&mut value, 16)
            .postcard(&u64::from_le_bytes(bytes))
            .map_err(DecodeError::failed)?;
        self.0.complete(&value)
    }

    fn fail(&self, error: AskError) {
        self.0.fail(error);
    }

    fn pending_at(&self, place: Option<(Arc<dyn Route>, ReplyKey)>) {
        self.0.pending_at(place);
    }

    fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.authority)
    }
}
