//! One reference in front of many: round-robin, broadcast and consistent-hash routing.
//!
//! A router is a function on the sender's thread, not an actor in the way of the messages: nothing is queued
//! twice and there is no bottleneck. Beside it lives a small actor that watches the routees, so that routees of
//! other nodes leave when they terminate, and that stands for the router when it is watched or stopped.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::task::{Context as TaskContext, Poll, Waker};

use portable_atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::actor::{Actor, ActorError};
use crate::actor_ref::{ActorRef, AnyRef, Deliver, Refused};
use crate::context::Context;
use crate::headers::Headers;
use crate::lock::Lock;
use crate::nest::SpawnError;
use crate::props::Props;
use crate::reason::Refusal;
use crate::signal::Signal;
use crate::system::ActorSystem;

/// Points on the ring per routee: with a hundred, shares differ by about a tenth.
const VIRTUAL_NODES: u32 = 100;

/// Spreads messages over a set of actors, here or on other nodes.
///
/// [`actor_ref`](Self::actor_ref) is an ordinary reference: tell, ask, send and watch it like any other.
/// A routee that turns out to have terminated is skipped and taken out of the set. With none left, messages are
/// refused with [`Refusal::NoSuchActor`]; after the router itself was stopped, with [`Refusal::Stopped`].
///
/// A handle: clones mean the same router. Dropping it does not stop it; stop the reference for that. Order per
/// sender and routee is that of the sends.
pub struct Router<M> {
    set: Arc<Set<M>>,
    me: ActorRef<M>,
    keeper: ActorRef<Keep>,
}

/// The routees and how one is picked; shared by the senders, the handle and the keeper.
struct Set<M> {
    routees: Routees<M>,
    logic: Logic<M>,
    closed: AtomicBool,
}

type Key<M> = Box<dyn Fn(&M) -> u64 + Send + Sync>;

enum Logic<M> {
    RoundRobin { next: AtomicUsize },
    Broadcast { copy: fn(&M) -> M },
    ConsistentHash { key: Key<M> },
}

/// A set of routees that senders read without holding its lock.
pub(crate) struct Routees<M>(Lock<Arc<Table<M>>>);

pub(crate) struct Table<M> {
    /// Each with the actor it stands for, as watches know it.
    pub(crate) routees: Vec<(ActorRef<M>, AnyRef)>,
    /// Points of the hash ring in order, each with the routee it belongs to; empty unless wanted.
    ring: Vec<(u64, u32)>,
}

impl<M: Send + 'static> Table<M> {
    fn new(routees: Vec<(ActorRef<M>, AnyRef)>, hashed: bool) -> Self {
        let mut ring = Vec::new();
        if hashed {
            ring.reserve_exact(routees.len() * VIRTUAL_NODES as usize);
            for (index, (routee, _)) in routees.iter().enumerate() {
                // Without the uid: a routee that is spawned anew under its name gets its keys back.
                let path = routee.path();
                let place = hash_of(&(path.address(), path.elements()));
                ring.extend((0..VIRTUAL_NODES).map(|point| (hash_of(&(place, point)), index as u32)));
            }
            ring.sort_unstable();
        }
        Self { routees, ring }
    }

    /// The routees in the order in which the ring offers them to a key, each once.
    fn clockwise(&self, key: u64) -> impl Iterator<Item = &(ActorRef<M>, AnyRef)> {
        let start = self.ring.partition_point(|(point, _)| *point < key);
        let mut seen = Vec::new();
        let (before, after) = self.ring.split_at(start);
        after.iter().chain(before).filter_map(move |(_, index)| {
            if seen.contains(index) {
                return None;
            }
            seen.push(*index);
            self.routees.get(*index as usize)
        })
    }
}

