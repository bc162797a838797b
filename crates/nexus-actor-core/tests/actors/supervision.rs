//! Directives, scopes, budgets and back-off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::kit::*;
use nexus_actor_core::system::ActorFailed;
use nexus_actor_core::*;

type MakeStrategy = fn() -> SupervisorStrategy;

/// A parent with three chatty children `a`, `b`, `c`, which are returned in this order.
fn family(house: &House, strategy: SupervisorStrategy) -> (ActorRef<Do>, Vec<ActorRef<Do>>) {
    let parent = house.spawn("parent", chatty("parent", &house.log).with_supervision(strategy));
    let children = Arc::new(std::sync::Mutex::new(Vec::new()));
    let born = children.clone();
    parent.tell(run(move |lab, cx| {
        for name in ["a", "b", "c"] {
            born.lock().unwrap().push(cx.spawn(name, chatty(name, &lab.log))?);
        }
        Ok(())
    }));
    house.idle();
    house.log.take();
    let children = std::mem::take(&mut *children.lock().unwrap());
    (parent, children)
}

fn decided(directive: Directive) -> impl Fn(&Failure) -> Directive + Send + Sync {
    move |failure| match failure {
        Failure::Error(_) | Failure::Panic(_) => directive,
        _ => Directive::Restart,
    }
}

#[test]
fn every_directive_concerns_whom_its_scope_says() {
    use Directive::{Escalate, Restart, Resume, Stop};
    let scopes: [(&str, MakeStrategy, &[&str]); 3] = [
        ("one for one", SupervisorStrategy::one_for_one, &["b"]),
        ("all for one", SupervisorStrategy::all_for_one, &["a", "b", "c"]),
        ("rest for one", SupervisorStrategy::rest_for_one, &["b", "c"]),
    ];
    for (scope, make, concerned) in scopes {
        for directive in [Resume, Restart, Stop, Escalate] {
            let case = format!("{scope}, {directive:?}");
            let house = house();
            let failed = Log::default();
            let log = failed.clone();
            house
                .system
                .event_stream()
                .subscribe(move |event: &ActorFailed| {
                    log.add(format!("{} {} {:?}", event.path.name(), event.error, event.directive));
                })
                .forever();
            let (parent, children) = family(&house, make().with_decider(decided(directive)));
            for child in &children {
                child.tell(note("before"));
            }
            house.idle();
            house.log.take();
            children[1].tell(Do::Fail("boom"));
            house.idle();
            let lines = house.log.take();
            assert!(
                lines.contains(&"parent: child b failed: boom".to_string()) || directive == Escalate,
                "{case}: {lines:?}"
            );
            assert_eq!(failed.take()[0], format!("b boom {directive:?}"), "{case}");
            for (name, child) in ["a", "b", "c"].into_iter().zip(&children) {
                let hit = concerned.contains(&name);
                let restarted = lines.contains(&format!("{name}: Restarting"));
                let stopped = lines.contains(&format!("{name}: Stopping"));
                match directive {
                    Resume => assert!(!restarted && !stopped, "{case}: {name}: {lines:?}"),
                    Restart => assert!(restarted == hit && !stopped, "{case}: {name}: {lines:?}"),
                    Stop => assert!(!restarted && stopped == hit, "{case}: {name}: {lines:?}"),
                    // The parent is restarted in turn, and no child survives that.
                    Escalate => assert!(!restarted && stopped, "{case}: {name}: {lines:?}"),
                }
                assert_eq!(child.is_terminated(), stopped, "{case}: {name}");
            }
            assert_eq!(lines.contains(&"parent: Restarting".to_string()), directive == Escalate, "{case}");
            assert!(!parent.is_terminated(), "{case}");
            let mut count = house.wait(children[1].ask(Do::Count));
            if directive == Restart {
                assert_eq!(count, Ok(1), "{case}: a new instance");
                count = house.wait(children[0].ask(Do::Count));
                assert_eq!(count, Ok(if concerned.contains(&"a") { 1 } else { 2 }), "{case}");
            } else if directive == Resume {
                assert_eq!(count, Ok(3), "{case}: it kept its state");
            }
        }
    }
}

