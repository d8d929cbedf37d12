//! The convolution as matmuls of blocks of output positions, on all threads.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::{Packed3d, Target};
use crate::backend::Prepared3d;
use crate::backend::cpu::gemm::multiply_part;
use crate::backend::cpu::vectorised::vectorised;
use crate::ops::conv3d::{Conv3d, Sizes, Window};

/// Output positions of one task at most: with one part of the depth they fill a tenth of the L2 cache.
const PLACES: usize = 96;
/// Rows of a tile: blocks are a multiple of it, so that only the last tile of all is partly full.
const TILE: usize = 6;
/// Values of a piece: short lines are copied in whole pieces, without a call of `memcpy`.
const PIECE: usize = 16;
/// The longest line that counts as short.
const SHORT: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The convolution of `x` of `sizes`.
///
/// # Safety
///
/// The convolution's output channels can be written at every position of `target`, and nothing else touches them meanwhile.
pub(super) unsafe fn run(x: &[f32], convolution: &Conv3d, sizes: &Sizes, target: Target) {
    let Prepared3d::Packed(form) = &convolution.prepared else { unreachable!("the caller has looked") };
    let (places, n) = (sizes.places(), convolution.output_channels());
    let [block_places, block_columns] = blocks(places, n, form.packed.kernel.width());
    let rows = places.div_ceil(block_places);
    (0..rows * n.div_ceil(block_columns)).into_par_iter().with_max_len(1).for_each(|task| {
        let (place, column) = (task % rows * block_places, task / rows * block_columns);
        let block = place..(place + block_places).min(places);
        let columns = column..(column + block_columns).min(n);
        // SAFETY: inside the target, and no other task writes these positions and columns.
        unsafe { run_block(x, (convolution, form), sizes, block, columns, target) };
    });
}

/// Positions and columns of one task. There are enough tasks for all threads; positions are split before columns, because columns
/// share the copied patches.
fn blocks(places: usize, n: usize, width: usize) -> [usize; 2] {
    let wanted = 6 * rayon::current_num_threads();
    let rows = places.div_ceil(PLACES);
    let block_places = places.div_ceil(rows).next_multiple_of(TILE);
    let columns = wanted.div_ceil(rows).min(n.div_ceil(width));
    [block_places, n.div_ceil(columns).next_multiple_of(width)]
}

/// One task.
///
/// # Safety
///
/// As [`run`], for these positions and columns.
unsafe fn run_block(
    x: &[f32],
    (convolution, form): (&Conv3d, &Packed3d),
    sizes: &Sizes,
    places: Range<usize>,
    columns: Range<usize>,
    target: Target,
) {
    let (Conv3d { window, relu, .. }, Packed3d { packed, bias, .. }) = (convolution, form);
    let limit = packed.kernel.depth_limit();
    let line = window.size[2] * sizes.channels[0];
    let depth = window.size[0] * window.size[1] * line;
    // Whole lines per part if lines are short, else parts of equal length.
    let part = if line <= SHORT { (limit / line).max(1) * line } else { depth.div_ceil(depth.div_ceil(limit)) };
    let in_place = *window == Window::valid([1; 3]);
    // SAFETY: inside the target.
    let out = unsafe { target.first.get().add(places.start * target.stride + columns.start) };
    SCRATCH.with_borrow_mut(|scratch| {
        for start in (0..depth).step_by(part) {
            let ks = start..(start + part).min(depth);
            let (left, stride) = if in_place {
                (&x[places.start * depth + start..], depth)
            } else {
                gather(x, window, sizes, places.clone(), ks.clone(), scratch);
                (scratch.as_slice(), ks.len())
            };
            // SAFETY: the block of the target, which only this task writes.
            unsafe { multiply_part(out, target.stride, places.len(), left, stride, packed, columns.clone(), ks, start > 0) };
        }
    });
    for row in 0..places.len() {
        // SAFETY: written above, and no other task touches it.
        let values = unsafe { std::slice::from_raw_parts_mut(out.add(row * target.stride), columns.len()) };
        finish(values, &bias[columns.clone()], *relu);
    }
}

vectorised! {
    /// Adds the bias at one position, and applies ReLU if it is asked for.
    fn finish(values: &mut [f32], bias: &[f32], relu: bool) {
        let least = if relu { 0.0 } else { f32::NEG_INFINITY };
        for (value, bias) in values.iter_mut().zip(bias) {
            let sum = *value + bias;
            // Not `max`, which would turn NaN into 0.
            *value = if sum < least { least } else { sum };
        }
    }
}

vectorised! {
    /// Copies the part `ks` of the patch at each of `places`, one row after the other.
    fn gather(x: &[f32], window: &Window, sizes: &Sizes, places: Range<usize>, ks: Range<usize>, scratch: &mut Vec<f32>) {
        let c = sizes.channels[0];
        let line = window.size[2] * c;
        let row_len = sizes.volume[2] * c;
        // Whole pieces of the last line may write beyond its end.
        scratch.resize(places.len() * ks.len() + PIECE, 0.0);
        let lines = ks.start / line..ks.end.div_ceil(line);
        for (index, place) in places.enumerate() {
            let [n, t, y, x_place] = sizes.place(place);
            let at = |axis: usize, place: usize, step: usize| {
                (place * window.stride[axis] + step).checked_sub(sizes.front[axis])
            };
            let row_start = index * ks.len();
            // The offset of the line in its row of the volume; negative if the line begins before the row.
            let first = (x_place * window.stride[2] * c) as isize - (sizes.front[2] * c) as isize;
            for number in lines.clone() {
                let (dt, dy) = (number / window.size[1], number % window.size[1]);
                let part = (number * line).max(ks.start)..((number + 1) * line).min(ks.end);
                let out = row_start + part.start - ks.start;
                let len = part.len();
                let Some(row) = sizes.row(n, at(0, t, dt), at(1, y, dy)) else {
                    scratch[out..out + len].fill(0.0);
                    continue;
                };
                let from = first + (part.start - number * line) as isize;
                // The length of the part before the row, and the offset where the part lies behind the row.
                let before = (-from).clamp(0, len as isize) as usize;
                let behind = (row_len as isize - from).clamp(before as isize, len as isize) as usize;
                if before == 0 && behind == len {
                    let source = row + from as usize;
                    copy(&mut scratch[out..], &x[source..], len);
                    continue;
                }
                let out = &mut scratch[out..out + len];
                out[..before].fill(0.0);
                out[behind..].fill(0.0);
                if before < behind {
                    let source = (row as isize + from + before as isize) as usize;
                    out[before..behind].copy_from_slice(&x[source..source + behind - before]);
                }
            }
        }
    }
}

/// Copies `len` values. Short lines are copied in whole pieces, so values behind them in `to` change too.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32], len: usize) {
    let whole = len.next_multiple_of(PIECE);
    if len <= SHORT && whole <= to.len() && whole <= from.len() {
        for (to, from) in to[..whole].chunks_exact_mut(PIECE).zip(from[..whole].chunks_exact(PIECE)) {
            to.copy_from_slice(from);
        }
    } else {
        to[..len].copy_from_slice(&from[..len]);
    }
}
