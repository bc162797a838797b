//! The one place from which remoting tells the outside what happens.

use alloc::string::ToString;
use alloc::sync::Arc;

use nexus_actor_core::event_stream::{EventStream, EventStreamEvent, RemotingRecord};
use nexus_actor_core::path::Authority;
use nexus_actor_core::{CorrelationId, Instant};

use crate::backpressure::BackpressureListeners;
use crate::endpoint::ListenerFault;
use crate::endpoint_event::EndpointEvent;
use crate::event::{RemotingBackpressureEvent, RemotingEvent, RemotingLifecycleEvent, StartWarning};
use crate::flight_recorder::RemotingFlightRecorder;
use crate::log;
use crate::metric::RemotingMetric;

/// Publishes to listeners, event stream and flight recorder, in that order.
///
/// Each event goes out twice on the stream: as itself for Rust code, and as an [`EventStreamEvent`] whose record
/// is JSON, for tools that know no types of this crate.
#[derive(Clone, Debug)]
pub struct EventPublisher {
    stream: EventStream,
    recorder: Arc<RemotingFlightRecorder>,
    limit: Arc<log::Limit>,
}

impl EventPublisher {
    /// A publisher to `stream` and `recorder`.
    #[must_use]
    pub fn new(stream: EventStream, recorder: Arc<RemotingFlightRecorder>) -> Self {
        Self { stream, recorder, limit: Arc::default() }
    }

    /// Publishes any remoting event. Must not be called under a lock: subscribers run.
    pub fn publish(&self, now: Instant, event: RemotingEvent) {
        match event {
            RemotingEvent::Lifecycle(event) => self.publish_lifecycle(now, event),
            RemotingEvent::Backpressure(event) => {
                log::backpressure(&self.limit, now, &event);
                self.tell(now, event, EventStreamEvent::RemotingBackpressure);
            }
            RemotingEvent::Metric(metric) => self.publish_metric(now, metric),
            RemotingEvent::Threshold(crossed) => {
                log::threshold(&crossed);
                self.tell(now, crossed, EventStreamEvent::RemotingThreshold);
            }
            // A hop is too frequent for the stream, and a subscriber that sends would cause the next one.
            trace @ RemotingEvent::Trace(_) => self.recorder.record_event(now, &trace),
        }
    }

    /// Publishes what an operator should know of this start.
    pub fn publish_start_warning(&self, warning: StartWarning) {
        log::start_warning(&warning);
        self.stream.publish(warning.clone());
        self.stream.publish_with(|| {
            EventStreamEvent::RemotingLifecycle(RemotingRecord {
                name: "start_warning",
                json: warning.to_json().into(),
                authority: Some(warning.authority),
                correlation_id: CorrelationId::NIL,
            })
        });
    }

    /// Publishes a fault of the listener of the node at `own`.
    pub(crate) fn publish_listener_fault(&self, now: Instant, own: Authority, fault: ListenerFault) {
        log::listener(&self.limit, now, own, &fault);
        self.stream.publish(fault);
    }

    /// Publishes one turn in an association's or the node's life.
    pub fn publish_lifecycle(&self, now: Instant, event: RemotingLifecycleEvent) {
        log::lifecycle(&self.limit, now, &event);
        self.tell(now, event, EventStreamEvent::RemotingLifecycle);
    }

    /// Tells `listeners` of a crossed mark, then publishes it, once more for each listener that was told.
    pub fn signal(&self, now: Instant, listeners: &BackpressureListeners, event: RemotingBackpressureEvent) {
        log::backpressure(&self.limit, now, &event);
        let told = listeners.notify(event.signal, &event.authority.to_string());
        for listener in told.told {
            let event = RemotingBackpressureEvent { listener: Some(listener), ..event.clone() };
            self.tell(now, event, EventStreamEvent::RemotingBackpressure);
        }
        let event = RemotingBackpressureEvent { listener: None, ..event };
        self.tell(now, event, EventStreamEvent::RemotingBackpressure);
    }

