//! What the endpoint roles of one node share.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::{Future, poll_fn};
use core::task::{Context, Poll, Waker};

use hashbrown::HashMap;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorUid, Address, Authority};
use nexus_actor_core::remote::Route;
use nexus_actor_core::system::{ActorSystem, WeakSystem};
use nexus_actor_core::{ActorRef, CorrelationId, Instant, Refusal};
use portable_atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::away::Away;
use super::block_list::BlockList;
use super::dials::Dials;
use super::inbox::Inbox;
use super::manager::{EndpointManager, EndpointManagerCommand};
use super::peer::Peer;
use super::pressure::{self, Ways};
use super::registry::{EndpointRegistry, Origin, Reserved};
use super::room::wake_all;
use super::watcher::{RemoteWatcherMessage, WatchCommand, Watching};
use crate::association::{Admission, Association, AssociationConfig, ConnectionNumber, QuarantineMemory};
use crate::backpressure::BackpressureListeners;
use crate::endpoint_statistics::EndedEndpoints;
use crate::event::{RefusedBy, RemotingLifecycleEvent};
use crate::event_publisher::EventPublisher;
use crate::extension::RemotingExtensionConfig;
use crate::flight_recorder::RemotingFlightRecorder;
use crate::throttle::Throttle;
use crate::transport::{RemoteTransport, TransportChannel};
use crate::wire::{NodeAddress, RefuseReason, RemoteNodeId};

/// Refused incarnations that a node remembers beside its associations (L21).
const DEAD_UIDS_MAX: usize = 4_096;
/// Refused peers and reasons that are told apart in a quarantine period (L27).
const REFUSALS_MAX: usize = 1_024;

/// The shared state of one node's remoting. Everything else holds it by `Arc`.
pub(crate) struct Node {
    pub(crate) system: WeakSystem,
    pub(crate) config: RemotingExtensionConfig,
    pub(crate) association_config: Arc<AssociationConfig>,
    pub(crate) uid: ActorUid,
    pub(crate) registry: EndpointRegistry,
    /// Incarnations refused by associations that are forgotten.
    refused: Lock<QuarantineMemory>,
    /// Peers that were refused without an association.
    refusals: Lock<Throttle<(Authority, RefuseReason)>>,
    pub(crate) recorder: Arc<RemotingFlightRecorder>,
    pub(crate) listeners: BackpressureListeners,
    pub(crate) block_list: BlockList,
    /// Held while an association is forgotten and while reports are made.
    pub(super) ended_endpoints: Lock<EndedEndpoints>,
    pub(crate) publisher: EventPublisher,
    pub(crate) admission: Lock<Admission>,
    pub(crate) transport: Lock<Option<Arc<dyn RemoteTransport>>>,
    /// The connections by what their transport calls them.
    pub(super) ways: Ways,
    /// Known once the node listens: the announced port may be drawn by the operating system.
    local: Lock<Option<(RemoteNodeId, Address)>>,
    manager: Lock<Option<ActorRef<EndpointManagerCommand>>>,
    watcher: Lock<Option<ActorRef<RemoteWatcherMessage>>>,
    pub(super) watching: Watching,
    /// What associations have to tell; worked off by the manager.
    pub(super) inbox: Inbox,
    pub(super) dials: Dials,
    pub(crate) closing: AtomicBool,
    /// Connections and listeners that run.
    tasks: AtomicUsize,
    tasks_waiting: Lock<Vec<Waker>>,
    random: Lock<fastrand::Rng>,
    next_number: AtomicU64,
    closing_waiting: Lock<Vec<Waker>>,
    /// The shutdown is complete.
    pub(crate) ended: Latch,
    /// Accepted connections whose request is not whole yet.
    strangers: Lock<HashMap<ConnectionNumber, TransportChannel>>,
    admission_armed: Lock<Option<Instant>>,
    /// What one source may have said of it, so that a flood of strangers is one line.
    stranger_last: Lock<Option<Instant>>,
    strangers_unreported: AtomicU64,
}

