//! The Inception network of FID, IS and KID: `inception-2015-12-05`, which differs from the Inception V3 of libraries in its pools,
//! and has 1008 classes.

mod names;
mod network;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use latte_weights::TensorSource;

pub(super) use names::{Naming, output, units};

use super::preparation::Preparation;
use super::{Clips, Detector, FeatureLayer, Identity};
use crate::Result;
use network::Network;

/// Height and width of the input in pixels.
const SIDE: usize = 299;
/// Batch size in images.
const TOGETHER: usize = 8;
const FEATURE_LAYERS: &[FeatureLayer] = &[
    FeatureLayer { name: "2048", width: 2048 },
    FeatureLayer { name: "logits_unbiased", width: 1008 },
    FeatureLayer { name: "logits", width: 1008 },
    FeatureLayer { name: "768", width: 768 },
    FeatureLayer { name: "192", width: 192 },
    FeatureLayer { name: "64", width: 64 },
];

/// The network with its weights.
#[derive(Debug)]
pub struct InceptionFid {
    identity: Identity,
    preparation: Preparation,
    network: Network,
}

impl InceptionFid {
    /// Builds the network from weights with the names of this program's files.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or has another shape.
    pub(super) fn new(source: &dyn TensorSource, eps: f64, identity: Identity, preparation: Preparation) -> Result<Self> {
        Ok(Self { identity, preparation, network: Network::new(source, eps)? })
    }
}

impl Detector for InceptionFid {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn feature_layers(&self) -> &'static [FeatureLayer] {
        FEATURE_LAYERS
    }

    fn min_frames(&self) -> usize {
        1
    }

    fn features(&self, clips: Clips<'_>, layers: &[FeatureLayer]) -> Result<Vec<Tensor>> {
        clips.check(&self.identity.kind, 1..=1)?;
        super::in_groups(self, clips, layers, TOGETHER, |clips| {
            self.network.forward(&self.preparation.apply(clips, SIDE)?, layers)
        })
    }
}
