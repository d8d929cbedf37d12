//! One block of the text-to-video transformer: spatial with cross-attention to the text, or temporal.

use latte_ops::{AttentionAxis, Parameters, Tape, Var};

use super::config::T2vConfig;
use super::{INIT, TABLE};
use crate::layers::{CrossAttention, Linear, Mlp, Modulation, Norm, ParamScope, SelfAttention};
use crate::{Error, Result};

/// The layers of one block, without its modulation table.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    attention: SelfAttention,
    /// `None` in temporal blocks.
    text: Option<CrossAttention>,
    mlp: Mlp,
    norm: Norm,
}

/// One block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    layers: Layers,
    modulation: Modulation,
}

impl Layers {
    /// The layers of a block; `reads_text` adds cross-attention.
    pub(super) fn new(scope: &ParamScope<'_>, config: &T2vConfig, reads_text: bool) -> Self {
        let (d, num_heads) = (config.hidden_size(), config.num_attention_heads);
        // The configuration decides whether queries, keys and values have a bias.
        let joined = |scope: &ParamScope<'_>, name: &str, parts: &[&str]| {
            Linear::joined(scope, name, parts, [d, d], config.attention_bias, INIT)
        };
        let scope1 = scope.within("attn1");
        let qkv = joined(&scope1, "to_qkv", &["to_q", "to_k", "to_v"]);
        let attention = SelfAttention { qkv, out: Linear::new(&scope1, "to_out.0", [d, d], INIT), num_heads };
        let text = reads_text.then(|| {
            let scope = scope.within("attn2");
            let (q, kv) = (joined(&scope, "to_q", &["to_q"]), joined(&scope, "to_kv", &["to_k", "to_v"]));
            CrossAttention { q, kv, out: Linear::new(&scope, "to_out.0", [d, d], INIT), num_heads }
        });
        let mlp = Mlp::new(&scope.within("ff.net"), ["0.proj", "2"], [d, config.mlp_size(), d], INIT);
        Self { attention, text, mlp, norm: Norm::modulated(config.norm_eps) }
    }

    /// The block with its own modulation table.
    pub(super) fn with_table(self, scope: &ParamScope<'_>, d: usize) -> Block {
        Block { layers: self, modulation: Modulation::table(scope, TABLE, [6, d]) }
    }
}

impl Block {
    /// Runs the block on `x` `[b, f, n, d]`; `timestep` `[b, 6·d]`; `text` holds keys and values `[b, l, 2·d]` for cross-attention,
    /// if the block has it, and the bias of their scores, `[b, l]`.
    pub(super) fn run(
        &self,
        tape: &Tape<'_>,
        weights: &Parameters,
        x: &Var,
        timestep: &Var,
        axis: AttentionAxis,
        text: Option<(&Var, Option<&Var>)>,
    ) -> Result<Var> {
        let Layers { attention, text: reads_text, mlp, norm } = &self.layers;
        let [before_attention, before_mlp] = self.modulation.for_block(tape, weights, timestep)?;
        let y = norm.forward(tape, weights, x, Some(before_attention.shift_scale()))?;
        let mut x = attention.onto(tape, weights, &y, x, Some(&before_attention.gate), axis, None)?;
        if let (Some(layer), Some((keys_and_values, bias))) = (reads_text, text) {
            // Cross-attention reads the residual stream directly, without norm and without gate.
            x = layer.onto(tape, weights, &x, keys_and_values, bias)?;
        }
        let y = norm.forward(tape, weights, &x, Some(before_mlp.shift_scale()))?;
        mlp.onto(tape, weights, &y, &x, Some(&before_mlp.gate))
    }

    /// Keys and values of a text `[b, l, d]` for cross-attention, `[b, l, 2·d]`.
    pub(super) fn keys_and_values(&self, tape: &Tape<'_>, weights: &Parameters, text: &Var) -> Result<Var> {
        let layer = self.layers.text.as_ref().ok_or_else(|| Error::config("block", "expected one that reads the text"))?;
        layer.keys_and_values(tape, weights, text)
    }
}
