//! The entry point: one node on the wire of protoactor-go.

mod provider;
mod spawn_remote;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nexus_actor_core::coordinated_shutdown::ShutdownPhase;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::ActorRefProvider;
use nexus_actor_core::serialization::Message;
use nexus_actor_core::system::ResolveError;
use nexus_actor_core::{Actor, ActorRef, ActorSystem, AnyRef, AskError, Props, Refusal, SpawnError};
use nexus_remote::EndpointStatisticsSnapshot;
use nexus_remote::config_error::ConfigError;
use portable_atomic::Ordering;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::block_list::{BlockList, BlockListChange, BlockListListener};
use crate::config::Config;
use crate::endpoint_manager::EndpointManager;
use crate::endpoint_state::ConnectionState;
use crate::endpoint_supervisor::EndpointSupervisor;
use crate::inbound::call::{End, LINGER};
use crate::inbound::peer_watcher::PeerWatcher;
use crate::kinds::{ACTIVATOR, Activator, Kinds};
use crate::log;
use crate::node::{Node, NodeParts, client_address, new_system_id};
use crate::remote::provider::Provider;
use crate::status::SpawnRemoteError;

/// One node on the wire of protoactor-go, beside whatever else its actor system speaks. A handle: clones are the same node.
///
/// It lives until [`shutdown`](Self::shutdown), which the system's own shutdown calls.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    node: Arc<Node>,
    manager: EndpointManager,
    bound: Option<SocketAddr>,
    provider: Arc<dyn ActorRefProvider>,
    stop: watch::Sender<bool>,
    listener: Lock<Option<BlockListListener>>,
    done: watch::Sender<bool>,
    /// Itself: a node lives until it has ended, whoever has a handle. The system's shutdown does not keep it, or each node
    /// that ended before would stay with the system.
    alive: Lock<Option<Arc<Self>>>,
}

/// Why a node could not be started. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// Settings are wrong; the text lists all of them.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The listener could not be bound.
    #[error("listening on {address}: {error}")]
    Bind {
        /// Where.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// The TLS settings are not usable.
    #[error("TLS: {0}")]
    Tls(String),
    /// An actor of the node could not be started: there is such a node on this system already, or an actor of the
    /// application has the name.
    #[error("{name}: {error}")]
    Spawn {
        /// Which.
        name: &'static str,
        /// Why.
        error: SpawnError,
    },
    /// It was not called inside a tokio runtime.
    #[error("no tokio runtime: call it inside one")]
    NoRuntime,
    /// The operating system gave no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// The system is shutting down.
    #[error("the actor system is shutting down")]
    Shutdown,
}

impl Remote {
    /// Starts a node that listens, on `system`.
    ///
    /// # Errors
    /// [`RemoteError`]; nothing is left running.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no node: none was started, or what was ends by itself.
    pub async fn start(system: &ActorSystem, config: Config) -> Result<Self, RemoteError> {
        config.validate()?;
        let (host, port) = (config.get_host().to_owned(), config.get_port());
        let bind_failed = |error| RemoteError::Bind { address: format!("{host}:{port}"), error };
        let listener = TcpListener::bind((host.as_str(), port)).await.map_err(bind_failed)?;
        let bound = listener.local_addr().map_err(bind_failed)?;
        let remote = Self::assemble(system, config, Some(bound)).await?;
        let supervisor = EndpointSupervisor::new(remote.0.node.clone(), bound, remote.0.stop.subscribe());
        if let Err(error) = EndpointSupervisor::server(&remote.0.node) {
            remote.shutdown(false).await;
            return Err(RemoteError::Tls(error));
        }
        remote.0.node.spawn(supervisor.run(listener));
        Ok(remote)
    }

    /// Starts a node that only dials out: peers of this library reach its actors by the calls that it opens. A Go node
    /// cannot answer it.
    ///
    /// # Errors
    /// [`RemoteError`]; nothing is left running.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no node: none was started, or what was ends by itself.
    pub async fn start_client(system: &ActorSystem, config: Config) -> Result<Self, RemoteError> {
        config.validate()?;
        Self::assemble(system, config, None).await
    }

