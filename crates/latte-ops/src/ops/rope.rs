//! Rotary position embedding (RoFormer, arXiv 2104.09864, equation 34).

use crate::{Error, Result, Value};

/// The angles that rotate queries and keys: the pair of elements `2i, 2i+1` at position `p` is rotated by `p · 10000^(−2i/k)`.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Value, // [positions, k/2]
    sin: Value, // [positions, k/2]
}

impl Rope {
    /// The angles of `positions` positions for heads of `head_size`, on the device of `beside`.
    ///
    /// # Errors
    ///
    /// If `head_size` is odd, or the device has no memory left.
    pub fn new(positions: usize, head_size: usize, beside: &Value) -> Result<Self> {
        if !head_size.is_multiple_of(2) {
            return Err(Error::shape("rope", "an even head size", head_size));
        }
        let pairs = head_size / 2;
        let angles =
            (0..positions).flat_map(|p| (0..pairs).map(move |i| p as f64 * 10000f64.powf(-2.0 * i as f64 / head_size as f64)));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
        let table = |values: Vec<f32>| beside.table(values, &[positions, pairs]);
        Ok(Self { cos: table(cos)?, sin: table(sin)? })
    }

    pub(super) fn check(&self, positions: usize, head_size: usize) -> Result<()> {
        if self.cos.dims() == [positions, head_size / 2] {
            Ok(())
        } else {
            Err(Error::shape("rope", format!("angles [{positions}, {}]", head_size / 2), self.cos.dims()))
        }
    }

    /// Cosines and sines, `[positions, k/2]` each.
    pub(crate) fn tables(&self) -> [&Value; 2] {
        [&self.cos, &self.sin]
    }
}
