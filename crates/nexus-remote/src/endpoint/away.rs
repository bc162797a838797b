//! The way to a node that a peer has named and nobody has spoken to yet.

use alloc::sync::Arc;
use core::task::{Context, Poll, Waker};

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorPath, Address};
use nexus_actor_core::remote::{Encode, Fate, PendingReply, ReplyKey, Route};
use nexus_actor_core::serialization::{SerializerId, scope};
use nexus_actor_core::{ActorSystem, AnyRef, AskError, CorrelationId, Headers, Refusal, TerminationReason};
use spin::Once;

use super::node::Node;
use super::peer::Peer;
use super::registry::Origin;

/// The route of one reference or one reply that came in a message and leads to a third node. The association with
/// that node is made, or found, when something is sent: a message that names a thousand nodes makes none.
pub(crate) struct Away {
    node: Arc<Node>,
    address: Address,
    /// Whom the reference names; of a reply's route nobody.
    recipient: Lock<Option<Recipient>>,
    found: Once<Found>,
}

#[derive(Clone)]
struct Recipient {
    path: ActorPath,
    serializer: SerializerId,
    manifest: &'static str,
}

/// The association, and the recipient's number there.
struct Found {
    peer: Arc<Peer>,
    recipient: u32,
}

impl Away {
    pub(crate) fn new(node: Arc<Node>, address: Address) -> Self {
        Self { node, address, recipient: Lock::new(None), found: Once::new() }
    }

    fn peer(&self) -> Result<Arc<Peer>, Refusal> {
        match self.found.get() {
            Some(found) => Ok(found.peer.clone()),
            None => self.node.route_to(&self.address, Origin::Peer),
        }
    }

    fn find(&self) -> Result<&Found, Refusal> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        scope::refuse_reentry()?;
        let recipient = self.recipient.lock().clone();
        let Some(Recipient { path, serializer, manifest }) = recipient else {
            return Err(Refusal::NoSuchActor);
        };
        let peer = self.node.route_to(&self.address, Origin::Peer)?;
        let recipient = peer.intern(&path, serializer, manifest)?;
        let mut ours = Some(Found { peer, recipient });
        let found = self.found.call_once(|| match ours.take() {
            Some(found) => found,
            None => unreachable!("taken here, once"),
        });
        if let Some(Found { peer, recipient }) = ours {
            // Another thread was faster.
            peer.release(recipient);
        }
        Ok(found)
    }

    /// Runs `f` now, or, inside the serialization of a message, as soon as that is over: this thread holds a lane's
    /// lock, under which no association is made.
    fn outside(&self, f: impl FnOnce(&Self) + Send + 'static) {
        if !scope::is_encoding() {
            return f(self);
        }
        if let Some(system) = self.node.system.upgrade() {
            let again = Self::new(self.node.clone(), self.address.clone());
            system.spawn_task(async move { f(&again) });
        }
    }
}

impl Route for Away {
    fn address(&self) -> &Address {
        &self.address
    }

    fn system(&self) -> Option<ActorSystem> {
        self.node.system.upgrade()
    }

    fn intern(
        &self,
        path: &ActorPath,
        serializer: SerializerId,
        manifest: &'static str,
    ) -> Result<u32, Refusal> {
        *self.recipient.lock() = Some(Recipient { path: path.clone(), serializer, manifest });
        Ok(0)
    }

    fn release(&self, _: u32) {
        if let Some(found) = self.found.get() {
            found.peer.release(found.recipient);
        }
    }

    fn send(&self, _: u32, headers: Option<&Headers>, encode: Encode<'_>) -> Result<(), Refusal> {
        let found = self.find()?;
        found.peer.send(found.recipient, headers, encode)
    }

    fn given_up(&self, fate: Fate) {
        // Where there is no association there are no figures.
        if let Some(found) = self.found.get() {
            found.peer.given_up(fate);
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.found.get() {
            Some(found) => found.peer.poll_room(cx),
            None => Poll::Ready(()),
        }
    }

    fn forget_room(&self, waker: &Waker) {
        if let Some(found) = self.found.get() {
            found.peer.forget_room(waker);
        }
    }

    fn reply(&self, to: ReplyKey, id: CorrelationId, encode: Encode<'_>) -> Result<(), Refusal> {
        scope::refuse_reentry()?;
        match self.peer() {
            Ok(peer) => peer.reply(to, id, encode),
            Err(refusal) => {
                self.node.dead_answer(&self.address, "answer", id, &refusal);
                Err(refusal)
            }
        }
    }

    fn reply_failed(&self, to: ReplyKey, id: CorrelationId, why: AskError) {
        self.outside(move |away| match away.peer() {
            Ok(peer) => peer.reply_failed(to, id, why),
            Err(refusal) => away.node.dead_answer(&away.address, "no answer", id, &refusal),
        });
    }

    fn forget(&self, _: ReplyKey) {}

    fn watch(&self, target: &ActorPath, watcher: AnyRef) {
        let target = target.clone();
        self.outside(move |away| match away.peer() {
            Ok(peer) => peer.watch(&target, watcher),
            Err(refusal) => watcher.notify_terminated(&target, unwatchable(&refusal)),
        });
    }

    fn unwatch(&self, target: &ActorPath, watcher: &AnyRef) {
        let (target, watcher) = (target.clone(), watcher.clone());
        self.outside(move |away| {
            // What was watched has an association; what was not needs none now.
            if let Some(peer) = away.node.registry.get(&away.address, Origin::Peer) {
                peer.unwatch(&target, &watcher);
            }
        });
    }

    fn stop(&self, target: &ActorPath) {
        let target = target.clone();
        self.outside(move |away| match away.peer() {
            Ok(peer) => peer.stop(&target),
            Err(refusal) => away.node.dead_system_message(&away.address, "stop", &target, &refusal),
        });
    }

    fn lookup(&self, path: &ActorPath, manifest: &'static str, found: Arc<dyn PendingReply>) {
        if let Err(refusal) = scope::refuse_reentry() {
            return found.fail(AskError::from(refusal));
        }
        match self.peer() {
            Ok(peer) => peer.lookup(path, manifest, found),
            Err(refusal) => found.fail(AskError::from(refusal)),
        }
    }
}

/// What a watcher is told of an actor whose node cannot be spoken to.
const fn unwatchable(refusal: &Refusal) -> TerminationReason {
    match refusal {
        Refusal::Shutdown => TerminationReason::Shutdown,
        Refusal::Limit(_) => TerminationReason::Limit,
        _ => TerminationReason::Unreachable,
    }
}
