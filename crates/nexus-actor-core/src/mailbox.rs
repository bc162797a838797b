//! An actor's inbox: a system queue and a user queue behind one lock that also holds the waker.
//!
//! The receiver swaps the user queue out and works on it without the lock. A waker under the same lock needs
//! no idle flag and has no lost wake-up to think about: every condition is checked where the waker is
//! registered.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::{Context, Poll, Waker};

use portable_atomic::{AtomicU8, Ordering};

use crate::actor_ref::AnyRef;
use crate::headers::Headers;
use crate::lock::Lock;
use crate::nest::Nest;
use crate::path::{ActorPath, ActorUid};
use crate::reason::Refusal;
use crate::remote::Route;
use crate::runtime::contained;
use crate::signal::{Signal, TerminationReason};

/// A buffer with more room than this is given back when its actor goes idle.
const IDLE_CAPACITY: usize = 64;

/// What happens when a bounded mailbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overflow {
    /// `tell` and `try_tell` refuse the new message; `send().await` waits.
    #[default]
    RefuseNewest,
    /// The oldest waiting message becomes a dead letter and the new one takes its place.
    DropOldest,
}

/// How many messages an actor's mailbox holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MailboxConfig {
    /// As many as memory holds; the default.
    #[default]
    Unbounded,
    /// At most `capacity` messages beside the one being handled.
    Bounded {
        /// Messages that may wait; at least 1.
        capacity: usize,
        /// What happens to one more.
        overflow: Overflow,
    },
}

impl MailboxConfig {
    /// A mailbox for `capacity` waiting messages that refuses the newest when full.
    ///
    /// # Panics
    /// When `capacity` is zero: nothing could ever be received.
    #[must_use]
    pub const fn bounded(capacity: usize) -> Self {
        assert!(capacity > 0, "a mailbox holds at least one message");
        Self::Bounded { capacity, overflow: Overflow::RefuseNewest }
    }

    /// The same mailbox, giving up its oldest message when full.
    #[must_use]
    pub const fn drop_oldest(self) -> Self {
        match self {
            Self::Unbounded => Self::Unbounded,
            Self::Bounded { capacity, .. } => Self::Bounded { capacity, overflow: Overflow::DropOldest },
        }
    }
}

/// One place in the user queue. As large as the message where that has a niche.
pub(crate) enum Entry<M> {
    /// A message.
    User(M),
    /// Everything rarer, in its order among the messages.
    Notice(Box<Notice<M>>),
}

/// What travels in the user queue because its order among the messages matters.
pub(crate) enum Notice<M> {
    /// A message with metadata, and the peer it came from where no run says so.
    Headed { message: M, headers: Headers, peer: Option<Arc<dyn Route>> },
    /// The next `count` messages came from this peer. Not in a bounded mailbox: what is refused or dropped there
    /// would leave the count wrong.
    Run { peer: Arc<dyn Route>, count: u32 },
    /// A watched actor terminated.
    Terminated { who: Who, reason: TerminationReason },
    /// For the signal handler as it is.
    Signal(Signal),
    /// Stop when everything before this has been handled.
    Stop,
    /// Run this when everything before it has been handled. It takes a message's place in a bounded mailbox that has room,
    /// and gives it up as a message does.
    Call(Box<dyn FnOnce() + Send>),
    /// A timer's deadline passed; delivered if the timer still is of that generation.
    Timer { slot: u64, generation: u64 },
    /// The receive timeout may have passed.
    ReceiveTimeout { generation: u64 },
}

/// Names a watched actor: by its reference, or by its path when the news came over a wire.
pub(crate) enum Who {
    Ref(AnyRef),
    Path(ActorPath),
}

/// What overtakes the messages.
#[derive(Debug)]
pub(crate) enum SystemMsg {
    Stop,
    Watch(AnyRef),
    Unwatch(AnyRef),
    /// A child is gone while this actor waits for its children.
    ChildGone,
    /// A child gave its failure up to this actor.
    Escalated {
        child: AnyRef,
        error: String,
    },
    /// Be replaced by a new instance, because a sibling's failure asks for it or a back-off has passed.
    Restart {
        generation: Option<u64>,
    },
}

struct SystemNode {
    message: SystemMsg,
    next: Option<Box<SystemNode>>,
}

