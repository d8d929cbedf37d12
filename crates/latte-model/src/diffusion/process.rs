//! The forward process q and the reverse process p.
//!
//! Shapes: `x` is `[b, f, c, h, w]`; a prediction is `[b, f, c, h, w]`, or `[b, f, 2c, h, w]` when the variance is learned.
//! `steps` has one entry for each sample: steps of *this* process (0 .. [`Diffusion::num_steps`]), which the timestep map
//! turns into the original timesteps that the network was trained with.

use candle_core::{DType, Tensor};

use super::{DiffusionConfig, LossType, MinSnr, NoiseSchedule, PredictionType, TimestepSpacing, VarianceType, space_timesteps};
use crate::{Error, Result};

/// A diffusion process over all timesteps or a subset of them.
#[derive(Debug, Clone)]
pub struct Diffusion {
    schedule: NoiseSchedule,
    timestep_map: Vec<usize>,
    prediction: PredictionType,
    variance: VarianceType,
    pub(super) loss: LossType,
    pub(super) min_snr: Option<MinSnr>,
}

/// q(x₍ₜ₋₁₎ | xₜ, x0), a normal distribution.
#[derive(Debug, Clone)]
pub struct Posterior {
    /// `[b, f, c, h, w]`.
    pub mean: Tensor,
    /// `[b, 1, 1, 1, 1]`; at step 0, where the variance is 0, the value of step 1.
    pub log_variance: Tensor,
}

/// p(x₍ₜ₋₁₎ | xₜ), a normal distribution, and the x0 that it was computed from.
#[derive(Debug, Clone)]
pub struct ReverseStep {
    /// `[b, f, c, h, w]`.
    pub mean: Tensor,
    /// `[b, f, c, h, w]` when learned, else `[b, 1, 1, 1, 1]`.
    pub log_variance: Tensor,
    /// The predicted clean latent, `[b, f, c, h, w]`.
    pub x0: Tensor,
}

impl Diffusion {
    /// The process of `config`, restricted to the timesteps of `spacing`. Training uses [`TimestepSpacing::All`].
    ///
    /// # Errors
    ///
    /// If the schedule or the spacing is impossible.
    pub fn new(config: &DiffusionConfig, spacing: &TimestepSpacing) -> Result<Self> {
        let process = Self {
            loss: config.loss,
            ..Self::of_betas(config.noise_schedule.betas(config.num_timesteps), spacing, config.prediction, config.variance)?
        };
        // Checked here, so that training does not fail later, when it first draws the last step.
        if config.variance.is_learned() || matches!(config.loss, LossType::Kl | LossType::RescaledKl) {
            process.check_epsilon_tells_x0(&[process.num_steps() - 1])?;
        }
        Ok(process)
    }

    /// The process of `betas`, restricted to the timesteps of `spacing`, to sample from.
    pub(crate) fn of_betas(
        betas: Vec<f64>,
        spacing: &TimestepSpacing,
        prediction: PredictionType,
        variance: VarianceType,
    ) -> Result<Self> {
        let base = NoiseSchedule::from_betas(betas)?;
        let timestep_map = space_timesteps(base.len(), spacing)?;
        let schedule = base.respaced(&timestep_map)?;
        Ok(Self { schedule, timestep_map, prediction, variance, loss: LossType::Mse, min_snr: None })
    }

    /// The same process with the squared error weighted by timestep; `None` for weights of 1.
    ///
    /// # Errors
    ///
    /// If the loss has no squared error.
    pub fn with_min_snr(mut self, min_snr: Option<MinSnr>) -> Result<Self> {
        if min_snr.is_some() && matches!(self.loss, LossType::Kl | LossType::RescaledKl) {
            let what = "weights the squared error, and the KL losses have none: take `loss = \"mse\"`, or leave it out";
            return Err(Error::config("min_snr_gamma", what));
        }
        self.min_snr = min_snr;
        Ok(self)
    }

