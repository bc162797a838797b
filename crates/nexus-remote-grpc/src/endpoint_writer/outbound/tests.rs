use nexus_actor_core::{ActorSystem, Refusal};

use super::*;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint_state::EndpointState;
use crate::endpoint_writer_mailbox::RemoteDeliver;
use crate::pending_asks::tests::Asker;
use crate::wire::batch::{BatchLimits, Incoming, decode};
use crate::{Config, Remote, pending_asks};

/// A call that is open, of a client that nobody else serves.
async fn call() -> (Remote, Outbound) {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let endpoint = remote.node_for_tests().endpoint_of("client-one:1", EndpointKind::Client).expect("room");
    let outbound = Outbound::new(endpoint, Arc::new(OutboundControl::new(0)));
    outbound.control.open(WireForm::W2);
    (remote, outbound)
}

/// What the call takes from the mailbox between its look at the stage and its turn to write.
fn take(outbound: &mut Outbound, messages: u64) {
    for _ in 0..messages {
        let target = Arc::new(PidEntry::new("client-one:1", "echo"));
        outbound.batch.push_system(RemoteSystem::Stop { target });
    }
}

fn counted(outbound: &Outbound) -> (u64, u64) {
    let counted = outbound.endpoint.statistics().snapshot();
    (counted.sent, counted.unknown)
}

/// Between a look at its stage and its turn at the mailbox a call is lost, and the next one serves: the next message is
/// that one's, and wakes it.
///
/// Covers: S6
#[tokio::test]
async fn a_call_that_was_lost_takes_nothing_from_the_next_one() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let endpoint = remote.node_for_tests().endpoint_of("127.0.0.1:1", EndpointKind::Dialled).expect("room");
    let call = || {
        let outbound = Outbound::new(endpoint.clone(), Arc::new(OutboundControl::new(0)));
        outbound.control.open(WireForm::W2);
        outbound
    };
    let offer = || {
        let target = Arc::new(PidEntry::new("127.0.0.1:1", "echo"));
        let name = TypeName { package: "google.protobuf", name: "StringValue" };
        assert!(endpoint.mailbox.offer(RemoteDeliver::new(target, name), &[]).is_ok());
    };
    let (old_woken, old_waker) = counting();
    let (new_woken, new_waker) = counting();
    let (old_cx, new_cx) = (&mut Context::from_waker(&old_waker), &mut Context::from_waker(&new_waker));
    let (mut old, mut new) = (call(), call());
    assert!(old.poll_message(old_cx).is_pending());
    old.control.close();
    assert!(new.poll_message(new_cx).is_pending());
    // What waits is the next one's, ...
    assert!(old.poll_take(old_cx).is_pending());
    let before = (old_woken.load(Ordering::Acquire), new_woken.load(Ordering::Acquire));
    offer();
    let after = (old_woken.load(Ordering::Acquire), new_woken.load(Ordering::Acquire));
    assert_eq!(after, (before.0, before.1 + 1), "who is woken");
    // ... also when the one that was lost comes first.
    assert!(old.poll_take(old_cx).is_pending());
    assert!(matches!(new.poll_message(new_cx), Poll::Ready(Some(_))));
    assert!(matches!(old.poll_message(old_cx), Poll::Ready(None)));
    remote.shutdown(false).await;
}

fn counting() -> (Arc<AtomicU64>, Waker) {
    struct Count(Arc<AtomicU64>);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }
    let count: Arc<AtomicU64> = Arc::default();
    (count.clone(), Waker::from(Arc::new(Count(count))))
}

