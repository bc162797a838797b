//! What an association tells its node.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use nexus_actor_core::path::{ActorPath, ActorUid, Address};
use nexus_actor_core::remote::PendingReply;
use nexus_actor_core::{AskError, CorrelationId, DeadLetterReason, Instant, TerminationReason};

use super::state::{GateCause, StateChange};
use crate::failure_detector::PeerHealth;
use crate::wire::{
    CapabilityFlags, NodeAddress, QuarantineReason, RefuseReason, RemoteNodeId, SystemMessage, VersionRange,
    WirePath,
};

/// A connection as the association and its driver name it.
///
/// Those the association dials are numbered by it, those the node accepted by the node; the two never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    const ACCEPTED: u64 = 1 << 63;

    /// The id of the accepted connection `number`, which the node never uses again.
    #[must_use]
    pub const fn accepted(number: u64) -> Self {
        Self(number | Self::ACCEPTED)
    }

    pub(super) const fn dialled(number: u64) -> Self {
        Self(number & !Self::ACCEPTED)
    }

    /// Whether the peer dialled it.
    #[must_use]
    pub const fn is_accepted(self) -> bool {
        self.0 & Self::ACCEPTED != 0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.is_accepted() { "in" } else { "out" };
        write!(f, "{side}-{}", self.0 & !Self::ACCEPTED)
    }
}

/// Why a dial brought no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DialError {
    /// The host is up and nobody listens at the port.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The host name is not known.
    Unresolved,
    /// Anything else: no route, no descriptor, a failed TLS negotiation.
    Failed,
}

/// Why an established connection is gone, as the transport saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostCause {
    /// The peer closed it, or its process ended.
    Closed,
    /// It broke: reset, unreachable, a write timed out.
    Broken,
    /// This side closed it; see the close reason.
    ByUs(CloseReason),
}

/// Why the driver is asked to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The dial or the handshake took too long.
    TimedOut,
    /// Another connection serves the association.
    Superseded,
    /// The handshake was refused, by us or by the peer.
    Refused(RefuseReason),
    /// Its claim to be a living peer's new incarnation is checked by dialling instead.
    Unproven,
    /// It carried nothing for the idle time.
    Idle,
    /// The peer was silent for the detector's time.
    Silent,
    /// The peer broke the protocol on it.
    ProtocolFault,
    /// The session was ended.
    Quarantined,
    /// One side left.
    Left,
    /// The association was aborted.
    Aborted,
}

/// Names a local watcher; the node knows which actor that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatcherId(pub u64);

/// One message that was accepted and will not be delivered. There is exactly one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostMessage {
    /// Whom it was for; `None` when it answered an ask of the peer.
    pub recipient: Option<ActorPath>,
    /// The peer.
    pub peer: Address,
    /// Why.
    pub reason: DeadLetterReason,
    /// Bytes of its frame.
    pub size: usize,
    /// Its id.
    pub correlation_id: CorrelationId,
}

/// A termination on its way to local watchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminationNotice {
    /// Who terminated, named as it was watched.
    pub target: ActorPath,
    /// Who watched it here; each is told once.
    pub watchers: Vec<WatcherId>,
    /// Why.
    pub reason: TerminationReason,
    /// The session it came by; 0 when this side came to the conclusion itself.
    pub session: u64,
    /// It is told after all ordinary frames below this number have been delivered.
    pub after: u64,
}

/// How full the ordinary lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PressureLevel {
    /// Below the warning mark.
    Normal,
    /// At or above the warning mark.
    Warning,
    /// Above the critical mark.
    Critical,
}

