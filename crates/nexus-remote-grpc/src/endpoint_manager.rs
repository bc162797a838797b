//! The endpoints of one node, by address.

use std::sync::Arc;

use nexus_actor_core::path::ActorPath;
use nexus_actor_core::path::ActorPathScheme;
use nexus_actor_core::path::Authority;
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::Route as _;
use nexus_actor_core::serialization::Message;
use nexus_actor_core::system::ResolveError;
use nexus_actor_core::{ActorRef, AnyRef, Refusal};
use nexus_remote::{EndpointReport, EndpointSource, EndpointStatistics, EndpointStatisticsSnapshot};

use crate::client_connection::ClientResponseSender;
use crate::endpoint::{Endpoint, Spelled};
use crate::endpoint_state::{ConnectionState, EndpointState};
use crate::node::Node;
use crate::wire::proto::remote::RemoteMessage;

/// The name of this wire in reports and metrics.
const PROTOCOL: &str = "protoactor";

/// What operators and tests do with the endpoints of a node. A handle: clones are the same manager.
///
/// It owns the endpoints, each with its state, queue and statistics, and the connections of clients. What is sent to an
/// address goes through its endpoint, which is made at the first use.
#[derive(Clone, Debug)]
pub struct EndpointManager {
    node: Arc<Node>,
}

impl EndpointManager {
    pub(crate) const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Connects to `address`, unless that is done, under way or refused, and returns its endpoint.
    ///
    /// # Errors
    /// When `address` is not `host:port`, the node shuts down, or it has too many endpoints.
    pub fn ensure_connected(&self, address: &str) -> Result<Arc<Endpoint>, Refusal> {
        let endpoint = self.node.endpoint(&canonical(address)?)?;
        endpoint.spell(address, Spelled::Dialled);
        endpoint.apply(EndpointState::ensure_connected);
        Ok(endpoint)
    }

    /// Connects to `address` now, whatever was waited for; also one that refused this node before.
    ///
    /// # Errors
    /// As [`ensure_connected`](Self::ensure_connected).
    pub fn schedule_reconnect(&self, address: &str) -> Result<(), Refusal> {
        let endpoint = self.node.endpoint(&canonical(address)?)?;
        endpoint.spell(address, Spelled::Dialled);
        endpoint.apply(EndpointState::retry);
        Ok(())
    }

