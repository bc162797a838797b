//! Bytes that a decoder has to survive, and the rounds in which it is given them.

use alloc::vec::Vec;

use fastrand::Rng;

/// How many inputs of each sort are made, and from which seed.
///
/// `NEXUS_FUZZ_ROUNDS` and `NEXUS_FUZZ_SEED` override what a test asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostileRounds {
    /// Inputs of each sort.
    pub count: u64,
    seed: u64,
}

impl HostileRounds {
    /// `count` rounds from `seed`, unless the environment says otherwise.
    ///
    /// # Panics
    /// When a variable of the environment is set and not a number.
    #[must_use]
    pub fn from_env(count: u64, seed: u64) -> Self {
        Self { count: setting("NEXUS_FUZZ_ROUNDS", count), seed: setting("NEXUS_FUZZ_SEED", seed) }
    }

    /// Runs `round` so many times. When it panics, `sort`, the seed and the number of the round are printed.
    pub fn run(&self, sort: &'static str, mut round: impl FnMut(&mut Rng)) {
        let mut rng = Rng::with_seed(self.seed);
        let mut at = Round { seed: self.seed, sort, number: 0 };
        while at.number < self.count {
            round(&mut rng);
            at.number += 1;
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Says how to come back when a round fails.
struct Round {
    seed: u64,
    sort: &'static str,
    number: u64,
}

impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::eprintln!("NEXUS_FUZZ_SEED={} failed at {} round {}", self.seed, self.sort, self.number);
        }
    }
}

/// Appends `length` random bytes to `out`.
pub fn fill(rng: &mut Rng, length: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + length, 0);
    rng.fill(&mut out[start..]);
}

/// Damages `bytes` in one place: a bit, a byte, the end, more or fewer bytes, or the rest of another of `corpus`, which
/// holds sound inputs. An empty input stays as it is.
pub fn damage(rng: &mut Rng, corpus: &[Vec<u8>], bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.usize(..bytes.len());
    match rng.u8(0..8) {
        0 => bytes[at] ^= 1 << rng.u8(0..8),
        1 => bytes[at] = rng.u8(..),
        2 => bytes[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap_or(&0),
        3 => bytes.truncate(at),
        4 => {
            let count = rng.usize(0..40);
            fill(rng, count, bytes);
        }
        5 => {
            bytes.remove(at);
        }
        6 => bytes.insert(at, rng.u8(..)),
        _ => {
            if let Some(other) = rng.choice(corpus).filter(|other| !other.is_empty()) {
                let from = rng.usize(..other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}
