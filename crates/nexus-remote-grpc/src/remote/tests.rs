//! Nodes over real connections, above all clients that only dial out.

use std::sync::Arc;
use std::time::Duration;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::{AskError, DeadLetterReason, Props, Refusal};
use nexus_remote::{
    BackpressureLevel, ClientConnectedEvent, EndpointConnectedEvent, EndpointReconnectEvent,
    EndpointTerminatedEvent, EndpointThrottledEvent,
};
use prost::Message as _;
use support::proxy::Proxy;
use support::raw::{self, RawCall, client_hello};
use support::{Echo, Heard, TestNode, Watch, Watcher, local, system, within};

use crate::endpoint_state::{ConnectionState, ReconnectPolicy};
use crate::pending_asks::{self, tests::Asker};
use crate::wire::batch::{BatchLimits, Incoming};
use crate::wire::proto::remote::remote_message::MessageType;
use crate::wire::proto::remote::{Acknowledge, DisconnectRequest, RemoteMessage};
use crate::{ConfigOption, ResponseStatusCode, SpawnRemoteError};

#[path = "../../tests/support/mod.rs"]
pub(crate) mod support;

/// A server and a client of it that has said hello, and what the server calls the client.
async fn server_and_client(options: impl IntoIterator<Item = ConfigOption>) -> (TestNode, TestNode, String) {
    let server = TestNode::start("server", local().with(options)).await;
    let mut connected = server.events::<ClientConnectedEvent>();
    let client = TestNode::start_client("client", local()).await;
    let far = client.far(&server, "echo");
    assert_eq!(client.ask(&far, "hello").await.as_deref(), Ok("re:hello"));
    let event = connected.next("the client").await;
    assert_eq!(*event.system_id, *client.remote.system_id());
    let address = client.remote.address().to_owned();
    (server, client, address)
}

/// Covers: TST-20, TST-02, TST-10, CC-01, CC-03, CC-04, CC-06, CC-08, CC-11, HS-02, HS-03, HS-10, EV-07
#[tokio::test(flavor = "multi_thread")]
async fn client_connection_registers_and_receives_disconnect() {
    let (server, client, address) = server_and_client([]).await;
    let registered = server.remote.manager().client_connections();
    assert_eq!(registered.len(), 1);
    assert_eq!(**registered[0].system_id(), *client.remote.system_id());
    assert_eq!(registered[0].address().as_deref(), Some(&*address));

    let mut gone_here = server.events::<EndpointTerminatedEvent>();
    let mut gone_there = client.events::<EndpointTerminatedEvent>();
    assert!(server.remote.manager().disconnect_client(client.remote.system_id()));
    let event = gone_there.next("the goodbye").await;
    assert_eq!((&*event.address, &*event.reason), (server.remote.address(), "the peer disconnected"));
    assert_eq!(&*gone_here.next("the end of the client").await.address, &*address);
    assert!(server.remote.manager().client_connections().is_empty());
    assert!(!server.remote.manager().disconnect_client(client.remote.system_id()));
    client.stop().await;
    server.stop().await;
}

/// Covers: CC-05, S155
#[tokio::test(flavor = "multi_thread")]
async fn client_connection_roundtrip() {
    let (server, client, address) = server_and_client([]).await;
    // A message, a question and a watch go down the call that the client opened.
    let there = server.at(&address, "echo");
    there.tell(Echo::Note("down".to_owned()));
    client.heard.until("the note", |all| all == ["down"]).await;
    assert_eq!(server.ask(&there, "you").await.as_deref(), Ok("re:you"));
    let seen = Heard::default();
    let watched = seen.clone();
    let watcher =
        server.system.spawn("watcher", Props::from_fn(move || Watcher(watched.clone()))).expect("free");
    watcher.tell(Watch::Begin(there.clone()));
    seen.until("the watch", |all| all.len() == 1).await;
    assert_eq!(server.ask(&there, "behind the watch").await.as_deref(), Ok("re:behind the watch"));
    client.system.find("/user/echo").expect("it lives").stop();
    seen.until("the end", |all| all.last().is_some_and(|last| last == "echo stopped")).await;
    client.stop().await;
    server.stop().await;
}

