//! What an operator sees of this wire.

mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::serialization::protobuf::{ProtobufCodec, ProtobufForm};
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, AskError, Context, DeadLetterReason, Props, Refusal, Reply};
use nexus_remote::metrics::{HttpServer, MetricsRegistry};
use nexus_remote::{EndpointConnectedEvent, EndpointSource, EndpointStatisticsSnapshot};
use nexus_remote_grpc::ConfigOption;
use nexus_remote_grpc::endpoint_state::ReconnectPolicy;
use nexus_remote_grpc::wire::batch::BatchLimits;
use support::proxy::Proxy;
use support::{Echo, TestNode, local, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The value of a series, 0 where there is none.
fn value(text: &str, name: &str, address: &str) -> f64 {
    let labels = [format!("address=\"{address}\""), "protocol=\"protoactor\"".to_owned()];
    text.lines()
        .filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn sums(source: &dyn EndpointSource, address: &str) -> EndpointStatisticsSnapshot {
    let all = source.endpoints();
    let of_address = all.iter().filter(|report| *report.address == *address);
    of_address
        .fold(EndpointStatisticsSnapshot::default(), |sum, report| sum.plus(&report.statistics.totals()))
}

/// Covers: MET-01, MET-02, MET-03, MET-04, MET-05, MET-06, MET-08, ST-06, ST-12, DL-09
#[tokio::test(flavor = "multi_thread")]
async fn figures_are_exported_and_totals_never_go_back() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let address = b.remote.address().to_owned();
    let registry = MetricsRegistry::new();
    registry.add_source(a.remote.clone());
    let far = a.far(&b, "echo");
    for number in 0..9 {
        far.tell(Echo::Count(number));
    }
    assert_eq!(a.ask(&far, "x").await.as_deref(), Ok("re:x"));
    let nobody = a.far(&b, "nobody");
    assert!(a.ask(&nobody, "x").await.is_err());

    let text = registry.encode();
    assert!(value(&text, "nexus_endpoint_sent_total", &address) >= 11.0, "{text}");
    assert!(value(&text, "nexus_endpoint_queue_capacity", &address) >= 1.0, "{text}");
    for name in [
        "nexus_endpoint_queue_size",
        "nexus_endpoint_deadletters_total",
        "nexus_endpoint_send_failures_total",
        "nexus_endpoint_reconnect_attempts_total",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }

    // The endpoint ends with its last reference, its totals do not.
    let before = sums(&a.remote, &address).sent;
    let mut ended = a.events::<nexus_remote::EndpointTerminatedEvent>();
    drop((far, nobody));
    b.stop().await;
    ended.next("the end").await;
    assert!(a.remote.get_endpoint_statistics(&address).is_none());
    let after = registry.encode();
    assert!(value(&after, "nexus_endpoint_sent_total", &address) >= before as f64, "{after}");
    assert!(sums(&a.remote, &address).sent >= before);
    a.stop().await;
}

/// Hands the question on to the test, which answers when it wants to.
struct Keeper(tokio::sync::mpsc::UnboundedSender<Reply<String>>);

impl Actor for Keeper {
    type Msg = Echo;
    async fn receive(&mut self, message: Echo, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Echo::Say(_, reply) = message {
            let _ = self.0.send(reply);
        }
        Ok(())
    }
}

/// Cannot be encoded.
#[derive(Debug)]
struct Broken;

impl Message for Broken {
    const MANIFEST: &'static str = "test.broken@1";
    const PROTOBUF: Option<ProtobufCodec<Self>> = Some(ProtobufCodec {
        forms: &[ProtobufForm::tell_of::<String>()],
        encode: |_, _| Err(EncodeError::failed("broken")),
        decode: |named| Err(named.unknown::<Self>()),
    });
    fn encode(&self, _: &mut Encoder<'_>) -> Result<(), EncodeError> {
        Err(EncodeError::failed("broken"))
    }
    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError::failed("broken"))
    }
}

