//! How much memory the queues toward all peers of a node may take together (limit L29).
//!
//! Each queue has bounds of its own, but a peer that calls may have any number of names, and each name has a queue. So from half
//! of what all may take, a queue that has its share of it takes nothing more: those who hold much are refused, and who
//! holds little is served as before.

use std::sync::{Arc, Weak};

use nexus_actor_core::lock::Lock;
use portable_atomic::{AtomicUsize, Ordering};

/// What is counted at a time, so that a message costs nothing here. A queue smaller than this is not counted.
const CHUNK: usize = 64 * 1024;
/// Memory of an entry beside its payload.
pub(crate) const ENTRY: usize = 128;
/// Of what all may take, what goes to each of the queues in which much waits is this part at least.
const SHARES: usize = 16;

/// A queue with senders that wait for what other queues hold.
pub(crate) trait AwaitsRoom: Send + Sync {
    /// There may be room. Called under no lock.
    fn look_for_room(&self);
}

/// Queues that may have room now, because another holds less. They look when this is dropped: under no lock.
#[derive(Default)]
#[must_use = "who waits for room is told when this is dropped, and that not under a lock"]
pub(crate) struct Freed(Vec<Weak<dyn AwaitsRoom>>);

impl Freed {
    pub(crate) fn add(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

impl Drop for Freed {
    fn drop(&mut self) {
        for queue in self.0.drain(..) {
            if let Some(queue) = queue.upgrade() {
                queue.look_for_room();
            }
        }
    }
}

/// What all queues of a node hold.
#[derive(Debug)]
pub(crate) struct QueueBudget {
    /// Bytes, in whole chunks.
    held: AtomicUsize,
    /// Queues that hold some.
    holders: AtomicUsize,
    max: usize,
    /// Each once. The lock is taken under that of a queue, and none is taken under it.
    waiting: Lock<Vec<Weak<dyn AwaitsRoom>>>,
}

impl QueueBudget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            max,
            waiting: Lock::new(Vec::new()),
        })
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Whether so much is more than one queue may hold now.
    fn is_too_much(&self, bytes: usize) -> bool {
        bytes >= CHUNK
            && self.held.load(Ordering::Relaxed) >= self.max / 2
            && bytes >= self.max / (SHARES * self.holders.load(Ordering::Relaxed).max(1))
    }
}

/// The part of one queue. Changes under the lock of the queue; what is dropped is given back.
#[derive(Debug, Default)]
pub(crate) struct QueueShare {
    budget: Option<Arc<QueueBudget>>,
    chunks: usize,
    bytes: usize,
    /// Whose share this is, if senders may wait for it, and whether the budget knows that some do.
    queue: Option<Weak<dyn AwaitsRoom>>,
    awaits: bool,
}

impl QueueShare {
    pub(crate) const fn of(budget: Arc<QueueBudget>) -> Self {
        Self { budget: Some(budget), chunks: 0, bytes: 0, queue: None, awaits: false }
    }

    /// Who is told when there may be room.
    pub(crate) fn told_by(mut self, queue: Weak<dyn AwaitsRoom>) -> Self {
        self.queue = Some(queue);
        self
    }

    /// So many messages wait, with so many bytes. Who is to be told of it is returned, for when the lock is left.
    #[inline]
    pub(crate) fn set(&mut self, messages: usize, bytes: usize) -> Freed {
        self.bytes = bytes + ENTRY * messages;
        let chunks = self.bytes / CHUNK;
        // One more is kept than is needed: at its edge a queue would count each message.
        if chunks > self.chunks
            || chunks + 1 < self.chunks
            || (chunks == 0 && messages == 0 && self.chunks > 0)
        {
            return self.count(chunks);
        }
        Freed::default()
    }

    fn count(&mut self, chunks: usize) -> Freed {
        let Some(budget) = &self.budget else { return Freed::default() };
        let before = std::mem::replace(&mut self.chunks, chunks);
        if chunks > before {
            budget.held.fetch_add((chunks - before) * CHUNK, Ordering::Relaxed);
            if before == 0 {
                budget.holders.fetch_add(1, Ordering::Relaxed);
            }
            return Freed::default();
        }
        let less = (before - chunks) * CHUNK;
        let held = budget.held.fetch_sub(less, Ordering::Relaxed);
        if chunks == 0 {
            budget.holders.fetch_sub(1, Ordering::Relaxed);
        }
        // All may take more again, or the share of each grew.
        let is_room = held >= budget.max / 2 && (held - less < budget.max / 2 || chunks == 0);
        // Always with the lock: a queue that registers looks once more after it, and one of both sees the other.
        if is_room { Freed(std::mem::take(&mut budget.waiting.lock())) } else { Freed::default() }
    }

