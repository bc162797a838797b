//! The actor system: the guardians and everything the actors of one node share.

mod error;

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::type_name;
use core::fmt;
use core::future::{Future, poll_fn};
use core::task::{Poll, Waker};
use core::time::Duration;

use portable_atomic::{AtomicBool, AtomicU64, Ordering};
use spin::Once;

pub use self::error::{ResolveError, ShutdownError};

use crate::actor::Actor;
use crate::actor_ref::{ActorRef, AnyRef, Body, Local, NamedCell, RemoteCell};
use crate::ask::AskTable;
use crate::context::State;
use crate::coordinated_shutdown::{CoordinatedShutdown, ShutdownPhase};
use crate::dead_letter::DeadLetters;
use crate::event_stream::EventStream;
use crate::extension::{Extension, ExtensionError, Extensions};
use crate::guardian::Guardian;
use crate::lock::Lock;
use crate::mailbox::Mailbox;
use crate::nest::{EnterError, NameKey, Nest, SpawnError};
use crate::path::{ActorPath, ActorPathScheme, ActorUid, Address};
use crate::process_registry::ProcessRegistry;
use crate::props::Props;
use crate::reason::AskError;
use crate::remote::{ActorRefProvider, Route, Wire};
use crate::remote_authority::RemoteAuthorityManager;
use crate::runtime::{BoxFuture, Runtime, contained};
use crate::scheduler::Scheduler;
use crate::serialization::{Encoder, Message, RegistrationError, SerializationRegistry, SerializerId};
use crate::supervision::{Directive, SupervisorStrategy};
use crate::time::Instant;
use crate::turn::{Core, Turns, turn};

/// A node's actors and what they share. A handle: clones mean the same system.
///
/// Nothing is global; any number of systems live in one process.
#[derive(Clone)]
pub struct ActorSystem(Arc<Inner>);

/// Published on the event stream whenever an actor fails, with what was done about it.
#[derive(Clone, Debug)]
pub struct ActorFailed {
    /// Which actor.
    pub path: ActorPath,
    /// The error its handler returned or the text of its panic.
    pub error: String,
    /// What its supervisor's strategy decided.
    pub directive: Directive,
}

/// Numbers that hold for a whole system.
#[derive(Clone, Debug)]
pub struct ActorSystemConfig {
    /// How long an ask waits unless it says otherwise. Default 5 s.
    pub ask_timeout: Duration,
    /// How long a stop waits for a suspended handler before it drops the handler's future. Default 5 s.
    pub stop_deadline: Duration,
    /// How long [`ActorSystem::shutdown`] waits for the actors before it reports them. Default 10 s.
    pub shutdown_timeout: Duration,
    /// The supervision of children whose parent's props say nothing.
    pub supervision: SupervisorStrategy,
    /// Seeds everything random that is not a secret: jitter, actor uids. `None`: drawn from the operating
    /// system where there is one.
    pub seed: Option<u64>,
}

impl Default for ActorSystemConfig {
    fn default() -> Self {
        Self {
            ask_timeout: Duration::from_secs(5),
            stop_deadline: Duration::from_secs(5),
            shutdown_timeout: Duration::from_secs(10),
            supervision: SupervisorStrategy::default(),
            seed: None,
        }
    }
}

/// How often a future is polled once more after its deadline in a shutdown.
const LATE_POLLS: u32 = 64;

struct Inner {
    name: Arc<str>,
    config: ActorSystemConfig,
    runtime: Arc<dyn Runtime>,
    scheduler: Scheduler,
    asks: AskTable,
    next_uid: AtomicU64,
    random: Lock<fastrand::Rng>,
    events: EventStream,
    dead_letters: DeadLetters,
    default_strategy: Arc<SupervisorStrategy>,
    serialization: SerializationRegistry,
    extensions: Extensions,
    authorities: RemoteAuthorityManager,
    shutdown: CoordinatedShutdown,
    providers: Lock<Providers>,
    root: Lock<Option<Arc<Nest>>>,
    guardians: Guardians,
    shutting_down: AtomicBool,
    life: Lock<Life>,
}

