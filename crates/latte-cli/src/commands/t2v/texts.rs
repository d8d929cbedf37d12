//! Encodes the texts of all videos, and reports which parts of a text the network does not read.

use latte_model::pipeline::{EncodedTexts, T2vSettings, TextToVideo};
use latte_model::text::{EncodedText, PromptPair, Reading};

use super::jobs::Job;
use crate::cache::OptionalCache;
use crate::progress::StageProgress;

/// The prompts and negative prompts of all jobs; each different text is encoded once, and all of them together.
pub(super) fn encode(pipeline: &TextToVideo, jobs: &[Job], cache: &OptionalCache) -> anyhow::Result<Vec<PromptPair>> {
    let mut progress = StageProgress::new("reading the prompts");
    // All jobs of a run are cleaned or none is: they come from one command line, or are one.
    let clean = jobs.first().is_some_and(|job| job.sidecar.settings.clean_caption);
    let settings = || jobs.iter().map(|job| &job.sidecar.settings);
    let texts: Vec<&str> = settings().flat_map(|s| [s.prompt.as_str(), s.negative_prompt.as_str()]).collect();
    let mut report = |done: usize, total: usize| progress.set(done as u64, total as u64);
    let encoded = pipeline.encode_texts(&texts, clean, cache.folder(), &mut report)?;
    let EncodedTexts { texts, readings, cache_error } = encoded;
    if let Some(line) = cache_error.and_then(|error| cache.failed(&error)) {
        progress.note(&line);
    }
    for line in warnings(jobs, &texts, &readings) {
        progress.note(&format!("warning: {line}"));
    }
    progress.finish();
    let pairs = texts.chunks_exact(2).zip(settings());
    Ok(pairs.map(|(pair, s)| PromptPair::new(&pair[0], &pair[1], s.compat_masking)).collect::<latte_model::Result<_>>()?)
}

/// What is not read of the texts: a line for each text and way.
fn warnings(jobs: &[Job], texts: &[EncodedText], readings: &[Reading]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for ((job, texts), readings) in jobs.iter().zip(texts.chunks_exact(2)).zip(readings.chunks_exact(2)) {
        let settings = &job.sidecar.settings;
        let [prompt, negative] = &job.origins;
        let mut of_job: Vec<String> = readings[0].left_out().iter().map(|what| format!("{prompt}: {what}")).collect();
        of_job.extend(about_negative(settings, texts, &readings[1]).iter().map(|what| format!("{negative}: {what}")));
        for line in of_job {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

fn about_negative(settings: &T2vSettings, texts: &[EncodedText], reading: &Reading) -> Vec<String> {
    if !settings.is_guided() {
        let scale = settings.guidance_scale;
        return if settings.negative_prompt.is_empty() {
            Vec::new()
        } else {
            vec![format!("is not read with a guidance of {scale}; expected one above 1")]
        };
    }
    let mut told = reading.left_out();
    let (of_prompt, own) = (texts[0].length, texts[1].length);
    if settings.compat_masking && own > of_prompt {
        told.push(format!("of its {own} tokens {of_prompt} are read, as many as the prompt has (--compat-masking)"));
    }
    told
}
