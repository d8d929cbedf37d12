//! The one source of randomness: PyTorch's CPU generator, reproduced bit for bit.
//!
//! [`TorchRng`] is the Mersenne Twister (MT19937) with the distributions of `torch.Generator`, so that `torch.manual_seed(s);
//! torch.randn(shape)` and `TorchRng::new(s).randn(shape)` agree. Every function that draws takes a generator as an argument; there
//! is no global one. Noise is drawn here, on the CPU, in f32, and then moved to the device: the same seed gives the same video on
//! every device.

use std::f64::consts::TAU;

use candle_core::{Device, Shape, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Words of state of the Mersenne Twister.
const WORDS: usize = 624;
/// Distance of the second word in the recurrence.
const SHIFT: usize = 397;
/// `torch.randn` fills blocks of this many values; fewer values are drawn one by one.
const BLOCK: usize = 16;
/// Values that one thread transforms at a time.
const PARALLEL: usize = 1024 * BLOCK;

/// PyTorch's CPU generator.
///
/// ```
/// let mut rng = latte_model::noise::TorchRng::new(0);
/// let noise = rng.randn((1, 4, 4, 8, 8))?; // torch.manual_seed(0); torch.randn(1, 4, 4, 8, 8)
/// assert_eq!(noise.dims(), [1, 4, 4, 8, 8]);
/// # Ok::<(), latte_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TorchRng {
    /// The key that the generator was made from: the seed (low word, high word), then two words for each [`TorchRng::fork`].
    key: Vec<u32>,
    words: Vec<u32>,
    /// The number of words of the current block that were used; `WORDS` means that the block is used up.
    position: usize,
    /// The second value of the last pair that the one-by-one path of `randn` made. It is part of the state.
    cached_normal: Option<f64>,
}

/// The source of the noise of a sampling loop.
pub trait NoiseSource {
    /// The next standard normal tensor of `shape`, f32, on the CPU.
    ///
    /// # Errors
    ///
    /// If the source has no noise of this shape.
    fn noise(&mut self, shape: &[usize]) -> Result<Tensor>;
}

/// One generator for the whole batch, as in PyTorch programs: a sample's noise depends on its batch.
impl NoiseSource for TorchRng {
    fn noise(&mut self, shape: &[usize]) -> Result<Tensor> {
        self.randn(shape)
    }
}

/// One generator for each sample (the first axis): a sample does not depend on its batch.
impl NoiseSource for [TorchRng] {
    fn noise(&mut self, shape: &[usize]) -> Result<Tensor> {
        if shape.first() != Some(&self.len()) {
            return Err(Error::Shape {
                name: "noise".into(),
                expected: format!("[{}, …], one sample for each generator", self.len()),
                got: shape.to_vec(),
            });
        }
        let samples = self.iter_mut().map(|rng| rng.randn(&shape[1..])).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&samples, 0)?) // [b, …]
    }
}

/// As for a slice of generators.
impl NoiseSource for Vec<TorchRng> {
    fn noise(&mut self, shape: &[usize]) -> Result<Tensor> {
        self.as_mut_slice().noise(shape)
    }
}

/// The state of a [`TorchRng`], which a checkpoint stores and which continues exactly where it was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RngState {
    key: Vec<u32>,
    words: Vec<u32>,
    position: usize,
    /// The bits of the cached `f64` (high word, low word): text formats do not all keep every bit of a float.
    cached_normal: Option<[u32; 2]>,
}

impl TorchRng {
    /// The generator after `torch.manual_seed(seed)`.
    ///
    /// As in PyTorch, the drawn values depend on the low 32 bits of `seed` only. (Those of a [`TorchRng::fork`] depend on
    /// all 64.)
    pub fn new(seed: u64) -> Self {
        let [low, high] = split(seed);
        Self { key: vec![low, high], words: seeded(low), position: WORDS, cached_normal: None }
    }

    /// A separate generator for one sample, clip or worker: it depends on the key of `self` and on `stream`, not on how much `self`
    /// has drawn. Different streams are independent, and forks can be forked again.
    pub fn fork(&self, stream: u64) -> Self {
        let mut key = self.key.clone();
        key.extend(split(stream));
        Self { words: keyed(&key), key, position: WORDS, cached_normal: None }
    }

    /// The exact state.
    pub fn state(&self) -> RngState {
        RngState {
            key: self.key.clone(),
            words: self.words.clone(),
            position: self.position,
            cached_normal: self.cached_normal.map(|v| {
                let [low, high] = split(v.to_bits());
                [high, low]
            }),
        }
    }