/// System messages taken out of a mailbox, oldest first. It takes over the nodes as they are: a wake-up for a stop
/// allocates nothing.
#[derive(Default)]
pub(crate) struct SystemQueue(Option<Box<SystemNode>>);

impl SystemQueue {
    /// Appends a list that is newest first.
    fn append_newest_first(&mut self, mut list: Option<Box<SystemNode>>) {
        let mut oldest_first = None;
        while let Some(mut node) = list {
            list = node.next.take();
            node.next = oldest_first;
            oldest_first = Some(node);
        }
        if oldest_first.is_none() {
            return;
        }
        let mut end = &mut self.0;
        while let Some(node) = end {
            end = &mut node.next;
        }
        *end = oldest_first;
    }

    pub(crate) fn pop_front(&mut self) -> Option<SystemMsg> {
        let SystemNode { message, next } = *self.0.take()?;
        self.0 = next;
        Some(message)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a stop waits.
    pub(crate) fn has_stop(&self) -> bool {
        let mut next = &self.0;
        while let Some(node) = next {
            if matches!(node.message, SystemMsg::Stop) {
                return true;
            }
            next = &node.next;
        }
        false
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&SystemMsg) -> bool) {
        let mut kept = Self::default();
        let mut last = &mut kept.0;
        while let Some(mut node) = self.0.take() {
            self.0 = node.next.take();
            if keep(&node.message) {
                last = &mut last.insert(node).next;
            }
        }
        *self = kept;
    }
}

impl Iterator for SystemQueue {
    type Item = SystemMsg;

    fn next(&mut self) -> Option<SystemMsg> {
        self.pop_front()
    }
}

impl Drop for SystemQueue {
    fn drop(&mut self) {
        // One by one: a long list must not be dropped by recursion.
        while self.pop_front().is_some() {}
    }
}

/// Parts that few mailboxes have.
#[derive(Default)]
struct Extras {
    bounds: Option<Bounds>,
    nest: Option<Arc<Nest>>,
}

struct Bounds {
    capacity: usize,
    overflow: Overflow,
    /// Senders that wait for room.
    waiting: Vec<Waker>,
}

impl Bounds {
    /// Moves one message over and whatever stands before it, and returns whom to wake for the room there now is.
    fn take_one<M>(&mut self, queue: &mut VecDeque<Entry<M>>, user: &mut VecDeque<Entry<M>>) -> Vec<Waker> {
        // What has an order but is no message does not count as one.
        while let Some(entry) = queue.pop_front() {
            let message = counts(&entry);
            user.push_back(entry);
            if message {
                break;
            }
        }
        core::mem::take(&mut self.waiting)
    }
}

struct Inner<M> {
    /// `None` once closed.
    user: Option<VecDeque<Entry<M>>>,
    /// Newest first.
    system: Option<Box<SystemNode>>,
    waker: Option<Waker>,
    extras: Option<Box<Extras>>,
}

/// See the module.
///
/// The layout is deliberate: with the path and the reference count beside it the whole cell has 120 bytes,
/// what an allocator's 128-byte class holds. That is why the uid has 56 bits and rides here.
pub(crate) struct Mailbox<M> {
    lock: Lock<Inner<M>>,
    uid: [u8; 7],
    /// What the receiver does: [`RESTING`], [`HANDLING`] or [`SUSPENDED`]. Only its task writes it, and under the lock
    /// save for the step from the second to the first.
    activity: AtomicU8,
}

/// The receiver waits for messages, or works on those it has taken and looks again before it rests.
const RESTING: u8 = 0;
/// The receiver works on one message, and its waker is registered: what arrives meanwhile wakes it.
const HANDLING: u8 = 1;
/// A handler is suspended: only a system message wakes the actor.
const SUSPENDED: u8 = 2;

/// What the receiver found.
pub(crate) enum Taken<M> {
    /// Nothing; the waker is registered.
    Idle,
    /// Messages, system messages or both.
    Work,
    /// One message; the waker is registered as well, see [`Mailbox::rest`].
    One(Entry<M>),
}

impl<M> Inner<M> {
    fn bounds(&mut self) -> Option<&mut Bounds> {
        self.extras.as_mut().and_then(|extras| extras.bounds.as_mut())
    }
}

