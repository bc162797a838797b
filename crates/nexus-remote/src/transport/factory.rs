//! Which transport a scheme means.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::{LoopbackNetwork, LoopbackTransport, RemoteTransport, TransportError};

type Constructor = Arc<dyn Fn() -> Result<Arc<dyn RemoteTransport>, TransportError> + Send + Sync>;

/// Makes the transport that a scheme of the configuration names.
///
/// With the feature `std`, [`TransportFactory::default`] knows `fraktor.tcp`. The loopback needs the network that
/// its nodes share, and an application may bring transports of its own:
///
/// ```
/// use nexus_remote::transport::{LoopbackNetwork, TransportFactory};
///
/// let network = LoopbackNetwork::new();
/// let factory = TransportFactory::default().with_loopback(&network);
/// let transport = factory.create("fraktor.loopback")?;
/// assert_eq!(transport.scheme(), "fraktor.loopback");
/// # Ok::<(), nexus_remote::transport::TransportError>(())
/// ```
#[derive(Clone)]
pub struct TransportFactory {
    constructors: BTreeMap<String, Constructor>,
}

impl TransportFactory {
    /// A factory that knows no scheme.
    #[must_use]
    pub const fn new() -> Self {
        Self { constructors: BTreeMap::new() }
    }

    /// Lets `constructor` make the transport of `scheme`, in place of the one registered for it before.
    #[must_use]
    pub fn with_transport<F>(mut self, scheme: impl Into<String>, constructor: F) -> Self
    where
        F: Fn() -> Result<Arc<dyn RemoteTransport>, TransportError> + Send + Sync + 'static,
    {
        self.constructors.insert(scheme.into(), Arc::new(constructor));
        self
    }

    /// Adds `fraktor.loopback` on `network`. Nodes reach each other when given the same network.
    #[must_use]
    pub fn with_loopback(self, network: &LoopbackNetwork) -> Self {
        let network = network.clone();
        self.with_transport(LoopbackTransport::SCHEME, move || Ok(Arc::new(LoopbackTransport::new(&network))))
    }

    /// Adds `fraktor.tcp` on the runtime of `handle`, so that it can be created outside of one.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn with_tcp(self, handle: tokio::runtime::Handle) -> Self {
        use super::TokioTcpTransport;
        self.with_transport(TokioTcpTransport::SCHEME, move || {
            Ok(Arc::new(TokioTcpTransport::new(handle.clone())))
        })
    }

    /// Makes a new transport for `scheme`.
    ///
    /// # Errors
    /// [`TransportError::NotAvailable`], which lists the schemes that are known, or the constructor's own.
    pub fn create(&self, scheme: &str) -> Result<Arc<dyn RemoteTransport>, TransportError> {
        match self.constructors.get(scheme) {
            Some(constructor) => constructor(),
            None => Err(TransportError::NotAvailable {
                scheme: scheme.to_string(),
                known: self.schemes().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// The schemes that are known, in alphabetical order.
    pub fn schemes(&self) -> impl Iterator<Item = &str> {
        self.constructors.keys().map(String::as_str)
    }
}

impl Default for TransportFactory {
    /// With the feature `std`: `fraktor.tcp` on the tokio runtime in which it is created.
    fn default() -> Self {
        let factory = Self::new();
        #[cfg(feature = "std")]
        let factory = {
            use super::TokioTcpTransport;
            factory
                .with_transport(TokioTcpTransport::SCHEME, || Ok(Arc::new(TokioTcpTransport::try_current()?)))
        };
        factory
    }
}

impl fmt::Debug for TransportFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.schemes()).finish()
    }
}
