//! What both wires tell of an endpoint, told of an association: its figures and the turns in its life.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use nexus_actor_core::remote::Fate;

use super::node::Node;
use super::peer::Peer;
use crate::association::Association;
use crate::backpressure::BackpressureSignal;
use crate::endpoint_event::{
    EndpointConnectedEvent, EndpointReconnectEvent, EndpointTerminatedEvent, EndpointThrottledEvent,
};
use crate::endpoint_statistics::{EndpointReport, EndpointStatisticsSnapshot};
use crate::wire::RemoteNodeId;

/// The word for this wire in reports.
const PROTOCOL: &str = "fraktor";

/// Where the endpoint of a peer is in its life. It begins with an attempt to connect and ends for good when the attempts
/// are used up or the session is over; a later send begins another, with the same association.
#[derive(Debug, Default)]
pub(super) struct EndpointLife {
    begun: bool,
    served: bool,
    /// Over all lives, like the two below.
    reconnect_attempts: u64,
    /// Messages and answers that were refused and given up.
    send_failures: u64,
    /// Of them, those that are dead letters.
    refused_dead: u64,
}

impl EndpointLife {
    /// An attempt begins; true when it is one to connect again.
    const fn attempt(&mut self) -> bool {
        self.begun = true;
        self.reconnect_attempts += self.served as u64;
        self.served
    }

    /// A connection serves; true when one did before.
    const fn connected(&mut self) -> bool {
        self.begun = true;
        core::mem::replace(&mut self.served, true)
    }

    pub(super) const fn given_up(&mut self, fate: Fate) {
        self.send_failures += 1;
        self.refused_dead += matches!(fate, Fate::DeadLetter) as u64;
    }

    /// True when there was one to end.
    const fn ended(&mut self) -> bool {
        self.served = false;
        core::mem::replace(&mut self.begun, false)
    }
}

impl Peer {
    /// The figures that both wires have, now.
    pub(crate) fn endpoint_statistics(&self) -> EndpointStatisticsSnapshot {
        let received = self.intake.lock().inbound.messages();
        let counted = self.read(Association::statistics);
        let (reconnect_attempts, send_failures, refused_dead) =
            self.note_endpoint(|life| (life.reconnect_attempts, life.send_failures, life.refused_dead));
        EndpointStatisticsSnapshot {
            queue_capacity: self.node.association_config.lane_messages_max() as u64,
            queue_size: counted.in_flight,
            dead_letters: counted.lost + refused_dead,
            sent: counted.sent,
            send_failures,
            reconnect_attempts,
            // There is nobody to say so: what is not acknowledged is recorded.
            unknown: 0,
            received,
        }
    }

    fn endpoint_report(&self) -> EndpointReport {
        EndpointReport {
            protocol: PROTOCOL,
            address: self.authority().to_string().into(),
            state: self.read(|association| {
                if association.is_blocked() { "blocked" } else { association.state().kind().as_str() }
            }),
            statistics: self.endpoint_statistics(),
        }
    }
}

impl Node {
    pub(super) fn endpoint_attempt(&self, peer: &Peer, attempt: u32) {
        if peer.note_endpoint(EndpointLife::attempt) {
            let address = peer.authority().to_string().into();
            self.publisher.publish_endpoint(EndpointReconnectEvent { address, attempt });
        }
    }

    pub(super) fn endpoint_connected(&self, peer: &Peer, remote: &RemoteNodeId) {
        let again = peer.note_endpoint(EndpointLife::connected);
        let address: Arc<str> = peer.authority().to_string().into();
        let system_id = remote.uid().to_string().into();
        self.publisher.publish_endpoint(EndpointConnectedEvent { address, system_id });
        if again && peer.signal() == BackpressureSignal::Normal {
            let counted = peer.read(Association::statistics);
            let depth = (counted.in_flight, counted.in_flight_bytes);
            self.endpoint_throttled(peer, BackpressureSignal::Normal, depth);
        }
    }

    pub(super) fn endpoint_throttled(&self, peer: &Peer, level: BackpressureSignal, depth: (u64, u64)) {
        let address = peer.authority().to_string().into();
        let (messages, bytes) = depth;
        self.publisher.publish_endpoint(EndpointThrottledEvent { address, level, messages, bytes });
    }

    /// Tells that the endpoint of `peer` has ended for good, if it had begun.
    pub(super) fn endpoint_ended(&self, peer: &Peer, reason: &str) {
        if peer.note_endpoint(EndpointLife::ended) {
            self.publisher.publish_endpoint(EndpointTerminatedEvent {
                address: peer.authority().to_string().into(),
                reason: reason.into(),
                statistics: peer.endpoint_statistics(),
            });
        }
    }

    /// Every endpoint there is, and the sums of those of associations that are forgotten.
    pub(crate) fn endpoint_reports(&self) -> Vec<EndpointReport> {
        let ended = self.ended_endpoints.lock();
        let peers = self.registry.all();
        let live = peers.iter().map(|peer| peer.endpoint_report());
        live.chain(ended.reports(PROTOCOL)).collect()
    }

    /// Forgets all associations; what they had counted stays.
    pub(crate) fn close_registry(&self) {
        let mut ended = self.ended_endpoints.lock();
        let peers = self.registry.all();
        for peer in &peers {
            ended.add(&peer.authority().to_string(), peer.endpoint_statistics());
        }
        self.registry.close();
        drop(ended);
        // The last of them may go here, outside the lock.
        drop(peers);
    }
}
