//! Tensors in CPU memory: the constants and initial weights of networks. Networks name no device; these tensors are moved to the
//! device of the weights when they enter the tape.

use candle_core::{DType, Device, Shape, Tensor};

use crate::Result;

/// A tensor of these values in this shape.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape.into(), &Device::Cpu)?)
}

/// A tensor filled with `value`.
pub(crate) fn full(value: f32, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::full(value, shape, &Device::Cpu)?)
}

/// Zeros in their own memory.
pub(crate) fn zeros(shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?)
}

/// `tensor` on the device of `other`.
pub(crate) fn beside(tensor: &Tensor, other: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(other.device())?)
}
