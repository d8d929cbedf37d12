//! Sums of gradients, and their norm.

use crate::{Error, Result, Value, backend};

/// `target += source`, in place.
///
/// # Errors
///
/// If the shapes differ, or `target` is not contiguous, or not f32.
pub fn add_assign(target: &Value, source: &Value) -> Result<()> {
    if target.dims() != source.dims() {
        return Err(Error::shape("add_assign", format!("{:?}", target.dims()), source.dims()));
    }
    backend::of([target, source]).add_assign(target, source)
}

/// The L2 norm of all values of all tensors together, summed in f64 in a fixed order.
///
/// # Errors
///
/// If a tensor is not f32.
pub fn global_norm<'a>(values: impl IntoIterator<Item = &'a Value>) -> Result<f64> {
    let values: Vec<&Value> = values.into_iter().collect();
    Ok(backend::of(values.iter().copied()).sum_of_squares(&values)?.sqrt())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    #[test]
    fn add_assign_changes_the_target_only() -> Result<()> {
        let target = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;
        let source = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((3, 2))?.t()?;
        add_assign(&(&target).into(), &(&source).into())?;
        assert_eq!(target.to_vec2::<f32>()?, [[0., 3., 6.], [4., 7., 10.]]);
        assert_eq!(source.to_vec2::<f32>()?, [[0., 2., 4.], [1., 3., 5.]]);
        assert!(add_assign(&(&target).into(), &Tensor::zeros(6, DType::F32, &Device::Cpu)?.into()).is_err());
        Ok(())
    }

    #[test]
    fn the_norm_of_several_tensors_is_that_of_their_values() -> Result<()> {
        let a = Tensor::new(&[3f32, 0.], &Device::Cpu)?;
        let b = Tensor::new(&[[0f32], [4.]], &Device::Cpu)?;
        assert!((global_norm([&a.into(), &b.into()])? - 5.0).abs() < 1e-12);
        Ok(())
    }
}
