//! The Go programs among themselves: that the means of the other tests work, and that protoactor-go still behaves as the
//! wire was described. Nothing of ours is proved here.

use std::path::Path;

use serde_json::{Value, json};

use crate::go_node::{Generation, GoNode, text};

const STRING: &str = "google.protobuf.StringValue";
const ORDERED: u64 = 100_000;

/// Two nodes of protoactor-go do with each other what our node does with one in the other tests.
#[tokio::test]
async fn nodes_of_one_generation_work_together() {
    for generation in Generation::BOTH {
        let Some(mut near) = GoNode::start(generation, &[]).await else { continue };
        let Some(mut far) = GoNode::start_alone(generation).await else { continue };
        messages(&mut near, &mut far).await;
        spawning(&mut near, &mut far).await;
        watching(&mut near, &mut far, generation).await;
        order(&mut near, &mut far).await;
        hanging(&mut near, &mut far).await;
        ends(near, far, generation).await;
    }
}

async fn messages(near: &mut GoNode, far: &mut GoNode) {
    let reply =
        near.run(json!({ "do": "ask", "to": far.actor("echo"), "type": STRING, "value": "hi" })).await;
    assert_eq!((&reply["type"], &reply["value"]), (&json!(STRING), &json!("hi")));

    let sent = json!({
        "do": "tell", "to": far.actor("recorder"), "type": STRING, "value": "v", "headers": { "trace": "abc" },
        "from": "recorder", "request_id": 77,
    });
    near.run(sent).await;
    let received = far.event("received", |_| true).await;
    assert_eq!(received["headers"], json!({ "trace": "abc" }));
    assert_eq!(
        (text(&received, "sender"), &received["sender_request_id"]),
        (&*near.actor("recorder"), &json!(77))
    );

    let touched = near.run(json!({ "do": "ask", "to": far.actor("echo"), "type": "actor.Touch" })).await;
    assert_eq!(touched["value"], json!({ "who": { "Address": far.address(), "Id": "echo" } }));

    let refused = near.try_run(json!({ "do": "ask", "to": far.actor("nosuch"), "type": STRING })).await;
    assert_eq!(refused.expect_err("nobody is there"), "future: dead letter");
    let nosuch = far.actor("nosuch");
    let dead = far.event("dead_letter", |event| event["target"] == nosuch).await;
    assert_eq!(dead["type"], STRING);
}

async fn spawning(near: &mut GoNode, far: &mut GoNode) {
    let address = far.address().to_owned();
    let spawn =
        |name: &str, kind: &str| json!({ "do": "spawn_remote", "to": address, "name": name, "kind": kind });
    for status in [0, 3] {
        let spawned = near.run(spawn("bob", "echo")).await;
        assert_eq!(spawned["status"], status);
        assert_eq!(text(&spawned, "pid"), far.actor("activator/Remote$bob"));
    }
    let generated = near.run(spawn("", "sink")).await;
    assert!(text(&generated, "pid").starts_with(&far.actor("activator/Remote$$")), "{generated}");

    // What a Go node does to all it spawned when asked for a kind it does not know.
    watch(near, far, "activator/Remote$bob").await;
    let unknown = near.run(spawn("ann", "unheard-of")).await;
    assert_eq!((&unknown["status"], &unknown["pid"]), (&json!(4), &Value::Null));
    let bob = far.actor("activator/Remote$bob");
    near.event("terminated", |event| event["who"] == bob).await;
}

async fn watching(near: &mut GoNode, far: &mut GoNode, generation: Generation) {
    for (name, end) in [("p1", "poison"), ("p2", "stop")] {
        far.run(json!({ "do": "spawn", "name": name, "kind": "recorder" })).await;
        watch(near, far, name).await;
        let who = far.actor(name);
        near.run(json!({ "do": end, "to": who })).await;
        let terminated = near.event("terminated", |event| event["who"] == who).await;
        assert_eq!((text(&terminated, "watcher"), text(&terminated, "why")), ("recorder", "Stopped"));
        far.event("stopped", |event| event["actor"] == name).await;
    }

    far.run(json!({ "do": "spawn", "name": "p3", "kind": "recorder" })).await;
    watch(near, far, "p3").await;
    near.run(json!({ "do": "unwatch", "from": "recorder", "to": far.actor("p3") })).await;
    far.event("unwatched", |event| event["actor"] == "p3").await;
    // A future's own watch may come after the end. W1 answers even then; on W2 the future would time out.
    let end = if generation == Generation::W1 { "poison_future" } else { "poison" };
    near.run(json!({ "do": end, "to": far.actor("p3") })).await;
    far.event("stopped", |event| event["actor"] == "p3").await;
    near.run(json!({ "do": "ask", "to": far.actor("echo"), "type": STRING })).await;
    let p3 = far.actor("p3");
    assert!(!near.has_event("terminated", |event| event["who"] == p3));

    // W2 leaves the watch of a missing actor without an answer, and there is no event to wait for.
    if generation == Generation::W1 {
        let nosuch = far.actor("nosuch");
        near.run(json!({ "do": "watch", "from": "recorder", "to": nosuch })).await;
        near.event("terminated", |event| event["who"] == nosuch).await;
    }
}

/// Waits until it is on record: Go keeps no order between a watch and the messages sent after it.
async fn watch(near: &mut GoNode, far: &mut GoNode, name: &str) {
    near.run(json!({ "do": "watch", "from": "recorder", "to": far.actor(name) })).await;
    let watched = far.event("watched", |event| event["actor"] == name).await;
    assert_eq!(text(&watched, "watcher"), near.actor("recorder"));
}

