//! The end of a node that has not begun, or is in the middle of something.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use nexus_actor_core::pid::Pid;
use nexus_remote_grpc::{Config, ConfigOption, Remote, RemoteError};
use support::raw::{self, Manners, RawCall, RawServer, eventually, server_hello};
use support::{Echo, TestNode, nowhere, system, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// On the port of `address`, which nobody else draws: it is of [`nowhere`].
fn at(address: &str) -> Config {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    Config::new(host, port.parse().expect("a port"))
}

/// A new node is there at once, and serves.
async fn serves_at(address: &str, what: &str) {
    let next = system("next");
    let remote = Remote::start(&next, at(address)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut call = RawCall::open(remote.address(), server_hello("raw", "127.0.0.1:1")).await.expect("a call");
    assert!(!call.response().await.expect("an answer").blocked, "{what}");
    drop(call);
    within(what, next.shutdown()).await.expect("an orderly end");
}

/// Whichever comes first: no node is left, its start says so, and its port is free.
///
/// Covers: S111
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_that_ends_while_its_node_starts_leaves_none() {
    let address = nowhere();
    for round in 0..200_u32 {
        let system = system("brief");
        let starting = {
            let (system, config) = (system.clone(), at(&address));
            tokio::spawn(async move { Remote::start(&system, config).await })
        };
        // Later and later, so that every step of the start is met.
        for _ in 0..round * 20 {
            std::hint::spin_loop();
        }
        within("the end of the system", system.shutdown()).await.expect("an orderly end");
        match starting.await.expect("no panic") {
            Ok(remote) => {
                // Nobody ends it but the system.
                eventually("its end", || remote.tasks() == 0).await;
                assert!(remote.resolve::<Echo>(&Pid::new("127.0.0.1:1", "x")).is_err(), "round {round}");
            }
            Err(RemoteError::Shutdown | RemoteError::Spawn { .. }) => {}
            Err(error) => panic!("round {round}: {error}"),
        }
        drop(TcpListener::bind(&address).await.unwrap_or_else(|e| panic!("round {round}: {e}")));
    }
    serves_at(&address, "after them all").await;
}

/// Peers that are in the middle of saying hello hold up nothing: the end is one, the port is free, and what waited is recorded.
///
/// Covers: S111
#[tokio::test(flavor = "multi_thread")]
async fn an_end_amid_handshakes_is_one_and_frees_the_port() {
    let address = nowhere();
    for what in ["strangers call", "a call says nothing", "a dial is held", "a hello is not answered"] {
        let patient = [
            ConfigOption::with_shutdown_flush(Duration::from_millis(50)),
            ConfigOption::with_handshake_timeout(Duration::from_secs(60)),
        ];
        let a = TestNode::start("a", at(&address).with(patient)).await;
        let socket: SocketAddr = address.parse().expect("an address");
        // Whom the test holds at that step; it is let go only after the end.
        let mut sockets = Vec::new();
        let (mut silent, mut held, mut mute) = (None, None, None);
        match what {
            "strangers call" => {
                for opening in
                    [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"]
                {
                    let mut stream = TcpStream::connect(socket).await.expect("a connection");
                    stream.write_all(opening).await.expect("taken");
                    sockets.push(stream);
                }
            }
            "a call says nothing" => {
                let (up, messages) = tokio::sync::mpsc::unbounded_channel::<bytes::Bytes>();
                let mut client = nexus_remote_grpc::wire::remoting::RemotingClient::new(
                    raw::channel(&address).await,
                    raw::MESSAGE_BYTES,
                );
                let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(messages);
                let down = within("a call", client.receive(stream)).await.expect("a call").into_inner();
                silent = Some((up, down));
            }
            "a dial is held" => {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let there = listener.local_addr().expect("bound").to_string();
                a.at(&there, "who").tell(Echo::Note("waits".to_owned()));
                let (stream, _) = within("its dial", listener.accept()).await.expect("a connection");
                sockets.push(stream);
                held = Some(listener);
            }
            _ => {
                let mut server = RawServer::start(Manners { is_mute: true, ..Manners::default() }).await;
                a.at(&server.address(), "who").tell(Echo::Note("waits".to_owned()));
                server.next().await;
                mute = Some(server);
            }
        }
        let dialled = usize::from(held.is_some() || mute.is_some());
        let (one, other) = (a.remote.clone(), a.remote.clone());
        within(what, async { tokio::join!(one.shutdown(true), other.shutdown(false)) }).await;
        within(what, a.system.shutdown()).await.expect("an orderly end");
        within(what, a.remote.shutdown(true)).await;
        assert_eq!((a.remote.tasks(), a.remote.pending_asks()), (0, 0), "{what}");
        assert!(a.remote.manager().endpoints().is_empty(), "{what}");
        let lost = a.system.dead_letters().count(nexus_actor_core::DeadLetterReason::Shutdown);
        assert_eq!(lost, dialled as u64, "{what}");
        serves_at(&address, what).await;
        // They see their end.
        for mut stream in sockets {
            let _ = within(what, stream.read_to_end(&mut Vec::new())).await;
        }
        drop((silent, held, mute));
    }
}
