//! When an association is of no use any more, and its node may drop it.

use nexus_actor_core::Instant;

use super::Association;
use super::event::{AssociationEvent, CloseReason, LostCause};
use super::state::AssociationState;
use super::timer::Timer;
use crate::wire::QuarantineReason;

impl Association {
    /// Whether nothing is lost with it, and it has been so for the forget timeout.
    ///
    /// Ask under the lock under which the association is then dropped: what [`AssociationEvent::Unused`] said may
    /// have changed since. Keep [`quarantined_uids`](Self::quarantined_uids).
    #[must_use]
    pub fn is_unused(&self, now: Instant) -> bool {
        self.is_idle() && now - self.last_used >= self.config.forget_timeout()
    }

    /// Whether it may be dropped before its time, when a node that may keep no more of them needs room: nothing
    /// waits in it, no connection serves it, its session is none or as old as an idle one, and it is not refused
    /// by an operator or for a while only.
    #[must_use]
    pub fn is_spare(&self, now: Instant) -> bool {
        let resting = self.session.is_none() || now - self.last_used >= self.config.idle_timeout();
        let held = matches!(
            self.state,
            AssociationState::Quarantined { reason: QuarantineReason::ByOperator, .. }
                | AssociationState::Quarantined { deadline: Some(_), .. }
        );
        self.is_idle() && resting && !held
    }

    /// Nothing waits, nothing is under way, nobody refers to it.
    fn is_idle(&self) -> bool {
        self.live.is_none()
            && self.links.is_empty()
            && self.closing.is_none()
            && !self.suspended
            && self.lane.is_empty()
            && self.system.is_empty()
            && !self.is_watched()
            && !self.peer_watches.has_notices()
            && self.asks.len() == 0
            && self.tables.len() == 0
    }

    pub(super) fn on_forget(&mut self, now: Instant) {
        let unused = now - self.last_used;
        let idle =
            self.lane.is_empty() && self.system.is_empty() && !self.is_watched() && self.asks.len() == 0;
        if self.live.is_none() && idle && unused >= self.config.forget_timeout() {
            self.drop_attempts(CloseReason::Idle);
            self.stop_attempts();
            if !self.suspended && !matches!(self.state, AssociationState::Quarantined { .. }) {
                // If it is kept, the next message starts an attempt anew.
                self.rest(now, LostCause::ByUs(CloseReason::Idle));
            }
            self.events.push_back(AssociationEvent::Unused);
            // The node may keep it all the same, and is asked again.
            self.timers.set(Timer::Forget, now + self.config.forget_timeout());
            return;
        }
        if self.live.is_none() {
            let left = self.config.forget_timeout().saturating_sub(unused);
            self.timers.set(Timer::Forget, now + left.max(self.config.idle_timeout()));
        }
    }
}
