//! All associations of a node, by authority.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;
use nexus_actor_core::Instant;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{Address, Authority};

use super::peer::Peer;
use crate::failure_detector::HealthSnapshot;

/// How many of those that peers named are looked at, at most, for one that may go.
const LOOKED_AT: usize = 8;

/// Who brought an association about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This node: it resolved an address, or asked for a connection. Bounded by the numbers there are.
    Here,
    /// A peer, which dialled, or named an address that is then answered. A peer can name any number of them, so
    /// these have a limit (L6).
    Peer,
}

/// Keeps the association of each authority, over all its incarnations. One per authority and system name: a
/// second name at one address is a mistake that the handshake answers.
#[derive(Debug, Default)]
pub(crate) struct EndpointRegistry(Lock<Table>);

#[derive(Debug, Default)]
struct Table {
    peers: HashMap<Authority, Vec<Arc<Peer>>>,
    /// `None` while the association is being made: that runs outside the lock.
    by_number: HashMap<u16, Option<Arc<Peer>>>,
    next: u16,
    /// Those that peers brought about, and some that this node has adopted since. The one next in turn to be looked
    /// at for whether it may go comes first.
    named: VecDeque<Arc<Peer>>,
    /// How many of them are not adopted, with those being made.
    named_count: usize,
    /// Remoting has ended: nothing is taken in any more.
    closed: bool,
}

/// What [`EndpointRegistry::reserve`] comes to.
pub(crate) enum Reserved {
    /// There is one.
    Found(Arc<Peer>),
    /// There is none; the number is taken until [`EndpointRegistry::insert`] or [`EndpointRegistry::give_back`].
    Free(u16),
    /// There is no room. One of these may be of no use any more.
    Full(Vec<Arc<Peer>>),
}

impl Table {
    fn find(&self, authority: &Authority, system: &str) -> Option<&Arc<Peer>> {
        self.peers.get(authority)?.iter().find(|peer| &*peer.address().system == system)
    }

    /// The association, which counts as this node's own once it has use for it.
    fn take_up(&mut self, authority: &Authority, system: &str, origin: Origin) -> Option<Arc<Peer>> {
        let found = self.find(authority, system)?.clone();
        if origin == Origin::Here && found.adopt() {
            self.named_count -= 1;
        }
        Some(found)
    }

    fn give_back(&mut self, number: u16, origin: Origin) {
        self.by_number.remove(&number);
        if origin == Origin::Peer {
            // Nothing is counted any more once the table is closed.
            self.named_count = self.named_count.saturating_sub(1);
        }
    }

    /// The next few that peers named; each is looked at again only after all others.
    fn candidates(&mut self) -> Vec<Arc<Peer>> {
        let mut candidates = Vec::new();
        for _ in 0..LOOKED_AT.min(self.named.len()) {
            let Some(peer) = self.named.pop_front() else { break };
            if !peer.is_adopted() {
                candidates.push(peer.clone());
                self.named.push_back(peer);
            }
        }
        candidates
    }
}

impl EndpointRegistry {
    pub(crate) fn get(&self, address: &Address, origin: Origin) -> Option<Arc<Peer>> {
        self.0.lock().take_up(address.authority.as_ref()?, &address.system, origin)
    }

    /// The association with `authority`, or a number for a new one. At most `named_max` are there of those that
    /// peers brought about.
    pub(crate) fn reserve(
        &self,
        authority: &Authority,
        system: &str,
        origin: Origin,
        named_max: usize,
    ) -> Reserved {
        let mut table = self.0.lock();
        if let Some(found) = table.take_up(authority, system, origin) {
            return Reserved::Found(found);
        }
        if table.closed {
            return Reserved::Full(Vec::new());
        }
        let full = origin == Origin::Peer && table.named_count >= named_max;
        if full || table.by_number.len() >= usize::from(u16::MAX) {
            return Reserved::Full(table.candidates());
        }
        let number = loop {
            table.next = table.next.wrapping_add(1);
            if !table.by_number.contains_key(&table.next) {
                break table.next;
            }
        };
        table.by_number.insert(number, None);
        table.named_count += usize::from(origin == Origin::Peer);
        Reserved::Free(number)
    }

