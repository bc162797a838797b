//! Remoting over gRPC, on the wire of protoactor-go.

#![forbid(unsafe_code)]

pub mod batch;
pub mod pid_entry;
pub mod proto;
pub mod raw_codec;
pub mod remoting;
