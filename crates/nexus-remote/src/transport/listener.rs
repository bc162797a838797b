//! A bound address that accepts connections.

use alloc::boxed::Box;
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};

use nexus_actor_core::path::Authority;

use super::{TransportChannel, TransportError};

/// A listener, as a transport provides it. Dropping it frees the address.
pub trait Listener: Send + Sync {
    /// The address actually bound: with port 0 asked for, the port that was drawn.
    fn local_address(&self) -> Authority;

    /// The next connection. Remembers one waker, that of the task that polled last.
    ///
    /// # Errors
    /// [`TransportError::Closed`] after [`close`](Self::close). Any other is one failed accept: count it and
    /// poll again, the listener lives. When the system is out of descriptors or memory it pauses by itself.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<TransportChannel, TransportError>>;

    /// Frees the address now, wakes a pending accept, and resets connections nobody accepted.
    fn close(&self);
}

/// The handle on a [`Listener`]; dropping it frees the address.
pub struct TransportHandle(Box<dyn Listener>);

impl TransportHandle {
    /// A handle on `listener`.
    #[must_use]
    pub fn new(listener: impl Listener + 'static) -> Self {
        Self(Box::new(listener))
    }

    /// See [`Listener::local_address`].
    #[must_use]
    pub fn local_address(&self) -> Authority {
        self.0.local_address()
    }

    /// See [`Listener::poll_accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<TransportChannel, TransportError>> {
        self.0.poll_accept(cx)
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// As [`Listener::poll_accept`].
    /// # Cancel safety
    /// No connection is lost.
    pub async fn accept(&self) -> Result<TransportChannel, TransportError> {
        poll_fn(|cx| self.0.poll_accept(cx)).await
    }

    /// See [`Listener::close`].
    pub fn close(&self) {
        self.0.close();
    }
}

impl Drop for TransportHandle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl fmt::Debug for TransportHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TransportHandle").field(&self.local_address()).finish()
    }
}
