//! How fast, how quick and how large are two nodes on this wire, beside two protoactor-go nodes in the same run?
//!
//! `cargo bench -p nexus-remote-grpc --bench grpc -- [--quick] [--rounds N] [--messages N] [--asks N] [--payload BYTES]`
//!
//! Every node is a process of its own; ours and those of both Go generations take turns. Rows show the median of the rounds,
//! and ratios the median of the rounds' ratios. Memory is the peak resident set of both processes together, after all the
//! questions and messages of a round. The exit code is 0 whatever the numbers are, unless messages are lost.

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{Node, RECEIVER, Receiver, SENDER, ask, on_worker, peak_memory, receive, send};
use serde_json::{Value, json};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interop/protoactor-go");

struct Options {
    rounds: usize,
    messages: usize,
    asks: usize,
    payload: usize,
}

impl Options {
    fn arguments(&self) -> [String; 6] {
        let value = |number: usize| number.to_string();
        [
            "-messages".to_owned(),
            value(self.messages),
            "-asks".to_owned(),
            value(self.asks),
            "-payload".to_owned(),
            value(self.payload),
        ]
    }
}

/// What one pair of nodes did in one round.
#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
    sender: f64,
    receiver: f64,
}

impl Figures {
    fn memory(&self) -> f64 {
        self.sender + self.receiver
    }

    fn read(value: &Value) -> Option<Self> {
        let number = |name: &str| value.get(name).and_then(Value::as_f64);
        Some(Self {
            rate: number("messages_per_second")?,
            p50: number("ask_p50_us")?,
            p99: number("ask_p99_us")?,
            sender: number("sender_peak_rss_bytes")?,
            receiver: number("receiver_peak_rss_bytes")?,
        })
    }
}

/// Is the process that sends: prints what it measured, under the names that the Go program has for it.
fn measure(options: &Options) {
    let mut receiver = Receiver::start();
    let node = Node::start("sender", []);
    let counter = receiver.counter(&node);
    let took = on_worker(ask(counter.clone(), options.asks, options.payload));
    let (time, counted) = on_worker(send(counter, options.messages, options.payload));
    assert_eq!(counted, options.messages as u64, "messages are lost");
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    let figures = json!({
        "messages_per_second": options.messages as f64 / time.as_secs_f64(),
        "ask_p50_us": at(50),
        "ask_p99_us": at(99),
        "sender_peak_rss_bytes": peak_memory(),
        "receiver_peak_rss_bytes": receiver.peak_memory(),
    });
    println!("{figures}");
}

/// A pair of nodes, by the program that measures it.
struct Pair {
    name: &'static str,
    program: PathBuf,
    role: &'static str,
    figures: Vec<Figures>,
}

impl Pair {
    fn round(&mut self, options: &Options) {
        let output = Command::new(&self.program)
            .arg(self.role)
            .args(options.arguments())
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        // A Go node logs there whatever it does.
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {}\n{log}", self.name, output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().unwrap_or_default();
        let figures = serde_json::from_str(line).ok().and_then(|value: Value| Figures::read(&value));
        self.figures.push(figures.unwrap_or_else(|| panic!("{} printed {line:?}", self.name)));
    }

    fn median(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        median(self.figures.iter().map(of).collect())
    }

