//! Two nodes in one process, and actors for them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod proxy;
pub mod raw;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nexus_actor_core::lock::Lock;
use nexus_actor_core::serialization::protobuf::{Named, ProtobufCodec, ProtobufForm};
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{
    Actor, ActorError, ActorRef, ActorSystem, Context, Props, Reply, Signal, TerminationReason,
};
use nexus_remote_grpc::{Config, Remote};

/// What everything is waited for at most. Nothing waits this long unless it is broken, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// What an answer and the end of a system are waited for: less than that, so that they say themselves what is missing.
pub const ANSWER: Duration = Duration::from_secs(25);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Answers and keeps what it is told.
#[derive(Debug)]
pub enum Echo {
    Say(String, Reply<String>),
    Note(String),
    Count(i32),
}

impl Message for Echo {
    const MANIFEST: &'static str = "test.echo@1";
    const PROTOBUF: Option<ProtobufCodec<Self>> = Some(ProtobufCodec {
        forms: &[
            ProtobufForm::ask_of::<String>(),
            ProtobufForm::tell_of::<String>(),
            ProtobufForm::tell_of::<i32>(),
        ],
        encode: |message, encoder| match message {
            Self::Say(text, reply) => {
                encoder.reply_protobuf(reply)?;
                encoder.protobuf(text)
            }
            Self::Note(text) => encoder.protobuf(text),
            Self::Count(number) => encoder.protobuf(number),
        },
        decode: |named: &Named<'_>| {
            if named.is::<String>() {
                let text = named.protobuf_or_json()?;
                return Ok(if named.has_sender {
                    Self::Say(text, Reply::protobuf())
                } else {
                    Self::Note(text)
                });
            }
            if named.is::<i32>() {
                return Ok(Self::Count(named.protobuf_or_json()?));
            }
            Err(named.unknown::<Self>())
        },
    });

    fn encode(&self, _: &mut Encoder<'_>) -> Result<(), EncodeError> {
        Err(EncodeError::failed("only on the protobuf wire"))
    }

    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError::failed("only on the protobuf wire"))
    }
}

/// What an [`Echoer`] was told, in order.
#[derive(Clone, Default)]
pub struct Heard(Arc<Lock<Vec<String>>>, Arc<tokio::sync::Notify>);

impl Heard {
    pub fn push(&self, text: String) {
        self.0.lock().push(text);
        self.1.notify_waiters();
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Waits until `is_enough` says so of all that was heard.
    pub async fn until(&self, what: &str, is_enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        within(what, async {
            loop {
                let more = self.1.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                let all = self.all();
                if is_enough(&all) {
                    return all;
                }
                more.await;
            }
        })
        .await
    }
}

pub struct Echoer(pub Heard);

impl Actor for Echoer {
    type Msg = Echo;
    async fn receive(&mut self, message: Echo, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Some(headers) = cx.headers() {
            for (name, value) in headers.iter() {
                self.0.push(format!("{name}={value}"));
            }
        }
        match message {
            Echo::Say(text, reply) => reply.send(format!("re:{text}")),
            Echo::Note(text) => self.0.push(text),
            Echo::Count(number) => self.0.push(number.to_string()),
        }
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Stopping = signal {
            self.0.push("stopping".to_owned());
        }
        Ok(())
    }
}

/// Watches others and keeps who ended and why.
pub struct Watcher(pub Heard);

pub enum Watch {
    Begin(ActorRef<Echo>),
    End(ActorRef<Echo>),
}

impl Actor for Watcher {
    type Msg = Watch;
    async fn receive(&mut self, message: Watch, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match message {
            Watch::Begin(who) => {
                cx.watch(&who);
                self.0.push(format!("watching {}", who.path().name()));
            }
            Watch::End(who) => cx.unwatch(&who),
        }
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Terminated { who, reason } = signal {
            let reason = match reason {
                TerminationReason::Stopped => "stopped".to_owned(),
                TerminationReason::Unreachable => "unreachable".to_owned(),
                TerminationReason::NeverExisted => "never existed".to_owned(),
                other => format!("{other:?}"),
            };
            self.0.push(format!("{} {reason}", who.path().name()));
        }
        Ok(())
    }
}

/// A node with an actor system of its own.
pub struct TestNode {
    pub system: ActorSystem,
    pub remote: Remote,
    pub heard: Heard,
}

impl TestNode {
    pub async fn start(name: &str, config: Config) -> Self {
        let system = system(name);
        let remote = Remote::start(&system, config).await.expect("a node");
        Self::of(system, remote)
    }

