//! Whole nodes made of machines on one virtual clock: no sockets, no threads, no sleeping.
//!
//! A [`Net`] steps to the earlier of the next arrival and the next deadline. Connections keep the transport's
//! promise (bytes of one direction in order, until a cut); beneath it, `loss`, `duplication` and `jitter` apply to
//! handshake and control frames, which is more than a real transport would ever do to them. The confirmation of a
//! handshake keeps its place before the frames behind it. Ordinary frames are numbered by position and so are only
//! ever cut off, also in the middle of a frame.

#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nexus_actor_core::path::{ActorPath, ActorPathScheme, ActorUid, Address, Authority};
use nexus_actor_core::remote::{PendingReply, ReplyKey, Route};
use nexus_actor_core::serialization::scope::{self, LiftedReply};
use nexus_actor_core::serialization::{DecodeError, Encoder, SerializerId};
use nexus_actor_core::{AskError, DeadLetterReason, Instant, Refusal, TerminationReason};
use nexus_remote::association::*;
use nexus_remote::wire::*;

pub const MS: fn(u64) -> Duration = Duration::from_millis;
pub const S: fn(u64) -> Duration = Duration::from_secs;

/// Bytes a connection takes before its writer must wait.
const SOCKET: usize = 512 * 1024;

/// An ask of the test: what became of it.
#[derive(Default)]
pub struct Probe {
    pub answer: Mutex<Option<Result<Vec<u8>, AskError>>>,
    pub given_up: Mutex<bool>,
}

impl PendingReply for Probe {
    fn complete(&self, payload: &[u8]) -> Result<(), DecodeError> {
        self.answer.lock().unwrap().get_or_insert(Ok(payload.to_vec()));
        Ok(())
    }
    fn fail(&self, error: AskError) {
        self.answer.lock().unwrap().get_or_insert(Err(error));
    }
    fn pending_at(&self, _: Option<(Arc<dyn Route>, ReplyKey)>) {}
    fn is_over(&self) -> bool {
        *self.given_up.lock().unwrap() || self.answer.lock().unwrap().is_some()
    }
}

impl Probe {
    pub fn result(&self) -> Option<Result<Vec<u8>, AskError>> {
        self.answer.lock().unwrap().clone()
    }
}

/// A message that reached an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub path: String,
    pub number: u64,
    pub reply_to: Option<ReplyKey>,
    pub headers: Vec<(String, String)>,
}

/// One node's end of one association.
pub struct Side {
    pub association: Association,
    pub inbound: Inbound,
    pub events: Vec<AssociationEvent>,
    pub notices: Vec<TerminationNotice>,
    connections: BTreeSet<ConnectionId>,
    attached: BTreeSet<ConnectionId>,
    handles: BTreeMap<(String, u64), u32>,
}

impl Side {
    pub fn lost(&self) -> Vec<(DeadLetterReason, u64)> {
        let mut counts: BTreeMap<DeadLetterReason, u64> = BTreeMap::new();
        for event in &self.events {
            if let AssociationEvent::Lost(lost) = event {
                *counts.entry(lost.reason).or_default() += 1;
            }
        }
        counts.into_iter().collect()
    }

    pub fn count(&self, test: impl Fn(&AssociationEvent) -> bool) -> usize {
        self.events.iter().filter(|e| test(e)).count()
    }

    pub fn associated(&self) -> usize {
        self.count(|e| matches!(e, AssociationEvent::Associated { .. }))
    }

    pub fn disconnected(&self) -> usize {
        self.count(|e| matches!(e, AssociationEvent::Disconnected { .. }))
    }

    pub fn quarantined(&self) -> Vec<QuarantineReason> {
        self.events
            .iter()
            .filter_map(|e| match e {
                AssociationEvent::Quarantined { reason, .. } => Some(*reason),
                _ => None,
            })
            .collect()
    }

    pub fn state(&self) -> StateKind {
        self.association.state().kind()
    }
}

pub struct Node {
    pub uid: ActorUid,
    pub address: Address,
    /// Whether somebody listens.
    pub up: bool,
    /// The machine's timers and reads stand still.
    pub paused: bool,
    /// Reads nothing; what arrives stays in the sockets.
    pub deaf: bool,
    /// Living actors by path.
    pub actors: BTreeMap<String, ActorUid>,
    pub delivered: Vec<Delivery>,
    pub nobody: u64,
    /// Which (path, uid) is watched here, by which peers.
    pub watched: BTreeMap<(String, ActorUid), BTreeSet<usize>>,
    pub stops: Vec<String>,
    pub sides: BTreeMap<usize, Side>,
    /// Only numbers of deliveries are kept, in order: for millions of messages.
    pub terse: Option<Vec<u64>>,
    /// Answers every ask with the payload it came with.
    pub echo: bool,
    backlog: VecDeque<Packet>,
}

