//! Why a reference could not be made, and why a shutdown did not end.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::path::Address;
use crate::reason::Refusal;

/// Why a path could not be made a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolveError {
    /// The text is not a path.
    InvalidPath {
        /// The text.
        path: String,
        /// What it breaks, and where.
        rule: String,
    },
    /// The path is of another node and this system has no remoting.
    NoRemoting {
        /// The other node.
        address: Address,
    },
    /// The path is of a node on the protobuf wire, and the message type has no form there.
    NoProtobuf {
        /// The message type.
        type_name: &'static str,
    },
    /// The path is of a node on the protobuf wire, and the form that the message type has there breaks a rule.
    InvalidProtobuf {
        /// The message type.
        type_name: &'static str,
        /// The rule.
        rule: String,
    },
    /// The way to the node was refused.
    Refused(Refusal),
}

impl From<Refusal> for ResolveError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidPath { path, rule } => write!(f, "{path:?} is not an actor path: {rule}"),
            Self::NoRemoting { address } if !address.scheme.names_system() => write!(
                f,
                "{address} is a node on the gRPC wire and this system does not speak it: start `Remote` of \
                 `nexus-remote-grpc`, which adds its provider of references"
            ),
            Self::NoRemoting { address } => write!(
                f,
                "{address} is another node and this system has no remoting: build it with \
                 `with_remoting(config)`, which is short for `with_actor_ref_provider(RemoteActorRefProvider::std())` and the \
                 extension"
            ),
            Self::NoProtobuf { type_name } => write!(
                f,
                "{type_name} has no form on the protobuf wire: write `#[message(protobuf)]` above it, or set \
                 `Message::PROTOBUF`"
            ),
            Self::InvalidProtobuf { type_name, rule } => {
                write!(f, "the form of {type_name} on the protobuf wire is not valid: {rule}")
            }
            Self::Refused(refusal) => fmt::Display::fmt(refusal, f),
        }
    }
}

impl core::error::Error for ResolveError {}

/// A shutdown that ran out of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownError {
    /// Names of the actors, extensions and tasks that had not ended.
    pub left: Vec<String>,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not ended in time: {}", self.left.join(", "))
    }
}

impl core::error::Error for ShutdownError {}