    /// Publishes what both wires tell of their endpoints, as itself. It is not recorded or written to `tracing`: on the
    /// native wire a [`RemotingLifecycleEvent`] says the same and more.
    pub fn publish_endpoint(&self, event: impl Into<EndpointEvent>) {
        match event.into() {
            EndpointEvent::Connected(event) => self.stream.publish(event),
            EndpointEvent::ClientConnected(event) => self.stream.publish(event),
            EndpointEvent::Terminated(event) => self.stream.publish(event),
            EndpointEvent::Throttled(event) => self.stream.publish(event),
            EndpointEvent::Reconnect(event) => self.stream.publish(event),
        }
    }

    /// Publishes the figures of one peer.
    pub fn publish_metric(&self, now: Instant, metric: RemotingMetric) {
        log::metric(&metric);
        self.tell(now, metric, EventStreamEvent::RemotingMetric);
    }

    /// As itself, as a record of the one feed if anybody reads that, and to the recorder.
    fn tell<E>(&self, now: Instant, event: E, feed: fn(RemotingRecord) -> EventStreamEvent)
    where
        E: Clone + Send + Sync + 'static,
        RemotingEvent: From<E>,
    {
        let wrapped = RemotingEvent::from(event.clone());
        self.stream.publish(event);
        self.stream.publish_with(|| feed(record(&wrapped)));
        self.recorder.record_event(now, &wrapped);
    }
}