impl Node {
    pub(crate) fn new(
        system: &ActorSystem,
        config: RemotingExtensionConfig,
        association_config: Arc<AssociationConfig>,
        admission: Admission,
        seed: u64,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let recorder = Arc::new(RemotingFlightRecorder::new(config.flight_recorder_size()));
        recorder.set_enabled(config.flight_recorder_enabled());
        let listeners = BackpressureListeners::new();
        for listener in config.backpressure_listeners() {
            listeners.register(listener.clone()).detach();
        }
        let publisher = EventPublisher::new(system.event_stream().clone(), recorder.clone());
        Self {
            system: system.downgrade(),
            association_config,
            uid: ActorUid::new(random.u64(1..)),
            registry: EndpointRegistry::default(),
            refusals: Lock::new(Throttle::new(config.quarantine_period(), REFUSALS_MAX)),
            refused: Lock::new(QuarantineMemory::new(DEAD_UIDS_MAX, config.dead_uid_memory())),
            recorder,
            listeners,
            block_list: BlockList::new(&config),
            ended_endpoints: Lock::default(),
            publisher,
            admission: Lock::new(admission),
            transport: Lock::new(None),
            ways: Ways::default(),
            local: Lock::new(None),
            manager: Lock::new(None),
            watcher: Lock::new(None),
            watching: Watching::default(),
            inbox: Inbox::default(),
            dials: Dials::new(config.dials_in_flight_max() as usize),
            closing: AtomicBool::new(false),
            tasks: AtomicUsize::new(0),
            tasks_waiting: Lock::default(),
            random: Lock::new(random),
            next_number: AtomicU64::new(0),
            closing_waiting: Lock::default(),
            ended: Latch::default(),
            strangers: Lock::default(),
            admission_armed: Lock::new(None),
            stranger_last: Lock::new(None),
            strangers_unreported: AtomicU64::new(0),
            config,
        }
    }

    /// Now, or the end of time when the system is gone.
    pub(crate) fn now(&self) -> Instant {
        self.system.upgrade().map_or(Instant::FAR_FUTURE, |system| system.now())
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.lock().u64(..)
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn set_local(&self, id: RemoteNodeId, address: Address) {
        *self.local.lock() = Some((id, address));
    }

    pub(crate) fn clear_local(&self) {
        *self.local.lock() = None;
    }

    /// This node's identity, once it listens.
    pub(crate) fn local_id(&self) -> Option<RemoteNodeId> {
        self.local.lock().as_ref().map(|(id, _)| id.clone())
    }

    /// The address this node announces, once it listens.
    pub(crate) fn address(&self) -> Option<Address> {
        self.local.lock().as_ref().map(|(_, address)| address.clone())
    }

    /// The authority for this node's own events.
    pub(crate) fn own_authority(&self) -> Authority {
        self.address()
            .and_then(|address| address.authority)
            .unwrap_or_else(|| self.config.canonical_authority())
    }

    /// Takes `transport` into use, in place of the one before.
    pub(crate) fn set_transport(self: &Arc<Self>, transport: Arc<dyn RemoteTransport>) {
        pressure::install_hook(self, &*transport);
        let old = self.transport.lock().replace(transport);
        drop(old);
    }

    pub(crate) fn transport(&self) -> Option<Arc<dyn RemoteTransport>> {
        self.transport.lock().clone()
    }

    pub(crate) fn set_manager(&self, manager: Option<ActorRef<EndpointManagerCommand>>) {
        let old = core::mem::replace(&mut *self.manager.lock(), manager);
        drop(old);
    }

    pub(crate) fn set_watcher(&self, watcher: Option<ActorRef<RemoteWatcherMessage>>) {
        let old = core::mem::replace(&mut *self.watcher.lock(), watcher);
        drop(old);
    }

    pub(crate) fn manager(&self) -> Option<ActorRef<EndpointManagerCommand>> {
        self.manager.lock().clone()
    }

    pub(crate) fn has_watcher(&self) -> bool {
        self.watcher.lock().is_some()
    }

    /// Gives the watcher daemon something to do. It waits for a daemon when there is none.
    pub(crate) fn tell_watcher(&self, command: WatchCommand) {
        if !self.watching.push(command) {
            return;
        }
        let watcher = self.watcher.lock().clone();
        if let Some(watcher) = watcher {
            watcher.tell(RemoteWatcherMessage(()));
        }
    }

    /// Tells the manager that there is something to work off, once until it has begun.
    pub(crate) fn notify(self: &Arc<Self>) {
        if !self.inbox.tell() {
            return;
        }
        if let Some(manager) = self.manager() {
            manager.tell(EndpointManagerCommand::Drain);
        } else if self.ended.is_set()
            && let Some(system) = self.system.upgrade()
        {
            // Somebody still watched or stopped an actor elsewhere: it is answered all the same.
            let (node, of) = (self.clone(), system.clone());
            system.spawn_task(async move { node.drain_posted(&of) });
        }
    }

    /// Tells a manager that has just been made of what was posted before it.
    pub(crate) fn notify_again(self: &Arc<Self>) {
        self.inbox.untold();
        self.notify();
    }

    /// Works off all that is posted, behind a manager that may be at it.
    pub(crate) async fn work_off_all(self: &Arc<Self>) {
        while !self.inbox.is_done() {
            self.inbox.at_rest().await;
            if let Some(system) = self.system.upgrade() {
                self.drain_posted(&system);
            }
        }
    }

    /// Works off what is posted without a manager, when that has ended.
    pub(crate) fn drain_posted(self: &Arc<Self>, system: &ActorSystem) {
        let manager = EndpointManager::new(self.clone());
        while let Some(batch) = Inbox::take(self, usize::MAX) {
            manager.work_off(batch, system);
        }
    }

    /// Nothing new is begun from now on.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
        let waiting = core::mem::take(&mut *self.closing_waiting.lock());
        for waker in waiting {
            waker.wake();
        }
        let strangers = core::mem::take(&mut *self.strangers.lock());
        for channel in strangers.into_values() {
            channel.close();
        }
    }

