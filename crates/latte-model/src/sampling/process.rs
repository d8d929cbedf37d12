//! Sampling from the process that a class model was trained on, which a [`DiffusionConfig`] describes instead of a
//! `scheduler_config.json`.

use serde_json::{Value, json};

use super::{AskedFor, RespacedDdim, RespacedDdpm, Sampler, Solver, SolverConfig, config_keys};
use crate::diffusion::{Diffusion, DiffusionConfig, TimestepSpacing, VarianceType, space_timesteps};
use crate::{Error, Result};

/// Keys that describe the training.
const OF_TRAINING: [&str; 8] = [
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
    "variance_type",
];

impl SolverConfig {
    /// The sampler that the user asks for (DDIM by default) over the process `diffusion`, for `steps` steps. Options have their
    /// keys in `scheduler_config.json`.
    ///
    /// DDIM and DDPM respace the process unless `timestep_spacing` says otherwise; the other methods space their timesteps from the
    /// last to the first (`linspace`). Nothing is clamped, and a run ends at clean data if the method supports it.
    ///
    /// # Errors
    ///
    /// If the method does not have an option, or an option has no effect, is invalid, or is fixed by training.
    pub fn of_process(diffusion: &DiffusionConfig, asked: &AskedFor<'_>, steps: usize) -> Result<Self> {
        let configure = |keys: &Value, kind| Self::over(diffusion, kind, steps, keys);
        let kind = asked.sampler.unwrap_or(Sampler::Ddim);
        let sampling = asked.of(&json!({ "_class_name": kind.class_name() }), steps, &configure)?;
        let config = configure(&sampling.scheduler, sampling.sampler.unwrap_or(kind))?;
        Ok(Self { eta: sampling.eta, ..config })
    }

    /// The method `kind` with the options `keys`.
    fn over(diffusion: &DiffusionConfig, kind: Sampler, steps: usize, keys: &Value) -> Result<Self> {
        let keys = keys.as_object().cloned().unwrap_or_default();
        if let Some(key) = OF_TRAINING.into_iter().find(|key| keys.contains_key(*key)) {
            return Err(Error::config(key, "the model's training decides it: leave it out"));
        }
        let is_official = matches!(kind, Sampler::Ddim | Sampler::Ddpm);
        let mut config = Self {
            num_train_timesteps: diffusion.num_timesteps,
            beta_schedule: diffusion.noise_schedule,
            trained_betas: Some(diffusion.noise_schedule.betas(diffusion.num_timesteps)),
            prediction: diffusion.prediction,
            variance: diffusion.variance,
            timestep_spacing: if is_official { TimestepSpacing::evenly(steps) } else { TimestepSpacing::Linspace },
            clip_sample: false,
            set_alpha_to_one: true,
            ..Self::new(kind)
        };
        config_keys::apply(&mut config, keys.into_iter().collect())?;
        if kind == Sampler::Ddpm && config.variance == VarianceType::Learned && !config.timestep_spacing.has_count() {
            let what =
                "this model's variance is the logarithm of sigma^2, which ddpm knows over a respaced process only: leave it out";
            return Err(Error::config("timestep_spacing", what));
        }
        Ok(config)
    }

    /// The method over a respaced process.
    pub(super) fn respaced(&self, steps: usize) -> Result<Box<dyn Solver>> {
        let refuse = |key: &str, what: &str| Err(Error::config(key, what.to_string()));
        if !matches!(self.kind, Sampler::Ddim | Sampler::Ddpm) {
            let what = format!("only ddim and ddpm respace the process; {} takes leading, trailing or linspace", self.kind);
            return refuse("timestep_spacing", &what);
        }
        let default = Self::new(self.kind);
        for (key, is_default) in [
            ("eta", self.kind == Sampler::Ddim || self.eta == default.eta),
            ("thresholding", self.thresholding == default.thresholding),
            ("clip_sample_range", !self.clip_sample || self.clip_sample_range == default.clip_sample_range),
            ("steps_offset", self.steps_offset == default.steps_offset),
            ("set_alpha_to_one", self.set_alpha_to_one || self.kind != Sampler::Ddim),
            ("rescale_betas_zero_snr", self.rescale_betas_zero_snr == default.rescale_betas_zero_snr),
        ] {
            if !is_default {
                let what =
                    format!("{} over a respaced process has no such choice: take another timestep_spacing with it", self.kind);
                return refuse(key, &what);
            }
        }
        let n = self.num_train_timesteps;
        let count = space_timesteps(n, &self.timestep_spacing)?.len();
        if count != steps {
            let what = format!("expected {count}, as many as timestep_spacing \"{}\" visits, got {steps}", self.timestep_spacing);
            return refuse("steps", &what);
        }
        let betas = match &self.trained_betas {
            None => self.beta_schedule.betas_between(self.beta_start, self.beta_end, n),
            Some(betas) if betas.len() == n => betas.clone(),
            Some(betas) => {
                return refuse("trained_betas", &format!("expected {n} (num_train_timesteps), got {}", betas.len()));
            }
        };
        let diffusion = Diffusion::of_betas(betas, &self.timestep_spacing, self.prediction, self.variance)?;
        let clip_denoised = self.clip_sample || self.clip_denoised;
        Ok(match self.kind {
            Sampler::Ddim => Box::new(RespacedDdim::new(diffusion, clip_denoised, self.eta)?),
            _ => Box::new(RespacedDdpm::new(diffusion, clip_denoised)),
        })
    }
}
