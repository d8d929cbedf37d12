//! Fréchet distance, kernel distance and inception score on given features.

use std::error::Error;
use std::path::Path;

use golden::{Array, Case, Check};
use latte_eval::metric::{Covariance, Features, Moments, Polynomial, frechet, frechet_of_moments, inception_score, mmd_unbiased};

/// The reference rounds the probabilities to f32 (6e-8 each), by an exponential function of its own; ours are f64. What is left of
/// that in scores, of the files here and with five other ways to round, is up to 8e-9.
const OF_F32_PROBABILITIES: f64 = 2e-8;

pub(crate) fn set_metrics(path: &Path) -> Result<Vec<Check>, Box<dyn Error>> {
    let case = Case::read(path)?;
    let features = |name: &str| -> Result<Features, Box<dyn Error>> {
        let array: &Array = case.tensor(name)?;
        let width = array.shape.last().copied().unwrap_or_default();
        Ok(Features::new(array.to_f32(), width, name)?)
    };
    let (real, fake, logits) = (features("in.real")?, features("in.fake")?, features("in.logits")?);
    let tolerance = if real.len().min(fake.len()) < real.width() { 1e-6 } else { 1e-9 };
    let mut checks = Vec::new();
    for (name, covariance) in [("frechet_ddof0", Covariance::Biased), ("frechet_ddof1", Covariance::Unbiased)] {
        let expected = case.tensor(&format!("out.{name}"))?;
        checks.push(Check::new(name, &[frechet(&real, &fake, covariance)?.value], expected, tolerance));
        let moments = frechet_of_moments(&Moments::of(&real)?, &Moments::of(&fake)?, covariance)?;
        checks.push(Check::new(format!("{name} from moments"), &[moments.value], expected, tolerance));
    }
    let first: Vec<usize> = (0..real.len().min(fake.len())).collect();
    let kid = mmd_unbiased(&real.rows(&first), &fake.rows(&first), Polynomial::KID)?;
    checks.push(Check::new("kid", &[kid], case.tensor("out.kid_single_subset")?, 1e-9));
    let splits = case.config.get("is_splits").and_then(serde_json::Value::as_u64).ok_or("config has no `is_splits`")?;
    let score = inception_score(&logits, usize::try_from(splits)?, None)?;
    let expected = case.tensor("out.is_mean")?;
    checks.push(Check::new("is", &[score.mean], expected, OF_F32_PROBABILITIES));
    // Differences of scores have the rounding of scores.
    let expected_deviation = case.tensor("out.is_std")?;
    let error = (score.deviation - expected_deviation.values[0]).abs() / expected.values[0];
    checks.push(Check { what: "deviation of is".into(), error, tolerance: OF_F32_PROBABILITIES });
    Ok(checks)
}