    /// [`is_full`](Self::is_full), and if so the queue is told when that may have changed.
    pub(crate) fn awaits_room(&mut self) -> bool {
        if !self.is_full() {
            return false;
        }
        if let (Some(budget), Some(queue), false) = (&self.budget, &self.queue, self.awaits) {
            budget.waiting.lock().push(queue.clone());
            self.awaits = true;
        }
        // Room may have been made just before.
        self.is_full()
    }

    /// The queue was told, and has to be registered anew.
    pub(crate) const fn was_told(&mut self) {
        self.awaits = false;
    }

    /// Whether so many messages with so many bytes alone are all that the queue may hold.
    pub(crate) fn is_too_much(&self, messages: usize, bytes: usize) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_too_much(bytes + ENTRY * messages))
    }

    /// Whether nothing more is to be taken.
    pub(crate) fn is_full(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_too_much(self.bytes))
    }
}

impl Drop for QueueShare {
    fn drop(&mut self) {
        if self.awaits
            && let Some(budget) = &self.budget
        {
            // Of this queue nobody can be left by now.
            budget.waiting.lock().retain(|queue| queue.strong_count() > 0);
        }
        if self.chunks > 0 {
            drop(self.count(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use super::*;
    use crate::endpoint::pid_entry::PidEntry;
    use crate::endpoint_writer_mailbox::tests::Bell;
    use crate::endpoint_writer_mailbox::{
        Displaced, EndpointWriterMailbox, MailboxBounds, OutboundBatch, Overflow, RemoteDeliver,
        RemoteSystem, TerminatedWhy,
    };
    use crate::wire::batch::TypeName;

    fn pid(id: &str) -> Arc<PidEntry> {
        Arc::new(PidEntry::new("h:1", id))
    }

    fn deliver() -> RemoteDeliver {
        RemoteDeliver::new(pid("echo"), TypeName { package: "google.protobuf", name: "StringValue" })
    }

    fn terminated() -> RemoteSystem {
        RemoteSystem::Terminated { watcher: pid("you"), who: pid("me"), why: TerminatedWhy::Stopped }
    }

    fn touch() -> RemoteSystem {
        RemoteSystem::Touch { target: pid("you"), sender: pid("me") }
    }

    fn mailbox(budget: &Arc<QueueBudget>, overflow: Overflow) -> EndpointWriterMailbox {
        let bounds = MailboxBounds { overflow, ..MailboxBounds::default() };
        EndpointWriterMailbox::new(bounds, Arc::default()).with_budget(budget.clone())
    }

    /// Queues messages of 1 KiB until no more are taken, and returns how many were.
    fn fill(mailbox: &EndpointWriterMailbox) -> usize {
        (0..1_000_000).take_while(|_| mailbox.offer(deliver(), &[0; 1_024]).is_ok()).count()
    }

    /// Covers: L29
    #[test]
    fn user_messages_that_take_the_share_refuse_no_system_message() {
        let budget = QueueBudget::new(64 * CHUNK);
        let mailbox = mailbox(&budget, Overflow::RefuseNewest);
        assert!(fill(&mailbox) > 1_000);
        for message in [terminated(), RemoteSystem::Stop { target: pid("you") }, touch()] {
            assert_eq!(mailbox.offer_system(message), Ok(()));
        }
        // System messages that alone are the share are refused, or many names would take any memory; never a question
        // whether the peer lives.
        let taken = (0..100_000).take_while(|_| mailbox.offer_system(terminated()).is_ok()).count();
        let each = terminated().size() + ENTRY;
        assert!((4 * CHUNK / each - 3..=4 * CHUNK / each).contains(&taken), "{taken}");
        assert_eq!(mailbox.offer_system(touch()), Ok(()));
    }

    /// Covers: L29
    #[test]
    fn one_message_displaces_no_more_than_it_brings_when_the_share_shrank() {
        let budget = QueueBudget::new(64 * CHUNK);
        let mailbox = mailbox(&budget, Overflow::DropOldest);
        for _ in 0..1_500 {
            assert_eq!(mailbox.offer(deliver(), &[0; 1_024]), Ok(Displaced::new()));
        }
        // Others come, and what is left to each is two chunks.
        let mut other = QueueShare::of(budget.clone());
        drop(other.set(0, 32 * CHUNK));
        assert_eq!(mailbox.offer(deliver(), &[0; 1_024]).map(|gone| gone.len()), Ok(1));
        assert_eq!(mailbox.offer(deliver(), &[0; 10 * 1_024]).map(|gone| gone.len()), Ok(9));
        assert_eq!(mailbox.state().len, 1_492);
    }

    /// Covers: L29
    #[test]
    fn room_that_another_queue_frees_wakes_who_waits_for_it() {
        let budget = QueueBudget::new(64 * CHUNK);
        let (waits, other) =
            (mailbox(&budget, Overflow::RefuseNewest), mailbox(&budget, Overflow::RefuseNewest));
        let (bell, waker) = Bell::new();
        let room = || waits.poll_room(&mut Context::from_waker(&waker));
        for _ in 0..1_000 {
            assert!(waits.offer(deliver(), &[0; 1_024]).is_ok());
        }
        assert!(fill(&other) > 500);
        assert!(room().is_pending() && room().is_pending());
        let mut batch = OutboundBatch::new();
        while room().is_pending() {
            assert_eq!(bell.rung(), 0, "there is no room yet");
            assert_eq!(other.poll_user_mailbox(1, &mut batch), 1);
            batch.drain_user(|_, _| ());
        }
        assert_eq!(bell.rung(), 1);

        // It is full again, and the other queue goes as a whole.
        assert!(fill(&other) > 0);
        assert!(room().is_pending());
        drop(other);
        assert_eq!((bell.rung(), room()), (1, Poll::Ready(())));
    }

    /// Covers: L29
    #[test]
    fn a_share_that_grows_wakes_who_has_room_by_it() {
        let budget = QueueBudget::new(64 * CHUNK);
        let waits = mailbox(&budget, Overflow::RefuseNewest);
        let (bell, waker) = Bell::new();
        let room = || waits.poll_room(&mut Context::from_waker(&waker));
        let [mut many, mut one, mut two] = [(); 3].map(|()| QueueShare::of(budget.clone()));
        drop(one.set(0, CHUNK));
        drop(two.set(0, CHUNK));
        drop(many.set(0, 40 * CHUNK));
        // One chunk of four queues; a third of four by three.
        while waits.offer(deliver(), &[0; 1_024]).is_ok() {}
        assert!(room().is_pending());
        drop(one.set(0, 0));
        assert_eq!((bell.rung(), room()), (1, Poll::Ready(())));
        // What it has is too much all the same.
        while waits.offer(deliver(), &[0; 32 * 1_024]).is_ok() {}
        drop(one.set(0, CHUNK));
        assert!(room().is_pending());
        drop(one.set(0, 0));
        assert_eq!((bell.rung(), room()), (0, Poll::Pending));
        // A queue that is gone waits no more.
        assert_eq!(budget.waiting(), 1);
        drop(waits);
        assert_eq!(budget.waiting(), 0);
    }

    /// Covers: L29
    #[test]
    fn who_holds_much_is_refused_and_who_holds_little_is_not() {
        let budget = QueueBudget::new(64 * CHUNK);
        let mut large = QueueShare::of(budget.clone());
        let mut small = QueueShare::of(budget.clone());
        drop(large.set(0, 32 * CHUNK - 1));
        assert!(!large.is_full(), "below half of all");
        drop(large.set(0, 32 * CHUNK));
        assert!(large.is_full());
        drop(small.set(1, CHUNK - ENTRY - 1));
        assert!(!small.is_full(), "it is not even counted");
        drop(small.set(1, 2 * CHUNK - ENTRY - 1));
        assert!(!small.is_full(), "below its share, which is two chunks of two queues");
        drop(small.set(1, 2 * CHUNK - ENTRY));
        assert!(small.is_full());
        drop(large.set(0, 29 * CHUNK));
        assert!(!small.is_full() && !large.is_full(), "it was worked off");
        drop(large);
        drop(small.set(0, 0));
        assert_eq!((budget.held.load(Ordering::Relaxed), budget.holders.load(Ordering::Relaxed)), (0, 0));
    }

    /// However many queues there are, all together hold little more than they may.
    #[test]
    fn any_number_of_queues_hold_no_more_than_they_may() {
        let budget = QueueBudget::new(1 << 30);
        let mut queues = Vec::new();
        for _ in 0..1_000 {
            let mut queue = QueueShare::of(budget.clone());
            let mut bytes = 0;
            while !queue.is_full() && bytes < 64 << 20 {
                bytes += 32 * 1024;
                drop(queue.set(0, bytes));
            }
            queues.push(queue);
        }
        let held = budget.held.load(Ordering::Relaxed);
        assert!((1 << 29..1 << 30).contains(&held), "{held}");
        drop(queues);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
