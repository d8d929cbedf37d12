//! Checks that weights are finite: ReLU and pools would turn NaN into zeros, and so give a wrong score.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use latte_weights::{Result, TensorSource, refuse};

/// Name suffix of the variances of batch normalisations.
const VARIANCE: &str = "running_var";

/// The tensors of a file, checked on access.
pub(super) struct Finite<'s> {
    path: PathBuf,
    source: &'s dyn TensorSource,
}

impl<'s> Finite<'s> {
    pub(super) fn new(path: &Path, source: &'s dyn TensorSource) -> Self {
        Self { path: path.to_path_buf(), source }
    }
}

impl TensorSource for Finite<'_> {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.source.shape(name)
    }

    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = self.source.f32_tensor(name)?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let wrong = |expected: &str, at: usize| {
            let what = format!("value {at} of the tensor `{name}` is {}, expected {expected}; get the file again", values[at]);
            Err(refuse(&self.path, what))
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return wrong("a finite number", at);
        }
        if name.ends_with(VARIANCE)
            && let Some(at) = values.iter().position(|value| *value < 0.0)
        {
            return wrong("a variance, which is not below zero", at);
        }
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use latte_ops::Parameters;

    use super::*;

    #[test]
    fn invalid_numbers_and_variances_are_reported_with_their_index() {
        let of = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let weights: Parameters = [
            ("a.weight", of(&[0.0, -1.0, 2.0])),
            ("b.weight", of(&[0.0, f32::NAN])),
            ("c.bias", of(&[f32::NEG_INFINITY])),
            ("n.running_var", of(&[1.0, 0.0, -1e-3])),
            ("n.running_mean", of(&[-1.0])),
        ]
        .map(|(name, tensor)| (name.to_string(), tensor))
        .into_iter()
        .collect();
        let finite = Finite::new(Path::new("x.safetensors"), &weights);
        assert!(finite.f32_tensor("a.weight").is_ok() && finite.f32_tensor("n.running_mean").is_ok());
        let said = |name: &str| finite.f32_tensor(name).unwrap_err().to_string();
        for (name, expected) in [
            ("b.weight", "value 1 of the tensor `b.weight` is NaN"),
            ("c.bias", "value 0 of the tensor `c.bias` is -inf"),
            ("n.running_var", "value 2 of the tensor `n.running_var` is -0.001, expected a variance"),
        ] {
            assert!(said(name).contains(expected) && said(name).starts_with("x.safetensors"), "{}", said(name));
        }
    }
}
