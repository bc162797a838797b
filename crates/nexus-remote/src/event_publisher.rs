//! The one place from which remoting tells the outside what happens.

use alloc::string::ToString;
use alloc::sync::Arc;

use nexus_actor_core::Instant;
use nexus_actor_core::event_stream::{EventStream, EventStreamEvent, RemotingRecord};

use crate::backpressure::BackpressureListeners;
use crate::event::{RemotingBackpressureEvent, RemotingEvent, RemotingLifecycleEvent};
use crate::flight_recorder::RemotingFlightRecorder;
use crate::metric::{RemotingMetric, ThresholdCrossed};

/// Publishes to listeners, event stream and flight recorder, in that order.
///
/// Each event goes out twice on the stream: as itself for Rust code, and as an [`EventStreamEvent`] whose record
/// is JSON, for tools that know no types of this crate.
#[derive(Clone, Debug)]
pub struct EventPublisher {
    stream: EventStream,
    recorder: Arc<RemotingFlightRecorder>,
}

impl EventPublisher {
    /// A publisher to `stream` and `recorder`.
    #[must_use]
    pub const fn new(stream: EventStream, recorder: Arc<RemotingFlightRecorder>) -> Self {
        Self { stream, recorder }
    }

    /// Publishes any remoting event. Must not be called under a lock: subscribers run.
    pub fn publish(&self, now: Instant, event: RemotingEvent) {
        match event {
            RemotingEvent::Lifecycle(event) => self.publish_lifecycle(now, event),
            RemotingEvent::Backpressure(event) => self.publish_backpressure(now, event),
            RemotingEvent::Metric(metric) => self.publish_metric(now, metric),
            RemotingEvent::Threshold(crossed) => self.publish_threshold(now, crossed),
            trace @ RemotingEvent::Trace(_) => self.recorder.record_event(now, &trace),
        }
    }

    /// Publishes one turn in an association's or the node's life.
    pub fn publish_lifecycle(&self, now: Instant, event: RemotingLifecycleEvent) {
        let record = RemotingRecord {
            name: event.name(),
            authority: Some(event.authority().clone()),
            correlation_id: event.correlation_id(),
            json: event.to_json().into(),
        };
        let wrapped = RemotingEvent::Lifecycle(event.clone());
        self.stream.publish(event);
        self.stream.publish_with(|| EventStreamEvent::RemotingLifecycle(record));
        self.recorder.record_event(now, &wrapped);
    }

    /// Tells `listeners` of a crossed mark, then publishes it, once more for each listener that was told.
    pub fn signal(&self, now: Instant, listeners: &BackpressureListeners, event: RemotingBackpressureEvent) {
        let told = listeners.notify(event.signal, &event.authority.to_string());
        for listener in told.told {
            self.publish_backpressure(
                now,
                RemotingBackpressureEvent { listener: Some(listener), ..event.clone() },
            );
        }
        self.publish_backpressure(now, RemotingBackpressureEvent { listener: None, ..event });
    }

    fn publish_backpressure(&self, now: Instant, event: RemotingBackpressureEvent) {
        let record = RemotingRecord {
            name: "Backpressure",
            authority: Some(event.authority.clone()),
            correlation_id: event.correlation_id,
            json: event.to_json().into(),
        };
        let wrapped = RemotingEvent::Backpressure(event.clone());
        self.stream.publish(event);
        self.stream.publish_with(|| EventStreamEvent::RemotingBackpressure(record));
        self.recorder.record_event(now, &wrapped);
    }

    /// Publishes the figures of one peer.
    pub fn publish_metric(&self, now: Instant, metric: RemotingMetric) {
        let record = RemotingRecord {
            name: "Metric",
            authority: metric.authority.parse().ok(),
            correlation_id: metric.correlation_id,
            json: metric.to_json().into(),
        };
        let wrapped = RemotingEvent::Metric(metric.clone());
        self.stream.publish(metric);
        self.stream.publish_with(|| EventStreamEvent::RemotingMetric(record));
        self.recorder.record_event(now, &wrapped);
    }

    fn publish_threshold(&self, now: Instant, crossed: ThresholdCrossed) {
        let wrapped = RemotingEvent::Threshold(crossed.clone());
        self.stream.publish(crossed);
        self.recorder.record_event(now, &wrapped);
    }
}