    async fn assemble(
        system: &ActorSystem,
        config: Config,
        bound: Option<SocketAddr>,
    ) -> Result<Self, RemoteError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| RemoteError::NoRuntime)?;
        if system.is_shutting_down() {
            return Err(RemoteError::Shutdown);
        }
        if let Some(tls) = config.get_mutual_tls() {
            tls.acceptor().map_err(RemoteError::Tls)?;
        }
        for warning in config.warnings() {
            log::start_warning(&warning);
        }
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(RemoteError::Random)?;
        let mut random = fastrand::Rng::with_seed(u64::from_le_bytes(seed));
        let system_id = new_system_id(&mut random);
        let address = match bound {
            Some(bound) => config.advertised_address(bound),
            None => client_address(&system_id),
        };
        let authority = address.parse::<Authority>().map_err(|error| RemoteError::Bind {
            address: address.clone(),
            error: std::io::Error::new(std::io::ErrorKind::InvalidInput, error.to_string()),
        })?;
        let block_list = BlockList::new(config.get_blocked_systems(), config.get_allowed_systems());
        let kinds: Arc<Kinds> = Arc::default();
        let node = Node::new(NodeParts {
            system: system.clone(),
            config,
            address: Arc::from(address),
            authority,
            system_id,
            is_client: bound.is_none(),
            block_list: block_list.clone(),
            kinds: kinds.clone(),
            seed: random.u64(..),
            runtime,
        });
        let spawned = |name| move |error| RemoteError::Spawn { name, error };
        let batch_size = node.config.get_endpoint_manager_batch_size();
        let watcher = system
            .spawn_system(
                "protoactor_watcher",
                PeerWatcher::props(node.config.get_limits(), batch_size, node.peer_watches.clone()),
            )
            .map_err(spawned("protoactor_watcher"))?;
        let activator =
            system.spawn(ACTIVATOR, Activator::props(&kinds, node.config.get_limits(), batch_size));
        let activator = match activator {
            Ok(activator) => activator,
            Err(error) => {
                watcher.stop();
                let deadline = tokio::time::Instant::now() + node.config.get_shutdown_timeout();
                let _ = tokio::time::timeout_at(deadline, watcher.stopped()).await;
                return Err(RemoteError::Spawn { name: ACTIVATOR, error });
            }
        };
        // Set once, here.
        let _ = (node.peer_watcher.set(watcher), node.activator.set(activator));
        let provider = Provider::of(&node);
        system.add_actor_ref_provider(provider.clone());
        let blocking = Arc::downgrade(&node);
        let listener = block_list.on_change(move |change| {
            if let Some(node) = blocking.upgrade() {
                block_list_changed(&node, change);
            }
        });
        let remote = Self(Arc::new(Inner {
            manager: EndpointManager::new(node.clone()),
            node,
            bound,
            provider,
            stop: watch::Sender::new(false),
            listener: Lock::new(Some(listener)),
            done: watch::Sender::new(false),
            alive: Lock::default(),
        }));
        *remote.0.alive.lock() = Some(remote.0.clone());
        let ending = Arc::downgrade(&remote.0);
        system.coordinated_shutdown().add_task(
            ShutdownPhase::AfterActors,
            "protoactor remoting",
            move || async move {
                if let Some(inner) = ending.upgrade() {
                    Self(inner).shutdown(true).await;
                }
            },
        );
        // Begun meanwhile, the end of the system may be past the point at which that would have run.
        if system.is_shutting_down() {
            remote.shutdown(false).await;
            return Err(RemoteError::Shutdown);
        }
        Ok(remote)
    }

    /// The address of this node in its pids, `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.node.address
    }

    /// Where it listens; `None` for a node that only dials out.
    #[must_use]
    pub fn bound_address(&self) -> Option<SocketAddr> {
        self.0.bound
    }

    /// The id of this start of the node, as peers are told and block lists take it.
    #[must_use]
    pub fn system_id(&self) -> &str {
        &self.0.node.system_id
    }

    /// The system whose actors it connects.
    #[must_use]
    pub fn system(&self) -> &ActorSystem {
        &self.0.node.system
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.node.config
    }

    /// Its endpoints.
    #[must_use]
    pub fn manager(&self) -> &EndpointManager {
        &self.0.manager
    }

    /// A reference to the actor that `pid` names, here or elsewhere.
    ///
    /// # Errors
    /// When the pid names no node, or `M` has no form on this wire; when the way there is refused, with [`Refusal::Blocked`]
    /// while this node refuses that one or is refused by it.
    ///
    /// [`Refusal::Blocked`]: nexus_actor_core::Refusal::Blocked
    pub fn resolve<M: Message>(&self, pid: &Pid) -> Result<ActorRef<M>, ResolveError> {
        self.0.manager.resolve(pid)
    }

    /// The pid under which peers know an actor of this system.
    #[must_use]
    pub fn pid_of(&self, actor: &AnyRef) -> Pid {
        self.0.node.pid_of(actor)
    }

    /// Lets every peer spawn actors of this kind here, but for [those that are denied it](Config::get_spawn_denied). False when
    /// there is one of that name already, which stays.
    pub fn register<A: Actor>(&self, kind: &str, props: Props<A>) -> bool {
        self.0.node.kinds.register(kind, props)
    }

    /// The kinds that may be spawned here.
    #[must_use]
    pub fn kinds(&self) -> Vec<Arc<str>> {
        self.0.node.kinds.names()
    }

    /// Starts an actor of `kind` on the node at `address`, which makes its name up.
    ///
    /// Waits for the answer as long as [`Config::get_call_timeout`] says. What the actor takes must be registered there too
    /// (`system.register::<M>()`), or it is there and no message reaches it.
    ///
    /// # Errors
    /// [`SpawnRemoteError`].
    ///
    /// # Cancel safety
    /// Dropping the future does not take the request back.
    pub async fn spawn_remote(&self, address: &str, kind: &str) -> Result<Pid, SpawnRemoteError> {
        spawn_remote::spawn(&self.0.node, address, "", kind).await
    }

    /// The same with a name, and for the same time. The pid that comes back is not made of the name alone: use it as it is.
    ///
    /// # Errors
    /// [`SpawnRemoteError`]; a name that is taken gives the pid of the actor that has it.
    ///
    /// # Cancel safety
    /// As [`spawn_remote`](Self::spawn_remote).
    pub async fn spawn_remote_named(
        &self,
        address: &str,
        name: &str,
        kind: &str,
    ) -> Result<Pid, SpawnRemoteError> {
        if name.is_empty() {
            return Err(SpawnRemoteError::Invalid {
                value: String::new(),
                rule: "a name is not empty".to_owned(),
            });
        }
        spawn_remote::spawn(&self.0.node, address, name, kind).await
    }

    /// Refuses a system, by its id or its address, from now on: what is connected is cut, and its queue becomes dead
    /// letters. False when it was blocked already.
    ///
    /// # Cancel safety
    /// It does not wait: polled once, it is done.
    pub async fn block_system(&self, system: &str) -> bool {
        self.0.node.block_list.block(system)
    }

    /// Lets a system in again; false when it was not blocked.
    ///
    /// # Cancel safety
    /// It does not wait: polled once, it is done.
    pub async fn unblock_system(&self, system: &str) -> bool {
        self.0.node.block_list.unblock(system)
    }

    /// The systems that are refused, in order.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn list_blocked_systems(&self) -> Vec<String> {
        self.0.node.block_list.list()
    }

    /// Who is refused, and who alone is let in.
    #[must_use]
    pub fn block_list(&self) -> &BlockList {
        &self.0.node.block_list
    }

    /// The figures of the endpoint of `address` now; `None` where there is none, or not any more.
    #[must_use]
    pub fn get_endpoint_statistics(&self, address: &str) -> Option<EndpointStatisticsSnapshot> {
        self.0.manager.statistics_snapshot(address)
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
        self.0.manager.await_reconnect(address).await
    }

    /// Stops all traffic: what arrives is recorded, what is sent waits within the bounds of the queues, also what is sent to a
    /// client by hand. What the runtimes say of watches and of who lives is taken all the same, so that the books are right when
    /// it goes on; answers wait.
    ///
    /// Connections stay, and peers may open others: handshakes, goodbyes and the counts of what was taken are no traffic. What
    /// a connection had taken before is on its way.
    pub fn suspend(&self) {
        if !self.0.node.suspended.swap(true, Ordering::AcqRel) {
            self.follow_suspension();
        }
    }

    /// Lets traffic go on.
    pub fn resume(&self) {
        if self.0.node.suspended.swap(false, Ordering::AcqRel) {
            self.follow_suspension();
        }
    }

    fn follow_suspension(&self) {
        for endpoint in self.0.node.all_endpoints() {
            self.0.node.follow_suspension(&endpoint);
        }
    }

    /// Whether all traffic is stopped.
    #[must_use]
    pub fn get_suspend(&self) -> bool {
        self.0.node.is_suspended()
    }

    #[cfg(test)]
    pub(crate) fn node_for_tests(&self) -> &Arc<Node> {
        &self.0.node
    }

    /// Questions of this node that wait for an answer from elsewhere.
    #[must_use]
    pub fn pending_asks(&self) -> usize {
        self.0.node.asks.len()
    }

    /// Watches of peers on actors of this node.
    #[must_use]
    pub fn peer_watches(&self) -> u64 {
        self.0.node.peer_watches.load(Ordering::Acquire)
    }

    /// Tasks of this node under way: none once it has shut down.
    #[must_use]
    pub fn tasks(&self) -> u64 {
        self.0.node.tasks.count()
    }

    /// Ends the node; final. With `graceful` what waits is sent first, for as long as the configuration says, and peers are
    /// told goodbye in the way that each generation of Go nodes understands. Whatever peers do, it is over within
    /// [`Config::get_shutdown_timeout`], and in the shutdown of its system within seven eighths of what is left of that one's time
    /// ([`ActorSystem::shutdown_deadline`]), if that is less; of either up to 1.5 s are not for what waits. Actors that peers have spawned here stop too. A
    /// second call waits for the first. Afterwards another node can be started on the system, unless such an actor is still
    /// busy when `shutdown_timeout` is over.
    ///
    /// # Cancel safety
    /// The end goes on without the future.
    pub async fn shutdown(&self, graceful: bool) {
        if self.0.node.begin_closing() {
            let inner = self.0.clone();
            self.0.node.spawn_last(async move { inner.end(graceful).await });
        }
        let mut done = self.0.done.subscribe();
        // The sender lives in `self`.
        let _ = done.wait_for(|done| *done).await;
    }
}

