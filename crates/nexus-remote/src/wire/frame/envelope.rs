//! Messages: how they are read, and how they are written in place.

use alloc::vec::Vec;

use nexus_actor_core::path::Address;
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::serialization::Encoder;
use nexus_actor_core::{CorrelationId, Headers};

use super::header_pairs::{HeaderPairs, put_headers};
use super::open_frame::OpenFrame;
use super::reply_key::{KEY_BYTES, put_key, read_key};
use crate::wire::error::{WireError, WireRule};
use crate::wire::handshake::NodeAddress;
use crate::wire::header::{FrameHeader, FrameKind, RawFrame, patch_length, put_frame};
use crate::wire::reader::Reader;
use crate::wire::{check, limit};

const REPLY_TO: u8 = 0x01;
const REPLY_TO_FOREIGN: u8 = 0x02;
const HEADERS: u8 = 0x04;

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

/// Room made for a frame before it is written: its head, and a payload of the usual size.
const PLAIN_RESERVE: usize = 64;

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
        // Word by word: an array that is put together from parts on the stack and then copied as a whole makes the
        // processor wait for the parts, which costs as much as the rest of the frame.
        let first = u64::from(FrameKind::Envelope.code()) << 32 | u64::from(manifest) << 48;
        let last = u64::from(correlation_id.lo) | u64::from(recipient) << 32;
        frame.out.reserve(PLAIN_RESERVE);
        frame.out.extend_from_slice(&first.to_le_bytes());
        frame.out.extend_from_slice(&correlation_id.hi.to_le_bytes());
        frame.out.extend_from_slice(&last.to_le_bytes());
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
