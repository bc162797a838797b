//! From live Go nodes of both generations to our node.

use std::sync::Arc;

use bytes::Bytes;
use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::{DeadLetterReason, Props};
use nexus_remote_grpc::ConfigOption;
use nexus_remote_grpc::config::Config;
use nexus_remote_grpc::endpoint::pid_entry::PidEntry;
use nexus_remote_grpc::wire::batch::{BatchLimits, BatchWriter, OutgoingEnvelope, TypeName, WireForm};
use nexus_remote_grpc::wire::proto::remote::connect_request::ConnectionType;
use nexus_remote_grpc::wire::proto::remote::remote_message::MessageType;
use nexus_remote_grpc::wire::proto::remote::{ConnectRequest, RemoteMessage, ServerConnection};
use nexus_remote_grpc::wire::remoting::RemotingClient;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::go_node::{Generation, GoNode, text};
use crate::rust_node::{ORDERED, RustNode, STRING, Tally};
use crate::support::{Echoer, Heard, own_host, within};

async fn pair(generation: Generation) -> Option<(RustNode, GoNode)> {
    let go = GoNode::start(generation, &[]).await?;
    Some((RustNode::with([]).await, go))
}

fn parity(port: u16) -> Config {
    Config::protoactor_parity().with([ConfigOption::with_host("127.0.0.1"), ConfigOption::with_port(port)])
}

/// Covers: S33, S129, S150
#[tokio::test(flavor = "multi_thread")]
async fn messages_questions_and_headers_come_from_a_go_node() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let echo = node.actor("echo");
        let reply = go.run(json!({ "do": "ask", "to": echo, "type": STRING, "value": "hi" })).await;
        assert_eq!((&reply["type"], &reply["value"]), (&json!(STRING), &json!("re:hi")));
        let sent = json!({
            "do": "tell", "to": echo, "type": STRING, "value": "v", "headers": { "trace": "abc" },
        });
        go.run(sent).await;
        node.heard.until("header and text", |all| all == ["trace=abc", "v"]).await;
        // An actor that asks is answered like a future.
        let asked = json!({
            "do": "tell", "to": echo, "type": STRING, "value": "you", "from": "recorder", "request_id": 77,
        });
        go.run(asked).await;
        let received = go.event("received", |_| true).await;
        assert_eq!((&received["value"], &received["actor"]), (&json!("re:you"), &json!("recorder")));

        let touched = go.run(json!({ "do": "ask", "to": echo, "type": "actor.Touch" })).await;
        assert_eq!(touched["value"], json!({ "who": { "Address": node.remote.address(), "Id": "echo" } }));

        // Who asks nobody is told, a future and an actor.
        let mut letters = node.events::<DeadLetterEvent>();
        let nosuch = node.actor("nosuch");
        let refused = go.try_run(json!({ "do": "ask", "to": nosuch, "type": STRING })).await;
        assert_eq!(refused.expect_err("nobody is there"), "future: dead letter");
        let letter = letters.next("a dead letter").await;
        assert_eq!(letter.reason(), DeadLetterReason::NoSuchActor);
        assert_eq!(letter.pid, Some(node.pid("nosuch")));
        go.run(json!({ "do": "tell", "to": nosuch, "type": STRING, "from": "recorder" })).await;
        let told = go.event("received", |event| event["type"] == "actor.DeadLetterResponse").await;
        let target = json!({ "Target": { "Address": node.remote.address(), "Id": "nosuch" } });
        assert_eq!(told["value"], target);
        let missing = go.try_run(json!({ "do": "ask", "to": nosuch, "type": "actor.Touch" })).await;
        assert_eq!(missing.expect_err("nobody is there"), "future: dead letter");

        // So is who asks with a type that the actor here does not take. It would have ended a Go node of one generation.
        let mut letters = node.events::<DeadLetterEvent>();
        let unknown =
            go.try_run(json!({ "do": "ask", "to": echo, "type": "google.protobuf.Timestamp" })).await;
        assert_eq!(unknown.expect_err("it cannot be read"), "future: dead letter");
        assert_eq!(letters.next("a dead letter").await.reason(), DeadLetterReason::Decode);
        node.stop().await;
    }
}

