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
use crate::remote::{PendingReply, ReplyKey, ReplyTo, Route};
use crate::serialization::inlet::guarded;
use crate::serialization::scope::{self, ForeignReply, LiftedReply};
use crate::serialization::{DecodeError, Decoder, EncodeError, Encoder};
use crate::system::ActorSystem;
use crate::time::Instant;

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
    /// Boxed, so that the many messages with a reply inside stay small; `None` once used.
    Remote(Option<Box<RemoteReply<T>>>),
}

struct RemoteReply<T> {
    to: ReplyTo,
    encode: fn(&T, &mut Encoder<'_>) -> Result<(), EncodeError>,
    /// Set while it is being passed on inside a message; true once that message was accepted.
    lifted: Lock<Option<Arc<AtomicBool>>>,
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

impl<T> Reply<T> {
    /// Sends the answer. Never waits; an answer nobody waits for any more is discarded.
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

    /// Whether the asker here has given up. Of an asker on another node nothing is known: `false`.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.0 {
            Inner::Local(slot) => slot.state.lock().over,
            Inner::Remote(_) => false,
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
            Inner::Remote(Some(remote)) => {
                let (lifted, passed_on) = ForeignReply::new(remote.to.clone());
                *remote.lifted.lock() = Some(passed_on);
                LiftedReply::Foreign(lifted)
            }
            Inner::Remote(None) => return Err(fault_ser("this Reply has been used")),
        };
        scope::lift(lifted).map_err(fault_ser)?;
        serializer.serialize_unit()
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

trait Expire: Send + Sync {
    fn expire(&self, why: AskError);
}

impl<T: Send> Expire for Slot<T> {
    fn expire(&self, why: AskError) {
        self.finish(Err(why));
    }
}

impl<T: WireValue> PendingReply for Slot<T> {
    fn complete(&self, payload: &[u8]) -> Result<(), DecodeError> {
        let mut decoder = Decoder::new(payload);
        let decoded = guarded(|| decoder.postcard::<T>().and_then(|value| decoder.finish().map(|()| value)));
        match decoded {
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

/// A question on its way: the future of the answer.
///
/// # Cancel safety
/// Dropping it frees the place of the question in every table, here and at the association; a late answer is
/// discarded.
#[must_use = "the answer is lost unless this is awaited"]
pub struct Ask<T: Send + 'static> {
    slot: Arc<Slot<T>>,
    system: Option<ActorSystem>,
    timeout: Option<Duration>,
    place: Option<Place>,
    /// The answer has been given out; the slot holds nothing any more.
    answered: bool,
}

impl<T: Send + 'static> Ask<T> {
    pub(crate) fn new(system: Option<&ActorSystem>) -> (Self, Reply<T>) {
        let slot = Arc::new(Slot {
            state: Lock::new(State {
                value: None,
                waker: None,
                over: false,
                lifted: false,
                pending_at: None,
            }),
        });
        let ask =
            Self { slot: slot.clone(), system: system.cloned(), timeout: None, place: None, answered: false };
        (ask, Reply(Inner::Local(slot)))
    }

    /// Gives the answer at most `timeout` to come, counted from the first poll, instead of the system's
    /// default. Deadlines are kept in a coarse table: they pass up to 20 ms late, never early.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
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
                state.over = true;
                let place = state.pending_at.take();
                drop(state);
                self.answered = true;
                // A deadline or a failure here says nothing to the association: it still waits.
                if let Some((route, key)) = place {
                    route.forget(key);
                }
                return Poll::Ready(value);
            }
            match &mut state.waker {
                Some(waker) if waker.will_wake(cx.waker()) => None,
                other => other.replace(cx.waker().clone()),
            }
        };
        drop(old);
        if self.place.is_none()
            && let Some(system) = &self.system
        {
            let after = self.timeout.unwrap_or_else(|| system.ask_timeout());
            let place = system.asks().insert(system, self.slot.clone(), after);
            self.place = Some(place);
        }
        Poll::Pending
    }
}

impl<T: Send + 'static> Drop for Ask<T> {
    fn drop(&mut self) {
        if let (Some(place), Some(system)) = (self.place.take(), &self.system) {
            system.asks().remove(place);
        }
        if self.answered {
            return;
        }
        let (place, value, waker) = {
            let mut state = self.slot.state.lock();
            state.over = true;
            (state.pending_at.take(), state.value.take(), state.waker.take())
        };
        if let Some((route, key)) = place {
            route.forget(key);
        }
        drop((value, waker));
    }
}

impl<T: Send + 'static> fmt::Debug for Ask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// How long one tick of the deadline table is.
const TICK: Duration = Duration::from_millis(10);
/// After so many empty ticks the table stops ticking until the next ask.
const IDLE_TICKS: u64 = 100;
/// Asks of different threads rarely meet in one shard.
const SHARDS: usize = 8;

/// Where an ask waits in the table.
#[derive(Clone, Copy)]
struct Place {
    shard: u32,
    index: u32,
}

/// The deadlines of all asks of a system. An ask costs two short critical sections, never a runtime timer.
pub(crate) struct AskTable {
    shards: [Lock<Shard>; SHARDS],
    /// The tick under way; read instead of a clock.
    tick: AtomicU64,
    /// Empty ticks seen in a row; at [`IDLE_TICKS`] nothing ticks.
    idle: AtomicU64,
    /// The system has ended: nothing ticks any more, and nobody waits for what cannot pass.
    closed: AtomicBool,
}

