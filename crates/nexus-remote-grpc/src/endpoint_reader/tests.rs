use std::sync::Arc;
use std::task::{self, Waker};

use nexus_actor_core::path::ActorPathScheme;
use nexus_actor_core::pid::Pid;
use prost::Message as _;

use super::Inbound;
use crate::config::Limits;
use crate::endpoint::Endpoint;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint::signs_of_life::WatchTouch;
use crate::endpoint_writer_mailbox::{OutboundBatch, RemoteSystem, TerminatedWhy};
use crate::inbound::peer_watcher::PeerWatch;
use crate::remote::tests::support::{Echo, system};
use crate::wire::batch::{Batch, BatchLimits, Incoming, decode};
use crate::wire::proto::actor;
use crate::wire::proto::remote::remote_message::MessageType;
use crate::wire::proto::remote::{MessageBatch, MessageEnvelope, MessageHeader, RemoteMessage};
use crate::{Config, ConfigOption, Remote, pending_asks};
use nexus_actor_core::{Actor, ActorError, ActorSystem, Context, DeadLetterReason, MailboxConfig, Props};

/// Takes what it is sent.
struct Idle;

impl Actor for Idle {
    type Msg = u8;
    async fn receive(&mut self, _: u8, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        Ok(())
    }
}

/// So many messages of one type without payload from the peer's actor `asker` for the actor `id`.
fn batch(type_name: &str, id: &str, count: usize) -> Batch {
    let pid = |id: &str| actor::Pid { id: id.into(), ..actor::Pid::default() };
    let batch = MessageBatch {
        type_names: vec![type_name.into()],
        targets: vec![pid(id)],
        senders: vec![pid("asker")],
        envelopes: vec![MessageEnvelope { sender: 1, ..MessageEnvelope::default() }; count],
    };
    let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) };
    match decode(message.encode_to_vec().into(), &BatchLimits::default()) {
        Ok(Incoming::Batch(batch)) => batch,
        other => panic!("no batch: {other:?}"),
    }
}

/// The types of the user messages that wait for the peer; they wait no more.
fn said(endpoint: &Endpoint) -> Vec<String> {
    let mut batch = OutboundBatch::new();
    endpoint.mailbox.poll_user_mailbox(10, &mut batch);
    std::iter::from_fn(|| batch.pop_user()).map(|deliver| deliver.type_name.to_string()).collect()
}

/// A touch finds no room in the mailbox, or is given up there for a message: the actor lives all the same.
#[tokio::test]
async fn an_actor_whose_mailbox_is_full_lives() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let node = remote.node_for_tests();
    let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
    let mut inbound = Inbound::new(node, &endpoint, false);
    let one = MailboxConfig::bounded(1);
    let spawn = |name, mailbox| {
        system.spawn(name, Props::from_fn(|| Idle).with_mailbox(mailbox)).expect("a free name")
    };
    // The runtime has one thread, so no actor takes anything before this awaits.
    for (name, mailbox) in [("refuses", one), ("drops", one.drop_oldest())] {
        let full = spawn(name, mailbox);
        full.tell(1);
        inbound.batch(&batch("actor.Touch", name, 1));
        assert_eq!(said(&endpoint), ["actor.Touched"], "{name}");
        assert_eq!(full.mailbox_len(), 1, "{name}");
    }
    let overtaken = spawn("overtaken", one.drop_oldest());
    inbound.batch(&batch("actor.Touch", "overtaken", 1));
    assert!(said(&endpoint).is_empty(), "it is asked in its turn");
    overtaken.tell(1);
    assert_eq!(said(&endpoint), ["actor.Touched"]);
    let stopped = spawn("stopped", one);
    inbound.batch(&batch("actor.Touch", "stopped", 1));
    stopped.stop();
    stopped.stopped().await;
    assert_eq!(said(&endpoint), ["actor.DeadLetterResponse"]);
    assert_eq!(system.dead_letters().count(DeadLetterReason::MailboxFull), 0);
    remote.shutdown(false).await;
}

/// What peers ask the activator waits within its bound, whoever asks and whatever it is.
#[tokio::test]
async fn stops_of_a_peer_wait_within_the_bound_of_commands() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let config = Config::new("127.0.0.1", 0).with([
        ConfigOption::with_endpoint_manager_batch_size(1),
        ConfigOption::with_endpoint_manager_queue_size(2),
    ]);
    let remote = Remote::start(&system, config).await.expect("a node");
    let node = remote.node_for_tests();
    let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
    let mut inbound = Inbound::new(node, &endpoint, true);
    let idle = system.spawn("idle", Props::from_fn(|| Idle)).expect("a free name");
    inbound.batch(&batch("actor.Stop", "idle", 5));
    assert_eq!(node.activator.get().expect("started").mailbox_len(), 2);
    assert_eq!(system.dead_letters().count(DeadLetterReason::MailboxFull), 3);
    assert!(!idle.is_terminated());
    remote.shutdown(false).await;
}

