//! What a clip of a class model is to be.

use latte_model::sampling::Sampler;
use latte_ops::Precision;
use serde_json::Value;

use crate::class_model::SamplingParams;

/// A class, by its number or its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassId {
    /// The number, from 0.
    Number(u32),
    /// The name; where no class has it, a number in digits.
    Name(String),
}

impl From<u32> for ClassId {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for ClassId {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}

/// A clip to be made, with defaults for all that is not said.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassRequest {
    /// Its class; `None` for models without classes.
    pub class: Option<ClassId>,
    /// Where its noise comes from. The same seed gives the same clip, whatever else is made beside it.
    pub seed: u64,
    /// How it is made.
    pub params: SamplingParams,
    /// Each pixel becomes a square of so many in height and width.
    pub enlarge: usize,
}

impl ClassRequest {
    /// A clip without a class: seed 0, 50 steps of DDIM.
    pub fn unconditional() -> Self {
        Self { class: None, seed: 0, params: SamplingParams::default(), enlarge: 1 }
    }

    /// A clip of a class.
    pub fn class(class: impl Into<ClassId>) -> Self {
        Self { class: Some(class.into()), ..Self::unconditional() }
    }

    /// Another seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Another number of steps from noise to clip.
    #[must_use]
    pub fn steps(mut self, steps: usize) -> Self {
        self.params.steps = steps;
        self
    }

    /// Another method.
    #[must_use]
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.params.sampler = sampler;
        self
    }

    /// An option of the method, under its key in `scheduler_config.json`.
    #[must_use]
    pub fn sampler_option(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.params.sampler_options.push((key.into(), value.into()));
        self
    }

    /// How far the clip is pushed towards its class; 1 is not at all.
    #[must_use]
    pub fn guidance(mut self, scale: f64) -> Self {
        self.params.guidance = Some(scale);
        self
    }

    /// Another number of frames than in training.
    #[must_use]
    pub fn frames(mut self, frames: usize) -> Self {
        self.params.frames = Some(frames);
        self
    }

    /// Another height and width, in pixels, than in training.
    #[must_use]
    pub fn size(mut self, size: [usize; 2]) -> Self {
        self.params.size = Some(size);
        self
    }

    /// Another precision of matmuls than f32.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.params.precision = precision;
        self
    }

    /// Each pixel as a square of `factor` × `factor`, so that small clips can be seen.
    #[must_use]
    pub fn enlarge(self, factor: usize) -> Self {
        Self { enlarge: factor, ..self }
    }
}
