//! Batches: what a `Receive` stream carries, read without trust and written without waste.
//!
//! [`decode`] takes one gRPC message. It checks the frame of everything in it, copies the short texts of the tables once and
//! leaves envelopes where they are; [`Batch::envelopes`] then checks each one by itself. So a wrong index, an over-long name or
//! a serializer that cannot be costs that envelope, and only a message that is not what it claims to be costs the stream.
//! A peer of this lineage ends its process over most of these.
//!
//! [`BatchWriter`] collects envelopes and writes them as one message, never larger than the other side accepts.
//!
//! There are two forms of the wire that differ in the table of targets, [`WireForm::W1`] and [`WireForm::W2`], and nothing in
//! the handshake says which one a peer speaks. Both are read; the form that a batch came in can be asked, and the form to
//! write is the caller's choice.
//!
//! ```
//! use std::sync::Arc;
//! use nexus_remote_grpc::wire::batch::{self, BatchLimits, BatchWriter, Incoming, OutgoingEnvelope, TypeName, WireForm};
//! use nexus_remote_grpc::endpoint::pid_entry::PidEntry;
//!
//! let limits = BatchLimits::default();
//! let echo = Arc::new(PidEntry::new("127.0.0.1:29002", "echo"));
//! let name = TypeName { package: "google.protobuf", name: "StringValue" };
//! let mut writer = BatchWriter::new(limits);
//! writer.push(&OutgoingEnvelope::new(name, b"\x0a\x05hello", &echo))?;
//! let mut message = Vec::new();
//! writer.finish(WireForm::W1, &mut message);
//!
//! let Incoming::Batch(batch) = batch::decode(message.into(), &limits)? else { panic!("a batch was written") };
//! assert_eq!(batch.form(), Some(WireForm::W1));
//! let envelope = batch.envelopes().next().expect("one was pushed")?;
//! assert_eq!((envelope.type_name, envelope.target.id), ("google.protobuf.StringValue", "echo"));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod decode;
mod encode;
mod fault;
mod handshake;
mod reader;
mod target;

pub use decode::{Batch, Envelope, Envelopes, HeaderView, Incoming, decode};
pub use encode::{BatchWriter, Full, OutgoingEnvelope};
pub use fault::{EntryFault, EnvelopeFault, EnvelopeFaultKind, MessageFault, Part};
pub use nexus_actor_core::serialization::protobuf::TypeName;
pub use target::{Sender, Target};

/// How targets are written. Everything else is the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireForm {
    /// Targets are PIDs, address and id. What the released versions of protoactor-go speak.
    W1,
    /// Targets are ids. What protoactor-go's development branch speaks since August 2025.
    W2,
}

/// How much is accepted, and how much is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes of one gRPC message (L7, 4 MiB). A Go node ends the stream over more than 4,194,304.
    pub message_bytes: usize,
    /// Bytes of a message of the handshake (64 KiB).
    pub handshake_bytes: usize,
    /// Ids in the block list that a handshake carries (1,024).
    pub blocked_ids: usize,
    /// Envelopes of one batch (L10, 4,096).
    pub envelopes: usize,
    /// Type names of one batch (L10, 1,024).
    pub type_names: usize,
    /// Targets of one batch (L10, 4,096).
    pub targets: usize,
    /// Senders of one batch (L10, 4,096).
    pub senders: usize,
    /// Bytes of a type name (L11, 256).
    pub name_bytes: usize,
    /// Bytes of an id (L11, 512).
    pub id_bytes: usize,
    /// Elements of an id, the parts between slashes (L11, 32).
    pub id_elements: usize,
    /// Bytes of an address (L11, 255).
    pub address_bytes: usize,
    /// Headers of one envelope (L12, 64).
    pub header_entries: usize,
    /// Bytes of the names and values of one envelope's headers (L12, 8 KiB).
    pub header_bytes: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            message_bytes: 4 * 1024 * 1024,
            handshake_bytes: 64 * 1024,
            blocked_ids: 1_024,
            envelopes: 4_096,
            type_names: 1_024,
            targets: 4_096,
            senders: 4_096,
            name_bytes: 256,
            id_bytes: 512,
            id_elements: 32,
            address_bytes: 255,
            header_entries: 64,
            header_bytes: 8 * 1024,
        }
    }
}

/// The numbers of the fields, one place for reading and writing.
mod tag {
    /// Fields of `RemoteMessage`.
    pub(super) mod message {
        pub(in crate::wire::batch) const BATCH: u32 = 1;
        pub(in crate::wire::batch) const CONNECT_REQUEST: u32 = 2;
        pub(in crate::wire::batch) const CONNECT_RESPONSE: u32 = 3;
        pub(in crate::wire::batch) const DISCONNECT_REQUEST: u32 = 4;
        pub(in crate::wire::batch) const ACKNOWLEDGE: u32 = 1000;
    }
    /// Fields of `MessageBatch`.
    pub(super) mod batch {
        pub(in crate::wire::batch) const TYPE_NAMES: u32 = 1;
        pub(in crate::wire::batch) const TARGETS: u32 = 2;
        pub(in crate::wire::batch) const ENVELOPES: u32 = 3;
        pub(in crate::wire::batch) const SENDERS: u32 = 4;
    }
    /// Fields of `MessageEnvelope`.
    pub(super) mod envelope {
        pub(in crate::wire::batch) const TYPE: u32 = 1;
        pub(in crate::wire::batch) const PAYLOAD: u32 = 2;
        pub(in crate::wire::batch) const TARGET: u32 = 3;
        pub(in crate::wire::batch) const SENDER: u32 = 4;
        pub(in crate::wire::batch) const SERIALIZER: u32 = 5;
        pub(in crate::wire::batch) const HEADER: u32 = 6;
        pub(in crate::wire::batch) const TARGET_REQUEST: u32 = 7;
        pub(in crate::wire::batch) const SENDER_REQUEST: u32 = 8;
    }
    /// Fields of `actor.PID`.
    pub(super) mod pid {
        pub(in crate::wire::batch) const ADDRESS: u32 = 1;
        pub(in crate::wire::batch) const ID: u32 = 2;
        pub(in crate::wire::batch) const REQUEST_ID: u32 = 3;
    }
    /// Fields of `MessageHeader`, and of the entries of its map.
    pub(super) mod header {
        pub(in crate::wire::batch) const ENTRY: u32 = 1;
        pub(in crate::wire::batch) const NAME: u32 = 1;
        pub(in crate::wire::batch) const VALUE: u32 = 2;
    }
}
