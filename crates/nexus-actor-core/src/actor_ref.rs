//! References to actors, here or on another node.

mod any_ref;
mod stopped;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::hash::{Hash, Hasher};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

pub use self::any_ref::AnyRef;
pub(crate) use self::any_ref::identity_of;
pub use self::stopped::Stopped;

use self::any_ref::{AnyCell, same};
use crate::ask::{Ask, Reply, with_drop_reason};
use crate::dead_letter::DeadLetter;
use crate::headers::Headers;
use crate::mailbox::{Entry, Mailbox, Notice};
use crate::nest::{NameKey, Nest};
use crate::path::ActorPath;
use crate::reason::{AskError, Refusal};
use crate::remote::{Fate, Route};
use crate::serialization::{EncodeError, Encoder};
use crate::system::ActorSystem;

/// A reference to an actor that takes messages of type `M`: one word, cheap to clone, usable from any thread.
///
/// The actor may live in this process or on another node; every call is the same. References are equal when
/// authority, path and uid are; one resolved by name has no uid, reaches whoever lives at that name, and
/// equals only its like. Messages from one sender to one recipient arrive in the order they were sent.
///
/// A reference may travel inside a message and is serialized as its path.
pub struct ActorRef<M>(pub(crate) Arc<Cell<M>>);

/// What an [`ActorRef`] points to.
pub(crate) struct Cell<M> {
    pub(crate) body: Body<M>,
}

pub(crate) enum Body<M> {
    /// An actor of this process.
    Local(Local<M>),
    /// An actor reached over a wire.
    Remote(Box<RemoteCell<M>>),
    /// Whoever lives at a path of this process.
    Named(Box<NamedCell>),
    /// A function that takes the message on, for instance to a router's routee.
    Adapter(Box<AdapterCell<M>>),
}

pub(crate) struct Local<M> {
    pub(crate) mailbox: Mailbox<M>,
    pub(crate) nest: Arc<Nest>,
    pub(crate) name: Option<NameKey>,
}

pub(crate) struct RemoteCell<M> {
    pub(crate) route: Arc<dyn Route>,
    pub(crate) recipient: u32,
    pub(crate) path: ActorPath,
    pub(crate) encode: fn(&M, &mut Encoder<'_>) -> Result<(), EncodeError>,
    pub(crate) system: ActorSystem,
}

impl<M> Drop for RemoteCell<M> {
    fn drop(&mut self) {
        self.route.release(self.recipient);
    }
}

pub(crate) struct NamedCell {
    pub(crate) system: ActorSystem,
    pub(crate) path: ActorPath,
}

pub(crate) struct AdapterCell<M> {
    pub(crate) deliver: Box<dyn Deliver<M>>,
    pub(crate) target: AnyRef,
    pub(crate) id: u64,
}

/// Takes messages in the place of an actor.
pub(crate) trait Deliver<M>: Send + Sync + 'static {
    /// Takes a message on, or gives it back with the reason.
    fn deliver(&self, message: M, headers: Option<Headers>) -> Result<(), Refused<M>>;
    /// Ready when there may be room after a refusal for lack of it, or when waiting is of no use. The message
    /// is the one refused, where it is of this type.
    fn poll_room(&self, cx: &Context<'_>, message: Option<&M>) -> Poll<()>;
    /// Takes back what [`poll_room`](Self::poll_room) registered.
    fn forget_room(&self, waker: &Waker);
    /// Why a message would be refused now, if that is known without sending one.
    fn refusal(&self) -> Option<Refusal>;
}

/// What [`ActorRef::adapt`] makes of a function.
struct Adapt<M, F> {
    to: ActorRef<M>,
    convert: F,
}

impl<M, N, F> Deliver<N> for Adapt<M, F>
where
    M: Send + 'static,
    F: Fn(N) -> M + Send + Sync + 'static,
{
    fn deliver(&self, message: N, headers: Option<Headers>) -> Result<(), Refused<N>> {
        // Asked before the conversion, which cannot be undone. What is refused after all is recorded.
        if let Some(refusal) = self.to.0.refusal() {
            return Err(Refused::here(message, refusal));
        }
        let message = (self.convert)(message);
        if let Err(refused) = self.to.offer_with(message, headers) {
            self.to.give_up(refused);
        }
        Ok(())
    }

    fn poll_room(&self, cx: &Context<'_>, _message: Option<&N>) -> Poll<()> {
        self.to.0.poll_room(cx, None)
    }

    fn forget_room(&self, waker: &Waker) {
        self.to.0.forget_room(waker);
    }

    fn refusal(&self) -> Option<Refusal> {
        self.to.0.refusal()
    }
}

/// A message that was not accepted, and why.
#[derive(Clone, PartialEq, Eq)]
pub struct TellError<M> {
    /// The message as it was given.
    pub message: M,
    /// Why it was not accepted.
    pub refusal: Refusal,
}

impl<M> fmt::Debug for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TellError").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.refusal, f)
    }
}

