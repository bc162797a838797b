//! User code that panics, wherever it runs, concerns its actor alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::kit::*;
use nexus_actor_core::*;

fn explode() {
    panic!("expected");
}

/// An actor with a place for trouble everywhere.
struct Fragile {
    log: Log,
    trouble: &'static str,
    _on_drop: Option<OnDrop<Box<dyn FnMut() + Send>>>,
}

impl Actor for Fragile {
    type Msg = Do;

    async fn receive(&mut self, message: Do, cx: &mut Context<'_, Self>) -> Done {
        if let Do::Note(text) = message {
            if text == "stop" {
                cx.stop();
            }
            self.log.add(format!("handled {text}"));
        }
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Done {
        let name = match signal {
            Signal::Started => "started",
            Signal::Restarting => "restarting",
            Signal::Stopping => "stopping",
            _ => return Ok(()),
        };
        self.log.add(name);
        assert_ne!(self.trouble, name, "expected");
        Ok(())
    }
}

/// One that makes trouble at its first start only, unless the place is `always`.
fn fragile(log: &Log, place: &'static str) -> Props<Fragile> {
    let (log, made) = (log.clone(), Arc::new(AtomicUsize::new(0)));
    Props::from_fn(move || {
        let first = made.fetch_add(1, Ordering::Relaxed) == 0;
        log.add("made");
        assert!(!(first && place == "factory"), "expected");
        Fragile {
            log: log.clone(),
            trouble: if first { place } else { "" },
            _on_drop: (place == "drop").then(|| OnDrop(Box::new(explode) as Box<dyn FnMut() + Send>)),
        }
    })
    .with_supervision(SupervisorStrategy::one_for_one())
}

#[test]
fn panics_outside_of_the_handler_are_failures_of_the_actor_alone() {
    for (place, expected) in [
        ("none", &["made", "started", "handled 1", "handled stop", "stopping"][..]),
        ("factory", &["made", "made", "started", "handled 1", "handled stop", "stopping"]),
        (
            "started",
            &["made", "started", "restarting", "made", "started", "handled 1", "handled stop", "stopping"],
        ),
        ("stopping", &["made", "started", "handled 1", "handled stop", "stopping"]),
        ("drop", &["made", "started", "handled 1", "handled stop", "stopping"]),
    ] {
        let house = house();
        let watcher = house.lab("watcher");
        let actor = house.system.spawn("fragile", fragile(&house.log, place)).unwrap();
        let watched = actor.clone();
        watcher.tell(run(move |_, cx| {
            cx.watch(&watched);
            Ok(())
        }));
        actor.tell(note(1));
        actor.tell(note("stop"));
        house.idle();
        let mut lines = house.log.take();
        assert_eq!(lines.pop().unwrap(), "watcher: fragile stopped", "{place}");
        assert_eq!(lines, expected, "{place}");
        assert!(
            house.system.spawn("fragile", fragile(&house.log, "none")).is_ok(),
            "{place}: the name is free"
        );
    }
}

#[test]
fn a_message_whose_drop_tells_or_panics_harms_nobody() {
    let house = house();
    let actor = house.lab("a");
    let other = house.lab("other");
    let gate = Gate::default();
    actor.tell(wait(gate.passed(), ""));
    house.idle();
    let (to, again) = (other.clone(), actor.clone());
    let telling = OnDrop(move || {
        to.tell(note("told by a drop"));
        again.tell(note("told to the dying"));
    });
    actor.tell(run(move |_, _| {
        let _ = &telling;
        Ok(())
    }));
    let bomb = OnDrop(explode);
    actor.tell(run(move |_, _| {
        let _ = &bomb;
        Ok(())
    }));
    let counted = Arc::new(AtomicBool::new(false));
    let seen = counted.clone();
    let last = OnDrop(move || seen.store(true, Ordering::Relaxed));
    actor.tell(run(move |_, _| {
        let _ = &last;
        Ok(())
    }));
    actor.stop();
    gate.open();
    house.idle();
    house.log.expect(&["a: ", "other: told by a drop"]);
    assert!(counted.load(Ordering::Relaxed), "what came after the bomb was dropped too");
    assert!(actor.is_terminated());
    assert_eq!(house.letters().len(), 4);
}

#[test]
fn a_stashed_message_whose_drop_panics_does_not_keep_the_actor_from_ending() {
    let house = house();
    let actor = house.lab("a");
    let watcher = house.lab("watcher");
    let watched = actor.clone();
    house.check(
        &watcher,
        run(move |_, cx| {
            cx.watch(&watched);
            Ok(())
        }),
        &[],
    );
    let stash = run(|_, cx| {
        let bomb = OnDrop(explode);
        let _ = cx.stash(run(move |_, _| {
            let _ = &bomb;
            Ok(())
        }));
        let _ = cx.stash(note("behind it"));
        Ok(())
    });
    house.check(&actor, stash, &[]);
    actor.stop();
    house.idle();
    house.log.expect(&["watcher: a stopped"]);
    assert_eq!(house.letters(), ["a: stopped", "a: stopped"]);
}

#[test]
fn a_suspended_handler_whose_drop_panics_does_not_keep_the_actor_from_ending() {
    let house = house();
    let actor = house.spawn("a", lab("a", &house.log).with_stop_deadline(millis(10)));
    let watcher = house.lab("watcher");
    let watched = actor.clone();
    house.check(
        &watcher,
        run(move |_, cx| {
            cx.watch(&watched);
            Ok(())
        }),
        &[],
    );
    actor.tell(wait(
        async {
            let _bomb = OnDrop(explode);
            core::future::pending::<()>().await;
        },
        "never",
    ));
    house.idle();
    actor.stop();
    house.advance(10);
    house.log.expect(&["watcher: a stopped"]);
}

#[test]
fn a_decider_that_panics_gives_the_child_up() {
    let house = house_with(|builder| {
        builder.with_supervision(SupervisorStrategy::one_for_one().with_decider(|_| panic!("expected")))
    });
    let watcher = house.lab("watcher");
    let actor = house.lab("a");
    let watched = actor.clone();
    house.check(
        &watcher,
        run(move |_, cx| {
            cx.watch(&watched);
            Ok(())
        }),
        &[],
    );
    actor.tell(Do::Fail("boom"));
    house.idle();
    assert!(actor.is_terminated());
    let lines = house.log.take();
    assert!(lines[0].starts_with("watcher: a failed: panic in the decision"), "{lines:?}");
}

#[test]
fn a_scheduled_job_that_panics_leaves_the_timers_of_the_system_running() {
    let house = house();
    let actor = house.lab("a");
    house.check(
        &actor,
        run(|_, cx| {
            cx.start_timer("t", secs(2), note("fired"));
            Ok(())
        }),
        &[],
    );
    house.system.scheduler().schedule_once(secs(1), || panic!("expected"));
    house.advance(2000);
    house.log.expect(&["a: fired"]);
}

#[test]
fn a_panic_payload_that_panics_as_it_is_dropped_is_still_one_failure() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("expected");
        }
    }
    let house = house();
    let actor = house.lab("a");
    actor.tell(run(|_, _| std::panic::panic_any(Bomb)));
    assert_eq!(house.wait(actor.ask(Do::Count)), Ok(1));
}
