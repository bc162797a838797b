//! Settings: refused when wrong, and each read by something.

use std::time::Duration;

use nexus_actor_core::{AskError, DeadLetterReason};
use nexus_remote::event::RemotingLifecycleEvent as Event;
use nexus_remote::failure_detector::{DeadlineConfig, DetectorChoice};
use nexus_remote::metric::{RemotingMetric, SreThresholds, ThresholdCrossed};
use nexus_remote::wire::QuarantineReason;
use nexus_remote::{RemotingControl, RemotingExtensionConfig};
use nexus_testkit::{DialFate, Direction, SimNode, Simulation};

use crate::kit::*;

fn pair(
    seed: u64,
    adjust: impl FnOnce(RemotingExtensionConfig) -> RemotingExtensionConfig,
) -> (Simulation, SimNode, SimNode) {
    let sim = simulation(seed);
    let a = know(sim.node_with("a", adjust));
    let b = know(sim.node("b"));
    (sim, a, b)
}

/// Two nodes that have talked.
fn talking(
    seed: u64,
    adjust: impl FnOnce(RemotingExtensionConfig) -> RemotingExtensionConfig,
) -> (Simulation, SimNode, SimNode) {
    let (sim, a, b) = pair(seed, adjust);
    parrot(b.system(), "parrot");
    let ask = far(&a, &b, "/user/parrot").ask(|reply| Talk::Echo(0, reply));
    assert_eq!(sim.wait(s(3), ask), Some(Ok(0)));
    (sim, a, b)
}

fn since(node: &SimNode, from: nexus_actor_core::Instant, test: impl Fn(&Event) -> bool) -> Option<Duration> {
    node.lifecycle().into_iter().find(|(at, event)| *at >= from && test(event)).map(|(at, _)| at - from)
}

