//! The interface of a device that the tensor library does not support.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;

use super::Backend;
use crate::Result;

/// A tensor in the memory of a device that the tensor library does not support. A device is a type that implements this and a
/// [`Backend`], in a folder of its own; [`Value`](super::Value) needs nothing else of it.
pub(in crate::backend) trait DeviceTensor: Any + fmt::Debug + Send + Sync {
    /// The lengths of the axes.
    fn dims(&self) -> &[usize];

    /// The kernels of the device. The [name](Backend::name) distinguishes it from all other devices.
    fn backend(&self) -> &'static dyn Backend;

    /// A copy on the CPU, in memory of its own.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn fetch(&self) -> Result<Tensor>;

    /// A copy of `tensor` on this device, in memory of its own.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    fn send(&self, tensor: &Tensor) -> Result<Arc<dyn DeviceTensor>>;

    /// Copies the values of `tensor`, which has the same shape, to this tensor's memory.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn replace(&self, tensor: &Tensor) -> Result<()>;
}
