//! One change of a [`Config`], as a value.

use std::fmt;
use std::sync::Arc;

use nexus_remote::association::Overflow;
use tonic::Status;
use tonic::transport::{ClientTlsConfig, Endpoint, Server, ServerTlsConfig};

use crate::config::{Config, canonical};
use crate::endpoint_state::{HeartbeatConfig, ReconnectPolicy};
use crate::wire::batch::WireForm;

/// One change of a [`Config`], as a value: it can be kept, collected and applied more than once.
///
/// # Source
/// The functional options of protoactor-go's `remote.Configure`.
#[derive(Clone)]
pub struct ConfigOption {
    name: &'static str,
    change: Arc<dyn Fn(&mut Config) + Send + Sync>,
}

impl ConfigOption {
    pub(crate) fn new(name: &'static str, change: impl Fn(&mut Config) + Send + Sync + 'static) -> Self {
        Self { name, change: Arc::new(change) }
    }

    /// Makes the change. Nothing is checked: [`Config::validate`] does that, for all settings together.
    pub fn apply(&self, config: &mut Config) {
        (self.change)(config);
    }

    /// The setting that it changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Sets [`host`](Config::get_host).
    #[must_use]
    pub fn with_host(host: impl Into<String>) -> Self {
        let host = host.into();
        Self::new("host", move |config| config.host.clone_from(&host))
    }

    /// Sets [`advertised_host`](Config::get_advertised_host): `host:port`, or a host to go with the port of the listener.
    #[must_use]
    pub fn with_advertised_host(address: impl Into<String>) -> Self {
        let address = Some(address.into());
        Self::new("advertised_host", move |config| config.advertised_host.clone_from(&address))
    }

    /// Sets how often and how fast a connection is tried, in place of the four options for its parts.
    #[must_use]
    pub fn with_endpoint_reconnect_policy(policy: ReconnectPolicy) -> Self {
        Self::new("endpoint_reconnect_policy", move |config| {
            let values = &mut config.values;
            values.endpoint_reconnect_max_retries = policy.max_retries;
            values.endpoint_reconnect_initial_backoff = policy.initial_backoff;
            values.endpoint_reconnect_max_backoff = policy.max_backoff;
            values.endpoint_reconnect_jitter = policy.jitter;
        })
    }

    /// Sets when silence counts, in place of the two options for its parts.
    #[must_use]
    pub fn with_endpoint_heartbeat(heartbeat: HeartbeatConfig) -> Self {
        Self::new("endpoint_heartbeat", move |config| {
            config.values.endpoint_heartbeat_interval = heartbeat.interval;
            config.values.endpoint_heartbeat_timeout = heartbeat.timeout;
        })
    }

    /// Has a full queue give up its oldest message to make room, in place of refusing the newest.
    #[must_use]
    pub fn with_drop_oldest() -> Self {
        Self::with_queue_overflow(Overflow::DropOldest)
    }

    /// Sets [`blocked_systems`](Config::get_blocked_systems).
    #[must_use]
    pub fn with_blocked_systems(systems: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let systems: Vec<String> = systems.into_iter().map(Into::into).collect();
        Self::new("blocked_systems", move |config| config.blocked_systems.clone_from(&systems))
    }

    /// Sets [`allowed_systems`](Config::get_allowed_systems).
    #[must_use]
    pub fn with_allowed_systems(systems: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let systems: Vec<String> = systems.into_iter().map(Into::into).collect();
        Self::new("allowed_systems", move |config| config.allowed_systems.clone_from(&systems))
    }

    /// Sets [`spawn_denied`](Config::get_spawn_denied).
    #[must_use]
    pub fn with_spawn_denied(peers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let peers: Vec<String> = peers.into_iter().map(Into::into).collect();
        Self::new("spawn_denied", move |config| config.spawn_denied.clone_from(&peers))
    }

    /// Sets [`client_tls`](Config::get_client_tls).
    #[must_use]
    pub fn with_client_tls(tls: ClientTlsConfig) -> Self {
        let tls = Some(tls);
        Self::new("client_tls", move |config| config.client_tls.clone_from(&tls))
    }

