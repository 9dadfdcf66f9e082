//! An allocator that counts, for tests of what shall not allocate.
//!
//! A test installs it for its whole program, which is why each such test has a file of its own:
//!
//! ```
//! use wzp_testkit::allocations::{self, Counting};
//!
//! #[global_allocator]
//! static ALLOCATOR: Counting = Counting;
//!
//! let before = allocations::count();
//! let _on_the_heap = Box::new(1);
//! assert_eq!(allocations::count() - before, 1);
//! ```

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, and how often each thread asked it for memory.
#[derive(Debug, Clone, Copy)]
pub struct Counting;

/// How often the calling thread has asked for memory so far; 0 unless [`Counting`] is installed.
pub fn count() -> u64 {
    COUNT.get()
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is plain data without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and every block is the system allocator's.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `realloc`, and every block is the system allocator's.
        unsafe { System.realloc(ptr, layout, size) }
    }
}
