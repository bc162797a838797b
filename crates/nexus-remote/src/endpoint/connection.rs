//! One task per connection: it drives both directions and decides nothing.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::{Context, Poll};
use core::time::Duration;

use nexus_actor_core::Instant;

use super::dials::DialSlot;
use super::node::{Ending, Node};
use super::peer::{Peer, dial_error};
use super::pressure::Way;
use super::reader::{EndpointReader, ReadFault};
use super::registry::Origin;
use super::writer::{EndpointWriter, Wrote};
use crate::association::{
    Admitted, Association, ConnectionId, ConnectionNumber, LostCause, PeerProof, Transmit, refusal,
};
use crate::transport::{TransportChannel, TransportError};
use crate::wire::{
    ControlFrame, FrameReader, Preamble, REST_AHEAD, Refuse, RefuseReason, Request, StreamError,
};

/// Steps of one poll before other tasks run.
const STEPS: usize = 32;
/// Steps after which the clock is read again: it costs as much as a small message.
const CLOCK_STEPS: usize = 4;
/// Bytes read in one step. When there are more, the actors that have got messages run first: they may be queued
/// behind this task on the same thread, and what they have to read is still in the processor's caches.
const READ_STEP: usize = 64 * 1024;
/// How long a connection that is to be closed may still write or read.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a connection is quiet until it gives its buffers back.
const REST: Duration = Duration::from_secs(1);
/// How long a frame may take from its first byte to its last (limit L9).
const FRAME_TIME: Duration = Duration::from_secs(10);

/// A connection in service of one association.
pub(crate) struct Connection {
    peer: Arc<Peer>,
    conn: ConnectionId,
    channel: TransportChannel,
    /// By this the transport's signals find the association.
    _way: Way,
    reader: EndpointReader,
    writer: EndpointWriter,
    /// Accepted, and not associated yet: its place in the books of those.
    stranger: Option<ConnectionNumber>,
    /// The peer broke the protocol: nothing more is taken from it.
    faulted: bool,
    /// Runs while the association wants the connection closed and the channel takes nothing.
    patience: Option<Ending>,
    /// How many frames were complete when the one under way was first seen, and when that was.
    under_way: Option<(u64, Instant)>,
    /// Armed for a frame under way, and left armed for the next: most are complete long before.
    frame_time: Option<Ending>,
    /// When it last carried more than a connection at rest does; `None` when it has given its buffers back since.
    busy: Option<Instant>,
    rest: Option<Ending>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The task panicked: the association must not take the connection for one that serves.
        #[cfg(feature = "std")]
        if std::thread::panicking() {
            self.channel.abort();
            self.introduce(false);
            self.peer.connection_ended(self.conn, LostCause::Broken);
        }
        // The association has a handle on the channel, which must not outlive this one.
        self.peer.forget_connection(self.conn);
    }
}

/// How a connection ended.
enum Ended {
    /// The association closed it, and everything meant for it is written.
    ByUs,
    Lost(LostCause),
    /// The association closed it, and the peer takes nothing any more.
    Stuck,
    /// The peer began a frame and does not end it.
    Unfinished,
}

impl Connection {
    /// A connection this node opens.
    pub(crate) fn dialled(peer: Arc<Peer>, conn: ConnectionId, channel: TransportChannel) -> Self {
        Self::new(peer, conn, channel, FrameReader::new())
    }

    fn new(peer: Arc<Peer>, conn: ConnectionId, channel: TransportChannel, frames: FrameReader) -> Self {
        Self {
            _way: Way::enter(&peer, &channel),
            peer,
            conn,
            channel,
            reader: EndpointReader::new(frames),
            writer: EndpointWriter::default(),
            stranger: None,
            faulted: false,
            patience: None,
            under_way: None,
            frame_time: None,
            busy: None,
            rest: None,
        }
    }

