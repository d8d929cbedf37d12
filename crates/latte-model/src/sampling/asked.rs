//! The sampler that a user asks for: the model's file, a method, and options by name. Options without effect are errors.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Sampler, SolverConfig, config_keys};
use crate::{Error, Result};

/// The user's choices, which override the model's `scheduler_config.json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AskedFor<'a> {
    /// A method other than the file's.
    pub sampler: Option<Sampler>,
    /// Keys of the file with other values.
    pub options: &'a [(String, Value)],
    /// DDIM's η.
    pub eta: Option<f64>,
}

/// A sampler, as settings record it: only the values that affect the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// The sampler and its options, in the form of `scheduler_config.json`.
    pub scheduler: Value,
    /// A sampler other than the one that `scheduler` names.
    pub sampler: Option<Sampler>,
    /// DDIM's η, 0 (no noise) to 1.
    pub eta: f64,
}

const ALGORITHM: &str = "algorithm_type";
const FORMULA: &str = "solver_type";
const CLASS: &str = "_class_name";
const ETA: &str = "eta";

impl AskedFor<'_> {
    /// The sampler for runs of `steps` steps, for a model whose file has the keys `file`. `configure` makes a configuration from
    /// keys and a method, in the same way as the run.
    ///
    /// Keys of the file that the method does not use are dropped, as diffusers ignores them. An option that the user names must
    /// have an effect, or must equal the value that applies without it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the first option that is unknown, impossible, or without effect.
    pub fn of(
        &self,
        file: &Value,
        steps: usize,
        configure: &dyn Fn(&Value, Sampler) -> Result<SolverConfig>,
    ) -> Result<Sampling> {
        let mut file: BTreeMap<String, Value> =
            file.as_object().map(|keys| keys.iter().map(|(k, v)| (k.clone(), v.clone())).collect()).unwrap_or_default();
        // It is no key of diffusers' files: there it is an argument of the call.
        file.remove(ETA);
        let mut options = BTreeMap::new();
        for (key, value) in self.options {
            if options.insert(key.clone(), value.clone()).is_some() {
                return Err(Error::config(key, "is given twice: leave one out"));
            }
        }
        let eta = self.eta(options.remove(ETA))?;
        let (config, sampler) = self.configured(&file, &options, configure)?;
        if let Some(eta) = eta
            && config.kind != Sampler::Ddim
        {
            return Err(no_such_option(config.kind, ETA, &format!("got {eta}")));
        }
        for (key, value) in &options {
            self.check(key, value, &config, &file, &options, steps, configure)?;
        }
        Ok(Sampling { scheduler: recorded(&config), sampler, eta: eta.unwrap_or(0.0) })
    }

    fn eta(&self, option: Option<Value>) -> Result<Option<f64>> {
        match (self.eta, option) {
            (given, None) => Ok(given),
            (Some(_), Some(_)) => Err(Error::config(ETA, "is given twice: leave one out")),
            (None, Some(value)) => match value.as_f64() {
                Some(eta) => Ok(Some(eta)),
                None => Err(Error::config(ETA, format!("expected a number, 0 to 1, got {value}"))),
            },
        }
    }

    /// The configuration of the file's keys and the options, and the method if it is not the one that the keys name.
    fn configured(
        &self,
        file: &BTreeMap<String, Value>,
        options: &BTreeMap<String, Value>,
        configure: &dyn Fn(&Value, Sampler) -> Result<SolverConfig>,
    ) -> Result<(SolverConfig, Option<Sampler>)> {
        use Sampler as K;
        let mut keys = file.clone();
        keys.extend(options.iter().map(|(k, v)| (k.clone(), v.clone())));
        let keys: Value = keys.into_iter().collect();
        let named = SolverConfig::from_json(&keys.to_string())?.kind;
        let mut kind = self.sampler.unwrap_or(named);
        // DPM-Solver's two equations are two methods here and one class in diffusers: asking for the other equation selects its
        // method.
        if let Some(algorithm) = config_keys::algorithm(options)? {
            kind = match (kind, algorithm.is_stochastic()) {
                (K::DpmMultistep, true) => K::DpmMultistepSde,
                (K::DpmMultistepSde, false) => K::DpmMultistep,
                (kind, _) => kind,
            };
        }
        Ok((configure(&keys, kind)?, (self.sampler.is_some() || kind != named).then_some(kind)))
    }

    /// Whether an option has an effect.
    #[expect(clippy::too_many_arguments, reason = "an option, and what it is an option of")]
    fn check(
        &self,
        key: &str,
        value: &Value,
        config: &SolverConfig,
        file: &BTreeMap<String, Value>,
        options: &BTreeMap<String, Value>,
        steps: usize,
        configure: &dyn Fn(&Value, Sampler) -> Result<SolverConfig>,
    ) -> Result<()> {
        let kind = config.kind;
        let got = format!("got {value}");
        if key == CLASS {
            return match self.sampler {
                None => Ok(()),
                Some(sampler) => {
                    Err(Error::config(key, format!("{got}, but the sampler is asked for as {sampler}: leave one out")))
                }
            };
        }
        if !uses(kind, key) {
            return Err(no_such_option(kind, key, &got));
        }
        // In a file, a value that belongs to another method means this method's default; as an option it is a mistake.
        let is_other_methods = !value.is_null()
            && match key {
                ALGORITHM => config_keys::algorithm(options)? != Some(config.algorithm),
                FORMULA => config_keys::formula(options)? != Some(config.formula),
                _ => false,
            };
        if is_other_methods {
            return Err(Error::config(key, format!("{got}, which {kind} does not have")));
        }
        let mut others = options.clone();
        others.remove(key);
        // If no configuration is possible without the option, the option has an effect.
        let Ok((without, _)) = self.configured(file, &others, configure) else { return Ok(()) };
        if config.is_as(&without) || config.solver(steps).is_err() || !config.runs_as(&without, steps) {
            return Ok(());
        }
        let why = match key {
            "beta_start" | "beta_end" | "beta_schedule" => {
                "the betas are given otherwise (trained_betas, or a curve without ends)"
            }
            "clip_sample" => "thresholding takes its place",
            "clip_sample_range" => "it goes with clip_sample=true and without thresholding",
            "dynamic_thresholding_ratio" => "it goes with thresholding=true and a sample_max_value above 1",
            "sample_max_value" => "it goes with thresholding=true",
            "timestep_spacing" => "the noise levels are spaced by themselves (use_karras_sigmas and its like)",
            "steps_offset" => "it goes with timestep_spacing=leading",
            "sigma_min" | "sigma_max" => "it goes with use_karras_sigmas, use_exponential_sigmas or use_beta_sigmas",
            "timestep_type" => "it goes with prediction_type=v_prediction",
            FORMULA => "it goes with a larger solver_order",
            "lower_order_final" => "it is for short runs, of fewer than 15 steps, and a solver_order above 1",
            "euler_at_final" => "the last step is of order 1 anyway",
            "skip_prk_steps" => "runs of fewer than 4 steps have none",
            "disable_corrector" => "the run has no such step to correct",
            _ => "with these settings it makes no difference",
        };
        Err(Error::config(key, format!("{got}, which has no effect on {kind} in {steps} steps here: {why}")))
    }
}

