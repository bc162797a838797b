//! What may be spawned here by name, and the actor that does it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use nexus_actor_core::lock::Lock;
use nexus_actor_core::{Actor, ActorError, ActorRef, AnyRef, Context, Props, Signal, SpawnError};

use crate::config::Limits;
use crate::status::ResponseStatusCode;

/// The id of the actor that spawns for others, the same on every node of this lineage.
pub const ACTIVATOR: &str = "activator";

type Spawn = dyn Fn(&mut Context<'_, Activator>, &str) -> Result<AnyRef, SpawnError> + Send + Sync;

/// The kinds of actor that other nodes may spawn here. Registering one is the consent.
#[derive(Default)]
pub(crate) struct Kinds(Lock<HashMap<Arc<str>, Arc<Spawn>>>);

impl Kinds {
    /// Lets peers spawn `kind`; false when there is one of that name already, which stays.
    pub(crate) fn register<A: Actor>(&self, kind: &str, props: Props<A>) -> bool {
        let mut kinds = self.0.lock();
        if kinds.contains_key(kind) {
            return false;
        }
        let props = props.shared();
        let spawn = move |cx: &mut Context<'_, Activator>, name: &str| {
            cx.spawn(name, props.props()).map(|actor| actor.to_any())
        };
        kinds.insert(Arc::from(kind), Arc::new(spawn));
        true
    }

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.0.lock().keys().cloned().collect();
        names.sort();
        names
    }

    fn get(&self, kind: &str) -> Option<Arc<Spawn>> {
        self.0.lock().get(kind).cloned()
    }
}

/// A request to spawn, and who wants to know what came of it.
pub(crate) struct SpawnRequest {
    pub(crate) kind: String,
    /// Empty to have one made.
    pub(crate) name: String,
    /// Who asks: its address or id.
    pub(crate) peer: Arc<str>,
    pub(crate) answer: Box<dyn FnOnce(Spawned) + Send>,
}

/// What came of a [`SpawnRequest`].
pub(crate) struct Spawned {
    pub(crate) status: ResponseStatusCode,
    /// The actor, also when it had lived before.
    pub(crate) actor: Option<AnyRef>,
}

/// The actor `/user/activator`: parent of all that peers have spawned here.
pub(crate) struct Activator {
    kinds: Arc<Kinds>,
    limits: Limits,
    turn: Turn,
    /// Who had which actor spawned.
    owners: HashMap<AnyRef, Arc<str>>,
    quotas: Quotas,
    generated: u64,
}

/// How much each peer has spawned.
#[derive(Default)]
struct Quotas {
    of: HashMap<Arc<str>, Quota>,
    /// Of the last request.
    second: u64,
}

#[derive(Default)]
struct Quota {
    alive: usize,
    /// Asked for in the second at hand.
    asked: u32,
}

impl Quotas {
    /// Counts a request of `peer`; whether it may be met.
    fn admit(&mut self, peer: &Arc<str>, second: u64, limits: &Limits) -> bool {
        if self.second != second {
            self.second = second;
            // Who has nothing alive is remembered for what it asks in one second, and no longer.
            self.of.retain(|_, quota| {
                quota.asked = 0;
                quota.alive > 0
            });
        }
        let quota = self.of.entry(peer.clone()).or_default();
        quota.asked = quota.asked.saturating_add(1);
        quota.alive < limits.spawned && quota.asked <= limits.spawns_per_second
    }

    fn spawned(&mut self, peer: &Arc<str>) {
        if let Some(quota) = self.of.get_mut(peer) {
            quota.alive += 1;
        }
    }

    fn terminated(&mut self, peer: &Arc<str>) {
        if let Some(quota) = self.of.get_mut(peer) {
            quota.alive -= 1;
        }
    }
}

/// Whether `peer` had `actor` spawned.
pub(crate) struct OwnerRequest {
    pub(crate) actor: AnyRef,
    pub(crate) peer: Arc<str>,
    /// Run when it has.
    pub(crate) owned: Box<dyn FnOnce(bool) + Send>,
}

pub(crate) enum ActivatorMessage {
    Spawn(SpawnRequest),
    Owner(OwnerRequest),
}

impl Activator {
    pub(crate) fn props(kinds: &Arc<Kinds>, limits: Limits, batch_size: usize) -> Props<Self> {
        let kinds = kinds.clone();
        Props::from_fn(move || Self {
            kinds: kinds.clone(),
            limits,
            turn: Turn::new(batch_size),
            owners: HashMap::new(),
            quotas: Quotas::default(),
            generated: 0,
        })
    }

