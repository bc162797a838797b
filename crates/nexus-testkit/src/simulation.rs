//! Several nodes in one thread, on virtual time and a network that fails on demand.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::time::Duration;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;
use nexus_actor_core::runtime::{PumpRuntime, Runtime};
use nexus_actor_core::time::Instant;
use nexus_actor_core::{ActorSystem, BuildError, DeadLetterReason};
use nexus_remote::event::{RemotingBackpressureEvent, RemotingLifecycleEvent};
use nexus_remote::transport::{LoopbackNetwork, RemoteTransport, TransportFactory};
use nexus_remote::{
    ListenerFault, RemotingControlHandle, RemotingExtension, RemotingExtensionConfig, StrangerEvent,
    WithRemoting,
};

use crate::fault_link::{Cut, FaultControl, FaultLink};
use crate::medium::{Line, Medium, Trap};
use crate::mortal::MortalRuntime;

/// Polls after which a moment of virtual time that does not come to rest is a defect.
const POLLS_MAX: usize = 50_000_000;

/// Nodes that share one clock, one thread and one loopback network, or the sockets of this host.
///
/// The clock moves only when everything is at rest, from deadline to deadline: an hour takes as long as what
/// happens in it. Over the loopback the same seed and the same calls give the same run; over sockets the kernel has a
/// say in how many bytes pass at a time.
///
/// ```
/// use std::time::Duration;
/// use nexus_testkit::Simulation;
///
/// let sim = Simulation::new(7);
/// let (a, b) = (sim.node("a"), sim.node("b"));
/// a.remoting().associate(&b.system().address().to_string().parse()?)?;
/// assert!(sim.until(Duration::from_secs(1), || a.is_connected_to(&b)));
/// # use nexus_remote::RemotingControl;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Simulation {
    pump: PumpRuntime,
    medium: Medium,
    seed: u64,
    started: Arc<Lock<u64>>,
}

