//! The typed frames of the control lane and of the ordinary lane.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use nexus_actor_core::path::{ActorUid, Address};
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::serialization::{Encoder, SerializerId};
use nexus_actor_core::{AskError, CorrelationId, Headers};

use super::error::{WireError, WireRule};
use super::handshake::{Ack, NodeAddress, Refuse, Request};
use super::header::{FrameHeader, FrameKind, RawFrame, patch_length, put_frame, put_text16};
use super::reader::Reader;
use super::reason::QuarantineReason;
use super::system::{SystemMessage, WirePath};
use super::{check, limit};

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

// Envelope

const REPLY_TO: u8 = 0x01;
const REPLY_TO_FOREIGN: u8 = 0x02;
const HEADERS: u8 = 0x04;
const KEY_BYTES: usize = 12;

fn put_key(out: &mut Vec<u8>, key: ReplyKey) {
    out.extend_from_slice(&key.secret.to_le_bytes());
    out.extend_from_slice(&key.slot.to_le_bytes());
}

const fn read_key(field: &'static str, reader: &mut Reader<'_>) -> Result<ReplyKey, WireError> {
    let secret = match reader.u64(field) {
        Ok(secret) => secret,
        Err(error) => return Err(error),
    };
    match reader.u32(field) {
        Ok(slot) => Ok(ReplyKey { secret, slot }),
        Err(error) => Err(error),
    }
}

/// Where the answer to an envelope goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeReply<'a> {
    key: ReplyKey,
    foreign: Option<&'a str>,
}

impl<'a> EnvelopeReply<'a> {
    /// To the node that sends the envelope.
    #[must_use]
    pub const fn to_sender(key: ReplyKey) -> Self {
        Self { key, foreign: None }
    }

    /// To a third node, at `address` (`fraktor.tcp://system@host:port`).
    ///
    /// # Errors
    /// When the address is empty, longer than 352 bytes or holds a control character.
    pub fn to_foreign(key: ReplyKey, address: &'a str) -> Result<Self, WireError> {
        check::name("envelope.reply_to", address, limit::ADDRESS)?;
        Ok(Self { key, foreign: Some(address) })
    }

    /// The ask at the asker's node.
    #[must_use]
    pub const fn key(&self) -> ReplyKey {
        self.key
    }

    /// The address of the third node, as it was sent; `None` when the sender asked.
    #[must_use]
    pub const fn foreign(&self) -> Option<&'a str> {
        self.foreign
    }

    /// The address of the third node, parsed; `None` when the sender asked.
    ///
    /// # Errors
    /// [`WireRule::NotAnAddress`], or a part of it breaks a limit; the envelope may still be delivered, its answer has nowhere to go.
    pub fn foreign_address(&self) -> Result<Option<Address>, WireError> {
        let Some(text) = self.foreign else { return Ok(None) };
        let fault = WireError::new("envelope.reply_to", WireRule::NotAnAddress);
        let address: Address = text.parse().map_err(|_| fault)?;
        // An address without an authority is one inside a process.
        if address.authority.is_none() {
            return Err(fault);
        }
        NodeAddress::of(&address)?;
        Ok(Some(address))
    }

    const fn trailer_bytes(&self) -> usize {
        KEY_BYTES
            + match self.foreign {
                Some(address) => address.len() + 2,
                None => 0,
            }
    }
}

/// The headers of an envelope, checked but not copied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeaderPairs<'a> {
    pairs: &'a [u8],
    count: u8,
}

impl<'a> HeaderPairs<'a> {
    /// Checks every pair, so that going through them later cannot fail.
    fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        const FIELD: &str = "envelope.headers";
        let total = usize::from(reader.u16(FIELD)?);
        if total > limit::HEADERS {
            return Err(WireError::new(FIELD, WireRule::TooLong { length: total, limit: limit::HEADERS }));
        }
        let mut inner = Reader::new(reader.bytes(FIELD, total)?);
        let count = inner.u8(FIELD)?;
        if usize::from(count) > limit::HEADER_PAIRS {
            return Err(WireError::new(
                FIELD,
                WireRule::TooMany { count: usize::from(count), limit: limit::HEADER_PAIRS },
            ));
        }
        let pairs = inner.clone().rest();
        for _ in 0..count {
            inner.text8(FIELD, limit::HEADER_NAME)?;
            inner.text16(FIELD, limit::HEADERS)?;
        }
        if !inner.is_empty() {
            return Err(WireError::new(FIELD, WireRule::LengthMismatch));
        }
        Ok(Self { pairs, count })
    }

    /// How many pairs there are, at most 64.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Names and values in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut reader = Reader::new(self.pairs);
        core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            // `read` has gone through the same bytes: neither can fail here.
            Some((reader.text8("", limit::HEADER_NAME).ok()?, reader.text16("", limit::HEADERS).ok()?))
        })
    }

    /// A copy that outlives the read buffer. Of two pairs with one name the later value holds.
    #[must_use]
    pub fn to_headers(&self) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in self.iter() {
            headers.set(name, value);
        }
        headers
    }
}

