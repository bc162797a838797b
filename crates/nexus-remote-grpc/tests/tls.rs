//! Certificates on this wire: who shows none, or a bad one, sends nothing, and nobody speaks for an address that its certificate
//! does not name.

mod support;

use nexus_actor_core::AskError;
use nexus_remote::EndpointTerminatedEvent;
use nexus_remote_grpc::endpoint_state::ReconnectPolicy;
use nexus_remote_grpc::{Config, ConfigOption};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use support::raw::{RawCall, batch, eventually, note, sent, server_hello};
use support::{Echo, TestNode, local, within};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
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

/// Ten of the ways of threat T2.
///
/// Covers: CFG-14, CFG-15, S123
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
    drop(call);
    eventually("nothing is left", || a.remote.manager().endpoints().is_empty()).await;
    within("the end", a.stop()).await;
}
