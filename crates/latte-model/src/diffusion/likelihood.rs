//! The variational bound on the data's likelihood, over all steps.

use candle_core::{DType, Tensor};

use super::loss::normal_kl;
use super::process::mean_per_sample;
use super::{Denoiser, Diffusion};
use crate::Result;
use crate::noise::NoiseSource;

/// The variational bound of each sample, in bits per dimension.
#[derive(Debug, Clone)]
pub struct BitsPerDimension {
    /// The bound: `prior` + the sum of `terms`, `[b]`.
    pub total: Tensor,
    /// KL(q(x_T | x0) ‖ N(0, 1)), `[b]`: the information about the data that is left at the end of the process.
    pub prior: Tensor,
    /// The term of each step, `[b, num_steps]`.
    pub terms: Tensor,
    /// The squared error of the predicted x0 at each step, `[b, num_steps]`.
    pub x0_mse: Tensor,
}

impl Diffusion {
    /// KL(q(x_T | x0) ‖ N(0, 1)) in bits per dimension, `[b]`.
    ///
    /// # Errors
    ///
    /// If `x0` is not `[b, f, c, h, w]`.
    pub fn prior_bits(&self, x0: &Tensor) -> Result<Tensor> {
        let steps = vec![self.num_steps() - 1; x0.dims().first().copied().unwrap_or(0)];
        let alpha_bar = self.schedule().alphas_cumprod();
        let mean = x0.broadcast_mul(&self.per_sample(&steps, x0, |i| alpha_bar[i].sqrt())?)?;
        let log_variance = self.per_sample(&steps, x0, |i| (1.0 - alpha_bar[i]).ln())?;
        let zero = log_variance.zeros_like()?;
        Ok((mean_per_sample(&normal_kl(&mean, &log_variance, &zero, &zero)?)? / std::f64::consts::LN_2)?)
    }

    /// The whole bound of `x0` under `denoiser`. Calls the denoiser once per step.
    ///
    /// # Errors
    ///
    /// If `x0` is not `[b, f, c, h, w]`, or the denoiser fails or returns another shape.
    pub fn bits_per_dimension(
        &self,
        denoiser: &dyn Denoiser,
        x0: &Tensor,
        noise: &mut dyn NoiseSource,
        clip_denoised: bool,
    ) -> Result<BitsPerDimension> {
        let prior = self.prior_bits(x0)?;
        let samples = x0.dims()[0];
        let (mut terms, mut x0_mse) = (Vec::new(), Vec::new());
        for step in 0..self.num_steps() {
            let steps = vec![step; samples];
            let drawn = noise.noise(x0.dims())?.to_device(x0.device())?.to_dtype(x0.dtype())?;
            let x_t = self.q_sample(x0, &steps, &drawn)?;
            let prediction = denoiser.predict(&x_t, &self.original_timesteps(&steps)?)?.to_dtype(x0.dtype())?.detach();
            terms.push(self.variational_term(&prediction, x0, &x_t, &steps, clip_denoised)?);
            let predicted = self.p_mean_variance(&prediction, &x_t, &steps, clip_denoised)?.x0;
            x0_mse.push(mean_per_sample(&(predicted - x0)?.sqr()?)?);
        }
        let terms = Tensor::stack(&terms, 1)?; // [b, num_steps]
        let x0_mse = Tensor::stack(&x0_mse, 1)?; // [b, num_steps]
        // A thousand small terms are summed in f64.
        let total = (terms.to_dtype(DType::F64)?.sum(1)?.to_dtype(prior.dtype())? + &prior)?; // [b]
        Ok(BitsPerDimension { total, prior, terms, x0_mse })
    }
}
