//! Workloads inside one system, in detail.

mod common;

use common::{floor, local, on_worker, system};
use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    for senders in [1, 2, 8] {
        let mut group = criterion.benchmark_group(format!("tell {senders}:1"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("nexus", |b| {
            b.iter_custom(|n| on_worker(local::tell(system().clone(), senders, n)));
        });
        group.bench_function("floor", |b| b.iter_custom(|n| on_worker(floor::tell(senders, n))));
        group.finish();
    }
    let mut group = criterion.benchmark_group("ask");
    group.bench_function("nexus", |b| b.iter_custom(|n| on_worker(local::ask(system().clone(), n))));
    group.bench_function("floor", |b| b.iter_custom(|n| on_worker(floor::ask(n))));
    group.finish();
    let mut group = criterion.benchmark_group("ping-pong");
    group.bench_function("nexus", |b| b.iter_custom(|n| on_worker(local::ping_pong(system().clone(), n))));
    group.bench_function("floor", |b| b.iter_custom(|n| on_worker(floor::ping_pong(n))));
    group.finish();
    let mut group = criterion.benchmark_group("spawn, one message, end");
    // A window of lives at a time: see `local::lives`.
    group.throughput(Throughput::Elements(local::WINDOW));
    group.bench_function("nexus", |b| {
        b.iter_custom(|n| on_worker(local::spawn(system().clone(), n * local::WINDOW)));
    });
    group.bench_function("nexus, stopped by reference", |b| {
        b.iter_custom(|n| on_worker(local::spawn_stop(system().clone(), n * local::WINDOW)));
    });
    group.bench_function("floor", |b| b.iter_custom(|n| on_worker(floor::spawn(n * local::WINDOW))));
    group.finish();
    criterion.final_summary();
}
