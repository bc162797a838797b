//! What operators are shown of a peer: faults, pressure, the level told last, thresholds.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use nexus_actor_core::Instant;
use nexus_actor_core::path::ActorUid;
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::remote_authority::AuthorityState;

use super::Peer;
use crate::association::AssociationState;
use crate::backpressure::BackpressureSignal;
use crate::endpoint::figures::EndpointLife;
use crate::endpoint::manager::EndpointManagerCommand;
use crate::endpoint::pressure::Pressure;
use crate::metric::{RemoteAuthoritySnapshot, RemotingMetric, ThresholdCrossed, ThresholdWatch};

/// What operators are shown.
#[derive(Default)]
pub(super) struct Facts {
    errors: u64,
    last_error: Option<String>,
    /// The level told last; `None` before the first.
    told: Option<BackpressureSignal>,
    pressure: Pressure,
    thresholds: ThresholdWatch,
    suspended: bool,
    endpoint: EndpointLife,
    /// The answer last refused, and recorded.
    pub(super) answer_refused: Option<ReplyKey>,
}

impl Facts {
    pub(super) fn new(thresholds: ThresholdWatch) -> Self {
        Self { thresholds, ..Self::default() }
    }
}

impl Peer {
    pub(crate) fn note_error(&self, what: &str) {
        let mut facts = self.facts.lock();
        facts.errors += 1;
        facts.last_error = Some(String::from(what));
    }

    pub(crate) fn note_lost(&self) {
        self.facts.lock().errors += 1;
    }

    /// Notes how full the lanes are.
    pub(crate) fn note_lane(&self, signal: BackpressureSignal) {
        self.facts.lock().pressure.lane(signal);
    }

    /// Notes which incarnation the detector doubts, and returns which it doubted before.
    pub(crate) fn note_suspect(&self, uid: Option<ActorUid>) -> Option<ActorUid> {
        self.facts.lock().pressure.suspect(uid)
    }

    /// One more connection has taken nothing for long, or one less.
    pub(in crate::endpoint) fn note_stall(&self, begins: bool) {
        self.facts.lock().pressure.stalled(begins);
        if let Some(manager) = self.node.manager() {
            manager.tell(EndpointManagerCommand::PressureChanged { authority: self.authority.to_string() });
        }
    }

    /// The level of pressure, if it is another than was told last.
    pub(crate) fn pressure_change(&self) -> Option<BackpressureSignal> {
        let mut facts = self.facts.lock();
        let changed = facts.pressure.change();
        if changed.is_some() {
            facts.told = changed;
        }
        changed
    }

    /// Notes `metric` and gives the thresholds that it crossed.
    pub(crate) fn crossed(&self, metric: &RemotingMetric) -> Vec<ThresholdCrossed> {
        self.facts.lock().thresholds.update(metric)
    }

    /// Notes what was told of a suspension by hand, and returns what had been told before.
    pub(crate) fn note_suspended(&self, suspended: bool) -> bool {
        core::mem::replace(&mut self.facts.lock().suspended, suspended)
    }

    /// The level of pressure that was told last.
    pub(in crate::endpoint) fn signal(&self) -> BackpressureSignal {
        self.facts.lock().told.unwrap_or(BackpressureSignal::Normal)
    }

    /// Notes a turn in the life of what both wires call the endpoint.
    pub(in crate::endpoint) fn note_endpoint<R>(&self, f: impl FnOnce(&mut EndpointLife) -> R) -> R {
        f(&mut self.facts.lock().endpoint)
    }

    /// The figures of this peer now.
    pub(crate) fn metric(&self) -> RemotingMetric {
        let now = self.node.now();
        let (depth, latency) = self.read(|association| {
            let health = association.health(now);
            (association.statistics().in_flight, health.round_trip)
        });
        let mut metric = RemotingMetric::new(self.authority.to_string());
        metric.latency_ms = latency.map_or(0, |trip| u32::try_from(trip.as_millis()).unwrap_or(u32::MAX));
        metric.deferred_depth = u32::try_from(depth).unwrap_or(u32::MAX);
        metric.correlation_id = self.last_sent();
        let facts = self.facts.lock();
        metric.error_count = facts.errors;
        metric.backpressure = facts.told;
        metric.last_error.clone_from(&facts.last_error);
        metric
    }

    /// The state and figures of this peer now.
    pub(crate) fn snapshot(&self) -> RemoteAuthoritySnapshot {
        let metric = self.metric();
        let (state, last_change) = self.read(|association| {
            let since = association.last_change().map_or(Instant::ZERO, |change| change.at);
            (association.state().clone(), since)
        });
        let state = match state {
            AssociationState::Connected { remote_id } => AuthorityState::Connected { uid: remote_id.uid() },
            AssociationState::Quarantined { deadline, .. } => AuthorityState::Quarantine { deadline },
            AssociationState::Unassociated
            | AssociationState::Associating { .. }
            | AssociationState::Suspended { .. }
            | AssociationState::Gated { .. } => AuthorityState::Unresolved,
        };
        RemoteAuthoritySnapshot {
            authority: self.authority.to_string(),
            state,
            last_change: last_change.as_millis(),
            deferred_count: metric.deferred_depth,
            metric,
        }
    }
}
