//! The clips of a set: selection by a protocol, and their pixels.

use std::collections::BTreeMap;
use std::path::PathBuf;

use latte_video::dataset::{Dataset, Item, Location, MediaLocation};
use latte_video::{Clip, Decoder, Video};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::framing::{Framing, Rounding, framed};
use crate::metric::NumpyRandom;
use crate::protocol::{Choice, LengthRule, Protocol, Sampling, ShortVideos, StartRule};
use crate::{Error, Result};

/// Number of videos that are opened in parallel.
const TOGETHER: usize = 64;

/// The description of a set of clips, which is part of every result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetReport {
    /// The location of the set.
    pub path: PathBuf,
    /// Number of videos found.
    pub videos: usize,
    /// What was skipped while listing the videos, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<String>,
    /// Number of videos that were left out because they are too short.
    pub too_short: usize,
    /// Videos and clips that could not be read, with the reasons.
    pub unreadable: Vec<String>,
    /// Number of clips with features.
    pub clips: usize,
    /// Number of frames of a clip.
    pub frames: usize,
    /// Distance of a clip's frames in the video, in frames; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// How the clips were selected and framed; absent if unknown.
    #[serde(rename = "taken", default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<ClipSelection>,
    /// Height and width of the frames given to the detector; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_size: Option<[usize; 2]>,
    /// The decoder of the first video: decoders may differ in the last bit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<String>,
    /// SHA-256 of the names and contents of the clips and of the preparation of their frames, in hexadecimal; empty if unknown.
    pub content: String,
}

/// How clips were selected from the videos, and how their frames were brought to one size and rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipSelection {
    /// Where clips start.
    pub start: StartRule,
    /// Maximum number of clips; `None` for all.
    pub most: Option<usize>,
    /// Which clips are taken if there are more.
    pub choice: Choice,
    /// The seed of the choice and of random starts.
    pub seed: u64,
    /// The minimum length of a video.
    #[serde(rename = "room")]
    pub length_rule: LengthRule,
    /// How frames were brought to one size; `None`: the size was not changed.
    pub framing: Option<Framing>,
    /// How pixel values were rounded to bytes.
    pub rounding: Rounding,
}

impl ClipSelection {
    /// The selection of `protocol` for sets with `sampling`.
    pub fn by(protocol: &Protocol, sampling: &Sampling) -> Self {
        let Sampling { start, most, choice, length_rule, rounding, stride: _, short: _ } = *sampling;
        Self { start, most, choice, seed: protocol.seed, length_rule, framing: protocol.framing, rounding }
    }
}

/// Clips that can be read in any order, several at a time.
#[expect(clippy::len_without_is_empty, reason = "there is at least one clip")]
pub trait ClipList: Sync {
    /// The description of the set.
    fn report(&self) -> &SetReport;

    /// Number of clips, at least one.
    fn len(&self) -> usize;

    /// The unique name of a clip.
    fn name(&self, index: usize) -> String;

    /// Reads the clips of `range`, in order; an error says why one cannot be read.
    fn read(&self, range: std::ops::Range<usize>) -> Vec<std::result::Result<Clip, String>>;
}

/// Clips of videos on disk.
#[derive(Debug)]
pub struct ClipSet {
    report: SetReport,
    videos: Vec<Entry>,
    /// Video index and start frame of each clip.
    clips: Vec<(usize, usize)>,
    stride: usize,
    framing: Option<Framing>,
    rounding: Rounding,
    decoder: Decoder,
}

/// A video from which clips are taken.
#[derive(Debug)]
struct Entry {
    name: String,
    place: MediaLocation,
    caption: Option<String>,
    frames: usize,
    size: [usize; 2],
    content: String,
    decoder: &'static str,
    is_jpeg: bool,
}

/// The result of opening a video.
enum Found {
    Good(Entry),
    /// A video that is too short: its name and number of frames.
    Short(String, usize),
    Unreadable(String),
}