/// A question that went down with its call fails at once where the peer would have said that it took it; what the peer
/// took is answered by whichever call there is.
///
/// Covers: S36
#[tokio::test]
async fn questions_that_a_lost_call_took_fail_unless_the_peer_has_them() {
    for is_nexus in [true, false] {
        let (remote, mut outbound) = call().await;
        if is_nexus {
            outbound.control.expect_confirmations();
        }
        let endpoint = outbound.endpoint.clone();
        let asks = &endpoint.node().asks;
        let ask = |outbound: &mut Outbound| {
            let asker = Arc::new(Asker::default());
            let key = asks.insert(asker.clone(), endpoint.address(), endpoint.era()).expect("room");
            let target = Arc::new(PidEntry::new("client-one:1", "echo"));
            let name = TypeName { package: "google.protobuf", name: "StringValue" };
            let mut deliver = RemoteDeliver::new(target, name);
            let sender = PidEntry::new(endpoint.node().address.clone(), pending_asks::id_of(key));
            deliver.sender = Some(Arc::new(sender));
            assert!(endpoint.mailbox.offer(deliver, &[]).is_ok());
            assert_eq!(endpoint.mailbox.poll_user_mailbox(1, &mut outbound.batch), 1);
            asker
        };
        take(&mut outbound, 1);
        let taken = ask(&mut outbound);
        assert!(outbound.fill(WireForm::W2).is_some());
        let (second, third) = (ask(&mut outbound), ask(&mut outbound));
        assert!(outbound.fill(WireForm::W2).is_some());
        outbound.control.acknowledged(2);
        let waits = ask(&mut outbound);
        outbound.control.close();
        outbound.control.settle(asks);
        let told = |asker: &Asker| !asker.0.lock().is_empty();
        assert_eq!(
            [&taken, &second, &third, &waits].map(|asker| told(asker)),
            [false, is_nexus, is_nexus, false]
        );
        // In hand when the call was closed.
        assert!(outbound.fill(WireForm::W2).is_some());
        assert_eq!((told(&taken), told(&waits)), (false, is_nexus));
        assert_eq!(asks.len(), if is_nexus { 1 } else { 4 });
        for asker in [&second, &third, &waits].iter().filter(|_| is_nexus) {
            assert_eq!(*asker.0.lock(), [AskError::Unreachable], "once");
        }
        remote.shutdown(false).await;
    }
}

/// However the end of a call and a batch that it has in hand meet, each message of it counts once.
///
/// Covers: S142
#[tokio::test]
async fn a_batch_in_hand_at_the_end_of_its_call_is_counted_once() {
    for (confirmed, is_late) in [(0, false), (0, true), (3, false), (3, true), (9, true)] {
        let (remote, mut outbound) = call().await;
        take(&mut outbound, 3);
        assert!(outbound.fill(WireForm::W2).is_some());
        outbound.control.acknowledged(confirmed);
        take(&mut outbound, 2);
        outbound.control.close();
        if !is_late {
            assert!(outbound.fill(WireForm::W2).is_some());
        }
        outbound.endpoint.statistics().add_unknown(outbound.control.count_unknown());
        if is_late {
            assert!(outbound.fill(WireForm::W2).is_some());
        }
        let unknown = 5 - confirmed.min(3);
        assert_eq!(counted(&outbound), (5, unknown), "{confirmed} {is_late}");
        assert_eq!(outbound.control.count_unknown(), 0, "only once");
        remote.shutdown(false).await;
    }
}

/// What is in hand when the connection breaks was not said, so the next one says it, once and ahead of what is younger. A
/// peer that is given up hears nothing any more.
#[tokio::test]
async fn what_the_runtimes_say_waits_in_hand_for_the_next_connection() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let endpoint = remote.node_for_tests().endpoint_of("127.0.0.1:1", EndpointKind::Dialled).expect("room");
    let pid = |id: &str| Arc::new(PidEntry::new("127.0.0.1:1", id));
    let notice = |id: &str| RemoteSystem::Terminated {
        watcher: pid("watcher"),
        who: pid(id),
        why: TerminatedWhy::Stopped,
    };
    let stop = |id: &str| RemoteSystem::Stop { target: pid(id) };
    let is_recorded = || system.dead_letters().count(DeadLetterReason::Unreachable);
    let hand = || {
        let mut outbound = Outbound::new(endpoint.clone(), Arc::new(OutboundControl::new(0)));
        for message in [notice("a"), stop("b"), notice("c"), stop("d")] {
            outbound.batch.push_system(message);
        }
        outbound
    };
    // Nothing else runs in between: the row of attempts goes on.
    endpoint.apply(EndpointState::ensure_connected);
    endpoint.mailbox.offer_system(notice("younger")).expect("room");
    endpoint.mailbox.offer_system(stop("younger")).expect("room");
    drop(hand());
    let waits = endpoint.mailbox.drain_system();
    let expected = [stop("b"), stop("d"), stop("younger"), notice("a"), notice("c"), notice("younger")];
    assert_eq!((waits, is_recorded()), (expected.to_vec(), 0));
    endpoint.apply(|state, _| state.close());
    drop(hand());
    assert!(endpoint.mailbox.is_empty());
    assert_eq!(is_recorded(), 2, "the stops");
    remote.shutdown(false).await;
}