    /// Waits while the connection to `address` is on the way, and says what came of it: `Connected`, `Closed` where it was
    /// given up, is refused or was never wanted, or `Suspended`.
    ///
    /// # Errors
    /// When there is no endpoint of that address.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn await_reconnect(&self, address: &str) -> Result<ConnectionState, Refusal> {
        let endpoint = self.find(address).ok_or(Refusal::Unreachable)?;
        loop {
            let changed = endpoint.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match endpoint.connection_state() {
                ConnectionState::Reconnecting => changed.await,
                settled => return Ok(settled),
            }
        }
    }

    /// How the connection to `address` stands; `None` where there is no endpoint.
    #[must_use]
    pub fn connection_state(&self, address: &str) -> Option<ConnectionState> {
        Some(self.find(address)?.connection_state())
    }

    fn find(&self, address: &str) -> Option<Arc<Endpoint>> {
        let found = self.node.endpoints.get(address).map(|found| found.clone());
        found.or_else(|| Some(self.node.endpoints.get(&*canonical(address).ok()?)?.clone()))
    }

    /// The figures of `address` now, however it is spelled; `None` where there are none, or not any more.
    #[must_use]
    pub fn statistics_snapshot(&self, address: &str) -> Option<EndpointStatisticsSnapshot> {
        let found = self.node.statistics.get(&canonical(address).ok()?).map(|found| found.clone());
        Some(found?.snapshot())
    }

    fn statistics(&self, address: &str) -> Result<Arc<EndpointStatistics>, Refusal> {
        self.node.known_statistics_of(&canonical(address)?)
    }

    /// Notes how full the queue toward `address` is. For who has a queue of its own beside those of this node, and for tests: the
    /// node notes the same of its queue whenever a message comes or goes, and nothing is made of what is said here but the
    /// figures, which are then as true as the program that says it. They count in reports and metrics while the address has an
    /// endpoint.
    ///
    /// # Errors
    /// When `address` is not `host:port`, or there are figures of too many addresses.
    pub fn record_queue_state(&self, address: &str, capacity: usize, len: usize) -> Result<(), Refusal> {
        self.statistics(address)?.record_queue_state(capacity as u64, len as u64);
        Ok(())
    }

    /// Counts a dead letter of `address`: one that the program has recorded itself. Those of the node are counted without this,
    /// and counted again they would be two. Nothing is recorded by it.
    ///
    /// # Errors
    /// As [`record_queue_state`](Self::record_queue_state).
    pub fn increment_dead_letter(&self, address: &str) -> Result<(), Refusal> {
        self.statistics(address)?.increment_dead_letter();
        Ok(())
    }

    /// Forgets the figures of `address`, however it is spelled, and returns what they were. The endpoint that they are of counts on
    /// unseen by [`statistics_snapshot`](Self::statistics_snapshot) until it connects the next time; reports and metrics have
    /// all of it.
    pub fn remove_statistics(&self, address: &str) -> Option<EndpointStatisticsSnapshot> {
        Some(self.node.statistics.remove(&canonical(address).ok()?)?.1.snapshot())
    }

    /// Every endpoint, in the order of addresses.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointReport> {
        let mut all: Vec<_> =
            self.node.endpoints_in_place().iter().map(|endpoint| report(endpoint)).collect();
        all.sort_by(|a, b| a.address.cmp(&b.address));
        all
    }

    /// The clients that only dial out and are connected now.
    #[must_use]
    pub fn client_connections(&self) -> Vec<ClientResponseSender> {
        self.node.client_connections.iter().map(|entry| entry.value().clone()).collect()
    }

    /// Sends `message` to the client with that id, ahead of the batches that wait for it.
    ///
    /// # Errors
    /// [`Refusal::Unreachable`] when there is no such client, else as [`ClientResponseSender::send`].
    pub fn send_to_client(&self, system_id: &str, message: &RemoteMessage) -> Result<(), Refusal> {
        let sender = self.node.client_connections.get(system_id).map(|found| found.clone());
        sender.ok_or(Refusal::Unreachable)?.send(message)
    }

    /// Says goodbye to the client with that id; false when there is none.
    pub fn disconnect_client(&self, system_id: &str) -> bool {
        let sender = self.node.client_connections.get(system_id).map(|found| found.clone());
        sender.inspect(ClientResponseSender::disconnect).is_some()
    }

    /// Sends `message` to the actor that `pid` names, on whatever node.
    ///
    /// # Errors
    /// When the pid names no node or the message has no form on this wire; what cannot be queued becomes a dead letter.
    pub fn remote_deliver<M: Message>(&self, pid: &Pid, message: M) -> Result<(), ResolveError> {
        self.resolve::<M>(pid)?.tell(message);
        Ok(())
    }

    /// Watches the actor that `pid` names for `watcher`: the pair to [`remote_unwatch`](Self::remote_unwatch). An actor hears of
    /// an end only if it watches the same reference by `Context::watch`, which does all of this for it.
    ///
    /// # Errors
    /// When the pid names no node.
    pub fn remote_watch(&self, pid: &Pid, watcher: &AnyRef) -> Result<(), ResolveError> {
        let (endpoint, path) = self.route(pid)?;
        endpoint.watch(&path, watcher.clone());
        Ok(())
    }

    /// Ends a watch.
    ///
    /// # Errors
    /// When the pid names no node.
    pub fn remote_unwatch(&self, pid: &Pid, watcher: &AnyRef) -> Result<(), ResolveError> {
        let (endpoint, path) = self.route(pid)?;
        endpoint.unwatch(&path, watcher);
        Ok(())
    }

    /// Asks the node of the actor that `pid` names to stop it; whether it may is for that node to say.
    ///
    /// # Errors
    /// When the pid names no node.
    pub fn remote_stop(&self, pid: &Pid) -> Result<(), ResolveError> {
        let (endpoint, path) = self.route(pid)?;
        endpoint.stop(&path);
        Ok(())
    }

    /// A reference to the actor that `pid` names.
    ///
    /// # Errors
    /// When the pid names no node, or `M` has no form on this wire; when the way there is refused, with [`Refusal::Blocked`]
    /// while this node refuses that one or is refused by it.
    ///
    /// [`Refusal::Blocked`]: nexus_actor_core::Refusal::Blocked
    pub fn resolve<M: Message>(&self, pid: &Pid) -> Result<ActorRef<M>, ResolveError> {
        let path = path_of(pid)?;
        let found = self.node.system.resolve_path(&path)?;
        // A path has one spelling for each address; the node there may know itself by another.
        if let Some(authority) = &path.address().authority
            && let Some(endpoint) = self.find(&authority.to_string())
        {
            endpoint.spell(&pid.address, Spelled::Dialled);
        }
        Ok(found)
    }

    fn route(&self, pid: &Pid) -> Result<(Arc<Endpoint>, ActorPath), ResolveError> {
        let path = path_of(pid)?;
        let authority = path.address().authority.as_ref().ok_or(Refusal::NoSuchActor)?;
        let endpoint = self.node.endpoint(&authority.to_string())?;
        endpoint.spell(&pid.address, Spelled::Dialled);
        Ok((endpoint, path))
    }
}

