//! What waits for the stream to one address.
//!
//! Two queues behind one lock. The user queue is bounded in messages and in bytes and refuses what it has no room for; the
//! system queue has a bound of its own, so that watches and notices do not depend on it. Payloads are encoded before the
//! lock is taken and copied under it into an arena, in order: a message in the steady state allocates nothing.
//!
//! The writer takes batches, system messages first, of which neither kind keeps the other out. A `Terminated` alone waits
//! behind the user messages that were queued before it: the last words of an actor are not overtaken by its end.

mod payload_arena;
pub(crate) mod queue_budget;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use nexus_actor_core::lock::{Guard, Lock};
use nexus_actor_core::ring_queue::{QueueError, RingQueue};
use nexus_actor_core::{CorrelationId, Headers, Refusal};
use nexus_remote::EndpointStatistics;
use nexus_remote::association::Overflow;
use nexus_remote::backpressure::{BackpressureLevel, BackpressureMarks, BackpressureSignal, fill_ratio};
use portable_atomic::{AtomicBool, Ordering};

use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint_writer_mailbox::payload_arena::PayloadArena;
use crate::endpoint_writer_mailbox::queue_budget::{AwaitsRoom, ENTRY, Freed, QueueBudget, QueueShare};
use crate::wire::batch::TypeName;

/// Payload bytes of one batch, at most; one message alone may be larger. More would only wait in another place.
const BATCH_BYTES: usize = 1024 * 1024;
/// Whenever the queue has grown by so many messages, a sender that may wait lets others run. The connection's task may be
/// queued behind it on the same thread, and what it does not take meanwhile only costs memory.
const PACE: usize = 1_024;
/// From here on it waits for the writer to take a batch, and then adds no more than [`PACE_BEHIND`] until the next one.
const BEHIND: usize = 16 * PACE;
const PACE_BEHIND: usize = 8;
/// Changes of level that wait to be told. When a reader is so late, what was between is of no use to anyone.
const CHANGES_MAX: usize = 16;
/// Messages that are taken at once where newer ones lie behind those that are drained.
const DRAINED: usize = 1_024;
/// A user queue with more room than this is given back by [`EndpointWriterMailbox::shrink`].
const IDLE_CAPACITY: usize = 64;

/// One message for an actor at the peer; its payload lies beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteDeliver {
    /// To whom.
    pub target: Arc<PidEntry>,
    /// From whom, if an answer may come back.
    pub sender: Option<Arc<PidEntry>>,
    /// What the payload is.
    pub type_name: TypeName,
    /// How it is encoded: 0 protobuf, 1 JSON.
    pub serializer: i32,
    /// What travels beside it.
    pub header: Option<Box<Headers>>,
    /// The number of one call to the target; 0 for none.
    pub target_request_id: u32,
    /// The number of one call to the sender; 0 for none.
    pub sender_request_id: u32,
    /// Leads from here to the flight recorder and the dead letter.
    pub correlation_id: CorrelationId,
}

impl RemoteDeliver {
    /// A protobuf message for `target`, with nothing beside it.
    #[must_use]
    pub const fn new(target: Arc<PidEntry>, type_name: TypeName) -> Self {
        Self {
            target,
            sender: None,
            type_name,
            serializer: 0,
            header: None,
            target_request_id: 0,
            sender_request_id: 0,
            correlation_id: CorrelationId::NIL,
        }
    }
}

/// Why a watched actor is gone, as the wire tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TerminatedWhy {
    /// It stopped.
    Stopped,
    /// Its node is gone.
    AddressTerminated,
    /// There is no such actor.
    NotFound,
}

/// What the runtimes say to each other.
#[derive(Clone, Debug, PartialEq)]
pub enum RemoteSystem {
    /// `watcher`, here, wants to know when `target`, there, is gone.
    Watch {
        /// There.
        target: Arc<PidEntry>,
        /// Here.
        watcher: Arc<PidEntry>,
    },
    /// `watcher` does not want to know any more.
    Unwatch {
        /// There.
        target: Arc<PidEntry>,
        /// Here.
        watcher: Arc<PidEntry>,
    },
    /// `who`, here, is gone; `watcher`, there, wanted to know. It keeps its place behind the user messages queued before.
    Terminated {
        /// There.
        watcher: Arc<PidEntry>,
        /// Here.
        who: Arc<PidEntry>,
        /// Why.
        why: TerminatedWhy,
    },
    /// `target`, there, is to stop.
    Stop {
        /// There.
        target: Arc<PidEntry>,
    },
    /// Whether `target`, there, is alive; the answer goes to `sender`.
    Touch {
        /// There.
        target: Arc<PidEntry>,
        /// Here.
        sender: Arc<PidEntry>,
    },
}

