//! A reader of bytes that can fail but not panic.

use super::error::{WireError, WireRule};

/// Reads fields from the front of a slice; every failure names the field.
///
/// All integers are little-endian. Nothing is copied or allocated: texts and bytes are borrowed from the input.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
}

macro_rules! integer {
    ($(#[$doc:meta])* $name:ident, $type:ty, $bytes:literal) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// [`WireRule::Truncated`].
        #[inline]
        pub const fn $name(&mut self, field: &'static str) -> Result<$type, WireError> {
            match self.input.split_first_chunk::<$bytes>() {
                Some((bytes, rest)) => {
                    self.input = rest;
                    Ok(<$type>::from_le_bytes(*bytes))
                }
                None => Err(WireError::new(field, WireRule::Truncated)),
            }
        }
    };
}

impl<'a> Reader<'a> {
    /// A reader of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { input }
    }

    integer!(/// Reads one byte.
        u8, u8, 1);
    integer!(/// Reads two bytes.
        u16, u16, 2);
    integer!(/// Reads four bytes.
        u32, u32, 4);
    integer!(/// Reads eight bytes.
        u64, u64, 8);

    /// Bytes not read yet.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.input.len()
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// Reads `count` bytes.
    ///
    /// # Errors
    /// [`WireRule::Truncated`]; nothing is consumed then.
    #[inline]
    pub const fn bytes(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], WireError> {
        match self.input.split_at_checked(count) {
            Some((head, rest)) => {
                self.input = rest;
                Ok(head)
            }
            None => Err(WireError::new(field, WireRule::Truncated)),
        }
    }

    /// Takes `count` bytes from the end.
    ///
    /// # Errors
    /// [`WireRule::Truncated`]; nothing is consumed then.
    #[inline]
    pub fn bytes_back(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], WireError> {
        let Some(at) = self.input.len().checked_sub(count) else {
            return Err(WireError::new(field, WireRule::Truncated));
        };
        let (head, tail) = self.input.split_at(at);
        self.input = head;
        Ok(tail)
    }

    /// Reads everything that is left.
    #[must_use]
    #[inline]
    pub const fn rest(&mut self) -> &'a [u8] {
        let (head, tail) = self.input.split_at(self.input.len());
        self.input = tail;
        head
    }

    /// Reads a text of `length` bytes, at most `max`.
    ///
    /// # Errors
    /// [`WireRule::TooLong`], [`WireRule::Truncated`], [`WireRule::NotUtf8`].
    pub const fn text(
        &mut self,
        field: &'static str,
        length: usize,
        max: usize,
    ) -> Result<&'a str, WireError> {
        if length > max {
            return Err(WireError::new(field, WireRule::TooLong { length, limit: max }));
        }
        match self.bytes(field, length) {
            Ok(bytes) => match core::str::from_utf8(bytes) {
                Ok(text) => Ok(text),
                Err(_) => Err(WireError::new(field, WireRule::NotUtf8)),
            },
            Err(error) => Err(error),
        }
    }

    /// Reads a text of at most `max` bytes behind a length of one byte.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn text8(&mut self, field: &'static str, max: usize) -> Result<&'a str, WireError> {
        let length = self.u8(field)?;
        self.text(field, usize::from(length), max)
    }

    /// Reads a text of at most `max` bytes behind a length of two bytes.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub fn text16(&mut self, field: &'static str, max: usize) -> Result<&'a str, WireError> {
        let length = self.u16(field)?;
        self.text(field, usize::from(length), max)
    }

    /// Says that the body must end here.
    ///
    /// # Errors
    /// [`WireRule::TrailingBytes`].
    #[inline]
    pub const fn finish(&self, field: &'static str) -> Result<(), WireError> {
        if self.input.is_empty() {
            Ok(())
        } else {
            Err(WireError::new(field, WireRule::TrailingBytes { count: self.input.len() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_field_and_rule_and_consumes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        let truncated = |field| Some(WireError::new(field, WireRule::Truncated));
        assert_eq!(reader.u32("a").err(), truncated("a"));
        assert_eq!(reader.u64("b").err(), truncated("b"));
        assert_eq!(reader.bytes("c", 4).err(), truncated("c"));
        assert_eq!(reader.bytes_back("d", 4).err(), truncated("d"));
        assert_eq!(reader.len(), 3);
        assert_eq!(reader.u16("e"), Ok(0x0201));
        assert_eq!(reader.finish("f"), Err(WireError::new("f", WireRule::TrailingBytes { count: 1 })));
        assert_eq!(reader.u8("g"), Ok(3));
        assert_eq!(reader.finish("h"), Ok(()));
    }

    #[test]
    fn a_text_is_checked_against_its_limit_before_its_bytes() {
        for (name, bytes, max, expected) in [
            ("at the limit", &[2, b'a', b'b'][..], 2, Ok("ab")),
            ("below", &[1, b'a'], 2, Ok("a")),
            ("above", &[3, b'a', b'b', b'c'], 2, Err(WireRule::TooLong { length: 3, limit: 2 })),
            ("above and missing", &[200], 2, Err(WireRule::TooLong { length: 200, limit: 2 })),
            ("missing", &[2, b'a'], 2, Err(WireRule::Truncated)),
            ("no utf-8", &[1, 0xff], 2, Err(WireRule::NotUtf8)),
        ] {
            let read = Reader::new(bytes).text8("t", max);
            assert_eq!(read, expected.map_err(|rule| WireError::new("t", rule)), "{name}");
        }
    }
}
