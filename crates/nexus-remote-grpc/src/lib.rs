//! Remoting over gRPC, on the wire of protoactor-go.

#![forbid(unsafe_code)]

pub mod proto;
