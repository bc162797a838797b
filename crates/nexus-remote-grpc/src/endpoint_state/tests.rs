use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn no_jitter() -> EndpointStateConfig {
    let policy = ReconnectPolicy { jitter: 0.0, ..ReconnectPolicy::default() };
    EndpointStateConfig { reconnect_policy: policy, ..EndpointStateConfig::default() }
}

fn parity() -> EndpointStateConfig {
    EndpointStateConfig {
        reconnect_policy: ReconnectPolicy::fixed(5, 2 * SECOND),
        ..EndpointStateConfig::default()
    }
}

/// An endpoint on virtual time, and what its driver was told, each with the milliseconds.
struct Driven {
    state: EndpointState,
    now: Instant,
    told: Vec<(u64, String)>,
}

impl Driven {
    fn new(config: EndpointStateConfig) -> Self {
        let state = EndpointState::new(config, Arc::default(), 7);
        Self { state, now: Instant::ZERO, told: Vec::new() }
    }

    fn connected(config: EndpointStateConfig) -> Self {
        let mut driven = Self::new(config);
        driven.state.ensure_connected(driven.now);
        driven.state.handle_connected(driven.now, "one");
        driven.take();
        driven.told.clear();
        driven
    }

    /// Takes the actions as text. A dial goes nowhere until the test says otherwise.
    fn take(&mut self) -> Vec<String> {
        let mut taken = Vec::new();
        while let Some(action) = self.state.poll_action() {
            let text = match action {
                EndpointAction::Connect { attempt } => format!("connect {attempt}"),
                EndpointAction::Reconnecting { attempt } => format!("again {attempt}"),
                EndpointAction::Connected { system_id, is_new_incarnation, again } => {
                    let new = if is_new_incarnation { " new" } else { "" };
                    format!("connected {system_id}{new}{}", if again { " again" } else { "" })
                }
                EndpointAction::Probe => "probe".to_owned(),
                EndpointAction::Disconnect { cause } => format!("disconnect: {cause}"),
                EndpointAction::Discard { reason } => format!("discard: {reason}"),
                EndpointAction::Suspended => "suspended".to_owned(),
                EndpointAction::Resumed => "resumed".to_owned(),
                EndpointAction::Terminated { reason } => format!("terminated: {reason}"),
            };
            self.told.push((self.now.as_millis(), text.clone()));
            taken.push(text);
        }
        taken
    }

    /// Lets time pass to `until`, at every deadline stopping; `dial` says how each dial ends, at once.
    fn run(&mut self, until: Instant, mut dial: impl FnMut(u32) -> Result<&'static str, &'static str>) {
        loop {
            for text in self.take() {
                let Some(attempt) = text.strip_prefix("connect ") else { continue };
                match dial(attempt.parse().unwrap()) {
                    Ok(id) => self.state.handle_connected(self.now, id),
                    Err(why) => self.state.handle_connect_failed(self.now, why),
                }
            }
            if !self.state.actions.is_empty() {
                continue;
            }
            match self.state.poll_timeout() {
                Some(due) if due <= until => {
                    assert!(due >= self.now, "a deadline of the past is left");
                    self.now = due;
                    self.state.handle_timeout(due);
                }
                _ => break,
            }
        }
        self.now = until;
    }

    /// When something was told that begins so.
    fn when(&self, what: &str) -> Vec<u64> {
        self.told.iter().filter(|(_, text)| text.starts_with(what)).map(|(at, _)| *at).collect()
    }
}

/// Covers: RC-06, RC-07, RC-14, TST-35, TST-45, CFG-42
#[test]
fn a_first_connection_is_tried_and_given_up_at_the_instants_of_go() {
    let mut driven = Driven::new(parity());
    driven.state.ensure_connected(driven.now);
    driven.run(at(60_000), |_| Err("refused"));
    assert_eq!(driven.when("connect "), [0, 2_000, 4_000, 6_000, 8_000]);
    assert_eq!(driven.when("terminated"), [10_000]);
    assert_eq!(driven.told.last().unwrap().1, "terminated: unreachable after 5 attempts: refused");
    assert_eq!(driven.state.connection_state(), ConnectionState::Closed);
    assert_eq!(driven.state.poll_timeout(), None);
}

