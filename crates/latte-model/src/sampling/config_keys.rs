//! The keys of `scheduler_config.json`: which class has which, and their meaning.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{DpmAlgorithm, Sampler, SigmaSpacing, SolverConfig, StepFormula};
use crate::diffusion::{PredictionType, TimestepSpacing, VarianceType};
use crate::{Error, Result};

/// All keys of any class, and `eta`.
pub(super) const KEYS: [&str; 41] = [
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "timestep_spacing",
    "steps_offset",
    "rescale_betas_zero_snr",
    "clip_sample",
    "clip_sample_range",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "set_alpha_to_one",
    "variance_type",
    "interpolation_type",
    "timestep_type",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "euler_at_final",
    "sigma_min",
    "sigma_max",
    "final_sigmas_type",
    "solver_order",
    "solver_type",
    "lower_order_final",
    "use_flow_sigmas",
    "flow_shift",
    "use_dynamic_shifting",
    "time_shift_type",
    "algorithm_type",
    "lambda_min_clipped",
    "skip_prk_steps",
    "predict_x0",
    "disable_corrector",
    "solver_p",
    "shift_terminal",
    "eta",
];

/// Whether diffusers' class of `kind` has this key; `None` if no class has it.
pub(super) fn knows(kind: Sampler, key: &str) -> Option<bool> {
    use Sampler as K;
    Some(match key {
        "num_train_timesteps" | "beta_start" | "beta_end" | "beta_schedule" | "trained_betas" | "prediction_type" => true,
        "timestep_spacing" | "steps_offset" => kind != K::DpmSinglestep,
        "rescale_betas_zero_snr" => {
            matches!(kind, K::Ddim | K::Ddpm | K::Euler | K::EulerAncestral | K::DpmMultistep | K::DpmMultistepSde | K::Unipc)
        }
        "clip_sample" | "clip_sample_range" => matches!(kind, K::Ddim | K::Ddpm | K::Heun),
        "thresholding" | "dynamic_thresholding_ratio" | "sample_max_value" => {
            kind.is_multistep() || matches!(kind, K::Ddim | K::Ddpm)
        }
        "set_alpha_to_one" => matches!(kind, K::Ddim | K::Pndm),
        "variance_type" => kind.is_dpm() || kind == K::Ddpm,
        "interpolation_type" | "timestep_type" => kind == K::Euler,
        "use_karras_sigmas" | "use_exponential_sigmas" | "use_beta_sigmas" => kind.spaces_sigmas(),
        "use_lu_lambdas" | "euler_at_final" => matches!(kind, K::DpmMultistep | K::DpmMultistepSde),
        "sigma_min" | "sigma_max" => matches!(kind, K::Euler | K::Unipc),
        "final_sigmas_type" => kind.is_dpm() || matches!(kind, K::Euler | K::Unipc),
        "solver_order" | "solver_type" | "lower_order_final" => kind.is_multistep(),
        "use_flow_sigmas" | "flow_shift" | "use_dynamic_shifting" | "time_shift_type" => kind.is_multistep(),
        "algorithm_type" => kind.is_dpm() || kind == K::Deis,
        "lambda_min_clipped" => kind.is_dpm(),
        "skip_prk_steps" => kind == K::Pndm,
        "predict_x0" | "disable_corrector" | "solver_p" | "shift_terminal" => kind == K::Unipc,
        "eta" => kind == K::Ddim,
        _ => return None,
    })
}

/// The keys of a JSON object. Python writes `Infinity` and `NaN` as bare words, which JSON lacks: they become strings.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Value>> {
    let bad = |e: serde_json::Error| Error::config("scheduler_config.json", format!("expected a JSON object: {e}"));
    serde_json::from_str(&with_quoted_words(text)).map_err(bad)
}

