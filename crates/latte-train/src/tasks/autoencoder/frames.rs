//! Frames to train on, and frames to measure on.

use candle_core::{Device, Tensor};
use latte_model::noise::TorchRng;

use super::config::VaeTrainConfig;
use crate::config::DataConfig;
use crate::data::fingerprint::DatasetFingerprint;
use crate::data::loader::{ClipSource, LoadedClip};
use crate::data::source::{ListedData, Split, VideoSource, list_unlabelled};
use crate::error::Result;

/// The stream of the run's generator for what is measured on; the trainer and the loader have others.
const MEASURE_STREAM: u64 = 3;

/// Clips that are measured on, at most.
const MAX_MEASURED: usize = 256;

/// The videos of a run.
pub(super) struct OpenedFrames {
    /// Gives the clips to train on.
    pub(super) training: VideoSource,
    /// The same, and those that are held out, to measure on.
    pub(super) measured: Measured,
    /// Tells whether the data is still the same.
    pub(super) mark: DatasetFingerprint,
    /// What the user should know about it.
    pub(super) notes: Vec<String>,
}

/// Videos to measure on.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) training: VideoSource,
    /// `None` where none are held out.
    pub(super) held_out: Option<VideoSource>,
    seed: u64,
    size: [usize; 2],
}

/// Lists the videos and opens one.
pub(super) fn open(config: &VaeTrainConfig) -> Result<OpenedFrames> {
    let ListedData { mut dataset, signatures, notes } = list_unlabelled(&config.data)?;
    let (fraction, mut held_out) = (config.validation.fraction, dataset.clone());
    // Clips that are measured on are loaded once.
    let once = DataConfig { cache_mib: 0, ..config.data.clone() };
    let source = |dataset, data: &DataConfig| VideoSource::new(dataset, data).with_signatures(signatures.clone());
    if fraction > 0.0 {
        Split::Training.keep(&mut dataset.items, fraction, &[])?;
        Split::Validation.keep(&mut held_out.items, fraction, &[])?;
    }
    let mark = DatasetFingerprint { num_videos: dataset.items.len(), fingerprint: dataset.fingerprint() };
    let training = source(dataset.clone(), &config.data);
    // Says what is wrong where no video can be opened, before anything is written.
    training.clip_fps()?;
    let measured = Measured {
        training: source(dataset, &once),
        held_out: (fraction > 0.0).then(|| source(held_out, &once)),
        seed: config.train.seed,
        size: config.data.size.height_width(),
    };
    Ok(OpenedFrames { training, measured, mark, notes })
}

impl Measured {
    /// A clip of each video of `source` (of the first [`MAX_MEASURED`]) as frames `[f, 3, h, w]`, always the same ones. Videos
    /// that give none are skipped.
    pub(super) fn clips(&self, source: &VideoSource) -> impl Iterator<Item = Result<Tensor>> {
        let rng = TorchRng::new(self.seed).fork(MEASURE_STREAM);
        (0..source.num_files().min(MAX_MEASURED))
            .filter_map(move |file| source.load(file, &mut rng.fork(file as u64)).ok())
            .map(|clip| stack([clip], self.size))
    }
}

/// The frames of all clips, one behind the other: `[n, 3, h, w]`.
pub(super) fn stack(clips: impl IntoIterator<Item = LoadedClip>, [height, width]: [usize; 2]) -> Result<Tensor> {
    let mut values = Vec::new();
    for clip in clips {
        values.extend_from_slice(clip.frames.values());
    }
    let count = values.len() / (3 * height * width);
    Ok(Tensor::from_vec(values, (count, 3, height, width), &Device::Cpu)?)
}