    /// Sets [`server_tls`](Config::get_server_tls).
    #[must_use]
    pub fn with_server_tls(tls: ServerTlsConfig) -> Self {
        let tls = Some(tls);
        Self::new("server_tls", move |config| config.server_tls.clone_from(&tls))
    }

    /// Sets [`mutual_tls`](Config::get_mutual_tls), in the place of `with_client_tls` and `with_server_tls`.
    #[must_use]
    pub fn with_mutual_tls(tls: crate::MutualTls) -> Self {
        let tls = Some(tls);
        Self::new("mutual_tls", move |config| config.mutual_tls.clone_from(&tls))
    }

    /// Adds to the [`dial_options`](Config::get_dial_options).
    ///
    /// HTTP/2 pings more often than every 5 minutes make a Go node close the connection; TCP keepalive is safe.
    #[must_use]
    pub fn with_dial_option(option: impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static) -> Self {
        let option: crate::config::DialOption = Arc::new(option);
        Self::new("dial_options", move |config| config.dial_options.push(option.clone()))
    }

    /// Adds to the [`server_options`](Config::get_server_options).
    #[must_use]
    pub fn with_server_option(option: impl Fn(Server) -> Server + Send + Sync + 'static) -> Self {
        let option: crate::config::ServerOption = Arc::new(option);
        Self::new("server_options", move |config| config.server_options.push(option.clone()))
    }

    /// Adds to the [`call_interceptors`](Config::get_call_interceptors), to send a token for example.
    #[must_use]
    pub fn with_call_interceptor(
        interceptor: impl Fn(tonic::Request<()>) -> Result<tonic::Request<()>, Status> + Send + Sync + 'static,
    ) -> Self {
        let interceptor: crate::config::CallInterceptor = Arc::new(interceptor);
        Self::new("call_interceptors", move |config| config.call_interceptors.push(interceptor.clone()))
    }

    /// Adds to the [`server_interceptors`](Config::get_server_interceptors), to check a token for example.
    #[must_use]
    pub fn with_server_interceptor(
        interceptor: impl Fn(tonic::Request<()>) -> Result<tonic::Request<()>, Status> + Send + Sync + 'static,
    ) -> Self {
        let interceptor: crate::config::CallInterceptor = Arc::new(interceptor);
        Self::new("server_interceptors", move |config| config.server_interceptors.push(interceptor.clone()))
    }

    /// Sets the [form of batches](Config::get_wire_form) toward one address, `host:port`.
    #[must_use]
    pub fn with_wire_form(address: impl AsRef<str>, form: WireForm) -> Self {
        let address = canonical(address.as_ref());
        Self::new("wire_form", move |config| {
            config.wire_forms.insert(address.clone(), form);
        })
    }

    /// Adds to the [type names](Config::get_known_type_names) that one address, `host:port`, is known to link. No others
    /// are sent there from then on, but for those of the protocol itself.
    #[must_use]
    pub fn with_known_type_names(
        address: impl AsRef<str>,
        type_names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let address = canonical(address.as_ref());
        let names: Vec<String> = type_names.into_iter().map(Into::into).collect();
        Self::new("known_type_names", move |config| {
            config.known_type_names.entry(address.clone()).or_default().extend(names.iter().cloned());
        })
    }

    /// Adds to the [kinds](Config::get_known_kinds) that one address, `host:port`, is known to spawn. No others are asked
    /// for there from then on.
    #[must_use]
    pub fn with_known_kinds(
        address: impl AsRef<str>,
        kinds: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let address = canonical(address.as_ref());
        let kinds: Vec<String> = kinds.into_iter().map(Into::into).collect();
        Self::new("known_kinds", move |config| {
            config.known_kinds.entry(address.clone()).or_default().extend(kinds.iter().cloned());
        })
    }
}

impl fmt::Debug for ConfigOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfigOption").field(&self.name).finish()
    }
}
