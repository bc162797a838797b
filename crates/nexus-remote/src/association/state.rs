//! The states of an association and the record of their changes.

use alloc::collections::VecDeque;
use core::fmt;

use nexus_actor_core::Instant;
use nexus_actor_core::path::ActorUid;

use super::event::{DialError, LostCause};
use crate::wire::{QuarantineReason, RefuseReason, RemoteNodeId};

/// Why the last attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GateCause {
    /// The dial failed.
    Dial(DialError),
    /// The handshake did not complete in time, or its connection broke.
    Handshake,
    /// The peer refused for now.
    Refused(RefuseReason),
    /// A connection that had served broke soon after it was made.
    Unstable,
}

/// Why nothing is sent although a session may exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SuspendCause {
    /// The connection is lost and no attempt has started yet, because nothing needs one.
    Lost(LostCause),
    /// By hand: nothing is sent or accepted until resumed.
    ByHand,
}

/// Where an association stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssociationState {
    /// No session and nothing under way.
    Unassociated,
    /// A dial or a handshake is under way.
    Associating {
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// A connection serves the session.
    Connected {
        /// The peer's incarnation.
        remote_id: RemoteNodeId,
    },
    /// Not connected, and not trying to be.
    Suspended {
        /// Why.
        cause: SuspendCause,
    },
    /// Waiting for the next attempt.
    Gated {
        /// When it starts.
        until: Instant,
        /// Why the last one failed.
        cause: GateCause,
    },
    /// The peer's incarnation is refused.
    Quarantined {
        /// Which; `None` when none was ever known.
        uid: Option<ActorUid>,
        /// When it ends by itself.
        deadline: Option<Instant>,
        /// Why.
        reason: QuarantineReason,
    },
}

/// An [`AssociationState`] without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StateKind {
    /// See [`AssociationState::Unassociated`].
    Unassociated,
    /// See [`AssociationState::Associating`].
    Associating,
    /// See [`AssociationState::Connected`].
    Connected,
    /// See [`AssociationState::Suspended`].
    Suspended,
    /// See [`AssociationState::Gated`].
    Gated,
    /// See [`AssociationState::Quarantined`].
    Quarantined,
}

impl StateKind {
    /// The word used in events, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unassociated => "unassociated",
            Self::Associating => "associating",
            Self::Connected => "connected",
            Self::Suspended => "suspended",
            Self::Gated => "gated",
            Self::Quarantined => "quarantined",
        }
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AssociationState {
    /// Which state it is.
    #[must_use]
    pub const fn kind(&self) -> StateKind {
        match self {
            Self::Unassociated => StateKind::Unassociated,
            Self::Associating { .. } => StateKind::Associating,
            Self::Connected { .. } => StateKind::Connected,
            Self::Suspended { .. } => StateKind::Suspended,
            Self::Gated { .. } => StateKind::Gated,
            Self::Quarantined { .. } => StateKind::Quarantined,
        }
    }
}

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// When.
    pub at: Instant,
    /// From where.
    pub from: StateKind,
    /// To where, with its reason.
    pub to: AssociationState,
    /// The peer's incarnation then, if one was known.
    pub uid: Option<ActorUid>,
}

impl fmt::Display for StateChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {:?} at {}", self.from, self.to, self.at)
    }
}

/// The last changes of state, oldest first.
#[derive(Debug)]
pub(super) struct History {
    changes: VecDeque<StateChange>,
    max: usize,
}

impl History {
    pub(super) const fn new(max: usize) -> Self {
        Self { changes: VecDeque::new(), max }
    }

    pub(super) fn push(&mut self, change: StateChange) {
        if self.changes.len() >= self.max {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &StateChange> {
        self.changes.iter()
    }

    pub(super) fn last(&self) -> Option<&StateChange> {
        self.changes.back()
    }
}
