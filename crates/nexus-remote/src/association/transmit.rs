//! What a connection is given to write.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use nexus_actor_core::Instant;

use super::Association;
use super::event::ConnectionId;
use super::timer::Timer;
use crate::wire::{Acknowledge, ControlFrame};

/// Bytes for one connection: first `head`, then the run, if there is one.
///
/// Nothing of it need be kept: what the peer did not get is sent again by the next connection.
#[derive(Debug, Default)]
pub struct Transmit {
    /// Control frames and small runs of the ordinary lane, in this order.
    pub head: Vec<u8>,
    /// A large run of the ordinary lane, shared with the association until it is acknowledged.
    pub run: Option<(Arc<Vec<u8>>, Range<usize>)>,
}

impl Transmit {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { head: Vec::new(), run: None }
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.run.as_ref().map_or(0, |(_, range)| range.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Empties it and keeps the buffer.
    pub fn clear(&mut self) {
        self.head.clear();
        self.run = None;
    }
}

impl Association {
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

    /// What [`poll_transmit`](Self::poll_transmit) gave a sender while the driver of `conn` was idle is written. True
    /// when the driver may stay idle; else wake it, as [`Sent`](super::Sent) would have.
    #[must_use]
    pub fn handle_written(&mut self, conn: ConnectionId) -> bool {
        let rests = self.live == Some(conn) && !self.lane.has_waiting() && !self.wake;
        self.driver_idle |= rests;
        rests
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
        let (next, system_next) = (session.receive_next, session.system_next);
        // An acknowledgement that is not due yet rides along with whatever goes out.
        let rides = next > self.acknowledged_out && (self.lane.has_waiting() || !out.is_empty());
        if core::mem::take(&mut self.acknowledge_now) || rides {
            self.put_acknowledgement(id, next, out);
        }
        if core::mem::take(&mut self.system_acknowledge_now) {
            ControlFrame::SystemAcknowledge { session: id, next: system_next }.encode(&mut out.head);
        }
        if !self.suspended {
            self.transmit_system(now, out);
        }
        if core::mem::take(&mut self.leave_out) {
            // Behind the goodbye nothing is confirmed any more, and the peer would record what arrived as lost.
            if next > self.acknowledged_out {
                self.put_acknowledgement(id, next, out);
            }
            ControlFrame::Leave { uid }.encode(&mut out.head);
        }
    }

    fn put_acknowledgement(&mut self, session: u64, next: u64, out: &mut Transmit) {
        let acknowledge = Acknowledge {
            session,
            next,
            credit_messages: Acknowledge::UNLIMITED,
            credit_bytes: Acknowledge::UNLIMITED,
        };
        ControlFrame::Acknowledge(acknowledge).encode(&mut out.head);
        self.acknowledged_out = next;
        self.acknowledge_bytes = 0;
        self.timers.stop(Timer::Acknowledge);
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
}
