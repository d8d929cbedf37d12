//! Writes a latent cache.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use latte_model::vae::{Autoencoder, AutoencoderFingerprint, AutoencoderKind};
use latte_progress::{Progress, Stage};
use latte_video::dataset::{Probe, WorkShard};

use super::manifest::{CacheHeader, MANIFEST, Manifest, MomentDtype, VideoRecord};
use super::shard::{FILES, ShardHeader, StoredVideo, file_name};
use crate::config::TrainConfig;
use crate::data::source::{ListedData, VideoSource, list_all, moments};
use crate::engine::checkpoint_folder::sync;
use crate::error::{Error, Result};

/// The number of frames that are decoded and encoded at a time, so that long videos need no more memory than short ones.
const RUN: usize = 32;
/// The suffix of the names of unfinished files, after a dot and the name of the file.
const UNFINISHED: &str = ".tmp";
const UNFINISHED_BEFORE: &str = "unfinished-";

/// The options of encoding. The configuration has the videos, their size and the autoencoder.
#[derive(Debug, Clone)]
pub struct EncodeOptions {
    /// The folder of the cache; it is created if it is missing.
    pub out: PathBuf,
    /// Whether mirrored videos are encoded too.
    pub flips: bool,
    /// The dtype of the stored values.
    pub dtype: MomentDtype,
    /// The part of the work that this process does.
    pub shard: WorkShard,
    /// The number of videos in a group, which is one unit of work.
    pub group_videos: NonZeroUsize,
    /// The largest size of a file in bytes, unless it has only one video.
    pub file_bytes: u64,
    /// The device that the autoencoder runs on.
    pub device: Device,
}

impl EncodeOptions {
    /// Encodes all videos into `out`, without flips, in f32, with files of up to 64 videos or 256 MiB.
    pub fn new(out: &Path) -> Self {
        Self {
            out: out.to_path_buf(),
            flips: false,
            dtype: MomentDtype::F32,
            shard: WorkShard::default(),
            group_videos: NonZeroUsize::new(64).unwrap_or(NonZeroUsize::MIN),
            file_bytes: 256 << 20,
            device: Device::Cpu,
        }
    }
}

/// The result of encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeReport {
    /// Videos that this process encoded.
    pub encoded: usize,
    /// Videos that were already encoded.
    pub found: usize,
    /// Groups of videos that other processes still have to encode; 0 if the cache is finished.
    pub groups_left: usize,
    /// Videos of the finished cache that could not be read.
    pub unreadable: usize,
}

/// Encodes the videos of `config` into a latent cache. Existing files are kept. When all files exist, the manifest is written, and
/// the cache is ready for training.
///
/// # Errors
///
/// If the configuration works on pixels, the videos or the autoencoder are missing, the folder has the latents of other ones, or
/// the disk fails. Finished files stay, and the next run resumes after them.
pub fn encode(config: &TrainConfig, options: &EncodeOptions, progress: &mut dyn Progress) -> Result<EncodeReport> {
    if config.autoencoder.kind == AutoencoderKind::Pixels {
        let what = "the kind `pixels` has no encoder; set it to `kl`, and `autoencoder.path` to the autoencoder's folder";
        return Err(Error::config("configuration", "autoencoder.kind", what));
    }
    config.check_latents()?;
    let path = config.autoencoder.existing_path().map_err(Error::of_configuration)?;
    let ListedData { dataset, signatures, notes } = list_all(&config.data)?;
    for note in &notes {
        progress.warning(note);
    }
    let header = CacheHeader {
        flips: options.flips,
        dtype: options.dtype,
        group_videos: options.group_videos.get(),
        file_bytes: options.file_bytes,
        ..CacheHeader::new(
            &config.data,
            config.autoencoder.precision,
            AutoencoderFingerprint::of(path)?,
            path,
            dataset.classes.clone(),
        )
    };
    header.frame_shape().map_err(|e| Error::config("configuration", "data.size", e.to_string()))?;
    let planned: Vec<VideoRecord> = dataset.items.iter().map(VideoRecord::planned).collect();
    std::fs::create_dir_all(&options.out).map_err(Error::io(&options.out))?;
    let mut work = Work { folder: &options.out, header, planned, progress };
    work.check_manifest()?;

    let num_groups = work.planned.len().div_ceil(work.header.group_videos);
    let mut open = Vec::new();
    let mut report = EncodeReport { encoded: 0, found: 0, groups_left: 0, unreadable: 0 };
    for group in 0..num_groups {
        let files = work.finished(group)?;
        report.found += files.iter().map(|file| file.videos.len()).sum::<usize>();
        if files.last().is_none_or(|file| !file.last) {
            open.push((group, files));
        }
    }
    open.retain(|(group, _)| options.shard.has(*group));
    if !open.is_empty() {
        let left = |(group, files): &(usize, Vec<ShardHeader>)| {
            work.group(*group).len() - files.iter().map(|file| file.videos.len()).sum::<usize>()
        };
        let total: usize = open.iter().map(left).sum();
        let data = crate::config::DataConfig { cache_mib: 0, ..config.data.clone() };
        let encoder = Encoder {
            videos: VideoSource::new(dataset, &data).with_signatures(signatures),
            autoencoder: config.autoencoder.open_on(&options.device)?,
            header: work.header.clone(),
        };
        for (group, files) in open {
            work.encode_group(&encoder, group, &files, &mut |progress| {
                report.encoded += 1;
                progress.stage(Stage::EncodingVideos, report.encoded as u64, total as u64);
            })?;
        }
    }
    work.finish(num_groups, &mut report)?;
    Ok(report)
}

