//! The training loss, in operations that candle can differentiate with respect to the network's prediction.

use candle_core::Tensor;

use super::process::{at_first_step, mean_per_sample, same_shape};
use super::{Diffusion, LossType};
use crate::Result;

/// The loss of each sample, and its terms.
#[derive(Debug, Clone)]
pub struct LossTerms {
    /// `[b]`; the quantity that training minimises.
    pub loss: Tensor,
    /// The squared error of the prediction, `[b]`, without the weight of [`MinSnr`](super::MinSnr); `None` with the KL losses.
    pub mse: Option<Tensor>,
    /// The variational term as it was added, `[b]`, in bits per dimension; `None` if the variance is fixed, and with the KL losses,
    /// whose `loss` is this term.
    pub vb: Option<Tensor>,
}

impl Diffusion {
    /// The training loss of a network's `prediction` for `x_t` = [`Diffusion::q_sample`] of `x0` and `noise` at `steps`.
    ///
    /// It is differentiable with respect to `prediction`: pass a candle `Var` and call `backward` on a mean of `loss`. With the MSE
    /// losses the gradient of the variational term reaches only the variance channels (Nichol & Dhariwal 2021, §3.1).
    ///
    /// # Shapes
    ///
    /// `prediction` is `[b, f, c, h, w]`, or `[b, f, 2c, h, w]` if the variance is learned; the others `[b, f, c, h, w]`.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit, or a step is out of range.
    pub fn loss(&self, prediction: &Tensor, x0: &Tensor, noise: &Tensor, x_t: &Tensor, steps: &[usize]) -> Result<LossTerms> {
        same_shape("x0", x0, x_t)?;
        same_shape("noise", noise, x_t)?;
        let num_steps = self.num_steps() as f64;
        let (mean_part, variance_part) = self.split_prediction(prediction, x_t)?;
        match self.loss {
            LossType::Kl | LossType::RescaledKl => {
                let scale = if self.loss == LossType::Kl { 1.0 } else { num_steps };
                let vb = self.variational_term(prediction, x0, x_t, steps, false)?;
                Ok(LossTerms { loss: (vb * scale)?, mse: None, vb: None })
            }
            LossType::Mse | LossType::RescaledMse => {
                let target = self.target(x0, noise, steps)?;
                let mse = mean_per_sample(&(target - &mean_part)?.sqr()?)?;
                let weighted = match self.min_snr {
                    None => mse.clone(),
                    Some(min_snr) => (&mse * self.min_snr_weights(min_snr, steps, x_t)?)?, // [b]
                };
                let Some(variance_part) = variance_part else {
                    return Ok(LossTerms { loss: weighted, mse: Some(mse), vb: None });
                };
                let frozen = Tensor::cat(&[&mean_part.detach(), &variance_part], 2)?; // [b, f, 2c, h, w]
                let scale = if self.loss == LossType::Mse { 1.0 } else { num_steps / 1000.0 };
                let vb = (self.variational_term(&frozen, x0, x_t, steps, false)? * scale)?;
                Ok(LossTerms { loss: (weighted + &vb)?, mse: Some(mse), vb: Some(vb) })
            }
        }
    }

    /// One term of the variational bound in bits per dimension, `[b]`: KL(q(x₍ₜ₋₁₎ | xₜ, x0) ‖ p(x₍ₜ₋₁₎ | xₜ)), and at step 0 −log
    /// p(x0 | x₁) of data in 256 levels over [−1, 1]. (Latents are not such data; the term stays for parity with the reference.)
    ///
    /// # Errors
    ///
    /// Those of [`Diffusion::loss`].
    pub fn variational_term(
        &self,
        prediction: &Tensor,
        x0: &Tensor,
        x_t: &Tensor,
        steps: &[usize],
        clip_denoised: bool,
    ) -> Result<Tensor> {
        let truth = self.q_posterior(x0, x_t, steps)?;
        let model = self.p_mean_variance(prediction, x_t, steps, clip_denoised)?;
        let log_variance = model.log_variance.broadcast_as(x0.shape())?; // [b, f, c, h, w]
        let in_bits = |x: &Tensor| Ok::<_, crate::Error>((mean_per_sample(x)? / std::f64::consts::LN_2)?);
        let kl = || in_bits(&normal_kl(&truth.mean, &truth.log_variance, &model.mean, &log_variance)?);
        let decoder = || in_bits(&discretized_gaussian_log_likelihood(x0, &model.mean, &(&log_variance * 0.5)?)?.neg()?);
        // Either term costs about as much as everything else, and nearly always only one of them is needed.
        if steps.iter().all(|&step| step > 0) {
            kl()
        } else if steps.iter().all(|&step| step == 0) {
            decoder()
        } else {
            let kl = kl()?;
            Ok(at_first_step(steps, &kl)?.where_cond(&decoder()?, &kl)?)
        }
    }
}

/// KL(N(mean1, exp(log_variance1)) ‖ N(mean2, exp(log_variance2))) of each element, in nats.
pub(super) fn normal_kl(mean1: &Tensor, log_variance1: &Tensor, mean2: &Tensor, log_variance2: &Tensor) -> Result<Tensor> {
    let difference = log_variance1.broadcast_sub(log_variance2)?;
    let squares = mean1.broadcast_sub(mean2)?.sqr()?.broadcast_mul(&log_variance2.neg()?.exp()?)?;
    Ok((((difference.exp()? - difference)? - 1.0)?.broadcast_add(&squares)? * 0.5)?)
}

/// log of the probability that a normal distribution gives to the level of `x` among 256 levels over [−1, 1], in nats; the
/// outermost levels reach to infinity.
fn discretized_gaussian_log_likelihood(x: &Tensor, mean: &Tensor, log_scale: &Tensor) -> Result<Tensor> {
    const HALF_LEVEL: f64 = 1.0 / 255.0;
    const LEAST: f64 = 1e-12;
    let centred = (x - mean)?;
    let inverse = log_scale.neg()?.exp()?;
    let below_upper = normal_cdf(&((&centred + HALF_LEVEL)? * &inverse)?)?;
    let below_lower = normal_cdf(&((centred - HALF_LEVEL)? * inverse)?)?;
    let log = |p: Tensor| p.maximum(LEAST)?.log();
    let inside = log((&below_upper - &below_lower)?)?;
    let highest = x.gt(0.999)?.where_cond(&log(below_lower.affine(-1.0, 1.0)?)?, &inside)?;
    Ok(x.lt(-0.999)?.where_cond(&log(below_upper)?, &highest)?)
}

/// The standard normal cumulative distribution function in the usual tanh approximation.
fn normal_cdf(x: &Tensor) -> Result<Tensor> {
    let cubed = (x.sqr()? * x)?;
    let inner = ((x + (cubed * 0.044715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
    Ok(inner.tanh()?.affine(0.5, 0.5)?)
}
