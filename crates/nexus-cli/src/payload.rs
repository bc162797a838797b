//! The bytes a message carries.

use core::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// So many bytes need no memory of their own.
const INLINE_MAX: usize = 22;

/// Bytes that are cheap to clone; a few of them are kept in place.
#[derive(Clone)]
pub(crate) enum Payload {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Shared(Arc<[u8]>),
}

impl Payload {
    /// `len` bytes of which no two neighbours are equal.
    pub(crate) fn pattern(len: usize) -> Self {
        Self::from((0..len).map(|i| i as u8).collect::<Vec<u8>>().as_slice())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Payload {
    fn from(from: &[u8]) -> Self {
        if from.len() <= INLINE_MAX {
            let mut bytes = [0; INLINE_MAX];
            bytes[..from.len()].copy_from_slice(from);
            Self::Inline { len: from.len() as u8, bytes }
        } else {
            Self::Shared(Arc::from(from))
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.as_bytes().len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Payload;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(Payload::from(bytes))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_payloads_keep_their_bytes() {
        for len in [0, 1, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 1_000] {
            let payload = Payload::pattern(len);
            assert_eq!(payload.as_bytes().len(), len);
            assert_eq!(payload, payload.clone());
            assert_eq!(matches!(payload, Payload::Inline { .. }), len <= INLINE_MAX);
        }
        assert_eq!(size_of::<Payload>(), 24);
    }
}
