//! The service `remote.Remoting`: what gRPC's generator would write, save that `Receive` carries bytes.
//!
//! A batch is checked by [`batch`](crate::wire::batch) before anything is built of it, and written from buffers that are kept, so
//! messages are bytes here. The two diagnostics calls are as usual.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::BufferSettings;
use tonic::codegen::{BoxFuture, Service, StdError};
use tonic::server::{NamedService, StreamingService, UnaryService};
use tonic::{GrpcMethod, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::inbound::listener::ConnectionInfo;
use crate::inbound::unfinished::{Unfinished, Watched};
use crate::wire::proto::remote::{
    GetProcessDiagnosticsRequest, GetProcessDiagnosticsResponse, ListProcessesRequest, ListProcessesResponse,
};
use crate::wire::raw_codec::{RawCodec, WriteMessage};

const SERVICE: &str = "remote.Remoting";
const RECEIVE: &str = "/remote.Remoting/Receive";
const LIST_PROCESSES: &str = "/remote.Remoting/ListProcesses";
const GET_PROCESS_DIAGNOSTICS: &str = "/remote.Remoting/GetProcessDiagnostics";

/// Bytes of messages whose end has not come, of all calls (L9).
const UNFINISHED_BYTES: usize = 256 * 1024 * 1024;
/// How long the end of a message may be waited for (L9).
const MESSAGE_TIME: Duration = Duration::from_secs(10);

/// What answers the calls of peers.
pub trait Remoting: Send + Sync + 'static {
    /// What goes down a call that a peer opened.
    type Outgoing: WriteMessage;
    /// The messages that go down such a call. A call must end with a disconnect request or an error: a Go node whose call ends
    /// with status OK sends to us no more.
    type ReceiveStream: Stream<Item = Result<Self::Outgoing, Status>> + Send + 'static;

    /// A peer opens a call. The messages are those that [`batch::decode`](crate::wire::batch::decode) takes.
    fn receive(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> impl Future<Output = Result<Response<Self::ReceiveStream>, Status>> + Send;

    /// Which actors there are. Unless it is overridden it is answered by *unimplemented*.
    fn list_processes(
        &self,
        request: Request<ListProcessesRequest>,
    ) -> impl Future<Output = Result<Response<ListProcessesResponse>, Status>> + Send {
        let _ = request;
        async { Err(Status::unimplemented("diagnostics are off")) }
    }

    /// How an actor is doing. Unless it is overridden it is answered by *unimplemented*.
    fn get_process_diagnostics(
        &self,
        request: Request<GetProcessDiagnosticsRequest>,
    ) -> impl Future<Output = Result<Response<GetProcessDiagnosticsResponse>, Status>> + Send {
        let _ = request;
        async { Err(Status::unimplemented("diagnostics are off")) }
    }
}

/// Serves a [`Remoting`] with tonic.
///
/// Compressed messages are refused with *unimplemented*, as a Go node does.
pub struct RemotingServer<T> {
    remoting: Arc<T>,
    message_bytes: usize,
    settings: BufferSettings,
    unfinished: Arc<Unfinished>,
}

impl<T: Remoting> RemotingServer<T> {
    /// Serves `remoting`. No message over `message_bytes` is accepted or sent (L7); a longer one ends its call.
    #[must_use]
    pub fn new(remoting: Arc<T>, message_bytes: usize) -> Self {
        let unfinished = Unfinished::new(UNFINISHED_BYTES, MESSAGE_TIME);
        Self { remoting, message_bytes, settings: BufferSettings::default(), unfinished }
    }

    /// With other sizes of buffers.
    #[must_use]
    pub fn with_buffers(mut self, settings: BufferSettings) -> Self {
        self.settings = settings;
        self
    }

    /// With other bounds on what is kept of messages whose end has not come (L9): `bytes` of all calls together, 256 MiB unless it
    /// is said, not counting the first 64 KiB of each, and `time` for each message, 10 s unless it is said. Beyond the
    /// first the connection of the message that was begun first is closed, beyond the second the call ends.
    #[must_use]
    pub fn with_unfinished(mut self, bytes: usize, time: Duration) -> Self {
        self.unfinished = Unfinished::new(bytes, time);
        self
    }
}

impl<T> Clone for RemotingServer<T> {
    fn clone(&self) -> Self {
        Self {
            remoting: Arc::clone(&self.remoting),
            message_bytes: self.message_bytes,
            settings: self.settings,
            unfinished: Arc::clone(&self.unfinished),
        }
    }
}

impl<T> fmt::Debug for RemotingServer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemotingServer").field("message_bytes", &self.message_bytes).finish_non_exhaustive()
    }
}

impl<T> NamedService for RemotingServer<T> {
    const NAME: &'static str = SERVICE;
}

impl<T, B> Service<http::Request<B>> for RemotingServer<T>
where
    T: Remoting,
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = Method(Arc::clone(&self.remoting));
        let (bytes, settings) = (self.message_bytes, self.settings);
        let unfinished = Arc::clone(&self.unfinished);
        match request.uri().path() {
            RECEIVE => Box::pin(async move {
                let guard = ConnectionInfo::guard_of(request.extensions());
                let request = request.map(|body| Watched::new(body, &unfinished, guard));
                let mut grpc = tonic::server::Grpc::new(RawCodec::<T::Outgoing>::with_settings(settings))
                    .apply_max_message_size_config(Some(bytes), Some(bytes));
                Ok(grpc.streaming(method, request).await)
            }),
            LIST_PROCESSES => Box::pin(async move {
                let codec = ProstCodec::<ListProcessesResponse, ListProcessesRequest>::new();
                let mut grpc =
                    tonic::server::Grpc::new(codec).apply_max_message_size_config(Some(bytes), Some(bytes));
                Ok(grpc.unary(method, request).await)
            }),
            GET_PROCESS_DIAGNOSTICS => Box::pin(async move {
                let codec = ProstCodec::<GetProcessDiagnosticsResponse, GetProcessDiagnosticsRequest>::new();
                let mut grpc =
                    tonic::server::Grpc::new(codec).apply_max_message_size_config(Some(bytes), Some(bytes));
                Ok(grpc.unary(method, request).await)
            }),
            _ => Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) }),
        }
    }
}

