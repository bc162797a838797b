//! Questions of this node that wait for their answers.
//!
//! On this wire an asker is an actor like any other: it is named by a pid, and its answer is a message to that pid. Ours
//! are called `future$<slot>.<secret>`: a place in this table and 64 random bits that guard it, so that nobody answers who
//! was not asked or told (limit L19, threat T22).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use nexus_actor_core::AskError;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::remote::{PendingReply, ReplyKey};

/// What the ids of askers begin with, here and on a Go node.
pub(crate) const FUTURE: &str = "future$";

/// Asks that one node may have pending in all (limit L19).
const NODE_MAX: usize = 1_048_576;

/// The questions that wait.
pub(crate) struct PendingAsks {
    table: Lock<Table>,
    max: usize,
    max_per_address: usize,
}

struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    counts: HashMap<Arc<str>, Count>,
    /// Questions that the limits count.
    limited: usize,
    /// Of those that read on when a question to that address waits; one for each endpoint.
    readers: Vec<(Arc<str>, Waker)>,
    random: fastrand::Rng,
}

/// The questions to one address.
#[derive(Default)]
struct Count {
    all: usize,
    limited: usize,
}

impl Table {
    /// Those that read on now.
    fn take_readers(&mut self, address: &str) -> Vec<Waker> {
        let is_one = |reader: &mut (Arc<str>, Waker)| *reader.0 == *address;
        self.readers.extract_if(.., is_one).map(|(_, waker)| waker).collect()
    }

    fn forget_reader(&mut self, address: &Arc<str>) {
        self.readers.retain(|(of, _)| !Arc::ptr_eq(of, address));
    }

    /// When nothing waits, what a burst took is given back.
    fn give_back(&mut self) {
        if self.free.len() == self.slots.len() {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    /// One question less.
    fn count_down(&mut self, asked: &Asked) {
        let limited = usize::from(asked.kind != AskedKind::Probe);
        self.limited -= limited;
        if let Some(count) = self.counts.get_mut(&asked.address) {
            count.all -= 1;
            count.limited -= limited;
            if count.all == 0 {
                self.counts.remove(&asked.address);
            }
        }
    }
}

/// Somebody waits in [`PendingAsks::question_to`].
struct Reader<'a> {
    asks: &'a PendingAsks,
    address: &'a Arc<str>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.asks.table.lock().forget_reader(self.address);
    }
}

struct Slot {
    secret: u64,
    ask: Option<Asked>,
}

