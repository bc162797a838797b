//! Decides nothing the machines decide, and does everything they ask the node for.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use nexus_actor_core::dead_letter::{DeadLetter, MessageInfo};
use nexus_actor_core::path::{ActorPath, ActorUid, Address, Authority};
use nexus_actor_core::remote_authority::RemoteAuthorityManager;
use nexus_actor_core::runtime::contained;
use nexus_actor_core::system::ActorSystem;
use nexus_actor_core::{Actor, ActorError, Context, CorrelationId, DeadLetterReason, Refusal};

use super::connection;
use super::inbox::{Batch, Inbox, Posted};
use super::node::Node;
use super::peer::Peer;
use super::watcher::WatchCommand;
use crate::association::{Association, AssociationEvent, LostMessage, PressureLevel, SuspendCause};
use crate::association::{AssociationState, StateChange};
use crate::backpressure::BackpressureSignal;
use crate::event::{AssociationStateChanged, RefusedBy, RemotingBackpressureEvent, RemotingLifecycleEvent};
use crate::failure_detector::PeerHealth;
use crate::flight_recorder::{FlightEvent, FlightKind};
use crate::metric::RemotingMetric;
use crate::transport::{TransportChannel, TransportEndpoint};
use crate::wire::{QuarantineReason, SystemMessage};

/// What the manager is told. Public name and first five forms are those of the remoting foundation.
#[derive(Debug)]
#[non_exhaustive]
pub enum EndpointManagerCommand {
    /// A peer has opened a connection.
    RegisterInbound {
        /// The connection.
        handle: TransportChannel,
    },
    /// Connect to a peer.
    Associate {
        /// Where.
        endpoint: TransportEndpoint,
    },
    /// Messages that wait for the association go out: over its connection, or a new one.
    FlushDeferred {
        /// The peer.
        authority: String,
    },
    /// Refuse a peer's present incarnation.
    Quarantine {
        /// The peer.
        authority: String,
        /// Why.
        reason: QuarantineReason,
    },
    /// Publish the figures of every peer.
    PublishMetrics,
    /// A transport's signal may have changed how hard it is to get anything to a peer: tell it if so.
    PressureChanged {
        /// The peer.
        authority: String,
    },
    /// Work off what the associations have to tell.
    Drain,
}

/// The actor that carries out what associations ask for, and the only one that publishes lifecycle events.
pub(crate) struct EndpointManager {
    node: Arc<Node>,
}

impl EndpointManager {
    pub(crate) const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Carries out one command.
    fn handle(&self, command: EndpointManagerCommand, system: &ActorSystem) {
        match command {
            EndpointManagerCommand::RegisterInbound { handle } => {
                self.node.spawn(connection::receive(self.node.clone(), handle));
            }
            EndpointManagerCommand::Associate { endpoint } => {
                for peer in self.node.registry.at(&endpoint.authority) {
                    peer.apply(|association, now| association.associate(now));
                }
            }
            EndpointManagerCommand::FlushDeferred { authority } => {
                for peer in self.at(&authority) {
                    peer.flush();
                }
            }
            EndpointManagerCommand::Quarantine { authority, reason } => {
                for peer in self.at(&authority) {
                    peer.apply(|association, now| association.quarantine(now, None, reason));
                }
            }
            EndpointManagerCommand::PublishMetrics => self.publish_metrics(),
            EndpointManagerCommand::PressureChanged { authority } => {
                for peer in self.at(&authority) {
                    self.tell_pressure(&peer, None, system);
                }
            }
            EndpointManagerCommand::Drain => {
                let max = self.node.config.endpoint_manager_batch_size() as usize;
                // One batch a turn, so that commands are not kept waiting by a storm of events: when there is more,
                // the end of the batch tells so.
                if let Some(batch) = Inbox::take(&self.node, max) {
                    self.work_off(batch, system);
                }
            }
        }
    }

    fn at(&self, authority: &str) -> Vec<Arc<Peer>> {
        authority.parse::<Authority>().map(|authority| self.node.registry.at(&authority)).unwrap_or_default()
    }

