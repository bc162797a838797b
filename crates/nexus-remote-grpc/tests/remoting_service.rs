//! The service's plumbing over real connections: bytes go through as they are, and what is wrong with a message or a call costs
//! that call.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use nexus_remote_grpc::endpoint::pid_entry::PidEntry;
use nexus_remote_grpc::wire::batch::{
    BatchLimits, BatchWriter, Incoming, OutgoingEnvelope, TypeName, WireForm, decode,
};
use nexus_remote_grpc::wire::proto::remote::remote_message::MessageType;
use nexus_remote_grpc::wire::proto::remote::{
    ConnectResponse, DisconnectRequest, GetProcessDiagnosticsRequest, ListProcessesRequest,
    ListProcessesResponse, RemoteMessage,
};
use nexus_remote_grpc::wire::raw_codec::{RawCodec, WriteMessage};
use nexus_remote_grpc::wire::remoting::{Remoting, RemotingClient, RemotingServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{StreamExt, iter, once};
use tonic::codec::{CompressionEncoding, EncodeBuf};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

const MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// What goes down: a message of the schema, or bytes.
enum Down {
    Message(RemoteMessage),
    Bytes(Bytes),
}

impl WriteMessage for Down {
    fn write(self, out: &mut EncodeBuf<'_>) {
        match self {
            Self::Message(message) => message.write(out),
            Self::Bytes(bytes) => bytes.write(out),
        }
    }
}

/// Answers a call with a connect response, sends back whatever comes, and ends with a disconnect request.
struct Echo;

impl Remoting for Echo {
    type Outgoing = Down;
    type ReceiveStream = ReceiverStream<Result<Down, Status>>;

    async fn receive(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        let (down, messages) = mpsc::channel(8);
        let mut up = request.into_inner();
        tokio::spawn(async move {
            let message = |message_type| Down::Message(RemoteMessage { message_type: Some(message_type) });
            let response = ConnectResponse { member_id: "echo".into(), ..ConnectResponse::default() };
            let _ = down.send(Ok(message(MessageType::ConnectResponse(response)))).await;
            loop {
                match up.message().await {
                    Ok(Some(bytes)) => drop(down.send(Ok(Down::Bytes(bytes))).await),
                    Ok(None) => break,
                    Err(status) => return drop(down.send(Err(status)).await),
                }
            }
            let _ = down.send(Ok(message(MessageType::DisconnectRequest(DisconnectRequest {})))).await;
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// Serves diagnostics too.
struct Open;

impl Remoting for Open {
    type Outgoing = Bytes;
    type ReceiveStream = tokio_stream::Empty<Result<Bytes, Status>>;

    async fn receive(&self, _: Request<Streaming<Bytes>>) -> Result<Response<Self::ReceiveStream>, Status> {
        Err(Status::permission_denied("only diagnostics here"))
    }

    async fn list_processes(
        &self,
        request: Request<ListProcessesRequest>,
    ) -> Result<Response<ListProcessesResponse>, Status> {
        let id = request.into_inner().pattern;
        let pid = nexus_remote_grpc::wire::proto::actor::Pid { id, ..Default::default() };
        Ok(Response::new(ListProcessesResponse { pids: vec![pid] }))
    }
}

/// A server on a port of its own, ended with the test.
struct Node {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn node(remoting: impl Remoting) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let service = RemotingServer::new(Arc::new(remoting), MESSAGE_BYTES);
    let serving = tokio::spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        let _ = Server::builder().serve_with_incoming(service, incoming).await;
    });
    Node { address, serving }
}

async fn channel(node: &Node) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", node.address)).expect("an address");
    endpoint.connect().await.expect("a connection")
}

async fn client(node: &Node) -> RemotingClient<Channel> {
    RemotingClient::new(channel(node).await, MESSAGE_BYTES)
}

/// Everything that comes down, and how the call ended.
async fn all(mut down: Streaming<Bytes>) -> (Vec<Bytes>, Option<Status>) {
    let mut messages = Vec::new();
    loop {
        match down.message().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(status) => return (messages, Some(status)),
        }
    }
}

/// A good call gets through.
async fn works(node: &Node) {
    let mut client = client(node).await;
    let down = client.receive(once(Bytes::from_static(b"\x0a\x00"))).await.expect("a call");
    let (messages, end) = all(down.into_inner()).await;
    assert!(end.is_none());
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[1], b"\x0a\x00".as_slice());
}

