//! What comes in from a wire, on a wire that is only a name.

use core::task::{Context as TaskContext, Poll};
use std::sync::Arc;

use crate::kit::*;
use crate::refs::Wire;
use nexus_actor_core::path::{ActorPath, Address};
use nexus_actor_core::remote::{Encode, PendingReply, ReplyKey, ReplyTo, Route};
use nexus_actor_core::serialization::scope::{self, DecodeScope, PutOff};
use nexus_actor_core::serialization::{Aftermath, Inlet, SerializerId};
use nexus_actor_core::*;

/// A peer to which nothing can be sent.
struct Peer(Address);

impl Route for Peer {
    fn address(&self) -> &Address {
        &self.0
    }
    fn intern(&self, _: &ActorPath, _: SerializerId, _: &'static str) -> Result<u32, Refusal> {
        Err(Refusal::Blocked)
    }
    fn release(&self, _: u32) {}
    fn send(&self, _: u32, _: Option<&Headers>, _: Encode<'_>) -> Result<(), Refusal> {
        Err(Refusal::Unreachable)
    }
    fn poll_room(&self, _: &mut TaskContext<'_>) -> Poll<()> {
        Poll::Ready(())
    }
    fn reply(&self, _: ReplyKey, _: CorrelationId, _: Encode<'_>) -> Result<(), Refusal> {
        Err(Refusal::Unreachable)
    }
    fn reply_failed(&self, _: ReplyKey, _: CorrelationId, _: AskError) {}
    fn forget(&self, _: ReplyKey) {}
    fn watch(&self, _: &ActorPath, _: AnyRef) {}
    fn unwatch(&self, _: &ActorPath, _: &AnyRef) {}
    fn stop(&self, _: &ActorPath) {}
    fn lookup(&self, _: &ActorPath, _: &'static str, found: Arc<dyn PendingReply>) {
        found.fail(AskError::Unreachable);
    }
}

/// Notes each number with the system it came from; stashes odd ones while `stashing`.
struct Noter {
    log: Log,
    stashing: bool,
    held: Option<Gate>,
}

impl Actor for Noter {
    type Msg = Wire;
    async fn receive(&mut self, message: Wire, cx: &mut Context<'_, Self>) -> Done {
        if let Some(gate) = self.held.take() {
            gate.passed().await;
        }
        let Wire::Number(n) = message else { return Ok(()) };
        if self.stashing && n % 2 == 1 {
            let _ = cx.stash(Wire::Number(n));
            return Ok(());
        }
        if self.stashing {
            self.stashing = false;
            cx.unstash_all();
        }
        let peer = cx.peer().map_or("here".to_string(), |address| address.system.to_string());
        let trace = cx.headers().and_then(|headers| headers.get("trace")).unwrap_or("");
        self.log.add(format!("{n} {peer}{trace}"));
        Ok(())
    }
}

fn noter(house: &House, mailbox: MailboxConfig, stashing: bool, held: Option<Gate>) -> ActorRef<Wire> {
    house.system.register::<Wire>().expect("once");
    let log = house.log.clone();
    let props = Props::from_fn(move || Noter { log: log.clone(), stashing, held: held.clone() });
    house.spawn("noter", props.with_mailbox(mailbox))
}

fn inlet(house: &House, to: &ActorRef<Wire>, peer: &str) -> Box<dyn Inlet> {
    let address = format!("fraktor.tcp://{peer}@10.0.0.2:1/user/x").parse::<ActorPath>().unwrap();
    let peer: Arc<dyn Route> = Arc::new(Peer(address.address().clone()));
    house.system.serialization().inlet("lab.wire@1", &to.to_any(), &peer).expect("it takes this type")
}

fn feed(house: &House, inlet: &mut dyn Inlet, numbers: core::ops::Range<u64>, trace: bool) -> (usize, usize) {
    let _scope = DecodeScope::enter(&house.system, None);
    for n in numbers {
        let bytes = house.system.serialization().serialize(&Wire::Number(n), 1000).unwrap();
        let headers = trace.then(|| Headers::new().with("trace", "!"));
        inlet.decode(bytes.bytes.as_ref(), headers).expect("it is one");
    }
    let mut after = Aftermath::new();
    let flushed = inlet.flush(&mut after);
    after.run();
    (flushed.delivered, flushed.refused)
}

#[test]
fn an_actor_knows_which_peer_a_message_came_from() {
    for mailbox in [MailboxConfig::Unbounded, MailboxConfig::bounded(10)] {
        let house = house();
        let actor = noter(&house, mailbox, false, None);
        let (mut one, mut two) = (inlet(&house, &actor, "one"), inlet(&house, &actor, "two"));
        actor.tell(Wire::Number(0));
        assert_eq!(feed(&house, &mut *one, 1..3, false), (2, 0));
        actor.tell(Wire::Number(3));
        assert_eq!(feed(&house, &mut *two, 4..5, true), (1, 0));
        actor.tell(Wire::Number(5));
        house.idle();
        house.log.expect(&["0 here", "1 one", "2 one", "3 here", "4 two!", "5 here"]);
    }
}

