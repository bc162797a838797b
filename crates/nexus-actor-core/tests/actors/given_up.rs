//! What a route hears of the messages that it refused.

use core::task::{Context as TaskContext, Poll};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::kit::*;
use crate::refs::Wire;
use nexus_actor_core::path::{ActorPath, Address};
use nexus_actor_core::remote::{ActorRefProvider, Encode, Fate, PendingReply, ReplyKey, Route};
use nexus_actor_core::serialization::SerializerId;
use nexus_actor_core::*;

/// A peer that takes nothing while it is full.
struct Peer {
    address: Address,
    full: AtomicBool,
    fates: Mutex<Vec<Fate>>,
}

impl Peer {
    fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    fn fates(&self) -> Vec<Fate> {
        std::mem::take(&mut *self.fates.lock().unwrap())
    }
}

impl Route for Peer {
    fn address(&self) -> &Address {
        &self.address
    }
    fn intern(&self, _: &ActorPath, _: SerializerId, _: &'static str) -> Result<u32, Refusal> {
        Ok(0)
    }
    fn release(&self, _: u32) {}
    fn send(&self, _: u32, headers: Option<&Headers>, _: Encode<'_>) -> Result<(), Refusal> {
        match (self.full.load(Ordering::Relaxed), headers) {
            (false, _) => Ok(()),
            (true, None) => Err(Refusal::QueueFull { messages: 1, bytes: 1 }),
            (true, Some(_)) => Err(Refusal::Blocked),
        }
    }
    fn given_up(&self, fate: Fate) {
        self.fates.lock().unwrap().push(fate);
    }
    fn poll_room(&self, _: &mut TaskContext<'_>) -> Poll<()> {
        if self.full.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(()) }
    }
    fn reply(&self, _: ReplyKey, _: CorrelationId, _: Encode<'_>) -> Result<(), Refusal> {
        Ok(())
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

struct Peers([Arc<Peer>; 2]);

impl ActorRefProvider for Peers {
    fn canonical_address(&self) -> Option<Address> {
        None
    }
    fn route(&self, _: &ActorSystem, address: &Address) -> Result<Arc<dyn Route>, Refusal> {
        let found = self.0.iter().find(|peer| peer.address == *address);
        found.map(|peer| peer.clone() as _).ok_or(Refusal::Unreachable)
    }
}

/// Two peers, and a reference to an actor of each.
fn peers(house: &House) -> ([Arc<Peer>; 2], [ActorRef<Wire>; 2]) {
    let peers = ["fraktor.tcp://p@h:1", "fraktor.tcp://p@h:2"].map(|address| {
        Arc::new(Peer {
            address: format!("{address}/user").parse::<ActorPath>().unwrap().address().clone(),
            full: AtomicBool::new(true),
            fates: Mutex::default(),
        })
    });
    house.system.add_actor_ref_provider(Arc::new(Peers(peers.clone())));
    let refs =
        peers.each_ref().map(|peer| house.system.resolve(&format!("{}/user/a", peer.address)).unwrap());
    (peers, refs)
}

#[test]
fn a_route_hears_once_of_each_message_that_is_given_up() {
    let house = house();
    let ([peer, other], [to, _]) = peers(&house);
    peer.set_full(false);
    to.tell(Wire::Number(1));
    assert!(to.try_tell(Wire::Number(2)).is_ok());
    assert!(
        house
            .wait({
                let to = to.clone();
                async move { to.send(Wire::Number(3)).await }
            })
            .is_ok()
    );
    assert_eq!(peer.fates(), [], "what is taken is not given up");
    peer.set_full(true);
    to.tell(Wire::Number(4));
    assert_eq!(peer.fates(), [Fate::DeadLetter]);
    to.tell_with_headers(Wire::Number(5), Headers::new());
    assert_eq!(peer.fates(), [Fate::DeadLetter]);
    assert!(to.try_tell(Wire::Number(6)).is_err());
    assert_eq!(peer.fates(), [Fate::Unsent]);
    assert!(to.try_tell_with(Wire::Number(7), Some(Headers::new())).is_err());
    assert_eq!(peer.fates(), [Fate::Unsent]);
    assert_eq!(house.wait(to.ask(Wire::Get)), Err(AskError::Full));
    assert_eq!(peer.fates(), [Fate::DeadLetter]);
    let adapted = to.adapt(|n: u64| Wire::Number(n));
    adapted.tell(8);
    assert_eq!(peer.fates(), [Fate::DeadLetter]);
    assert_eq!(house.letters().len(), 4);
    assert_eq!(other.fates(), []);
}

/// A wait is no refusal, however often room is looked for in vain.
#[test]
fn a_send_that_waits_is_given_up_when_it_is_dropped_or_fails() {
    let house = house();
    let ([peer, _], [to, _]) = peers(&house);
    let (mut taken, mut dropped, unpolled) =
        (to.send(Wire::Number(1)), to.send(Wire::Number(2)), to.send(Wire::Number(3)));
    for _ in 0..3 {
        assert!(poll(&mut taken).is_pending() && poll(&mut dropped).is_pending());
    }
    assert_eq!(peer.fates(), []);
    drop(unpolled);
    assert_eq!(peer.fates(), [], "it was not offered");
    drop(dropped);
    assert_eq!(peer.fates(), [Fate::Unsent]);
    peer.set_full(false);
    assert!(matches!(poll(&mut taken), Poll::Ready(Ok(()))));
    drop(taken);
    assert_eq!(peer.fates(), []);
    assert_eq!(house.letters().len(), 0, "what its sender drops is no dead letter");
}

/// What one routee refuses another may take; only what none takes is given up, and counts at one of them.
#[test]
fn a_router_gives_up_what_no_routee_takes() {
    let house = house();
    let ([one, two], refs) = peers(&house);
    let all = || [one.fates(), two.fates()].concat();
    let around = Router::round_robin(&house.system, refs.clone()).unwrap().actor_ref();
    let hashed = Router::consistent_hash(&house.system, refs.clone(), |_| 1).unwrap().actor_ref();
    for router in [&around, &hashed] {
        router.tell(Wire::Number(1));
        assert_eq!(all(), [Fate::DeadLetter]);
        assert!(router.try_tell(Wire::Number(2)).is_err());
        assert_eq!(all(), [Fate::Unsent]);
        let mut waiting = router.send(Wire::Number(3));
        assert!(poll(&mut waiting).is_pending() && poll(&mut waiting).is_pending());
        assert_eq!(all(), []);
        drop(waiting);
        assert_eq!(all(), [Fate::Unsent]);
    }
    two.set_full(false);
    for n in 0..4 {
        around.tell(Wire::Number(n));
    }
    assert_eq!(all(), [], "the other takes what the one refuses");
}
