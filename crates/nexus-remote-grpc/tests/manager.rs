//! What the manager of the endpoints, the kinds and the allow list do on running nodes.

mod support;

use nexus_actor_core::pid::Pid;
use nexus_actor_core::{ActorRef, AnyRef, AskError, Props, Refusal};
use nexus_remote::{ClientConnectedEvent, EndpointTerminatedEvent};
use nexus_remote_grpc::endpoint_state::ConnectionState;
use nexus_remote_grpc::wire::proto::remote::RemoteMessage;
use nexus_remote_grpc::wire::proto::remote::remote_message::MessageType;
use nexus_remote_grpc::{Config, ConfigOption};
use support::raw::{batch, eventually, note};
use support::{Echo, Echoer, Heard, TestNode, Watch, Watcher, local, within};

fn note_to(address: &str, text: &str) -> RemoteMessage {
    let batch = batch(address, "echo", None, &[note(text)]);
    RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) }
}

/// Covers: API-11, CC-02
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_a_client_goes_ahead_of_what_waits() {
    let server = TestNode::start("server", local()).await;
    let mut connected = server.events::<ClientConnectedEvent>();
    let client = TestNode::start_client("client", local()).await;
    assert!(client.ask(&client.far(&server, "echo"), "hello").await.is_ok());
    connected.next("the client").await;
    let (id, address) = (client.remote.system_id().to_owned(), client.remote.address().to_owned());
    let manager = server.remote.manager();
    server.remote.suspend();
    let there = server.at(&address, "echo");
    there.tell(Echo::Note("waited".to_owned()));
    assert_eq!(manager.send_to_client(&id, &note_to(&address, "ahead")), Ok(()));
    server.remote.resume();
    client.heard.until("both", |all| all == ["ahead", "waited"]).await;

    // Nobody of that name, and nobody any more.
    let hello = note_to(&address, "nobody");
    assert_eq!(manager.send_to_client("unheard-of", &hello), Err(Refusal::Unreachable));
    assert!(!manager.disconnect_client("unheard-of"));
    let [kept] = &manager.client_connections()[..] else { panic!("one client") };
    let mut gone_here = server.events::<EndpointTerminatedEvent>();
    let mut gone_there = client.events::<EndpointTerminatedEvent>();
    assert!(manager.disconnect_client(&id));
    assert_eq!(&*gone_there.next("the goodbye").await.reason, "the peer disconnected");
    assert_eq!(&*gone_here.next("the end of the client").await.address, &*address);
    assert_eq!(manager.send_to_client(&id, &hello), Err(Refusal::Unreachable));
    assert_eq!(kept.send(&hello), Err(Refusal::Unreachable));
    assert!(!manager.disconnect_client(&id));
    client.stop().await;
    server.stop().await;
}

fn watcher(node: &TestNode, name: &str) -> (ActorRef<Watch>, AnyRef, Heard) {
    let seen = Heard::default();
    let heard = seen.clone();
    let watching =
        node.system.spawn(name, Props::from_fn(move || Watcher(heard.clone()))).expect("a free name");
    (watching, node.system.find(&format!("/user/{name}")).expect("it lives"), seen)
}

