//! Values on cache lines of their own.

use std::ops::Deref;

/// Keeps what one thread writes off the lines that others read.
///
/// 128 bytes: x86 prefetches lines in pairs, and Apple's cores have lines of that length.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Line<T>(pub(crate) T);

impl<T> Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
