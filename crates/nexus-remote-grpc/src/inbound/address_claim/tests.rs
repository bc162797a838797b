//! How often the holder of a name is asked, and how long it is waited for: on virtual time, with connections in memory.

use std::time::Duration;

use nexus_actor_core::ActorSystem;
use nexus_remote::ClientConnectedEvent;
use tokio::time::Instant;
use tonic::Code;

use super::Question;
use crate::endpoint::Spelled;
use crate::endpoint_writer::tests::{Door, NEXUS, PEER, Pair};
use crate::endpoint_writer_mailbox::RemoteSystem;
use crate::remote::tests::support::raw::{client_hello, server_hello};
use crate::remote::tests::support::{Echo, TestNode, local, within};
use crate::wire::batch::Incoming;
use crate::{Config, Remote};

/// Half of the time for a handshake.
const PATIENCE: Duration = Duration::from_secs(5);

/// However many claim a name, its holder has a few questions at a time, and none is left of claims that ended.
///
/// Covers: T10
#[tokio::test]
async fn many_claims_are_few_questions() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let node = remote.node_for_tests().clone();
    let holder = node.endpoint("127.0.0.1:1").expect("an address");
    let mut claims = Vec::new();
    for number in 1..=30 {
        claims.push(Question::ask(&holder));
        assert_eq!(node.asks.len(), number.min(4), "after {number} claims");
    }
    // Who asked gives up: the others only wait, until there are few of them.
    claims.drain(..4);
    assert_eq!(node.asks.len(), 0);
    claims.push(Question::ask(&holder));
    assert_eq!(node.asks.len(), 0, "{} others wait", claims.len() - 1);
    claims.truncate(3);
    claims.push(Question::ask(&holder));
    assert_eq!(node.asks.len(), 1);
    drop(claims);
    assert_eq!(node.asks.len(), 0);
    remote.shutdown(false).await;
}

/// A client whose connection is half open: it hears nothing of what it is asked.
///
/// Covers: S155
#[tokio::test(start_paused = true)]
async fn a_client_comes_back_while_its_old_call_is_silent() {
    let server = TestNode::start("server", local()).await;
    let door = Door::of(&server);
    let mut silent = door.call(client_hello("raw")).await.expect("a call");
    let mut connected = server.events::<ClientConnectedEvent>();
    let began = Instant::now();
    let mut call = door.call(client_hello("raw")).await.expect("it is taken");
    assert_eq!(began.elapsed(), PATIENCE, "the first was asked for a sign of life");
    assert_eq!(&*connected.next("the client").await.system_id, "raw");
    let address = server.remote.manager().client_connections()[0].address().expect("it is connected");
    server.at(&address, "any").tell(Echo::Note("down".to_owned()));
    within("the note", async {
        loop {
            if let Some(Incoming::Batch(batch)) = call.next().await.expect("it serves")
                && batch.envelopes().flatten().any(|envelope| envelope.type_name.ends_with("StringValue"))
            {
                return;
            }
        }
    })
    .await;
    assert_eq!(silent.end().await, Code::Unavailable);
    server.stop().await;
}

/// A node that answers nothing for as long as it may is not known to be gone: nobody else is believed.
///
/// Covers: T10
#[tokio::test(start_paused = true)]
async fn the_call_of_a_node_is_refused_while_the_one_before_it_is_silent() {
    let mut pair = Pair::start(local(), NEXUS).await;
    pair.tell(Echo::Note("x".to_owned()));
    pair.peer.batch().await;
    let door = Door::of(&pair.node);
    let began = Instant::now();
    let refused = door.call(server_hello("started again", PEER)).await.err().expect("it is not believed");
    assert_eq!((refused.code(), began.elapsed()), (Code::AlreadyExists, PATIENCE));
    pair.peer.until("actor.Touch").await;
    pair.node.stop().await;
}

/// The holder is asked under the name that it knows itself by: a Go node passes on what has another one, without end.
#[tokio::test]
async fn the_holder_is_asked_in_its_own_spelling() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let holder = remote.node_for_tests().endpoint("localhost:1").expect("an address");
    holder.spell("LOCALHOST:1", Spelled::Dialled);
    let _question = Question::ask(&holder);
    let asked: Vec<_> = holder
        .mailbox
        .drain_system()
        .into_iter()
        .filter_map(|message| {
            let RemoteSystem::Touch { target, .. } = message else { return None };
            Some(target.address.to_string())
        })
        .collect();
    assert_eq!(asked, ["LOCALHOST:1"]);
    remote.shutdown(false).await;
}
