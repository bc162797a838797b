//! One system on a pump, and an actor that does what its messages say and notes what happens to it.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context as TaskContext, Poll, Waker};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::event_stream::Subscription;
use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::*;

/// What happened, in order; every line comes from one actor.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    /// The lines since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    #[track_caller]
    pub(crate) fn expect(&self, lines: &[&str]) {
        assert_eq!(self.take(), lines);
    }
}

pub(crate) type Done = Result<(), ActorError>;
type Act = Box<dyn FnOnce(&mut Lab, &mut Context<'_, Lab>) -> Done + Send>;

/// What a [`Lab`] is told.
pub(crate) enum Do {
    /// Note this.
    Note(String),
    /// Run this.
    Run(Act),
    /// Wait for this, then note the text.
    Wait(Pin<Box<dyn Future<Output = ()> + Send>>, &'static str),
    /// Answer with the number of messages handled by this instance.
    Count(Reply<u64>),
    /// Say why there is no good in this message.
    Fail(&'static str),
    Panic(&'static str),
}

pub(crate) fn note(text: impl ToString) -> Do {
    Do::Note(text.to_string())
}

pub(crate) fn run(act: impl FnOnce(&mut Lab, &mut Context<'_, Lab>) -> Done + Send + 'static) -> Do {
    Do::Run(Box::new(act))
}

pub(crate) fn wait(future: impl Future<Output = ()> + Send + 'static, then: &'static str) -> Do {
    Do::Wait(Box::pin(future), then)
}

/// An actor that does as told. Its log lines are `name: what`.
pub(crate) struct Lab {
    pub(crate) name: String,
    pub(crate) log: Log,
    pub(crate) handled: u64,
    /// Whether it notes `Started` and the end of its life too.
    pub(crate) chatty: bool,
    pub(crate) kept: Vec<Reply<u64>>,
}

impl Lab {
    pub(crate) fn say(&self, text: impl core::fmt::Display) {
        self.log.add(format!("{}: {text}", self.name));
    }
}

impl Actor for Lab {
    type Msg = Do;

    async fn receive(&mut self, message: Do, cx: &mut Context<'_, Self>) -> Done {
        self.handled += 1;
        match message {
            Do::Note(text) => self.say(text),
            Do::Run(act) => return act(self, cx),
            Do::Wait(future, then) => {
                future.await;
                self.say(then);
            }
            Do::Count(reply) => reply.send(self.handled),
            Do::Fail(text) => return Err(text.into()),
            Do::Panic(text) => panic!("{text}"),
        }
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _cx: &mut Context<'_, Self>) -> Done {
        match signal {
            Signal::Terminated { who, reason } => self.say(format!("{} {reason}", who.path().name())),
            Signal::ChildFailed { child, error } => {
                if self.chatty {
                    self.say(format!("child {} failed: {error}", child.path().name()));
                }
            }
            Signal::ReceiveTimeout => self.say("quiet"),
            other => {
                if self.chatty {
                    self.say(format!("{other:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Props of a lab that is silent about its own life.
pub(crate) fn lab(name: &str, log: &Log) -> Props<Lab> {
    make(name, log, false)
}

/// Props of a lab that notes the signals of its own life too.
pub(crate) fn chatty(name: &str, log: &Log) -> Props<Lab> {
    make(name, log, true)
}

fn make(name: &str, log: &Log, chatty: bool) -> Props<Lab> {
    let (name, log) = (name.to_string(), log.clone());
    Props::from_fn(move || Lab { name: name.clone(), log: log.clone(), handled: 0, chatty, kept: Vec::new() })
}

/// A system on virtual time.
pub(crate) struct House {
    pub(crate) pump: PumpRuntime,
    pub(crate) system: ActorSystem,
    pub(crate) log: Log,
    letters: Arc<Mutex<Vec<String>>>,
    _subscription: Subscription,
}

pub(crate) fn house() -> House {
    house_with(|builder| builder)
}

pub(crate) fn house_with(
    change: impl FnOnce(ActorSystemBuilder<guardian::Guardian>) -> ActorSystemBuilder<guardian::Guardian>,
) -> House {
    let pump = PumpRuntime::new();
    let builder = ActorSystem::builder("lab").with_runtime(pump.clone()).with_seed(7);
    let system = change(builder).build().expect("a system is built");
    let letters: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = letters.clone();
    let subscription = system.event_stream().subscribe(move |event: &DeadLetterEvent| {
        let recipient = event.context().recipient.as_ref().map_or("", |path| path.name());
        seen.lock().unwrap().push(format!("{recipient}: {}", event.reason()));
    });
    pump.run_until_idle();
    House { pump, system, log: Log::default(), letters, _subscription: subscription }
}

impl House {
    /// Spawns a silent lab.
    pub(crate) fn lab(&self, name: &str) -> ActorRef<Do> {
        self.spawn(name, lab(name, &self.log))
    }

    pub(crate) fn chatty(&self, name: &str) -> ActorRef<Do> {
        self.spawn(name, chatty(name, &self.log))
    }

    pub(crate) fn spawn<A: Actor>(&self, name: &str, props: Props<A>) -> ActorRef<A::Msg> {
        let actor = self.system.spawn(name, props).expect("the name is free");
        self.idle();
        actor
    }

    pub(crate) fn idle(&self) {
        self.pump.run_until_idle();
    }

    pub(crate) fn advance(&self, millis: u64) {
        self.pump.advance(Duration::from_millis(millis));
    }

    /// Now, in milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.system.now().as_millis()
    }

    /// Runs the future to its end, moving the clock at most an hour.
    #[track_caller]
    pub(crate) fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        self.pump.block_on(Duration::from_secs(3600), future).expect("the future completes")
    }

    /// The dead letters since the last call, as `recipient: reason`.
    pub(crate) fn letters(&self) -> Vec<String> {
        std::mem::take(&mut *self.letters.lock().unwrap())
    }

    /// Tells, runs, and checks what has been noted since.
    #[track_caller]
    pub(crate) fn check(&self, to: &ActorRef<Do>, message: Do, lines: &[&str]) {
        to.tell(message);
        self.idle();
        self.log.expect(lines);
    }
}

/// A gate that futures wait at until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    pub(crate) fn open(&self) {
        let wakers = {
            let mut gate = self.0.lock().unwrap();
            gate.0 = true;
            std::mem::take(&mut gate.1)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    pub(crate) fn passed(&self) -> impl Future<Output = ()> + Send + 'static {
        let gate = self.0.clone();
        core::future::poll_fn(move |cx| {
            let mut gate = gate.lock().unwrap();
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1.push(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// Runs `f` when dropped.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Polls once.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut TaskContext::from_waker(Waker::noop()))
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
