//! Workloads between two processes over TCP, and the transports alone, in detail.

mod common;

use core::time::Duration;

use common::{floor, on_worker, remote, transport};
use criterion::{Criterion, Throughput};

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().is_some_and(|arg| arg == remote::ROLE) {
        return remote::run(args.next().is_some_and(|word| word == "recorder"));
    }
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let pair = remote::Pair::start(true);
    let (swap, echo) = (pair.swap_port, pair.echo_port);
    let (route, number) = pair.route();

    let mut group = criterion.benchmark_group("writer enqueue");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("route.send", |b| {
        b.iter_custom(|n| on_worker(remote::enqueue(route.clone(), number, pair.counter.clone(), n * 1000)));
    });
    group.bench_function("typed tell", |b| {
        b.iter_custom(|n| on_worker(remote::enqueue_typed(pair.counter.clone(), n * 1000)));
    });
    group.bench_function("floor", |b| b.iter_custom(|n| on_worker(remote::enqueue_floor(n * 1000))));
    group.finish();

    let mut group = criterion.benchmark_group("transport");
    group.throughput(Throughput::Bytes(64 * 64 * 1024));
    group.bench_function("TCP", |b| b.iter_custom(|n| on_worker(transport::tcp(n * 64))));
    group.bench_function("TCP, floor", |b| b.iter_custom(|n| on_worker(transport::tcp_floor(n * 64))));
    group.bench_function("loopback", |b| b.iter_custom(|n| on_worker(transport::loopback(n * 64))));
    group.bench_function("loopback, floor", |b| {
        b.iter_custom(|n| on_worker(transport::loopback_floor(n * 64)))
    });
    group.finish();

    let mut group = criterion.benchmark_group("remote tell 16 B");
    group.throughput(Throughput::Elements(10_000));
    for senders in [1, 4] {
        group.bench_function(format!("derived codec, {senders} senders"), |b| {
            b.iter_custom(|n| on_worker(remote::tell(pair.counter.clone(), senders, n * 10_000)).0);
        });
        group.bench_function(format!("floor, {senders} senders"), |b| {
            b.iter_custom(|n| {
                on_worker(async move {
                    floor::swap_tell(swap, floor::BEST, senders, n * 10_000).await.expect("runs")
                })
            });
        });
    }
    group.bench_function("codec by hand, 1 sender", |b| {
        b.iter_custom(|n| on_worker(remote::tell_bare(pair.bare.clone(), pair.total(), n * 10_000)));
    });
    group.finish();

    let mut group = criterion.benchmark_group("remote ask");
    group.bench_function("one at a time", |b| {
        b.iter_custom(|n| on_worker(remote::asks(pair.counter.clone(), n)).iter().sum::<Duration>());
    });
    group.bench_function("floor, round trip", |b| {
        b.iter_custom(|n| {
            let took = on_worker(async move { floor::round_trips(echo, n).await.expect("runs") });
            took.iter().sum::<Duration>()
        });
    });
    group.throughput(Throughput::Elements(256));
    group.bench_function("256 outstanding", |b| {
        b.iter_custom(|n| on_worker(remote::asks_at_once(pair.counter.clone(), 256, n * 256)));
    });
    group.finish();
    criterion.final_summary();
}
