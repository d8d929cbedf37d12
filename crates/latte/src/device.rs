//! On what a model works.

use latte_ops::DeviceChoice;

use crate::Result;

/// A device that was opened: the CPU, or a GPU.
#[derive(Debug, Clone)]
pub struct Device(candle_core::Device);

impl Device {
    /// The first GPU if this program was built for GPUs and one opens, else the CPU.
    ///
    /// # Errors
    ///
    /// Today none; other devices may fail.
    pub fn auto() -> Result<Self> {
        Self::open(DeviceChoice::Auto)
    }

    /// The CPU.
    pub fn cpu() -> Self {
        Self(candle_core::Device::Cpu)
    }

    /// The NVIDIA GPU of that number, counted from 0.
    ///
    /// # Errors
    ///
    /// If there is none, or this program was built without CUDA.
    pub fn cuda(index: usize) -> Result<Self> {
        Self::open(DeviceChoice::Cuda(index))
    }

    /// The device that is asked for.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open(choice: DeviceChoice) -> Result<Self> {
        Ok(Self(choice.open()?))
    }

    /// As the tensor library knows it.
    pub(crate) fn of_tensors(&self) -> &candle_core::Device {
        &self.0
    }
}

impl From<candle_core::Device> for Device {
    fn from(device: candle_core::Device) -> Self {
        Self(device)
    }
}
