//! What is written to `tracing`: the list in the documentation of the crate.

#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod ear;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nexus_actor_core::event_stream::EventStream;
use nexus_actor_core::path::Authority;
use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::{ActorSystem, CorrelationId, Instant};
use nexus_remote::backpressure::BackpressureSignal;
use nexus_remote::correlation_trace::HopKind;
use nexus_remote::event::{RefusedBy, RemotingBackpressureEvent, RemotingLifecycleEvent, StartWarning};
use nexus_remote::flight_recorder::RemotingFlightRecorder;
use nexus_remote::transport::{LoopbackNetwork, LoopbackTransport, RemoteTransport, TransportFactory};
use nexus_remote::wire::{QuarantineReason, RefuseReason};
use nexus_remote::{EventPublisher, RemotingControl, RemotingExtensionConfig, WithRemoting};
use nexus_testkit::{Direction, SimNode, Simulation};
use tracing::subscriber::DefaultGuard;

use ear::{Word, pair};

/// The lines written on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn read(level: tracing::Level) -> (Self, DefaultGuard) {
        let lines = Self::default();
        let out = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(level)
            .with_writer(move || out.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// The lines so far in which all of `parts` are.
    fn with(&self, parts: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_string).collect()
    }
}

/// With a queue that a few messages fill.
fn short_pair(seed: u64) -> (Simulation, SimNode, SimNode) {
    pair(seed, |config| config.with_queue_messages_max(100))
}

/// Each hop is an event with the id under which the recorders of both nodes have it.
///
/// Covers: OBS-13, DM-07, OBS-03
#[test]
fn hops_are_written_with_the_ids_of_the_recordings() {
    let (lines, _guard) = Lines::read(tracing::Level::TRACE);
    let (sim, a, b) = short_pair(13);
    let to = a.system().resolve::<Word>(&b.url("/user/ear")).unwrap();
    for n in 0..5 {
        to.tell(Word(n));
    }
    sim.run(Duration::from_secs(1));
    let recorded = |node: &SimNode, hop: HopKind| -> Vec<String> {
        let snapshot = node.remoting().flight_recorder().snapshot();
        snapshot.traces().filter(|t| t.hop == hop).map(|t| t.correlation_id.to_string()).collect()
    };
    let sent = recorded(&a, HopKind::Send);
    assert_eq!((sent.len(), &sent), (5, &recorded(&b, HopKind::Receive)));
    let (to_b, from_a) = (b.authority().to_string(), a.authority().to_string());
    for id in &sent {
        let at = |hop: &str, peer: &str| lines.with(&["TRACE nexus_remote::trace", id, hop, peer]).len();
        assert_eq!((at("hop=\"send\"", &to_b), at("hop=\"receive\"", &from_a)), (1, 1), "{id}");
    }
}

/// Covers: OBS-10, OBS-07, EV-22
#[test]
fn turns_marks_and_figures_are_written_at_their_levels() {
    let (lines, _guard) = Lines::read(tracing::Level::DEBUG);
    let (sim, a, b) = short_pair(10);
    let to = a.system().resolve::<Word>(&b.url("/user/ear")).unwrap();
    to.tell(Word(0));
    sim.run(Duration::from_secs(1));
    let peer = format!("authority={}", b.authority());
    let count = |parts: &[&str]| lines.with(parts).into_iter().filter(|line| line.contains(&peer)).count();
    assert_eq!(count(&["DEBUG nexus_remote::lifecycle", "association_attempt", "attempt 1"]), 1);
    assert_eq!(count(&["INFO nexus_remote::lifecycle", "connected", "a new session"]), 1);
    a.link().stall(Direction::Outbound);
    for n in 0..70 {
        to.tell(Word(n));
        sim.settle();
    }
    assert_eq!(count(&["WARN nexus_remote::backpressure", "remote backpressure", "signal=\"warning\""]), 1);
    a.link().pass(Direction::Outbound);
    sim.run(Duration::from_secs(15));
    assert_eq!(count(&["INFO nexus_remote::backpressure", "signal=\"normal\""]), 1);
    assert!(count(&["DEBUG nexus_remote::metric", "latency_ms", "deferred_depth=0"]) >= 1);
    assert_eq!(count(&["nexus_remote::trace"]), 0, "hops are for TRACE");
    // Without a deadline an operator must act; with one it may heal.
    a.remoting().quarantine(&b.authority().to_string(), QuarantineReason::ByOperator);
    sim.run(Duration::from_secs(1));
    assert_eq!(count(&["ERROR nexus_remote::lifecycle", "quarantined"]), 1);
}

/// A storm of losses is a few lines with their count, and the first loss is one.
///
/// Covers: OBS-10, DL-04
#[test]
fn dead_letters_are_warnings_of_a_bounded_rate() {
    let (lines, _guard) = Lines::read(tracing::Level::INFO);
    let (sim, a, b) = short_pair(100);
    let nobody = a.system().resolve::<Word>(&b.url("/user/nobody")).unwrap();
    for n in 0..1_000 {
        nobody.tell(Word(n));
        if n % 50 == 0 {
            sim.run(Duration::from_millis(10));
        }
    }
    sim.run(Duration::from_secs(1));
    let written = lines.with(&["WARN nexus_actor_core::dead_letter", "dead letter", "no such actor"]);
    assert_eq!(written.len(), 10, "1, 2, 4 .. 512 of 1,000: {written:?}");
    for (line, count) in written.iter().zip((0..10).map(|n| 1 << n)) {
        assert!(line.contains(&format!("count={count} ")) && line.contains("/user/nobody"), "{line}");
        assert!(line.contains("correlation_id="), "{line}");
    }
}

