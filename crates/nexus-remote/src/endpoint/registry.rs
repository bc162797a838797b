//! All associations of a node, by authority.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;
use nexus_actor_core::Instant;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;

use super::peer::Peer;
use crate::failure_detector::HealthSnapshot;

/// Keeps the association of each authority, over all its incarnations. One per authority and system name: a
/// second name at one address is a mistake that the handshake answers.
#[derive(Debug, Default)]
pub(crate) struct EndpointRegistry(Lock<Table>);

#[derive(Debug, Default)]
struct Table {
    peers: HashMap<Authority, Vec<Arc<Peer>>>,
    by_number: HashMap<u16, Arc<Peer>>,
    next: u16,
}

impl EndpointRegistry {
    pub(crate) fn get(&self, authority: &Authority, system: &str) -> Option<Arc<Peer>> {
        let table = self.0.lock();
        table.peers.get(authority)?.iter().find(|peer| &*peer.address().system == system).cloned()
    }

    /// The association, made by `make` with a free number when there is none. `None` when all numbers are taken
    /// or `make` refuses.
    pub(crate) fn get_or_insert(
        &self,
        authority: &Authority,
        system: &str,
        make: impl FnOnce(u16) -> Option<Arc<Peer>>,
    ) -> Option<Arc<Peer>> {
        let mut table = self.0.lock();
        if let Some(found) = table
            .peers
            .get(authority)
            .and_then(|peers| peers.iter().find(|peer| &*peer.address().system == system))
        {
            return Some(found.clone());
        }
        if table.by_number.len() >= usize::from(u16::MAX) {
            return None;
        }
        let number = loop {
            table.next = table.next.wrapping_add(1);
            if !table.by_number.contains_key(&table.next) {
                break table.next;
            }
        };
        let peer = make(number)?;
        table.by_number.insert(number, peer.clone());
        table.peers.entry(authority.clone()).or_default().push(peer.clone());
        Some(peer)
    }

    /// The association whose asks have `number` as the upper half of their slots.
    pub(crate) fn by_number(&self, number: u16) -> Option<Arc<Peer>> {
        self.0.lock().by_number.get(&number).cloned()
    }

    /// Forgets an association nobody uses.
    pub(crate) fn remove(&self, peer: &Arc<Peer>) {
        let removed = {
            let mut table = self.0.lock();
            if let Some(peers) = table.peers.get_mut(peer.authority()) {
                peers.retain(|other| !Arc::ptr_eq(other, peer));
                if peers.is_empty() {
                    table.peers.remove(peer.authority());
                }
            }
            table.by_number.remove(&peer.number())
        };
        drop(removed);
    }

    /// All associations of an authority.
    pub(crate) fn at(&self, authority: &Authority) -> Vec<Arc<Peer>> {
        self.0.lock().peers.get(authority).cloned().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        let mut all: Vec<_> = self.0.lock().by_number.values().cloned().collect();
        all.sort_by(|a, b| a.authority().cmp(b.authority()));
        all
    }

    /// What the failure detectors think of the incarnations at `authority`.
    pub(crate) fn health(&self, authority: &Authority, now: Instant) -> Option<HealthSnapshot> {
        self.at(authority).first().map(|peer| peer.read(|association| association.health(now)))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().by_number.len()
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        let old = core::mem::take(&mut *self.0.lock());
        drop(old);
    }
}
