//! The payloads of a queue, end to end.

use std::collections::VecDeque;

/// Room for many small payloads, or for one large one.
const CHUNK: usize = 64 * 1024;
/// Emptied chunks kept for what comes next.
const SPARE: usize = 4;

/// Payloads in the order they came, copied end to end into chunks that are used again: in the steady state nothing is
/// allocated for a message, and nothing is ever moved to make room. Each chunk goes as soon as its last payload is
/// taken, so the memory held follows the bytes that wait.
#[derive(Debug, Default)]
pub(crate) struct PayloadArena {
    /// A payload lies within one chunk. The first is read, the last is written.
    chunks: VecDeque<Vec<u8>>,
    /// What has been taken of the first chunk.
    taken: usize,
    lengths: VecDeque<u32>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl PayloadArena {
    /// Bytes of all payloads.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of the oldest payloads fit into `bytes`, at most `max`; the oldest always does.
    pub(crate) fn fitting(&self, max: usize, bytes: usize) -> usize {
        let mut left = bytes;
        let mut count = 0;
        for length in self.lengths.iter().take(max) {
            let length = *length as usize;
            if length > left && count > 0 {
                break;
            }
            left = left.saturating_sub(length);
            count += 1;
        }
        count
    }

    pub(crate) fn push(&mut self, payload: &[u8]) {
        let fits = |chunk: &Vec<u8>| payload.len() <= chunk.capacity() - chunk.len();
        let chunk = match self.chunks.back_mut().filter(|chunk| fits(chunk)) {
            Some(chunk) => chunk,
            None => self.begin(payload.len()),
        };
        chunk.extend_from_slice(payload);
        self.bytes += payload.len();
        // The wire takes 4 MiB at most.
        self.lengths.push_back(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    }

    fn begin(&mut self, length: usize) -> &mut Vec<u8> {
        let chunk = match self.spare.pop() {
            Some(chunk) if length <= CHUNK => chunk,
            spare => {
                self.spare.extend(spare);
                Vec::with_capacity(length.max(CHUNK))
            }
        };
        self.chunks.push_back(chunk);
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    /// Takes the oldest payload: appends it to `into` and returns its length.
    pub(crate) fn pop_into(&mut self, into: &mut Vec<u8>) -> Option<u32> {
        let length = self.lengths.pop_front()?;
        let mut end = self.taken + length as usize;
        if length > 0 {
            while let Some(first) = self.chunks.front()
                && self.taken == first.len()
            {
                self.retire();
                end = length as usize;
            }
            if let Some(first) = self.chunks.front() {
                into.extend_from_slice(&first[self.taken..end]);
                self.taken = end;
                if end == first.len() {
                    self.retire();
                }
            }
        }
        self.bytes -= length as usize;
        Some(length)
    }

    /// The first chunk has been read to its end.
    fn retire(&mut self) {
        self.taken = 0;
        if let Some(mut chunk) = self.chunks.pop_front()
            && chunk.capacity() <= CHUNK
            && self.spare.len() < SPARE
        {
            chunk.clear();
            self.spare.push(chunk);
        }
    }

    /// Gives back what nothing waits in.
    pub(crate) fn shrink(&mut self) {
        self.spare = Vec::new();
        self.lengths.shrink_to(self.lengths.len());
        self.chunks.shrink_to(self.chunks.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(
            steps in prop::collection::vec(prop_oneof![
                3 => (0_usize..300).prop_map(Some),
                1 => (30_000_usize..200_000).prop_map(Some),
                4 => Just(None),
            ], 0..200)
        ) {
            let mut arena = PayloadArena::default();
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Some(length) => {
                        let payload = vec![n as u8; length];
                        arena.push(&payload);
                        model.push_back(payload);
                    }
                    None => {
                        let mut out = vec![7];
                        let length = arena.pop_into(&mut out);
                        let expected = model.pop_front();
                        prop_assert_eq!(length.map(|l| l as usize), expected.as_ref().map(Vec::len));
                        prop_assert_eq!(&out[1..], &expected.unwrap_or_default()[..]);
                    }
                }
                let waiting: usize = model.iter().map(Vec::len).sum();
                prop_assert_eq!(arena.bytes(), waiting);
                // Each chunk but the first and the last is at least a third full: one that is left has no room for
                // what came then.
                let held: usize = arena.chunks.iter().map(Vec::capacity).sum();
                prop_assert!(held <= 3 * waiting + 2 * 200_000, "{} for {}", held, waiting);
            }
        }
    }

    #[test]
    fn memory_follows_what_waits() {
        let mut arena = PayloadArena::default();
        let mut out = Vec::new();
        for _ in 0..10_000 {
            arena.push(&[1; 1_000]);
        }
        assert_eq!(arena.fitting(5, 2_500), 2);
        assert_eq!(arena.fitting(5, 10), 1);
        assert_eq!(arena.fitting(5, usize::MAX), 5);
        for _ in 0..9_000 {
            arena.pop_into(&mut out);
        }
        assert!(arena.chunks.len() <= 17, "{} chunks for 1 MB", arena.chunks.len());
        while arena.pop_into(&mut out).is_some() {}
        assert!(arena.chunks.len() <= 1 && arena.spare.len() <= SPARE);
        arena.shrink();
        assert_eq!((arena.spare.capacity(), arena.lengths.capacity()), (0, 0));
    }
}