impl<M> Mailbox<M> {
    pub(crate) fn new(config: MailboxConfig, uid: ActorUid) -> Self {
        let extras = match config {
            MailboxConfig::Unbounded => None,
            MailboxConfig::Bounded { capacity, overflow } => Some(Box::new(Extras {
                bounds: Some(Bounds { capacity: capacity.max(1), overflow, waiting: Vec::new() }),
                nest: None,
            })),
        };
        let bytes = uid.get().to_le_bytes();
        let mut uid = [0; 7];
        uid.copy_from_slice(&bytes[..7]);
        let lock = Lock::new(Inner { user: Some(VecDeque::new()), system: None, waker: None, extras });
        Self { lock, uid, activity: AtomicU8::new(RESTING) }
    }

    pub(crate) fn uid(&self) -> ActorUid {
        let mut bytes = [0; 8];
        bytes[..7].copy_from_slice(&self.uid);
        ActorUid::new(u64::from_le_bytes(bytes))
    }

    #[inline]
    fn waker_for_user(&self, inner: &mut Inner<M>) -> Option<Waker> {
        if self.activity.load(Ordering::Relaxed) == SUSPENDED { None } else { inner.waker.take() }
    }

    /// Appends a message and returns the one given up for it, if any; the entry comes back when refused.
    #[inline]
    pub(crate) fn push(&self, entry: Entry<M>) -> Result<Option<Entry<M>>, (Entry<M>, Refusal)> {
        let mut displaced = None;
        let waker = {
            let mut guard = self.lock.lock();
            let inner = &mut *guard;
            let Some(user) = &mut inner.user else { return Err((entry, Refusal::Stopped)) };
            if let Some(extras) = &inner.extras
                && let Some(bounds) = &extras.bounds
                && user.len() >= bounds.capacity
            {
                match bounds.overflow {
                    Overflow::DropOldest if !is_call(&entry) => displaced = remove_oldest_message(user),
                    // No message is given up for what is none.
                    Overflow::DropOldest | Overflow::RefuseNewest => {
                        return Err((entry, Refusal::MailboxFull { capacity: bounds.capacity }));
                    }
                }
            }
            if user.capacity() == 0 {
                // Most actors that ever get a message get one at a time.
                user.reserve_exact(1);
            }
            user.push_back(entry);
            self.waker_for_user(inner)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(displaced)
    }

    /// Appends many entries with one lock, and returns whom to wake and why some were refused. Those refused or
    /// displaced are left in `batch`.
    pub(crate) fn push_many(&self, batch: &mut VecDeque<Entry<M>>) -> (Option<Waker>, Option<Refusal>) {
        let mut refused = None;
        let mut displaced = VecDeque::new();
        let waker = {
            let mut guard = self.lock.lock();
            let inner = &mut *guard;
            let Some(user) = &mut inner.user else { return (None, Some(Refusal::Stopped)) };
            match inner.extras.as_ref().and_then(|extras| extras.bounds.as_ref()) {
                None => {
                    if user.is_empty() && user.capacity() < batch.len() {
                        core::mem::swap(user, batch);
                    } else {
                        user.append(batch);
                    }
                }
                Some(bounds) => {
                    while let Some(entry) = batch.pop_front() {
                        if user.len() >= bounds.capacity && counts(&entry) {
                            match bounds.overflow {
                                Overflow::RefuseNewest => {
                                    batch.push_front(entry);
                                    refused = Some(Refusal::MailboxFull { capacity: bounds.capacity });
                                    break;
                                }
                                Overflow::DropOldest => displaced.extend(remove_oldest_message(user)),
                            }
                        }
                        user.push_back(entry);
                    }
                }
            }
            self.waker_for_user(inner)
        };
        if !displaced.is_empty() {
            refused = Some(Refusal::MailboxFull { capacity: 0 });
            batch.append(&mut displaced);
        }
        (waker, refused)
    }

    /// Appends what keeps its order among the messages; never refused for lack of room.
    pub(crate) fn push_notice(&self, notice: Notice<M>) -> Result<(), Notice<M>> {
        let entry = Entry::Notice(Box::new(notice));
        let waker = {
            let mut guard = self.lock.lock();
            let inner = &mut *guard;
            match &mut inner.user {
                Some(user) => user.push_back(entry),
                None => {
                    drop(guard);
                    let Entry::Notice(notice) = entry else { unreachable!("made above") };
                    return Err(*notice);
                }
            }
            self.waker_for_user(inner)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Sends what overtakes the messages; comes back when the actor has terminated.
    pub(crate) fn push_system(&self, message: SystemMsg) -> Result<(), SystemMsg> {
        let mut node = Box::new(SystemNode { message, next: None });
        let waker = {
            let mut inner = self.lock.lock();
            if inner.user.is_none() {
                drop(inner);
                return Err(node.message);
            }
            node.next = inner.system.take();
            inner.system = Some(node);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Takes all there is, or registers the waker. `user` must be empty. A bounded mailbox gives one message
    /// at a time, so that its capacity means what it says.
    ///
    /// With `settle`, finding nothing also gives back what a burst left behind: one small buffer stays. With `lone`, a
    /// single message may come by itself; it is the next to be handled.
    pub(crate) fn poll_take(
        &self,
        cx: &Context<'_>,
        user: &mut VecDeque<Entry<M>>,
        system: &mut SystemQueue,
        settle: bool,
        lone: bool,
    ) -> Taken<M> {
        let mut guard = self.lock.lock();
        let inner = &mut *guard;
        self.activity.store(RESTING, Ordering::Relaxed);
        if inner.system.is_some() {
            system.append_newest_first(inner.system.take());
        }
        if let Some(queue) = &mut inner.user
            && !queue.is_empty()
            && user.is_empty()
        {
            match inner.extras.as_mut().and_then(|extras| extras.bounds.as_mut()) {
                // Nothing to give back afterwards, so there will be no need to look again.
                None if lone
                    && queue.len() == 1
                    && user.capacity() == 0
                    && system.is_empty()
                    && queue.capacity() <= IDLE_CAPACITY =>
                {
                    if let Some(entry) = queue.pop_front() {
                        self.activity.store(HANDLING, Ordering::Relaxed);
                        let old = register(&mut inner.waker, cx);
                        drop(guard);
                        if old.is_some() {
                            drop(old);
                        }
                        return Taken::One(entry);
                    }
                }
                None => core::mem::swap(queue, user),
                Some(bounds) => {
                    let room = bounds.take_one(queue, user);
                    drop(guard);
                    for waker in room {
                        contained(|| waker.wake());
                    }
                    return Taken::Work;
                }
            }
        }
        if !user.is_empty() || !system.is_empty() {
            return Taken::Work;
        }
        let burst = match &mut inner.user {
            Some(queue) if settle => settled(queue, user),
            _ => None,
        };
        let old = register(&mut inner.waker, cx);
        drop(guard);
        // Looked at first: even an empty one takes time to drop.
        if old.is_some() || burst.is_some() {
            drop((old, burst));
        }
        Taken::Idle
    }

    /// After [`Taken::One`] has been handled: whether the receiver may rest without another look. It may unless its handler
    /// was suspended; whatever has arrived since has woken it.
    #[inline]
    pub(crate) fn rest(&self) -> bool {
        let may = self.activity.load(Ordering::Relaxed) == HANDLING;
        if may {
            self.activity.store(RESTING, Ordering::Relaxed);
        }
        may
    }

    /// While a handler is suspended: takes system messages and registers the waker for more of them.
    pub(crate) fn poll_system(&self, cx: &Context<'_>, system: &mut SystemQueue) {
        let old = {
            let mut guard = self.lock.lock();
            let inner = &mut *guard;
            system.append_newest_first(inner.system.take());
            self.activity.store(SUSPENDED, Ordering::Relaxed);
            register(&mut inner.waker, cx)
        };
        drop(old);
    }

    /// Registers a sender that waits for room, unless there is room or no point in waiting.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut guard = self.lock.lock();
        let inner = &mut *guard;
        let Some(user) = &inner.user else { return Poll::Ready(()) };
        let waiting_messages = user.len();
        match inner.bounds() {
            Some(bounds) if waiting_messages >= bounds.capacity => {
                if !bounds.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    bounds.waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Whether messages may be refused or dropped for lack of room.
    pub(crate) fn is_bounded(&self) -> bool {
        self.lock.lock().bounds().is_some()
    }

    /// Why a message would be refused now.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let mut inner = self.lock.lock();
        let Some(waiting) = inner.user.as_ref().map(VecDeque::len) else { return Some(Refusal::Stopped) };
        match inner.bounds()? {
            Bounds { capacity, overflow: Overflow::RefuseNewest, .. } if waiting >= *capacity => {
                Some(Refusal::MailboxFull { capacity: *capacity })
            }
            _ => None,
        }
    }

    /// How busy the actor is: zero when it waits for a message, else one more than what waits for it.
    pub(crate) fn load(&self) -> usize {
        let inner = self.lock.lock();
        let waiting = inner.user.as_ref().map_or(0, VecDeque::len);
        // A registered waker without a handler at work is an actor at rest.
        let resting = self.activity.load(Ordering::Relaxed) == RESTING;
        let idle = waiting == 0 && inner.waker.is_some() && resting;
        if idle { 0 } else { waiting + 1 }
    }

    /// Takes a sender out that no longer waits. It is woken once more: another send of the same task may have
    /// shared its place, and registers anew.
    pub(crate) fn forget_room(&self, waker: &Waker) {
        let gone = {
            let mut guard = self.lock.lock();
            let Some(bounds) = guard.bounds() else { return };
            let at = bounds.waiting.iter().position(|other| other.will_wake(waker));
            at.map(|at| bounds.waiting.swap_remove(at))
        };
        if let Some(waker) = gone {
            waker.wake();
        }
    }

    /// Refuses everything from now on and returns what waited.
    pub(crate) fn close(&self) -> (VecDeque<Entry<M>>, SystemQueue) {
        let mut system = SystemQueue::default();
        let (user, waker, extras) = {
            let mut inner = self.lock.lock();
            system.append_newest_first(inner.system.take());
            (inner.user.take(), inner.waker.take(), inner.extras.take())
        };
        drop(waker);
        if let Some(mut extras) = extras
            && let Some(bounds) = &mut extras.bounds
        {
            for waker in core::mem::take(&mut bounds.waiting) {
                contained(|| waker.wake());
            }
        }
        (user.unwrap_or_default(), system)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock.lock().user.is_none()
    }

    /// Messages waiting, not counting what the actor has taken out to work on.
    pub(crate) fn len(&self) -> usize {
        self.lock.lock().user.as_ref().map_or(0, VecDeque::len)
    }

    /// The children of this actor, once it has had one.
    pub(crate) fn nest(&self) -> Option<Arc<Nest>> {
        self.lock.lock().extras.as_ref().and_then(|extras| extras.nest.clone())
    }

    /// Gives this actor a place for children; keeps the one it has. `None` when it has terminated.
    pub(crate) fn nest_or_insert(&self, nest: Arc<Nest>) -> Option<Arc<Nest>> {
        let mut inner = self.lock.lock();
        inner.user.as_ref()?;
        let extras = inner.extras.get_or_insert_default();
        Some(extras.nest.get_or_insert(nest).clone())
    }
}

/// Leaves one small buffer in the mailbox of an actor that goes idle, or none; both are empty. What is too large for
/// that comes back, or stays in `spare`.
#[inline]
fn settled<M>(queue: &mut VecDeque<Entry<M>>, spare: &mut VecDeque<Entry<M>>) -> Option<VecDeque<Entry<M>>> {
    if (queue.capacity() == 0 && spare.capacity() > 0) || queue.capacity() > IDLE_CAPACITY {
        core::mem::swap(queue, spare);
    }
    // Both were large.
    (queue.capacity() > IDLE_CAPACITY).then(|| core::mem::take(queue))
}

#[inline]
fn register(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        other => other.replace(cx.waker().clone()),
    }
}

fn counts<M>(entry: &Entry<M>) -> bool {
    match entry {
        Entry::User(_) => true,
        Entry::Notice(notice) => matches!(**notice, Notice::Headed { .. } | Notice::Call(_)),
    }
}

fn is_call<M>(entry: &Entry<M>) -> bool {
    matches!(entry, Entry::Notice(notice) if matches!(**notice, Notice::Call(_)))
}

/// Only a message, or what takes a message's place, is given up for another; a termination notice or a timer never is.
fn remove_oldest_message<M>(user: &mut VecDeque<Entry<M>>) -> Option<Entry<M>> {
    let at = user.iter().position(counts)?;
    user.remove(at)
}
