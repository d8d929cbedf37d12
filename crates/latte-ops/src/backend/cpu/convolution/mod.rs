//! Convolution of channels-last images as matmuls without a copy of all patches.
//!
//! In a channels-last image the pixels under one row of a kernel are `width · c` contiguous values, and those of the next pixel
//! begin `c` (or `stride · c`) values later. So a 3 × 3 convolution is a sum of three matmuls whose left operand is the image
//! itself, read with overlapping rows. Each task computes some rows and columns of the result. It copies the part of the image that
//! it needs into scratch memory, with zeros as padding, and normalises, activates, doubles and rounds the values while it copies.
//! The tensors between a group norm, SiLU, an upsampling and a convolution are therefore never in memory.

mod backward;
pub(crate) mod weights;

use std::cell::RefCell;

use candle_core::Tensor;
use std::ops::Range;

use super::buffer::{Shared, Unwritten};
use super::gemm::{Kernel, Lines, in_turn, multiply_lines, words};
use super::slices::Values;
use super::vectorised::{exp, vectorised};
use crate::backend::{Prepared, reference};
use crate::ops::convolution::{Frames, Images};
use crate::tape::{Computed, Gradient};
use crate::{ConvolutionWeights, Normalisation, Precision, Result, Value};
use backward::Sizes;
use weights::{PackedForm, padded};

pub(super) fn prepare_convolution(weight: &Value, bias: &Value, precision: Precision) -> Result<Prepared> {
    Ok(Prepared::Packed(PackedForm::new(&weight.fetch()?, &bias.fetch()?, precision)?))
}

pub(super) fn convolution(call: &Images<'_>) -> Result<Computed<'static>> {
    let Prepared::Packed(form) = &call.weights.prepared else { return reference::convolution(call) };
    let x = call.x.fetch()?.contiguous()?;
    let y = images(&x, form, call)?;
    let Some(weight) = call.recorded else { return Ok(Computed::without_gradient(y)) };
    let (&[_, h, w, input], [_, out_h, out_w, output]) = (call.x.dims(), call.shape) else {
        unreachable!("images have four axes")
    };
    let sizes = Sizes::new([h, w, input], [out_h, out_w, output], call.weights.size, call.options);
    let (precision, weight) = (form.packed.kernel.precision(), weight.fetch()?.contiguous()?);
    let has_residual = call.residual.is_some();
    Ok(Computed::new(y, move |gradient, wanted| {
        let tensor = gradient.value.fetch()?.contiguous()?;
        let found = {
            let (x, weight) = (Values::of(&x)?, Values::of(&weight)?);
            backward::backward(precision, &sizes, &x, &weight, &Values::of(&tensor)?, wanted[0])
        };
        let owned = |values: Vec<f32>, dims: &[usize]| {
            Ok::<_, crate::Error>(Some(Gradient::owned(Tensor::from_vec(values, dims, x.device())?)))
        };
        let dx = if wanted[0] { owned(found.x, x.dims())? } else { None };
        let mut gradients = vec![dx, owned(found.weight, weight.dims())?, owned(found.bias, &[output])?];
        if has_residual {
            gradients.push(Some(gradient));
        }
        Ok(gradients)
    }))
}

pub(super) fn convolution_over_frames(call: &Frames<'_>) -> Result<Vec<Value>> {
    let Prepared::Packed(form) = &call.weights.prepared else { return reference::convolution_over_frames(call) };
    let contiguous = |values: &[&Value]| values.iter().map(|v| Ok(v.fetch()?.contiguous()?)).collect::<Result<Vec<_>>>();
    let residual = contiguous(call.residual.unwrap_or_default())?;
    let made = frames(&contiguous(call.frames)?, call.wanted.clone(), (call.weights, form), call.input, &residual, call.shape)?;
    Ok(made.into_iter().map(Value::from).collect())
}

/// Columns of one task: a multiple of the rows of a tile, so that only the last tile of an image's row is partly full.
const COLUMNS: usize = 132;
/// Rows of one task at most: a balance between its own rows and the input rows that it shares with its neighbours.
const ROWS: usize = 8;

/// One image as rows of pixels, and the rows of its result.
struct Image<'i> {
    rows: Vec<&'i [f32]>,
    out: Vec<Shared<f32>>,
    residual: Vec<&'i [f32]>,
    norm: Option<Norm<'i>>,
}

