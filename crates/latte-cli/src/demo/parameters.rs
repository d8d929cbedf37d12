//! Every number of the demo's training and sampling, in one place.

use std::path::Path;

use anyhow::Context;
use latte_demo::Class;

/// Training clips of each class.
pub(crate) const CLIPS_PER_CLASS: usize = 24;

/// The differences between the whole demo and `--quick`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Optimiser steps.
    pub(crate) max_steps: u64,
    /// Clips per optimiser step.
    pub(crate) batch_size: usize,
    /// Generated clips of each class.
    pub(crate) samples_per_class: usize,
    /// Sampling steps of a generated clip.
    pub(crate) sampling_steps: usize,
    /// Clips per class that are evaluated during training, and held-out videos to compare them with.
    pub(crate) judged_per_class: usize,
}

/// A few minutes on two cores.
pub(crate) const FULL: Budget =
    Budget { max_steps: 1500, batch_size: 16, samples_per_class: 4, sampling_steps: 50, judged_per_class: 2 };
/// About a minute, with a lower score.
pub(crate) const QUICK: Budget =
    Budget { max_steps: 450, batch_size: 8, samples_per_class: 2, sampling_steps: 25, judged_per_class: 1 };

/// The guidance scale.
pub(crate) const GUIDANCE: f64 = 3.0;
/// Sampling steps of clips that are evaluated during training.
const EVALUATION_STEPS: usize = 20;
/// Generated clips are enlarged by this factor when they are written, to be visible.
pub(crate) const ENLARGE: usize = 8;

/// The folders of the demo's run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folders<'a> {
    /// The training videos.
    pub(crate) videos: &'a Path,
    /// The videos to compare clips with during training, if they are evaluated.
    pub(crate) held_out: Option<&'a Path>,
    /// The run.
    pub(crate) run: &'a Path,
}

/// Writes the configuration of the demo's training run: the same run as `latte train --config <path>`.
///
/// # Errors
///
/// If the file cannot be written.
pub(crate) fn write_config(path: &Path, folders: &Folders<'_>, budget: Budget, seed: u64) -> anyhow::Result<()> {
    // Absolute, so that the file works from every folder.
    let quoted = |path: &Path| -> anyhow::Result<String> {
        let path = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
        Ok(toml::Value::String(path.to_string_lossy().into_owned()).to_string())
    };
    let mut text = config_text(&quoted(folders.videos)?, &quoted(folders.run)?, budget, seed);
    if let Some(held_out) = folders.held_out {
        text.push_str(&evaluation_text(&quoted(held_out)?, budget, seed));
    }
    Ok(latte_model::weights::write_atomically(path, text.as_bytes())?)
}

fn config_text(videos: &str, run: &str, budget: Budget, seed: u64) -> String {
    let Budget { max_steps, batch_size, .. } = budget;
    let warmup_steps = (max_steps / 15).max(1);
    let checkpoint_every = max_steps.div_ceil(3);
    format!(
        r#"# The training run of `latte demo`: moving shapes, a class per direction and thing.
# The same run by hand: latte train --config <this file>

[model]
patch_size = 4
hidden_size = 128
depth = 4
num_heads = 4
condition = "class"

[autoencoder]
kind = "pixels"

[diffusion] # the clean pixels are simpler than the noise, so a small network learns to predict them sooner
prediction = "x0"
variance = "fixed_large"

[data]
path = {videos}
size = 16
num_frames = 8
frame_interval = 3
frame_rule = "exact_stride"
decoder = "built_in" # the same frames whether ffmpeg is installed or not
flip = false # a mirrored clip would move the other way

[optimizer]
learning_rate = 4e-3 # forty times the paper's: the model is tiny, and so is the time
warmup_steps = {warmup_steps}
decay = "cosine"
max_grad_norm = 1.0
start_clip_iter = 0
betas = [0.9, 0.99]
ema_decay = 0.99

[train]
max_steps = {max_steps}
batch_size = {batch_size}
seed = {seed}

[output]
run = {run}
checkpoint_every = {checkpoint_every}
keep_last = 2
"#
    )
}

fn evaluation_text(held_out: &str, budget: Budget, seed: u64) -> String {
    let Budget { max_steps, judged_per_class, .. } = budget;
    let (every, num) = (max_steps.div_ceil(2), judged_per_class * Class::all().len());
    format!(
        r#"
[evaluation] # clips of the averaged weights against videos that are not trained on
detectors = ["random-i3d"] # untrained weights: its distances compare steps of this run only
real = {held_out}
real_stride = 3
frames = 9 # the fewest that it takes
every = {every}
at_start = true
num = {num}
steps = {EVALUATION_STEPS}
guidance = {GUIDANCE:.1}
seed = {seed}
"#
    )
}

#[cfg(test)]
mod tests {
    use latte_train::TrainConfig;

    use super::*;

    #[test]
    fn the_configuration_is_one_that_the_trainer_takes() {
        for budget in [FULL, QUICK] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("train.toml");
            let folders = Folders { videos: Path::new("a \"b\""), held_out: Some(Path::new("d")), run: Path::new("c") };
            write_config(&path, &folders, budget, 7).unwrap();
            let config = TrainConfig::load(&path, &[]).unwrap();
            assert_eq!((config.train.max_steps, config.train.seed), (budget.max_steps, 7));
            assert!(config.data.path.is_absolute() && config.data.path.ends_with("a \"b\""));
            assert!(!config.data.flip);
            let evaluation = config.evaluation.unwrap();
            assert!(evaluation.real.unwrap().ends_with("d") && evaluation.at_start && 2 * evaluation.every >= budget.max_steps);
            write_config(&path, &Folders { held_out: None, ..folders }, budget, 7).unwrap();
            assert!(TrainConfig::load(&path, &[]).unwrap().evaluation.is_none());
        }
    }
}
