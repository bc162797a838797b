//! Frames of the handshake and of the control lane.

use alloc::boxed::Box;
use alloc::vec::Vec;

use nexus_actor_core::path::ActorUid;

use crate::wire::error::{WireError, WireRule};
use crate::wire::handshake::{Ack, Refuse, Request};
use crate::wire::header::{FrameHeader, FrameKind, RawFrame, put_frame};
use crate::wire::reader::Reader;
use crate::wire::reason::QuarantineReason;
use crate::wire::system::SystemMessage;

/// What the reader has taken of the ordinary lane, and what it will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledge {
    /// The session whose numbers these are; another session's acknowledgement is ignored.
    pub session: u64,
    /// The number expected next: everything below has been received.
    pub next: u64,
    /// Messages that may follow beyond `next`; [`Acknowledge::UNLIMITED`] for no bound.
    pub credit_messages: u32,
    /// Bytes that may follow beyond `next`; [`Acknowledge::UNLIMITED`] for no bound.
    pub credit_bytes: u32,
}

impl Acknowledge {
    /// Credit without a bound.
    pub const UNLIMITED: u32 = u32::MAX;
}

/// A frame of the handshake or of the control lane. It depends on no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlFrame {
    /// Opens a handshake.
    Request(Box<Request>),
    /// Completes a handshake.
    Ack(Box<Ack>),
    /// Refuses a handshake.
    Refuse(Box<Refuse>),
    /// Asks for a sign of life.
    Heartbeat {
        /// The sender's incarnation.
        uid: ActorUid,
        /// Counts the heartbeats of a connection.
        seq: u32,
    },
    /// Answers a heartbeat.
    HeartbeatReply {
        /// The sender's incarnation.
        uid: ActorUid,
        /// As in the heartbeat.
        seq: u32,
    },
    /// Acknowledges ordinary frames.
    Acknowledge(Acknowledge),
    /// Carries a system message.
    System {
        /// Its number in the session.
        seq: u64,
        /// The message.
        message: SystemMessage,
    },
    /// Acknowledges system messages.
    SystemAcknowledge {
        /// The session whose numbers these are.
        session: u64,
        /// The number expected next.
        next: u64,
    },
    /// The sender has ended the session for good.
    Quarantined {
        /// The reader's incarnation that this is about; another one ignores it.
        uid: ActorUid,
        /// Why.
        reason: QuarantineReason,
    },
    /// The sender leaves in order and sends nothing more on the ordinary lane.
    Leave {
        /// The sender's incarnation.
        uid: ActorUid,
    },
    /// Answers a leave.
    Left,
}

impl ControlFrame {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Request(_) => FrameKind::Request,
            Self::Ack(_) => FrameKind::Ack,
            Self::Refuse(_) => FrameKind::Refuse,
            Self::Heartbeat { .. } => FrameKind::Heartbeat,
            Self::HeartbeatReply { .. } => FrameKind::HeartbeatReply,
            Self::Acknowledge(_) => FrameKind::Acknowledge,
            Self::System { .. } => FrameKind::System,
            Self::SystemAcknowledge { .. } => FrameKind::SystemAcknowledge,
            Self::Quarantined { .. } => FrameKind::Quarantined,
            Self::Leave { .. } => FrameKind::Leave,
            Self::Left => FrameKind::Left,
        }
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let header = FrameHeader::of(self.kind());
        match self {
            Self::Request(request) => request.encode(out),
            Self::Ack(ack) => ack.encode(out),
            Self::Refuse(refuse) => refuse.encode(out),
            Self::Heartbeat { uid, seq } | Self::HeartbeatReply { uid, seq } => {
                put_frame(out, header, |out| {
                    out.extend_from_slice(&uid.get().to_le_bytes());
                    out.extend_from_slice(&seq.to_le_bytes());
                });
            }
            Self::Acknowledge(acknowledge) => put_frame(out, header, |out| {
                out.extend_from_slice(&acknowledge.session.to_le_bytes());
                out.extend_from_slice(&acknowledge.next.to_le_bytes());
                out.extend_from_slice(&acknowledge.credit_messages.to_le_bytes());
                out.extend_from_slice(&acknowledge.credit_bytes.to_le_bytes());
            }),
            Self::System { seq, message } => put_frame(out, header, |out| {
                out.extend_from_slice(&seq.to_le_bytes());
                message.put(out);
            }),
            Self::SystemAcknowledge { session, next } => put_frame(out, header, |out| {
                out.extend_from_slice(&session.to_le_bytes());
                out.extend_from_slice(&next.to_le_bytes());
            }),
            Self::Quarantined { uid, reason } => put_frame(out, header, |out| {
                out.extend_from_slice(&uid.get().to_le_bytes());
                out.push(reason.code());
            }),
            Self::Leave { uid } => {
                put_frame(out, header, |out| out.extend_from_slice(&uid.get().to_le_bytes()));
            }
            Self::Left => put_frame(out, header, |_| ()),
        }
    }

    /// Reads the frame in `raw`.
    ///
    /// # Errors
    /// When it is an ordinary frame, or its body breaks a rule: a protocol fault of the peer.
    pub fn decode(raw: RawFrame<'_>) -> Result<Self, WireError> {
        raw.check_flags(0)?;
        let mut reader = Reader::new(raw.body);
        let frame = match raw.header.kind {
            FrameKind::Request => return Request::decode_body(raw.body).map(|r| Self::Request(Box::new(r))),
            FrameKind::Ack => return Ack::decode_body(raw.body).map(|a| Self::Ack(Box::new(a))),
            FrameKind::Refuse => return Refuse::decode_body(raw.body).map(|r| Self::Refuse(Box::new(r))),
            FrameKind::Heartbeat => Self::Heartbeat {
                uid: ActorUid::new(reader.u64("heartbeat.uid")?),
                seq: reader.u32("heartbeat.seq")?,
            },
            FrameKind::HeartbeatReply => Self::HeartbeatReply {
                uid: ActorUid::new(reader.u64("heartbeat_reply.uid")?),
                seq: reader.u32("heartbeat_reply.seq")?,
            },
            FrameKind::Acknowledge => Self::Acknowledge(Acknowledge {
                session: reader.u64("acknowledge.session")?,
                next: reader.u64("acknowledge.next")?,
                credit_messages: reader.u32("acknowledge.credit_messages")?,
                credit_bytes: reader.u32("acknowledge.credit_bytes")?,
            }),
            FrameKind::System => {
                Self::System { seq: reader.u64("system.seq")?, message: SystemMessage::read(&mut reader)? }
            }
            FrameKind::SystemAcknowledge => Self::SystemAcknowledge {
                session: reader.u64("system_acknowledge.session")?,
                next: reader.u64("system_acknowledge.next")?,
            },
            FrameKind::Quarantined => Self::Quarantined {
                uid: ActorUid::new(reader.u64("quarantined.uid")?),
                // Whatever a later version's reason is, the peer has ended the session.
                reason: QuarantineReason::from_code(reader.u8("quarantined.reason")?)
                    .unwrap_or(QuarantineReason::ByPeer),
            },
            FrameKind::Leave => Self::Leave { uid: ActorUid::new(reader.u64("leave.uid")?) },
            FrameKind::Left => Self::Left,
            FrameKind::Envelope
            | FrameKind::Reply
            | FrameKind::ReplyFailed
            | FrameKind::DefineReference
            | FrameKind::DefineManifest
            | FrameKind::Lookup => return Err(WireError::new("frame.kind", WireRule::WrongLane)),
        };
        reader.finish("frame.body")?;
        Ok(frame)
    }
}
