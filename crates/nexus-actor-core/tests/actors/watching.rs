//! Death watch inside one system.

use crate::kit::*;
use nexus_actor_core::*;

fn watch(who: &ActorRef<Do>) -> Do {
    let who = who.clone();
    run(move |_, cx| {
        cx.watch(&who);
        Ok(())
    })
}

fn unwatch(who: &ActorRef<Do>) -> Do {
    let who = who.clone();
    run(move |_, cx| {
        cx.unwatch(&who);
        Ok(())
    })
}

#[test]
fn a_watcher_is_told_once_with_the_reason() {
    for (name, end, expected) in [
        ("stopped", None, "w: a stopped"),
        ("failed", Some(Do::Fail("boom")), "w: a failed: boom"),
        ("panicked", Some(Do::Panic("bang")), "w: a failed: panic: bang"),
    ] {
        let house = house_with(|builder| {
            builder.with_supervision(SupervisorStrategy::one_for_one().with_budget(0, secs(1)))
        });
        let (w, a) = (house.lab("w"), house.lab("a"));
        // Watching twice is watching once.
        w.tell(watch(&a));
        w.tell(watch(&a));
        house.idle();
        match end {
            None => a.stop(),
            Some(message) => a.tell(message),
        }
        house.idle();
        assert_eq!(house.log.take(), [expected], "{name}");
    }
}

#[test]
fn a_watch_on_the_dead_and_on_the_never_born_is_answered_at_once() {
    let house = house();
    let (w, a) = (house.lab("w"), house.lab("a"));
    a.stop();
    house.idle();
    house.check(&w, watch(&a), &["w: a stopped"]);
    house.check(&w, watch(&a), &["w: a stopped"]);
    let nobody: ActorRef<crate::refs::Wire> = house.system.resolve("/user/nobody").unwrap();
    let watch = run(move |_, cx| {
        cx.watch(&nobody);
        Ok(())
    });
    house.check(&w, watch, &["w: nobody never existed"]);
}

#[test]
fn many_watchers_are_told_once_each() {
    let house = house();
    let a = house.lab("a");
    let watchers: Vec<_> = (0..100).map(|n| house.lab(&format!("w{n}"))).collect();
    for w in &watchers {
        w.tell(watch(&a));
    }
    house.idle();
    a.stop();
    house.idle();
    let mut lines = house.log.take();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 100);
}

#[test]
fn an_unwatch_holds_even_when_the_notice_is_on_its_way() {
    let house = house();
    let (w, a) = (house.lab("w"), house.lab("a"));
    house.check(&w, watch(&a), &[]);
    house.check(&w, unwatch(&a), &[]);
    a.stop();
    house.idle();
    house.log.expect(&[]);

    let b = house.lab("b");
    house.check(&w, watch(&b), &[]);
    let gate = Gate::default();
    w.tell(wait(gate.passed(), "waited"));
    house.idle();
    w.tell(unwatch(&b));
    b.stop();
    house.idle();
    assert!(b.is_terminated(), "the notice waits in the mailbox now");
    gate.open();
    house.idle();
    house.log.expect(&["w: waited"]);
    // Watched anew after the unwatch it is told once, though two notices came.
    let c = house.lab("c");
    house.check(&w, watch(&c), &[]);
    let gate = Gate::default();
    w.tell(wait(gate.passed(), "waited"));
    house.idle();
    w.tell(unwatch(&c));
    w.tell(watch(&c));
    c.stop();
    house.idle();
    gate.open();
    house.idle();
    house.log.expect(&["w: waited", "w: c stopped"]);
}

/// The notice never overtakes the last messages of the actor it speaks of, whatever its mailbox does.
#[test]
fn a_notice_comes_after_the_last_messages() {
    for bounded in [false, true] {
        let house = house();
        let mut props = lab("w", &house.log);
        if bounded {
            props = props.with_mailbox(MailboxConfig::bounded(2000));
        }
        let w = house.spawn("w", props);
        let a = house.lab("a");
        house.check(&w, watch(&a), &[]);
        let to = w.clone();
        a.tell(run(move |_, cx| {
            for n in 0..1000 {
                to.tell(note(n));
            }
            cx.stop();
            Ok(())
        }));
        house.idle();
        let lines = house.log.take();
        assert_eq!(lines.len(), 1001, "bounded: {bounded}");
        assert_eq!(lines[999], "w: 999", "bounded: {bounded}");
        assert_eq!(lines[1000], "w: a stopped", "bounded: {bounded}");
    }
}

#[test]
fn two_that_watch_each_other_and_one_that_watches_itself() {
    let house = house();
    let (a, b) = (house.lab("a"), house.lab("b"));
    a.tell(watch(&b));
    b.tell(watch(&a));
    a.tell(watch(&a));
    house.idle();
    a.stop();
    house.idle();
    house.log.expect(&["b: a stopped"]);
    b.stop();
    house.idle();
    house.log.expect(&[]);
}

#[test]
fn a_name_is_free_before_its_watchers_hear_of_it() {
    let house = house();
    let (w, a) = (house.lab("w"), house.lab("a"));
    struct Again(ActorRef<Do>);
    impl Actor for Again {
        type Msg = ();
        async fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Done {
            Ok(())
        }
        async fn signal(&mut self, signal: Signal, cx: &mut Context<'_, Self>) -> Done {
            match signal {
                Signal::Started => cx.watch(&self.0),
                Signal::Terminated { who, .. } => {
                    cx.system().spawn(who.path().name(), Props::from_fn(guardian::Guardian::default))?;
                }
                _ => {}
            }
            Ok(())
        }
    }
    let watched = a.clone();
    house.spawn("again", Props::from_fn(move || Again(watched.clone())));
    house.check(&w, watch(&a), &[]);
    a.stop();
    house.idle();
    house.log.expect(&["w: a stopped"]);
    assert!(house.system.processes().get("/user/a").is_some(), "spawned anew in the handler");
}

#[test]
fn a_watch_on_an_adapter_is_a_watch_on_the_actor() {
    let house = house();
    let (w, a) = (house.lab("w"), house.lab("a"));
    let adapted: ActorRef<u8> = a.adapt(note);
    let watch = run(move |_, cx| {
        cx.watch(&adapted);
        Ok(())
    });
    house.check(&w, watch, &[]);
    a.stop();
    house.idle();
    house.log.expect(&["w: a stopped"]);
}

#[test]
fn a_restart_keeps_watches_and_tells_no_watcher() {
    let house = house();
    let (w, a, b) = (house.lab("w"), house.lab("a"), house.lab("b"));
    w.tell(watch(&a));
    w.tell(watch(&b));
    house.idle();
    house.check(&a, Do::Fail("boom"), &[]);
    house.check(&w, Do::Fail("boom"), &[]);
    b.stop();
    house.idle();
    house.log.expect(&["w: b stopped"]);
}
