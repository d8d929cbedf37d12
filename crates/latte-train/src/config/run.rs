//! What the configurations of all runs have in common.

use std::fmt;
use std::path::Path;

use super::{DataConfig, OptimizerConfig, OutputConfig, TrainConfig};
use crate::error::Result;

/// The configuration of a run of any task.
pub trait RunConfig: Clone + fmt::Debug {
    /// Reads a configuration from a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or describes no possible run.
    fn read(path: &Path) -> Result<Self>;

    /// The configuration as TOML with all defaults written; reading it gives the same configuration.
    ///
    /// # Errors
    ///
    /// If a value has no TOML form (a path that is not Unicode).
    fn to_toml(&self) -> Result<String>;

    /// `[data]`.
    fn data(&self) -> &DataConfig;

    /// `[optimizer]`.
    fn optimizer(&self) -> &OptimizerConfig;

    /// `[output]`.
    fn output(&self) -> &OutputConfig;

    /// Optimiser steps of the whole run.
    fn max_steps(&self) -> u64;

    /// The seed of all randomness of the run.
    fn seed(&self) -> u64;
}

impl RunConfig for TrainConfig {
    fn read(path: &Path) -> Result<Self> {
        Self::load(path, &[])
    }

    fn to_toml(&self) -> Result<String> {
        self.to_toml()
    }

    fn data(&self) -> &DataConfig {
        &self.data
    }

    fn optimizer(&self) -> &OptimizerConfig {
        &self.optimizer
    }

    fn output(&self) -> &OutputConfig {
        &self.output
    }

    fn max_steps(&self) -> u64 {
        self.train.max_steps
    }

    fn seed(&self) -> u64 {
        self.train.seed
    }
}
