//! The main scenarios again between processes: one that is killed, stopped, asked to end, or behind a link that breaks.
//!
//! The peer is this test binary once more. What it delivers it writes to a file, a byte for a message, so that the
//! books can be compared after it was killed.

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

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::{
    Actor, ActorError, ActorRef, ActorSystem, AskError, Context, DeadLetterReason, Props, TerminationReason,
};
use nexus_remote::event::RemotingLifecycleEvent as Event;
use nexus_remote::{
    RemotingControl, RemotingControlHandle, RemotingExtension, RemotingExtensionConfig, WithRemoting,
};
use nexus_testkit::TestProbe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use child::{LIMIT, Lines, said};
use kit::{Talk, ms, parrot, s};

/// Set in the process of the peer: where it listens, what it announces, where it notes what it delivered.
const PEER: &str = "NEXUS_TEST_PROCESS";

/// An address of this host that nobody else uses, so that a port stays free while nobody listens.
fn own_host() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (process, nth) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!("127.{}.{}.{nth}", 128 + ((process >> 8) & 63), process & 255)
}

/// A file for one incarnation of a peer.
fn notes() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("delivered-{}-{nth}", std::process::id()))
}

/// Counts 0, 1, 2 .. and notes each; answers with the next number, or with the highest there is after a gap.
struct Ledger {
    next: u64,
    notes: File,
}

impl Actor for Ledger {
    type Msg = Talk;
    async fn receive(&mut self, talk: Talk, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match talk {
            Talk::Say(n) => {
                self.next = if n == self.next { n + 1 } else { u64::MAX };
                self.notes.write_all(b".").unwrap();
            }
            Talk::Echo(_, reply) => reply.send(self.next),
            other => panic!("{other:?}"),
        }
        Ok(())
    }
}

/// The process of the peer; not a test of its own.
#[test]
fn peer() {
    let Ok(parameters) = std::env::var(PEER) else { return };
    let mut parameters = parameters.split(' ');
    let mut next = || parameters.next().unwrap().to_string();
    let (bind, bind_port, host, port, notes) = (next(), next(), next(), next(), next());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        let config = RemotingExtensionConfig::default()
            .with_bind(bind, bind_port.parse().unwrap())
            .with_canonical_host(host)
            .with_canonical_port(port.parse().unwrap())
            .with_auto_start(false);
        let system = ActorSystem::builder("peer").with_remoting(config).build().unwrap();
        system.register::<Talk>().unwrap();
        for name in ["parrot", "mortal"] {
            let _actor = parrot(&system, name);
        }
        let file = notes.clone();
        let ledger = Props::from_fn(move || Ledger { next: 0, notes: File::create(&file).unwrap() });
        let _ledger = system.spawn("ledger", ledger).unwrap();
        system
            .event_stream()
            .subscribe(|event: &Event| {
                println!("\nevent {}", event.name());
                std::io::stdout().flush().unwrap();
            })
            .forever();
        system.extension::<RemotingExtension>().unwrap().handle().start().unwrap();
        println!("\nlistening {}", system.address());
        std::io::stdout().flush().unwrap();
        let stdin = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        tokio::select! {
            _ = terminate.recv() => {
                system.shutdown().await.unwrap();
                println!("\nended in order");
                std::io::stdout().flush().unwrap();
            }
            // It does not outlive its parent.
            _ = stdin => {}
        }
        std::process::exit(0);
    });
}

/// A peer in a process of its own.
struct Peer {
    child: Child,
    lines: Lines,
    address: String,
    notes: PathBuf,
    /// When it was heard to listen.
    up: Instant,
}

impl Peer {
    async fn start(host: &str, port: u16) -> Self {
        Self::behind((host, port), (host, port)).await
    }

    async fn behind(bind: (&str, u16), announced: (&str, u16)) -> Self {
        let notes = notes();
        let parameters =
            format!("{} {} {} {} {}", bind.0, bind.1, announced.0, announced.1, notes.to_str().unwrap());
        let (child, mut lines) = child::start(PEER, &parameters);
        let address = said(&mut lines, "listening ").await;
        Self { child, lines, address, notes, up: Instant::now() }
    }

