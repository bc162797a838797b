//! Which incarnations of a peer are refused, why and until when.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::time::Duration;

use nexus_actor_core::path::ActorUid;
use nexus_actor_core::{AskError, DeadLetterReason, Instant, TerminationReason};

use super::Association;
use super::event::{AssociationEvent, CloseReason, LostCause};
use super::session::{Ending, Unsent};
use super::state::AssociationState;
use super::timer::Timer;
use crate::wire::{ControlFrame, QuarantineReason, RefuseReason};

/// One refused incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantinedUid {
    /// The incarnation.
    pub uid: ActorUid,
    /// Why.
    pub reason: QuarantineReason,
    /// Since when.
    pub since: Instant,
    /// When it ends by itself; `None` for never.
    pub deadline: Option<Instant>,
}

/// The refused incarnations of one address (L21): the oldest goes when there are too many, never the newest.
#[derive(Debug, Default)]
pub(super) struct QuarantineBook {
    entries: VecDeque<QuarantinedUid>,
}

impl QuarantineBook {
    pub(super) fn insert(&mut self, entry: QuarantinedUid, max: usize) {
        self.entries.retain(|e| e.uid != entry.uid);
        while self.entries.len() >= max.max(1) {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    pub(super) fn remove(&mut self, uid: ActorUid) {
        self.entries.retain(|e| e.uid != uid);
    }

    /// The entry of `uid`, if it still holds at `now`.
    pub(super) fn get(&self, uid: ActorUid, now: Instant) -> Option<&QuarantinedUid> {
        self.entries.iter().find(|e| e.uid == uid && e.deadline.is_none_or(|at| now < at))
    }

    /// Drops what has ended by itself, and what is older than `keep`; the newest stays in any case.
    pub(super) fn expire(&mut self, now: Instant, keep: Duration) {
        let newest = self.entries.back().map(|e| e.uid);
        self.entries.retain(|e| match e.deadline {
            Some(at) => now < at,
            None => Some(e.uid) == newest || now - e.since < keep,
        });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &QuarantinedUid> {
        self.entries.iter()
    }
}

impl Association {
    /// Quarantines an incarnation on demand. Without a uid, or with the present one's, the session ends now; an old
    /// uid is only remembered, and a newer incarnation is untouched.
    pub fn quarantine(&mut self, now: Instant, uid: Option<ActorUid>, reason: QuarantineReason) {
        let current = self.session.as_ref().map(|s| s.remote.uid());
        match (uid, current) {
            (Some(uid), current) if current != Some(uid) => {
                self.remember(now, uid, reason);
            }
            _ => self.quarantine_for(now, reason, String::from("asked for on this node")),
        }
    }

    pub(super) fn remember(
        &mut self,
        now: Instant,
        uid: ActorUid,
        reason: QuarantineReason,
    ) -> Option<Instant> {
        let deadline =
            matches!(reason, QuarantineReason::Unreachable | QuarantineReason::SystemMessageUndelivered)
                .then(|| now + self.config.quarantine_period());
        self.book.expire(now, self.config.quarantine_memory());
        let entry = QuarantinedUid { uid, reason, since: now, deadline };
        self.book.insert(entry, self.config.quarantine_uids_max());
        deadline
    }

    /// Ends the session and refuses the peer's incarnation.
    pub(super) fn quarantine_for(&mut self, now: Instant, reason: QuarantineReason, facts: String) {
        if matches!(self.state, AssociationState::Quarantined { .. }) {
            return;
        }
        let uid = self.session.as_ref().map(|s| s.remote.uid());
        self.say_goodbye(now, CloseReason::Quarantined, |uid| ControlFrame::Quarantined { uid, reason });
        self.drop_attempts(CloseReason::Quarantined);
        self.stop_attempts();
        let watchers = match reason {
            QuarantineReason::Unreachable => TerminationReason::Unreachable,
            _ => TerminationReason::Quarantined,
        };
        self.suspended = false;
        self.wish = false;
        self.end_session(
            now,
            Ending {
                unsent: Unsent::Lost(DeadLetterReason::Quarantined),
                watchers,
                asks: match reason {
                    QuarantineReason::Unreachable => AskError::Unreachable,
                    _ => AskError::Quarantined,
                },
            },
        );
        let lasting =
            matches!(reason, QuarantineReason::Unreachable | QuarantineReason::SystemMessageUndelivered);
        let deadline = match uid {
            Some(uid) => self.remember(now, uid, reason),
            None => lasting.then(|| now + self.config.quarantine_period()),
        };
        if let Some(at) = deadline {
            self.timers.set(Timer::QuarantineDeadline, at);
        }
        self.backoff.reset();
        self.enter(now, AssociationState::Quarantined { uid, deadline, reason });
        self.events.push_back(AssociationEvent::Quarantined { uid, reason, deadline, facts });
        self.note_room();
        self.wake_driver();
    }

    /// Ends the quarantine: a new session may be agreed, also with the same incarnation.
    pub fn recover(&mut self, now: Instant) {
        let AssociationState::Quarantined { uid, .. } = self.state else { return };
        if let Some(uid) = uid {
            self.book.remove(uid);
        }
        self.lifted(now, uid);
    }

    /// Follows the node's block list. While `blocked` the peer is refused whatever its incarnation: it is told, the
    /// session ends, what waits is recorded, and nothing is accepted or dialled.
    ///
    /// No incarnation is remembered for it: the list is what remembers, and lifting it lifts all of this.
    pub fn set_blocked(&mut self, now: Instant, blocked: bool) {
        match (blocked, self.is_blocked()) {
            (true, false) => self.block(now),
            (false, true) => self.unblock(now),
            (true, true) | (false, false) => {}
        }
    }

    /// Whether the peer is refused because it is on the block list.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        matches!(self.state, AssociationState::Quarantined { reason: QuarantineReason::Blocked, .. })
    }

    fn block(&mut self, now: Instant) {
        if self.closing.is_some() || self.closed {
            return;
        }
        let reason = QuarantineReason::Blocked;
        let uid = match self.state {
            AssociationState::Quarantined { uid, .. } => uid,
            AssociationState::Unassociated
            | AssociationState::Associating { .. }
            | AssociationState::Connected { .. }
            | AssociationState::Suspended { .. }
            | AssociationState::Gated { .. } => self.session.as_ref().map(|s| s.remote.uid()),
        };
        self.say_goodbye(now, CloseReason::Quarantined, |uid| ControlFrame::Quarantined { uid, reason });
        self.drop_attempts(CloseReason::Refused(RefuseReason::Blocked));
        self.stop_attempts();
        self.suspended = false;
        self.wish = false;
        self.end_session(
            now,
            Ending {
                unsent: Unsent::Lost(DeadLetterReason::Blocked),
                watchers: TerminationReason::Quarantined,
                asks: AskError::Blocked,
            },
        );
        self.timers.stop(Timer::QuarantineDeadline);
        self.backoff.reset();
        self.enter(now, AssociationState::Quarantined { uid, deadline: None, reason });
        let facts = String::from("the block list of this node");
        self.events.push_back(AssociationEvent::Quarantined { uid, reason, deadline: None, facts });
        self.wake_driver();
    }

    fn unblock(&mut self, now: Instant) {
        let AssociationState::Quarantined { uid, .. } = self.state else { return };
        // What was refused for itself before its address was, still is.
        let held = uid.and_then(|uid| self.book.get(uid, now).copied());
        let Some(QuarantinedUid { reason, deadline, .. }) = held else {
            return self.lifted(now, uid);
        };
        if let Some(at) = deadline {
            self.timers.set(Timer::QuarantineDeadline, at);
        }
        self.enter(now, AssociationState::Quarantined { uid, deadline, reason });
        let facts = String::from("refused before it was blocked");
        self.events.push_back(AssociationEvent::Quarantined { uid, reason, deadline, facts });
    }

    pub(super) fn lifted(&mut self, now: Instant, uid: Option<ActorUid>) {
        self.timers.stop(Timer::QuarantineDeadline);
        self.drop_attempts(CloseReason::Superseded);
        self.stop_attempts();
        self.events.push_back(AssociationEvent::Recovered { uid });
        self.enter(now, AssociationState::Unassociated);
        self.wish = true;
        self.ensure_connection(now);
    }

    /// The peer has ended the session.
    pub(super) fn ended_by_peer(&mut self, now: Instant, reason: QuarantineReason) {
        if !core::mem::replace(&mut self.reported_by_peer, true) {
            self.events.push_back(AssociationEvent::QuarantinedByPeer { reason });
        }
        if self.session.is_none() {
            return;
        }
        if let Some(conn) = self.live.take() {
            let uid = self.session.as_ref().map_or(ActorUid::ANY, |s| s.remote.uid());
            self.close_link(conn, CloseReason::Quarantined);
            let cause = LostCause::ByUs(CloseReason::Quarantined);
            self.events.push_back(AssociationEvent::Disconnected { uid, cause });
        }
        self.end_session(
            now,
            Ending {
                unsent: Unsent::ForNames,
                watchers: TerminationReason::Quarantined,
                asks: AskError::Quarantined,
            },
        );
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alloc::vec::Vec;

    pub(in crate::association) fn entry(uid: u64, deadline: Option<u64>) -> QuarantinedUid {
        QuarantinedUid {
            uid: ActorUid::new(uid),
            reason: QuarantineReason::ByOperator,
            since: Instant::from_millis(uid),
            deadline: deadline.map(Instant::from_millis),
        }
    }

    /// L21: below, at and above the limit.
    #[test]
    fn the_oldest_goes_and_the_newest_stays() {
        for count in [15_u64, 16, 17, 1_000] {
            let mut book = QuarantineBook::default();
            for uid in 1..=count {
                book.insert(entry(uid, None), 16);
            }
            assert_eq!(book.iter().count() as u64, count.min(16));
            assert!(book.get(ActorUid::new(count), Instant::ZERO).is_some());
            assert_eq!(book.get(ActorUid::new(1), Instant::ZERO).is_some(), count <= 16, "{count}");
            book.expire(Instant::from_millis(10_000_000), Duration::from_secs(3_600));
            assert_eq!(book.iter().map(|e| e.uid.get()).collect::<Vec<_>>(), [count]);
        }
    }

    #[test]
    fn a_deadline_ends_it() {
        let mut book = QuarantineBook::default();
        book.insert(entry(1, Some(100)), 16);
        assert!(book.get(ActorUid::new(1), Instant::from_millis(99)).is_some());
        assert!(book.get(ActorUid::new(1), Instant::from_millis(100)).is_none());
        book.expire(Instant::from_millis(100), Duration::from_secs(1));
        assert_eq!(book.iter().count(), 0);
    }
}
