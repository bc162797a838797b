//! The names that users were promised are in the facade, spelled as promised.

use nexus_actor::prelude::*;
use nexus_actor::remote::{
    association, backpressure, correlation_trace, event, failure_detector, flight_recorder, metric,
    transport, wire,
};

/// Asserts that each type is called what the path says, not only reachable under it.
macro_rules! names {
    ($($name:ident = $type:ty;)*) => {
        [$((stringify!($name), std::any::type_name::<$type>())),*]
    };
}

#[track_caller]
fn check(names: &[(&str, &str)]) {
    for (name, full) in names {
        let path = full.trim_start_matches("dyn ").split('<').next().unwrap();
        assert_eq!(path.rsplit("::").next(), Some(*name), "{full}");
    }
}

/// Covers: API-70
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

/// A remote reference is no type of its own: that is the point.
#[test]
fn a_remote_reference_is_a_reference() {
    fn same<T>(_: fn(T), _: fn(T)) {}
    same(|_: nexus_actor::remote::RemoteActorRef<u8>| {}, |_: ActorRef<u8>| {});
}
