//! What goes toward the peer from here, and what becomes of what will not arrive.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::Context;

use nexus_actor_core::dead_letter::{DeadLetter, MessageInfo};
use nexus_actor_core::event_stream::{EventStreamEvent, SerializationDirection, SerializationFailure};
use nexus_actor_core::path::ActorPathScheme;
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::{Encode, Fate, PendingReply, ReplyKey, Route};
use nexus_actor_core::ring_queue::QueueError;
use nexus_actor_core::serialization::protobuf::ProtobufValue;
use nexus_actor_core::serialization::scope::{self, LiftedReply};
use nexus_actor_core::serialization::{EncodeError, Encoder, SerializerId};
use nexus_actor_core::{AskError, CorrelationId, DeadLetterReason, Headers, Refusal, TerminationReason};
use portable_atomic::Ordering;

use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint::signs_of_life::{SignOfLife, WatchTouch};
use crate::endpoint_state::{ConnectionState, EndpointState};
use crate::endpoint_watcher::ToTell;
use crate::endpoint_writer::outbound::OutboundControl;
use crate::endpoint_writer_mailbox::{
    Displaced, OutboundBatch, RefusedDeliver, RemoteDeliver, RemoteSystem, TerminatedWhy,
};
use crate::kinds::ACTIVATOR;
use crate::pending_asks;
use crate::wire::proto::actor;

use super::{Endpoint, EndpointKind};

/// A buffer for encoding larger than this is not kept by its thread.
const SCRATCH_KEPT: usize = 64 * 1024;

/// What a message is for its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Message,
    /// The peer, or an actor there, has asked.
    Answer,
}

impl Endpoint {
    /// As [`try_deliver`](Self::try_deliver), for a message that is offered once: one that is refused is counted.
    pub(crate) fn deliver(
        &self,
        target: Arc<PidEntry>,
        target_request_id: u32,
        headers: Option<&Headers>,
        encode: Encode<'_>,
    ) -> Result<(), Refusal> {
        self.try_deliver(target, target_request_id, headers, encode)
            .inspect_err(|_| self.given_up(Fate::Unsent))
    }

    /// Queues one message. `encode` runs at most once, on this thread, without a lock.
    pub(crate) fn try_deliver(
        &self,
        target: Arc<PidEntry>,
        target_request_id: u32,
        headers: Option<&Headers>,
        encode: Encode<'_>,
    ) -> Result<(), Refusal> {
        self.queue(Purpose::Message, target, target_request_id, headers, encode)
    }

    /// The same for an answer to who has asked. While its own connection stands it is there and waits, so the answer does as
    /// well, until the connection to it is made again or its address is given up.
    pub(crate) fn try_answer(
        &self,
        target: Arc<PidEntry>,
        target_request_id: u32,
        encode: Encode<'_>,
    ) -> Result<(), Refusal> {
        self.queue(Purpose::Answer, target, target_request_id, None, encode)
    }

