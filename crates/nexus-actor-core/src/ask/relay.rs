//! Answers that come by name, and answers that go on from one wire to another.

use alloc::format;
use alloc::sync::{Arc, Weak};
use core::time::Duration;

use portable_atomic::{AtomicBool, Ordering};

#[cfg(feature = "protobuf")]
use super::Slot;
use super::{RemoteReply, drop_reason};
use crate::lock::Lock;
use crate::reason::AskError;
use crate::remote::{PendingReply, ReplyKey, ReplyTo, Route};
use crate::scheduler::Cancel;
use crate::serialization::{DecodeError, EncodeError, Encoder, Named};

/// For how long a question that was passed on over another wire waits for its answer. Its asker has its own deadline,
/// which nobody here knows; this one ends what a peer never answers.
pub const RELAY_TIMEOUT: Duration = Duration::from_secs(60);

/// How an answer is read.
pub(super) enum Read<T> {
    /// From a wire without type names.
    Native(fn(&[u8]) -> Result<T, DecodeError>),
    /// From a wire with type names.
    #[cfg(feature = "protobuf")]
    Named(fn(&Named<'_>) -> Result<T, DecodeError>),
}

impl<T> Read<T> {
    fn native(&self, payload: &[u8]) -> Result<T, DecodeError> {
        match self {
            Self::Native(read) => read(payload),
            #[cfg(feature = "protobuf")]
            Self::Named(_) => {
                Err(DecodeError::failed("the answer to a question of a protobuf wire has no type's name"))
            }
        }
    }

    fn named(&self, named: &Named<'_>) -> Result<T, DecodeError> {
        match self {
            Self::Native(_) => Err(DecodeError::failed(format_args!(
                "`{}` came as the answer to a question of the native wire",
                crate::address::printable(named.type_name)
            ))),
            #[cfg(feature = "protobuf")]
            Self::Named(read) => read(named),
        }
    }
}

/// A question that was passed on over a wire on which its asker cannot be named: the answer comes back here and goes on
/// to the asker, written anew.
pub(super) struct Relay<T> {
    me: Weak<Self>,
    to: ReplyTo,
    encode: fn(&T, &mut Encoder<'_>) -> Result<(), EncodeError>,
    read: Read<T>,
    /// The message around the reply was accepted: the right to answer is here now and no longer in the `Reply`.
    passed_on: Arc<AtomicBool>,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    /// The asker has an answer, or has been told that there is none.
    over: bool,
    pending_at: Option<(Arc<dyn Route>, ReplyKey)>,
    deadline: Option<Cancel>,
}

impl<T: Send + 'static> Relay<T> {
    /// For the reply `remote`, which is in a message that is being encoded.
    pub(super) fn new(remote: &RemoteReply<T>, read: Read<T>) -> Arc<Self> {
        let passed_on = Arc::new(AtomicBool::new(false));
        *remote.lifted.lock() = Some(passed_on.clone());
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            to: remote.to.clone(),
            encode: remote.encode,
            read,
            passed_on,
            state: Lock::default(),
        })
    }

    /// Ends it, once.
    fn finish(&self, how: impl FnOnce(&ReplyTo)) {
        let state = {
            let mut state = self.state.lock();
            if state.over {
                return;
            }
            core::mem::replace(&mut *state, State { over: true, ..State::default() })
        };
        if let Some(deadline) = state.deadline {
            deadline.cancel();
        }
        how(&self.to);
    }

    fn answer(&self, read: Result<T, DecodeError>) -> Result<(), DecodeError> {
        match read {
            Ok(value) => {
                self.finish(|to| {
                    let encode = self.encode;
                    let sent = to.route.reply(to.key, to.correlation_id, &mut |e| encode(&value, e));
                    if let Err(refusal) = sent {
                        to.clone().fail(AskError::from(refusal));
                    }
                });
                Ok(())
            }
            Err(error) => {
                self.finish(|to| to.clone().fail(AskError::Decode(format!("the answer: {error}"))));
                Err(error)
            }
        }
    }

