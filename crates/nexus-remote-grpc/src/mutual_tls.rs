//! TLS in both directions under an authority of one's own, with revocation lists.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::{ClientTlsConfig, Endpoint, Identity};

use crate::inbound::listener::{Guarded, Incoming};

/// The one protocol that is spoken inside.
const H2: &[u8] = b"h2";

/// Mutual TLS: this node shows one certificate whether it dials or is dialled, and takes only peers with a certificate of the
/// same authorities that was not revoked. Set with [`ConfigOption::with_mutual_tls`](crate::ConfigOption::with_mutual_tls) in
/// the place of `with_server_tls` and `with_client_tls`, whose settings know no revocation lists.
///
/// All texts are PEM. They are read when the node starts: what is wrong with them is
/// [`RemoteError::Tls`](crate::RemoteError::Tls).
#[derive(Clone)]
pub struct MutualTls(Arc<Settings>);

#[derive(Clone)]
struct Texts {
    authorities: String,
    certificates: String,
    key: String,
    revocation_lists: String,
}

struct Settings {
    texts: Texts,
    read: OnceLock<Result<Read, String>>,
}

struct Read {
    acceptor: TlsAcceptor,
    verifier: Arc<WebPkiServerVerifier>,
    dialling: ClientTlsConfig,
}

impl MutualTls {
    /// The certificates of the `authorities`, those of this node with what links them to an authority, and the node's `key`.
    #[must_use]
    pub fn new(
        authorities: impl Into<String>,
        certificates: impl Into<String>,
        key: impl Into<String>,
    ) -> Self {
        Self::of(Texts {
            authorities: authorities.into(),
            certificates: certificates.into(),
            key: key.into(),
            revocation_lists: String::new(),
        })
    }

    /// Refuses the certificates on these lists. With any list there must be one of each authority that signed a certificate
    /// of a chain: a certificate whose authority has none is refused, as it might be revoked. A list that is past its next
    /// update counts all the same.
    #[must_use]
    pub fn with_revocation_lists(self, lists: impl Into<String>) -> Self {
        Self::of(Texts { revocation_lists: lists.into(), ..self.0.texts.clone() })
    }

    fn of(texts: Texts) -> Self {
        Self(Arc::new(Settings { texts, read: OnceLock::new() }))
    }

    fn read(&self) -> Result<&Read, String> {
        self.0.read.get_or_init(|| self.0.texts.read()).as_ref().map_err(Clone::clone)
    }

    /// What takes connections.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, String> {
        self.read().map(|read| read.acceptor.clone())
    }

    /// Has `endpoint` dialled so.
    pub(crate) fn dial(&self, endpoint: Endpoint) -> Result<Endpoint, String> {
        let Read { verifier, dialling, .. } = self.read()?;
        endpoint
            .tls_config_with_verifier(dialling.clone(), verifier.clone())
            .map_err(|error| error.to_string())
    }
}

impl fmt::Debug for MutualTls {
    /// Shows nothing: keys are not for reading.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutualTls").finish_non_exhaustive()
    }
}

impl Texts {
    fn read(&self) -> Result<Read, String> {
        fn wrong(what: &str) -> impl Fn(rustls_pki_types::pem::Error) -> String + '_ {
            move |error| format!("{what}: {error}")
        }
        fn refused(error: impl fmt::Display) -> String {
            error.to_string()
        }
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(self.authorities.as_bytes()) {
            roots.add(authority.map_err(wrong("authorities"))?).map_err(refused)?;
        }
        let roots = Arc::new(roots);
        let lists = CertificateRevocationListDer::pem_slice_iter(self.revocation_lists.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(wrong("revocation lists"))?;
        if lists.is_empty() && !self.revocation_lists.is_empty() {
            return Err("revocation lists: none is in the text".to_owned());
        }
        let certificates = CertificateDer::pem_slice_iter(self.certificates.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(wrong("certificates"))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(wrong("key"))?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .with_crls(lists.clone())
            .build()
            .map_err(refused)?;
        let mut accepting = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .with_client_cert_verifier(clients)
            .with_single_cert(certificates, key)
            .map_err(refused)?;
        accepting.alpn_protocols = vec![H2.to_vec()];
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .with_crls(lists)
            .build()
            .map_err(refused)?;
        let identity = Identity::from_pem(&self.certificates, &self.key);
        Ok(Read {
            acceptor: TlsAcceptor::from(Arc::new(accepting)),
            verifier,
            dialling: ClientTlsConfig::new().identity(identity),
        })
    }
}

/// Accepted connections after their TLS handshake. Those under way are bounded, and cut when they are late, as
/// [`Incoming`] has it.
pub(crate) struct Encrypted {
    incoming: Incoming,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<Option<TlsStream<Guarded>>>,
}

impl Encrypted {
    pub(crate) fn new(incoming: Incoming, acceptor: TlsAcceptor) -> Self {
        Self { incoming, acceptor, handshakes: JoinSet::new() }
    }
}

impl Stream for Encrypted {
    type Item = io::Result<TlsStream<Guarded>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match this.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(stream)))) => return Poll::Ready(Some(Ok(stream))),
                // It failed: the peer was told by an alert.
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) | Poll::Pending => {}
            }
            match Pin::new(&mut this.incoming).poll_next(cx) {
                Poll::Ready(Some(Ok(io))) => {
                    let accept = this.acceptor.accept(io);
                    this.handshakes.spawn(async move {
                        let stream = accept.await.ok()?;
                        // Who offers no protocol at all is let in by rustls.
                        (stream.get_ref().1.alpn_protocol() == Some(H2)).then_some(stream)
                    });
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) if this.handshakes.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}
