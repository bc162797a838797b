//! An actor's name on the wire, shared by everything that waits to be sent to it or from it.

use std::fmt;
use std::sync::Arc;

use nexus_actor_core::pid::Pid;

/// Address and id of an actor, made once for each reference and shared by the messages that name it: a batch finds it
/// in its tables by comparing pointers, and text only where those differ.
///
/// The request id of a [`Pid`] is no part of it. It travels with each message.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PidEntry {
    /// `host:port`, as the node there advertises it.
    pub address: Arc<str>,
    /// The id there.
    pub id: Arc<str>,
}

impl PidEntry {
    /// The actor `id` at `address`.
    #[must_use]
    pub fn new(address: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> Self {
        Self { address: address.into(), id: id.into() }
    }

    /// Whether it is no actor but waits for one answer.
    pub(crate) fn is_future(&self) -> bool {
        // Go's begin so too.
        self.id.rsplit('/').next().is_some_and(|name| name.starts_with("future"))
    }
}

impl From<&Pid> for PidEntry {
    fn from(pid: &Pid) -> Self {
        Self { address: pid.address.clone(), id: pid.id.clone() }
    }
}

impl fmt::Display for PidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.id)
    }
}

impl fmt::Debug for PidEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
