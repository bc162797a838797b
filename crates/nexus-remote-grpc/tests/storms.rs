//! Connections that break and clients that come and go, without pause. Alone in its program, so that what the process holds
//! is what the test made.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nexus_actor_core::AskError;
use nexus_remote_grpc::ConfigOption;
use nexus_remote_grpc::endpoint_state::ReconnectPolicy;
use support::proxy::Proxy;
use support::raw::{RawCall, client_hello, eventually};
use support::{ANSWER, Echo, TestNode, local, within};

async fn node(options: impl IntoIterator<Item = ConfigOption>) -> TestNode {
    TestNode::start("node", local().with(options)).await
}

/// The sockets of this process, where the system says.
fn sockets() -> Option<usize> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?;
    let is_socket = |path: std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|what| what.to_string_lossy().starts_with("socket:"))
    };
    Some(open.flatten().filter(|entry| is_socket(entry.path())).count())
}

/// Seconds of storm: `NEXUS_STORM_SECONDS`, 3 unless set; acceptance asks for 600.
///
/// Covers: S14, S36, T32
#[tokio::test(flavor = "multi_thread")]
async fn storms_of_reconnects_leave_nothing_behind() {
    let seconds = std::env::var("NEXUS_STORM_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let proxy = Proxy::new().await;
    let b = node([ConfigOption::with_advertised_host(proxy.address())]).await;
    proxy.set_target(b.remote.bound_address().expect("it listens"));
    let policy = ReconnectPolicy::fixed(u32::MAX, Duration::from_millis(20));
    let a = node([ConfigOption::with_endpoint_reconnect_policy(policy)]).await;
    let before = sockets();
    assert!(before.is_none_or(|count| count >= 3), "three listen: {before:?}");
    let there = a.far(&b, "echo");
    let ask = || there.ask(|reply| Echo::Say("x".to_owned(), reply)).timeout(ANSWER);
    let bound = b.remote.bound_address().expect("it listens").to_string();
    let mut storms = BTreeMap::<&str, u32>::new();
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        proxy.cut();
        there.tell(Echo::Note("x".to_owned()));
        // It may be lost with its connection, and then ends with that: what brings the answers is never cut.
        let answer = ask().await;
        assert!(matches!(answer, Ok(_) | Err(AskError::Unreachable)), "{answer:?} after {storms:?}");
        *storms.entry("cuts").or_default() += 1;
        // And clients that come and go.
        let mut client = RawCall::shake(&bound, client_hello("raw")).await;
        client.hang_up();
        drop(client);
        *storms.entry("clients").or_default() += 1;
    }
    within(&format!("an answer after {storms:?}"), async {
        // What is asked before the connection is there again is refused.
        while ask().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(before.is_none() || sockets() > before, "a connection serves");
    // Nobody has any use for either.
    drop(there);
    a.remote.block_system(&proxy.address()).await;
    for one in [&a, &b] {
        eventually("no map entry is left", || one.remote.manager().endpoints().is_empty()).await;
        eventually("no client is left", || one.remote.manager().client_connections().is_empty()).await;
        eventually("no ask is left", || one.remote.pending_asks() == 0).await;
        // The listener.
        eventually("no task is left", || one.remote.tasks() <= 1).await;
    }
    eventually("no socket is left", || sockets() == before).await;
    a.stop().await;
    b.stop().await;
}