impl RemoteSystem {
    /// Who is to get it.
    #[must_use]
    pub const fn target(&self) -> &Arc<PidEntry> {
        match self {
            Self::Watch { target, .. }
            | Self::Unwatch { target, .. }
            | Self::Stop { target }
            | Self::Touch { target, .. } => target,
            Self::Terminated { watcher, .. } => watcher,
        }
    }

    /// About its bytes on the wire.
    fn size(&self) -> usize {
        let entry = |pid: &PidEntry| pid.address.len() + pid.id.len() + 32;
        match self {
            Self::Watch { target, watcher } | Self::Unwatch { target, watcher } => {
                entry(target) + entry(watcher)
            }
            Self::Terminated { watcher, who, .. } => entry(watcher) + entry(who),
            Self::Stop { target } => entry(target),
            Self::Touch { target, sender } => entry(target) + entry(sender),
        }
    }
}

/// A message that was not taken, and why; nothing changed.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedDeliver {
    /// The message. Its payload is still where the caller had it.
    pub deliver: RemoteDeliver,
    /// Why.
    pub refusal: Refusal,
}

/// Messages that made room for a newer one and are to be recorded, oldest first, each with its payload.
pub type Displaced = Vec<(RemoteDeliver, Vec<u8>)>;

/// The queue reached another level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleChange {
    /// The level now.
    pub level: BackpressureSignal,
    /// Messages that wait.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// How much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// Messages that fit into the user queue.
    pub capacity: usize,
    /// Messages that wait in it.
    pub len: usize,
    /// Their payloads' bytes.
    pub bytes: usize,
    /// System messages that wait.
    pub system_len: usize,
}

/// A moment in the life of a mailbox: what had been queued by then is before it, what came later is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    user: u64,
    system: u64,
    notices: u64,
}

impl Mark {
    /// Behind all that will ever come.
    pub(crate) const END: Self = Self { user: u64::MAX, system: u64::MAX, notices: u64::MAX };
}

/// The bounds of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MailboxBounds {
    /// User messages; 1,000,000 by default. An entry takes about 100 bytes beside its payload.
    pub messages_max: usize,
    /// Bytes of their payloads; 64 MiB by default. The message that reaches the bound is the last one taken.
    pub bytes_max: usize,
    /// System messages (L16); 20,000 by default.
    pub system_messages_max: usize,
    /// Their bytes, counted as on the wire (L16); 8 MiB by default.
    pub system_bytes_max: usize,
    /// What a full user queue does.
    pub overflow: Overflow,
    /// Where the levels begin.
    pub marks: BackpressureMarks,
}

impl Default for MailboxBounds {
    fn default() -> Self {
        Self {
            messages_max: 1_000_000,
            bytes_max: 64 * 1024 * 1024,
            system_messages_max: 20_000,
            system_bytes_max: 8 * 1024 * 1024,
            overflow: Overflow::RefuseNewest,
            marks: BackpressureMarks::default(),
        }
    }
}

/// One batch in the hands of the writer. Its buffers are used again for the next.
#[derive(Debug, Default)]
pub struct OutboundBatch {
    system: VecDeque<RemoteSystem>,
    user: VecDeque<RemoteDeliver>,
    lengths: VecDeque<u32>,
    payloads: Vec<u8>,
    /// What of `payloads` belongs to messages already written.
    written: usize,
}

