//! A group norm with SiLU and its gradients on the CPU: one pass over the values forward, two backward, on all threads.

use crate::Normalisation;
use crate::backend::cpu::buffer::Unwritten;
use crate::backend::cpu::row_groups::RowGroups;
use crate::backend::cpu::vectorised::{exp, vectorised};

/// The normalisation of one image: `(x − mean) · inverse_std · weight + bias`, by channel, and SiLU.
#[derive(Clone, Copy)]
struct Image<'n> {
    mean: &'n [f32],
    inverse_std: &'n [f32],
    weight: &'n [f32],
    bias: &'n [f32],
    silu: bool,
}

/// The normalisation of all images.
#[derive(Clone, Copy)]
pub(super) struct Norm<'n> {
    /// Mean and 1/√(variance + eps) of each image and channel: a normalisation with weight 1.
    pub(super) statistics: &'n Normalisation,
    pub(super) weight: &'n [f32],
    pub(super) bias: &'n [f32],
    pub(super) groups: usize,
    pub(super) silu: bool,
}

impl Norm<'_> {
    fn image(&self, image: usize) -> Image<'_> {
        let part = image * self.weight.len()..(image + 1) * self.weight.len();
        let (mean, inverse_std) = (&self.statistics.mean[part.clone()], &self.statistics.scale[part]);
        Image { mean, inverse_std, weight: self.weight, bias: self.bias, silu: self.silu }
    }

    fn rows(&self, x: &[f32]) -> RowGroups {
        RowGroups::of(x.len(), self.statistics.images(), self.weight.len())
    }
}

vectorised! {
fn forward_rows(y: &mut [f32], x: &[f32], norm: Image<'_>) {
    let c = norm.weight.len();
    let (mean, inverse_std, weight, bias) = (&norm.mean[..c], &norm.inverse_std[..c], &norm.weight[..c], &norm.bias[..c]);
    for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
        for i in 0..c {
            y[i] = (x[i] - mean[i]) * inverse_std[i] * weight[i] + bias[i];
        }
        if norm.silu {
            for y in y {
                *y /= 1.0 + exp::<FUSED>(-*y);
            }
        }
    }
}
}

vectorised! {
/// Writes the gradients before SiLU to `dz`, and sums by channel these gradients and their products with the normalised values.
fn backward_activation(dz: &mut [f32], x: &[f32], gradient: &[f32], norm: Image<'_>, sums: &mut [f32], products: &mut [f32]) {
    let c = norm.weight.len();
    let (mean, inverse_std, weight, bias) = (&norm.mean[..c], &norm.inverse_std[..c], &norm.weight[..c], &norm.bias[..c]);
    let (sums, products) = (&mut sums[..c], &mut products[..c]);
    for ((dz, x), gradient) in dz.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(gradient.chunks_exact(c)) {
        for i in 0..c {
            let normal = (x[i] - mean[i]) * inverse_std[i];
            let mut slope = 1.0;
            if norm.silu {
                let z = normal * weight[i] + bias[i];
                let sigmoid = 1.0 / (1.0 + exp::<FUSED>(-z));
                slope = sigmoid * (1.0 + z * (1.0 - sigmoid));
            }
            dz[i] = gradient[i] * slope;
            sums[i] += dz[i];
            products[i] += dz[i] * normal;
        }
    }
}
}

vectorised! {
/// Turns the gradient of the norm's output into that of `x`, in place. `average` and `projection` are, by channel, the means over
/// its group of the gradients times the weight, and of these times the normalised values.
fn backward_norm(dz: &mut [f32], x: &[f32], norm: Image<'_>, average: &[f32], projection: &[f32]) {
    let c = norm.weight.len();
    let (mean, inverse_std, weight) = (&norm.mean[..c], &norm.inverse_std[..c], &norm.weight[..c]);
    let (average, projection) = (&average[..c], &projection[..c]);
    for (dz, x) in dz.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
        for i in 0..c {
            let normal = (x[i] - mean[i]) * inverse_std[i];
            dz[i] = (dz[i] * weight[i] - average[i] - normal * projection[i]) * inverse_std[i];
        }
    }
}
}

/// The output of the norm.
pub(super) fn forward(x: &[f32], norm: Norm<'_>) -> Vec<f32> {
    let mut y = Unwritten::new(x.len());
    let c = norm.weight.len();
    // SAFETY: `forward_rows` writes a row of `y` before it reads it.
    norm.rows(x).each_mut(unsafe { y.values_mut() }, |piece, y| {
        forward_rows(y, &x[piece.first_row * c..][..y.len()], norm.image(piece.group));
    });
    // SAFETY: the pieces are all rows, and each was written.
    unsafe { y.written() }
}

/// The gradients of `x`, weight and bias.
pub(super) fn backward(x: &[f32], gradient: &[f32], norm: Norm<'_>) -> [Vec<f32>; 3] {
    let (rows, c) = (norm.rows(x), norm.weight.len());
    let mut dx = Unwritten::new(x.len());
    // SAFETY: `backward_activation` writes a value of `dx` before it reads it.
    let parts = rows.each_mut(unsafe { dx.values_mut() }, |piece, dz| {
        let (mut sums, mut products) = (vec![0.0; c], vec![0.0; c]);
        let part = piece.first_row * c..piece.first_row * c + dz.len();
        backward_activation(dz, &x[part.clone()], &gradient[part], norm.image(piece.group), &mut sums, &mut products);
        [sums, products]
    });
    // SAFETY: the pieces are all rows, and each was written.
    let mut dx = unsafe { dx.written() };
    let [sums, products] = [0, 1].map(|which: usize| rows.sums(parts.iter().map(|part| part[which].as_slice()))); // [n, c] each
    let [average, projection] = [&sums, &products].map(|sums| group_means(sums, norm, rows.rows));
    rows.each_mut(&mut dx, |piece, dz| {
        let vector = piece.group * c..(piece.group + 1) * c;
        let x = &x[piece.first_row * c..][..dz.len()];
        backward_norm(dz, x, norm.image(piece.group), &average[vector.clone()], &projection[vector]);
    });
    [dx, over_images(&products, c), over_images(&sums, c)]
}

/// `[n, c]`: for each channel, the mean over all pixels and channels of its group of the per-channel sums times the weight.
fn group_means(sums: &[f32], norm: Norm<'_>, places: usize) -> Vec<f32> {
    let c = norm.weight.len();
    let size = c / norm.groups;
    let mut means = Vec::with_capacity(sums.len());
    for image in sums.chunks_exact(c) {
        for (sums, weight) in image.chunks_exact(size).zip(norm.weight.chunks_exact(size)) {
            let sum: f64 = sums.iter().zip(weight).map(|(&s, &w)| f64::from(s) * f64::from(w)).sum();
            means.extend(std::iter::repeat_n((sum / (places * size) as f64) as f32, size));
        }
    }
    means
}

/// The sum over the images: `[n, c]` to `[c]`.
fn over_images(sums: &[f32], c: usize) -> Vec<f32> {
    let mut total = vec![0.0; c];
    for image in sums.chunks_exact(c) {
        for (total, value) in total.iter_mut().zip(image) {
            *total += value;
        }
    }
    total
}