/// Who finds the way to other nodes. Nearly always it is one provider, so that one stands apart: what it is cloned
/// for costs one count.
#[derive(Clone, Default)]
struct Providers {
    first: Option<Arc<dyn ActorRefProvider>>,
    others: Option<Arc<[Arc<dyn ActorRefProvider>]>>,
    /// The system has terminated.
    closed: bool,
}

impl Providers {
    fn iter(&self) -> impl Iterator<Item = &Arc<dyn ActorRefProvider>> {
        self.first.iter().chain(self.others.iter().flat_map(|others| others.iter()))
    }

    fn add(&mut self, provider: Arc<dyn ActorRefProvider>) {
        if self.first.is_none() {
            self.first = Some(provider);
        } else {
            let others = self.others.iter().flat_map(|others| others.iter()).cloned();
            self.others = Some(others.chain([provider]).collect());
        }
    }

    fn without(&self, provider: &Arc<dyn ActorRefProvider>) -> Self {
        let mut rest = Self { closed: self.closed, ..Self::default() };
        for kept in self.iter().filter(|kept| !Arc::ptr_eq(kept, provider)) {
            rest.add(kept.clone());
        }
        rest
    }
}

/// The places of the guardians' children. Set once and read at every spawn, so without a lock; weak, for a nest knows
/// its system.
#[derive(Default)]
struct Guardians {
    user: Once<Weak<Nest>>,
    system: Once<Weak<Nest>>,
    temp: Once<Weak<Nest>>,
}

#[derive(Default)]
struct Life {
    terminated: bool,
    /// What had not ended when the shutdown's time was up.
    left: Vec<String>,
    /// When the shutdown's time is up.
    deadline: Option<Instant>,
    /// Who waits for the system to terminate.
    waiting: Vec<Waker>,
    /// Who waits for a guardian to end.
    watching: Vec<Waker>,
}

impl ActorSystem {
    /// Starts building a system of that name with a guardian that does nothing but supervise.
    pub fn builder(name: impl Into<String>) -> crate::builder::ActorSystemBuilder<Guardian> {
        crate::builder::ActorSystemBuilder::new(Guardian::props()).with_name(name)
    }

    /// Everything but the guardians. The scheduler's task is already running.
    pub(crate) fn assemble(
        name: Arc<str>,
        config: ActorSystemConfig,
        events: EventStream,
        runtime: Arc<dyn Runtime>,
        scheduler: Scheduler,
        seed: u64,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let system = Self(Arc::new(Inner {
            name,
            asks: AskTable::new(),
            // 56 bits, as the cell keeps them; a random start tells incarnations of a node apart.
            next_uid: AtomicU64::new(random.u64(..) >> 8),
            random: Lock::new(random),
            dead_letters: DeadLetters::new(events.clone()),
            authorities: RemoteAuthorityManager::new(events.clone()),
            events,
            serialization: SerializationRegistry::default(),
            extensions: Extensions::default(),
            shutdown: CoordinatedShutdown::default(),
            default_strategy: Arc::new(config.supervision.clone()),
            config,
            runtime,
            scheduler,
            providers: Lock::default(),
            root: Lock::new(None),
            guardians: Guardians::default(),
            shutting_down: AtomicBool::new(false),
            life: Lock::default(),
        }));
        let root = Nest::new(system.clone(), None, Arc::from(""), system.0.default_strategy.clone());
        *system.0.root.lock() = Some(Arc::new(root));
        system
    }

    /// Starts a guardian. They are told apart by their names: `user`, `system`, `temp`.
    pub(crate) fn spawn_guardian<A: Actor>(
        &self,
        name: &'static str,
        props: Props<A>,
    ) -> Result<(), SpawnError> {
        let root = self.0.root.lock().clone().ok_or(SpawnError::Shutdown)?;
        let guardian = self.spawn_in(root, Some(name), props)?.to_any();
        let nest = guardian.ensure_nest(None).ok_or(SpawnError::Shutdown)?;
        let guardians = &self.0.guardians;
        let place = match name {
            "user" => &guardians.user,
            "system" => &guardians.system,
            _ => &guardians.temp,
        };
        place.call_once(|| Arc::downgrade(&nest));
        Ok(())
    }