/// An answer that a broken connection had in hand waits for the next one while the asker's own connection stands.
#[tokio::test]
async fn an_answer_in_hand_waits_for_who_is_there() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let endpoint = remote.node_for_tests().endpoint_of("127.0.0.1:1", EndpointKind::Dialled).expect("room");
    endpoint.apply(EndpointState::ensure_connected);
    for (calls, waits) in [(0, 0), (1, 1)] {
        for id in ["future$1", "somebody"] {
            let target = Arc::new(PidEntry::new("127.0.0.1:1", id));
            let name = TypeName { package: "google.protobuf", name: "StringValue" };
            assert!(endpoint.mailbox.offer(RemoteDeliver::new(target, name), &[]).is_ok());
        }
        let mut outbound = Outbound::new(endpoint.clone(), Arc::new(OutboundControl::new(0)));
        assert_eq!(endpoint.mailbox.poll_user_mailbox(2, &mut outbound.batch), 2);
        endpoint.inbound.store(calls, Ordering::Release);
        let before = system.dead_letters().count(DeadLetterReason::Unreachable);
        drop(outbound);
        assert_eq!(endpoint.mailbox.state().len, waits as usize);
        assert_eq!(system.dead_letters().count(DeadLetterReason::Unreachable) - before, 2 - waits);
    }
    endpoint.inbound.store(0, Ordering::Release);
    remote.shutdown(false).await;
}

/// The end of a call tells a peer that has ended nothing again, though those who watched there are not told yet.
#[tokio::test]
async fn a_peer_at_rest_is_not_dialled_for_watches() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let node = remote.node_for_tests();
    let endpoint = node.endpoint_of("127.0.0.1:1", EndpointKind::Dialled).expect("room");
    let watcher = node.activator.get().expect("started").to_any();
    let path = watcher.path().clone();
    assert!(endpoint.watcher().watch(&"a".into(), &path, watcher, endpoint.era()));
    endpoint.tell_watches_again();
    assert!(endpoint.read(EndpointState::is_at_rest));
    endpoint.apply(EndpointState::ensure_connected);
    assert!(!endpoint.read(EndpointState::is_at_rest));
    remote.shutdown(false).await;
}

/// A count that comes when all has been counted changes nothing, be it true or not.
#[tokio::test]
async fn a_confirmation_behind_the_count_changes_nothing() {
    for late in [0, 2, 5, u64::MAX] {
        let (remote, mut outbound) = call().await;
        take(&mut outbound, 2);
        assert!(outbound.fill(WireForm::W2).is_some());
        outbound.control.close();
        assert_eq!(outbound.control.count_unknown(), 2);
        outbound.control.acknowledged(late);
        assert_eq!(outbound.control.confirmed.load(Ordering::Acquire), late.min(2));
        take(&mut outbound, 1);
        assert!(outbound.fill(WireForm::W2).is_some());
        outbound.control.acknowledged(u64::MAX);
        assert_eq!(outbound.control.confirmed.load(Ordering::Acquire), 3);
        assert_eq!((counted(&outbound), outbound.control.count_unknown()), ((3, 1), 0));
        remote.shutdown(false).await;
    }
}

