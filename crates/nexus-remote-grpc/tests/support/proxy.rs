//! A link between two nodes that a test can cut.

use std::net::SocketAddr;
use std::sync::Arc;

use nexus_actor_core::lock::Lock;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Carries connections to an address until they are cut; then, or while it is told to, takes none.
pub struct Proxy {
    address: SocketAddr,
    target: Arc<Lock<Option<String>>>,
    links: Arc<Lock<Vec<JoinHandle<()>>>>,
    refuses: Arc<std::sync::atomic::AtomicBool>,
    accepted: Arc<std::sync::atomic::AtomicUsize>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to an address that is given later: a node that announces the proxy's address is started after it.
    pub async fn new() -> Self {
        Self::begin(None).await
    }

    pub async fn to(target: &str) -> Self {
        Self::begin(Some(target.to_owned())).await
    }

    async fn begin(target: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let target = Arc::new(Lock::new(target));
        let links: Arc<Lock<Vec<JoinHandle<()>>>> = Arc::default();
        let refuses: Arc<std::sync::atomic::AtomicBool> = Arc::default();
        let accepted: Arc<std::sync::atomic::AtomicUsize> = Arc::default();
        let task = {
            let (links, refuses, accepted) = (links.clone(), refuses.clone(), accepted.clone());
            let target = target.clone();
            tokio::spawn(async move {
                while let Ok((mut near, _)) = listener.accept().await {
                    if refuses.load(std::sync::atomic::Ordering::Acquire) {
                        continue;
                    }
                    accepted.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
                    let target = target.lock().clone();
                    let link = tokio::spawn(async move {
                        let Some(target) = target else { return };
                        if let Ok(mut far) = TcpStream::connect(&target).await {
                            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                        }
                    });
                    links.lock().push(link);
                }
            })
        };
        Self { address, target, links, refuses, accepted, listener: task }
    }

    pub fn set_target(&self, target: SocketAddr) {
        *self.target.lock() = Some(target.to_string());
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Connections it has let in so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        for link in self.links.lock().drain(..) {
            link.abort();
        }
    }

    /// Takes none from now on; those there are stay.
    pub fn close(&self) {
        self.refuses.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Connections that neither end has closed.
    pub fn open(&self) -> usize {
        self.links.lock().iter().filter(|link| !link.is_finished()).count()
    }

    /// Cuts, and takes none from now on.
    pub fn refuse(&self) {
        self.refuses.store(true, std::sync::atomic::Ordering::Release);
        self.cut();
    }

    /// Takes connections again.
    pub fn accept(&self) {
        self.refuses.store(false, std::sync::atomic::Ordering::Release);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}
