//! The commands that do not measure throughput.

pub(crate) mod demo;
pub(crate) mod endpoints;
pub(crate) mod node;
pub(crate) mod ping;
