//! Two nodes of ours over real connections.

mod support;

use nexus_actor_core::{AskError, Props};
use nexus_remote_grpc::SpawnRemoteError;
use support::{Echo, Heard, TestNode, Watch, Watcher, local, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_question_crosses_and_its_answer_comes_back() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let far = a.far(&b, "echo");
    for round in 0..3 {
        let answer = within("an answer", far.ask(|reply| Echo::Say(format!("hi {round}"), reply))).await;
        assert_eq!(answer, Ok(format!("re:hi {round}")));
    }
    let back = b.far(&a, "echo");
    back.tell(Echo::Note("note".to_owned()));
    back.tell(Echo::Count(-1));
    assert_eq!(a.heard.until("two notes", |all| all.len() == 2).await, ["note", "-1"]);
    let nobody = a.far(&b, "nobody");
    let answer = within("an answer", nobody.ask(|reply| Echo::Say("x".to_owned(), reply))).await;
    assert_eq!(answer, Err(AskError::NoSuchActor));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_arrives_whole_and_in_order() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let far = a.far(&b, "echo");
    for number in 0..100_000 {
        far.tell(Echo::Count(number));
    }
    let all = b.heard.until("all numbers", |all| all.len() == 100_000).await;
    assert!(all.iter().enumerate().all(|(at, number)| *number == at.to_string()));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_of_an_end_and_of_who_never_was() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let seen = Heard::default();
    let watched = seen.clone();
    let watcher = a.system.spawn("watcher", Props::from_fn(move || Watcher(watched.clone()))).expect("free");
    watcher.tell(Watch::Begin(a.far(&b, "nobody")));
    seen.until("the end of nobody", |all| all == ["watching nobody", "nobody never existed"]).await;
    watcher.tell(Watch::Begin(a.far(&b, "echo")));
    seen.until("the watch", |all| all.last().is_some_and(|last| last == "watching echo")).await;
    // Behind the watch on the same wire.
    let far = a.far(&b, "echo");
    within("an answer", far.ask(|reply| Echo::Say("x".to_owned(), reply))).await.expect("an answer");
    b.system.find("/user/echo").expect("it lives").stop();
    seen.until("the end of echo", |all| all.last().is_some_and(|last| last == "echo stopped")).await;
    a.stop().await;
    b.stop().await;
}

/// Covers: SPN-01, SPN-02, ROLE-25, CNF-98
#[tokio::test(flavor = "multi_thread")]
async fn actors_are_spawned_by_kind() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let address = b.remote.address().to_owned();
    let bob = within("bob", a.remote.spawn_remote_named(&address, "bob", "echo")).await.expect("spawned");
    assert_eq!(bob.to_string(), format!("{address}/activator/Remote$bob"));
    let again = within("bob", a.remote.spawn_remote_named(&address, "bob", "echo")).await;
    let Err(SpawnRemoteError::Status { pid: Some(pid), .. }) = again else { panic!("{again:?}") };
    assert_eq!(pid, bob);
    let any = within("any", a.remote.spawn_remote(&address, "echo")).await.expect("spawned");
    assert_eq!(&*any.id, "activator/Remote$$1");
    // On the own node too, and nothing is dialled for it.
    let own = a.remote.address().to_owned();
    let eve = within("eve", a.remote.spawn_remote_named(&own, "eve", "echo")).await.expect("spawned");
    assert_eq!(eve.to_string(), format!("{own}/activator/Remote$eve"));
    assert!(a.remote.manager().endpoints().iter().all(|report| *report.address != *own));
    assert!(a.remote.manager().ensure_connected(&own).is_err());
    let actor = a.remote.resolve::<Echo>(&bob).expect("a pid");
    let answer = within("an answer", actor.ask(|reply| Echo::Say("x".to_owned(), reply))).await;
    assert_eq!(answer.as_deref(), Ok("re:x"));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_of_a_blocked_node_does_not_stand_in_the_way_once_it_is_not() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let (address, pid) = (b.remote.address().to_owned(), b.pid("echo"));
    let far = a.far(&b, "echo");
    assert!(a.remote.block_system(&address).await);
    assert_eq!(a.ask(&far, "x").await, Err(AskError::Blocked));
    a.remote.manager().remote_stop(&pid).expect("a pid");
    assert!(a.remote.unblock_system(&address).await);
    assert_eq!(a.ask(&far, "y").await.as_deref(), Ok("re:y"));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_address_is_not_dialled() {
    let a = TestNode::start("a", local()).await;
    for address in ["", "nowhere", "h:1/", "http://h:1/", a.remote.address()] {
        assert!(a.remote.manager().ensure_connected(address).is_err(), "{address:?}");
    }
    assert!(a.remote.manager().endpoints().is_empty());
    a.stop().await;
}