    pub(super) fn work_off(&self, mut batch: Batch, system: &ActorSystem) {
        // By reference: what a panic leaves goes back.
        for (posted, event) in &mut batch {
            self.event(&posted, event, system);
        }
    }

    fn event(&self, posted: &Posted, event: AssociationEvent, system: &ActorSystem) {
        let peer = posted.peer();
        let authority = || peer.authority().clone();
        let authorities: &RemoteAuthorityManager = system.remote_authorities();
        let correlation_id = peer.last_sent();
        match event {
            AssociationEvent::StateChanged(change) => self.state_changed(peer, change, system),
            AssociationEvent::Associated { remote, resumed, .. } => {
                // In this order: who hears of the connection finds its state set and what waited on its way.
                authorities.set_connected_to(peer.authority(), remote.uid());
                // Not a dial: the peer may have come, said something and left by now.
                peer.wake_connections();
                self.node.publish(RemotingLifecycleEvent::Connected {
                    authority: authority(),
                    uid: remote.uid(),
                    resumed,
                    correlation_id,
                });
                self.node.endpoint_connected(peer, &remote);
                self.doubt_ended(peer, Some(remote.uid()), system);
            }
            AssociationEvent::Disconnected { uid, cause } => {
                peer.note_error(&alloc::format!("{cause:?}"));
                self.node.publish(RemotingLifecycleEvent::Disconnected {
                    authority: authority(),
                    uid,
                    cause: alloc::format!("{cause:?}"),
                    correlation_id,
                });
            }
            AssociationEvent::AttemptFailed { cause, .. } => peer.note_error(&alloc::format!("{cause:?}")),
            AssociationEvent::GivenUp { cause, .. } => {
                let cause = alloc::format!("{cause:?}");
                peer.note_error(&cause);
                self.node.endpoint_ended(peer, &cause);
            }
            AssociationEvent::RefusedByPeer { reason, .. } => {
                peer.note_error(&alloc::format!("refused: {reason}"));
                let by = RefusedBy::Peer;
                self.node.publish(RemotingLifecycleEvent::Refused {
                    authority: authority(),
                    by,
                    reason,
                    held_back: 0,
                    correlation_id,
                });
            }
            AssociationEvent::RefusedPeer { reason, held_back, .. } => {
                let by = RefusedBy::Us;
                self.node.publish(RemotingLifecycleEvent::Refused {
                    authority: authority(),
                    by,
                    reason,
                    held_back,
                    correlation_id,
                });
            }
            AssociationEvent::Quarantined { uid, reason, deadline, facts } => {
                authorities.set_quarantine(peer.authority(), deadline);
                peer.note_error(&alloc::format!("quarantined: {reason}"));
                self.session_ended(peer);
                self.node.publish(RemotingLifecycleEvent::Quarantined {
                    authority: authority(),
                    uid: uid.unwrap_or(ActorUid::ANY),
                    reason,
                    facts,
                    deadline,
                    correlation_id,
                });
                self.node.endpoint_ended(peer, reason.as_str());
            }
            AssociationEvent::Recovered { uid } => {
                authorities.clear(peer.authority());
                self.node.publish(RemotingLifecycleEvent::QuarantineLifted {
                    authority: authority(),
                    uid: uid.unwrap_or(ActorUid::ANY),
                    correlation_id,
                });
            }
            AssociationEvent::QuarantinedByPeer { reason } => {
                let uid = peer.remote_uid();
                self.session_ended(peer);
                self.node.publish(RemotingLifecycleEvent::QuarantinedByPeer {
                    authority: authority(),
                    uid,
                    reason,
                    correlation_id,
                });
                self.node.endpoint_ended(peer, &alloc::format!("by the peer: {reason}"));
            }
            AssociationEvent::Left { uid } => {
                authorities.clear(peer.authority());
                self.session_ended(peer);
                self.node.publish(RemotingLifecycleEvent::Left {
                    authority: authority(),
                    uid,
                    correlation_id,
                });
                self.node.endpoint_ended(peer, "left");
            }
            AssociationEvent::Lost(lost) => self.lost(peer, lost, system),
            AssociationEvent::SystemMessageLost { message, reason } => {
                self.system_message_lost(peer, &message, reason, system);
            }
            AssociationEvent::AskFailed { ask, error } => contained(|| ask.fail(error)),
            AssociationEvent::Terminated(notice) => {
                if peer.read(|association| association.session()) != Some(notice.session) {
                    // It ended with its session: no message of that session follows the news.
                    self.session_ended(peer);
                }
                let due = peer.intake.lock().inbound.hold(notice);
                if let Some(notice) = due {
                    self.to_watcher(WatchCommand::Notify { peer: peer.clone(), notice });
                }
            }
            AssociationEvent::WatchRequested { path, uid } => {
                self.to_watcher(WatchCommand::PeerWatches { by: posted.again(), path, uid });
            }
            AssociationEvent::UnwatchRequested { path, uid } => {
                self.to_watcher(WatchCommand::PeerUnwatches {
                    by: posted.again(),
                    targets: vec![(path, uid)],
                });
            }
            AssociationEvent::PeerWatchesEnded { targets } => {
                self.to_watcher(WatchCommand::PeerUnwatches { by: posted.again(), targets });
            }
            AssociationEvent::StopRequested { path, uid } => {
                self.stop_requested(peer, path.as_str(), uid, system)
            }
            AssociationEvent::Pressure { level, messages, bytes } => {
                let signal = match level {
                    PressureLevel::Normal => BackpressureSignal::Normal,
                    PressureLevel::Warning => BackpressureSignal::Warning,
                    PressureLevel::Critical => BackpressureSignal::Critical,
                };
                peer.note_lane(signal);
                self.tell_pressure(peer, Some((messages as u64, bytes as u64)), system);
            }
            AssociationEvent::Room => peer.wake_room(),
            AssociationEvent::Health { health: PeerHealth::Suspect, uid, suspicion } => {
                self.node.publish(RemotingLifecycleEvent::Suspect {
                    authority: authority(),
                    uid,
                    suspicion,
                    correlation_id,
                });
                peer.note_suspect(Some(uid));
                self.tell_pressure(peer, None, system);
            }
            AssociationEvent::Health { health: PeerHealth::Reachable, uid, .. } => {
                self.doubt_ended(peer, Some(uid), system);
            }
            AssociationEvent::HeartbeatSlow { uid, interval } => {
                self.node.publish(RemotingLifecycleEvent::HeartbeatSlow {
                    authority: authority(),
                    uid,
                    interval,
                    correlation_id,
                });
            }
            AssociationEvent::HeartbeatAnswered { uid, round_trip } => {
                self.node.recorder.record(FlightEvent {
                    time: system.now(),
                    association: peer.recorded_as,
                    correlation_id,
                    kind: FlightKind::HeartbeatReply { uid, round_trip },
                });
            }
            AssociationEvent::Reincarnated { .. } => self.session_ended(peer),
            AssociationEvent::Closed { .. } => {
                self.doubt_ended(peer, None, system);
                // The ways into mailboxes hold this peer, and it them.
                self.session_ended(peer);
                self.node.endpoint_ended(peer, "shutdown");
                peer.closed();
            }
            AssociationEvent::Unused => {
                if self.node.forget(peer, |association, now| association.is_unused(now)) {
                    if self.node.registry.at(peer.authority()).is_empty() {
                        authorities.clear(peer.authority());
                    }
                    self.node.endpoint_ended(peer, "unused");
                }
            }
        }
    }

