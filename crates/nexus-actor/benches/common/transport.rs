//! Bytes through the transports, without frames.

use core::future::poll_fn;
use core::time::Duration;
use std::time::Instant;

use nexus_actor::remote::transport::{
    LoopbackNetwork, LoopbackTransport, RemoteTransport, TokioTcpTransport, TransportBind, TransportChannel,
    TransportEndpoint,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of one write.
const CHUNK: usize = 64 * 1024;

async fn pump(from: TransportChannel, to: TransportChannel, n: u64) -> Duration {
    let start = Instant::now();
    tokio::spawn(async move {
        let chunk = vec![7; CHUNK];
        for _ in 0..n {
            from.write_all(&chunk).await.expect("writes");
        }
        from.finish();
        // Held until the peer has read the end.
        let _ = from.read(&mut [0]).await;
    });
    let mut buffer = vec![0; CHUNK];
    let mut left = n as usize * CHUNK;
    while left > 0 {
        left -= to.read(&mut buffer).await.expect("reads");
    }
    start.elapsed()
}

async fn through(transport: &dyn RemoteTransport, n: u64) -> Duration {
    let listener = transport.spawn_listener(&TransportBind::new("127.0.0.1", 0)).expect("listens");
    let opened = transport.open_channel(&TransportEndpoint::new(listener.local_address())).expect("dials");
    let connecting = opened.clone();
    let dial = tokio::spawn(async move { connecting.connected().await });
    let accepted = poll_fn(|cx| listener.poll_accept(cx)).await.expect("accepts");
    dial.await.expect("no panic").expect("connects");
    pump(opened, accepted, n).await
}

/// `n` chunks through TCP.
pub(crate) async fn tcp(n: u64) -> Duration {
    through(&TokioTcpTransport::try_current().expect("inside a runtime"), n).await
}

/// `n` chunks through the loopback.
pub(crate) async fn loopback(n: u64) -> Duration {
    through(&LoopbackTransport::new(&LoopbackNetwork::new()), n).await
}

/// The floor of [`pump`].
async fn pump_floor<S>(mut opened: S, mut accepted: S, n: u64) -> Duration
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let start = Instant::now();
    tokio::spawn(async move {
        let chunk = vec![7; CHUNK];
        for _ in 0..n {
            opened.write_all(&chunk).await.expect("writes");
        }
    });
    let mut buffer = vec![0; CHUNK];
    let mut left = n as usize * CHUNK;
    while left > 0 {
        left -= accepted.read(&mut buffer).await.expect("reads");
    }
    start.elapsed()
}

/// The floor of [`tcp`]: tokio's own streams.
pub(crate) async fn tcp_floor(n: u64) -> Duration {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("is bound");
    let dial = tokio::spawn(tokio::net::TcpStream::connect(address));
    let (accepted, _) = listener.accept().await.expect("accepts");
    let opened = dial.await.expect("no panic").expect("connects");
    opened.set_nodelay(true).expect("is TCP");
    pump_floor(opened, accepted, n).await
}

/// The floor of [`loopback`]: tokio's in-memory pipe with the same room.
pub(crate) async fn loopback_floor(n: u64) -> Duration {
    let (opened, accepted) = tokio::io::duplex(256 * 1024);
    pump_floor(opened, accepted, n).await
}
