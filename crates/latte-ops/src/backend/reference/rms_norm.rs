//! The reference formulation.

use candle_core::D;

use super::layer_norm::sum_rows;
use crate::tape::{Computed, Gradient};
use crate::{Result, Value};

pub(crate) fn rms_norm(x: &Value, weight: &Value, eps: f64) -> Result<Computed<'static>> {
    let (like, x, weight) = (x.clone(), x.fetch()?, weight.fetch()?);
    let root = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    let normal = x.broadcast_div(&root)?;
    let y = like.like(normal.broadcast_mul(&weight)?)?;
    Ok(Computed::new(y, move |gradient, _| {
        let gradient = gradient.value.fetch()?;
        let dweight = sum_rows(&(&gradient * &normal)?)?;
        // (g − n·mean(g·n)) / root
        let scaled = gradient.broadcast_mul(&weight)?;
        let projection = (&scaled * &normal)?.mean_keepdim(D::Minus1)?;
        let dx = scaled.sub(&normal.broadcast_mul(&projection)?)?.broadcast_div(&root)?;
        [dx, dweight].into_iter().map(|tensor| Ok(Some(Gradient::owned(like.like(tensor)?)))).collect()
    }))
}
