//! A call that a peer opened: its handshake, what it brings, and how it is ended.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dashmap::Entry;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;
use nexus_remote::ClientConnectedEvent;
use portable_atomic::Ordering;
use prost::Message as _;
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::client_connection::{ClientCall, ClientResponseSender};
use crate::endpoint::{Endpoint, EndpointKind, Spelled};
use crate::endpoint_reader::Inbound;
use crate::endpoint_state::EndpointState;
use crate::endpoint_writer::NEXUS;
use crate::endpoint_writer::call_owner::CallOwner;
use crate::endpoint_writer::outbound::{OutMessage, Outbound, OutboundControl};
use crate::inbound::address_claim::{self, Claim, Holder, Verdict};
use crate::inbound::listener::Guard;
use crate::inbound::peer_identity::PeerIdentity;
use crate::inbound::peer_watcher::PeerWatch;
use crate::log::{self, Source};
use crate::node::{Node, client_address, is_client_address};
use crate::wire::batch::{self, Incoming};
use crate::wire::proto::remote::connect_request::ConnectionType;
use crate::wire::proto::remote::remote_message::MessageType;
use crate::wire::proto::remote::{
    Acknowledge, ClientConnection, ConnectRequest, ConnectResponse, DisconnectRequest, RemoteMessage,
    ServerConnection,
};

/// Messages of the call that are read before others get their turn.
const TURN: usize = 32;
/// Envelopes that are delivered before others get theirs: actors cannot take what they do not get to.
const TURN_ENVELOPES: u64 = 4_096;
/// Envelopes that are taken before the peer is told.
const ACKNOWLEDGE_AFTER: u64 = 4_096;
/// How long it takes at most until the peer is told.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_millis(20);
/// How often a peer hears that this node is there while nothing is read from it.
const CROWDED: Duration = Duration::from_secs(1);
/// How long a peer that was told goodbye may take to hang up.
pub(crate) const LINGER: Duration = Duration::from_secs(3);

/// Why a call is ended from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// This node shuts down, or has no more use for it.
    Goodbye,
    /// The peer is blocked.
    Blocked,
    /// A newer call of the same client serves.
    Replaced,
    /// Another node has answered at the address that the peer claimed.
    Disproved,
}

/// What others say to a call.
pub(crate) struct CallControl {
    pub(crate) id: u64,
    /// The peer has shown a certificate.
    pub(crate) is_proven: bool,
    peer: Lock<Option<(Arc<str>, Arc<str>)>>,
    end: Lock<Option<End>>,
    waker: Lock<Option<Waker>>,
}

impl CallControl {
    fn new(id: u64, is_proven: bool) -> Self {
        Self { id, is_proven, peer: Lock::default(), end: Lock::default(), waker: Lock::default() }
    }

    /// Ends the call. Of the reasons given before it acts on one, the first counts; one that comes later counts as well.
    pub(crate) fn end(&self, why: End) {
        self.end.lock().get_or_insert(why);
        self.wake();
    }

