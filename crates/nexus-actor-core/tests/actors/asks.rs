//! Questions, answers, and what comes instead of one.

use core::task::Poll;
use std::sync::{Arc, Mutex};

use crate::kit::*;
use nexus_actor_core::*;

/// Keeps the reply in the actor.
fn keep(reply: Reply<u64>) -> Do {
    run(move |lab, _| {
        lab.kept.push(reply);
        Ok(())
    })
}

#[test]
fn an_ask_gets_the_answer() {
    let house = house();
    let actor = house.lab("a");
    actor.tell(note("x"));
    assert_eq!(house.wait(actor.ask(Do::Count)), Ok(2));
}

#[test]
fn an_ask_times_out_at_its_own_deadline_or_the_systems() {
    for (name, own, expected) in
        [("default", None, 3000), ("shorter", Some(500), 500), ("longer", Some(9000), 9000)]
    {
        let house = house_with(|builder| builder.with_ask_timeout(secs(3)));
        let actor = house.lab("a");
        let mut ask = actor.ask(keep);
        if let Some(own) = own {
            ask = ask.timeout(millis(own));
        }
        assert_eq!(house.wait(ask), Err(AskError::Timeout { after: millis(expected) }), "{name}");
        let late = house.now() - expected;
        assert!(late <= 20, "{name}: never early, at most two ticks late, but {late} ms");
    }
}

#[test]
fn a_dropped_reply_tells_the_asker_at_once() {
    let house = house();
    let actor = house.lab("a");
    let ask = actor.ask(|reply: Reply<u64>| {
        run(move |_, _| {
            drop(reply);
            Ok(())
        })
    });
    assert_eq!(house.wait(ask), Err(AskError::NoReply));
    assert_eq!(house.now(), 0);
}

#[test]
fn the_asker_learns_why_the_question_was_lost() {
    let house = house();
    let actor = house.lab("a");
    let gate = Gate::default();
    actor.tell(wait(gate.passed(), ""));
    house.idle();
    let queued = actor.ask(Do::Count);
    actor.stop();
    gate.open();
    assert_eq!(house.wait(queued), Err(AskError::Stopped), "stopped with the question in the mailbox");
    assert_eq!(house.wait(actor.ask(Do::Count)), Err(AskError::Stopped), "stopped before");
    let full = house.spawn("full", lab("full", &house.log).with_mailbox(MailboxConfig::bounded(1)));
    full.tell(note(1));
    assert_eq!(house.wait(full.ask(Do::Count)), Err(AskError::Full));
    let oldest = lab("oldest", &house.log).with_mailbox(MailboxConfig::bounded(1).drop_oldest());
    let oldest = house.spawn("oldest", oldest);
    let displaced = oldest.ask(Do::Count);
    oldest.tell(note(1));
    assert_eq!(house.wait(displaced), Err(AskError::Full), "given up for a newer message");
    assert_eq!(house.letters(), ["a: stopped", "a: stopped", "full: mailbox full", "oldest: mailbox full"]);
}

#[test]
fn a_stashed_question_is_answered_by_the_stop_of_its_actor() {
    let house = house();
    let actor = house.lab("a");
    let ask = actor.ask(|reply| run(move |_, cx| cx.stash(Do::Count(reply)).map_err(|_| "full".into())));
    house.idle();
    actor.stop();
    assert_eq!(house.wait(ask), Err(AskError::Stopped));
    assert_eq!(house.letters(), ["a: stopped"]);
}

#[test]
fn a_panicking_handler_answers_no_reply_and_the_next_question_is_answered() {
    let house = house();
    let actor = house.lab("a");
    let ask = actor.ask(|reply: Reply<u64>| {
        run(move |_, _| {
            let _reply = reply;
            panic!("expected")
        })
    });
    assert_eq!(house.wait(ask), Err(AskError::NoReply));
    assert_eq!(house.wait(actor.ask(Do::Count)), Ok(1), "a new instance");
}

#[test]
fn a_late_answer_is_discarded_and_the_reply_can_tell() {
    let house = house();
    let actor = house.lab("a");
    let mut ask = actor.ask(keep);
    house.idle();
    assert!(poll(&mut ask).is_pending());
    let over = || {
        run(|lab, _| {
            lab.say(lab.kept[0].is_over());
            Ok(())
        })
    };
    house.check(&actor, over(), &["a: false"]);
    drop(ask);
    house.check(&actor, over(), &["a: true"]);
    house.check(
        &actor,
        run(|lab, _| {
            lab.kept.remove(0).send(1);
            Ok(())
        }),
        &[],
    );
    assert!(house.letters().is_empty());
}