impl OutboundBatch {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Messages not yet written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.system.len() + self.user.len()
    }

    /// Whether all of it is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// User messages not yet written.
    #[must_use]
    pub fn user_len(&self) -> usize {
        self.user.len()
    }

    /// The next system message; all of them go before the first user message.
    #[must_use]
    pub fn system(&self) -> Option<&RemoteSystem> {
        self.system.front()
    }

    /// Adds a system message behind those that are there.
    pub(crate) fn push_system(&mut self, message: RemoteSystem) {
        self.system.push_back(message);
    }

    /// The next system message was written, or is given up.
    pub fn pop_system(&mut self) -> Option<RemoteSystem> {
        self.system.pop_front()
    }

    /// The next user message and its payload.
    #[must_use]
    pub fn user(&self) -> Option<(&RemoteDeliver, &[u8])> {
        let length = *self.lengths.front()? as usize;
        let payload = self.payloads.get(self.written..self.written + length)?;
        Some((self.user.front()?, payload))
    }

    /// The next user message was written, or is given up.
    pub fn pop_user(&mut self) -> Option<RemoteDeliver> {
        self.written += self.lengths.pop_front()? as usize;
        let deliver = self.user.pop_front();
        if self.user.is_empty() {
            self.payloads.clear();
            self.written = 0;
        }
        deliver
    }

    /// Hands over every user message that was not written, for the dead letters, and returns how many.
    pub fn drain_user(&mut self, mut each: impl FnMut(RemoteDeliver, &[u8])) -> usize {
        let mut count = 0;
        while let Some(length) = self.lengths.pop_front() {
            let end = self.written + length as usize;
            if let Some(deliver) = self.user.pop_front() {
                each(deliver, &self.payloads[self.written..end]);
                count += 1;
            }
            self.written = end;
        }
        self.payloads.clear();
        self.written = 0;
        count
    }
}

/// See the [module documentation](self).
pub struct EndpointWriterMailbox {
    bounds: MailboxBounds,
    /// Below these the level is Normal and stays so.
    quiet_messages: usize,
    quiet_bytes: usize,
    statistics: Arc<EndpointStatistics>,
    /// Senders are ahead of the writer, as [`PACE`] has it.
    ahead: AtomicBool,
    /// Shared with the budget, which knows it while senders wait for what other queues hold.
    inner: Arc<Lock<Inner>>,
}

struct Inner {
    user: RingQueue<RemoteDeliver>,
    payloads: PayloadArena,
    /// User messages ever taken in, and ever gone out.
    offered: u64,
    gone: u64,
    system: VecDeque<RemoteSystem>,
    /// Each goes out when so many user messages have.
    notices: VecDeque<(u64, RemoteSystem)>,
    system_bytes: usize,
    /// System messages ever gone out, and those of them that were notices.
    system_gone: u64,
    notices_gone: u64,
    /// Of what all queues of the node may hold.
    share: QueueShare,
    /// Why user messages are not taken.
    refusal: Option<Refusal>,
    closed: bool,
    level: BackpressureLevel,
    changes: VecDeque<ThrottleChange>,
    receiver: Option<Waker>,
    room: Vec<Waker>,
    throttle: Option<Waker>,
    /// Of the end of the node, which waits until nothing waits here.
    empty: Option<Waker>,
}

impl Inner {
    fn is_empty(&self) -> bool {
        self.user.is_empty() && self.system.is_empty() && self.notices.is_empty()
    }

    fn pop_system(&mut self) -> Option<RemoteSystem> {
        let message = self.system.pop_front()?;
        self.system_gone += 1;
        self.system_bytes = self.system_bytes.saturating_sub(message.size());
        Some(message)
    }

    fn pop_notice(&mut self) -> Option<RemoteSystem> {
        let (_, message) = self.notices.pop_front()?;
        self.notices_gone += 1;
        self.system_bytes = self.system_bytes.saturating_sub(message.size());
        Some(message)
    }

    fn mark(&self) -> Mark {
        Mark {
            user: self.offered,
            system: self.system_gone + self.system.len() as u64,
            notices: self.notices_gone + self.notices.len() as u64,
        }
    }

    fn note_share(&mut self, wakes: &mut Wakes) {
        let messages = self.user.len() + self.system.len() + self.notices.len();
        wakes.freed.add(self.share.set(messages, self.payloads.bytes() + self.system_bytes));
    }

    /// Messages went: who waits for the last of them may go on.
    fn note_empty(&mut self, wakes: &mut Wakes) {
        if self.empty.is_some() && self.is_empty() {
            wakes.empty = self.empty.take();
        }
    }
}

