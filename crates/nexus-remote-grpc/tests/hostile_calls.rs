//! Peers that take more than their share of a node: of its dials, of the memory of its queues.

mod support;

use nexus_remote_grpc::ConfigOption;
use nexus_remote_grpc::config::Limits;
use nexus_remote_grpc::wire::proto::actor;
use nexus_remote_grpc::wire::proto::remote::{MessageBatch, MessageEnvelope};
use support::raw::{RawCall, sent, server_hello};
use support::{Echo, TestNode, local, within};
use tokio::net::TcpListener;
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
    const CLAIMS: usize = 12;
    let mut limits = Limits::new();
    limits.dials = 16;
    let a = TestNode::start("a", local().with([ConfigOption::with_limits(limits)])).await;
    let (taken, mut accepted) = mpsc::unbounded_channel();
    let mut calls = Vec::new();
    for _ in 0..CLAIMS {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = silent.local_addr().expect("bound").to_string();
        let taken = taken.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = silent.accept().await {
                let _ = taken.send(stream);
            }
        });
        let call = RawCall::shake(a.remote.address(), server_hello("raw", &address)).await;
        call.send(sent(unknown(&a, "nobody", &address, 1)));
        calls.push((address, call));
    }
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(within("a dial", accepted.recv()).await);
    }
    // Whom an actor here reaches for is dialled at once, be it one of those that were claimed.
    let good = TestNode::start("good", local()).await;
    assert_eq!(a.ask(&a.far(&good, "echo"), "now").await.expect("an answer"), "re:now");
    let (address, _) = &calls[CLAIMS - 1];
    a.at(address, "wanted").tell(Echo::Note("now".to_owned()));
    held.push(within("the dial of one that is wanted", accepted.recv()).await);
    let more = std::iter::from_fn(|| accepted.try_recv().ok()).count();
    assert_eq!(more, 0, "more than its share is dialled");
    serves(&a, &good).await;
    // Who hangs up makes room for the next.
    held.remove(0);
    held.push(within("the next dial", accepted.recv()).await);
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
