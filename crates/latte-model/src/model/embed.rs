//! Latent frames to tokens.

use candle_core::{Device, Tensor};
use latte_ops::{Tape, Var, add, linear, pad, reshape};

use super::config::{LatteConfig, TemporalPosition};
use super::{Input, Latte, Sizes, Weights, position};
use crate::Result;

/// Tokens with their spatial positions, `[b, f + images, n, d]`.
pub(super) fn tokens(model: &Latte, tape: &Tape<'_>, weights: Weights<'_>, input: &Input<'_>, sizes: &Sizes) -> Result<Var> {
    let config = model.config();
    let d = config.hidden_size;
    let patches = weights.constant(tape, &patches(config, input, sizes)?)?; // [b, f + images, n, c·s·p·p]
    let width = patches.dims()[3];
    let weight = reshape(tape, &weights.get(tape, "x_embedder.proj.weight")?, &[d, width])?;
    let bias = weights.get(tape, "x_embedder.proj.bias")?;
    let tokens = linear(tape, &patches, &weight, Some(&bias))?; // [b, f + images, n, d]
    Ok(add(tape, &tokens, &spatial_positions(config, tape, weights, sizes)?)?)
}

/// The values that each token reads, in the order of the convolution's weight: channel, frame of the tubelet, row, column.
fn patches(config: &LatteConfig, input: &Input<'_>, sizes: &Sizes) -> Result<Tensor> {
    let (p, s, c) = (config.patch_size, config.frames_per_token(), config.in_channels);
    let Sizes { b, f, images, grid: [rows, columns] } = *sizes;
    let mut x = input.x.clone(); // [b, f·s + images, c, h, w]
    if images > 0 && s > 1 {
        // An image is a tubelet that stands still.
        let (h, w) = (rows * p, columns * p);
        let still = x.narrow(1, f * s, images)?.unsqueeze(2)?.broadcast_as((b, images, s, c, h, w))?;
        x = Tensor::cat(&[x.narrow(1, 0, f * s)?, still.reshape((b, images * s, c, h, w))?], 1)?;
    }
    let patches = x
        .reshape(vec![b * sizes.frames(), s, c, rows, p, columns, p])?
        .permute(vec![0, 3, 5, 2, 1, 4, 6])? // [b·(f + images), rows, columns, c, s, p, p]
        .contiguous()?;
    Ok(patches.reshape((b, sizes.frames(), sizes.n(), c * s * p * p))?)
}

/// `[n, d]`: the stored positions if they are of this grid, else computed ones.
fn spatial_positions(config: &LatteConfig, tape: &Tape<'_>, weights: Weights<'_>, sizes: &Sizes) -> Result<Var> {
    let ([rows, columns], p, d) = (sizes.grid, config.patch_size, config.hidden_size);
    let [h, w] = config.input_size;
    if [rows, columns] == [h / p, w / p]
        && let Ok(stored) = weights.0.get("pos_embed")
        && stored.dims() == [1, rows * columns, d]
    {
        return Ok(reshape(tape, &tape.constant(stored), &[rows * columns, d])?);
    }
    weights.constant(tape, &position::spatial(rows, columns, d, &Device::Cpu)?)
}

/// `[f + images, 1, d]`: what is added to the tokens of each frame, 0 for images; `None` with rotary positions.
pub(super) fn temporal_positions(model: &Latte, tape: &Tape<'_>, weights: Weights<'_>, sizes: &Sizes) -> Result<Option<Var>> {
    let d = model.config().hidden_size;
    if model.config().temporal_position == TemporalPosition::Rope {
        return Ok(None);
    }
    let positions = match weights.0.get("temp_embed") {
        Ok(stored) if stored.dims() == [1, sizes.f, d] => reshape(tape, &tape.constant(stored), &[sizes.f, d])?,
        _ => weights.constant(tape, &position::temporal(sizes.f, d, &Device::Cpu)?)?,
    };
    let positions = if sizes.images > 0 { pad(tape, &positions, 0, [0, sizes.images])? } else { positions };
    Ok(Some(reshape(tape, &positions, &[sizes.frames(), 1, d])?))
}