impl AwaitsRoom for Lock<Inner> {
    fn look_for_room(&self) {
        let room = {
            let mut inner = self.lock();
            inner.share.was_told();
            // Whoever is woken asks for the bounds of the queue itself.
            let stays = inner.room.is_empty() || (!inner.user.is_empty() && inner.share.awaits_room());
            if stays { Vec::new() } else { core::mem::take(&mut inner.room) }
        };
        room.into_iter().for_each(Waker::wake);
    }
}

/// Woken after the lock is left.
#[derive(Default)]
#[must_use = "who waits is woken when this is dropped"]
pub(crate) struct Wakes {
    receiver: Option<Waker>,
    throttle: Option<Waker>,
    empty: Option<Waker>,
    room: Vec<Waker>,
    /// Other queues, whose senders may wait for what went from here.
    freed: Freed,
}

impl Drop for Wakes {
    fn drop(&mut self) {
        let one = [self.receiver.take(), self.throttle.take(), self.empty.take()];
        one.into_iter().flatten().chain(self.room.drain(..)).for_each(Waker::wake);
    }
}

impl EndpointWriterMailbox {
    /// An empty mailbox that keeps the figures of its queue in `statistics`.
    #[must_use]
    pub fn new(bounds: MailboxBounds, statistics: Arc<EndpointStatistics>) -> Self {
        let mailbox = Self {
            quiet_messages: (bounds.marks.warning * bounds.messages_max as f64) as usize,
            quiet_bytes: (bounds.marks.warning * bounds.bytes_max as f64) as usize,
            bounds,
            statistics,
            ahead: AtomicBool::new(false),
            inner: Arc::new(Lock::new(Inner {
                user: RingQueue::new(bounds.messages_max).with_dynamic(false),
                payloads: PayloadArena::default(),
                offered: 0,
                gone: 0,
                system: VecDeque::new(),
                notices: VecDeque::new(),
                system_bytes: 0,
                system_gone: 0,
                notices_gone: 0,
                share: QueueShare::default(),
                refusal: None,
                closed: false,
                level: BackpressureLevel::new(bounds.marks),
                changes: VecDeque::new(),
                receiver: None,
                room: Vec::new(),
                throttle: None,
                empty: None,
            })),
        };
        mailbox.statistics.record_queue_state(bounds.messages_max as u64, 0);
        mailbox
    }

    /// The same with a part of what all queues of a node may hold.
    pub(crate) fn with_budget(self, budget: Arc<QueueBudget>) -> Self {
        let inner = Arc::downgrade(&self.inner);
        self.inner.lock().share = QueueShare::of(budget).told_by(inner);
        self
    }

    /// Its bounds.
    #[must_use]
    pub const fn bounds(&self) -> &MailboxBounds {
        &self.bounds
    }

    /// Queues one user message. With [`Overflow::DropOldest`] it returns what had to go for it.
    ///
    /// Whoever records a dead letter counts it: a refused message may yet be kept by its sender.
    ///
    /// # Errors
    /// [`QueueError::OfferError`] with the message and the reason: the queue is full, or takes nothing now.
    pub fn offer(
        &self,
        deliver: RemoteDeliver,
        payload: &[u8],
    ) -> Result<Displaced, QueueError<RefusedDeliver>> {
        self.offer_despite(None, deliver, payload)
    }

    /// The same for an answer that waits for the connection to be made again.
    pub(crate) fn offer_answer(
        &self,
        deliver: RemoteDeliver,
        payload: &[u8],
    ) -> Result<Displaced, QueueError<RefusedDeliver>> {
        self.offer_despite(Some(&Refusal::Unreachable), deliver, payload)
    }

