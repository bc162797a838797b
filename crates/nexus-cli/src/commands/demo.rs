//! `nexus-cli demo`: a running account of two nodes that talk, lose each other and find each other again.

use core::fmt;
use core::time::Duration;
use std::io;

use anyhow::{Context as _, anyhow, ensure};
use nexus_actor::path::ActorUid;
use nexus_actor::prelude::*;
use nexus_actor::remote::RemotingExtensionConfig;
use nexus_actor::remote::event::RemotingLifecycleEvent;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::actors::{self, Counter, Echo, Received, Sink, Watch, Watcher};
use crate::args::DemoOptions;
use crate::child::NodeProcess;
use crate::commands::node::Ending;
use crate::console::{self, Style, grouped};
use crate::payload::Payload;

/// More than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) async fn run(options: DemoOptions) -> anyhow::Result<()> {
    let mut ending = Ending::new()?;
    // Whichever way this ends, the other node's process goes with the future that owns it.
    tokio::select! {
        result = demonstrate(options.messages) => result,
        () = ending.wait() => Err(anyhow!("interrupted")),
    }
}

async fn demonstrate(messages: u64) -> anyhow::Result<()> {
    let account = Account::begin();
    let mut pair = Pair::start(&account).await.context("failed at: starting two nodes")?;
    pair.talk(&account).await.context("failed at: tell and ask")?;
    pair.pass_a_reference(&account).await.context("failed at: a reference inside a message")?;
    pair.burst(&account, messages).await.context("failed at: the burst")?;
    let watched = pair.watch(&account).await.context("failed at: the watch")?;
    let sent = pair.kill(&account).await.context("failed at: kill -9 and Terminated")?;
    pair.bury(&account, &watched, sent).await.context("failed at: dead letters")?;
    pair.restart(&account).await.context("failed at: restart and re-association")?;
    pair.end(&account).await.context("failed at: the orderly end")?;
    account.title("done: all of it happened")?;
    Ok(())
}

/// What is told, and when.
struct Account {
    start: Instant,
    style: Style,
}

impl Account {
    fn begin() -> Self {
        Self { start: Instant::now(), style: Style::stdout() }
    }

    fn write(&self, mark: &str, text: fmt::Arguments<'_>) -> io::Result<()> {
        let Style { dim, off, .. } = self.style;
        console::line(format_args!(
            "{dim}{:8.3} s{off}  {mark}{text}{off}",
            self.start.elapsed().as_secs_f64()
        ))
    }

    fn title(&self, text: &str) -> io::Result<()> {
        self.write(self.style.strong, format_args!("{text}"))
    }

    fn say(&self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.write("  ", text)
    }

    fn good(&self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.write(self.style.good, format_args!("  {text}"))
    }

    fn bad(&self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.write(self.style.bad, format_args!("  {text}"))
    }
}

/// A duration with three digits that matter.
struct Took(Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 1e-3 {
            write!(f, "{:.0} us", seconds * 1e6)
        } else if seconds < 1.0 {
            write!(f, "{:.1} ms", seconds * 1e3)
        } else {
            write!(f, "{seconds:.2} s")
        }
    }
}

/// Node a in this process, node b in another.
struct Pair {
    a: ActorSystem,
    b: Option<NodeProcess>,
    /// `host:port` of b, at which it comes back.
    authority: String,
    counter_a: ActorRef<Counter>,
    counter_b: ActorRef<Counter>,
    sink_b: ActorRef<Sink>,
    connected: mpsc::UnboundedReceiver<(Instant, ActorUid)>,
    ended: mpsc::UnboundedReceiver<(nexus_actor::path::ActorPath, TerminationReason)>,
    watcher: ActorRef<Watch>,
    uid_b: ActorUid,
}

const BURST: u64 = 1;
const IN_FLIGHT: u64 = 2;
const IN_FLIGHT_BYTES: usize = 1_024;

impl Pair {
    async fn start(account: &Account) -> anyhow::Result<Self> {
        account.title("two nodes, two processes, TCP on loopback")?;
        let a = ActorSystem::builder("a")
            .with_remoting(RemotingExtensionConfig::default().with_bind("127.0.0.1", 0))
            .build()?;
        actors::start(&a)?;
        account.say(format_args!("node a  process {:<7} {}", std::process::id(), a.address()))?;
        let b = NodeProcess::start("b", "127.0.0.1:0").await?;
        account.say(format_args!("node b  process {:<7} {}", b.id(), b.address()))?;

        let (sender, connected) = mpsc::unbounded_channel();
        a.event_stream()
            .subscribe(move |event: &RemotingLifecycleEvent| {
                if let RemotingLifecycleEvent::Connected { uid, .. } = event {
                    let _ = sender.send((Instant::now(), *uid));
                }
            })
            .forever();
        let (sender, ended) = mpsc::unbounded_channel();
        let watcher = a.spawn("watcher", Watcher::props(sender))?;
        Ok(Self {
            counter_a: a.resolve("/user/counter")?,
            counter_b: a.resolve(&format!("{}/user/counter", b.address()))?,
            sink_b: a.resolve(&format!("{}/user/sink", b.address()))?,
            authority: b.authority().to_string(),
            a,
            b: Some(b),
            connected,
            ended,
            watcher,
            uid_b: ActorUid::ANY,
        })
    }