    /// Adds a provider of references to actors of other nodes, also while the system runs. It is asked for addresses
    /// of the schemes that it [serves](ActorRefProvider::serves) and no earlier one does, and the address it announces
    /// means this system from now on. [`address`](Self::address) stays the first provider's.
    ///
    /// A system that has terminated keeps none.
    pub fn add_actor_ref_provider(&self, provider: Arc<dyn ActorRefProvider>) {
        let refused = {
            let mut providers = self.0.providers.lock();
            if providers.closed {
                Some(provider)
            } else {
                providers.add(provider);
                None
            }
        };
        drop(refused);
    }

    /// Takes a provider out that was [added](Self::add_actor_ref_provider). References that it resolved stay what they
    /// are.
    pub fn remove_actor_ref_provider(&self, provider: &Arc<dyn ActorRefProvider>) {
        let removed = {
            let mut providers = self.0.providers.lock();
            let rest = providers.without(provider);
            core::mem::replace(&mut *providers, rest)
        };
        drop(removed);
    }

    /// The system's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The address under which other nodes reach this system, or a local one without remoting.
    #[must_use]
    pub fn address(&self) -> Address {
        let first = self.0.providers.lock().first.clone();
        first.and_then(|provider| provider.canonical_address()).unwrap_or_else(|| Address {
            scheme: ActorPathScheme::Fraktor,
            system: self.0.name.clone(),
            authority: None,
        })
    }

    /// The numbers this system was built with.
    #[must_use]
    pub fn config(&self) -> &ActorSystemConfig {
        &self.0.config
    }

