//! Reads the weights of an autoencoder by name, after checking all of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use latte_ops::{ConvolutionWeights, GroupNorm, Precision, Tape};
use serde_json::Value;

use super::convolution::{Conv, Norm};
use crate::layers::{Adaptation, Init, Linear, Param, ParamScope, ParameterSpec, ParameterTable};
use crate::weights::{Pretrained, STABLE_DIFFUSION_AUTOENCODER as SINGLE_FILE, TensorSource, listed, refuse};
use crate::{Error, Result};

/// The number of problems that a message lists.
const LISTED: usize = 8;

/// Gives blocks their names and, for inference, their weights.
///
/// A network with weights is built twice: first to collect the table of its parameters, which is compared with the source, then
/// with the weights. So the blocks' code is the only list of names and shapes.
pub(super) struct Reader<'r> {
    scope: &'r ParamScope<'r>,
    /// `None` to collect names only.
    weights: Option<Weights<'r>>,
}

/// Weights for inference.
struct Weights<'r> {
    source: &'r dyn TensorSource,
    precision: Precision,
    /// The device of the prepared weights.
    device: &'r Device,
    /// The number of levels, for names that count from the other end.
    levels: usize,
}

impl Reader<'_> {
    /// The result of `build` with the weights in `source`, and all parameters sorted by name.
    ///
    /// # Errors
    ///
    /// If tensors are missing, unknown, or have other shapes: the error counts all of them, and names the first ones.
    pub(super) fn build<T>(
        source: &dyn TensorSource,
        precision: Precision,
        device: &Device,
        levels: usize,
        build: impl Fn(&Reader<'_>) -> Result<T>,
    ) -> Result<(T, ParameterTable)> {
        let (_, table) = Reader::names(&build)?;
        Weights { source, precision, device, levels }.check(table.specs())?;
        let (built, _) = ParamScope::build(&Adaptation::default(), |scope| {
            build(&Reader { scope, weights: Some(Weights { source, precision, device, levels }) })
        })?;
        Ok((built, table))
    }

    /// The result of `build` without weights, and all parameters that it requests, sorted by name.
    pub(super) fn names<T>(build: impl Fn(&Reader<'_>) -> Result<T>) -> Result<(T, ParameterTable)> {
        let (built, table) = ParamScope::build(&Adaptation::default(), |scope| build(&Reader { scope, weights: None }))?;
        Ok((built, table.in_order_of_names()))
    }

    /// A convolution: `name.weight` `[out, in, …size]` and `name.bias`.
    pub(super) fn convolution(&self, name: &str, [input, output]: [usize; 2], size: &[usize]) -> Result<Conv> {
        self.scaled_convolution(name, [input, output], size, 1.0)
    }

    /// [`convolution`](Self::convolution) with weight and bias multiplied by a factor.
    pub(super) fn scaled_convolution(
        &self,
        name: &str,
        [input, output]: [usize; 2],
        size: &[usize],
        factor: f64,
    ) -> Result<Conv> {
        let shape = [&[output, input], size].concat();
        let init = Init::Uniform { summed: shape[1..].iter().product() };
        let [weight, bias] = self.pair(name, [&shape, &[output]], [init; 2]);
        let prepared = match &self.weights {
            None => None,
            Some(weights) => {
                // For a convolution over frames: [out, in, frames, 1, 1].
                let plane = (output, input, size.first().copied().unwrap_or(1), size.get(1).copied().unwrap_or(1));
                let weight = (weights.tensor(&format!("{name}.weight"), &shape)?.reshape(plane)? * factor)?;
                let bias = (weights.tensor(&format!("{name}.bias"), &[output])? * factor)?;
                Some(Arc::new(weights.prepared(&weight, &bias)?))
            }
        };
        Ok(Conv { weight, bias, prepared })
    }

    /// A linear layer by name, from `channels` to `channels` values.
    pub(super) fn linear(&self, name: &str, channels: usize) -> Linear {
        Linear::new(self.scope, name, [channels; 2], Init::Uniform { summed: channels })
    }

    /// The weights of [linear layers](Self::linear), concatenated, as a convolution of 1 × 1; `None` without weights.
    pub(super) fn pointwise(&self, names: &[String], channels: usize) -> Result<Option<ConvolutionWeights>> {
        let Some(weights) = &self.weights else { return Ok(None) };
        let all = |part: &str, shape: &[usize]| {
            let tensors = names.iter().map(|name| weights.tensor(&format!("{name}.{part}"), shape));
            Ok::<_, Error>(Tensor::cat(&tensors.collect::<Result<Vec<_>>>()?, 0)?)
        };
        let weight = all("weight", &[channels; 2])?.reshape((names.len() * channels, channels, 1, 1))?;
        Ok(Some(weights.prepared(&weight, &all("bias", &[channels])?)?))
    }

    /// A group norm: `name.weight` and `name.bias`.
    pub(super) fn norm(&self, name: &str, channels: usize, groups: usize, eps: f64) -> Result<Norm> {
        let [weight, bias] = self.pair(name, [&[channels]; 2], [Init::Ones, Init::Zeros]);
        let prepared = match &self.weights {
            None => None,
            Some(weights) => {
                let tape = Tape::inference();
                let [weight, bias] = ["weight", "bias"].map(|part| weights.tensor(&format!("{name}.{part}"), &[channels]));
                Some(GroupNorm::new(&tape.constant(weight?), &tape.constant(bias?), groups, eps)?)
            }
        };
        Ok(Norm { weight, bias, groups, eps, prepared })
    }

    /// A scalar, stored as `[1]`; 0 without weights.
    pub(super) fn number(&self, name: &str) -> Result<f64> {
        let _ = self.scope.param(name, &[1], Init::Zeros);
        let Some(weights) = &self.weights else { return Ok(0.0) };
        Ok(f64::from(weights.tensor(name, &[1])?.reshape(())?.to_scalar::<f32>()?))
    }

    fn pair(&self, name: &str, shapes: [&[usize]; 2], [weight, bias]: [Init; 2]) -> [Param; 2] {
        let scope = self.scope.within(name);
        [scope.param("weight", shapes[0], weight), scope.param("bias", shapes[1], bias)]
    }
}

impl Weights<'_> {
    /// The tensor with this name and shape.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let found = self.found(name).ok_or_else(|| Error::config("weights", format!("`{name}` is missing")))?;
        Ok(self.source.tensor(&found, DType::F32, self.device)?.reshape(shape)?)
    }

    /// Prepared weights for inference; the unprepared ones are not kept.
    fn prepared(&self, weight: &Tensor, bias: &Tensor) -> Result<ConvolutionWeights> {
        let tape = Tape::inference().with_precision(self.precision);
        Ok(ConvolutionWeights::new(&tape, &tape.constant(weight), &tape.constant(bias))?)
    }

    /// The name in the source of the tensor that diffusers calls `name` today.
    fn found(&self, name: &str) -> Option<String> {
        let names = [name.to_string(), old_attention_name(name), original_name(name, self.levels)];
        let within = names.iter().map(|name| format!("{SINGLE_FILE}{name}"));
        names.iter().cloned().chain(within).find(|candidate| self.source.shape(candidate).is_some())
    }

    fn check(&self, wanted: &[ParameterSpec]) -> Result<()> {
        let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
        for ParameterSpec { name, shape, .. } in wanted {
            let Some(found) = self.found(name) else {
                wrong.push(format!("`{name}` is missing"));
                continue;
            };
            match self.source.shape(&found) {
                Some(got) if !same_shape(name, shape, &got) => {
                    wrong.push(format!("`{found}` should be {shape:?} but is {got:?}"));
                }
                _ => {}
            }
            used.insert(found);
        }
        let names = self.source.names();
        // A file of a whole Stable Diffusion model holds more than its autoencoder, and a training file also a loss network.
        let others = names.iter().any(|name| name.starts_with(SINGLE_FILE));
        let ours = |name: &String| if others { name.starts_with(SINGLE_FILE) } else { !name.starts_with("loss.") };
        wrong.extend(names.iter().filter(|n| ours(n) && !used.contains(*n)).map(|name| format!("`{name}` is not known")));
        if wrong.is_empty() {
            return Ok(());
        }
        let what = format!(
            "the tensors do not fit the autoencoder: {}; compare config.json with the file, or take both from one source",
            listed(&wrong, LISTED)
        );
        Err(Error::config("weights", what))
    }
}

