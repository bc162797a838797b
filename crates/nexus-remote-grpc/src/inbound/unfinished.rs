//! What is kept of messages whose end has not come (limit L9).
//!
//! A message is decoded when it is there as a whole, and may have 4 MiB. A peer that begins one on each of its calls and ends none
//! would have all of that kept, on as many connections as it has names. So a message that was begun has a time to end, and
//! what is kept of all has a bound: beyond it the connection of the one that was begun first is closed.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use nexus_actor_core::lock::Lock;
use portable_atomic::{AtomicBool, Ordering};
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::codegen::StdError;

use crate::inbound::listener::Guard;

/// What of each message is not counted (limit L8).
const FREE: usize = 64 * 1024;
/// gRPC's frame: whether it is compressed, and the length.
const HEAD: usize = 5;

/// What is kept of the messages of all calls of a node.
#[derive(Debug)]
pub(crate) struct Unfinished {
    table: Lock<Table>,
    max: usize,
    time: Duration,
}

#[derive(Debug, Default)]
struct Table {
    bytes: usize,
    next: u64,
    /// By the order in which they were begun.
    begun: BTreeMap<u64, Begun>,
}

#[derive(Debug)]
struct Begun {
    bytes: usize,
    call: Arc<Call>,
}

/// A call, as others see it.
#[derive(Default)]
struct Call {
    guard: Option<Arc<Guard>>,
    is_cut: AtomicBool,
    waker: Lock<Option<Waker>>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("is_cut", &self.is_cut).finish_non_exhaustive()
    }
}

impl Call {
    /// Closed as a whole: a call whose peer takes nothing is not polled, and would keep what it has.
    fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        if let Some(guard) = &self.guard {
            guard.close();
        }
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Unfinished {
    /// At most `max` bytes in all, and `time` for each message.
    pub(crate) fn new(max: usize, time: Duration) -> Arc<Self> {
        Arc::new(Self { table: Lock::default(), max, time })
    }

    /// So many bytes are kept of the message that `number` was given to; a number is given when there are any.
    fn keep(&self, number: &mut Option<u64>, bytes: usize, call: &Arc<Call>) {
        if number.is_none() && bytes == 0 {
            return;
        }
        let cut = self.table.lock().keep(number, bytes, call, self.max);
        cut.iter().for_each(|call| call.cut());
    }
}

impl Table {
    /// Returns the calls that are to be cut. They count no more: what they keep goes with their connection.
    fn keep(
        &mut self,
        number: &mut Option<u64>,
        bytes: usize,
        call: &Arc<Call>,
        max: usize,
    ) -> Vec<Arc<Call>> {
        let at = *number.get_or_insert_with(|| {
            self.begun.insert(self.next, Begun { bytes: 0, call: call.clone() });
            self.next += 1;
            self.next - 1
        });
        if let Some(begun) = self.begun.get_mut(&at) {
            self.bytes = self.bytes - begun.bytes + bytes;
            begun.bytes = bytes;
        }
        if bytes == 0 {
            self.begun.remove(&at);
            *number = None;
        }
        let mut cut = Vec::new();
        while self.bytes > max
            && let Some((_, oldest)) = self.begun.pop_first()
        {
            self.bytes -= oldest.bytes;
            let is_of_same = |call: &Call| match (&call.guard, &oldest.call.guard) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                _ => false,
            };
            self.begun.retain(|_, begun| {
                let stays = !is_of_same(&begun.call);
                self.bytes -= if stays { 0 } else { begun.bytes };
                stays
            });
            cut.push(oldest.call);
        }
        cut
    }
}

/// The body of a call, whose messages are watched.
pub(crate) struct Watched<B> {
    body: Pin<Box<B>>,
    unfinished: Arc<Unfinished>,
    call: Arc<Call>,
    number: Option<u64>,
    message: Message,
    /// How long the end of the message at hand has been waited for; what this node takes to read it does not count.
    waited: Duration,
    waiting_since: Option<Instant>,
    late: Option<Pin<Box<Sleep>>>,
}

/// The message at hand.
#[derive(Debug, Default, PartialEq)]
struct Message {
    head: [u8; HEAD],
    /// Bytes that have come, the head's among them; none between two messages.
    come: usize,
}

impl Message {
    /// Bytes of the whole, once its head is there.
    fn whole(&self) -> Option<usize> {
        let [_, length @ ..] = self.head;
        (self.come >= HEAD).then(|| HEAD.saturating_add(u32::from_be_bytes(length) as usize))
    }