impl<M> core::error::Error for TellError<M> {}

/// A message that was not taken by a recipient, which another may still take or the same one later. Whoever gives it up
/// says so to the route that refused it, once.
pub(crate) struct Refused<M> {
    pub(crate) message: M,
    pub(crate) refusal: Refusal,
    pub(crate) by: Option<Arc<dyn Route>>,
}

impl<M> Refused<M> {
    /// Refused in this process.
    pub(crate) const fn here(message: M, refusal: Refusal) -> Self {
        Self { message, refusal, by: None }
    }

    /// The sender gets it back.
    #[cold]
    fn returned(self) -> TellError<M> {
        let Self { message, refusal, by } = self;
        given_up(by, Fate::Unsent);
        TellError { message, refusal }
    }
}

fn given_up(by: Option<Arc<dyn Route>>, fate: Fate) {
    if let Some(by) = by {
        by.given_up(fate);
    }
}

impl<M: Send + 'static> ActorRef<M> {
    pub(crate) fn from_cell(body: Body<M>) -> Self {
        Self(Arc::new(Cell { body }))
    }

    /// Sends `message`. Never waits and never panics by itself. For an actor on another node the message is serialized in
    /// this call: a panic of its own [`Serialize`](serde::Serialize) or [`Message::encode`](crate::serialization::Message::encode)
    /// unwinds out of it, and the message is not sent.
    ///
    /// At most once, in order per sender and recipient. What is not accepted becomes a dead letter that says
    /// why; use [`try_tell`](Self::try_tell) to get it back instead, or [`send`](Self::send) to wait for room.
    #[inline]
    pub fn tell(&self, message: M) {
        if let Err(refused) = self.offer(message) {
            self.give_up(refused);
        }
    }

    /// Sends `message` with metadata, which crosses nodes unchanged.
    pub fn tell_with_headers(&self, message: M, headers: Headers) {
        // Kept for the record of a message that is refused.
        let kept = headers.clone();
        if let Err(refused) = self.offer_with(message, Some(headers)) {
            self.give_up_with(refused, Some(&kept));
        }
    }

    /// Sends `message`, or returns it with the reason. Never waits.
    ///
    /// # Errors
    /// [`TellError`] with the message inside; nothing was queued and nothing is recorded. For an actor on another node it
    /// counts as a send failure.
    #[inline]
    pub fn try_tell(&self, message: M) -> Result<(), TellError<M>> {
        self.offer(message).map_err(Refused::returned)
    }

    /// [`try_tell`](Self::try_tell) with metadata.
    ///
    /// # Errors
    /// As [`try_tell`](Self::try_tell).
    pub fn try_tell_with(&self, message: M, headers: Option<Headers>) -> Result<(), TellError<M>> {
        self.offer_with(message, headers).map_err(Refused::returned)
    }

    #[inline]
    fn offer(&self, message: M) -> Result<(), Refused<M>> {
        if let Body::Local(local) = &self.0.body {
            return match local.mailbox.push(Entry::User(message)) {
                Ok(None) => Ok(()),
                Ok(Some(displaced)) => {
                    self.0.displaced(displaced);
                    Ok(())
                }
                Err((Entry::User(message), refusal)) => Err(Refused::here(message, refusal)),
                Err((Entry::Notice(_), _)) => Ok(()),
            };
        }
        self.offer_with(message, None)
    }

    /// Sends `message`, or returns it for whoever calls to give up or offer again.
    pub(crate) fn offer_with(&self, message: M, headers: Option<Headers>) -> Result<(), Refused<M>> {
        match &self.0.body {
            Body::Local(local) => {
                let entry = match headers {
                    Some(headers) => Entry::Notice(Box::new(Notice::Headed { message, headers, peer: None })),
                    None => Entry::User(message),
                };
                match local.mailbox.push(entry) {
                    Ok(None) => Ok(()),
                    Ok(Some(displaced)) => {
                        self.0.displaced(displaced);
                        Ok(())
                    }
                    Err((entry, refusal)) => match entry {
                        Entry::User(message) => Err(Refused::here(message, refusal)),
                        Entry::Notice(notice) => match *notice {
                            Notice::Headed { message, .. } => Err(Refused::here(message, refusal)),
                            Notice::Run { .. }
                            | Notice::Terminated { .. }
                            | Notice::Signal(_)
                            | Notice::Stop
                            | Notice::Call(_)
                            | Notice::Timer { .. }
                            | Notice::ReceiveTimeout { .. } => Ok(()),
                        },
                    },
                }
            }
            Body::Remote(remote) => {
                let encode = remote.encode;
                match remote.route.send(remote.recipient, headers.as_ref(), &mut |e| encode(&message, e)) {
                    Ok(()) => Ok(()),
                    Err(refusal) => Err(Refused { message, refusal, by: Some(remote.route.clone()) }),
                }
            }
            Body::Named(named) => match named.find::<M>() {
                Some(now) => now.offer_with(message, headers),
                None => Err(Refused::here(message, Refusal::NoSuchActor)),
            },
            Body::Adapter(adapter) => adapter.deliver.deliver(message, headers),
        }
    }

    /// Sends `message`, waiting for room in a full mailbox or lane.
    ///
    /// # Errors
    /// [`TellError`] with the message inside when waiting is of no use: the recipient has stopped, the peer
    /// is quarantined, the message is too large.
    ///
    /// # Cancel safety
    /// Dropping the future drops the message unsent; once it has returned, the message is queued. One that was dropped
    /// while it waited for room to another node counts as a send failure of that node, and is no dead letter.
    ///
    /// # Panics
    /// Never; polled after completion it stays pending.
    pub fn send(&self, message: M) -> Sending<'_, M> {
        Sending { to: self, message: Some(message), waiting: None, refused_by: None }
    }

    /// Asks: `make` builds the message around a [`Reply`], and the future gives the answer.
    ///
    /// The question is sent at once, not at the first poll. The deadline is the system's (5 s unless
    /// configured) or [`Ask::timeout`]'s. A question to another node of which nothing else is on its way may be
    /// written by this call itself, in one system call that does not block.
    ///
    /// # Cancel safety
    /// Dropping the [`Ask`] frees its place; a late answer is discarded.
    pub fn ask<T: Send + 'static>(&self, make: impl FnOnce(Reply<T>) -> M) -> Ask<T> {
        let (ask, reply) = Ask::new();
        match self.offer(make(reply)) {
            Ok(()) => match self.0.any_system() {
                Some(system) => ask.watched_by(system),
                None => ask,
            },
            Err(Refused { message, refusal, by }) => {
                given_up(by, Fate::DeadLetter);
                let reason = refusal.reason();
                let error = AskError::from(refusal);
                self.0.dead_letter(reason, None);
                ask.fail(error.clone());
                with_drop_reason(error, || drop(message));
                ask
            }
        }
    }

    /// A reference that takes messages of type `N` and hands them on as `M`.
    ///
    /// `convert` runs on the sender's thread and must not block. The new reference watches and stops the same
    /// actor; it cannot cross a wire.
    pub fn adapt<N: Send + 'static>(&self, convert: impl Fn(N) -> M + Send + Sync + 'static) -> ActorRef<N> {
        ActorRef::adapter(self.to_any(), Adapt { to: self.clone(), convert })
    }

    /// A reference whose messages `deliver` takes; watching and stopping it means `target`.
    pub(crate) fn adapter(target: AnyRef, deliver: impl Deliver<M>) -> Self {
        let id = target.any_system().map_or(0, |system| system.next_uid().get());
        Self::from_cell(Body::Adapter(Box::new(AdapterCell { deliver: Box::new(deliver), target, id })))
    }

    /// The actor's path.
    #[must_use]
    pub fn path(&self) -> ActorPath {
        self.0.path()
    }

    /// The same reference without its message type.
    #[must_use]
    pub fn to_any(&self) -> AnyRef {
        AnyRef(self.0.clone())
    }

    /// Asks the actor to stop. It finishes the message it is handling, and of those it has taken out of its
    /// mailbox already at most 255 more; what waits becomes dead letters.
    ///
    /// An actor on another node refuses: a stop needs a permission that is given to peers whose identity is proven, and
    /// this version cannot prove any. Nothing happens here; the other node records a dead letter with the
    /// reason *denied*. Send a message whose handler calls [`Context::stop`](crate::Context::stop).
    pub fn stop(&self) {
        self.to_any().stop();
    }

    /// Waits until the actor has stopped for good and its name is free: another actor may be spawned under it at once.
    /// Ready at once where nobody lives at the name. It stops nobody: call [`stop`](Self::stop) before, or something else
    /// does.
    ///
    /// An actor on another node is watched, from this call on: the future is ready when that node says that the actor has
    /// terminated, or cannot be reached, or when this system ends. An actor is told why in
    /// [`Signal::Terminated`](crate::Signal::Terminated).
    ///
    /// There is no deadline. A suspended handler ends by that of the [stop](crate::Props::with_stop_deadline), one that
    /// blocks its thread when it likes: put a timeout around this where that matters. A handler that awaits the end of its
    /// own actor waits for that deadline.
    ///
    /// # Cancel safety
    /// Dropping the future takes back the watch; the actor does not notice.
    ///
    /// # Source
    /// Pekko's `gracefulStop` is complete at the notice of termination, when the name may still be taken; this is not.
    ///
    /// ```
    /// # use nexus_actor_core::{Actor, ActorError, ActorSystem, Context, Props};
    /// # struct Idle;
    /// # impl Actor for Idle {
    /// #     type Msg = ();
    /// #     async fn receive(&mut self, _: (), _: &mut Context<'_, Self>) -> Result<(), ActorError> { Ok(()) }
    /// # }
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let system = ActorSystem::builder("shop").build()?;
    /// let till = system.spawn("till", Props::from_fn(|| Idle))?;
    /// till.stop();
    /// till.stopped().await;
    /// system.spawn("till", Props::from_fn(|| Idle))?;
    /// # system.shutdown().await?;
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn stopped(&self) -> Stopped {
        self.to_any().stopped()
    }

    /// Whether this actor lives in this process.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.0.body {
            Body::Local(_) | Body::Named(_) => true,
            Body::Remote(_) => false,
            Body::Adapter(adapter) => adapter.target.is_local(),
        }
    }

    /// Whether a local actor has terminated. Of an actor elsewhere nothing is known: `false`.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.0.terminated()
    }

    /// Messages that wait in a local actor's mailbox; zero for others.
    #[must_use]
    pub fn mailbox_len(&self) -> usize {
        match &self.0.body {
            Body::Local(local) => local.mailbox.len(),
            Body::Remote(_) | Body::Named(_) | Body::Adapter(_) => 0,
        }
    }

    /// As [`AnyRef::stop_in_order`].
    pub(crate) fn stop_in_order(&self) {
        self.0.stop_in_order();
    }

    /// How busy a local actor is: zero at rest, else one more than what waits for it.
    pub(crate) fn load(&self) -> usize {
        match &self.0.body {
            Body::Local(local) => local.mailbox.load(),
            Body::Remote(_) | Body::Named(_) | Body::Adapter(_) => 0,
        }
    }

    /// Records a message that its sender gives up.
    pub(crate) fn give_up(&self, refused: Refused<M>) {
        self.give_up_with(refused, None);
    }

    fn give_up_with(&self, refused: Refused<M>, headers: Option<&Headers>) {
        let Refused { message, refusal, by } = refused;
        given_up(by, Fate::DeadLetter);
        self.0.refused(&refusal, headers);
        with_drop_reason(AskError::from(refusal), || drop(message));
    }
}

