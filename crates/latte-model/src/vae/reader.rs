//! Weights by name for the blocks of an autoencoder, checked as a whole before any is read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use latte_ops::{ConvolutionWeights, GroupNorm, Parameters, Precision, Tape};
use serde_json::Value;

use crate::weights::{Pretrained, STABLE_DIFFUSION_AUTOENCODER as SINGLE_FILE, TensorSource, listed, refuse};
use crate::{Error, Result};

/// How many problems a message lists.
const LISTED: usize = 8;

/// Gives blocks their weights.
///
/// A network is built twice: first dry, when the reader only notes which tensors the blocks ask for and hands out weights of
/// one value, then in earnest. So the blocks' code is the one list of names and shapes.
pub(super) struct Reader<'s> {
    source: &'s dyn TensorSource,
    precision: Precision,
    /// Where weights are put.
    device: Device,
    /// Levels, for names that count from the other end.
    levels: usize,
    /// Names and shapes that were asked for; `None` once they are known to be there.
    wanted: Option<RefCell<BTreeMap<String, Vec<usize>>>>,
}

impl Reader<'_> {
    /// What `build` makes of the weights in `source`.
    ///
    /// # Errors
    ///
    /// If tensors are missing, not known, or of other shapes: all of them are counted, and the first ones named.
    pub(super) fn build<T>(
        source: &dyn TensorSource,
        precision: Precision,
        device: &Device,
        levels: usize,
        build: impl Fn(&Reader<'_>) -> Result<T>,
    ) -> Result<T> {
        let wanted = Reader::wanted(levels, &build)?;
        let reader = Reader { source, precision, device: device.clone(), levels, wanted: None };
        reader.check(&wanted)?;
        build(&reader)
    }

    /// The names and shapes of all tensors that `build` asks for.
    pub(super) fn wanted<T>(levels: usize, build: impl Fn(&Reader<'_>) -> Result<T>) -> Result<BTreeMap<String, Vec<usize>>> {
        let none = Parameters::new();
        let (precision, wanted) = (Precision::F32, Some(RefCell::default()));
        let reader = Reader { source: &none, precision, device: Device::Cpu, levels, wanted };
        build(&reader)?;
        Ok(reader.wanted.map(RefCell::into_inner).unwrap_or_default())
    }

    /// A convolution: `name.weight` `[out, in, …size]` and `name.bias`.
    pub(super) fn convolution(&self, name: &str, [input, output]: [usize; 2], size: &[usize]) -> Result<ConvolutionWeights> {
        self.scaled_convolution(name, [input, output], size, 1.0)
    }

    /// [`convolution`](Self::convolution) with weight and bias multiplied.
    pub(super) fn scaled_convolution(
        &self,
        name: &str,
        [input, output]: [usize; 2],
        size: &[usize],
        factor: f64,
    ) -> Result<ConvolutionWeights> {
        let weight = self.tensor(&format!("{name}.weight"), &[&[output, input], size].concat())?;
        let bias = self.tensor(&format!("{name}.bias"), &[output])?;
        if self.wanted.is_some() {
            return self.nothing();
        }
        // Over frames: [out, in, frames, 1, 1]; a linear layer: [out, in].
        let plane = [size.first().copied().unwrap_or(1), size.get(1).copied().unwrap_or(1)];
        let weight = (weight.reshape((output, input, plane[0], plane[1]))? * factor)?;
        self.prepared(&weight, &(bias * factor)?)
    }

    /// Linear layers of the same input side by side, as a convolution of 1 × 1.
    pub(super) fn linear(&self, names: &[String], [input, output]: [usize; 2]) -> Result<ConvolutionWeights> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for name in names {
            weights.push(self.tensor(&format!("{name}.weight"), &[output, input])?);
            biases.push(self.tensor(&format!("{name}.bias"), &[output])?);
        }
        if self.wanted.is_some() {
            return self.nothing();
        }
        let weight = Tensor::cat(&weights, 0)?.reshape((names.len() * output, input, 1, 1))?;
        self.prepared(&weight, &Tensor::cat(&biases, 0)?)
    }

    /// A group norm: `name.weight` and `name.bias`.
    pub(super) fn norm(&self, name: &str, channels: usize, groups: usize, eps: f64) -> Result<GroupNorm> {
        let weight = self.tensor(&format!("{name}.weight"), &[channels])?;
        let bias = self.tensor(&format!("{name}.bias"), &[channels])?;
        let groups = if self.wanted.is_some() { 1 } else { groups };
        let tape = Tape::inference();
        Ok(GroupNorm::new(&tape.constant(weight), &tape.constant(bias), groups, eps)?)
    }

    /// A single number, stored as `[1]`.
    pub(super) fn number(&self, name: &str) -> Result<f64> {
        Ok(f64::from(self.tensor(name, &[1])?.reshape(())?.to_scalar::<f32>()?))
    }

    /// The tensor of that name and shape, or in the dry run one of one value.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        if let Some(wanted) = &self.wanted {
            wanted.borrow_mut().insert(name.to_string(), shape.to_vec());
            return Ok(Tensor::zeros(1, DType::F32, &Device::Cpu)?);
        }
        let found = self.found(name).ok_or_else(|| Error::config("weights", format!("`{name}` is missing")))?;
        Ok(self.source.tensor(&found, DType::F32, &self.device)?.reshape(shape)?)
    }

    fn nothing(&self) -> Result<ConvolutionWeights> {
        let zero = Tensor::zeros((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
        self.prepared(&zero, &zero.flatten_all()?)
    }

    /// Weights that nothing else holds: for inference.
    fn prepared(&self, weight: &Tensor, bias: &Tensor) -> Result<ConvolutionWeights> {
        let tape = Tape::inference().with_precision(self.precision);
        Ok(ConvolutionWeights::new(&tape, &tape.constant(weight), &tape.constant(bias))?)
    }

    /// Under which name the source has the tensor that diffusers calls `name` today.
    fn found(&self, name: &str) -> Option<String> {
        let names = [name.to_string(), old_attention_name(name), original_name(name, self.levels)];
        let within = names.iter().map(|name| format!("{SINGLE_FILE}{name}"));
        names.iter().cloned().chain(within).find(|candidate| self.source.shape(candidate).is_some())
    }

    fn check(&self, wanted: &BTreeMap<String, Vec<usize>>) -> Result<()> {
        let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
        for (name, shape) in wanted {
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
        // A file of a whole Stable Diffusion model holds more than its autoencoder, and one of its training a loss.
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

/// Attention's linear layers may be stored as convolutions of 1 × 1, and the other way round.
fn same_shape(name: &str, expected: &[usize], got: &[usize]) -> bool {
    if !name.contains(".attentions.") {
        return expected == got;
    }
    expected == got || matches!(got, [rest @ .., 1, 1] if rest == expected)
}

/// The name that attention had in diffusers before 0.17.
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
        // The original counts levels of the decoder from the pixels.
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

/// What `build` makes of the configuration and the weights in a diffusers folder; its errors name the folder.
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
