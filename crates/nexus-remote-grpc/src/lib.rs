//! Remoting over gRPC, on the wire of protoactor-go.

#![forbid(unsafe_code)]

pub mod batch;
pub mod block_list;
pub mod config;
pub mod config_option;
pub mod endpoint_state;
pub mod endpoint_writer_mailbox;
mod payload_arena;
pub mod pid_entry;
pub mod proto;
pub mod raw_codec;
pub mod remoting;
