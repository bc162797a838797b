//! What plain tokio TCP does between two processes: the floor beside `bench remote`.
//!
//! The best plain programs we can write for the same jobs. Throughput: senders write 16-byte frames into one shared
//! buffer, bounded as our lanes are, that the writer swaps out. Round trip: one 16-byte message there and back.

use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::child::OwnChild;
use crate::console;
use crate::measure::{Latencies, Micros};

const FRAME: usize = 16;
/// As the bound of a lane.
const BUFFER_MAX: usize = 64 * 1024 * 1024;
const TRIPS: u32 = 20_000;
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection is for, as its first byte says.
const SWALLOW: u8 = 1;
const ECHO: u8 = 2;

pub(crate) struct Floor {
    pub(crate) msgs_per_s: f64,
    pub(crate) round_trip_p50: Micros,
}

/// Measures both floors against a process of its own.
pub(crate) async fn measure(messages: u64, senders: usize) -> anyhow::Result<Floor> {
    let peer = OwnChild::start(&["floor-peer"]).await?;
    let address = peer.line().to_string();
    let msgs_per_s = throughput(&address, messages, senders).await.context("the floor of throughput")?;
    let round_trip_p50 = round_trip(&address).await.context("the floor of the round trip")?;
    peer.end(END_TIMEOUT).await?;
    Ok(Floor { msgs_per_s, round_trip_p50 })
}

async fn dial(address: &str, purpose: u8) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[purpose]).await?;
    Ok(stream)
}

/// What the senders write into and the writer swaps out.
#[derive(Default)]
struct Swap {
    buffer: Mutex<Vec<u8>>,
    filled: Notify,
    emptied: Notify,
}

impl Swap {
    async fn send(&self, count: u64) {
        let mut sent = 0;
        while sent < count {
            let emptied = self.emptied.notified();
            let was_empty = {
                let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
                if buffer.len() + FRAME > BUFFER_MAX {
                    None
                } else {
                    let was_empty = buffer.is_empty();
                    buffer.extend_from_slice(&frame(sent));
                    sent += 1;
                    Some(was_empty)
                }
            };
            match was_empty {
                Some(true) => self.filled.notify_one(),
                Some(false) => {}
                None => emptied.await,
            }
        }
    }

    fn swap(&self, other: &mut Vec<u8>) {
        core::mem::swap(&mut *self.buffer.lock().unwrap_or_else(PoisonError::into_inner), other);
    }
}

/// A length, a kind and a number.
fn frame(number: u64) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..4].copy_from_slice(&(FRAME as u32 - 4).to_le_bytes());
    frame[8..].copy_from_slice(&number.to_le_bytes());
    frame
}

async fn throughput(address: &str, messages: u64, senders: usize) -> anyhow::Result<f64> {
    let stream = dial(address, SWALLOW).await?;
    let (mut reader, mut writer) = stream.into_split();
    let swap = Arc::new(Swap::default());
    let start = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..senders as u64 {
        let share = messages / senders as u64 + u64::from(number < messages % senders as u64);
        let swap = swap.clone();
        tasks.push(tokio::spawn(async move { swap.send(share).await }));
    }
    let writing = {
        let swap = swap.clone();
        tokio::spawn(async move {
            let (mut left, mut out) = (messages * FRAME as u64, Vec::new());
            while left > 0 {
                swap.swap(&mut out);
                if out.is_empty() {
                    swap.filled.notified().await;
                    continue;
                }
                swap.emptied.notify_waiters();
                writer.write_all(&out).await?;
                left -= out.len() as u64;
                out.clear();
            }
            writer.shutdown().await
        })
    };
    for task in tasks {
        task.await?;
    }
    writing.await??;
    // The other side confirms how many frames it has seen.
    let confirmed = reader.read_u64_le().await?;
    let took = start.elapsed();
    ensure!(confirmed == messages, "{confirmed} frames arrived of {messages}");
    Ok(messages as f64 / took.as_secs_f64())
}

async fn round_trip(address: &str) -> anyhow::Result<Micros> {
    let mut stream = dial(address, ECHO).await?;
    // As a task of the runtime, like everything that it is compared with.
    let latencies = tokio::spawn(async move {
        let mut latencies = Latencies::new()?;
        let mut buffer = [0; FRAME];
        for number in 0..TRIPS {
            let start = Instant::now();
            stream.write_all(&frame(u64::from(number))).await?;
            stream.read_exact(&mut buffer).await?;
            latencies.record(start.elapsed());
        }
        anyhow::Ok(latencies)
    })
    .await??;
    latencies.quantile(0.5).ok_or_else(|| anyhow!("no round trip was made"))
}

/// The other process: prints where it listens and serves until its standard input ends.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    console::line(listener.local_addr()?)?;
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    let mut byte = [0];
    let mut stdin = tokio::io::stdin();
    while let Ok(1..) = stdin.read(&mut byte).await {}
    accepting.abort();
    Ok(())
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    if stream.read_u8().await? == ECHO {
        let mut buffer = [0; FRAME];
        loop {
            stream.read_exact(&mut buffer).await?;
            stream.write_all(&buffer).await?;
        }
    }
    // Every frame is looked at, as any receiver must: its length leads to the next.
    let (mut buffer, mut filled, mut frames) = (vec![0; 256 * 1024], 0, 0_u64);
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            break;
        }
        filled += read;
        let mut at = 0;
        while let Some(length) = buffer[at..filled].first_chunk::<4>() {
            let end = at + 4 + u32::from_le_bytes(*length) as usize;
            if end > filled {
                break;
            }
            frames += 1;
            at = end;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
    stream.write_u64_le(frames).await
}