    fn authority(&self) -> &str {
        self.address.rsplit('@').next().unwrap()
    }

    fn port(&self) -> u16 {
        self.address.rsplit(':').next().unwrap().parse().unwrap()
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
    }

    /// `kill -9`; how many messages it had delivered by then.
    async fn kill(mut self) -> u64 {
        self.child.kill().await.unwrap();
        self.delivered()
    }

    /// Waits until a stop has reached all of its threads. Where nothing tells, it is taken for granted.
    async fn stands_still(&self) {
        let Some(pid) = self.child.id() else { return };
        let stopped =
            |stat: String| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'));
        until(|| {
            let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
            threads.flatten().all(|it| std::fs::read_to_string(it.path().join("stat")).is_ok_and(stopped))
        })
        .await;
    }

    /// Bytes that have come to its socket and that it has not read.
    fn unread(&self) -> u64 {
        let at: std::net::SocketAddrV4 = self.authority().parse().unwrap();
        let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port());
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let waiting = |line: &str| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let (own, queues) = (fields.next()?, fields.nth(2)?);
            (own == local).then(|| u64::from_str_radix(queues.rsplit(':').next()?, 16).ok())?
        };
        sockets.lines().filter_map(waiting).max().unwrap_or(0)
    }

    fn delivered(&self) -> u64 {
        std::fs::metadata(&self.notes).unwrap().len()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.notes);
    }
}

/// The node of this process.
struct Here {
    system: ActorSystem,
    remoting: RemotingControlHandle,
    events: Arc<Mutex<Vec<(Instant, Event)>>>,
    letters: Arc<Mutex<Vec<DeadLetterEvent>>>,
}

impl Here {
    fn new() -> Self {
        Self::with(RemotingExtensionConfig::default().with_canonical_host(own_host()).with_canonical_port(0))
    }

    fn with(config: RemotingExtensionConfig) -> Self {
        let system = ActorSystem::builder("here")
            .with_ask_timeout(LIMIT)
            // Remoting has a limit of its own, which a busy machine may take longer to keep.
            .with_shutdown_timeout(2 * LIMIT)
            .with_remoting(config)
            .build()
            .unwrap();
        system.register::<Talk>().unwrap();
        let remoting = system.extension::<RemotingExtension>().unwrap().handle();
        let (events, letters) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let to = events.clone();
        let stream = system.event_stream();
        stream.subscribe(move |e: &Event| to.lock().unwrap().push((Instant::now(), e.clone()))).forever();
        let to = letters.clone();
        stream.subscribe(move |letter: &DeadLetterEvent| to.lock().unwrap().push(letter.clone())).forever();
        Self { system, remoting, events, letters }
    }

    fn far(&self, address: &str, path: &str) -> ActorRef<Talk> {
        self.system.resolve(&format!("{address}{path}")).unwrap()
    }

    /// The names of the events about `authority`, without the attempts.
    fn turns(&self, authority: &str) -> Vec<&'static str> {
        let events = self.events.lock().unwrap();
        let of =
            events.iter().map(|(_, event)| event).filter(|event| event.authority().to_string() == authority);
        of.map(Event::name).filter(|name| !matches!(*name, "association_attempt" | "gated")).collect()
    }

    fn lost(&self, reason: DeadLetterReason) -> u64 {
        self.letters.lock().unwrap().iter().filter(|letter| letter.reason() == reason).count() as u64
    }

    /// Sent, acknowledged, lost, which add up with what is in flight.
    fn accounts(&self, authority: &str) -> (u64, u64, u64, u64) {
        let it = self.remoting.statistics(authority).unwrap();
        assert_eq!(it.sent, it.acknowledged + it.lost + it.in_flight, "{it:?}");
        (it.sent, it.acknowledged, it.lost, it.in_flight)
    }

    /// The peer has been told of the one actor that is watched there, which `by` lives beside.
    async fn watches(&self, authority: &str, by: &ActorRef<Talk>) {
        until(|| self.remoting.statistics(authority).is_some_and(|it| it.watching == 1)).await;
        // The watch goes before what is said later, and so does the news that it came.
        assert_eq!(by.ask(|reply| Talk::Echo(3, reply)).timeout(LIMIT).await, Ok(3));
        assert_eq!(self.remoting.statistics(authority).unwrap().system_messages, 0);
    }

    /// Nothing is under way any more, and what was lost has been recorded: the manager does that in turns.
    async fn quiet(&self, authority: &str) {
        until(|| {
            let (_, _, lost, in_flight) = self.accounts(authority);
            in_flight == 0 && self.letters.lock().unwrap().len() as u64 >= lost
        })
        .await;
    }
}

