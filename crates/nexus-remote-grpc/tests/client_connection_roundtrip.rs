//! A client that only dials out, and its server: messages, answers, watches and ends go both ways by the one call.

mod support;

use nexus_actor_core::Props;
use nexus_remote::ClientConnectedEvent;
use support::{Echo, Heard, TestNode, Watch, Watcher, local};

/// Covers: TST-29, S155
#[tokio::test(flavor = "multi_thread")]
async fn deliver_watch_and_terminate_go_both_ways() {
    let server = TestNode::start("server", local()).await;
    let mut connected = server.events::<ClientConnectedEvent>();
    let client = TestNode::start_client("client", local()).await;
    assert!(client.remote.bound_address().is_none());
    let far = client.far(&server, "echo");
    far.tell(Echo::Note("up".to_owned()));
    server.heard.until("the note", |all| all == ["up"]).await;
    assert_eq!(*connected.next("the client").await.system_id, *client.remote.system_id());
    let address = client.remote.address().to_owned();
    let back = server.at(&address, "echo");
    for number in 0..1_000 {
        back.tell(Echo::Count(number));
    }
    let all = client.heard.until("all of it", |all| all.len() == 1_000).await;
    assert!(all.iter().enumerate().all(|(at, number)| *number == at.to_string()));

    // Each watches an actor of the other.
    let ends = [(&server, &back), (&client, &far)].map(|(node, whom)| {
        let seen = Heard::default();
        let heard = seen.clone();
        let watcher =
            node.system.spawn("watcher", Props::from_fn(move || Watcher(heard.clone()))).expect("free");
        watcher.tell(Watch::Begin(whom.clone()));
        seen
    });
    for seen in &ends {
        seen.until("the watch", |all| all.len() == 1).await;
    }
    assert_eq!(server.ask(&back, "behind").await.as_deref(), Ok("re:behind"));
    assert_eq!(client.ask(&far, "behind").await.as_deref(), Ok("re:behind"));
    for node in [&client, &server] {
        node.system.find("/user/echo").expect("it lives").stop();
    }
    for seen in &ends {
        seen.until("the end", |all| all.last().is_some_and(|last| last == "echo stopped")).await;
        assert_eq!(seen.len(), 2, "told once");
    }
    client.stop().await;
    server.stop().await;
}
