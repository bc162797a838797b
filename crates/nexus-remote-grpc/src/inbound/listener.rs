//! Accepted connections, counted and limited until the peer has said who it is.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nexus_actor_core::lock::Lock;
use nexus_remote::association::{Admission, AdmissionConfig, Admitted, ConnectionNumber};
use portable_atomic::{AtomicBool, AtomicUsize, Ordering};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TlsConnectInfo};

use crate::endpoint_writer::CONNECTION_WINDOW;
use crate::inbound::diagnostics::Answered;
use crate::log;

/// The pause after a failed accept: descriptors may be used up, and some come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that are read of a connection until its peer has introduced itself, beside the connect request (limit L5).
const STRANGER_BYTES: usize = 64 * 1024;
/// How long a connection that was only asked diagnostics by may be silent (limit L31).
const IDLE: Duration = Duration::from_secs(5 * 60);

/// TCP keepalive of both sides: silence before the first probe, and time between probes (limit L23).
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(30);
/// Probes that may stay unanswered.
pub(crate) const KEEPALIVE_PROBES: u32 = 3;

/// Every accepted connection, so that the end of the node can cut those that their peers hold on to.
#[derive(Default)]
pub(crate) struct Connections(Lock<HashMap<usize, Arc<Guard>>>);

impl Connections {
    pub(crate) fn cut(&self) {
        let all: Vec<_> = self.0.lock().values().cloned().collect();
        for guard in all {
            guard.close();
        }
    }
}

fn key_of(guard: &Arc<Guard>) -> usize {
    Arc::as_ptr(guard) as usize
}

/// The connections whose peers have not introduced themselves, or have ended the calls on which they did (limit L3).
pub(crate) struct Strangers {
    table: Lock<Table>,
    connections: Arc<Connections>,
    max: usize,
    max_per_ip: usize,
    handshake: Duration,
    /// How long a peer may take nothing of what is written to it (limit L23).
    silence: Duration,
    /// Bytes that are read of a connection until its peer has introduced itself.
    bytes: usize,
    began: Instant,
}

struct Table {
    /// Oldest first.
    guards: Vec<Arc<Guard>>,
    by_ip: HashMap<IpAddr, usize>,
    /// Counts the connections of each address that come to nothing (limit L4). The other limits are kept here.
    admission: Admission,
    /// Connections accepted so far.
    accepted: u64,
}

impl Table {
    /// Takes one in at the end, and out the one that goes for it.
    fn push(&mut self, guard: &Arc<Guard>, max: usize, max_per_ip: usize) -> Option<Arc<Guard>> {
        let of_ip = self.by_ip.get(&guard.ip).copied().unwrap_or_default();
        let oldest = if of_ip >= max_per_ip {
            self.guards.iter().find(|other| other.ip == guard.ip).cloned()
        } else if self.guards.len() >= max {
            self.guards.first().cloned()
        } else {
            None
        };
        if let Some(oldest) = &oldest {
            self.remove(oldest);
        }
        self.guards.push(guard.clone());
        *self.by_ip.entry(guard.ip).or_default() += 1;
        oldest
    }

    fn remove(&mut self, guard: &Arc<Guard>) {
        let Some(at) = self.guards.iter().position(|other| Arc::ptr_eq(other, guard)) else { return };
        self.guards.remove(at);
        if let Some(count) = self.by_ip.get_mut(&guard.ip) {
            *count -= 1;
            if *count == 0 {
                self.by_ip.remove(&guard.ip);
            }
        }
    }
}

