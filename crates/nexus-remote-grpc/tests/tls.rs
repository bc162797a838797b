//! Certificates on this wire: who shows none, or a bad one, sends nothing, and nobody speaks for an address that its certificate
//! does not name.

mod support;

use std::sync::Arc;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::{AskError, DeadLetterReason};
use nexus_remote::EndpointTerminatedEvent;
use nexus_remote_grpc::endpoint_state::ReconnectPolicy;
use nexus_remote_grpc::wire::proto::remote::{GetProcessDiagnosticsRequest, ListProcessesRequest};
use nexus_remote_grpc::wire::remoting::RemotingClient;
use nexus_remote_grpc::{Config, ConfigOption, MutualTls, Remote, RemoteError};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, date_time_ymd,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use support::raw::{RawCall, batch, client_hello, eventually, note, sent, server_hello};
use support::{Echo, TestNode, local, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn issue(params: &CertificateParams, by: &Issuer) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, by).expect("a certificate");
    Identity::from_pem(certificate.pem(), key.serialize_pem())
}

/// Mutual authentication under one authority.
fn secured(identity: &Identity, authority: &Issuer) -> Config {
    let root = Certificate::from_pem(authority.pem());
    local().with([
        ConfigOption::with_server_tls(
            ServerTlsConfig::new().identity(identity.clone()).client_ca_root(root.clone()),
        ),
        ConfigOption::with_client_tls(ClientTlsConfig::new().identity(identity.clone()).ca_certificate(root)),
        ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(
            1,
            std::time::Duration::from_millis(1),
        )),
    ])
}

/// Those ways of threat T2 that are ways of a certificate.
///
/// Covers: T2, CFG-14, CFG-15, S123
#[tokio::test(flavor = "multi_thread")]
async fn bad_certificates_are_refused_in_both_directions() {
    let (ours, others) = (authority(), authority());
    let good = issue(&params(&["127.0.0.1"]), &ours);
    let a = TestNode::start("a", secured(&good, &ours)).await;
    let b = TestNode::start("b", secured(&good, &ours)).await;
    assert_eq!(a.ask(&a.far(&b, "echo"), "x").await.as_deref(), Ok("re:x"));

    let with = |change: fn(&mut CertificateParams)| {
        let mut params = params(&["127.0.0.1"]);
        change(&mut params);
        params
    };
    let intermediate = {
        // It signs, though it is no authority.
        let key = KeyPair::generate().expect("a key");
        CertifiedIssuer::signed_by(params(&["127.0.0.1"]), key, &ours).expect("a certificate")
    };
    let hidden = {
        // It is an authority by ours, but nobody shows its certificate.
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::signed_by(params, KeyPair::generate().expect("a key"), &ours).expect("an authority")
    };
    let self_signed = {
        let key = KeyPair::generate().expect("a key");
        let certificate = params(&["127.0.0.1"]).self_signed(&key).expect("a certificate");
        Identity::from_pem(certificate.pem(), key.serialize_pem())
    };
    let bad = [
        ("self-signed", self_signed),
        ("another authority's", issue(&params(&["127.0.0.1"]), &others)),
        ("expired", issue(&with(|params| params.not_after = date_time_ymd(2001, 1, 1)), &ours)),
        ("not yet valid", issue(&with(|params| params.not_before = date_time_ymd(2120, 1, 1)), &ours)),
        ("for another host", issue(&params(&["127.0.0.2"]), &ours)),
        (
            "with a common name only",
            issue(
                &with(|params| {
                    params.subject_alt_names.clear();
                    params.distinguished_name.push(rcgen::DnType::CommonName, "127.0.0.1");
                }),
                &ours,
            ),
        ),
        (
            "for neither side",
            issue(
                &with(|params| {
                    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
                }),
                &ours,
            ),
        ),
        ("without the chain", issue(&params(&["127.0.0.1"]), &hidden)),
        ("of no authority", issue(&params(&["127.0.0.1"]), &intermediate)),
    ];
    for (what, identity) in bad {
        let bad = TestNode::start("bad", secured(&identity, &ours)).await;
        let mut terminated = a.events::<EndpointTerminatedEvent>();
        assert_eq!(bad.ask(&bad.far(&a, "echo"), "in").await, Err(AskError::Unreachable), "{what}");
        bad.far(&a, "echo").tell(Echo::Note("in".to_owned()));
        assert_eq!(a.ask(&a.far(&bad, "echo"), "out").await, Err(AskError::Unreachable), "{what}");
        terminated.find(what, |event| *event.address == *bad.remote.address()).await;
        assert_eq!((a.heard.len(), bad.heard.len()), (0, 0), "{what}");
        bad.stop().await;
    }
    // Who shows none at all, and who does not speak TLS.
    let root = Certificate::from_pem(ours.pem());
    let anonymous = ClientTlsConfig::new().ca_certificate(root);
    let dial = Endpoint::from_shared(format!("https://{}", a.remote.address())).expect("an address");
    let channel = dial.tls_config(anonymous).expect("sound").connect_lazy();
    assert!(RawCall::by(channel, server_hello("raw", a.remote.address())).await.is_err());
    let plain = Endpoint::from_shared(format!("http://{}", a.remote.address())).expect("an address");
    let channel = plain.connect_lazy();
    assert!(RawCall::by(channel, server_hello("raw", "127.0.0.1:1")).await.is_err());
    assert_eq!(a.heard.len(), 0);
    assert_eq!(a.ask(&a.far(&b, "echo"), "x").await.as_deref(), Ok("re:x"));
    a.stop().await;
    b.stop().await;
}

