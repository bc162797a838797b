//! What peers call: the streams of messages, and the diagnostics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nexus_actor_core::lock::Lock;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use crate::diagnostics;
use crate::inbound_call::InboundCall;
use crate::listener::{ConnectionInfo, Guard};
use crate::node::Node;
use crate::outbound::OutMessage;
use crate::peer_identity::PeerIdentity;
use crate::proto::remote::{
    GetProcessDiagnosticsRequest, GetProcessDiagnosticsResponse, ListProcessesRequest, ListProcessesResponse,
};
use crate::remoting::Remoting;

/// The gRPC service of one node: it takes the calls that peers open, and keeps none of them.
pub(crate) struct EndpointReader {
    node: Arc<Node>,
    /// The second, and the diagnostics answered in it.
    answered: Lock<(Option<Instant>, u32)>,
}

impl EndpointReader {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, answered: Lock::default() }
    }

    fn diagnose<T>(&self, request: &Request<T>) -> Result<(), Status> {
        if !self.node.config.get_diagnostics() {
            return Err(Status::unimplemented("diagnostics are off"));
        }
        self.intercepted(request)?;
        let mut answered = self.answered.lock();
        let now = Instant::now();
        let (began, count) = &mut *answered;
        if began.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1)) {
            (*began, *count) = (Some(now), 0);
        }
        *count += 1;
        if *count > self.node.config.get_limits().diagnostics_per_second {
            return Err(Status::resource_exhausted("too many diagnostics requests in a second"));
        }
        if let Some(guard) = guard_of(request) {
            guard.introduced();
        }
        Ok(())
    }

    /// Lets the server interceptors of the configuration see the metadata of a call.
    fn intercepted<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let mut seen = Request::new(());
        *seen.metadata_mut() = request.metadata().clone();
        self.node.config.intercept_server(seen).map(drop)
    }
}

impl std::fmt::Debug for EndpointReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointReader").field("node", &self.node).finish_non_exhaustive()
    }
}

fn guard_of<T>(request: &Request<T>) -> Option<Arc<Guard>> {
    let extensions = request.extensions();
    let tls = extensions.get::<TlsConnectInfo<ConnectionInfo>>().map(|info| info.get_ref().clone());
    tls.or_else(|| extensions.get::<ConnectionInfo>().cloned()).map(|info| info.0)
}

fn identity_of<T>(request: &Request<T>) -> PeerIdentity {
    let tls = request.extensions().get::<TlsConnectInfo<ConnectionInfo>>();
    PeerIdentity::new(tls.and_then(TlsConnectInfo::peer_certs))
}

impl Remoting for EndpointReader {
    type Outgoing = OutMessage;
    type ReceiveStream = InboundCall;

    async fn receive(&self, request: Request<Streaming<Bytes>>) -> Result<Response<InboundCall>, Status> {
        if self.node.is_closing() {
            return Err(Status::unavailable("this node is shutting down"));
        }
        self.intercepted(&request)?;
        let (identity, guard) = (identity_of(&request), guard_of(&request));
        let call = InboundCall::new(self.node.clone(), request.into_inner(), identity, guard);
        Ok(Response::new(call))
    }

    async fn list_processes(
        &self,
        request: Request<ListProcessesRequest>,
    ) -> Result<Response<ListProcessesResponse>, Status> {
        self.diagnose(&request)?;
        let pids = diagnostics::list(&self.node, request.get_ref()).map_err(Status::invalid_argument)?;
        Ok(Response::new(ListProcessesResponse { pids }))
    }

    async fn get_process_diagnostics(
        &self,
        request: Request<GetProcessDiagnosticsRequest>,
    ) -> Result<Response<GetProcessDiagnosticsResponse>, Status> {
        self.diagnose(&request)?;
        let Some(pid) = &request.get_ref().pid else {
            return Err(Status::invalid_argument("the request names no pid"));
        };
        let diagnostics_string = diagnostics::describe(&self.node, pid);
        Ok(Response::new(GetProcessDiagnosticsResponse { diagnostics_string }))
    }
}
