//! Keeps the listener of a node alive.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;

use crate::endpoint_state::ReconnectPolicy;
use crate::endpoint_writer::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::inbound::listener::{Incoming, Strangers};
use crate::inbound::service::EndpointReader;
use crate::log;
use crate::mutual_tls::Encrypted;
use crate::node::Node;
use crate::wire::remoting::RemotingServer;

/// Calls that one connection may have open (limit L22).
const STREAMS_MAX: u32 = 16;
/// Streams reset by the peer before they were accepted (limit L22).
const PENDING_RESETS_MAX: usize = 20;
/// Streams reset for an error of the peer (limit L22).
const ERROR_RESETS_MAX: usize = 64;
/// Bytes of the headers of one call (limit L22).
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// Serves the calls of peers until it is told to end, and listens again when the listener fails.
pub(crate) struct EndpointSupervisor {
    node: Arc<Node>,
    address: SocketAddr,
    strangers: Arc<Strangers>,
    stop: watch::Receiver<bool>,
}

impl EndpointSupervisor {
    pub(crate) fn new(node: Arc<Node>, address: SocketAddr, stop: watch::Receiver<bool>) -> Self {
        let limits = node.config.get_limits();
        let strangers = Strangers::new(
            node.connections.clone(),
            limits.strangers,
            limits.strangers_per_ip,
            node.config.get_handshake_timeout(),
            node.config.get_endpoint_heartbeat().timeout,
            node.limits.handshake_bytes,
            (limits.failures_per_second, limits.failures_burst),
        );
        Self { node, address, strangers, stop }
    }

    /// The server as the configuration has it.
    ///
    /// # Errors
    /// When its TLS settings are not usable.
    pub(crate) fn server(node: &Node) -> Result<Server, String> {
        let config = &node.config;
        let heartbeat = config.get_endpoint_heartbeat();
        let mut server = Server::builder()
            .tcp_nodelay(true)
            .http2_adaptive_window(Some(false))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // Toward whoever dialled us pings are welcome, Go nodes included.
            .http2_keepalive_interval(Some(heartbeat.interval))
            .http2_keepalive_timeout(Some(heartbeat.timeout.saturating_sub(heartbeat.interval)))
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
            .http2_max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
            .http2_max_header_list_size(HEADER_BYTES_MAX);
        if let Some(tls) = config.get_server_tls() {
            // Without an identity tonic panics.
            server = catch_unwind(AssertUnwindSafe(|| server.tls_config(tls.clone())))
                .map_err(|_| "the server has no usable identity".to_owned())?
                .map_err(|error| error.to_string())?;
        }
        Ok(config.serve(server))
    }

    pub(crate) async fn run(self, listener: TcpListener) {
        self.keep(listener, |listener| self.serve(listener)).await;
    }

    /// Has `serve` serve `listener`. When that fails, or no listener can be had, it is bound again after a wait.
    async fn keep<F>(&self, listener: TcpListener, serve: impl Fn(TcpListener) -> F)
    where
        F: Future<Output = Result<(), String>>,
    {
        let mut stop = self.stop.clone();
        let mut listener = Some(listener);
        let mut delays = ReconnectPolicy { max_retries: u32::MAX, ..ReconnectPolicy::default() }
            .delays(self.node.random());
        while !*stop.borrow() {
            let bound = match listener.take() {
                Some(bound) => Ok(bound),
                None => TcpListener::bind(self.address).await.map_err(|error| error.to_string()),
            };
            let served = match bound {
                Ok(bound) => serve(bound).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                log::listener_failed(&self.node.address, &error);
                // Also where there was a listener: what ended it may end the next one at once.
                let wait = delays.next_delay().unwrap_or(Duration::from_secs(5));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = stop.changed() => return,
                }
            }
        }
    }

    async fn serve(&self, listener: TcpListener) -> Result<(), String> {
        let mut stop = self.stop.clone();
        let strangers = self.strangers.clone();
        let stopped = async move {
            // The sender is gone only with the node.
            let _ = stop.wait_for(|stop| *stop).await;
            strangers.close_all();
        };
        let limits = self.node.config.get_limits();
        let service = RemotingServer::new(
            Arc::new(EndpointReader::new(self.node.clone())),
            self.node.limits.message_bytes,
        )
        .with_unfinished(limits.unfinished_bytes, limits.message_time);
        let server = Self::server(&self.node)?;
        let incoming = Incoming::new(listener, self.strangers.clone());
        match self.node.config.get_mutual_tls() {
            None => server.serve_with_incoming_shutdown(service, incoming, stopped).await,
            Some(tls) => {
                let incoming = Encrypted::new(incoming, tls.acceptor()?);
                server.serve_with_incoming_shutdown(service, incoming, stopped).await
            }
        }
        .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::*;
    use crate::remote::tests::support::{TestNode, local, own_host};

    /// A listener that cannot be served is bound again and again, ever more seldom.
    #[tokio::test(start_paused = true)]
    async fn waits_grow_while_a_listener_cannot_be_served() {
        let node = TestNode::start("node", local()).await;
        let listener = TcpListener::bind((own_host(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = watch::channel(false);
        let supervisor = EndpointSupervisor::new(node.remote.node_for_tests().clone(), address, stopped);
        let served: RefCell<Vec<Instant>> = RefCell::default();
        let serve = |bound: TcpListener| {
            assert_eq!(bound.local_addr().expect("bound"), address);
            served.borrow_mut().push(Instant::now());
            if served.borrow().len() == 4 {
                stop.send_replace(true);
            }
            std::future::ready(Err("it fails".to_owned()))
        };
        supervisor.keep(listener, serve).await;
        let waits: Vec<_> = served.borrow().windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
        for (wait, expected) in waits.iter().zip([160..=240, 320..=480, 640..=960]) {
            assert!(expected.contains(wait), "{waits:?}");
        }
        assert_eq!(waits.len(), 3);
        node.stop().await;
    }
}
