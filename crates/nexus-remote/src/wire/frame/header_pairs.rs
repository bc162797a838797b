//! The headers that travel beside a message.

use alloc::vec::Vec;

use nexus_actor_core::Headers;

use crate::wire::error::{WireError, WireRule};
use crate::wire::header::put_text16;
use crate::wire::limit;
use crate::wire::reader::Reader;

/// The headers of an envelope, checked but not copied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeaderPairs<'a> {
    pub(super) pairs: &'a [u8],
    pub(super) count: u8,
}

impl<'a> HeaderPairs<'a> {
    /// Checks every pair, so that going through them later cannot fail.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        const FIELD: &str = "envelope.headers";
        let total = usize::from(reader.u16(FIELD)?);
        if total > limit::HEADERS {
            return Err(WireError::new(FIELD, WireRule::TooLong { length: total, limit: limit::HEADERS }));
        }
        let mut inner = Reader::new(reader.bytes(FIELD, total)?);
        let count = inner.u8(FIELD)?;
        if usize::from(count) > limit::HEADER_PAIRS {
            return Err(WireError::new(
                FIELD,
                WireRule::TooMany { count: usize::from(count), limit: limit::HEADER_PAIRS },
            ));
        }
        let pairs = inner.clone().rest();
        for _ in 0..count {
            inner.text8(FIELD, limit::HEADER_NAME)?;
            inner.text16(FIELD, limit::HEADERS)?;
        }
        if !inner.is_empty() {
            return Err(WireError::new(FIELD, WireRule::LengthMismatch));
        }
        Ok(Self { pairs, count })
    }

    /// How many pairs there are, at most 64.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Names and values in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut reader = Reader::new(self.pairs);
        core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            // `read` has gone through the same bytes: neither can fail here.
            Some((reader.text8("", limit::HEADER_NAME).ok()?, reader.text16("", limit::HEADERS).ok()?))
        })
    }

    /// A copy that outlives the read buffer. Of two pairs with one name the later value holds.
    #[must_use]
    pub fn to_headers(&self) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in self.iter() {
            headers.set(name, value);
        }
        headers
    }
}

impl core::fmt::Debug for HeaderPairs<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Appends `headers` behind their length.
pub(super) fn put_headers(out: &mut Vec<u8>, headers: &Headers) -> Result<(), WireError> {
    const FIELD: &str = "envelope.headers";
    if headers.len() > limit::HEADER_PAIRS {
        let (count, limit) = (headers.len(), limit::HEADER_PAIRS);
        return Err(WireError::new(FIELD, WireRule::TooMany { count, limit }));
    }
    let mut length = 1;
    for (name, value) in headers.iter() {
        if name.len() > limit::HEADER_NAME {
            let rule = WireRule::TooLong { length: name.len(), limit: limit::HEADER_NAME };
            return Err(WireError::new(FIELD, rule));
        }
        length += 3 + name.len() + value.len();
    }
    if length > limit::HEADERS {
        return Err(WireError::new(FIELD, WireRule::TooLong { length, limit: limit::HEADERS }));
    }
    out.extend_from_slice(&(length as u16).to_le_bytes());
    out.push(headers.len() as u8);
    for (name, value) in headers.iter() {
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        put_text16(out, value);
    }
    Ok(())
}