    pub async fn start_client(name: &str, config: Config) -> Self {
        let system = system(name);
        let remote = Remote::start_client(&system, config).await.expect("a node");
        Self::of(system, remote)
    }

    fn of(system: ActorSystem, remote: Remote) -> Self {
        let heard = Heard::default();
        let echo = heard.clone();
        system.spawn("echo", Props::from_fn(move || Echoer(echo.clone()))).expect("a free name");
        let spawned = heard.clone();
        assert!(remote.register("echo", Props::from_fn(move || Echoer(spawned.clone()))));
        Self { system, remote, heard }
    }

    /// A reference of this node to an actor at `there`.
    pub fn far(&self, there: &Self, id: &str) -> ActorRef<Echo> {
        self.at(there.remote.address(), id)
    }

    pub fn at(&self, address: &str, id: &str) -> ActorRef<Echo> {
        self.remote.resolve(&nexus_actor_core::pid::Pid::new(address, id)).expect("a pid")
    }

    /// The pid under which this node's actor `id` is known.
    pub fn pid(&self, id: &str) -> nexus_actor_core::pid::Pid {
        nexus_actor_core::pid::Pid::new(self.remote.address(), id)
    }

    pub async fn ask(&self, to: &ActorRef<Echo>, text: &str) -> Result<String, nexus_actor_core::AskError> {
        within("an answer", to.ask(|reply| Echo::Say(text.to_owned(), reply))).await
    }

    pub async fn stop(self) {
        within("shutdown", self.system.shutdown()).await.expect("an orderly end");
    }

    /// Events of one type, from now on.
    pub fn events<E: Clone + Send + Sync + 'static>(&self) -> Events<E> {
        let (sender, events) = tokio::sync::mpsc::unbounded_channel();
        let guard = self.system.event_stream().subscribe(move |event: &E| {
            let _ = sender.send(event.clone());
        });
        Events { events, _guard: guard }
    }
}

/// Events of one type, in their order.
pub struct Events<E> {
    events: tokio::sync::mpsc::UnboundedReceiver<E>,
    _guard: nexus_actor_core::event_stream::Subscription,
}

impl<E> Events<E> {
    pub async fn next(&mut self, what: &str) -> E {
        within(what, self.events.recv()).await.expect("the system lives")
    }

    pub async fn find(&mut self, what: &str, is_it: impl Fn(&E) -> bool) -> E {
        loop {
            let event = self.next(what).await;
            if is_it(&event) {
                return event;
            }
        }
    }

    pub fn try_next(&mut self) -> Option<E> {
        self.events.try_recv().ok()
    }
}

pub fn system(name: &str) -> ActorSystem {
    let system = ActorSystem::builder(name)
        .with_ask_timeout(ANSWER)
        .with_shutdown_timeout(ANSWER)
        .build()
        .expect("a system");
    system.register::<Echo>().expect("registered once");
    system
}

/// Any free port of this host.
pub fn local() -> Config {
    Config::new("127.0.0.1", 0)
}

/// A host that is nobody else's, so that a port of it stays free while nobody listens. Where there is but one address of
/// this host, another test may draw the port meanwhile.
pub fn own_host() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    if !cfg!(target_os = "linux") {
        return "127.0.0.1".to_owned();
    }
    let (process, nth) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!("127.{}.{}.{nth}", 192 + ((process >> 8) & 63), process & 255)
}

/// An address where nobody listens.
pub fn nowhere() -> String {
    let listener = std::net::TcpListener::bind((own_host(), 0)).expect("a port");
    listener.local_addr().expect("bound").to_string()
}
