//! `nexus-cli bench local`: actors of one process, and plain tokio beside them.

use core::future::Future;
use core::hint::black_box;
use core::time::Duration;

use anyhow::{anyhow, ensure};
use nexus_actor::ActorSystemConfig;
use nexus_actor::prelude::*;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::{BenchLocalOptions, LocalWorkload};
use crate::commands::node::Ending;
use crate::console::{self, grouped};
use crate::measure::{CpuWatch, Latencies, Micros, or_dash, resident_kib, rounded};

const DEFAULT_SENDERS: usize = 8;
const ALL: [LocalWorkload; 5] = [
    LocalWorkload::Tell,
    LocalWorkload::Ask,
    LocalWorkload::PingPong,
    LocalWorkload::Spawn,
    LocalWorkload::FanIn,
];
/// A sender that never waits lets others run this often.
const YIELD_EVERY: u64 = 256;

impl LocalWorkload {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tell => "tell",
            Self::Ask => "ask",
            Self::PingPong => "ping-pong",
            Self::Spawn => "spawn",
            Self::FanIn => "fan-in",
        }
    }

    const fn floor(self) -> &'static str {
        match self {
            Self::Tell | Self::FanIn => "unbounded channel and task",
            Self::Ask => "channel and oneshot",
            Self::PingPong => "two channels and tasks",
            Self::Spawn => "task and channel",
        }
    }

    const fn messages(self) -> u64 {
        match self {
            Self::Tell | Self::FanIn => 2_000_000,
            Self::Ask | Self::PingPong | Self::Spawn => 200_000,
        }
    }
}

/// What a workload has shown: one line of JSON.
#[derive(Serialize)]
struct Measurement {
    workload: &'static str,
    payload_bytes: usize,
    n: u64,
    lost: u64,
    /// Of the median round.
    seconds: f64,
    msgs_per_s: f64,
    p50_us: Option<Micros>,
    p99_us: Option<Micros>,
    /// Of the actors' rounds together.
    cpu_s: Option<f64>,
    rss_kb: Option<u64>,
    rounds: usize,
    floor: &'static str,
    floor_msgs_per_s: f64,
    floor_ratio: f64,
}

pub(crate) async fn run(options: BenchLocalOptions) -> anyhow::Result<()> {
    let mut ending = Ending::new()?;
    if let Some(one) = options.workload
        && options.senders.is_some()
    {
        ensure!(
            one == LocalWorkload::FanIn,
            "--senders is for fan-in; {} has no number of senders",
            one.as_str()
        );
    }
    let workloads = options.workload.map_or_else(|| ALL.to_vec(), |one| vec![one]);
    // On a worker, as applications are: the thread that waits for the runtime is none.
    let all = tokio::spawn(async move {
        for workload in workloads {
            let measurement = measure(workload, &options).await?;
            if options.json {
                console::line(serde_json::to_string(&measurement)?)?;
            } else {
                print(&measurement)?;
            }
        }
        anyhow::Ok(())
    });
    tokio::select! {
        result = all => result?,
        () = ending.wait() => Err(anyhow!("interrupted")),
    }
}

fn print(m: &Measurement) -> std::io::Result<()> {
    console::line(format_args!(
        "{:<10} {:>12}/s   {:.2} x {} ({}/s)",
        m.workload,
        grouped(m.msgs_per_s as u64),
        m.floor_ratio,
        m.floor,
        grouped(m.floor_msgs_per_s as u64),
    ))?;
    if m.p50_us.is_some() {
        console::line(format_args!("{:10} p50 {}, p99 {}", "", or_dash(m.p50_us), or_dash(m.p99_us)))?;
    }
    Ok(())
}

