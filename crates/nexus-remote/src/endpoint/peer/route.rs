//! The route that actors send by.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::{Context, Poll, Waker};

use nexus_actor_core::event_stream::{EventStreamEvent, SerializationDirection, SerializationFailure};
use nexus_actor_core::lock::Guard;
use nexus_actor_core::path::{ActorPath, Address};
use nexus_actor_core::remote::{Encode, Fate, PendingReply, ReplyKey, Route};
use nexus_actor_core::serialization::{DecodeError, Encoder, SerializerId, scope};
use nexus_actor_core::{ActorSystem, AnyRef, AskError, CorrelationId, Headers, Instant, Refusal};
use portable_atomic::Ordering;

use super::{Machine, Peer, STRETCH, Wants};
use crate::association::{Association, Sent};
use crate::correlation_trace::HopKind;
use crate::endpoint::pen::Loan;
use crate::endpoint::watcher::WatchCommand;

impl Route for Peer {
    fn address(&self) -> &Address {
        &self.address
    }

    fn system(&self) -> Option<ActorSystem> {
        self.node.system.upgrade()
    }

    fn intern(
        &self,
        path: &ActorPath,
        serializer: SerializerId,
        manifest: &'static str,
    ) -> Result<u32, Refusal> {
        scope::refuse_reentry()?;
        self.read(|association| association.intern(path, serializer, manifest))
    }

    fn release(&self, recipient: u32) {
        self.outside(move |peer| peer.read(|association| association.release(recipient)));
    }

    fn send(&self, recipient: u32, headers: Option<&Headers>, encode: Encode<'_>) -> Result<(), Refusal> {
        // Re-entry would wait for the lock this thread holds: the serialization of a message that is being sent
        // to this peer sends to it.
        scope::refuse_reentry()?;
        let sent = self.transact(
            |association, now| association.send(now, recipient, headers, encode),
            Association::is_lone_ask,
        );
        if let Err(Refusal::Encode(why)) = &sent {
            self.encode_failed(self.read(|association| association.recipient(recipient)), why);
        }
        sent
    }

    fn given_up(&self, fate: Fate) {
        self.note_endpoint(|life| life.given_up(fate));
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read(Association::has_room) {
            return Poll::Ready(());
        }
        self.room.lock().enter(cx.waker());
        // Asked after registering: room made in between is not missed.
        if !self.read(Association::has_room) {
            return Poll::Pending;
        }
        self.forget_room(cx.waker());
        Poll::Ready(())
    }

