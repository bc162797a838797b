//! The daemon that watches actors here on behalf of peers.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nexus_actor_core::{Actor, ActorError, ActorRef, AnyRef, Context, Props, Signal};
use portable_atomic::{AtomicU64, Ordering};

use crate::config::Limits;
use crate::endpoint::Endpoint;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint_state::EndpointState;
use crate::inbound::call::end_calls;
use crate::kinds::Turn;
use crate::wire::proto::actor::TerminatedReason;

/// What the daemon is told.
pub(crate) enum PeerWatch {
    /// A peer's actor watches one here, which it calls `id`, and said so by the call of that number.
    Watch { actor: AnyRef, id: Arc<str>, watcher: Arc<PidEntry>, endpoint: Arc<Endpoint>, call: u64 },
    /// A peer's actor watches one here that is not there, or not any more.
    Missing { id: Arc<str>, watcher: Arc<PidEntry>, endpoint: Arc<Endpoint>, call: u64 },
    /// It does not any more.
    Unwatch { id: Arc<str>, watcher: Arc<PidEntry>, address: Arc<str> },
    /// A peer is gone, and with it all its watchers. What calls with this number or a higher one have said since stays.
    Gone { address: Arc<str>, before: u64 },
    /// A peer cannot be told anything, though its own calls to this node may live.
    Unheard { endpoint: Arc<Endpoint> },
}

/// What a peer calls a watch: its own actor, and its name for the one here.
#[derive(Clone, Eq)]
#[cfg_attr(not(test), derive(PartialEq, Hash))]
struct Name {
    id: Arc<str>,
    watcher: Arc<PidEntry>,
}

/// Who is told when an actor terminates.
struct ByPeer {
    name: Name,
    endpoint: Arc<Endpoint>,
}

/// The watches of all peers. What a peer says costs what it touches, however many watches there are.
#[derive(Default)]
struct PeerWatches {
    by_peer: HashMap<Arc<str>, OfPeer>,
    by_actor: HashMap<AnyRef, HashSet<(Arc<str>, Name)>>,
    total: usize,
}

#[derive(Default)]
struct OfPeer {
    /// One actor for each name, but for the moment in which a name has a new owner and the old one's end is not known yet.
    watched: HashMap<Name, Vec<Watched>>,
    count: usize,
}

struct Watched {
    actor: AnyRef,
    endpoint: Arc<Endpoint>,
    /// The last call by which it was said.
    call: u64,
}

/// What became of a watch.
#[derive(Debug, PartialEq, Eq)]
enum Noted {
    /// It is the first of that actor.
    First,
    Further,
    /// It was there already.
    Again,
    /// The peer, or the actor, has as many as it may (limit L18). Nothing of it stays.
    TooMany,
}

impl PeerWatches {
    fn watch(&mut self, actor: &AnyRef, by: &ByPeer, call: u64, limits: &Limits) -> Noted {
        let address = by.endpoint.address();
        let mut count = 0;
        if let Some(peer) = self.by_peer.get_mut(address) {
            count = peer.count;
            let same = peer.watched.get_mut(&by.name);
            if let Some(known) = same.and_then(|same| same.iter_mut().find(|one| one.actor == *actor)) {
                known.call = known.call.max(call);
                return Noted::Again;
            }
        }
        let watchers = self.by_actor.get(actor).map_or(0, HashSet::len);
        if count >= limits.watches || watchers >= limits.watchers {
            return Noted::TooMany;
        }
        let peer = self.by_peer.entry(address.clone()).or_default();
        peer.watched.entry(by.name.clone()).or_default().push(Watched {
            actor: actor.clone(),
            endpoint: by.endpoint.clone(),
            call,
        });
        peer.count += 1;
        self.by_actor.entry(actor.clone()).or_default().insert((address.clone(), by.name.clone()));
        self.total += 1;
        if watchers == 0 { Noted::First } else { Noted::Further }
    }

