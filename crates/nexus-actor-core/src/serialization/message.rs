//! What a message must offer to cross a wire.

use super::protobuf::ProtobufCodec;
use super::{DecodeError, Decoder, EncodeError, Encoder, SerializerId};

/// A type that may cross a wire: it has a name there, and it can be written and read.
///
/// `#[derive(Message)]` writes it. There are no serde supertraits and no blanket implementation, so a message
/// may also be written by hand. A message that never leaves the process needs none of this, only [`Send`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross a wire: it does not implement `Message`",
    label = "not a message for another node",
    note = "add `#[derive(Message, Serialize, Deserialize)]` and `#[message(manifest = \"name@1\")]` to the type"
)]
pub trait Message: Send + Sized + 'static {
    /// The name of this type on the wire, with its version: `"shop.counter@1"`. At most 256 bytes.
    const MANIFEST: &'static str;

    /// Which serializer writes the payload.
    const SERIALIZER: SerializerId = SerializerId::POSTCARD;

    /// How it travels on a protobuf wire, if it does; written by `#[message(protobuf)]`.
    const PROTOBUF: Option<ProtobufCodec<Self>> = None;

    /// Writes the payload.
    ///
    /// # Errors
    /// When a part cannot be written, or the payload exceeds the encoder's limit. What was written is
    /// discarded by the caller.
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError>;

    /// Reads a payload back.
    ///
    /// # Errors
    /// When the bytes are not a payload of this type. Only this message is lost.
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError>;
}
