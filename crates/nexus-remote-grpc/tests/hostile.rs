//! Peers that mean harm, or are broken: at most their stream or their message is lost, a good peer is served all the same,
//! and tasks and map entries are back where they were.

mod support;

use std::sync::Arc;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::serialization::protobuf::{Named, ProtobufCodec, ProtobufForm};
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, Context, DeadLetterReason, Props};
use nexus_remote_grpc::config::Limits;
use nexus_remote_grpc::endpoint::pid_entry::PidEntry;
use nexus_remote_grpc::wire::batch::{
    BatchLimits, BatchWriter, Incoming, OutgoingEnvelope, TypeName, WireForm,
};
use nexus_remote_grpc::wire::proto::actor;
use nexus_remote_grpc::wire::proto::remote::remote_message::MessageType;
use nexus_remote_grpc::wire::proto::remote::{
    ActorPidRequest, ConnectResponse, DisconnectRequest, ListProcessesRequest,
};
use nexus_remote_grpc::wire::remoting::RemotingClient;
use nexus_remote_grpc::{ConfigOption, ResponseStatusCode};
use prost::Message as _;
use support::proxy::Proxy;
use support::raw::{
    self, Manners, RawCall, RawServer, batch, client_hello, eventually, note, sent, server_hello,
};
use support::{Echo, Heard, TestNode, Watch, Watcher, local, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;

async fn node(options: impl IntoIterator<Item = ConfigOption>) -> TestNode {
    TestNode::start("node", local().with(options)).await
}

/// A node, and a good peer of it that has talked to it.
async fn pair(options: impl IntoIterator<Item = ConfigOption>) -> (TestNode, TestNode) {
    let (a, good) = (node(options).await, node([]).await);
    serves(&a, &good).await;
    (a, good)
}

async fn serves(a: &TestNode, good: &TestNode) {
    assert_eq!(good.ask(&good.far(a, "echo"), "x").await.as_deref(), Ok("re:x"));
}

/// The hostile peer leaves nothing: the good one is served, and is the only one known.
async fn as_before(a: TestNode, good: TestNode) {
    serves(&a, &good).await;
    let is_known = |address: &str| address == good.remote.address();
    let left = || (a.remote.manager().endpoints(), a.remote.tasks(), a.remote.pending_asks());
    let what = format!("nothing is left of it: {:?}", left());
    eventually(&what, || {
        a.remote.manager().endpoints().iter().all(|one| is_known(&one.address))
            && a.remote.manager().client_connections().is_empty()
            // The listener, and the good peer's endpoint.
            && a.remote.tasks() <= 2
            && a.remote.pending_asks() == 0
    })
    .await;
    good.stop().await;
    a.stop().await;
}

fn pid(address: &str, id: &str) -> actor::Pid {
    actor::Pid { address: address.to_owned(), id: id.to_owned(), request_id: 0 }
}

/// Covers: T6
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_out_of_place_end_their_call_at_most() {
    let (a, good) = pair([]).await;
    let to = a.remote.address().to_owned();
    let hello = || server_hello("raw", "127.0.0.1:1");
    let letter = || sent(batch(&to, "echo", None, &[note("x")]));
    let ended = async |first, then: Vec<bytes::Bytes>| match RawCall::open(&to, first).await {
        Ok(mut call) => {
            then.into_iter().for_each(|message| call.send(message));
            call.end().await
        }
        Err(status) => status.code(),
    };
    assert_eq!(ended(letter(), vec![]).await, Code::FailedPrecondition, "a batch before the hello");
    assert_eq!(ended(letter(), vec![hello()]).await, Code::FailedPrecondition, "and a hello behind it");
    assert_eq!(ended(hello(), vec![server_hello("raw", "127.0.0.1:2")]).await, Code::FailedPrecondition);
    assert_eq!(ended(server_hello("raw", "nowhere"), vec![]).await, Code::InvalidArgument);
    assert_eq!(ended(client_hello(""), vec![]).await, Code::InvalidArgument);
    assert_eq!(ended(hello(), vec![bytes::Bytes::from_static(b"\xff\xff\xff")]).await, Code::InvalidArgument);
    // What is only said down a call, said up one.
    let call = RawCall::shake(&to, hello()).await;
    call.send(raw::message(MessageType::DisconnectRequest(DisconnectRequest {})));
    call.send(raw::message(MessageType::ConnectResponse(ConnectResponse::default())));
    call.send(hello());
    call.send(bytes::Bytes::new());
    call.send(letter());
    a.heard.until("what came after", |all| all == ["x"]).await;
    drop(call);
    as_before(a, good).await;
}

/// The negative vectors that are whole messages: what ended a Go process costs us one stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_ends_its_stream() {
    let (a, good) = pair([]).await;
    let mut call = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    call.send(sent(batch(a.remote.address(), "echo", None, &[note(&"x".repeat(4 * 1024 * 1024 + 1))])));
    assert!(matches!(call.end().await, Code::OutOfRange | Code::ResourceExhausted));
    drop(call);
    let call = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    let mut letters = a.events::<DeadLetterEvent>();
    for name in ["actor.Terminated", "actor.Watch", "actor.Unwatch"] {
        call.send(sent(batch(a.remote.address(), "echo", None, &[(name, Vec::new())])));
        assert_eq!(letters.next(name).await.reason(), DeadLetterReason::Decode);
    }
    call.send(sent(batch(a.remote.address(), "echo", None, &[note("after")])));
    a.heard.until("what came after", |all| all == ["after"]).await;
    drop(call);
    as_before(a, good).await;
}

