//! From bytes to a mailbox: what a reader keeps per recipient and type.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::task::Waker;

use super::registry::decode_whole;
use super::{DecodeError, Message, Named};
use crate::actor_ref::{ActorRef, AnyRef, Body, Cell};
use crate::headers::Headers;
use crate::mailbox::{Entry, Notice};
use crate::reason::{AskError, DeadLetterReason, Refusal};
use crate::remote::Route;
use crate::runtime::contained;
use crate::serialization::scope;

/// Decodes messages for one actor and hands them over in batches: one lock and one wake-up per batch.
///
/// Everything happens inside a decode scope, in the order of the calls.
pub trait Inlet: Send {
    /// Decodes one message and keeps it for the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// When the payload is not a message of the type. Nothing is kept; a reply address it used is failed.
    fn decode(&mut self, payload: &[u8], headers: Option<Headers>) -> Result<(), DecodeError>;

    /// As [`decode`](Self::decode), for a payload of a protobuf wire.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and when the type has no form on such a wire.
    fn decode_named(&mut self, named: &Named<'_>, headers: Option<Headers>) -> Result<(), DecodeError>;

    /// Hands over what was decoded. Waking the actor, and recording what it refuses as dead letters, is left to
    /// `after`: a reader flushes under its lock.
    fn flush(&mut self, after: &mut Aftermath) -> Flushed;

    /// Messages decoded and not flushed.
    fn pending(&self) -> usize;

    /// Whether its buffer is larger than a quiet recipient's should be.
    fn is_large(&self) -> bool;
    /// Gives its buffer back. Between batches.
    fn shrink(&mut self);
    /// Whether the actor has terminated.
    fn is_over(&self) -> bool;
}

/// What flushes leave to be done where no lock is held: actors to wake, and refused messages to record, drop and
/// tell the askers of. It keeps its memory from batch to batch.
#[derive(Default)]
pub struct Aftermath {
    wakers: Vec<Waker>,
    refused: Vec<Box<dyn FnOnce() + Send>>,
}

impl Aftermath {
    /// Nothing to do.
    #[must_use]
    pub const fn new() -> Self {
        Self { wakers: Vec::new(), refused: Vec::new() }
    }

    /// Does it. Subscribers run and messages are dropped: not to be called under a lock.
    pub fn run(&mut self) {
        // A wake-up that is missing costs more than a record: those first.
        for waker in self.wakers.drain(..) {
            contained(|| waker.wake());
        }
        for record in self.refused.drain(..) {
            contained(record);
        }
    }

    /// Gives the memory back; for a reader that has gone quiet.
    pub fn release(&mut self) {
        self.wakers.shrink_to_fit();
        self.refused.shrink_to_fit();
    }
}

impl Drop for Aftermath {
    /// Whoever was to run it is unwinding: an actor whose waker has been taken would never run again.
    fn drop(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

impl fmt::Debug for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aftermath({} to wake, {} to record)", self.wakers.len(), self.refused.len())
    }
}

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Messages in the mailbox now.
    pub delivered: usize,
    /// Messages recorded as dead letters.
    pub refused: usize,
}

/// Turns the payload of an older version into a message.
pub(super) type Convert<M> = Arc<dyn Fn(&[u8]) -> Result<M, DecodeError> + Send + Sync>;

/// The way of messages of type `M` into `recipient`; `None` when it takes another type.
pub(super) fn of<M: Message>(
    recipient: &AnyRef,
    peer: &Arc<dyn Route>,
    convert: Option<Convert<M>>,
) -> Option<Box<dyn Inlet>> {
    let ActorRef(cell) = recipient.downcast::<M>()?;
    Some(Box::new(Typed { cell, peer: peer.clone(), convert, batch: VecDeque::new(), messages: 0 }))
}

/// Messages that the buffer of a recipient may hold although it gets few.
const QUIET_CAPACITY: usize = 64;

struct Typed<M> {
    cell: Arc<Cell<M>>,
    peer: Arc<dyn Route>,
    convert: Option<Convert<M>>,
    batch: VecDeque<Entry<M>>,
    messages: u32,
}

