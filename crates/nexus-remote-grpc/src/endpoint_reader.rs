//! From batches to mailboxes: everything that peers send passes here, by whichever call.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nexus_actor_core::dead_letter::{DeadLetter, MessageInfo};
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::{ReplyKey, ReplyTo, Route};
use nexus_actor_core::serialization::protobuf::Named;
use nexus_actor_core::serialization::scope::{self, DecodeScope};
use nexus_actor_core::serialization::{Aftermath, Inlet, SerializerId};
use nexus_actor_core::{AnyRef, AskError, DeadLetterReason, Instant};
use prost::Message as _;

use crate::endpoint::Endpoint;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint::sender_route::SenderRoute;
use crate::endpoint_watcher::reason_of;
use crate::inbound::peer_watcher::PeerWatch;
use crate::kinds::{ACTIVATOR, ActivatorMessage, OwnerRequest, SpawnRequest, Spawned};
use crate::log;
use crate::node::{Node, route_of};
use crate::pending_asks::{self, FUTURE};
use crate::status::ResponseStatusCode;
use crate::wire::batch::{Batch, Envelope, EnvelopeFault};
use crate::wire::proto::actor;
use crate::wire::proto::remote::{ActorPidRequest, ActorPidResponse};

/// Actors that a call remembers; one more makes it forget all, and look them up again.
const KNOWN_MAX: usize = 16_384;

/// What a payload is for the runtimes; all but `User` they take themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Watch,
    Unwatch,
    Terminated,
    Stop,
    PoisonPill,
    Touch,
    /// It is delivered like a user message, and never answered: that would not end.
    Response,
    Spawn,
}

impl Kind {
    fn of(type_name: &str) -> Self {
        match type_name {
            "actor.Watch" => Self::Watch,
            "actor.Unwatch" => Self::Unwatch,
            "actor.Terminated" => Self::Terminated,
            "actor.Stop" => Self::Stop,
            "actor.PoisonPill" => Self::PoisonPill,
            "actor.Touch" => Self::Touch,
            "actor.Touched" | "actor.DeadLetterResponse" => Self::Response,
            "remote.ActorPidRequest" => Self::Spawn,
            _ => Self::User,
        }
    }

    /// Whether it is taken while the node is suspended: who watches whom, and who lives, would else be wrong for good.
    const fn is_of_books(self) -> bool {
        matches!(self, Self::Watch | Self::Unwatch | Self::Terminated | Self::Touch)
    }
}

/// Whom a target of the batch at hand means.
#[derive(Clone, Copy)]
enum Slot {
    NotAsked,
    /// An actor, by its place among those known.
    Actor(usize),
    Asker(ReplyKey),
    Activator,
    Nobody,
}

struct Known {
    actor: AnyRef,
    inlet: Option<Box<dyn Inlet>>,
    dirty: bool,
    /// Messages and their bytes that were put into its mailbox and are not counted yet.
    uncounted: (usize, usize),
}

/// Delivers what one peer sends down one call.
pub(crate) struct Inbound {
    node: Arc<Node>,
    endpoint: Arc<Endpoint>,
    route: Arc<dyn Route>,
    /// The peer has shown a certificate.
    is_authenticated: bool,
    /// It comes down a call that this node opened.
    is_dialled: bool,
    /// Its number, which goes with the watches that come by it.
    call: u64,
    may_spawn: bool,
    by_id: HashMap<Box<str>, usize>,
    known: Vec<Known>,
    dirty: Vec<usize>,
    after: Aftermath,
    /// The tables of the batch at hand.
    slots: Vec<Slot>,
    kinds: Vec<Kind>,
    senders: Vec<Option<Arc<PidEntry>>>,
    taken: u64,
    /// What is not counted yet, over all actors.
    uncounted: (usize, usize),
    /// Messages of the runtimes in the batch at hand.
    system: u32,
    /// User messages are refused: more wait in mailboxes than may.
    overfull: bool,
    /// When the next batch may be read, where that is not now.
    pause_until: Option<Instant>,
}

impl Drop for Inbound {
    /// What the peer has waiting here outlives its call.
    fn drop(&mut self) {
        self.count_all();
        if self.is_dialled {
            self.endpoint.intake.forget(self.call);
        }
    }
}

