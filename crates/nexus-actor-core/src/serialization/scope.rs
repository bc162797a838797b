//! What a message needs while it is written or read and serde cannot hand it: the system it belongs to, and
//! the `Reply` that travels in the envelope instead of the payload.
//!
//! A reader enters a decode scope once per batch; the sending side enters an encode scope around one message.
//! With `std` the scope is a thread-local; without, one static behind a lock, as fits one thread.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use portable_atomic::{AtomicBool, Ordering};

use crate::reason::{AskError, Refusal};
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

/// An encoding is under way.
const ENCODING: u8 = 1;
/// A reply has been lifted.
const LIFTED: u8 = 2;
/// An error's text is kept.
const FAULT: u8 = 4;
/// Askers are told later that there is no answer.
const PUT_OFF: u8 = 8;

/// What the usual message needs to know of the scope, in one byte: most lift nothing and fail nowhere.
#[cfg(feature = "std")]
mod flags {
    std::thread_local! {
        static FLAGS: core::cell::Cell<u8> = const { core::cell::Cell::new(0) };
    }
    #[inline]
    pub(super) fn get() -> u8 {
        FLAGS.with(core::cell::Cell::get)
    }
    #[inline]
    pub(super) fn set(flags: u8) {
        FLAGS.with(|cell| cell.set(flags));
    }
}