    fn expire(&self) {
        let place = self.state.lock().pending_at.take();
        self.finish(|to| to.clone().fail(AskError::Timeout { after: RELAY_TIMEOUT }));
        if let Some((route, key)) = place {
            route.forget(key);
        }
    }
}

impl<T: Send + 'static> PendingReply for Relay<T> {
    fn complete(&self, payload: &[u8]) -> Result<(), DecodeError> {
        self.answer(self.read.native(payload))
    }

    fn complete_named(&self, named: &Named<'_>) -> Result<(), DecodeError> {
        self.answer(self.read.named(named))
    }

    fn fail(&self, error: AskError) {
        self.finish(|to| to.clone().fail(error));
    }

    fn pending_at(&self, place: Option<(Arc<dyn Route>, ReplyKey)>) {
        self.passed_on.store(place.is_some(), Ordering::Release);
        let deadline = match &place {
            Some((route, _)) => self.to.route.system().or_else(|| route.system()).map(|system| {
                let me = self.me.clone();
                system.scheduler().schedule_once(RELAY_TIMEOUT, move || {
                    if let Some(me) = me.upgrade() {
                        me.expire();
                    }
                })
            }),
            None => None,
        };
        let mut state = self.state.lock();
        // The answer may have been faster.
        let late = state.over && place.is_some();
        let old = if late {
            (place, deadline)
        } else {
            (
                core::mem::replace(&mut state.pending_at, place),
                core::mem::replace(&mut state.deadline, deadline),
            )
        };
        drop(state);
        if let Some(deadline) = old.1 {
            deadline.cancel();
        }
    }

    fn is_over(&self) -> bool {
        self.state.lock().over
    }
}

impl<T> Drop for Relay<T> {
    /// Whoever held the question has gone without a word.
    fn drop(&mut self) {
        let state = core::mem::take(&mut *self.state.lock());
        if let Some(deadline) = state.deadline {
            deadline.cancel();
        }
        if state.over || !self.passed_on.load(Ordering::Acquire) {
            return;
        }
        let (to, why) = (self.to.clone(), drop_reason());
        // It may be dropped under a lock of the route it waited on, and telling may run anything.
        match to.route.system() {
            Some(system) => system.spawn_task(async move { to.fail(why) }),
            None => to.fail(why),
        }
    }
}

/// What a reply is lifted as that nobody waits for: the message needs one where it goes.
pub(super) struct Nobody;

impl PendingReply for Nobody {
    fn complete(&self, _: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }

    fn fail(&self, _: AskError) {}

    fn pending_at(&self, _: Option<(Arc<dyn Route>, ReplyKey)>) {}

    fn is_over(&self) -> bool {
        true
    }
}

/// An ask of this process whose answer comes by name.
#[cfg(feature = "protobuf")]
pub(super) struct ByName<T> {
    pub(super) slot: Arc<Slot<T>>,
    pub(super) read: fn(&Named<'_>) -> Result<T, DecodeError>,
}

#[cfg(feature = "protobuf")]
impl<T> ByName<T> {
    fn settle(&self, read: Result<T, DecodeError>) -> Result<(), DecodeError> {
        match read {
            Ok(value) => {
                self.slot.settle(Ok(value), true);
                Ok(())
            }
            Err(error) => {
                self.slot.settle(Err(AskError::Decode(format!("the answer: {error}"))), true);
                Err(error)
            }
        }
    }
}

#[cfg(feature = "protobuf")]
impl<T: Send + 'static> PendingReply for ByName<T> {
    fn complete(&self, _: &[u8]) -> Result<(), DecodeError> {
        self.settle(Err(DecodeError::failed(
            "the answer to a question of a protobuf wire has no type's name",
        )))
    }

    fn complete_named(&self, named: &Named<'_>) -> Result<(), DecodeError> {
        self.settle((self.read)(named))
    }

    fn fail(&self, error: AskError) {
        self.slot.settle(Err(error), true);
    }

    fn pending_at(&self, place: Option<(Arc<dyn Route>, ReplyKey)>) {
        self.slot.pending_at(place);
    }

    fn is_over(&self) -> bool {
        self.slot.is_over()
    }
}
