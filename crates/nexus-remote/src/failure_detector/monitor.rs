//! Heartbeats of one peer: when to send one, whose answer counts, and what follows from it.

use alloc::boxed::Box;
use core::time::Duration;

use nexus_actor_core::Instant;
use nexus_actor_core::path::ActorUid;

use super::{Arrival, FailureDetector};

/// Beats whose sending time is remembered for the round trip; older answers still count as answers.
const ROUND_TRIPS: usize = 16;

/// A beat to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatDue {
    /// The incarnation that is asked.
    pub uid: ActorUid,
    /// The beat's number, counting from 1 and wrapping.
    pub seq: u32,
}

/// What is thought of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerHealth {
    /// Its silence is improbable.
    Suspect,
    /// It is heard, or its silence is still acceptable.
    Reachable,
}

/// For what the peer is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Somebody waits to hear of its death.
    Watch,
    /// Nobody does: whether the connection to it is still good.
    Connection,
}

/// What a tick calls for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// A beat to send.
    pub heartbeat: Option<HeartbeatDue>,
    /// The opinion of the peer, if it has just changed.
    pub changed: Option<PeerHealth>,
}

/// The state of one peer's heartbeats at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HealthSnapshot {
    /// The incarnation watched; [`ActorUid::ANY`] when none is.
    pub uid: ActorUid,
    /// Whether beats are sent.
    pub monitoring: bool,
    /// What was last reported of the peer.
    pub health: PeerHealth,
    /// The detector's suspicion, see [`FailureDetector::suspicion`].
    pub suspicion: f64,
    /// Time between the last answered beat and its answer.
    pub round_trip: Option<Duration>,
}

/// Sends beats to one incarnation of a peer at a fixed interval and judges its answers.
///
/// Sans-IO: call [`Self::heartbeat_tick`] whenever the time of [`Self::poll_timeout`] has come (earlier or later
/// is harmless) and [`Self::handle_reply`] for each answer. Each change of opinion is reported exactly once.
#[derive(Debug)]
pub struct HeartbeatMonitor {
    /// Its opinion counts.
    detector: Box<dyn FailureDetector>,
    /// The one for the other purpose, if that is another: it learns meanwhile.
    other: Option<Box<dyn FailureDetector>>,
    judge: Judge,
    interval: Duration,
    uid: ActorUid,
    next_tick: Option<Instant>,
    sent: u32,
    seen: u32,
    sent_at: [Instant; ROUND_TRIPS],
    round_trip: Option<Duration>,
    suspected: bool,
}

impl HeartbeatMonitor {
    /// A monitor at rest that judges by `detector`. `interval` is raised to a millisecond if shorter.
    #[must_use]
    pub fn new(detector: Box<dyn FailureDetector>, interval: Duration) -> Self {
        Self {
            detector,
            other: None,
            judge: Judge::Watch,
            interval: interval.max(Duration::from_millis(1)),
            uid: ActorUid::ANY,
            next_tick: None,
            sent: 0,
            seen: 0,
            sent_at: [Instant::ZERO; ROUND_TRIPS],
            round_trip: None,
            suspected: false,
        }
    }

    /// The same, with a detector of its own for [`Judge::Connection`].
    #[must_use]
    pub fn with_connection_detector(mut self, detector: Box<dyn FailureDetector>) -> Self {
        self.other = Some(detector);
        self
    }

    /// Says for what the peer is judged from now on; true when another detector judges than before. Both know all
    /// that was heard so far.
    pub fn judge_by(&mut self, judge: Judge) -> bool {
        if core::mem::replace(&mut self.judge, judge) == judge {
            return false;
        }
        match &mut self.other {
            Some(other) => core::mem::swap(other, &mut self.detector),
            None => return false,
        }
        true
    }

    /// Starts beating toward the incarnation `uid`; the first beat is due at once.
    ///
    /// Nothing changes if it is beating toward it already. What was learned of another incarnation is forgotten.
    pub fn start(&mut self, now: Instant, uid: ActorUid) {
        if self.next_tick.is_some() && self.uid == uid {
            return;
        }
        self.forget();
        self.uid = uid;
        self.next_tick = Some(now);
    }

