//! Whole matmuls, spread over all threads in blocks.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::bf16;
use rayon::prelude::*;

use super::pack::{self, Left};
use super::tile::{LANES, ROWS};
use super::{Epilogue, Operand, Packed, Right, tiles};
use crate::backend::cpu::buffer::{Shared, Unwritten};

/// Rows of the left operand in one task: each panel is fetched once for all of them.
const BLOCK_ROWS: usize = 192;
/// Rows of the left operand in the smallest task of a large matmul.
const UNIT_ROWS: usize = 48;
/// Columns of the result between two calls of the epilogue: whole panels of any width; a block of rows of so many columns fits the
/// L2 cache.
const BLOCK_COLUMNS: usize = 256;
/// The row stride of a block that is not in its final place: not a power of two, which would put all rows into few sets of the
/// cache.
const SUMS_STRIDE: usize = BLOCK_COLUMNS + LANES;

/// `a · b` as rows of `b.n`, on all threads.
///
/// # Panics
///
/// If `a` is too short.
pub(crate) fn multiply<'a>(m: usize, a: impl Into<Operand<'a>>, b: &Packed, epilogue: &impl Epilogue) -> Vec<f32> {
    let mut out = Unwritten::new(m * b.n);
    // SAFETY: `out` is m rows of b.n values.
    unsafe { multiply_into(m, &a.into(), b, Target::Values(Shared::new(out.as_mut_ptr())), epilogue) };
    // SAFETY: the matmul has written all of it.
    unsafe { out.written() }
}

/// [`multiply`] with a result that is rounded to bfloat16 after the epilogue, in the same way as a matmul rounds its operands. The
/// f32 values never leave the cache. `None` if this is not implemented: for an odd number of columns, or a matmul whose depth does
/// not fit one tile.
///
/// # Panics
///
/// If `a` is too short, or the kernel is not one of pairs.
pub(crate) fn multiply_to_pairs<'a>(
    m: usize,
    a: impl Into<Operand<'a>>,
    b: &Packed,
    epilogue: &impl Epilogue,
) -> Option<Vec<bf16>> {
    assert!(b.kernel.pairs(), "a kernel of pairs");
    if !b.n.is_multiple_of(2) || b.k > b.kernel.depth_limit() {
        return None;
    }
    let mut out = Unwritten::new(m * b.n);
    // SAFETY: `out` is m rows of b.n values.
    unsafe { multiply_into(m, &a.into(), b, Target::Pairs(Shared::new(out.as_mut_ptr())), epilogue) };
    // SAFETY: the matmul has written all of it.
    Some(unsafe { out.written() })
}

/// The result of a matmul, row by row.
#[derive(Debug, Clone, Copy)]
enum Target {
    Values(Shared<f32>),
    Pairs(Shared<bf16>),
}

/// `a · b` to `target`.
///
/// # Safety
///
/// `target` is `m` rows of `b.n` values, and nothing else touches it.
///
/// # Panics
///
/// If `a` is too short.
unsafe fn multiply_into(m: usize, a: &Operand<'_>, b: &Packed, target: Target, epilogue: &impl Epilogue) {
    let (k, n) = (b.k, b.n);
    assert!(a.holds(b.kernel, m, k), "a matrix of {m}×{k} that fits its slice");
    if m * n > 0 {
        let [unit, block_columns] = blocks(m, n, b.kernel.width());
        let (units, column_blocks) = (m.div_ceil(unit), n.div_ceil(block_columns));
        let most = if column_blocks == 1 { BLOCK_ROWS / UNIT_ROWS } else { 1 };
        in_turn(units * column_blocks, most, |tasks| {
            // Tasks go down the rows; only if all columns are one block does a call get several tasks.
            let column = tasks.start / units * block_columns;
            let row = tasks.start % units * unit;
            let rows = row..(row + tasks.len() * unit).min(m);
            let columns = column..(column + block_columns).min(n);
            // SAFETY: `target` has m·n values, and no other task writes these rows and columns.
            unsafe { block(a, b, rows, columns, target, epilogue) };
        });
    }
}

