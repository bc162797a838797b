//! Tell, try_tell and send: acceptance, order, room.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context as TaskContext, Poll};
use std::sync::Arc;

use crate::kit::*;
use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::*;

#[test]
fn messages_of_a_sender_arrive_in_the_order_they_were_sent() {
    let house = house();
    let actor = house.lab("a");
    // More than a slice and more than one batch.
    for n in 0..1000 {
        actor.tell(note(n));
        if n == 500 {
            house.idle();
        }
    }
    house.idle();
    let expected: Vec<_> = (0..1000).map(|n| format!("a: {n}")).collect();
    assert_eq!(house.log.take(), expected);
}

#[test]
fn a_bounded_mailbox_takes_its_capacity_and_refuses_one_more() {
    for capacity in [1, 2, 5] {
        let house = house();
        let props = lab("a", &house.log).with_mailbox(MailboxConfig::bounded(capacity));
        let actor = house.spawn("a", props);
        for n in 0..capacity {
            assert!(actor.try_tell(note(n)).is_ok(), "{n} of {capacity}");
        }
        let refused = actor.try_tell(note("back")).unwrap_err();
        assert_eq!(refused.refusal, Refusal::MailboxFull { capacity });
        assert!(matches!(refused.message, Do::Note(text) if text == "back"), "the message comes back");
        assert!(house.letters().is_empty(), "who has the message back decides about it");
        // Tell gives up what is refused; with headers it is the same message.
        actor.tell(note("lost"));
        actor.tell_with_headers(note("lost"), Headers::new().with("k", "v"));
        assert_eq!(house.letters(), ["a: mailbox full", "a: mailbox full"]);
        house.idle();
        assert_eq!(house.log.take().len(), capacity);
        assert!(actor.try_tell(note("room")).is_ok());
    }
}

#[test]
fn a_mailbox_that_drops_the_oldest_gives_up_the_oldest_message_and_never_a_notice() {
    let house = house();
    let props = lab("a", &house.log).with_mailbox(MailboxConfig::bounded(2).drop_oldest());
    let actor = house.spawn("a", props);
    let other = house.lab("other");
    let watched = other.clone();
    house.check(
        &actor,
        run(move |_, cx| {
            cx.watch(&watched);
            Ok(())
        }),
        &[],
    );
    let gate = Gate::default();
    actor.tell(wait(gate.passed(), "waited"));
    house.idle();
    other.stop();
    house.idle();
    for n in 0..5 {
        assert!(actor.try_tell(note(n)).is_ok(), "the newest always finds a place");
    }
    gate.open();
    house.idle();
    let lines = house.log.take();
    assert_eq!(lines.first().unwrap(), "a: waited");
    assert!(lines.contains(&"a: other stopped".to_string()), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "a: 4");
    let letters = house.letters();
    assert_eq!(letters.len() + lines.len() - 2, 5, "each of the five has one fate: {letters:?} {lines:?}");
}

#[test]
fn send_waits_for_room_and_goes_on_when_there_is_some() {
    let house = house();
    let props = lab("a", &house.log).with_mailbox(MailboxConfig::bounded(1));
    let actor = house.spawn("a", props);
    let gate = Gate::default();
    actor.tell(wait(gate.passed(), "waited"));
    house.idle();
    actor.tell(note("in the mailbox"));
    for n in 0..3 {
        let (to, log) = (actor.clone(), house.log.clone());
        house.system.spawn_task(async move {
            to.send(note(format!("sent {n}"))).await.expect("accepted in the end");
            log.add(format!("accepted {n}"));
        });
    }
    house.idle();
    house.log.expect(&[]);
    gate.open();
    house.idle();
    let mut lines = house.log.take();
    let handled: Vec<_> = lines.extract_if(.., |line| line.starts_with("a:")).collect();
    assert_eq!(handled, ["a: waited", "a: in the mailbox", "a: sent 0", "a: sent 1", "a: sent 2"]);
    assert_eq!(lines, ["accepted 0", "accepted 1", "accepted 2"]);
    assert!(house.letters().is_empty());
}

#[test]
fn a_dropped_send_has_sent_nothing() {
    let house = house();
    let props = lab("a", &house.log).with_mailbox(MailboxConfig::bounded(1));
    let actor = house.spawn("a", props);
    actor.tell(note("first"));
    let mut sending = actor.send(note("never"));
    assert!(poll(&mut sending).is_pending());
    drop(sending);
    house.idle();
    house.log.expect(&["a: first"]);
    assert!(house.letters().is_empty());
}