/// A normalisation of one image.
#[derive(Clone, Copy)]
struct Norm<'n> {
    mean: &'n [f32],
    scale: &'n [f32],
    bias: &'n [f32],
    silu: bool,
}

impl<'n> Norm<'n> {
    fn of(normalisation: &'n Normalisation, image: usize) -> Self {
        let c = normalisation.channels();
        let part = image * c..(image + 1) * c;
        let Normalisation { mean, scale, bias, silu } = normalisation;
        Self { mean: &mean[part.clone()], scale: &scale[part], bias, silu: *silu }
    }
}

/// The result of a convolution of `x`.
fn images(x: &Tensor, form: &PackedForm, call: &Images<'_>) -> Result<Tensor> {
    let (weights, options, shape) = (call.weights, call.options, call.shape);
    let (_, h, w, c) = x.dims4()?;
    let [_, out_h, out_w, out_c] = shape;
    let residual = call.residual.map(|residual| Ok::<_, crate::Error>(residual.fetch()?.contiguous()?)).transpose()?;
    let residual = residual.as_ref().map(Values::of).transpose()?;
    let values = Values::of(x)?;
    let mut out = Unwritten::<f32>::new(shape.iter().product());
    let first = out.as_mut_ptr();
    // SAFETY: `out` has so many rows.
    let mut out_rows = (0..shape[0] * out_h).map(|row| Shared::new(unsafe { first.add(row * out_w * out_c) }));
    let images: Vec<Image<'_>> = values
        .chunks_exact(h * w * c)
        .enumerate()
        .map(|(i, image)| Image {
            rows: image.chunks_exact(w * c).collect(),
            out: out_rows.by_ref().take(out_h).collect(),
            residual: residual.as_ref().map_or_else(Vec::new, |residual| {
                residual[i * out_h * out_w * out_c..].chunks_exact(out_w * out_c).take(out_h).collect()
            }),
            norm: options.input.map(|n| Norm::of(n, i)),
        })
        .collect();
    let plan = Plan {
        weights,
        form,
        stride: options.stride,
        padding: [options.padding[0][0], options.padding[1][0]],
        first: 0,
        upsample: options.upsample,
        width: w,
        out_width: out_w,
    };
    plan.run(&images);
    // SAFETY: the tasks cover all rows and columns, and each wrote all of its part.
    Ok(Tensor::from_vec(unsafe { out.written() }, &shape, x.device())?)
}

/// A convolution over frames: one image whose rows are frames. Each result has `shape`.
fn frames(
    frames: &[Tensor],
    wanted: Range<usize>,
    (weights, form): (&ConvolutionWeights, &PackedForm),
    input: Option<&Normalisation>,
    residual: &[Tensor],
    shape: [usize; 4],
) -> Result<Vec<Tensor>> {
    let pixels = shape[1] * shape[2];
    let values = frames.iter().map(Values::of).collect::<Result<Vec<_>>>()?;
    let residual = residual.iter().map(Values::of).collect::<Result<Vec<_>>>()?;
    let mut out: Vec<Unwritten> = wanted.clone().map(|_| Unwritten::<f32>::new(pixels * weights.output)).collect();
    let image = Image {
        rows: values.iter().map(|v| &**v).collect(),
        out: out.iter_mut().map(|out| Shared::new(out.as_mut_ptr())).collect(),
        residual: residual.iter().map(|v| &**v).collect(),
        norm: input.map(|n| Norm::of(n, 0)),
    };
    let padding = [weights.size[0] / 2, 0];
    let [width, out_width] = [pixels; 2];
    Plan { weights, form, stride: 1, padding, first: wanted.start, upsample: false, width, out_width }.run(&[image]);
    let device = frames[0].device();
    // SAFETY: the tasks cover all rows and columns, and each wrote all of its part.
    out.into_iter().map(|out| Ok(Tensor::from_vec(unsafe { out.written() }, &shape, device)?)).collect()
}

