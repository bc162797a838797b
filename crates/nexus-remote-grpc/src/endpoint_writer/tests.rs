//! The driver, and the end of the node, on virtual time: what they wait for ends at the instant that the settings name.
//!
//! Connections are made in memory. On a paused clock time stands while anything can run, and then moves to the next timer, so
//! an instant is exact and a test takes no time.

mod one_way;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt;
use nexus_actor_core::coordinated_shutdown::ShutdownPhase;
use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::runtime::{BoxFuture, Runtime, TokioRuntime};
use nexus_actor_core::{Actor, ActorError, ActorSystem, AskError, DeadLetterReason, Props};
use nexus_remote::association::Patience;
use nexus_remote::{
    BackpressureLevel, EndpointReconnectEvent, EndpointTerminatedEvent, EndpointThrottledEvent,
};
use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codegen::{Service, http::Uri};
use tonic::transport::{ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use super::EndpointWriter;
use super::outbound::{Outbound, OutboundControl};
use crate::config::Limits;
use crate::endpoint_state::{DisconnectCause, HeartbeatConfig, ReconnectPolicy};
use crate::endpoint_supervisor::EndpointSupervisor;
use crate::inbound::service::EndpointReader;
use crate::remote::tests::support::raw::{self, MESSAGE_BYTES, Manners, RawCall, RawServer, message};
use crate::remote::tests::support::{Echo, Events, Heard, TestNode, Watch, Watcher, local};
use crate::wire::batch::WireForm;
use crate::wire::proto::remote::DisconnectRequest;
use crate::wire::proto::remote::remote_message::MessageType;
use crate::wire::remoting::RemotingServer;
use crate::{Config, ConfigOption, Remote, ResponseStatusCode};

/// Where the peer of these tests is. Nothing is dialled there.
pub(crate) const PEER: &str = "127.0.0.1:9";
/// Messages of which the windows of a connection hold a part.
const COUNT: u64 = 40;
/// Bytes that a connection holds.
const BUFFER: usize = 64 * 1024;

/// Makes connections in memory, or refuses, and tells when it was asked.
#[derive(Clone)]
pub(crate) struct Connector {
    began: Instant,
    accepted: mpsc::UnboundedSender<io::Result<DuplexStream>>,
    asked: mpsc::UnboundedSender<Duration>,
    refuses: Arc<AtomicBool>,
}

impl Connector {
    /// With what it is asked, and the switch that makes it refuse.
    fn new(
        accepted: mpsc::UnboundedSender<io::Result<DuplexStream>>,
    ) -> (Self, mpsc::UnboundedReceiver<Duration>, Arc<AtomicBool>) {
        let (asks, asked) = mpsc::unbounded_channel();
        let refuses = Arc::new(AtomicBool::new(false));
        (Self { began: Instant::now(), accepted, asked: asks, refuses: refuses.clone() }, asked, refuses)
    }
}

impl Service<Uri> for Connector {
    type Response = Near;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Near>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let _ = self.asked.send(self.began.elapsed());
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        if self.refuses.load(Ordering::Acquire) {
            return std::future::ready(Err(refused()));
        }
        let (near, far) = tokio::io::duplex(BUFFER);
        std::future::ready(self.accepted.send(Ok(far)).map(|()| Near(near)).map_err(|_| refused()))
    }
}

/// An end of a connection in memory, as the client takes it.
pub(crate) struct Near(DuplexStream);

