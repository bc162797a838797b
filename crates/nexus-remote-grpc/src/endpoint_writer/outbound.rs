//! What goes up a call, or down one that a client opened: batches made of the mailbox when the connection has room.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::runtime::contained;
use nexus_actor_core::{AskError, DeadLetterReason, Refusal};
use portable_atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use prost::Message as _;
use tokio_stream::Stream;
use tonic::codec::EncodeBuf;

use crate::endpoint::{Endpoint, EndpointKind};
use crate::endpoint_writer_mailbox::{MailboxBounds, OutboundBatch, RemoteSystem, TerminatedWhy};
use crate::pending_asks::PendingAsks;
use crate::wire::batch::{BatchWriter, Full, OutgoingEnvelope, TypeName, WireForm};
use crate::wire::proto::actor;
use crate::wire::proto::remote::remote_message::MessageType;
use crate::wire::proto::remote::{Acknowledge, RemoteMessage};
use crate::wire::raw_codec::WriteMessage;

pub(crate) const TOUCH: TypeName = TypeName { package: "actor", name: "Touch" };
const WATCH: TypeName = TypeName { package: "actor", name: "Watch" };
const UNWATCH: TypeName = TypeName { package: "actor", name: "Unwatch" };
const TERMINATED: TypeName = TypeName { package: "actor", name: "Terminated" };
const STOP: TypeName = TypeName { package: "actor", name: "Stop" };

/// Only what was pushed goes out.
const HELD: u8 = 0;
const OPEN_W1: u8 = 1;
const OPEN_W2: u8 = 2;
const CLOSED: u8 = 3;

/// Set in `sent` when what is unconfirmed has been counted. What is handed over behind it is unknown at once: the call had it
/// in hand when it was closed.
const SETTLED: u64 = 1 << 63;

/// A message that goes out ahead of the mailbox.
#[derive(Debug, PartialEq, Eq)]
struct PushedMessage {
    bytes: Vec<u8>,
    by: PushedBy,
}

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PushedBy {
    /// The call's own.
    Call,
    /// The program's, with so many envelopes that the peer counts when it says how many it took.
    Program { envelopes: u64 },
}

#[derive(Default)]
struct Pushed {
    messages: VecDeque<PushedMessage>,
    bytes: usize,
    /// Nobody is left who would send one.
    is_over: bool,
}

impl Pushed {
    fn push(&mut self, bytes: Vec<u8>, by: PushedBy) {
        self.bytes += bytes.len();
        self.messages.push_back(PushedMessage { bytes, by });
    }

    fn pop(&mut self) -> Option<PushedMessage> {
        let popped = self.messages.pop_front()?;
        self.bytes -= popped.bytes.len();
        Some(popped)
    }