impl SolverConfig {
    /// Whether all choices are the same, whichever source they have.
    fn is_as(&self, other: &Self) -> bool {
        Self { given: BTreeMap::new(), ..self.clone() } == Self { given: BTreeMap::new(), ..other.clone() }
    }
}

/// Whether a method uses a key: some keys that diffusers' class knows have no meaning here.
fn uses(kind: Sampler, key: &str) -> bool {
    let means_nothing = match key {
        "variance_type" => kind.is_dpm(),
        ALGORITHM => kind == Sampler::Deis,
        // Keys of flow matching.
        "use_flow_sigmas" | "flow_shift" | "use_dynamic_shifting" | "time_shift_type" | "shift_terminal" | "solver_p" => true,
        _ => false,
    };
    !means_nothing && config_keys::knows(kind, key) == Some(true)
}

fn no_such_option(kind: Sampler, key: &str, got: &str) -> Error {
    let options: Vec<&str> = config_keys::KEYS.into_iter().filter(|key| uses(kind, key)).collect();
    Error::config(
        key,
        format!("{got}, but {kind} has no such option: leave it out, or take another sampler; {kind} has {}", options.join(", ")),
    )
}

/// The keys from which a configuration was read and which it uses, with the values that it uses.
fn recorded(config: &SolverConfig) -> Value {
    let is_used = |key: &str| {
        key.starts_with('_') || uses(config.kind, key) || (key == "rescale_betas_zero_snr" && config.rescale_betas_zero_snr)
    };
    let value = |key: &str, value: &Value| match key {
        _ if value.is_null() => Value::Null,
        ALGORITHM => config.algorithm.name().into(),
        FORMULA => config.formula.name().into(),
        _ => value.clone(),
    };
    config.given.iter().filter(|(key, _)| is_used(key)).map(|(key, v)| (key.clone(), value(key, v))).collect()
}