impl core::fmt::Debug for HeaderPairs<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Appends `headers` behind their length.
fn put_headers(out: &mut Vec<u8>, headers: &Headers) -> Result<(), WireError> {
    const FIELD: &str = "envelope.headers";
    if headers.len() > limit::HEADER_PAIRS {
        let (count, limit) = (headers.len(), limit::HEADER_PAIRS);
        return Err(WireError::new(FIELD, WireRule::TooMany { count, limit }));
    }
    let mut length = 1;
    for (name, value) in headers.iter() {
        if name.len() > limit::HEADER_NAME {
            let rule = WireRule::TooLong { length: name.len(), limit: limit::HEADER_NAME };
            return Err(WireError::new(FIELD, rule));
        }
        length += 3 + name.len() + value.len();
    }
    if length > limit::HEADERS {
        return Err(WireError::new(FIELD, WireRule::TooLong { length, limit: limit::HEADERS }));
    }
    out.extend_from_slice(&(length as u16).to_le_bytes());
    out.push(headers.len() as u8);
    for (name, value) in headers.iter() {
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        put_text16(out, value);
    }
    Ok(())
}

/// A message on its way, borrowed from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The recipient's number in the session's table of references.
    pub recipient: u32,
    /// The type's number in the session's table of manifests.
    pub manifest: u16,
    /// Leads from the sender's record of the message to the reader's.
    pub correlation_id: CorrelationId,
    /// Where the answer goes, if one is awaited.
    pub reply_to: Option<EnvelopeReply<'a>>,
    /// What travels beside the message.
    pub headers: Option<HeaderPairs<'a>>,
    /// The message as its serializer wrote it.
    pub payload: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads the envelope in `raw`. Allocates nothing.
    ///
    /// # Errors
    /// When the body breaks a rule.
    #[inline]
    pub fn decode(raw: RawFrame<'a>) -> Result<Self, WireError> {
        let mut reader = Reader::new(raw.body);
        let recipient = reader.u32("envelope.recipient")?;
        let (mut reply_to, mut headers) = (None, None);
        if raw.header.flags != 0 {
            (headers, reply_to) = Self::decode_options(&raw, &mut reader)?;
        }
        Ok(Self {
            recipient,
            manifest: raw.header.aux,
            correlation_id: raw.header.correlation_id,
            reply_to,
            headers,
            payload: reader.rest(),
        })
    }

    #[allow(clippy::type_complexity)]
    fn decode_options(
        raw: &RawFrame<'a>,
        reader: &mut Reader<'a>,
    ) -> Result<(Option<HeaderPairs<'a>>, Option<EnvelopeReply<'a>>), WireError> {
        raw.check_flags(REPLY_TO | REPLY_TO_FOREIGN | HEADERS)?;
        let flags = raw.header.flags;
        let headers = if flags & HEADERS != 0 { Some(HeaderPairs::read(reader)?) } else { None };
        const FIELD: &str = "envelope.reply_to";
        let reply_to = match flags & (REPLY_TO | REPLY_TO_FOREIGN) {
            0 => None,
            REPLY_TO => {
                let mut trailer = Reader::new(reader.bytes_back(FIELD, KEY_BYTES)?);
                Some(EnvelopeReply::to_sender(read_key(FIELD, &mut trailer)?))
            }
            REPLY_TO_FOREIGN => {
                let length = usize::from(Reader::new(reader.bytes_back(FIELD, 2)?).u16(FIELD)?);
                if length > limit::ADDRESS {
                    let rule = WireRule::TooLong { length, limit: limit::ADDRESS };
                    return Err(WireError::new(FIELD, rule));
                }
                let mut trailer = Reader::new(reader.bytes_back(FIELD, KEY_BYTES + length)?);
                let key = read_key(FIELD, &mut trailer)?;
                Some(EnvelopeReply::to_foreign(key, trailer.text(FIELD, length, limit::ADDRESS)?)?)
            }
            _ => return Err(WireError::new("frame.flags", WireRule::Contradiction)),
        };
        Ok((headers, reply_to))
    }

    /// Appends the whole frame to `out`, of any length. A lane writes with [`EnvelopeWriter`] instead, which
    /// keeps the limit and lets the payload be encoded in place.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut header = FrameHeader::with(FrameKind::Envelope, self.manifest, self.correlation_id);
        if self.headers.is_some() {
            header.flags |= HEADERS;
        }
        if let Some(reply_to) = &self.reply_to {
            header.flags |= flag_of(reply_to);
        }
        put_frame(out, header, |out| {
            out.extend_from_slice(&self.recipient.to_le_bytes());
            if let Some(headers) = &self.headers {
                out.extend_from_slice(&(headers.pairs.len() as u16 + 1).to_le_bytes());
                out.push(headers.count);
                out.extend_from_slice(headers.pairs);
            }
            out.extend_from_slice(self.payload);
            if let Some(reply_to) = &self.reply_to {
                put_reply_to(out, reply_to);
            }
        });
    }
}

