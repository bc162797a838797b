//! Names, children, parents, and the list of the living.

use crate::kit::*;
use nexus_actor_core::*;

#[test]
fn a_name_is_taken_while_its_actor_lives_and_free_after() {
    let house = house();
    let a = house.lab("a");
    let taken = house.system.spawn("a", lab("a", &house.log)).unwrap_err();
    assert_eq!(taken, SpawnError::NameTaken { path: "/user/a".into() });
    a.stop();
    house.idle();
    let again = house.lab("a");
    assert_ne!(a, again);
    assert_ne!(a.path(), again.path());
    assert_eq!(a.path().elements(), again.path().elements());
}

#[test]
fn invalid_names_are_refused_with_the_rule() {
    let house = house();
    for name in ["", "a/b", "$a", "a b", "a#1"] {
        let refused = house.system.spawn(name, lab("a", &house.log)).unwrap_err();
        assert!(
            matches!(&refused, SpawnError::InvalidName { name: of, .. } if of == name),
            "{name:?}: {refused}"
        );
    }
}

#[test]
fn a_refused_name_keeps_no_memory_of_the_system() {
    let house = house();
    let weak = house.system.downgrade();
    let _a = house.lab("a");
    for _ in 0..3 {
        let props = lab("a", &house.log).with_supervision(SupervisorStrategy::all_for_one());
        assert!(house.system.spawn("a", props).is_err());
    }
    house
        .wait({
            let system = house.system.clone();
            async move { system.shutdown().await }
        })
        .unwrap();
    drop((_a, house));
    assert!(weak.upgrade().is_none(), "a system that has ended leaves nothing behind");
}

#[test]
fn an_anonymous_actor_is_found_by_its_number() {
    let house = house();
    let a = house.system.spawn_anonymous(lab("a", &house.log)).unwrap();
    let b = house.system.spawn_anonymous(lab("b", &house.log)).unwrap();
    house.idle();
    let path = a.path();
    assert!(path.name().starts_with('$'), "{path}");
    assert_eq!(house.system.processes().get(path.elements()), Some(a.to_any()));
    assert_ne!(a.path(), b.path());
}

#[test]
fn children_are_listed_by_age_and_know_their_parent() {
    let house = house();
    let parent = house.lab("parent");
    parent.tell(run(|lab, cx| {
        for name in ["z", "y", "x"] {
            let child = cx.spawn(name, crate::kit::lab(name, &lab.log))?;
            child.tell(run(|lab, cx| {
                lab.say(cx.parent().ok_or("no parent")?.path().elements());
                Ok(())
            }));
        }
        let names: Vec<_> = cx.children().iter().map(|child| child.path().name().to_string()).collect();
        lab.say(names.join(" "));
        assert!(cx.child("y").is_some() && cx.child("w").is_none());
        Ok(())
    }));
    house.idle();
    house.log.expect(&["parent: z y x", "z: /user/parent", "y: /user/parent", "x: /user/parent"]);
    parent.tell(run(|lab, cx| {
        cx.child("y").ok_or("no child")?.stop();
        lab.say("stopped y");
        Ok(())
    }));
    house.idle();
    let rest = run(|lab, cx| {
        lab.say(cx.children().len());
        Ok(())
    });
    house.log.take();
    house.check(&parent, rest, &["parent: 2"]);
}

/// Covers: RT-08, RT-09, RT-10
#[test]
fn the_process_registry_lists_and_finds_the_living() {
    let house = house();
    let a = house.lab("a");
    a.tell(run(|lab, cx| {
        cx.spawn("b", crate::kit::lab("b", &lab.log))?;
        Ok(())
    }));
    house.idle();
    let processes = house.system.processes();
    let list: Vec<_> = processes.list().iter().map(|actor| actor.path().elements().to_string()).collect();
    assert_eq!(list, ["/system", "/temp", "/user", "/user/a", "/user/a/b"]);
    assert_eq!(processes.count(), 5);
    let found = processes.get("/user/a/b").expect("it lives");
    assert!(!found.is_terminated());
    assert_eq!(found.message_type(), core::any::type_name::<Do>());
    assert_eq!(processes.get_incarnation("/user/a/b", found.uid()), Some(found.clone()));
    assert_eq!(processes.get_incarnation("/user/a/b", a.to_any().uid()), None);
    for path in ["/user/b", "/user/a/b/c", "user/a", "", "/", "/nobody"] {
        assert_eq!(processes.get(path), None, "{path:?}");
    }
    a.stop();
    house.idle();
    assert!(found.is_terminated() && a.to_any().is_terminated());
    assert_eq!(processes.count(), 3);
}