    /// Tells listeners, stream and recorder how hard it is to get anything to a peer, if that has changed. `depth` is
    /// what waits, in messages and bytes, where it was noted with the change.
    fn tell_pressure(&self, peer: &Arc<Peer>, depth: Option<(u64, u64)>, system: &ActorSystem) {
        let Some(signal) = peer.pressure_change() else { return };
        let (messages, bytes) = depth.unwrap_or_else(|| {
            let statistics = peer.read(Association::statistics);
            (statistics.in_flight, statistics.in_flight_bytes)
        });
        let event = RemotingBackpressureEvent {
            authority: peer.authority().clone(),
            signal,
            listener: None,
            messages,
            bytes,
            correlation_id: peer.last_sent(),
        };
        self.node.publisher.signal(system.now(), &self.node.listeners, event);
        self.node.endpoint_throttled(peer, signal, (messages, bytes));
    }

    /// The detector's doubt is over: the peer was heard, or is another one now.
    fn doubt_ended(&self, peer: &Arc<Peer>, heard: Option<ActorUid>, system: &ActorSystem) {
        let Some(suspect) = peer.note_suspect(None) else { return };
        if heard == Some(suspect) {
            self.node.publish(RemotingLifecycleEvent::Reachable {
                authority: peer.authority().clone(),
                uid: suspect,
                correlation_id: peer.last_sent(),
            });
        }
        self.tell_pressure(peer, None, system);
    }

