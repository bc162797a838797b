//! What only real threads can show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::kit::{Done, Log, OnDrop, lab, note, secs};
use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::*;
use tokio::sync::Semaphore;

enum Work {
    From(usize, u64),
    Finish(Reply<Vec<u64>>),
}

/// Checks that each sender's numbers come in order and without a gap.
struct Checker(Vec<u64>);

impl Actor for Checker {
    type Msg = Work;
    async fn receive(&mut self, message: Work, _: &mut Context<'_, Self>) -> Done {
        match message {
            Work::From(sender, number) => {
                assert_eq!(self.0[sender], number, "of sender {sender}");
                self.0[sender] += 1;
            }
            Work::Finish(reply) => reply.send(self.0.clone()),
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_senders_each_keep_their_order() {
    const EACH: u64 = 20_000;
    let system = ActorSystem::builder("threads").build().unwrap();
    for bounded in [false, true] {
        let mut props = Props::from_fn(|| Checker(vec![0; 8]));
        if bounded {
            props = props.with_mailbox(MailboxConfig::bounded(64));
        }
        let actor = system.spawn_anonymous(props).unwrap();
        let senders: Vec<_> = (0..8)
            .map(|sender| {
                let to = actor.clone();
                tokio::spawn(async move {
                    for number in 0..EACH {
                        to.send(Work::From(sender, number)).await.expect("the actor lives");
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        let ask = loop {
            // The bounded one may still be full.
            match actor.ask(Work::Finish).timeout(secs(30)).await {
                Err(AskError::Full) => tokio::task::yield_now().await,
                other => break other,
            }
        };
        assert_eq!(ask, Ok(vec![EACH; 8]), "bounded: {bounded}");
    }
    system.shutdown().await.unwrap();
}

/// Holds a count of the living, and watches whom it is told to.
struct Mortal {
    told: Arc<AtomicU64>,
    _alive: OnDrop<Box<dyn FnMut() + Send>>,
}

enum Fate {
    Watch(AnyRef),
    Fail,
    Panic,
    Spawn,
}

impl Actor for Mortal {
    type Msg = Fate;
    async fn receive(&mut self, message: Fate, cx: &mut Context<'_, Self>) -> Done {
        match message {
            Fate::Watch(who) => cx.watch_any(&who),
            Fate::Fail => return Err("expected".into()),
            Fate::Panic => panic!("expected"),
            Fate::Spawn => {
                cx.spawn_anonymous(Props::from_fn(guardian::Guardian::default))?;
            }
        }
        Ok(())
    }
    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Done {
        if let Signal::Terminated { .. } = signal {
            self.told.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Covers: RT-16
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn births_deaths_watches_and_failures_at_once_leave_nothing_behind() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 400;
    let system = ActorSystem::builder("churn").build().unwrap();
    let (alive, told) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mortal = {
        let (alive, told) = (alive.clone(), told.clone());
        move || {
            let (alive, told) = (alive.clone(), told.clone());
            Props::from_fn(move || {
                alive.fetch_add(1, Ordering::Relaxed);
                let alive = alive.clone();
                let gone = Box::new(move || {
                    alive.fetch_sub(1, Ordering::Relaxed);
                });
                Mortal { told: told.clone(), _alive: OnDrop(gone as Box<dyn FnMut() + Send>) }
            })
        }
    };
    let watcher = system.spawn("watcher", mortal()).unwrap();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (system, mortal, watcher) = (system.clone(), mortal.clone(), watcher.clone());
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    // Two threads meet at a name now and then.
                    let name = format!("m{}", (thread / 2) * ROUNDS + round);
                    let actor = match system.spawn(&name, mortal()) {
                        Ok(actor) => actor,
                        Err(SpawnError::NameTaken { .. }) => system.spawn_anonymous(mortal()).unwrap(),
                        Err(error) => panic!("{error}"),
                    };
                    watcher.tell(Fate::Watch(actor.to_any()));
                    match round % 4 {
                        0 => actor.tell(Fate::Fail),
                        1 => actor.tell(Fate::Panic),
                        2 => actor.tell(Fate::Spawn),
                        _ => {}
                    }
                    if round % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    actor.stop();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.await.unwrap();
    }
    // Every watch is answered, whichever of watch and death came first.
    let all = tokio::time::timeout(secs(30), async {
        while told.load(Ordering::Relaxed) < THREADS * ROUNDS {
            tokio::task::yield_now().await;
        }
    });
    all.await.expect("every watch is answered");
    assert_eq!(told.load(Ordering::Relaxed), THREADS * ROUNDS);
    assert_eq!(system.processes().count(), 4, "the guardians and the watcher");
    system.shutdown().await.unwrap();
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn asks_from_many_tasks_are_each_answered_or_told_why() {
    let system = ActorSystem::builder("asks").with_ask_timeout(secs(30)).build().unwrap();
    let actor = system.spawn("checker", Props::from_fn(|| Checker(vec![0; 1]))).unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let actor = actor.clone();
            tokio::spawn(async move {
                let mut answered = 0;
                for _ in 0..200 {
                    match actor.ask(Work::Finish).await {
                        Ok(_) => answered += 1,
                        Err(AskError::Stopped) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
                answered
            })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    actor.stop();
    for task in tasks {
        let _: u32 = task.await.unwrap();
    }
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn blocking_work_comes_back_as_a_message_and_blocks_nobody() {
    let system = ActorSystem::builder("blocking").with_ask_timeout(secs(30)).build().unwrap();
    let log = Log::default();
    let actor = system.spawn("a", lab("a", &log)).unwrap();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    actor.tell(crate::kit::run(move |_, cx| {
        cx.pipe_blocking_to_self(
            move || gate.recv().is_ok(),
            move |opened| {
                crate::kit::run(move |lab, _| {
                    lab.say(opened);
                    let _ = done.send(());
                    Ok(())
                })
            },
        );
        Ok(())
    }));
    actor.tell(note("meanwhile"));
    assert!(actor.ask(crate::kit::Do::Count).await.is_ok());
    log.expect(&["a: meanwhile"]);
    open.send(()).unwrap();
    finished.await.unwrap();
    log.expect(&["a: true"]);
    system.shutdown().await.unwrap();
}

/// A worker that stops or fails now and then. Each message it handles is a permit.
struct Worker(Arc<Semaphore>);

impl Actor for Worker {
    type Msg = u32;
    async fn receive(&mut self, message: u32, cx: &mut Context<'_, Self>) -> Done {
        self.0.add_permits(1);
        match message % 2_000 {
            0 => cx.stop(),
            1 => return Err("expected".into()),
            _ => {}
        }
        Ok(())
    }
}

/// Every message sent to a pool or a router is handled or recorded, whoever dies meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn work_sent_to_dying_workers_is_handled_or_recorded() {
    const EACH: u32 = 5_000;
    let system = ActorSystem::builder("work").build().unwrap();
    let fates = Arc::new(Semaphore::new(0));
    let recorded = fates.clone();
    let _subscription = system.event_stream().subscribe(move |_: &DeadLetterEvent| recorded.add_permits(1));
    let worker = {
        let fates = fates.clone();
        move || {
            let fates = fates.clone();
            Props::from_fn(move || Worker(fates.clone()))
        }
    };
    let pool = WorkerPool::new(4, worker.clone()).spawn(&system, "pool").unwrap();
    let routees: Vec<_> = (0..4).map(|_| system.spawn_anonymous(worker()).unwrap()).collect();
    let router = Router::consistent_hash(&system, routees, |n: &u32| n / 7).unwrap();
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let to = if sender % 2 == 0 { pool.actor_ref() } else { router.actor_ref() };
            let (system, router, worker) = (system.clone(), router.clone(), worker.clone());
            tokio::spawn(async move {
                for n in 0..EACH {
                    to.tell(n);
                    if n % 1_000 == 0 {
                        router.add(&system.spawn_anonymous(worker()).unwrap());
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    // Work may wait with the pool until the back-off of a replacement has passed.
    let all = tokio::time::timeout(secs(30), fates.acquire_many(8 * EACH));
    all.await.expect("every message has a fate").unwrap().forget();
    system.shutdown().await.unwrap();
    assert_eq!(fates.available_permits(), 0, "and one only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_can_be_taken_as_soon_as_the_wait_for_it_is_over() {
    let system = ActorSystem::builder("threads").build().unwrap();
    let log = Log::default();
    for round in 0..2_000 {
        let actor =
            system.spawn("a", lab("a", &log)).unwrap_or_else(|error| panic!("round {round}: {error}"));
        if round % 2 == 0 {
            actor.tell(note(round));
        }
        let stopped = actor.stopped();
        actor.stop();
        if round % 3 == 0 {
            tokio::task::yield_now().await;
        }
        stopped.await;
    }
    system.shutdown().await.unwrap();
}
