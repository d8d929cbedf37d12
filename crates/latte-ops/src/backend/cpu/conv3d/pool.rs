//! Pooling, a row of output positions at a time, on all threads.

use rayon::prelude::*;

use super::Target;
use crate::backend::cpu::vectorised::vectorised;
use crate::ops::conv3d::{Pool, Sizes, Window};

/// Pooling over `x` of `sizes`.
///
/// # Safety
///
/// All channels at every position of `target` can be written, and nothing else touches them meanwhile.
pub(super) unsafe fn run(x: &[f32], pool: Pool, window: &Window, sizes: &Sizes, target: Target) {
    let (width, c) = (sizes.out[2], sizes.channels[1]);
    (0..sizes.places() / width).into_par_iter().for_each(|row| {
        for place in row * width..(row + 1) * width {
            // SAFETY: inside the target, and no other task writes this position.
            let out = unsafe { std::slice::from_raw_parts_mut(target.first.get().add(place * target.stride), c) };
            one(x, pool, window, sizes, place, out);
        }
    });
}

vectorised! {
    /// One output position.
    fn one(x: &[f32], pool: Pool, window: &Window, sizes: &Sizes, place: usize, out: &mut [f32]) {
        let [n, place_t, place_y, place_x] = sizes.place(place);
        let c = out.len();
        // The kernel indices that lie inside the volume.
        let inside = |axis: usize, place: usize| {
            let (start, front) = (place * window.stride[axis], sizes.front[axis]);
            let end = (start + window.size[axis]).min(sizes.volume[axis] + front);
            start.saturating_sub(front)..end.saturating_sub(front)
        };
        let (ts, ys, xs) = (inside(0, place_t), inside(1, place_y), inside(2, place_x));
        out.fill(if pool == Pool::Max { f32::NEG_INFINITY } else { 0.0 });
        for t in ts.clone() {
            for y in ys.clone() {
                let Some(row) = sizes.row(n, Some(t), Some(y)) else { continue };
                for values in x[row + xs.start * c..row + xs.end * c].chunks_exact(c) {
                    if pool == Pool::Max {
                        for (out, &value) in out.iter_mut().zip(values) {
                            *out = if value > *out || value.is_nan() { value } else { *out };
                        }
                    } else {
                        for (out, value) in out.iter_mut().zip(values) {
                            *out += value;
                        }
                    }
                }
            }
        }
        let count = match pool {
            Pool::Max => return,
            Pool::Mean => ts.len() * ys.len() * xs.len(),
            Pool::MeanWithPadding => window.size.iter().product(),
        };
        let factor = 1.0 / count as f32;
        for out in out {
            *out *= factor;
        }
    }
}
