//! Writing a batch.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use bytes::BufMut;
use nexus_actor_core::Headers;

use super::fault::{EntryFault, Part};
use super::target::{begins_like_pid, check_id, check_size};
use super::{BatchLimits, TypeName, WireForm, tag};
use crate::endpoint::pid_entry::PidEntry;

/// One message for one actor, to be written.
#[derive(Clone, Copy)]
pub struct OutgoingEnvelope<'a> {
    /// The type of the payload.
    pub type_name: TypeName,
    /// The payload.
    pub payload: &'a [u8],
    /// Whom it is for.
    pub target: &'a Arc<PidEntry>,
    /// Whom to answer.
    pub sender: Option<&'a Arc<PidEntry>>,
    /// How the payload is written: 0 protobuf, 1 JSON.
    pub serializer: i32,
    /// What travels beside it.
    pub header: Option<&'a Headers>,
    /// Which of the requests behind a shared future is answered; 0 for none.
    pub target_request_id: u32,
    /// What the answer is to name as `target_request_id`; 0 for none.
    pub sender_request_id: u32,
}

impl<'a> OutgoingEnvelope<'a> {
    /// A protobuf payload for `target`, without sender and headers.
    #[must_use]
    pub fn new(type_name: TypeName, payload: &'a [u8], target: &'a Arc<PidEntry>) -> Self {
        Self {
            type_name,
            payload,
            target,
            sender: None,
            serializer: 0,
            header: None,
            target_request_id: 0,
            sender_request_id: 0,
        }
    }
}

/// Payloads and header values are not for logs: only their lengths are shown.
impl fmt::Debug for OutgoingEnvelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingEnvelope")
            .field("type_name", &self.type_name)
            .field("payload_bytes", &self.payload.len())
            .field("target", &self.target)
            .field("sender", &self.sender)
            .field("serializer", &self.serializer)
            .field("headers", &self.header.map_or(0, Headers::len))
            .field("target_request_id", &self.target_request_id)
            .field("sender_request_id", &self.sender_request_id)
            .finish()
    }
}

/// Why an envelope was not added. The batch is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Full {
    /// It does not fit into this batch: finish it and push again.
    Batch,
    /// It fits into no batch: alone it would be longer than is accepted (L7).
    TooLarge {
        /// Bytes of the message that it would be.
        size: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// Its type name, target or sender must not be sent.
    Entry(EntryFault),
    /// The number of its serializer is negative.
    Serializer(i32),
    /// It has more headers than are sent, or longer ones (L12).
    Headers {
        /// How many.
        entries: usize,
        /// Bytes of their names and values.
        bytes: usize,
    },
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => f.write_str("the batch is full"),
            Self::TooLarge { size, limit } => {
                write!(f, "a message of {size} bytes, where {limit} are accepted")
            }
            Self::Entry(fault) => fmt::Display::fmt(fault, f),
            Self::Serializer(id) => write!(f, "serializer {id}"),
            Self::Headers { entries, bytes } => write!(f, "{entries} headers of {bytes} bytes are too much"),
        }
    }
}

impl std::error::Error for Full {}

/// What a table of a batch holds.
trait Key: Clone + Eq + Hash {
    /// Whether both are one, as far as a look at their addresses tells.
    fn is(&self, other: &Self) -> bool;
}

impl Key for Arc<PidEntry> {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

impl Key for TypeName {
    fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.name, other.name) && std::ptr::eq(self.package, other.package)
    }
}

/// Tables up to this length are searched from end to end, longer ones by hash.
const SEARCHED: usize = 8;

/// A table of a batch, in order of first use.
struct Table<K> {
    entries: Vec<K>,
    /// The entry that was used last: mostly it is the next one too.
    last: usize,
    /// Where each entry is, once there are more than [`SEARCHED`].
    index: HashMap<K, usize>,
}

impl<K: Key> Table<K> {
    fn new() -> Self {
        Self { entries: Vec::new(), last: 0, index: HashMap::new() }
    }

    /// Where `key` is, or would be: behind the last.
    fn find(&self, key: &K) -> usize {
        if self.entries.get(self.last).is_some_and(|entry| entry.is(key)) {
            return self.last;
        }
        let found = if self.entries.len() <= SEARCHED {
            let same = self.entries.iter().position(|entry| entry.is(key));
            same.or_else(|| self.entries.iter().position(|entry| entry == key))
        } else {
            self.index.get(key).copied()
        };
        found.unwrap_or(self.entries.len())
    }

