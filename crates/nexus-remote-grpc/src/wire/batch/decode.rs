//! Reading a message.

use std::fmt;

use bytes::Bytes;
use nexus_actor_core::Headers;

use super::fault::{EntryFault, EnvelopeFault, EnvelopeFaultKind, MessageFault, Part};
use super::handshake;
use super::reader::{Broken, Field, Reader};
use super::target::{PidSpan, Sender, Span, Target, check_size, keep, read_sender, read_target};
use super::{BatchLimits, WireForm, tag};
use crate::wire::proto::remote::{ConnectRequest, ConnectResponse};

/// What a message is.
#[derive(Debug)]
pub enum Incoming {
    /// User and system messages.
    Batch(Batch),
    /// The first message of whoever opened the call.
    ConnectRequest(ConnectRequest),
    /// The answer to it.
    ConnectResponse(ConnectResponse),
    /// The other side will send no more and wants the call ended.
    Disconnect,
    /// How many envelopes the other side has taken from this call, in all. Only nodes of ours send it.
    Acknowledge(u64),
    /// Nothing, or nothing known.
    Empty,
}

/// Reads one gRPC message, without the five bytes in front of it.
///
/// Takes memory for the tables only: their texts are copied once, envelopes stay in `bytes`. No more than about sixteen times
/// the bytes that the entries of the tables came in, whatever they say, and no recursion.
///
/// # Errors
/// [`MessageFault`] when the message is too long, is not protobuf, or has more entries than `limits` accept. What is wrong
/// with one envelope, or with what it points to, is told by [`Batch::envelopes`] instead.
///
/// # Source
/// Unlike protobuf's own rule, a message that has two of the members of which it can have one is refused rather than merged:
/// no encoder writes it. Fields that are not known are skipped.
pub fn decode(bytes: Bytes, limits: &BatchLimits) -> Result<Incoming, MessageFault> {
    let limit = limits.message_bytes.min(u32::MAX as usize);
    if bytes.len() > limit {
        return Err(MessageFault::TooLarge { size: bytes.len(), limit });
    }
    let broken = MessageFault::of("message");
    let (mut reader, mut member) = (Reader::new(&bytes), None);
    while let Some(field) = reader.next().map_err(&broken)? {
        if matches!(
            field.number,
            tag::message::BATCH
                | tag::message::CONNECT_REQUEST
                | tag::message::CONNECT_RESPONSE
                | tag::message::DISCONNECT_REQUEST
                | tag::message::ACKNOWLEDGE
        ) {
            let content = field.bytes().map_err(&broken)?;
            if member.is_some() {
                return Err(broken(Broken { at: field.start() }));
            }
            member = Some((field.number, field.start()..field.start() + content.len()));
        }
    }
    let Some((number, range)) = member else { return Ok(Incoming::Empty) };
    let content = bytes.slice(range);
    match number {
        tag::message::BATCH => Batch::read(content, limits).map(Incoming::Batch),
        tag::message::CONNECT_REQUEST => {
            handshake::connect_request(&content, limits).map(Incoming::ConnectRequest)
        }
        tag::message::CONNECT_RESPONSE => {
            handshake::connect_response(&content, limits).map(Incoming::ConnectResponse)
        }
        tag::message::DISCONNECT_REQUEST => Ok(Incoming::Disconnect),
        _ => handshake::acknowledge(&content).map(Incoming::Acknowledge),
    }
}

/// A batch whose frame and tables were checked. It keeps the bytes it came in, and can be kept across waits.
#[derive(Clone)]
pub struct Batch {
    bytes: Bytes,
    limits: BatchLimits,
    /// The texts of all tables, one behind another.
    texts: String,
    type_names: Vec<Result<Span, EntryFault>>,
    targets: Vec<Result<PidSpan, EntryFault>>,
    senders: Vec<Result<PidSpan, EntryFault>>,
    envelopes: usize,
    form: Option<WireForm>,
}

/// How many entries each table of a batch has, and how long they are together.
#[derive(Default)]
struct Counts {
    type_names: usize,
    targets: usize,
    envelopes: usize,
    senders: usize,
    text_bytes: usize,
}