/// Attention's linear layers may be stored as convolutions of 1 × 1, and vice versa.
fn same_shape(name: &str, expected: &[usize], got: &[usize]) -> bool {
    if !name.contains(".attentions.") {
        return expected == got;
    }
    expected == got || matches!(got, [rest @ .., 1, 1] if rest == expected)
}

/// The name of attention in diffusers before 0.17.
fn old_attention_name(name: &str) -> String {
    let mut name = name.to_string();
    if name.contains(".attentions.") {
        for (new, old) in [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")] {
            name = name.replace(&format!(".{new}."), &format!(".{old}."));
        }
    }
    name
}

/// The name in the original Stable Diffusion code.
fn original_name(name: &str, levels: usize) -> String {
    let name = match name.split_once("up_blocks.").and_then(|(head, tail)| Some((head, tail.split_once('.')?))) {
        // The original counts the decoder's levels from the pixels.
        Some((head, (level, tail))) => match level.parse::<usize>() {
            Ok(level) if level < levels => format!("{head}up.{}.{tail}", levels - 1 - level),
            _ => name.to_string(),
        },
        None => name.to_string(),
    };
    [
        ("down_blocks.", "down."),
        ("mid_block.resnets.0.", "mid.block_1."),
        ("mid_block.resnets.1.", "mid.block_2."),
        ("mid_block.attentions.0.group_norm.", "mid.attn_1.norm."),
        ("mid_block.attentions.0.to_q.", "mid.attn_1.q."),
        ("mid_block.attentions.0.to_k.", "mid.attn_1.k."),
        ("mid_block.attentions.0.to_v.", "mid.attn_1.v."),
        ("mid_block.attentions.0.to_out.0.", "mid.attn_1.proj_out."),
        ("downsamplers.0.", "downsample."),
        ("upsamplers.0.", "upsample."),
        (".resnets.", ".block."),
        ("conv_shortcut.", "nin_shortcut."),
        ("conv_norm_out.", "norm_out."),
    ]
    .into_iter()
    .fold(name, |name, (new, old)| name.replace(new, old))
}