/// What the runtimes say goes ahead of user messages, however many messages of the wire it takes.
#[tokio::test]
async fn what_the_runtimes_say_goes_first_when_it_fills_a_message() {
    let (remote, mut outbound) = call().await;
    outbound.writer = BatchWriter::new(BatchLimits { message_bytes: 400, ..BatchLimits::default() });
    for id in ["a", "b"] {
        let target = Arc::new(PidEntry::new("client-one:1", id.repeat(200)));
        outbound.batch.push_system(RemoteSystem::Stop { target });
    }
    let name = TypeName { package: "google.protobuf", name: "Empty" };
    let user = RemoteDeliver::new(Arc::new(PidEntry::new("client-one:1", "echo")), name);
    assert!(outbound.endpoint.mailbox.offer(user, &[]).is_ok());
    assert_eq!(outbound.endpoint.mailbox.poll_user_mailbox(1, &mut outbound.batch), 1);
    for expected in [vec!["actor.Stop"], vec!["actor.Stop", "google.protobuf.Empty"]] {
        let OutMessage(bytes) = outbound.fill(WireForm::W2).expect("a message");
        let Ok(Incoming::Batch(batch)) = decode(bytes.freeze(), &BatchLimits::default()) else {
            panic!("no batch");
        };
        let names: Vec<_> = batch.envelopes().flatten().map(|envelope| envelope.type_name).collect();
        assert_eq!(names, expected);
    }
    remote.shutdown(false).await;
}

/// A suspension holds what the program sends by hand as it holds what is queued.
#[tokio::test]
async fn what_is_sent_by_hand_waits_for_the_end_of_a_suspension() {
    let (remote, mut outbound) = call().await;
    let mut cx = Context::from_waker(Waker::noop());
    let by_hand = |outbound: &Outbound| {
        assert_eq!(outbound.control.try_push(vec![1], 0, &MailboxBounds::default()), Ok(()));
    };
    by_hand(&outbound);
    remote.suspend();
    by_hand(&outbound);
    assert!(outbound.poll_message(&mut cx).is_pending());
    remote.resume();
    for _ in 0..2 {
        assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(Some(_))));
    }
    assert!(outbound.poll_message(&mut cx).is_pending());
    by_hand(&outbound);
    remote.suspend();
    outbound.control.close();
    assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(None)), "the end of a call is no traffic");
    remote.shutdown(false).await;
}

/// The mailbox is closed with the node, while the answer that was heard last is not yet confirmed.
///
/// Covers: S108, S142
#[tokio::test]
async fn a_closed_mailbox_ends_no_call_that_has_something_to_confirm() {
    let (remote, mut outbound) = call().await;
    let mut cx = Context::from_waker(Waker::noop());
    outbound.endpoint.mailbox.close(Refusal::Shutdown);
    assert!(outbound.poll_message(&mut cx).is_pending());
    outbound.control.acknowledge(1);
    assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(Some(_))));
    assert!(outbound.poll_message(&mut cx).is_pending());
    outbound.control.close();
    assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(None)));
    remote.shutdown(false).await;
}

/// A count that waits when a call is closed still goes out, and ahead of the end.
///
/// Covers: S108, S142
#[tokio::test]
async fn what_was_taken_before_the_end_is_confirmed() {
    let (remote, mut outbound) = call().await;
    let mut cx = Context::from_waker(Waker::noop());
    outbound.control.acknowledge(7);
    outbound.control.close();
    let Poll::Ready(Some(OutMessage(bytes))) = outbound.poll_message(&mut cx) else {
        panic!("the count is not sent");
    };
    let message = RemoteMessage::decode(bytes).expect("sound").message_type;
    assert_eq!(message, Some(MessageType::Acknowledge(Acknowledge { messages: 7 })));
    assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(None)), "nothing else");
    remote.shutdown(false).await;
}

