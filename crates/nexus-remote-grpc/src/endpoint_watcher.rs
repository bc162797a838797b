//! Death watch on this wire: who here watches whom at a peer, and whom here peers watch.

use std::collections::HashMap;
use std::sync::Arc;

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::ActorPath;
use nexus_actor_core::{Actor, ActorError, ActorRef, AnyRef, Context, Props, Signal, TerminationReason};
use portable_atomic::{AtomicU64, Ordering};

use crate::config::Limits;
use crate::endpoint::Endpoint;
use crate::inbound_call::end_calls;
use crate::kinds::Turn;
use crate::pid_entry::PidEntry;
use crate::proto::actor::TerminatedReason;

/// Who here watches whom at one peer. The peer is told once for each actor, however many watch it, and what it says of an
/// actor that nobody watches is not believed.
pub struct EndpointWatcher {
    watched: Lock<HashMap<Arc<str>, Watched>>,
    /// Actors there that may be watched (limit L18).
    max: usize,
}

struct Watched {
    path: ActorPath,
    /// With the number of connections that had been lost when they began.
    watchers: Vec<(AnyRef, u64)>,
}

impl EndpointWatcher {
    pub(crate) fn new(max: usize) -> Self {
        Self { watched: Lock::default(), max }
    }

    /// Notes that `watcher` watches `path`, known to the peer as `id`; true when the peer is to be told. One actor too
    /// many is not watched, and its watcher told so.
    pub(crate) fn watch(&self, id: &Arc<str>, path: &ActorPath, watcher: AnyRef, era: u64) -> bool {
        {
            let mut watched = self.watched.lock();
            if let Some(entry) = watched.get_mut(id) {
                if !entry.watchers.iter().any(|(other, _)| *other == watcher) {
                    entry.watchers.push((watcher, era));
                }
                return false;
            }
            if watched.len() < self.max {
                watched.insert(id.clone(), Watched { path: path.clone(), watchers: vec![(watcher, era)] });
                return true;
            }
        }
        watcher.notify_terminated(path, TerminationReason::Limit);
        false
    }

    /// Notes that it does not any more; true when the peer is to be told.
    pub(crate) fn unwatch(&self, id: &str, watcher: &AnyRef) -> bool {
        let mut watched = self.watched.lock();
        let Some(entry) = watched.get_mut(id) else { return false };
        entry.watchers.retain(|(other, _)| other != watcher);
        if !entry.watchers.is_empty() {
            return false;
        }
        watched.remove(id);
        true
    }

    /// Tells those who watch `id` that it has terminated; false when nobody does.
    pub(crate) fn terminated(&self, id: &str, reason: &TerminationReason) -> bool {
        let Some(entry) = self.watched.lock().remove(id) else { return false };
        entry.tell(reason);
        true
    }

    /// The same for everybody watched there.
    pub(crate) fn address_terminated(&self, reason: &TerminationReason) -> usize {
        let all = core::mem::take(&mut *self.watched.lock());
        let count = all.len();
        for entry in all.into_values() {
            entry.tell(reason);
        }
        count
    }

    /// Tells those who began to watch before so many connections were lost: the process that they watched is gone.
    pub(crate) fn process_gone(&self, era: u64) {
        let mut gone = Vec::new();
        self.watched.lock().retain(|_, entry| {
            let (old, new) = entry.watchers.drain(..).partition(|(_, since)| *since < era);
            gone.push(Watched { path: entry.path.clone(), watchers: old });
            entry.watchers = new;
            !entry.watchers.is_empty()
        });
        for entry in gone {
            entry.tell(&TerminationReason::Unreachable);
        }
    }

    /// The ids that the peer is to be told again after a new connection.
    pub(crate) fn ids(&self) -> Vec<Arc<str>> {
        self.watched.lock().keys().cloned().collect()
    }

    /// How many actors are watched there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.watched.lock().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for EndpointWatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EndpointWatcher({} watched)", self.len())
    }
}

impl Watched {
    fn tell(self, reason: &TerminationReason) {
        for (watcher, _) in self.watchers {
            watcher.notify_terminated(&self.path, reason.clone());
        }
    }
}

/// Why an actor elsewhere has terminated, in this system's words.
pub(crate) fn reason_of(why: i32) -> TerminationReason {
    match TerminatedReason::try_from(why) {
        Ok(TerminatedReason::AddressTerminated) => TerminationReason::Unreachable,
        Ok(TerminatedReason::NotFound) => TerminationReason::NeverExisted,
        Ok(TerminatedReason::Stopped) | Err(_) => TerminationReason::Stopped,
    }
}