/// Covers: T5, S20
#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_cost_their_connection() {
    let handshake = ConfigOption::with_handshake_timeout(std::time::Duration::from_millis(300));
    let (a, good) = pair([handshake]).await;
    let mut random = [0_u8; 4_096];
    for (at, byte) in random.iter_mut().enumerate() {
        *byte = (at * 197 % 251) as u8;
    }
    let openings: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00",
        b"",
        &random,
    ];
    for opening in openings {
        let mut stream = TcpStream::connect(a.remote.address()).await.expect("a connection");
        stream.write_all(opening).await.expect("taken");
        let mut answer = Vec::new();
        let _ = within("the end", stream.read_to_end(&mut answer)).await;
        serves(&a, &good).await;
    }
    as_before(a, good).await;
}

/// A connection on which a test writes frames of HTTP/2 itself.
struct Frames(TcpStream);

impl Frames {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const CONTINUATION: u8 = 9;

    async fn open(a: &TestNode) -> Self {
        Self::over(TcpStream::connect(a.remote.address()).await.expect("a connection")).await
    }

    /// One that takes nearly nothing of what is written to it.
    async fn deaf(a: &TestNode) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small one");
        let address = a.remote.bound_address().expect("it listens");
        Self::over(socket.connect(address).await.expect("a connection")).await
    }

    async fn over(mut stream: TcpStream) -> Self {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("taken");
        let mut frames = Self(stream);
        assert!(frames.put(Self::SETTINGS, 0, 0, &[]).await);
        frames
    }

    /// Opens a call on stream 1, and waits until it is answered: less is taken of a stranger than of a peer.
    async fn introduced(mut self) -> Self {
        let hello = server_hello("raw", "127.0.0.1:1");
        let mut message = vec![0];
        message.extend((hello.len() as u32).to_be_bytes());
        message.extend(&hello[..]);
        assert!(self.put(Self::HEADERS, 4, 1, &Self::headers(0)).await);
        assert!(self.put(Self::DATA, 0, 1, &message).await);
        self.until(Self::DATA).await;
        self
    }

    /// Reads until there was a frame of that kind.
    async fn until(&mut self, kind: u8) {
        let seen = async {
            loop {
                let mut head = [0; 9];
                self.0.read_exact(&mut head).await.expect("a frame");
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                self.0.read_exact(&mut vec![0; length as usize]).await.expect("all of it");
                if head[3] == kind {
                    return;
                }
            }
        };
        within("a frame", seen).await;
    }

    /// Asks for answers and takes none, until nothing more is taken for a moment.
    async fn stall(&mut self) {
        let moment = std::time::Duration::from_millis(200);
        while let Ok(written) = tokio::time::timeout(moment, self.0.write_all(&Self::pings())).await {
            written.expect("the connection stands");
        }
    }

    /// Asks for answers and takes none, until the connection is closed.
    async fn cut(mut self) {
        within("the end of the connection", async {
            while self.0.write_all(&Self::pings()).await.is_ok() {}
        })
        .await;
    }

    /// A thousand.
    fn pings() -> Vec<u8> {
        [0, 0, 8, Self::PING, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].repeat(1_000)
    }

    /// False once the connection is closed.
    async fn put(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.is_ok()
    }

    /// The header block of a call.
    fn headers(more: usize) -> Vec<u8> {
        fn text(out: &mut Vec<u8>, text: &str) {
            out.push(text.len() as u8);
            out.extend(text.as_bytes());
        }
        // POST, http, a path and an authority by their static names, and two more by their own.
        let mut block = vec![0x83, 0x86, 0x04];
        text(&mut block, "/remote.Remoting/Receive");
        block.push(0x01);
        text(&mut block, "localhost");
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
            block.push(0x00);
            text(&mut block, name);
            text(&mut block, value);
        }
        for number in 0..more {
            block.push(0x00);
            text(&mut block, &format!("x-{number:06}"));
            text(&mut block, &"v".repeat(100));
        }
        block
    }

    /// Reads until the peer closes the connection or says nothing more for a moment.
    async fn closed(mut self) {
        let mut buffer = vec![0; 64 * 1024];
        let read = async { while self.0.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
        let _ = tokio::time::timeout(std::time::Duration::from_millis(200), read).await;
    }
}

/// Covers: T11, T4
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_cost_their_connection() {
    const COUNT: u32 = 20_000;
    let (a, good) = pair([]).await;

    // What the sockets hold has been written before it is read: it goes on until the end is seen.
    let mut resets = Frames::open(&a).await.introduced().await;
    within("the end of the connection with the resets", async {
        let mut stream = 3;
        while resets.put(Frames::HEADERS, 4, stream, &Frames::headers(0)).await
            && resets.put(Frames::RESET, 0, stream, &8_u32.to_be_bytes()).await
        {
            stream += 2;
        }
    })
    .await;
    resets.closed().await;
    serves(&a, &good).await;

    let mut unended = Frames::open(&a).await.introduced().await;
    assert!(unended.put(Frames::HEADERS, 0, 3, &Frames::headers(0)).await);
    within("the end of the connection with headers that have none", async {
        let mut block = vec![0x00, 8];
        block.extend(b"y-000000");
        block.push(100);
        block.extend([b'v'; 100]);
        while unended.put(Frames::CONTINUATION, 0, 3, &block).await {}
    })
    .await;
    unended.closed().await;
    serves(&a, &good).await;

    let mut many = Frames::open(&a).await.introduced().await;
    // 15 KiB a frame, but more than 16 KiB in all.
    let block = Frames::headers(200);
    for (at, part) in block.chunks(16_000).enumerate() {
        let is_last = (at + 1) * 16_000 >= block.len();
        let kind = if at == 0 { Frames::HEADERS } else { Frames::CONTINUATION };
        many.put(kind, if is_last { 4 } else { 0 }, 3, part).await;
    }
    many.closed().await;
    serves(&a, &good).await;

    let mut pings = Frames::open(&a).await.introduced().await;
    for _ in 0..COUNT {
        if !pings.put(Frames::PING, 0, 0, &[0; 8]).await {
            break;
        }
    }
    drop(pings);
    serves(&a, &good).await;

    let mut empty = Frames::open(&a).await.introduced().await;
    empty.put(Frames::HEADERS, 4, 3, &Frames::headers(0)).await;
    for _ in 0..COUNT {
        if !empty.put(Frames::DATA, 0, 3, &[]).await {
            break;
        }
    }
    empty.closed().await;
    serves(&a, &good).await;

    // A message of four gigabytes, of which five bytes come.
    let mut huge = Frames::open(&a).await;
    huge.put(Frames::HEADERS, 4, 1, &Frames::headers(0)).await;
    huge.put(Frames::DATA, 0, 1, &[0, 0xff, 0xff, 0xff, 0xff]).await;
    huge.closed().await;
    as_before(a, good).await;
}