impl rt::Read for Near {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = vec![0; into.remaining().min(BUFFER)];
        let mut read = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut read))?;
        into.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl rt::Write for Near {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A node and the peer that it reaches in memory.
pub(crate) struct Pair {
    pub(crate) node: TestNode,
    pub(crate) peer: RawServer,
    began: Instant,
    asked: mpsc::UnboundedReceiver<Duration>,
    refuses: Arc<AtomicBool>,
}

impl Pair {
    pub(crate) async fn start(config: Config, manners: Manners) -> Self {
        Self::of(TestNode::start("node", config).await, manners)
    }

    fn of(node: TestNode, manners: Manners) -> Self {
        let (accepted, connections) = mpsc::unbounded_channel();
        let (connector, asked, refuses) = Connector::new(accepted);
        let began = connector.began;
        assert!(node.remote.node_for_tests().connector.set(connector).is_ok());
        let incoming = UnboundedReceiverStream::new(connections);
        let peer = RawServer::over(PEER.parse().expect("an address"), manners, incoming);
        Self { node, peer, began, asked, refuses }
    }

    pub(crate) fn tell(&self, message: Echo) {
        self.node.at(PEER, "echo").tell(message);
    }

    fn endpoint(&self) -> Arc<super::Endpoint> {
        self.node.remote.node_for_tests().endpoint(PEER).expect("an address")
    }

    /// Tells the peer more than the windows of the connection hold, `COUNT` messages, of which those that can go out have.
    async fn fill(&self) {
        for _ in 0..COUNT {
            self.tell(Echo::Note("x".repeat(500_000)));
        }
        self.node.remote.await_reconnect(PEER).await.expect("an endpoint");
        tokio::time::sleep(ms(1)).await;
        let sent = self.endpoint().statistics().snapshot().sent;
        assert!(sent > 0 && sent < COUNT, "{sent}");
    }

    /// Milliseconds since the beginning.
    fn now(&self) -> u128 {
        let now = self.began.elapsed();
        assert_eq!(now.subsec_nanos() % 1_000_000, 0, "{now:?}");
        now.as_millis()
    }

    /// The instant of the next event.
    async fn at<E: Clone + Send + Sync + 'static>(&self, events: &mut Events<E>) -> (u128, E) {
        let event = events.next("an event").await;
        (self.now(), event)
    }

    /// When it dialled so far.
    fn dials(&mut self) -> Vec<u128> {
        std::iter::from_fn(|| self.asked.try_recv().ok()).map(|at| at.as_millis()).collect()
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const NEXUS: Manners =
    Manners { is_nexus: true, blocks: false, never_reads: false, is_mute: false };

/// Covers: TST-44, HS-08
#[tokio::test(start_paused = true)]
async fn parity_gives_an_address_up_after_ten_seconds() {
    let parity = Config::protoactor_parity().with([ConfigOption::with_host("127.0.0.1")]);
    let mut pair = Pair::start(parity, NEXUS).await;
    pair.refuses.store(true, Ordering::Release);
    let mut terminated = pair.node.events::<EndpointTerminatedEvent>();
    pair.tell(Echo::Count(1));
    let (at, event) = pair.at(&mut terminated).await;
    assert_eq!(at, 10_000, "{}", event.reason);
    assert!(event.reason.starts_with("unreachable after 5 attempts"), "{}", event.reason);
    assert_eq!(pair.dials(), [0, 2_000, 4_000, 6_000, 8_000]);
    assert_eq!(pair.node.system.dead_letters().count(DeadLetterReason::Unreachable), 1);
    pair.node.stop().await;
}

/// Covers: CFG-05, CFG-06, CFG-07
#[tokio::test(start_paused = true)]
async fn waits_between_attempts_double_up_to_the_longest() {
    let policy = ReconnectPolicy::exponential(5, ms(100), ms(500));
    let config = local().with([ConfigOption::with_endpoint_reconnect_policy(policy)]);
    let mut pair = Pair::start(config, NEXUS).await;
    pair.refuses.store(true, Ordering::Release);
    let mut terminated = pair.node.events::<EndpointTerminatedEvent>();
    pair.tell(Echo::Count(1));
    assert_eq!(pair.at(&mut terminated).await.0, 1_700);
    assert_eq!(pair.dials(), [0, 100, 300, 700, 1_200]);
    pair.node.stop().await;
}

/// Who waits for its turn to dial is not given up for that, however long it takes, and has all of its time then.
///
/// Covers: L25
#[tokio::test(start_paused = true)]
async fn who_waits_for_its_turn_to_dial_is_not_given_up() {
    let limits = Limits { dials: 1, ..Limits::new() };
    let mut pair = Pair::start(local().with([ConfigOption::with_limits(limits)]), NEXUS).await;
    let other: Arc<str> = Arc::from("127.0.0.1:10");
    let held = pair.node.remote.node_for_tests().dials.place(&other, || None).await;
    pair.tell(Echo::Count(1));
    let hour = Duration::from_secs(3_600);
    tokio::time::sleep(hour).await;
    assert!(pair.dials().is_empty());
    assert_eq!(pair.endpoint().read(|state| (state.attempt_number(), state.ends())), (1, 0));
    drop(held);
    pair.node.remote.await_reconnect(PEER).await.expect("an endpoint");
    assert_eq!(pair.dials(), [hour.as_millis()]);
    assert!(pair.endpoint().read(crate::endpoint_state::EndpointState::is_linked));
    pair.node.stop().await;
}

/// Whichever way somebody here wants a peer, it does not wait among those that peers brought up.
#[tokio::test(start_paused = true)]
async fn whoever_is_wanted_here_is_dialled_before_those_that_peers_brought_up() {
    let limits = Limits { dials: 4, ..Limits::new() };
    let wants: [fn(&Pair); 4] = [
        |pair| drop(pair.node.remote.manager().ensure_connected(PEER)),
        |pair| drop(pair.node.remote.manager().schedule_reconnect(PEER)),
        |pair| {
            let remote = pair.node.remote.clone();
            tokio::spawn(async move { drop(remote.spawn_remote(PEER, "kind").await) });
        },
        |pair| pair.node.at(PEER, "echo").stop(),
    ];
    for (number, want) in wants.into_iter().enumerate() {
        let config = local().with([ConfigOption::with_limits(limits)]);
        let mut pair = Pair::start(config, NEXUS).await;
        let node = pair.node.remote.node_for_tests().clone();
        let (other, host) = (Arc::from("127.0.0.1:10"), "127.0.0.1".parse().expect("a host"));
        let held = node.dials.place(&other, || Some(host)).await;
        let endpoint = node.endpoint_of(PEER, crate::endpoint::EndpointKind::Dialled).expect("an address");
        endpoint.set_source(crate::log::Source::Host(host));
        endpoint.apply(crate::endpoint_state::EndpointState::ensure_connected);
        tokio::time::sleep(ms(1)).await;
        assert!(pair.dials().is_empty(), "{number}");
        want(&pair);
        tokio::time::sleep(ms(1)).await;
        assert_eq!(pair.dials(), [1], "{number}");
        drop(held);
        pair.node.stop().await;
    }
}

/// When an address that refuses is given up, and the reason.
async fn gives_up(options: impl IntoIterator<Item = ConfigOption>) -> (u128, Arc<str>) {
    let pair = Pair::start(local().with(options), NEXUS).await;
    pair.refuses.store(true, Ordering::Release);
    let mut terminated = pair.node.events::<EndpointTerminatedEvent>();
    pair.tell(Echo::Count(1));
    let (at, event) = pair.at(&mut terminated).await;
    pair.node.stop().await;
    (at, event.reason)
}

/// Covers: CFG-05, CFG-06, CFG-07, CFG-41
#[tokio::test(start_paused = true)]
async fn each_reconnect_option_moves_the_instant_of_giving_up() {
    let initial = ConfigOption::with_endpoint_reconnect_initial_backoff;
    let longest = ConfigOption::with_endpoint_reconnect_max_backoff;
    let retries = ConfigOption::with_endpoint_reconnect_max_retries;
    let steady = ConfigOption::with_endpoint_reconnect_jitter(0.0);
    // One wait after the only attempt.
    assert_eq!(gives_up([retries(1), initial(ms(600)), steady.clone()]).await.0, 600);
    assert_eq!(gives_up([retries(3), initial(ms(100)), steady.clone()]).await.0, 700);
    // Eight waits that do not grow.
    assert_eq!(gives_up([retries(8), initial(ms(100)), longest(ms(100)), steady]).await.0, 800);
    let (at, reason) =
        gives_up([ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(2, ms(300)))]).await;
    assert_eq!(at, 600);
    assert!(reason.starts_with("unreachable after 2 attempts"), "{reason}");
}

/// Covers: CFG-08
#[tokio::test(start_paused = true)]
async fn reconnect_jitter_spreads_the_waits() {
    let mut waits = Vec::new();
    for _ in 0..32 {
        let options = [
            ConfigOption::with_endpoint_reconnect_max_retries(1),
            ConfigOption::with_endpoint_reconnect_initial_backoff(ms(400)),
            ConfigOption::with_endpoint_reconnect_jitter(0.99),
        ];
        waits.push(gives_up(options).await.0);
    }
    assert!(waits.iter().all(|wait| (4..=797).contains(wait)), "{waits:?}");
    // The default spreads them from 320 to 480 only. That of 32 none is below, or none above, happens once in 30 million runs.
    assert!(waits.iter().any(|wait| *wait < 320) && waits.iter().any(|wait| *wait > 480), "{waits:?}");
}

/// Covers: RC-10, S7
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_asked_twice_and_lost_after_45_seconds() {
    let policy = ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(5, ms(200)));
    let mut pair = Pair::start(local().with([policy]), NEXUS).await;
    let mut again = pair.node.events::<EndpointReconnectEvent>();
    pair.tell(Echo::Count(1));
    for at in [15_000, 30_000] {
        pair.peer.until("actor.Touch").await;
        assert_eq!(pair.now(), at);
    }
    // The first wait begins with the loss.
    assert_eq!(pair.at(&mut again).await.0, 45_200);
    assert_eq!(pair.dials(), [0, 45_200]);
    pair.node.stop().await;
}