const fn flag_of(reply_to: &EnvelopeReply<'_>) -> u8 {
    if reply_to.foreign.is_some() { REPLY_TO_FOREIGN } else { REPLY_TO }
}

fn put_reply_to(out: &mut Vec<u8>, reply_to: &EnvelopeReply<'_>) {
    put_key(out, reply_to.key);
    if let Some(address) = reply_to.foreign {
        out.extend_from_slice(address.as_bytes());
        out.extend_from_slice(&(address.len() as u16).to_le_bytes());
    }
}

/// A frame that has been begun in a buffer. Unless it is finished, its bytes are taken back when this is dropped:
/// on an error, on a refusal and on a panic of the code that encodes.
#[derive(Debug)]
struct OpenFrame<'v> {
    out: &'v mut Vec<u8>,
    start: usize,
    frame_max: u32,
    finished: bool,
}

impl<'v> OpenFrame<'v> {
    const fn begin(out: &'v mut Vec<u8>, frame_max: u32) -> Self {
        let start = out.len();
        Self { out, start, frame_max, finished: false }
    }

    /// Bytes the frame may still grow, `reserved` set aside.
    fn room(&self, reserved: usize) -> usize {
        let taken = (self.out.len() - self.start).saturating_sub(4) + reserved;
        usize::try_from(self.frame_max).unwrap_or(usize::MAX).saturating_sub(taken)
    }

    fn finish(mut self) -> Result<usize, WireError> {
        let total = self.out.len() - self.start;
        let limit = usize::try_from(self.frame_max).unwrap_or(usize::MAX);
        if total - 4 > limit {
            return Err(WireError::new("frame.len", WireRule::TooLong { length: total - 4, limit }));
        }
        patch_length(self.out, self.start);
        self.finished = true;
        Ok(total)
    }
}

impl Drop for OpenFrame<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.out.truncate(self.start);
        }
    }
}

/// Writes one envelope into a lane's buffer: the head first, then the caller encodes the payload in place, then
/// [`finish`](Self::finish). Dropping it earlier takes everything back. Nothing is allocated besides what the
/// buffer itself needs to grow.
#[derive(Debug)]
pub struct EnvelopeWriter<'v> {
    frame: OpenFrame<'v>,
}

impl<'v> EnvelopeWriter<'v> {
    /// Appends the 24 bytes of the head and the headers to `out`. `frame_max` bounds the frame's `len`.
    ///
    /// # Errors
    /// When the headers are over a limit (64 pairs, 8 KiB, 255 bytes a name); `out` is as it was.
    #[inline]
    pub fn begin(
        out: &'v mut Vec<u8>,
        frame_max: u32,
        recipient: u32,
        manifest: u16,
        correlation_id: CorrelationId,
        headers: Option<&Headers>,
    ) -> Result<Self, WireError> {
        let frame = OpenFrame::begin(out, frame_max);
        let mut header = FrameHeader::with(FrameKind::Envelope, manifest, correlation_id);
        let headers = headers.filter(|h| !h.is_empty());
        if headers.is_some() {
            header.flags = HEADERS;
        }
        let mut head = [0; FrameHeader::BYTES + 4];
        head[..FrameHeader::BYTES].copy_from_slice(&header.to_bytes(0));
        head[FrameHeader::BYTES..].copy_from_slice(&recipient.to_le_bytes());
        frame.out.extend_from_slice(&head);
        if let Some(headers) = headers {
            put_headers(frame.out, headers)?;
        }
        Ok(Self { frame })
    }

