//! The settings of a node's remoting.

mod rules;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use nexus_actor_core::path::{ActorPathScheme, Authority};

use self::rules::HOUR;
pub(crate) use self::rules::check_listed;
use crate::association::{AdmissionConfig, AssociationConfig, Overflow, Patience, ReconnectPolicy};
use crate::backpressure::{BackpressureMarks, RemotingBackpressureListener};
use crate::config_error::ConfigError;
use crate::correlation_trace::TraceSampling;
use crate::failure_detector::DetectorChoice;
use crate::flight_recorder::RECORDER_SIZE;
use crate::host::is_local;
use crate::metric::SreThresholds;
use crate::transport::TransportFactory;

/// The host announced when neither an advertised nor a bound one is set.
pub const DEFAULT_HOST: &str = "127.0.0.1";
/// The port announced when neither an advertised nor a bound one is set.
pub const DEFAULT_PORT: u16 = 25520;

/// System messages under way to one peer, at most.
const SYSTEM_WINDOW: usize = 1_024;
/// Of them, those repeated in one round, at most.
const SYSTEM_RESEND: usize = 256;

// What no setting names follows those that are set: it is shorter where they leave less time.

/// After how long an unanswered step of a handshake is repeated.
const HANDSHAKE_RETRY: Duration = Duration::from_secs(1);
/// After how long unacknowledged system messages are repeated.
const SYSTEM_RESEND_AFTER: Duration = Duration::from_secs(1);
/// How long an acknowledgement waits for more to acknowledge.
const ACKNOWLEDGE_DELAY: Duration = Duration::from_millis(20);
/// How long a watch waits for an address without a session, where the detector does not say.
const FIRST_ANSWER: Duration = Duration::from_secs(11);

/// Where a node listens, as far as that differs from what it announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddress {
    /// A name or address of this host; `0.0.0.0` and `::` are all of them.
    pub host: String,
    /// The port; 0 draws a free one.
    pub port: u16,
}

/// The settings of a node's remoting. The defaults suit a data-center network.
///
/// ```
/// use nexus_remote::extension::RemotingExtensionConfig;
///
/// let config = RemotingExtensionConfig::default()
///     .with_canonical_host("127.0.0.1")
///     .with_canonical_port(25520)
///     .with_auto_start(false)
///     .with_backpressure_listener(|signal, authority: &str| println!("{authority}: {signal}"));
/// config.validate()?;
/// # Ok::<(), nexus_remote::config_error::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct RemotingExtensionConfig {
    canonical_host: Option<String>,
    canonical_port: Option<u16>,
    bind: Option<BindAddress>,
    transport_scheme: ActorPathScheme,
    watch_detector: DetectorChoice,
    connection_detector: DetectorChoice,
    backpressure_listeners: Vec<Arc<dyn RemotingBackpressureListener>>,
    blocked_systems: Vec<String>,
    allowed_systems: Option<Vec<String>>,
    transports: TransportFactory,
    values: Values,
}

