//! C3D trained on UCF-101, the detector of the inception score of videos (Tran et al., arXiv:1412.0767).
//!
//! The input has 16 frames in the channel order blue, green, red, from 0 to 255, minus the mean of the training clips at every
//! pixel and frame.

#[cfg(test)]
mod tests;

use candle_core::{Device, Tensor};
use latte_ops::{Conv3d, Padding, Pool, Tape, Window, conv3d, pool3d};
use latte_weights::{TensorSource, expect_tensor};

use super::layers::{convolution, dense, of_volumes};
use super::preparation::Preparation;
use super::{Clips, Detector, FeatureLayer, Identity, in_groups};
use crate::Result;

/// Height and width of the input in pixels.
const SIDE: usize = 112;
/// Number of frames of a clip.
const FRAMES: usize = 16;
/// Batch size in clips: the last layers have only one position per clip, but 200 MB of weights.
const TOGETHER: usize = 8;
const FEATURE_LAYERS: &[FeatureLayer] = &[FeatureLayer { name: "logits", width: 101 }];

/// The name of the mean of the training clips, `[3, 16, 112, 112]`, channels in the order blue, green, red.
pub(super) const MEAN: &str = "mean";
/// Its shape in this program's files.
pub(super) const MEAN_SHAPE: [usize; 4] = [3, FRAMES, SIDE, SIDE];
/// Rows and columns that are cut off at the top and left of the mean in its file, which is larger than the input, as in the original.
pub(super) const MEAN_CUT: usize = 8;

/// Convolutions of 3 × 3 × 3: name, input and output channels, and whether a pool that halves the sizes follows.
const CONVOLUTIONS: [(&str, usize, usize, bool); 8] = [
    ("conv1a", 3, 64, true),
    ("conv2a", 64, 128, true),
    ("conv3a", 128, 256, false),
    ("conv3b", 256, 256, true),
    ("conv4a", 256, 512, false),
    ("conv4b", 512, 512, true),
    ("conv5a", 512, 512, false),
    ("conv5b", 512, 512, true),
];
/// Fully connected layers: name, input and output width.
const MATMULS: [(&str, usize, usize); 3] = [("fc6", 8192, 4096), ("fc7", 4096, 4096), ("fc8", 4096, 101)];

/// The names and shapes of its tensors without the mean.
pub(super) fn tensors() -> Vec<(String, Vec<usize>)> {
    let convolutions = CONVOLUTIONS.iter().map(|&(name, input, output, _)| (name, vec![output, input, 3, 3, 3]));
    let matmuls = MATMULS.iter().map(|&(name, input, output)| (name, vec![output, input]));
    let with_bias =
        |(name, shape): (&str, Vec<usize>)| [(format!("{name}.bias"), vec![shape[0]]), (format!("{name}.weight"), shape)];
    convolutions.chain(matmuls).flat_map(with_bias).collect()
}

/// The network with its weights.
#[derive(Debug)]
pub struct C3d {
    identity: Identity,
    preparation: Preparation,
    /// `[16, 112, 112, 3]`, in the channel order of the network.
    mean: Tensor,
    convolutions: Vec<Conv3d>,
    matmuls: Vec<Conv3d>,
}

impl C3d {
    /// Builds the network from weights with the names of this program's files.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or has another shape.
    pub(super) fn new(source: &dyn TensorSource, identity: Identity, preparation: Preparation) -> Result<Self> {
        let read = |name: &str, shape: &[usize]| -> Result<[Tensor; 2]> {
            let bias = expect_tensor(source, &format!("{name}.bias"), &shape[..1])?;
            Ok([expect_tensor(source, &format!("{name}.weight"), shape)?, bias])
        };
        let mut convolutions = Vec::new();
        for (name, input, output, _) in CONVOLUTIONS {
            let [weight, bias] = read(name, &[output, input, 3, 3, 3])?;
            convolutions.push(convolution(&weight, &bias, [1; 3], Padding::Same, true)?);
        }
        let mut matmuls = Vec::new();
        for (name, input, output) in MATMULS {
            let [weight, bias] = read(name, &[output, input])?;
            matmuls.push(if name == "fc6" {
                // The weight expects channels before positions, like a convolution over all positions.
                let weight = weight.reshape((output, 512, 1, 4, 4))?;
                convolution(&of_volumes(&weight)?, &bias, [1; 3], Padding::NONE, true)?
            } else {
                dense(&weight, &bias, name != "fc8")?
            });
        }
        let mean = expect_tensor(source, MEAN, &MEAN_SHAPE)?.permute((1, 2, 3, 0))?.contiguous()?;
        Ok(Self { identity, preparation, mean, convolutions, matmuls })
    }

    /// Logits `[n, 101]` of `x` `[n, 16, 112, 112, 3]`, channels red, green, blue, from 0 to 255.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let swapped = x.index_select(&Tensor::new(&[2u32, 1, 0], &Device::Cpu)?, 4)?;
        let tape = Tape::inference();
        let mut x = tape.constant(swapped.broadcast_sub(&self.mean)?);
        for (convolution, (name, .., halved)) in self.convolutions.iter().zip(CONVOLUTIONS) {
            x = conv3d(&tape, &x, convolution)?;
            if halved {
                // The first pool does not pool over frames; the last reaches over the border of its 7 rows and columns.
                let frames = if name == "conv1a" { 1 } else { 2 };
                let behind = usize::from(name == "conv5b");
                let padding = Padding::Around([[0, 0], [0, behind], [0, behind]]);
                let size = [frames, 2, 2];
                x = pool3d(&tape, &x, Pool::Max, Window { size, stride: size, padding })?;
            }
        }
        for matmul in &self.matmuls {
            x = conv3d(&tape, &x, matmul)?;
        }
        Ok(x.to_host()?.flatten_from(1)?)
    }
}

impl Detector for C3d {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn feature_layers(&self) -> &'static [FeatureLayer] {
        FEATURE_LAYERS
    }

    fn min_frames(&self) -> usize {
        FRAMES
    }

    fn features(&self, clips: Clips<'_>, layers: &[FeatureLayer]) -> Result<Vec<Tensor>> {
        clips.check(&self.identity.kind, FRAMES..=FRAMES)?;
        in_groups(self, clips, layers, TOGETHER, |clips| {
            let logits = self.forward(&self.preparation.apply(clips, SIDE)?)?;
            Ok(vec![logits; layers.len()])
        })
    }
}
