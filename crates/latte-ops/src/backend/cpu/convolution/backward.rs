//! The gradients of a convolution on the CPU: one image per task, some rows of its result at a time.
//!
//! A task copies the patches under these rows (the pixels under the kernel at each position, side by side). The gradient of the
//! weight is the matmul of the patches and the rows' gradient. The gradient of the patches is the matmul of the rows' gradient and
//! the weight, and each of its values is added to the pixel that it was copied from. The patches of a whole image are never in
//! memory at once.

use std::cell::RefCell;

use rayon::prelude::*;

use crate::Convolution;
use crate::Precision;
use crate::backend::cpu::gemm::{Kernel, Matrix, Packed, Scratch, multiply_block};
use crate::backend::cpu::vectorised::vectorised;

/// Patch values that a task holds at once, unless a single row of the result needs more: they fit the L2 cache.
const PATCHES: usize = 96 << 10;
/// Matmuls may read some values behind a transposed operand.
const SLACK: usize = 16;

/// The sizes of a convolution without a fused normalisation or residual.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Height, width and channels of an image.
    pub(super) image: [usize; 3],
    /// Height, width and channels of its result.
    pub(super) out: [usize; 3],
    /// Height and width of the kernel.
    pub(super) kernel: [usize; 2],
    pub(super) stride: usize,
    /// Zeros above and to the left.
    pub(super) padding: [usize; 2],
    /// Whether each pixel is doubled in both axes first.
    pub(super) upsample: bool,
}

impl Sizes {
    pub(super) fn new(image: [usize; 3], out: [usize; 3], kernel: [usize; 2], options: &Convolution<'_>) -> Self {
        let padding = [options.padding[0][0], options.padding[1][0]];
        Self { image, out, kernel, stride: options.stride, padding, upsample: options.upsample }
    }

    /// Values of a patch.
    fn patch(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.image[2]
    }

    /// The factor by which each axis is doubled: 2 or 1.
    fn factor(&self) -> usize {
        if self.upsample { 2 } else { 1 }
    }

    /// The pixel under kernel index `kernel` at output position `out`, along one axis; `None` in the padding.
    #[inline(always)]
    fn pixel(&self, axis: usize, out: usize, kernel: usize) -> Option<usize> {
        let place = (out * self.stride + kernel).checked_sub(self.padding[axis])? / self.factor();
        (place < self.image[axis]).then_some(place)
    }

    /// Calls `f` with each run of contiguous values that a patch row and the image share: the offset in the patch row, the offset
    /// in the image (`None` in the padding) and the length. The patch row is that of result row `y`.
    #[inline(always)]
    fn runs(&self, y: usize, mut f: impl FnMut(usize, Option<usize>, usize)) {
        let ([_, w, c], [kernel_h, kernel_w]) = (self.image, self.kernel);
        for x in 0..self.out[1] {
            for ky in 0..kernel_h {
                let patch = x * self.patch() + ky * kernel_w * c;
                let row = self.pixel(0, y, ky);
                let first = (x * self.stride).checked_sub(self.padding[1]);
                match (row, first) {
                    // The usual case: the whole row of the kernel lies inside the image, pixel by pixel.
                    (Some(row), Some(first)) if !self.upsample && first + kernel_w <= w => {
                        f(patch, Some((row * w + first) * c), kernel_w * c);
                    }
                    (None, _) => f(patch, None, kernel_w * c),
                    (Some(row), _) => {
                        for kx in 0..kernel_w {
                            let place = self.pixel(1, x, kx).map(|column| (row * w + column) * c);
                            f(patch + kx * c, place, c);
                        }
                    }
                }
            }
        }
    }
}

vectorised! {
/// Copies the patches of result rows `first…` from `image`.
fn gather(patches: &mut [f32], image: &[f32], sizes: &Sizes, first: usize) {
    let row_len = sizes.out[1] * sizes.patch();
    for (row, patches) in patches.chunks_exact_mut(row_len).enumerate() {
        sizes.runs(first + row, |patch, place, len| {
            let patch = &mut patches[patch..patch + len];
            match place {
                Some(place) => patch.copy_from_slice(&image[place..place + len]),
                None => patch.fill(0.0),
            }
        });
    }
}
}

vectorised! {
/// Adds the patches of result rows `first…` to the pixels of `image` that they were copied from.
fn scatter(image: &mut [f32], patches: &[f32], sizes: &Sizes, first: usize) {
    let row_len = sizes.out[1] * sizes.patch();
    for (row, patches) in patches.chunks_exact(row_len).enumerate() {
        sizes.runs(first + row, |patch, place, len| {
            if let Some(place) = place {
                for (pixel, value) in image[place..place + len].iter_mut().zip(&patches[patch..patch + len]) {
                    *pixel += value;
                }
            }
        });
    }
}
}