impl Inbound {
    pub(crate) fn new(node: &Arc<Node>, endpoint: &Arc<Endpoint>, is_authenticated: bool) -> Self {
        Self {
            node: node.clone(),
            endpoint: endpoint.clone(),
            route: route_of(endpoint),
            is_authenticated,
            is_dialled: false,
            call: node.next_call(),
            may_spawn: node.config.may_spawn(endpoint.address()),
            by_id: HashMap::new(),
            known: Vec::new(),
            dirty: Vec::new(),
            after: Aftermath::new(),
            slots: Vec::new(),
            kinds: Vec::new(),
            senders: Vec::new(),
            taken: 0,
            uncounted: (0, 0),
            system: 0,
            overfull: false,
            pause_until: None,
        }
    }

    /// For a call that this node opened.
    pub(crate) const fn dialled(mut self) -> Self {
        self.is_dialled = true;
        self
    }

    /// The number of the call, by which its driver waits for room as long as this is there.
    pub(crate) const fn call(&self) -> u64 {
        self.call
    }

    /// When the next batch may be read, where that is not now; once.
    pub(crate) const fn take_pause(&mut self) -> Option<Instant> {
        self.pause_until.take()
    }

    /// Messages taken so far, whatever became of them.
    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Delivers a batch: what is wrong with one message costs that message.
    pub(crate) fn batch(&mut self, batch: &Batch) {
        if let Some(form) = batch.form() {
            self.endpoint.note_form(form, self.is_authenticated || self.is_dialled);
        }
        self.prepare(batch);
        let system = self.node.system.clone();
        self.system = 0;
        self.overfull = self.endpoint.intake.is_overfull();
        let count = batch.len() as u64;
        // Before anybody can have an answer that is not counted.
        self.endpoint.statistics().add_received(count);
        {
            let _scope = DecodeScope::enter(&system, Some(self.route.clone()));
            let suspended = self.node.is_suspended();
            for item in batch.envelopes() {
                match item {
                    Ok(envelope) if suspended => self.suspended(&envelope),
                    Ok(envelope) => self.envelope(&envelope),
                    Err(fault) => self.faulty(batch, &fault),
                }
            }
            self.flush();
        }
        self.after.run();
        self.taken += count;
        if self.system > 0 {
            self.pause_until = self.endpoint.intake.took_system(self.system, system.now());
        }
        let (messages, bytes) = self.uncounted;
        if self.endpoint.intake.is_much(messages, bytes) {
            self.count_all();
        }
        if self.known.len() > KNOWN_MAX {
            self.forget_known();
        }
    }

    /// Empty tables for `batch`.
    fn prepare(&mut self, batch: &Batch) {
        self.slots.clear();
        self.slots.resize(batch.target_count(), Slot::NotAsked);
        self.senders.clear();
        self.senders.resize(batch.sender_count(), None);
        self.kinds.clear();
        self.kinds
            .extend((0..batch.type_name_count()).map(|at| batch.type_name(at).map_or(Kind::User, Kind::of)));
    }

    /// Records a batch that came by a way that none goes. Nothing of it is taken, and who asks by it is told.
    pub(crate) fn astray(&mut self, batch: &Batch, way: &str) {
        self.prepare(batch);
        self.endpoint.statistics().add_received(batch.len() as u64);
        for item in batch.envelopes() {
            match item {
                Ok(envelope) => {
                    // What the runtimes say is no question: to one of theirs, that nobody lives there is an answer.
                    let kind = if self.kind(&envelope) == Kind::User { Kind::User } else { Kind::Response };
                    self.refuse(&envelope, kind, DeadLetterReason::Denied, way);
                }
                Err(fault) => self.faulty(batch, &fault),
            }
        }
    }

    fn count_all(&mut self) {
        for at in 0..self.known.len() {
            self.count(at);
        }
        self.uncounted = (0, 0);
    }

    /// Forgets whom it knows. What they were sent waits all the same, so it is counted first.
    fn forget_known(&mut self) {
        self.count_all();
        self.known.clear();
        self.by_id.clear();
    }