/// Covers: TST-21, BP-01, BP-02, BP-03, BP-04, DL-01, DL-03, ERR-08, S91
#[tokio::test(flavor = "multi_thread")]
async fn client_connection_backpressure_overflow() {
    let (server, client, address) =
        server_and_client([ConfigOption::with_endpoint_writer_queue_size(1)]).await;
    let there = server.at(&address, "echo");
    let mut letters = server.events::<DeadLetterEvent>();
    let before = server.remote.get_endpoint_statistics(&address).expect("an endpoint").dead_letters;
    // Nothing goes out, so the queue fills.
    server.remote.suspend();
    assert!(server.remote.get_suspend());
    for number in 0..3 {
        there.tell(Echo::Count(number));
    }
    for _ in 1..3 {
        let letter = letters.next("a dead letter").await;
        assert_eq!(letter.reason(), DeadLetterReason::QueueFull);
        assert_eq!(letter.pid.map(|pid| pid.to_string()), Some(format!("{address}/echo")));
    }
    let statistics = server.remote.get_endpoint_statistics(&address).expect("an endpoint");
    assert_eq!(
        (statistics.queue_capacity, statistics.queue_size, statistics.dead_letters - before),
        (1, 1, 2)
    );
    // A question is told at once.
    assert_eq!(server.ask(&there, "x").await, Err(AskError::Full));
    server.remote.resume();
    // The oldest was kept.
    client.heard.until("the first", |all| all == ["0"]).await;
    client.stop().await;
    server.stop().await;
}

/// What is sent to a client by hand is refused at the bounds of the queue, and where it is too large for the wire, which would
/// end the call. What was taken arrives.
#[tokio::test]
async fn what_is_sent_to_a_client_by_hand_is_bounded() {
    let (server, client, address) =
        server_and_client([ConfigOption::with_endpoint_writer_queue_size(2)]).await;
    let manager = server.remote.manager();
    let limit = BatchLimits::default().message_bytes;
    let of_size = |size: usize| {
        let of = |text: usize| {
            let batch = raw::batch("", "echo", None, &[raw::note(&"x".repeat(text))]);
            RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) }
        };
        let around = of(limit / 2).encoded_len() - limit / 2;
        let message = of(size - around);
        assert_eq!(message.encoded_len(), size);
        message
    };
    let id = client.remote.system_id();
    let too_large = Refusal::TooLarge { size: limit + 1, limit };
    assert_eq!(manager.send_to_client(id, &of_size(limit + 1)), Err(too_large));
    // The runtime has one thread, so nothing goes out before this awaits.
    assert_eq!(manager.send_to_client(id, &of_size(limit)), Ok(()));
    assert_eq!(manager.send_to_client(id, &of_size(limit - 1)), Ok(()));
    let full = Refusal::QueueFull { messages: 2, bytes: 2 * limit - 1 };
    assert_eq!(manager.send_to_client(id, &of_size(limit - 1)), Err(full));
    client.heard.until("both", |all| all.len() == 2).await;
    assert_eq!(manager.send_to_client("nobody", &of_size(limit)), Err(Refusal::Unreachable));
    let there = server.at(&address, "echo");
    assert_eq!(server.ask(&there, "you").await.as_deref(), Ok("re:you"), "the call goes on");
    client.stop().await;
    server.stop().await;
}

/// A client says how many messages it took, with those that were sent by hand among them. They confirm nothing of what came
/// from the queue: that is unknown when the call breaks.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_by_hand_confirms_nothing_else() {
    let server = TestNode::start("server", local()).await;
    let mut connected = server.events::<ClientConnectedEvent>();
    let mut client = RawCall::shake(server.remote.address(), client_hello("raw")).await;
    connected.next("the client").await;
    let (manager, address) = (server.remote.manager(), crate::node::client_address("raw"));
    // Its figures leave the table with it.
    let endpoint = manager.ensure_connected(&address).expect("an endpoint");
    let by_hand = raw::batch("", "echo", None, &["a", "b", "c"].map(raw::note));
    let by_hand = RemoteMessage { message_type: Some(MessageType::MessageBatch(by_hand)) };
    assert_eq!(manager.send_to_client("raw", &by_hand), Ok(()));
    server.at(&address, "echo").tell(Echo::Note("queued".to_owned()));
    let mut taken = 0;
    while taken < 4 {
        if let Ok(Some(Incoming::Batch(batch))) = client.next().await {
            taken += batch.len();
        }
    }
    let mut gone = server.events::<EndpointTerminatedEvent>();
    client.send(raw::message(MessageType::Acknowledge(Acknowledge { messages: 3 })));
    client.hang_up();
    assert_eq!(*gone.next("the end of the client").await.address, *address);
    let statistics = endpoint.statistics().snapshot();
    assert_eq!((statistics.sent, statistics.unknown), (4, 1));
    server.stop().await;
}