    /// Notes that `key` was used at the place that [`find`](Self::find) gave.
    fn keep(&mut self, key: &K, place: usize) {
        self.last = place;
        if place < self.entries.len() {
            return;
        }
        self.entries.push(key.clone());
        match self.entries.len() - 1 {
            SEARCHED => self.index.extend(self.entries.iter().cloned().zip(0..)),
            place if place > SEARCHED => {
                self.index.insert(key.clone(), place);
            }
            _ => {}
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.index.clear();
        self.last = 0;
    }
}

const NUMBER: u32 = 0;
const BYTES: u32 = 2;

const fn key(field: u32, wire_type: u32) -> u8 {
    // The fields that are written have numbers below 16: their keys are one byte.
    assert!(field < 16);
    (field << 3 | wire_type) as u8
}

/// Bytes that `number` takes.
const fn varint_bytes(number: u64) -> usize {
    // Seven bits in each byte.
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Bytes of a field that holds `length` bytes.
const fn bytes_field(length: usize) -> usize {
    1 + varint_bytes(length as u64) + length
}

/// Bytes of a field that holds `number`; zero is left out.
const fn number_field(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + varint_bytes(number) }
}

/// Bytes of a field that holds a text, where an empty one is left out.
const fn text_field(length: usize) -> usize {
    if length == 0 { 0 } else { bytes_field(length) }
}

fn put_varint(mut number: u64, out: &mut impl BufMut) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn put_number(field: u32, number: u64, out: &mut impl BufMut) {
    if number != 0 {
        out.put_u8(key(field, NUMBER));
        put_varint(number, out);
    }
}

/// Begins a field of `length` bytes.
fn put_head(field: u32, length: usize, out: &mut impl BufMut) {
    out.put_u8(key(field, BYTES));
    put_varint(length as u64, out);
}

fn put_text(field: u32, text: &str, out: &mut impl BufMut) {
    if !text.is_empty() {
        put_head(field, text.len(), out);
        out.put_slice(text.as_bytes());
    }
}

/// Bytes of a type's name.
fn name_bytes(name: &TypeName) -> usize {
    name.name.len() + if name.package.is_empty() { 0 } else { name.package.len() + 1 }
}

/// Bytes of an entry written as a PID, without its head.
fn pid_bytes(entry: &PidEntry) -> usize {
    text_field(entry.address.len()) + text_field(entry.id.len())
}

fn put_pid(field: u32, entry: &PidEntry, out: &mut impl BufMut) {
    put_head(field, pid_bytes(entry), out);
    put_text(tag::pid::ADDRESS, &entry.address, out);
    put_text(tag::pid::ID, &entry.id, out);
}

/// Collects envelopes and writes them as one message.
///
/// Tables are made for each batch alone, in order of first use, as protoactor-go does. Once its buffers have grown, pushing and
/// finishing take no memory.
pub struct BatchWriter {
    limits: BatchLimits,
    type_names: Table<TypeName>,
    targets: Table<Arc<PidEntry>>,
    senders: Table<Arc<PidEntry>>,
    /// The envelopes as they are sent.
    envelopes: Vec<u8>,
    count: usize,
    /// Bytes of the tables of type names and senders.
    table_bytes: usize,
    /// Bytes of the table of targets in the form with addresses, and in the other.
    pid_target_bytes: usize,
    id_target_bytes: usize,
}

/// What an envelope would add to a batch.
struct Added {
    type_index: usize,
    target_index: usize,
    /// Counted from 1.
    sender_index: usize,
    header_bytes: usize,
    body_bytes: usize,
    table_bytes: usize,
    pid_target_bytes: usize,
    id_target_bytes: usize,
}

impl BatchWriter {
    /// An empty batch that will not pass `limits`.
    #[must_use]
    pub fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            type_names: Table::new(),
            targets: Table::new(),
            senders: Table::new(),
            envelopes: Vec::new(),
            count: 0,
            table_bytes: 0,
            pid_target_bytes: 0,
            id_target_bytes: 0,
        }
    }

    /// How many envelopes wait in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the message that [`finish`](Self::finish) would write in this form.
    #[must_use]
    pub fn encoded_len(&self, form: WireForm) -> usize {
        bytes_field(self.batch_len(form))
    }

    fn batch_len(&self, form: WireForm) -> usize {
        let targets = match form {
            WireForm::W1 => self.pid_target_bytes,
            WireForm::W2 => self.id_target_bytes,
        };
        self.table_bytes + targets + self.envelopes.len()
    }

    /// Adds an envelope, if it fits in either form.
    ///
    /// # Errors
    /// [`Full`]; nothing was changed. Only for [`Full::Batch`] is another attempt of use, after [`finish`](Self::finish).
    pub fn push(&mut self, envelope: &OutgoingEnvelope<'_>) -> Result<(), Full> {
        let added = self.measure(envelope)?;
        // The form with addresses is never the shorter one.
        let size = self.batch_len(WireForm::W1)
            + added.table_bytes
            + added.pid_target_bytes
            + bytes_field(added.body_bytes);
        let limits = &self.limits;
        if bytes_field(size) > limits.message_bytes {
            let size = if self.is_empty() { bytes_field(size) } else { alone(envelope, &added) };
            let limit = limits.message_bytes;
            return Err(if size > limit { Full::TooLarge { size, limit } } else { Full::Batch });
        }
        if self.count >= limits.envelopes
            || added.type_index >= limits.type_names
            || added.target_index >= limits.targets
            || added.sender_index > limits.senders
        {
            return Err(Full::Batch);
        }
        self.table_bytes += added.table_bytes;
        self.pid_target_bytes += added.pid_target_bytes;
        self.id_target_bytes += added.id_target_bytes;
        self.type_names.keep(&envelope.type_name, added.type_index);
        self.targets.keep(envelope.target, added.target_index);
        if let Some(sender) = envelope.sender {
            self.senders.keep(sender, added.sender_index - 1);
        }
        self.write(envelope, &added);
        self.count += 1;
        Ok(())
    }

    /// Checks an envelope and says what it would add.
    fn measure(&self, envelope: &OutgoingEnvelope<'_>) -> Result<Added, Full> {
        let limits = &self.limits;
        let type_index = self.type_names.find(&envelope.type_name);
        let target_index = self.targets.find(envelope.target);
        let (mut table_bytes, mut pid_target_bytes, mut id_target_bytes) = (0, 0, 0);
        if type_index == self.type_names.entries.len() {
            let bytes = name_bytes(&envelope.type_name);
            check_size(Part::TypeName, bytes, limits.name_bytes).map_err(Full::Entry)?;
            table_bytes += bytes_field(bytes);
        }
        if target_index == self.targets.entries.len() {
            check_entry(envelope.target, limits).map_err(Full::Entry)?;
            // The other form would take such an id for a PID.
            if begins_like_pid(envelope.target.id.as_bytes()) {
                return Err(Full::Entry(EntryFault::Ambiguous));
            }
            pid_target_bytes = bytes_field(pid_bytes(envelope.target));
            id_target_bytes = bytes_field(envelope.target.id.len());
        }
        let sender_index = match envelope.sender {
            None => 0,
            Some(sender) => {
                let index = self.senders.find(sender);
                if index == self.senders.entries.len() {
                    check_entry(sender, limits).map_err(Full::Entry)?;
                    table_bytes += bytes_field(pid_bytes(sender));
                }
                index + 1
            }
        };
        let Ok(serializer) = u32::try_from(envelope.serializer) else {
            return Err(Full::Serializer(envelope.serializer));
        };
        let header_bytes = match envelope.header {
            Some(header) if !header.is_empty() => {
                let bytes = header.iter().map(|(name, value)| name.len() + value.len()).sum();
                if header.len() > limits.header_entries || bytes > limits.header_bytes {
                    return Err(Full::Headers { entries: header.len(), bytes });
                }
                header.iter().map(|(name, value)| bytes_field(pair_bytes(name, value))).sum()
            }
            Some(_) | None => 0,
        };
        let body_bytes = number_field(type_index as u64)
            + text_field(envelope.payload.len())
            + number_field(target_index as u64)
            + number_field(sender_index as u64)
            + number_field(u64::from(serializer))
            + text_field(header_bytes)
            + number_field(u64::from(envelope.target_request_id))
            + number_field(u64::from(envelope.sender_request_id));
        Ok(Added {
            type_index,
            target_index,
            sender_index,
            header_bytes,
            body_bytes,
            table_bytes,
            pid_target_bytes,
            id_target_bytes,
        })
    }

    fn write(&mut self, envelope: &OutgoingEnvelope<'_>, added: &Added) {
        let out = &mut self.envelopes;
        put_head(tag::batch::ENVELOPES, added.body_bytes, out);
        let start = out.len();
        put_number(tag::envelope::TYPE, added.type_index as u64, out);
        if !envelope.payload.is_empty() {
            put_head(tag::envelope::PAYLOAD, envelope.payload.len(), out);
            out.put_slice(envelope.payload);
        }
        put_number(tag::envelope::TARGET, added.target_index as u64, out);
        put_number(tag::envelope::SENDER, added.sender_index as u64, out);
        put_number(tag::envelope::SERIALIZER, u64::from(envelope.serializer.cast_unsigned()), out);
        if let Some(header) = envelope.header.filter(|_| added.header_bytes > 0) {
            put_head(tag::envelope::HEADER, added.header_bytes, out);
            for (name, value) in header.iter() {
                put_head(tag::header::ENTRY, pair_bytes(name, value), out);
                put_text(tag::header::NAME, name, out);
                put_text(tag::header::VALUE, value, out);
            }
        }
        put_number(tag::envelope::TARGET_REQUEST, u64::from(envelope.target_request_id), out);
        put_number(tag::envelope::SENDER_REQUEST, u64::from(envelope.sender_request_id), out);
        debug_assert_eq!(out.len() - start, added.body_bytes);
    }

    /// Writes all envelopes as one `RemoteMessage` and empties the batch; its buffers are kept for the next.
    ///
    /// `out` must have room for [`encoded_len`](Self::encoded_len) bytes, or grow.
    pub fn finish(&mut self, form: WireForm, out: &mut impl BufMut) {
        put_head(tag::message::BATCH, self.batch_len(form), out);
        for name in &self.type_names.entries {
            put_head(tag::batch::TYPE_NAMES, name_bytes(name), out);
            if !name.package.is_empty() {
                out.put_slice(name.package.as_bytes());
                out.put_u8(b'.');
            }
            out.put_slice(name.name.as_bytes());
        }
        for target in &self.targets.entries {
            match form {
                WireForm::W1 => put_pid(tag::batch::TARGETS, target, out),
                WireForm::W2 => {
                    put_head(tag::batch::TARGETS, target.id.len(), out);
                    out.put_slice(target.id.as_bytes());
                }
            }
        }
        out.put_slice(&self.envelopes);
        for sender in &self.senders.entries {
            put_pid(tag::batch::SENDERS, sender, out);
        }
        self.clear();
    }

    /// Empties the batch without writing it; its buffers are kept.
    pub fn clear(&mut self) {
        self.type_names.clear();
        self.targets.clear();
        self.senders.clear();
        self.envelopes.clear();
        (self.count, self.table_bytes, self.pid_target_bytes, self.id_target_bytes) = (0, 0, 0, 0);
    }
}

