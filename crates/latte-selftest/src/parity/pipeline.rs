//! Kind `t2v_pipeline`: from prompt and noise to frames with the folder `tiny-latte-t2v*` beside the file; and the kind of that
//! folder itself.

use std::path::Path;

use candle_core::{Device, Tensor};
use golden::{Case, Check};
use latte::{CancelToken, NoProgress, TemporalDecoding, TextSettings, TextToVideoParts};
use latte_model::noise::TorchRng;
use latte_model::sampling::Sampler;
use latte_model::text::PromptPair;
use latte_model::vae::{AutoencoderKl, AutoencoderKlTemporalDecoder};
use latte_ops::Precision;
use serde::Deserialize;

use super::tensors::{Result, check, tensor};
use super::text::folder_beside;

const PIPELINE: f64 = 1e-3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    prompt: String,
    negative_prompt: String,
    guidance_scale: f64,
    steps: usize,
    /// The class of the reference, without `Scheduler`.
    scheduler: String,
    frames: usize,
    height: usize,
    width: usize,
    temporal_decoder: bool,
    /// How frames are computed from decoded values.
    #[serde(rename = "note")]
    _note: String,
}

pub(crate) fn t2v_pipeline(device: &Device, path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let config: Config = serde_json::from_value(case.config.clone().into())?;
    let pipeline = TextToVideoParts::open(&folder_beside(path)?)?.on(device);
    // Files may leave out the parts of a name that all classes of a sampler have.
    let kind = ["", "Discrete", "Multistep"]
        .iter()
        .find_map(|end| Sampler::from_class_name(&format!("{}{end}", config.scheduler)).ok())
        .ok_or_else(|| format!("scheduler {} is not known", config.scheduler))?;
    let settings = TextSettings {
        prompt: config.prompt,
        negative_prompt: config.negative_prompt,
        seed: 0,
        num_steps: config.steps,
        guidance_scale: config.guidance_scale,
        guidance_interval: None,
        guidance_rescale: 0.0,
        num_frames: config.frames,
        size: [config.height, config.width],
        scheduler: pipeline.scheduler_with(&[("_class_name".into(), kind.class_name().into())])?,
        sampler: None,
        eta: 0.0,
        temporal_attention: true,
        temporal_decoder: if config.temporal_decoder { TemporalDecoding::On } else { TemporalDecoding::Off },
        tile: None,
        clean_caption: true,
        compat_masking: true,
        fps: 8.0,
    };
    pipeline.check(&settings)?;
    let texts = [settings.prompt.as_str(), settings.negative_prompt.as_str()];
    let encoded = pipeline.encode_texts(&texts, settings.clean_caption, None, &mut NoProgress, &CancelToken::new())?.texts;
    let pair = PromptPair::new(&encoded[0], &encoded[1], settings.compat_masking)?;
    let compare = |what: &str, ours: &Tensor| check(&case, what, what, ours, PIPELINE);
    let mut checks = vec![compare("text", &pair.text)?, compare("negative_text", &pair.negative)?];

    let start = tensor(case.tensor("in.latents")?)?.transpose(1, 2)?.contiguous()?; // [b, f, c, h, w]
    let transformer = pipeline.load_transformer()?;
    let mut noise = TorchRng::new(0);
    let latents = transformer.denoise_from(&start, &mut noise, &settings, &pair, Precision::F32)?;
    checks.push(compare("final_latents", &latents.transpose(1, 2)?.contiguous()?)?);

    let pixels = pipeline.load_decoder(&settings, Precision::F32)?.decode(&latents)?;
    let frames = ((pixels.squeeze(0)? * 0.5)? + 0.5)?.clamp(0f32, 1f32)?; // [f, 3, h, w]
    checks.push(compare("frames", &frames)?);
    Ok(checks)
}

/// Checks that every part of the folder can be opened and fits its configuration. Its outputs are of kind `t2v_pipeline`.
pub(crate) fn folder(path: &Path) -> Result<Vec<Check>> {
    let pipeline = TextToVideoParts::open(path)?;
    pipeline.load_transformer()?;
    AutoencoderKl::open(&path.join("vae"), Precision::F32)?;
    AutoencoderKlTemporalDecoder::open(&path.join("vae_temporal_decoder"), Precision::F32)?;
    Ok(vec![Check { what: "all parts open".into(), error: 0.0, tolerance: 0.0 }])
}
