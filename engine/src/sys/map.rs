//! Anonymous memory: zeroed by the kernel, and costing nothing until it is touched.

use std::{
    io,
    marker::PhantomData,
    ops::Deref,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU32, AtomicU64},
};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// What a [`Map`] can hold: atomics, and arrays of them.
///
/// # Safety
///
/// All-zero bytes are a valid value, every thread may use it through `&`, it needs no drop, and
/// its alignment is at most a page's.
pub unsafe trait Zeroed: Send + Sync {}

// SAFETY: zero bytes are the integer 0, atomics are made for sharing, and are at most 8 aligned.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: as above.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: an array is its elements, without anything between or after them.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

/// A private anonymous mapping, used as a slice of atomics that starts out all zero.
///
/// No page is touched before someone uses it, so that a tape sized for the peak costs only what
/// was written to it. It is page-aligned, hence cache-line aligned, and unmapped on drop.
#[derive(Debug)]
pub struct Map<T: Zeroed> {
    start: NonNull<T>,
    count: usize,
    items: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone, and `T` may be used from every thread.
unsafe impl<T: Zeroed> Send for Map<T> {}
// SAFETY: as above; all access goes through `&[T]`.
unsafe impl<T: Zeroed> Sync for Map<T> {}

impl<T: Zeroed> Map<T> {
    /// Maps `count` items.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where `count` is 0 or the size overflows; else the kernel's own, which is
    /// `OutOfMemory` where memory and overcommit policy do not allow the size.
    pub fn zeroed(count: usize) -> io::Result<Self> {
        let bytes = count
            .checked_mul(size_of::<T>())
            .filter(|&bytes| bytes > 0 && isize::try_from(bytes).is_ok())
            .ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel chooses the address, so no existing mapping is replaced.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            start,
            count,
            items: PhantomData,
        })
    }
}

impl<T: Zeroed> Deref for Map<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `count` items, page-aligned, readable and writable, zeroed by
        // the kernel, which `Zeroed` makes valid; it lives until drop, and being anonymous and
        // private nobody can truncate or change it from outside. Only `&[T]` is ever handed out.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T: Zeroed> Drop for Map<T> {
    fn drop(&mut self) {
        // SAFETY: exactly what `zeroed` mapped; `&mut self` proves that no reference into it is
        // left. Unmapping a whole mapping cannot fail, so there is nothing to handle.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.count * size_of::<T>()) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn a_map_starts_out_zero_and_keeps_what_is_stored() {
        let map = Map::<[AtomicU64; 16]>::zeroed(1_000).unwrap();
        assert_eq!(map.len(), 1_000);
        assert_eq!(map.as_ptr() as usize % 4_096, 0);
        assert!(map.iter().flatten().all(|word| word.load(Relaxed) == 0));
        map[999][15].store(7, Relaxed);
        assert_eq!(map[999][15].load(Relaxed), 7);
    }

    #[test]
    fn a_huge_map_touches_no_page_at_start() {
        let resident_pages = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
        };
        let before = resident_pages();
        let map = Map::<AtomicU64>::zeroed((1 << 30) / 8).unwrap();
        map[1 << 20].store(1, Relaxed);
        // Other tests run beside this one; a GiB would be 262,144 pages.
        assert!(resident_pages() < before + 50_000);
    }

    #[test]
    fn a_map_is_given_back_on_drop() {
        // Together far more than the address space of 47 bits holds.
        for _ in 0..300_000 {
            drop(Map::<AtomicU64>::zeroed((1 << 30) / 8).unwrap());
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for count in [0, usize::MAX, usize::MAX / 8, 1 << 58] {
            assert!(Map::<AtomicU64>::zeroed(count).is_err(), "{count}");
        }
    }
}