    /// Gives back what a burst took; for a call that has gone quiet.
    pub(crate) fn release(&mut self) {
        self.after.release();
        for inlet in self.known.iter_mut().filter_map(|known| known.inlet.as_mut()) {
            if inlet.is_large() {
                inlet.shrink();
            }
        }
        if self.known.iter().any(|known| known.actor.is_terminated()) {
            // Places are numbers, so all go. Who lives is found again.
            self.forget_known();
        }
    }

    fn flush(&mut self) {
        for at in std::mem::take(&mut self.dirty) {
            self.flush_one(at);
        }
    }

    fn flush_one(&mut self, at: usize) {
        let Some(known) = self.known.get_mut(at) else { return };
        known.dirty = false;
        if let Some(inlet) = &mut known.inlet {
            inlet.flush(&mut self.after);
        }
        let (messages, bytes) = known.uncounted;
        if self.endpoint.intake.is_chunk(messages, bytes) {
            self.count(at);
        }
    }

    /// Notes that something of the peer is in the mailbox of an actor, to be counted when there is some of it.
    fn put(&mut self, at: usize, bytes: usize) {
        let of_actor = &mut self.known[at].uncounted;
        *of_actor = (of_actor.0 + 1, of_actor.1 + bytes);
        self.uncounted = (self.uncounted.0 + 1, self.uncounted.1 + bytes);
    }

    /// Counts what one actor was sent, until it has worked it off.
    fn count(&mut self, at: usize) {
        let (messages, bytes) = std::mem::take(&mut self.known[at].uncounted);
        if messages > 0 {
            self.uncounted.0 = self.uncounted.0.saturating_sub(messages);
            self.uncounted.1 = self.uncounted.1.saturating_sub(bytes);
            let waiting = self.endpoint.intake.put(messages, bytes);
            // Dropped unrun where the messages went to no mailbox either. One that is bounded, and full, needs no other bound.
            self.known[at].actor.call_in_order(Box::new(move || drop(waiting)));
        }
    }

    fn slot(&mut self, envelope: &Envelope<'_>) -> Slot {
        let at = envelope.target_index;
        if let Some(Slot::NotAsked) = self.slots.get(at) {
            self.slots[at] = self.look_up(envelope.target.id);
        }
        match self.slots.get(at) {
            Some(slot) => *slot,
            None => Slot::Nobody,
        }
    }

    fn look_up(&mut self, id: &str) -> Slot {
        if id.starts_with(FUTURE)
            && let Some(key) = pending_asks::key_of(id)
        {
            return Slot::Asker(key);
        }
        if id == ACTIVATOR {
            return Slot::Activator;
        }
        if let Some(at) = self.by_id.get(id).copied() {
            if !self.known[at].actor.is_terminated() {
                return Slot::Actor(at);
            }
            // The name may have a new owner. What was decoded for the old one is flushed to it all the same.
            self.by_id.remove(id);
        }
        let Some(actor) = self.node.find(id) else { return Slot::Nobody };
        self.known.push(Known { actor, inlet: None, dirty: false, uncounted: (0, 0) });
        let at = self.known.len() - 1;
        self.by_id.insert(Box::from(id), at);
        Slot::Actor(at)
    }

    fn kind(&self, envelope: &Envelope<'_>) -> Kind {
        if envelope.serializer == 0 {
            self.kinds.get(envelope.type_index).copied().unwrap_or(Kind::User)
        } else {
            // Not even a system message is one when it is written otherwise.
            Kind::User
        }
    }

    fn envelope(&mut self, envelope: &Envelope<'_>) {
        let kind = self.kind(envelope);
        let slot = self.slot(envelope);
        if !matches!(kind, Kind::User | Kind::Response) {
            self.system += 1;
        }
        match kind {
            Kind::User | Kind::Response => self.user(envelope, slot, kind),
            Kind::Touch => self.touch(envelope, slot),
            Kind::Watch => self.watch(envelope, slot),
            Kind::Unwatch => self.unwatch(envelope),
            Kind::Terminated => self.terminated(envelope),
            Kind::Stop | Kind::PoisonPill => self.lifecycle(envelope, slot, kind),
            Kind::Spawn => self.spawn(envelope, slot),
        }
    }

