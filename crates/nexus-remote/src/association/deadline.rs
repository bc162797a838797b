//! What happens when a deadline has passed.

use alloc::format;

use nexus_actor_core::{Instant, TerminationReason};

use super::Association;
use super::event::CloseReason;
use super::state::{AssociationState, GateCause};
use super::timer::Timer;
use crate::wire::QuarantineReason;

impl Association {
    /// A deadline has passed. Calling it early or late, or for nothing, is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expire(now) {
            self.on_timer(now, timer);
        }
    }

    fn on_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Dial => self.on_dial_timer(now),
            Timer::DialDeadline => self.on_dial_deadline(now),
            Timer::HandshakeRetry => self.on_handshake_retry(now),
            Timer::HandshakeDeadline => self.on_handshake_deadline(now),
            // It waits for its turn to be dialled for the first time: nothing is known of it.
            Timer::NeverReached if self.dial_wanted.is_some() && self.backoff.attempt() == 1 => {
                self.timers.set(Timer::NeverReached, now + self.config.connect_timeout());
            }
            Timer::NeverReached => {
                if self.session.is_none() && self.live.is_none() {
                    let cause = match self.state {
                        AssociationState::Gated { cause, .. } => cause,
                        _ => GateCause::Handshake,
                    };
                    self.give_up(now, cause);
                }
            }
            Timer::Acknowledge => {
                self.acknowledge_now = true;
                self.wake_driver();
            }
            Timer::Unacknowledged => {
                self.overdue = self.lane.has_unacknowledged();
                self.update_monitor(now);
            }
            Timer::Heartbeat => self.on_heartbeat(now),
            Timer::SystemResend => {
                if self.system.has_unacknowledged() && self.live.is_some() {
                    self.system.rewind(self.config.system_resend_max());
                    self.arm_system_timers(now);
                    self.wake_driver();
                }
            }
            Timer::SystemGiveUp => self.on_system_give_up(now),
            // That it runs no more is what it is for.
            Timer::SystemAllowance => {}
            Timer::Idle => self.on_idle(now),
            Timer::Liveness => self.on_liveness(now),
            Timer::RefusedVerdict => self.judge_refused(now),
            Timer::FirstAnswer => {
                if self.session.is_none() {
                    let targets = self.watches.take_all();
                    self.tell_watchers(targets, &TerminationReason::Unreachable, 0);
                }
            }
            Timer::QuarantineDeadline => {
                if let AssociationState::Quarantined { uid, .. } = self.state {
                    self.book.expire(now, self.config.quarantine_memory());
                    self.lifted(now, uid);
                }
            }
            Timer::Leave => self.finish_leave(now, false),
            Timer::Forget => self.on_forget(now),
        }
    }

    pub(super) fn arm_system_timers(&mut self, now: Instant) {
        if self.live.is_some() && self.system.has_unacknowledged() {
            self.timers.start(Timer::SystemResend, now + self.config.system_resend());
        } else {
            self.timers.stop(Timer::SystemResend);
        }
        match self.system.oldest() {
            Some(since) => self.timers.set(Timer::SystemGiveUp, since + self.config.system_give_up()),
            None => self.timers.stop(Timer::SystemGiveUp),
        }
        self.update_monitor(now);
    }

    fn on_system_give_up(&mut self, now: Instant) {
        let Some(oldest) = self.system.oldest() else { return };
        let age = now - oldest;
        if age < self.config.system_give_up() {
            return self.arm_system_timers(now);
        }
        if self.session.is_none() {
            return self.give_up(now, GateCause::Handshake);
        }
        let facts = format!("{} system messages wait, the oldest for {age:?}", self.system.len());
        self.quarantine_for(now, QuarantineReason::SystemMessageUndelivered, facts);
    }

    fn on_idle(&mut self, now: Instant) {
        if self.live.is_none() {
            return;
        }
        let quiet = now - self.last_used;
        let busy = self.is_watched()
            || !self.lane.is_empty()
            || !self.system.is_empty()
            || self.watches.has_changes()
            || self.peer_watches.has_notices()
            || self.asks.len() > 0
            || self.suspended;
        if busy || quiet < self.config.idle_timeout() {
            let at = if busy { now } else { self.last_used };
            self.timers.set(Timer::Idle, at + self.config.idle_timeout());
            return;
        }
        self.close_live(now, CloseReason::Idle);
        self.lane.shrink();
    }
}
