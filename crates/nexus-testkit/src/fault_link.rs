//! A transport that fails on demand.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use core::task::{Context, Poll, Waker};
use std::sync::OnceLock;

use crate::disturbance::{Disturbance, Frames};
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;
use nexus_remote::backpressure::BackpressureHook;
use nexus_remote::transport::{
    Channel, HookSlot, Listener, RemoteTransport, StallReport, TransportBind, TransportChannel,
    TransportEndpoint, TransportError, TransportHandle,
};

/// One way through a [`FaultLink`], as seen by the node that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the node reads.
    Inbound,
    /// What the node writes.
    Outbound,
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Torn down: what the peer had not read may be lost, and it sees a reset.
    Reset,
    /// Closed: the peer reads what had passed, perhaps half a frame of it, and then the end.
    Close,
}

/// What becomes of dials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DialFate {
    /// They reach the inner transport.
    #[default]
    Pass,
    /// They are refused, as by a host on which nobody listens.
    Refuse,
    /// They stay unanswered until the fate changes. The peer sees nothing of them.
    Hold,
}

/// What passed through a [`FaultLink`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Dials begun on the inner transport.
    pub dialled: u64,
    /// Dials refused by [`DialFate::Refuse`].
    pub refused: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections cut.
    pub cut: u64,
    /// Connections and dials whose channels exist now.
    pub live: u64,
    /// Bytes read by the node.
    pub bytes_inbound: u64,
    /// Bytes written by the node.
    pub bytes_outbound: u64,
    /// Writes of the node that took something.
    pub writes_outbound: u64,
    /// Frames that suffered from a [`Disturbance`].
    pub disturbed: u64,
}

/// Wraps a transport so that a test decides what its connections suffer.
///
/// Everything that happens is what TCP could do: connections break, at any byte, and stall, and are refused;
/// bytes of a connection are never lost in its middle, doubled or reordered, unless
/// [`disturb`](FaultControl::disturb) says so of whole frames. Nothing waits for time: stalls end when told to, delays are counted in polls, and random cuts follow a seed. It works under tokio and on
/// a hand-driven executor alike.
///
/// Each node of a test that shall suffer gets a link of its own; [`control`](Self::control) rules it.
pub struct FaultLink {
    inner: Arc<dyn RemoteTransport>,
    control: FaultControl,
    hook: HookSlot,
}

impl FaultLink {
    /// A link over `inner` on which nothing fails yet.
    #[must_use]
    pub fn new(inner: Arc<dyn RemoteTransport>) -> Self {
        Self { inner, control: FaultControl::new(), hook: HookSlot::new() }
    }

    /// The handle that rules this link; all of them rule the same link.
    #[must_use]
    pub fn control(&self) -> FaultControl {
        self.control.clone()
    }
}

impl fmt::Debug for FaultLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultLink").field("scheme", &self.scheme()).field("control", &self.control).finish()
    }
}

impl RemoteTransport for FaultLink {
    fn scheme(&self) -> &str {
        self.inner.scheme()
    }

    fn spawn_listener(&self, bind: &TransportBind) -> Result<TransportHandle, TransportError> {
        let inner = self.inner.spawn_listener(bind)?;
        Ok(TransportHandle::new(FaultListener { inner, control: self.control(), hook: self.hook.clone() }))
    }

    fn open_channel(&self, remote: &TransportEndpoint) -> Result<TransportChannel, TransportError> {
        let dial = Dial { transport: Arc::clone(&self.inner), endpoint: remote.clone() };
        let peer = remote.authority.clone();
        let channel = FaultChannel::new(self.control(), &self.hook, peer, Some(dial));
        Ok(TransportChannel::new(channel))
    }

    fn install_backpressure_hook(&self, hook: Box<dyn BackpressureHook + Send + Sync>) {
        self.hook.install(hook);
    }
}

/// Rules a [`FaultLink`], from any thread, at any time; clones rule the same link.
#[derive(Clone)]
pub struct FaultControl(Arc<Lock<Link>>);