/// One side speaks TLS and the other does not: the end of the address tells it to both.
#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_plain_text_and_what_tls_is_told() {
    let ours = authority();
    let tls = TestNode::start("tls", secured(&issue(&params(&["127.0.0.1"]), &ours), &ours)).await;
    let once = ReconnectPolicy::fixed(1, std::time::Duration::from_millis(1));
    let plain = local().with([ConfigOption::with_endpoint_reconnect_policy(once)]);
    let plain = TestNode::start("plain", plain).await;
    for (from, to, said) in [
        (&tls, &plain, "received corrupt message of type InvalidContentType"),
        (&plain, &tls, "transport error: "),
    ] {
        let mut terminated = from.events::<EndpointTerminatedEvent>();
        assert_eq!(from.ask(&from.far(to, "echo"), "x").await, Err(AskError::Unreachable), "{said}");
        let event = terminated.find(said, |event| *event.address == *to.remote.address()).await;
        println!("{}", event.reason);
        assert!(event.reason.contains(said), "{}", event.reason);
        assert!(event.reason.starts_with("unreachable after 1 attempt: "), "{}", event.reason);
    }
    tls.stop().await;
    plain.stop().await;
}

/// Covers: T10
#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_for_an_address_that_its_certificate_does_not_name() {
    let ours = authority();
    let a = TestNode::start("a", secured(&issue(&params(&["127.0.0.1"]), &ours), &ours)).await;
    let other = issue(&params(&["127.0.0.2"]), &ours);
    let root = Certificate::from_pem(ours.pem());
    let open = async |hello| {
        let tls = ClientTlsConfig::new().identity(other.clone()).ca_certificate(root.clone());
        let dial = Endpoint::from_shared(format!("https://{}", a.remote.address())).expect("an address");
        RawCall::by(dial.tls_config(tls).expect("sound").connect_lazy(), hello).await
    };
    let ended = match open(server_hello("raw", "127.0.0.1:1")).await {
        Ok(mut call) => call.end().await,
        Err(status) => status.code(),
    };
    assert_eq!(ended, Code::PermissionDenied);
    let mut call = open(server_hello("raw", "127.0.0.2:1")).await.expect("a call");
    assert!(!call.response().await.expect("an answer").blocked);
    call.send(sent(batch(a.remote.address(), "echo", None, &[note("as itself")])));
    a.heard.until("the note", |all| all == ["as itself"]).await;
    // Proven or not, it may not stop what it did not spawn.
    let mut letters = a.events::<DeadLetterEvent>();
    call.send(sent(batch(a.remote.address(), "echo", None, &[("actor.Stop", Vec::new())])));
    assert_eq!(letters.next("the record").await.reason(), DeadLetterReason::Denied);
    let statistics = a.remote.get_endpoint_statistics("127.0.0.2:1").expect("it is connected");
    assert_eq!(statistics.dead_letters, 0, "it was from the peer, not to it");
    drop(call);
    eventually("nothing is left", || a.remote.manager().endpoints().is_empty()).await;
    within("the end", a.stop()).await;
}

