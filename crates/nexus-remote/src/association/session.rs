//! The session: what begins and ends with it, and what becomes of it when its connection breaks.

use alloc::collections::VecDeque;

use nexus_actor_core::path::ActorUid;
use nexus_actor_core::{AskError, DeadLetterReason, Instant, Refusal, TerminationReason};

use super::event::{AssociationEvent, CloseReason, ConnectionId, LostCause};
use super::lane::{Fallen, Freed, Salvage, Which};
use super::link::{Phase, Resumption};
use super::send::refusal_of;
use super::state::{AssociationState, GateCause, SuspendCause};
use super::timer::Timer;
use super::{Association, Patience};
use crate::wire::{
    CapabilityFlags, ControlFrame, Envelope, OrdinaryFrame, RawFrame, RefuseReason, RemoteNodeId,
    SessionLimits,
};

/// One agreed run between two incarnations.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) remote: RemoteNodeId,
    pub(super) capabilities: CapabilityFlags,
    /// The number of the peer's ordinary frame expected next.
    pub(super) receive_next: u64,
    /// The number of the peer's system message expected next.
    pub(super) system_next: u64,
}

/// What a completed handshake agreed on.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) remote: RemoteNodeId,
    pub(super) session: u64,
    pub(super) resumption: Resumption,
    pub(super) receive_next: u64,
    pub(super) system_next: u64,
    pub(super) limits: SessionLimits,
    pub(super) capabilities: CapabilityFlags,
    pub(super) announced: u64,
}

/// The connection is down: what speaks for the peer's death.
#[derive(Clone, Copy, Debug)]
pub(super) struct Down {
    /// Since when no dial has failed in another way than being refused.
    pub(super) since: Instant,
    /// Some dial since then was refused.
    pub(super) refused: bool,
}

/// How a session is ended.
pub(super) struct Ending {
    /// What becomes of messages no connection was handed.
    pub(super) unsent: Unsent,
    pub(super) watchers: TerminationReason,
    pub(super) asks: AskError,
}

pub(super) enum Unsent {
    Lost(DeadLetterReason),
    /// What is for a name goes to the next session; the rest has no actor any more.
    ForNames,
}

impl Association {
    // Beginning

    /// A connection serves the association from now on.
    pub(super) fn adopt(&mut self, now: Instant, conn: ConnectionId, terms: Terms) {
        let was_live = self.live.take();
        if let Some(old) = was_live {
            self.close_link(old, CloseReason::Superseded);
            let uid = self.session.as_ref().map_or(ActorUid::ANY, |s| s.remote.uid());
            let cause = LostCause::ByUs(CloseReason::Superseded);
            self.events.push_back(AssociationEvent::Disconnected { uid, cause });
            self.lane.disconnect();
        }
        let uid = terms.remote.uid();
        let running = terms.resumption == Resumption::Running;
        if running {
            let freed = self.lane.resume(terms.receive_next);
            self.freed(freed);
            let budget = self.config.system_window();
            self.system.resume(terms.system_next, budget);
        } else {
            if let Some(old) = &self.session {
                let old = old.remote.uid();
                if old != uid {
                    self.events.push_back(AssociationEvent::Reincarnated { old, new: uid });
                }
                self.end_session(
                    now,
                    Ending {
                        unsent: Unsent::ForNames,
                        watchers: TerminationReason::Unreachable,
                        asks: AskError::Unreachable,
                    },
                );
            }
            self.backoff.reset();
            self.session = Some(Session {
                id: terms.session,
                remote: terms.remote.clone(),
                capabilities: terms.capabilities,
                receive_next: 0,
                system_next: 0,
            });
        }
        self.unconfirmed = None;
        self.claim = None;
        self.down = None;
        self.wish = false;
        self.reported_by_peer = false;
        self.refused_reason = None;
        if let Some(session) = &mut self.session {
            session.capabilities = terms.capabilities;
        }
        self.window = terms.limits.window_bytes as usize;
        self.frame_max = self.config.frame_max().min(terms.limits.frame_max);
        if !running && self.frame_max < self.config.frame_max() {
            let limit = self.frame_max as usize + 4;
            self.restart_lane(Which::Longer(limit), DeadLetterReason::TooLarge);
        }
        self.live = Some(conn);
        self.drop_attempts_except(conn);
        self.stop_attempts();
        for timer in [Timer::RefusedVerdict, Timer::FirstAnswer, Timer::QuarantineDeadline] {
            self.timers.stop(timer);
        }
        if let Some(link) = self.link(conn) {
            link.phase = Phase::Live;
            link.announced = terms.announced;
        }
        self.statistics.connections += 1;
        self.connected_at = now;
        self.last_heard = now;
        self.last_used = self.last_used.max(now);
        // The opener's first acknowledgement confirms the handshake; the acceptor's does no harm.
        self.acknowledge_now = true;
        self.acknowledge_bytes = 0;
        self.heartbeat_out = None;
        self.heartbeat_reply_out = None;
        self.timers.set(Timer::Idle, now + self.config.idle_timeout());
        self.timers.set(Timer::Liveness, now + self.config.liveness_interval());
        self.timers.stop(Timer::Forget);
        self.arm_system_timers(now);
        if self.suspended {
            self.enter(now, AssociationState::Suspended { cause: SuspendCause::ByHand });
        } else {
            self.enter(now, AssociationState::Connected { remote_id: terms.remote.clone() });
        }
        self.events.push_back(AssociationEvent::Associated {
            remote: terms.remote,
            session: terms.session,
            resumed: terms.resumption != Resumption::None,
            capabilities: terms.capabilities,
        });
        self.update_monitor(now);
        self.note_pressure();
        self.note_room();
        self.try_leave();
        self.wake_driver();
    }

