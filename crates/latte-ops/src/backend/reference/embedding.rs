//! The reference formulation.

use candle_core::{DType, Tensor};

use crate::tape::{Computed, Gradient};
use crate::{Result, Value};

pub(crate) fn embedding(table: &Value, indices: &[u32]) -> Result<Computed<'static>> {
    let (like, table) = (table.clone(), table.fetch()?);
    let indices = Tensor::new(indices, table.device())?;
    let value = like.like(table.index_select(&indices, 0)?)?; // [indices, d]
    let shape = table.shape().clone();
    Ok(Computed::new(value, move |gradient, _| {
        let gradient = gradient.value.fetch()?;
        let zeros = Tensor::zeros(shape, DType::F32, gradient.device())?;
        Ok(vec![Some(Gradient::owned(like.like(zeros.index_add(&indices, &gradient.contiguous()?, 0)?)?))])
    }))
}
