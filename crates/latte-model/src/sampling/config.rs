//! The samplers, and the configuration of one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::levels::Levels;
use super::{DpmAlgorithm, FinalSigma, SigmaInterpolation, SigmaSpacing, Solver, StepFormula, TimestepType, config_keys};
use crate::diffusion::{BetaSchedule, PredictionType, TimestepSpacing, VarianceType};
use crate::weights::{read_small, refuse};
use crate::{Error, Result};

/// The largest accepted number of timesteps: a damaged file must not fill the memory.
const MAX_TRAIN_TIMESTEPS: usize = 1_000_000;

/// Makes [`Sampler`] of one row for each method: the variant, its name here, its `_class_name` in diffusers, and its [`Solver`].
macro_rules! samplers {
    ($($(#[$doc:meta])* $method:ident = $name:literal, $class:literal, $solver:ty;)*) => {
        /// A sampling method. [`Sampler::name`] is its name in configuration files.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Sampler {
            $($(#[$doc])* #[serde(rename = $name)] $method,)*
        }

        impl Sampler {
            /// All methods.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$method),*];

            /// Its name in configuration and on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$method => $name,)*
                }
            }

            /// Its `_class_name` in `scheduler_config.json`.
            pub fn class_name(self) -> &'static str {
                match self {
                    $(Self::$method => $class,)*
                }
            }

            /// The method, set up for `steps` steps.
            pub(super) fn solver(self, config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Box<dyn Solver>> {
                Ok(match self {
                    $(Self::$method => Box::new(<$solver>::new(config, levels, steps)?),)*
                })
            }
        }
    };
}

samplers! {
    /// Song et al. 2021: order 1, deterministic at η = 0.
    Ddim = "ddim", "DDIMScheduler", super::ddim::Ddim;
    /// Ho et al. 2020: ancestral sampling.
    Ddpm = "ddpm", "DDPMScheduler", super::ddpm::Ddpm;
    /// Karras et al. 2022: Euler's method in σ, order 1.
    Euler = "euler", "EulerDiscreteScheduler", super::euler::Euler;
    /// Euler's method with ancestral noise.
    EulerAncestral = "euler-a", "EulerAncestralDiscreteScheduler", super::euler::Euler;
    /// DPM-Solver++ multistep (Lu et al. 2022), orders 1 to 3.
    DpmMultistep = "dpm++", "DPMSolverMultistepScheduler", super::dpm_multistep::DpmMultistep;
    /// As [`Sampler::DpmMultistep`], for the stochastic differential equation.
    DpmMultistepSde = "dpm++-sde", "DPMSolverMultistepScheduler", super::dpm_multistep::DpmMultistep;
    /// DPM-Solver++ singlestep, orders 1 to 3.
    DpmSinglestep = "dpm-single", "DPMSolverSinglestepScheduler", super::dpm_singlestep::DpmSinglestep;
    /// Liu et al. 2022: linear multistep of order 4, with Runge–Kutta steps at the start.
    Pndm = "pndm", "PNDMScheduler", super::pndm::Pndm;
    /// Heun's method in σ, order 2; twice the predictions.
    Heun = "heun", "HeunDiscreteScheduler", super::heun::Heun;
    /// Zhang & Chen 2023: exponential integrator multistep, orders 1 to 3.
    Deis = "deis", "DEISMultistepScheduler", super::deis::Deis;
    /// DPM-Solver-2 with ancestral noise; twice the predictions.
    Kdpm2Ancestral = "kdpm2-a", "KDPM2AncestralDiscreteScheduler", super::kdpm2_ancestral::Kdpm2Ancestral;
    /// Zhao et al. 2023: predictor and corrector, orders 1 to 3.
    Unipc = "unipc", "UniPCMultistepScheduler", super::unipc::Unipc;
}

impl Sampler {
    /// The names of all methods, for help texts: `ddim, ddpm, … or unipc`.
    pub fn names() -> String {
        let names = Self::ALL.map(Self::name);
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        format!("{} or {last}", others.join(", "))
    }

    /// The method of a `_class_name`, with or without the ending `Scheduler`.
    ///
    /// # Errors
    ///
    /// If no method here has this name.
    pub fn from_class_name(name: &str) -> Result<Self> {
        let bare = name.strip_suffix("Scheduler").unwrap_or(name);
        let found = Self::ALL.into_iter().find(|kind| kind.class_name().strip_suffix("Scheduler") == Some(bare));
        found.ok_or_else(|| {
            let mut known: Vec<&str> = Self::ALL.iter().map(|kind| kind.class_name()).collect();
            known.dedup();
            Error::config("_class_name", format!("expected one of {}, got `{name}`", known.join(", ")))
        })
    }

    /// Whether it supports the noise levels of Karras et al. and other spacings of σ.
    pub fn spaces_sigmas(self) -> bool {
        !matches!(self, Self::Ddim | Self::Ddpm | Self::EulerAncestral | Self::Pndm)
    }

    pub(super) fn is_dpm(self) -> bool {
        matches!(self, Self::DpmMultistep | Self::DpmMultistepSde | Self::DpmSinglestep)
    }

    pub(super) fn is_multistep(self) -> bool {
        self.is_dpm() || matches!(self, Self::Deis | Self::Unipc)
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sampler {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            Error::config("solver", format!("expected one of {}, got `{text}`", known.join(", ")))
        })
    }
}

