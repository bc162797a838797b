//! A frame that is being written.

use alloc::vec::Vec;

use crate::wire::error::{WireError, WireRule};
use crate::wire::header::patch_length;

/// A frame that has been begun in a buffer. Unless it is finished, its bytes are taken back when this is dropped:
/// on an error, on a refusal and on a panic of the code that encodes.
#[derive(Debug)]
pub(super) struct OpenFrame<'v> {
    pub(super) out: &'v mut Vec<u8>,
    pub(super) start: usize,
    frame_max: u32,
    pub(super) finished: bool,
}

impl<'v> OpenFrame<'v> {
    #[inline]
    pub(super) const fn begin(out: &'v mut Vec<u8>, frame_max: u32) -> Self {
        let start = out.len();
        Self { out, start, frame_max, finished: false }
    }

    /// Bytes the frame may still grow, `reserved` set aside.
    #[inline]
    pub(super) fn room(&self, reserved: usize) -> usize {
        let taken = (self.out.len() - self.start).saturating_sub(4) + reserved;
        usize::try_from(self.frame_max).unwrap_or(usize::MAX).saturating_sub(taken)
    }

    #[inline]
    pub(super) fn finish(mut self) -> Result<usize, WireError> {
        let total = self.out.len() - self.start;
        let limit = usize::try_from(self.frame_max).unwrap_or(usize::MAX);
        if total - 4 > limit {
            return Err(WireError::new("frame.len", WireRule::TooLong { length: total - 4, limit }));
        }
        patch_length(self.out, self.start);
        self.finished = true;
        Ok(total)
    }
}

impl Drop for OpenFrame<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.out.truncate(self.start);
        }
    }
}
