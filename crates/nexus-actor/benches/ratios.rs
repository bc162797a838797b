//! Every workload once, each beside its floor in the same run, as one table.
//!
//! `cargo bench -p nexus-actor --bench ratios -- [--quick] [--rounds N] [part of a workload's name ..]`
//!
//! Ours and the floor take turns; a row shows the median of each and the median of the rounds' ratios. The exit code
//! is 0 whatever the numbers are: this measures, it does not judge a change.

mod common;

use core::time::Duration;

use common::{floor, local, memory, on_worker, remote, runtime, system, transport, wire};

struct Options {
    rounds: usize,
    /// Divides the number of operations.
    divisor: u64,
    /// Idle actors are counted a million at a time as well.
    million: bool,
    only: Vec<String>,
}

/// What a row must reach.
enum Goal {
    None,
    AtLeast(f64),
    AtMost(f64),
}

struct Table {
    options: Options,
    missed: usize,
}

impl Table {
    fn wants(&self, name: &str) -> bool {
        self.options.only.is_empty() || self.options.only.iter().any(|part| name.contains(part.as_str()))
    }

    fn line(&mut self, name: &str, ours: &str, floor: &str, ratio: &str, value: f64, goal: &Goal) {
        let (goal, met) = match *goal {
            Goal::None => (String::new(), None),
            Goal::AtLeast(goal) => (format!(">= {goal}"), Some(value >= goal)),
            Goal::AtMost(goal) => (format!("<= {goal}"), Some(value <= goal)),
        };
        let verdict = match met {
            None => "",
            // Of a build without optimization only that it runs.
            Some(_) if cfg!(debug_assertions) => "unoptimized",
            Some(true) => "met",
            Some(false) => "NOT MET",
        };
        self.missed += usize::from(met == Some(false));
        println!("{name:<44} {ours:>12} {floor:>12} {ratio:>8} {goal:>9}  {verdict}");
    }

