//! I3D on RGB frames, trained on Kinetics-400 (Carreira and Zisserman, arXiv:1705.07750): the detector of FVD.

mod names;
mod network;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use latte_weights::TensorSource;

pub(super) use names::{Naming, logits, units};

use super::preparation::Preparation;
use super::{Clips, Detector, FeatureLayer, Identity};
use crate::{Error, Result};
use network::Network;

/// Height and width of the input in pixels.
const SIDE: usize = 224;
/// Minimum number of frames: fewer leave no frame for the last pool.
const MIN_FRAMES: usize = 9;
/// Batch size in clips: the last layers have 98 positions per clip and 20 MB of weights.
const TOGETHER: usize = 4;
const FEATURE_LAYERS: &[FeatureLayer] =
    &[FeatureLayer { name: "logits", width: 400 }, FeatureLayer { name: "pool", width: 1024 }];

/// The network with its weights.
#[derive(Debug)]
pub struct I3d {
    identity: Identity,
    preparation: Preparation,
    network: Network,
}

impl I3d {
    /// Builds the network from weights with the names of this program's files.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or has another shape.
    pub(super) fn new(source: &dyn TensorSource, eps: f64, identity: Identity, preparation: Preparation) -> Result<Self> {
        Ok(Self { identity, preparation, network: Network::new(source, eps)? })
    }
}

impl Detector for I3d {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn feature_layers(&self) -> &'static [FeatureLayer] {
        FEATURE_LAYERS
    }

    fn min_frames(&self) -> usize {
        MIN_FRAMES
    }

    fn features(&self, clips: Clips<'_>, layers: &[FeatureLayer]) -> Result<Vec<Tensor>> {
        clips.check(&self.identity.kind, MIN_FRAMES..=usize::MAX)?;
        super::in_groups(self, clips, layers, TOGETHER, |clips| {
            let [logits, pool] = self.network.forward(&self.preparation.apply(clips, SIDE)?)?;
            let choose = |layer: &FeatureLayer| match layer.name {
                "logits" => Ok(logits.clone()),
                "pool" => Ok(pool.clone()),
                other => Err(Error::refused(other, "is no output of I3D")),
            };
            layers.iter().map(choose).collect()
        })
    }
}