impl Counts {
    fn of(bytes: &[u8], limits: &BatchLimits) -> Result<Self, MessageFault> {
        let broken = MessageFault::of("batch");
        let (mut reader, mut counts) = (Reader::new(bytes), Self::default());
        while let Some(field) = reader.next().map_err(&broken)? {
            let (count, what, limit) = match field.number {
                tag::batch::TYPE_NAMES => (&mut counts.type_names, "type names", limits.type_names),
                tag::batch::TARGETS => (&mut counts.targets, "targets", limits.targets),
                tag::batch::ENVELOPES => (&mut counts.envelopes, "envelopes", limits.envelopes),
                tag::batch::SENDERS => (&mut counts.senders, "senders", limits.senders),
                _ => continue,
            };
            let length = field.bytes().map_err(&broken)?.len();
            *count += 1;
            if *count > limit {
                return Err(MessageFault::TooMany { what, count: *count, limit });
            }
            if field.number != tag::batch::ENVELOPES {
                counts.text_bytes += length;
            }
        }
        Ok(counts)
    }
}

impl Batch {
    fn read(bytes: Bytes, limits: &BatchLimits) -> Result<Self, MessageFault> {
        let counts = Counts::of(&bytes, limits)?;
        let mut texts = String::with_capacity(counts.text_bytes);
        let mut type_names = Vec::with_capacity(counts.type_names);
        let mut targets = Vec::with_capacity(counts.targets);
        let mut senders = Vec::with_capacity(counts.senders);
        let broken = MessageFault::of("batch");
        let mut reader = Reader::new(&bytes);
        while let Some(field) = reader.next().map_err(&broken)? {
            match field.number {
                tag::batch::TYPE_NAMES => {
                    let name = field.bytes().map_err(&broken)?;
                    let kept = check_size(Part::TypeName, name.len(), limits.name_bytes)
                        .and_then(|()| keep(name, Part::TypeName, &mut texts));
                    type_names.push(kept);
                }
                tag::batch::TARGETS => {
                    targets.push(read_target(field.bytes().map_err(&broken)?, limits, &mut texts));
                }
                tag::batch::SENDERS => {
                    senders.push(read_sender(field.bytes().map_err(&broken)?, limits, &mut texts));
                }
                _ => {}
            }
        }
        let mut forms = targets.iter().flatten().filter_map(|target: &PidSpan| target.form);
        let form = forms.next().filter(|first| forms.all(|form| form == *first));
        Ok(Self {
            bytes,
            limits: *limits,
            texts,
            type_names,
            targets,
            senders,
            envelopes: counts.envelopes,
            form,
        })
    }

    /// The form that its targets are written in; `None` when there are none to tell by, or they disagree.
    #[must_use]
    pub fn form(&self) -> Option<WireForm> {
        self.form
    }

    /// How many envelopes it has, faulty ones among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.envelopes
    }

    /// Whether it has no envelope.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.envelopes == 0
    }

    /// How many type names there are: what [`Envelope::type_index`] is below.
    #[must_use]
    pub fn type_name_count(&self) -> usize {
        self.type_names.len()
    }

    /// How many targets there are: what [`Envelope::target_index`] is below.
    #[must_use]
    pub fn target_count(&self) -> usize {
        self.targets.len()
    }

    /// How many senders there are: what [`Envelope::sender_index`] is below.
    #[must_use]
    pub fn sender_count(&self) -> usize {
        self.senders.len()
    }

    /// The type name at `index`, if there is a sound one.
    #[must_use]
    pub fn type_name(&self, index: usize) -> Option<&str> {
        Some(self.type_names.get(index)?.as_ref().ok()?.of(&self.texts))
    }

    /// The target at `index`, if there is a sound one.
    #[must_use]
    pub fn target(&self, index: usize) -> Option<Target<'_>> {
        Some(self.targets.get(index)?.as_ref().ok()?.target(&self.texts))
    }

    /// The sender at `index`, from 0, if there is a sound one.
    #[must_use]
    pub fn sender(&self, index: usize) -> Option<Sender<'_>> {
        Some(self.senders.get(index)?.as_ref().ok()?.sender(&self.texts))
    }

    /// The envelopes in the order they were sent, each checked when its turn comes.
    #[must_use]
    pub fn envelopes(&self) -> Envelopes<'_> {
        Envelopes { batch: self, reader: Reader::new(&self.bytes), position: 0 }
    }
}

/// Peers' payloads are not for logs: only figures are shown.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("form", &self.form)
            .field("type_names", &self.type_names.len())
            .field("targets", &self.targets.len())
            .field("senders", &self.senders.len())
            .field("envelopes", &self.envelopes)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// One message for one actor.
