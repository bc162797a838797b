//! The runtime core of nexus: typed actors, their mailboxes, supervision and death watch.
//!
//! `no_std` with `alloc`; the feature `std` (on by default) brings the tokio runtime. This crate knows no
//! network: all it has of one is the [`remote::Route`] trait, which the remote crate implements.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod actor_ref;
mod address;
pub mod correlation_id;
pub mod dead_letter;
pub mod event_stream;
pub mod extension;
pub mod headers;
pub mod lock;
pub mod path;
pub mod pid;
pub mod reason;
pub mod remote;
pub mod remote_authority;
pub mod ring_queue;
pub mod serialization;
pub mod signal;
pub mod system;
pub mod time;

pub use correlation_id::CorrelationId;
pub use headers::Headers;
pub use reason::{AskError, DeadLetterReason, Refusal};
pub use signal::{Signal, TerminationReason};
pub use time::Instant;
