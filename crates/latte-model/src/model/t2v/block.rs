//! One block of the text-to-video transformer: spatial with text, or temporal.

use candle_core::{DType, Device, Tensor};
use latte_ops::{
    Attention, AttentionAxis, Tape, Var, add, attention, cross_attention, linear_gated, linear_gelu, linear_low_precision,
    modulated_layer_norm, narrow, reshape,
};

use super::config::T2vConfig;
use crate::Result;
use crate::model::Weights;

/// One block, with all that it needs but its input.
#[derive(Debug)]
pub(super) struct Block<'p> {
    pub(super) config: &'p T2vConfig,
    pub(super) weights: Weights<'p>,
    /// The list that the block is in, and its place there: `transformer_blocks.3`.
    pub(super) name: String,
    pub(super) axis: AttentionAxis,
    /// What is added to keys' scores in cross-attention, `[b, l]`.
    pub(super) text_bias: Option<Var>,
}

/// Shift, scale and gate of one layer, each `[b, d]`.
struct Modulation {
    shift: Var,
    scale: Var,
    gate: Var,
}

impl Block<'_> {
    /// Runs the block on `x` `[b, f, n, d]`; `timestep` `[b, 6·d]`; `text` holds keys and values `[b, l, 2·d]` for
    /// cross-attention, if the block has it.
    pub(super) fn run(&self, tape: &Tape<'_>, x: &Var, timestep: &Var, text: Option<&Var>) -> Result<Var> {
        let [attention, mlp] = self.modulations(tape, timestep)?;
        let x = self.self_attention(tape, x, &attention)?;
        let x = match text {
            Some(text) => self.cross_attention(tape, &x, text)?,
            None => x,
        };
        self.mlp(tape, &x, &mlp)
    }

    /// Shift, scale, gate of attention, then of the MLP: the timestep's values plus the block's own.
    fn modulations(&self, tape: &Tape<'_>, timestep: &Var) -> Result<[Modulation; 2]> {
        let d = self.config.hidden_size();
        let table = self.weights.get(tape, &format!("{}.scale_shift_table", self.name))?; // [6, d]
        let all = add(tape, timestep, &reshape(tape, &table, &[1, 6 * d])?)?; // [b, 6·d]
        let chunk = |i: usize| narrow(tape, &all, 1, i * d, d);
        let three =
            |i: usize| -> Result<Modulation> { Ok(Modulation { shift: chunk(i)?, scale: chunk(i + 1)?, gate: chunk(i + 2)? }) };
        Ok([three(0)?, three(3)?])
    }

    fn self_attention(&self, tape: &Tape<'_>, x: &Var, modulation: &Modulation) -> Result<Var> {
        let heads = self.config.num_attention_heads;
        let y = modulated_layer_norm(tape, x, &modulation.shift, &modulation.scale, self.config.norm_eps)?;
        let qkv = self.projection(tape, "attn1.to_qkv", &y)?; // [b, f, n, 3·d]
        let y = attention(tape, &qkv, &Attention { axis: self.axis, num_heads: heads, heads: 0..heads, rope: None })?;
        self.residual(tape, x, &modulation.gate, "attn1.to_out.0", &y)
    }

    /// On the residual stream as it is, without norm and without gate.
    fn cross_attention(&self, tape: &Tape<'_>, x: &Var, text: &Var) -> Result<Var> {
        let q = self.projection(tape, "attn2.to_q", x)?; // [b, f, n, d]
        // Every frame sees the same text, so that all tokens of a clip are queries to one set of keys.
        let y = cross_attention(tape, &q, text, self.config.num_attention_heads, self.text_bias.as_ref())?;
        let open = Tensor::ones((x.dims()[0], self.config.hidden_size()), DType::F32, &Device::Cpu)?;
        self.residual(tape, x, &tape.from_host(&open, x.value())?, "attn2.to_out.0", &y)
    }

    fn mlp(&self, tape: &Tape<'_>, x: &Var, modulation: &Modulation) -> Result<Var> {
        let y = modulated_layer_norm(tape, x, &modulation.shift, &modulation.scale, self.config.norm_eps)?;
        let weight = self.weights.get(tape, &format!("{}.ff.net.0.proj.weight", self.name))?;
        let bias = self.weights.get(tape, &format!("{}.ff.net.0.proj.bias", self.name))?;
        let y = linear_gelu(tape, &y, &weight, Some(&bias))?; // [b, f, n, mlp]
        self.residual(tape, x, &modulation.gate, "ff.net.2", &y)
    }

    /// `x + gate · layer(y)`.
    fn residual(&self, tape: &Tape<'_>, x: &Var, gate: &Var, layer: &str, y: &Var) -> Result<Var> {
        let weight = self.weights.get(tape, &format!("{}.{layer}.weight", self.name))?;
        let bias = self.weights.get(tape, &format!("{}.{layer}.bias", self.name))?;
        Ok(linear_gated(tape, y, &weight, Some(&bias), x, gate)?)
    }

    /// Queries, keys or values: a layer that has a bias or not, as the configuration says.
    fn projection(&self, tape: &Tape<'_>, layer: &str, x: &Var) -> Result<Var> {
        let name = format!("{}.{layer}", self.name);
        if self.config.attention_bias {
            return self.weights.linear_low_precision(tape, &name, x);
        }
        Ok(linear_low_precision(tape, x, &self.weights.get(tape, &format!("{name}.weight"))?, None)?)
    }

    /// Keys and values of a text `[b, l, d]` for cross-attention, `[b, l, 2·d]`.
    pub(super) fn keys_and_values(&self, tape: &Tape<'_>, text: &Var) -> Result<Var> {
        self.projection(tape, "attn2.to_kv", text)
    }
}
