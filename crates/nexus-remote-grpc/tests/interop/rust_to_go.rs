//! From our node to live Go nodes of both generations.

use std::path::Path;
use std::time::Duration;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::pid::Pid;
use nexus_actor_core::{Actor, ActorError, ActorRef, AskError, Context, DeadLetterReason, Headers, Props};
use nexus_remote::association::Patience;
use nexus_remote::{EndpointConnectedEvent, EndpointReconnectEvent, EndpointTerminatedEvent};
use nexus_remote_grpc::wire::batch::WireForm;
use nexus_remote_grpc::{ConfigOption, ResponseStatusCode, SpawnRemoteError};
use serde_json::json;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::go_node::{Generation, GoNode, text};
use crate::rust_node::{Numbers, ORDERED, RustNode, STRING};
use crate::support::raw::eventually;
use crate::support::{Echo, within};

/// The form that the generation does not read: with it as the default, whatever arrives was sent in a form found out.
fn wrong_default(generation: Generation) -> ConfigOption {
    ConfigOption::with_default_wire_form(match generation {
        Generation::W1 => WireForm::W2,
        Generation::W2 => WireForm::W1,
    })
}

async fn pair(generation: Generation) -> Option<(RustNode, GoNode)> {
    let go = GoNode::start_alone(generation).await?;
    Some((RustNode::with([wrong_default(generation)]).await, go))
}

/// Covers: S150
#[tokio::test(flavor = "multi_thread")]
async fn messages_questions_and_headers_reach_a_go_node() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let echo = node.at(go.address(), "echo");
        // A Go echo gives back what it gets.
        assert_eq!(node.ask(&echo, "hi").await.as_deref(), Ok("hi"));
        let recorder = node.at(go.address(), "recorder");
        recorder.tell_with_headers(Echo::Note("v".to_owned()), Headers::new().with("trace", "abc"));
        let received = go.event("received", |event| event["type"] == STRING).await;
        assert_eq!((&received["value"], &received["headers"]), (&json!("v"), &json!({ "trace": "abc" })));
        assert!(received["sender"].is_null(), "{received}");

        // A question has a sender, and the answer of whoever knows it is taken.
        let asked = recorder.ask(|reply| Echo::Say("who asks?".to_owned(), reply));
        let received = go.event("received", |event| event["value"] == "who asks?").await;
        let sender = text(&received, "sender").to_owned();
        go.run(json!({ "do": "tell", "to": sender, "type": STRING, "value": "you" })).await;
        assert_eq!(within("the answer", asked).await.as_deref(), Ok("you"));

        // A question that nobody takes is answered by a dead letter response.
        let nobody = node.at(go.address(), "nosuch");
        assert_eq!(node.ask(&nobody, "x").await, Err(AskError::NoSuchActor));
        let target = go.actor("nosuch");
        let dead = go.event("dead_letter", |event| event["target"] == target).await;
        assert_eq!(dead["type"], STRING);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_of_a_go_node_is_looked_up_by_a_touch() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let path = |id: &str| format!("protoactor://{}/user/{id}", go.address());
        let found = within("recorder", node.system.lookup::<Echo>(&path("recorder"))).await;
        let missing = within("nobody", node.system.lookup::<Echo>(&path("nosuch"))).await;
        assert_eq!(missing.err(), Some(AskError::NoSuchActor));
        go.event("received", |event| event["type"] == "actor.Touch").await;
        found.expect("it lives").tell(Echo::Note("found".to_owned()));
        go.event("received", |event| event["value"] == "found").await;
        node.stop().await;
    }
}