/// Rows of the smallest task, and columns of all tasks: the tasks are as large as possible, but enough for all threads.
fn blocks(m: usize, n: usize, width: usize) -> [usize; 2] {
    let wanted = 8 * rayon::current_num_threads();
    let rows = (m.div_ceil(wanted).next_multiple_of(ROWS)).clamp(ROWS, UNIT_ROWS);
    let columns = n.div_ceil(wanted.div_ceil(m.div_ceil(rows))).next_multiple_of(width);
    [rows, columns]
}

/// Runs tasks `0..count` on all threads, in the order of their numbers: up to `most` at once while many are left, and one at a time
/// towards the end, so that no thread waits long for the last one.
pub(crate) fn in_turn(count: usize, most: usize, work: impl Fn(Range<usize>) + Sync) {
    let threads = rayon::current_num_threads();
    let next = AtomicUsize::new(0);
    let behind = |first: usize| first + ((count - first) / (2 * threads)).clamp(1, most);
    (0..threads.min(count)).into_par_iter().with_max_len(1).for_each(|_| {
        while let Ok(first) =
            next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |first| (first < count).then(|| behind(first)))
        {
            work(first..behind(first));
        }
    });
}

thread_local! {
    /// Packed left operands, and sums before rounding.
    static SCRATCH: RefCell<(Vec<u32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// One block of the result, on the calling thread.
///
/// # Safety
///
/// `target` has as many rows of `b.n` values as `a`, and nothing else touches these rows and columns of it. Pairs need an even
/// `b.n` and a depth that fits one tile.
unsafe fn block(
    a: &Operand<'_>,
    b: &Packed,
    rows: Range<usize>,
    columns: Range<usize>,
    target: Target,
    epilogue: &impl Epilogue,
) {
    let (kernel, k, n) = (b.kernel, b.k, b.n);
    let parts = k.div_ceil(kernel.depth_limit()).max(1);
    // Even, so that no pair of bfloat16 is split.
    let part = k.div_ceil(parts).next_multiple_of(2).max(1);
    SCRATCH.with_borrow_mut(|(words, sums)| {
        for start in (0..k.max(1)).step_by(part) {
            let ks = start..(start + part).min(k);
            let left = match a {
                Operand::Values(a) => pack::left(kernel, a, rows.clone(), ks.clone(), words),
                Operand::Pairs(pairs) => Left::rows(pairs.at(rows.start, kernel.depth(start)), pairs.stride),
            };
            for first in columns.clone().step_by(BLOCK_COLUMNS) {
                let columns = first..(first + BLOCK_COLUMNS).min(columns.end);
                let (out, stride) = match target {
                    // SAFETY: inside the result.
                    Target::Values(out) => (unsafe { out.get().add(rows.start * n + columns.start) }, n),
                    Target::Pairs(_) => {
                        sums.resize(rows.len() * SUMS_STRIDE, 0.0);
                        (sums.as_mut_ptr(), SUMS_STRIDE)
                    }
                };
                // SAFETY: blocks begin at whole panels, and parts at whole words; the block lies inside the result or `sums`.
                unsafe {
                    let panel = b.as_ptr().add(columns.start / kernel.width() * b.panel_words());
                    let b = Right { words: panel.add(kernel.depth(start) * kernel.width()), panel: b.panel_words() };
                    tiles(kernel, [rows.len(), kernel.depth(ks.len()), columns.len()], left, b, out, stride, start > 0);
                }
                if ks.end < k {
                    continue;
                }
                for (i, row) in rows.clone().enumerate() {
                    // SAFETY: inside the block, written by the tiles, and no other task touches it.
                    let values = unsafe { std::slice::from_raw_parts_mut(out.add(i * stride), columns.len()) };
                    epilogue.apply(row, columns.clone(), values);
                    if let Target::Pairs(out) = target {
                        // SAFETY: inside the result, and no other task writes it.
                        unsafe { pack::round_row(out.get().add(row * n + columns.start), values) };
                    }
                }
            }
        }
    });
}