    fn queue(
        &self,
        purpose: Purpose,
        target: Arc<PidEntry>,
        target_request_id: u32,
        headers: Option<&Headers>,
        encode: Encode<'_>,
    ) -> Result<(), Refusal> {
        if let Some(headers) = headers {
            self.node.check_headers(headers)?;
        }
        with_scratch(|scratch| {
            let limit = self.node.payload_max();
            let mut encoder = Encoder::new(scratch, limit);
            let (encoded, lifted) = scope::encode(|| encode(&mut encoder))?;
            let named = encoder.type_name();
            match encoded {
                Ok(()) => {}
                Err(EncodeError::TooLarge { limit }) => {
                    return Err(Refusal::TooLarge { size: limit.saturating_add(1), limit });
                }
                Err(EncodeError::Failed(why)) => {
                    self.encode_failed(&target, &why);
                    return Err(Refusal::Encode(why));
                }
                Err(error) => return Err(Refusal::Encode(error.to_string())),
            }
            let Some(type_name) = named else {
                return Err(Refusal::Encode(String::from("the message has no protobuf type")));
            };
            self.node.check_type(&self.address, type_name)?;
            let mut deliver = RemoteDeliver::new(target, type_name);
            deliver.target_request_id = target_request_id;
            deliver.header =
                headers.filter(|headers| !headers.is_empty()).map(|headers| Box::new(headers.clone()));
            let mut passed_on = None;
            let asked = match lifted {
                None => None,
                Some(LiftedReply::Pending(reply)) => {
                    let key = self
                        .node
                        .asks
                        .insert(reply.clone(), &self.address, self.era())
                        .ok_or(Refusal::Limit("asks pending on this node"))?;
                    deliver.sender =
                        Some(Arc::new(PidEntry::new(self.node.address.clone(), pending_asks::id_of(key))));
                    if let Some(me) = self.arc() {
                        reply.pending_at(Some((me, key)));
                    }
                    Some((reply, key))
                }
                Some(LiftedReply::Foreign(foreign)) => {
                    let pid = foreign.to.route.sender_pid().ok_or_else(|| {
                        Refusal::Encode(String::from(
                            "whoever waits for this reply has no address on this wire",
                        ))
                    })?;
                    deliver.sender = Some(Arc::new(PidEntry::from(&pid)));
                    deliver.sender_request_id = pid.request_id;
                    passed_on = Some(foreign);
                    None
                }
            };
            let offered = self.offer(purpose, deliver, scratch);
            if let Some(foreign) = passed_on
                && offered.is_ok()
            {
                foreign.passed_on();
            }
            if offered.is_err()
                && let Some((reply, key)) = asked
            {
                self.node.asks.take(key);
                reply.pending_at(None);
            }
            offered
        })
    }

    /// The same for an answer of the runtimes themselves, which goes among the user messages.
    pub(crate) fn answer_proto<T: ProtobufValue>(
        &self,
        target: Arc<PidEntry>,
        target_request_id: u32,
        message: &T,
    ) -> Result<(), Refusal> {
        self.try_answer(target, target_request_id, &mut |encoder| encoder.protobuf(message))
            .inspect_err(|_| self.given_up(Fate::Unsent))
    }

    /// Queues a message of the runtimes themselves that goes among the user messages.
    pub(crate) fn deliver_proto<T: ProtobufValue>(
        &self,
        target: Arc<PidEntry>,
        target_request_id: u32,
        message: &T,
    ) -> Result<(), Refusal> {
        self.deliver(target, target_request_id, None, &mut |encoder| encoder.protobuf(message))
    }

    fn offer(&self, purpose: Purpose, deliver: RemoteDeliver, payload: &[u8]) -> Result<(), Refusal> {
        if self.kind == EndpointKind::Client
            && self.read(EndpointState::connection_state) == ConnectionState::Closed
        {
            return Err(Refusal::Unreachable);
        }
        let offered = match purpose {
            Purpose::Answer if self.inbound.load(Ordering::Acquire) > 0 => {
                self.mailbox.offer_answer(deliver, payload)
            }
            Purpose::Answer | Purpose::Message => self.mailbox.offer(deliver, payload),
        };
        match offered {
            Ok(displaced) => {
                self.dead_displaced(displaced);
                self.want();
                Ok(())
            }
            Err(QueueError::OfferError(RefusedDeliver { refusal, .. })) => Err(refusal),
            Err(_) => Err(Refusal::Shutdown),
        }
    }

    /// Whether the peer's own connection stands while the one to it is made again: who has asked by that one waits for its
    /// answer, until the row is over.
    pub(crate) fn are_answers_awaited(&self) -> bool {
        self.kind == EndpointKind::Dialled
            && self.inbound.load(Ordering::Acquire) > 0
            && !self.read(EndpointState::is_at_rest)
    }

