//! What can go wrong with a transport.

use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

use nexus_actor_core::path::Authority;

/// Why a transport could not do what was asked.
///
/// Every variant names the address it speaks of. None of them is a peer's misbehaviour: a transport carries
/// bytes and does not read them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The host answered that nobody listens at this address; with several addresses, every one answered so.
    ///
    /// The host is up and the process is not, which is stronger evidence than silence.
    #[error("{address} refused the connection: nobody listens there")]
    Refused {
        /// The address dialled.
        address: Authority,
    },
    /// No way to the host, or it takes no more connections for now. Says nothing about the process.
    #[error("{address} cannot be reached: {cause}")]
    Unreachable {
        /// The address dialled.
        address: Authority,
        /// What the network said.
        cause: Arc<str>,
    },
    /// No answer to a dial within its connect timeout, the name's resolution included.
    #[error("{address} did not answer within {after:?}")]
    TimedOut {
        /// The address dialled.
        address: Authority,
        /// The connect timeout.
        after: Duration,
    },
    /// The host's name has no address, or could not be asked for just now.
    #[error("the name of {address} cannot be resolved: {cause}")]
    NameNotFound {
        /// The address dialled or bound.
        address: Authority,
        /// What the resolver said.
        cause: Arc<str>,
    },
    /// Another listener has this address. Nothing was left running.
    #[error("{address} is in use: {cause}")]
    AddressInUse {
        /// The address asked for.
        address: Authority,
        /// What the system said.
        cause: Arc<str>,
    },
    /// The address cannot be bound here: not of this host, or not permitted. Nothing was left running.
    #[error("{address} cannot be bound here: {cause}")]
    AddressNotAvailable {
        /// The address asked for.
        address: Authority,
        /// What the system said.
        cause: Arc<str>,
    },
    /// Our side closed this listener, or this connection's direction, before.
    #[error("{address}: closed on this side")]
    Closed {
        /// The peer's address, of a listener its own.
        address: Authority,
    },
    /// The connection was torn down; bytes under way in either direction may be lost.
    #[error("{address}: connection reset")]
    Reset {
        /// The peer's address.
        address: Authority,
    },
    /// A one-off [`send`](super::RemoteTransport::send) found no room. Nothing was written.
    #[error("{address}: no room to write at once")]
    NoRoom {
        /// The peer's address.
        address: Authority,
    },
    /// Read or written before `poll_connected` reported the connection.
    #[error("{address}: not connected yet")]
    NotConnected {
        /// The address dialled.
        address: Authority,
    },
    /// No transport is registered for a scheme.
    #[error("no transport for scheme `{scheme}`; known: {known}")]
    NotAvailable {
        /// The scheme asked for.
        scheme: String,
        /// The schemes that have one, separated by commas.
        known: String,
    },
    /// A transport that needs a tokio runtime was asked for outside of one.
    #[error("transport `{scheme}` needs a tokio runtime: create it inside one, or give it a handle")]
    NoRuntime {
        /// The transport's scheme.
        scheme: String,
    },
    /// The security asked for is not what this transport has, or could not be agreed with the peer.
    #[error("{address}: security not met: {cause}")]
    Security {
        /// The address bound or dialled.
        address: Authority,
        /// What was missing.
        cause: Arc<str>,
    },
    /// Anything else the system said.
    #[error("{address}: {kind}: {cause}")]
    Io {
        /// The address of the peer or listener.
        address: Authority,
        /// The kind of fault, in the system's words.
        kind: Arc<str>,
        /// The fault, in the system's words.
        cause: Arc<str>,
    },
}

impl TransportError {
    /// The address this speaks of.
    #[must_use]
    pub const fn address(&self) -> Option<&Authority> {
        match self {
            Self::Refused { address }
            | Self::Unreachable { address, .. }
            | Self::TimedOut { address, .. }
            | Self::NameNotFound { address, .. }
            | Self::AddressInUse { address, .. }
            | Self::AddressNotAvailable { address, .. }
            | Self::Closed { address }
            | Self::Reset { address }
            | Self::NoRoom { address }
            | Self::NotConnected { address }
            | Self::Security { address, .. }
            | Self::Io { address, .. } => Some(address),
            Self::NotAvailable { .. } | Self::NoRuntime { .. } => None,
        }
    }
}
