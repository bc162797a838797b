use nexus_actor_core::*;
use std::time::Duration;

enum Counter {
    Add(i64),
    Get(Reply<i64>),
    Boom,
    #[allow(dead_code)]
    Watch(ActorRef<Counter>, Reply<String>),
}

#[derive(Default)]
struct Tally {
    n: i64,
    waiting: Option<Reply<String>>,
}

impl Actor for Tally {
    type Msg = Counter;
    async fn receive(&mut self, msg: Counter, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match msg {
            Counter::Add(by) => self.n += by,
            Counter::Get(reply) => reply.send(self.n),
            Counter::Boom => panic!("boom"),
            Counter::Watch(who, reply) => {
                cx.watch(&who);
                self.waiting = Some(reply);
            }
        }
        Ok(())
    }
    async fn signal(&mut self, signal: Signal, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Terminated { who, reason } = signal
            && let Some(reply) = self.waiting.take()
        {
            reply.send(format!("{} {reason}", who.path().elements()));
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_whole_of_section_three_on_tokio() {
    let system = ActorSystem::builder("shop").build().unwrap();
    let counter = system.spawn("counter", Props::from_fn(Tally::default)).unwrap();
    for _ in 0..1000 {
        counter.tell(Counter::Add(1));
    }
    assert_eq!(counter.ask(Counter::Get).await, Ok(1000));
    counter.tell(Counter::Boom);
    assert_eq!(counter.ask(Counter::Get).await, Ok(0));
    let watcher = system.spawn("watcher", Props::from_fn(Tally::default)).unwrap();
    let told = watcher.ask(|r| Counter::Watch(counter.clone(), r));
    counter.stop();
    assert_eq!(told.await.unwrap(), "/user/counter stopped");
    assert_eq!(counter.ask(Counter::Get).await, Err(AskError::Stopped));
    system.shutdown().await.unwrap();
    assert!(system.is_terminated());
}

#[test]
fn the_same_on_a_pump_in_virtual_time() {
    let pump = runtime::PumpRuntime::new();
    let system = ActorSystem::builder("shop").with_runtime(pump.clone()).build().unwrap();
    let counter = system.spawn("counter", Props::from_fn(Tally::default)).unwrap();
    counter.tell(Counter::Add(7));
    let answer = pump.block_on(Duration::from_secs(60), counter.ask(Counter::Get));
    assert_eq!(answer, Some(Ok(7)));
    let held = counter.ask(|r| Counter::Watch(counter.clone(), r)).timeout(Duration::from_secs(3));
    let result = pump.block_on(Duration::from_secs(60), held);
    assert_eq!(result, Some(Err(AskError::Timeout { after: Duration::from_secs(3) })));
}
