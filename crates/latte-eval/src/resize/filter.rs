//! One axis of a resize: for each place of the result, which values it is a weighted sum of.

use super::{CHANNELS, Resize};

/// The weighted sums along one axis.
#[derive(Debug)]
pub(super) struct Filter {
    input: usize,
    /// For each place of the result, the first value it takes, and the weights of that and the next ones.
    places: Vec<(usize, Vec<f32>)>,
}

impl Filter {
    /// From `input` places to `output`.
    pub(super) fn new(resize: Resize, input: usize, output: usize) -> Self {
        let scale = input as f64 / output.max(1) as f64;
        let place = |i: usize| {
            let i = i as f64;
            match resize {
                Resize::TfBilinear => between(input, i * scale),
                Resize::HalfPixelBilinear => between(input, (i + 0.5) * scale - 0.5),
                Resize::CornerBilinear if output < 2 => between(input, 0.0),
                Resize::CornerBilinear => between(input, i * (input.max(1) - 1) as f64 / (output - 1) as f64),
                Resize::PillowBilinear => averaged(input, scale, (i + 0.5) * scale, 1.0, triangle),
                Resize::PillowBicubic => averaged(input, scale, (i + 0.5) * scale, 2.0, cubic),
                Resize::PillowBicubicBytes => {
                    let (first, weights) = averaged(input, scale, (i + 0.5) * scale, 2.0, cubic);
                    (first, weights.into_iter().map(in_steps).collect())
                }
            }
        };
        let places = (0..output).map(place).map(|(first, weights)| (first, weights.into_iter().map(|w| w as f32).collect()));
        Self { input, places: places.collect() }
    }

    pub(super) fn input(&self) -> usize {
        self.input
    }

    pub(super) fn output(&self) -> usize {
        self.places.len()
    }

    /// Whether the size stays what it is.
    pub(super) fn is_identity(&self) -> bool {
        self.input == self.places.len()
    }

    /// A row of pixels.
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

    /// Row `y` of the result, of rows as long as `out`.
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

/// The two values around `place`.
fn between(input: usize, place: f64) -> (usize, Vec<f64>) {
    let last = input.saturating_sub(1);
    let place = place.clamp(0.0, last as f64);
    let first = (place as usize).min(last);
    let part = place - first as f64;
    if first == last || part == 0.0 { (first, vec![1.0]) } else { (first, vec![1.0 - part, part]) }
}

/// All values within `reach` (times the scale, where places become fewer) of `centre`, by a curve.
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

/// The cubic convolution of a = −½.
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

/// Pillow's weights for bytes are whole numbers of steps of 2⁻²².
fn in_steps(weight: f64) -> f64 {
    const STEPS: f64 = (1 << 22) as f64;
    (weight * STEPS).round() / STEPS
}
