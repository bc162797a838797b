//! Calls of what is not ours, in the midst of what must go on.

/// Runs `f`, which wakes, drops or calls what belongs to an application, so that a panic inside ends nothing else.
///
/// Whoever does several such things in turn does the rest as well. The panic has been reported by the hook. Without
/// `std` none can be caught.
pub fn contained(f: impl FnOnce()) {
    #[cfg(feature = "std")]
    if let Err(payload) = std::panic::catch_unwind(core::panic::AssertUnwindSafe(f)) {
        // It may panic again as it is dropped.
        core::mem::forget(payload);
    }
    #[cfg(not(feature = "std"))]
    f();
}
