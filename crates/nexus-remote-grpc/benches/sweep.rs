//! Which sizes of batch and queue serve best, and what the mailbox of an endpoint costs by itself?
//!
//! `cargo bench -p nexus-remote-grpc --bench sweep`
//!
//! The rate is that of one sender that waits for room, to another process, up to the receiver's count. The latency is that of a
//! question while such a sender goes on: what waits in front of it, it waits for too.
//!
//! With `--features _no_statistics` the figures of endpoints are not written: what `enqueue` gains by it is what they cost.

mod common;

use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use common::{Load, Node, RECEIVER, Receiver, on_worker, receive, send};
use criterion::{BenchmarkId, Criterion, Throughput};
use nexus_actor_core::serialization::protobuf::TypeName;
use nexus_actor_core::{ActorRef, AskError};
use nexus_remote_grpc::ConfigOption;
use nexus_remote_grpc::endpoint::pid_entry::PidEntry;
use nexus_remote_grpc::endpoint_writer_mailbox::{
    EndpointWriterMailbox, MailboxBounds, OutboundBatch, RemoteDeliver,
};
use portable_atomic::{AtomicBool, Ordering};

const PAYLOAD: usize = 16;
const BATCHES: [usize; 6] = [8, 32, 128, 512, 1_000, 4_096];
const QUEUES: [usize; 3] = [1_024, 65_536, 1_000_000];
/// Messages of one iteration: a connection that has just begun is a small part of it.
const MESSAGES: usize = 10_000;

fn main() {
    if std::env::args().nth(1).is_some_and(|role| role == RECEIVER) {
        return receive();
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(900))
        .configure_from_args();
    enqueue(&mut criterion);
    let receiver = Receiver::start();
    for batch in BATCHES {
        for queue in QUEUES {
            let options = [
                ConfigOption::with_endpoint_writer_batch_size(batch),
                ConfigOption::with_endpoint_writer_queue_size(queue),
            ];
            let node = Node::start("sender", options);
            let counter = receiver.counter(&node);
            // The connection is made.
            on_worker(send(counter.clone(), 1, PAYLOAD));
            rate(&mut criterion, &counter, batch, queue);
            latency(&mut criterion, &counter, batch, queue);
        }
    }
    criterion.final_summary();
}

fn id(batch: usize, queue: usize) -> BenchmarkId {
    BenchmarkId::from_parameter(format!("batch {batch}, queue {queue}"))
}

fn rate(criterion: &mut Criterion, counter: &ActorRef<Load>, batch: usize, queue: usize) {
    let mut group = criterion.benchmark_group("one way");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function(id(batch, queue), |b| {
        b.iter_custom(|n| {
            let messages = n as usize * MESSAGES;
            let (took, counted) = on_worker(send(counter.clone(), messages, PAYLOAD));
            assert_eq!(counted, messages as u64, "messages are lost");
            took
        });
    });
}

fn latency(criterion: &mut Criterion, counter: &ActorRef<Load>, batch: usize, queue: usize) {
    let mut group = criterion.benchmark_group("ask beside a sender");
    group.bench_function(id(batch, queue), |b| b.iter_custom(|n| on_worker(ask_beside(counter.clone(), n))));
}

async fn ask_beside(counter: ActorRef<Load>, asks: u64) -> Duration {
    let done = Arc::new(AtomicBool::new(false));
    let (over, to) = (done.clone(), counter.clone());
    let sender = tokio::spawn(async move {
        while !over.load(Ordering::Acquire) {
            to.send(Load::Hit(vec![1; PAYLOAD])).await.expect("the receiver lives");
        }
    });
    let start = Instant::now();
    for _ in 0..asks {
        loop {
            match counter.ask(|reply| Load::Ask(vec![1; PAYLOAD], reply)).await {
                Ok(_) => break,
                // An ask does not wait for room as a send does.
                Err(AskError::Full) => tokio::task::yield_now().await,
                Err(error) => panic!("the counter answers: {error}"),
            }
        }
    }
    let took = start.elapsed();
    done.store(true, Ordering::Release);
    sender.await.expect("it only sends");
    counter.ask(Load::Take).await.ok();
    took
}

/// The mailbox alone: a thousand messages in and out again.
fn enqueue(criterion: &mut Criterion) {
    const COUNT: usize = 1_000;
    let mailbox = EndpointWriterMailbox::new(MailboxBounds::default(), Arc::default());
    let target = Arc::new(PidEntry::new("127.0.0.1:1", "counter"));
    let type_name = TypeName { package: "google.protobuf", name: "BytesValue" };
    let mut batch = OutboundBatch::new();
    let mut group = criterion.benchmark_group("enqueue");
    group.measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(COUNT as u64));
    group.bench_function("offer and poll", |b| {
        b.iter(|| {
            for _ in 0..COUNT {
                let deliver = RemoteDeliver::new(target.clone(), type_name);
                mailbox.offer(deliver, &[1; PAYLOAD]).expect("there is room");
            }
            let polled = mailbox.poll_batch(&mut Context::from_waker(Waker::noop()), COUNT, &mut batch);
            assert_eq!(polled, Poll::Ready(COUNT));
            while batch.pop_user().is_some() {}
        });
    });
}
