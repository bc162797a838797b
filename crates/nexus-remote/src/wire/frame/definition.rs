//! Numbers for recipients and message types.

use alloc::vec::Vec;

use nexus_actor_core::path::ActorUid;
use nexus_actor_core::serialization::SerializerId;

use crate::wire::error::WireError;
use crate::wire::header::{FrameHeader, FrameKind, RawFrame, put_frame, put_text16};
use crate::wire::reader::Reader;
use crate::wire::system::WirePath;
use crate::wire::{check, limit};

/// Gives a recipient a number, before its first use in the same lane. A number defined again means the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefineReference<'a> {
    id: u32,
    uid: ActorUid,
    path: &'a str,
}

impl<'a> DefineReference<'a> {
    /// From now on `id` means the incarnation `uid` at `path` (`/user/a`), or whoever lives there.
    ///
    /// # Errors
    /// When `path` breaks the rules of a [`WirePath`].
    pub fn new(id: u32, uid: ActorUid, path: &'a str) -> Result<Self, WireError> {
        check::path("define_reference.path", path)?;
        Ok(Self { id, uid, path })
    }

    /// From now on `id` means the incarnation `uid` at `path`, or whoever lives there.
    #[must_use]
    pub fn of(id: u32, uid: ActorUid, path: &'a WirePath) -> Self {
        Self { id, uid, path: path.as_str() }
    }

    /// The path as a value of its own.
    #[must_use]
    pub fn wire_path(&self) -> WirePath {
        WirePath::checked(self.path)
    }

    /// The number.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The incarnation, or [`ActorUid::ANY`].
    #[must_use]
    pub const fn uid(&self) -> ActorUid {
        self.uid
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
        let id = reader.u32("define_reference.id")?;
        let uid = ActorUid::new(reader.u64("define_reference.uid")?);
        let path = reader.text16("define_reference.path", limit::PATH)?;
        reader.finish("define_reference")?;
        Self::new(id, uid, path)
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, FrameHeader::of(FrameKind::DefineReference), |out| {
            out.extend_from_slice(&self.id.to_le_bytes());
            out.extend_from_slice(&self.uid.get().to_le_bytes());
            put_text16(out, self.path);
        });
    }
}

/// Gives a message type a number, before its first use in the same lane. A number defined again means the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefineManifest<'a> {
    id: u16,
    serializer: SerializerId,
    name: &'a str,
}

impl<'a> DefineManifest<'a> {
    /// From now on `id` means the type `name`, written by `serializer`.
    ///
    /// # Errors
    /// When `name` is empty, longer than 256 bytes or holds a control character.
    pub fn new(id: u16, serializer: SerializerId, name: &'a str) -> Result<Self, WireError> {
        check::name("define_manifest.name", name, limit::MANIFEST)?;
        Ok(Self { id, serializer, name })
    }

    /// The number.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// What writes the payloads.
    #[must_use]
    pub const fn serializer(&self) -> SerializerId {
        self.serializer
    }

    /// The type's manifest.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// Reads the frame in `raw`.
    ///
    /// # Errors
    /// When the body breaks a rule.
    pub fn decode(raw: RawFrame<'a>) -> Result<Self, WireError> {
        raw.check_flags(0)?;
        let mut reader = Reader::new(raw.body);
        let id = reader.u16("define_manifest.id")?;
        let serializer = SerializerId(reader.u16("define_manifest.serializer")?);
        let name = reader.text16("define_manifest.name", limit::MANIFEST)?;
        reader.finish("define_manifest")?;
        Self::new(id, serializer, name)
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, FrameHeader::of(FrameKind::DefineManifest), |out| {
            out.extend_from_slice(&self.id.to_le_bytes());
            out.extend_from_slice(&self.serializer.0.to_le_bytes());
            put_text16(out, self.name);
        });
    }
}