/// Covers: S150
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_spawns_for_us_what_it_is_known_to_have() {
    for generation in Generation::BOTH {
        let Some(mut go) = GoNode::start(generation, &[]).await else { continue };
        let address = go.address().to_owned();
        let node = RustNode::with([
            wrong_default(generation),
            ConfigOption::with_known_kinds(&address, ["echo", "recorder"]),
        ])
        .await;
        let bob = within("bob", node.remote.spawn_remote_named(&address, "bob", "echo")).await.expect("ok");
        assert_eq!(bob.to_string(), go.actor("activator/Remote$bob"));
        let again = within("bob", node.remote.spawn_remote_named(&address, "bob", "echo")).await;
        let Err(SpawnRemoteError::Status { status, pid }) = again else { panic!("{again:?}") };
        assert_eq!((status, pid.as_ref()), (ResponseStatusCode::ProcessNameAlreadyExist, Some(&bob)));
        let any = within("any", node.remote.spawn_remote(&address, "recorder")).await.expect("ok");
        assert!(any.id.starts_with("activator/Remote$$"), "{any}");

        // Asked for a kind that it does not have, it would stop all of these.
        let unknown = within("unknown", node.remote.spawn_remote(&address, "unheard-of")).await;
        assert!(matches!(unknown, Err(SpawnRemoteError::KindNotKnown { .. })), "{unknown:?}");
        let bob = node.remote.resolve::<Echo>(&bob).expect("a pid");
        assert_eq!(node.ask(&bob, "alive").await.as_deref(), Ok("alive"));
        assert!(!go.has_event("stopped", |event| event["actor"] == "activator/Remote$bob"));
        node.stop().await;
    }
}

/// Covers: S150
#[tokio::test(flavor = "multi_thread")]
async fn actors_of_a_go_node_are_watched_and_stopped() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let address = go.address().to_owned();
        for name in ["poisoned", "halted", "unwatched"] {
            go.run(json!({ "do": "spawn", "name": name, "kind": "recorder" })).await;
            node.watch(&address, name);
            let watched = go.event("watched", |event| event["actor"] == name).await;
            assert_eq!(text(&watched, "watcher"), node.actor("$system/protoactor_watcher"));
        }
        let poisoned = node.at(&address, "poisoned");
        poisoned.tell(Echo::Note("before the end".to_owned()));
        poisoned.to_any().stop_in_order();
        go.event("received", |event| event["value"] == "before the end").await;
        node.told("poisoned stopped").await;
        node.at(&address, "halted").stop();
        node.told("halted stopped").await;

        node.unwatch(&address, "unwatched");
        go.event("unwatched", |event| event["actor"] == "unwatched").await;
        node.at(&address, "unwatched").to_any().stop_in_order();
        go.event("stopped", |event| event["actor"] == "unwatched").await;

        // One generation does not answer the watch of an actor that is not there, so we also ask for a sign of life.
        node.watch(&address, "nosuch");
        node.told("nosuch never existed").await;

        node.watch(&address, "echo");
        go.event("watched", |event| event["actor"] == "echo").await;
        go.kill().await;
        node.told("echo unreachable").await;
        assert!(!node.ends.all().iter().any(|end| end.starts_with("unwatched ")), "{:?}", node.ends.all());
        node.stop().await;
    }
}

/// Covers: S97
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_messages_reach_a_go_node_in_order() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let sink = node.sink_at(go.address());
        for number in 1..=ORDERED as i64 {
            sink.tell(Numbers::Number(number));
        }
        let done = go.run(json!({ "do": "sink", "count": ORDERED, "timeout_ms": 60_000 })).await;
        let whole = json!({ "count": ORDERED, "first": 1, "last": ORDERED, "missing": 0, "reordered": 0 });
        assert_eq!(done["tally"], whole);
        let counted = within("a count", sink.ask(|reply| Numbers::Count(String::new(), reply))).await;
        assert_eq!(counted, Ok(ORDERED as i64));
        assert_eq!(node.system.dead_letters().total(), 0);
        node.stop().await;
    }
}

/// Covers: S150, S151
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_that_says_goodbye_is_left_and_found_again() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let address = go.address().to_owned();
        let mut ended = node.events::<EndpointTerminatedEvent>();
        let echo = node.at(&address, "echo");
        assert_eq!(node.ask(&echo, "a").await.as_deref(), Ok("a"));
        node.watch(&address, "echo");
        go.event("watched", |event| event["actor"] == "echo").await;

        let shut = go.run(json!({ "do": "shutdown", "graceful": true })).await;
        // After ten seconds it ends by force.
        assert!(shut["took_us"].as_u64().is_some_and(|took| took < 10_000_000), "{shut}");
        let end = ended.next("the goodbye").await;
        assert_eq!((&*end.address, &*end.reason), (&*address, "the peer disconnected"));
        node.told("echo unreachable").await;
        go.kill().await;

        let again = GoNode::start_again(generation, &address).await.expect("it started before");
        assert_eq!(node.ask(&echo, "b").await.as_deref(), Ok("b"));
        drop(again);
        node.stop().await;
    }
}