impl Strangers {
    pub(crate) fn new(
        connections: Arc<Connections>,
        max: usize,
        max_per_ip: usize,
        handshake: Duration,
        silence: Duration,
        hello_bytes: usize,
        failures: (u32, u32),
    ) -> Arc<Self> {
        let bytes = STRANGER_BYTES.saturating_add(hello_bytes);
        let (failures_per_second, failures_burst) = failures;
        let admission = Admission::new(AdmissionConfig {
            pending_max: usize::MAX,
            pending_per_source_max: usize::MAX,
            failures_per_second,
            failures_burst,
            ..AdmissionConfig::default()
        });
        let table = Table { guards: Vec::new(), by_ip: HashMap::new(), admission, accepted: 0 };
        let (table, began) = (Lock::new(table), Instant::now());
        Arc::new(Self { table, connections, max, max_per_ip, handshake, silence, bytes, began })
    }

    fn now(&self) -> nexus_actor_core::Instant {
        nexus_actor_core::Instant::ZERO + self.began.elapsed()
    }

    /// Closes them all: the node ends, and would wait for them.
    pub(crate) fn close_all(&self) {
        let guards = {
            let mut table = self.table.lock();
            table.by_ip.clear();
            std::mem::take(&mut table.guards)
        };
        for guard in guards {
            guard.close();
        }
    }

    /// Lets a connection in; the one of the same address, or of all, that has been silent longest goes for it. None when
    /// too many of that address have come to nothing.
    fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<Arc<Guard>> {
        let number = {
            let mut table = self.table.lock();
            let number = ConnectionNumber(table.accepted);
            table.accepted += 1;
            if table.admission.accept(self.now(), number, Some(ip)) == Admitted::No {
                return None;
            }
            number
        };
        let guard = Arc::new(Guard {
            ip,
            number,
            strangers: self.clone(),
            serving: AtomicUsize::new(0),
            is_gone: AtomicBool::new(false),
            until: Lock::new(Instant::now() + self.handshake),
            allowance: AtomicUsize::new(self.bytes),
            is_closed: AtomicBool::new(false),
            waker: Lock::default(),
            name: Lock::default(),
            diagnosed: Lock::default(),
        });
        let oldest = self.table.lock().push(&guard, self.max, self.max_per_ip);
        if let Some(oldest) = oldest {
            oldest.close();
        }
        self.connections.0.lock().insert(key_of(&guard), guard.clone());
        Some(guard)
    }
}

/// One connection, as others see it.
pub(crate) struct Guard {
    ip: IpAddr,
    number: ConnectionNumber,
    strangers: Arc<Strangers>,
    /// Calls on which the peer has introduced itself; with none it is a stranger. Changes under the lock of the strangers.
    serving: AtomicUsize,
    /// The socket is closed. The same holds of it.
    is_gone: AtomicBool,
    /// Of a stranger: when its time is over. Absolute: progress does not move it.
    until: Lock<Instant>,
    /// Of a stranger: bytes that are read of it yet.
    allowance: AtomicUsize,
    is_closed: AtomicBool,
    waker: Lock<Option<Waker>>,
    /// The system id and the address that its last handshake named.
    name: Lock<Option<(Arc<str>, Arc<str>)>>,
    diagnosed: Lock<Answered>,
}

impl Guard {
    /// The peer has introduced itself on one more call: it is no stranger until the call has [ended](Self::ended).
    pub(crate) fn introduced(self: &Arc<Self>) {
        let mut table = self.strangers.table.lock();
        if self.serving.fetch_add(1, Ordering::AcqRel) == 0 {
            table.admission.associated(self.number);
            table.remove(self);
        }
    }

    /// Such a call is over. After the last one the peer has its time again to open another.
    pub(crate) fn ended(self: &Arc<Self>) {
        // What it has sent on that call meanwhile is read yet.
        self.stranger(self.strangers.handshake, CONNECTION_WINDOW as usize, || {
            self.serving.fetch_sub(1, Ordering::AcqRel) == 1
        });
    }

    /// A stranger has done what it may without a word of who it is, and has some more time.
    fn renewed(self: &Arc<Self>) {
        self.stranger(IDLE, self.strangers.bytes, || self.serving.load(Ordering::Acquire) == 0);
    }

