//! What an actor is told about its own life and the lives it watches.

use alloc::string::String;
use core::fmt;

use crate::actor_ref::AnyRef;

/// Why an actor terminated, as its watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TerminationReason {
    /// It stopped itself or was stopped.
    Stopped,
    /// It failed and its supervisor gave it up; the text is the error's.
    Failed(String),
    /// It had terminated before the watch, or never existed.
    NeverExisted,
    /// Its node cannot be reached.
    Unreachable,
    /// Its node's incarnation was quarantined.
    Quarantined,
    /// Its node left in order.
    Left,
    /// A limit on watches was reached; the actor may be alive.
    Limit,
    /// This node is shutting down.
    Shutdown,
}

impl TerminationReason {
    /// Whether the actor is known to have existed.
    #[must_use]
    pub const fn existed(&self) -> bool {
        !matches!(self, Self::NeverExisted | Self::Limit)
    }
}

impl fmt::Display for TerminationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::NeverExisted => f.write_str("never existed"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Quarantined => f.write_str("quarantined"),
            Self::Left => f.write_str("left"),
            Self::Limit => f.write_str("limit"),
            Self::Shutdown => f.write_str("shutdown"),
        }
    }
}

/// What the runtime tells an actor beside its messages.
#[derive(Debug)]
#[non_exhaustive]
pub enum Signal {
    /// Before the first message, of the first incarnation and of each restarted one.
    Started,
    /// The actor is about to be replaced by a new one from its factory; its children stop with it.
    Restarting,
    /// After the last message: the actor is about to be dropped for good.
    Stopping,
    /// A watched actor has terminated. Never overtakes that actor's last messages.
    Terminated {
        /// Who.
        who: AnyRef,
        /// Why.
        reason: TerminationReason,
    },
    /// A child failed; its supervisor strategy has been applied.
    ChildFailed {
        /// Which child.
        child: AnyRef,
        /// What its handler returned or panicked with.
        error: String,
    },
    /// No message came for the time set with `Context::set_receive_timeout`.
    ReceiveTimeout,
}