#[test]
fn rest_for_one_goes_by_age_and_not_by_name() {
    let house = house();
    let strategy = SupervisorStrategy::rest_for_one();
    let parent = house.spawn("parent", lab("parent", &house.log).with_supervision(strategy));
    parent.tell(run(|lab, cx| {
        for name in ["z", "m", "a"] {
            cx.spawn(name, chatty(name, &lab.log))?;
        }
        let who = cx.child("m").and_then(|child| child.downcast::<Do>()).ok_or("no child")?;
        who.tell(Do::Fail("boom"));
        Ok(())
    }));
    house.idle();
    let lines = house.log.take();
    let restarted: Vec<_> = lines.iter().filter(|line| line.ends_with("Restarting")).collect();
    assert_eq!(restarted, ["m: Restarting", "a: Restarting"]);
}

#[test]
fn a_panic_is_never_resumed() {
    let house = house_with(|builder| {
        builder.with_supervision(SupervisorStrategy::one_for_one().with_decider(|_| Directive::Resume))
    });
    let actor = house.chatty("a");
    house.log.take();
    house.check(&actor, Do::Panic("expected"), &["a: Restarting", "a: Started"]);
}

#[test]
fn the_messages_behind_a_failure_are_handled_by_the_next_instance() {
    let house = house();
    let actor = house.lab("a");
    actor.tell(note(1));
    actor.tell(Do::Fail("boom"));
    actor.tell(note(2));
    house.idle();
    house.log.expect(&["a: 1", "a: 2"]);
    assert!(house.letters().is_empty());
}

#[test]
fn an_exhausted_budget_stops_or_escalates() {
    for (exhausted, expected) in [(Directive::Stop, false), (Directive::Escalate, true)] {
        let house = house();
        let strategy = SupervisorStrategy::one_for_one()
            .with_budget(2, secs(10))
            .without_backoff()
            .with_exhausted(exhausted);
        let (_, children) = family(&house, strategy);
        let child = &children[0];
        for _ in 0..2 {
            child.tell(Do::Fail("boom"));
        }
        house.idle();
        assert!(!child.is_terminated(), "{exhausted:?}: at the budget");
        // The window slides: ten seconds later there is room again.
        house.advance(10_001);
        child.tell(Do::Fail("boom"));
        child.tell(Do::Fail("boom"));
        house.idle();
        assert!(!child.is_terminated(), "{exhausted:?}: at the budget again");
        house.log.take();
        child.tell(Do::Fail("boom"));
        house.idle();
        assert!(child.is_terminated(), "{exhausted:?}: above the budget");
        let lines = house.log.take();
        assert_eq!(lines.contains(&"parent: Restarting".to_string()), expected, "{exhausted:?}: {lines:?}");
    }
}

#[test]
fn restarts_wait_for_their_back_off_to_the_millisecond() {
    let backoff = Backoff { initial: millis(100), max: millis(350), jitter: 0.0 };
    let house = house_with(|builder| {
        builder.with_supervision(SupervisorStrategy::one_for_one().with_backoff(backoff))
    });
    let actor = house.chatty("a");
    house.log.take();
    for wait in [0, 100, 200, 350, 350] {
        actor.tell(Do::Fail("boom"));
        actor.tell(note("waited"));
        house.idle();
        let start = house.now();
        if wait > 0 {
            house.log.expect(&["a: Restarting"]);
            house.advance(wait - 1);
            house.log.expect(&[]);
            house.advance(1);
            house.log.expect(&["a: Started", "a: waited"]);
        } else {
            house.log.expect(&["a: Restarting", "a: Started", "a: waited"]);
        }
        assert_eq!(house.now() - start, wait);
    }
}