/// Covers: S116, S132, S134
#[test]
fn a_node_with_wrong_settings_does_not_start_and_names_all_of_them() {
    let sim = simulation(134);
    let refused = |adjust: fn(RemotingExtensionConfig) -> RemotingExtensionConfig| {
        let error = sim.try_node("a", adjust).map(|_| ()).unwrap_err();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        text
    };
    let text =
        refused(|c| c.with_queue_messages_max(0).with_reconnect_jitter(2.0).with_first_byte_timeout(s(90)));
    for part in ["queue_messages_max", "reconnect_jitter", "handshake_timeout"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = refused(|c| c.with_canonical_host("0.0.0.0"));
    assert!(text.contains("with_canonical_host"), "{text}");
    let text = refused(|c| c.with_transport_scheme("fraktor.tcp").with_canonical_host("10.1.2.3"));
    assert!(text.contains("fraktor.tls") && text.contains("with_insecure_plaintext"), "{text}");
    let text = refused(|c| c.with_transport_scheme("fraktor.pigeon"));
    assert!(text.contains(own_scheme()), "names the schemes there are: {text}");
    // Nothing is left running.
    sim.run(s(1));
    assert_eq!(sim.pump().next_deadline(), None);
}

/// Covers: S21
#[test]
fn the_times_of_a_handshake_are_read() {
    let (sim, a, _) =
        pair(1, |c| c.with_first_byte_timeout(s(1)).with_connect_timeout(s(2)).with_handshake_timeout(s(4)));
    let (silent, slow) = (sim.stranger(a.authority()), sim.stranger(a.authority()));
    let _taken = slow.write(b"FRKT");
    sim.run(ms(900));
    assert!(!silent.is_closed() && !slow.is_closed());
    sim.run(ms(200));
    assert!(silent.is_closed() && !slow.is_closed());
    sim.run(s(3));
    assert!(slow.is_closed());
}

/// Covers: S3, S7
#[test]
fn the_settings_of_reconnecting_are_read() {
    // An address never reached is given up.
    for give_up in [6, 40] {
        let (sim, a, b) = pair(3, |c| c.with_never_reached_give_up(s(give_up)));
        a.link().set_dials(DialFate::Hold);
        let ask = far(&a, &b, "/user/x").ask(|reply| Talk::Echo(0, reply)).timeout(s(100));
        let started = sim.now();
        assert_eq!(sim.wait(s(99), ask), Some(Err(AskError::Unreachable)));
        let took = sim.now() - started;
        assert!(took >= s(give_up) && took <= s(give_up + 6), "{give_up}: {took:?}");
    }
    // Waits between dials: the first, the longest, while refused, and how many.
    let dials = |adjust: fn(RemotingExtensionConfig) -> RemotingExtensionConfig, fate| {
        let (sim, a, b) = talking(31, adjust);
        a.link().set_dials(fate);
        b.link().set_dials(fate);
        a.link().cut(nexus_testkit::Cut::Reset);
        far(&a, &b, "/user/parrot").tell(Talk::Say(0));
        let before = a.count(|event| matches!(event, Event::AssociationAttempt { .. }));
        sim.run(s(50));
        a.count(|event| matches!(event, Event::AssociationAttempt { .. })) - before
    };
    let refused = dials(|c| c, DialFate::Refuse);
    let slower = dials(|c| c.with_refused_dial_wait_max(s(5)), DialFate::Refuse);
    assert!(refused > 2 * slower, "{refused} {slower}");
    let first = dials(|c| c.with_reconnect_initial_backoff(s(4)), DialFate::Refuse);
    assert!(first < refused, "{first} {refused}");
    let held = dials(|c| c, DialFate::Hold);
    let impatient = dials(|c| c.with_connect_timeout(s(1)), DialFate::Hold);
    assert!(impatient > held, "{impatient} {held}");
    let longest = dials(|c| c.with_connect_timeout(s(1)).with_reconnect_max_backoff(s(30)), DialFate::Hold);
    assert!(longest < impatient, "{longest} {impatient}");
    let three = dials(|c| c.with_reconnect_max_retries(Some(3)), DialFate::Refuse);
    assert!(three <= 4, "{three}");
}

/// Covers: S56, S89, FD-03, CFG-25
#[test]
fn the_settings_of_detecting_are_read() {
    let dies = |adjust: fn(RemotingExtensionConfig) -> RemotingExtensionConfig, gone: bool| {
        let (sim, a, b) = talking(56, adjust);
        let ear = probe(a.system(), "ear");
        ear.watch(&far(&a, &b, "/user/parrot"));
        sim.run(s(30));
        let started = sim.now();
        if gone {
            b.kill()
        } else {
            b.freeze()
        }
        assert!(sim.until(s(60), || !ear.is_empty()));
        sim.now() - started
    };
    let (refused, slow) = (dies(|c| c, true), dies(|c| c.with_refused_dials_give_up(s(6)), true));
    assert!(refused < s(4) && slow >= s(6) && slow < s(8), "{refused:?} {slow:?}");
    let phi = dies(|c| c, false);
    let deadline = dies(
        |c| {
            let mut detector = DeadlineConfig::default();
            detector.deadline = s(3);
            c.with_watch_detector(DetectorChoice::Deadline(detector))
        },
        false,
    );
    assert!(deadline < s(6) && phi > s(9), "{deadline:?} {phi:?}");
    // The other one judges a connection over which nothing is watched.
    let doubted = |adjust: fn(RemotingExtensionConfig) -> RemotingExtensionConfig, watch: bool| {
        let (sim, a, b) = talking(89, adjust);
        let ear = probe(a.system(), "ear");
        if watch {
            ear.watch(&far(&a, &b, "/user/parrot"));
        }
        sim.run(s(30));
        let started = sim.now();
        b.freeze();
        far(&a, &b, "/user/parrot").tell(Talk::Say(0));
        sim.run(s(30));
        since(&a, started, |event| matches!(event, Event::Suspect { .. })).unwrap()
    };
    let hasty = |c: RemotingExtensionConfig| {
        // While nothing is watched beats begin with the doubt: it is the first answer that is waited for.
        let detector = DeadlineConfig::default().with_deadline(s(3)).with_first_heartbeat_allowance(s(3));
        c.with_connection_detector(DetectorChoice::Deadline(detector))
    };
    let (connection, watched) = (doubted(hasty, false), doubted(hasty, true));
    assert!(connection < s(7) && watched > s(9), "{connection:?} {watched:?}");
    let learned = doubted(|c| c, false);
    assert!(learned > s(9), "{learned:?}");
    let beats = |interval| {
        let (sim, a, b) = talking(57, |c| c.with_heartbeat_interval(interval));
        let ear = probe(a.system(), "ear");
        ear.watch(&far(&a, &b, "/user/parrot"));
        sim.run(s(10));
        let before = a.link().counts().bytes_outbound;
        sim.run(s(60));
        a.link().counts().bytes_outbound - before
    };
    let (often, seldom) = (beats(ms(500)), beats(s(4)));
    // Answers to the beats of the peer are among them.
    assert!(often > 2 * seldom, "{often} {seldom}");
}

/// Covers: CFG-20, S8, S25, HS-43
#[test]
fn the_settings_of_quarantine_and_idleness_are_read() {
    for period in [10, 60] {
        let (sim, a, b) = talking(20, |c| c.with_quarantine_period(s(period)));
        let started = sim.now();
        a.remoting().quarantine(&b.authority().to_string(), QuarantineReason::Unreachable);
        sim.run(s(100));
        let lifted = since(&a, started, |event| matches!(event, Event::QuarantineLifted { .. })).unwrap();
        assert!(lifted >= s(period) && lifted < s(period + 2), "{period}: {lifted:?}");
    }
    for idle in [90, 600] {
        let (sim, a, _b) = talking(8, |c| c.with_idle_timeout(s(idle)));
        let started = sim.now();
        assert!(sim.until(s(1_000), || a.remoting().tasks() == 1));
        let took = sim.now() - started;
        // b has its own idea of idle: 300 s.
        assert!(took >= s(idle.min(300)) && took <= s(idle.min(300) + 70), "{idle}: {took:?}");
    }
    for forget in [400, 4_000] {
        let (sim, a, _b) = talking(14, |c| c.with_forget_after(s(forget)));
        assert!(sim.until(s(20_000), || a.remoting().associations() == 0), "{forget}");
        assert!(sim.now().as_millis() / 1_000 >= forget, "{forget}");
        assert!(u128::from(sim.now().as_millis() / 1_000) < u128::from(forget) + 1_000, "{forget}");
    }
}

/// Covers: S109
#[test]
fn the_times_of_a_shutdown_are_read() {
    for flush in [1, 6] {
        let (sim, a, b) = talking(109, |c| c.with_shutdown_flush(s(flush)).with_shutdown_timeout(s(8)));
        b.freeze();
        far(&a, &b, "/user/parrot").tell(Talk::Say(1));
        let started = sim.now();
        let system = a.system().clone();
        assert_eq!(sim.wait(s(60), async move { system.shutdown().await }), Some(Ok(())));
        let took = sim.now() - started;
        assert!(took >= s(flush) && took <= s(flush + 2), "{flush}: {took:?}");
    }
}

/// Below, at and above each bound.
///
/// Covers: S91, S102
#[test]
fn the_bounds_are_read() {
    let filled = |adjust: fn(RemotingExtensionConfig) -> RemotingExtensionConfig, size: usize| {
        let (_sim, a, b) = talking(91, adjust);
        b.freeze();
        a.link().stall(Direction::Outbound);
        let to = far(&a, &b, "/user/parrot");
        (0..10_000).take_while(|_| to.try_tell(Talk::Blob(vec![0; size])).is_ok()).count()
    };
    assert_eq!(filled(|c| c.with_queue_messages_max(100), 1), 100);
    let bytes = filled(|c| c.with_queue_bytes_max(300 * 1024), 1_000);
    assert!((290..=300).contains(&bytes), "{bytes}");
    let (sim, a, b) = talking(19, |c| c.with_pending_asks_max(10));
    let asks: Vec<_> = (0..11).map(|_| far(&a, &b, "/user/parrot").ask(Talk::Keep)).collect();
    sim.settle();
    let over = asks.into_iter().next_back().unwrap();
    assert_eq!(sim.wait(ms(100), over), Some(Err(AskError::Full)));
    let (sim, a, b) = talking(18, |c| c.with_watches_max(3));
    let ear = probe(a.system(), "ear");
    for n in 0..4 {
        parrot(b.system(), &format!("p{n}"));
        ear.watch(&far(&a, &b, &format!("/user/p{n}")));
    }
    sim.run(s(2));
    let told = ear.take_terminations();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].1, nexus_actor_core::TerminationReason::Limit);
    let (_sim, a, b) = talking(7, |c| c.with_frame_bytes_max(16 * 1024));
    let to = far(&a, &b, "/user/parrot");
    assert!(to.try_tell(Talk::Blob(vec![0; 15 * 1024])).is_ok());
    assert!(to.try_tell(Talk::Blob(vec![0; 16 * 1024])).is_err());
    // The smaller of both nodes' frames holds, for the other one too.
    let back = far(&b, &a, "/user/x");
    assert!(back.try_tell(Talk::Blob(vec![0; 16 * 1024])).is_err());
    assert_eq!(b.lost(DeadLetterReason::TooLarge), 0, "given back, not recorded");
}

