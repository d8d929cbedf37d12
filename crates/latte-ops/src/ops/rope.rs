//! Rotary positions (RoFormer, arXiv 2104.09864, equation 34).

use candle_core::{Device, Tensor};

use crate::{Error, Result};

/// Angles for rotating queries and keys: the pair of elements `2i, 2i+1` at position `p` turns by `p · 10000^(−2i/k)`.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Tensor, // [positions, k/2]
    sin: Tensor, // [positions, k/2]
}

impl Rope {
    /// The angles of `positions` places for heads of `head_size`.
    ///
    /// # Errors
    ///
    /// If `head_size` is odd.
    pub fn new(positions: usize, head_size: usize, device: &Device) -> Result<Self> {
        if !head_size.is_multiple_of(2) {
            return Err(Error::shape("rope", "an even head size", head_size));
        }
        let pairs = head_size / 2;
        let angles =
            (0..positions).flat_map(|p| (0..pairs).map(move |i| p as f64 * 10000f64.powf(-2.0 * i as f64 / head_size as f64)));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
        let shape = (positions, pairs);
        Ok(Self { cos: Tensor::from_vec(cos, shape, device)?, sin: Tensor::from_vec(sin, shape, device)? })
    }

    pub(crate) fn check(&self, positions: usize, head_size: usize) -> Result<()> {
        if self.cos.dims() == [positions, head_size / 2] {
            Ok(())
        } else {
            Err(Error::shape("rope", format!("angles [{positions}, {}]", head_size / 2), self.cos.dims()))
        }
    }

    /// Cosines `[positions, k/2]`.
    pub(crate) fn cos(&self) -> &Tensor {
        &self.cos
    }

    /// Sines `[positions, k/2]`.
    pub(crate) fn sin(&self) -> &Tensor {
        &self.sin
    }

    /// Rotates `[sequences, positions, k]`.
    pub(crate) fn rotate(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.turn(x, &self.sin)
    }

    /// Rotates back, which is also the backward function of [`Rope::rotate`].
    pub(crate) fn rotate_back(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.turn(x, &self.sin.neg()?)
    }

    fn turn(&self, x: &Tensor, sin: &Tensor) -> candle_core::Result<Tensor> {
        let (sequences, positions, k) = x.dims3()?;
        let pairs = x.reshape((sequences, positions, k / 2, 2))?;
        let (even, odd) = (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?); // [sequences, positions, k/2]
        let turned_even = (even.broadcast_mul(&self.cos)? - odd.broadcast_mul(sin)?)?;
        let turned_odd = (even.broadcast_mul(sin)? + odd.broadcast_mul(&self.cos)?)?;
        Tensor::stack(&[turned_even, turned_odd], 3)?.reshape((sequences, positions, k))
    }
}