    #[inline]
    fn poll_pace(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ahead.load(Ordering::Relaxed) || !self.ahead.swap(false, Ordering::Relaxed) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn forget_room(&self, waker: &Waker) {
        let gone = self.room.lock().leave(waker);
        // Another send of the same task may have shared its place, and registers anew.
        if let Some(waker) = gone {
            waker.wake();
        }
    }

    fn reply(&self, to: ReplyKey, id: CorrelationId, encode: Encode<'_>) -> Result<(), Refusal> {
        scope::refuse_reentry()?;
        let sent = self
            .transact(|association, now| association.reply(now, to, id, encode), Association::is_lone_answer);
        if let Err(refusal) = &sent {
            if let Refusal::Encode(why) = refusal {
                self.encode_failed(None, why);
            }
            self.facts.lock().answer_refused = Some(to);
            self.given_up(Fate::DeadLetter);
            self.node.dead_answer(&self.address, "answer", id, refusal);
        }
        sent
    }

    fn reply_failed(&self, to: ReplyKey, id: CorrelationId, why: AskError) {
        self.outside(move |peer| {
            let sent =
                peer.transact(|association, now| association.reply_failed(now, to, id, why), |_, _| false);
            // Of an answer that was refused a moment ago there is a record.
            if let Err(refusal) = sent
                && peer.facts.lock().answer_refused.take() != Some(to)
            {
                peer.given_up(Fate::DeadLetter);
                peer.node.dead_answer(&peer.address, "no answer", id, &refusal);
            }
        });
    }

    fn absence(&self) -> Option<AskError> {
        self.read(|association| association.absence())
    }

    fn forget(&self, key: ReplyKey) {
        self.outside(move |peer| {
            let ask = peer.read(|association| association.forget(key));
            drop(ask);
        });
    }

    fn watch(&self, target: &ActorPath, watcher: AnyRef) {
        self.to_watcher(|peer| WatchCommand::Watch { peer, target: target.clone(), watcher });
    }

    fn unwatch(&self, target: &ActorPath, watcher: &AnyRef) {
        let watcher = watcher.clone();
        self.to_watcher(|peer| WatchCommand::Unwatch { peer, target: target.clone(), watcher });
    }

    fn stop(&self, target: &ActorPath) {
        if scope::is_encoding() {
            let target = target.clone();
            return self.outside(move |peer| peer.stop(&target));
        }
        if let Err(refusal) = self.apply(|association, now| association.stop(now, target)) {
            self.node.dead_system_message(&self.address, "stop", target, &refusal);
        }
    }

    fn lookup(&self, path: &ActorPath, manifest: &'static str, found: Arc<dyn PendingReply>) {
        if let Err(refusal) = scope::refuse_reentry() {
            return found.fail(AskError::from(refusal));
        }
        let found: Arc<dyn PendingReply> = Arc::new(FoundUid(found));
        let sent = self.transact(
            |association, now| association.lookup(now, path, manifest, found.clone()),
            |_, _| false,
        );
        if let Err(refusal) = sent {
            found.fail(AskError::from(refusal));
        }
    }
}

impl Peer {
    #[cold]
    fn after_event(&self, mut guard: Guard<'_, Machine>, now: Instant, wake: bool) {
        let mut wants = Wants::default();
        if wake {
            wants.wakers.extend(guard.drivers.iter_mut().filter_map(|driver| driver.waker.take()));
        }
        self.harvest(&mut guard, now, &mut wants);
        drop(guard);
        self.fulfil(&mut wants);
    }

    /// Runs a send. The usual case costs the lock and the encoding, nothing else.
    ///
    /// `is_lone` tells whether the sender had better write it. It is asked only of what would wake the driver, so that
    /// a tell among many does not pay for it.
    fn transact(
        &self,
        f: impl FnOnce(&mut Association, Instant) -> Result<Sent, Refusal>,
        is_lone: impl FnOnce(&Association, Sent) -> bool,
    ) -> Result<(), Refusal> {
        let (sent, ask, now, depth) = {
            let mut guard = self.machine.lock();
            let machine = &mut *guard;
            let now = match machine.busy_since {
                Some(now) if machine.borrowed < BORROWED => {
                    machine.borrowed += 1;
                    now
                }
                // Also while a stalled connection does not look at the clock.
                _ => {
                    machine.borrowed = 0;
                    self.node.now()
                }
            };
            let sent = f(&mut machine.association, now);
            // The driver runs or has just been woken, and looks at the clock itself.
            machine.busy_since = machine.association.is_live().then_some(now);
            let sent = match sent {
                Ok(sent) => sent,
                Err(refusal) => {
                    self.after_event(guard, now, false);
                    return Err(refusal);
                }
            };
            if sent.wake && is_lone(&machine.association, sent) {
                return self.finish_lone(guard, sent, now);
            }
            let ask = if sent.asked { machine.association.take_asked() } else { None };
            let depth = machine.association.waiting();
            let unsent = machine.association.unsent_bytes();
            if unsent > machine.give_way_at {
                machine.give_way_at = unsent + STRETCH;
                self.ahead.store(true, Ordering::Relaxed);
            }
            if sent.wake || machine.association.has_output() {
                self.after_event(guard, now, sent.wake);
            }
            (sent, ask, now, depth)
        };
        self.note_sent(sent, ask, now, depth);
        Ok(())
    }