/// Looks again each millisecond: for some of what is waited for here there is no event.
async fn until(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    let mut looks = tokio::time::interval(ms(1));
    while !condition() {
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}");
        looks.tick().await;
    }
}

/// Asks until there is an answer; how long after `since` that was.
async fn answered(to: &ActorRef<Talk>, since: Instant) -> Duration {
    loop {
        if to.ask(|reply| Talk::Echo(0, reply)).timeout(s(2)).await.is_ok() {
            return since.elapsed();
        }
        assert!(since.elapsed() < LIMIT);
        tokio::task::yield_now().await;
    }
}

/// Covers: S1, S2, S28
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_before_a_process_starts_arrives() {
    let (here, host) = (Here::new(), own_host());
    let address = format!("fraktor.tcp://peer@{host}:4000");
    let to = here.far(&address, "/user/ledger");
    for n in 0..1_000 {
        to.tell(Talk::Say(n));
    }
    // Nobody listens yet.
    until(|| here.events.lock().unwrap().iter().any(|(_, event)| event.name() == "gated")).await;
    let mut peer = Peer::start(&host, 4_000).await;
    for n in 1_000..50_000 {
        to.send(Talk::Say(n)).await.unwrap();
    }
    assert_eq!(to.ask(|reply| Talk::Echo(0, reply)).timeout(LIMIT).await, Ok(50_000), "in order, none lost");
    assert_eq!(here.turns(peer.authority()), ["connected"]);
    assert_eq!(said(&mut peer.lines, "event connected").await, "", "the peer tells it as well");
    assert!(here.letters.lock().unwrap().is_empty());
    let uid = here.events.lock().unwrap().iter().find_map(|(_, event)| event.uid());
    assert!(uid.is_some_and(|uid| !uid.is_any()));
    here.quiet(peer.authority()).await;
    assert_eq!((peer.delivered(), here.accounts(peer.authority()).1), (50_000, 50_001));
}

/// A link between processes that breaks: each connection after a number of bytes of its own.
struct Proxy {
    host: String,
    port: u16,
    cuts: Arc<AtomicU64>,
    spared: Arc<AtomicU64>,
}