    /// Puts an answer that a broken connection left back into the queue.
    pub(crate) fn keep_answer(&self, deliver: RemoteDeliver, payload: &[u8]) {
        let displaced = match self.mailbox.offer_answer(deliver, payload) {
            Ok(displaced) => displaced,
            Err(error) => {
                let RefusedDeliver { deliver, refusal } = error.into_inner();
                return self.dead(&deliver, payload.len(), refusal.reason(), "the connection is lost");
            }
        };
        self.dead_displaced(displaced);
    }

    fn dead_displaced(&self, displaced: Displaced) {
        for (deliver, payload) in displaced {
            let detail = "a newer message took its place";
            self.dead(&deliver, payload.len(), DeadLetterReason::QueueFull, detail);
        }
    }

    /// Queues what the runtimes say to each other. Refused only when very much of it waits already.
    pub(crate) fn offer_system(&self, message: RemoteSystem) {
        if self.read(EndpointState::is_blocked) {
            return self.dead_system(&message, DeadLetterReason::Blocked);
        }
        if self.kind == EndpointKind::Client
            && self.read(EndpointState::connection_state) == ConnectionState::Closed
        {
            return self.dead_system(&message, DeadLetterReason::Unreachable);
        }
        match self.mailbox.offer_system(message) {
            Ok(()) => self.want(),
            Err(error) => self.dead_system(&error.into_inner(), DeadLetterReason::QueueFull),
        }
    }

    /// Tells a watcher at the peer that an actor here, which it called `id`, has terminated.
    pub(crate) fn send_terminated(
        &self,
        watcher: &Arc<PidEntry>,
        id: &Arc<str>,
        why: actor::TerminatedReason,
    ) {
        let why = match why {
            actor::TerminatedReason::Stopped => TerminatedWhy::Stopped,
            actor::TerminatedReason::AddressTerminated => TerminatedWhy::AddressTerminated,
            actor::TerminatedReason::NotFound => TerminatedWhy::NotFound,
        };
        let who = Arc::new(PidEntry::new(self.node.address.clone(), id.clone()));
        let notice = RemoteSystem::Terminated { watcher: watcher.clone(), who, why };
        // The watch may be older than the endpoint that is there now.
        match self.arc().map(|me| self.node.in_place_of(&me)) {
            Some(Ok(way)) => way.offer_system(notice),
            _ => self.dead_system(&notice, DeadLetterReason::Shutdown),
        }
    }

    /// Asks the peer whether `id` lives; `answer` is told.
    pub(crate) fn touch(&self, id: &Arc<str>, answer: Arc<dyn PendingReply>) {
        if let Some(touch) = self.new_touch(id, answer) {
            self.offer_system(touch);
        }
    }

    /// Takes back what the runtimes have to say to the peer, which a connection had in hand when it broke: the next one says
    /// it, ahead of what is younger. Returns what nobody will say: the peer is given up, or is a client, which asks anew
    /// itself.
    pub(crate) fn take_back(&self, messages: Vec<RemoteSystem>) -> Vec<RemoteSystem> {
        if self.kind == EndpointKind::Client {
            return messages;
        }
        // Under the lock of the state: what ends the row from here on finds them in the mailbox.
        self.read(|state| if state.is_at_rest() { messages } else { self.mailbox.put_back(messages) })
    }

    /// The question whether `id` lives, of which `answer` is told; `None` when there is no room for one more.
    fn new_touch(&self, id: &Arc<str>, answer: Arc<dyn PendingReply>) -> Option<RemoteSystem> {
        let Some(key) = self.node.asks.insert_touch(answer.clone(), &self.address, self.era()) else {
            answer.fail(AskError::Full);
            return None;
        };
        if let Some(me) = self.arc() {
            // Whoever waits no longer frees its place.
            answer.pending_at(Some((me, key)));
        }
        Some(self.touch_of(id.clone(), key))
    }

