//! How hard it is to get anything to a peer: one level out of what lane, connection and detector say.
//!
//! A transport tells its hook whenever a write finds no room, which on a connection in full use is thousands of times a
//! second. Here a stall counts once it has lasted [`STALL_TOLD`], so that listeners hear of peers that take nothing,
//! not of sockets that are well used; until then it costs a few atomics and no clock.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashMap;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::ActorUid;
use portable_atomic::{AtomicBool, AtomicU64, Ordering};

use super::node::Node;
use super::peer::Peer;
use crate::backpressure::BackpressureSignal;
use crate::transport::{RemoteTransport, TransportChannel};

/// So long a connection must have taken nothing until the stall is told, and at most twice as long.
const STALL_TOLD: Duration = Duration::from_secs(1);

/// What is known of the way to one peer. The level is the highest of the three sources.
#[derive(Debug)]
pub(super) struct Pressure {
    /// How full the lanes are.
    lane: BackpressureSignal,
    /// How many connections have taken nothing for long.
    stalls: u32,
    /// The incarnation that the detector doubts.
    suspect: Option<ActorUid>,
    /// What listeners were told last.
    told: BackpressureSignal,
}

impl Default for Pressure {
    fn default() -> Self {
        let normal = BackpressureSignal::Normal;
        Self { lane: normal, stalls: 0, suspect: None, told: normal }
    }
}

impl Pressure {
    pub(super) fn lane(&mut self, signal: BackpressureSignal) {
        self.lane = signal;
    }

    /// Notes which incarnation the detector doubts and returns which it doubted before.
    pub(super) fn suspect(&mut self, uid: Option<ActorUid>) -> Option<ActorUid> {
        core::mem::replace(&mut self.suspect, uid)
    }

    /// One more connection takes nothing, or one less.
    pub(super) fn stalled(&mut self, begins: bool) {
        self.stalls = if begins { self.stalls + 1 } else { self.stalls.saturating_sub(1) };
    }

    /// The level, if it is another than was told last; it counts as told from now on.
    pub(super) fn change(&mut self) -> Option<BackpressureSignal> {
        let of = |raised: bool| if raised { BackpressureSignal::Warning } else { BackpressureSignal::Normal };
        let level = self.lane.max(of(self.stalls > 0)).max(of(self.suspect.is_some()));
        (core::mem::replace(&mut self.told, level) != level).then_some(level)
    }
}

/// The connections that serve associations, by the address their transport reports signals under: of an accepted
/// one that is where it came from, which says nothing of the peer by itself.
#[derive(Default)]
pub(crate) struct Ways(Lock<HashMap<String, Arc<[Arc<WayState>]>>>);

impl Ways {
    fn change(&self, address: &str, change: impl FnOnce(&mut Vec<Arc<WayState>>)) {
        let old = {
            let mut ways = self.0.lock();
            let mut states = ways.get(address).map(|states| states.to_vec()).unwrap_or_default();
            change(&mut states);
            if states.is_empty() {
                ways.remove(address)
            } else {
                ways.insert(address.to_string(), states.into())
            }
        };
        drop(old);
    }
}

/// What a connection's transport says of it.
struct WayState {
    peer: Weak<Peer>,
    /// Grows at each change: odd while it takes nothing, and another number for every stall.
    turns: AtomicU64,
    /// Somebody looks again.
    watched: AtomicBool,
    /// The stall is told.
    due: AtomicBool,
}

const fn is_stalled(turns: u64) -> bool {
    turns & 1 == 1
}

impl WayState {
    fn note(self: &Arc<Self>, stalled: bool) {
        let turns = self.turns.load(Ordering::Acquire);
        // One task drives a connection, so there is nobody to race with but the end of the connection.
        if is_stalled(turns) == stalled
            || self.turns.compare_exchange(turns, turns + 1, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return;
        }
        if stalled {
            if !self.watched.swap(true, Ordering::AcqRel) {
                self.look_later(turns + 1);
            }
        } else if self.due.swap(false, Ordering::AcqRel)
            && let Some(peer) = self.peer.upgrade()
        {
            peer.note_stall(false);
        }
    }

