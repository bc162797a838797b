//! Nodes that are killed under load, and come back at the same address: whatever else is lost, delivery goes on, and what
//! one connection carries is whole and in order.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::go_node::{Generation, GoNode, text};
use crate::rust_node::{Numbers, RustNode};
use crate::support::{own_host, within};
use nexus_actor_core::ActorRef;
use nexus_remote::EndpointConnectedEvent;
use nexus_remote::association::Patience;
use nexus_remote_grpc::{Config, ConfigOption};

const RESTARTS: usize = 10;
/// Numbers that show that a connection carries again.
const ENOUGH: u64 = 500;

/// Sends numbers one after the other, ten each millisecond, until `stop` says so; returns how many.
async fn load(sink: ActorRef<Numbers>, mut stop: oneshot::Receiver<()>) -> i64 {
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    while stop.try_recv().is_err() {
        pace.tick().await;
        for _ in 0..10 {
            number += 1;
            sink.tell(Numbers::Number(number));
        }
    }
    number
}

/// Covers: S151
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_killed_under_load_ten_times_is_delivered_to_again() {
    let both = Generation::BOTH.map(|generation| {
        tokio::spawn(async move {
            for patience in [Patience::Drop, Patience::Keep] {
                kill_go_ten_times(generation, patience).await;
            }
        })
    });
    for one in both {
        one.await.expect("it went well");
    }
}

async fn kill_go_ten_times(generation: Generation, patience: Patience) {
    let Some(mut go) = GoNode::start_alone(generation).await else { return };
    let node = RustNode::with([ConfigOption::with_queue_patience(patience)]).await;
    let mut connected = node.events::<EndpointConnectedEvent>();
    let address = go.address().to_owned();
    let (stop, stopped) = oneshot::channel();
    let loading = tokio::spawn(load(node.sink_at(&address), stopped));
    for life in 0..=RESTARTS {
        connected.next("a connection").await;
        let done = go.run(json!({ "do": "sink", "count": ENOUGH, "timeout_ms": 20_000 })).await;
        let tally = &done["tally"];
        assert_eq!((&tally["missing"], &tally["reordered"]), (&json!(0), &json!(0)), "life {life}");
        if life < RESTARTS {
            go.kill().await;
            go = GoNode::start_again(generation, &address).await.expect("it started before");
        }
    }
    stop.send(()).expect("it runs");
    let sent = loading.await.expect("it ended");
    // All that was sent before this has been handled when it is answered.
    let sink = node.sink_at(&address);
    let count = within("a count", sink.ask(|reply| Numbers::Count(String::new(), reply))).await;
    let tally = go.run(json!({ "do": "sink", "count": 0 })).await["tally"].clone();
    assert_eq!((&tally["last"], &tally["count"]), (&json!(sent), &json!(count.expect("a count"))));
    assert_eq!((&tally["missing"], &tally["reordered"]), (&json!(0), &json!(0)));
    node.stop().await;
}

/// Names the address of [`a_node_of_ours_in_another_process`].
const ADDRESS: &str = "NEXUS_INTEROP_NODE_ADDRESS";

/// Not a test of its own: the node of the test below, which is run again as a process that can be killed. It prints its
/// address, when enough numbers have come, and any that is not the one after its predecessor.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_ours_in_another_process() {
    let Ok(at) = std::env::var(ADDRESS) else { return };
    let (host, port) = at.split_once(':').expect("a host and a port");
    let mut node = RustNode::start_again(Config::new(host, port.parse().expect("a number"))).await;
    println!("listening {}", node.remote.address());
    let mut said = 0;
    let mut broken = 0;
    loop {
        let tally = node.next_tally().await;
        if tally.count >= ENOUGH && said < ENOUGH {
            said = tally.count;
            println!("carries {said}");
        }
        let faults = tally.missing + tally.reordered as i64;
        if faults > broken {
            broken = faults;
            println!("broken {tally:?}");
        }
    }
}

struct OurProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl OurProcess {
    async fn start(at: &str) -> (Self, String) {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "restarts::a_node_of_ours_in_another_process", "--nocapture"])
            .env(ADDRESS, at)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut process = Self { child, lines };
        let address = process.line("listening ").await;
        (process, address)
    }

    /// Waits for the line that begins so, and returns its rest.
    async fn line(&mut self, begin: &str) -> String {
        within(begin, async {
            loop {
                let line = self.lines.next_line().await.expect("text").expect("our process lives");
                if let Some(rest) = line.find(begin).map(|at| &line[at + begin.len()..]) {
                    return rest.to_owned();
                }
                assert!(!line.starts_with("broken"), "{line}");
            }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_node_killed_under_load_ten_times_is_delivered_to_again() {
    // A Go node tries again every two seconds, so the two generations wait side by side.
    let both = Generation::BOTH.map(|generation| tokio::spawn(kill_ours_ten_times(generation)));
    for one in both {
        one.await.expect("it went well");
    }
}

async fn kill_ours_ten_times(generation: Generation) {
    let Some(mut go) = GoNode::start(generation, &[]).await else { return };
    let (mut ours, address) = OurProcess::start(&format!("{}:0", own_host())).await;
    let to = format!("{address}/sink");
    let load = go.send(json!({ "do": "burst", "to": to, "every_us": 100 })).await;
    // Behind the load it has arrived, long before the first number that is waited for.
    go.run(json!({ "do": "watch", "from": "recorder", "to": to })).await;
    for life in 0..RESTARTS {
        ours.line("carries ").await;
        ours.child.kill().await.expect("it is ours");
        go.event("disconnected", |event| event["address"] == address).await;
        if life == 0 {
            let told = go.event("terminated", |event| event["who"] == to).await;
            assert_eq!(told["why"], "AddressTerminated");
        }
        (ours, _) = OurProcess::start(&address).await;
    }
    ours.line("carries ").await;
    go.run(json!({ "do": "stop_bursts" })).await;
    go.answer(load).await.expect("it was ended");
    let counted = go
        .run(json!({ "do": "ask", "to": to, "type": crate::rust_node::STRING, "timeout_ms": 20_000 }))
        .await;
    let counted: u64 = text(&counted, "value").parse().expect("a number");
    assert!(counted >= ENOUGH, "{counted}");
}
