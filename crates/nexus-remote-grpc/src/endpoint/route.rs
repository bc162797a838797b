//! The route that actors of this node send by.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use nexus_actor_core::path::{ActorPath, Address};
use nexus_actor_core::remote::{Encode, Fate, PendingReply, ReplyKey, Route, Wire};
use nexus_actor_core::serialization::SerializerId;
use nexus_actor_core::serialization::protobuf::TypeName;
use nexus_actor_core::{ActorSystem, AnyRef, AskError, CorrelationId, Headers, Refusal, TerminationReason};

use crate::endpoint::signs_of_life::Found;
use crate::endpoint_state::{ConnectionState, EndpointState};
use crate::endpoint_writer_mailbox::{RemoteDeliver, RemoteSystem};
use crate::wire::proto::actor;

use super::{Endpoint, id_of};

const POISON_PILL: TypeName = TypeName { package: "actor", name: "PoisonPill" };

impl Route for Endpoint {
    fn address(&self) -> &Address {
        &self.path_address
    }

    fn wire(&self) -> Wire {
        Wire::Protobuf
    }

    fn system(&self) -> Option<ActorSystem> {
        Some(self.node.system.clone())
    }

    fn intern(&self, path: &ActorPath, _: SerializerId, _: &'static str) -> Result<u32, Refusal> {
        if self.read(EndpointState::is_blocked) {
            return Err(Refusal::Blocked);
        }
        let id = id_of(path);
        self.node.check_target(&id)?;
        // It may have been forgotten since it was looked up.
        self.node.keep(self);
        let number = self.number_of(self.pid_at(id))?;
        // Not for good: of a peer that was named it is no more than the reference to who has sent something.
        self.reached_for();
        Ok(number)
    }

    fn release(&self, recipient: u32) {
        let is_last = {
            let mut recipients = self.recipients.lock();
            let Some(slot) = recipients.slots.get_mut(recipient as usize) else { return };
            if slot.take().is_none() {
                return;
            }
            recipients.free.push(recipient);
            recipients.free.len() == recipients.slots.len()
        };
        if is_last {
            self.node.forget_if_idle(self);
        }
    }

    fn send(&self, recipient: u32, headers: Option<&Headers>, encode: Encode<'_>) -> Result<(), Refusal> {
        let target = {
            let recipients = self.recipients.lock();
            let Some(Some(recipient)) = recipients.slots.get(recipient as usize) else {
                return Err(Refusal::NoSuchActor);
            };
            recipient.clone()
        };
        self.try_deliver(target, 0, headers, encode)
    }

    fn given_up(&self, fate: Fate) {
        self.statistics.add_send_failures(1);
        if fate == Fate::DeadLetter {
            self.statistics.increment_dead_letter();
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.mailbox.poll_room(cx)
    }

    fn poll_pace(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.mailbox.poll_pace(cx)
    }

    fn forget_room(&self, waker: &Waker) {
        self.mailbox.forget_room(waker);
    }

    fn reply(&self, _: ReplyKey, _: CorrelationId, _: Encode<'_>) -> Result<(), Refusal> {
        // Whoever asks on this wire has a pid, and so a route of its own.
        Err(Refusal::NoSuchActor)
    }

    fn reply_failed(&self, _: ReplyKey, _: CorrelationId, _: AskError) {}

    fn absence(&self) -> Option<AskError> {
        match self.connection_state() {
            ConnectionState::Connected => None,
            ConnectionState::Suspended => Some(AskError::Suspended),
            ConnectionState::Reconnecting | ConnectionState::Closed => Some(AskError::Unreachable),
        }
    }

    fn forget(&self, key: ReplyKey) {
        self.node.asks.take(key);
    }

    fn watch(&self, target: &ActorPath, watcher: AnyRef) {
        let id = id_of(target);
        if self.cannot_watch() {
            return watcher.notify_terminated(target, TerminationReason::Unreachable);
        }
        if self.watcher.watch(&id, target, watcher, self.era()) {
            self.claim_here();
            self.want();
            // What ends the endpoint from here on finds the watch in the books; what did so before may have missed it.
            if self.cannot_watch() {
                self.watcher.terminated(&id, &TerminationReason::Unreachable);
            }
        }
    }

    fn unwatch(&self, target: &ActorPath, watcher: &AnyRef) {
        self.watcher.unwatch(&id_of(target), watcher);
    }

    fn stop(&self, target: &ActorPath) {
        self.claim_here();
        self.offer_system(RemoteSystem::Stop { target: self.pid_at(id_of(target)) });
    }

    fn stop_in_order(&self, target: &ActorPath) {
        let target = self.pid_at(id_of(target));
        if let Err(refusal) = self.deliver_proto(target.clone(), 0, &actor::PoisonPill {}) {
            let deliver = RemoteDeliver::new(target, POISON_PILL);
            self.dead(&deliver, 0, refusal.reason(), &refusal.to_string());
        }
    }

    fn lookup(&self, path: &ActorPath, _: &'static str, found: Arc<dyn PendingReply>) {
        self.claim_here();
        self.touch(&id_of(path), Arc::new(Found(found)));
    }
}
