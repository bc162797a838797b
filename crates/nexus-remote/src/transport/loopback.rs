//! A transport that stays inside the process.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;

use super::{
    Channel, HookSlot, Listener, RemoteTransport, StallReport, TransportBind, TransportChannel,
    TransportEndpoint, TransportError, TransportHandle, TransportSecurity,
};
use crate::backpressure::BackpressureHook;

/// How many bytes wait in one direction of a connection by default before writing stalls.
const PIPE_BYTES_MAX: usize = 256 * 1024;

/// Ports drawn for port 0, and for the dialling ends.
const PORTS: core::ops::RangeInclusive<u16> = 49152..=65535;

/// The network that loopback transports share: what one listens on, another of the same network reaches.
///
/// Nothing about it is global. Make one, and give it to every node that shall see the others; clones are the
/// same network. Hosts are plain names and need not exist; a listener on `0.0.0.0` or `::` answers for each.
#[derive(Clone)]
pub struct LoopbackNetwork(Arc<Network>);

struct Network {
    state: Lock<Ports>,
    pipe_bytes_max: usize,
}

struct Ports {
    listeners: BTreeMap<Authority, Arc<Backlog>>,
    next: u16,
}

impl Ports {
    fn draw(&mut self) -> u16 {
        let port = self.next;
        self.next = if port == *PORTS.end() { *PORTS.start() } else { port + 1 };
        port
    }
}

impl LoopbackNetwork {
    /// A network on which nobody listens.
    #[must_use]
    pub fn new() -> Self {
        Self::with_pipe_bytes_max(PIPE_BYTES_MAX)
    }

    /// A network whose connections hold at most `bytes` (at least 1) in each direction, 256 KiB by default.
    #[must_use]
    pub fn with_pipe_bytes_max(bytes: usize) -> Self {
        let state = Ports { listeners: BTreeMap::new(), next: *PORTS.start() };
        Self(Arc::new(Network { state: Lock::new(state), pipe_bytes_max: bytes.max(1) }))
    }

    fn bind(&self, bind: &TransportBind) -> Result<(Authority, Arc<Backlog>), TransportError> {
        let backlog = Arc::new(Backlog {
            limit: bind.backlog.max(1) as usize,
            state: Lock::new(Waiting { channels: VecDeque::new(), waker: None, closed: false }),
        });
        let in_use = |address| TransportError::AddressInUse {
            address,
            cause: Arc::from("another listener of this loopback network has it"),
        };
        let mut ports = self.0.state.lock();
        let mut address = bind.authority();
        if bind.port == 0 {
            let mut drawn = PORTS.map(|_| ());
            address = loop {
                drawn.next().ok_or_else(|| in_use(bind.authority()))?;
                let candidate = Authority::new(&bind.host, ports.draw());
                if !ports.listeners.contains_key(&candidate) {
                    break candidate;
                }
            };
        }
        if ports.listeners.contains_key(&address) {
            return Err(in_use(address));
        }
        ports.listeners.insert(address.clone(), Arc::clone(&backlog));
        Ok((address, backlog))
    }

    fn find(&self, address: &Authority) -> Option<Arc<Backlog>> {
        let ports = self.0.state.lock();
        let any = ["0.0.0.0", "::"];
        let exact = ports.listeners.get(address);
        exact
            .or_else(|| {
                any.iter().find_map(|host| ports.listeners.get(&Authority::new(host, address.port())))
            })
            .cloned()
    }
}

impl Default for LoopbackNetwork {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LoopbackNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listening: Vec<_> = self.0.state.lock().listeners.keys().cloned().collect();
        f.debug_struct("LoopbackNetwork").field("listening", &listening).finish()
    }
}

/// The transport of scheme `fraktor.loopback`: bounded pipes inside the process, without `std`.
///
/// It behaves as TCP does where a node can tell: connections are made before they are accepted, a full pipe
/// stalls its writer, a finished one is read to its end, an aborted one resets both sides.
#[derive(Clone, Debug)]
pub struct LoopbackTransport {
    network: LoopbackNetwork,
    host: String,
    hook: HookSlot,
}

impl LoopbackTransport {
    /// The scheme, `fraktor.loopback`.
    pub const SCHEME: &'static str = "fraktor.loopback";

    /// A transport on `network`.
    #[must_use]
    pub fn new(network: &LoopbackNetwork) -> Self {
        Self { network: network.clone(), host: String::from("localhost"), hook: HookSlot::new() }
    }