    fn user(&mut self, envelope: &Envelope<'_>, slot: Slot, kind: Kind) {
        let Ok(serializer) = u16::try_from(envelope.serializer) else {
            let detail = format!("serializer {}", envelope.serializer);
            return self.refuse(envelope, kind, DeadLetterReason::Decode, &detail);
        };
        let named = Named {
            type_name: envelope.type_name,
            serializer: SerializerId(serializer),
            payload: envelope.payload,
            has_sender: envelope.sender.is_some(),
        };
        match slot {
            Slot::Actor(_) if self.overfull => {
                let detail = "too much of this peer waits in mailboxes";
                self.refuse(envelope, kind, DeadLetterReason::MailboxFull, detail);
            }
            Slot::Actor(at) => self.deliver(at, &named, envelope, kind),
            Slot::Asker(key) => self.answer(key, &named, envelope),
            Slot::Activator | Slot::Nobody | Slot::NotAsked => {
                self.refuse(envelope, kind, DeadLetterReason::NoSuchActor, envelope.type_name);
            }
        }
    }

    fn deliver(&mut self, at: usize, named: &Named<'_>, envelope: &Envelope<'_>, kind: Kind) {
        if self.known[at].inlet.is_none() {
            match self.node.system.serialization().protobuf_inlet(&self.known[at].actor, &self.route) {
                Ok(inlet) => self.known[at].inlet = Some(inlet),
                Err(error) => {
                    return self.refuse(envelope, kind, DeadLetterReason::Decode, &error.to_string());
                }
            }
        }
        if named.has_sender && kind == Kind::User {
            let to = self.reply_to(envelope);
            scope::set_reply_to(to);
        }
        let headers = envelope.header.map(|header| header.to_headers());
        let known = &mut self.known[at];
        let Some(inlet) = &mut known.inlet else { return };
        let decoded = inlet.decode_named(named, headers);
        if named.has_sender {
            // Whoever asks an actor that does not answer waits in vain, as on any node of this lineage.
            drop(scope::take_reply_to());
        }
        match decoded {
            Ok(()) => {
                if !known.dirty {
                    known.dirty = true;
                    self.dirty.push(at);
                }
                self.put(at, size_of(envelope));
            }
            Err(_) if kind == Kind::Response => {}
            // The inlet has told the asker.
            Err(error) => self.lost(envelope, DeadLetterReason::Decode, &error.to_string()),
        }
    }

    fn answer(&mut self, key: ReplyKey, named: &Named<'_>, envelope: &Envelope<'_>) {
        let Some(ask) = self.node.asks.take(key) else {
            return self.lost(
                envelope,
                DeadLetterReason::NoSuchActor,
                "nobody waits for this answer any more",
            );
        };
        if named.type_name == "actor.DeadLetterResponse" {
            return ask.fail(AskError::NoSuchActor);
        }
        if let Err(error) = ask.complete_named(named) {
            self.lost(envelope, DeadLetterReason::Decode, &error.to_string());
        }
    }

    fn touch(&mut self, envelope: &Envelope<'_>, slot: Slot) {
        let Some(asker) = self.asker(envelope) else { return };
        let who = actor::Pid {
            address: self.node.address.to_string(),
            id: envelope.target.id.to_owned(),
            request_id: 0,
        };
        let mut answer = Touched { asker, who: Some(who), actor: None };
        match slot {
            Slot::Activator => answer.lives(),
            // It may live, so nothing is said.
            Slot::Actor(_) if self.overfull => {
                answer.withdraw();
                let detail = "too much of this peer waits in mailboxes";
                self.lost(envelope, DeadLetterReason::MailboxFull, detail);
            }
            Slot::Actor(at) => {
                self.flush_one(at);
                let actor = self.known[at].actor.clone();
                answer.actor = Some(actor.clone());
                if actor.call_in_order(Box::new(move || answer.lives())) {
                    self.put(at, envelope.target.id.len() + size_of(envelope));
                }
            }
            // Dropped, it says so.
            Slot::Asker(_) | Slot::Nobody | Slot::NotAsked => drop(answer),
        }
    }