/// The gradients of images, weight and bias, row-major in the shapes of these.
pub(super) struct Found {
    /// Empty if it was not wanted.
    pub(super) x: Vec<f32>,
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// Scratch memory of a thread.
#[derive(Default)]
struct Memory {
    patches: Vec<f32>,
    scratch: Scratch,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// The gradients from `gradient`, that of the result. `weight` is `[out, in, height, width]`.
pub(super) fn backward(precision: Precision, sizes: &Sizes, x: &[f32], weight: &[f32], gradient: &[f32], wants_x: bool) -> Found {
    let ([h, w, c], [out_h, out_w, out_c], patch) = (sizes.image, sizes.out, sizes.patch());
    let rows = (PATCHES / (out_w * patch)).clamp(1, out_h);
    let packed_weight = wants_x.then(|| {
        let by_patch = by_patch(weight, sizes);
        Packed::new(Kernel::of(precision), Matrix::rows(&by_patch, patch), out_c, patch) // [out, patch]
    });
    let task = |(x, gradient): (&[f32], &[f32])| {
        let mut dx = if wants_x { vec![0.0; h * w * c] } else { Vec::new() };
        let mut sums = vec![0.0; patch * out_c]; // [patch, out]
        let mut bias = vec![0.0; out_c];
        let mut right = Packed::empty(Kernel::of(precision));
        MEMORY.with_borrow_mut(|Memory { patches, scratch }| {
            for first in (0..out_h).step_by(rows) {
                let places = rows.min(out_h - first) * out_w;
                let gradient = &gradient[first * out_w * out_c..][..places * out_c];
                patches.resize(places * patch + SLACK, 0.0);
                gather(&mut patches[..places * patch], x, sizes, first);
                right.pack(Matrix::rows(gradient, out_c), places, out_c);
                let left = Matrix::rows(patches, patch).transposed();
                // SAFETY: `sums` has `patch` rows of `out_c` values, and only this task touches it.
                unsafe { multiply_block(sums.as_mut_ptr(), out_c, patch, left, &right, true, scratch) };
                add_rows(&mut bias, gradient);
                if let Some(weight) = &packed_weight {
                    let left = Matrix::rows(gradient, out_c);
                    // SAFETY: `patches` has `places` rows of `patch` values, and only this thread touches it.
                    unsafe { multiply_block(patches.as_mut_ptr(), patch, places, left, weight, false, scratch) };
                    scatter(&mut dx, &patches[..places * patch], sizes, first);
                }
            }
        });
        (dx, sums, bias)
    };
    let parts: Vec<_> =
        x.par_chunks_exact(h * w * c).zip(gradient.par_chunks_exact(out_h * out_w * out_c)).with_max_len(1).map(task).collect();
    // Summed in the order of the images, so that the result does not depend on the threads.
    let (mut dx, mut sums, mut bias) = (Vec::new(), vec![0.0; patch * out_c], vec![0.0; out_c]);
    if wants_x {
        dx.reserve_exact(x.len());
    }
    for (image, image_sums, image_bias) in &parts {
        dx.extend_from_slice(image);
        add(&mut sums, image_sums);
        add(&mut bias, image_bias);
    }
    Found { x: dx, weight: by_channel(&sums, sizes), bias }
}

fn add(total: &mut [f32], part: &[f32]) {
    for (total, value) in total.iter_mut().zip(part) {
        *total += value;
    }
}

vectorised! {
/// Adds each row to `total`.
fn add_rows(total: &mut [f32], rows: &[f32]) {
    for row in rows.chunks_exact(total.len()) {
        for (total, value) in total.iter_mut().zip(row) {
            *total += value;
        }
    }
}
}

/// Calls `f` with the index of each value in a weight `[out, in, height, width]`, its output channel and its index in a patch.
fn places(sizes: &Sizes, mut f: impl FnMut(usize, usize, usize)) {
    let ([_, _, c], [kernel_h, kernel_w]) = (sizes.image, sizes.kernel);
    for out in 0..sizes.out[2] {
        for channel in 0..c {
            for place in 0..kernel_h * kernel_w {
                f((out * c + channel) * kernel_h * kernel_w + place, out, place * c + channel);
            }
        }
    }
}

/// `[out, in, height, width]` to `[out, patch]`.
fn by_patch(weight: &[f32], sizes: &Sizes) -> Vec<f32> {
    let mut result = vec![0.0; weight.len()];
    places(sizes, |place, out, patch| result[out * sizes.patch() + patch] = weight[place]);
    result
}

/// `[patch, out]` to `[out, in, height, width]`.
fn by_channel(sums: &[f32], sizes: &Sizes) -> Vec<f32> {
    let mut result = vec![0.0; sums.len()];
    places(sizes, |place, out, patch| result[place] = sums[patch * sizes.out[2] + out]);
    result
}
