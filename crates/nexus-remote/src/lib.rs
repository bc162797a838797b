//! Remoting for nexus actors: the native wire protocol, its association machine and its transports.
//!
//! `no_std` with `alloc`; the feature `std` (on by default) brings TCP over tokio.
//!
//! # Logs
//!
//! With the feature `tracing` (on by default) these events are written to [`tracing`](https://docs.rs/tracing). All have
//! the fields `authority` and, but for the last three, `correlation_id`.
//!
//! | target | level | when |
//! | --- | --- | --- |
//! | `nexus_remote::lifecycle` | error | a peer was quarantined for a reason without a deadline, but for the block list: an operator must act |
//! | | warn | gated, quarantined (by us or by the peer), refused, suspect |
//! | | info | listen started, connected, disconnected, suspended, resumed, lifted, left, reachable, shutdown |
//! | | debug | each attempt to connect |
//! | `nexus_remote::backpressure` | warn | a mark was crossed upward; info when it is normal again |
//! | `nexus_remote::metric` | debug | the figures of a peer, each metrics interval |
//! | `nexus_remote::threshold` | warn | a figure went over an operator's threshold; info when it is back |
//! | `nexus_remote::trace` | trace | a hop of a message: see [`TraceSampling`](correlation_trace::TraceSampling) |
//! | `nexus_remote::start` | warn | what an operator should know at every start |
//! | `nexus_remote::listener` | warn | a connection was not from a node of ours (one a second); the listener failed (one a second) |
//!
//! Of one peer, turn and reason there is at most one line a second, and 256 of all peers together; the next line says in
//! `held_back` how many there would have been. Nothing that an operator must act on is held back.
//!
//! Dead letters are written by the core, target `nexus_actor_core::dead_letter`.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]

extern crate alloc;

pub mod association;
pub mod backpressure;
pub mod config_error;
pub mod correlation_trace;
pub mod endpoint;
pub mod endpoint_event;
pub mod endpoint_statistics;
pub mod error;
pub mod event;
mod event_publisher;
pub mod extension;
pub mod failure_detector;
pub mod flight_recorder;
pub mod host;
mod json;
mod log;
pub mod metric;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod provider;
pub mod throttle;
pub mod transport;
pub mod wire;

pub use endpoint::{EndpointManagerCommand, ListenerFault, RemoteWatcherDaemon, StrangerEvent};
pub use endpoint_event::{
    BackpressureLevel, ClientConnectedEvent, EndpointConnected, EndpointConnectedEvent, EndpointEvent,
    EndpointReconnectEvent, EndpointTerminatedEvent, EndpointThrottledEvent,
};
pub use endpoint_statistics::{
    EndedEndpoints, EndpointReport, EndpointSource, EndpointStatistics, EndpointStatisticsSnapshot,
};
pub use error::RemotingError;
pub use event_publisher::EventPublisher;
pub use extension::{RemotingControl, RemotingControlHandle, RemotingExtension, RemotingExtensionConfig};
pub use provider::{RemoteActorRef, RemoteActorRefProvider, WithRemoting};
