//! The encoder of T5 (Raffel et al. 2020), which encodes prompts: version 1.0 (ReLU) and 1.1 (gated GELU).
//!
//! All arithmetic is f32: in half precision the largest T5 overflows. Weights are loaded layer by layer and freed again, so that
//! the 4.7 GB of T5-XXL need the memory of one layer.

use candle_core::{DType, Device, IndexOp, Tensor};
use latte_ops::{
    Activation, CancelToken, Tape, Var, activation, add, dot_product_attention, embedding, linear, linear_gelu, mul, reshape,
    rms_norm,
};
use latte_progress::{Progress, Stage};
use serde::Deserialize;
use serde_json::Value;

use crate::weights::{TensorSource, all_fit, expect_tensor, expect_tensor_on, misfits};
use crate::{Error, Result};

/// The configuration of a T5 encoder: the keys of `text_encoder/config.json` that it uses.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct T5Config {
    /// Values of a token.
    pub d_model: usize,
    /// Values of a token per head; heads × this may differ from `d_model`.
    pub d_kv: usize,
    /// Values of a token in a layer's MLP.
    pub d_ff: usize,
    /// Layers.
    pub num_layers: usize,
    /// Heads of every attention.
    pub num_heads: usize,
    /// The number of tokens of the vocabulary.
    pub vocab_size: usize,
    /// The number of relative position buckets.
    #[serde(default = "default_buckets")]
    pub relative_attention_num_buckets: usize,
    /// The distance from which on all tokens are in one bucket.
    #[serde(default = "default_distance")]
    pub relative_attention_max_distance: usize,
    /// The ε of all norms.
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f64,
    /// The MLP: `relu`, `gated-gelu` …
    #[serde(default = "default_feed_forward")]
    pub feed_forward_proj: String,
}

fn default_buckets() -> usize {
    32
}

fn default_distance() -> usize {
    128
}

fn default_epsilon() -> f64 {
    1e-6
}

fn default_feed_forward() -> String {
    "relu".into()
}

/// The activation of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inner {
    /// With the tanh approximation.
    Gelu,
    Other(Activation),
}

impl T5Config {
    /// Reads the keys of a `config.json`.
    ///
    /// # Errors
    ///
    /// If they describe no valid encoder.
    pub fn from_json(json: &Value) -> Result<Self> {
        let wrong = |e: serde_json::Error| Error::config("text encoder", format!("is no configuration of a T5 encoder: {e}"));
        let config = Self::deserialize(json).map_err(wrong)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks that the configuration describes a valid encoder.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the first key that is impossible.
    pub fn validate(&self) -> Result<()> {
        const LARGEST: usize = 1 << 24;
        // Every layer has a dozen names: a damaged file must not fill the memory with them.
        const MAX_LAYERS: usize = 1 << 10;
        for (key, value, most) in [
            ("d_model", self.d_model, LARGEST),
            ("d_kv", self.d_kv, LARGEST),
            ("d_ff", self.d_ff, LARGEST),
            ("num_layers", self.num_layers, MAX_LAYERS),
            ("num_heads", self.num_heads, LARGEST),
            ("vocab_size", self.vocab_size, LARGEST),
            ("relative_attention_max_distance", self.relative_attention_max_distance, LARGEST),
        ] {
            if value == 0 || value > most {
                return Err(Error::config(key, format!("expected 1 to {most}, got {value}")));
            }
        }
        let buckets = self.relative_attention_num_buckets;
        if buckets < 4 || !buckets.is_multiple_of(4) || buckets / 4 >= self.relative_attention_max_distance {
            let what = format!("expected a multiple of 4, a quarter of it below the largest distance, got {buckets}");
            return Err(Error::config("relative_attention_num_buckets", what));
        }
        self.feed_forward().map(drop)
    }

    /// The activation, and whether it is gated.
    fn feed_forward(&self) -> Result<(Inner, bool)> {
        Ok(match self.feed_forward_proj.as_str() {
            "relu" => (Inner::Other(Activation::Relu), false),
            "gated-relu" => (Inner::Other(Activation::Relu), true),
            // `gelu` in T5 1.1's configuration means the tanh approximation.
            "gated-gelu" => (Inner::Gelu, true),
            "gelu_new" => (Inner::Gelu, false),
            "gated-silu" => (Inner::Other(Activation::Silu), true),
            other => {
                let what = format!("expected relu, gated-relu, gelu_new, gated-gelu or gated-silu, got `{other}`");
                return Err(Error::config("feed_forward_proj", what));
            }
        })
    }

    /// The names and shapes of the encoder's tensors. The embedding is called `shared.weight`.
    fn parameters(&self) -> Result<Vec<(String, Vec<usize>)>> {
        let inner = self.num_heads * self.d_kv;
        let (_, gated) = self.feed_forward()?;
        let mut all = vec![
            ("shared.weight".to_string(), vec![self.vocab_size, self.d_model]),
            (DISTANCES.to_string(), vec![self.relative_attention_num_buckets, self.num_heads]),
        ];
        for layer in 0..self.num_layers {
            let [attention, mlp] = [0, 1].map(|part| format!("encoder.block.{layer}.layer.{part}"));
            all.push((format!("{attention}.layer_norm.weight"), vec![self.d_model]));
            all.extend(["q", "k", "v"].map(|p| (format!("{attention}.SelfAttention.{p}.weight"), vec![inner, self.d_model])));
            all.push((format!("{attention}.SelfAttention.o.weight"), vec![self.d_model, inner]));
            all.push((format!("{mlp}.layer_norm.weight"), vec![self.d_model]));
            for part in if gated { &["wi_0", "wi_1"][..] } else { &["wi"] } {
                all.push((format!("{mlp}.DenseReluDense.{part}.weight"), vec![self.d_ff, self.d_model]));
            }
            all.push((format!("{mlp}.DenseReluDense.wo.weight"), vec![self.d_model, self.d_ff]));
        }
        all.push(("encoder.final_layer_norm.weight".into(), vec![self.d_model]));
        Ok(all)
    }
}

/// The table of position biases, which all layers share.
const DISTANCES: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";

/// A T5 encoder whose weights are loaded when they are needed.
pub struct T5Encoder<'s> {
    config: T5Config,
    source: &'s dyn TensorSource,
    device: Device,
    cancel: CancelToken,
}

