//! The question who lives at a path.

use alloc::vec::Vec;

use nexus_actor_core::CorrelationId;
use nexus_actor_core::remote::ReplyKey;

use super::reply_key::{put_key, read_key};
use crate::wire::error::WireError;
use crate::wire::header::{FrameHeader, FrameKind, RawFrame, put_frame, put_text16};
use crate::wire::reader::Reader;
use crate::wire::{check, limit};

/// Asks for the incarnation that lives at a path. Answered by a [`Reply`](super::Reply) with its uid, or a
/// [`ReplyFailed`](super::ReplyFailed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup<'a> {
    key: ReplyKey,
    correlation_id: CorrelationId,
    manifest: &'a str,
    path: &'a str,
}

impl<'a> Lookup<'a> {
    /// Who lives at `path` (`/user/a`) and takes messages of the type `manifest`?
    ///
    /// # Errors
    /// When `path` or `manifest` breaks its rules.
    pub fn new(
        key: ReplyKey,
        correlation_id: CorrelationId,
        manifest: &'a str,
        path: &'a str,
    ) -> Result<Self, WireError> {
        check::name("lookup.manifest", manifest, limit::MANIFEST)?;
        check::path("lookup.path", path)?;
        Ok(Self { key, correlation_id, manifest, path })
    }

    /// Names the question.
    #[must_use]
    pub const fn key(&self) -> ReplyKey {
        self.key
    }

    /// The id of the question.
    #[must_use]
    pub const fn correlation_id(&self) -> CorrelationId {
        self.correlation_id
    }

    /// The type the asker would send.
    #[must_use]
    pub const fn manifest(&self) -> &'a str {
        self.manifest
    }

    /// The path below the reader's root.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// Reads the frame in `raw`.
    ///
    /// # Errors
    /// When the body breaks a rule.
    pub fn decode(raw: RawFrame<'a>) -> Result<Self, WireError> {
        raw.check_flags(0)?;
        let mut reader = Reader::new(raw.body);
        let key = read_key("lookup.key", &mut reader)?;
        let manifest = reader.text16("lookup.manifest", limit::MANIFEST)?;
        let path = reader.text16("lookup.path", limit::PATH)?;
        reader.finish("lookup")?;
        Self::new(key, raw.header.correlation_id, manifest, path)
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, FrameHeader::with(FrameKind::Lookup, 0, self.correlation_id), |out| {
            put_key(out, self.key);
            put_text16(out, self.manifest);
            put_text16(out, self.path);
        });
    }
}
