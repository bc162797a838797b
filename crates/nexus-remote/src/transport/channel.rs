//! One connection: a stream of bytes each way.

use alloc::sync::Arc;
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};

use nexus_actor_core::path::Authority;

use super::TransportError;

/// A connection, as a transport provides it.
///
/// Bytes arrive in the order they were written, none twice, or the connection fails. Each direction remembers
/// one waker, that of the task that polled it last: one task may drive both directions, or one task each.
/// A poll that is `Pending` has taken nothing and given nothing, so dropping whatever polled loses nothing.
///
/// Dropping the last handle closes.
pub trait Channel: Send + Sync {
    /// Whether the connection is made; of an accepted one at once. The answer stays the same afterwards,
    /// until the channel is closed.
    ///
    /// # Errors
    /// Why the dial failed. The channel is of no more use.
    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;

    /// Reads into `buf`, which must not be empty, and says how much; zero when the peer finished writing.
    ///
    /// # Errors
    /// [`TransportError::Reset`] when the connection is gone; bytes that had arrived may be gone with it.
    /// [`TransportError::NotConnected`] before [`poll_connected`](Self::poll_connected) was ready.
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, TransportError>>;

    /// Writes a beginning of `bytes` and says how much of it; never zero unless `bytes` is empty.
    ///
    /// # Errors
    /// As [`poll_read`](Self::poll_read); also [`TransportError::Closed`] after [`finish`](Self::finish).
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, TransportError>>;

    /// Writes what there is room for now and says how much; zero means none. Disturbs no remembered waker.
    ///
    /// It is called by whoever sends, from any thread, also while another reads or closes; never while another writes.
    /// It must not block.
    ///
    /// # Errors
    /// As [`poll_write`](Self::poll_write).
    fn try_write(&self, bytes: &[u8]) -> Result<usize, TransportError>;

    /// Ends our direction: the peer reads everything written so far and then the end. Reading goes on.
    ///
    /// An orderly farewell is `finish`, then reading until the end (under a deadline), then
    /// [`close`](Self::close): closing while the peer's bytes are unread may destroy ours on their way.
    fn finish(&self);

    /// Ends both directions; what was written is still delivered if the network can. Pending polls wake.
    fn close(&self);

    /// Tears the connection down: what was not delivered is thrown away and the peer is told so.
    fn abort(&self);

    /// This end, as bound by the system; `None` until connected.
    fn local_address(&self) -> Option<Authority>;

    /// The other end: of a dial the address that was dialled, of an accepted connection where it came from.
    fn peer_address(&self) -> Option<Authority>;
}

/// A handle on a [`Channel`]; clones are the same connection.
#[derive(Clone)]
pub struct TransportChannel(Arc<dyn Channel>);

impl TransportChannel {
    /// A handle on `channel`.
    #[must_use]
    pub fn new(channel: impl Channel + 'static) -> Self {
        Self(Arc::new(channel))
    }

    /// See [`Channel::poll_connected`].
    pub fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.0.poll_connected(cx)
    }

    /// See [`Channel::poll_read`].
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, TransportError>> {
        self.0.poll_read(cx, buf)
    }

    /// See [`Channel::poll_write`].
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, TransportError>> {
        self.0.poll_write(cx, bytes)
    }

    /// See [`Channel::try_write`].
    pub fn try_write(&self, bytes: &[u8]) -> Result<usize, TransportError> {
        self.0.try_write(bytes)
    }

    /// See [`Channel::finish`].
    pub fn finish(&self) {
        self.0.finish();
    }

    /// See [`Channel::close`].
    pub fn close(&self) {
        self.0.close();
    }

    /// See [`Channel::abort`].
    pub fn abort(&self) {
        self.0.abort();
    }

    /// See [`Channel::local_address`].
    #[must_use]
    pub fn local_address(&self) -> Option<Authority> {
        self.0.local_address()
    }

    /// See [`Channel::peer_address`].
    #[must_use]
    pub fn peer_address(&self) -> Option<Authority> {
        self.0.peer_address()
    }

    /// Waits for the connection.
    ///
    /// # Errors
    /// As [`Channel::poll_connected`].
    /// # Cancel safety
    /// The dial goes on when polled again; it ends with the channel.
    pub async fn connected(&self) -> Result<(), TransportError> {
        poll_fn(|cx| self.0.poll_connected(cx)).await
    }

    /// Reads some bytes; zero means the peer finished.
    ///
    /// # Errors
    /// As [`Channel::poll_read`].
    /// # Cancel safety
    /// Nothing is read unless the future completes.
    pub async fn read(&self, buf: &mut [u8]) -> Result<usize, TransportError> {
        poll_fn(|cx| self.0.poll_read(cx, buf)).await
    }

    /// Writes some bytes.
    ///
    /// # Errors
    /// As [`Channel::poll_write`].
    /// # Cancel safety
    /// Nothing is written unless the future completes.
    pub async fn write(&self, bytes: &[u8]) -> Result<usize, TransportError> {
        poll_fn(|cx| self.0.poll_write(cx, bytes)).await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As [`Channel::poll_write`]; a beginning may have been written.
    /// # Cancel safety
    /// None: a beginning may have been written.
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), TransportError> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl fmt::Debug for TransportChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportChannel")
            .field("local", &self.0.local_address())
            .field("peer", &self.0.peer_address())
            .finish()
    }
}
