//! System messages on their way out: numbered, kept until acknowledged, sent again in bounded rounds.

use alloc::collections::VecDeque;

use nexus_actor_core::Instant;

use crate::wire::SystemMessage;

#[derive(Debug)]
struct Entry {
    message: SystemMessage,
    bytes: usize,
    queued: Instant,
}

/// Bytes a message takes in memory and on the wire, about.
fn weight(message: &SystemMessage) -> usize {
    let (path, _) = message.target();
    path.as_str().len() + 64
}

/// The sending side of one session's system messages.
///
/// What can wait is pulled into the window from wanted state when there is room; only stops wait in a queue.
#[derive(Debug, Default)]
pub(super) struct SystemOut {
    /// Sent or about to be sent, and not acknowledged.
    window: VecDeque<Entry>,
    /// The number of the window's first.
    base: u64,
    /// The next to be sent on the current connection.
    cursor: u64,
    /// Everything below has been sent on some connection.
    sent: u64,
    /// How many may be sent again before the next round.
    budget: usize,
    queue: VecDeque<Entry>,
    queue_bytes: usize,
}

impl SystemOut {
    /// Queues what cannot wait as state. Returns false, and queues nothing, when the queue is full (L16).
    pub(super) fn enqueue(
        &mut self,
        now: Instant,
        message: SystemMessage,
        max: usize,
        bytes_max: usize,
    ) -> bool {
        let bytes = weight(&message);
        if self.queue.len() + self.window.len() >= max || self.queue_bytes + bytes > bytes_max {
            return false;
        }
        self.queue_bytes += bytes;
        self.queue.push_back(Entry { message, bytes, queued: now });
        true
    }

    pub(super) fn has_room(&self, window: usize) -> bool {
        self.window.len() < window
    }

    /// Moves the oldest queued message into the window; false when none waits.
    pub(super) fn pull_queued(&mut self) -> bool {
        let Some(entry) = self.queue.pop_front() else { return false };
        self.queue_bytes -= entry.bytes;
        self.window.push_back(entry);
        true
    }

    /// Puts a message into the window.
    pub(super) fn push(&mut self, now: Instant, message: SystemMessage) {
        let bytes = weight(&message);
        self.window.push_back(Entry { message, bytes, queued: now });
    }

    /// The next message to send on the current connection.
    pub(super) fn next_to_send(&mut self) -> Option<(u64, &SystemMessage)> {
        let seq = self.cursor;
        let index = usize::try_from(seq - self.base).ok()?;
        if index >= self.window.len() {
            return None;
        }
        if seq < self.sent {
            self.budget = self.budget.checked_sub(1)?;
        }
        self.cursor += 1;
        self.sent = self.sent.max(self.cursor);
        Some((seq, &self.window[index].message))
    }

    /// Whether something could be sent at once.
    pub(super) fn has_sendable(&self) -> bool {
        let waiting = self.cursor < self.base + self.window.len() as u64;
        waiting && (self.cursor >= self.sent || self.budget > 0)
    }

    /// Whether what was sent on an earlier connection or round is yet to be sent on this one.
    pub(super) const fn is_behind(&self) -> bool {
        self.cursor < self.sent
    }

    /// The peer expects `next`. Numbers never sent change nothing. True when something was acknowledged.
    pub(super) fn acknowledge(&mut self, next: u64, budget: usize) -> bool {
        if next <= self.base || next > self.sent {
            return false;
        }
        while self.base < next && self.window.pop_front().is_some() {
            self.base += 1;
        }
        self.cursor = self.cursor.max(self.base);
        // Progress is a new round.
        self.budget = budget;
        true
    }

    /// A round passed without progress: at most `budget` messages are sent again.
    pub(super) fn rewind(&mut self, budget: usize) {
        self.cursor = self.base;
        self.budget = budget;
    }

    pub(super) const fn can_resume(&self, next: u64) -> bool {
        next >= self.base && next <= self.sent
    }

    /// A new connection: everything from the peer's next expected number is sent again.
    pub(super) fn resume(&mut self, next: u64, budget: usize) {
        self.acknowledge(next, budget);
        self.rewind(budget);
    }

    /// Whether something is unacknowledged or queued.
    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty() && self.queue.is_empty()
    }

    pub(super) fn has_unacknowledged(&self) -> bool {
        !self.window.is_empty()
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Messages unacknowledged or queued.
    pub(super) fn len(&self) -> usize {
        self.window.len() + self.queue.len()
    }

    /// When the oldest was queued.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let (window, queue) = (self.window.front(), self.queue.front());
        window.into_iter().chain(queue).map(|e| e.queued).min()
    }

    /// The session is over: takes everything out, numbers start at 0 again.
    pub(super) fn take(&mut self) -> impl Iterator<Item = SystemMessage> + use<> {
        let old = core::mem::take(self);
        old.window.into_iter().chain(old.queue).map(|e| e.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WirePath;
    use alloc::vec::Vec;
    use nexus_actor_core::path::ActorUid;

    fn stop(n: u64) -> SystemMessage {
        SystemMessage::Stop { path: WirePath::new("/user/a").unwrap(), uid: ActorUid::new(n) }
    }

    fn send_all(out: &mut SystemOut) -> Vec<u64> {
        core::iter::from_fn(|| out.next_to_send().map(|(seq, _)| seq)).collect()
    }

    /// Covers: S45
    #[test]
    fn what_is_sent_again_in_one_round_is_bounded() {
        let mut out = SystemOut::default();
        for n in 0..100 {
            out.push(Instant::ZERO, stop(n));
        }
        assert_eq!(send_all(&mut out).len(), 100);
        for _ in 0..3 {
            out.rewind(7);
            assert_eq!(send_all(&mut out), (0..7).collect::<Vec<_>>());
            assert!(!out.has_sendable());
        }
        assert!(out.acknowledge(5, 7));
        // The cursor stays where it was: 5 and 6 are under way already.
        assert_eq!(send_all(&mut out), (7..14).collect::<Vec<_>>());
    }

    /// Covers: S47
    #[test]
    fn an_acknowledgement_of_what_was_never_sent_changes_nothing() {
        let mut out = SystemOut::default();
        for n in 0..10 {
            out.push(Instant::ZERO, stop(n));
        }
        for _ in 0..4 {
            out.next_to_send();
        }
        for (next, expected, left) in
            [(5, false, 10), (u64::MAX, false, 10), (0, false, 10), (4, true, 6), (4, false, 6)]
        {
            assert_eq!(out.acknowledge(next, 9), expected, "{next}");
            assert_eq!(out.len(), left, "{next}");
        }
    }

    /// L16: below, at and above the limit.
    #[test]
    fn the_queue_is_bounded() {
        let mut out = SystemOut::default();
        for n in 0..3 {
            assert!(out.enqueue(Instant::ZERO, stop(n), 3, 1_000_000));
        }
        assert!(!out.enqueue(Instant::ZERO, stop(4), 3, 1_000_000));
        assert!(out.pull_queued());
        assert!(!out.enqueue(Instant::ZERO, stop(4), 3, 1_000_000), "what is unacknowledged counts");
        let mut out = SystemOut::default();
        assert!(out.enqueue(Instant::ZERO, stop(1), 9, 71 * 2 - 1));
        assert!(!out.enqueue(Instant::ZERO, stop(1), 9, 71 * 2 - 1));
    }
}