    fn offer_despite(
        &self,
        ignored: Option<&Refusal>,
        deliver: RemoteDeliver,
        payload: &[u8],
    ) -> Result<Displaced, QueueError<RefusedDeliver>> {
        let mut wakes = Wakes::default();
        let mut displaced = Displaced::new();
        let mut inner = self.inner.lock();
        if let Some(refusal) = inner.refusal.as_ref().filter(|refusal| Some(*refusal) != ignored) {
            let refusal = refusal.clone();
            return Err(QueueError::OfferError(RefusedDeliver { deliver, refusal }));
        }
        if self.is_full(&inner) {
            if self.bounds.overflow == Overflow::RefuseNewest || self.bounds.messages_max == 0 {
                let refusal =
                    Refusal::QueueFull { messages: inner.user.len(), bytes: inner.payloads.bytes() };
                return Err(QueueError::OfferError(RefusedDeliver { deliver, refusal }));
            }
            // A share may shrink to a small part of what waits here. All of that at once would be much work under the lock,
            // so for the share no more goes than comes, the oldest message at least.
            let (brought, mut gone) = (payload.len() + ENTRY, 0);
            while (self.is_full_itself(&inner) || (gone < brought && self.is_full(&inner)))
                && let Some(oldest) = inner.user.poll()
            {
                let mut payload = Vec::new();
                inner.payloads.pop_into(&mut payload);
                inner.gone += 1;
                inner.note_share(&mut wakes);
                gone += payload.len() + ENTRY;
                displaced.push((oldest, payload));
            }
        }
        if let Err(QueueError::OfferError(deliver)) = inner.user.offer(deliver) {
            // Room was made above.
            let refusal = Refusal::QueueFull { messages: inner.user.len(), bytes: inner.payloads.bytes() };
            return Err(QueueError::OfferError(RefusedDeliver { deliver, refusal }));
        }
        inner.payloads.push(payload);
        inner.offered += 1;
        let waiting = inner.user.len();
        if waiting.is_multiple_of(if waiting < BEHIND { PACE } else { PACE_BEHIND }) {
            self.ahead.store(true, Ordering::Relaxed);
        }
        self.note_level(&mut inner, &mut wakes);
        wakes.receiver = inner.receiver.take();
        drop(inner);
        Ok(displaced)
    }

    /// Queues one system message, however full the user queue is.
    ///
    /// # Errors
    /// [`QueueError::OfferError`] with the message: the system queue is full, or the mailbox is closed. It is full too when
    /// system messages alone take the queue's share of what all queues may hold; never for a [`RemoteSystem::Touch`], or a
    /// connection that lives would be taken for lost.
    pub fn offer_system(&self, message: RemoteSystem) -> Result<(), QueueError<RemoteSystem>> {
        let mut wakes = Wakes::default();
        let mut inner = self.inner.lock();
        let (len, size) = (inner.system.len() + inner.notices.len(), message.size());
        if inner.closed
            || len >= self.bounds.system_messages_max
            || (len > 0 && inner.system_bytes + size > self.bounds.system_bytes_max)
            || (!matches!(message, RemoteSystem::Touch { .. })
                && inner.share.is_too_much(len, inner.system_bytes))
        {
            return Err(QueueError::OfferError(message));
        }
        inner.system_bytes += size;
        if matches!(message, RemoteSystem::Terminated { .. }) {
            let behind = inner.offered;
            inner.notices.push_back((behind, message));
        } else {
            inner.system.push_back(message);
        }
        inner.note_share(&mut wakes);
        wakes.receiver = inner.receiver.take();
        Ok(())
    }

    /// Puts what was taken and not sent back in front, in its order and whatever the bounds; returns what a closed mailbox does
    /// not take.
    pub(crate) fn put_back(&self, messages: Vec<RemoteSystem>) -> Vec<RemoteSystem> {
        let mut wakes = Wakes::default();
        let mut inner = self.inner.lock();
        if inner.closed {
            return messages;
        }
        for message in messages.into_iter().rev() {
            inner.system_bytes += message.size();
            if matches!(message, RemoteSystem::Terminated { .. }) {
                // What it was to wait for went before it.
                inner.notices.push_front((0, message));
                inner.notices_gone = inner.notices_gone.saturating_sub(1);
            } else {
                inner.system.push_front(message);
                inner.system_gone = inner.system_gone.saturating_sub(1);
            }
        }
        inner.note_share(&mut wakes);
        wakes.receiver = inner.receiver.take();
        Vec::new()
    }

    /// Takes up to `batch_size` messages that wait: system messages first, three quarters of the batch at most while user
    /// messages wait as well. Ready with how many there were; with 0 when the mailbox is closed and empty.
    ///
    /// One task polls, into a batch that it has written: of what is left in one the user messages would be overtaken by the
    /// system messages that join it. Its waker is woken by the next message.
    pub fn poll_batch(
        &self,
        cx: &mut Context<'_>,
        batch_size: usize,
        batch: &mut OutboundBatch,
    ) -> Poll<usize> {
        self.poll_batch_if(cx, batch_size, batch, || true)
    }