    /// It is the newest stranger, if `is_one` under the lock.
    fn stranger(self: &Arc<Self>, time: Duration, bytes: usize, is_one: impl FnOnce() -> bool) {
        let strangers = &self.strangers;
        let oldest = {
            let mut table = strangers.table.lock();
            if !is_one() || self.is_gone.load(Ordering::Acquire) {
                return;
            }
            // It has come to something.
            table.admission.associated(self.number);
            table.remove(self);
            self.allowance.store(bytes, Ordering::Release);
            *self.until.lock() = Instant::now() + time;
            table.push(self, strangers.max, strangers.max_per_ip)
        };
        if let Some(oldest) = oldest {
            oldest.close();
        }
        self.wake();
    }

    /// What the peer calls itself, whether it is let in or not.
    pub(crate) fn names(&self, system_id: &str, address: &str) {
        let name = Some((Arc::from(system_id), Arc::from(address)));
        let before = std::mem::replace(&mut *self.name.lock(), name);
        drop(before);
    }

    pub(crate) fn name(&self) -> Option<(Arc<str>, Arc<str>)> {
        self.name.lock().clone()
    }

    /// Counts a diagnostics request, unless there were `max` on this connection in this second.
    pub(crate) fn diagnosed(self: &Arc<Self>, now: std::time::Instant, max: u32) -> bool {
        let is_within = self.diagnosed.lock().one_more(now, max);
        if is_within {
            self.renewed();
        }
        is_within
    }

    /// The host it comes from.
    pub(crate) const fn ip(&self) -> IpAddr {
        self.ip
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What a call can ask of the connection it came by.
#[derive(Clone)]
pub(crate) struct ConnectionInfo(pub(crate) Arc<Guard>);

impl ConnectionInfo {
    /// The connection that a request came by, encrypted or not.
    pub(crate) fn guard_of(extensions: &http::Extensions) -> Option<Arc<Guard>> {
        let tls = extensions.get::<TlsConnectInfo<Self>>().map(TlsConnectInfo::get_ref);
        tls.or_else(|| extensions.get::<Self>()).map(|info| info.0.clone())
    }
}

/// An accepted connection.
pub(crate) struct Guarded {
    io: TcpStream,
    guard: Arc<Guard>,
    /// Of a stranger: what [`Guard::until`] says.
    deadline: Pin<Box<Sleep>>,
    /// The peer takes nothing; runs out when it has not for too long.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    /// Whether the connection is to end. Asked before it is read and before it is written: HTTP/2 does not read on while it
    /// has something to write, so a peer that takes nothing would never be found late otherwise.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        {
            let mut waker = self.guard.waker.lock();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        self.guard.is_closed.load(Ordering::Acquire) || self.is_stranger() && self.is_late(cx)
    }

    fn is_stranger(&self) -> bool {
        self.guard.serving.load(Ordering::Acquire) == 0
    }

    /// Whether the time of a stranger is over.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let until = *self.guard.until.lock();
        if self.deadline.deadline() != until {
            self.deadline.as_mut().reset(until);
        }
        self.deadline.as_mut().poll(cx).is_ready()
    }

