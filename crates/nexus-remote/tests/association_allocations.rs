//! What overload costs in memory. A process of its own, for the counter counts everything.

mod association_support;

use std::alloc::System;

use association_support::{Net, address};
use nexus_actor_core::Instant;
use nexus_actor_core::path::{ActorPath, ActorUid};
use nexus_actor_core::serialization::{Encoder, SerializerId};
use nexus_remote::association::{Association, AssociationConfig, AssociationEvent, Overflow};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// However many recipients have numbers: the table is not copied for each message that falls out.
///
/// Covers: S91
#[test]
fn a_message_that_falls_out_of_a_full_lane_costs_no_copy_of_the_table() {
    const RECIPIENTS: usize = 4_096;
    let config = AssociationConfig::builder()
        .lane_messages_max(RECIPIENTS)
        .overflow(Overflow::DropOldest)
        .build()
        .expect("holds");
    let (local, now) = (Net::new(1, 1).id(0), Instant::from_millis(1));
    let mut association = Association::new(config, local, address(2), 1, 1).expect("builds");
    let handles: Vec<u32> = (0..RECIPIENTS)
        .map(|n| {
            let path = ActorPath::new(address(2), format!("/user/r{n}"), ActorUid::ANY);
            association.intern(&path, SerializerId::POSTCARD, "test.message@1").expect("interns")
        })
        .collect();
    let mut round = || {
        let mut fallen = 0;
        for handle in &handles {
            let sent = association.send(now, *handle, None, &mut |e: &mut Encoder<'_>| e.put(&[7; 16]));
            assert!(sent.is_ok());
            while let Some(event) = association.poll_event() {
                fallen += usize::from(matches!(event, AssociationEvent::Lost(_)));
            }
        }
        fallen
    };
    assert_eq!(round(), 0);
    let region = Region::new(GLOBAL);
    assert_eq!(round(), RECIPIENTS);
    let allocated = region.change().bytes_allocated;
    println!("{allocated} bytes");
    assert!(allocated / RECIPIENTS < 1_024, "{allocated} bytes for {RECIPIENTS} messages");
}
