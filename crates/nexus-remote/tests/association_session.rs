//! Resumption, lanes, tables, asks and accounting.

#![allow(clippy::unwrap_used, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

mod association_support;

use std::collections::BTreeMap;
use std::sync::Arc;

use association_support::*;
use nexus_actor_core::path::ActorUid;
use nexus_actor_core::serialization::scope::{self, LiftedReply};
use nexus_actor_core::serialization::{EncodeError, Encoder, SerializerId};
use nexus_actor_core::{AskError, DeadLetterReason, Headers, Refusal};
use nexus_remote::association::*;
use nexus_remote::wire::*;

/// How many messages the long runs send: a million, unless `ASSOCIATION_MESSAGES` says otherwise.
fn messages() -> u64 {
    std::env::var("ASSOCIATION_MESSAGES").ok().and_then(|v| v.parse().ok()).unwrap_or(1_000_000)
}

/// Covers: S160, S32, S28
#[test]
fn a_million_messages_survive_a_thousand_cuts() {
    let total = messages();
    let cuts = 1_000.min(total / 1_000);
    let mut net = Net::new(2, 160);
    net.nodes[1].terse = Some(Vec::with_capacity(total as usize));
    net.nodes[0].terse = Some(Vec::new());
    let handle = net.handle(0, 1, "/user/a", 0);
    net.handle(1, 0, "/user/a", 0);
    let (mut sent, mut cut) = (0, 0);
    while sent < total {
        // Up to what lies between two cuts, in a few bursts.
        let burst = (total / cuts / 4).max(1).min(total - sent);
        for _ in 0..burst {
            match net.send_to(0, 1, handle, sent, 16) {
                Ok(_) => sent += 1,
                Err(refusal) => {
                    assert!(refusal.is_full(), "{refusal}");
                    break;
                }
            }
        }
        let pause = net.rng.u64(0..4_000);
        net.run(std::time::Duration::from_micros(pause));
        if cut < cuts && sent >= (cut + 1) * (total / cuts) {
            net.cut(0, 1);
            cut += 1;
            if net.rng.bool() {
                net.run(MS(5));
            }
        }
    }
    net.run(S(30));
    let got = net.nodes[1].terse.take().unwrap();
    assert_eq!(got.len() as u64, total);
    assert!(got.iter().enumerate().all(|(i, n)| i as u64 == *n), "order");
    assert_eq!(net.side(0, 1).lost(), []);
    let s = net.side(0, 1).association.statistics();
    assert_eq!((s.sent, s.acknowledged, s.in_flight), (total, total, 0));
    assert_eq!(cut, cuts);
}

/// Covers: S29
#[test]
fn order_holds_for_each_pair_of_many() {
    let mut net = Net::new(4, 29);
    for n in 0..8 {
        net.nodes[3].actors.insert(format!("/user/r{n}"), ActorUid::new(5));
    }
    // Eight senders on each of three nodes to eight recipients, in turns drawn at random, while connections break.
    let mut next = BTreeMap::new();
    for step in 0..30_000 {
        let (from, sender, to) = (net.rng.usize(0..3), net.rng.u64(0..8), net.rng.u64(0..8));
        let count: &mut u64 = next.entry((from, sender, to)).or_default();
        let number = *count * 1_000 + from as u64 * 100 + sender;
        *count += 1;
        let _sent = net.send(from, 3, &format!("/user/r{to}"), 0, number, 16).unwrap();
        if step % 40 == 0 {
            let pause = net.rng.u64(0..3);
            net.run(MS(pause));
        }
        if step % 1_500 == 0 {
            let cut = net.rng.usize(0..3);
            net.cut(cut, 3);
        }
    }
    net.run(S(20));
    let mut seen = BTreeMap::new();
    for delivery in &net.nodes[3].delivered {
        let (count, pair) = (delivery.number / 1_000, (delivery.number % 1_000, delivery.path.clone()));
        let expected: &mut u64 = seen.entry(pair).or_default();
        assert_eq!(count, *expected, "{delivery:?}");
        *expected += 1;
    }
    assert_eq!(net.nodes[3].delivered.len(), 30_000);
}