#[tokio::test]
async fn batches_go_up_and_down_as_they_are() {
    let node = node(Echo).await;
    let name = TypeName { package: "google.protobuf", name: "StringValue" };
    let echo = Arc::new(PidEntry::new(node.address.to_string(), "echo"));
    let mut writer = BatchWriter::new(BatchLimits::default());
    let mut batches = Vec::new();
    for size in [0, 1, 10_000, 3_000_000] {
        let mut message = Vec::new();
        writer.push(&OutgoingEnvelope::new(name, &vec![b'x'; size], &echo)).expect("room");
        writer.finish(WireForm::W1, &mut message);
        batches.push(Bytes::from(message));
    }
    let down = client(&node).await.receive(iter(batches.clone())).await.expect("a call");
    let (messages, end) = all(down.into_inner()).await;
    assert!(end.is_none());
    let limits = BatchLimits::default();
    let read: Vec<_> = messages.iter().map(|bytes| decode(bytes.clone(), &limits).expect("sound")).collect();
    assert!(matches!(&read[0], Incoming::ConnectResponse(response) if response.member_id == "echo"));
    assert!(matches!(&read[5], Incoming::Disconnect));
    assert_eq!(messages[1..5], batches);
}

/// L7: the longest message goes through; one byte more ends its call with a reason, and others go on.
#[tokio::test]
async fn a_message_over_the_limit_ends_its_call_only() {
    let node = node(Echo).await;
    let longest = Bytes::from(vec![0x20; MESSAGE_BYTES]);
    let down = client(&node).await.receive(once(longest.clone())).await.expect("a call");
    let (messages, end) = all(down.into_inner()).await;
    assert_eq!((messages.len(), end.is_none()), (3, true));
    assert_eq!(messages[1], longest);

    // A peer that sends more than is accepted here.
    let mut careless = RemotingClient::new(channel(&node).await, 2 * MESSAGE_BYTES);
    let long = Bytes::from(vec![0x20; MESSAGE_BYTES + 1]);
    let (_, end) = match careless.receive(once(long.clone())).await {
        Ok(down) => all(down.into_inner()).await,
        Err(status) => (Vec::new(), Some(status)),
    };
    let end = end.expect("the call is ended");
    assert!(matches!(end.code(), Code::OutOfRange | Code::ResourceExhausted), "{end}");
    works(&node).await;

    // Ours does not send it in the first place.
    let ended = match client(&node).await.receive(once(long)).await {
        Ok(down) => all(down.into_inner()).await.1,
        Err(status) => Some(status),
    };
    assert!(ended.is_some());
    works(&node).await;
}

/// A Go node answers the same: nothing on this wire is compressed.
#[tokio::test]
async fn a_compressed_call_is_refused() {
    let node = node(Echo).await;
    let mut grpc = tonic::client::Grpc::new(channel(&node).await).send_compressed(CompressionEncoding::Gzip);
    grpc.ready().await.expect("a connection");
    let path = PathAndQuery::from_static("/remote.Remoting/Receive");
    let message = Bytes::from(vec![b' '; 1_000]);
    let status = match grpc.streaming(Request::new(once(message)), path, RawCodec::<Bytes>::new()).await {
        Ok(down) => all(down.into_inner()).await.1.expect("the call is ended"),
        Err(status) => status,
    };
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    works(&node).await;
}

#[tokio::test]
async fn diagnostics_are_off_until_they_are_served() {
    let closed = node(Echo).await;
    let mut client = client(&closed).await;
    let status = client.list_processes(ListProcessesRequest::default()).await.expect_err("off");
    assert_eq!(status.code(), Code::Unimplemented);
    let request = GetProcessDiagnosticsRequest::default();
    let status = client.get_process_diagnostics(request).await.expect_err("off");
    assert_eq!(status.code(), Code::Unimplemented);

    let open = node(Open).await;
    let mut client = self::client(&open).await;
    let request = ListProcessesRequest { pattern: "echo".into(), ..Default::default() };
    let found = client.list_processes(request).await.expect("served").into_inner();
    assert_eq!(found.pids.iter().map(|pid| pid.id.as_str()).collect::<Vec<_>>(), ["echo"]);
    let refused = client.receive(tokio_stream::empty::<Bytes>()).await.expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_method_that_is_not_there_is_refused() {
    let node = node(Echo).await;
    let mut grpc = tonic::client::Grpc::new(channel(&node).await);
    grpc.ready().await.expect("a connection");
    let path = PathAndQuery::from_static("/remote.Remoting/Connect");
    let codec = RawCodec::<Bytes>::new();
    let status = grpc.unary(Request::new(Bytes::new()), path, codec).await.expect_err("not there");
    assert_eq!(status.code(), Code::Unimplemented);
    works(&node).await;
}

/// Pieces of messages on the wire do not show above: a message comes whole or not at all.
#[tokio::test]
async fn many_messages_of_one_call_keep_their_order() {
    let node = node(Echo).await;
    let messages = (0..5_000_u32).map(|number| Bytes::copy_from_slice(&number.to_be_bytes()));
    let down = client(&node).await.receive(iter(messages)).await.expect("a call").into_inner();
    let numbers: Vec<_> = down
        .filter_map(|message| {
            let bytes = message.expect("no error");
            <[u8; 4]>::try_from(bytes.as_ref()).ok().map(u32::from_be_bytes)
        })
        .collect()
        .await;
    assert!(numbers.iter().copied().eq(0..5_000), "{} came", numbers.len());
}
