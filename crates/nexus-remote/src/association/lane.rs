//! The ordinary lane: frames in the order of their numbers, kept until the peer has acknowledged them.
//!
//! Frames are written one behind the other into chunks. Small waiting runs are copied into the driver's buffer, so
//! that a chunk can go on growing; large ones are handed out by reference and are not written to any more. Bytes
//! stay here until they are acknowledged, whatever becomes of the connection.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::{CorrelationId, DeadLetterReason};

use super::tables::Recipient;
use crate::wire::{FrameHeader, FrameKind, OrdinaryFrame, RawFrame};

/// A chunk of this many bytes takes no further frame.
const CHUNK: usize = 256 * 1024;
/// Waiting runs up to this many bytes are copied instead of handed out.
const COPY_MAX: usize = 16 * 1024;
/// Emptied buffers kept for reuse.
const SPARES: usize = 2;

#[derive(Debug)]
enum Buffer {
    Open(Vec<u8>),
    Sealed(Arc<Vec<u8>>),
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Open(bytes) => bytes,
            Self::Sealed(bytes) => bytes,
        }
    }
}

/// A definition of a reference in a chunk, in order, and what its number meant before.
type Redefined = (u32, Option<Arc<Recipient>>);

#[derive(Debug)]
struct Chunk {
    buffer: Buffer,
    /// Where its frames begin; those before were dropped.
    head: usize,
    /// The number of its first frame.
    first: u64,
    frames: u64,
    /// Of those not yet counted as acknowledged.
    messages: usize,
    weight: usize,
    defines: Vec<Redefined>,
}

impl Chunk {
    const fn open(bytes: Vec<u8>, first: u64) -> Self {
        Self {
            buffer: Buffer::Open(bytes),
            head: 0,
            first,
            frames: 0,
            messages: 0,
            weight: 0,
            defines: Vec::new(),
        }
    }

    const fn end(&self) -> u64 {
        self.first + self.frames
    }

    fn seal(&mut self) -> Arc<Vec<u8>> {
        match &mut self.buffer {
            Buffer::Sealed(bytes) => bytes.clone(),
            Buffer::Open(bytes) => {
                let bytes = Arc::new(core::mem::take(bytes));
                self.buffer = Buffer::Sealed(bytes.clone());
                bytes
            }
        }
    }
}

/// Bytes of the frame at `at`; at least a header, so that a walk always ends.
#[inline]
fn frame_len(bytes: &[u8], at: usize) -> usize {
    let length = bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    (length as usize + 4).max(FrameHeader::BYTES)
}

#[inline]
fn kind_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at + 4).copied().unwrap_or(0)
}

const fn is_definition(kind: u8) -> bool {
    kind == FrameKind::DefineReference.code() || kind == FrameKind::DefineManifest.code()
}

/// What an acknowledgement or a drop freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    /// The chunk, counted over all that ever were.
    chunk: u64,
    offset: usize,
    /// The number of the frame there.
    number: u64,
}

/// A run of bytes handed out by reference.
pub(super) type Run = (Arc<Vec<u8>>, Range<usize>);

#[derive(Debug)]
pub(super) struct Lane {
    /// Never empty; the last one is open.
    chunks: VecDeque<Chunk>,
    /// The count of chunks before the first.
    base: u64,
    /// Everything below has been acknowledged.
    acked: u64,
    /// How far into the first chunk acknowledgements have been counted.
    counted: Position,
    /// The next to be handed to the current connection.
    cursor: Position,
    /// Everything below was handed to some connection.
    handed: u64,
    next: u64,
    messages: usize,
    bytes: usize,
    /// Bytes handed to the current connection and not acknowledged.
    flying: usize,
    spares: Vec<Vec<u8>>,
}

impl Lane {
    pub(super) fn new() -> Self {
        let start = Position { chunk: 0, offset: 0, number: 0 };
        let mut chunks = VecDeque::with_capacity(1);
        chunks.push_back(Chunk::open(Vec::new(), 0));
        Self {
            chunks,
            base: 0,
            acked: 0,
            counted: start,
            cursor: start,
            handed: 0,
            next: 0,
            messages: 0,
            bytes: 0,
            flying: 0,
            spares: Vec::new(),
        }
    }

    /// The number the next frame gets.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Messages waiting and unacknowledged.
    pub(super) const fn messages(&self) -> usize {
        self.messages
    }

