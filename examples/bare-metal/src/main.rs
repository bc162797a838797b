//! Two actor systems exchange messages without the standard library: this program is `no_std`, has its own
//! allocator and panic handler, and drives both systems on one `PumpRuntime`.
//!
//! ```text
//! cargo run --manifest-path examples/bare-metal/Cargo.toml
//! ```
//!
//! It exits with 0 only if every message came back. What it needs of a platform is in [`platform`]: a way to
//! print and to stop, here two functions of the C library so that it runs on an ordinary Linux machine. On a
//! microcontroller these are a serial port and a reset, `main` is the reset handler, and the clock is fed from a
//! timer by `PumpRuntime::set_time`.

#![no_std]
#![no_main]

extern crate alloc;

mod exchange;
mod heap;
mod platform;

use core::ffi::c_int;
use core::fmt::Write;
use core::panic::PanicInfo;

use platform::Console;

/// All the memory there is.
#[global_allocator]
static HEAP: heap::Heap = heap::Heap::new();

// SAFETY: the C start-up code looks for exactly this symbol and calls it once; nothing else has the name.
#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    let code = match exchange::run() {
        Ok(rounds) => {
            let peak = HEAP.used_max() / 1024;
            let _ = writeln!(
                Console,
                "{rounds} messages went from north to south and back; {peak} KiB of heap used"
            );
            0
        }
        Err(error) => {
            let _ = writeln!(Console, "failed: {error}");
            1
        }
    };
    platform::stop(code)
}

// The `alloc` crate as it is delivered was compiled to unwind and names the two functions of that. With
// `panic = "abort"` nothing calls them. Targets without an operating system deliver an `alloc` that aborts.
// SAFETY: no other object defines the name, and what it does is never relied on.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    platform::stop(102)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "{info}");
    platform::stop(101)
}