impl<M: Send + 'static> Cell<M> {
    pub(crate) fn any_system(&self) -> Option<&ActorSystem> {
        match &self.body {
            Body::Local(local) => Some(&local.nest.system),
            Body::Remote(remote) => Some(&remote.system),
            Body::Named(named) => Some(&named.system),
            Body::Adapter(adapter) => adapter.target.any_system(),
        }
    }

    pub(crate) fn dead_letter(&self, reason: crate::DeadLetterReason, headers: Option<&Headers>) {
        self.record(reason, headers, |letter| letter);
    }

    /// Records what was not accepted, with the figures of the refusal: how full the queue was, what the limit is.
    fn refused(&self, refusal: &Refusal, headers: Option<&Headers>) {
        self.record(refusal.reason(), headers, |letter| letter.with_detail(alloc::format!("{refusal}")));
    }

    fn record(
        &self,
        reason: crate::DeadLetterReason,
        headers: Option<&Headers>,
        tell_more: impl FnOnce(DeadLetter) -> DeadLetter,
    ) {
        let Some(system) = self.any_system() else { return };
        system.dead_letters().record_with(reason, || {
            let letter = tell_more(DeadLetter::new::<M>(self.path(), reason));
            match headers {
                Some(headers) => letter.with_headers(headers.clone()),
                None => letter,
            }
        });
    }

    /// Records what a full mailbox gave up for a newer message, or what a closed one still held.
    pub(crate) fn lost(&self, entry: Entry<M>, reason: crate::DeadLetterReason) {
        let (message, headers) = match entry {
            Entry::User(message) => (message, None),
            Entry::Notice(notice) => match *notice {
                Notice::Headed { message, headers, .. } => (message, Some(headers)),
                Notice::Run { .. }
                | Notice::Terminated { .. }
                | Notice::Signal(_)
                | Notice::Stop
                | Notice::Call(_)
                | Notice::Timer { .. }
                | Notice::ReceiveTimeout { .. } => return,
            },
        };
        self.dead_letter(reason, headers.as_ref());
        with_drop_reason(AskError::from_reason(reason), || drop(message));
    }

    pub(crate) fn displaced(&self, entry: Entry<M>) {
        self.lost(entry, crate::DeadLetterReason::MailboxFull);
    }

    fn terminated(&self) -> bool {
        match &self.body {
            Body::Local(local) => local.mailbox.is_closed(),
            Body::Remote(_) => false,
            Body::Named(named) => named.current().is_none(),
            Body::Adapter(adapter) => adapter.target.is_terminated(),
        }
    }

    /// Why a message would be refused now, where that is known without sending one.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match &self.body {
            Body::Local(local) => local.mailbox.refusal(),
            Body::Remote(_) => None,
            Body::Named(named) => match named.find::<M>() {
                Some(now) => now.0.refusal(),
                None => Some(Refusal::NoSuchActor),
            },
            Body::Adapter(adapter) => adapter.deliver.refusal(),
        }
    }

    /// Registers a sender that waits for room; ready when there is some or when waiting is of no use.
    pub(crate) fn poll_room(&self, cx: &Context<'_>, message: Option<&M>) -> Poll<()> {
        match &self.body {
            Body::Local(local) => local.mailbox.poll_room(cx),
            Body::Remote(remote) => remote.route.poll_room(&mut Context::from_waker(cx.waker())),
            Body::Named(named) => match named.find::<M>() {
                Some(now) => now.0.poll_room(cx, message),
                None => Poll::Ready(()),
            },
            Body::Adapter(adapter) => adapter.deliver.poll_room(cx, message),
        }
    }

    /// A sender that waited for room has given up: nothing of it stays behind.
    pub(crate) fn forget_room(&self, waker: &Waker) {
        match &self.body {
            Body::Local(local) => local.mailbox.forget_room(waker),
            Body::Remote(remote) => remote.route.forget_room(waker),
            Body::Named(named) => {
                if let Some(now) = named.find::<M>() {
                    now.0.forget_room(waker);
                }
            }
            Body::Adapter(adapter) => adapter.deliver.forget_room(waker),
        }
    }
}