    fn watch(&mut self, envelope: &Envelope<'_>, slot: Slot) {
        let Ok(actor::Watch { watcher: Some(watcher) }) = actor::Watch::decode(envelope.payload) else {
            return self.lost(envelope, DeadLetterReason::Decode, "a watch without a watcher");
        };
        if !self.is_within(&watcher) {
            return self.lost(envelope, DeadLetterReason::Limit, "the watcher's pid is too long");
        }
        let Some(watcher) = self.own_pid(watcher) else {
            return self.lost(envelope, DeadLetterReason::Denied, "the watcher is of another node");
        };
        let id: Arc<str> = Arc::from(envelope.target.id);
        match slot {
            Slot::Actor(at) => {
                self.flush_one(at);
                let actor = self.known[at].actor.clone();
                let endpoint = self.endpoint.clone();
                if self.node.watcher_is_full() {
                    return endpoint.send_terminated(&watcher, &id, actor::TerminatedReason::NotFound);
                }
                self.node.tell_watcher(PeerWatch::Watch { actor, id, watcher, endpoint, call: self.call });
            }
            // It lives as long as this node.
            Slot::Activator => {}
            // Its end, if it had one just now, is for the daemon to tell: this peer may have watched it by an earlier call.
            Slot::Nobody if !self.node.watcher_is_full() => {
                let endpoint = self.endpoint.clone();
                self.node.tell_watcher(PeerWatch::Missing { id, watcher, endpoint, call: self.call });
            }
            Slot::Asker(_) | Slot::Nobody | Slot::NotAsked => {
                self.endpoint.send_terminated(&watcher, &id, actor::TerminatedReason::NotFound);
            }
        }
    }

    fn unwatch(&mut self, envelope: &Envelope<'_>) {
        let Ok(actor::Unwatch { watcher: Some(watcher) }) = actor::Unwatch::decode(envelope.payload) else {
            return self.lost(envelope, DeadLetterReason::Decode, "an unwatch without a watcher");
        };
        if !self.is_within(&watcher) {
            return self.lost(envelope, DeadLetterReason::Limit, "the watcher's pid is too long");
        }
        if let Some(watcher) = self.own_pid(watcher) {
            self.node.tell_watcher(PeerWatch::Unwatch {
                id: Arc::from(envelope.target.id),
                watcher,
                address: self.endpoint.address().clone(),
            });
        }
    }

    fn terminated(&mut self, envelope: &Envelope<'_>) {
        let Ok(actor::Terminated { who: Some(who), why }) = actor::Terminated::decode(envelope.payload)
        else {
            return self.lost(envelope, DeadLetterReason::Decode, "a termination of nobody");
        };
        let Some(who) = self.own_pid(who) else {
            return self.lost(envelope, DeadLetterReason::Denied, "the terminated actor is of another node");
        };
        // One that nobody watches, or not any more, crossed the unwatch or was never asked for.
        self.flush();
        self.endpoint.watcher().terminated(&who.id, &reason_of(why));
    }

    fn lifecycle(&mut self, envelope: &Envelope<'_>, slot: Slot, kind: Kind) {
        let at = match slot {
            Slot::Actor(at) => at,
            Slot::Activator => return self.lost(envelope, DeadLetterReason::Denied, envelope.type_name),
            Slot::Asker(_) | Slot::Nobody | Slot::NotAsked => {
                return self.refuse(
                    envelope,
                    Kind::Response,
                    DeadLetterReason::NoSuchActor,
                    envelope.type_name,
                );
            }
        };
        self.flush_one(at);
        let actor = self.known[at].actor.clone();
        let carry_out = move |actor: &AnyRef| {
            if kind == Kind::Stop { actor.stop() } else { actor.stop_in_order() }
        };
        if self.node.config.get_peer_lifecycle() {
            // A pill waits as what was sent before it does.
            self.put(at, 0);
            return carry_out(&actor);
        }
        let denied = self.letter(
            envelope,
            DeadLetterReason::Denied,
            "the peer may not stop actors here; `Config::protoactor_parity()` would let it",
        );
        let activator = self.node.activator.get().filter(|_| self.is_authenticated);
        let Some(activator) = activator else {
            return self.node.system.dead_letters().record(denied);
        };
        if activator.mailbox_len() >= self.node.config.get_endpoint_manager_queue_size() {
            let detail = "too many commands of peers wait";
            return self.lost(envelope, DeadLetterReason::MailboxFull, detail);
        }
        // Of what it spawned itself a peer that has shown who it is may dispose.
        let node = self.node.clone();
        let stopped = actor.clone();
        activator.tell(ActivatorMessage::Owner(OwnerRequest {
            actor,
            peer: self.endpoint.address().clone(),
            owned: Box::new(move |owned| {
                if owned {
                    return carry_out(&stopped);
                }
                node.system.dead_letters().record(denied);
            }),
        }));
    }