async fn measure(workload: LocalWorkload, options: &BenchLocalOptions) -> anyhow::Result<Measurement> {
    let n = options.messages.unwrap_or(workload.messages());
    let senders = options.senders.unwrap_or(DEFAULT_SENDERS) as u64;
    let system = ActorSystem::builder("bench").with_config(ActorSystemConfig::default()).build()?;
    let mut latencies = Latencies::new()?;
    let (mut ours, mut floors, mut processor) = (Vec::new(), Vec::new(), Some(0.0));
    for _ in 0..options.rounds {
        let cpu = CpuWatch::start();
        ours.push(match workload {
            LocalWorkload::Tell => tell(&system, n, 1).await?,
            LocalWorkload::FanIn => tell(&system, n, senders).await?,
            LocalWorkload::Ask => ask(&system, n, &mut latencies).await?,
            LocalWorkload::PingPong => ping_pong(&system, n).await?,
            LocalWorkload::Spawn => spawn(&system, n).await?,
        });
        processor = processor.zip(cpu.seconds()).map(|(before, this)| before + this);
        floors.push(match workload {
            LocalWorkload::Tell => tell_floor(n, 1).await?,
            LocalWorkload::FanIn => tell_floor(n, senders).await?,
            LocalWorkload::Ask => ask_floor(n).await?,
            LocalWorkload::PingPong => ping_pong_floor(n).await?,
            LocalWorkload::Spawn => spawn_floor(n).await?,
        });
    }
    system.shutdown().await?;
    let (seconds, floor) = (median(&mut ours).as_secs_f64(), median(&mut floors).as_secs_f64());
    Ok(Measurement {
        workload: workload.as_str(),
        payload_bytes: match workload {
            LocalWorkload::Ask => 0,
            _ => size_of::<u64>(),
        },
        n,
        // Every workload ends when the last message has been handled, or fails.
        lost: 0,
        seconds: rounded(seconds),
        msgs_per_s: (n as f64 / seconds).round(),
        p50_us: latencies.quantile(0.5),
        p99_us: latencies.quantile(0.99),
        cpu_s: processor.map(rounded),
        rss_kb: resident_kib(),
        rounds: options.rounds,
        floor: workload.floor(),
        floor_msgs_per_s: (n as f64 / floor).round(),
        floor_ratio: rounded(floor / seconds),
    })
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// What the measured actors take. As large as what the floors send.
enum Job {
    Count(u64),
    Expect(u64, oneshot::Sender<()>),
    Ask(Reply<u64>),
}

/// Counts, and says when it has counted enough.
#[derive(Default)]
struct Counting {
    seen: u64,
    expected: Option<(u64, oneshot::Sender<()>)>,
}

impl Counting {
    fn check(&mut self) {
        if self.expected.as_ref().is_some_and(|(expected, _)| self.seen >= *expected)
            && let Some((_, done)) = self.expected.take()
        {
            let _ = done.send(());
        }
    }
}

impl Actor for Counting {
    type Msg = Job;
    async fn receive(&mut self, msg: Job, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match msg {
            Job::Count(number) => {
                black_box(number);
                self.seen += 1;
                self.check();
            }
            Job::Expect(count, done) => {
                self.expected = Some((count, done));
                self.check();
            }
            Job::Ask(reply) => reply.send(self.seen),
        }
        Ok(())
    }
}

/// Runs `senders` tasks that share `n` messages.
async fn share_out<F>(n: u64, senders: u64, sender: impl Fn(u64) -> F) -> anyhow::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..senders {
        tasks.spawn(sender(n / senders + u64::from(number < n % senders)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}

async fn tell(system: &ActorSystem, n: u64, senders: u64) -> anyhow::Result<Duration> {
    let actor = system.spawn_anonymous(Props::from_fn(Counting::default))?;
    let (done, finished) = oneshot::channel();
    actor.tell(Job::Expect(n, done));
    let start = Instant::now();
    share_out(n, senders, |share| {
        let actor = actor.clone();
        async move {
            for number in 0..share {
                actor.tell(Job::Count(number));
                if number % YIELD_EVERY == YIELD_EVERY - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
    })
    .await?;
    finished.await?;
    let took = start.elapsed();
    actor.stop();
    Ok(took)
}

async fn tell_floor(n: u64, senders: u64) -> anyhow::Result<Duration> {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Job>();
    let counting = tokio::spawn(async move {
        let mut seen = 0;
        while seen < n {
            match receiver.recv().await {
                Some(Job::Count(number)) => {
                    black_box(number);
                    seen += 1;
                }
                Some(Job::Expect(..) | Job::Ask(_)) => {}
                None => break,
            }
        }
        seen
    });
    let start = Instant::now();
    share_out(n, senders, |share| {
        let sender = sender.clone();
        async move {
            for number in 0..share {
                let _ = sender.send(Job::Count(number));
                if number % YIELD_EVERY == YIELD_EVERY - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
    })
    .await?;
    ensure!(counting.await? == n, "the floor lost messages");
    Ok(start.elapsed())
}

async fn ask(system: &ActorSystem, n: u64, latencies: &mut Latencies) -> anyhow::Result<Duration> {
    let actor = system.spawn_anonymous(Props::from_fn(Counting::default))?;
    let start = Instant::now();
    let mut before = start;
    for _ in 0..n {
        actor.ask(Job::Ask).await?;
        let now = Instant::now();
        latencies.record(now - before);
        before = now;
    }
    let took = start.elapsed();
    actor.stop();
    Ok(took)
}

async fn ask_floor(n: u64) -> anyhow::Result<Duration> {
    let (sender, mut receiver) = mpsc::unbounded_channel::<oneshot::Sender<u64>>();
    tokio::spawn(async move {
        let mut seen = 0;
        while let Some(reply) = receiver.recv().await {
            seen += 1;
            let _ = reply.send(seen);
        }
    });
    // It reads the clock and keeps the times as the actors' round does.
    let mut latencies = Latencies::new()?;
    let start = Instant::now();
    let mut before = start;
    for _ in 0..n {
        let (reply, answer) = oneshot::channel();
        let _ = sender.send(reply);
        answer.await?;
        let now = Instant::now();
        latencies.record(now - before);
        before = now;
    }
    Ok(start.elapsed())
}

/// Sends back what it gets, until it gets zero.
enum Ball {
    Play(u64, ActorRef<Ball>),
    Over(oneshot::Sender<()>),
}

#[derive(Default)]
struct Player {
    over: Option<oneshot::Sender<()>>,
}

impl Actor for Player {
    type Msg = Ball;
    async fn receive(&mut self, msg: Ball, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match msg {
            Ball::Over(over) => self.over = Some(over),
            Ball::Play(0, _) => drop(self.over.take()),
            Ball::Play(left, from) => from.tell(Ball::Play(left - 1, cx.me())),
        }
        Ok(())
    }
}

async fn ping_pong(system: &ActorSystem, n: u64) -> anyhow::Result<Duration> {
    let players = [(); 2].map(|()| system.spawn_anonymous(Props::from_fn(Player::default)));
    let [one, other] = players;
    let (one, other) = (one?, other?);
    let mut overs = Vec::new();
    for player in [&one, &other] {
        let (over, is_over) = oneshot::channel();
        player.tell(Ball::Over(over));
        overs.push(is_over);
    }
    let start = Instant::now();
    one.tell(Ball::Play(n - 1, other.clone()));
    // Whoever gets the last ball lets go of its sender; the other keeps its own.
    let mut waiting = JoinSet::new();
    for is_over in overs {
        waiting.spawn(async move { drop(is_over.await) });
    }
    waiting.join_next().await;
    let took = start.elapsed();
    waiting.abort_all();
    one.stop();
    other.stop();
    Ok(took)
}

async fn ping_pong_floor(n: u64) -> anyhow::Result<Duration> {
    let (to_one, mut one) = mpsc::unbounded_channel::<u64>();
    let (to_other, mut other) = mpsc::unbounded_channel::<u64>();
    let start = Instant::now();
    to_one.send(n - 1)?;
    let back = to_one.clone();
    drop(to_one);
    // The last ball ends its player, and the end of its channels the other one.
    let first = tokio::spawn(async move {
        while let Some(left @ 1..) = one.recv().await {
            let _ = to_other.send(left - 1);
        }
    });
    let second = tokio::spawn(async move {
        while let Some(left @ 1..) = other.recv().await {
            let _ = back.send(left - 1);
        }
    });
    first.await?;
    second.await?;
    Ok(start.elapsed())
}

/// Lives for one message.
struct Mayfly;

impl Actor for Mayfly {
    type Msg = u64;
    async fn receive(&mut self, _msg: u64, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        cx.stop();
        Ok(())
    }
}

async fn spawn(system: &ActorSystem, n: u64) -> anyhow::Result<Duration> {
    let (gone, mut all_gone) = mpsc::channel::<()>(1);
    let start = Instant::now();
    for number in 0..n {
        let gone = gone.clone();
        let actor = system.spawn_anonymous(Props::from_fn(move || {
            // The factory goes with its actor.
            black_box(&gone);
            Mayfly
        }))?;
        actor.tell(number);
        if number % 64 == 63 {
            tokio::task::yield_now().await;
        }
    }
    drop(gone);
    // Nothing is ever sent: the channel ends with its last sender.
    let _ = all_gone.recv().await;
    Ok(start.elapsed())
}

async fn spawn_floor(n: u64) -> anyhow::Result<Duration> {
    let (gone, mut all_gone) = mpsc::channel::<()>(1);
    let start = Instant::now();
    for number in 0..n {
        let (sender, mut receiver) = mpsc::unbounded_channel::<u64>();
        let gone = gone.clone();
        tokio::spawn(async move {
            let _ = receiver.recv().await;
            drop(gone);
        });
        let _ = sender.send(number);
        if number % 64 == 63 {
            tokio::task::yield_now().await;
        }
    }
    drop(gone);
    let _ = all_gone.recv().await;
    Ok(start.elapsed())
}
