//! What goes over the wire: the schema, batches read and written by hand, gRPC's framing and its service.

pub mod batch;
pub mod proto;
pub mod raw_codec;
pub mod remoting;
