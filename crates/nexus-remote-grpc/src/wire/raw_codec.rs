//! Messages as they are: gRPC's framing, and nobody's structures.

use std::fmt;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// A message that writes itself into the buffer that goes to the connection.
pub trait WriteMessage: Send + 'static {
    /// Writes the message, without gRPC's five bytes. It cannot fail: what can is checked before a message is made.
    ///
    /// A message of some length asks for room first, with [`EncodeBuf::reserve`].
    fn write(self, out: &mut EncodeBuf<'_>);
}

impl WriteMessage for Bytes {
    fn write(self, out: &mut EncodeBuf<'_>) {
        out.reserve(self.len());
        out.put_slice(&self);
    }
}

impl WriteMessage for Vec<u8> {
    fn write(self, out: &mut EncodeBuf<'_>) {
        out.reserve(self.len());
        out.put_slice(&self);
    }
}

impl WriteMessage for crate::wire::proto::remote::RemoteMessage {
    fn write(self, out: &mut EncodeBuf<'_>) {
        out.reserve(self.encoded_len());
        self.encode_raw(out);
    }
}

/// A codec whose decoder gives the bytes of a message, shared with the buffer they came in, and whose encoder takes what
/// writes itself.
pub struct RawCodec<W> {
    settings: BufferSettings,
    written: PhantomData<fn(W)>,
}

impl<W> RawCodec<W> {
    /// With tonic's sizes of buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::with_settings(BufferSettings::default())
    }

    /// With other sizes of buffers.
    #[must_use]
    pub fn with_settings(settings: BufferSettings) -> Self {
        Self { settings, written: PhantomData }
    }
}

impl<W> Default for RawCodec<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W> Clone for RawCodec<W> {
    fn clone(&self) -> Self {
        Self::with_settings(self.settings)
    }
}

impl<W> fmt::Debug for RawCodec<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCodec").field("settings", &self.settings).finish()
    }
}

impl<W: WriteMessage> Codec for RawCodec<W> {
    type Encode = W;
    type Decode = Bytes;
    type Encoder = RawEncoder<W>;
    type Decoder = RawDecoder;

    fn encoder(&mut self) -> RawEncoder<W> {
        RawEncoder { settings: self.settings, written: PhantomData }
    }

    fn decoder(&mut self) -> RawDecoder {
        RawDecoder { settings: self.settings }
    }
}

/// The encoder of [`RawCodec`].
#[derive(Debug)]
pub struct RawEncoder<W> {
    settings: BufferSettings,
    written: PhantomData<fn(W)>,
}

impl<W: WriteMessage> Encoder for RawEncoder<W> {
    type Item = W;
    type Error = Status;

    fn encode(&mut self, item: W, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.write(out);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.settings
    }
}

/// The decoder of [`RawCodec`].
#[derive(Debug)]
pub struct RawDecoder {
    settings: BufferSettings,
}

impl Decoder for RawDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.settings
    }
}