    /// Whether an end is still to be told by that name, as a peer hears that watches again by that call.
    fn awaits(&mut self, by: &ByPeer, call: u64) -> bool {
        let peer = self.by_peer.get_mut(by.endpoint.address());
        let Some(same) = peer.and_then(|peer| peer.watched.get_mut(&by.name)) else { return false };
        for one in same {
            one.call = one.call.max(call);
        }
        true
    }

    /// Returns those that nobody watches any more.
    fn unwatch(&mut self, address: &Arc<str>, name: &Name) -> Vec<AnyRef> {
        let Entry::Occupied(mut peer) = self.by_peer.entry(address.clone()) else { return Vec::new() };
        let Some(watched) = peer.get_mut().watched.remove(name) else { return Vec::new() };
        peer.get_mut().count -= watched.len();
        if peer.get().count == 0 {
            peer.remove();
        }
        self.total -= watched.len();
        let mut left = Vec::new();
        for Watched { actor, .. } in watched {
            if self.strike(&actor, address, name) {
                left.push(actor);
            }
        }
        left
    }

    /// A peer is gone, with its calls before that number. Returns those that nobody watches any more.
    fn gone(&mut self, address: &Arc<str>, before: u64) -> Vec<AnyRef> {
        let Entry::Occupied(mut peer) = self.by_peer.entry(address.clone()) else { return Vec::new() };
        let mut struck = Vec::new();
        peer.get_mut().watched.retain(|name, watched| {
            watched.retain(|one| {
                let stays = one.call >= before;
                if !stays {
                    struck.push((one.actor.clone(), name.clone()));
                }
                stays
            });
            !watched.is_empty()
        });
        peer.get_mut().count -= struck.len();
        if peer.get().count == 0 {
            peer.remove();
        }
        self.total -= struck.len();
        struck.retain(|(actor, name)| self.strike(actor, address, name));
        struck.into_iter().map(|(actor, _)| actor).collect()
    }

    /// An actor has terminated. Returns who is to be told.
    fn terminated(&mut self, actor: &AnyRef) -> Vec<ByPeer> {
        let mut told = Vec::new();
        for (address, name) in self.by_actor.remove(actor).unwrap_or_default() {
            let Entry::Occupied(mut peer) = self.by_peer.entry(address) else { continue };
            let Entry::Occupied(mut watched) = peer.get_mut().watched.entry(name.clone()) else { continue };
            let Some(at) = watched.get().iter().position(|one| one.actor == *actor) else { continue };
            let Watched { endpoint, .. } = watched.get_mut().swap_remove(at);
            if watched.get().is_empty() {
                watched.remove();
            }
            peer.get_mut().count -= 1;
            if peer.get().count == 0 {
                peer.remove();
            }
            self.total -= 1;
            told.push(ByPeer { name, endpoint });
        }
        told
    }

    /// Takes one watcher of `actor` out; true when it was the last.
    fn strike(&mut self, actor: &AnyRef, address: &Arc<str>, name: &Name) -> bool {
        let Some(watchers) = self.by_actor.get_mut(actor) else { return false };
        watchers.remove(&(address.clone(), name.clone()));
        let is_last = watchers.is_empty();
        if is_last {
            self.by_actor.remove(actor);
        }
        is_last
    }
}

/// The daemon at `/system/protoactor_watcher`: it watches actors here on behalf of peers.
pub(crate) struct PeerWatcher {
    limits: Limits,
    turn: Turn,
    watches: PeerWatches,
    /// How many there are in all, for others to see.
    total: Arc<AtomicU64>,
}

impl PeerWatcher {
    pub(crate) fn props(limits: Limits, batch_size: usize, total: Arc<AtomicU64>) -> Props<Self> {
        Props::from_fn(move || Self {
            limits,
            turn: Turn::new(batch_size),
            watches: PeerWatches::default(),
            total: total.clone(),
        })
    }

    fn show_total(&self) {
        self.total.store(self.watches.total as u64, Ordering::Release);
    }
}

impl Actor for PeerWatcher {
    type Msg = PeerWatch;