    /// The weight of each sample's squared error, `[b]`.
    pub(super) fn min_snr_weights(&self, min_snr: MinSnr, steps: &[usize], like: &Tensor) -> Result<Tensor> {
        let alpha_bar = self.schedule().alphas_cumprod();
        let weights = self.per_sample(steps, like, |i| min_snr.weight(self.prediction(), alpha_bar[i]))?; // [b, 1, 1, 1, 1]
        Ok(weights.flatten_all()?) // [b]
    }

    /// The number of steps.
    pub fn num_steps(&self) -> usize {
        self.schedule.len()
    }

    /// The tables, indexed by step.
    pub fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    /// The original timestep of each step.
    pub fn timestep_map(&self) -> &[usize] {
        &self.timestep_map
    }

    /// The quantity that the network predicts.
    pub fn prediction(&self) -> PredictionType {
        self.prediction
    }

    /// The variance of a reverse step.
    pub fn variance(&self) -> VarianceType {
        self.variance
    }

    /// The original timesteps of `steps`, which a [`super::Denoiser`] expects.
    ///
    /// # Errors
    ///
    /// If a step is not below [`Diffusion::num_steps`].
    pub fn original_timesteps(&self, steps: &[usize]) -> Result<Vec<f64>> {
        self.check_steps(steps)?;
        Ok(steps.iter().map(|&step| self.timestep_map[step] as f64).collect())
    }

    /// xₜ = √ᾱ x0 + √(1−ᾱ) noise.
    ///
    /// # Errors
    ///
    /// If the shapes differ, or a step is out of range.
    pub fn q_sample(&self, x0: &Tensor, steps: &[usize], noise: &Tensor) -> Result<Tensor> {
        same_shape("noise", noise, x0)?;
        let alpha_bar = self.schedule.alphas_cumprod();
        self.combine(steps, x0, |i| alpha_bar[i].sqrt(), noise, |i| (1.0 - alpha_bar[i]).sqrt())
    }

    /// q(x₍ₜ₋₁₎ | xₜ, x0).
    ///
    /// # Errors
    ///
    /// If the shapes differ, or a step is out of range.
    pub fn q_posterior(&self, x0: &Tensor, x_t: &Tensor, steps: &[usize]) -> Result<Posterior> {
        same_shape("x_t", x_t, x0)?;
        let coefficients = |i| self.schedule.posterior_mean_coefficients(i);
        let mean = self.combine(steps, x0, |i| coefficients(i).0, x_t, |i| coefficients(i).1)?;
        let log_variance = self.per_sample(steps, x0, |i| self.schedule.posterior_log_variance_clipped(i))?;
        Ok(Posterior { mean, log_variance })
    }

    /// p(x₍ₜ₋₁₎ | xₜ) from the network's output for `x_t`. With `clip_denoised` the predicted x0 is clamped to [−1, 1]: for pixels,
    /// never for latents.
    ///
    /// # Errors
    ///
    /// If the prediction does not have the shape of `x_t` (twice its channels when the variance is learned), or a step is
    /// out of range.
    pub fn p_mean_variance(
        &self,
        prediction: &Tensor,
        x_t: &Tensor,
        steps: &[usize],
        clip_denoised: bool,
    ) -> Result<ReverseStep> {
        let (prediction, variance_values) = self.split_prediction(prediction, x_t)?;
        let schedule = &self.schedule;
        let log_variance = match (self.variance, variance_values) {
            (VarianceType::Learned, Some(values)) => values,
            (VarianceType::LearnedRange, Some(values)) => {
                let low = self.per_sample(steps, x_t, |i| schedule.posterior_log_variance_clipped(i))?;
                let width =
                    self.per_sample(steps, x_t, |i| schedule.betas()[i].ln() - schedule.posterior_log_variance_clipped(i))?;
                let fraction = values.affine(0.5, 0.5)?;
                fraction.broadcast_mul(&width)?.broadcast_add(&low)?
            }
            (VarianceType::FixedLarge, _) => self.per_sample(steps, x_t, |i| schedule.large_log_variance(i))?,
            (_, _) => self.per_sample(steps, x_t, |i| schedule.posterior_log_variance_clipped(i))?,
        };
        let mut x0 = self.predict_x0(&prediction, x_t, steps)?;
        if clip_denoised {
            x0 = x0.clamp(-1.0, 1.0)?;
        }
        let mean = self.q_posterior(&x0, x_t, steps)?.mean;
        Ok(ReverseStep { mean, log_variance, x0 })
    }