impl Simulation {
    /// A network without nodes, at time zero.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::on(seed, LoopbackNetwork::new())
    }

    /// The same on a network of your own, for pipes of another size.
    #[must_use]
    pub fn on(seed: u64, network: LoopbackNetwork) -> Self {
        Self::with(seed, Medium::Loopback(network))
    }

    /// The same over TCP between sockets of this host, still in one thread and on virtual time.
    ///
    /// Each simulation has an address of its own in 127.0.0.0/8 where the system allows it.
    ///
    /// # Panics
    /// When the system gives no reactor.
    #[must_use]
    pub fn over_tcp(seed: u64) -> Self {
        Self::with(seed, Medium::tcp())
    }

    fn with(seed: u64, medium: Medium) -> Self {
        Self { pump: PumpRuntime::new(), medium, seed, started: Arc::default() }
    }

    /// Starts a node with the default settings.
    ///
    /// # Panics
    /// When it cannot be built.
    #[must_use]
    pub fn node(&self, name: &str) -> SimNode {
        self.node_with(name, |config| config)
    }

    /// Starts a node whose settings `adjust` has changed. Host, port 0, scheme and transport are set before.
    ///
    /// # Panics
    /// When it cannot be built.
    #[must_use]
    pub fn node_with(
        &self,
        name: &str,
        adjust: impl FnOnce(RemotingExtensionConfig) -> RemotingExtensionConfig,
    ) -> SimNode {
        self.try_node(name, adjust).unwrap_or_else(|error| panic!("node {name}: {error}"))
    }

    /// Starts a node in the place of `old`: the same name, host and port, another incarnation.
    ///
    /// # Panics
    /// When it cannot be built.
    #[must_use]
    pub fn successor(
        &self,
        old: &SimNode,
        adjust: impl FnOnce(RemotingExtensionConfig) -> RemotingExtensionConfig,
    ) -> SimNode {
        // What has been killed is gone only when its tasks have been dropped.
        self.settle();
        let at = old.authority().clone();
        self.node_with(&old.name, |config| {
            adjust(config.with_canonical_host(at.host()).with_canonical_port(at.port()))
        })
    }

    /// [`node_with`](Self::node_with) for a node that may not start.
    ///
    /// # Errors
    /// As the system's builder.
    pub fn try_node(
        &self,
        name: &str,
        adjust: impl FnOnce(RemotingExtensionConfig) -> RemotingExtensionConfig,
    ) -> Result<SimNode, BuildError> {
        let link = Arc::new(FaultLink::new(self.medium.transport()));
        let control = link.control();
        self.medium.observe(&control);
        let scheme = self.medium.scheme();
        let factory = TransportFactory::new()
            .with_transport(scheme, move || Ok(link.clone() as Arc<dyn RemoteTransport>));
        let config = RemotingExtensionConfig::default()
            .with_canonical_host(self.medium.host())
            .with_canonical_port(0)
            .with_transport_scheme(scheme)
            .with_transport_factory(factory);
        let runtime = MortalRuntime::new(&self.pump);
        let nth = {
            let mut started = self.started.lock();
            *started += 1;
            *started
        };
        let system = ActorSystem::builder(name)
            .with_runtime(runtime.clone())
            .with_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(nth))
            .with_remoting(adjust(config))
            .build()?;
        let log = NodeLog::attach(&system);
        let remoting = match system.extension::<RemotingExtension>() {
            Ok(extension) => extension.handle(),
            Err(error) => return Err(BuildError::Extension { error: Arc::new(error) }),
        };
        let authority = remoting.address().and_then(|address| address.authority);
        Ok(SimNode {
            name: name.to_string(),
            authority: authority.unwrap_or_else(|| Authority::new(self.medium.host(), 0)),
            scheme,
            system,
            remoting,
            runtime,
            link: control,
            log,
        })
    }

    /// The runtime below all nodes.
    #[must_use]
    pub const fn pump(&self) -> &PumpRuntime {
        &self.pump
    }

    /// The network that the nodes share; none over TCP.
    #[must_use]
    pub const fn network(&self) -> Option<&LoopbackNetwork> {
        match &self.medium {
            Medium::Loopback(network) => Some(network),
            Medium::Tcp(_) => None,
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.pump.now()
    }

    /// Runs until nothing is ready. The clock stands.
    ///
    /// # Panics
    /// When it does not come to rest: something wakes itself for ever.
    pub fn settle(&self) {
        let polls = self.medium.settle(&self.pump, POLLS_MAX);
        assert!(polls < POLLS_MAX, "the nodes do not come to rest at {:?}", self.now());
    }

    /// Lets `time` pass, stopping at every deadline on the way.
    pub fn run(&self, time: Duration) {
        let end = self.now() + time;
        self.settle();
        while let Some(next) = self.pump.next_deadline().filter(|at| *at <= end) {
            self.pump.set_time(next);
            self.settle();
        }
        self.pump.set_time(end);
        self.settle();
    }

    /// Lets time pass until `condition` holds, at most `within`; says whether it does.
    pub fn until(&self, within: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let end = self.now() + within;
        loop {
            self.settle();
            if condition() {
                return true;
            }
            match self.pump.next_deadline().filter(|at| *at <= end) {
                Some(next) => self.pump.set_time(next),
                None => {
                    self.pump.set_time(end);
                    self.settle();
                    return condition();
                }
            }
        }
    }

    /// Lets time pass until `future` ends, at most `within`.
    pub fn wait<T: Send + 'static>(
        &self,
        within: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let result = Arc::new(Lock::new(None));
        let out = result.clone();
        self.pump.spawn(Box::pin(async move {
            let value = future.await;
            *out.lock() = Some(value);
        }));
        self.until(within, || result.lock().is_some());
        result.lock().take()
    }

    /// A connection to `authority` behind which there is no node: bytes by hand. Each comes from a source of its own.
    ///
    /// # Panics
    /// When nobody listens there.
    #[must_use]
    pub fn stranger(&self, authority: &Authority) -> Stranger {
        Stranger { line: self.medium.stranger(authority) }
    }

    /// A listener behind which there is no node, on a free port, or on that of a node that has died.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn decoy(&self, in_place_of: Option<&SimNode>) -> Decoy {
        self.settle();
        let (authority, trap) = self.medium.decoy(in_place_of.map_or(0, |node| node.authority().port()));
        Decoy { authority, trap }
    }
}

/// What a node said while it ran.
#[derive(Default)]
struct NodeLog {
    lifecycle: Lock<Vec<(Instant, RemotingLifecycleEvent)>>,
    letters: Lock<Vec<DeadLetterEvent>>,
    pressure: Lock<Vec<RemotingBackpressureEvent>>,
    strangers: Lock<Vec<StrangerEvent>>,
    listener_faults: Lock<Vec<ListenerFault>>,
}

impl NodeLog {
    fn attach(system: &ActorSystem) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let events = system.event_stream();
        let (to, runtime) = (log.clone(), system.runtime().clone());
        events
            .subscribe(move |event: &RemotingLifecycleEvent| {
                to.lifecycle.lock().push((runtime.now(), event.clone()));
            })
            .forever();
        let to = log.clone();
        events.subscribe(move |event: &DeadLetterEvent| to.letters.lock().push(event.clone())).forever();
        let to = log.clone();
        events
            .subscribe(move |event: &RemotingBackpressureEvent| to.pressure.lock().push(event.clone()))
            .forever();
        let to = log.clone();
        events.subscribe(move |event: &StrangerEvent| to.strangers.lock().push(event.clone())).forever();
        let to = log.clone();
        events
            .subscribe(move |event: &ListenerFault| to.listener_faults.lock().push(event.clone()))
            .forever();
        log
    }
}

/// A node of a [`Simulation`]; clones mean the same.
#[derive(Clone)]
pub struct SimNode {
    name: String,
    authority: Authority,
    scheme: &'static str,
    system: ActorSystem,
    remoting: RemotingControlHandle,
    runtime: MortalRuntime,
    link: FaultControl,
    log: Arc<NodeLog>,
}

