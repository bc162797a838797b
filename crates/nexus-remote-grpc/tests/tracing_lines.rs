//! What is written to `tracing`: the list in the documentation of the crate. Each test has texts of its own, since all nodes
//! of a process share the rate of their lines.

mod support;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_actor_core::lock::Lock;
use nexus_remote::ClientConnectedEvent;
use nexus_remote_grpc::ConfigOption;
use nexus_remote_grpc::wire::proto::remote::MessageEnvelope;
use support::raw::{self, RawCall, batch, client_hello, eventually, note, sent, server_hello};
use support::{Echo, TestNode, local};
use tonic::Code;
use tracing::Level;
use tracing::subscriber::DefaultGuard;

/// The lines written on this thread, on which a test has its nodes.
#[derive(Clone, Default)]
struct Lines(Arc<Lock<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn read() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let out = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(Level::DEBUG)
            .with_writer(move || out.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// The lines so far in which all of `parts` are.
    fn with(&self, parts: &[&str]) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().clone()).expect("text");
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
    }

    async fn until(&self, parts: &[&str]) {
        eventually(&format!("a line with {parts:?}"), || !self.with(parts).is_empty()).await;
    }
}

/// Covers: OBS-10
#[tokio::test]
async fn turns_in_the_life_of_an_endpoint_are_written() {
    let (lines, _guard) = Lines::read();
    let queue = [
        ConfigOption::with_endpoint_writer_queue_size(10),
        ConfigOption::with_backpressure_warning_threshold(0.2),
    ];
    let (a, b) = (TestNode::start("a", local().with(queue)).await, TestNode::start("b", local()).await);
    let (far, b_address) = (a.far(&b, "echo"), b.remote.address().to_owned());
    let of_b = format!("address=\"{b_address}\"");
    let endpoint = |level: &str| format!("{level} nexus_remote_grpc::endpoint");

    assert_eq!(a.ask(&far, "x").await.as_deref(), Ok("re:x"));
    let system_id = format!("system_id=\"{}\"", b.remote.system_id());
    assert_eq!(lines.with(&[&endpoint("INFO"), ": connected", &of_b, &system_id]).len(), 1);

    // What a peer may not do is a loss like others, which the core writes.
    b.remote.manager().remote_stop(&a.pid("echo")).expect("a pid");
    lines.until(&["WARN nexus_actor_core::dead_letter", "actor.Stop", "may not stop actors here"]).await;
    assert!(a.system.find("/user/echo").is_some());

    // A batch with a fault costs a message, one that cannot be read its call.
    let call = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    let mut faulty = batch(a.remote.address(), "echo", None, &[note("sound")]);
    faulty.envelopes.insert(0, MessageEnvelope { type_id: 7, ..MessageEnvelope::default() });
    call.send(sent(faulty));
    a.heard.until("what was sound", |all| all == ["sound"]).await;
    let of_raw = "address=\"127.0.0.1:1\"";
    let written = lines.with(&[&endpoint("DEBUG"), ": unexpected message", of_raw, "a faulty envelope"]);
    assert_eq!(written.len(), 1);
    drop(call);

    a.remote.suspend();
    for number in 0..5 {
        far.tell(Echo::Count(number));
    }
    lines.until(&[&endpoint("WARN"), ": backpressure", &of_b, "level=\"warning\""]).await;
    a.remote.resume();
    b.heard.until("what waited", |all| all.len() == 5).await;

    assert!(a.remote.block_system(&b_address).await);
    lines.until(&[&endpoint("INFO"), ": disconnected", &of_b, "cause="]).await;
    lines.until(&[&endpoint("WARN"), ": terminated", &of_b, "reason="]).await;
    b.stop().await;
    a.stop().await;
}

/// A host that calls by one name after another has the lines of one: for those that are refused and for those that are let in.
///
/// Covers: L27, S144
#[tokio::test]
async fn a_host_with_many_names_has_the_lines_of_one() {
    const NAMES: usize = 200;
    let (lines, _guard) = Lines::read();
    // A connection without a call is a stranger's, and these two have none between one name and the next: on a busy machine
    // all of them take longer than strangers usually have.
    let patient = || local().with([ConfigOption::with_handshake_timeout(Duration::from_secs(3_600))]);
    let open = TestNode::start("open", patient()).await;
    let closed = patient().with([ConfigOption::with_allowed_systems(["friend".to_owned()])]);
    let closed = TestNode::start("closed", closed).await;
    let mut connected = open.events::<ClientConnectedEvent>();
    let (to_open, to_closed) =
        (raw::channel(open.remote.address()).await, raw::channel(closed.remote.address()).await);
    let began = Instant::now();
    for number in 0..NAMES {
        let name = format!("stranger-{number}");
        let mut refused = RawCall::by(to_closed.clone(), client_hello(&name)).await.expect("a call");
        assert_eq!(refused.end().await, Code::PermissionDenied);
        let call = RawCall::by(to_open.clone(), client_hello(&name)).await.expect("a call");
        connected.find(&name, |event| *event.system_id == *name).await;
        drop(call);
    }
    let most = began.elapsed().as_millis() as usize / 100 + 1;
    for text in [": call refused", ": connected"] {
        let written = lines.with(&["nexus_remote_grpc::endpoint", text, "stranger-"]);
        assert!((1..=most).contains(&written.len()), "{} lines for {text}, of {most}", written.len());
    }
    drop((to_open, to_closed));
    open.stop().await;
    closed.stop().await;
}
