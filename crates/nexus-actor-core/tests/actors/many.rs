//! Routers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::kit::*;
use nexus_actor_core::*;

struct Sink {
    name: String,
    log: Log,
}

impl Actor for Sink {
    type Msg = u32;
    async fn receive(&mut self, message: u32, cx: &mut Context<'_, Self>) -> Done {
        let trace = cx.headers().and_then(|headers| headers.get("trace")).unwrap_or("");
        self.log.add(format!("{}: {message}{trace}", self.name));
        Ok(())
    }
}

fn sinks(house: &House, count: usize, mailbox: MailboxConfig) -> Vec<ActorRef<u32>> {
    let make = |n: usize| {
        let (name, log) = (format!("s{n}"), house.log.clone());
        let props = Props::from_fn({
            let name = name.clone();
            move || Sink { name: name.clone(), log: log.clone() }
        });
        house.spawn(&name, props.with_mailbox(mailbox))
    };
    (0..count).map(make).collect()
}

fn tell_all(house: &House, router: &Router<u32>, messages: core::ops::Range<u32>) -> Vec<String> {
    for n in messages {
        router.actor_ref().tell(n);
    }
    house.idle();
    house.log.take()
}

#[test]
fn round_robin_takes_turns_past_the_dead_and_the_full() {
    let house = house();
    let sinks = sinks(&house, 3, MailboxConfig::bounded(2));
    let router = Router::round_robin(&house.system, sinks.clone()).unwrap();
    let mut lines = tell_all(&house, &router, 0..6);
    lines.sort();
    assert_eq!(lines, ["s0: 0", "s0: 3", "s1: 1", "s1: 4", "s2: 2", "s2: 5"]);
    // Six are room for six; the seventh is refused, and send waits.
    for n in 0..6 {
        assert!(router.actor_ref().try_tell(n).is_ok(), "{n}");
    }
    let refused = router.actor_ref().try_tell(6).unwrap_err();
    assert_eq!((refused.message, refused.refusal), (6, Refusal::MailboxFull { capacity: 2 }));
    let to = router.actor_ref();
    house.system.spawn_task(async move { to.send(7).await.expect("there is room soon") });
    house.idle();
    assert_eq!(house.log.take().len(), 7);
    // One that has terminated is skipped before the keeper hears of it, and out of the set after.
    sinks[1].stop();
    house.idle();
    assert_eq!(router.len(), 2);
    assert_eq!(tell_all(&house, &router, 0..4).len(), 4);
    assert!(house.letters().is_empty());
    assert!(!router.add(&sinks[0]) && router.remove(&sinks[0]) && !router.remove(&sinks[0]));
    assert_eq!(tell_all(&house, &router, 0..2), ["s2: 0", "s2: 1"]);
    assert!(router.add(&sinks[0]));
    assert_eq!(router.routees(), [sinks[2].clone(), sinks[0].clone()]);
}

#[test]
fn with_no_routee_left_the_message_comes_back() {
    let house = house();
    let sinks = sinks(&house, 2, MailboxConfig::Unbounded);
    for router in [
        Router::round_robin(&house.system, sinks.clone()).unwrap(),
        Router::broadcast(&house.system, sinks.clone()).unwrap(),
        Router::consistent_hash(&house.system, sinks.clone(), |n: &u32| *n).unwrap(),
        Router::round_robin(&house.system, []).unwrap(),
    ] {
        for sink in &sinks {
            sink.stop();
        }
        house.idle();
        let refused = router.actor_ref().try_tell(9).unwrap_err();
        assert_eq!((refused.message, refused.refusal), (9, Refusal::NoSuchActor), "{router:?}");
        assert!(router.is_empty());
        router.actor_ref().tell(10);
        assert_eq!(house.letters().len(), 1);
        router.actor_ref().stop();
        house.idle();
        assert_eq!(router.actor_ref().try_tell(9).unwrap_err().refusal, Refusal::Stopped);
    }
}

#[test]
fn a_router_is_watched_and_its_headers_and_asks_go_through() {
    let house = house();
    let (a, b) = (house.lab("a"), house.lab("b"));
    let router = Router::round_robin(&house.system, [a.clone(), b]).unwrap();
    assert_eq!(house.wait(router.actor_ref().ask(Do::Count)), Ok(1));
    let w = house.lab("w");
    let watched = router.actor_ref();
    house.check(
        &w,
        run(move |_, cx| {
            cx.watch(&watched);
            Ok(())
        }),
        &[],
    );
    router.actor_ref().stop();
    house.idle();
    assert_eq!(house.log.take().len(), 1);
    assert!(!a.is_terminated(), "the routees live on");
    let sinks = sinks(&house, 1, MailboxConfig::Unbounded);
    let router = Router::broadcast(&house.system, sinks).unwrap();
    router.actor_ref().tell_with_headers(1, Headers::new().with("trace", "!"));
    house.idle();
    house.log.expect(&["s0: 1!"]);
}

