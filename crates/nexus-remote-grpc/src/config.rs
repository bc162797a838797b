//! The settings of a node on this wire.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nexus_actor_core::path::Authority;
use nexus_remote::association::{Overflow, Patience};
use nexus_remote::backpressure::BackpressureMarks;
use nexus_remote::config_error::ConfigError;
use nexus_remote::host::is_local;
use tonic::Status;
use tonic::transport::{ClientTlsConfig, Endpoint, Server, ServerTlsConfig};

use crate::config_option::ConfigOption;
use crate::endpoint_state::{EndpointStateConfig, HeartbeatConfig, ReconnectPolicy};
use crate::endpoint_writer_mailbox::MailboxBounds;
use crate::mutual_tls::MutualTls;
use crate::node::client_address;
use crate::wire::batch::{BatchLimits, WireForm};

/// Changes how an address is dialled.
pub type DialOption = Arc<dyn Fn(Endpoint) -> Endpoint + Send + Sync>;
/// Changes how this node serves.
pub type ServerOption = Arc<dyn Fn(Server) -> Server + Send + Sync>;
/// Looks at, or adds to, the metadata of a call; an error ends it.
pub type CallInterceptor =
    Arc<dyn Fn(tonic::Request<()>) -> Result<tonic::Request<()>, Status> + Send + Sync>;

/// The settings of a node on this wire. The defaults suit a data-center network.
///
/// ```
/// use std::time::Duration;
/// use nexus_remote_grpc::config::Config;
/// use nexus_remote_grpc::config_option::ConfigOption;
///
/// let config = Config::from([
///     ConfigOption::with_host("127.0.0.1"),
///     ConfigOption::with_port(8090),
///     ConfigOption::with_endpoint_reconnect_max_retries(3),
///     ConfigOption::with_endpoint_reconnect_initial_backoff(Duration::from_millis(100)),
/// ]);
/// assert_eq!(config.get_endpoint_reconnect_max_retries(), 3);
/// config.validate()?;
/// # Ok::<(), nexus_remote::config_error::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) host: String,
    pub(crate) advertised_host: Option<String>,
    pub(crate) blocked_systems: Vec<String>,
    pub(crate) allowed_systems: Vec<String>,
    pub(crate) spawn_denied: Vec<String>,
    pub(crate) client_tls: Option<ClientTlsConfig>,
    pub(crate) server_tls: Option<ServerTlsConfig>,
    pub(crate) mutual_tls: Option<MutualTls>,
    pub(crate) dial_options: Vec<DialOption>,
    pub(crate) server_options: Vec<ServerOption>,
    pub(crate) call_interceptors: Vec<CallInterceptor>,
    pub(crate) server_interceptors: Vec<CallInterceptor>,
    pub(crate) wire_forms: BTreeMap<String, WireForm>,
    pub(crate) known_type_names: BTreeMap<String, BTreeSet<String>>,
    pub(crate) known_kinds: BTreeMap<String, BTreeSet<String>>,
    pub(crate) values: Values,
}