    /// Takes in the association that was made with a reserved number, and returns the one that holds: another
    /// thread may have been faster. `None` when remoting has ended meanwhile.
    pub(crate) fn insert(&self, peer: Arc<Peer>, origin: Origin) -> Option<Arc<Peer>> {
        let mut guard = self.0.lock();
        let table = &mut *guard;
        let found = table.take_up(peer.authority(), &peer.address().system, origin);
        if table.closed || found.is_some() {
            table.give_back(peer.number(), origin);
            drop(guard);
            // This one goes, outside the lock.
            drop(peer);
            return found;
        }
        match origin {
            Origin::Here => {
                let _not_named = peer.adopt();
            }
            Origin::Peer => table.named.push_back(peer.clone()),
        }
        table.by_number.insert(peer.number(), Some(peer.clone()));
        table.peers.entry(peer.authority().clone()).or_default().push(peer.clone());
        Some(peer)
    }

    /// Nothing came of a reserved number.
    pub(crate) fn give_back(&self, number: u16, origin: Origin) {
        self.0.lock().give_back(number, origin);
    }

    /// The association whose asks have `number` as the upper half of their slots.
    pub(crate) fn by_number(&self, number: u16) -> Option<Arc<Peer>> {
        self.0.lock().by_number.get(&number)?.clone()
    }

    /// Forgets an association if nobody holds it but its caller, once, and `test` still says that it may go.
    ///
    /// While the registry is locked nobody can come by it, so nobody begins to use what is being forgotten. Who
    /// holds it, even only a reference or a reply, keeps it: beside a new association it would go on.
    pub(crate) fn remove_if(&self, peer: &Arc<Peer>, test: impl FnOnce() -> bool) -> bool {
        let removed = {
            let mut guard = self.0.lock();
            let table = &mut *guard;
            let is = |other: &Arc<Peer>| Arc::ptr_eq(other, peer);
            if !table.by_number.get(&peer.number()).is_some_and(|kept| kept.as_ref().is_some_and(is)) {
                return false;
            }
            // Those looked at last stand at the end.
            let place = table.named.iter().rposition(is);
            let ours = 2 + usize::from(place.is_some());
            // Whoever holds the machine's lock holds the peer: asking `test`, which takes that lock, waits for nobody.
            if Arc::strong_count(peer) != ours + 1 || !test() {
                return false;
            }
            if let Some(peers) = table.peers.get_mut(peer.authority()) {
                peers.retain(|other| !is(other));
                if peers.is_empty() {
                    table.peers.remove(peer.authority());
                }
            }
            if !peer.is_adopted() {
                table.named_count -= 1;
            }
            (table.by_number.remove(&peer.number()), place.and_then(|place| table.named.remove(place)))
        };
        drop(removed);
        true
    }

    /// All associations of an authority.
    pub(crate) fn at(&self, authority: &Authority) -> Vec<Arc<Peer>> {
        self.0.lock().peers.get(authority).cloned().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        let mut all: Vec<_> = self.0.lock().by_number.values().flatten().cloned().collect();
        all.sort_by(|a, b| a.authority().cmp(b.authority()));
        all
    }

    /// What the failure detectors think of the incarnations at `authority`.
    pub(crate) fn health(&self, authority: &Authority, now: Instant) -> Option<HealthSnapshot> {
        self.at(authority).first().map(|peer| peer.read(|association| association.health(now)))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().by_number.values().flatten().count()
    }

    /// Forgets all of them, and takes in no other.
    pub(crate) fn close(&self) {
        let old = core::mem::replace(&mut *self.0.lock(), Table { closed: true, ..Table::default() });
        drop(old);
    }
}
