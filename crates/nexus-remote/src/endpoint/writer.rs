//! From the association to a connection's bytes.

use alloc::sync::Arc;
use core::task::{Context, Poll};

use nexus_actor_core::Instant;

use super::peer::Peer;
use crate::association::{ConnectionId, Transmit};
use crate::transport::{TransportChannel, TransportError};
use crate::wire::REST_AHEAD;

/// A turn that carried more than this had company: one small message with its acknowledgement fits.
const COMPANY: usize = 160;

/// The writing half of a connection. What is not acknowledged stays with the association; here is only what is
/// being written.
#[derive(Default)]
pub(crate) struct EndpointWriter {
    transmit: Transmit,
    head_at: usize,
    run_at: usize,
    /// Bytes of the last turn that had any. What a burst leads to is the next burst, and its first message finds the
    /// writer at rest.
    last: usize,
    yielded: bool,
    closing: bool,
}

/// What one step of writing came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// Something; there may be more.
    Progress,
    /// There is nothing to write; the waker is registered.
    Pending,
    /// The channel takes no more for now; only the channel wakes.
    Blocked,
    /// Everything is written and the association wants the connection closed.
    Finished,
}

impl EndpointWriter {
    fn is_empty(&self) -> bool {
        self.head_at >= self.transmit.head.len() && self.run_at >= self.run().map_or(0, <[u8]>::len)
    }

    fn run(&self) -> Option<&[u8]> {
        let (bytes, range) = self.transmit.run.as_ref()?;
        bytes.get(range.clone())
    }

    /// Whether the turn before carried much.
    pub(crate) const fn is_busy(&self) -> bool {
        self.last > REST_AHEAD
    }

    /// Gives the buffer's memory back if nothing waits in it; for a connection that has gone quiet.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            self.transmit = Transmit::new();
            (self.head_at, self.run_at) = (0, 0);
        }
    }

    /// Writes what there is. Asks the association for more when the last of it is out.
    ///
    /// A writer whose last turn carried more than one message lets others run once before it asks: they add to
    /// the same write. A lone message leaves at once.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        peer: &Arc<Peer>,
        conn: ConnectionId,
        channel: &TransportChannel,
        now: Instant,
    ) -> Result<Wrote, TransportError> {
        if self.is_empty() {
            if self.closing {
                return Ok(Wrote::Finished);
            }
            if self.last > COMPANY && !self.yielded {
                self.yielded = true;
                cx.waker().wake_by_ref();
                return Ok(Wrote::Pending);
            }
            self.yielded = false;
            let given = peer.poll_transmit(cx, conn, &mut self.transmit, now);
            if given.broken {
                return Err(TransportError::Reset { address: peer.authority().clone() });
            }
            self.closing = given.closing;
            (self.head_at, self.run_at) = (given.written, 0);
            if self.transmit.is_empty() {
                return Ok(if self.closing { Wrote::Finished } else { Wrote::Pending });
            }
            self.last = self.transmit.len();
        }
        while self.head_at < self.transmit.head.len() {
            match channel.poll_write(cx, &self.transmit.head[self.head_at..])? {
                Poll::Ready(count) => self.head_at += count,
                Poll::Pending => return Ok(Wrote::Blocked),
            }
        }
        while let Some(rest) =
            self.run().and_then(|run| run.get(self.run_at..)).filter(|rest| !rest.is_empty())
        {
            match channel.poll_write(cx, rest)? {
                Poll::Ready(count) => self.run_at += count,
                Poll::Pending => return Ok(Wrote::Blocked),
            }
        }
        // The association gets its buffer back as soon as it is acknowledged.
        self.transmit.run = None;
        self.run_at = 0;
        Ok(Wrote::Progress)
    }
}
