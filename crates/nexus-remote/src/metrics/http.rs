//! The figures over HTTP, for Prometheus, load balancers and people.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Router, middleware};
use nexus_actor_core::coordinated_shutdown::ShutdownPhase;
use nexus_actor_core::system::ActorSystem;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep_until};

use super::MetricsRegistry;

/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 32;
/// How long a connection may last from its first byte to its last. One request is served on each.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How long a shutdown waits for answers under way.
const FAREWELL: Duration = Duration::from_secs(2);

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// How an [`HttpServer`] is bound. The default is for this host alone.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Allows an address that other hosts reach. There is neither encryption nor authentication: who reaches it reads
    /// which nodes talk to which, and how much.
    pub insecure_plaintext: bool,
}

impl HttpOptions {
    /// Sets [`Self::insecure_plaintext`].
    #[must_use]
    pub const fn with_insecure_plaintext(mut self, allowed: bool) -> Self {
        self.insecure_plaintext = allowed;
        self
    }
}

/// Why an [`HttpServer`] was not bound. Nothing runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum HttpError {
    /// Other hosts could reach the address, which [`HttpOptions::insecure_plaintext`] did not allow.
    Exposed(SocketAddr),
    /// The address cannot be bound.
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        error: io::Error,
    },
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exposed(address) => write!(
                f,
                "{address} can be reached from other hosts: bind to 127.0.0.1 or ::1, or allow insecure plaintext"
            ),
            Self::Bind { address, error } => write!(f, "cannot bind {address}: {error}"),
        }
    }
}

impl core::error::Error for HttpError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Exposed(_) => None,
            Self::Bind { error, .. } => Some(error),
        }
    }
}

/// Serves a [`MetricsRegistry`]: `/metrics` for Prometheus, `/endpoints` as JSON, and `/healthz`, which is 200 `ok`, or 503
/// once a system of the registry shuts down. Read-only. Ends when dropped.
///
/// At most 32 connections at a time, one request on each, ten seconds for it: who holds connections open holds up others
/// who want figures, and nothing else.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Serves `registry` at `address`, which only this host can reach; port 0 takes a free one.
    ///
    /// # Errors
    /// When other hosts could reach the address, or it cannot be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn bind(address: SocketAddr, registry: MetricsRegistry) -> Result<Self, HttpError> {
        Self::bind_with(address, registry, HttpOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// When other hosts could reach the address and the options do not allow it, or it cannot be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn bind_with(
        address: SocketAddr,
        registry: MetricsRegistry,
        options: HttpOptions,
    ) -> Result<Self, HttpError> {
        if !options.insecure_plaintext && !address.ip().to_canonical().is_loopback() {
            return Err(HttpError::Exposed(address));
        }
        let failed = |error| HttpError::Bind { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let app = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/endpoints", get(endpoints))
            .layer(middleware::map_response(one_request))
            .with_state(registry);
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
        let task = tokio::spawn(async move {
            let serving = axum::serve(listener, app).with_graceful_shutdown(async move {
                // Also when the sender is gone.
                let _ = stopped.await;
            });
            // It never fails.
            let _ = serving.await;
        });
        Ok(Self { address: bound, stop: Some(stop), task })
    }

    /// Where it listens, the real port included.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, answers those under way for up to two seconds, and ends.
    ///
    /// # Cancel safety
    /// Dropping the future ends the server at once.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = tokio::time::timeout(FAREWELL, &mut self.task).await;
    }

    /// Ends with `system`, after its last actor: a shutdown can be watched to its end.
    pub fn end_with(self, system: &ActorSystem) {
        system.coordinated_shutdown().add_task(ShutdownPhase::Last, "http server", move || self.shutdown());
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn metrics(State(registry): State<MetricsRegistry>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], registry.encode()).into_response()
}

async fn healthz(State(registry): State<MetricsRegistry>) -> (StatusCode, &'static str) {
    if registry.is_healthy() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    }
}

async fn endpoints(State(registry): State<MetricsRegistry>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], to_json(&registry)).into_response()
}

fn to_json(registry: &MetricsRegistry) -> String {
    let endpoints: Vec<Value> = registry
        .endpoints()
        .into_iter()
        .map(|report| {
            let statistics = report.statistics;
            json!({
                "protocol": report.protocol,
                "address": &*report.address,
                "state": report.state,
                "queue_size": statistics.queue_size,
                "queue_capacity": statistics.queue_capacity,
                "dead_letters": statistics.dead_letters,
                "sent": statistics.sent,
                "send_failures": statistics.send_failures,
                "reconnect_attempts": statistics.reconnect_attempts,
                "received": statistics.received,
                "unknown": statistics.unknown,
            })
        })
        .collect();
    json!({ "endpoints": endpoints }).to_string() + "\n"
}

/// Has the connection closed behind the answer, so that its place is free for the next.
async fn one_request(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, CLOSE);
    response
}

/// Accepts a bounded number of connections, each for a bounded time.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Timed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Timed, SocketAddr) {
        let Ok(place) = self.places.clone().acquire_owned().await else {
            // Nobody closes it.
            return core::future::pending().await;
        };
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let end = Box::pin(sleep_until(Instant::now() + CONNECTION_TIME));
        (Timed { stream, end, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection whose time runs.
struct Timed {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Timed {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