struct Link {
    dials: DialFate,
    stalled: [bool; 2],
    bytes_per_poll: Option<usize>,
    polls: u32,
    random: Option<(fastrand::Rng, Range<u64>)>,
    disturbance: Option<(fastrand::Rng, Disturbance)>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    counts: FaultCounts,
}

#[derive(Default)]
struct Connection {
    /// Absent while a dial has not begun.
    inner: Option<TransportChannel>,
    /// Why it is of no more use, when the link and not the inner channel says so.
    ended: Option<TransportError>,
    cut_after: Option<(u64, Cut)>,
    /// Bytes that pass a stall.
    allowance: [u64; 2],
    /// Bytes handed to the inner channel, less those taken from it.
    handed_on: i64,
    /// Polls delayed since one last got through.
    delayed: [u32; 2],
    wakers: [Option<Waker>; 3],
}

const CONNECT: usize = 2;

const fn index(direction: Direction) -> usize {
    match direction {
        Direction::Inbound => 0,
        Direction::Outbound => 1,
    }
}

/// What a change leaves to be done without the lock.
#[derive(Default)]
struct Aftermath {
    cuts: Vec<(TransportChannel, Cut)>,
    wakers: Vec<Waker>,
}

impl Aftermath {
    fn run(self) {
        for (channel, how) in self.cuts {
            match how {
                Cut::Reset => channel.abort(),
                Cut::Close => channel.close(),
            }
        }
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

impl Connection {
    /// Cuts it, unless it is not made or cut already.
    fn cut(&mut self, how: Cut, after: &mut Aftermath) -> bool {
        let Some(inner) = &self.inner else { return false };
        if self.ended.is_some() {
            return false;
        }
        let address = inner.peer_address().unwrap_or_else(|| Authority::new("", 0));
        self.ended = Some(TransportError::Reset { address });
        after.cuts.push((inner.clone(), how));
        after.wakers.extend(self.wakers.iter_mut().filter_map(Option::take));
        true
    }
}

impl Link {
    /// Cuts after as many bytes as the seed says, for a connection made now.
    fn draw(&mut self) -> Option<(u64, Cut)> {
        let (rng, range) = self.random.as_mut()?;
        let bytes = rng.u64(range.clone());
        Some((bytes, if rng.bool() { Cut::Reset } else { Cut::Close }))
    }

    fn add(&mut self, connection: Connection) -> u64 {
        let id = self.next;
        self.next += 1;
        self.counts.live += 1;
        self.connections.insert(id, connection);
        id
    }

    fn wake_all(&mut self, after: &mut Aftermath) {
        for connection in self.connections.values_mut() {
            after.wakers.extend(connection.wakers.iter_mut().filter_map(Option::take));
        }
    }
}

impl FaultControl {
    fn new() -> Self {
        Self(Arc::new(Lock::new(Link {
            dials: DialFate::Pass,
            stalled: [false; 2],
            bytes_per_poll: None,
            polls: 0,
            random: None,
            disturbance: None,
            connections: BTreeMap::new(),
            next: 0,
            counts: FaultCounts::default(),
        })))
    }

    fn change<T>(&self, apply: impl FnOnce(&mut Link, &mut Aftermath) -> T) -> T {
        let mut after = Aftermath::default();
        let value = apply(&mut self.0.lock(), &mut after);
        after.run();
        value
    }

    /// Cuts every connection now, dials that reached the inner transport included, and says how many there
    /// were. Later dials are untouched.
    pub fn cut(&self, how: Cut) -> usize {
        self.change(|link, after| {
            let cut = link.connections.values_mut().filter_map(|c| c.cut(how, after).then_some(())).count();
            link.counts.cut += cut as u64;
            cut
        })
    }

    /// Cuts each connection that is made by now once `bytes` more have passed it, both directions together;
    /// the write or read that reaches the number is cut short there. Zero cuts at once.
    pub fn cut_after(&self, bytes: u64, how: Cut) {
        if bytes == 0 {
            self.cut(how);
            return;
        }
        for connection in self.0.lock().connections.values_mut().filter(|c| c.inner.is_some()) {
            connection.cut_after = Some((bytes, how));
        }
    }

    /// Cuts every connection made from now on after a number of bytes drawn from `bytes`, in a manner drawn
    /// too. The same seed and the same order of connections give the same cuts.
    ///
    /// # Panics
    /// When `bytes` is empty or begins with zero.
    pub fn cut_each_after(&self, seed: u64, bytes: Range<u64>) {
        assert!(bytes.start > 0 && bytes.start < bytes.end, "a range of at least one byte");
        self.0.lock().random = Some((fastrand::Rng::with_seed(seed), bytes));
    }

    /// Takes back [`cut_after`](Self::cut_after) and [`cut_each_after`](Self::cut_each_after), for the
    /// connections that live as well.
    pub fn spare(&self) {
        let mut link = self.0.lock();
        link.random = None;
        for connection in link.connections.values_mut() {
            connection.cut_after = None;
        }
    }

    /// Loses, doubles and swaps frames that the node writes, on connections made from now on; `None` ends it for
    /// all of them. The same seed and the same frames suffer alike.
    pub fn disturb(&self, seed: u64, disturbance: impl Into<Option<Disturbance>>) {
        self.change(|link, after| {
            link.disturbance = disturbance.into().map(|it| (fastrand::Rng::with_seed(seed), it));
            link.wake_all(after);
        });
    }

    /// Sets what becomes of dials, those under way and not yet answered included.
    pub fn set_dials(&self, fate: DialFate) {
        self.change(|link, after| {
            link.dials = fate;
            link.wake_all(after);
        });
    }

    /// Lets nothing pass in `direction`, on all connections present and to come, until [`pass`](Self::pass).
    ///
    /// Stalled outbound, the node finds its window full; stalled inbound, it hears nothing and its peer's
    /// window fills. One of them makes the link half-open, both black-hole it. The end of a connection is not
    /// seen through an inbound stall either; what the node itself closes, its peer sees.
    pub fn stall(&self, direction: Direction) {
        let mut link = self.0.lock();
        link.stalled[index(direction)] = true;
        for connection in link.connections.values_mut() {
            connection.allowance[index(direction)] = 0;
        }
    }

    /// Ends a stall.
    pub fn pass(&self, direction: Direction) {
        self.change(|link, after| {
            link.stalled[index(direction)] = false;
            link.wake_all(after);
        });
    }

    /// Lets `bytes` more pass a stall in `direction`, on each connection there is now.
    pub fn allow(&self, direction: Direction, bytes: u64) {
        self.change(|link, after| {
            for connection in link.connections.values_mut() {
                connection.allowance[index(direction)] += bytes;
            }
            link.wake_all(after);
        });
    }

    /// Lets at most `bytes` (at least 1) pass with each poll, or as much as there is with `None`. Shows code
    /// that takes one read for one frame.
    pub fn throttle(&self, bytes: Option<usize>) {
        self.0.lock().bytes_per_poll = bytes.map(|bytes| bytes.max(1));
    }

    /// Makes each read and write pend, and wake its task at once, `polls` times before it is tried.
    pub fn delay(&self, polls: u32) {
        self.0.lock().polls = polls;
    }

    /// Bytes handed to the inner transport, less those taken from it, on the connections whose channels exist.
    pub(crate) fn handed_on(&self) -> i64 {
        self.0.lock().connections.values().map(|connection| connection.handed_on).sum()
    }

    /// What passed so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.0.lock().counts
    }
}

impl fmt::Debug for FaultControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = self.0.lock();
        f.debug_struct("FaultControl")
            .field("dials", &link.dials)
            .field("stalled", &link.stalled)
            .field("bytes_per_poll", &link.bytes_per_poll)
            .field("polls", &link.polls)
            .field("random", &link.random.as_ref().map(|(_, range)| range))
            .field("counts", &link.counts)
            .finish()
    }
}

