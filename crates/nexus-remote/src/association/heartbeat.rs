//! When the peer is asked for signs of life, and what follows from their absence.

use alloc::format;

use nexus_actor_core::Instant;

use super::Association;
use super::event::{AssociationEvent, CloseReason};
use super::timer::Timer;
use crate::failure_detector::{Judge, PeerHealth};
use crate::wire::QuarantineReason;

impl Association {
    /// Takes over the monitor's next deadline: it is costly to compute, so not for every poll.
    pub(super) fn arm_heartbeat(&mut self) {
        match self.monitor.poll_timeout() {
            Some(at) => self.timers.set(Timer::Heartbeat, at),
            None => self.timers.stop(Timer::Heartbeat),
        }
    }

    pub(super) fn stop_monitor(&mut self) {
        self.monitor.stop();
        self.timers.stop(Timer::Heartbeat);
    }

    pub(super) fn on_heartbeat(&mut self, now: Instant) {
        let tick = self.monitor.heartbeat_tick(now);
        self.arm_heartbeat();
        if let Some(beat) = tick.heartbeat
            && self.live.is_some()
        {
            self.heartbeat_out = Some(beat.seq);
            self.wake_driver();
        }
        let Some(health) = tick.changed else { return };
        self.tell_health(now, health);
        if health != PeerHealth::Suspect {
            return;
        }
        if self.is_watched() {
            let facts =
                format!("no heartbeat was answered, suspicion {:.1}", self.monitor.snapshot(now).suspicion);
            self.quarantine_for(now, QuarantineReason::Unreachable, facts);
        } else if self.live.is_some() {
            // Nobody is waiting for news: the connection may be dead, the peer need not be.
            self.stop_monitor();
            let reason = if self.probing { CloseReason::Idle } else { CloseReason::Silent };
            self.close_live(now, reason);
        } else {
            self.stop_monitor();
        }
    }

    /// Before anything follows from it: the monitor begins anew with the next session.
    pub(super) fn tell_health(&mut self, now: Instant, health: PeerHealth) {
        let Some(session) = &self.session else { return };
        let (uid, suspicion) = (session.remote.uid(), self.monitor.snapshot(now).suspicion);
        self.events.push_back(AssociationEvent::Health { health, uid, suspicion });
    }

    /// Whether something is watched across the association, in either direction.
    pub(super) fn is_watched(&self) -> bool {
        !self.watches.is_empty() || !self.peer_watches.is_empty()
    }

    /// Heartbeats run while something is watched or unacknowledged.
    pub(super) fn update_monitor(&mut self, now: Instant) {
        let Some(session) = &self.session else {
            self.stop_monitor();
            return;
        };
        let judge = if self.is_watched() { Judge::Watch } else { Judge::Connection };
        let waiting =
            self.live.is_some() && (self.overdue || self.probing || self.system.has_unacknowledged());
        if self.is_watched() || waiting {
            let uid = session.remote.uid();
            let started = !self.monitor.is_running();
            let other = self.monitor.judge_by(judge);
            self.monitor.start(now, uid);
            if started {
                self.on_heartbeat(now);
            } else if other {
                self.arm_heartbeat();
            }
            if self.live.is_none()
                && self.is_watched()
                && let Some(down) = &self.down
                && let Some(verdict) = self.config.refused_verdict()
            {
                self.timers.start(Timer::RefusedVerdict, down.since + verdict);
            }
        } else if self.monitor.is_running() {
            self.stop_monitor();
        }
    }

    pub(super) fn on_liveness(&mut self, now: Instant) {
        if self.live.is_none() {
            return;
        }
        let silence = now - self.last_heard;
        if silence >= self.config.liveness_interval() {
            self.probing = true;
            self.update_monitor(now);
            self.timers.set(Timer::Liveness, now + self.config.liveness_interval());
        } else {
            self.timers.set(Timer::Liveness, self.last_heard + self.config.liveness_interval());
        }
    }

    /// The second kind of evidence: the connection closed, and for a while every dial was refused.
    pub(super) fn judge_refused(&mut self, now: Instant) {
        let (Some(down), Some(verdict)) = (self.down, self.config.refused_verdict()) else { return };
        if self.live.is_some() || self.session.is_none() || !self.is_watched() {
            return;
        }
        if down.refused && now - down.since >= verdict {
            let facts = format!("the connection closed and every dial for {verdict:?} was refused");
            self.quarantine_for(now, QuarantineReason::Unreachable, facts);
        }
    }
}