/// Covers: CFG-09, CFG-10, RC-10
#[tokio::test(start_paused = true)]
async fn heartbeat_options_probe_and_give_up_a_silent_peer() {
    let parts = vec![
        ConfigOption::with_endpoint_heartbeat_interval(ms(50)),
        ConfigOption::with_endpoint_heartbeat_timeout(ms(300)),
    ];
    let whole =
        vec![ConfigOption::with_endpoint_heartbeat(HeartbeatConfig { interval: ms(50), timeout: ms(300) })];
    for options in [parts, whole] {
        let policy = ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(5, ms(200)));
        let mut pair = Pair::start(local().with([policy]).with(options), NEXUS).await;
        let mut again = pair.node.events::<EndpointReconnectEvent>();
        pair.tell(Echo::Count(1));
        pair.peer.until("actor.Touch").await;
        assert_eq!(pair.now(), 50);
        assert_eq!(pair.at(&mut again).await.0, 300 + 200);
        pair.node.stop().await;
    }
}

/// Covers: CFG-16
#[tokio::test(start_paused = true)]
async fn call_timeout_ends_a_spawn_that_nobody_answers() {
    let pair = Pair::start(local().with([ConfigOption::with_call_timeout(ms(200))]), NEXUS).await;
    let spawned = pair.node.remote.spawn_remote(PEER, "echo").await;
    assert_eq!(spawned.expect_err("nobody answers").status(), ResponseStatusCode::Timeout);
    // The timer of questions ticks every ten milliseconds.
    assert!((200..=210).contains(&pair.now()), "{}", pair.now());
    pair.node.stop().await;
}

/// A dial that hangs: the connection is there, and nothing answers the first word of TLS.
#[tokio::test(start_paused = true)]
async fn connect_timeout_ends_a_dial_that_hangs() {
    let config = local().with([
        ConfigOption::with_client_tls(ClientTlsConfig::new()),
        ConfigOption::with_connect_timeout(ms(200)),
        ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(1, ms(1))),
    ]);
    let node = TestNode::start("node", config).await;
    let (accepted, _unread) = mpsc::unbounded_channel();
    let (connector, ..) = Connector::new(accepted);
    assert!(node.remote.node_for_tests().connector.set(connector).is_ok());
    let mut terminated = node.events::<EndpointTerminatedEvent>();
    let began = Instant::now();
    node.at(PEER, "echo").tell(Echo::Count(1));
    let event = terminated.next("the end").await;
    assert_eq!(began.elapsed(), ms(200 + 1), "{}", event.reason);
    assert!(event.reason.contains("1 attempt"), "{}", event.reason);
    node.stop().await;
}

/// However many questions wait, a silent peer is asked whether it is there, and no question of that kind is kept but the last.
///
/// Covers: RC-10, L19
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_asked_though_the_table_of_questions_is_full() {
    let mut limits = Limits::new();
    limits.pending_asks = 1;
    let mut pair = Pair::start(local().with([ConfigOption::with_limits(limits)]), NEXUS).await;
    let there = pair.node.at(PEER, "echo");
    let waits = there.ask(|reply| Echo::Say("one".to_owned(), reply)).timeout(ms(60_000));
    assert_eq!(pair.node.ask(&there, "two").await, Err(AskError::Full));
    for at in [15_000, 30_000] {
        pair.peer.until("actor.Touch").await;
        assert_eq!((pair.now(), pair.node.remote.pending_asks()), (at, 2));
        assert_eq!(pair.node.ask(&there, "two").await, Err(AskError::Full));
    }
    drop(waits);
    pair.node.stop().await;
}

/// A peer that answers nothing is given up when the handshake's time is over, and the first wait begins then.
///
/// Covers: HS-06
#[tokio::test(start_paused = true)]
async fn a_handshake_without_an_answer_ends_in_time() {
    let once = ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(1, ms(300)));
    let sooner = ConfigOption::with_handshake_timeout(ms(200));
    let mute = Manners { is_mute: true, ..NEXUS };
    for (options, ended) in [(vec![once.clone()], 10_300), (vec![once, sooner], 500)] {
        let pair = Pair::start(local().with(options), mute).await;
        let mut terminated = pair.node.events::<EndpointTerminatedEvent>();
        pair.tell(Echo::Count(1));
        let (at, event) = pair.at(&mut terminated).await;
        assert_eq!(at, ended);
        assert!(event.reason.contains("no connect response in time"), "{}", event.reason);
        pair.node.stop().await;
    }
}

/// Who calls and does not say who it is.
///
/// Covers: HS-06, T3
#[tokio::test(start_paused = true)]
async fn a_call_that_says_nothing_ends_in_time() {
    for (options, ended) in
        [(None, ms(10_000)), (Some(ConfigOption::with_handshake_timeout(ms(200))), ms(200))]
    {
        let node = TestNode::start("node", local().with(options)).await;
        let door = Door::of(&node);
        let began = Instant::now();
        let nothing = message(MessageType::DisconnectRequest(DisconnectRequest {}));
        let status = door.call(nothing).await.err().expect("it is not served");
        assert_eq!((status.code(), began.elapsed()), (Code::DeadlineExceeded, ended));
        node.stop().await;
    }
}

