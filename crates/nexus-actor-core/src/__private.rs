//! What generated code names. No part of the public API: it changes with the macros, in any release.

pub use crate::actor::{Actor, ActorError};
pub use crate::actor_ref::{ActorRef, Sending};
pub use crate::ask::{Ask, Reply};
pub use crate::context::Context;
pub use crate::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
pub use crate::signal::Signal;
pub use serde;

// Called on every argument and answer of `#[actor]`, and named so that the error reads well.

/// Compiles for what can be in a message on a wire.
pub const fn crosses_a_wire<T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static>() {}

/// Compiles for what can be in a message inside a process.
pub const fn is_sent<T: Send + 'static>() {}