/// The waits double, and both rows end after the same time.
///
/// Covers: RC-01, RC-09, RC-12, RC-16, RC-18, RC-21, TST-31, TST-38
#[test]
fn waits_double_and_a_lost_connection_waits_first() {
    let mut first = Driven::new(no_jitter());
    first.state.ensure_connected(first.now);
    first.run(at(60_000), |_| Err("refused"));
    assert_eq!(first.when("connect "), [0, 200, 600, 1_400, 3_000]);
    assert_eq!(first.when("terminated"), [6_200]);
    assert_eq!(first.when("again "), [200, 600, 1_400, 3_000]);
    assert_eq!(first.state.statistics().snapshot().reconnect_attempts, 4);

    let mut lost = Driven::connected(no_jitter());
    lost.state.handle_disconnected(lost.now, DisconnectCause::Stream("reset".into()));
    assert_eq!(lost.state.connection_state(), ConnectionState::Reconnecting);
    lost.run(at(60_000), |_| Err("refused"));
    assert_eq!(lost.when("again "), [200, 600, 1_400, 3_000, 6_200]);
    assert_eq!(lost.when("connect "), lost.when("again "));
    assert_eq!(lost.when("terminated"), [6_200]);
    assert_eq!(lost.state.statistics().snapshot().reconnect_attempts, 5);

    let longer = ReconnectPolicy::exponential(8, ms(200), ms(1_000));
    let mut delays = longer.delays(0);
    let waits: Vec<_> = std::iter::from_fn(|| delays.next_delay()).collect();
    assert_eq!(waits, [200, 400, 800, 1_000, 1_000, 1_000, 1_000, 1_000].map(ms));
    delays.reset();
    assert_eq!(delays.next_delay(), Some(ms(200)));
}

/// A peer that calls is dialled at once, once in each wait; the attempts of the row and its end are where they were.
#[test]
fn a_call_of_the_peer_is_worth_one_attempt_beside_the_row() {
    for lost in [true, false] {
        let mut driven = Driven::new(no_jitter());
        driven.state.ensure_connected(driven.now);
        let row: &[u64] = if lost {
            driven.state.handle_connected(driven.now, "one");
            driven.state.handle_disconnected(driven.now, DisconnectCause::Stream("reset".into()));
            driven.take();
            driven.told.clear();
            &[200, 600, 1_400, 3_000, 6_200]
        } else {
            driven.run(at(0), |_| Err("refused"));
            &[0, 200, 600, 1_400, 3_000]
        };
        // In the first wait, in the third, and after the last attempt; some of them more than once.
        let called = [100, 150, 700, 701, 1_399, 5_000];
        for call in called {
            driven.run(at(call), |_| Err("refused"));
            driven.state.handle_called(driven.now);
        }
        driven.run(at(60_000), |_| Err("refused"));
        let mut dialled = [row, &[100, 700, 5_000]].concat();
        dialled.sort_unstable();
        assert_eq!((driven.when("connect "), driven.when("terminated")), (dialled, vec![6_200]));
        assert!(driven.told.last().unwrap().1.starts_with("terminated: unreachable after 5 attempts"));
        driven.state.handle_called(driven.now);
        assert!(driven.take().is_empty(), "nothing is wanted of it");
    }
    // One that succeeds ends the row as any other does.
    let mut driven = Driven::connected(no_jitter());
    driven.state.handle_called(driven.now);
    assert!(driven.take().is_empty(), "it serves");
    for _ in 0..3 {
        let now = driven.now;
        driven.state.handle_disconnected(now, DisconnectCause::Stream("reset".into()));
        driven.run(now + ms(300), |_| Err("refused"));
        driven.state.handle_called(driven.now);
        driven.run(driven.now, |attempt| {
            assert_eq!(attempt, 2);
            Ok("one")
        });
        assert_eq!(driven.told.last().unwrap().1, "connected one again");
        assert_eq!(driven.state.attempt(), 0);
    }
    // While an attempt is under way there is no other; suspended, or refused, there is none.
    let mut under_way = Driven::new(no_jitter());
    under_way.state.ensure_connected(under_way.now);
    assert_eq!(under_way.take(), ["connect 1"]);
    under_way.state.handle_called(under_way.now);
    assert!(under_way.take().is_empty());
    under_way.state.suspend();
    under_way.take();
    under_way.state.handle_called(under_way.now);
    under_way.state.handle_blocked(under_way.now);
    under_way.take();
    under_way.state.handle_called(under_way.now);
    assert!(under_way.take().is_empty());
}

