//! CLIP ViT-B/32 (Radford et al., arXiv:2103.00020): embeds images and texts into one space, for CLIPSIM and similar scores.

#[cfg(test)]
mod tests;
mod tokens;
mod tower;

use std::path::{Path, PathBuf};

use candle_core::{D, Device, Tensor};
use latte_ops::{Conv3d, Padding, Tape, Var, add, concat, conv3d, embedding, narrow, reshape};
use latte_weights::{TensorSource, expect_tensor, read_json};
use serde_json::Value;

pub(super) use tokens::MERGES;
pub use tokens::Tokenizer;

use super::layers::{convolution, dense, of_volumes};
use super::preparation::Preparation;
use super::{Clips, Detector, FeatureLayer, Identity, in_groups};
use crate::{Error, Result};
use tower::{Mask, Norm, Tower};

/// Height and width of the input images in pixels.
pub(super) const SIDE: usize = 224;
/// Height and width of a patch.
const PATCH: usize = 32;
/// Number of tokens of an image: its patches and the class token.
const IMAGE_TOKENS: usize = (SIDE / PATCH) * (SIDE / PATCH) + 1;
const VISION_WIDTH: usize = 768;
const TEXT_WIDTH: usize = 512;
/// The width of the joint space.
const JOINT_WIDTH: usize = 512;
const LAYERS: usize = 12;
/// Maximum number of tokens of a text, including start and end.
pub(super) const TEXT_TOKENS: usize = 77;
const VOCABULARY: usize = 49_408;
/// Batch size of images or texts.
const TOGETHER: usize = 16;
const FEATURE_LAYERS: &[FeatureLayer] = &[FeatureLayer { name: "image", width: JOINT_WIDTH }];

