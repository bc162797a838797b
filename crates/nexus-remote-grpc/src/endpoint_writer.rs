//! The task that drives one endpoint: it does what the state wants done, and owns the call to the peer.

pub(crate) mod call_owner;
mod connection_task;
pub(crate) mod dials;
pub(crate) mod outbound;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use nexus_actor_core::remote::{PendingReply, ReplyKey, Route};
use nexus_actor_core::runtime::contained;
use nexus_actor_core::serialization::DecodeError;
use nexus_actor_core::serialization::protobuf::Named;
use nexus_actor_core::{AskError, DeadLetterReason};
use nexus_remote::{
    EndpointConnectedEvent, EndpointReconnectEvent, EndpointTerminatedEvent, EndpointThrottledEvent,
};
use portable_atomic::Ordering;
use prost::Message as _;
use tonic::Streaming;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint as Dial;

use crate::endpoint::backpressure_events;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint::{About, Endpoint, EndpointKind};
use crate::endpoint_reader::Inbound;
use crate::endpoint_state::{DisconnectCause, EndpointAction, EndpointState, TerminatedReason};
use crate::endpoint_writer::call_owner::CallOwner;
use crate::endpoint_writer::connection_task::ConnectionTask;
use crate::endpoint_writer::outbound::{Outbound, OutboundControl, TOUCH};
use crate::endpoint_writer_mailbox::RemoteSystem;
use crate::inbound::address_claim;
use crate::inbound::call::end_calls;
use crate::inbound::listener::{KEEPALIVE, KEEPALIVE_PROBES};
use crate::inbound::peer_watcher::PeerWatch;
use crate::kinds::ACTIVATOR;
use crate::log;
use crate::node::Node;
use crate::pending_asks::{self, PendingAsks};
use crate::wire::batch::{self, BatchWriter, Incoming, OutgoingEnvelope, WireForm};
use crate::wire::proto::remote::remote_message::MessageType;
use crate::wire::proto::remote::{
    ClientConnection, ConnectRequest, Nexus, RemoteMessage, ServerConnection, connect_request::ConnectionType,
};
use crate::wire::remoting::RemotingClient;

/// What this version says of itself to nodes of ours.
pub(crate) const NEXUS: Nexus = Nexus { version: 1, capabilities: 0 };
/// How long a node may take to show which form of the wire it speaks.
const FORM_PROBE: std::time::Duration = std::time::Duration::from_secs(2);
/// Receive windows: a batch of the largest size fits. Fixed, for pings that measure a link are not welcome at Go nodes.
pub(crate) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// A call that serves.
struct Link {
    responses: Streaming<Bytes>,
    control: Arc<OutboundControl>,
    form: WireForm,
    /// Takes what the peer sends down the call, where this node only dials out.
    inbound: Option<Inbound>,
    /// Nothing is read until then.
    pause_until: Option<nexus_actor_core::Instant>,
    /// However the link is let go of, what it had taken is accounted for.
    _owner: CallOwner,
    /// Dropped last, or there would be nobody to take the end of the call.
    _connection: Connection,
}

/// The task of a connection, which is this one's alone: dropped, it takes the socket with it, whatever the peer does.
pub(crate) struct Connection(tokio::task::AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Made {
    link: Link,
    system_id: Arc<str>,
    is_nexus: bool,
}

enum ConnectFault {
    Failed(String),
    /// This node refuses the peer.
    Blocked,
    /// The peer refused this node, by the call of that number.
    Refused(u64),
}

type Attempt = Pin<Box<dyn Future<Output = Result<Box<Made>, ConnectFault>> + Send>>;

/// Drives `endpoint` until nothing is wanted of it.
pub(crate) async fn run(endpoint: Arc<Endpoint>) {
    let replaced = ReplacedOnPanic(&endpoint);
    let mut writer = EndpointWriter::new(endpoint.clone());
    writer.work().await;
    drop(writer);
    drop(replaced);
    endpoint.node().forget_if_idle(&endpoint);
}

/// Of a driver that panics: its connection is lost, and another driver begins. Nobody else would move the state again.
struct ReplacedOnPanic<'a>(&'a Endpoint);

