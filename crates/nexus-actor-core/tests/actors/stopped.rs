//! Waiting for an actor to be gone.

use core::task::Poll;
use std::sync::Arc;
use std::sync::Mutex;

use crate::kit::*;
use nexus_actor_core::actor_ref::Stopped;
use nexus_actor_core::*;

/// The name is free at the instant at which the wait is over, whatever keeps the actor from its end before.
#[test]
fn who_waits_for_the_end_finds_the_name_free() {
    let house = house();
    let gate = Gate::default();
    let a = house.lab("a");
    let mut before = a.stopped();
    a.tell(wait(gate.passed(), "late"));
    house.idle();
    assert!(poll(&mut before).is_pending(), "it lives");
    a.stop();
    house.idle();
    assert!(poll(&mut before).is_pending(), "a handler runs");
    let (system, log, who) = (house.system.clone(), house.log.clone(), a.clone());
    house.system.spawn_task(async move {
        who.stopped().await;
        system.spawn("a", lab("again", &log)).expect("the name is free").tell(note("begun"));
    });
    house.idle();
    house.log.expect(&[]);
    gate.open();
    house.idle();
    house.log.expect(&["a: late", "again: begun"]);
    assert!(poll(&mut before).is_ready() && poll(&mut before).is_ready());
    assert!(poll(&mut a.stopped()).is_ready(), "the one behind this reference is gone");
    assert!(poll(&mut house.lab("b").stopped()).is_pending());
}

/// Between the end of the mailbox and that of the name what was still in it is dropped, and that may run anything. A watch
/// that begins then is answered at once; this is not.
#[test]
fn a_closed_mailbox_is_not_yet_the_end() {
    let house = house();
    let a = house.lab("a");
    let seen: Arc<Mutex<Option<(bool, bool, Stopped)>>> = Arc::default();
    let (who, noted) = (a.clone(), seen.clone());
    let last = OnDrop(move || {
        let mut stopped = who.stopped();
        let pending = poll(&mut stopped).is_pending();
        *noted.lock().unwrap() = Some((who.is_terminated(), pending, stopped));
    });
    a.tell(run(|_, cx| {
        cx.stop();
        Ok(())
    }));
    a.tell(run(move |_, _| {
        drop(last);
        Ok(())
    }));
    house.idle();
    let (terminated, pending, mut stopped) = seen.lock().unwrap().take().expect("it was dropped");
    assert!(terminated && pending);
    assert!(poll(&mut stopped).is_ready());
}

#[test]
fn a_wait_that_is_given_up_takes_no_other_with_it() {
    let house = house();
    let a = house.lab("a");
    let (system, log) = (house.system.clone(), house.log.clone());
    let first = a.stopped();
    house.system.spawn_task({
        let a = a.clone();
        async move {
            // One task, and so one waker, waits in three places.
            let (mut first, mut second, mut third) = (first, a.stopped(), a.stopped());
            core::future::poll_fn(|cx| {
                for wait in [&mut first, &mut second, &mut third] {
                    assert!(core::pin::Pin::new(wait).poll(cx).is_pending());
                }
                Poll::Ready(())
            })
            .await;
            drop((first, third));
            second.await;
            system.spawn("a", lab("again", &log)).expect("the name is free").tell(note("begun"));
        }
    });
    house.idle();
    a.stop();
    house.idle();
    house.log.expect(&["again: begun"]);
}

#[test]
fn by_name_it_means_who_lives_there_now() {
    let house = house();
    let named: ActorRef<crate::refs::Wire> = house.system.resolve("/user/a").unwrap();
    assert!(poll(&mut named.stopped()).is_ready(), "nobody");
    let a = house.lab("a");
    let mut stopped = named.stopped();
    let mut adapted = a.adapt(|text: String| note(text)).stopped();
    assert!(poll(&mut stopped).is_pending() && poll(&mut adapted).is_pending());
    a.stop();
    house.idle();
    let _again = house.lab("a");
    assert!(poll(&mut stopped).is_ready() && poll(&mut adapted).is_ready(), "that one is gone");
    assert!(poll(&mut named.stopped()).is_pending(), "another lives there");
}