/// Covers: S153
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_that_blocks_us_is_not_pressed() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let address = go.address().to_owned();
        go.run(json!({ "do": "block", "systems": [node.remote.system_id()] })).await;
        let mut ended = node.events::<EndpointTerminatedEvent>();
        let mut letters = node.events::<DeadLetterEvent>();
        let (recorder, echo) = (node.at(&address, "recorder"), node.at(&address, "echo"));
        recorder.tell(Echo::Note("not welcome".to_owned()));
        assert_eq!(&*ended.next("the refusal").await.reason, "blocked");
        let letter = letters.next("a dead letter").await;
        assert_eq!(letter.reason(), DeadLetterReason::Blocked);
        assert_eq!(letter.pid, Some(Pid::new(&*address, "recorder")));
        assert_eq!(node.ask(&echo, "x").await, Err(AskError::Blocked));
        // What a Go node would have taken all the same.
        go.run(json!({ "do": "stats" })).await;
        assert!(!go.has_event("received", |event| event["value"] == "not welcome"));
        node.stop().await;
    }
}

/// A Go node that another one, of the other generation, replaces at its address is written to in the new one's form.
#[tokio::test(flavor = "multi_thread")]
async fn the_form_is_found_out_again_when_the_node_there_is_another_one() {
    for (before, after) in [(Generation::W1, Generation::W2), (Generation::W2, Generation::W1)] {
        let Some((node, go)) = pair(before).await else { continue };
        let address = go.address().to_owned();
        let mut connected = node.events::<EndpointConnectedEvent>();
        let echo = node.at(&address, "echo");
        assert_eq!(node.ask(&echo, "before").await.as_deref(), Ok("before"));
        connected.next("the first").await;
        go.kill().await;
        let Some(_go) = GoNode::start_again(after, &address).await else { continue };
        connected.next("the second").await;
        assert_eq!(node.ask(&echo, "after").await.as_deref(), Ok("after"));
        node.stop().await;
    }
}

/// The two generations do not understand each other, and each understands us.
#[tokio::test(flavor = "multi_thread")]
async fn one_node_speaks_to_both_generations_at_once() {
    let Some(mut old) = GoNode::start(Generation::W1, &[]).await else { return };
    let Some(mut new) = GoNode::start(Generation::W2, &[]).await else { return };
    let mut node = RustNode::with([]).await;
    let mut numbers = 0;
    for go in [&mut old, &mut new] {
        go.run(json!({ "do": "burst", "to": node.actor("sink"), "start": 1, "count": 1_000 })).await;
        let sink = node.sink_at(go.address());
        (1..=1_000).for_each(|number| sink.tell(Numbers::Number(number)));
        numbers += 1_000;
    }
    node.counted(numbers).await;
    for go in [&mut old, &mut new] {
        let tally = go.run(json!({ "do": "sink", "count": 1_000 })).await["tally"].clone();
        assert_eq!((&tally["last"], &tally["missing"]), (&json!(1_000), &json!(0)));
        assert_eq!(node.ask(&node.at(go.address(), "echo"), "hi").await.as_deref(), Ok("hi"));
    }
    node.stop().await;
}

