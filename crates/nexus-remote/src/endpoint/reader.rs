//! From a connection's bytes to actors' mailboxes.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use nexus_actor_core::path::{ActorPath, ActorUid};
use nexus_actor_core::remote::{PendingReply, ReplyKey, ReplyTo, Route};
use nexus_actor_core::serialization::{Inlet, scope};
use nexus_actor_core::system::ActorSystem;
use nexus_actor_core::{AskError, CorrelationId, DeadLetterReason, Instant};

use super::aftermath::{Act, After, Lost};
use super::home::Home;
use super::peer::Peer;
use crate::association::{Attachment, ConnectionId, Inbound, Placed};
use crate::correlation_trace::HopKind;
use crate::log;
use crate::wire::{
    ControlFrame, Envelope, FrameKind, FrameReader, Lane, Lookup, OrdinaryFrame, QuarantineReason, RawFrame,
};

/// What is read from one peer, over all its connections: the session's receiving side and, for each recipient,
/// the way into its mailbox.
pub(crate) struct Intake {
    pub(crate) inbound: Inbound<Cached>,
    /// Recipients with messages decoded and not handed over.
    dirty: Vec<u32>,
    /// Recipients whose buffers are kept large, the oldest first: not one for each number a peer may give.
    large: VecDeque<u32>,
}

/// What was found for a recipient: looked up once, not per message.
pub(crate) struct Cached {
    /// The manifest it was opened for; another pointer means another definition.
    manifest: Arc<str>,
    inlet: Box<dyn Inlet>,
    /// Messages wait in it for the end of the batch.
    dirty: bool,
}

/// Recipients of one peer whose buffers stay as large as their last batches were.
const LARGE_MAX: usize = 8;

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cached({})", self.manifest)
    }
}

impl Intake {
    pub(crate) fn new(config: &crate::association::AssociationConfig) -> Self {
        Self { inbound: Inbound::new(config), dirty: Vec::new(), large: VecDeque::new() }
    }

    /// Hands over what was decoded, one lock and one wake-up per recipient. The wake-ups are left to `after`.
    fn flush(&mut self, after: &mut After) {
        for id in self.dirty.drain(..) {
            if let Some(entry) = self.inbound.reference_mut(id)
                && let Some(cached) = &mut entry.cached
            {
                cached.dirty = false;
                if cached.inlet.flush(&mut after.handed).refused > 0 && cached.inlet.is_over() {
                    // A name may have a new owner the next time.
                    after.gone.extend(entry.cached.take());
                } else if cached.inlet.is_large() && !self.large.contains(&id) {
                    self.large.push_back(id);
                }
            }
            if self.large.len() > LARGE_MAX
                && let Some(oldest) = self.large.pop_front()
                && let Some(entry) = self.inbound.reference_mut(oldest)
                && let Some(cached) = &mut entry.cached
            {
                cached.inlet.shrink();
            }
        }
    }
}

#[cfg(test)]
impl Intake {
    /// How many of the recipients `ids` have a buffer that is larger than a quiet one's.
    pub(super) fn large_buffers(&mut self, ids: core::ops::Range<u32>) -> usize {
        let is_large = |entry: &crate::association::ReferenceEntry<Cached>| {
            entry.cached.as_ref().is_some_and(|cached| cached.inlet.is_large())
        };
        ids.filter(|id| self.inbound.reference_mut(*id).is_some_and(|entry| is_large(entry))).count()
    }
}

/// What ends a connection from the reading side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadFault {
    pub(crate) reason: QuarantineReason,
    pub(crate) facts: String,
}

impl ReadFault {
    fn protocol(facts: &dyn fmt::Display) -> Self {
        Self { reason: QuarantineReason::ProtocolFault, facts: facts.to_string() }
    }
}

