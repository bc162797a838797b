//! Clients that only dial out: what goes to them goes down the call that they opened.

use std::sync::{Arc, Weak};

use nexus_actor_core::dead_letter::{DeadLetter, MessageInfo};
use nexus_actor_core::lock::Lock;
use nexus_actor_core::pid::Pid;
use nexus_actor_core::{DeadLetterReason, Headers, Refusal};
use prost::{Message as _, Name as _};

use crate::endpoint::Endpoint;
use crate::endpoint_state::{DisconnectCause, EndpointState};
use crate::endpoint_writer::outbound::OutboundControl;
use crate::inbound::call::{CallControl, End};
use crate::inbound::peer_identity::PeerIdentity;
use crate::wire::batch::WireForm;
use crate::wire::proto::actor;
use crate::wire::proto::remote::remote_message::MessageType;
use crate::wire::proto::remote::{self as proto, RemoteMessage};

/// The call of one client, as its endpoint sees it.
pub(crate) struct ClientCall {
    control: Arc<CallControl>,
    outbound: Arc<OutboundControl>,
    identity: PeerIdentity,
}

impl ClientCall {
    pub(crate) const fn new(
        control: Arc<CallControl>,
        outbound: Arc<OutboundControl>,
        identity: PeerIdentity,
    ) -> Self {
        Self { control, outbound, identity }
    }

    /// Whether who has shown `identity` is sure to be the client that opened this call.
    pub(crate) fn is_of(&self, identity: &PeerIdentity) -> bool {
        self.identity.is_same(identity)
    }

    pub(crate) fn pause(&self, paused: bool) {
        if paused { self.outbound.hold() } else { self.outbound.open(WireForm::W2) }
    }

    pub(crate) fn end(&self, cause: &DisconnectCause) {
        self.end_with(if *cause == DisconnectCause::Blocked { End::Blocked } else { End::Goodbye });
    }

    pub(crate) fn end_with(&self, why: End) {
        // Nothing more is taken from the mailbox for it: another call may serve by now.
        self.outbound.close();
        self.control.end(why);
    }
}

/// The calls of one client. They change under the lock of its state: which of them serves is what the state says, however a
/// new one and the end of an old one meet.
#[derive(Default)]
pub(crate) struct ClientCalls(Lock<Calls>);

#[derive(Default)]
struct Calls {
    serving: Option<Arc<ClientCall>>,
    /// Those that the state has done with, with the number of losses by then; the driver ends them.
    given_up: Vec<(u64, Arc<ClientCall>)>,
}

impl ClientCalls {
    pub(crate) fn serving(&self) -> Option<Arc<ClientCall>> {
        self.0.lock().serving.clone()
    }

    pub(crate) fn is_serving(&self, call: &Arc<ClientCall>) -> bool {
        self.0.lock().serving.as_ref().is_some_and(|now| Arc::ptr_eq(now, call))
    }

    /// Whether the call that sends by `outbound` serves.
    pub(crate) fn is_served_by(&self, outbound: &Arc<OutboundControl>) -> bool {
        self.0.lock().serving.as_ref().is_some_and(|now| Arc::ptr_eq(&now.outbound, outbound))
    }

    /// After each change of the state, under its lock: no call serves a client that is not connected.
    pub(crate) fn follow(&self, state: &EndpointState, era: u64) {
        if !state.is_linked() {
            let mut calls = self.0.lock();
            let given_up = calls.serving.take();
            calls.given_up.extend(given_up.map(|call| (era, call)));
        }
    }

    /// Those that are to be ended, of those given up by then.
    pub(crate) fn take_given_up(&self, era: u64) -> Vec<Arc<ClientCall>> {
        let mut calls = self.0.lock();
        calls.given_up.extract_if(.., |(since, _)| *since <= era).map(|(_, call)| call).collect()
    }
}

