//! A memory allocator for programs that allocate and free large tensors all the time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The system's allocator with a cache of large blocks: a freed block is kept and reused.
///
/// The system returns large blocks to the kernel when they are freed; a new block then costs a page fault, and a zeroed page, for
/// every 4 KiB. A training step allocates the same tensors as the step before, so their memory can stay. On Linux the blocks also
/// ask for pages of 2 MiB.
///
/// A program installs it with
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: latte_ops::CachingAllocator = latte_ops::CachingAllocator::new();
/// # fn main() {
/// #     let first = vec![1f32; 1 << 20];
/// #     let address = first.as_ptr();
/// #     drop(first);
/// #     assert_eq!(vec![0f32; 1 << 20].as_ptr(), address);
/// # }
/// ```
///
/// Blocks of at least 256 KiB are rounded up to the next eighth of a power of two. Blocks in use and idle blocks together take at
/// most a quarter, or 64 MiB if that is more, above the most that was in use at once.
#[derive(Debug)]
pub struct CachingAllocator {
    idle: [Mutex<Stack>; CLASSES],
    idle_bytes: AtomicUsize,
    used_bytes: AtomicUsize,
    most_used_bytes: AtomicUsize,
    most_held_bytes: AtomicUsize,
}

/// The smallest size that is cached.
const SMALLEST: usize = 1 << SMALLEST_LOG;
const SMALLEST_LOG: usize = 18;
/// Size classes between one power of two and the next.
const STEPS: usize = 8;
/// Classes for blocks of up to 64 GiB; larger blocks come from the system.
const CLASSES: usize = (36 - SMALLEST_LOG) * STEPS;
/// Idle bytes that are always kept.
const SLACK: usize = 64 << 20;
/// The size of a large page.
const LARGE_PAGE: usize = 2 << 20;
const SMALL_PAGE: usize = 4096;

/// The idle blocks of one class. Each begins with the address of the next: an allocator cannot allocate a list.
#[derive(Debug)]
struct Stack {
    top: *mut u8,
}

// SAFETY: the stack owns the blocks that it holds; nothing else refers to them.
unsafe impl Send for Stack {}

impl CachingAllocator {
    /// An allocator without idle blocks.
    pub const fn new() -> Self {
        Self {
            idle: [const { Mutex::new(Stack { top: ptr::null_mut() }) }; CLASSES],
            idle_bytes: AtomicUsize::new(0),
            used_bytes: AtomicUsize::new(0),
            most_used_bytes: AtomicUsize::new(0),
            most_held_bytes: AtomicUsize::new(0),
        }
    }

    /// Returns the idle blocks to the system and restarts the statistics: [`CachingAllocator::most_held`] and the idle blocks are
    /// from here on those of a program that begins here, with the blocks that are in use now.
    pub fn forget(&self) {
        self.release(usize::MAX);
        let used = self.used_bytes.load(Ordering::Relaxed);
        self.most_used_bytes.store(used, Ordering::Relaxed);
        self.most_held_bytes.store(used, Ordering::Relaxed);
    }

    /// The most bytes that large blocks, in use and idle, took at once since the start or the last [`CachingAllocator::forget`].
    /// Smaller blocks are not counted.
    pub fn most_held(&self) -> usize {
        self.most_held_bytes.load(Ordering::Relaxed)
    }

    /// As [`CachingAllocator::most_held`], but without idle blocks: the memory that the work itself needs.
    pub fn most_used(&self) -> usize {
        self.most_used_bytes.load(Ordering::Relaxed)
    }

    /// The class of blocks for `layout`; `None` if such blocks are not cached.
    fn class(layout: Layout) -> Option<usize> {
        if layout.size() < SMALLEST || layout.align() > SMALL_PAGE {
            return None;
        }
        // The smallest class whose size is not below.
        let power = (layout.size() - 1).ilog2() as usize; // size lies in (2^power, 2^(power + 1)]
        let step = (layout.size() - (1 << power)).div_ceil((1 << power) / STEPS); // 1 to STEPS
        let index = (power * STEPS + step).checked_sub(SMALLEST_LOG * STEPS)?;
        (index < CLASSES).then_some(index)
    }

    /// The layout of the blocks of a class.
    fn block(class: usize) -> Layout {
        let (power, step) = (SMALLEST_LOG + class / STEPS, class % STEPS);
        let size = (1 << power) + step * ((1 << power) / STEPS);
        let align = if size >= LARGE_PAGE { LARGE_PAGE } else { SMALL_PAGE };
        // SAFETY: the alignment is a power of two, and sizes of classes lie far below the largest that a layout may have.
        unsafe { Layout::from_size_align_unchecked(size, align) }
    }

