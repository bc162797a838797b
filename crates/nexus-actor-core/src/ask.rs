//! Questions and answers: [`Reply`], [`Ask`] and the one table of their deadlines.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use portable_atomic::{AtomicBool, AtomicU64, Ordering};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::lock::Lock;
use crate::reason::AskError;
use crate::remote::{PendingReply, ReplyKey, ReplyTo, Route, Wire};
use crate::serialization::inlet::guarded;
use crate::serialization::scope::{self, ForeignReply, LiftedReply};
use crate::serialization::{DecodeError, Decoder, EncodeError, Encoder};
#[cfg(feature = "protobuf")]
use crate::serialization::{Named, ProtobufValue};
use crate::system::{ActorSystem, WeakSystem};
use crate::time::Instant;

mod relay;

pub use relay::RELAY_TIMEOUT;
use relay::{Nobody, Read, Relay};

/// What can be an answer that crosses a wire. An alias for its bounds; implemented for every such type.
pub trait WireValue: Serialize + DeserializeOwned + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Send + 'static> WireValue for T {}

/// The right to answer one question, once.
///
/// It is a value: it can be kept, moved to another actor or passed on inside a message, also to a third node.
/// Dropping it unused tells the asker so at once ([`AskError::NoReply`], or the reason why the question was
/// lost).
pub struct Reply<T>(Inner<T>);

enum Inner<T> {
    Local(Arc<Slot<T>>),
    /// Boxed, so that the many messages with a reply inside stay small; `None` once used, or when nobody asked.
    Remote(Option<Box<RemoteReply<T>>>),
}

struct RemoteReply<T> {
    to: ReplyTo,
    encode: fn(&T, &mut Encoder<'_>) -> Result<(), EncodeError>,
    /// Set while it is being passed on inside a message; true once that message was accepted.
    lifted: Lock<Option<Arc<AtomicBool>>>,
}

impl<T> RemoteReply<T> {
    /// The right to answer, to travel in an envelope that can name the asker.
    fn pass_on(&self) -> LiftedReply {
        let (lifted, passed_on) = ForeignReply::new(self.to.clone());
        *self.lifted.lock() = Some(passed_on);
        LiftedReply::Foreign(lifted)
    }
}

impl ReplyTo {
    /// Tells the asker that there will be no answer: now, or, where a reader decodes under its lock, once it has
    /// let go of it.
    pub(crate) fn fail(self, why: AskError) {
        if let Some((to, why)) = scope::put_off(self, why) {
            to.route.reply_failed(to.key, to.correlation_id, why);
        }
    }
}

impl<T: Send + 'static> Reply<T> {
    /// A question that no message type holds: the future of its answer, and the right to give it. For implementations
    /// of [`Route`] that ask their peer themselves.
    pub fn pending(system: &ActorSystem) -> (Ask<T>, Self) {
        let (ask, reply) = Ask::new();
        (ask.watched_by(system), reply)
    }
}

impl<T> Reply<T> {
    /// Sends the answer. Never waits; an answer nobody waits for any more is discarded. To another node it may be
    /// written by this call, as a question by [`ask`](crate::ActorRef::ask).
    pub fn send(mut self, value: T) {
        match self.take() {
            Inner::Local(slot) => slot.finish(Ok(value)),
            Inner::Remote(remote) => {
                let Some(remote) = remote else { return };
                let RemoteReply { to, encode, .. } = *remote;
                if let Err(refusal) = to.route.reply(to.key, to.correlation_id, &mut |e| encode(&value, e)) {
                    // The asker learns why its answer could not travel, if that much gets through.
                    to.fail(AskError::from(refusal));
                }
            }
        }
    }

    /// Tells the asker that there will be no answer, and why.
    pub fn fail(mut self, error: AskError) {
        match self.take() {
            Inner::Local(slot) => slot.finish(Err(error)),
            Inner::Remote(remote) => {
                if let Some(remote) = remote {
                    remote.to.fail(error);
                }
            }
        }
    }

    /// Uses the right up: what stays behind is a remote reply to nobody, whose drop means nothing.
    fn take(&mut self) -> Inner<T> {
        core::mem::replace(&mut self.0, Inner::Remote(None))
    }

