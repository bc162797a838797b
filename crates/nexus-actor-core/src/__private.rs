//! What generated code names. No part of the public API: it changes with the macros, in any release.

use alloc::format;
use alloc::string::String;

pub use crate::actor::{Actor, ActorError};
pub use crate::actor_ref::{ActorRef, Sending};
pub use crate::ask::{Ask, Reply};
pub use crate::context::Context;
#[cfg(feature = "protobuf")]
pub use crate::serialization::ProtobufValue;
pub use crate::serialization::{
    DecodeError, Decoder, EncodeError, Encoder, Message, ProtobufCodec, ProtobufForm, SerializerId,
};
pub use crate::signal::Signal;
pub use serde;

// Called on every argument and answer of `#[actor]`, and named so that the error reads well.

/// Compiles for what can be in a message on a wire.
pub const fn crosses_a_wire<T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static>() {}

/// The error for a message of the protobuf wire that is to be written for another.
#[cold]
pub fn not_encoded<M>(_: &mut Encoder<'_>) -> EncodeError {
    EncodeError::failed(only_protobuf::<M>())
}

/// The error for a message of the protobuf wire that is to be read from another.
#[cold]
pub fn not_decoded<M>(_: &mut Decoder<'_>) -> DecodeError {
    DecodeError::failed(only_protobuf::<M>())
}

fn only_protobuf<M>() -> String {
    format!(
        "{} travels on the protobuf wire only: add serde's derives and a manifest, \
         `#[message(manifest = \"name@1\", protobuf)]`",
        core::any::type_name::<M>()
    )
}

/// The error for a variant that is kept off the protobuf wire.
#[cold]
pub fn native_only<M>(variant: &str) -> EncodeError {
    EncodeError::failed(format_args!(
        "the variant `{variant}` of {} is marked `#[message(native)]` and does not cross the protobuf wire",
        core::any::type_name::<M>()
    ))
}

/// The codec, or a word about the feature it needs.
#[cfg(feature = "protobuf")]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_protobuf {
    ($($codec:tt)*) => { $($codec)* };
}

/// The codec, or a word about the feature it needs.
#[cfg(not(feature = "protobuf"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_protobuf {
    ($($codec:tt)*) => {{
        ::core::compile_error!("`#[message(protobuf)]` needs the feature `protobuf` of `nexus-actor`");
        ::core::option::Option::None
    }};
}

/// The codec, or a word about the feature it needs.
#[cfg(feature = "json")]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_json {
    ($($codec:tt)*) => { $($codec)* };
}

/// The codec, or a word about the feature it needs.
#[cfg(not(feature = "json"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_json {
    ($($codec:tt)*) => {{
        ::core::compile_error!("`#[message(protobuf, json)]` needs the feature `json` of `nexus-actor`");
        ::core::option::Option::None
    }};
}

pub use crate::{__with_json as with_json, __with_protobuf as with_protobuf};

/// Compiles for what can be in a message inside a process.
pub const fn is_sent<T: Send + 'static>() {}
