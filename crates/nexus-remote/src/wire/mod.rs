//! The native wire protocol as bytes and types: no clock, no socket, no state beyond a read buffer.
//!
//! A [`FrameReader`] cuts a byte stream into [`RawFrame`]s, in place. [`ControlFrame::decode`] and
//! [`OrdinaryFrame::decode`] turn a raw frame into a typed one; the ordinary ones borrow from the read buffer, so
//! that reading a message allocates nothing. Decoding never panics and takes no memory that is not backed by
//! received bytes; a fault is a [`WireError`] that names the field and the rule. Encoding cannot fail: types that
//! have rules (names, paths, addresses) check them when they are made.
//!
//! Every byte is described in `docs/wire.md`; its vectors are part of the tests.

mod check;
mod envelope;
mod error;
mod frame;
mod frame_reader;
mod handshake;
mod header;
mod reader;
mod reason;
mod system;

pub use envelope::{
    AssociationHeader, EnvelopeReplyTo, MessagePriority, RemotingEnvelope, SerializedMessage,
};
pub use error::{WireError, WireRule};
pub use frame::{
    Acknowledge, ControlFrame, DefineManifest, DefineReference, Envelope, EnvelopeReply, EnvelopeWriter,
    HeaderPairs, Lookup, OrdinaryFrame, Reply, ReplyFailed, ReplyWriter,
};
pub(crate) use frame_reader::REST_AHEAD;
pub use frame_reader::{FrameReader, StreamError};
pub use handshake::{
    Ack, AssociationHandshake, CapabilityFlags, NodeAddress, Refuse, RemoteNodeId, Request, SessionLimits,
};
pub use header::{FrameHeader, FrameKind, Lane, PREAMBLE_BYTES, Preamble, RawFrame, VersionRange};
pub use reader::Reader;
pub use reason::{QuarantineReason, RefuseReason};
pub use system::{SystemMessage, WirePath};

/// The version of the protocol that this build speaks.
pub const VERSION: u16 = 1;

/// The versions this build can speak.
pub const VERSIONS: VersionRange = VersionRange { min: VERSION, max: VERSION };

/// The first eight bytes of every connection, in both directions.
///
/// The line ends and the byte after them break a transfer that rewrites text.
pub const MAGIC: [u8; 8] = *b"FRKT\r\n\x1a\n";

/// Limits of the wire in bytes unless the name says otherwise. A value at its limit is accepted.
pub mod limit {
    /// Of all bytes of a handshake in one direction, preamble included (L2).
    pub const HANDSHAKE: usize = 4 * 1024;
    /// Of a frame's `len` field (L7).
    pub const FRAME: u32 = 256 * 1024;
    /// That a read buffer may be larger than the bytes that wait in it (L8).
    pub const READ_AHEAD: usize = 64 * 1024;
    /// Of a manifest (L11).
    pub const MANIFEST: usize = 256;
    /// Of an actor path below the root (L11).
    pub const PATH: usize = nexus_actor_core::path::PATH_BYTES_MAX;
    /// Elements of an actor path (L11).
    pub const PATH_ELEMENTS: usize = nexus_actor_core::path::PATH_ELEMENTS_MAX;
    /// Of a system name and a host together (L11).
    pub const NODE: usize = nexus_actor_core::path::SYSTEM_AND_HOST_BYTES_MAX;
    /// Of a scheme.
    pub const SCHEME: usize = nexus_actor_core::path::SCHEME_BYTES_MAX;
    /// Of the address of a foreign reply: a scheme, a node, a port and what stands between them.
    pub const ADDRESS: usize = 352;
    /// Of the text that explains a failure; a longer one is cut when it is written.
    pub const TEXT: usize = 1024;
    /// Pairs of headers of one envelope (L12).
    pub const HEADER_PAIRS: usize = 64;
    /// Of the headers of one envelope, lengths included (L12).
    pub const HEADERS: usize = 8 * 1024;
    /// Of a header's name.
    pub const HEADER_NAME: usize = 255;
}

// A node, its scheme and punctuation (`://`, `@`, `[`, `]`, `:` and five digits) always fit an address.
const _: () = assert!(limit::SCHEME + limit::NODE + 12 <= limit::ADDRESS);
// A length is written as one byte.
const _: () = assert!(limit::NODE <= u8::MAX as usize);
const _: () = assert!(limit::SCHEME <= u8::MAX as usize);
const _: () = assert!(limit::HEADER_PAIRS <= u8::MAX as usize);
const _: () = assert!(limit::HEADERS <= u16::MAX as usize);
