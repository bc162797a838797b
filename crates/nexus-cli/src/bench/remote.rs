//! `nexus-cli bench remote`: an actor of another node.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{anyhow, bail, ensure};
use nexus_actor::path::{ActorPath, ActorUid};
use nexus_actor::prelude::*;
use nexus_actor::remote::event::RemotingLifecycleEvent;
use nexus_actor::{Refusal, TellError};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::actors::{Ball, Echo, Received, Reports, Sink};
use crate::args::{BenchRemoteOptions, RemoteWorkload};
use crate::bench::floor::{self, Floor};
use crate::commands::node::Ending;
use crate::console::{self, grouped};
use crate::measure::{CpuWatch, Latencies, Micros, or_dash, resident_kib, rounded};
use crate::payload::Payload;
use crate::target::{Wire, explain};

/// How many messages go between two reports of the sink.
const REPORT_EVERY: u64 = 16_384;
/// Between two tries to reach a target that does not take anything.
const RETRY: Duration = Duration::from_millis(20);
/// One try to hear from the target.
const TRY: Duration = Duration::from_secs(1);
/// A question of a run that has reached its target.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_SENDERS: usize = 8;
/// The mark of the report that ends a run; the others carry the time at which they were sent.
const LAST: u64 = u64::MAX;

/// What a run has shown: one line of JSON.
#[derive(Serialize)]
struct Measurement {
    workload: &'static str,
    payload_bytes: usize,
    n: u64,
    /// Of tell and fan-in what no sink has confirmed, of ask what was never answered.
    lost: u64,
    seconds: f64,
    msgs_per_s: f64,
    /// Of ask the round trip of a question, else of a report that waits its turn behind the messages.
    p50_us: Option<Micros>,
    p99_us: Option<Micros>,
    cpu_s: Option<f64>,
    rss_kb: Option<u64>,
    outstanding: usize,
    /// Incarnations of the target that were seen beyond the first.
    restarts: u64,
    /// What this side recorded as lost, by reason.
    dead_letters: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_msgs_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_round_trip_p50_us: Option<Micros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_round_trip_ratio: Option<f64>,
}

/// What a workload returns.
struct Outcome {
    lost: u64,
    took: Duration,
    latencies: Latencies,
}

pub(crate) async fn run(options: BenchRemoteOptions) -> anyhow::Result<()> {
    let mut ending = Ending::new()?;
    ensure!(
        options.workload != RemoteWorkload::Tell || options.outstanding.is_none_or(|many| many == 1),
        "--outstanding is for ask and fan-in; tell has one sender"
    );
    ensure!(
        options.target.wire() == Wire::Native || options.workload == RemoteWorkload::Ask,
        "over the protoactor wire there is `--workload ask` only; /user/sink is for the native wire"
    );
    let path = options.target.path(options.workload.actor())?;
    let system = options.own.start(options.target.wire(), ASK_TIMEOUT).await?;
    let result = tokio::select! {
        result = measure(&system, &path, &options) => result,
        () = ending.wait() => Err(anyhow!("interrupted")),
    };
    let ended = system.shutdown().await;
    let measurement = result?;
    ended?;
    if options.json {
        console::line(serde_json::to_string(&measurement)?)?;
    } else {
        print(&path, &measurement)?;
    }
    Ok(())
}