    /// What waited for a session that is over need wait no longer, nothing more of it is delivered, and nobody
    /// waits for room in vain.
    fn session_ended(&self, peer: &Arc<Peer>) {
        let (gone, released) = {
            let mut intake = peer.intake.lock();
            // The next session may run already, and its reader may have attached: what is told here is older.
            let current = peer.read(|association| association.session());
            let gone =
                if current == Some(intake.inbound.session()) { Vec::new() } else { intake.inbound.detach() };
            let mut released = Vec::new();
            while let Some(notice) = intake.inbound.released() {
                released.push(notice);
            }
            (gone, released)
        };
        drop(gone);
        for notice in released {
            self.to_watcher(WatchCommand::Notify { peer: peer.clone(), notice });
        }
        peer.wake_room();
    }

    fn to_watcher(&self, command: WatchCommand) {
        self.node.tell_watcher(command);
    }

    fn state_changed(&self, peer: &Arc<Peer>, change: StateChange, system: &ActorSystem) {
        let authority = peer.authority().clone();
        let correlation_id = peer.last_sent();
        system.event_stream().publish_with(|| AssociationStateChanged {
            authority: authority.clone(),
            change: change.clone(),
        });
        let uid = change.uid.unwrap_or(ActorUid::ANY);
        let by_hand = matches!(change.to, AssociationState::Suspended { cause: SuspendCause::ByHand });
        if !by_hand && peer.note_suspended(false) {
            self.node.publish(RemotingLifecycleEvent::Resumed {
                authority: authority.clone(),
                uid,
                correlation_id,
            });
        }
        match &change.to {
            AssociationState::Associating { attempt } => {
                self.node.publish(RemotingLifecycleEvent::AssociationAttempt {
                    authority,
                    attempt: *attempt,
                    correlation_id,
                });
                self.node.endpoint_attempt(peer, *attempt);
            }
            AssociationState::Gated { until, cause } => {
                self.node.publish(RemotingLifecycleEvent::Gated {
                    authority,
                    until: *until,
                    cause: alloc::format!("{cause:?}"),
                    correlation_id,
                });
            }
            AssociationState::Suspended { cause: SuspendCause::ByHand } => {
                if !peer.note_suspended(true) {
                    self.node.publish(RemotingLifecycleEvent::Suspended { authority, uid, correlation_id });
                }
            }
            // A connection that came or went is told by its own event.
            AssociationState::Unassociated
            | AssociationState::Connected { .. }
            | AssociationState::Suspended { .. }
            | AssociationState::Quarantined { .. } => {}
        }
    }

    fn lost(&self, peer: &Arc<Peer>, lost: LostMessage, system: &ActorSystem) {
        peer.note_lost();
        self.node.recorder.record(FlightEvent {
            time: system.now(),
            association: peer.recorded_as,
            correlation_id: lost.correlation_id,
            kind: FlightKind::Lost { reason: lost.reason, bytes: lost.size as u64 },
        });
        system.dead_letters().record_with(lost.reason, || {
            let letter = DeadLetter::of(MessageInfo::encoded("", lost.size), lost.reason)
                .with_peer(lost.peer)
                .with_correlation_id(lost.correlation_id);
            match lost.recipient {
                Some(recipient) => letter.with_recipient(recipient),
                None => letter,
            }
        });
    }