async fn order(near: &mut GoNode, far: &mut GoNode) {
    near.run(json!({ "do": "burst", "to": far.actor("sink"), "start": 1, "count": ORDERED })).await;
    let sink = far.run(json!({ "do": "sink", "count": ORDERED })).await;
    assert_eq!(
        sink["tally"],
        json!({ "count": ORDERED, "first": 1, "last": ORDERED, "missing": 0, "reordered": 0 })
    );
    let counted = near.run(json!({ "do": "ask", "to": far.actor("sink"), "type": STRING })).await;
    assert_eq!(counted["value"], ORDERED.to_string(), "a sink tells a peer its count");
    assert_eq!(far.run(json!({ "do": "reset_sink" })).await["tally"]["count"], ORDERED);
    let stats = near.run(json!({ "do": "stats" })).await;
    assert_eq!(stats["dead_letters"], 0);

    let endless = near.send(json!({ "do": "burst", "to": far.actor("sink"), "every_us": 100 })).await;
    far.run(json!({ "do": "sink", "count": 10 })).await;
    near.run(json!({ "do": "stop_bursts" })).await;
    let sent = &near.answer(endless).await.expect("it was ended")["sent"];
    let sink = far.run(json!({ "do": "sink", "count": sent })).await;
    assert_eq!(&sink["tally"]["count"], sent);
}

/// A hung peer is not noticed by Go; what was sent is delivered when it goes on.
async fn hanging(near: &mut GoNode, far: &mut GoNode) {
    far.signal("STOP");
    let asked =
        near.send(json!({ "do": "ask", "to": far.actor("echo"), "type": STRING, "value": "still?" })).await;
    near.run(json!({ "do": "stats" })).await;
    assert!(!near.has_event("disconnected", |_| true));
    far.signal("CONT");
    assert_eq!(near.answer(asked).await.expect("it goes on")["value"], "still?");
}

async fn ends(mut near: GoNode, mut far: GoNode, generation: Generation) {
    let (address, echo) = (far.address().to_owned(), far.actor("echo"));
    watch(&mut near, &mut far, "echo").await;
    far.kill().await;
    near.event("disconnected", |event| event["address"] == address).await;
    let terminated = near.event("terminated", |event| event["who"] == echo).await;
    assert_eq!(terminated["why"], "AddressTerminated");

    let mut again = GoNode::start_again(generation, &address).await.expect("it started before");
    near.run(json!({ "do": "ask", "to": echo, "type": STRING, "value": "back" })).await;
    again.run(json!({ "do": "shutdown", "graceful": true })).await;
    near.event("disconnected", |event| event["address"] == address).await;
    again.run(json!({ "do": "tell", "to": near.actor("recorder"), "type": STRING })).await;
    again.event("dead_letter", |event| event["target"] == near.actor("recorder")).await;
}

/// A node that has blocked another says so in the handshake, and Go goes on sending all the same.
#[tokio::test]
async fn a_blocked_go_node_does_not_care() {
    for generation in Generation::BOTH {
        let Some(mut near) = GoNode::start(generation, &[]).await else { continue };
        let Some(mut far) = GoNode::start(generation, &["-block", "somebody"]).await else { continue };
        far.run(json!({ "do": "block", "systems": [near.system_id()] })).await;
        near.run(
            json!({ "do": "tell", "to": far.actor("recorder"), "type": STRING, "value": "all the same" }),
        )
        .await;
        let received = far.event("received", |_| true).await;
        assert_eq!(received["value"], "all the same");
    }
}

/// Without a node that speaks both, the two generations lose each other's messages.
#[tokio::test]
async fn the_generations_do_not_understand_each_other() {
    let Some(mut old) = GoNode::start(Generation::W1, &[]).await else { return };
    let Some(mut new) = GoNode::start(Generation::W2, &[]).await else { return };

    old.run(json!({ "do": "tell", "to": new.actor("recorder"), "type": STRING })).await;
    // The whole PID has become the id.
    let lost = new.event("dead_letter", |_| true).await;
    assert!(text(&lost, "target").contains("\n\u{f}127.0.0.1:"), "{lost}");

    new.run(json!({ "do": "tell", "to": old.actor("recorder"), "type": STRING })).await;
    new.event("disconnected", |event| event["address"] == old.address()).await;
}

/// One message with nothing in it ends the whole program, and what it logged last can be read.
#[tokio::test]
async fn a_terminated_that_names_nobody_ends_a_go_node() {
    for generation in Generation::BOTH {
        let Some(mut near) = GoNode::start(generation, &[]).await else { continue };
        let Some(far) = GoNode::start(generation, &[]).await else { continue };
        near.run(json!({ "do": "tell", "to": far.actor("recorder"), "type": "actor.Terminated" })).await;
        let log = far.exited().await;
        assert!(log.contains("goroutine"), "no panic in the log:\n{log}");
    }
}

/// The flags for TLS, with one certificate that both nodes show and trust.
#[tokio::test]
async fn go_nodes_speak_over_tls() {
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a valid name");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (certificate, key) = (folder.join("go-node.crt"), folder.join("go-node.key"));
    std::fs::write(&certificate, identity.cert.pem()).expect("cargo made the folder");
    std::fs::write(&key, identity.signing_key.serialize_pem()).expect("cargo made the folder");
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let flags = ["-tls-cert", &certificate, "-tls-key", &key, "-tls-ca", &certificate];
    for generation in Generation::BOTH {
        let Some(mut near) = GoNode::start(generation, &flags).await else { continue };
        let Some(far) = GoNode::start(generation, &flags).await else { continue };
        let reply =
            near.run(json!({ "do": "ask", "to": far.actor("echo"), "type": STRING, "value": "hi" })).await;
        assert_eq!(reply["value"], "hi");
    }
}
