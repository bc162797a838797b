//! How often the paths of a message allocate. A program of its own, for the counting slows everything it counts.
//!
//! Counts are of the whole process, both ends included, per operation: allocations and growths of buffers alike.
//! A goal that is not met makes the program fail.

mod common;

use core::time::Duration;
use std::alloc::System;
use std::process::ExitCode;

use common::{local, on_worker, remote, system};
use nexus_actor::prelude::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Prints a row and says whether its goal was missed. `work` runs once before it is counted, so that buffers have
/// their size.
fn row(name: &str, goal: Option<f64>, n: u64, mut work: impl FnMut(u64)) -> bool {
    work(n);
    let region = Region::new(GLOBAL);
    work(n);
    let counted = region.change();
    let each = (counted.allocations + counted.reallocations) as f64 / n as f64;
    let bytes = (counted.bytes_allocated as f64) / n as f64;
    let missed = goal.is_some_and(|goal| each > goal);
    let (goal, verdict) = match goal {
        None => (String::new(), ""),
        Some(goal) => (format!("<= {goal}"), if missed { "NOT MET" } else { "met" }),
    };
    println!("{name:<44} {each:>12.4} {bytes:>12.1} {goal:>9}  {verdict}");
    missed
}

/// A burst or a queue that grows is amortised: this many allocations in a message are none.
const NONE: f64 = 0.02;

fn main() -> ExitCode {
    let quick = !std::env::args().any(|arg| arg == "--bench") || std::env::args().any(|arg| arg == "--quick");
    let mut missed = false;
    let n = if quick { 50_000 } else { 500_000 };
    println!("{:<44} {:>12} {:>12} {:>9}", "operation", "allocations", "bytes", "goal");
    missed |= row("local tell, one sender", Some(NONE), n, |n| {
        on_worker(local::tell(system().clone(), 1, n));
    });
    missed |= row("local ask of an idle actor", Some(2.0 + NONE), n, |n| {
        on_worker(local::ask(system().clone(), n));
    });
    missed |= row("spawn, one message, end", None, n, |n| {
        on_worker(local::spawn(system().clone(), n));
    });
    missed |= row("floor: task and channel, one message, end", None, n, |n| {
        on_worker(common::floor::spawn(n));
    });
    let (a, b) = (remote::node("a", true), remote::node("b", true));
    remote::serve(&b);
    let counter: ActorRef<remote::Traffic> =
        a.resolve(&format!("{}/user/counter", b.address())).expect("resolves");
    missed |= row("remote tell, both ends", Some(NONE), n, |n| {
        let (_, lost) = on_worker(remote::tell(counter.clone(), 1, n));
        assert_eq!(lost, 0, "messages arrive");
    });
    missed |= row("remote ask, one at a time, both ends", None, n / 10, |n| {
        on_worker(remote::asks(counter.clone(), n));
    });
    missed |= row("remote ask, 256 outstanding, both ends", None, n, |n| {
        on_worker(remote::asks_at_once(counter.clone(), 256, n));
    });
    on_worker(async move {
        let _ = tokio::time::timeout(Duration::from_secs(5), a.shutdown()).await;
        let _ = tokio::time::timeout(Duration::from_secs(5), b.shutdown()).await;
    });
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