/// Declares the settings that are plain values: field, default and getter in one place, and the option beside them.
macro_rules! values {
    ($($(#[$doc:meta])* $name:ident, $get:ident, $with:ident: $type:ty = $default:expr;)*) => {
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct Values { $(pub(crate) $name: $type,)* }

        impl Default for Values {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Config {
            $(
                $(#[$doc])*
                #[must_use]
                pub const fn $get(&self) -> $type {
                    self.values.$name
                }
            )*
        }

        impl ConfigOption {
            $(
                #[doc = concat!("Sets [`", stringify!($name), "`](Config::", stringify!($get), ").")]
                #[must_use]
                pub fn $with(value: $type) -> Self {
                    Self::new(stringify!($name), move |config| config.values.$name = value)
                }
            )*
        }
    };
}

values! {
    /// The port to listen on; 0, the default, draws a free one.
    port, get_port, with_port: u16 = 0;

    /// Messages that a writer takes in one turn, 1 to 4,096; 512 by default, the fastest in the sweep of
    /// `docs/guides/benchmarks.md`; protoactor-go has 1,000. A message of the wire never passes its limit in bytes, whatever
    /// this is.
    endpoint_writer_batch_size, get_endpoint_writer_batch_size, with_endpoint_writer_batch_size: usize = 512;
    /// Messages that wait for one address at most; 1,000,000 by default, at least 1. A bound and not a reservation. The level
    /// of backpressure follows this and `endpoint_writer_queue_bytes` alone: a queue that is refused by its share of
    /// [`Limits::queue_bytes`] may be `Normal`, without an event and unseen by auto-throttle.
    endpoint_writer_queue_size, get_endpoint_writer_queue_size, with_endpoint_writer_queue_size: usize = 1_000_000;
    /// Bytes of their payloads (L15); 64 MiB by default, at least 1. Whichever bound is reached first holds,
    /// that of all queues together ([`Limits::queue_bytes`]) among them.
    endpoint_writer_queue_bytes, get_endpoint_writer_queue_bytes, with_endpoint_writer_queue_bytes: usize =
        64 * 1024 * 1024;
    /// Commands of peers, to watch and to spawn, that are worked off in one turn before other actors have theirs; 1,000 by
    /// default, at least 1. The turn of an actor ends earlier where the core says so.
    endpoint_manager_batch_size, get_endpoint_manager_batch_size, with_endpoint_manager_batch_size: usize = 1_000;
    /// Commands of peers that wait to be worked off; 1,000,000 by default, at least `endpoint_manager_batch_size`. One more
    /// is refused: a spawn as unavailable, a watch as of nobody. The stop of an actor that its peer may have spawned itself is
    /// recorded as *mailbox full*.
    endpoint_manager_queue_size, get_endpoint_manager_queue_size, with_endpoint_manager_queue_size: usize = 1_000_000;

    /// Attempts before an address is given up, the first included; 5 by default, at least 1.
    endpoint_reconnect_max_retries, get_endpoint_reconnect_max_retries, with_endpoint_reconnect_max_retries: u32 = 5;
    /// The first wait between attempts (L25); 200 ms by default, above zero, at most an hour. Each further one is twice as
    /// long. protoactor-go always waits 2 s.
    endpoint_reconnect_initial_backoff, get_endpoint_reconnect_initial_backoff,
        with_endpoint_reconnect_initial_backoff: Duration = Duration::from_millis(200);
    /// The longest wait between attempts (L25); 5 s by default, at least the first, at most a day.
    endpoint_reconnect_max_backoff, get_endpoint_reconnect_max_backoff, with_endpoint_reconnect_max_backoff: Duration =
        Duration::from_secs(5);
    /// By what part a wait is lengthened or shortened at random (L25); 0.2 by default, 0 to below 1.
    endpoint_reconnect_jitter, get_endpoint_reconnect_jitter, with_endpoint_reconnect_jitter: f64 = 0.2;
    /// The silence after which a peer is asked whether it is there (L23); 15 s by default, 1 ms to an hour.
    endpoint_heartbeat_interval, get_endpoint_heartbeat_interval, with_endpoint_heartbeat_interval: Duration =
        Duration::from_secs(15);
    /// The silence after which a connection counts as lost (L23); 45 s by default, longer than the interval.
    endpoint_heartbeat_timeout, get_endpoint_heartbeat_timeout, with_endpoint_heartbeat_timeout: Duration =
        Duration::from_secs(45);

    /// Fill ratio from which a queue signals Warning; 0.6 by default, above 0, below the critical one.
    backpressure_warning_threshold, get_backpressure_warning_threshold, with_backpressure_warning_threshold: f64 = 0.6;
    /// Fill ratio above which a queue signals Critical; 0.85 by default, at most 1.
    backpressure_critical_threshold, get_backpressure_critical_threshold, with_backpressure_critical_threshold: f64 = 0.85;
    /// What a full queue does; by default it refuses the newest message and its caller is told.
    queue_overflow, get_queue_overflow, with_queue_overflow: Overflow = Overflow::RefuseNewest;
    /// What becomes of waiting messages while a connection that has served is lost; by default they are recorded at once,
    /// and so is what comes until it serves again. With [`Patience::Keep`] they wait within the queue's bounds. For a
    /// first connection they always wait.
    queue_patience, get_queue_patience, with_queue_patience: Patience = Patience::Drop;
    /// How long a queue must be Critical without a break until new messages are refused at once, so that it can recover;
    /// `None`, the default, for never; above zero.
    auto_throttle, get_auto_throttle, with_auto_throttle: Option<Duration> = None;

    /// The time for one dial, name resolution included (L25); 5 s by default, above zero, at most an hour.
    connect_timeout, get_connect_timeout, with_connect_timeout: Duration = Duration::from_secs(5);
    /// The time for a handshake (L1), from the opened call to its answer; 10 s by default, above zero, at most an hour.
    handshake_timeout, get_handshake_timeout, with_handshake_timeout: Duration = Duration::from_secs(10);
    /// The time for one unary call, and for the answer to a remote spawn; 10 s by default, above zero, at most a day.
    call_timeout, get_call_timeout, with_call_timeout: Duration = Duration::from_secs(10);
    /// The time for queues to empty at shutdown (L28); 3 s by default, at most `shutdown_timeout`, of which the last three eighths,
    /// 1.5 s at most, are not for it.
    shutdown_flush, get_shutdown_flush, with_shutdown_flush: Duration = Duration::from_secs(3);
    /// The time for the whole shutdown (L28); 10 s by default, above zero, at most an hour.
    shutdown_timeout, get_shutdown_timeout, with_shutdown_timeout: Duration = Duration::from_secs(10);

    /// Whether this node answers `ListProcesses` and `GetProcessDiagnostics`; not by default. With TLS only to those who show
    /// a certificate.
    diagnostics, get_diagnostics, with_diagnostics: bool = false;
    /// Whether a peer may stop actors of this node that it did not spawn, by `Stop` and `PoisonPill`; not by default.
    /// protoactor-go lets anyone.
    peer_lifecycle, get_peer_lifecycle, with_peer_lifecycle: bool = false;
    /// Allows a listener beyond this host without TLS, which warns at every start; not by default.
    insecure_plaintext, get_insecure_plaintext, with_insecure_plaintext: bool = false;
    /// The form of batches toward an address of which nothing is known; [`WireForm::W1`] by default, which the released
    /// versions of protoactor-go speak.
    default_wire_form, get_default_wire_form, with_default_wire_form: WireForm = WireForm::W1;
    /// What one message of the wire may hold, both ways (L7, L10, L11, L12).
    batch_limits, get_batch_limits, with_batch_limits: BatchLimits = BatchLimits::default();
    /// What else a peer can fill.
    limits, get_limits, with_limits: Limits = Limits::new();
}

/// Bounds on what a peer can fill. Every one has a default, none can be without.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// System messages that wait for one address (L16); 20,000.
    pub system_messages: usize,
    /// Their bytes (L16); 8 MiB.
    pub system_bytes: usize,
    /// System messages taken from one peer in a second, on average (L17); 10,000.
    pub system_messages_per_second: u32,
    /// System messages taken from one peer at once (L17); 20,000.
    pub system_messages_burst: u32,
    /// Actors of one peer that are watched here, and ours that one peer watches (L18); 100,000.
    pub watches: usize,
    /// Watchers of one actor (L18); 10,000.
    pub watchers: usize,
    /// Asks that wait for one peer's answer (L19); 65,536.
    pub pending_asks: usize,
    /// Actors that one peer may have spawned and that live (L20); 100,000.
    pub spawned: usize,
    /// Spawn requests taken from one peer in a second (L20); 10,000.
    pub spawns_per_second: u32,
    /// Peers that have shaken hands with this node (L6); 10,000.
    pub inbound_peers: usize,
    /// Calls of one peer (L6); 8.
    pub inbound_calls: usize,
    /// Third nodes that this one dials only because one peer named them as senders (L6); 64. It counts until they call this
    /// node, or an actor here has a reference to one there. An answer to one more is a dead letter.
    /// So is one to a node that is not connected yet and has as many waiting as `system_messages` or `system_bytes` allow.
    pub named_peers: usize,
    /// Addresses that are known at once, whoever brought them up (L6); 10,000. A tenth of them is for peers that call, and a tenth
    /// as many more for those that are reached for here. One more is refused.
    pub endpoints: usize,
    /// Dials under way (L25); 64. Half of them at most to addresses that only peers brought up, by calling or by naming them,
    /// and a quarter of them to those of one host; each rounded down, and one at least. One more waits, and while one waits a
    /// dial that a peer brought up has two seconds to be answered.
    pub dials: usize,
    /// Bytes that wait in the queues toward all peers together, with 128 for each message (L29); 1 GiB. From half of it on, a
    /// queue that holds a sixteenth of it, divided by the number of queues that hold 64 KiB or more, takes nothing more, as
    /// if it were full.
    pub queue_bytes: usize,
    /// Bytes that are kept of messages whose end has not come, of all calls that peers opened, without the first 64 KiB of each
    /// (L9); 256 MiB. Beyond it the connection on which the oldest of them was begun is closed.
    pub unfinished_bytes: usize,
    /// How long the end of a message that was begun may be waited for (L9); 10 s. A call on which it takes longer is ended.
    pub message_time: Duration,
    /// Connections that have not shaken hands, or have no call left of those that did, in all (L3); 128.
    pub strangers: usize,
    /// The same of one IP address, of IPv6 of one /64 (L3); 16.
    pub strangers_per_ip: usize,
    /// Connections of such a source that came to nothing, in a second on average (L4); 64. One more is closed at once.
    pub failures_per_second: u32,
    /// Such connections at once (L4); 256.
    pub failures_burst: u32,
    /// Messages of one peer that wait in mailboxes here (L30); 262,144.
    pub mailbox_messages: usize,
    /// Bytes of their payloads, headers and senders' pids (L30); 32 MiB.
    pub mailbox_bytes: usize,
    /// Diagnostics requests answered in a second (L26); 5. One connection has half of them, rounded up.
    pub diagnostics_per_second: u32,
    /// Processes in one answer (L26); 1,000.
    pub diagnostics_page: usize,
    /// Bytes of one answer (L26); 256 KiB.
    pub diagnostics_bytes: usize,
}

impl Limits {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            system_messages: 20_000,
            system_bytes: 8 * 1024 * 1024,
            system_messages_per_second: 10_000,
            system_messages_burst: 20_000,
            watches: 100_000,
            watchers: 10_000,
            pending_asks: 65_536,
            spawned: 100_000,
            spawns_per_second: 10_000,
            inbound_peers: 10_000,
            inbound_calls: 8,
            named_peers: 64,
            endpoints: 10_000,
            dials: 64,
            queue_bytes: 1024 * 1024 * 1024,
            unfinished_bytes: 256 * 1024 * 1024,
            message_time: Duration::from_secs(10),
            strangers: 128,
            strangers_per_ip: 16,
            failures_per_second: 64,
            failures_burst: 256,
            mailbox_messages: 262_144,
            mailbox_bytes: 32 * 1024 * 1024,
            diagnostics_per_second: 5,
            diagnostics_page: 1_000,
            diagnostics_bytes: 256 * 1024,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: nexus_remote::extension::config::DEFAULT_HOST.to_owned(),
            advertised_host: None,
            blocked_systems: Vec::new(),
            allowed_systems: Vec::new(),
            spawn_denied: Vec::new(),
            client_tls: None,
            server_tls: None,
            mutual_tls: None,
            dial_options: Vec::new(),
            server_options: Vec::new(),
            call_interceptors: Vec::new(),
            server_interceptors: Vec::new(),
            wire_forms: BTreeMap::new(),
            known_type_names: BTreeMap::new(),
            known_kinds: BTreeMap::new(),
            values: Values::default(),
        }
    }
}

impl<O: IntoIterator<Item = ConfigOption>> From<O> for Config {
    fn from(options: O) -> Self {
        Self::default().with(options)
    }
}

/// An address in its one spelling, anything else as it is: [`Config::validate`] complains of the latter.
pub(crate) fn canonical(address: &str) -> String {
    address.parse::<Authority>().map_or_else(|_| address.to_owned(), |authority| authority.to_string())
}

impl Config {
    /// The defaults, listening on `host` and `port`; port 0 draws a free one.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self::from([ConfigOption::with_host(host), ConfigOption::with_port(port)])
    }

    /// What a protoactor-go node does where it differs from the defaults: 5 tries 2 s apart, batches of 1,000, a queue of
    /// 1,000,000, peers may stop any actor, the wire of its released versions.
    ///
    /// It goes on to refuse what would end a Go process, keeps its bounds in bytes, and notices a silent peer. Like the
    /// defaults it listens on `127.0.0.1`, on a port that is free: add `with_host` and `with_port`.
    #[must_use]
    pub fn protoactor_parity() -> Self {
        let wait = Duration::from_secs(2);
        Self::from([
            ConfigOption::with_endpoint_writer_batch_size(1_000),
            ConfigOption::with_endpoint_writer_queue_size(1_000_000),
            ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(5, wait)),
            ConfigOption::with_queue_patience(Patience::Drop),
            ConfigOption::with_peer_lifecycle(true),
            ConfigOption::with_default_wire_form(WireForm::W1),
        ])
    }

    /// These settings, changed by `options` in their order.
    #[must_use]
    pub fn with(mut self, options: impl IntoIterator<Item = ConfigOption>) -> Self {
        for option in options {
            option.apply(&mut self);
        }
        self
    }

    /// The host to listen on; `127.0.0.1` by default.
    #[must_use]
    pub fn get_host(&self) -> &str {
        &self.host
    }

    /// The address to announce, `host:port`, where it differs from the one listened on. Without a port, that of the
    /// listener.
    #[must_use]
    pub fn get_advertised_host(&self) -> Option<&str> {
        self.advertised_host.as_deref()
    }

    /// The address that this node announces when its listener is `bound`. It stands in every pid of this node, and
    /// peers must reach it there.
    #[must_use]
    pub fn advertised_address(&self, bound: SocketAddr) -> String {
        match &self.advertised_host {
            None => Authority::new(&self.host, bound.port()).to_string(),
            Some(address) if address.parse::<Authority>().is_ok() => canonical(address),
            Some(host) => Authority::new(host, bound.port()).to_string(),
        }
    }

    /// Systems, by id or address, that are refused from the start.
    #[must_use]
    pub fn get_blocked_systems(&self) -> &[String] {
        &self.blocked_systems
    }

    /// The only systems, by id or address, that are not refused; none, the default, means all.
    #[must_use]
    pub fn get_allowed_systems(&self) -> &[String] {
        &self.allowed_systems
    }

    /// Peers that may spawn nothing here, by address, `host:port`, or by the id of a client that only dials out; none by
    /// default. Without certificates an address is what a peer says of itself.
    #[must_use]
    pub fn get_spawn_denied(&self) -> &[String] {
        &self.spawn_denied
    }

    /// Whether the peer at `address` may spawn the kinds that are registered here.
    #[must_use]
    pub fn may_spawn(&self, address: &str) -> bool {
        if self.spawn_denied.is_empty() {
            return true;
        }
        let address = canonical(address);
        !self.spawn_denied.iter().any(|denied| match denied.parse::<Authority>() {
            Ok(denied) => denied.to_string() == address,
            Err(_) => client_address(denied) == address,
        })
    }

    /// How this node dials with TLS; plain text without it.
    #[must_use]
    pub const fn get_client_tls(&self) -> Option<&ClientTlsConfig> {
        self.client_tls.as_ref()
    }

    /// How this node serves with TLS; plain text without it.
    #[must_use]
    pub const fn get_server_tls(&self) -> Option<&ServerTlsConfig> {
        self.server_tls.as_ref()
    }

    /// TLS for both directions, with revocation lists; plain text, or the two settings before, without it.
    #[must_use]
    pub const fn get_mutual_tls(&self) -> Option<&MutualTls> {
        self.mutual_tls.as_ref()
    }

    /// What is done to each endpoint before it is dialled, in this order, after this crate has set its limits.
    #[must_use]
    pub fn get_dial_options(&self) -> &[DialOption] {
        &self.dial_options
    }

    /// What is done to the server before it listens, in this order, after this crate has set its limits.
    #[must_use]
    pub fn get_server_options(&self) -> &[ServerOption] {
        &self.server_options
    }

    /// What each call of this node passes before it is sent, in this order.
    #[must_use]
    pub fn get_call_interceptors(&self) -> &[CallInterceptor] {
        &self.call_interceptors
    }

    /// What each call of a peer passes before it is looked at, in this order.
    #[must_use]
    pub fn get_server_interceptors(&self) -> &[CallInterceptor] {
        &self.server_interceptors
    }

    /// `endpoint` after every dial option.
    #[must_use]
    pub fn dial(&self, endpoint: Endpoint) -> Endpoint {
        self.dial_options.iter().fold(endpoint, |endpoint, option| option(endpoint))
    }

    /// `server` after every server option.
    #[must_use]
    pub fn serve(&self, server: Server) -> Server {
        self.server_options.iter().fold(server, |server, option| option(server))
    }

    /// `request` after every call interceptor.
    ///
    /// # Errors
    /// That of the interceptor that refused.
    pub fn intercept_call(&self, request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        self.call_interceptors.iter().try_fold(request, |request, interceptor| interceptor(request))
    }

    /// `request` after every server interceptor.
    ///
    /// # Errors
    /// That of the interceptor that refused.
    pub fn intercept_server(&self, request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        self.server_interceptors.iter().try_fold(request, |request, interceptor| interceptor(request))
    }

    /// The form of batches that was set for `address`, `None` if it is to be found out.
    #[must_use]
    pub fn get_wire_form(&self, address: &str) -> Option<WireForm> {
        self.wire_forms.get(&canonical(address)).copied()
    }

    /// The type names that `address` is known to link, `None` if nothing was said of it. A Go node of the released
    /// versions ends over a type name that it does not know.
    #[must_use]
    pub fn get_known_type_names(&self, address: &str) -> Option<&BTreeSet<String>> {
        self.known_type_names.get(&canonical(address))
    }

    /// Whether anything was said of the type names that an address knows.
    pub(crate) fn restricts_type_names(&self) -> bool {
        !self.known_type_names.is_empty()
    }

    /// Whether a message of this type may be sent to `address`.
    #[must_use]
    pub fn knows_type_name(&self, address: &str, type_name: &str) -> bool {
        self.get_known_type_names(address).is_none_or(|names| names.contains(type_name))
    }

    /// The kinds that `address` is known to spawn, `None` if nothing was said of it. A Go node stops every actor it spawned
    /// for others over a kind that it does not know.
    #[must_use]
    pub fn get_known_kinds(&self, address: &str) -> Option<&BTreeSet<String>> {
        self.known_kinds.get(&canonical(address))
    }

    /// Whether `address` may be asked to spawn this kind.
    #[must_use]
    pub fn knows_kind(&self, address: &str, kind: &str) -> bool {
        self.get_known_kinds(address).is_none_or(|kinds| kinds.contains(kind))
    }

    /// How often and how fast a connection is tried.
    #[must_use]
    pub const fn get_endpoint_reconnect_policy(&self) -> ReconnectPolicy {
        ReconnectPolicy {
            max_retries: self.values.endpoint_reconnect_max_retries,
            initial_backoff: self.values.endpoint_reconnect_initial_backoff,
            max_backoff: self.values.endpoint_reconnect_max_backoff,
            jitter: self.values.endpoint_reconnect_jitter,
        }
    }

    /// When silence counts.
    #[must_use]
    pub const fn get_endpoint_heartbeat(&self) -> HeartbeatConfig {
        HeartbeatConfig {
            interval: self.values.endpoint_heartbeat_interval,
            timeout: self.values.endpoint_heartbeat_timeout,
        }
    }

    /// The fill ratios at which queues signal.
    #[must_use]
    pub const fn backpressure_marks(&self) -> BackpressureMarks {
        BackpressureMarks::new(
            self.values.backpressure_warning_threshold,
            self.values.backpressure_critical_threshold,
        )
    }

    /// The part of this that the state of an endpoint reads.
    #[must_use]
    pub fn endpoint_state_config(&self) -> EndpointStateConfig {
        EndpointStateConfig {
            reconnect_policy: self.get_endpoint_reconnect_policy(),
            heartbeat: self.get_endpoint_heartbeat(),
            attempt_timeout: self.get_connect_timeout().saturating_add(self.get_handshake_timeout()),
            patience: self.get_queue_patience(),
            auto_throttle: self.get_auto_throttle(),
        }
    }

    /// The part of this that the mailbox of an endpoint reads.
    #[must_use]
    pub fn mailbox_bounds(&self) -> MailboxBounds {
        MailboxBounds {
            messages_max: self.get_endpoint_writer_queue_size(),
            bytes_max: self.get_endpoint_writer_queue_bytes(),
            system_messages_max: self.get_limits().system_messages,
            system_bytes_max: self.get_limits().system_bytes,
            overflow: self.get_queue_overflow(),
            marks: self.backpressure_marks(),
        }
    }

    /// What an operator should be told at every start; empty for a safe configuration.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.values.insecure_plaintext && self.is_plaintext_beyond_host() {
            warnings.push(format!(
                "insecure_plaintext: {}:{} is open to the network, neither encrypted nor authenticated",
                self.host, self.values.port
            ));
        }
        if self.values.peer_lifecycle {
            warnings.push("peer_lifecycle: any peer may stop actors of this node".to_owned());
        }
        warnings
    }

    fn is_plaintext_beyond_host(&self) -> bool {
        self.server_tls.is_none() && self.mutual_tls.is_none() && !is_local(&self.host)
    }

    /// Checks every setting and those that must agree with each other.
    ///
    /// # Errors
    /// One [`ConfigError`] that lists all that are wrong, each with its value and its rule.
    pub fn validate(&self) -> Result<(), ConfigError> {
        rules::validate(self)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither keys nor closures are for reading.
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("advertised_host", &self.advertised_host)
            .field("blocked_systems", &self.blocked_systems)
            .field("allowed_systems", &self.allowed_systems)
            .field("spawn_denied", &self.spawn_denied)
            .field("client_tls", &self.client_tls.is_some())
            .field("server_tls", &self.server_tls.is_some())
            .field("mutual_tls", &self.mutual_tls.is_some())
            .field("dial_options", &self.dial_options.len())
            .field("server_options", &self.server_options.len())
            .field("call_interceptors", &self.call_interceptors.len())
            .field("server_interceptors", &self.server_interceptors.len())
            .field("wire_forms", &self.wire_forms)
            .field("known_type_names", &self.known_type_names)
            .field("known_kinds", &self.known_kinds)
            .field("values", &self.values)
            .finish()
    }
}

#[cfg(test)]
mod tests;
