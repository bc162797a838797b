//! Clients that only dial out: what goes to them goes down the call that they opened.

use std::sync::{Arc, Weak};

use nexus_actor_core::Refusal;
use prost::Message as _;

use crate::batch::WireForm;
use crate::endpoint::Endpoint;
use crate::endpoint_state::DisconnectCause;
use crate::inbound_call::{CallControl, End};
use crate::outbound::OutboundControl;
use crate::proto::remote::RemoteMessage;

/// The call of one client, as its endpoint sees it.
pub(crate) struct ClientCall {
    control: Arc<CallControl>,
    outbound: Arc<OutboundControl>,
}

impl ClientCall {
    pub(crate) const fn new(control: Arc<CallControl>, outbound: Arc<OutboundControl>) -> Self {
        Self { control, outbound }
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

    /// Sends `message` ahead of the batches that wait.
    ///
    /// # Errors
    /// [`Refusal::Unreachable`] when the client is gone.
    pub fn send(&self, message: &RemoteMessage) -> Result<(), Refusal> {
        if self.endpoint.upgrade().is_none_or(|endpoint| !endpoint.has_client_call(&self.call)) {
            return Err(Refusal::Unreachable);
        }
        self.call.outbound.push(message.encode_to_vec());
        Ok(())
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
