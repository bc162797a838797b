//! What only TCP does.
#![cfg(feature = "std")]
#![allow(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use nexus_actor_core::path::Authority;
use nexus_remote::transport::{
    RemoteTransport, TokioTcpTransport, TransportBind, TransportEndpoint, TransportError, TransportFactory,
};

fn endpoint(host: &str, port: u16) -> TransportEndpoint {
    TransportEndpoint::new(Authority::new(host, port))
}

/// The transport is used from a thread and an executor that know nothing of tokio.
#[test]
fn a_handle_serves_outside_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let inside = TransportFactory::default();
    assert_eq!(
        inside.create("fraktor.tcp").map(drop),
        Err(TransportError::NoRuntime { scheme: "fraktor.tcp".to_string() })
    );
    let transport = inside.with_tcp(runtime.handle().clone()).create("fraktor.tcp").unwrap();
    let listener = transport.spawn_listener(&TransportBind::new("localhost", 0)).unwrap();
    let far = std::thread::spawn({
        let transport = Arc::clone(&transport);
        let port = listener.local_address().port();
        // By name: resolved by the runtime, on a thread it keeps for what blocks.
        move || {
            block_on(async {
                let near = transport.open_channel(&endpoint("localhost", port)).unwrap();
                near.connected().await.unwrap();
                near.write_all(b"hello").await.unwrap();
                near.finish();
                near.read(&mut [0; 8]).await
            })
        }
    });
    block_on(async {
        let near = listener.accept().await.unwrap();
        let (mut buf, mut all) = ([0; 8], Vec::new());
        while let read @ 1.. = near.read(&mut buf).await.unwrap() {
            all.extend_from_slice(&buf[..read]);
        }
        assert_eq!(all, b"hello");
    });
    assert_eq!(far.join().unwrap(), Ok(0));
}

/// The smallest executor: a parked thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
        std::thread::park();
    }
}

#[tokio::test]
async fn failed_dials_and_binds_say_which_address_and_why() {
    let transport = TokioTcpTransport::try_current().unwrap();
    let dial = async |endpoint: TransportEndpoint| {
        transport.open_channel(&endpoint).unwrap().connected().await.unwrap_err()
    };
    let unknown = Authority::new("no-such-host.invalid", 25520);
    let error = dial(TransportEndpoint::new(unknown.clone())).await;
    assert!(matches!(&error, TransportError::NameNotFound { address, .. } if *address == unknown), "{error}");
    // A timeout beyond the clock is no panic.
    let free = transport.spawn_listener(&TransportBind::new("127.0.0.1", 0)).unwrap().local_address();
    let error = dial(TransportEndpoint::new(free.clone()).with_connect_timeout(Duration::MAX)).await;
    assert_eq!(error, TransportError::Refused { address: free });

    let bind = |host: &str| transport.spawn_listener(&TransportBind::new(host, 0)).unwrap_err();
    assert!(matches!(bind("no-such-host.invalid"), TransportError::NameNotFound { .. }));
    // An address for documentation, which no host has.
    let error = bind("192.0.2.1");
    assert!(matches!(error, TransportError::AddressNotAvailable { .. }), "{error}");
    assert!(error.to_string().starts_with("192.0.2.1:0 cannot be bound here: "), "{error}");
}

/// A backlog that is full leaves dials unanswered, as a paused process does: the timeout ends them, and they
/// are not taken for refused.
///
/// The backlog of one is Linux's; elsewhere it may be rounded up.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_unanswered_dial_ends_with_its_timeout() {
    let transport = TokioTcpTransport::try_current().unwrap();
    let bind = TransportBind::new("127.0.0.1", 0).with_backlog(1);
    let listener = transport.spawn_listener(&bind).unwrap();
    let address = listener.local_address();
    let after = Duration::from_millis(50);
    let mut made = Vec::new();
    let error = loop {
        let remote = TransportEndpoint::new(address.clone()).with_connect_timeout(after);
        let channel = transport.open_channel(&remote).unwrap();
        match channel.connected().await {
            Ok(()) => made.push(channel),
            Err(error) => break error,
        }
        assert!(made.len() < 8, "the backlog asked for");
    };
    assert_eq!(error, TransportError::TimedOut { address, after });
}

/// The listener outlives the process running out of descriptors (threat T12). The limit is the
/// process's, so the test runs itself again in a child with few of them.
#[cfg(unix)]
#[test]
fn accepting_goes_on_after_descriptors_ran_out() {
    const CHILD: &str = "NEXUS_TEST_DESCRIPTORS_LIMITED";
    if std::env::var_os(CHILD).is_none() {
        let name = "accepting_goes_on_after_descriptors_ran_out";
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("accepted after exhaustion"), "{text}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let transport = TokioTcpTransport::try_current().unwrap();
        let listener = transport.spawn_listener(&TransportBind::new("127.0.0.1", 0)).unwrap();
        let remote = TransportEndpoint::new(listener.local_address());
        let waiting = transport.open_channel(&remote).unwrap();
        waiting.connected().await.unwrap();
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        let error = listener.accept().await.map(drop).unwrap_err();
        assert!(matches!(error, TransportError::Io { .. }), "{error}");
        // Rests rather than spins: the failure is not reported again at once.
        let again =
            std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_pending())).await;
        assert!(again);
        drop(hoard);
        let far = listener.accept().await.unwrap();
        far.write_all(b"x").await.unwrap();
        assert_eq!(waiting.read(&mut [0; 8]).await, Ok(1));
        println!("accepted after exhaustion");
    });
}