    /// Dials, then serves until either side ends it.
    pub(crate) async fn run(self, slot: DialSlot) {
        let mut nothing = Transmit::new();
        let dialled = poll_fn(|cx| {
            // Registers the waker: the association may give the dial up.
            let now = self.peer.node.now();
            if self.peer.poll_transmit(cx, self.conn, &mut nothing, now).closing {
                return Poll::Ready(None);
            }
            self.channel.poll_connected(cx).map(Some)
        })
        .await;
        // The next one's turn, whatever came of this.
        drop(slot);
        match dialled {
            None => {
                self.channel.close();
                self.peer.forget_connection(self.conn);
            }
            Some(Err(error)) => {
                let error = dial_error(&error);
                let conn = self.conn;
                self.peer.forget_connection(conn);
                self.peer.apply(|association, now| association.handle_dialled(now, conn, Err(error)));
            }
            Some(Ok(())) => {
                let conn = self.conn;
                self.peer.apply(|association, now| association.handle_dialled(now, conn, Ok(())));
                self.serve().await;
            }
        }
    }

    async fn serve(mut self) {
        self.peer.begin_to_serve(self.conn, self.channel.clone());
        match poll_fn(|cx| self.poll_serve(cx)).await {
            Ended::Stuck | Ended::Unfinished => {
                self.introduce(false);
                self.channel.abort();
                // The association still has last words for it.
                self.peer.connection_ended(self.conn, LostCause::Broken);
            }
            Ended::ByUs => {
                self.peer.forget_connection(self.conn);
                farewell(&self.peer.node, &self.channel).await;
                self.introduce(false);
                self.channel.close();
            }
            Ended::Lost(cause) => {
                self.introduce(false);
                self.channel.close();
                self.peer.connection_ended(self.conn, cause);
            }
        }
    }

    /// The connection has come to serve its association, or never will.
    fn introduce(&mut self, associated: bool) {
        let Some(number) = self.stranger.take() else { return };
        let node = &self.peer.node;
        node.hello_over(number);
        let now = node.now();
        let mut admission = node.admission.lock();
        if associated {
            admission.associated(number);
        } else {
            admission.closed(now, number);
        }
    }

    /// Whether the channel has been blocked for too long since the association wanted it closed.
    fn poll_stuck(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.peer.poll_closing(cx, self.conn) {
            return false;
        }
        if self.patience.is_none() {
            let Some(system) = self.peer.node.system.upgrade() else { return true };
            self.patience = Some(system.runtime().sleep_until(system.now() + FAREWELL));
        }
        self.patience.as_mut().is_some_and(|patience| patience.as_mut().poll(cx).is_ready())
    }

    /// Whether the frame under way has been so for too long. Asked when everything that came has been read.
    fn poll_unfinished(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let frames = &self.reader.frames;
        // While the node is behind nothing is read, and the rest of the frame may be there.
        if !frames.is_started() || self.peer.backlog.is_behind() {
            self.under_way = None;
            return false;
        }
        let since = match self.under_way {
            Some((completed, since)) if completed == frames.completed() => since,
            _ => now,
        };
        self.under_way = Some((frames.completed(), since));
        loop {
            if let Some(frame_time) = &mut self.frame_time
                && frame_time.as_mut().poll(cx).is_pending()
            {
                return false;
            }
            // Not `now`, which may be older than a timer that has just run out.
            if self.peer.node.now() >= since + FRAME_TIME {
                return true;
            }
            let Some(system) = self.peer.node.system.upgrade() else { return true };
            self.frame_time = Some(system.runtime().sleep_until(since + FRAME_TIME));
        }
    }

