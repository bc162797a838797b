//! Peers that take more than their share of a node: of its dials, of the memory of its queues.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nexus_remote_grpc::ConfigOption;
use nexus_remote_grpc::config::Limits;
use nexus_remote_grpc::wire::proto::actor;
use nexus_remote_grpc::wire::proto::remote::{MessageBatch, MessageEnvelope};
use support::raw::{RawCall, sent, server_hello};
use support::{Echo, TestNode, local, within};
use tokio::io::AsyncReadExt as _;
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
