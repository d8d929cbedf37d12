//! Values: tensors on any device.

use std::sync::Arc;

use candle_core::{Device, Tensor, TensorId};

use super::cpu::slices;
use super::device_tensor::DeviceTensor;
use crate::Result;

/// A tensor on some device: the type that tapes, gradients and parameter sets hold. A clone shares its memory.
#[derive(Debug, Clone)]
pub struct Value {
    repr: Repr,
}

/// The device and memory of a tensor.
#[derive(Debug, Clone)]
pub(super) enum Repr {
    /// On a device that the tensor library supports.
    Host(Tensor),
    /// On a device that it does not support.
    Device(Arc<dyn DeviceTensor>),
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self { repr: Repr::Host(tensor) }
    }
}

impl From<&Tensor> for Value {
    fn from(tensor: &Tensor) -> Self {
        tensor.clone().into()
    }
}

impl From<&Self> for Value {
    fn from(value: &Self) -> Self {
        value.clone()
    }
}

impl From<Arc<dyn DeviceTensor>> for Value {
    fn from(tensor: Arc<dyn DeviceTensor>) -> Self {
        Self { repr: Repr::Device(tensor) }
    }
}

impl Value {
    pub(super) fn repr(&self) -> &Repr {
        &self.repr
    }

    /// The tensor, if it is one of the device whose tensors are `T`: for the kernels of that device.
    #[cfg_attr(not(test), allow(dead_code, reason = "only tests have a device that the tensor library does not support"))]
    pub(in crate::backend) fn on<T: DeviceTensor>(&self) -> Option<&T> {
        match &self.repr {
            Repr::Host(_) => None,
            Repr::Device(tensor) => (tensor.as_ref() as &dyn std::any::Any).downcast_ref(),
        }
    }

    /// The lengths of the axes.
    pub fn dims(&self) -> &[usize] {
        match &self.repr {
            Repr::Host(tensor) => tensor.dims(),
            Repr::Device(tensor) => tensor.dims(),
        }
    }

    /// The number of elements.
    pub fn elem_count(&self) -> usize {
        self.dims().iter().product()
    }

    /// The values on the CPU. A tensor that is already there is shared, not copied.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn to_host(&self) -> Result<Tensor> {
        Ok(self.fetch()?.to_device(&Device::Cpu)?)
    }

    /// `tensor` on the device of this value. A tensor that is already there is shared, not copied.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn beside(&self, tensor: &Tensor) -> Result<Self> {
        match &self.repr {
            Repr::Host(own) => Ok(tensor.to_device(own.device())?.into()),
            Repr::Device(own) => Ok(own.send(tensor)?.into()),
        }
    }

    /// A value with these f32 `values`, on the device of this one.
    pub(crate) fn table(&self, values: Vec<f32>, dims: &[usize]) -> Result<Self> {
        self.beside(&Tensor::from_vec(values, dims, &Device::Cpu)?)
    }

    /// The same values on `device`. A tensor that is already there is shared, not copied.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(self.fetch()?.to_device(device)?.into())
    }

    /// A copy of the values in its own memory, which may be changed in place.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn deep_copy(&self) -> Result<Self> {
        self.like(self.fetch()?.copy()?)
    }

    /// Zeros of the same shape, in their own memory.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn zeros_like(&self) -> Result<Self> {
        // The library's `zeros_like` may share one allocation; `copy` allocates new memory.
        self.like(self.fetch()?.zeros_like()?.copy()?)
    }

    /// The values, contiguous, in memory that nothing else holds; with `is_own` the memory is already unshared.
    pub(crate) fn into_own(self, is_own: bool) -> Result<Self> {
        let tensor = self.fetch()?;
        self.like(if is_own { tensor.contiguous()? } else { tensor.copy()? })
    }

    /// The values as a tensor of the library: in place if it supports the device, else on the CPU.
    pub(crate) fn fetch(&self) -> Result<Tensor> {
        match &self.repr {
            Repr::Host(tensor) => Ok(tensor.clone()),
            Repr::Device(tensor) => tensor.fetch(),
        }
    }

    /// A tensor computed from [`fetch`](Self::fetch)ed values, on the device of this one.
    pub(crate) fn like(&self, tensor: Tensor) -> Result<Self> {
        match &self.repr {
            Repr::Host(_) => Ok(tensor.into()),
            Repr::Device(own) => Ok(own.send(&tensor)?.into()),
        }
    }

    /// The identity of this tensor: unique as long as it lives, and not changed by updates in place.
    pub(in crate::backend) fn id(&self) -> Option<TensorId> {
        match &self.repr {
            Repr::Host(tensor) => Some(tensor.id()),
            Repr::Device(_) => None,
        }
    }

    /// Copies the values of `tensor` to this value, in place.
    pub(crate) fn replace(&self, tensor: &Tensor) -> Result<()> {
        match &self.repr {
            Repr::Host(own) => slices::replace(own, tensor),
            Repr::Device(own) => own.replace(tensor),
        }
    }

    /// Calls `change` to write into the values: in place if the library supports the device, else on a CPU copy that is copied
    /// back.
    pub(crate) fn change(&self, change: impl FnOnce(&Tensor) -> Result<()>) -> Result<()> {
        match &self.repr {
            Repr::Host(own) => change(own),
            Repr::Device(own) => {
                let tensor = own.fetch()?;
                change(&tensor)?;
                own.replace(&tensor)
            }
        }
    }
}
