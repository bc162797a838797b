//! What can be wrong with bytes or with a value that is to become bytes.

use core::fmt;

/// A value breaks a rule of the wire. On reading, the peer is at fault; on writing, the local caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The field, as named in `docs/wire.md`: `"envelope.payload"`.
    pub field: &'static str,
    /// The rule it breaks.
    pub rule: WireRule,
}

/// The rules of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireRule {
    /// The body ends before the field does.
    Truncated,
    /// The body goes on after its last field.
    TrailingBytes {
        /// How many bytes.
        count: usize,
    },
    /// More bytes than allowed.
    TooLong {
        /// How many.
        length: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// More items than allowed.
    TooMany {
        /// How many.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// Must not be empty.
    Empty,
    /// Must be UTF-8.
    NotUtf8,
    /// Must not hold a control character.
    ControlCharacter,
    /// Must be a path: `/` and a name, again and again, each in its one spelling.
    NotAPath,
    /// Must be the name of a system, or a host.
    NotAName,
    /// Must be `scheme://system@host:port`.
    NotAnAddress,
    /// A code, kind or flag that this version does not know.
    Unknown {
        /// The value.
        value: u32,
    },
    /// Must not be zero.
    Zero,
    /// Two flags that exclude each other.
    Contradiction,
    /// The lengths inside do not add up to the one outside.
    LengthMismatch,
    /// A frame of another lane than the one it was read as.
    WrongLane,
}

impl WireError {
    pub(crate) const fn new(field: &'static str, rule: WireRule) -> Self {
        Self { field, rule }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.rule)
    }
}

impl fmt::Display for WireRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("ends early"),
            Self::TrailingBytes { count } => write!(f, "{count} bytes after the last field"),
            Self::TooLong { length, limit } => write!(f, "{length} bytes, the limit is {limit}"),
            Self::TooMany { count, limit } => write!(f, "{count} items, the limit is {limit}"),
            Self::Empty => f.write_str("is empty"),
            Self::NotUtf8 => f.write_str("is not UTF-8"),
            Self::ControlCharacter => f.write_str("holds a control character"),
            Self::NotAPath => f.write_str("is not a path of names in their one spelling"),
            Self::NotAName => f.write_str("is not the name of a system or a host"),
            Self::NotAnAddress => f.write_str("is not scheme://system@host:port"),
            Self::Unknown { value } => write!(f, "unknown value {value:#x}"),
            Self::Zero => f.write_str("must not be zero"),
            Self::Contradiction => f.write_str("flags exclude each other"),
            Self::LengthMismatch => f.write_str("the lengths inside do not add up"),
            Self::WrongLane => f.write_str("belongs to another lane"),
        }
    }
}

impl core::error::Error for WireError {}