/// The reading half of a connection that serves an association. It holds the bytes of an unfinished frame and
/// nothing else: what is expected next belongs to the association.
pub(crate) struct EndpointReader {
    pub(crate) frames: FrameReader,
    attached: bool,
    /// Bytes read since the association was last told.
    unreported: usize,
    /// Empty between batches; kept for its memory.
    after: After,
}

/// How far a batch got.
enum Took {
    /// No whole frame is left.
    All,
    /// There are more: what these lead to comes first, so that it takes no more memory than a batch may.
    Some,
}

impl EndpointReader {
    pub(crate) const fn new(frames: FrameReader) -> Self {
        Self { frames, attached: false, unreported: 0, after: After::new() }
    }

    /// Works off the whole frames in the buffer. Under the intake's lock messages are decoded and put into
    /// mailboxes, and nothing else of a user runs there: see [`After`].
    pub(crate) fn take_frames(
        &mut self,
        peer: &Arc<Peer>,
        conn: ConnectionId,
        now: Instant,
    ) -> Result<(), ReadFault> {
        let Some(system) = peer.node.system.upgrade() else { return Ok(()) };
        let route: Arc<dyn Route> = peer.clone();
        let _scope = scope::DecodeScope::enter(&system, Some(route.clone()));
        let taken = Cell::new(0);
        loop {
            let put_off = scope::PutOff::begin();
            let mut intake = peer.intake.lock();
            let Self { frames, attached, after, .. } = self;
            let mut turn = Turn {
                peer,
                conn,
                system: &system,
                route: &route,
                now,
                frames: &taken,
                usual: None,
                full: false,
                after,
            };
            let took = Self::take_all(frames, attached, &mut turn, &mut intake);
            intake.flush(&mut self.after);
            while let Some(notice) = intake.inbound.released() {
                self.after.released.push(notice);
            }
            drop(intake);
            put_off.end(&mut self.after.unanswered);
            self.after.run(peer, &system, &self.frames, now);
            if !matches!(took?, Took::Some) {
                return Ok(());
            }
        }
    }

    fn take_all(
        frames: &mut FrameReader,
        attached: &mut bool,
        turn: &mut Turn<'_>,
        intake: &mut Intake,
    ) -> Result<Took, ReadFault> {
        loop {
            let (header, place) = match frames.next_place() {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(Took::All),
                Err(error) => return Err(ReadFault { reason: error.reason(), facts: error.to_string() }),
            };
            let raw = RawFrame { header, body: frames.bytes(place.clone()) };
            if header.kind.lane() == Lane::Ordinary {
                if !*attached {
                    return Err(ReadFault::protocol(&"an ordinary frame before the handshake was complete"));
                }
                turn.frames.set(turn.frames.get() + 1);
                if turn.plain(intake, &raw)? {
                    if turn.full {
                        return Ok(Took::Some);
                    }
                    continue;
                }
                turn.ordinary(intake, raw, place.end)?;
                if turn.after.is_full() {
                    return Ok(Took::Some);
                }
                continue;
            }
            turn.usual = None;
            let frame = ControlFrame::decode(raw).map_err(|error| ReadFault::protocol(&error))?;
            let was_attached = *attached;
            let attachment: Option<Attachment> =
                turn.peer.collect_at(turn.now, &mut turn.after.wants, |association, now| {
                    association.handle_control(now, turn.conn, frame);
                    if was_attached { None } else { association.attachment(turn.conn) }
                });
            if let Some(attachment) = attachment {
                *attached = true;
                frames.established(turn.peer.node.association_config.frame_max());
                intake.flush(turn.after);
                let gone = intake.inbound.attach(attachment);
                turn.after.gone.extend(gone.into_iter().filter_map(|entry| entry.cached));
            }
        }
    }

    /// Attaches the connection if the machine has taken it into service meanwhile.
    pub(crate) fn attach(&mut self, peer: &Peer, conn: ConnectionId) {
        if self.attached {
            return;
        }
        if let Some(attachment) = peer.read(|association| association.attachment(conn)) {
            self.attached = true;
            self.frames.established(peer.node.association_config.frame_max());
            // Nothing is decoded and not handed over: the lock is let go of only behind a flush.
            let gone = peer.intake.lock().inbound.attach(attachment);
            drop(gone);
        }
    }

