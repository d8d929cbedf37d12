//! One transformer block, in each of the four layouts.
//!
//! Tokens are `[b, f + images, n, d]` throughout; only attention depends on the axis.

use latte_ops::{AttentionAxis, Parameters, Rope, Tape, Var, add, concat, narrow, pad};

use super::Sizes;
use super::config::{BlockLayout, Injection, LatteConfig};
use crate::Result;
use crate::layers::{Init, Linear, Mlp, Modulation, Norm, ParamScope, SelfAttention, ShiftScaleGate};

/// The ε of the norms, in every layout.
pub(super) const NORM_EPS: f64 = 1e-6;

/// The axis or axes of a block's attention.
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

/// The layers of one block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    kind: BlockKind,
    attention: SelfAttention,
    norm1: Norm,
    /// Temporal attention, in a block that has both.
    temporal: Option<(SelfAttention, Norm)>,
    mlp: Mlp,
    norm2: Norm,
    /// `None` if norms have their own weights.
    modulation: Option<Modulation>,
}

/// The arguments that the blocks of one pass share, and this block's positions.
pub(super) struct Run<'p> {
    pub(super) weights: &'p Parameters,
    pub(super) sizes: Sizes,
    /// Temporal positions `[f + images, 1, d]`, if this block adds them.
    pub(super) positions: Option<Var>,
    pub(super) rope: Option<Rope>,
}

/// The modulations of attention and MLP; `None` if norms have their own weights.
type Modulations<'m> = Option<&'m [ShiftScaleGate; 2]>;

impl Block {
    /// Block `index`, in the scope of all blocks.
    pub(super) fn new(scope: &ParamScope<'_>, config: &LatteConfig, index: usize) -> Self {
        let (scope, d) = (scope.within(index), config.hidden_size);
        let kind = BlockKind::of(config, index);
        let self_attention = |name: &str| {
            let scope = scope.within(name);
            let qkv = Linear::new(&scope, "qkv", [3 * d, d], Init::Xavier);
            SelfAttention { qkv, out: Linear::new(&scope, "proj", [d, d], Init::Xavier), num_heads: config.num_heads }
        };
        let attention = self_attention("attn");
        let temporal = (kind == BlockKind::Factorised).then(|| self_attention("attn_temp"));
        let mlp = Mlp::new(&scope.within("mlp"), ["fc1", "fc2"], [d, config.mlp_size(), d], Init::Xavier);
        let modulation =
            (config.injection == Injection::SAdaln).then(|| Modulation::projection(&scope, "adaLN_modulation.1", [6, d]));
        let norm = |name: &str| match modulation {
            Some(_) => Norm::modulated(NORM_EPS),
            None => Norm::affine(&scope, name, d, NORM_EPS),
        };
        let (norm1, norm2) = (norm("norm1"), norm("norm2"));
        let temporal = temporal.map(|attention| (attention, norm("norm_temp")));
        Self { kind, attention, norm1, temporal, mlp, norm2, modulation }
    }

