//! Every option acts on a running node: each test fails when its option is ignored.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::system::ResolveError;
use nexus_actor_core::{Actor, ActorError, AskError, Context, DeadLetterReason, Props, Refusal};
use nexus_remote::association::{Overflow, Patience};
use nexus_remote::{EndpointReconnectEvent, EndpointTerminatedEvent};
use nexus_remote_grpc::config::Limits;
use nexus_remote_grpc::endpoint_state::{ConnectionState, ReconnectPolicy};
use nexus_remote_grpc::wire::batch::{BatchLimits, Incoming, WireForm};
use nexus_remote_grpc::wire::proto::actor;
use nexus_remote_grpc::wire::proto::remote::remote_message::MessageType;
use nexus_remote_grpc::wire::proto::remote::{
    ActorPidRequest, ActorPidResponse, GetProcessDiagnosticsRequest, ListProcessesRequest,
};
use nexus_remote_grpc::wire::remoting::RemotingClient;
use nexus_remote_grpc::{ConfigOption, Remote, RemoteError, ResponseStatusCode, SpawnRemoteError};
use prost::Message as _;
use support::proxy::Proxy;
use support::raw::{
    self, Manners, RawCall, RawServer, batch, client_hello, eventually, note, sent, server_hello,
};
use support::{Echo, Heard, TestNode, Watch, Watcher, local, nowhere, system, within};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::Code;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn limits(change: impl FnOnce(&mut Limits)) -> ConfigOption {
    let mut limits = Limits::new();
    change(&mut limits);
    ConfigOption::with_limits(limits)
}

async fn node(options: impl IntoIterator<Item = ConfigOption>) -> TestNode {
    TestNode::start("node", local().with(options)).await
}