impl std::fmt::Debug for T5Encoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("T5Encoder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<'s> T5Encoder<'s> {
    /// The encoder of `config` with the weights of `source`, under the names of `transformers`. The source may also hold the
    /// decoder.
    ///
    /// # Errors
    ///
    /// If `config` is impossible, or tensors are missing or have a wrong shape: the error lists all of them.
    pub fn new(config: T5Config, source: &'s dyn TensorSource) -> Result<Self> {
        config.validate()?;
        let encoder = Self { config, source, device: Device::Cpu, cancel: CancelToken::new() };
        let stored = |(name, shape): (String, _)| (encoder.stored_name(&name), shape);
        let expected: Vec<(String, Vec<usize>)> = encoder.config.parameters()?.into_iter().map(stored).collect();
        let wrong = misfits(expected.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())), source);
        all_fit("a T5 encoder", &wrong).map_err(|what| Error::config("the text encoder's weights", what))?;
        Ok(encoder)
    }

    /// The same encoder running on `device`, to which the weights are moved layer by layer.
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// Stops between two layers once `cancel` is cancelled.
    #[must_use]
    pub fn with_cancel(self, cancel: &CancelToken) -> Self {
        Self { cancel: cancel.clone(), ..self }
    }

    /// The configuration of the encoder.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// Files hold the token embedding under one of two names, or under both.
    fn stored_name(&self, name: &str) -> String {
        match name {
            "shared.weight" if self.source.shape(name).is_none() => "encoder.embed_tokens.weight".into(),
            _ => name.into(),
        }
    }

    /// Loads a weight to the encoder's device.
    fn weight(&self, tape: &Tape<'_>, name: &str, shape: &[usize]) -> Result<Var> {
        let weight = expect_tensor_on(self.source, &self.stored_name(name), shape, DType::F32, &self.device)?;
        Ok(tape.constant(weight))
    }

    /// Encodes texts of the same length.
    ///
    /// # Shapes
    ///
    /// `ids` is `b` texts of `l` tokens; `mask` the same, 1 for tokens and 0 for padding; gives `[b, l, d_model]`, on the CPU.
    ///
    /// # Errors
    ///
    /// If the texts differ in length, a token is not in the vocabulary, or weights cannot be read.
    pub fn forward(&self, ids: &[Vec<u32>], mask: &[Vec<u32>], progress: &mut dyn Progress) -> Result<Tensor> {
        let (b, l) = (ids.len(), ids.first().map_or(0, Vec::len));
        if l == 0 || ids.iter().chain(mask).any(|text| text.len() != l) || mask.len() != b {
            return Err(Error::config("ids", "expected texts of one length, at least one token each, and as many masks"));
        }
        if let Some(id) = ids.iter().flatten().find(|&&id| id as usize >= self.config.vocab_size) {
            let what = format!("expected tokens below {}, the size of the vocabulary, got {id}", self.config.vocab_size);
            return Err(Error::config("ids", what));
        }
        let (tape, d) = (Tape::inference(), self.config.d_model);
        let mut x = {
            let table = self.weight(&tape, "shared.weight", &[self.config.vocab_size, d])?;
            reshape(&tape, &embedding(&tape, &table, &ids.concat())?, &[b, l, d])? // [b, l, d]
        };
        let bias = tape.from_host(&self.score_bias(mask, l)?, x.value())?;
        for layer in 0..self.config.num_layers {
            self.cancel.check()?;
            x = self.attention(&tape, layer, &x, &bias)?;
            x = self.mlp(&tape, layer, &x)?;
            progress.stage(Stage::EncodingText, layer as u64 + 1, self.config.num_layers as u64);
        }
        Ok(self.norm(&tape, &x, "encoder.final_layer_norm.weight")?.to_host()?)
    }

    /// The bias of the scores: by distance, and the smallest number for padding. `[b, heads, l, l]`.
    fn score_bias(&self, mask: &[Vec<u32>], l: usize) -> Result<Tensor> {
        let (heads, buckets) = (self.config.num_heads, self.config.relative_attention_num_buckets);
        let table = expect_tensor(self.source, DISTANCES, &[buckets, heads])?;
        let of_pairs: Vec<u32> =
            (0..l).flat_map(|query| (0..l).map(move |key| (query, key))).map(|(q, k)| self.bucket(q, k)).collect();
        let distance = table.index_select(&Tensor::from_vec(of_pairs, l * l, &Device::Cpu)?, 0)?; // [l·l, heads]
        let distance = distance.t()?.contiguous()?.reshape((1, heads, l, l))?;
        let ignored: Vec<f32> = mask.iter().flatten().map(|&m| if m == 0 { f32::MIN } else { 0.0 }).collect();
        let ignored = Tensor::from_vec(ignored, (mask.len(), 1, 1, l), &Device::Cpu)?;
        // f32::MIN plus a negative bias would be −∞, and a row of −∞ would give NaN.
        Ok(distance.broadcast_add(&ignored)?.clamp(f32::MIN, f32::MAX)?)
    }

    /// The bucket of the distance from a query to a key. Half of the buckets are for keys after the query; in each half, the
    /// nearest distances have their own buckets and farther ones share buckets on a logarithmic scale.
    fn bucket(&self, query: usize, key: usize) -> u32 {
        let half = self.config.relative_attention_num_buckets / 2;
        let exact = half / 2;
        let distance = query.abs_diff(key);
        let class = if distance < exact {
            distance
        } else {
            // In f32, as in the reference.
            let range = (self.config.relative_attention_max_distance as f64 / exact as f64).ln() as f32;
            let place = (distance as f32 / exact as f32).ln() / range * (half - exact) as f32;
            (exact + place as usize).min(half - 1)
        };
        (class + if key > query { half } else { 0 }) as u32
    }

    /// RMS norm over the last axis: `[…, d]`.
    fn norm(&self, tape: &Tape<'_>, x: &Var, name: &str) -> Result<Var> {
        let weight = self.weight(tape, name, &[self.config.d_model])?;
        Ok(rms_norm(tape, x, &weight, self.config.layer_norm_epsilon)?)
    }

    /// `x · weightᵀ`.
    fn linear(&self, tape: &Tape<'_>, x: &Var, name: &str, out: usize, inner: Option<Inner>) -> Result<Var> {
        let weight = self.weight(tape, name, &[out, x.dims()[x.dims().len() - 1]])?;
        Ok(match inner {
            Some(Inner::Gelu) => linear_gelu(tape, x, &weight, None)?,
            Some(Inner::Other(kind)) => activation(tape, &linear(tape, x, &weight, None)?, kind)?,
            None => linear(tape, x, &weight, None)?,
        })
    }

    fn attention(&self, tape: &Tape<'_>, layer: usize, x: &Var, bias: &Var) -> Result<Var> {
        let (heads, inner) = (self.config.num_heads, self.config.num_heads * self.config.d_kv);
        let name = |part: &str| format!("encoder.block.{layer}.layer.0.{part}.weight");
        let y = self.norm(tape, x, &name("layer_norm"))?;
        let part = |part: &str| self.linear(tape, &y, &name(&format!("SelfAttention.{part}")), inner, None);
        let [q, k, v] = [part("q")?, part("k")?, part("v")?]; // [b, l, heads·k]
        // T5 does not divide scores by √k: its initialisation keeps them small.
        let y = dot_product_attention(tape, [&q, &k, &v], heads, 1.0, Some(bias))?;
        let y = self.linear(tape, &y, &name("SelfAttention.o"), self.config.d_model, None)?;
        Ok(add(tape, x, &y)?)
    }

    fn mlp(&self, tape: &Tape<'_>, layer: usize, x: &Var) -> Result<Var> {
        let name = |part: &str| format!("encoder.block.{layer}.layer.1.{part}.weight");
        let (inner, gated) = self.config.feed_forward()?;
        let y = self.norm(tape, x, &name("layer_norm"))?;
        let layer = |part: &str, inner| self.linear(tape, &y, &name(&format!("DenseReluDense.{part}")), self.config.d_ff, inner);
        let hidden =
            if gated { mul(tape, &layer("wi_0", Some(inner))?, &layer("wi_1", None)?)? } else { layer("wi", Some(inner))? };
        let y = self.linear(tape, &hidden, &name("DenseReluDense.wo"), self.config.d_model, None)?;
        Ok(add(tape, x, &y)?)
    }
}

