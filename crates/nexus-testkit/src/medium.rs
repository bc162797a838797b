//! What connects the nodes of a simulation: the loopback, or the sockets of this host.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Instant;

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;
use nexus_actor_core::runtime::PumpRuntime;
use nexus_remote::transport::{
    LoopbackNetwork, LoopbackTransport, RemoteTransport, TokioTcpTransport, TransportBind, TransportChannel,
    TransportEndpoint, TransportHandle,
};

use tokio::net::TcpSocket;

use crate::fault_link::FaultControl;

/// How long bytes that were written and not read are waited for. The kernel carries them within the call that
/// writes them, unless the machine is so busy that a thread of its own has to do it.
const CARRY_TIME: Duration = Duration::from_millis(20);

/// Looks at the sockets, one after the other, that must find nothing before the clock may move.
const QUIET_LOOKS: u32 = 3;

#[derive(Clone)]
pub(crate) enum Medium {
    Loopback(LoopbackNetwork),
    Tcp(Arc<Sockets>),
}

impl Medium {
    pub(crate) fn tcp() -> Self {
        Self::Tcp(Arc::new(Sockets::new()))
    }

    pub(crate) const fn scheme(&self) -> &'static str {
        match self {
            Self::Loopback(_) => LoopbackTransport::SCHEME,
            Self::Tcp(_) => TokioTcpTransport::SCHEME,
        }
    }

    /// Where nodes listen unless they are told otherwise.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Loopback(_) => "127.0.0.1",
            Self::Tcp(sockets) => &sockets.host,
        }
    }

    pub(crate) fn transport(&self) -> Arc<dyn RemoteTransport> {
        match self {
            Self::Loopback(network) => Arc::new(LoopbackTransport::new(network)),
            Self::Tcp(sockets) => Arc::new(TokioTcpTransport::new(sockets.runtime.handle().clone())),
        }
    }

    /// Remembers a link, so that its bytes are known while the kernel has them.
    pub(crate) fn observe(&self, link: &FaultControl) {
        if let Self::Tcp(sockets) = self {
            sockets.links.lock().push(link.clone());
        }
    }

    /// Runs at most `polls` polls on the pump, until neither it nor a socket has anything to do.
    pub(crate) fn settle(&self, pump: &PumpRuntime, polls: usize) -> usize {
        match self {
            Self::Loopback(_) => pump.run_at_most(polls),
            Self::Tcp(sockets) => sockets.settle(pump, polls),
        }
    }

    pub(crate) fn stranger(&self, authority: &Authority) -> Line {
        match self {
            Self::Loopback(network) => {
                let transport = LoopbackTransport::new(network);
                let channel = transport
                    .open_channel(&TransportEndpoint::new(authority.clone()))
                    .unwrap_or_else(|error| panic!("{authority}: {error}"));
                let connected = channel.poll_connected(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(connected, Poll::Ready(Ok(()))), "{authority}: {connected:?}");
                Line::Loopback(channel)
            }
            Self::Tcp(sockets) => {
                let socket =
                    sockets.connect(authority).unwrap_or_else(|error| panic!("{authority}: {error}"));
                Line::Tcp(Wire::new(socket, sockets))
            }
        }
    }

    pub(crate) fn decoy(&self, port: u16) -> (Authority, Trap) {
        match self {
            Self::Loopback(network) => {
                let transport = LoopbackTransport::new(network);
                let listener = transport
                    .spawn_listener(&TransportBind::new(self.host(), port))
                    .unwrap_or_else(|error| panic!("port {port}: {error}"));
                (listener.local_address(), Trap::Loopback(listener))
            }
            Self::Tcp(sockets) => {
                let listener = TcpListener::bind((self.host(), port))
                    .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                    .unwrap_or_else(|error| panic!("port {port}: {error}"));
                let port = listener.local_addr().map_or(port, |address| address.port());
                (Authority::new(self.host(), port), Trap::Tcp(listener, sockets.clone()))
            }
        }
    }
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())
    }
}

/// A listener, driven by hand.
#[derive(Debug)]
pub(crate) enum Trap {
    Loopback(TransportHandle),
    Tcp(TcpListener, Arc<Sockets>),
}

impl Trap {
    pub(crate) fn accept(&self) -> Option<Line> {
        match self {
            Self::Loopback(listener) => match listener.poll_accept(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(channel)) => Some(Line::Loopback(channel)),
                Poll::Ready(Err(_)) | Poll::Pending => None,
            },
            Self::Tcp(listener, sockets) => {
                let (socket, _) = listener.accept().ok()?;
                socket.set_nonblocking(true).ok()?;
                socket.set_nodelay(true).ok()?;
                Some(Line::Tcp(Wire::new(socket, sockets)))
            }
        }
    }
}

/// One end of a connection, driven by hand.
#[derive(Debug)]
pub(crate) enum Line {
    Loopback(TransportChannel),
    Tcp(Wire),
}

