//! Answers to asks and lookups.

use alloc::vec::Vec;

use nexus_actor_core::CorrelationId;
use nexus_actor_core::path::ActorUid;
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::serialization::Encoder;

use super::open_frame::OpenFrame;
use super::reply_key::{put_key, read_key};
use crate::wire::error::{WireError, WireRule};
use crate::wire::header::{FrameHeader, FrameKind, RawFrame, put_frame};
use crate::wire::reader::Reader;

/// The answer to an ask or a lookup, borrowed from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// What is answered.
    pub key: ReplyKey,
    /// The id of the question.
    pub correlation_id: CorrelationId,
    /// The answer as its serializer wrote it; of a lookup, the uid as eight bytes.
    pub payload: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Reads the reply in `raw`. Allocates nothing.
    ///
    /// # Errors
    /// When the body breaks a rule.
    #[inline]
    pub fn decode(raw: RawFrame<'a>) -> Result<Self, WireError> {
        raw.check_flags(0)?;
        let mut reader = Reader::new(raw.body);
        let key = read_key("reply.key", &mut reader)?;
        Ok(Self { key, correlation_id: raw.header.correlation_id, payload: reader.rest() })
    }

    /// Appends the whole frame to `out`, of any length; see [`ReplyWriter`] for the lane's way.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, FrameHeader::with(FrameKind::Reply, 0, self.correlation_id), |out| {
            put_key(out, self.key);
            out.extend_from_slice(self.payload);
        });
    }

    /// The incarnation that a lookup found.
    ///
    /// # Errors
    /// When the payload is not eight bytes, or names no incarnation.
    pub fn found(&self) -> Result<ActorUid, WireError> {
        let mut reader = Reader::new(self.payload);
        let uid = ActorUid::new(reader.u64("reply.uid")?);
        reader.finish("reply.uid")?;
        if uid.is_any() { Err(WireError::new("reply.uid", WireRule::Zero)) } else { Ok(uid) }
    }
}

/// Writes one reply into a lane's buffer; the counterpart of [`EnvelopeWriter`](super::EnvelopeWriter).
#[derive(Debug)]
pub struct ReplyWriter<'v> {
    frame: OpenFrame<'v>,
}

impl<'v> ReplyWriter<'v> {
    /// Appends the head to `out`. `frame_max` bounds the frame's `len`.
    pub fn begin(out: &'v mut Vec<u8>, frame_max: u32, key: ReplyKey, correlation_id: CorrelationId) -> Self {
        let frame = OpenFrame::begin(out, frame_max);
        frame.out.extend_from_slice(&FrameHeader::with(FrameKind::Reply, 0, correlation_id).to_bytes(0));
        put_key(frame.out, key);
        Self { frame }
    }

    /// Bytes the payload may still have.
    #[must_use]
    pub fn room(&self) -> usize {
        self.frame.room(0)
    }

    /// An encoder that appends to the payload, at most [`room`](Self::room) bytes.
    pub fn encoder(&mut self) -> Encoder<'_> {
        let room = self.room();
        Encoder::new(self.frame.out, room)
    }

    /// Completes the head and returns the bytes of the whole frame.
    ///
    /// # Errors
    /// [`WireRule::TooLong`] when the frame is over its limit; the buffer is as it was before the frame.
    pub fn finish(self) -> Result<usize, WireError> {
        self.frame.finish()
    }
}
