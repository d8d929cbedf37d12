//! The options of a solver's configuration, with their names in `scheduler_config.json`.

use serde::Deserialize;

/// The spacing of the visited noise levels σ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigmaSpacing {
    /// Those of the visited timesteps.
    Timesteps,
    /// Karras et al. 2022, equation 5, with ρ = 7.
    Karras,
    /// Evenly in log σ.
    Exponential,
    /// Quantiles of the Beta(0.6, 0.6) distribution (Lee et al. 2024).
    Beta,
    /// Evenly in log σ over the whole schedule (Lu et al. 2022).
    Lu,
}

/// The noise level at the end of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    /// Clean data.
    Zero,
    /// The schedule's smallest noise level.
    SigmaMin,
}

/// The interpolation of σ between two timesteps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaInterpolation {
    /// Linear in σ.
    Linear,
    /// Evenly in log σ from the largest to the smallest, independent of the timesteps.
    LogLinear,
}

/// The time that the network gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepType {
    /// The timestep.
    Discrete,
    /// ¼ log σ, if the network predicts velocity.
    Continuous,
}

/// The equation that DPM-Solver solves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum DpmAlgorithm {
    /// The ODE, with ε interpolated.
    #[serde(rename = "dpmsolver")]
    DpmSolver,
    /// The ODE, with x0 interpolated: more stable with guidance.
    #[serde(rename = "dpmsolver++", alias = "deis")]
    DpmSolverPlusPlus,
    /// The SDE, with ε interpolated.
    #[serde(rename = "sde-dpmsolver")]
    SdeDpmSolver,
    /// The SDE, with x0 interpolated.
    #[serde(rename = "sde-dpmsolver++")]
    SdeDpmSolverPlusPlus,
}

impl DpmAlgorithm {
    /// Its name in `scheduler_config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::DpmSolver => "dpmsolver",
            Self::DpmSolverPlusPlus => "dpmsolver++",
            Self::SdeDpmSolver => "sde-dpmsolver",
            Self::SdeDpmSolverPlusPlus => "sde-dpmsolver++",
        }
    }

    /// Whether steps draw noise.
    pub fn is_stochastic(self) -> bool {
        matches!(self, Self::SdeDpmSolver | Self::SdeDpmSolverPlusPlus)
    }

    /// Whether x0 is interpolated; otherwise ε.
    pub fn interpolates_x0(self) -> bool {
        matches!(self, Self::DpmSolverPlusPlus | Self::SdeDpmSolverPlusPlus)
    }
}

/// The variant of a step's formula. A variant of another method means the method's own default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepFormula {
    /// DPM-Solver's default.
    Midpoint,
    /// DPM-Solver's alternative.
    Heun,
    /// DEIS's only one.
    Logrho,
    /// UniPC with B(h) = h.
    Bh1,
    /// UniPC with B(h) = eʰ − 1.
    Bh2,
}

impl StepFormula {
    /// Its name in `scheduler_config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Midpoint => "midpoint",
            Self::Heun => "heun",
            Self::Logrho => "logrho",
            Self::Bh1 => "bh1",
            Self::Bh2 => "bh2",
        }
    }
}