    fn print(&self) {
        let mib = |bytes: f64| bytes / (1024.0 * 1024.0);
        println!(
            "{:<22} {:>10.2} {:>10.0} {:>10.0} {:>10.1} {:>10.1} {:>10.1}",
            self.name,
            self.median(|f| f.rate) / 1e6,
            self.median(|f| f.p50),
            self.median(|f| f.p99),
            mib(self.median(|f| f.sender)),
            mib(self.median(|f| f.receiver)),
            mib(self.median(Figures::memory)),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints ours as parts of theirs, beside what is to be reached.
fn compare(ours: &Pair, theirs: &Pair) {
    let ratio = |of: fn(&Figures) -> f64| {
        median(ours.figures.iter().zip(&theirs.figures).map(|(a, b)| of(a) / of(b)).collect())
    };
    let verdict = |met: bool| match met {
        // Of a build without optimization only that it runs.
        _ if cfg!(debug_assertions) => "unoptimized",
        true => "met",
        false => "NOT MET",
    };
    let (rate, p50, memory) = (ratio(|f| f.rate), ratio(|f| f.p50), ratio(Figures::memory));
    println!("ours / {}", theirs.name);
    println!("  one-way rate  {rate:>6.2}   goal >= 2     {}", verdict(rate >= 2.0));
    println!("  ask p50       {p50:>6.2}   goal <= 0.5   {}", verdict(p50 <= 0.5));
    println!("  ask p99       {:>6.2}", ratio(|f| f.p99));
    println!("  peak memory   {memory:>6.2}   goal <= 0.2   {}", verdict(memory <= 0.2));
}

/// Builds the program of one generation; why not, where that cannot be.
fn build(name: &str, selection: &[&str]) -> Result<PathBuf, String> {
    let mut go = Command::new("go");
    // The Go that is here, unless another one is asked for: nothing is fetched for the purpose.
    if std::env::var_os("GOTOOLCHAIN").is_none() {
        go.env("GOTOOLCHAIN", "local");
    }
    go.current_dir(SOURCE).stdin(Stdio::null());
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    go.args(["build", "-buildvcs=false"]).args(selection).arg("-o").arg(&program).arg(".");
    let output = go.output().map_err(|error| format!("Go is not installed ({error})"))?;
    if output.status.success() {
        return Ok(program);
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "))
}

fn main() {
    let mut options = Options { rounds: 5, messages: 1_000_000, asks: 20_000, payload: 16 };
    let mut role = None;
    let mut arguments = std::env::args().skip(1);
    let mut is_bench = false;
    let mut is_quick = false;
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse().ok()).expect("a number follows");
        match &*argument {
            RECEIVER => role = Some(RECEIVER),
            SENDER => role = Some(SENDER),
            "--quick" => is_quick = true,
            // `cargo bench` says so; without it this is `cargo test`, which only wants to see it run.
            "--bench" => is_bench = true,
            "--rounds" => options.rounds = number(),
            "--messages" | "-messages" => options.messages = number(),
            "--asks" | "-asks" => options.asks = number(),
            "--payload" | "-payload" => options.payload = number(),
            other => panic!("unknown argument {other:?}"),
        }
    }
    match role {
        Some(RECEIVER) => return receive(),
        Some(_) => return measure(&options),
        None => {}
    }
    if is_quick || !is_bench {
        options.rounds = options.rounds.min(1);
        options.messages = options.messages.min(20_000);
        options.asks = options.asks.min(500);
    }
    let this = std::env::current_exe().expect("a program has a path");
    let mut ours = Pair { name: "nexus", program: this, role: SENDER, figures: Vec::new() };
    let mut theirs = Vec::new();
    for (name, program, selection) in [
        ("protoactor-go W1", "go-node-w1", &["-modfile=go.mod"][..]),
        ("protoactor-go W2", "go-node-w2", &["-modfile=w2.mod", "-tags=w2"][..]),
    ] {
        match build(program, selection) {
            Ok(program) => theirs.push(Pair { name, program, role: "bench", figures: Vec::new() }),
            Err(why) => println!("skipped: {name}: {why}"),
        }
    }
    for _ in 0..options.rounds {
        ours.round(&options);
        theirs.iter_mut().for_each(|pair| pair.round(&options));
    }
    println!(
        "{} messages of {} bytes, {} questions; median of {} rounds; all messages counted by the receiver",
        options.messages, options.payload, options.asks, options.rounds
    );
    println!(
        "{:<22} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "", "M msg/s", "p50 us", "p99 us", "send MiB", "recv MiB", "sum MiB"
    );
    ours.print();
    for pair in &theirs {
        pair.print();
    }
    for pair in &theirs {
        compare(&ours, pair);
    }
}
