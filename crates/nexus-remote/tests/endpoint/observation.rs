//! One id leads from the sender's record to the receiver's, and into every event about the message.

use nexus_actor_core::event_stream::EventStreamEvent;
use nexus_actor_core::{CorrelationId, DeadLetterReason};
use nexus_remote::RemotingControl;
use nexus_remote::backpressure::BackpressureSignal;
use nexus_remote::correlation_trace::{HopKind, TraceSampling};
use nexus_remote::flight_recorder::{FlightKind, RecorderSnapshot};
use nexus_remote::metric::{SreThresholds, ThresholdKind};
use nexus_testkit::{Direction, SimNode};

use crate::kit::*;

fn recorded(node: &SimNode) -> RecorderSnapshot {
    node.remoting().flight_recorder().snapshot()
}

fn hops(node: &SimNode, hop: HopKind) -> Vec<(CorrelationId, String)> {
    recorded(node)
        .traces()
        .filter(|trace| trace.hop == hop)
        .map(|trace| (trace.correlation_id, trace.authority.to_string()))
        .collect()
}

/// Covers: OBS-14, S139
#[test]
fn the_same_id_is_in_the_recorders_of_both_ends() {
    let (sim, [a, b]) = nodes(62, ["a", "b"]);
    parrot(b.system(), "parrot");
    let to = far(&a, &b, "/user/parrot");
    // Of more in one go one in 64 is traced.
    for n in 0..100 {
        to.tell(Talk::Say(n));
        sim.run(ms(60));
    }
    let ask = to.ask(|reply| Talk::Echo(1, reply));
    assert_eq!(sim.wait(s(4), ask), Some(Ok(1)));
    let (sent, received) = (hops(&a, HopKind::Send), hops(&b, HopKind::Receive));
    assert_eq!(sent.len(), 101);
    assert!(sent.iter().all(|(_, peer)| *peer == b.authority().to_string()));
    assert!(received.iter().all(|(_, peer)| *peer == a.authority().to_string()));
    let ids = |hops: &[(CorrelationId, String)]| hops.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(ids(&sent), ids(&received), "in the same order");
    let mut unique = ids(&sent);
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 101);
    assert!(!unique.contains(&CorrelationId::NIL));
    // The answer carries the id of its question back.
    assert_eq!(hops(&b, HopKind::Send), [(sent[100].0, a.authority().to_string())]);
    // As a tool reads it.
    let snapshot = recorded(&b);
    let record = snapshot.of_message(sent[7].0).next().unwrap();
    let json = snapshot.to_json(record);
    assert!(json.contains(&sent[7].0.to_string()), "{json}");
}

/// Covers: S94, S139
#[test]
fn the_message_that_crossed_a_mark_is_named_by_the_event() {
    let sim = simulation(621);
    let a = know(sim.node_with("a", |c| c.with_queue_messages_max(100)));
    let b = know(sim.node("b"));
    let ear = probe(b.system(), "ear");
    let to = far(&a, &b, "/user/ear");
    let json = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let out = json.clone();
    a.system()
        .event_stream()
        .subscribe(move |event: &EventStreamEvent| {
            if let EventStreamEvent::RemotingBackpressure(record) = event {
                out.lock().unwrap().push((record.correlation_id, record.json.to_string()));
            }
        })
        .forever();
    to.tell(Talk::Say(0));
    sim.run(s(1));
    a.link().stall(Direction::Outbound);
    for n in 0..60 {
        to.tell(Talk::Say(n));
        sim.settle();
    }
    let warning = a.pressure().into_iter().find(|event| event.signal == BackpressureSignal::Warning).unwrap();
    assert_eq!(warning.messages, 60);
    let (id, text) = json.lock().unwrap()[0].clone();
    assert_eq!(id, warning.correlation_id);
    assert!(text.contains(&id.to_string()), "{text}");
    let marked = recorded(&a)
        .of_message(id)
        .filter(|record| matches!(record.event.kind, FlightKind::Backpressure { .. }))
        .count();
    assert_eq!(marked, 1, "and in the recorder");
    a.link().pass(Direction::Outbound);
    sim.run(s(1));
    assert_eq!(ear.len(), 61);
}