/// The result of `build` with the configuration and the weights in a diffusers folder; its errors name the folder.
pub(super) fn in_folder<T>(folder: &Path, build: impl FnOnce(&Value, &Pretrained) -> Result<T>) -> Result<T> {
    let weights = Pretrained::open(folder)?;
    let config =
        weights.files().config()?.ok_or_else(|| refuse(folder, "expected a folder with config.json beside the weights"))?;
    build(&config, &weights).map_err(|e| refuse(folder, e.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_times_and_programs() {
        let attention = "decoder.mid_block.attentions.0.to_out.0.weight";
        assert_eq!(old_attention_name(attention), "decoder.mid_block.attentions.0.proj_attn.weight");
        assert_eq!(original_name(attention, 4), "decoder.mid.attn_1.proj_out.weight");
        assert_eq!(
            original_name("decoder.up_blocks.0.resnets.2.conv_shortcut.bias", 4),
            "decoder.up.3.block.2.nin_shortcut.bias"
        );
        assert_eq!(original_name("decoder.up_blocks.1.upsamplers.0.conv.bias", 4), "decoder.up.2.upsample.conv.bias");
        assert_eq!(original_name("encoder.down_blocks.2.downsamplers.0.conv.bias", 4), "encoder.down.2.downsample.conv.bias");
        assert_eq!(original_name("encoder.mid_block.resnets.1.norm2.bias", 4), "encoder.mid.block_2.norm2.bias");
        assert_eq!(original_name("encoder.conv_norm_out.bias", 4), "encoder.norm_out.bias");
        for same in ["quant_conv.weight", "decoder.conv_in.bias", "decoder.conv_out.weight"] {
            assert_eq!(original_name(same, 4), same);
        }
    }
}
