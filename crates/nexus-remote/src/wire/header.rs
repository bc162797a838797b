//! The preamble of a connection and the header of a frame.

use alloc::vec::Vec;

use nexus_actor_core::CorrelationId;

use super::error::{WireError, WireRule};
use super::{MAGIC, VERSIONS};

/// Bytes of the preamble.
pub const PREAMBLE_BYTES: usize = 16;

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionRange {
    /// The lowest version, at least 1.
    pub min: u16,
    /// The highest version.
    pub max: u16,
}

impl VersionRange {
    /// The highest version in both ranges.
    #[must_use]
    pub const fn agree(self, other: Self) -> Option<u16> {
        let max = if self.max < other.max { self.max } else { other.max };
        if max >= self.min && max >= other.min { Some(max) } else { None }
    }

    pub(crate) const fn check(self, field: &'static str) -> Result<Self, WireError> {
        if self.min == 0 {
            Err(WireError::new(field, WireRule::Zero))
        } else if self.min > self.max {
            Err(WireError::new(field, WireRule::Contradiction))
        } else {
            Ok(self)
        }
    }
}

impl core::fmt::Display for VersionRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}..={}", self.min, self.max)
    }
}

/// What each side sends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The versions the sender can speak.
    pub versions: VersionRange,
}

impl Preamble {
    /// The preamble of this build.
    pub const OURS: Self = Self { versions: VERSIONS };

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; PREAMBLE_BYTES] {
        let mut bytes = [0; PREAMBLE_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.versions.min.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.versions.max.to_le_bytes());
        bytes
    }

    /// Appends its bytes.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Opens a handshake.
    Request = 0x01,
    /// Completes a handshake.
    Ack = 0x02,
    /// Refuses a handshake.
    Refuse = 0x03,
    /// Asks for a sign of life.
    Heartbeat = 0x10,
    /// Answers a heartbeat.
    HeartbeatReply = 0x11,
    /// Acknowledges ordinary frames.
    Acknowledge = 0x12,
    /// Carries a system message.
    System = 0x13,
    /// Acknowledges system messages.
    SystemAcknowledge = 0x14,
    /// Ends the session with a reason.
    Quarantined = 0x15,
    /// The sender leaves in order.
    Leave = 0x16,
    /// Answers a leave: nothing more will be sent.
    Left = 0x17,
    /// A message.
    Envelope = 0x20,
    /// The answer to an ask or a lookup.
    Reply = 0x21,
    /// An ask or a lookup will not be answered.
    ReplyFailed = 0x22,
    /// Gives a recipient a number.
    DefineReference = 0x23,
    /// Gives a message type a number.
    DefineManifest = 0x24,
    /// Asks for the incarnation at a path.
    Lookup = 0x25,
}

/// Which queue a kind of frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Before anything else on a connection.
    Handshake,
    /// Never waits behind user traffic and never depends on tables.
    Control,
    /// Numbered by position: each frame takes the next number of the session.
    Ordinary,
}

impl FrameKind {
    /// Every kind, in the order of its code.
    pub const ALL: [Self; 17] = [
        Self::Request,
        Self::Ack,
        Self::Refuse,
        Self::Heartbeat,
        Self::HeartbeatReply,
        Self::Acknowledge,
        Self::System,
        Self::SystemAcknowledge,
        Self::Quarantined,
        Self::Leave,
        Self::Left,
        Self::Envelope,
        Self::Reply,
        Self::ReplyFailed,
        Self::DefineReference,
        Self::DefineManifest,
        Self::Lookup,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind with this number.
    #[must_use]
    #[inline]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x01 => Self::Request,
            0x02 => Self::Ack,
            0x03 => Self::Refuse,
            0x10 => Self::Heartbeat,
            0x11 => Self::HeartbeatReply,
            0x12 => Self::Acknowledge,
            0x13 => Self::System,
            0x14 => Self::SystemAcknowledge,
            0x15 => Self::Quarantined,
            0x16 => Self::Leave,
            0x17 => Self::Left,
            0x20 => Self::Envelope,
            0x21 => Self::Reply,
            0x22 => Self::ReplyFailed,
            0x23 => Self::DefineReference,
            0x24 => Self::DefineManifest,
            0x25 => Self::Lookup,
            _ => return None,
        })
    }

    /// Whether a reader that does not know the kind passes over the frame instead of closing.
    #[must_use]
    pub const fn is_skippable(code: u8) -> bool {
        code & 0x80 != 0
    }

    /// The lane of this kind.
    #[must_use]
    #[inline]
    pub const fn lane(self) -> Lane {
        match self as u8 {
            0x00..=0x0f => Lane::Handshake,
            0x10..=0x1f => Lane::Control,
            _ => Lane::Ordinary,
        }
    }
}

/// The fixed part of every frame, without its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is.
    pub kind: FrameKind,
    /// Flags of that kind; an unknown one is a fault.
    pub flags: u8,
    /// A number of that kind; kinds without one write 0 and ignore it.
    pub aux: u16,
    /// The id of the message, or nil.
    pub correlation_id: CorrelationId,
}