    async fn receive(&mut self, msg: PeerWatch, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        let left = match msg {
            PeerWatch::Watch { actor, id, watcher, endpoint, call } => {
                let by = ByPeer { name: Name { id, watcher }, endpoint };
                match self.watches.watch(&actor, &by, call, &self.limits) {
                    Noted::First => cx.watch_any(&actor),
                    Noted::Further | Noted::Again => {}
                    Noted::TooMany => by.tell(TerminatedReason::NotFound),
                }
                Vec::new()
            }
            PeerWatch::Missing { id, watcher, endpoint, call } => {
                let by = ByPeer { name: Name { id, watcher }, endpoint };
                if !self.watches.awaits(&by, call) {
                    by.tell(TerminatedReason::NotFound);
                }
                Vec::new()
            }
            PeerWatch::Unwatch { id, watcher, address } => {
                self.watches.unwatch(&address, &Name { id, watcher })
            }
            PeerWatch::Gone { address, before } => self.watches.gone(&address, before),
            PeerWatch::Unheard { endpoint } => {
                // Reached again by now, it is told what there is to tell, and may have had answers meanwhile.
                let is_watching = self.watches.by_peer.contains_key(endpoint.address());
                if is_watching && !endpoint.read(EndpointState::is_linked) {
                    end_calls(endpoint.node(), endpoint.address());
                }
                Vec::new()
            }
        };
        for actor in left {
            cx.unwatch_any(&actor);
        }
        self.show_total();
        self.turn.took_one().await;
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Terminated { who, .. } = signal {
            for by in self.watches.terminated(&who) {
                by.tell(TerminatedReason::Stopped);
            }
            self.show_total();
        }
        Ok(())
    }
}

impl ByPeer {
    fn tell(&self, why: TerminatedReason) {
        self.endpoint.send_terminated(&self.name.watcher, &self.name.id, why);
    }
}

