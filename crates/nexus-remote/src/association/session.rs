//! The session: what begins and ends with it, what passes on its connection, and the deadlines that watch it.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use nexus_actor_core::path::ActorUid;
use nexus_actor_core::remote::{PendingReply, ReplyKey};
use nexus_actor_core::{AskError, DeadLetterReason, Instant, TerminationReason};

use super::event::{AssociationEvent, CloseReason, ConnectionId, LostCause, TerminationNotice};
use super::lane::{Freed, Salvage, Which};
use super::link::{Phase, Resumption};
use super::quarantine::QuarantinedUid;
use super::state::{AssociationState, GateCause, SuspendCause};
use super::timer::Timer;
use super::watch::{PeerWatch, Target};
use super::{Association, Closing, Patience, Transmit};
use crate::failure_detector::PeerHealth;
use crate::wire::{
    Acknowledge, CapabilityFlags, ControlFrame, Envelope, OrdinaryFrame, QuarantineReason, RawFrame,
    RemoteNodeId, SessionLimits, SystemMessage,
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
struct Ending {
    /// What becomes of messages no connection was handed.
    unsent: Unsent,
    watchers: TerminationReason,
    asks: AskError,
}

enum Unsent {
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
    fn end_session(&mut self, now: Instant, ending: Ending) {
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

    fn tell_watchers(
        &mut self,
        targets: impl IntoIterator<Item = Target>,
        reason: &TerminationReason,
        session: u64,
    ) {
        for target in targets {
            self.events.push_back(AssociationEvent::Terminated(TerminationNotice {
                target: target.path,
                watchers: target.watchers.into_iter().collect(),
                reason: reason.clone(),
                session,
                // The session is over: nothing can still arrive that it should wait for.
                after: 0,
            }));
        }
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
                while let Some(remnant) = remains.next_frame() {
                    if remnant.number < handed || !remnant.fallen.is_message {
                        continue;
                    }
                    if !which.takes(&remnant.fallen) {
                        self.frame_anew(&remnant.bytes[remnant.range.clone()], &remnant.fallen);
                    } else if let Some(ask) = remnant.fallen.ask.and_then(|key| self.asks.take(key)) {
                        let error = AskError::from_reason(reason);
                        self.events.push_back(AssociationEvent::AskFailed { ask, error });
                    }
                }
            }
        }
        self.statistics.lost += (before - self.lane.messages()) as u64;
    }

    /// Writes a frame of an ended session into the new lane, with the new tables' numbers.
    fn frame_anew(&mut self, frame: &[u8], fallen: &super::Fallen) {
        let Ok(raw) = RawFrame::from_bytes(frame) else { return };
        if let Some(key) = fallen.ask {
            self.asks.carry(key, self.era);
        }
        let Ok(decoded) = OrdinaryFrame::decode(raw) else { return };
        let size = match (decoded, &fallen.recipient) {
            (OrdinaryFrame::Envelope(envelope), Some(recipient)) => {
                let (path, manifest) = (&recipient.path, recipient.manifest);
                let Ok(handle) = self.tables.intern(path, recipient.serializer, manifest) else { return };
                let assigned = self.tables.assign(handle, self.lane.next());
                let size = match assigned {
                    Ok(assigned) => {
                        if self.define(&assigned).is_err() {
                            return;
                        }
                        let envelope = Envelope {
                            recipient: assigned.reference,
                            manifest: assigned.manifest,
                            ..envelope
                        };
                        let buffer = self.lane.buffer();
                        let start = buffer.len();
                        envelope.encode(buffer);
                        buffer.len() - start
                    }
                    Err(_) => return,
                };
                self.tables.release(handle);
                size
            }
            (OrdinaryFrame::Envelope(_), None) => return,
            _ => {
                self.lane.buffer().extend_from_slice(frame);
                frame.len()
            }
        };
        self.lane.commit(size, true);
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
        let blocked = GateCause::Refused(crate::wire::RefuseReason::Blocked);
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

    // Quarantine

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

    fn remember(&mut self, now: Instant, uid: ActorUid, reason: QuarantineReason) -> Option<Instant> {
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

    /// Writes a last frame to the connection that serves and closes it behind that.
    fn say_goodbye(
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

    /// Ends the quarantine: a new session may be agreed, also with the same incarnation.
    pub fn recover(&mut self, now: Instant) {
        let AssociationState::Quarantined { uid, .. } = self.state else { return };
        if let Some(uid) = uid {
            self.book.remove(uid);
        }
        self.lifted(now, uid);
    }

    fn lifted(&mut self, now: Instant, uid: Option<ActorUid>) {
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

    /// What the driver read on `conn` breaks the protocol; `facts` say how. A connection in handshake is closed;
    /// one that serves ends its session, since the same bytes would come again.
    pub fn handle_fault(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        reason: QuarantineReason,
        facts: &dyn core::fmt::Display,
    ) {
        if self.live == Some(conn) {
            self.quarantine_for(now, reason, format!("the peer broke the protocol: {facts}"));
            return;
        }
        let Some(link) = self.link(conn) else { return };
        let attempt = matches!(link.phase, Phase::Requested(_) | Phase::Answered(_));
        link.close(CloseReason::ProtocolFault);
        if attempt {
            self.attempt_failed(now, GateCause::Handshake, false);
        }
        self.wake_driver();
    }

    // Leaving

    /// Leaves in order: what was accepted is delivered, the peer is told, and [`AssociationEvent::Closed`] follows
    /// within the flush timeout. Nothing more is accepted and nothing is dialled.
    pub fn leave(&mut self, now: Instant) {
        if self.closing.is_some() || self.closed {
            return;
        }
        self.closing = Some(Closing::Flushing);
        self.timers.set(Timer::Leave, now + self.config.flush_timeout());
        self.drop_attempts(CloseReason::Left);
        self.stop_attempts();
        self.note_room();
        if self.live.is_none() {
            return self.finish_leave(now, self.lane.is_empty() && self.system.is_empty());
        }
        self.try_leave();
        self.wake_driver();
    }

    /// Says goodbye once nothing waits for an acknowledgement.
    fn try_leave(&mut self) {
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
        self.timers = super::TimerTable::default();
        self.enter(now, AssociationState::Unassociated);
        self.events.push_back(AssociationEvent::Closed { clean });
        self.wake_driver();
    }

    /// Ends everything at once; what is not delivered is recorded as *shutdown*.
    pub fn abort(&mut self, now: Instant) {
        self.finish_leave(now, false);
    }

    /// The peer leaves in order.
    fn on_leave(&mut self, now: Instant, uid: ActorUid) {
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

    // Input of the connection

    /// A control frame arrived on `conn`; a request on an accepted connection goes to
    /// [`handle_accepted`](Self::handle_accepted) first.
    pub fn handle_control(&mut self, now: Instant, conn: ConnectionId, frame: ControlFrame) {
        match frame {
            ControlFrame::Ack(ack) => self.on_ack(now, conn, *ack),
            ControlFrame::Refuse(refuse) => self.on_refuse(now, conn, *refuse),
            ControlFrame::Request(request) => self.on_repeated_request(conn, &request),
            ControlFrame::Acknowledge(acknowledge) if self.live != Some(conn) => {
                self.on_confirmed(now, conn, acknowledge.session);
            }
            other if self.live == Some(conn) => self.on_control(now, other),
            // Nothing passes before the handshake completes, and nothing from a connection that was given up.
            _ => self.statistics.frames_ignored += 1,
        }
    }

    fn on_control(&mut self, now: Instant, frame: ControlFrame) {
        self.last_heard = now;
        let Some(session) = &mut self.session else { return };
        match frame {
            ControlFrame::Heartbeat { uid, seq } => {
                if uid == session.remote.uid() {
                    self.heartbeat_reply_out = Some(seq);
                    self.wake_driver();
                }
            }
            ControlFrame::HeartbeatReply { uid, seq } => {
                let (_, changed) = self.monitor.handle_reply(now, uid, seq);
                self.arm_heartbeat();
                if let Some(health) = changed {
                    self.events.push_back(AssociationEvent::Health(health));
                }
                if core::mem::take(&mut self.probing) {
                    self.update_monitor(now);
                }
            }
            ControlFrame::Acknowledge(acknowledge) => {
                if acknowledge.session == session.id {
                    self.on_acknowledge(acknowledge.next);
                } else {
                    self.statistics.frames_ignored += 1;
                }
            }
            ControlFrame::System { seq, message } => self.on_system(now, seq, message),
            ControlFrame::SystemAcknowledge { session: id, next } => {
                let budget = self.config.system_resend_max();
                if id == session.id && self.system.acknowledge(next, budget) {
                    self.timers.stop(Timer::SystemResend);
                    self.timers.stop(Timer::SystemGiveUp);
                    self.arm_system_timers(now);
                    self.try_leave();
                    self.wake_driver();
                } else {
                    self.statistics.frames_ignored += 1;
                }
            }
            ControlFrame::Quarantined { uid, reason } => {
                if uid == self.local.uid() {
                    self.ended_by_peer(now, reason);
                    self.retry(now, GateCause::Refused(crate::wire::RefuseReason::Quarantined), false);
                }
            }
            ControlFrame::Leave { uid } => self.on_leave(now, uid),
            ControlFrame::Left => {
                if self.closing == Some(Closing::Left) {
                    self.finish_leave(now, true);
                }
            }
            ControlFrame::Request(_) | ControlFrame::Ack(_) | ControlFrame::Refuse(_) => {
                self.statistics.frames_ignored += 1;
            }
        }
    }

    fn on_acknowledge(&mut self, next: u64) {
        // Exact counts matter only when a bound is near; else whole chunks are counted when they are done with.
        let near = self.lane.messages() > self.config.lane_messages_max() / 2
            || self.lane.bytes() > self.config.lane_bytes_max() / 2
            || self.lane.bytes() > self.window / 2;
        let stalled = self.lane.has_waiting();
        let freed = self.lane.acknowledge(next, near);
        self.freed(freed);
        if !self.lane.has_unacknowledged() {
            self.timers.stop(Timer::Unacknowledged);
            self.overdue = false;
        }
        self.try_leave();
        if stalled {
            self.wake_driver();
        }
    }

    fn on_system(&mut self, now: Instant, seq: u64, message: SystemMessage) {
        self.system_acknowledge_now = true;
        self.last_used = now;
        self.wake_driver();
        let Some(session) = &mut self.session else { return };
        if seq != session.system_next {
            // Earlier: a repetition, acknowledged again. Later: one is missing, and will be sent again.
            self.statistics.frames_ignored += 1;
            return;
        }
        session.system_next += 1;
        let id = session.id;
        match message {
            SystemMessage::Watch { path, uid } => {
                let (max, after) = (self.config.watches_max(), self.lane.next());
                match self.peer_watches.watch(&path, uid, max, after) {
                    PeerWatch::New => {
                        self.events.push_back(AssociationEvent::WatchRequested { path, uid });
                        self.update_monitor(now);
                    }
                    PeerWatch::Done => {}
                    PeerWatch::Overflow => {
                        let facts = String::from("the peer watches without reading the notices");
                        self.quarantine_for(now, QuarantineReason::SystemBufferFull, facts);
                    }
                }
            }
            SystemMessage::Unwatch { path, uid } => {
                if self.peer_watches.unwatch(&path, uid) {
                    self.events.push_back(AssociationEvent::UnwatchRequested { path, uid });
                    self.update_monitor(now);
                }
            }
            SystemMessage::Terminated { path, uid, reason, after } => {
                if let Some(target) = self.watches.terminated(&path, uid) {
                    self.events.push_back(AssociationEvent::Terminated(TerminationNotice {
                        target: target.path,
                        watchers: target.watchers.into_iter().collect(),
                        reason,
                        session: id,
                        after,
                    }));
                    self.update_monitor(now);
                }
            }
            SystemMessage::Stop { path, uid } => {
                self.events.push_back(AssociationEvent::StopRequested { path, uid });
            }
        }
    }

    /// Ordinary frames of `conn` have been taken: `next` is the receiving side's next expected number, `bytes` what
    /// was read since the last call, `dry` whether the socket has no more for now.
    pub fn handle_received(&mut self, now: Instant, conn: ConnectionId, next: u64, bytes: usize, dry: bool) {
        if self.live != Some(conn) {
            return;
        }
        let Some(session) = &mut self.session else { return };
        self.last_heard = now;
        if next <= session.receive_next {
            // Control traffic, or part of a frame. Acknowledging that would be answered in turn, for ever.
            return;
        }
        session.receive_next = next;
        self.last_used = now;
        self.acknowledge_bytes += bytes;
        if self.acknowledge_bytes >= self.config.acknowledge_bytes() as usize {
            self.acknowledge_now = true;
            self.wake_driver();
        } else if dry && self.acknowledge_bytes > 0 {
            self.timers.start(Timer::Acknowledge, now + self.config.acknowledge_delay());
        }
    }

    /// An answer to an ask of this node arrived, over whichever association the node found by the slot's upper
    /// half. Complete or fail what is returned outside the lock; `None` when the answer is late, repeated or
    /// was never asked for.
    #[must_use = "to be completed outside the lock"]
    pub fn handle_reply(&mut self, key: ReplyKey) -> Option<Arc<dyn PendingReply>> {
        let ask = self.asks.take(key);
        if ask.is_none() {
            self.statistics.answers_ignored += 1;
        }
        ask
    }

    // Output of the connection

    /// Fills `out` with the next bytes for `conn`; false when there are none. What was in `out` is discarded.
    ///
    /// Control frames come first and are made here, so that they are fresh; a turn is bounded. The driver may
    /// drop what it could not write with its connection.
    pub fn poll_transmit(&mut self, now: Instant, conn: ConnectionId, out: &mut Transmit) -> bool {
        out.clear();
        let live = self.live == Some(conn);
        let Some(link) = self.link(conn) else { return false };
        out.head.append(&mut link.out);
        if live && link.closing.is_none() {
            self.transmit_control(now, out);
            if !self.suspended {
                self.transmit_ordinary(now, out);
            }
            if out.is_empty() {
                self.driver_idle = true;
            }
        }
        !out.is_empty()
    }

    fn transmit_control(&mut self, now: Instant, out: &mut Transmit) {
        let Some(session) = &self.session else { return };
        let (id, uid) = (session.id, self.local.uid());
        if let Some(seq) = self.heartbeat_reply_out.take() {
            ControlFrame::HeartbeatReply { uid, seq }.encode(&mut out.head);
        }
        if let Some(seq) = self.heartbeat_out.take() {
            ControlFrame::Heartbeat { uid, seq }.encode(&mut out.head);
        }
        let next = session.receive_next;
        // An acknowledgement that is not due yet rides along with whatever goes out.
        let rides = next > self.acknowledged_out && (self.lane.has_waiting() || !out.is_empty());
        if core::mem::take(&mut self.acknowledge_now) || rides {
            let acknowledge = Acknowledge {
                session: id,
                next,
                credit_messages: Acknowledge::UNLIMITED,
                credit_bytes: Acknowledge::UNLIMITED,
            };
            ControlFrame::Acknowledge(acknowledge).encode(&mut out.head);
            self.acknowledged_out = next;
            self.acknowledge_bytes = 0;
            self.timers.stop(Timer::Acknowledge);
        }
        if core::mem::take(&mut self.system_acknowledge_now) {
            let next = session.system_next;
            ControlFrame::SystemAcknowledge { session: id, next }.encode(&mut out.head);
        }
        if !self.suspended {
            self.transmit_system(now, out);
        }
        if core::mem::take(&mut self.leave_out) {
            ControlFrame::Leave { uid }.encode(&mut out.head);
        }
    }

    fn transmit_system(&mut self, now: Instant, out: &mut Transmit) {
        // Half of a turn, so that user frames move on beside a flood of watches.
        let bound = out.head.len() + self.config.turn_bytes_max() / 2;
        let window = self.config.system_window();
        let mut sent = false;
        while out.head.len() < bound {
            if let Some((seq, message)) = self.system.next_to_send() {
                ControlFrame::System { seq, message: message.clone() }.encode(&mut out.head);
                sent = true;
                continue;
            }
            if self.system.has_sendable() || !self.system.has_room(window) || self.system_blocked() {
                break;
            }
            if self.system.pull_queued() {
                continue;
            }
            let wanted = match self.peer_watches.pull() {
                Some(notice) => Some(notice),
                // Who leaves has no use for news.
                None if self.closing.is_some() => None,
                None => self.watches.pull(),
            };
            match wanted {
                Some(message) => self.system.push(now, message),
                None => break,
            }
        }
        if sent {
            self.timers.stop(Timer::SystemResend);
        }
        self.arm_system_timers(now);
        self.try_leave();
    }

    /// Whether the round's budget is used up: nothing new is sent before what is missing.
    fn system_blocked(&self) -> bool {
        self.system.is_behind()
    }

    fn transmit_ordinary(&mut self, now: Instant, out: &mut Transmit) {
        let turn = out.head.len() + self.config.turn_bytes_max();
        let before = self.lane.has_unacknowledged();
        out.run = self.lane.transmit(&mut out.head, turn, self.window);
        if !before && self.lane.has_unacknowledged() {
            self.timers.start(Timer::Unacknowledged, now + self.config.heartbeat_interval());
        }
    }

    // Deadlines

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

    /// Takes over the monitor's next deadline: it is costly to compute, so not for every poll.
    fn arm_heartbeat(&mut self) {
        match self.monitor.poll_timeout() {
            Some(at) => self.timers.set(Timer::Heartbeat, at),
            None => self.timers.stop(Timer::Heartbeat),
        }
    }

    fn stop_monitor(&mut self) {
        self.monitor.stop();
        self.timers.stop(Timer::Heartbeat);
    }

    fn on_heartbeat(&mut self, now: Instant) {
        let tick = self.monitor.heartbeat_tick(now);
        self.arm_heartbeat();
        if let Some(beat) = tick.heartbeat
            && self.live.is_some()
        {
            self.heartbeat_out = Some(beat.seq);
            self.wake_driver();
        }
        let Some(health) = tick.changed else { return };
        self.events.push_back(AssociationEvent::Health(health));
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

    /// Whether something is watched across the association, in either direction.
    fn is_watched(&self) -> bool {
        !self.watches.is_empty() || !self.peer_watches.is_empty()
    }

    /// Heartbeats run while something is watched or unacknowledged.
    pub(super) fn update_monitor(&mut self, now: Instant) {
        let Some(session) = &self.session else {
            self.stop_monitor();
            return;
        };
        let waiting =
            self.live.is_some() && (self.overdue || self.probing || self.system.has_unacknowledged());
        if self.is_watched() || waiting {
            let uid = session.remote.uid();
            let started = !self.monitor.is_running();
            self.monitor.start(now, uid);
            if started {
                self.on_heartbeat(now);
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

    fn on_liveness(&mut self, now: Instant) {
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

    fn on_forget(&mut self, now: Instant) {
        let unused = now - self.last_used;
        let idle =
            self.lane.is_empty() && self.system.is_empty() && !self.is_watched() && self.asks.len() == 0;
        if self.live.is_none() && idle && unused >= self.config.forget_timeout() {
            self.drop_attempts(CloseReason::Idle);
            self.stop_attempts();
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