impl Proxy {
    /// Passes what comes to it on to `to` and `port`, where somebody may listen later.
    async fn start(to: &str, port: u16, seed: u64) -> Self {
        let target = (to.to_string(), port);
        let host = own_host();
        let listener = TcpListener::bind((host.as_str(), 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cuts, spared) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (count, spare) = (cuts.clone(), spared.clone());
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let Ok(far) = TcpStream::connect((target.0.as_str(), target.1)).await else { continue };
                let budget = random.u64(1_000..40_000);
                let (count, spare) = (count.clone(), spare.clone());
                tokio::spawn(async move {
                    if carry(near, far, budget, &spare).await {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { host, port, cuts, spared }
    }
}

/// Carries bytes both ways until one end closes, or until `budget` of them have passed; says whether it was that.
async fn carry(mut near: TcpStream, mut far: TcpStream, mut budget: u64, spared: &AtomicU64) -> bool {
    let (mut out, mut back) = ([0; 4_096], [0; 4_096]);
    loop {
        let (read, from_near) = tokio::select! {
            read = near.read(&mut out) => (read, true),
            read = far.read(&mut back) => (read, false),
        };
        let Ok(read @ 1..) = read else { return false };
        let spare = spared.load(Ordering::Relaxed) > 0;
        let passes = if spare { read } else { read.min(usize::try_from(budget).unwrap()) };
        let written = if from_near {
            far.write_all(&out[..passes]).await
        } else {
            near.write_all(&back[..passes]).await
        };
        if written.is_err() {
            return false;
        }
        budget -= passes as u64;
        if !spare && budget == 0 {
            return true;
        }
        budget = budget.max(1);
    }
}

/// Covers: S6, S160, S163, S32, S114
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_between_processes_loses_nothing() {
    // Each announces the address of a link; whoever dials goes over one.
    let (near, far) = (own_host(), own_host());
    let (to_here, to_peer) = (Proxy::start(&near, 4_001, 6).await, Proxy::start(&far, 4_002, 7).await);
    let here = Here::with(
        RemotingExtensionConfig::default()
            .with_bind(near, 4_001)
            .with_canonical_host(&to_here.host)
            .with_canonical_port(to_here.port)
            .with_reconnect_initial_backoff(ms(5))
            .with_reconnect_max_backoff(ms(50)),
    );
    let peer = Peer::behind((&far, 4_002), (&to_peer.host, to_peer.port)).await;
    assert_eq!(peer.authority(), format!("{}:{}", to_peer.host, to_peer.port));
    let to = here.far(&peer.address, "/user/ledger");
    let cuts = || to_here.cuts.load(Ordering::Relaxed) + to_peer.cuts.load(Ordering::Relaxed);
    let mut n = 0;
    let started = Instant::now();
    while cuts() < 50 {
        for _ in 0..500 {
            to.send(Talk::Say(n)).await.unwrap();
            n += 1;
        }
        // Goes on when these have passed.
        until(|| here.accounts(peer.authority()).3 < 2_000).await;
        assert!(started.elapsed() < 2 * LIMIT, "{} cuts", cuts());
    }
    for proxy in [&to_here, &to_peer] {
        proxy.spared.store(1, Ordering::Relaxed);
    }
    assert_eq!(to.ask(|reply| Talk::Echo(0, reply)).timeout(LIMIT).await, Ok(n), "each once, in order");
    here.quiet(peer.authority()).await;
    assert_eq!(peer.delivered(), n);
    assert!(here.letters.lock().unwrap().is_empty());
    // Breaks are told one by one, and the incarnation is the same over all of them.
    let turns = here.turns(peer.authority());
    assert!(turns.len() > 20, "{turns:?}");
    let expected = ["connected", "disconnected"].into_iter().cycle().take(turns.len());
    assert!(turns.iter().copied().eq(expected), "{turns:?}");
    let uids: Vec<_> = here.events.lock().unwrap().iter().filter_map(|(_, event)| event.uid()).collect();
    assert!(uids.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Covers: S10, S11, S12, S36, S59, S161
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_and_starts_again_is_another() {
    let (here, host) = (Here::new(), own_host());
    let mut peer = Peer::start(&host, 0).await;
    let (port, address, authority) = (peer.port(), peer.address.clone(), peer.authority().to_string());
    let (by_name, asked) = (here.far(&address, "/user/ledger"), here.far(&address, "/user/parrot"));
    let watcher = TestProbe::<Talk>::spawn(&here.system, "watcher").unwrap();
    let mut fastest = Duration::MAX;
    for round in 0..3 {
        let by_reference = here.system.lookup::<Talk>(&format!("{address}/user/ledger")).await.unwrap();
        watcher.watch(&asked);
        here.watches(&authority, &asked).await;
        let kept = asked.ask(Talk::Keep).timeout(s(25));
        let before = (here.accounts(&authority), here.lost(DeadLetterReason::Unconfirmed));
        // Killed in the middle of a stream.
        let (mut told, already) = (0, peer.delivered());
        while peer.delivered() < already + 5_000 {
            for _ in 0..200 {
                by_name.tell(Talk::Say(told));
                told += 1;
            }
            tokio::task::yield_now().await;
        }
        // What its socket has taken and it has not read nobody will know of.
        peer.signal("-STOP").await;
        peer.stands_still().await;
        for _ in 0..200 {
            by_name.tell(Talk::Say(told));
            told += 1;
        }
        until(|| peer.unread() > 1_000).await;
        let delivered = peer.kill().await - already;
        by_reference.tell(Talk::Say(0));
        peer = Peer::start(&host, port).await;
        fastest = fastest.min(answered(&asked, peer.up).await);
        // The question learned of it, not of its deadline.
        assert_eq!(kept.await, Err(AskError::Unreachable), "round {round}");
        // Who was watched there is gone, whatever lives there now; once.
        let (_, reason) = watcher.terminated(LIMIT).await.unwrap();
        assert_eq!(reason, TerminationReason::Unreachable, "round {round}");
        assert!(watcher.is_empty());
        here.quiet(&authority).await;
        let (sent, acknowledged, lost, _) = here.accounts(&authority);
        assert_eq!(sent, acknowledged + lost, "round {round}: one fate each");
        // All that the new one will get of them is in its mailbox: behind that comes the answer.
        let _next = by_name.ask(|reply| Talk::Echo(0, reply)).timeout(LIMIT).await;
        let unconfirmed = here.lost(DeadLetterReason::Unconfirmed) - before.1;
        assert!(unconfirmed > 0, "round {round}: killed in the middle");
        let mut letters = here.letters.lock().unwrap().clone();
        letters.sort_by_key(|letter| letter.context().correlation_id);
        let twice = letters
            .windows(2)
            .find(|pair| pair[0].context().correlation_id == pair[1].context().correlation_id);
        assert!(twice.is_none(), "round {round}: each recorded once: {twice:#?}");
        // Acknowledged is what was in a mailbox; what was still there when its process died, no actor saw.
        let taken = acknowledged - before.0.1;
        assert!(delivered + peer.delivered() <= told, "round {round}: nothing twice");
        assert!(
            taken + unconfirmed >= told,
            "round {round}: {taken} taken, {unconfirmed} recorded of {told}"
        );
        assert!(delivered <= taken + unconfirmed, "round {round}");
        // The old reference does not mean who lives there now.
        let (nobody, at_new) = (here.lost(DeadLetterReason::NoSuchActor), peer.delivered());
        assert!(nobody > 0, "round {round}: {:?}", here.letters.lock().unwrap().last());
        by_reference.tell(Talk::Say(0));
        let _next = asked.ask(|reply| Talk::Echo(1, reply)).timeout(LIMIT).await;
        assert_eq!(peer.delivered(), at_new, "round {round}");
    }
    // A busy machine may be longer about it once or twice. What is waited for by the clock would be waited for each time.
    assert!(fastest < s(1), "usable after {fastest:?}");
}

/// Covers: S54, S56, S57, S58
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_actor_and_of_its_process_are_told_once() {
    let (here, host) = (Here::new(), own_host());
    let peer = Peer::start(&host, 0).await;
    let watcher = TestProbe::<Talk>::spawn(&here.system, "watcher").unwrap();
    let mortal = here.system.lookup::<Talk>(&format!("{}/user/mortal", peer.address)).await.unwrap();
    watcher.watch(&mortal);
    watcher.watch(&here.far(&peer.address, "/user/never"));
    let (who, reason) = watcher.terminated(LIMIT).await.unwrap();
    assert_eq!((who.elements(), reason), ("/user/never", TerminationReason::NeverExisted));
    mortal.tell(Talk::Stop);
    let (who, reason) = watcher.terminated(LIMIT).await.unwrap();
    assert!(
        who == mortal.path() && reason == TerminationReason::Stopped && reason.existed(),
        "{who} {reason}"
    );
    // Its process is killed: no beat, and its port refuses.
    let authority = peer.authority().to_string();
    let parrot = here.far(&peer.address, "/user/parrot");
    watcher.watch(&parrot);
    here.watches(&authority, &parrot).await;
    let killed = Instant::now();
    let _delivered = peer.kill().await;
    let (_, reason) = watcher.terminated(LIMIT).await.unwrap();
    assert_eq!(reason, TerminationReason::Unreachable);
    assert!(killed.elapsed() >= ms(2_900), "{:?}", killed.elapsed());
    let facts = here.events.lock().unwrap().iter().find_map(|(_, event)| match event {
        Event::Quarantined { facts, .. } => Some(facts.clone()),
        _ => None,
    });
    let expected = "the connection closed and every dial for 3s was refused";
    assert_eq!(facts.as_deref(), Some(expected), "and not the detector's twelve seconds");
    assert!(watcher.is_empty());
    assert_eq!(here.turns(&authority), ["connected", "disconnected", "quarantined"]);
}

/// Covers: S108, S113, S71, S36
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_asked_to_end_delivers_says_goodbye_and_ends() {
    let (here, host) = (Here::new(), own_host());
    let mut peer = Peer::start(&host, 0).await;
    let authority = peer.authority().to_string();
    let counted = TestProbe::<Talk>::spawn(&here.system, "counted").unwrap();
    let watcher = TestProbe::<Talk>::spawn(&here.system, "watcher").unwrap();
    let parrot = here.far(&peer.address, "/user/parrot");
    watcher.watch(&parrot);
    here.watches(&authority, &parrot).await;
    let kept = parrot.ask(Talk::Keep).timeout(s(25));
    // It is told to end while it has much to say.
    here.far(&peer.address, "/user/mortal").tell(Talk::CountAndStop(counted.actor().clone(), 30_000));
    assert!(matches!(counted.message(LIMIT).await, Ok(Talk::Say(0))));
    peer.signal("-TERM").await;
    // It was in the actor's hands, or still in its mailbox, or its node was gone first.
    let kept = kept.await;
    let expected = [AskError::NoReply, AskError::Stopped, AskError::Shutdown, AskError::Unreachable];
    assert!(kept.as_ref().is_err_and(|error| expected.contains(error)), "{kept:?}");
    let (_, reason) = watcher.terminated(LIMIT).await.unwrap();
    assert!(matches!(reason, TerminationReason::Stopped | TerminationReason::Left), "{reason}");
    assert_eq!(said(&mut peer.lines, "ended in order").await, "");
    assert_eq!(peer.child.wait().await.unwrap().code(), Some(0));
    until(|| here.turns(&authority).contains(&"disconnected")).await;
    assert_eq!(here.turns(&authority), ["connected", "left", "disconnected"], "not a failure");
    // What it had accepted before came, without a gap.
    let came = counted.take_messages();
    assert!(came.iter().zip(1..).all(|(talk, n)| matches!(talk, Talk::Say(said) if *said == n)));
    assert!(watcher.is_empty());
    // And the other way round: this node's end, as the peer sees it.
    let mut peer = Peer::start(&host, 0).await;
    let to = here.far(&peer.address, "/user/ledger");
    // A healthy peer: the three seconds of the flush are not for finding it.
    assert_eq!(to.ask(|reply| Talk::Echo(0, reply)).timeout(LIMIT).await, Ok(0));
    for n in 0..20_000 {
        to.tell(Talk::Say(n));
    }
    tokio::time::timeout(LIMIT, here.system.shutdown()).await.unwrap().unwrap();
    said(&mut peer.lines, "event left").await;
    // Everything accepted before the call is in the mailbox there; its actor works it off.
    until(|| peer.delivered() == 20_000).await;
    assert!(
        here.letters.lock().unwrap().iter().all(|letter| letter.reason() != DeadLetterReason::Unconfirmed)
    );
}

/// Covers: S109
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stands_still_does_not_hold_up_the_end() {
    let (here, host) = (Here::new(), own_host());
    let peer = Peer::start(&host, 0).await;
    let authority = peer.authority().to_string();
    let to = here.far(&peer.address, "/user/ledger");
    assert_eq!(to.ask(|reply| Talk::Echo(0, reply)).timeout(LIMIT).await, Ok(0));
    here.quiet(&authority).await;
    peer.signal("-STOP").await;
    peer.stands_still().await;
    for n in 0..50_000 {
        to.tell(Talk::Say(n));
    }
    let (_, acknowledged, _, in_flight) = here.accounts(&authority);
    assert_eq!((acknowledged, in_flight), (1, 50_000));
    // Three seconds to flush and ten in all: how long exactly is seen on virtual time.
    tokio::time::timeout(LIMIT, here.system.shutdown()).await.unwrap().unwrap();
    // What its socket had taken nobody knows of; everything else ends with the shutdown.
    let recorded = here.lost(DeadLetterReason::Shutdown) + here.lost(DeadLetterReason::Unconfirmed);
    assert_eq!(recorded, 50_000, "{:?}", here.system.dead_letters());
    assert_eq!(here.remoting.tasks(), 0);
    peer.signal("-CONT").await;
}