/// Covers: RC-01, CFG-08
#[test]
fn jitter_moves_every_wait_within_its_part_and_below_the_longest() {
    let policy = ReconnectPolicy { max_retries: 40, ..ReconnectPolicy::default() };
    let row = |seed| {
        let mut delays = policy.delays(seed);
        std::iter::from_fn(move || delays.next_delay()).collect::<Vec<_>>()
    };
    let (one, other) = (row(1), row(2));
    assert_eq!(one, row(1), "a seed decides");
    assert_ne!(one, other);
    for (n, wait) in one.iter().enumerate() {
        let base = ms(200).saturating_mul(1 << n.min(10)).min(5 * SECOND);
        assert!(*wait >= base.mul_f64(0.8) && *wait <= base.mul_f64(1.2).min(5 * SECOND), "{n}: {wait:?}");
    }
    assert!(one[10..].windows(2).any(|pair| pair[0] != pair[1]));
}

/// Covers: HS-01, HS-05, HS-07, HS-12, RC-13
#[test]
fn each_of_several_cuts_is_followed_by_a_connection() {
    let mut driven = Driven::new(no_jitter());
    assert_eq!(driven.state.connection_state(), ConnectionState::Closed);
    driven.state.ensure_connected(driven.now);
    assert_eq!(driven.state.connection_state(), ConnectionState::Reconnecting);
    driven.run(at(0), |_| Ok("one"));
    assert_eq!(driven.state.connection_state(), ConnectionState::Connected);
    for cut in 1..=20 {
        let start = driven.now;
        driven.state.handle_disconnected(start, DisconnectCause::Stream("reset".into()));
        driven.told.clear();
        let id = if cut % 2 == 0 { "one" } else { "two" };
        driven.run(start + 5 * SECOND, |attempt| if attempt < 3 { Err("refused") } else { Ok(id) });
        let start = start.as_millis();
        assert_eq!(driven.when("connect "), [start + 200, start + 600, start + 1_400], "cut {cut}");
        assert_eq!(driven.told.last().unwrap().1, format!("connected {id} new again"));
        assert_eq!(driven.state.attempt(), 0);
    }
    assert_eq!(driven.state.statistics().snapshot().reconnect_attempts, 60);
    driven.state.handle_disconnected(driven.now, DisconnectCause::Stream("reset".into()));
    driven.told.clear();
    driven.run(driven.now + SECOND, |_| Ok("one"));
    assert_eq!(driven.told.last().unwrap().1, "connected one again", "the same node as before");
}

/// Covers: RC-15
#[test]
fn a_peer_that_says_goodbye_is_not_tried_again_until_something_is_sent() {
    let mut driven = Driven::connected(no_jitter());
    driven.state.handle_disconnected(driven.now, DisconnectCause::PeerLeft);
    assert_eq!(
        driven.take(),
        ["disconnect: the peer disconnected", "discard: unreachable", "terminated: the peer disconnected"]
    );
    assert_eq!((driven.state.poll_timeout(), driven.state.accepts_deliver()), (None, true));
    driven.state.ensure_connected(driven.now);
    assert_eq!(driven.take(), ["connect 1"], "afresh, no attempt again");
    driven.state.handle_connected(driven.now, "two");
    assert_eq!(driven.take(), ["connected two new"], "another incarnation all the same");
    // While connecting it is a failure as any other: a node that is going down may be back.
    driven.state.handle_disconnected(driven.now, DisconnectCause::PeerLeft);
    driven.take();
    driven.state.ensure_connected(driven.now);
    driven.state.handle_disconnected(driven.now, DisconnectCause::PeerLeft);
    assert_eq!(driven.state.poll_timeout(), Some(driven.now + ms(200)));
}

/// Covers: S151, RC-05
#[test]
fn what_was_given_up_begins_afresh_with_the_next_message() {
    let mut driven = Driven::new(parity());
    for round in 0..3 {
        let start = driven.now.as_millis();
        driven.told.clear();
        driven.state.ensure_connected(driven.now);
        driven.run(at(start + 20_000), |_| Err("refused"));
        assert_eq!(driven.when("connect ").first(), Some(&start), "round {round}");
        assert_eq!(driven.when("terminated"), [start + 10_000], "round {round}");
        assert!(driven.state.accepts_deliver());
    }
    driven.state.ensure_connected(driven.now);
    driven.run(driven.now, |_| Ok("one"));
    assert_eq!(driven.told.last().unwrap().1, "connected one");
}

