//! The options of a solver's configuration, with their names in `scheduler_config.json`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::levels::Levels;
use super::{Solver, SolverConfig, ddim, ddpm, deis, dpm_multistep, dpm_singlestep, euler, heun, kdpm2_ancestral, pndm, unipc};
use crate::{Error, Result};

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
    Ddim = "ddim", "DDIMScheduler", ddim::Ddim;
    /// Ho et al. 2020: ancestral sampling.
    Ddpm = "ddpm", "DDPMScheduler", ddpm::Ddpm;
    /// Karras et al. 2022: Euler's method in σ, order 1.
    Euler = "euler", "EulerDiscreteScheduler", euler::Euler;
    /// Euler's method with ancestral noise.
    EulerAncestral = "euler-a", "EulerAncestralDiscreteScheduler", euler::Euler;
    /// DPM-Solver++ multistep (Lu et al. 2022), orders 1 to 3.
    DpmMultistep = "dpm++", "DPMSolverMultistepScheduler", dpm_multistep::DpmMultistep;
    /// As [`Sampler::DpmMultistep`], for the stochastic differential equation.
    DpmMultistepSde = "dpm++-sde", "DPMSolverMultistepScheduler", dpm_multistep::DpmMultistep;
    /// DPM-Solver++ singlestep, orders 1 to 3.
    DpmSinglestep = "dpm-single", "DPMSolverSinglestepScheduler", dpm_singlestep::DpmSinglestep;
    /// Liu et al. 2022: linear multistep of order 4, with Runge–Kutta steps at the start.
    Pndm = "pndm", "PNDMScheduler", pndm::Pndm;
    /// Heun's method in σ, order 2; twice the predictions.
    Heun = "heun", "HeunDiscreteScheduler", heun::Heun;
    /// Zhang & Chen 2023: exponential integrator multistep, orders 1 to 3.
    Deis = "deis", "DEISMultistepScheduler", deis::Deis;
    /// DPM-Solver-2 with ancestral noise; twice the predictions.
    Kdpm2Ancestral = "kdpm2-a", "KDPM2AncestralDiscreteScheduler", kdpm2_ancestral::Kdpm2Ancestral;
    /// Zhao et al. 2023: predictor and corrector, orders 1 to 3.
    Unipc = "unipc", "UniPCMultistepScheduler", unipc::Unipc;
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
