//! Remoting as an extension of an actor system.

pub mod config;

pub use config::{BindAddress, RemotingExtensionConfig};