/// What kind of message it is, as its type is called.
fn name_of(message: &RemoteMessage) -> String {
    match &message.message_type {
        Some(MessageType::MessageBatch(_)) => proto::MessageBatch::full_name(),
        Some(MessageType::ConnectRequest(_)) => proto::ConnectRequest::full_name(),
        Some(MessageType::ConnectResponse(_)) => proto::ConnectResponse::full_name(),
        Some(MessageType::DisconnectRequest(_)) => proto::DisconnectRequest::full_name(),
        Some(MessageType::Acknowledge(_)) => proto::Acknowledge::full_name(),
        None => RemoteMessage::full_name(),
    }
}

impl Endpoint {
    /// Records what was [sent by hand](ClientResponseSender::send) and did not go out before its call ended: each message of a
    /// batch, and whatever else it is as one. Who asked by it is told.
    pub(crate) fn dead_by_hand(&self, bytes: &[u8]) {
        let reason = match self.read(EndpointState::refusal) {
            Some(Refusal::Shutdown) => DeadLetterReason::Shutdown,
            Some(Refusal::Blocked) => DeadLetterReason::Blocked,
            _ => DeadLetterReason::Unreachable,
        };
        // Encoded here, it can be read; else it is recorded as what it is.
        let message = RemoteMessage::decode(bytes).unwrap_or_default();
        let letter = |type_name: String, size| {
            DeadLetter::of(MessageInfo::encoded(type_name, size), reason)
                .with_peer(self.path_address().clone())
                .with_detail("it was sent by hand, and the call ended")
        };
        let record = |letter: &dyn Fn() -> DeadLetter| {
            self.statistics().increment_dead_letter();
            self.node().system.dead_letters().record_with(reason, letter);
        };
        let Some(MessageType::MessageBatch(batch)) = &message.message_type else {
            return record(&|| letter(name_of(&message), bytes.len()));
        };
        // The program made the batch: an index may point to nothing.
        fn at<T>(table: &[T], index: i32) -> Option<&T> {
            table.get(usize::try_from(index).ok()?)
        }
        let pid = |pid: &actor::Pid| Pid::new(&*pid.address, &*pid.id);
        for envelope in &batch.envelopes {
            let sender = at(&batch.senders, envelope.sender.saturating_sub(1));
            if let Some(sender) = sender {
                self.fail_asker(&sender.address, &sender.id, reason);
            }
            record(&|| {
                let type_name = at(&batch.type_names, envelope.type_id).cloned().unwrap_or_default();
                let mut letter = letter(type_name, envelope.message_data.len());
                if let Some(target) = at(&batch.targets, envelope.target) {
                    letter = letter.with_pid(pid(target));
                }
                if let Some(sender) = sender {
                    letter = letter.with_sender(pid(sender));
                }
                let headers = envelope.message_header.iter().flat_map(|header| &header.header_data);
                letter.with_headers(headers.fold(Headers::new(), |all, (name, value)| all.with(name, value)))
            });
        }
    }

    /// A client has opened `call`: from now on it is the one that serves, and the one before is told so. False when by now
    /// another than `before` serves, which stays.
    pub(crate) fn apply_accepted(
        &self,
        before: Option<&Arc<ClientCall>>,
        call: &Arc<ClientCall>,
        system_id: &Arc<str>,
    ) -> bool {
        let accepted = self.apply(|state, now| {
            let replaced = {
                let mut calls = self.client_calls.0.lock();
                let is_before = |now: &Arc<ClientCall>| before.is_some_and(|before| Arc::ptr_eq(now, before));
                if !calls.serving.as_ref().is_none_or(is_before) {
                    return None;
                }
                calls.serving.replace(call.clone())
            };
            if replaced.is_some() {
                // Who asks or watches from now on means whoever opened the new one.
                self.count_loss();
            }
            state.handle_accepted(now, system_id.clone());
            // Else the end of the suspension opens it.
            if !state.is_suspended() {
                call.pause(false);
            }
            Some(replaced)
        });
        let Some(replaced) = accepted else { return false };
        if let Some(replaced) = replaced {
            // As of a connection that is lost: nobody may ever read what was asked by it.
            self.node().asks.give_up_touches(self.address(), self.era());
            replaced.end_with(End::Replaced);
        }
        true
    }