/// A client comes back with the certificate that it had. Another one of the same authority does not take its place.
///
/// Covers: T10
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_replaced_at_once_only_by_its_own_certificate() {
    let ours = authority();
    let identity = || issue(&params(&["127.0.0.1"]), &ours);
    let (own, other) = (identity(), identity());
    // Nobody is found silent in the time of this test.
    let timeout = ConfigOption::with_handshake_timeout(std::time::Duration::from_secs(3_600));
    let server = TestNode::start("server", secured(&identity(), &ours).with([timeout])).await;
    let root = Certificate::from_pem(ours.pem());
    let open = async |identity: &Identity, id: &str| {
        let tls = ClientTlsConfig::new().identity(identity.clone()).ca_certificate(root.clone());
        let dial = Endpoint::from_shared(format!("https://{}", server.remote.address())).expect("an address");
        let mut call =
            RawCall::by(dial.tls_config(tls).expect("sound").connect_lazy(), client_hello(id)).await?;
        call.response().await.map(|_| call)
    };
    let mut before = open(&own, "raw").await.expect("it is the first");
    let mut now = open(&own, "raw").await.expect("it is the same");
    assert_eq!(before.end().await, Code::Unavailable);
    now.hang_up();

    let client = TestNode::start_client("client", secured(&own, &ours)).await;
    assert_eq!(client.ask(&client.far(&server, "echo"), "x").await.as_deref(), Ok("re:x"));
    let refused = open(&other, client.remote.system_id()).await.err().expect("another has it");
    assert_eq!(refused.code(), Code::AlreadyExists);
    let back = server.at(client.remote.address(), "echo");
    assert_eq!(server.ask(&back, "you").await.as_deref(), Ok("re:you"));
    client.stop().await;
    server.stop().await;
}

/// A certificate of `by` for this host, and the key that it shows: its own, or another.
fn shown(by: &Issuer, is_stale: bool) -> Arc<SingleCertAndKey> {
    let key = KeyPair::generate().expect("a key");
    let certificate = params(&["127.0.0.1"]).signed_by(&key, by).expect("a certificate");
    let key = if is_stale { KeyPair::generate().expect("a key") } else { key };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("a key of a known kind");
    // Unlike `from_der` it does not look whether they belong together.
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

/// What `to` answers to a TLS client that shows this and speaks `alpn`: nothing, or how it hangs up.
async fn dialled(to: &str, ours: &Issuer, own: Arc<dyn ResolvesClientCert>, alpn: &[&str]) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(ours.der().clone()).expect("an authority");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_client_cert_resolver(own);
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(to).await.expect("it listens");
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    within("the end of the handshake", async {
        let mut stream = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => stream,
            Err(error) => return error.to_string(),
        };
        // The other side has seen the certificate when it says something.
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        match stream.read_u8().await {
            Ok(_) => String::from("served"),
            Err(error) => error.to_string(),
        }
    })
    .await
}

