//! One axis of a resize: which input values each output is a weighted sum of.

use super::{CHANNELS, Resize};

/// The weighted sums along one axis.
#[derive(Debug)]
pub(super) struct Filter {
    input: usize,
    /// For each output, the index of the first input, and the weights of that and the following inputs.
    places: Vec<(usize, Vec<f32>)>,
    /// For Pillow's byte filters: the weights as multiples of 2⁻²².
    steps: Vec<Vec<i32>>,
}

/// Fraction bits of Pillow's weights for bytes.
const PLACES: u32 = 22;

impl Filter {
    /// The filter from `input` values to `output` values.
    pub(super) fn new(resize: Resize, input: usize, output: usize) -> Self {
        let scale = input as f64 / output.max(1) as f64;
        let place = |i: usize| {
            let i = i as f64;
            match resize {
                Resize::TfBilinear => between(input, i * scale),
                Resize::HalfPixelBilinear | Resize::ShortSideBilinear => between(input, (i + 0.5) * scale - 0.5),
                Resize::CornerBilinear if output < 2 => between(input, 0.0),
                Resize::CornerBilinear => between(input, i * (input.max(1) - 1) as f64 / (output - 1) as f64),
                Resize::PillowBilinear => averaged(input, scale, (i + 0.5) * scale, 1.0, triangle),
                Resize::PillowBicubic | Resize::PillowBicubicBytes => averaged(input, scale, (i + 0.5) * scale, 2.0, cubic),
                Resize::PillowLanczosBytes => averaged(input, scale, (i + 0.5) * scale, 3.0, lanczos),
            }
        };
        let places: Vec<(usize, Vec<f64>)> = (0..output).map(place).collect();
        let in_steps = |weight: &f64| (weight * f64::from(1 << PLACES)).round() as i32;
        let steps = if resize.is_of_bytes() {
            places.iter().map(|(_, weights)| weights.iter().map(in_steps).collect()).collect()
        } else {
            Vec::new()
        };
        let places = places.into_iter().map(|(first, weights)| (first, weights.into_iter().map(|w| w as f32).collect()));
        Self { input, places: places.collect(), steps }
    }

    /// Keeps `len` outputs from `start` on.
    pub(super) fn cut(mut self, start: usize, len: usize) -> Self {
        self.places = self.places.split_off(start);
        self.places.truncate(len);
        self
    }

    /// Output `i` of a byte filter on the values `from(0)`, `from(1)`, …, rounded as in Pillow.
    pub(super) fn byte(&self, i: usize, from: impl Fn(usize) -> u8) -> u8 {
        let first = self.places[i].0;
        let sum: i32 = self.steps[i].iter().enumerate().map(|(k, step)| step * i32::from(from(first + k))).sum();
        ((sum + (1 << (PLACES - 1))) >> PLACES).clamp(0, 255) as u8
    }

    pub(super) fn input(&self) -> usize {
        self.input
    }

    pub(super) fn output(&self) -> usize {
        self.places.len()
    }

    /// Filters a row of pixels.
    pub(super) fn along_row(&self, row: &[f32], out: &mut [f32]) {
        for ((first, weights), out) in self.places.iter().zip(out.as_chunks_mut::<CHANNELS>().0) {
            let mut sums = [0f32; CHANNELS];
            for (weight, pixel) in weights.iter().zip(row[first * CHANNELS..].as_chunks::<CHANNELS>().0) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * value;
                }
            }
            *out = sums;
        }
    }

    /// Computes row `y` of the output; all rows have the length of `out`.
    pub(super) fn across_rows(&self, rows: &[f32], y: usize, out: &mut [f32]) {
        let (first, weights) = &self.places[y];
        out.fill(0.0);
        for (weight, row) in weights.iter().zip(rows[first * out.len()..].chunks_exact(out.len())) {
            for (out, value) in out.iter_mut().zip(row) {
                *out += weight * value;
            }
        }
    }
}

/// The two values around `place`, for linear interpolation.
fn between(input: usize, place: f64) -> (usize, Vec<f64>) {
    let last = input.saturating_sub(1);
    let place = place.clamp(0.0, last as f64);
    let first = (place as usize).min(last);
    let part = place - first as f64;
    if first == last || part == 0.0 { (first, vec![1.0]) } else { (first, vec![1.0 - part, part]) }
}

/// The values within `reach` of `centre`, weighted by a curve; the reach grows with the scale when the size is reduced.
fn averaged(input: usize, scale: f64, centre: f64, reach: f64, curve: fn(f64) -> f64) -> (usize, Vec<f64>) {
    let widening = scale.max(1.0);
    let reach = reach * widening;
    let first = ((centre - reach + 0.5).max(0.0) as usize).min(input.saturating_sub(1));
    let end = ((centre + reach + 0.5) as usize).min(input);
    let weights: Vec<f64> = (first..end).map(|i| curve((i as f64 - centre + 0.5) / widening)).collect();
    let sum: f64 = weights.iter().sum();
    (first, weights.into_iter().map(|w| w / sum).collect())
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// The cubic convolution with a = −½.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// The Lanczos kernel: sinc(x) · sinc(x/3).
fn lanczos(x: f64) -> f64 {
    let arch = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    if x.abs() < 3.0 { arch(x) * arch(x / 3.0) } else { 0.0 }
}
