//! Draws the timesteps of training.

use serde::{Deserialize, Serialize};

use crate::noise::TorchRng;
use crate::{Error, Result};

/// The number of losses kept for each timestep.
const HISTORY: usize = 10;
/// The fraction of draws that stays uniform, so that every timestep is drawn sometimes.
const UNIFORM_SHARE: f64 = 0.001;

/// The configuration of the timestep draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSampling {
    /// Uniform (the official training).
    #[default]
    Uniform,
    /// In proportion to √E\[loss²\] of each timestep, with importance weights (Nichol & Dhariwal 2021, §3.3).
    LossSecondMoment,
}

/// Draws timesteps. Serialise it to resume training exactly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSampler {
    /// Uniform draws.
    Uniform {
        /// The number of timesteps of the process.
        num_timesteps: usize,
    },
    /// Draws by the losses seen so far.
    LossSecondMoment(LossSecondMoment),
}

/// The last losses of every timestep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossSecondMoment {
    /// Oldest first, at most `HISTORY` for each timestep.
    losses: Vec<Vec<f64>>,
}

/// Timesteps for a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct TimestepDraw {
    /// One for each sample.
    pub timesteps: Vec<usize>,
    /// The importance weight 1/(N·p) of each sample's loss: the weighted mean has the expectation of uniform draws.
    pub weights: Vec<f64>,
}

impl TimestepSampler {
    /// A sampler for a process of `num_timesteps`, before any loss.
    pub fn new(sampling: TimestepSampling, num_timesteps: usize) -> Self {
        match sampling {
            TimestepSampling::Uniform => Self::Uniform { num_timesteps },
            TimestepSampling::LossSecondMoment => {
                Self::LossSecondMoment(LossSecondMoment { losses: vec![Vec::new(); num_timesteps] })
            }
        }
    }

    /// Draws `n` timesteps. The uniform draw is `torch.randint(0, T, (n,))`.
    ///
    /// # Errors
    ///
    /// If the process has no timesteps.
    pub fn sample(&self, rng: &mut TorchRng, n: usize) -> Result<TimestepDraw> {
        match self {
            Self::Uniform { num_timesteps } => {
                let timesteps = rng.randint(0, *num_timesteps as i64, n)?;
                Ok(TimestepDraw { timesteps: timesteps.iter().map(|&t| t as usize).collect(), weights: vec![1.0; n] })
            }
            Self::LossSecondMoment(history) => {
                let probabilities = history.probabilities();
                if probabilities.is_empty() {
                    return Err(Error::config("num_timesteps", "expected at least 1 timestep to draw from, got 0"));
                }
                let count = probabilities.len() as f64;
                let timesteps: Vec<usize> = (0..n).map(|_| choose(&probabilities, rng.uniform_f64())).collect();
                let weights = timesteps.iter().map(|&t| 1.0 / (count * probabilities[t])).collect();
                Ok(TimestepDraw { timesteps, weights })
            }
        }
    }

    /// Records the (unweighted) losses of drawn timesteps. With several processes, pass the losses of all of them.
    ///
    /// # Errors
    ///
    /// If the lengths differ, a timestep is out of range, or a loss is not finite.
    pub fn update(&mut self, timesteps: &[usize], losses: &[f64]) -> Result<()> {
        if timesteps.len() != losses.len() {
            let what = format!("expected one loss for each of {} timesteps, got {}", timesteps.len(), losses.len());
            return Err(Error::config("losses", what));
        }
        let Self::LossSecondMoment(history) = self else { return Ok(()) };
        for (&timestep, &loss) in timesteps.iter().zip(losses) {
            if !loss.is_finite() {
                return Err(Error::config("losses", format!("expected finite losses, got {loss} at timestep {timestep}")));
            }
            let count = history.losses.len();
            let Some(kept) = history.losses.get_mut(timestep) else {
                return Err(Error::config("timesteps", format!("expected timesteps below {count}, got {timestep}")));
            };
            if kept.len() == HISTORY {
                kept.remove(0);
            }
            kept.push(loss);
        }
        Ok(())
    }
}

impl LossSecondMoment {
    /// The probability of each timestep: uniform until each has been seen 10 times.
    pub fn probabilities(&self) -> Vec<f64> {
        let count = self.losses.len() as f64;
        let roots: Vec<f64> =
            self.losses.iter().map(|kept| (kept.iter().map(|l| l * l).sum::<f64>() / HISTORY as f64).sqrt()).collect();
        let sum: f64 = roots.iter().sum();
        // Uniform until every timestep has enough losses, and if all losses are 0.
        if self.losses.iter().any(|kept| kept.len() < HISTORY) || sum == 0.0 {
            return vec![1.0 / count; self.losses.len()];
        }
        roots.iter().map(|root| root / sum * (1.0 - UNIFORM_SHARE) + UNIFORM_SHARE / count).collect()
    }
}

/// The index whose interval contains `u`, uniform in [0, 1).
fn choose(probabilities: &[f64], u: f64) -> usize {
    let total: f64 = probabilities.iter().sum();
    let mut below = 0.0;
    for (i, p) in probabilities.iter().enumerate() {
        below += p;
        if u * total < below {
            return i;
        }
    }
    probabilities.len() - 1
}