struct FaultListener {
    inner: TransportHandle,
    control: FaultControl,
    hook: HookSlot,
}

impl Listener for FaultListener {
    fn local_address(&self) -> Authority {
        self.inner.local_address()
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<TransportChannel, TransportError>> {
        self.inner.poll_accept(cx).map_ok(|inner| {
            let peer = inner.peer_address().unwrap_or_else(|| Authority::new("", 0));
            let channel = FaultChannel::new(self.control.clone(), &self.hook, peer, None);
            channel.attach(inner);
            self.control.0.lock().counts.accepted += 1;
            TransportChannel::new(channel)
        })
    }

    fn close(&self) {
        self.inner.close();
    }
}

struct Dial {
    transport: Arc<dyn RemoteTransport>,
    endpoint: TransportEndpoint,
}

struct FaultChannel {
    control: FaultControl,
    id: u64,
    peer: Authority,
    report: StallReport,
    inner: OnceLock<TransportChannel>,
    dial: Option<Dial>,
    /// What is written, in frames; absent for a connection made while nothing was disturbed.
    frames: OnceLock<Lock<Frames>>,
}

/// What the link says to a read or write.
enum Gate {
    /// So many bytes at most.
    Open(usize),
    Stalled,
    Delayed,
}

impl FaultChannel {
    fn new(control: FaultControl, hook: &HookSlot, peer: Authority, dial: Option<Dial>) -> Self {
        let id = control.0.lock().add(Connection::default());
        let report = StallReport::new(hook.clone(), &peer);
        Self { control, id, peer, report, inner: OnceLock::new(), dial, frames: OnceLock::new() }
    }

