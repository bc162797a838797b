//! What an operation on remoting can come to.

use alloc::string::String;
use core::fmt;

use nexus_actor_core::BuildError;
use nexus_actor_core::extension::ExtensionError;

use crate::config_error::ConfigError;
use crate::transport::TransportError;

/// Why an operation on remoting failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum RemotingError {
    /// The configuration breaks rules; all of them are named. Nothing was started.
    Config(ConfigError),
    /// The transport cannot start: there is none for the configured scheme, it cannot run here, or the address is
    /// taken or cannot be bound. Nothing is left running.
    TransportUnavailable(TransportError),
    /// Remoting has not been started: call `start` first.
    NotStarted,
    /// Remoting has ended; it does not start again.
    Shutdown,
    /// The text is not an address of another node.
    InvalidAddress {
        /// The text.
        address: String,
        /// What it breaks.
        rule: String,
    },
    /// No association is kept with that authority.
    UnknownAuthority {
        /// The authority as given.
        authority: String,
    },
    /// All numbers for associations are taken.
    TooManyAssociations,
    /// The actors of remoting could not be started.
    Actor(nexus_actor_core::SpawnError),
    /// The actor system could not be built.
    Build(BuildError),
    /// The system has no remoting extension.
    Extension(ExtensionError),
}

impl fmt::Display for RemotingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "configuration: {error}"),
            Self::TransportUnavailable(error) => write!(f, "the transport cannot start: {error}"),
            Self::NotStarted => f.write_str("remoting has not been started: call `start` first"),
            Self::Shutdown => f.write_str("remoting has been shut down"),
            Self::InvalidAddress { address, rule } => write!(f, "{address:?} is not an address: {rule}"),
            Self::UnknownAuthority { authority } => write!(f, "no association with {authority}"),
            Self::TooManyAssociations => f.write_str("too many associations"),
            Self::Actor(error) => fmt::Display::fmt(error, f),
            Self::Build(error) => fmt::Display::fmt(error, f),
            Self::Extension(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for RemotingError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::TransportUnavailable(error) => Some(error),
            Self::Actor(error) => Some(error),
            Self::Build(error) => Some(error),
            Self::Extension(error) => Some(error),
            Self::NotStarted
            | Self::Shutdown
            | Self::InvalidAddress { .. }
            | Self::UnknownAuthority { .. }
            | Self::TooManyAssociations => None,
        }
    }
}

impl From<ConfigError> for RemotingError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<TransportError> for RemotingError {
    fn from(error: TransportError) -> Self {
        Self::TransportUnavailable(error)
    }
}

impl From<BuildError> for RemotingError {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl From<ExtensionError> for RemotingError {
    fn from(error: ExtensionError) -> Self {
        Self::Extension(error)
    }
}
