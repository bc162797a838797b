//! A client that only dials out comes back by itself, and its server reaches it by the new call.

mod support;

use std::time::Duration;

use nexus_remote::{
    ClientConnectedEvent, EndpointConnectedEvent, EndpointReconnectEvent, EndpointTerminatedEvent,
};
use nexus_remote_grpc::ConfigOption;
use nexus_remote_grpc::endpoint_state::ReconnectPolicy;
use support::proxy::Proxy;
use support::{Echo, TestNode, local};

/// Covers: TST-30, S155
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_cut_off_is_reached_by_its_new_call() {
    let proxy = Proxy::new().await;
    let server =
        TestNode::start("server", local().with([ConfigOption::with_advertised_host(proxy.address())])).await;
    proxy.set_target(server.remote.bound_address().expect("it listens"));
    let policy = ReconnectPolicy::fixed(1_000, Duration::from_millis(20));
    let client = TestNode::start_client(
        "client",
        local().with([ConfigOption::with_endpoint_reconnect_policy(policy)]),
    )
    .await;
    let far = client.far(&server, "echo");
    assert_eq!(client.ask(&far, "hello").await.as_deref(), Ok("re:hello"));
    let address = client.remote.address().to_owned();
    for round in 0..5 {
        let mut again = client.events::<EndpointConnectedEvent>();
        let mut attempts = client.events::<EndpointReconnectEvent>();
        let mut here = server.events::<ClientConnectedEvent>();
        let mut gone = server.events::<EndpointTerminatedEvent>();
        proxy.cut();
        assert_eq!(attempts.next("an attempt").await.attempt, 1, "round {round}");
        again.next("the connection").await;
        assert_eq!(*here.next("the client").await.system_id, *client.remote.system_id());
        let back = server.at(&address, "echo");
        back.tell(Echo::Count(round));
        client.heard.until("what came down", |all| all.len() == round as usize + 1).await;
        assert_eq!(server.ask(&back, "you").await.as_deref(), Ok("re:you"));
        assert_eq!(server.remote.manager().client_connections().len(), 1);
        // Its loss was told, if it was seen before the client was back.
        if let Some(event) = gone.try_next() {
            assert_eq!(*event.address, *address);
        }
    }
    // Cut off for longer: what is sent meanwhile is lost and recorded, and the end is told.
    let mut gone = server.events::<EndpointTerminatedEvent>();
    let mut again = client.events::<EndpointConnectedEvent>();
    proxy.refuse();
    assert_eq!(*gone.next("the end").await.address, *address);
    let back = server.at(&address, "echo");
    assert!(server.ask(&back, "nobody").await.is_err());
    proxy.accept();
    again.next("the connection").await;
    assert_eq!(client.ask(&far, "back").await.as_deref(), Ok("re:back"));
    assert_eq!(server.ask(&back, "you").await.as_deref(), Ok("re:you"));
    client.stop().await;
    server.stop().await;
}

/// What its server does to all traffic does not send it away: its call is held until traffic goes on.
///
/// Covers: S155
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_to_a_suspended_server_is_served_when_that_goes_on() {
    let server = TestNode::start("server", local()).await;
    let mut here = server.events::<ClientConnectedEvent>();
    server.remote.suspend();
    let client = TestNode::start_client("client", local()).await;
    let mut lost = client.events::<EndpointTerminatedEvent>();
    let mut again = client.events::<EndpointReconnectEvent>();
    let address = client.remote.address().to_owned();
    let back = server.at(&address, "echo");
    // Before it is there, and after.
    back.tell(Echo::Count(1));
    client.remote.manager().ensure_connected(server.remote.address()).expect("it is dialled");
    here.next("the client").await;
    back.tell(Echo::Count(2));
    server.remote.resume();
    client.heard.until("what waited", |all| all == ["1", "2"]).await;
    assert_eq!(server.ask(&back, "you").await.as_deref(), Ok("re:you"));
    assert!(lost.try_next().is_none() && again.try_next().is_none(), "it was never sent away");
    client.stop().await;
    server.stop().await;
}
