//! One message with all that is known of it, independent of tables and buffers.

use alloc::sync::Arc;
use alloc::vec::Vec;

use nexus_actor_core::path::ActorUid;
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::serialization::SerializerId;
use nexus_actor_core::{CorrelationId, Headers};

use super::error::WireError;
use super::frame::{DefineManifest, DefineReference, Envelope, EnvelopeReply, EnvelopeWriter};
use super::system::WirePath;

/// A message as bytes, with what is needed to read it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerializedMessage {
    /// What wrote the bytes.
    pub serializer_id: SerializerId,
    /// The type's name on the wire.
    pub manifest: Arc<str>,
    /// The payload.
    pub bytes: Vec<u8>,
}

/// Which queue a message travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessagePriority {
    /// Before all user messages.
    System,
    /// In the order it was sent.
    User,
}

/// Where an answer goes; the owned form of [`EnvelopeReply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeReplyTo {
    /// The ask at the asker's node.
    pub key: ReplyKey,
    /// The address of the asker's node, when that is not the sender of the envelope.
    pub foreign: Option<Arc<str>>,
}

/// What surrounds the payload of a [`RemotingEnvelope`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociationHeader {
    /// The session in which the envelope has its number.
    pub session: u64,
    /// The recipient below the root of its node.
    pub recipient: WirePath,
    /// The recipient's incarnation, or [`ActorUid::ANY`].
    pub recipient_uid: ActorUid,
    /// Where the answer goes, if one is awaited.
    pub reply_to: Option<EnvelopeReplyTo>,
    /// What travels beside the message.
    pub headers: Headers,
}

/// One message with all that is known of it.
///
/// Lanes hold encoded frames and readers hold borrowed views; this is the form for what leaves that path: records
/// of messages, tools, tests, and transports without tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotingEnvelope {
    /// Whom it is for and what travels beside it.
    pub header: AssociationHeader,
    /// The message.
    pub payload: SerializedMessage,
    /// Its number in the ordinary lane of the session. On the wire this is its position.
    pub sequence_no: u64,
    /// Which queue it travels in.
    pub priority: MessagePriority,
    /// Leads from the sender's record of the message to the reader's.
    pub correlation_id: CorrelationId,
}

impl RemotingEnvelope {
    /// The envelope `view` with the entries of both tables that its numbers mean.
    #[must_use]
    pub fn from_wire(
        session: u64,
        sequence_no: u64,
        reference: &DefineReference<'_>,
        manifest: &DefineManifest<'_>,
        view: &Envelope<'_>,
    ) -> Self {
        Self {
            header: AssociationHeader {
                session,
                recipient: reference.wire_path(),
                recipient_uid: reference.uid(),
                reply_to: view.reply_to.map(|reply| EnvelopeReplyTo {
                    key: reply.key(),
                    foreign: reply.foreign().map(Arc::from),
                }),
                headers: view.headers.map(|headers| headers.to_headers()).unwrap_or_default(),
            },
            payload: SerializedMessage {
                serializer_id: manifest.serializer(),
                manifest: Arc::from(manifest.name()),
                bytes: view.payload.to_vec(),
            },
            sequence_no,
            priority: MessagePriority::User,
            correlation_id: view.correlation_id,
        }
    }

    /// The definition that makes `id` mean this recipient.
    #[must_use]
    pub fn define_reference(&self, id: u32) -> DefineReference<'_> {
        DefineReference::of(id, self.header.recipient_uid, &self.header.recipient)
    }

    /// The definition that makes `id` mean this message's type.
    ///
    /// # Errors
    /// When the manifest is empty, longer than 256 bytes or holds a control character.
    pub fn define_manifest(&self, id: u16) -> Result<DefineManifest<'_>, WireError> {
        DefineManifest::new(id, self.payload.serializer_id, &self.payload.manifest)
    }

    /// Appends the envelope frame to `out`, under the numbers of both tables. Returns its bytes.
    ///
    /// # Errors
    /// When headers, reply address or the whole frame are over a limit; `out` is as it was.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        frame_max: u32,
        recipient: u32,
        manifest: u16,
    ) -> Result<usize, WireError> {
        let reply_to = match &self.header.reply_to {
            None => None,
            Some(EnvelopeReplyTo { key, foreign: None }) => Some(EnvelopeReply::to_sender(*key)),
            Some(EnvelopeReplyTo { key, foreign: Some(address) }) => {
                Some(EnvelopeReply::to_foreign(*key, address)?)
            }
        };
        let headers = Some(&self.header.headers);
        let mut writer =
            EnvelopeWriter::begin(out, frame_max, recipient, manifest, self.correlation_id, headers)?;
        writer.put(&self.payload.bytes);
        writer.finish(reply_to)
    }
}