/// A panic in code of the application that an attempt runs is a failed attempt: the next one sends what waited, and if there
/// is none that succeeds, it is recorded.
#[tokio::test(start_paused = true)]
async fn an_interceptor_that_panics_fails_its_attempt() {
    for (panics, recorded) in [(1, 0), (u32::MAX, 1)] {
        let calls = Arc::new(AtomicU32::new(0));
        let config = local().with([
            ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(2, ms(300))),
            ConfigOption::with_call_interceptor(move |request| {
                assert!(
                    calls.fetch_add(1, Ordering::AcqRel) >= panics,
                    "the interceptor of this test panics"
                );
                Ok(request)
            }),
        ]);
        let mut pair = Pair::start(config, NEXUS).await;
        let mut terminated = pair.node.events::<EndpointTerminatedEvent>();
        pair.tell(Echo::Count(1));
        if recorded == 0 {
            assert_eq!(pair.peer.batch().await.len(), 1);
            assert_eq!(pair.now(), 300);
        } else {
            let (at, event) = pair.at(&mut terminated).await;
            assert_eq!(at, 600);
            assert!(event.reason.contains("panicked"), "{}", event.reason);
        }
        assert_eq!(pair.dials(), [0, 300]);
        assert_eq!(pair.node.system.dead_letters().count(DeadLetterReason::Unreachable), recorded);
        pair.node.stop().await;
    }
}

/// A panic of the driver itself is a failed attempt or a lost connection, and another driver begins.
#[tokio::test(start_paused = true)]
async fn a_driver_that_panics_is_replaced() {
    let policy = ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(5, ms(200)));
    let mut pair = Pair::start(local().with([policy]), NEXUS).await;
    let endpoint = pair.node.remote.node_for_tests().endpoint(PEER).expect("an address");
    // The driver is here.
    endpoint.driven.store(true, Ordering::Release);
    pair.tell(Echo::Count(1));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _replaced = super::ReplacedOnPanic(&endpoint);
        panic!("the driver of this test panics");
    }));
    assert!(panicked.is_err());
    assert_eq!(pair.peer.batch().await.len(), 1);
    assert_eq!(pair.now(), 200);
    pair.node.stop().await;
}

/// A runtime whose clock panics once, for who asks it first at that instant or later.
#[derive(Clone)]
struct FaultyClock(TokioRuntime, Instant, Arc<Lock<Option<Duration>>>);

impl Runtime for FaultyClock {
    fn spawn(&self, future: BoxFuture) {
        self.0.spawn(future);
    }
    fn now(&self) -> nexus_actor_core::Instant {
        let is_due = self.2.lock().take_if(|at| self.1.elapsed() >= *at).is_some();
        assert!(!is_due, "the clock of this test panics");
        self.0.now()
    }
    fn sleep_until(&self, at: nexus_actor_core::Instant) -> BoxFuture {
        self.0.sleep_until(at)
    }
    fn tokio(&self) -> Option<&tokio::runtime::Handle> {
        self.0.tokio()
    }
}

/// What the call had in hand when its driver panics is unknown, and what waited is recorded: nothing of it is in no count.
///
/// Covers: S142
#[tokio::test(start_paused = true)]
async fn what_the_call_of_a_driver_that_panics_had_in_hand_is_counted() {
    let panics: Arc<Lock<Option<Duration>>> = Arc::default();
    let runtime = TokioRuntime::try_current().expect("inside of one");
    let runtime = FaultyClock(runtime, Instant::now(), panics.clone());
    let system = ActorSystem::builder("node").with_runtime(runtime).build().expect("a system");
    system.register::<Echo>().expect("registered once");
    let policy = ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(5, ms(200)));
    let remote = Remote::start(&system, local().with([policy])).await.expect("a node");
    let node = TestNode { system, remote, heard: Heard::default() };
    let pair = Pair::of(node, Manners { never_reads: true, ..NEXUS });
    let mut again = pair.node.events::<EndpointReconnectEvent>();
    pair.fill().await;
    // The driver looks when the peer has been silent for so long.
    *panics.lock() = Some(ms(15_000));
    assert_eq!(pair.at(&mut again).await.0, 15_200);
    assert_eq!(*panics.lock(), None);
    let last = pair.endpoint().statistics().snapshot();
    assert_eq!((last.unknown, last.dead_letters), (last.sent, COUNT - last.sent), "{last:?}");
    pair.node.stop().await;
}

/// An attempt that is given up takes its connection with it: nobody is left who would end the call.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_given_up_leaves_no_connection() {
    let mut pair = Pair::start(local(), Manners { is_mute: true, ..NEXUS }).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    pair.tell(Echo::Count(1));
    pair.peer.call().await;
    assert!(tasks() > before + 1, "the connection is the driver's and the peer's");
    pair.node.remote.suspend();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(tasks(), before + 1, "the driver");
    pair.node.stop().await;
}

/// Nobody answers whether an actor is there: the question is kept as long as somebody waits, be it given up or timed out.
#[tokio::test(start_paused = true)]
async fn a_lookup_that_is_over_leaves_no_question() {
    let seldom = HeartbeatConfig { interval: ms(60_000), timeout: ms(180_000) };
    let pair = Pair::start(local().with([ConfigOption::with_endpoint_heartbeat(seldom)]), NEXUS).await;
    let path = format!("protoactor://{PEER}/user/echo");
    let lookup = || pair.node.system.lookup::<Echo>(&path);
    assert!(tokio::time::timeout(ms(100), lookup()).await.is_err(), "nobody answers");
    assert_eq!(pair.node.remote.pending_asks(), 0);
    assert!(matches!(lookup().await, Err(AskError::Timeout { .. })));
    assert_eq!(pair.node.remote.pending_asks(), 0);
    pair.node.stop().await;
}

/// An attempt that is given up while it asks for the form of the wire waits for no answer.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_given_up_leaves_no_question() {
    let mut pair = Pair::start(local(), Manners::default()).await;
    pair.tell(Echo::Count(1));
    pair.peer.until("actor.Touch").await;
    assert_eq!(pair.node.remote.pending_asks(), 1);
    pair.node.remote.suspend();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(pair.node.remote.pending_asks(), 0);
    pair.node.stop().await;
}