    fn touch_of(&self, id: Arc<str>, key: ReplyKey) -> RemoteSystem {
        let sender = Arc::new(PidEntry::new(self.node.address.clone(), pending_asks::id_of(key)));
        RemoteSystem::Touch { target: self.pid_at(id), sender }
    }

    /// Asks the peer whether it is there. The answer to an earlier question of that kind is not waited for any more: that it
    /// came is seen by its coming.
    pub(crate) fn probe(&self) {
        let Some(me) = self.arc() else { return };
        let answer = Arc::new(SignOfLife(move || me.heard()));
        let key = {
            let mut probe = self.probe.lock();
            *probe = self.node.asks.insert_probe(answer, &self.address, self.era(), *probe);
            *probe
        };
        if let Some(key) = key {
            self.offer_system(self.touch_of(Arc::from(ACTIVATOR), key));
        }
    }

    /// Whether the call that sends by `control` is the one that takes what waits. Asked under the lock of what it takes from:
    /// what is queued after the node was suspended, say, is not taken by who looked before.
    pub(crate) fn is_served_by(&self, control: &Arc<OutboundControl>) -> bool {
        !control.is_closed()
            && !self.is_suspended()
            && match self.kind {
                EndpointKind::Dialled => !self.is_lost.load(Ordering::Acquire),
                EndpointKind::Client => self.client_calls.is_served_by(control),
            }
    }

    /// Puts what the peer is to be told of watches into `batch`, about `max` messages of it, and returns how many; nothing
    /// when `control` is of a call that serves no more.
    pub(crate) fn take_watches(
        &self,
        cx: &Context<'_>,
        max: usize,
        control: &Arc<OutboundControl>,
        batch: &mut OutboundBatch,
    ) -> usize {
        // A node of one generation does not answer the watch of an actor that is not there; a touch it answers.
        let touches = if self.is_nexus.load(Ordering::Acquire) { None } else { self.arc() };
        let max = if touches.is_some() { max / 2 } else { max };
        let mut told = Vec::new();
        let may_take = || self.is_served_by(control);
        // Read first: if by then the call serves, it is no older than that.
        self.watcher.take(cx, max.max(1), self.era(), may_take, &mut told);
        let before = batch.len();
        for told in told {
            let watcher = self.node.watcher_pid.clone();
            match told {
                ToTell::Unwatch(id) => {
                    batch.push_system(RemoteSystem::Unwatch { target: self.pid_at(id), watcher });
                }
                ToTell::Watch(id) => {
                    batch.push_system(RemoteSystem::Watch { target: self.pid_at(id.clone()), watcher });
                    if let Some(me) = &touches {
                        // However often it is told, one question of each waits.
                        let before = self.watcher.swap_touch(&id, None);
                        drop(before.and_then(|before| self.node.asks.take(before)));
                        let answer = Arc::new(WatchTouch { endpoint: me.clone(), id: id.clone() });
                        if let Some(key) = self.node.asks.insert_touch(answer, &self.address, self.era()) {
                            self.watcher.swap_touch(&id, Some(key));
                            batch.push_system(self.touch_of(id, key));
                        }
                    }
                }
            }
        }
        batch.len() - before
    }

    /// Whether who is watched there will not be heard of.
    pub(super) fn cannot_watch(&self) -> bool {
        self.node.is_closing()
            || self.read(|state| {
                let is_gone =
                    self.kind == EndpointKind::Client && state.connection_state() == ConnectionState::Closed;
                state.is_blocked() || is_gone
            })
    }

    /// The question of this node that `deliver` is, if it is one.
    pub(crate) fn question_of(&self, deliver: &RemoteDeliver) -> Option<ReplyKey> {
        let sender = deliver.sender.as_ref()?;
        self.own_key(&sender.address, &sender.id)
    }