/// Covers: T2, CFG-14
#[tokio::test(flavor = "multi_thread")]
async fn whoever_dials_with_another_key_or_protocol_is_refused() {
    let ours = authority();
    let node = TestNode::start("a", secured(&issue(&params(&["127.0.0.1"]), &ours), &ours)).await;
    let to = node.remote.address();
    assert_eq!(dialled(to, &ours, shown(&ours, false), &["h2"]).await, "served");
    let stale = dialled(to, &ours, shown(&ours, true), &["h2"]).await;
    assert!(stale.contains("DecryptError"), "{stale}");
    let http1 = dialled(to, &ours, shown(&ours, false), &["http/1.1"]).await;
    assert!(http1.contains("NoApplicationProtocol"), "{http1}");
    // What is plainly wrong does not even start.
    let key = KeyPair::generate().expect("a key");
    let certificate = params(&["127.0.0.1"]).signed_by(&key, &ours).expect("a certificate");
    let other = KeyPair::generate().expect("a key");
    let config = secured(&Identity::from_pem(certificate.pem(), other.serialize_pem()), &ours);
    let started = Remote::start(&support::system("stale"), config).await;
    assert!(matches!(started, Err(RemoteError::Tls(_))), "{started:?}");
    node.stop().await;
}

/// Serves one TLS connection as it is told, and says how the handshake went.
async fn served(ours: &Issuer, own: Arc<dyn ResolvesServerCert>, alpn: &[&str]) -> (String, TestNode) {
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(own);
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let node = TestNode::start("a", secured(&issue(&params(&["127.0.0.1"]), ours), ours)).await;
    let there = node.at(&address, "echo");
    there.tell(Echo::Note("not for everybody".to_owned()));
    let (stream, _) = within("a dial", listener.accept()).await.expect("it dials");
    let heard = within("the end of the handshake", async {
        match TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            Ok(mut stream) => {
                let mut all = Vec::new();
                let ended = stream.read_to_end(&mut all).await;
                format!("{} bytes, {ended:?}", all.len())
            }
            Err(error) => error.to_string(),
        }
    })
    .await;
    (heard, node)
}

/// Covers: T2, CFG-15
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_dialled_and_has_another_key_or_protocol_is_refused() {
    let ours = authority();
    for (what, is_stale, alpn, expected) in [
        ("another key", true, &["h2"][..], "DecryptError"),
        ("another protocol", false, &["http/1.1"], "known protocol"),
        ("no protocol", false, &[], "0 bytes"),
    ] {
        let (heard, node) = served(&ours, shown(&ours, is_stale), alpn).await;
        assert!(heard.contains(expected), "{what}: {heard}");
        node.stop().await;
    }
}

/// A node's certificate and key under `by`, as texts, and its number.
fn texts(by: &Issuer, number: u64) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = params(&["127.0.0.1"]);
    params.serial_number = Some(number.into());
    (params.signed_by(&key, by).expect("a certificate").pem(), key.serialize_pem())
}

fn revoking(by: &Issuer, number: u64) -> String {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2021, 1, 1),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: number.into(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(by).expect("a list").pem().expect("a text")
}

fn mutual((certificate, key): &(String, String), authority: &Issuer) -> MutualTls {
    MutualTls::new(authority.pem(), certificate, key)
}

fn under(tls: MutualTls) -> Config {
    let policy = ReconnectPolicy::fixed(1, std::time::Duration::from_millis(1));
    local().with([ConfigOption::with_mutual_tls(tls), ConfigOption::with_endpoint_reconnect_policy(policy)])
}

/// Covers: T2, CFG-14, CFG-15
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_refused_in_both_directions() {
    let ours = authority();
    let list = revoking(&ours, 3);
    let start = async |name, number| {
        let tls = mutual(&texts(&ours, number), &ours).with_revocation_lists(&list);
        TestNode::start(name, under(tls)).await
    };
    let (a, b) = (start("a", 1).await, start("b", 2).await);
    assert_eq!(a.ask(&a.far(&b, "echo"), "x").await.as_deref(), Ok("re:x"));
    // It has no list, and trusts both: that it is refused is all that keeps it out.
    let revoked = TestNode::start("revoked", under(mutual(&texts(&ours, 3), &ours))).await;
    assert_eq!(revoked.ask(&revoked.far(&a, "echo"), "in").await, Err(AskError::Unreachable));
    assert_eq!(a.ask(&a.far(&revoked, "echo"), "out").await, Err(AskError::Unreachable));
    assert_eq!((a.heard.len(), revoked.heard.len()), (0, 0));
    // Another number of the same authority is no reason.
    let other = TestNode::start("other", under(mutual(&texts(&ours, 4), &ours))).await;
    assert_eq!(other.ask(&other.far(&a, "echo"), "in").await.as_deref(), Ok("re:in"));
    for node in [a, b, revoked, other] {
        node.stop().await;
    }
}