impl<M> Cell<M> {
    fn path(&self) -> ActorPath {
        match &self.body {
            Body::Local(local) => local.path(),
            Body::Remote(remote) => remote.path.clone(),
            Body::Named(named) => named.system.with_own_address(&named.path),
            Body::Adapter(adapter) => adapter.target.path(),
        }
    }
}

impl<M> Local<M> {
    pub(crate) fn elements(&self) -> String {
        let mut elements = String::with_capacity(self.nest.path.len() + 24);
        elements.push_str(&self.nest.path);
        elements.push('/');
        match &self.name {
            Some(name) => elements.push_str(&name.0),
            None => {
                use fmt::Write;
                let _ = write!(elements, "${}", self.mailbox.uid());
            }
        }
        elements
    }

    pub(crate) fn path(&self) -> ActorPath {
        ActorPath::new(self.nest.system.address(), self.elements(), self.mailbox.uid())
    }
}

impl NamedCell {
    /// Who lives at the path now; for a path with a uid, that incarnation only.
    fn current(&self) -> Option<AnyRef> {
        self.system.find_incarnation(self.path.elements(), self.path.uid())
    }

    fn find<M: Send + 'static>(&self) -> Option<ActorRef<M>> {
        self.current()?.downcast()
    }
}

impl<M> Clone for ActorRef<M> {
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Send + 'static> PartialEq for ActorRef<M> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || same(&*self.0, &*other.0)
    }
}

