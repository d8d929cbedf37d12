//! A tiny data set of real mp4 files, and a configuration that trains on it in seconds.

use std::path::Path;

use latte_train::TrainConfig;
use latte_video::{Clip, encode};

/// Writes two classes of three clips each: a bright square that moves right, and one that moves down. 12 frames of 24 × 24.
pub(crate) fn write_videos(root: &Path) {
    for (class, [dx, dy]) in [("right", [1, 0]), ("down", [0, 1])] {
        let folder = root.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..3 {
            let mut pixels = vec![20_u8; 12 * 24 * 24 * 3];
            for frame in 0..12 {
                let (x0, y0) = (number * 2 + frame * dx, 3 + number + frame * dy);
                for y in y0..y0 + 6 {
                    for x in x0..x0 + 6 {
                        let at = ((frame * 24 + y % 24) * 24 + x % 24) * 3;
                        pixels[at..at + 3].copy_from_slice(&[230, 180, 60 * number as u8]);
                    }
                }
            }
            let clip = Clip::new(pixels, [12, 24, 24, 3], 8.0).unwrap();
            encode::write_mp4(folder.join(format!("{number}.mp4")), &clip, &encode::Mp4Options::default()).unwrap();
        }
    }
}

/// A configuration for the videos in `data`, with the run in `run`, and `overrides` on top.
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
clip_norm = 0.5
start_clip_iter = 3
ema_decay = 0.9

[train]
max_steps = 20
batch_size = 2
accumulate = 2
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