    fn drop_attempts_except(&mut self, conn: ConnectionId) {
        self.dial_wanted = None;
        for link in &mut self.links {
            if link.id != conn && !matches!(link.phase, Phase::Closed) {
                link.close(CloseReason::Superseded);
            }
        }
    }

    // Ending

    /// Everything that belongs to the session ends with it, each part with its record.
    pub(super) fn end_session(&mut self, now: Instant, ending: Ending) {
        self.settle();
        self.era += 1;
        let (which, reason) = match ending.unsent {
            Unsent::Lost(reason) => (Which::All, reason),
            Unsent::ForNames => (Which::Bound, DeadLetterReason::NoSuchActor),
        };
        self.restart_lane(which, reason);
        for ask in self.asks.take_before(self.era) {
            let error = ending.asks.clone();
            self.events.push_back(AssociationEvent::AskFailed { ask, error });
        }
        let reason = match ending.asks {
            AskError::Quarantined => DeadLetterReason::Quarantined,
            AskError::Blocked => DeadLetterReason::Blocked,
            AskError::Shutdown => DeadLetterReason::Shutdown,
            _ => DeadLetterReason::Unreachable,
        };
        for message in self.system.take() {
            self.events.push_back(AssociationEvent::SystemMessageLost { message, reason });
        }
        let targets = match ending.unsent {
            Unsent::ForNames => self.watches.take_announced(),
            Unsent::Lost(_) => self.watches.take_all(),
        };
        let session = self.session.take().map_or(0, |s| s.id);
        self.tell_watchers(targets, &ending.watchers, session);
        let targets = self.peer_watches.take();
        if !targets.is_empty() {
            self.events.push_back(AssociationEvent::PeerWatchesEnded { targets });
        }
        self.unconfirmed = None;
        self.down = None;
        self.probing = false;
        self.overdue = false;
        self.heartbeat_out = None;
        self.heartbeat_reply_out = None;
        self.acknowledged_out = 0;
        self.system_acknowledge_now = false;
        self.frame_max = self.config.frame_max();
        self.window = usize::MAX;
        for timer in [
            Timer::Acknowledge,
            Timer::Unacknowledged,
            Timer::SystemResend,
            Timer::SystemGiveUp,
            Timer::RefusedVerdict,
            Timer::FirstAnswer,
        ] {
            self.timers.stop(timer);
        }
        self.stop_monitor();
        self.note_pressure();
        self.note_room();
        self.timers.set(Timer::Forget, now + self.config.forget_timeout());
    }

    /// Counts every acknowledgement that has arrived.
    fn settle(&mut self) {
        let before = (self.lane.messages(), self.lane.bytes());
        self.lane.count();
        self.freed(Freed { messages: before.0 - self.lane.messages(), bytes: before.1 - self.lane.bytes() });
    }

