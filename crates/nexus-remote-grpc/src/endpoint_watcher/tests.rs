//! What the peer is told of watches, however they begin and end.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use nexus_actor_core::path::ActorPath;
use nexus_actor_core::{Actor, ActorError, ActorSystem, AnyRef, Props, TerminationReason};
use portable_atomic::{AtomicUsize, Ordering};

use super::{EndpointWatcher, ToTell};

struct Nobody;

impl Actor for Nobody {
    type Msg = ();
    async fn receive(
        &mut self,
        (): (),
        _: &mut nexus_actor_core::Context<'_, Self>,
    ) -> Result<(), ActorError> {
        Ok(())
    }
}

/// Actors that watch, and the books.
struct Books {
    _system: ActorSystem,
    watchers: Vec<AnyRef>,
    path: ActorPath,
    books: EndpointWatcher,
}

impl Books {
    fn new(max: usize) -> Self {
        let system = ActorSystem::builder("books").build().expect("a system");
        let spawn = |name| system.spawn(name, Props::from_fn(|| Nobody)).expect("free").to_any();
        let watchers: Vec<_> = ["first", "second"].map(spawn).into();
        let path = watchers[0].path().clone();
        Self { _system: system, watchers, path, books: EndpointWatcher::new(max) }
    }

    fn watch(&self, id: &str, watcher: usize) -> bool {
        self.books.watch(&Arc::from(id), &self.path, self.watchers[watcher].clone(), 0)
    }

    fn unwatch(&self, id: &str, watcher: usize) {
        self.books.unwatch(&Arc::from(id), &self.watchers[watcher]);
    }

    fn take(&self, max: usize) -> Vec<ToTell> {
        let mut told = Vec::new();
        self.books.take(&Context::from_waker(Waker::noop()), max, 0, || true, &mut told);
        told
    }
}

fn watch(id: &str) -> ToTell {
    ToTell::Watch(Arc::from(id))
}

fn unwatch(id: &str) -> ToTell {
    ToTell::Unwatch(Arc::from(id))
}

/// A watch that begins while the end of another one is on its way is not ended by it.
#[tokio::test]
async fn what_the_peer_hears_last_is_how_it_stands() {
    let it = Books::new(10);
    assert!(it.watch("a", 0));
    assert!(!it.watch("a", 1), "the peer is told once");
    assert_eq!(it.take(10), [watch("a")]);
    it.unwatch("a", 0);
    assert_eq!(it.take(10), [], "somebody is left");
    // The end is not told yet.
    it.unwatch("a", 1);
    it.watch("a", 0);
    assert_eq!(it.take(10), [watch("a")]);
    // It is told.
    it.unwatch("a", 0);
    assert_eq!(it.take(10), [unwatch("a")]);
    assert!(it.books.is_done());
    it.watch("a", 1);
    assert_eq!(it.take(10), [watch("a")]);
    // Of one that the peer has not heard of there is nothing to tell.
    it.watch("b", 0);
    it.unwatch("b", 0);
    it.unwatch("b", 0);
    it.unwatch("c", 0);
    assert_eq!(it.take(10), []);
    assert_eq!(it.books.len(), 1);
}

/// The end of a process is carried out late: the next one has heard of a watch that began before, and hears its end.
#[tokio::test]
async fn the_next_process_hears_the_end_of_a_watch_that_went_with_the_last() {
    let it = Books::new(10);
    it.watch("a", 0);
    let mut told = Vec::new();
    it.books.take(&Context::from_waker(Waker::noop()), 10, 1, || true, &mut told);
    assert_eq!(told, [watch("a")]);
    it.books.process_gone(1);
    assert!(!it.books.is_done());
    assert_eq!(it.take(10), [unwatch("a")]);
    assert!(it.books.is_done());
}

/// The same from several threads, with one that takes: the last word of each actor is the truth.
#[tokio::test]
async fn what_the_peer_hears_last_is_how_it_stands_however_they_meet() {
    let it = Books::new(10);
    let mut known = HashSet::new();
    let mut hear = |told: Vec<ToTell>| {
        for told in told {
            match told {
                ToTell::Watch(id) => drop(known.insert(id)),
                ToTell::Unwatch(id) => assert!(known.remove(&id), "never watched"),
            }
        }
    };
    std::thread::scope(|scope| {
        let work = |watcher| {
            let it = &it;
            scope.spawn(move || {
                for round in 0..5_000 {
                    it.watch("a", watcher);
                    if round % 3 == 0 {
                        std::thread::yield_now();
                    }
                    it.unwatch("a", watcher);
                }
                it.watch("a", watcher);
            })
        };
        let threads = [work(0), work(1)];
        while !threads.iter().all(|thread| thread.is_finished()) {
            hear(it.take(1));
        }
    });
    hear(it.take(10));
    assert_eq!(known.len(), 1);
    it.unwatch("a", 0);
    it.unwatch("a", 1);
    assert_eq!(it.take(10), [unwatch("a")]);
}

