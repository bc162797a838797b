//! One association at run time: the machine behind its lock, and the route that actors send by.

mod drivers;
mod facts;
mod route;
mod wants;

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorUid, Address, Authority};
use nexus_actor_core::{CorrelationId, Instant};
use portable_atomic::{AtomicBool, Ordering};

pub(crate) use self::wants::{Wants, dial_error};

use self::drivers::Driver;
use self::facts::Facts;
use self::wants::Armed;
use super::backlog::Backlog;
use super::dials::DialSlot;
use super::node::{Latch, Node};
use super::reader::Intake;
use super::room::Room;
use crate::association::{Association, Transmit};
use crate::correlation_trace::TraceSampling;
use crate::flight_recorder::AssociationNumber;
use crate::metric::ThresholdWatch;
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
            facts: Lock::new(Facts::new(ThresholdWatch::new(node.config.sre_thresholds()))),
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

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    /// The id of the message that was sent last.
    pub(crate) fn last_sent(&self) -> CorrelationId {
        self.read(|association| association.last_correlation_id())
    }

    pub(crate) fn remote_uid(&self) -> ActorUid {
        self.read(|association| association.remote().map_or(ActorUid::ANY, RemoteNodeId::uid))
    }

    /// Refuses the peer from now on, or no longer, as the node's block list says at this moment.
    pub(crate) fn follow_block_list(&self) {
        // The list is asked under the machine's lock: whoever comes last has the last word.
        self.apply(|association, now| association.set_blocked(now, self.node.is_blocked(&self.address)));
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
}

/// Bytes that may wait for the connection before a sender that may wait lets others run, and again after as many
/// more. What is written soon after it was encoded is still in the processor's caches.
const STRETCH: usize = 64 * 1024;

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.authority)
    }
}