/// Whatever is refused counts once, when it is given up, by whichever way it was sent; as a dead letter too where its sender
/// has not got it back. What is accepted does not count, also when it had to wait.
///
/// Covers: MET-01, ST-06, ST-07, BP-04
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_counts_once_when_it_is_given_up() {
    let config = || local().with([ConfigOption::with_endpoint_writer_queue_size(1)]);
    let (a, b) = (TestNode::start("a", config()).await, TestNode::start("b", local()).await);
    let address = b.remote.address().to_owned();
    // Failures to send, and dead letters.
    let counts = || {
        let counted = sums(&a.remote, &address);
        (counted.send_failures, counted.dead_letters)
    };
    let (questions, mut kept) = tokio::sync::mpsc::unbounded_channel();
    a.system.spawn("keeper", Props::from_fn(move || Keeper(questions.clone()))).expect("a free name");
    let far = a.far(&b, "echo");
    let broken =
        a.remote.resolve::<Broken>(&nexus_actor_core::pid::Pid::new(&*address, "echo")).expect("a pid");
    assert_eq!(a.ask(&far, "x").await.as_deref(), Ok("re:x"));
    let keeper = b.far(&a, "keeper");
    let mut replies = Vec::new();
    let _asked = [0, 1].map(|_| keeper.ask(|reply| Echo::Say("later".to_owned(), reply)));
    for _ in 0..2 {
        replies.push(within("the question", kept.recv()).await.expect("the keeper lives"));
    }
    assert_eq!(counts(), (0, 0));

    a.remote.suspend();
    far.tell(Echo::Count(0));
    assert_eq!(counts(), (0, 0), "there was room for it");
    let [mut dropped, mut failed] = [7, 8].map(|n| far.send(Echo::Count(n)));
    for _ in 0..3 {
        assert!(poll_once(&mut dropped).is_pending() && poll_once(&mut failed).is_pending());
    }
    assert_eq!(counts(), (0, 0), "they wait");
    far.tell(Echo::Count(1));
    assert_eq!(counts(), (1, 1));
    let refused = far.try_tell(Echo::Count(2)).expect_err("it is full");
    assert!(matches!(refused.refusal, Refusal::QueueFull { messages: 1, .. }), "{refused:?}");
    assert_eq!(counts(), (2, 1));
    assert_eq!(a.ask(&far, "x").await, Err(AskError::Full));
    assert_eq!(counts(), (3, 2));
    // That there is no answer is said once, with the answer or by itself.
    replies.pop().expect("two").send("late".to_owned());
    assert_eq!(counts(), (4, 3));
    drop(replies);
    assert_eq!(counts(), (5, 4));
    let large = "x".repeat(BatchLimits::default().message_bytes);
    let refused = far.try_tell(Echo::Note(large)).expect_err("it is too large");
    assert!(matches!(refused.refusal, Refusal::TooLarge { .. }), "{refused:?}");
    assert_eq!(counts(), (6, 4));
    let refused = broken.try_tell(Broken).expect_err("it has no form");
    assert!(matches!(refused.refusal, Refusal::Encode(_)), "{refused:?}");
    assert_eq!(counts(), (7, 4));
    drop(dropped);
    assert_eq!(counts(), (8, 4), "its sender dropped it");
    assert_eq!(a.system.dead_letters().total(), 4);

    // What waited is lost by the block, but had been taken.
    let mut letters = a.events::<DeadLetterEvent>();
    assert!(a.remote.block_system(&address).await);
    assert_eq!(letters.next("what waited").await.reason(), DeadLetterReason::Blocked);
    assert_eq!(counts(), (8, 5));
    assert!(matches!(poll_once(&mut failed), Poll::Ready(Err(_))));
    drop(failed);
    assert_eq!(counts(), (9, 5));
    far.tell(Echo::Count(3));
    assert!(far.try_tell(Echo::Count(4)).is_err());
    let refused = far.send(Echo::Count(5)).await.expect_err("it is blocked");
    assert_eq!(refused.refusal, Refusal::Blocked);
    assert_eq!(a.ask(&far, "x").await, Err(AskError::Blocked));
    assert_eq!(counts(), (13, 7));
    assert!(a.remote.unblock_system(&address).await);
    far.tell(Echo::Count(6));
    let mut taken = far.send(Echo::Count(9));
    assert!(poll_once(&mut taken).is_pending() && poll_once(&mut taken).is_pending());
    a.remote.resume();
    within("room", taken).await.expect("it is taken");
    b.heard.until("what was taken again", |all| all == ["6", "9"]).await;
    assert_eq!(counts(), (13, 7), "it had only waited");
    a.stop().await;
    b.stop().await;
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut TaskContext::from_waker(Waker::noop()))
}