    fn spawn(&mut self, envelope: &Envelope<'_>, slot: Slot) {
        if !matches!(slot, Slot::Activator) {
            return self.user(envelope, slot, Kind::User);
        }
        let Ok(ActorPidRequest { name, kind }) = ActorPidRequest::decode(envelope.payload) else {
            return self.refuse(
                envelope,
                Kind::User,
                DeadLetterReason::Decode,
                "a spawn request that cannot be read",
            );
        };
        let Some(activator) = self.node.activator.get().cloned() else { return };
        let is_short = name.len() <= self.node.limits.id_bytes && kind.len() <= self.node.limits.name_bytes;
        if !is_short {
            self.lost(envelope, DeadLetterReason::Limit, "the name or the kind to spawn is too long");
        } else if !self.may_spawn {
            self.lost(
                envelope,
                DeadLetterReason::Denied,
                "the peer may spawn nothing here: `with_spawn_denied`",
            );
        }
        let asker = self.asker(envelope);
        let node = self.node.clone();
        let answer = move |Spawned { status, actor }: Spawned| {
            let Some(asker) = asker else { return };
            let pid = actor.map(|actor| {
                let Pid { address, id, .. } = node.pid_of(&actor);
                actor::Pid { address: address.to_string(), id: id.to_string(), request_id: 0 }
            });
            asker.tell(&ActorPidResponse { pid, status_code: status.code() });
        };
        if !is_short || !self.may_spawn {
            return answer(Spawned { status: ResponseStatusCode::Error, actor: None });
        }
        if activator.mailbox_len() >= self.node.config.get_endpoint_manager_queue_size() {
            return answer(Spawned { status: ResponseStatusCode::Unavailable, actor: None });
        }
        let peer = self.endpoint.address().clone();
        activator.tell(ActivatorMessage::Spawn(SpawnRequest { kind, name, peer, answer: Box::new(answer) }));
    }

    /// Whether a pid that stands in a payload is no longer than those that stand beside it (limit L11): a watch is kept.
    fn is_within(&self, pid: &actor::Pid) -> bool {
        pid.id.len() <= self.node.limits.id_bytes && pid.address.len() <= self.node.limits.address_bytes
    }

    /// A pid that the peer named, if it is one of its own: a peer speaks for itself only (threat T21).
    fn own_pid(&self, pid: actor::Pid) -> Option<Arc<PidEntry>> {
        if pid.address.is_empty() {
            return Some(Arc::new(PidEntry::new(self.endpoint.spelling(), pid.id)));
        }
        // As it is spelled: so the peer knows its own again.
        self.endpoint.is_at(&pid.address).then(|| Arc::new(PidEntry::new(pid.address, pid.id)))
    }

    /// Who sent the message, with its address filled in where it left it out, and its request id.
    fn sender(&mut self, envelope: &Envelope<'_>) -> Option<(Arc<PidEntry>, u32)> {
        let (at, sender) = (envelope.sender_index?, envelope.sender?);
        let entry = self.senders.get_mut(at)?.get_or_insert_with(|| {
            let own = self.endpoint.spelling();
            let is_own = sender.address.is_empty() || *sender.address == *own;
            let address = if is_own { own } else { Arc::from(sender.address) };
            Arc::new(PidEntry::new(address, sender.id))
        });
        Some((entry.clone(), envelope.sender_request_id))
    }

    /// The way back to who sent the message. That to a third node is looked for when there is an answer: a peer may name any
    /// number of them.
    fn asker(&mut self, envelope: &Envelope<'_>) -> Option<SenderRoute> {
        let (pid, request_id) = self.sender(envelope)?;
        let answer_refused = AtomicBool::new(false);
        Some(SenderRoute { endpoint: self.endpoint.clone(), pid, request_id, answer_refused })
    }

    fn reply_to(&mut self, envelope: &Envelope<'_>) -> Option<ReplyTo> {
        Some(self.asker(envelope)?.into_reply_to())
    }

