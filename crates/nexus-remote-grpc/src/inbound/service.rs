//! What peers call: the streams of messages, and the diagnostics.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nexus_actor_core::lock::Lock;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use crate::endpoint_writer::outbound::OutMessage;
use crate::inbound::call::InboundCall;
use crate::inbound::diagnostics::{self, Answered};
use crate::inbound::listener::{ConnectionInfo, Guard};
use crate::inbound::peer_identity::PeerIdentity;
use crate::node::Node;
use crate::wire::proto::remote::{
    GetProcessDiagnosticsRequest, GetProcessDiagnosticsResponse, ListProcessesRequest, ListProcessesResponse,
};
use crate::wire::remoting::Remoting;

/// The gRPC service of one node: it takes the calls that peers open, and keeps none of them.
pub(crate) struct EndpointReader {
    node: Arc<Node>,
    /// Diagnostics, whoever asked.
    answered: Lock<Answered>,
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
        let (identity, guard) = (identity_of(request), guard_of(request));
        // Where there is encryption there are certificates: who shows none has not been given the permission.
        if is_encrypted(request) && !identity.is_authenticated() {
            return Err(Status::permission_denied("diagnostics are for those who show a certificate"));
        }
        let introduced = guard.as_ref().and_then(|guard| guard.name());
        let is_permitted = match &introduced {
            Some((system_id, address)) => self.node.block_list.permits(system_id, Some(address)),
            // A certificate is of a host: if one node there is refused, this may be it.
            None => self
                .node
                .block_list
                .permits_any(|address| identity.is_authenticated() && identity.may_be(address)),
        };
        if !is_permitted {
            return Err(Status::permission_denied("blocked"));
        }
        let max = self.node.config.get_limits().diagnostics_per_second;
        let now = Instant::now();
        // One connection has half of what the node answers, so that there is something left for another.
        let within_share = guard.as_ref().is_none_or(|guard| guard.diagnosed(now, max.div_ceil(2)));
        if !within_share || !self.answered.lock().one_more(now, max) {
            return Err(Status::resource_exhausted("too many diagnostics requests in a second"));
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

fn is_encrypted<T>(request: &Request<T>) -> bool {
    request.extensions().get::<TlsConnectInfo<ConnectionInfo>>().is_some()
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