    /// `call` is over. If it still served, this is the end of the client: it cannot be dialled.
    pub(crate) fn apply_call_ended(&self, call: &Arc<ClientCall>) {
        self.apply(|state, now| {
            let was_serving = self.client_calls.is_serving(call);
            {
                let mut calls = self.client_calls.0.lock();
                calls.given_up.retain(|(_, other)| !Arc::ptr_eq(other, call));
                if was_serving {
                    calls.serving = None;
                }
            }
            if was_serving {
                state.handle_disconnected(now, DisconnectCause::PeerLeft);
            }
        });
    }
}

/// Sends to one client. Kept by the manager from the handshake until the client is gone.
#[derive(Clone)]
pub struct ClientResponseSender {
    system_id: Arc<str>,
    endpoint: Weak<Endpoint>,
    call: Arc<ClientCall>,
}

/// The kind of connection that is registered for a client that only dials out.
pub type ClientConnection = ClientResponseSender;

impl ClientResponseSender {
    pub(crate) fn new(system_id: &Arc<str>, endpoint: &Arc<Endpoint>, call: &Arc<ClientCall>) -> Self {
        Self { system_id: system_id.clone(), endpoint: Arc::downgrade(endpoint), call: call.clone() }
    }

    pub(crate) fn is_of(&self, call: &Arc<ClientCall>) -> bool {
        Arc::ptr_eq(&self.call, call)
    }

    /// The client's id.
    #[must_use]
    pub const fn system_id(&self) -> &Arc<str> {
        &self.system_id
    }

    /// The address that stands in the pids of the client's actors.
    #[must_use]
    pub fn address(&self) -> Option<Arc<str>> {
        Some(self.endpoint.upgrade()?.address().clone())
    }

    /// Sends `message` ahead of the batches that wait. What is sent like this waits in a queue of its own, which holds as much
    /// as the queue of one endpoint ([`Config::mailbox_bounds`](crate::Config::mailbox_bounds)) and always refuses the newest.
    /// While the node is [suspended](crate::Remote::suspend) it stays there. What has not gone out when the call ends is
    /// recorded as dead letters, one for each message of a batch.
    ///
    /// # Errors
    /// Nothing is queued then.
    /// - [`Refusal::Unreachable`] when the client is gone.
    /// - [`Refusal::TooLarge`] when the encoded message has more than `message_bytes` of the
    ///   [`BatchLimits`](crate::wire::batch::BatchLimits) of this node, which would end the call.
    /// - [`Refusal::QueueFull`] when as many messages or bytes wait as may.
    pub fn send(&self, message: &RemoteMessage) -> Result<(), Refusal> {
        let endpoint = self.endpoint.upgrade().ok_or(Refusal::Unreachable)?;
        if !endpoint.client_calls.is_serving(&self.call) {
            return Err(Refusal::Unreachable);
        }
        let node = endpoint.node();
        let (size, limit) = (message.encoded_len(), node.limits.message_bytes);
        if size > limit {
            return Err(Refusal::TooLarge { size, limit });
        }
        let envelopes = match &message.message_type {
            Some(MessageType::MessageBatch(batch)) => batch.envelopes.len() as u64,
            _ => 0,
        };
        self.call.outbound.try_push(message.encode_to_vec(), envelopes, &node.config.mailbox_bounds())
    }

    /// Tells the client that it is to hang up, and ends its call.
    pub fn disconnect(&self) {
        self.call.end_with(End::Goodbye);
    }
}

impl std::fmt::Debug for ClientResponseSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientResponseSender").field("system_id", &self.system_id).finish_non_exhaustive()
    }
}