    /// Bytes waiting and unacknowledged.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes not handed to the current connection.
    #[inline]
    pub(super) const fn unsent(&self) -> usize {
        self.bytes.saturating_sub(self.flying)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.acked == self.next
    }

    /// Frames that wait for the current connection.
    #[inline]
    pub(super) const fn waiting(&self) -> u64 {
        self.next.saturating_sub(self.cursor.number)
    }

    /// Whether frames wait for the current connection.
    pub(super) const fn has_waiting(&self) -> bool {
        self.waiting() > 0
    }

    pub(super) const fn has_unacknowledged(&self) -> bool {
        self.acked < self.handed
    }

    /// The buffer to append the next frame to; [`commit`](Self::commit) counts it.
    #[inline]
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if !matches!(self.chunks.back(), Some(Chunk { buffer: Buffer::Open(_), .. })) {
            self.push_open();
        }
        match self.chunks.back_mut() {
            Some(Chunk { buffer: Buffer::Open(bytes), .. }) => bytes,
            // `push_open` has just put an open chunk there.
            _ => unreachable!("the last chunk is open"),
        }
    }

    fn push_open(&mut self) {
        let bytes = self.spares.pop().unwrap_or_default();
        self.chunks.push_back(Chunk::open(bytes, self.next));
    }

    /// Counts the frame of `size` bytes that was appended to the buffer.
    #[inline]
    pub(super) fn commit(&mut self, size: usize, is_message: bool) {
        self.next += 1;
        self.bytes += size;
        self.messages += usize::from(is_message);
        let Some(chunk) = self.chunks.back_mut() else { return };
        chunk.frames += 1;
        chunk.weight += size;
        chunk.messages += usize::from(is_message);
        if chunk.buffer.bytes().len() >= CHUNK {
            chunk.seal();
            self.push_open();
        }
    }

    /// Counts the definition of `reference` that was appended to the buffer.
    pub(super) fn commit_definition(&mut self, size: usize, reference: u32, before: Option<Arc<Recipient>>) {
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.defines.push((reference, before));
        }
        self.commit(size, false);
    }

    fn index(&self, chunk: u64) -> usize {
        usize::try_from(chunk.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    /// Hands waiting frames to the current connection: small runs are appended to `out` while it is shorter than
    /// `turn_max`, and a large run is returned. At most one of the latter, and nothing beyond `window` bytes.
    pub(super) fn transmit(&mut self, out: &mut Vec<u8>, turn_max: usize, window: usize) -> Option<Run> {
        loop {
            let index = self.index(self.cursor.chunk);
            let last = index + 1 >= self.chunks.len();
            let chunk = self.chunks.get_mut(index)?;
            let start = self.cursor.offset.max(chunk.head);
            let end = chunk.buffer.bytes().len();
            if start >= end {
                if last {
                    return None;
                }
                self.cursor = Position { chunk: self.cursor.chunk + 1, offset: 0, number: chunk.end() };
                continue;
            }
            if self.flying >= window {
                return None;
            }
            let pending = end - start;
            let run = if pending > COPY_MAX {
                Some((chunk.seal(), start..end))
            } else if out.len() + pending > turn_max {
                return None;
            } else {
                out.extend_from_slice(&chunk.buffer.bytes()[start..end]);
                None
            };
            self.flying += pending;
            self.cursor.offset = end;
            self.cursor.number = chunk.end();
            self.handed = self.handed.max(self.cursor.number);
            if run.is_some() {
                if last {
                    self.push_open();
                }
                return run;
            }
        }
    }

    /// Notes that the peer expects `next`. What the current connection was not handed cannot be acknowledged by it.
    ///
    /// `exact` counts up to the last frame; else whole chunks are counted when they are done with.
    pub(super) fn acknowledge(&mut self, next: u64, exact: bool) -> Freed {
        let before = Freed { messages: self.messages, bytes: self.bytes };
        let next = next.min(self.cursor.number);
        if next > self.acked {
            self.acked = next;
            self.release();
            if exact {
                self.count();
            }
        }
        Freed { messages: before.messages - self.messages, bytes: before.bytes - self.bytes }
    }

    /// Drops the chunks that were acknowledged whole.
    fn drop_acked(&mut self) {
        while self.chunks.len() > 1 && self.chunks.front().is_some_and(|c| c.end() <= self.acked) {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.base += 1;
            self.forget(chunk.messages, chunk.weight);
            if let Buffer::Sealed(bytes) = chunk.buffer
                && let Ok(bytes) = Arc::try_unwrap(bytes)
            {
                self.spare(bytes);
            }
        }
    }

    fn release(&mut self) {
        self.drop_acked();
        if self.cursor.chunk < self.base {
            self.cursor = Position { chunk: self.base, offset: 0, number: self.cursor.number };
        }
        let first = self.chunks.front().map_or(self.next, |c| c.first);
        if self.counted.chunk < self.base {
            self.counted = Position { chunk: self.base, offset: 0, number: first };
        }
        if self.acked == self.next
            && let Some(chunk) = self.chunks.front_mut()
            && self.base == self.cursor.chunk
            && let Buffer::Open(bytes) = &mut chunk.buffer
        {
            bytes.clear();
            let (messages, weight) = (chunk.messages, chunk.weight);
            (chunk.head, chunk.first, chunk.frames, chunk.messages, chunk.weight) = (0, self.next, 0, 0, 0);
            chunk.defines.clear();
            self.cursor.offset = 0;
            self.counted = Position { chunk: self.base, offset: 0, number: self.next };
            self.forget(messages, weight);
        }
    }

    fn forget(&mut self, messages: usize, weight: usize) {
        self.messages -= messages;
        self.bytes -= weight;
        self.flying = self.flying.saturating_sub(weight);
    }

    fn spare(&mut self, mut bytes: Vec<u8>) {
        if self.spares.len() < SPARES && bytes.capacity() <= 2 * CHUNK {
            bytes.clear();
            self.spares.push(bytes);
        }
    }

    /// Counts what is acknowledged inside the first chunk.
    pub(super) fn count(&mut self) {
        let (mut messages, mut weight) = (0, 0);
        let Some(chunk) = self.chunks.front_mut() else { return };
        let bytes = chunk.buffer.bytes();
        let mut at = self.counted;
        at.offset = at.offset.max(chunk.head);
        while at.number < self.acked && at.offset < bytes.len() {
            let length = frame_len(bytes, at.offset);
            messages += usize::from(!is_definition(kind_at(bytes, at.offset)));
            weight += length;
            at.offset += length;
            at.number += 1;
        }
        chunk.messages -= messages;
        chunk.weight -= weight;
        self.counted = at;
        self.forget(messages, weight);
    }

    /// The place of the frame `number`, which is neither acknowledged nor beyond the end.
    fn locate(&self, number: u64) -> Position {
        for (base, chunk) in (self.base..).zip(&self.chunks) {
            if number < chunk.end() || base + 1 == self.base + self.chunks.len() as u64 {
                let bytes = chunk.buffer.bytes();
                let mut at = if base == self.counted.chunk && self.counted.number <= number {
                    self.counted
                } else {
                    Position { chunk: base, offset: chunk.head, number: chunk.first }
                };
                at.offset = at.offset.max(chunk.head);
                while at.number < number && at.offset < bytes.len() {
                    at.offset += frame_len(bytes, at.offset);
                    at.number += 1;
                }
                return at;
            }
        }
        self.cursor
    }

    /// Whether the session can go on with the peer expecting `next`.
    pub(super) const fn can_resume(&self, next: u64) -> bool {
        next >= self.acked && next <= self.handed
    }

    /// A new connection goes on from the peer's next expected number.
    pub(super) fn resume(&mut self, next: u64) -> Freed {
        let before = Freed { messages: self.messages, bytes: self.bytes };
        // The peer has spoken for everything below, whichever connection it came by.
        self.acked = next.clamp(self.acked, self.handed);
        self.cursor = Position { chunk: u64::MAX, offset: 0, number: self.acked };
        self.release_for_resume();
        self.cursor = self.locate(self.acked);
        self.flying = 0;
        Freed { messages: before.messages - self.messages, bytes: before.bytes - self.bytes }
    }

    fn release_for_resume(&mut self) {
        self.cursor.chunk = self.base;
        self.drop_acked();
        if self.counted.chunk < self.base {
            let first = self.chunks.front().map_or(self.next, |c| c.first);
            self.counted = Position { chunk: self.base, offset: 0, number: first };
        }
        self.count();
    }

    /// Nothing is connected: what was not handed out waits for the next connection.
    pub(super) fn disconnect(&mut self) {
        self.flying = 0;
    }

    /// Frees buffers beyond what is needed, when nothing waits.
    pub(super) fn shrink(&mut self) {
        self.spares = Vec::new();
        if self.is_empty()
            && let Some(Chunk { buffer: Buffer::Open(bytes), .. }) = self.chunks.back_mut()
            && bytes.is_empty()
        {
            *bytes = Vec::new();
        }
    }

    /// Cuts the chunks at the first frame that no connection was handed; returns the index of the chunk there.
    fn split_unsent(&mut self) -> usize {
        let at = self.locate(self.handed);
        let index = self.index(at.chunk);
        let next = self.next;
        let Some(chunk) = self.chunks.get_mut(index) else { return 0 };
        if at.offset <= chunk.head {
            return index;
        }
        let frames = chunk.end() - at.number;
        let bytes = chunk.buffer.bytes();
        let tail: Vec<u8> = bytes[at.offset..].to_vec();
        let (mut messages, mut references, mut offset) = (0, 0, 0);
        while offset < tail.len() {
            let kind = kind_at(&tail, offset);
            messages += usize::from(!is_definition(kind));
            references += usize::from(kind == FrameKind::DefineReference.code());
            offset += frame_len(&tail, offset);
        }
        let was_open = matches!(chunk.buffer, Buffer::Open(_));
        match &mut chunk.buffer {
            Buffer::Open(bytes) => bytes.truncate(at.offset),
            // A chunk handed out whole has nothing unsent; one that was not is ours alone.
            Buffer::Sealed(bytes) => {
                if let Some(bytes) = Arc::get_mut(bytes) {
                    bytes.truncate(at.offset);
                } else {
                    *bytes = Arc::new(bytes[..at.offset].to_vec());
                }
            }
        }
        chunk.seal();
        chunk.frames -= frames;
        chunk.messages -= messages;
        chunk.weight -= tail.len();
        let defines = chunk.defines.split_off(chunk.defines.len() - references);
        let mut rest = Chunk::open(Vec::new(), at.number);
        (rest.frames, rest.messages, rest.weight, rest.defines) = (frames, messages, tail.len(), defines);
        rest.buffer = if was_open { Buffer::Open(tail) } else { Buffer::Sealed(Arc::new(tail)) };
        debug_assert!(!was_open || rest.end() == next);
        self.chunks.insert(index + 1, rest);
        // The cursor is at or before the cut; chunks behind it only moved by one.
        if self.cursor.number >= at.number {
            self.cursor = Position { chunk: self.base + index as u64 + 1, offset: 0, number: at.number };
        }
        index + 1
    }

    /// Drops the oldest message that no connection was handed, and says what it was. `current` knows what a number
    /// means at the end of the lane; it is asked at most once.
    pub(super) fn drop_oldest(
        &mut self,
        current: impl FnOnce(u32) -> Option<Arc<Recipient>>,
    ) -> Option<Fallen> {
        let mut index = self.split_unsent();
        loop {
            let chunk = self.chunks.get_mut(index)?;
            let (mut at, mut references) = (chunk.head, 0);
            let end = chunk.buffer.bytes().len();
            while at < end && is_definition(kind_at(chunk.buffer.bytes(), at)) {
                references +=
                    usize::from(kind_at(chunk.buffer.bytes(), at) == FrameKind::DefineReference.code());
                at += frame_len(chunk.buffer.bytes(), at);
            }
            if at >= end {
                index += 1;
                continue;
            }
            let length = frame_len(chunk.buffer.bytes(), at);
            let kept = chunk.head..at;
            if !kept.is_empty() {
                // Definitions are needed by what follows: they change places with the frame.
                match &mut chunk.buffer {
                    Buffer::Open(bytes) => swap_behind(bytes, kept, length),
                    Buffer::Sealed(bytes) => swap_behind(Arc::<Vec<u8>>::make_mut(bytes), kept, length),
                }
            }
            let chunk = self.chunks.get(index)?;
            let meaning = |id: u32| {
                chunk.defines[references..]
                    .iter()
                    .chain(self.chunks.iter().skip(index + 1).flat_map(|c| &c.defines))
                    .find(|(define, _)| *define == id)
                    .map_or_else(|| current(id), |(_, before)| before.clone())
            };
            let fallen = Fallen::of(&chunk.buffer.bytes()[chunk.head..chunk.head + length], meaning);
            let chunk = self.chunks.get_mut(index)?;
            chunk.head += length;
            chunk.frames -= 1;
            chunk.messages -= 1;
            chunk.weight -= length;
            for later in self.chunks.iter_mut().skip(index + 1) {
                later.first -= 1;
            }
            self.next -= 1;
            self.messages -= 1;
            self.bytes -= length;
            return Some(fallen);
        }
    }

    /// Takes everything out; numbers start at 0 again.
    pub(super) fn take(&mut self, current: Vec<Arc<Recipient>>) -> Remains {
        let fresh = Self::new();
        let old = core::mem::replace(self, fresh);
        let remains = old.remains(current, old.acked, old.handed);
        self.spares = old.spares;
        remains
    }

    /// What is here, seen from outside, without taking it.
    fn remains(&self, current: Vec<Arc<Recipient>>, acked: u64, handed: u64) -> Remains {
        let mut earlier: BTreeMap<u32, VecDeque<Option<Arc<Recipient>>>> = BTreeMap::new();
        let mut chunks = VecDeque::with_capacity(self.chunks.len());
        for chunk in &self.chunks {
            for (id, before) in &chunk.defines {
                earlier.entry(*id).or_default().push_back(before.clone());
            }
            let bytes = match &chunk.buffer {
                Buffer::Open(bytes) => Arc::new(bytes.clone()),
                Buffer::Sealed(bytes) => bytes.clone(),
            };
            chunks.push_back((bytes, chunk.head));
        }
        Remains {
            chunks,
            number: self.chunks.front().map_or(self.next, |c| c.first),
            acked,
            handed,
            next: self.next,
            current: current.into(),
            earlier,
        }
    }

    /// Takes out the messages that no connection was handed; definitions stay, for the session goes on.
    pub(super) fn take_unsent(&mut self, current: Vec<Arc<Recipient>>) -> (Remains, Freed) {
        let remains = self.remains(current, self.acked, self.handed);
        let index = self.split_unsent();
        let before = Freed { messages: self.messages, bytes: self.bytes };
        let unsent: Vec<Chunk> = self.chunks.drain(index..).collect();
        for chunk in &unsent {
            self.messages -= chunk.messages;
            self.bytes -= chunk.weight;
        }
        self.next = self.handed;
        self.push_open();
        for chunk in unsent {
            let bytes = chunk.buffer.bytes();
            let (mut at, mut defines) = (chunk.head, chunk.defines.into_iter());
            while at < bytes.len() {
                let (kind, length) = (kind_at(bytes, at), frame_len(bytes, at));
                if is_definition(kind) {
                    self.buffer().extend_from_slice(&bytes[at..at + length]);
                    match (kind == FrameKind::DefineReference.code()).then(|| defines.next()).flatten() {
                        Some((id, before)) => self.commit_definition(length, id, before),
                        None => self.commit(length, false),
                    }
                }
                at += length;
            }
        }
        self.cursor = self.locate(self.cursor.number.min(self.handed));
        (remains, Freed { messages: before.messages - self.messages, bytes: before.bytes - self.bytes })
    }
}

/// Lets the frame of `length` bytes behind `kept` change places with it.
fn swap_behind(bytes: &mut [u8], kept: Range<usize>, length: usize) {
    bytes[kept.start..kept.end + length].rotate_left(kept.len());
}

/// One frame that will not be delivered.
#[derive(Debug, Default)]
pub(super) struct Fallen {
    pub(super) recipient: Option<Arc<Recipient>>,
    pub(super) correlation_id: CorrelationId,
    pub(super) size: usize,
    /// The ask of ours that it carried.
    pub(super) ask: Option<ReplyKey>,
    pub(super) is_message: bool,
    /// It is for whoever lives at a name, so it may go to the peer's next incarnation.
    pub(super) is_for_name: bool,
}

impl Fallen {
    fn of(frame: &[u8], meaning: impl FnOnce(u32) -> Option<Arc<Recipient>>) -> Self {
        let mut fallen = Self { size: frame.len(), ..Self::default() };
        let Ok(raw) = RawFrame::from_bytes(frame) else { return fallen };
        fallen.correlation_id = raw.header.correlation_id;
        match OrdinaryFrame::decode(raw) {
            Ok(OrdinaryFrame::Envelope(envelope)) => {
                fallen.recipient = meaning(envelope.recipient);
                fallen.is_for_name = fallen.recipient.as_ref().is_some_and(|r| r.path.uid().is_any());
                fallen.ask = envelope.reply_to.filter(|r| r.foreign().is_none()).map(|r| r.key());
                fallen.is_message = true;
            }
            Ok(OrdinaryFrame::Reply(_) | OrdinaryFrame::ReplyFailed(_)) => fallen.is_message = true,
            Ok(OrdinaryFrame::Lookup(lookup)) => {
                fallen.ask = Some(lookup.key());
                fallen.is_message = true;
                fallen.is_for_name = true;
            }
            Ok(OrdinaryFrame::DefineReference(_) | OrdinaryFrame::DefineManifest(_)) | Err(_) => {}
        }
        fallen
    }
}

/// What was in a lane when its session ended, with the meaning of its numbers at every place.
#[derive(Clone, Debug)]
pub(super) struct Remains {
    chunks: VecDeque<(Arc<Vec<u8>>, usize)>,
    number: u64,
    acked: u64,
    handed: u64,
    next: u64,
    current: Arc<[Arc<Recipient>]>,
    earlier: BTreeMap<u32, VecDeque<Option<Arc<Recipient>>>>,
}

/// A frame among the remains: its bytes and, if it is an envelope, its recipient.
pub(super) struct Remnant {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) range: Range<usize>,
    pub(super) number: u64,
    pub(super) fallen: Fallen,
}