impl ClipSet {
    /// Opens the videos at `location` and selects clips by `sampling`. Messages begin with `role` (`real`, `generated`).
    ///
    /// # Errors
    ///
    /// If there is no video, none gives a clip, one is too short and the protocol refuses that, or frames differ in size and the
    /// protocol does not resize them.
    pub fn open(location: &Location, sampling: &Sampling, protocol: &Protocol, decoder: Decoder, role: &str) -> Result<Self> {
        let (Dataset { items, .. }, skipped) = location.list()?;
        let mut report = SetReport {
            path: location.path.clone(),
            videos: items.len(),
            passed_over: skipped.summary(),
            too_short: 0,
            unreadable: Vec::new(),
            clips: 0,
            frames: protocol.frames,
            stride: Some(sampling.stride),
            selection: Some(ClipSelection::by(protocol, sampling)),
            frame_size: None,
            decoder: None,
            content: String::new(),
        };
        let subject = format!("{role} set {}", location.path.display());
        let covered = (protocol.frames - 1) * sampling.stride + 1;
        let needed = sampling.length_rule.frames(protocol.frames, sampling.stride);
        let mut videos = choose(
            items,
            sampling,
            protocol.seed,
            |item| look(item, needed, decoder),
            |found| match found {
                Found::Good(_) => Ok(()),
                Found::Short(..) if sampling.short == ShortVideos::LeftOut => {
                    report.too_short += 1;
                    Ok(())
                }
                Found::Short(name, frames) => {
                    let what = format!(
                        "{name} has {frames} frames, and a clip ({} frames, {} apart) needs {needed}; make longer ones, or take clips of fewer frames",
                        protocol.frames, sampling.stride
                    );
                    Err(Error::refused(&subject, what))
                }
                Found::Unreadable(why) => {
                    report.unreadable.push(why.clone());
                    Ok(())
                }
            },
        )?;
        videos.sort_by(|a, b| a.name.cmp(&b.name));
        let clips = starts(&videos, sampling, protocol, covered);
        if clips.is_empty() {
            let what = format!(
                "none of its {} videos gives a clip of {} frames, {} apart ({} are too short, {} cannot be read{})",
                report.videos,
                protocol.frames,
                sampling.stride,
                report.too_short,
                report.unreadable.len(),
                report.unreadable.first().map_or(String::new(), |why| format!(": {why}"))
            );
            return Err(Error::refused(subject, what));
        }
        let in_jpeg = protocol.framing.is_some_and(|framing| framing.transform.is_jpeg());
        if let Some(video) = videos.iter().find(|video| in_jpeg && video.is_jpeg) {
            let what = format!(
                "{} is of JPEG files, and `{}` puts the frames of videos through such files: they would be in two. Give the videos \
                 themselves, or take the protocol that leaves frames as they are",
                video.name, protocol.name
            );
            return Err(Error::refused(subject, what));
        }
        report.frame_size = Some(match protocol.framing {
            Some(framing) => framing.size,
            None => one_size(&videos, &subject)?,
        });
        report.clips = clips.len();
        report.decoder = videos.first().map(|video| video.decoder.to_string());
        let mut digest = Sha256::new();
        for &(video, start) in &clips {
            digest.update(format!("{}\n{}\n{start}\n", videos[video].name, videos[video].content));
        }
        // The preparation of the pixels is part of the hash.
        if protocol.framing.is_some() || sampling.rounding != Rounding::Nearest {
            digest.update(format!("{:?}\n{:?}\n", protocol.framing, sampling.rounding));
        }
        report.content = latte_weights::hexadecimal(&digest.finalize());
        let Sampling { stride, rounding, .. } = *sampling;
        Ok(Self { report, videos, clips, stride, framing: protocol.framing, rounding, decoder })
    }

    fn indices(&self, start: usize) -> Vec<usize> {
        (0..self.report.frames).map(|i| start + i * self.stride).collect()
    }

    /// For each video: its name, its caption if there is one, and the number of its clips.
    pub fn captions(&self) -> Vec<(&str, Option<&str>, usize)> {
        let mut captions: Vec<(&str, Option<&str>, usize)> =
            self.videos.iter().map(|video| (video.name.as_str(), video.caption.as_deref(), 0)).collect();
        self.clips.iter().for_each(|(video, _)| captions[*video].2 += 1);
        captions
    }