    fn wake(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Id and address of the peer, once it has said them.
    pub(crate) fn peer(&self) -> Option<(Arc<str>, Arc<str>)> {
        self.peer.lock().clone()
    }
}

/// Says goodbye on every call of the peer at `address`.
pub(crate) fn end_calls(node: &Node, address: &str) {
    let calls: Vec<_> = node.calls.lock().values().cloned().collect();
    for call in calls {
        if call.peer().is_some_and(|(_, of)| *of == *address) {
            call.end(End::Goodbye);
        }
    }
}

enum Phase {
    /// Nothing but a connect request is taken.
    Waiting,
    Serving,
    /// The peer was told goodbye and may hang up.
    Leaving,
    Ended,
}

/// The messages that go down the call; polling it also takes what comes up, so one task serves a call.
pub(crate) struct InboundCall {
    node: Arc<Node>,
    requests: Streaming<Bytes>,
    identity: PeerIdentity,
    /// The connection it came by.
    guard: Option<Arc<Guard>>,
    /// This call counts there.
    is_introduced: bool,
    control: Arc<CallControl>,
    phase: Phase,
    inbound: Option<Inbound>,
    endpoint: Option<Arc<Endpoint>>,
    /// Of a client: what goes to it goes down this call.
    client: Option<Client>,
    pushed: VecDeque<RemoteMessage>,
    status: Option<Status>,
    /// Another connection has what the peer says is its own: nothing is read until that one is found alive or dead.
    claim: Option<Claim>,
    timer: Pin<Box<Sleep>>,
    timer_armed: bool,
    is_nexus: bool,
    acknowledged: u64,
    /// Nothing is read until then.
    pause: Option<Pin<Box<Sleep>>>,
    /// What it waits for is room in mailboxes, which may come sooner.
    is_crowded: bool,
}

struct Client {
    system_id: Arc<str>,
    outbound: Outbound,
    call: Arc<ClientCall>,
    owner: CallOwner,
}

impl InboundCall {
    pub(crate) fn new(
        node: Arc<Node>,
        requests: Streaming<Bytes>,
        identity: PeerIdentity,
        guard: Option<Arc<Guard>>,
    ) -> Self {
        let control = Arc::new(CallControl::new(node.next_call(), identity.is_authenticated()));
        node.calls.lock().insert(control.id, control.clone());
        if node.is_closing() {
            // The end of the node may have looked for calls before.
            control.end(End::Goodbye);
        }
        let timer = Box::pin(tokio::time::sleep(node.config.get_handshake_timeout()));
        Self {
            node,
            requests,
            identity,
            guard,
            is_introduced: false,
            control,
            phase: Phase::Waiting,
            inbound: None,
            endpoint: None,
            client: None,
            pushed: VecDeque::new(),
            status: None,
            claim: None,
            timer,
            timer_armed: true,
            is_nexus: false,
            acknowledged: 0,
            pause: None,
            is_crowded: false,
        }
    }