/// A node with these options, a peer without any, and a question each way behind them.
async fn pair(options: impl IntoIterator<Item = ConfigOption>) -> (TestNode, TestNode) {
    let (a, b) = (node(options).await, node([]).await);
    assert_eq!(a.ask(&a.far(&b, "echo"), "hello").await.as_deref(), Ok("re:hello"));
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn host_and_port_are_listened_on_and_announced() {
    let address = nowhere();
    let (host, port) = address.split_once(':').expect("a host and a port");
    let port = port.parse().expect("a number");
    let one = node([ConfigOption::with_host(host), ConfigOption::with_port(port)]).await;
    assert_eq!(one.remote.bound_address().map(|at| at.to_string()), Some(address.clone()));
    assert_eq!(one.remote.address(), address);
    let other = node([ConfigOption::with_advertised_host("localhost")]).await;
    let bound = other.remote.bound_address().expect("it listens");
    assert_eq!(other.remote.address(), format!("localhost:{}", bound.port()));
    assert_eq!(one.ask(&one.far(&other, "echo"), "x").await.as_deref(), Ok("re:x"));
    one.stop().await;
    other.stop().await;
}

/// Covers: CFG-01, BP-06
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_writer_batch_size_cuts_batches() {
    let mut server = RawServer::start(Manners { is_nexus: true, ..Manners::default() }).await;
    let a = node([ConfigOption::with_endpoint_writer_batch_size(2)]).await;
    let there = a.at(&server.address(), "echo");
    for number in 0..50 {
        there.tell(Echo::Count(number));
    }
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 50 {
        sizes.push(server.batch().await.len());
    }
    assert!(sizes.iter().all(|size| *size <= 2), "{sizes:?}");
    a.stop().await;
}

/// Covers: CFG-02
#[tokio::test(flavor = "multi_thread")]
async fn queues_are_bounded_by_count_and_by_bytes() {
    for option in [
        ConfigOption::with_endpoint_writer_queue_size(2),
        ConfigOption::with_endpoint_writer_queue_bytes(1_200),
    ] {
        let (a, b) = pair([option.clone()]).await;
        let there = a.far(&b, "echo");
        a.remote.suspend();
        for _ in 0..5 {
            there.tell(Echo::Note("x".repeat(600)));
        }
        let waiting = a.remote.get_endpoint_statistics(b.remote.address()).expect("an endpoint").queue_size;
        assert_eq!(
            (waiting, a.system.dead_letters().count(DeadLetterReason::QueueFull)),
            (2, 3),
            "{option:?}"
        );
        a.remote.resume();
        b.heard.until("what was kept", |all| all.len() == 2).await;
        a.stop().await;
        b.stop().await;
    }
}

/// Takes messages and does nothing.
struct Quiet;

impl Actor for Quiet {
    type Msg = Echo;
    async fn receive(&mut self, _: Echo, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        Ok(())
    }
}

/// Covers: CFG-04, BP-10
#[tokio::test]
async fn endpoint_manager_queue_size_bounds_the_commands_that_wait() {
    for (size, spawned) in [(1, 1), (3, 3), (1_000, 5)] {
        let a = node([
            ConfigOption::with_endpoint_manager_batch_size(1),
            ConfigOption::with_endpoint_manager_queue_size(size),
        ])
        .await;
        let mut call = RawCall::shake(a.remote.address(), client_hello("raw")).await;
        let request = ActorPidRequest { name: String::new(), kind: "echo".into() }.encode_to_vec();
        let requests = vec![("remote.ActorPidRequest", request); 5];
        // One thread: nothing is worked off before all five are there.
        call.send(sent(batch(a.remote.address(), "activator", Some(("", "me")), &requests)));
        let mut statuses = Vec::new();
        while statuses.len() < 5 {
            let Some(Incoming::Batch(batch)) = call.next().await.expect("it lives") else { continue };
            for envelope in batch.envelopes() {
                let response = ActorPidResponse::decode(envelope.expect("sound").payload).expect("an answer");
                statuses.push(ResponseStatusCode::from_code(response.status_code));
            }
        }
        let count = |status| statuses.iter().filter(|other| **other == status).count();
        assert_eq!(count(ResponseStatusCode::Ok), spawned);
        assert_eq!(count(ResponseStatusCode::Unavailable), 5 - spawned);
        a.stop().await;
    }
}

/// Covers: CFG-03, BP-10
#[tokio::test]
async fn endpoint_manager_batch_size_gives_others_their_turn() {
    let mut most = Vec::new();
    for size in [1, 1_000] {
        let b = node([ConfigOption::with_endpoint_manager_batch_size(size)]).await;
        let count = Arc::new(AtomicUsize::new(0));
        let turn = Arc::new(tokio::sync::Notify::new());
        let (counts, turns) = (count.clone(), turn.clone());
        b.remote.register(
            "counted",
            Props::from_fn(move || {
                counts.fetch_add(1, Ordering::SeqCst);
                turns.notify_one();
                Quiet
            }),
        );
        let seen = count.clone();
        let looks = tokio::spawn(async move {
            turn.notified().await;
            seen.load(Ordering::SeqCst)
        });
        let call = RawCall::shake(b.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
        let request = ActorPidRequest { name: String::new(), kind: "counted".into() }.encode_to_vec();
        let requests = vec![("remote.ActorPidRequest", request); 20];
        call.send(sent(batch(b.remote.address(), "activator", None, &requests)));
        most.push(within("a turn", looks).await.expect("no panic"));
        eventually("all spawned", || count.load(Ordering::SeqCst) == 20).await;
        b.stop().await;
    }
    assert!(most[0] < most[1], "commands worked off before others had their turn: {most:?}");
}

/// Covers: HS-08, TST-35, TST-45
#[tokio::test(flavor = "multi_thread")]
async fn reconnect_options_decide_when_an_address_is_given_up() {
    let initial = ConfigOption::with_endpoint_reconnect_initial_backoff(ms(1));
    let retries = ConfigOption::with_endpoint_reconnect_max_retries(3);
    let a = node([initial, retries]).await;
    let mut terminated = a.events::<EndpointTerminatedEvent>();
    a.at(&nowhere(), "echo").tell(Echo::Count(1));
    let reason = terminated.next("the end").await.reason;
    assert!(reason.starts_with("unreachable after 3 attempts"), "{reason}");
    a.stop().await;
}

/// Covers: S91
#[tokio::test(flavor = "multi_thread")]
async fn queue_overflow_says_which_message_goes() {
    for (option, kept) in [
        (ConfigOption::with_queue_overflow(Overflow::RefuseNewest), ["0", "1"]),
        (ConfigOption::with_queue_overflow(Overflow::DropOldest), ["2", "3"]),
        (ConfigOption::with_drop_oldest(), ["2", "3"]),
    ] {
        let (a, b) = pair([option, ConfigOption::with_endpoint_writer_queue_size(2)]).await;
        let there = a.far(&b, "echo");
        a.remote.suspend();
        for number in 0..4 {
            there.tell(Echo::Count(number));
        }
        assert_eq!(a.system.dead_letters().count(DeadLetterReason::QueueFull), 2);
        a.remote.resume();
        b.heard.until("what was kept", |all| all == kept).await;
        a.stop().await;
        b.stop().await;
    }
}

/// Covers: S99
#[tokio::test(flavor = "multi_thread")]
async fn queue_patience_keeps_or_drops_what_waits_for_a_reconnect() {
    for (patience, kept) in [(Patience::Keep, true), (Patience::Drop, false)] {
        let proxy = Proxy::new().await;
        let b = node([ConfigOption::with_advertised_host(proxy.address())]).await;
        proxy.set_target(b.remote.bound_address().expect("it listens"));
        let a = node([
            ConfigOption::with_queue_patience(patience),
            ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(1_000, ms(20))),
        ])
        .await;
        let there = a.far(&b, "echo");
        assert_eq!(a.ask(&there, "hello").await.as_deref(), Ok("re:hello"));
        let mut attempts = a.events::<EndpointReconnectEvent>();
        proxy.refuse();
        attempts.next("the loss").await;
        there.tell(Echo::Note("waits".to_owned()));
        let lost = a.system.dead_letters().count(DeadLetterReason::Unreachable);
        assert_eq!(lost, u64::from(!kept));
        proxy.accept();
        assert_eq!(
            within("the connection", a.remote.await_reconnect(&proxy.address())).await,
            Ok(ConnectionState::Connected)
        );
        there.tell(Echo::Note("after".to_owned()));
        let all = b.heard.until("what came", |all| all.last().is_some_and(|last| last == "after")).await;
        assert_eq!(all.len(), if kept { 2 } else { 1 });
        a.stop().await;
        b.stop().await;
    }
}

/// Covers: HS-06, T3
#[tokio::test(flavor = "multi_thread")]
async fn handshake_timeout_ends_calls_that_say_nothing() {
    let option = || ConfigOption::with_handshake_timeout(ms(200));
    // Of a peer that is called and does not answer.
    let mute = RawServer::start(Manners { is_mute: true, ..Manners::default() }).await;
    let once = ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(1, ms(1)));
    let a = node([option(), once]).await;
    let mut terminated = a.events::<EndpointTerminatedEvent>();
    a.at(&mute.address(), "echo").tell(Echo::Count(1));
    let event = terminated.next("the end").await;
    assert!(event.reason.contains("no connect response in time"), "{}", event.reason);
    // Of a peer that calls and does not say who it is.
    let ended = match RawCall::open(
        a.remote.address(),
        raw::message(MessageType::DisconnectRequest(Default::default())),
    )
    .await
    {
        Ok(mut call) => call.end().await,
        Err(status) => status.code(),
    };
    // Its connection is not waited for any longer either, and may be the first to go.
    assert!(matches!(ended, Code::DeadlineExceeded | Code::Unknown | Code::Unavailable), "{ended}");
    // And of a connection on which there is no call.
    let mut silent = TcpStream::connect(a.remote.address()).await.expect("a connection");
    let mut buffer = Vec::new();
    let _ = within("the end", silent.read_to_end(&mut buffer)).await;
    a.stop().await;
}