    /// Whether the asker here has given up, or nobody asked. Of an asker on another node nothing is known: `false`.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.0 {
            Inner::Local(slot) => slot.state.lock().over,
            Inner::Remote(remote) => remote.is_none(),
        }
    }
}

impl<T: WireValue> Reply<T> {
    /// Gives the reply up to a wire, which completes it. Only for a reply awaited here.
    pub(crate) fn into_pending(self) -> Arc<dyn PendingReply> {
        match &self.0 {
            Inner::Local(slot) => {
                slot.state.lock().lifted = true;
                slot.clone()
            }
            Inner::Remote(_) => unreachable!("made by an ask of this process"),
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        match &mut self.0 {
            Inner::Local(slot) => {
                let state = slot.state.lock();
                if state.over || state.value.is_some() || state.lifted {
                    return;
                }
                drop(state);
                slot.finish(Err(drop_reason()));
            }
            Inner::Remote(remote) => {
                let Some(remote) = remote.take() else { return };
                let lifted = remote.lifted.into_inner();
                if !lifted.is_some_and(|passed_on| passed_on.load(Ordering::Acquire)) {
                    remote.to.fail(drop_reason());
                }
            }
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Local(_) => f.write_str("Reply(local)"),
            Inner::Remote(remote) => write!(f, "Reply({:?})", remote.as_ref().map(|remote| &remote.to)),
        }
    }
}

impl<T: WireValue> Serialize for Reply<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lifted = match &self.0 {
            Inner::Local(slot) => LiftedReply::Pending(slot.clone()),
            Inner::Remote(Some(remote)) if remote.to.route.wire() == Wire::Native => remote.pass_on(),
            Inner::Remote(Some(remote)) => LiftedReply::Pending(Relay::new(remote, Read::Native(read::<T>))),
            Inner::Remote(None) => LiftedReply::Pending(Arc::new(Nobody)),
        };
        scope::lift(lifted).map_err(fault_ser)?;
        serializer.serialize_unit()
    }
}

#[cfg(feature = "protobuf")]
impl<T: ProtobufValue> Reply<T> {
    /// The right to answer the sender that the envelope of a protobuf wire names, while a message from there is decoded.
    /// Without a sender it answers nobody.
    #[must_use]
    pub fn protobuf() -> Self {
        Self(Inner::Remote(scope::take_reply_to().map(|to| {
            let encode = |value: &T, encoder: &mut Encoder<'_>| encoder.protobuf(value);
            Box::new(RemoteReply { to, encode, lifted: Lock::new(None) })
        })))
    }

    fn lift_by_name(&self, read: fn(&Named<'_>) -> Result<T, DecodeError>) -> Result<(), EncodeError> {
        let lifted = match &self.0 {
            Inner::Local(slot) => LiftedReply::Pending(Arc::new(relay::ByName { slot: slot.clone(), read })),
            Inner::Remote(Some(remote)) => {
                let route = &remote.to.route;
                if route.wire() == Wire::Protobuf && route.sender_pid().is_some() {
                    remote.pass_on()
                } else {
                    LiftedReply::Pending(Relay::new(remote, Read::Named(read)))
                }
            }
            // The envelope names nobody either.
            Inner::Remote(None) => return Ok(()),
        };
        scope::lift(lifted).map_err(EncodeError::failed)
    }
}

#[cfg(feature = "protobuf")]
impl Encoder<'_> {
    /// Moves the right to answer into the envelope of a protobuf wire, as its sender. The answer is a `T` in the protobuf
    /// format.
    ///
    /// # Errors
    /// Outside an encode scope, or when the message holds a second reply.
    pub fn reply_protobuf<T: ProtobufValue>(&mut self, reply: &Reply<T>) -> Result<(), EncodeError> {
        reply.lift_by_name(|named| guarded(|| named.protobuf()))
    }

    /// As [`reply_protobuf`](Self::reply_protobuf), for an answer that may also come as JSON.
    ///
    /// # Errors
    /// As [`reply_protobuf`](Self::reply_protobuf).
    #[cfg(feature = "json")]
    pub fn reply_protobuf_or_json<T: ProtobufValue + DeserializeOwned>(
        &mut self,
        reply: &Reply<T>,
    ) -> Result<(), EncodeError> {
        reply.lift_by_name(|named| guarded(|| named.protobuf_or_json()))
    }
}

