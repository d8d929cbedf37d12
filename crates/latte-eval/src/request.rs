//! What is scored, and what is measured beside the score itself.

use crate::clips::SetReport;
use crate::features::FeatureSet;
use crate::metric::Moments;

/// What stands for a set of clips.
#[derive(Debug, Clone)]
pub enum SetFeatures {
    /// Features of every clip.
    Each(Box<FeatureSet>),
    /// Mean and covariance that another program wrote.
    Moments(Box<Moments>, Box<SetReport>),
}

impl SetFeatures {
    /// What there is to say about the set.
    pub fn report(&self) -> &SetReport {
        match self {
            Self::Each(set) => &set.origin.set,
            Self::Moments(_, report) => report,
        }
    }
}

/// What is measured besides the score itself, and which checks are warnings only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScoreOptions {
    /// An interval from so many resamples.
    pub resamples: Option<usize>,
    /// The Fréchet distance of infinitely many generated clips.
    pub infinity: bool,
    /// Precision, recall, density and coverage, by so many neighbours.
    pub neighbours: Option<usize>,
    /// Numbers of clips that are too few to mean anything are a warning, not an error.
    pub allow_few: bool,
    /// Generated clips that are black are a warning, not an error: those of a model that is being trained may be.
    pub allow_dark: bool,
}
