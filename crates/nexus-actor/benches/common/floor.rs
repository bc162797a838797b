//! The floors: the best plain tokio programs for the same work.

use core::future::poll_fn;
use core::task::{Poll, Waker};
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use nexus_actor_core::lock::Lock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::SLICE;
use super::local::{ended, lives};

/// As large as `local::Load`.
pub(crate) enum Load {
    Hit(u64),
    Pad([u64; 2]),
}

/// `senders` tasks, one unbounded channel, one receiving task.
pub(crate) async fn tell(senders: u64, n: u64) -> Duration {
    let each = n.div_ceil(senders);
    let (to, mut from) = mpsc::unbounded_channel::<Load>();
    let start = Instant::now();
    let sink = tokio::spawn(async move {
        let mut left = each * senders;
        while let Some(load) = from.recv().await {
            if let Load::Hit(_) = load {
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
    });
    for _ in 0..senders {
        let to = to.clone();
        tokio::spawn(async move {
            for i in 0..each {
                let _ = to.send(Load::Hit(i));
                if i % SLICE == SLICE - 1 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    sink.await.expect("the sink counts to the end");
    start.elapsed()
}

/// A channel of oneshot senders.
pub(crate) async fn ask(n: u64) -> Duration {
    let (to, mut from) = mpsc::unbounded_channel::<oneshot::Sender<u64>>();
    tokio::spawn(async move {
        while let Some(reply) = from.recv().await {
            let _ = reply.send(1);
        }
    });
    let start = Instant::now();
    for _ in 0..n {
        let (reply, answer) = oneshot::channel();
        let _ = to.send(reply);
        answer.await.expect("answers");
    }
    start.elapsed()
}

/// Two tasks with a channel each.
pub(crate) async fn ping_pong(n: u64) -> Duration {
    let (to_a, mut at_a) = mpsc::unbounded_channel::<u64>();
    let (to_b, mut at_b) = mpsc::unbounded_channel::<u64>();
    let (done, finished) = oneshot::channel();
    let back = to_a.clone();
    tokio::spawn(async move {
        while let Some(left) = at_b.recv().await {
            // An even number of passes ends at A.
            let _ = back.send(left - 1);
        }
    });
    tokio::spawn(async move {
        while let Some(left) = at_a.recv().await {
            if left == 0 {
                break;
            }
            let _ = to_b.send(left - 1);
        }
        let _ = done.send(());
    });
    let start = Instant::now();
    let _ = to_a.send(n & !1);
    finished.await.expect("the ball arrives");
    start.elapsed()
}

/// A task with an unbounded channel: one message, handled, and the sender dropped; the task ends.
pub(crate) async fn spawn(n: u64) -> Duration {
    lives(n, |i| {
        let (to, mut from) = mpsc::unbounded_channel::<Load>();
        tokio::spawn(async move {
            while let Some(load) = from.recv().await {
                core::hint::black_box(&load);
            }
            drop(from);
            ended();
        });
        let _ = to.send(Load::Hit(i));
    })
    .await
}

/// Bytes of a frame of the raw programs.
pub(crate) const FRAME: usize = 16;

/// Bytes in the shared buffer above which senders let the writer catch up: 64 KiB to 1 MiB are alike, less and more is slower.
pub(crate) const BEST: usize = 256 * 1024;

/// The same, as much as our lanes hold by default.
pub(crate) const AS_OURS: usize = 64 * 1024 * 1024;

/// One buffer that senders append to and the writer swaps out.
#[derive(Default)]
pub(crate) struct Swap(Lock<Buffer>);

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    writer: Option<Waker>,
}

impl Swap {
    /// Appends a frame; returns the bytes that now wait.
    #[inline]
    pub(crate) fn push(&self, frame: &[u8; FRAME]) -> usize {
        let (waiting, writer) = {
            let mut buffer = self.0.lock();
            buffer.bytes.extend_from_slice(frame);
            (buffer.bytes.len(), buffer.writer.take())
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        waiting
    }

    fn waiting(&self) -> usize {
        self.0.lock().bytes.len()
    }

    /// Waits for frames and exchanges them for `out`, which is emptied.
    pub(crate) async fn take(&self, out: &mut Vec<u8>) {
        out.clear();
        poll_fn(|cx| {
            let mut buffer = self.0.lock();
            if buffer.bytes.is_empty() {
                buffer.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            core::mem::swap(&mut buffer.bytes, out);
            Poll::Ready(())
        })
        .await;
    }
}

/// The swap floor: `senders` tasks append frames, one task swaps and writes, the other process counts them. Senders
/// wait while more than `bound` bytes are in the buffer.
pub(crate) async fn swap_tell(port: u16, bound: usize, senders: u64, n: u64) -> io::Result<Duration> {
    let each = n.div_ceil(senders);
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.into_split();
    let swap = Arc::new(Swap::default());
    let start = Instant::now();
    let mut head = [0; FRAME];
    head[..8].copy_from_slice(&(each * senders).to_le_bytes());
    swap.push(&head);
    let writer = {
        let swap = swap.clone();
        tokio::spawn(async move {
            let mut out = Vec::new();
            loop {
                swap.take(&mut out).await;
                if write.write_all(&out).await.is_err() {
                    break;
                }
            }
        })
    };
    for _ in 0..senders {
        let swap = swap.clone();
        tokio::spawn(async move {
            let mut frame = [7; FRAME];
            for i in 0..each {
                frame[..8].copy_from_slice(&i.to_le_bytes());
                if swap.push(&frame) > bound {
                    while swap.waiting() > bound / 2 {
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
    }
    read.read_u64().await?;
    let took = start.elapsed();
    writer.abort();
    Ok(took)
}

/// The other end of [`swap_tell`].
pub(crate) async fn serve_swap(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut head = [0; FRAME];
    stream.read_exact(&mut head).await?;
    let mut left = word(&head);
    let (mut filled, mut sum) = (0, 0_u64);
    while left > 0 {
        let count = stream.read(&mut buffer[filled..]).await?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let whole = filled - filled % FRAME;
        for frame in buffer[..whole].chunks_exact(FRAME) {
            sum = core::hint::black_box(sum.wrapping_add(word(frame)));
            left -= 1;
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
    stream.write_u64(sum).await?;
    stream.read_u8().await?;
    Ok(())
}

fn word(frame: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&frame[..8]);
    u64::from_le_bytes(bytes)
}

/// The round trips of `n` frames, one at a time.
pub(crate) async fn round_trips(port: u16, n: u64) -> io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut frame = [7; FRAME];
    let mut took = Vec::with_capacity(n as usize);
    for _ in 0..n {
        let start = Instant::now();
        stream.write_all(&frame).await?;
        stream.read_exact(&mut frame).await?;
        took.push(start.elapsed());
    }
    Ok(took)
}

/// The other end of [`round_trips`].
pub(crate) async fn serve_echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut frame = [0; FRAME];
    loop {
        stream.read_exact(&mut frame).await?;
        stream.write_all(&frame).await?;
    }
}
