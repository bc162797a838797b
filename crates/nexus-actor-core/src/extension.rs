//! What a system can be extended by: remoting, a cluster, metrics, anything with one instance per system.
//!
//! An [`ExtensionId`] says how an extension is made; [`ExtensionsConfig`] lists those that a system is built with.
//! The system makes them in that order and ends them in the reverse one.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::{Any, TypeId, type_name};
use core::fmt;
use core::future::Future;
use core::pin::Pin;

use crate::lock::Lock;
use crate::system::ActorSystem;

/// The one instance of a type that extends a system.
pub trait Extension: Send + Sync + 'static {
    /// Ends it: after the actors of `/user` have stopped, and before the extensions made earlier end. The system
    /// waits for the future within what is left of its shutdown time, then goes on without it. The extension can
    /// no longer be looked up.
    ///
    /// # Cancel safety
    /// The future is dropped where it stands when that time is over.
    fn shutdown(self: Arc<Self>, system: &ActorSystem) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let _ = system;
        Box::pin(core::future::ready(()))
    }
}

/// How to make an extension.
pub trait ExtensionId: Send + Sync + 'static {
    /// What is made; a system has at most one of that type.
    type Ext: Extension;

    /// Makes the extension of `system`, which is complete except for the extensions that come later.
    ///
    /// # Errors
    /// Any; the system is then not built, and the extensions before this one are ended.
    fn create(&self, system: &ActorSystem) -> Result<Self::Ext, Box<dyn core::error::Error + Send + Sync>>;
}

/// Installs an extension into a system that is being built. Every [`ExtensionId`] does so with what it creates.
pub trait ExtensionConfig: Send + Sync + 'static {
    /// Installs it.
    ///
    /// # Errors
    /// When there is one of that type already, or it could not be made.
    fn install(&self, system: &ActorSystem, extensions: &Extensions) -> Result<(), ExtensionError>;
}

impl<T: ExtensionId> ExtensionConfig for T {
    fn install(&self, system: &ActorSystem, extensions: &Extensions) -> Result<(), ExtensionError> {
        extensions.register(system, self).map(drop)
    }
}

/// The extensions that a system is built with, in the order in which they are made.
#[derive(Clone, Default)]
pub struct ExtensionsConfig(Vec<Arc<dyn ExtensionConfig>>);

impl ExtensionsConfig {
    /// The same list and one more at its end.
    #[must_use]
    pub fn with_extension_config(mut self, config: impl ExtensionConfig) -> Self {
        self.0.push(Arc::new(config));
        self
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes all of them, in order.
    ///
    /// # Errors
    /// The first that fails ends this; those before it are installed, and the caller shuts them down with
    /// [`Extensions::shutdown_all`].
    pub fn install_all(&self, system: &ActorSystem, extensions: &Extensions) -> Result<(), ExtensionError> {
        self.0.iter().try_for_each(|config| config.install(system, extensions))
    }
}

impl fmt::Debug for ExtensionsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtensionsConfig").field("len", &self.len()).finish()
    }
}

/// Why there is no such extension.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExtensionError {
    /// The system has one of that type, or is just making it. Nothing changed.
    Duplicate {
        /// The extension's type.
        extension: &'static str,
    },
    /// It could not be made. Nothing changed.
    Create {
        /// The extension's type.
        extension: &'static str,
        /// The error of [`ExtensionId::create`].
        source: Box<dyn core::error::Error + Send + Sync>,
    },
    /// The system was built without it.
    NotFound {
        /// The extension's type.
        extension: &'static str,
    },
    /// The system is shutting down and takes no more.
    Shutdown {
        /// The extension's type.
        extension: &'static str,
    },
}

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { extension } => {
                write!(
                    f,
                    "the system has an extension {extension} already; remove one of the two configurations"
                )
            }
            Self::Create { extension, source } => {
                write!(f, "extension {extension} could not be made: {source}")
            }
            Self::NotFound { extension } => write!(
                f,
                "the system has no extension {extension}; add its configuration with \
                 `ExtensionsConfig::with_extension_config`"
            ),
            Self::Shutdown { extension } => write!(f, "extension {extension}: the system is shutting down"),
        }
    }
}