/// A peer that asks for answers and takes none has its time as every other: nothing depends on what can be written to it.
///
/// Covers: T3, T27, T37
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_nothing_is_cut() {
    let ms = std::time::Duration::from_millis;
    let a = node([
        ConfigOption::with_endpoint_heartbeat_interval(ms(500)),
        // Enough for a busy machine to introduce it and look.
        ConfigOption::with_endpoint_heartbeat_timeout(ms(3_000)),
    ])
    .await;
    // When it counts as silent.
    let deaf = Frames::deaf(&a).await.introduced().await;
    assert_eq!(a.remote.manager().endpoints().len(), 1);
    deaf.cut().await;
    eventually("it is forgotten", || a.remote.manager().endpoints().is_empty()).await;
    a.stop().await;

    // And at the end of the node.
    let a = node([]).await;
    let mut deaf = Frames::deaf(&a).await.introduced().await;
    deaf.stall().await;
    let remote = a.remote.clone();
    a.stop().await;
    assert_eq!(remote.tasks(), 0);
    deaf.cut().await;
}

/// Who introduces itself and ends its call is a stranger again, however often it does: such connections are as few as those of
/// strangers, and end as they do.
///
/// Covers: T3
#[tokio::test(flavor = "multi_thread")]
async fn connections_without_calls_are_those_of_strangers() {
    let ms = std::time::Duration::from_millis;
    let mut limits = Limits::new();
    limits.strangers_per_ip = 2;
    let few = vec![ConfigOption::with_limits(limits), ConfigOption::with_handshake_timeout(ms(20_000))];
    // In which a busy machine shakes hands, too.
    let short = vec![ConfigOption::with_handshake_timeout(ms(3_000))];
    for (options, left) in [(few, 2), (short, 0)] {
        let a = node(options).await;
        let link = Proxy::to(a.remote.address()).await;
        let mut kept = Vec::new();
        for number in 1..=6 {
            let channel = raw::channel(&link.address()).await;
            let hello = server_hello("raw", &format!("127.0.0.1:{number}"));
            let mut call = RawCall::by(channel.clone(), hello).await.expect("a call");
            call.response().await.expect("an answer");
            kept.push((channel, call));
        }
        // However many there are with a call.
        assert_eq!(link.open(), 6);
        for (_, call) in &mut kept {
            call.hang_up();
            call.end().await;
        }
        eventually("most are closed", || link.open() <= left).await;
        assert_eq!(link.open(), left);
        a.stop().await;
    }
}

/// Whoever makes connections that come to nothing is shut out until some time has passed; a peer that is connected is not
/// touched.
///
/// Covers: T3
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_come_to_nothing_are_counted() {
    let mut limits = Limits::new();
    (limits.failures_per_second, limits.failures_burst) = (20, 30);
    let (a, good) = pair([ConfigOption::with_limits(limits)]).await;
    // Whether a connection is served: then HTTP/2 says something at once.
    let is_served = async || {
        let mut stream = TcpStream::connect(a.remote.address()).await.expect("it listens");
        // Closed at once, it may take nothing.
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        within("a byte or the end", stream.read_u8()).await.is_ok()
    };
    let mut served = 0;
    while served < 2_000 && is_served().await {
        served += 1;
    }
    assert!((29..2_000).contains(&served), "{served} are served");
    serves(&a, &good).await;
    within("its time passes", async { while !is_served().await {} }).await;
    as_before(a, good).await;
}

/// Strangers cannot have much kept of what they send, on however many calls: a message is read when it is known whose it is.
///
/// Covers: T3, T4
#[tokio::test(flavor = "multi_thread")]
async fn little_is_read_of_a_stranger() {
    // Not its time is what ends it.
    let timeout = ConfigOption::with_handshake_timeout(std::time::Duration::from_secs(3_600));
    let (a, good) = pair([timeout]).await;
    let mut frames = Frames::open(&a).await;
    // Its windows are those of the node from here on.
    frames.until(Frames::SETTINGS).await;
    assert!(frames.put(Frames::SETTINGS, 1, 0, &[]).await);
    // The beginning of a message that is not too long, and never ends.
    let mut begun = [0; 16 * 1024];
    begun[1..5].copy_from_slice(&(4_000_000_u32).to_be_bytes());
    let mut is_open = true;
    for stream in 0..16 {
        is_open = is_open && frames.put(Frames::HEADERS, 4, 2 * stream + 1, &Frames::headers(0)).await;
    }
    // Less than the window of the connection, so that HTTP/2 has nothing against it.
    for number in 0..16 * 16 {
        is_open = is_open && frames.put(Frames::DATA, 0, 2 * (number % 16) + 1, &begun).await;
        begun[..5].fill(0);
    }
    // What the sockets hold may have been all of it.
    let mut rest = vec![0; 64 * 1024];
    within("the end of the connection", async {
        while frames.0.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    })
    .await;
    as_before(a, good).await;
}

