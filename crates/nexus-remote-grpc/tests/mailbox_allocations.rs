//! How often a message on its way to the writer allocates. A process of its own, for the counter counts everything.

use std::alloc::System;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use nexus_remote_grpc::endpoint::pid_entry::PidEntry;
use nexus_remote_grpc::endpoint_writer_mailbox::{
    EndpointWriterMailbox, MailboxBounds, OutboundBatch, RemoteDeliver,
};
use nexus_remote_grpc::wire::batch::TypeName;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NAME: TypeName = TypeName { package: "google.protobuf", name: "StringValue" };

fn round(mailbox: &EndpointWriterMailbox, batch: &mut OutboundBatch, target: &Arc<PidEntry>) {
    for _ in 0..1_000 {
        let displaced = mailbox.offer(RemoteDeliver::new(target.clone(), NAME), &[7; 16]);
        assert!(displaced.is_ok_and(|displaced| displaced.is_empty()));
    }
    let mut cx = Context::from_waker(Waker::noop());
    let mut taken = 0;
    while taken < 1_000 {
        let Poll::Ready(count) = mailbox.poll_batch(&mut cx, 300, batch) else { panic!("messages wait") };
        taken += count;
        while batch.user().is_some() {
            batch.pop_user();
        }
    }
}

#[test]
fn a_message_in_the_steady_state_allocates_nothing() {
    let mailbox = EndpointWriterMailbox::new(MailboxBounds::default(), Arc::default());
    let mut batch = OutboundBatch::new();
    let target = Arc::new(PidEntry::new("127.0.0.1:8090", "echo"));
    for _ in 0..10 {
        round(&mailbox, &mut batch, &target);
    }
    let region = Region::new(GLOBAL);
    for _ in 0..100 {
        round(&mailbox, &mut batch, &target);
    }
    let change = region.change();
    // The harness may write a line meanwhile.
    assert!(change.allocations + change.reallocations < 10, "{change:?} for 100,000 messages");

    // Once nothing waits, a burst's buffers are given back.
    for _ in 0..200_000 {
        assert!(mailbox.offer(RemoteDeliver::new(target.clone(), NAME), &[7; 16]).is_ok());
    }
    let held = Region::new(GLOBAL);
    while mailbox.poll_user_mailbox(1_000, &mut batch) > 0 {
        batch.drain_user(|_, _| ());
    }
    mailbox.shrink();
    let freed = held.change();
    assert!(freed.bytes_deallocated > 200_000 * 16 + freed.bytes_allocated, "{freed:?}");
}
