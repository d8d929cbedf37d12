//! Networks that compute features of clips.

mod c3d;
mod clip;
#[cfg(test)]
mod formula;
mod i3d;
mod inception;
mod kind;
mod layers;
mod preparation;
mod random;
mod weights;

use std::fmt;

use candle_core::Tensor;

pub use c3d::C3d;
pub use clip::{Clip, Tokenizer};
pub use i3d::I3d;
pub use inception::InceptionFid;
pub use kind::{Kind, Setup};
pub use preparation::{Preparation, ValueMap};
pub use random::{random_i3d, random_i3d_identity};
pub use weights::{Import, identify, import, import_with_mean, open, open_clip};

use crate::{Error, Result};

/// Clips as input of a detector: RGB, before any preparation.
#[derive(Debug, Clone, Copy)]
pub struct Clips<'p> {
    /// Row-major, `[n, f, h, w, 3]`, 0 to 255.
    pub pixels: &'p [u8],
    /// `[n, f, h, w]`; images are clips of one frame.
    pub shape: [usize; 4],
}

/// A layer of a network that gives a feature vector, with its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureLayer {
    /// The name of the output: `logits`, `pool`, `2048`, …
    pub name: &'static str,
    /// Number of values per clip.
    pub width: usize,
}

/// The description of a detector in every result: network and weights.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// `i3d`, `inception_fid`, `c3d`, `clip`, or `random_i3d` for untrained weights from a seed.
    pub kind: String,
    /// The origin of the weights.
    pub source: String,
    /// SHA-256 of the weights, or `seed N` for random weights.
    pub weights: String,
    /// The epsilon of its batch normalisations, if it has any.
    pub batch_norm_eps: Option<f64>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (weights {}", self.kind, self.weights)?;
        if let Some(eps) = self.batch_norm_eps {
            write!(f, ", ε {eps}")?;
        }
        f.write_str(")")
    }
}

impl Identity {
    /// Whether it gives the same features: the same weights, whatever the file's name.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.kind, &self.weights, self.batch_norm_eps) == (&other.kind, &other.weights, other.batch_norm_eps)
    }
}

/// A network that computes features of clips.
pub trait Detector: Sync {
    /// The network and its weights.
    fn identity(&self) -> &Identity;

    /// The available outputs.
    fn feature_layers(&self) -> &'static [FeatureLayer];

    /// Minimum number of frames of a clip.
    fn min_frames(&self) -> usize;

    /// The outputs at `layers`, each `[n, width]` in f32, in the requested order. Pixels are prepared (range and size) by the
    /// settings of the detector.
    ///
    /// # Errors
    ///
    /// If clips are too short, this detector has no such layer, or an operation fails.
    fn features(&self, clips: Clips<'_>, layers: &[FeatureLayer]) -> Result<Vec<Tensor>>;
}

/// The outputs of `forward` for all clips, `together` per batch, at layers of this detector.
fn in_groups(
    detector: &dyn Detector,
    clips: Clips<'_>,
    layers: &[FeatureLayer],
    together: usize,
    forward: impl Fn(Clips<'_>) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    if let Some(unknown) = layers.iter().find(|layer| !detector.feature_layers().contains(layer)) {
        let known: Vec<&str> = detector.feature_layers().iter().map(|layer| layer.name).collect();
        let what = format!("is no output of {}; it has {}", detector.identity().kind, known.join(", "));
        return Err(Error::refused(format!("`{}`", unknown.name), what));
    }
    let n = clips.shape[0];
    let groups = (0..n).step_by(together).map(|start| forward(clips.some(start, together.min(n - start))));
    let groups = groups.collect::<Result<Vec<_>>>()?;
    let joined = |layer: usize| Ok(Tensor::cat(&groups.iter().map(|group| &group[layer]).collect::<Vec<_>>(), 0)?);
    (0..layers.len()).map(joined).collect()
}