    /// Gives memory back that a connection gone quiet has no use for.
    pub(crate) fn release(&mut self) {
        self.frames.release();
        self.after.release();
    }

    pub(crate) const fn is_attached(&self) -> bool {
        self.attached
    }

    pub(crate) fn count(&mut self, bytes: usize) {
        self.unreported += bytes;
    }

    /// Tells the association what was taken, so that it acknowledges: at the latest when the socket runs dry.
    pub(crate) fn report(&mut self, peer: &Peer, conn: ConnectionId, dry: bool, now: Instant) {
        if !self.attached || self.unreported == 0 {
            return;
        }
        let bytes = core::mem::take(&mut self.unreported);
        let next = peer.intake.lock().inbound.next();
        peer.apply_at(now, |association, now| association.handle_received(now, conn, next, bytes, dry));
    }
}

/// One batch of frames.
struct Turn<'a> {
    peer: &'a Arc<Peer>,
    conn: ConnectionId,
    system: &'a ActorSystem,
    route: &'a Arc<dyn Route>,
    now: Instant,
    /// Ordinary frames taken in this batch.
    frames: &'a Cell<usize>,
    /// The recipient and the manifest of the message before, if what they mean has been looked up and still holds.
    usual: Option<(u32, u16)>,
    /// A usual message led to so much that the batch is to be interrupted.
    full: bool,
    /// What is left for when the lock is released.
    after: &'a mut After,
}

