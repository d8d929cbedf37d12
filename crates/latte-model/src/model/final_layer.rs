//! Tokens back to latent frames.

use latte_ops::{Tape, Var, add, concat, layer_norm, linear, mean_axis, modulated_layer_norm, narrow, permute, reshape};

use super::block::NORM_EPS;
use super::condition::Conditions;
use super::config::PatchEmbedding;
use super::{Latte, Sizes, Weights};
use crate::Result;

/// Norm, projection and, for tubelets, up-sampling over time: `[b, f + images, n, d]` to `[b, frames, out, h, w]`.
pub(super) fn run(
    model: &Latte,
    tape: &Tape<'_>,
    weights: Weights<'_>,
    x: &Var,
    conditions: &Conditions,
    sizes: &Sizes,
) -> Result<Var> {
    let (config, n) = (model.config(), sizes.n());
    let d = config.hidden_size;
    let y = match conditions.frames.as_ref().or(conditions.clips.as_ref()) {
        Some(frames) => {
            let both = weights.linear(tape, "final_layer.adaLN_modulation.1", frames)?; // [g, 2·d]
            let (shift, scale) = (narrow(tape, &both, 1, 0, d)?, narrow(tape, &both, 1, d, d)?);
            modulated_layer_norm(tape, x, &shift, &scale, NORM_EPS)?
        }
        None => {
            // The condition's tokens have done their work.
            let tokens = narrow(tape, x, 2, 0, n)?;
            let weight = weights.get(tape, "final_layer.norm_final.weight")?;
            let bias = weights.get(tape, "final_layer.norm_final.bias")?;
            layer_norm(tape, &tokens, &weight, &bias, NORM_EPS)?
        }
    };
    let y = weights.linear(tape, "final_layer.linear", &y)?; // [b, f + images, n, p·p·out]
    let y = match config.patch_embedding {
        PatchEmbedding::UniformFrame => y,
        PatchEmbedding::CompressionFrame { tubelet } => upsample(model, tape, weights, &y, sizes, tubelet)?,
    };
    unpatchify(model, tape, &y, sizes)
}

/// `[b, frames, n, p·p·out]` to `[b, frames, out, h, w]`; a token holds its patch as (row, column, channel).
fn unpatchify(model: &Latte, tape: &Tape<'_>, x: &Var, sizes: &Sizes) -> Result<Var> {
    let (p, c, [rows, columns]) = (model.config().patch_size, model.config().out_channels(), sizes.grid);
    let (b, frames) = (sizes.b, x.dims()[1]);
    let x = reshape(tape, x, &[b * frames, rows, columns, p, p, c])?;
    let x = permute(tape, &x, &[0, 5, 1, 3, 2, 4])?; // [b·frames, c, rows, p, columns, p]
    Ok(reshape(tape, &x, &[b, frames, c, rows * p, columns * p])?)
}

/// The transposed convolution over time with kernel and stride `s`: each token frame becomes `s` frames.
///
/// `[b, f + images, n, p·p·out]` to `[b, f·s + images, n, p·p·out]`.
fn upsample(model: &Latte, tape: &Tape<'_>, weights: Weights<'_>, x: &Var, sizes: &Sizes, s: usize) -> Result<Var> {
    let (c, pixels) = (model.config().out_channels(), model.config().patch_size.pow(2));
    let Sizes { b, f, images, .. } = *sizes;
    let (frames, n) = (sizes.frames(), sizes.n());
    // [in, out, s, 1, 1] as the matrix [s·out, in]
    let weight = weights.get(tape, "final_layer.temporal_upsample.weight")?;
    let weight = permute(tape, &reshape(tape, &weight, &[c, c, s])?, &[2, 1, 0])?;
    let weight = reshape(tape, &weight, &[s * c, c])?;
    let x = reshape(tape, x, &[b, frames, n * pixels, c])?;
    let x = linear(tape, &x, &weight, None)?;
    let x = reshape(tape, &x, &[b, frames, n * pixels, s, c])?;
    let x = add(tape, &x, &weights.get(tape, "final_layer.temporal_upsample.bias")?)?;
    let x = permute(tape, &x, &[0, 1, 3, 2, 4])?; // [b, frames, s, n·p·p, out]
    let clip = reshape(tape, &narrow(tape, &x, 1, 0, f)?, &[b, f * s, n, pixels * c])?;
    if images == 0 {
        return Ok(clip);
    }
    let still = mean_axis(tape, &narrow(tape, &x, 1, f, images)?, 2)?; // [b, images, n·p·p, out]
    Ok(concat(tape, &[&clip, &reshape(tape, &still, &[b, images, n, pixels * c])?], 1)?)
}
