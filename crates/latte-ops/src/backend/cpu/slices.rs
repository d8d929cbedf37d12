//! In-place operations on the values of CPU tensors: sums of gradients, the global norm, the optimiser.
//!
//! Candle's own operations allocate each result; these do not, and they use all threads.

use std::cell::RefCell;
use std::ops::Deref;

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Tensor};
use rayon::prelude::*;

use crate::{Error, Result, Value};

/// Values per piece of parallel work: large enough to hide the cost of a task, small enough for every cache.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Calls `f` with the values of a contiguous f32 CPU tensor, which it may change in place.
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
    /// Locks the tensor's storage.
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

/// Copies the values of `values` to `target`, in place, on any device.
pub(in crate::backend) fn replace(target: &Tensor, values: &Tensor) -> Result<()> {
    if target.rank() == 0 {
        let one = |t: &Tensor| t.reshape(1);
        return Ok(one(target)?.slice_set(&one(values)?, 0, 0)?);
    }
    Ok(target.slice_set(&values.contiguous()?, 0, 0)?)
}

/// `target += source`, in place.
pub(super) fn add_assign(target: &Value, source: &Value) -> Result<()> {
    add_to(&target.fetch()?, &source.fetch()?)
}

/// `held + more`; in the memory of `held` if `own` is set.
pub(super) fn add_gradient(held: &Value, more: &Value, own: bool) -> Result<Value> {
    let (target, source) = (held.fetch()?, more.fetch()?);
    if own && target.is_contiguous() {
        add_to(&target, &source)?;
        return Ok(target.into());
    }
    Ok((target + source)?.into())
}

fn add_to(target: &Tensor, source: &Tensor) -> Result<()> {
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

/// The sum of the squares of all values, in f64 and in a fixed order.
pub(super) fn sum_of_squares(values: &[&Value]) -> Result<f64> {
    let mut sum = 0.0;
    for value in values {
        let tensor = value.fetch()?.contiguous()?;
        // Chunk sums are collected in order, so that the result does not depend on the number of threads.
        let parts: Vec<f64> =
            Values::of(&tensor)?.par_chunks(CHUNK).map(|c| c.iter().map(|&v| f64::from(v) * f64::from(v)).sum()).collect();
        sum += parts.iter().sum::<f64>();
    }
    Ok(sum)
}