    /// A row of operations per second.
    fn rate(
        &mut self,
        name: &str,
        goal: Goal,
        n: u64,
        mut ours: impl FnMut(u64) -> Duration,
        mut plain: impl FnMut(u64) -> Duration,
    ) {
        if !self.wants(name) {
            return;
        }
        let n = (n / self.options.divisor).max(1);
        let (mut a, mut b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.options.rounds {
            let rate = |took: Duration| n as f64 / took.as_secs_f64();
            let (ours, plain) = (rate(ours(n)), rate(plain(n)));
            a.push(ours);
            b.push(plain);
            ratios.push(ours / plain);
        }
        let ratio = median(&mut ratios);
        self.line(
            name,
            &per_second(median(&mut a)),
            &per_second(median(&mut b)),
            &format!("{ratio:.2}"),
            ratio,
            &goal,
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// In microseconds.
fn percentile(values: &[Duration], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort();
    values.get(values.len() * percent / 100).map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
}

fn per_second(rate: f64) -> String {
    if rate >= 1e6 { format!("{:.2} M/s", rate / 1e6) } else { format!("{:.1} k/s", rate / 1e3) }
}

fn local_rows(table: &mut Table) {
    table.rate(
        "local tell 1:1",
        Goal::AtLeast(1.6),
        3_000_000,
        |n| on_worker(local::tell(system().clone(), 1, n)),
        |n| on_worker(floor::tell(1, n)),
    );
    table.rate(
        "local fan-in 8:1",
        Goal::AtLeast(2.0),
        3_000_000,
        |n| on_worker(local::tell(system().clone(), 8, n)),
        |n| on_worker(floor::tell(8, n)),
    );
    table.rate(
        "local ask, one caller, default deadline",
        Goal::AtLeast(0.55),
        300_000,
        |n| on_worker(local::ask(system().clone(), n)),
        |n| on_worker(floor::ask(n)),
    );
    table.rate(
        "local ping-pong",
        Goal::None,
        300_000,
        |n| on_worker(local::ping_pong(system().clone(), n)),
        |n| on_worker(floor::ping_pong(n)),
    );
    table.rate(
        "spawn, one message, end; from a worker",
        Goal::AtLeast(0.9),
        100_000,
        |n| on_worker(local::spawn(system().clone(), n)),
        |n| on_worker(floor::spawn(n)),
    );
    table.rate(
        "spawn, one message, end; from outside",
        Goal::AtLeast(0.9),
        100_000,
        |n| runtime().block_on(local::spawn(system().clone(), n)),
        |n| runtime().block_on(floor::spawn(n)),
    );
    table.rate(
        "spawn, one message, stop by ref; from a worker",
        Goal::None,
        100_000,
        |n| on_worker(local::spawn_stop(system().clone(), n)),
        |n| on_worker(floor::spawn(n)),
    );
}

fn memory_rows(table: &mut Table) {
    let million = table.options.million.then_some(1_000_000);
    for n in core::iter::once(100_000).chain(million) {
        let name = format!("idle actors: bytes each of {n}");
        if !table.wants(&name) {
            continue;
        }
        let Some((actors, all)) = memory::measure(n) else { continue };
        let each = actors as f64 / n as f64;
        let goal = if n == 100_000 { Goal::AtMost(600.0) } else { Goal::None };
        table.line(&name, &format!("{each:.0} B"), "", "", each, &goal);
        if n == 1_000_000 {
            let gib = all as f64 / f64::from(1 << 30);
            table.line(
                "idle actors: process of a million",
                &format!("{gib:.2} GiB"),
                "",
                "",
                gib,
                &Goal::AtMost(0.7),
            );
        }
    }
}

fn codec_rows(table: &mut Table) {
    let n = 5_000_000;
    table.rate("codec: write envelopes", Goal::None, n, wire::encode_envelopes, wire::encode_floor);
    table.rate("codec: read envelopes", Goal::None, n, wire::decode_envelopes, wire::decode_floor);
}

fn transport_rows(table: &mut Table) {
    table.rate(
        "transport: 64 KiB chunks over TCP",
        Goal::None,
        8_000,
        |n| on_worker(transport::tcp(n)),
        |n| on_worker(transport::tcp_floor(n)),
    );
    table.rate(
        "transport: 64 KiB chunks over loopback",
        Goal::None,
        16_000,
        |n| on_worker(transport::loopback(n)),
        |n| on_worker(transport::loopback_floor(n)),
    );
}

fn remote_rows(table: &mut Table) {
    let pair = remote::Pair::start(true);
    let (swap, echo) = (pair.swap_port, pair.echo_port);
    let (route, number) = pair.route();
    let raw = move |bound, senders, n| {
        on_worker(async move { floor::swap_tell(swap, bound, senders, n).await.expect("runs") })
    };
    let lost = core::cell::Cell::new(0);
    let tell = |counter: &nexus_actor::ActorRef<remote::Traffic>, senders, n| {
        let (took, missing) = on_worker(remote::tell(counter.clone(), senders, n));
        lost.set(lost.get() + missing);
        took
    };
    table.rate(
        "writer enqueue: route.send",
        Goal::None,
        500_000,
        |n| on_worker(remote::enqueue(route.clone(), number, pair.counter.clone(), n)),
        |n| on_worker(remote::enqueue_floor(n)),
    );
    table.rate(
        "writer enqueue: typed tell through serde",
        Goal::None,
        500_000,
        |n| on_worker(remote::enqueue_typed(pair.counter.clone(), n)),
        |n| on_worker(remote::enqueue_floor(n)),
    );
    let n = 3_000_000;
    table.rate(
        "remote tell 16 B, derived codec",
        Goal::AtLeast(0.35),
        n,
        |n| tell(&pair.counter, 1, n),
        |n| raw(floor::BEST, 1, n),
    );
    table.rate(
        "remote tell 16 B, codec by hand",
        Goal::AtLeast(0.35),
        n,
        |n| on_worker(remote::tell_bare(pair.bare.clone(), pair.total(), n)),
        |n| raw(floor::BEST, 1, n),
    );
    table.rate(
        "remote tell 16 B, four senders",
        Goal::None,
        n,
        |n| tell(&pair.counter, 4, n),
        |n| raw(floor::BEST, 4, n),
    );
    table.rate(
        "remote tell 16 B, derived (floor as roomy)",
        Goal::None,
        n,
        |n| tell(&pair.counter, 1, n),
        |n| raw(floor::AS_OURS, 1, n),
    );
    table.rate(
        "remote tell 16 B, four (floor as roomy)",
        Goal::None,
        n,
        |n| tell(&pair.counter, 4, n),
        |n| raw(floor::AS_OURS, 4, n),
    );
    if table.wants("remote tell 16 B, recorder on (floor: off)") {
        let plain = remote::Pair::start(false);
        table.rate(
            "remote tell 16 B, recorder on (floor: off)",
            Goal::None,
            n,
            |n| tell(&pair.counter, 1, n),
            |n| tell(&plain.counter, 1, n),
        );
    }
    if table.wants("remote tell") {
        let lost = lost.get();
        table.line(
            "remote tell, messages lost in all rows",
            &lost.to_string(),
            "",
            "",
            lost as f64,
            &Goal::AtMost(0.0),
        );
    }
    ask_rows(table, &pair, echo);
}

fn ask_rows(table: &mut Table, pair: &remote::Pair, echo: u16) {
    let one = "remote ask, one at a time, p50";
    let many = "remote ask, 256 outstanding (floor: one)";
    if !table.wants(one) && !table.wants(many) {
        return;
    }
    let n = 20_000 / table.options.divisor;
    let (mut ours, mut plain, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut late, mut plain_late) = (Vec::new(), Vec::new());
    let (mut rates, mut singles, mut gains) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..table.options.rounds {
        let asked = on_worker(remote::asks(pair.counter.clone(), n));
        let raw = on_worker(async move { floor::round_trips(echo, n).await.expect("runs") });
        let single = n as f64 / asked.iter().sum::<Duration>().as_secs_f64();
        late.push(percentile(&asked, 99));
        plain_late.push(percentile(&raw, 99));
        let (asked, raw) = (percentile(&asked, 50), percentile(&raw, 50));
        ours.push(asked);
        plain.push(raw);
        ratios.push(asked / raw);
        let took = on_worker(remote::asks_at_once(pair.counter.clone(), 256, n * 20));
        let rate = (n * 20) as f64 / took.as_secs_f64();
        rates.push(rate);
        singles.push(single);
        gains.push(rate / single);
    }
    let ratio = median(&mut ratios);
    let micros = |values: &mut [f64]| format!("{:.1} us", median(values));
    table.line(
        one,
        &micros(&mut ours),
        &micros(&mut plain),
        &format!("{ratio:.2}"),
        ratio,
        &Goal::AtMost(1.4),
    );
    table.line(
        "remote ask, one at a time, p99",
        &micros(&mut late),
        &micros(&mut plain_late),
        "",
        f64::NAN,
        &Goal::None,
    );
    let gain = median(&mut gains);
    let (rate, single) = (per_second(median(&mut rates)), per_second(median(&mut singles)));
    table.line(many, &rate, &single, &format!("{gain:.1}"), gain, &Goal::AtLeast(20.0));
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut options = Options { rounds: 7, divisor: 1, million: true, only: Vec::new() };
    // `cargo test` runs benches without the flag: then it is enough that they run.
    if !args.iter().any(|arg| arg == "--bench") {
        options = Options { rounds: 1, divisor: 100, million: false, only: Vec::new() };
    }
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--bench" => {}
            "--quick" => (options.rounds, options.divisor) = (3, 3),
            "--rounds" => options.rounds = rest.next().and_then(|n| n.parse().ok()).unwrap_or(options.rounds),
            memory::ROLE => return memory::run(rest.next().and_then(|n| n.parse().ok()).unwrap_or(100_000)),
            remote::ROLE => return remote::run(rest.next().is_some_and(|word| word == "recorder")),
            part if !part.starts_with('-') => options.only.push(part.to_owned()),
            unknown => eprintln!("{unknown} is not an option here"),
        }
    }
    let mut table = Table { options, missed: 0 };
    println!("{} workers, {} rounds, medians", common::WORKERS, table.options.rounds);
    println!("{:<44} {:>12} {:>12} {:>8} {:>9}", "workload", "ours", "floor", "ratio", "goal");
    local_rows(&mut table);
    memory_rows(&mut table);
    codec_rows(&mut table);
    transport_rows(&mut table);
    // The other process is started for a name that may be of its rows only.
    let here = ["local", "spawn", "idle", "codec", "transport"];
    let only = &table.options.only;
    if only.is_empty() || !only.iter().all(|part| here.iter().any(|family| part.starts_with(family))) {
        remote_rows(&mut table);
    }
    if cfg!(debug_assertions) {
        println!("an unoptimized build: its figures say nothing");
    } else {
        println!("{} goals not met", table.missed);
    }
}