impl Drop for ReplacedOnPanic<'_> {
    fn drop(&mut self) {
        let endpoint = self.0;
        if !std::thread::panicking() {
            return;
        }
        endpoint.driven.store(false, Ordering::Release);
        let cause = DisconnectCause::Stream(Arc::from("the driver panicked"));
        endpoint.apply(|state, now| state.handle_disconnected(now, cause));
        // Those of the connection that is lost, if there was one.
        endpoint.node().asks.give_up_touches(endpoint.address(), endpoint.era());
    }
}

/// `attempt`, in which code of the application runs, from the options of the dial to the interceptors of the call: its
/// panic is a failed attempt.
async fn contain(
    attempt: impl Future<Output = Result<Box<Made>, ConnectFault>>,
) -> Result<Box<Made>, ConnectFault> {
    let mut attempt = std::pin::pin!(attempt);
    poll_fn(|cx| {
        let mut polled = None;
        contained(|| polled = Some(attempt.as_mut().poll(cx)));
        polled.unwrap_or_else(|| Poll::Ready(Err(ConnectFault::Failed("the attempt panicked".to_owned()))))
    })
    .await
}

/// Owner of the outbound call to one address.
pub(crate) struct EndpointWriter {
    endpoint: Arc<Endpoint>,
    link: Option<Link>,
    /// How many connections had been lost when that one was made: it is the one of the state as long as there are no more.
    link_era: u64,
    /// With the number of the attempt that the state began.
    attempt: Option<(u64, Attempt)>,
}

impl std::fmt::Debug for EndpointWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointWriter")
            .field("endpoint", &self.endpoint)
            .field("connected", &self.link.is_some())
            .finish_non_exhaustive()
    }
}

enum Turn {
    Woken,
    Tried(u64, Result<Box<Made>, ConnectFault>),
    Heard(Result<Option<Bytes>, tonic::Status>),
    Late,
    Throttled(crate::endpoint_writer_mailbox::ThrottleChange),
}