pub(crate) type PeerWatcherRef = ActorRef<PeerWatch>;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::{Hash, Hasher};

    use nexus_actor_core::{ActorSystem, Props};

    use super::*;
    use crate::{Config, Remote};

    struct Idle;

    impl Actor for Idle {
        type Msg = ();
        async fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<(), ActorError> {
            Ok(())
        }
    }

    fn name(number: usize) -> Name {
        let text: Arc<str> = Arc::from(number.to_string());
        Name { id: Arc::from("watched"), watcher: Arc::new(PidEntry::new("a:1", text)) }
    }

    thread_local! {
        static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    /// As it is derived elsewhere, and counted.
    impl PartialEq for Name {
        fn eq(&self, other: &Self) -> bool {
            COMPARED.set(COMPARED.get() + 1);
            self.id == other.id && self.watcher == other.watcher
        }
    }

    impl Hash for Name {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            self.id.hash(hasher);
            self.watcher.hash(hasher);
        }
    }

    /// As many watches as are allowed, and as many unwatches of what is not watched: looked for among all, each of these
    /// would be compared with all.
    ///
    /// Covers: L18
    #[tokio::test]
    async fn what_a_peer_says_of_watches_costs_what_it_touches() {
        const MOST: usize = 1_000;
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let endpoint = |address| remote.manager().ensure_connected(address).expect("an endpoint");
        let (one, other) = (endpoint("client-one:1"), endpoint("client-other:1"));
        let actor = system.spawn("watched", Props::from_fn(|| Idle)).expect("free").to_any();
        let second = system.spawn("second", Props::from_fn(|| Idle)).expect("free").to_any();
        let mut limits = Limits::new();
        (limits.watches, limits.watchers) = (MOST, MOST + 1);
        let mut watches = PeerWatches::default();
        let by = |number, endpoint: &Arc<Endpoint>| ByPeer { name: name(number), endpoint: endpoint.clone() };
        assert_eq!(watches.watch(&actor, &by(0, &one), 0, &limits), Noted::First);
        for number in 1..MOST {
            assert_eq!(watches.watch(&actor, &by(number, &one), 0, &limits), Noted::Further);
        }
        assert_eq!(watches.watch(&actor, &by(7, &one), 0, &limits), Noted::Again);
        assert_eq!(watches.watch(&second, &by(MOST, &one), 0, &limits), Noted::TooMany, "of one peer");
        assert_eq!(watches.watch(&actor, &by(0, &other), 0, &limits), Noted::Further);
        assert_eq!(watches.watch(&actor, &by(1, &other), 0, &limits), Noted::TooMany, "of one actor");
        for number in MOST..2 * MOST {
            assert!(watches.unwatch(one.address(), &name(number)).is_empty());
            assert!(watches.unwatch(other.address(), &name(number)).is_empty());
        }
        assert_eq!((watches.total, watches.by_peer.len(), watches.by_actor.len()), (MOST + 1, 2, 1));
        assert!(watches.gone(one.address(), 1).is_empty(), "one watches still");
        // A few for each of the watches that came and went; what is not there is hardly ever compared with anything.
        assert!(COMPARED.get() < 4 * MOST, "{} for {MOST} watches", COMPARED.get());
        assert_eq!((watches.total, watches.by_peer.len()), (1, 1));
        assert_eq!(watches.unwatch(other.address(), &name(0)), [actor]);
        assert_eq!((watches.total, watches.by_peer.len(), watches.by_actor.len()), (0, 0, 0));
        remote.shutdown(false).await;
    }

    /// A name may have a new owner before the end of the old one is known: each is told of once.
    #[tokio::test]
    async fn a_name_with_a_new_owner_stands_for_both_until_the_old_one_ends() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let endpoint = remote.manager().ensure_connected("client-one:1").expect("an endpoint");
        let spawn = |name| system.spawn(name, Props::from_fn(|| Idle)).expect("free").to_any();
        let (old, new) = (spawn("old"), spawn("new"));
        let (mut watches, limits) = (PeerWatches::default(), Limits::new());
        let by = ByPeer { name: name(0), endpoint: endpoint.clone() };
        assert_eq!(watches.watch(&old, &by, 0, &limits), Noted::First);
        assert_eq!(watches.watch(&new, &by, 0, &limits), Noted::First);
        assert_eq!(watches.terminated(&old).len(), 1);
        assert_eq!(watches.terminated(&old).len(), 0);
        assert_eq!(watches.unwatch(endpoint.address(), &name(0)), [new]);
        assert_eq!((watches.total, watches.by_peer.len(), watches.by_actor.len()), (0, 0, 0));
        remote.shutdown(false).await;
    }

    /// The end of a peer that is told of late strikes nothing that it has said since by a newer call.
    #[tokio::test]
    async fn what_a_newer_call_says_outlives_the_end_of_the_older_ones() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let endpoint = remote.manager().ensure_connected("client-one:1").expect("an endpoint");
        let spawn = |name| system.spawn(name, Props::from_fn(|| Idle)).expect("free").to_any();
        let (first, second, third) = (spawn("first"), spawn("second"), spawn("third"));
        let (mut watches, limits) = (PeerWatches::default(), Limits::new());
        let by = |number| ByPeer { name: name(number), endpoint: endpoint.clone() };
        assert_eq!(watches.watch(&first, &by(1), 4, &limits), Noted::First);
        assert_eq!(watches.watch(&second, &by(2), 4, &limits), Noted::First);
        assert_eq!(watches.watch(&second, &by(2), 5, &limits), Noted::Again);
        assert_eq!(watches.watch(&third, &by(3), 5, &limits), Noted::First);
        // By a call that begins as one of the actors has ended and its end is not known yet.
        let fourth = spawn("fourth");
        assert_eq!(watches.watch(&fourth, &by(4), 4, &limits), Noted::First);
        assert!(watches.awaits(&by(4), 5) && !watches.awaits(&by(5), 5));
        assert_eq!(watches.gone(endpoint.address(), 5), [first]);
        assert_eq!(watches.terminated(&fourth).len(), 1);
        assert!(!watches.awaits(&by(4), 5), "it is told");
        assert_eq!(watches.total, 2);
        assert_eq!(watches.gone(endpoint.address(), 5), []);
        assert_eq!(watches.gone(endpoint.address(), 6).len(), 2);
        assert_eq!((watches.total, watches.by_peer.len(), watches.by_actor.len()), (0, 0, 0));
        remote.shutdown(false).await;
    }
}