/// Nobody sends a batch down a call that a listening node opened. What comes there all the same is recorded, and who asks by
/// it is told.
#[tokio::test]
async fn a_batch_down_a_call_of_a_listening_node_is_recorded() {
    let node = TestNode::start("node", local()).await;
    let endpoint = node.remote.node_for_tests().endpoint(PEER).expect("an address");
    let mut writer = EndpointWriter::new(endpoint.clone());
    let notes = [raw::note("a"), raw::note("b")];
    let batch = raw::batch(node.remote.address(), "echo", Some((PEER, "asker")), &notes);
    writer.hear(Ok(Some(raw::sent(batch))));
    assert_eq!(node.system.dead_letters().count(DeadLetterReason::Denied), 2);
    assert_eq!((endpoint.mailbox.state().len, endpoint.statistics().snapshot().received), (2, 2));
    assert_eq!(node.heard.len(), 0);
    node.stop().await;
}

/// What is queued for a peer that has left, while the node is suspended, is sent when it goes on.
#[tokio::test(start_paused = true)]
async fn a_message_for_who_left_during_a_suspension_connects_after_it() {
    let mut pair = Pair::start(local(), NEXUS).await;
    pair.tell(Echo::Count(1));
    pair.peer.batch().await;
    pair.node.remote.suspend();
    let endpoint = pair.node.remote.node_for_tests().endpoint(PEER).expect("an address");
    endpoint.apply(|state, now| state.handle_disconnected(now, DisconnectCause::PeerLeft));
    tokio::time::sleep(ms(1)).await;
    pair.tell(Echo::Count(2));
    pair.node.remote.resume();
    assert_eq!(pair.peer.batch().await.len(), 1);
    pair.node.stop().await;
}

/// Covers: BP-14
#[tokio::test(start_paused = true)]
async fn a_queue_that_stays_critical_is_throttled_at_the_instant() {
    let config = local().with([
        ConfigOption::with_auto_throttle(Some(ms(50))),
        ConfigOption::with_endpoint_writer_queue_size(100),
        ConfigOption::with_backpressure_warning_threshold(0.05),
        ConfigOption::with_backpressure_critical_threshold(0.1),
    ]);
    let mut pair = Pair::start(config, NEXUS).await;
    pair.tell(Echo::Count(0));
    pair.peer.batch().await;
    let mut letters = pair.node.events::<DeadLetterEvent>();
    pair.node.remote.suspend();
    for number in 0..20 {
        pair.tell(Echo::Count(number));
    }
    tokio::time::sleep(ms(49)).await;
    pair.tell(Echo::Count(20));
    assert!(letters.try_next().is_none(), "there is room");
    tokio::time::sleep(ms(1)).await;
    // The driver's timer is of the same instant.
    tokio::task::yield_now().await;
    pair.tell(Echo::Count(21));
    assert_eq!(letters.try_next().map(|letter| letter.reason()), Some(DeadLetterReason::Limit));
    pair.node.stop().await;
}

/// What filled the queue of an address that is given up is recorded, and there is room again: the level says so, and the next
/// message connects.
///
/// Covers: BP-14
#[tokio::test(start_paused = true)]
async fn an_address_that_is_given_up_while_throttled_takes_messages_again() {
    let config = local().with([
        ConfigOption::with_auto_throttle(Some(ms(50))),
        ConfigOption::with_endpoint_writer_queue_size(100),
        ConfigOption::with_backpressure_warning_threshold(0.05),
        ConfigOption::with_backpressure_critical_threshold(0.1),
        ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(1, ms(100))),
    ]);
    let mut pair = Pair::start(config, NEXUS).await;
    pair.refuses.store(true, Ordering::Release);
    let mut terminated = pair.node.events::<EndpointTerminatedEvent>();
    let mut levels = pair.node.events::<EndpointThrottledEvent>();
    // Kept, so that the endpoint is.
    let there = pair.node.at(PEER, "echo");
    for number in 0..20 {
        there.tell(Echo::Count(number));
    }
    assert_eq!(pair.at(&mut terminated).await.0, 100);
    levels.find("normal", |event| event.level == BackpressureLevel::Normal).await;
    assert_eq!(pair.now(), 100);
    pair.refuses.store(false, Ordering::Release);
    there.tell(Echo::Count(20));
    assert_eq!(pair.peer.batch().await.len(), 1);
    pair.node.stop().await;
}

/// Covers: S109
#[tokio::test(start_paused = true)]
async fn the_end_of_a_node_waits_as_long_as_its_flush_may_take_and_no_longer() {
    let config = local().with([ConfigOption::with_shutdown_flush(ms(400))]);
    let pair = Pair::start(config, Manners { never_reads: true, ..NEXUS }).await;
    let mut letters = pair.node.events::<DeadLetterEvent>();
    // More than the windows of the connection hold.
    for _ in 0..40 {
        pair.tell(Echo::Note("x".repeat(500_000)));
    }
    pair.node.remote.await_reconnect(PEER).await.expect("an endpoint");
    assert_eq!(pair.now(), 0);
    let remote = pair.node.remote.clone();
    let ending = tokio::spawn(async move { remote.shutdown(true).await });
    let (at, letter) = pair.at(&mut letters).await;
    assert_eq!((at, letter.reason()), (400, DeadLetterReason::Shutdown));
    // As long again for the peer to end the call.
    ending.await.expect("no panic");
    assert_eq!((pair.now(), pair.node.remote.tasks()), (800, 0));
    pair.node.stop().await;
}

/// Covers: S109
#[tokio::test(start_paused = true)]
async fn the_end_of_a_node_comes_at_once_when_all_is_taken() {
    let mut pair = Pair::start(local(), NEXUS).await;
    pair.tell(Echo::Count(0));
    pair.peer.batch().await;
    for number in 1..1_000 {
        pair.tell(Echo::Count(number));
    }
    pair.node.remote.shutdown(true).await;
    assert_eq!(pair.now(), 0);
    let mut taken = 0;
    while taken < 999 {
        taken += pair.peer.batch().await.len();
    }
    assert_eq!(pair.node.system.dead_letters().count(DeadLetterReason::Shutdown), 0);
    pair.node.stop().await;
}