/// The content of a `scheduler_config.json`. Fields have the names of the file's keys unless noted otherwise; a field that the
/// method does not use must keep its default.
///
/// ```
/// use latte_model::sampling::{SolverConfig, Sampler};
///
/// let config = SolverConfig::from_json(r#"{"_class_name": "DDIMScheduler", "clip_sample": false}"#)?;
/// let faster = config.with_kind(Sampler::DpmMultistep)?.solver(20)?;
/// assert_eq!(faster.timesteps().len(), 20);
/// # Ok::<(), latte_model::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "the file's switches are independent of each other")]
pub struct SolverConfig {
    /// The method (`_class_name`).
    pub kind: Sampler,
    /// Timesteps of the process that the network was trained on, 2 to a million.
    pub num_train_timesteps: usize,
    /// β of the first timestep, in (0, 1).
    pub beta_start: f64,
    /// β of the last timestep, in (0, 1).
    pub beta_end: f64,
    /// The schedule of β between them.
    pub beta_schedule: BetaSchedule,
    /// Every β; replaces the three fields above.
    pub trained_betas: Option<Vec<f64>>,
    /// Whether β is changed so that the last timestep is pure noise (Lin et al. 2024).
    pub rescale_betas_zero_snr: bool,
    /// The quantity that the network predicts (`prediction_type`).
    pub prediction: PredictionType,
    /// The spacing of the visited timesteps. A spacing with a count is for [`Sampler::Ddim`] and [`Sampler::Ddpm`]: they respace
    /// the process, like the samplers of the official class models.
    pub timestep_spacing: TimestepSpacing,
    /// Added to the timesteps of [`TimestepSpacing::Leading`].
    pub steps_offset: usize,
    /// DDPM's variance (`variance_type`). Here [`VarianceType::Learned`] is σ² itself, not its logarithm.
    pub variance: VarianceType,
    /// DDIM's η, 0 (no noise) to 1 (as much as DDPM with the small variance). It is no key of the file, where it is always 0.
    pub eta: f64,
    /// Clamp the predicted x0: for pixels, never for latents. Note that it is on by default in files of DDIM and DDPM.
    pub clip_sample: bool,
    /// The bound of `clip_sample`: x0 is clamped to ± this.
    pub clip_sample_range: f64,
    /// Clamp the predicted x0 to [−1, 1] for any method: for pixels. It is no key of the file, where it is always off.
    pub clip_denoised: bool,
    /// Dynamic thresholding of the predicted x0 (Saharia et al. 2022): for pixels, never for latents.
    pub thresholding: bool,
    /// The quantile of dynamic thresholding, 0 to 1.
    pub dynamic_thresholding_ratio: f64,
    /// The largest bound of dynamic thresholding.
    pub sample_max_value: f64,
    /// DDIM, PNDM: whether the last step goes to ᾱ = 1; otherwise to that of timestep 0.
    pub set_alpha_to_one: bool,
    /// The spacing of the visited σ (`use_karras_sigmas` and similar keys).
    pub sigma_spacing: SigmaSpacing,
    /// Euler, UniPC: the smallest σ of a spacing of σ; `None`: the schedule's.
    pub sigma_min: Option<f64>,
    /// Euler, UniPC: the largest σ of a spacing of σ; `None`: the schedule's.
    pub sigma_max: Option<f64>,
    /// Euler: the interpolation of σ between timesteps (`interpolation_type`).
    pub interpolation: SigmaInterpolation,
    /// Euler: the time that the network gets.
    pub timestep_type: TimestepType,
    /// Euler, DPM-Solver, UniPC: the last noise level of the run (`final_sigmas_type`).
    pub final_sigma: FinalSigma,
    /// DPM-Solver, DEIS, UniPC: the order (`solver_order`), 1 to 3. Use at most 2 for DPM-Solver of the SDE: its formula of order 3
    /// is diffusers', which does not converge.
    pub order: usize,
    /// DPM-Solver: the equation (`algorithm_type`).
    pub algorithm: DpmAlgorithm,
    /// DPM-Solver, UniPC: the formula (`solver_type`).
    pub formula: StepFormula,
    /// DPM-Solver, DEIS, UniPC: lower orders in the last steps; UniPC and singlestep in all runs, the others in
    /// runs below 15 steps.
    pub lower_order_final: bool,
    /// DPM-Solver multistep: order 1 in the last step.
    pub euler_at_final: bool,
    /// DPM-Solver: timesteps with a smaller λ = −log σ are not visited.
    pub lambda_min_clipped: f64,
    /// PNDM: skip the Runge–Kutta steps. (Runs of fewer than 4 steps never have them.)
    pub skip_prk_steps: bool,
    /// UniPC: interpolate x0, else ε.
    pub predict_x0: bool,
    /// UniPC: the steps, from 0, that are not corrected.
    pub disable_corrector: Vec<usize>,
    /// The keys of the file that this was read from; only [`SolverConfig::with_kind`] uses them.
    pub given: BTreeMap<String, Value>,
}