/// Covers: S153, HS-04
#[test]
fn a_blocked_peer_is_refused_until_told_otherwise() {
    for (name, mut driven, expected) in [
        ("in the handshake", Driven::new(no_jitter()), vec!["disconnect: blocked"]),
        ("while it serves", Driven::connected(no_jitter()), vec!["disconnect: blocked"]),
    ] {
        driven.state.ensure_connected(driven.now);
        driven.take();
        driven.state.handle_blocked(driven.now);
        let expected = [expected, vec!["discard: blocked", "terminated: blocked"]].concat();
        assert_eq!(driven.take(), expected, "{name}");
        assert_eq!(driven.state.refusal(), Some(Refusal::Blocked), "{name}");
        assert_eq!(driven.state.connection_state(), ConnectionState::Closed, "{name}");
        driven.state.ensure_connected(driven.now);
        driven.state.handle_blocked(driven.now);
        driven.run(driven.now + 3_600 * SECOND, |_| panic!("{name}: dialled"));
        assert!(driven.state.is_blocked() && driven.take().is_empty(), "{name}");
        driven.state.retry(driven.now);
        assert_eq!(driven.take(), ["connect 1"], "{name}");
        assert!(driven.state.accepts_deliver(), "{name}");
    }
    let mut idle = Driven::new(no_jitter());
    idle.state.handle_blocked(idle.now);
    assert!(idle.take().is_empty(), "nothing ended");
    assert_eq!(idle.state.refusal(), Some(Refusal::Blocked));
    idle.state.handle_unblocked();
    assert!(idle.take().is_empty() && idle.state.accepts_deliver());
    idle.state.ensure_connected(idle.now);
    assert_eq!(idle.take(), ["connect 1"]);
    // The peer blocks this node and hangs up.
    let mut served = Driven::connected(no_jitter());
    served.state.handle_disconnected(served.now, DisconnectCause::Blocked);
    assert_eq!(served.take().last().unwrap(), "terminated: blocked");
}

/// Covers: HB-01, HB-02, HB-03, CFG-09, CFG-10
#[test]
fn silence_is_asked_about_once_in_each_interval_and_then_ends_the_connection() {
    let mut driven = Driven::connected(no_jitter());
    driven.run(at(45_000), |_| Err("refused"));
    assert_eq!(driven.when("probe"), [15_000, 30_000]);
    assert_eq!(driven.when("disconnect: the peer was silent for 45s"), [45_000]);
    assert_eq!(driven.state.connection_state(), ConnectionState::Reconnecting);

    // Answered every 14.999 s it is never even asked.
    let mut answering = Driven::connected(no_jitter());
    for _ in 0..1_000 {
        answering.run(answering.now + ms(14_999), |_| panic!("dialled"));
        answering.state.handle_received(answering.now);
    }
    assert!(answering.told.is_empty(), "{:?}", answering.told);
    // One answer a millisecond before the end begins anew.
    let mut late = Driven::connected(no_jitter());
    late.run(at(44_999), |_| panic!("dialled"));
    late.state.handle_received(late.now);
    late.run(at(44_999 + 44_999), |_| panic!("dialled"));
    assert_eq!(late.when("disconnect"), [0_u64; 0]);
    late.run(at(44_999 + 45_000), |_| Err("refused"));
    assert_eq!(late.when("disconnect"), [44_999 + 45_000]);
}

