//! Tells who listens that the queue toward an address reached another level.

use nexus_remote::EndpointThrottledEvent;

use crate::endpoint::Endpoint;
use crate::endpoint_writer_mailbox::ThrottleChange;
use crate::log;

pub(crate) fn publish(endpoint: &Endpoint, change: ThrottleChange) {
    let ThrottleChange { level, messages, bytes } = change;
    log::throttled(endpoint, level.as_str(), messages, bytes);
    endpoint.node().system.event_stream().publish_with(|| EndpointThrottledEvent {
        address: endpoint.address().clone(),
        level,
        messages: messages as u64,
        bytes: bytes as u64,
    });
}
