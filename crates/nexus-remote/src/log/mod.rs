//! What remoting writes to `tracing`, all in one place; the list is in the documentation of the crate.

#[cfg(feature = "tracing")]
mod limit;

#[cfg(feature = "tracing")]
mod written {
    use alloc::string::{String, ToString};

    use nexus_actor_core::path::Authority;
    use nexus_actor_core::{CorrelationId, Instant};
    use tracing::{Level, debug, enabled, error, info, trace, warn};

    pub(crate) use super::limit::Limit;
    use crate::backpressure::BackpressureSignal;
    use crate::correlation_trace::HopKind;
    use crate::endpoint::{ListenerFault, StrangerEvent};
    use crate::event::{RefusedBy, RemotingBackpressureEvent, RemotingLifecycleEvent as Event, StartWarning};
    use crate::metric::{RemotingMetric, ThresholdCrossed};
    use crate::wire::QuarantineReason;

    pub(crate) fn lifecycle(limit: &Limit, now: Instant, event: &Event) {
        macro_rules! say {
            ($level:ident, $held_back:expr) => {
                $level!(
                    target: "nexus_remote::lifecycle",
                    authority = %event.authority(),
                    correlation_id = %event.correlation_id(),
                    uid = event.uid().map(tracing::field::display),
                    detail = detail(event).as_deref(),
                    held_back = $held_back,
                    "{}",
                    event.name(),
                )
            };
        }
        macro_rules! say_at_a_pace {
            ($level:ident, $enabled:ident) => {
                if enabled!(target: "nexus_remote::lifecycle", Level::$enabled)
                    && let Some(held_back) = limit.admit(now, event)
                {
                    say!($level, (held_back > 0).then_some(held_back));
                }
            };
        }
        match event {
            // An operator has acted already.
            Event::Quarantined { reason: QuarantineReason::Blocked, .. } => say_at_a_pace!(warn, WARN),
            // Once, until it is lifted: never held back.
            Event::Quarantined { deadline: None, .. } => say!(error, None::<u64>),
            Event::Quarantined { .. }
            | Event::QuarantinedByPeer { .. }
            | Event::Gated { .. }
            | Event::Refused { .. }
            | Event::HeartbeatSlow { .. }
            | Event::Suspect { .. } => say_at_a_pace!(warn, WARN),
            Event::ListenStarted { .. }
            | Event::Connected { .. }
            | Event::Disconnected { .. }
            | Event::Suspended { .. }
            | Event::Resumed { .. }
            | Event::QuarantineLifted { .. }
            | Event::Left { .. }
            | Event::Reachable { .. }
            | Event::Shutdown { .. } => say_at_a_pace!(info, INFO),
            Event::AssociationAttempt { .. } => say_at_a_pace!(debug, DEBUG),
        }
    }

    /// What the event has to say beside its name. Part of it may come from a peer: it is escaped.
    fn detail(event: &Event) -> Option<String> {
        let text = match event {
            Event::Gated { cause, .. } | Event::Disconnected { cause, .. } => cause.clone(),
            Event::Quarantined { reason, facts, .. } => alloc::format!("{reason}: {facts}"),
            Event::QuarantinedByPeer { reason, .. } => reason.to_string(),
            Event::Refused { by: RefusedBy::Us, reason, .. } => alloc::format!("by us: {reason}"),
            Event::Refused { by: RefusedBy::Peer, reason, .. } => alloc::format!("by the peer: {reason}"),
            Event::Suspect { suspicion, .. } => alloc::format!("suspicion {suspicion:.1}"),
            Event::HeartbeatSlow { interval, .. } => alloc::format!("{interval:?} since the answer before"),
            Event::AssociationAttempt { attempt, .. } => alloc::format!("attempt {attempt}"),
            Event::Connected { resumed: true, .. } => String::from("the session goes on"),
            Event::Connected { .. } => String::from("a new session"),
            Event::ListenStarted { .. }
            | Event::Suspended { .. }
            | Event::Resumed { .. }
            | Event::QuarantineLifted { .. }
            | Event::Left { .. }
            | Event::Reachable { .. }
            | Event::Shutdown { .. } => return None,
        };
        Some(text.escape_debug().to_string())
    }