    /// Puts the made channel under the link's rule.
    fn attach(&self, inner: TransportChannel) {
        self.control.change(|link, after| {
            if let Some((random, disturbance)) = &mut link.disturbance {
                let frames = Frames::new(*disturbance, random.fork());
                let _ = self.frames.set(Lock::new(frames));
            }
            let drawn = link.draw();
            if let Some(connection) = link.connections.get_mut(&self.id) {
                connection.cut_after = drawn;
                if connection.ended.is_some() {
                    after.cuts.push((inner.clone(), Cut::Reset));
                }
                connection.inner = Some(inner.clone());
            }
        });
        // Set by nobody else: one task polls the connect, and an accepted channel has no dial.
        let _ = self.inner.set(inner);
    }

    /// Runs `look` on this connection; when it answers `Pending`, remembers the waker in the same critical
    /// section. Wakers are cloned and dropped outside the lock.
    fn look<T>(
        &self,
        cx: &Context<'_>,
        slot: usize,
        look: impl FnOnce(&mut Link, &mut Connection) -> Poll<T>,
    ) -> Poll<T> {
        let ours = cx.waker().clone();
        let mut link = self.control.0.lock();
        let mut connection = link.connections.remove(&self.id).unwrap_or_default();
        let answer = look(&mut link, &mut connection);
        let unused = if answer.is_pending() { connection.wakers[slot].replace(ours) } else { Some(ours) };
        link.connections.insert(self.id, connection);
        drop(link);
        drop(unused);
        answer
    }