/// Its decoding panics when it is told to.
struct Bomb;

impl Message for Bomb {
    const MANIFEST: &'static str = "test.bomb@1";
    const PROTOBUF: Option<ProtobufCodec<Self>> = Some(ProtobufCodec {
        forms: &[ProtobufForm::tell_of::<String>()],
        encode: |_, encoder| encoder.protobuf(&String::new()),
        decode: |named: &Named<'_>| {
            let text: String = named.protobuf_or_json()?;
            assert_ne!(text, "decode", "as it was told to");
            Ok(Self)
        },
    });
    fn encode(&self, _: &mut Encoder<'_>) -> Result<(), EncodeError> {
        Err(EncodeError::failed("only on the protobuf wire"))
    }
    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError::failed("only on the protobuf wire"))
    }
}

struct Bomber(Heard);

impl Actor for Bomber {
    type Msg = Bomb;
    async fn receive(&mut self, _: Bomb, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        self.0.push("a bomb".to_owned());
        Ok(())
    }
}

/// Covers: T17
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_decoding_costs_its_message() {
    let (a, good) = pair([]).await;
    a.system.register::<Bomb>().expect("registered once");
    let bombs = Heard::default();
    let told = bombs.clone();
    a.system.spawn("bomber", Props::from_fn(move || Bomber(told.clone()))).expect("free");
    let mut letters = a.events::<DeadLetterEvent>();
    let call = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    let messages = [note("before"), note("decode"), note("after")];
    call.send(sent(batch(a.remote.address(), "bomber", None, &messages)));
    bombs.until("both others", |all| all.len() == 2).await;
    assert_eq!(letters.next("the record").await.reason(), DeadLetterReason::Decode);
    call.send(sent(batch(a.remote.address(), "echo", None, &[note("undisturbed")])));
    a.heard.until("the next", |all| all == ["undisturbed"]).await;
    drop(call);
    as_before(a, good).await;
}

/// Covers: T19
#[tokio::test(flavor = "multi_thread")]
async fn private_actors_are_reached_by_no_id() {
    let (a, good) = pair([]).await;
    let call = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    let ids = [
        "$system/protoactor_watcher",
        "/system/protoactor_watcher",
        "system/protoactor_watcher",
        "../system/protoactor_watcher",
        "user/../system/protoactor_watcher",
        "/user",
        "user",
        "/",
        "",
        ".",
        "$system",
        "temp/x",
        "echo/",
        "echo//",
        "activator",
    ];
    let before = a.system.processes().count();
    for id in ids {
        for message in [note("x"), ("actor.Stop", Vec::new()), ("actor.PoisonPill", Vec::new())] {
            let mut letters = a.events::<DeadLetterEvent>();
            call.send(sent(batch(a.remote.address(), id, None, &[message])));
            let letter = letters.next(id).await;
            let reason = letter.reason();
            assert!(
                matches!(
                    reason,
                    DeadLetterReason::NoSuchActor | DeadLetterReason::Denied | DeadLetterReason::Decode
                ),
                "{id}: {reason:?}"
            );
        }
    }
    assert_eq!(a.system.processes().count(), before);
    drop(call);
    as_before(a, good).await;
}

/// Covers: T20, T21
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_speaks_for_itself_only() {
    let (a, good) = pair([]).await;
    let to = a.remote.address().to_owned();
    let seen = Heard::default();
    let told = seen.clone();
    let watching = a.system.spawn("watcher", Props::from_fn(move || Watcher(told.clone()))).expect("free");
    watching.tell(Watch::Begin(a.far(&good, "echo")));
    seen.until("the watch", |all| all.len() == 1).await;
    assert!(a.ask(&a.far(&good, "echo"), "behind the watch").await.is_ok());

    let mut letters = a.events::<DeadLetterEvent>();
    let call = RawCall::shake(&to, server_hello("raw", "127.0.0.1:1")).await;
    // The end of an actor of another node; a watcher of another node.
    let who = Some(pid(good.remote.address(), "echo"));
    let terminated = actor::Terminated { who: who.clone(), why: 0 }.encode_to_vec();
    let watch = actor::Watch { watcher: who }.encode_to_vec();
    for (id, message) in
        [("$system/protoactor_watcher", ("actor.Terminated", terminated)), ("echo", ("actor.Watch", watch))]
    {
        call.send(sent(batch(&to, id, None, &[message])));
        assert_eq!(letters.next(id).await.reason(), DeadLetterReason::Denied);
    }
    // A question in the name of an actor here: the answer is no message to it.
    call.send(sent(batch(&to, "echo", Some((&to, "echo")), &[note("as if from here")])));
    call.send(sent(batch(&to, "echo", None, &[note("behind it")])));
    a.heard.until("what came behind", |all| all == ["behind it"]).await;
    assert_eq!(seen.len(), 1, "the watcher was told nothing");
    assert_eq!(a.remote.peer_watches(), 0);
    // A question in the name of one elsewhere is answered there, by our own call to it.
    call.send(sent(batch(&to, "echo", Some((good.remote.address(), "echo")), &[note("y")])));
    good.heard.until("the answer", |all| all == ["re:y"]).await;
    drop((call, watching));
    a.system.find("/user/watcher").expect("it lives").stop();
    as_before(a, good).await;
}

