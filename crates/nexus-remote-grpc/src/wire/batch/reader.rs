//! Protobuf's fields, one after the other, without recursion and without building anything.

/// The bytes are not protobuf, or a field of the schema has another wire type than the schema says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Which byte.
    pub(super) at: usize,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed width. No field of this schema has one, so nobody looks.
    Fixed,
}

/// A field: its number, where its value begins, and the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    at: usize,
    value: Value<'a>,
}

impl<'a> Field<'a> {
    /// The value of a field that is a message, a text or bytes.
    pub(super) fn bytes(&self) -> Result<&'a [u8], Broken> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) | Value::Fixed => Err(Broken { at: self.at }),
        }
    }

    /// Where in the bytes the value of [`bytes`](Self::bytes) begins.
    pub(super) fn start(&self) -> usize {
        self.at
    }

    pub(super) fn u64(&self) -> Result<u64, Broken> {
        match self.value {
            Value::Number(number) => Ok(number),
            Value::Bytes(_) | Value::Fixed => Err(Broken { at: self.at }),
        }
    }

    /// The low 32 bits, which is how protobuf reads a longer number into a shorter field.
    #[allow(clippy::cast_possible_truncation, reason = "that is the rule")]
    pub(super) fn u32(&self) -> Result<u32, Broken> {
        self.u64().map(|number| number as u32)
    }

    pub(super) fn i32(&self) -> Result<i32, Broken> {
        self.u32().map(u32::cast_signed)
    }
}

/// Reads the fields of one message.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn varint(&mut self) -> Result<u64, Broken> {
        let start = self.at;
        let mut number = 0_u64;
        for (position, &byte) in self.bytes[start..].iter().take(10).enumerate() {
            // The tenth byte holds the last bit of 64.
            if position == 9 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * position);
            if byte < 0x80 {
                self.at = start + position + 1;
                return Ok(number);
            }
        }
        Err(Broken { at: start })
    }

    fn skip(&mut self, count: usize) -> Result<(), Broken> {
        if self.bytes.len() - self.at < count {
            return Err(Broken { at: self.at });
        }
        self.at += count;
        Ok(())
    }

    /// The next field. Groups are refused: nothing on this wire has them, and skipping one would take recursion.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Broken> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let key = self.varint()?;
        let number = match u32::try_from(key >> 3) {
            Ok(number) if (1..1 << 29).contains(&number) => number,
            _ => return Err(Broken { at: start }),
        };
        let mut at = self.at;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => {
                self.skip(8)?;
                Value::Fixed
            }
            2 => {
                let length = self.varint()?;
                at = self.at;
                self.skip(usize::try_from(length).map_err(|_| Broken { at })?)?;
                Value::Bytes(&self.bytes[at..self.at])
            }
            5 => {
                self.skip(4)?;
                Value::Fixed
            }
            _ => return Err(Broken { at: start }),
        };
        Ok(Some(Field { number, at, value }))
    }
}