/// The first `length` tokens of text `index` of a batch, `[length, d]`.
pub(super) fn tokens_of(batch: &Tensor, index: usize, length: usize) -> Result<Tensor> {
    Ok(batch.i((index, ..length))?.to_dtype(DType::F32)?.contiguous()?)
}

#[cfg(test)]
mod tests {
    use latte_ops::Parameters;
    use latte_progress::NoProgress;

    use super::*;
    use crate::noise::TorchRng;

    fn config(feed_forward: &str) -> T5Config {
        T5Config {
            d_model: 12,
            d_kv: 5,
            d_ff: 16,
            num_layers: 2,
            num_heads: 3,
            vocab_size: 20,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: feed_forward.into(),
        }
    }

    fn weights(config: &T5Config) -> Result<Parameters> {
        let mut rng = TorchRng::new(1);
        config.parameters()?.into_iter().map(|(name, shape)| Ok((name, (rng.randn(shape)? * 0.3)?))).collect()
    }

    #[test]
    fn distances_have_the_classes_of_the_reference() {
        let (config, source) = (config("relu"), Parameters::new());
        let encoder = T5Encoder { config, source: &source, device: Device::Cpu, cancel: CancelToken::new() };
        // From transformers' relative position buckets, bidirectional, 32 buckets, largest distance 128.
        for (query, key, class) in [
            (0, 0, 0),
            (7, 0, 7),
            (8, 0, 8),
            (11, 0, 8),
            (12, 0, 9),
            (127, 0, 15),
            (119, 0, 15),
            (0, 1, 17),
            (0, 8, 24),
            (0, 100, 31),
        ] {
            assert_eq!(encoder.bucket(query, key), class, "{query} to {key}");
        }
    }