    /// The generator with `state`, which draws the same next values.
    ///
    /// # Errors
    ///
    /// If the state has the wrong number of words or a position outside its block (a damaged file).
    pub fn from_state(state: &RngState) -> Result<Self> {
        if state.words.len() != WORDS || state.position > WORDS || state.key.len() < 2 {
            return Err(Error::config(
                "generator state",
                format!(
                    "expected {WORDS} words, a position up to {WORDS} and a key of 2 or more words, got {}, {} and {}: \
                     the file is damaged",
                    state.words.len(),
                    state.position,
                    state.key.len()
                ),
            ));
        }
        let cached = state.cached_normal.map(|[high, low]| f64::from_bits(u64::from(high) << 32 | u64::from(low)));
        Ok(Self { key: state.key.clone(), words: state.words.clone(), position: state.position, cached_normal: cached })
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.position == WORDS {
            advance(&mut self.words);
            self.position = 0;
        }
        let mut y = self.words[self.position];
        self.position += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// The next 64 random bits: two draws, the first one in the high half.
    pub fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.next_u32());
        high << 32 | u64::from(self.next_u32())
    }

    /// One `torch.rand((), dtype=float64)`: uniform in [0, 1), 53 bits.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64
    }

    /// `torch.rand(n)`: uniform in [0, 1), 24 bits each.
    pub fn rand_f32(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.uniform_f32()).collect()
    }

    fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() & ((1 << 24) - 1)) as f32 / (1 << 24) as f32
    }

    /// `torch.randint(lo, hi, (n,))`: integers `lo <= i < hi`.
    ///
    /// # Errors
    ///
    /// If `lo >= hi`.
    pub fn randint(&mut self, lo: i64, hi: i64, n: usize) -> Result<Vec<i64>> {
        if lo >= hi {
            return Err(Error::config("randint", format!("expected lo < hi, got {lo} and {hi}")));
        }
        let range = hi.wrapping_sub(lo) as u64;
        Ok((0..n)
            .map(|_| {
                let bits = if range >> 32 == 0 { u64::from(self.next_u32()) } else { self.next_u64() };
                lo.wrapping_add((bits % range) as i64)
            })
            .collect())
    }

    /// `torch.randperm(n)`: a random permutation of the numbers below `n`.
    pub fn randperm(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in 0..n.saturating_sub(1) {
            let offset = self.next_u32() as usize % (n - i);
            order.swap(i, i + offset);
        }
        order
    }

    /// `torch.randn(shape)`: standard normal, f32, on the CPU.
    ///
    /// # Errors
    ///
    /// If the tensor cannot be made.
    pub fn randn(&mut self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        let values = self.randn_f32(shape.elem_count());
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// The values of `torch.randn(n)`.
    ///
    /// PyTorch draws fewer than 16 values one by one in f64 and keeps the second of each pair for the next call. For 16 or more it
    /// transforms blocks of 16 uniform values in f32, and redraws the last 16 values if `n` is no multiple of 16.
    pub fn randn_f32(&mut self, n: usize) -> Vec<f32> {
        if n < BLOCK {
            return (0..n).map(|_| self.normal_f64() as f32).collect();
        }
        let mut values = self.rand_f32(n);
        // Uniform values depend on each other, the transform of a block on its own values alone.
        values.par_chunks_mut(PARALLEL).for_each(|part| part.chunks_exact_mut(BLOCK).for_each(block_to_normal));
        if !n.is_multiple_of(BLOCK) {
            let end = &mut values[n - BLOCK..];
            for value in end.iter_mut() {
                *value = self.uniform_f32();
            }
            block_to_normal(end);
        }
        values
    }

    fn normal_f64(&mut self) -> f64 {
        if let Some(cached) = self.cached_normal.take() {
            return cached;
        }
        let u1 = self.uniform_f64();
        let u2 = self.uniform_f64();
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = TAU * u1;
        self.cached_normal = Some(radius * theta.sin());
        radius * theta.cos()
    }
}

