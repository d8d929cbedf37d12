//! CLIP under the names of OpenAI's file and of open_clip gives the same tensors.

use std::collections::BTreeMap;

use candle_core::DType;
use latte_weights::{Result, refuse};

use super::super::super::clip::tensors;
use super::*;

/// Tensors with values computed from name and index, so that 150 million values need not be in memory.
struct Made(BTreeMap<String, Vec<usize>>);

/// A value; all tensors, rows and columns differ.
fn value(seed: u32, row: usize, column: usize) -> f32 {
    (seed.wrapping_mul(2_654_435_761) % 1009) as f32 + (row * 31 % 1_021) as f32 * 2e-3 + (column * 17 % 2_039) as f32 * 1e-6
}

/// A tensor under our names, `[rows, …]`.
fn made(name: &str, shape: &[usize]) -> Tensor {
    let seed = name.bytes().fold(7_u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let columns = shape[1..].iter().product::<usize>();
    let values: Vec<f32> = (0..shape[0]).flat_map(|row| (0..columns).map(move |column| value(seed, row, column))).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

impl Made {
    /// The names and shapes of OpenAI's file, written independently of the table that reads them.
    fn openai(prefix: &str) -> Self {
        let mut shapes = vec![
            ("positional_embedding".to_string(), vec![77, 512]),
            ("text_projection".into(), vec![512, 512]),
            ("logit_scale".into(), vec![]),
            ("token_embedding.weight".into(), vec![49_408, 512]),
            ("visual.class_embedding".into(), vec![768]),
            ("visual.positional_embedding".into(), vec![50, 768]),
            ("visual.proj".into(), vec![768, 512]),
            ("visual.conv1.weight".into(), vec![768, 3, 32, 32]),
        ];
        let mut pair = |name: String, shape: &[usize]| {
            shapes.push((format!("{name}weight"), shape.to_vec()));
            shapes.push((format!("{name}bias"), shape[..1].to_vec()));
        };
        for (name, d) in [("visual.ln_pre.", 768), ("visual.ln_post.", 768), ("ln_final.", 512)] {
            pair(name.into(), &[d]);
        }
        for (tower, d) in [("transformer", 512), ("visual.transformer", 768)] {
            for layer in 0..12 {
                let name = |part: &str| format!("{tower}.resblocks.{layer}.{part}");
                pair(name("attn.in_proj_"), &[3 * d, d]);
                pair(name("attn.out_proj."), &[d, d]);
                pair(name("ln_1."), &[d]);
                pair(name("ln_2."), &[d]);
                pair(name("mlp.c_fc."), &[4 * d, d]);
                pair(name("mlp.c_proj."), &[d, 4 * d]);
            }
        }
        Self(shapes.into_iter().map(|(name, shape)| (format!("{prefix}{name}"), shape)).collect())
    }

    /// Our tensors that a tensor of theirs consists of, written by hand for some of each kind.
    fn ours(name: &str) -> Vec<String> {
        let name = name.strip_prefix("module.").unwrap_or(name);
        let layer = |name: &str| match name.strip_prefix("visual.transformer.resblocks.") {
            Some(rest) => rest.split_once('.').map(|(n, part)| (format!("vision_model.encoder.layers.{n}"), part.to_string())),
            None => {
                let rest = name.strip_prefix("transformer.resblocks.")?;
                rest.split_once('.').map(|(n, part)| (format!("text_model.encoder.layers.{n}"), part.to_string()))
            }
        };
        if let Some((layer, part)) = layer(name) {
            return match part.as_str() {
                "attn.in_proj_weight" => ["q", "k", "v"].map(|p| format!("{layer}.self_attn.{p}_proj.weight")).to_vec(),
                "attn.in_proj_bias" => ["q", "k", "v"].map(|p| format!("{layer}.self_attn.{p}_proj.bias")).to_vec(),
                "attn.out_proj.weight" => vec![format!("{layer}.self_attn.out_proj.weight")],
                "attn.out_proj.bias" => vec![format!("{layer}.self_attn.out_proj.bias")],
                "ln_1.weight" => vec![format!("{layer}.layer_norm1.weight")],
                "ln_1.bias" => vec![format!("{layer}.layer_norm1.bias")],
                "ln_2.weight" => vec![format!("{layer}.layer_norm2.weight")],
                "ln_2.bias" => vec![format!("{layer}.layer_norm2.bias")],
                "mlp.c_fc.weight" => vec![format!("{layer}.mlp.fc1.weight")],
                "mlp.c_fc.bias" => vec![format!("{layer}.mlp.fc1.bias")],
                "mlp.c_proj.weight" => vec![format!("{layer}.mlp.fc2.weight")],
                "mlp.c_proj.bias" => vec![format!("{layer}.mlp.fc2.bias")],
                other => panic!("{other}"),
            };
        }
        let one = match name {
            "positional_embedding" => "text_model.embeddings.position_embedding.weight",
            "text_projection" => "text_projection.weight",
            "token_embedding.weight" => "text_model.embeddings.token_embedding.weight",
            "visual.class_embedding" => "vision_model.embeddings.class_embedding",
            "visual.positional_embedding" => "vision_model.embeddings.position_embedding.weight",
            "visual.proj" => "visual_projection.weight",
            "visual.conv1.weight" => "vision_model.embeddings.patch_embedding.weight",
            "visual.ln_pre.weight" => "vision_model.pre_layrnorm.weight",
            "visual.ln_pre.bias" => "vision_model.pre_layrnorm.bias",
            "visual.ln_post.weight" => "vision_model.post_layernorm.weight",
            "visual.ln_post.bias" => "vision_model.post_layernorm.bias",
            "ln_final.weight" => "text_model.final_layer_norm.weight",
            "ln_final.bias" => "text_model.final_layer_norm.bias",
            other => panic!("{other}"),
        };
        vec![one.into()]
    }
}

impl TensorSource for Made {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).cloned()
    }

    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = self.0.get(name).ok_or_else(|| refuse(name.as_ref(), "is not there"))?;
        let ours = Self::ours(name);
        if name.ends_with("proj") || name.ends_with("text_projection") {
            return Ok(made(&ours[0], &[shape[1], shape[0]]).t()?.contiguous()?.to_dtype(dtype)?.to_device(device)?);
        }
        let mut part = shape.clone();
        part[0] /= ours.len();
        let parts: Vec<Tensor> = ours.iter().map(|name| made(name, &part)).collect();
        Ok(Tensor::cat(&parts, 0)?.to_dtype(dtype)?.to_device(device)?)
    }
}