#[test]
fn what_a_bounded_mailbox_gives_up_does_not_shift_the_names_of_peers() {
    // Refusing the newest: two of four are in, and the next local message is a local one.
    let house_1 = house();
    let gate = Gate::default();
    let actor = noter(&house_1, MailboxConfig::bounded(2), false, Some(gate.clone()));
    let mut one = inlet(&house_1, &actor, "one");
    actor.tell(Wire::Number(0));
    house_1.idle();
    assert_eq!(feed(&house_1, &mut *one, 1..5, false), (2, 2));
    assert_eq!(house_1.letters(), ["noter: mailbox full", "noter: mailbox full"]);
    gate.open();
    house_1.idle();
    actor.tell(Wire::Number(9));
    house_1.idle();
    house_1.log.expect(&["0 here", "1 one", "2 one", "9 here"]);

    // Dropping the oldest: those of the peer make place for local ones.
    let house_2 = house();
    let gate = Gate::default();
    let actor = noter(&house_2, MailboxConfig::bounded(2).drop_oldest(), false, Some(gate.clone()));
    let mut one = inlet(&house_2, &actor, "one");
    actor.tell(Wire::Number(0));
    house_2.idle();
    feed(&house_2, &mut *one, 1..3, false);
    actor.tell(Wire::Number(7));
    actor.tell(Wire::Number(8));
    gate.open();
    house_2.idle();
    house_2.log.expect(&["0 here", "7 here", "8 here"]);
    assert_eq!(house_2.letters().len(), 2);
}

#[test]
fn headers_do_not_get_a_peer_around_the_capacity() {
    let house = house();
    let gate = Gate::default();
    let actor = noter(&house, MailboxConfig::bounded(2).drop_oldest(), false, Some(gate.clone()));
    let mut one = inlet(&house, &actor, "one");
    actor.tell(Wire::Number(0));
    house.idle();
    for _ in 0..100 {
        feed(&house, &mut *one, 0..5, true);
        assert_eq!(actor.mailbox_len(), 2, "nothing else stays behind either");
    }
    assert_eq!(house.letters().len(), 498);
    gate.open();
    house.idle();
}

#[test]
fn a_stashed_message_neither_takes_nor_gives_a_peers_name() {
    let house = house();
    let actor = noter(&house, MailboxConfig::Unbounded, true, None);
    let mut one = inlet(&house, &actor, "one");
    actor.tell(Wire::Number(1));
    // 1 is local and stashed, 2 unstashes it in the middle of the peer's run.
    assert_eq!(feed(&house, &mut *one, 2..5, false), (3, 0));
    actor.tell(Wire::Number(9));
    house.idle();
    house.log.expect(&["2 one", "1 here", "3 one", "4 one", "9 here"]);
}

#[test]
fn what_comes_for_an_actor_that_has_stopped_is_recorded() {
    let house = house();
    let actor = noter(&house, MailboxConfig::Unbounded, false, None);
    let mut one = inlet(&house, &actor, "one");
    actor.stop();
    house.idle();
    assert!(one.is_over());
    assert_eq!(feed(&house, &mut *one, 0..3, false), (0, 3));
    assert_eq!(house.letters(), ["noter: stopped", "noter: stopped", "noter: stopped"]);
}

/// A reader flushes under its lock: nobody is woken before it has let go of that, and nobody is forgotten.
#[test]
fn who_got_messages_is_woken_afterwards() {
    for finished in [true, false] {
        let house = house();
        let actor = noter(&house, MailboxConfig::Unbounded, false, None);
        house.idle();
        let mut one = inlet(&house, &actor, "one");
        let bytes = house.system.serialization().serialize(&Wire::Number(1), 1000).unwrap();
        one.decode(bytes.bytes.as_ref(), None).expect("it is one");
        let mut after = Aftermath::new();
        assert_eq!(one.flush(&mut after).delivered, 1);
        house.idle();
        house.log.expect(&[]);
        if finished {
            after.run();
        } else {
            // As by a panic in between.
            drop(after);
        }
        house.idle();
        house.log.expect(&["1 one"]);
    }
}

/// Whoever asked with a message that cannot be read is told of it where no lock is held.
#[test]
fn an_asker_is_told_once_nothing_is_put_off_any_more() {
    let house = house();
    let actor = noter(&house, MailboxConfig::Unbounded, false, None);
    let mut one = inlet(&house, &actor, "one");
    let route: Arc<dyn Route> = Arc::new(Peer("fraktor.tcp://one@10.0.0.2:1".parse().unwrap()));
    let to = |slot| ReplyTo {
        route: route.clone(),
        key: ReplyKey { secret: 1, slot },
        correlation_id: CorrelationId::NIL,
    };
    let _scope = DecodeScope::enter(&house.system, None);
    let put_off = PutOff::begin();
    for slot in 0..2 {
        scope::set_reply_to(Some(to(slot)));
        one.decode(&[0xff; 3], None).expect_err("it is none");
    }
    let mut unanswered = Vec::new();
    put_off.end(&mut unanswered);
    let told: Vec<_> = unanswered.into_iter().map(|(to, why)| (to.key.slot, why)).collect();
    assert!(matches!(&told[..], [(0, AskError::Decode(_)), (1, AskError::Decode(_))]), "{told:?}");
    // From here it is told at once, and nothing is kept.
    scope::set_reply_to(Some(to(3)));
    one.decode(&[0xff; 3], None).expect_err("it is none");
    let mut unanswered = Vec::new();
    PutOff::begin().end(&mut unanswered);
    assert!(unanswered.is_empty());
}