/// The arguments of a convolution that all images share.
struct Plan<'p> {
    weights: &'p ConvolutionWeights,
    form: &'p PackedForm,
    stride: usize,
    /// Zeros above and to the left.
    padding: [usize; 2],
    /// The first row of the whole result that is computed.
    first: usize,
    upsample: bool,
    /// Pixels of a row of an image, and of the result.
    width: usize,
    out_width: usize,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { words: Vec::new(), pixels: Vec::new() }) };
}

/// Scratch memory of a thread.
struct Scratch {
    /// The part of the image that a task reads, as words.
    words: Vec<u32>,
    /// Activated pixels before they are converted to words.
    pixels: Vec<f32>,
}

impl Plan<'_> {
    fn run(&self, images: &[Image<'_>]) {
        let out_rows = images.first().map_or(0, |image| image.out.len());
        let columns = self.out_width.div_ceil(COLUMNS);
        // Bands of rows: high while many rows are left, low towards the end, so that all threads end together.
        let low = (ROWS / 4).min(out_rows).max(1);
        let bands = out_rows.div_ceil(low);
        let wanted = (4 * rayon::current_num_threads()).div_ceil((images.len() * columns).max(1));
        let most = (bands / wanted.max(1)).clamp(1, ROWS / low);
        in_turn(images.len() * columns * bands, most, |tasks| {
            // Tasks are ordered down the rows of one column of one image, then the next column.
            for first in tasks.clone().filter(|task| *task == tasks.start || task % bands == 0) {
                let last = (first / bands + 1) * bands;
                let (image, column) = (&images[first / bands / columns], first / bands % columns * COLUMNS);
                let rows = first % bands * low..((tasks.end.min(last) - 1) % bands * low + low).min(out_rows);
                let columns = column..(column + COLUMNS).min(self.out_width);
                SCRATCH.with_borrow_mut(|scratch| {
                    self.fill(image, rows.clone(), columns.clone(), scratch);
                    self.multiply(image, rows, columns, &scratch.words);
                });
            }
        });
    }

    fn kernel(&self) -> Kernel {
        self.form.packed.kernel
    }

    /// Words of a pixel.
    fn pixel(&self) -> usize {
        self.kernel().depth(padded(self.weights.input))
    }

    /// The number of image rows or columns that `len` rows or columns of the result need.
    fn reach(&self, len: usize, axis: usize) -> usize {
        (len - 1) * self.stride + self.weights.size[axis]
    }

    /// Copies the pixels under the kernel for `rows` and `columns` of the result.
    fn fill(&self, image: &Image<'_>, rows: Range<usize>, columns: Range<usize>, scratch: &mut Scratch) {
        let (c, pixel) = (self.weights.input, self.pixel());
        let (height, width) = (self.reach(rows.len(), 0), self.reach(columns.len(), 1));
        scratch.words.resize(height * width * pixel, 0);
        let factor = if self.upsample { 2 } else { 1 };
        let (top, left) = ((self.first + rows.start) * self.stride, columns.start * self.stride);
        // Columns of the scratch memory that lie inside the image.
        let inside = self.padding[1].saturating_sub(left).min(width)
            ..(self.width * factor + self.padding[1]).saturating_sub(left).min(width);
        for (y, line) in scratch.words.chunks_exact_mut(width * pixel).enumerate() {
            let source = (top + y).checked_sub(self.padding[0]).and_then(|y| image.rows.get(y / factor));
            let Some(source) = source.filter(|_| !inside.is_empty()) else {
                line.fill(0);
                continue;
            };
            line[..inside.start * pixel].fill(0);
            line[inside.end * pixel..].fill(0);
            let first = left + inside.start - self.padding[1];
            let line = &mut line[inside.start * pixel..inside.end * pixel];
            if self.upsample {
                for (x, words) in line.chunks_exact_mut(pixel).enumerate() {
                    let place = first + x; // index in the doubled frame
                    let at = place / 2 * c;
                    write_pixels(self.kernel(), words, pixel, &source[at..at + c], c, image.norm, &mut scratch.pixels);
                }
            } else {
                let source = &source[first * c..(first + inside.len()) * c];
                write_pixels(self.kernel(), line, pixel, source, c, image.norm, &mut scratch.pixels);
            }
        }
    }

    /// The matmuls of one task, with bias and residual.
    fn multiply(&self, image: &Image<'_>, rows: Range<usize>, columns: Range<usize>, words: &[u32]) {
        let (packed, n, pixel) = (&self.form.packed, self.weights.output, self.pixel());
        let kernel_row = self.weights.size[1] * padded(self.weights.input);
        let line = self.reach(columns.len(), 1) * pixel;
        let lines = Lines { words: self.stride * line, rows: columns.len(), stride: self.stride * pixel };
        let parts = kernel_row.div_ceil(self.kernel().depth_limit());
        // Even, so that no pair of bfloat16 is split.
        let part = kernel_row.div_ceil(parts).next_multiple_of(2);
        // Short rows of the result are computed together, so that each panel of the weight serves many pixels while it is in the
        // cache.
        let together = (COLUMNS / columns.len()).max(1);
        for first in rows.clone().step_by(together) {
            let block = first..(first + together).min(rows.end);
            let out = &image.out[block.clone()];
            for y in 0..self.weights.size[0] {
                for start in (0..kernel_row).step_by(part) {
                    let words = &words[((first - rows.start) * self.stride + y) * line + self.kernel().depth(start)..];
                    let ks = y * kernel_row + start..y * kernel_row + (start + part).min(kernel_row);
                    let accumulate = ks.start > 0;
                    // SAFETY: each row of the result has `out_width · n` values; only this task writes these rows and columns.
                    unsafe { multiply_lines(out, columns.start * n, words, lines, packed, ks, accumulate) };
                }
            }
            for row in block {
                let part = columns.start * n..columns.end * n;
                // SAFETY: inside the row, written above, and no other task touches it.
                let values = unsafe { std::slice::from_raw_parts_mut(image.out[row].get().add(part.start), part.len()) };
                finish(values, &self.form.bias, image.residual.get(row).map_or(&[], |residual| &residual[part]));
            }
        }
    }
}

