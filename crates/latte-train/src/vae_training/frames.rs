//! Frames to train on, and frames to measure on.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use latte::noise::TorchRng;

use crate::error::{Error, Result};
use crate::loader::{ClipFrames, ClipSource, LoadedClip};

/// The streams of the run's generator; the loader forks stream 2, and the trainer 0 and 1.
const HELD_OUT_STREAM: u64 = 3;
const MEASURE_STREAM: u64 = 4;

/// Clips that are measured on, at most.
const MOST_MEASURED: usize = 256;

/// Some of the files of a source.
#[derive(Clone)]
pub(super) struct Part {
    source: Arc<dyn ClipSource>,
    files: Vec<usize>,
}

/// Divides the files of `source` into those to train on and those held out, `part` of them: at least one if `part` is above 0,
/// and never all.
pub(super) fn split(source: Arc<dyn ClipSource>, part: f64, seed: u64) -> [Part; 2] {
    let total = source.num_files();
    let held_out = ((part * total as f64).ceil() as usize).min(total.saturating_sub(1));
    let mut order = TorchRng::new(seed).fork(HELD_OUT_STREAM).randperm(total);
    let mut training = order.split_off(held_out);
    // In the order of the source: which are held out is all that chance decides.
    order.sort_unstable();
    training.sort_unstable();
    [training, order].map(|files| Part { source: Arc::clone(&source), files })
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl ClipSource for Part {
    fn num_files(&self) -> usize {
        self.files.len()
    }

    fn load(&self, file: usize, rng: &mut TorchRng) -> std::result::Result<LoadedClip, String> {
        self.source.load(self.files[file], rng)
    }
}

impl Part {
    /// A clip of each file (of the first [`MOST_MEASURED`]) as frames `[f, 3, h, w]`, always the same ones. Files that give none
    /// are passed over.
    pub(super) fn measured(&self, seed: u64, size: [usize; 2]) -> impl Iterator<Item = Result<Tensor>> {
        let rng = TorchRng::new(seed).fork(MEASURE_STREAM);
        let clip = move |file| self.load(file, &mut rng.fork(file as u64)).ok();
        (0..self.files.len().min(MOST_MEASURED)).filter_map(clip).map(move |clip| stack([clip], size))
    }
}

/// The frames of all clips, one behind the other: `[n, 3, h, w]`.
pub(super) fn stack(clips: impl IntoIterator<Item = LoadedClip>, [height, width]: [usize; 2]) -> Result<Tensor> {
    let mut values = Vec::new();
    for clip in clips {
        let ClipFrames::Pixels(pixels) = clip.frames;
        values.extend(pixels);
    }
    let frame = 3 * height * width;
    if values.is_empty() || !values.len().is_multiple_of(frame) {
        let what = format!("clips of {} values are no frames of {height} × {width}", values.len());
        return Err(Error::data("data", what));
    }
    let count = values.len() / frame;
    Ok(Tensor::from_vec(values, (count, 3, height, width), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers(usize);

    impl ClipSource for Numbers {
        fn num_files(&self) -> usize {
            self.0
        }

        fn load(&self, file: usize, _: &mut TorchRng) -> std::result::Result<LoadedClip, String> {
            let frames = ClipFrames::Pixels(vec![file as f32; 3]);
            if file == 2 { Err("bad".into()) } else { Ok(LoadedClip { frames, label: None, image_labels: Vec::new() }) }
        }
    }

    #[test]
    fn every_file_is_in_one_part() {
        for (total, part, held_out) in [(40, 0.05, 2), (10, 0.01, 1), (10, 0.0, 0), (1, 0.5, 0), (3, 0.9, 2)] {
            let [training, other] = split(Arc::new(Numbers(total)), part, 7);
            assert_eq!((training.num_files(), other.num_files()), (total - held_out, held_out));
            let mut all = [training.files, other.files].concat();
            all.sort_unstable();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
        }
        let held_out = |seed| split(Arc::new(Numbers(100)), 0.1, seed)[1].files.clone();
        assert!(held_out(1) == held_out(1) && held_out(1) != held_out(2));
    }

    #[test]
    fn bad_files_are_passed_over() {
        let [training, _] = split(Arc::new(Numbers(4)), 0.0, 7);
        let frames: Vec<f32> =
            training.measured(7, [1, 1]).map(|t| t.unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap()).collect();
        assert_eq!(frames, [0.0, 1.0, 3.0]);
    }
}