/// Covers: T22
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_not_guessed() {
    let (a, good) = pair([]).await;
    let to = a.remote.address().to_owned();
    let mut server = RawServer::start(Manners { is_nexus: true, ..Manners::default() }).await;
    let there = a.at(&server.address(), "echo");
    let asked = there.ask(|reply| Echo::Say("who".to_owned(), reply));
    let id = loop {
        let batch = server.batch().await;
        if let Some(sender) = batch.sender(0) {
            break sender.id.to_owned();
        }
    };
    let slot = id.split('.').next().expect("a slot").to_owned();
    let call = RawCall::shake(&to, server_hello("raw", "127.0.0.1:1")).await;
    let guesses: Vec<_> = (0..1_000).map(|_| note("a guess")).collect();
    let lost = || a.system.dead_letters().count(DeadLetterReason::NoSuchActor);
    let before = lost();
    for round in 0..20_u64 {
        for wrong in [format!("{slot}.{round}"), format!("{slot}."), slot.clone(), format!("{id}0")] {
            call.send(sent(batch(&to, &wrong, None, &guesses)));
        }
    }
    eventually("all are counted", || lost() - before == 80_000).await;
    // The whole id is accepted once.
    call.send(sent(batch(&to, &id, None, &[note("the answer"), note("another")])));
    assert_eq!(within("the answer", asked).await.as_deref(), Ok("the answer"));
    eventually("the other is counted", || lost() - before == 80_001).await;
    drop((call, there));
    a.remote.block_system(&server.address()).await;
    as_before(a, good).await;
}

/// Covers: T33, S130
#[tokio::test(flavor = "multi_thread")]
async fn spawns_are_bounded_and_a_failing_factory_is_a_status() {
    let mut limits = Limits::new();
    limits.spawned = 10;
    let (a, good) = pair([ConfigOption::with_limits(limits)]).await;
    let to = a.remote.address().to_owned();
    assert!(a.remote.register("fails", Props::from_fn(|| -> Bomber { panic!("as it was told to") })));
    let mut call = RawCall::shake(&to, client_hello("raw")).await;
    let request = |name: &str, kind: &str| {
        let request = ActorPidRequest { name: name.into(), kind: kind.into() };
        ("remote.ActorPidRequest", request.encode_to_vec())
    };
    let mut requests = vec![request("same", "echo"), request("same", "echo"), request("", "unknown")];
    requests.push(request("../x", "echo"));
    requests.push(request(&"n".repeat(600), "echo"));
    requests.push(request("f", "fails"));
    requests.push(("remote.ActorPidRequest", b"\x0a\xff".to_vec()));
    requests.extend((0..993).map(|_| request("", "echo")));
    call.send(sent(batch(&to, "activator", Some(("", "me")), &requests)));
    let mut statuses = Vec::new();
    while statuses.len() < 999 {
        let Some(Incoming::Batch(batch)) = call.next().await.expect("it lives") else { continue };
        for envelope in batch.envelopes() {
            let envelope = envelope.expect("sound");
            if envelope.type_name == "remote.ActorPidResponse" {
                let response =
                    nexus_remote_grpc::wire::proto::remote::ActorPidResponse::decode(envelope.payload);
                statuses.push(ResponseStatusCode::from_code(response.expect("an answer").status_code));
            }
        }
    }
    // A name that is too long is refused before the others have their turn.
    let first = statuses.iter().find(|status| **status != ResponseStatusCode::Error);
    assert_eq!(first, Some(&ResponseStatusCode::Ok));
    let count = |of| statuses.iter().filter(|status| **status == of).count();
    assert_eq!(count(ResponseStatusCode::ProcessNameAlreadyExist), 1);
    assert!((3..=4).contains(&count(ResponseStatusCode::Error)), "{}", count(ResponseStatusCode::Error));
    let made = count(ResponseStatusCode::Ok);
    assert!((9..=13).contains(&made), "{made}");
    drop(call);
    as_before(a, good).await;
}

/// Covers: T34, DIAG-05
#[tokio::test(flavor = "multi_thread")]
async fn patterns_of_diagnostics_are_bounded() {
    let (a, good) = pair([ConfigOption::with_diagnostics(true), {
        let mut limits = Limits::new();
        limits.diagnostics_per_second = 1_000;
        ConfigOption::with_limits(limits)
    }])
    .await;
    a.system.spawn(&"a".repeat(200), Props::from_fn(|| Bomber(Heard::default()))).expect("free");
    let mut client = RemotingClient::new(raw::channel(a.remote.address()).await, raw::MESSAGE_BYTES);
    let mut list = async |pattern: &str, r#type| {
        let request = ListProcessesRequest { pattern: pattern.to_owned(), r#type };
        within("an answer", client.list_processes(request)).await.map(|answer| answer.into_inner().pids.len())
    };
    let long = "a".repeat(200);
    for (pattern, kind, found) in
        [("ech", 0, 1), ("ech", 1, 0), ("echo", 1, 1), ("^e.h", 2, 1), (&long, 1, 1)]
    {
        assert_eq!(list(pattern, kind).await.expect("sound"), found, "{pattern} {kind}");
    }
    // Where a matcher that goes back takes longer than there is time.
    assert_eq!(list("^(a*)*(a*)*(a*)*b$", 2).await.expect("linear"), 0);
    for (pattern, kind) in [("(", 2), ("(a{1000}){1000}", 2), (&*"x".repeat(2_000), 0), ("echo", 9)] {
        assert_eq!(list(pattern, kind).await.expect_err("refused").code(), Code::InvalidArgument);
    }
    drop(client);
    as_before(a, good).await;
}

