//! What every transport promises, checked on each of them through the trait alone.
#![cfg(feature = "std")]
#![allow(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::unwrap_used, reason = "a test")]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use nexus_actor_core::path::Authority;
use nexus_remote::backpressure::{BackpressureHook, BackpressureSignal};
use nexus_remote::transport::{
    LoopbackNetwork, LoopbackTransport, RemoteTransport, TokioTcpTransport, TransportBind, TransportChannel,
    TransportEndpoint, TransportError, TransportFactory, TransportHandle,
};

const HOST: &str = "127.0.0.1";

fn tcp() -> Arc<dyn RemoteTransport> {
    Arc::new(TokioTcpTransport::try_current().unwrap())
}

fn loopback() -> Arc<dyn RemoteTransport> {
    Arc::new(LoopbackTransport::new(&LoopbackNetwork::new()))
}

/// Runs one case on every transport.
async fn check<F: Future<Output = ()>>(case: impl Fn(Arc<dyn RemoteTransport>) -> F) {
    for (name, transport) in [("loopback", loopback()), ("tcp", tcp())] {
        println!("on {name}");
        case(transport).await;
    }
}

fn listen(transport: &Arc<dyn RemoteTransport>) -> TransportHandle {
    transport.spawn_listener(&TransportBind::new(HOST, 0)).unwrap()
}

fn dial(transport: &Arc<dyn RemoteTransport>, address: &Authority) -> TransportChannel {
    transport.open_channel(&TransportEndpoint::new(address.clone())).unwrap()
}

async fn pair(transport: &Arc<dyn RemoteTransport>) -> (TransportHandle, TransportChannel, TransportChannel) {
    let listener = listen(transport);
    let near = dial(transport, &listener.local_address());
    near.connected().await.unwrap();
    let far = listener.accept().await.unwrap();
    far.connected().await.unwrap();
    (listener, near, far)
}

async fn read_to_end(channel: &TransportChannel) -> Result<Vec<u8>, TransportError> {
    let (mut all, mut buf) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match channel.read(&mut buf).await? {
            0 => return Ok(all),
            read => all.extend_from_slice(&buf[..read]),
        }
    }
}

async fn read_exact(channel: &TransportChannel, length: usize) -> Vec<u8> {
    let mut all = vec![0; length];
    let mut at = 0;
    while at < length {
        let read = channel.read(&mut all[at..]).await.unwrap();
        assert_ne!(read, 0, "ended after {at} of {length}");
        at += read;
    }
    all
}

/// Polls a future once and drops it.
async fn touch<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Writes until nothing more fits, and says how much did. Pending is asked again: tokio also says so when a
/// task's budget is used up, and a kernel may find more room once its acknowledgements are in.
async fn fill(channel: &TransportChannel) -> usize {
    let block = vec![7; 64 * 1024];
    let (mut written, mut quiet) = (0, 0);
    while quiet < 200 {
        match touch(channel.write(&block)).await {
            Poll::Ready(more) => (written, quiet) = (written + more.unwrap(), 0),
            Poll::Pending => quiet += 1,
        }
        tokio::task::yield_now().await;
    }
    written
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|i| (i.wrapping_mul(31).wrapping_add(i >> 11).wrapping_add(seed)) as u8).collect()
}

/// Covers: TR-02, TR-03, TR-04, TR-09, API-51
#[tokio::test]
async fn a_dial_reaches_the_listener_and_each_end_knows_both_addresses() {
    check(|transport| async move {
        let (listener, near, far) = pair(&transport).await;
        let bound = listener.local_address();
        assert_ne!(bound.port(), 0, "the port that was drawn");
        assert_eq!(near.peer_address(), Some(bound.clone()));
        assert_eq!(far.local_address(), Some(bound));
        assert_eq!(far.peer_address(), near.local_address());
    })
    .await;
}

#[tokio::test]
async fn a_dial_is_refused_where_nobody_listens() {
    check(|transport| async move {
        let listener = listen(&transport);
        let address = listener.local_address();
        drop(listener);
        let channel = dial(&transport, &address);
        let refused = Err(TransportError::Refused { address });
        assert_eq!(channel.connected().await, refused);
        assert_eq!(channel.connected().await, refused, "and stays so");
        assert_eq!(channel.write(b"x").await.map(drop), refused);
    })
    .await;
}