/// What was sent by hand to a client that reads nothing, and still waits when its call ends, is recorded message by message, as
/// what waits in the queue is.
///
/// Covers: S142
#[tokio::test]
async fn what_was_sent_by_hand_and_never_went_out_is_recorded() {
    let server = TestNode::start("server", local()).await;
    let mut connected = server.events::<ClientConnectedEvent>();
    let client = RawCall::shake(server.remote.address(), client_hello("raw")).await;
    connected.next("the client").await;
    let (manager, address) = (server.remote.manager(), crate::node::client_address("raw"));
    let endpoint = manager.ensure_connected(&address).expect("an endpoint");
    let node = server.remote.node_for_tests();
    let asker = Arc::new(Asker::default());
    let question = node.asks.insert(asker.clone(), endpoint.address(), endpoint.era()).expect("room");
    let question = pending_asks::id_of(question);
    // A few of them are more than the windows of the connection hold.
    let large = "x".repeat(2_000_000);
    let by_hand = |sender| {
        let batch = raw::batch(&address, "echo", sender, &[&large, "y"].map(raw::note));
        RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) }
    };
    const COUNT: u64 = 10;
    for _ in 1..COUNT {
        assert_eq!(manager.send_to_client("raw", &by_hand(None)), Ok(()));
    }
    let asks = by_hand(Some((server.remote.address(), &question)));
    assert_eq!(manager.send_to_client("raw", &asks), Ok(()));
    let goodbye = RemoteMessage { message_type: Some(MessageType::DisconnectRequest(DisconnectRequest {})) };
    assert_eq!(manager.send_to_client("raw", &goodbye), Ok(()));
    let [sender] = &manager.client_connections()[..] else { panic!("one client") };
    raw::eventually("the first goes out", || endpoint.statistics().snapshot().sent > 0).await;
    let mut letters = server.events::<DeadLetterEvent>();
    let mut gone = server.events::<EndpointTerminatedEvent>();
    drop(client);
    let event = gone.next("the end of the client").await;
    let last = endpoint.statistics().snapshot();
    assert_eq!((last.unknown, last.dead_letters), (last.sent, COUNT * 2 + 1 - last.sent), "{last:?}");
    assert!(last.dead_letters > 3, "{last:?}");
    assert_eq!(event.statistics.dead_letters, last.dead_letters, "the event has them");
    for at in last.sent..COUNT * 2 {
        let letter = letters.next("a record").await;
        assert_eq!(letter.reason(), DeadLetterReason::Unreachable);
        assert_eq!(letter.pid.as_ref().map(ToString::to_string), Some(format!("{address}/echo")));
        assert_eq!(letter.message.type_name, "google.protobuf.StringValue");
        assert_eq!(letter.message.size > 1_000, at % 2 == 0, "in their order");
        let asked = letter.sender.as_ref().map(|sender| sender.id.clone());
        assert_eq!(asked, (at >= COUNT * 2 - 2).then(|| question.clone()));
        assert_eq!(letter.context().peer.as_ref(), Some(endpoint.path_address()));
    }
    let letter = letters.next("a record").await;
    assert_eq!((&*letter.message.type_name, letter.pid), ("remote.DisconnectRequest", None));
    assert_eq!(*asker.0.lock(), [AskError::Unreachable]);
    assert_eq!(sender.send(&goodbye), Err(Refusal::Unreachable));
    server.stop().await;
}

/// The end of a suspension lets go what was sent by hand meanwhile, without anything else that would.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_by_hand_during_a_suspension_arrives_after_it() {
    let (server, client, _) = server_and_client([]).await;
    server.remote.suspend();
    let by_hand = raw::batch("", "echo", None, &[raw::note("by hand")]);
    let by_hand = RemoteMessage { message_type: Some(MessageType::MessageBatch(by_hand)) };
    assert_eq!(server.remote.manager().send_to_client(client.remote.system_id(), &by_hand), Ok(()));
    server.remote.resume();
    client.heard.until("what waited", |all| all == ["by hand"]).await;
    client.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_connection_backpressure() {
    let (server, client, address) =
        server_and_client([ConfigOption::with_endpoint_writer_queue_size(100)]).await;
    let there = server.at(&address, "echo");
    server.remote.suspend();
    for number in 0..1_000 {
        there.tell(Echo::Count(number));
    }
    let lost = server.system.dead_letters().count(DeadLetterReason::QueueFull);
    assert_eq!(lost, 900);
    server.remote.resume();
    let all = client.heard.until("what was kept", |all| all.len() == 100).await;
    assert!(all.iter().enumerate().all(|(at, number)| *number == at.to_string()));
    client.stop().await;
    server.stop().await;
}

