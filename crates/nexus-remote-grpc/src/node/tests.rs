//! What is hard to time from outside: endpoints that are forgotten, named, or late.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorPathScheme, Authority};
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::remote::Route as _;
use nexus_actor_core::runtime::{BoxFuture, Runtime, TokioRuntime};
use nexus_actor_core::serialization::SerializerId;
use nexus_actor_core::{ActorSystem, AskError, CorrelationId, DeadLetterReason, Instant, Refusal};
use nexus_remote::{EndpointSource as _, EndpointTerminatedEvent};
use portable_atomic::Ordering;

use super::{ENDPOINTS_KEPT, Node, client_address, is_client_address};
use crate::config::Limits;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint::sender_route::SenderRoute;
use crate::endpoint::{Endpoint, EndpointKind};
use crate::endpoint_state::EndpointState;
use crate::pending_asks::tests::Asker;
use crate::wire::batch::WireForm;
use crate::wire::proto::actor::TerminatedReason;
use crate::{Config, ConfigOption, Remote};

const ADDRESS: &str = "127.0.0.1:1";

thread_local! {
    static NEXT: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// A runtime that does something else when it is next asked for the time on this thread: between what a change of a state has
/// seen before it took the lock, and the change.
struct Interrupted(TokioRuntime);

impl Interrupted {
    fn next(f: impl FnOnce() + 'static) {
        NEXT.with(|next| *next.borrow_mut() = Some(Box::new(f)));
    }
}

impl Runtime for Interrupted {
    fn spawn(&self, future: BoxFuture) {
        self.0.spawn(future);
    }
    fn now(&self) -> Instant {
        if let Some(f) = NEXT.with(RefCell::take) {
            f();
        }
        self.0.now()
    }
    fn sleep_until(&self, at: Instant) -> BoxFuture {
        self.0.sleep_until(at)
    }
    fn tokio(&self) -> Option<&tokio::runtime::Handle> {
        self.0.tokio()
    }
}

async fn start() -> (ActorSystem, Remote, Arc<Node>) {
    start_with(Config::new("127.0.0.1", 0)).await
}

async fn start_with(config: Config) -> (ActorSystem, Remote, Arc<Node>) {
    let runtime = Interrupted(TokioRuntime::try_current().expect("inside of one"));
    let system = ActorSystem::builder("node").with_runtime(runtime).build().expect("a system");
    let remote = Remote::start(&system, config).await.expect("a node");
    let node = remote.node_for_tests().clone();
    (system, remote, node)
}

fn ask(node: &Node, endpoint: &Endpoint) -> Arc<Asker> {
    let asker = Arc::new(Asker::default());
    node.asks.insert(asker.clone(), endpoint.address(), 0).expect("room");
    asker
}

/// An endpoint that was forgotten, and the one that took its place.
fn forgotten(node: &Arc<Node>) -> (Arc<Endpoint>, Arc<Endpoint>) {
    forgotten_at(node, ADDRESS)
}

fn forgotten_at(node: &Arc<Node>, address: &str) -> (Arc<Endpoint>, Arc<Endpoint>) {
    let old = node.endpoint(address).expect("an address");
    node.forget_if_idle(&old);
    let new = node.endpoint(address).expect("an address");
    assert!(!Arc::ptr_eq(&old, &new));
    (old, new)
}

/// The end of an endpoint that was forgotten and had something left to do is no end of the one that took its place.
#[tokio::test]
async fn a_forgotten_endpoint_ends_alone() {
    let (system, remote, node) = start().await;
    let (old, new) = forgotten(&node);
    let (of_old, of_new) = (ask(&node, &old), ask(&node, &new));
    new.show_statistics();
    let ends = Arc::new(Lock::new(0));
    let counted = ends.clone();
    let _subscription =
        system.event_stream().subscribe(move |_: &EndpointTerminatedEvent| *counted.lock() += 1);
    let end = async |endpoint: &Endpoint| {
        let before = node.tasks.count();
        endpoint.apply(|state, now| {
            state.ensure_connected(now);
            state.close();
        });
        while node.tasks.count() > before {
            tokio::task::yield_now().await;
        }
    };
    end(&old).await;
    assert_eq!((of_old.0.lock().len(), of_new.0.lock().len()), (1, 0), "each has its own questions");
    assert!(node.statistics.contains_key(ADDRESS));
    assert_eq!(*ends.lock(), 0);
    end(&new).await;
    assert_eq!((of_new.0.lock().len(), *ends.lock()), (1, 1));
    assert!(!node.statistics.contains_key(ADDRESS));
    remote.shutdown(false).await;
}

/// Whoever asked from there, as an actor keeps it.
fn asker_there(endpoint: &Arc<Endpoint>) -> SenderRoute {
    SenderRoute {
        endpoint: endpoint.clone(),
        pid: Arc::new(PidEntry::new(endpoint.address().clone(), "future$1")),
        request_id: 0,
        answer_refused: false.into(),
    }
}

fn answer(route: &SenderRoute) -> Result<(), Refusal> {
    let text = String::from("x");
    let key = ReplyKey { secret: 0, slot: 0 };
    route.reply(key, CorrelationId::NIL, &mut |encoder| encoder.protobuf(&text))
}

/// An actor may keep whom it answers for longer than the endpoint is kept by which the question came. The answer, and the
/// news that there is none, go by the one that the peer is connected by now.
#[tokio::test]
async fn a_late_answer_goes_by_the_endpoint_of_now() {
    let (_system, remote, node) = start().await;
    for address in [ADDRESS, "client-one:1"] {
        let (old, new) = forgotten_at(&node, address);
        // What is sent waits, and nobody dials.
        node.suspended.store(true, Ordering::Release);
        node.follow_suspension(&new);
        assert_eq!(answer(&asker_there(&old)), Ok(()), "{address}");
        asker_there(&old).reply_failed(
            ReplyKey { secret: 0, slot: 0 },
            CorrelationId::NIL,
            AskError::Stopped,
        );
        assert_eq!((old.mailbox.state().len, new.mailbox.state().len), (0, 2), "{address}");
        let target = Arc::new(PidEntry::new(address, "watcher"));
        old.send_terminated(&target, &Arc::from("x"), TerminatedReason::Stopped);
        assert_eq!((old.mailbox.state().system_len, new.mailbox.state().system_len), (0, 1), "{address}");
        assert!(!old.driven.load(Ordering::Acquire), "{address}");
        node.suspended.store(false, Ordering::Release);
    }
    remote.shutdown(false).await;
    let text = "nothing begins when the node has ended";
    let other = Endpoint::new(&node, &Arc::from("127.0.0.1:2"), EndpointKind::Dialled);
    assert_eq!(answer(&asker_there(&other)), Err(Refusal::Shutdown), "{text}");
    assert_eq!((other.mailbox.state().len, node.tasks.count()), (0, 0), "{text}");
}

/// One that was forgotten and is driven all the same, while another has its place, is found by what ends or stops
/// connections; and one that has its place back hears what it missed.
#[tokio::test(start_paused = true)]
async fn a_forgotten_endpoint_that_is_driven_is_found() {
    let (_system, remote, node) = start().await;
    let is_suspended = |endpoint: &Endpoint| endpoint.read(EndpointState::is_suspended);
    let (old, new) = forgotten(&node);
    let (alone, other) = forgotten_at(&node, "127.0.0.1:2");
    node.forget_if_idle(&other);
    remote.suspend();
    node.keep(&alone);
    old.apply(EndpointState::ensure_connected);
    assert!(is_suspended(&alone) && is_suspended(&old), "what they missed");
    assert!(Arc::ptr_eq(&node.endpoint(ADDRESS).expect("an address"), &new));
    remote.resume();
    assert!(!is_suspended(&old));
    remote.suspend();
    assert!(is_suspended(&old));
    remote.shutdown(false).await;
    assert_eq!((old.mailbox.refusal(), node.tasks.count()), (Some(Refusal::Shutdown), 0));
    assert_eq!((node.all_endpoints().len(), Arc::strong_count(&old)), (0, 1));
}

/// What the last connection of an endpoint had taken counts, also when the endpoint is forgotten before that is known.
///
/// Covers: S142
#[tokio::test]
async fn what_is_counted_late_is_in_the_totals() {
    let (_system, remote, node) = start().await;
    let (old, new) = forgotten(&node);
    node.add_late_unknown(&old, 3);
    node.add_late_unknown(&new, 4);
    let unknown = || remote.endpoints().iter().map(|report| report.statistics.unknown).sum::<u64>();
    assert_eq!((unknown(), new.statistics().snapshot().unknown), (7, 4));
    node.forget_if_idle(&new);
    node.add_late_unknown(&new, 1);
    assert_eq!(unknown(), 8);
    remote.shutdown(false).await;
}

/// Whatever becomes of an endpoint, each figure is in the totals once: it is forgotten and comes back, again and again, has
/// another in its place, or is there to the end of the node.
///
/// Covers: S142
#[tokio::test]
async fn what_was_counted_is_in_the_totals_once() {
    let (_system, remote, node) = start().await;
    let sent = || remote.endpoints().iter().map(|report| report.statistics.sent).sum::<u64>();
    let (old, new) = forgotten(&node);
    let counted = Cell::new(0);
    let count = |endpoint: &Endpoint| {
        endpoint.statistics().add_sent(1);
        counted.set(counted.get() + 1);
    };
    for _ in 0..3 {
        count(&new);
        assert_eq!(sent(), counted.get(), "there");
        node.forget_if_idle(&new);
        assert_eq!(sent(), counted.get(), "forgotten");
        node.keep(&new);
        assert_eq!(sent(), counted.get(), "back");
    }
    assert_eq!(new.statistics().snapshot().sent, 3, "its own figures are whole");
    // Of one that another has the place of, when it has no more to do.
    old.show_statistics();
    assert!(node.statistics.is_empty(), "they would be taken for those of the other");
    count(&old);
    let stray = node.keep_driven(&old);
    assert!(stray.is_some());
    drop(stray);
    assert_eq!(sent(), counted.get(), "driven elsewhere");
    new.show_statistics();
    old.hide_statistics();
    assert!(remote.get_endpoint_statistics(ADDRESS).is_some_and(|shown| shown.sent == 3));
    count(&old);
    drop(old);
    assert_eq!(sent(), counted.get(), "dropped");
    // Somebody has a reference when the node ends.
    let path = Pid::new(ADDRESS, "x").to_path(ActorPathScheme::Protoactor, "").expect("a path");
    new.intern(&path, SerializerId::PROTOBUF, "").expect("room");
    remote.shutdown(false).await;
    assert_eq!((sent(), node.endpoints.len(), node.statistics.len()), (counted.get(), 0, 0), "the end");
    count(&new);
    drop(new);
    assert_eq!(sent(), counted.get(), "after the end");
}

/// A call that begins on an endpoint forgotten meanwhile is counted where others look for it.
#[tokio::test]
async fn a_call_and_the_table_agree() {
    let (_system, remote, node) = start().await;
    let (old, new) = forgotten(&node);
    let (found, calls) = node.enter_call(old.clone());
    assert!(Arc::ptr_eq(&found, &new));
    assert_eq!((calls, old.inbound.load(Ordering::Acquire)), (1, 0));
    new.inbound.store(0, Ordering::Release);
    node.forget_if_idle(&new);
    assert!(node.endpoints.is_empty());
    let (found, calls) = node.enter_call(old.clone());
    assert!(Arc::ptr_eq(&found, &old) && calls == 1);
    node.forget_if_idle(&old);
    assert!(Arc::ptr_eq(&node.endpoint(ADDRESS).expect("an address"), &old), "who has a call stays");
    old.inbound.store(0, Ordering::Release);
    remote.shutdown(false).await;
}

/// A call counts on an endpoint that was forgotten, sees that another has its place, and before it moves on that one is
/// forgotten as well and a second call puts the first one back: the peer counts once, and not any more when both are gone.
///
/// Covers: L6
#[tokio::test]
async fn a_peer_counts_once_however_its_calls_meet() {
    let (_system, remote, node) = start().await;
    let peers = || node.inbound_peers.load(Ordering::Acquire);
    let (old, new) = forgotten(&node);
    for round in 0..2 {
        // The first one, as far as it has come.
        old.inbound.fetch_add(1, Ordering::AcqRel);
        node.forget_if_idle(&new);
        let (found, _) = node.enter_call(old.clone());
        assert!(Arc::ptr_eq(&found, &old));
        assert_eq!(peers(), 1, "{round}");
        assert_eq!(old.leave_call(), None);
        assert_eq!(peers(), 1, "{round}");
        assert!(old.leave_call().is_some());
        assert_eq!((peers(), old.inbound.load(Ordering::Acquire)), (0, 0), "{round}");
    }
    // One that never found its place there is none that leaves.
    old.inbound.fetch_add(1, Ordering::AcqRel);
    assert_eq!((old.leave_call(), peers()), (None, 0));
    remote.shutdown(false).await;
}

/// Addresses that peers name do not fill the table: the last places are for those who call, and those for whom somebody here
/// reaches have places beside theirs.
///
/// Covers: L6
#[tokio::test]
async fn named_addresses_leave_places_free() {
    let mut limits = Limits::new();
    let max = 200;
    (limits.endpoints, limits.named_peers) = (max, max);
    let config = Config::new("127.0.0.1", 0).with([ConfigOption::with_limits(limits)]);
    let (_system, remote, node) = start_with(config).await;
    let by = node.endpoint(ADDRESS).expect("an address");
    let address = |number: usize| format!("127.1.{}.{}:1", number / 256, number % 256);
    let most = max - max / ENDPOINTS_KEPT;
    for number in 1..most {
        by.way_to(&address(number)).expect("room");
    }
    assert_eq!(node.endpoints.len(), most);
    assert!(matches!(by.way_to(&address(most)), Err(Refusal::Limit(_))));
    assert!(by.way_to(&address(1)).is_ok(), "those there are remain");
    let called = |number| node.endpoint_of(&address(number), EndpointKind::Dialled);
    for number in most..max {
        called(number).expect("room");
    }
    assert!(matches!(called(max), Err(Refusal::Limit(_))));
    let all = max + max / ENDPOINTS_KEPT;
    for number in max..all {
        node.endpoint(&address(number)).expect("room");
    }
    assert!(matches!(node.endpoint(&address(all)), Err(Refusal::Limit(_))));
    remote.shutdown(false).await;
}

/// An endpoint that is made while the node ends, after all there were have been closed, is closed as well and leaves.
#[tokio::test]
async fn an_endpoint_that_comes_late_is_closed() {
    let (_system, remote, node) = start().await;
    remote.shutdown(true).await;
    let made = node.make_endpoint(&Arc::from(ADDRESS), EndpointKind::Dialled, None);
    assert!(matches!(made, Err(Refusal::Shutdown)), "{made:?}");
    // Whoever found it in the table meanwhile sends nothing by it.
    let found = node.endpoints.get(ADDRESS).map(|found| found.clone()).expect("its end is under way");
    let target = Arc::new(PidEntry::new(ADDRESS, "x"));
    let sent = found.deliver_proto(target, 0, &String::from("x"));
    assert!(matches!(sent, Err(Refusal::Shutdown)), "{sent:?}");
    while node.tasks.count() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(node.endpoints.is_empty());
}

/// What the runtimes say to a client that has gone has no way to it: who asks is told, and a stop is recorded.
#[tokio::test]
async fn what_is_said_to_a_client_that_is_gone_is_not_kept() {
    let (system, remote, node) = start().await;
    let endpoint = node.endpoint_of(&client_address("one"), EndpointKind::Client).expect("room");
    let there = Pid::new(endpoint.address().clone(), "x");
    let path = there.to_path(ActorPathScheme::Protoactor, "").expect("a path");
    let asker = Arc::new(Asker::default());
    endpoint.lookup(&path, "", asker.clone());
    assert_eq!(*asker.0.lock(), [AskError::Unreachable]);
    assert_eq!(node.asks.len(), 0);
    endpoint.stop(&path);
    assert_eq!(system.dead_letters().count(DeadLetterReason::Unreachable), 1);
    remote.shutdown(false).await;
}

/// What was written in a peer's name neither hides nor replaces what it has proved.
#[tokio::test]
async fn a_form_that_is_proven_stays() {
    let (_system, remote, node) = start().await;
    let endpoint = node.endpoint(ADDRESS).expect("an address");
    endpoint.note_form(WireForm::W1, false);
    assert_eq!((endpoint.proven_form(), endpoint.heard_form()), (None, Some((WireForm::W1, true))));
    endpoint.note_form(WireForm::W2, true);
    endpoint.note_form(WireForm::W1, false);
    assert_eq!(endpoint.proven_form(), Some(WireForm::W2));
    endpoint.note_form(WireForm::W2, false);
    endpoint.note_form(WireForm::W2, false);
    assert_eq!(endpoint.heard_form(), Some((WireForm::W2, false)), "there were two");
    endpoint.forget_form();
    assert_eq!((endpoint.proven_form(), endpoint.heard_form()), (None, None));
    remote.shutdown(false).await;
}

/// A suspension that is overtaken by its end on the way to an endpoint leaves nothing behind there, nor the other way round.
#[tokio::test]
async fn a_suspension_and_its_end_that_meet_leave_what_the_node_says() {
    let (_system, remote, node) = start().await;
    let endpoint = node.endpoint(ADDRESS).expect("an address");
    let is_suspended = |endpoint: &Endpoint| endpoint.read(EndpointState::is_suspended);
    let other = remote.clone();
    Interrupted::next(move || other.resume());
    remote.suspend();
    assert_eq!((node.is_suspended(), is_suspended(&endpoint)), (false, false));
    remote.suspend();
    assert!(is_suspended(&endpoint));
    let other = remote.clone();
    Interrupted::next(move || other.suspend());
    remote.resume();
    assert_eq!((node.is_suspended(), is_suspended(&endpoint)), (true, true));
    // One that is made meanwhile.
    let other = remote.clone();
    Interrupted::next(move || other.resume());
    let made = node.endpoint("127.0.0.1:2").expect("an address");
    assert_eq!((node.is_suspended(), is_suspended(&made)), (false, false));
    remote.shutdown(false).await;
}

/// The same of who is blocked.
///
/// Covers: S127
#[tokio::test]
async fn a_refusal_that_is_over_reaches_no_endpoint() {
    let (_system, remote, node) = start().await;
    let endpoint = node.endpoint(ADDRESS).expect("an address");
    let is_blocked = |endpoint: &Endpoint| endpoint.read(EndpointState::is_blocked);
    let list = remote.block_list().clone();
    Interrupted::next(move || assert!(list.unblock(ADDRESS)));
    assert!(remote.block_list().block(ADDRESS));
    assert!(!is_blocked(&endpoint));
    assert!(remote.block_list().block(ADDRESS));
    assert!(is_blocked(&endpoint));
    let list = remote.block_list().clone();
    Interrupted::next(move || assert!(list.block(ADDRESS)));
    assert!(remote.block_list().unblock(ADDRESS));
    assert!(is_blocked(&endpoint));
    // One that is made meanwhile.
    let (list, other) = (remote.block_list().clone(), "127.0.0.1:2");
    assert!(list.block(other));
    Interrupted::next(move || assert!(list.unblock(other)));
    let made = node.endpoint(other).expect("an address");
    assert!(!is_blocked(&made));
    remote.shutdown(false).await;
}

/// Clients whose ids differ in what a host cannot show are told apart all the same.
///
/// Covers: T10
#[test]
fn no_two_clients_have_one_address() {
    let ids = [
        "node.1", "node-1", "node_1", "node1", "Node1", "nodE1", "-node1", "n", "N", "-n", "-02e", ".",
        "\u{e9}",
    ];
    let mut all: Vec<_> = ids.into_iter().map(client_address).collect();
    assert_eq!(
        all[..5],
        ["client-node-02e1:1", "client-node--1:1", "client-node-05f1:1", "client-node1:1", "client--node1:1"]
    );
    for address in &all {
        let canonical = address.parse::<Authority>().expect("an address").to_string();
        assert!(canonical == *address && is_client_address(&canonical), "{address}");
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), ids.len());
}