#[test]
fn broadcast_reaches_all_and_records_what_one_of_them_refuses() {
    let house = house();
    let mut all = sinks(&house, 2, MailboxConfig::Unbounded);
    let router = Router::broadcast(&house.system, all.clone()).unwrap();
    house.check_sorted(&router, 1, &["s0: 1", "s1: 1"]);
    let log = house.log.clone();
    let narrow = Props::from_fn(move || Sink { name: "narrow".into(), log: log.clone() });
    all.push(house.spawn("narrow", narrow.with_mailbox(MailboxConfig::bounded(1))));
    assert!(router.add(&all[2]));
    for n in 0..2 {
        assert!(router.actor_ref().try_tell(n).is_ok());
    }
    assert_eq!(house.letters(), ["narrow: mailbox full"]);
    house.idle();
    assert_eq!(house.log.take().len(), 5);
    // Alone and full it refuses, and nothing is recorded: the caller has the message.
    let alone = Router::broadcast(&house.system, [all[2].clone()]).unwrap();
    assert!(alone.actor_ref().try_tell(1).is_ok());
    assert!(alone.actor_ref().try_tell(2).unwrap_err().refusal.is_full());
    assert!(house.letters().is_empty());
}

impl House {
    #[track_caller]
    fn check_sorted(&self, router: &Router<u32>, message: u32, lines: &[&str]) {
        router.actor_ref().tell(message);
        self.idle();
        let mut seen = self.log.take();
        seen.sort();
        assert_eq!(seen, lines);
    }
}

#[test]
fn equal_keys_meet_and_few_move_when_a_routee_comes_or_goes() {
    const KEYS: u32 = 2000;
    let house = house();
    let sinks = sinks(&house, 5, MailboxConfig::Unbounded);
    let router = Router::consistent_hash(&house.system, sinks[..4].to_vec(), |n: &u32| *n).unwrap();
    let place = |router: &Router<u32>| {
        let mut homes = vec![String::new(); KEYS as usize];
        for line in tell_all(&house, router, 0..KEYS) {
            let (home, key) = line.split_once(": ").unwrap();
            homes[key.parse::<usize>().unwrap()] = home.to_string();
        }
        homes
    };
    let before = place(&router);
    assert_eq!(before, place(&router), "equal keys meet");
    for n in 0..4 {
        let share = before.iter().filter(|home| **home == format!("s{n}")).count();
        assert!((300..=700).contains(&share), "s{n} has {share} of {KEYS}");
    }
    assert!(router.add(&sinks[4]));
    let five = place(&router);
    assert!(
        before.iter().zip(&five).all(|(old, new)| old == new || new == "s4"),
        "moved to the new one only"
    );
    sinks[4].stop();
    house.idle();
    assert_eq!(place(&router), before, "and back where they were");
    sinks[2].stop();
    let three = place(&router);
    assert!(
        before.iter().zip(&three).all(|(old, new)| old == new || old == "s2"),
        "only the dead one's keys move"
    );
    assert!(three.iter().all(|home| home != "s2"));
    assert_eq!(router.len(), 3);
}

#[test]
fn a_full_routee_of_a_hash_refuses_and_send_waits_for_it() {
    let house = house();
    let sinks = sinks(&house, 3, MailboxConfig::bounded(1));
    let keys = Arc::new(AtomicU32::new(0));
    let counted = keys.clone();
    let router = Router::consistent_hash(&house.system, sinks, move |_: &u32| {
        counted.fetch_add(1, Ordering::Relaxed);
        0
    })
    .unwrap();
    assert!(router.actor_ref().try_tell(1).is_ok());
    assert_eq!(router.actor_ref().try_tell(2).unwrap_err().message, 2);
    let to = router.actor_ref();
    house.system.spawn_task(async move { to.send(3).await.expect("there is room soon") });
    house.idle();
    assert_eq!(house.log.take().len(), 2);
    assert!(keys.load(Ordering::Relaxed) < 10, "it waits for a waker and does not spin");
}