#[derive(Clone)]
struct Packet {
    connection: u64,
    to_acceptor: bool,
    bytes: Vec<u8>,
    /// A control frame that took its own way.
    stray: bool,
}

enum Arrival {
    Packet(Packet),
    Dialled { node: usize, peer: usize, id: ConnectionId, result: Result<u64, DialError> },
    Lost { node: usize, peer: usize, id: ConnectionId, cause: LostCause },
}

struct Connection {
    opener: (usize, ConnectionId),
    acceptor: (usize, ConnectionId),
    /// Which side's bytes still get through: to the acceptor, to the opener.
    flows: [bool; 2],
    preamble: [bool; 2],
    confirmed: [bool; 2],
    in_flight: [usize; 2],
    last_arrival: [Instant; 2],
    /// The association at the acceptor, known by the request.
    accepted: bool,
}

pub struct Net {
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub rng: fastrand::Rng,
    pub latency: Duration,
    /// Of control and handshake frames, 0 to 1.
    pub loss: f64,
    pub duplication: f64,
    /// Control frames take up to this much longer, and so overtake each other.
    pub jitter: Duration,
    /// Dials and bytes from the first to the second node vanish.
    pub holes: BTreeSet<(usize, usize)>,
    pub config: Arc<AssociationConfig>,
    /// Frames by kind that were put on the wire.
    pub frames: BTreeMap<u8, u64>,
    pub dials: u64,
    pub proof: PeerProof,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    sequence: u64,
    connections: BTreeMap<u64, Connection>,
    connection_next: u64,
    pub steps: u64,
}

pub fn address(port: u16) -> Address {
    Address {
        scheme: ActorPathScheme::FraktorLoopback,
        system: Arc::from("sys"),
        authority: Some(Authority::new("host", port)),
    }
}

impl Net {
    /// `count` nodes with uids 1, 2, 3 .. that know nothing of each other.
    pub fn new(count: usize, seed: u64) -> Self {
        Self::with(count, seed, AssociationConfig::builder().build().unwrap())
    }

    pub fn with(count: usize, seed: u64, config: Arc<AssociationConfig>) -> Self {
        let nodes = (0..count)
            .map(|i| Node {
                uid: ActorUid::new(i as u64 + 1),
                address: address(i as u16 + 1),
                up: true,
                paused: false,
                deaf: false,
                actors: BTreeMap::from([("/user/a".to_string(), ActorUid::new(77))]),
                delivered: Vec::new(),
                nobody: 0,
                watched: BTreeMap::new(),
                stops: Vec::new(),
                sides: BTreeMap::new(),
                terse: None,
                echo: true,
                backlog: VecDeque::new(),
            })
            .collect();
        Self {
            now: Instant::from_millis(1_000),
            nodes,
            rng: fastrand::Rng::with_seed(seed),
            latency: MS(1),
            loss: 0.0,
            duplication: 0.0,
            jitter: Duration::ZERO,
            holes: BTreeSet::new(),
            config,
            frames: BTreeMap::new(),
            dials: 0,
            proof: PeerProof::Claimed,
            arrivals: BTreeMap::new(),
            sequence: 0,
            connections: BTreeMap::new(),
            connection_next: 0,
            steps: 0,
        }
    }

    pub fn side(&mut self, node: usize, peer: usize) -> &mut Side {
        let (local, to) = (self.id(node), self.nodes[peer].address.clone());
        let (config, seed) = (self.config.clone(), self.rng.u64(..));
        self.nodes[node].sides.entry(peer).or_insert_with(|| Side {
            inbound: Inbound::new(&config),
            association: Association::new(config, local, to, peer as u16, seed).unwrap(),
            events: Vec::new(),
            notices: Vec::new(),
            connections: BTreeSet::new(),
            attached: BTreeSet::new(),
            handles: BTreeMap::new(),
        })
    }

