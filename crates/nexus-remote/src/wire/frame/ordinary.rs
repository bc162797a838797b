//! Any frame of the ordinary lane.

use alloc::vec::Vec;

use super::{DefineManifest, DefineReference, Envelope, Lookup, Reply, ReplyFailed};
use crate::wire::error::{WireError, WireRule};
use crate::wire::header::{FrameKind, RawFrame};

/// A frame of the ordinary lane, borrowed from the read buffer.
///
/// Each takes the next number of the session, also one that breaks a rule inside its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrdinaryFrame<'a> {
    /// A message.
    Envelope(Envelope<'a>),
    /// The answer to an ask or a lookup.
    Reply(Reply<'a>),
    /// An ask or a lookup will not be answered.
    ReplyFailed(ReplyFailed),
    /// Gives a recipient a number.
    DefineReference(DefineReference<'a>),
    /// Gives a message type a number.
    DefineManifest(DefineManifest<'a>),
    /// Asks for the incarnation at a path.
    Lookup(Lookup<'a>),
}

impl<'a> OrdinaryFrame<'a> {
    /// Reads the frame in `raw`; only a [`ReplyFailed`] with a text allocates.
    ///
    /// # Errors
    /// When it is a control frame, or its body breaks a rule. The framing is intact and the frame has its number:
    /// the reader records that one frame (reason *decode*) and goes on with the next.
    #[inline]
    pub fn decode(raw: RawFrame<'a>) -> Result<Self, WireError> {
        match raw.header.kind {
            FrameKind::Envelope => Envelope::decode(raw).map(Self::Envelope),
            FrameKind::Reply => Reply::decode(raw).map(Self::Reply),
            FrameKind::ReplyFailed => ReplyFailed::decode(raw).map(Self::ReplyFailed),
            FrameKind::DefineReference => DefineReference::decode(raw).map(Self::DefineReference),
            FrameKind::DefineManifest => DefineManifest::decode(raw).map(Self::DefineManifest),
            FrameKind::Lookup => Lookup::decode(raw).map(Self::Lookup),
            FrameKind::Request
            | FrameKind::Ack
            | FrameKind::Refuse
            | FrameKind::Heartbeat
            | FrameKind::HeartbeatReply
            | FrameKind::Acknowledge
            | FrameKind::System
            | FrameKind::SystemAcknowledge
            | FrameKind::Quarantined
            | FrameKind::Leave
            | FrameKind::Left => Err(WireError::new("frame.kind", WireRule::WrongLane)),
        }
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Envelope(frame) => frame.encode(out),
            Self::Reply(frame) => frame.encode(out),
            Self::ReplyFailed(frame) => frame.encode(out),
            Self::DefineReference(frame) => frame.encode(out),
            Self::DefineManifest(frame) => frame.encode(out),
            Self::Lookup(frame) => frame.encode(out),
        }
    }
}
