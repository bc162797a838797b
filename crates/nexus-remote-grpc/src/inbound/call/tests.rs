use nexus_actor_core::{ActorSystem, AskError, DeadLetterReason};

use super::*;
use crate::endpoint_state::DisconnectCause;
use crate::endpoint_writer::EndpointWriter;
use crate::pending_asks::tests::Asker;
use crate::wire::proto::actor::TerminatedReason;
use crate::{Config, Remote};

/// A node, and what it has of a client that has not called yet.
async fn client() -> (Remote, Arc<Endpoint>, Arc<str>) {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let endpoint = remote.manager().ensure_connected("client-one:1").expect("an endpoint");
    (remote, endpoint, Arc::from("one"))
}

fn of(control: Arc<CallControl>) -> Arc<ClientCall> {
    Arc::new(ClientCall::new(control, Arc::new(OutboundControl::new(0)), PeerIdentity::default()))
}

fn call(number: u64) -> Arc<ClientCall> {
    of(Arc::new(CallControl::new(number, false)))
}

/// Whether it is seen to be over before the client is back, after, or in between: the new call serves.
#[tokio::test]
async fn a_client_that_returns_while_its_old_call_ends_is_connected() {
    let (remote, endpoint, id) = client().await;
    let mut old = call(0);
    assert!(endpoint.apply_accepted(None, &old, &id));
    for round in 1..200 {
        let new = call(round);
        match round % 3 {
            0 => {
                assert!(!endpoint.apply_accepted(None, &new, &id), "the one that serves was not seen");
                assert!(endpoint.apply_accepted(Some(&old), &new, &id));
                endpoint.apply_call_ended(&old);
            }
            1 => {
                endpoint.apply_call_ended(&old);
                assert!(endpoint.apply_accepted(Some(&old), &new, &id));
            }
            _ => std::thread::scope(|scope| {
                scope.spawn(|| endpoint.apply_call_ended(&old));
                scope.spawn(|| assert!(endpoint.apply_accepted(Some(&old), &new, &id)));
            }),
        }
        let is_new = |now: Arc<ClientCall>| Arc::ptr_eq(&now, &new);
        assert!(endpoint.client_calls.serving().is_some_and(is_new), "round {round}");
        assert!(endpoint.read(EndpointState::is_linked), "round {round}");
        old = new;
    }
    // Given up for silence in the moment the client comes back: the driver ends the old one only.
    let (first, second) = (Arc::new(CallControl::new(200, false)), Arc::new(CallControl::new(201, false)));
    let (before, new) = (of(first.clone()), of(second.clone()));
    assert!(endpoint.apply_accepted(Some(&old), &before, &id));
    let silence = Duration::from_secs(45);
    endpoint.apply(|state, now| {
        state.handle_disconnected(now, DisconnectCause::Heartbeat { silence });
    });
    assert!(endpoint.apply_accepted(None, &new, &id));
    while endpoint.read(EndpointState::has_action) {
        tokio::task::yield_now().await;
    }
    assert_eq!(*first.end.lock(), Some(End::Goodbye));
    assert_eq!(*second.end.lock(), None);
    assert!(endpoint.read(EndpointState::is_linked));
    endpoint.apply_call_ended(&new);
    assert!(!endpoint.read(EndpointState::is_linked));
    remote.shutdown(false).await;
}

/// The same, and the driver: it acts when the test says so.
async fn client_and_driver() -> (Remote, Arc<Endpoint>, Arc<str>, EndpointWriter) {
    let (remote, endpoint, id) = client().await;
    while endpoint.driven.load(Ordering::Acquire) {
        tokio::task::yield_now().await;
    }
    endpoint.driven.store(true, Ordering::Release);
    endpoint.node().keep(&endpoint);
    let driver = EndpointWriter::new(endpoint.clone());
    (remote, endpoint, id, driver)
}

/// What the driver is late to do about the end of a call is about that call: nothing of what came after it is discarded or
/// given up, and nobody who has watched since is told that the client is gone.
#[tokio::test]
async fn the_end_of_a_call_takes_nothing_of_the_next_one() {
    let (remote, endpoint, id, mut driver) = client_and_driver().await;
    let node = endpoint.node();
    let watcher = node.activator.get().expect("a node has one").to_any();
    // A message, a notice, a watch and a question.
    let put = |name: &str| {
        let (target, name) = (endpoint.pid_at(Arc::from(name)), Arc::from(name));
        assert_eq!(endpoint.deliver_proto(target.clone(), 0, &String::from("x")), Ok(()));
        endpoint.send_terminated(&target, &name, TerminatedReason::Stopped);
        endpoint.watcher().watch(&name, &watcher.path(), watcher.clone(), endpoint.era());
        let asker = Arc::new(Asker::default());
        node.asks.insert(asker.clone(), endpoint.address(), endpoint.era()).expect("room");
        asker
    };
    let left = || {
        let queue = endpoint.mailbox.state();
        let dead = node.system.dead_letters().count(DeadLetterReason::Unreachable);
        (queue.len, queue.system_len, endpoint.watcher().len(), node.asks.len(), dead)
    };
    let (old, new) = (call(0), call(1));
    assert!(endpoint.apply_accepted(None, &old, &id));
    driver.act_on_all();
    let before = put("before");
    endpoint.apply_call_ended(&old);
    assert!(endpoint.apply_accepted(None, &new, &id));
    let after = put("after");
    assert_eq!(left(), (2, 2, 2, 2, 0));
    // Only now the driver has its turn.
    driver.act_on_all();
    assert_eq!(left(), (1, 1, 1, 1, 1));
    assert_eq!((before.0.lock().len(), after.0.lock().len()), (1, 0));
    assert!(endpoint.watcher().has_to_tell());
    let is_new = |now: Arc<ClientCall>| Arc::ptr_eq(&now, &new);
    assert!(endpoint.client_calls.serving().is_some_and(is_new));
    endpoint.apply_call_ended(&new);
    driver.act_on_all();
    assert_eq!(left(), (0, 0, 0, 0, 2));
    assert_eq!(*after.0.lock(), [AskError::Unreachable]);
    remote.shutdown(false).await;
}

