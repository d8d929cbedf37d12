//! Sources of a model's tensors.

use candle_core::{DType, Device, Tensor};
use latte_ops::Parameters;

use crate::{Error, Result};

/// Named tensors that a model is built from: in memory ([`Parameters`]), or in files that are read tensor by tensor.
///
/// A model reads each tensor when it needs it, so that a file larger than the memory can be used layer by layer.
pub trait TensorSource: Send + Sync {
    /// All names, in a fixed order.
    fn names(&self) -> Vec<String>;

    /// The shape of the tensor `name`; `None` if there is no such tensor.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// The tensor `name` converted to `dtype`, on `device`.
    ///
    /// # Errors
    ///
    /// If there is no such tensor, it cannot be read, or the device has no memory left.
    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor>;

    /// The tensor `name` as f32 on the CPU.
    ///
    /// # Errors
    ///
    /// As [`tensor`](Self::tensor).
    fn f32_tensor(&self, name: &str) -> Result<Tensor> {
        self.tensor(name, DType::F32, &Device::Cpu)
    }
}

impl TensorSource for Parameters {
    fn names(&self) -> Vec<String> {
        self.iter().map(|(name, _)| name.to_string()).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.get(name).ok().map(|value| value.dims().to_vec())
    }

    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(self.get(name)?.to_host()?.to_dtype(dtype)?.to_device(device)?)
    }
}

/// The tensor `name` as f32 on the CPU, which must have the shape `shape`.
///
/// # Errors
///
/// If there is no such tensor, it has another shape, or it cannot be read.
pub fn expect_tensor(source: &dyn TensorSource, name: &str, shape: &[usize]) -> Result<Tensor> {
    expect_tensor_on(source, name, shape, DType::F32, &Device::Cpu)
}

/// [`expect_tensor`] converted to `dtype`, on `device`.
///
/// # Errors
///
/// Those of [`expect_tensor`], or if the device has no memory left.
pub fn expect_tensor_on(source: &dyn TensorSource, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    match source.shape(name) {
        Some(found) if found != shape => Err(Error::Shape { name: name.into(), expected: format!("{shape:?}"), got: found }),
        _ => source.tensor(name, dtype, device),
    }
}

/// The `expected` tensors, by name and shape, that `source` lacks or holds with another shape, as messages.
pub fn misfits<'n>(expected: impl IntoIterator<Item = (&'n str, &'n [usize])>, source: &dyn TensorSource) -> Vec<String> {
    let misfit = |(name, shape): (&str, &[usize])| match source.shape(name) {
        None => Some(format!("`{name}` is missing")),
        Some(found) if found != shape => Some(format!("`{name}` should be {shape:?} but is {found:?}")),
        Some(_) => None,
    };
    expected.into_iter().filter_map(misfit).collect()
}

/// An error that lists `wrong`, the problems with the tensors of `whose`, if there are any.
///
/// # Errors
///
/// If `wrong` is not empty.
pub fn all_fit(whose: &str, wrong: &[String]) -> std::result::Result<(), String> {
    const MAX_LISTED: usize = 5;
    if wrong.is_empty() { Ok(()) } else { Err(format!("the tensors do not fit {whose}: {}", listed(wrong, MAX_LISTED))) }
}

/// `a, b and 3 more`: at most `most` of `items`.
pub fn listed(items: &[String], most: usize) -> String {
    let shown = items[..items.len().min(most)].join(", ");
    match items.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
