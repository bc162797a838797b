//! Two who say that they are the same: without certificates the one that lives keeps its place, and the one that is gone
//! makes room for itself.

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use nexus_actor_core::Props;
use nexus_remote::{ClientConnectedEvent, EndpointTerminatedEvent};
use nexus_remote_grpc::{Config, ConfigOption};
use support::proxy::Proxy;
use support::raw::{Manners, RawCall, RawServer, batch, client_hello, note, sent, server_hello};
use support::{Echo, Heard, TestNode, Watch, Watcher, local, own_host, within};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tonic::{Code, Status};

/// How a call is answered: taken, or the status that it ends with.
async fn answered(to: &str, hello: bytes::Bytes) -> Result<RawCall, Status> {
    let mut call = RawCall::open(to, hello).await?;
    call.response().await?;
    Ok(call)
}

fn code(answer: Result<RawCall, Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| status.code())
}

/// Covers: T10
#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_place_of_a_client_that_lives() {
    let server = TestNode::start("server", local()).await;
    let client = TestNode::start_client("client", local()).await;
    assert!(client.ask(&client.far(&server, "echo"), "x").await.is_ok());
    let back = server.at(client.remote.address(), "echo");
    let mut connected = server.events::<ClientConnectedEvent>();
    let mut ended = server.events::<EndpointTerminatedEvent>();
    let id = client.remote.system_id().to_owned();
    for _ in 0..3 {
        let refused = answered(server.remote.address(), client_hello(&id)).await;
        let status = refused.err().expect("it is taken");
        assert_eq!(status.code(), Code::AlreadyExists);
        assert_eq!(status.message(), "a client of that id is connected, and lives");
        assert_eq!(server.ask(&back, "you").await.as_deref(), Ok("re:you"));
    }
    assert!(connected.try_next().is_none() && ended.try_next().is_none(), "the first call serves");
    // Another id is another client.
    assert_eq!(code(answered(server.remote.address(), client_hello("another")).await), Code::Ok);
    client.stop().await;
    server.stop().await;
}

/// However it is spelled: a server that claims the address of a client is not taken for that client.
///
/// Covers: T10
#[tokio::test(flavor = "multi_thread")]
async fn no_server_has_the_address_of_a_client() {
    let server = TestNode::start("server", local()).await;
    let client = TestNode::start_client("client", local()).await;
    assert!(client.ask(&client.far(&server, "echo"), "x").await.is_ok());
    let (id, address) = (client.remote.system_id(), client.remote.address());
    let dotted = address.replace(":1", ".:1");
    let spelled = [address.to_owned(), address.to_uppercase(), dotted.clone(), dotted.to_uppercase()];
    for claimed in
        spelled.iter().map(String::as_str).chain(["client-away:1", "Client-away:1", "client-away.:1"])
    {
        let refused = answered(server.remote.address(), server_hello(id, claimed)).await;
        let status = refused.err().unwrap_or_else(|| panic!("{claimed} was taken"));
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "an address that only clients have")
        );
    }
    assert_eq!(server.remote.manager().endpoints().len(), 1, "the client's");
    let back = server.at(address, "echo");
    assert_eq!(server.ask(&back, "you").await.as_deref(), Ok("re:you"));
    client.stop().await;
    server.stop().await;
}

/// Covers: S155
#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_old_call_ends_meanwhile_waits_no_longer() {
    let timeout = ConfigOption::with_handshake_timeout(Duration::from_secs(3_600));
    let server = TestNode::start("server", local().with([timeout])).await;
    let to = server.remote.address().to_owned();
    let mut silent = RawCall::shake(&to, client_hello("raw")).await;
    let again = tokio::spawn(async move { code(answered(&to, client_hello("raw")).await) });
    // It is asked whether it lives, so the second call is there.
    assert!(matches!(silent.next().await, Ok(Some(nexus_remote_grpc::wire::batch::Incoming::Batch(_)))));
    drop(silent);
    assert_eq!(within("the second call", again).await.expect("it ran"), Code::Ok);
    server.stop().await;
}

/// Covers: T10
#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_node_that_answers_there_is_not_given_to_a_stranger() {
    let a = TestNode::start("a", local()).await;
    let b = TestNode::start("b", local()).await;
    let there = a.far(&b, "echo");
    assert_eq!(a.ask(&there, "x").await.as_deref(), Ok("re:x"));
    let seen = Heard::default();
    let heard = seen.clone();
    let watcher = a.system.spawn("watcher", Props::from_fn(move || Watcher(heard.clone()))).expect("free");
    watcher.tell(Watch::Begin(there.clone()));
    seen.until("the watch", |all| all.len() == 1).await;
    let mut ended = a.events::<EndpointTerminatedEvent>();
    for _ in 0..3 {
        let refused = answered(a.remote.address(), server_hello("stranger", b.remote.address())).await;
        let status = refused.err().expect("it is taken");
        assert_eq!(status.code(), Code::AlreadyExists);
        assert_eq!(status.message(), "another node answers at that address");
        assert_eq!(a.ask(&there, "x").await.as_deref(), Ok("re:x"));
    }
    assert_eq!(b.ask(&b.far(&a, "echo"), "y").await.as_deref(), Ok("re:y"));
    assert!(ended.try_next().is_none() && seen.len() == 1, "the node there was disturbed");
    // Who says the id of the node there is taken for it: without a certificate no more can be asked.
    let hello = server_hello(b.remote.system_id(), b.remote.address());
    assert_eq!(code(answered(a.remote.address(), hello).await), Code::Ok);
    a.stop().await;
    b.stop().await;
}

