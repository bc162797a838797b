//! Timers and the receive timeout, on exact virtual time.

use crate::kit::*;
use nexus_actor_core::*;

/// Notes the time it is handled.
fn tick(text: &'static str) -> Do {
    run(move |lab, cx| {
        lab.say(format!("{text} at {}", cx.now().as_millis()));
        Ok(())
    })
}

#[test]
fn a_timer_fires_once_and_a_new_one_of_its_name_replaces_it() {
    let house = house();
    let actor = house.lab("a");
    actor.tell(run(|lab, cx| {
        cx.start_timer("t", millis(100), tick("old"));
        cx.start_timer("t", millis(250), tick("new"));
        cx.start_timer(7, millis(50), tick("other"));
        lab.say(format!("{} {} {}", cx.is_timer_active("t"), cx.is_timer_active(7), cx.is_timer_active(8)));
        Ok(())
    }));
    house.advance(10_000);
    house.log.expect(&["a: true true false", "a: other at 50", "a: new at 250"]);
    let active = run(|lab, cx| {
        lab.say(cx.is_timer_active("t"));
        Ok(())
    });
    house.check(&actor, active, &["a: false"]);
    assert_eq!(house.system.scheduler().pending(), 0);
}

#[test]
fn a_periodic_timer_keeps_its_rhythm_and_makes_up_for_nothing() {
    let house = house();
    let actor = house.lab("a");
    let start = run(|_, cx| {
        cx.start_periodic_timer("p", millis(100), || tick("p"));
        Ok(())
    });
    house.check(&actor, start, &[]);
    house.advance(350);
    house.log.expect(&["a: p at 100", "a: p at 200", "a: p at 300"]);
    let gate = Gate::default();
    actor.tell(wait(gate.passed(), "waited"));
    house.advance(500);
    gate.open();
    house.idle();
    house.log.expect(&["a: waited", "a: p at 850"]);
    house.advance(300);
    let lines = house.log.take();
    assert_eq!(lines.len(), 3, "one per period again: {lines:?}");
    let stop = run(|_, cx| {
        assert!(cx.cancel_timer("p"));
        assert!(!cx.cancel_timer("p"));
        Ok(())
    });
    house.check(&actor, stop, &[]);
    house.advance(1000);
    house.log.expect(&[]);
}

#[test]
fn a_cancelled_timer_does_not_arrive_even_after_its_deadline() {
    let house = house();
    let actor = house.lab("a");
    house.check(
        &actor,
        run(|_, cx| {
            cx.start_timer("t", millis(100), note("late"));
            Ok(())
        }),
        &[],
    );
    let gate = Gate::default();
    actor.tell(wait(gate.passed(), "waited"));
    house.idle();
    actor.tell(run(|_, cx| {
        cx.cancel_timer("t");
        Ok(())
    }));
    house.advance(100);
    // The timer's message is behind the cancelling one in the mailbox.
    gate.open();
    house.idle();
    house.log.expect(&["a: waited"]);
}

#[test]
fn a_restart_and_a_stop_clear_the_timers() {
    for stop in [false, true] {
        let house = house();
        let actor = house.lab("a");
        actor.tell(run(|_, cx| {
            cx.start_timer("t", millis(100), note("never"));
            cx.start_periodic_timer("p", millis(100), || note("never"));
            cx.set_receive_timeout(millis(100));
            Ok(())
        }));
        actor.tell(Do::Fail("boom"));
        if stop {
            actor.stop();
        }
        house.idle();
        assert_eq!(house.system.scheduler().pending(), 0, "stop: {stop}");
        house.advance(1000);
        house.log.expect(&[]);
    }
}

#[test]
fn the_receive_timeout_counts_from_the_last_message() {
    let house = house();
    let actor = house.lab("a");
    house.check(
        &actor,
        run(|_, cx| {
            cx.set_receive_timeout(millis(100));
            Ok(())
        }),
        &[],
    );
    house.advance(60);
    house.check(&actor, note("x"), &["a: x"]);
    house.advance(99);
    house.log.expect(&[]);
    house.advance(1);
    house.log.expect(&["a: quiet"]);
    house.advance(100);
    house.log.expect(&["a: quiet"]);
    house.check(
        &actor,
        run(|_, cx| {
            cx.cancel_receive_timeout();
            Ok(())
        }),
        &[],
    );
    house.advance(1000);
    house.log.expect(&[]);
}

#[test]
fn a_receive_timeout_set_for_every_message_leaves_nothing_behind() {
    let house = house();
    let actor = house.lab("a");
    for _ in 0..1000 {
        actor.tell(run(|_, cx| {
            cx.set_receive_timeout(secs(60));
            Ok(())
        }));
    }
    house.idle();
    // After a burst the actor also wakes once to rest.
    house.advance(2_000);
    assert_eq!(house.system.scheduler().pending(), 1);
}

#[test]
fn a_tick_driver_rounds_deadlines_up_to_its_tick() {
    let pump = runtime::PumpRuntime::new();
    let driver = TickDriverConfig::new(std::sync::Arc::new(pump.clone())).with_tick(millis(20));
    let system = ActorSystem::builder("lab").with_tick_driver(driver).build().unwrap();
    let log = Log::default();
    let actor = system.spawn("a", lab("a", &log)).unwrap();
    actor.tell(run(|_, cx| {
        cx.start_timer("t", millis(50), tick("t"));
        Ok(())
    }));
    pump.advance(secs(1));
    log.expect(&["a: t at 60"]);
}