/// Covers: TST-24, BP-16, ST-10
#[tokio::test(flavor = "multi_thread")]
async fn client_connection_backpressure_drain() {
    let options = [
        ConfigOption::with_endpoint_writer_queue_size(1_000),
        ConfigOption::with_endpoint_writer_batch_size(10),
    ];
    let server = TestNode::start("server", local().with(options)).await;
    let mut connected = server.events::<ClientConnectedEvent>();
    // Read by hand: what is not read holds back what comes behind it.
    let mut client = RawCall::shake(server.remote.address(), client_hello("raw")).await;
    connected.next("the client").await;
    let address = crate::node::client_address("raw");
    let there = server.at(&address, "echo");
    server.remote.suspend();
    for _ in 0..1_000 {
        // More in all than a connection holds.
        there.tell(Echo::Note("x".repeat(32_768)));
    }
    let waiting = || server.remote.get_endpoint_statistics(&address).expect("an endpoint").queue_size;
    let mut figures = vec![waiting()];
    assert_eq!(figures, [1_000]);
    server.remote.resume();
    let mut came = 0;
    while came < 1_000 {
        if let Some(Incoming::Batch(batch)) = client.next().await.expect("no end") {
            came += batch.envelopes().count() as u64;
            figures.push(waiting());
            assert!(waiting() <= 1_000 - came, "{} wait, {came} came", waiting());
        }
    }
    assert!(figures.is_sorted_by(|before, after| before >= after), "{figures:?}");
    figures.dedup();
    assert!(figures.len() > 3 && figures.last() == Some(&0), "{figures:?}");
    drop(client);
    server.stop().await;
}

/// Covers: TST-25, BP-11, BP-12, BP-13, CFG-11, CFG-12, EV-03, S94
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_manager_throttled_event() {
    let options = [
        ConfigOption::with_endpoint_writer_queue_size(10),
        ConfigOption::with_backpressure_warning_threshold(0.2),
        ConfigOption::with_backpressure_critical_threshold(0.5),
    ];
    let (server, client, address) = server_and_client(options).await;
    let there = server.at(&address, "echo");
    let mut events = server.events::<EndpointThrottledEvent>();
    server.remote.suspend();
    for (messages, level) in [(2, BackpressureLevel::Warning), (6, BackpressureLevel::Critical)] {
        while server.remote.get_endpoint_statistics(&address).expect("an endpoint").queue_size < messages {
            there.tell(Echo::Count(0));
        }
        let event = events.next("a level").await;
        assert_eq!((&*event.address, event.level, event.messages), (&*address, level, messages));
    }
    for _ in 0..10 {
        there.tell(Echo::Count(0));
    }
    assert!(events.try_next().is_none(), "one event for each crossing");
    server.remote.resume();
    events.find("normal", |event| event.level == BackpressureLevel::Normal).await;
    client.stop().await;
    server.stop().await;
}

