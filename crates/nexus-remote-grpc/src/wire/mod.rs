//! What goes over the wire, and nothing of what it leads to: the schema, batches read and written by hand, gRPC's framing.

pub mod batch;
pub mod proto;
pub mod raw_codec;
pub mod remoting;
