//! The timesteps of the process that a sampler visits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The spacing of the visited timesteps. As text (in configuration and on the command line): `""` all timesteps; `"250"` that many;
/// `"10,15,20"` that many in each of three equal sections; `"ddim50"` that many with one integer stride, if such a stride exists;
/// and diffusers' `"leading"`, `"trailing"` and `"linspace"`, which do not fix the number of steps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TimestepSpacing {
    /// Every timestep.
    #[default]
    All,
    /// The process is divided into sections of equal size (the first ones longer by one if it does not divide evenly), and each
    /// section has the given number of steps, evenly spaced from its first to its last timestep.
    Sections(Vec<usize>),
    /// The given number of steps 0, k, 2k, … with the smallest stride k that gives exactly that many.
    Strided(usize),
    /// Multiples of one integer stride, from 0: does not reach the last timestep. For samplers only.
    Leading,
    /// From the last timestep downwards: does not reach 0. For samplers only.
    Trailing,
    /// Evenly from the last timestep to 0; a single step is at 0, as in diffusers. Multistep methods treat 0 as the end of their
    /// last step, so they start at the last timestep for any number of steps. For samplers only.
    Linspace,
}

impl TimestepSpacing {
    /// `count` steps, evenly spaced from the first to the last.
    pub fn evenly(count: usize) -> Self {
        Self::Sections(vec![count])
    }

    /// Whether it fixes the number of timesteps: then a process can be respaced by it ([`space_timesteps`]).
    pub fn has_count(&self) -> bool {
        matches!(self, Self::All | Self::Sections(_) | Self::Strided(_))
    }
}

impl FromStr for TimestepSpacing {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str| {
            part.trim().parse::<usize>().map_err(|e| {
                let known = "\"\", \"250\", \"10,15,20\", \"ddim50\", \"leading\", \"trailing\" or \"linspace\"";
                let what = format!("expected {known}, got \"{text}\" (`{part}`: {e})");
                Error::config("timestep spacing", what)
            })
        };
        Ok(match (text, text.strip_prefix("ddim")) {
            ("", _) => Self::All,
            ("leading", _) => Self::Leading,
            ("trailing", _) => Self::Trailing,
            ("linspace", _) => Self::Linspace,
            (_, Some(count)) => Self::Strided(number(count)?),
            (_, None) => Self::Sections(text.split(',').map(number).collect::<Result<_>>()?),
        })
    }
}

impl fmt::Display for TimestepSpacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Sections(counts) => {
                let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
                f.write_str(&counts.join(","))
            }
            Self::Strided(count) => write!(f, "ddim{count}"),
            Self::Leading => f.write_str("leading"),
            Self::Trailing => f.write_str("trailing"),
            Self::Linspace => f.write_str("linspace"),
        }
    }
}

impl TryFrom<String> for TimestepSpacing {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<TimestepSpacing> for String {
    fn from(spacing: TimestepSpacing) -> Self {
        spacing.to_string()
    }
}

/// The timesteps, ascending, that `spacing` selects from `num_timesteps`.
///
/// # Errors
///
/// If a section has fewer timesteps than its steps, no integer stride gives the number of steps, or no step is left.
pub fn space_timesteps(num_timesteps: usize, spacing: &TimestepSpacing) -> Result<Vec<usize>> {
    let bad = |what: String| Err(Error::config("timestep spacing", what));
    let steps: Vec<usize> = match spacing {
        TimestepSpacing::All => (0..num_timesteps).collect(),
        TimestepSpacing::Leading | TimestepSpacing::Trailing | TimestepSpacing::Linspace => {
            return bad(format!("\"{spacing}\" leaves the number of timesteps open: take a number, for example \"250\""));
        }
        TimestepSpacing::Strided(count) => {
            let Some(stride) = (1..num_timesteps).find(|&k| num_timesteps.div_ceil(k) == *count) else {
                return bad(format!(
                    "no integer stride visits exactly {count} of {num_timesteps} timesteps: take \"{count}\", which spreads \
                     them without one"
                ));
            };
            (0..num_timesteps).step_by(stride).collect()
        }
        TimestepSpacing::Sections(counts) => {
            let mut steps = Vec::new();
            let mut start = 0;
            for (i, &count) in counts.iter().enumerate() {
                let size = num_timesteps / counts.len() + usize::from(i < num_timesteps % counts.len());
                if count > size {
                    return bad(format!(
                        "cannot visit {count} steps of a section of {size} ({num_timesteps} in all): ask for fewer"
                    ));
                }
                let stride = if count <= 1 { 1.0 } else { (size - 1) as f64 / (count - 1) as f64 };
                // The positions are accumulated, not multiplied: the rounding of the sum decides ties as in the reference.
                let mut position = 0.0_f64;
                for _ in 0..count {
                    steps.push(start + position.round_ties_even() as usize);
                    position += stride;
                }
                start += size;
            }
            steps.dedup();
            steps
        }
    };
    if steps.is_empty() {
        return bad(format!("\"{spacing}\" visits no timestep at all: ask for at least 1"));
    }
    Ok(steps)
}
