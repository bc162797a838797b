//! All that is asked of the platform: print and stop.

use core::ffi::{c_int, c_void};
use core::fmt;

// SAFETY: these are the declarations of POSIX `write` and C `exit`.
#[link(name = "c")]
unsafe extern "C" {
    fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize;
    safe fn exit(code: c_int) -> !;
}

/// Standard output.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            // SAFETY: pointer and length are those of a live slice, which `write` only reads.
            let written = unsafe { write(1, rest.as_ptr().cast(), rest.len()) };
            match usize::try_from(written) {
                Ok(written) if written > 0 => rest = rest.get(written..).unwrap_or_default(),
                _ => return Err(fmt::Error),
            }
        }
        Ok(())
    }
}

/// Ends the program.
pub fn stop(code: c_int) -> ! {
    exit(code)
}