#[test]
fn a_process_that_stood_still_does_not_take_it_for_the_peers_silence() {
    let mut driven = Driven::connected(no_jitter());
    // Stopped at 1 s, woken after an hour: the deadline of 15 s fires late.
    driven.now = at(3_600_000);
    driven.state.handle_timeout(driven.now);
    assert_eq!(driven.take(), ["probe"]);
    assert_eq!(driven.state.connection_state(), ConnectionState::Connected);
    driven.run(at(3_600_000 + 29_999), |_| Err("refused"));
    assert_eq!(driven.when("disconnect"), [0_u64; 0]);
    driven.run(at(3_600_000 + 30_000), |_| Err("refused"));
    assert_eq!(driven.when("disconnect").len(), 1, "silent for 45 s of its own time");
    // Half a second is what a busy scheduler takes.
    let mut busy = Driven::connected(no_jitter());
    for due in [15_500, 30_500] {
        busy.state.handle_timeout(at(due));
    }
    assert_eq!(busy.take(), ["probe", "probe"]);
    busy.state.handle_timeout(at(45_500));
    assert_eq!(busy.take()[0], "disconnect: the peer was silent for 45.5s");
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up_and_its_late_success_refused() {
    let mut driven = Driven::new(no_jitter());
    driven.state.ensure_connected(driven.now);
    assert_eq!(driven.take(), ["connect 1"]);
    assert_eq!(driven.state.poll_timeout(), Some(at(15_000)));
    driven.now = at(15_000);
    driven.state.handle_timeout(driven.now);
    assert_eq!(driven.take(), ["disconnect: no answer in time"]);
    driven.state.handle_connected(at(15_100), "late");
    assert_eq!(driven.take(), ["disconnect: not wanted any more"]);
    assert_eq!(driven.state.poll_timeout(), Some(at(15_200)));
    assert_eq!(driven.state.system_id(), None);
}

/// Whether messages may be queued, in every state.
///
/// Covers: S99, DL-08
#[test]
fn messages_wait_for_a_first_connection_and_after_a_break_only_by_request() {
    let keep = EndpointStateConfig { patience: Patience::Keep, ..no_jitter() };
    for (name, config, after_a_break) in
        [("drop", no_jitter(), Some(Refusal::Unreachable)), ("keep", keep, None)]
    {
        let mut driven = Driven::new(config);
        assert_eq!(driven.state.refusal(), None, "{name}: idle");
        driven.state.ensure_connected(driven.now);
        assert_eq!(driven.state.refusal(), None, "{name}: first attempt");
        driven.state.handle_connect_failed(driven.now, "refused");
        assert_eq!(driven.state.refusal(), None, "{name}: between first attempts");
        driven.run(at(200), |_| Ok("one"));
        assert_eq!(driven.state.refusal(), None, "{name}: connected");
        driven.told.clear();
        driven.state.handle_disconnected(driven.now, DisconnectCause::Stream("reset".into()));
        assert_eq!(driven.state.refusal(), after_a_break, "{name}: broken");
        driven.take();
        assert_eq!(driven.when("discard: unreachable").len(), usize::from(name == "drop"), "{name}");
        driven.now = at(400);
        driven.state.handle_timeout(driven.now);
        assert_eq!(driven.state.refusal(), after_a_break, "{name}: attempt after a break");
        driven.state.handle_connected(driven.now, "one");
        assert_eq!(driven.state.refusal(), None, "{name}: again");
        driven.state.suspend();
        driven.state.handle_disconnected(driven.now, DisconnectCause::Stream("reset".into()));
        assert_eq!(driven.state.refusal(), None, "{name}: broken while suspended");
        driven.state.close();
        assert_eq!(driven.state.refusal(), Some(Refusal::Shutdown), "{name}: closed");
    }
}

/// Covers: SUS-02, HS-05
#[test]
fn a_suspended_endpoint_keeps_what_it_has_and_makes_nothing_new() {
    let mut driven = Driven::connected(no_jitter());
    driven.state.suspend();
    driven.state.suspend();
    assert_eq!(driven.take(), ["suspended"]);
    assert_eq!(driven.state.connection_state(), ConnectionState::Suspended);
    assert_eq!(driven.state.poll_timeout(), None, "nobody listens, so silence is not judged");
    driven.now = at(100_000);
    driven.state.resume(driven.now);
    assert_eq!(driven.take(), ["resumed"]);
    assert_eq!(driven.state.connection_state(), ConnectionState::Connected);
    assert_eq!(driven.state.poll_timeout(), Some(at(115_000)));

    driven.state.suspend();
    driven.state.handle_disconnected(driven.now, DisconnectCause::Stream("reset".into()));
    assert_eq!(driven.take(), ["suspended", "disconnect: reset"], "what waits is kept");
    driven.state.ensure_connected(driven.now);
    driven.state.retry(driven.now);
    assert_eq!((driven.state.poll_timeout(), driven.take()), (None, Vec::new()));
    driven.state.resume(driven.now);
    assert_eq!(driven.take(), ["resumed", "again 1", "connect 1"]);

    driven.state.suspend();
    assert_eq!(driven.take(), ["disconnect: not wanted any more", "suspended"]);
    driven.state.handle_connect_failed(driven.now, "cancelled");
    assert!(driven.take().is_empty());
    driven.state.resume(driven.now);
    assert_eq!(driven.take(), ["resumed", "again 1", "connect 1"]);

    let mut idle = Driven::new(no_jitter());
    idle.state.suspend();
    idle.state.ensure_connected(idle.now);
    assert_eq!(idle.take(), ["suspended"]);
    idle.state.resume(idle.now);
    assert_eq!(idle.take(), ["resumed", "connect 1"]);
}

#[test]
fn a_retry_by_hand_does_not_wait_and_leaves_what_serves_alone() {
    let mut driven = Driven::new(no_jitter());
    driven.state.ensure_connected(driven.now);
    for _ in 0..3 {
        driven.state.handle_connect_failed(driven.now, "refused");
        driven.now = driven.state.poll_timeout().unwrap();
        driven.state.handle_timeout(driven.now);
    }
    driven.state.handle_connect_failed(driven.now, "refused");
    driven.take();
    driven.state.retry(driven.now);
    assert_eq!(driven.take(), ["connect 1"], "a new row");
    driven.state.retry(driven.now);
    assert!(driven.take().is_empty(), "one attempt is under way");
    driven.state.handle_connected(driven.now, "one");
    driven.take();
    driven.state.retry(driven.now);
    assert!(driven.take().is_empty());
}

#[test]
fn closing_is_final_and_says_so_once() {
    for (name, mut driven, expected) in [
        ("idle", Driven::new(no_jitter()), vec!["discard: shutdown"]),
        (
            "connected",
            Driven::connected(no_jitter()),
            vec!["disconnect: shutdown", "discard: shutdown", "terminated: shutdown"],
        ),
    ] {
        driven.state.close();
        driven.state.close();
        assert_eq!(driven.take(), expected, "{name}");
        driven.state.ensure_connected(driven.now);
        driven.state.retry(driven.now);
        driven.state.suspend();
        driven.state.resume(driven.now);
        driven.state.handle_blocked(driven.now);
        driven.state.handle_unblocked();
        driven.state.handle_disconnected(driven.now, DisconnectCause::PeerLeft);
        driven.state.handle_timeout(driven.now);
        assert_eq!((driven.take(), driven.state.poll_timeout()), (Vec::new(), None), "{name}");
        assert_eq!(driven.state.connection_state(), ConnectionState::Closed, "{name}");
    }
}

/// Covers: BP-14
#[test]
fn a_queue_that_stays_critical_refuses_at_once_until_it_has_recovered() {
    use BackpressureSignal::{Critical, Normal, Warning};
    let config = EndpointStateConfig { auto_throttle: Some(3 * SECOND), ..no_jitter() };
    let mut driven = Driven::connected(config);
    driven.state.handle_throttled(at(1_000), Critical);
    driven.state.handle_throttled(at(2_000), Warning);
    driven.state.handle_timeout(at(4_000));
    assert!(driven.state.accepts_deliver(), "it was not critical all the time");
    driven.state.handle_throttled(at(5_000), Critical);
    driven.state.handle_throttled(at(6_000), Critical);
    assert_eq!(driven.state.poll_timeout(), Some(at(8_000)));
    driven.state.handle_timeout(at(7_999));
    assert!(driven.state.accepts_deliver());
    driven.state.handle_timeout(at(8_000));
    assert!(driven.state.is_throttled());
    assert_eq!(driven.state.refusal().map(|refusal| refusal.reason()), Some(DeadLetterReason::Limit));
    driven.state.handle_throttled(at(9_000), Warning);
    assert!(driven.state.accepts_deliver());
    assert_eq!(driven.state.throttle_level(), Warning);
    driven.state.handle_throttled(at(9_000), Normal);

    let mut never = Driven::connected(no_jitter());
    never.state.handle_throttled(at(0), Critical);
    never.state.handle_timeout(at(10_000));
    assert!(never.state.accepts_deliver(), "off by default");
}

/// What a driver would have open, and whether that fits what it is told.
struct Storm {
    seed: u64,
    dialling: bool,
    connected: bool,
    dials: u64,
    /// When the last of them ended.
    ended: Instant,
}

impl Storm {
    fn obey(&mut self, state: &mut EndpointState, now: Instant, by_hand: bool) {
        let seed = self.seed;
        while let Some(action) = state.poll_action() {
            match action {
                EndpointAction::Connect { attempt } => {
                    assert!(!self.dialling && !self.connected, "seed {seed}: a second dial");
                    assert!((1..=5).contains(&attempt), "seed {seed}: attempt {attempt}");
                    let waited = now - self.ended;
                    assert!(by_hand || waited >= ms(160), "seed {seed}: dialled after {waited:?}");
                    self.dialling = true;
                    self.dials += 1;
                }
                EndpointAction::Disconnect { .. } => {
                    assert!(self.dialling || self.connected, "seed {seed}: nothing to end");
                    (self.dialling, self.connected) = (false, false);
                    self.ended = now;
                }
                EndpointAction::Probe => assert!(self.connected, "seed {seed}"),
                EndpointAction::Terminated { .. } => {
                    assert!(!self.dialling && !self.connected, "seed {seed}: ended with a connection");
                }
                EndpointAction::Reconnecting { .. }
                | EndpointAction::Connected { .. }
                | EndpointAction::Discard { .. }
                | EndpointAction::Suspended
                | EndpointAction::Resumed => {}
            }
        }
    }
}

/// A day of cuts, refusals, goodbyes, blocks and suspensions in any order: one dial at a time, never in a circle, each
/// ended connection told once, and nothing left at the end.
#[test]
fn a_day_of_storms_leaves_nothing_behind() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let config = EndpointStateConfig {
            patience: if seed % 2 == 0 { Patience::Drop } else { Patience::Keep },
            auto_throttle: Some(SECOND),
            ..EndpointStateConfig::default()
        };
        let mut state = EndpointState::new(config, Arc::default(), seed);
        let (mut now, end) = (Instant::ZERO, Instant::ZERO + 24 * 3_600 * SECOND);
        let mut storm = Storm { seed, dialling: false, connected: false, dials: 0, ended: Instant::ZERO };
        let (mut ids, mut steps) = (0_u64, 0_u64);
        while now < end {
            steps += 1;
            let event = random.u8(..20);
            match event {
                0 | 1 => state.ensure_connected(now),
                2..=6 if storm.dialling => {
                    storm.dialling = false;
                    storm.connected = true;
                    ids += 1;
                    state.handle_connected(now, format!("{ids}"));
                }
                7..=12 if storm.dialling => {
                    (storm.dialling, storm.ended) = (false, now);
                    state.handle_connect_failed(now, "refused");
                }
                13 => state.handle_disconnected(now, DisconnectCause::Stream("reset".into())),
                14 => {
                    let cause =
                        if random.bool() { DisconnectCause::PeerLeft } else { DisconnectCause::Blocked };
                    state.handle_disconnected(now, cause);
                }
                15 => state.handle_throttled(now, BackpressureSignal::ALL[random.usize(..3)]),
                16 => {
                    state.suspend();
                    if random.bool() {
                        state.resume(now);
                    }
                }
                17 => {
                    state.resume(now);
                    state.handle_unblocked();
                }
                18 if random.u8(..4) == 0 => {
                    state.retry(now);
                }
                _ => state.handle_received(now),
            }
            storm.obey(&mut state, now, matches!(event, 0 | 1 | 16..=18));
            let is_up = state.connection_state() == ConnectionState::Connected;
            assert!(!is_up || storm.connected, "seed {seed}: connected to nothing");
            // To the next deadline, to somewhere before it, or well past it.
            let step = match (state.poll_timeout(), random.u8(..8)) {
                (Some(due), 0..=3) => due - now,
                (Some(due), 4..=6) => (due - now).mul_f64(random.f64()),
                _ => ms(random.u64(..120_000)),
            };
            now += step;
            state.handle_timeout(now);
            storm.obey(&mut state, now, false);
        }
        assert!(steps > 1_000 && storm.dials > 100, "seed {seed}: {steps} steps, {} dials", storm.dials);
        state.close();
        while state.poll_action().is_some() {}
        assert_eq!(state.poll_timeout(), None, "seed {seed}");
        assert!(state.actions.capacity() <= 16, "seed {seed}: {} actions held", state.actions.capacity());
    }
}