impl EndpointWriter {
    pub(crate) const fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, link: None, link_era: 0, attempt: None }
    }

    /// Does all that the state wants done by now.
    pub(crate) fn act_on_all(&mut self) {
        while let Some((action, about)) = self.endpoint.take_action() {
            self.act(action, &about);
        }
    }

    async fn work(&mut self) {
        loop {
            self.act_on_all();
            if self.link.is_none() && self.attempt.is_none() {
                // An end empties the queue. Nobody else would say so, or lift what the state refuses because it was full.
                while let Some(change) = self.endpoint.mailbox.take_throttle() {
                    self.throttled(change);
                }
                if self.endpoint.rest() {
                    return;
                }
            }
            match self.next().await {
                Turn::Woken => {}
                Turn::Late => self.endpoint.apply(EndpointState::handle_timeout),
                Turn::Tried(number, result) => {
                    self.attempt = None;
                    self.tried(number, result);
                }
                Turn::Heard(message) => self.hear(message),
                Turn::Throttled(change) => self.throttled(change),
            }
        }
    }

    async fn next(&mut self) -> Turn {
        let Self { endpoint, link, attempt, .. } = self;
        let at = endpoint.read(EndpointState::poll_timeout);
        let late = async {
            match at {
                Some(at) => endpoint.node().system.runtime().sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let tried = async {
            match attempt {
                Some((number, attempt)) => (*number, attempt.as_mut().await),
                None => std::future::pending().await,
            }
        };
        let heard = async {
            match link {
                Some(link) => {
                    if let Some(at) = link.pause_until {
                        endpoint.node().system.runtime().sleep_until(at).await;
                        link.pause_until = None;
                    }
                    // To a node that listens nothing comes this way that takes room: goodbyes, acknowledgements, the end.
                    if let Some(call) = link.inbound.as_ref().map(Inbound::call) {
                        // The answer to a question may be among what is not read.
                        tokio::select! {
                            biased;
                            () = poll_fn(|cx| endpoint.intake.poll_room_of(call, cx)) => {}
                            () = endpoint.node().asks.question_to(endpoint.address()) => {}
                        }
                    }
                    link.responses.message().await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = endpoint.wake.notified() => Turn::Woken,
            (number, made) = tried => Turn::Tried(number, made),
            message = heard => Turn::Heard(message),
            change = poll_fn(|cx| endpoint.mailbox.poll_throttle(cx)) => Turn::Throttled(change),
            () = late => Turn::Late,
        }
    }

    fn act(&mut self, action: EndpointAction, about: &About) {
        let endpoint = self.endpoint.clone();
        let node = endpoint.node();
        match action {
            EndpointAction::Connect { .. } => {
                endpoint.show_statistics();
                // Given up by now, it is dropped by an action that follows.
                let number = endpoint.read(EndpointState::attempt_number);
                self.attempt = Some((number, Box::pin(contain(connect(endpoint.clone(), number)))));
            }
            EndpointAction::Reconnecting { attempt } => {
                log::reconnecting(&endpoint, attempt);
                node.system
                    .event_stream()
                    .publish_with(|| EndpointReconnectEvent { address: endpoint.address().clone(), attempt });
            }
            EndpointAction::Connected { system_id, is_new_incarnation, again } => {
                self.connected(&system_id, is_new_incarnation, again, about);
            }
            // The one that was silent is lost, and the next one was not silent.
            EndpointAction::Probe if about.era != endpoint.era() => {}
            EndpointAction::Probe => endpoint.probe(),
            EndpointAction::Disconnect { cause } => self.disconnect(&cause, about),
            EndpointAction::Discard { reason } => {
                let mut answers = Vec::new();
                let is_awaited = endpoint.are_answers_awaited();
                // They are out of the mailbox: whatever becomes of one, the others are recorded.
                endpoint.mailbox.drain_before(about.mark, |deliver, payload| {
                    if is_awaited && deliver.target.is_future() {
                        answers.push((deliver, payload.to_vec()));
                    } else {
                        contained(|| {
                            endpoint.dead(&deliver, payload.len(), reason, "the connection is lost")
                        });
                    }
                });
                for (deliver, payload) in answers {
                    contained(|| endpoint.keep_answer(deliver, &payload));
                }
            }
            EndpointAction::Suspended => self.pause(true),
            EndpointAction::Resumed => self.pause(false),
            EndpointAction::Terminated { reason } => self.terminated(&reason, about),
        }
    }

    fn pause(&mut self, paused: bool) {
        if let Some(link) = &self.link {
            if paused { link.control.hold() } else { link.control.open(link.form) }
        }
        if let Some(call) = self.endpoint.client_calls.serving() {
            call.pause(paused);
        }
    }

    /// Attempt `number` came to an end. What became of one that the state has given up since is of no interest: another one
    /// may be under way.
    fn tried(&mut self, number: u64, result: Result<Box<Made>, ConnectFault>) {
        match result {
            Ok(made) => {
                let Made { link, system_id, is_nexus } = *made;
                let permits =
                    |id: &str| self.endpoint.node().block_list.permits(id, Some(self.endpoint.address()));
                let is_current = self.endpoint.apply(|state, now| {
                    let is_current = state.is_under_way(number);
                    if is_current {
                        self.endpoint.is_nexus.store(is_nexus, Ordering::Release);
                        state.handle_connected(now, system_id.clone());
                        // Blocked since the handshake was answered, it would have been missed.
                        if !permits(&system_id) {
                            state.handle_blocked(now);
                        }
                        self.link_era = self.endpoint.era();
                    }
                    is_current
                });
                // What the state wants done is done by this task, so the link is there in time.
                if is_current {
                    self.link = Some(link);
                }
            }
            Err(fault) => {
                if let ConnectFault::Failed(why) = &fault {
                    log::connect_failed(&self.endpoint, why);
                }
                self.endpoint.apply(|state, now| match fault {
                    _ if !state.is_under_way(number) => {}
                    ConnectFault::Blocked => state.handle_blocked(now),
                    ConnectFault::Refused(by) => self.endpoint.refused(state, now, by),
                    ConnectFault::Failed(why) => state.handle_connect_failed(now, why),
                });
            }
        }
    }

    fn connected(&mut self, system_id: &Arc<str>, is_new_incarnation: bool, again: bool, about: &About) {
        let endpoint = &self.endpoint;
        let node = endpoint.node();
        // Of a client nothing was shown before, or not since its end.
        endpoint.show_statistics();
        log::connected(endpoint, system_id);
        if endpoint.kind() == EndpointKind::Dialled {
            address_claim::answered(endpoint, system_id);
        }
        // At a first connection, or after an end, the peer is to hear of all who watch or ask there anyway.
        if again {
            if is_new_incarnation {
                // Whom we watched and asked there is gone with the process.
                endpoint.watcher.process_gone(about.era);
                node.asks.fail_before(endpoint.address(), about.era, &AskError::Unreachable);
            }
            endpoint.watcher.tell_again();
        }
        let events = node.system.event_stream();
        events.publish_with(|| EndpointConnectedEvent {
            address: endpoint.address().clone(),
            system_id: system_id.clone(),
        });
        if again {
            let level = endpoint.mailbox.level();
            let state = endpoint.mailbox.state();
            events.publish_with(|| EndpointThrottledEvent {
                address: endpoint.address().clone(),
                level,
                messages: state.len as u64,
                bytes: state.bytes as u64,
            });
        }
        if let Some(link) = &self.link {
            link.control.open(link.form);
        }
    }

    fn disconnect(&mut self, cause: &DisconnectCause, about: &About) {
        self.attempt = None;
        let give_up_touches =
            |endpoint: &Endpoint| endpoint.node().asks.give_up_touches(endpoint.address(), about.era);
        if let Some(mut link) = self.link.take() {
            // Nothing more is taken of it, and nobody is to be woken for it.
            link.inbound = None;
            log::disconnected(&self.endpoint, cause);
            link.control.close();
            give_up_touches(&self.endpoint);
            if matches!(
                cause,
                DisconnectCause::Shutdown | DisconnectCause::PeerLeft | DisconnectCause::Unwanted
            ) {
                // The peer is there, and sees an orderly end. What is in the connection's buffers is still to arrive: it ends
                // the call when it has it all.
                self.endpoint.node().spawn(hang_up(self.endpoint.clone(), link));
            }
        }
        // Not the one that serves: the client may have opened another one by now.
        for call in self.endpoint.client_calls.take_given_up(about.era) {
            call.end(cause);
            give_up_touches(&self.endpoint);
        }
    }

    fn terminated(&mut self, reason: &TerminatedReason, about: &About) {
        let endpoint = &self.endpoint;
        let node = endpoint.node();
        let dead = reason.dead_letter_reason();
        let mut is_owed = false;
        for message in endpoint.mailbox.drain_system_before(about.mark) {
            is_owed |= matches!(message, RemoteSystem::Terminated { .. });
            contained(|| endpoint.dead_system(&message, dead));
        }
        let why = match dead {
            DeadLetterReason::Blocked => AskError::Blocked,
            DeadLetterReason::Shutdown => AskError::Shutdown,
            _ => AskError::Unreachable,
        };
        endpoint.forget_form();
        node.asks.fail_before(endpoint.address(), about.era, &why);
        endpoint.watcher.process_gone(about.era);
        // Forgotten before, it may have a successor, and all that goes by the address is that one's.
        if !node.has_another(endpoint) {
            let address = endpoint.address().clone();
            // Read before: a call that is not counted below has a higher number, and so has one that came since.
            let before = about.before;
            let is_final = matches!(reason, TerminatedReason::Blocked | TerminatedReason::Shutdown);
            if is_final || endpoint.inbound.load(Ordering::Acquire) == 0 {
                node.tell_watcher(PeerWatch::Gone { address, before });
            } else if endpoint.kind() == EndpointKind::Dialled {
                // It talks to us and would wait for terminations that cannot be told. A goodbye tells its watchers, and the
                // next message opens another call. The watches go with the calls. That of a termination which nobody will tell
                // is gone by now.
                if is_owed {
                    end_calls(node, &address);
                }
                node.tell_watcher(PeerWatch::Unheard { endpoint: endpoint.clone() });
            }
            log::terminated(endpoint, reason);
            endpoint.hide_statistics();
            node.system.event_stream().publish_with(|| EndpointTerminatedEvent {
                address: endpoint.address().clone(),
                reason: Arc::from(reason.to_string()),
                statistics: endpoint.statistics().snapshot(),
            });
        }
        endpoint.mailbox.shrink();
        endpoint.want_if_waiting();
    }

    fn hear(&mut self, message: Result<Option<Bytes>, tonic::Status>) {
        // It may have been lost before, by what others said of the peer: its end is none of the next one's.
        let (endpoint, era) = (&self.endpoint, self.link_era);
        let lost = |cause| {
            endpoint.apply(|state, now| {
                if endpoint.era() == era {
                    state.handle_disconnected(now, cause);
                }
            });
        };
        let bytes = match message {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return lost(DisconnectCause::Stream(Arc::from("the peer ended the call"))),
            Err(status) => return lost(DisconnectCause::Stream(Arc::from(describe(&status)))),
        };
        match batch::decode(bytes, &self.endpoint.node().limits) {
            Ok(Incoming::Disconnect) => lost(DisconnectCause::PeerLeft),
            Ok(Incoming::ConnectResponse(response)) if response.blocked => {
                let by = self.link.as_ref().map_or(u64::MAX, |link| link.control.number());
                endpoint.apply(|state, now| {
                    if endpoint.era() == era {
                        endpoint.refused(state, now, by);
                    }
                });
            }
            Ok(Incoming::Acknowledge(messages)) => {
                if let Some(link) = &self.link {
                    link.control.acknowledged(messages);
                }
                self.endpoint.heard();
            }
            Ok(Incoming::Batch(batch)) => {
                self.endpoint.heard();
                if let Some(Link { inbound: Some(inbound), control, pause_until, .. }) = &mut self.link {
                    inbound.batch(&batch);
                    *pause_until = inbound.take_pause();
                    if self.endpoint.is_nexus.load(Ordering::Acquire) {
                        control.acknowledge(inbound.taken());
                    }
                } else {
                    // Nobody sends batches this way to a node that listens.
                    let what = "a batch down a call that this node opened";
                    log::unexpected(&self.endpoint.source(), self.endpoint.address(), what);
                    Inbound::new(self.endpoint.node(), &self.endpoint, false).astray(&batch, what);
                }
            }
            Ok(Incoming::ConnectResponse(_) | Incoming::ConnectRequest(_) | Incoming::Empty) => {}
            Err(fault) => lost(DisconnectCause::Stream(Arc::from(fault.to_string()))),
        }
    }

    fn throttled(&self, change: crate::endpoint_writer_mailbox::ThrottleChange) {
        backpressure_events::publish(&self.endpoint, change);
        self.endpoint.apply(|state, now| state.handle_throttled(now, change.level));
    }
}

/// Waits until the peer has ended a call on which there is nothing more to come from here, counts what may not have arrived,
/// and closes the connection.
async fn hang_up(endpoint: Arc<Endpoint>, mut link: Link) {
    let ended = async {
        while let Ok(Some(bytes)) = link.responses.message().await {
            if let Ok(Incoming::Acknowledge(messages)) = batch::decode(bytes, &endpoint.node().limits) {
                link.control.acknowledged(messages);
            }
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(endpoint.node().config.get_shutdown_flush(), ended) => {}
        _ = endpoint.node().was_cut() => {}
    }
}

/// A status in words, with its causes where it was made on this side.
fn describe(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    append_causes(&mut text, std::error::Error::source(status));
    let text: String = text.chars().take(512).flat_map(char::escape_debug).collect();
    format!("status {:?}: {text}", status.code())
}

/// Waits for the turn of attempt `number` to dial. Its time runs when it has come.
async fn turn_of(endpoint: &Arc<Endpoint>, number: u64) -> Option<dials::Place> {
    let dials = &endpoint.node().dials;
    let mut place = std::pin::pin!(dials.place(endpoint.address(), || endpoint.brought_up_by()));
    tokio::select! {
        biased;
        place = &mut place => return place,
        () = std::future::ready(()) => {}
    }
    endpoint.apply(|state, _| state.handle_turn_awaited(number));
    let place = place.await;
    endpoint.apply(|state, now| state.handle_dialling(now, number));
    place
}

/// Makes attempt `number`: dials, opens the call, shakes hands, and finds out which form of the wire the peer speaks.
async fn connect(endpoint: Arc<Endpoint>, number: u64) -> Result<Box<Made>, ConnectFault> {
    let node = endpoint.node().clone();
    let address = endpoint.address().clone();
    if !node.block_list.permits_dial(&address) {
        return Err(ConnectFault::Blocked);
    }
    let failed = |why: String| ConnectFault::Failed(why);
    // Until it is known whether somebody answers: who takes the connection and says nothing has a descriptor all the same.
    let place = turn_of(&endpoint, number).await;
    let overdue = async {
        match &place {
            Some(place) => place.is_overdue().await,
            None => std::future::pending().await,
        }
    };
    let reached = async {
        let (channel, connection) = dial(&node, &address).await.map_err(failed)?;
        let config = node.config.clone();
        let service = InterceptedService::new(channel, move |request| config.intercept_call(request));
        let mut client = RemotingClient::new(service, node.limits.message_bytes);

        let control = Arc::new(OutboundControl::new(node.next_call()));
        control.push(connect_request(&node).encode_to_vec());
        let outbound = Outbound::new(endpoint.clone(), control.clone());
        let owner = CallOwner::of(&endpoint, &control);
        let handshake = async {
            let mut responses =
                client.receive(outbound).await.map_err(|s| failed(describe(&s)))?.into_inner();
            let first = responses.message().await.map_err(|s| failed(describe(&s)))?;
            let Some(first) = first else {
                return Err(failed("the peer ended the call instead of answering".to_owned()));
            };
            match batch::decode(first, &node.limits) {
                Ok(Incoming::ConnectResponse(response)) => Ok((responses, response)),
                Ok(Incoming::Disconnect) => Err(failed("the peer is shutting down".to_owned())),
                Ok(other) => Err(failed(format!("invalid connect response: {}", kind_of(&other)))),
                Err(fault) => Err(failed(format!("invalid connect response: {fault}"))),
            }
        };
        let (responses, response) = tokio::time::timeout(node.config.get_handshake_timeout(), handshake)
            .await
            .map_err(|_| failed("no connect response in time".to_owned()))
            .and_then(|done| done)?;
        Ok((connection, control, owner, responses, response))
    };
    let (connection, control, owner, responses, response) = tokio::select! {
        biased;
        reached = reached => reached?,
        () = overdue => return Err(failed("no answer while others wait to be dialled".to_owned())),
    };
    drop(place);
    if !node.block_list.permits(&response.member_id, Some(&address)) {
        return Err(ConnectFault::Blocked);
    }
    if response.blocked {
        return Err(ConnectFault::Refused(control.number()));
    }
    let is_nexus = response.nexus.is_some();
    if is_nexus {
        control.expect_confirmations();
    }
    if endpoint.read(|state| state.system_id().is_some_and(|before| **before != *response.member_id)) {
        // Another process, perhaps of the other generation.
        endpoint.forget_form();
    }
    let form = form_of(&endpoint, &control, is_nexus).await;
    let inbound = node.is_client.then(|| Inbound::new(&node, &endpoint, false).dialled());
    let link =
        Link { responses, control, form, inbound, pause_until: None, _owner: owner, _connection: connection };
    Ok(Box::new(Made { link, system_id: Arc::from(response.member_id), is_nexus }))
}

/// A channel to `address`, on which nothing has been said, and what keeps its connection.
async fn dial(node: &Node, address: &str) -> Result<(tonic::transport::Channel, Connection), String> {
    let config = &node.config;
    let (executor, task) = ConnectionTask::new();
    // Owned from the start: an attempt that is dropped half-way leaves no socket, and so no call.
    let connection = Connection(tokio::spawn(task).abort_handle());
    let is_encrypted = config.get_client_tls().is_some() || config.get_mutual_tls().is_some();
    let scheme = if is_encrypted { "https" } else { "http" };
    let mut dial = Dial::from_shared(format!("{scheme}://{address}"))
        .map_err(|error| format!("{address:?} is no address: {error}"))?
        .connect_timeout(config.get_connect_timeout())
        .executor(executor)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE))
        .tcp_keepalive_interval(Some(KEEPALIVE))
        .tcp_keepalive_retries(Some(KEEPALIVE_PROBES))
        .http2_adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if let Some(tls) = config.get_client_tls() {
        dial = dial.tls_config(tls.clone()).map_err(|error| chain(&error))?;
    }
    if let Some(tls) = config.get_mutual_tls() {
        dial = tls.dial(dial)?;
    }
    let dial = config.dial(dial);
    let connecting = async {
        #[cfg(test)]
        if let Some(connector) = node.connector.get() {
            return dial.connect_with_connector(connector.clone()).await;
        }
        dial.connect().await
    };
    match tokio::time::timeout(config.get_connect_timeout(), connecting).await {
        Ok(channel) => Ok((channel.map_err(|error| chain(&error))?, connection)),
        Err(_) => Err("no connection in time".to_owned()),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    append_causes(&mut text, error.source());
    text
}

/// Appends `cause` and what lies behind it, each unless the text says it: some errors print their cause themselves.
fn append_causes(text: &mut String, mut cause: Option<&(dyn std::error::Error + 'static)>) {
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text.push_str(": ");
            text.push_str(&why);
        }
        cause = error.source();
    }
}

fn kind_of(incoming: &Incoming) -> &'static str {
    match incoming {
        Incoming::Batch(_) => "a batch",
        Incoming::ConnectRequest(_) => "a connect request",
        Incoming::ConnectResponse(_) => "a connect response",
        Incoming::Disconnect => "a disconnect request",
        Incoming::Acknowledge(_) => "an acknowledgement",
        Incoming::Empty => "an empty message",
    }
}

fn connect_request(node: &Node) -> RemoteMessage {
    let member_id = node.system_id.to_string();
    let connection = if node.is_client {
        ConnectionType::ClientConnection(ClientConnection { member_id, nexus: Some(NEXUS) })
    } else {
        ConnectionType::ServerConnection(ServerConnection {
            member_id,
            address: node.address.to_string(),
            block_list: node.block_list.list().into_iter().take(node.limits.blocked_ids).collect(),
            nexus: Some(NEXUS),
        })
    };
    RemoteMessage {
        message_type: Some(MessageType::ConnectRequest(ConnectRequest { connection_type: Some(connection) })),
    }
}

/// The form of batches that the peer reads: as configured, as our own nodes do, as it has proved to write, as everybody wrote who
/// called in its name, as it shows when it is asked, or as configured for strangers, in this order. Anybody may call in its
/// name: what was written then replaces nothing that is proven, and where there were two answers it is asked itself.
async fn form_of(endpoint: &Arc<Endpoint>, control: &OutboundControl, is_nexus: bool) -> WireForm {
    let (node, address) = (endpoint.node(), endpoint.address());
    if let Some(form) = node.config.get_wire_form(address) {
        return form;
    }
    if is_nexus {
        return WireForm::W2;
    }
    if let Some(form) = endpoint.proven_form() {
        return form;
    }
    if let Some((form, true)) = endpoint.heard_form() {
        return form;
    }
    let otherwise = || endpoint.heard_form().map_or(node.config.get_default_wire_form(), |(form, _)| form);
    let Some(key) = node.asks.insert(Arc::new(FormProbe(endpoint.clone())), address, endpoint.era()) else {
        return otherwise();
    };
    let _question = FormQuestion { asks: &node.asks, key };
    control.push(form_probe(node, endpoint.spelling(), &pending_asks::id_of(key)));
    let learned = async {
        loop {
            let learned = endpoint.form_learned.notified();
            tokio::pin!(learned);
            learned.as_mut().enable();
            if let Some(form) = endpoint.proven_form() {
                return form;
            }
            learned.await;
        }
    };
    tokio::time::timeout(FORM_PROBE, learned).await.unwrap_or_else(|_| otherwise())
}

/// The question for the form, withdrawn when nobody waits for its answer any more: the attempt may be given up meanwhile.
struct FormQuestion<'a> {
    asks: &'a PendingAsks,
    key: ReplyKey,
}

