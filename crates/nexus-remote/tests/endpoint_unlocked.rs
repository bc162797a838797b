//! User code that runs because of what a peer sent may do anything: no lock of remoting is held.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Wake, Waker};
use std::time::Duration;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::event_stream::EventStreamEvent;
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, ActorRef, ActorSystem, Ask, Context, MailboxConfig, Props, Reply};
use nexus_remote::event::RemotingLifecycleEvent;
use nexus_remote::wire::QuarantineReason;
use nexus_remote::{
    RemotingControl, RemotingControlHandle, RemotingExtension, RemotingExtensionConfig, WithRemoting,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Serialize, Deserialize)]
enum Word {
    Ping(Reply<u64>),
    Keep(Reply<u64>),
    /// Answers what is kept.
    Answer,
    /// Drops what is kept.
    Forget,
    /// Keeps the actor busy for ever.
    Hold,
    Broken(Unreadable),
    Load(Load),
}

#[derive(Serialize)]
struct Unreadable;

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("unreadable"))
    }
}

/// Makes the trial when it is dropped on the node that it came to.
#[derive(Serialize)]
struct Load {
    #[serde(skip)]
    arrived: bool,
}

static ON_DROP: Mutex<Option<Trial>> = Mutex::new(None);

impl<'de> Deserialize<'de> for Load {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self { arrived: true })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let trial = ON_DROP.lock().expect("not poisoned").take_if(|_| self.arrived);
        if let Some(trial) = trial {
            trial.run();
        }
    }
}

impl Message for Word {
    const MANIFEST: &'static str = "unlocked.word@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

#[derive(Default)]
struct Parrot(Vec<Reply<u64>>);

impl Actor for Parrot {
    type Msg = Word;
    async fn receive(&mut self, word: Word, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match word {
            Word::Ping(reply) => reply.send(1),
            Word::Keep(reply) => self.0.push(reply),
            Word::Answer => self.0.drain(..).for_each(|reply| reply.send(2)),
            Word::Forget => self.0.clear(),
            Word::Hold => std::future::pending().await,
            Word::Broken(_) | Word::Load(_) => {}
        }
        Ok(())
    }
}

fn node(runtime: &Runtime, name: &str) -> ActorSystem {
    let _entered = runtime.enter();
    let config = RemotingExtensionConfig::default().with_canonical_host("127.0.0.1").with_canonical_port(0);
    let system = ActorSystem::builder(name).with_remoting(config).build().expect("builds");
    system.register::<Word>().expect("registers");
    system.spawn("parrot", Props::from_fn(Parrot::default)).expect("spawns");
    let narrow = Props::from_fn(Parrot::default).with_mailbox(MailboxConfig::bounded(1));
    system.spawn("narrow", narrow).expect("spawns");
    system
}

/// Sees once whether the manager gets at the receiving side of a peer while user code runs.
#[derive(Clone)]
struct Trial(Arc<Case>);

struct Case {
    remoting: RemotingControlHandle,
    peer: String,
    made: AtomicBool,
    quarantined: Mutex<Receiver<()>>,
    verdict: Mutex<Sender<bool>>,
}

impl Trial {
    /// On `system`, for what it gets from `peer`; with what it will come to.
    fn new(system: &ActorSystem, peer: &ActorSystem) -> (Self, Receiver<bool>) {
        let (tell, quarantined) = channel();
        let quarantine = move |event: &RemotingLifecycleEvent| {
            if matches!(event, RemotingLifecycleEvent::Quarantined { .. }) {
                let _told = tell.send(());
            }
        };
        system.event_stream().subscribe(quarantine).forever();
        let (verdict, wait) = channel();
        let case = Case {
            remoting: system.extension::<RemotingExtension>().expect("extension").handle(),
            peer: peer.address().authority.expect("listens").to_string(),
            made: AtomicBool::new(false),
            quarantined: Mutex::new(quarantined),
            verdict: Mutex::new(verdict),
        };
        (Self(Arc::new(case)), wait)
    }

