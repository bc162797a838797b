//! Leaving in order, of this node and of the peer.

use nexus_actor_core::path::ActorUid;
use nexus_actor_core::{AskError, DeadLetterReason, Instant, TerminationReason};

use super::Association;
use super::event::{AssociationEvent, CloseReason, LostCause};
use super::link::{Link, Phase};
use super::session::{Ending, Unsent};
use super::state::AssociationState;
use super::timer::{Timer, TimerTable};
use crate::wire::{ControlFrame, QuarantineReason};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Waiting until everything is acknowledged.
    Flushing,
    /// The goodbye is said.
    Left,
}

impl Association {
    /// Leaves in order: what was accepted is delivered, the peer is told, and [`AssociationEvent::Closed`] follows
    /// within the flush timeout. Nothing more is accepted and nothing is dialled; a dial or a handshake under way goes on
    /// if something waits for it.
    pub fn leave(&mut self, now: Instant) {
        if self.closing.is_some() || self.closed {
            return;
        }
        self.closing = Some(Closing::Flushing);
        self.timers.set(Timer::Leave, now + self.config.flush_timeout());
        self.note_room();
        if self.live.is_none() && self.is_nearly_there() {
            // Its end, good or bad, brings the end of this.
            return;
        }
        self.drop_attempts(CloseReason::Left);
        self.stop_attempts();
        if self.live.is_none() {
            return self.finish_leave(now, self.lane.is_empty() && self.system.is_empty());
        }
        self.try_leave();
        self.wake_driver();
    }

    /// Whether the connection that what waits is to go by is being made.
    fn is_nearly_there(&self) -> bool {
        let waits = !self.lane.is_empty() || !self.system.is_empty();
        let held_back = self.suspended || matches!(self.state, AssociationState::Quarantined { .. });
        let under_way = |link: &Link| match link.phase {
            // It may wait for its turn to be dialled: that would be a new connection.
            Phase::Dialling => self.dial_wanted != Some(link.id),
            Phase::Requested(_) | Phase::Answered(_) => true,
            Phase::Parked(..) | Phase::Live | Phase::Closed => false,
        };
        waits && !held_back && self.links.iter().any(|link| link.closing.is_none() && under_way(link))
    }

    /// Says goodbye once nothing waits for an acknowledgement.
    pub(super) fn try_leave(&mut self) {
        if self.closing == Some(Closing::Flushing)
            && self.lane.is_empty()
            && !self.system.has_unacknowledged()
            && !self.system.has_queued()
            && !self.peer_watches.has_notices()
        {
            self.closing = Some(Closing::Left);
            self.leave_out = true;
            self.wake_driver();
        }
    }

    pub(super) fn finish_leave(&mut self, now: Instant, clean: bool) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.closing = None;
        if let Some(conn) = self.live.take() {
            self.close_link(conn, if clean { CloseReason::Left } else { CloseReason::Aborted });
            let uid = self.session.as_ref().map_or(ActorUid::ANY, |s| s.remote.uid());
            let cause = LostCause::ByUs(CloseReason::Left);
            self.events.push_back(AssociationEvent::Disconnected { uid, cause });
        }
        self.drop_attempts(CloseReason::Aborted);
        self.stop_attempts();
        self.end_session(
            now,
            Ending {
                unsent: Unsent::Lost(DeadLetterReason::Shutdown),
                watchers: TerminationReason::Shutdown,
                asks: AskError::Shutdown,
            },
        );
        self.timers = TimerTable::default();
        self.enter(now, AssociationState::Unassociated);
        self.events.push_back(AssociationEvent::Closed { clean });
        self.wake_driver();
    }

    /// Ends everything at once; what is not delivered is recorded as *shutdown*.
    pub fn abort(&mut self, now: Instant) {
        self.finish_leave(now, false);
    }

    /// The peer leaves in order.
    pub(super) fn on_leave(&mut self, now: Instant, uid: ActorUid) {
        if self.session.as_ref().is_none_or(|s| s.remote.uid() != uid) {
            self.statistics.frames_ignored += 1;
            return;
        }
        if self.closing.is_some() {
            // Both leave: nothing of ours can arrive any more.
            self.say_goodbye(now, CloseReason::Left, |_| ControlFrame::Left);
            let clean = self.lane.is_empty() && self.system.is_empty();
            return self.finish_leave(now, clean);
        }
        self.events.push_back(AssociationEvent::Left { uid });
        self.say_goodbye(now, CloseReason::Left, |_| ControlFrame::Left);
        self.drop_attempts(CloseReason::Left);
        self.stop_attempts();
        self.remember(now, uid, QuarantineReason::Left);
        self.suspended = false;
        self.end_session(
            now,
            Ending {
                unsent: Unsent::ForNames,
                watchers: TerminationReason::Left,
                asks: AskError::Unreachable,
            },
        );
        // Its uid is closed; whoever comes next at the address is welcome, and what waits for a name goes there.
        self.enter(now, AssociationState::Unassociated);
        self.backoff.reset();
        self.connect_if_needed(now);
    }
}
