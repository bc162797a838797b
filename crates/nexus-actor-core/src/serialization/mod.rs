//! Messages as bytes: the [`Message`] trait, its encoder and decoder, and the registry of types.

mod codec;
mod inlet;
mod message;
mod registry;
pub mod scope;

pub use codec::{DecodeError, Decoder, EncodeError, Encoder, SerializerId};
pub use inlet::{Flushed, Inlet, WireType};
pub use message::Message;
pub use registry::{RegistrationError, SerializationRegistry};