    /// [`begin`](Self::begin) without headers, which cannot fail.
    #[inline]
    #[must_use]
    pub fn begin_plain(
        out: &'v mut Vec<u8>,
        frame_max: u32,
        recipient: u32,
        manifest: u16,
        correlation_id: CorrelationId,
    ) -> Self {
        let frame = OpenFrame::begin(out, frame_max);
        let mut head = [0; FrameHeader::BYTES + 4];
        head[4] = FrameKind::Envelope.code();
        head[6..8].copy_from_slice(&manifest.to_le_bytes());
        head[8..16].copy_from_slice(&correlation_id.hi.to_le_bytes());
        head[16..20].copy_from_slice(&correlation_id.lo.to_le_bytes());
        head[20..24].copy_from_slice(&recipient.to_le_bytes());
        frame.out.extend_from_slice(&head);
        Self { frame }
    }

    /// Completes an envelope without `reply_to` whose payload kept to [`room`](Self::room), and returns the bytes
    /// of the whole frame.
    #[inline]
    #[must_use]
    pub fn finish_plain(self) -> usize {
        let Self { mut frame } = self;
        let total = frame.out.len() - frame.start;
        patch_length(frame.out, frame.start);
        frame.finished = true;
        total
    }

    /// Bytes the payload may still have, such that any `reply_to` fits behind it.
    #[must_use]
    pub fn room(&self) -> usize {
        self.frame.room(KEY_BYTES + limit::ADDRESS + 2)
    }

    /// An encoder that appends to the payload, at most [`room`](Self::room) bytes.
    #[inline]
    pub fn encoder(&mut self) -> Encoder<'_> {
        let room = self.room();
        Encoder::new(self.frame.out, room)
    }

    /// Appends bytes that are the payload already; [`finish`](Self::finish) finds out whether they fit.
    pub(crate) fn put(&mut self, payload: &[u8]) {
        self.frame.out.extend_from_slice(payload);
    }

    /// Appends `reply_to`, completes the head and returns the bytes of the whole frame.
    ///
    /// # Errors
    /// [`WireRule::TooLong`] when the frame is over its limit, which cannot be if the payload kept to
    /// [`room`](Self::room) and the head fitted; the buffer is as it was before the frame.
    #[inline]
    pub fn finish(self, reply_to: Option<EnvelopeReply<'_>>) -> Result<usize, WireError> {
        let Self { frame } = self;
        if let Some(reply_to) = &reply_to {
            frame.out.reserve(reply_to.trailer_bytes());
            frame.out[frame.start + 5] |= flag_of(reply_to);
            put_reply_to(frame.out, reply_to);
        }
        frame.finish()
    }
}

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
    /// In place of an ordinary frame that could not be read: it takes that frame's number.
    pub(crate) const fn nothing() -> Self {
        Self { key: ReplyKey { secret: 0, slot: 0 }, correlation_id: CorrelationId::NIL, payload: &[] }
    }

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

/// Writes one reply into a lane's buffer; the counterpart of [`EnvelopeWriter`].
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

/// An ask or a lookup will not be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyFailed {
    /// What is not answered.
    pub key: ReplyKey,
    /// The id of the question.
    pub correlation_id: CorrelationId,
    /// Why. Its text is cut to 1,024 bytes when it is written.
    pub error: AskError,
}

