//! Where a model's tensors come from.

use candle_core::{DType, Device, Tensor};
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

    /// The tensor called `name` as values of `dtype` on `device`, whatever it is stored as.
    ///
    /// # Errors
    ///
    /// If there is none, it cannot be read, or the device has no memory left.
    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor>;

    /// The tensor called `name` as f32 on the CPU.
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

/// The tensor called `name` as f32 on the CPU, which must have the shape `shape`.
///
/// # Errors
///
/// If there is none, it has another shape, or it cannot be read.
pub fn expect_tensor(source: &dyn TensorSource, name: &str, shape: &[usize]) -> Result<Tensor> {
    expect_tensor_on(source, name, shape, DType::F32, &Device::Cpu)
}

/// [`expect_tensor`] as values of `dtype` on `device`.
///
/// # Errors
///
/// As [`expect_tensor`], or if the device has no memory left.
pub fn expect_tensor_on(source: &dyn TensorSource, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    match source.shape(name) {
        Some(found) if found != shape => Err(Error::Shape { name: name.into(), expected: format!("{shape:?}"), got: found }),
        _ => source.tensor(name, dtype, device),
    }
}

/// What keeps `source` from holding the tensors `expected`, by name and shape: those that are missing or have another shape.
pub fn misfits<'n>(expected: impl IntoIterator<Item = (&'n str, &'n [usize])>, source: &dyn TensorSource) -> Vec<String> {
    let misfit = |(name, shape): (&str, &[usize])| match source.shape(name) {
        None => Some(format!("`{name}` is missing")),
        Some(found) if found != shape => Some(format!("`{name}` should be {shape:?} but is {found:?}")),
        Some(_) => None,
    };
    expected.into_iter().filter_map(misfit).collect()
}

/// An error that lists what is `wrong` with the tensors that were to be those of `whose`, if anything is.
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