impl<M: Send + 'static> Eq for ActorRef<M> {}

impl<M: Send + 'static> Hash for ActorRef<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity().hash(state);
    }
}

impl<M> fmt::Debug for ActorRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.path())
    }
}

impl<M> fmt::Display for ActorRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.path())
    }
}

/// The future of [`ActorRef::send`].
#[must_use = "nothing is sent until this is awaited"]
pub struct Sending<'a, M: Send + 'static> {
    to: &'a ActorRef<M>,
    message: Option<M>,
    /// Registered with the mailbox while it waits.
    waiting: Option<Waker>,
    /// The route that refused it last, while it may still be taken.
    refused_by: Option<Arc<dyn Route>>,
}

impl<M: Send + 'static> Drop for Sending<'_, M> {
    fn drop(&mut self) {
        if let Some(waker) = self.waiting.take() {
            self.to.0.forget_room(&waker);
        }
        if self.message.is_some() {
            given_up(self.refused_by.take(), Fate::Unsent);
        }
    }
}

// The message is moved in and out, never pinned.
impl<M: Send + 'static> Unpin for Sending<'_, M> {}

impl<M: Send + 'static> Future for Sending<'_, M> {
    type Output = Result<(), TellError<M>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            // Whoever woke this has taken the registration out; a new one follows where it is needed.
            if let Some(waker) = self.waiting.take()
                && !waker.will_wake(cx.waker())
            {
                self.to.0.forget_room(&waker);
            }
            let refusal = if let (Body::Remote(remote), Some(message)) = (&self.to.0.body, &self.message) {
                if remote.route.poll_pace(cx).is_pending() {
                    return Poll::Pending;
                }
                // Read where it lies: moved out and back, each message would be copied twice.
                let encode = remote.encode;
                match remote.route.send(remote.recipient, None, &mut |e| encode(message, e)) {
                    Ok(()) => {
                        self.message = None;
                        return Poll::Ready(Ok(()));
                    }
                    Err(refusal) => {
                        self.refused_by.get_or_insert_with(|| remote.route.clone());
                        refusal
                    }
                }
            } else {
                let Some(message) = self.message.take() else { return Poll::Pending };
                match self.to.offer(message) {
                    Ok(()) => return Poll::Ready(Ok(())),
                    Err(Refused { message, refusal, by }) => {
                        self.message = Some(message);
                        self.refused_by = by;
                        refusal
                    }
                }
            };
            if !refusal.is_full() {
                let Some(message) = self.message.take() else { return Poll::Pending };
                given_up(self.refused_by.take(), Fate::Unsent);
                return Poll::Ready(Err(TellError { message, refusal }));
            }
            if self.to.0.poll_room(cx, self.message.as_ref()).is_pending() {
                self.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    }
}