/// What was said of TLS by tonic's settings holds under our own.
///
/// Covers: T2, T10, CFG-14
#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_refuses_what_the_two_settings_refuse() {
    let (ours, others) = (authority(), authority());
    let node = TestNode::start("a", under(mutual(&texts(&ours, 1), &ours))).await;
    let to = node.remote.address();
    assert_eq!(dialled(to, &ours, shown(&ours, false), &["h2"]).await, "served");
    for (what, own, alpn) in [
        ("another key", shown(&ours, true), &["h2"][..]),
        ("another authority", shown(&others, false), &["h2"]),
        ("another protocol", shown(&ours, false), &["http/1.1"]),
        ("no protocol", shown(&ours, false), &[]),
    ] {
        assert_ne!(dialled(to, &ours, own, alpn).await, "served", "{what}");
    }
    // Nobody speaks for another host.
    let (certificate, key) = texts(&ours, 5);
    let tls = ClientTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .ca_certificate(Certificate::from_pem(ours.pem()));
    let dial = Endpoint::from_shared(format!("https://{to}")).expect("an address").tls_config(tls);
    let channel = dial.expect("sound").connect_lazy();
    let ended = match RawCall::by(channel, server_hello("raw", "127.0.0.2:1")).await {
        Ok(mut call) => call.end().await,
        Err(status) => status.code(),
    };
    assert_eq!(ended, Code::PermissionDenied);
    // A list of another authority says nothing of this one.
    let unknown = mutual(&texts(&ours, 2), &ours).with_revocation_lists(revoking(&others, 9));
    let unknown = TestNode::start("unknown", under(unknown)).await;
    assert_eq!(node.ask(&node.far(&unknown, "echo"), "x").await, Err(AskError::Unreachable));
    // Plain text.
    assert!(RawCall::open(to, server_hello("raw", "127.0.0.1:1")).await.is_err());
    assert_eq!(node.heard.len(), 0);
    unknown.stop().await;
    node.stop().await;
}

/// Covers: CFG-14
#[tokio::test]
async fn tls_settings_that_cannot_be_used_are_an_error_of_the_start() {
    let ours = authority();
    let (one, other) = (texts(&ours, 1), texts(&ours, 2));
    let good = mutual(&one, &ours);
    let bad = [
        under(mutual(&(one.0.clone(), other.1.clone()), &ours)),
        under(mutual(&(String::new(), one.1.clone()), &ours)),
        under(mutual(&(one.0.clone(), String::new()), &ours)),
        under(MutualTls::new("", &one.0, &one.1)),
        under(good.clone().with_revocation_lists("no list")),
        local().with([ConfigOption::with_server_tls(ServerTlsConfig::new())]),
    ];
    for (at, config) in bad.into_iter().enumerate() {
        let started = Remote::start(&support::system("bad"), config.clone()).await;
        assert!(matches!(started, Err(RemoteError::Tls(_))), "{at}: {started:?}");
        if at < 5 {
            let started = Remote::start_client(&support::system("bad"), config).await;
            assert!(matches!(started, Err(RemoteError::Tls(_))), "{at}: {started:?}");
        }
    }
    let both = under(good).with([ConfigOption::with_server_tls(ServerTlsConfig::new())]);
    assert!(both.validate().is_err());
}

/// A handshake message in a record, as TLS 1.1 writes them.
fn tls_1_1(kind: u8, after_session: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.push(0);
    body.extend(after_session);
    let mut record = vec![22, 3, 2, 0, body.len() as u8 + 4, kind, 0, 0, body.len() as u8];
    record.extend(body);
    record
}