struct Asked {
    reply: Arc<dyn PendingReply>,
    /// Whom. The very text of the endpoint that asks: so those of two endpoints of one address are told apart.
    address: Arc<str>,
    /// Connections to it that had been lost by then.
    era: u64,
    kind: AskedKind,
    /// The call that took it, and its place among what that call took; of peers that confirm what arrived.
    taken: Option<(u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AskedKind {
    /// Of an actor.
    Ask,
    /// Of the runtimes themselves: it has no deadline, and is worth no more than the connection it went by.
    Touch,
    /// The same, whether the peer is there at all: of each endpoint one, and it has a place whatever else waits.
    Probe,
}

impl PendingAsks {
    /// An empty table for at most `max_per_address` questions to one address.
    pub(crate) fn new(seed: u64, max_per_address: usize) -> Self {
        Self::with_max(seed, NODE_MAX, max_per_address)
    }

    fn with_max(seed: u64, max: usize, max_per_address: usize) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let table = Table {
            slots: Vec::new(),
            free: Vec::new(),
            counts: HashMap::new(),
            limited: 0,
            readers: Vec::new(),
            random,
        };
        Self { table: Lock::new(table), max, max_per_address }
    }

    /// Keeps a question to `address`, to which so many connections have been lost; `None` when there is no room for one
    /// more, in all or to that address.
    pub(crate) fn insert(
        &self,
        reply: Arc<dyn PendingReply>,
        address: &Arc<str>,
        era: u64,
    ) -> Option<ReplyKey> {
        self.keep(Asked { reply, address: address.clone(), era, kind: AskedKind::Ask, taken: None })
    }

    /// The same for a sign of life that the runtimes ask for.
    pub(crate) fn insert_touch(
        &self,
        reply: Arc<dyn PendingReply>,
        address: &Arc<str>,
        era: u64,
    ) -> Option<ReplyKey> {
        self.keep(Asked { reply, address: address.clone(), era, kind: AskedKind::Touch, taken: None })
    }

    /// The same for the question whether the peer is there, in the place of `before`. It always has room.
    pub(crate) fn insert_probe(
        &self,
        reply: Arc<dyn PendingReply>,
        address: &Arc<str>,
        era: u64,
        before: Option<ReplyKey>,
    ) -> Option<ReplyKey> {
        drop(before.and_then(|before| self.take(before)));
        self.keep(Asked { reply, address: address.clone(), era, kind: AskedKind::Probe, taken: None })
    }

    fn keep(&self, asked: Asked) -> Option<ReplyKey> {
        let address = asked.address.clone();
        let limited = usize::from(asked.kind != AskedKind::Probe);
        let mut table = self.table.lock();
        let to_address = table.counts.get(&address).map_or(0, |count| count.limited);
        if limited > 0 && (to_address >= self.max_per_address || table.limited >= self.max) {
            return None;
        }
        let secret = table.random.u64(..);
        let ask = Some(asked);
        let slot = match table.free.pop() {
            Some(slot) => {
                table.slots[slot as usize] = Slot { secret, ask };
                slot
            }
            None => {
                let slot = u32::try_from(table.slots.len()).ok()?;
                table.slots.push(Slot { secret, ask });
                slot
            }
        };
        let readers = table.take_readers(&address);
        table.limited += limited;
        let count = table.counts.entry(address).or_default();
        count.all += 1;
        count.limited += limited;
        drop(table);
        readers.into_iter().for_each(Waker::wake);
        Some(ReplyKey { secret, slot })
    }

    /// Waits until a question to the endpoint that `address` is the text of waits. One task may wait for each.
    pub(crate) async fn question_to(&self, address: &Arc<str>) {
        let reader = Reader { asks: self, address };
        poll_fn(|cx| {
            let mut table = self.table.lock();
            table.forget_reader(address);
            if table.counts.contains_key(address) {
                return Poll::Ready(());
            }
            table.readers.push((address.clone(), cx.waker().clone()));
            Poll::Pending
        })
        .await;
        drop(reader);
    }

    /// Whether a question to `address` waits.
    pub(crate) fn waits_for(&self, address: &str) -> bool {
        self.table.lock().counts.contains_key(address)
    }

    /// Takes the question of that key out: it is answered once.
    pub(crate) fn take(&self, key: ReplyKey) -> Option<Arc<dyn PendingReply>> {
        let mut table = self.table.lock();
        let slot = table.slots.get_mut(key.slot as usize)?;
        if slot.secret != key.secret {
            return None;
        }
        let asked = slot.ask.take()?;
        table.count_down(&asked);
        table.free.push(key.slot);
        table.give_back();
        Some(asked.reply)
    }

    /// Fails every question of the endpoint that `address` is the text of; returns how many there were.
    #[cfg(test)]
    pub(crate) fn fail_all(&self, address: &Arc<str>, why: &AskError) -> usize {
        self.fail_before(address, u64::MAX, why)
    }

    /// Fails those questions of the endpoint that `address` is the text of which were asked before so many connections to it were
    /// lost; returns how many there were.
    pub(crate) fn fail_before(&self, address: &Arc<str>, era: u64, why: &AskError) -> usize {
        if !self.waits_for(address) {
            // The table may be long, and everybody waits for its lock.
            return 0;
        }
        self.fail_those(why, |asked| Arc::ptr_eq(&asked.address, address) && asked.era < era)
    }

    /// Gives up the signs of life that were asked for by connections that are lost: their answers may be lost as well,
    /// and they are asked for again.
    pub(crate) fn give_up_touches(&self, address: &Arc<str>, era: u64) -> usize {
        if !self.waits_for(address) {
            return 0;
        }
        self.fail_those(&AskError::Unreachable, |asked| {
            asked.kind != AskedKind::Ask && Arc::ptr_eq(&asked.address, address) && asked.era < era
        })
    }

    /// Notes that the call of that number takes these questions, each with its place among what it has taken.
    pub(crate) fn note_taken(&self, call: u64, questions: &[(ReplyKey, u64)]) {
        let mut table = self.table.lock();
        for (key, place) in questions {
            let slot = table.slots.get_mut(key.slot as usize).filter(|slot| slot.secret == key.secret);
            if let Some(asked) = slot.and_then(|slot| slot.ask.as_mut()) {
                asked.taken = Some((call, *place));
            }
        }
    }

    /// Fails the questions that the call of that number, which is lost, had taken behind the first `confirmed` messages:
    /// nobody knows whether they arrived.
    pub(crate) fn fail_unconfirmed(&self, call: u64, confirmed: u64) -> usize {
        self.fail_those(&AskError::Unreachable, |asked| {
            asked.taken.is_some_and(|(by, place)| by == call && place > confirmed)
        })
    }

    fn fail_those(&self, why: &AskError, is_one: impl Fn(&Asked) -> bool) -> usize {
        let mut failed = Vec::new();
        {
            let mut table = self.table.lock();
            let Table { slots, free, .. } = &mut *table;
            for (index, slot) in slots.iter_mut().enumerate() {
                if slot.ask.as_ref().is_some_and(&is_one) {
                    failed.extend(slot.ask.take());
                    free.push(index as u32);
                }
            }
            for asked in &failed {
                table.count_down(asked);
            }
            table.give_back();
        }
        let count = failed.len();
        for asked in failed {
            asked.reply.fail(why.clone());
        }
        count
    }

    /// Fails every question.
    pub(crate) fn fail_everything(&self, why: &AskError) {
        let (slots, free) = {
            let mut table = self.table.lock();
            table.counts = HashMap::new();
            table.limited = 0;
            (std::mem::take(&mut table.slots), std::mem::take(&mut table.free))
        };
        drop(free);
        for asked in slots.into_iter().filter_map(|slot| slot.ask) {
            asked.reply.fail(why.clone());
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        let table = self.table.lock();
        table.slots.len() - table.free.len()
    }
}

/// The id of the asker with that key.
pub(crate) fn id_of(key: ReplyKey) -> Arc<str> {
    let mut id = String::with_capacity(FUTURE.len() + 28);
    // Writing to a String cannot fail.
    let _ = write!(id, "{FUTURE}{:x}.{:016x}", key.slot, key.secret);
    Arc::from(id)
}

/// The key in an asker's id; `None` for the id of anybody else.
pub(crate) fn key_of(id: &str) -> Option<ReplyKey> {
    let (slot, secret) = id.strip_prefix(FUTURE)?.split_once('.')?;
    if secret.len() != 16 || slot.len() > 8 || slot.starts_with('+') || secret.starts_with('+') {
        return None;
    }
    Some(ReplyKey {
        slot: u32::from_str_radix(slot, 16).ok()?,
        secret: u64::from_str_radix(secret, 16).ok()?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nexus_actor_core::remote::Route;
    use nexus_actor_core::serialization::DecodeError;

    /// Keeps what it is told.
    #[derive(Default)]
    pub(crate) struct Asker(pub(crate) Lock<Vec<AskError>>);

    impl PendingReply for Asker {
        fn complete(&self, _: &[u8]) -> Result<(), DecodeError> {
            Ok(())
        }
        fn fail(&self, error: AskError) {
            self.0.lock().push(error);
        }
        fn pending_at(&self, _: Option<(Arc<dyn Route>, ReplyKey)>) {}
        fn is_over(&self) -> bool {
            false
        }
    }

    /// Covers: S109
    #[test]
    fn an_answer_is_taken_once_and_by_its_whole_id() {
        let asks = PendingAsks::new(7, 10);
        let (a, b): (Arc<str>, Arc<str>) = ("a:1".into(), "b:1".into());
        let asker = Arc::new(Asker::default());
        let first = asks.insert(asker.clone(), &a, 0).expect("room");
        let second = asks.insert(asker.clone(), &b, 0).expect("room");
        assert_ne!(first, second);
        assert_eq!(key_of(&id_of(first)), Some(first));
        for wrong in [
            ReplyKey { secret: first.secret ^ 1, ..first },
            ReplyKey { slot: second.slot, ..first },
            ReplyKey { slot: 99, ..first },
        ] {
            assert!(asks.take(wrong).is_none(), "{wrong:?}");
        }
        assert!(asks.take(first).is_some());
        assert!(asks.take(first).is_none(), "answered once");
        assert_eq!(asks.fail_all(&a, &AskError::Unreachable), 0);
        assert_eq!(asks.fail_all(&b, &AskError::Unreachable), 1);
        assert_eq!(*asker.0.lock(), [AskError::Unreachable]);
        assert!(asks.take(second).is_none());
        assert_eq!(asks.len(), 0);
    }

    #[test]
    fn a_sign_of_life_is_given_up_with_the_connection_it_was_asked_by() {
        let asks = PendingAsks::new(7, 10);
        let at: Arc<str> = "a:1".into();
        let (question, touch) = (Arc::new(Asker::default()), Arc::new(Asker::default()));
        asks.insert(question.clone(), &at, 0).expect("room");
        asks.insert_touch(touch.clone(), &at, 0).expect("room");
        asks.insert_touch(touch.clone(), &at, 1).expect("room");
        assert_eq!(asks.give_up_touches(&"a:1".into(), 1), 0);
        assert_eq!(asks.give_up_touches(&at, 1), 1);
        assert_eq!((asks.len(), question.0.lock().len(), touch.0.lock().len()), (2, 0, 1));
    }

    #[test]
    fn a_table_that_is_full_refuses() {
        for (max, per_address) in [(2, 9), (9, 2)] {
            check_full(&PendingAsks::with_max(7, max, per_address));
        }
    }

    fn check_full(asks: &PendingAsks) {
        let at: Arc<str> = "a:1".into();
        let keys: Vec<_> =
            (0..2).map(|_| asks.insert(Arc::new(Asker::default()), &at, 0).expect("room")).collect();
        assert!(asks.insert(Arc::new(Asker::default()), &at, 0).is_none());
        // But for the one question whether the peer is there, which costs the others nothing.
        let mut probe = None;
        for _ in 0..3 {
            probe = asks.insert_probe(Arc::new(Asker::default()), &at, 0, probe);
            assert_eq!((probe.is_some(), asks.len()), (true, 3));
        }
        asks.take(keys[0]);
        let key = asks.insert(Arc::new(Asker::default()), &at, 0).expect("room");
        assert!(asks.insert(Arc::new(Asker::default()), &at, 0).is_none());
        for key in [key, keys[1]] {
            asks.take(key);
        }
        assert!(asks.waits_for(&at), "for the peer");
        assert_eq!(asks.give_up_touches(&at, 1), 1);
        assert!(!asks.waits_for(&at));
    }

    #[test]
    fn a_question_of_after_a_loss_outlives_those_before() {
        let asks = PendingAsks::new(7, 10);
        let at: Arc<str> = "a:1".into();
        let [before, after] = [Arc::new(Asker::default()), Arc::new(Asker::default())];
        asks.insert(before.clone(), &at, 0).expect("room");
        let key = asks.insert(after.clone(), &at, 1).expect("room");
        assert_eq!(asks.fail_before(&at, 1, &AskError::Unreachable), 1);
        assert_eq!((before.0.lock().len(), after.0.lock().len(), asks.len()), (1, 0, 1));
        assert!(asks.take(key).is_some());
    }

    #[test]
    fn other_ids_are_nobodys_question() {
        for id in [
            "",
            "echo",
            "future$",
            "future$6",
            "future$1.2",
            "future$+1.0000000000000000",
            "future$1.000000000000000g",
            "x/future$1.0000000000000000",
        ] {
            assert_eq!(key_of(id), None, "{id}");
        }
    }
}