impl ReplyFailed {
    /// Reads the frame in `raw`.
    ///
    /// # Errors
    /// When the body breaks a rule. A code of a later version is no fault: the asker is told that it was one.
    pub fn decode(raw: RawFrame<'_>) -> Result<Self, WireError> {
        raw.check_flags(0)?;
        let mut reader = Reader::new(raw.body);
        let key = read_key("reply_failed.key", &mut reader)?;
        let code = reader.u8("reply_failed.code")?;
        let numbers = [reader.u64("reply_failed.numbers")?, reader.u64("reply_failed.numbers")?];
        let text = reader.text16("reply_failed.text", limit::TEXT)?;
        reader.finish("reply_failed")?;
        let error = ask_error(code, numbers, text);
        Ok(Self { key, correlation_id: raw.header.correlation_id, error })
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (code, numbers, text) = ask_error_code(&self.error);
        put_frame(out, FrameHeader::with(FrameKind::ReplyFailed, 0, self.correlation_id), |out| {
            put_key(out, self.key);
            out.push(code);
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
            put_text16(out, check::cut(text, limit::TEXT));
        });
    }
}

fn ask_error_code(error: &AskError) -> (u8, [u64; 2], &str) {
    match error {
        AskError::Timeout { after } => (1, [after.as_secs(), u64::from(after.subsec_nanos())], ""),
        AskError::Full => (2, [0; 2], ""),
        AskError::Stopped => (3, [0; 2], ""),
        AskError::NoSuchActor => (4, [0; 2], ""),
        AskError::NoReply => (5, [0; 2], ""),
        AskError::Unreachable => (6, [0; 2], ""),
        AskError::Quarantined => (7, [0; 2], ""),
        AskError::Blocked => (8, [0; 2], ""),
        AskError::Decode(why) => (9, [0; 2], why),
        AskError::Encode(why) => (10, [0; 2], why),
        AskError::TooLarge { size, limit } => (11, [*size as u64, *limit as u64], ""),
        AskError::Denied => (12, [0; 2], ""),
        AskError::Suspended => (13, [0; 2], ""),
        AskError::Shutdown => (14, [0; 2], ""),
        // The core's list is open; what it gains later is told in the closest word there is.
        _ => (6, [0; 2], ""),
    }
}

fn ask_error(code: u8, [first, second]: [u64; 2], text: &str) -> AskError {
    let size = |n| usize::try_from(n).unwrap_or(usize::MAX);
    match code {
        1 => AskError::Timeout {
            // A carry from the peer's nanoseconds would overflow, and a panic is no answer.
            after: Duration::new(first, second.min(999_999_999) as u32),
        },
        2 => AskError::Full,
        3 => AskError::Stopped,
        4 => AskError::NoSuchActor,
        5 => AskError::NoReply,
        6 => AskError::Unreachable,
        7 => AskError::Quarantined,
        8 => AskError::Blocked,
        9 => AskError::Decode(text.to_string()),
        10 => AskError::Encode(text.to_string()),
        11 => AskError::TooLarge { size: size(first), limit: size(second) },
        12 => AskError::Denied,
        13 => AskError::Suspended,
        14 => AskError::Shutdown,
        other => AskError::Decode(later_code(other, text)),
    }
}

#[cold]
fn later_code(code: u8, text: &str) -> String {
    format!("failure code {code} of a later version: {text}")
}

/// Gives a recipient a number, before its first use in the same lane. A number defined again means the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefineReference<'a> {
    id: u32,
    uid: ActorUid,
    path: &'a str,
}

impl<'a> DefineReference<'a> {
    /// From now on `id` means the incarnation `uid` at `path` (`/user/a`), or whoever lives there.
    ///
    /// # Errors
    /// When `path` breaks the rules of a [`WirePath`](super::WirePath).
    pub fn new(id: u32, uid: ActorUid, path: &'a str) -> Result<Self, WireError> {
        check::path("define_reference.path", path)?;
        Ok(Self { id, uid, path })
    }

    /// From now on `id` means the incarnation `uid` at `path`, or whoever lives there.
    #[must_use]
    pub fn of(id: u32, uid: ActorUid, path: &'a WirePath) -> Self {
        Self { id, uid, path: path.as_str() }
    }

    /// The path as a value of its own.
    #[must_use]
    pub fn wire_path(&self) -> WirePath {
        WirePath::checked(self.path)
    }

    /// The number.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The incarnation, or [`ActorUid::ANY`].
    #[must_use]
    pub const fn uid(&self) -> ActorUid {
        self.uid
    }

