//! TCP on tokio.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::io;
use std::net::ToSocketAddrs;

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use super::{
    Channel, HookSlot, Listener, RemoteTransport, StallReport, TransportBind, TransportChannel,
    TransportEndpoint, TransportError, TransportHandle, TransportSecurity,
};
use crate::backpressure::BackpressureHook;

/// TCP keepalive: silence before the first probe, and time between probes (limit L23).
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Unanswered probes until the connection is dead (limit L23).
const KEEPALIVE_PROBES: u32 = 3;

/// Reads without waiting. A read that does not fill the buffer has emptied the socket, so it also takes the
/// readiness back: the next poll then waits for the system's notice instead of asking the system for nothing.
///
/// # Source
/// What tokio does inside its own `poll_read`, for selectors that report edges. Here reading and taking back happen
/// under the readiness seen before the read, so that a notice which comes in between is kept.
#[cfg(target_os = "linux")]
fn read_once(stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    use std::io::Read;

    let mut short = None;
    let result = stream.try_io(tokio::io::Interest::READABLE, || {
        let read = (&*SockRef::from(stream)).read(buf)?;
        if read > 0 && read < buf.len() {
            short = Some(read);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(read)
    });
    short.map_or(result, Ok)
}

#[cfg(not(target_os = "linux"))]
fn read_once(stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    stream.try_read(buf)
}

/// How long a listener rests when the system is out of descriptors or memory: retrying at once would only
/// spin, since the connection stays in the backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Stands for a connect timeout too long for the clock.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// The transport of scheme `fraktor.tcp`: plain TCP on a tokio runtime.
///
/// It holds a handle on its runtime, so it can be used from any thread and any executor; the runtime must be
/// running, with its IO and time drivers on. Sockets have `TCP_NODELAY` and keepalive on (30 s, three probes).
#[derive(Clone, Debug)]
pub struct TokioTcpTransport {
    handle: Handle,
    hook: HookSlot,
}

impl TokioTcpTransport {
    /// The scheme, `fraktor.tcp`.
    pub const SCHEME: &'static str = "fraktor.tcp";

    /// A transport on the runtime of `handle`.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { handle, hook: HookSlot::new() }
    }

    /// A transport on the runtime this is called in.
    ///
    /// # Errors
    /// [`TransportError::NoRuntime`] outside of one.
    pub fn try_current() -> Result<Self, TransportError> {
        let handle = Handle::try_current()
            .map_err(|_| TransportError::NoRuntime { scheme: String::from(Self::SCHEME) })?;
        Ok(Self::new(handle))
    }
}

impl RemoteTransport for TokioTcpTransport {
    fn scheme(&self) -> &str {
        Self::SCHEME
    }

    /// Listens at `bind`. A host given by name is resolved on the calling thread, which may take a moment.
    fn spawn_listener(&self, bind: &TransportBind) -> Result<TransportHandle, TransportError> {
        match bind.security {
            TransportSecurity::Plaintext => {}
        }
        let address = bind.authority();
        let candidates = (bind.host.as_str(), bind.port).to_socket_addrs();
        let candidates = candidates.map_err(|error| TransportError::NameNotFound {
            address: address.clone(),
            cause: text(&error),
        })?;
        let mut last = None;
        let socket = candidates
            .into_iter()
            .find_map(|candidate| listen(candidate, bind.backlog).map_err(|error| last = Some(error)).ok());
        let socket = socket.ok_or_else(|| match last {
            Some(error) => bind_error(&address, &error),
            None => TransportError::NameNotFound { address: address.clone(), cause: Arc::from("no address") },
        })?;
        let _context = self.handle.enter();
        let listener = TcpListener::from_std(socket).map_err(|error| bind_error(&address, &error))?;
        let local = listener.local_addr().map_err(|error| bind_error(&address, &error))?;
        Ok(TransportHandle::new(TcpAcceptor {
            handle: self.handle.clone(),
            hook: self.hook.clone(),
            local: authority(local),
            state: Lock::new(Some(Accepting { listener: Arc::new(listener), pause: None, waker: None })),
        }))
    }

    fn open_channel(&self, remote: &TransportEndpoint) -> Result<TransportChannel, TransportError> {
        match remote.security {
            TransportSecurity::Plaintext => {}
        }
        let dial = Box::pin(dial(remote.authority.clone(), remote.connect_timeout));
        let state = State::Dialling { dial: Some(dial), waker: None };
        let peer = remote.authority.clone();
        Ok(TransportChannel::new(TcpChannel::new(self.handle.clone(), &self.hook, peer, state)))
    }

    fn install_backpressure_hook(&self, hook: Box<dyn BackpressureHook + Send + Sync>) {
        self.hook.install(hook);
    }
}

/// A bound, listening socket.
fn listen(address: SocketAddr, backlog: u32) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port in TIME_WAIT can be had again at once. On Windows the option would steal a live listener's.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog.max(1)).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

