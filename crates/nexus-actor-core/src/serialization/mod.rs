//! Messages as bytes: the [`Message`] trait, its encoder and decoder, and the registry of types.

mod codec;
pub(crate) mod inlet;
mod message;
pub mod registry;
pub mod scope;

pub use codec::{DecodeError, Decoder, EncodeError, Encoder, SerializerId};
pub use inlet::{Aftermath, Flushed, Inlet};
pub use message::Message;
pub use registry::{Registration, RegistrationError, SerializationRegistry, SerializedMessage};