impl Inner {
    async fn end(&self, graceful: bool) {
        let node = &self.node;
        let config = &node.config;
        let time = EndTime::of(node);
        if graceful {
            let until = time.flush.min(tokio::time::Instant::now() + config.get_shutdown_flush());
            let _ = tokio::time::timeout_at(until, self.flushed()).await;
        }
        // A client heeds nothing behind the goodbye: what waits for it is recorded instead.
        for endpoint in node.all_endpoints() {
            if let Some(call) = endpoint.client_calls.serving() {
                call.end_with(End::Goodbye);
            }
        }
        let calls: Vec<_> = node.calls.lock().values().cloned().collect();
        for call in calls {
            call.end(End::Goodbye);
        }
        let endpoints = node.all_endpoints();
        for endpoint in &endpoints {
            endpoint.apply(|state, _| state.close());
            endpoint.mailbox.close(Refusal::Shutdown);
        }
        // The server lets go of a connection when its calls have ended, or is dropped with its task.
        self.stop.send_replace(true);
        let lingered = tokio::time::Instant::now() + LINGER + GRACE;
        let _ = tokio::time::timeout_at(time.cut.min(lingered), node.tasks.all_done()).await;
        node.cut(tokio::time::Instant::now() + time.step / 2);
        let _ = tokio::time::timeout_at(time.tasks, node.tasks.all_done()).await;
        node.asks.fail_everything(&AskError::Shutdown);
        drop(self.listener.lock().take());
        node.system.remove_actor_ref_provider(&self.provider);
        let watcher = node.peer_watcher.get().map(ActorRef::to_any);
        let activator = node.activator.get().map(ActorRef::to_any);
        for actor in [&watcher, &activator].into_iter().flatten() {
            actor.stop();
        }
        // The next node of this system takes their names.
        for actor in [&watcher, &activator].into_iter().flatten() {
            let _ = tokio::time::timeout_at(time.actors, actor.stopped()).await;
        }
        node.forget_all();
        node.statistics.clear();
        node.client_connections.clear();
        // The caller has it.
        drop(self.alive.lock().take());
        self.done.send_replace(true);
    }

