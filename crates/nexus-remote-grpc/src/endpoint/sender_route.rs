//! The route by which an answer goes back to whoever asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use nexus_actor_core::dead_letter::{DeadLetter, MessageInfo};
use nexus_actor_core::path::{ActorPath, Address};
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::{Encode, Fate, PendingReply, ReplyKey, ReplyTo, Route, Wire};
use nexus_actor_core::serialization::SerializerId;
use nexus_actor_core::serialization::protobuf::ProtobufValue;
use nexus_actor_core::{ActorSystem, AnyRef, AskError, CorrelationId, Headers, Refusal};

use crate::endpoint::Endpoint;
use crate::endpoint::pid_entry::PidEntry;
use crate::pending_asks;
use crate::wire::proto::actor;

/// The way back to whoever asked: an actor or a future of a node, known by its pid.
pub(crate) struct SenderRoute {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) pid: Arc<PidEntry>,
    pub(crate) request_id: u32,
    /// The answer was refused, counted and recorded: the news that there is none is not another.
    pub(crate) answer_refused: AtomicBool,
}

impl SenderRoute {
    /// The endpoint by which whoever asked is reached.
    fn way(&self) -> Result<Arc<Endpoint>, Refusal> {
        self.endpoint.way_to(&self.pid.address)
    }

    /// Sends by that endpoint. One that was made for it and has nothing to send is none.
    fn send_by_way(&self, send: impl FnOnce(&Endpoint) -> Result<(), Refusal>) -> Result<(), Refusal> {
        let way = self.way()?;
        let is_own = Arc::ptr_eq(&way, &self.endpoint);
        let sent = if !is_own && way.is_for_few() {
            Err(Refusal::Limit("messages to an address that only a peer named"))
        } else {
            send(&way)
        };
        if sent.is_err() && !is_own {
            self.endpoint.node().forget_if_idle(&way);
        }
        sent
    }

    /// Sends an answer of the runtimes. It is recorded only where the peer has named too many others to be answered.
    pub(crate) fn tell<T: ProtobufValue>(&self, message: &T) {
        self.told(self.send_by_way(|way| way.answer_proto(self.pid.clone(), self.request_id, message)));
    }

    fn told(&self, sent: Result<(), Refusal>) {
        if let Err(refusal @ Refusal::Limit(_)) = sent {
            self.dead("answer", &refusal);
        }
    }

    fn dead(&self, what: &'static str, refusal: &Refusal) {
        let reason = refusal.reason();
        self.endpoint.node().system.dead_letters().record_with(reason, || {
            DeadLetter::of(MessageInfo::encoded(what, 0), reason)
                .with_pid(Pid::new(self.pid.address.clone(), self.pid.id.clone()))
                .with_peer(self.endpoint.path_address().clone())
                .with_detail(refusal.to_string())
        });
    }

    /// As the core takes it.
    pub(crate) fn into_reply_to(self) -> ReplyTo {
        ReplyTo {
            route: Arc::new(self),
            key: ReplyKey { secret: 0, slot: 0 },
            correlation_id: CorrelationId::NIL,
        }
    }

    /// Whether it is of this node: the question came back to it.
    fn is_here(&self) -> bool {
        !self.endpoint.is_at(&self.pid.address) && self.endpoint.node().is_own(&self.pid.address)
    }
}

impl Route for SenderRoute {
    fn address(&self) -> &Address {
        self.endpoint.path_address()
    }
    fn wire(&self) -> Wire {
        Wire::Protobuf
    }
    fn system(&self) -> Option<ActorSystem> {
        Route::system(&*self.endpoint)
    }
    fn sender_pid(&self) -> Option<Pid> {
        Some(Pid::new(self.pid.address.clone(), self.pid.id.clone()).with_request_id(self.request_id))
    }
    fn intern(
        &self,
        path: &ActorPath,
        serializer: SerializerId,
        manifest: &'static str,
    ) -> Result<u32, Refusal> {
        self.endpoint.intern(path, serializer, manifest)
    }
    fn release(&self, recipient: u32) {
        self.endpoint.release(recipient);
    }
    fn send(&self, recipient: u32, headers: Option<&Headers>, encode: Encode<'_>) -> Result<(), Refusal> {
        self.endpoint.send(recipient, headers, encode)
    }
    fn given_up(&self, fate: Fate) {
        self.endpoint.given_up(fate);
    }
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.endpoint.poll_room(cx)
    }
    fn poll_pace(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.endpoint.poll_pace(cx)
    }
    fn forget_room(&self, waker: &Waker) {
        self.endpoint.forget_room(waker);
    }
    fn reply(&self, _: ReplyKey, _: CorrelationId, encode: Encode<'_>) -> Result<(), Refusal> {
        let node = self.endpoint.node();
        if self.is_here() {
            return node.answer_here(&self.pid.id, encode);
        }
        let sent = self.send_by_way(|way| {
            let sent = way.try_answer(self.pid.clone(), self.request_id, encode);
            sent.inspect_err(|_| way.given_up(Fate::DeadLetter))
        });
        if let Err(refusal) = &sent {
            self.answer_refused.store(true, Ordering::Release);
            self.dead("answer", refusal);
        }
        sent
    }
    fn reply_failed(&self, _: ReplyKey, _: CorrelationId, why: AskError) {
        let node = self.endpoint.node();
        if self.is_here() {
            if let Some(ask) = pending_asks::key_of(&self.pid.id).and_then(|key| node.asks.take(key)) {
                ask.fail(why);
            }
            return;
        }
        // An actor that asks gets other messages too, and is told only what it must know.
        if self.pid.is_future() || matches!(why, AskError::NoSuchActor | AskError::Stopped) {
            let is_first = !self.answer_refused.swap(true, Ordering::AcqRel);
            let sent = self.send_by_way(|way| {
                let notice = actor::DeadLetterResponse { target: None };
                let encode: Encode<'_> = &mut |encoder| encoder.protobuf(&notice);
                let sent = way.try_answer(self.pid.clone(), self.request_id, encode);
                sent.inspect_err(|_| {
                    if is_first {
                        way.given_up(Fate::DeadLetter);
                    }
                })
            });
            if let Err(refusal) = &sent
                && is_first
            {
                self.dead("no answer", refusal);
            }
        }
    }
    fn forget(&self, key: ReplyKey) {
        self.endpoint.forget(key);
    }
    fn watch(&self, target: &ActorPath, watcher: AnyRef) {
        self.endpoint.watch(target, watcher);
    }
    fn unwatch(&self, target: &ActorPath, watcher: &AnyRef) {
        self.endpoint.unwatch(target, watcher);
    }
    fn stop(&self, target: &ActorPath) {
        self.endpoint.stop(target);
    }
    fn lookup(&self, path: &ActorPath, manifest: &'static str, found: Arc<dyn PendingReply>) {
        self.endpoint.lookup(path, manifest, found);
    }
}
