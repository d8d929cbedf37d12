//! The input of a score: sets of features, and options.

use crate::clips::SetReport;
use crate::features::FeatureSet;
use crate::metric::Moments;

/// The features of a set of clips.
#[derive(Debug, Clone)]
pub enum SetFeatures {
    /// Features of every clip.
    Each(Box<FeatureSet>),
    /// Mean and covariance from a file of another program.
    Moments(Box<Moments>, Box<SetReport>),
}

impl SetFeatures {
    /// The description of the set.
    pub fn report(&self) -> &SetReport {
        match self {
            Self::Each(set) => &set.origin.set,
            Self::Moments(_, report) => report,
        }
    }
}

/// Additional measures besides the score, and which checks are only warnings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScoreOptions {
    /// Number of resamples for an interval.
    pub resamples: Option<usize>,
    /// Extrapolate the Fréchet distance to infinitely many generated clips.
    pub infinity: bool,
    /// Number of neighbours for precision, recall, density and coverage.
    pub neighbours: Option<usize>,
    /// Too few clips for a meaningful score are a warning instead of an error.
    pub allow_few: bool,
    /// Black generated clips are a warning instead of an error: a model in training may generate them.
    pub allow_dark: bool,
}