/// Covers: TST-23, TST-30, TST-44, RC-09, RC-12, HS-01, HS-12, EV-02, EV-04, EV-06, EV-10, RC-20, S151
#[tokio::test(flavor = "multi_thread")]
async fn client_connection_reconnect() {
    let proxy = Proxy::new().await;
    let config = local().with([ConfigOption::with_advertised_host(proxy.address())]);
    let server = TestNode::start("server", config).await;
    proxy.set_target(server.remote.bound_address().expect("it listens"));
    let client = TestNode::start_client("client", local()).await;
    let far = client.far(&server, "echo");
    assert_eq!(client.ask(&far, "one").await.as_deref(), Ok("re:one"));

    let mut connected = client.events::<EndpointConnectedEvent>();
    let mut attempts = client.events::<EndpointReconnectEvent>();
    let mut levels = client.events::<EndpointThrottledEvent>();
    proxy.cut();
    assert_eq!(attempts.next("an attempt").await.attempt, 1);
    assert_eq!(&*connected.next("the connection").await.address, &*proxy.address());
    assert_eq!(levels.next("the level").await.level, BackpressureLevel::Normal);
    assert_eq!(client.ask(&far, "two").await.as_deref(), Ok("re:two"));
    // And the server still reaches the client, by the new call.
    let back = server.at(client.remote.address(), "echo");
    assert_eq!(server.ask(&back, "three").await.as_deref(), Ok("re:three"));

    // An end that is one: no attempt succeeds.
    let mut terminated = client.events::<EndpointTerminatedEvent>();
    proxy.refuse();
    let event = terminated.next("the end").await;
    assert_eq!(&*event.address, &*proxy.address());
    assert!(event.reason.starts_with("unreachable after 5 attempts"), "{}", event.reason);
    // Later a message begins anew.
    proxy.accept();
    assert_eq!(client.ask(&far, "four").await.as_deref(), Ok("re:four"));
    client.stop().await;
    server.stop().await;
}

/// Covers: TST-36, SPN-03, SPN-04, ERR-16, S130
#[tokio::test(flavor = "multi_thread")]
async fn spawn_remote_unknown_kind_returns_error() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let before = b.system.processes().count();
    let spawned = within("the answer", a.remote.spawn_remote(b.remote.address(), "unheard-of")).await;
    assert_eq!(spawned, Err(SpawnRemoteError::Status { status: ResponseStatusCode::Error, pid: None }));
    assert_eq!(b.system.processes().count(), before, "nothing was made");
    a.stop().await;
    b.stop().await;
}

/// An activator that does not get on is waited for as long as one elsewhere.
///
/// Covers: CFG-16
#[tokio::test(flavor = "multi_thread")]
async fn a_spawn_on_this_node_ends_in_time() {
    let in_time = ConfigOption::with_call_timeout(Duration::from_millis(50));
    let node = TestNode::start("node", local().with([in_time])).await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let activator = node.remote.node_for_tests().activator.get().expect("started").to_any();
    assert!(activator.call_in_order(Box::new(move || {
        let _ = held.recv();
    })));
    let spawned = within("the answer", node.remote.spawn_remote(node.remote.address(), "echo")).await;
    assert_eq!(spawned.expect_err("nobody answers").status(), ResponseStatusCode::Timeout);
    drop(release);
    within("the answer", node.remote.spawn_remote(node.remote.address(), "echo")).await.expect("spawned");
    node.stop().await;
}

/// Covers: RC-04, RC-11
#[tokio::test(flavor = "multi_thread")]
async fn remote_reconnect_after_server_restart() {
    let wait = Duration::from_millis(50);
    let policy = ReconnectPolicy::fixed(200, wait);
    let client =
        TestNode::start("client", local().with([ConfigOption::with_endpoint_reconnect_policy(policy)])).await;
    let host = support::own_host();
    let mut server = TestNode::start("server", crate::Config::new(&*host, 0)).await;
    let port = server.remote.bound_address().expect("it listens").port();
    let far = client.far(&server, "echo");
    assert_eq!(client.ask(&far, "0").await.as_deref(), Ok("re:0"));
    for round in 1..=3_u64 {
        let mut terminated = client.events::<EndpointTerminatedEvent>();
        let mut connected = client.events::<EndpointConnectedEvent>();
        let address = server.remote.address().to_owned();
        server.remote.shutdown(false).await;
        server.stop().await;
        // It said goodbye: that is an end, and the next message begins anew.
        terminated.next("the goodbye").await;
        far.tell(Echo::Note("while it is away".to_owned()));
        assert_eq!(client.remote.manager().connection_state(&address), Some(ConnectionState::Reconnecting));
        server = TestNode::start("server", crate::Config::new(&*host, port)).await;
        connected.next("the connection").await;
        let settled = within("the reconnect", client.remote.await_reconnect(&address)).await;
        assert_eq!(settled, Ok(ConnectionState::Connected));
        assert_eq!(client.ask(&far, "again").await.as_deref(), Ok("re:again"));
        server.heard.until("what waited", |all| all == ["while it is away"]).await;
        let statistics = client.remote.get_endpoint_statistics(&address).expect("an endpoint");
        assert_eq!(statistics.queue_size, 0);
        assert!(statistics.sent >= 2, "round {round}: {statistics:?}");
    }
    client.stop().await;
    server.stop().await;
}

