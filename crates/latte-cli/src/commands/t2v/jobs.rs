//! Lists the videos to generate: from the options, or from the settings file beside a video.

use std::path::{Path, PathBuf};

use latte_model::pipeline::{T2vSettings, TemporalDecoding, TextToVideo};
use latte_model::sampling::AskedFor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Args, Switch};
use crate::dtype::Dtype;
use crate::failure::bad_input;
use crate::terminal::note;

/// What lies beside a video: from it, the same video can be made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sidecar {
    /// The version of the program that made it.
    pub(super) latte: String,
    pub(super) model: PathBuf,
    pub(super) precision: Dtype,
    pub(super) settings: T2vSettings,
}

/// A video to be made.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) sidecar: Sidecar,
    /// Where the prompt and the negative prompt come from, for messages.
    pub(super) origins: [String; 2],
}

/// The videos that the options ask for.
pub(super) fn new(args: &Args) -> anyhow::Result<(TextToVideo, Vec<Job>)> {
    if args.num == 0 {
        return Err(bad_input("--num: expected at least 1"));
    }
    let prompts = prompts(args)?;
    if prompts.is_empty() {
        return Err(bad_input("no prompt: give --prompt \"…\", or --prompt-file with a prompt on each line"));
    }
    let model = args.model.clone().unwrap_or_default();
    let pipeline = TextToVideo::open(&model)?;
    let asked = AskedFor { sampler: args.sampler, options: &args.sampler_options, eta: args.eta };
    let sampling = pipeline.sampling(&asked, args.steps)?;
    let mut jobs = Vec::new();
    for (prompt, origin) in prompts {
        for n in 0..args.num as u64 {
            let settings = T2vSettings {
                prompt: prompt.clone(),
                negative_prompt: args.negative.clone(),
                seed: args.seed.wrapping_add(n),
                num_steps: args.steps,
                guidance_scale: args.guidance,
                guidance_interval: None,
                guidance_rescale: 0.0,
                num_frames: args.frames.unwrap_or_else(|| pipeline.default_frames()),
                size: args.size.unwrap_or_else(|| pipeline.default_size()),
                scheduler: sampling.scheduler.clone(),
                sampler: sampling.sampler.map(|kind| kind.name().to_string()),
                eta: sampling.eta,
                temporal_attention: !args.no_temporal_attention,
                temporal_decoder: match args.temporal_decoder {
                    Switch::Auto => TemporalDecoding::Auto,
                    Switch::On => TemporalDecoding::On,
                    Switch::Off => TemporalDecoding::Off,
                },
                tile: args.tile,
                clean_caption: !args.no_clean_caption,
                compat_masking: args.compat_masking,
                fps: args.fps,
            };
            let latte = env!("CARGO_PKG_VERSION").to_string();
            let sidecar = Sidecar { latte, model: model.clone(), precision: args.precision, settings };
            jobs.push(Job { sidecar, origins: [origin.clone(), "--negative".into()] });
        }
    }
    Ok((pipeline, jobs))
}

/// The video of a sidecar.
pub(super) fn again(args: &Args, path: &Path) -> anyhow::Result<(TextToVideo, Vec<Job>)> {
    let text = latte_textfile::read(path).map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
    let mut sidecar: Sidecar = serde_json::from_str(&text)
        .map_err(|e| bad_input(format!("{}: is no file of settings that latte t2v wrote: {e}", path.display())))?;
    if let Some(model) = &args.model {
        sidecar.model.clone_from(model);
    }
    let pipeline = TextToVideo::open(&sidecar.model)?;
    let origins = ["prompt", "negative_prompt"].map(|key| format!("{}, {key}", path.display()));
    Ok((pipeline, vec![Job { sidecar, origins }]))
}

/// The prompts, each once, and where each comes from.
fn prompts(args: &Args) -> anyhow::Result<Vec<(String, String)>> {
    let mut given: Vec<(String, String)> = match args.prompts.as_slice() {
        [only] => vec![(only.clone(), "--prompt".into())],
        several => several.iter().zip(1..).map(|(prompt, n)| (prompt.clone(), format!("--prompt number {n}"))).collect(),
    };
    if let Some(path) = &args.prompt_file {
        let text = latte_textfile::read(path).map_err(|e| bad_input(format!("{}: {e}", path.display())))?;
        let lines = text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty());
        given.extend(lines.map(|(line, number)| (line.to_string(), format!("{}, line {number}", path.display()))));
    }
    let mut prompts: Vec<(String, String)> = Vec::new();
    for (prompt, origin) in given {
        // The same prompt with the same seeds would be the same videos.
        match prompts.iter().find(|(other, _)| *other == prompt) {
            Some((_, first)) => {
                note(&format!(
                    "warning: {origin}: the same prompt as {first}; it is made once (--num makes more videos of each prompt)"
                ));
            }
            None => prompts.push((prompt, origin)),
        }
    }
    Ok(prompts)
}

/// Whether two sidecars are of the same settings, whichever version of the program wrote them.
pub(super) fn same_settings(a: &[u8], b: &[u8]) -> bool {
    let settings = |bytes: &[u8]| -> Option<Value> {
        let mut value: Value = serde_json::from_slice(bytes).ok()?;
        value.as_object_mut()?.remove("latte");
        Some(value)
    };
    settings(a).is_some_and(|a| settings(b) == Some(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_no_setting() {
        let same = |a: &str, b: &str| same_settings(a.as_bytes(), b.as_bytes());
        assert!(same(r#"{"latte": "1", "a": [1]}"#, r#"{"a": [1], "latte": "2"}"#));
        assert!(!same(r#"{"latte": "1", "a": [1]}"#, r#"{"latte": "1", "a": [2]}"#));
        assert!(!same("text", "text"));
    }
}
