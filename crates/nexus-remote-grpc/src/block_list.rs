//! Whom this node does not talk to.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Weak};

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;

use crate::config;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockListChange {
    /// The system id or address is refused from now on.
    Blocked(Arc<str>),
    /// The system id or address is not on the list any more.
    Unblocked(Arc<str>),
    /// From now on only these are allowed; all are, if there is none.
    Allowed(Vec<Arc<str>>),
}

/// Hears of changes. Called without a lock, on the thread that made the change, once the list says so.
type Listener = Arc<dyn Fn(&BlockListChange) + Send + Sync>;

/// Nodes that are refused, by the id that a system gives or by the address it names, in the handshake of either side and
/// at every change. Where there is an allow list, every node that is not on it is refused as well.
///
/// Addresses are compared as addresses: case, trailing dots and mapped IPv4 do not count. Clones are the same list.
///
/// A system id is new at every start of its node, so an id on the list refuses one incarnation and an address all.
#[derive(Clone, Default)]
pub struct BlockList(Arc<Shared>);

#[derive(Default)]
struct Shared {
    lists: Lock<Lists>,
    listeners: Lock<Arc<Vec<(u64, Listener)>>>,
}

#[derive(Default)]
struct Lists {
    blocked: BTreeSet<Arc<str>>,
    allowed: BTreeSet<Arc<str>>,
    last_listener: u64,
}

/// As [`config::canonical`], kept in the lists.
fn canonical(entry: &str) -> Arc<str> {
    Arc::from(config::canonical(entry))
}

impl Lists {
    fn permits(&self, system_id: Option<&str>, address: Option<&str>) -> bool {
        let names = [system_id.filter(|id| !id.is_empty()).map(Arc::from), address.map(canonical)];
        let on = |list: &BTreeSet<Arc<str>>| names.iter().flatten().any(|name| list.contains(name));
        !on(&self.blocked) && (self.allowed.is_empty() || on(&self.allowed))
    }
}

impl BlockList {
    /// A list that refuses `blocked`, and all but `allowed` unless that is empty.
    #[must_use]
    pub fn new<B, A>(blocked: B, allowed: A) -> Self
    where
        B: IntoIterator<Item: AsRef<str>>,
        A: IntoIterator<Item: AsRef<str>>,
    {
        let list = Self::default();
        {
            let mut lists = list.0.lists.lock();
            lists.blocked = blocked.into_iter().map(|entry| canonical(entry.as_ref())).collect();
            lists.allowed = allowed.into_iter().map(|entry| canonical(entry.as_ref())).collect();
        }
        list
    }

    /// Refuses a system id or an address (`host:port`). Returns whether that is new.
    pub fn block(&self, entry: &str) -> bool {
        let entry = canonical(entry);
        let new = self.0.lists.lock().blocked.insert(entry.clone());
        if new {
            self.tell(&BlockListChange::Blocked(entry));
        }
        new
    }

    /// Takes a system id or an address off the list. Returns whether it was on it.
    pub fn unblock(&self, entry: &str) -> bool {
        let entry = canonical(entry);
        let was = self.0.lists.lock().blocked.remove(&entry);
        if was {
            self.tell(&BlockListChange::Unblocked(entry));
        }
        was
    }

    /// From now on only these system ids and addresses are allowed; all are, if there is none.
    pub fn set_allowed<A: IntoIterator<Item: AsRef<str>>>(&self, allowed: A) {
        let allowed: BTreeSet<_> = allowed.into_iter().map(|entry| canonical(entry.as_ref())).collect();
        let change = BlockListChange::Allowed(allowed.iter().cloned().collect());
        let before = core::mem::replace(&mut self.0.lists.lock().allowed, allowed.clone());
        if before != allowed {
            self.tell(&change);
        }
    }

    /// The system ids and addresses that are refused, sorted.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.0.lists.lock().blocked.iter().map(ToString::to_string).collect()
    }

    /// The system ids and addresses that alone are allowed, sorted; none means all.
    #[must_use]
    pub fn allowed(&self) -> Vec<String> {
        self.0.lists.lock().allowed.iter().map(ToString::to_string).collect()
    }

    /// Whether exactly this system id or address is on the block list.
    #[must_use]
    pub fn is_blocked(&self, entry: &str) -> bool {
        self.0.lists.lock().blocked.contains(&canonical(entry))
    }

    /// Whether a node that introduced itself may talk to this one.
    #[must_use]
    pub fn permits(&self, system_id: &str, address: Option<&str>) -> bool {
        self.0.lists.lock().permits(Some(system_id), address)
    }

    /// Whether `address` may be dialled. Where the allow list names system ids, who lives there is known only after the
    /// handshake: ask [`permits`](Self::permits) then.
    #[must_use]
    pub fn permits_dial(&self, address: &str) -> bool {
        let lists = self.0.lists.lock();
        let may_be_a_system_id = lists.allowed.iter().any(|entry| entry.parse::<Authority>().is_err());
        if may_be_a_system_id {
            !lists.blocked.contains(&canonical(address))
        } else {
            lists.permits(None, Some(address))
        }
    }

    /// Whether a node may be talked to that has not said who it is. `may_be` says whether it is known to be of
    /// the host of an address.
    pub(crate) fn permits_any(&self, may_be: impl Fn(&str) -> bool) -> bool {
        let lists = self.0.lists.lock();
        let on = |list: &BTreeSet<Arc<str>>| list.iter().any(|entry| may_be(entry));
        !on(&lists.blocked) && (lists.allowed.is_empty() || on(&lists.allowed))
    }

    /// Has `listener` told of every change from now on, until the guard is dropped.
    ///
    /// It is called once the list says what it is told, without a lock, on the thread that made the change. Two changes at
    /// once may reach it in either order: it had better ask the list again.
    pub fn on_change(
        &self,
        listener: impl Fn(&BlockListChange) + Send + Sync + 'static,
    ) -> BlockListListener {
        let id = {
            let mut lists = self.0.lists.lock();
            lists.last_listener += 1;
            lists.last_listener
        };
        let mut listeners = self.0.listeners.lock();
        let mut next: Vec<_> = listeners.to_vec();
        next.push((id, Arc::new(listener)));
        let before = core::mem::replace(&mut *listeners, Arc::new(next));
        drop(listeners);
        drop(before);
        BlockListListener { shared: Arc::downgrade(&self.0), id }
    }

    fn tell(&self, change: &BlockListChange) {
        let listeners = Arc::clone(&self.0.listeners.lock());
        for (_, listener) in listeners.iter() {
            listener(change);
        }
    }
}

impl fmt::Debug for BlockList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockList").field("blocked", &self.list()).field("allowed", &self.allowed()).finish()
    }
}

/// Keeps a listener; dropping it releases the listener.
#[must_use = "dropping the guard releases the listener at once"]
pub struct BlockListListener {
    shared: Weak<Shared>,
    id: u64,
}

impl Drop for BlockListListener {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        // What the listener holds may be dropped with it, which is not ours to do under a lock.
        let before = {
            let mut listeners = shared.listeners.lock();
            let next = listeners.iter().filter(|(id, _)| *id != self.id).cloned().collect();
            core::mem::replace(&mut *listeners, Arc::new(next))
        };
        drop(before);
    }
}

impl fmt::Debug for BlockListListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockListListener").field("id", &self.id).finish()
    }
}

#[cfg(test)]
mod tests;