#[test]
fn a_stop_ends_a_back_off_at_once() {
    let backoff = Backoff { initial: secs(100), max: secs(100), jitter: 0.0 };
    let house = house_with(|builder| {
        builder.with_supervision(SupervisorStrategy::one_for_one().with_backoff(backoff))
    });
    let actor = house.chatty("a");
    actor.tell(Do::Fail("boom"));
    actor.tell(Do::Fail("boom"));
    actor.tell(note("lost"));
    house.idle();
    house.log.take();
    actor.stop();
    house.idle();
    assert!(actor.is_terminated());
    assert_eq!(house.now(), 0);
    assert_eq!(house.letters(), ["a: stopped"]);
}

#[test]
fn a_restart_stops_the_children_first_and_frees_their_names() {
    let house = house();
    let props = chatty("parent", &house.log);
    let parent = house.spawn("parent", props);
    let birth = || {
        run(|lab, cx| {
            cx.spawn("child", chatty("child", &lab.log))?;
            Ok(())
        })
    };
    parent.tell(birth());
    house.idle();
    house.log.take();
    parent.tell(Do::Fail("boom"));
    parent.tell(birth());
    house.idle();
    house.log.expect(&["parent: Restarting", "child: Stopping", "parent: Started", "child: Started"]);
}

#[test]
fn a_failure_while_stopping_makes_no_new_instance() {
    for external in [false, true] {
        let house = house();
        let actor = house.chatty("a");
        house.log.take();
        let me = actor.clone();
        actor.tell(run(move |_, cx| {
            if external {
                me.stop()
            } else {
                cx.stop()
            }
            Err("boom".into())
        }));
        house.idle();
        house.log.expect(&["a: Stopping"]);
        assert!(actor.is_terminated(), "external: {external}");
    }
}

/// A factory that fails for ever is bounded by its budget, whatever the decider says, and by the stack never.
#[test]
fn a_factory_that_always_fails_uses_its_budget_up() {
    for (name, directive) in [("restart", Directive::Restart), ("resume", Directive::Resume)] {
        let house = house_with(|builder| {
            builder.with_supervision(
                SupervisorStrategy::one_for_one()
                    .with_budget(50_000, secs(60))
                    .without_backoff()
                    .with_decider(move |_| directive),
            )
        });
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let props = Props::from(move |_: &mut Context<'_, Lab>| {
            count.fetch_add(1, Ordering::Relaxed);
            Err("never".into())
        });
        let actor = house.spawn("a", props);
        assert!(actor.is_terminated(), "{name}");
        assert_eq!(made.load(Ordering::Relaxed), 50_001, "{name}");
    }
}

#[test]
fn a_stop_is_noticed_between_attempts_to_start() {
    let house = house_with(|builder| {
        builder.with_supervision(
            SupervisorStrategy::one_for_one().with_budget(u32::MAX, secs(60)).without_backoff(),
        )
    });
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let props = Props::from(move |cx: &mut Context<'_, Lab>| {
        if count.fetch_add(1, Ordering::Relaxed) == 9 {
            cx.me().stop();
        }
        Err("never".into())
    });
    let actor = house.spawn("a", props);
    assert!(actor.is_terminated());
    assert_eq!(made.load(Ordering::Relaxed), 10);
}

#[test]
fn a_failure_that_reaches_the_user_guardian_restarts_it_and_its_exhaustion_ends_the_system() {
    let strategy = SupervisorStrategy::one_for_one()
        .with_budget(1, secs(60))
        .without_backoff()
        .with_exhausted(Directive::Escalate);
    let house = house_with(|builder| builder.with_supervision(strategy));
    for round in 0..2 {
        let actor = house.lab("a");
        actor.tell(Do::Fail("boom"));
        actor.tell(Do::Fail("boom"));
        house.idle();
        assert!(actor.is_terminated(), "{round}");
        assert_eq!(house.system.is_terminated(), round == 1, "{round}");
    }
}
