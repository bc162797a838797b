//! What a batch of frames leads to, done once the intake's lock is released.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use nexus_actor_core::dead_letter::{DeadLetter, MessageInfo};
use nexus_actor_core::event_stream::{EventStreamEvent, SerializationDirection, SerializationFailure};
use nexus_actor_core::path::{ActorPath, ActorUid};
use nexus_actor_core::remote::{PendingReply, ReplyTo};
use nexus_actor_core::runtime::contained;
use nexus_actor_core::serialization::{Aftermath, SerializerId, scope};
use nexus_actor_core::system::ActorSystem;
use nexus_actor_core::{AskError, CorrelationId, DeadLetterReason, Instant};

use super::peer::{Peer, Wants};
use super::reader::Cached;
use super::watcher::WatchCommand;
use crate::association::TerminationNotice;
use crate::correlation_trace::HopKind;
use crate::flight_recorder::{FlightEvent, FlightKind};
use crate::log;
use crate::wire::FrameReader;

/// A batch that leads to so many things is interrupted to do them, so that what a peer sends takes no more memory
/// than this. Messages that reach their mailboxes do not count.
const ACTS_MAX: usize = 256;

/// Everything that may run what is not ours: wake-ups, completions of asks, subscribers, drops. Collected while
/// frames are decoded under the intake's lock; [`run`](Self::run) does it without. The usual message adds nothing.
#[derive(Default)]
pub(super) struct After {
    /// Messages whose hops are to be logged, with their sizes.
    pub(super) hops: Vec<(CorrelationId, usize)>,
    /// Actors that got messages.
    pub(super) handed: Aftermath,
    /// In the order of the frames.
    pub(super) acts: Vec<Act>,
    /// Askers whose question came to nothing.
    pub(super) unanswered: Vec<scope::Unanswered>,
    /// What control frames made the association want.
    pub(super) wants: Wants,
    /// Notices that waited for the messages of this batch.
    pub(super) released: Vec<TerminationNotice>,
    /// Ways into mailboxes that are of no use any more.
    pub(super) gone: Vec<Cached>,
}

/// One thing that a frame leads to.
pub(super) enum Act {
    /// An answer; the payload is still in the reader's buffer.
    Answered { ask: Arc<dyn PendingReply>, payload: Range<usize>, size: usize, id: CorrelationId },
    /// There will be no answer.
    Failed(Box<(Arc<dyn PendingReply>, AskError)>),
    /// The answer to a lookup.
    Found(Box<(ReplyTo, Result<ActorUid, AskError>)>),
    /// A message that cannot be delivered.
    Lost(Box<Lost>),
}

/// A message that cannot be delivered.
pub(super) struct Lost {
    pub(super) to: Option<ActorPath>,
    pub(super) reason: DeadLetterReason,
    pub(super) size: usize,
    pub(super) id: CorrelationId,
    pub(super) detail: Cow<'static, str>,
    /// Of a payload that could not be read.
    pub(super) manifest: Option<Arc<str>>,
}

impl After {
    pub(super) const fn new() -> Self {
        Self {
            hops: Vec::new(),
            handed: Aftermath::new(),
            acts: Vec::new(),
            unanswered: Vec::new(),
            wants: Wants::new(),
            released: Vec::new(),
            gone: Vec::new(),
        }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.hops.len() >= ACTS_MAX
            || self.acts.len() >= ACTS_MAX
            || self.unanswered.len() >= ACTS_MAX
            || self.gone.len() >= ACTS_MAX
    }

    /// Gives the memory back, between batches.
    pub(super) fn release(&mut self) {
        *self = Self::new();
    }

    /// Does everything and leaves nothing but the memory, also when something in it panics: the frames have been taken.
    /// Inside the decode scope, outside any lock.
    pub(super) fn run(&mut self, peer: &Arc<Peer>, system: &ActorSystem, frames: &FrameReader, now: Instant) {
        for (id, size) in self.hops.drain(..) {
            log::hop(peer.authority(), HopKind::Receive, id, size);
        }
        self.handed.run();
        for act in self.acts.drain(..) {
            contained(|| match act {
                Act::Answered { ask, payload, size, id } => {
                    let payload = frames.bytes(payload);
                    if let Err(error) = ask.complete(payload) {
                        let lost = Lost {
                            to: None,
                            reason: DeadLetterReason::Decode,
                            size,
                            id,
                            detail: error.to_string().into(),
                            manifest: None,
                        };
                        lost.record(peer, system, now);
                    }
                }
                Act::Failed(failed) => {
                    let (ask, error) = *failed;
                    ask.fail(error);
                }
                Act::Found(found) => answer_lookup(*found),
                Act::Lost(lost) => lost.record(peer, system, now),
            });
        }
        for (to, why) in self.unanswered.drain(..) {
            contained(|| to.route.reply_failed(to.key, to.correlation_id, why));
        }
        peer.fulfil(&mut self.wants);
        for notice in self.released.drain(..) {
            peer.node.tell_watcher(WatchCommand::Notify { peer: peer.clone(), notice });
        }
        for gone in self.gone.drain(..) {
            contained(|| drop(gone));
        }
    }
}

fn answer_lookup((to, answer): (ReplyTo, Result<ActorUid, AskError>)) {
    let why = match answer {
        Ok(uid) => {
            let bytes = uid.get().to_le_bytes();
            match to.route.reply(to.key, to.correlation_id, &mut |e| e.put(&bytes)) {
                Ok(()) => return,
                Err(refusal) => AskError::from(refusal),
            }
        }
        Err(error) => error,
    };
    to.route.reply_failed(to.key, to.correlation_id, why);
}

impl Lost {
    fn record(self, peer: &Peer, system: &ActorSystem, now: Instant) {
        let Self { to, reason, size, id, detail, manifest } = self;
        if let Some(manifest) = manifest {
            let serializer =
                system.serialization().lookup(&manifest).map_or(SerializerId::POSTCARD, |r| r.serializer);
            system.event_stream().publish_with(|| {
                EventStreamEvent::Serialization(SerializationFailure {
                    direction: SerializationDirection::Decode,
                    manifest: String::from(&*manifest).into(),
                    serializer,
                    recipient: to.clone(),
                    correlation_id: id,
                    error: (&*detail).into(),
                })
            });
        }
        peer.node.recorder.record(FlightEvent {
            time: now,
            association: peer.recorded_as,
            correlation_id: id,
            kind: FlightKind::Lost { reason, bytes: size as u64 },
        });
        system.dead_letters().record_with(reason, || {
            let letter = DeadLetter::of(MessageInfo::encoded("", size), reason)
                .with_peer(peer.address().clone())
                .with_correlation_id(id)
                .with_detail(detail);
            match to {
                Some(to) => letter.with_recipient(to),
                None => letter,
            }
        });
    }
}