    fn system_message_lost(
        &self,
        peer: &Arc<Peer>,
        message: &SystemMessage,
        reason: DeadLetterReason,
        system: &ActorSystem,
    ) {
        peer.note_lost();
        system.dead_letters().record_with(reason, || {
            DeadLetter::of(MessageInfo::encoded("system message", 0), reason)
                .with_peer(peer.address().clone())
                .with_detail(alloc::format!("{message:?}"))
        });
    }

    /// A peer asks that an actor here be stopped. Without a certificate nobody has that permission.
    fn stop_requested(&self, peer: &Arc<Peer>, path: &str, uid: ActorUid, system: &ActorSystem) {
        let reason = DeadLetterReason::Denied;
        system.dead_letters().record_with(reason, || {
            DeadLetter::of(MessageInfo::encoded("stop", 0), reason)
                .with_peer(peer.address().clone())
                .with_recipient(ActorPath::new(system.address(), path, uid))
                .with_detail("this peer has no permission to stop actors here")
        });
    }

    fn publish_metrics(&self) {
        let now = self.node.now();
        for peer in self.node.registry.all() {
            let metric: RemotingMetric = peer.metric();
            for crossed in peer.crossed(&metric) {
                self.node.publisher.publish(now, crate::event::RemotingEvent::Threshold(crossed));
            }
            self.node.publisher.publish_metric(now, metric);
        }
    }
}

impl Actor for EndpointManager {
    type Msg = EndpointManagerCommand;

    async fn receive(
        &mut self,
        command: EndpointManagerCommand,
        cx: &mut Context<'_, Self>,
    ) -> Result<(), ActorError> {
        let system = cx.system().clone();
        self.handle(command, &system);
        Ok(())
    }
}

impl Node {
    /// Records an answer that was refused, or the news that there is none: who was to give it has used its right up,
    /// and the asker learns by its deadline.
    pub(crate) fn dead_answer(
        &self,
        peer: &Address,
        what: &'static str,
        id: CorrelationId,
        refusal: &Refusal,
    ) {
        let Some(system) = self.system.upgrade() else { return };
        system.dead_letters().record_with(refusal.reason(), || {
            DeadLetter::of(MessageInfo::encoded(what, 0), refusal.reason())
                .with_peer(peer.clone())
                .with_correlation_id(id)
                .with_detail(refusal.to_string())
        });
    }