    /// Empties the lane. What was handed to a connection is *unconfirmed*; of the rest, what `which` takes is lost
    /// for `reason`, and what it leaves is framed anew.
    fn restart_lane(&mut self, which: Which, reason: DeadLetterReason) {
        let before = self.lane.messages();
        let mut remains = self.lane.take(self.tables.meanings());
        self.tables.restart();
        if before > 0 {
            let (acked, handed, next) = (remains.acked(), remains.handed(), remains.next());
            if acked < handed {
                let reason = DeadLetterReason::Unconfirmed;
                self.salvage.push_back(Salvage::new(remains.clone(), acked..handed, Which::All, reason));
            }
            if handed < next {
                self.salvage.push_back(Salvage::new(remains.clone(), handed..next, which, reason));
            }
            if which != Which::All {
                let whole = remains.clone();
                let mut left_out = VecDeque::new();
                while let Some(remnant) = remains.next_frame() {
                    if remnant.number < handed || !remnant.fallen.is_message {
                        continue;
                    }
                    let why = if which.takes(&remnant.fallen) {
                        reason
                    } else {
                        match self.frame_anew(&remnant.bytes[remnant.range.clone()], &remnant.fallen) {
                            Ok(()) => continue,
                            Err(refusal) => {
                                let why = refusal.reason();
                                left_out.push_back((remnant.number, why));
                                why
                            }
                        }
                    };
                    if let Some(ask) = remnant.fallen.ask.and_then(|key| self.asks.take(key)) {
                        let error = AskError::from_reason(why);
                        self.events.push_back(AssociationEvent::AskFailed { ask, error });
                    }
                }
                if !left_out.is_empty() {
                    self.salvage.push_back(Salvage::of(whole, left_out));
                }
            }
        }
        self.statistics.lost += (before - self.lane.messages()) as u64;
    }

    /// Writes a frame of an ended session into the new lane, with the new tables' numbers.
    ///
    /// # Errors
    /// It is not in the lane, and its ask is as it was. Whoever sent it may have given up the recipient's number since,
    /// and others may have taken the last.
    fn frame_anew(&mut self, frame: &[u8], fallen: &Fallen) -> Result<(), Refusal> {
        let raw = RawFrame::from_bytes(frame).map_err(refusal_of)?;
        let size = match (OrdinaryFrame::decode(raw).map_err(refusal_of)?, &fallen.recipient) {
            (OrdinaryFrame::Envelope(envelope), Some(recipient)) => {
                let (path, manifest) = (&recipient.path, recipient.manifest);
                let handle = self.tables.intern(path, recipient.serializer, manifest)?;
                let size = self.envelope_anew(envelope, handle);
                self.tables.release(handle);
                size?
            }
            (OrdinaryFrame::Envelope(_), None) => return Err(Refusal::NoSuchActor),
            _ => {
                self.lane.buffer().extend_from_slice(frame);
                frame.len()
            }
        };
        self.lane.commit(size, true);
        if let Some(key) = fallen.ask {
            self.asks.carry(key, self.era);
        }
        Ok(())
    }

    /// Appends an envelope to the lane's buffer, addressed by the number of `handle`; returns its size.
    fn envelope_anew(&mut self, envelope: Envelope<'_>, handle: u32) -> Result<usize, Refusal> {
        let assigned = self.tables.assign(handle, self.lane.next())?;
        self.define(&assigned)?;
        let envelope = Envelope { recipient: assigned.reference, manifest: assigned.manifest, ..envelope };
        let buffer = self.lane.buffer();
        let start = buffer.len();
        envelope.encode(buffer);
        Ok(buffer.len() - start)
    }

    /// Records everything that waits, without a session or beside one.
    pub(super) fn lose_queue(&mut self, now: Instant, reason: DeadLetterReason) {
        if self.session.is_some() {
            let (remains, freed) = self.lane.take_unsent(self.tables.meanings());
            if freed.messages > 0 {
                let numbers = remains.handed()..remains.next();
                let mut walk = Salvage::new(remains.clone(), numbers.clone(), Which::All, reason);
                while let Some((fallen, _)) = walk.next() {
                    if let Some(ask) = fallen.ask.and_then(|key| self.asks.take(key)) {
                        let error = AskError::from_reason(reason);
                        self.events.push_back(AssociationEvent::AskFailed { ask, error });
                    }
                }
                self.salvage.push_back(Salvage::new(remains, numbers, Which::All, reason));
                self.statistics.lost += freed.messages as u64;
            }
            self.note_pressure();
            self.note_room();
            return;
        }
        self.end_session(
            now,
            Ending {
                unsent: Unsent::Lost(reason),
                watchers: TerminationReason::Unreachable,
                asks: AskError::from_reason(reason),
            },
        );
    }