    pub fn id(&self, node: usize) -> RemoteNodeId {
        let n = &self.nodes[node];
        RemoteNodeId::at(NodeAddress::of(&n.address).unwrap(), n.uid).unwrap()
    }

    pub fn path(&self, node: usize, name: &str, uid: u64) -> ActorPath {
        ActorPath::new(self.nodes[node].address.clone(), name, ActorUid::new(uid))
    }

    // Commands

    pub fn handle(&mut self, from: usize, to: usize, name: &str, uid: u64) -> u32 {
        let path = self.path(to, name, uid);
        let side = self.side(from, to);
        let key = (name.to_string(), uid);
        if let Some(handle) = side.handles.get(&key) {
            return *handle;
        }
        let handle = side.association.intern(&path, SerializerId::POSTCARD, "test.message@1").unwrap();
        side.handles.insert(key, handle);
        handle
    }

    /// Sends message `number` with `size` bytes to `name` (uid 0: to the name).
    pub fn send(
        &mut self,
        from: usize,
        to: usize,
        name: &str,
        uid: u64,
        number: u64,
        size: usize,
    ) -> Result<Sent, Refusal> {
        let handle = self.handle(from, to, name, uid);
        self.send_to(from, to, handle, number, size)
    }

    pub fn send_to(
        &mut self,
        from: usize,
        to: usize,
        handle: u32,
        number: u64,
        size: usize,
    ) -> Result<Sent, Refusal> {
        let now = self.now;
        let filler = vec![0xAA; size.saturating_sub(8)];
        let association = &mut self.nodes[from].sides.get_mut(&to).unwrap().association;
        let sent = association.send(now, handle, None, &mut |e: &mut Encoder<'_>| {
            e.put(&number.to_le_bytes())?;
            e.put(&filler)
        });
        let wake = association.take_wake();
        if wake || matches!(&sent, Ok(s) if s.wake) {
            self.pump(from, to);
        }
        sent
    }

    /// As [`send`](Self::send) of 16 bytes to the name `/user/a`, which must be accepted.
    #[track_caller]
    pub fn tell(&mut self, from: usize, to: usize, number: u64) {
        let _sent = self.send(from, to, "/user/a", 0, number, 16).unwrap();
    }

    pub fn ask(&mut self, from: usize, to: usize, name: &str) -> Result<(Arc<Probe>, ReplyKey), Refusal> {
        let handle = self.handle(from, to, name, 0);
        let probe = Arc::new(Probe::default());
        let now = self.now;
        let association = &mut self.nodes[from].sides.get_mut(&to).unwrap().association;
        let sent = association.send(now, handle, None, &mut |e: &mut Encoder<'_>| {
            scope::lift(LiftedReply::Pending(probe.clone())).unwrap();
            e.put(&7_u64.to_le_bytes())
        })?;
        assert!(sent.asked);
        let (_, key) = association.take_asked().unwrap();
        self.pump(from, to);
        Ok((probe, key))
    }

    pub fn watch(&mut self, from: usize, to: usize, name: &str, uid: u64, watcher: u64) {
        let path = self.path(to, name, uid);
        let now = self.now;
        self.side(from, to).association.watch(now, WatcherId(watcher), &path);
        self.pump(from, to);
    }

    pub fn unwatch(&mut self, from: usize, to: usize, name: &str, uid: u64, watcher: u64) {
        let path = self.path(to, name, uid);
        let now = self.now;
        self.side(from, to).association.unwatch(now, WatcherId(watcher), &path);
        self.pump(from, to);
    }

    /// Runs a command on one end and looks at what follows from it.
    pub fn with_side<R>(
        &mut self,
        node: usize,
        peer: usize,
        command: impl FnOnce(&mut Association, Instant) -> R,
    ) -> R {
        let now = self.now;
        let result = command(&mut self.side(node, peer).association, now);
        self.pump(node, peer);
        result
    }

    /// An actor stops; its watchers' nodes are told.
    pub fn stop_actor(&mut self, node: usize, name: &str) {
        let Some(uid) = self.nodes[node].actors.remove(name) else { return };
        let now = self.now;
        for as_watched in [uid, ActorUid::ANY] {
            let peers = self.nodes[node].watched.remove(&(name.to_string(), as_watched)).unwrap_or_default();
            for peer in peers {
                let path = WirePath::new(name).unwrap();
                let association = &mut self.side(node, peer).association;
                association.local_terminated(now, &path, as_watched, TerminationReason::Stopped);
                self.pump(node, peer);
            }
        }
    }

    // Faults

    /// Cuts every connection between two nodes at a random byte; both notice.
    pub fn cut(&mut self, a: usize, b: usize) {
        let cut: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| [(a, b), (b, a)].contains(&(c.opener.0, c.acceptor.0)))
            .map(|(id, _)| *id)
            .collect();
        for id in cut {
            for to_acceptor in [true, false] {
                self.cut_direction(id, to_acceptor);
            }
            self.drop_connection(id, LostCause::Broken);
        }
    }

    /// What is under way gets through up to a random byte.
    fn cut_direction(&mut self, id: u64, to_acceptor: bool) {
        let keys: Vec<_> = self
            .arrivals
            .iter()
            .filter(|(_, a)| {
                matches!(a, Arrival::Packet(p) if p.connection == id && p.to_acceptor == to_acceptor)
            })
            .map(|(key, _)| *key)
            .collect();
        let whole = if keys.is_empty() { 0 } else { self.rng.usize(..=keys.len()) };
        for (i, key) in keys.into_iter().enumerate() {
            let Some(Arrival::Packet(mut packet)) = self.arrivals.remove(&key) else { continue };
            if i > whole {
                continue;
            }
            if i == whole && !packet.bytes.is_empty() {
                packet.bytes.truncate(self.rng.usize(..packet.bytes.len()));
            }
            self.receive(packet);
        }
    }

    /// Ends a connection; each end learns of it after the latency, if bytes get there.
    fn drop_connection(&mut self, id: u64, cause: LostCause) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let (opener, acceptor) = (connection.opener, connection.acceptor);
        for (end, other) in [(opener, acceptor), (acceptor, opener)] {
            let at = self.now + Duration::from_nanos(1);
            self.schedule(at, Arrival::Lost { node: end.0, peer: other.0, id: end.1, cause });
        }
    }

    /// Only `deaf_end` does not notice that its connections to `other` are gone.
    pub fn half_open(&mut self, deaf_end: usize, other: usize) {
        let ids: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| [(deaf_end, other), (other, deaf_end)].contains(&(c.opener.0, c.acceptor.0)))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.flows = [false, false];
            let end = if connection.opener.0 == other { connection.opener } else { connection.acceptor };
            let at = self.now + Duration::from_nanos(1);
            let cause = LostCause::Broken;
            self.schedule(at, Arrival::Lost { node: other, peer: deaf_end, id: end.1, cause });
        }
    }

    /// Nothing passes between two nodes, and neither is told.
    pub fn partition(&mut self, a: usize, b: usize) {
        self.holes.extend([(a, b), (b, a)]);
    }

    pub fn heal(&mut self, a: usize, b: usize) {
        self.holes.remove(&(a, b));
        self.holes.remove(&(b, a));
    }

    /// The process ends: its sockets close, nobody listens.
    pub fn kill(&mut self, node: usize) {
        let ids: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| c.opener.0 == node || c.acceptor.0 == node)
            .map(|(id, _)| *id)
            .collect();
        let n = &mut self.nodes[node];
        n.up = false;
        n.sides.clear();
        n.watched.clear();
        n.backlog.clear();
        for id in ids {
            for to_acceptor in [true, false] {
                self.cut_direction(id, to_acceptor);
            }
            self.drop_connection(id, LostCause::Closed);
        }
        self.nodes[node].sides.clear();
        self.nodes[node].watched.clear();
    }

    /// A new process at the same address, with a new uid.
    pub fn start(&mut self, node: usize, uid: u64) {
        let n = &mut self.nodes[node];
        n.uid = ActorUid::new(uid);
        n.up = true;
        n.delivered.clear();
    }

    // Running

    fn schedule(&mut self, at: Instant, arrival: Arrival) {
        self.sequence += 1;
        self.arrivals.insert((at, self.sequence), arrival);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let nodes = self.nodes.iter().filter(|n| !n.paused);
        nodes
            .flat_map(|n| n.sides.values().filter_map(|s| s.association.poll_timeout().map(|(at, _)| at)))
            .min()
    }

    /// Runs until nothing happens before `until`.
    pub fn run_until(&mut self, until: Instant) {
        loop {
            let arrival = self.arrivals.keys().next().map(|(at, _)| *at);
            let next = match (arrival, self.next_deadline()) {
                (Some(a), Some(b)) => a.min(b),
                (Some(a), None) | (None, Some(a)) => a,
                (None, None) => break,
            };
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            self.steps += 1;
            assert!(self.steps < 50_000_000, "the machines do not come to rest");
            while let Some((&key, _)) = self.arrivals.first_key_value() {
                if key.0 > self.now {
                    break;
                }
                let Some(arrival) = self.arrivals.remove(&key) else { break };
                self.arrive(arrival);
            }
            self.fire();
        }
        self.now = self.now.max(until);
    }

    pub fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until `test` holds, at most for `time`; returns how long it took.
    #[track_caller]
    pub fn run_till(&mut self, time: Duration, mut test: impl FnMut(&mut Self) -> bool) -> Duration {
        let start = self.now;
        let end = start + time;
        while !test(self) {
            assert!(self.now < end, "not within {time:?}");
            let arrival = self.arrivals.keys().next().map(|(at, _)| *at);
            let next = arrival.into_iter().chain(self.next_deadline()).min().unwrap_or(end);
            self.run_until(next.max(self.now).min(end));
        }
        self.now - start
    }

    fn fire(&mut self) {
        let due: Vec<(usize, usize)> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, n)| !n.paused)
            .flat_map(|(i, n)| {
                let sides = n.sides.iter();
                sides
                    .filter(|(_, s)| s.association.poll_timeout().is_some_and(|(at, _)| at <= self.now))
                    .map(move |(p, _)| (i, *p))
            })
            .collect();
        for (node, peer) in due {
            let now = self.now;
            if let Some(side) = self.nodes[node].sides.get_mut(&peer) {
                side.association.handle_timeout(now);
            }
            self.pump(node, peer);
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Packet(packet) => self.receive(packet),
            Arrival::Dialled { node, peer, id, result } => {
                let now = self.now;
                let Some(side) = self.nodes[node].sides.get_mut(&peer) else { return };
                if !side.connections.contains(&id) {
                    return;
                }
                let outcome = match result {
                    Ok(connection) if self.connections.contains_key(&connection) => Ok(()),
                    Ok(_) => Err(DialError::Failed),
                    Err(error) => Err(error),
                };
                if outcome.is_err() {
                    side.connections.remove(&id);
                }
                side.association.handle_dialled(now, id, outcome);
                self.pump(node, peer);
            }
            Arrival::Lost { node, peer, id, cause } => {
                let now = self.now;
                let Some(side) = self.nodes[node].sides.get_mut(&peer) else { return };
                if side.connections.remove(&id) {
                    side.association.handle_connection_lost(now, id, cause);
                    self.pump(node, peer);
                }
            }
        }
    }

    /// Takes every output of one end.
    pub fn pump(&mut self, node: usize, peer: usize) {
        let mut transmit = Transmit::new();
        loop {
            let now = self.now;
            let Some(side) = self.nodes[node].sides.get_mut(&peer) else { return };
            let _wake = side.association.take_wake();
            let mut progress = false;
            let events: Vec<_> = std::iter::from_fn(|| side.association.poll_event()).collect();
            for event in events {
                progress = true;
                self.on_event(node, peer, event);
            }
            let side = self.side(node, peer);
            if let Some(id) = side.association.poll_dial(now) {
                side.connections.insert(id);
                self.dial(node, peer, id);
                progress = true;
            }
            let side = self.side(node, peer);
            let ids: Vec<ConnectionId> = side.connections.iter().copied().collect();
            for id in ids {
                let Some(connection) = self.connection_of(node, id) else { continue };
                loop {
                    let to_acceptor = self.connections[&connection].opener == (node, id);
                    if self.connections[&connection].in_flight[usize::from(!to_acceptor)] > SOCKET {
                        break;
                    }
                    let side = self.side(node, peer);
                    if !side.association.poll_transmit(now, id, &mut transmit) {
                        break;
                    }
                    progress = true;
                    let mut bytes = std::mem::take(&mut transmit.head);
                    if let Some((run, range)) = transmit.run.take() {
                        bytes.extend_from_slice(&run[range]);
                    }
                    self.put(connection, to_acceptor, bytes);
                }
            }
            while let Some((id, _)) = self.side(node, peer).association.poll_close() {
                progress = true;
                self.close(node, peer, id);
            }
            if !progress {
                return;
            }
        }
    }

    fn connection_of(&self, node: usize, id: ConnectionId) -> Option<u64> {
        let found = self.connections.iter().find(|(_, c)| c.opener == (node, id) || c.acceptor == (node, id));
        found.map(|(id, _)| *id)
    }

    fn dial(&mut self, node: usize, peer: usize, id: ConnectionId) {
        self.dials += 1;
        if self.holes.contains(&(node, peer)) || self.holes.contains(&(peer, node)) {
            return;
        }
        let at = self.now + 2 * self.latency;
        let result = if self.nodes[peer].up {
            self.connection_next += 1;
            let number = self.connection_next;
            let connection = Connection {
                opener: (node, id),
                acceptor: (peer, ConnectionId::accepted(number)),
                flows: [true, true],
                preamble: [false, false],
                confirmed: [false, false],
                in_flight: [0, 0],
                last_arrival: [Instant::ZERO; 2],
                accepted: false,
            };
            self.connections.insert(number, connection);
            Ok(number)
        } else {
            Err(DialError::Refused)
        };
        self.schedule(at, Arrival::Dialled { node, peer, id, result });
    }

    fn close(&mut self, node: usize, peer: usize, id: ConnectionId) {
        if let Some(side) = self.nodes[node].sides.get_mut(&peer) {
            side.connections.remove(&id);
        }
        let Some(number) = self.connection_of(node, id) else { return };
        let connection = &mut self.connections.get_mut(&number).unwrap();
        let mine = connection.opener == (node, id);
        let other = if mine { connection.acceptor } else { connection.opener };
        let direction = usize::from(!mine);
        // What was written before the close still arrives.
        let at = (self.now + self.latency).max(connection.last_arrival[direction]) + Duration::from_nanos(1);
        connection.flows[usize::from(mine)] = false;
        if !self.holes.contains(&(node, peer)) {
            let cause = LostCause::Closed;
            self.schedule(at, Arrival::Lost { node: other.0, peer: node, id: other.1, cause });
        }
    }

    /// Puts bytes on the wire; control frames may go their own ways.
    fn put(&mut self, number: u64, to_acceptor: bool, bytes: Vec<u8>) {
        let direction = usize::from(!to_acceptor);
        let connection = self.connections.get_mut(&number).unwrap();
        let mut at = if connection.preamble[direction] { 0 } else { 16 };
        connection.preamble[direction] = true;
        let faulty = self.loss > 0.0 || self.duplication > 0.0 || !self.jitter.is_zero();
        let mut stream = bytes[..at].to_vec();
        let mut strays = Vec::new();
        while at < bytes.len() {
            let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize + 4;
            let frame = &bytes[at..at + length];
            *self.frames.entry(frame[4]).or_default() += 1;
            let connection = self.connections.get_mut(&number).unwrap();
            let confirms = frame[4] == 0x12 && !std::mem::replace(&mut connection.confirmed[direction], true);
            if faulty && frame[4] < 0x20 && !(0x15..=0x17).contains(&frame[4]) && !confirms {
                strays.push(frame.to_vec());
            } else {
                stream.extend_from_slice(frame);
            }
            at += length;
        }
        if !stream.is_empty() {
            let connection = self.connections.get_mut(&number).unwrap();
            connection.in_flight[direction] += stream.len();
            let arrival = (self.now + self.latency).max(connection.last_arrival[direction]);
            connection.last_arrival[direction] = arrival;
            let packet = Packet { connection: number, to_acceptor, bytes: stream, stray: false };
            self.schedule(arrival, Arrival::Packet(packet));
        }
        for frame in strays {
            let copies = usize::from(self.rng.f64() >= self.loss)
                * (1 + usize::from(self.rng.f64() < self.duplication));
            for _ in 0..copies {
                let extra = self.jitter.mul_f64(self.rng.f64());
                let packet = Packet { connection: number, to_acceptor, bytes: frame.clone(), stray: true };
                self.schedule(self.now + self.latency + extra, Arrival::Packet(packet));
            }
        }
    }

    fn receive(&mut self, packet: Packet) {
        let number = packet.connection;
        let direction = usize::from(!packet.to_acceptor);
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if !packet.stray {
            connection.in_flight[direction] =
                connection.in_flight[direction].saturating_sub(packet.bytes.len());
        }
        if !connection.flows[direction] {
            return;
        }
        let (to, from) = if packet.to_acceptor {
            (connection.acceptor, connection.opener)
        } else {
            (connection.opener, connection.acceptor)
        };
        let (node, peer, id) = (to.0, from.0, to.1);
        if self.holes.contains(&(peer, node)) || !self.nodes[node].up {
            return;
        }
        if self.nodes[node].deaf || self.nodes[node].paused {
            connection.in_flight[direction] += packet.bytes.len();
            self.nodes[node].backlog.push_back(packet);
            return;
        }
        let bytes = &packet.bytes;
        let mut at = if bytes.starts_with(&MAGIC) { 16 } else { 0 };
        let mut ordinary = 0;
        while at + 20 <= bytes.len() {
            let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize + 4;
            if at + length > bytes.len() {
                break;
            }
            let raw = RawFrame::from_bytes(&bytes[at..at + length]).unwrap();
            at += length;
            if raw.header.kind.lane() == Lane::Ordinary {
                ordinary += length;
                if !self.ordinary(node, peer, id, raw) {
                    break;
                }
            } else {
                self.control(node, peer, id, ControlFrame::decode(raw).unwrap(), number);
            }
            if !self.nodes[node].sides.contains_key(&peer) {
                return;
            }
        }
        let now = self.now;
        if ordinary > 0
            && let Some(side) = self.nodes[node].sides.get_mut(&peer)
        {
            let next = side.inbound.next();
            side.association.handle_received(now, id, next, ordinary, true);
            while let Some(notice) = side.inbound.released() {
                side.notices.push(notice);
            }
        }
        self.pump(node, peer);
        // The sender's socket has room again.
        self.pump(peer, node);
    }

    /// Lets a deaf or paused node read what has waited.
    pub fn catch_up(&mut self, node: usize) {
        self.nodes[node].deaf = false;
        self.nodes[node].paused = false;
        while let Some(packet) = self.nodes[node].backlog.pop_front() {
            self.receive(packet);
        }
    }

    fn control(&mut self, node: usize, peer: usize, id: ConnectionId, frame: ControlFrame, number: u64) {
        let now = self.now;
        let proof = self.proof;
        let accepted = self.connections.get(&number).is_some_and(|c| c.accepted);
        match frame {
            ControlFrame::Request(request) if id.is_accepted() && !accepted => {
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.accepted = true;
                }
                let side = self.side(node, peer);
                side.connections.insert(id);
                side.association.handle_accepted(now, id, *request, proof);
            }
            frame => self.side(node, peer).association.handle_control(now, id, frame),
        }
        let side = self.side(node, peer);
        if !side.attached.contains(&id)
            && let Some(attachment) = side.association.attachment(id)
        {
            side.attached.insert(id);
            let _gone = side.inbound.attach(attachment);
            while let Some(notice) = side.inbound.released() {
                side.notices.push(notice);
            }
        }
        self.pump(node, peer);
    }

    fn ordinary(&mut self, node: usize, peer: usize, id: ConnectionId, raw: RawFrame<'_>) -> bool {
        let now = self.now;
        let Some(side) = self.nodes[node].sides.get_mut(&peer) else { return false };
        if !side.attached.contains(&id) {
            // The confirmation was lost: nothing passes before the handshake completes.
            let what = "an ordinary frame before the handshake";
            side.association.handle_fault(now, id, QuarantineReason::ProtocolFault, &what);
            self.pump(node, peer);
            return false;
        }
        let frame = OrdinaryFrame::decode(raw).unwrap();
        match side.inbound.place(id, &frame) {
            Ok(Placed::Deliver { .. }) => {}
            Ok(Placed::Defined | Placed::Duplicate | Placed::Stale) => return true,
            Err(fault) => panic!("{fault}"),
        }
        match frame {
            OrdinaryFrame::Envelope(envelope) => {
                let entry = side.inbound.reference_mut(envelope.recipient).expect("a defined recipient");
                let (path, uid) = (entry.path.clone(), entry.uid);
                assert!(side.inbound.manifest(envelope.manifest).is_some(), "a defined manifest");
                let n = &mut self.nodes[node];
                let lives = n.actors.get(&*path).is_some_and(|live| uid.is_any() || *live == uid);
                let echo = n.echo;
                if !lives {
                    n.nobody += 1;
                    if let Some(reply_to) = envelope.reply_to {
                        let side = n.sides.get_mut(&peer).unwrap();
                        let id = envelope.correlation_id;
                        let _sent =
                            side.association.reply_failed(now, reply_to.key(), id, AskError::NoSuchActor);
                    }
                    return true;
                }
                let number = u64::from_le_bytes(envelope.payload[..8].try_into().unwrap());
                if let Some(terse) = &mut n.terse {
                    terse.push(number);
                    return true;
                }
                n.delivered.push(Delivery {
                    path: path.to_string(),
                    number,
                    reply_to: envelope.reply_to.map(|r| r.key()),
                    headers: envelope.headers.map_or(Vec::new(), |h| {
                        h.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
                    }),
                });
                if let Some(reply_to) = envelope.reply_to.filter(|_| echo) {
                    let side = n.sides.get_mut(&peer).unwrap();
                    let payload = envelope.payload.to_vec();
                    let _sent = side.association.reply(
                        now,
                        reply_to.key(),
                        envelope.correlation_id,
                        &mut |e: &mut Encoder<'_>| e.put(&payload),
                    );
                }
            }
            OrdinaryFrame::Reply(reply) => {
                if let Some(ask) = side.association.handle_reply(reply.key) {
                    ask.complete(reply.payload).unwrap();
                }
            }
            OrdinaryFrame::ReplyFailed(failed) => {
                if let Some(ask) = side.association.handle_reply(failed.key) {
                    ask.fail(failed.error);
                }
            }
            OrdinaryFrame::Lookup(lookup) => {
                let found = self.nodes[node].actors.get(lookup.path()).copied();
                let side = self.nodes[node].sides.get_mut(&peer).unwrap();
                let (key, id) = (lookup.key(), lookup.correlation_id());
                let _sent = match found {
                    Some(uid) => side
                        .association
                        .reply(now, key, id, &mut |e: &mut Encoder<'_>| e.put(&uid.get().to_le_bytes())),
                    None => side.association.reply_failed(now, key, id, AskError::NoSuchActor),
                };
            }
            OrdinaryFrame::DefineReference(_) | OrdinaryFrame::DefineManifest(_) => {}
        }
        true
    }

    fn on_event(&mut self, node: usize, peer: usize, event: AssociationEvent) {
        let now = self.now;
        match &event {
            AssociationEvent::WatchRequested { path, uid } => {
                let n = &mut self.nodes[node];
                let lives = n.actors.get(path.as_str()).is_some_and(|live| uid.is_any() || live == uid);
                if lives {
                    n.watched.entry((path.to_string(), *uid)).or_default().insert(peer);
                } else {
                    let association = &mut n.sides.get_mut(&peer).unwrap().association;
                    association.local_terminated(now, path, *uid, TerminationReason::NeverExisted);
                }
            }
            AssociationEvent::UnwatchRequested { path, uid } => {
                let key = (path.to_string(), *uid);
                if let Some(peers) = self.nodes[node].watched.get_mut(&key) {
                    peers.remove(&peer);
                }
                self.nodes[node].watched.retain(|_, peers| !peers.is_empty());
            }
            AssociationEvent::PeerWatchesEnded { .. } => {
                for peers in self.nodes[node].watched.values_mut() {
                    peers.remove(&peer);
                }
                self.nodes[node].watched.retain(|_, peers| !peers.is_empty());
            }
            AssociationEvent::StopRequested { path, .. } => {
                self.nodes[node].stops.push(path.to_string());
            }
            AssociationEvent::Terminated(notice) => {
                let side = self.nodes[node].sides.get_mut(&peer).unwrap();
                if let Some(notice) = side.inbound.hold(notice.clone()) {
                    side.notices.push(notice);
                }
            }
            AssociationEvent::AskFailed { ask, error } => ask.fail(error.clone()),
            _ => {}
        }
        if let Some(side) = self.nodes[node].sides.get_mut(&peer) {
            side.events.push(event);
        }
    }

    // Checks

    pub fn numbers(&self, node: usize) -> Vec<u64> {
        match &self.nodes[node].terse {
            Some(terse) => terse.clone(),
            None => self.nodes[node].delivered.iter().map(|d| d.number).collect(),
        }
    }

    /// S142 at one end.
    #[track_caller]
    pub fn check_accounting(&mut self, node: usize, peer: usize) {
        let s = self.side(node, peer).association.statistics();
        assert_eq!(s.sent, s.acknowledged + s.lost + s.in_flight, "{s:?}");
    }

    pub fn open_connections(&self) -> usize {
        self.connections.values().filter(|c| c.flows == [true, true]).count()
    }
}