fn fault_ser<E: serde::ser::Error>(text: &'static str) -> E {
    scope::set_fault(text.to_string());
    E::custom(text)
}

impl<'de, T: WireValue> Deserialize<'de> for Reply<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        let Some(to) = scope::take_reply_to() else {
            let text = "the message holds a Reply but its envelope names nobody to reply to";
            scope::set_fault(text.to_string());
            return Err(D::Error::custom(text));
        };
        let remote =
            RemoteReply { to, encode: |value, encoder| encoder.postcard(value), lifted: Lock::new(None) };
        Ok(Self(Inner::Remote(Some(Box::new(remote)))))
    }
}

/// Where an answer is awaited: one allocation per ask.
pub(crate) struct Slot<T> {
    state: Lock<State<T>>,
}

struct State<T> {
    value: Option<Result<T, AskError>>,
    waker: Option<Waker>,
    /// The asker has its answer or has gone.
    over: bool,
    /// The reply travels in an envelope; dropping its local value means nothing.
    lifted: bool,
    pending_at: Option<(Arc<dyn Route>, ReplyKey)>,
    /// How long to wait; the system's default if nothing else was asked for.
    after: Option<Duration>,
    /// Where the deadline stands, once it does.
    deadline_at: Option<DeadlineAt>,
}

impl<T> State<T> {
    /// The asker has its answer or has gone: what is to be forgotten elsewhere.
    fn over(&mut self) -> Places {
        self.over = true;
        Places { pending: self.pending_at.take(), deadline: self.deadline_at.take() }
    }
}

/// Where a question stands in other tables.
struct Places {
    pending: Option<(Arc<dyn Route>, ReplyKey)>,
    deadline: Option<DeadlineAt>,
}

impl Places {
    #[inline]
    fn forget(self) {
        if let Some((route, key)) = self.pending {
            route.forget(key);
        }
        if let Some(DeadlineAt { system, place }) = self.deadline
            && let Some(system) = system.upgrade()
        {
            system.asks().remove(place);
        }
    }
}

impl<T> Slot<T> {
    fn finish(&self, result: Result<T, AskError>) {
        self.settle(result, false);
    }

    /// Keeps the result for the asker. `by_wire`: the association that held the question has let go of it.
    fn settle(&self, result: Result<T, AskError>, by_wire: bool) {
        let mut place = None;
        let (waker, late) = {
            let mut state = self.state.lock();
            if by_wire {
                place = state.pending_at.take();
            }
            if state.over || state.value.is_some() {
                (None, Some(result))
            } else {
                state.value = Some(result);
                (state.waker.take(), None)
            }
        };
        drop((late, place));
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A question as the table of deadlines sees it.
trait Waiting: Send + Sync {
    fn standing(&self) -> Standing;
    /// Notes where the deadline stands; false when the question is over.
    fn enter(&self, at: DeadlineAt) -> bool;
    fn expire(&self, why: AskError);
}

enum Standing {
    /// Nobody waits yet.
    Unpolled,
    /// For so long, or for the default.
    Waits(Option<Duration>),
    Over,
}

impl<T: Send> Waiting for Slot<T> {
    fn standing(&self) -> Standing {
        let state = self.state.lock();
        if state.over || state.value.is_some() {
            Standing::Over
        } else if state.waker.is_some() {
            Standing::Waits(state.after)
        } else {
            Standing::Unpolled
        }
    }

    fn enter(&self, at: DeadlineAt) -> bool {
        let mut state = self.state.lock();
        if state.over {
            return false;
        }
        state.deadline_at = Some(at);
        true
    }

    fn expire(&self, why: AskError) {
        let asked = self.state.lock().pending_at.as_ref().map(|(route, _)| route.clone());
        // That there was no way to the peer says more than that time has passed.
        let why = asked.and_then(|route| route.absence()).unwrap_or(why);
        self.finish(Err(why));
    }
}

/// Reads an answer that came over the native wire.
fn read<T: WireValue>(payload: &[u8]) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(payload);
    guarded(|| decoder.postcard::<T>().and_then(|value| decoder.finish().map(|()| value)))
}

impl<T> Slot<T> {
    fn pending_at(&self, place: Option<(Arc<dyn Route>, ReplyKey)>) {
        let mut state = self.state.lock();
        state.lifted = place.is_some();
        let old = core::mem::replace(&mut state.pending_at, place);
        drop(state);
        drop(old);
    }

    fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.over || state.value.is_some()
    }
}

impl<T: WireValue> PendingReply for Slot<T> {
    fn complete(&self, payload: &[u8]) -> Result<(), DecodeError> {
        match read(payload) {
            Ok(value) => {
                self.settle(Ok(value), true);
                Ok(())
            }
            Err(error) => {
                self.settle(Err(AskError::Decode(format!("the answer: {error}"))), true);
                Err(error)
            }
        }
    }

    fn fail(&self, error: AskError) {
        self.settle(Err(error), true);
    }

    fn pending_at(&self, place: Option<(Arc<dyn Route>, ReplyKey)>) {
        Self::pending_at(self, place);
    }

    fn is_over(&self) -> bool {
        Self::is_over(self)
    }
}

/// A question on its way: the future of the answer.
///
/// # Cancel safety
/// Dropping it frees the place of the question in every table, here and at the association; a late answer is
/// discarded.
#[must_use = "the answer is lost unless this is awaited"]
pub struct Ask<T: Send + 'static> {
    slot: Arc<Slot<T>>,
    /// The answer has been given out; the slot holds nothing any more.
    answered: bool,
}

impl<T: Send + 'static> Ask<T> {
    pub(crate) fn new() -> (Self, Reply<T>) {
        let slot = Arc::new(Slot {
            state: Lock::new(State {
                value: None,
                waker: None,
                over: false,
                lifted: false,
                pending_at: None,
                after: None,
                deadline_at: None,
            }),
        });
        (Self { slot: slot.clone(), answered: false }, Reply(Inner::Local(slot)))
    }

    /// Has `system` see to the deadline. Called once the question has been sent: before that there may be a better reason for its
    /// failure than the end of the system.
    pub(crate) fn watched_by(self, system: &ActorSystem) -> Self {
        system.asks().insert(system, self.slot.clone());
        self
    }

    /// Gives the answer at most `timeout` to come, counted from the first poll, instead of the system's
    /// default. Deadlines are kept in a coarse table: they pass up to 20 ms late, never early.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.slot.state.lock().after = Some(timeout);
        self
    }

    pub(crate) fn fail(&self, error: AskError) {
        self.slot.finish(Err(error));
    }
}

// Nothing inside is pinned.
impl<T: Send + 'static> Unpin for Ask<T> {}

impl<T: Send + 'static> Future for Ask<T> {
    type Output = Result<T, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let old = {
            let mut state = self.slot.state.lock();
            if let Some(value) = state.value.take() {
                let places = state.over();
                drop(state);
                self.answered = true;
                // A deadline or a failure here says nothing to the association: it still waits.
                places.forget();
                return Poll::Ready(value);
            }
            match &mut state.waker {
                Some(waker) if waker.will_wake(cx.waker()) => None,
                other => other.replace(cx.waker().clone()),
            }
        };
        drop(old);
        Poll::Pending
    }
}

impl<T: Send + 'static> Drop for Ask<T> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let (places, value, waker) = {
            let mut state = self.slot.state.lock();
            (state.over(), state.value.take(), state.waker.take())
        };
        places.forget();
        drop((value, waker));
    }
}

impl<T: Send + 'static> fmt::Debug for Ask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.slot.state.lock().after;
        f.debug_struct("Ask").field("timeout", &after).finish_non_exhaustive()
    }
}

/// How long one tick of the deadline table is.
const TICK: Duration = Duration::from_millis(10);
/// After so many empty ticks the table stops ticking until the next ask.
const IDLE_TICKS: u64 = 100;
/// Asks of different threads rarely meet in one shard.
const SHARDS: usize = 8;
/// How many places of earlier questions a new one looks at before it takes one more.
const PROBES: usize = 2;
/// A list of questions with more room than this is given back when it is empty.
const KEPT_CAPACITY: usize = 1024;