    /// Splits the network's output into the prediction `[b, f, c, h, w]` and, if the variance is learned, variance values of the
    /// same shape.
    ///
    /// # Errors
    ///
    /// If it has another shape.
    pub fn split_prediction(&self, prediction: &Tensor, x_t: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let [_, _, channels, _, _] = five("x_t", x_t)?;
        let mut expected = x_t.dims().to_vec();
        if self.variance.is_learned() {
            expected[2] = 2 * channels;
        }
        if prediction.dims() != expected {
            let why = if self.variance.is_learned() { "twice the channels, the variance is learned" } else { "as x_t" };
            return Err(Error::Shape {
                name: "the network's prediction".into(),
                expected: format!("{expected:?} ({why})"),
                got: prediction.dims().to_vec(),
            });
        }
        if !self.variance.is_learned() {
            return Ok((prediction.clone(), None));
        }
        let values = prediction.narrow(2, channels, channels)?; // [b, f, c, h, w]
        Ok((prediction.narrow(2, 0, channels)?, Some(values)))
    }

    /// x0 from the network's prediction (without variance channels).
    ///
    /// # Errors
    ///
    /// If the shapes differ, or a step is out of range.
    pub fn predict_x0(&self, prediction: &Tensor, x_t: &Tensor, steps: &[usize]) -> Result<Tensor> {
        same_shape("the network's prediction", prediction, x_t)?;
        let alpha_bar = self.schedule.alphas_cumprod();
        match self.prediction {
            PredictionType::Epsilon => {
                self.check_steps(steps)?;
                self.check_epsilon_tells_x0(steps)?;
                self.combine(steps, x_t, |i| (1.0 / alpha_bar[i]).sqrt(), prediction, |i| -(1.0 / alpha_bar[i] - 1.0).sqrt())
            }
            PredictionType::X0 => {
                self.check_steps(steps)?;
                Ok(prediction.clone())
            }
            PredictionType::Velocity => {
                self.combine(steps, x_t, |i| alpha_bar[i].sqrt(), prediction, |i| -(1.0 - alpha_bar[i]).sqrt())
            }
        }
    }

    /// The ε with which `x0` gives `x_t`.
    ///
    /// # Errors
    ///
    /// If the shapes differ, or a step is out of range.
    pub fn epsilon_from_x0(&self, x0: &Tensor, x_t: &Tensor, steps: &[usize]) -> Result<Tensor> {
        same_shape("x_t", x_t, x0)?;
        let alpha_bar = self.schedule.alphas_cumprod();
        let scale = |i: usize| 1.0 / (1.0 - alpha_bar[i]).sqrt();
        self.combine(steps, x_t, scale, x0, |i| -alpha_bar[i].sqrt() * scale(i))
    }

    /// v = √ᾱ noise − √(1−ᾱ) x0.
    ///
    /// # Errors
    ///
    /// If the shapes differ, or a step is out of range.
    pub fn velocity(&self, x0: &Tensor, noise: &Tensor, steps: &[usize]) -> Result<Tensor> {
        same_shape("noise", noise, x0)?;
        let alpha_bar = self.schedule.alphas_cumprod();
        self.combine(steps, noise, |i| alpha_bar[i].sqrt(), x0, |i| -(1.0 - alpha_bar[i]).sqrt())
    }