/// Covers: S130, S150
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_has_actors_spawned_here() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let to = node.remote.address().to_owned();
        let spawn =
            |name: &str, kind: &str| json!({ "do": "spawn_remote", "to": to, "name": name, "kind": kind });
        let bob = node.actor("activator/Remote$bob");
        for status in [0, 3] {
            let spawned = go.run(spawn("bob", "echo")).await;
            assert_eq!((&spawned["status"], text(&spawned, "pid")), (&json!(status), &*bob));
        }
        let generated = go.run(spawn("", "echo")).await;
        assert_eq!(text(&generated, "pid"), node.actor("activator/Remote$$1"));
        let unknown = go.run(spawn("ann", "unheard-of")).await;
        assert_eq!((&unknown["status"], &unknown["pid"]), (&json!(4), &Value::Null));
        // Here that costs nobody anything.
        let reply = go.run(json!({ "do": "ask", "to": bob, "type": STRING, "value": "hi" })).await;
        assert_eq!(reply["value"], "re:hi");
        node.stop().await;
    }
}

/// Watches from the Go node's recorder and waits until our node has it: what is sent behind it has been answered.
async fn watch(node: &RustNode, go: &mut GoNode, id: &str) {
    go.run(json!({ "do": "watch", "from": "recorder", "to": node.actor(id) })).await;
    watches(node, 1).await;
}

/// Waits until the daemon here watches so many actors for peers.
async fn watches(node: &RustNode, count: u64) {
    within("the watch", async {
        while node.remote.peer_watches() != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Covers: S150
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_watches_actors_here() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        watch(&node, &mut go, "echo").await;
        node.system.find("/user/echo").expect("it lives").stop();
        let who = node.actor("echo");
        let told = go.event("terminated", |event| event["who"] == who).await;
        assert_eq!((text(&told, "watcher"), text(&told, "why")), ("recorder", "Stopped"));
        watches(&node, 0).await;

        // A Go node of either generation is answered, though one of them would not answer itself.
        let nosuch = node.actor("nosuch");
        go.run(json!({ "do": "watch", "from": "recorder", "to": nosuch })).await;
        go.event("terminated", |event| event["who"] == nosuch).await;

        let heard = Heard::default();
        let props = heard.clone();
        let other =
            node.system.spawn("other", Props::from_fn(move || Echoer(props.clone()))).expect("a free name");
        watch(&node, &mut go, "other").await;
        go.run(json!({ "do": "unwatch", "from": "recorder", "to": node.actor("other") })).await;
        watches(&node, 0).await;
        other.stop();
        heard.until("the end", |all| all == ["stopping"]).await;
        // Behind whatever would have been said.
        let nosuch = node.actor("nosuch2");
        go.run(json!({ "do": "watch", "from": "recorder", "to": nosuch })).await;
        go.event("terminated", |event| event["who"] == nosuch).await;
        let other = node.actor("other");
        assert!(!go.has_event("terminated", |event| event["who"] == other));
        node.stop().await;
    }
}

/// Covers: S150
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_stops_actors_here_only_where_it_may() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let mut letters = node.events::<DeadLetterEvent>();
        for (end, name) in [("poison", "actor.PoisonPill"), ("stop", "actor.Stop")] {
            go.run(json!({ "do": end, "to": node.actor("echo") })).await;
            let letter = letters.next("a dead letter").await;
            assert_eq!(letter.reason(), DeadLetterReason::Denied);
            assert_eq!(letter.pid, Some(node.pid("echo")));
            assert_eq!(letter.message.type_name, name);
        }
        let reply = go.run(json!({ "do": "ask", "to": node.actor("echo"), "type": STRING })).await;
        assert_eq!(reply["value"], "re:", "it goes on");
        node.stop().await;

        let node = RustNode::start(parity(0)).await;
        for (name, end) in [("p1", "poison"), ("p2", "stop"), ("p3", "poison_future"), ("p4", "stop_future")]
        {
            let heard = Heard::default();
            let props = heard.clone();
            node.system.spawn(name, Props::from_fn(move || Echoer(props.clone()))).expect("a free name");
            // A future ends when it is told of the end, though its own watch may come after it.
            go.run(json!({ "do": end, "to": node.actor(name) })).await;
            heard.until(end, |all| all == ["stopping"]).await;
        }
        assert_eq!(node.system.dead_letters().count(DeadLetterReason::Denied), 0);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_messages_come_from_a_go_node_in_order() {
    for generation in Generation::BOTH {
        let Some((mut node, mut go)) = pair(generation).await else { continue };
        go.run(json!({ "do": "burst", "to": node.actor("sink"), "start": 1, "count": ORDERED })).await;
        let whole = Tally { count: ORDERED, first: 1, last: ORDERED as i64, missing: 0, reordered: 0 };
        assert_eq!(node.counted(ORDERED).await, whole);
        let counted = go.run(json!({ "do": "ask", "to": node.actor("sink"), "type": STRING })).await;
        assert_eq!(counted["value"], ORDERED.to_string());
        assert_eq!(go.run(json!({ "do": "stats" })).await["dead_letters"], 0);
        node.stop().await;
    }
}

/// The call of a Go node that ends without a goodbye or an error would never be opened again.
///
/// Covers: S150
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_finds_our_node_again_after_every_end() {
    for generation in Generation::BOTH {
        let Some(mut go) = GoNode::start(generation, &[]).await else { continue };
        // Of its own, so that the port stays free between two nodes.
        let host = own_host();
        let mut node = RustNode::with([ConfigOption::with_host(&host)]).await;
        let (port, address) = (node.port(), node.remote.address().to_owned());
        go.run(json!({ "do": "ask", "to": node.actor("echo"), "type": STRING })).await;

        // A message longer than is accepted ends the call.
        let long = "x".repeat(5_000_000);
        go.run(json!({ "do": "tell", "to": node.actor("echo"), "type": STRING, "value": long })).await;
        go.event("disconnected", |event| event["address"] == address).await;
        reaches(&mut go, &node).await;

        for graceful in [true, false] {
            watch(&node, &mut go, "echo").await;
            within("the end", node.remote.shutdown(graceful)).await;
            let who = node.actor("echo");
            let told = go.event("terminated", |event| event["who"] == who).await;
            assert_eq!(told["why"], "AddressTerminated");
            node.stop().await;

            node = RustNode::start_again(Config::new(&host, port)).await;
            reaches(&mut go, &node).await;
        }
        node.stop().await;
    }
}

/// Asks until there is an answer: what a Go node sends while it notices an end goes with that end. One that is stuck would
/// never get an answer.
async fn reaches(go: &mut GoNode, node: &RustNode) {
    let ask =
        json!({ "do": "ask", "to": node.actor("echo"), "type": STRING, "value": "x", "timeout_ms": 2_000 });
    for _ in 0..30 {
        if let Ok(reply) = go.try_run(ask.clone()).await {
            return assert_eq!(reply["value"], "re:x");
        }
    }
    panic!("the Go node does not find {} again", node.remote.address());
}

/// Covers: S127
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_that_is_blocked_gets_nothing_in() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let (address, echo) = (node.remote.address().to_owned(), node.actor("echo"));
        go.run(json!({ "do": "ask", "to": echo, "type": STRING })).await;
        // A live one is cut off, and a new call of it refused.
        assert!(node.remote.block_system(go.system_id()).await);
        go.event("disconnected", |event| event["address"] == address).await;
        // Go reports one end once or twice, so an answer is what tells of the next one: there is none.
        let ask = json!({ "do": "ask", "to": echo, "type": STRING, "value": "refused", "timeout_ms": 1_000 });
        assert_eq!(go.try_run(ask).await.expect_err("it is refused"), "future: timeout");
        assert!(node.remote.unblock_system(go.system_id()).await);
        reaches(&mut go, &node).await;
        node.stop().await;
    }
}

