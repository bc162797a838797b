//! Workloads inside one system.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::time::Instant;

use nexus_actor::prelude::*;
use tokio::sync::{Notify, oneshot};

use super::SLICE;

/// A message of 24 bytes, as is the floors' (`floor::Load`).
pub(crate) enum Load {
    Hit(u64),
    Get(Reply<u64>),
    Arm(u64, oneshot::Sender<()>),
}

/// Counts down and says when it is done.
#[derive(Default)]
pub(crate) struct Sink {
    left: u64,
    done: Option<oneshot::Sender<()>>,
}

impl Actor for Sink {
    type Msg = Load;

    async fn receive(&mut self, load: Load, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match load {
            Load::Hit(_) => {
                self.left -= 1;
                if self.left == 0
                    && let Some(done) = self.done.take()
                {
                    let _ = done.send(());
                }
            }
            Load::Get(reply) => reply.send(self.left),
            Load::Arm(left, done) => {
                self.left = left;
                self.done = Some(done);
            }
        }
        Ok(())
    }
}

/// `senders` tasks tell one actor `n` messages in all.
pub(crate) async fn tell(system: ActorSystem, senders: u64, n: u64) -> Duration {
    let sink = system.spawn_anonymous(Props::from_fn(Sink::default)).expect("spawns");
    let each = n.div_ceil(senders);
    let (done, finished) = oneshot::channel();
    sink.tell(Load::Arm(each * senders, done));
    let start = Instant::now();
    for _ in 0..senders {
        let sink = sink.clone();
        tokio::spawn(async move {
            for i in 0..each {
                sink.tell(Load::Hit(i));
                if i % SLICE == SLICE - 1 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    finished.await.expect("the sink counts to the end");
    let took = start.elapsed();
    sink.stop();
    took
}

/// One caller asks `n` times, one question at a time, each with the default deadline.
pub(crate) async fn ask(system: ActorSystem, n: u64) -> Duration {
    let sink = system.spawn_anonymous(Props::from_fn(Sink::default)).expect("spawns");
    let start = Instant::now();
    for _ in 0..n {
        sink.ask(Load::Get).await.expect("answers");
    }
    let took = start.elapsed();
    sink.stop();
    took
}

enum Play {
    Meet(ActorRef<Play>),
    Ball(u64, Option<oneshot::Sender<()>>),
}

#[derive(Default)]
struct Player {
    peer: Option<ActorRef<Play>>,
}

impl Actor for Player {
    type Msg = Play;

    async fn receive(&mut self, play: Play, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match play {
            Play::Meet(peer) => self.peer = Some(peer),
            Play::Ball(0, done) => {
                self.peer = None;
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
            Play::Ball(left, done) => {
                if let Some(peer) = &self.peer {
                    peer.tell(Play::Ball(left - 1, done));
                }
            }
        }
        Ok(())
    }
}

/// Two actors pass one ball `n` times.
pub(crate) async fn ping_pong(system: ActorSystem, n: u64) -> Duration {
    let a = system.spawn_anonymous(Props::from_fn(Player::default)).expect("spawns");
    let b = system.spawn_anonymous(Props::from_fn(Player::default)).expect("spawns");
    a.tell(Play::Meet(b.clone()));
    b.tell(Play::Meet(a.clone()));
    let (done, finished) = oneshot::channel();
    let start = Instant::now();
    a.tell(Play::Ball(n, Some(done)));
    finished.await.expect("the ball arrives");
    let took = start.elapsed();
    a.stop();
    b.stop();
    took
}

/// How many lives have ended, of actors and of floor tasks. A static, so that neither captures anything.
static ENDED: AtomicU64 = AtomicU64::new(0);
static TARGET: AtomicU64 = AtomicU64::new(0);
static ALL_ENDED: Notify = Notify::const_new();

/// Lives under way at once in the spawn workloads.
pub(crate) const WINDOW: u64 = 64;

/// Called at the end of each life.
pub(crate) fn ended() {
    if ENDED.fetch_add(1, Ordering::AcqRel) + 1 == TARGET.load(Ordering::Acquire) {
        ALL_ENDED.notify_one();
    }
}

/// Begins `n` lives with `begin`, a window at a time, and waits for each window to end.
pub(crate) async fn lives(n: u64, mut begin: impl FnMut(u64)) -> Duration {
    let start = Instant::now();
    for window in 0..n.div_ceil(WINDOW) {
        TARGET.store(ENDED.load(Ordering::Acquire) + WINDOW, Ordering::Release);
        for i in 0..WINDOW {
            begin(window * WINDOW + i);
        }
        ALL_ENDED.notified().await;
    }
    start.elapsed()
}

/// Handles one message and, if `LAST`, stops with it.
struct Once<const LAST: bool>;

impl<const LAST: bool> Actor for Once<LAST> {
    type Msg = Load;

    async fn receive(&mut self, load: Load, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        core::hint::black_box(&load);
        if LAST {
            cx.stop();
        }
        Ok(())
    }
}

impl<const LAST: bool> Drop for Once<LAST> {
    fn drop(&mut self) {
        ended();
    }
}

/// Spawns, tells one message that is handled, after which the actor has stopped.
pub(crate) async fn spawn(system: ActorSystem, n: u64) -> Duration {
    let took = lives(n, |i| {
        let actor = system.spawn_anonymous(Props::from_fn(|| Once::<true>)).expect("spawns");
        actor.tell(Load::Hit(i));
    })
    .await;
    settle(&system).await;
    took
}

/// Spawns, tells one message and stops by the reference, which overtakes the message unless it was handled already.
pub(crate) async fn spawn_stop(system: ActorSystem, n: u64) -> Duration {
    let took = lives(n, |i| {
        let actor = system.spawn_anonymous(Props::from_fn(|| Once::<false>)).expect("spawns");
        actor.tell(Load::Hit(i));
        actor.stop();
    })
    .await;
    settle(&system).await;
    took
}

/// Waits until the last actors have left the registry too.
async fn settle(system: &ActorSystem) {
    while system.processes().count() > 8 {
        tokio::task::yield_now().await;
    }
}