    /// Gives the host that peers see dials of this transport come from, `localhost` by default.
    #[must_use]
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }
}

impl RemoteTransport for LoopbackTransport {
    fn scheme(&self) -> &str {
        Self::SCHEME
    }

    fn spawn_listener(&self, bind: &TransportBind) -> Result<TransportHandle, TransportError> {
        match bind.security {
            TransportSecurity::Plaintext => {}
        }
        let (address, backlog) = self.network.bind(bind)?;
        let network = self.network.clone();
        Ok(TransportHandle::new(LoopbackListener { network, address, backlog, hook: self.hook.clone() }))
    }

    fn open_channel(&self, remote: &TransportEndpoint) -> Result<TransportChannel, TransportError> {
        match remote.security {
            TransportSecurity::Plaintext => {}
        }
        let address = &remote.authority;
        let Some(backlog) = self.network.find(address) else {
            return Ok(TransportChannel::new(FailedDial(TransportError::Refused {
                address: address.clone(),
            })));
        };
        let from = Authority::new(&self.host, self.network.0.state.lock().draw());
        let limit = self.network.0.pipe_bytes_max;
        let wire = Arc::new(Wire { forth: Pipe::new(limit), back: Pipe::new(limit) });
        let ours = LoopbackChannel {
            local: from.clone(),
            peer: address.clone(),
            report: StallReport::new(self.hook.clone(), address),
            wire: Arc::clone(&wire),
            end: End::Dialling,
            closed: AtomicBool::new(false),
        };
        let theirs = Unaccepted { wire, local: address.clone(), peer: from };
        Ok(match backlog.push(theirs) {
            Ok(()) => TransportChannel::new(ours),
            Err(error) => TransportChannel::new(FailedDial(error)),
        })
    }

    fn install_backpressure_hook(&self, hook: Box<dyn BackpressureHook + Send + Sync>) {
        self.hook.install(hook);
    }
}

/// Connections made and not yet accepted.
struct Backlog {
    limit: usize,
    state: Lock<Waiting>,
}

struct Waiting {
    channels: VecDeque<Unaccepted>,
    waker: Option<Waker>,
    closed: bool,
}

/// The listener's end of a connection that nobody accepted; resets it when dropped.
struct Unaccepted {
    wire: Arc<Wire>,
    local: Authority,
    peer: Authority,
}

