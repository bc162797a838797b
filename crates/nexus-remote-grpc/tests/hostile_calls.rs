//! Peers that take more than their share of a node: of its dials, of the memory of its queues, of what it keeps of messages
//! that do not end.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use nexus_remote_grpc::ConfigOption;
use nexus_remote_grpc::config::Limits;
use nexus_remote_grpc::wire::proto::actor;
use nexus_remote_grpc::wire::proto::remote::{MessageBatch, MessageEnvelope};
use support::raw::{RawCall, client_hello, sent, server_hello};
use support::{Echo, TestNode, local, within};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

fn pid(address: &str, id: &str) -> actor::Pid {
    actor::Pid { address: address.to_owned(), id: id.to_owned(), request_id: 0 }
}

/// Messages without payload for `id`, of a type that nobody knows, from `sender`.
fn unknown(node: &TestNode, id: &str, sender: &str, count: usize) -> MessageBatch {
    MessageBatch {
        type_names: vec!["unknown".into()],
        targets: vec![pid(node.remote.address(), id)],
        senders: vec![pid(sender, "sender")],
        envelopes: vec![MessageEnvelope { sender: 1, ..MessageEnvelope::default() }; count],
    }
}

async fn serves(a: &TestNode, good: &TestNode) {
    assert_eq!(good.ask(&good.far(a, "echo"), "still").await.expect("an answer"), "re:still");
}

