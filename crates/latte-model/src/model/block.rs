//! One transformer block, in each of the four layouts.
//!
//! Tokens stay `[b, f + images, n, d]` throughout: only attention cares along which axis it runs.

use std::ops::Range;

use latte_ops::{
    Attention, AttentionAxis, Rope, Tape, Var, add, attention, concat, layer_norm, linear_gated, linear_gelu,
    modulated_layer_norm, narrow, pad,
};

use super::config::{BlockLayout, LatteConfig};
use super::{Sizes, Weights};
use crate::Result;

/// Of norms, in every layout.
pub(super) const NORM_EPS: f64 = 1e-6;

/// What a block attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Spatial,
    Temporal,
    Factorised,
    Split,
}

impl BlockKind {
    /// The kind of block `index`.
    pub(super) fn of(config: &LatteConfig, index: usize) -> Self {
        match config.block_layout {
            BlockLayout::Interleaved if index.is_multiple_of(2) => Self::Spatial,
            BlockLayout::LateFusion if index < config.depth / 2 => Self::Spatial,
            BlockLayout::Interleaved | BlockLayout::LateFusion => Self::Temporal,
            BlockLayout::FactorisedAttention => Self::Factorised,
            BlockLayout::SplitHeads => Self::Split,
        }
    }

    /// The first block with temporal attention.
    pub(super) fn first_temporal(config: &LatteConfig) -> usize {
        match config.block_layout {
            BlockLayout::Interleaved => 1,
            BlockLayout::LateFusion => config.depth / 2,
            BlockLayout::FactorisedAttention | BlockLayout::SplitHeads => 0,
        }
    }
}

/// One block, with all that it needs but its input.
pub(super) struct Block<'p> {
    pub(super) config: &'p LatteConfig,
    pub(super) weights: Weights<'p>,
    pub(super) index: usize,
    pub(super) kind: BlockKind,
    pub(super) sizes: Sizes,
    /// Temporal positions `[f + images, 1, d]`, if this block is to add them.
    pub(super) positions: Option<Var>,
    pub(super) rope: Option<Rope>,
}

/// Shift, scale and gate of one layer, each `[g, d]`.
struct Modulation {
    shift: Var,
    scale: Var,
    gate: Var,
}

/// The modulations of attention and MLP; `None` where norms have their own weights.
type Modulations<'m> = Option<&'m [Modulation; 2]>;