    async fn talk(&mut self, account: &Account) -> anyhow::Result<()> {
        account.title("typed tell and ask, both ways")?;
        let start = Instant::now();
        self.counter_b.tell(Counter::Add(40));
        self.counter_b.tell(Counter::Add(2));
        let sum = self.counter_b.ask(Counter::Get).await?;
        ensure!(sum == 42, "b's counter says {sum} instead of 42");
        (_, self.uid_b) = self.next_connected().await?;
        account.say(format_args!(
            "a tells b's counter Add(40), Add(2) and asks Get: {sum}  ({}, connecting included)",
            Took(start.elapsed())
        ))?;
        let start = Instant::now();
        let here = self.counter_a.clone();
        let sum = self.counter_b.ask(|reply| Counter::Consult(here, 5, reply)).await?;
        ensure!(sum == 5, "a's counter says {sum} instead of 5");
        account.say(format_args!(
            "b tells a's counter Add(5) and asks Get: {sum}  ({} until a knows that b knows)",
            Took(start.elapsed())
        ))?;
        let echo: ActorRef<Echo> = self.a.resolve(&format!("{}/user/echo", self.address_b()))?;
        let mut trips = Vec::new();
        for _ in 0..200 {
            let start = Instant::now();
            echo.ask(|reply| Echo::Bytes(Payload::pattern(16), reply)).await?;
            trips.push(start.elapsed());
        }
        trips.sort_unstable();
        account.say(format_args!(
            "200 asks, one at a time: median {}, worst {}",
            Took(trips[trips.len() / 2]),
            Took(trips[trips.len() - 1])
        ))?;
        Ok(())
    }