impl Remains {
    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) const fn handed(&self) -> u64 {
        self.handed
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The next frame, definitions included.
    pub(super) fn next_frame(&mut self) -> Option<Remnant> {
        loop {
            let (bytes, at) = self.chunks.front_mut()?;
            if *at >= bytes.len() {
                self.chunks.pop_front();
                continue;
            }
            let length = frame_len(bytes, *at);
            let range = *at..(*at + length).min(bytes.len());
            *at = range.end;
            let bytes = bytes.clone();
            let number = self.number;
            self.number += 1;
            if kind_at(&bytes, range.start) == FrameKind::DefineReference.code()
                && let Some(id) =
                    bytes.get(range.start + FrameHeader::BYTES..range.start + FrameHeader::BYTES + 4)
            {
                let id = u32::from_le_bytes([id[0], id[1], id[2], id[3]]);
                if let Some(queue) = self.earlier.get_mut(&id) {
                    queue.pop_front();
                }
            }
            let meaning = |id: u32| match self.earlier.get(&id).and_then(VecDeque::front) {
                Some(before) => before.clone(),
                None => self.current.get(id as usize).cloned(),
            };
            let fallen = Fallen::of(&bytes[range.clone()], meaning);
            return Some(Remnant { bytes, range, number, fallen });
        }
    }
}