/// Covers: S163, S30
#[test]
fn both_directions_survive_every_kind_of_fault() {
    for seed in 0..60 {
        let mut net = Net::new(2, seed);
        net.loss = 0.05;
        net.duplication = 0.1;
        net.jitter = MS(20);
        let mut sent = [0_u64; 2];
        for _ in 0..120 {
            for (from, to) in [(0, 1), (1, 0)] {
                for _ in 0..net.rng.u64(0..20) {
                    let size = 8 + net.rng.usize(0..400);
                    if net.send(from, to, "/user/a", 0, sent[from], size).is_ok() {
                        sent[from] += 1;
                    }
                }
            }
            let pause = net.rng.u64(0..300);
            net.run(MS(pause));
            match net.rng.u8(0..12) {
                0 | 1 => net.cut(0, 1),
                2 => net.half_open(0, 1),
                3 => net.half_open(1, 0),
                _ => {}
            }
        }
        (net.loss, net.duplication) = (0.0, 0.0);
        net.run(S(60));
        for (from, to) in [(0, 1), (1, 0)] {
            assert_eq!(net.numbers(to), (0..sent[from]).collect::<Vec<_>>(), "seed {seed}, {from} to {to}");
            assert_eq!(net.side(from, to).lost(), [], "seed {seed}");
            net.check_accounting(from, to);
        }
    }
}

/// Covers: S142, S157
#[test]
fn accounting_holds_over_restarts_and_every_message_has_one_fate() {
    for seed in 0..60 {
        let mut net = Net::new(2, 1_000 + seed);
        let (mut sent, mut got) = (0, Vec::new());
        let mut incarnation = 10;
        for _ in 0..60 {
            for _ in 0..net.rng.u64(0..30) {
                let uid = if net.rng.bool() { 0 } else { 77 };
                if net.send(0, 1, "/user/a", uid, sent, 30).is_ok() {
                    sent += 1;
                }
            }
            let pause = net.rng.u64(0..400);
            net.run(MS(pause));
            net.check_accounting(0, 1);
            match net.rng.u8(0..10) {
                0 | 1 => net.cut(0, 1),
                2 => {
                    net.kill(1);
                    got.append(&mut net.nodes[1].delivered);
                    incarnation += 1;
                    net.start(1, incarnation);
                }
                _ => {}
            }
        }
        net.run(S(60));
        got.append(&mut net.nodes[1].delivered);
        let numbers: Vec<u64> = got.iter().map(|d| d.number).collect();
        assert!(numbers.windows(2).all(|w| w[0] < w[1]), "seed {seed}: order or repetition");
        let s = net.side(0, 1).association.statistics();
        let recorded: u64 = net.side(0, 1).lost().iter().map(|(_, n)| n).sum();
        assert_eq!((s.in_flight, s.lost), (0, recorded), "seed {seed}");
        assert_eq!(s.sent, sent, "seed {seed}");
        assert!(numbers.len() as u64 + recorded >= sent, "seed {seed}: {s:?}");
        // What was delivered but not acknowledged when its receiver died is recorded as well, and only that.
        let unconfirmed =
            net.side(0, 1).lost().iter().find(|l| l.0 == DeadLetterReason::Unconfirmed).map_or(0, |l| l.1);
        assert!(numbers.len() as u64 + recorded - unconfirmed <= sent, "seed {seed}: {s:?}");
    }
}