impl FrameHeader {
    /// Bytes of the header on the wire, the length field included.
    pub const BYTES: usize = 20;

    /// What the length field says of a frame without a body.
    pub const LENGTH_MIN: u32 = 16;

    /// A header without flags, number and id.
    #[must_use]
    pub const fn of(kind: FrameKind) -> Self {
        Self { kind, flags: 0, aux: 0, correlation_id: CorrelationId::NIL }
    }

    pub(crate) const fn with(kind: FrameKind, aux: u16, correlation_id: CorrelationId) -> Self {
        Self { kind, flags: 0, aux, correlation_id }
    }

    #[inline]
    pub(crate) fn to_bytes(self, length: u32) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = self.kind.code();
        bytes[5] = self.flags;
        bytes[6..8].copy_from_slice(&self.aux.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.correlation_id.hi.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.correlation_id.lo.to_le_bytes());
        bytes
    }
}

/// A complete frame whose body has not been looked at.
#[derive(Clone, Copy, Debug)]
pub struct RawFrame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// Its body, borrowed from the read buffer.
    pub body: &'a [u8],
}

impl<'a> RawFrame<'a> {
    /// Reads exactly one frame from `bytes`.
    ///
    /// A stream is read with [`FrameReader`](super::FrameReader); this is for bytes that are known to be one frame.
    ///
    /// # Errors
    /// When `bytes` are not one whole frame of a known kind.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (head, body) = bytes
            .split_first_chunk::<{ FrameHeader::BYTES }>()
            .ok_or(WireError::new("frame.len", WireRule::Truncated))?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        if u32::try_from(bytes.len() - 4) != Ok(length) {
            return Err(WireError::new("frame.len", WireRule::LengthMismatch));
        }
        let header = parse_header(head)?;
        Ok(Self { header, body })
    }

    /// Bytes of the whole frame on the wire.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        FrameHeader::BYTES + self.body.len()
    }

    /// Says that the frame has no flags beyond `known`.
    pub(crate) const fn check_flags(&self, known: u8) -> Result<(), WireError> {
        let unknown = self.header.flags & !known;
        if unknown == 0 {
            Ok(())
        } else {
            Err(WireError::new("frame.flags", WireRule::Unknown { value: unknown as u32 }))
        }
    }
}

/// The bytes of a header at the front of `bytes`.
#[inline]
pub(crate) fn split_header(bytes: &[u8]) -> Option<&[u8; FrameHeader::BYTES]> {
    bytes.first_chunk()
}

/// The header in `head`; its length field is not looked at.
#[inline]
pub(crate) const fn parse_header(head: &[u8; FrameHeader::BYTES]) -> Result<FrameHeader, WireError> {
    let Some(kind) = FrameKind::from_code(head[4]) else {
        return Err(WireError::new("frame.kind", WireRule::Unknown { value: head[4] as u32 }));
    };
    let hi =
        u64::from_le_bytes([head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15]]);
    let lo = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
    Ok(FrameHeader {
        kind,
        flags: head[5],
        aux: u16::from_le_bytes([head[6], head[7]]),
        correlation_id: CorrelationId::new(hi, lo),
    })
}

/// Appends a frame whose body `write` appends, and patches its length.
pub(crate) fn put_frame(out: &mut Vec<u8>, header: FrameHeader, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&header.to_bytes(0));
    write(out);
    patch_length(out, start);
}

pub(crate) fn patch_length(out: &mut [u8], start: usize) {
    let length = out.len() - start - 4;
    debug_assert!(u32::try_from(length).is_ok());
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
}

/// Appends a text behind a length of one byte. Its type has checked that it fits.
pub(crate) fn put_text8(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= usize::from(u8::MAX));
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a text behind a length of two bytes. Its type has checked that it fits.
pub(crate) fn put_text16(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lead_back_to_their_kinds_and_are_never_skippable() {
        for code in 0..=u8::MAX {
            if let Some(kind) = FrameKind::from_code(code) {
                assert_eq!(kind.code(), code);
                assert!(!FrameKind::is_skippable(code));
            }
        }
        for kind in FrameKind::ALL {
            assert_eq!(FrameKind::from_code(kind.code()), Some(kind));
        }
    }

    #[test]
    fn two_ranges_agree_on_the_highest_version_of_both() {
        let range = |min, max| VersionRange { min, max };
        for (a, b, expected) in [
            (range(1, 1), range(1, 1), Some(1)),
            (range(1, 3), range(2, 5), Some(3)),
            (range(1, 9), range(2, 5), Some(5)),
            (range(1, 1), range(2, 2), None),
            (range(3, 4), range(1, 2), None),
        ] {
            assert_eq!(a.agree(b), expected, "{a} {b}");
            assert_eq!(b.agree(a), expected, "{b} {a}");
        }
    }
}