/// A connection of HTTP/2 without a gRPC library on it.
async fn plain_connection(address: &str) -> (h2::client::SendRequest<bytes::Bytes>, h2::PingPong) {
    let socket = TcpStream::connect(address).await.expect("it listens");
    let (requests, mut connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
    let pings = connection.ping_pong().expect("not taken yet");
    tokio::spawn(connection);
    (requests.ready().await.expect("it takes requests"), pings)
}

/// What a Go node answers by closing the connection costs nothing here.
#[tokio::test(flavor = "multi_thread")]
async fn pings_in_a_row_are_answered() {
    let (a, good) = pair([]).await;
    let (requests, mut pings) = plain_connection(a.remote.address()).await;
    for _ in 0..8 {
        within("an answer", pings.ping(h2::Ping::opaque())).await.expect("the connection lives");
    }
    drop((requests, pings));
    as_before(a, good).await;
}

/// Opens a call whose first frame is marked as said; the status it is refused with, or none when it is answered.
async fn first_frame(
    requests: &mut h2::client::SendRequest<bytes::Bytes>,
    address: &str,
    encoding: Option<&str>,
    flag: u8,
) -> Option<String> {
    let mut request = http::Request::post(format!("http://{address}/remote.Remoting/Receive"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let (response, mut body) =
        requests.send_request(request.body(()).expect("a request"), false).expect("a stream");
    let hello = server_hello("raw", "127.0.0.1:1");
    let mut frame = vec![flag];
    frame.extend_from_slice(&(hello.len() as u32).to_be_bytes());
    frame.extend_from_slice(&hello);
    // Refused by its headers, the call may be over by now.
    let _ = body.send_data(frame.into(), false);
    let (head, mut down) = within("headers", response).await.expect("an answer").into_parts();
    let status = |headers: &http::HeaderMap| {
        headers.get("grpc-status").map(|status| status.to_str().expect("digits").to_owned())
    };
    if let Some(status) = status(&head.headers) {
        return Some(status);
    }
    match within("an answer", down.data()).await {
        Some(answer) => answer.map(|_| None).expect("bytes"),
        None => status(&within("trailers", down.trailers()).await.expect("an end")?),
    }
}

/// Nothing on this wire is compressed: a call that says so, or has a frame that is marked so, is refused, and its
/// connection goes on serving.
#[tokio::test(flavor = "multi_thread")]
async fn compression_ends_its_call_only() {
    let (a, good) = pair([]).await;
    let address = a.remote.address();
    let (mut requests, mut pings) = plain_connection(address).await;
    // Internal: the mark means nothing on a call that has not said how it compresses.
    assert_eq!(first_frame(&mut requests, address, None, 1).await.as_deref(), Some("13"));
    // Unimplemented, as a Go node answers.
    assert_eq!(first_frame(&mut requests, address, Some("gzip"), 1).await.as_deref(), Some("12"));
    assert_eq!(first_frame(&mut requests, address, None, 0).await, None, "a proper one is answered");
    within("an answer", pings.ping(h2::Ping::opaque())).await.expect("the connection lives");
    drop((requests, pings));
    as_before(a, good).await;
}

/// The text of an address is a Go node's own: it compares it with what it advertises, and passes on what differs. A peer
/// that writes its address otherwise than we do is written to as it writes, and its own pids are its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_called_as_it_spells_itself() {
    let mut server = RawServer::start(Manners::default()).await;
    let (address, port) = (server.address(), server.address.port());
    let a = node([ConfigOption::with_wire_form(&address, WireForm::W1)]).await;
    // Canonically the same.
    let spelled = format!("[::ffff:127.0.0.1]:{port}");
    let to = a.remote.address().to_owned();
    let seen = Heard::default();
    let told = seen.clone();
    let watching = a.system.spawn("watcher", Props::from_fn(move || Watcher(told.clone()))).expect("free");

    // A reference from before the peer said so.
    let there = a.at(&address, "there");
    let call = RawCall::shake(&to, server_hello("raw", &spelled)).await;
    watching.tell(Watch::Begin(there.clone()));
    seen.until("the watch", |all| all.len() == 1).await;
    there.tell(Echo::Note("x".to_owned()));
    let mine = Some(pid(&spelled, "mine"));
    call.send(sent(batch(&to, "echo", Some((&spelled, "mine")), &[note("asked")])));
    call.send(sent(batch(
        &to,
        "echo",
        None,
        &[("actor.Watch", actor::Watch { watcher: mine }.encode_to_vec())],
    )));
    eventually("its watch is taken", || a.remote.peer_watches() == 1).await;
    let mut left = vec![
        "actor.Watch there",
        "actor.Touch there",
        "google.protobuf.StringValue there",
        "google.protobuf.StringValue mine",
        "actor.Terminated mine",
    ];
    let mut told = false;
    while !left.is_empty() {
        if left.len() == 1 && !std::mem::replace(&mut told, true) {
            a.system.find("/user/echo").expect("it lives").stop();
        }
        let batch = server.batch().await;
        for envelope in batch.envelopes() {
            let envelope = envelope.expect("sound");
            assert_eq!(
                envelope.target.address,
                Some(&*spelled),
                "{} {}",
                envelope.type_name,
                envelope.target.id
            );
            let what = format!("{} {}", envelope.type_name, envelope.target.id);
            left.retain(|other| *other != what);
        }
    }
    let who = Some(pid(&spelled, "there"));
    let terminated = actor::Terminated { who, why: 0 }.encode_to_vec();
    call.send(sent(batch(&to, "$system/protoactor_watcher", None, &[("actor.Terminated", terminated)])));
    seen.until("its word of the end", |all| all.last().is_some_and(|line| line == "there stopped")).await;
    assert_eq!(a.remote.manager().endpoints().len(), 1, "one address, one endpoint");
    drop((call, there, watching));
    a.stop().await;
}

/// A peer may name any number of third nodes as those who ask. This one dials so many of them for it, and no more: an answer to
/// one beyond is recorded. Whom an actor here has a reference to does not count.
///
/// Covers: L6
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_few_others_dialled() {
    let mut limits = Limits::new();
    limits.named_peers = 2;
    let (a, good) = pair([ConfigOption::with_limits(limits)]).await;
    let to = a.remote.address().to_owned();
    // Nobody has to find out how it writes.
    let manners = Manners { is_nexus: true, ..Manners::default() };
    let mut third =
        [RawServer::start(manners).await, RawServer::start(manners).await, RawServer::start(manners).await];
    let addresses = third.each_ref().map(RawServer::address);
    let known = |address: &String| a.remote.manager().connection_state(address).is_some();
    let call = RawCall::shake(&to, server_hello("raw", "127.0.0.1:1")).await;
    let touch = || ("actor.Touch", Vec::new());
    // One that has nothing to send is not kept, so it does not count: these are clients who are not there.
    for name in ["client-a:1", "client-b:1", "client-c:1"] {
        call.send(sent(batch(&to, "echo", Some((name, "who")), &[touch()])));
    }
    for server in &mut third[..2] {
        call.send(sent(batch(&to, "echo", Some((&server.address(), "who")), &[touch()])));
        server.until("actor.Touched").await;
    }
    // Each kind of answer to one more.
    let spawn = ActorPidRequest { name: String::new(), kind: "unknown".to_owned() };
    let mut letters = a.events::<DeadLetterEvent>();
    for (id, message) in [
        ("echo", touch()),
        ("nobody", touch()),
        ("nobody", note("x")),
        ("echo", note("asks")),
        ("activator", ("remote.ActorPidRequest", spawn.encode_to_vec())),
    ] {
        call.send(sent(batch(&to, id, Some((&addresses[2], "who")), &[message])));
        let letter = letters.find(id, |letter| letter.reason() == DeadLetterReason::Limit).await;
        assert_eq!(letter.pid.as_ref().map(|pid| pid.address.to_string()), Some(addresses[2].clone()));
        assert!(!known(&addresses[2]));
    }
    // The two that there were are answered on.
    call.send(sent(batch(&to, "nobody", Some((&addresses[0], "who")), &[touch()])));
    third[0].until("actor.DeadLetterResponse").await;
    // Reached for here as well, it is the peer's no more, and there is room for another.
    let mine = a.at(&addresses[0], "mine");
    call.send(sent(batch(&to, "echo", Some((&addresses[2], "who")), &[touch()])));
    third[2].until("actor.Touched").await;
    drop((call, mine));
    for address in &addresses {
        a.remote.block_system(address).await;
    }
    as_before(a, good).await;
}

/// For a node that only a peer named, and that does not answer, few answers wait: a peer may name many such nodes.
///
/// Covers: L6
#[tokio::test(flavor = "multi_thread")]
async fn few_answers_wait_for_a_node_that_a_peer_named() {
    let mut limits = Limits::new();
    limits.system_messages = 20;
    let (a, good) = pair([ConfigOption::with_limits(limits)]).await;
    let to = a.remote.address().to_owned();
    let mute = RawServer::start(Manners { is_mute: true, ..Manners::default() }).await;
    let call = RawCall::shake(&to, server_hello("raw", "127.0.0.1:1")).await;
    let mut letters = a.events::<DeadLetterEvent>();
    let questions: Vec<_> = (0..100).map(|_| note("x")).collect();
    call.send(sent(batch(&to, "nobody", Some((&mute.address(), "who")), &questions)));
    letters.find("one too many", |letter| letter.reason() == DeadLetterReason::Limit).await;
    call.send(sent(batch(&to, "echo", None, &[note("behind")])));
    a.heard.until("what came behind", |all| all.len() == 1).await;
    let queue = a.remote.get_endpoint_statistics(&mute.address()).expect("it is dialled").queue_size;
    assert_eq!(queue, 20);
    drop(call);
    a.remote.block_system(&mute.address()).await;
    as_before(a, good).await;
}

/// Whoever calls in the name of another node does not decide how that one is written to: of two answers none counts, and it is
/// asked itself.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_decides_on_the_form_of_another() {
    let a = node([]).await;
    let to = a.remote.address().to_owned();
    let mut server = RawServer::start(Manners::default()).await;
    let address = server.address();
    let call = async |name: &str| RawCall::shake(&to, server_hello(name, &address)).await;
    let (true_one, false_one) = (call("true").await, call("false").await);
    let older = || sent(batch(&to, "echo", None, &[note("in its name")]));
    let newer = {
        let target = Arc::new(PidEntry::new(to.clone(), "echo"));
        let text = String::from("x").encode_to_vec();
        let type_name = TypeName { package: "google.protobuf", name: "StringValue" };
        let mut writer = BatchWriter::new(BatchLimits::default());
        writer.push(&OutgoingEnvelope::new(type_name, &text, &target)).expect("room");
        let mut message = Vec::new();
        writer.finish(WireForm::W2, &mut message);
        bytes::Bytes::from(message)
    };
    true_one.send(newer);
    a.heard.until("the true one", |all| all.len() == 1).await;
    false_one.send(older());
    a.heard.until("the false one", |all| all.len() == 2).await;

    let there = a.at(&address, "there");
    there.tell(Echo::Note("x".to_owned()));
    let asked = server.batch().await;
    assert_eq!(asked.type_name(0), Some("actor.Touch"));
    let asker = asked.sender(0).expect("who asks").id.to_owned();
    false_one.send(older());
    a.heard.until("it goes on", |all| all.len() == 3).await;
    // What a node of the newer form says to that. Only who was asked can.
    true_one.send(sent(batch(&to, &asker, None, &[("actor.DeadLetterResponse", Vec::new())])));
    let told = server.batch().await;
    assert_eq!(told.type_name(0), Some("google.protobuf.StringValue"));
    assert_eq!(told.form(), Some(WireForm::W2));
    drop((false_one, true_one, there));
    a.stop().await;
}

/// What stands in the payloads of the runtimes is as short as what stands in the tables of a batch: a watch is kept as long as
/// its actor, a request to spawn until it is its turn.
///
/// Covers: L11
#[tokio::test(flavor = "multi_thread")]
async fn names_in_payloads_are_bounded() {
    let (a, good) = pair([]).await;
    let to = a.remote.address().to_owned();
    let mut letters = a.events::<DeadLetterEvent>();
    let call = RawCall::shake(&to, server_hello("raw", "127.0.0.1:1")).await;
    let watch = |address: &str, length: usize| {
        let watcher = Some(pid(address, &"w".repeat(length)));
        ("actor.Watch", actor::Watch { watcher }.encode_to_vec())
    };
    let spawn = |name: usize, kind: usize| {
        let (name, kind) = ("n".repeat(name), "k".repeat(kind));
        ("remote.ActorPidRequest", ActorPidRequest { name, kind }.encode_to_vec())
    };
    let longest = BatchLimits::default();
    call.send(sent(batch(&to, "echo", None, &[watch("127.0.0.1:1", longest.id_bytes)])));
    eventually("the longest is taken", || a.remote.peer_watches() == 1).await;
    // The same address, with more zeros than anybody writes.
    let spelled = format!("127.0.0.1:{}1", "0".repeat(300));
    for (id, message) in [
        ("echo", watch("127.0.0.1:1", longest.id_bytes + 1)),
        ("echo", watch(&spelled, 1)),
        ("activator", spawn(longest.id_bytes + 1, 1)),
        ("activator", spawn(1, longest.name_bytes + 1)),
    ] {
        call.send(sent(batch(&to, id, None, &[message])));
        assert_eq!(letters.next(id).await.reason(), DeadLetterReason::Limit);
    }
    call.send(sent(batch(&to, "echo", None, &[note("behind")])));
    a.heard.until("what came behind", |all| all.len() == 1).await;
    assert_eq!(a.remote.peer_watches(), 1);
    drop(call);
    as_before(a, good).await;
}

/// A peer that hangs up while much of it waits here is not a new one when it calls again: what it has waiting is remembered
/// until it is worked off, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_has_waiting_outlives_its_call() {
    let mut limits = Limits::new();
    limits.mailbox_messages = 64;
    let (a, good) = pair([ConfigOption::with_limits(limits)]).await;
    let to = a.remote.address().to_owned();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (seen, closed) = (Heard::default(), gate.clone());
    let told = seen.clone();
    a.system.spawn("slow", Props::from_fn(move || Slow(closed.clone(), told.clone()))).expect("free");
    let address = "127.0.0.1:1";
    let mut call = RawCall::shake(&to, server_hello("raw", address)).await;
    // Too few to be counted while they come.
    call.send(sent(batch(&to, "slow", None, &[note("1"), note("2")])));
    call.send(sent(batch(&to, "echo", None, &[note("behind")])));
    a.heard.until("what came behind", |all| all.len() == 1).await;
    call.hang_up();
    call.end().await;
    drop(call);
    let is_known = || a.remote.manager().endpoints().iter().any(|one| &*one.address == address);
    // The end of the call and the count are one step: two more calls have come and gone since.
    for other in ["127.0.0.1:2", "127.0.0.1:3"] {
        let mut call = RawCall::shake(&to, server_hello("other", other)).await;
        call.hang_up();
        call.end().await;
        drop(call);
        eventually("it is forgotten", || {
            a.remote.manager().endpoints().iter().all(|one| &*one.address != other)
        })
        .await;
    }
    assert!(is_known(), "something of it waits");
    gate.add_permits(2);
    seen.until("both", |all| all.len() == 2).await;
    as_before(a, good).await;
}