type Dial = Pin<Box<dyn Future<Output = Result<TcpStream, TransportError>> + Send>>;

/// Resolves and connects, trying a name's addresses in turn; each has its share of the time that is left, so
/// that a dead first one does not use up the others'.
async fn dial(address: Authority, connect_timeout: Duration) -> Result<TcpStream, TransportError> {
    let timed_out = || TransportError::TimedOut { address: address.clone(), after: connect_timeout };
    let now = Instant::now();
    let deadline = now.checked_add(connect_timeout).unwrap_or(now + CONNECT_TIMEOUT_MAX);
    // Runs on the runtime's blocking threads when the host is a name.
    let lookup = tokio::time::timeout_at(deadline, tokio::net::lookup_host((address.host(), address.port())));
    let mut candidates = lookup
        .await
        .map_err(|_| timed_out())?
        .map_err(|error| TransportError::NameNotFound { address: address.clone(), cause: text(&error) })?
        .collect::<alloc::collections::VecDeque<_>>();
    let mut worst = None;
    while let Some(candidate) = candidates.pop_front() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(candidates.len() + 1).unwrap_or(u32::MAX);
        let error = match tokio::time::timeout(share, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) if meets_itself(&stream) => {
                reset_on_drop(&stream);
                TransportError::Refused { address: address.clone() }
            }
            Ok(Ok(stream)) => {
                tune(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                TransportError::Refused { address: address.clone() }
            }
            Ok(Err(error)) => dial_error(&address, connect_timeout, &error),
            Err(_) => timed_out(),
        };
        // Refused counts as evidence that the process is gone, so one address that did not say so outweighs it.
        if worst.is_none() || !matches!(error, TransportError::Refused { .. }) {
            worst = Some(error);
        }
    }
    Err(worst.unwrap_or_else(|| TransportError::NameNotFound { address, cause: Arc::from("no address") }))
}

/// Whether both ends are one socket. A dial to a free port of the own host is sometimes given that very port as
/// its source, and the kernel calls that a connection: a node that is down would seem to listen.
fn meets_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}

/// Failures are left alone: a socket that refuses its options is already dead, and the first read says so.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(KEEPALIVE_PROBES);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

