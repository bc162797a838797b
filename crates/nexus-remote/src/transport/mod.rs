//! Moving bytes between nodes.
//!
//! A transport carries streams of bytes and decides nothing: framing, handshakes, retries and timeouts after
//! the connect belong to others. Everything waits by `poll` functions on a [`Context`](core::task::Context),
//! so the same connection code runs on tokio, on a single-threaded pump without `std`, and on virtual time.
//!
//! [`RemoteTransport`] makes [`TransportChannel`]s, by [`open_channel`](RemoteTransport::open_channel) or from
//! the [`TransportHandle`] of a listener. [`LoopbackTransport`] stays inside the process;
//! `TokioTcpTransport` (feature `std`) is TCP. A [`TransportFactory`] knows which one a scheme
//! means, and takes an application's own.

mod channel;
mod error;
mod factory;
mod hook;
mod listener;
mod loopback;
mod security;
#[cfg(feature = "std")]
mod tcp;

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use nexus_actor_core::path::Authority;

pub use channel::{Channel, TransportChannel};
pub use error::TransportError;
pub use factory::TransportFactory;
pub use hook::{HookSlot, StallReport};
pub use listener::{Listener, TransportHandle};
pub use loopback::{LoopbackNetwork, LoopbackTransport};
pub use security::TransportSecurity;
#[cfg(feature = "std")]
pub use tcp::TokioTcpTransport;

use crate::backpressure::BackpressureHook;

/// How long a dial may take by default, name resolution included (limit L25).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many made connections wait for an accept by default.
pub const BACKLOG: u32 = 1024;

/// A way of carrying bytes to other nodes.
///
/// Delivery is at most once: bytes handed over arrive in order or not at all, and nothing here repeats them.
/// Implement it to bring a transport of your own, and register it with
/// [`TransportFactory::with_transport`].
pub trait RemoteTransport: Send + Sync {
    /// The scheme of addresses reached by it, such as `fraktor.tcp`.
    fn scheme(&self) -> &str;

    /// Listens at `bind`. The address is taken, and known, when this returns.
    ///
    /// # Errors
    /// [`TransportError::AddressInUse`], with address and cause, and its like; nothing is left running.
    fn spawn_listener(&self, bind: &TransportBind) -> Result<TransportHandle, TransportError>;

    /// Begins to dial `remote` and returns at once. The dial advances while
    /// [`TransportChannel::poll_connected`] is polled, which also reports its end; dropping the channel ends it.
    ///
    /// A name is resolved anew by every dial.
    ///
    /// # Errors
    /// When the dial cannot even begin.
    fn open_channel(&self, remote: &TransportEndpoint) -> Result<TransportChannel, TransportError>;

    /// Writes a small `payload` at once, all or nothing; for a farewell such as a refusal before closing.
    ///
    /// Not to be mixed with a write that another task has under way.
    ///
    /// # Errors
    /// [`TransportError::NoRoom`] when nothing fits. When only a beginning fitted, the channel is aborted and
    /// the error is [`TransportError::Reset`], since half a frame cannot be taken back.
    fn send(&self, channel: &TransportChannel, payload: &[u8]) -> Result<(), TransportError> {
        let address = || channel.peer_address().unwrap_or_else(|| Authority::new("", 0));
        match channel.try_write(payload)? {
            written if written == payload.len() => Ok(()),
            0 => Err(TransportError::NoRoom { address: address() }),
            _ => {
                channel.abort();
                Err(TransportError::Reset { address: address() })
            }
        }
    }

    /// Closes `channel`; see [`Channel::close`].
    fn close(&self, channel: TransportChannel) {
        channel.close();
    }

    /// Has `hook` told when writes to a peer stall and when they go on, in place of the hook before.
    fn install_backpressure_hook(&self, hook: Box<dyn BackpressureHook + Send + Sync>);
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportBind {
    /// A name or address of this host.
    pub host: String,
    /// The port; 0 draws a free one.
    pub port: u16,
    /// What connections must be protected by. Default: plain text.
    pub security: TransportSecurity,
    /// How many made connections wait for an accept; at least 1. Default: [`BACKLOG`]. A dial beyond it is
    /// not answered (TCP) or is [`TransportError::Unreachable`] (loopback), never refused: the node lives.
    pub backlog: u32,
}

impl TransportBind {
    /// `host:port`, with the defaults for the rest.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, security: TransportSecurity::default(), backlog: BACKLOG }
    }

    /// The same with another [`security`](Self::security).
    #[must_use]
    pub fn with_security(mut self, security: TransportSecurity) -> Self {
        self.security = security;
        self
    }

    /// The same with another [`backlog`](Self::backlog).
    #[must_use]
    pub const fn with_backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// The address asked for.
    #[must_use]
    pub fn authority(&self) -> Authority {
        Authority::new(&self.host, self.port)
    }
}

/// Whom to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportEndpoint {
    /// The address.
    pub authority: Authority,
    /// What the connection must be protected by. Default: plain text.
    pub security: TransportSecurity,
    /// How long the dial may take, name resolution included. Default: [`CONNECT_TIMEOUT`]. The loopback
    /// answers at once and needs none.
    pub connect_timeout: Duration,
}

impl TransportEndpoint {
    /// The endpoint at `authority`, with the defaults for the rest.
    #[must_use]
    pub fn new(authority: Authority) -> Self {
        Self { authority, security: TransportSecurity::default(), connect_timeout: CONNECT_TIMEOUT }
    }

    /// The same with another [`security`](Self::security).
    #[must_use]
    pub fn with_security(mut self, security: TransportSecurity) -> Self {
        self.security = security;
        self
    }

    /// The same with another [`connect_timeout`](Self::connect_timeout).
    #[must_use]
    pub const fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }
}
