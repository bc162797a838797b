//! The schema of the wire as Rust types, generated from `proto/` and checked in.
//!
//! `tests/generated.rs` generates them anew and fails when they differ; it writes them with `UPDATE_GENERATED=1`.
//! Batches, which carry all traffic, are read and written by [`batch`](crate::wire::batch) instead.

/// Package `actor`: what actors tell each other across nodes.
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, unused_qualifications, reason = "generated")]
pub mod actor;

/// Package `remote`: what a stream carries.
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, unused_qualifications, reason = "generated")]
pub mod remote;
