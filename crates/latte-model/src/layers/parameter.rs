//! One parameter: what it is, and how it enters a tape.

use std::sync::Arc;

use candle_core::Tensor;
use latte_ops::{PackedWeightCache, Parameters, Tape, Value, Var};

use crate::model::position;
use crate::noise::TorchRng;
use crate::{Result, host};

/// How a parameter is initialised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Init {
    /// Uniform in ±√(6 / (fan in + fan out)) of the weight seen as a matrix `[first axis, the rest]`.
    Xavier,
    /// The same with a bound that is rounded to f32 first: other bits of the same distribution.
    RoundedXavier,
    /// Uniform in ±1/√n, where `n` values are summed (PyTorch's layers).
    Uniform { summed: usize },
    /// Normal with this standard deviation.
    Normal { deviation: f64 },
    /// Zero: for biases, and for layers that are to give 0 at first.
    Zeros,
    /// One.
    Ones,
    /// The spatial positions of a grid of so many rows and columns; fixed.
    SpatialPositions { grid: [usize; 2] },
    /// The temporal positions; fixed.
    TemporalPositions,
}

/// One parameter of a network, as files have it.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// The name in files.
    pub name: String,
    /// The lengths of its axes in files.
    pub shape: Vec<usize>,
    pub(crate) init: Init,
    pub(crate) frozen: bool,
}

impl ParameterSpec {
    /// Whether training changes it: it is neither frozen nor a [position](Self::is_position).
    pub fn is_trainable(&self) -> bool {
        !self.frozen && !self.is_position()
    }

    /// Whether it holds positions. They are fixed although checkpoints store them, and computed where the stored ones do not fit.
    pub fn is_position(&self) -> bool {
        matches!(self.init, Init::SpatialPositions { .. } | Init::TemporalPositions)
    }

    /// How many values it holds.
    pub fn num_values(&self) -> usize {
        self.shape.iter().product()
    }

    /// First values.
    pub(crate) fn draw(&self, rng: &mut TorchRng) -> Result<Tensor> {
        let (shape, count) = (self.shape.as_slice(), self.num_values());
        let xavier = || (6.0 / (shape[0] + count / shape[0]) as f64).sqrt();
        let mut uniform = |bound: f32| {
            let values = rng.rand_f32(count).into_iter().map(|u| (2.0 * u - 1.0) * bound);
            host::tensor(values.collect(), shape)
        };
        Ok(match self.init {
            Init::Xavier => {
                let bound = xavier();
                let values = rng.rand_f32(count).into_iter().map(|u| ((2.0 * f64::from(u) - 1.0) * bound) as f32);
                host::tensor(values.collect(), shape)?
            }
            Init::RoundedXavier => uniform(xavier() as f32)?,
            Init::Uniform { summed } => uniform(1.0 / (summed as f32).sqrt())?,
            Init::Normal { deviation } => (rng.randn(shape)? * deviation)?,
            Init::Zeros => host::zeros(shape)?,
            Init::Ones => host::full(1.0, shape)?,
            Init::SpatialPositions { grid: [rows, columns] } => position::spatial(rows, columns, shape[2])?.unsqueeze(0)?,
            Init::TemporalPositions => position::temporal(shape[1], shape[2])?.unsqueeze(0)?,
        })
    }
}

/// A parameter in a layer: its name in memory, and whether it is frozen.
#[derive(Debug, Clone)]
pub(crate) struct Param {
    name: Arc<str>,
    /// Where the packed form of a frozen one is kept; `None` for one that training changes.
    frozen: Option<PackedWeightCache>,
}

impl Param {
    pub(super) fn new(name: &str, frozen: Option<PackedWeightCache>) -> Self {
        Self { name: name.into(), frozen }
    }

    /// Its value in `weights`, if there is one.
    pub(crate) fn stored<'w>(&self, weights: &'w Parameters) -> Option<&'w Value> {
        weights.get(&self.name).ok()
    }

    /// Its value in `weights`, on the tape: with a gradient, or, if it is frozen, without.
    pub(crate) fn on(&self, tape: &Tape<'_>, weights: &Parameters) -> Result<Var> {
        let value = weights.get(&self.name)?;
        Ok(match &self.frozen {
            None => tape.parameter(&self.name, value),
            Some(packed) => tape.frozen(value, packed),
        })
    }
}
