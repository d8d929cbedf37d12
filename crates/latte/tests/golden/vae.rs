//! Kinds `vae` and `vae_temporal`: moments and pixels of the autoencoders of diffusers.

use std::error::Error;
use std::path::Path;

use candle_core::{Device, Tensor};
use golden::{Array, Case, Check};
use latte::vae::{AutoencoderKl, AutoencoderKlTemporalDecoder, KlConfig, TemporalDecoderConfig};
use latte_ops::{Parameters, Precision};

const TOLERANCE: f64 = 1e-4;
/// Operands of 8 bits, through some dozens of convolutions.
const BF16: f64 = 1e-1;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn tensor(array: &Array) -> Result<Tensor> {
    Ok(Tensor::from_vec(array.to_f32(), array.shape.as_slice(), &Device::Cpu)?)
}

fn parameters(case: &Case) -> Result<Parameters> {
    case.with_prefix("param.").map(|(name, array)| Ok((name.to_string(), tensor(array)?))).collect()
}

fn check(case: &Case, what: &str, ours: &Tensor, tolerance: f64) -> Result<Check> {
    let reference = case.tensor(&format!("out.{what}"))?;
    if ours.dims() != reference.shape {
        return Err(format!("{what}: expected shape {:?}, got {:?}", reference.shape, ours.dims()).into());
    }
    let name = if tolerance == BF16 { format!("{what} in bf16") } else { what.to_string() };
    Ok(Check::new_f32(name, &ours.flatten_all()?.to_vec1::<f32>()?, reference, tolerance))
}

pub(crate) fn kl(path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let config = KlConfig::from_json(&case.config.clone().into())?;
    let (x, z) = (tensor(case.tensor("in.x")?)?, tensor(case.tensor("in.z")?)?);
    let mut checks = Vec::new();
    for (precision, tolerance) in [(Precision::F32, TOLERANCE), (Precision::Bf16, BF16)] {
        let vae = AutoencoderKl::new(config.clone(), &parameters(&case)?, precision)?;
        checks.push(check(&case, "moments", &vae.moments(&x)?, tolerance)?);
        checks.push(check(&case, "decoded", &vae.decode_unscaled(&z)?, tolerance)?);
    }
    Ok(checks)
}

/// All frames are those of one clip.
pub(crate) fn temporal(path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let config = TemporalDecoderConfig::from_json(&case.config.clone().into())?;
    let (x, z) = (tensor(case.tensor("in.x")?)?, tensor(case.tensor("in.z")?)?);
    let mut checks = Vec::new();
    for (precision, tolerance) in [(Precision::F32, TOLERANCE), (Precision::Bf16, BF16)] {
        let vae = AutoencoderKlTemporalDecoder::new(config.clone(), &parameters(&case)?, precision)?;
        checks.push(check(&case, "moments", &vae.moments(&x)?, tolerance)?);
        checks.push(check(&case, "decoded", &vae.decode_unscaled(&z)?, tolerance)?);
    }
    Ok(checks)
}