fn record(event: &RemotingEvent) -> RemotingRecord {
    let (name, authority) = match event {
        RemotingEvent::Lifecycle(event) => (event.name(), Some(event.authority().clone())),
        RemotingEvent::Backpressure(event) => ("backpressure", Some(event.authority.clone())),
        RemotingEvent::Metric(metric) => ("metric", metric.authority.parse().ok()),
        RemotingEvent::Threshold(crossed) => ("threshold", crossed.authority.parse().ok()),
        RemotingEvent::Trace(trace) => ("trace", Some(trace.authority.clone())),
    };
    RemotingRecord { name, authority, correlation_id: event.correlation_id(), json: event.to_json().into() }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use nexus_actor_core::lock::Lock;
    use nexus_actor_core::path::ActorUid;

    use super::*;
    use crate::backpressure::BackpressureSignal;
    use crate::correlation_trace::{CorrelationTrace, HopKind};
    use crate::flight_recorder::FlightKind;
    use crate::metric::{ThresholdCrossed, ThresholdKind};

    fn publisher() -> (EventStream, Arc<RemotingFlightRecorder>, EventPublisher) {
        let (stream, recorder) = (EventStream::new(), Arc::new(RemotingFlightRecorder::new(64)));
        (stream.clone(), recorder.clone(), EventPublisher::new(stream, recorder))
    }

    /// As its own type, as JSON in the one feed, and in the recorder: all three under one id. Hops only in the
    /// recorder.
    ///
    /// Covers: API-65, RT-48, MET-10, DM-09, OBS-02, OBS-05, EV-27, EV-29, ROLE-53, ROLE-57
    #[test]
    fn each_kind_of_event_reaches_stream_feed_and_recorder() {
        let (stream, recorder, publisher) = publisher();
        let typed = Arc::new(Lock::new(Vec::<&'static str>::new()));
        let feed = Arc::new(Lock::new(Vec::new()));
        macro_rules! note {
            ($($event:ty)*) => {$({
                let typed = typed.clone();
                let name = core::any::type_name::<$event>().rsplit("::").next().unwrap();
                stream.subscribe(move |_: &$event| typed.lock().push(name)).forever();
            })*};
        }
        note!(RemotingLifecycleEvent RemotingBackpressureEvent RemotingMetric ThresholdCrossed CorrelationTrace);
        let out = feed.clone();
        stream
            .subscribe(move |event: &EventStreamEvent| {
                let (variant, record) = match event {
                    EventStreamEvent::RemotingLifecycle(record) => ("RemotingLifecycle", record),
                    EventStreamEvent::RemotingBackpressure(record) => ("RemotingBackpressure", record),
                    EventStreamEvent::RemotingMetric(record) => ("RemotingMetric", record),
                    EventStreamEvent::RemotingThreshold(record) => ("RemotingThreshold", record),
                    other => panic!("{other:?}"),
                };
                out.lock().push((variant, record.clone()));
            })
            .forever();

        let authority = Authority::new("10.0.0.2", 25520);
        let id = |n| CorrelationId::new(n, 1);
        let mut metric = RemotingMetric::new("10.0.0.2:25520");
        metric.correlation_id = id(3);
        let lifecycle = RemotingLifecycleEvent::Left {
            authority: authority.clone(),
            uid: ActorUid::new(5),
            correlation_id: id(1),
        };
        let backpressure = RemotingBackpressureEvent {
            authority: authority.clone(),
            signal: BackpressureSignal::Warning,
            listener: None,
            messages: 6,
            bytes: 60,
            correlation_id: id(2),
        };
        let crossed = ThresholdCrossed {
            authority: String::from("10.0.0.2:25520"),
            kind: ThresholdKind::QueueDepth,
            value: 11,
            threshold: 10,
            correlation_id: id(4),
        };
        let trace =
            CorrelationTrace { correlation_id: id(5), authority: authority.clone(), hop: HopKind::Serialize };
        for event in [lifecycle.into(), backpressure.into(), metric.into(), crossed.into(), trace.into()] {
            publisher.publish(Instant::from_millis(1), event);
        }

        assert_eq!(
            *typed.lock(),
            ["RemotingLifecycleEvent", "RemotingBackpressureEvent", "RemotingMetric", "ThresholdCrossed"]
        );
        let feed = feed.lock();
        for ((variant, record), (expected, name, n)) in feed.iter().zip([
            ("RemotingLifecycle", "left", 1),
            ("RemotingBackpressure", "backpressure", 2),
            ("RemotingMetric", "metric", 3),
            ("RemotingThreshold", "threshold", 4),
        ]) {
            assert_eq!((*variant, record.name, record.correlation_id), (expected, name, id(n)));
            assert_eq!(record.authority.as_ref(), Some(&authority));
            let json: serde_json::Value = serde_json::from_str(&record.json).unwrap();
            assert_eq!(json["event"], name);
            assert_eq!(json["authority"], "10.0.0.2:25520");
            assert_eq!(json["correlation_id"], alloc::format!("{}", id(n)));
        }
        assert_eq!(feed.len(), 4);
        let snapshot = recorder.snapshot();
        let recorded: Vec<_> = snapshot
            .records
            .iter()
            .map(|record| (record.event.kind.name(), record.event.correlation_id))
            .collect();
        let names = ["left", "backpressure", "metric", "threshold", "hop"];
        assert_eq!(recorded, names.into_iter().zip((1..).map(id)).collect::<Vec<_>>());
    }

    /// Covers: EV-25, DM-09
    #[test]
    fn a_signal_goes_to_listeners_then_the_stream_then_the_recorder() {
        let (stream, recorder, publisher) = publisher();
        let order = Arc::new(Lock::new(Vec::new()));
        let listeners = BackpressureListeners::new();
        let (out, seen) = (order.clone(), recorder.clone());
        let recorded = move || {
            let snapshot = seen.snapshot();
            snapshot.records.iter().any(|r| matches!(r.event.kind, FlightKind::Backpressure { .. }))
        };
        let guard = listeners.register(Arc::new(move |signal: BackpressureSignal, authority: &str| {
            out.lock().push(alloc::format!("listener {signal} {authority}"));
        }));
        let out = order.clone();
        let id = guard.id();
        stream
            .subscribe(move |event: &RemotingBackpressureEvent| {
                let of = event.listener.map(|listener| listener == id);
                out.lock().push(alloc::format!("stream {:?}, recorded: {}", of, recorded()));
            })
            .forever();
        publisher.signal(
            Instant::ZERO,
            &listeners,
            RemotingBackpressureEvent {
                authority: Authority::new("h", 1),
                signal: BackpressureSignal::Critical,
                listener: None,
                messages: 9,
                bytes: 90,
                correlation_id: CorrelationId::new(1, 1),
            },
        );
        assert_eq!(
            *order.lock(),
            [
                "listener critical h:1",
                "stream Some(true), recorded: false",
                // The record of the one that names the listener came between.
                "stream None, recorded: true",
            ]
        );
        assert_eq!(recorder.snapshot().records.len(), 2);
    }
}
