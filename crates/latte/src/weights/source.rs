//! Where a model's tensors come from.

use candle_core::{DType, Tensor};
use latte_ops::Parameters;

use crate::{Error, Result};

/// Named tensors that a model is built from: in memory ([`Parameters`]), or in files that are read tensor by tensor.
///
/// Models ask for what they need when they need it, so that a file larger than the memory can be used layer by layer.
pub trait TensorSource: Send + Sync {
    /// All names, in a fixed order.
    fn names(&self) -> Vec<String>;

    /// The shape of the tensor called `name`; `None` if there is none.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// The tensor called `name` as f32 on the CPU, whatever it is stored as.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be read.
    fn tensor(&self, name: &str) -> Result<Tensor>;
}

impl TensorSource for Parameters {
    fn names(&self) -> Vec<String> {
        self.iter().map(|(name, _)| name.to_string()).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.get(name).ok().map(|tensor| tensor.dims().to_vec())
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        Ok(self.get(name)?.to_dtype(DType::F32)?)
    }
}

/// The tensor called `name`, which must have the shape `shape`.
///
/// # Errors
///
/// If there is none, it has another shape, or it cannot be read.
pub fn expect_tensor(source: &dyn TensorSource, name: &str, shape: &[usize]) -> Result<Tensor> {
    match source.shape(name) {
        Some(found) if found != shape => Err(Error::Shape { name: name.into(), expected: format!("{shape:?}"), got: found }),
        _ => source.tensor(name),
    }
}
