//! Remoting for nexus actors: the native wire protocol, its association machine and its transports.
//!
//! `no_std` with `alloc`; the feature `std` (on by default) brings TCP over tokio.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]

extern crate alloc;

pub mod association;
pub mod backpressure;
pub mod config_error;
pub mod correlation_trace;
pub mod endpoint;
pub mod error;
pub mod event;
mod event_publisher;
pub mod extension;
pub mod failure_detector;
pub mod flight_recorder;
mod json;
pub mod metric;
pub mod provider;
pub mod transport;
pub mod wire;

pub use endpoint::{EndpointManagerCommand, ListenerFault, RemoteWatcherDaemon, StrangerEvent};
pub use error::RemotingError;
pub use event_publisher::EventPublisher;
pub use extension::{RemotingControl, RemotingControlHandle, RemotingExtension, RemotingExtensionConfig};
pub use provider::{RemoteActorRef, RemoteActorRefProvider, WithRemoting};
