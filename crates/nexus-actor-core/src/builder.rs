//! Building a system.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use crate::actor::Actor;
use crate::event_stream::EventStream;
use crate::guardian::Guardian;
use crate::nest::SpawnError;
use crate::props::Props;
use crate::remote::ActorRefProvider;
use crate::runtime::Runtime;
use crate::scheduler::Scheduler;
use crate::supervision::SupervisorStrategy;
use crate::system::{ActorSystem, ActorSystemConfig};
use crate::tick_driver::TickDriverConfig;

type MakeProvider = Box<
    dyn FnOnce(&ActorSystem) -> Result<Arc<dyn ActorRefProvider>, Box<dyn core::error::Error + Send + Sync>>
        + Send,
>;

/// Makes the provider of remote references for a system under construction.
pub trait ActorRefProviderFactory: Send + 'static {
    /// Called once, after the extensions have been created.
    ///
    /// # Errors
    /// Ends the construction of the system.
    fn create(
        self,
        system: &ActorSystem,
    ) -> Result<Arc<dyn ActorRefProvider>, Box<dyn core::error::Error + Send + Sync>>;
}

/// Collects the parts of a system.
#[must_use]
pub struct ActorSystemBuilder<A: Actor> {
    name: String,
    guardian: Props<A>,
    tick_driver: Option<TickDriverConfig>,
    provider: Option<MakeProvider>,
    extensions: crate::extension::ExtensionsConfig,
    config: ActorSystemConfig,
    events: EventStream,
}

impl<A: Actor> ActorSystemBuilder<A> {
    /// A system whose `/user` guardian is made by `guardian`, with the name `nexus`.
    pub fn new(guardian: Props<A>) -> Self {
        Self {
            name: String::from("nexus"),
            guardian,
            tick_driver: None,
            provider: None,
            extensions: crate::extension::ExtensionsConfig::default(),
            config: ActorSystemConfig::default(),
            events: EventStream::new(),
        }
    }

    /// The system's name, part of every address.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What runs the actors and moves their clock. Without it, the tokio runtime this is built in.
    pub fn with_tick_driver(mut self, config: impl Into<TickDriverConfig>) -> Self {
        self.tick_driver = Some(config.into());
        self
    }

    /// The runtime, with timers at its own resolution: short for a tick driver that does not round.
    pub fn with_runtime(self, runtime: impl Runtime) -> Self {
        self.with_tick_driver(TickDriverConfig::new(Arc::new(runtime)))
    }

    /// What resolves the paths of other nodes. More of them can be added to the running system:
    /// [`ActorSystem::add_actor_ref_provider`].
    pub fn with_actor_ref_provider(mut self, provider: impl ActorRefProviderFactory) -> Self {
        self.provider = Some(Box::new(move |system| provider.create(system)));
        self
    }

    /// The extensions to create, in their order.
    pub fn with_extensions_config(mut self, extensions: crate::extension::ExtensionsConfig) -> Self {
        self.extensions = extensions;
        self
    }

    /// One more extension.
    pub fn with_extension(mut self, config: impl crate::extension::ExtensionConfig) -> Self {
        self.extensions = self.extensions.with_extension_config(config);
        self
    }

    /// The numbers of the system.
    pub fn with_config(mut self, config: ActorSystemConfig) -> Self {
        self.config = config;
        self
    }

    /// The event stream of the system: one that is subscribed to before [`build`](Self::build) hears what the
    /// extensions say while they start. Two systems should not share one.
    pub fn with_event_stream(mut self, events: EventStream) -> Self {
        self.events = events;
        self
    }

    /// How long an ask waits unless it says otherwise.
    pub const fn with_ask_timeout(mut self, timeout: Duration) -> Self {
        self.config.ask_timeout = timeout;
        self
    }

    /// How long a shutdown may take in all.
    pub const fn with_shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// The supervision of actors whose parent's props say nothing.
    pub fn with_supervision(mut self, strategy: SupervisorStrategy) -> Self {
        self.config.supervision = strategy;
        self
    }