/// What an association tells its node, in the order in which it happened.
///
/// Take them with `poll_event`, and act on them outside the association's lock.
#[derive(Clone)]
#[non_exhaustive]
pub enum AssociationEvent {
    /// The state changed.
    StateChanged(StateChange),
    /// A connection serves the association.
    Associated {
        /// The peer's incarnation.
        remote: RemoteNodeId,
        /// The session.
        session: u64,
        /// Whether that session had run before.
        resumed: bool,
        /// What both sides can do.
        capabilities: CapabilityFlags,
    },
    /// The connection that served the association is gone.
    Disconnected {
        /// The incarnation at its other end.
        uid: ActorUid,
        /// Why.
        cause: LostCause,
    },
    /// The peer is at a new incarnation; the session with the old one has ended.
    Reincarnated {
        /// The incarnation before.
        old: ActorUid,
        /// The incarnation now.
        new: ActorUid,
    },
    /// An attempt failed.
    AttemptFailed {
        /// Which attempt, from 1.
        attempt: u32,
        /// Why.
        cause: GateCause,
        /// When the next starts; `None` when none is needed.
        retry_at: Option<Instant>,
    },
    /// No further attempt is made until something is sent.
    GivenUp {
        /// Attempts made.
        attempts: u32,
        /// Why the last one failed.
        cause: GateCause,
    },
    /// The peer refused the handshake.
    RefusedByPeer {
        /// Why.
        reason: RefuseReason,
        /// The node we asked for, as the peer read it.
        asked_for: Option<NodeAddress>,
        /// The node the peer is known as.
        known_by: Option<NodeAddress>,
        /// The versions the peer speaks.
        versions: VersionRange,
    },
    /// A handshake of the peer was refused by us.
    RefusedPeer {
        /// Why.
        reason: RefuseReason,
        /// The incarnation that asked.
        uid: ActorUid,
        /// How many more were refused for this reason since it was last told.
        held_back: u64,
    },
    /// An incarnation is quarantined from now on.
    Quarantined {
        /// Which; `None` when none was ever known.
        uid: Option<ActorUid>,
        /// Why.
        reason: QuarantineReason,
        /// When it ends by itself.
        deadline: Option<Instant>,
        /// The last facts that led to it.
        facts: String,
    },
    /// A quarantine ended.
    Recovered {
        /// Of which incarnation.
        uid: Option<ActorUid>,
    },
    /// The peer has ended the session with us.
    QuarantinedByPeer {
        /// Its reason.
        reason: QuarantineReason,
    },
    /// The peer left in order.
    Left {
        /// Which incarnation.
        uid: ActorUid,
    },
    /// Our own leave is over; nothing more will be sent.
    Closed {
        /// Whether everything accepted was delivered and the peer said goodbye.
        clean: bool,
    },
    /// A message will not be delivered.
    Lost(LostMessage),
    /// A system message was given up with its session.
    SystemMessageLost {
        /// The message.
        message: SystemMessage,
        /// Why.
        reason: DeadLetterReason,
    },
    /// An ask will not be answered: call its `fail` outside the lock.
    AskFailed {
        /// The ask.
        ask: Arc<dyn PendingReply>,
        /// Why.
        error: AskError,
    },
    /// A watched actor is gone: hand it to `Inbound::hold` first.
    Terminated(TerminationNotice),
    /// The peer watches an actor here. Answer with `local_terminated` when it terminates, or at once if there
    /// is none.
    WatchRequested {
        /// The actor.
        path: WirePath,
        /// Its incarnation, or [`ActorUid::ANY`].
        uid: ActorUid,
    },
    /// The peer no longer watches an actor here.
    UnwatchRequested {
        /// The actor.
        path: WirePath,
        /// Its incarnation, as in the watch.
        uid: ActorUid,
    },
    /// The peer is gone and watches nothing here any more.
    PeerWatchesEnded {
        /// What it had watched.
        targets: Vec<(WirePath, ActorUid)>,
    },
    /// The peer asks to stop an actor here; the node decides whether it may.
    StopRequested {
        /// The actor.
        path: WirePath,
        /// Its incarnation, or [`ActorUid::ANY`].
        uid: ActorUid,
    },
    /// The ordinary lane crossed a mark.
    Pressure {
        /// Where it is now.
        level: PressureLevel,
        /// Messages waiting and unacknowledged.
        messages: usize,
        /// Bytes waiting and unacknowledged.
        bytes: usize,
    },
    /// There is room again, or waiting is of no use: wake who waits in `poll_room`.
    Room,
    /// The opinion of the peer's health changed.
    Health {
        /// What it is now.
        health: PeerHealth,
        /// The incarnation it is about.
        uid: ActorUid,
        /// The detector's suspicion at that moment.
        suspicion: f64,
    },
    /// The peer answered a heartbeat.
    HeartbeatAnswered {
        /// Its incarnation.
        uid: ActorUid,
        /// Time between beat and answer.
        round_trip: Duration,
    },
    /// The peer answered, but not long before it would have been suspected.
    HeartbeatSlow {
        /// Its incarnation.
        uid: ActorUid,
        /// Time since the answer before.
        interval: Duration,
    },
    /// Unused for the removal time: the node may drop the association if it still `is_unused`, keeping its
    /// `quarantined_uids`.
    Unused,
}