struct Shard {
    entries: Vec<Waiting>,
    free: Vec<u32>,
    /// No entry expires before this tick.
    earliest: u64,
}

struct Waiting {
    deadline: u64,
    after: Duration,
    slot: Option<Arc<dyn Expire>>,
}

impl AskTable {
    pub(crate) fn new() -> Self {
        let shard = || Lock::new(Shard { entries: Vec::new(), free: Vec::new(), earliest: u64::MAX });
        Self {
            shards: core::array::from_fn(|_| shard()),
            tick: AtomicU64::new(0),
            idle: AtomicU64::new(IDLE_TICKS),
            closed: AtomicBool::new(false),
        }
    }

    fn insert(&self, system: &ActorSystem, slot: Arc<dyn Expire>, after: Duration) -> Place {
        if self.idle.load(Ordering::Acquire) >= IDLE_TICKS {
            self.tick.store(tick_of(system.now()), Ordering::Release);
        }
        // One tick more for the part of the current one that has passed.
        let deadline = self.tick.load(Ordering::Acquire).saturating_add(ticks_of(after)).saturating_add(1);
        let address = Arc::as_ptr(&slot).cast::<()>() as usize;
        let shard_index = (address >> 7) % SHARDS;
        let mut shard = self.shards[shard_index].lock();
        shard.earliest = shard.earliest.min(deadline);
        let waiting = Waiting { deadline, after, slot: Some(slot) };
        let index = match shard.free.pop() {
            Some(index) => {
                shard.entries[index as usize] = waiting;
                index
            }
            None => {
                shard.entries.push(waiting);
                (shard.entries.len() - 1) as u32
            }
        };
        drop(shard);
        // After the entry is in its shard: a sweep that is about to let the table rest either sees the entry or
        // has said so before this looks.
        if self.idle.load(Ordering::Acquire) >= IDLE_TICKS
            && self.idle.swap(0, Ordering::AcqRel) >= IDLE_TICKS
        {
            arm(system);
        }
        if self.closed.load(Ordering::Acquire) {
            self.close();
        }
        Place { shard: shard_index as u32, index }
    }

    fn remove(&self, place: Place) {
        let slot = {
            let mut shard = self.shards[place.shard as usize].lock();
            let slot = shard.entries[place.index as usize].slot.take();
            shard.free.push(place.index);
            if shard.free.len() == shard.entries.len() && shard.entries.capacity() > 1024 {
                shard.entries = Vec::new();
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
            let ended: Vec<_> =
                shard.lock().entries.iter_mut().filter_map(|waiting| waiting.slot.take()).collect();
            for slot in ended {
                slot.expire(AskError::Shutdown);
            }
        }
    }

    /// Fails every ask whose deadline has passed. Returns whether the table should go on ticking.
    fn sweep(&self, now: Instant) -> bool {
        let tick = tick_of(now);
        let before = self.tick.swap(tick, Ordering::AcqRel);
        // After a stall (a suspended process, a busy executor) the tick under way began long ago. An ask that
        // came in it may have come at its very end, so its deadline moves by as much: late, but never early.
        let stall = tick.saturating_sub(before).saturating_sub(1);
        let mut expired = Vec::new();
        let mut live = false;
        for shard in &self.shards {
            let mut shard = shard.lock();
            live |= shard.free.len() < shard.entries.len();
            if shard.earliest > tick && stall == 0 {
                continue;
            }
            let mut earliest = u64::MAX;
            for waiting in &mut shard.entries {
                if waiting.slot.is_none() {
                    continue;
                }
                if stall > 0
                    && waiting.deadline == before.saturating_add(ticks_of(waiting.after)).saturating_add(1)
                {
                    waiting.deadline = waiting.deadline.saturating_add(stall);
                }
                if waiting.deadline <= tick {
                    // The ask removes its own place when it is dropped.
                    if let Some(slot) = waiting.slot.take() {
                        expired.push((slot, waiting.after));
                    }
                } else {
                    earliest = earliest.min(waiting.deadline);
                }
            }
            shard.earliest = earliest;
        }
        for (slot, after) in expired {
            slot.expire(AskError::Timeout { after });
        }
        if live {
            self.idle.store(0, Ordering::Release);
            return true;
        }
        if self.idle.fetch_add(1, Ordering::AcqRel) + 1 < IDLE_TICKS {
            return true;
        }
        // An ask may have come between the look and the count. Whoever takes the count back goes on ticking.
        let came = self.shards.iter().any(|shard| {
            let shard = shard.lock();
            shard.free.len() < shard.entries.len()
        });
        came && self.idle.swap(0, Ordering::AcqRel) >= IDLE_TICKS
    }
}

fn ticks_of(after: Duration) -> u64 {
    u64::try_from(after.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX)
}

fn tick_of(now: Instant) -> u64 {
    now.as_nanos() / TICK.as_nanos() as u64
}

/// Runs the next sweep one tick from now.
fn arm(system: &ActorSystem) {
    let weak = system.downgrade();
    let at = system.now() + TICK;
    let _ = system.scheduler().schedule_at(at, move || {
        if let Some(system) = weak.upgrade()
            && system.asks().sweep(system.now())
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
    #[cfg(feature = "std")]
    return DROP_REASON.with(|cell| core::mem::replace(&mut *cell.borrow_mut(), reason));
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
    let reason = DROP_REASON.with(|cell| cell.borrow().clone());
    #[cfg(not(feature = "std"))]
    let reason = DROP_REASON.lock().clone();
    reason.unwrap_or(AskError::NoReply)
}