    /// Waits until what can be sent is sent.
    async fn flushed(&self) {
        loop {
            let waits = self.node.endpoints.iter().find_map(|entry| {
                let endpoint = entry.value();
                endpoint.has_to_flush().then(|| endpoint.clone())
            });
            match waits {
                Some(endpoint) => endpoint.flushed().await,
                None => return,
            }
        }
    }
}

impl nexus_remote::EndpointSource for Remote {
    fn endpoints(&self) -> Vec<nexus_remote::EndpointReport> {
        nexus_remote::EndpointSource::endpoints(&self.0.manager)
    }
}

/// What the end of a connection may take after all has been said.
const GRACE: Duration = Duration::from_millis(500);

/// By when each step of the end of a node is over, whatever peers do.
struct EndTime {
    /// What is kept for each step behind the first.
    step: Duration,
    /// What waits is sent.
    flush: tokio::time::Instant,
    /// Peers have ended their calls; those that have not are cut.
    cut: tokio::time::Instant,
    tasks: tokio::time::Instant,
    actors: tokio::time::Instant,
}

impl EndTime {
    fn of(node: &Node) -> Self {
        let mut time = node.config.get_shutdown_timeout();
        if let Some(deadline) = node.system.shutdown_deadline() {
            // An eighth is for what its shutdown has yet to do behind this node.
            time = time.min((deadline - node.system.now()) / 8 * 7);
        }
        let step = GRACE.min(time / 8);
        let actors = tokio::time::Instant::now() + time;
        Self { step, flush: actors - 3 * step, cut: actors - 2 * step, tasks: actors - step, actors }
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("node", &self.0.node).finish_non_exhaustive()
    }
}

/// Cuts who is refused now, and lifts the refusal of who is not.
fn block_list_changed(node: &Arc<Node>, _: &BlockListChange) {
    let calls: Vec<_> = node.calls.lock().values().cloned().collect();
    for call in calls {
        if let Some((system_id, address)) = call.peer()
            && !node.block_list.permits(&system_id, Some(&address))
        {
            call.end(End::Blocked);
        }
    }
    for endpoint in node.all_endpoints() {
        node.follow_block_list(&endpoint);
    }
}

#[cfg(test)]
pub(crate) mod tests;