/// Whatever peers do, a node has ended when its own time is over, and when its system's is: what an application takes of that
/// is not there for the node. Nothing of it goes on, and all that it had is accounted for.
///
/// Covers: S109
#[tokio::test(start_paused = true)]
async fn the_end_of_a_node_is_within_its_time_and_that_of_its_system() {
    // What the system may take, what the application takes of that, and what the node may take for its queues and in all.
    for (all, taken, flush, own) in [
        (60_000, 0, 3_000, 10_000),
        (60_000, 0, 10_000, 10_000),
        (60_000, 0, 1_000, 1_000),
        (10_000, 0, 10_000, 10_000),
        (10_000, 6_000, 3_000, 10_000),
        (10_000, 8_000, 3_000, 10_000),
        (10_000, 9_900, 10_000, 10_000),
    ] {
        let system = ActorSystem::builder("node").with_shutdown_timeout(ms(all)).build().expect("a system");
        system.register::<Echo>().expect("registered once");
        let config = local().with([
            ConfigOption::with_shutdown_flush(ms(flush)),
            ConfigOption::with_shutdown_timeout(ms(own)),
        ]);
        let remote = Remote::start(&system, config).await.expect("a node");
        let node = TestNode { system: system.clone(), remote: remote.clone(), heard: Heard::default() };
        let door = Door::of(&node);
        // One that never reads, nor ends the call; and a client that does not hang up when it is told goodbye.
        let pair = Pair::of(node, Manners { never_reads: true, ..NEXUS });
        pair.fill().await;
        let client = door.call(raw::client_hello("raw")).await.expect("a call");
        let endpoint = pair.endpoint();
        let phase = ShutdownPhase::BeforeActors;
        system.coordinated_shutdown().add_task(phase, "drain", move || tokio::time::sleep(ms(taken)));
        let began = Instant::now();
        let what = format!("{all} {taken} {flush} {own}");
        assert_eq!(system.shutdown().await.map_err(|error| error.to_string()), Ok(()), "{what}");
        let took = began.elapsed();
        assert!(took <= ms(all.min(taken + own)), "{what}: {took:?}");
        assert_eq!(remote.tasks(), 0, "{what}");
        let last = endpoint.statistics().snapshot();
        assert_eq!((last.unknown, last.dead_letters), (last.sent, COUNT - last.sent), "{what}: {last:?}");
        drop(client);
    }
}

/// What waits for a peer that is given up meanwhile is waited for until then.
///
/// Covers: S109
#[tokio::test(start_paused = true)]
async fn the_end_of_a_node_does_not_wait_for_who_is_given_up() {
    let policy = ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(2, ms(100)));
    let pair = Pair::start(local().with([policy]), NEXUS).await;
    pair.refuses.store(true, Ordering::Release);
    let mut attempts = pair.node.events::<EndpointReconnectEvent>();
    pair.tell(Echo::Count(1));
    assert_eq!(pair.at(&mut attempts).await.0, 100);
    pair.node.remote.shutdown(true).await;
    assert_eq!(pair.now(), 200);
    assert_eq!(pair.node.system.dead_letters().count(DeadLetterReason::Unreachable), 1);
    pair.node.stop().await;
}

/// An address is given up, and the next message begins anew before the driver has acted upon that: the message waits for the
/// new attempt, which the end of the old connection does not fail.
#[tokio::test]
async fn the_end_of_a_row_takes_nothing_of_the_next_one() {
    let node = TestNode::start("node", local()).await;
    let endpoint = node.remote.node_for_tests().endpoint(PEER).expect("an address");
    // The driver is here.
    endpoint.driven.store(true, Ordering::Release);
    let mut driver = EndpointWriter::new(endpoint.clone());
    let there = node.at(PEER, "echo");
    there.tell(Echo::Count(1));
    driver.act_on_all();
    endpoint.apply(|state, now| state.handle_blocked(now));
    endpoint.apply(|state, _| state.handle_unblocked());
    there.tell(Echo::Count(2));
    driver.act_on_all();
    assert_eq!(endpoint.mailbox.state().len, 1);
    assert_eq!(node.system.dead_letters().count(DeadLetterReason::Blocked), 1);
    let is_under_way = || endpoint.read(|state| state.is_under_way(2));
    assert!(is_under_way());
    driver.hear(Err(Status::unavailable("of the old one")));
    assert!(is_under_way());
    driver.link_era = endpoint.era();
    driver.hear(Err(Status::unavailable("of this one")));
    assert!(!is_under_way());
    node.stop().await;
}

/// A connection that is lost takes nothing more, also when the driver is late to end it: what waits is for the next one.
#[tokio::test]
async fn a_connection_that_is_lost_takes_nothing_more() {
    let keep = ConfigOption::with_queue_patience(Patience::Keep);
    let node = TestNode::start("node", local().with([keep])).await;
    let endpoint = node.remote.node_for_tests().endpoint(PEER).expect("an address");
    // The driver is here.
    endpoint.driven.store(true, Ordering::Release);
    endpoint.apply(|state, now| {
        state.ensure_connected(now);
        state.handle_connected(now, "there");
    });
    let mut outbound = Outbound::new(endpoint.clone(), Arc::new(OutboundControl::new(0)));
    outbound.control().open(WireForm::W2);
    let mut cx = Context::from_waker(Waker::noop());
    let there = node.at(PEER, "echo");
    there.tell(Echo::Count(1));
    assert!(matches!(outbound.poll_message(&mut cx), Poll::Ready(Some(_))));
    there.tell(Echo::Count(2));
    let cause = DisconnectCause::Stream(Arc::from("cut"));
    endpoint.apply(|state, now| state.handle_disconnected(now, cause));
    assert!(outbound.poll_message(&mut cx).is_pending());
    assert_eq!(endpoint.mailbox.state().len, 1);
    drop(there);
    node.stop().await;
}

/// Takes a message for each permit.
struct Gate(Arc<Semaphore>, Heard);

impl Actor for Gate {
    type Msg = Echo;
    async fn receive(
        &mut self,
        message: Echo,
        _: &mut nexus_actor_core::Context<'_, Self>,
    ) -> Result<(), ActorError> {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
        self.1.push(format!("{message:?}"));
        Ok(())
    }
}

