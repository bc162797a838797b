//! Signals in their order, stops and their deadlines, behaviors and the stash.

use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::kit::*;
use nexus_actor_core::*;

#[test]
fn signals_come_in_their_order() {
    let house = house();
    let parent = house.chatty("parent");
    parent.tell(run(|lab, cx| {
        cx.spawn("child", chatty("child", &lab.log))?;
        Ok(())
    }));
    parent.tell(note("last"));
    house.idle();
    parent.stop();
    house.idle();
    house.log.expect(&[
        "parent: Started",
        "parent: last",
        "child: Started",
        // Children first, so that a parent can still count on nobody in its last handler.
        "child: Stopping",
        "parent: Stopping",
    ]);
}

#[test]
fn a_stop_waits_for_a_suspended_handler_until_the_deadline_and_then_drops_it() {
    for (name, own, deadline) in [("default", None, 5000), ("own", Some(250), 250)] {
        let house = house();
        let mut props = chatty("a", &house.log);
        if let Some(own) = own {
            props = props.with_stop_deadline(millis(own));
        }
        let actor = house.spawn("a", props);
        let log = house.log.clone();
        actor.tell(wait(
            async move {
                let _held = OnDrop(move || log.add("handler dropped"));
                core::future::pending::<()>().await;
            },
            "never",
        ));
        house.advance(1000);
        house.log.take();
        actor.stop();
        house.advance(deadline - 1);
        house.log.expect(&[]);
        assert!(!actor.is_terminated(), "{name}");
        house.advance(1);
        house.log.expect(&["handler dropped", "a: Stopping"]);
        assert!(actor.is_terminated(), "{name}");
    }
}

#[test]
fn a_handler_that_ends_before_the_deadline_ends_well() {
    let house = house();
    let actor = house.chatty("a");
    let gate = Gate::default();
    actor.tell(wait(gate.passed(), "finished"));
    house.idle();
    house.log.take();
    let timers = house.system.scheduler().pending();
    actor.stop();
    house.advance(4000);
    assert_eq!(house.system.scheduler().pending(), timers + 1);
    gate.open();
    house.idle();
    house.log.expect(&["a: finished", "a: Stopping"]);
    assert_eq!(house.system.scheduler().pending(), timers, "the deadline no longer holds the actor");
}

/// An actor whose last handler never ends.
struct Clinging;

