//! Owns the transport and the other endpoint actors, and rebuilds what fails.

use alloc::string::ToString;
use alloc::sync::Arc;
use core::future::poll_fn;
use core::time::Duration;

use nexus_actor_core::path::{Address, Authority};
use nexus_actor_core::{
    Actor, ActorError, ActorRef, Context, CorrelationId, Props, Signal, SupervisorStrategy,
};

use super::connection;
use super::manager::{EndpointManager, EndpointManagerCommand};
use super::node::Node;
use super::watcher::RemoteWatcherDaemon;
use crate::error::RemotingError;
use crate::event::RemotingLifecycleEvent;
use crate::flight_recorder::{FlightEvent, FlightKind};
use crate::transport::{RemoteTransport, TransportBind, TransportError, TransportHandle};
use crate::wire::RemoteNodeId;

/// First wait before a listener that failed is made again; doubled each time up to [`REBUILD_MAX`].
const REBUILD_FIRST: Duration = Duration::from_millis(200);
const REBUILD_MAX: Duration = Duration::from_secs(5);

/// The actor at `/system/remoting`: parent of manager and watcher, and owner of the listener.
pub(crate) struct EndpointSupervisor {
    node: Arc<Node>,
    attempt: u32,
}

/// What the supervisor is told.
#[derive(Debug)]
pub(crate) enum SupervisorCommand {
    /// The listener ended although nobody asked it to.
    ListenerFailed(TransportError),
    /// Make the listener again.
    Rebuild,
    /// Publish metrics and come again.
    MetricsTick,
}

impl EndpointSupervisor {
    pub(crate) const fn new(node: Arc<Node>) -> Self {
        Self { node, attempt: 0 }
    }

    /// How its children are supervised: restarted for ever, with growing waits.
    pub(crate) fn props(node: Arc<Node>) -> Props<Self> {
        Props::from_fn(move || Self::new(node.clone())).with_supervision(
            SupervisorStrategy::one_for_one().with_budget(u32::MAX, Duration::from_secs(60)),
        )
    }

    fn spawn_manager(&self, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        let node = self.node.clone();
        let manager =
            cx.spawn("endpoint_manager", Props::from_fn(move || EndpointManager::new(node.clone())))?;
        self.node.set_manager(Some(manager));
        // What was posted before there was anybody to tell.
        self.node.notify_again();
        Ok(())
    }

    fn spawn_watcher(&self, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        let node = self.node.clone();
        let props = Props::from_fn(move || RemoteWatcherDaemon::new(node.clone()));
        let daemon = cx.system().spawn_system("remote_watcher_daemon", props)?;
        cx.watch(&daemon);
        self.node.set_watcher(Some(daemon));
        Ok(())
    }

    fn metrics_tick(&self, cx: &mut Context<'_, Self>) {
        if let Some(interval) = self.node.config.metrics_interval() {
            cx.start_timer("metrics", interval, SupervisorCommand::MetricsTick);
        }
    }
}

impl Actor for EndpointSupervisor {
    type Msg = SupervisorCommand;