/// A peer whose messages pile up is not read, its own queue holds the rest, and nothing is lost.
///
/// Covers: L30
#[tokio::test(start_paused = true)]
async fn limits_of_mailboxes_hold_a_peer_up() {
    let few = |change: fn(&mut Limits)| {
        let mut limits = Limits::new();
        change(&mut limits);
        ConfigOption::with_limits(limits)
    };
    for limit in [few(|limits| limits.mailbox_messages = 64), few(|limits| limits.mailbox_bytes = 64_000)] {
        let b = TestNode::start("b", local().with([limit])).await;
        let a = TestNode::start(
            "a",
            local().with([
                ConfigOption::with_endpoint_writer_batch_size(10),
                ConfigOption::with_endpoint_heartbeat_interval(ms(1_500)),
                ConfigOption::with_endpoint_heartbeat_timeout(ms(2_500)),
            ]),
        )
        .await;
        let _links = Links::join(&a, &b);
        let (gate, heard) = (Arc::new(Semaphore::new(0)), Heard::default());
        let (permits, told) = (gate.clone(), heard.clone());
        let props = Props::from_fn(move || Gate(permits.clone(), told.clone()));
        let slow = b.system.spawn("slow", props).expect("free");
        let mut attempts = a.events::<EndpointReconnectEvent>();
        let there = a.far(&b, "slow");
        // More than the connection's windows and the limit hold together.
        const COUNT: usize = 12_000;
        for _ in 0..COUNT {
            there.tell(Echo::Note("x".repeat(1_000)));
        }
        let waiting = || a.remote.get_endpoint_statistics(b.remote.address()).map_or(0, |now| now.queue_size);
        // All that can be sent is sent before time goes on.
        tokio::time::sleep(ms(1)).await;
        let held = waiting();
        assert!(held > 0);
        assert!(slow.mailbox_len() < 200, "{}", slow.mailbox_len());
        // Four times the silence that a peer is given up for.
        tokio::time::sleep(ms(10_000)).await;
        assert_eq!(waiting(), held);
        assert!(slow.mailbox_len() < 200, "{}", slow.mailbox_len());
        assert!(attempts.try_next().is_none(), "a node that is held up is still there");
        gate.add_permits(COUNT);
        heard.until("all of it", |all| all.len() == COUNT).await;
        a.stop().await;
        b.stop().await;
    }
}

/// L30: a node that only dials out and does not read the crowded rest reads on as soon as it asks: the answer is in there.
#[tokio::test(start_paused = true)]
async fn a_question_is_answered_while_mailboxes_are_crowded() {
    let (a, b) = (TestNode::start_client("a", local()).await, TestNode::start("b", local()).await);
    let _links = Links::join(&a, &b);
    let there = a.far(&b, "echo");
    assert!(a.ask(&there, "x").await.is_ok());
    let endpoint = a.remote.node_for_tests().endpoint(b.remote.address()).expect("an address");
    let limit = Limits::new().mailbox_messages;
    let crowd = endpoint.intake.put(limit, 0);
    let began = Instant::now();
    // The first one's answer is what it waited for before it was crowded.
    for _ in 0..3 {
        assert!(a.ask(&there, "x").await.is_ok());
        // The driver has its turn, and waits for room.
        tokio::time::sleep(ms(1)).await;
    }
    assert_eq!(began.elapsed(), ms(3));
    drop(crowd);
    a.stop().await;
    b.stop().await;
}

/// A node that listens takes no batches down its own call: crowded, it still sees the end of it at once.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_call_is_seen_while_mailboxes_are_crowded() {
    let policy = ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(5, ms(200)));
    let (a, b) = (TestNode::start("a", local().with([policy])).await, TestNode::start("b", local()).await);
    let links = Links::join(&a, &b);
    let there = a.far(&b, "echo");
    there.tell(Echo::Count(1));
    let endpoint = a.remote.node_for_tests().endpoint(b.remote.address()).expect("an address");
    // It is acknowledged by then, and the driver has its next turn after it is crowded.
    tokio::time::sleep(ms(2_000)).await;
    let crowd = endpoint.intake.put(Limits::new().mailbox_messages, 0);
    there.tell(Echo::Count(2));
    tokio::time::sleep(ms(2_000)).await;
    let mut again = a.events::<EndpointReconnectEvent>();
    let began = Instant::now();
    links.cut();
    again.next("an attempt").await;
    assert_eq!(began.elapsed(), ms(200));
    drop(crowd);
    a.stop().await;
    b.stop().await;
}

/// Serves connections in memory as `to` serves its sockets.
fn serve(to: &TestNode) -> (mpsc::UnboundedSender<io::Result<DuplexStream>>, JoinHandle<()>) {
    let (connections, incoming) = mpsc::unbounded_channel();
    let reader = Arc::new(EndpointReader::new(to.remote.node_for_tests().clone()));
    let service = RemotingServer::new(reader, MESSAGE_BYTES);
    let server = EndpointSupervisor::server(to.remote.node_for_tests()).expect("a server");
    let incoming = UnboundedReceiverStream::new(incoming);
    let serving = tokio::spawn(async move {
        let _ = server.serve_with_incoming(service, incoming).await;
    });
    (connections, serving)
}

/// The way to a node in memory, for those who call it by hand.
pub(crate) struct Door {
    connector: Connector,
    serving: JoinHandle<()>,
}

impl Door {
    pub(crate) fn of(node: &TestNode) -> Self {
        let (connections, serving) = serve(node);
        let (connector, ..) = Connector::new(connections);
        Self { connector, serving }
    }