/// Whoever allowed plain text beyond this host hears of it at every start: in the log, and on the event stream, also
/// when remoting starts with its system.
///
/// Covers: S132
#[test]
fn an_open_listener_warns_at_every_start() {
    let (lines, _guard) = Lines::read(tracing::Level::WARN);
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let start = |host: &str, scheme: &'static str| {
        let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
        let transports = TransportFactory::new().with_transport(scheme, move || {
            Ok(Arc::new(LoopbackTransport::new(&network)) as Arc<dyn RemoteTransport>)
        });
        let config = RemotingExtensionConfig::default()
            .with_canonical_host(host)
            .with_transport_scheme(scheme)
            .with_transport_factory(transports)
            .with_insecure_plaintext(true);
        let events = EventStream::new();
        let out = heard.clone();
        events.subscribe(move |warning: &StartWarning| out.lock().unwrap().push(warning.to_json())).forever();
        let out = heard.clone();
        events
            .subscribe(move |event: &RemotingLifecycleEvent| {
                out.lock().unwrap().push(event.name().to_string());
            })
            .forever();
        let system = ActorSystem::builder("open")
            .with_runtime(pump)
            .with_event_stream(events)
            .with_remoting(config)
            .build()
            .unwrap();
        drop(system);
        std::mem::take(&mut *heard.lock().unwrap())
    };
    for times in 1..=2 {
        let heard = start("10.0.0.1", "fraktor.tcp");
        assert_eq!(heard[0], "listen_started");
        assert_eq!(
            heard[1],
            r#"{"authority":"10.0.0.1:25520","event":"start_warning","text":"insecure_plaintext: 10.0.0.1:25520 is open to the network, neither encrypted nor authenticated"}"#
        );
        let written = lines.with(&["WARN nexus_remote::start", "insecure_plaintext", "10.0.0.1:25520"]);
        assert_eq!(written.len(), times);
    }
    assert_eq!(start("127.0.0.1", "fraktor.tcp"), ["listen_started"], "nobody else can reach it");
    assert_eq!(lines.with(&["nexus_remote::start"]).len(), 2);
}

/// A queue that goes to and fro over its mark is a line a second for each level, with the count of the others.
///
/// Covers: S144
#[test]
fn a_storm_of_marks_is_a_line_a_second() {
    let (lines, _guard) = Lines::read(tracing::Level::INFO);
    let publisher = EventPublisher::new(EventStream::new(), Arc::new(RemotingFlightRecorder::new(16)));
    for millis in (0..5_000).step_by(10) {
        for signal in [BackpressureSignal::Warning, BackpressureSignal::Normal] {
            let event = RemotingBackpressureEvent {
                authority: Authority::new("10.0.0.1", 1),
                signal,
                listener: None,
                messages: 60,
                bytes: 600,
                correlation_id: CorrelationId::NIL,
            };
            publisher.publish(Instant::from_millis(millis), event.into());
        }
    }
    for level in ["WARN nexus_remote::backpressure", "INFO nexus_remote::backpressure"] {
        let written = lines.with(&[level]);
        assert_eq!(written.len(), 5, "{written:?}");
        assert!(!written[0].contains("held_back") && written[1].contains("held_back=99"), "{written:?}");
    }
}

/// However often a peer fails, it is a line a second for each reason, and the lines say how many they stand for.
///
/// Covers: S144
#[test]
fn a_storm_of_failures_is_a_line_a_second_by_peer_and_reason() {
    let (lines, _guard) = Lines::read(tracing::Level::WARN);
    let publisher = EventPublisher::new(EventStream::new(), Arc::new(RemotingFlightRecorder::new(16)));
    let refused = |millis, host: &str, reason| {
        publisher.publish_lifecycle(
            Instant::from_millis(millis),
            RemotingLifecycleEvent::Refused {
                authority: Authority::new(host, 1),
                by: RefusedBy::Us,
                reason,
                held_back: 0,
                correlation_id: CorrelationId::NIL,
            },
        );
    };
    let held_back = |lines: &[String]| -> u64 {
        let counts = lines.iter().filter_map(|line| line.split_once("held_back=")?.1.split(' ').next());
        counts.map(|count| count.parse::<u64>().unwrap()).sum()
    };
    // Two reasons of one peer, one of another: 100 a second each, for ten seconds and once after.
    for millis in (0..10_000).step_by(10).chain([11_000]) {
        refused(millis, "10.0.0.1", RefuseReason::Blocked);
        refused(millis, "10.0.0.1", RefuseReason::Version);
        refused(millis, "10.0.0.2", RefuseReason::Blocked);
    }
    for parts in
        [["10.0.0.1:1", "by us: blocked"], ["10.0.0.1:1", "by us: version"], ["10.0.0.2:1", "blocked"]]
    {
        let written = lines.with(&parts);
        assert_eq!(written.len(), 11, "{written:?}");
        assert!(!written[0].contains("held_back"), "the first comes at once: {}", written[0]);
        assert_eq!(written.len() as u64 + held_back(&written), 1_001);
    }
    // Ten thousand names, which are the peer's word.
    let before = lines.with(&["refused"]).len();
    for n in 0..10_000 {
        refused(20_000, &format!("h{n}"), RefuseReason::Blocked);
    }
    let written = lines.with(&["refused"]).split_off(before);
    assert!(written.len() <= 256, "{}", written.len());
    refused(30_000, "last", RefuseReason::Blocked);
    let written = lines.with(&["refused"]).split_off(before);
    assert_eq!(written.len() as u64 + held_back(&written), 10_001);
}
