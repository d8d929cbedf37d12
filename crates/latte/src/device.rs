//! The device that a model runs on.

use latte_ops::DeviceChoice;

use crate::Result;

/// An open device: the CPU or a GPU.
#[derive(Debug, Clone)]
pub struct Device(candle_core::Device);

impl Device {
    /// The first GPU if this program was built for GPUs and one can be opened, else the CPU.
    ///
    /// # Errors
    ///
    /// None today; other devices may fail.
    pub fn auto() -> Result<Self> {
        Self::open(DeviceChoice::Auto)
    }

    /// The CPU.
    pub fn cpu() -> Self {
        Self(candle_core::Device::Cpu)
    }

    /// The NVIDIA GPU with this index, from 0.
    ///
    /// # Errors
    ///
    /// If there is no such GPU, or this program was built without CUDA.
    pub fn cuda(index: usize) -> Result<Self> {
        Self::open(DeviceChoice::Cuda(index))
    }

    /// Opens the device of `choice`.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open(choice: DeviceChoice) -> Result<Self> {
        Ok(Self(choice.open()?))
    }

    /// The device as the tensor library represents it.
    pub(crate) fn of_tensors(&self) -> &candle_core::Device {
        &self.0
    }
}

impl From<candle_core::Device> for Device {
    fn from(device: candle_core::Device) -> Self {
        Self(device)
    }
}
