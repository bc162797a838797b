//! The name of an actor on this wire.

use std::fmt;
use std::sync::Arc;

/// Address and id of an actor: one entry of the tables of a batch. Request ids are not part of it; they travel with each
/// envelope.
///
/// References keep one behind an `Arc`, so that a [`BatchWriter`](crate::batch::BatchWriter) mostly knows it by its pointer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PidEntry {
    /// `host:port` of its node.
    pub address: Arc<str>,
    /// Its path below the node, `$1` or `parent/child`.
    pub id: Arc<str>,
}

impl PidEntry {
    /// The actor `id` at `address`.
    #[must_use]
    pub fn new(address: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> Self {
        Self { address: address.into(), id: id.into() }
    }
}

impl fmt::Display for PidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.id)
    }
}