/// The clock stands from the call on, and moves while all wait for it: only what is waited for counts.
///
/// Covers: S109, T37
#[tokio::test]
async fn shutdown_options_bound_the_end_of_a_node_whose_peer_has_stopped_reading() {
    let frozen = RawServer::start(Manners { is_nexus: true, never_reads: true, ..Manners::default() }).await;
    let a = node([ConfigOption::with_shutdown_flush(ms(400)), ConfigOption::with_shutdown_timeout(ms(800))])
        .await;
    let there = a.at(&frozen.address(), "echo");
    // More than the windows of the connection hold.
    for _ in 0..40 {
        there.tell(Echo::Note("x".repeat(500_000)));
    }
    assert_eq!(
        within("the connection", a.remote.await_reconnect(&frozen.address())).await,
        Ok(ConnectionState::Connected)
    );
    // And one that has called and does not hang up.
    let _caller = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    tokio::time::pause();
    let began = Instant::now();
    within("the end", a.remote.shutdown(true)).await;
    let took = began.elapsed();
    assert!(took >= ms(400) && took <= ms(800 + 500), "{took:?}");
    assert!(a.system.dead_letters().count(DeadLetterReason::Shutdown) > 0);
    eventually("no task is left", || a.remote.tasks() == 0).await;
    a.stop().await;
}