    /// The attempts are over until something is sent.
    pub(super) fn give_up(&mut self, now: Instant, cause: GateCause) {
        let attempts = self.backoff.attempt();
        self.drop_attempts(CloseReason::TimedOut);
        self.stop_attempts();
        self.wish = false;
        let blocked = GateCause::Refused(RefuseReason::Blocked);
        let reason = if cause == blocked { DeadLetterReason::Blocked } else { DeadLetterReason::Unreachable };
        self.end_session(
            now,
            Ending {
                unsent: Unsent::Lost(reason),
                watchers: TerminationReason::Unreachable,
                asks: AskError::from_reason(reason),
            },
        );
        self.backoff.reset();
        self.enter(now, AssociationState::Unassociated);
        self.events.push_back(AssociationEvent::GivenUp { attempts, cause });
    }

    /// The connection that served is gone.
    pub(super) fn on_live_lost(&mut self, now: Instant, cause: LostCause) {
        self.live = None;
        let uid = self.session.as_ref().map_or(ActorUid::ANY, |s| s.remote.uid());
        self.events.push_back(AssociationEvent::Disconnected { uid, cause });
        self.lane.disconnect();
        for timer in
            [Timer::Acknowledge, Timer::Unacknowledged, Timer::SystemResend, Timer::Idle, Timer::Liveness]
        {
            self.timers.stop(timer);
        }
        self.probing = false;
        self.overdue = false;
        self.heartbeat_out = None;
        self.heartbeat_reply_out = None;
        self.driver_idle = true;
        if self.closing.is_some() {
            return self.finish_leave(now, false);
        }
        self.down = Some(Down { since: now, refused: false });
        if let Some(verdict) = self.config.refused_verdict()
            && self.is_watched()
        {
            self.timers.set(Timer::RefusedVerdict, now + verdict);
        }
        self.update_monitor(now);
        if self.config.patience() == Patience::Drop {
            self.lose_queue(now, DeadLetterReason::Unreachable);
        }
        self.timers.set(Timer::Forget, now + self.config.forget_timeout());
        if self.suspended {
            return;
        }
        self.enter(now, AssociationState::Suspended { cause: SuspendCause::Lost(cause) });
        // A connection that had carried something lately was not closed for being idle.
        let recent = now - self.last_used < self.config.liveness_interval();
        let by_us = matches!(cause, LostCause::ByUs(CloseReason::Idle));
        if !self.wants_connection() && (!recent || by_us) {
            return;
        }
        self.wish = true;
        if now - self.connected_at < self.config.heartbeat_interval() {
            // It broke as soon as it was made: that is no reason to hurry, but the host is up.
            self.retry(now, GateCause::Unstable, true);
        } else {
            self.backoff.reset();
            self.start_dial(now);
        }
    }

    /// Closes the connection that serves, as if it had broken.
    pub(super) fn close_live(&mut self, now: Instant, reason: CloseReason) {
        if let Some(conn) = self.live {
            self.close_link(conn, reason);
            self.on_live_lost(now, LostCause::ByUs(reason));
        }
    }

    /// Writes a last frame to the connection that serves and closes it behind that.
    pub(super) fn say_goodbye(
        &mut self,
        _now: Instant,
        reason: CloseReason,
        frame: impl FnOnce(ActorUid) -> ControlFrame,
    ) {
        let Some(conn) = self.live.take() else { return };
        let uid = self.session.as_ref().map_or(ActorUid::ANY, |s| s.remote.uid());
        if let Some(link) = self.link(conn) {
            frame(uid).encode(&mut link.out);
            link.close(reason);
        }
        self.events.push_back(AssociationEvent::Disconnected { uid, cause: LostCause::ByUs(reason) });
        self.lane.disconnect();
        for timer in [Timer::Idle, Timer::Liveness] {
            self.timers.stop(timer);
        }
        self.wake_driver();
    }
}