/// The folder and the plan of its contents.
struct Work<'a> {
    folder: &'a Path,
    header: CacheHeader,
    planned: Vec<VideoRecord>,
    progress: &'a mut dyn Progress,
}

impl Work<'_> {
    /// The video numbers of a group.
    fn group(&self, group: usize) -> std::ops::Range<usize> {
        let first = group * self.header.group_videos;
        first..(first + self.header.group_videos).min(self.planned.len())
    }

    fn refuse(&self, path: &Path, difference: &str) -> Error {
        let folder = self.folder.display();
        Error::data(path, format!("{difference}; encode into another folder, or remove {folder} to encode it anew"))
    }

    /// Checks that an existing manifest belongs to this cache.
    fn check_manifest(&self) -> Result<()> {
        if !Manifest::exists(self.folder) {
            return Ok(());
        }
        let found = Manifest::read(self.folder)?;
        let same = found.videos.len() == self.planned.len();
        let difference = found.header.difference(&self.header).or_else(|| {
            (!same).then(|| format!("it holds {} videos, and the data set has {}", found.videos.len(), self.planned.len()))
        });
        difference.map_or(Ok(()), |difference| Err(self.refuse(&self.folder.join(MANIFEST), &difference)))
    }

    /// The finished files of a group, up to the first that is missing.
    fn finished(&mut self, group: usize) -> Result<Vec<ShardHeader>> {
        let (mut found, mut next) = (Vec::<ShardHeader>::new(), self.group(group));
        while found.last().is_none_or(|file| !file.last) {
            let path = self.folder.join(file_name(group, found.len()));
            if !path.is_file() {
                break;
            }
            let Some(file) = ShardHeader::read(&path)? else {
                self.progress.warning(&format!("{}: damaged; it is encoded again", path.display()));
                break;
            };
            if let Some(difference) = file.header.difference(&self.header) {
                return Err(self.refuse(&path, &difference));
            }
            for record in &file.videos {
                let planned = next.next().map(|at| &self.planned[at]);
                if planned.is_none_or(|planned| !record.is_of(planned)) {
                    let wanted =
                        planned.map_or("nothing".into(), |planned| format!("{} ({} bytes)", planned.name, planned.bytes));
                    let what =
                        format!("the data set has changed: it holds {} ({} bytes) where {wanted} is", record.name, record.bytes);
                    return Err(self.refuse(&path, &what));
                }
            }
            if file.last && next.start < next.end {
                return Err(
                    self.refuse(&path, &format!("the data set has changed: it ends before {}", self.planned[next.start].name))
                );
            }
            found.push(file);
        }
        Ok(found)
    }

    /// Encodes the videos of a group that are not in `files`, file by file, and calls `encoded` for every video.
    fn encode_group(
        &mut self,
        encoder: &Encoder,
        group: usize,
        files: &[ShardHeader],
        encoded: &mut dyn FnMut(&mut dyn Progress),
    ) -> Result<()> {
        let numbers = self.group(group);
        let mut part = files.len();
        let start = numbers.start + files.iter().map(|file| file.videos.len()).sum::<usize>();
        let mut first = start;
        self.remove_unfinished(Some(&file_name(group, part)))?;
        let (mut videos, mut stored, mut bytes) = (Vec::new(), Vec::new(), 0);
        for number in start..numbers.end {
            let (record, moments) = match encoder.video(number)? {
                Ok((probe, moments)) => (VideoRecord { video: Some(probe), ..self.planned[number].clone() }, Some(moments)),
                Err(message) => {
                    self.progress.warning(&message);
                    (VideoRecord { error: Some(message), ..self.planned[number].clone() }, None)
                }
            };
            let more = moments.iter().flat_map(|moments| &moments.bytes).map(|bytes| bytes.len() as u64).sum::<u64>();
            if !stored.is_empty() && bytes + more > self.header.file_bytes {
                let full = (std::mem::take(&mut videos), std::mem::take(&mut stored));
                self.write(group, part, first, false, full)?;
                (part, first, bytes) = (part + 1, number, 0);
            }
            bytes += more;
            videos.push(record);
            stored.extend(moments);
            encoded(self.progress);
        }
        self.write(group, part, first, true, (videos, stored))
    }

    fn write(
        &self,
        group: usize,
        part: usize,
        first: usize,
        last: bool,
        (videos, stored): (Vec<VideoRecord>, Vec<StoredVideo>),
    ) -> Result<()> {
        // Paths are left out, so that files with the same contents have the same bytes.
        let header = CacheHeader { root: PathBuf::new(), autoencoder_path: PathBuf::new(), ..self.header.clone() };
        let file = ShardHeader { header, first, last, videos };
        self.place(&file_name(group, part), |path| file.write(path, &stored))
    }

    /// Lets `write` write a file, which appears under its name only when it is complete.
    fn place(&self, name: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let target = self.folder.join(name);
        match write(&target) {
            // Another process finished the cache in the meantime and removed the unfinished files.
            Err(e) if e.is_not_found() && target.is_file() => Ok(()),
            written => written,
        }
    }

    /// Removes the unfinished files that killed processes left, of the file `name` or of all files.
    fn remove_unfinished(&self, name: Option<&str>) -> Result<()> {
        for entry in std::fs::read_dir(self.folder).map_err(Error::io(self.folder))? {
            let path = entry.map_err(Error::io(self.folder))?.path();
            let found = path.file_name().unwrap_or_default().to_string_lossy();
            let is_of = |name: &str| found.starts_with(&format!(".{name}")) && found.ends_with(UNFINISHED);
            // Unfinished files of earlier versions have names with another beginning.
            let is_old = found.trim_start_matches('.').starts_with(UNFINISHED_BEFORE);
            let is_meant = match name {
                Some(name) => is_of(name) || is_old && found.contains(name),
                None => is_of(MANIFEST) || is_of(FILES) || is_old,
            };
            if is_meant {
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&path)(e)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Writes the manifest, if all files exist.
    fn finish(&mut self, num_groups: usize, report: &mut EncodeReport) -> Result<()> {
        let mut videos = Vec::with_capacity(self.planned.len());
        for group in 0..num_groups {
            let files = self.finished(group)?;
            if files.last().is_none_or(|file| !file.last) {
                report.groups_left += 1;
            }
            for (part, file) in files.into_iter().enumerate() {
                let name = |record: &VideoRecord| record.video.is_some().then(|| file_name(group, part));
                videos.extend(file.videos.into_iter().map(|record| VideoRecord { file: name(&record), ..record }));
            }
        }
        if report.groups_left > 0 {
            return Ok(());
        }
        report.unreadable = videos.iter().filter(|record| record.video.is_none()).count();
        let text = Manifest { header: self.header.clone(), videos }.lines()?;
        // The names of the files must be on disk before the manifest that lists them.
        sync(self.folder)?;
        self.place(MANIFEST, |path| Ok(latte_model::weights::write_atomically(path, text.as_bytes())?))?;
        self.remove_unfinished(None)
    }
}

/// Computes the moments of a video.
struct Encoder {
    videos: VideoSource,
    autoencoder: std::sync::Arc<dyn Autoencoder>,
    header: CacheHeader,
}

impl Encoder {
    /// The moments of all frames of a video, or the reason why it cannot be read.
    fn video(&self, number: usize) -> Result<std::result::Result<(Probe, StoredVideo), String>> {
        let mut stored = StoredVideo { frames: 0, bytes: vec![Vec::new(); if self.header.flips { 2 } else { 1 }] };
        let mut failed = None;
        let read = || {
            self.videos.whole(number, RUN, self.header.flips, &mut |flip, pixels| {
                let bytes = &mut stored.bytes[usize::from(flip)];
                self.store(pixels, bytes).map_err(|e| failed.insert(e).to_string())
            })
        };
        let info = catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|_| Err(format!("video number {number} of the data set: the decoder crashed; it is skipped")));
        if let Some(e) = failed {
            return Err(e);
        }
        Ok(info.map(|info| {
            stored.frames = info.num_frames;
            (Probe::of(&info), stored)
        }))
    }

    /// Appends the moments of frames `[n, 3, h, w]`.
    fn store(&self, pixels: Vec<f32>, bytes: &mut Vec<u8>) -> Result<()> {
        let moments = moments(self.autoencoder.as_ref(), pixels, self.header.size)?;
        let count = moments.len();
        Ok(Tensor::from_vec(moments, count, &Device::Cpu)?.to_dtype(self.header.dtype.tensor())?.write_bytes(bytes)?)
    }
}