/// Covers: S109
#[tokio::test]
async fn shutdown_timeout_is_the_longest_that_peers_are_waited_for() {
    for (flush, whole) in [(1_500, 2_000), (100, 300)] {
        let a = node([
            ConfigOption::with_shutdown_flush(ms(flush)),
            ConfigOption::with_shutdown_timeout(ms(whole)),
        ])
        .await;
        let _caller = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
        tokio::time::pause();
        let began = Instant::now();
        within("the end", a.remote.shutdown(true)).await;
        let took = began.elapsed();
        // The last two eighths are for what is left when they are cut.
        assert!(took >= ms(whole / 4 * 3) && took <= ms(whole), "{took:?}");
        tokio::time::resume();
        a.stop().await;
    }
}

/// Covers: DIAG-01, DIAG-02, DIAG-03, DIAG-04, DIAG-07, TST-43, T34
#[tokio::test(flavor = "multi_thread")]
async fn diagnostics_are_answered_only_when_they_are_on() {
    for on in [false, true] {
        let a = node([ConfigOption::with_diagnostics(on)]).await;
        let mut client = RemotingClient::new(raw::channel(a.remote.address()).await, raw::MESSAGE_BYTES);
        let listed = client.list_processes(ListProcessesRequest { pattern: "echo".into(), r#type: 0 }).await;
        let pid = actor::Pid { address: String::new(), id: "echo".into(), request_id: 0 };
        let told = client.get_process_diagnostics(GetProcessDiagnosticsRequest { pid: Some(pid) }).await;
        if on {
            let pids = listed.expect("on").into_inner().pids;
            assert!(pids.iter().any(|pid| pid.id == "echo" && pid.address == a.remote.address()), "{pids:?}");
            let told = told.expect("on").into_inner().diagnostics_string;
            assert!(told.contains("alive: true"), "{told}");
            let pid = actor::Pid { address: String::new(), id: "nobody".into(), request_id: 0 };
            let request = GetProcessDiagnosticsRequest { pid: Some(pid) };
            let told =
                client.get_process_diagnostics(request).await.expect("on").into_inner().diagnostics_string;
            assert!(told.contains("alive: false"), "{told}");
        } else {
            assert_eq!(listed.expect_err("off").code(), Code::Unimplemented);
            assert_eq!(told.expect_err("off").code(), Code::Unimplemented);
        }
        a.stop().await;
    }
}

/// Covers: T34
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_diagnostics_bound_answers_and_their_rate() {
    let all = ListProcessesRequest { pattern: String::new(), r#type: 0 };
    let on = ConfigOption::with_diagnostics(true);
    for (limit, most) in [
        (limits(|limits| limits.diagnostics_page = 2), 2),
        // An id and an address take more than half of it.
        (limits(|limits| limits.diagnostics_bytes = 50), 1),
    ] {
        let a = node([on.clone(), limit]).await;
        let mut client = RemotingClient::new(raw::channel(a.remote.address()).await, raw::MESSAGE_BYTES);
        let pids = client.list_processes(all.clone()).await.expect("on").into_inner().pids;
        assert!((1..=most).contains(&pids.len()), "{pids:?}");
        a.stop().await;
    }
    let a = node([on, limits(|limits| limits.diagnostics_per_second = 1)]).await;
    let mut client = RemotingClient::new(raw::channel(a.remote.address()).await, raw::MESSAGE_BYTES);
    // On a busy machine a second may lie between two of them, but not between all.
    let refused = within("a refusal", async {
        loop {
            if let Err(status) = client.list_processes(all.clone()).await {
                return status;
            }
        }
    });
    assert_eq!(refused.await.code(), Code::ResourceExhausted);
    a.stop().await;
}

/// Covers: T18
#[tokio::test(flavor = "multi_thread")]
async fn peer_lifecycle_lets_peers_stop_actors() {
    for allowed in [false, true] {
        let a = node([ConfigOption::with_peer_lifecycle(allowed)]).await;
        let call = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
        let messages = [("actor.Stop", Vec::new()), note("behind it")];
        let mut letters = a.events::<DeadLetterEvent>();
        call.send(sent(batch(a.remote.address(), "echo", None, &messages)));
        if allowed {
            eventually("the end of it", || a.system.find("/user/echo").is_none()).await;
        } else {
            let letter =
                letters.find("the record", |letter| letter.reason() == DeadLetterReason::Denied).await;
            assert_eq!(
                letter.context().peer.as_ref().map(ToString::to_string).as_deref(),
                Some("protoactor://127.0.0.1:1")
            );
            a.heard.until("what came behind it", |all| all == ["behind it"]).await;
            assert!(a.system.find("/user/echo").is_some());
        }
        a.stop().await;
    }
}

/// Covers: S132
#[tokio::test]
async fn insecure_plaintext_is_needed_beyond_this_host() {
    let beyond =
        local().with([ConfigOption::with_host("0.0.0.0"), ConfigOption::with_advertised_host("192.0.2.1:1")]);
    let started = Remote::start(&system("a"), beyond.clone()).await;
    assert!(
        matches!(started, Err(RemoteError::Config(error)) if error.to_string().contains("insecure_plaintext"))
    );
    let allowed = beyond.with([ConfigOption::with_insecure_plaintext(true)]);
    assert!(allowed.validate().is_ok());
    assert!(allowed.warnings().iter().any(|warning| warning.contains("insecure_plaintext")));
}

#[tokio::test(flavor = "multi_thread")]
async fn wire_form_is_that_of_the_address_or_the_default() {
    for (is_default, form) in
        [(true, WireForm::W1), (true, WireForm::W2), (false, WireForm::W1), (false, WireForm::W2)]
    {
        let mut server = RawServer::start(Manners::default()).await;
        let other = if form == WireForm::W1 { WireForm::W2 } else { WireForm::W1 };
        let options = if is_default {
            vec![ConfigOption::with_default_wire_form(form)]
        } else {
            vec![
                ConfigOption::with_default_wire_form(other),
                ConfigOption::with_wire_form(server.address(), form),
            ]
        };
        let a = node(options).await;
        a.at(&server.address(), "echo").tell(Echo::Count(1));
        let batch = loop {
            let batch = server.batch().await;
            if batch.type_name(0) == Some("google.protobuf.Int32Value") {
                break batch;
            }
        };
        assert_eq!(batch.form(), Some(form));
        a.stop().await;
    }
}

/// Covers: S102
#[tokio::test(flavor = "multi_thread")]
async fn batch_limits_hold_both_ways() {
    let small = BatchLimits { message_bytes: 16 * 1024, ..BatchLimits::default() };
    let (a, b) = pair([ConfigOption::with_batch_limits(small)]).await;
    let there = a.far(&b, "echo");
    let mut letters = a.events::<DeadLetterEvent>();
    there.tell(Echo::Note("x".repeat(20_000)));
    let letter = letters.next("the record").await;
    assert_eq!(letter.reason(), DeadLetterReason::TooLarge);
    let answer = a.ask(&there, &"x".repeat(20_000)).await;
    assert!(matches!(answer, Err(AskError::TooLarge { .. })), "{answer:?}");
    assert_eq!(a.ask(&there, "small").await.as_deref(), Ok("re:small"));

    let mut call = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    call.send(sent(batch(a.remote.address(), "echo", None, &[note(&"x".repeat(20_000))])));
    assert!(matches!(call.end().await, Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument));

    let few = BatchLimits { envelopes: 2_000, type_names: 1, ..BatchLimits::default() };
    let c = node([ConfigOption::with_batch_limits(few)]).await;
    let mut call = RawCall::shake(c.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    call.send(sent(batch(c.remote.address(), "echo", None, &[note("one"), note("two")])));
    assert_eq!(call.end().await, Code::InvalidArgument);
    assert_eq!(c.heard.len(), 0);
    for one in [a, b, c] {
        one.stop().await;
    }
}

async fn watcher(node: &TestNode) -> (nexus_actor_core::ActorRef<Watch>, Heard) {
    let seen = Heard::default();
    let told = seen.clone();
    let watcher = node.system.spawn("watcher", Props::from_fn(move || Watcher(told.clone()))).expect("free");
    (watcher, seen)
}

/// L16: what cannot be kept in the books of watches waits within a bound. Watches are kept in the books.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_system_messages_bound_what_waits() {
    for limit in [limits(|limits| limits.system_messages = 1), limits(|limits| limits.system_bytes = 70)] {
        let (a, b) = pair([limit]).await;
        let (watcher, seen) = watcher(&a).await;
        let mut letters = a.events::<DeadLetterEvent>();
        a.remote.suspend();
        for id in ["w1", "w2", "w3"] {
            watcher.tell(Watch::Begin(a.far(&b, id)));
            a.remote.manager().remote_stop(&b.pid(id)).expect("a node");
        }
        for id in ["w2", "w3"] {
            let letter = letters.next("a refusal").await;
            assert_eq!((letter.reason(), letter.pid), (DeadLetterReason::QueueFull, Some(b.pid(id))));
        }
        seen.until("the watches", |all| all.len() == 3).await;
        a.remote.resume();
        let all = seen.until("an answer to each", |all| all.len() == 6).await;
        assert!(all[3..].iter().all(|line| line.ends_with("never existed")), "{all:?}");
        a.stop().await;
        b.stop().await;
    }
}

/// L17.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_rate_of_system_messages_slow_a_peer() {
    let slow = limits(|limits| {
        limits.system_messages_per_second = 50;
        limits.system_messages_burst = 10;
    });
    let a = node([slow]).await;
    let call = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    let watch =
        actor::Watch { watcher: Some(actor::Pid { address: String::new(), id: "w".into(), request_id: 0 }) };
    let watches = vec![("actor.Watch", watch.encode_to_vec()); 40];
    let began = Instant::now();
    call.send(sent(batch(a.remote.address(), "echo", None, &watches)));
    call.send(sent(batch(a.remote.address(), "echo", None, &[note("behind them")])));
    a.heard.until("what came behind", |all| all.len() == 1).await;
    // 10 at once, and 30 at 50 a second.
    assert!(began.elapsed() >= ms(600), "{:?}", began.elapsed());
    a.stop().await;
}

/// L18: the limit on watches, outward, inward and for one actor.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_watches_refuse_one_more() {
    let (a, b) = pair([limits(|limits| limits.watches = 1)]).await;
    let (watching, seen) = watcher(&a).await;
    b.system.spawn("other", Props::from_fn(|| Quiet)).expect("free");
    watching.tell(Watch::Begin(a.far(&b, "echo")));
    watching.tell(Watch::Begin(a.far(&b, "other")));
    seen.until("a refusal", |all| all.last().is_some_and(|last| last == "other Limit")).await;
    a.stop().await;
    b.stop().await;

    for (limit, second) in
        [(limits(|limits| limits.watches = 1), "other"), (limits(|limits| limits.watchers = 1), "echo")]
    {
        let b = node([limit]).await;
        b.system.spawn("other", Props::from_fn(|| Quiet)).expect("free");
        let mut call = RawCall::shake(b.remote.address(), client_hello("raw")).await;
        for (id, by) in [("echo", "w1"), (second, "w2")] {
            let by = actor::Pid { address: String::new(), id: by.into(), request_id: 0 };
            let watch = actor::Watch { watcher: Some(by) }.encode_to_vec();
            call.send(sent(batch(b.remote.address(), id, None, &[("actor.Watch", watch)])));
        }
        // The refusal of the second, and of it alone: the first is told of the end.
        let mut terminated = Vec::new();
        while terminated.len() < 2 {
            if let Some(Incoming::Batch(_)) = call.next().await.expect("it lives") {
                terminated.push(());
                if terminated.len() == 1 {
                    b.system.find("/user/echo").expect("it lives").stop();
                }
            }
        }
        b.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_pending_asks_refuse_one_more() {
    let server = RawServer::start(Manners { is_nexus: true, ..Manners::default() }).await;
    let a = node([limits(|limits| limits.pending_asks = 1)]).await;
    let there = a.at(&server.address(), "echo");
    let waits = there.ask(|reply| Echo::Say("one".to_owned(), reply));
    assert!(matches!(a.ask(&there, "two").await, Err(AskError::Full)));
    drop(waits);
    a.stop().await;
}

/// Covers: T33
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_spawns_refuse_one_more() {
    for limit in [limits(|limits| limits.spawned = 1), limits(|limits| limits.spawns_per_second = 1)] {
        let (a, b) = (node([]).await, node([limit]).await);
        // However slow the machine is: sooner or later two of them come within a second.
        let refused = within("a refusal", async {
            loop {
                if let Err(error) = a.remote.spawn_remote(b.remote.address(), "echo").await {
                    return error.status();
                }
            }
        });
        assert_eq!(refused.await, ResponseStatusCode::Unavailable);
        a.stop().await;
        b.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_peers_and_calls_refuse_one_more() {
    let a = node([limits(|limits| limits.inbound_peers = 1)]).await;
    let first = RawCall::shake(a.remote.address(), server_hello("one", "127.0.0.1:1")).await;
    let refused = async |hello| match RawCall::open(a.remote.address(), hello).await {
        Ok(mut call) => call.end().await,
        Err(status) => status.code(),
    };
    assert_eq!(refused(server_hello("two", "127.0.0.1:2")).await, Code::ResourceExhausted);
    assert_eq!(refused(client_hello("three")).await, Code::ResourceExhausted);
    drop(first);
    eventually("room", || a.remote.manager().endpoints().is_empty()).await;
    drop(RawCall::shake(a.remote.address(), server_hello("two", "127.0.0.1:2")).await);
    a.stop().await;

    let a = node([limits(|limits| limits.inbound_calls = 1)]).await;
    let _first = RawCall::shake(a.remote.address(), server_hello("one", "127.0.0.1:1")).await;
    let ended = match RawCall::open(a.remote.address(), server_hello("one", "127.0.0.1:1")).await {
        Ok(mut call) => call.end().await,
        Err(status) => status.code(),
    };
    assert_eq!(ended, Code::ResourceExhausted);
    let _other = RawCall::shake(a.remote.address(), server_hello("two", "127.0.0.1:2")).await;
    a.stop().await;
}

/// L3.
///
/// Covers: S21
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_strangers_close_the_one_silent_longest() {
    for limit in [limits(|limits| limits.strangers = 2), limits(|limits| limits.strangers_per_ip = 2)] {
        let a = node([limit]).await;
        // One that has introduced itself does not count.
        let call = RawCall::shake(a.remote.address(), server_hello("one", "127.0.0.1:1")).await;
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(TcpStream::connect(a.remote.address()).await.expect("a connection"));
        }
        let mut buffer = Vec::new();
        let _ = within("the end of the first", silent[0].read_to_end(&mut buffer)).await;
        call.send(sent(batch(a.remote.address(), "echo", None, &[note("undisturbed")])));
        a.heard.until("the note", |all| all == ["undisturbed"]).await;
        a.stop().await;
    }
}

/// Covers: CFG-13, S127
#[tokio::test(flavor = "multi_thread")]
async fn blocked_and_allowed_systems_are_refused_from_the_start() {
    let b = node([]).await;
    for option in [
        ConfigOption::with_blocked_systems([b.remote.address()]),
        ConfigOption::with_allowed_systems(["127.0.0.1:1"]),
    ] {
        let a = node([option]).await;
        let refused = a.remote.resolve::<Echo>(&b.pid("echo"));
        assert!(matches!(refused, Err(ResolveError::Refused(Refusal::Blocked))), "{refused:?}");
        assert_eq!(b.ask(&b.far(&a, "echo"), "x").await, Err(AskError::Blocked));
        a.stop().await;
    }
    b.stop().await;
}

/// Covers: CFG-16, CFG-17
#[tokio::test(flavor = "multi_thread")]
async fn dial_and_server_options_and_interceptors_run() {
    let dialled = Arc::new(AtomicUsize::new(0));
    let served = Arc::new(AtomicUsize::new(0));
    let (dials, serves) = (dialled.clone(), served.clone());
    let a = node([
        ConfigOption::with_dial_option(move |endpoint| {
            dials.fetch_add(1, Ordering::SeqCst);
            endpoint.user_agent("told").expect("a name")
        }),
        ConfigOption::with_server_option(move |server| {
            serves.fetch_add(1, Ordering::SeqCst);
            server
        }),
        ConfigOption::with_call_interceptor(|mut request| {
            request.metadata_mut().insert("token", "of a".parse().expect("a value"));
            Ok(request)
        }),
        ConfigOption::with_server_interceptor(|request| match request.metadata().get("token") {
            Some(_) => Ok(request),
            None => Err(tonic::Status::unauthenticated("no token")),
        }),
    ])
    .await;
    let mut server = RawServer::start(Manners { is_nexus: true, ..Manners::default() }).await;
    a.at(&server.address(), "echo").tell(Echo::Count(1));
    let call = server.call().await;
    assert_eq!(call.metadata().get("token").map(|value| value.as_bytes()), Some(&b"of a"[..]));
    let agent = call.metadata().get("user-agent").expect("there").to_str().expect("text").to_owned();
    assert!(agent.starts_with("told"), "{agent}");
    assert!(dialled.load(Ordering::SeqCst) > 0 && served.load(Ordering::SeqCst) > 0);
    let refused = RawCall::open(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    assert_eq!(refused.map(|_| ()).expect_err("no token").code(), Code::Unauthenticated);
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_is_known_to_know_is_all_that_it_is_sent() {
    let b = node([]).await;
    let to = b.remote.address().to_owned();
    let a = node([
        ConfigOption::with_known_type_names(&to, ["google.protobuf.StringValue"]),
        ConfigOption::with_known_kinds(&to, ["echo"]),
    ])
    .await;
    let there = a.far(&b, "echo");
    there.tell(Echo::Count(1));
    there.tell(Echo::Note("known".to_owned()));
    b.heard.until("what it knows", |all| all == ["known"]).await;
    assert_eq!(a.system.dead_letters().count(DeadLetterReason::Encode), 1);
    let refused = within("at once", a.remote.spawn_remote(&to, "other")).await;
    assert!(matches!(refused, Err(SpawnRemoteError::KindNotKnown { .. })), "{refused:?}");
    assert!(within("an answer", a.remote.spawn_remote(&to, "echo")).await.is_ok());
    a.stop().await;
    b.stop().await;
}

/// Covers: T27
#[tokio::test(flavor = "multi_thread")]
async fn dialled_sockets_have_keepalive_before_the_options_of_the_dial() {
    let (seen, mut settings) = tokio::sync::mpsc::unbounded_channel();
    let option = ConfigOption::with_dial_option(move |endpoint| {
        let kept = (endpoint.get_tcp_keepalive(), endpoint.get_tcp_keepalive_interval());
        let _ = seen.send((kept, endpoint.get_tcp_keepalive_retries()));
        endpoint
    });
    let (a, b) = pair([option]).await;
    let half_a_minute = Some(Duration::from_secs(30));
    assert_eq!(settings.recv().await, Some(((half_a_minute, half_a_minute), Some(3))));
    a.stop().await;
    b.stop().await;
}

/// Who is denied it is told so, at its address however it is spelled, and a client by its id; the others are not.
///
/// Covers: T33
#[tokio::test(flavor = "multi_thread")]
async fn spawn_is_denied_to_those_that_are_named() {
    let (other, denied) = (node([]).await, node([]).await);
    let client = TestNode::start_client("client", local()).await;
    let port = denied.remote.bound_address().expect("it listens").port();
    let ids = [format!("[::ffff:127.0.0.1]:{port}"), client.remote.system_id().to_owned()];
    let a = node([ConfigOption::with_spawn_denied(ids)]).await;
    let to = a.remote.address().to_owned();
    let before = a.system.processes().count();
    for peer in [&denied, &client] {
        let mut letters = a.events::<DeadLetterEvent>();
        let answer = within("an answer", peer.remote.spawn_remote(&to, "echo")).await;
        assert_eq!(
            answer,
            Err(SpawnRemoteError::Status { status: ResponseStatusCode::Error, pid: None }),
            "it was told"
        );
        letters.find("its record", |letter| letter.reason() == DeadLetterReason::Denied).await;
        // It may do all else.
        assert_eq!(peer.ask(&peer.far(&a, "echo"), "x").await.as_deref(), Ok("re:x"));
    }
    assert_eq!(a.system.processes().count(), before, "nothing was made");
    assert!(within("an answer", other.remote.spawn_remote(&to, "echo")).await.is_ok());
    assert!(within("at once", a.remote.spawn_remote(&to, "echo")).await.is_ok(), "the node itself may");
    for node in [client, denied, other, a] {
        node.stop().await;
    }
}

/// Covers: T34
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_does_not_use_up_the_diagnostics_of_others() {
    let on = ConfigOption::with_diagnostics(true);
    let a = node([on, limits(|limits| limits.diagnostics_per_second = 2)]).await;
    let client = async || RemotingClient::new(raw::channel(a.remote.address()).await, raw::MESSAGE_BYTES);
    let (mut greedy, mut other) = (client().await, client().await);
    let all = ListProcessesRequest { pattern: String::new(), r#type: 0 };
    within("a refusal", async { while greedy.list_processes(all.clone()).await.is_ok() {} }).await;
    assert!(other.list_processes(all).await.is_ok());
    a.stop().await;
}

/// A connection whose peer has named itself is that peer's, in diagnostics too.
///
/// Covers: T34
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_peer_is_told_nothing_in_diagnostics() {
    let a = node([ConfigOption::with_diagnostics(true)]).await;
    let all = ListProcessesRequest { pattern: String::new(), r#type: 0 };
    let channel = raw::channel(a.remote.address()).await;
    let mut client = RemotingClient::new(channel.clone(), raw::MESSAGE_BYTES);
    let mut call = RawCall::by(channel, server_hello("raw", "127.0.0.1:1")).await.expect("a call");
    call.response().await.expect("an answer");
    assert!(client.list_processes(all.clone()).await.is_ok());
    assert!(a.remote.block_system("raw").await);
    assert_eq!(client.list_processes(all.clone()).await.expect_err("blocked").code(), Code::PermissionDenied);
    let pid = actor::Pid { address: String::new(), id: "echo".into(), request_id: 0 };
    let request = GetProcessDiagnosticsRequest { pid: Some(pid) };
    let told = client.get_process_diagnostics(request).await;
    assert_eq!(told.expect_err("blocked").code(), Code::PermissionDenied);
    drop((call, client));
    a.stop().await;
}
