//! Writing into a lane's buffer and reading from a frame, without a copy in between.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;
use serde::de::Deserialize;

use super::protobuf::TypeName;

/// Identifies a serializer on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerializerId(pub u16);

impl SerializerId {
    /// Protocol buffers, as on the protoactor wire.
    pub const PROTOBUF: Self = Self(0);
    /// JSON, as on the protoactor wire.
    pub const JSON: Self = Self(1);
    /// Postcard, the native default.
    pub const POSTCARD: Self = Self(2);
    /// The first id an application may use for a serializer of its own.
    pub const FIRST_USER: Self = Self(16);
}

/// Why a message could not be written. Nothing of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The payload grew beyond the limit; the bytes it would have needed are unknown.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The serializer refused, in its own words.
    Failed(String),
}

impl EncodeError {
    /// An error with a text.
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "more than {limit} bytes encoded"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why a payload could not be read. Only that message is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The payload ended early.
    Truncated,
    /// The payload has bytes after its end.
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// The deserializer refused, in its own words.
    Failed(String),
    /// The manifest is not registered for this recipient; the text names the missing call.
    UnknownManifest(String),
}

impl DecodeError {
    /// An error with a text.
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the payload ends early"),
            Self::TrailingBytes { count } => write!(f, "{count} bytes after the end of the payload"),
            Self::Failed(why) | Self::UnknownManifest(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Appends one payload to a buffer it does not own, up to a limit.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    limit: usize,
    type_name: Option<TypeName>,
}

impl<'a> Encoder<'a> {
    /// An encoder that appends to `out`, at most `limit` bytes.
    pub fn new(out: &'a mut Vec<u8>, limit: usize) -> Self {
        let start = out.len();
        Self { out, start, limit, type_name: None }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.out.len() - self.start
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`] when the limit would be passed; nothing is appended then.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() > self.limit - self.written() {
            return Err(EncodeError::TooLarge { limit: self.limit });
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Notes what the payload is on a wire that names types. `Encoder::protobuf` does so itself.
    pub fn set_type_name(&mut self, type_name: TypeName) {
        self.type_name = Some(type_name);
    }

    /// What the payload is on a wire that names types, once that has been noted.
    #[must_use]
    pub const fn type_name(&self) -> Option<TypeName> {
        self.type_name
    }

    /// Appends `value` in the protobuf format and notes its type.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`] when the limit would be passed; nothing is appended then.
    #[cfg(feature = "protobuf")]
    pub fn protobuf<T: super::ProtobufValue>(&mut self, value: &T) -> Result<(), EncodeError> {
        if value.encoded_len() > self.limit - self.written() {
            return Err(EncodeError::TooLarge { limit: self.limit });
        }
        // A vector grows as it must: this does not fail.
        value.encode(self.out).map_err(EncodeError::failed)?;
        self.type_name = Some(TypeName::of::<T>());
        Ok(())
    }

    /// Appends `value` in the postcard format.
    ///
    /// # Errors
    /// When the value refuses to be serialized or the limit would be passed.
    pub fn postcard<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        struct Flavor<'e> {
            out: &'e mut Vec<u8>,
            end: usize,
            full: &'e mut bool,
        }
        impl postcard::ser_flavors::Flavor for Flavor<'_> {
            type Output = ();
            #[inline]
            fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
                if self.out.len() >= self.end {
                    *self.full = true;
                    return Err(postcard::Error::SerializeBufferFull);
                }
                self.out.push(byte);
                Ok(())
            }
            #[inline]
            fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
                if bytes.len() > self.end.saturating_sub(self.out.len()) {
                    *self.full = true;
                    return Err(postcard::Error::SerializeBufferFull);
                }
                self.out.extend_from_slice(bytes);
                Ok(())
            }
            fn finalize(self) -> postcard::Result<()> {
                Ok(())
            }
        }
        let (limit, mut full) = (self.limit, false);
        super::scope::clear_fault();
        let end = self.start.saturating_add(limit);
        match postcard::serialize_with_flavor(value, Flavor { out: self.out, end, full: &mut full }) {
            Ok(()) => Ok(()),
            Err(_) if full => Err(EncodeError::TooLarge { limit }),
            // Postcard drops the text of a custom error; the scope keeps ours.
            Err(error) => {
                Err(super::scope::take_fault()
                    .map_or_else(|| EncodeError::failed(error), EncodeError::Failed))
            }
        }
    }
}

/// Reads one payload from a slice.
#[derive(Debug)]
pub struct Decoder<'a> {
    input: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// A decoder over `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { input }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn remaining(&self) -> &'a [u8] {
        self.input
    }

    /// Reads `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer are left; nothing is consumed then.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.input.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.input = tail;
        Ok(head)
    }

    /// Reads a value in the postcard format.
    ///
    /// # Errors
    /// When the bytes are not such a value.
    #[inline]
    pub fn postcard<T: Deserialize<'a>>(&mut self) -> Result<T, DecodeError> {
        super::scope::clear_fault();
        match postcard::take_from_bytes(self.input) {
            Ok((value, rest)) => {
                self.input = rest;
                Ok(value)
            }
            Err(postcard::Error::DeserializeUnexpectedEnd) => Err(DecodeError::Truncated),
            Err(error) => {
                Err(super::scope::take_fault()
                    .map_or_else(|| DecodeError::failed(error), DecodeError::Failed))
            }
        }
    }

    /// Says that the payload must end here.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] when it does not.
    pub const fn finish(&self) -> Result<(), DecodeError> {
        if self.input.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes { count: self.input.len() })
        }
    }
}
