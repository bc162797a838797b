//! What keeps its place among the messages without being one: a stop, and a call of the runtime's.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use crate::kit::*;
use nexus_actor_core::*;

/// A call that notes this.
fn noting(log: &Log, text: &str) -> Box<dyn FnOnce() + Send> {
    let (log, text) = (log.clone(), text.to_string());
    Box::new(move || log.add(text))
}

#[test]
fn a_call_runs_once_all_before_it_has_been_handled() {
    let house = house();
    let (a, gate) = (house.lab("a"), Gate::default());
    a.tell(wait(gate.passed(), "waited"));
    a.tell(note(1));
    assert!(a.to_any().call_in_order(noting(&house.log, "called")));
    a.tell(note(2));
    house.idle();
    house.log.expect(&[]);
    gate.open();
    house.idle();
    house.log.expect(&["a: waited", "a: 1", "called", "a: 2"]);
    // At rest as well, where it is all there is to wake for.
    assert!(a.to_any().call_in_order(noting(&house.log, "called")));
    house.idle();
    house.log.expect(&["called"]);
}

#[test]
fn a_call_reaches_the_actor_behind_a_name_or_an_adapter() {
    let house = house();
    let a = house.lab("a");
    let adapted: ActorRef<u8> = a.adapt(|n: u8| note(n));
    for who in [adapted.to_any(), house.system.find("/user/a").unwrap()] {
        assert!(who.call_in_order(noting(&house.log, "called")));
        house.idle();
        house.log.expect(&["called"]);
    }
    let named: ActorRef<crate::refs::Wire> = house.system.resolve("/user/a").unwrap();
    assert!(named.to_any().call_in_order(noting(&house.log, "by name")));
    named.to_any().stop_in_order();
    house.idle();
    house.log.expect(&["by name"]);
    assert!(a.is_terminated());
    for who in [a.to_any(), adapted.to_any(), named.to_any()] {
        assert!(!who.call_in_order(noting(&house.log, "never")), "nobody is there");
        who.stop_in_order();
    }
    house.idle();
    house.log.expect(&[]);
}

/// Whoever must hear of it either way puts a guard into the call.
#[test]
fn a_call_is_dropped_unrun_where_a_message_is_lost() {
    let house = house();
    let (a, gate) = (house.lab("a"), Gate::default());
    a.tell(wait(gate.passed(), "waited"));
    house.idle();
    a.stop();
    let dropped = Arc::new(AtomicUsize::new(0));
    let guard = {
        let dropped = dropped.clone();
        OnDrop(move || {
            dropped.fetch_add(1, Ordering::Relaxed);
        })
    };
    let log = house.log.clone();
    let call = move || {
        let _guard = &guard;
        log.add("never");
    };
    assert!(a.to_any().call_in_order(Box::new(call)));
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    gate.open();
    house.idle();
    house.advance(10_000);
    assert!(a.is_terminated());
    assert!(!house.log.take().contains(&"never".to_string()));
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    assert_eq!(house.letters(), [] as [&str; 0], "it is no message");
}

/// A peer that asks for calls of a stuck actor fills no memory with them.
#[test]
fn a_call_takes_a_messages_place_in_a_bounded_mailbox() {
    for drops in [false, true] {
        let house = house();
        let gate = Gate::default();
        let bounds = MailboxConfig::bounded(2);
        let bounds = if drops { bounds.drop_oldest() } else { bounds };
        let a = house.spawn("a", lab("a", &house.log).with_mailbox(bounds));
        a.tell(wait(gate.passed(), "waited"));
        house.idle();
        for n in 0..100 {
            let taken = a.to_any().call_in_order(noting(&house.log, &n.to_string()));
            assert_eq!(taken, n < 2, "{n}");
            assert!(a.mailbox_len() <= 2);
        }
        assert_eq!(a.try_tell(note("x")).is_ok(), drops);
        gate.open();
        house.idle();
        let expected: &[&str] = if drops { &["a: waited", "1", "a: x"] } else { &["a: waited", "0", "1"] };
        house.log.expect(expected);
    }
}

/// A call that comes to a full mailbox is not taken on, whatever that does with messages: none is given up for it.
#[test]
fn no_message_is_given_up_for_a_call() {
    let house = house();
    let gate = Gate::default();
    let bounds = MailboxConfig::bounded(2).drop_oldest();
    let a = house.spawn("a", lab("a", &house.log).with_mailbox(bounds));
    a.tell(wait(gate.passed(), "waited"));
    house.idle();
    a.tell(note(1));
    a.tell(note(2));
    assert!(!a.to_any().call_in_order(noting(&house.log, "called")));
    gate.open();
    house.idle();
    house.log.expect(&["a: waited", "a: 1", "a: 2"]);
    assert_eq!(house.letters(), [] as [&str; 0]);
}

#[test]
fn a_panic_of_a_call_is_no_failure_of_the_actor() {
    let house = house();
    let a = house.chatty("a");
    house.log.take();
    assert!(a.to_any().call_in_order(Box::new(|| panic!("of the call"))));
    a.tell(note(1));
    house.idle();
    house.log.expect(&["a: 1"]);
}

#[test]
fn a_stop_in_order_comes_after_the_messages_before_it() {
    let house = house();
    let a = house.chatty("a");
    house.log.take();
    a.tell(note(1));
    a.to_any().stop_in_order();
    a.tell(note(2));
    house.idle();
    house.log.expect(&["a: 1", "a: Stopping"]);
    assert_eq!(house.letters(), ["a: stopped"]);
}