    /// What runs the actors.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.0.runtime
    }

    /// Now, on the runtime's monotonic clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.runtime.now()
    }

    /// The timers of this system.
    #[must_use]
    pub fn scheduler(&self) -> &Scheduler {
        &self.0.scheduler
    }

    /// Where components publish what happens and applications subscribe.
    #[must_use]
    pub fn event_stream(&self) -> &EventStream {
        &self.0.events
    }

    /// Counts and publishes what could not be delivered.
    #[must_use]
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.0.dead_letters
    }

    /// The message types that may come over a wire.
    #[must_use]
    pub fn serialization(&self) -> &SerializationRegistry {
        &self.0.serialization
    }

    /// Lets messages of type `M` come over a wire.
    ///
    /// # Errors
    /// When the type or its manifest is registered already.
    pub fn register<M: Message>(&self) -> Result<(), RegistrationError> {
        self.0.serialization.register::<M>()
    }

    /// The extension of type `E`.
    ///
    /// # Errors
    /// When this system was built without it.
    pub fn extension<E: Extension>(&self) -> Result<Arc<E>, ExtensionError> {
        self.0.extensions.get::<E>()
    }

    /// The extensions of this system.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    /// The state of each remote authority this system has heard of.
    #[must_use]
    pub fn remote_authorities(&self) -> &RemoteAuthorityManager {
        &self.0.authorities
    }

    /// What runs, and in which order, when this system shuts down.
    #[must_use]
    pub fn coordinated_shutdown(&self) -> &CoordinatedShutdown {
        &self.0.shutdown
    }

    /// The living actors.
    #[must_use]
    pub fn processes(&self) -> ProcessRegistry {
        ProcessRegistry::new(self.clone())
    }

    /// Starts an actor at `/user/name`.
    ///
    /// # Errors
    /// When the name is taken or breaks a rule, or the system is shutting down.
    pub fn spawn<A: Actor>(&self, name: &str, props: Props<A>) -> Result<ActorRef<A::Msg>, SpawnError> {
        self.spawn_under(&self.0.guardians.user, Some(name), props)
    }

    /// Starts an actor without a name under `/user`; its path ends in `$` and its uid.
    ///
    /// # Errors
    /// When the system is shutting down.
    pub fn spawn_anonymous<A: Actor>(&self, props: Props<A>) -> Result<ActorRef<A::Msg>, SpawnError> {
        self.spawn_under(&self.0.guardians.user, None, props)
    }

    /// Starts an actor at `/system/name`: parts of the runtime, which outlive `/user` in a shutdown.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn spawn_system<A: Actor>(
        &self,
        name: &str,
        props: Props<A>,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        self.spawn_under(&self.0.guardians.system, Some(name), props)
    }

    /// Starts an actor under `/temp`: short-lived helpers, not shown to others.
    ///
    /// # Errors
    /// When the system is shutting down.
    pub fn spawn_temporary<A: Actor>(&self, props: Props<A>) -> Result<ActorRef<A::Msg>, SpawnError> {
        self.spawn_under(&self.0.guardians.temp, None, props)
    }

    fn spawn_under<A: Actor>(
        &self,
        guardian: &Once<Weak<Nest>>,
        name: Option<&str>,
        props: Props<A>,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        // Parts of the runtime may still be needed to end it.
        if self.is_shutting_down() && !core::ptr::eq(guardian, &self.0.guardians.system) {
            return Err(SpawnError::Shutdown);
        }
        let nest = guardian.get().and_then(Weak::upgrade).ok_or(SpawnError::Shutdown)?;
        self.spawn_in(nest, name, props).map_err(|error| match error {
            // A guardian stops with its system only.
            SpawnError::ParentStopped => SpawnError::Shutdown,
            SpawnError::NameTaken { .. } | SpawnError::InvalidName { .. } | SpawnError::Shutdown => error,
        })
    }

    pub(crate) fn spawn_in<A: Actor>(
        &self,
        nest: Arc<Nest>,
        name: Option<&str>,
        props: Props<A>,
    ) -> Result<ActorRef<A::Msg>, SpawnError> {
        let name = match name {
            None => None,
            Some(name) => {
                crate::path::validate_name(name).map_err(|error| SpawnError::InvalidName {
                    name: name.to_string(),
                    rule: error.to_string(),
                })?;
                Some(NameKey(Arc::new(Box::from(name))))
            }
        };
        let uid = self.next_uid();
        let Props { factory, mailbox, rare } = props;
        let supervision = rare.as_ref().and_then(|rare| rare.supervision.clone());
        let me = ActorRef::from_cell(Body::Local(Local {
            mailbox: Mailbox::new(mailbox, uid),
            nest,
            name: name.clone(),
        }));
        let Body::Local(Local { nest, .. }) = &me.0.body else { unreachable!("made above") };
        if let Some(strategy) = supervision {
            // Children may be spawned from outside (a guardian's are) before the actor runs.
            me.to_any().ensure_nest(Some(strategy));
        }
        if let Err(error) = nest.enter(name.as_ref(), uid, me.to_any()) {
            // Its place for children holds the way back to it; nobody else will ever take them apart.
            if let Body::Local(local) = &me.0.body {
                drop(local.mailbox.close());
            }
            return Err(match error {
                EnterError::Closed => SpawnError::ParentStopped,
                EnterError::Taken => SpawnError::NameTaken { path: me.path().elements().to_string() },
            });
        }
        let core = Core::new(me.clone(), factory, State::new(rare));
        self.spawn_task(Turns::new(core, turn::<A>));
        Ok(me)
    }

    /// Runs a future on this system's runtime. It is not an actor: nothing supervises or stops it.
    pub fn spawn_task(&self, future: impl Future<Output = ()> + Send + 'static) {
        #[cfg(feature = "std")]
        if let Some(handle) = self.0.runtime.tokio() {
            drop(handle.spawn(future));
            return;
        }
        self.0.runtime.spawn(Box::pin(future));
    }

    /// A reference to whoever lives at a path: `fraktor.tcp://system@host:port/user/name`, or `/user/name` here.
    ///
    /// Resolving by name asks nobody: whether somebody lives there shows when a message is sent. A path with a
    /// uid means that one incarnation. Use [`lookup`](Self::lookup) to ask the node.
    ///
    /// # Errors
    /// When the text is no path, or its node cannot be reached from here at all.
    pub fn resolve<M: Message>(&self, path: &str) -> Result<ActorRef<M>, ResolveError> {
        self.resolve_path(&self.parse_path(path)?)
    }

    /// Reads a path, of this node (`/user/a`) or with the address of any, without asking whether anybody lives there.
    ///
    /// # Errors
    /// [`ResolveError::InvalidPath`], which says what it breaks.
    pub fn parse_path(&self, path: &str) -> Result<ActorPath, ResolveError> {
        if path.starts_with('/') {
            let (elements, uid) = match path.rsplit_once('#') {
                Some((elements, uid)) => {
                    let uid = uid.parse().map_err(|_| ResolveError::InvalidPath {
                        path: path.to_string(),
                        rule: "the text after `#` is a decimal number".to_string(),
                    })?;
                    (elements, ActorUid::new(uid))
                }
                None => (path, ActorUid::ANY),
            };
            return ActorPath::checked(self.address(), elements, uid).map_err(|error| {
                ResolveError::InvalidPath { path: path.to_string(), rule: error.to_string() }
            });
        }
        path.parse().map_err(|error: crate::path::PathError| ResolveError::InvalidPath {
            path: path.to_string(),
            rule: error.to_string(),
        })
    }

    /// [`resolve`](Self::resolve) for a parsed path.
    ///
    /// # Errors
    /// When its node cannot be reached from here at all.
    pub fn resolve_path<M: Message>(&self, path: &ActorPath) -> Result<ActorRef<M>, ResolveError> {
        if self.is_own(path.address()) {
            if !path.uid().is_any()
                && let Some(found) = self.find_incarnation(path.elements(), path.uid())
                && let Some(typed) = found.downcast()
            {
                return Ok(typed);
            }
            let named = NamedCell { system: self.clone(), path: path.clone() };
            return Ok(ActorRef::from_cell(Body::Named(Box::new(named))));
        }
        let route = self.route(path.address())?;
        let (serializer, encode) = match route.wire() {
            Wire::Native => (M::SERIALIZER, M::encode as fn(&M, &mut Encoder<'_>) -> _),
            Wire::Protobuf => {
                let type_name = type_name::<M>();
                let codec = M::PROTOBUF.ok_or(ResolveError::NoProtobuf { type_name })?;
                codec.check().map_err(|rule| ResolveError::InvalidProtobuf { type_name, rule })?;
                (SerializerId::PROTOBUF, codec.encode)
            }
        };
        let recipient = route.intern(path, serializer, M::MANIFEST)?;
        Ok(ActorRef::from_cell(Body::Remote(Box::new(RemoteCell {
            route,
            recipient,
            path: path.clone(),
            encode,
            system: self.clone(),
        }))))
    }

    fn route(&self, address: &Address) -> Result<Arc<dyn Route>, ResolveError> {
        let providers = self.0.providers.lock().clone();
        let provider = providers
            .iter()
            .find(|provider| provider.serves(&address.scheme))
            .ok_or_else(|| ResolveError::NoRemoting { address: address.clone() })?;
        Ok(provider.route(self, address)?)
    }

    /// Asks the node which incarnation lives at a path and returns a reference to that one.
    ///
    /// # Errors
    /// [`AskError::NoSuchActor`] when nobody lives there, [`AskError::Decode`] when the path is none; else why
    /// the node could not be asked. Waits at most the system's ask timeout.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn lookup<M: Message>(&self, path: &str) -> Result<ActorRef<M>, AskError> {
        let path = self.parse_path(path).map_err(|error| AskError::Decode(error.to_string()))?;
        if self.is_own(path.address()) {
            return self
                .find(path.elements())
                .and_then(|found| found.downcast())
                .ok_or(AskError::NoSuchActor);
        }
        let route = self.route(path.address()).map_err(|error| match error {
            ResolveError::Refused(refusal) => AskError::from(refusal),
            ResolveError::InvalidPath { .. }
            | ResolveError::NoRemoting { .. }
            | ResolveError::NoProtobuf { .. }
            | ResolveError::InvalidProtobuf { .. } => AskError::Unreachable,
        })?;
        let (ask, reply) = crate::ask::Ask::<u64>::new();
        route.lookup(&path, M::MANIFEST, reply.into_pending());
        let uid = ask.watched_by(self).await?;
        self.resolve_path(&path.with_uid(ActorUid::new(uid))).map_err(|_| AskError::Unreachable)
    }

    /// Whether `address` means this system: with its name or, as addresses of the scheme `protoactor`, with none, and
    /// an authority that one of its providers announces, or none.
    #[must_use]
    pub fn is_own(&self, address: &Address) -> bool {
        let named = address.system.is_empty() || address.system == self.0.name;
        if address.authority.is_none() {
            return named;
        }
        let providers = self.0.providers.lock().clone();
        providers
            .iter()
            .filter_map(|provider| provider.canonical_address())
            .any(|own| own.authority == address.authority && (named || own.system == address.system))
    }

    /// The living actor at a path below the root (`/user/a/b`).
    #[must_use]
    pub fn find(&self, elements: &str) -> Option<AnyRef> {
        let mut nest = self.0.root.lock().clone()?;
        let mut names = elements.strip_prefix('/')?.split('/').peekable();
        loop {
            let found = nest.find(names.next()?)?;
            if names.peek().is_none() {
                return Some(found);
            }
            nest = found.nest()?;
        }
    }

    /// The living actor at a path, if it is that incarnation.
    #[must_use]
    pub fn find_incarnation(&self, elements: &str, uid: ActorUid) -> Option<AnyRef> {
        self.find(elements).filter(|found| uid.is_any() || found.uid() == uid)
    }

    /// The guardians, in the order they were started.
    pub(crate) fn roots(&self) -> Vec<AnyRef> {
        let root = self.0.root.lock().clone();
        root.map_or_else(Vec::new, |root| root.all())
    }

    pub(crate) fn with_own_address(&self, path: &ActorPath) -> ActorPath {
        ActorPath::new(self.address(), path.elements(), path.uid())
    }

    pub(crate) fn nest_of<M: Send + 'static>(&self, me: &ActorRef<M>) -> Option<Arc<Nest>> {
        me.to_any().ensure_nest(None)
    }

    pub(crate) fn default_strategy(&self) -> &Arc<SupervisorStrategy> {
        &self.0.default_strategy
    }

    pub(crate) fn next_uid(&self) -> ActorUid {
        loop {
            let uid = self.0.next_uid.fetch_add(1, Ordering::Relaxed) & (u64::MAX >> 8);
            if uid != 0 {
                return ActorUid::new(uid);
            }
        }
    }

    pub(crate) fn asks(&self) -> &AskTable {
        &self.0.asks
    }

    pub(crate) fn ask_timeout(&self) -> Duration {
        self.0.config.ask_timeout
    }

    pub(crate) fn stop_deadline(&self) -> Duration {
        self.0.config.stop_deadline
    }

    /// Uniform in 0..1.
    pub(crate) fn random(&self) -> f64 {
        self.0.random.lock().f64()
    }

    /// 64 bits from this system's seeded generator; never for secrets.
    #[must_use]
    pub fn random_u64(&self) -> u64 {
        self.0.random.lock().u64(..)
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A handle that does not keep the system's memory.
    #[must_use]
    pub fn downgrade(&self) -> WeakSystem {
        WeakSystem(Arc::downgrade(&self.0))
    }

    /// Whether a shutdown has begun.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.0.shutting_down.load(Ordering::Acquire)
    }

    /// Whether the shutdown is complete.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.0.life.lock().terminated
    }

    /// When the time of the shutdown is up; `None` before it has begun. All that runs in its course shares that time: what may
    /// take long ends before it, or is reported as left.
    #[must_use]
    pub fn shutdown_deadline(&self) -> Option<Instant> {
        self.0.life.lock().deadline
    }

    /// Begins the coordinated shutdown, once; later calls change nothing. Waits for nothing.
    ///
    /// In order: what the application registered before the actors, `/user`, the extensions in reverse order
    /// (remoting flushes and says goodbye here), `/system`, what was registered after them.
    pub fn begin_shutdown(&self) {
        if self.0.shutting_down.swap(true, Ordering::AcqRel) {
            return;
        }
        let system = self.clone();
        self.spawn_task(async move {
            let left = system.run_shutdown().await;
            let waiting = {
                let mut life = system.0.life.lock();
                life.terminated = true;
                life.left = left;
                core::mem::take(&mut life.waiting)
            };
            system.0.scheduler.close();
            system.0.asks.close();
            let root = system.0.root.lock().take();
            let providers = {
                let mut providers = system.0.providers.lock();
                core::mem::replace(&mut *providers, Providers { closed: true, ..Providers::default() })
            };
            drop((root, providers));
            for waker in waiting {
                contained(|| waker.wake());
            }
        });
    }

    /// Shuts down and waits until that is complete, at most `shutdown_timeout`.
    ///
    /// # Errors
    /// [`ShutdownError`] names what had not ended by then; it has been abandoned.
    ///
    /// # Cancel safety
    /// The shutdown goes on without the future.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.begin_shutdown();
        self.when_terminated().await
    }

    /// Waits until the system has terminated, whoever began it.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown).
    pub async fn when_terminated(&self) -> Result<(), ShutdownError> {
        poll_fn(|cx| {
            let mut life = self.0.life.lock();
            if !life.terminated {
                if !life.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    life.waiting.push(cx.waker().clone());
                }
                return Poll::Pending;
            }
            if life.left.is_empty() {
                Poll::Ready(Ok(()))
            } else {
                Poll::Ready(Err(ShutdownError { left: life.left.clone() }))
            }
        })
        .await
    }

    async fn run_shutdown(&self) -> Vec<String> {
        let deadline = self.now() + self.0.config.shutdown_timeout;
        self.0.life.lock().deadline = Some(deadline);
        let mut left = Vec::new();
        self.0.shutdown.run(ShutdownPhase::BeforeActors, self, deadline, &mut left).await;
        self.stop_guardian("user", deadline, &mut left).await;
        self.0.shutdown.run(ShutdownPhase::AfterActors, self, deadline, &mut left).await;
        for (name, ending) in self.0.extensions.shutdown_all(self) {
            if !self.within(deadline, ending).await {
                left.push(name);
            }
        }
        self.stop_guardian("temp", deadline, &mut left).await;
        self.stop_guardian("system", deadline, &mut left).await;
        self.0.shutdown.run(ShutdownPhase::Last, self, deadline, &mut left).await;
        left
    }

    async fn stop_guardian(&self, name: &str, deadline: Instant, left: &mut Vec<String>) {
        let root = self.0.root.lock().clone();
        let Some(guardian) = root.and_then(|root| root.find(name)) else { return };
        guardian.stop();
        let gone = {
            let (system, guardian) = (self.clone(), guardian.clone());
            poll_fn(move |cx| {
                if guardian.is_terminated() {
                    return Poll::Ready(());
                }
                let mut life = system.0.life.lock();
                if !life.watching.iter().any(|waker| waker.will_wake(cx.waker())) {
                    life.watching.push(cx.waker().clone());
                }
                drop(life);
                // It may have ended between the two looks.
                if guardian.is_terminated() { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        if !self.within(deadline, Box::pin(gone)).await {
            for actor in self.processes().list() {
                if actor.path().elements().strip_prefix('/').is_some_and(|path| path.starts_with(name)) {
                    left.push(actor.path().elements().to_string());
                }
            }
        }
    }

    /// Runs `future` until it ends or `deadline` passes; says whether it ended. One that begins too late has a
    /// few turns of the executor left, so that a part in good health is not reported beside the stuck one.
    pub(crate) async fn within(&self, deadline: Instant, mut future: BoxFuture) -> bool {
        let mut sleep = self.0.runtime.sleep_until(deadline);
        let mut late = 0;
        poll_fn(move |cx| {
            if future.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            if late == 0 && sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            late += 1;
            if late > LATE_POLLS {
                return Poll::Ready(false);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// A guardian has ended. The user guardian's end is the system's.
    pub(crate) fn guardian_terminated(&self, who: &AnyRef) {
        let waiting = core::mem::take(&mut self.0.life.lock().watching);
        for waker in waiting {
            waker.wake();
        }
        if who.name_is("user") {
            self.begin_shutdown();
        }
    }
}

impl fmt::Debug for ActorSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorSystem({})", self.0.name)
    }
}

/// A handle on a system that does not keep its memory.
#[derive(Clone)]
pub struct WeakSystem(Weak<Inner>);

impl WeakSystem {
    /// The system, unless it is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<ActorSystem> {
        self.0.upgrade().map(ActorSystem)
    }
}

impl fmt::Debug for WeakSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakSystem")
    }
}
