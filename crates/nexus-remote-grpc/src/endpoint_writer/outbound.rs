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
mod tests;