impl Backlog {
    fn push(&self, channel: Unaccepted) -> Result<(), TransportError> {
        let address = channel.local.clone();
        let mut waiting = self.state.lock();
        if waiting.closed {
            return Err(TransportError::Refused { address });
        }
        if waiting.channels.len() >= self.limit {
            return Err(TransportError::Unreachable { address, cause: Arc::from("its backlog is full") });
        }
        waiting.channels.push_back(channel);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn close(&self) {
        let mut waiting = self.state.lock();
        waiting.closed = true;
        let channels = core::mem::take(&mut waiting.channels);
        let waker = waiting.waker.take();
        drop(waiting);
        for channel in channels {
            channel.wire.abort();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct LoopbackListener {
    network: LoopbackNetwork,
    address: Authority,
    backlog: Arc<Backlog>,
    hook: HookSlot,
}

impl Listener for LoopbackListener {
    fn local_address(&self) -> Authority {
        self.address.clone()
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<TransportChannel, TransportError>> {
        let ours = cx.waker().clone();
        let mut waiting = self.backlog.state.lock();
        if waiting.closed {
            return Poll::Ready(Err(TransportError::Closed { address: self.address.clone() }));
        }
        let Some(Unaccepted { wire, local, peer }) = waiting.channels.pop_front() else {
            let displaced = waiting.waker.replace(ours);
            drop(waiting);
            drop(displaced);
            return Poll::Pending;
        };
        drop(waiting);
        Poll::Ready(Ok(TransportChannel::new(LoopbackChannel {
            report: StallReport::new(self.hook.clone(), &peer),
            local,
            peer,
            wire,
            end: End::Accepting,
            closed: AtomicBool::new(false),
        })))
    }

    fn close(&self) {
        let mut ports = self.network.0.state.lock();
        // Another listener may have taken the address since an earlier close.
        let removed = match ports.listeners.get(&self.address) {
            Some(listening) if Arc::ptr_eq(listening, &self.backlog) => ports.listeners.remove(&self.address),
            Some(_) | None => None,
        };
        drop(ports);
        drop(removed);
        self.backlog.close();
    }
}

/// The two pipes of a connection.
struct Wire {
    /// From the dialling end to the accepting one.
    forth: Pipe,
    back: Pipe,
}

impl Wire {
    fn abort(&self) {
        for pipe in [&self.forth, &self.back] {
            pipe.change(|state| {
                state.aborted = true;
                state.bytes = VecDeque::new();
            });
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Dialling,
    Accepting,
}

/// One direction.
struct Pipe {
    limit: usize,
    state: Lock<PipeState>,
}

struct PipeState {
    bytes: VecDeque<u8>,
    /// The writer ended it: the rest is read, then the end.
    finished: bool,
    /// The reader closed: writing fails.
    unread: bool,
    /// Torn down: nothing is left.
    aborted: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Side {
    Reader,
    Writer,
}

impl PipeState {
    const fn waker(&mut self, side: &Side) -> &mut Option<Waker> {
        match side {
            Side::Reader => &mut self.reader,
            Side::Writer => &mut self.writer,
        }
    }
}

impl Pipe {
    const fn new(limit: usize) -> Self {
        let bytes = VecDeque::new();
        let state =
            PipeState { bytes, finished: false, unread: false, aborted: false, reader: None, writer: None };
        Self { limit, state: Lock::new(state) }
    }

    /// Changes the pipe's state and wakes both ends, outside the lock.
    fn change(&self, apply: impl FnOnce(&mut PipeState)) {
        let mut state = self.state.lock();
        apply(&mut state);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Runs `step` under the lock; while it is not ready, remembers the waker for `side` in the same critical
    /// section, so no change is missed. Once ready, wakes the other side. Wakers are cloned, dropped and woken
    /// outside the lock.
    fn poll<T>(
        &self,
        cx: &Context<'_>,
        side: &Side,
        mut step: impl FnMut(&mut PipeState) -> Poll<T>,
    ) -> Poll<T> {
        let mut ours = None;
        loop {
            let mut state = self.state.lock();
            if let Poll::Ready(value) = step(&mut state) {
                let other = match side {
                    Side::Reader => state.writer.take(),
                    Side::Writer => state.reader.take(),
                };
                drop(state);
                if let Some(waker) = other {
                    waker.wake();
                }
                return Poll::Ready(value);
            }
            let slot = state.waker(side);
            if slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            if let Some(waker) = ours.take() {
                let displaced = slot.replace(waker);
                drop(state);
                drop(displaced);
                return Poll::Pending;
            }
            drop(state);
            ours = Some(cx.waker().clone());
        }
    }
}

struct LoopbackChannel {
    wire: Arc<Wire>,
    end: End,
    local: Authority,
    peer: Authority,
    report: StallReport,
    closed: AtomicBool,
}

impl LoopbackChannel {
    fn outgoing(&self) -> &Pipe {
        match self.end {
            End::Dialling => &self.wire.forth,
            End::Accepting => &self.wire.back,
        }
    }

    fn incoming(&self) -> &Pipe {
        match self.end {
            End::Dialling => &self.wire.back,
            End::Accepting => &self.wire.forth,
        }
    }

    fn closed(&self) -> TransportError {
        TransportError::Closed { address: self.peer.clone() }
    }

    fn reset(&self) -> TransportError {
        TransportError::Reset { address: self.peer.clone() }
    }

    /// How much of `bytes` the pipe takes; to be called under its lock.
    fn fill(&self, state: &mut PipeState, bytes: &[u8]) -> Result<usize, TransportError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(self.closed());
        }
        if state.aborted || state.unread {
            return Err(self.reset());
        }
        if state.finished {
            return Err(self.closed());
        }
        let taken = bytes.len().min(self.wire.forth.limit - state.bytes.len());
        state.bytes.extend(&bytes[..taken]);
        Ok(taken)
    }
}

impl Channel for LoopbackChannel {
    fn poll_connected(&self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        // Made as it was dialled; a reset shows at the first read or write, as with TCP.
        Poll::Ready(if self.closed.load(Ordering::Acquire) { Err(self.closed()) } else { Ok(()) })
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, TransportError>> {
        self.incoming().poll(cx, &Side::Reader, |state| {
            if self.closed.load(Ordering::Acquire) {
                return Poll::Ready(Err(self.closed()));
            }
            if state.aborted {
                return Poll::Ready(Err(self.reset()));
            }
            if state.bytes.is_empty() && !state.finished {
                return Poll::Pending;
            }
            Poll::Ready(Ok(drain(&mut state.bytes, buf)))
        })
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, TransportError>> {
        let result = self.outgoing().poll(cx, &Side::Writer, |state| match self.fill(state, bytes) {
            Ok(0) if !bytes.is_empty() => Poll::Pending,
            result => Poll::Ready(result),
        });
        self.report.note(result.is_pending());
        result
    }

    fn try_write(&self, bytes: &[u8]) -> Result<usize, TransportError> {
        let pipe = self.outgoing();
        let mut state = pipe.state.lock();
        let result = self.fill(&mut state, bytes);
        let reader = state.reader.take();
        drop(state);
        if let Some(waker) = reader {
            waker.wake();
        }
        result
    }

    fn finish(&self) {
        self.outgoing().change(|state| state.finished = true);
    }

    fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.outgoing().change(|state| state.finished = true);
            self.incoming().change(|state| {
                state.unread = true;
                state.bytes = VecDeque::new();
            });
            self.report.note(false);
        }
    }

    fn abort(&self) {
        self.closed.store(true, Ordering::Release);
        self.wire.abort();
        self.report.note(false);
    }

    fn local_address(&self) -> Option<Authority> {
        Some(self.local.clone())
    }

    fn peer_address(&self) -> Option<Authority> {
        Some(self.peer.clone())
    }
}

impl Drop for LoopbackChannel {
    fn drop(&mut self) {
        self.close();
    }
}

/// Moves a beginning of `from` into `into`.
fn drain(from: &mut VecDeque<u8>, into: &mut [u8]) -> usize {
    let (first, second) = from.as_slices();
    let a = first.len().min(into.len());
    into[..a].copy_from_slice(&first[..a]);
    let b = second.len().min(into.len() - a);
    into[a..a + b].copy_from_slice(&second[..b]);
    from.drain(..a + b);
    a + b
}

/// A dial that failed at once, and says so where a dial over a network would.
struct FailedDial(TransportError);

impl Channel for FailedDial {
    fn poll_connected(&self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Err(self.0.clone()))
    }

    fn poll_read(&self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<Result<usize, TransportError>> {
        Poll::Ready(Err(self.0.clone()))
    }

    fn poll_write(&self, _: &mut Context<'_>, _: &[u8]) -> Poll<Result<usize, TransportError>> {
        Poll::Ready(Err(self.0.clone()))
    }

    fn try_write(&self, _: &[u8]) -> Result<usize, TransportError> {
        Err(self.0.clone())
    }

    fn finish(&self) {}

    fn close(&self) {}

    fn abort(&self) {}

    fn local_address(&self) -> Option<Authority> {
        None
    }

    fn peer_address(&self) -> Option<Authority> {
        self.0.address().cloned()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::task::Wake;
    use core::future::Future;
    use core::pin::pin;
    use core::sync::atomic::AtomicUsize;

    use super::*;

    /// A waker that counts, which is all the executor that a single-threaded pump needs.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn poll<F: Future>(future: F, count: &Arc<Count>) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(count));
        pin!(future).poll(&mut Context::from_waker(&waker))
    }

    fn pair(network: &LoopbackNetwork) -> (TransportHandle, TransportChannel, TransportChannel) {
        let transport = LoopbackTransport::new(network);
        let listener = transport.spawn_listener(&TransportBind::new("node", 0)).unwrap();
        let near = transport.open_channel(&TransportEndpoint::new(listener.local_address())).unwrap();
        match poll(listener.accept(), &Arc::default()) {
            Poll::Ready(Ok(far)) => (listener, near, far),
            other => panic!("{other:?}"),
        }
    }

    /// Covers: TR-10
    #[test]
    fn a_hand_driven_pump_is_woken_by_each_change_and_by_nothing_else() {
        let (_listener, near, far) = pair(&LoopbackNetwork::with_pipe_bytes_max(4));
        let (reader, writer) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut buf = [0; 8];
        assert!(poll(far.read(&mut buf), &reader).is_pending());
        assert!(poll(far.read(&mut buf), &reader).is_pending());
        assert_eq!(poll(near.write(b"abcdef"), &writer), Poll::Ready(Ok(4)), "up to the bound");
        assert_eq!((reader.get(), writer.get()), (1, 0));
        assert!(poll(near.write(b"ef"), &writer).is_pending());
        assert_eq!(poll(far.read(&mut buf[..3]), &reader), Poll::Ready(Ok(3)));
        assert_eq!((reader.get(), writer.get()), (1, 1));
        // Wraps around inside the pipe.
        assert_eq!(poll(near.write(b"ef"), &writer), Poll::Ready(Ok(2)));
        assert_eq!(poll(far.read(&mut buf), &reader), Poll::Ready(Ok(3)));
        assert_eq!(&buf[..3], b"def");
        assert_eq!((reader.get(), writer.get()), (1, 1), "nobody waited");
        assert!(poll(far.read(&mut buf), &reader).is_pending());
        near.finish();
        assert_eq!(reader.get(), 2);
        assert_eq!(poll(far.read(&mut buf), &reader), Poll::Ready(Ok(0)));
    }

    #[test]
    fn a_later_task_takes_over_a_direction() {
        let (_listener, near, far) = pair(&LoopbackNetwork::new());
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        assert!(poll(far.read(&mut [0; 1]), &first).is_pending());
        assert!(poll(far.read(&mut [0; 1]), &second).is_pending());
        assert!(poll(near.write(b"x"), &first).is_ready());
        assert_eq!((first.get(), second.get()), (0, 1));
    }

    #[test]
    fn a_full_backlog_is_not_a_refusal() {
        let network = LoopbackNetwork::new();
        let transport = LoopbackTransport::new(&network);
        for limit in [1, 3] {
            let bind = TransportBind::new("node", 0).with_backlog(limit);
            let listener = transport.spawn_listener(&bind).unwrap();
            let remote = TransportEndpoint::new(listener.local_address());
            let mut dialled = Vec::new();
            for at in 0..=limit {
                let channel = transport.open_channel(&remote).unwrap();
                let connected = poll(channel.connected(), &Arc::default());
                if at < limit {
                    assert_eq!(connected, Poll::Ready(Ok(())), "{at} of {limit}");
                } else {
                    assert!(matches!(connected, Poll::Ready(Err(TransportError::Unreachable { .. }))));
                }
                dialled.push(channel);
            }
            assert!(matches!(poll(listener.accept(), &Arc::default()), Poll::Ready(Ok(_))));
            let channel = transport.open_channel(&remote).unwrap();
            assert_eq!(poll(channel.connected(), &Arc::default()), Poll::Ready(Ok(())), "room again");
        }
    }

    #[test]
    fn hosts_are_told_apart_unless_the_listener_answers_for_all() {
        let network = LoopbackNetwork::new();
        let transport = LoopbackTransport::new(&network).with_host("10.0.0.7");
        let listen = |host| transport.spawn_listener(&TransportBind::new(host, 25520)).unwrap();
        let dial = |host| {
            let remote = TransportEndpoint::new(Authority::new(host, 25520));
            let channel = transport.open_channel(&remote).unwrap();
            poll(channel.connected(), &Arc::default())
        };
        let one = listen("one");
        assert_eq!(dial("one"), Poll::Ready(Ok(())));
        assert!(matches!(dial("two"), Poll::Ready(Err(TransportError::Refused { .. }))));
        let all = listen("0.0.0.0");
        assert_eq!(dial("two"), Poll::Ready(Ok(())));
        match poll(one.accept(), &Arc::default()) {
            Poll::Ready(Ok(channel)) => {
                let (local, peer) = (channel.local_address().unwrap(), channel.peer_address().unwrap());
                assert_eq!((local.to_string().as_str(), peer.host()), ("one:25520", "10.0.0.7"));
            }
            other => panic!("{other:?}"),
        }
        assert!(poll(one.accept(), &Arc::default()).is_pending(), "an exact name goes before the wildcard");
        assert!(poll(all.accept(), &Arc::default()).is_ready());
    }

    #[test]
    fn port_zero_passes_over_ports_in_use_and_ends_when_all_are() {
        let network = LoopbackNetwork::new();
        let transport = LoopbackTransport::new(&network);
        let bind = TransportBind::new("node", 0);
        let mut held: Vec<_> = PORTS.map(|_| transport.spawn_listener(&bind).unwrap()).collect();
        assert!(matches!(transport.spawn_listener(&bind), Err(TransportError::AddressInUse { .. })));
        let freed = held.remove(1234).local_address();
        assert_eq!(transport.spawn_listener(&bind).unwrap().local_address(), freed);
    }
}
