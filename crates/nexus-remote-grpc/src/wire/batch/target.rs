//! Whom an envelope is for and whom it is from, in both forms.

use super::fault::{EntryFault, Part};
use super::reader::{Broken, Reader};
use super::{BatchLimits, WireForm, tag};

/// Whom an envelope is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The address it was sent to, in the form that has it ([`WireForm::W1`]); it may be empty.
    pub address: Option<&'a str>,
    /// The id.
    pub id: &'a str,
}

/// Whom an envelope is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender<'a> {
    /// The address to answer to. Some peers leave their own out: then it is empty, and the handshake has it.
    pub address: &'a str,
    /// The id.
    pub id: &'a str,
}

/// A piece of the texts of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) fn of(self, texts: &str) -> &str {
        &texts[self.start as usize..self.end as usize]
    }
}

/// An entry of the tables of targets and senders.
#[derive(Clone, Copy, Debug)]
pub(super) struct PidSpan {
    /// `None` when the entry is empty, which both forms write for an actor without a name.
    pub(super) form: Option<WireForm>,
    pub(super) address: Span,
    pub(super) id: Span,
    pub(super) request_id: u32,
}

impl PidSpan {
    pub(super) fn target(self, texts: &str) -> Target<'_> {
        Target {
            address: (self.form == Some(WireForm::W1)).then(|| self.address.of(texts)),
            id: self.id.of(texts),
        }
    }

    pub(super) fn sender(self, texts: &str) -> Sender<'_> {
        Sender { address: self.address.of(texts), id: self.id.of(texts) }
    }
}

/// A length for a fault.
pub(super) fn short(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Says whether `size` bytes may name a `part`.
pub(super) fn check_size(part: Part, size: usize, limit: usize) -> Result<(), EntryFault> {
    if size > limit {
        return Err(EntryFault::TooLong { part, size: short(size), limit: short(limit) });
    }
    Ok(())
}

/// Says whether `id` may name an actor.
pub(super) fn check_id(id: &[u8], limits: &BatchLimits) -> Result<(), EntryFault> {
    check_size(Part::Id, id.len(), limits.id_bytes)?;
    let count = 1 + id.iter().filter(|byte| **byte == b'/').count();
    if count > limits.id_elements {
        return Err(EntryFault::TooDeep { count: short(count), limit: short(limits.id_elements) });
    }
    Ok(())
}

/// Copies one text behind the others.
pub(super) fn keep(bytes: &[u8], part: Part, texts: &mut String) -> Result<Span, EntryFault> {
    let text = std::str::from_utf8(bytes).map_err(|_| EntryFault::NotText(part))?;
    let start = short(texts.len());
    texts.push_str(text);
    Ok(Span { start, end: short(texts.len()) })
}

#[derive(Default)]
struct RawPid<'a> {
    address: &'a [u8],
    id: &'a [u8],
    request_id: u32,
}

impl<'a> RawPid<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Broken> {
        let (mut reader, mut pid) = (Reader::new(bytes), Self::default());
        while let Some(field) = reader.next()? {
            match field.number {
                tag::pid::ADDRESS => pid.address = field.bytes()?,
                tag::pid::ID => pid.id = field.bytes()?,
                tag::pid::REQUEST_ID => pid.request_id = field.u32()?,
                _ => {}
            }
        }
        Ok(pid)
    }

    fn keep(
        &self,
        form: Option<WireForm>,
        limits: &BatchLimits,
        texts: &mut String,
    ) -> Result<PidSpan, EntryFault> {
        check_size(Part::Address, self.address.len(), limits.address_bytes)?;
        check_id(self.id, limits)?;
        Ok(PidSpan {
            form,
            address: keep(self.address, Part::Address, texts)?,
            id: keep(self.id, Part::Id, texts)?,
            request_id: self.request_id,
        })
    }
}

/// Whether `id` begins like a PID whose first field is its address or its id. As an id it could not be told from one.
pub(super) fn begins_like_pid(id: &[u8]) -> bool {
    matches!(id, [0x0a | 0x12, ..])
}

/// Reads an entry of the table of targets. It is a PID if it begins like one and is one to its end, else an id.
pub(super) fn read_target(
    bytes: &[u8],
    limits: &BatchLimits,
    texts: &mut String,
) -> Result<PidSpan, EntryFault> {
    let (form, pid) = match bytes {
        [] => (None, RawPid::default()),
        _ => match RawPid::read(bytes) {
            Ok(pid) if begins_like_pid(bytes) => (Some(WireForm::W1), pid),
            Ok(_) | Err(_) => (Some(WireForm::W2), RawPid { id: bytes, ..RawPid::default() }),
        },
    };
    pid.keep(form, limits, texts)
}

/// Reads an entry of the table of senders, a PID in both forms.
pub(super) fn read_sender(
    bytes: &[u8],
    limits: &BatchLimits,
    texts: &mut String,
) -> Result<PidSpan, EntryFault> {
    RawPid::read(bytes).map_err(|_| EntryFault::Malformed)?.keep(None, limits, texts)
}