    async fn pass_a_reference(&mut self, account: &Account) -> anyhow::Result<()> {
        account.title("a reference sent inside a message and used on the other node")?;
        let start = Instant::now();
        self.counter_b.tell(Counter::Join(self.counter_a.clone()));
        // b's tell is on its way when b has answered this, and arrives before the answer to anything later.
        self.counter_b.ask(Counter::Get).await?;
        let sum = timeout(PATIENCE, async {
            loop {
                let sum = self.counter_a.ask(Counter::Get).await?;
                if sum == 47 {
                    return Ok::<_, AskError>(sum);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .map_err(|_| anyhow!("b did not use the reference"))??;
        account.say(format_args!("a sends Join({}) to b's counter", self.counter_a))?;
        account.good(format_args!(
            "b told that reference its sum: a's counter went from 5 to {sum}  ({})",
            Took(start.elapsed())
        ))?;
        Ok(())
    }

    async fn burst(&mut self, account: &Account, messages: u64) -> anyhow::Result<()> {
        account.title(&format!("a burst of {} messages, 16 bytes each", grouped(messages)))?;
        let sink = self.sink_b.clone();
        let start = Instant::now();
        // A task of its own: this one may run on a thread that is no worker.
        let sent = tokio::spawn(async move {
            for _ in 0..messages {
                sink.send(Sink::Put { run: BURST, payload: Payload::pattern(16) }).await?;
            }
            anyhow::Ok(start.elapsed())
        })
        .await??;
        let received = self.received(BURST).await?;
        let all = start.elapsed();
        let lost = messages - received.messages.min(messages);
        account.say(format_args!("all sent after {}", Took(sent)))?;
        let rate = (messages as f64 / all.as_secs_f64()) as u64;
        let text = format!(
            "b confirms {} of {} after {}: {} messages/s, {lost} lost",
            grouped(received.messages),
            grouped(messages),
            Took(all),
            grouped(rate),
        );
        if received.messages == messages {
            account.good(format_args!("{text}"))?;
        } else {
            account.bad(format_args!("{text}"))?;
        }
        ensure!(received.messages == messages, "{} arrived of {messages}", received.messages);
        Ok(())
    }

    async fn watch(&mut self, account: &Account) -> anyhow::Result<ActorRef<Sink>> {
        account.title("a watch, then kill -9")?;
        let path = format!("{}/user/sink", self.address_b());
        let start = Instant::now();
        let sink: ActorRef<Sink> = self.a.lookup(&path).await?;
        account.say(format_args!("a looks up {sink}  ({})", Took(start.elapsed())))?;
        self.watcher.tell(Watch(sink.to_any()));
        account.say(format_args!("a's watcher watches it"))?;
        Ok(sink)
    }

    /// Returns how many messages were accepted around the kill.
    async fn kill(&mut self, account: &Account) -> anyhow::Result<u64> {
        let b = self.b.take().ok_or_else(|| anyhow!("b does not run"))?;
        // Faster than b takes them: at its end some have been handed to the connection and not acknowledged.
        let (sink, (stop, mut stopped)) = (self.sink_b.clone(), tokio::sync::oneshot::channel::<()>());
        let payload = Payload::pattern(IN_FLIGHT_BYTES);
        let flood = tokio::spawn(async move {
            let mut sent = 0_u64;
            while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                for _ in 0..256 {
                    let message = Sink::Put { run: IN_FLIGHT, payload: payload.clone() };
                    sent += u64::from(sink.try_tell(message).is_ok());
                }
                tokio::task::yield_now().await;
            }
            sent
        });
        while self.received(IN_FLIGHT).await?.messages == 0 {}
        let (process, killed) = (b.id(), Instant::now());
        let gone = b.kill().await;
        let _ = stop.send(());
        let sent = flood.await?;
        gone?;
        account.bad(format_args!("kill -9 of process {process}, {} messages under way", grouped(sent)))?;
        let (who, reason) = timeout(PATIENCE, self.ended.recv())
            .await
            .map_err(|_| anyhow!("no Terminated within {PATIENCE:?}"))?
            .ok_or_else(|| anyhow!("the watcher ended"))?;
        account.good(format_args!(
            "Terminated {{ {who}, {reason} }}  ({} after the kill)",
            Took(killed.elapsed())
        ))?;
        ensure!(
            matches!(reason, TerminationReason::Unreachable),
            "the reason is `{reason}` instead of `unreachable`"
        );
        Ok(sent)
    }

    async fn bury(&mut self, account: &Account, dead: &ActorRef<Sink>, sent: u64) -> anyhow::Result<()> {
        account.title("what was lost is known")?;
        let before = self.a.dead_letters().total();
        for _ in 0..3 {
            dead.tell(Sink::Put { run: IN_FLIGHT, payload: Payload::pattern(16) });
        }
        account.say(format_args!("a tells the dead incarnation three more messages"))?;
        let total = timeout(PATIENCE, async {
            loop {
                let total = self.a.dead_letters().total();
                if total >= before + 3 {
                    return total;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .map_err(|_| anyhow!("three messages to a dead actor left no dead letters"))?;
        account.say(format_args!("{} dead letters:", grouped(total)))?;
        for (reason, count) in self.a.dead_letters().counts().filter(|(_, count)| *count > 0) {
            account.say(format_args!("  {:>10}  {reason}", grouped(count)))?;
        }
        let confirmed = (sent + 3).saturating_sub(total);
        account.say(format_args!(
            "the other {} had been acknowledged by b before the kill",
            grouped(confirmed)
        ))?;
        Ok(())
    }

    async fn restart(&mut self, account: &Account) -> anyhow::Result<()> {
        account.title("b comes back at the same port")?;
        let b = NodeProcess::start("b", &self.authority).await?;
        let listening = Instant::now();
        account.say(format_args!("node b  process {:<7} {}", b.id(), b.address()))?;
        self.b = Some(b);
        let (mut tries, old) = (0, self.uid_b);
        let sum = timeout(PATIENCE, async {
            loop {
                tries += 1;
                match self.counter_b.ask(Counter::Get).timeout(Duration::from_secs(1)).await {
                    Ok(sum) => return sum,
                    // Refused at once while the old incarnation's quarantine stands.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await
        .map_err(|_| anyhow!("no answer from the restarted node within {PATIENCE:?}"))?;
        let answered = listening.elapsed();
        let (at, uid) = self.next_connected().await?;
        ensure!(uid != old, "a is connected with the incarnation that was killed");
        self.uid_b = uid;
        account.good(format_args!(
            "re-associated {} after it listens, new incarnation {uid} (was {old})",
            Took(at.saturating_duration_since(listening))
        ))?;
        account.good(format_args!(
            "the same reference, resolved by name before, reaches the new counter: {sum}  ({} after it listens, try {tries})",
            Took(answered)
        ))?;
        ensure!(sum == 0, "the new counter says {sum} instead of 0");
        Ok(())
    }

    async fn end(&mut self, account: &Account) -> anyhow::Result<()> {
        account.title("both shut down in order")?;
        let b = self.b.take().ok_or_else(|| anyhow!("b does not run"))?;
        let start = Instant::now();
        self.a.shutdown().await?;
        b.end(PATIENCE).await?;
        account.say(format_args!("node a and node b have ended  ({})", Took(start.elapsed())))?;
        Ok(())
    }

    /// The address of b, the same before and after its restart.
    fn address_b(&self) -> String {
        self.counter_b.path().address().to_string()
    }

    async fn received(&self, run: u64) -> Result<Received, AskError> {
        loop {
            match self.sink_b.ask(|reply| Sink::Count { run, reply }).timeout(PATIENCE).await {
                // The lane is full of what is to be counted.
                Err(AskError::Full) => tokio::time::sleep(Duration::from_millis(1)).await,
                answer => return answer,
            }
        }
    }

    async fn next_connected(&mut self) -> anyhow::Result<(Instant, ActorUid)> {
        timeout(PATIENCE, self.connected.recv())
            .await
            .map_err(|_| anyhow!("no connection within {PATIENCE:?}"))?
            .ok_or_else(|| anyhow!("the event stream ended"))
    }
}