impl Actor for Clinging {
    type Msg = ();
    async fn receive(&mut self, (): (), cx: &mut Context<'_, Self>) -> Done {
        cx.stop();
        Ok(())
    }
    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Done {
        if let Signal::Stopping = signal {
            core::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[test]
fn a_stopping_handler_has_the_stop_deadline_too() {
    for own in [false, true] {
        let house = house();
        let actor = house.spawn("a", Props::from_fn(|| Clinging).with_stop_deadline(secs(2)));
        if own {
            actor.tell(())
        } else {
            actor.stop()
        }
        house.advance(1999);
        assert!(!actor.is_terminated(), "own: {own}");
        house.advance(1);
        assert!(actor.is_terminated(), "own: {own}");
    }
}

#[test]
fn an_actor_that_is_stopping_has_no_more_children() {
    let house = house();
    let actor = house.lab("a");
    let birth = run(|lab, cx| {
        cx.stop();
        let refused = cx.spawn("child", chatty("child", &lab.log)).unwrap_err();
        lab.say(refused);
        Ok(())
    });
    house.check(&actor, birth, &["a: the parent has stopped"]);
}

#[test]
fn the_stash_keeps_order_and_goes_before_what_waits() {
    let house = house();
    let actor = house.spawn("a", lab("a", &house.log).with_stash_capacity(2));
    actor.tell(run(|lab, cx| {
        for n in 1..=2 {
            cx.stash(note(n)).map_err(|_| "full")?;
        }
        let full = cx.stash(note("third")).unwrap_err();
        assert!(matches!(full.message, Do::Note(text) if text == "third"));
        lab.say(format!("{} stashed, capacity {}", cx.stash_len(), full.capacity));
        Ok(())
    }));
    actor.tell(run(|_, cx| {
        cx.unstash_all();
        Ok(())
    }));
    actor.tell(note(3));
    house.idle();
    house.log.expect(&["a: 2 stashed, capacity 2", "a: 1", "a: 2", "a: 3"]);
}

/// A stash longer than a turn is interrupted, and what then comes alone still waits for the rest of it.
#[test]
fn a_long_stash_goes_before_a_message_that_comes_alone() {
    let house = house();
    let actor = house.lab("a");
    actor.tell(run(|_, cx| {
        for n in 0..600 {
            cx.stash(note(n)).map_err(|_| "full")?;
        }
        cx.unstash_all();
        Ok(())
    }));
    assert_eq!(house.pump.run_at_most(2), 2, "the first and the second part");
    actor.tell(note("alone"));
    house.idle();
    let expected: Vec<_> = (0..600).map(|n| format!("a: {n}")).chain(["a: alone".to_owned()]).collect();
    house.log.expect(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_restart_hands_the_stash_to_the_new_instance() {
    let house = house();
    let actor = house.lab("a");
    actor.tell(run(|_, cx| {
        let _ = cx.stash(note("stashed"));
        Ok(())
    }));
    house.check(&actor, Do::Fail("boom"), &["a: stashed"]);
}

struct Loud(&'static str);

impl Behavior<Lab> for Loud {
    fn receive<'a>(
        &'a mut self,
        lab: &'a mut Lab,
        message: Do,
        cx: &'a mut Context<'_, Lab>,
    ) -> Pin<Box<dyn Future<Output = Done> + Send + 'a>> {
        let text = self.0;
        Box::pin(async move {
            match message {
                Do::Note(note) => lab.say(format!("{text} {note}")),
                Do::Run(act) => act(lab, cx)?,
                _ => return Err("not in this behavior".into()),
            }
            Ok(())
        })
    }
}

#[test]
fn behaviors_stack_and_a_restart_goes_back_to_the_actor() {
    let house = house();
    let actor = house.lab("a");
    let turn_to = |text| {
        run(move |_, cx| {
            cx.become_with(Loud(text));
            Ok(())
        })
    };
    let back = || {
        run(|_, cx| {
            cx.unbecome();
            Ok(())
        })
    };
    house.check(&actor, note(1), &["a: 1"]);
    house.check(&actor, turn_to("loud"), &[]);
    house.check(&actor, note(2), &["a: loud 2"]);
    house.check(&actor, turn_to("louder"), &[]);
    house.check(&actor, note(3), &["a: louder 3"]);
    house.check(&actor, back(), &[]);
    house.check(&actor, note(4), &["a: loud 4"]);
    house.check(&actor, back(), &[]);
    house.check(&actor, note(5), &["a: 5"]);
    house.check(&actor, back(), &[]);
    house.check(&actor, turn_to("loud"), &[]);
    house.check(&actor, Do::Fail("boom"), &[]);
    house.check(&actor, note(6), &["a: 6"]);
}

#[test]
fn piped_results_come_as_messages_and_the_actor_goes_on_meanwhile() {
    let house = house();
    let actor = house.lab("a");
    let gate = Gate::default();
    let passed = gate.passed();
    house.check(
        &actor,
        run(move |_, cx| {
            cx.pipe_to_self(
                async {
                    passed.await;
                    42
                },
                note,
            );
            Ok(())
        }),
        &[],
    );
    house.check(&actor, note("meanwhile"), &["a: meanwhile"]);
    gate.open();
    house.idle();
    house.log.expect(&["a: 42"]);
    let never = Gate::default();
    let passed = never.passed();
    house.check(
        &actor,
        run(move |_, cx| {
            cx.pipe_to_self(passed, |()| note("late"));
            Ok(())
        }),
        &[],
    );
    actor.stop();
    house.idle();
    never.open();
    house.idle();
    assert_eq!(house.letters(), ["a: stopped"]);
}

/// Tells itself the next one until there are none.
struct Talker {
    said: Arc<AtomicU32>,
}

impl Actor for Talker {
    type Msg = u32;
    async fn receive(&mut self, left: u32, cx: &mut Context<'_, Self>) -> Done {
        self.said.fetch_add(1, Ordering::Relaxed);
        if left > 0 {
            cx.me().tell(left - 1);
        }
        Ok(())
    }
}

/// Notes how much the other had said when its own turn came.
struct Listener {
    said: Arc<AtomicU32>,
    heard: Arc<AtomicU32>,
}

impl Actor for Listener {
    type Msg = ();
    async fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Done {
        self.heard.store(self.said.load(Ordering::Relaxed), Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn an_actor_that_always_has_a_next_message_lets_others_run() {
    let house = house();
    let (said, heard) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let talker = house.spawn("talker", {
        let said = said.clone();
        Props::from_fn(move || Talker { said: said.clone() })
    });
    let listener = house.spawn("listener", {
        let (said, heard) = (said.clone(), heard.clone());
        Props::from_fn(move || Listener { said: said.clone(), heard: heard.clone() })
    });
    // Two, so that each batch has a few: a message that comes alone is a turn of its own.
    talker.tell(50_000);
    talker.tell(50_000);
    listener.tell(());
    house.idle();
    assert_eq!(said.load(Ordering::Relaxed), 100_002);
    let heard = heard.load(Ordering::Relaxed);
    assert!(heard <= 512, "the other waited for {heard} messages");
}