/// A call that this node opened, and that waits for room, leaves nothing that would wake its driver.
#[tokio::test]
async fn a_dialled_call_that_ends_leaves_no_waker() {
    struct Quiet;
    impl task::Wake for Quiet {
        fn wake(self: Arc<Self>) {}
    }
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start_client(&system, Config::default()).await.expect("a node");
    let node = remote.node_for_tests();
    let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
    let crowd = endpoint.intake.put(node.config.get_limits().mailbox_messages, 0);
    let quiet = Arc::new(Quiet);
    let waker = Waker::from(quiet.clone());
    let inbound = Inbound::new(node, &endpoint, false).dialled();
    for _ in 0..2 {
        let cx = task::Context::from_waker(&waker);
        assert!(endpoint.intake.poll_room_of(inbound.call(), &cx).is_pending());
    }
    drop((inbound, waker));
    assert_eq!(Arc::strong_count(&quiet), 1);
    drop(crowd);
    remote.shutdown(false).await;
}

/// One state, whichever handle is asked, and what arrives meanwhile is refused as it says.
///
/// Covers: TST-26, SUS-01, API-17
#[tokio::test]
async fn get_suspend_reflects_shared_state() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let other = remote.clone();
    let node = remote.node_for_tests();
    let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
    let mut inbound = Inbound::new(node, &endpoint, false);
    let batch = MessageBatch {
        type_names: vec!["google.protobuf.StringValue".into()],
        targets: vec![actor::Pid { address: remote.address().into(), id: "nobody".into(), request_id: 0 }],
        senders: Vec::new(),
        envelopes: vec![MessageEnvelope::default()],
    };
    let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) };
    let Ok(Incoming::Batch(batch)) = decode(message.encode_to_vec().into(), &BatchLimits::default()) else {
        panic!("a batch")
    };
    let lost = |reason| system.dead_letters().count(reason);
    for (turn, suspended) in [(0, false), (1, true), (2, false)] {
        if suspended {
            other.suspend();
        } else {
            other.resume();
        }
        assert_eq!((remote.get_suspend(), node.is_suspended()), (suspended, suspended), "turn {turn}");
        let before = lost(DeadLetterReason::Suspended);
        inbound.batch(&batch);
        assert_eq!(lost(DeadLetterReason::Suspended) - before, u64::from(suspended), "turn {turn}");
    }
    assert_eq!(lost(DeadLetterReason::NoSuchActor), 2);
    remote.shutdown(false).await;
}

struct EchoTaker;

impl Actor for EchoTaker {
    type Msg = Echo;
    async fn receive(&mut self, _: Echo, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        Ok(())
    }
}

/// What waits in a mailbox is more than payloads: a peer that sends hardly any of these with large headers, or from senders
/// with long names, is not read for that either.
///
/// Covers: L30
#[tokio::test]
async fn headers_and_senders_of_what_waits_are_counted() {
    let mut limits = Limits::new();
    limits.mailbox_bytes = 64 * 1024;
    let config = Config::new("127.0.0.1", 0).with([ConfigOption::with_limits(limits)]);
    for (header, sender, is_much) in [(0, 0, false), (500, 0, true), (0, 500, true)] {
        let system = system("node");
        let remote = Remote::start(&system, config.clone()).await.expect("a node");
        system.spawn("idle", Props::from_fn(|| EchoTaker)).expect("a free name");
        let node = remote.node_for_tests();
        let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
        let mut inbound = Inbound::new(node, &endpoint, false);
        let pid = |id: String| actor::Pid { address: String::new(), id, request_id: 0 };
        let header_data = [("name".to_owned(), "v".repeat(header))].into();
        let envelope = MessageEnvelope {
            sender: i32::from(sender > 0),
            message_header: (header > 0).then_some(MessageHeader { header_data }),
            ..MessageEnvelope::default()
        };
        let batch = MessageBatch {
            type_names: vec!["google.protobuf.StringValue".into()],
            targets: vec![pid("idle".into())],
            senders: vec![pid("s".repeat(sender))],
            envelopes: vec![envelope; 200],
        };
        let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) };
        let Ok(Incoming::Batch(batch)) = decode(message.encode_to_vec().into(), &BatchLimits::default())
        else {
            panic!("a batch")
        };
        // It does not run before this waits.
        inbound.batch(&batch);
        let cx = task::Context::from_waker(Waker::noop());
        assert_eq!(endpoint.intake.poll_room_of(0, &cx).is_pending(), is_much, "{header} {sender}");
        remote.shutdown(false).await;
    }
}

