//! What an application does with remoting: start, associate, quarantine, recover, look, shut down.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorPathParts, Address, Authority};
use nexus_actor_core::{ActorRef, CorrelationId};
use portable_atomic::Ordering;

use crate::association::AssociationStatistics;
use crate::backpressure::{ListenerGuard, RemotingBackpressureListener};
use crate::config_error::Violations;
use crate::endpoint::{
    EndpointManagerCommand, EndpointSupervisor, Node, Origin, Peer, SupervisorCommand, bind, serve,
};
use crate::endpoint_statistics::{EndpointReport, EndpointSource, EndpointStatisticsSnapshot};
use crate::error::RemotingError;
use crate::event::{RemotingLifecycleEvent, StartWarning};
use crate::failure_detector::HealthSnapshot;
use crate::flight_recorder::RemotingFlightRecorder;
use crate::metric::RemoteAuthoritySnapshot;
use crate::transport::TransportEndpoint;
use crate::wire::QuarantineReason;

/// The operations on one node's remoting.
pub trait RemotingControl: Send + Sync {
    /// Starts listening. Calling it again changes nothing, also while another call is at it.
    ///
    /// # Errors
    /// When the address cannot be bound; nothing is left running and it may be called again. After a shutdown it
    /// does not start again.
    fn start(&self) -> Result<(), RemotingError>;

    /// Connects to a node before anything is sent to it. An address without a system's name
    /// ([`ActorPathParts::from_authority`]) means a system that is named as this one; another answers *wrong address*.
    ///
    /// # Errors
    /// When remoting has not been started, or the parts name no other node.
    fn associate(&self, address: &ActorPathParts) -> Result<(), RemotingError>;

    /// Refuses the present incarnation of the node at `authority` (`host:port`) until it restarts or
    /// [`recover`](Self::recover) is called. An unknown authority is no error: there is nothing to refuse.
    fn quarantine(&self, authority: &str, reason: QuarantineReason);

    /// Ends a quarantine: both nodes agree a new session without a restart.
    ///
    /// # Errors
    /// When there is no association with that authority, or the block list refuses it.
    fn recover(&self, authority: &str) -> Result<(), RemotingError>;

    /// Stops sending messages to and accepting messages from a node until [`resume`](Self::resume).
    ///
    /// A connection that serves stays and keeps its heartbeats; without one none is dialled. Meanwhile
    ///
    /// - what is sent waits in its lane, within the lane's bounds and as if the node were slow;
    /// - an ask waits as well; at its deadline it ends with [`AskError::Suspended`](nexus_actor_core::AskError::Suspended)
    ///   instead of a timeout;
    /// - what arrives becomes a dead letter with the reason *suspended*. An answer among it ends its ask with
    ///   `AskError::Suspended` at once; whoever asked from over there is told the same after `resume`;
    /// - a watch or its end is noted here, but said to the node, as a stop is, only after `resume`; so is the end of an actor
    ///   here that the node watches. A watch before the first session answers *unreachable* when none comes in time. What
    ///   the node says of actors watched there is taken and told as ever;
    /// - a stop that has waited for `system_message_give_up` (default 10 minutes) has the node's incarnation quarantined, as
    ///   it does without a suspension.
    ///
    /// Nothing happens to a node in quarantine. A quarantine, a block and the end of remoting end a suspension.
    ///
    /// # Errors
    /// When there is no association with that authority.
    fn suspend(&self, authority: &str) -> Result<(), RemotingError>;

    /// Ends a suspension.
    ///
    /// # Errors
    /// When there is no association with that authority.
    fn resume(&self, authority: &str) -> Result<(), RemotingError>;

    /// Refuses a system, by its name or by `host:port`, from now on, without a restart: its connections are closed, which it
    /// is told, what waits for it is recorded as *blocked*, and neither side's dials get through. Its incarnations are not
    /// remembered: [`unblock_system`](Self::unblock_system) makes it welcome again.
    ///
    /// # Errors
    /// When the text can name no system. Nothing has changed.
    fn block_system(&self, system: &str) -> Result<(), RemotingError>;

    /// Ends a block, and dials who had been cut off. True when the system was in the list.
    fn unblock_system(&self, system: &str) -> bool;