async fn measure(
    system: &ActorSystem,
    path: &ActorPath,
    options: &BenchRemoteOptions,
) -> anyhow::Result<Measurement> {
    let senders = options.outstanding.unwrap_or(match options.workload {
        RemoteWorkload::Tell | RemoteWorkload::Ask => 1,
        RemoteWorkload::FanIn => DEFAULT_SENDERS,
    });
    let run = Run {
        system: system.clone(),
        path: path.clone(),
        payload: Payload::pattern(options.payload),
        ball: Ball::pattern(options.target.wire(), options.payload),
        messages: options.messages,
        patience: options.patience,
        id: fastrand::u64(1..),
    };
    let floor = if options.floor {
        let senders = if options.workload == RemoteWorkload::FanIn { senders } else { 1 };
        Some(floor::measure(options.messages.clamp(1_000_000, 10_000_000), senders).await?)
    } else {
        None
    };
    let incarnations = Incarnations::of(system, options.verbose);
    let (outcome, cpu) = match options.workload {
        RemoteWorkload::Tell | RemoteWorkload::FanIn => run.tell(senders).await?,
        RemoteWorkload::Ask => run.ask(senders).await?,
    };
    let Outcome { lost, took, latencies } = outcome;
    let seconds = took.as_secs_f64();
    let msgs_per_s = options.messages as f64 / seconds;
    let p50_us = latencies.quantile(0.5);
    let dead_letters = system
        .dead_letters()
        .counts()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.as_str(), count))
        .collect();
    let asks = options.workload == RemoteWorkload::Ask;
    let floor_ratio = |floor: &Floor| rounded(msgs_per_s / floor.msgs_per_s);
    // An ask contains a raw round trip. One that seems faster ran with both ends on one core while the floor's were on
    // two (a wake-up across cores costs several round trips): the quotient would say nothing about either.
    let trip_ratio = |floor: &Floor| {
        let ratio = rounded(p50_us?.0 / floor.round_trip_p50.0);
        if ratio < 1.0 {
            console::remark(
                "the floor's processes were placed on other cores than the target's: no ratio; \
                 run node and bench under the same `taskset -c 0`",
            );
        }
        (ratio >= 1.0).then_some(ratio)
    };
    Ok(Measurement {
        workload: options.workload.as_str(),
        payload_bytes: options.payload,
        n: options.messages,
        lost,
        seconds: rounded(seconds),
        msgs_per_s: msgs_per_s.round(),
        p50_us,
        p99_us: latencies.quantile(0.99),
        cpu_s: cpu.seconds(),
        rss_kb: resident_kib(),
        outstanding: senders,
        restarts: incarnations.restarts(),
        dead_letters,
        floor_msgs_per_s: floor.as_ref().map(|floor| floor.msgs_per_s.round()),
        floor_ratio: floor.as_ref().filter(|_| !asks).map(floor_ratio),
        floor_round_trip_p50_us: floor.as_ref().map(|floor| floor.round_trip_p50),
        floor_round_trip_ratio: floor.as_ref().filter(|_| asks).and_then(trip_ratio),
    })
}

fn print(path: &ActorPath, m: &Measurement) -> std::io::Result<()> {
    console::line(format_args!(
        "{} {path}: {} x {} bytes, {} at a time",
        m.workload,
        grouped(m.n),
        m.payload_bytes,
        m.outstanding
    ))?;
    console::line(format_args!(
        "  {:.3} s, {} messages/s, {} lost",
        m.seconds,
        grouped(m.msgs_per_s as u64),
        grouped(m.lost)
    ))?;
    let what =
        if m.workload == RemoteWorkload::Ask.as_str() { "round trip" } else { "report behind the queue" };
    console::line(format_args!("  {what}: p50 {}, p99 {}", or_dash(m.p50_us), or_dash(m.p99_us)))?;
    if let (Some(cpu), Some(rss)) = (m.cpu_s, m.rss_kb) {
        console::line(format_args!("  {cpu:.2} s of processor time, {} KiB resident", grouped(rss)))?;
    }
    if m.restarts > 0 {
        console::line(format_args!("  the target restarted {} times", m.restarts))?;
    }
    for (reason, count) in &m.dead_letters {
        console::line(format_args!("  dead letters: {} {reason}", grouped(*count)))?;
    }
    if let Some(floor) = m.floor_msgs_per_s {
        let ratio = m.floor_ratio.map_or_else(String::new, |ratio| format!(", ratio {ratio:.3}"));
        console::line(format_args!("  floor, raw TCP swap: {} frames/s{ratio}", grouped(floor as u64)))?;
    }
    if let Some(floor) = m.floor_round_trip_p50_us {
        let ratio = m.floor_round_trip_ratio.map_or_else(String::new, |ratio| format!(", ratio {ratio:.3}"));
        console::line(format_args!("  floor, raw TCP round trip: p50 {floor}{ratio}"))?;
    }
    Ok(())
}

/// One run against one actor.
#[derive(Clone)]
struct Run {
    system: ActorSystem,
    path: ActorPath,
    payload: Payload,
    /// What the same payload is as a question.
    ball: Ball,
    messages: u64,
    patience: Duration,
    /// Tells this run's messages from those of any other.
    id: u64,
}

impl Run {
    /// The part of all messages that one of so many senders has.
    fn share(&self, sender: usize, senders: usize) -> u64 {
        let (sender, senders) = (sender as u64, senders as u64);
        self.messages / senders + u64::from(sender < self.messages % senders)
    }