#[test]
fn a_waiting_send_learns_that_the_actor_has_stopped() {
    let house = house();
    let props = lab("a", &house.log).with_mailbox(MailboxConfig::bounded(1));
    let actor = house.spawn("a", props);
    actor.tell(note("first"));
    let to = actor.clone();
    let log = house.log.clone();
    house.system.spawn_task(async move {
        let refused = to.send(note("back")).await.unwrap_err();
        assert!(matches!(refused.message, Do::Note(text) if text == "back"));
        log.add(refused.refusal.to_string());
    });
    actor.stop();
    // The sender's task is younger than the actor's, and the actor stops before it makes room.
    house.idle();
    assert_eq!(house.log.take().last().unwrap(), "stopped");
}

#[test]
fn a_send_through_an_adapter_waits_for_room_too() {
    let house = house();
    let props = lab("a", &house.log).with_mailbox(MailboxConfig::bounded(1));
    let actor = house.spawn("a", props);
    let adapted: ActorRef<u32> = actor.adapt(note);
    let gate = Gate::default();
    actor.tell(wait(gate.passed(), "waited"));
    house.idle();
    adapted.tell(1);
    assert_eq!(adapted.try_tell(2).unwrap_err().message, 2);
    let to = adapted.clone();
    house.system.spawn_task(async move { to.send(3).await.expect("accepted in the end") });
    // It waits for a waker and does not spin: otherwise this never becomes idle.
    house.idle();
    gate.open();
    house.idle();
    house.log.expect(&["a: waited", "a: 1", "a: 3"]);
    assert!(house.letters().is_empty());
}

#[test]
fn a_stop_overtakes_what_waits_and_what_waits_becomes_dead_letters() {
    let house = house();
    let actor = house.lab("a");
    let gate = Gate::default();
    actor.tell(wait(gate.passed(), "finished"));
    house.idle();
    for n in 0..3 {
        actor.tell(note(n));
    }
    actor.stop();
    gate.open();
    house.idle();
    house.log.expect(&["a: finished"]);
    assert_eq!(house.letters(), ["a: stopped", "a: stopped", "a: stopped"]);
    assert_eq!(house.system.dead_letters().count(DeadLetterReason::Stopped), 3);
    assert!(actor.is_terminated());
    let refused = actor.try_tell(note(4)).unwrap_err();
    assert_eq!(refused.refusal, Refusal::Stopped);
}

/// Covers: RT-11
#[test]
fn a_system_message_overtakes_messages_that_came_before_it() {
    let house = house();
    let actor = house.system.spawn("a", lab("a", &house.log)).unwrap();
    for n in 0..10 {
        actor.tell(note(n));
    }
    actor.stop();
    house.idle();
    house.log.expect(&[]);
    assert_eq!(house.letters().len(), 10);
}

#[test]
fn an_actor_that_stops_itself_handles_nothing_more() {
    let house = house();
    let actor = house.lab("a");
    actor.tell(run(|lab, cx| {
        cx.stop();
        lab.say("last words");
        Ok(())
    }));
    actor.tell(note("unheard"));
    house.idle();
    house.log.expect(&["a: last words"]);
    assert_eq!(house.letters(), ["a: stopped"]);
}

/// Covers: RT-03, RT-04
#[test]
fn headers_travel_with_their_message_only() {
    let house = house();
    let actor = house.lab("a");
    let show = || {
        run(|lab, cx| {
            let headers: Vec<_> =
                cx.headers().into_iter().flat_map(Headers::iter).map(|(k, v)| format!("{k}={v}")).collect();
            lab.say(headers.join(","));
            Ok(())
        })
    };
    actor.tell_with_headers(show(), Headers::new().with("trace", "1").with("tenant", "x"));
    actor.tell(show());
    let adapted: ActorRef<()> = actor.adapt(move |()| show());
    adapted.tell_with_headers((), Headers::new().with("trace", "2"));
    house.idle();
    house.log.expect(&["a: trace=1,tenant=x", "a: ", "a: trace=2"]);
}

/// Covers: RT-06, RT-47
#[test]
fn a_dead_letter_names_recipient_type_reason_and_headers() {
    let house = house();
    let actor = house.lab("a");
    actor.stop();
    house.idle();
    let seen = Log::default();
    let log = seen.clone();
    let subscription = house.system.event_stream().subscribe(move |event: &DeadLetterEvent| {
        let trace = event.context().headers.get("trace").unwrap_or("none");
        log.add(format!("{} {trace} {}", event.message.type_name, event.reason()));
    });
    actor.tell_with_headers(note("x"), Headers::new().with("trace", "7"));
    seen.expect(&[&format!("{} 7 stopped", core::any::type_name::<Do>())]);
    drop(subscription);
    actor.tell(note("y"));
    seen.expect(&[]);
    assert_eq!(house.system.dead_letters().total(), 2);
}