    /// What may pass now. A stall remembers the waker.
    fn gate(
        &self,
        cx: &Context<'_>,
        direction: Direction,
        want: usize,
    ) -> Poll<Result<usize, TransportError>> {
        let slot = index(direction);
        let gate = self.look(cx, slot, |link, connection| {
            if let Some(error) = &connection.ended {
                return Poll::Ready(Err(error.clone()));
            }
            match link.gate(connection, direction, want) {
                Gate::Stalled => Poll::Pending,
                gate => Poll::Ready(Ok(gate)),
            }
        });
        match gate {
            Poll::Ready(Ok(Gate::Open(bytes))) => Poll::Ready(Ok(bytes)),
            Poll::Ready(Ok(Gate::Delayed)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Ok(Gate::Stalled)) | Poll::Pending => {
                if direction == Direction::Outbound {
                    self.report.note(true);
                }
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// Counts what passed, and cuts when its number is reached.
    fn passed(&self, direction: Direction, bytes: usize) {
        let bytes = bytes as u64;
        self.control.change(|link, after| {
            match direction {
                Direction::Inbound => link.counts.bytes_inbound += bytes,
                Direction::Outbound => {
                    link.counts.bytes_outbound += bytes;
                    link.counts.writes_outbound += 1;
                }
            }
            let stalled = link.stalled[index(direction)];
            let Some(connection) = link.connections.get_mut(&self.id) else { return };
            connection.delayed[index(direction)] = 0;
            match direction {
                Direction::Inbound => connection.handed_on -= bytes as i64,
                Direction::Outbound => connection.handed_on += bytes as i64,
            }
            if stalled {
                let allowance = &mut connection.allowance[index(direction)];
                *allowance = allowance.saturating_sub(bytes);
            }
            if let Some((left, how)) = &mut connection.cut_after {
                *left = left.saturating_sub(bytes);
                let how = *how;
                if *left == 0 && connection.cut(how, after) {
                    link.counts.cut += 1;
                }
            }
        });
    }

    /// The link's reason for an error of the inner channel, when the link caused it.
    fn explain(&self, error: TransportError) -> TransportError {
        let link = self.control.0.lock();
        link.connections.get(&self.id).and_then(|c| c.ended.clone()).unwrap_or(error)
    }

    fn inner(&self) -> Result<&TransportChannel, TransportError> {
        self.inner
            .get()
            .ok_or_else(|| self.explain(TransportError::NotConnected { address: self.peer.clone() }))
    }

    /// Ends a dial that has not begun.
    fn abandon(&self) {
        self.control.change(|link, after| {
            if let Some(connection) = link.connections.get_mut(&self.id)
                && connection.inner.is_none()
                && connection.ended.is_none()
            {
                connection.ended = Some(TransportError::Closed { address: self.peer.clone() });
                after.wakers.extend(connection.wakers.iter_mut().filter_map(Option::take));
            }
        });
        self.report.note(false);
    }
}

impl Link {
    fn gate(&self, connection: &mut Connection, direction: Direction, want: usize) -> Gate {
        let slot = index(direction);
        if connection.delayed[slot] < self.polls {
            connection.delayed[slot] += 1;
            return Gate::Delayed;
        }
        let mut bytes = want.min(self.bytes_per_poll.unwrap_or(usize::MAX));
        if self.stalled[slot] {
            let allowance = usize::try_from(connection.allowance[slot]).unwrap_or(usize::MAX);
            if allowance == 0 {
                return Gate::Stalled;
            }
            bytes = bytes.min(allowance);
        }
        if let Some((left, _)) = connection.cut_after {
            bytes = bytes.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        Gate::Open(bytes)
    }
}

impl Channel for FaultChannel {
    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let begin = self.look(cx, CONNECT, |link, connection| {
            if let Some(error) = &connection.ended {
                return Poll::Ready(Err(error.clone()));
            }
            if connection.inner.is_some() {
                return Poll::Ready(Ok(false));
            }
            match link.dials {
                DialFate::Pass => {
                    link.counts.dialled += 1;
                    Poll::Ready(Ok(true))
                }
                DialFate::Refuse => {
                    link.counts.refused += 1;
                    let refused = TransportError::Refused { address: self.peer.clone() };
                    connection.ended = Some(refused.clone());
                    Poll::Ready(Err(refused))
                }
                DialFate::Hold => Poll::Pending,
            }
        });
        match begin {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(true)) => {
                if let Some(dial) = &self.dial {
                    match dial.transport.open_channel(&dial.endpoint) {
                        Ok(inner) => self.attach(inner),
                        Err(error) => {
                            if let Some(connection) = self.control.0.lock().connections.get_mut(&self.id) {
                                connection.ended = Some(error.clone());
                            }
                            return Poll::Ready(Err(error));
                        }
                    }
                }
            }
            Poll::Ready(Ok(false)) => {}
        }
        self.inner()?.poll_connected(cx).map_err(|error| self.explain(error))
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, TransportError>> {
        let inner = self.inner()?;
        let bytes = match self.gate(cx, Direction::Inbound, buf.len()) {
            Poll::Ready(bytes) => bytes?,
            Poll::Pending => return Poll::Pending,
        };
        match inner.poll_read(cx, &mut buf[..bytes]) {
            Poll::Ready(Ok(read)) => {
                self.passed(Direction::Inbound, read);
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.explain(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, TransportError>> {
        let inner = self.inner()?;
        let limit = match self.gate(cx, Direction::Outbound, bytes.len()) {
            Poll::Ready(limit) => limit?,
            Poll::Pending => return Poll::Pending,
        };
        let result = match self.frames.get() {
            None => inner.poll_write(cx, &bytes[..limit]),
            Some(frames) => self.write_frames(inner, frames, cx, &bytes[..limit]),
        };
        self.report.note(result.is_pending());
        match result {
            Poll::Ready(Ok(written)) => {
                self.passed(Direction::Outbound, written);
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.explain(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Neither throttled nor delayed, since it is not tried again; stalls and cuts hold.
    fn try_write(&self, bytes: &[u8]) -> Result<usize, TransportError> {
        let inner = self.inner()?;
        let limit = {
            let link = self.control.0.lock();
            let Some(connection) = link.connections.get(&self.id) else { return Ok(0) };
            if let Some(error) = &connection.ended {
                return Err(error.clone());
            }
            let mut limit = connection.cut_after.map_or(u64::MAX, |(left, _)| left);
            if link.stalled[index(Direction::Outbound)] {
                limit = limit.min(connection.allowance[index(Direction::Outbound)]);
            }
            bytes.len().min(usize::try_from(limit).unwrap_or(usize::MAX))
        };
        let written = match self.frames.get() {
            None => inner.try_write(&bytes[..limit]).map_err(|error| self.explain(error))?,
            // Goes the other way.
            Some(_) => return Ok(0),
        };
        self.passed(Direction::Outbound, written);
        Ok(written)
    }

    fn finish(&self) {
        if let Some(inner) = self.inner.get() {
            inner.finish();
        }
    }

    fn close(&self) {
        self.abandon();
        self.wake_after(TransportChannel::close);
    }

    fn abort(&self) {
        self.abandon();
        self.wake_after(TransportChannel::abort);
    }

    fn local_address(&self) -> Option<Authority> {
        self.inner.get().and_then(TransportChannel::local_address)
    }

    fn peer_address(&self) -> Option<Authority> {
        Some(self.peer.clone())
    }
}

impl FaultChannel {
    /// Takes all of `bytes` when nothing from before waits. What the inner channel does not take at once goes with the
    /// next write; the few bytes of a disturbed test fit.
    fn write_frames(
        &self,
        inner: &TransportChannel,
        frames: &Lock<Frames>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, TransportError>> {
        let mut frames = frames.lock();
        if !flush(inner, &mut frames, cx)? {
            return Poll::Pending;
        }
        let (before, waiting) = (frames.suffered, frames.out.len());
        match self.control.0.lock().disturbance {
            Some(_) => frames.feed(bytes),
            None => frames.feed_undisturbed(bytes),
        }
        {
            let mut link = self.control.0.lock();
            link.counts.disturbed += frames.suffered - before;
            let added = (frames.out.len() - waiting) as i64 - bytes.len() as i64;
            if let Some(connection) = link.connections.get_mut(&self.id) {
                connection.handed_on += added;
            }
        }
        flush(inner, &mut frames, cx)?;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Ends the inner channel and lets those stalled by the link see it.
    fn wake_after(&self, end: impl FnOnce(&TransportChannel)) {
        let Some(inner) = self.inner.get() else { return };
        end(inner);
        self.control.change(|link, after| {
            if let Some(connection) = link.connections.get_mut(&self.id) {
                if connection.ended.is_none() {
                    connection.ended = Some(TransportError::Closed { address: self.peer.clone() });
                }
                after.wakers.extend(connection.wakers.iter_mut().filter_map(Option::take));
            }
        });
    }
}

/// Writes what has been decided on, and says whether all of it went.
fn flush(
    inner: &TransportChannel,
    frames: &mut Frames,
    cx: &mut Context<'_>,
) -> Result<bool, TransportError> {
    while !frames.out.is_empty() {
        match inner.poll_write(cx, &frames.out)? {
            Poll::Ready(written) => drop(frames.out.drain(..written)),
            Poll::Pending => return Ok(false),
        }
    }
    Ok(true)
}

impl Drop for FaultChannel {
    fn drop(&mut self) {
        self.close();
        let mut link = self.control.0.lock();
        let connection = link.connections.remove(&self.id);
        link.counts.live -= 1;
        drop(link);
        drop(connection);
    }
}