    async fn tell(&self, senders: usize) -> anyhow::Result<(Outcome, CpuWatch)> {
        let sink: ActorRef<Sink> = self.system.resolve_path(&self.path)?;
        // Connected, and the right kind of actor, before the clock runs.
        self.count(&sink).await?;
        let (to, mut reports) = mpsc::unbounded_channel();
        let me = self.system.spawn_anonymous(Reports::props(to))?;
        let (cpu, start) = (CpuWatch::start(), Instant::now());
        let mut tasks = JoinSet::new();
        for sender in 0..senders {
            let (run, sink, me) = (self.clone(), sink.clone(), me.clone());
            let share = self.share(sender, senders);
            tasks.spawn(async move { run.send_all(&sink, &me, share, start).await });
        }
        let mut tally = Tally::new()?;
        loop {
            tokio::select! {
                Some(report) = reports.recv() => tally.report(&report, start),
                ended = tasks.join_next() => match ended {
                    Some(ended) => ended??,
                    None => break,
                },
            }
        }
        // The last report comes behind every message, and behind every other report.
        self.confirm(&sink, &me, &mut reports, &mut tally, start).await?;
        let took = start.elapsed();
        me.stop();
        Ok((tally.outcome(self.messages, took), cpu))
    }

    /// Takes reports up to the last one. A sink that is killed takes it along: then its successor is asked.
    async fn confirm(
        &self,
        sink: &ActorRef<Sink>,
        me: &ActorRef<Received>,
        reports: &mut mpsc::UnboundedReceiver<Received>,
        tally: &mut Tally,
        start: Instant,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() <= self.patience {
            self.send(sink, Sink::Report { run: self.id, mark: LAST, to: me.clone() }).await?;
            let arrived = tokio::time::timeout(TRY.max(self.patience / 4), async {
                while let Some(report) = reports.recv().await {
                    if report.mark == LAST {
                        tally.count(&report);
                        return;
                    }
                    tally.report(&report, start);
                }
            });
            if arrived.await.is_ok() {
                return Ok(());
            }
        }
        bail!("{} confirms nothing within {:?}", self.path, self.patience)
    }

    async fn send_all(
        &self,
        sink: &ActorRef<Sink>,
        me: &ActorRef<Received>,
        share: u64,
        start: Instant,
    ) -> anyhow::Result<()> {
        let mut until_report = 0;
        for _ in 0..share {
            if until_report == 0 {
                until_report = REPORT_EVERY;
                let mark = start.elapsed().as_nanos() as u64;
                self.send(sink, Sink::Report { run: self.id, mark, to: me.clone() }).await?;
            }
            until_report -= 1;
            let message = Sink::Put { run: self.id, payload: self.payload.clone() };
            if let Err(error) = sink.send(message).await {
                self.send_again(sink, error).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, sink: &ActorRef<Sink>, message: Sink) -> anyhow::Result<()> {
        match sink.send(message).await {
            Ok(()) => Ok(()),
            Err(error) => self.send_again(sink, error).await,
        }
    }

    /// A refused message has not been sent: it is tried again until the target takes messages.
    async fn send_again(&self, sink: &ActorRef<Sink>, mut error: TellError<Sink>) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let passes = matches!(error.refusal, Refusal::Unreachable | Refusal::Quarantined);
            if !passes || begun.elapsed() > self.patience {
                bail!("{} takes no messages: {}", self.path, error.refusal);
            }
            tokio::time::sleep(RETRY).await;
            match sink.send(error.message).await {
                Ok(()) => return Ok(()),
                Err(again) => error = again,
            }
        }
    }

    /// What the sink has received, however long it takes a restarted one to answer, within the patience.
    async fn count(&self, sink: &ActorRef<Sink>) -> anyhow::Result<Received> {
        let run = self.id;
        self.reach(|timeout| sink.ask(|reply| Sink::Count { run, reply }).timeout(timeout)).await
    }