    /// Runs the block on `x` `[b, f + images, n, d]`. `clips` are the adaLN vectors of clips; `frames` are those of frames, if
    /// images have their own labels.
    pub(super) fn run(&self, tape: &Tape<'_>, run: &Run<'_>, x: &Var, clips: Option<&Var>, frames: Option<&Var>) -> Result<Var> {
        // The vectors already went through SiLU.
        let modulations = |vectors: Option<&Var>| match (&self.modulation, vectors) {
            (Some(modulation), Some(vectors)) => modulation.for_block(tape, run.weights, vectors).map(Some),
            _ => Ok(None),
        };
        // Each is computed once, and only if the block has layers for it.
        let own_frames = if self.kind == BlockKind::Temporal { None } else { modulations(frames)? };
        let needs_clips = own_frames.is_none() || self.kind == BlockKind::Factorised;
        let clips = if needs_clips { modulations(clips)? } else { None };
        let frames = own_frames.as_ref().or(clips.as_ref());
        let clips = clips.as_ref();
        let (spatial, temporal) = (AttentionAxis::Spatial, AttentionAxis::Temporal);
        let attend = |layers: (&SelfAttention, &Norm), x: &Var, modulations: Modulations<'_>, axis: AttentionAxis| {
            let (attention, norm) = layers;
            let (y, gate) = normed(norm, tape, run, x, modulations.map(|[attention, _]| attention))?;
            attention.onto(tape, run.weights, &y, x, gate, axis, run.rope.as_ref())
        };
        let own = (&self.attention, &self.norm1);
        match self.kind {
            BlockKind::Spatial => {
                let x = attend(own, x, frames, spatial)?;
                self.mlp(tape, run, &x, frames)
            }
            BlockKind::Temporal => {
                let x = run.add_positions(tape, x)?;
                run.on_clip(tape, &x, |x| {
                    let x = attend(own, x, clips, temporal)?;
                    self.mlp(tape, run, &x, clips)
                })
            }
            BlockKind::Factorised => {
                let x = attend(own, x, frames, spatial)?;
                let x = run.add_positions(tape, &x)?;
                let across = self.temporal.as_ref().map_or(own, |(attention, norm)| (attention, norm));
                let x = run.on_clip(tape, &x, |x| attend(across, x, clips, temporal))?;
                self.mlp(tape, run, &x, frames)
            }
            BlockKind::Split => {
                let x = run.add_positions(tape, x)?;
                let x = self.split_attention(tape, run, &x, frames)?;
                self.mlp(tape, run, &x, frames)
            }
        }
    }

    /// Half of the heads attend within frames, half across them. The temporal half is 0 for images, which have no time axis.
    fn split_attention(&self, tape: &Tape<'_>, run: &Run<'_>, x: &Var, modulations: Modulations<'_>) -> Result<Var> {
        let (attention, rope) = (&self.attention, run.rope.as_ref());
        let (heads, Sizes { f, images, .. }) = (attention.num_heads, run.sizes);
        let (y, gate) = normed(&self.norm1, tape, run, x, modulations.map(|[attention, _]| attention))?;
        let qkv = attention.queries_keys_values(tape, run.weights, &y, rope)?; // [b, f + images, n, 3·d]
        let spatial = attention.attend(tape, &qkv, AttentionAxis::Spatial, 0..heads / 2, rope)?; // [b, f + images, n, d/2]
        let clip = if images == 0 { qkv } else { narrow(tape, &qkv, 1, 0, f)? };
        let mut temporal = attention.attend(tape, &clip, AttentionAxis::Temporal, heads / 2..heads, rope)?; // [b, f, n, d/2]
        if images > 0 {
            temporal = pad(tape, &temporal, 1, [0, images])?;
        }
        let y = concat(tape, &[&spatial, &temporal], 3)?; // [b, f + images, n, d]
        attention.out.onto(tape, run.weights, &y, x, gate)
    }

    fn mlp(&self, tape: &Tape<'_>, run: &Run<'_>, x: &Var, modulations: Modulations<'_>) -> Result<Var> {
        let (y, gate) = normed(&self.norm2, tape, run, x, modulations.map(|[_, mlp]| mlp))?;
        self.mlp.onto(tape, run.weights, &y, x, gate)
    }
}

/// `norm` of `x`, and the gate of the following residual connection.
fn normed<'m>(
    norm: &Norm,
    tape: &Tape<'_>,
    run: &Run<'_>,
    x: &Var,
    modulation: Option<&'m ShiftScaleGate>,
) -> Result<(Var, Option<&'m Var>)> {
    let y = norm.forward(tape, run.weights, x, modulation.map(ShiftScaleGate::shift_scale))?;
    Ok((y, modulation.map(|m| &m.gate)))
}

impl Run<'_> {
    fn add_positions(&self, tape: &Tape<'_>, x: &Var) -> Result<Var> {
        Ok(match &self.positions {
            Some(positions) => add(tape, x, positions)?,
            None => x.clone(),
        })
    }

    /// Applies `f` to the clip's frames only; images are unchanged.
    fn on_clip(&self, tape: &Tape<'_>, x: &Var, f: impl FnOnce(&Var) -> Result<Var>) -> Result<Var> {
        let Sizes { f: frames, images, .. } = self.sizes;
        if images == 0 {
            return f(x);
        }
        let clip = f(&narrow(tape, x, 1, 0, frames)?)?;
        Ok(concat(tape, &[&clip, &narrow(tape, x, 1, frames, images)?], 1)?)
    }
}