#[test]
fn a_reply_can_be_passed_on_and_refused_with_a_cause() {
    let house = house();
    let front = house.lab("front");
    let back = house.lab("back");
    let to = back.clone();
    let ask = front.ask(move |reply| {
        run(move |_, _| {
            to.tell(Do::Count(reply));
            Ok(())
        })
    });
    assert_eq!(house.wait(ask), Ok(1));
    let ask = front.ask(|reply: Reply<u64>| {
        run(move |_, _| {
            reply.fail(AskError::Denied);
            Ok(())
        })
    });
    assert_eq!(house.wait(ask), Err(AskError::Denied));
}

/// A hundred thousand at once, of which half are dropped, a tenth times out and the rest is answered.
#[test]
fn a_hundred_thousand_asks_end_each_with_its_own_fate() {
    let house = house();
    let actor = house.lab("a");
    let mut waiting = Vec::new();
    for n in 0..100_000_u64 {
        let mut ask = match n % 10 {
            0 => actor.ask(keep).timeout(secs(1)),
            _ => actor.ask(move |reply: Reply<u64>| {
                run(move |_, _| {
                    reply.send(n);
                    Ok(())
                })
            }),
        };
        assert!(poll(&mut ask).is_pending());
        if n % 2 == 0 {
            waiting.push((n, ask));
        }
    }
    house.idle();
    let mut answered = 0;
    for (n, ask) in waiting.iter_mut().filter(|(n, _)| n % 10 != 0) {
        assert_eq!(poll(ask), Poll::Ready(Ok(*n)));
        answered += 1;
    }
    assert_eq!(answered, 40_000);
    house.advance(900);
    assert!(waiting.iter_mut().filter(|(n, _)| n % 10 == 0).all(|(_, ask)| poll(ask).is_pending()));
    house.advance(120);
    for (_, ask) in waiting.iter_mut().filter(|(n, _)| n % 10 == 0) {
        assert_eq!(poll(ask), Poll::Ready(Err(AskError::Timeout { after: secs(1) })));
    }
    drop(waiting);
    // With no question left the table stops ticking: nothing is scheduled any more.
    house.advance(5_000);
    assert_eq!(house.system.scheduler().pending(), 0);
    let after = house.wait(actor.ask(Do::Count));
    assert!(after.is_ok(), "and it wakes up again: {after:?}");
    assert!(matches!(house.wait(actor.ask(keep)), Err(AskError::Timeout { .. })));
}

/// The end of the system stops the clock that deadlines go by; whoever still waits is told instead.
#[test]
fn no_asker_outlives_its_system() {
    let house = house_with(|builder| builder.with_shutdown_timeout(secs(1)));
    let actor = house.lab("a");
    // The reply outlives the actor it was sent to.
    let kept: Arc<Mutex<Vec<Reply<u64>>>> = Arc::default();
    let hold = kept.clone();
    let hold = move |reply| {
        run(move |_, _| {
            hold.lock().unwrap().push(reply);
            Ok(())
        })
    };
    let mut ask = actor.ask(hold).timeout(secs(3600));
    assert!(poll(&mut ask).is_pending());
    let stuck = house.lab("stuck");
    stuck.tell(wait(core::future::pending(), ""));
    house.idle();
    house.system.begin_shutdown();
    house.advance(2000);
    assert!(house.system.is_terminated());
    assert_eq!(poll(&mut ask), Poll::Ready(Err(AskError::Shutdown)));
    let mut late = stuck.ask(Do::Count);
    assert_eq!(poll(&mut late), Poll::Ready(Err(AskError::Shutdown)), "asked of one that was abandoned");
}

/// Behind a stall the table's idea of now is old: a question asked then still has its whole time.
#[test]
fn an_ask_after_a_stall_does_not_expire_early() {
    let house = house();
    let actor = house.lab("a");
    let mut earlier = actor.ask(keep).timeout(secs(60));
    assert!(poll(&mut earlier).is_pending());
    house.advance(100);
    // The clock moves and nothing runs.
    house.pump.set_time(house.system.now() + secs(10));
    let start = house.now();
    let mut ask = actor.ask(keep).timeout(secs(1));
    assert!(poll(&mut ask).is_pending());
    house.idle();
    house.advance(990);
    assert!(poll(&mut ask).is_pending());
    assert_eq!(house.wait(ask), Err(AskError::Timeout { after: secs(1) }));
    assert!(house.now() - start <= 1030, "{} ms", house.now() - start);
    assert!(poll(&mut earlier).is_pending());
    assert_eq!(house.wait(earlier), Err(AskError::Timeout { after: secs(60) }));
    assert!(house.now() <= 60_020, "one that came before the stall is not late: {}", house.now());
}