impl<M: Send + 'static> Routees<M> {
    pub(crate) fn new(routees: impl IntoIterator<Item = ActorRef<M>>, hashed: bool) -> Self {
        let mut all: Vec<(ActorRef<M>, AnyRef)> = Vec::new();
        for routee in routees {
            let behind = routee.to_any().behind();
            if all.iter().all(|(other, _)| *other != routee) {
                all.push((routee, behind));
            }
        }
        Self(Lock::new(Arc::new(Table::new(all, hashed))))
    }

    pub(crate) fn table(&self) -> Arc<Table<M>> {
        self.0.lock().clone()
    }

    /// Puts `change` of the routees in place; repeats it when another thread was faster.
    fn change<R>(
        &self,
        hashed: bool,
        change: impl Fn(&mut Vec<(ActorRef<M>, AnyRef)>) -> Option<R>,
    ) -> Option<R> {
        loop {
            let before = self.table();
            let mut routees = before.routees.clone();
            let result = change(&mut routees)?;
            let after = Arc::new(Table::new(routees, hashed));
            let mut current = self.0.lock();
            if Arc::ptr_eq(&before, &current) {
                let old = core::mem::replace(&mut *current, after);
                drop(current);
                drop(old);
                return Some(result);
            }
        }
    }

    /// Adds a routee; `None` when it is there already.
    pub(crate) fn add(&self, routee: &ActorRef<M>, hashed: bool) -> Option<AnyRef> {
        let behind = routee.to_any().behind();
        self.change(hashed, |routees| {
            if routees.iter().any(|(other, _)| other == routee) {
                return None;
            }
            routees.push((routee.clone(), behind.clone()));
            Some(behind.clone())
        })
    }

    /// Takes a routee out and returns the actor it stood for.
    pub(crate) fn remove(&self, routee: &ActorRef<M>, hashed: bool) -> Option<AnyRef> {
        self.change(hashed, |routees| {
            let at = routees.iter().position(|(other, _)| other == routee)?;
            Some(routees.remove(at).1)
        })
    }

    /// Takes out all that stood for an actor that has terminated; whether there was one.
    pub(crate) fn remove_actor(&self, who: &AnyRef, hashed: bool) -> bool {
        self.change(hashed, |routees| {
            let before = routees.len();
            routees.retain(|(_, behind)| behind != who);
            (routees.len() < before).then_some(())
        })
        .is_some()
    }

    pub(crate) fn clear(&self) {
        let _ = self.change(false, |routees| {
            routees.clear();
            Some(())
        });
    }
}

/// Whether a refusal means that the recipient will never take a message again.
pub(crate) const fn is_gone(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Stopped | Refusal::NoSuchActor)
}

impl<M: Send + 'static> Set<M> {
    const fn hashed(&self) -> bool {
        matches!(self.logic, Logic::ConsistentHash { .. })
    }

    fn none_left(&self) -> Refusal {
        if self.closed.load(Ordering::Acquire) { Refusal::Stopped } else { Refusal::NoSuchActor }
    }

    /// Offers the message to one after the other until it is taken. Goes on past those that are gone, and past
    /// full ones where `past_full`.
    fn first_of<'a>(
        &self,
        routees: impl Iterator<Item = &'a (ActorRef<M>, AnyRef)>,
        mut message: M,
        headers: Option<Headers>,
        past_full: bool,
    ) -> Result<(), Refused<M>> {
        let mut full = None;
        for (routee, behind) in routees {
            let refused = match routee.offer_with(message, headers.clone()) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            if is_gone(&refused.refusal) {
                self.routees.remove_actor(behind, self.hashed());
            } else if past_full && refused.refusal.is_full() {
                full = Some((refused.refusal, refused.by));
            } else {
                return Err(refused);
            }
            message = refused.message;
        }
        // Of several that are full the last one counts it.
        let (refusal, by) = full.unwrap_or_else(|| (self.none_left(), None));
        Err(Refused { message, refusal, by })
    }

    fn broadcast(&self, copy: fn(&M) -> M, message: M, headers: Option<&Headers>) -> Result<(), Refused<M>> {
        let table = self.routees.table();
        let mut accepted = false;
        let mut refused: Vec<(&ActorRef<M>, Refused<M>)> = Vec::new();
        for (routee, behind) in &table.routees {
            match routee.offer_with(copy(&message), headers.cloned()) {
                Ok(()) => accepted = true,
                Err(error) if is_gone(&error.refusal) => {
                    self.routees.remove_actor(behind, false);
                }
                Err(error) => refused.push((routee, error)),
            }
        }
        if accepted {
            for (routee, error) in refused {
                routee.give_up(error);
            }
            return Ok(());
        }
        // Full only when all are, so that waiting for room has an end.
        let at = refused.iter().position(|(_, error)| !error.refusal.is_full()).unwrap_or(0);
        let first = (at < refused.len()).then(|| refused.swap_remove(at).1);
        let (refusal, by) = first.map_or_else(|| (self.none_left(), None), |first| (first.refusal, first.by));
        Err(Refused { message, refusal, by })
    }
}

