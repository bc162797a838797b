//! How many dials a node has under way (L25): one for each address, and so many in all. Others wait their turn.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};

use hashbrown::HashSet;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;

use super::node::Node;
use super::peer::Peer;

/// Hands out the places. Whoever waits gets one in the order of asking, save that an address under way is passed over
/// until it is not.
pub(crate) struct Dials {
    state: Lock<State>,
    most: usize,
}

#[derive(Default)]
struct State {
    under_way: HashSet<Authority>,
    waiting: VecDeque<(Authority, Weak<Peer>)>,
    /// Somebody is handing out places, and looks again before it stops.
    granting: bool,
}

impl State {
    fn take(&mut self, most: usize) -> Option<(Authority, Weak<Peer>)> {
        if self.under_way.len() >= most {
            return None;
        }
        let at = self.waiting.iter().position(|(authority, _)| !self.under_way.contains(authority))?;
        let next = self.waiting.remove(at)?;
        self.under_way.insert(next.0.clone());
        Some(next)
    }
}

impl Dials {
    pub(super) fn new(most: usize) -> Self {
        Self { state: Lock::default(), most: most.max(1) }
    }

    /// A place for a dial to `authority`; if there is none now, `peer` is granted one later. It must not ask again
    /// before that.
    pub(super) fn ask(&self, node: &Arc<Node>, authority: &Authority, peer: &Weak<Peer>) -> Option<DialSlot> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        // Who waits for the same address came first; who waits for another does so because that is under way.
        let ours = state.waiting.iter().any(|(waiting, _)| waiting == authority);
        if state.under_way.len() >= self.most || ours || state.under_way.contains(authority) {
            state.waiting.push_back((authority.clone(), peer.clone()));
            return None;
        }
        state.under_way.insert(authority.clone());
        Some(DialSlot { node: node.clone(), authority: authority.clone() })
    }

    fn give_back(&self, node: &Arc<Node>, authority: &Authority) {
        {
            let mut state = self.state.lock();
            state.under_way.remove(authority);
            // A dial that fails at once gives back inside a grant: the one who grants goes on, in a loop.
            if core::mem::replace(&mut state.granting, true) {
                return;
            }
        }
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = state.take(self.most);
                state.granting = next.is_some();
                next
            };
            let Some((authority, peer)) = next else { return };
            let slot = DialSlot { node: node.clone(), authority };
            let Some(peer) = peer.upgrade() else { continue };
            // What it does not want any more it gives back at once.
            let refused = peer.grant(slot);
            if refused.is_none() {
                peer.apply(|_, _| ());
            }
            drop(refused);
        }
    }
}

/// A place for one dial, given back when dropped. Not to be dropped under a lock.
pub(crate) struct DialSlot {
    node: Arc<Node>,
    authority: Authority,
}

impl Drop for DialSlot {
    fn drop(&mut self) {
        self.node.dials.give_back(&self.node, &self.authority);
    }
}