    /// What became of a write: an error when nothing could be written for too long.
    fn written(&mut self, wrote: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let silence = self.guard.strangers.silence;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Connected for Guarded {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        ConnectionInfo(self.guard.clone())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let now = self.guard.strangers.now();
        let Strangers { table, connections, .. } = &*self.guard.strangers;
        {
            let mut table = table.lock();
            self.guard.is_gone.store(true, Ordering::Release);
            table.admission.closed(now, self.guard.number);
            table.remove(&self.guard);
        }
        let gone = connections.0.lock().remove(&key_of(&self.guard));
        drop(gone);
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let count = buf.filled().len() - before;
        if count > 0 && self.is_stranger() {
            let allowance = &self.guard.allowance;
            let left = allowance.load(Ordering::Acquire).checked_sub(count);
            let Some(left) = left else { return Poll::Ready(Err(io::ErrorKind::InvalidData.into())) };
            allowance.store(left, Ordering::Release);
        }
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let wrote = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(wrote, cx)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(wrote, cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// The connections of one listener. An accept that fails is no end of it.
pub(crate) struct Incoming {
    listener: TcpListener,
    strangers: Arc<Strangers>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(crate) const fn new(listener: TcpListener, strangers: Arc<Strangers>) -> Self {
        Self { listener, strangers, pause: None }
    }

    /// None when it is closed at once.
    fn admit(&self, io: TcpStream, from: SocketAddr) -> Option<Guarded> {
        let guard = self.strangers.admit(host_of(from.ip()))?;
        // A socket that refuses its options is already dead, and the first read says so.
        let _ = io.set_nodelay(true);
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(KEEPALIVE_PROBES);
        let _ = SockRef::from(&io).set_tcp_keepalive(&keepalive);
        let deadline = Box::pin(tokio::time::sleep_until(*guard.until.lock()));
        Some(Guarded { io, guard, deadline, stalled: None })
    }
}

impl Stream for Incoming {
    type Item = io::Result<Guarded>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((io, from))) => {
                    if let Some(admitted) = self.admit(io, from) {
                        return Poll::Ready(Some(Ok(admitted)));
                    }
                }
                Poll::Ready(Err(error)) => {
                    log::accept_failed(&error);
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// What stands for the host that has `ip`: of an address of IPv6 its /64, for one host has all of them.
pub(crate) fn host_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::time::Instant;
    use tokio_stream::StreamExt as _;

    use super::*;

    fn one_stranger(handshake: Duration) -> Arc<Strangers> {
        Strangers::new(Arc::default(), 1, 1, handshake, Duration::from_secs(45), 0, (64, 256))
    }

    /// Whoever has a network of IPv6 has no more places for strangers than whoever has one address.
    ///
    /// Covers: L3
    #[test]
    fn a_network_of_ipv6_is_one_host() {
        let network = 0x2001_0db8_u128 << 96;
        let (handshake, silence) = (Duration::from_secs(10), Duration::from_secs(45));
        let strangers = Strangers::new(Arc::default(), 100, 3, handshake, silence, 0, (64, 256));
        let guards: Vec<_> = (0..20_u128)
            .filter_map(|number| strangers.admit(host_of(IpAddr::V6((network | number).into()))))
            .collect();
        assert_eq!(strangers.table.lock().guards.len(), 3);
        assert_ne!(host_of(IpAddr::V6((network | 1 << 64).into())), host_of(IpAddr::V6(network.into())));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
        assert_eq!(host_of(mapped), IpAddr::from([192, 0, 2, 1]));
        drop(guards);
    }

    /// Covers: L23
    #[tokio::test]
    async fn accepted_sockets_have_their_options() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let _near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("a connection");
        let strangers = one_stranger(Duration::from_secs(10));
        let accepted = Incoming::new(listener, strangers).next().await.expect("one").expect("accepted");
        let socket = SockRef::from(&accepted.io);
        assert!(socket.tcp_nodelay().expect("an option") && socket.keepalive().expect("an option"));
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().expect("an option"), KEEPALIVE);
            assert_eq!(socket.tcp_keepalive_interval().expect("an option"), KEEPALIVE);
            assert_eq!(socket.tcp_keepalive_retries().expect("an option"), KEEPALIVE_PROBES);
        }
    }

    /// A connection on which nothing is said is ended when the time for a handshake is over.
    ///
    /// Covers: HS-06, T3
    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("a connection");
        let strangers = one_stranger(Duration::from_millis(200));
        let mut accepted = Incoming::new(listener, strangers).next().await.expect("one").expect("accepted");
        let began = Instant::now();
        assert!(accepted.read_u8().await.is_err());
        assert_eq!(began.elapsed(), Duration::from_millis(200));
        drop(accepted);
        assert!(near.read_u8().await.is_err());
    }
}