fn with_quoted_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| !in_string && rest.starts_with(word));
        let taken = match (c, word) {
            (_, Some(word)) => {
                out.extend(["\"", word, "\""]);
                rest = &rest[word.len()..];
                continue;
            }
            // An escaped character, a quote among them, does not end a string.
            ('\\', None) if in_string => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            ('"', None) => {
                in_string = !in_string;
                1
            }
            _ => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// The `algorithm_type` of a file, if it has one.
pub(super) fn algorithm(given: &BTreeMap<String, Value>) -> Result<Option<DpmAlgorithm>> {
    given.get("algorithm_type").filter(|value| !value.is_null()).map(|value| read("algorithm_type", value)).transpose()
}

/// The `solver_type` of a file, if it has one.
pub(super) fn formula(given: &BTreeMap<String, Value>) -> Result<Option<StepFormula>> {
    given.get("solver_type").filter(|value| !value.is_null()).map(|value| read("solver_type", value)).transpose()
}

/// Applies the file's values. `null` is the class's default.
pub(super) fn apply(config: &mut SolverConfig, given: BTreeMap<String, Value>) -> Result<()> {
    for (key, value) in given.iter().filter(|(key, _)| !key.starts_with('_')) {
        match knows(config.kind, key) {
            None => {
                return Err(Error::config(
                    key,
                    "no known scheduler has such a key, and it may change results: remove it if it does not matter",
                ));
            }
            Some(true) if !value.is_null() => set(config, key, value)?,
            Some(_) => {}
        }
    }
    config.given = given;
    Ok(())
}

fn set(config: &mut SolverConfig, key: &str, value: &Value) -> Result<()> {
    match key {
        "num_train_timesteps" => config.num_train_timesteps = read(key, value)?,
        "beta_start" => config.beta_start = number(key, value)?,
        "beta_end" => config.beta_end = number(key, value)?,
        "beta_schedule" => config.beta_schedule = read(key, value)?,
        "trained_betas" => config.trained_betas = Some(read(key, value)?),
        "prediction_type" => {
            config.prediction = match read(key, value)? {
                PredictionName::Epsilon => PredictionType::Epsilon,
                PredictionName::Sample => PredictionType::X0,
                PredictionName::VPrediction => PredictionType::Velocity,
            }
        }
        "timestep_spacing" => {
            config.timestep_spacing = match read(key, value)? {
                SpacingName::Leading => TimestepSpacing::Leading,
                SpacingName::Trailing => TimestepSpacing::Trailing,
                SpacingName::Linspace => TimestepSpacing::Linspace,
            }
        }
        "steps_offset" => config.steps_offset = read(key, value)?,
        "rescale_betas_zero_snr" => config.rescale_betas_zero_snr = read(key, value)?,
        "eta" => config.eta = number(key, value)?,
        "clip_sample" => config.clip_sample = read(key, value)?,
        "clip_sample_range" => config.clip_sample_range = number(key, value)?,
        "thresholding" => config.thresholding = read(key, value)?,
        "dynamic_thresholding_ratio" => config.dynamic_thresholding_ratio = number(key, value)?,
        "sample_max_value" => config.sample_max_value = number(key, value)?,
        "set_alpha_to_one" => config.set_alpha_to_one = read(key, value)?,
        "variance_type" => {
            config.variance = match read(key, value)? {
                VarianceName::FixedSmall | VarianceName::FixedSmallLog => VarianceType::FixedSmall,
                VarianceName::FixedLarge | VarianceName::FixedLargeLog => VarianceType::FixedLarge,
                VarianceName::Learned => VarianceType::Learned,
                VarianceName::LearnedRange => VarianceType::LearnedRange,
            }
        }
        "interpolation_type" => config.interpolation = read(key, value)?,
        "timestep_type" => config.timestep_type = read(key, value)?,
        "use_karras_sigmas" => spaced(config, key, value, SigmaSpacing::Karras)?,
        "use_exponential_sigmas" => spaced(config, key, value, SigmaSpacing::Exponential)?,
        "use_beta_sigmas" => spaced(config, key, value, SigmaSpacing::Beta)?,
        "use_lu_lambdas" => spaced(config, key, value, SigmaSpacing::Lu)?,
        "sigma_min" => config.sigma_min = Some(number(key, value)?),
        "sigma_max" => config.sigma_max = Some(number(key, value)?),
        "final_sigmas_type" => config.final_sigma = read(key, value)?,
        "solver_order" => config.order = read(key, value)?,
        "algorithm_type" => config.algorithm = algorithm_of(config.kind, read(key, value)?),
        "solver_type" => config.formula = formula_of(config.kind, read(key, value)?),
        "lower_order_final" => config.lower_order_final = read(key, value)?,
        "euler_at_final" => config.euler_at_final = read(key, value)?,
        "lambda_min_clipped" => config.lambda_min_clipped = number(key, value)?,
        "skip_prk_steps" => config.skip_prk_steps = read(key, value)?,
        "predict_x0" => config.predict_x0 = read(key, value)?,
        "disable_corrector" => config.disable_corrector = read(key, value)?,
        // They have a meaning only together with the keys that the arm below rejects.
        "flow_shift" | "time_shift_type" => {}
        // `use_flow_sigmas`, `use_dynamic_shifting`, `shift_terminal`, `solver_p`.
        _ if *value == Value::Bool(false) => {}
        _ => {
            return Err(Error::config(
                key,
                format!("got {value}: flow matching and nested solvers are for other models, expected false or null"),
            ));
        }
    }
    Ok(())
}

/// Switches a spacing of σ on; `false` does not affect the others.
fn spaced(config: &mut SolverConfig, key: &str, value: &Value, spacing: SigmaSpacing) -> Result<()> {
    if !read::<bool>(key, value)? {
        return Ok(());
    }
    if config.sigma_spacing != SigmaSpacing::Timesteps {
        return Err(Error::config(
            key,
            "expected at most one of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas, use_lu_lambdas",
        ));
    }
    config.sigma_spacing = spacing;
    Ok(())
}

/// A method that is one of a pair keeps its equation.
fn algorithm_of(kind: Sampler, algorithm: DpmAlgorithm) -> DpmAlgorithm {
    use DpmAlgorithm as A;
    match (kind, algorithm) {
        (Sampler::DpmMultistep, A::SdeDpmSolver) => A::DpmSolver,
        (Sampler::DpmMultistep, A::SdeDpmSolverPlusPlus) => A::DpmSolverPlusPlus,
        (Sampler::DpmMultistepSde, A::DpmSolver) => A::SdeDpmSolver,
        (Sampler::DpmMultistepSde, A::DpmSolverPlusPlus) => A::SdeDpmSolverPlusPlus,
        (_, algorithm) => algorithm,
    }
}

/// A formula of another method counts as this method's default.
fn formula_of(kind: Sampler, formula: StepFormula) -> StepFormula {
    use StepFormula as F;
    match (kind, formula) {
        (Sampler::Deis, _) => F::Logrho,
        (Sampler::Unipc, F::Bh1) => F::Bh1,
        (Sampler::Unipc, _) => F::Bh2,
        (_, F::Heun) => F::Heun,
        (_, _) => F::Midpoint,
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T> {
    serde_json::from_value(value.clone()).map_err(|e| Error::config(key, format!("got {value}: {e}")))
}

/// A number, which may be infinite.
fn number(key: &str, value: &Value) -> Result<f64> {
    match value.as_str() {
        Some("Infinity") => Ok(f64::INFINITY),
        Some("-Infinity") => Ok(f64::NEG_INFINITY),
        _ => read(key, value),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PredictionName {
    Epsilon,
    Sample,
    VPrediction,
}

/// The timestep spacings that a file may name.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SpacingName {
    Leading,
    Trailing,
    Linspace,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum VarianceName {
    FixedSmall,
    FixedSmallLog,
    FixedLarge,
    FixedLargeLog,
    Learned,
    LearnedRange,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_some_methods_key_and_once_in_the_list() {
        let mut sorted = KEYS.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), KEYS.len());
        for key in KEYS {
            assert!(Sampler::ALL.into_iter().any(|kind| knows(kind, key) == Some(true)), "{key}");
        }
        assert_eq!(knows(Sampler::Ddim, "no_such_key"), None);
    }
}
