//! What becomes of a call whose address or id another connection holds.
//!
//! Without a certificate nothing shows which of two is the one it says it is, so the first of them keeps its place while it
//! lives (threat T10). The second waits: the first is asked for a sign of life, and if it is gone, or stays silent, it was
//! the same peer that lost its connection and came back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nexus_actor_core::remote::ReplyKey;
use portable_atomic::Ordering;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client_connection::ClientCall;
use crate::endpoint::Endpoint;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint::signs_of_life::SignOfLife;
use crate::endpoint_state::EndpointState;
use crate::endpoint_writer_mailbox::RemoteSystem;
use crate::inbound::call::End;
use crate::kinds::ACTIVATOR;
use crate::pending_asks;
use crate::wire::proto::remote::ConnectRequest;

/// When this process is so late, its silence is not the holder's.
const LATE: Duration = Duration::from_secs(1);

/// Claims of one address or id that ask its holder at a time.
const QUESTIONS: usize = 4;

/// Who has what is claimed.
#[derive(Clone)]
pub(crate) enum Holder {
    /// A client that only dials out, by this call.
    Client(Arc<ClientCall>),
    /// The node that answered this node's dial.
    Dialled,
}

impl Holder {
    /// Whether it still has it.
    fn holds(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Client(call) => endpoint.client_calls.is_serving(call),
            Self::Dialled => endpoint.read(EndpointState::is_linked),
        }
    }
}

/// What was found out of the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is gone.
    Gone,
    /// It gave a sign of life.
    Lives,
    /// It gave none for as long as it may take.
    Silent,
}

/// A connect request that waits until it is known whether the holder lives.
pub(crate) struct Claim {
    pub(crate) request: ConnectRequest,
    pub(crate) holder: Holder,
    verdict: Pin<Box<dyn Future<Output = Verdict> + Send>>,
}

impl Claim {
    /// Asks `holder` for a sign of life within `patience`.
    pub(crate) fn new(
        request: ConnectRequest,
        endpoint: Arc<Endpoint>,
        holder: Holder,
        patience: Duration,
    ) -> Self {
        let verdict = Box::pin(find_out(endpoint, holder.clone(), patience));
        Self { request, holder, verdict }
    }

    pub(crate) fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        self.verdict.as_mut().poll(cx)
    }
}

async fn find_out(endpoint: Arc<Endpoint>, holder: Holder, patience: Duration) -> Verdict {
    loop {
        let asked_at = endpoint.node().system.now();
        let question = Question::ask(&endpoint);
        let until = Instant::now() + patience;
        let answer = async {
            loop {
                let changed = endpoint.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if !holder.holds(&endpoint) {
                    return Verdict::Gone;
                }
                tokio::select! {
                    biased;
                    () = changed => {}
                    () = question.answered.notified() => return Verdict::Lives,
                }
            }
        };
        if let Ok(verdict) = tokio::time::timeout_at(until, answer).await {
            return verdict;
        }
        // A holder that sends without a break may be long in answering. One that may not be asked is not silent.
        if endpoint.is_suspended() || endpoint.read(EndpointState::heard_at).is_some_and(|at| at > asked_at) {
            return Verdict::Lives;
        }
        if Instant::now() - until < LATE {
            return Verdict::Silent;
        }
    }
}

/// A question for a sign of life, withdrawn when nobody waits for the answer any more.
struct Question {
    endpoint: Arc<Endpoint>,
    key: Option<ReplyKey>,
    answered: Arc<Notify>,
}

impl Question {
    fn ask(endpoint: &Arc<Endpoint>) -> Self {
        let (node, answered) = (endpoint.node(), Arc::new(Notify::new()));
        // Any number of strangers may claim. Who does not ask sees at the end of its wait whether anything was heard.
        let is_one_of_few = endpoint.questions.fetch_add(1, Ordering::AcqRel) < QUESTIONS;
        let told = answered.clone();
        let sign = Arc::new(SignOfLife(move || told.notify_one()));
        let key =
            is_one_of_few.then(|| node.asks.insert_touch(sign, endpoint.address(), endpoint.era())).flatten();
        if let Some(key) = key {
            endpoint.offer_system(RemoteSystem::Touch {
                target: endpoint.pid_at(Arc::from(ACTIVATOR)),
                sender: Arc::new(PidEntry::new(node.address.clone(), pending_asks::id_of(key))),
            });
        }
        Self { endpoint: endpoint.clone(), key, answered }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.endpoint.questions.fetch_sub(1, Ordering::AcqRel);
        if let Some(key) = self.key {
            self.endpoint.node().asks.take(key);
        }
    }
}

/// Whether another node than `system_id` has answered at the address, by a connection that serves.
pub(crate) fn is_of_another(endpoint: &Endpoint, system_id: &str) -> bool {
    endpoint.read(|state| state.is_linked() && state.system_id().is_some_and(|id| **id != *system_id))
}

/// Ends the calls of those who claimed the address, unproven, before `system_id` answered there.
pub(crate) fn answered(endpoint: &Endpoint, system_id: &str) {
    if endpoint.inbound.load(Ordering::Acquire) == 0 {
        return;
    }
    let calls: Vec<_> = endpoint.node().calls.lock().values().cloned().collect();
    for call in calls {
        let is_other =
            |(id, address): (Arc<str>, Arc<str>)| *id != *system_id && address == *endpoint.address();
        if !call.is_proven && call.peer().is_some_and(is_other) {
            call.end(End::Disproved);
        }
    }
}

#[cfg(test)]
mod tests;