/// Where a deadline stands in the table.
#[derive(Clone, Copy)]
struct Place {
    shard: u32,
    index: u32,
}

/// Where a deadline stands, and whose table it is. Weak: a question that nobody drops must not keep its system.
struct DeadlineAt {
    system: WeakSystem,
    place: Place,
}

/// The deadlines of all asks of a system. An ask costs one short critical section here, never a runtime timer.
///
/// Most questions are answered long before they could expire. So a new one is only listed; nobody takes it off the list
/// when it is over, for then its place is the next one's. Only at the tick that finds it waiting is it given a deadline, a
/// whole timeout from that tick: late by the part of a tick that had passed, and never early, however late a
/// tick comes.
pub(crate) struct AskTable {
    shards: [Lock<Shard>; SHARDS],
    /// Empty ticks seen in a row; at [`IDLE_TICKS`] nothing ticks.
    idle: AtomicU64,
    /// The system has ended: nothing ticks any more, and nobody waits for what cannot pass.
    closed: AtomicBool,
}

struct Shard {
    /// Asked since the last tick, or not polled yet, or over: then the list alone holds the slot.
    asked: Vec<Arc<dyn Waiting>>,
    /// The place in `asked` that is looked at next.
    next: usize,
    deadlines: Vec<Deadline>,
    /// Places in `deadlines`.
    free: Vec<u32>,
    /// No deadline is earlier.
    earliest: Instant,
}

struct Deadline {
    at: Instant,
    after: Duration,
    slot: Option<Arc<dyn Waiting>>,
}

impl Shard {
    /// Lists a question; returns the one whose place it takes.
    #[inline]
    fn list(&mut self, slot: Arc<dyn Waiting>) -> Option<Arc<dyn Waiting>> {
        for _ in 0..PROBES {
            match self.asked.get_mut(self.next) {
                Some(place) if Arc::strong_count(place) == 1 => return Some(core::mem::replace(place, slot)),
                Some(_) => self.next += 1,
                None => self.next = 0,
            }
        }
        self.asked.push(slot);
        None
    }

    fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.free.len() == self.deadlines.len()
    }
}

impl AskTable {
    pub(crate) fn new() -> Self {
        let shard = || {
            Lock::new(Shard {
                asked: Vec::new(),
                next: 0,
                deadlines: Vec::new(),
                free: Vec::new(),
                earliest: Instant::FAR_FUTURE,
            })
        };
        Self {
            shards: core::array::from_fn(|_| shard()),
            idle: AtomicU64::new(IDLE_TICKS),
            closed: AtomicBool::new(false),
        }
    }

    fn insert(&self, system: &ActorSystem, slot: Arc<dyn Waiting>) {
        let address = Arc::as_ptr(&slot).cast::<()>() as usize;
        let old = self.shards[(address >> 7) % SHARDS].lock().list(slot);
        drop(old);
        // After the question is listed: a sweep that is about to let the table rest either sees it or has said so
        // before this looks.
        if self.idle.load(Ordering::Acquire) >= IDLE_TICKS
            && self.idle.swap(0, Ordering::AcqRel) >= IDLE_TICKS
        {
            arm(system);
        }
        if self.closed.load(Ordering::Acquire) {
            self.close();
        }
    }

    fn remove(&self, place: Place) {
        let slot = {
            let mut shard = self.shards[place.shard as usize].lock();
            let slot = shard.deadlines[place.index as usize].slot.take();
            shard.free.push(place.index);
            if shard.free.len() == shard.deadlines.len() && shard.deadlines.capacity() > KEPT_CAPACITY {
                shard.deadlines = Vec::new();
                shard.free = Vec::new();
            }
            slot
        };
        drop(slot);
    }

