//! The faults of a fault link, each on loopback and on TCP.
#![allow(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::unwrap_used, reason = "a test")]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use nexus_actor_core::path::Authority;
use nexus_remote::backpressure::{BackpressureHook, BackpressureSignal};
use nexus_remote::transport::{
    LoopbackNetwork, LoopbackTransport, RemoteTransport, TokioTcpTransport, TransportBind, TransportChannel,
    TransportEndpoint, TransportError, TransportHandle,
};
use nexus_testkit::{Cut, DialFate, Direction, FaultControl, FaultLink};

fn loopback() -> Arc<dyn RemoteTransport> {
    Arc::new(LoopbackTransport::new(&LoopbackNetwork::new()))
}

/// A node behind a fault link, and a peer without one that it has dialled.
struct Setup {
    link: FaultLink,
    control: FaultControl,
    peer: TransportHandle,
    near: TransportChannel,
    far: TransportChannel,
}

impl Setup {
    async fn new(inner: Arc<dyn RemoteTransport>) -> Self {
        let peer = inner.spawn_listener(&TransportBind::new("127.0.0.1", 0)).unwrap();
        let link = FaultLink::new(inner);
        let control = link.control();
        let (near, far) = connect(&link, &peer).await;
        Self { link, control, peer, near, far }
    }

    fn reset(&self) -> TransportError {
        TransportError::Reset { address: self.peer.local_address() }
    }
}

fn dial(link: &FaultLink, address: &Authority) -> TransportChannel {
    link.open_channel(&TransportEndpoint::new(address.clone())).unwrap()
}

async fn connect(link: &FaultLink, peer: &TransportHandle) -> (TransportChannel, TransportChannel) {
    let near = dial(link, &peer.local_address());
    near.connected().await.unwrap();
    (near, peer.accept().await.unwrap())
}

async fn check<F: Future<Output = ()>>(case: impl Fn(Setup) -> F) {
    let tcp = Arc::new(TokioTcpTransport::try_current().unwrap());
    for (name, transport) in [("loopback", loopback()), ("tcp", tcp)] {
        println!("on {name}");
        case(Setup::new(transport).await).await;
    }
}

/// Polls a future once and drops it.
async fn touch<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

async fn read_to_end(channel: &TransportChannel) -> Result<Vec<u8>, TransportError> {
    let (mut all, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        match channel.read(&mut buf).await? {
            0 => return Ok(all),
            read => all.extend_from_slice(&buf[..read]),
        }
    }
}

#[tokio::test]
async fn without_faults_bytes_pass_and_are_counted() {
    check(|s| async move {
        s.near.write_all(b"there").await.unwrap();
        s.near.finish();
        assert_eq!(read_to_end(&s.far).await.unwrap(), b"there");
        s.far.write_all(b"and back").await.unwrap();
        s.far.finish();
        assert_eq!(read_to_end(&s.near).await.unwrap(), b"and back");
        let counts = s.control.counts();
        assert_eq!((counts.bytes_outbound, counts.bytes_inbound), (5, 8));
        assert_eq!((counts.dialled, counts.accepted, counts.live), (1, 0, 1));
        drop(s.near);
        assert_eq!(s.control.counts().live, 0);
    })
    .await;
}