/// The methods of a [`Remoting`], in the shape that tonic calls.
struct Method<T>(Arc<T>);

impl<T: Remoting> StreamingService<Bytes> for Method<T> {
    type Response = T::Outgoing;
    type ResponseStream = T::ReceiveStream;
    type Future = BoxFuture<Response<T::ReceiveStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let remoting = Arc::clone(&self.0);
        Box::pin(async move { remoting.receive(request).await })
    }
}

impl<T: Remoting> UnaryService<ListProcessesRequest> for Method<T> {
    type Response = ListProcessesResponse;
    type Future = BoxFuture<Response<ListProcessesResponse>, Status>;

    fn call(&mut self, request: Request<ListProcessesRequest>) -> Self::Future {
        let remoting = Arc::clone(&self.0);
        Box::pin(async move { remoting.list_processes(request).await })
    }
}

impl<T: Remoting> UnaryService<GetProcessDiagnosticsRequest> for Method<T> {
    type Response = GetProcessDiagnosticsResponse;
    type Future = BoxFuture<Response<GetProcessDiagnosticsResponse>, Status>;

    fn call(&mut self, request: Request<GetProcessDiagnosticsRequest>) -> Self::Future {
        let remoting = Arc::clone(&self.0);
        Box::pin(async move { remoting.get_process_diagnostics(request).await })
    }
}

/// Calls the [`Remoting`] of a peer over `S`, mostly a [`Channel`](tonic::transport::Channel).
#[derive(Clone, Debug)]
pub struct RemotingClient<S> {
    grpc: tonic::client::Grpc<S>,
    settings: BufferSettings,
}

impl<S> RemotingClient<S>
where
    S: GrpcService<Body>,
    S::Error: Into<StdError>,
    S::ResponseBody: tonic::codegen::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as tonic::codegen::Body>::Error: Into<StdError> + Send,
{
    /// Calls over `service`. No message over `message_bytes` is accepted or sent (L7); a longer one ends the call.
    #[must_use]
    pub fn new(service: S, message_bytes: usize) -> Self {
        let grpc = tonic::client::Grpc::new(service)
            .max_decoding_message_size(message_bytes)
            .max_encoding_message_size(message_bytes);
        Self { grpc, settings: BufferSettings::default() }
    }

    /// With other sizes of buffers.
    #[must_use]
    pub fn with_buffers(mut self, settings: BufferSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Opens a call: sends what `messages` gives, and returns what comes down.
    ///
    /// A Go node begins its answer before it has heard anything, others may wait for the first message.
    ///
    /// # Errors
    /// The status that the peer or the connection gave.
    ///
    /// # Cancel safety
    /// Dropping the future drops `messages` and ends the call.
    pub async fn receive<W, M>(&mut self, messages: M) -> Result<Response<Streaming<Bytes>>, Status>
    where
        W: WriteMessage + Sync,
        M: Stream<Item = W> + Send + 'static,
    {
        self.ready().await?;
        let mut request = Request::new(messages);
        request.extensions_mut().insert(GrpcMethod::new(SERVICE, "Receive"));
        let codec = RawCodec::<W>::with_settings(self.settings);
        self.grpc.streaming(request, PathAndQuery::from_static(RECEIVE), codec).await
    }

    /// Asks which actors the peer has. **Never call it on a Go node: its process would end.**
    ///
    /// # Errors
    /// The status that the peer or the connection gave; *unimplemented* where diagnostics are off.
    pub async fn list_processes(
        &mut self,
        request: ListProcessesRequest,
    ) -> Result<Response<ListProcessesResponse>, Status> {
        self.ready().await?;
        let mut request = Request::new(request);
        request.extensions_mut().insert(GrpcMethod::new(SERVICE, "ListProcesses"));
        let codec = ProstCodec::<ListProcessesRequest, ListProcessesResponse>::new();
        self.grpc.unary(request, PathAndQuery::from_static(LIST_PROCESSES), codec).await
    }

    /// Asks how an actor of the peer is doing. **Never call it on a Go node: its process would end.**
    ///
    /// # Errors
    /// The status that the peer or the connection gave; *unimplemented* where diagnostics are off.
    pub async fn get_process_diagnostics(
        &mut self,
        request: GetProcessDiagnosticsRequest,
    ) -> Result<Response<GetProcessDiagnosticsResponse>, Status> {
        self.ready().await?;
        let mut request = Request::new(request);
        request.extensions_mut().insert(GrpcMethod::new(SERVICE, "GetProcessDiagnostics"));
        let codec = ProstCodec::<GetProcessDiagnosticsRequest, GetProcessDiagnosticsResponse>::new();
        self.grpc.unary(request, PathAndQuery::from_static(GET_PROCESS_DIAGNOSTICS), codec).await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|error| {
            let error: StdError = error.into();
            Status::unavailable(format!("no connection: {error}"))
        })
    }
}