impl<M: Message> Inlet for Typed<M> {
    fn decode(&mut self, payload: &[u8], headers: Option<Headers>) -> Result<(), DecodeError> {
        let Self { convert, batch, .. } = self;
        // Into its place inside the guard: a message handed out of it would be copied once more on the way.
        let decoded = guarded(|| {
            let message = match convert {
                None => decode_whole::<M>(payload)?,
                Some(convert) => convert(payload)?,
            };
            batch.push_back(match headers {
                None => Entry::User(message),
                Some(headers) => Entry::Notice(Box::new(Notice::Headed { message, headers, peer: None })),
            });
            Ok(())
        });
        if let Err(error) = decoded {
            return Err(undecoded(error));
        }
        self.messages += 1;
        Ok(())
    }

    fn decode_named(&mut self, named: &Named<'_>, headers: Option<Headers>) -> Result<(), DecodeError> {
        let Some(codec) = M::PROTOBUF else { return Err(undecoded(super::registry::no_protobuf::<M>())) };
        let batch = &mut self.batch;
        let decoded = guarded(|| {
            let message = (codec.decode)(named)?;
            batch.push_back(match headers {
                None => Entry::User(message),
                Some(headers) => Entry::Notice(Box::new(Notice::Headed { message, headers, peer: None })),
            });
            Ok(())
        });
        if let Err(error) = decoded {
            return Err(undecoded(error));
        }
        self.messages += 1;
        Ok(())
    }

    fn flush(&mut self, after: &mut Aftermath) -> Flushed {
        let messages = core::mem::take(&mut self.messages);
        if messages == 0 {
            return Flushed::default();
        }
        let Body::Local(local) = &self.cell.body else { return Flushed::default() };
        if local.mailbox.is_bounded() {
            // Each says for itself where it is from: one of them may be refused, or dropped later.
            let peer = &self.peer;
            let signed = self.batch.drain(..).map(|entry| signed(entry, peer)).collect();
            self.batch = signed;
        } else {
            let run = Notice::Run { peer: self.peer.clone(), count: messages };
            self.batch.push_front(Entry::Notice(Box::new(run)));
        }
        let (waker, refusal) = local.mailbox.push_many(&mut self.batch);
        after.wakers.extend(waker);
        let mut refused = 0;
        if let Some(refusal) = refusal {
            let reason = match refusal {
                Refusal::MailboxFull { .. } => DeadLetterReason::MailboxFull,
                other => other.reason(),
            };
            let entries = core::mem::take(&mut self.batch);
            refused = entries.iter().filter(|entry| !is_run(entry)).count();
            let cell = self.cell.clone();
            after.refused.push(Box::new(move || {
                for entry in entries {
                    cell.lost(entry, reason);
                }
            }));
        }
        Flushed { delivered: messages as usize - refused, refused }
    }

    fn pending(&self) -> usize {
        self.messages as usize
    }

    fn is_large(&self) -> bool {
        self.batch.capacity() > QUIET_CAPACITY
    }

    fn shrink(&mut self) {
        if self.batch.is_empty() {
            self.batch = VecDeque::new();
        }
    }

    fn is_over(&self) -> bool {
        match &self.cell.body {
            Body::Local(local) => local.mailbox.is_closed(),
            Body::Remote(_) | Body::Named(_) | Body::Adapter(_) => true,
        }
    }
}

fn is_run<M>(entry: &Entry<M>) -> bool {
    matches!(entry, Entry::Notice(notice) if matches!(**notice, Notice::Run { .. }))
}

/// Tells who asked, if the message was a question.
#[cold]
fn undecoded(error: DecodeError) -> DecodeError {
    if let Some(to) = scope::take_reply_to() {
        to.fail(AskError::Decode(error.to_string()));
    }
    error
}

/// Runs a decoder, which is user code: one that panics costs its message, not the connection.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    #[cfg(feature = "std")]
    {
        std::panic::catch_unwind(core::panic::AssertUnwindSafe(decode)).unwrap_or_else(|payload| {
            // The hook has reported it; its payload may panic again as it is dropped.
            core::mem::forget(payload);
            Err(DecodeError::failed("the decoder panicked"))
        })
    }
    #[cfg(not(feature = "std"))]
    {
        decode()
    }
}

/// The same message with the peer it came from.
fn signed<M>(entry: Entry<M>, peer: &Arc<dyn Route>) -> Entry<M> {
    let (message, headers) = match entry {
        Entry::User(message) => (message, Headers::new()),
        Entry::Notice(notice) => match *notice {
            Notice::Headed { message, headers, .. } => (message, headers),
            other => return Entry::Notice(Box::new(other)),
        },
    };
    Entry::Notice(Box::new(Notice::Headed { message, headers, peer: Some(peer.clone()) }))
}
