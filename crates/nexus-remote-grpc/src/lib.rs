//! Remoting over gRPC, on the wire of protoactor-go.

#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as nexus_remote_grpc;

mod backpressure_events;
pub mod batch;
pub mod block_list;
pub mod client_connection;
pub mod config;
pub mod config_option;
mod diagnostics;
pub mod endpoint;
pub mod endpoint_manager;
mod endpoint_reader;
pub mod endpoint_state;
mod endpoint_supervisor;
pub mod endpoint_watcher;
mod endpoint_writer;
pub mod endpoint_writer_mailbox;
mod inbound_call;
mod kinds;
mod listener;
mod log;
mod node;
mod outbound;
mod payload_arena;
mod peer_identity;
mod pending_asks;
pub mod pid_entry;
pub mod proto;
mod provider;
pub mod raw_codec;
pub mod remote;
pub mod remoting;
mod service;
mod spawn_remote;
pub mod status;

pub use client_connection::{ClientConnection, ClientResponseSender};
pub use config::Config;
pub use config_option::ConfigOption;
pub use endpoint::Endpoint;
pub use endpoint_manager::EndpointManager;
pub use kinds::ACTIVATOR;
pub use remote::{Remote, RemoteError};
pub use status::{ResponseStatusCode, SpawnRemoteError};