impl Drop for FormQuestion<'_> {
    fn drop(&mut self) {
        drop(self.asks.take(self.key));
    }
}

/// A touch of the peer's activator in the older form. A node of that form answers that it lives. One of the newer form takes
/// the target for an id, which nobody has there, and says so. The other way round the older one would end the call.
fn form_probe(node: &Node, address: Arc<str>, sender: &str) -> Vec<u8> {
    let target = Arc::new(PidEntry::new(address, ACTIVATOR));
    let sender = Arc::new(PidEntry::new(node.address.clone(), sender));
    let mut writer = BatchWriter::new(node.limits);
    let mut envelope = OutgoingEnvelope::new(TOUCH, &[], &target);
    envelope.sender = Some(&sender);
    let mut message = Vec::new();
    if writer.push(&envelope).is_ok() {
        writer.finish(WireForm::W1, &mut message);
    }
    message
}

struct FormProbe(Arc<Endpoint>);

impl PendingReply for FormProbe {
    fn complete(&self, _: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
    fn complete_named(&self, _: &Named<'_>) -> Result<(), DecodeError> {
        self.0.note_form(WireForm::W1, true);
        Ok(())
    }
    fn fail(&self, error: AskError) {
        if error == AskError::NoSuchActor {
            self.0.note_form(WireForm::W2, true);
        }
    }
    fn pending_at(&self, _: Option<(Arc<dyn Route>, ReplyKey)>) {}
    fn is_over(&self) -> bool {
        false
    }
}

#[cfg(test)]
pub(crate) mod tests;