    /// Stops beating; the peer is no longer suspected and answers still under way are ignored.
    pub fn stop(&mut self) {
        self.forget();
        self.uid = ActorUid::ANY;
        self.next_tick = None;
    }

    fn forget(&mut self) {
        self.detector.reset();
        if let Some(other) = &mut self.other {
            other.reset();
        }
        self.suspected = false;
        self.round_trip = None;
        // The numbers run on: an answer to a beat of before can then never match a beat of now.
        self.seen = self.sent;
    }

    /// Whether beats are sent.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.next_tick.is_some()
    }

    /// When [`Self::heartbeat_tick`] is to be called next; `None` at rest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let tick = self.next_tick?;
        if self.suspected {
            return Some(tick);
        }
        Some(self.detector.next_suspicion_at().map_or(tick, |at| at.min(tick)))
    }

    /// Does what is due at `now`.
    ///
    /// A tick that runs late shows that this node was away; that time is not held against the peer.
    pub fn heartbeat_tick(&mut self, now: Instant) -> Tick {
        let mut tick = Tick::default();
        let Some(due) = self.next_tick else { return tick };
        if now >= due {
            self.detector.heartbeat_tick(now, due);
            if let Some(other) = &mut self.other {
                other.heartbeat_tick(now, due);
            }
            self.sent = self.sent.wrapping_add(1);
            self.sent_at[self.sent as usize % ROUND_TRIPS] = now;
            tick.heartbeat = Some(HeartbeatDue { uid: self.uid, seq: self.sent });
            // Missed ticks are not made up for: a burst of beats says no more than one.
            let next = due + self.interval;
            self.next_tick = Some(if next > now { next } else { now + self.interval });
        }
        if !self.suspected && !self.detector.is_available(now) {
            self.suspected = true;
            tick.changed = Some(PeerHealth::Suspect);
        }
        tick
    }

    /// An answer to beat `seq` of the incarnation `uid` arrived.
    ///
    /// Duplicates, answers overtaken by later ones, numbers never sent and other incarnations are
    /// [`Arrival::Ignored`]. [`PeerHealth::Reachable`] comes with the first good answer of a suspected peer.
    pub fn handle_reply(&mut self, now: Instant, uid: ActorUid, seq: u32) -> (Arrival, Option<PeerHealth>) {
        let behind = seq.wrapping_sub(self.seen);
        let outstanding = self.sent.wrapping_sub(self.seen);
        if self.next_tick.is_none() || uid != self.uid || behind == 0 || behind > outstanding {
            return (Arrival::Ignored, None);
        }
        self.seen = seq;
        if self.sent.wrapping_sub(seq) < ROUND_TRIPS as u32 {
            self.round_trip = Some(now - self.sent_at[seq as usize % ROUND_TRIPS]);
        }
        let arrival = self.detector.heartbeat(now);
        if let Some(other) = &mut self.other {
            other.heartbeat(now);
        }
        let changed = (self.suspected && self.detector.is_available(now)).then_some(PeerHealth::Reachable);
        if changed.is_some() {
            self.suspected = false;
        }
        (arrival, changed)
    }

    /// Time between the last answered beat and its answer.
    #[must_use]
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The detector that judges.
    #[must_use]
    pub fn detector(&self) -> &dyn FailureDetector {
        &*self.detector
    }

    /// What is known at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> HealthSnapshot {
        HealthSnapshot {
            uid: self.uid,
            monitoring: self.is_running(),
            health: if self.suspected { PeerHealth::Suspect } else { PeerHealth::Reachable },
            suspicion: self.detector.suspicion(now),
            round_trip: self.round_trip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure_detector::{DetectorChoice, PhiConfig};

    const A: ActorUid = ActorUid::new(7);
    const B: ActorUid = ActorUid::new(8);

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn monitor() -> HeartbeatMonitor {
        HeartbeatMonitor::new(DetectorChoice::default().build().unwrap(), Duration::from_secs(1))
    }

    /// Ticks and answers every second up to and including `until` seconds.
    fn beaten(until: u64) -> HeartbeatMonitor {
        let mut m = monitor();
        m.start(ms(0), A);
        for s in 0..=until {
            let beat = m.heartbeat_tick(ms(s * 1_000)).heartbeat.unwrap();
            let (arrival, changed) = m.handle_reply(ms(s * 1_000 + 20), beat.uid, beat.seq);
            assert_ne!(arrival, Arrival::Ignored);
            assert_eq!(changed, None);
        }
        m
    }

    /// Covers: API-61
    #[test]
    fn suspect_and_reachable_are_reported_once_each() {
        let mut m = beaten(30);
        let mut suspected_at = None;
        let mut now = ms(30_020);
        while now < ms(60_000) {
            now = m.poll_timeout().unwrap().max(now + Duration::from_nanos(1));
            if let Some(changed) = m.heartbeat_tick(now).changed {
                assert_eq!(changed, PeerHealth::Suspect);
                assert!(suspected_at.replace(now).is_none(), "reported twice");
            }
        }
        let silence = suspected_at.unwrap() - ms(30_020);
        assert!(silence < Duration::from_secs(12), "{silence:?}: the moment, not the tick after it");
        assert_eq!(m.snapshot(now).health, PeerHealth::Suspect);
        let seq = m.sent;
        assert!(matches!(
            m.handle_reply(now, A, seq),
            (Arrival::Recovered { .. }, Some(PeerHealth::Reachable))
        ));
        assert_eq!(m.handle_reply(now, A, seq), (Arrival::Ignored, None));
        assert_eq!(m.snapshot(now).health, PeerHealth::Reachable);
    }

    /// Covers: S85
    #[test]
    fn only_a_fresh_answer_of_the_right_incarnation_counts() {
        let mut m = beaten(10);
        let sent = m.sent;
        let before = m.detector().next_suspicion_at();
        for (name, uid, seq) in [
            ("duplicate", A, sent),
            ("overtaken", A, sent - 3),
            ("never sent", A, sent + 1),
            ("far from sent", A, u32::MAX),
            ("another incarnation", B, sent),
        ] {
            assert_eq!(m.handle_reply(ms(10_500), uid, seq), (Arrival::Ignored, None), "{name}");
        }
        assert_eq!(m.detector().next_suspicion_at(), before);

        // A new incarnation is not alive because the old one still answers.
        m.start(ms(11_000), B);
        let beat = m.heartbeat_tick(ms(11_000)).heartbeat.unwrap();
        assert_eq!(beat.uid, B);
        assert_eq!(m.handle_reply(ms(11_010), A, beat.seq), (Arrival::Ignored, None));
        assert_eq!(m.handle_reply(ms(11_010), B, sent), (Arrival::Ignored, None));
        assert_eq!(m.handle_reply(ms(11_020), B, beat.seq), (Arrival::First, None));
    }

    /// Covers: S81
    #[test]
    fn nothing_is_suspected_before_a_beat_was_sent() {
        let mut m = monitor();
        assert_eq!(m.poll_timeout(), None);
        assert_eq!(m.heartbeat_tick(ms(1_000_000)), Tick::default());
        m.start(ms(1_000_000), A);
        let first = m.heartbeat_tick(ms(1_000_000));
        assert_eq!((first.heartbeat.map(|b| b.uid), first.changed), (Some(A), None));
        for s in 1..11 {
            assert_eq!(m.heartbeat_tick(ms(1_000_000 + s * 1_000)).changed, None, "{s}");
        }
        assert_eq!(m.heartbeat_tick(ms(1_011_000)).changed, Some(PeerHealth::Suspect));
    }

    /// Covers: S87
    #[test]
    fn a_node_that_was_stopped_suspects_nobody_and_sends_no_burst() {
        for stopped_s in [2, 12, 60, 86_400] {
            let mut m = beaten(30);
            let woken = ms(30_300 + stopped_s * 1_000);
            let tick = m.heartbeat_tick(woken);
            assert!(tick.heartbeat.is_some());
            assert_eq!(tick.changed, None, "{stopped_s}");
            assert_eq!(m.heartbeat_tick(woken).heartbeat, None, "one beat, not one per missed tick");
            assert_eq!(m.heartbeat_tick(woken + Duration::from_secs(1)).changed, None, "{stopped_s}");
        }
    }

    #[test]
    fn the_round_trip_is_that_of_the_answered_beat() {
        let mut m = beaten(3);
        assert_eq!(m.round_trip(), Some(Duration::from_millis(20)));
        let first = m.heartbeat_tick(ms(4_000)).heartbeat.unwrap();
        m.heartbeat_tick(ms(5_000));
        m.handle_reply(ms(5_100), A, first.seq);
        assert_eq!(m.round_trip(), Some(Duration::from_millis(1_100)));
        m.stop();
        assert_eq!((m.round_trip(), m.is_running()), (None, false));
        assert_eq!(m.handle_reply(ms(5_200), A, first.seq + 1), (Arrival::Ignored, None));
    }

    #[test]
    fn numbers_wrap() {
        let mut m = monitor();
        (m.sent, m.seen) = (u32::MAX - 2, u32::MAX - 2);
        m.start(ms(0), A);
        for s in 0..8 {
            let beat = m.heartbeat_tick(ms(s * 1_000)).heartbeat.unwrap();
            assert_ne!(m.handle_reply(ms(s * 1_000 + 5), A, beat.seq).0, Arrival::Ignored, "{}", beat.seq);
        }
    }

    /// Covers: S89
    #[test]
    fn each_purpose_has_its_detector_and_both_have_heard_everything() {
        let connection = DetectorChoice::Phi(PhiConfig::default().with_threshold(3.0));
        let mut m = monitor().with_connection_detector(connection.build().unwrap());
        m.start(ms(0), A);
        for s in 0..30 {
            let beat = m.heartbeat_tick(ms(s * 1_000)).heartbeat.unwrap();
            m.handle_reply(ms(s * 1_000 + 20), beat.uid, beat.seq);
        }
        let watch = (m.detector().threshold(), m.detector().next_suspicion_at());
        assert!(!m.judge_by(Judge::Watch), "as it was");
        assert!(m.judge_by(Judge::Connection));
        assert_eq!(m.detector().threshold(), 3.0);
        assert!(m.detector().next_suspicion_at() < watch.1, "it has learned the same and bears less");
        assert!(m.poll_timeout() <= m.detector().next_suspicion_at());
        assert!(m.judge_by(Judge::Watch));
        assert_eq!((m.detector().threshold(), m.detector().next_suspicion_at()), watch);
        m.stop();
        m.judge_by(Judge::Connection);
        assert!(!m.detector().is_monitoring(), "both have forgotten");
        let mut one = monitor();
        assert!(!one.judge_by(Judge::Connection), "one detector serves both");
    }

    #[test]
    fn the_chosen_detector_is_the_one_used() {
        let phi = DetectorChoice::Phi(PhiConfig::default().with_threshold(3.0)).build().unwrap();
        assert_eq!(phi.threshold(), 3.0);
        let deadline = DetectorChoice::Deadline(crate::failure_detector::DeadlineConfig::default());
        assert_eq!(deadline.build().unwrap().threshold(), 1.0);
        let own = DetectorChoice::Custom(alloc::sync::Arc::new(|| {
            let config = PhiConfig::default().with_threshold(42.0);
            Box::new(crate::failure_detector::PhiFailureDetector::new(config).unwrap())
        }));
        assert_eq!(own.build().unwrap().threshold(), 42.0);
        assert!(DetectorChoice::Phi(PhiConfig::default().with_threshold(0.0)).build().is_err());
    }
}
