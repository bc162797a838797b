//! Cuts a byte stream into frames, in the buffer it was read into.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::header::{FrameHeader, FrameKind, Lane, PREAMBLE_BYTES, Preamble, RawFrame, VersionRange};
use super::header::{parse_header, split_header};
use super::reason::QuarantineReason;
use super::{MAGIC, limit};

/// The stream breaks the protocol. Nothing more can be read from this connection; others are not concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// The first bytes are not ours: another protocol, or TLS meets plain.
    NotOurs {
        /// Which byte of the stream.
        position: u8,
        /// What it is.
        found: u8,
    },
    /// The peer's range of versions is empty or begins at 0.
    Versions(VersionRange),
    /// A frame claims more bytes than the limit.
    FrameTooLong {
        /// What its length field says.
        length: u32,
        /// The limit.
        limit: u32,
    },
    /// A frame claims fewer bytes than its header has.
    FrameTooShort {
        /// What its length field says.
        length: u32,
    },
    /// The handshake takes more bytes than allowed.
    HandshakeTooLong {
        /// How many it would take.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Something else than a handshake before the handshake is complete.
    BeforeHandshake {
        /// The kind of the frame.
        kind: u8,
    },
    /// A kind that this version does not know and must not pass over.
    UnknownKind {
        /// The kind.
        kind: u8,
    },
}

impl StreamError {
    /// The reason under which the session ends, where there is one.
    #[must_use]
    pub const fn reason(&self) -> QuarantineReason {
        match self {
            Self::FrameTooLong { .. } => QuarantineReason::FrameTooLong,
            Self::NotOurs { .. }
            | Self::Versions(_)
            | Self::FrameTooShort { .. }
            | Self::HandshakeTooLong { .. }
            | Self::BeforeHandshake { .. }
            | Self::UnknownKind { .. } => QuarantineReason::ProtocolFault,
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs { position, found } => {
                write!(f, "not our protocol: byte {position} is {found:#04x}, expected {:#04x}", {
                    MAGIC.get(usize::from(*position)).copied().unwrap_or_default()
                })
            }
            Self::Versions(range) => write!(f, "no range of versions: {range}"),
            Self::FrameTooLong { length, limit } => {
                write!(f, "frame too long: {length} bytes, the limit is {limit}")
            }
            Self::FrameTooShort { length } => {
                write!(f, "frame too short: {length} bytes, a header has {}", FrameHeader::LENGTH_MIN)
            }
            Self::HandshakeTooLong { length, limit } => {
                write!(f, "handshake too long: {length} bytes, the limit is {limit}")
            }
            Self::BeforeHandshake { kind } => write!(f, "frame kind {kind:#04x} before the handshake"),
            Self::UnknownKind { kind } => write!(f, "unknown frame kind {kind:#04x}"),
        }
    }
}

impl core::error::Error for StreamError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Preamble,
    Handshake,
    Established,
}

/// Reads one direction of one connection: preamble, handshake, frames.
///
/// The driver reads into [`spare`](Self::spare), tells how much with [`received`](Self::received), then takes frames
/// with [`next_frame`](Self::next_frame) until there is none. Frames are borrowed from the buffer, never copied;
/// only the unfinished one at the end moves, and only when the room behind it runs out.
///
/// The buffer is never larger than what waits in it and 64 KiB (limit L8), whatever lengths are claimed; before the
/// handshake is complete never larger than 4 KiB (L2, L5). It is small until a read has filled it, and again after
/// [`release`](Self::release): a connection that carries heartbeats and little else takes no more.
#[derive(Debug)]
pub struct FrameReader {
    /// All of it is initialized, so that reading into it needs no `unsafe`; `start..end` holds bytes.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    stage: Stage,
    frame_max: u32,
    /// Bytes taken out before the handshake was complete.
    taken: usize,
    preamble: Option<Preamble>,
    completed: u64,
    skipped: u64,
    failed: Option<StreamError>,
    /// No read has filled the small buffer.
    quiet: bool,
}