    /// The key of the asker of this node whose id at `address` that is.
    fn own_key(&self, address: &str, id: &str) -> Option<ReplyKey> {
        pending_asks::key_of(id).filter(|_| *address == *self.node.address)
    }

    /// Records a message toward the peer that will not arrive, and tells whoever waits for its answer.
    pub(crate) fn dead(&self, deliver: &RemoteDeliver, size: usize, reason: DeadLetterReason, detail: &str) {
        self.statistics.increment_dead_letter();
        if let Some(sender) = &deliver.sender {
            self.fail_asker(&sender.address, &sender.id, reason);
        }
        self.node.system.dead_letters().record_with(reason, || {
            let info = MessageInfo::encoded(deliver.type_name.to_string(), size);
            let letter = DeadLetter::of(info, reason)
                .with_pid(Pid::new(deliver.target.address.clone(), deliver.target.id.clone()))
                .with_peer(self.path_address.clone())
                .with_correlation_id(deliver.correlation_id)
                .with_detail(detail);
            let letter = match &deliver.header {
                Some(headers) => letter.with_headers((**headers).clone()),
                None => letter,
            };
            match &deliver.sender {
                Some(sender) => letter.with_sender(Pid::new(sender.address.clone(), sender.id.clone())),
                None => letter,
            }
        });
    }

    /// Tells whoever sent a message as `id` at `address` that it will not arrive, if that is somebody here who asked.
    pub(crate) fn fail_asker(&self, address: &str, id: &str, reason: DeadLetterReason) {
        if let Some(ask) = self.own_key(address, id).and_then(|key| self.node.asks.take(key)) {
            ask.fail(AskError::from_reason(reason));
        }
    }

    /// Records what the runtimes had to say and the peer will not hear. A watch is answered as a termination instead.
    pub(crate) fn dead_system(&self, message: &RemoteSystem, reason: DeadLetterReason) {
        match message {
            RemoteSystem::Watch { target, .. } => {
                self.watcher.terminated(&target.id, &TerminationReason::Unreachable);
            }
            RemoteSystem::Touch { sender, .. } => self.fail_asker(&sender.address, &sender.id, reason),
            RemoteSystem::Terminated { watcher, .. } if reason == DeadLetterReason::QueueFull => {
                // Its node lives, and waits for it.
                self.record_system("actor.Terminated", watcher, reason);
            }
            // Nobody waits for it: a watch that is over, or a watcher whose node is gone.
            RemoteSystem::Unwatch { .. } | RemoteSystem::Terminated { .. } => {}
            RemoteSystem::Stop { target } => self.record_system("actor.Stop", target, reason),
        }
    }

    fn record_system(&self, type_name: &'static str, target: &PidEntry, reason: DeadLetterReason) {
        self.statistics.increment_dead_letter();
        self.node.system.dead_letters().record(
            DeadLetter::of(MessageInfo::encoded(type_name, 0), reason)
                .with_pid(Pid::new(target.address.clone(), target.id.clone()))
                .with_peer(self.path_address.clone()),
        );
    }

    fn encode_failed(&self, target: &PidEntry, why: &str) {
        self.node.system.event_stream().publish_with(|| {
            EventStreamEvent::Serialization(SerializationFailure {
                direction: SerializationDirection::Encode,
                serializer: SerializerId::PROTOBUF,
                correlation_id: CorrelationId::NIL,
                recipient: Pid::new(target.address.clone(), target.id.clone())
                    .to_path(ActorPathScheme::Protoactor, "")
                    .ok(),
                manifest: Cow::Borrowed(""),
                error: Arc::from(why),
            })
        });
    }
}

/// Lends this thread's buffer, empty.
fn with_scratch<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    // Taken out while it is lent: `f` runs user code.
    let mut buffer = SCRATCH.try_with(RefCell::take).unwrap_or_default();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= SCRATCH_KEPT {
        let _ = SCRATCH.try_with(|scratch| *scratch.borrow_mut() = buffer);
    }
    result
}
