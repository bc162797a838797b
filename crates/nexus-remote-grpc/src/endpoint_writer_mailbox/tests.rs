use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

const NAME: TypeName = TypeName { package: "google.protobuf", name: "StringValue" };

fn pid(id: &str) -> Arc<PidEntry> {
    Arc::new(PidEntry::new("h:1", id))
}

fn deliver(number: u32) -> RemoteDeliver {
    RemoteDeliver { target_request_id: number, ..RemoteDeliver::new(pid("echo"), NAME) }
}

fn watch(id: &str) -> RemoteSystem {
    RemoteSystem::Watch { target: pid(id), watcher: pid("me") }
}

fn terminated(id: &str) -> RemoteSystem {
    RemoteSystem::Terminated { watcher: pid("you"), who: pid(id), why: TerminatedWhy::Stopped }
}

fn bounds(messages: usize, bytes: usize) -> MailboxBounds {
    MailboxBounds { messages_max: messages, bytes_max: bytes, ..MailboxBounds::default() }
}

fn mailbox(bounds: MailboxBounds) -> EndpointWriterMailbox {
    EndpointWriterMailbox::new(bounds, Arc::default())
}

/// Counts how often it is woken.
#[derive(Default)]
pub(super) struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (bell.clone(), Waker::from(bell))
    }

    pub(super) fn rung(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn refusal(result: Result<Displaced, QueueError<RefusedDeliver>>) -> Option<Refusal> {
    result.err().map(|error| error.into_inner().refusal)
}

/// The numbers of what waits, oldest first.
fn numbers(mailbox: &EndpointWriterMailbox) -> Vec<u32> {
    let mut numbers = Vec::new();
    mailbox.drain(|deliver, _| numbers.push(deliver.target_request_id));
    numbers
}

/// The numbers and payloads of a batch's user messages, and how many system messages go before them.
fn contents(batch: &mut OutboundBatch) -> (usize, Vec<(u32, Vec<u8>)>) {
    let mut system = 0;
    while batch.pop_system().is_some() {
        system += 1;
    }
    let mut user = Vec::new();
    while let Some((deliver, payload)) = batch.user() {
        user.push((deliver.target_request_id, payload.to_vec()));
        batch.pop_user();
    }
    assert!(batch.is_empty());
    (system, user)
}

fn poll(
    mailbox: &EndpointWriterMailbox,
    waker: &Waker,
    size: usize,
    batch: &mut OutboundBatch,
) -> Poll<usize> {
    mailbox.poll_batch(&mut Context::from_waker(waker), size, batch)
}

/// Covers: BP-01, BP-02, BP-03, S91, API-18, API-20
#[test]
fn a_full_queue_gives_the_newest_message_back_and_keeps_the_older_ones() {
    for capacity in [1, 2, 7] {
        let mailbox = mailbox(bounds(capacity, 1_000));
        for number in 0..capacity as u32 {
            assert_eq!(mailbox.offer(deliver(number), b"x"), Ok(Displaced::new()));
        }
        let full = Refusal::QueueFull { messages: capacity, bytes: capacity };
        let expected = RefusedDeliver { deliver: deliver(99), refusal: full };
        assert_eq!(mailbox.offer(deliver(99), b"x"), Err(QueueError::OfferError(expected)));
        assert_eq!(numbers(&mailbox), (0..capacity as u32).collect::<Vec<_>>());
        assert_eq!(mailbox.offer(deliver(99), b"x"), Ok(Displaced::new()), "room again");
    }
}

#[test]
fn the_message_that_reaches_the_bound_in_bytes_is_the_last_one_taken() {
    let mailbox = mailbox(bounds(100, 10));
    assert_eq!(
        refusal(mailbox.offer(deliver(0), &[0; 50])),
        None,
        "an empty queue takes one whatever its size"
    );
    assert_eq!(refusal(mailbox.offer(deliver(1), b"")), Some(Refusal::QueueFull { messages: 1, bytes: 50 }));
    assert_eq!(numbers(&mailbox), [0]);
    for (number, length) in [(0, 9), (1, 0), (2, 50)] {
        assert_eq!(refusal(mailbox.offer(deliver(number), &vec![0; length])), None);
    }
    assert_eq!(refusal(mailbox.offer(deliver(3), b"x")), Some(Refusal::QueueFull { messages: 3, bytes: 59 }));
    assert_eq!(numbers(&mailbox), [0, 1, 2]);
}

/// Covers: BP-05, PRI-05
#[test]
fn system_messages_do_not_depend_on_a_full_user_queue_and_have_a_bound_of_their_own() {
    let mailbox = mailbox(MailboxBounds { system_messages_max: 3, ..bounds(1, 1) });
    mailbox.offer(deliver(0), b"x").unwrap();
    mailbox.offer(deliver(1), b"x").unwrap_err();
    for message in [watch("a"), terminated("b"), watch("c")] {
        assert_eq!(mailbox.offer_system(message), Ok(()));
    }
    assert_eq!(mailbox.offer_system(watch("d")), Err(QueueError::OfferError(watch("d"))));
    assert_eq!(mailbox.drain_system(), [watch("a"), watch("c"), terminated("b")]);
    assert_eq!(mailbox.state(), QueueState { capacity: 1, len: 1, bytes: 1, system_len: 0 });

    let few = self::mailbox(MailboxBounds { system_bytes_max: 2 * watch("a").size(), ..bounds(1, 1) });
    let mut batch = OutboundBatch::new();
    for round in 0..10 {
        assert_eq!(few.offer_system(watch("a")), Ok(()), "round {round}");
        assert_eq!(few.offer_system(watch("b")), Ok(()), "round {round}");
        assert!(few.offer_system(watch("c")).is_err(), "round {round}");
        assert_eq!(few.poll_system_mailbox(10, &mut batch), 2, "taken ones free their bytes");
    }
}

/// Covers: BP-06, PRI-01
#[test]
fn a_batch_takes_so_many_in_order_system_messages_first() {
    let mailbox = mailbox(bounds(1_000, 1_000_000));
    let mut batch = OutboundBatch::new();
    for number in 0..25 {
        mailbox.offer(deliver(number), &[number as u8; 3]).unwrap();
    }
    mailbox.offer_system(watch("a")).unwrap();
    assert_eq!(mailbox.poll_user_mailbox(10, &mut batch), 10);
    let expected = |from: u32, to: u32| (from..to).map(|n| (n, vec![n as u8; 3])).collect::<Vec<_>>();
    assert_eq!(contents(&mut batch), (0, expected(0, 10)));
    assert_eq!(poll(&mailbox, Waker::noop(), 10, &mut batch), Poll::Ready(10));
    assert_eq!(contents(&mut batch), (1, expected(10, 19)), "the watch came last and goes first");
    assert_eq!(poll(&mailbox, Waker::noop(), 10, &mut batch), Poll::Ready(6));
    assert_eq!(contents(&mut batch), (0, expected(19, 25)));
    assert_eq!(poll(&mailbox, Waker::noop(), 10, &mut batch), Poll::Pending);
}

/// Covers: PRI-07
#[test]
fn neither_kind_keeps_the_other_out_of_a_batch() {
    for (size, system, user) in [(8, 6, 2), (4, 3, 1), (3, 3, 1), (2, 2, 1), (1, 1, 1), (1_000, 750, 250)] {
        let mailbox = mailbox(bounds(10_000, 1_000_000));
        for number in 0..2_000 {
            mailbox.offer(deliver(number), b"x").unwrap();
            mailbox.offer_system(watch("a")).unwrap();
        }
        let mut batch = OutboundBatch::new();
        assert_eq!(
            poll(&mailbox, Waker::noop(), size, &mut batch),
            Poll::Ready(system + user),
            "size {size}"
        );
        let (found, users) = contents(&mut batch);
        assert_eq!((found, users.len()), (system, user), "size {size}");
        mailbox.drain(|_, _| ());
        assert_eq!(
            poll(&mailbox, Waker::noop(), size, &mut batch),
            Poll::Ready(size),
            "the whole batch alone"
        );
    }
}

#[test]
fn the_end_of_an_actor_does_not_overtake_its_last_words() {
    let mailbox = mailbox(bounds(100, 1_000));
    let mut batch = OutboundBatch::new();
    for number in 0..5 {
        mailbox.offer(deliver(number), b"x").unwrap();
    }
    mailbox.offer_system(terminated("speaker")).unwrap();
    mailbox.offer_system(watch("other")).unwrap();
    mailbox.offer(deliver(5), b"x").unwrap();
    assert_eq!(poll(&mailbox, Waker::noop(), 4, &mut batch), Poll::Ready(4));
    assert_eq!(batch.system(), Some(&watch("other")), "nothing else is held up");
    assert_eq!(contents(&mut batch).1.len(), 3);
    assert_eq!(poll(&mailbox, Waker::noop(), 2, &mut batch), Poll::Ready(2));
    assert_eq!(contents(&mut batch).1.last().unwrap().0, 4, "the last word");
    assert_eq!(poll(&mailbox, Waker::noop(), 2, &mut batch), Poll::Ready(2));
    assert_eq!(batch.system(), Some(&terminated("speaker")));
    assert_eq!(contents(&mut batch).1[0].0, 5, "what came after the end has no claim");
    // What became dead letters, or made room, is not waited for.
    mailbox.offer(deliver(6), b"x").unwrap();
    mailbox.offer_system(terminated("speaker")).unwrap();
    assert_eq!(mailbox.poll_system_mailbox(1, &mut batch), 0);
    mailbox.drain(|_, _| ());
    assert_eq!(mailbox.poll_system_mailbox(1, &mut batch), 1);
}

#[test]
fn a_batch_is_bounded_in_bytes_but_for_one_large_message() {
    let mailbox = mailbox(bounds(100, 64 * 1024 * 1024));
    let mut batch = OutboundBatch::new();
    for (number, length) in [(0, 3 * BATCH_BYTES), (1, BATCH_BYTES / 2), (2, BATCH_BYTES / 2), (3, 1)] {
        mailbox.offer(deliver(number), &vec![number as u8; length]).unwrap();
    }
    for expected in [vec![0], vec![1, 2], vec![3]] {
        assert_eq!(poll(&mailbox, Waker::noop(), 100, &mut batch), Poll::Ready(expected.len()));
        let user = contents(&mut batch).1;
        assert!(user.iter().all(|(number, payload)| payload.iter().all(|byte| u32::from(*byte) == *number)));
        assert_eq!(user.iter().map(|(number, _)| *number).collect::<Vec<_>>(), expected);
    }
}

/// What a broken stream leaves in the writer's hands goes to the dead letters from where the writer stopped.
#[test]
fn what_of_a_batch_was_not_written_is_handed_over() {
    let mailbox = mailbox(bounds(100, 1_000));
    for number in 0..5 {
        mailbox.offer(deliver(number), &[number as u8; 2]).unwrap();
    }
    let mut batch = OutboundBatch::new();
    mailbox.poll_user_mailbox(5, &mut batch);
    batch.pop_user();
    batch.pop_user();
    assert_eq!((batch.len(), batch.user_len()), (3, 3));
    let mut left = Vec::new();
    assert_eq!(
        batch.drain_user(|deliver, payload| left.push((deliver.target_request_id, payload.to_vec()))),
        3
    );
    assert_eq!(left, [(2, vec![2, 2]), (3, vec![3, 3]), (4, vec![4, 4])]);
    assert!(batch.is_empty() && batch.user().is_none() && batch.pop_user().is_none());
    mailbox.offer(deliver(9), b"new").unwrap();
    mailbox.poll_user_mailbox(5, &mut batch);
    assert_eq!(contents(&mut batch), (0, vec![(9, b"new".to_vec())]));
}

/// Covers: BP-16, ST-03, ST-10
#[test]
fn the_figures_follow_the_queue() {
    let statistics = Arc::new(EndpointStatistics::default());
    let mailbox = EndpointWriterMailbox::new(bounds(100, 1_000), statistics.clone());
    let sizes = || (statistics.snapshot().queue_capacity, statistics.snapshot().queue_size);
    assert_eq!(sizes(), (100, 0));
    for number in 0..30 {
        mailbox.offer(deliver(number), b"x").unwrap();
    }
    assert_eq!(sizes(), (100, 30));
    let mut batch = OutboundBatch::new();
    for left in [20, 10, 0] {
        mailbox.poll_user_mailbox(10, &mut batch);
        assert_eq!(sizes(), (100, left));
    }
    mailbox.offer(deliver(0), b"x").unwrap();
    mailbox.drain(|_, _| ());
    assert_eq!(sizes(), (100, 0));
}

/// Covers: BP-11, CFG-11, CFG-12, S94
#[test]
fn a_level_is_told_once_for_each_crossing_of_either_bound() {
    use BackpressureSignal::{Critical, Normal, Warning};
    for (name, bounds, length) in
        [("messages", bounds(100, 1_000_000), 1), ("bytes", bounds(1_000_000, 1_000), 10)]
    {
        let mailbox = mailbox(bounds);
        let mut batch = OutboundBatch::new();
        let mut told = Vec::new();
        for number in 1..=90_usize {
            mailbox.offer(deliver(0), &vec![0; length]).unwrap();
            if let Some(change) = mailbox.take_throttle() {
                assert_eq!((change.messages, change.bytes), (number, number * length), "{name}");
                told.push((number, change.level));
            }
            assert_eq!(mailbox.take_throttle(), None, "{name}");
        }
        for left in (0..90).rev() {
            mailbox.poll_user_mailbox(1, &mut batch);
            told.extend(mailbox.take_throttle().map(|change| (left, change.level)));
        }
        let expected = [(60, Warning), (86, Critical), (76, Warning), (53, Normal)];
        assert_eq!(told, expected, "{name}");
        assert_eq!(mailbox.level(), Normal, "{name}");
    }
}

#[test]
fn a_reader_of_levels_that_sleeps_costs_little_and_hears_the_last() {
    let mailbox = mailbox(bounds(10, 1_000));
    let mut batch = OutboundBatch::new();
    for _ in 0..1_000 {
        for _ in 0..10 {
            mailbox.offer(deliver(0), b"x").unwrap();
        }
        mailbox.poll_user_mailbox(10, &mut batch);
    }
    mailbox.offer(deliver(0), b"x").unwrap();
    let changes: Vec<_> = std::iter::from_fn(|| mailbox.take_throttle()).map(|change| change.level).collect();
    assert_eq!((changes.len(), changes.last()), (CHANGES_MAX, Some(&BackpressureSignal::Normal)));
}

/// Covers: S92
#[test]
fn whoever_waits_is_woken_when_it_helps_and_only_then() {
    let mailbox = mailbox(bounds(2, 1_000));
    let (writer, writer_waker) = Bell::new();
    let (sender, sender_waker) = Bell::new();
    let (ear, ear_waker) = Bell::new();
    let mut batch = OutboundBatch::new();
    let room = |waker: &Waker| mailbox.poll_room(&mut Context::from_waker(waker));
    let throttle = |waker: &Waker| mailbox.poll_throttle(&mut Context::from_waker(waker));

    assert_eq!(poll(&mailbox, &writer_waker, 10, &mut batch), Poll::Pending);
    assert_eq!(room(&sender_waker), Poll::Ready(()));
    assert_eq!(throttle(&ear_waker), Poll::Pending);
    mailbox.offer(deliver(0), b"x").unwrap();
    mailbox.offer(deliver(1), b"x").unwrap();
    assert_eq!((writer.rung(), ear.rung()), (1, 1), "once, not for each message");
    assert!(throttle(&ear_waker).is_ready());
    assert_eq!(room(&sender_waker), Poll::Pending);
    assert_eq!(room(&sender_waker), Poll::Pending);
    assert_eq!(mailbox.inner.lock().room.len(), 1, "a sender has one place");
    assert_eq!(poll(&mailbox, &writer_waker, 1, &mut batch), Poll::Ready(1));
    assert_eq!(sender.rung(), 1);

    mailbox.offer(deliver(2), b"x").unwrap();
    assert_eq!(room(&sender_waker), Poll::Pending);
    mailbox.forget_room(&sender_waker);
    assert_eq!(
        (sender.rung(), mailbox.inner.lock().room.len()),
        (1, 0),
        "who shared the place registers anew"
    );
    assert_eq!(room(&sender_waker), Poll::Pending);
    mailbox.set_refusal(Some(Refusal::Unreachable));
    assert_eq!((sender.rung(), room(&sender_waker)), (1, Poll::Ready(())), "waiting is of no use");
    mailbox.set_refusal(None);
    assert_eq!(room(&sender_waker), Poll::Pending);
    mailbox.drain(|_, _| ());
    assert_eq!(sender.rung(), 1);

    batch = OutboundBatch::new();
    assert_eq!(poll(&mailbox, &writer_waker, 10, &mut batch), Poll::Pending);
    mailbox.offer_system(watch("a")).unwrap();
    assert_eq!(writer.rung(), 1);
    assert_eq!(poll(&mailbox, &writer_waker, 10, &mut batch), Poll::Ready(1));
    assert_eq!(poll(&mailbox, &writer_waker, 10, &mut batch), Poll::Pending);
    mailbox.close(Refusal::Shutdown);
    assert_eq!(writer.rung(), 1);
    assert_eq!(poll(&mailbox, &writer_waker, 10, &mut batch), Poll::Ready(0), "closed and empty");
}

/// Covers: CNF-20
#[test]
fn dropping_the_oldest_hands_over_what_had_to_go_and_no_more() {
    let oldest =
        |messages, bytes| MailboxBounds { overflow: Overflow::DropOldest, ..bounds(messages, bytes) };
    let by_count = mailbox(oldest(3, 1_000));
    for number in 0..3 {
        assert_eq!(by_count.offer(deliver(number), &[number as u8]), Ok(Displaced::new()));
    }
    assert_eq!(by_count.offer(deliver(3), &[3]), Ok(vec![(deliver(0), vec![0])]));
    assert_eq!(numbers(&by_count), [1, 2, 3]);
    let by_bytes = mailbox(oldest(100, 10));
    for number in 0..5 {
        by_bytes.offer(deliver(number), &[number as u8; 2]).unwrap();
    }
    assert_eq!(by_bytes.offer(deliver(5), &[5; 6]).unwrap().len(), 1, "room for one message is made");
    assert_eq!(by_bytes.offer(deliver(6), &[6; 6]).unwrap().len(), 3);
    assert_eq!(numbers(&by_bytes), [4, 5, 6]);
}

/// Covers: HS-09, BP-15
#[test]
fn refused_and_drained_nothing_is_left_and_nothing_comes() {
    let mailbox = mailbox(bounds(10, 1_000));
    for number in 0..3 {
        mailbox.offer(deliver(number), &[number as u8; 4]).unwrap();
    }
    mailbox.offer_system(watch("a")).unwrap();
    mailbox.set_refusal(Some(Refusal::Unreachable));
    let mut dead = Vec::new();
    assert_eq!(mailbox.drain(|deliver, payload| dead.push((deliver.target_request_id, payload.to_vec()))), 3);
    assert_eq!(dead, [(0, vec![0; 4]), (1, vec![1; 4]), (2, vec![2; 4])]);
    assert_eq!(refusal(mailbox.offer(deliver(3), b"x")), Some(Refusal::Unreachable));
    assert_eq!(mailbox.state().system_len, 1, "watches wait for the next connection");
    mailbox.set_refusal(None);
    assert_eq!(refusal(mailbox.offer(deliver(4), b"x")), None);
    mailbox.close(Refusal::Shutdown);
    mailbox.set_refusal(None);
    assert_eq!(refusal(mailbox.offer(deliver(5), b"x")), Some(Refusal::Shutdown), "closing is final");
    assert!(mailbox.offer_system(watch("b")).is_err());
    assert_eq!(mailbox.drain_system(), [watch("a")]);
    assert_eq!(numbers(&mailbox), [4]);
    assert!(mailbox.is_empty());
}

#[test]
fn what_is_drained_up_to_a_moment_leaves_what_came_later() {
    const BEFORE: u32 = 3 * DRAINED as u32 + 1;
    let mailbox = mailbox(MailboxBounds::default());
    let put = |range: std::ops::Range<u32>, id| {
        for number in range {
            assert!(mailbox.offer(deliver(number), &number.to_le_bytes()).is_ok());
        }
        assert!(mailbox.offer_system(watch(id)).is_ok() && mailbox.offer_system(terminated(id)).is_ok());
    };
    put(0..BEFORE, "before");
    let (_, mark) = mailbox.set_refusal_and_mark(None);
    put(BEFORE..BEFORE + 2, "after");
    // Some of it went out meanwhile.
    assert_eq!(mailbox.poll_user_mailbox(1, &mut OutboundBatch::new()), 1);
    for left in [BEFORE - 1, 0] {
        let mut drained = Vec::new();
        let count = mailbox.drain_before(mark, |deliver, payload| {
            assert_eq!(payload, deliver.target_request_id.to_le_bytes());
            drained.push(deliver.target_request_id);
        });
        assert_eq!(count, left as usize);
        assert!(drained.into_iter().eq(BEFORE - left..BEFORE));
        let system = mailbox.drain_system_before(mark);
        assert_eq!(system, if left > 0 { vec![watch("before"), terminated("before")] } else { vec![] });
    }
    assert_eq!(numbers(&mailbox), [BEFORE, BEFORE + 1]);
    let state = mailbox.state();
    assert_eq!((state.len, state.bytes, state.system_len), (0, 0, 2));
    // All of it is before the end.
    assert_eq!(mailbox.drain_system(), [watch("after"), terminated("after")]);
    assert!(mailbox.is_empty());
}

#[test]
fn a_quiet_mailbox_gives_its_memory_back() {
    let mailbox = mailbox(bounds(100_000, 64 * 1024 * 1024));
    let mut batch = OutboundBatch::new();
    for number in 0..50_000 {
        mailbox.offer(deliver(number), &[0; 100]).unwrap();
    }
    while mailbox.poll_user_mailbox(1_000, &mut batch) > 0 {
        batch.drain_user(|_, _| ());
    }
    mailbox.shrink();
    mailbox.offer(deliver(7), b"x").unwrap();
    mailbox.shrink();
    assert_eq!(numbers(&mailbox), [7], "what waits stays");
}

/// Covers: S97
#[test]
fn many_senders_and_one_writer_lose_nothing_and_keep_each_senders_order() {
    const SENDERS: u32 = 4;
    const EACH: u32 = 25_000;
    let mailbox = mailbox(bounds(200_000, 64 * 1024 * 1024));
    let mut next = [0; SENDERS as usize];
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let mailbox = &mailbox;
            scope.spawn(move || {
                for number in 0..EACH {
                    let message = RemoteDeliver { sender_request_id: sender, ..deliver(number) };
                    mailbox.offer(message, &number.to_be_bytes()).unwrap();
                }
            });
        }
        let mut batch = OutboundBatch::new();
        let mut taken = 0;
        while taken < SENDERS * EACH {
            let thread = std::thread::current();
            let waker = Waker::from(Arc::new(Unpark(thread)));
            match poll(&mailbox, &waker, 1_000, &mut batch) {
                Poll::Ready(count) => taken += count as u32,
                Poll::Pending => std::thread::park(),
            }
            while let Some((deliver, payload)) = batch.user() {
                let (sender, number) = (deliver.sender_request_id as usize, deliver.target_request_id);
                assert_eq!((number, payload), (next[sender], &number.to_be_bytes()[..]));
                next[sender] += 1;
                batch.pop_user();
            }
        }
    });
    assert_eq!(next, [EACH; SENDERS as usize]);
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn senders_ahead_of_the_writer_let_others_run_once() {
    let mailbox = mailbox(MailboxBounds::default());
    let (bell, waker) = Bell::new();
    let mut cx = Context::from_waker(&waker);
    let mut paused = Vec::new();
    for number in 1..=3 * PACE {
        if mailbox.poll_pace(&mut cx).is_pending() {
            assert_eq!((bell.rung(), mailbox.poll_pace(&mut cx)), (1, Poll::Ready(())));
            paused.push(number - 1);
        }
        mailbox.offer(deliver(0), b"").expect("room");
    }
    assert_eq!(paused, [PACE, 2 * PACE]);
    // Far ahead they wait for a batch to be taken.
    for _ in 3 * PACE..BEHIND {
        mailbox.offer(deliver(0), b"").expect("room");
    }
    let mut batch = OutboundBatch::new();
    for _ in 0..3 {
        assert!(mailbox.poll_pace(&mut cx).is_pending());
        assert_eq!(bell.rung(), 0);
        assert_eq!(mailbox.poll_user_mailbox(4, &mut batch), 4);
        assert_eq!((bell.rung(), mailbox.poll_pace(&mut cx)), (1, Poll::Ready(())));
        for _ in 0..PACE_BEHIND {
            mailbox.offer(deliver(0), b"").expect("room");
        }
    }
    mailbox.set_refusal(Some(Refusal::Unreachable));
    assert!(mailbox.poll_pace(&mut cx).is_ready());
    mailbox.set_refusal(None);
    // A queue that is kept short pauses nobody.
    mailbox.drain(|_, _| {});
    let _ = mailbox.poll_pace(&mut cx);
    for _ in 0..2 * PACE {
        mailbox.offer(deliver(0), b"").expect("room");
        mailbox.drain(|_, _| {});
        assert!(mailbox.poll_pace(&mut cx).is_ready());
    }
}