/// The names and shapes of its tensors.
pub(super) fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut tensors: Vec<(String, Vec<usize>)> = [
        ("text_model.embeddings.token_embedding.weight", vec![VOCABULARY, TEXT_WIDTH]),
        ("text_model.embeddings.position_embedding.weight", vec![TEXT_TOKENS, TEXT_WIDTH]),
        ("text_projection.weight", vec![JOINT_WIDTH, TEXT_WIDTH]),
        ("vision_model.embeddings.class_embedding", vec![VISION_WIDTH]),
        ("vision_model.embeddings.patch_embedding.weight", vec![VISION_WIDTH, 3, PATCH, PATCH]),
        ("vision_model.embeddings.position_embedding.weight", vec![IMAGE_TOKENS, VISION_WIDTH]),
        ("visual_projection.weight", vec![JOINT_WIDTH, VISION_WIDTH]),
    ]
    .map(|(name, shape)| (name.to_string(), shape))
    .into();
    let norms = [
        ("text_model.final_layer_norm", TEXT_WIDTH),
        // The files have this spelling.
        ("vision_model.pre_layrnorm", VISION_WIDTH),
        ("vision_model.post_layernorm", VISION_WIDTH),
    ];
    for (name, width) in norms {
        tensors.extend(["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![width])));
    }
    for (name, width) in [("text_model", TEXT_WIDTH), ("vision_model", VISION_WIDTH)] {
        tensors.extend((0..LAYERS).flat_map(|layer| tower::tensors(&format!("{name}.encoder.layers.{layer}"), width)));
    }
    tensors
}

/// Returns an error if a configuration beside the weights names another activation: names and shapes would fit, but every result
/// would be wrong.
pub(super) fn check_activation(folder: &Path) -> Result<()> {
    let read = |name: &str| -> Result<Option<(PathBuf, Value)>> {
        let path = folder.join(name);
        Ok(if path.is_file() { Some((path.clone(), read_json(&path)?)) } else { None })
    };
    let refused = |path: PathBuf, what: String| {
        let what =
            format!("{what}: the weights were trained with another GELU than OpenAI's CLIP, which CLIPSIM is of; give that one");
        Err(Error::File { path, what })
    };
    if let Some((path, config)) = read("config.json")? {
        let activations = ["text_config", "vision_config"].map(|part| config.get(part)?.get("hidden_act")?.as_str());
        if let Some(other) = activations.into_iter().flatten().find(|name| *name != "quick_gelu") {
            return refused(path, format!("`hidden_act` is `{other}`, expected `quick_gelu`"));
        }
    }
    match read("open_clip_config.json")? {
        Some((path, config)) if config.pointer("/model_cfg/quick_gelu").and_then(Value::as_bool) != Some(true) => {
            refused(path, "`model_cfg.quick_gelu` is not `true`".into())
        }
        _ => Ok(()),
    }
}

/// The network with its weights.
#[derive(Debug)]
pub struct Clip {
    identity: Identity,
    preparation: Preparation,
    vision: Vision,
    text: Text,
    tokenizer: Option<Tokenizer>,
}

#[derive(Debug)]
struct Vision {
    patches: Conv3d,
    class: Var,
    positions: Var,
    before: Norm,
    tower: Tower,
    after: Norm,
    projection: Conv3d,
}

#[derive(Debug)]
struct Text {
    tokens: Var,
    positions: Var,
    tower: Tower,
    after: Norm,
    projection: Conv3d,
}

impl Clip {
    /// Builds the network from weights with the names of this program's files, and the tokenizer from the list of merges if there
    /// is one.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or has another shape, or the list of merges is damaged.
    pub(super) fn new(source: &dyn TensorSource, identity: Identity, preparation: Preparation) -> Result<Self> {
        let get = |name: &str, shape: &[usize]| expect_tensor(source, name, shape);
        let without_bias = |name: &str, shape: &[usize]| -> Result<Conv3d> {
            dense(&get(name, shape)?, &Tensor::zeros(shape[0], candle_core::DType::F32, &Device::Cpu)?, false)
        };
        let weight = get("vision_model.embeddings.patch_embedding.weight", &[VISION_WIDTH, 3, PATCH, PATCH])?;
        let zeros = Tensor::zeros(VISION_WIDTH, candle_core::DType::F32, &Device::Cpu)?;
        let tape = Tape::inference();
        let constant = |name: &str, shape: &[usize]| -> Result<Var> { Ok(tape.constant(get(name, shape)?)) };
        let vision = Vision {
            patches: convolution(&of_volumes(&weight)?, &zeros, [1, PATCH, PATCH], Padding::NONE, false)?,
            class: constant("vision_model.embeddings.class_embedding", &[VISION_WIDTH])?,
            positions: constant("vision_model.embeddings.position_embedding.weight", &[IMAGE_TOKENS, VISION_WIDTH])?,
            before: Norm::new(source, "vision_model.pre_layrnorm", VISION_WIDTH)?,
            tower: Tower::new(source, "vision_model.encoder.layers", LAYERS, VISION_WIDTH, Mask::None)?,
            after: Norm::new(source, "vision_model.post_layernorm", VISION_WIDTH)?,
            projection: without_bias("visual_projection.weight", &[JOINT_WIDTH, VISION_WIDTH])?,
        };
        let text = Text {
            tokens: constant("text_model.embeddings.token_embedding.weight", &[VOCABULARY, TEXT_WIDTH])?,
            positions: constant("text_model.embeddings.position_embedding.weight", &[TEXT_TOKENS, TEXT_WIDTH])?,
            tower: Tower::new(source, "text_model.encoder.layers", LAYERS, TEXT_WIDTH, Mask::Causal)?,
            after: Norm::new(source, "text_model.final_layer_norm", TEXT_WIDTH)?,
            projection: without_bias("text_projection.weight", &[JOINT_WIDTH, TEXT_WIDTH])?,
        };
        let tokenizer = match source.shape(MERGES) {
            Some(_) => Some(Tokenizer::from_tensor(&source.f32_tensor(MERGES)?)?),
            None => None,
        };
        Ok(Self { identity, preparation, vision, text, tokenizer })
    }

    /// Embeddings of texts, `[n, 512]`, each of length 1.
    ///
    /// # Errors
    ///
    /// If the weights were imported without the list of merges, which tokenizing needs.
    pub fn texts(&self, texts: &[&str]) -> Result<Tensor> {
        let Some(tokenizer) = &self.tokenizer else {
            let what = "were imported without `merges.txt` or `tokenizer.json`, without which no text can be read; import them from a \
                        folder that has one";
            return Err(Error::refused(format!("the weights of {}", self.identity.source), what));
        };
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.tokens(text)).collect();
        self.token_texts(&tokens)
    }

    /// Number of these texts that have more tokens than the network reads; the rest of each is cut off.
    pub fn num_cut(&self, texts: &[&str]) -> usize {
        self.tokenizer.as_ref().map_or(0, |tokenizer| texts.iter().filter(|text| tokenizer.is_cut(text)).count())
    }

    /// As [`Clip::texts`], for tokenized texts, each with start and end tokens.
    ///
    /// # Errors
    ///
    /// If there is no text, or one is empty, too long, or has an unknown token.
    pub fn token_texts(&self, texts: &[Vec<u32>]) -> Result<Tensor> {
        let longest = texts.iter().map(Vec::len).max().unwrap_or_default();
        let fine = texts.iter().all(|text| !text.is_empty() && text.iter().all(|&token| (token as usize) < VOCABULARY));
        if longest == 0 || longest > TEXT_TOKENS || !fine {
            return Err(Error::refused(
                "texts",
                format!("expected 1 to {TEXT_TOKENS} tokens below {VOCABULARY} in each, got {longest}"),
            ));
        }
        let parts = texts.chunks(TOGETHER).map(|texts| self.text.forward(texts)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&parts, 0)?)
    }
}

