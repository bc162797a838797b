//! The commands that measure throughput and latency.

pub(crate) mod floor;
pub(crate) mod local;
pub(crate) mod remote;
