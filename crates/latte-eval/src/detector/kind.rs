//! The supported detectors and their settings.

use latte_weights::TensorSource;
use serde::{Deserialize, Serialize};

use super::preparation::{Preparation, ValueMap};
use super::{C3d, Clip, Detector, I3d, Identity, InceptionFid, c3d, clip};
use crate::Result;
use crate::resize::Resize;

/// A network that serves as a detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// I3D trained on Kinetics-400, for FVD.
    I3d,
    /// The Inception network of 2015-12-05, for FID, IS and KID.
    InceptionFid,
    /// C3D trained on UCF-101, for the inception score of videos.
    C3d,
    /// CLIP ViT-B/32, for CLIPSIM.
    Clip,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::I3d, Self::InceptionFid, Self::C3d, Self::Clip];

    /// The name in files and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::I3d => "i3d",
            Self::InceptionFid => "inception_fid",
            Self::C3d => "c3d",
            Self::Clip => "clip",
        }
    }

    /// The kind with this name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The epsilon of the batch normalisations that the weights were trained with; `None` without batch normalisations.
    pub fn batch_norm_eps(self) -> Option<f64> {
        match self {
            Self::I3d | Self::InceptionFid => Some(1e-3),
            Self::C3d | Self::Clip => None,
        }
    }

    /// The names and shapes of its tensors in this program's files.
    pub fn specification(self) -> Vec<(String, Vec<usize>)> {
        let last = |name: &str, shape: Vec<usize>| [(format!("{name}.bias"), vec![shape[0]]), (format!("{name}.weight"), shape)];
        let (units, last) = match self {
            Self::I3d => {
                let plain = super::i3d::Naming::Plain;
                (super::i3d::units(plain), last(super::i3d::logits(plain), vec![400, 1024, 1, 1, 1]))
            }
            Self::InceptionFid => {
                let plain = super::inception::Naming::Plain;
                (super::inception::units(plain), last(super::inception::output(plain), vec![1008, 2048]))
            }
            Self::C3d => {
                let mut tensors = c3d::tensors();
                tensors.push((c3d::MEAN.into(), c3d::MEAN_SHAPE.to_vec()));
                return tensors;
            }
            Self::Clip => return clip::tensors(),
        };
        units.iter().flat_map(super::layers::Unit::tensors).chain(last).collect()
    }

    /// Builds the network from weights with the names of this program's files. `identity` describes the weights; its epsilon is set
    /// to the one in use.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or has another shape.
    pub fn build(self, source: &dyn TensorSource, mut identity: Identity, setup: Setup) -> Result<Box<dyn Detector>> {
        let eps = self.eps(&identity, setup);
        identity.batch_norm_eps = eps;
        let eps = eps.unwrap_or_default();
        let preparation = setup.preparation.unwrap_or_else(|| self.preparation());
        Ok(match self {
            Self::I3d => Box::new(I3d::new(source, eps, identity, preparation)?),
            Self::InceptionFid => Box::new(InceptionFid::new(source, eps, identity, preparation)?),
            Self::C3d => Box::new(C3d::new(source, identity, preparation)?),
            Self::Clip => Box::new(Clip::new(source, identity, preparation)?),
        })
    }

    /// The epsilon in use for its batch normalisations.
    pub(super) fn eps(self, identity: &Identity, setup: Setup) -> Option<f64> {
        setup.batch_norm_eps.or(identity.batch_norm_eps).or(self.batch_norm_eps())
    }

    /// The default preparation of pixels: that of the programs behind most published numbers.
    pub fn preparation(self) -> Preparation {
        match self {
            Self::I3d => Preparation { resize: Resize::HalfPixelBilinear, values: ValueMap::MinusOneToOne },
            Self::InceptionFid => Preparation { resize: Resize::TfBilinear, values: ValueMap::Around128 },
            Self::C3d => Preparation { resize: Resize::CornerBilinear, values: ValueMap::Bytes },
            Self::Clip => Preparation { resize: Resize::PillowBicubicBytes, values: ValueMap::Clip },
        }
    }
}

/// Deviations from the default settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The preparation of pixels, if it is not [`Kind::preparation`].
    pub preparation: Option<Preparation>,
    /// The epsilon of batch normalisations, if it is not that of the weights: some programs use another one by mistake.
    pub batch_norm_eps: Option<f64>,
}
