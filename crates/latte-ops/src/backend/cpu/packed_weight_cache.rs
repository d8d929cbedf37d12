//! Weights in the order in which matmuls read them, packed once and used many times.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::TensorId;

use crate::backend::cpu::gemm::{Kernel, Matrix, Packed};
use crate::backend::cpu::slices::Values;
use crate::{Result, Var};

/// The side of the matmul on which a weight `[out, in]` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// `x · weightᵀ`, of the forward pass.
    Forward,
    /// `gradient · weight`, of the backward pass.
    Backward,
}

type Entries = HashMap<(TensorId, Side, Kernel), Arc<Packed>>;

/// A cache of packed weights. It is valid as long as the weights do not change: for a whole sampling run, or for one training step.
///
/// A clone is another handle to the same memory.
///
/// Pass it to tapes with [`crate::Tape::with_packed_weight_cache`], and pass a new one after weights were changed in place: the
/// cache finds a packed weight by the identity of its value, which an update in place does not change.
#[derive(Clone, Default)]
pub struct PackedWeightCache {
    entries: Arc<Mutex<Entries>>,
}

impl PackedWeightCache {
    /// An empty cache: each weight is packed when it is first used.
    pub fn new() -> Self {
        Self::default()
    }

    /// The size of the packed weights in bytes.
    pub fn size(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).values().map(|packed| packed.size()).sum()
    }

    fn get(&self, weight: &Var, side: Side, kernel: Kernel) -> Result<Arc<Packed>> {
        let Some(id) = weight.value().id() else { return Ok(Arc::new(pack(weight, side, kernel)?)) };
        let key = (id, side, kernel);
        if let Some(packed) = self.entries.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(packed.clone());
        }
        let packed = Arc::new(pack(weight, side, kernel)?);
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(key, packed.clone());
        Ok(packed)
    }
}

impl fmt::Debug for PackedWeightCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedWeightCache").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// The weight `[out, in]` packed for `kernel`: from its own cache if it is frozen, or from `kept` if it is a parameter.
pub(super) fn packed(kept: Option<&PackedWeightCache>, weight: &Var, side: Side, kernel: Kernel) -> Result<Arc<Packed>> {
    match weight.packed().or(kept) {
        Some(kept) if weight.is_parameter() => kept.get(weight, side, kernel),
        _ => Ok(Arc::new(pack(weight, side, kernel)?)),
    }
}

fn pack(weight: &Var, side: Side, kernel: Kernel) -> Result<Packed> {
    let weight = weight.value().fetch()?.contiguous()?;
    let (out, input) = weight.dims2()?;
    let values = Values::of(&weight)?;
    let matrix = Matrix::rows(&values, input);
    Ok(match side {
        Side::Forward => Packed::new(kernel, matrix.transposed(), input, out),
        Side::Backward => Packed::new(kernel, matrix, out, input),
    })
}