/// Ten mebibytes each way at once, each direction held up by the other's pace, driven by one task per end.
///
/// Covers: ROLE-58
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_mebibytes_pass_unchanged_both_ways_from_one_task() {
    const LENGTH: usize = 10 * 1024 * 1024;
    async fn exchange(channel: TransportChannel, ours: Vec<u8>, theirs: Vec<u8>) {
        let (mut sent, mut received, mut finished) = (0, Vec::with_capacity(LENGTH), false);
        let mut buf = vec![0; 48 * 1024];
        poll_fn(|cx| {
            loop {
                let mut moved = false;
                if sent < ours.len() {
                    let end = ours.len().min(sent + 100_000);
                    if let Poll::Ready(written) = channel.poll_write(cx, &ours[sent..end]) {
                        sent += written.unwrap();
                        moved = true;
                    }
                } else if !finished {
                    channel.finish();
                    finished = true;
                }
                if let Poll::Ready(read) = channel.poll_read(cx, &mut buf) {
                    match read.unwrap() {
                        0 if finished => return Poll::Ready(()),
                        0 => {}
                        read => {
                            received.extend_from_slice(&buf[..read]);
                            moved = true;
                        }
                    }
                }
                if !moved {
                    return Poll::Pending;
                }
            }
        })
        .await;
        assert!(received == theirs, "{} of {} bytes, or changed", received.len(), theirs.len());
    }
    check(|transport| async move {
        let (_listener, near, far) = pair(&transport).await;
        let (a, b) = (pattern(LENGTH, 1), pattern(LENGTH, 2));
        let one = tokio::spawn(exchange(near, a.clone(), b.clone()));
        let other = tokio::spawn(exchange(far, b, a));
        one.await.unwrap();
        other.await.unwrap();
    })
    .await;
}

/// Covers: BP-42, TR-07
#[tokio::test]
async fn the_hook_hears_of_each_stall_and_of_its_end() {
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<(BackpressureSignal, String)>>>);
    impl BackpressureHook for Heard {
        fn on_signal(&self, signal: BackpressureSignal, authority: &str) {
            self.0.lock().unwrap().push((signal, authority.to_string()));
        }
    }
    impl Heard {
        /// Warning and normal take turns, all of them about `peer`; says which came last.
        #[track_caller]
        fn last(&self, peer: &str) -> BackpressureSignal {
            let heard = self.0.lock().unwrap();
            for (at, (signal, authority)) in heard.iter().enumerate() {
                let turn = if at % 2 == 0 { BackpressureSignal::Warning } else { BackpressureSignal::Normal };
                assert_eq!((*signal, authority.as_str()), (turn, peer));
            }
            heard.last().unwrap().0
        }
    }
    check(|transport| async move {
        let heard = Heard::default();
        transport.install_backpressure_hook(Box::new(heard.clone()));
        let (listener, near, far) = pair(&transport).await;
        let peer = listener.local_address().to_string();
        let written = fill(&near).await;
        assert_eq!(heard.last(&peer), BackpressureSignal::Warning);
        let (rest, read) = tokio::join!(near.write_all(b"on"), read_exact(&far, written + 2));
        rest.unwrap();
        assert_eq!(&read[written..], b"on");
        assert_eq!(heard.last(&peer), BackpressureSignal::Normal);
        fill(&near).await;
        assert_eq!(heard.last(&peer), BackpressureSignal::Warning);
        drop(near);
        assert_eq!(
            heard.last(&peer),
            BackpressureSignal::Normal,
            "the end of a stalled channel ends the stall"
        );
    })
    .await;
}

#[tokio::test]
async fn a_finished_direction_is_read_to_its_end_while_the_other_goes_on() {
    check(|transport| async move {
        let (_listener, near, far) = pair(&transport).await;
        near.write_all(b"last words").await.unwrap();
        near.finish();
        assert!(matches!(near.write(b"x").await, Err(TransportError::Closed { .. })));
        assert_eq!(read_to_end(&far).await.unwrap(), b"last words");
        assert_eq!(far.read(&mut [0; 8]).await, Ok(0), "the end stays");
        far.write_all(b"answer").await.unwrap();
        far.finish();
        assert_eq!(read_to_end(&near).await.unwrap(), b"answer");
    })
    .await;
}

