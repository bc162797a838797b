//! What a connection has proved of the node behind it.

use std::sync::Arc;

use nexus_actor_core::path::Authority;
use rustls_pki_types::{CertificateDer, ServerName};

/// The certificate of a connection, if it has one. It was verified when the connection was made.
#[derive(Clone, Default)]
pub(crate) struct PeerIdentity(Option<Arc<Vec<CertificateDer<'static>>>>);

impl PeerIdentity {
    pub(crate) fn new(certificates: Option<Arc<Vec<CertificateDer<'static>>>>) -> Self {
        Self(certificates.filter(|certificates| !certificates.is_empty()))
    }

    /// Whether it has shown a certificate.
    pub(crate) const fn is_authenticated(&self) -> bool {
        self.0.is_some()
    }

    /// Whether both have shown the same certificate. Each has proved that it has the key.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let own =
            |identity: &Self| identity.0.as_ref().and_then(|certificates| certificates.first().cloned());
        own(self).is_some_and(|certificate| Some(certificate) == own(other))
    }

    /// Whether it may speak for `address`: without a certificate for any, with one for the hosts that this names.
    pub(crate) fn may_be(&self, address: &str) -> bool {
        let Some(certificate) = self.0.as_ref().and_then(|certificates| certificates.first()) else {
            return true;
        };
        let Ok(authority) = address.parse::<Authority>() else { return false };
        let Ok(name) = ServerName::try_from(authority.host()) else { return false };
        webpki::EndEntityCert::try_from(certificate)
            .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    }
}