/// Asked for signs of life all the time, a Go node goes on: other servers end the connection of who asks too often.
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_that_is_only_silent_is_not_annoyed() {
    for generation in Generation::BOTH {
        let Some(go) = GoNode::start(generation, &[]).await else { continue };
        let interval = Duration::from_millis(50);
        let node = RustNode::with([
            wrong_default(generation),
            ConfigOption::with_endpoint_heartbeat_interval(interval),
        ])
        .await;
        let mut reconnecting = node.events::<EndpointReconnectEvent>();
        let echo = node.at(go.address(), "echo");
        assert_eq!(node.ask(&echo, "a").await.as_deref(), Ok("a"));
        // Each sign of life is one message received: forty of them without a word of ours between.
        let received = || node.remote.get_endpoint_statistics(go.address()).expect("an endpoint").received;
        let enough = received() + 40;
        eventually("signs of life", || received() >= enough).await;
        assert!(reconnecting.try_next().is_none(), "nothing was lost");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_go_node_is_noticed_and_found_again() {
    for generation in Generation::BOTH {
        let Some(go) = GoNode::start(generation, &[]).await else { continue };
        let timeout = Duration::from_secs(1);
        let node = RustNode::with([
            wrong_default(generation),
            ConfigOption::with_endpoint_heartbeat_interval(Duration::from_millis(50)),
            ConfigOption::with_endpoint_heartbeat_timeout(timeout),
            ConfigOption::with_handshake_timeout(timeout),
            ConfigOption::with_endpoint_reconnect_max_retries(1_000),
            ConfigOption::with_endpoint_reconnect_max_backoff(timeout),
        ])
        .await;
        let mut connected = node.events::<EndpointConnectedEvent>();
        let mut reconnecting = node.events::<EndpointReconnectEvent>();
        let echo = node.at(go.address(), "echo");
        // On a busy machine a second of silence may come at any time, and take the question with it.
        let answers = async |text| {
            within("an answer", async {
                while node.ask(&echo, text).await.as_deref() != Ok(text) {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        };
        answers("a").await;
        go.signal("STOP");
        while reconnecting.try_next().is_some() {}
        reconnecting.next("the loss").await;
        while connected.try_next().is_some() {}
        go.signal("CONT");
        connected.next("the connection").await;
        answers("b").await;
        node.stop().await;
    }
}

/// What a Go node does not link could end it; what the protocol itself needs goes to every node.
#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_a_go_node_does_not_know_is_not_sent() {
    for generation in Generation::BOTH {
        let Some(mut go) = GoNode::start(generation, &[]).await else { continue };
        let address = go.address().to_owned();
        let node = RustNode::with([
            wrong_default(generation),
            ConfigOption::with_known_type_names(&address, [STRING]),
        ])
        .await;
        let recorder = node.at(&address, "recorder");
        let mut letters = node.events::<DeadLetterEvent>();
        recorder.tell(Echo::Count(1));
        let letter = letters.next("a dead letter").await;
        assert_eq!(letter.reason(), DeadLetterReason::Encode);
        recorder.tell(Echo::Note("known".to_owned()));
        let received = go.event("received", |_| true).await;
        assert_eq!(received["value"], "known");
        // A sign of life, an answer to one, a spawn and its answer, and the end of an actor.
        let touched = go.run(json!({ "do": "ask", "to": node.actor("echo"), "type": "actor.Touch" })).await;
        assert_eq!(touched["type"], "actor.Touched");
        let spawned = go
            .run(json!({ "do": "spawn_remote", "to": node.remote.address(), "name": "x", "kind": "echo" }))
            .await;
        assert_eq!(spawned["status"], 0);
        let refused = go.try_run(json!({ "do": "ask", "to": node.actor("nosuch"), "type": STRING })).await;
        assert_eq!(refused.expect_err("nobody is there"), "future: dead letter");
        within("ann", node.remote.spawn_remote_named(&address, "ann", "echo")).await.expect("spawned");
        recorder.to_any().stop_in_order();
        go.event("stopped", |event| event["actor"] == "recorder").await;
        node.stop().await;
    }
}

/// A batch of a thousand of these would be longer than a Go node accepts, and all of them lost.
#[tokio::test(flavor = "multi_thread")]
async fn long_messages_reach_a_go_node_in_batches_that_it_accepts() {
    const COUNT: u64 = 3_000;
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        let sink = node.sink_at(go.address());
        for _ in 0..COUNT {
            within("room", sink.send(Numbers::Block(vec![7; 6_000]))).await.expect("it is taken");
        }
        // The longest that one message may be, nearly.
        within("room", sink.send(Numbers::Block(vec![7; 4_000_000]))).await.expect("it is taken");
        go.run(json!({ "do": "sink", "count": COUNT + 1, "timeout_ms": 60_000 })).await;
        assert_eq!(node.system.dead_letters().total(), 0);
        node.stop().await;
    }
}

/// Both at once, so that neither direction holds the other up.
#[tokio::test(flavor = "multi_thread")]
async fn both_directions_flow_at_once_and_in_order() {
    for generation in Generation::BOTH {
        let Some((mut node, mut go)) = pair(generation).await else { continue };
        let back =
            go.send(json!({ "do": "burst", "to": node.actor("sink"), "start": 1, "count": ORDERED })).await;
        let sink = node.sink_at(go.address());
        for number in 1..=ORDERED as i64 {
            within("room", sink.send(Numbers::Number(number))).await.expect("it is taken");
        }
        go.answer(back).await.expect("it was sent");
        let tally = node.counted(ORDERED).await;
        assert_eq!((tally.count, tally.missing, tally.reordered), (ORDERED, 0, 0));
        let done = go.run(json!({ "do": "sink", "count": ORDERED, "timeout_ms": 60_000 })).await;
        let tally = &done["tally"];
        assert_eq!((&tally["missing"], &tally["reordered"]), (&json!(0), &json!(0)));
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_announce_another_name_reach_each_other() {
    for generation in Generation::BOTH {
        // The port is not known before it listens: a free one is drawn here.
        let port = {
            let drawn = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            drawn.local_addr().expect("it is bound").port().to_string()
        };
        let advertised = format!("localhost:{port}");
        let flags = ["-port", &*port, "-advertise", &*advertised];
        let Some(mut go) = GoNode::start(generation, &flags).await else { continue };
        assert_eq!(go.address(), advertised);
        let node = RustNode::with([ConfigOption::with_advertised_host("localhost")]).await;
        assert_eq!(node.remote.address(), format!("localhost:{}", node.port()));
        assert_eq!(node.ask(&node.at(&advertised, "echo"), "hi").await.as_deref(), Ok("hi"));
        let reply = go.run(json!({ "do": "ask", "to": node.actor("echo"), "type": STRING })).await;
        assert_eq!(reply["value"], "re:");
        node.stop().await;
    }
}

/// With TLS a peer shows who it is, and may then stop what it spawned, which a stranger may not.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_reach_each_other_over_tls() {
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a valid name");
    let (certificate, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let files = ["rust-to-go.crt", "rust-to-go.key"].map(|name| folder.join(name));
    std::fs::write(&files[0], &certificate).expect("cargo made the folder");
    std::fs::write(&files[1], &key).expect("cargo made the folder");
    let files = files.map(|file| file.display().to_string());
    let flags = ["-tls-cert", &files[0], "-tls-key", &files[1], "-tls-ca", &files[0]];
    let (ours, trusted) = (Identity::from_pem(&certificate, &key), Certificate::from_pem(&certificate));
    let client = ClientTlsConfig::new().ca_certificate(trusted.clone()).identity(ours.clone());
    let server = ServerTlsConfig::new().identity(ours).client_ca_root(trusted);
    for generation in Generation::BOTH {
        let Some(mut go) = GoNode::start(generation, &flags).await else { continue };
        let node = RustNode::with([
            wrong_default(generation),
            ConfigOption::with_client_tls(client.clone()),
            ConfigOption::with_server_tls(server.clone()),
        ])
        .await;
        assert_eq!(node.ask(&node.at(go.address(), "echo"), "hi").await.as_deref(), Ok("hi"));
        let to = node.remote.address();
        go.run(json!({ "do": "spawn_remote", "to": to, "name": "bob", "kind": "echo" })).await;
        go.run(json!({ "do": "poison", "to": node.actor("activator/Remote$bob") })).await;
        node.heard.until("the end of what it spawned", |all| all == ["stopping"]).await;
        let mut letters = node.events::<DeadLetterEvent>();
        go.run(json!({ "do": "poison", "to": node.actor("echo") })).await;
        assert_eq!(letters.next("a dead letter").await.reason(), DeadLetterReason::Denied);
        node.stop().await;
    }
}

/// Who asks or watches while a connection is made again means the node that is found then, not the one that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_during_a_reconnect_is_asked_of_the_node_that_comes_back() {
    for generation in Generation::BOTH {
        let Some(mut go) = GoNode::start_alone(generation).await else { continue };
        let address = go.address().to_owned();
        let node = RustNode::with([
            wrong_default(generation),
            ConfigOption::with_queue_patience(Patience::Keep),
            ConfigOption::with_endpoint_reconnect_max_retries(100),
        ])
        .await;
        let (echo, recorder) = (node.at(&address, "echo"), node.at(&address, "recorder"));
        assert_eq!(node.ask(&echo, "a").await.as_deref(), Ok("a"));
        // One question and one watch of the node that goes.
        let lost = recorder.ask(|reply| Echo::Say("never answered".to_owned(), reply));
        go.event("received", |event| event["value"] == "never answered").await;
        node.watch(&address, "recorder");
        go.event("watched", |event| event["actor"] == "recorder").await;
        let mut reconnecting = node.events::<EndpointReconnectEvent>();
        go.kill().await;
        reconnecting.next("an attempt").await;

        let asked = echo.ask(|reply| Echo::Say("b".to_owned(), reply));
        node.watch(&address, "echo");
        node.told("watching echo").await;
        let mut go = GoNode::start_again(generation, &address).await.expect("it started before");
        go.event("watched", |event| event["actor"] == "echo").await;
        assert_eq!(within("an answer", asked).await.as_deref(), Ok("b"));
        assert_eq!(within("an end", lost).await, Err(AskError::Unreachable));
        node.told("recorder unreachable").await;
        echo.stop();
        let ends =
            node.ends.until("the end", |all| all.last().is_some_and(|end| end == "echo stopped")).await;
        assert!(!ends.iter().any(|end| end == "echo unreachable"), "{ends:?}");
        node.stop().await;
    }
}

/// A question that our actor passes on carries its asker with it, who gets the answer from whoever has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_passed_on_between_go_nodes_is_answered_to_its_asker() {
    for generation in Generation::BOTH {
        let Some((node, mut asking)) = pair(generation).await else { continue };
        let Some(answering) = GoNode::start(generation, &[]).await else { continue };
        let echo = node.at(answering.address(), "echo");
        node.system.spawn("relay", Props::from_fn(move || Relay(echo.clone()))).expect("a free name");
        let ask = json!({ "do": "ask", "to": node.actor("relay"), "type": STRING, "value": "far" });
        assert_eq!(asking.run(ask).await["value"], "far", "not `re:far`: the Go echo has answered");
        // And who is passed on to nobody is told by nobody else.
        let nobody = node.at(answering.address(), "nosuch");
        node.system.spawn("lost", Props::from_fn(move || Relay(nobody.clone()))).expect("a free name");
        let ask = json!({ "do": "ask", "to": node.actor("lost"), "type": STRING, "value": "far" });
        assert_eq!(asking.try_run(ask).await.expect_err("nobody is there"), "future: dead letter");
        node.stop().await;
    }
}

struct Relay(ActorRef<Echo>);

impl Actor for Relay {
    type Msg = Echo;
    async fn receive(&mut self, message: Echo, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        self.0.tell(message);
        Ok(())
    }
}

/// Covers: S109
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_go_node_does_not_hold_up_the_end_of_ours() {
    for generation in Generation::BOTH {
        let Some((node, mut go)) = pair(generation).await else { continue };
        assert_eq!(node.ask(&node.at(go.address(), "echo"), "a").await.as_deref(), Ok("a"));
        go.run(json!({ "do": "ask", "to": node.actor("echo"), "type": STRING })).await;
        go.signal("STOP");
        let sink = node.sink_at(go.address());
        // More than the buffers in between hold.
        for _ in 0..5_000 {
            sink.tell(Numbers::Block(vec![7; 6_000]));
        }
        let (system, remote) = (node.system.clone(), node.remote.clone());
        // How long exactly that may take is seen on virtual time.
        node.stop().await;
        assert_eq!(remote.tasks(), 0);
        let lost = system.dead_letters().count(DeadLetterReason::Shutdown);
        assert!(lost > 0, "what was not sent is recorded");
    }
}