impl Vision {
    /// Embeddings `[n, 512]`, each of length 1, of images `x` `[n, 1, 224, 224, 3]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (tape, n) = (&Tape::inference(), x.dim(0)?);
        let patches = conv3d(tape, &tape.constant(x), &self.patches)?;
        let patches = reshape(tape, &patches, &[n, IMAGE_TOKENS - 1, VISION_WIDTH])?;
        let class = embedding(tape, &reshape(tape, &self.class, &[1, VISION_WIDTH])?, &vec![0; n])?; // [n, 768]
        let class = reshape(tape, &class, &[n, 1, VISION_WIDTH])?;
        let x = add(tape, &concat(tape, &[&class, &patches], 1)?, &self.positions)?; // [n, 50, 768]
        let x = self.tower.forward(tape, &self.before.forward(tape, &x)?)?;
        let class = reshape(tape, &narrow(tape, &x, 1, 0, 1)?, &[n, VISION_WIDTH])?;
        direction(tape, &self.after.forward(tape, &class)?, &self.projection)
    }
}

impl Text {
    /// Embeddings `[n, 512]`, each of length 1. Padding after a shorter text does not influence it.
    fn forward(&self, texts: &[Vec<u32>]) -> Result<Tensor> {
        let tape = &Tape::inference();
        let (n, len) = (texts.len(), texts.iter().map(Vec::len).max().unwrap_or_default());
        let padded: Vec<u32> = texts.iter().flat_map(|text| text.iter().copied().chain(std::iter::repeat(0)).take(len)).collect();
        let x = reshape(tape, &embedding(tape, &self.tokens, &padded)?, &[n, len, TEXT_WIDTH])?;
        let x = add(tape, &x, &narrow(tape, &self.positions, 0, 0, len)?)?;
        let x = reshape(tape, &self.tower.forward(tape, &x)?, &[n * len, TEXT_WIDTH])?;
        let last: Vec<u32> = texts.iter().enumerate().map(|(i, text)| (i * len + text.len() - 1) as u32).collect();
        let last = embedding(tape, &x, &last)?; // [n, 512]
        direction(tape, &self.after.forward(tape, &last)?, &self.projection)
    }
}

/// Projects `x` `[n, d]` into the joint space, normalised to length 1.
fn direction(tape: &Tape<'_>, x: &Var, projection: &Conv3d) -> Result<Tensor> {
    let y = tower::matmul(tape, x, projection)?.to_host()?;
    Ok(y.broadcast_div(&y.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)?)
}

impl Detector for Clip {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn feature_layers(&self) -> &'static [FeatureLayer] {
        FEATURE_LAYERS
    }

    fn min_frames(&self) -> usize {
        1
    }

    fn features(&self, clips: Clips<'_>, layers: &[FeatureLayer]) -> Result<Vec<Tensor>> {
        clips.check(&self.identity.kind, 1..=1)?;
        in_groups(self, clips, layers, TOGETHER, |clips| {
            let image = self.vision.forward(&self.preparation.apply_cropped(clips, SIDE)?)?;
            Ok(vec![image; layers.len()])
        })
    }
}