/// The figures of a client can be asked for while it is connected, also when it has gone and come back.
///
/// Covers: ST-06
#[tokio::test]
async fn a_client_that_returns_has_figures() {
    let (remote, endpoint, id, mut driver) = client_and_driver().await;
    let has_figures = || remote.get_endpoint_statistics(endpoint.address()).is_some();
    for number in 0..3 {
        let call = call(number);
        assert!(endpoint.apply_accepted(None, &call, &id));
        driver.act_on_all();
        assert!(has_figures(), "{number}");
        endpoint.apply_call_ended(&call);
        driver.act_on_all();
        assert!(!has_figures(), "{number}");
    }
    remote.shutdown(false).await;
}

/// The end of the node: what waits for a client does not go out behind the goodbye, which the client heeds, but is
/// recorded.
///
/// Covers: S142
#[tokio::test]
async fn nothing_goes_to_a_client_behind_the_goodbye() {
    let (remote, endpoint, id, mut driver) = client_and_driver().await;
    let control = Arc::new(CallControl::new(0, false));
    let mut outbound = Outbound::new(endpoint.clone(), Arc::new(OutboundControl::new(0)));
    let call =
        Arc::new(ClientCall::new(control.clone(), outbound.control().clone(), PeerIdentity::default()));
    assert!(endpoint.apply_accepted(None, &call, &id));
    driver.act_on_all();
    let target = endpoint.pid_at(Arc::from("echo"));
    assert_eq!(endpoint.deliver_proto(target, 0, &String::from("x")), Ok(()));
    remote.shutdown(false).await;
    assert_eq!(*control.end.lock(), Some(End::Goodbye));
    // The call has its turn before the driver.
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(None)));
    driver.act_on_all();
    let counted = endpoint.statistics().snapshot();
    assert_eq!((counted.sent, counted.dead_letters), (0, 1));
    assert_eq!(endpoint.node().system.dead_letters().count(DeadLetterReason::Shutdown), 1);
}

/// Each call is ended for its own reason, and a sign of life that was to be asked for is not asked of the next one.
#[tokio::test]
async fn a_late_driver_ends_each_call_for_its_reason() {
    let (remote, endpoint, id, mut driver) = client_and_driver().await;
    let controls = [0, 1].map(|number| Arc::new(CallControl::new(number, false)));
    let [old, new] = controls.clone().map(of);
    let silence = Duration::from_secs(45);
    assert!(endpoint.apply_accepted(None, &old, &id));
    driver.act_on_all();
    endpoint.apply(|state, now| state.handle_timeout(now + Duration::from_secs(20)));
    assert!(endpoint.read(EndpointState::has_action));
    endpoint.apply(|state, now| state.handle_disconnected(now, DisconnectCause::Heartbeat { silence }));
    assert!(endpoint.apply_accepted(None, &new, &id));
    endpoint.apply(|state, now| state.handle_blocked(now));
    driver.act_on_all();
    let ends = controls.map(|control| *control.end.lock());
    assert_eq!(ends, [Some(End::Goodbye), Some(End::Blocked)]);
    assert_eq!((endpoint.mailbox.is_empty(), endpoint.node().asks.len()), (true, 0));
    remote.shutdown(false).await;
}

/// A call that was replaced before it was registered does not take the place of the one that serves.
#[tokio::test]
async fn a_replaced_call_is_not_registered() {
    let (remote, endpoint, id) = client().await;
    let (old, new, newest) = (call(0), call(1), call(2));
    let is_found = |call| {
        let all = remote.manager().client_connections();
        assert!(all.len() < 2);
        all.iter().any(|sender| sender.is_of(call))
    };
    assert!(endpoint.apply_accepted(None, &old, &id));
    assert!(endpoint.apply_accepted(Some(&old), &new, &id));
    register(&endpoint, &id, &old);
    assert!(!is_found(&old), "nobody is found before the one that serves has registered");
    register(&endpoint, &id, &new);
    register(&endpoint, &id, &old);
    assert!(is_found(&new), "the one that serves keeps its place");
    assert!(endpoint.apply_accepted(Some(&new), &newest, &id));
    register(&endpoint, &id, &newest);
    assert!(is_found(&newest), "a newer one takes it");
    remote.shutdown(false).await;
}

/// What a client was asked by a call that another one replaces is given up with it: nothing waits for an answer that
/// cannot come, so what the client sends is held up again while mailboxes here are crowded.
#[tokio::test]
async fn a_replaced_call_leaves_no_question() {
    let (remote, endpoint, id) = client().await;
    let (old, new) = (call(0), call(1));
    assert!(endpoint.apply_accepted(None, &old, &id));
    endpoint.probe();
    let asks = &endpoint.node().asks;
    assert!(asks.waits_for(endpoint.address()));
    assert!(endpoint.apply_accepted(Some(&old), &new, &id));
    assert!(!asks.waits_for(endpoint.address()));
    endpoint.probe();
    assert!(asks.waits_for(endpoint.address()), "the new one is asked as well");
    remote.shutdown(false).await;
}
