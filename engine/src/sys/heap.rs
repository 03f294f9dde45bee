//! The allocator, where it is mimalloc.

/// Returns the calling thread's free memory to the system, with what other threads have freed of it.
///
/// A process that allocates by other means keeps its memory as it is.
pub fn give_back() {
    // SAFETY: it takes no pointers, and may be called at any time by any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
