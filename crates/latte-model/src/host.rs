//! Tensors in the memory of the CPU, where constants and fresh weights of networks begin. Networks name no device: what they make here
//! enters the tape beside the weights, wherever those are.

use candle_core::{DType, Device, Shape, Tensor};

use crate::Result;

/// These values in this shape.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape.into(), &Device::Cpu)?)
}

/// `value` everywhere.
pub(crate) fn full(value: f32, shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::full(value, shape, &Device::Cpu)?)
}

/// Zeros, in memory of their own.
pub(crate) fn zeros(shape: impl Into<Shape>) -> Result<Tensor> {
    Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?)
}

/// `tensor` where `other` is.
pub(crate) fn beside(tensor: &Tensor, other: &Tensor) -> Result<Tensor> {
    Ok(tensor.to_device(other.device())?)
}