impl<M: Send + 'static> Deliver<M> for Arc<Set<M>> {
    fn deliver(&self, message: M, headers: Option<Headers>) -> Result<(), Refused<M>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Refused::here(message, Refusal::Stopped));
        }
        match &self.logic {
            Logic::RoundRobin { next } => {
                let table = self.routees.table();
                let turn = next.fetch_add(1, Ordering::Relaxed) % table.routees.len().max(1);
                let (before, after) = table.routees.split_at(turn);
                self.first_of(after.iter().chain(before), message, headers, true)
            }
            Logic::Broadcast { copy } => self.broadcast(*copy, message, headers.as_ref()),
            Logic::ConsistentHash { key } => {
                let table = self.routees.table();
                let key = key(&message);
                self.first_of(table.clockwise(key), message, headers, false)
            }
        }
    }

    fn poll_room(&self, cx: &TaskContext<'_>, message: Option<&M>) -> Poll<()> {
        let table = self.routees.table();
        match (&self.logic, message) {
            (Logic::ConsistentHash { key }, Some(message)) => match table.clockwise(key(message)).next() {
                Some((routee, _)) => routee.0.poll_room(cx, Some(message)),
                None => Poll::Ready(()),
            },
            (Logic::ConsistentHash { .. }, None) => {
                // Whose room it takes shows only in the message.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            (Logic::RoundRobin { .. } | Logic::Broadcast { .. }, _) => poll_any_room(&table, cx, message),
        }
    }

    fn forget_room(&self, waker: &Waker) {
        for (routee, _) in &self.routees.table().routees {
            routee.0.forget_room(waker);
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        if self.closed.load(Ordering::Acquire) {
            return Some(Refusal::Stopped);
        }
        match &self.logic {
            Logic::ConsistentHash { .. } => None,
            Logic::RoundRobin { .. } | Logic::Broadcast { .. } => any_refusal(&self.routees.table()),
        }
    }
}

/// Ready when one routee has room, or when there is none to wait for.
pub(crate) fn poll_any_room<M: Send + 'static>(
    table: &Table<M>,
    cx: &TaskContext<'_>,
    message: Option<&M>,
) -> Poll<()> {
    if table.routees.is_empty() {
        return Poll::Ready(());
    }
    let mut ready = false;
    for (routee, _) in &table.routees {
        ready |= routee.0.poll_room(cx, message).is_ready();
        if ready {
            break;
        }
    }
    if ready { Poll::Ready(()) } else { Poll::Pending }
}

/// Why all routees would refuse now; `None` when one would not.
pub(crate) fn any_refusal<M: Send + 'static>(table: &Table<M>) -> Option<Refusal> {
    let mut all = Some(Refusal::NoSuchActor);
    for (routee, _) in &table.routees {
        match routee.0.refusal() {
            None => return None,
            Some(refusal) if is_gone(&refusal) => {}
            Some(refusal) => all = Some(refusal),
        }
    }
    all
}

/// What a router's keeper is told.
enum Keep {
    Watch(AnyRef),
    Unwatch(AnyRef),
}

/// Watches the routees for a router.
struct Keeper<M> {
    set: Arc<Set<M>>,
}

impl<M: Send + 'static> Actor for Keeper<M> {
    type Msg = Keep;

    async fn receive(&mut self, message: Keep, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match message {
            Keep::Watch(who) => cx.watch_any(&who),
            Keep::Unwatch(who) => cx.unwatch_any(&who),
        }
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match signal {
            Signal::Terminated { who, .. } => {
                self.set.routees.remove_actor(&who, self.set.hashed());
            }
            Signal::Stopping => {
                self.set.closed.store(true, Ordering::Release);
                self.set.routees.clear();
            }
            Signal::Started | Signal::Restarting | Signal::ChildFailed { .. } | Signal::ReceiveTimeout => {}
        }
        Ok(())
    }
}