/// Covers: S162, S90, S91
#[test]
fn a_peer_that_reads_nothing_costs_no_more_than_the_bounds() {
    for (messages, bytes) in [(1_000, 1 << 20), (1_000_000, 256 * 1024)] {
        let config = AssociationConfig::builder().lane_messages_max(messages).lane_bytes_max(bytes);
        let mut net = Net::with(2, 162, config.build().unwrap());
        net.tell(0, 1, 0);
        net.run(S(1));
        net.nodes[1].deaf = true;
        let mut refused = 0;
        for n in 1..50_000 {
            match net.send(0, 1, "/user/a", 0, n, 40) {
                Ok(_) => {}
                Err(Refusal::QueueFull { messages: m, bytes: b }) => {
                    assert!(m >= messages || b >= bytes, "{m} {b}");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
            let s = net.side(0, 1).association.statistics();
            assert!(s.in_flight as usize <= messages && s.in_flight_bytes as usize <= bytes + 100, "{s:?}");
        }
        assert!(refused > 10_000);
        assert_eq!(net.side(0, 1).association.statistics().refused, refused);
        net.catch_up(1);
        net.run(S(5));
        assert_eq!(net.numbers(1).len() as u64, 50_000 - refused);
        assert_eq!(net.side(0, 1).lost(), []);
        net.check_accounting(0, 1);
    }
}

/// L15: below, at and above; an empty lane always takes one message within the frame limit.
#[test]
fn the_lane_takes_exactly_its_bound() {
    let config = AssociationConfig::builder().lane_messages_max(3).lane_bytes_max(1 << 20);
    let mut net = Net::with(2, 3, config.build().unwrap());
    net.nodes[1].up = false;
    for (n, ok) in [(0, true), (1, true), (2, true), (3, false)] {
        assert_eq!(net.send(0, 1, "/user/a", 0, n, 16).is_ok(), ok, "{n}");
    }
    let config = AssociationConfig::builder().lane_bytes_max(1_024);
    let mut net = Net::with(2, 3, config.build().unwrap());
    net.nodes[1].up = false;
    assert!(net.send(0, 1, "/user/a", 0, 0, 200_000).is_ok(), "an empty lane");
    assert!(net.send(0, 1, "/user/a", 0, 1, 8).is_err());
}

/// Covers: S94
#[test]
fn marks_are_reported_once_per_crossing() {
    let config = AssociationConfig::builder().lane_messages_max(100).lane_bytes_max(1 << 20);
    let mut net = Net::with(2, 94, config.build().unwrap());
    net.tell(0, 1, 0);
    net.run(S(1));
    net.nodes[1].deaf = true;
    for n in 1..=100 {
        net.tell(0, 1, n);
    }
    net.catch_up(1);
    net.run(S(1));
    let levels: Vec<_> = net
        .side(0, 1)
        .events
        .iter()
        .filter_map(|e| match e {
            AssociationEvent::Pressure { level, messages, .. } => Some((*level, *messages)),
            _ => None,
        })
        .collect();
    assert_eq!(levels[..2], [(PressureLevel::Warning, 60), (PressureLevel::Critical, 86)]);
    assert_eq!(levels.last().map(|l| l.0), Some(PressureLevel::Normal));
    assert!(levels.len() <= 4, "{levels:?}");
}

/// Room is told once, to whoever asked for it.
#[test]
fn room_is_told_when_it_was_asked_for() {
    let config = AssociationConfig::builder().lane_messages_max(10);
    let mut net = Net::with(2, 92, config.build().unwrap());
    net.tell(0, 1, 0);
    net.run(S(1));
    net.nodes[1].deaf = true;
    for n in 1..=10 {
        assert!(net.side(0, 1).association.has_room());
        net.tell(0, 1, n);
    }
    assert!(!net.side(0, 1).association.has_room());
    net.catch_up(1);
    net.run(S(1));
    assert_eq!(net.side(0, 1).count(|e| matches!(e, AssociationEvent::Room)), 1);
    assert!(net.side(0, 1).association.has_room());
}

/// Covers: S97
#[test]
fn a_burst_of_a_hundred_thousand_to_a_healthy_peer_loses_nothing() {
    let mut net = Net::new(2, 97);
    net.nodes[1].terse = Some(Vec::new());
    let handle = net.handle(0, 1, "/user/a", 0);
    for n in 0..100_000 {
        let _sent = net.send_to(0, 1, handle, n, 100).unwrap();
    }
    net.run(S(5));
    assert_eq!(net.numbers(1), (0..100_000).collect::<Vec<_>>());
}

/// Covers: S91
#[test]
fn the_oldest_goes_when_so_configured_and_each_is_recorded() {
    let config = AssociationConfig::builder().lane_messages_max(10).overflow(Overflow::DropOldest);
    let mut net = Net::with(2, 91, config.build().unwrap());
    for name in ["/user/a", "/user/b", "/user/c"] {
        net.nodes[1].actors.insert(name.into(), ActorUid::new(77));
    }
    net.nodes[1].up = false;
    let names = ["/user/a", "/user/b", "/user/c"];
    for n in 0..30 {
        let _sent = net.send(0, 1, names[n % 3], 0, n as u64, 16).unwrap();
    }
    assert_eq!(net.side(0, 1).lost(), [(DeadLetterReason::QueueFull, 20)]);
    let recipients: Vec<String> = net
        .side(0, 1)
        .events
        .iter()
        .filter_map(|e| match e {
            AssociationEvent::Lost(lost) => lost.recipient.as_ref().map(|p| p.elements().to_string()),
            _ => None,
        })
        .collect();
    assert!(recipients.iter().enumerate().all(|(i, r)| r == names[i % 3]), "{recipients:?}");
    net.nodes[1].up = true;
    net.run(S(2));
    assert_eq!(net.numbers(1), (20..30).collect::<Vec<_>>());
    assert!(net.nodes[1].delivered.iter().all(|d| d.path == names[d.number as usize % 3]));
    net.check_accounting(0, 1);

    // What a connection has taken is not taken back: then the newest is refused.
    net.nodes[1].deaf = true;
    for n in 0..10 {
        net.tell(0, 1, n);
    }
    assert!(net.send(0, 1, "/user/a", 0, 99, 16).unwrap_err().is_full());
}

/// Covers: S99
#[test]
fn patience_keeps_or_drops_what_waits_for_a_lost_connection() {
    for patience in [Patience::Keep, Patience::Drop] {
        let mut net = Net::with(2, 99, AssociationConfig::builder().patience(patience).build().unwrap());
        net.tell(0, 1, 0);
        net.run(S(2));
        net.with_side(0, 1, |a, now| a.suspend(now));
        for n in 1..=5 {
            net.tell(0, 1, n);
        }
        net.with_side(0, 1, |a, now| a.resume(now));
        net.nodes[1].deaf = true;
        net.run(MS(1));
        net.nodes[1].deaf = false;
        net.partition(0, 1);
        net.cut(0, 1);
        net.run(MS(10));
        let after = net.send(0, 1, "/user/a", 0, 6, 16);
        net.heal(0, 1);
        net.run(S(12));
        match patience {
            Patience::Keep => {
                assert!(after.is_ok());
                assert_eq!(net.numbers(1), (0..=6).collect::<Vec<_>>());
            }
            Patience::Drop => {
                assert_eq!(after.unwrap_err(), Refusal::Unreachable);
                // Those five had been handed to the connection: they are resumed, not dropped.
                assert_eq!(net.numbers(1), (0..=5).collect::<Vec<_>>());
            }
        }
        net.check_accounting(0, 1);
    }
    // What no connection has taken is recorded at once.
    let config = AssociationConfig::builder().patience(Patience::Drop).build().unwrap();
    let mut net = Net::with(2, 99, config);
    net.tell(0, 1, 0);
    net.run(S(2));
    net.with_side(0, 1, |a, now| a.suspend(now));
    for n in 1..=5 {
        let _sent = net.send(0, 1, &format!("/user/x{n}"), 0, n, 16).unwrap();
    }
    net.cut(0, 1);
    net.run(MS(1));
    assert_eq!(net.side(0, 1).lost(), [(DeadLetterReason::Unreachable, 5)]);
    net.with_side(0, 1, |a, now| a.resume(now));
    net.run(S(1));
    net.nodes[1].actors.insert("/user/x3".into(), ActorUid::new(1));
    let _sent = net.send(0, 1, "/user/x3", 0, 9, 16).unwrap();
    net.run(S(1));
    assert_eq!(net.numbers(1), [0, 9], "the tables survived the drop");
    net.check_accounting(0, 1);
}

/// Covers: S102, S105
#[test]
fn what_is_too_large_for_either_node_is_refused_early() {
    let mut net = Net::new(2, 102);
    match net.send(0, 1, "/user/a", 0, 0, 300_000) {
        Err(Refusal::TooLarge { size, limit }) => assert!(size > limit && limit < 256 * 1024),
        other => panic!("{other:?}"),
    }
    // What was queued before the peer's smaller limit was known is recorded, the rest arrives.
    for (n, size) in [(1, 100), (2, 100_000), (3, 100)] {
        let _sent = net.send(0, 1, "/user/a", 0, n, size).unwrap();
    }
    let small = AssociationConfig::builder().frame_max(10_000).build().unwrap();
    let big = std::mem::replace(&mut net.config, small);
    net.side(1, 0);
    net.config = big;
    net.run(S(1));
    assert_eq!(net.numbers(1), [1, 3]);
    assert_eq!(net.side(0, 1).lost(), [(DeadLetterReason::TooLarge, 1)]);
    assert!(matches!(net.send(0, 1, "/user/a", 0, 4, 20_000), Err(Refusal::TooLarge { .. })));
    net.check_accounting(0, 1);
}

/// Covers: S34
#[test]
fn a_message_that_cannot_be_encoded_leaves_no_trace() {
    let mut net = Net::new(2, 34);
    let handle = net.handle(0, 1, "/user/a", 0);
    let now = net.now;
    let association = &mut net.side(0, 1).association;
    let refused = association.send(now, handle, None, &mut |e: &mut Encoder<'_>| {
        e.put(&[1; 100])?;
        Err(EncodeError::failed("no"))
    });
    assert_eq!(refused.unwrap_err(), Refusal::Encode("no".into()));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _sent = association.send(now, handle, None, &mut |e: &mut Encoder<'_>| {
            e.put(&[1; 100])?;
            panic!("in the middle")
        });
    }));
    assert!(panicked.is_err());
    assert!(!scope::is_encoding());
    net.tell(0, 1, 5);
    net.run(S(1));
    assert_eq!(net.numbers(1), [5]);
    let s = net.side(0, 1).association.statistics();
    assert_eq!((s.sent, s.acknowledged), (1, 1));
}

