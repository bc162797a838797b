//! How much of one peer is taken at once: system messages by their rate (limit L17), user messages by how many of them wait
//! in mailboxes here (limit L30). Beyond either its calls are not read, and its own queue fills.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nexus_actor_core::Instant;
use nexus_actor_core::lock::Lock;
use portable_atomic::{AtomicUsize, Ordering};

use crate::config::Limits;
use crate::endpoint::Endpoint;

/// Messages to one actor that are counted together, so that counting costs next to nothing.
const CHUNK: usize = 256;
/// Bytes of them.
const CHUNK_BYTES: usize = 64 * 1024;

/// What one peer has waiting here, over all its calls.
pub(crate) struct Intake {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    limits: Limits,
    /// When the allowance of system messages is whole again.
    whole_at: Lock<Instant>,
    /// One for each call at most, for a peer may open and drop any number of them.
    readers: Lock<HashMap<u64, Waker>>,
    /// Kept while anything waits, so that a peer that calls anew does not begin anew.
    endpoint: Weak<Endpoint>,
}

impl Intake {
    pub(crate) fn new(limits: Limits, endpoint: Weak<Endpoint>) -> Self {
        Self {
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            limits,
            whole_at: Lock::new(Instant::ZERO),
            readers: Lock::default(),
            endpoint,
        }
    }

    /// Whether so much to one actor is to be counted now.
    pub(crate) const fn is_chunk(&self, messages: usize, bytes: usize) -> bool {
        messages > 0
            && (messages >= CHUNK
                || bytes >= CHUNK_BYTES
                || messages >= self.limits.mailbox_messages / 16
                || bytes >= self.limits.mailbox_bytes / 16)
    }

    /// Whether so much to many actors is to be counted now, though it is little to each.
    pub(crate) const fn is_much(&self, messages: usize, bytes: usize) -> bool {
        messages > self.limits.mailbox_messages / 4 || bytes > self.limits.mailbox_bytes / 4
    }

