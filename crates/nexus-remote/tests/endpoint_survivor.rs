//! A node whose peer is killed without warning, again and again, under load.
//!
//! The peer is this test binary once more, in a process of its own. `NEXUS_KILL_ROUNDS` says how often it dies.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test has an operating system, and ends where it is surprised"
)]

mod child;
#[path = "endpoint/kit.rs"]
#[allow(dead_code, reason = "shared with the tests on virtual time")]
mod kit;

const OVER_TCP: bool = true;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nexus_actor_core::{ActorRef, ActorSystem};
use nexus_remote::{
    RemotingControl, RemotingControlHandle, RemotingExtension, RemotingExtensionConfig, WithRemoting,
};
use nexus_testkit::TestProbe;
use tokio::process::Child;
use tokio::sync::Notify;

use child::{LIMIT, Lines, said};
use kit::{Talk, parrot, s};

/// Set in the process of the peer: where it listens, and where the survivor does.
const PEER: &str = "NEXUS_TEST_PEER";

fn node(name: &str, port: u16) -> (ActorSystem, RemotingControlHandle) {
    let config = RemotingExtensionConfig::default()
        .with_canonical_port(port)
        // So that what waits while nobody listens does not hide a leak.
        .with_queue_messages_max(2_000);
    let system = ActorSystem::builder(name).with_remoting(config).build().unwrap();
    system.register::<Talk>().unwrap();
    let remoting = system.extension::<RemotingExtension>().unwrap().handle();
    (system, remoting)
}

/// What loads a peer: messages in a stream, questions one after the other, a watch.
struct Load {
    over: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    news: Arc<Notify>,
}

