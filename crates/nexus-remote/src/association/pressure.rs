//! How full the lane is: its marks, the room in it, and what falls out of it.

use nexus_actor_core::{AskError, DeadLetterReason, Refusal};

use super::event::{AssociationEvent, LostMessage, PressureLevel};
use super::lane::{Fallen, Freed};
use super::{Association, AssociationConfig, Overflow};

/// Falling below a mark is reported at this part of it, so that a lane at a mark does not report every message.
const MARK_RELEASE: f64 = 0.9;

#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    warning: (usize, usize),
    critical: (usize, usize),
}

impl Marks {
    pub(super) fn new(config: &AssociationConfig) -> Self {
        // The mark is at the first count that reaches it.
        let at = |part: f64, max: usize| {
            let exact = part * max as f64;
            let floor = exact as usize;
            if (floor as f64) < exact { floor + 1 } else { floor }
        };
        let both = |part| (at(part, config.lane_messages_max()), at(part, config.lane_bytes_max()));
        let critical = both(config.critical_mark());
        // Critical begins above its mark, warning at it.
        let above =
            |at: usize, part: f64, max: usize| if at as f64 > part * max as f64 { at } else { at + 1 };
        let mark = config.critical_mark();
        Self {
            warning: both(config.warning_mark()),
            critical: (
                above(critical.0, mark, config.lane_messages_max()),
                above(critical.1, mark, config.lane_bytes_max()),
            ),
        }
    }

    #[inline]
    fn level(&self, messages: usize, bytes: usize, now: PressureLevel) -> PressureLevel {
        let over = |mark: (usize, usize)| messages >= mark.0 || bytes >= mark.1;
        let held = |mark: (usize, usize)| {
            let low = |m: usize| (m as f64 * MARK_RELEASE) as usize;
            messages >= low(mark.0).max(1) || bytes >= low(mark.1).max(1)
        };
        if over(self.critical) || (now == PressureLevel::Critical && held(self.critical)) {
            PressureLevel::Critical
        } else if over(self.warning) || (now >= PressureLevel::Warning && held(self.warning)) {
            PressureLevel::Warning
        } else {
            PressureLevel::Normal
        }
    }
}

impl Association {
    /// Whether a send would find room in the lane. If not, one [`AssociationEvent::Room`] follows when it would.
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        if self.check_open(|| true).is_err() {
            // Waiting is of no use; the send says why.
            return true;
        }
        let full = self.is_full();
        self.room_wanted |= full;
        !full
    }

    /// How full the ordinary lane is.
    #[must_use]
    pub const fn pressure(&self) -> PressureLevel {
        self.pressure
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        let messages = self.lane.messages();
        messages > 0
            && (messages >= self.config.lane_messages_max()
                || self.lane.bytes() >= self.config.lane_bytes_max())
    }

    #[inline]
    pub(super) fn make_room(&mut self) -> Result<(), Refusal> {
        if self.is_full() { self.make_room_slow() } else { Ok(()) }
    }

    /// Answers find room in a lane that is full of messages, or a node that always has something to say could
    /// not be asked. There are at most as many as the peer has questions, and an eighth of the lane.
    #[inline]
    pub(super) fn make_room_for_answer(&mut self) -> Result<(), Refusal> {
        let (messages, bytes) = (self.config.lane_messages_max(), self.config.lane_bytes_max());
        let beyond = self.lane.messages() >= messages.saturating_add((messages / 8).max(1))
            || self.lane.bytes() >= bytes.saturating_add(bytes / 8);
        if beyond { self.make_room() } else { Ok(()) }
    }

    #[cold]
    fn make_room_slow(&mut self) -> Result<(), Refusal> {
        let (before, bytes) = (self.lane.messages(), self.lane.bytes());
        self.lane.count();
        self.freed(Freed { messages: before - self.lane.messages(), bytes: bytes - self.lane.bytes() });
        while self.is_full() {
            let fallen = match self.config.overflow() {
                Overflow::RefuseNewest => None,
                Overflow::DropOldest => self.lane.drop_oldest(|id| self.tables.meaning(id)),
            };
            let Some(fallen) = fallen else {
                self.room_wanted = true;
                let (messages, bytes) = (self.lane.messages(), self.lane.bytes());
                return Err(Refusal::QueueFull { messages, bytes });
            };
            self.fell(&fallen, DeadLetterReason::QueueFull);
        }
        Ok(())
    }

    /// One message left the lane undelivered.
    fn fell(&mut self, fallen: &Fallen, reason: DeadLetterReason) {
        self.statistics.lost += 1;
        self.wake = true;
        let lost = self.lost_message(fallen, reason);
        self.events.push_back(AssociationEvent::Lost(lost));
        if let Some(ask) = fallen.ask.and_then(|key| self.asks.take(key)) {
            let error = AskError::from_reason(reason);
            self.events.push_back(AssociationEvent::AskFailed { ask, error });
        }
    }

    pub(super) fn lost_message(&self, fallen: &Fallen, reason: DeadLetterReason) -> LostMessage {
        LostMessage {
            recipient: fallen.recipient.as_ref().map(|r| r.path.clone()),
            peer: self.peer.clone(),
            reason,
            size: fallen.size,
            correlation_id: fallen.correlation_id,
        }
    }

    /// Room was made by acknowledgement.
    pub(super) fn freed(&mut self, freed: Freed) {
        self.statistics.acknowledged += freed.messages as u64;
        if freed.bytes > 0 {
            self.note_pressure();
            self.note_room();
        }
    }

    pub(super) fn note_room(&mut self) {
        if self.room_wanted && !self.is_full() {
            self.room_wanted = false;
            self.events.push_back(AssociationEvent::Room);
        }
    }

    #[inline]
    pub(super) fn note_pressure(&mut self) {
        let (messages, bytes) = (self.lane.messages(), self.lane.bytes());
        let level = self.marks.level(messages, bytes, self.pressure);
        if level != self.pressure {
            self.pressure = level;
            self.wake = true;
            self.events.push_back(AssociationEvent::Pressure { level, messages, bytes });
        }
    }
}
