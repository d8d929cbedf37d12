//! Checks for NaN and infinite values where they arise: later they would be black pixels.

use candle_core::{DType, Tensor};
use latte_ops::Parameters;

use crate::{Error, Result};

/// Returns an error if any value is NaN or infinite; `what` names the values, as in "the network's prediction in step 3 of 50".
///
/// # Errors
///
/// [`Error::NotFinite`].
pub fn expect_finite(values: &Tensor, what: impl FnOnce() -> String) -> Result<()> {
    // A value that is not finite makes the sum not finite. The sum of finite values may overflow, so then each value is checked.
    if values.elem_count() == 0 || values.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite() {
        return Ok(());
    }
    match num_not_finite(values)? {
        0 => Ok(()),
        count => Err(Error::NotFinite { what: what(), count, of: values.elem_count(), cause: None }),
    }
}

fn num_not_finite(values: &Tensor) -> Result<usize> {
    let values = values.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    Ok(values.iter().filter(|value| !value.is_finite()).count())
}

/// Adds to an error about values that are not finite whether the network's weights are the cause.
pub fn with_cause(error: Error, weights: &Parameters) -> Error {
    let Error::NotFinite { what, count, of, .. } = error else { return error };
    let bad: Vec<String> = weights
        .iter()
        .filter_map(|(name, value)| match num_not_finite(&value.to_host().ok()?) {
            Ok(count) if count > 0 => Some(format!("{count} of {} in `{name}`", value.elem_count())),
            _ => None,
        })
        .collect();
    let cause = if bad.is_empty() {
        "the weights are all finite, so the network overflows: try f32 matmuls, less guidance, or check that the weights are those of \
         this configuration"
            .into()
    } else {
        const MAX_LISTED: usize = 4;
        format!("the weights themselves are not: {}; take another checkpoint", latte_weights::listed(&bad, MAX_LISTED))
    };
    Error::NotFinite { what, count, of, cause: Some(cause) }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn only_values_that_are_no_numbers_are_refused() -> Result<()> {
        let told = |values: &[f32]| -> Result<Option<String>> {
            let tensor = Tensor::new(values, &Device::Cpu)?;
            Ok(expect_finite(&tensor, || "these".into()).err().map(|e| e.to_string()))
        };
        assert_eq!(told(&[])?, None);
        // A sum that overflows does not mean that a value is not finite.
        assert_eq!(told(&[f32::MAX, f32::MAX, f32::MAX])?, None);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(told(&[1.0, bad, 2.0])?.is_some_and(|what| what.contains("these") && what.contains("1 of 3")));
        }
        assert!(told(&[f32::INFINITY, f32::NEG_INFINITY])?.is_some_and(|what| what.contains("2 of 2")));
        Ok(())
    }

    #[test]
    fn weights_that_are_to_blame_are_named() -> Result<()> {
        let error = || Error::NotFinite { what: "x".into(), count: 1, of: 2, cause: None };
        let good: Parameters = std::iter::once(("a".to_string(), Tensor::new(&[1f32], &Device::Cpu)?)).collect();
        assert!(with_cause(error(), &good).to_string().contains("weights are all finite"));
        let bad = std::iter::once(("b.weight".to_string(), Tensor::new(&[1f32, f32::NAN], &Device::Cpu)?)).collect();
        assert!(with_cause(error(), &bad).to_string().contains("1 of 2 in `b.weight`"));
        Ok(())
    }
}