/// A send from inside the serialization of another message is refused.
#[test]
fn re_entry_is_refused() {
    let mut net = Net::new(2, 35);
    let first = net.handle(0, 1, "/user/a", 0);
    let now = net.now;
    let (local, config) = (net.id(0), net.config.clone());
    let mut other = Association::new(config, local, address(9), 1, 1).unwrap();
    let path = net.path(1, "/user/a", 0);
    let second = other.intern(&path, SerializerId::POSTCARD, "m@1").unwrap();
    let mut inner = None;
    let _sent = net
        .side(0, 1)
        .association
        .send(now, first, None, &mut |e: &mut Encoder<'_>| {
            inner = Some(other.send(now, second, None, &mut |e| e.put(b"x")).map(|_| ()));
            e.put(&1_u64.to_le_bytes())
        })
        .unwrap();
    assert!(matches!(inner, Some(Err(Refusal::Encode(_)))));
}

/// Covers: S40
#[test]
fn headers_cross_unchanged() {
    let mut net = Net::new(2, 40);
    let handle = net.handle(0, 1, "/user/a", 0);
    let headers = Headers::new().with("trace", "abc").with("x", "");
    let now = net.now;
    let _sent = net
        .side(0, 1)
        .association
        .send(now, handle, Some(&headers), &mut |e: &mut Encoder<'_>| e.put(&1_u64.to_le_bytes()))
        .unwrap();
    net.pump(0, 1);
    net.run(S(1));
    let expected = [("trace".to_string(), "abc".to_string()), ("x".to_string(), String::new())];
    assert_eq!(net.nodes[1].delivered[0].headers, expected);
}

/// Covers: S145, S149
#[test]
fn every_message_reaches_its_actor_while_the_tables_turn_over_a_thousand_times() {
    let config = AssociationConfig::builder().references_max(8).manifests_max(2).build().unwrap();
    let mut net = Net::with(2, 145, config);
    for n in 0..100_u64 {
        net.nodes[1].actors.insert(format!("/user/r{n}"), ActorUid::new(n + 1));
    }
    let mut expected: BTreeMap<u64, String> = BTreeMap::new();
    for number in 0..20_000 {
        let n = net.rng.u64(0..100);
        let name = format!("/user/r{n}");
        let uid = if net.rng.bool() { n + 1 } else { 0 };
        let _sent = net.send(0, 1, &name, uid, number, 16).unwrap();
        expected.insert(number, name);
        if number % 50 == 0 {
            let pause = net.rng.u64(0..20);
            net.run(MS(pause));
        }
        if number % 977 == 0 {
            net.cut(0, 1);
        }
    }
    net.run(S(10));
    let got: BTreeMap<u64, String> =
        net.nodes[1].delivered.iter().map(|d| (d.number, d.path.clone())).collect();
    assert_eq!(net.nodes[1].delivered.len(), 20_000);
    assert_eq!(got, expected);
    assert!(net.nodes[1].delivered.iter().all(|d| d.reply_to.is_none()), "no sender stays no sender");
}

/// A recipient that finds no room in the table takes no message type with it that the peer is not told of.
#[test]
fn a_type_first_used_for_a_recipient_without_room_is_defined_for_the_next() {
    let config = AssociationConfig::builder().table_bytes_max(4 * 1024).build().unwrap();
    let mut net = Net::with(2, 14, config);
    for n in 0..110 {
        let name = format!("/user/{n:034}");
        let _sent = net.send(0, 1, &name, 0, n, 16).unwrap();
    }
    let (long, short) = (format!("/user/{}", "x".repeat(500)), "/user/a");
    let (long, short) = (net.path(1, &long, 0), net.path(1, short, 0));
    let now = net.now;
    let association = &mut net.side(0, 1).association;
    let long = association.intern(&long, SerializerId::POSTCARD, "test.other@1").unwrap();
    let short = association.intern(&short, SerializerId::POSTCARD, "test.other@1").unwrap();
    let refused = association.send(now, long, None, &mut |e: &mut Encoder<'_>| e.put(&[0; 8]));
    assert!(matches!(refused, Err(Refusal::Limit(_))), "{refused:?}");
    let _sent = net.send_to(0, 1, short, 500, 16).unwrap();
    net.run(S(1));
    assert_eq!(net.numbers(1), [500], "the others live nowhere");
    // It has taken the number of the only other.
    let inbound = &net.side(1, 0).inbound;
    assert_eq!(inbound.manifest(0).map(|(_, name)| &**name), Some("test.other@1"));
}

/// Covers: S146
#[test]
fn a_restart_with_tables_in_flight_never_leads_to_a_wrong_actor() {
    let config = AssociationConfig::builder().references_max(4).build().unwrap();
    for seed in 0..40 {
        let mut net = Net::with(2, seed, config.clone());
        for n in 0..20_u64 {
            net.nodes[1].actors.insert(format!("/user/r{n}"), ActorUid::new(n + 1));
        }
        let mut expected = Vec::new();
        let mut got = Vec::new();
        for number in 0..2_000 {
            let name = format!("/user/r{}", net.rng.u64(0..20));
            let _sent = net.send(0, 1, &name, 0, number, 16).unwrap();
            expected.push(name);
            if number % 100 == 50 {
                let pause = net.rng.u64(0..5);
                net.run(MS(pause));
            }
            if number % 400 == 399 {
                net.kill(1);
                got.append(&mut net.nodes[1].delivered);
                net.start(1, 100 + number);
            }
        }
        net.run(S(10));
        got.append(&mut net.nodes[1].delivered);
        assert!(got.iter().all(|d| d.path == expected[d.number as usize]), "seed {seed}");
        // The records name the right recipients too.
        let lost = net.side(0, 1).events.iter().filter_map(|e| match e {
            AssociationEvent::Lost(lost) => lost.recipient.as_ref(),
            _ => None,
        });
        let mut by_name: BTreeMap<String, i64> = BTreeMap::new();
        for name in &expected {
            *by_name.entry(name.clone()).or_default() += 1;
        }
        for path in lost {
            *by_name.get_mut(path.elements()).unwrap() -= 1;
        }
        let mut delivered: BTreeMap<String, i64> = BTreeMap::new();
        for d in &got {
            *delivered.entry(d.path.clone()).or_default() += 1;
        }
        // A message recorded as unconfirmed may have been delivered, never the other way round.
        assert!(
            by_name.iter().all(|(name, n)| *n <= delivered.get(name).copied().unwrap_or(0)),
            "seed {seed}"
        );
    }
}

/// Covers: S147
#[test]
fn control_frames_need_no_table() {
    let mut net = Net::new(2, 147);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(1));
    net.stop_actor(1, "/user/a");
    net.run(S(1));
    assert_eq!(net.side(0, 1).notices.len(), 1);
    assert!(net.frames.keys().all(|kind| *kind < 0x20), "{:?}", net.frames);
}

/// Covers: S148
#[test]
fn short_lived_asks_and_recipients_leave_nothing_behind() {
    let mut net = Net::new(2, 148);
    for n in 0..20_000 {
        let (probe, _) = net.ask(0, 1, "/user/a").unwrap();
        if n % 100 == 99 {
            net.run(MS(10));
            assert!(matches!(probe.result(), Some(Ok(_))));
        }
    }
    let s = net.side(0, 1).association.statistics();
    assert_eq!((s.asks, s.recipients), (0, 1));
    let path = net.path(1, "/user/a", 3);
    let association = &mut net.side(0, 1).association;
    for _ in 0..100_000 {
        let handle = association.intern(&path, SerializerId::POSTCARD, "m@1").unwrap();
        association.release(handle);
    }
    assert_eq!(association.statistics().recipients, 1);
}

/// Covers: S36
#[test]
fn an_ask_learns_the_cause_as_soon_as_it_is_known() {
    let mut net = Net::new(2, 36);
    net.nodes[1].echo = false;
    for (name, fault, expected) in [
        ("operator", 0, AskError::Quarantined),
        ("new incarnation", 1, AskError::Unreachable),
        ("abort", 2, AskError::Shutdown),
    ] {
        let mut net = Net::new(2, 36);
        net.nodes[1].echo = false;
        let (probe, _) = net.ask(0, 1, "/user/a").unwrap();
        net.run(S(1));
        assert_eq!(probe.result(), None, "{name}");
        match fault {
            0 => net.with_side(0, 1, |a, now| a.quarantine(now, None, QuarantineReason::ByOperator)),
            1 => {
                net.kill(1);
                net.start(1, 50);
                net.run(S(2));
            }
            _ => net.with_side(0, 1, |a, now| a.abort(now)),
        }
        assert_eq!(probe.result(), Some(Err(expected)), "{name}");
        assert_eq!(net.side(0, 1).association.statistics().asks, 0, "{name}");
    }
    // An address that is never reached.
    net.nodes[1].up = false;
    let (probe, _) = net.ask(0, 1, "/user/a").unwrap();
    net.run(S(21));
    assert_eq!(probe.result(), Some(Err(AskError::Unreachable)));
    // A question that waits for the peer's next incarnation is answered by it.
    let (probe, _) = net.ask(0, 1, "/user/a").unwrap();
    net.nodes[1].up = true;
    net.nodes[1].echo = true;
    net.run(S(2));
    assert!(matches!(probe.result(), Some(Ok(_))));
}

/// A message for a name that waits for a restarted peer, whose sender has given its number back and for which no number
/// is left: it has its record, and its ask learns at once.
///
/// Covers: S142
#[test]
fn what_finds_no_number_in_the_next_session_is_recorded_and_its_ask_told() {
    let config = AssociationConfig::builder().recipients_max(2).build().unwrap();
    let mut net = Net::with(2, 142, config);
    net.tell(0, 1, 0);
    net.run(S(1));
    net.kill(1);
    let (probe, _) = net.ask(0, 1, "/user/b").unwrap();
    let b = net.handle(0, 1, "/user/b", 0);
    let _sent = net.send_to(0, 1, b, 1, 16).unwrap();
    net.tell(0, 1, 2);
    let other = net.path(1, "/user/c", 0);
    let association = &mut net.side(0, 1).association;
    association.release(b);
    let _c = association.intern(&other, SerializerId::POSTCARD, "test.message@1").unwrap();
    net.start(1, 50);
    net.run(S(2));

    assert_eq!(net.numbers(1).last(), Some(&2), "what has a number is delivered");
    let lost: Vec<_> = net
        .side(0, 1)
        .events
        .iter()
        .filter_map(|event| match event {
            AssociationEvent::Lost(lost) => Some((lost.reason, lost.recipient.as_ref().unwrap().elements())),
            _ => None,
        })
        .collect();
    assert_eq!(lost, [(DeadLetterReason::Limit, "/user/b"), (DeadLetterReason::Limit, "/user/b")]);
    assert_eq!(probe.result(), Some(Err(AskError::Full)));
    assert_eq!(net.side(0, 1).association.statistics().recipients, 2, "none is left behind");
    net.check_accounting(0, 1);
}

/// Covers: S33
#[test]
fn an_ask_to_nobody_is_answered_before_its_deadline() {
    let mut net = Net::new(2, 33);
    let (probe, _) = net.ask(0, 1, "/user/nobody").unwrap();
    net.run(MS(100));
    assert_eq!(probe.result(), Some(Err(AskError::NoSuchActor)));
    assert_eq!(net.nodes[1].nobody, 1);
}

/// L19: below, at and above; a refused message keeps its reply, an ask given up makes room.
#[test]
fn asks_are_bounded_and_given_up_ones_make_room() {
    let config = AssociationConfig::builder().asks_max(3).build().unwrap();
    let mut net = Net::with(2, 19, config);
    net.nodes[1].up = false;
    let asks: Vec<_> = (0..3).map(|_| net.ask(0, 1, "/user/a").unwrap()).collect();
    assert!(matches!(net.ask(0, 1, "/user/a"), Err(Refusal::Limit(_))));
    let s = net.side(0, 1).association.statistics();
    assert_eq!((s.asks, s.sent, s.refused), (3, 3, 1));
    *asks[0].0.given_up.lock().unwrap() = true;
    assert!(net.ask(0, 1, "/user/a").is_err(), "finds out");
    assert!(net.ask(0, 1, "/user/a").is_ok(), "and takes the place");
    let gone = net.side(0, 1).association.forget(asks[1].1);
    assert!(gone.is_some());
    assert!(net.ask(0, 1, "/user/a").is_ok());
    assert!(net.side(0, 1).association.handle_reply(asks[1].1).is_none(), "late");
    assert_eq!(net.side(0, 1).association.statistics().answers_ignored, 1);
}

/// A lookup finds the incarnation that lives at a path.
#[test]
fn a_lookup_finds_the_incarnation() {
    let mut net = Net::new(2, 41);
    for (name, expected) in
        [("/user/a", Ok(77_u64.to_le_bytes().to_vec())), ("/user/b", Err(AskError::NoSuchActor))]
    {
        let probe = Arc::new(Probe::default());
        let path = net.path(1, name, 0);
        let ask = probe.clone();
        let _sent = net.with_side(0, 1, |a, now| a.lookup(now, &path, "m@1", ask)).unwrap();
        net.run(S(1));
        assert_eq!(probe.result(), Some(expected), "{name}");
    }
}

/// A reply that is passed on names the node of its asker.
#[test]
fn a_reply_of_the_pending_table_is_only_lifted_when_the_message_is_sent() {
    let config = AssociationConfig::builder().lane_messages_max(1).build().unwrap();
    let mut net = Net::with(2, 42, config);
    net.nodes[1].up = false;
    net.tell(0, 1, 0);
    let handle = net.handle(0, 1, "/user/a", 0);
    let now = net.now;
    let probe = Arc::new(Probe::default());
    let mut ran = false;
    let refused = net.side(0, 1).association.send(now, handle, None, &mut |e: &mut Encoder<'_>| {
        ran = true;
        scope::lift(LiftedReply::Pending(probe.clone())).unwrap();
        e.put(b"x")
    });
    assert!(refused.unwrap_err().is_full());
    assert!(!ran, "room is checked before anything is lifted");
    assert_eq!(probe.result(), None);
}

