//! `nexus-cli ping`: round trips to an actor.

use anyhow::{anyhow, ensure};
use nexus_actor::prelude::*;
use serde::Serialize;
use tokio::time::Instant;

use crate::actors::{Ball, Echo};
use crate::args::PingOptions;
use crate::commands::node::Ending;
use crate::console;
use crate::measure::{Latencies, Micros, or_dash};
use crate::target::explain;

#[derive(Serialize)]
struct Summary {
    target: String,
    payload_bytes: usize,
    n: u64,
    lost: u64,
    p50_us: Option<Micros>,
    p99_us: Option<Micros>,
    max_us: Option<Micros>,
}

pub(crate) async fn run(options: PingOptions) -> anyhow::Result<()> {
    let mut ending = Ending::new()?;
    let path = options.url.path("/user/echo")?;
    let system = options.own.start(options.url.wire(), options.timeout).await?;
    let result = tokio::select! {
        result = round_trips(&system, &path, &options) => result,
        () = ending.wait() => Err(anyhow!("interrupted")),
    };
    let ended = system.shutdown().await;
    result?;
    Ok(ended?)
}

async fn round_trips(
    system: &ActorSystem,
    path: &nexus_actor::path::ActorPath,
    options: &PingOptions,
) -> anyhow::Result<()> {
    let echo: ActorRef<Echo> = system.resolve_path(path)?;
    let ball = Ball::pattern(options.url.wire(), options.payload);
    let mut latencies = Latencies::new()?;
    let (mut lost, mut last) = (0, None);
    for number in 1..=options.count {
        if number > 1 {
            tokio::time::sleep(options.interval).await;
        }
        let start = Instant::now();
        let answer = ball.round_trip(&echo, options.timeout).await;
        let latency = start.elapsed();
        match answer {
            Ok(same) => {
                ensure!(same, "{path} answered with other bytes than were sent");
                latencies.record(latency);
                if !options.json {
                    console::line(format_args!(
                        "{} bytes from {path}: {number}/{} {}",
                        options.payload,
                        options.count,
                        Micros(latency.as_secs_f64() * 1e6),
                    ))?;
                }
            }
            Err(error) => {
                lost += 1;
                console::remark(&format!("{number}/{}: {}", options.count, explain(path, &error)));
                last = Some(error);
            }
        }
    }
    let summary = Summary {
        target: path.to_string(),
        payload_bytes: options.payload,
        n: options.count,
        lost,
        p50_us: latencies.quantile(0.5),
        p99_us: latencies.quantile(0.99),
        max_us: latencies.max(),
    };
    if options.json {
        console::line(serde_json::to_string(&summary)?)?;
    } else {
        console::line(format_args!(
            "{} sent, {} answered, {lost} lost; p50 {}, max {}",
            options.count,
            latencies.count(),
            or_dash(summary.p50_us),
            or_dash(summary.max_us),
        ))?;
    }
    match last {
        Some(error) => Err(anyhow!("{lost} of {} not answered; the last: {error}", options.count)),
        None => Ok(()),
    }
}