/// Covers: API-13
#[tokio::test(flavor = "multi_thread")]
async fn actors_of_other_nodes_are_told_watched_and_stopped_by_pid() {
    let parity =
        Config::protoactor_parity().with([ConfigOption::with_host("127.0.0.1"), ConfigOption::with_port(0)]);
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", parity).await);
    let (manager, pid) = (a.remote.manager(), b.pid("echo"));
    manager.remote_deliver(&pid, Echo::Note("by pid".to_owned())).expect("a node");
    b.heard.until("the note", |all| all == ["by pid"]).await;

    // An actor is told only of what it watches itself; the wire's watch is taken from one of them, and again for the other.
    let (watching, first, told) = watcher(&a, "first");
    let (spared, second, never) = watcher(&a, "second");
    for (watcher, seen) in [(&watching, &told), (&spared, &never)] {
        watcher.tell(Watch::Begin(a.far(&b, "echo")));
        seen.until("the watch", |all| all == ["watching echo"]).await;
    }
    eventually("the watch there", || b.remote.peer_watches() == 1).await;
    manager.remote_unwatch(&pid, &first).expect("a node");
    manager.remote_unwatch(&pid, &second).expect("a node");
    eventually("the end of the watch there", || b.remote.peer_watches() == 0).await;
    manager.remote_watch(&pid, &first).expect("a node");
    eventually("the watch there", || b.remote.peer_watches() == 1).await;
    manager.remote_stop(&pid).expect("a node");
    told.until("the end", |all| all == ["watching echo", "echo stopped"]).await;
    b.heard.until("its end", |all| all == ["by pid", "stopping"]).await;
    eventually("the end of it", || b.system.find("/user/echo").is_none()).await;
    // Had the second been told, it would have been before this.
    spared.tell(Watch::Begin(a.far(&b, "nobody")));
    let all = never.until("never", |all| all.last().is_some_and(|last| last == "nobody never existed")).await;
    assert_eq!(all, ["watching echo", "watching nobody", "nobody never existed"]);

    // A node that does not let its peers stop actors.
    let own = a.pid("echo");
    b.remote.manager().remote_stop(&own).expect("a node");
    b.remote.manager().remote_deliver(&own, Echo::Note("behind".to_owned())).expect("a node");
    a.heard.until("what came behind", |all| all == ["behind"]).await;
    assert!(a.system.find("/user/echo").is_some());

    let nowhere = Pid::new("no address", "echo");
    assert!(manager.remote_deliver(&nowhere, Echo::Count(0)).is_err());
    assert!(manager.remote_watch(&nowhere, &first).is_err());
    assert!(manager.remote_unwatch(&nowhere, &first).is_err());
    assert!(manager.remote_stop(&nowhere).is_err());
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_are_those_that_were_registered() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let props = |heard: &Heard| {
        let heard = heard.clone();
        Props::from_fn(move || Echoer(heard.clone()))
    };
    let kinds = || {
        let mut kinds: Vec<_> = b.remote.kinds().iter().map(ToString::to_string).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds(), ["echo"]);
    let (first, second) = (Heard::default(), Heard::default());
    assert!(b.remote.register("other", props(&first)));
    assert!(!b.remote.register("other", props(&second)));
    assert_eq!(kinds(), ["echo", "other"]);
    let pid = within("a spawn", a.remote.spawn_remote(b.remote.address(), "other")).await.expect("a kind");
    a.at(&pid.address, &pid.id).tell(Echo::Note("you".to_owned()));
    first.until("the note", |all| all == ["you"]).await;
    assert_eq!(second.len(), 0, "the first of a name stays");
    a.stop().await;
    b.stop().await;
}

/// Covers: S127
#[tokio::test(flavor = "multi_thread")]
async fn an_allow_list_cuts_who_is_not_on_it_and_lets_it_in_again() {
    for by_id in [false, true] {
        let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
        let c = TestNode::start("c", local()).await;
        let (there, back) = (a.far(&b, "echo"), b.far(&a, "echo"));
        let other = a.far(&c, "echo");
        assert!(a.ask(&there, "x").await.is_ok() && b.ask(&back, "x").await.is_ok());
        assert!(a.ask(&other, "x").await.is_ok());
        let name =
            |node: &TestNode| if by_id { node.remote.system_id() } else { node.remote.address() }.to_owned();
        let mut ends = [a.events::<EndpointTerminatedEvent>(), b.events::<EndpointTerminatedEvent>()];
        a.remote.block_list().set_allowed([name(&c)]);
        for (end, of) in ends.iter_mut().zip([&b, &a]) {
            let event = end.next("the cut").await;
            assert_eq!((&*event.address, &*event.reason), (of.remote.address(), "blocked"));
        }
        assert_eq!(a.ask(&there, "x").await, Err(AskError::Blocked));
        assert_eq!(b.ask(&back, "x").await, Err(AskError::Blocked));
        assert_eq!(a.ask(&other, "on it").await.as_deref(), Ok("re:on it"));
        assert!(ends[0].try_next().is_none(), "who is on it is not cut");

        a.remote.block_list().set_allowed([name(&b), name(&c)]);
        assert_eq!(a.ask(&there, "again").await.as_deref(), Ok("re:again"));
        b.remote.manager().schedule_reconnect(a.remote.address()).expect("an address");
        assert_eq!(
            within("the connection", b.remote.await_reconnect(a.remote.address())).await,
            Ok(ConnectionState::Connected)
        );
        assert_eq!(b.ask(&back, "again").await.as_deref(), Ok("re:again"));
        for node in [a, b, c] {
            node.stop().await;
        }
    }
}
