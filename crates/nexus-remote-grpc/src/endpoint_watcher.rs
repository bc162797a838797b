//! Death watch on this wire: who here watches whom at a peer.

use std::collections::HashMap;
use std::sync::Arc;

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::ActorPath;
use nexus_actor_core::{AnyRef, TerminationReason};

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