/// A node that was started again calls before its end is noticed.
///
/// Covers: T10
#[tokio::test(flavor = "multi_thread")]
async fn the_call_of_a_node_waits_until_the_one_before_it_is_gone() {
    let mut before = RawServer::start(Manners { is_nexus: true, ..Manners::default() }).await;
    let link = Proxy::to(&before.address()).await;
    let timeout = ConfigOption::with_handshake_timeout(Duration::from_secs(3_600));
    let a = TestNode::start("a", local().with([timeout])).await;
    a.at(&link.address(), "echo").tell(Echo::Note("x".to_owned()));
    before.batch().await;
    let (to, hello) = (a.remote.address().to_owned(), server_hello("started again", &link.address()));
    let again = tokio::spawn(async move { code(answered(&to, hello).await) });
    before.until("actor.Touch").await;
    link.cut();
    assert_eq!(within("an answer", again).await.expect("it ran"), Code::Ok);
    a.stop().await;
}

/// Covers: T10
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_came_first_goes_when_the_address_is_answered_by_another() {
    let a = TestNode::start("a", local()).await;
    let b = TestNode::start("b", local()).await;
    let mut stranger = RawCall::shake(a.remote.address(), server_hello("stranger", b.remote.address())).await;
    stranger.send(sent(batch(a.remote.address(), "echo", None, &[note("nobody was there yet")])));
    a.heard.until("the note", |all| all.len() == 1).await;
    assert_eq!(a.ask(&a.far(&b, "echo"), "x").await.as_deref(), Ok("re:x"));
    assert_eq!(stranger.end().await, Code::PermissionDenied);
    assert_eq!(b.ask(&b.far(&a, "echo"), "y").await.as_deref(), Ok("re:y"));
    a.stop().await;
    b.stop().await;
}

const ADDRESS: &str = "NEXUS_CLAIMS_NODE_ADDRESS";
const SERVER: &str = "NEXUS_CLAIMS_SERVER";

/// Not a test of its own: the node of the test below, run as a process that can be killed. It prints its address, and calls
/// the node that it is told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_in_another_process() {
    let Ok(at) = std::env::var(ADDRESS) else { return };
    let (host, port) = at.split_once(':').expect("a host and a port");
    let server = std::env::var(SERVER).expect("set together");
    let node = TestNode::start("b", Config::new(host, port.parse().expect("a number"))).await;
    println!("listening {}", node.remote.address());
    node.at(&server, "echo").tell(Echo::Note(node.remote.system_id().to_owned()));
    std::future::pending::<()>().await;
}

struct OurProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl OurProcess {
    async fn start(at: &str, server: &str) -> (Self, String) {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_node_in_another_process", "--nocapture"])
            .env(ADDRESS, at)
            .env(SERVER, server)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut process = Self { child, lines };
        let address = within("its address", async {
            loop {
                let line = process.lines.next_line().await.expect("text").expect("it lives");
                if let Some((_, address)) = line.split_once("listening ") {
                    return address.to_owned();
                }
            }
        })
        .await;
        (process, address)
    }
}

/// Covers: T10
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_and_started_again_is_usable_within_a_second() {
    let a = TestNode::start("a", local()).await;
    let (mut b, address) = OurProcess::start(&format!("{}:0", own_host()), a.remote.address()).await;
    let there = a.at(&address, "echo");
    let mut fastest = Duration::MAX;
    for life in 1..=5 {
        let listening = Instant::now();
        // Its call is taken, though a node of another id has just answered at its address.
        a.heard.until("its own call", |all| all.len() == life).await;
        within("an answer", async {
            while there.ask(|reply| Echo::Say("x".to_owned(), reply)).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        if life > 1 {
            fastest = fastest.min(listening.elapsed());
        }
        b.child.kill().await.expect("it is ours");
        (b, _) = OurProcess::start(&address, a.remote.address()).await;
    }
    // A busy machine may be longer about it once or twice. What is waited for by the clock would be waited for each time.
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    a.stop().await;
}

/// Whoever takes all the places of a node in its name has them until the node itself calls: then the address is dialled, and
/// who does not answer there is sent away.
///
/// Covers: T10
#[tokio::test(flavor = "multi_thread")]
async fn the_places_of_a_node_are_its_own() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let to = a.remote.address().to_owned();
    let mut false_ones = Vec::new();
    for _ in 0..a.remote.config().get_limits().inbound_calls {
        false_ones.push(RawCall::shake(&to, server_hello("false", b.remote.address())).await);
    }
    assert_eq!(b.ask(&b.far(&a, "echo"), "x").await.as_deref(), Ok("re:x"));
    for mut call in false_ones {
        assert_eq!(call.end().await, Code::PermissionDenied);
    }
    b.stop().await;
    a.stop().await;
}