impl Block<'_> {
    /// Runs the block on `x` `[b, f + images, n, d]`. `clips` are the vectors of clips for adaLN, `frames` those of frames
    /// where images have labels of their own.
    pub(super) fn run(&self, tape: &Tape<'_>, x: &Var, clips: Option<&Var>, frames: Option<&Var>) -> Result<Var> {
        let modulations = |vectors: Option<&Var>| vectors.map(|v| self.modulations(tape, v)).transpose();
        // Each is worked out once, and only if the block has layers for it.
        let own_frames = if self.kind == BlockKind::Temporal { None } else { modulations(frames)? };
        let needs_clips = own_frames.is_none() || self.kind == BlockKind::Factorised;
        let clips = if needs_clips { modulations(clips)? } else { None };
        let frames = own_frames.as_ref().or(clips.as_ref());
        let clips = clips.as_ref();
        match self.kind {
            BlockKind::Spatial => {
                let x = self.spatial_attention(tape, x, frames)?;
                self.mlp(tape, &x, frames)
            }
            BlockKind::Temporal => {
                let x = self.add_positions(tape, x)?;
                self.on_clip(tape, &x, |x| {
                    let x = self.temporal_attention(tape, x, clips, "attn", "norm1")?;
                    self.mlp(tape, &x, clips)
                })
            }
            BlockKind::Factorised => {
                let x = self.spatial_attention(tape, x, frames)?;
                let x = self.add_positions(tape, &x)?;
                let x = self.on_clip(tape, &x, |x| self.temporal_attention(tape, x, clips, "attn_temp", "norm_temp"))?;
                self.mlp(tape, &x, frames)
            }
            BlockKind::Split => {
                let x = self.add_positions(tape, x)?;
                let x = self.split_attention(tape, &x, frames)?;
                self.mlp(tape, &x, frames)
            }
        }
    }

    fn name(&self, part: &str) -> String {
        format!("blocks.{}.{part}", self.index)
    }

    /// Shift, scale, gate of attention, then of the MLP, from a vector that SiLU has been applied to.
    fn modulations(&self, tape: &Tape<'_>, vectors: &Var) -> Result<[Modulation; 2]> {
        let d = self.config.hidden_size;
        let all = self.weights.linear(tape, &self.name("adaLN_modulation.1"), vectors)?; // [g, 6·d]
        let chunk = |i: usize| narrow(tape, &all, 1, i * d, d);
        let three =
            |i: usize| -> Result<Modulation> { Ok(Modulation { shift: chunk(i)?, scale: chunk(i + 1)?, gate: chunk(i + 2)? }) };
        Ok([three(0)?, three(3)?])
    }

    fn norm(&self, tape: &Tape<'_>, x: &Var, modulation: Option<&Modulation>, name: &str) -> Result<Var> {
        Ok(match modulation {
            Some(m) => modulated_layer_norm(tape, x, &m.shift, &m.scale, NORM_EPS)?,
            None => {
                let weight = self.weights.get(tape, &self.name(&format!("{name}.weight")))?;
                let bias = self.weights.get(tape, &self.name(&format!("{name}.bias")))?;
                layer_norm(tape, x, &weight, &bias, NORM_EPS)?
            }
        })
    }

    /// `x` and the output of the layer `name` for `y`, gated where there is a modulation.
    fn residual(&self, tape: &Tape<'_>, x: &Var, modulation: Option<&Modulation>, name: &str, y: &Var) -> Result<Var> {
        Ok(match modulation {
            Some(m) => {
                let weight = self.weights.get(tape, &self.name(&format!("{name}.weight")))?;
                let bias = self.weights.get(tape, &self.name(&format!("{name}.bias")))?;
                linear_gated(tape, y, &weight, Some(&bias), x, &m.gate)?
            }
            None => add(tape, x, &self.weights.linear(tape, &self.name(name), y)?)?,
        })
    }

    fn add_positions(&self, tape: &Tape<'_>, x: &Var) -> Result<Var> {
        Ok(match &self.positions {
            Some(positions) => add(tape, x, positions)?,
            None => x.clone(),
        })
    }

    /// Runs `f` on the clip's frames; images go past it.
    fn on_clip(&self, tape: &Tape<'_>, x: &Var, f: impl FnOnce(&Var) -> Result<Var>) -> Result<Var> {
        let Sizes { f: frames, images, .. } = self.sizes;
        if images == 0 {
            return f(x);
        }
        let clip = f(&narrow(tape, x, 1, 0, frames)?)?;
        Ok(concat(tape, &[&clip, &narrow(tape, x, 1, frames, images)?], 1)?)
    }

    fn heads(&self, axis: AttentionAxis, heads: Range<usize>) -> Attention<'_> {
        let rope = if axis == AttentionAxis::Temporal { self.rope.as_ref() } else { None };
        Attention { axis, num_heads: self.config.num_heads, heads, rope }
    }

    fn spatial_attention(&self, tape: &Tape<'_>, x: &Var, modulations: Modulations<'_>) -> Result<Var> {
        self.attention(tape, x, modulations, "attn", "norm1", AttentionAxis::Spatial)
    }

    fn temporal_attention(&self, tape: &Tape<'_>, x: &Var, modulations: Modulations<'_>, name: &str, norm: &str) -> Result<Var> {
        self.attention(tape, x, modulations, name, norm, AttentionAxis::Temporal)
    }

    fn attention(
        &self,
        tape: &Tape<'_>,
        x: &Var,
        modulations: Modulations<'_>,
        name: &str,
        norm: &str,
        axis: AttentionAxis,
    ) -> Result<Var> {
        let modulation = modulations.map(|[attention, _]| attention);
        let y = self.norm(tape, x, modulation, norm)?;
        let qkv = self.queries_keys_values(tape, name, &y)?; // [b, f, n, 3·d]
        let y = attention(tape, &qkv, &self.heads(axis, 0..self.config.num_heads))?; // [b, f, n, d]
        self.residual(tape, x, modulation, &format!("{name}.proj"), &y)
    }

    /// What attention reads, packed. Rotary positions turn queries and keys before matmuls round them.
    fn queries_keys_values(&self, tape: &Tape<'_>, name: &str, y: &Var) -> Result<Var> {
        let layer = self.name(&format!("{name}.qkv"));
        if self.rope.is_some() {
            return self.weights.linear(tape, &layer, y);
        }
        self.weights.linear_low_precision(tape, &layer, y)
    }

    /// Half of the heads within frames, half across them. The temporal half of images is 0: they have no time.
    fn split_attention(&self, tape: &Tape<'_>, x: &Var, modulations: Modulations<'_>) -> Result<Var> {
        let modulation = modulations.map(|[attention, _]| attention);
        let (heads, Sizes { f, images, .. }) = (self.config.num_heads, self.sizes);
        let y = self.norm(tape, x, modulation, "norm1")?;
        let qkv = self.queries_keys_values(tape, "attn", &y)?; // [b, f + images, n, 3·d]
        let spatial = attention(tape, &qkv, &self.heads(AttentionAxis::Spatial, 0..heads / 2))?; // [b, f + images, n, d/2]
        let clip = if images == 0 { qkv } else { narrow(tape, &qkv, 1, 0, f)? };
        let mut temporal = attention(tape, &clip, &self.heads(AttentionAxis::Temporal, heads / 2..heads))?; // [b, f, n, d/2]
        if images > 0 {
            temporal = pad(tape, &temporal, 1, [0, images])?;
        }
        let y = concat(tape, &[&spatial, &temporal], 3)?; // [b, f + images, n, d]
        self.residual(tape, x, modulation, "attn.proj", &y)
    }

    fn mlp(&self, tape: &Tape<'_>, x: &Var, modulations: Modulations<'_>) -> Result<Var> {
        let modulation = modulations.map(|[_, mlp]| mlp);
        let y = self.norm(tape, x, modulation, "norm2")?;
        let weight = self.weights.get(tape, &self.name("mlp.fc1.weight"))?;
        let bias = self.weights.get(tape, &self.name("mlp.fc1.bias"))?;
        let y = linear_gelu(tape, &y, &weight, Some(&bias))?; // [b, f, n, mlp]
        self.residual(tape, x, modulation, "mlp.fc2", &y)
    }
}