    pub(crate) fn backpressure(limit: &Limit, now: Instant, event: &RemotingBackpressureEvent) {
        macro_rules! say {
            ($level:ident, $enabled:ident) => {
                if !enabled!(target: "nexus_remote::backpressure", Level::$enabled) {
                    return;
                }
                let key = (event.authority.clone(), "backpressure", event.signal.as_str());
                let Some(held_back) = limit.admit_as(now, key) else { return };
                $level!(
                    target: "nexus_remote::backpressure",
                    authority = %event.authority,
                    correlation_id = %event.correlation_id,
                    signal = event.signal.as_str(),
                    messages = event.messages,
                    bytes = event.bytes,
                    held_back = (held_back > 0).then_some(held_back),
                    "remote backpressure",
                )
            };
        }
        match event.signal {
            BackpressureSignal::Normal => {
                say!(info, INFO);
            }
            BackpressureSignal::Warning | BackpressureSignal::Critical => {
                say!(warn, WARN);
            }
        }
    }

    pub(crate) fn metric(metric: &RemotingMetric) {
        debug!(
            target: "nexus_remote::metric",
            authority = %metric.authority,
            correlation_id = %metric.correlation_id,
            latency_ms = metric.latency_ms,
            deferred_depth = metric.deferred_depth,
            error_count = metric.error_count,
            backpressure = metric.backpressure.map(BackpressureSignal::as_str),
            last_error = metric.last_error.as_ref().map(tracing::field::debug),
            "metric",
        );
    }

    pub(crate) fn threshold(crossed: &ThresholdCrossed) {
        macro_rules! say {
            ($level:ident) => {
                $level!(
                    target: "nexus_remote::threshold",
                    authority = %crossed.authority,
                    correlation_id = %crossed.correlation_id,
                    kind = crossed.kind.as_str(),
                    value = crossed.value,
                    threshold = crossed.threshold,
                    "threshold",
                )
            };
        }
        if crossed.is_over() { say!(warn) } else { say!(info) }
    }

    /// Whether somebody reads what [`hop`] writes.
    #[inline]
    pub(crate) fn wants_hops() -> bool {
        enabled!(target: "nexus_remote::trace", Level::TRACE)
    }

    #[inline]
    pub(crate) fn hop(authority: &Authority, hop: HopKind, id: CorrelationId, bytes: usize) {
        trace!(
            target: "nexus_remote::trace",
            authority = %authority,
            correlation_id = %id,
            hop = hop.as_str(),
            bytes,
            "hop",
        );
    }

    pub(crate) fn start_warning(warning: &StartWarning) {
        warn!(target: "nexus_remote::start", authority = %warning.authority, "{}", warning.text);
    }

    pub(crate) fn stranger(event: &StrangerEvent) {
        warn!(
            target: "nexus_remote::listener",
            authority = event.source.as_ref().map(tracing::field::display),
            why = ?event.why,
            held_back = event.held_back,
            "a connection was not from a node of ours",
        );
    }

    pub(crate) fn listener(limit: &Limit, now: Instant, own: Authority, fault: &ListenerFault) {
        if enabled!(target: "nexus_remote::listener", Level::WARN)
            && let Some(held_back) = limit.admit_as(now, (own, "listener", ""))
        {
            let held_back = (held_back > 0).then_some(held_back);
            warn!(target: "nexus_remote::listener", why = ?fault.why, held_back, "the listener failed");
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod written {
    use nexus_actor_core::path::Authority;
    use nexus_actor_core::{CorrelationId, Instant};

    use crate::correlation_trace::HopKind;
    use crate::endpoint::{ListenerFault, StrangerEvent};
    use crate::event::{RemotingBackpressureEvent, RemotingLifecycleEvent, StartWarning};
    use crate::metric::{RemotingMetric, ThresholdCrossed};

    #[derive(Debug, Default)]
    pub(crate) struct Limit;

    pub(crate) const fn lifecycle(_: &Limit, _: Instant, _: &RemotingLifecycleEvent) {}
    pub(crate) const fn backpressure(_: &Limit, _: Instant, _: &RemotingBackpressureEvent) {}
    pub(crate) const fn metric(_: &RemotingMetric) {}
    pub(crate) const fn threshold(_: &ThresholdCrossed) {}
    pub(crate) const fn wants_hops() -> bool {
        false
    }
    pub(crate) const fn hop(_: &Authority, _: HopKind, _: CorrelationId, _: usize) {}
    pub(crate) const fn start_warning(_: &StartWarning) {}
    pub(crate) const fn stranger(_: &StrangerEvent) {}
    pub(crate) fn listener(_: &Limit, _: Instant, _: Authority, _: &ListenerFault) {}
}

pub(crate) use written::*;
