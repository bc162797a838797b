//! The way back to this node itself, for a reply that has travelled.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::{Context, Poll, Waker};

use nexus_actor_core::path::{ActorPath, Address};
use nexus_actor_core::remote::{Encode, PendingReply, ReplyKey, Route};
use nexus_actor_core::serialization::{Encoder, SerializerId, scope};
use nexus_actor_core::{ActorSystem, AnyRef, AskError, CorrelationId, Headers, Refusal};

use super::node::Node;

/// Completes asks of this node whose `Reply` went out to a peer and came back in a message. What a node sends to
/// itself never touches the network.
pub(crate) struct Home {
    node: Arc<Node>,
    address: Address,
}

impl Home {
    pub(crate) const fn new(node: Arc<Node>, address: Address) -> Self {
        Self { node, address }
    }

    fn pending(&self, key: ReplyKey) -> Option<Arc<dyn PendingReply>> {
        let number = u16::try_from(key.slot >> 16).ok()?;
        self.node.registry.by_number(number)?.read(|association| association.handle_reply(key))
    }
}

impl Route for Home {
    fn address(&self) -> &Address {
        &self.address
    }

    fn system(&self) -> Option<ActorSystem> {
        self.node.system.upgrade()
    }

    fn intern(&self, _: &ActorPath, _: SerializerId, _: &'static str) -> Result<u32, Refusal> {
        // References to this node resolve locally and never come here.
        Err(Refusal::NoSuchActor)
    }

    fn release(&self, _: u32) {}

    fn send(&self, _: u32, _: Option<&Headers>, _: Encode<'_>) -> Result<(), Refusal> {
        Err(Refusal::NoSuchActor)
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn forget_room(&self, _: &Waker) {}

    fn reply(&self, to: ReplyKey, _: CorrelationId, encode: Encode<'_>) -> Result<(), Refusal> {
        let mut payload = Vec::new();
        let limit = self.node.association_config.frame_max() as usize;
        let (encoded, lifted) = scope::encode(|| encode(&mut Encoder::new(&mut payload, limit)))?;
        encoded.map_err(|error| Refusal::Encode(error.to_string()))?;
        if lifted.is_some() {
            return Err(Refusal::Encode(String::from("an answer cannot carry a Reply")));
        }
        if let (Some(ask), Some(system)) = (self.pending(to), self.node.system.upgrade()) {
            let _scope = scope::DecodeScope::enter(&system, None);
            // A wrong answer has been told to the asker as such.
            let _ = ask.complete(&payload);
        }
        Ok(())
    }

    fn reply_failed(&self, to: ReplyKey, _: CorrelationId, why: AskError) {
        if let Some(ask) = self.pending(to) {
            ask.fail(why);
        }
    }

    fn forget(&self, _: ReplyKey) {}

    fn watch(&self, target: &ActorPath, watcher: AnyRef) {
        watcher.notify_terminated(target, nexus_actor_core::TerminationReason::NeverExisted);
    }

    fn unwatch(&self, _: &ActorPath, _: &AnyRef) {}

    fn stop(&self, _: &ActorPath) {}

    fn lookup(&self, _: &ActorPath, _: &'static str, found: Arc<dyn PendingReply>) {
        found.fail(AskError::NoSuchActor);
    }
}
