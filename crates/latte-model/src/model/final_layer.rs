//! Projects tokens back to latent frames.

use latte_ops::{Parameters, Tape, Var, add, concat, linear, mean_axis, narrow, permute, reshape};

use super::Sizes;
use super::block::NORM_EPS;
use super::condition::Conditions;
use super::config::{Injection, LatteConfig, PatchEmbedding};
use crate::Result;
use crate::layers::{Init, Linear, Modulation, Norm, Param, ParamScope, unpatchify};

/// Norm, projection and, for tubelets, upsampling over time.
#[derive(Debug, Clone)]
pub(super) struct FinalLayer {
    norm: Norm,
    /// `None` if the norm has its own weights.
    modulation: Option<Modulation>,
    projection: Linear,
    upsample: Option<Upsample>,
}

/// The transposed convolution over time with kernel and stride `s`: each token frame becomes `s` frames.
#[derive(Debug, Clone)]
struct Upsample {
    /// `[in, out, s, 1, 1]`.
    weight: Param,
    bias: Param,
    s: usize,
}

impl FinalLayer {
    pub(super) fn new(scope: &ParamScope<'_>, config: &LatteConfig) -> Self {
        let (d, p, out) = (config.hidden_size, config.patch_size, config.out_channels());
        let scope = scope.within("final_layer");
        let projection = Linear::new(&scope, "linear", [p * p * out, d], Init::Zeros);
        let (norm, modulation) = match config.injection {
            Injection::SAdaln => (Norm::modulated(NORM_EPS), Some(Modulation::projection(&scope, "adaLN_modulation.1", [2, d]))),
            Injection::AllTokens => (Norm::affine(&scope, "norm_final", d, NORM_EPS), None),
        };
        let upsample = match config.patch_embedding {
            PatchEmbedding::UniformFrame => None,
            PatchEmbedding::CompressionFrame { tubelet: s } => Some(Upsample {
                weight: scope.param("temporal_upsample.weight", &[out, out, s, 1, 1], Init::Xavier),
                bias: scope.param("temporal_upsample.bias", &[out], Init::Zeros),
                s,
            }),
        };
        Self { norm, modulation, projection, upsample }
    }

    /// `[b, f + images, n, d]` to `[b, frames, out, h, w]`.
    pub(super) fn forward(
        &self,
        config: &LatteConfig,
        tape: &Tape<'_>,
        weights: &Parameters,
        x: &Var,
        conditions: &Conditions,
        sizes: &Sizes,
    ) -> Result<Var> {
        let y = match (&self.modulation, conditions.frames.as_ref().or(conditions.clips.as_ref())) {
            (Some(modulation), Some(vectors)) => {
                let [shift, scale] = modulation.for_norm(tape, weights, vectors)?; // [g, d]
                self.norm.forward(tape, weights, x, Some([&shift, &scale]))?
            }
            // The condition's tokens are dropped.
            _ => self.norm.forward(tape, weights, &narrow(tape, x, 2, 0, sizes.n())?, None)?,
        };
        let y = self.projection.forward(tape, weights, &y)?; // [b, f + images, n, p·p·out]
        let (p, out) = (config.patch_size, config.out_channels());
        let y = match &self.upsample {
            None => y,
            Some(upsample) => upsample.forward(tape, weights, &y, [p, out], sizes)?,
        };
        unpatchify(tape, &y, sizes.grid, [p, out])
    }
}

impl Upsample {
    /// `[b, f + images, n, p·p·out]` to `[b, f·s + images, n, p·p·out]`.
    fn forward(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var, [p, c]: [usize; 2], sizes: &Sizes) -> Result<Var> {
        let (s, pixels) = (self.s, p.pow(2));
        let Sizes { b, f, images, .. } = *sizes;
        let (frames, n) = (sizes.frames(), sizes.n());
        // [in, out, s, 1, 1] as the matrix [s·out, in].
        let weight = self.weight.on(tape, weights)?;
        let weight = permute(tape, &reshape(tape, &weight, &[c, c, s])?, &[2, 1, 0])?;
        let weight = reshape(tape, &weight, &[s * c, c])?;
        let x = reshape(tape, x, &[b, frames, n * pixels, c])?;
        let x = linear(tape, &x, &weight, None)?;
        let x = reshape(tape, &x, &[b, frames, n * pixels, s, c])?;
        let x = add(tape, &x, &self.bias.on(tape, weights)?)?;
        let x = permute(tape, &x, &[0, 1, 3, 2, 4])?; // [b, frames, s, n·p·p, out]
        let clip = reshape(tape, &narrow(tape, &x, 1, 0, f)?, &[b, f * s, n, pixels * c])?;
        if images == 0 {
            return Ok(clip);
        }
        let still = mean_axis(tape, &narrow(tape, &x, 1, f, images)?, 2)?; // [b, images, n·p·p, out]
        Ok(concat(tape, &[&clip, &reshape(tape, &still, &[b, images, n, pixels * c])?], 1)?)
    }
}
