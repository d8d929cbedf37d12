//! A device that the tensor library does not support, for tests: the library cannot reach its memory, and its only kernel is a
//! linear layer without gradients. All other operations fall back to the reference.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};

use super::Backend;
use super::device_tensor::DeviceTensor;
use crate::ops::linear::Linear;
use crate::{Result, Value};

/// An f32 tensor in the device's memory.
#[derive(Debug)]
pub(super) struct RemoteTensor {
    memory: Mutex<Vec<f32>>,
    dims: Vec<usize>,
}

impl RemoteTensor {
    /// A copy of `tensor` on the device.
    pub(super) fn send(tensor: &Tensor) -> Result<Value> {
        Ok(Self::copy_of(tensor)?.into())
    }

    fn copy_of(tensor: &Tensor) -> Result<Arc<dyn DeviceTensor>> {
        Ok(Arc::new(Self { memory: Mutex::new(values(tensor)?), dims: tensor.dims().to_vec() }))
    }
}

impl DeviceTensor for RemoteTensor {
    fn dims(&self) -> &[usize] {
        &self.dims
    }

    fn backend(&self) -> &'static dyn Backend {
        &Remote
    }

    fn fetch(&self) -> Result<Tensor> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Tensor::from_slice(&memory, self.dims.as_slice(), &Device::Cpu)?)
    }

    fn send(&self, tensor: &Tensor) -> Result<Arc<dyn DeviceTensor>> {
        Self::copy_of(tensor)
    }

    fn replace(&self, tensor: &Tensor) -> Result<()> {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = values(tensor)?;
        Ok(())
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}

thread_local! {
    /// How often the device's kernel ran in this thread.
    pub(super) static RUNS_OF_KERNEL: Cell<u64> = const { Cell::new(0) };
}

/// The device's backend.
#[derive(Debug)]
pub(super) struct Remote;

impl Backend for Remote {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn linear_gated(&self, call: &Linear<'_>, residual: &Value, gate: &Value) -> Result<Value> {
        RUNS_OF_KERNEL.set(RUNS_OF_KERNEL.get() + 1);
        // This stands for a kernel, so it must not count as a fallback.
        super::reference::linear_gated(call, residual, gate)
    }
}
