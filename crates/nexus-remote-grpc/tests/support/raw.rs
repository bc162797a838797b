//! Peers that say what a test wants said: calls opened by hand, and a server that keeps what it gets.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use nexus_remote_grpc::wire::batch::{Batch, BatchLimits, Incoming, decode};
use nexus_remote_grpc::wire::proto::actor;
use nexus_remote_grpc::wire::proto::remote::connect_request::ConnectionType;
use nexus_remote_grpc::wire::proto::remote::remote_message::MessageType;
use nexus_remote_grpc::wire::proto::remote::{
    ClientConnection, ConnectRequest, ConnectResponse, MessageBatch, MessageEnvelope, Nexus, RemoteMessage,
    ServerConnection,
};
use nexus_remote_grpc::wire::remoting::{Remoting, RemotingClient, RemotingServer};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use super::within;

pub const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

pub fn message(message_type: MessageType) -> Bytes {
    Bytes::from(RemoteMessage { message_type: Some(message_type) }.encode_to_vec())
}

pub fn server_hello(member_id: &str, address: &str) -> Bytes {
    hello(ConnectionType::ServerConnection(ServerConnection {
        member_id: member_id.to_owned(),
        address: address.to_owned(),
        block_list: Vec::new(),
        nexus: None,
    }))
}

pub fn client_hello(member_id: &str) -> Bytes {
    hello(ConnectionType::ClientConnection(ClientConnection {
        member_id: member_id.to_owned(),
        nexus: Some(Nexus { version: 1, capabilities: 0 }),
    }))
}

pub fn hello(connection: ConnectionType) -> Bytes {
    message(MessageType::ConnectRequest(ConnectRequest { connection_type: Some(connection) }))
}

/// A batch for `id` at `address`: payloads by type name, each from `sender` if there is one.
pub fn batch(
    address: &str,
    id: &str,
    sender: Option<(&str, &str)>,
    messages: &[(&str, Vec<u8>)],
) -> MessageBatch {
    let pid = |address: &str, id: &str| actor::Pid {
        address: address.to_owned(),
        id: id.to_owned(),
        request_id: 0,
    };
    MessageBatch {
        type_names: messages.iter().map(|(name, _)| (*name).to_owned()).collect(),
        targets: vec![pid(address, id)],
        senders: sender.iter().map(|(address, id)| pid(address, id)).collect(),
        envelopes: messages
            .iter()
            .enumerate()
            .map(|(at, (_, payload))| MessageEnvelope {
                type_id: at as i32,
                message_data: payload.clone(),
                target: 0,
                sender: i32::from(sender.is_some()),
                ..MessageEnvelope::default()
            })
            .collect(),
    }
}

pub fn note(text: &str) -> (&'static str, Vec<u8>) {
    ("google.protobuf.StringValue", text.to_owned().encode_to_vec())
}

pub fn sent(batch: MessageBatch) -> Bytes {
    message(MessageType::MessageBatch(batch))
}

/// A call that a test opened, at whatever stage.
pub struct RawCall {
    up: Option<mpsc::UnboundedSender<Bytes>>,
    down: Streaming<Bytes>,
}

pub async fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    within("a connection", endpoint.connect()).await.expect("a connection")
}

impl RawCall {
    /// Opens a call whose first message is `first`.
    pub async fn open(address: &str, first: Bytes) -> Result<Self, Status> {
        Self::by(channel(address).await, first).await
    }

    pub async fn by(channel: Channel, first: Bytes) -> Result<Self, Status> {
        let (up, messages) = mpsc::unbounded_channel();
        up.send(first).expect("its receiver is below");
        let mut client = RemotingClient::new(channel, MESSAGE_BYTES);
        let stream = UnboundedReceiverStream::new(messages);
        let down = within("a call", client.receive(stream)).await?.into_inner();
        Ok(Self { up: Some(up), down })
    }

    /// Opens a call and shakes hands.
    pub async fn shake(address: &str, first: Bytes) -> Self {
        let mut call = Self::open(address, first).await.expect("a call");
        let response = call.response().await.expect("an answer");
        assert!(!response.blocked);
        call
    }

    pub fn send(&self, bytes: Bytes) {
        // A call that the peer has ended takes nothing.
        let _ = self.up.as_ref().expect("not hung up").send(bytes);
    }

    pub fn hang_up(&mut self) {
        self.up = None;
    }

    pub async fn next(&mut self) -> Result<Option<Incoming>, Status> {
        let bytes = within("a message", self.down.message()).await?;
        Ok(bytes.map(|bytes| decode(bytes, &BatchLimits::default()).expect("sound")))
    }

    pub async fn response(&mut self) -> Result<ConnectResponse, Status> {
        match self.next().await? {
            Some(Incoming::ConnectResponse(response)) => Ok(response),
            other => panic!("no connect response: {other:?}"),
        }
    }

