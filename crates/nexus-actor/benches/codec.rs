//! The wire codec on one thread, in detail.

mod common;

use common::wire;
use criterion::{Criterion, Throughput};
use nexus_actor::path::ActorUid;
use nexus_actor::remote::wire::ControlFrame;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("envelopes");
    // Batches of a thousand: one at a time would measure the clock.
    group.throughput(Throughput::Elements(1000));
    group.bench_function("write", |b| b.iter_custom(|n| wire::encode_envelopes(n * 1000)));
    group.bench_function("write, floor", |b| b.iter_custom(|n| wire::encode_floor(n * 1000)));
    group.bench_function("read", |b| b.iter_custom(|n| wire::decode_envelopes(n * 1000)));
    group.bench_function("read, floor", |b| b.iter_custom(|n| wire::decode_floor(n * 1000)));
    group.finish();
    let mut group = criterion.benchmark_group("control, write and read");
    let heartbeat = ControlFrame::Heartbeat { uid: ActorUid::new(7), seq: 1 };
    group.bench_function("heartbeat", |b| b.iter_custom(|n| wire::control(&heartbeat, n)));
    let request = ControlFrame::Request(Box::new(wire::request()));
    group.bench_function("request", |b| b.iter_custom(|n| wire::control(&request, n)));
    group.bench_function("handshake with preamble", |b| b.iter_custom(wire::handshake));
    group.finish();
    criterion.final_summary();
}