#[test]
fn clip_is_the_same_under_the_names_of_openai() {
    for prefix in ["", "module."] {
        let found = Converted::new(Box::new(Made::openai(prefix)), Some(Kind::Clip)).unwrap();
        let specification = tensors();
        let wrong = misfits(specification.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())), &found);
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(found.names().len(), specification.len());
        if !prefix.is_empty() {
            continue;
        }
        // The first and the last layers of both towers, and the tensors outside the layers.
        let some = specification.iter().filter(|(name, _)| {
            !name.contains("layers.") || ["layers.0.", "layers.11."].iter().any(|layer| name.contains(layer))
        });
        for (name, shape) in some {
            let [ours, expected] = [found.f32_tensor(name).unwrap(), made(name, shape)].map(|t| named(String::new(), &t));
            assert!(ours == expected, "{prefix}: {name}");
        }
    }
    // Missing and misshapen tensors are reported under our names, with their actual shapes.
    let mut short = Made::openai("");
    short.0.insert("transformer.resblocks.3.attn.in_proj_weight".into(), vec![1535, 512]);
    short.0.remove("visual.proj");
    let found = Converted::new(Box::new(short), None).unwrap();
    let specification = tensors();
    let wrong = misfits(specification.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())), &found);
    let of = |what: &str| wrong.iter().filter(|wrong| wrong.ends_with(what)).count();
    let counts = (of("should be [512, 512] but is [1535, 512]"), of("`visual_projection.weight` is missing"), wrong.len());
    assert_eq!(counts, (3, 1, 4), "{wrong:?}");
}