    /// How the call ends, whatever comes before that.
    pub async fn end(&mut self) -> Code {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Code::Ok,
                Err(status) => return status.code(),
            }
        }
    }
}

/// How a [`RawServer`] behaves.
#[derive(Clone, Copy, Default)]
pub struct Manners {
    /// It says that it is a node of ours.
    pub is_nexus: bool,
    /// It says that the caller is blocked.
    pub blocks: bool,
    /// It takes the first message and no other.
    pub never_reads: bool,
    /// It never answers the connect request.
    pub is_mute: bool,
}

struct Taker {
    manners: Manners,
    taken: mpsc::UnboundedSender<Bytes>,
    calls: mpsc::UnboundedSender<Request<()>>,
    downs: mpsc::UnboundedSender<mpsc::WeakUnboundedSender<Result<Bytes, Status>>>,
}

impl Remoting for Taker {
    type Outgoing = Bytes;
    type ReceiveStream = UnboundedReceiverStream<Result<Bytes, Status>>;

    async fn receive(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        let (manners, taken) = (self.manners, self.taken.clone());
        let mut seen = Request::new(());
        *seen.metadata_mut() = request.metadata().clone();
        let _ = self.calls.send(seen);
        let (down, messages) = mpsc::unbounded_channel();
        let _ = self.downs.send(down.downgrade());
        let mut up = request.into_inner();
        tokio::spawn(async move {
            let Ok(Some(first)) = up.message().await else { return };
            let _ = taken.send(first);
            if !manners.is_mute {
                let nexus = manners.is_nexus.then_some(Nexus { version: 1, capabilities: 0 });
                let response = ConnectResponse { member_id: "raw".into(), blocked: manners.blocks, nexus };
                let _ = down.send(Ok(message(MessageType::ConnectResponse(response))));
            }
            if manners.never_reads {
                return std::future::pending().await;
            }
            while let Ok(Some(bytes)) = up.message().await {
                let _ = taken.send(bytes);
            }
            drop(down);
        });
        Ok(Response::new(UnboundedReceiverStream::new(messages)))
    }
}

/// A peer that takes calls and keeps what comes.
pub struct RawServer {
    pub address: SocketAddr,
    taken: mpsc::UnboundedReceiver<Bytes>,
    calls: mpsc::UnboundedReceiver<Request<()>>,
    downs: mpsc::UnboundedReceiver<mpsc::WeakUnboundedSender<Result<Bytes, Status>>>,
    serving: JoinHandle<()>,
}

impl RawServer {
    pub async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        Self::over(address, manners, TcpListenerStream::new(listener))
    }

    /// One on connections that come from elsewhere.
    pub fn over<C>(
        address: SocketAddr,
        manners: Manners,
        incoming: impl Stream<Item = std::io::Result<C>> + Send + 'static,
    ) -> Self
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let (sender, taken) = mpsc::unbounded_channel();
        let (call_sender, calls) = mpsc::unbounded_channel();
        let (down_sender, downs) = mpsc::unbounded_channel();
        let taker = Taker { manners, taken: sender, calls: call_sender, downs: down_sender };
        let service = RemotingServer::new(Arc::new(taker), MESSAGE_BYTES);
        let serving = tokio::spawn(async move {
            let _ = Server::builder().serve_with_incoming(service, incoming).await;
        });
        Self { address, taken, calls, downs, serving }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The metadata of the next call.
    pub async fn call(&mut self) -> Request<()> {
        within("a call", self.calls.recv()).await.expect("it serves")
    }

    /// Says `bytes` down the oldest call that was not spoken to so.
    pub async fn say(&mut self, bytes: Bytes) {
        let down = within("a call", self.downs.recv()).await.expect("it serves");
        down.upgrade().expect("it is open").send(Ok(bytes)).expect("it is open");
    }

    pub async fn next(&mut self) -> Incoming {
        let bytes = within("a message", self.taken.recv()).await.expect("it serves");
        decode(bytes, &BatchLimits::default()).expect("sound")
    }

    /// The next batch, whatever comes before it.
    pub async fn batch(&mut self) -> Batch {
        loop {
            if let Incoming::Batch(batch) = self.next().await {
                return batch;
            }
        }
    }

    /// Waits for a message of that type.
    pub async fn until(&mut self, type_name: &str) {
        loop {
            let batch = self.batch().await;
            if batch.envelopes().flatten().any(|envelope| envelope.type_name == type_name) {
                return;
            }
        }
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Waits until `done` says so, where nothing tells of it.
pub async fn eventually(what: &str, done: impl Fn() -> bool) {
    within(what, async {
        while !done() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}
