//! Requests to class-conditional and unconditional models.

use latte_model::sampling::Sampler;
use latte_ops::Precision;
use serde_json::Value;

use crate::class_model::SamplingParams;

/// A class, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassId {
    /// The number, from 0.
    Number(u32),
    /// The name. If no class has this name and it is a number in digits, it means the class of that number.
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

/// A clip to generate. Everything that is not set has a default.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassRequest {
    /// Its class; `None` for models without classes.
    pub class: Option<ClassId>,
    /// The seed of its noise. The same seed gives the same clip, whichever other clips are generated.
    pub seed: u64,
    /// The settings of sampling.
    pub params: SamplingParams,
    /// Each pixel becomes a square with this side length.
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

    /// Sets the seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the number of sampling steps.
    #[must_use]
    pub fn steps(mut self, steps: usize) -> Self {
        self.params.steps = steps;
        self
    }

    /// Sets the sampler.
    #[must_use]
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.params.sampler = sampler;
        self
    }

    /// Sets an option of the sampler, under its key in `scheduler_config.json`.
    #[must_use]
    pub fn sampler_option(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.params.sampler_options.push((key.into(), value.into()));
        self
    }

    /// Sets the guidance scale, how far the clip is pushed towards its class; 1: no guidance.
    #[must_use]
    pub fn guidance(mut self, scale: f64) -> Self {
        self.params.guidance = Some(scale);
        self
    }

    /// Sets the number of frames.
    #[must_use]
    pub fn frames(mut self, frames: usize) -> Self {
        self.params.frames = Some(frames);
        self
    }

    /// Sets height and width in pixels.
    #[must_use]
    pub fn size(mut self, size: [usize; 2]) -> Self {
        self.params.size = Some(size);
        self
    }

    /// Sets the precision of matmuls.
    #[must_use]
    pub fn precision(mut self, precision: Precision) -> Self {
        self.params.precision = precision;
        self
    }

    /// Enlarges each pixel to a square of `factor` × `factor`, for small clips.
    #[must_use]
    pub fn enlarge(self, factor: usize) -> Self {
        Self { enlarge: factor, ..self }
    }
}
