//! Worker pools.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::kit::*;
use nexus_actor_core::*;

fn pool(house: &House, size: usize) -> Pool<Do> {
    let made = Arc::new(AtomicUsize::new(0));
    let log = house.log.clone();
    WorkerPool::new(size, move || lab(&format!("w{}", made.fetch_add(1, Ordering::Relaxed)), &log))
        .spawn(&house.system, "pool")
        .expect("the name is free")
}

#[test]
fn work_goes_to_whoever_is_idle() {
    let house = house();
    let pool = pool(&house, 3);
    let work = pool.actor_ref();
    // Sent before the pool has run at all.
    work.tell(note("early"));
    house.idle();
    assert_eq!(house.log.take().len(), 1);
    assert_eq!((pool.workers(), pool.size()), (3, 3));
    assert_eq!(work.path().elements(), "/user/pool");
    let gate = Gate::default();
    for _ in 0..2 {
        work.tell(wait(gate.passed(), "slow"));
        house.idle();
    }
    for n in 0..10 {
        work.tell(note(n));
        house.idle();
    }
    let lines = house.log.take();
    assert_eq!(lines.len(), 10, "nothing waits behind the slow ones: {lines:?}");
    gate.open();
    house.idle();
    assert_eq!(house.log.take().len(), 2);
}

#[test]
fn with_all_busy_the_shortest_queue_is_next() {
    let house = house();
    let pool = pool(&house, 2);
    house.idle();
    let gate = Gate::default();
    for n in 0..6 {
        pool.actor_ref().tell(wait(gate.passed(), "done"));
        if n < 2 {
            house.idle();
        }
    }
    let queues: Vec<_> = house
        .system
        .processes()
        .list()
        .iter()
        .filter(|actor| actor.path().elements().starts_with("/user/pool/"))
        .map(AnyRef::mailbox_len)
        .collect();
    assert_eq!(queues, [2, 2]);
    gate.open();
    house.idle();
    assert_eq!(house.log.take().len(), 6);
}

#[test]
fn a_failing_worker_is_restarted_and_a_dead_one_replaced() {
    let house = house();
    let pool = pool(&house, 2);
    house.idle();
    pool.actor_ref().tell(Do::Fail("boom"));
    house.idle();
    assert_eq!(pool.workers(), 2, "restarted by the pool's supervision");
    assert_eq!(house.system.processes().count(), 3 + 1 + 2);
    for _ in 0..2 {
        pool.actor_ref().tell(run(|_, cx| {
            cx.stop();
            Ok(())
        }));
        house.idle();
        assert_eq!(pool.workers(), 2, "replaced at once");
    }
    pool.actor_ref().tell(note("goes on"));
    house.idle();
    assert_eq!(house.log.take().len(), 1);
}

#[test]
fn a_pool_whose_workers_keep_dying_replaces_them_ever_more_slowly_and_keeps_its_work() {
    let house = house();
    let pool = pool(&house, 1);
    let work = pool.actor_ref();
    house.idle();
    let die = || {
        run(|_, cx| {
            cx.stop();
            Ok(())
        })
    };
    for wait in [0, 100, 200, 400] {
        work.tell(die());
        house.idle();
        work.tell(note("kept"));
        house.idle();
        if wait > 0 {
            house.advance(wait - 1);
            house.log.expect(&[]);
            house.advance(1);
        }
        assert_eq!(house.log.take().len(), 1, "after {wait} ms");
    }
    assert!(house.letters().is_empty());
}

#[test]
fn resizing_down_lets_the_leaving_finish_and_up_puts_more_to_work() {
    let house = house();
    let pool = pool(&house, 3);
    house.idle();
    let gate = Gate::default();
    for _ in 0..9 {
        pool.actor_ref().tell(wait(gate.passed(), "done"));
    }
    house.idle();
    pool.resize(1);
    house.idle();
    assert_eq!(pool.workers(), 1);
    assert_eq!(house.system.processes().count(), 3 + 1 + 3, "two still have work");
    gate.open();
    house.idle();
    assert_eq!(house.log.take().len(), 9, "and finish it");
    assert!(house.letters().is_empty());
    assert_eq!(house.system.processes().count(), 3 + 1 + 1);
    pool.resize(4);
    house.idle();
    assert_eq!(pool.workers(), 4);
}

#[test]
fn a_bounded_pool_refuses_when_all_are_full_and_send_waits() {
    let house = house();
    let log = house.log.clone();
    let pool = WorkerPool::new(2, move || lab("w", &log).with_mailbox(MailboxConfig::bounded(1)))
        .spawn(&house.system, "pool")
        .unwrap();
    house.idle();
    let gate = Gate::default();
    for _ in 0..4 {
        assert!(pool.actor_ref().try_tell(wait(gate.passed(), "done")).is_ok());
        house.idle();
    }
    assert!(pool.actor_ref().try_tell(note("x")).unwrap_err().refusal.is_full());
    let to = pool.actor_ref();
    house.system.spawn_task(async move { assert!(to.send(note("waited")).await.is_ok()) });
    house.idle();
    gate.open();
    house.idle();
    assert_eq!(house.log.take().len(), 5);
}

#[test]
fn a_stopped_pool_refuses_and_its_workers_are_gone() {
    let house = house();
    let pool = pool(&house, 2);
    house.idle();
    pool.actor_ref().stop();
    house.idle();
    assert_eq!(pool.actor_ref().try_tell(note(1)).unwrap_err().refusal, Refusal::Stopped);
    assert!(pool.actor_ref().is_terminated());
    assert_eq!(house.system.processes().count(), 3);
}

#[test]
fn a_pool_can_be_a_child() {
    let house = house();
    let parent = house.lab("parent");
    parent.tell(run(|lab, cx| {
        let log = lab.log.clone();
        let pool = WorkerPool::new(2, move || crate::kit::lab("w", &log)).spawn_child(cx, "pool")?;
        pool.actor_ref().tell(note("x"));
        Ok(())
    }));
    house.idle();
    house.log.expect(&["w: x"]);
    parent.stop();
    house.idle();
    assert_eq!(house.system.processes().count(), 3);
}