    /// The clips of one video that start at `starts`; each frame is decoded once.
    fn of_video(&self, video: usize, starts: &[usize]) -> Vec<std::result::Result<Clip, String>> {
        let entry = &self.videos[video];
        let read = || -> latte_video::Result<Vec<Clip>> {
            let mut wanted: Vec<usize> = starts.iter().flat_map(|&start| self.indices(start)).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let decoded = Video::open_media(&entry.place, self.decoder)?.frames(&wanted)?;
            let [_, height, width, _] = decoded.shape();
            let cut = |start: &usize| {
                let of = |index: &usize| decoded.frame(wanted.binary_search(index).unwrap_or_default());
                let pixels = self.indices(*start).iter().flat_map(|index| of(index).iter().copied()).collect();
                let clip = Clip::new(pixels, [self.report.frames, height, width, 3], decoded.fps())?;
                framed(clip, self.framing, self.rounding)
            };
            starts.iter().map(cut).collect()
        };
        match read() {
            Ok(clips) => clips.into_iter().map(Ok).collect(),
            Err(e) => starts.iter().map(|start| Err(format!("{}, frame {start}: {e}", entry.name))).collect(),
        }
    }
}

impl ClipList for ClipSet {
    fn report(&self) -> &SetReport {
        &self.report
    }

    fn len(&self) -> usize {
        self.clips.len()
    }

    fn name(&self, index: usize) -> String {
        let (video, start) = self.clips[index];
        format!("{}@{start}", self.videos[video].name)
    }

    fn read(&self, range: std::ops::Range<usize>) -> Vec<std::result::Result<Clip, String>> {
        // Clips of one video are adjacent.
        let mut runs: Vec<(usize, Vec<usize>)> = Vec::new();
        for &(video, start) in &self.clips[range] {
            match runs.last_mut() {
                Some((last, starts)) if *last == video && starts.len() < TOGETHER => starts.push(start),
                _ => runs.push((video, vec![start])),
            }
        }
        runs.par_iter().flat_map_iter(|(video, starts)| self.of_video(*video, starts)).collect()
    }
}

/// Opens videos in an order that does not depend on the order of the list, until there are enough.
fn choose(
    mut items: Vec<Item>,
    sampling: &Sampling,
    seed: u64,
    look: impl Fn(&Item) -> Found + Sync,
    mut hear: impl FnMut(&Found) -> Result<()>,
) -> Result<Vec<Entry>> {
    items.sort_by(|a, b| a.name.cmp(&b.name));
    let order = match sampling.choice {
        Choice::First => (0..items.len()).collect(),
        Choice::Random => NumpyRandom::new(seed as u32).permutation(items.len()),
    };
    // If one video gives many clips, the selection is made among clips instead.
    let most =
        if matches!(sampling.start, StartRule::Every | StartRule::Anywhere) { None } else { sampling.most }.unwrap_or(usize::MAX);
    let mut videos = Vec::new();
    for numbers in order.chunks(TOGETHER) {
        let found: Vec<Found> = numbers.par_iter().map(|&number| look(&items[number])).collect();
        for found in found {
            if videos.len() == most {
                return Ok(videos);
            }
            hear(&found)?;
            if let Found::Good(entry) = found {
                videos.push(entry);
            }
        }
    }
    Ok(videos)
}

fn look(item: &Item, needed: usize, decoder: Decoder) -> Found {
    let look = || -> latte_video::Result<Found> {
        let video = Video::open_media(&item.place, decoder)?;
        let info = video.info();
        if info.num_frames < needed {
            return Ok(Found::Short(item.name.clone(), info.num_frames));
        }
        Ok(Found::Good(Entry {
            name: item.name.clone(),
            place: item.place.clone(),
            caption: item.caption.clone().or_else(|| caption_beside(&item.place)),
            frames: info.num_frames,
            size: [info.height, info.width],
            content: item.place.content_hash()?,
            decoder: info.decoder,
            is_jpeg: info.codec == "jpeg",
        }))
    };
    look().unwrap_or_else(|e| Found::Unreadable(e.to_string()))
}

/// The prompt in the `.json` file beside a video, which this program writes for text-to-video clips.
fn caption_beside(place: &MediaLocation) -> Option<String> {
    let MediaLocation::Path(path) = place else { return None };
    let text = latte_textfile::read(&path.with_extension("json")).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    let prompt = value.get("prompt").or_else(|| value.get("settings")?.get("prompt"))?;
    Some(prompt.as_str()?.to_string())
}

