//! The names that users were promised are in the facade, spelled as promised.

use nexus_actor::prelude::*;
use nexus_actor::remote::{
    association, backpressure, correlation_trace, event, failure_detector, flight_recorder, metric,
    transport, wire,
};

/// Asserts that each type is called what the path says, not only reachable under it.
macro_rules! names {
    ($($name:ident = $type:ty;)*) => {
        [$((stringify!($name), core::any::type_name::<$type>())),*]
    };
}

#[track_caller]
fn check(names: &[(&str, &str)]) {
    for (name, full) in names {
        let path = full.trim_start_matches("dyn ");
        assert_eq!(path.rsplit("::").next(), Some(*name), "{full}");
    }
}

/// Covers: API-70, DM-10, DM-11
#[test]
fn every_name_of_the_foundation_is_public() {
    use nexus_actor::remote_authority::{
        AuthorityState, RemoteAuthorityManager, RemoteAuthorityManagerGeneric,
    };

    check(&names! {
        RemotingExtension = nexus_actor::remote::RemotingExtension;
        RemotingControl = dyn nexus_actor::remote::RemotingControl;
        RemotingControlHandle = nexus_actor::remote::RemotingControlHandle;
        RemotingExtensionConfig = nexus_actor::remote::RemotingExtensionConfig;
        RemotingError = nexus_actor::remote::RemotingError;
        RemoteActorRefProvider = nexus_actor::remote::RemoteActorRefProvider;
        EndpointManagerCommand = nexus_actor::remote::EndpointManagerCommand;
        EventPublisher = nexus_actor::remote::EventPublisher;
        RemoteWatcherDaemon = nexus_actor::remote::RemoteWatcherDaemon;
        RemotingBackpressureListener = dyn backpressure::RemotingBackpressureListener;
        BackpressureSignal = backpressure::BackpressureSignal;
        BackpressureHook = dyn backpressure::BackpressureHook;
        RemotingBackpressureEvent = event::RemotingBackpressureEvent;
        RemotingLifecycleEvent = event::RemotingLifecycleEvent;
        RemotingEvent = event::RemotingEvent;
        RemotingMetric = metric::RemotingMetric;
        RemoteAuthoritySnapshot = metric::RemoteAuthoritySnapshot;
        RemotingFlightRecorder = flight_recorder::RemotingFlightRecorder;
        CorrelationTrace = correlation_trace::CorrelationTrace;
        CorrelationId = nexus_actor::CorrelationId;
        PhiFailureDetector = failure_detector::PhiFailureDetector;
        AssociationState = association::AssociationState;
        RemoteTransport = dyn transport::RemoteTransport;
        TransportFactory = transport::TransportFactory;
        TransportBind = transport::TransportBind;
        TransportEndpoint = transport::TransportEndpoint;
        TransportHandle = transport::TransportHandle;
        TransportChannel = transport::TransportChannel;
        TransportError = transport::TransportError;
        TransportSecurity = transport::TransportSecurity;
        TokioTcpTransport = transport::TokioTcpTransport;
        LoopbackTransport = transport::LoopbackTransport;
        RemotingEnvelope = wire::RemotingEnvelope;
        AssociationHandshake = wire::AssociationHandshake;
        AssociationHeader = wire::AssociationHeader;
        CapabilityFlags = wire::CapabilityFlags;
        QuarantineReason = wire::QuarantineReason;
        RemoteNodeId = wire::RemoteNodeId;
        MessagePriority = wire::MessagePriority;
        RemoteAuthorityManager = RemoteAuthorityManager;
        AuthorityState = AuthorityState;
        SerializedMessage = nexus_actor::serialization::SerializedMessage;
        SerializationRegistry = nexus_actor::serialization::SerializationRegistry;
    });
    // Another name of the type above, for those who know it as generic.
    check(&names! { RemoteAuthorityManager = RemoteAuthorityManagerGeneric; });
}