    /// Looks again when the stall would have lasted; `seen` is the number it has now.
    fn look_later(self: &Arc<Self>, seen: u64) {
        let Some(system) = self.peer.upgrade().and_then(|peer| peer.node.system.upgrade()) else { return };
        let me = Arc::downgrade(self);
        system.scheduler().schedule_at(system.now() + STALL_TOLD, move || {
            if let Some(me) = me.upgrade() {
                me.look(seen);
            }
        });
    }

    fn look(self: &Arc<Self>, seen: u64) {
        let turns = self.turns.load(Ordering::Acquire);
        if is_stalled(turns) && turns != seen {
            // Another stall than the one that was seen.
            return self.look_later(turns);
        }
        self.watched.store(false, Ordering::Release);
        let now = self.turns.load(Ordering::Acquire);
        if now != turns {
            // It changed while nobody was said to look.
            if is_stalled(now) && !self.watched.swap(true, Ordering::AcqRel) {
                self.look_later(now);
            }
            return;
        }
        if !is_stalled(turns) {
            return;
        }
        if let Some(peer) = self.peer.upgrade() {
            peer.note_stall(true);
        }
        self.due.store(true, Ordering::Release);
        // It may have gone on meanwhile: whoever finds the stall told takes it back.
        if self.turns.load(Ordering::Acquire) != turns
            && self.due.swap(false, Ordering::AcqRel)
            && let Some(peer) = self.peer.upgrade()
        {
            peer.note_stall(false);
        }
    }
}

/// A connection's entry; dropping it ends what stall there was.
pub(super) struct Way {
    node: Arc<Node>,
    address: Option<String>,
    state: Arc<WayState>,
}

impl Way {
    pub(super) fn enter(peer: &Arc<Peer>, channel: &TransportChannel) -> Self {
        let state = Arc::new(WayState {
            peer: Arc::downgrade(peer),
            turns: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            due: AtomicBool::new(false),
        });
        let address = channel.peer_address().map(|address| address.to_string());
        if let Some(address) = &address {
            peer.node.ways.change(address, |states| states.push(state.clone()));
        }
        Self { node: peer.node.clone(), address, state }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Some(address) = &self.address {
            self.node.ways.change(address, |states| states.retain(|state| !Arc::ptr_eq(state, &self.state)));
        }
        self.state.note(false);
    }
}

/// Has `transport` report to the associations of `node`.
pub(super) fn install_hook(node: &Arc<Node>, transport: &dyn RemoteTransport) {
    let node = Arc::downgrade(node);
    transport.install_backpressure_hook(Box::new(move |signal: BackpressureSignal, address: &str| {
        let Some(node) = node.upgrade() else { return };
        let states = node.ways.0.lock().get(address).cloned();
        for state in states.iter().flat_map(|states| states.iter()) {
            state.note(signal > BackpressureSignal::Normal);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use BackpressureSignal::{Critical, Normal, Warning};

    #[test]
    fn the_worst_source_is_the_level_and_is_told_once() {
        let mut pressure = Pressure::default();
        assert_eq!(pressure.change(), None);
        pressure.lane(Warning);
        assert_eq!((pressure.change(), pressure.change()), (Some(Warning), None));
        assert_eq!(pressure.suspect(Some(ActorUid::new(7))), None);
        pressure.stalled(true);
        pressure.stalled(true);
        assert_eq!(pressure.change(), None, "nothing new");
        pressure.lane(Critical);
        assert_eq!(pressure.change(), Some(Critical));
        pressure.lane(Normal);
        assert_eq!(pressure.change(), Some(Warning));
        assert_eq!(pressure.suspect(None), Some(ActorUid::new(7)));
        pressure.stalled(false);
        assert_eq!(pressure.change(), None, "the other connection still takes nothing");
        pressure.stalled(false);
        assert_eq!(pressure.change(), Some(Normal));
    }
}