impl Turn<'_> {
    /// The usual message: without headers or reply, to an actor that was found before in this batch. False when it
    /// is not; nothing has happened then.
    #[inline(always)]
    fn plain(&mut self, intake: &mut Intake, raw: &RawFrame<'_>) -> Result<bool, ReadFault> {
        if raw.header.kind != FrameKind::Envelope || raw.header.flags != 0 || self.peer.is_suspended() {
            return Ok(false);
        }
        let Some((recipient, payload)) = raw.body.split_first_chunk::<4>() else { return Ok(false) };
        let recipient = u32::from_le_bytes(*recipient);
        if self.usual != Some((recipient, raw.header.aux)) {
            if !Self::is_ready(intake, recipient, raw.header.aux) {
                return Ok(false);
            }
            self.usual = Some((recipient, raw.header.aux));
        }
        match intake.inbound.advance(self.conn) {
            Ok(Placed::Deliver { .. }) => {}
            Ok(Placed::Defined | Placed::Duplicate | Placed::Stale) => return Ok(true),
            Err(fault) => return Err(ReadFault::protocol(&fault)),
        }
        let id = raw.header.correlation_id;
        self.trace(id, raw.wire_len());
        let Some(entry) = intake.inbound.reference_mut(recipient) else { return Ok(true) };
        let Some(cached) = &mut entry.cached else { return Ok(true) };
        if let Err(error) = cached.inlet.decode(payload, None) {
            let to = self.local_path(&entry.path, entry.uid);
            let manifest = cached.manifest.clone();
            self.decode_failed(to, manifest, raw.wire_len(), id, error.to_string());
            self.full = self.after.is_full();
        }
        Ok(true)
    }

    /// Whether messages of this type for this recipient were already decoded in this batch.
    fn is_ready(intake: &mut Intake, recipient: u32, manifest: u16) -> bool {
        let Some((_, manifest)) = intake.inbound.manifest(manifest) else { return false };
        let manifest = Arc::as_ptr(manifest);
        let Some(entry) = intake.inbound.reference_mut(recipient) else { return false };
        matches!(&entry.cached, Some(cached) if cached.dirty && core::ptr::addr_eq(Arc::as_ptr(&cached.manifest), manifest))
    }

    #[inline]
    fn trace(&mut self, id: CorrelationId, size: usize) {
        if self.peer.sampling.traces(id, self.frames.get()) {
            let (recorder, peer) = (&self.peer.node.recorder, self.peer.recorded_as);
            recorder.record_hop(self.now, peer, id, HopKind::Receive, size as u64);
            if log::wants_hops() {
                self.after.hops.push((id, size));
            }
        }
    }

    /// `end` is where the frame ends in the buffer.
    #[inline(never)]
    fn ordinary(&mut self, intake: &mut Intake, raw: RawFrame<'_>, end: usize) -> Result<(), ReadFault> {
        self.usual = None;
        // As its sender counts it: the whole frame.
        let (size, id) = (raw.wire_len(), raw.header.correlation_id);
        let frame = match OrdinaryFrame::decode(raw) {
            Ok(frame) => frame,
            Err(error) => {
                // It keeps its number: what follows it is still in its place.
                match intake.inbound.place_broken(self.conn) {
                    Ok(Placed::Deliver { .. }) => {
                        self.lost(None, DeadLetterReason::Decode, size, id, error.to_string().into());
                    }
                    Ok(Placed::Defined | Placed::Duplicate | Placed::Stale) => {}
                    Err(fault) => return Err(ReadFault::protocol(&fault)),
                }
                return Ok(());
            }
        };
        if matches!(frame, OrdinaryFrame::DefineReference(_) | OrdinaryFrame::DefineManifest(_)) {
            // What was decoded for the old meaning goes to the old meaning.
            intake.flush(self.after);
        }
        if !self.place(intake, &frame)? {
            return Ok(());
        }
        if self.peer.is_suspended() {
            self.suspended(&frame, size, id);
            return Ok(());
        }
        match frame {
            OrdinaryFrame::Envelope(envelope) => self.envelope(intake, &envelope, size),
            OrdinaryFrame::Reply(reply) => {
                if let Some(ask) = self.pending(reply.key) {
                    // The payload is the frame's last part.
                    let payload = end - reply.payload.len()..end;
                    self.after.acts.push(Act::Answered { ask, payload, size, id });
                }
            }
            OrdinaryFrame::ReplyFailed(failed) => self.failed(failed.key, failed.error),
            OrdinaryFrame::Lookup(lookup) => self.lookup(&lookup),
            OrdinaryFrame::DefineReference(_) | OrdinaryFrame::DefineManifest(_) => {}
        }
        Ok(())
    }

    /// Whether the frame is to be delivered.
    fn place(&mut self, intake: &mut Intake, frame: &OrdinaryFrame<'_>) -> Result<bool, ReadFault> {
        match intake.inbound.place(self.conn, frame) {
            Ok(Placed::Deliver { .. }) => Ok(true),
            Ok(Placed::Defined) => {
                self.after.gone.extend(intake.inbound.replaced().and_then(|entry| entry.cached));
                Ok(false)
            }
            Ok(Placed::Duplicate | Placed::Stale) => Ok(false),
            Err(fault) => Err(ReadFault::protocol(&fault)),
        }
    }

    /// Nothing is accepted while the association is suspended by hand. Who asked is told: here at once, and the peer
    /// once it is over, since nothing is sent either.
    fn suspended(&mut self, frame: &OrdinaryFrame<'_>, size: usize, id: CorrelationId) {
        let (reason, why) = (DeadLetterReason::Suspended, AskError::Suspended);
        match frame {
            OrdinaryFrame::Envelope(envelope) => self.unanswered(envelope, why),
            OrdinaryFrame::Lookup(lookup) => {
                let to = self.asker(lookup);
                self.after.unanswered.push((to, why));
            }
            OrdinaryFrame::Reply(reply) => self.failed(reply.key, why),
            // That there is no answer is all that its asker can learn, and it is told why.
            OrdinaryFrame::ReplyFailed(failed) => return self.failed(failed.key, failed.error.clone()),
            OrdinaryFrame::DefineReference(_) | OrdinaryFrame::DefineManifest(_) => {}
        }
        self.lost(None, reason, size, id, Cow::Borrowed("the association is suspended by hand"));
    }

    /// Tells whoever here asked under `key` that there is no answer.
    fn failed(&mut self, key: ReplyKey, why: AskError) {
        if let Some(ask) = self.pending(key) {
            self.after.acts.push(Act::Failed(Box::new((ask, why))));
        }
    }

    /// Whom to tell what a lookup has found.
    fn asker(&self, lookup: &Lookup<'_>) -> ReplyTo {
        ReplyTo { route: self.route.clone(), key: lookup.key(), correlation_id: lookup.correlation_id() }
    }

    fn envelope(&mut self, intake: &mut Intake, envelope: &Envelope<'_>, size: usize) {
        let id = envelope.correlation_id;
        self.trace(id, size);
        let Some((_, manifest)) = intake.inbound.manifest(envelope.manifest) else {
            let (reason, detail) = (DeadLetterReason::Decode, Cow::Borrowed("unknown manifest number"));
            return self.undeliverable(envelope, None, reason, size, detail);
        };
        let manifest = manifest.clone();
        let Some(entry) = intake.inbound.reference_mut(envelope.recipient) else {
            let (reason, detail) = (DeadLetterReason::Decode, Cow::Borrowed("unknown recipient number"));
            return self.undeliverable(envelope, None, reason, size, detail);
        };
        let fresh = match &entry.cached {
            Some(cached) => {
                Arc::ptr_eq(&cached.manifest, &manifest) && (cached.dirty || !cached.inlet.is_over())
            }
            None => false,
        };
        if !fresh {
            let (path, uid) = (entry.path.clone(), entry.uid);
            if let Some(mut old) = entry.cached.take() {
                old.inlet.flush(&mut self.after.handed);
                self.after.gone.push(old);
            }
            let found = match self.find(&path, uid) {
                Some(found) => found,
                None => {
                    let to = self.local_path(&path, uid);
                    let (reason, detail) = (DeadLetterReason::NoSuchActor, manifest.to_string().into());
                    return self.undeliverable(envelope, Some(to), reason, size, detail);
                }
            };
            match self.system.serialization().inlet(&manifest, &found, self.route) {
                Ok(inlet) => entry.cached = Some(Cached { manifest: manifest.clone(), inlet, dirty: false }),
                Err(error) => {
                    let to = self.local_path(&path, uid);
                    return self.undecodable(envelope, to, manifest, size, error.to_string());
                }
            }
        }
        let Some(cached) = &mut entry.cached else { return };
        if let Some(reply) = &envelope.reply_to {
            match self.reply_to(reply, envelope.correlation_id) {
                Some(to) => scope::set_reply_to(Some(to)),
                None => {
                    let to = self.local_path(&entry.path, entry.uid);
                    let why = String::from("the reply address is no address");
                    return self.undecodable(envelope, to, manifest, size, why);
                }
            }
        }
        let headers = envelope.headers.as_ref().map(|pairs| pairs.to_headers());
        let decoded = cached.inlet.decode(envelope.payload, headers);
        if envelope.reply_to.is_some() {
            scope::set_reply_to(None);
        }
        match decoded {
            Ok(()) => {
                if !core::mem::replace(&mut cached.dirty, true) {
                    intake.dirty.push(envelope.recipient);
                }
            }
            Err(error) => {
                let to = self.local_path(&entry.path, entry.uid);
                // The inlet has told the asker already.
                self.decode_failed(to, manifest, size, id, error.to_string());
            }
        }
    }

    /// Only `/user` can be reached by path from outside: daemons and temporary actors are nobody's business.
    fn find(&self, path: &str, uid: ActorUid) -> Option<nexus_actor_core::AnyRef> {
        path.starts_with("/user/").then(|| self.system.find_incarnation(path, uid)).flatten()
    }

    fn local_path(&self, path: &str, uid: ActorUid) -> ActorPath {
        ActorPath::new(self.system.address(), path, uid)
    }

    fn reply_to(
        &self,
        reply: &crate::wire::EnvelopeReply<'_>,
        correlation_id: CorrelationId,
    ) -> Option<ReplyTo> {
        let key = reply.key();
        let Some(address) = reply.foreign_address().ok()? else {
            return Some(ReplyTo { route: self.route.clone(), key, correlation_id });
        };
        if self.system.is_own(&address) {
            // A question of this node that came back with a message about it.
            return Some(ReplyTo {
                route: Arc::new(Home::new(self.peer.node.clone(), address)),
                key,
                correlation_id,
            });
        }
        // As a reference to there would be: not to whom an operator refuses, nor to where there is no way. Named is
        // not spoken to yet: what a peer names costs no association.
        let route = self.peer.node.named_route(&address).ok()?;
        Some(ReplyTo { route, key, correlation_id })
    }

    fn pending(&self, key: ReplyKey) -> Option<Arc<dyn PendingReply>> {
        let number = u16::try_from(key.slot >> 16).ok()?;
        let asked = if number == self.peer.number() {
            self.peer.clone()
        } else {
            // Passed on: the answer comes from another node than was asked.
            self.peer.node.registry.by_number(number)?
        };
        asked.read(|association| association.handle_reply(key))
    }

    fn lookup(&mut self, lookup: &Lookup<'_>) {
        let found = self.find(lookup.path(), ActorUid::ANY);
        let answer = match &found {
            None => Err(AskError::NoSuchActor),
            Some(found) => match self.system.serialization().inlet(lookup.manifest(), found, self.route) {
                Ok(_) => Ok(found.uid()),
                Err(error) => Err(AskError::Decode(error.to_string())),
            },
        };
        let to = self.asker(lookup);
        self.after.acts.push(Act::Found(Box::new((to, answer))));
    }

    /// Tells whoever awaits the answer of `envelope` that there will be none.
    fn unanswered(&mut self, envelope: &Envelope<'_>, why: AskError) {
        if let Some(to) =
            envelope.reply_to.as_ref().and_then(|reply| self.reply_to(reply, envelope.correlation_id))
        {
            self.after.unanswered.push((to, why));
        }
    }

    /// Records an envelope for which there is no actor, and tells its asker.
    fn undeliverable(
        &mut self,
        envelope: &Envelope<'_>,
        to: Option<ActorPath>,
        reason: DeadLetterReason,
        size: usize,
        detail: Cow<'static, str>,
    ) {
        self.unanswered(envelope, AskError::from_reason(reason));
        self.lost(to, reason, size, envelope.correlation_id, detail);
    }

    fn undecodable(
        &mut self,
        envelope: &Envelope<'_>,
        to: ActorPath,
        manifest: Arc<str>,
        size: usize,
        why: String,
    ) {
        self.unanswered(envelope, AskError::Decode(why.clone()));
        self.decode_failed(to, manifest, size, envelope.correlation_id, why);
    }

    fn decode_failed(
        &mut self,
        to: ActorPath,
        manifest: Arc<str>,
        size: usize,
        id: CorrelationId,
        why: String,
    ) {
        let reason = DeadLetterReason::Decode;
        let lost = Lost { to: Some(to), reason, size, id, detail: why.into(), manifest: Some(manifest) };
        self.after.acts.push(Act::Lost(Box::new(lost)));
    }

    fn lost(
        &mut self,
        to: Option<ActorPath>,
        reason: DeadLetterReason,
        size: usize,
        id: CorrelationId,
        detail: Cow<'static, str>,
    ) {
        self.after.acts.push(Act::Lost(Box::new(Lost { to, reason, size, id, detail, manifest: None })));
    }
}