/// Head and body of what the server gives.
async fn get(server: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(server).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {server}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut text = String::new();
    within("the answer", stream.read_to_string(&mut text)).await.expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head.to_lowercase(), body.to_owned())
}

/// Covers: TST-40, MET-01, MET-05, MET-07
#[tokio::test(flavor = "multi_thread")]
async fn known_totals_are_served_over_http() {
    let proxy = Proxy::new().await;
    let b = TestNode::start("b", local().with([ConfigOption::with_advertised_host(proxy.address())])).await;
    proxy.set_target(b.remote.bound_address().expect("it listens"));
    let config = local().with([
        ConfigOption::with_endpoint_writer_queue_size(1),
        ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(
            1_000,
            Duration::from_millis(20),
        )),
    ]);
    let a = TestNode::start("a", config).await;
    let registry = MetricsRegistry::new();
    for node in [&a, &b] {
        registry.add_source(node.remote.clone());
        registry.add_system(&node.system);
    }
    let server = HttpServer::bind(([127, 0, 0, 1], 0).into(), registry.clone()).await.expect("a free port");
    let at = server.local_address();
    let (to_b, to_a) = (proxy.address(), a.remote.address().to_owned());

    // Ten answers, and the refusal of one question, which is no loss of what goes to who asked.
    let (far, nobody) = (a.far(&b, "echo"), a.far(&b, "nobody"));
    for _ in 0..10 {
        assert_eq!(a.ask(&far, "x").await.as_deref(), Ok("re:x"));
    }
    assert_eq!(a.ask(&nobody, "x").await, Err(AskError::NoSuchActor));
    // One loss, and one answer behind it.
    let mut again = a.events::<EndpointConnectedEvent>();
    proxy.cut();
    again.next("the connection").await;
    assert_eq!(a.ask(&far, "x").await.as_deref(), Ok("re:x"));
    // One waits, two are refused, of which one is given up.
    a.remote.suspend();
    far.tell(Echo::Count(0));
    far.tell(Echo::Count(1));
    assert!(far.try_tell(Echo::Count(2)).is_err());

    let (head, text) = get(at, "/metrics").await;
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    let served = |series: &str, address: &str| {
        let start = format!("{series}{{address=\"{address}\",protocol=\"protoactor\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start} in {text}")).parse::<u64>().expect("a number")
    };
    for (series, of_b, of_a) in [
        ("nexus_endpoint_sent_total", 12, 12),
        ("nexus_endpoint_received_total", 12, 12),
        ("nexus_endpoint_deadletters_total", 1, 0),
        ("nexus_endpoint_send_failures_total", 2, 0),
        ("nexus_endpoint_reconnect_attempts_total", 1, 0),
        ("nexus_endpoint_queue_size", 1, 0),
    ] {
        assert_eq!((served(series, &to_b), served(series, &to_a)), (of_b, of_a), "{series}: {text}");
    }
    assert_eq!(served("nexus_endpoint_queue_capacity", &to_b), 1);

    let (head, body) = get(at, "/healthz").await;
    assert!(head.starts_with("http/1.1 200 ") && body == "ok\n", "{head} {body}");
    a.system.begin_shutdown();
    let (head, body) = get(at, "/healthz").await;
    assert!(head.starts_with("http/1.1 503 ") && body == "shutting down\n", "{head} {body}");
    server.shutdown().await;
    a.stop().await;
    b.stop().await;
}
