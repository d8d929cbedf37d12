//! The network of an `AutoencoderKL`, for inference and for training.
//!
//! Shape letters: `n` frames, `h w` height and width, `c` channels. Frames are channels last, as the operations require.

use candle_core::Device;
use latte_ops::{Parameters, Precision, Tape, Var};

use super::config::{KlConfig, Sizes};
use super::convolution::Pass;
use super::layers::{Layer, decoder, encoder, whole};
use super::reader::Reader;
use crate::Result;
use crate::layers::{ParameterSpec, ParameterTable};
use crate::noise::TorchRng;
use crate::weights::{TensorSource, all_fit};

/// Encoder and decoder of an `AutoencoderKL`, with the names of diffusers.
///
/// A network from [`new`](Self::new) holds no weights, for training: every call gets them, and the tape of the call decides whether
/// gradients are recorded. [`AutoencoderKl`](super::AutoencoderKl) holds a network whose weights are prepared for inference.
#[derive(Debug, Clone)]
pub struct KlNetwork {
    config: KlConfig,
    pub(super) encoder: Vec<Layer>,
    pub(super) decoder: Vec<Layer>,
    table: ParameterTable,
}

impl KlNetwork {
    /// The network of this configuration.
    ///
    /// # Errors
    ///
    /// If the configuration is impossible.
    pub fn new(config: KlConfig) -> Result<Self> {
        let sizes = config.sizes()?;
        let ((encoder, decoder), table) = Reader::names(|reader| layers(reader, &config, &sizes))?;
        Ok(Self { config, encoder, decoder, table })
    }

    /// The network with weights from `source`, prepared for inference in `precision` on `device`.
    pub(super) fn prepared(config: KlConfig, source: &dyn TensorSource, precision: Precision, device: &Device) -> Result<Self> {
        let sizes = config.sizes()?;
        let ((encoder, decoder), table) =
            Reader::build(source, precision, device, sizes.levels.len(), |reader| layers(reader, &config, &sizes))?;
        Ok(Self { config, encoder, decoder, table })
    }

    /// The configuration.
    pub fn config(&self) -> &KlConfig {
        &self.config
    }

    /// All parameters, sorted by name.
    pub fn parameters(&self) -> &[ParameterSpec] {
        self.table.specs()
    }

    /// Draws initial weights, as PyTorch does: norms have weight 1 and bias 0, everything else is uniform within ±1/√(number of
    /// summed values).
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn init(&self, rng: &mut TorchRng) -> Result<Parameters> {
        self.table.draw(rng)
    }

    /// Checks that `source` holds exactly the weights of this network, with their shapes.
    ///
    /// # Errors
    ///
    /// A message that lists the missing, unknown or wrongly shaped tensors.
    pub fn check(&self, source: &dyn TensorSource) -> std::result::Result<(), String> {
        all_fit("the autoencoder", &self.table.misfits(source, |_| false))
    }

    /// Encodes frames `[n, h, w, 3]` in `[-1, 1]`; gives means and logarithms of variances `[n, h/s, w/s, 2·latent]`.
    ///
    /// # Errors
    ///
    /// If a shape does not fit.
    pub fn encode<'w>(&'w self, tape: &Tape<'w>, weights: &'w Parameters, frames: &Var) -> Result<Var> {
        whole(tape, Pass::of(tape, weights), &self.encoder, frames.clone())
    }

    /// Decodes latents `[n, h/s, w/s, latent]`; gives frames `[n, h, w, 3]`, around `[-1, 1]`.
    ///
    /// # Errors
    ///
    /// If a shape does not fit.
    pub fn decode<'w>(&'w self, tape: &Tape<'w>, weights: &'w Parameters, latents: &Var) -> Result<Var> {
        whole(tape, Pass::of(tape, weights), &self.decoder, latents.clone())
    }
}

fn layers(reader: &Reader<'_>, config: &KlConfig, sizes: &Sizes) -> Result<(Vec<Layer>, Vec<Layer>)> {
    Ok((encoder(reader, sizes, config.use_quant_conv)?, decoder(reader, sizes, config.use_post_quant_conv)?))
}