/// A peer that takes nothing costs one count, however much it sends.
#[test]
fn of_counts_that_wait_the_newest_is_told() {
    let control = OutboundControl::new(0);
    assert_eq!(control.take_acknowledgement(), None);
    for taken in 1..=1_000 {
        control.acknowledge(taken);
    }
    assert!(control.pushed.lock().messages.is_empty());
    assert_eq!(control.take_acknowledgement(), Some(Acknowledge { messages: 1_000 }));
    assert_eq!(control.take_acknowledgement(), None);
}

/// What a peer says it took of a pushed batch confirms nothing of what came from the mailbox.
#[test]
fn a_pushed_batch_counts_as_sent() {
    let control = OutboundControl::new(0);
    let bounds = MailboxBounds::default();
    // Of the call's own, which no peer counts.
    control.push(vec![1]);
    assert_eq!(control.try_push(vec![2], 3, &bounds), Ok(()));
    let pop = || control.pushed.lock().pop();
    assert_eq!(pop(), Some(PushedMessage { bytes: vec![1], by: PushedBy::Call }));
    assert_eq!(pop(), Some(PushedMessage { bytes: vec![2], by: PushedBy::Program { envelopes: 3 } }));
    assert_eq!(pop(), None);
    assert!(!control.hand_over(3));
    // Two of the mailbox.
    assert!(!control.hand_over(2));
    control.acknowledged(3);
    assert_eq!((control.count_unknown(), control.count_unknown()), (2, 0));
    assert!(control.hand_over(1), "behind the count");
}

/// A message that is sent by hand while its call ends is recorded or refused, never neither.
#[tokio::test]
async fn what_is_pushed_when_the_call_is_over_is_refused() {
    let (remote, outbound) = call().await;
    let (endpoint, control) = (outbound.endpoint.clone(), outbound.control.clone());
    let bounds = MailboxBounds::default();
    control.push(vec![1]);
    let message = RemoteMessage { message_type: None }.encode_to_vec();
    assert_eq!(control.try_push(message.clone(), 0, &bounds), Ok(()));
    drop(outbound);
    assert_eq!(control.try_push(message, 0, &bounds), Err(Refusal::Unreachable));
    assert_eq!(endpoint.statistics().snapshot().dead_letters, 1, "none for the call's own");
    assert!(control.pushed.lock().messages.is_empty());
    remote.shutdown(false).await;
}

/// A peer that reads nothing costs what the bounds say: below them a message is taken, at them it is not, and what goes out
/// makes room.
#[test]
fn what_is_pushed_is_bounded_in_messages_and_bytes() {
    let by_messages = MailboxBounds { messages_max: 3, ..MailboxBounds::default() };
    let control = OutboundControl::new(0);
    for _ in 0..3 {
        assert_eq!(control.try_push(vec![0; 10], 0, &by_messages), Ok(()));
    }
    let full = Err(Refusal::QueueFull { messages: 3, bytes: 30 });
    assert_eq!(control.try_push(Vec::new(), 0, &by_messages), full);
    assert!(control.pushed.lock().pop().is_some());
    assert_eq!(control.try_push(vec![0; 10], 0, &by_messages), Ok(()));
    assert_eq!(control.try_push(Vec::new(), 0, &by_messages), full);

    let by_bytes = MailboxBounds { bytes_max: 30, ..MailboxBounds::default() };
    for (before, taken) in [(29, true), (30, false), (31, false)] {
        let control = OutboundControl::new(0);
        assert_eq!(control.try_push(vec![0; before], 0, &by_bytes), Ok(()));
        let refused = Err(Refusal::QueueFull { messages: 1, bytes: before });
        assert_eq!(control.try_push(vec![0; 10], 0, &by_bytes), if taken { Ok(()) } else { refused.clone() });
        // What the call itself has to say is never refused.
        control.push(vec![0; 10]);
        while control.pushed.lock().pop().is_some() {}
        assert_eq!(control.pushed.lock().bytes, 0);
    }
}