    /// Opens a call on a connection of its own and waits for the answer to its first message.
    pub(crate) async fn call(&self, first: Bytes) -> Result<RawCall, Status> {
        let dial = Endpoint::from_static("http://127.0.0.1:9");
        let channel = dial.connect_with_connector(self.connector.clone()).await.expect("a connection");
        let mut call = RawCall::by(channel, first).await?;
        call.response().await?;
        Ok(call)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Connections in memory to `to`, for `from`; each can be cut.
struct Links {
    cut: Arc<Lock<Vec<AbortHandle>>>,
    stalled: Arc<Notify>,
    refuses: Arc<AtomicBool>,
    serving: Vec<JoinHandle<()>>,
}

impl Links {
    fn join(from: &TestNode, to: &TestNode) -> Self {
        let (accepted, mut connections) = mpsc::unbounded_channel::<io::Result<DuplexStream>>();
        let (connector, _, refuses) = Connector::new(accepted);
        assert!(from.remote.node_for_tests().connector.set(connector).is_ok());
        let (carried, serving) = serve(to);
        let cut: Arc<Lock<Vec<AbortHandle>>> = Arc::default();
        let cuts = cut.clone();
        let stalled = Arc::new(Notify::new());
        let stalls = stalled.clone();
        let carrying = tokio::spawn(async move {
            while let Some(Ok(mut near)) = connections.recv().await {
                let (mut far, served) = tokio::io::duplex(BUFFER);
                let stalls = stalls.clone();
                let link = tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = stalls.notified() => std::future::pending().await,
                    }
                });
                let mut cuts = cuts.lock();
                cuts.retain(|link| !link.is_finished());
                cuts.push(link.abort_handle());
                let _ = carried.send(io::Result::Ok(served));
            }
        });
        Self { cut, stalled, refuses, serving: vec![carrying, serving] }
    }

    /// Carries nothing any more on the connections there are, which stand.
    fn stall(&self) {
        self.stalled.notify_waiters();
    }

    fn cut(&self) {
        self.cut.lock().drain(..).for_each(|link| link.abort());
    }

    /// Connections that are carried now.
    fn open(&self) -> usize {
        self.cut.lock().iter().filter(|link| !link.is_finished()).count()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

/// Two nodes that send to each other for the first time before either has been dialled.
///
/// Covers: S4
#[tokio::test(start_paused = true)]
async fn two_dials_that_meet_are_one_endpoint_at_each_end() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let (links, crossing) = (Links::join(&a, &b), Links::join(&b, &a));
    let (there, back) = (a.far(&b, "echo"), b.far(&a, "echo"));
    // Nothing else runs before both have been sent.
    for number in 0..100 {
        there.tell(Echo::Count(number));
        back.tell(Echo::Count(number));
    }
    let numbers: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    for one in [&a, &b] {
        one.heard.until("all, once and in order", |all| all == numbers).await;
        assert_eq!(one.remote.manager().endpoints().len(), 1);
    }
    assert_eq!((links.open(), crossing.open()), (1, 1), "each has dialled the other");
    a.stop().await;
    b.stop().await;
}

/// Whole nodes over a day in which the connections between them break every minute, some of them for so long that the
/// peer is given up: no task, connection, question, watch or endpoint is left of it.
///
/// Covers: S14, T32
#[tokio::test(start_paused = true)]
async fn a_day_of_breaks_leaves_nothing_behind() {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let (there, back) = (Links::join(&a, &b), Links::join(&b, &a));
    assert!(b.remote.register("kind", Props::from_fn(|| Idle)));
    let watching = Heard::default();
    let told = watching.clone();
    let watcher = a.system.spawn("watcher", Props::from_fn(move || Watcher(told.clone()))).expect("free");
    let far = a.far(&b, "echo");
    let ask = || far.ask(|reply| Echo::Say("x".to_owned(), reply)).timeout(ms(5_000));
    let (began, mut random) = (Instant::now(), fastrand::Rng::with_seed(20_261_128));
    let (mut rounds, mut answers, mut spawned) = (0_u32, 0_u32, 0_u32);
    while began.elapsed() < DAY {
        tokio::time::sleep(ms(random.u64(1_000..120_000))).await;
        rounds += 1;
        watcher.tell(Watch::Begin(far.clone()));
        let is_long = random.u8(..4) == 0;
        for links in [&there, &back] {
            links.refuses.store(is_long, Ordering::Release);
            links.cut();
        }
        far.tell(Echo::Note("x".to_owned()));
        let _ = ask().await;
        if is_long {
            tokio::time::sleep(ms(random.u64(1_000..20_000))).await;
            there.refuses.store(false, Ordering::Release);
            back.refuses.store(false, Ordering::Release);
        }
        tokio::time::sleep(ms(10_000)).await;
        if ask().await.is_ok() {
            answers += 1;
        }
        if let Ok(pid) = a.remote.spawn_remote(b.remote.address(), "kind").await {
            spawned += 1;
            if let Some(actor) = b.system.find(&format!("/user/{}", pid.id)) {
                actor.stop();
            }
        }
    }
    assert!(
        rounds > 900 && answers.min(spawned) > rounds * 9 / 10,
        "{answers} answers, {spawned} spawned in {rounds} rounds"
    );
    drop(far);
    watcher.stop();
    for (one, other) in [(&a, &b), (&b, &a)] {
        one.remote.block_system(other.remote.address()).await;
    }
    tokio::time::sleep(DAY).await;
    for one in [&a, &b] {
        assert!(one.remote.manager().endpoints().is_empty(), "{:?}", one.remote.manager().endpoints());
        assert_eq!((one.remote.pending_asks(), one.remote.peer_watches()), (0, 0));
        // The listener.
        assert!(one.remote.tasks() <= 1, "{}", one.remote.tasks());
    }
    assert_eq!((there.open(), back.open()), (0, 0));
    a.stop().await;
    b.stop().await;
}

struct Idle;

impl Actor for Idle {
    type Msg = Echo;
    async fn receive(
        &mut self,
        _: Echo,
        _: &mut nexus_actor_core::Context<'_, Self>,
    ) -> Result<(), ActorError> {
        Ok(())
    }
}

/// An error that says `0`, with what lies behind it.
#[derive(Debug)]
struct Fault(&'static str, Option<Box<Fault>>);

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.1.as_deref().map(|cause| cause as _)
    }
}

#[test]
fn a_failure_names_its_causes_once() {
    let caused = |what, by| Fault(what, Some(Box::new(by)));
    let refused = || Fault("refused", None);
    let dialled =
        || caused("transport error", caused("tcp connect error", caused("tcp connect error", refused())));
    assert_eq!(super::chain(&dialled()), "transport error: tcp connect error: refused");
    assert_eq!(super::chain(&caused("dial: refused", refused())), "dial: refused");

    let status = Status::from_error(Box::new(dialled()));
    assert_eq!(super::describe(&status), "status Unknown: transport error: tcp connect error: refused");
    // What a peer wrote is one line, and not a long one.
    let theirs = super::describe(&Status::aborted(format!("a\nb{}", "c".repeat(10_000))));
    assert!(theirs.starts_with("status Aborted: a\\nbcc") && theirs.len() < 600, "{theirs}");
}