    /// Takes all that waits, and nothing more is accepted.
    fn end(&mut self) -> VecDeque<PushedMessage> {
        self.is_over = true;
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

/// What the owner of a call says to the stream of its messages.
pub(crate) struct OutboundControl {
    /// Its number, which no other call of the node has.
    number: u64,
    /// The peer says how much it took.
    is_confirmed: AtomicBool,
    /// Questions whose place among what was taken is noted. Set before they are handed over, so who [settles](SETTLED) later
    /// sees it.
    has_questions: AtomicBool,
    stage: AtomicU8,
    pushed: Lock<Pushed>,
    waker: Lock<Option<Waker>>,
    /// User and system messages handed to the call, and [`SETTLED`].
    sent: AtomicU64,
    /// Of them, those that the peer is known to have taken.
    confirmed: AtomicU64,
    /// Messages taken from the peer, and what of it the peer was told.
    taken: AtomicU64,
    told: AtomicU64,
}

impl OutboundControl {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            is_confirmed: AtomicBool::new(false),
            has_questions: AtomicBool::new(false),
            stage: AtomicU8::new(HELD),
            pushed: Lock::default(),
            waker: Lock::default(),
            sent: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// Its number: a call that was begun later has a higher one.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    fn wake(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn enter(&self, stage: u8) {
        let _ = self
            .stage
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now != CLOSED).then_some(stage));
        self.wake();
    }

    /// Lets batches go out.
    pub(crate) fn open(&self, form: WireForm) {
        self.enter(match form {
            WireForm::W1 => OPEN_W1,
            WireForm::W2 => OPEN_W2,
        });
    }

    /// Keeps batches back.
    pub(crate) fn hold(&self) {
        self.enter(HELD);
    }

    /// Ends the stream. Final.
    pub(crate) fn close(&self) {
        self.enter(CLOSED);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.stage.load(Ordering::Acquire) == CLOSED
    }

    /// Sends one message of the call's own ahead of all that wait. There are few of them, so nothing bounds them.
    /// None has an envelope that is acknowledged: the probe of the form goes only to peers that acknowledge nothing.
    pub(crate) fn push(&self, message: Vec<u8>) {
        self.pushed.lock().push(message, PushedBy::Call);
        self.wake();
    }

    /// The same for a message of the program with so many envelopes. It may have any number of messages. As in the mailbox, the
    /// one that reaches the bound in bytes is the last one taken. One that comes when the call is over is refused: those that
    /// waited then have been recorded.
    pub(crate) fn try_push(
        &self,
        message: Vec<u8>,
        envelopes: u64,
        bounds: &MailboxBounds,
    ) -> Result<(), Refusal> {
        {
            let mut pushed = self.pushed.lock();
            if pushed.is_over {
                return Err(Refusal::Unreachable);
            }
            let (messages, bytes) = (pushed.messages.len(), pushed.bytes);
            if messages >= bounds.messages_max || bytes >= bounds.bytes_max {
                return Err(Refusal::QueueFull { messages, bytes });
            }
            pushed.push(message, PushedBy::Program { envelopes });
        }
        self.wake();
        Ok(())
    }

    /// The peer is of those that say how much they took. Said before anything goes out.
    pub(crate) fn expect_confirmations(&self) {
        self.is_confirmed.store(true, Ordering::Release);
    }

    fn handed_over(&self) -> u64 {
        self.sent.load(Ordering::Acquire) & !SETTLED
    }

    /// So many were handed to the call; whether that was too late to be [settled](Self::settle).
    fn hand_over(&self, messages: u64) -> bool {
        self.sent.fetch_add(messages, Ordering::AcqRel) & SETTLED != 0
    }

    /// Tells the peer how much was taken of it, in all. Of several counts that wait for room only the newest is kept.
    pub(crate) fn acknowledge(&self, messages: u64) {
        self.taken.store(messages, Ordering::Release);
        self.wake();
    }

    /// What the peer is to be told now.
    fn take_acknowledgement(&self) -> Option<Acknowledge> {
        let messages = self.taken.load(Ordering::Acquire);
        (self.told.swap(messages, Ordering::AcqRel) != messages).then_some(Acknowledge { messages })
    }

    /// The peer has taken so many, in all.
    pub(crate) fn acknowledged(&self, messages: u64) {
        // What was never sent cannot have been taken.
        let messages = messages.min(self.handed_over());
        self.confirmed.fetch_max(messages, Ordering::AcqRel);
    }

    /// The call is lost, or ended and heard to its end. Of the questions that it took, those that may not have arrived fail.
    /// Returns how many messages may not have: the first time that it is asked, then none. Those that follow are counted,
    /// and questions among them fail, as they are handed over.
    pub(crate) fn settle(&self, asks: &PendingAsks) -> u64 {
        let unknown = self.count_unknown();
        // Of a peer that confirms nothing none is noted: all are unknown, and most are answered all the same. And the table may
        // be long: it is looked through only for who has some.
        if self.has_questions.load(Ordering::Acquire) {
            asks.fail_unconfirmed(self.number, self.confirmed.load(Ordering::Acquire));
        }
        unknown
    }

    fn count_unknown(&self) -> u64 {
        // Read first: it is never above what had been sent by then.
        let confirmed = self.confirmed.load(Ordering::Acquire);
        let sent = self.sent.fetch_or(SETTLED, Ordering::AcqRel);
        if sent & SETTLED == 0 { sent - confirmed } else { 0 }
    }
}

/// A message on its way into the connection's buffer.
pub(crate) struct OutMessage(BytesMut);

impl From<BytesMut> for OutMessage {
    fn from(message: BytesMut) -> Self {
        Self(message)
    }
}

impl WriteMessage for OutMessage {
    fn write(self, out: &mut EncodeBuf<'_>) {
        use bytes::BufMut as _;
        out.reserve(self.0.len());
        out.put_slice(&self.0);
    }
}

/// The messages of one call. The connection polls it when it has room for more, so nothing waits in between.
pub(crate) struct Outbound {
    endpoint: Arc<Endpoint>,
    control: Arc<OutboundControl>,
    batch: OutboundBatch,
    /// Questions of this node in the message that is made, each with its place among what the call takes.
    questions: Vec<(ReplyKey, u64)>,
    writer: BatchWriter,
    scratch: Vec<u8>,
    buffer: BytesMut,
}

impl Outbound {
    pub(crate) fn new(endpoint: Arc<Endpoint>, control: Arc<OutboundControl>) -> Self {
        let writer = BatchWriter::new(endpoint.node().limits);
        Self {
            endpoint,
            control,
            batch: OutboundBatch::new(),
            questions: Vec::new(),
            writer,
            scratch: Vec::new(),
            buffer: BytesMut::new(),
        }
    }

    pub(crate) const fn control(&self) -> &Arc<OutboundControl> {
        &self.control
    }

