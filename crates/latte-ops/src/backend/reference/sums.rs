//! The reference formulations.

use candle_core::{DType, Tensor};

use crate::{Result, Value};

pub(crate) fn add_gradient(held: &Value, more: &Value, _: bool) -> Result<Value> {
    held.like((held.fetch()? + more.fetch()?)?)
}

pub(crate) fn add_assign(target: &Value, source: &Value) -> Result<()> {
    target.replace(&(target.fetch()? + source.fetch()?)?)
}

pub(crate) fn sum_of_squares(values: &[&Value]) -> Result<f64> {
    if values.is_empty() {
        return Ok(0.0);
    }
    // One scalar per tensor, copied together at the end.
    let sums = values.iter().map(|value| Ok(value.fetch()?.to_dtype(DType::F64)?.sqr()?.sum_all()?));
    Ok(Tensor::stack(&sums.collect::<Result<Vec<_>>>()?, 0)?.to_vec1::<f64>()?.iter().sum())
}
