//! Lists the videos to generate: from the options, or from the settings file beside a video.

use std::path::Path;

use latte::{Cache, Sidecar, TemporalDecoding, TextRequest, TextToVideo};

use super::{Args, Switch};
use crate::failure::bad_input;
use crate::terminal::note;

/// A video to generate.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) sidecar: Sidecar,
    /// The sources of the prompt and the negative prompt, for messages.
    pub(super) origins: [String; 2],
}

/// The videos that the options describe.
pub(super) fn new(args: &Args) -> anyhow::Result<(TextToVideo, Vec<Job>)> {
    if args.num == 0 {
        return Err(bad_input("--num: expected at least 1"));
    }
    let prompts = prompts(args)?;
    if prompts.is_empty() {
        return Err(bad_input("no prompt: give --prompt \"…\", or --prompt-file with a prompt on each line"));
    }
    let model = open(args, &args.model.clone().unwrap_or_default())?;
    let mut jobs = Vec::new();
    for (prompt, origin) in prompts {
        for n in 0..args.num as u64 {
            let request = TextRequest {
                negative_prompt: args.negative.clone(),
                seed: args.seed.wrapping_add(n),
                steps: args.steps,
                guidance: args.guidance,
                frames: args.frames,
                size: args.size,
                sampler: args.sampler,
                sampler_options: args.sampler_options.clone(),
                eta: args.eta,
                temporal_decoder: match args.temporal_decoder {
                    Switch::Auto => TemporalDecoding::Auto,
                    Switch::On => TemporalDecoding::On,
                    Switch::Off => TemporalDecoding::Off,
                },
                tile: args.tile,
                temporal_attention: !args.no_temporal_attention,
                clean_caption: !args.no_clean_caption,
                compat_masking: args.compat_masking,
                fps: args.fps,
                precision: args.precision,
                ..TextRequest::new(prompt.clone())
            };
            jobs.push(Job { sidecar: model.resolve(&request)?, origins: [origin.clone(), "--negative".into()] });
        }
    }
    Ok((model, jobs))
}

/// The video of a sidecar.
pub(super) fn again(args: &Args, path: &Path) -> anyhow::Result<(TextToVideo, Vec<Job>)> {
    let mut sidecar = Sidecar::read(path)?;
    if let Some(model) = &args.model {
        sidecar.model.clone_from(model);
    }
    let model = open(args, &sidecar.model)?;
    model.parts().check(&sidecar.settings)?;
    let origins = ["prompt", "negative_prompt"].map(|key| format!("{}, {key}", path.display()));
    Ok((model, vec![Job { sidecar, origins }]))
}

fn open(args: &Args, folder: &Path) -> anyhow::Result<TextToVideo> {
    let cache = if args.no_cache { Cache::none() } else { Cache::of_user() };
    let model = TextToVideo::open(folder)?;
    Ok(model.on(&args.device.open()?.into()).cache(cache).load()?)
}

/// The prompts, each once, with their sources.
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
        // The same prompt with the same seeds would give the same videos.
        match prompts.iter().find(|(other, _)| *other == prompt) {
            Some((_, first)) => {
                note(&format!(
                    "warning: {origin}: the same prompt as {first}; it is generated once (--num N gives N videos of each prompt)"
                ));
            }
            None => prompts.push((prompt, origin)),
        }
    }
    Ok(prompts)
}
