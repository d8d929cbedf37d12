//! Values: tensors, wherever they are.

use candle_core::{Device, Tensor, TensorId};

use super::cpu::slices;
#[cfg(test)]
use super::remote::RemoteTensor;
use crate::Result;

/// A tensor on some device: what tapes, gradients and sets of parameters hold. A clone shares its memory.
#[derive(Debug, Clone)]
pub struct Value {
    repr: Repr,
}

/// Where a tensor is.
#[derive(Debug, Clone)]
pub(super) enum Repr {
    /// On a device that the tensor library knows.
    Host(Tensor),
    /// On one that it does not know, as tests have it.
    #[cfg(test)]
    Remote(RemoteTensor),
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

#[cfg(test)]
impl From<RemoteTensor> for Value {
    fn from(tensor: RemoteTensor) -> Self {
        Self { repr: Repr::Remote(tensor) }
    }
}

impl Value {
    pub(super) fn repr(&self) -> &Repr {
        &self.repr
    }

    /// The lengths of the axes.
    pub fn dims(&self) -> &[usize] {
        match &self.repr {
            Repr::Host(tensor) => tensor.dims(),
            #[cfg(test)]
            Repr::Remote(tensor) => tensor.dims(),
        }
    }

    /// How many values there are.
    pub fn elem_count(&self) -> usize {
        self.dims().iter().product()
    }

    /// The values on the CPU. What is there already is shared.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn to_host(&self) -> Result<Tensor> {
        Ok(self.fetch()?.to_device(&Device::Cpu)?)
    }

    /// `tensor` on the device of this value. What is there already is shared.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn beside(&self, tensor: &Tensor) -> Result<Self> {
        match &self.repr {
            Repr::Host(own) => Ok(tensor.to_device(own.device())?.into()),
            #[cfg(test)]
            Repr::Remote(_) => Ok(RemoteTensor::send(tensor)?.into()),
        }
    }

    /// Values on the device of this one.
    pub(crate) fn table(&self, values: Vec<f32>, dims: &[usize]) -> Result<Self> {
        self.beside(&Tensor::from_vec(values, dims, &Device::Cpu)?)
    }

    /// The same values on `device`. What is there already is shared.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(self.fetch()?.to_device(device)?.into())
    }

    /// The same values in memory of their own, so that they may be changed in place.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn deep_copy(&self) -> Result<Self> {
        self.like(self.fetch()?.copy()?)
    }

    /// Zeros of the same shape, in memory of their own.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn zeros_like(&self) -> Result<Self> {
        // The library's `zeros_like` may share one allocation; `copy` gives each its own.
        self.like(self.fetch()?.zeros_like()?.copy()?)
    }

    /// The values in memory that nothing else holds, side by side; `is_own` if the memory is nothing else's already.
    pub(crate) fn into_own(self, is_own: bool) -> Result<Self> {
        let tensor = self.fetch()?;
        self.like(if is_own { tensor.contiguous()? } else { tensor.copy()? })
    }

    /// The values as a tensor that the library can work on: where they are if it knows the device, else on the CPU.
    #[cfg_attr(
        not(test),
        expect(clippy::unnecessary_wraps, reason = "tests have a device whose memory is elsewhere, and GPUs will be one")
    )]
    pub(crate) fn fetch(&self) -> Result<Tensor> {
        match &self.repr {
            Repr::Host(tensor) => Ok(tensor.clone()),
            #[cfg(test)]
            Repr::Remote(tensor) => tensor.fetch(),
        }
    }

    /// What the library worked out of [`fetch`](Self::fetch)ed values, on the device of this one.
    #[cfg_attr(
        not(test),
        expect(clippy::unnecessary_wraps, reason = "tests have a device whose memory is elsewhere, and GPUs will be one")
    )]
    pub(crate) fn like(&self, tensor: Tensor) -> Result<Self> {
        match &self.repr {
            Repr::Host(_) => Ok(tensor.into()),
            #[cfg(test)]
            Repr::Remote(_) => Ok(RemoteTensor::send(&tensor)?.into()),
        }
    }

    /// What tells this tensor from all others for as long as it lives; changes in place leave it as it is.
    #[cfg_attr(
        not(test),
        expect(clippy::unnecessary_wraps, reason = "tests have a device whose memory is elsewhere, and GPUs will be one")
    )]
    pub(in crate::backend) fn id(&self) -> Option<TensorId> {
        match &self.repr {
            Repr::Host(tensor) => Some(tensor.id()),
            #[cfg(test)]
            Repr::Remote(_) => None,
        }
    }

    /// Gives this value the values of `tensor`, in place.
    pub(crate) fn replace(&self, tensor: &Tensor) -> Result<()> {
        match &self.repr {
            Repr::Host(own) => slices::replace(own, tensor),
            #[cfg(test)]
            Repr::Remote(own) => own.replace(tensor),
        }
    }

    /// Lets `change` write into the values: where they are if the library knows the device, else on the CPU, from where they are
    /// sent back.
    pub(crate) fn change(&self, change: impl FnOnce(&Tensor) -> Result<()>) -> Result<()> {
        match &self.repr {
            Repr::Host(own) => change(own),
            #[cfg(test)]
            Repr::Remote(own) => {
                let tensor = own.fetch()?;
                change(&tensor)?;
                own.replace(&tensor)
            }
        }
    }
}
