use std::sync::Mutex;

use super::*;

const NONE: [&str; 0] = [];

/// Covers: BLK-01, BLK-02, BLK-03, ROLE-16, TST-42
#[test]
fn systems_are_blocked_listed_and_unblocked() {
    let list = BlockList::new(["first"], NONE);
    assert!(list.block("second") && !list.block("second"));
    assert!(list.block("Shop.Example.:8090"));
    assert_eq!(list.list(), ["first", "second", "shop.example:8090"]);
    assert!(list.is_blocked("SHOP.example:8090") && !list.is_blocked("third"));
    assert!(list.unblock("shop.example:8090") && !list.unblock("shop.example:8090"));
    assert!(list.unblock("first"));
    assert_eq!(list.list(), ["second"]);
}

/// Covers: S127, S118, BLK-05
#[test]
fn a_node_is_refused_by_its_id_or_its_address() {
    let blocked = BlockList::new(["bad", "h:1"], NONE);
    let allowed = BlockList::new(["bad"], ["good", "h:2"]);
    for (name, list, system_id, address, expected) in [
        ("neither", &blocked, "good", Some("h:2"), true),
        ("id", &blocked, "bad", Some("h:2"), false),
        ("address", &blocked, "good", Some("H.:1"), false),
        ("no address", &blocked, "good", None, true),
        ("an id that is an address is an address", &blocked, "h:1", None, false),
        ("no id", &blocked, "", Some("h:2"), true),
        ("allowed id", &allowed, "good", Some("h:9"), true),
        ("allowed address", &allowed, "other", Some("H:2"), true),
        ("not allowed", &allowed, "other", Some("h:9"), false),
        ("blocked although its address is allowed", &allowed, "bad", Some("h:2"), false),
        ("nothing known", &allowed, "", None, false),
    ] {
        assert_eq!(list.permits(system_id, address), expected, "{name}");
    }
    assert!(!blocked.permits_dial("h:1") && blocked.permits_dial("h:2"));
    assert!(allowed.permits_dial("h:9"), "the id of who lives there may be allowed");
    let addresses = BlockList::new(NONE, ["h:2"]);
    assert!(addresses.permits_dial("h:2") && !addresses.permits_dial("h:9"));
    addresses.set_allowed(NONE);
    assert!(addresses.permits_dial("h:9"));
}

/// Covers: S127
#[test]
fn each_change_is_told_once_when_the_list_already_says_so() {
    let list = BlockList::default();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (into, asked) = (heard.clone(), list.clone());
    let listener = list.on_change(move |change| {
        // Asking, changing and leaving from inside the call waits for nothing.
        let now = match change {
            BlockListChange::Blocked(entry) | BlockListChange::Unblocked(entry) => asked.is_blocked(entry),
            BlockListChange::Allowed(_) => asked.permits("nobody", None),
        };
        drop(asked.on_change(|_| ()));
        into.lock().unwrap().push((change.clone(), now));
    });
    list.block("a");
    list.block("a");
    list.unblock("b");
    list.unblock("a");
    list.set_allowed(["x"]);
    list.set_allowed(["x"]);
    drop(listener);
    list.block("c");
    let expected = [
        (BlockListChange::Blocked("a".into()), true),
        (BlockListChange::Unblocked("a".into()), false),
        (BlockListChange::Allowed(vec!["x".into()]), false),
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
    assert_eq!(Arc::strong_count(&heard), 1, "released with its guard");
    assert_eq!(list.allowed(), ["x"]);
}