    /// Whether nothing is to be read from the peer now: it has sent too fast, or too much of it waits in mailboxes here.
    fn is_held_up(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(endpoint) = self.endpoint.clone() else { return false };
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                if !self.is_crowded || endpoint.intake.poll_room_of(self.control.id, cx).is_pending() {
                    return true;
                }
            } else if self.is_crowded && self.is_nexus {
                // Its probes wait unread with the rest: it hears all the same that this node is there.
                self.acknowledge(self.taken());
            }
            self.pause = None;
        }
        // The answer to a question may be among what is not read.
        self.is_crowded = endpoint.intake.poll_room_of(self.control.id, cx).is_pending()
            && !self.node.asks.waits_for(endpoint.address());
        if self.is_crowded {
            self.hold_up(CROWDED, cx);
        }
        self.pause.is_some()
    }

    fn hold_up(&mut self, wait: Duration, cx: &mut Context<'_>) {
        let mut pause = Box::pin(tokio::time::sleep(wait));
        if pause.as_mut().poll(cx).is_pending() {
            self.pause = Some(pause);
        }
    }

    fn arm(&mut self, after: Duration) {
        self.timer.as_mut().reset(tokio::time::Instant::now() + after);
        self.timer_armed = true;
    }

    fn push(&mut self, message: MessageType) {
        self.pushed.push_back(RemoteMessage { message_type: Some(message) });
    }

    fn fail(&mut self, status: Status) {
        self.status.get_or_insert(status);
    }

    fn ended(&mut self, why: End) {
        match why {
            End::Goodbye | End::Replaced if matches!(self.phase, Phase::Serving) => {
                // Behind the goodbye nothing is confirmed, and the peer would not know what has arrived.
                self.confirm();
                self.push(MessageType::DisconnectRequest(DisconnectRequest {}));
                self.phase = Phase::Leaving;
                self.arm(LINGER);
            }
            End::Goodbye | End::Replaced => self.fail(Status::unavailable("this node is shutting down")),
            End::Disproved => {
                log::refused(&self.source(), self.name(), "", "another node answers at its address");
                self.fail(Status::permission_denied("another node answers at that address"));
            }
            End::Blocked => {
                let response = self.response(true);
                self.push(MessageType::ConnectResponse(response));
                self.fail(Status::permission_denied("blocked"));
            }
        }
    }

    fn response(&self, blocked: bool) -> ConnectResponse {
        ConnectResponse {
            member_id: self.node.system_id.to_string(),
            blocked,
            nexus: self.is_nexus.then_some(NEXUS),
        }
    }

    fn message(&mut self, bytes: Bytes) {
        match batch::decode(bytes, &self.node.limits) {
            Ok(Incoming::Batch(batch)) => {
                let Some(inbound) = &mut self.inbound else {
                    return self.fail(Status::failed_precondition("a batch before the connect request"));
                };
                if matches!(self.phase, Phase::Serving | Phase::Leaving) {
                    inbound.batch(&batch);
                }
                let pause = inbound.take_pause();
                if let Some(endpoint) = &self.endpoint {
                    endpoint.heard();
                }
                if let Some(at) = pause {
                    self.pause = Some(Box::pin(tokio::time::sleep(at - self.node.system.now())));
                    self.is_crowded = false;
                }
                self.took();
            }
            Ok(Incoming::ConnectRequest(request)) => self.connect_request(request, None),
            // A node that opens a call says goodbye by hanging up; these say nothing here.
            Ok(Incoming::Disconnect | Incoming::ConnectResponse(_) | Incoming::Empty) => {}
            Ok(Incoming::Acknowledge(messages)) => {
                if let Some(client) = &self.client {
                    client.outbound.control().acknowledged(messages);
                }
            }
            Err(fault) => {
                log::unexpected(&self.source(), self.name(), "a message that cannot be read");
                self.fail(Status::invalid_argument(fault.to_string()));
            }
        }
    }

    /// For whom its lines in the log count: not who it says it is.
    fn source(&self) -> Source {
        self.guard.as_ref().map_or(Source::Here, |guard| Source::host(guard.ip()))
    }

    fn name(&self) -> &str {
        self.endpoint.as_ref().map_or("unknown", |endpoint| endpoint.address())
    }

    /// Messages taken from the peer by this call.
    fn taken(&self) -> u64 {
        self.inbound.as_ref().map_or(0, Inbound::taken)
    }

    /// Tells a node of ours that so many were taken.
    fn acknowledge(&mut self, messages: u64) {
        self.acknowledged = messages;
        if self.is_nexus {
            self.push(MessageType::Acknowledge(Acknowledge { messages }));
        }
    }

    /// The same of what was taken since it was told last; false when that is nothing.
    fn confirm(&mut self) -> bool {
        let taken = self.taken();
        let is_more = taken > self.acknowledged;
        if is_more {
            self.acknowledge(taken);
        }
        is_more
    }

    /// Messages were taken, of which the peer is told at once when they are many, else a little later.
    fn took(&mut self) {
        if !matches!(self.phase, Phase::Serving) {
            return;
        }
        if self.taken() - self.acknowledged >= ACKNOWLEDGE_AFTER {
            self.confirm();
        }
        if !self.timer_armed {
            self.arm(ACKNOWLEDGE_WITHIN);
        }
    }

    /// Takes the connect request; of the call `silent` it is known that the client has no more use for it.
    fn connect_request(&mut self, request: ConnectRequest, silent: Option<&Arc<ClientCall>>) {
        let taken = match request.connection_type {
            Some(ConnectionType::ServerConnection(server)) => self.server_connection(server),
            Some(ConnectionType::ClientConnection(client)) => self.client_connection(client, silent),
            None => Err(Status::invalid_argument("a connect request of neither kind")),
        };
        if let Err(status) = taken {
            self.fail(status);
        }
    }

    /// Holds the connect request back until it is known whether `holder` lives.
    fn contest(&mut self, endpoint: Arc<Endpoint>, holder: Holder, request: ConnectionType) {
        let request = ConnectRequest { connection_type: Some(request) };
        // Half the time that the peer, with the same settings, waits for its answer.
        let patience = self.node.config.get_handshake_timeout() / 2;
        self.claim = Some(Claim::new(request, endpoint, holder, patience));
    }

    /// Goes on with a connect request that was held back. True when it was decided.
    fn poll_claim(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(claim) = &mut self.claim else { return false };
        let Poll::Ready(verdict) = claim.poll_verdict(cx) else { return false };
        let Some(Claim { request, holder, .. }) = self.claim.take() else { return false };
        match (verdict, &holder) {
            (Verdict::Gone, _) => self.connect_request(request, None),
            (Verdict::Silent, Holder::Client(call)) => self.connect_request(request, Some(call)),
            (Verdict::Lives | Verdict::Silent, _) => {
                let (name, system_id) = match request.connection_type {
                    Some(ConnectionType::ServerConnection(server)) => (server.address, server.member_id),
                    Some(ConnectionType::ClientConnection(client)) => {
                        (client_address(&client.member_id), client.member_id)
                    }
                    None => Default::default(),
                };
                let why = match holder {
                    Holder::Client(_) => "a client of that id is connected, and lives",
                    Holder::Dialled => "another node answers at that address",
                };
                log::refused(&self.source(), &name, &system_id, why);
                self.fail(Status::already_exists(why));
            }
        }
        true
    }

    fn server_connection(&mut self, server: ServerConnection) -> Result<(), Status> {
        let ServerConnection { member_id, address, block_list, nexus } = server;
        self.is_nexus = nexus.is_some();
        let Ok(authority) = address.parse::<Authority>() else {
            let shown: String = address.chars().take(256).flat_map(char::escape_debug).collect();
            return Err(Status::invalid_argument(format!("{shown:?} is not `host:port`")));
        };
        // Its canonical form is what the endpoint goes by.
        if is_client_address(&authority.to_string()) {
            return Err(Status::invalid_argument("an address that only clients have"));
        }
        if !self.identity.may_be(&address) {
            log::refused(&self.source(), &address, &member_id, "its certificate has another name");
            return Err(Status::permission_denied("the certificate is not of that address"));
        }
        self.names(&member_id, &address);
        if !self.node.block_list.permits(&member_id, Some(&address)) {
            return self.refuse_blocked(&address, &member_id);
        }
        let endpoint = self
            .node
            .endpoint_of(&address, EndpointKind::Dialled)
            .map_err(|refusal| Status::resource_exhausted(refusal.to_string()))?;
        endpoint.set_source(self.source());
        // Without a certificate anybody might say it. The node that was dialled there and answers has a better claim.
        if !self.identity.is_authenticated()
            && self.endpoint.is_none()
            && address_claim::is_of_another(&endpoint, &member_id)
        {
            let server = ServerConnection { member_id, address, block_list, nexus };
            self.contest(endpoint, Holder::Dialled, ConnectionType::ServerConnection(server));
            return Ok(());
        }
        let refuses_us =
            block_list.iter().any(|id| **id == *self.node.system_id || **id == *self.node.address);
        // It refuses us, so there is no use in dialling it. A connection that serves is proof enough of the contrary, and
        // without a certificate anybody might say this in its name: a dial is answered then.
        if !refuses_us {
            endpoint.welcome();
        }
        if refuses_us && self.identity.is_authenticated() && !endpoint.read(EndpointState::is_linked) {
            endpoint.apply(|state, now| state.handle_blocked(now));
        } else if !refuses_us && endpoint.read(EndpointState::is_blocked) {
            // Who calls us refuses us no more, if it was that one who did.
            endpoint.apply(|state, _| state.handle_unblocked());
            endpoint.want_if_waiting();
        }
        let is_first = self.endpoint.is_none();
        let endpoint = self.begin(endpoint, Arc::from(member_id))?;
        let who = if self.identity.is_authenticated() { Spelled::Proven } else { Spelled::Called };
        endpoint.spell(&address, who);
        if is_first {
            endpoint.call_begun();
        }
        Ok(())
    }

    fn client_connection(
        &mut self,
        client: ClientConnection,
        silent: Option<&Arc<ClientCall>>,
    ) -> Result<(), Status> {
        let ClientConnection { member_id, nexus } = client;
        self.is_nexus = nexus.is_some();
        if member_id.is_empty() {
            return Err(Status::invalid_argument("a client without an id"));
        }
        let address = client_address(&member_id);
        self.names(&member_id, &address);
        if !self.node.block_list.permits(&member_id, None) {
            return self.refuse_blocked(&address, &member_id);
        }
        let endpoint = self
            .node
            .endpoint_of(&address, EndpointKind::Client)
            .map_err(|refusal| Status::resource_exhausted(refusal.to_string()))?;
        endpoint.set_source(self.source());
        let is_first = self.endpoint.is_none();
        let before = endpoint.client_calls.serving();
        if is_first
            && let Some(before) = &before
            && !before.is_of(&self.identity)
            && !silent.is_some_and(|silent| Arc::ptr_eq(silent, before))
        {
            let client = ClientConnection { member_id, nexus };
            self.contest(endpoint, Holder::Client(before.clone()), ConnectionType::ClientConnection(client));
            return Ok(());
        }
        let system_id: Arc<str> = Arc::from(member_id);
        let endpoint = self.begin(endpoint, system_id.clone())?;
        if !is_first {
            return Ok(());
        }
        let control = OutboundControl::new(self.node.next_call());
        if self.is_nexus {
            control.expect_confirmations();
        }
        let outbound = Outbound::new(endpoint.clone(), Arc::new(control));
        let call = Arc::new(ClientCall::new(
            self.control.clone(),
            outbound.control().clone(),
            self.identity.clone(),
        ));
        if !endpoint.apply_accepted(before.as_ref(), &call, &system_id) {
            return Err(Status::aborted("another call of that client came at the same time"));
        }
        register(&endpoint, &system_id, &call);
        self.node
            .system
            .event_stream()
            .publish_with(|| ClientConnectedEvent { system_id: system_id.clone() });
        let owner = CallOwner::of(&endpoint, outbound.control());
        self.client = Some(Client { system_id, outbound, call, owner });
        Ok(())
    }

    /// Other calls of the connection are of the same peer.
    fn names(&self, system_id: &str, address: &str) {
        if let Some(guard) = &self.guard {
            guard.names(system_id, address);
        }
    }

    fn refuse_blocked(&mut self, address: &str, system_id: &str) -> Result<(), Status> {
        log::refused(&self.source(), address, system_id, "blocked");
        // A Go node does not heed the answer, so the call ends as well.
        let response = self.response(true);
        self.push(MessageType::ConnectResponse(response));
        Err(Status::permission_denied("blocked"))
    }

    /// The peer is who it says: its batches are taken from now on. Returns the endpoint that the table holds as well.
    fn begin(&mut self, endpoint: Arc<Endpoint>, system_id: Arc<str>) -> Result<Arc<Endpoint>, Status> {
        let response = self.response(false);
        if let Some(before) = self.endpoint.clone() {
            if before.address() != endpoint.address() {
                // It may have been made for this request.
                self.node.forget_if_idle(&endpoint);
                return Err(Status::failed_precondition("a second connect request with another address"));
            }
            self.push(MessageType::ConnectResponse(response));
            return Ok(before);
        }
        let limits = self.node.config.get_limits();
        let (endpoint, calls) = self.node.enter_call(endpoint);
        self.endpoint = Some(endpoint.clone());
        if calls > limits.inbound_calls as u64 {
            if !self.identity.is_authenticated() && endpoint.kind() == EndpointKind::Dialled {
                // Anybody may have taken its places in its name: the calls of whoever does not answer there end.
                endpoint.apply(EndpointState::ensure_connected);
            }
            return Err(Status::resource_exhausted("too many calls of this peer"));
        }
        if self.node.inbound_peers.load(Ordering::Acquire) > limits.inbound_peers as u64 {
            return Err(Status::resource_exhausted("too many peers"));
        }
        *self.control.peer.lock() = Some((system_id.clone(), endpoint.address().clone()));
        // Blocked between the look at the list and now, it would have been missed.
        let address = (endpoint.kind() == EndpointKind::Dialled).then_some(&**endpoint.address());
        if !self.node.block_list.permits(&system_id, address) {
            return Err(Status::permission_denied("blocked"));
        }
        // The same of a node that was dialled meanwhile.
        if !self.identity.is_authenticated()
            && address.is_some()
            && address_claim::is_of_another(&endpoint, &system_id)
        {
            return Err(Status::already_exists("another node answers at that address"));
        }
        // A certificate says whose the address is. Nothing ties it to the id of a client.
        let is_proven = self.identity.is_authenticated() && endpoint.kind() == EndpointKind::Dialled;
        self.inbound = Some(Inbound::new(&self.node, &endpoint, is_proven));
        self.push(MessageType::ConnectResponse(response));
        if let Some(guard) = &self.guard {
            guard.introduced();
            self.is_introduced = true;
        }
        self.phase = Phase::Serving;
        self.timer_armed = false;
        Ok(endpoint)
    }

    /// Ends the call as others have said, if they have.
    fn hear_end(&mut self) {
        let end = self.control.end.lock().take();
        if let Some(why) = end {
            self.ended(why);
        }
    }

    /// Does what the timer was set for, when it has come; true then.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.timer_armed || self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer_armed = false;
        self.late();
        true
    }

    /// What goes down the call next: what it has to say itself, then its end, then what waits for a client.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<OutMessage, Status>>> {
        if let Some(message) = self.pushed.pop_front() {
            let mut bytes = BytesMut::with_capacity(message.encoded_len());
            // There is room.
            let _ = message.encode(&mut bytes);
            return Poll::Ready(Some(Ok(OutMessage::from(bytes))));
        }
        if let Some(status) = self.status.take() {
            self.phase = Phase::Ended;
            return Poll::Ready(Some(Err(status)));
        }
        if matches!(self.phase, Phase::Ended) {
            return Poll::Ready(None);
        }
        if let Some(client) = &mut self.client
            && let Poll::Ready(Some(message)) = client.outbound.poll_message(cx)
        {
            return Poll::Ready(Some(Ok(message)));
        }
        Poll::Pending
    }

    /// Takes one message that came up, unless the peer is to wait. Ready when something was done, of which something may have
    /// to be said.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.claim.is_some() {
            return if self.poll_claim(cx) { Poll::Ready(()) } else { Poll::Pending };
        }
        if self.is_held_up(cx) {
            return if self.pushed.is_empty() { Poll::Pending } else { Poll::Ready(()) };
        }
        match ready!(Pin::new(&mut self.requests).poll_next(cx)) {
            Some(Ok(bytes)) => self.message(bytes),
            // A message that is too long, for one. Ended without an error, a Go node would not open the call again.
            Some(Err(status)) => self.fail(status),
            None => {
                // It hangs up in order, and counts what it does not hear of as unknown.
                self.confirm();
                self.phase = Phase::Ended;
            }
        }
        Poll::Ready(())
    }

    /// What the timer was set for.
    fn late(&mut self) {
        match self.phase {
            Phase::Waiting => self.fail(Status::deadline_exceeded("no connect request in time")),
            Phase::Leaving => self.fail(Status::unavailable("this node has said goodbye")),
            Phase::Serving => {
                if self.confirm() {
                    // Once more: then it may have gone quiet.
                    self.arm(ACKNOWLEDGE_WITHIN);
                } else if let Some(inbound) = &mut self.inbound {
                    inbound.release();
                }
            }
            Phase::Ended => {}
        }
    }
}