/// Covers: S139
#[test]
fn the_id_of_a_lost_message_leads_from_the_send_to_the_reason() {
    let (sim, [a, b]) = nodes(139, ["a", "b"]);
    let nobody = far(&a, &b, "/user/nobody");
    nobody.tell(Talk::Say(0));
    sim.run(s(1));
    // Lost at the receiver: both recordings and its dead letter share the id.
    let id = hops(&a, HopKind::Send)[0].0;
    let letter = &b.letters()[0];
    assert_eq!(letter.context().correlation_id, id);
    let reasons = |node: &SimNode, id| {
        recorded(node)
            .of_message(id)
            .filter_map(|record| match record.event.kind {
                FlightKind::Lost { reason, .. } => Some(reason),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(reasons(&b, id), [DeadLetterReason::NoSuchActor]);
    // Lost on the way: at the sender.
    b.freeze();
    for n in 1..=5 {
        nobody.tell(Talk::Say(n));
    }
    sim.run(ms(100));
    b.kill();
    let _b = know(sim.successor(&b, |config| config));
    sim.run(s(3));
    let letters = a.letters();
    assert_eq!(letters.len(), 5);
    for (letter, (sent, _)) in letters.iter().zip(&hops(&a, HopKind::Send)[1..]) {
        let context = letter.context();
        assert_eq!(context.correlation_id, *sent);
        assert_eq!(context.peer.as_ref().unwrap().authority.as_ref(), Some(b.authority()));
        assert_eq!(reasons(&a, *sent), [DeadLetterReason::Unconfirmed]);
    }
}

/// Covers: S140
#[test]
fn a_recorder_that_is_off_or_small_keeps_to_that() {
    let sim = simulation(140);
    let off = know(sim.node_with("off", |c| c.with_flight_recorder_enabled(false)));
    let small = know(sim.node_with("small", |c| c.with_flight_recorder_size(16)));
    let ear = probe(small.system(), "ear");
    let to = far(&off, &small, "/user/ear");
    for n in 0..500 {
        to.tell(Talk::Say(n));
        sim.run(ms(60));
    }
    assert_eq!(ear.len(), 500);
    assert_eq!(recorded(&off).records.len(), 0);
    let snapshot = recorded(&small);
    assert_eq!(snapshot.records.len(), 16);
    assert!(snapshot.overwritten >= 484, "{}", snapshot.overwritten);
}

/// Covers: OBS-03
#[test]
fn which_messages_are_traced_is_a_setting() {
    const COUNT: u64 = 3_200;
    for (sampling, all) in [(TraceSampling::Adaptive, false), (TraceSampling::All, true)] {
        let sim = simulation(31);
        let node = |name| {
            know(sim.node_with(name, |c| c.with_trace_sampling(sampling).with_flight_recorder_size(65_536)))
        };
        let (a, b) = (node("a"), node("b"));
        let ear = probe(b.system(), "ear");
        let to = far(&a, &b, "/user/ear");
        to.tell(Talk::Say(0));
        sim.run(s(1));
        for n in 1..COUNT {
            to.tell(Talk::Say(n));
        }
        sim.run(s(1));
        assert_eq!(ear.len() as u64, COUNT);
        let ids = |node, hop| hops(node, hop).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        let (sent, received) = (ids(&a, HopKind::Send), ids(&b, HopKind::Receive));
        if all {
            assert_eq!(sent.len() as u64, COUNT);
            assert_eq!(sent, received, "every one, in order");
        } else {
            assert!(sent.len() > 64 && sent.len() < 200, "{} of {COUNT}", sent.len());
            // Both nodes choose by the id, so what the one has of the rush the other has too.
            let rush: Vec<_> = sent.iter().skip(33).collect();
            assert!(rush.iter().all(|id| received.contains(id)), "{} of the rush", rush.len());
        }
    }
}

/// A peer that is slow and then full, beside one that is well: figures in the recorder and the snapshot, and an event
/// when an operator's threshold is crossed, by peer.
///
/// Covers: MET-11, MET-13, OBS-08, OBS-15, CFG-27
#[test]
fn round_trip_and_depth_are_watched_against_thresholds() {
    let sim = simulation(11);
    let limits = SreThresholds::new().with_round_trip(ms(50)).with_queue_depth(10);
    let a = know(sim.node_with("a", |c| c.with_metrics_interval(Some(ms(100))).with_sre_thresholds(limits)));
    let b = know(sim.node("b"));
    let well = know(sim.node("well"));
    parrot(b.system(), "parrot");
    let ear = probe(a.system(), "ear");
    let to = far(&a, &b, "/user/parrot");
    far(&a, &well, "/user/nobody").tell(Talk::Say(0));
    // Watched, so that beats are sent.
    ear.watch(&to);
    sim.run(s(3));
    let kinds = |pick: fn(&FlightKind) -> bool| {
        recorded(&a).records.iter().map(|record| record.event.kind).filter(pick).collect::<Vec<_>>()
    };
    let is_threshold = |kind: &FlightKind| matches!(kind, FlightKind::Threshold { .. });
    assert_eq!(kinds(is_threshold), [], "all is well");
    // Answers come late, each by up to 300 ms.
    for _ in 0..20 {
        a.link().stall(Direction::Inbound);
        sim.run(ms(300));
        a.link().pass(Direction::Inbound);
        sim.run(ms(50));
    }
    let slow = kinds(|kind| matches!(kind, FlightKind::Metric { latency_ms: 51.., .. }));
    assert!(!slow.is_empty());
    let over = kinds(is_threshold);
    assert!(
        matches!(
            over[0],
            FlightKind::Threshold { kind: ThresholdKind::RoundTrip, value: 51.., threshold: 50 }
        ),
        "{over:?}"
    );
    // Nothing goes out while more than ten wait.
    a.link().stall(Direction::Outbound);
    for n in 0..20 {
        to.tell(Talk::Say(n));
    }
    sim.run(ms(200));
    let snapshots = a.remoting().connections_snapshot();
    let of = |node: &SimNode| snapshots.iter().find(|s| s.authority == node.authority().to_string()).unwrap();
    assert_eq!((of(&b).deferred_count, of(&b).metric.deferred_depth), (20, 20));
    assert_eq!(of(&well).deferred_count, 0);
    assert_eq!(of(&b).metric.correlation_id, hops(&a, HopKind::Send).last().unwrap().0);
    let deep = kinds(|kind| matches!(kind, FlightKind::Threshold { kind: ThresholdKind::QueueDepth, .. }));
    assert_eq!(
        deep,
        [FlightKind::Threshold { kind: ThresholdKind::QueueDepth, value: 20, threshold: 10 }],
        "once, not with each metric"
    );
}

/// A hop's size is that of the whole frame at both ends, for messages with and without a reply.
#[test]
fn a_message_has_one_size_at_both_ends() {
    let (sim, [a, b]) = nodes(63, ["a", "b"]);
    parrot(b.system(), "parrot");
    let to = far(&a, &b, "/user/parrot");
    for n in 0..20 {
        to.tell(Talk::Blob(vec![0; n * 10]));
        to.tell(Talk::Blob(vec![0; n * 10]));
        let ask = to.ask(|reply| Talk::Echo(n as u64, reply));
        assert_eq!(sim.wait(s(4), ask), Some(Ok(n as u64)));
    }
    let sizes = |node: &SimNode, of: HopKind| {
        let mut sizes = Vec::new();
        for record in recorded(node).records {
            if let FlightKind::Hop { hop, bytes } = record.event.kind
                && hop == of
            {
                sizes.push((record.event.correlation_id, bytes));
            }
        }
        sizes
    };
    let (sent, received) = (sizes(&a, HopKind::Send), sizes(&b, HopKind::Receive));
    assert_eq!(sent.len(), 60);
    assert_eq!(sent, received);
    // A header of 20 bytes, the recipient, the tag and the length of what is in it.
    assert_eq!(sent[0].1, 20 + 4 + 2);
}