    /// Fails every ask, now and from now on: the clock of their deadlines has stopped.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            let (asked, ended) = {
                let mut shard = shard.lock();
                let ended: Vec<_> = shard.deadlines.iter_mut().filter_map(|at| at.slot.take()).collect();
                (core::mem::take(&mut shard.asked), ended)
            };
            for slot in asked.into_iter().chain(ended) {
                slot.expire(AskError::Shutdown);
            }
        }
    }

    /// Gives a deadline to every question that waits and has none, and fails those whose deadline has passed.
    /// Returns whether the table should go on ticking.
    fn sweep(&self, system: &ActorSystem, now: Instant) -> bool {
        let mut expired = Vec::new();
        let mut live = false;
        for (index, lock) in self.shards.iter().enumerate() {
            let mut asked = core::mem::take(&mut lock.lock().asked);
            asked.retain(|slot| match slot.standing() {
                Standing::Unpolled => true,
                Standing::Over => false,
                Standing::Waits(after) => {
                    let after = after.unwrap_or_else(|| system.ask_timeout());
                    let place =
                        self.place(index, Deadline { at: now + after, after, slot: Some(slot.clone()) });
                    if !slot.enter(DeadlineAt { system: system.downgrade(), place }) {
                        self.remove(place);
                    }
                    false
                }
            });
            let mut shard = lock.lock();
            if shard.asked.is_empty() && asked.capacity() <= KEPT_CAPACITY.max(2 * asked.len()) {
                core::mem::swap(&mut shard.asked, &mut asked);
            } else {
                shard.asked.append(&mut asked);
            }
            live |= !shard.is_empty();
            if shard.earliest > now {
                continue;
            }
            let mut earliest = Instant::FAR_FUTURE;
            for deadline in &mut shard.deadlines {
                if deadline.at > now {
                    if deadline.slot.is_some() {
                        earliest = earliest.min(deadline.at);
                    }
                } else if let Some(slot) = deadline.slot.take() {
                    // The ask frees its place when it is dropped.
                    expired.push((slot, deadline.after));
                }
            }
            shard.earliest = earliest;
        }
        for (slot, after) in expired {
            slot.expire(AskError::Timeout { after });
        }
        if self.closed.load(Ordering::Acquire) {
            // What was not in its shard just now has not been told.
            self.close();
            return false;
        }
        if live {
            self.idle.store(0, Ordering::Release);
            return true;
        }
        if self.idle.fetch_add(1, Ordering::AcqRel) + 1 < IDLE_TICKS {
            return true;
        }
        // An ask may have come between the look and the count. Whoever takes the count back goes on ticking.
        let came = self.shards.iter().any(|shard| !shard.lock().is_empty());
        came && self.idle.swap(0, Ordering::AcqRel) >= IDLE_TICKS
    }

    fn place(&self, shard_index: usize, deadline: Deadline) -> Place {
        let mut shard = self.shards[shard_index].lock();
        shard.earliest = shard.earliest.min(deadline.at);
        let index = match shard.free.pop() {
            Some(index) => {
                shard.deadlines[index as usize] = deadline;
                index
            }
            None => {
                shard.deadlines.push(deadline);
                (shard.deadlines.len() - 1) as u32
            }
        };
        Place { shard: shard_index as u32, index }
    }
}

/// Runs the next sweep one tick from now.
fn arm(system: &ActorSystem) {
    let weak = system.downgrade();
    let at = system.now() + TICK;
    let _ = system.scheduler().schedule_at(at, move || {
        if let Some(system) = weak.upgrade()
            && system.asks().sweep(&system, system.now())
        {
            arm(&system);
        }
    });
}

#[cfg(feature = "std")]
std::thread_local! {
    static DROP_REASON: core::cell::RefCell<Option<AskError>> = const { core::cell::RefCell::new(None) };
}
#[cfg(not(feature = "std"))]
static DROP_REASON: Lock<Option<AskError>> = Lock::new(None);

fn set_drop_reason(reason: Option<AskError>) -> Option<AskError> {
    // A thread that is ending has no such place any more, and what it still holds may drop a reply.
    #[cfg(feature = "std")]
    return DROP_REASON
        .try_with(|cell| core::mem::replace(&mut *cell.borrow_mut(), reason))
        .unwrap_or_default();
    #[cfg(not(feature = "std"))]
    return core::mem::replace(&mut *DROP_REASON.lock(), reason);
}

