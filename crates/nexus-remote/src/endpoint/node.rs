//! What the endpoint roles of one node share.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::{Future, poll_fn};
use core::task::{Poll, Waker};

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorUid, Address, Authority};
use nexus_actor_core::system::{ActorSystem, WeakSystem};
use nexus_actor_core::{ActorRef, CorrelationId, Instant};
use portable_atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::manager::EndpointManagerCommand;
use super::peer::Peer;
use super::registry::EndpointRegistry;
use super::watcher::WatchCommand;
use crate::association::{Admission, AssociationConfig, AssociationEvent};
use crate::backpressure::BackpressureListeners;
use crate::event_publisher::EventPublisher;
use crate::extension::RemotingExtensionConfig;
use crate::flight_recorder::RemotingFlightRecorder;
use crate::transport::RemoteTransport;
use crate::wire::RemoteNodeId;

/// The shared state of one node's remoting. Everything else holds it by `Arc`.
pub(crate) struct Node {
    pub(crate) system: WeakSystem,
    pub(crate) config: RemotingExtensionConfig,
    pub(crate) association_config: Arc<AssociationConfig>,
    pub(crate) uid: ActorUid,
    pub(crate) registry: EndpointRegistry,
    pub(crate) recorder: Arc<RemotingFlightRecorder>,
    pub(crate) listeners: BackpressureListeners,
    pub(crate) publisher: EventPublisher,
    pub(crate) admission: Lock<Admission>,
    pub(crate) transport: Lock<Option<Arc<dyn RemoteTransport>>>,
    /// Known once the node listens: the announced port may be drawn by the operating system.
    local: Lock<Option<(RemoteNodeId, Address)>>,
    manager: Lock<Option<ActorRef<EndpointManagerCommand>>>,
    watcher: Lock<Option<ActorRef<WatchCommand>>>,
    /// What associations have to tell, in order per peer; worked off by the manager.
    inbox: Lock<VecDeque<(Arc<Peer>, AssociationEvent)>>,
    inbox_told: AtomicBool,
    pub(crate) closing: AtomicBool,
    /// Connections and listeners that run.
    tasks: AtomicUsize,
    tasks_waiting: Lock<Vec<Waker>>,
    random: Lock<fastrand::Rng>,
    next_number: AtomicU64,
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
            recorder,
            listeners,
            publisher,
            admission: Lock::new(admission),
            transport: Lock::new(None),
            local: Lock::new(None),
            manager: Lock::new(None),
            watcher: Lock::new(None),
            inbox: Lock::default(),
            inbox_told: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            tasks: AtomicUsize::new(0),
            tasks_waiting: Lock::default(),
            random: Lock::new(random),
            next_number: AtomicU64::new(0),
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

    pub(crate) fn transport(&self) -> Option<Arc<dyn RemoteTransport>> {
        self.transport.lock().clone()
    }

    pub(crate) fn set_manager(&self, manager: Option<ActorRef<EndpointManagerCommand>>) {
        let old = core::mem::replace(&mut *self.manager.lock(), manager);
        drop(old);
    }

    pub(crate) fn set_watcher(&self, watcher: Option<ActorRef<WatchCommand>>) {
        let old = core::mem::replace(&mut *self.watcher.lock(), watcher);
        drop(old);
    }

    pub(crate) fn manager(&self) -> Option<ActorRef<EndpointManagerCommand>> {
        self.manager.lock().clone()
    }

    pub(crate) fn watcher(&self) -> Option<ActorRef<WatchCommand>> {
        self.watcher.lock().clone()
    }

    /// Keeps what an association has to tell. May be called under that association's lock: order per peer is
    /// the order of these calls.
    pub(crate) fn post(&self, peer: Arc<Peer>, event: AssociationEvent) {
        self.inbox.lock().push_back((peer, event));
    }

    /// Tells the manager that there is something to work off, once until it has begun.
    pub(crate) fn notify(&self) {
        if !self.inbox_told.swap(true, Ordering::AcqRel)
            && let Some(manager) = self.manager()
        {
            manager.tell(EndpointManagerCommand::Drain);
        }
    }

    /// The next `max` things to work off.
    pub(crate) fn take_posted(&self, max: usize) -> VecDeque<(Arc<Peer>, AssociationEvent)> {
        self.inbox_told.store(false, Ordering::Release);
        let mut inbox = self.inbox.lock();
        if inbox.len() <= max {
            return core::mem::take(&mut *inbox);
        }
        let rest = inbox.split_off(max);
        core::mem::replace(&mut *inbox, rest)
    }

    pub(crate) fn has_posted(&self) -> bool {
        !self.inbox.lock().is_empty()
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
            self.tasks_waiting.lock().push(cx.waker().clone());
            // The last one may have ended in between.
            if self.tasks() == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The association with the node at `address`, made when there is none yet.
    pub(crate) fn peer(self: &Arc<Self>, address: &Address) -> Option<Arc<Peer>> {
        let authority = address.authority.clone()?;
        if let Some(peer) = self.registry.get(&authority, &address.system) {
            return Some(peer);
        }
        let local = self.local_id()?;
        self.registry.get_or_insert(&authority, &address.system, |number| {
            Peer::new(self, local, address.clone(), authority.clone(), number)
        })
    }

    pub(crate) fn correlation_id(&self) -> CorrelationId {
        let mut random = self.random.lock();
        CorrelationId::new(random.u64(1..), random.u32(..))
    }

    /// Publishes and records one turn in the node's own life.
    pub(crate) fn publish(&self, event: crate::event::RemotingLifecycleEvent) {
        self.publisher.publish_lifecycle(self.now(), event);
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

/// A boxed future of the endpoint layer.
pub(crate) type Ending = core::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
