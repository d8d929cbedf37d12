//! The noise levels of the methods in σ: Euler, Heun and DPM-Solver-2.
//!
//! They work on x0 + σ ε. The network's input is x / √(σ²+1), the x of the process that it was trained on.

use super::levels::Levels;
use super::{FinalSigma, Sampler, SigmaInterpolation, SigmaSpacing, SolverConfig, TimestepType, spacing};
use crate::Result;
use crate::diffusion::{PredictionType, TimestepSpacing, linspace};

/// The visited timesteps and their σ, descending.
#[derive(Debug, Clone)]
pub(super) struct SigmaGrid {
    /// One for each σ except the last.
    pub(super) timesteps: Vec<f64>,
    /// The last one is the end of the run.
    pub(super) sigmas: Vec<f64>,
    pub(super) init_noise_sigma: f64,
}

impl SigmaGrid {
    pub(super) fn new(config: &SolverConfig, levels: &Levels, steps: usize) -> Result<Self> {
        let mut timesteps = spacing::timesteps(config, steps, false)?;
        let mut sigmas: Vec<f64> = match config.interpolation {
            SigmaInterpolation::Linear => timesteps.iter().map(|&t| levels.sigma_at(t)).collect(),
            // One more than there are steps, so that a run ends at the smallest σ and does not reach the clean end after it. (With
            // continuous timesteps, of which there is one for each σ, it does.)
            SigmaInterpolation::LogLinear => {
                let (from, to) = (levels.sigma_max().ln(), levels.sigma_min().ln());
                linspace(from, to, steps + 1).into_iter().map(f64::exp).collect()
            }
        };
        let max = config.sigma_max.unwrap_or_else(|| sigmas.first().copied().unwrap_or_default());
        let min = config.sigma_min.unwrap_or_else(|| sigmas.last().copied().unwrap_or_default());
        if let Some(spread) = spacing::spread(config.sigma_spacing, max, min, steps)? {
            timesteps = spread.iter().map(|&s| levels.timestep_of(s)).collect();
            if config.kind == Sampler::Kdpm2Ancestral && config.sigma_spacing == SigmaSpacing::Karras {
                for timestep in &mut timesteps {
                    *timestep = timestep.round_ties_even();
                }
            }
            sigmas = spread;
        }
        sigmas.push(match config.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => levels.sigma_min(),
        });
        round_to_single(&mut sigmas);
        if config.timestep_type == TimestepType::Continuous && config.prediction == PredictionType::Velocity {
            timesteps = sigmas[..sigmas.len() - 1].iter().map(|s| 0.25 * s.ln()).collect();
        }
        let largest = sigmas.iter().copied().fold(0.0, f64::max);
        let init_noise_sigma = match config.timestep_spacing {
            // The largest visited σ may be far from pure noise: the start is x0 + σ ε with an x0 of deviation 1.
            TimestepSpacing::Leading => (largest * largest + 1.0).sqrt(),
            _ => largest,
        };
        Ok(Self { timesteps, sigmas, init_noise_sigma })
    }
}

/// The factor that turns x0 + σ ε into the network's input.
pub(super) fn input_scale(sigma: f64) -> f64 {
    1.0 / (sigma * sigma + 1.0).sqrt()
}

/// Rounds σ to f32, as in the network's tables.
pub(super) fn round_to_single(sigmas: &mut [f64]) {
    for sigma in sigmas {
        *sigma = f64::from(*sigma as f32);
    }
}

/// The deviation of the noise that an ancestral step from `from` to `to` adds, and the lower σ before the noise.
///
/// The exact value of `down` is to²/from. diffusers computes it as √(to² − up²) in single precision, which cancels in long steps.
/// `down` decides the length of the step, so it is computed in the same way here, unless nothing is left of it.
pub(super) fn ancestral(from: f64, to: f64) -> (f64, f64) {
    let (from, to) = (from as f32, to as f32);
    let up = (to * to * (from * from - to * to) / (from * from)).max(0.0).sqrt();
    let down = (to * to - up * up).max(0.0).sqrt();
    (f64::from(up), f64::from(if down > 0.0 { down } else { to * (to / from) }))
}