    fn suspended(&mut self, envelope: &Envelope<'_>) {
        let kind = self.kind(envelope);
        // What the runtime there says to one who asks, about a watch perhaps, is not said again.
        let is_answer = kind == Kind::Response && matches!(self.slot(envelope), Slot::Asker(_));
        if kind.is_of_books() || is_answer {
            return self.envelope(envelope);
        }
        self.refuse(envelope, kind, DeadLetterReason::Suspended, "this node is suspended");
    }

    fn faulty(&mut self, batch: &Batch, fault: &EnvelopeFault) {
        log::unexpected(&self.endpoint.source(), self.endpoint.address(), "a faulty envelope");
        let name = fault.type_index.and_then(|at| batch.type_name(at)).unwrap_or("unknown").to_owned();
        let letter = DeadLetter::of(MessageInfo::encoded(name, 0), DeadLetterReason::Decode)
            .with_peer(self.endpoint.path_address().clone())
            .with_detail(fault.to_string());
        let letter = match fault.target_index.and_then(|at| batch.target(at)) {
            Some(target) => letter.with_pid(Pid::new(self.node.address.clone(), target.id)),
            None => letter,
        };
        self.node.system.dead_letters().record(letter);
    }

    /// Records a message that is not delivered and tells its sender, if it is one that may be told.
    fn refuse(&mut self, envelope: &Envelope<'_>, kind: Kind, reason: DeadLetterReason, detail: &str) {
        self.lost(envelope, reason, detail);
        if kind == Kind::Response {
            return;
        }
        if let Some(asker) = self.asker(envelope) {
            let target = actor::Pid {
                address: self.node.address.to_string(),
                id: envelope.target.id.to_owned(),
                request_id: 0,
            };
            asker.tell(&actor::DeadLetterResponse { target: Some(target) });
        }
    }

    /// Counts for the process only: the peer's own count is of what goes to it.
    fn lost(&mut self, envelope: &Envelope<'_>, reason: DeadLetterReason, detail: &str) {
        let letter = self.letter(envelope, reason, detail);
        self.node.system.dead_letters().record(letter);
    }

    fn letter(&self, envelope: &Envelope<'_>, reason: DeadLetterReason, detail: &str) -> DeadLetter {
        let info = MessageInfo::encoded(envelope.type_name.to_owned(), envelope.payload.len());
        let letter = DeadLetter::of(info, reason)
            .with_pid(Pid::new(self.node.address.clone(), envelope.target.id))
            .with_peer(self.endpoint.path_address().clone())
            .with_detail(detail);
        let letter = match envelope.header {
            Some(header) => letter.with_headers(header.to_headers()),
            None => letter,
        };
        match envelope.sender {
            Some(sender) if sender.address.is_empty() => {
                letter.with_sender(Pid::new(self.endpoint.address().clone(), sender.id))
            }
            Some(sender) => letter.with_sender(Pid::new(sender.address, sender.id)),
            None => letter,
        }
    }
}

/// Bytes of what waits with a message: its headers and the way back to whoever sent it may be more than its payload.
fn size_of(envelope: &Envelope<'_>) -> usize {
    let header = envelope.header.map_or(0, |header| header.size());
    let sender = envelope.sender.map_or(0, |sender| sender.address.len() + sender.id.len());
    envelope.payload.len() + header + sender
}

/// The answer to a touch: that the actor lives, or, when it is dropped instead because there is none or it has ended, that it
/// does not.
struct Touched {
    asker: SenderRoute,
    who: Option<actor::Pid>,
    actor: Option<AnyRef>,
}

impl Touched {
    /// Says nothing.
    fn withdraw(mut self) {
        self.who = None;
    }

    fn lives(mut self) {
        let who = self.who.take();
        self.asker.tell(&actor::Touched { who });
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        let Some(who) = self.who.take() else { return };
        if self.actor.as_ref().is_some_and(|actor| !actor.is_terminated()) {
            // Its mailbox was full, or it was given up there for a newer message.
            self.asker.tell(&actor::Touched { who: Some(who) });
        } else {
            self.asker.tell(&actor::DeadLetterResponse { target: Some(who) });
        }
    }
}

#[cfg(test)]
mod tests;
