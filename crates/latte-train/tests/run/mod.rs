//! A tiny data set of real mp4 files, and a configuration that trains on it in seconds.

mod videos;

use std::path::Path;

use latte_train::TrainConfig;
pub(crate) use videos::write_videos;

/// A configuration for the videos in `data`, with the run in `run` and `overrides` applied.
pub(crate) fn config(data: &Path, run: &Path, overrides: &[&str]) -> TrainConfig {
    let text = format!(
        r#"
[model]
patch_size = 4
hidden_size = 16
depth = 2
num_heads = 2
condition = "class"

[data]
path = '{}'
size = 16
num_frames = 4
frame_interval = 2
frame_rule = "exact_stride"
flip = true
decoder = "built_in"

[optimizer]
learning_rate = 3e-3
warmup_steps = 5
decay = "cosine"
weight_decay = 0.01
max_grad_norm = 0.5
start_clip_iter = 3
ema_decay = 0.9

[train]
max_steps = 20
batch_size = 2
gradient_accumulation_steps = 2
seed = 7

[output]
run = '{}'
checkpoint_every = 10
keep_last = 2
"#,
        data.display(),
        run.display()
    );
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    TrainConfig::from_toml(&text, "test.toml", &overrides).unwrap()
}
