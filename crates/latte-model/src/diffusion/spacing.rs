//! Which of the process's timesteps a sampler visits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which timesteps are visited. As text (in configuration and on the command line): `""` all of them; `"250"` that many;
/// `"10,15,20"` that many of each of three equal sections; `"ddim50"` that many at one integer stride, if there is one; and
/// diffusers' `"leading"`, `"trailing"` and `"linspace"`, which leave the number of steps open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TimestepSpacing {
    /// Every timestep.
    #[default]
    All,
    /// The process is cut into sections of equal size (the first ones longer by one if it does not divide); of each, so
    /// many steps evenly spread from its first to its last.
    Sections(Vec<usize>),
    /// So many steps 0, k, 2k, … with the smallest stride k that gives exactly that many.
    Strided(usize),
    /// Multiples of one integer stride, from 0: never quite reaches the last timestep. For samplers only.
    Leading,
    /// From the last timestep downwards: never quite reaches 0. For samplers only.
    Trailing,
    /// Evenly from the last timestep to 0; of a single step, 0 only, as diffusers has it. Multistep methods, which see 0 as the
    /// end of their last step, begin at the last timestep whatever the number of steps. For samplers only.
    Linspace,
}

impl TimestepSpacing {
    /// `count` steps evenly spread from the first to the last.
    pub fn evenly(count: usize) -> Self {
        Self::Sections(vec![count])
    }

    /// Whether it says how many timesteps are visited: a process can be respaced by it ([`space_timesteps`]).
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

/// The timesteps, ascending, that `spacing` visits of `num_timesteps`.
///
/// # Errors
///
/// If a section has fewer steps than are asked of it, no integer stride gives the number asked for, or no step is left.
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
                // The positions are summed up, not multiplied: the rounding of the sum decides ties as the reference does.
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