    struct Layers(Vec<(u64, u64)>);

    impl Progress for Layers {
        fn stage(&mut self, _: Stage, done: u64, total: u64) {
            self.0.push((done, total));
        }
    }

    #[test]
    fn padding_changes_nothing_and_every_mlp_runs() -> Result<()> {
        for feed_forward in ["relu", "gated-relu", "gelu_new", "gated-gelu", "gated-silu"] {
            let config = config(feed_forward);
            let weights = weights(&config)?;
            let encoder = T5Encoder::new(config, &weights)?;
            let mut layers = Layers(Vec::new());
            let alone = encoder.forward(&[vec![3, 7, 1]], &[vec![1, 1, 1]], &mut layers)?;
            assert_eq!(layers.0, [(1, 2), (2, 2)]);
            let ids = [vec![3, 7, 1, 0, 0], vec![5, 5, 9, 2, 1]];
            let both = encoder.forward(&ids, &[vec![1, 1, 1, 0, 0], vec![1; 5]], &mut NoProgress)?;
            let difference = (tokens_of(&both, 0, 3)? - alone.i(0)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(difference < 1e-6, "{feed_forward}: {difference}");
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let config = config("gated-gelu");
        let mut weights = weights(&config)?;
        let encoder = T5Encoder::new(config.clone(), &weights)?;
        let run = |ids: &[Vec<u32>], mask: &[Vec<u32>]| encoder.forward(ids, mask, &mut NoProgress).is_err();
        assert!(run(&[vec![20]], &[vec![1]]) && run(&[], &[]) && run(&[vec![1, 2], vec![1]], &[vec![1, 1], vec![1]]));
        weights.remove("encoder.final_layer_norm.weight");
        weights.insert("encoder.block.1.layer.1.DenseReluDense.wo.weight", Tensor::zeros(3, DType::F32, &Device::Cpu)?);
        let message = T5Encoder::new(config.clone(), &weights).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("final_layer_norm.weight` is missing") && message.contains("[12, 16] but is [3]"), "{message}");
        assert!(T5Config { feed_forward_proj: "swiglu".into(), ..config.clone() }.validate().is_err());
        assert!(T5Config { num_layers: 1 << 20, ..config.clone() }.validate().is_err());
        assert!(T5Config { relative_attention_num_buckets: 6, ..config }.validate().is_err());
        Ok(())
    }
}
