//! Two nodes of the protoactor wire over mutual TLS, with certificates made for the occasion; a third one that has none
//! is refused.
//!
//! ```text
//! cargo run -p nexus-actor --features grpc --example tls
//! ```

use core::error::Error;
use core::time::Duration;

use nexus_actor::grpc::tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use nexus_actor::grpc::{Config, ConfigOption, Remote};
use nexus_actor::pid::Pid;
use nexus_actor::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

#[derive(Message)]
#[message(protobuf)]
struct Hello(String, Reply<String>);

struct Greeter;

impl Actor for Greeter {
    type Msg = Hello;

    async fn receive(
        &mut self,
        Hello(name, reply): Hello,
        cx: &mut Context<'_, Self>,
    ) -> Result<(), ActorError> {
        reply.send(format!("hello {name}, this is {}", cx.system().name()));
        Ok(())
    }
}

/// Signs the certificates of all nodes; each node trusts whoever shows one.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// A certificate for the host that the node announces: with it a node may speak for that host only.
    fn identity(&self, host: &str) -> Result<Identity, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([host.to_owned()])?.signed_by(&key, &self.0)?;
        Ok(Identity::from_pem(certificate.pem(), key.serialize_pem()))
    }

    fn certificate(&self) -> Certificate {
        Certificate::from_pem(self.0.pem())
    }
}

async fn node(name: &str, config: Config) -> Result<(ActorSystem, Remote), Box<dyn Error>> {
    let system = ActorSystem::builder(name).build()?;
    system.register::<Hello>()?;
    system.spawn("greeter", Props::from_fn(|| Greeter))?;
    let remote = Remote::start(&system, config).await?;
    Ok((system, remote))
}

async fn greet(from: &Remote, to: &Remote) -> Result<String, Box<dyn Error>> {
    let greeter: ActorRef<Hello> = from.resolve(&Pid::new(to.address(), "greeter"))?;
    let name = from.system().name().to_owned();
    Ok(greeter.ask(|reply| Hello(name, reply)).timeout(Duration::from_secs(5)).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let authority = Authority::new()?;
    let secured = || -> Result<Config, rcgen::Error> {
        let identity = authority.identity("127.0.0.1")?;
        Ok(Config::new("127.0.0.1", 0).with([
            // Who dials this node must show a certificate,
            ConfigOption::with_server_tls(
                ServerTlsConfig::new().identity(identity.clone()).client_ca_root(authority.certificate()),
            ),
            // and so must whom it dials.
            ConfigOption::with_client_tls(
                ClientTlsConfig::new().ca_certificate(authority.certificate()).identity(identity),
            ),
        ]))
    };
    let (a, remote_a) = node("a", secured()?).await?;
    let (b, remote_b) = node("b", secured()?).await?;
    println!("a hears: {}", greet(&remote_a, &remote_b).await?);
    println!("b hears: {}", greet(&remote_b, &remote_a).await?);

    // It trusts the authority, but has nothing to show.
    let config = Config::new("127.0.0.1", 0).with([
        ConfigOption::with_client_tls(ClientTlsConfig::new().ca_certificate(authority.certificate())),
        ConfigOption::with_endpoint_reconnect_max_retries(1),
    ]);
    let (stranger, remote) = node("stranger", config).await?;
    let refused = greet(&remote, &remote_a).await;
    match &refused {
        Ok(text) => println!("the stranger hears: {text}"),
        Err(error) => println!("the stranger is refused: {error}"),
    }

    stranger.shutdown().await?;
    a.shutdown().await?;
    b.shutdown().await?;
    if refused.is_ok() { Err("a node without a certificate got in".into()) } else { Ok(()) }
}