    /// The block list, sorted.
    fn list_blocked_systems(&self) -> Vec<String>;

    /// Refuses, as [`block_system`](Self::block_system) does, all systems but those named; `None` allows all. What is on the
    /// block list is refused in any case.
    ///
    /// # Errors
    /// When a text can name no system. Nothing has changed.
    fn set_allowed_systems(&self, systems: Option<Vec<String>>) -> Result<(), RemotingError>;

    /// The systems that alone are allowed, sorted; `None` when all are.
    fn list_allowed_systems(&self) -> Option<Vec<String>>;

    /// Leaves every peer in order and closes the listener, in the background. Calling it again changes nothing.
    ///
    /// # Errors
    /// When remoting was never started.
    fn shutdown(&self) -> Result<(), RemotingError>;

    /// Has `listener` told of every backpressure signal until the returned guard is dropped.
    fn register_backpressure_listener(
        &self,
        listener: Arc<dyn RemotingBackpressureListener>,
    ) -> ListenerGuard;

    /// The state and figures of every association, in the order of their authorities.
    fn connections_snapshot(&self) -> Vec<RemoteAuthoritySnapshot>;
}

/// A handle on one node's remoting; clones mean the same.
#[derive(Clone)]
pub struct RemotingControlHandle {
    pub(crate) node: Arc<Node>,
    pub(crate) life: Arc<Lock<Life>>,
}

/// Where remoting stands.
#[derive(Default)]
pub(crate) struct Life {
    supervisor: Option<ActorRef<SupervisorCommand>>,
    /// Somebody is at it.
    starting: bool,
    over: bool,
}

/// A start under way; over when dropped, also by a panic of the transport.
struct Starting<'a>(&'a Lock<Life>);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.lock().starting = false;
    }
}

impl RemotingControlHandle {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, life: Arc::default() }
    }

    fn peers(&self, authority: &str) -> Vec<Arc<Peer>> {
        authority.parse::<Authority>().map(|authority| self.node.registry.at(&authority)).unwrap_or_default()
    }

    fn known(&self, authority: &str) -> Result<Vec<Arc<Peer>>, RemotingError> {
        let peers = self.peers(authority);
        if peers.is_empty() {
            return Err(RemotingError::UnknownAuthority { authority: authority.to_string() });
        }
        Ok(peers)
    }

    /// The address other nodes reach this one by; `None` before the start.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        self.node.address()
    }

    /// The recorder of this node.
    #[must_use]
    pub fn flight_recorder(&self) -> &Arc<RemotingFlightRecorder> {
        &self.node.recorder
    }

    /// The counts of the association with `authority`; `None` when there is none.
    #[must_use]
    pub fn statistics(&self, authority: &str) -> Option<AssociationStatistics> {
        let peer = self.peers(authority).into_iter().next()?;
        Some(peer.read(crate::association::Association::statistics))
    }

    /// The figures that both wires have, of the endpoint of `authority`; `None` when there is none.
    #[must_use]
    pub fn get_endpoint_statistics(&self, authority: &str) -> Option<EndpointStatisticsSnapshot> {
        Some(self.peers(authority).first()?.endpoint_statistics())
    }

    /// What the failure detector thinks now of the node at `authority`; `None` without an association.
    #[must_use]
    pub fn health(&self, authority: &str) -> Option<HealthSnapshot> {
        self.node.registry.health(&authority.parse().ok()?, self.node.now())
    }

    /// How many connections and listeners run.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.node.tasks()
    }

    /// How many associations are kept.
    #[must_use]
    pub fn associations(&self) -> usize {
        self.node.registry.len()
    }

    /// Leaves every peer in order, closes the listener and waits until nothing of remoting runs.
    ///
    /// What was accepted before the call is delivered as far as the flush time allows; the rest is recorded as
    /// *shutdown*. Ends within the configured shutdown time whatever peers do.
    ///
    /// # Cancel safety
    /// The shutdown goes on without the future.
    pub async fn shutdown_and_wait(&self) {
        self.shut_down();
        core::future::poll_fn(|cx| self.node.ended.poll(cx)).await;
    }

    /// Begins the shutdown, once, in a task of its own: nobody who waits for it can cut it short.
    fn shut_down(&self) {
        if let Some(ending) = self.begin_shutdown() {
            match self.node.system.upgrade() {
                Some(system) => system.spawn_task(ending),
                None => drop(ending),
            }
        }
    }

    /// Marks the end and gives the future that brings it about; `None` when that was done before.
    fn begin_shutdown(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let supervisor = {
            let mut life = self.life.lock();
            if core::mem::replace(&mut life.over, true) {
                return None;
            }
            life.supervisor.take()
        };
        self.node.begin_closing();
        let node = self.node.clone();
        let ended = EndGuard(node.clone());
        Some(async move {
            let _ended = ended;
            let Some(system) = node.system.upgrade() else { return };
            let deadline = system.now() + node.config.shutdown_timeout();
            for peer in node.registry.all() {
                peer.apply(|association, now| association.leave(now));
            }
            let left = node.clone();
            let peers = node.registry.all();
            node.within(&system, deadline, async move {
                for peer in peers {
                    peer.when_closed().await;
                }
                left.tasks_ended().await;
            })
            .await;
            for peer in node.registry.all() {
                peer.apply(|association, now| association.abort(now));
            }
            // Connections that were told to end get a moment to do so.
            let grace = system.now() + core::time::Duration::from_millis(500);
            let rest = node.clone();
            node.within(&system, grace, async move { rest.tasks_ended().await }).await;
            node.set_manager(None);
            if let Some(supervisor) = supervisor {
                supervisor.stop();
            }
            // What associations have told is worked off by one at a time: the manager may still be at it.
            let grace = system.now() + core::time::Duration::from_millis(500);
            let rest = node.clone();
            node.within(&system, grace, async move { rest.work_off_all().await }).await;
            let authority = node.own_authority();
            node.publish(RemotingLifecycleEvent::Shutdown { authority, correlation_id: CorrelationId::NIL });
            node.close_registry();
            let transport = node.transport.lock().take();
            drop(transport);
            node.ended.set();
            // What was told between the last look and the end of the manager.
            node.drain_posted(&system);
        })
    }
}