#[cfg(not(feature = "std"))]
mod flags {
    use portable_atomic::{AtomicU8, Ordering};
    static FLAGS: AtomicU8 = AtomicU8::new(0);
    #[inline]
    pub(super) fn get() -> u8 {
        FLAGS.load(Ordering::Relaxed)
    }
    #[inline]
    pub(super) fn set(flags: u8) {
        FLAGS.store(flags, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Scope {
    system: Option<ActorSystem>,
    route: Option<Arc<dyn Route>>,
    reply_to: Option<ReplyTo>,
    lifted: Option<LiftedReply>,
    fault: Option<String>,
    unanswered: Vec<Unanswered>,
}

/// An asker that is to be told that there will be no answer.
pub type Unanswered = (ReplyTo, AskError);

/// Runs `f` on the scope of this thread. A thread that is ending has none any more: nothing happens then.
#[cfg(feature = "std")]
fn with<R: Default>(f: impl FnOnce(&mut Scope) -> R) -> R {
    std::thread_local! {
        static SCOPE: core::cell::RefCell<Scope> = core::cell::RefCell::default();
    }
    SCOPE.try_with(|scope| f(&mut scope.borrow_mut())).unwrap_or_default()
}

#[cfg(not(feature = "std"))]
fn with<R>(f: impl FnOnce(&mut Scope) -> R) -> R {
    static SCOPE: crate::lock::Lock<Option<Scope>> = crate::lock::Lock::new(None);
    f(SCOPE.lock().get_or_insert_default())
}

/// The system and the peer of a scope.
type Around = (Option<ActorSystem>, Option<Arc<dyn Route>>);

/// Leaves the decode scope when dropped and restores the one before.
#[must_use = "the scope ends when this is dropped"]
pub struct DecodeScope {
    before: Option<Around>,
}

impl DecodeScope {
    /// Enters the scope of `system`, for messages that came from the peer behind `route`.
    pub fn enter(system: &ActorSystem, route: Option<Arc<dyn Route>>) -> Self {
        let system = system.clone();
        let (_unused, before) = with(|scope| {
            let unused = scope.reply_to.take();
            (unused, (scope.system.replace(system), core::mem::replace(&mut scope.route, route)))
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

/// The encoding of one envelope; ends when dropped, also by a panic.
#[derive(Debug)]
#[must_use = "the encoding ends when this is dropped"]
pub struct Encoding(());

impl Encoding {
    /// Begins one. `None` when an encoding is under way on this thread already: user serialization runs under a
    /// lane's lock, and a send from inside it would wait for itself.
    #[inline]
    pub fn begin() -> Option<Self> {
        let flags = flags::get();
        if flags & ENCODING != 0 {
            return None;
        }
        flags::set(flags | ENCODING);
        Some(Self(()))
    }

    /// Whether the payload lifted a reply into the envelope.
    #[inline]
    #[must_use]
    pub fn has_lifted(&self) -> bool {
        flags::get() & LIFTED != 0
    }

    /// Takes what the payload lifted into the envelope.
    #[must_use]
    pub fn take_lifted(&mut self) -> Option<LiftedReply> {
        if !self.has_lifted() {
            return None;
        }
        flags::set(flags::get() & !LIFTED);
        with(|scope| scope.lifted.take())
    }
}

impl Drop for Encoding {
    #[inline]
    fn drop(&mut self) {
        let left = self.take_lifted();
        flags::set(flags::get() & !ENCODING);
        drop(left);
    }
}

/// Runs `write` as the encoding of one envelope and returns what its payload lifted into the envelope.
///
/// # Errors
/// [`reentry`], without running `write`, when an encoding is under way on this thread already; see
/// [`Encoding::begin`].
pub fn encode<R>(write: impl FnOnce() -> R) -> Result<(R, Option<LiftedReply>), Refusal> {
    let mut encoding = Encoding::begin().ok_or_else(reentry)?;
    let result = write();
    let lifted = encoding.take_lifted();
    Ok((result, lifted))
}

/// While it lives, who on this thread fails or drops a `Reply` of another node tells nobody yet. A reader decodes
/// under its lock, and telling a peer may run anything.
#[derive(Debug)]
#[must_use = "askers are told again when this is dropped"]
pub struct PutOff(());

impl PutOff {
    /// Begins. Not to be nested: the inner one would end both.
    pub fn begin() -> Self {
        flags::set(flags::get() | PUT_OFF);
        Self(())
    }

    /// Ends, and moves whom to tell now into `unanswered`: call their routes' `reply_failed` outside any lock.
    pub fn end(self, unanswered: &mut Vec<Unanswered>) {
        with(|scope| unanswered.append(&mut scope.unanswered));
    }
}

impl Drop for PutOff {
    fn drop(&mut self) {
        flags::set(flags::get() & !PUT_OFF);
    }
}

/// Keeps what `to` is to be told until the [`PutOff`] of this thread ends; gives it back when there is none.
pub(crate) fn put_off(to: ReplyTo, why: AskError) -> Option<Unanswered> {
    if flags::get() & PUT_OFF == 0 {
        return Some((to, why));
    }
    with(|scope| scope.unanswered.push((to, why)));
    None
}

/// Whether an encoding is under way on this thread.
#[inline]
#[must_use]
pub fn is_encoding() -> bool {
    flags::get() & ENCODING != 0
}

/// Lets a send begin that takes a lane's lock.
///
/// # Errors
/// [`reentry`] when an encoding is under way on this thread.
#[inline]
pub fn refuse_reentry() -> Result<(), Refusal> {
    if is_encoding() { Err(reentry()) } else { Ok(()) }
}

/// What is said to a message that is sent from inside the serialization of another.
#[cold]
#[must_use]
pub fn reentry() -> Refusal {
    Refusal::Encode(String::from("a message cannot be sent from inside the serialization of another"))
}

/// Moves a reply from the payload into the envelope.
///
/// # Errors
/// Outside an encode scope, or when the payload holds a second reply.
pub fn lift(reply: LiftedReply) -> Result<(), &'static str> {
    let flags = flags::get();
    if flags & ENCODING == 0 {
        return Err("a Reply can only be serialized inside a message that is sent to an actor");
    }
    if flags & LIFTED != 0 {
        return Err("a message carries at most one Reply: it travels as the envelope's reply_to");
    }
    let mut reply = Some(reply);
    with(|scope| scope.lifted = reply.take());
    if reply.is_some() {
        return Err("this thread is ending: it cannot send a Reply to another node any more");
    }
    flags::set(flags | LIFTED);
    Ok(())
}

/// Keeps the text of an error that the serializer in between cannot carry.
pub fn set_fault(text: String) {
    flags::set(flags::get() | FAULT);
    with(|scope| scope.fault = Some(text));
}

#[inline]
pub(crate) fn clear_fault() {
    if flags::get() & FAULT != 0 {
        let _old = take_fault();
    }
}

pub(crate) fn take_fault() -> Option<String> {
    let flags = flags::get();
    if flags & FAULT == 0 {
        return None;
    }
    flags::set(flags & !FAULT);
    with(|scope| scope.fault.take())
}
