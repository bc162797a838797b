//! The figures of nodes over HTTP, and the dashboard that shows them.

#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod ear;

use std::net::SocketAddr;
use std::time::Duration;

use nexus_actor_core::ActorSystem;
use nexus_actor_core::runtime::PumpRuntime;
use nexus_remote::metrics::{HttpError, HttpOptions, HttpServer, MetricsRegistry, SERIES};
use nexus_testkit::SimNode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use ear::{Word, pair};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn serve(registry: &MetricsRegistry) -> HttpServer {
    HttpServer::bind(LOOPBACK.into(), registry.clone()).await.unwrap()
}

/// Head and body of the answer to one request.
async fn request(server: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {server}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(&mut stream).await
}

/// The server closes behind its answer.
async fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_string())
}

/// What two nodes have exchanged is in the figures of both, under the address of the other, and so are their dead letters.
///
/// Covers: TST-40, MET-01, MET-05, MET-07, OBS-06
#[tokio::test]
async fn the_figures_of_nodes_are_served() {
    let (sim, a, b) = pair(40, |config| config);
    let registry = MetricsRegistry::new();
    for node in [&a, &b] {
        registry.add_source(node.remoting().clone());
        registry.add_system(node.system());
    }
    let server = serve(&registry).await;
    let at = server.local_address();
    assert_eq!(request(at, "GET", "/endpoints").await.1, "{\"endpoints\":[]}\n");
    let to = a.system().resolve::<Word>(&b.url("/user/ear")).unwrap();
    let nobody = a.system().resolve::<Word>(&b.url("/user/nobody")).unwrap();
    for n in 0..5 {
        to.tell(Word(n));
        nobody.tell(Word(n));
    }
    sim.run(Duration::from_secs(1));

    let (head, text) = request(at, "GET", "/metrics").await;
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let value = |series: &str, labels: &str| -> u64 {
        let start = format!("{series}{{{labels}}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start} in {text}")).parse().unwrap()
    };
    let of = |series: &str, peer: &SimNode| {
        value(series, &format!("address=\"{}\",protocol=\"fraktor\"", peer.authority()))
    };
    assert_eq!(of("nexus_endpoint_sent_total", &b), 10);
    assert_eq!(of("nexus_endpoint_received_total", &a), 10);
    assert_eq!(
        (of("nexus_endpoint_queue_size", &b), of("nexus_endpoint_queue_capacity", &b)),
        (0, 1_000_000)
    );
    assert_eq!(value("nexus_deadletters_total", "reason=\"no such actor\""), 5);
    assert_eq!(value("nexus_deadletters_total", "reason=\"queue full\""), 0);
    assert!(text.ends_with("# EOF\n"));

    let (head, body) = request(at, "GET", "/endpoints").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    let endpoints = json["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 2);
    let to_b = endpoints.iter().find(|e| e["address"] == b.authority().to_string().as_str()).unwrap();
    assert_eq!((&to_b["state"], &to_b["protocol"]), (&"connected".into(), &"fraktor".into()));
    assert_eq!((&to_b["sent"], &to_b["queue_size"], &to_b["received"]), (&10.into(), &0.into(), &0.into()));
    for (method, path, status) in
        [("GET", "/", "404"), ("POST", "/metrics", "405"), ("GET", "/metrics/x", "404")]
    {
        assert!(
            request(at, method, path).await.0.starts_with(&format!("http/1.1 {status}")),
            "{method} {path}"
        );
    }
}

/// The server says when its system shuts down, and ends behind it: its port is free.
#[tokio::test]
async fn the_server_ends_with_its_system() {
    let (_sim, a, b) = pair(40, |config| config);
    let registry = MetricsRegistry::new();
    registry.add_system(a.system());
    registry.add_system(b.system());
    let watcher = serve(&registry).await;
    let at = watcher.local_address();
    assert_eq!(request(at, "GET", "/healthz").await.1, "ok\n");
    a.system().begin_shutdown();
    let (head, body) = request(at, "GET", "/healthz").await;
    assert!(head.starts_with("http/1.1 503") && body == "shutting down\n", "{head} {body}");
    watcher.shutdown().await;
    assert!(TcpStream::connect(at).await.is_err());

    let system = ActorSystem::builder("own").build().unwrap();
    let server = serve(&registry).await;
    let at = server.local_address();
    server.end_with(&system);
    assert!(TcpStream::connect(at).await.is_ok());
    system.shutdown().await.unwrap();
    assert!(TcpStream::connect(at).await.is_err());
    // Bound a second time, and ended by being dropped.
    let again = HttpServer::bind(at, registry.clone()).await.unwrap();
    let taken = HttpServer::bind(at, registry.clone()).await;
    assert!(matches!(taken, Err(HttpError::Bind { address, .. }) if address == at), "{taken:?}");
    drop(again);
}

/// Other hosts reach it only when somebody said that they may.
#[tokio::test]
async fn beyond_this_host_it_needs_to_be_allowed() {
    let registry = MetricsRegistry::new();
    for open in ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "[::ffff:10.0.0.1]:0"] {
        let refused = HttpServer::bind(open.parse().unwrap(), registry.clone()).await;
        assert!(matches!(refused, Err(HttpError::Exposed(_))), "{open}: {refused:?}");
    }
    let local = HttpServer::bind("127.9.9.9:0".parse().unwrap(), registry.clone()).await;
    assert!(matches!(local, Ok(_) | Err(HttpError::Bind { .. })), "{local:?}");
    let options = HttpOptions::default().with_insecure_plaintext(true);
    let open = HttpServer::bind_with("0.0.0.0:0".parse().unwrap(), registry, options).await.unwrap();
    assert!(open.local_address().ip().is_unspecified());
}

/// Who opens connections and says nothing is cut off, and holds nobody up for longer than that.
#[tokio::test(start_paused = true)]
async fn silent_connections_make_room_after_their_time() {
    let server = serve(&MetricsRegistry::new()).await;
    let at = server.local_address();
    let began = tokio::time::Instant::now();
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    let (head, _) = request(at, "GET", "/healthz").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11), "{waited:?}");
    for mut stream in silent {
        let read = stream.read(&mut [0; 1]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}

/// Nothing in the dashboard and in the alert rules is a series that is not exported, and every exported one is shown.
///
/// Covers: DASH-01, DASH-02
#[test]
fn the_dashboard_shows_what_is_exported() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/grafana/");
    let dashboard = std::fs::read_to_string(format!("{folder}nexus-endpoints.json")).unwrap();
    let alerts = std::fs::read_to_string(format!("{folder}nexus-alerts.yml")).unwrap();
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
    let system = ActorSystem::builder("exporter").with_runtime(PumpRuntime::new()).build().unwrap();
    let registry = MetricsRegistry::new();
    registry.add_system(&system);
    let exported = registry.encode();
    let names = |text: &str| -> Vec<String> {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        text.split(word)
            .filter(|name| name.starts_with("nexus_endpoint_") || name.starts_with("nexus_deadletters"))
            .map(str::to_string)
            .collect()
    };
    for (file, text) in [("dashboard", &dashboard), ("alerts", &alerts)] {
        let named = names(text);
        assert!(named.len() >= 4, "{file}");
        for name in named {
            assert!(SERIES.contains(&name.as_str()), "{file}: {name} is not exported");
            let family = name.strip_suffix("_total").unwrap_or(&name);
            assert!(exported.contains(&format!("# TYPE {family} ")), "{file}: {family}");
        }
    }
    for name in SERIES {
        assert!(names(&dashboard).iter().any(|shown| shown == name), "{name} is not shown");
    }
}
