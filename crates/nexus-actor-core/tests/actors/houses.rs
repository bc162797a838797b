//! Whole systems: their parts, their end, and two of them in one process.

use std::sync::{Arc, Mutex};

use crate::kit::*;
use nexus_actor_core::coordinated_shutdown::ShutdownPhase;
use nexus_actor_core::*;

fn shutdown(house: &House) -> Result<(), ShutdownError> {
    let system = house.system.clone();
    house.wait(async move { system.shutdown().await })
}

/// Covers: RT-50
#[test]
fn a_shutdown_goes_through_its_phases_in_order() {
    let house = house();
    for (phase, text) in [
        (ShutdownPhase::Last, "last"),
        (ShutdownPhase::BeforeActors, "before 1"),
        (ShutdownPhase::AfterActors, "after"),
        (ShutdownPhase::BeforeActors, "before 2"),
    ] {
        let log = house.log.clone();
        house.system.coordinated_shutdown().add_task(phase, text, move || async move { log.add(text) });
    }
    house.chatty("a");
    house.system.spawn_system("s", chatty("s", &house.log)).unwrap();
    house.system.spawn_temporary(chatty("t", &house.log)).unwrap();
    house.idle();
    house.log.take();
    assert_eq!(shutdown(&house), Ok(()));
    house.log.expect(&["before 1", "before 2", "a: Stopping", "after", "t: Stopping", "s: Stopping", "last"]);
    assert!(house.system.is_terminated());
    assert_eq!(house.system.processes().count(), 0);
}

#[test]
fn a_second_shutdown_changes_nothing_and_hears_of_the_same_end() {
    let house = house();
    house.chatty("a");
    house.system.begin_shutdown();
    house.system.begin_shutdown();
    assert_eq!(shutdown(&house), Ok(()));
    assert_eq!(shutdown(&house), Ok(()));
    house.log.expect(&["a: Started", "a: Stopping"]);
}

#[test]
fn nothing_is_born_after_a_shutdown_and_sends_are_refused() {
    let house = house();
    let a = house.lab("a");
    house.system.begin_shutdown();
    assert_eq!(house.system.spawn("b", lab("b", &house.log)).unwrap_err(), SpawnError::Shutdown);
    house.idle();
    assert_eq!(house.system.spawn("b", lab("b", &house.log)).unwrap_err(), SpawnError::Shutdown);
    assert_eq!(house.system.spawn_system("b", lab("b", &house.log)).unwrap_err(), SpawnError::Shutdown);
    assert_eq!(a.try_tell(note(1)).unwrap_err().refusal, Refusal::Stopped);
    a.tell(note(2));
    assert_eq!(house.wait(a.ask(Do::Count)), Err(AskError::Stopped));
    let by_name: ActorRef<crate::refs::Wire> = house.system.resolve("/user/a").unwrap();
    by_name.tell(crate::refs::Wire::Number(1));
    assert_eq!(house.system.dead_letters().total(), 3);
}

#[test]
fn a_stuck_actor_is_named_and_the_shutdown_ends_in_time() {
    let house = house_with(|builder| builder.with_shutdown_timeout(secs(3)));
    let a = house.lab("a");
    house.lab("fine");
    a.tell(wait(core::future::pending(), "never"));
    let log = house.log.clone();
    house.system.coordinated_shutdown().add_task(
        ShutdownPhase::BeforeActors,
        "slow flush",
        move || async move {
            log.add("flush begun");
            core::future::pending::<()>().await;
        },
    );
    house.idle();
    let start = house.now();
    let error = shutdown(&house).unwrap_err();
    assert_eq!(house.now() - start, 3000);
    // What is in good health is not named, though the flush has left it no time.
    assert_eq!(error.left, ["slow flush", "/user", "/user/a"]);
    assert!(house.system.is_terminated());
}

#[test]
fn a_stuck_actor_that_gives_way_at_its_stop_deadline_is_no_error() {
    let house = house();
    let a = house.lab("a");
    a.tell(wait(core::future::pending(), "never"));
    house.idle();
    assert_eq!(shutdown(&house), Ok(()));
    assert_eq!(house.now(), 5000, "the stop deadline");
}

#[test]
fn the_end_of_the_user_guardian_is_the_end_of_the_system() {
    let house = house();
    house.chatty("a");
    house.system.find("/user").expect("it lives").stop();
    let system = house.system.clone();
    assert_eq!(house.wait(async move { system.when_terminated().await }), Ok(()));
    house.log.expect(&["a: Started", "a: Stopping"]);
}

/// Covers: RT-35, RT-38
#[test]
fn a_guardian_of_ones_own_is_made_by_a_closure_that_may_spawn() {
    let pump = runtime::PumpRuntime::new();
    let log = Log::default();
    let out = log.clone();
    let guardian = Props::from(move |cx: &mut Context<'_, guardian::Guardian>| {
        cx.spawn("first", chatty("first", &out))?;
        Ok(guardian::Guardian)
    });
    let system = ActorSystemBuilder::new(guardian)
        .with_tick_driver(TickDriverConfig::new(Arc::new(pump.clone())))
        .build()
        .unwrap();
    pump.run_until_idle();
    log.expect(&["first: Started"]);
    assert!(system.processes().get("/user/first").is_some());
}

/// Covers: RT-39
#[test]
fn a_builder_names_what_is_wrong() {
    let pump = runtime::PumpRuntime::new();
    let error = ActorSystem::builder("no good").with_runtime(pump).build().unwrap_err();
    assert!(matches!(error, BuildError::InvalidName { name, .. } if name == "no good"));
    let error = ActorSystem::builder("lab").build().unwrap_err();
    assert!(matches!(error, BuildError::NoRuntime), "outside of a tokio runtime: {error}");
}

/// Covers: RT-05
#[test]
fn two_systems_in_one_process_share_nothing() {
    let (one, two) = (house(), house());
    let (a, b) = (one.lab("a"), two.lab("a"));
    assert_eq!(a.path(), b.path(), "the same name, seed and uid");
    assert_ne!(a, b, "and yet another actor");
    let events: Arc<Mutex<u32>> = Arc::default();
    let seen = events.clone();
    one.system.event_stream().subscribe(move |_: &u8| *seen.lock().unwrap() += 1).forever();
    two.system.event_stream().publish(1_u8);
    assert_eq!(*events.lock().unwrap(), 0);
    one.system.event_stream().publish(1_u8);
    assert_eq!(*events.lock().unwrap(), 1);
    a.stop();
    one.idle();
    a.tell(note(1));
    assert_eq!((one.system.dead_letters().total(), two.system.dead_letters().total()), (1, 0));
    assert_eq!(shutdown(&one), Ok(()));
    assert_eq!(two.wait(b.ask(Do::Count)), Ok(1), "the other goes on");
    // An actor of one watches one of the other.
    let three = house();
    let w = three.lab("w");
    let watched = b.clone();
    w.tell(run(move |_, cx| {
        cx.watch(&watched);
        Ok(())
    }));
    three.idle();
    b.stop();
    two.idle();
    three.idle();
    three.log.expect(&["w: a stopped"]);
}

#[test]
fn events_reach_actors_through_an_adapter() {
    let house = house();
    let a = house.lab("a");
    let subscription = house.system.event_stream().subscribe_ref(a.adapt(|event: u32| note(event)));
    house.system.event_stream().publish(7_u32);
    house.idle();
    house.log.expect(&["a: 7"]);
    drop(subscription);
    house.system.event_stream().publish(8_u32);
    house.idle();
    house.log.expect(&[]);
}