/// No Go node writes JSON, a program on its wire may.
#[tokio::test(flavor = "multi_thread")]
async fn a_json_payload_is_read() {
    let node = RustNode::with([]).await;
    let connection = ServerConnection {
        member_id: "somebody".to_owned(),
        address: "127.0.0.1:9".to_owned(),
        ..ServerConnection::default()
    };
    let request = ConnectRequest { connection_type: Some(ConnectionType::ServerConnection(connection)) };
    let hello = RemoteMessage { message_type: Some(MessageType::ConnectRequest(request)) };
    let (calls, messages) = mpsc::unbounded_channel();
    calls.send(Bytes::from(hello.encode_to_vec())).expect("it is open");
    let url = format!("http://{}", node.remote.address());
    let channel = tonic::transport::Endpoint::from_shared(url).expect("an address").connect().await;
    let mut client = RemotingClient::new(channel.expect("it listens"), 4 * 1024 * 1024);
    let stream = UnboundedReceiverStream::new(messages);
    let mut down = client.receive(stream).await.expect("a call").into_inner();
    within("the answer", down.message()).await.expect("a call").expect("a connect response");

    let target = Arc::new(PidEntry::new(node.remote.address(), "echo"));
    for (form, text) in [(WireForm::W1, "one"), (WireForm::W2, "two")] {
        let payload = format!("{text:?}");
        let mut writer = BatchWriter::new(BatchLimits::default());
        let mut envelope = OutgoingEnvelope::new(
            TypeName { package: "google.protobuf", name: "StringValue" },
            payload.as_bytes(),
            &target,
        );
        envelope.serializer = 1;
        writer.push(&envelope).expect("there is room");
        let mut message = Vec::new();
        writer.finish(form, &mut message);
        calls.send(Bytes::from(message)).expect("it is open");
    }
    node.heard.until("both", |all| all == ["one", "two"]).await;
    node.stop().await;
}