    async fn reach<T, F>(&self, ask: impl Fn(Duration) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, AskError>>,
    {
        let begun = Instant::now();
        loop {
            let error = match ask(TRY.max(self.patience / 4)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let passes = matches!(
                error,
                AskError::Unreachable | AskError::Quarantined | AskError::Timeout { .. } | AskError::Full
            );
            if !passes || begun.elapsed() > self.patience {
                bail!(explain(&self.path, &error));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn ask(&self, askers: usize) -> anyhow::Result<(Outcome, CpuWatch)> {
        let echo: ActorRef<Echo> = self.system.resolve_path(&self.path)?;
        self.reach(|timeout| self.ball.round_trip(&echo, timeout)).await?;
        let latencies = Arc::new(Mutex::new(Latencies::new()?));
        let (cpu, start) = (CpuWatch::start(), Instant::now());
        let mut tasks = JoinSet::new();
        for asker in 0..askers {
            let (run, echo, latencies) = (self.clone(), echo.clone(), latencies.clone());
            let share = self.share(asker, askers);
            tasks.spawn(async move { run.ask_all(&echo, &latencies, share).await });
        }
        let mut lost = 0;
        while let Some(ended) = tasks.join_next().await {
            lost += ended??;
        }
        let took = start.elapsed();
        let latencies = core::mem::replace(
            &mut *latencies.lock().unwrap_or_else(PoisonError::into_inner),
            Latencies::new()?,
        );
        Ok((Outcome { lost, took, latencies }, cpu))
    }

    /// Returns how many questions were never answered.
    async fn ask_all(
        &self,
        echo: &ActorRef<Echo>,
        latencies: &Mutex<Latencies>,
        share: u64,
    ) -> anyhow::Result<u64> {
        let question = |timeout| self.ball.round_trip(echo, timeout);
        // Askers meet at the histogram once in so many answers.
        let mut fresh = Vec::with_capacity(256);
        let keep = |fresh: &mut Vec<Duration>| {
            let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
            for latency in fresh.drain(..) {
                latencies.record(latency);
            }
        };
        let (mut left, mut lost) = (share, 0);
        while left > 0 {
            let asked = Instant::now();
            match question(ASK_TIMEOUT).await {
                Ok(_) => {
                    left -= 1;
                    fresh.push(asked.elapsed());
                    if fresh.len() == fresh.capacity() {
                        keep(&mut fresh);
                    }
                    continue;
                }
                // It never left: it is asked again.
                Err(AskError::Full) => {}
                Err(_) => {
                    left -= 1;
                    lost += 1;
                }
            }
            self.reach(question).await?;
        }
        keep(&mut fresh);
        Ok(lost)
    }
}

/// What every incarnation of the sink has confirmed of a run.
struct Tally {
    by_sink: BTreeMap<u64, u64>,
    latencies: Latencies,
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { by_sink: BTreeMap::new(), latencies: Latencies::new()? })
    }

    fn count(&mut self, received: &Received) {
        let confirmed = self.by_sink.entry(received.sink).or_default();
        *confirmed = received.messages.max(*confirmed);
    }

    fn report(&mut self, received: &Received, start: Instant) {
        self.count(received);
        self.latencies.record(start.elapsed().saturating_sub(Duration::from_nanos(received.mark)));
    }

    fn outcome(self, messages: u64, took: Duration) -> Outcome {
        let confirmed: u64 = self.by_sink.values().sum();
        Outcome { lost: messages.saturating_sub(confirmed), took, latencies: self.latencies }
    }
}

/// Which incarnations of the target this side has been connected with.
#[derive(Clone, Default)]
struct Incarnations(Arc<Mutex<BTreeSet<ActorUid>>>);

impl Incarnations {
    fn of(system: &ActorSystem, verbose: bool) -> Self {
        let seen = Self::default();
        let sees = seen.clone();
        system
            .event_stream()
            .subscribe(move |event: &RemotingLifecycleEvent| match event {
                RemotingLifecycleEvent::Connected { authority, uid, .. } => {
                    sees.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*uid);
                    if verbose {
                        console::remark(&format!("connected {authority}, incarnation {uid}"));
                    }
                }
                RemotingLifecycleEvent::Disconnected { authority, cause, .. } if verbose => {
                    console::remark(&format!("disconnected {authority}: {cause}"));
                }
                _ => {}
            })
            .forever();
        seen
    }

    fn restarts(&self) -> u64 {
        (self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_adds_up_what_each_incarnation_confirmed_last() {
        let mut tally = Tally::new().unwrap();
        let received = |sink, messages| Received { sink, run: 1, messages, bytes: 0, mark: 0 };
        // Reports of one sink may be read in any order.
        for (sink, messages) in [(7, 10), (7, 30), (7, 20), (9, 5), (9, 15)] {
            tally.count(&received(sink, messages));
        }
        let outcome = tally.outcome(50, Duration::from_secs(1));
        assert_eq!(outcome.lost, 5);
    }
}