fn reset_on_drop(stream: &TcpStream) {
    // Fails only for a socket that is dead already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

struct Accepting {
    listener: Arc<TcpListener>,
    pause: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
}

struct TcpAcceptor {
    handle: Handle,
    hook: HookSlot,
    local: Authority,
    /// `None` once closed.
    state: Lock<Option<Accepting>>,
}

impl TcpAcceptor {
    fn closed(&self) -> TransportError {
        TransportError::Closed { address: self.local.clone() }
    }

    /// Remembers the waker for [`close`](Listener::close), which the socket's own registration does not serve.
    fn wait(
        &self,
        cx: &Context<'_>,
        pause: Option<Pin<Box<Sleep>>>,
    ) -> Poll<Result<TransportChannel, TransportError>> {
        let waker = cx.waker().clone();
        let mut state = self.state.lock();
        let Some(accepting) = state.as_mut() else { return Poll::Ready(Err(self.closed())) };
        let displaced = (accepting.waker.replace(waker), core::mem::replace(&mut accepting.pause, pause));
        drop(state);
        drop(displaced);
        Poll::Pending
    }
}

impl Listener for TcpAcceptor {
    fn local_address(&self) -> Authority {
        self.local.clone()
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<TransportChannel, TransportError>> {
        let _context = self.handle.enter();
        let (listener, pause) = match self.state.lock().as_mut() {
            Some(accepting) => (Arc::clone(&accepting.listener), accepting.pause.take()),
            None => return Poll::Ready(Err(self.closed())),
        };
        if let Some(mut pause) = pause
            && pause.as_mut().poll(cx).is_pending()
        {
            return self.wait(cx, Some(pause));
        }
        match listener.poll_accept(cx) {
            Poll::Pending => self.wait(cx, None),
            Poll::Ready(Ok((stream, peer))) => {
                tune(&stream);
                let state = State::connected(stream);
                let channel = TcpChannel::new(self.handle.clone(), &self.hook, authority(peer), state);
                Poll::Ready(Ok(TransportChannel::new(channel)))
            }
            Poll::Ready(Err(error)) => {
                if !of_one_connection(&error) {
                    let pause = Box::pin(tokio::time::sleep(ACCEPT_PAUSE));
                    if let Some(accepting) = self.state.lock().as_mut() {
                        accepting.pause = Some(pause);
                    }
                }
                Poll::Ready(Err(io_error(&self.local, &error)))
            }
        }
    }

    fn close(&self) {
        let accepting = self.state.lock().take();
        if let Some(Accepting { listener, pause, waker }) = accepting {
            drop((listener, pause));
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Whether a failed accept concerns only the connection that was to be accepted.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

enum State {
    Dialling {
        /// Absent while it is polled, which happens outside the lock.
        dial: Option<Dial>,
        waker: Option<Waker>,
    },
    Failed(TransportError),
    Connected {
        stream: Arc<TcpStream>,
        local: Option<Authority>,
        reader: Option<Waker>,
        writer: Option<Waker>,
    },
    Closed,
}

impl State {
    fn connected(stream: TcpStream) -> Self {
        let local = stream.local_addr().ok().map(authority);
        Self::Connected { stream: Arc::new(stream), local, reader: None, writer: None }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

struct TcpChannel {
    handle: Handle,
    peer: Authority,
    report: StallReport,
    finished: AtomicBool,
    state: Lock<State>,
}

impl TcpChannel {
    fn new(handle: Handle, hook: &HookSlot, peer: Authority, state: State) -> Self {
        let report = StallReport::new(hook.clone(), &peer);
        Self { handle, peer, report, finished: AtomicBool::new(false), state: Lock::new(state) }
    }

    fn closed(&self) -> TransportError {
        TransportError::Closed { address: self.peer.clone() }
    }

    /// The stream, kept open for the caller's short turn.
    fn stream(&self) -> Result<Arc<TcpStream>, TransportError> {
        match &*self.state.lock() {
            State::Connected { stream, .. } => Ok(Arc::clone(stream)),
            State::Dialling { .. } => Err(TransportError::NotConnected { address: self.peer.clone() }),
            State::Failed(error) => Err(error.clone()),
            State::Closed => Err(self.closed()),
        }
    }

    /// The stream, unless our direction was finished.
    fn writable(&self) -> Result<Arc<TcpStream>, TransportError> {
        if self.finished.load(Ordering::Acquire) { Err(self.closed()) } else { self.stream() }
    }

    fn is_closed(&self) -> bool {
        matches!(*self.state.lock(), State::Closed)
    }

    /// Why the stream failed: by our own doing, if this side closed it meanwhile.
    fn failed(&self, error: &io::Error) -> TransportError {
        if self.is_closed() { self.closed() } else { io_error(&self.peer, error) }
    }

    fn write_failed(&self, error: &io::Error) -> TransportError {
        if self.finished.load(Ordering::Acquire) { self.closed() } else { self.failed(error) }
    }

    /// Remembers the waker for [`close`](Channel::close), which the socket's own registration does not serve.
    fn wait(&self, cx: &Context<'_>, direction: Direction) -> Poll<Result<usize, TransportError>> {
        let mut ours = None;
        loop {
            let mut state = self.state.lock();
            let State::Connected { reader, writer, .. } = &mut *state else {
                return Poll::Ready(Err(self.closed()));
            };
            let slot = match direction {
                Direction::Read => reader,
                Direction::Write => writer,
            };
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

    /// Ends the connection in the way of `farewell`, and wakes whoever waits for it.
    fn end(&self, farewell: impl FnOnce(&TcpStream)) {
        let before = core::mem::replace(&mut *self.state.lock(), State::Closed);
        match before {
            State::Dialling { dial, waker } => {
                let _context = self.handle.enter();
                drop(dial);
                waker.into_iter().for_each(Waker::wake);
            }
            State::Connected { stream, reader, writer, .. } => {
                farewell(&stream);
                drop(stream);
                [reader, writer].into_iter().flatten().for_each(Waker::wake);
            }
            State::Failed(_) | State::Closed => {}
        }
        self.report.note(false);
    }
}

impl Channel for TcpChannel {
    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let ours = cx.waker().clone();
        let (taken, displaced) = match &mut *self.state.lock() {
            State::Connected { .. } => return Poll::Ready(Ok(())),
            State::Failed(error) => return Poll::Ready(Err(error.clone())),
            State::Closed => return Poll::Ready(Err(self.closed())),
            State::Dialling { dial, waker } => (dial.take(), waker.replace(ours)),
        };
        drop(displaced);
        // Another thread polls the dial just now: it wakes the one remembered last, which is this one.
        let Some(mut dial) = taken else { return Poll::Pending };
        let _context = self.handle.enter();
        let outcome = dial.as_mut().poll(cx);
        let mut state = self.state.lock();
        let State::Dialling { dial: slot, waker } = &mut *state else {
            // Closed meanwhile.
            drop(state);
            drop((dial, outcome));
            return Poll::Ready(Err(self.closed()));
        };
        let (next, answer) = match outcome {
            Poll::Pending => {
                *slot = Some(dial);
                let other = waker.as_ref().filter(|waker| !waker.will_wake(cx.waker())).cloned();
                drop(state);
                other.into_iter().for_each(Waker::wake);
                return Poll::Pending;
            }
            Poll::Ready(Ok(stream)) => (State::connected(stream), Ok(())),
            Poll::Ready(Err(error)) => (State::Failed(error.clone()), Err(error)),
        };
        let waker = waker.take().filter(|waker| !waker.will_wake(cx.waker()));
        let before = core::mem::replace(&mut *state, next);
        drop(state);
        drop((before, dial));
        waker.into_iter().for_each(Waker::wake);
        Poll::Ready(answer)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, TransportError>> {
        let stream = self.stream()?;
        loop {
            match read_once(&stream, buf) {
                // A close on another thread ends the stream before it takes it from this turn.
                Ok(0) if self.is_closed() => return Poll::Ready(Err(self.closed())),
                Ok(read) => return Poll::Ready(Ok(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(self.failed(&error))),
            }
            match stream.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.failed(&error))),
                Poll::Pending => return self.wait(cx, Direction::Read),
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, TransportError>> {
        let stream = self.writable()?;
        loop {
            match stream.try_write(bytes) {
                Ok(written) => {
                    self.report.note(false);
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(self.write_failed(&error))),
            }
            match stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.write_failed(&error))),
                Poll::Pending => {
                    self.report.note(true);
                    return self.wait(cx, Direction::Write);
                }
            }
        }
    }

    fn try_write(&self, bytes: &[u8]) -> Result<usize, TransportError> {
        match self.writable()?.try_write(bytes) {
            Ok(written) => Ok(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(self.write_failed(&error)),
        }
    }

    fn finish(&self) {
        if let Ok(stream) = self.stream() {
            self.finished.store(true, Ordering::Release);
            // Fails only when the connection is gone already.
            let _ = SockRef::from(&*stream).shutdown(std::net::Shutdown::Write);
        }
    }

    fn close(&self) {
        self.end(|stream| {
            // The descriptor closes with the last turn that holds it; the connection ends now.
            let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Both);
        });
    }

    fn abort(&self) {
        self.end(reset_on_drop);
    }

    fn local_address(&self) -> Option<Authority> {
        match &*self.state.lock() {
            State::Connected { local, .. } => local.clone(),
            State::Dialling { .. } | State::Failed(_) | State::Closed => None,
        }
    }

    fn peer_address(&self) -> Option<Authority> {
        Some(self.peer.clone())
    }
}

impl Drop for TcpChannel {
    fn drop(&mut self) {
        self.close();
    }
}

fn authority(address: SocketAddr) -> Authority {
    // An IPv4 peer of a dual-stack listener is written as IPv4, so that limits by source see one address.
    Authority::new(&address.ip().to_canonical().to_string(), address.port())
}

fn text(error: &io::Error) -> Arc<str> {
    Arc::from(error.to_string())
}

fn bind_error(address: &Authority, error: &io::Error) -> TransportError {
    let address = address.clone();
    match error.kind() {
        io::ErrorKind::AddrInUse => TransportError::AddressInUse { address, cause: text(error) },
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::PermissionDenied => {
            TransportError::AddressNotAvailable { address, cause: text(error) }
        }
        _ => io_error(&address, error),
    }
}

fn dial_error(address: &Authority, connect_timeout: Duration, error: &io::Error) -> TransportError {
    let address = address.clone();
    match error.kind() {
        io::ErrorKind::TimedOut => TransportError::TimedOut { address, after: connect_timeout },
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => TransportError::Unreachable { address, cause: text(error) },
        _ => io_error(&address, error),
    }
}

fn io_error(address: &Authority, error: &io::Error) -> TransportError {
    let address = address.clone();
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            TransportError::Reset { address }
        }
        kind => TransportError::Io { address, kind: Arc::from(kind.to_string()), cause: text(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dial_that_meets_itself_is_seen() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&any.into()).unwrap();
        socket.connect(&socket.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(socket.into()).unwrap();
        assert!(meets_itself(&stream));

        let listener = TcpListener::bind(any).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!meets_itself(&stream));
    }

    #[tokio::test]
    async fn both_ends_have_their_socket_options() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = authority(listener.local_addr().unwrap());
        let near = dial(address, Duration::from_secs(5)).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        tune(&far);
        for stream in [near, far] {
            let socket = SockRef::from(&stream);
            assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
            #[cfg(target_os = "linux")]
            assert_eq!(
                (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap()),
                (KEEPALIVE, KEEPALIVE)
            );
            #[cfg(target_os = "linux")]
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
        }
    }

    #[test]
    fn a_mapped_address_is_written_as_the_one_it_maps() {
        for (given, expected) in
            [("[::ffff:10.0.0.1]:7", "10.0.0.1:7"), ("[::1]:7", "[::1]:7"), ("10.0.0.1:7", "10.0.0.1:7")]
        {
            assert_eq!(authority(given.parse().unwrap()).to_string(), expected);
        }
    }
}