/// Says that the shutdown is over, also when its task was dropped with the runtime.
struct EndGuard(Arc<Node>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.ended.set();
    }
}

impl RemotingControl for RemotingControlHandle {
    fn start(&self) -> Result<(), RemotingError> {
        let system = self.node.system.upgrade().ok_or(RemotingError::Shutdown)?;
        {
            let mut life = self.life.lock();
            if life.over || system.is_shutting_down() {
                return Err(RemotingError::Shutdown);
            }
            if life.starting || life.supervisor.is_some() {
                return Ok(());
            }
            life.starting = true;
        }
        let starting = Starting(&self.life);
        // Outside the lock: a transport, like a subscriber below, may do anything. And bound before there is an actor: a
        // start that fails leaves no name behind that is still taken.
        let listener = bind(&self.node)?;
        let spawned = system.spawn_system("remoting", EndpointSupervisor::props(self.node.clone()));
        let supervisor = match spawned {
            Ok(supervisor) => supervisor,
            Err(error) => {
                listener.close();
                self.node.clear_local();
                return Err(RemotingError::Actor(error));
            }
        };
        serve(&self.node, listener, &supervisor);
        let over = {
            let mut life = self.life.lock();
            if !life.over {
                life.supervisor = Some(supervisor.clone());
            }
            life.over
        };
        drop(starting);
        if over {
            // A shutdown that came in between does not know of it; what accepts ends by itself.
            supervisor.stop();
            return Err(RemotingError::Shutdown);
        }
        self.node.publish_listening();
        for text in self.node.config.warnings() {
            let authority = self.node.own_authority();
            self.node.publisher.publish_start_warning(StartWarning { authority, text });
        }
        Ok(())
    }