impl Load {
    fn begin(system: &ActorSystem, peer: &str) -> Self {
        let (over, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let news = Arc::new(Notify::new());
        let sink: ActorRef<Talk> = system.resolve(&format!("{peer}/user/sink")).unwrap();
        let asked: ActorRef<Talk> = system.resolve(&format!("{peer}/user/parrot")).unwrap();
        for sender in 0..2u64 {
            let (over, sink) = (over.clone(), sink.clone());
            system.spawn_task(async move {
                let mut n = sender;
                while !over.load(Ordering::Relaxed) {
                    // A full lane makes it wait; what a dead incarnation took is recorded.
                    let _ = sink.send(Talk::Say(n)).await;
                    n += 2;
                    if n % 64 < 2 {
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        {
            let (over, answers, news) = (over.clone(), answers.clone(), news.clone());
            system.spawn_task(async move {
                while !over.load(Ordering::Relaxed) {
                    let ask = asked.ask(|reply| Talk::Echo(1, reply)).timeout(s(2));
                    if ask.await.is_ok() {
                        answers.fetch_add(1, Ordering::Relaxed);
                        news.notify_one();
                    } else {
                        // Most often the lane is full: it goes on when there is room.
                        let _ = sink.send(Talk::Say(0)).await;
                    }
                }
            });
        }
        Self { over, answers, news }
    }

    async fn answers(&self, remoting: &RemotingControlHandle, more: u64) -> Duration {
        let (started, target) = (Instant::now(), self.answers.load(Ordering::Relaxed) + more);
        while self.answers.load(Ordering::Relaxed) < target {
            let news = tokio::time::timeout(LIMIT, self.news.notified()).await;
            assert!(news.is_ok(), "no answer for {LIMIT:?}: {:?}", remoting.connections_snapshot());
        }
        started.elapsed()
    }
}

/// The process of the peer; not a test of its own.
#[test]
fn peer() {
    let Ok(parameters) = std::env::var(PEER) else { return };
    let (port, survivor) = parameters.split_once(' ').unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let (system, _) = node("peer", port.parse().unwrap());
    parrot(&system, "parrot");
    let _sink = parrot(&system, "sink");
    let watcher = TestProbe::<Talk>::spawn(&system, "watcher").unwrap();
    let target: ActorRef<Talk> = system.resolve(&format!("{survivor}/user/parrot")).unwrap();
    watcher.watch(&target);
    let _load = Load::begin(&system, survivor);
    println!("\nlistening {}", system.address());
    std::io::stdout().flush().unwrap();
    // Ends with the survivor, if not before.
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}

fn start(port: u16, survivor: &str) -> (Child, Lines) {
    child::start(PEER, &format!("{port} {survivor}"))
}

async fn kill(mut child: Child) {
    // SIGKILL.
    child.kill().await.unwrap();
}

#[derive(Debug)]
struct Level {
    descriptors: usize,
    resident_kb: u64,
    tasks: usize,
    associations: usize,
    processes: usize,
    watched: u64,
    asks: u64,
}

async fn level(system: &ActorSystem, remoting: &RemotingControlHandle, peer: &str) -> Level {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let statistics = remoting.statistics(peer.rsplit('@').next().unwrap()).unwrap();
    Level {
        descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        resident_kb: resident.split_whitespace().next().unwrap().parse().unwrap(),
        tasks: remoting.tasks(),
        associations: remoting.associations(),
        processes: system.processes().count(),
        watched: statistics.watched,
        asks: statistics.asks,
    }
}

/// Waits until the peer has taken the watch.
async fn watched(remoting: &RemotingControlHandle, peer: &str) {
    let authority = peer.rsplit('@').next().unwrap();
    let started = Instant::now();
    loop {
        let statistics = remoting.statistics(authority).unwrap();
        if statistics.watching == 1 && statistics.system_messages == 0 {
            return;
        }
        assert!(started.elapsed() < LIMIT, "{statistics:?}");
        tokio::task::yield_now().await;
    }
}

/// Brings the node to rest with a living peer: no load, nothing in flight.
async fn rest(system: &ActorSystem, remoting: &RemotingControlHandle, peer: &str) -> Level {
    let authority = peer.rsplit('@').next().unwrap();
    let started = Instant::now();
    loop {
        let statistics = remoting.statistics(authority).unwrap();
        let quiet = statistics.in_flight == 0
            && statistics.asks == 0
            && statistics.system_messages == 0
            && statistics.watched == 1
            && statistics.watching == 1
            && remoting.tasks() == 2;
        if quiet {
            return level(system, remoting, peer).await;
        }
        assert!(started.elapsed() < LIMIT, "no rest: {statistics:?}, {} tasks", remoting.tasks());
        tokio::task::yield_now().await;
    }
}

/// Covers: S10, S13, S15, S63, S161
#[test]
fn a_peer_killed_at_any_moment_leaves_its_survivor_as_it_was() {
    let rounds: u32 = std::env::var("NEXUS_KILL_ROUNDS").map_or(15, |rounds| rounds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let (system, remoting) = node("survivor", 0);
        parrot(&system, "parrot");
        let _sink = parrot(&system, "sink");
        let own = system.address().to_string();
        let (child, mut lines) = start(0, &own);
        let mut peer = Some(child);
        let address = said(&mut lines, "listening ").await;
        let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
        let watcher = TestProbe::<Talk>::spawn(&system, "watcher").unwrap();
        let target: ActorRef<Talk> = system.resolve(&format!("{address}/user/parrot")).unwrap();
        let mut random = fastrand::Rng::with_seed(u64::from(rounds));
        let (mut before, mut slowest) = (None, Duration::ZERO);
        let mut usable = Vec::new();
        // Some rounds warm up: pools, buffers, arenas.
        let warm = 5;
        let mut done = 0;
        while done < rounds + warm {
            if done == warm {
                watcher.watch(&target);
                before = Some(rest(&system, &remoting, &address).await);
                watcher.unwatch(&target);
            }
            let load = Load::begin(&system, &address);
            let answers = match random.u32(0..4) {
                // Before or in the handshake, when it may well be the next incarnation that learns of a watch.
                0 => 0,
                1 => random.u64(1..10),
                _ => random.u64(10..60),
            };
            if answers > 0 {
                watcher.watch(&target);
                load.answers(&remoting, answers).await;
                watched(&remoting, &address).await;
            }
            kill(peer.take().unwrap()).await;
            drop(lines);
            let verdict = answers > 0 && random.u32(0..20) == 0;
            if verdict {
                // Its port refuses until its death is certain.
                watcher.terminated(LIMIT).await.unwrap();
            }
            let (child, l) = start(port, &own);
            lines = l;
            if random.u32(0..8) == 0 {
                // Killed before it listens.
                kill(child).await;
                let (child, l) = start(port, &own);
                lines = l;
                peer = Some(child);
            } else {
                peer = Some(child);
            }
            said(&mut lines, "listening ").await;
            let took = load.answers(&remoting, 1).await;
            slowest = slowest.max(took);
            usable.push(took);
            load.over.store(true, Ordering::Relaxed);
            if answers > 0 && !verdict {
                watcher.terminated(LIMIT).await.unwrap();
            }
            assert!(watcher.is_empty(), "told once");
            done += 1;
            if done % 100 == 0 {
                println!("{done} rounds: {:?}", level(&system, &remoting, &address).await);
            }
        }
        watcher.watch(&target);
        let after = rest(&system, &remoting, &address).await;
        let before = before.unwrap();
        usable.sort_unstable();
        println!(
            "{rounds} kills; usable again after p50 {:?}, max {slowest:?}\nbefore {before:?}\nafter  {after:?}",
            usable[usable.len() / 2]
        );
        assert_eq!(after.descriptors, before.descriptors);
        assert_eq!(after.tasks, before.tasks);
        assert_eq!((after.associations, before.associations), (1, 1));
        assert_eq!(after.processes, before.processes);
        assert_eq!((after.watched, after.asks), (before.watched, before.asks));
        // Allocators keep some of what was used; a leak of one buffer a round would be far more.
        let allowed = 24 * 1024;
        assert!(after.resident_kb <= before.resident_kb + allowed, "{} kB more", after.resident_kb - before.resident_kb);
        // A busy machine may be longer about it now and then. What is waited for by the clock would be waited for each time.
        assert!(usable[usable.len() / 2] < s(10), "{usable:?}");
        kill(peer.unwrap()).await;
        system.shutdown().await.unwrap();
        assert_eq!(remoting.tasks(), 0);
    });
}
