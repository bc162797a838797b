//! One step of a message on its way.

use alloc::string::{String, ToString};

use nexus_actor_core::CorrelationId;
use nexus_actor_core::path::Authority;

use crate::json::Object;

/// What happened to a message at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HopKind {
    /// Accepted into a lane toward the peer.
    Send,
    /// Taken from a frame of the peer.
    Receive,
    /// Encoded.
    Serialize,
}

impl HopKind {
    /// Every kind, in the order of its code.
    pub const ALL: [Self; 3] = [Self::Send, Self::Receive, Self::Serialize];

    /// The word used in events and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Serialize => "serialize",
        }
    }
}

/// One hop of one message. The same id on two nodes joins their recordings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrelationTrace {
    /// The message.
    pub correlation_id: CorrelationId,
    /// The peer it goes to or comes from.
    pub authority: Authority,
    /// What happened.
    pub hop: HopKind,
}

impl CorrelationTrace {
    /// As a JSON object with `event`, `authority`, `hop` and `correlation_id`.
    #[must_use]
    pub fn to_json(&self) -> String {
        Object::new()
            .with("event", "trace")
            .with("authority", self.authority.to_string())
            .with("hop", self.hop.as_str())
            .with_correlation(self.correlation_id)
            .finish()
    }
}