    /// Completes when closing begins.
    pub(crate) fn closing_notice(self: &Arc<Self>) -> Ending {
        let node = self.clone();
        Box::pin(poll_fn(move |cx| {
            if node.is_closing() {
                return Poll::Ready(());
            }
            {
                let mut waiting = node.closing_waiting.lock();
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
            }
            if node.is_closing() { Poll::Ready(()) } else { Poll::Pending }
        }))
    }

    /// Runs `future` until it ends or `deadline` passes.
    pub(crate) async fn within(
        &self,
        system: &ActorSystem,
        deadline: Instant,
        future: impl Future<Output = ()> + Send,
    ) {
        let mut sleep = system.runtime().sleep_until(deadline);
        let mut future = core::pin::pin!(future);
        poll_fn(move |cx| {
            if future.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    /// Whether an operator refuses this system or authority.
    pub(crate) fn is_blocked(&self, address: &Address) -> bool {
        self.block_list.refuses(address)
    }

    /// Brings every association in line with the block list.
    pub(crate) fn apply_block_list(&self) {
        for peer in self.registry.all() {
            peer.follow_block_list();
        }
    }

    // Accepted connections

    pub(crate) fn await_hello(&self, number: ConnectionNumber, channel: TransportChannel) {
        self.strangers.lock().insert(number, channel);
    }

    pub(crate) fn hello_over(&self, number: ConnectionNumber) {
        let channel = self.strangers.lock().remove(&number);
        drop(channel);
    }

    /// Closes a connection in favour of a newer one.
    pub(crate) fn evict(&self, number: ConnectionNumber) {
        let channel = self.strangers.lock().remove(&number);
        if let Some(channel) = channel {
            channel.abort();
        }
    }

    /// Runs a timer for the earliest deadline of those who have not introduced themselves.
    pub(crate) fn arm_admission(self: &Arc<Self>) {
        let Some(system) = self.system.upgrade() else { return };
        let at = {
            let Some(at) = self.admission.lock().poll_timeout() else { return };
            let mut armed = self.admission_armed.lock();
            if armed.is_some_and(|running| running <= at) {
                return;
            }
            *armed = Some(at);
            at
        };
        let node = Arc::downgrade(self);
        system.scheduler().schedule_at(at, move || {
            let Some(node) = node.upgrade() else { return };
            *node.admission_armed.lock() = None;
            let now = node.now();
            let late = node.admission.lock().handle_timeout(now);
            for number in late {
                node.evict(number);
            }
            node.arm_admission();
        });
    }

    /// A connection was not from a node of ours. One event a second, with a count of those held back.
    pub(crate) fn report_stranger(&self, channel: &TransportChannel, why: &str) {
        let now = self.now();
        {
            let mut last = self.stranger_last.lock();
            if last.is_some_and(|last| now - last < core::time::Duration::from_secs(1)) {
                self.strangers_unreported.fetch_add(1, Ordering::Relaxed);
                return;
            }
            *last = Some(now);
        }
        let held_back = self.strangers_unreported.swap(0, Ordering::Relaxed);
        if let Some(system) = self.system.upgrade() {
            let source = channel.peer_address();
            let event = StrangerEvent { source, why: why.to_string(), held_back };
            crate::log::stranger(&event);
            system.event_stream().publish(event);
        }
    }

    /// The listener could not take a connection, or has ended.
    pub(crate) fn report_listener(&self, why: &str) {
        let fault = ListenerFault { why: why.to_string() };
        self.publisher.publish_listener_fault(self.now(), self.own_authority(), fault);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Runs a task that a shutdown waits for.
    pub(crate) fn spawn(self: &Arc<Self>, future: impl Future<Output = ()> + Send + 'static) {
        let Some(system) = self.system.upgrade() else { return };
        self.tasks.fetch_add(1, Ordering::AcqRel);
        let guard = TaskGuard(self.clone());
        system.spawn_task(async move {
            let _guard = guard;
            future.await;
        });
    }

    /// How many connections and listeners run.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.load(Ordering::Acquire)
    }

    /// Waits until no connection and no listener runs.
    pub(crate) async fn tasks_ended(&self) {
        poll_fn(|cx| {
            if self.tasks() == 0 {
                return Poll::Ready(());
            }
            {
                let mut waiting = self.tasks_waiting.lock();
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
            }
            // The last one may have ended in between.
            if self.tasks() == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The association with the node at `address`, made when there is none yet. `None` when there may be no more
    /// (L6), or remoting has ended.
    pub(crate) fn peer(self: &Arc<Self>, address: &Address, origin: Origin) -> Option<Arc<Peer>> {
        if let Some(peer) = self.registry.get(address, origin) {
            return Some(peer);
        }
        let (authority, local) = (address.authority.clone()?, self.local_id()?);
        let named_max = self.config.inbound_associations_max() as usize;
        let mut room_made = false;
        let number = loop {
            match self.registry.reserve(&authority, &address.system, origin, named_max) {
                Reserved::Found(peer) => return Some(peer),
                Reserved::Free(number) => break number,
                Reserved::Full(_) if room_made => return None,
                Reserved::Full(candidates) => {
                    let gone = candidates.into_iter().any(|peer| {
                        let gone = self.forget(&peer, |association, now| association.is_spare(now));
                        if gone {
                            self.endpoint_ended(&peer, "unused");
                        }
                        gone
                    });
                    if !gone {
                        return None;
                    }
                    room_made = true;
                }
            }
        };
        // Outside the registry's lock: a detector may be of the user's making.
        let Some(peer) = Peer::new(self, local, address.clone(), authority, number) else {
            self.registry.give_back(number, origin);
            return None;
        };
        let refused = self.refused.lock().take(self.now(), address);
        peer.apply(|association, now| {
            association.remember_quarantined(refused);
            association.begin(now);
        });
        let peer = self.registry.insert(peer, origin)?;
        if self.is_closing() {
            // The shutdown may have told the others already.
            peer.apply(|association, now| association.leave(now));
        }
        if self.is_blocked(address) {
            // So it has been since the caller asked, and who blocked it may not have found this one.
            peer.follow_block_list();
        }
        Some(peer)
    }

    /// Drops an association of which nothing is in use, if it `may` go; its caller holds it once. What it refused
    /// is kept for the next one with that address.
    pub(crate) fn forget(&self, peer: &Arc<Peer>, may: impl Fn(&Association, Instant) -> bool) -> bool {
        let now = self.now();
        if !peer.read(|association| may(association, now)) {
            return false;
        }
        // The ways into mailboxes hold the peer. They are found anew when something comes.
        let ways = peer.intake.lock().inbound.take_cached();
        drop(ways);
        {
            let mut ended = self.ended_endpoints.lock();
            if !self.registry.remove_if(peer, || peer.read(|association| may(association, now))) {
                return false;
            }
            ended.add(&peer.authority().to_string(), peer.endpoint_statistics());
        }
        let uids: Vec<_> = peer.read(|association| association.quarantined_uids().copied().collect());
        self.refused.lock().keep(now, peer.address(), uids);
        self.detach(peer);
        true
    }

    /// Ends the receiving side: what waited for its messages need wait no longer.
    pub(crate) fn detach(&self, peer: &Arc<Peer>) {
        let mut released = Vec::new();
        let gone = {
            let mut intake = peer.intake.lock();
            let gone = intake.inbound.detach();
            while let Some(notice) = intake.inbound.released() {
                released.push(notice);
            }
            gone
        };
        drop(gone);
        for notice in released {
            self.tell_watcher(WatchCommand::Notify { peer: peer.clone(), notice });
        }
    }

    /// Whether the node at `address` may be spoken to.
    ///
    /// # Errors
    /// Why it may not, or cannot.
    fn check_route(&self, address: &Address) -> Result<(), Refusal> {
        if self.is_closing() {
            return Err(Refusal::Shutdown);
        }
        let Some(own) = self.address() else {
            return Err(Refusal::NoRoute("remoting has not been started: call `start` first"));
        };
        if address.scheme != own.scheme {
            return Err(Refusal::NoRoute("no transport for the scheme of this address"));
        }
        if own.authority == address.authority {
            // Our own address under another system's name.
            return Err(Refusal::NoSuchActor);
        }
        if self.is_blocked(address) {
            return Err(Refusal::Blocked);
        }
        Ok(())
    }

    /// The association with another node that may be spoken to.
    ///
    /// # Errors
    /// Why it may not, or cannot.
    pub(crate) fn route_to(
        self: &Arc<Self>,
        address: &Address,
        origin: Origin,
    ) -> Result<Arc<Peer>, Refusal> {
        self.check_route(address)?;
        self.peer(address, origin)
            .ok_or_else(|| if self.is_closing() { Refusal::Shutdown } else { Refusal::Limit("associations") })
    }

    /// The way to another node that a peer has named. That makes no association: only what is sent by it does.
    ///
    /// # Errors
    /// As [`route_to`](Self::route_to).
    pub(crate) fn named_route(self: &Arc<Self>, address: &Address) -> Result<Arc<dyn Route>, Refusal> {
        self.check_route(address)?;
        if let Some(peer) = self.registry.get(address, Origin::Peer) {
            return Ok(peer);
        }
        Ok(Arc::new(Away::new(self.clone(), address.clone())))
    }

    /// Tells that a peer was refused before there was an association to tell it, unless that was told a short
    /// while ago. Returns the reason.
    pub(crate) fn refused_by_us(&self, peer: &NodeAddress, reason: RefuseReason) -> RefuseReason {
        let Some(authority) = peer.to_address(self.config.transport_scheme().clone()).authority else {
            return reason;
        };
        let passed = self.refusals.lock().pass(self.now(), (authority.clone(), reason));
        if let Some(held_back) = passed {
            self.publish(RemotingLifecycleEvent::Refused {
                authority,
                by: RefusedBy::Us,
                reason,
                held_back,
                correlation_id: CorrelationId::NIL,
            });
        }
        reason
    }

    /// Publishes and records one turn in the node's own life.
    pub(crate) fn publish(&self, event: RemotingLifecycleEvent) {
        self.publisher.publish_lifecycle(self.now(), event);
    }
}

/// Says once, to any number of waiters, that something is over.
#[derive(Default)]
pub(crate) struct Latch {
    set: AtomicBool,
    waiting: Lock<Vec<Waker>>,
}

impl Latch {
    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self) {
        self.set.store(true, Ordering::Release);
        let waiting = core::mem::take(&mut *self.waiting.lock());
        wake_all(waiting);
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_set() {
            return Poll::Ready(());
        }
        {
            let mut waiting = self.waiting.lock();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        // Asked after registering: what happened in between is not missed.
        if self.is_set() { Poll::Ready(()) } else { Poll::Pending }
    }
}

struct TaskGuard(Arc<Node>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        if self.0.tasks.fetch_sub(1, Ordering::AcqRel) == 1 {
            let waiting = core::mem::take(&mut *self.0.tasks_waiting.lock());
            for waker in waiting {
                waker.wake();
            }
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("address", &self.address().map(|address| address.to_string()))
            .field("uid", &self.uid)
            .field("tasks", &self.tasks())
            .finish_non_exhaustive()
    }
}

/// Published when a connection was not from a node of ours; at most one a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrangerEvent {
    /// Where it came from, if the transport knows.
    pub source: Option<Authority>,
    /// What was wrong with its first bytes.
    pub why: String,
    /// How many more there were since the last event.
    pub held_back: u64,
}

/// Published when the listener failed; it is made again with growing waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFault {
    /// The transport's error.
    pub why: String,
}

/// A boxed future of the endpoint layer.
pub(crate) type Ending = core::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