    fn associate(&self, address: &ActorPathParts) -> Result<(), RemotingError> {
        let own = self.node.address().ok_or(RemotingError::NotStarted)?;
        if self.node.is_closing() {
            return Err(RemotingError::Shutdown);
        }
        let target = address.clone().address(&own.system);
        let Some(authority) = target.authority.clone() else {
            return Err(RemotingError::InvalidAddress {
                address: target.to_string(),
                rule: "an address of another node has `host:port`".to_string(),
            });
        };
        if Some(&authority) == own.authority.as_ref() {
            return Err(RemotingError::InvalidAddress {
                address: target.to_string(),
                rule: "this is the node's own address".to_string(),
            });
        }
        let target = Address { scheme: own.scheme.clone(), ..target };
        if self.node.is_blocked(&target) {
            return Err(blocked(&target));
        }
        self.node.peer(&target, Origin::Here).ok_or(RemotingError::TooManyAssociations)?;
        if let Some(manager) = self.node.manager() {
            manager.tell(EndpointManagerCommand::Associate { endpoint: TransportEndpoint::new(authority) });
        } else {
            for peer in self.node.registry.at(&authority) {
                peer.apply(|association, now| association.associate(now));
            }
        }
        Ok(())
    }

    fn quarantine(&self, authority: &str, reason: QuarantineReason) {
        for peer in self.peers(authority) {
            peer.apply(|association, now| association.quarantine(now, None, reason));
        }
    }

    fn recover(&self, authority: &str) -> Result<(), RemotingError> {
        for peer in self.known(authority)? {
            if self.node.is_blocked(peer.address()) {
                return Err(blocked(peer.address()));
            }
            peer.apply(|association, now| association.recover(now));
            // It may have been blocked just now.
            peer.follow_block_list();
        }
        Ok(())
    }

    fn suspend(&self, authority: &str) -> Result<(), RemotingError> {
        for peer in self.known(authority)? {
            peer.apply(|association, now| association.suspend(now));
        }
        Ok(())
    }

    fn resume(&self, authority: &str) -> Result<(), RemotingError> {
        for peer in self.known(authority)? {
            peer.apply(|association, now| association.resume(now));
        }
        Ok(())
    }

    fn block_system(&self, system: &str) -> Result<(), RemotingError> {
        check_listed([system], "blocked_systems")?;
        if self.node.block_list.block(system) {
            self.node.apply_block_list();
        }
        Ok(())
    }

    fn unblock_system(&self, system: &str) -> bool {
        let was = self.node.block_list.unblock(system);
        if was {
            self.node.apply_block_list();
        }
        was
    }

    fn list_blocked_systems(&self) -> Vec<String> {
        self.node.block_list.blocked()
    }

    fn set_allowed_systems(&self, systems: Option<Vec<String>>) -> Result<(), RemotingError> {
        check_listed(systems.iter().flatten().map(String::as_str), "allowed_systems")?;
        self.node.block_list.allow_only(systems);
        self.node.apply_block_list();
        Ok(())
    }

    fn list_allowed_systems(&self) -> Option<Vec<String>> {
        self.node.block_list.allowed()
    }

    fn shutdown(&self) -> Result<(), RemotingError> {
        {
            let life = self.life.lock();
            if life.supervisor.is_none() && !life.starting && !life.over {
                return Err(RemotingError::NotStarted);
            }
        }
        self.shut_down();
        Ok(())
    }

    fn register_backpressure_listener(
        &self,
        listener: Arc<dyn RemotingBackpressureListener>,
    ) -> ListenerGuard {
        self.node.listeners.register(listener)
    }

    fn connections_snapshot(&self) -> Vec<RemoteAuthoritySnapshot> {
        self.node.registry.all().iter().map(|peer| peer.snapshot()).collect()
    }
}

impl EndpointSource for RemotingControlHandle {
    fn endpoints(&self) -> Vec<EndpointReport> {
        self.node.endpoint_reports()
    }
}

fn blocked(address: &Address) -> RemotingError {
    RemotingError::InvalidAddress {
        address: address.to_string(),
        rule: "this system is blocked on this node".to_string(),
    }
}

fn check_listed<'a>(
    systems: impl IntoIterator<Item = &'a str>,
    field: &'static str,
) -> Result<(), RemotingError> {
    let mut found = Violations::new();
    for system in systems {
        super::config::check_listed(&mut found, field, system);
    }
    Ok(found.into_result()?)
}

impl fmt::Debug for RemotingControlHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemotingControlHandle")
            .field("address", &self.node.address())
            .field("closing", &self.node.closing.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}
