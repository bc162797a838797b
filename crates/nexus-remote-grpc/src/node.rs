//! What the roles of one node share.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorPathScheme, ActorUid, Address, Authority};
use nexus_actor_core::pid::{LOCAL_ADDRESS, Pid};
use nexus_actor_core::remote::{Encode, Route};
use nexus_actor_core::serialization::protobuf::{Named, TypeName};
use nexus_actor_core::serialization::scope::DecodeScope;
use nexus_actor_core::serialization::{Encoder, SerializerId};
use nexus_actor_core::{ActorSystem, AnyRef, Headers, Refusal};
use nexus_remote::endpoint_statistics::EndedEndpoints;
use nexus_remote::{EndpointStatistics, EndpointStatisticsSnapshot};
use portable_atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::block_list::BlockList;
use crate::client_connection::ClientResponseSender;
use crate::config::Config;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint::{Endpoint, EndpointKind, NamedByPeer};
use crate::endpoint_writer::dials::Dials;
use crate::endpoint_writer_mailbox::queue_budget::QueueBudget;
use crate::inbound::call::CallControl;
use crate::inbound::listener::Connections;
use crate::inbound::peer_watcher::{PeerWatch, PeerWatcherRef};
use crate::kinds::{ActivatorRef, Kinds};
use crate::pending_asks::{self, PendingAsks};
use crate::wire::batch::BatchLimits;

/// Of the endpoints that may exist whatever peers do, one in so many is kept for peers that have called; and as many more may exist
/// for those that are reached for here.
const ENDPOINTS_KEPT: usize = 10;
/// Bytes of an envelope beside its payload and headers: indices, ids, lengths.
const ENVELOPE_SLACK: usize = 4 * 1024;

pub(crate) struct Node {
    pub(crate) system: ActorSystem,
    pub(crate) config: Config,
    pub(crate) limits: BatchLimits,
    /// As it stands in our pids.
    pub(crate) address: Arc<str>,
    pub(crate) authority: Authority,
    pub(crate) system_id: Arc<str>,
    /// It only dials out.
    pub(crate) is_client: bool,
    pub(crate) watcher_pid: Arc<PidEntry>,
    pub(crate) asks: PendingAsks,
    pub(crate) endpoints: DashMap<Arc<str>, Arc<Endpoint>>,
    /// Those that are driven while another one, or none, has their place; an endpoint once for each driver.
    strays: Lock<Vec<Arc<Endpoint>>>,
    pub(crate) statistics: DashMap<String, Arc<EndpointStatistics>>,
    /// What those counted that are no more.
    pub(crate) ended: Lock<EndedEndpoints>,
    pub(crate) client_connections: DashMap<Arc<str>, ClientResponseSender>,
    pub(crate) block_list: BlockList,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) peer_watcher: OnceLock<PeerWatcherRef>,
    pub(crate) activator: OnceLock<ActivatorRef>,
    /// Watches of peers on actors here.
    pub(crate) peer_watches: Arc<AtomicU64>,
    /// Nothing is accepted and nothing sent.
    pub(crate) suspended: Arc<AtomicBool>,
    pub(crate) calls: Lock<HashMap<u64, Arc<CallControl>>>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) dials: Arc<Dials>,
    pub(crate) queue_budget: Arc<QueueBudget>,
    /// Peers that have a call open to this node.
    pub(crate) inbound_peers: AtomicU64,
    next_call: AtomicU64,
    closing: AtomicBool,
    /// At the end of the node, when peers have had their time: by when all that is left is to be told.
    cut: watch::Sender<Option<tokio::time::Instant>>,
    runtime: Handle,
    random: Lock<fastrand::Rng>,
    /// Tasks under way, for the end of the node.
    pub(crate) tasks: Arc<Tasks>,
    /// Where connections come from instead of the network.
    #[cfg(test)]
    pub(crate) connector: OnceLock<crate::endpoint_writer::tests::Connector>,
}