#[derive(Clone, Copy)]
pub struct Envelope<'a> {
    /// Which of the batch's type names.
    pub type_index: usize,
    /// The name of the payload's type, `google.protobuf.StringValue`.
    pub type_name: &'a str,
    /// How the payload is written: 0 protobuf, 1 JSON. Not negative.
    pub serializer: i32,
    /// The payload.
    pub payload: &'a [u8],
    /// Which of the batch's targets.
    pub target_index: usize,
    /// Whom it is for.
    pub target: Target<'a>,
    /// Which of the batch's senders, from 0.
    pub sender_index: Option<usize>,
    /// Whom it is from.
    pub sender: Option<Sender<'a>>,
    /// Which of the requests behind a shared future is answered; 0 for none.
    pub target_request_id: u32,
    /// What to name as `target_request_id` in an answer; 0 for none.
    pub sender_request_id: u32,
    /// Its headers, if it has any.
    pub header: Option<HeaderView<'a>>,
}

/// Payloads and header values are not for logs: only their lengths are shown.
impl fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("type_name", &self.type_name)
            .field("serializer", &self.serializer)
            .field("payload_bytes", &self.payload.len())
            .field("target", &self.target)
            .field("sender", &self.sender)
            .field("target_request_id", &self.target_request_id)
            .field("sender_request_id", &self.sender_request_id)
            .field("headers", &self.header.map_or(0, |header| header.len()))
            .finish()
    }
}

/// The envelopes of a batch. A fault is an item, and the next item is the next envelope.
pub struct Envelopes<'a> {
    batch: &'a Batch,
    reader: Reader<'a>,
    position: usize,
}

impl<'a> Iterator for Envelopes<'a> {
    type Item = Result<Envelope<'a>, EnvelopeFault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // The frame was read to its end before, so there is nothing broken here.
            let field = self.reader.next().ok()??;
            if field.number != tag::batch::ENVELOPES {
                continue;
            }
            let position = self.position;
            self.position += 1;
            return Some(read(field, self.batch, position));
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batch.envelopes - self.position;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Envelopes<'_> {}

impl fmt::Debug for Envelopes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelopes").field("batch", self.batch).field("position", &self.position).finish()
    }
}

/// An envelope as it is sent.
#[derive(Default)]
struct RawEnvelope<'a> {
    type_index: i32,
    payload: &'a [u8],
    target_index: i32,
    sender_index: i32,
    serializer: i32,
    header: Option<&'a [u8]>,
    target_request_id: u32,
    sender_request_id: u32,
}

impl<'a> RawEnvelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Broken> {
        let (mut reader, mut raw) = (Reader::new(bytes), Self::default());
        while let Some(field) = reader.next()? {
            match field.number {
                tag::envelope::TYPE => raw.type_index = field.i32()?,
                tag::envelope::PAYLOAD => raw.payload = field.bytes()?,
                tag::envelope::TARGET => raw.target_index = field.i32()?,
                tag::envelope::SENDER => raw.sender_index = field.i32()?,
                tag::envelope::SERIALIZER => raw.serializer = field.i32()?,
                tag::envelope::HEADER => match raw.header.replace(field.bytes()?) {
                    None => {}
                    Some(_) => return Err(Broken { at: field.start() }),
                },
                tag::envelope::TARGET_REQUEST => raw.target_request_id = field.u32()?,
                tag::envelope::SENDER_REQUEST => raw.sender_request_id = field.u32()?,
                _ => {}
            }
        }
        Ok(raw)
    }
}

/// An index that leads to nothing, or to an entry that is refused.
enum Missing {
    Outside { bound: usize },
    Refused(EntryFault),
}

fn lookup<T: Copy>(table: &[Result<T, EntryFault>], index: Option<i32>) -> Result<(usize, T), Missing> {
    let index = index.and_then(|index| usize::try_from(index).ok()).filter(|index| *index < table.len());
    let Some(index) = index else { return Err(Missing::Outside { bound: table.len() }) };
    table[index].map(|entry| (index, entry)).map_err(Missing::Refused)
}

