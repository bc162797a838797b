//! What the event stream tells of endpoints, the same for both wires.
//!
//! # Source
//! `EndpointConnectedEvent` and `EndpointTerminatedEvent` are protoactor-go's; the others are asked for by the documents
//! this crate follows, because a queue that fills and a reconnect under way cannot be seen from those two.

use alloc::sync::Arc;

use crate::backpressure::BackpressureSignal;
use crate::endpoint_statistics::EndpointStatisticsSnapshot;

/// The literal name of [`EndpointConnectedEvent`] in one of the source documents.
pub type EndpointConnected = EndpointConnectedEvent;

/// The levels of [`EndpointThrottledEvent`]: `Normal`, `Warning`, `Critical`.
pub type BackpressureLevel = BackpressureSignal;

/// A connection to an address serves: the first one, or one made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConnectedEvent {
    /// `host:port`.
    pub address: Arc<str>,
    /// The id or incarnation that the node there gave.
    pub system_id: Arc<str>,
}

/// A client that only dials out has connected and passed the block list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConnectedEvent {
    /// The id that the client gave.
    pub system_id: Arc<str>,
}

/// An endpoint has ended for good: its first connection failed, its retries are used up, the peer said goodbye or is refused.
/// A later send makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTerminatedEvent {
    /// `host:port`, or the id of a client that only dialled out.
    pub address: Arc<str>,
    /// Why, in a few words.
    pub reason: Arc<str>,
    /// What had been counted by then.
    pub statistics: EndpointStatisticsSnapshot,
}

/// The way to an address reached another level. Published once for each change, and at level `Normal` after a
/// reconnect, when nothing waits that would be worth a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointThrottledEvent {
    /// `host:port`.
    pub address: Arc<str>,
    /// The level now.
    pub level: BackpressureLevel,
    /// Messages that wait.
    pub messages: u64,
    /// Bytes that wait.
    pub bytes: u64,
}

/// An attempt to connect again begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReconnectEvent {
    /// `host:port`.
    pub address: Arc<str>,
    /// Which attempt since the connection was lost, from 1.
    pub attempt: u32,
}

/// Any of the events of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointEvent {
    /// See [`EndpointConnectedEvent`].
    Connected(EndpointConnectedEvent),
    /// See [`ClientConnectedEvent`].
    ClientConnected(ClientConnectedEvent),
    /// See [`EndpointTerminatedEvent`].
    Terminated(EndpointTerminatedEvent),
    /// See [`EndpointThrottledEvent`].
    Throttled(EndpointThrottledEvent),
    /// See [`EndpointReconnectEvent`].
    Reconnect(EndpointReconnectEvent),
}

macro_rules! from_event {
    ($($event:ident => $variant:ident,)*) => {
        $(
            impl From<$event> for EndpointEvent {
                fn from(event: $event) -> Self {
                    Self::$variant(event)
                }
            }
        )*
    };
}

from_event! {
    EndpointConnectedEvent => Connected,
    ClientConnectedEvent => ClientConnected,
    EndpointTerminatedEvent => Terminated,
    EndpointThrottledEvent => Throttled,
    EndpointReconnectEvent => Reconnect,
}