    /// The same if by then `may_take` says that the connection serves. Of one that serves no more nothing is taken and
    /// nobody woken: what it took would be lost, and its waker may stand in the place of the next one's.
    pub(crate) fn poll_batch_if(
        &self,
        cx: &mut Context<'_>,
        batch_size: usize,
        batch: &mut OutboundBatch,
        may_take: impl FnOnce() -> bool,
    ) -> Poll<usize> {
        let mut wakes = Wakes::default();
        let mut inner = self.inner.lock();
        if !may_take() {
            return Poll::Pending;
        }
        let share = if inner.user.is_empty() { batch_size } else { (batch_size - batch_size / 4).max(1) };
        let mut taken = Self::take_system(&mut inner, share, batch, &mut wakes);
        if !inner.user.is_empty() {
            let rest = batch_size.saturating_sub(taken).max(1);
            taken += self.take_user(&mut inner, rest, batch, &mut wakes);
        }
        inner.note_empty(&mut wakes);
        if taken == 0 && !inner.closed {
            if !inner.receiver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                inner.receiver = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        drop(inner);
        Poll::Ready(taken)
    }

    /// Takes up to `batch_size` user messages that wait, and returns how many.
    pub fn poll_user_mailbox(&self, batch_size: usize, batch: &mut OutboundBatch) -> usize {
        let mut wakes = Wakes::default();
        let mut inner = self.inner.lock();
        let taken = self.take_user(&mut inner, batch_size, batch, &mut wakes);
        inner.note_empty(&mut wakes);
        drop(inner);
        taken
    }

    /// Takes up to `max` system messages that wait, and returns how many.
    #[cfg(test)]
    pub(crate) fn poll_system_mailbox(&self, max: usize, batch: &mut OutboundBatch) -> usize {
        let mut wakes = Wakes::default();
        let mut inner = self.inner.lock();
        let taken = Self::take_system(&mut inner, max, batch, &mut wakes);
        inner.note_empty(&mut wakes);
        drop(inner);
        taken
    }

    /// Ready when the user queue has room, or when waiting is of no use because it takes nothing now.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.refusal.is_some() || self.has_room(&mut inner) {
            return Poll::Ready(());
        }
        if !inner.room.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.room.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Pending when senders that may wait have got ahead of the writer: a little, and others may run first; much, and they
    /// wait until it has taken a batch.
    pub fn poll_pace(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Read first: senders that all write would take the line from each other.
        if !self.ahead.load(Ordering::Relaxed) || !self.ahead.swap(false, Ordering::Relaxed) {
            return Poll::Ready(());
        }
        {
            let mut inner = self.inner.lock();
            if inner.refusal.is_some() {
                return Poll::Ready(());
            }
            if inner.user.len() >= BEHIND {
                if !inner.room.iter().any(|waker| waker.will_wake(cx.waker())) {
                    inner.room.push(cx.waker().clone());
                }
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes back what [`poll_room`](Self::poll_room) registered: its sender has given up.
    pub fn forget_room(&self, waker: &Waker) {
        let gone = {
            let mut inner = self.inner.lock();
            let at = inner.room.iter().position(|other| other.will_wake(waker));
            at.map(|at| inner.room.swap_remove(at))
        };
        // Another send of the same task may have shared its place, and registers anew.
        if let Some(waker) = gone {
            waker.wake();
        }
    }

    /// The next change of level, one for each crossing. One task polls; who reads late may find that some between two
    /// others are left out, never the last.
    pub fn poll_throttle(&self, cx: &mut Context<'_>) -> Poll<ThrottleChange> {
        let mut inner = self.inner.lock();
        match inner.changes.pop_front() {
            Some(change) => Poll::Ready(change),
            None => {
                inner.throttle = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next change of level, if there is one.
    pub fn take_throttle(&self) -> Option<ThrottleChange> {
        self.inner.lock().changes.pop_front()
    }

    /// From now on user messages are refused for this reason, or taken. Those that wait stay.
    pub fn set_refusal(&self, refusal: Option<Refusal>) {
        drop(self.set_refusal_and_mark(refusal));
    }

    /// The same for a caller that holds a lock: whoever waits for room is woken when the first of what this returns is dropped.
    /// The other is the moment at which the refusal begins or ends.
    pub(crate) fn set_refusal_and_mark(&self, refusal: Option<Refusal>) -> (Wakes, Mark) {
        let mut wakes = Wakes::default();
        let mut inner = self.inner.lock();
        if !inner.closed {
            if refusal.is_some() {
                wakes.room = core::mem::take(&mut inner.room);
            }
            inner.refusal = refusal;
        }
        (wakes, inner.mark())
    }

    /// Why user messages are refused now.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.inner.lock().refusal.clone()
    }

    /// Takes nothing any more, system messages included. What waits stays until it is polled or drained. Final.
    pub fn close(&self, refusal: Refusal) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.refusal = Some(refusal);
        let wakes = Wakes {
            receiver: inner.receiver.take(),
            throttle: inner.throttle.take(),
            room: core::mem::take(&mut inner.room),
            empty: None,
            freed: Freed::default(),
        };
        drop(inner);
        drop(wakes);
    }

    /// Hands over every user message that waits, for the dead letters, and returns how many. `each` runs without the lock.
    pub fn drain(&self, each: impl FnMut(RemoteDeliver, &[u8])) -> usize {
        self.drain_before(Mark::END, each)
    }

    /// The same of those that had been queued at that moment.
    pub(crate) fn drain_before(&self, mark: Mark, mut each: impl FnMut(RemoteDeliver, &[u8])) -> usize {
        let (mut batch, mut count) = (OutboundBatch::new(), 0);
        loop {
            let mut wakes = Wakes::default();
            let mut inner = self.inner.lock();
            let left = mark.user.saturating_sub(inner.gone);
            if left == 0 || inner.user.is_empty() {
                return count;
            }
            if inner.offered <= mark.user {
                return count + self.drain_all(inner, each);
            }
            // Newer ones lie behind them.
            let max = usize::try_from(left).map_or(DRAINED, |left| left.min(DRAINED));
            self.take_user(&mut inner, max, &mut batch, &mut wakes);
            drop(inner);
            drop(wakes);
            count += batch.drain_user(&mut each);
        }
    }

    fn drain_all(&self, mut inner: Guard<'_, Inner>, mut each: impl FnMut(RemoteDeliver, &[u8])) -> usize {
        let mut wakes = Wakes::default();
        let empty = RingQueue::new(self.bounds.messages_max).with_dynamic(false);
        let mut user = core::mem::replace(&mut inner.user, empty);
        let mut payloads = core::mem::take(&mut inner.payloads);
        inner.gone = inner.offered;
        self.made_room(&mut inner, &mut wakes);
        inner.note_empty(&mut wakes);
        drop(inner);
        drop(wakes);
        let mut payload = Vec::new();
        let mut count = 0;
        while let Some(deliver) = user.poll() {
            payload.clear();
            payloads.pop_into(&mut payload);
            each(deliver, &payload);
            count += 1;
        }
        count
    }

    /// Takes every system message that waits.
    #[must_use]
    pub fn drain_system(&self) -> Vec<RemoteSystem> {
        self.drain_system_before(Mark::END)
    }

    /// The same of those that had been queued at that moment.
    pub(crate) fn drain_system_before(&self, mark: Mark) -> Vec<RemoteSystem> {
        let (mut wakes, mut drained) = (Wakes::default(), Vec::new());
        let mut inner = self.inner.lock();
        while inner.system_gone < mark.system
            && let Some(message) = inner.pop_system()
        {
            drained.push(message);
        }
        while inner.notices_gone < mark.notices
            && let Some(notice) = inner.pop_notice()
        {
            drained.push(notice);
        }
        inner.note_share(&mut wakes);
        inner.note_empty(&mut wakes);
        drop(inner);
        drained
    }

    /// How much waits.
    #[must_use]
    pub fn state(&self) -> QueueState {
        let inner = self.inner.lock();
        QueueState {
            capacity: inner.user.capacity(),
            len: inner.user.len(),
            bytes: inner.payloads.bytes(),
            system_len: inner.system.len() + inner.notices.len(),
        }
    }

    /// The level of the user queue.
    #[must_use]
    pub fn level(&self) -> BackpressureSignal {
        self.inner.lock().level.signal()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.lock().is_empty()
    }

    /// Ready when nothing waits. One task polls.
    pub(crate) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.is_empty() {
            return Poll::Ready(());
        }
        inner.empty = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Gives back the buffers of a mailbox in which nothing waits; for a connection that has gone quiet.
    pub fn shrink(&self) {
        let mut inner = self.inner.lock();
        if inner.user.is_empty() {
            inner.user = RingQueue::new(self.bounds.messages_max).with_dynamic(false);
            inner.payloads.shrink();
        }
        if inner.system.is_empty() {
            inner.system.shrink_to(IDLE_CAPACITY);
            inner.notices.shrink_to(IDLE_CAPACITY);
        }
    }

    /// An empty queue takes one message whatever its bounds, save one of no messages at all.
    fn is_full(&self, inner: &Inner) -> bool {
        self.is_full_itself(inner) || (!inner.user.is_empty() && inner.share.is_full())
    }

    /// The same whatever other queues hold.
    fn is_full_itself(&self, inner: &Inner) -> bool {
        inner.user.len() >= self.bounds.messages_max
            || (!inner.user.is_empty() && inner.payloads.bytes() >= self.bounds.bytes_max)
    }

    /// For senders that wait: if only what other queues hold is in the way, they are woken when that may have changed.
    fn has_room(&self, inner: &mut Inner) -> bool {
        !self.is_full_itself(inner) && (inner.user.is_empty() || !inner.share.awaits_room())
    }

    fn take_system(inner: &mut Inner, max: usize, batch: &mut OutboundBatch, wakes: &mut Wakes) -> usize {
        let before = batch.system.len();
        while batch.system.len() - before < max {
            let gone = inner.gone;
            let due = inner.notices.front().is_some_and(|(behind, _)| *behind <= gone);
            let notice = if due { inner.pop_notice() } else { None };
            let Some(message) = notice.or_else(|| inner.pop_system()) else { break };
            batch.system.push_back(message);
        }
        inner.note_share(wakes);
        batch.system.len() - before
    }

    fn take_user(
        &self,
        inner: &mut Inner,
        max: usize,
        batch: &mut OutboundBatch,
        wakes: &mut Wakes,
    ) -> usize {
        let count = inner.payloads.fitting(max, BATCH_BYTES);
        if count == 0 {
            return 0;
        }
        let taken = inner.user.poll_many_into(count, &mut batch.user);
        for _ in 0..taken {
            if let Some(length) = inner.payloads.pop_into(&mut batch.payloads) {
                batch.lengths.push_back(length);
            }
        }
        inner.gone += taken as u64;
        self.made_room(inner, wakes);
        taken
    }

    /// Messages went: the level may fall, and who waits for room may go on.
    fn made_room(&self, inner: &mut Inner, wakes: &mut Wakes) {
        self.note_level(inner, wakes);
        if !inner.room.is_empty() && self.has_room(inner) {
            wakes.room = core::mem::take(&mut inner.room);
        }
    }

    /// From the queue's own bounds alone: what other queues hold changes while this one does not move, and a level that came of
    /// it would stand, and throttle, when there has long been room again.
    fn note_level(&self, inner: &mut Inner, wakes: &mut Wakes) {
        let (messages, bytes) = (inner.user.len(), inner.payloads.bytes());
        self.statistics.record_queue_state(self.bounds.messages_max as u64, messages as u64);
        inner.note_share(wakes);
        if messages < self.quiet_messages
            && bytes < self.quiet_bytes
            && inner.level.signal() == BackpressureSignal::Normal
        {
            return;
        }
        let ratio = fill_ratio(messages, self.bounds.messages_max, bytes, self.bounds.bytes_max);
        if let Some(level) = inner.level.update(ratio) {
            if inner.changes.len() >= CHANGES_MAX {
                inner.changes.pop_back();
            }
            inner.changes.push_back(ThrottleChange { level, messages, bytes });
            wakes.throttle = inner.throttle.take();
        }
    }
}

impl fmt::Debug for EndpointWriterMailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointWriterMailbox").field("state", &self.state()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
