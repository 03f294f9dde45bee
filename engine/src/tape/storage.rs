//! Where the tape's words live: in mapped memory, or on the heap where loom and Miri watch them.

#[cfg(not(any(tickwire_loom, miri)))]
pub use crate::sys::map::Map as Storage;

#[cfg(any(tickwire_loom, miri))]
pub use heap::Storage;

#[cfg(any(tickwire_loom, miri))]
mod heap {
    use std::{io, ops::Deref};

    /// The same face as a mapping, over the heap.
    #[derive(Debug)]
    pub struct Storage<T>(Box<[T]>);

    impl<T: Default> Storage<T> {
        /// `count` zeroed items.
        #[allow(clippy::unnecessary_wraps)] // a mapping can fail
        pub fn zeroed(count: usize) -> io::Result<Self> {
            Ok(Self((0..count).map(|_| T::default()).collect()))
        }
    }

    impl<T> Deref for Storage<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }
}
