//! Values of golden files as tensors, and back.

use std::error::Error;

use candle_core::{Device, Tensor};
use golden::{Array, Case, Check};
use latte_model::noise::NoiseSource;
use latte_ops::Parameters;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn tensor(array: &Array) -> Result<Tensor> {
    Ok(Tensor::from_vec(array.to_f32(), array.shape.as_slice(), &Device::Cpu)?)
}

pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// Compares `ours` with the file's `out.<what>`, including the shapes. `name` is the name of the check.
pub(crate) fn check(case: &Case, what: &str, name: impl Into<String>, ours: &Tensor, tolerance: f64) -> Result<Check> {
    let reference = case.tensor(&format!("out.{what}"))?;
    if ours.dims() != reference.shape.as_slice() {
        return Err(format!("{what}: expected shape {:?}, got {:?}", reference.shape, ours.dims()).into());
    }
    Ok(Check::new_f32(name, &values(ours)?, reference, tolerance))
}

/// The file's weights.
pub(crate) fn parameters(case: &Case) -> Result<Parameters> {
    case.with_prefix("param.").map(|(name, array)| Ok((name.to_string(), tensor(array)?))).collect()
}

/// The reference's noise, one draw after the other.
pub(crate) struct Recorded {
    noise: Tensor,
    next: usize,
}

impl Recorded {
    /// `noise` has the draws along its first axis.
    pub(crate) fn new(noise: &Array) -> Result<Self> {
        Ok(Self { noise: tensor(noise)?, next: 0 })
    }
}

impl NoiseSource for Recorded {
    fn noise(&mut self, _shape: &[usize]) -> latte_model::Result<Tensor> {
        self.next += 1;
        Ok(self.noise.get(self.next - 1)?)
    }
}