/// The start frames of the clips, video by video.
fn starts(videos: &[Entry], sampling: &Sampling, protocol: &Protocol, covered: usize) -> Vec<(usize, usize)> {
    let mut clips = Vec::new();
    for (number, video) in videos.iter().enumerate() {
        let last = video.frames - covered;
        match sampling.start {
            StartRule::First => clips.push((number, 0)),
            StartRule::Random => clips.push((number, random_start(&video.name, protocol.seed, last))),
            StartRule::Anywhere => clips.extend((0..=last).map(|start| (number, start))),
            StartRule::Every => clips.extend((0..=last).step_by(protocol.frames * sampling.stride).map(|start| (number, start))),
        }
    }
    if let Some(most) = sampling.most.filter(|most| *most < clips.len()) {
        let chosen = match sampling.choice {
            Choice::First => (0..most).collect(),
            Choice::Random => {
                let mut chosen = NumpyRandom::new(protocol.seed as u32).choice(clips.len(), most);
                chosen.sort_unstable();
                chosen
            }
        };
        clips = chosen.into_iter().map(|number| clips[number]).collect();
    }
    clips
}

/// A random start from 0 to `last`, which depends on the seed and the video's name only, not on the other videos.
fn random_start(name: &str, seed: u64, last: usize) -> usize {
    let digest = Sha256::digest(format!("{seed}\n{name}"));
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    (number % (last as u64 + 1)) as usize
}

fn one_size(videos: &[Entry], subject: &str) -> Result<[usize; 2]> {
    let mut sizes: BTreeMap<[usize; 2], &str> = BTreeMap::new();
    for video in videos {
        sizes.entry(video.size).or_insert(&video.name);
    }
    let mut sizes = sizes.into_iter();
    match (sizes.next(), sizes.next()) {
        (Some((one, first)), Some((other, second))) => {
            let what = format!(
                "frames differ in size: {first} has {} × {}, {second} {} × {}; give one size that all are brought to",
                one[1], one[0], other[1], other[0]
            );
            Err(Error::refused(subject, what))
        }
        (first, _) => Ok(first.map_or([0; 2], |(size, _)| size)),
    }
}

/// Clips in memory.
#[derive(Debug)]
pub struct ClipsInMemory {
    report: SetReport,
    clips: Vec<Clip>,
}

impl ClipsInMemory {
    /// Clips generated by `source`, in order.
    ///
    /// # Errors
    ///
    /// If there is no clip, or shapes differ.
    pub fn new(source: &str, clips: Vec<Clip>) -> Result<Self> {
        let Some(shape) = clips.first().map(Clip::shape) else {
            return Err(Error::refused(source, "no clips; there is nothing to score"));
        };
        if let Some(other) = clips.iter().find(|clip| clip.shape() != shape) {
            let what = format!("clips differ in shape: {shape:?} and {:?}; all must have one", other.shape());
            return Err(Error::refused(source, what));
        }
        let mut digest = Sha256::new();
        for clip in &clips {
            digest.update(clip.pixels());
        }
        let report = SetReport {
            path: PathBuf::from(source),
            videos: clips.len(),
            passed_over: None,
            too_short: 0,
            unreadable: Vec::new(),
            clips: clips.len(),
            frames: shape[0],
            stride: None,
            selection: None,
            frame_size: Some([shape[1], shape[2]]),
            decoder: None,
            content: latte_weights::hexadecimal(&digest.finalize()),
        };
        Ok(Self { report, clips })
    }
}

impl ClipsInMemory {
    /// All frames, each as a clip of one frame.
    ///
    /// # Errors
    ///
    /// Those of [`ClipsInMemory::new`].
    pub fn frames(&self) -> Result<Self> {
        let frame = |clip: &Clip, index: usize| {
            let [_, height, width, channels] = clip.shape();
            Clip::new(clip.frame(index).to_vec(), [1, height, width, channels], clip.fps())
        };
        let frames = self.clips.iter().flat_map(|clip| (0..clip.num_frames()).map(move |index| frame(clip, index)));
        Self::new(&self.report.path.display().to_string(), frames.collect::<latte_video::Result<_>>()?)
    }
}

impl ClipList for ClipsInMemory {
    fn report(&self) -> &SetReport {
        &self.report
    }

    fn len(&self) -> usize {
        self.clips.len()
    }

    fn name(&self, index: usize) -> String {
        format!("{index}")
    }

    fn read(&self, range: std::ops::Range<usize>) -> Vec<std::result::Result<Clip, String>> {
        self.clips[range].iter().cloned().map(Ok).collect()
    }
}