fn split(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// The state of an MT19937 seeded with one word.
fn seeded(seed: u32) -> Vec<u32> {
    let mut words = vec![seed; WORDS];
    for i in 1..WORDS {
        let previous = words[i - 1];
        words[i] = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
    }
    words
}

/// The state of an MT19937 seeded with a key of several words (the generator's own algorithm).
fn keyed(key: &[u32]) -> Vec<u32> {
    let mut words = seeded(19_650_218);
    let mut i = 1;
    let mut step = |i: &mut usize, factor: u32, add: &dyn Fn(usize) -> u32| {
        let previous = words[*i - 1];
        words[*i] = (words[*i] ^ (previous ^ (previous >> 30)).wrapping_mul(factor)).wrapping_add(add(*i));
        *i += 1;
        if *i == WORDS {
            words[0] = words[WORDS - 1];
            *i = 1;
        }
    };
    for k in 0..WORDS.max(key.len()) {
        let j = k % key.len();
        step(&mut i, 1_664_525, &|_| key[j].wrapping_add(j as u32));
    }
    for _ in 1..WORDS {
        step(&mut i, 1_566_083_941, &|i| (i as u32).wrapping_neg());
    }
    words[0] = 0x8000_0000;
    words
}

/// The next block of words.
fn advance(words: &mut [u32]) {
    for i in 0..WORDS {
        let y = (words[i] & 0x8000_0000) | (words[(i + 1) % WORDS] & 0x7fff_ffff);
        let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
        words[i] = words[(i + SHIFT) % WORDS] ^ (y >> 1) ^ twist;
    }
}

/// Box–Muller on a block of 16 uniform values: the first eight give radii, the last eight angles.
fn block_to_normal(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (a, b) in radii.iter_mut().zip(angles) {
        let radius = (-2.0 * ln(1.0 - *a)).sqrt();
        let (sin, cos) = sin_cos(std::f32::consts::TAU * *b);
        *a = radius * cos;
        *b = radius * sin;
    }
}

// PyTorch's vector code uses the single-precision polynomials of the Cephes library, contracted to fused multiply-adds. The same
// polynomials in the same order give the same bits, and, unlike a system's libm, on every machine.

/// Natural logarithm of a positive normal number.
fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 23) as f32 - 126.0;
    let mut m = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000); // mantissa in [0.5, 1)
    if m < std::f32::consts::FRAC_1_SQRT_2 {
        exponent -= 1.0;
        m += m;
    }
    m -= 1.0;
    let z = m * m;
    let p = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    let y = (polynomial(&p, m) * m).mul_add(z, exponent * -2.121_944_4e-4);
    let y = z.mul_add(-0.5, y);
    exponent.mul_add(0.693_359_4, m + y)
}

/// Sine and cosine of an angle in [0, 2π].
fn sin_cos(angle: f32) -> (f32, f32) {
    let octant = ((angle * (4.0 / std::f32::consts::PI)) as u32 + 1) & !1;
    let y = octant as f32;
    // π/4 in three parts, so that the difference keeps its low bits.
    let x = y.mul_add(-0.785_156_25, angle);
    let x = y.mul_add(-2.418_756_5e-4, x);
    let x = y.mul_add(-3.774_895e-8, x);
    let z = x * x;
    let cos = polynomial(&[2.443_315_8e-5, -1.388_731_6e-3, 4.166_664_6e-2], z) * z;
    let cos = cos.mul_add(z, z * -0.5) + 1.0;
    let sin = polynomial(&[-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1], z) * z;
    let sin = sin.mul_add(x, x);
    match octant & 7 {
        0 => (sin, cos),
        2 => (cos, -sin),
        4 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// The value at `x` of the polynomial whose coefficients are given, highest power first.
fn polynomial(coefficients: &[f32], x: f32) -> f32 {
    coefficients.iter().skip(1).fold(coefficients[0], |sum, &c| sum.mul_add(x, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs that the authors of the generator publish (mt19937ar.out), for one word and for a key.
    #[test]
    fn the_twister_is_the_published_one() {
        assert_eq!(TorchRng::new(5489).next_u32(), 3_499_211_612);
        let words = keyed(&[0x123, 0x234, 0x345, 0x456]);
        let mut rng = TorchRng { key: vec![0, 0], words, position: WORDS, cached_normal: None };
        let first: Vec<u32> = (0..5).map(|_| rng.next_u32()).collect();
        assert_eq!(first, [1_067_595_299, 955_945_823, 477_289_528, 4_107_218_783, 4_228_976_476]);
    }

    #[test]
    fn polynomials_agree_with_libm() {
        for i in 1..=10_000_u32 {
            let u = i as f32 / 10_000.0;
            assert!((ln(u) - u.ln()).abs() <= 2e-7 * u.ln().abs().max(1.0), "ln {u}");
            let angle = std::f32::consts::TAU * u;
            let (sin, cos) = sin_cos(angle);
            let (sin_f64, cos_f64) = f64::from(angle).sin_cos();
            assert!((f64::from(sin) - sin_f64).abs() < 2e-7 && (f64::from(cos) - cos_f64).abs() < 2e-7, "angle {angle}");
        }
    }
}