impl core::error::Error for ExtensionError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Create { source, .. } => Some(&**source),
            Self::Duplicate { .. } | Self::NotFound { .. } | Self::Shutdown { .. } => None,
        }
    }
}

struct Made {
    type_id: TypeId,
    name: &'static str,
    /// `None` while it is being made.
    instance: Option<(Arc<dyn Extension>, Arc<dyn Any + Send + Sync>)>,
}

#[derive(Default)]
struct Table {
    /// In order of making. A system has a handful, so a list is the fastest map.
    made: Vec<Made>,
    shutting_down: bool,
}

/// The extensions of one system, by type.
#[derive(Default)]
pub struct Extensions(Lock<Table>);

/// Takes the place of an extension back if making it failed or panicked.
struct Place<'a>(&'a Extensions, TypeId);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.lock().made.retain(|made| made.type_id != self.1 || made.instance.is_some());
    }
}

impl Extensions {
    /// Makes the extension of `id`.
    ///
    /// # Errors
    /// When there is one of its type, it could not be made, or the system is shutting down.
    pub fn register<I: ExtensionId + ?Sized>(
        &self,
        system: &ActorSystem,
        id: &I,
    ) -> Result<Arc<I::Ext>, ExtensionError> {
        self.register_with(|| id.create(system))
    }

    /// Makes an extension with `make`, outside the lock: it may look up others.
    fn register_with<E: Extension>(
        &self,
        make: impl FnOnce() -> Result<E, Box<dyn core::error::Error + Send + Sync>>,
    ) -> Result<Arc<E>, ExtensionError> {
        let (type_id, name) = (TypeId::of::<E>(), type_name::<E>());
        {
            let mut table = self.0.lock();
            if table.shutting_down {
                return Err(ExtensionError::Shutdown { extension: name });
            }
            if table.made.iter().any(|made| made.type_id == type_id) {
                return Err(ExtensionError::Duplicate { extension: name });
            }
            table.made.push(Made { type_id, name, instance: None });
        }
        let _place = Place(self, type_id);
        let made = make().map_err(|source| ExtensionError::Create { extension: name, source })?;
        let made = Arc::new(made);
        let mut table = self.0.lock();
        if table.shutting_down {
            // Nobody would end it any more; its own drop has to do, outside the lock.
            drop(table);
            return Err(ExtensionError::Shutdown { extension: name });
        }
        // At the end: what it needed while it was made was made before it and ends after it.
        table.made.retain(|other| other.type_id != type_id);
        table.made.push(Made { type_id, name, instance: Some((made.clone(), made.clone())) });
        drop(table);
        Ok(made)
    }

    /// The extension of type `E`.
    ///
    /// # Errors
    /// [`ExtensionError::NotFound`] when there is none, or it is still being made.
    pub fn get<E: Extension>(&self) -> Result<Arc<E>, ExtensionError> {
        let type_id = TypeId::of::<E>();
        let instance = {
            let table = self.0.lock();
            let made = table.made.iter().find(|made| made.type_id == type_id);
            made.and_then(|made| made.instance.as_ref()).map(|(_, any)| any.clone())
        };
        instance
            .and_then(|any| any.downcast::<E>().ok())
            .ok_or(ExtensionError::NotFound { extension: type_name::<E>() })
    }

