//! What can be wrong with a message, an entry of its tables, an envelope.

use std::fmt;

use super::reader::Broken;

/// Why a message is refused as a whole. Nothing of it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageFault {
    /// It is longer than is accepted (L7, or what a handshake may take).
    TooLarge {
        /// Bytes.
        size: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// It is no protobuf message, or not of this schema.
    Malformed {
        /// What was being read.
        what: &'static str,
        /// Which byte of the message, or of that part of it.
        at: usize,
    },
    /// A table, or the list of envelopes, has more entries than are accepted (L10).
    TooMany {
        /// Which.
        what: &'static str,
        /// How many there were when reading stopped.
        count: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// A text of the handshake is longer than is accepted, or no text.
    Text {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        fault: EntryFault,
    },
}

impl MessageFault {
    pub(super) const fn of(what: &'static str) -> impl Fn(Broken) -> Self {
        move |broken| Self::Malformed { what, at: broken.at }
    }
}

impl fmt::Display for MessageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { size, limit } => {
                write!(f, "a message of {size} bytes, where {limit} are accepted")
            }
            Self::Malformed { what, at } => write!(f, "byte {at} of the {what} cannot be read"),
            Self::TooMany { what, count, limit } => {
                write!(f, "{count} {what} or more in one message, where {limit} are accepted")
            }
            Self::Text { what, fault } => write!(f, "{what}: {fault}"),
        }
    }
}

impl std::error::Error for MessageFault {}

/// What a text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The name of a payload's type.
    TypeName,
    /// `host:port`.
    Address,
    /// The id of an actor, or of an actor system.
    Id,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TypeName => "type name",
            Self::Address => "address",
            Self::Id => "id",
        })
    }
}

/// What is wrong with an entry of a table. It costs the envelopes that use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryFault {
    /// It is not UTF-8.
    NotText(Part),
    /// It is longer than is accepted (L11).
    TooLong {
        /// What it names.
        part: Part,
        /// Bytes.
        size: u32,
        /// Bytes accepted.
        limit: u32,
    },
    /// The id has more elements than are accepted (L11).
    TooDeep {
        /// Elements.
        count: u32,
        /// Elements accepted.
        limit: u32,
    },
    /// It is not a PID.
    Malformed,
    /// Such an id cannot be told from a PID by a peer of the other form, so it is not sent.
    Ambiguous,
}

impl fmt::Display for EntryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText(part) => write!(f, "{part} that is not UTF-8"),
            Self::TooLong { part, size, limit } => {
                write!(f, "{part} of {size} bytes, where {limit} are accepted")
            }
            Self::TooDeep { count, limit } => write!(f, "id of {count} elements, where {limit} are accepted"),
            Self::Malformed => f.write_str("bytes that are no PID"),
            Self::Ambiguous => f.write_str("id that begins like a PID"),
        }
    }
}

impl std::error::Error for EntryFault {}

/// Why one envelope of a batch is refused. The others are not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeFault {
    /// Which envelope of its batch, from 0.
    pub position: usize,
    /// The type it names, where that is sound.
    pub type_index: Option<usize>,
    /// The target it names, where that is sound: it can be named in a dead letter.
    pub target_index: Option<usize>,
    /// The sender it names, where there is one and it is sound.
    pub sender_index: Option<usize>,
    /// What is wrong.
    pub kind: EnvelopeFaultKind,
}

/// What is wrong with an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvelopeFaultKind {
    /// It is no protobuf message of this schema.
    Malformed {
        /// Which byte of it.
        at: usize,
    },
    /// The type index lies outside the table.
    TypeIndex {
        /// The index.
        index: i32,
        /// How many type names there are.
        bound: usize,
    },
    /// The target index lies outside the table.
    TargetIndex {
        /// The index.
        index: i32,
        /// How many targets there are.
        bound: usize,
    },
    /// The sender index lies outside the table.
    SenderIndex {
        /// The index as it is sent, from 1.
        index: i32,
        /// How many senders there are.
        bound: usize,
    },
    /// The number of the serializer is negative. Whether one with a positive number is there is the caller's to know.
    Serializer {
        /// The number.
        id: i32,
    },
    /// Its type name is refused.
    TypeName(EntryFault),
    /// Its target is refused.
    Target(EntryFault),
    /// Its sender is refused.
    Sender(EntryFault),
    /// It has more headers than are accepted (L12).
    TooManyHeaders {
        /// How many there were when reading stopped.
        count: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// Its headers are longer than is accepted (L12).
    HeadersTooLarge {
        /// Bytes of names and values, as far as they were read.
        size: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// A name or value of its headers is not UTF-8.
    HeaderNotText,
}

impl fmt::Display for EnvelopeFaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { at } => write!(f, "byte {at} of it cannot be read"),
            Self::TypeIndex { index, bound } => write!(f, "type index {index}, where there are {bound}"),
            Self::TargetIndex { index, bound } => write!(f, "target index {index}, where there are {bound}"),
            Self::SenderIndex { index, bound } => {
                write!(f, "sender index {index}, counted from 1, where there are {bound}")
            }
            Self::Serializer { id } => write!(f, "serializer {id}"),
            Self::TypeName(fault) | Self::Target(fault) | Self::Sender(fault) => fmt::Display::fmt(fault, f),
            Self::TooManyHeaders { count, limit } => {
                write!(f, "{count} headers or more, where {limit} are accepted")
            }
            Self::HeadersTooLarge { size, limit } => {
                write!(f, "{size} bytes of headers or more, where {limit} are accepted")
            }
            Self::HeaderNotText => f.write_str("a header that is not UTF-8"),
        }
    }
}

impl fmt::Display for EnvelopeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "envelope {} of the batch: {}", self.position, self.kind)
    }
}

impl std::error::Error for EnvelopeFault {}