impl fmt::Debug for AssociationEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StateChanged(change) => write!(f, "state {change}"),
            Self::Associated { remote, session, resumed, .. } => {
                write!(f, "associated {remote} session {session:x} resumed {resumed}")
            }
            Self::Disconnected { uid, cause } => write!(f, "disconnected {uid:?} {cause:?}"),
            Self::Reincarnated { old, new } => write!(f, "reincarnated {old:?} -> {new:?}"),
            Self::AttemptFailed { attempt, cause, retry_at } => {
                write!(f, "attempt {attempt} failed: {cause:?}, retry at {retry_at:?}")
            }
            Self::GivenUp { attempts, cause } => write!(f, "given up after {attempts}: {cause:?}"),
            Self::RefusedByPeer { reason, .. } => write!(f, "refused by peer: {reason}"),
            Self::RefusedPeer { reason, uid, .. } => write!(f, "refused peer {uid:?}: {reason}"),
            Self::Quarantined { uid, reason, deadline, facts } => {
                write!(f, "quarantined {uid:?}: {reason} until {deadline:?} ({facts})")
            }
            Self::Recovered { uid } => write!(f, "recovered {uid:?}"),
            Self::QuarantinedByPeer { reason } => write!(f, "quarantined by peer: {reason}"),
            Self::Left { uid } => write!(f, "left {uid:?}"),
            Self::Closed { clean } => write!(f, "closed, clean {clean}"),
            Self::Lost(lost) => write!(f, "{lost:?}"),
            Self::SystemMessageLost { message, reason } => {
                write!(f, "system message lost {message:?}: {reason}")
            }
            Self::AskFailed { error, .. } => write!(f, "ask failed: {error}"),
            Self::Terminated(notice) => write!(f, "{notice:?}"),
            Self::WatchRequested { path, uid } => write!(f, "watch {path}{uid:?}"),
            Self::UnwatchRequested { path, uid } => write!(f, "unwatch {path}{uid:?}"),
            Self::PeerWatchesEnded { targets } => write!(f, "{} watches of the peer ended", targets.len()),
            Self::StopRequested { path, uid } => write!(f, "stop {path}{uid:?}"),
            Self::Pressure { level, messages, bytes } => write!(f, "pressure {level:?} {messages} {bytes}"),
            Self::Room => f.write_str("room"),
            Self::Health { health, uid, suspicion } => {
                write!(f, "health of {uid:?}: {health:?}, suspicion {suspicion:.1}")
            }
            Self::HeartbeatAnswered { uid, round_trip } => write!(f, "answered {uid:?} after {round_trip:?}"),
            Self::HeartbeatSlow { uid, interval } => write!(f, "slow {uid:?}: {interval:?}"),
            Self::Unused => f.write_str("unused"),
        }
    }
}
