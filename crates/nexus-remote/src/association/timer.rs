//! Deadlines of one association: a table, one place per purpose.

use nexus_actor_core::Instant;

/// What a deadline is for. A log line can say why the association woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Timer {
    /// The next dial may start.
    Dial,
    /// The dial under way has taken too long.
    DialDeadline,
    /// The request, or its answer, is sent again.
    HandshakeRetry,
    /// The handshake under way has taken too long.
    HandshakeDeadline,
    /// An address without a session is given up.
    NeverReached,
    /// A received frame must be acknowledged now.
    Acknowledge,
    /// What was handed out may be waiting for a peer that is gone: start asking for signs of life.
    Unacknowledged,
    /// A heartbeat is due, or the silence becomes suspect.
    Heartbeat,
    /// Unacknowledged system messages are sent again.
    SystemResend,
    /// The oldest system message is given up.
    SystemGiveUp,
    /// The peer may be read again, which has sent system messages too fast.
    SystemAllowance,
    /// The connection is closed when it carried nothing for long.
    Idle,
    /// The peer is asked for a sign of life when nothing was heard for long.
    Liveness,
    /// The connection has been down, with nothing but refused dials, for long enough.
    RefusedVerdict,
    /// Watches wanted at an address without a session are answered.
    FirstAnswer,
    /// The quarantine ends.
    QuarantineDeadline,
    /// The orderly goodbye has taken too long.
    Leave,
    /// An unused association is forgotten.
    Forget,
}

const COUNT: usize = Timer::Forget as usize + 1;

impl Timer {
    const ALL: [Self; COUNT] = [
        Self::Dial,
        Self::DialDeadline,
        Self::HandshakeRetry,
        Self::HandshakeDeadline,
        Self::NeverReached,
        Self::Acknowledge,
        Self::Unacknowledged,
        Self::Heartbeat,
        Self::SystemResend,
        Self::SystemGiveUp,
        Self::SystemAllowance,
        Self::Idle,
        Self::Liveness,
        Self::RefusedVerdict,
        Self::FirstAnswer,
        Self::QuarantineDeadline,
        Self::Leave,
        Self::Forget,
    ];
}

/// At most one deadline per [`Timer`].
#[derive(Debug, Default)]
pub(super) struct TimerTable([Option<Instant>; COUNT]);

impl TimerTable {
    pub(super) const fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    pub(super) const fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Sets `timer` unless it runs already.
    pub(super) const fn start(&mut self, timer: Timer, at: Instant) {
        if self.0[timer as usize].is_none() {
            self.0[timer as usize] = Some(at);
        }
    }

    pub(super) const fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<(Instant, Timer)> {
        let mut first: Option<(Instant, Timer)> = None;
        for timer in Timer::ALL {
            if let Some(at) = self.0[timer as usize]
                && first.is_none_or(|(earliest, _)| at < earliest)
            {
                first = Some((at, timer));
            }
        }
        first
    }

    /// Takes the earliest deadline that has passed, if there is one.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = self.next()?;
        if at > now {
            return None;
        }
        self.stop(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_is_named_and_taken_once() {
        let ms = Instant::from_millis;
        let mut timers = TimerTable::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Idle, ms(30));
        timers.set(Timer::Dial, ms(20));
        timers.start(Timer::Dial, ms(10));
        assert_eq!(timers.next(), Some((ms(20), Timer::Dial)));
        assert_eq!(timers.expire(ms(19)), None);
        assert_eq!(timers.expire(ms(20)), Some(Timer::Dial));
        assert_eq!(timers.expire(ms(20)), None);
        assert_eq!(timers.expire(ms(99)), Some(Timer::Idle));
        for (i, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, i);
        }
    }
}