    async fn receive(
        &mut self,
        command: SupervisorCommand,
        cx: &mut Context<'_, Self>,
    ) -> Result<(), ActorError> {
        match command {
            SupervisorCommand::ListenerFailed(error) => {
                if self.node.is_closing() {
                    return Ok(());
                }
                self.attempt += 1;
                let wait = REBUILD_FIRST.saturating_mul(1 << (self.attempt - 1).min(8)).min(REBUILD_MAX);
                self.node.report_listener(&error.to_string());
                self.node.recorder.record(FlightEvent {
                    time: cx.system().now(),
                    association: self.node.recorder.intern(&self.node.own_authority()),
                    correlation_id: CorrelationId::NIL,
                    kind: FlightKind::TransportFault,
                });
                cx.start_timer("rebuild", wait, SupervisorCommand::Rebuild);
            }
            SupervisorCommand::Rebuild if self.node.is_closing() => {}
            SupervisorCommand::Rebuild => match rebuild(&self.node) {
                Ok(listener) => {
                    serve(&self.node, listener, &cx.me());
                    self.node.publish_listening();
                    self.attempt = 0;
                }
                Err(RemotingError::TransportUnavailable(error)) => {
                    cx.me().tell(SupervisorCommand::ListenerFailed(error))
                }
                Err(_) => {}
            },
            SupervisorCommand::MetricsTick => {
                if let Some(manager) = self.node.manager() {
                    manager.tell(EndpointManagerCommand::PublishMetrics);
                }
                self.metrics_tick(cx);
            }
        }
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match signal {
            Signal::Started => {
                if !self.node.has_watcher() {
                    self.spawn_watcher(cx)?;
                }
                self.spawn_manager(cx)?;
                self.metrics_tick(cx);
            }
            // Only the watcher is watched. It failed more often than its supervisor, which is not this one, allows.
            Signal::Terminated { .. } if !self.node.is_closing() => {
                self.node.set_watcher(None);
                self.spawn_watcher(cx)?;
            }
            Signal::Stopping => {
                self.node.set_manager(None);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Binds the listener.
///
/// # Errors
/// When the address cannot be bound. Nothing is left running.
pub(crate) fn bind(node: &Arc<Node>) -> Result<TransportHandle, RemotingError> {
    let transport = node.transport().ok_or(RemotingError::NotStarted)?;
    let bind = node.config.bind_address();
    // A listener made again takes the port that was announced, not another one.
    let port = match node.address().and_then(|address| address.authority) {
        Some(announced) if bind.port == 0 => announced.port(),
        _ => bind.port,
    };
    let handle = transport.spawn_listener(&TransportBind::new(bind.host, port))?;
    if node.address().is_none() {
        let bound = handle.local_address();
        let announced = node.config.canonical_authority();
        let port = if announced.port() == 0 { bound.port() } else { announced.port() };
        let authority = Authority::try_new(announced.host(), port).map_err(|error| {
            RemotingError::InvalidAddress { address: announced.to_string(), rule: error.to_string() }
        })?;
        let system = node.system.upgrade().ok_or(RemotingError::Shutdown)?;
        let address = Address {
            scheme: node.config.transport_scheme().clone(),
            system: system.name().into(),
            authority: Some(authority.clone()),
        };
        let id = crate::wire::NodeAddress::of(&address)
            .and_then(|of| RemoteNodeId::at(of, node.uid))
            .map_err(|error| RemotingError::InvalidAddress {
                address: address.to_string(),
                rule: error.to_string(),
            })?;
        node.set_local(id, address);
    }
    Ok(handle)
}

/// Makes the transport anew, as its factory does, and binds. Connections of the one before live on.
fn rebuild(node: &Arc<Node>) -> Result<TransportHandle, RemotingError> {
    let config = &node.config;
    node.set_transport(config.transport_factory().create(config.transport_scheme().as_str())?);
    bind(node)
}

/// Takes connections in a task until remoting ends.
pub(crate) fn serve(node: &Arc<Node>, listener: TransportHandle, supervisor: &ActorRef<SupervisorCommand>) {
    node.spawn(accept(node.clone(), node.transport(), listener, supervisor.clone()));
}

impl Node {
    /// Says that connections are taken. Not under a lock: subscribers run.
    pub(crate) fn publish_listening(&self) {
        self.publish(RemotingLifecycleEvent::ListenStarted {
            authority: self.own_authority(),
            correlation_id: CorrelationId::NIL,
        });
    }
}

/// Takes connections until remoting ends. A connection that could not be taken is counted and forgotten; only a
/// listener that is gone ends this.
async fn accept(
    node: Arc<Node>,
    _transport: Option<Arc<dyn RemoteTransport>>,
    handle: TransportHandle,
    supervisor: ActorRef<SupervisorCommand>,
) {
    let mut closing = node.closing_notice();
    let mut failures = 0u32;
    loop {
        let accepted = poll_fn(|cx| {
            if closing.as_mut().poll(cx).is_ready() {
                return core::task::Poll::Ready(None);
            }
            handle.poll_accept(cx).map(Some)
        })
        .await;
        match accepted {
            None => break,
            Some(Ok(channel)) => {
                failures = 0;
                match node.manager() {
                    // What peers can add to has its bound: they dial again.
                    Some(manager)
                        if manager.mailbox_len() >= node.config.endpoint_manager_queue_size() as usize =>
                    {
                        node.report_listener("too many connections wait for the endpoint manager");
                        channel.abort();
                    }
                    Some(manager) => {
                        manager.tell(EndpointManagerCommand::RegisterInbound { handle: channel });
                    }
                    // It has not begun yet, or is being replaced.
                    None => node.spawn(connection::receive(node.clone(), channel)),
                }
            }
            Some(Err(error @ TransportError::Closed { .. })) => {
                if !node.is_closing() {
                    supervisor.tell(SupervisorCommand::ListenerFailed(error));
                }
                break;
            }
            Some(Err(error)) => {
                failures += 1;
                node.report_listener(&error.to_string());
                if failures >= 100 {
                    // It refuses every time: made anew it may come back.
                    supervisor.tell(SupervisorCommand::ListenerFailed(error));
                    break;
                }
            }
        }
    }
    handle.close();
}