    fn spawn(&mut self, request: &SpawnRequest, cx: &mut Context<'_, Self>) -> Spawned {
        let failed = |status| Spawned { status, actor: None };
        let Some(spawn) = self.kinds.get(&request.kind) else { return failed(ResponseStatusCode::Error) };
        let second = cx.now().as_nanos() / 1_000_000_000;
        if !self.quotas.admit(&request.peer, second, &self.limits) {
            return failed(ResponseStatusCode::Unavailable);
        }
        let name = if request.name.is_empty() {
            self.generated += 1;
            format!("Remote$${}", base64_number(self.generated))
        } else {
            format!("Remote${}", request.name)
        };
        match spawn(cx, &name) {
            Ok(actor) => {
                cx.watch_any(&actor);
                self.quotas.spawned(&request.peer);
                self.owners.insert(actor.clone(), request.peer.clone());
                Spawned { status: ResponseStatusCode::Ok, actor: Some(actor) }
            }
            Err(SpawnError::NameTaken { .. }) => {
                Spawned { status: ResponseStatusCode::ProcessNameAlreadyExist, actor: cx.child(&name) }
            }
            Err(_) => failed(ResponseStatusCode::Error),
        }
    }
}

impl Actor for Activator {
    type Msg = ActivatorMessage;

    async fn receive(&mut self, msg: ActivatorMessage, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match msg {
            ActivatorMessage::Spawn(request) => {
                let spawned = self.spawn(&request, cx);
                (request.answer)(spawned);
            }
            ActivatorMessage::Owner(OwnerRequest { actor, peer, owned }) => {
                owned(self.owners.get(&actor) == Some(&peer));
            }
        }
        self.turn.took_one().await;
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Terminated { who, .. } = signal
            && let Some(peer) = self.owners.remove(&who)
        {
            self.quotas.terminated(&peer);
        }
        Ok(())
    }
}

/// Counts the commands that an actor of the runtime works off, so that others get their turn after so many.
pub(crate) struct Turn {
    size: usize,
    taken: usize,
}

impl Turn {
    pub(crate) const fn new(size: usize) -> Self {
        Self { size, taken: 0 }
    }

    /// Notes one more; after the last of a turn, waits for the next one.
    pub(crate) async fn took_one(&mut self) {
        self.taken += 1;
        if self.taken >= self.size {
            self.taken = 0;
            let mut yielded = false;
            poll_fn(|cx| {
                if yielded {
                    return Poll::Ready(());
                }
                yielded = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }
}

pub(crate) type ActivatorRef = ActorRef<ActivatorMessage>;

/// A number as Go nodes write those of generated names: base 64, most significant digit first.
fn base64_number(mut number: u64) -> String {
    const DIGITS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ~+";
    let mut digits = Vec::new();
    loop {
        digits.push(char::from(DIGITS[(number % 64) as usize]));
        number /= 64;
        if number == 0 {
            break;
        }
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: T33
    #[test]
    fn quotas_count_what_lives_and_what_a_second_brought() {
        let mut limits = Limits::new();
        (limits.spawned, limits.spawns_per_second) = (2, 3);
        let mut quotas = Quotas::default();
        let (a, b): (Arc<str>, Arc<str>) = (Arc::from("a:1"), Arc::from("b:1"));
        // What ends at once has been spawned all the same.
        for _ in 0..3 {
            assert!(quotas.admit(&a, 7, &limits));
            quotas.spawned(&a);
            quotas.terminated(&a);
        }
        assert!(!quotas.admit(&a, 7, &limits), "one more in a second than may be");
        assert!(quotas.admit(&b, 7, &limits), "others have their own");
        for _ in 0..2 {
            assert!(quotas.admit(&a, 8, &limits));
            quotas.spawned(&a);
        }
        assert!(!quotas.admit(&a, 8, &limits), "one more alive than may be");
        quotas.terminated(&a);
        assert!(quotas.admit(&a, 9, &limits));
        // Nothing is kept of peers that have nothing here.
        for number in 0..1_000 {
            quotas.admit(&Arc::from(format!("c:{number}")), 9, &limits);
        }
        quotas.admit(&a, 10, &limits);
        assert_eq!(quotas.of.len(), 1);
    }

    #[test]
    fn generated_names_are_numbered_as_go_nodes_number_theirs() {
        for (number, text) in
            [(1, "1"), (10, "a"), (36, "A"), (62, "~"), (63, "+"), (64, "10"), (4096, "100")]
        {
            assert_eq!(base64_number(number), text);
        }
    }
}
