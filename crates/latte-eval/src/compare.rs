//! Scores in one call: extracts the features of a protocol and computes its statistic.

use latte_progress::Progress;

use crate::clips::ClipList;
use crate::detector::{Detector, FeatureLayer};
use crate::extract::{Extraction, extract};
use crate::features::FeatureSet;
use crate::protocol::Protocol;
use crate::request::ScoreOptions;
use crate::score::{Score, SetFeatures, score};
use crate::{Error, Result};

/// Extracts the features of all `clips` that `protocol` needs. Nothing is stored on disk.
///
/// # Errors
///
/// Those of [`extract`].
pub fn features(
    protocol: &Protocol,
    detector: &dyn Detector,
    clips: &dyn ClipList,
    progress: &mut dyn Progress,
) -> Result<Box<FeatureSet>> {
    let is_needed = |layer: &&FeatureLayer| layer.name == protocol.output;
    let layers: Vec<FeatureLayer> = detector.feature_layers().iter().filter(is_needed).copied().collect();
    match extract(clips, detector, protocol.preparation, &layers, None, progress)? {
        Extraction::Whole(set) => Ok(set),
        Extraction::Part { .. } => Err(Error::refused("clips", "were not all processed")),
    }
}

/// Computes the score of `fake` by `protocol`, against `real` if the protocol compares two sets.
///
/// # Errors
///
/// Those of [`extract`] and [`score`].
pub fn compare(
    protocol: &Protocol,
    detector: &dyn Detector,
    real: Option<&dyn ClipList>,
    fake: &dyn ClipList,
    options: &ScoreOptions,
    progress: &mut dyn Progress,
) -> Result<Score> {
    let real = real.map(|clips| features(protocol, detector, clips, progress).map(SetFeatures::Each)).transpose()?;
    score(protocol, real.as_ref(), &SetFeatures::Each(features(protocol, detector, fake, progress)?), options)
}