/// A client is connected from the call that it opens, whatever was before; a suspension stays.
///
/// Covers: S155
#[test]
fn an_accepted_call_serves_whatever_was_before() {
    let client = || {
        let state = EndpointState::new(no_jitter(), Arc::default(), 7).never_dialled();
        Driven { state, now: Instant::ZERO, told: Vec::new() }
    };
    let mut new = client();
    new.state.handle_accepted(new.now, "one");
    assert_eq!(new.take(), ["connected one"]);
    // One more, before the end of the first is known.
    new.state.handle_accepted(new.now, "one");
    assert_eq!(new.take(), ["connected one again"]);
    new.state.handle_accepted(new.now, "two");
    assert_eq!(new.take(), ["connected two new again"]);

    // Suspended before it came, with something waiting for it; then lost, and back.
    let mut held = client();
    held.state.suspend();
    held.state.ensure_connected(held.now);
    assert_eq!(held.state.connection_state(), ConnectionState::Suspended);
    held.state.handle_accepted(held.now, "one");
    assert_eq!(held.take(), ["suspended", "connected one"]);
    assert!(held.state.is_linked() && held.state.is_suspended());
    let silence = ms(1);
    held.state.handle_disconnected(held.now, DisconnectCause::Heartbeat { silence });
    assert!(!held.state.is_linked());
    held.state.handle_accepted(held.now, "one");
    assert_eq!(held.take()[1..], ["connected one again"]);
    held.state.resume(held.now);
    assert_eq!(held.take(), ["resumed"]);
    assert_eq!(held.state.connection_state(), ConnectionState::Connected);

    // It does not come: nothing is tried, and what waits is given up at once.
    for suspended in [false, true] {
        let mut gone = client();
        if suspended {
            gone.state.suspend();
            gone.state.ensure_connected(gone.now);
            gone.state.resume(gone.now);
        } else {
            gone.state.ensure_connected(gone.now);
        }
        let told = gone.take();
        assert!(told.last().is_some_and(|last| last.starts_with("terminated: unreachable: ")), "{told:?}");
        assert!(!told.iter().any(|text| text.starts_with("connect ")), "{told:?}");
        assert_eq!(gone.state.poll_timeout(), None);
    }
    let mut lost = client();
    lost.state.handle_accepted(lost.now, "one");
    lost.run(at(60_000), |_| panic!("it is never dialled"));
    assert_eq!(lost.when("terminated: unreachable: "), [45_000]);

    let mut blocked = client();
    blocked.state.handle_blocked(blocked.now);
    blocked.state.handle_accepted(blocked.now, "one");
    assert_eq!(blocked.take(), ["disconnect: blocked"]);
    blocked.state.retry(blocked.now);
    assert_eq!(blocked.take(), [""; 0]);
}