fn report(endpoint: &Endpoint) -> EndpointReport {
    EndpointReport {
        protocol: PROTOCOL,
        address: endpoint.address().clone(),
        state: endpoint.connection_state().as_str(),
        statistics: endpoint.statistics().snapshot(),
    }
}

impl EndpointSource for EndpointManager {
    /// Those there are, and the sums of those that ended.
    fn endpoints(&self) -> Vec<EndpointReport> {
        // Held while an endpoint leaves as well: it is in one of the two, never in both.
        let ended = self.node.ended.lock();
        let mut all: Vec<_> = ended.reports(PROTOCOL).collect();
        let there = self.node.endpoints_in_place();
        all.extend(there.iter().map(|endpoint| EndpointReport {
            // The rest is among those that ended: it was forgotten and came back.
            statistics: endpoint.unmoved_figures(),
            ..report(endpoint)
        }));
        // First: the last reference to one of them may be here.
        drop(ended);
        all
    }
}

pub(crate) fn path_of(pid: &Pid) -> Result<ActorPath, ResolveError> {
    pid.to_path(ActorPathScheme::Protoactor, "")
        .map_err(|error| ResolveError::InvalidPath { path: pid.to_string(), rule: error.to_string() })
}

fn canonical(address: &str) -> Result<String, Refusal> {
    address
        .parse::<Authority>()
        .map(|authority| authority.to_string())
        .map_err(|error| Refusal::Encode(format!("{address:?} is not `host:port`: {error}")))
}

#[cfg(test)]
mod tests {
    use nexus_actor_core::{ActorSystem, Refusal};

    use crate::config::Limits;
    use crate::{Config, Remote};

    /// Covers: TST-22, ST-05, ST-06, ST-04
    #[tokio::test]
    async fn endpoint_manager_statistics_track_updates() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let manager = remote.manager();
        let address = "127.0.0.1:1";
        assert_eq!(manager.statistics_snapshot(address), None);
        manager.record_queue_state(address, 10, 3).expect("an address");
        manager.increment_dead_letter(address).expect("an address");
        manager.increment_dead_letter(address).expect("an address");
        let now = manager.statistics_snapshot(address).expect("figures");
        assert_eq!((now.queue_capacity, now.queue_size, now.dead_letters), (10, 3, 2));
        manager.record_queue_state(address, 10, 0).expect("an address");
        assert_eq!(manager.statistics_snapshot(address).map(|now| now.queue_size), Some(0));
        assert_eq!(manager.statistics_snapshot("127.0.0.1:2"), None, "others have none of it");
        assert_eq!(manager.remove_statistics(address).map(|last| last.dead_letters), Some(2));
        assert_eq!(manager.statistics_snapshot(address), None);
        assert_eq!(manager.remove_statistics(address), None);
        remote.shutdown(false).await;
    }

    /// Figures are one address's, however it is spelled, and of no more addresses than there may be endpoints.
    #[tokio::test]
    async fn figures_are_kept_by_address_and_of_so_many() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let manager = remote.manager();
        manager.increment_dead_letter("LOCALHOST:1").expect("an address");
        manager.record_queue_state("localhost:1", 10, 3).expect("an address");
        for spelling in ["localhost:1", "LocalHost:1"] {
            let now = remote.get_endpoint_statistics(spelling).expect("figures");
            assert_eq!((now.queue_size, now.dead_letters), (3, 1), "{spelling}");
        }
        assert_eq!(manager.remove_statistics("Localhost:1").map(|last| last.dead_letters), Some(1));
        for nothing in ["", "localhost", "no address:1 at all"] {
            assert!(manager.increment_dead_letter(nothing).is_err(), "{nothing}");
            assert!(manager.record_queue_state(nothing, 1, 1).is_err(), "{nothing}");
            assert_eq!(manager.statistics_snapshot(nothing), None);
            assert_eq!(manager.remove_statistics(nothing), None);
        }
        let address = |number: usize| format!("127.1.{}.{}:1", number / 256, number % 256);
        let max = Limits::new().endpoints;
        for number in 0..max {
            manager.increment_dead_letter(&address(number)).expect("room");
        }
        assert!(matches!(manager.increment_dead_letter(&address(max)), Err(Refusal::Limit(_))));
        manager.increment_dead_letter(&address(0)).expect("those there are count on");
        assert!(manager.ensure_connected("127.0.0.1:1").is_ok(), "an endpoint has its own");
        remote.shutdown(false).await;
    }
}
