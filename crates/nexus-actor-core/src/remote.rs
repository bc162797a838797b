//! All that the core knows of a network: a [`Route`] to a peer, and who provides it.

use alloc::string::ToString;
use alloc::sync::Arc;
use core::task::{Context, Poll, Waker};

use crate::actor_ref::AnyRef;
use crate::address::printable;
use crate::correlation_id::CorrelationId;
use crate::headers::Headers;
use crate::path::{ActorPath, ActorPathScheme, Address};
use crate::pid::Pid;
use crate::reason::{AskError, Refusal};
use crate::serialization::protobuf::Named;
use crate::serialization::{DecodeError, EncodeError, Encoder, SerializerId};
use crate::signal::TerminationReason;
use crate::system::ActorSystem;

/// The name of a pending reply: a slot in the asker's table and 64 random bits that guard it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplyKey {
    /// Guards the slot: drawn anew for each ask from an OS-seeded generator.
    pub secret: u64,
    /// The slot.
    pub slot: u32,
}

/// Where a reply goes.
#[derive(Clone)]
pub struct ReplyTo {
    /// The way to the asker's node.
    pub route: Arc<dyn Route>,
    /// The ask there.
    pub key: ReplyKey,
    /// The id of the question, which its answer carries back.
    pub correlation_id: CorrelationId,
}

impl core::fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {:?}", self.route.address(), self.key)
    }
}

/// An ask that waits here for its answer from a wire.
pub trait PendingReply: Send + Sync {
    /// Decodes `payload` and wakes the asker. Called inside a decode scope. A second call changes nothing.
    ///
    /// # Errors
    /// When the payload is not such an answer; the asker has then been told [`AskError::Decode`].
    fn complete(&self, payload: &[u8]) -> Result<(), DecodeError>;
    /// As [`complete`](Self::complete), for an answer that a protobuf wire names by its type. An answer that this ask
    /// does not take from such a wire is an error, which the asker is told as well.
    ///
    /// # Errors
    /// When it is not such an answer.
    fn complete_named(&self, named: &Named<'_>) -> Result<(), DecodeError> {
        let error = DecodeError::failed(format_args!(
            "`{}` came as the answer, and this question takes none from a protobuf wire",
            printable(named.type_name)
        ));
        self.fail(AskError::Decode(error.to_string()));
        Err(error)
    }
    /// Wakes the asker with an error. After an answer it changes nothing.
    fn fail(&self, error: AskError);
    /// Tells the ask where it is pending, so that giving it up early frees the place there; `None` says that
    /// the message around it was refused after all and the reply is back in it.
    fn pending_at(&self, place: Option<(Arc<dyn Route>, ReplyKey)>);
    /// Whether nobody waits any more.
    fn is_over(&self) -> bool;
}

/// How messages travel on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// By manifest, as [`Message::encode`](crate::serialization::Message::encode) writes them.
    Native,
    /// By the names of protobuf types, as [`Message::PROTOBUF`](crate::serialization::Message::PROTOBUF) writes them.
    Protobuf,
}

/// What became of a message that a [`Route`] had refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Its sender has it back, or dropped it while it waited for room.
    Unsent,
    /// It is recorded as a dead letter.
    DeadLetter,
}