/// Covers: CFG-11, CFG-12, CFG-27, MET-12
#[test]
fn the_settings_of_observation_are_read() {
    let (_sim, a, b) = talking(11, |c| {
        c.with_queue_messages_max(100)
            .with_backpressure_warning_threshold(0.2)
            .with_backpressure_critical_threshold(0.4)
    });
    b.freeze();
    let to = far(&a, &b, "/user/parrot");
    a.link().stall(Direction::Outbound);
    for _ in 0..60 {
        to.tell(Talk::Say(0));
        _sim.settle();
    }
    let told: Vec<_> = a.pressure().iter().map(|event| event.messages).collect();
    assert_eq!(told, [20, 41]);
    for interval in [Some(s(1)), Some(s(5)), None] {
        let (sim, a, b) = talking(12, |c| {
            c.with_metrics_interval(interval).with_sre_thresholds(SreThresholds::new().with_queue_depth(10))
        });
        let counts = std::sync::Arc::new((std::sync::Mutex::new(0), std::sync::Mutex::new(0)));
        let (to, also) = (counts.clone(), counts.clone());
        a.system().event_stream().subscribe(move |_: &RemotingMetric| *to.0.lock().unwrap() += 1).forever();
        a.system()
            .event_stream()
            .subscribe(move |_: &ThresholdCrossed| *also.1.lock().unwrap() += 1)
            .forever();
        b.freeze();
        for _ in 0..50 {
            far(&a, &b, "/user/parrot").tell(Talk::Say(0));
        }
        sim.run(s(10) + ms(500));
        let (metrics, crossed) = (*counts.0.lock().unwrap(), *counts.1.lock().unwrap());
        let expected = interval.map_or(0, |interval| 10 / interval.as_secs());
        assert!(metrics >= expected && metrics <= expected + 1, "{interval:?}: {metrics}");
        assert_eq!(crossed, u64::from(interval.is_some()), "{interval:?}: once");
    }
}

/// Covers: BP-10, TR-16
#[test]
fn the_queue_of_the_manager_is_bounded() {
    for (size, stay) in [(1, 1), (16, 16), (1_000, 100)] {
        let (sim, a, _b) =
            pair(10, |c| c.with_endpoint_manager_batch_size(1).with_endpoint_manager_queue_size(size));
        sim.settle();
        let strangers: Vec<_> = (0..100).map(|_| sim.stranger(a.authority())).collect();
        sim.settle();
        let open = strangers.iter().filter(|stranger| !stranger.is_closed()).count();
        assert_eq!(open, stay, "{size}");
        assert_eq!(a.listener_faults().len(), 100 - stay, "{size}");
    }
}