/// Reads records until an alert comes, and returns its description.
async fn alert(stream: &mut TcpStream) -> u8 {
    within("an alert", async {
        loop {
            let mut head = [0; 5];
            stream.read_exact(&mut head).await.expect("a record");
            let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
            stream.read_exact(&mut body).await.expect("its body");
            if head[0] == 21 {
                assert_eq!(body[0], 2, "it is fatal");
                return body[1];
            }
        }
    })
    .await
}

/// Covers: T2, CFG-14, CFG-15
#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_tls_1_1() {
    /// `protocol_version` of RFC 8446.
    const PROTOCOL_VERSION: u8 = 70;
    let ours = authority();
    let node = TestNode::start("a", secured(&issue(&params(&["127.0.0.1"]), &ours), &ours)).await;
    let mut stream = TcpStream::connect(node.remote.address()).await.expect("it listens");
    // Two suites of its time and no compression, with all extensions that TLS 1.2 asks for: nothing else is wrong.
    let mut rest = vec![0, 4, 0xc0, 0x09, 0, 0x2f, 1, 0, 0, 22];
    rest.extend([0, 13, 0, 4, 0, 2, 4, 3]);
    rest.extend([0, 10, 0, 4, 0, 2, 0, 23]);
    rest.extend([0, 11, 0, 2, 1, 0]);
    stream.write_all(&tls_1_1(1, &rest)).await.expect("it is read");
    assert_eq!(alert(&mut stream).await, PROTOCOL_VERSION);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let there = node.at(&address, "echo");
    there.tell(Echo::Note("not in TLS 1.1".to_owned()));
    let (mut stream, _) = within("a dial", listener.accept()).await.expect("it dials");
    stream.write_all(&tls_1_1(2, &[0xc0, 0x13, 0])).await.expect("it is read");
    assert_eq!(alert(&mut stream).await, PROTOCOL_VERSION);
    node.stop().await;
}

/// Encryption alone is no permission, and a certificate is none against the block list.
///
/// Covers: T34
#[tokio::test(flavor = "multi_thread")]
async fn diagnostics_want_a_certificate_that_is_not_blocked() {
    let ours = authority();
    let identity = issue(&params(&["127.0.0.1"]), &ours);
    let root = Certificate::from_pem(ours.pem());
    let optional = ServerTlsConfig::new()
        .identity(identity.clone())
        .client_ca_root(root.clone())
        .client_auth_optional(true);
    let options = [ConfigOption::with_server_tls(optional), ConfigOption::with_diagnostics(true)];
    let a = TestNode::start("a", secured(&identity, &ours).with(options)).await;
    let ask = async |tls: ClientTlsConfig| {
        let dial = Endpoint::from_shared(format!("https://{}", a.remote.address())).expect("an address");
        let channel = dial.tls_config(tls).expect("sound").connect_lazy();
        let mut client = RemotingClient::new(channel, support::raw::MESSAGE_BYTES);
        let listed = within("an answer", client.list_processes(ListProcessesRequest::default())).await;
        let pid = nexus_remote_grpc::wire::proto::actor::Pid { id: "echo".into(), ..Default::default() };
        let request = GetProcessDiagnosticsRequest { pid: Some(pid) };
        let told = within("an answer", client.get_process_diagnostics(request)).await;
        let code = |status: Option<tonic::Status>| status.map_or(Code::Ok, |status| status.code());
        [code(listed.err()), code(told.err())]
    };
    let anonymous = ClientTlsConfig::new().ca_certificate(root);
    let known = anonymous.clone().identity(identity.clone());
    assert_eq!(ask(anonymous).await, [Code::PermissionDenied; 2]);
    assert_eq!(ask(known.clone()).await, [Code::Ok; 2]);
    assert!(a.remote.block_system("127.0.0.1:1").await);
    assert_eq!(ask(known.clone()).await, [Code::PermissionDenied; 2]);
    assert!(a.remote.unblock_system("127.0.0.1:1").await);
    a.remote.block_list().set_allowed(["127.0.0.2:1"]);
    assert_eq!(ask(known).await, [Code::PermissionDenied; 2]);
    a.stop().await;
}