    /// Seeds all that is random and no secret, so that a run can be repeated.
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// Starts the system: guardians, extensions in their order, provider.
    ///
    /// # Errors
    /// [`BuildError`] names the part that failed; nothing is left running.
    pub fn build(self) -> Result<ActorSystem, BuildError> {
        let Self { name, guardian, tick_driver, provider, extensions, config, events } = self;
        crate::address::validate_system_name(&name)
            .map_err(|error| BuildError::InvalidName { name: name.clone(), rule: error.to_string() })?;
        let TickDriverConfig { runtime, tick } = match tick_driver {
            Some(config) => config,
            None => TickDriverConfig::current().ok_or(BuildError::NoRuntime)?,
        };
        let seed = config.seed.unwrap_or_else(|| os_seed(&*runtime));
        let (scheduler, task) = Scheduler::new(runtime.clone(), tick);
        runtime.spawn(Box::pin(task));
        let system = ActorSystem::assemble(Arc::from(name), config, events, runtime, scheduler, seed);
        match Self::furnish(&system, guardian, provider, extensions) {
            Ok(()) => Ok(system),
            Err(error) => {
                // Ends what was installed before the one that failed.
                system.begin_shutdown();
                Err(error)
            }
        }
    }

    fn furnish(
        system: &ActorSystem,
        guardian: Props<A>,
        provider: Option<MakeProvider>,
        extensions: crate::extension::ExtensionsConfig,
    ) -> Result<(), BuildError> {
        system.spawn_guardian("system", Guardian::props()).map_err(BuildError::Guardian)?;
        system.spawn_guardian("temp", Guardian::props()).map_err(BuildError::Guardian)?;
        extensions
            .install_all(system, system.extensions())
            .map_err(|error| BuildError::Extension { error: Arc::new(error) })?;
        if let Some(make) = provider {
            let provider = make(system).map_err(|error| BuildError::Provider { error: Arc::from(error) })?;
            system.add_actor_ref_provider(provider);
        }
        system.spawn_guardian("user", guardian).map_err(BuildError::Guardian)
    }
}

impl<A: Actor> fmt::Debug for ActorSystemBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorSystemBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "std")]
fn os_seed(_runtime: &dyn Runtime) -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        // No entropy at all: the address of a fresh allocation and the wall clock still differ per start.
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| since.as_nanos() as u64),
    }
}

/// Without an operating system the application gives a seed; the clock is all there is otherwise.
#[cfg(not(feature = "std"))]
fn os_seed(runtime: &dyn Runtime) -> u64 {
    runtime.now().as_nanos() ^ 0x9e37_79b9_7f4a_7c15
}

/// Why a system could not be built.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The system's name breaks a rule.
    InvalidName {
        /// The name.
        name: String,
        /// The rule.
        rule: String,
    },
    /// Neither a tick driver was given nor is this called inside a tokio runtime.
    NoRuntime,
    /// A guardian could not be started.
    Guardian(SpawnError),
    /// An extension could not be created.
    Extension {
        /// What the extension said.
        error: Arc<dyn core::error::Error + Send + Sync>,
    },
    /// The provider of remote references could not be created.
    Provider {
        /// What the provider said.
        error: Arc<dyn core::error::Error + Send + Sync>,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { name, rule } => write!(f, "{name:?} is not a name for a system: {rule}"),
            Self::NoRuntime => f.write_str(
                "no runtime: call `with_tick_driver(StdTickDriverConfig::tokio_quickstart())` or build inside \
                 a tokio runtime",
            ),
            Self::Guardian(error) => write!(f, "guardian: {error}"),
            // It says itself that an extension is meant.
            Self::Extension { error } => fmt::Display::fmt(error, f),
            Self::Provider { error } => write!(f, "actor ref provider: {error}"),
        }
    }
}

impl core::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Guardian(error) => Some(error),
            Self::Extension { error } | Self::Provider { error } => Some(&**error),
            Self::InvalidName { .. } | Self::NoRuntime => None,
        }
    }
}
