//! Latent frames to tokens, and tokens back to frames.

use candle_core::Tensor;
use latte_ops::{Parameters, Tape, Var, permute, reshape};

use super::{Init, Linear, ParamScope, constant};
use crate::Result;

/// Patches of `patch` × `patch` latent positions, of one frame or of `tubelet` frames, as tokens.
#[derive(Debug, Clone)]
pub(crate) struct Patches {
    projection: Linear,
    patch: usize,
    tubelet: usize,
}

impl Patches {
    /// The layer `name` with a kernel `[d, c, p, p]`.
    pub(crate) fn of_frames(scope: &ParamScope<'_>, name: &str, [d, c, p]: [usize; 3], init: Init) -> Self {
        let kernel = [d, c, p, p];
        Self { projection: Linear::over_patches(scope, name, &kernel, &kernel, init), patch: p, tubelet: 1 }
    }

    /// As [`of_frames`](Self::of_frames), with a kernel that is the matrix `[d, c·p·p]` in memory.
    pub(crate) fn flat(scope: &ParamScope<'_>, name: &str, [d, c, p]: [usize; 3], init: Init) -> Self {
        let kept = [d, c * p * p];
        Self { projection: Linear::over_patches(scope, name, &[d, c, p, p], &kept, init), patch: p, tubelet: 1 }
    }

    /// The layer `name` with a kernel `[d, c, tubelet, p, p]`.
    pub(crate) fn of_tubelets(scope: &ParamScope<'_>, name: &str, [d, c, tubelet, p]: [usize; 4], init: Init) -> Self {
        let kernel = [d, c, tubelet, p, p];
        Self { projection: Linear::over_patches(scope, name, &kernel, &kernel, init), patch: p, tubelet }
    }

    /// `[b, f·s, c, h, w]` to tokens `[b, f, n, d]`, with tubelets of `s` frames.
    pub(crate) fn forward(&self, tape: &Tape<'_>, weights: &Parameters, x: &Tensor) -> Result<Var> {
        let (p, s, (b, frames, c, h, w)) = (self.patch, self.tubelet, x.dims5()?);
        let (f, rows, columns) = (frames / s, h / p, w / p);
        let patches = x
            .reshape(vec![b * f, s, c, rows, p, columns, p])?
            .permute(vec![0, 3, 5, 2, 1, 4, 6])? // [b·f, rows, columns, c, s, p, p]
            .contiguous()?
            .reshape((b, f, rows * columns, c * s * p * p))?;
        self.projection.forward(tape, weights, &constant(tape, weights, &patches)?)
    }
}

/// Tokens `[b, f, n, p·p·c]` to frames `[b, f, c, h, w]`; a token holds its patch in the order (row, column, channel).
pub(crate) fn unpatchify(tape: &Tape<'_>, x: &Var, [rows, columns]: [usize; 2], [p, c]: [usize; 2]) -> Result<Var> {
    let [b, f] = [x.dims()[0], x.dims()[1]];
    let x = reshape(tape, x, &[b * f, rows, columns, p, p, c])?;
    let x = permute(tape, &x, &[0, 5, 1, 3, 2, 4])?; // [b·f, c, rows, p, columns, p]
    Ok(reshape(tape, &x, &[b, f, c, rows * p, columns * p])?)
}