    /// What follows a message that was taken, without the lock.
    #[inline(always)]
    fn note_sent(
        &self,
        sent: Sent,
        ask: Option<(Arc<dyn PendingReply>, ReplyKey)>,
        now: Instant,
        depth: usize,
    ) {
        let Sent { correlation_id, size, .. } = sent;
        if let Some((pending, key)) = ask
            && let Some(me) = self.arc()
        {
            pending.pending_at(Some((me, key)));
        }
        if self.sampling.traces(correlation_id, depth) {
            self.node.recorder.record_hop(now, self.recorded_as, correlation_id, HopKind::Send, size as u64);
            crate::log::hop(&self.authority, HopKind::Send, correlation_id, size);
        }
    }

    /// The rest of [`transact`](Self::transact) for a message that its sender had better write. Apart, so that the
    /// usual message does not carry what belongs to this one.
    #[cold]
    fn finish_lone(&self, mut guard: Guard<'_, Machine>, sent: Sent, now: Instant) -> Result<(), Refusal> {
        let machine = &mut *guard;
        let ask = if sent.asked { machine.association.take_asked() } else { None };
        let depth = machine.association.waiting();
        let loan = Loan::take(self, machine, now);
        self.after_event(guard, now, loan.is_none());
        self.note_sent(sent, ask, now, depth);
        if let Some(loan) = loan {
            loan.write();
        }
        Ok(())
    }

    /// Runs `f` now, or, inside the serialization of a message, as soon as that is over: this thread may hold the
    /// machine's lock.
    fn outside(&self, f: impl FnOnce(&Self) + Send + 'static) {
        if !scope::is_encoding() {
            return f(self);
        }
        if let (Some(me), Some(system)) = (self.arc(), self.node.system.upgrade()) {
            system.spawn_task(async move { f(&me) });
        }
    }

    /// Tells that a message could not be written. The dead letter is its sender's to record.
    #[cold]
    fn encode_failed(&self, recipient: Option<(ActorPath, SerializerId, &'static str)>, why: &str) {
        let Some(system) = self.node.system.upgrade() else { return };
        system.event_stream().publish_with(|| {
            let (path, serializer, manifest) = match recipient {
                Some((path, serializer, manifest)) => (Some(path), serializer, manifest),
                None => (None, SerializerId::POSTCARD, ""),
            };
            EventStreamEvent::Serialization(SerializationFailure {
                direction: SerializationDirection::Encode,
                manifest: manifest.into(),
                serializer,
                recipient: path,
                correlation_id: CorrelationId::NIL,
                error: why.into(),
            })
        });
    }

    fn to_watcher(&self, command: impl FnOnce(Arc<Self>) -> WatchCommand) {
        if let Some(me) = self.arc() {
            self.node.tell_watcher(command(me));
        }
    }
}

/// So many messages may take the driver's time for the time.
const BORROWED: u32 = 256;

/// Turns a lookup's answer, 8 bytes on the wire, into the value its ask waits for.
struct FoundUid(Arc<dyn PendingReply>);

impl PendingReply for FoundUid {
    fn complete(&self, payload: &[u8]) -> Result<(), DecodeError> {
        let Ok(bytes) = <[u8; 8]>::try_from(payload) else {
            let error = DecodeError::failed("the answer to a lookup has 8 bytes");
            self.0.fail(AskError::Decode(error.to_string()));
            return Err(error);
        };
        let mut value = Vec::new();
        Encoder::new(&mut value, 16).postcard(&u64::from_le_bytes(bytes)).map_err(DecodeError::failed)?;
        self.0.complete(&value)
    }

    fn fail(&self, error: AskError) {
        self.0.fail(error);
    }

    fn pending_at(&self, place: Option<(Arc<dyn Route>, ReplyKey)>) {
        self.0.pending_at(place);
    }

    fn is_over(&self) -> bool {
        self.0.is_over()
    }
}