    /// Gives large buffers back once the connection has been quiet for a while. It may stay so for hours.
    fn poll_rest(&mut self, cx: &mut Context<'_>) {
        let Some(busy) = self.busy else { return };
        loop {
            if let Some(rest) = &mut self.rest
                && rest.as_mut().poll(cx).is_pending()
            {
                return;
            }
            let Some(system) = self.peer.node.system.upgrade() else { return };
            if system.now() >= busy + REST {
                (self.busy, self.rest) = (None, None);
                self.reader.release();
                self.writer.release();
                self.peer.read(Association::shrink);
                return;
            }
            self.rest = Some(system.runtime().sleep_until(busy + REST));
        }
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let mut now = self.peer.node.now();
        for step in 1..=STEPS {
            let mut progress = false;
            let more = match self.read(cx, now) {
                Ok(more) => more,
                Err(cause) => return Poll::Ready(Ended::Lost(cause)),
            };
            match self.writer.poll(cx, &self.peer, self.conn, &self.channel, now) {
                Ok(Wrote::Progress) => {
                    progress = true;
                    if self.writer.is_busy() {
                        self.busy = Some(now);
                    }
                }
                Ok(Wrote::Pending) => {}
                Ok(Wrote::Blocked) => {
                    if self.poll_stuck(cx) {
                        return Poll::Ready(Ended::Stuck);
                    }
                }
                Ok(Wrote::Finished) => return Poll::Ready(Ended::ByUs),
                Err(error) => return Poll::Ready(Ended::Lost(lost_cause(&error))),
            }
            self.reader.attach(&self.peer, self.conn);
            if self.stranger.is_some() && self.reader.is_attached() {
                self.introduce(true);
            }
            if more {
                break;
            }
            if !progress {
                if self.poll_unfinished(cx, now) {
                    return Poll::Ready(Ended::Unfinished);
                }
                self.poll_rest(cx);
                return Poll::Pending;
            }
            if step % CLOCK_STEPS == 0 {
                now = self.peer.node.now();
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads and works off what is there. True when there may be more.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, LostCause> {
        let mut read = 0;
        while read < READ_STEP {
            if self.peer.poll_caught_up(cx).is_pending() {
                self.reader.report(&self.peer, self.conn, true, now);
                return Ok(false);
            }
            match self.channel.poll_read(cx, self.reader.frames.spare()) {
                Poll::Pending => {
                    self.reader.report(&self.peer, self.conn, true, now);
                    return Ok(false);
                }
                Poll::Ready(Ok(0)) => return Err(LostCause::Closed),
                Poll::Ready(Ok(count)) => {
                    read += count;
                    if count >= REST_AHEAD {
                        self.busy = Some(now);
                    }
                    if self.faulted {
                        self.reader.frames = FrameReader::new();
                        continue;
                    }
                    self.reader.frames.received(count);
                    self.reader.count(count);
                    if let Err(ReadFault { reason, facts }) =
                        self.reader.take_frames(&self.peer, self.conn, now)
                    {
                        let conn = self.conn;
                        self.faulted = true;
                        self.peer
                            .apply(|association, now| association.handle_fault(now, conn, reason, &facts));
                        return Ok(true);
                    }
                }
                Poll::Ready(Err(error)) => return Err(lost_cause(&error)),
            }
        }
        self.reader.report(&self.peer, self.conn, false, now);
        Ok(true)
    }
}

fn lost_cause(error: &TransportError) -> LostCause {
    match error {
        TransportError::Closed { .. } => LostCause::Closed,
        _ => LostCause::Broken,
    }
}

/// Receives a connection that a peer opened: nobody is known behind it until its whole request has arrived.
pub(crate) async fn receive(node: Arc<Node>, channel: TransportChannel) {
    let number = ConnectionNumber(node.next_number());
    // Before it is in the books: whoever takes it out of them again must find it here.
    node.await_hello(number, channel.clone());
    let source = channel.peer_address().and_then(|authority| authority.host().parse().ok());
    let admitted = node.admission.lock().accept(node.now(), number, source);
    match admitted {
        Admitted::Yes => {}
        Admitted::InPlaceOf(other) => node.evict(other),
        Admitted::No => {
            node.hello_over(number);
            return channel.abort();
        }
    }
    if node.is_closing() {
        channel.close();
    }
    node.arm_admission();
    let hello = hello(&node, number, &channel).await;
    let Ok((request, frames)) = hello else {
        if let Err(Some(refuse)) = hello {
            say_no(&node, &channel, &refuse).await;
        }
        node.hello_over(number);
        let now = node.now();
        node.admission.lock().closed(now, number);
        channel.close();
        return;
    };
    let peer = match peer_of(&node, &request) {
        Ok(peer) => peer,
        Err(reason) => {
            // Its place among those not associated is its own until it has read why.
            if let Some(local) = node.local_id() {
                say_no(&node, &channel, &refusal(&local, Some(&request), reason)).await;
            }
            node.hello_over(number);
            let now = node.now();
            node.admission.lock().closed(now, number);
            return channel.close();
        }
    };
    let conn = ConnectionId::accepted(number.0);
    peer.add_driver(conn);
    let proof = PeerProof::Claimed;
    peer.apply(|association, now| association.handle_accepted(now, conn, request, proof));
    // The request is whole. What follows is the peer's confirmation, once it has our answer; until the association
    // has taken that, an ordinary frame is a fault, and nothing is as long as one.
    let mut frames = frames;
    frames.established(crate::wire::limit::HANDSHAKE as u32);
    let mut connection = Connection::new(peer, conn, channel, frames);
    connection.stranger = Some(number);
    connection.serve().await;
}

/// The association a request is for.
///
/// # Errors
/// Why the peer is refused.
fn peer_of(node: &Arc<Node>, request: &Request) -> Result<Arc<Peer>, RefuseReason> {
    let refused = |reason| node.refused_by_us(request.handshake.node().address(), reason);
    let Some(own) = node.address() else { return Err(RefuseReason::Left) };
    let address = request.handshake.node().address().to_address(own.scheme.clone());
    if node.is_closing() {
        return Err(refused(RefuseReason::Left));
    }
    if *request.handshake.protocol() != own.scheme || address.authority.is_none() {
        return Err(refused(RefuseReason::ProtocolFault));
    }
    if address.authority == own.authority {
        // Whoever is there, it is not where it says.
        return Err(refused(RefuseReason::WrongAddress));
    }
    if node.is_blocked(&address) {
        return Err(refused(RefuseReason::Blocked));
    }
    let peer = node.peer(&address, Origin::Peer).filter(|peer| !peer.backlog.is_behind());
    peer.ok_or_else(|| refused(RefuseReason::Limit))
}

/// Tells a peer that it is refused, and reads to its end so that it gets to know.
async fn say_no(node: &Node, channel: &TransportChannel, refuse: &Refuse) {
    let mut bytes = Vec::new();
    Preamble::OURS.encode(&mut bytes);
    refuse.encode(&mut bytes);
    // When not even this fits, the peer learns by the close.
    let _ = channel.try_write(&bytes);
    farewell(node, channel).await;
}

/// Ends the writing side and reads to the peer's end, so that our last bytes are not destroyed by a reset.
async fn farewell(node: &Node, channel: &TransportChannel) {
    channel.finish();
    let Some(system) = node.system.upgrade() else { return };
    let mut sleep = system.runtime().sleep_until(system.now() + FAREWELL);
    drop(system);
    let mut scrap = alloc::vec![0; 4096];
    poll_fn(|cx| {
        // Asked first: a peer that never stops sending gets no more time than another.
        if sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        for _ in 0..STEPS {
            match channel.poll_read(cx, &mut scrap) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Reads until the peer's request is whole. `Err` with a refusal to send, or without one for bytes that are not
/// ours.
async fn hello(
    node: &Arc<Node>,
    number: ConnectionNumber,
    channel: &TransportChannel,
) -> Result<(Request, FrameReader), Option<Refuse>> {
    let mut frames = FrameReader::new();
    loop {
        let count = poll_fn(|cx| channel.poll_read(cx, frames.spare())).await.map_err(|_| None)?;
        if count == 0 {
            return Err(None);
        }
        frames.received(count);
        let fits = node.admission.lock().handle_bytes(number, count, frames.capacity());
        if fits.is_err() {
            node.report_stranger(channel, "more bytes than a handshake has");
            return Err(None);
        }
        // Whatever came with it: a version that we do not speak may mean other frames.
        let next = frames.next_frame().map(|raw| raw.map(ControlFrame::decode));
        if let Some(theirs) = frames.preamble().map(|preamble| preamble.versions)
            && theirs.agree(Preamble::OURS.versions).is_none()
        {
            let why = alloc::format!("it speaks version {theirs}, this node {}", Preamble::OURS.versions);
            node.report_stranger(channel, &why);
            return Err(node.local_id().map(|local| refusal(&local, None, RefuseReason::Version)));
        }
        match next {
            Ok(None) => {}
            Ok(Some(frame)) => match frame {
                Ok(ControlFrame::Request(request)) => {
                    node.admission.lock().hello(number);
                    return Ok((*request, frames));
                }
                Ok(_) => {
                    node.report_stranger(channel, "another frame than a request");
                    return Err(None);
                }
                Err(error) => {
                    node.report_stranger(channel, &error.to_string());
                    return Err(None);
                }
            },
            Err(error) => {
                node.report_stranger(channel, &error.to_string());
                let refuse = match error {
                    StreamError::Versions(_) => {
                        node.local_id().map(|local| refusal(&local, None, RefuseReason::Version))
                    }
                    _ => None,
                };
                return Err(refuse);
            }
        }
    }
}