#[tokio::test]
async fn a_new_connection_is_told_of_all_as_it_has_room() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }
    let it = Books::new(10);
    for id in ["a", "b", "c"] {
        it.watch(id, 0);
    }
    assert_eq!(it.take(2), [watch("a"), watch("b")]);
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let mut told = Vec::new();
    it.books.take(&Context::from_waker(&waker), 10, 0, || false, &mut told);
    assert_eq!(told, [], "one that is over takes nothing");
    it.books.take(&Context::from_waker(&waker), 10, 0, || true, &mut told);
    assert_eq!(told, [watch("c")]);
    it.unwatch("b", 0);
    assert_eq!(woken.0.load(Ordering::Acquire), 1);
    it.books.tell_again();
    assert!(it.books.has_to_tell());
    let mut told: Vec<_> = it.take(10).into_iter().map(|told| format!("{told:?}")).collect();
    told.sort();
    assert_eq!(told, [r#"Unwatch("b")"#, r#"Watch("a")"#, r#"Watch("c")"#]);
    // Another process knows nothing of before, and is told of nobody who watched that one.
    it.unwatch("c", 0);
    it.books.watch(&Arc::from("d"), &it.path, it.watchers[0].clone(), 1);
    it.books.process_gone(1);
    assert_eq!((it.take(10), it.books.len()), (vec![watch("d")], 1));
    it.books.process_gone(u64::MAX);
    assert!(it.books.is_empty() && it.books.is_done() && !it.books.has_to_tell());
}

/// What comes late of a connection that is lost ends no watch that began after it: the next one hears of those that it has
/// not heard of, and of the end of those that it has.
#[tokio::test]
async fn who_watches_by_the_next_connection_stays() {
    let it = Books::new(10);
    let books = &it.books;
    let watch_since = |id: &str, watcher: usize, era| {
        books.watch(&Arc::from(id), &it.path, it.watchers[watcher].clone(), era)
    };
    let take = |era| {
        let mut told = Vec::new();
        books.take(&Context::from_waker(Waker::noop()), 10, era, || true, &mut told);
        told
    };
    assert!(watch_since("old", 0, 0) && watch_since("both", 0, 0) && watch_since("left", 0, 0));
    assert_eq!(take(0).len(), 3);
    it.unwatch("left", 0);
    // The connection is lost, and the next one serves.
    assert!(!watch_since("both", 1, 1), "not the first");
    assert!(watch_since("told", 0, 1) && watch_since("over", 0, 1));
    assert_eq!(take(1), [unwatch("left"), watch("told"), watch("over")]);
    assert!(watch_since("new", 0, 1));
    it.unwatch("over", 0);
    // Only now the end of the one before is acted upon.
    books.process_gone(1);
    assert_eq!(books.len(), 3);
    assert_eq!(take(1), [watch("new"), unwatch("over"), watch("both")]);
    assert!(!books.terminated("old", &TerminationReason::Stopped), "its watcher was told");
    books.process_gone(2);
    assert!(books.is_done() && !books.has_to_tell());
}

/// Watches that have ended, and of which the peer is not told yet, leave room for others and have a bound.
///
/// Covers: L18
#[tokio::test]
async fn ends_that_are_not_told_yet_are_bounded() {
    let it = Books::new(2);
    let begin = |ids: [&str; 2]| ids.iter().filter(|id| it.watch(id, 0)).count();
    assert_eq!(begin(["a", "b"]), 2);
    assert!(!it.watch("c", 0), "no more than two");
    assert_eq!(it.take(10).len(), 2);
    it.unwatch("a", 0);
    it.unwatch("b", 0);
    assert_eq!(begin(["c", "d"]), 2);
    assert_eq!(it.books.len(), 2);
    for id in ["c", "d"] {
        it.unwatch(id, 0);
    }
    for _ in 0..10 {
        assert_eq!(begin(["e", "f"]), 2);
        it.unwatch("e", 0);
        it.unwatch("f", 0);
    }
    assert_eq!(it.take(10), [unwatch("a"), unwatch("b")]);
    assert!(it.books.is_done());
}