    /// Records a system message that was refused before it was queued.
    pub(crate) fn dead_system_message(
        &self,
        peer: &Address,
        what: &'static str,
        target: &ActorPath,
        refusal: &Refusal,
    ) {
        let Some(system) = self.system.upgrade() else { return };
        system.dead_letters().record_with(refusal.reason(), || {
            DeadLetter::of(MessageInfo::encoded(what, 0), refusal.reason())
                .with_peer(peer.clone())
                .with_recipient(target.clone())
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use core::time::Duration;

    use nexus_actor_core::ActorRef;
    use nexus_actor_core::path::Address;
    use nexus_actor_core::runtime::PumpRuntime;

    use super::super::registry::Origin;
    use super::*;
    use crate::extension::{RemotingExtension, RemotingExtensionConfig};
    use crate::provider::WithRemoting;
    use crate::transport::{
        LoopbackNetwork, LoopbackTransport, RemoteTransport, TransportBind, TransportFactory, TransportHandle,
    };

    type Heard = Arc<nexus_actor_core::lock::Lock<Vec<String>>>;

    struct Fixture {
        pump: PumpRuntime,
        network: LoopbackNetwork,
        system: ActorSystem,
        node: Arc<Node>,
        manager: ActorRef<EndpointManagerCommand>,
        heard: Heard,
    }

    fn system(name: &str, pump: &PumpRuntime, network: &LoopbackNetwork) -> ActorSystem {
        let config = RemotingExtensionConfig::default()
            .with_canonical_port(0)
            .with_metrics_interval(None)
            .with_transport_scheme("fraktor.loopback")
            .with_transport_factory(TransportFactory::new().with_loopback(network));
        ActorSystem::builder(name).with_runtime(pump.clone()).with_remoting(config).build().unwrap()
    }

    fn node_of(system: &ActorSystem) -> Arc<Node> {
        system.extension::<RemotingExtension>().unwrap().handle().node
    }

    fn fixture() -> Fixture {
        let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
        let system = system("a", &pump, &network);
        pump.run_until_idle();
        let node = node_of(&system);
        let heard = Heard::default();
        let (events, metrics) = (heard.clone(), heard.clone());
        let stream = system.event_stream();
        stream
            .subscribe(move |event: &RemotingLifecycleEvent| events.lock().push(event.name().to_string()))
            .forever();
        stream.subscribe(move |metric: &RemotingMetric| metrics.lock().push(metric.to_json())).forever();
        let manager = node.manager().unwrap();
        Fixture { pump, network, system, node, manager, heard }
    }

    impl Fixture {
        fn tell(&self, command: EndpointManagerCommand) -> Vec<String> {
            self.manager.tell(command);
            self.pump.run_until_idle();
            core::mem::take(&mut *self.heard.lock())
        }

        fn peer(&self, name: &str) -> (ActorSystem, Address, String) {
            let peer = system(name, &self.pump, &self.network);
            let address = peer.address();
            self.node.peer(&address, Origin::Here).unwrap();
            let authority = address.authority.clone().unwrap().to_string();
            (peer, address, authority)
        }
    }

    /// Each command does what it says, by itself.
    ///
    /// Covers: HS-38, ROLE-47
    #[test]
    fn every_command_acts() {
        let f = fixture();
        let (_b, address, b) = f.peer("b");
        let (_c, _, c) = f.peer("c");
        assert_eq!(f.tell(EndpointManagerCommand::Drain), [""; 0], "known and not spoken to");

        let endpoint = TransportEndpoint::new(address.authority.unwrap());
        assert_eq!(
            f.tell(EndpointManagerCommand::Associate { endpoint }),
            ["association_attempt", "connected"]
        );
        assert_eq!(
            f.tell(EndpointManagerCommand::FlushDeferred { authority: c.clone() }),
            ["association_attempt", "connected"]
        );
        let metrics = f.tell(EndpointManagerCommand::PublishMetrics);
        assert_eq!(metrics.len(), 2);
        assert!(metrics[0].contains(&b) || metrics[0].contains(&c), "{metrics:?}");
        let reason = QuarantineReason::ByOperator;
        let quarantine = EndpointManagerCommand::Quarantine { authority: b.clone(), reason };
        assert!(f.tell(quarantine).contains(&"quarantined".to_string()));
        let peer = f.node.registry.at(&b.parse().unwrap()).remove(0);
        assert!(matches!(
            f.system.remote_authorities().state(peer.authority()),
            nexus_actor_core::remote_authority::AuthorityState::Quarantine { deadline: None }
        ));
        peer.note_lane(BackpressureSignal::Critical);
        f.tell(EndpointManagerCommand::PressureChanged { authority: b });
        assert_eq!(peer.metric().backpressure, Some(BackpressureSignal::Critical));

        // A connection that a peer opened is waited on for its first bytes, and no longer.
        let transport = LoopbackTransport::new(&f.network);
        let mut cx = core::task::Context::from_waker(core::task::Waker::noop());
        let listener: TransportHandle =
            transport.spawn_listener(&TransportBind::new("elsewhere", 1)).unwrap();
        let dialled =
            transport.open_channel(&TransportEndpoint::new(Authority::new("elsewhere", 1))).unwrap();
        let core::task::Poll::Ready(Ok(handle)) = listener.poll_accept(&mut cx) else { panic!("accepted") };
        let before = f.node.tasks();
        f.tell(EndpointManagerCommand::RegisterInbound { handle });
        assert_eq!(f.node.tasks(), before + 1);
        f.pump.advance(Duration::from_secs(4));
        f.pump.run_until_idle();
        assert_eq!(f.node.tasks(), before);
        assert!(dialled.poll_read(&mut cx, &mut [0; 1]).is_ready());
        // Authorities nobody knows, and texts that are none.
        for authority in ["nowhere:1", "?"] {
            let authority = authority.to_string();
            assert_eq!(
                f.tell(EndpointManagerCommand::FlushDeferred { authority: authority.clone() }),
                [""; 0]
            );
            assert_eq!(f.tell(EndpointManagerCommand::Quarantine { authority, reason }), [""; 0]);
        }
    }
}