#[tokio::test]
async fn a_closed_channel_delivers_what_was_written_and_drop_closes() {
    check(|transport| async move {
        let (listener, near, far) = pair(&transport).await;
        near.write_all(b"before").await.unwrap();
        transport.close(near.clone());
        assert!(matches!(near.read(&mut [0; 8]).await, Err(TransportError::Closed { .. })));
        assert!(matches!(near.write(b"x").await, Err(TransportError::Closed { .. })));
        assert_eq!(read_to_end(&far).await.unwrap(), b"before");

        let near = dial(&transport, &listener.local_address());
        near.connected().await.unwrap();
        let far = listener.accept().await.unwrap();
        drop(near);
        assert_eq!(far.read(&mut [0; 8]).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn an_aborted_connection_is_reset_for_a_waiting_reader_and_for_writers() {
    check(|transport| async move {
        let (_listener, near, far) = pair(&transport).await;
        let peer = far.peer_address().unwrap();
        let waiting = tokio::spawn({
            let far = far.clone();
            async move { far.read(&mut [0; 8]).await }
        });
        tokio::task::yield_now().await;
        near.abort();
        assert_eq!(waiting.await.unwrap(), Err(TransportError::Reset { address: peer.clone() }));
        assert_eq!(far.write(b"x").await, Err(TransportError::Reset { address: peer }));
        assert!(matches!(near.read(&mut [0; 8]).await, Err(TransportError::Closed { .. })));
    })
    .await;
}

#[tokio::test]
async fn close_wakes_this_sides_waiting_reader_and_writer() {
    check(|transport| async move {
        let (_listener, near, _far) = pair(&transport).await;
        fill(&near).await;
        let reader = tokio::spawn({
            let near = near.clone();
            async move { near.read(&mut [0; 8]).await }
        });
        let writer = tokio::spawn({
            let near = near.clone();
            async move { near.write(b"x").await }
        });
        tokio::task::yield_now().await;
        near.close();
        assert!(matches!(reader.await.unwrap(), Err(TransportError::Closed { .. })));
        assert!(matches!(writer.await.unwrap(), Err(TransportError::Closed { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_cause_and_free_at_once_when_closed() {
    check(|transport| async move {
        let (listener, _near, far) = pair(&transport).await;
        let bound = listener.local_address();
        let bind = TransportBind::new(bound.host(), bound.port());
        match transport.spawn_listener(&bind) {
            Err(TransportError::AddressInUse { address, cause }) => {
                assert_eq!(address, bound);
                assert!(!cause.is_empty());
            }
            other => panic!("{other:?}"),
        }
        listener.close();
        // A connection accepted from it lives on, and does not hold the port.
        let again = transport.spawn_listener(&bind).unwrap();
        assert_eq!(again.local_address(), bound);
        listener.close();
        let near = dial(&transport, &bound);
        near.connected().await.unwrap();
        again.accept().await.unwrap();
        far.write_all(b"still here").await.unwrap();
        drop(again);
        drop(transport.spawn_listener(&bind).unwrap());
    })
    .await;
}

#[tokio::test]
async fn close_wakes_a_waiting_accept_and_resets_whom_nobody_accepted() {
    check(|transport| async move {
        let listener = Arc::new(listen(&transport));
        let address = listener.local_address();
        let waiting = tokio::spawn({
            let listener = Arc::clone(&listener);
            async move { listener.accept().await.map(drop) }
        });
        tokio::task::yield_now().await;
        listener.close();
        assert_eq!(waiting.await.unwrap(), Err(TransportError::Closed { address: address.clone() }));
        assert_eq!(listener.accept().await.map(drop), Err(TransportError::Closed { address }));

        let listener = listen(&transport);
        let near = dial(&transport, &listener.local_address());
        near.connected().await.unwrap();
        drop(listener);
        assert!(matches!(near.read(&mut [0; 8]).await, Err(TransportError::Reset { .. })));
    })
    .await;
}

/// A future dropped at every poll loses neither a connection, nor a byte, nor a wake-up.
#[tokio::test]
async fn dropped_and_renewed_futures_lose_nothing() {
    check(|transport| async move {
        let listener = listen(&transport);
        assert!(touch(listener.accept()).await.is_pending());
        let near = dial(&transport, &listener.local_address());
        let _ = touch(near.connected()).await;
        let _ = touch(near.connected()).await;
        near.connected().await.unwrap();
        let far = loop {
            match touch(listener.accept()).await {
                Poll::Ready(far) => break far.unwrap(),
                Poll::Pending => tokio::task::yield_now().await,
            }
        };
        let sent = pattern(3 * 1024 * 1024, 3);
        let (mut at, mut received, mut buf) = (0, Vec::new(), vec![0; 7_777]);
        while received.len() < sent.len() {
            let end = sent.len().min(at + 9_999);
            if at < sent.len()
                && let Poll::Ready(written) = touch(near.write(&sent[at..end])).await
            {
                at += written.unwrap();
            }
            if let Poll::Ready(read) = touch(far.read(&mut buf)).await {
                received.extend_from_slice(&buf[..read.unwrap()]);
            }
            tokio::task::yield_now().await;
        }
        assert!(received == sent, "changed on the way");
    })
    .await;
}

/// Covers: TR-05, TR-06
#[tokio::test]
async fn a_one_off_send_is_whole_or_refused() {
    check(|transport| async move {
        let (_listener, near, far) = pair(&transport).await;
        transport.send(&near, b"refusal").unwrap();
        assert_eq!(read_exact(&far, 7).await, b"refusal");
        let written = fill(&near).await;
        let peer = near.peer_address().unwrap();
        assert_eq!(transport.send(&near, b"more"), Err(TransportError::NoRoom { address: peer }));
        assert_eq!(read_exact(&far, written).await.len(), written);
        transport.close(near);
        assert_eq!(far.read(&mut [0; 8]).await, Ok(0), "nothing of the refused send was written");
    })
    .await;
}

/// Covers: TR-14, TR-15, TR-18
#[tokio::test]
async fn the_factory_makes_what_the_scheme_names_and_says_what_it_knows() {
    let network = LoopbackNetwork::new();
    let factory = TransportFactory::default()
        .with_loopback(&network)
        .with_transport("pigeon", || Err(TransportError::NoRuntime { scheme: "pigeon".to_string() }));
    for scheme in ["fraktor.tcp", "fraktor.loopback"] {
        assert_eq!(factory.create(scheme).unwrap().scheme(), scheme);
    }
    assert!(matches!(factory.create("pigeon").map(drop), Err(TransportError::NoRuntime { .. })));
    assert_eq!(
        factory.create("carrier").map(drop),
        Err(TransportError::NotAvailable {
            scheme: "carrier".to_string(),
            known: "fraktor.loopback, fraktor.tcp, pigeon".to_string()
        })
    );
    // Two transports made for one network reach each other.
    let (one, other) =
        (factory.create("fraktor.loopback").unwrap(), factory.create("fraktor.loopback").unwrap());
    let listener = listen(&one);
    dial(&other, &listener.local_address()).connected().await.unwrap();
    listener.accept().await.unwrap();
    // Those of another network do not.
    let elsewhere = dial(&loopback(), &listener.local_address());
    assert!(matches!(elsewhere.connected().await, Err(TransportError::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ping_pong_across_threads_misses_no_wake_up() {
    check(|transport| async move {
        let (_listener, near, far) = pair(&transport).await;
        let echo = tokio::spawn(async move {
            let mut buf = [0; 16];
            while let Ok(read @ 1..) = far.read(&mut buf).await {
                far.write_all(&buf[..read]).await.unwrap();
            }
        });
        let driver = tokio::spawn(async move {
            for round in 0..10_000_u32 {
                near.write_all(&round.to_le_bytes()).await.unwrap();
                assert_eq!(read_exact(&near, 4).await, round.to_le_bytes());
            }
        });
        driver.await.unwrap();
        echo.await.unwrap();
    })
    .await;
}

/// Closing races with polls on other threads: whoever waits is told, whichever comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_close_from_another_thread_is_never_missed() {
    check(|transport| async move {
        for round in 0..300_u32 {
            let (listener, near, far) = pair(&transport).await;
            let listener = Arc::new(listener);
            let reader = tokio::spawn({
                let near = near.clone();
                async move { read_to_end(&near).await.unwrap_err() }
            });
            let writer = tokio::spawn({
                let near = near.clone();
                async move {
                    loop {
                        if let Err(error) = near.write(&[0; 64 * 1024]).await {
                            break error;
                        }
                    }
                }
            });
            let acceptor = tokio::spawn({
                let listener = Arc::clone(&listener);
                async move { listener.accept().await.map(drop).unwrap_err() }
            });
            let closer = tokio::spawn(async move {
                for _ in 0..round % 7 {
                    tokio::task::yield_now().await;
                }
                near.close();
                listener.close();
            });
            for waiting in [reader, writer, acceptor] {
                let error = waiting.await.unwrap();
                assert!(matches!(error, TransportError::Closed { .. }), "{error}");
            }
            closer.await.unwrap();
            drop(far);
        }
    })
    .await;
}
