//! What remoting tells the event stream.
//!
//! Every event names its peer and a correlation id, the same that the flight recorder and the metrics carry. As
//! JSON an event is one flat object whose `event` names it; uids and correlation ids are text, since most
//! readers keep only 53 bits of a number.

use alloc::string::{String, ToString};
use core::time::Duration;

use nexus_actor_core::path::{ActorUid, Authority};
use nexus_actor_core::{CorrelationId, Instant};

use crate::association::StateChange;
use crate::backpressure::{BackpressureSignal, ListenerId};
use crate::correlation_trace::CorrelationTrace;
use crate::json::Object;
use crate::metric::{RemotingMetric, ThresholdCrossed};
use crate::wire::{QuarantineReason, RefuseReason};

/// An association changed its state. Published for every change, the quiet ones included, before the
/// [`RemotingLifecycleEvent`] that tells what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociationStateChanged {
    /// The peer.
    pub authority: Authority,
    /// From where to where, when, and with which reason.
    pub change: StateChange,
}

/// Who refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedBy {
    /// This node refused the peer.
    Us,
    /// The peer refused this node.
    Peer,
}

/// A turn in the life of this node's remoting or of one peer's association.
///
/// Of one peer each turn is seen exactly once and in order. `authority` is the peer's, of
/// `ListenStarted` and `Shutdown` this node's own. `correlation_id` is that of the message sent to the peer last, or
/// the seed of the handshake before the first: the place in the recordings of both nodes where the turn happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RemotingLifecycleEvent {
    /// This node listens.
    ListenStarted {
        /// The address it announces, its real port included.
        authority: Authority,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// The peer is being dialled or its handshake is answered.
    AssociationAttempt {
        /// The peer.
        authority: Authority,
        /// Which try since the last success, counting from 1.
        attempt: u32,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// A handshake was completed.
    Connected {
        /// The peer.
        authority: Authority,
        /// Its incarnation.
        uid: ActorUid,
        /// Whether the session of before goes on, nothing lost.
        resumed: bool,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// The connection ended; the session may outlive it.
    Disconnected {
        /// The peer.
        authority: Authority,
        /// Its incarnation.
        uid: ActorUid,
        /// Why, in words.
        cause: String,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// The peer is not reached or refuses for now; it is tried again later.
    Gated {
        /// The peer.
        authority: Authority,
        /// When it is tried again.
        until: Instant,
        /// Why, in words.
        cause: String,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// Nothing is sent or accepted for now.
    Suspended {
        /// The peer.
        authority: Authority,
        /// Its incarnation; [`ActorUid::ANY`] if it was never connected.
        uid: ActorUid,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// A suspension was lifted.
    Resumed {
        /// The peer.
        authority: Authority,
        /// Its incarnation; [`ActorUid::ANY`] if it was never connected.
        uid: ActorUid,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// This node ended the session with one incarnation and refuses it.
    Quarantined {
        /// The peer.
        authority: Authority,
        /// The incarnation refused.
        uid: ActorUid,
        /// Why.
        reason: QuarantineReason,
        /// The last facts that led to it, in words.
        facts: String,
        /// When it ends by itself; `None` for a reason without a deadline.
        deadline: Option<Instant>,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// The peer told that it quarantined this node.
    QuarantinedByPeer {
        /// The peer.
        authority: Authority,
        /// The peer's incarnation.
        uid: ActorUid,
        /// Why, as the peer says.
        reason: QuarantineReason,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// A quarantine ended: by a new uid, its deadline or an operator.
    QuarantineLifted {
        /// The peer.
        authority: Authority,
        /// The incarnation that had been refused.
        uid: ActorUid,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// The peer left in order.
    Left {
        /// The peer.
        authority: Authority,
        /// Its incarnation.
        uid: ActorUid,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// A handshake was refused. Of those that this node refuses, one for each peer and reason is told within a
    /// quarantine period, and the rest counted.
    Refused {
        /// The peer.
        authority: Authority,
        /// By which side.
        by: RefusedBy,
        /// Why.
        reason: RefuseReason,
        /// How many more there were since the last that was told; always 0 for those by the peer.
        held_back: u64,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// The peer's silence is improbable.
    Suspect {
        /// The peer.
        authority: Authority,
        /// Its incarnation.
        uid: ActorUid,
        /// The detector's suspicion.
        suspicion: f64,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// A heartbeat was answered after more than two thirds of the acceptable pause: not suspected yet, but a little
    /// more would have been. A longer pause may be called for, or the network wants looking at.
    HeartbeatSlow {
        /// The peer.
        authority: Authority,
        /// Its incarnation.
        uid: ActorUid,
        /// Time since the answer before.
        interval: Duration,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// A suspected peer is heard again.
    Reachable {
        /// The peer.
        authority: Authority,
        /// Its incarnation.
        uid: ActorUid,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
    /// Remoting of this node has ended.
    Shutdown {
        /// The address it had announced.
        authority: Authority,
        /// What it belongs to.
        correlation_id: CorrelationId,
    },
}

/// `$value` of whichever variant, for fields that all have.
macro_rules! of_every_variant {
    ($self:ident, $field:ident) => {
        match $self {
            RemotingLifecycleEvent::ListenStarted { $field, .. }
            | RemotingLifecycleEvent::AssociationAttempt { $field, .. }
            | RemotingLifecycleEvent::Connected { $field, .. }
            | RemotingLifecycleEvent::Disconnected { $field, .. }
            | RemotingLifecycleEvent::Gated { $field, .. }
            | RemotingLifecycleEvent::Suspended { $field, .. }
            | RemotingLifecycleEvent::Resumed { $field, .. }
            | RemotingLifecycleEvent::Quarantined { $field, .. }
            | RemotingLifecycleEvent::QuarantinedByPeer { $field, .. }
            | RemotingLifecycleEvent::QuarantineLifted { $field, .. }
            | RemotingLifecycleEvent::Left { $field, .. }
            | RemotingLifecycleEvent::Refused { $field, .. }
            | RemotingLifecycleEvent::Suspect { $field, .. }
            | RemotingLifecycleEvent::HeartbeatSlow { $field, .. }
            | RemotingLifecycleEvent::Reachable { $field, .. }
            | RemotingLifecycleEvent::Shutdown { $field, .. } => $field,
        }
    };
}

impl RemotingLifecycleEvent {
    /// The peer's address, of `ListenStarted` and `Shutdown` this node's own.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        of_every_variant!(self, authority)
    }

    /// The message sent last when it happened; nil for what concerns no peer.
    #[must_use]
    pub const fn correlation_id(&self) -> CorrelationId {
        *of_every_variant!(self, correlation_id)
    }

    /// The peer's incarnation, where it is known.
    #[must_use]
    pub const fn uid(&self) -> Option<ActorUid> {
        match self {
            Self::Connected { uid, .. }
            | Self::Disconnected { uid, .. }
            | Self::Suspended { uid, .. }
            | Self::Resumed { uid, .. }
            | Self::Quarantined { uid, .. }
            | Self::QuarantinedByPeer { uid, .. }
            | Self::QuarantineLifted { uid, .. }
            | Self::Left { uid, .. }
            | Self::Suspect { uid, .. }
            | Self::HeartbeatSlow { uid, .. }
            | Self::Reachable { uid, .. } => {
                if uid.is_any() {
                    None
                } else {
                    Some(*uid)
                }
            }
            Self::ListenStarted { .. }
            | Self::AssociationAttempt { .. }
            | Self::Gated { .. }
            | Self::Refused { .. }
            | Self::Shutdown { .. } => None,
        }
    }

    /// The word used in JSON, metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ListenStarted { .. } => "listen_started",
            Self::AssociationAttempt { .. } => "association_attempt",
            Self::Connected { .. } => "connected",
            Self::Disconnected { .. } => "disconnected",
            Self::Gated { .. } => "gated",
            Self::Suspended { .. } => "suspended",
            Self::Resumed { .. } => "resumed",
            Self::Quarantined { .. } => "quarantined",
            Self::QuarantinedByPeer { .. } => "quarantined_by_peer",
            Self::QuarantineLifted { .. } => "quarantine_lifted",
            Self::Left { .. } => "left",
            Self::Refused { .. } => "refused",
            Self::Suspect { .. } => "suspect",
            Self::HeartbeatSlow { .. } => "heartbeat_slow",
            Self::Reachable { .. } => "reachable",
            Self::Shutdown { .. } => "shutdown",
        }
    }

    /// As a JSON object: `event`, `authority`, `correlation_id`, `uid` where known, and the variant's own fields.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut object = Object::new()
            .with("event", self.name())
            .with("authority", self.authority().to_string())
            .with_correlation(self.correlation_id());
        if let Some(uid) = self.uid() {
            object = object.with_uid(uid);
        }
        match self {
            Self::AssociationAttempt { attempt, .. } => object.with("attempt", *attempt),
            Self::Connected { resumed, .. } => object.with("resumed", *resumed),
            Self::Disconnected { cause, .. } => object.with("cause", cause.as_str()),
            Self::Gated { until, cause, .. } => {
                object.with("until_ms", until.as_millis()).with("cause", cause.as_str())
            }
            Self::Quarantined { reason, facts, deadline, .. } => object
                .with("reason", reason.as_str())
                .with("facts", facts.as_str())
                .with_some("deadline_ms", deadline.map(Instant::as_millis)),
            Self::QuarantinedByPeer { reason, .. } => object.with("reason", reason.as_str()),
            Self::Refused { by, reason, held_back, .. } => {
                let by = match by {
                    RefusedBy::Us => "us",
                    RefusedBy::Peer => "peer",
                };
                object.with("reason", reason.as_str()).with("by", by).with("held_back", *held_back)
            }
            Self::Suspect { suspicion, .. } => object.with("suspicion", *suspicion),
            Self::HeartbeatSlow { interval, .. } => object.with("interval_ms", saturating_millis(*interval)),
            Self::ListenStarted { .. }
            | Self::Suspended { .. }
            | Self::Resumed { .. }
            | Self::QuarantineLifted { .. }
            | Self::Left { .. }
            | Self::Reachable { .. }
            | Self::Shutdown { .. } => object,
        }
        .finish()
    }
}

pub(crate) fn saturating_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The way to a peer crossed one of its marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotingBackpressureEvent {
    /// The peer.
    pub authority: Authority,
    /// The level reached.
    pub signal: BackpressureSignal,
    /// The listener that was told; `None` in the event that goes to the stream whether anybody listens or not.
    pub listener: Option<ListenerId>,
    /// Messages waiting or unacknowledged.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The message at which the mark was crossed.
    pub correlation_id: CorrelationId,
}

impl RemotingBackpressureEvent {
    /// As a JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        Object::new()
            .with("event", "backpressure")
            .with("authority", self.authority.to_string())
            .with("signal", self.signal.as_str())
            .with_some("listener", self.listener.map(ListenerId::get))
            .with("messages", self.messages)
            .with("bytes", self.bytes)
            .with_correlation(self.correlation_id)
            .finish()
    }
}

/// Something an operator should know at every start, such as a listener open to the network in plain text.
///
/// Published by the start of remoting, which with `auto_start` is before the system is there to be subscribed to:
/// give the builder a stream of yours (`with_event_stream`) to hear it. It is written to `tracing` in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartWarning {
    /// The address this node announces.
    pub authority: Authority,
    /// What is to be known.
    pub text: String,
}

impl StartWarning {
    /// As a JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        Object::new()
            .with("event", "start_warning")
            .with("authority", self.authority.to_string())
            .with("text", self.text.as_str())
            .finish()
    }
}

/// Everything the observation layer takes in.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RemotingEvent {
    /// A turn in an association's life.
    Lifecycle(RemotingLifecycleEvent),
    /// A mark crossed.
    Backpressure(RemotingBackpressureEvent),
    /// Figures of a peer.
    Metric(RemotingMetric),
    /// A hop of a message.
    Trace(CorrelationTrace),
    /// An operator's threshold crossed.
    Threshold(ThresholdCrossed),
}

impl RemotingEvent {
    /// What it belongs to.
    #[must_use]
    pub const fn correlation_id(&self) -> CorrelationId {
        match self {
            Self::Lifecycle(event) => event.correlation_id(),
            Self::Backpressure(event) => event.correlation_id,
            Self::Metric(metric) => metric.correlation_id,
            Self::Trace(trace) => trace.correlation_id,
            Self::Threshold(crossed) => crossed.correlation_id,
        }
    }

    /// As a JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Self::Lifecycle(event) => event.to_json(),
            Self::Backpressure(event) => event.to_json(),
            Self::Metric(metric) => metric.to_json(),
            Self::Trace(trace) => trace.to_json(),
            Self::Threshold(crossed) => crossed.to_json(),
        }
    }
}

impl From<RemotingLifecycleEvent> for RemotingEvent {
    fn from(event: RemotingLifecycleEvent) -> Self {
        Self::Lifecycle(event)
    }
}

impl From<RemotingBackpressureEvent> for RemotingEvent {
    fn from(event: RemotingBackpressureEvent) -> Self {
        Self::Backpressure(event)
    }
}

impl From<RemotingMetric> for RemotingEvent {
    fn from(metric: RemotingMetric) -> Self {
        Self::Metric(metric)
    }
}

impl From<CorrelationTrace> for RemotingEvent {
    fn from(trace: CorrelationTrace) -> Self {
        Self::Trace(trace)
    }
}

impl From<ThresholdCrossed> for RemotingEvent {
    fn from(crossed: ThresholdCrossed) -> Self {
        Self::Threshold(crossed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation_trace::HopKind;

    /// Covers: EV-28
    #[test]
    fn every_event_is_one_flat_object_with_peer_and_correlation() {
        let authority = Authority::new("10.0.0.2", 25520);
        let correlation_id = CorrelationId::new(1, 2);
        let uid = ActorUid::new(u64::MAX);
        for (event, expected) in [
            (
                RemotingEvent::from(RemotingLifecycleEvent::Quarantined {
                    authority: authority.clone(),
                    uid,
                    reason: QuarantineReason::Unreachable,
                    facts: String::from("silent for 11.6s"),
                    deadline: Some(Instant::from_millis(30_000)),
                    correlation_id,
                }),
                r#"{"authority":"10.0.0.2:25520","correlation_id":"000000000000000100000002","deadline_ms":30000,"event":"quarantined","facts":"silent for 11.6s","reason":"unreachable","uid":"18446744073709551615"}"#,
            ),
            (
                RemotingLifecycleEvent::Refused {
                    authority: authority.clone(),
                    by: RefusedBy::Peer,
                    reason: RefuseReason::Version,
                    held_back: 3,
                    correlation_id,
                }
                .into(),
                r#"{"authority":"10.0.0.2:25520","by":"peer","correlation_id":"000000000000000100000002","event":"refused","held_back":3,"reason":"version"}"#,
            ),
            (
                RemotingLifecycleEvent::Suspended {
                    authority: authority.clone(),
                    uid: ActorUid::ANY,
                    correlation_id,
                }
                .into(),
                r#"{"authority":"10.0.0.2:25520","correlation_id":"000000000000000100000002","event":"suspended"}"#,
            ),
            (
                RemotingBackpressureEvent {
                    authority: authority.clone(),
                    signal: BackpressureSignal::Critical,
                    listener: None,
                    messages: 9,
                    bytes: 900,
                    correlation_id,
                }
                .into(),
                r#"{"authority":"10.0.0.2:25520","bytes":900,"correlation_id":"000000000000000100000002","event":"backpressure","messages":9,"signal":"critical"}"#,
            ),
            (
                CorrelationTrace { correlation_id, authority, hop: HopKind::Receive }.into(),
                r#"{"authority":"10.0.0.2:25520","correlation_id":"000000000000000100000002","event":"trace","hop":"receive"}"#,
            ),
        ] {
            assert_eq!(event.to_json(), expected);
            assert_eq!(event.correlation_id(), correlation_id);
        }
    }
}