/// Declares the settings that are plain values: field, default, getter and setter in one place.
macro_rules! values {
    ($($(#[$doc:meta])* $name:ident, $setter:ident: $type:ty = $default:expr;)*) => {
        #[derive(Clone, Debug, PartialEq)]
        struct Values { $($name: $type,)* }

        impl Default for Values {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl RemotingExtensionConfig {
            $(
                $(#[$doc])*
                #[must_use]
                pub const fn $name(&self) -> $type {
                    self.values.$name
                }

                #[doc = concat!("Sets [`", stringify!($name), "`](Self::", stringify!($name), ").")]
                #[must_use]
                pub fn $setter(mut self, value: $type) -> Self {
                    self.values.$name = value;
                    self
                }
            )*
        }
    };
}

values! {
    /// Whether remoting starts with its actor system; true by default. If not, the application calls `start`.
    auto_start, with_auto_start: bool = true;
    /// Allows a listener beyond this host without TLS, which warns at every start; false by default.
    insecure_plaintext, with_insecure_plaintext: bool = false;

    /// Time from accept to the first byte (L1); 3 s by default, above zero, at most `handshake_timeout`.
    first_byte_timeout, with_first_byte_timeout: Duration = Duration::from_secs(3);
    /// Time for a whole handshake, not extended by progress (L1); 10 s by default, 1 ms to 1 h, at least
    /// `connect_timeout` and the first wait after a failed dial.
    handshake_timeout, with_handshake_timeout: Duration = Duration::from_secs(10);
    /// Time for one dial, name resolution included (L25); 5 s by default, above zero.
    connect_timeout, with_connect_timeout: Duration = Duration::from_secs(5);
    /// How often a beat is sent while something is watched or unacknowledged (L24); 1 s by default, 1 ms to 1 h.
    /// [`with_heartbeat_interval`](Self::with_heartbeat_interval) tells both detectors as well.
    heartbeat_interval, set_heartbeat_interval: Duration = Duration::from_secs(1);

    /// The first wait after a failed dial (L25); 200 ms by default, above zero.
    reconnect_initial_backoff, with_reconnect_initial_backoff: Duration = Duration::from_millis(200);
    /// The longest wait between dials (L25); 5 s by default, at least the first.
    reconnect_max_backoff, with_reconnect_max_backoff: Duration = Duration::from_secs(5);
    /// By what part a wait is lengthened or shortened at random (L25); 0.2 by default, 0 to below 1.
    reconnect_jitter, with_reconnect_jitter: f64 = 0.2;
    /// Tries before a known peer is given up; none by default, which is for ever. At least 1.
    reconnect_max_retries, with_reconnect_max_retries: Option<u32> = None;
    /// The longest wait between dials while they are refused, for the first minute (L25); 500 ms by default.
    refused_dial_wait_max, with_refused_dial_wait_max: Duration = Duration::from_millis(500);
    /// How long every dial must be refused after a connection closed until the peer's process counts as gone;
    /// 3 s by default. A proxy that refuses on behalf of a living peer wants this long.
    refused_dials_give_up, with_refused_dials_give_up: Duration = Duration::from_secs(3);
    /// After this an address that was never reached is given up (L25); 20 s by default, at least `connect_timeout`.
    never_reached_give_up, with_never_reached_give_up: Duration = Duration::from_secs(20);

    /// How long a quarantine lasts whose reason has a deadline; 30 s by default, above zero.
    quarantine_period, with_quarantine_period: Duration = Duration::from_secs(30);
    /// How long a quarantined uid is refused at least (L21); 1 h by default, at least `quarantine_period`.
    dead_uid_memory, with_dead_uid_memory: Duration = HOUR;
    /// Age at which an unacknowledged system message ends the session (L31); 10 min by default, at
    /// least `handshake_timeout`.
    system_message_give_up, with_system_message_give_up: Duration = Duration::from_secs(600);
    /// Silence after which an idle association is probed (L31); 1 min by default, at least
    /// `heartbeat_interval`.
    probe_after, with_probe_after: Duration = Duration::from_secs(60);
    /// Idle time after which a connection is closed (L31); 5 min by default, above `probe_after`.
    idle_timeout, with_idle_timeout: Duration = Duration::from_secs(300);
    /// Time after which an unused association is forgotten (L31); 1 h by default, above `idle_timeout`.
    forget_after, with_forget_after: Duration = HOUR;
    /// Time for lanes to empty at shutdown (L28); 3 s by default, at most `shutdown_timeout`.
    shutdown_flush, with_shutdown_flush: Duration = Duration::from_secs(3);
    /// Time for the whole shutdown (L28); 10 s by default, above zero.
    shutdown_timeout, with_shutdown_timeout: Duration = Duration::from_secs(10);

    /// Messages in the ordinary lane of one association, waiting and unacknowledged together (L15);
    /// 1,000,000 by default, at least 1.
    queue_messages_max, with_queue_messages_max: u32 = 1_000_000;
    /// Their bytes (L15); 64 MiB by default, at least `frame_bytes_max`. A bound, not a reservation.
    queue_bytes_max, with_queue_bytes_max: usize = 64 * 1024 * 1024;
    /// What a full lane does; by default it refuses the newest message and its caller is told.
    queue_overflow, with_queue_overflow: Overflow = Overflow::RefuseNewest;
    /// What becomes of waiting messages while the connection to a known peer is lost; by default they are kept.
    queue_patience, with_queue_patience: Patience = Patience::Keep;
    /// Unacknowledged system messages of one association (L16); 20,000 by default, 1 to 1,000,000.
    system_messages_max, with_system_messages_max: u32 = 20_000;
    /// Their bytes (L16); 8 MiB by default, at least `frame_bytes_max`.
    system_bytes_max, with_system_bytes_max: usize = 8 * 1024 * 1024;
    /// System messages a second taken from one peer in the long run (L17); 10,000 by default, 1 to 1,000,000. Beyond it
    /// nothing is read from that peer for as long as they are too many.
    system_message_rate, with_system_message_rate: u32 = 10_000;
    /// System messages taken at once from a peer that was quiet before (L17); 20,000 by default, 1 to 1,000,000.
    system_message_burst, with_system_message_burst: u32 = 20_000;
    /// Bytes of one frame (L7); 256 KiB by default and at most, at least 8 KiB. The smaller of both nodes' holds.
    frame_bytes_max, with_frame_bytes_max: u32 = 256 * 1024;
    /// Asks of one association waiting for an answer (L19); 65,536 by default and at most, at least 1.
    pending_asks_max, with_pending_asks_max: u32 = 65_536;
    /// Dials under way at once, each to another address (L25); 64 by default, at least 1. Others wait their turn.
    dials_in_flight_max, with_dials_in_flight_max: u32 = 64;
    /// Associations that peers brought about, by dialling this node or by naming another one that is then answered
    /// (L6); 10,000 by default, 1 to 65,535. Beyond it one goes of which nothing is in use, and if there is none the
    /// newcomer is refused, reason *limit*. Those with addresses that this node resolved itself do not count.
    inbound_associations_max, with_inbound_associations_max: u32 = 10_000;
    /// Connections of one association, in handshake and serving (L6); 8 by default, at least 3. Beyond it the peer's
    /// next one is refused, reason *limit*.
    connections_max, with_connections_max: u32 = 8;
    /// Remote watches of one association (L18); 100,000 by default, at least 1.
    watches_max, with_watches_max: u32 = 100_000;
    /// Commands the manager works off in one turn, and how much of what one association tells may wait for it; 1,000 by
    /// default, at least 1. Beyond it nothing is read from that peer until the node has caught up by half.
    endpoint_manager_batch_size, with_endpoint_manager_batch_size: u32 = 1_000;
    /// Commands that wait for the manager; 1,000,000 by default, at least `endpoint_manager_batch_size`. Beyond it
    /// new connections of peers are closed.
    endpoint_manager_queue_size, with_endpoint_manager_queue_size: u32 = 1_000_000;
    /// Fill ratio from which a lane signals Warning; 0.6 by default, above 0, below the critical one.
    backpressure_warning_threshold, with_backpressure_warning_threshold: f64 = 0.6;
    /// Fill ratio above which a lane signals Critical; 0.85 by default, at most 1.
    backpressure_critical_threshold, with_backpressure_critical_threshold: f64 = 0.85;

    /// Whether the flight recorder is on from the start; true by default.
    flight_recorder_enabled, with_flight_recorder_enabled: bool = true;
    /// Entries of the flight recorder, 64 bytes each, raised to a power of two; 16,384 by default, 16 to 2^24.
    flight_recorder_size, with_flight_recorder_size: usize = RECORDER_SIZE;
    /// Which messages leave hops in the flight recorder and in `tracing`: by default all while traffic is light
    /// and one in 64 under load; [`TraceSampling::All`] for every one.
    trace_sampling, with_trace_sampling: TraceSampling = TraceSampling::Adaptive;
    /// How often metrics are published on the event stream; 10 s by default, `None` for never, at least 10 ms.
    metrics_interval, with_metrics_interval: Option<Duration> = Some(Duration::from_secs(10));
    /// Limits on a peer's figures whose crossing is an event; none by default.
    sre_thresholds, with_sre_thresholds: SreThresholds = SreThresholds::new();
}

impl Default for RemotingExtensionConfig {
    fn default() -> Self {
        Self {
            canonical_host: None,
            canonical_port: None,
            bind: None,
            transport_scheme: ActorPathScheme::FraktorTcp,
            watch_detector: DetectorChoice::default(),
            connection_detector: DetectorChoice::default(),
            backpressure_listeners: Vec::new(),
            blocked_systems: Vec::new(),
            allowed_systems: None,
            transports: TransportFactory::default(),
            values: Values::default(),
        }
    }
}

impl RemotingExtensionConfig {
    /// The host this node announces: the one set, else the bound one, else [`DEFAULT_HOST`].
    #[must_use]
    pub fn canonical_host(&self) -> &str {
        let bound = || self.bind.as_ref().map(|bind| bind.host.as_str());
        self.canonical_host.as_deref().or_else(bound).unwrap_or(DEFAULT_HOST)
    }

    /// The port this node announces: the one set, else the bound one, else [`DEFAULT_PORT`]. At 0 the node
    /// announces the port it was given.
    #[must_use]
    pub fn canonical_port(&self) -> u16 {
        let bound = || self.bind.as_ref().map(|bind| bind.port);
        self.canonical_port.or_else(bound).unwrap_or(DEFAULT_PORT)
    }

    /// The address this node announces.
    #[must_use]
    pub fn canonical_authority(&self) -> Authority {
        Authority::new(self.canonical_host(), self.canonical_port())
    }

    /// Where this node listens: what was bound, else what it announces.
    #[must_use]
    pub fn bind_address(&self) -> BindAddress {
        self.bind.clone().unwrap_or_else(|| BindAddress {
            host: self.canonical_host().to_string(),
            port: self.canonical_port(),
        })
    }

    /// Sets the host this node announces and, unless [`Self::with_bind`] says otherwise, listens on.
    #[must_use]
    pub fn with_canonical_host(mut self, host: impl Into<String>) -> Self {
        self.canonical_host = Some(host.into());
        self
    }

    /// Sets the port this node announces and, unless [`Self::with_bind`] says otherwise, listens on; 0 draws one.
    #[must_use]
    pub const fn with_canonical_port(mut self, port: u16) -> Self {
        self.canonical_port = Some(port);
        self
    }

    /// Sets where this node listens, when that differs from what it announces (address translation, containers).
    #[must_use]
    pub fn with_bind(mut self, host: impl Into<String>, port: u16) -> Self {
        self.bind = Some(BindAddress { host: host.into(), port });
        self
    }

    /// The scheme of this node's addresses, which chooses its transport; `fraktor.tcp` by default.
    #[must_use]
    pub const fn transport_scheme(&self) -> &ActorPathScheme {
        &self.transport_scheme
    }

    /// Sets the scheme, with or without its `://`.
    #[must_use]
    pub fn with_transport_scheme(mut self, scheme: impl AsRef<str>) -> Self {
        let scheme = scheme.as_ref();
        self.transport_scheme = ActorPathScheme::from_name(scheme.strip_suffix("://").unwrap_or(scheme));
        self
    }

    /// What judges a peer on which something is watched; phi by default.
    #[must_use]
    pub const fn watch_detector(&self) -> &DetectorChoice {
        &self.watch_detector
    }

    /// Sets [`Self::watch_detector`]. Its heartbeat interval must be this configuration's.
    #[must_use]
    pub fn with_watch_detector(mut self, detector: DetectorChoice) -> Self {
        self.watch_detector = detector;
        self
    }

    /// What judges a peer on which nothing is watched; phi by default. Beats are asked for only once something stays
    /// unacknowledged or the peer is silent for [`Self::probe_after`], so the allowance for a first answer counts.
    #[must_use]
    pub const fn connection_detector(&self) -> &DetectorChoice {
        &self.connection_detector
    }

    /// Sets [`Self::connection_detector`]. Its heartbeat interval must be this configuration's.
    #[must_use]
    pub fn with_connection_detector(mut self, detector: DetectorChoice) -> Self {
        self.connection_detector = detector;
        self
    }

    /// Sets [`Self::heartbeat_interval`], and tells the detectors set so far.
    #[must_use]
    pub fn with_heartbeat_interval(mut self, interval: Duration) -> Self {
        for detector in [&mut self.watch_detector, &mut self.connection_detector] {
            match detector {
                DetectorChoice::Phi(phi) => phi.heartbeat_interval = interval,
                DetectorChoice::Deadline(deadline) => deadline.heartbeat_interval = interval,
                DetectorChoice::Custom(_) => {}
            }
        }
        self.set_heartbeat_interval(interval)
    }

    /// Those told of backpressure from the start, for as long as remoting lives.
    #[must_use]
    pub fn backpressure_listeners(&self) -> &[Arc<dyn RemotingBackpressureListener>] {
        &self.backpressure_listeners
    }

    /// Adds a listener; a closure of signal and authority is one.
    #[must_use]
    pub fn with_backpressure_listener(
        mut self,
        listener: impl RemotingBackpressureListener + 'static,
    ) -> Self {
        self.backpressure_listeners.push(Arc::new(listener));
        self
    }

    /// The fill ratios at which lanes signal.
    #[must_use]
    pub const fn backpressure_marks(&self) -> BackpressureMarks {
        BackpressureMarks::new(
            self.values.backpressure_warning_threshold,
            self.values.backpressure_critical_threshold,
        )
    }

    /// What makes the transport of [`Self::transport_scheme`].
    #[must_use]
    pub const fn transport_factory(&self) -> &TransportFactory {
        &self.transports
    }

    /// Sets [`Self::transport_factory`]: for the loopback, which needs its network, and for transports of your own.
    #[must_use]
    pub fn with_transport_factory(mut self, transports: TransportFactory) -> Self {
        self.transports = transports;
        self
    }

    /// The part of this that associations read.
    ///
    /// # Errors
    /// Every offending setting, with its value and its rule.
    pub(crate) fn association_config(&self) -> Result<Arc<AssociationConfig>, ConfigError> {
        let builder = AssociationConfig::builder();
        // An address that was never reached has no detector yet: what it allows for a first answer holds all the same.
        let builder = match self.watch_detector() {
            DetectorChoice::Phi(phi) => builder.first_answer_allowance(phi.first_heartbeat_allowance),
            DetectorChoice::Deadline(deadline) => {
                builder.first_answer_allowance(deadline.first_heartbeat_allowance)
            }
            DetectorChoice::Custom(_) => {
                builder.first_answer_allowance(FIRST_ANSWER.max(self.heartbeat_interval()))
            }
        };
        let retry = HANDSHAKE_RETRY.min(self.handshake_timeout() / 2).min(self.never_reached_give_up());
        builder
            .connect_timeout(self.connect_timeout())
            .handshake_timeout(self.handshake_timeout())
            .handshake_retry(retry)
            .never_reached_timeout(self.never_reached_give_up())
            .reconnect_policy(ReconnectPolicy::Exponential {
                min: self.reconnect_initial_backoff(),
                max: self.reconnect_max_backoff(),
            })
            .reconnect_jitter(self.reconnect_jitter())
            .reconnect_attempts_max(self.reconnect_max_retries())
            .refused_delay_max(self.refused_dial_wait_max())
            .refused_verdict(Some(self.refused_dials_give_up()))
            .detector(self.watch_detector().clone())
            .connection_detector(self.connection_detector().clone())
            .heartbeat_interval(self.heartbeat_interval())
            .idle_timeout(self.idle_timeout())
            .liveness_interval(self.probe_after())
            .forget_timeout(self.forget_after())
            .quarantine_period(self.quarantine_period())
            .quarantine_memory(self.dead_uid_memory())
            .system_give_up(self.system_message_give_up())
            .system_resend(SYSTEM_RESEND_AFTER.min(self.system_message_give_up() / 2))
            .system_queue_max(self.system_messages_max() as usize)
            // No more of them under way, or repeated in one round, than there may be.
            .system_window(SYSTEM_WINDOW.min(self.system_messages_max() as usize))
            .system_resend_max(SYSTEM_RESEND.min(self.system_messages_max() as usize))
            .system_queue_bytes_max(self.system_bytes_max())
            .system_rate(self.system_message_rate())
            .system_burst(self.system_message_burst())
            .watches_max(self.watches_max() as usize)
            .lane_messages_max(self.queue_messages_max() as usize)
            .lane_bytes_max(self.queue_bytes_max())
            .overflow(self.queue_overflow())
            .patience(self.queue_patience())
            .warning_mark(self.backpressure_warning_threshold())
            .critical_mark(self.backpressure_critical_threshold())
            .frame_max(self.frame_bytes_max())
            .acknowledge_delay(ACKNOWLEDGE_DELAY.min(self.heartbeat_interval() / 2))
            .asks_max(self.pending_asks_max() as usize)
            .connections_max(self.connections_max() as usize)
            .flush_timeout(self.shutdown_flush())
            .build()
    }

    /// The part of this that concerns connections which have not introduced themselves.
    pub(crate) fn admission_config(&self) -> AdmissionConfig {
        AdmissionConfig {
            first_byte: self.first_byte_timeout(),
            whole: self.handshake_timeout(),
            ..AdmissionConfig::default()
        }
    }

    /// Systems or authorities refused from the start; none by default.
    #[must_use]
    pub fn blocked_systems(&self) -> &[String] {
        &self.blocked_systems
    }

    /// Sets [`Self::blocked_systems`].
    #[must_use]
    pub fn with_blocked_systems(mut self, systems: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.blocked_systems = systems.into_iter().map(Into::into).collect();
        self
    }

    /// The systems or authorities that alone are not refused; `None`, the default, allows all. What is in
    /// [`blocked_systems`](Self::blocked_systems) is refused in any case.
    #[must_use]
    pub fn allowed_systems(&self) -> Option<&[String]> {
        self.allowed_systems.as_deref()
    }

    /// Sets [`Self::allowed_systems`].
    #[must_use]
    pub fn with_allowed_systems(mut self, systems: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allowed_systems = Some(systems.into_iter().map(Into::into).collect());
        self
    }

    /// What an operator should be told at every start; empty for a safe configuration. The start itself publishes
    /// each as a [`StartWarning`](crate::event::StartWarning) and writes it to `tracing`.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.values.insecure_plaintext && self.is_plaintext_beyond_host() {
            warnings.push(format!(
                "insecure_plaintext: {} is open to the network, neither encrypted nor authenticated",
                self.bind_text()
            ));
        }
        warnings
    }

    fn bind_text(&self) -> String {
        let bind = self.bind_address();
        Authority::new(&bind.host, bind.port).to_string()
    }

    fn is_plaintext_beyond_host(&self) -> bool {
        // Only these two are known to be safe; a transport that an application brings counts as plain text.
        let safe = matches!(
            self.transport_scheme,
            ActorPathScheme::FraktorTls | ActorPathScheme::FraktorLoopback | ActorPathScheme::Fraktor
        );
        !safe && !is_local(&self.bind_address().host)
    }
}

impl fmt::Debug for RemotingExtensionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemotingExtensionConfig")
            .field("canonical", &self.canonical_authority())
            .field("bind", &self.bind_address())
            .field("transport_scheme", &self.transport_scheme)
            .field("watch_detector", &self.watch_detector)
            .field("connection_detector", &self.connection_detector)
            .field("backpressure_listeners", &self.backpressure_listeners.len())
            .field("blocked_systems", &self.blocked_systems)
            .field("allowed_systems", &self.allowed_systems)
            .field("values", &self.values)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpressure::BackpressureSignal;

    fn config() -> RemotingExtensionConfig {
        RemotingExtensionConfig::default()
    }

    /// Covers: CFG-18, CFG-19, CFG-21, CFG-24, API-53, CNF-96
    #[test]
    fn the_default_is_valid_and_on_the_local_host() {
        let c = config();
        c.validate().unwrap();
        assert_eq!(c.canonical_authority().to_string(), "127.0.0.1:25520");
        assert_eq!(c.bind_address(), BindAddress { host: "127.0.0.1".to_string(), port: 25520 });
        assert!(c.auto_start());
        assert!(!c.insecure_plaintext());
        assert_eq!(c.transport_scheme().as_str(), "fraktor.tcp");
        assert_eq!(c.quarantine_period(), Duration::from_secs(30));
        assert_eq!(c.flight_recorder_size(), 16_384);
        assert_eq!((c.endpoint_manager_batch_size(), c.endpoint_manager_queue_size()), (1_000, 1_000_000));
        assert!(c.warnings().is_empty());
        assert!(c.backpressure_listeners().is_empty());
    }

    #[test]
    fn advertised_and_bound_addresses_are_separate() {
        for (name, config, canonical, bound) in [
            ("advertised only", config().with_canonical_host("h").with_canonical_port(1), "h:1", "h:1"),
            ("bound only", config().with_bind("127.0.0.2", 2), "127.0.0.2:2", "127.0.0.2:2"),
            (
                "both",
                config().with_canonical_host("h").with_canonical_port(1).with_bind("0.0.0.0", 2),
                "h:1",
                "0.0.0.0:2",
            ),
            ("host and bind", config().with_bind("0.0.0.0", 2).with_canonical_host("h"), "h:2", "0.0.0.0:2"),
            ("port drawn", config().with_canonical_port(0), "127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert_eq!(config.canonical_authority().to_string(), canonical, "{name}");
            assert_eq!(config.bind_text(), bound, "{name}");
        }
    }

    /// Covers: CFG-22, BP-47
    #[test]
    fn a_closure_is_a_listener() {
        let heard = Arc::new(nexus_actor_core::lock::Lock::new(Vec::new()));
        let into = Arc::clone(&heard);
        let c = config().with_backpressure_listener(move |signal: BackpressureSignal, authority: &str| {
            into.lock().push((signal, authority.to_string()));
        });
        c.backpressure_listeners()[0].on_signal(BackpressureSignal::Warning, "a:1");
        assert_eq!(*heard.lock(), [(BackpressureSignal::Warning, "a:1".to_string())]);
    }
}
