//! Frames for training and frames for the measurement.

use candle_core::{Device, Tensor};
use latte_model::noise::TorchRng;

use super::config::VaeTrainConfig;
use crate::config::DataConfig;
use crate::data::fingerprint::DatasetFingerprint;
use crate::data::loader::{ClipSource, LoadedClip};
use crate::data::source::{ListedData, Split, VideoSource, list_unlabelled};
use crate::error::Result;

/// The stream of the run's generator for the measurement; the trainer and the loader have others.
const MEASURE_STREAM: u64 = 3;

/// The largest number of clips that are measured.
const MAX_MEASURED: usize = 256;

/// The videos of a run.
pub(super) struct OpenedFrames {
    /// The source of training clips.
    pub(super) training: VideoSource,
    /// The same, and the held-out ones, for the measurement.
    pub(super) measured: Measured,
    /// Detects whether the data has changed.
    pub(super) mark: DatasetFingerprint,
    /// Notes for the user.
    pub(super) notes: Vec<String>,
}

/// Videos for the measurement.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) training: VideoSource,
    /// `None` if none are held out.
    pub(super) held_out: Option<VideoSource>,
    seed: u64,
    size: [usize; 2],
}

/// Lists the videos and opens one of them.
pub(super) fn open(config: &VaeTrainConfig) -> Result<OpenedFrames> {
    let ListedData { mut dataset, signatures, notes } = list_unlabelled(&config.data)?;
    let (fraction, mut held_out) = (config.validation.fraction, dataset.clone());
    // Clips of the measurement are loaded once, so the cache is of no use.
    let once = DataConfig { cache_mib: 0, ..config.data.clone() };
    let source = |dataset, data: &DataConfig| VideoSource::new(dataset, data).with_signatures(signatures.clone());
    if fraction > 0.0 {
        Split::Training.keep(&mut dataset.items, fraction, &[])?;
        Split::Validation.keep(&mut held_out.items, fraction, &[])?;
    }
    let mark = DatasetFingerprint { num_videos: dataset.items.len(), fingerprint: dataset.fingerprint() };
    let training = source(dataset.clone(), &config.data);
    // Returns an error if no video can be opened, before anything is written.
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
    /// One clip per video of `source` (of the first [`MAX_MEASURED`]) as frames `[f, 3, h, w]`, always the same ones. Unreadable
    /// videos are skipped.
    pub(super) fn clips(&self, source: &VideoSource) -> impl Iterator<Item = Result<Tensor>> {
        let rng = TorchRng::new(self.seed).fork(MEASURE_STREAM);
        (0..source.num_files().min(MAX_MEASURED))
            .filter_map(move |file| source.load(file, &mut rng.fork(file as u64)).ok())
            .map(|clip| stack([clip], self.size))
    }
}

/// The frames of all clips, concatenated: `[n, 3, h, w]`.
pub(super) fn stack(clips: impl IntoIterator<Item = LoadedClip>, [height, width]: [usize; 2]) -> Result<Tensor> {
    let mut values = Vec::new();
    for clip in clips {
        values.extend_from_slice(clip.frames.values());
    }
    let count = values.len() / (3 * height * width);
    Ok(Tensor::from_vec(values, (count, 3, height, width), &Device::Cpu)?)
}
