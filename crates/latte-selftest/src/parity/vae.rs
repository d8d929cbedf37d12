//! Kinds `vae` and `vae_temporal`: moments and pixels of the autoencoders of diffusers.

use std::path::Path;

use candle_core::{Device, Tensor};
use golden::{Case, Check};
use latte_model::vae::{AutoencoderKl, AutoencoderKlTemporalDecoder, KlConfig, TemporalDecoderConfig};
use latte_ops::{Parameters, Precision};

use super::tensors::{Result, check, parameters, tensor};

const TOLERANCE: f64 = 1e-4;
/// Operands with 8 significant bits, through dozens of convolutions.
const BF16: f64 = 5e-2;

/// Moments and pixels in both precisions; `run` computes them from weights, pixels and latents.
fn checks(
    path: &Path,
    run: impl Fn(&Case, &Parameters, Precision, [&Tensor; 2]) -> latte_model::Result<[Tensor; 2]>,
) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let (weights, x, z) = (parameters(&case)?, tensor(case.tensor("in.x")?)?, tensor(case.tensor("in.z")?)?);
    let mut checks = Vec::new();
    for (precision, tolerance, end) in [(Precision::F32, TOLERANCE, ""), (Precision::Bf16, BF16, " in bf16")] {
        let results = run(&case, &weights, precision, [&x, &z])?;
        for (what, ours) in ["moments", "decoded"].into_iter().zip(results) {
            checks.push(check(&case, what, format!("{what}{end}"), &ours, tolerance)?);
        }
    }
    Ok(checks)
}

pub(crate) fn kl(device: &Device, path: &Path) -> Result<Vec<Check>> {
    checks(path, |case, weights, precision, [x, z]| {
        let vae = AutoencoderKl::new_on(device, KlConfig::from_json(&case.config.clone().into())?, weights, precision)?;
        Ok([vae.moments(x)?, vae.decode_unscaled(z)?])
    })
}

/// All frames belong to one clip.
pub(crate) fn temporal(device: &Device, path: &Path) -> Result<Vec<Check>> {
    checks(path, |case, weights, precision, [x, z]| {
        let config = TemporalDecoderConfig::from_json(&case.config.clone().into())?;
        let vae = AutoencoderKlTemporalDecoder::new_on(device, config, weights, precision)?;
        Ok([vae.moments(x)?, vae.decode_unscaled(z)?])
    })
}
