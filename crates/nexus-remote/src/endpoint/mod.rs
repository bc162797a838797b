//! The endpoint layer: connects associations to transports on one side and to actors on the other.
//!
//! The machine decides ([`crate::association`]), the transport moves bytes ([`crate::transport`]); here is only
//! wiring: one task per connection, one actor that carries out what machines ask for, one that owns the transport.

mod aftermath;
mod away;
mod backlog;
mod block_list;
mod connection;
mod dials;
mod figures;
mod home;
mod inbox;
mod manager;
mod node;
mod peer;
mod pen;
mod pressure;
mod reader;
mod registry;
mod room;
mod supervisor;
#[cfg(test)]
mod tests;
mod watcher;
mod writer;

pub use manager::EndpointManagerCommand;
pub use watcher::{RemoteWatcherDaemon, RemoteWatcherMessage};

pub(crate) use node::Node;
pub use node::{ListenerFault, StrangerEvent};
pub(crate) use peer::Peer;
pub(crate) use registry::Origin;
pub(crate) use supervisor::{EndpointSupervisor, SupervisorCommand, bind, serve};
