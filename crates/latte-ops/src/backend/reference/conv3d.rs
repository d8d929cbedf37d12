//! The reference formulation: a sum over the kernel's indices of the values under each, for all output positions.

use candle_core::{DType, Result, Tensor};

use crate::backend::Prepared3d;
use crate::ops::conv3d::{Branch, Branches, Conv3d, Pool, Sizes, Window};
use crate::{Error, Value};

pub(crate) fn prepare_conv3d(weight: &Value, bias: &Value) -> crate::Result<Prepared3d> {
    Ok(Prepared3d::Plain { weight: weight.fetch()?, bias: bias.fetch()? })
}

pub(crate) fn side_by_side(call: &Branches<'_>) -> crate::Result<Value> {
    let made = call.branches.iter().zip(call.sizes).map(|(branch, sizes)| match branch {
        Branch::Convolution(x, convolution) => convolved(&x.value().fetch()?, convolution, sizes),
        Branch::Pool(x, pool, window) => Ok(pooled(&x.value().fetch()?, *pool, window, sizes)?),
    });
    let made = made.collect::<crate::Result<Vec<_>>>()?;
    call.branches[0].volume().value().like(Tensor::cat(&made, 4)?)
}

/// Calls `f` with the values under each index of the kernel, `[n, t', h', w', c]`; values in the padding are `outside`.
fn under_the_kernel(
    x: &Tensor,
    window: &Window,
    sizes: &Sizes,
    outside: f32,
    mut f: impl FnMut([usize; 3], Tensor) -> Result<()>,
) -> Result<()> {
    // One extra entry at the end of each axis, which all indices in the padding read.
    let mut padded = x.clone();
    for axis in 1..4 {
        let mut dims = padded.dims().to_vec();
        dims[axis] = 1;
        padded = Tensor::cat(&[&padded, &Tensor::full(outside, dims, x.device())?.to_dtype(x.dtype())?], axis)?;
    }
    for t in 0..window.size[0] {
        for y in 0..window.size[1] {
            for z in 0..window.size[2] {
                let mut seen = padded.clone();
                for (axis, step) in [t, y, z].into_iter().enumerate() {
                    let len = sizes.volume[axis];
                    let place = |out: usize| (out * window.stride[axis] + step).checked_sub(sizes.front[axis]);
                    let inside = |out: usize| place(out).filter(|&place| place < len).unwrap_or(len) as u32;
                    let places: Vec<u32> = (0..sizes.out[axis]).map(inside).collect();
                    seen = seen.index_select(&Tensor::new(places, x.device())?, axis + 1)?;
                }
                f([t, y, z], seen)?;
            }
        }
    }
    Ok(())
}

fn convolved(x: &Tensor, convolution: &Conv3d, sizes: &Sizes) -> crate::Result<Tensor> {
    let Prepared3d::Plain { weight, bias } = &convolution.prepared else {
        return Err(Error::shape("conv3d", "values where the weights are", x.dims()));
    };
    let (output, input) = (weight.dim(0)?, weight.dim(1)?);
    let mut sum: Option<Tensor> = None;
    under_the_kernel(x, &convolution.window, sizes, 0.0, |[t, y, z], seen| {
        let weight = weight.narrow(2, t, 1)?.narrow(3, y, 1)?.narrow(4, z, 1)?.reshape((output, input))?;
        let part = seen.contiguous()?.reshape((sizes.places(), input))?.matmul(&weight.t()?.contiguous()?)?;
        sum = Some(match sum.take() {
            Some(sum) => (sum + part)?,
            None => part,
        });
        Ok(())
    })?;
    let [t, h, w] = sizes.out;
    let sum = sum.map_or_else(|| Tensor::zeros((sizes.places(), output), DType::F32, x.device()), Ok)?;
    let y = sum.reshape((sizes.n, t, h, w, output))?.broadcast_add(bias)?;
    Ok(if convolution.relu { y.relu()? } else { y })
}

fn pooled(x: &Tensor, pool: Pool, window: &Window, sizes: &Sizes) -> Result<Tensor> {
    let mut result: Option<Tensor> = None;
    let outside = if pool == Pool::Max { f32::NEG_INFINITY } else { 0.0 };
    under_the_kernel(x, window, sizes, outside, |_, seen| {
        result = Some(match result.take() {
            Some(result) if pool == Pool::Max => result.maximum(&seen)?,
            Some(result) => (result + seen)?,
            None => seen,
        });
        Ok(())
    })?;
    let Some(result) = result else { return Ok(x.clone()) };
    match pool {
        Pool::Max => Ok(result),
        Pool::MeanWithPadding => result / window.size.iter().product::<usize>() as f64,
        Pool::Mean => {
            let mut counts: Option<Tensor> = None;
            under_the_kernel(&x.ones_like()?, window, sizes, 0.0, |_, seen| {
                counts = Some(match counts.take() {
                    Some(counts) => (counts + seen)?,
                    None => seen,
                });
                Ok(())
            })?;
            counts.map_or(Ok(result.clone()), |counts| result / counts)
        }
    }
}
