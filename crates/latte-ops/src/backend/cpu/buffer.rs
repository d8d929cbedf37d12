//! Buffers for results that are not zeroed first: zeroing a new buffer of 12 MB costs as much as many of the operations that fill
//! it.

use std::mem::MaybeUninit;

/// A buffer of values that are not written yet.
#[derive(Debug)]
pub(crate) struct Unwritten<T = f32>(Vec<MaybeUninit<T>>);

impl<T: Copy> Unwritten<T> {
    /// A buffer of `len` values.
    pub(crate) fn new(len: usize) -> Self {
        let mut values = Vec::with_capacity(len);
        // SAFETY: the capacity is `len`, and a value that may be uninitialised needs no initialisation.
        unsafe { values.set_len(len) };
        Self(values)
    }

    /// A buffer of `len` values that are 0 until they are written.
    pub(crate) fn zeros(len: usize) -> Self {
        Self(vec![MaybeUninit::zeroed(); len])
    }

    /// The values, for writing only.
    ///
    /// # Safety
    ///
    /// No value is read before it has been written.
    pub(crate) unsafe fn values_mut(&mut self) -> &mut [T] {
        // SAFETY: `MaybeUninit<T>` has the layout of `T`, any bits are a number, and the caller only writes at first.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.0.len()) }
    }

    /// A pointer to the values.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }

    /// The values.
    ///
    /// # Safety
    ///
    /// Every value has been written.
    pub(crate) unsafe fn written(self) -> Vec<T> {
        let mut values = std::mem::ManuallyDrop::new(self.0);
        // SAFETY: the same allocation, whose ownership `ManuallyDrop` has let go; `MaybeUninit<T>` has the layout of `T`;
        // the caller has written all of it.
        unsafe { Vec::from_raw_parts(values.as_mut_ptr().cast(), values.len(), values.capacity()) }
    }
}

/// A pointer into a result whose parts several threads write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: the code that dereferences the pointer ensures that threads touch disjoint parts.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(pointer: *mut T) -> Self {
        Self(pointer)
    }

    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}
