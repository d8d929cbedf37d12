//! Embeds latent frames as tokens, and adds their positions.

use candle_core::Tensor;
use latte_ops::{Parameters, Tape, Var, add, pad, reshape};

use super::config::{LatteConfig, PatchEmbedding, TemporalPosition};
use super::{Input, Sizes, position};
use crate::Result;
use crate::layers::{Init, Param, ParamScope, Patches, constant};

/// The embedding layers.
#[derive(Debug, Clone)]
pub(super) struct Embedding {
    spatial: Param,
    /// `None` with rotary positions.
    temporal: Option<Param>,
    patches: Patches,
}

impl Embedding {
    pub(super) fn new(scope: &ParamScope<'_>, config: &LatteConfig) -> Self {
        let LatteConfig { in_channels: c, patch_size: p, hidden_size: d, input_size: [h, w], .. } = *config;
        let grid = [h / p, w / p];
        let spatial = scope.param("pos_embed", &[1, grid[0] * grid[1], d], Init::SpatialPositions { grid });
        let temporal = (config.temporal_position == TemporalPosition::Absolute).then(|| {
            let frames = config.num_frames / config.frames_per_token();
            scope.param("temp_embed", &[1, frames, d], Init::TemporalPositions)
        });
        let name = "x_embedder.proj";
        let patches = match config.patch_embedding {
            PatchEmbedding::UniformFrame => Patches::of_frames(scope, name, [d, c, p], Init::Xavier),
            PatchEmbedding::CompressionFrame { tubelet } => Patches::of_tubelets(scope, name, [d, c, tubelet, p], Init::Xavier),
        };
        Self { spatial, temporal, patches }
    }

    /// Tokens with their spatial positions, `[b, f + images, n, d]`.
    pub(super) fn tokens(
        &self,
        config: &LatteConfig,
        tape: &Tape<'_>,
        weights: &Parameters,
        input: &Input<'_>,
        sizes: &Sizes,
    ) -> Result<Var> {
        let tokens = self.patches.forward(tape, weights, &with_still_images(config, input, sizes)?)?;
        Ok(add(tape, &tokens, &self.spatial_positions(config, tape, weights, sizes)?)?)
    }

    /// `[n, d]`: the stored positions if they fit this grid, else computed ones.
    fn spatial_positions(&self, config: &LatteConfig, tape: &Tape<'_>, weights: &Parameters, sizes: &Sizes) -> Result<Var> {
        let ([rows, columns], p, d) = (sizes.grid, config.patch_size, config.hidden_size);
        let [h, w] = config.input_size;
        if [rows, columns] == [h / p, w / p]
            && let Some(stored) = self.spatial.stored(weights)
            && stored.dims() == [1, rows * columns, d]
        {
            return Ok(reshape(tape, &tape.constant(stored), &[rows * columns, d])?);
        }
        constant(tape, weights, &position::spatial(rows, columns, d)?)
    }

    /// `[f + images, 1, d]`: the temporal positions that are added to the tokens of each frame, 0 for images; `None` with rotary
    /// positions.
    pub(super) fn temporal_positions(
        &self,
        config: &LatteConfig,
        tape: &Tape<'_>,
        weights: &Parameters,
        sizes: &Sizes,
    ) -> Result<Option<Var>> {
        let (Some(temporal), d) = (&self.temporal, config.hidden_size) else { return Ok(None) };
        let positions = match temporal.stored(weights) {
            Some(stored) if stored.dims() == [1, sizes.f, d] => reshape(tape, &tape.constant(stored), &[sizes.f, d])?,
            _ => constant(tape, weights, &position::temporal(sizes.f, d)?)?,
        };
        let positions = if sizes.images > 0 { pad(tape, &positions, 0, [0, sizes.images])? } else { positions };
        Ok(Some(reshape(tape, &positions, &[sizes.frames(), 1, d])?))
    }
}

/// The latents of clips and images, `[b, (f + images)·s, c, h, w]`: each image is repeated to fill a tubelet.
fn with_still_images(config: &LatteConfig, input: &Input<'_>, sizes: &Sizes) -> Result<Tensor> {
    let (p, s, c) = (config.patch_size, config.frames_per_token(), config.in_channels);
    let Sizes { b, f, images, grid: [rows, columns] } = *sizes;
    if images == 0 || s == 1 {
        return Ok(input.x.clone());
    }
    let (h, w) = (rows * p, columns * p);
    let still = input.x.narrow(1, f * s, images)?.unsqueeze(2)?.broadcast_as((b, images, s, c, h, w))?;
    Ok(Tensor::cat(&[input.x.narrow(1, 0, f * s)?, still.reshape((b, images * s, c, h, w))?], 1)?)
}