/// A peer that watches again, by a new call, an actor that has just ended hears of that end, and not that there never was
/// such an actor.
#[tokio::test]
async fn who_ended_just_now_is_not_said_never_to_have_been() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let one_by_one = ConfigOption::with_endpoint_manager_batch_size(1);
    let config = Config::new("127.0.0.1", 0).with([one_by_one]);
    let remote = Remote::start(&system, config).await.expect("a node");
    let node = remote.node_for_tests();
    let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
    let actor = system.spawn("watched", Props::from_fn(|| Idle)).expect("a free name").to_any();
    let pid = |address: &str, id: &str| actor::Pid { address: address.into(), id: id.into(), request_id: 0 };
    // Each by a call of its own.
    let watch = |id: &str| {
        let watch = actor::Watch { watcher: Some(pid("", "watcher")) };
        let batch = MessageBatch {
            type_names: vec!["actor.Watch".into()],
            targets: vec![pid(remote.address(), id)],
            senders: Vec::new(),
            envelopes: vec![MessageEnvelope {
                message_data: watch.encode_to_vec(),
                ..MessageEnvelope::default()
            }],
        };
        let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) };
        let Ok(Incoming::Batch(batch)) = decode(message.encode_to_vec().into(), &BatchLimits::default())
        else {
            panic!("a batch")
        };
        Inbound::new(node, &endpoint, false).batch(&batch);
    };
    watch("watched");
    while remote.peer_watches() == 0 {
        tokio::task::yield_now().await;
    }
    // The daemon has much else to do before it hears of the end.
    for number in 0..1_000 {
        let id = Arc::from(number.to_string());
        let watcher = Arc::new(PidEntry::new("127.0.0.1:1", "watcher"));
        node.tell_watcher(PeerWatch::Unwatch { id, watcher, address: endpoint.address().clone() });
    }
    actor.stop();
    actor.stopped().await;
    watch("watched");
    watch("nobody");
    assert_eq!(remote.peer_watches(), 1, "the daemon has not heard of the end");
    let mut told = Vec::new();
    while told.len() < 3 {
        for message in endpoint.mailbox.drain_system() {
            let RemoteSystem::Terminated { who, why, .. } = message else { panic!("{message:?}") };
            told.push((who.id.to_string(), why));
        }
        tokio::task::yield_now().await;
    }
    // What comes second about an actor is about one that the peer does not watch any more.
    let why = |id: &str| told.iter().find(|(who, _)| who == id).map(|(_, why)| *why);
    assert_eq!(why("watched"), Some(TerminatedWhy::Stopped), "{told:?}");
    assert_eq!(why("nobody"), Some(TerminatedWhy::NotFound), "{told:?}");
    remote.shutdown(false).await;
}

/// That a watched actor never existed is said once, perhaps while this node is suspended: its watcher would wait for
/// good. A response to anybody else is recorded, and as ever not answered.
#[tokio::test]
async fn a_suspended_node_hears_who_lives_and_answers_no_response() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let node = remote.node_for_tests();
    let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
    let mut inbound = Inbound::new(node, &endpoint, false);
    remote.suspend();
    let id: Arc<str> = Arc::from("missing");
    let there = Pid::new(endpoint.address().clone(), id.clone());
    let path = there.to_path(ActorPathScheme::Protoactor, "").expect("a path");
    let watcher = node.activator.get().expect("started").to_any();
    assert!(endpoint.watcher().watch(&id, &path, watcher, endpoint.era()));
    let touch = Arc::new(WatchTouch { endpoint: endpoint.clone(), id });
    let key = node.asks.insert_touch(touch, endpoint.address(), endpoint.era()).expect("room");
    let pid = |address: &str, id: &str| actor::Pid { address: address.into(), id: id.into(), request_id: 0 };
    let envelope = |target| MessageEnvelope { target, sender: 1, ..MessageEnvelope::default() };
    let batch = MessageBatch {
        type_names: vec!["actor.DeadLetterResponse".into()],
        targets: vec![pid(remote.address(), &pending_asks::id_of(key)), pid(remote.address(), "somebody")],
        senders: vec![pid(endpoint.address(), "sender")],
        envelopes: vec![envelope(0), envelope(1)],
    };
    let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) };
    let Ok(Incoming::Batch(batch)) = decode(message.encode_to_vec().into(), &BatchLimits::default()) else {
        panic!("a batch")
    };
    inbound.batch(&batch);
    assert!(endpoint.watcher().is_empty(), "the watcher knows");
    assert_eq!(remote.pending_asks(), 0);
    assert_eq!(system.dead_letters().count(DeadLetterReason::Suspended), 1);
    assert!(endpoint.mailbox.is_empty(), "an answer to a response waits");
    remote.shutdown(false).await;
}