    /// Counts what was put into a mailbox until the guard is dropped.
    pub(crate) fn put(self: &Arc<Self>, messages: usize, bytes: usize) -> Waiting {
        self.messages.fetch_add(messages, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        Waiting { intake: self.clone(), messages, bytes }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.load(Ordering::SeqCst) == 0
    }

    fn is_over(&self, times: usize) -> bool {
        self.messages.load(Ordering::SeqCst) >= self.limits.mailbox_messages.saturating_mul(times)
            || self.bytes.load(Ordering::SeqCst) >= self.limits.mailbox_bytes.saturating_mul(times)
    }

    /// Whether even what had to be read meanwhile is too much.
    pub(crate) fn is_overfull(&self) -> bool {
        self.is_over(2)
    }

    /// Ready when more may be read from the call of that number. It is woken then, until [`forget`](Self::forget).
    pub(crate) fn poll_room_of(&self, call: u64, cx: &Context<'_>) -> Poll<()> {
        if !self.is_over(1) {
            return Poll::Ready(());
        }
        {
            let mut readers = self.readers.lock();
            readers
                .entry(call)
                .and_modify(|waker| waker.clone_from(cx.waker()))
                .or_insert_with(|| cx.waker().clone());
        }
        // What was worked off before the waker was seen.
        if self.is_over(1) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// The call of that number is over: nobody is woken for it.
    pub(crate) fn forget(&self, call: u64) {
        let waker = self.readers.lock().remove(&call);
        // Not under the lock: it may be the last that keeps a task.
        drop(waker);
    }

    /// Takes `count` system messages; when the next may be read, if that is not now.
    pub(crate) fn took_system(&self, count: u32, now: Instant) -> Option<Instant> {
        let each = Duration::from_secs(1) / self.limits.system_messages_per_second.max(1);
        let whole = each.saturating_mul(self.limits.system_messages_burst);
        let mut whole_at = self.whole_at.lock();
        *whole_at = (*whole_at).max(now) + each.saturating_mul(count);
        let taken = *whole_at - now;
        (taken > whole).then(|| now + (taken - whole))
    }
}

/// Messages that wait in a mailbox.
pub(crate) struct Waiting {
    intake: Arc<Intake>,
    messages: usize,
    bytes: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Bytes first: empty is what has no messages.
        self.intake.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        let before = self.intake.messages.fetch_sub(self.messages, Ordering::SeqCst);
        if !self.intake.is_over(1) {
            let readers = std::mem::take(&mut *self.intake.readers.lock());
            for reader in readers.into_values() {
                reader.wake();
            }
        }
        if before == self.messages
            && let Some(endpoint) = self.intake.endpoint.upgrade()
            && endpoint.is_idle()
        {
            endpoint.node().forget_if_idle(&endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(change: impl FnOnce(&mut Limits)) -> Arc<Intake> {
        let mut limits = Limits::new();
        change(&mut limits);
        Arc::new(Intake::new(limits, Weak::new()))
    }

    /// L17: at once up to the burst, then so many a second.
    #[test]
    fn system_messages_are_taken_at_their_rate() {
        let intake = intake(|limits| {
            limits.system_messages_per_second = 1_000;
            limits.system_messages_burst = 3;
        });
        let (now, ms) = (Instant::from_millis(5), Duration::from_millis(1));
        assert_eq!(intake.took_system(2, now), None);
        assert_eq!(intake.took_system(1, now), None);
        assert_eq!(intake.took_system(2, now), Some(now + 2 * ms));
        assert_eq!(intake.took_system(1, now + 2 * ms), Some(now + 3 * ms));
        // A long pause is worth one burst and no more.
        assert_eq!(intake.took_system(4, now + 3_600_000 * ms), Some(now + 3_600_001 * ms));
    }

    /// Room below the limit, none at it, and a wake-up when it is there again.
    ///
    /// Covers: L30
    #[test]
    fn readers_wait_while_mailboxes_hold_too_much() {
        let intake = intake(|limits| {
            limits.mailbox_messages = 10;
            limits.mailbox_bytes = 100;
        });
        let mut cx = Context::from_waker(Waker::noop());
        let few = intake.put(9, 99);
        assert!(intake.poll_room_of(0, &cx).is_ready());
        let one = intake.put(1, 0);
        assert!(intake.poll_room_of(0, &cx).is_pending() && !intake.is_overfull());
        let more = intake.put(10, 0);
        assert!(intake.is_overfull());
        drop((few, more));
        assert!(intake.poll_room_of(0, &cx).is_ready());
        let bytes = intake.put(1, 100);
        let (woken, waker) = counting();
        cx = Context::from_waker(&waker);
        assert!(intake.poll_room_of(0, &cx).is_pending() && intake.poll_room_of(0, &cx).is_pending());
        drop(one);
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        drop(bytes);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
    }

    /// A peer whose actor does not get on opens and drops calls: none of them leaves anything.
    #[test]
    fn a_call_that_ends_leaves_no_waker() {
        let intake = intake(|limits| limits.mailbox_messages = 1);
        let waiting = intake.put(1, 0);
        let (stays_woken, stays) = counting();
        let (ended_woken, ended) = counting();
        assert!(intake.poll_room_of(0, &Context::from_waker(&stays)).is_pending());
        for call in 1..100 {
            let cx = Context::from_waker(&ended);
            assert!(
                intake.poll_room_of(call, &cx).is_pending() && intake.poll_room_of(call, &cx).is_pending()
            );
            intake.forget(call);
        }
        assert_eq!(intake.readers.lock().len(), 1);
        drop(waiting);
        assert_eq!((stays_woken.load(Ordering::SeqCst), ended_woken.load(Ordering::SeqCst)), (1, 0));
    }

    fn counting() -> (Arc<AtomicUsize>, Waker) {
        struct Count(Arc<AtomicUsize>);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let count: Arc<AtomicUsize> = Arc::default();
        (count.clone(), Waker::from(Arc::new(Count(count))))
    }
}