    /// The next message; `None` when there will be none.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<OutMessage>> {
        // Registered first: what changes from here on wakes.
        {
            let mut waker = self.control.waker.lock();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        if self.endpoint.kind() == EndpointKind::Client && self.endpoint.is_suspended() {
            // Down the call of a client goes only what the program sends: what is sent by hand waits as what is queued does.
            return if self.control.is_closed() { Poll::Ready(None) } else { Poll::Pending };
        }
        let pushed = self.control.pushed.lock().pop();
        if let Some(PushedMessage { bytes, by }) = pushed {
            if let PushedBy::Program { envelopes } = by {
                // The peer counts them among what it took.
                self.count_sent(envelopes);
            }
            return Poll::Ready(Some(OutMessage(BytesMut::from(&bytes[..]))));
        }
        // Read first: once it is closed, all that was to be confirmed before is seen below, and goes out ahead of the end.
        let stage = self.control.stage.load(Ordering::Acquire);
        if let Some(acknowledgement) = self.control.take_acknowledgement() {
            let message = RemoteMessage { message_type: Some(MessageType::Acknowledge(acknowledgement)) };
            return Poll::Ready(Some(OutMessage(BytesMut::from(&message.encode_to_vec()[..]))));
        }
        let form = match stage {
            OPEN_W1 => WireForm::W1,
            OPEN_W2 => WireForm::W2,
            CLOSED => return Poll::Ready(None),
            _ => return Poll::Pending,
        };
        if self.endpoint.is_suspended() {
            return Poll::Pending;
        }
        loop {
            if self.batch.is_empty() && self.poll_take(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(message) = self.fill(form) {
                return Poll::Ready(Some(message));
            }
        }
    }

    /// Takes what waits into the batch in hand, which is empty. The call may have been closed since its stage was read: then
    /// another one may serve by now, and this one takes nothing.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let size = self.endpoint.node().config.get_endpoint_writer_batch_size();
        // A quarter, so that many watches and what waits in the mailbox do not keep each other out.
        let told = self.endpoint.take_watches(cx, size / 4, &self.control, &mut self.batch);
        let rest = size.saturating_sub(told).max(1);
        let may_take = || self.endpoint.is_served_by(&self.control);
        match self.endpoint.mailbox.poll_batch_if(cx, rest, &mut self.batch, may_take) {
            // A mailbox is closed with its node: the end of the call follows, when what was heard is to be confirmed.
            Poll::Pending | Poll::Ready(0) if told == 0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// Makes one message of what fits of the batch in hand; `None` when nothing of it could be sent.
    fn fill(&mut self, form: WireForm) -> Option<OutMessage> {
        let mut count = 0_u64;
        let before = self.control.handed_over();
        let is_confirmed = self.control.is_confirmed.load(Ordering::Acquire);
        while let Some(message) = self.batch.system() {
            let name = encode_system(message, &mut self.scratch);
            let mut envelope = OutgoingEnvelope::new(name, &self.scratch, message.target());
            if let RemoteSystem::Touch { sender, .. } = message {
                envelope.sender = Some(sender);
            }
            match self.writer.push(&envelope) {
                Ok(()) => {
                    count += 1;
                    self.batch.pop_system();
                }
                Err(Full::Batch) => break,
                Err(_) => {
                    if let Some(message) = self.batch.pop_system() {
                        self.endpoint.dead_system(&message, DeadLetterReason::TooLarge);
                    }
                }
            }
        }
        // Behind the last of them: they may need more than this message.
        while self.batch.system().is_none()
            && let Some((deliver, payload)) = self.batch.user()
        {
            let envelope = OutgoingEnvelope {
                type_name: deliver.type_name,
                payload,
                target: &deliver.target,
                sender: deliver.sender.as_ref(),
                serializer: deliver.serializer,
                header: deliver.header.as_deref(),
                target_request_id: deliver.target_request_id,
                sender_request_id: deliver.sender_request_id,
            };
            match self.writer.push(&envelope) {
                Ok(()) => {
                    count += 1;
                    if is_confirmed && let Some(key) = self.endpoint.question_of(deliver) {
                        self.questions.push((key, before + count));
                    }
                    self.batch.pop_user();
                }
                Err(Full::Batch) => break,
                Err(fault) => {
                    let size = payload.len();
                    let reason = match fault {
                        Full::TooLarge { .. } => DeadLetterReason::TooLarge,
                        _ => DeadLetterReason::Limit,
                    };
                    self.endpoint.statistics().add_send_failures(1);
                    if let Some(deliver) = self.batch.pop_user() {
                        self.endpoint.dead(&deliver, size, reason, &fault.to_string());
                    }
                }
            }
        }
        if self.writer.is_empty() {
            return None;
        }
        self.buffer.reserve(self.writer.encoded_len(form));
        self.writer.finish(form, &mut self.buffer);
        self.count_sent(count);
        Some(OutMessage(self.buffer.split()))
    }

    fn count_sent(&mut self, messages: u64) {
        let node = self.endpoint.node();
        if !self.questions.is_empty() {
            // First: who settles the call sees them, or is seen below.
            self.control.has_questions.store(true, Ordering::Release);
            node.asks.note_taken(self.control.number, &self.questions);
        }
        let is_late = self.control.hand_over(messages);
        self.endpoint.statistics().add_sent(messages);
        if is_late {
            node.add_late_unknown(&self.endpoint, messages);
            for ask in self.questions.iter().filter_map(|(key, _)| node.asks.take(*key)) {
                ask.fail(AskError::Unreachable);
            }
        }
        self.questions.clear();
    }
}

impl Stream for Outbound {
    type Item = OutMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<OutMessage>> {
        self.poll_message(cx)
    }
}

impl Drop for Outbound {
    /// What was taken from the mailbox and never became a message, and what was sent by hand and did not go out. Whatever becomes
    /// of one, the others are recorded.
    fn drop(&mut self) {
        let endpoint = self.endpoint.clone();
        let pushed = self.control.pushed.lock().end();
        for PushedMessage { bytes, by } in pushed {
            if let PushedBy::Program { .. } = by {
                contained(|| endpoint.dead_by_hand(&bytes));
            }
        }
        let mut unsaid = Vec::new();
        while let Some(message) = self.batch.pop_system() {
            match message {
                // The next connection is told of all watches again, and without one they end with the endpoint.
                RemoteSystem::Watch { .. } => {}
                RemoteSystem::Terminated { .. } | RemoteSystem::Stop { .. } => unsaid.push(message),
                // An end of a watch that is said late could end one begun since.
                RemoteSystem::Unwatch { .. } | RemoteSystem::Touch { .. } => {
                    contained(|| endpoint.dead_system(&message, DeadLetterReason::Unreachable));
                }
            }
        }
        for message in endpoint.take_back(unsaid) {
            contained(|| endpoint.dead_system(&message, DeadLetterReason::Unreachable));
        }
        let is_awaited = endpoint.are_answers_awaited();
        self.batch.drain_user(|deliver, payload| {
            contained(|| {
                if is_awaited && deliver.target.is_future() {
                    return endpoint.keep_answer(deliver, payload);
                }
                endpoint.dead(
                    &deliver,
                    payload.len(),
                    DeadLetterReason::Unreachable,
                    "the connection is lost",
                );
            });
        });
    }
}

/// Writes the payload of `message` and returns its type.
fn encode_system(message: &RemoteSystem, out: &mut Vec<u8>) -> TypeName {
    fn put(message: &impl prost::Message, out: &mut Vec<u8>) {
        // A vector grows as it must: this does not fail.
        let _ = message.encode(out);
    }
    let pid = |entry: &crate::endpoint::pid_entry::PidEntry| {
        Some(actor::Pid { address: entry.address.to_string(), id: entry.id.to_string(), request_id: 0 })
    };
    out.clear();
    match message {
        RemoteSystem::Watch { watcher, .. } => {
            put(&actor::Watch { watcher: pid(watcher) }, out);
            WATCH
        }
        RemoteSystem::Unwatch { watcher, .. } => {
            put(&actor::Unwatch { watcher: pid(watcher) }, out);
            UNWATCH
        }
        RemoteSystem::Terminated { who, why, .. } => {
            let why = match why {
                TerminatedWhy::Stopped => actor::TerminatedReason::Stopped,
                TerminatedWhy::AddressTerminated => actor::TerminatedReason::AddressTerminated,
                TerminatedWhy::NotFound => actor::TerminatedReason::NotFound,
            };
            put(&actor::Terminated { who: pid(who), why: why.into() }, out);
            TERMINATED
        }
        RemoteSystem::Stop { .. } => STOP,
        RemoteSystem::Touch { .. } => TOUCH,
    }
}

#[cfg(test)]
mod tests {
    use nexus_actor_core::{ActorSystem, Refusal};

    use super::*;
    use crate::endpoint::pid_entry::PidEntry;
    use crate::endpoint_state::EndpointState;
    use crate::endpoint_writer_mailbox::RemoteDeliver;
    use crate::pending_asks::tests::Asker;
    use crate::wire::batch::{BatchLimits, Incoming, decode};
    use crate::{Config, Remote, pending_asks};

    /// A call that is open, of a client that nobody else serves.
    async fn call() -> (Remote, Outbound) {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let endpoint =
            remote.node_for_tests().endpoint_of("client-one:1", EndpointKind::Client).expect("room");
        let outbound = Outbound::new(endpoint, Arc::new(OutboundControl::new(0)));
        outbound.control.open(WireForm::W2);
        (remote, outbound)
    }

    /// What the call takes from the mailbox between its look at the stage and its turn to write.
    fn take(outbound: &mut Outbound, messages: u64) {
        for _ in 0..messages {
            let target = Arc::new(PidEntry::new("client-one:1", "echo"));
            outbound.batch.push_system(RemoteSystem::Stop { target });
        }
    }

    fn counted(outbound: &Outbound) -> (u64, u64) {
        let counted = outbound.endpoint.statistics().snapshot();
        (counted.sent, counted.unknown)
    }

    /// Between a look at its stage and its turn at the mailbox a call is lost, and the next one serves: the next message is
    /// that one's, and wakes it.
    ///
    /// Covers: S6
    #[tokio::test]
    async fn a_call_that_was_lost_takes_nothing_from_the_next_one() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let endpoint =
            remote.node_for_tests().endpoint_of("127.0.0.1:1", EndpointKind::Dialled).expect("room");
        let call = || {
            let outbound = Outbound::new(endpoint.clone(), Arc::new(OutboundControl::new(0)));
            outbound.control.open(WireForm::W2);
            outbound
        };
        let offer = || {
            let target = Arc::new(PidEntry::new("127.0.0.1:1", "echo"));
            let name = TypeName { package: "google.protobuf", name: "StringValue" };
            assert!(endpoint.mailbox.offer(RemoteDeliver::new(target, name), &[]).is_ok());
        };
        let (old_woken, old_waker) = counting();
        let (new_woken, new_waker) = counting();
        let (old_cx, new_cx) = (&mut Context::from_waker(&old_waker), &mut Context::from_waker(&new_waker));
        let (mut old, mut new) = (call(), call());
        assert!(old.poll_message(old_cx).is_pending());
        old.control.close();
        assert!(new.poll_message(new_cx).is_pending());
        // What waits is the next one's, ...
        assert!(old.poll_take(old_cx).is_pending());
        let before = (old_woken.load(Ordering::Acquire), new_woken.load(Ordering::Acquire));
        offer();
        let after = (old_woken.load(Ordering::Acquire), new_woken.load(Ordering::Acquire));
        assert_eq!(after, (before.0, before.1 + 1), "who is woken");
        // ... also when the one that was lost comes first.
        assert!(old.poll_take(old_cx).is_pending());
        assert!(matches!(new.poll_message(new_cx), Poll::Ready(Some(_))));
        assert!(matches!(old.poll_message(old_cx), Poll::Ready(None)));
        remote.shutdown(false).await;
    }

    fn counting() -> (Arc<AtomicU64>, Waker) {
        struct Count(Arc<AtomicU64>);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::AcqRel);
            }
        }
        let count: Arc<AtomicU64> = Arc::default();
        (count.clone(), Waker::from(Arc::new(Count(count))))
    }

    /// A question that went down with its call fails at once where the peer would have said that it took it; what the peer
    /// took is answered by whichever call there is.
    ///
    /// Covers: S36
    #[tokio::test]
    async fn questions_that_a_lost_call_took_fail_unless_the_peer_has_them() {
        for is_nexus in [true, false] {
            let (remote, mut outbound) = call().await;
            if is_nexus {
                outbound.control.expect_confirmations();
            }
            let endpoint = outbound.endpoint.clone();
            let asks = &endpoint.node().asks;
            let ask = |outbound: &mut Outbound| {
                let asker = Arc::new(Asker::default());
                let key = asks.insert(asker.clone(), endpoint.address(), endpoint.era()).expect("room");
                let target = Arc::new(PidEntry::new("client-one:1", "echo"));
                let name = TypeName { package: "google.protobuf", name: "StringValue" };
                let mut deliver = RemoteDeliver::new(target, name);
                let sender = PidEntry::new(endpoint.node().address.clone(), pending_asks::id_of(key));
                deliver.sender = Some(Arc::new(sender));
                assert!(endpoint.mailbox.offer(deliver, &[]).is_ok());
                assert_eq!(endpoint.mailbox.poll_user_mailbox(1, &mut outbound.batch), 1);
                asker
            };
            take(&mut outbound, 1);
            let taken = ask(&mut outbound);
            assert!(outbound.fill(WireForm::W2).is_some());
            let (second, third) = (ask(&mut outbound), ask(&mut outbound));
            assert!(outbound.fill(WireForm::W2).is_some());
            outbound.control.acknowledged(2);
            let waits = ask(&mut outbound);
            outbound.control.close();
            outbound.control.settle(asks);
            let told = |asker: &Asker| !asker.0.lock().is_empty();
            assert_eq!(
                [&taken, &second, &third, &waits].map(|asker| told(asker)),
                [false, is_nexus, is_nexus, false]
            );
            // In hand when the call was closed.
            assert!(outbound.fill(WireForm::W2).is_some());
            assert_eq!((told(&taken), told(&waits)), (false, is_nexus));
            assert_eq!(asks.len(), if is_nexus { 1 } else { 4 });
            for asker in [&second, &third, &waits].iter().filter(|_| is_nexus) {
                assert_eq!(*asker.0.lock(), [AskError::Unreachable], "once");
            }
            remote.shutdown(false).await;
        }
    }

    /// However the end of a call and a batch that it has in hand meet, each message of it counts once.
    ///
    /// Covers: S142
    #[tokio::test]
    async fn a_batch_in_hand_at_the_end_of_its_call_is_counted_once() {
        for (confirmed, is_late) in [(0, false), (0, true), (3, false), (3, true), (9, true)] {
            let (remote, mut outbound) = call().await;
            take(&mut outbound, 3);
            assert!(outbound.fill(WireForm::W2).is_some());
            outbound.control.acknowledged(confirmed);
            take(&mut outbound, 2);
            outbound.control.close();
            if !is_late {
                assert!(outbound.fill(WireForm::W2).is_some());
            }
            outbound.endpoint.statistics().add_unknown(outbound.control.count_unknown());
            if is_late {
                assert!(outbound.fill(WireForm::W2).is_some());
            }
            let unknown = 5 - confirmed.min(3);
            assert_eq!(counted(&outbound), (5, unknown), "{confirmed} {is_late}");
            assert_eq!(outbound.control.count_unknown(), 0, "only once");
            remote.shutdown(false).await;
        }
    }

    /// What is in hand when the connection breaks was not said, so the next one says it, once and ahead of what is younger. A
    /// peer that is given up hears nothing any more.
    #[tokio::test]
    async fn what_the_runtimes_say_waits_in_hand_for_the_next_connection() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let endpoint =
            remote.node_for_tests().endpoint_of("127.0.0.1:1", EndpointKind::Dialled).expect("room");
        let pid = |id: &str| Arc::new(PidEntry::new("127.0.0.1:1", id));
        let notice = |id: &str| RemoteSystem::Terminated {
            watcher: pid("watcher"),
            who: pid(id),
            why: TerminatedWhy::Stopped,
        };
        let stop = |id: &str| RemoteSystem::Stop { target: pid(id) };
        let is_recorded = || system.dead_letters().count(DeadLetterReason::Unreachable);
        let hand = || {
            let mut outbound = Outbound::new(endpoint.clone(), Arc::new(OutboundControl::new(0)));
            for message in [notice("a"), stop("b"), notice("c"), stop("d")] {
                outbound.batch.push_system(message);
            }
            outbound
        };
        // Nothing else runs in between: the row of attempts goes on.
        endpoint.apply(EndpointState::ensure_connected);
        endpoint.mailbox.offer_system(notice("younger")).expect("room");
        endpoint.mailbox.offer_system(stop("younger")).expect("room");
        drop(hand());
        let waits = endpoint.mailbox.drain_system();
        let expected = [stop("b"), stop("d"), stop("younger"), notice("a"), notice("c"), notice("younger")];
        assert_eq!((waits, is_recorded()), (expected.to_vec(), 0));
        endpoint.apply(|state, _| state.close());
        drop(hand());
        assert!(endpoint.mailbox.is_empty());
        assert_eq!(is_recorded(), 2, "the stops");
        remote.shutdown(false).await;
    }

    /// An answer that a broken connection had in hand waits for the next one while the asker's own connection stands.
    #[tokio::test]
    async fn an_answer_in_hand_waits_for_who_is_there() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let endpoint =
            remote.node_for_tests().endpoint_of("127.0.0.1:1", EndpointKind::Dialled).expect("room");
        endpoint.apply(EndpointState::ensure_connected);
        for (calls, waits) in [(0, 0), (1, 1)] {
            for id in ["future$1", "somebody"] {
                let target = Arc::new(PidEntry::new("127.0.0.1:1", id));
                let name = TypeName { package: "google.protobuf", name: "StringValue" };
                assert!(endpoint.mailbox.offer(RemoteDeliver::new(target, name), &[]).is_ok());
            }
            let mut outbound = Outbound::new(endpoint.clone(), Arc::new(OutboundControl::new(0)));
            assert_eq!(endpoint.mailbox.poll_user_mailbox(2, &mut outbound.batch), 2);
            endpoint.inbound.store(calls, Ordering::Release);
            let before = system.dead_letters().count(DeadLetterReason::Unreachable);
            drop(outbound);
            assert_eq!(endpoint.mailbox.state().len, waits as usize);
            assert_eq!(system.dead_letters().count(DeadLetterReason::Unreachable) - before, 2 - waits);
        }
        endpoint.inbound.store(0, Ordering::Release);
        remote.shutdown(false).await;
    }

    /// The end of a call tells a peer that has ended nothing again, though those who watched there are not told yet.
    #[tokio::test]
    async fn a_peer_at_rest_is_not_dialled_for_watches() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let node = remote.node_for_tests();
        let endpoint = node.endpoint_of("127.0.0.1:1", EndpointKind::Dialled).expect("room");
        let watcher = node.activator.get().expect("started").to_any();
        let path = watcher.path().clone();
        assert!(endpoint.watcher().watch(&"a".into(), &path, watcher, endpoint.era()));
        endpoint.tell_watches_again();
        assert!(endpoint.read(EndpointState::is_at_rest));
        endpoint.apply(EndpointState::ensure_connected);
        assert!(!endpoint.read(EndpointState::is_at_rest));
        remote.shutdown(false).await;
    }

    /// A count that comes when all has been counted changes nothing, be it true or not.
    #[tokio::test]
    async fn a_confirmation_behind_the_count_changes_nothing() {
        for late in [0, 2, 5, u64::MAX] {
            let (remote, mut outbound) = call().await;
            take(&mut outbound, 2);
            assert!(outbound.fill(WireForm::W2).is_some());
            outbound.control.close();
            assert_eq!(outbound.control.count_unknown(), 2);
            outbound.control.acknowledged(late);
            assert_eq!(outbound.control.confirmed.load(Ordering::Acquire), late.min(2));
            take(&mut outbound, 1);
            assert!(outbound.fill(WireForm::W2).is_some());
            outbound.control.acknowledged(u64::MAX);
            assert_eq!(outbound.control.confirmed.load(Ordering::Acquire), 3);
            assert_eq!((counted(&outbound), outbound.control.count_unknown()), ((3, 1), 0));
            remote.shutdown(false).await;
        }
    }

    /// What the runtimes say goes ahead of user messages, however many messages of the wire it takes.
    #[tokio::test]
    async fn what_the_runtimes_say_goes_first_when_it_fills_a_message() {
        let (remote, mut outbound) = call().await;
        outbound.writer = BatchWriter::new(BatchLimits { message_bytes: 400, ..BatchLimits::default() });
        for id in ["a", "b"] {
            let target = Arc::new(PidEntry::new("client-one:1", id.repeat(200)));
            outbound.batch.push_system(RemoteSystem::Stop { target });
        }
        let name = TypeName { package: "google.protobuf", name: "Empty" };
        let user = RemoteDeliver::new(Arc::new(PidEntry::new("client-one:1", "echo")), name);
        assert!(outbound.endpoint.mailbox.offer(user, &[]).is_ok());
        assert_eq!(outbound.endpoint.mailbox.poll_user_mailbox(1, &mut outbound.batch), 1);
        for expected in [vec!["actor.Stop"], vec!["actor.Stop", "google.protobuf.Empty"]] {
            let OutMessage(bytes) = outbound.fill(WireForm::W2).expect("a message");
            let Ok(Incoming::Batch(batch)) = decode(bytes.freeze(), &BatchLimits::default()) else {
                panic!("no batch");
            };
            let names: Vec<_> = batch.envelopes().flatten().map(|envelope| envelope.type_name).collect();
            assert_eq!(names, expected);
        }
        remote.shutdown(false).await;
    }

    /// A suspension holds what the program sends by hand as it holds what is queued.
    #[tokio::test]
    async fn what_is_sent_by_hand_waits_for_the_end_of_a_suspension() {
        let (remote, mut outbound) = call().await;
        let mut cx = Context::from_waker(Waker::noop());
        let by_hand = |outbound: &Outbound| {
            assert_eq!(outbound.control.try_push(vec![1], 0, &MailboxBounds::default()), Ok(()));
        };
        by_hand(&outbound);
        remote.suspend();
        by_hand(&outbound);
        assert!(outbound.poll_message(&mut cx).is_pending());
        remote.resume();
        for _ in 0..2 {
            assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(Some(_))));
        }
        assert!(outbound.poll_message(&mut cx).is_pending());
        by_hand(&outbound);
        remote.suspend();
        outbound.control.close();
        assert!(
            matches!(outbound.poll_message(&mut cx), Poll::Ready(None)),
            "the end of a call is no traffic"
        );
        remote.shutdown(false).await;
    }

    /// The mailbox is closed with the node, while the answer that was heard last is not yet confirmed.
    ///
    /// Covers: S108, S142
    #[tokio::test]
    async fn a_closed_mailbox_ends_no_call_that_has_something_to_confirm() {
        let (remote, mut outbound) = call().await;
        let mut cx = Context::from_waker(Waker::noop());
        outbound.endpoint.mailbox.close(Refusal::Shutdown);
        assert!(outbound.poll_message(&mut cx).is_pending());
        outbound.control.acknowledge(1);
        assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(Some(_))));
        assert!(outbound.poll_message(&mut cx).is_pending());
        outbound.control.close();
        assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(None)));
        remote.shutdown(false).await;
    }

    /// A count that waits when a call is closed still goes out, and ahead of the end.
    ///
    /// Covers: S108, S142
    #[tokio::test]
    async fn what_was_taken_before_the_end_is_confirmed() {
        let (remote, mut outbound) = call().await;
        let mut cx = Context::from_waker(Waker::noop());
        outbound.control.acknowledge(7);
        outbound.control.close();
        let Poll::Ready(Some(OutMessage(bytes))) = outbound.poll_message(&mut cx) else {
            panic!("the count is not sent");
        };
        let message = RemoteMessage::decode(bytes).expect("sound").message_type;
        assert_eq!(message, Some(MessageType::Acknowledge(Acknowledge { messages: 7 })));
        assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(None)), "nothing else");
        remote.shutdown(false).await;
    }

    /// A peer that takes nothing costs one count, however much it sends.
    #[test]
    fn of_counts_that_wait_the_newest_is_told() {
        let control = OutboundControl::new(0);
        assert_eq!(control.take_acknowledgement(), None);
        for taken in 1..=1_000 {
            control.acknowledge(taken);
        }
        assert!(control.pushed.lock().messages.is_empty());
        assert_eq!(control.take_acknowledgement(), Some(Acknowledge { messages: 1_000 }));
        assert_eq!(control.take_acknowledgement(), None);
    }

    /// What a peer says it took of a pushed batch confirms nothing of what came from the mailbox.
    #[test]
    fn a_pushed_batch_counts_as_sent() {
        let control = OutboundControl::new(0);
        let bounds = MailboxBounds::default();
        // Of the call's own, which no peer counts.
        control.push(vec![1]);
        assert_eq!(control.try_push(vec![2], 3, &bounds), Ok(()));
        let pop = || control.pushed.lock().pop();
        assert_eq!(pop(), Some(PushedMessage { bytes: vec![1], by: PushedBy::Call }));
        assert_eq!(pop(), Some(PushedMessage { bytes: vec![2], by: PushedBy::Program { envelopes: 3 } }));
        assert_eq!(pop(), None);
        assert!(!control.hand_over(3));
        // Two of the mailbox.
        assert!(!control.hand_over(2));
        control.acknowledged(3);
        assert_eq!((control.count_unknown(), control.count_unknown()), (2, 0));
        assert!(control.hand_over(1), "behind the count");
    }

    /// A message that is sent by hand while its call ends is recorded or refused, never neither.
    #[tokio::test]
    async fn what_is_pushed_when_the_call_is_over_is_refused() {
        let (remote, outbound) = call().await;
        let (endpoint, control) = (outbound.endpoint.clone(), outbound.control.clone());
        let bounds = MailboxBounds::default();
        control.push(vec![1]);
        let message = RemoteMessage { message_type: None }.encode_to_vec();
        assert_eq!(control.try_push(message.clone(), 0, &bounds), Ok(()));
        drop(outbound);
        assert_eq!(control.try_push(message, 0, &bounds), Err(Refusal::Unreachable));
        assert_eq!(endpoint.statistics().snapshot().dead_letters, 1, "none for the call's own");
        assert!(control.pushed.lock().messages.is_empty());
        remote.shutdown(false).await;
    }

    /// A peer that reads nothing costs what the bounds say: below them a message is taken, at them it is not, and what goes out
    /// makes room.
    #[test]
    fn what_is_pushed_is_bounded_in_messages_and_bytes() {
        let by_messages = MailboxBounds { messages_max: 3, ..MailboxBounds::default() };
        let control = OutboundControl::new(0);
        for _ in 0..3 {
            assert_eq!(control.try_push(vec![0; 10], 0, &by_messages), Ok(()));
        }
        let full = Err(Refusal::QueueFull { messages: 3, bytes: 30 });
        assert_eq!(control.try_push(Vec::new(), 0, &by_messages), full);
        assert!(control.pushed.lock().pop().is_some());
        assert_eq!(control.try_push(vec![0; 10], 0, &by_messages), Ok(()));
        assert_eq!(control.try_push(Vec::new(), 0, &by_messages), full);

        let by_bytes = MailboxBounds { bytes_max: 30, ..MailboxBounds::default() };
        for (before, taken) in [(29, true), (30, false), (31, false)] {
            let control = OutboundControl::new(0);
            assert_eq!(control.try_push(vec![0; before], 0, &by_bytes), Ok(()));
            let refused = Err(Refusal::QueueFull { messages: 1, bytes: before });
            assert_eq!(
                control.try_push(vec![0; 10], 0, &by_bytes),
                if taken { Ok(()) } else { refused.clone() }
            );
            // What the call itself has to say is never refused.
            control.push(vec![0; 10]);
            while control.pushed.lock().pop().is_some() {}
            assert_eq!(control.pushed.lock().bytes, 0);
        }
    }
}