/// Runs `f`; a [`Reply`] that it drops tells its asker `reason`.
pub(crate) fn with_drop_reason<R>(reason: AskError, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<AskError>);
    impl Drop for Restore {
        fn drop(&mut self) {
            set_drop_reason(self.0.take());
        }
    }
    let _restore = Restore(set_drop_reason(Some(reason)));
    f()
}

fn drop_reason() -> AskError {
    #[cfg(feature = "std")]
    let reason = DROP_REASON.try_with(|cell| cell.borrow().clone()).unwrap_or_default();
    #[cfg(not(feature = "std"))]
    let reason = DROP_REASON.lock().clone();
    reason.unwrap_or(AskError::NoReply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::{Actor, ActorError};
    use crate::props::Props;
    use crate::runtime::PumpRuntime;

    /// Answers at once, or keeps what it is asked.
    #[derive(Default)]
    struct Desk(Vec<Reply<u64>>);

    enum Question {
        Now(Reply<u64>),
        Later(Reply<u64>),
    }

    impl Actor for Desk {
        type Msg = Question;
        async fn receive(
            &mut self,
            question: Question,
            _: &mut crate::context::Context<'_, Self>,
        ) -> Result<(), ActorError> {
            match question {
                Question::Now(reply) => reply.send(1),
                Question::Later(reply) => self.0.push(reply),
            }
            Ok(())
        }
    }

    fn poll(ask: &mut Ask<u64>) -> Poll<Result<u64, AskError>> {
        Pin::new(ask).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Questions listed, and deadlines held.
    fn held(system: &ActorSystem) -> (usize, usize) {
        let mut held = (0, 0);
        for shard in &system.asks().shards {
            let shard = shard.lock();
            held.0 += shard.asked.len();
            held.1 += shard.deadlines.len() - shard.free.len();
        }
        held
    }

    /// A thread that ends may drop a reply after its places for what is kept per thread are gone.
    #[cfg(feature = "std")]
    #[test]
    fn a_reply_kept_by_a_thread_fails_as_the_thread_ends() {
        use core::cell::RefCell;
        std::thread_local! {
            static KEPT: RefCell<Option<Reply<u64>>> = const { RefCell::new(None) };
        }
        let (mut answer, reply) = Ask::new();
        let ended = std::thread::spawn(move || {
            KEPT.set(Some(reply));
            // Used after the other, and so gone before it.
            with_drop_reason(AskError::Full, || ());
            let _scope = scope::take_reply_to();
        });
        assert!(ended.join().is_ok());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut answer).poll(&mut cx), Poll::Ready(Err(AskError::NoReply)));
    }

    /// What is answered within a tick leaves its place to the next; what is not has a deadline until it is over.
    #[test]
    fn the_table_holds_what_waits_and_little_more() {
        let pump = PumpRuntime::new();
        let system = ActorSystem::builder("asks").with_runtime(pump.clone()).build().expect("a system");
        let desk = system.spawn("desk", Props::from_fn(Desk::default)).expect("a free name");
        for _ in 0..10_000 {
            let mut ask = desk.ask(Question::Now);
            assert!(poll(&mut ask).is_pending());
            pump.run_until_idle();
            assert_eq!(poll(&mut ask), Poll::Ready(Ok(1)));
        }
        let (asked, deadlines) = held(&system);
        assert!(asked <= 2 * SHARDS, "{asked} places for one question at a time");
        assert_eq!(deadlines, 0);

        let mut waiting: Vec<_> = (0..1000).map(|_| desk.ask(Question::Later)).collect();
        let unpolled = desk.ask(Question::Later);
        assert!(waiting.iter_mut().all(|ask| poll(ask).is_pending()));
        pump.advance(2 * TICK);
        assert_eq!(held(&system), (1, 1000), "who has not begun to wait has no deadline");
        waiting.truncate(10);
        assert_eq!(held(&system), (1, 10));
        pump.advance(system.ask_timeout());
        assert_eq!(
            poll(&mut waiting[0]),
            Poll::Ready(Err(AskError::Timeout { after: system.ask_timeout() }))
        );
        drop((waiting, unpolled));
        pump.advance(2 * TICK);
        assert_eq!(held(&system), (0, 0));
    }
}
