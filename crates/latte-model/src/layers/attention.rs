//! Attention with its linear layers, and the choice of heads and axis.

use std::ops::Range;

use latte_ops::{Attention, AttentionAxis, Parameters, Rope, Tape, Var, attention, cross_attention};

use super::Linear;
use crate::{Result, host};

/// Self-attention.
#[derive(Debug, Clone)]
pub(crate) struct SelfAttention {
    /// Queries, keys and values as one layer.
    pub(crate) qkv: Linear,
    pub(crate) out: Linear,
    pub(crate) num_heads: usize,
}

impl SelfAttention {
    /// `residual + gate · attention(x)`, as [`Linear::onto`]; all `[b, f, n, d]`.
    #[expect(clippy::too_many_arguments, reason = "what is read, what is added to it, and how")]
    pub(crate) fn onto(
        &self,
        tape: &Tape<'_>,
        weights: &Parameters,
        x: &Var,
        residual: &Var,
        gate: Option<&Var>,
        axis: AttentionAxis,
        rope: Option<&Rope>,
    ) -> Result<Var> {
        let qkv = self.queries_keys_values(tape, weights, x, rope)?; // [b, f, n, 3·d]
        let y = self.attend(tape, &qkv, axis, 0..self.num_heads, rope)?; // [b, f, n, d]
        self.out.onto(tape, weights, &y, residual, gate)
    }

    /// The packed input of attention: `[b, f, n, 3·d]`. With rotary positions it stays f32, because queries and keys are rotated
    /// before matmuls round them.
    pub(crate) fn queries_keys_values(&self, tape: &Tape<'_>, weights: &Parameters, x: &Var, rope: Option<&Rope>) -> Result<Var> {
        if rope.is_some() { self.qkv.forward(tape, weights, x) } else { self.qkv.low_precision(tape, weights, x) }
    }

    /// The output of `heads` for `qkv` `[b, f, n, 3·d]`, concatenated. Only temporal attention has rotary positions.
    pub(crate) fn attend(
        &self,
        tape: &Tape<'_>,
        qkv: &Var,
        axis: AttentionAxis,
        heads: Range<usize>,
        rope: Option<&Rope>,
    ) -> Result<Var> {
        let rope = rope.filter(|_| axis == AttentionAxis::Temporal);
        Ok(attention(tape, qkv, &Attention { axis, num_heads: self.num_heads, heads, rope })?)
    }
}

/// Cross-attention to a text.
#[derive(Debug, Clone)]
pub(crate) struct CrossAttention {
    pub(crate) q: Linear,
    /// Keys and values as one layer.
    pub(crate) kv: Linear,
    pub(crate) out: Linear,
    pub(crate) num_heads: usize,
}

impl CrossAttention {
    /// Keys and values of a text `[b, l, d]`: `[b, l, 2·d]`.
    pub(crate) fn keys_and_values(&self, tape: &Tape<'_>, weights: &Parameters, text: &Var) -> Result<Var> {
        self.kv.low_precision(tape, weights, text)
    }

    /// `x + attention(x)` for `x` `[b, f, n, d]`; `bias` `[b, l]` is added to the scores. Every frame attends to the same text, so
    /// all tokens of a clip are queries to one set of keys.
    pub(crate) fn onto(
        &self,
        tape: &Tape<'_>,
        weights: &Parameters,
        x: &Var,
        keys_and_values: &Var,
        bias: Option<&Var>,
    ) -> Result<Var> {
        let q = self.q.low_precision(tape, weights, x)?; // [b, f, n, d]
        let y = cross_attention(tape, &q, keys_and_values, self.num_heads, bias)?;
        // A gate of 1 lets the matmul add the residual, which saves one pass over all values.
        let open = host::full(1.0, (x.dims()[0], x.dims()[x.dims().len() - 1]))?;
        self.out.onto(tape, weights, &y, x, Some(&tape.from_host(&open, x.value())?))
    }
}