/// Whatever waits in the mailbox of an actor counts, questions whether it lives as well: a peer that goes on asking one that is
/// busy is not read.
///
/// Covers: L30
#[tokio::test(flavor = "multi_thread")]
async fn questions_to_a_busy_actor_are_counted() {
    const TOUCHES: u64 = 5_000;
    let mut limits = Limits::new();
    limits.mailbox_messages = 64;
    let (a, good) = pair([ConfigOption::with_limits(limits), ConfigOption::with_peer_lifecycle(true)]).await;
    let to = a.remote.address().to_owned();
    for message in ["actor.Touch", "actor.PoisonPill"] {
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let (seen, closed) = (Heard::default(), gate.clone());
        let told = seen.clone();
        a.system.spawn("slow", Props::from_fn(move || Slow(closed.clone(), told.clone()))).expect("free");
        // As nodes of ours, clients are told how much was taken, and every second while nothing is.
        let mut call = RawCall::shake(&to, client_hello("raw")).await;
        call.send(sent(batch(&to, "slow", None, &[note("first")])));
        let from = Some(("client-raw:1", "asker"));
        for _ in 0..TOUCHES / 10 {
            let questions: Vec<_> = (0..10).map(|_| (message, Vec::new())).collect();
            call.send(sent(batch(&to, "slow", from, &questions)));
        }
        let mut taken = 0;
        loop {
            if let Some(Incoming::Acknowledge(now)) = call.next().await.expect("it serves") {
                assert!(now <= TOUCHES, "all of them wait in a mailbox");
                if now == taken {
                    break;
                }
                taken = now;
            }
        }
        gate.add_permits(1);
        if message == "actor.Touch" {
            // It goes on when there is room.
            let is_all = |now| now == TOUCHES + 1;
            while !matches!(call.next().await, Ok(Some(Incoming::Acknowledge(now))) if is_all(now)) {}
        }
        a.system.find("/user/slow").into_iter().for_each(|slow| slow.stop());
        eventually("its name is free", || a.system.find("/user/slow").is_none()).await;
        drop(call);
    }
    as_before(a, good).await;
}

/// Takes a message for each permit.
struct Slow(Arc<tokio::sync::Semaphore>, Heard);

impl Actor for Slow {
    type Msg = Echo;
    async fn receive(&mut self, message: Echo, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
        if let Echo::Note(text) = message {
            self.1.push(text);
        }
        Ok(())
    }
}