/// Which of the remains are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Only those for one incarnation of an actor, or for an ask: the others go to the new session.
    Bound,
    /// Only those whose frame is longer than this.
    Longer(usize),
}

impl Which {
    pub(super) fn takes(self, fallen: &Fallen) -> bool {
        match self {
            Self::All => true,
            Self::Bound => !fallen.is_for_name,
            Self::Longer(limit) => fallen.size > limit,
        }
    }
}

/// Lost messages that are yet to be told, read from the remains one by one: a million of them cost next to no memory
/// beyond the bytes that were there.
#[derive(Debug)]
pub(super) struct Salvage {
    remains: Remains,
    lost: Lost,
}

/// Which messages of the remains are told, and for what reason.
#[derive(Debug)]
enum Lost {
    Run {
        numbers: Range<u64>,
        which: Which,
        reason: DeadLetterReason,
    },
    /// By their numbers, in order.
    Each(VecDeque<(u64, DeadLetterReason)>),
}

impl Salvage {
    pub(super) const fn new(
        remains: Remains,
        numbers: Range<u64>,
        which: Which,
        reason: DeadLetterReason,
    ) -> Self {
        Self { remains, lost: Lost::Run { numbers, which, reason } }
    }

    /// The messages with these numbers, which are in order.
    pub(super) const fn of(remains: Remains, numbers: VecDeque<(u64, DeadLetterReason)>) -> Self {
        Self { remains, lost: Lost::Each(numbers) }
    }

    pub(super) fn next(&mut self) -> Option<(Fallen, DeadLetterReason)> {
        match &mut self.lost {
            Lost::Run { numbers, which, reason } => {
                while let Some(remnant) = self.remains.next_frame() {
                    if remnant.number >= numbers.end {
                        break;
                    }
                    if remnant.number >= numbers.start
                        && remnant.fallen.is_message
                        && which.takes(&remnant.fallen)
                    {
                        return Some((remnant.fallen, *reason));
                    }
                }
                None
            }
            Lost::Each(numbers) => {
                let (number, reason) = numbers.pop_front()?;
                while let Some(remnant) = self.remains.next_frame() {
                    if remnant.number == number {
                        return Some((remnant.fallen, reason));
                    }
                }
                None
            }
        }
    }
}