/// A socket, and what its end has written less what it has read.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: TcpStream,
    sockets: Arc<Sockets>,
    balance: AtomicI64,
}

impl Wire {
    fn new(socket: TcpStream, sockets: &Arc<Sockets>) -> Self {
        Self { socket, sockets: sockets.clone(), balance: AtomicI64::new(0) }
    }

    fn count(&self, bytes: i64) {
        self.balance.fetch_add(bytes, Ordering::Relaxed);
        self.sockets.by_strangers.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.count(-self.balance.load(Ordering::Relaxed));
    }
}

impl Line {
    /// How many bytes fit; `None` when the connection is over.
    pub(crate) fn write(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Loopback(channel) => {
                match channel.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
                    Poll::Ready(Ok(count)) => Some(count),
                    Poll::Pending => Some(0),
                    Poll::Ready(Err(_)) => None,
                }
            }
            Self::Tcp(wire) => match (&wire.socket).write(bytes) {
                Ok(count) => {
                    wire.count(count as i64);
                    Some(count)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
                Err(_) => None,
            },
        }
    }

    /// How many bytes were there; `None` when the connection is over.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        match self {
            Self::Loopback(channel) => {
                match channel.poll_read(&mut Context::from_waker(Waker::noop()), buffer) {
                    Poll::Ready(Ok(0) | Err(_)) => None,
                    Poll::Ready(Ok(count)) => Some(count),
                    Poll::Pending => Some(0),
                }
            }
            Self::Tcp(wire) => match (&wire.socket).read(buffer) {
                Ok(0) => None,
                Ok(count) => {
                    wire.count(-(count as i64));
                    Some(count)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
                Err(_) => None,
            },
        }
    }
}

/// The sockets of one simulation.
///
/// The nodes' clock is virtual, the kernel's is not: before the clock moves, every byte that can arrive must have
/// arrived. So the reactor is looked at until it is quiet, and while bytes that were written have not been read, for
/// [`CARRY_TIME`] more.
pub(crate) struct Sockets {
    runtime: tokio::runtime::Runtime,
    host: String,
    links: Lock<Vec<FaultControl>>,
    /// Connections so far of ends that are no nodes.
    sources: AtomicU32,
    /// Written less read, by the ends that are no nodes and exist.
    by_strangers: AtomicI64,
    /// Bytes under way that nobody reads, as far as is known: of cut connections, of frozen nodes.
    stuck: AtomicI64,
}

impl Sockets {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap_or_else(|error| panic!("no reactor: {error}"));
        Self {
            runtime,
            host: own_host(),
            links: Lock::default(),
            sources: AtomicU32::new(1),
            by_strangers: AtomicI64::new(0),
            stuck: AtomicI64::new(0),
        }
    }

    /// A connection from a source of its own, as from one more host.
    fn connect(&self, to: &Authority) -> io::Result<TcpStream> {
        let address = (to.host(), to.port()).to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
        let socket = TcpSocket::new_v4()?;
        if cfg!(target_os = "linux") {
            let nth = self.sources.fetch_add(1, Ordering::Relaxed);
            let [.., high, low] = nth.to_be_bytes();
            socket.bind(SocketAddr::from(([127, 200, high, low.max(1)], 0)))?;
        }
        let stream = self.runtime.block_on(socket.connect(address))?.into_std()?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn under_way(&self) -> i64 {
        let of_nodes: i64 = self.links.lock().iter().map(FaultControl::handed_on).sum();
        of_nodes + self.by_strangers.load(Ordering::Relaxed)
    }

    fn settle(&self, pump: &PumpRuntime, polls: usize) -> usize {
        let (mut done, mut quiet, mut late, mut since) = (0, 0, 0, None);
        while done < polls {
            let ran = pump.run_at_most(polls - done);
            done += ran;
            if ran > 0 {
                (quiet, late, since) = (0, 0, None);
            }
            // Polls the reactor once, without waiting, and wakes what it finds.
            self.runtime.block_on(tokio::task::yield_now());
            quiet += 1;
            if quiet < QUIET_LOOKS {
                continue;
            }
            let under_way = self.under_way();
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            // What has come while this thread stood still is found by the looks that are left.
            let is_over = waited >= CARRY_TIME && {
                late += 1;
                late > QUIET_LOOKS
            };
            if under_way == 0 || under_way == self.stuck.load(Ordering::Relaxed) || is_over {
                self.stuck.store(under_way, Ordering::Relaxed);
                break;
            }
        }
        done
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("host", &self.host).finish_non_exhaustive()
    }
}

/// An address of this host for one simulation alone. Where a node has died, no other test may come to listen.
fn own_host() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if cfg!(not(target_os = "linux")) {
        return String::from("127.0.0.1");
    }
    let (process, nth) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    alloc::format!("127.{}.{}.{}", 64 + ((process >> 8) & 63), process & 255, 1 + nth % 250)
}
