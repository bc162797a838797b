//! Messages as bytes: the [`Message`] trait, its encoder and decoder, and the registry of types.

mod codec;
pub(crate) mod inlet;
#[cfg(feature = "json")]
mod json;
mod message;
pub mod protobuf;
pub mod registry;
pub mod scope;

pub use codec::{DecodeError, Decoder, EncodeError, Encoder, SerializerId};
pub use inlet::{Aftermath, Flushed, Inlet};
pub use message::Message;
#[cfg(feature = "protobuf")]
pub use protobuf::ProtobufValue;
pub use protobuf::{Named, ProtobufCodec, ProtobufForm, TypeName};
pub use registry::{Registration, RegistrationError, SerializationRegistry, SerializedMessage};