/// Covers: TST-37, TST-39, RC-13, RC-17, ST-08, DL-08, ERR-09, ERR-10
#[tokio::test(flavor = "multi_thread")]
async fn remote_reconnect_after_consecutive_cuts() {
    let proxy = Proxy::new().await;
    let config = local().with([ConfigOption::with_advertised_host(proxy.address())]);
    let server = TestNode::start("server", config).await;
    proxy.set_target(server.remote.bound_address().expect("it listens"));
    let policy = ReconnectPolicy::fixed(1_000, Duration::from_millis(20));
    let client =
        TestNode::start("client", local().with([ConfigOption::with_endpoint_reconnect_policy(policy)])).await;
    let address = server.remote.address().to_owned();
    let far = client.far(&server, "echo");
    assert_eq!(client.ask(&far, "0").await.as_deref(), Ok("re:0"));
    let statistics = || client.remote.get_endpoint_statistics(&address).expect("an endpoint");
    let mut connected = client.events::<EndpointConnectedEvent>();
    let mut attempts = client.events::<EndpointReconnectEvent>();
    let mut letters = client.events::<DeadLetterEvent>();
    let mut made = 0;
    for round in 1..=3_u64 {
        let before = statistics();
        proxy.refuse();
        assert_eq!(attempts.next("an attempt").await.attempt, 1, "round {round}");
        assert_eq!(client.remote.manager().connection_state(&address), Some(ConnectionState::Reconnecting));
        far.tell(Echo::Note("lost".to_owned()));
        let letter = letters.next("the record").await;
        assert_eq!(letter.reason(), DeadLetterReason::Unreachable);
        assert_eq!(letter.pid.map(|pid| pid.to_string()), Some(format!("{address}/echo")));
        assert_eq!(statistics().dead_letters, before.dead_letters + 1, "round {round}");
        // One that fails.
        attempts.find("the next attempt", |event| event.attempt == 2).await;
        proxy.accept();
        connected.next("the connection").await;
        assert_eq!(client.ask(&far, "again").await.as_deref(), Ok("re:again"));
        let after = statistics();
        assert!(after.reconnect_attempts >= made + 2, "round {round}: {after:?}");
        made = after.reconnect_attempts;
        assert_eq!((after.sent, after.queue_size), (before.sent + 1, 0), "round {round}: {after:?}");
        while attempts.try_next().is_some() {}
    }
    assert_eq!(server.heard.len(), 0, "what was recorded as lost did not arrive");
    client.stop().await;
    server.stop().await;
}

/// The names of a node's actors are free when it has ended, and nothing of it stays with the system.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_started_again_on_the_same_system() {
    let system = system("again");
    let peer = TestNode::start("peer", local()).await;
    let mut ended = Vec::new();
    for round in 0..20 {
        let remote = crate::Remote::start(&system, local()).await.expect("the names are free");
        let heard = Heard::default();
        assert!(remote.register("echo", Props::from_fn(move || support::Echoer(heard.clone()))));
        // An actor below the activator, which ends before it does.
        let spawned =
            within("an actor", peer.remote.spawn_remote(remote.address(), "echo")).await.expect("spawned");
        let far = peer.remote.resolve::<Echo>(&spawned).expect("a pid");
        assert_eq!(peer.ask(&far, &round.to_string()).await, Ok(format!("re:{round}")));
        ended.push(Arc::downgrade(remote.node_for_tests()));
        within("the end", remote.shutdown(round % 2 == 0)).await;
    }
    raw::eventually("no node is kept", || ended.iter().all(|node| node.strong_count() == 0)).await;
    peer.stop().await;
    within("shutdown", system.shutdown()).await.expect("an orderly end");
}

/// Without a handle a node goes on to serve, until its system ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_needs_no_handle_to_live() {
    let (peer, node) = (TestNode::start("peer", local()).await, TestNode::start("node", local()).await);
    let far = peer.far(&node, "echo");
    let TestNode { system, remote, .. } = node;
    let ended = Arc::downgrade(remote.node_for_tests());
    drop(remote);
    assert_eq!(peer.ask(&far, "x").await.as_deref(), Ok("re:x"));
    within("shutdown", system.shutdown()).await.expect("an orderly end");
    raw::eventually("it ended", || ended.strong_count() == 0).await;
    peer.stop().await;
}