    fn lock(&self, class: usize) -> MutexGuard<'_, Stack> {
        self.idle[class].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place in an idle block that holds the address of the next.
    #[allow(clippy::cast_ptr_alignment, reason = "blocks are aligned to pages")]
    fn next(block: *mut u8) -> *mut *mut u8 {
        block.cast()
    }

    /// Takes an idle block of the class.
    fn take(&self, class: usize) -> Option<*mut u8> {
        let mut stack = self.lock(class);
        let block = stack.top;
        if block.is_null() {
            return None;
        }
        // SAFETY: an idle block is larger than a pointer and aligned for one, and begins with the address of the next.
        stack.top = unsafe { Self::next(block).read() };
        self.idle_bytes.fetch_sub(Self::block(class).size(), Ordering::Relaxed);
        Some(block)
    }

    /// Keeps a block that was freed.
    fn keep(&self, class: usize, block: *mut u8) {
        let mut stack = self.lock(class);
        // SAFETY: as above, and nothing else refers to the block any more.
        unsafe { Self::next(block).write(stack.top) };
        stack.top = block;
        self.idle_bytes.fetch_add(Self::block(class).size(), Ordering::Relaxed);
    }

    /// Allocates a block from the system.
    fn fresh(&self, class: usize, zeroed: bool) -> *mut u8 {
        let layout = Self::block(class);
        let allocate = || {
            // SAFETY: the layout of a class is not empty.
            unsafe { if zeroed { System.alloc_zeroed(layout) } else { System.alloc(layout) } }
        };
        // Blocks of other sizes may be idle: earlier work with other sizes left them.
        let total = self.used_bytes.load(Ordering::Relaxed) + self.idle_bytes.load(Ordering::Relaxed) + layout.size();
        self.release(total.saturating_sub(self.limit()));
        let mut block = allocate();
        if block.is_null() {
            self.release(usize::MAX);
            block = allocate();
        }
        #[cfg(target_os = "linux")]
        if !block.is_null() && layout.size() >= LARGE_PAGE {
            // SAFETY: the range is a block that the system just gave; the advice changes nothing but how it is backed.
            unsafe { libc::madvise(block.cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        block
    }

    /// The most bytes that blocks in use and idle blocks may take together: sizes that are needed one after the other do not
    /// alternate exactly.
    fn limit(&self) -> usize {
        let most = self.most_used();
        most + (most / 4).max(SLACK)
    }

    /// Returns idle blocks of so many bytes to the system, the largest first; all of them if there are fewer.
    fn release(&self, bytes: usize) {
        let mut released = 0;
        for class in (0..CLASSES).rev() {
            while released < bytes {
                let Some(block) = self.take(class) else { break };
                released += Self::block(class).size();
                // SAFETY: the block came from the system with this layout, and the stack held the only pointer to it.
                unsafe { System.dealloc(block, Self::block(class)) };
            }
        }
    }

    fn hand_out(&self, class: usize, zeroed: bool) -> *mut u8 {
        let size = Self::block(class).size();
        let block = match self.take(class) {
            Some(block) => {
                if zeroed {
                    // SAFETY: the block has `size` bytes, and nothing else refers to it.
                    unsafe { ptr::write_bytes(block, 0, size) };
                }
                block
            }
            None => self.fresh(class, zeroed),
        };
        if !block.is_null() {
            let used = self.used_bytes.fetch_add(size, Ordering::Relaxed) + size;
            self.most_used_bytes.fetch_max(used, Ordering::Relaxed);
            self.most_held_bytes.fetch_max(used + self.idle_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        block
    }
}

impl Default for CachingAllocator {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: small blocks are the system allocator's. A large one has the size and alignment of its class, which are at least
// those of the layout; the class follows from the layout alone, so that a block goes back to the class that it came from; a
// block is either in use or on one stack, never both. Nothing here allocates or panics: classes lie below CLASSES.
unsafe impl GlobalAlloc for CachingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Self::class(layout) {
            Some(class) => self.hand_out(class, false),
            // SAFETY: the caller's contract.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Self::class(layout) {
            Some(class) => self.hand_out(class, true),
            // SAFETY: the caller's contract.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = Self::class(layout) else {
            // SAFETY: the caller's contract; blocks without a class came from the system.
            return unsafe { System.dealloc(block, layout) };
        };
        let own = Self::block(class);
        let used = self.used_bytes.fetch_sub(own.size(), Ordering::Relaxed) - own.size();
        let total = used + self.idle_bytes.load(Ordering::Relaxed) + own.size();
        if total <= self.limit() {
            return self.keep(class, block);
        }
        // SAFETY: the block came from the system with the layout of its class.
        unsafe { System.dealloc(block, own) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: by the caller's contract the new size, rounded up to the alignment, is one that a layout may have.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (Self::class(layout), Self::class(new)) {
            // SAFETY: the caller's contract; both blocks are the system's.
            (None, None) => unsafe { System.realloc(block, layout, new_size) },
            (Some(a), Some(b)) if a == b => block,
            _ => {
                // SAFETY: the new block does not overlap the old one, and both have the smaller of the two sizes.
                unsafe {
                    let moved = self.alloc(new);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 4).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn classes_hold_what_they_are_for() {
        assert_eq!(CachingAllocator::class(layout(SMALLEST - 1)), None);
        let mut last = 0;
        for size in (SMALLEST..40 << 20).step_by(77_777) {
            let class = CachingAllocator::class(layout(size)).unwrap_or(usize::MAX);
            let block = CachingAllocator::block(class).size();
            assert!(block >= size && block - size <= size / STEPS + 1, "{size} in {block}");
            assert!(class >= last && class - last <= STEPS, "{size}");
            last = class;
        }
        assert_eq!(CachingAllocator::class(layout(SMALLEST)), Some(0));
        assert_eq!(CachingAllocator::block(0).size(), SMALLEST);
        assert_eq!(CachingAllocator::class(layout(1 << 40)), None);
    }

    #[test]
    fn blocks_come_back_clean_where_zeros_are_asked_for() {
        let allocator = CachingAllocator::new();
        let layout = layout(3 << 20);
        // SAFETY: each block is used with its layout and freed once.
        unsafe {
            let block = allocator.alloc(layout);
            ptr::write_bytes(block, 7, layout.size());
            let other = allocator.alloc(layout);
            assert_ne!(block, other);
            allocator.dealloc(block, layout);
            let again = allocator.alloc_zeroed(layout);
            assert_eq!(again, block);
            assert!(std::slice::from_raw_parts(again, layout.size()).iter().all(|&v| v == 0));
            allocator.dealloc(other, layout);
            allocator.dealloc(again, layout);
        }
        assert_eq!(allocator.used_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(allocator.most_used(), 2 * layout.size());
        allocator.release(usize::MAX);
        assert_eq!(allocator.idle_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn growing_keeps_the_values_across_all_kinds_of_blocks() {
        let allocator = CachingAllocator::new();
        let sizes = [1000, 300_000, 301_000, 5_000_000, 700_000, 10];
        // SAFETY: as above.
        unsafe {
            let mut block = allocator.alloc(layout(sizes[0]));
            *block = 42;
            for pair in sizes.windows(2) {
                block = allocator.realloc(block, layout(pair[0]), pair[1]);
                assert_eq!(*block, 42);
            }
            allocator.dealloc(block, layout(sizes[5]));
        }
        assert_eq!(allocator.used_bytes.load(Ordering::Relaxed), 0);
        allocator.release(usize::MAX);
    }

    #[test]
    fn what_was_held_at_most_is_known_and_can_be_forgotten() {
        let allocator = CachingAllocator::new();
        let (small, large) = (layout(1 << 20), layout(8 << 20));
        // SAFETY: as above.
        unsafe {
            let kept = allocator.alloc(small);
            allocator.dealloc(allocator.alloc(large), large);
            assert_eq!(allocator.most_held(), 9 << 20);
            // The large block is idle now, and still held.
            let other = allocator.alloc(small);
            assert_eq!(allocator.most_held(), 10 << 20);
            allocator.dealloc(other, small);
            allocator.forget();
            assert_eq!((allocator.most_held(), allocator.idle_bytes.load(Ordering::Relaxed)), (1 << 20, 0));
            allocator.dealloc(kept, small);
        }
        allocator.release(usize::MAX);
    }

    #[test]
    fn idle_blocks_do_not_pile_up() {
        let allocator = CachingAllocator::new();
        // One size of work after the other: never more than one block is in use.
        for size in (1..20).map(|i| i * (30 << 20)) {
            // SAFETY: as above.
            unsafe { allocator.dealloc(allocator.alloc(layout(size)), layout(size)) };
            let idle = allocator.idle_bytes.load(Ordering::Relaxed);
            assert!(idle <= allocator.limit(), "{idle} after {size}");
        }
        allocator.release(usize::MAX);
    }
}