#[tokio::test]
async fn a_reset_breaks_every_connection_at_both_ends_and_spares_the_next() {
    check(|s| async move {
        let waiting = tokio::spawn({
            let near = s.near.clone();
            async move { near.read(&mut [0; 8]).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(s.control.cut(Cut::Reset), 1);
        assert_eq!(waiting.await.unwrap(), Err(s.reset()));
        assert_eq!(s.near.write(b"x").await, Err(s.reset()));
        assert!(matches!(s.far.read(&mut [0; 8]).await, Err(TransportError::Reset { .. })));
        assert_eq!(s.control.cut(Cut::Reset), 0, "a cut connection is not cut again");
        let (near, far) = connect(&s.link, &s.peer).await;
        near.write_all(b"anew").await.unwrap();
        near.close();
        assert_eq!(read_to_end(&far).await.unwrap(), b"anew");
        assert_eq!(s.control.counts().cut, 1);
    })
    .await;
}

#[tokio::test]
async fn a_cut_falls_on_the_very_byte() {
    check(|s| async move {
        s.control.cut_after(10, Cut::Close);
        assert_eq!(s.near.write(b"seven..").await, Ok(7));
        assert_eq!(s.near.write(b"eleven bytes").await, Ok(3), "as far as the cut");
        assert_eq!(s.near.write(b"x").await, Err(s.reset()));
        assert_eq!(read_to_end(&s.far).await.unwrap(), b"seven..ele");

        let (near, far) = connect(&s.link, &s.peer).await;
        s.control.cut_after(1, Cut::Reset);
        s.control.spare();
        near.write_all(b"spared").await.unwrap();
        near.close();
        assert_eq!(read_to_end(&far).await.unwrap(), b"spared");
    })
    .await;
}

#[tokio::test]
async fn seeded_cuts_repeat() {
    async fn lengths(seed: u64) -> Vec<usize> {
        let s = Setup::new(loopback()).await;
        s.control.cut_each_after(seed, 1..1000);
        let mut lengths = Vec::new();
        for _ in 0..20 {
            let (near, _far) = connect(&s.link, &s.peer).await;
            let mut length = 0;
            while let Ok(written) = near.write(&[0; 64]).await {
                length += written;
            }
            assert!((1..1000).contains(&length), "{length}");
            lengths.push(length);
        }
        lengths
    }
    let first = lengths(7).await;
    assert_eq!(lengths(7).await, first);
    assert_ne!(lengths(8).await, first);
}

#[tokio::test]
async fn dials_are_refused_or_held_and_the_peer_sees_none_of_them() {
    check(|s| async move {
        let address = s.peer.local_address();
        s.control.set_dials(DialFate::Refuse);
        let refused = dial(&s.link, &address).connected().await;
        assert_eq!(refused, Err(TransportError::Refused { address: address.clone() }));

        s.control.set_dials(DialFate::Hold);
        let held = dial(&s.link, &address);
        let connected = tokio::spawn({
            let held = held.clone();
            async move { held.connected().await }
        });
        let given_up = dial(&s.link, &address);
        assert!(touch(given_up.connected()).await.is_pending());
        assert!(matches!(given_up.write(b"x").await, Err(TransportError::NotConnected { .. })));
        given_up.close();
        assert!(matches!(given_up.connected().await, Err(TransportError::Closed { .. })));
        assert!(touch(s.peer.accept()).await.is_pending());
        assert!(!connected.is_finished());

        s.control.set_dials(DialFate::Pass);
        connected.await.unwrap().unwrap();
        s.peer.accept().await.unwrap();
        let counts = s.control.counts();
        assert_eq!((counts.refused, counts.dialled), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_stall_is_one_way_and_its_end_wakes() {
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<BackpressureSignal>>>);
    impl BackpressureHook for Heard {
        fn on_signal(&self, signal: BackpressureSignal, _: &str) {
            self.0.lock().unwrap().push(signal);
        }
    }
    check(|s| async move {
        let heard = Heard::default();
        s.link.install_backpressure_hook(Box::new(heard.clone()));

        s.control.stall(Direction::Inbound);
        s.far.write_all(b"unheard").await.unwrap();
        assert!(touch(s.near.read(&mut [0; 8])).await.is_pending());
        s.near.write_all(b"heard").await.unwrap();
        let mut buf = [0; 8];
        assert_eq!(s.far.read(&mut buf).await, Ok(5));
        let reader = tokio::spawn({
            let near = s.near.clone();
            async move { read_to_end(&near).await }
        });
        s.far.finish();
        tokio::task::yield_now().await;
        assert!(!reader.is_finished(), "the end does not pass a stall either");
        s.control.pass(Direction::Inbound);
        assert_eq!(reader.await.unwrap().unwrap(), b"unheard");

        s.control.stall(Direction::Outbound);
        s.control.allow(Direction::Outbound, 3);
        assert_eq!(s.near.write(b"four").await, Ok(3));
        assert_eq!(
            s.link.send(&s.near, b"x").map_err(|e| matches!(e, TransportError::NoRoom { .. })),
            Err(true)
        );
        let writer = tokio::spawn({
            let near = s.near.clone();
            async move { near.write(b"later").await }
        });
        tokio::task::yield_now().await;
        assert!(!writer.is_finished());
        assert_eq!(*heard.0.lock().unwrap(), [BackpressureSignal::Warning]);
        s.control.pass(Direction::Outbound);
        assert_eq!(writer.await.unwrap(), Ok(5));
        assert_eq!(*heard.0.lock().unwrap(), [BackpressureSignal::Warning, BackpressureSignal::Normal]);

        // Closing wakes what the link holds.
        s.control.stall(Direction::Outbound);
        let writer = tokio::spawn({
            let near = s.near.clone();
            async move { near.write(b"never").await }
        });
        tokio::task::yield_now().await;
        s.near.close();
        assert!(matches!(writer.await.unwrap(), Err(TransportError::Closed { .. })));
    })
    .await;
}

#[tokio::test]
async fn throttled_and_delayed_bytes_arrive_all_the_same() {
    check(|s| async move {
        s.control.throttle(Some(1));
        s.control.delay(3);
        assert!(touch(s.near.write(b"abc")).await.is_pending());
        assert!(touch(s.near.write(b"abc")).await.is_pending());
        assert!(touch(s.near.write(b"abc")).await.is_pending());
        assert_eq!(touch(s.near.write(b"abc")).await, Poll::Ready(Ok(1)));
        s.near.write_all(b"bc").await.unwrap();
        s.far.write_all(b"xyz").await.unwrap();
        let mut buf = [0; 8];
        for letter in *b"xyz" {
            assert_eq!(s.near.read(&mut buf).await, Ok(1));
            assert_eq!(buf[0], letter);
        }
        s.near.close();
        assert_eq!(read_to_end(&s.far).await.unwrap(), b"abc");
    })
    .await;
}

#[tokio::test]
async fn accepted_connections_suffer_as_dialled_ones() {
    let network = LoopbackNetwork::new();
    let plain: Arc<dyn RemoteTransport> = Arc::new(LoopbackTransport::new(&network));
    let link = FaultLink::new(Arc::clone(&plain));
    let control = link.control();
    let listener = link.spawn_listener(&TransportBind::new("node", 0)).unwrap();
    let far = plain.open_channel(&TransportEndpoint::new(listener.local_address())).unwrap();
    far.connected().await.unwrap();
    let near = listener.accept().await.unwrap();
    assert_eq!(control.counts().accepted, 1);
    control.stall(Direction::Inbound);
    far.write_all(b"x").await.unwrap();
    assert!(touch(near.read(&mut [0; 8])).await.is_pending());
    control.cut(Cut::Reset);
    assert!(matches!(near.read(&mut [0; 8]).await, Err(TransportError::Reset { .. })));
    assert!(matches!(far.read(&mut [0; 8]).await, Err(TransportError::Reset { .. })));
}