/// Who calls in the names of many addresses at which somebody takes connections and says nothing has few of them dialled at a
/// time, and others that are dialled wait for none of them.
///
/// Covers: T32, L25
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_few_dials_under_way() {
    const CLAIMS: usize = 24;
    const SHARE: usize = 4;
    let mut limits = Limits::new();
    limits.dials = 4 * SHARE;
    let a = TestNode::start("a", local().with([ConfigOption::with_limits(limits)])).await;
    let (taken, mut dialled) = mpsc::unbounded_channel();
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut calls = Vec::new();
    for number in 0..CLAIMS {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = silent.local_addr().expect("bound").to_string();
        let (taken, open, most) = (taken.clone(), open.clone(), most.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = silent.accept().await {
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let _ = taken.send(number);
                let open = open.clone();
                tokio::spawn(async move {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let call = RawCall::shake(a.remote.address(), server_hello("raw", &address)).await;
        call.send(sent(unknown(&a, "nobody", &address, 1)));
        calls.push((address, call));
    }
    for _ in 0..SHARE {
        within("a dial", dialled.recv()).await;
    }
    // Whom an actor here reaches for is dialled at once, be it one of those that were claimed.
    let good = TestNode::start("good", local()).await;
    assert_eq!(a.ask(&a.far(&good, "echo"), "now").await.expect("an answer"), "re:now");
    let (address, _) = &calls[CLAIMS - 1];
    a.at(address, "wanted").tell(Echo::Note("now".to_owned()));
    // And of the others one after the other: who says nothing makes room.
    let mut seen = BTreeSet::new();
    within("each is dialled", async {
        while seen.len() < CLAIMS - SHARE {
            seen.extend(dialled.recv().await);
        }
    })
    .await;
    // A connection that is dropped here is seen to end a little later there.
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 2 * SHARE + 1, "{most} were dialled at a time");
    serves(&a, &good).await;
    within("the end", a.remote.shutdown(false)).await;
}

/// Who calls in many names, asks in each of them what is answered at length, and takes no answer, fills the queues of none of
/// them: what waits for all is bounded, and a good peer has its part of it.
///
/// Covers: L29
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_many_names_is_bounded_in_all() {
    const BYTES: usize = 4 * 1024 * 1024;
    let mut limits = Limits::new();
    limits.queue_bytes = BYTES;
    let a = TestNode::start("a", local().with([ConfigOption::with_limits(limits)])).await;
    let id = "n".repeat(500);
    let mut calls = Vec::new();
    for _ in 0..8 {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = silent.local_addr().expect("bound").to_string();
        let mut call = RawCall::shake(a.remote.address(), server_hello("raw", &address)).await;
        for _ in 0..2 {
            call.send(sent(unknown(&a, &id, &address, 4_096)));
        }
        // Behind what was sent before: when it is refused, all of that has been answered.
        call.send(server_hello("raw", "127.0.0.1:1"));
        call.end().await;
        calls.push((silent, call));
    }
    let waiting: u64 = a.remote.manager().endpoints().iter().map(|one| one.statistics.queue_size).sum();
    let bytes = waiting as usize * (id.len() + 128);
    assert!((BYTES / 2..=BYTES).contains(&bytes), "{bytes} bytes wait");
    let good = TestNode::start("good", local()).await;
    serves(&a, &good).await;
    within("the end", a.remote.shutdown(false)).await;
}

/// A peer of HTTP/2 that has introduced itself by one call and has begun a message on it, and as many more calls with the same.
struct Beginner {
    ups: Vec<h2::SendStream<Bytes>>,
    answer: h2::RecvStream,
    ended: tokio::task::JoinHandle<()>,
}

impl Beginner {
    const MESSAGE: usize = 1024 * 1024;

    async fn begin(node: &TestNode, name: &str, calls: usize, bytes: usize) -> Self {
        let socket = TcpStream::connect(node.remote.address()).await.expect("a connection");
        let (mut client, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
        let ended = tokio::spawn(async move { drop(connection.await) });
        let mut ups = Vec::new();
        let mut answers = Vec::new();
        for number in 0..calls {
            client = client.ready().await.expect("a call more");
            let request = http::Request::post("http://node/remote.Remoting/Receive")
                .header("content-type", "application/grpc")
                .body(())
                .expect("a request");
            let (answer, mut up) = client.send_request(request, false).expect("a call");
            let hello = client_hello(&format!("{name}-{number}"));
            let mut message = vec![0];
            message.extend((hello.len() as u32).to_be_bytes());
            message.extend(&hello[..]);
            up.send_data(message.into(), false).expect("taken");
            let mut answer = within("an answer", answer).await.expect("an answer").into_body();
            within("a response", answer.data()).await.expect("some").expect("a response");
            let mut begun = vec![0; bytes];
            begun[1..5].copy_from_slice(&(Self::MESSAGE as u32).to_be_bytes());
            up.send_data(begun.into(), false).expect("taken");
            ups.push(up);
            answers.push(answer);
        }
        Self { ups, answer: answers.swap_remove(0), ended }
    }
}

/// Who begins messages and ends none has little kept of them: the connection on which the oldest was begun is closed when all
/// are too much, and whoever ends what it has begun is not touched.
///
/// Covers: L9, T4
#[tokio::test(flavor = "multi_thread")]
async fn little_is_kept_of_messages_that_do_not_end() {
    let mut limits = Limits::new();
    limits.unfinished_bytes = 4 * Beginner::MESSAGE;
    let a = TestNode::start("a", local().with([ConfigOption::with_limits(limits)])).await;
    let good = TestNode::start("good", local()).await;
    serves(&a, &good).await;
    let first = Beginner::begin(&a, "first", 3, Beginner::MESSAGE).await;
    let mut others = Vec::new();
    for number in 0..3 {
        others.push(Beginner::begin(&a, &format!("other-{number}"), 1, Beginner::MESSAGE).await);
    }
    within("the end of the oldest", first.ended).await.expect("no panic");
    assert!(others.iter().all(|other| !other.ended.is_finished()));
    // One that ends is a batch of nobody known, and no end of its call.
    let Beginner { ups, .. } = &mut others[0];
    ups[0].send_data(vec![0; 5].into(), false).expect("taken");
    let large = "x".repeat(500_000);
    assert_eq!(good.ask(&good.far(&a, "echo"), &large).await.expect("an answer").len(), 3 + large.len());
    within("the end", a.remote.shutdown(false)).await;
}

/// However little of it comes, and however often: a message that was begun has its time.
///
/// Covers: L9, T3
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_begun_has_its_time() {
    let mut limits = Limits::new();
    limits.message_time = std::time::Duration::from_millis(300);
    let a = TestNode::start("a", local().with([ConfigOption::with_limits(limits)])).await;
    let good = TestNode::start("good", local()).await;
    serves(&a, &good).await;
    for bytes in [5, 100_000] {
        let mut slow = Beginner::begin(&a, "slow", 1, bytes).await;
        let (up, answer) = (&mut slow.ups[0], &mut slow.answer);
        let trailers = within("the end of the call", async {
            let mut drops = tokio::time::interval(std::time::Duration::from_millis(20));
            loop {
                tokio::select! {
                    _ = drops.tick() => drop(up.send_data(vec![0].into(), false)),
                    more = answer.data() => match more {
                        Some(more) => drop(more.expect("a connection")),
                        None => return answer.trailers().await.expect("a connection"),
                    },
                }
            }
        });
        let trailers = trailers.await.expect("a status");
        assert_eq!(trailers["grpc-status"], "4", "{bytes} bytes: {trailers:?}");
        serves(&a, &good).await;
    }
    within("the end", a.remote.shutdown(false)).await;
}