/// Room for what passes on a connection at rest.
pub(crate) const REST_AHEAD: usize = 1024;
/// A read into less than this is a system call wasted: rather move what is left to the front.
const SPARE_MIN: usize = 16 * 1024;

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameReader {
    /// A reader at the start of a connection. Takes no memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            stage: Stage::Preamble,
            frame_max: limit::FRAME,
            taken: 0,
            preamble: None,
            completed: 0,
            skipped: 0,
            failed: None,
            quiet: true,
        }
    }

    /// Says that the handshake is complete: from here frames of all lanes, each at most `frame_max` long.
    pub const fn established(&mut self, frame_max: u32) {
        self.stage = Stage::Established;
        self.frame_max = frame_max;
    }

    /// Where the next bytes go: at most 64 KiB, and never empty once
    /// [`next_frame`](Self::next_frame) has said that no whole frame is left.
    pub fn spare(&mut self) -> &mut [u8] {
        let held = self.end - self.start;
        if held == 0 {
            (self.start, self.end) = (0, 0);
        }
        let (spare_min, ahead, most) = if self.stage == Stage::Established {
            let most = usize::try_from(self.frame_max).unwrap_or(usize::MAX).saturating_add(4);
            let (least, ahead) = if self.quiet { (1, REST_AHEAD) } else { (SPARE_MIN, limit::READ_AHEAD) };
            (least, ahead, most.saturating_add(limit::READ_AHEAD))
        } else {
            (1, limit::HANDSHAKE, limit::HANDSHAKE)
        };
        if self.buffer.len() - self.end < spare_min {
            let wanted = held.saturating_add(ahead).min(most);
            if self.buffer.len() - held < spare_min && wanted > self.buffer.len() {
                // A fresh buffer of the exact size: memory that comes zeroed costs no pass over it, and the usual
                // doubling would take more than the limit.
                let mut larger = vec![0; wanted];
                larger[..held].copy_from_slice(&self.buffer[self.start..self.end]);
                self.buffer = larger;
            } else {
                self.buffer.copy_within(self.start..self.end, 0);
            }
            (self.start, self.end) = (0, held);
        }
        let end = self.buffer.len().min(self.end.saturating_add(ahead));
        &mut self.buffer[self.end..end]
    }

    /// Says that `count` bytes have been written to the front of [`spare`](Self::spare).
    ///
    /// # Panics
    /// When `count` is more than was there.
    pub fn received(&mut self, count: usize) {
        assert!(count <= self.buffer.len() - self.end, "more bytes than there was room for");
        self.end += count;
        // Filled: the room at rest, which may be a part of the buffer that the handshake left.
        if count >= REST_AHEAD || self.end == self.buffer.len() {
            self.quiet = false;
        }
    }

    /// Copies from the front of `bytes` what fits into [`spare`](Self::spare) and returns how much that was. For
    /// transports that bring their own buffers.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let count = spare.len().min(bytes.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        self.received(count);
        count
    }

    /// The next whole frame; `None` when more bytes are needed.
    ///
    /// The preamble is taken first, and not returned as a frame. Frames of unknown kinds that may be passed over are
    /// passed over and [counted](Self::skipped). Until [`established`](Self::established) is called only frames of
    /// the handshake pass.
    ///
    /// # Errors
    /// As soon as the bytes at hand cannot become a frame, before the rest of it has come. Every later call fails alike.
    #[inline]
    pub fn next_frame(&mut self) -> Result<Option<RawFrame<'_>>, StreamError> {
        let next = self.next_place()?;
        Ok(next.map(|(header, body)| RawFrame { header, body: self.bytes(body) }))
    }

    /// [`next_frame`](Self::next_frame) by place: the body is [`bytes`](Self::bytes) of the range, also after later
    /// frames have been taken, until the next [`spare`](Self::spare).
    #[inline]
    pub(crate) fn next_place(&mut self) -> Result<Option<(FrameHeader, Range<usize>)>, StreamError> {
        // The usual frame, in registers: whole, of a known kind, on a connection in service.
        if self.stage == Stage::Established
            && self.failed.is_none()
            && let Some(head) = split_header(&self.buffer[self.start..self.end])
        {
            let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            let total = (length as usize).saturating_add(4);
            if (FrameHeader::LENGTH_MIN..=self.frame_max).contains(&length)
                && total <= self.end - self.start
                && let Ok(header) = parse_header(head)
            {
                let body = self.start + FrameHeader::BYTES..self.start + total;
                self.start += total;
                self.completed += 1;
                return Ok(Some((header, body)));
            }
        }
        self.next_unusual()
    }

    fn next_unusual(&mut self) -> Result<Option<(FrameHeader, Range<usize>)>, StreamError> {
        self.take().inspect_err(|error| self.failed = Some(*error))
    }

    /// The bytes at a place; none for a place that is not in the buffer.
    #[inline]
    pub(crate) fn bytes(&self, place: Range<usize>) -> &[u8] {
        self.buffer.get(place).unwrap_or_default()
    }

    fn take(&mut self) -> Result<Option<(FrameHeader, Range<usize>)>, StreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.stage == Stage::Preamble && !self.take_preamble()? {
            return Ok(None);
        }
        loop {
            let held = &self.buffer[self.start..self.end];
            let Some(head) = split_header(held) else {
                // Too little for a header may still be enough to see that none will come of it.
                self.check_beginning(held)?;
                return Ok(None);
            };
            let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            self.check_length(length)?;
            let code = head[4];
            self.check_kind(code)?;
            // `check_length` has compared with `frame_max`, so this is far from the end of `usize` in practice;
            // where it is not, no buffer can hold the frame and it never completes.
            let total = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(4);
            if held.len() < total {
                return Ok(None);
            }
            let header = parse_header(head);
            let body = self.start + FrameHeader::BYTES..self.start + total;
            self.start += total;
            self.completed += 1;
            if self.stage != Stage::Established {
                self.taken += total;
            }
            match header {
                Ok(header) => return Ok(Some((header, body))),
                Err(_) => self.skipped += 1,
            }
        }
    }

    /// Checks what there is of a header.
    fn check_beginning(&self, held: &[u8]) -> Result<(), StreamError> {
        if let Some((length, rest)) = held.split_first_chunk::<4>() {
            self.check_length(u32::from_le_bytes(*length))?;
            if let Some(&code) = rest.first() {
                self.check_kind(code)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn check_length(&self, length: u32) -> Result<(), StreamError> {
        if length > self.frame_max {
            return Err(StreamError::FrameTooLong { length, limit: self.frame_max });
        }
        if length < FrameHeader::LENGTH_MIN {
            return Err(StreamError::FrameTooShort { length });
        }
        if self.stage != Stage::Established {
            let length =
                self.taken.saturating_add(4).saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
            if length > limit::HANDSHAKE {
                return Err(StreamError::HandshakeTooLong { length, limit: limit::HANDSHAKE });
            }
        }
        Ok(())
    }

    #[inline]
    fn check_kind(&self, code: u8) -> Result<(), StreamError> {
        match FrameKind::from_code(code) {
            _ if self.stage == Stage::Established && FrameKind::is_skippable(code) => Ok(()),
            Some(kind) if self.stage == Stage::Established || kind.lane() == Lane::Handshake => Ok(()),
            None if self.stage == Stage::Established => Err(StreamError::UnknownKind { kind: code }),
            Some(_) | None => Err(StreamError::BeforeHandshake { kind: code }),
        }
    }

    /// Takes the preamble, if it is there.
    fn take_preamble(&mut self) -> Result<bool, StreamError> {
        let held = &self.buffer[self.start..self.end];
        for (position, (found, expected)) in (0u8..).zip(held.iter().zip(MAGIC)) {
            if *found != expected {
                return Err(StreamError::NotOurs { position, found: *found });
            }
        }
        let Some(bytes) = held.first_chunk::<PREAMBLE_BYTES>() else { return Ok(false) };
        let versions = VersionRange {
            min: u16::from_le_bytes([bytes[8], bytes[9]]),
            max: u16::from_le_bytes([bytes[10], bytes[11]]),
        };
        if versions.check("preamble.versions").is_err() {
            return Err(StreamError::Versions(versions));
        }
        self.preamble = Some(Preamble { versions });
        self.start += PREAMBLE_BYTES;
        self.taken = PREAMBLE_BYTES;
        self.stage = Stage::Handshake;
        Ok(true)
    }

    /// The peer's preamble, once it has come. Whether a version is common to both is for the reader's owner to see:
    /// an opener still reads the refusal that follows.
    #[must_use]
    pub const fn preamble(&self) -> Option<Preamble> {
        self.preamble
    }

    /// Whether a part of a frame waits for its rest. Meaningful once [`next_frame`](Self::next_frame) returned `None`;
    /// together with [`completed`](Self::completed) it tells how long one frame has been under way.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.end != self.start
    }

    /// How many frames have been completed, skipped ones included.
    #[must_use]
    pub const fn completed(&self) -> u64 {
        self.completed
    }

    /// How many frames of unknown kinds have been passed over.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Bytes of memory the buffer takes.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives the buffer's memory back if nothing waits in it; for a connection that has gone quiet.
    pub fn release(&mut self) {
        if !self.is_started() {
            self.buffer = Vec::new();
            (self.start, self.end) = (0, 0);
            self.quiet = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::wire::ControlFrame;
    use nexus_actor_core::path::ActorUid;

    fn frame(length: u32, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0; 20.max(length as usize + 4)];
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = kind;
        bytes
    }

    fn opened() -> FrameReader {
        let mut reader = FrameReader::new();
        assert_eq!(reader.feed(&Preamble::OURS.to_bytes()), PREAMBLE_BYTES);
        reader
    }

    fn established() -> FrameReader {
        let mut reader = opened();
        assert!(reader.next_frame().expect("a preamble").is_none());
        reader.established(limit::FRAME);
        reader
    }

    /// Feeds all of `bytes` and returns the kinds of the frames and the error, if any.
    #[track_caller]
    fn read(
        reader: &mut FrameReader,
        mut bytes: &[u8],
        step: usize,
    ) -> (Vec<FrameKind>, Option<StreamError>) {
        let mut kinds = Vec::new();
        loop {
            loop {
                match reader.next_frame() {
                    Ok(Some(frame)) => kinds.push(frame.header.kind),
                    Ok(None) => break,
                    Err(error) => return (kinds, Some(error)),
                }
            }
            if bytes.is_empty() {
                return (kinds, None);
            }
            let took = reader.feed(&bytes[..step.min(bytes.len())]);
            assert!(took > 0, "no room although no frame is whole");
            bytes = &bytes[took..];
        }
    }

    /// The part of S20 that the stream itself can show: what is foreign is known at its first wrong byte.
    ///
    /// Covers: S20
    #[test]
    fn foreign_first_bytes_are_refused_at_the_first_wrong_one() {
        for (name, bytes, position) in [
            ("http", &b"GET / HTTP/1.1\r\n\r\n"[..], 0),
            ("tls client hello", b"\x16\x03\x01\x02\x00\x01", 0),
            ("ssh", b"SSH-2.0-OpenSSH_9.6\r\n", 0),
            ("http/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0),
            ("almost", b"FRKX", 3),
            ("line ends rewritten", b"FRKT\n\x1a\n", 4),
        ] {
            let expected = StreamError::NotOurs { position, found: bytes[usize::from(position)] };
            for step in [1, 3, 64] {
                let (kinds, error) = read(&mut FrameReader::new(), bytes, step);
                assert_eq!((kinds.len(), error), (0, Some(expected)), "{name} by {step}");
            }
        }
    }

    /// The part of S22 that the stream itself can show: both ranges are known.
    #[test]
    fn the_preamble_says_its_versions_and_an_empty_range_is_a_fault() {
        for (min, max, fault) in [(1, 1, false), (1, 7, false), (9, 9, false), (0, 1, true), (3, 2, true)] {
            let versions = VersionRange { min, max };
            let mut reader = FrameReader::new();
            let (_, error) = read(&mut reader, &Preamble { versions }.to_bytes(), 5);
            assert_eq!(error, fault.then_some(StreamError::Versions(versions)));
            assert_eq!(reader.preamble(), (!fault).then_some(Preamble { versions }));
        }
        let mut bytes = Preamble::OURS.to_bytes();
        bytes[12..].fill(0xff);
        assert_eq!(read(&mut FrameReader::new(), &bytes, 16).1, None, "the reserved bytes are ignored");
    }

    /// The part of S103 that the stream itself can show. L7: below, at and above.
    ///
    /// Covers: S103
    #[test]
    fn a_claimed_length_is_checked_before_anything_is_reserved() {
        let limit = limit::FRAME;
        for (name, length, expected) in [
            ("one below the limit", limit - 1, None),
            ("at the limit", limit, None),
            ("one above", limit + 1, Some(StreamError::FrameTooLong { length: limit + 1, limit })),
            ("largest", u32::MAX, Some(StreamError::FrameTooLong { length: u32::MAX, limit })),
            ("negative", 0x8000_0000, Some(StreamError::FrameTooLong { length: 0x8000_0000, limit })),
            ("shortest", 16, None),
            ("too short", 15, Some(StreamError::FrameTooShort { length: 15 })),
            ("zero", 0, Some(StreamError::FrameTooShort { length: 0 })),
        ] {
            let mut reader = established();
            let (_, error) = read(&mut reader, &length.to_le_bytes(), 4);
            assert_eq!(error, expected, "{name}");
            assert!(reader.capacity() <= 4 + limit::READ_AHEAD, "{name}");
            if let Some(error) = error {
                assert_eq!(reader.next_frame().err(), Some(error), "{name}: the fault stays");
            }
        }
        assert_eq!(
            StreamError::FrameTooLong { length: 1, limit: 0 }.reason(),
            QuarantineReason::FrameTooLong
        );
    }

    /// L2: below, at and above.
    #[test]
    fn the_handshake_has_its_own_limit() {
        let most = (limit::HANDSHAKE - PREAMBLE_BYTES - 4) as u32;
        for (length, refused) in [(most - 1, false), (most, false), (most + 1, true)] {
            let mut reader = opened();
            let (kinds, error) = read(&mut reader, &frame(length, 0x01), 100);
            assert_eq!(kinds.len(), usize::from(!refused));
            let expected = StreamError::HandshakeTooLong { length: 4097, limit: 4096 };
            assert_eq!(error, refused.then_some(expected));
            assert!(reader.capacity() <= limit::HANDSHAKE);
        }
        // Repeating a small one does not help.
        let mut reader = opened();
        let (kinds, error) = read(&mut reader, &frame(1000, 0x01).repeat(10), 64);
        assert_eq!(kinds.len(), 4);
        assert!(matches!(error, Some(StreamError::HandshakeTooLong { .. })), "{error:?}");
    }

    /// Covers: S17
    #[test]
    fn nothing_but_the_handshake_passes_before_it_is_complete() {
        for code in 0..=u8::MAX {
            let (kinds, error) = read(&mut opened(), &frame(16, code), 7);
            let allowed = matches!(code, 1..=3);
            assert_eq!(kinds.len(), usize::from(allowed), "{code:#x}");
            assert_eq!(error, (!allowed).then_some(StreamError::BeforeHandshake { kind: code }));
        }
    }

    #[test]
    fn unknown_kinds_are_faults_below_0x80_and_passed_over_above() {
        for code in 0..=u8::MAX {
            let mut reader = established();
            let mut bytes = frame(40, code);
            ControlFrame::Left.encode(&mut bytes);
            let (kinds, error) = read(&mut reader, &bytes, 9);
            if FrameKind::is_skippable(code) {
                assert_eq!((kinds, error), (vec![FrameKind::Left], None), "{code:#x}");
                assert_eq!((reader.skipped(), reader.completed()), (1, 2));
            } else if let Some(kind) = FrameKind::from_code(code) {
                assert_eq!((kinds, error), (vec![kind, FrameKind::Left], None), "{code:#x}");
            } else {
                assert_eq!((kinds, error), (vec![], Some(StreamError::UnknownKind { kind: code })));
            }
        }
    }

    /// Covers: TST-60, TR-11
    #[test]
    fn frames_of_all_sizes_come_out_whole_however_they_are_cut() {
        let mut bytes = Vec::new();
        let mut lengths = Vec::new();
        for length in [16, 17, 100, 4_000, 70_000, 16, limit::FRAME, 16, 200_000, 90_000, 20] {
            bytes.extend_from_slice(&frame(length, 0x20));
            lengths.push(length as usize + 4);
        }
        for step in [1, 19, 1_000, 65_536, usize::MAX] {
            let mut reader = established();
            let (mut input, mut seen) = (&bytes[..], Vec::new());
            while !input.is_empty() {
                let took = reader.feed(&input[..step.min(input.len())]);
                assert!(took > 0);
                input = &input[took..];
                assert!(reader.buffer.len() <= limit::FRAME as usize + 4 + limit::READ_AHEAD);
                while let Some(frame) = reader.next_frame().expect("valid frames") {
                    seen.push(frame.wire_len());
                }
            }
            assert_eq!(seen, lengths, "by {step}");
            assert!(!reader.is_started());
            reader.release();
            assert_eq!(reader.capacity(), 0);
        }
    }

    /// It costs a system call for each small read: whoever sends more than fits gets the room to send it in.
    #[test]
    fn a_buffer_is_small_at_rest_and_large_once_it_was_filled() {
        // With and without what is left of the handshake.
        for fresh in [true, false] {
            let mut reader = established();
            if fresh {
                reader.release();
            }
            let beats = frame(16, 0x20).repeat(30);
            for _ in 0..100 {
                assert!(reader.spare().len() <= REST_AHEAD);
                assert_eq!(read(&mut reader, &beats, usize::MAX).0.len(), 30);
                assert!(reader.capacity() <= limit::HANDSHAKE);
            }
            let burst = frame(16, 0x20).repeat(1_000);
            assert_eq!(read(&mut reader, &burst, usize::MAX).0.len(), 1_000);
            assert!(reader.spare().len() >= SPARE_MIN, "fresh {fresh}: {}", reader.spare().len());
            reader.release();
            assert!(reader.spare().len() <= REST_AHEAD);
        }
    }

    #[test]
    fn a_started_frame_is_told_from_none() {
        let mut reader = established();
        assert!(!reader.is_started());
        let mut bytes = Vec::new();
        ControlFrame::Heartbeat { uid: ActorUid::new(1), seq: 2 }.encode(&mut bytes);
        read(&mut reader, &bytes[..5], 5);
        assert!(reader.is_started());
        reader.release();
        assert!(reader.is_started(), "what has come is kept");
        let (kinds, error) = read(&mut reader, &bytes[5..], 5);
        assert_eq!((kinds, error), (vec![FrameKind::Heartbeat], None));
        assert!(!reader.is_started());
    }
}