impl SimNode {
    /// The system. After [`kill`](Self::kill) nothing in it runs.
    #[must_use]
    pub const fn system(&self) -> &ActorSystem {
        &self.system
    }

    /// Its remoting.
    #[must_use]
    pub const fn remoting(&self) -> &RemotingControlHandle {
        &self.remoting
    }

    /// What its connections suffer.
    #[must_use]
    pub const fn link(&self) -> &FaultControl {
        &self.link
    }

    /// Where others reach it.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The url of its actor at `path`, such as `/user/sink`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let mut address = self.system.address();
        // Also after it has died, when it has no address any more.
        address.authority = Some(self.authority.clone());
        alloc::format!("{}://{}@{}{path}", self.scheme, address.system, self.authority)
    }

    /// Ends it without warning: its sockets close, its listener is gone, nobody is told.
    pub fn kill(&self) {
        self.runtime.kill();
        self.link.cut(Cut::Reset);
    }

    /// Stops it with its sockets open, until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.runtime.freeze();
    }

    /// Ends a freeze.
    pub fn thaw(&self) {
        self.runtime.thaw();
    }

    /// How many tasks it has.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.runtime.tasks()
    }

    /// Turns in the life of its associations so far, with their times.
    #[must_use]
    pub fn lifecycle(&self) -> Vec<(Instant, RemotingLifecycleEvent)> {
        self.log.lifecycle.lock().clone()
    }

    /// The names of its lifecycle events about `peer`, in order, without the attempts.
    #[must_use]
    pub fn turns_of(&self, peer: &Self) -> Vec<&'static str> {
        let log = self.log.lifecycle.lock();
        log.iter()
            .map(|(_, event)| event)
            .filter(|event| *event.authority() == peer.authority)
            .filter(|event| !matches!(event, RemotingLifecycleEvent::AssociationAttempt { .. }))
            .map(RemotingLifecycleEvent::name)
            .collect()
    }

    /// How many lifecycle events satisfy `test`.
    #[must_use]
    pub fn count(&self, test: impl Fn(&RemotingLifecycleEvent) -> bool) -> usize {
        self.log.lifecycle.lock().iter().filter(|(_, event)| test(event)).count()
    }

    /// Dead letters so far.
    #[must_use]
    pub fn letters(&self) -> Vec<DeadLetterEvent> {
        self.log.letters.lock().clone()
    }

    /// How many dead letters there were for `reason`.
    #[must_use]
    pub fn lost(&self, reason: DeadLetterReason) -> usize {
        self.log.letters.lock().iter().filter(|letter| letter.reason() == reason).count()
    }

    /// Backpressure events so far.
    #[must_use]
    pub fn pressure(&self) -> Vec<RemotingBackpressureEvent> {
        self.log.pressure.lock().clone()
    }

    /// Reports of connections that were not from nodes.
    #[must_use]
    pub fn strangers(&self) -> Vec<StrangerEvent> {
        self.log.strangers.lock().clone()
    }

    /// Reports of its listener's faults.
    #[must_use]
    pub fn listener_faults(&self) -> Vec<ListenerFault> {
        self.log.listener_faults.lock().clone()
    }

    /// Whether it has a connection to `peer` that serves.
    #[must_use]
    pub fn is_connected_to(&self, peer: &Self) -> bool {
        use nexus_actor_core::remote_authority::AuthorityState;
        use nexus_remote::RemotingControl;
        let authority = peer.authority.to_string();
        self.remoting.connections_snapshot().iter().any(|snapshot| {
            snapshot.authority == authority && matches!(snapshot.state, AuthorityState::Connected { .. })
        })
    }
}

impl fmt::Debug for SimNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimNode({}@{})", self.name, self.authority)
    }
}

/// A listener, driven by hand.
#[derive(Debug)]
pub struct Decoy {
    authority: Authority,
    trap: Trap,
}

impl Decoy {
    /// Where it listens.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The next connection that somebody made to it, if there is one.
    #[must_use]
    pub fn accept(&self) -> Option<Stranger> {
        self.trap.accept().map(|line| Stranger { line })
    }
}

/// One end of a connection, driven by hand.
#[derive(Debug)]
pub struct Stranger {
    line: Line,
}

impl Stranger {
    /// Writes what fits of `bytes` and says how much did; `None` when the connection is over.
    #[must_use]
    pub fn write(&self, bytes: &[u8]) -> Option<usize> {
        self.line.write(bytes)
    }

    /// Reads what is there. `None` when the connection is over and everything has been read.
    #[must_use]
    pub fn read(&self) -> Option<Vec<u8>> {
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.line.read(&mut buffer) {
                Some(0) => return Some(read),
                Some(count) => read.extend_from_slice(&buffer[..count]),
                None => return if read.is_empty() { None } else { Some(read) },
            }
        }
    }

    /// Whether the node has closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.read().is_none()
    }
}
