//! `nexus-cli node`: a node with a few actors that others can talk to.

use std::net::SocketAddr;

use anyhow::{Context as _, anyhow};
use nexus_actor::grpc::{Config, ConfigOption, Remote};
use nexus_actor::path::Authority;
use nexus_actor::prelude::*;
use nexus_actor::remote::metrics::{HttpError, HttpOptions, HttpServer, MetricsRegistry};
use nexus_actor::remote::{RemotingControl, RemotingExtension, RemotingExtensionConfig};
use tokio::io::AsyncReadExt;

use crate::args::NodeOptions;
use crate::{actors, console};

pub(crate) async fn run(options: NodeOptions) -> anyhow::Result<()> {
    // Before the node is seen: a signal that follows the line must find its handler.
    let mut ending = Ending::new()?;
    let native = options.bind.as_ref().map(|bind| native_config(&options, bind)).transpose()?;
    let protoactor = options.protoactor.as_ref().map(|bind| protoactor_config(&options, bind)).transpose()?;
    let is_native = native.is_some();
    let mut builder = ActorSystem::builder(options.system.as_deref().unwrap_or("nexus"));
    if let Some(config) = native {
        builder = builder.with_remoting(config);
    }
    let system = builder.build().context("the node does not start")?;
    actors::start(&system)?;
    if is_native {
        start_remoting(&system)?;
    }
    let remote = match protoactor {
        Some(config) => Some(start_protoactor(&system, config).await?),
        None => None,
    };
    let http = match &options.http {
        Some(at) => Some(start_http(&system, remote.as_ref(), at, options.insecure_plaintext).await?),
        None => None,
    };
    if is_native {
        console::line(format_args!("listening {}", system.address()))?;
    }
    if let Some(remote) = &remote {
        console::line(format_args!("listening protoactor {}", remote.address()))?;
    }
    if let Some(http) = http {
        console::line(format_args!("http http://{http}"))?;
    }
    tokio::select! {
        () = ending.wait() => {}
        () = stdin_ends(), if options.until_stdin_ends => {}
        ended = system.when_terminated() => return ended.context("the node ended by itself"),
    }
    system.shutdown().await.context("the shutdown is not complete")
}

fn native_config(options: &NodeOptions, bind: &Authority) -> anyhow::Result<RemotingExtensionConfig> {
    let mut config = RemotingExtensionConfig::default()
        .with_bind(bind.host(), bind.port())
        .with_insecure_plaintext(options.insecure_plaintext)
        // Nobody may send to an actor that does not live yet.
        .with_auto_start(false);
    if let Some(canonical) = &options.canonical {
        config = config.with_canonical_host(canonical.host()).with_canonical_port(canonical.port());
    }
    config.validate().map_err(|error| {
        anyhow!("{error}\nhere: --canonical HOST:PORT sets the canonical host, --insecure-plaintext allows plaintext")
    })?;
    warn(&config.warnings());
    Ok(config)
}

fn protoactor_config(options: &NodeOptions, bind: &Authority) -> anyhow::Result<Config> {
    let base = if options.parity { Config::protoactor_parity() } else { Config::default() };
    let mut config = base.with([
        ConfigOption::with_host(bind.host()),
        ConfigOption::with_port(bind.port()),
        ConfigOption::with_insecure_plaintext(options.insecure_plaintext),
    ]);
    if let Some(canonical) = &options.protoactor_canonical {
        let announced = if canonical.port() == 0 { canonical.host().into() } else { canonical.to_string() };
        config = config.with([ConfigOption::with_advertised_host(announced)]);
    }
    config.validate().map_err(|error| {
        anyhow!(
            "{error}\nhere: --protoactor-canonical HOST:PORT sets the advertised host, --insecure-plaintext allows \
             plaintext"
        )
    })?;
    warn(&config.warnings());
    Ok(config)
}

fn warn(warnings: &[impl core::fmt::Display]) {
    for warning in warnings {
        console::remark(&format!("warning: {warning}"));
    }
}

async fn start_protoactor(system: &ActorSystem, config: Config) -> anyhow::Result<Remote> {
    let remote = Remote::start(system, config).await.context("the node does not start")?;
    remote.register("echo", Props::from_fn(|| actors::Echoer));
    Ok(remote)
}

fn start_remoting(system: &ActorSystem) -> anyhow::Result<()> {
    system.extension::<RemotingExtension>()?.handle().start().context("the node does not start")
}

/// Serves the figures of `system` until it ends; returns where.
async fn start_http(
    system: &ActorSystem,
    protoactor: Option<&Remote>,
    at: &Authority,
    insecure_plaintext: bool,
) -> anyhow::Result<SocketAddr> {
    let found = tokio::net::lookup_host((at.host(), at.port())).await;
    let address = found.with_context(|| format!("no address for {at}"))?.next();
    let address = address.with_context(|| format!("no address for {at}"))?;
    let registry = MetricsRegistry::new();
    // There is none on a node without the native wire.
    if let Ok(native) = system.extension::<RemotingExtension>() {
        registry.add_source(native.handle());
    }
    if let Some(remote) = protoactor {
        registry.add_source(remote.clone());
    }
    registry.add_system(system);
    let options = HttpOptions::default().with_insecure_plaintext(insecure_plaintext);
    let server = HttpServer::bind_with(address, registry, options).await;
    let server = server.map_err(|error| match error {
        HttpError::Exposed(_) => anyhow!("{error}\nhere: --insecure-plaintext allows it"),
        error => anyhow::Error::from(error).context("the HTTP server does not start"),
    })?;
    let bound = server.local_address();
    server.end_with(system);
    Ok(bound)
}

async fn stdin_ends() {
    let mut buffer = [0; 256];
    let mut stdin = tokio::io::stdin();
    while let Ok(read) = stdin.read(&mut buffer).await {
        if read == 0 {
            return;
        }
    }
}

/// The signals that ask a process to end.
pub(crate) struct Ending {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Ending {
    /// From now on these signals no longer end the process by themselves.
    pub(crate) fn new() -> anyhow::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                terminate: signal(SignalKind::terminate()).context("no handler for SIGTERM")?,
                interrupt: signal(SignalKind::interrupt()).context("no handler for SIGINT")?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the first of them.
    pub(crate) async fn wait(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            core::future::pending::<()>().await;
        }
    }
}