fn read<'a>(field: Field<'a>, batch: &'a Batch, position: usize) -> Result<Envelope<'a>, EnvelopeFault> {
    let refuse = |type_index, target_index, sender_index, kind| {
        Err(EnvelopeFault { position, type_index, target_index, sender_index, kind })
    };
    let raw = match field.bytes().and_then(RawEnvelope::read) {
        Ok(raw) => raw,
        Err(Broken { at }) => return refuse(None, None, None, EnvelopeFaultKind::Malformed { at }),
    };
    let texts = batch.texts.as_str();
    let name = lookup(&batch.type_names, Some(raw.type_index));
    let target = lookup(&batch.targets, Some(raw.target_index));
    let sender = match raw.sender_index {
        0 => Ok(None),
        index => lookup(&batch.senders, index.checked_sub(1)).map(Some),
    };
    let header = raw.header.map(|bytes| HeaderView::read(bytes, &batch.limits)).transpose();
    let found = (
        name.as_ref().ok().map(|(index, _)| *index),
        target.as_ref().ok().map(|(index, _)| *index),
        sender.as_ref().ok().copied().flatten().map(|(index, _)| index),
    );
    let checked = (|| {
        let (target_index, target) = target.map_err(|missing| match missing {
            Missing::Outside { bound } => EnvelopeFaultKind::TargetIndex { index: raw.target_index, bound },
            Missing::Refused(fault) => EnvelopeFaultKind::Target(fault),
        })?;
        let sender = sender.map_err(|missing| match missing {
            Missing::Outside { bound } => EnvelopeFaultKind::SenderIndex { index: raw.sender_index, bound },
            Missing::Refused(fault) => EnvelopeFaultKind::Sender(fault),
        })?;
        let (type_index, name) = name.map_err(|missing| match missing {
            Missing::Outside { bound } => EnvelopeFaultKind::TypeIndex { index: raw.type_index, bound },
            Missing::Refused(fault) => EnvelopeFaultKind::TypeName(fault),
        })?;
        if raw.serializer < 0 {
            return Err(EnvelopeFaultKind::Serializer { id: raw.serializer });
        }
        // A number in the envelope counts for more than one in the table, which no peer known writes.
        let (in_target, in_sender) = (target.request_id, sender.map_or(0, |(_, sender)| sender.request_id));
        let first = |own, other| if own == 0 { other } else { own };
        Ok(Envelope {
            type_index,
            type_name: name.of(texts),
            serializer: raw.serializer,
            payload: raw.payload,
            target_index,
            target: target.target(texts),
            sender_index: sender.map(|(index, _)| index),
            sender: sender.map(|(_, sender)| sender.sender(texts)),
            target_request_id: first(raw.target_request_id, in_target),
            sender_request_id: first(raw.sender_request_id, in_sender),
            header: header?,
        })
    })();
    checked.or_else(|kind| refuse(found.0, found.1, found.2, kind))
}

/// The headers of an envelope: checked, and built only when asked for.
#[derive(Clone, Copy)]
pub struct HeaderView<'a> {
    bytes: &'a [u8],
    entries: usize,
}

impl<'a> HeaderView<'a> {
    fn read(bytes: &'a [u8], limits: &BatchLimits) -> Result<Self, EnvelopeFaultKind> {
        let malformed = |Broken { at }| EnvelopeFaultKind::Malformed { at };
        let (mut reader, mut entries, mut size) = (Reader::new(bytes), 0, 0);
        while let Some(field) = reader.next().map_err(malformed)? {
            if field.number != tag::header::ENTRY {
                continue;
            }
            let (name, value) = field.bytes().and_then(header).map_err(malformed)?;
            entries += 1;
            size += name.len() + value.len();
            if entries > limits.header_entries {
                return Err(EnvelopeFaultKind::TooManyHeaders {
                    count: entries,
                    limit: limits.header_entries,
                });
            }
            if size > limits.header_bytes {
                return Err(EnvelopeFaultKind::HeadersTooLarge { size, limit: limits.header_bytes });
            }
            if std::str::from_utf8(name).is_err() || std::str::from_utf8(value).is_err() {
                return Err(EnvelopeFaultKind::HeaderNotText);
            }
        }
        Ok(Self { bytes, entries })
    }

    /// How many pairs there are. One name may occur twice; the last counts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes that the pairs came in.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// All pairs in the order they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        // All of it was read before, so nothing of this ends early.
        std::iter::from_fn(move || {
            loop {
                let field = reader.next().ok()??;
                if field.number == tag::header::ENTRY {
                    let (name, value) = field.bytes().and_then(header).ok()?;
                    return Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?));
                }
            }
        })
    }

    /// The headers, built.
    #[must_use]
    pub fn to_headers(&self) -> Headers {
        self.iter().fold(Headers::new(), |headers, (name, value)| headers.with(name, value))
    }
}

/// Values may be secrets: only the number is shown.
impl fmt::Debug for HeaderView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderView").field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// Name and value of one entry of the map.
fn header(bytes: &[u8]) -> Result<(&[u8], &[u8]), Broken> {
    let (mut reader, mut name, mut value) = (Reader::new(bytes), &[][..], &[][..]);
    while let Some(field) = reader.next()? {
        match field.number {
            tag::header::NAME => name = field.bytes()?,
            tag::header::VALUE => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((name, value))
}