/// What the table of endpoints has for an address.
enum Place {
    Taken(Arc<Endpoint>),
    /// Nothing; the address in its canonical form.
    Free(Arc<str>),
}

/// An endpoint is driven that does not have its place: until this is dropped it is found all the same.
pub(crate) struct Stray(Arc<Endpoint>);

impl Drop for Stray {
    fn drop(&mut self) {
        let mut strays = self.0.node().strays.lock();
        let at = strays.iter().position(|stray| Arc::ptr_eq(stray, &self.0));
        let struck = at.map(|at| strays.swap_remove(at));
        drop(strays);
        drop(struck);
        self.0.node().move_figures(&self.0);
    }
}

/// Counts tasks, and says when there is none.
#[derive(Default)]
pub(crate) struct Tasks {
    count: AtomicU64,
    none: tokio::sync::Notify,
}

struct TaskGuard(Arc<Tasks>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

impl Tasks {
    fn enter(self: &Arc<Self>) -> TaskGuard {
        self.count.fetch_add(1, Ordering::AcqRel);
        TaskGuard(self.clone())
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) async fn all_done(&self) {
        loop {
            let none = self.none.notified();
            tokio::pin!(none);
            none.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }
}

pub(crate) struct NodeParts {
    pub(crate) system: ActorSystem,
    pub(crate) config: Config,
    pub(crate) address: Arc<str>,
    pub(crate) authority: Authority,
    pub(crate) system_id: Arc<str>,
    pub(crate) is_client: bool,
    pub(crate) block_list: BlockList,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) seed: u64,
    pub(crate) runtime: Handle,
}

impl Node {
    pub(crate) fn new(parts: NodeParts) -> Arc<Self> {
        let NodeParts {
            system,
            config,
            address,
            authority,
            system_id,
            is_client,
            block_list,
            kinds,
            seed,
            runtime,
        } = parts;
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = config.get_batch_limits();
        Arc::new(Self {
            system,
            limits,
            watcher_pid: Arc::new(PidEntry::new(address.clone(), "$system/protoactor_watcher")),
            address,
            authority,
            system_id,
            is_client,
            asks: PendingAsks::new(random.u64(..), config.get_limits().pending_asks),
            endpoints: DashMap::new(),
            strays: Lock::default(),
            statistics: DashMap::new(),
            ended: Lock::default(),
            client_connections: DashMap::new(),
            block_list,
            kinds,
            peer_watcher: OnceLock::new(),
            activator: OnceLock::new(),
            peer_watches: Arc::default(),
            suspended: Arc::new(AtomicBool::new(false)),
            calls: Lock::default(),
            connections: Arc::default(),
            dials: Dials::new(config.get_limits().dials),
            queue_budget: QueueBudget::new(config.get_limits().queue_bytes),
            inbound_peers: AtomicU64::new(0),
            next_call: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            cut: watch::Sender::new(None),
            runtime,
            random: Lock::new(random),
            tasks: Arc::default(),
            #[cfg(test)]
            connector: OnceLock::new(),
            config,
        })
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.lock().u64(..)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let guard = self.tasks.enter();
        self.runtime.spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    /// A task that the end of the node does not wait for: the end itself.
    pub(crate) fn spawn_last(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// True the first time.
    pub(crate) fn begin_closing(&self) -> bool {
        !self.closing.swap(true, Ordering::AcqRel)
    }

    /// Peers have had their time: whatever waits for one of them ends, and all that is left is told by then.
    pub(crate) fn cut(&self, told_by: tokio::time::Instant) {
        self.cut.send_replace(Some(told_by));
        // A peer that hangs does not take part in the orderly end of its connection.
        self.connections.cut();
    }

    /// Waits until that has been said.
    pub(crate) async fn was_cut(&self) -> tokio::time::Instant {
        let mut cut = self.cut.subscribe();
        // The sender lives in `self`.
        match cut.wait_for(Option::is_some).await.map(|told_by| *told_by) {
            Ok(Some(told_by)) => told_by,
            _ => std::future::pending().await,
        }
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    /// This node's address on this wire.
    pub(crate) fn path_address(&self) -> Address {
        Address {
            scheme: ActorPathScheme::Protoactor,
            system: Arc::from(""),
            authority: Some(self.authority.clone()),
        }
    }

    /// Whether `address` is this node's, however it is spelled.
    pub(crate) fn is_own(&self, address: &str) -> bool {
        *address == *self.address || spells(address, &self.authority)
    }

    /// The endpoint of `address`, for somebody here; made if there is none.
    pub(crate) fn endpoint(self: &Arc<Self>, address: &str) -> Result<Arc<Endpoint>, Refusal> {
        let max = self.config.get_limits().endpoints;
        let most = max + max / ENDPOINTS_KEPT;
        let endpoint = self.endpoint_within(address, EndpointKind::Dialled, most)?;
        endpoint.claim();
        endpoint.claim_here();
        Ok(endpoint)
    }

    /// The same for whoever calls from there. However many call, they leave places for those who are reached for here.
    pub(crate) fn endpoint_of(
        self: &Arc<Self>,
        address: &str,
        kind: EndpointKind,
    ) -> Result<Arc<Endpoint>, Refusal> {
        self.endpoint_within(address, kind, self.config.get_limits().endpoints)
    }

    fn endpoint_within(
        self: &Arc<Self>,
        address: &str,
        kind: EndpointKind,
        most: usize,
    ) -> Result<Arc<Endpoint>, Refusal> {
        match self.place_of(address)? {
            Place::Taken(found) => Ok(found),
            Place::Free(_) if self.endpoints.len() >= most => Err(Refusal::Limit("endpoints of this node")),
            Place::Free(address) => self.make_endpoint(&address, kind, None),
        }
    }

    /// The endpoint of an `address` that the peer of `by` named. A peer may name any number of them: it has only so many
    /// made, and no peer the last ones.
    pub(crate) fn endpoint_named(
        self: &Arc<Self>,
        address: &str,
        by: &Endpoint,
    ) -> Result<Arc<Endpoint>, Refusal> {
        let address = match self.place_of(address)? {
            Place::Taken(found) => return Ok(found),
            Place::Free(address) => address,
        };
        let limits = self.config.get_limits();
        if self.endpoints.len() >= limits.endpoints - limits.endpoints / ENDPOINTS_KEPT {
            return Err(Refusal::Limit("endpoints of addresses that peers named"));
        }
        let named = by
            .name_another(limits.named_peers)
            .ok_or(Refusal::Limit("endpoints of addresses that one peer named"))?;
        let endpoint = self.make_endpoint(&address, EndpointKind::Dialled, Some(named))?;
        endpoint.set_source(by.source());
        Ok(endpoint)
    }

    fn place_of(&self, address: &str) -> Result<Place, Refusal> {
        if let Some(found) = self.endpoints.get(address) {
            return Ok(Place::Taken(found.clone()));
        }
        if self.is_closing() {
            return Err(Refusal::Shutdown);
        }
        // One spelling for one address, in this table as in the block list; what is none is not dialled.
        let authority =
            address.parse::<Authority>().map_err(|_| Refusal::NoRoute("it is not `host:port`"))?;
        if authority == self.authority {
            // What is here is reached here; nothing leaves the process for it.
            return Err(Refusal::NoRoute("the address is this node's own"));
        }
        let address: Arc<str> = Arc::from(authority.to_string());
        Ok(match self.endpoints.get(&address) {
            Some(found) => Place::Taken(found.clone()),
            None => Place::Free(address),
        })
    }

    fn make_endpoint(
        self: &Arc<Self>,
        address: &Arc<str>,
        kind: EndpointKind,
        named: Option<NamedByPeer>,
    ) -> Result<Arc<Endpoint>, Refusal> {
        let kind = if is_client_address(address) { EndpointKind::Client } else { kind };
        let mut is_new = false;
        let make = || {
            is_new = true;
            let endpoint = Endpoint::new(self, address, kind);
            endpoint.set_named(named);
            endpoint
        };
        let endpoint = self.endpoints.entry(address.clone()).or_insert_with(make).clone();
        if is_new && self.close_if_late(&endpoint) {
            return Err(Refusal::Shutdown);
        }
        self.catch_up(&endpoint);
        Ok(endpoint)
    }

    /// Tells an endpoint that was not found for a while, or not there, how the node stands.
    fn catch_up(&self, endpoint: &Endpoint) {
        if endpoint.kind() == EndpointKind::Dialled && !self.block_list.permits_dial(endpoint.address()) {
            self.follow_block_list(endpoint);
        }
        if self.is_suspended() != endpoint.is_suspended() {
            self.follow_suspension(endpoint);
        }
    }

    /// Suspends `endpoint` or ends that, as this node stands by then: it is asked under the lock of the state, or a change
    /// could be undone by an earlier one that comes late.
    pub(crate) fn follow_suspension(&self, endpoint: &Endpoint) {
        endpoint.apply(|state, now| if self.is_suspended() { state.suspend() } else { state.resume(now) });
    }

    /// Blocks `endpoint` or ends that, as the list says by then; as with a suspension.
    pub(crate) fn follow_block_list(&self, endpoint: &Endpoint) {
        let permitted = endpoint.apply(|state, now| {
            let permitted = match state.system_id() {
                Some(system_id) => self.block_list.permits(system_id, Some(endpoint.address())),
                None => self.block_list.permits_dial(endpoint.address()),
            };
            if !permitted {
                state.handle_blocked(now);
            } else if state.is_blocked() {
                state.handle_unblocked();
            }
            permitted
        });
        if permitted {
            endpoint.want_if_waiting();
        }
    }

    /// Closes an endpoint that was put into the table when the end of the node may have closed all that were in it.
    fn close_if_late(&self, endpoint: &Endpoint) -> bool {
        let is_late = self.is_closing();
        if is_late {
            endpoint.apply(|state, _| state.close());
            endpoint.mailbox.close(Refusal::Shutdown);
        }
        is_late
    }

    /// The endpoint that has the place of `endpoint` now: it itself, or the one that came when it had been forgotten. Where
    /// nobody has it, it is for `endpoint` to take, unless the node ends: it would not be found.
    pub(crate) fn in_place_of(&self, endpoint: &Arc<Endpoint>) -> Result<Arc<Endpoint>, Refusal> {
        match self.endpoints.get(endpoint.address()) {
            Some(found) => Ok(found.clone()),
            None if self.is_closing() => Err(Refusal::Shutdown),
            None => Ok(endpoint.clone()),
        }
    }

    fn has_place(&self, endpoint: &Endpoint) -> bool {
        self.endpoints
            .get(endpoint.address())
            .is_some_and(|found| std::ptr::eq(Arc::as_ptr(&found), endpoint))
    }

    /// Whether another endpoint has taken the place of this one, which was forgotten before its last work was done.
    pub(crate) fn has_another(&self, endpoint: &Endpoint) -> bool {
        self.endpoints
            .get(endpoint.address())
            .is_some_and(|found| !std::ptr::eq(Arc::as_ptr(&found), endpoint))
    }

    /// Counts one more call of the peer of `endpoint`, and returns how many there are now. Forgotten meanwhile, it has its
    /// place back, or another one has it and gets the call.
    pub(crate) fn enter_call(&self, mut endpoint: Arc<Endpoint>) -> (Arc<Endpoint>, u64) {
        loop {
            // Counted first: from here on the one in the table stays.
            let calls = endpoint.inbound.fetch_add(1, Ordering::AcqRel) + 1;
            let mut is_back = false;
            let put_back = || {
                is_back = true;
                endpoint.clone()
            };
            let found = self.endpoints.entry(endpoint.address().clone()).or_insert_with(put_back).clone();
            if is_back {
                self.close_if_late(&endpoint);
            }
            if Arc::ptr_eq(&found, &endpoint) {
                endpoint.claim();
                endpoint.stay_call();
                return (endpoint, calls);
            }
            // Another call may have put it back meanwhile and be gone by now: then this was the last one there.
            if let Some(before) = endpoint.leave_call() {
                self.tell_watcher(PeerWatch::Gone { address: endpoint.address().clone(), before });
                self.forget_if_idle(&endpoint);
            }
            endpoint = found;
        }
    }

    /// Puts an endpoint that somebody still has a use for back in its place.
    pub(crate) fn keep(&self, endpoint: &Endpoint) {
        if !self.is_closing()
            && !self.endpoints.contains_key(endpoint.address())
            && let Some(endpoint) = endpoint.arc()
        {
            let address = endpoint.address().clone();
            self.endpoints.entry(address).or_insert_with(|| endpoint.clone());
            if !self.close_if_late(&endpoint) {
                self.catch_up(&endpoint);
            }
        }
    }

    /// The same for one that begins to be driven. If it cannot have its place it is found as long as it is driven: what
    /// ends all connections, or some, must not miss it.
    pub(crate) fn keep_driven(&self, endpoint: &Arc<Endpoint>) -> Option<Stray> {
        self.keep(endpoint);
        if self.has_place(endpoint) {
            return None;
        }
        self.strays.lock().push(endpoint.clone());
        let stray = Stray(endpoint.clone());
        if !self.close_if_late(endpoint) {
            self.catch_up(endpoint);
        }
        Some(stray)
    }

    /// Those that have their place.
    pub(crate) fn endpoints_in_place(&self) -> Vec<Arc<Endpoint>> {
        self.endpoints.iter().map(|entry| entry.value().clone()).collect()
    }

    /// All that may have a connection.
    pub(crate) fn all_endpoints(&self) -> Vec<Arc<Endpoint>> {
        let mut all = self.endpoints_in_place();
        all.extend(self.strays.lock().iter().cloned());
        all
    }

    /// Removes an endpoint of which nobody has any use.
    pub(crate) fn forget_if_idle(&self, endpoint: &Endpoint) {
        self.forget_if(endpoint, Endpoint::is_idle);
    }

    /// Removes all, with the node.
    pub(crate) fn forget_all(&self) {
        loop {
            let all = self.endpoints_in_place();
            if all.is_empty() {
                return;
            }
            for endpoint in all {
                self.forget_if(&endpoint, |_| true);
            }
        }
    }

    fn forget_if(&self, endpoint: &Endpoint, is_done: impl FnOnce(&Endpoint) -> bool) {
        let mut ended = self.ended.lock();
        let removed = self.endpoints.remove_if(endpoint.address(), |address, found| {
            let is_forgotten = std::ptr::eq(Arc::as_ptr(found), endpoint) && is_done(found);
            if is_forgotten {
                ended.add(address, found.move_figures());
                // As long as nobody can come in its place, who would go on with them.
                found.hide_statistics();
            }
            is_forgotten
        });
        drop(ended);
        drop(removed);
    }

    /// Adds what an endpoint has counted that does not have its place any more, and nowhere else stands, to the figures of those
    /// that have ended.
    pub(crate) fn move_figures(&self, endpoint: &Endpoint) {
        let mut ended = self.ended.lock();
        if self.has_place(endpoint) {
            return;
        }
        let figures = endpoint.move_figures().totals();
        if figures != EndpointStatisticsSnapshot::default() {
            ended.add(endpoint.address(), figures);
        }
    }

    /// Counts as unknown what the last connection of `endpoint` had taken, which may come to light when the endpoint is
    /// forgotten.
    pub(crate) fn add_late_unknown(&self, endpoint: &Endpoint, count: u64) {
        if count > 0 {
            endpoint.statistics().add_unknown(count);
            self.move_figures(endpoint);
        }
    }

    /// The figures of `address`, begun if there are none.
    pub(crate) fn statistics_of(&self, address: &str) -> Arc<EndpointStatistics> {
        self.statistics
            .entry(address.to_owned())
            .or_insert_with(|| {
                Arc::new(EndpointStatistics::new(self.config.mailbox_bounds().messages_max as u64))
            })
            .clone()
    }

    /// The same for who has no endpoint, while there are of so few addresses.
    pub(crate) fn known_statistics_of(&self, address: &str) -> Result<Arc<EndpointStatistics>, Refusal> {
        if let Some(found) = self.statistics.get(address) {
            return Ok(found.clone());
        }
        if self.statistics.len() >= self.config.get_limits().endpoints {
            return Err(Refusal::Limit("addresses with statistics"));
        }
        Ok(self.statistics_of(address))
    }

    /// The most bytes that a payload may have.
    pub(crate) fn payload_max(&self) -> usize {
        self.limits.message_bytes.saturating_sub(ENVELOPE_SLACK)
    }

    pub(crate) fn check_headers(&self, headers: &Headers) -> Result<(), Refusal> {
        let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if headers.len() > self.limits.header_entries {
            return Err(Refusal::Limit("headers of a message"));
        }
        if bytes > self.limits.header_bytes {
            return Err(Refusal::TooLarge { size: bytes, limit: self.limits.header_bytes });
        }
        Ok(())
    }

    /// Whether the program at `address` knows a type, where the configuration says what it knows: a Go node of one
    /// generation ends over a name that it does not know.
    pub(crate) fn check_type(&self, address: &str, type_name: TypeName) -> Result<(), Refusal> {
        if !self.config.restricts_type_names()
            || is_of_protocol(type_name)
            || self.config.knows_type_name(address, &type_name.to_string())
        {
            return Ok(());
        }
        Err(Refusal::Encode(format!(
            "{type_name} is not among the types known to {address}; say so with `ConfigOption::with_known_type_names`"
        )))
    }

    pub(crate) fn check_target(&self, id: &str) -> Result<(), Refusal> {
        if id.len() > self.limits.id_bytes {
            return Err(Refusal::Limit("bytes of an id"));
        }
        if id.starts_with(['\n', '\u{12}']) {
            return Err(Refusal::Limit(
                "ids that begin like a PID, which one form of the wire could not tell from one",
            ));
        }
        Ok(())
    }

    /// The actor here that other nodes call `id`, if they may reach it: only what is below `/user` can be reached.
    pub(crate) fn find(&self, id: &str) -> Option<AnyRef> {
        self.find_any(id).filter(|found| found.path().elements().starts_with("/user/"))
    }

    /// The same wherever it lives.
    pub(crate) fn find_any(&self, id: &str) -> Option<AnyRef> {
        let path = Pid::new(LOCAL_ADDRESS, id).to_path(ActorPathScheme::Protoactor, "").ok()?;
        self.system.find_incarnation(path.elements(), path.uid())
    }

    /// The pid of an actor here, without its incarnation.
    pub(crate) fn pid_of(&self, actor: &AnyRef) -> Pid {
        let path = actor.path().with_uid(ActorUid::ANY);
        Pid::new(self.address.clone(), Pid::from_path(&path).id)
    }

    /// Answers a question of this node that came back to it, for the asker with the id `id`.
    pub(crate) fn answer_here(&self, id: &str, encode: Encode<'_>) -> Result<(), Refusal> {
        let mut payload = Vec::new();
        let mut encoder = Encoder::new(&mut payload, self.payload_max());
        encode(&mut encoder).map_err(|error| Refusal::Encode(error.to_string()))?;
        let Some(type_name) = encoder.type_name() else {
            return Err(Refusal::Encode(String::from("the answer has no protobuf type")));
        };
        let ask = pending_asks::key_of(id).and_then(|key| self.asks.take(key)).ok_or(Refusal::NoSuchActor)?;
        let _scope = DecodeScope::enter(&self.system, None);
        let type_name = type_name.to_string();
        let named = Named {
            type_name: &type_name,
            serializer: SerializerId::PROTOBUF,
            payload: &payload,
            has_sender: false,
        };
        // What is wrong with it the asker is told.
        let _ = ask.complete_named(&named);
        Ok(())
    }

    pub(crate) fn next_call(&self) -> u64 {
        self.next_call.fetch_add(1, Ordering::AcqRel)
    }

    /// Above the number of every call that has one by now.
    pub(crate) fn calls_begun(&self) -> u64 {
        self.next_call.load(Ordering::Acquire)
    }

    /// Tells the daemon that watches for peers.
    pub(crate) fn tell_watcher(&self, message: PeerWatch) {
        if let Some(watcher) = self.peer_watcher.get() {
            watcher.tell(message);
        }
    }

    /// Whether as many commands wait for that daemon as may. What ends a watch is taken all the same.
    pub(crate) fn watcher_is_full(&self) -> bool {
        let max = self.config.get_endpoint_manager_queue_size();
        self.peer_watcher.get().is_some_and(|watcher| watcher.mailbox_len() >= max)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("address", &self.address)
            .field("system_id", &self.system_id)
            .field("endpoints", &self.endpoints.len())
            .finish_non_exhaustive()
    }
}

/// Whether `address` is a spelling of `authority`.
pub(crate) fn spells(address: &str, authority: &Authority) -> bool {
    // A port has one spelling: of most that are others' no more is read.
    address.rsplit_once(':').is_some_and(|(_, port)| port.parse() == Ok(authority.port()))
        && address.parse::<Authority>().is_ok_and(|parsed| parsed == *authority)
}

/// Whether every node links the type, for without it there is no remoting.
fn is_of_protocol(type_name: TypeName) -> bool {
    matches!(
        (type_name.package, type_name.name),
        ("actor", "Touched" | "PoisonPill" | "DeadLetterResponse")
            | ("remote", "ActorPidRequest" | "ActorPidResponse")
    )
}

/// The host part of the addresses under which clients that only dial out are reached.
const CLIENT_HOST: &str = "client-";

/// The address of the client with that id. It stands in pids and is no place on a network. Two ids never have one address:
/// hosts do not tell upper from lower case and have few other characters, so what they have not is escaped by `-`.
pub(crate) fn client_address(system_id: &str) -> String {
    use std::fmt::Write as _;

    let mut address = String::with_capacity(CLIENT_HOST.len() + 2 * system_id.len() + 2);
    address.push_str(CLIENT_HOST);
    for byte in system_id.bytes() {
        // Writing to a String cannot fail.
        let _ = match byte {
            b'a'..=b'z' | b'0'..=b'9' => write!(address, "{}", char::from(byte)),
            b'A'..=b'Z' => write!(address, "-{}", char::from(byte.to_ascii_lowercase())),
            b'-' => write!(address, "--"),
            _ => write!(address, "-0{byte:02x}"),
        };
    }
    address.push_str(":1");
    address
}

/// Whether `address`, in its canonical form, is one that only a client has.
pub(crate) fn is_client_address(address: &str) -> bool {
    address.starts_with(CLIENT_HOST) && address.ends_with(":1")
}

/// A new system id: 22 characters of base 57, as Go nodes have them.
pub(crate) fn new_system_id(random: &mut fastrand::Rng) -> Arc<str> {
    const DIGITS: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let id: String = (0..22).map(|_| char::from(DIGITS[random.usize(..DIGITS.len())])).collect();
    Arc::from(id)
}

/// The route of `endpoint`, as the core takes it.
pub(crate) fn route_of(endpoint: &Arc<Endpoint>) -> Arc<dyn Route> {
    endpoint.clone()
}

#[cfg(test)]
mod tests;