/// Makes `call` the one that is found by the client's id, unless another serves by now: of two calls that are accepted one after
/// the other, the first may come here last.
fn register(endpoint: &Arc<Endpoint>, system_id: &Arc<str>, call: &Arc<ClientCall>) {
    let sender = ClientResponseSender::new(system_id, endpoint, call);
    // Asked while the entry is held: whoever serves after that registers after that. Nobody who has the lock of the calls
    // takes that of this map.
    match endpoint.node().client_connections.entry(system_id.clone()) {
        _ if !endpoint.client_calls.is_serving(call) => {}
        Entry::Vacant(place) => drop(place.insert(sender)),
        Entry::Occupied(mut place) => {
            let before = place.insert(sender);
            // What hangs on it ends without the lock.
            drop(place);
            drop(before);
        }
    }
}

impl Stream for InboundCall {
    type Item = Result<OutMessage, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        {
            let mut waker = this.control.waker.lock();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        let before = this.taken();
        for _ in 0..TURN {
            if this.taken() - before >= TURN_ENVELOPES {
                break;
            }
            this.hear_end();
            // Not only when nothing comes: a peer that goes on sending has no more time than others.
            if !matches!(this.phase, Phase::Serving) {
                this.poll_timer(cx);
            }
            if let Poll::Ready(item) = this.poll_down(cx) {
                return Poll::Ready(item);
            }
            if this.poll_up(cx).is_pending() && !this.poll_timer(cx) {
                return Poll::Pending;
            }
        }
        // Others first; then on.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for InboundCall {
    fn drop(&mut self) {
        self.node.calls.lock().remove(&self.control.id);
        if let Some(guard) = self.guard.as_ref().filter(|_| self.is_introduced) {
            guard.ended();
        }
        if let Some(client) = self.client.take() {
            let Client { system_id, outbound, call, owner } = client;
            self.node.client_connections.remove_if(&system_id, |_, sender| sender.is_of(&call));
            // What it leaves is recorded before the end is told, with the figures as they are then.
            drop((outbound, owner));
            if let Some(endpoint) = &self.endpoint {
                endpoint.apply_call_ended(&call);
            }
        }
        // Counts what waits, before anybody asks whether something does.
        let has_served = self.inbound.take().is_some();
        if let Some(endpoint) = self.endpoint.take() {
            endpoint.intake.forget(self.control.id);
            if let Some(before) = endpoint.leave_call() {
                // Its watches ended with the call: it tells its watchers so, or watches again by the next one.
                self.node.tell_watcher(PeerWatch::Gone { address: endpoint.address().clone(), before });
            }
            // A client says itself whom it watches; and what goes to it went with the call.
            if has_served && endpoint.kind() == EndpointKind::Dialled {
                endpoint.tell_watches_again();
            }
            self.node.forget_if_idle(&endpoint);
        }
    }
}

#[cfg(test)]
mod tests;
