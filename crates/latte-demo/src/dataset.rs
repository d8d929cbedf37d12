//! The demo's data set: video files with one sub-folder per class.

use std::path::Path;

use latte_model::noise::TorchRng;
use latte_video::Clip;
use latte_video::encode::{Mp4Options, write_mp4};

use crate::scene::{Class, Scene};
use crate::{Error, Result};

/// Height and width of a clip of the data set, in pixels.
pub const SIDE: usize = 64;
/// Frames of a clip.
pub const NUM_FRAMES: usize = 24;
/// Number of frames of a held-out clip: nine frames at interval three fit in, the minimum for I3D.
const HELD_OUT_FRAMES: usize = 27;
/// The streams 0, 1, … of the seed belong to the classes.
const HELD_OUT_STREAM: u64 = 1 << 32;
/// Frames per second.
pub const FPS: f64 = 8.0;

/// Writes `clips_per_class` mp4 files for every class into `folder/<class>/`; returns the number of files. The same seed writes the
/// same files.
///
/// # Errors
///
/// If a file cannot be written.
pub fn write(folder: &Path, clips_per_class: usize, seed: u64) -> Result<usize> {
    write_clips(folder, clips_per_class, NUM_FRAMES, &TorchRng::new(seed))
}

/// Writes clips that are never trained on, with as many frames as the detector of the demo needs at the demo's interval; returns
/// the number of files.
///
/// # Errors
///
/// Those of [`write()`].
pub fn write_held_out(folder: &Path, clips_per_class: usize, seed: u64) -> Result<usize> {
    write_clips(folder, clips_per_class, HELD_OUT_FRAMES, &TorchRng::new(seed).fork(HELD_OUT_STREAM))
}

fn write_clips(folder: &Path, clips_per_class: usize, num_frames: usize, root: &TorchRng) -> Result<usize> {
    let mut written = 0;
    for (label, class) in Class::all().into_iter().enumerate() {
        let class_folder = folder.join(class.to_string());
        std::fs::create_dir_all(&class_folder).map_err(|source| Error::Io { path: class_folder.clone(), source })?;
        for index in 0..clips_per_class {
            // Each clip has its own stream, so that more clips do not change the earlier ones.
            let mut rng = root.fork(label as u64).fork(index as u64);
            let scene = Scene::random(class, &mut || rng.uniform_f64());
            let clip = Clip::new(scene.draw(num_frames, SIDE), [num_frames, SIDE, SIDE, 3], FPS)?;
            write_mp4(class_folder.join(format!("{index:03}.mp4")), &clip, &Mp4Options::default())?;
            written += 1;
        }
    }
    Ok(written)
}
