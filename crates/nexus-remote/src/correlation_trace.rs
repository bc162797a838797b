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

/// Which messages leave hops in the flight recorder and in `tracing`.
///
/// Every message has its id, whatever is chosen here; a message that is lost is always recorded with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TraceSampling {
    /// All while traffic is light: up to 32 in one go. Of more, one in 64, chosen by the id, so that both nodes
    /// choose the same ones and their recordings can be joined. Costs less than 3 % of the rate under load.
    #[default]
    Adaptive,
    /// All. Under load a ring of the default size then holds some milliseconds.
    All,
}

impl TraceSampling {
    /// So many messages in one go are all traced.
    const LIGHT: usize = 32;
    /// Of more, those whose id has none of these bits.
    const MASK: u32 = 0x3f;

    /// Whether the message with this id, one of `in_one_go`, is traced.
    #[must_use]
    #[inline]
    pub const fn traces(self, id: CorrelationId, in_one_go: usize) -> bool {
        match self {
            Self::Adaptive => in_one_go < Self::LIGHT || id.lo & Self::MASK == 0,
            Self::All => true,
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