impl<M: Send + 'static> Router<M> {
    /// A router that gives each message to the next routee in turn, past those whose mailbox is full.
    ///
    /// # Errors
    /// When the system is shutting down.
    pub fn round_robin(
        system: &ActorSystem,
        routees: impl IntoIterator<Item = ActorRef<M>>,
    ) -> Result<Self, SpawnError> {
        Self::start(system, routees, Logic::RoundRobin { next: AtomicUsize::new(0) })
    }

    /// A router that gives each message to all routees.
    ///
    /// A message is accepted when one routee takes it; what the others refuse becomes their dead letter.
    ///
    /// # Errors
    /// When the system is shutting down.
    pub fn broadcast(
        system: &ActorSystem,
        routees: impl IntoIterator<Item = ActorRef<M>>,
    ) -> Result<Self, SpawnError>
    where
        M: Clone,
    {
        Self::start(system, routees, Logic::Broadcast { copy: M::clone })
    }

    /// A router that gives messages with equal keys to the same routee.
    ///
    /// When a routee leaves, only its keys move; when one comes, it takes its share and nothing else moves.
    /// Which routee a key belongs to depends on paths alone: all nodes that know the same routees agree.
    /// A full routee refuses; its keys go nowhere else. `key` runs on the sender's thread.
    ///
    /// # Errors
    /// When the system is shutting down.
    pub fn consistent_hash<K: Hash>(
        system: &ActorSystem,
        routees: impl IntoIterator<Item = ActorRef<M>>,
        key: impl Fn(&M) -> K + Send + Sync + 'static,
    ) -> Result<Self, SpawnError> {
        let key: Key<M> = Box::new(move |message| hash_of(&key(message)));
        Self::start(system, routees, Logic::ConsistentHash { key })
    }

    fn start(
        system: &ActorSystem,
        routees: impl IntoIterator<Item = ActorRef<M>>,
        logic: Logic<M>,
    ) -> Result<Self, SpawnError> {
        let hashed = matches!(logic, Logic::ConsistentHash { .. });
        let set =
            Arc::new(Set { routees: Routees::new(routees, hashed), logic, closed: AtomicBool::new(false) });
        let kept = set.clone();
        let keeper = system.spawn_temporary(Props::from_fn(move || Keeper { set: kept.clone() }))?;
        for (_, behind) in &set.routees.table().routees {
            keeper.tell(Keep::Watch(behind.clone()));
        }
        let me = ActorRef::adapter(keeper.to_any(), set.clone());
        Ok(Self { set, me, keeper })
    }

    /// The reference to send to.
    #[must_use]
    pub fn actor_ref(&self) -> ActorRef<M> {
        self.me.clone()
    }

    /// Adds a routee; false when it is one already. Messages sent after this returns may go to it.
    pub fn add(&self, routee: &ActorRef<M>) -> bool {
        match self.set.routees.add(routee, self.set.hashed()) {
            Some(behind) => {
                self.keeper.tell(Keep::Watch(behind));
                true
            }
            None => false,
        }
    }

    /// Takes a routee out; false when it is none. Messages sent after this returns do not go to it.
    pub fn remove(&self, routee: &ActorRef<M>) -> bool {
        match self.set.routees.remove(routee, self.set.hashed()) {
            Some(behind) => {
                self.keeper.tell(Keep::Unwatch(behind));
                true
            }
            None => false,
        }
    }

    /// The routees now, in the order they were added.
    #[must_use]
    pub fn routees(&self) -> Vec<ActorRef<M>> {
        self.set.routees.table().routees.iter().map(|(routee, _)| routee.clone()).collect()
    }

    /// How many routees there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.routees.table().routees.len()
    }

    /// Whether there is no routee.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<M> Clone for Router<M> {
    fn clone(&self) -> Self {
        Self { set: self.set.clone(), me: self.me.clone(), keeper: self.keeper.clone() }
    }
}

impl<M: Send + 'static> fmt::Debug for Router<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logic = match &self.set.logic {
            Logic::RoundRobin { .. } => "round robin",
            Logic::Broadcast { .. } => "broadcast",
            Logic::ConsistentHash { .. } => "consistent hash",
        };
        write!(f, "Router({logic}, {} routees)", self.len())
    }
}

/// A hash that is the same in every process and version: FNV-1a, its bits mixed at the end.
fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        fn finish(&self) -> u64 {
            let mut bits = self.0;
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bits ^ (bits >> 31)
        }
    }
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    value.hash(&mut hasher);
    hasher.finish()
}
