//! What a connection brings: control frames, the count of ordinary ones, answers and faults.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use nexus_actor_core::Instant;
use nexus_actor_core::remote::{PendingReply, ReplyKey};

use super::Association;
use super::event::{AssociationEvent, CloseReason, ConnectionId, TerminationNotice};
use super::leave::Closing;
use super::link::Phase;
use super::state::GateCause;
use super::timer::Timer;
use super::watch::PeerWatch;
use crate::failure_detector::Arrival;
use crate::wire::{ControlFrame, QuarantineReason, RefuseReason, SystemMessage};

impl Association {
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
                let (arrival, changed) = self.monitor.handle_reply(now, uid, seq);
                self.arm_heartbeat();
                if arrival != Arrival::Ignored
                    && let Some(round_trip) = self.monitor.round_trip()
                {
                    self.events.push_back(AssociationEvent::HeartbeatAnswered { uid, round_trip });
                }
                if let Arrival::Slow { interval } = arrival {
                    self.events.push_back(AssociationEvent::HeartbeatSlow { uid, interval });
                }
                if let Some(health) = changed {
                    self.tell_health(now, health);
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
                    self.retry(now, GateCause::Refused(RefuseReason::Quarantined), false);
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
        // Repetitions cost as much as others.
        if let Some(at) = self.allowance.take(now) {
            self.timers.set(Timer::SystemAllowance, at);
        }
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

    /// Whether nothing more is to be read from the peer for now: it sends system messages faster than it may (L17). A
    /// deadline says when that is over.
    #[must_use]
    pub const fn is_flooded(&self) -> bool {
        self.timers.get(Timer::SystemAllowance).is_some()
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
        self.took_one = next == session.receive_next + 1;
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
}
