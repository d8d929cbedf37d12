//! Configurations of schedulers, networks and training.

use std::path::Path;

use latte_model::model::t2v::T2vConfig;
use latte_model::model::{Latte, LatteConfig};
use latte_model::sampling::{Sampler, SolverConfig};
use latte_model::text::T5Config;
use latte_model::vae::{AutoencoderKl, AutoencoderKlTemporalDecoder, KlConfig, TemporalDecoderConfig};
use latte_train::{TrainConfig, VaeTrainConfig};
use serde_json::{Value, json};

use super::{file, repository};

/// Builds the configured method, and every other method of the same process, for a few numbers of steps.
pub(super) fn scheduler(path: &Path) -> bool {
    let _ = SolverConfig::keys_of_file(path);
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let Ok(config) = SolverConfig::from_json(&text) else { return false };
    let made = |config: &SolverConfig| [1, 2, 3, 20].iter().filter(|steps| config.solver(**steps).is_ok()).count();
    for kind in Sampler::ALL {
        if let Ok(other) = config.with_kind(kind) {
            made(&other);
        }
    }
    let _ = config.alphas_cumprod();
    made(&config) > 0
}

/// One configuration for each method.
pub(super) fn schedulers() -> Result<Vec<Vec<u8>>, String> {
    let mut seeds = vec![file(&repository("testdata/golden/tiny-latte-t2v/scheduler/scheduler_config.json"))?];
    for kind in Sampler::ALL {
        let text = format!(
            r#"{{"_class_name": "{}", "num_train_timesteps": 50, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 1}}"#,
            kind.class_name()
        );
        seeds.push(text.into_bytes());
    }
    Ok(seeds)
}

pub(super) const SCHEDULER: &[&str] = &with_keys();

/// Words that are not keys.
const SCHEDULER_VALUES: &[&str] = &[
    "linear",
    "scaled_linear",
    "squaredcos_cap_v2",
    "sigmoid",
    "trailing",
    "linspace",
    "v_prediction",
    "sample",
    "dpmsolver++",
    "sde-dpmsolver++",
    "midpoint",
    "heun",
    "bh1",
    "bh2",
    "logrho",
    "fixed_large",
    "learned_range",
    "[0.1, 0.2]",
    "\"use_karras_sigmas\": true,",
    "\"solver_order\": 3,",
];

/// The keys, followed by the other words.
const fn with_keys() -> [&'static str; SolverConfig::KEYS.len() + SCHEDULER_VALUES.len()] {
    let mut words = [""; SolverConfig::KEYS.len() + SCHEDULER_VALUES.len()];
    let mut at = 0;
    while at < words.len() {
        let keys = SolverConfig::KEYS.len();
        words[at] = if at < keys { SolverConfig::KEYS[at] } else { SCHEDULER_VALUES[at - keys] };
        at += 1;
    }
    words
}

/// A configuration of any network; the kind is unknown, so every parser runs.
pub(super) fn model(path: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let Ok(value) = serde_json::from_str::<Value>(&text) else { return false };
    let class = serde_json::from_value::<LatteConfig>(value.clone());
    let class = class.is_ok_and(|config| config.validate().is_ok() && Latte::new(config).is_ok());
    let t2v = T2vConfig::from_json(&value).is_ok();
    let kl = KlConfig::from_json(&value).is_ok_and(|config| {
        let space = config.latent_space().is_ok_and(|space| space.latent_shape(16, 256, 256).is_ok());
        AutoencoderKl::tensors(&config).is_ok() && space
    });
    let temporal = TemporalDecoderConfig::from_json(&value)
        .is_ok_and(|config| AutoencoderKlTemporalDecoder::tensors(&config).is_ok() && config.latent_space().is_ok());
    let t5 = T5Config::from_json(&value).is_ok();
    class || t2v || kl || temporal || t5
}

pub(super) fn models() -> Result<Vec<Vec<u8>>, String> {
    let mut seeds = Vec::new();
    for part in ["transformer", "text_encoder", "vae", "vae_temporal_decoder"] {
        seeds.push(file(&repository(&format!("testdata/golden/tiny-latte-t2v/{part}/config.json")))?);
    }
    let preset = LatteConfig::preset("Latte-S/2").map_err(|e| e.to_string())?;
    let mut class = serde_json::to_value(preset).map_err(|e| e.to_string())?;
    seeds.push(class.to_string().into_bytes());
    class["condition"] = json!({"class": {"num_classes": 101, "dropout": 0.1}});
    seeds.push(class.to_string().into_bytes());
    class["condition"] = json!({"text": {"length": 8, "width": 16}});
    class["block_layout"] = json!("split_heads");
    seeds.push(class.to_string().into_bytes());
    Ok(seeds)
}

pub(super) const MODEL: &[&str] = &[
    "hidden_size",
    "depth",
    "num_heads",
    "patch_size",
    "in_channels",
    "num_frames",
    "input_size",
    "mlp_ratio",
    "condition",
    "patch_embedding",
    "tubelet",
    "rope",
    "late_fusion",
    "factorised_attention",
    "split_heads",
    "all_tokens",
    "num_layers",
    "attention_head_dim",
    "sample_size",
    "video_length",
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "scaling_factor",
    "latent_channels",
    "d_model",
    "d_kv",
    "d_ff",
    "relative_attention_num_buckets",
    "65535",
    "65536",
    "1000000",
];

/// A training configuration of a model or of an autoencoder; written and read again, it must be the same.
pub(super) fn training(path: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let model = TrainConfig::from_toml(&text, "train.toml", &[]).is_ok_and(|config| {
        let _ = (config.latent_space(), config.latent_shape(), config.diffusion(), config.data.location());
        if let Ok(model) = config.resolve_model(101) {
            let _ = Latte::new(model);
        }
        let again = config
            .to_toml()
            .map_err(|e| e.to_string())
            .and_then(|text| TrainConfig::from_toml(&text, "again.toml", &[]).map_err(|e| e.to_string()));
        assert!(again.as_ref() == Ok(&config), "what is written is read as something else: {again:?}");
        true
    });
    let autoencoder = VaeTrainConfig::from_toml(&text, "train.toml", &[]).is_ok_and(|config| {
        let again = config
            .to_toml()
            .map_err(|e| e.to_string())
            .and_then(|text| VaeTrainConfig::from_toml(&text, "again.toml", &[]).map_err(|e| e.to_string()));
        assert!(again.as_ref() == Ok(&config), "what is written is read as something else: {again:?}");
        true
    });
    model || autoencoder
}

pub(super) const TRAINING: &[&str] = &[
    "num_frames",
    "size",
    "batch_size",
    "max_steps",
    "learning_rate",
    "preset",
    "hidden_size",
    "depth",
    "num_heads",
    "every",
    "warmup_steps",
    "[validation]",
    "[evaluation]",
    "[samples]",
    "[model]",
    "[data]",
    "gradient_accumulation_steps",
    "accumulate",
    "activation_checkpointing",
    "recompute",
    "precision",
    "timestep_respacing",
    "fraction",
    "[256, 128]",
    "\"Latte-XL/2\"",
    "\"bf16\"",
    "seed",
    "flip",
    "joint_images",
];

/// A configuration file of the original program; some need a folder of images, too.
pub(super) fn official(path: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let read = |overrides: &[String]| {
        TrainConfig::from_official(&text, "train.yaml", overrides).is_ok_and(|(config, translation)| {
            let _ = (translation.lines(), config.latent_shape());
            true
        })
    };
    let with_images = read(&["data.image_path=images".into()]);
    read(&[]) || with_images
}