/// Covers: S96
#[test]
fn many_small_messages_are_gathered_and_one_leaves_at_once() {
    let mut net = Net::new(2, 96);
    net.tell(0, 1, 0);
    net.run(S(2));
    let handle = net.handle(0, 1, "/user/a", 0);
    let now = net.now;
    let association = &mut net.side(0, 1).association;
    let conn = association.live_connection().unwrap();
    let mut out = Transmit::new();
    assert!(!association.poll_transmit(now, conn, &mut out), "an idle link");
    let send = |association: &mut Association, n: u64| {
        association.send(now, handle, None, &mut |e: &mut Encoder<'_>| e.put(&n.to_le_bytes())).unwrap()
    };
    assert!(send(association, 1).wake, "the driver is woken for it");
    assert!(association.poll_transmit(now, conn, &mut out), "at once, at the same moment");
    let one = out.len();
    assert!(!association.poll_transmit(now, conn, &mut out), "in one write");
    for n in 0..50_000 {
        let sent = send(association, n);
        assert!(!sent.wake || n == 0, "one wake-up for all of them: {n}");
    }
    let (mut writes, mut bytes) = (0, 0);
    while association.poll_transmit(now, conn, &mut out) {
        (writes, bytes) = (writes + 1, bytes + out.len());
    }
    assert!(bytes >= 50_000 * (one - 8), "{bytes}");
    assert!(writes <= 40, "{writes} writes for 50,000 messages of {bytes} bytes");
}

/// Covers: S86
#[test]
fn heartbeats_go_before_waiting_user_frames_and_a_turn_is_bounded() {
    let mut net = Net::new(2, 86);
    net.watch(0, 1, "/user/a", 77, 1);
    net.run(S(2));
    let handle = net.handle(0, 1, "/user/a", 0);
    let now = net.now + S(1);
    let association = &mut net.side(0, 1).association;
    for n in 0..100_000_u64 {
        let _sent =
            association.send(now, handle, None, &mut |e: &mut Encoder<'_>| e.put(&n.to_le_bytes())).unwrap();
    }
    association.handle_timeout(now);
    let conn = association.live_connection().unwrap();
    let mut out = Transmit::new();
    assert!(association.poll_transmit(now, conn, &mut out));
    assert_eq!(out.head[4], FrameKind::Heartbeat.code());
    assert!(out.len() <= 64 * 1024 + 256 * 1024 + 64, "{}", out.len());
}
