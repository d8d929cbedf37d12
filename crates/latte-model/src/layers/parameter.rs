//! One parameter: its initialisation, and how it enters a tape.

use std::sync::Arc;

use candle_core::Tensor;
use latte_ops::{PackedWeightCache, Parameters, Tape, Value, Var};

use crate::model::position;
use crate::noise::TorchRng;
use crate::{Result, host};

/// How a parameter is initialised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Init {
    /// Uniform in ±√(6 / (fan in + fan out)), with the weight as a matrix `[first axis, the rest]`.
    Xavier,
    /// The same with a bound that is rounded to f32 first: the same distribution with other bits.
    RoundedXavier,
    /// Uniform in ±1/√n, for a sum of `n` values (PyTorch's layers).
    Uniform { summed: usize },
    /// Normal with this standard deviation.
    Normal { deviation: f64 },
    /// Zero: for biases, and for layers whose output starts at 0.
    Zeros,
    /// One.
    Ones,
    /// The fixed spatial positions of a grid of rows and columns.
    SpatialPositions { grid: [usize; 2] },
    /// The fixed temporal positions.
    TemporalPositions,
}

/// One parameter of a network, as it is in files.
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
    /// Whether training updates it: it is neither frozen nor a [position](Self::is_position).
    pub fn is_trainable(&self) -> bool {
        !self.frozen && !self.is_position()
    }

    /// Whether it holds positions. They are fixed although checkpoints store them, and computed if the stored ones do not fit.
    pub fn is_position(&self) -> bool {
        matches!(self.init, Init::SpatialPositions { .. } | Init::TemporalPositions)
    }

    /// The number of values.
    pub fn num_values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Draws the initial values.
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
    /// The cache of the packed form, if it is frozen; `None` if training updates it.
    frozen: Option<PackedWeightCache>,
}

impl Param {
    pub(super) fn new(name: &str, frozen: Option<PackedWeightCache>) -> Self {
        Self { name: name.into(), frozen }
    }

    /// Its value in `weights`; `None` if there is none.
    pub(crate) fn stored<'w>(&self, weights: &'w Parameters) -> Option<&'w Value> {
        weights.get(&self.name).ok()
    }

    /// Its value in `weights`, on the tape: with a gradient unless it is frozen.
    pub(crate) fn on(&self, tape: &Tape<'_>, weights: &Parameters) -> Result<Var> {
        let value = weights.get(&self.name)?;
        Ok(match &self.frozen {
            None => tape.parameter(&self.name, value),
            Some(packed) => tape.frozen(value, packed),
        })
    }
}
