//! An allocator over a fixed piece of memory: blocks of powers of two, and a list of free ones per size.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The fixed piece of memory, in bytes.
const SIZE: usize = 4 * 1024 * 1024;
/// The smallest block holds a pointer to the next free one.
const BLOCK_MIN: usize = 16;
/// One list per power of two from [`BLOCK_MIN`] to [`SIZE`].
const CLASSES: usize = (SIZE.trailing_zeros() - BLOCK_MIN.trailing_zeros() + 1) as usize;

/// The allocator.
pub struct Heap {
    busy: AtomicBool,
    used_max: AtomicUsize,
    state: UnsafeCell<State>,
}

struct State {
    /// First free block of each class; its first word points to the next.
    free: [Option<NonNull<u8>>; CLASSES],
    /// Bytes of the arena that have ever been handed out.
    top: usize,
    arena: Arena,
}

/// Aligned so that a block of up to a page is aligned to its own size.
#[repr(align(4096))]
struct Arena([u8; SIZE]);

// SAFETY: `state` is only reached through `with`, which lets one caller in at a time.
unsafe impl Sync for Heap {}

impl Heap {
    /// A heap with all its memory free.
    pub const fn new() -> Self {
        let state = State { free: [None; CLASSES], top: 0, arena: Arena([0; SIZE]) };
        Self { busy: AtomicBool::new(false), used_max: AtomicUsize::new(0), state: UnsafeCell::new(state) }
    }

    /// Bytes of the arena that were ever in use.
    pub fn used_max(&self) -> usize {
        self.used_max.load(Ordering::Relaxed)
    }

    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        while self.busy.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        // SAFETY: `busy` was false and is true now, so nobody else is between these lines. `work` allocates nothing.
        let result = work(unsafe { &mut *self.state.get() });
        self.busy.store(false, Ordering::Release);
        result
    }
}

/// Size and list of the block for `layout`; `None` if the heap has none so large or so strictly aligned.
fn block(layout: Layout) -> Option<(usize, usize)> {
    let size = layout.size().max(layout.align()).max(BLOCK_MIN).checked_next_power_of_two()?;
    let class = (size.trailing_zeros() - BLOCK_MIN.trailing_zeros()) as usize;
    (size <= SIZE && layout.align() <= 4096).then_some((size, class))
}

// SAFETY: a block is handed out once until it is returned: it comes either from a free list, which it leaves, or from
// above `top`, which moves past it. Blocks lie within the arena at multiples of the smaller of their size and a
// page, which is a multiple of the layout's alignment, and have at least the layout's size.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((size, class)) = block(layout) else { return null_mut() };
        self.with(|state| {
            if let Some(first) = state.free[class] {
                // SAFETY: blocks in a list are free, at least 16 bytes, 16-aligned, and begin with a link.
                state.free[class] = unsafe { first.cast::<Option<NonNull<u8>>>().read() };
                return first.as_ptr();
            }
            let start = state.top.next_multiple_of(size.min(4096));
            let Some(bytes) = state.arena.0.get_mut(start..start.saturating_add(size)) else {
                return null_mut();
            };
            state.top = start + size;
            self.used_max.store(state.top, Ordering::Relaxed);
            bytes.as_mut_ptr()
        })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let (Some((_, class)), Some(block)) = (block(layout), NonNull::new(pointer)) else { return };
        self.with(|state| {
            // SAFETY: the caller returns a block of this class that nobody uses any more; see `alloc` for its size.
            unsafe { block.cast::<Option<NonNull<u8>>>().write(state.free[class]) };
            state.free[class] = Some(block);
        });
    }
}