    /// Takes the next bytes of the call; whether a message has ended in them.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_ended = false;
        while !bytes.is_empty() {
            let whole = match self.whole() {
                Some(whole) => whole,
                None => {
                    let count = bytes.len().min(HEAD - self.come);
                    self.head[self.come..self.come + count].copy_from_slice(&bytes[..count]);
                    self.come += count;
                    bytes = &bytes[count..];
                    match self.whole() {
                        Some(whole) => whole,
                        None => break,
                    }
                }
            };
            let count = bytes.len().min(whole - self.come);
            self.come += count;
            bytes = &bytes[count..];
            if self.come == whole {
                self.come = 0;
                has_ended = true;
            }
        }
        has_ended
    }
}

impl<B> Watched<B> {
    pub(crate) fn new(body: B, unfinished: &Arc<Unfinished>, guard: Option<Arc<Guard>>) -> Self {
        Self {
            body: Box::pin(body),
            unfinished: unfinished.clone(),
            call: Arc::new(Call { guard, ..Call::default() }),
            number: None,
            message: Message::default(),
            waited: Duration::ZERO,
            waiting_since: None,
            late: None,
        }
    }

    fn taken(&mut self, bytes: &[u8]) {
        let has_ended = self.message.take(bytes);
        if has_ended {
            self.waited = Duration::ZERO;
            self.unfinished.keep(&mut self.number, 0, &self.call);
        }
        let kept = self.message.come.saturating_sub(FREE);
        self.unfinished.keep(&mut self.number, kept, &self.call);
    }

    /// Nothing comes: whether the message at hand is late.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.message.come == 0 {
            return false;
        }
        let now = Instant::now();
        self.waiting_since = Some(now);
        let until = now + self.unfinished.time.saturating_sub(self.waited);
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        late.as_mut().reset(until);
        late.as_mut().poll(cx).is_ready()
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        self.unfinished.keep(&mut self.number, 0, &self.call);
    }
}

impl<B> Body for Watched<B>
where
    B: Body,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        if let Some(since) = this.waiting_since.take() {
            this.waited += since.elapsed();
        }
        if this.number.is_some() {
            *this.call.waker.lock() = Some(cx.waker().clone());
        }
        if this.call.is_cut.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(
                Status::resource_exhausted("too much is begun and not ended").into()
            )));
        }
        let frame = match this.body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if this.is_late(cx) => {
                let status = Status::deadline_exceeded("the end of a message did not come in time");
                return Poll::Ready(Some(Err(status.into())));
            }
            Poll::Pending => return Poll::Pending,
        };
        let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
        if let Some(data) = frame.data_ref() {
            this.taken(data);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(lengths: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        for length in lengths {
            out.push(0);
            out.extend((*length as u32).to_be_bytes());
            out.resize(out.len() + length, 7);
        }
        out
    }

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let bytes = framed(&[0, 1, 300, 0, 0, 5]);
        for size in 1..=bytes.len() {
            let mut message = Message::default();
            let mut ends = 0;
            for piece in bytes.chunks(size) {
                ends += usize::from(message.take(piece));
            }
            assert!(ends > 0 && message.come == 0, "in pieces of {size}");
            assert!(!message.take(&bytes[..3]) && message.come == 3);
        }
        let mut huge = Message::default();
        assert!(!huge.take(&[0, 0xff, 0xff, 0xff, 0xff, 1]));
        assert_eq!(huge.come, 6);
    }

    /// Covers: L9
    #[test]
    fn beyond_the_bound_the_oldest_goes() {
        let unfinished = Unfinished::new(100, Duration::from_secs(10));
        let calls: Vec<Arc<Call>> = (0..3).map(|_| Arc::default()).collect();
        let mut numbers = [None; 3];
        let is_cut = |at: usize| calls[at].is_cut.load(Ordering::Acquire);
        unfinished.keep(&mut numbers[0], 0, &calls[0]);
        assert_eq!(numbers[0], None);
        unfinished.keep(&mut numbers[1], 10, &calls[1]);
        unfinished.keep(&mut numbers[0], 60, &calls[0]);
        unfinished.keep(&mut numbers[1], 40, &calls[1]);
        assert!(!is_cut(0) && !is_cut(1), "at the bound");
        unfinished.keep(&mut numbers[2], 1, &calls[2]);
        assert!(is_cut(1) && !is_cut(0) && !is_cut(2), "one above it");
        // It counts no more, whatever it brings yet.
        unfinished.keep(&mut numbers[2], 40, &calls[2]);
        unfinished.keep(&mut numbers[1], 50, &calls[1]);
        assert!(!is_cut(0) && !is_cut(2));
        for at in 0..3 {
            unfinished.keep(&mut numbers[at], 0, &calls[at]);
        }
        let table = unfinished.table.lock();
        assert!(table.bytes == 0 && table.begun.is_empty());
    }
}