/// What writes a payload.
pub type Encode<'a> = &'a mut dyn FnMut(&mut Encoder<'_>) -> Result<(), EncodeError>;

/// The way to one peer node, over all its incarnations. Implemented by the remote crate's association.
///
/// No method blocks. A recipient is known by the number that [`intern`](Self::intern) gave it.
pub trait Route: Send + Sync + 'static {
    /// The peer.
    fn address(&self) -> &Address;
    /// How messages travel on it.
    fn wire(&self) -> Wire {
        Wire::Native
    }
    /// The system whose node this is a way out of, while that lives.
    fn system(&self) -> Option<ActorSystem> {
        None
    }
    /// The pid that a [`ReplyTo`] on this route answers to, where an asker is known by one. A message may then name it
    /// as its sender, and whoever gets the message answers without this node.
    fn sender_pid(&self) -> Option<Pid> {
        None
    }
    /// Gives a recipient its number; the number stays valid until [`release`](Self::release).
    ///
    /// # Errors
    /// [`Refusal::Limit`] when the table is full, [`Refusal::Blocked`] when the peer is blocked.
    fn intern(
        &self,
        path: &ActorPath,
        serializer: SerializerId,
        manifest: &'static str,
    ) -> Result<u32, Refusal>;
    /// Forgets a number.
    fn release(&self, recipient: u32);
    /// Sends one message. `encode` runs at most once, under the lane's lock.
    ///
    /// # Errors
    /// Nothing was queued, and a reply lifted from the message is as it was.
    fn send(&self, recipient: u32, headers: Option<&Headers>, encode: Encode<'_>) -> Result<(), Refusal>;
    /// A message that [`send`](Self::send) refused is not offered again. Called once for each such message, however often
    /// it was refused; not for one that waited for room and was taken.
    fn given_up(&self, fate: Fate) {
        let _ = fate;
    }
    /// Ready when the ordinary lane has room again, or when waiting is of no use.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()>;
    /// Pending once, and woken at once, when so much waits for the connection that a sender that may wait had better
    /// let others run first: the connection's task above all, which may be queued behind it on the same thread.
    fn poll_pace(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
    /// Takes back what [`poll_room`](Self::poll_room) registered: its sender has given up. That waker may be woken
    /// once more.
    fn forget_room(&self, waker: &Waker) {
        let _ = waker;
    }
    /// Answers an ask of the peer; `id` is the question's.
    ///
    /// # Errors
    /// Nothing was queued.
    fn reply(&self, to: ReplyKey, id: CorrelationId, encode: Encode<'_>) -> Result<(), Refusal>;
    /// Tells the peer that an ask will not be answered, and why.
    fn reply_failed(&self, to: ReplyKey, id: CorrelationId, why: AskError);
    /// Why a question that waits now is not being answered, while nothing connects to the peer; `None` while something
    /// does. An ask whose deadline passes then fails with this.
    fn absence(&self) -> Option<AskError> {
        None
    }
    /// The asker gave up: frees the place of a pending ask.
    fn forget(&self, key: ReplyKey);
    /// Watches `target` for `watcher`; exactly one termination notice follows unless unwatched before.
    fn watch(&self, target: &ActorPath, watcher: AnyRef);
    /// Ends a watch.
    fn unwatch(&self, target: &ActorPath, watcher: &AnyRef);
    /// Asks the peer to stop an actor; the peer decides whether it may.
    fn stop(&self, target: &ActorPath);
    /// Asks the peer to stop an actor once it has handled what was sent to it before. Where the wire has no such
    /// request it is [`stop`](Self::stop).
    fn stop_in_order(&self, target: &ActorPath) {
        self.stop(target);
    }
    /// Asks the peer for the incarnation that lives at a path; `found` gets its uid as a postcard `u64`.
    fn lookup(&self, path: &ActorPath, manifest: &'static str, found: Arc<dyn PendingReply>);
}

/// Resolves addresses to routes. Installed by [`crate::ActorSystemBuilder::with_actor_ref_provider`] or, on a
/// running system, by [`ActorSystem::add_actor_ref_provider`].
pub trait ActorRefProvider: Send + Sync + 'static {
    /// The address under which other nodes reach this system; `None` before remoting has started.
    fn canonical_address(&self) -> Option<Address>;
    /// Whether it finds the way to addresses of `scheme`; by default all but
    /// [`Protoactor`](ActorPathScheme::Protoactor). Of several providers the first that does is asked.
    fn serves(&self, scheme: &ActorPathScheme) -> bool {
        *scheme != ActorPathScheme::Protoactor
    }
    /// The way to `address`, which is not this node's own.
    ///
    /// # Errors
    /// When there is no transport for its scheme, or the node is shutting down.
    fn route(&self, system: &ActorSystem, address: &Address) -> Result<Arc<dyn Route>, Refusal>;
}

/// A termination notice on its way to a local watcher.
#[derive(Clone, Debug)]
pub struct RemoteTermination {
    /// Who terminated.
    pub path: ActorPath,
    /// Why.
    pub reason: TerminationReason,
}