    /// The path below the reader's root.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// Reads the frame in `raw`.
    ///
    /// # Errors
    /// When the body breaks a rule.
    pub fn decode(raw: RawFrame<'a>) -> Result<Self, WireError> {
        raw.check_flags(0)?;
        let mut reader = Reader::new(raw.body);
        let id = reader.u32("define_reference.id")?;
        let uid = ActorUid::new(reader.u64("define_reference.uid")?);
        let path = reader.text16("define_reference.path", limit::PATH)?;
        reader.finish("define_reference")?;
        Self::new(id, uid, path)
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, FrameHeader::of(FrameKind::DefineReference), |out| {
            out.extend_from_slice(&self.id.to_le_bytes());
            out.extend_from_slice(&self.uid.get().to_le_bytes());
            put_text16(out, self.path);
        });
    }
}

/// Gives a message type a number, before its first use in the same lane. A number defined again means the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefineManifest<'a> {
    id: u16,
    serializer: SerializerId,
    name: &'a str,
}

impl<'a> DefineManifest<'a> {
    /// From now on `id` means the type `name`, written by `serializer`.
    ///
    /// # Errors
    /// When `name` is empty, longer than 256 bytes or holds a control character.
    pub fn new(id: u16, serializer: SerializerId, name: &'a str) -> Result<Self, WireError> {
        check::name("define_manifest.name", name, limit::MANIFEST)?;
        Ok(Self { id, serializer, name })
    }

    /// The number.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// What writes the payloads.
    #[must_use]
    pub const fn serializer(&self) -> SerializerId {
        self.serializer
    }

    /// The type's manifest.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// Reads the frame in `raw`.
    ///
    /// # Errors
    /// When the body breaks a rule.
    pub fn decode(raw: RawFrame<'a>) -> Result<Self, WireError> {
        raw.check_flags(0)?;
        let mut reader = Reader::new(raw.body);
        let id = reader.u16("define_manifest.id")?;
        let serializer = SerializerId(reader.u16("define_manifest.serializer")?);
        let name = reader.text16("define_manifest.name", limit::MANIFEST)?;
        reader.finish("define_manifest")?;
        Self::new(id, serializer, name)
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, FrameHeader::of(FrameKind::DefineManifest), |out| {
            out.extend_from_slice(&self.id.to_le_bytes());
            out.extend_from_slice(&self.serializer.0.to_le_bytes());
            put_text16(out, self.name);
        });
    }
}

/// Asks for the incarnation that lives at a path. Answered by a [`Reply`] with its uid, or a [`ReplyFailed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup<'a> {
    key: ReplyKey,
    correlation_id: CorrelationId,
    manifest: &'a str,
    path: &'a str,
}

impl<'a> Lookup<'a> {
    /// Who lives at `path` (`/user/a`) and takes messages of the type `manifest`?
    ///
    /// # Errors
    /// When `path` or `manifest` breaks its rules.
    pub fn new(
        key: ReplyKey,
        correlation_id: CorrelationId,
        manifest: &'a str,
        path: &'a str,
    ) -> Result<Self, WireError> {
        check::name("lookup.manifest", manifest, limit::MANIFEST)?;
        check::path("lookup.path", path)?;
        Ok(Self { key, correlation_id, manifest, path })
    }

    /// Names the question.
    #[must_use]
    pub const fn key(&self) -> ReplyKey {
        self.key
    }

    /// The id of the question.
    #[must_use]
    pub const fn correlation_id(&self) -> CorrelationId {
        self.correlation_id
    }

    /// The type the asker would send.
    #[must_use]
    pub const fn manifest(&self) -> &'a str {
        self.manifest
    }

    /// The path below the reader's root.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// Reads the frame in `raw`.
    ///
    /// # Errors
    /// When the body breaks a rule.
    pub fn decode(raw: RawFrame<'a>) -> Result<Self, WireError> {
        raw.check_flags(0)?;
        let mut reader = Reader::new(raw.body);
        let key = read_key("lookup.key", &mut reader)?;
        let manifest = reader.text16("lookup.manifest", limit::MANIFEST)?;
        let path = reader.text16("lookup.path", limit::PATH)?;
        reader.finish("lookup")?;
        Self::new(key, raw.header.correlation_id, manifest, path)
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, FrameHeader::with(FrameKind::Lookup, 0, self.correlation_id), |out| {
            put_key(out, self.key);
            put_text16(out, self.manifest);
            put_text16(out, self.path);
        });
    }
}
