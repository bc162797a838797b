//! How often the hot paths allocate. A process of its own, for the counter counts everything.

use core::future::Future;
use std::alloc::System;

use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

enum Counter {
    Add(u64),
    Get(Reply<u64>),
}

#[derive(Default)]
struct Tally(u64);

impl Actor for Tally {
    type Msg = Counter;
    async fn receive(&mut self, message: Counter, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match message {
            Counter::Add(n) => self.0 += n,
            Counter::Get(reply) => reply.send(self.0),
        }
        Ok(())
    }
}

/// One test: two at once would count each other's.
#[test]
fn a_tell_allocates_nothing_an_ask_at_most_twice_and_a_burst_leaves_nothing() {
    const COUNT: usize = 10_000;
    let pump = PumpRuntime::new();
    let system = ActorSystem::builder("count").with_runtime(pump.clone()).build().expect("a system");
    let counter = system.spawn("counter", Props::from_fn(Tally::default)).expect("a free name");
    let burst = || {
        for _ in 0..COUNT {
            counter.tell(Counter::Add(1));
        }
        pump.run_until_idle();
    };
    burst();
    let region = Region::new(GLOBAL);
    burst();
    let stats = region.change();
    let told = stats.allocations + stats.reallocations;
    assert!(told <= 64, "{told} allocations for {COUNT} messages: growing and letting go of buffers only");

    let ask = |n: usize| {
        for _ in 0..n {
            let mut ask = core::pin::pin!(counter.ask(Counter::Get));
            let mut cx = core::task::Context::from_waker(core::task::Waker::noop());
            assert!(ask.as_mut().poll(&mut cx).is_pending());
            pump.run_until_idle();
            assert!(ask.as_mut().poll(&mut cx).is_ready());
        }
    };
    ask(100);
    let region = Region::new(GLOBAL);
    ask(COUNT);
    let stats = region.change();
    let asked = stats.allocations + stats.reallocations;
    assert!(asked <= 2 * COUNT + 64, "{asked} allocations for {COUNT} asks of an idle actor");

    // What a burst leaves behind does not stay until a message comes that may never come.
    let quiet = system.spawn("quiet", Props::from_fn(Tally::default)).expect("a free name");
    pump.advance(core::time::Duration::from_secs(2));
    let region = Region::new(GLOBAL);
    for _ in 0..COUNT {
        quiet.tell(Counter::Add(1));
    }
    pump.run_until_idle();
    let held = |region: &Region<'_, System>| {
        let stats = region.change();
        stats.bytes_allocated as isize - stats.bytes_deallocated as isize
    };
    assert!(held(&region) > 100_000, "ready for the next burst: {}", held(&region));
    pump.advance(core::time::Duration::from_millis(1_100));
    assert!(held(&region) < 4_096, "{} bytes a second later", held(&region));
}