vectorised! {
    /// Adds the bias to each pixel, and the residual if there is one.
    fn finish(values: &mut [f32], bias: &[f32], residual: &[f32]) {
        let n = bias.len();
        if residual.is_empty() {
            for pixel in values.chunks_exact_mut(n) {
                for (value, bias) in pixel.iter_mut().zip(bias) {
                    *value += bias;
                }
            }
        } else {
            for (pixel, residual) in values.chunks_exact_mut(n).zip(residual.chunks_exact(n)) {
                for ((value, bias), residual) in pixel.iter_mut().zip(bias).zip(residual) {
                    *value += bias + residual;
                }
            }
        }
    }
}

vectorised! {
    /// Writes pixels of `c` values as words, `pixel` words each, normalised and activated on the way.
    fn write_pixels(
        kernel: Kernel,
        out: &mut [u32],
        pixel: usize,
        pixels: &[f32],
        c: usize,
        norm: Option<Norm<'_>>,
        activated: &mut Vec<f32>,
    ) {
        activated.resize(c, 0.0);
        for (out, values) in out.chunks_exact_mut(pixel).zip(pixels.chunks_exact(c)) {
            // With an odd number of channels one word is left over. Its weights are 0, so it only has to be finite.
            if let Some(last) = out.last_mut() {
                *last = 0;
            }
            match norm {
                None => words(kernel, out, values),
                Some(norm) => {
                    activate::<FUSED>(activated, values, norm);
                    words(kernel, out, activated);
                }
            }
        }
    }
}

/// Normalises one pixel, and applies SiLU if it is asked for.
#[inline(always)]
fn activate<const FUSED: bool>(out: &mut [f32], values: &[f32], norm: Norm<'_>) {
    let c = out.len();
    let (values, mean, scale, bias) = (&values[..c], &norm.mean[..c], &norm.scale[..c], &norm.bias[..c]);
    if norm.silu {
        for i in 0..c {
            let y = (values[i] - mean[i]) * scale[i] + bias[i];
            out[i] = y / (1.0 + exp::<FUSED>(-y));
        }
    } else {
        for i in 0..c {
            out[i] = (values[i] - mean[i]) * scale[i] + bias[i];
        }
    }
}