#[test]
fn a_full_mailbox_counts_only_what_waits_and_not_what_is_being_handled() {
    let house = house();
    let props = lab("a", &house.log).with_mailbox(MailboxConfig::bounded(2));
    let actor = house.spawn("a", props);
    let gate = Gate::default();
    actor.tell(wait(gate.passed(), "waited"));
    house.idle();
    assert_eq!(actor.mailbox_len(), 0);
    assert!(actor.try_tell(note(1)).is_ok());
    assert!(actor.try_tell(note(2)).is_ok());
    assert!(actor.try_tell(note(3)).is_err());
    assert_eq!(actor.mailbox_len(), 2);
    gate.open();
    house.idle();
    house.log.expect(&["a: waited", "a: 1", "a: 2"]);
    assert!(matches!(poll(&mut actor.send(note(4))), Poll::Ready(Ok(()))));
}

/// Senders that give up leave nothing of themselves in a mailbox whose actor is stuck.
#[test]
fn a_send_that_is_given_up_leaves_no_waker_behind() {
    struct Counted;
    impl std::task::Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }
    let house = house();
    let actor = house.spawn("a", lab("a", &house.log).with_mailbox(MailboxConfig::bounded(1)));
    let adapted: ActorRef<u32> = actor.adapt(note);
    let router = Router::round_robin(&house.system, [actor.clone()]).unwrap();
    actor.tell(note("full"));
    let one = Arc::new(Counted);
    let waker = std::task::Waker::from(one.clone());
    let mut cx = TaskContext::from_waker(&waker);
    {
        let through = router.actor_ref();
        let (mut a, mut b) = (actor.send(note(1)), adapted.send(2));
        let mut c = through.send(note(3));
        assert!(Pin::new(&mut a).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut b).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut c).poll(&mut cx).is_pending());
        assert!(Arc::strong_count(&one) > 2);
    }
    assert_eq!(Arc::strong_count(&one), 2, "ours and the waker's");
}

/// A stop waits at most for what the actor has taken out of its mailbox: one slice.
#[test]
fn a_stop_is_seen_within_a_slice() {
    let house = house();
    let actor = house.lab("a");
    let me = actor.clone();
    actor.tell(run(move |_, _| {
        me.stop();
        Ok(())
    }));
    for n in 0..1000 {
        actor.tell(note(n));
    }
    house.idle();
    assert_eq!(house.log.take().len(), 255);
    assert_eq!(house.letters().len(), 745);
}

/// Neither `Sync` nor `Clone`, `Debug`, `Default`, serde or `Message`: only `Send`, and borrowed by nobody.
struct OnlySend {
    cell: core::cell::Cell<u64>,
    reply: Option<Reply<u64>>,
}

/// The same for an actor.
struct Keeper {
    sum: core::cell::Cell<u64>,
}

impl Actor for Keeper {
    type Msg = OnlySend;
    async fn receive(&mut self, message: OnlySend, cx: &mut Context<'_, Self>) -> Done {
        self.sum.set(self.sum.get() + message.cell.get());
        if let Some(reply) = message.reply {
            reply.send(self.sum.get());
        } else if message.cell.get() == 4 {
            let cell = core::cell::Cell::new(8);
            cx.start_timer("later", secs(1), OnlySend { cell, reply: None });
        }
        Ok(())
    }
}

/// That this compiles is half of the proof.
#[test]
fn a_message_and_an_actor_need_only_send() {
    let house = house();
    let bounded = MailboxConfig::bounded(4);
    let props = Props::from_fn(|| Keeper { sum: core::cell::Cell::new(0) }).with_mailbox(bounded);
    let keeper = house.spawn("keeper", props);
    let say = |n: u64| OnlySend { cell: core::cell::Cell::new(n), reply: None };
    keeper.tell(say(1));
    assert!(keeper.try_tell(say(2)).is_ok());
    let to = keeper.clone();
    house
        .system
        .spawn_task(async move { to.send(say(4)).await.map_err(|error| error.refusal).expect("fits") });
    house.idle();
    let ask = |reply| OnlySend { cell: core::cell::Cell::default(), reply: Some(reply) };
    assert_eq!(house.wait(keeper.ask(ask)), Ok(7));
    house.advance(1000);
    assert_eq!(house.wait(keeper.ask(ask)), Ok(15));
}