/// What the daemon is told.
pub(crate) enum PeerWatch {
    /// A peer's actor watches one here, which it calls `id`.
    Watch { actor: AnyRef, id: Arc<str>, watcher: Arc<PidEntry>, endpoint: Arc<Endpoint> },
    /// It does not any more.
    Unwatch { id: Arc<str>, watcher: Arc<PidEntry>, address: Arc<str> },
    /// A peer is gone, and with it all its watchers.
    Gone { address: Arc<str> },
    /// A peer cannot be told anything, though its own calls to this node may live.
    Unheard { endpoint: Arc<Endpoint> },
}

/// The daemon at `/system/protoactor_watcher`: it watches actors here on behalf of peers.
pub(crate) struct PeerWatcher {
    limits: Limits,
    turn: Turn,
    watched: HashMap<AnyRef, Vec<ByPeer>>,
    /// How many of the entries are each peer's.
    counts: HashMap<Arc<str>, usize>,
    /// How many there are in all, for others to see.
    total: Arc<AtomicU64>,
}

struct ByPeer {
    id: Arc<str>,
    watcher: Arc<PidEntry>,
    endpoint: Arc<Endpoint>,
}

impl PeerWatcher {
    pub(crate) fn props(limits: Limits, batch_size: usize, total: Arc<AtomicU64>) -> Props<Self> {
        Props::from_fn(move || Self {
            limits,
            turn: Turn::new(batch_size),
            watched: HashMap::new(),
            counts: HashMap::new(),
            total: total.clone(),
        })
    }

    fn count(&self) {
        let total: usize = self.counts.values().sum();
        self.total.store(total as u64, Ordering::Release);
    }

    fn watch(&mut self, actor: AnyRef, by: ByPeer, cx: &mut Context<'_, Self>) {
        let address = by.endpoint.address().clone();
        let count = self.counts.entry(address).or_default();
        let entries = self.watched.entry(actor.clone()).or_default();
        if entries.iter().any(|other| other.watcher == by.watcher && other.id == by.id) {
            return;
        }
        if *count >= self.limits.watches || entries.len() >= self.limits.watchers {
            by.endpoint.send_terminated(&by.watcher, &by.id, TerminatedReason::NotFound);
            // Nothing of a watch that is refused stays.
            if entries.is_empty() {
                self.watched.remove(&actor);
            }
            if *count == 0 {
                self.counts.remove(by.endpoint.address());
            }
            return;
        }
        *count += 1;
        entries.push(by);
        cx.watch_any(&actor);
    }

    /// Strikes out every entry that `is_gone` says is.
    fn strike(&mut self, cx: &mut Context<'_, Self>, is_gone: impl Fn(&ByPeer) -> bool) {
        let counts = &mut self.counts;
        self.watched.retain(|actor, entries| {
            entries.retain(|by| {
                let gone = is_gone(by);
                if gone {
                    release(counts, by.endpoint.address());
                }
                !gone
            });
            if entries.is_empty() {
                cx.unwatch_any(actor);
            }
            !entries.is_empty()
        });
    }
}

fn release(counts: &mut HashMap<Arc<str>, usize>, address: &Arc<str>) {
    if let Some(count) = counts.get_mut(address) {
        *count -= 1;
        if *count == 0 {
            counts.remove(address);
        }
    }
}

impl Actor for PeerWatcher {
    type Msg = PeerWatch;

    async fn receive(&mut self, msg: PeerWatch, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match msg {
            PeerWatch::Watch { actor, id, watcher, endpoint } => {
                self.watch(actor, ByPeer { id, watcher, endpoint }, cx);
            }
            PeerWatch::Unwatch { id, watcher, address } => {
                self.strike(cx, |by| {
                    by.id == id && by.watcher == watcher && *by.endpoint.address() == address
                });
            }
            PeerWatch::Unheard { endpoint } => {
                if self.counts.contains_key(endpoint.address()) {
                    end_calls(endpoint.node(), endpoint.address());
                }
            }
            PeerWatch::Gone { address } => self.strike(cx, |by| *by.endpoint.address() == address),
        }
        self.count();
        self.turn.took_one().await;
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Terminated { who, .. } = signal {
            for by in self.watched.remove(&who).unwrap_or_default() {
                release(&mut self.counts, by.endpoint.address());
                by.endpoint.send_terminated(&by.watcher, &by.id, TerminatedReason::Stopped);
            }
            self.count();
        }
        Ok(())
    }
}

pub(crate) type PeerWatcherRef = ActorRef<PeerWatch>;