impl fmt::Debug for BatchWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchWriter")
            .field("envelopes", &self.count)
            .field("type_names", &self.type_names.entries.len())
            .field("targets", &self.targets.entries.len())
            .field("senders", &self.senders.entries.len())
            .field("bytes", &self.encoded_len(WireForm::W1))
            .finish()
    }
}

/// Bytes of one entry of a map of headers, without its head.
fn pair_bytes(name: &str, value: &str) -> usize {
    text_field(name.len()) + text_field(value.len())
}

fn check_entry(entry: &PidEntry, limits: &BatchLimits) -> Result<(), EntryFault> {
    check_size(Part::Address, entry.address.len(), limits.address_bytes)?;
    check_id(entry.id.as_bytes(), limits)
}

/// Bytes of the message that holds nothing but `envelope`.
fn alone(envelope: &OutgoingEnvelope<'_>, added: &Added) -> usize {
    let indices =
        |type_index, target, sender| number_field(type_index) + number_field(target) + number_field(sender);
    let body = added.body_bytes
        - indices(added.type_index as u64, added.target_index as u64, added.sender_index as u64)
        + indices(0, 0, u64::from(envelope.sender.is_some()));
    bytes_field(
        bytes_field(name_bytes(&envelope.type_name))
            + bytes_field(pid_bytes(envelope.target))
            + envelope.sender.map_or(0, |sender| bytes_field(pid_bytes(sender)))
            + bytes_field(body),
    )
}