impl SolverConfig {
    /// All keys of `scheduler_config.json` that some class of diffusers has, and `eta`.
    pub const KEYS: &'static [&'static str] = &config_keys::KEYS;

    /// The defaults of diffusers' class of this method.
    pub fn new(kind: Sampler) -> Self {
        use Sampler as K;
        let in_sigma = matches!(kind, K::Heun | K::Kdpm2Ancestral);
        let (beta_start, beta_end) = if in_sigma { (0.000_85, 0.012) } else { (0.0001, 0.02) };
        let leading = matches!(kind, K::Ddim | K::Ddpm | K::Pndm);
        Self {
            kind,
            num_train_timesteps: 1000,
            beta_start,
            beta_end,
            beta_schedule: BetaSchedule::Linear,
            trained_betas: None,
            rescale_betas_zero_snr: false,
            prediction: PredictionType::Epsilon,
            timestep_spacing: if leading { TimestepSpacing::Leading } else { TimestepSpacing::Linspace },
            steps_offset: 0,
            variance: VarianceType::FixedSmall,
            eta: 0.0,
            clip_sample: matches!(kind, K::Ddim | K::Ddpm),
            clip_denoised: false,
            clip_sample_range: 1.0,
            thresholding: false,
            dynamic_thresholding_ratio: 0.995,
            sample_max_value: 1.0,
            set_alpha_to_one: kind == K::Ddim,
            sigma_spacing: SigmaSpacing::Timesteps,
            sigma_min: None,
            sigma_max: None,
            interpolation: SigmaInterpolation::Linear,
            timestep_type: TimestepType::Discrete,
            final_sigma: FinalSigma::Zero,
            order: 2,
            algorithm: if kind == K::DpmMultistepSde {
                DpmAlgorithm::SdeDpmSolverPlusPlus
            } else {
                DpmAlgorithm::DpmSolverPlusPlus
            },
            formula: match kind {
                K::Deis => StepFormula::Logrho,
                K::Unipc => StepFormula::Bh2,
                _ => StepFormula::Midpoint,
            },
            lower_order_final: kind != K::DpmSinglestep,
            euler_at_final: false,
            lambda_min_clipped: f64::NEG_INFINITY,
            skip_prk_steps: false,
            predict_x0: true,
            disable_corrector: Vec::new(),
            given: BTreeMap::new(),
        }
    }

    /// Parses the text of a `scheduler_config.json`. Missing keys have the defaults of its class. Keys that only other classes know
    /// are ignored, as in diffusers; a key that no class knows is an error.
    ///
    /// # Errors
    ///
    /// If it is not a JSON object, its `_class_name` is not a known method, or a key or value is invalid.
    pub fn from_json(text: &str) -> Result<Self> {
        let given = config_keys::parse(text)?;
        let class = given.get("_class_name").and_then(Value::as_str).ok_or_else(|| {
            Error::config("_class_name", "expected the name of a scheduler class, got none: is this a scheduler_config.json?")
        })?;
        let mut kind = Sampler::from_class_name(class)?;
        if kind == Sampler::DpmMultistep && config_keys::algorithm(&given)?.is_some_and(DpmAlgorithm::is_stochastic) {
            kind = Sampler::DpmMultistepSde;
        }
        let mut config = Self::new(kind);
        config_keys::apply(&mut config, given)?;
        Ok(config)
    }

    /// The keys and values of a `scheduler_config.json`, not interpreted. Python's `Infinity` and `NaN`, which JSON lacks, are
    /// strings.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not a JSON object.
    pub fn keys_of_file(path: &Path) -> Result<BTreeMap<String, Value>> {
        let text = latte_textfile::decode(read_small(path)?).map_err(|e| refuse(path, e.to_string()))?;
        config_keys::parse(&text).map_err(|e| match e {
            Error::Config { key, what } => Error::config(format!("{}: {key}", path.display()), what),
            other => other,
        })
    }

    /// The same process with another method: the file's keys in that method's interpretation, and its own defaults for the rest.
    ///
    /// The training choices (timesteps, β, the prediction) are kept, also where the methods' defaults differ.
    /// [`SolverConfig::eta`], [`SolverConfig::clip_denoised`] and changes to fields after reading are not.
    ///
    /// # Errors
    ///
    /// If that method does not support a key's value.
    pub fn with_kind(&self, kind: Sampler) -> Result<Self> {
        let mut config = Self::new(kind);
        config_keys::apply(&mut config, self.given.clone())?;
        Ok(Self {
            num_train_timesteps: self.num_train_timesteps,
            beta_start: self.beta_start,
            beta_end: self.beta_end,
            beta_schedule: self.beta_schedule,
            trained_betas: self.trained_betas.clone(),
            rescale_betas_zero_snr: self.rescale_betas_zero_snr,
            prediction: self.prediction,
            ..config
        })
    }

    /// The method, set up for `steps` steps.
    ///
    /// # Errors
    ///
    /// If the configuration is impossible, or `steps` is not 1 to [`SolverConfig::num_train_timesteps`].
    pub fn solver(&self, steps: usize) -> Result<Box<dyn Solver>> {
        if self.timestep_spacing.has_count() {
            return self.respaced(steps);
        }
        self.check()?;
        if steps == 0 || steps > self.num_train_timesteps {
            return Err(Error::config("steps", format!("expected 1 to {}, got {steps}", self.num_train_timesteps)));
        }
        self.kind.solver(self, &Levels::new(self)?, steps)
    }

    /// ᾱ of each original timestep, in the single precision of training.
    ///
    /// # Errors
    ///
    /// If the betas are impossible.
    pub fn alphas_cumprod(&self) -> Result<Vec<f64>> {
        self.check()?;
        Ok(Levels::new(self)?.alphas_cumprod)
    }

    /// Checks that every choice is possible, and supported by the method.
    fn check(&self) -> Result<()> {
        let refuse = |key: &str, what: String| Err(Error::config(key, what));
        if !(2..=MAX_TRAIN_TIMESTEPS).contains(&self.num_train_timesteps) {
            return refuse(
                "num_train_timesteps",
                format!("expected 2 to {MAX_TRAIN_TIMESTEPS}, got {}", self.num_train_timesteps),
            );
        }
        if !(1..=3).contains(&self.order) {
            return refuse("solver_order", format!("expected 1, 2 or 3, got {}", self.order));
        }
        if self.steps_offset > self.num_train_timesteps {
            return refuse("steps_offset", format!("expected at most {}, got {}", self.num_train_timesteps, self.steps_offset));
        }
        for (key, value, low, high) in [
            ("eta", self.eta, 0.0, 1.0),
            ("dynamic_thresholding_ratio", self.dynamic_thresholding_ratio, 0.0, 1.0),
            ("clip_sample_range", self.clip_sample_range, 0.0, f64::MAX),
            ("sample_max_value", self.sample_max_value, f64::MIN_POSITIVE, f64::MAX),
            ("sigma_min", self.sigma_min.unwrap_or(1.0), 1e-10, 1e10),
            ("sigma_max", self.sigma_max.unwrap_or(1.0), 1e-10, 1e10),
        ] {
            if !(low..=high).contains(&value) {
                return refuse(key, format!("expected {low} to {high}, got {value}"));
            }
        }
        if let Some((min, max)) = self.sigma_min.zip(self.sigma_max).filter(|(min, max)| min >= max) {
            return refuse("sigma_min", format!("expected less than sigma_max, got {min} and {max}"));
        }
        let default = Self::new(self.kind);
        for (key, is_default) in [
            ("eta", self.kind == Sampler::Ddim || self.eta == default.eta),
            ("use_karras_sigmas", self.kind.spaces_sigmas() || self.sigma_spacing == default.sigma_spacing),
            (
                "use_lu_lambdas",
                self.sigma_spacing != SigmaSpacing::Lu || config_keys::knows(self.kind, "use_lu_lambdas") == Some(true),
            ),
            ("clip_sample", self.clip_sample == default.clip_sample),
            ("thresholding", self.thresholding == default.thresholding),
            ("timestep_spacing", self.timestep_spacing == default.timestep_spacing),
            ("interpolation_type", self.interpolation == default.interpolation),
            ("timestep_type", self.timestep_type == default.timestep_type),
            ("final_sigmas_type", self.final_sigma == default.final_sigma),
            ("sigma_min", self.sigma_min == default.sigma_min),
            ("sigma_max", self.sigma_max == default.sigma_max),
            ("lambda_min_clipped", self.lambda_min_clipped == default.lambda_min_clipped),
        ] {
            if !is_default && config_keys::knows(self.kind, key) != Some(true) {
                return refuse(key, format!("{} has no such choice: leave it at its default, or take another method", self.kind));
            }
        }
        self.check_dpm()
    }

    fn check_dpm(&self) -> Result<()> {
        let refuse = |key: &str, what: &str| Err(Error::config(key, what));
        if !self.kind.is_dpm() {
            return Ok(());
        }
        if self.lambda_min_clipped.is_nan() {
            return refuse("lambda_min_clipped", "expected a number");
        }
        if self.algorithm.is_stochastic() != (self.kind == Sampler::DpmMultistepSde) && self.kind != Sampler::DpmSinglestep {
            return refuse("algorithm_type", "dpm++ solves the ODE, dpm++-sde the SDE: change the method with it");
        }
        if self.algorithm == DpmAlgorithm::SdeDpmSolver && (self.order == 3 || self.kind == Sampler::DpmSinglestep) {
            return refuse("algorithm_type", "sde-dpmsolver is multistep of order 1 or 2 only: take sde-dpmsolver++");
        }
        if !self.algorithm.interpolates_x0() && self.final_sigma == FinalSigma::Zero {
            return refuse(
                "final_sigmas_type",
                "dpmsolver and sde-dpmsolver interpolate epsilon and cannot reach sigma 0: expected `sigma_min`, got `zero`",
            );
        }
        Ok(())
    }
}
