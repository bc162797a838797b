//! How the bytes of a connection are protected.

use core::fmt;

/// How the bytes of a connection are protected: a parameter of every bind and every dial.
///
/// Plain text is all there is so far; the place is kept so that TLS changes no signature. A transport refuses
/// what it cannot do with [`TransportError::Security`](super::TransportError::Security) rather than do less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportSecurity {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
}

impl fmt::Display for TransportSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext => f.write_str("plaintext"),
        }
    }
}