    /// Quarantines the peer from another thread and waits until the manager has ended the session, for which it
    /// empties the receiving side under that side's lock.
    fn run(&self) {
        let case = &self.0;
        if case.made.swap(true, Ordering::SeqCst) {
            return;
        }
        tokio::task::block_in_place(|| {
            let (remoting, peer) = (case.remoting.clone(), case.peer.clone());
            let by = std::thread::spawn(move || remoting.quarantine(&peer, QuarantineReason::ByOperator));
            let quarantined = case.quarantined.lock().expect("not poisoned");
            let free = quarantined.recv_timeout(Duration::from_secs(10)).is_ok();
            by.join().expect("does not panic");
            let _told = case.verdict.lock().expect("not poisoned").send(free);
        });
    }
}

/// Makes the trial when it is woken.
impl Wake for Case {
    fn wake(self: Arc<Self>) {
        Trial(self).run();
    }
}

/// Keeps `ask` waiting under the waker of `trial`.
fn wait_by(trial: &Trial, ask: Ask<u64>) {
    // Not woken by its deadline.
    let mut ask = Box::pin(ask.timeout(10 * LIMIT));
    let waker = Waker::from(trial.0.clone());
    assert!(ask.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
    std::mem::forget(ask);
}

/// Subscribers, wake-ups of askers and drops of messages that follow from what a peer sent run without a lock.
#[test]
fn what_a_peer_sends_runs_nothing_of_the_user_under_a_lock() {
    type Cause = fn(&ActorSystem, &ActorSystem, ActorRef<Word>) -> Receiver<bool>;
    let causes: [(&str, Cause); 5] = [
        ("a subscriber of dead letters", |a, b, _| {
            let (trial, verdict) = Trial::new(b, a);
            b.event_stream().subscribe(move |_: &DeadLetterEvent| trial.run()).forever();
            let nobody = format!("{}/user/nobody", b.address());
            a.resolve::<Word>(&nobody).expect("resolves").tell(Word::Answer);
            verdict
        }),
        ("a subscriber of serialization failures", |a, b, far| {
            let (trial, verdict) = Trial::new(b, a);
            let failed = move |event: &EventStreamEvent| {
                if matches!(event, EventStreamEvent::Serialization(_)) {
                    trial.run();
                }
            };
            b.event_stream().subscribe(failed).forever();
            far.tell(Word::Broken(Unreadable));
            verdict
        }),
        ("an asker that gets its answer", |a, b, far| {
            let (trial, verdict) = Trial::new(a, b);
            wait_by(&trial, far.ask(Word::Keep));
            far.tell(Word::Answer);
            verdict
        }),
        ("an asker that gets none", |a, b, far| {
            let (trial, verdict) = Trial::new(a, b);
            wait_by(&trial, far.ask(Word::Keep));
            far.tell(Word::Forget);
            verdict
        }),
        ("a message that a full mailbox refuses", |a, b, _| {
            let (trial, verdict) = Trial::new(b, a);
            *ON_DROP.lock().expect("not poisoned") = Some(trial);
            let narrow = a.resolve::<Word>(&format!("{}/user/narrow", b.address())).expect("resolves");
            narrow.tell(Word::Hold);
            // One may still find room, while the actor has not taken up what came before.
            (0..3).for_each(|_| narrow.tell(Word::Load(Load { arrived: false })));
            verdict
        }),
    ];
    for (name, cause) in causes {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
        let runtime = runtime.expect("runtime");
        let (a, b) = (node(&runtime, "a"), node(&runtime, "b"));
        let far: ActorRef<Word> = a.resolve(&format!("{}/user/parrot", b.address())).expect("resolves");
        assert_eq!(runtime.block_on(far.ask(Word::Ping)), Ok(1));
        let verdict = cause(&a, &b, far).recv_timeout(LIMIT);
        assert_eq!(verdict, Ok(true), "{name}: it ran under the lock, or never");
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}