/// What comes of an attempt that was given up says nothing of the one that was begun after it.
#[test]
fn an_attempt_that_was_given_up_is_told_from_the_next() {
    let mut driven = Driven::new(no_jitter());
    driven.state.ensure_connected(driven.now);
    let first = driven.state.attempt_number();
    assert!(driven.state.is_under_way(first));
    driven.state.suspend();
    assert!(!driven.state.is_under_way(first));
    driven.state.resume(driven.now);
    let second = driven.state.attempt_number();
    assert!(driven.state.is_under_way(second) && !driven.state.is_under_way(first));
}

/// The time of an attempt does not run while it waits for its turn to dial, and what gives it up does so all the same.
#[test]
fn the_time_of_an_attempt_begins_with_its_turn() {
    let waiting = || {
        let mut driven = Driven::new(no_jitter());
        driven.state.ensure_connected(driven.now);
        driven.state.handle_turn_awaited(1);
        driven.take();
        assert_eq!(driven.state.poll_timeout(), None);
        driven
    };
    let mut driven = waiting();
    driven.state.handle_timeout(at(3_600_000));
    driven.state.handle_dialling(at(3_600_000), 2);
    assert_eq!((driven.take().len(), driven.state.poll_timeout()), (0, None), "of another attempt");
    driven.state.handle_dialling(at(3_600_000), 1);
    assert_eq!(driven.state.poll_timeout(), Some(at(3_615_000)));
    driven.state.handle_timeout(at(3_615_000));
    assert_eq!(driven.take(), ["disconnect: no answer in time"]);
    type End = fn(&mut EndpointState);
    let ends: [(End, &str); 3] = [
        (EndpointState::suspend, "disconnect: not wanted any more"),
        (|state| state.handle_blocked(at(0)), "disconnect: blocked"),
        (EndpointState::close, "disconnect: shutdown"),
    ];
    for (end, told) in ends {
        let mut driven = waiting();
        end(&mut driven.state);
        assert_eq!(driven.take()[0], told);
        driven.state.handle_dialling(at(1), 1);
        assert_eq!(driven.state.poll_timeout(), None, "{told}");
    }
}
