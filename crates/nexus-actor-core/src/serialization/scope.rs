//! What a message needs while it is written or read and serde cannot hand it: the system it belongs to, and
//! the `Reply` that travels in the envelope instead of the payload.
//!
//! A reader enters a decode scope once per batch; the sending side enters an encode scope around one message.
//! With `std` the scope is a thread-local; without, one static behind a lock, as fits one thread.

use alloc::string::String;
use alloc::sync::Arc;

use portable_atomic::{AtomicBool, Ordering};

use crate::remote::{PendingReply, ReplyTo, Route};
use crate::system::ActorSystem;

/// What an outgoing message gave up into its envelope.
#[derive(Clone)]
pub enum LiftedReply {
    /// A reply awaited here; the association gives it a key and completes it.
    Pending(Arc<dyn PendingReply>),
    /// A reply awaited on another node, passed on.
    Foreign(ForeignReply),
}

/// The right to answer a question of another node, on its way to a third.
#[derive(Clone)]
pub struct ForeignReply {
    /// Where the answer goes.
    pub to: ReplyTo,
    passed_on: Arc<AtomicBool>,
}

impl ForeignReply {
    pub(crate) fn new(to: ReplyTo) -> (Self, Arc<AtomicBool>) {
        let passed_on = Arc::new(AtomicBool::new(false));
        (Self { to, passed_on: passed_on.clone() }, passed_on)
    }

    /// Says that the message around it was accepted: dropping the value that is left here means nothing now.
    pub fn passed_on(&self) {
        self.passed_on.store(true, Ordering::Release);
    }
}

#[derive(Default)]
struct Scope {
    system: Option<ActorSystem>,
    route: Option<Arc<dyn Route>>,
    reply_to: Option<ReplyTo>,
    lifting: bool,
    lifted: Option<LiftedReply>,
    fault: Option<String>,
}

#[cfg(feature = "std")]
fn with<R>(f: impl FnOnce(&mut Scope) -> R) -> R {
    std::thread_local! {
        static SCOPE: core::cell::RefCell<Scope> = core::cell::RefCell::default();
    }
    SCOPE.with(|scope| f(&mut scope.borrow_mut()))
}

#[cfg(not(feature = "std"))]
fn with<R>(f: impl FnOnce(&mut Scope) -> R) -> R {
    static SCOPE: crate::lock::Lock<Option<Scope>> = crate::lock::Lock::new(None);
    f(SCOPE.lock().get_or_insert_default())
}

/// Leaves the decode scope when dropped and restores the one before.
#[must_use = "the scope ends when this is dropped"]
pub struct DecodeScope {
    before: Option<(Option<ActorSystem>, Option<Arc<dyn Route>>)>,
}

impl DecodeScope {
    /// Enters the scope of `system`, for messages that came from the peer behind `route`.
    pub fn enter(system: &ActorSystem, route: Option<Arc<dyn Route>>) -> Self {
        let system = system.clone();
        let before = with(|scope| {
            scope.reply_to = None;
            (scope.system.replace(system), core::mem::replace(&mut scope.route, route))
        });
        Self { before: Some(before) }
    }
}

impl Drop for DecodeScope {
    fn drop(&mut self) {
        let Some((system, route)) = self.before.take() else { return };
        // The old values are dropped outside the scope's borrow.
        let _old = with(|scope| {
            let reply = scope.reply_to.take();
            (
                core::mem::replace(&mut scope.system, system),
                core::mem::replace(&mut scope.route, route),
                reply,
            )
        });
    }
}

/// Sets the reply address of the message about to be read.
pub fn set_reply_to(reply_to: Option<ReplyTo>) {
    let _old = with(|scope| core::mem::replace(&mut scope.reply_to, reply_to));
}

/// Takes the reply address, if the message did not use it.
#[must_use]
pub fn take_reply_to() -> Option<ReplyTo> {
    with(|scope| scope.reply_to.take())
}

/// The system whose scope is entered.
#[must_use]
pub fn system() -> Option<ActorSystem> {
    with(|scope| scope.system.clone())
}

/// The association the messages of this scope came by.
#[must_use]
pub fn route() -> Option<Arc<dyn Route>> {
    with(|scope| scope.route.clone())
}

/// Runs `write` as the encoding of one envelope and returns what its payload lifted into the envelope.
///
/// Returns `Err(())` without running `write` when an encoding is under way on this thread already: user
/// serialization runs under a lane's lock, and a send from inside it would wait for itself.
#[allow(clippy::result_unit_err)]
pub fn encode<R>(write: impl FnOnce() -> R) -> Result<(R, Option<LiftedReply>), ()> {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            with(|scope| scope.lifting = false);
        }
    }
    if with(|scope| core::mem::replace(&mut scope.lifting, true)) {
        return Err(());
    }
    let leave = Leave;
    let result = write();
    let lifted = with(|scope| scope.lifted.take());
    drop(leave);
    Ok((result, lifted))
}

/// Whether an encoding is under way on this thread.
#[must_use]
pub fn is_encoding() -> bool {
    with(|scope| scope.lifting)
}

/// Moves a reply from the payload into the envelope.
///
/// # Errors
/// Outside an encode scope, or when the payload holds a second reply.
pub fn lift(reply: LiftedReply) -> Result<(), &'static str> {
    with(|scope| {
        if !scope.lifting {
            return Err("a Reply can only be serialized inside a message that is sent to an actor");
        }
        if scope.lifted.is_some() {
            return Err("a message carries at most one Reply: it travels as the envelope's reply_to");
        }
        scope.lifted = Some(reply);
        Ok(())
    })
}

/// Keeps the text of an error that the serializer in between cannot carry.
pub fn set_fault(text: String) {
    with(|scope| scope.fault = Some(text));
}

pub(crate) fn clear_fault() {
    with(|scope| scope.fault = None);
}

pub(crate) fn take_fault() -> Option<String> {
    with(|scope| scope.fault.take())
}