/// What the documents of the protoactor lineage call things.
///
/// Covers: API-26
#[cfg(feature = "grpc")]
#[test]
fn every_name_of_the_protoactor_lineage_is_public() {
    use nexus_actor::grpc::wire::proto::remote;
    use nexus_actor::grpc::{endpoint_state, endpoint_watcher, endpoint_writer_mailbox};

    check(&names! {
        Remote = nexus_actor::grpc::Remote;
        Config = nexus_actor::grpc::Config;
        ConfigOption = nexus_actor::grpc::ConfigOption;
        ResponseStatusCode = nexus_actor::grpc::ResponseStatusCode;
        BlockList = nexus_actor::grpc::block_list::BlockList;
        EndpointManager = nexus_actor::grpc::EndpointManager;
        Endpoint = nexus_actor::grpc::Endpoint;
        EndpointWatcher = endpoint_watcher::EndpointWatcher;
        RemoteDeliver = endpoint_writer_mailbox::RemoteDeliver;
        EndpointWriterMailbox = endpoint_writer_mailbox::EndpointWriterMailbox;
        EndpointState = endpoint_state::EndpointState;
        ConnectionState = endpoint_state::ConnectionState;
        ReconnectPolicy = endpoint_state::ReconnectPolicy;
        HeartbeatConfig = endpoint_state::HeartbeatConfig;
        ClientResponseSender = nexus_actor::grpc::ClientResponseSender;
        EndpointStatistics = nexus_actor::remote::EndpointStatistics;
        EndpointStatisticsSnapshot = nexus_actor::remote::EndpointStatisticsSnapshot;
        EndpointConnectedEvent = nexus_actor::remote::EndpointConnectedEvent;
        EndpointTerminatedEvent = nexus_actor::remote::EndpointTerminatedEvent;
        EndpointThrottledEvent = nexus_actor::remote::EndpointThrottledEvent;
        EndpointReconnectEvent = nexus_actor::remote::EndpointReconnectEvent;
        DeadLetterEvent = nexus_actor::dead_letter::DeadLetterEvent;
        DeadLetterResponse = nexus_actor::dead_letter::DeadLetterResponse;
        Pid = nexus_actor::pid::Pid;
        ProcessRegistry = nexus_actor::process_registry::ProcessRegistry;
        ConnectResponse = remote::ConnectResponse;
        ListProcessesResponse = remote::ListProcessesResponse;
        GetProcessDiagnosticsResponse = remote::GetProcessDiagnosticsResponse;
    });
    // Other names of types above.
    check(&names! {
        ClientResponseSender = nexus_actor::grpc::ClientConnection;
        HeartbeatConfig = endpoint_state::Heartbeat;
    });
}

/// Routers and worker pools can be used with a dependency on the facade alone.
#[test]
fn routers_and_worker_pools_are_public() {
    struct Idle;
    impl Actor for Idle {
        type Msg = u8;
        async fn receive(&mut self, _: u8, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
            Ok(())
        }
    }
    for (at_root, in_module) in [
        (
            core::any::type_name::<nexus_actor::Router<u8>>(),
            core::any::type_name::<nexus_actor::router::Router<u8>>(),
        ),
        (
            core::any::type_name::<nexus_actor::WorkerPool<Idle>>(),
            core::any::type_name::<nexus_actor::worker_pool::WorkerPool<Idle>>(),
        ),
        (
            core::any::type_name::<nexus_actor::Pool<u8>>(),
            core::any::type_name::<nexus_actor::worker_pool::Pool<u8>>(),
        ),
    ] {
        assert_eq!(at_root, in_module);
    }
}

/// The commands of the foundation, with what each carries. That this compiles is the test.
///
/// Covers: API-52
#[test]
fn the_manager_has_the_promised_commands() {
    use nexus_actor::remote::EndpointManagerCommand as Command;

    fn about(command: &Command) -> &str {
        let (authority, reason): (&String, &wire::QuarantineReason) = match command {
            Command::RegisterInbound { handle } => return about_channel(handle),
            Command::Associate { endpoint: transport::TransportEndpoint { .. } } => return "an endpoint",
            Command::FlushDeferred { authority } => return authority,
            Command::Quarantine { authority, reason } => (authority, reason),
            Command::PublishMetrics => return "all",
            _ => return "what is ours",
        };
        assert_eq!(*reason, wire::QuarantineReason::ByOperator);
        authority
    }
    fn about_channel(_: &transport::TransportChannel) -> &'static str {
        "a channel"
    }
    let quarantine =
        Command::Quarantine { authority: "h:1".to_string(), reason: wire::QuarantineReason::ByOperator };
    assert_eq!(about(&quarantine), "h:1");
    assert_eq!(about(&Command::FlushDeferred { authority: "h:2".to_string() }), "h:2");
    assert_eq!(about(&Command::PublishMetrics), "all");
    let endpoint = transport::TransportEndpoint::new("h:1".parse().expect("an authority"));
    assert_eq!(about(&Command::Associate { endpoint }), "an endpoint");
}

/// A remote reference is no type of its own: that is the point.
///
/// Covers: DM-12
#[test]
fn a_remote_reference_is_a_reference() {
    fn same<T>(_: fn(T), _: fn(T)) {}
    same(|_: nexus_actor::remote::RemoteActorRef<u8>| {}, |_: ActorRef<u8>| {});
}