    /// The target of the network's prediction.
    ///
    /// # Errors
    ///
    /// If the shapes differ, or a step is out of range.
    pub fn target(&self, x0: &Tensor, noise: &Tensor, steps: &[usize]) -> Result<Tensor> {
        match self.prediction {
            PredictionType::Epsilon => Ok(noise.clone()),
            PredictionType::X0 => Ok(x0.clone()),
            PredictionType::Velocity => self.velocity(x0, noise, steps),
        }
    }

    /// `p(step) · a + q(step) · b` for each sample.
    fn combine(
        &self,
        steps: &[usize],
        a: &Tensor,
        p: impl Fn(usize) -> f64,
        b: &Tensor,
        q: impl Fn(usize) -> f64,
    ) -> Result<Tensor> {
        let p = self.per_sample(steps, a, p)?;
        let q = self.per_sample(steps, b, q)?;
        Ok((a.broadcast_mul(&p)? + b.broadcast_mul(&q)?)?)
    }

    /// A table's values for each sample, `[b, 1, 1, 1, 1]`. Here f64 is converted to the dtype of `like`.
    pub(super) fn per_sample(&self, steps: &[usize], like: &Tensor, table: impl Fn(usize) -> f64) -> Result<Tensor> {
        let [samples, ..] = five("x", like)?;
        self.check_steps(steps)?;
        if steps.len() != samples {
            return Err(Error::Shape {
                name: "steps".into(),
                expected: format!("[{samples}], one for each sample"),
                got: vec![steps.len()],
            });
        }
        let values: Vec<f64> = steps.iter().map(|&i| table(i)).collect();
        let values = Tensor::from_vec(values, (samples, 1, 1, 1, 1), &candle_core::Device::Cpu)?;
        Ok(values.to_dtype(like.dtype())?.to_device(like.device())?)
    }

    fn check_epsilon_tells_x0(&self, steps: &[usize]) -> Result<()> {
        let pure_noise = |step: &&usize| self.schedule.alphas_cumprod()[**step] <= 0.0;
        match steps.iter().find(pure_noise) {
            Some(step) if self.prediction == PredictionType::Epsilon => Err(Error::config(
                "prediction",
                format!(
                    "step {step} of this noise schedule is pure noise, where epsilon does not determine x0: take `x0` or \
                     `velocity`, or another schedule than jsd"
                ),
            )),
            _ => Ok(()),
        }
    }

    fn check_steps(&self, steps: &[usize]) -> Result<()> {
        match steps.iter().find(|&&step| step >= self.num_steps()) {
            None => Ok(()),
            Some(step) => Err(Error::config("step", format!("expected steps below {}, got {step}", self.num_steps()))),
        }
    }
}

pub(super) fn same_shape(name: &str, tensor: &Tensor, like: &Tensor) -> Result<()> {
    if tensor.dims() == like.dims() {
        return Ok(());
    }
    Err(Error::Shape { name: name.into(), expected: format!("{:?}", like.dims()), got: tensor.dims().to_vec() })
}

fn five(name: &str, tensor: &Tensor) -> Result<[usize; 5]> {
    <[usize; 5]>::try_from(tensor.dims()).map_err(|_not_five_axes| Error::Shape {
        name: name.into(),
        expected: "[b, f, c, h, w]".into(),
        got: tensor.dims().to_vec(),
    })
}

/// The mean over all axes but the first: `[b, …]` → `[b]`.
pub(super) fn mean_per_sample(x: &Tensor) -> Result<Tensor> {
    Ok(x.flatten_from(1)?.mean(1)?) // [b]
}

/// A `u8` mask, 1 for the samples at step 0, with the shape of `like`.
pub(super) fn at_first_step(steps: &[usize], like: &Tensor) -> Result<Tensor> {
    let mask: Vec<f32> = steps.iter().map(|&step| f32::from(u8::from(step == 0))).collect();
    let mut shape = vec![1; like.rank()];
    shape[0] = steps.len();
    let mask = Tensor::from_vec(mask, shape, like.device())?.to_dtype(DType::U8)?;
    Ok(mask.broadcast_as(like.shape())?.contiguous()?)
}
