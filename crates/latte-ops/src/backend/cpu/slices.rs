//! In-place work on the values of CPU tensors: sums of gradients, the global norm, the optimiser.
//!
//! Candle's own operations allocate a result each; these do not, and they use all threads.

use std::cell::RefCell;
use std::ops::Deref;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Storage, Tensor};
use rayon::prelude::*;

use crate::backend::forced;
use crate::{Error, Result};

/// Values per piece of parallel work: large enough to hide the cost of a task, small enough for every cache.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Calls `f` with the values of a contiguous f32 CPU tensor, for changing them in place.
pub(crate) fn with_slice_mut<R>(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> Result<R>) -> Result<R> {
    struct Op<F, R> {
        f: RefCell<Option<F>>,
        result: RefCell<Option<Result<R>>>,
    }
    impl<R, F: FnOnce(&mut [f32]) -> Result<R>> InplaceOp1 for Op<F, R> {
        fn name(&self) -> &'static str {
            "in-place update"
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
            let Some((start, end)) = layout.contiguous_offsets() else {
                candle_core::bail!("an in-place update needs a contiguous tensor")
            };
            let CpuStorage::F32(values) = storage else { candle_core::bail!("an in-place update needs an f32 tensor") };
            if let Some(f) = self.f.borrow_mut().take() {
                *self.result.borrow_mut() = Some(f(&mut values[start..end]));
            }
            Ok(())
        }
    }
    let op = Op { f: RefCell::new(Some(f)), result: RefCell::new(None) };
    tensor.inplace_op1(&op)?;
    op.result.into_inner().unwrap_or_else(|| Err(candle_core::Error::Msg("an in-place update did not run".into()).into()))
}

/// Read access to the values of a contiguous f32 tensor on the CPU.
pub(crate) struct Values<'t> {
    storage: Box<dyn Deref<Target = Storage> + 't>,
    start: usize,
    len: usize,
}

impl<'t> Values<'t> {
    /// Takes the lock.
    pub(crate) fn of(tensor: &'t Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        if !matches!(&*storage, Storage::Cpu(CpuStorage::F32(_))) || !layout.is_contiguous() {
            return Err(Error::shape("values", "a contiguous f32 tensor on the CPU", tensor));
        }
        let start = layout.start_offset();
        Ok(Self { storage: Box::new(storage), start, len: tensor.elem_count() })
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.start + self.len],
            _ => unreachable!("checked when the lock was taken"),
        }
    }
}

/// Whether the CPU kernels take this tensor; others go through the reference formulation.
pub(crate) fn is_cpu_f32(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !forced::is_forced()
}

/// Gives `target` the values of `values`, in place, on any device.
pub(crate) fn replace(target: &Tensor, values: &Tensor) -> Result<()> {
    if target.rank() == 0 {
        let one = |t: &Tensor| t.reshape(1);
        return Ok(one(target)?.slice_set(&one(values)?, 0, 0)?);
    }
    Ok(target.slice_set(&values.contiguous()?, 0, 0)?)
}

/// `target += source`, in place.
///
/// # Errors
///
/// If the shapes differ, or `target` is not contiguous, or not f32.
pub fn add_assign(target: &Tensor, source: &Tensor) -> Result<()> {
    if target.dims() != source.dims() {
        return Err(Error::shape("add_assign", format!("{:?}", target.dims()), source.dims()));
    }
    if !is_cpu_f32(target) {
        return replace(target, &(target + source)?);
    }
    let source = source.contiguous()?;
    let source = Values::of(&source)?;
    let source: &[f32] = &source;
    with_slice_mut(target, |target| {
        target.par_chunks_mut(CHUNK).zip(source.par_chunks(CHUNK)).for_each(|(target, source)| {
            for (t, s) in target.iter_mut().zip(source) {
                *t += s;
            }
        });
        Ok(())
    })
}

/// The L2 norm of all values of all tensors together, summed in f64 in a fixed order.
///
/// # Errors
///
/// If a tensor is not f32.
pub fn global_norm<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let mut sum = 0.0;
    let mut elsewhere = Vec::new();
    for tensor in tensors {
        if !is_cpu_f32(tensor) {
            // One number each, fetched together at the end.
            elsewhere.push(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?);
            continue;
        }
        let tensor = tensor.contiguous()?;
        // Chunk sums are collected in order, so that the result does not depend on the number of threads.
        let parts: Vec<f64> =
            Values::of(&tensor)?.par_chunks(CHUNK).map(|c| c.iter().map(|&v| f64::from(v) * f64::from(v)).sum()).collect();
        sum += parts.iter().sum::<f64>();
    }
    if !elsewhere.is_empty() {
        sum += Tensor::stack(&elsewhere, 0)?.to_vec1::<f64>()?.iter().sum::<f64>();
    }
    Ok(sum.sqrt())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn add_assign_changes_the_target_only() -> Result<()> {
        let target = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;
        let source = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((3, 2))?.t()?;
        add_assign(&target, &source)?;
        assert_eq!(target.to_vec2::<f32>()?, [[0., 3., 6.], [4., 7., 10.]]);
        assert_eq!(source.to_vec2::<f32>()?, [[0., 2., 4.], [1., 3., 5.]]);
        assert!(add_assign(&target, &Tensor::zeros(6, DType::F32, &Device::Cpu)?).is_err());
        Ok(())
    }

    #[test]
    fn the_norm_of_several_tensors_is_that_of_their_values() -> Result<()> {
        let a = Tensor::new(&[3f32, 0.], &Device::Cpu)?;
        let b = Tensor::new(&[[0f32], [4.]], &Device::Cpu)?;
        assert!((global_norm([&a, &b])? - 5.0).abs() < 1e-12);
        Ok(())
    }
}