    /// The names of the extensions' types, in the order in which they were made.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let table = self.0.lock();
        table.made.iter().filter(|made| made.instance.is_some()).map(|made| made.name).collect()
    }

    /// Ends all extensions, the newest first: each step of the iterator takes one out and gives its name and the
    /// future that ends it, to be awaited before the next step. From now on no extension is taken.
    pub fn shutdown_all(
        &self,
        system: &ActorSystem,
    ) -> impl Iterator<Item = (String, ExtensionEnding)> + Send {
        let system = system.clone();
        self.take_all().map(move |(name, extension)| (name, extension.shutdown(&system)))
    }

    fn take_all(&self) -> impl Iterator<Item = (String, Arc<dyn Extension>)> + Send + use<'_> {
        self.0.lock().shutting_down = true;
        core::iter::from_fn(|| {
            let newest = self.0.lock().made.pop()?;
            Some((newest.name.to_string(), newest.instance.map(|(extension, _)| extension)))
        })
        // One without an instance is being made right now; its maker sees the shutdown.
        .filter_map(|(name, extension)| Some((name, extension?)))
    }
}

/// The future that ends an extension.
pub type ExtensionEnding = Pin<Box<dyn Future<Output = ()> + Send>>;

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Extensions").field(&self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct First(u8);
    impl Extension for First {}
    #[derive(Debug)]
    struct Second;
    impl Extension for Second {}
    #[derive(Debug)]
    struct Third;
    impl Extension for Third {}

    fn names(extensions: &Extensions) -> Vec<&'static str> {
        extensions.names().iter().filter_map(|name| name.rsplit("::").next()).collect()
    }

    fn ended(extensions: &Extensions) -> Vec<String> {
        extensions
            .take_all()
            .map(|(name, _)| name.rsplit("::").next().unwrap_or_default().to_string())
            .collect()
    }

    #[test]
    fn an_extension_is_found_by_its_type() {
        let extensions = Extensions::default();
        let made = extensions.register_with(|| Ok(First(7))).unwrap();
        assert!(Arc::ptr_eq(&made, &extensions.get::<First>().unwrap()));
        assert_eq!(extensions.get::<First>().unwrap().0, 7);
        let error = extensions.get::<Second>().unwrap_err().to_string();
        assert!(error.contains("Second") && error.contains("with_extension_config"), "{error}");
    }

    #[test]
    fn a_second_one_of_a_type_is_refused_and_the_first_stays() {
        let extensions = Extensions::default();
        extensions.register_with(|| Ok(First(1))).unwrap();
        let error =
            extensions.register_with(|| -> Result<First, _> { unreachable!("refused before") }).unwrap_err();
        assert!(
            matches!(error, ExtensionError::Duplicate { extension } if extension.ends_with("First")),
            "{error}"
        );
        assert_eq!(extensions.get::<First>().unwrap().0, 1);
    }

    #[test]
    fn while_it_is_made_an_extension_sees_others_but_not_itself() {
        let extensions = Extensions::default();
        extensions
            .register_with(|| {
                assert!(extensions.get::<First>().is_err());
                assert!(matches!(
                    extensions.register_with(|| Ok(First(2))),
                    Err(ExtensionError::Duplicate { .. })
                ));
                extensions.register_with(|| Ok(Second))?;
                Ok(First(1))
            })
            .unwrap();
        assert_eq!(names(&extensions), ["Second", "First"], "what it needs was made before it");
        assert_eq!(ended(&extensions), ["First", "Second"]);
    }

    #[test]
    fn one_that_fails_leaves_its_place_free() {
        let extensions = Extensions::default();
        let error =
            extensions.register_with(|| -> Result<First, _> { Err("port taken".into()) }).unwrap_err();
        assert!(error.to_string().ends_with("First could not be made: port taken"), "{error}");
        assert!(core::error::Error::source(&error).is_some());
        #[cfg(feature = "std")]
        {
            let panicked = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
                let _ = extensions.register_with(|| -> Result<First, _> { panic!("on purpose") });
            }));
            assert!(panicked.is_err());
        }
        extensions.register_with(|| Ok(First(3))).unwrap();
        assert_eq!(extensions.get::<First>().unwrap().0, 3);
    }

    #[test]
    fn they_end_in_reverse_one_at_a_time_and_none_comes_after() {
        let extensions = Extensions::default();
        extensions.register_with(|| Ok(First(1))).unwrap();
        extensions.register_with(|| Ok(Second)).unwrap();
        extensions.register_with(|| Ok(Third)).unwrap();
        let mut ending = extensions.take_all();
        assert!(ending.next().unwrap().0.ends_with("Third"));
        assert!(extensions.get::<Third>().is_err() && extensions.get::<Second>().is_ok());
        assert!(matches!(extensions.register_with(|| Ok(Third)), Err(ExtensionError::Shutdown { .. })));
        drop(ending);
        assert_eq!(ended(&extensions), ["Second", "First"]);
        assert!(names(&extensions).is_empty());
    }

    #[test]
    fn one_that_is_being_made_when_the_system_ends_is_refused() {
        let extensions = Extensions::default();
        let late = extensions.register_with(|| {
            assert!(ended(&extensions).is_empty());
            Ok(First(1))
        });
        assert!(matches!(late, Err(ExtensionError::Shutdown { .. })));
        assert!(names(&extensions).is_empty());
    }

    use crate::runtime::PumpRuntime;
    use core::time::Duration;

    type Log = Arc<Lock<Vec<String>>>;

    /// Notes when it is made and ended; `FAILS` makes an extension that cannot be made.
    struct Noting<const N: u8, const FAILS: bool>(Log);
    struct Noted<const N: u8>(Log);

    impl<const N: u8, const FAILS: bool> ExtensionId for Noting<N, FAILS> {
        type Ext = Noted<N>;
        fn create(&self, _: &ActorSystem) -> Result<Noted<N>, Box<dyn core::error::Error + Send + Sync>> {
            if FAILS {
                return Err("no port left".into());
            }
            self.0.lock().push(alloc::format!("made {N}"));
            Ok(Noted(self.0.clone()))
        }
    }

    impl<const N: u8> Extension for Noted<N> {
        fn shutdown(self: Arc<Self>, system: &ActorSystem) -> ExtensionEnding {
            let system = system.clone();
            Box::pin(async move {
                let earlier = system.extension::<Noted<1>>().is_ok();
                self.0.lock().push(alloc::format!("ended {N}, 1 is there: {earlier}"));
            })
        }
    }

    /// Covers: RT-32, RT-34, RT-36, API-54
    #[test]
    fn a_system_makes_its_extensions_in_order_and_ends_them_in_reverse() {
        let (pump, log) = (PumpRuntime::new(), Log::default());
        let config = ExtensionsConfig::default()
            .with_extension_config(Noting::<1, false>(log.clone()))
            .with_extension_config(Noting::<2, false>(log.clone()));
        let system = ActorSystem::builder("s")
            .with_runtime(pump.clone())
            .with_extensions_config(config)
            .build()
            .unwrap();
        assert!(system.extension::<Noted<2>>().is_ok() && system.extension::<Noted<3>>().is_err());
        let ended = {
            let system = system.clone();
            pump.block_on(Duration::from_secs(60), async move { system.shutdown().await.is_ok() })
        };
        assert_eq!(ended, Some(true));
        assert_eq!(
            *log.lock(),
            ["made 1", "made 2", "ended 2, 1 is there: true", "ended 1, 1 is there: false"]
        );
    }

    #[test]
    fn a_system_with_a_failing_or_double_extension_is_not_built() {
        for (name, double) in [("failing", false), ("double", true)] {
            let (pump, log) = (PumpRuntime::new(), Log::default());
            let config = ExtensionsConfig::default().with_extension_config(Noting::<1, false>(log.clone()));
            let config = if double {
                config.with_extension_config(Noting::<1, false>(log.clone()))
            } else {
                config.with_extension_config(Noting::<2, true>(log.clone()))
            };
            let built =
                ActorSystem::builder("s").with_runtime(pump.clone()).with_extensions_config(config).build();
            let error = built.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(if double { "already" } else { "no port left" }), "{name}: {error}");
            pump.run_until_idle();
            assert_eq!(*log.lock(), ["made 1", "ended 1, 1 is there: false"], "{name}");
        }
    }
}
