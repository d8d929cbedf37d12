//! The built-in decoder: mp4 and Matroska files with H.264, H.265 or VP9, in pure Rust or through the system's libavcodec.
//!
//! A container becomes a [`Track`]: the location of each coded picture, its presentation time, and whether decoding can begin
//! there. [`BuiltIn::frames`] feeds the pictures from the last key frame on to the codec and keeps the requested ones.

mod bounded;
mod boxes;
mod fault;
mod fragments;
mod h264;
mod h265;
mod libav;
mod matroska;
mod mp4;
mod nal;
mod picture;
mod random_access;
mod role;
mod sample_table;
mod vp9;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fault::Fault;
use picture::{Picture, Sink};
use random_access::{Beginning, keys_before};
use role::Role;

use crate::byte_range::{ByteRange, Window};
use crate::colour::Colour;
use crate::info::is_variable;
use crate::orientation::Orientation;
use crate::{Error, Result, VideoInfo, panic_guard};

/// A coded picture in the file.
#[derive(Debug, Clone)]
struct Sample {
    offset: u64,
    size: u64,
    /// Presentation time in the track's units.
    time: i64,
    /// Decoding can begin here.
    is_key: bool,
    /// It is shown: no edit list hides it, and it can be decoded.
    is_shown: bool,
}

impl Sample {
    fn lies_within(&self, file_len: u64) -> bool {
        self.offset.checked_add(self.size).is_some_and(|end| end <= file_len)
    }
}

#[derive(Debug, Clone)]
enum Codec {
    H264(h264::Config),
    H265(h265::Config),
    Vp9,
}

/// The video track of a file.
#[derive(Debug)]
struct Track {
    container: &'static str,
    codec: Codec,
    /// In decoding order.
    samples: Vec<Sample>,
    /// Units of `Sample::time` per second.
    units_per_second: f64,
    /// The frame rate stated by the container.
    fps: Option<f64>,
    /// Maximum rounding error of the times, in their units.
    time_tolerance: f64,
    orientation: Orientation,
    /// The colour description of the container.
    colour: Colour,
    /// Bytes that the container removed from the start of each sample.
    sample_prefix: Vec<u8>,
}

/// The implementation of the codecs. Containers are read the same way with both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The Rust crates that this crate depends on: safe code, nothing to install.
    Rust,
    /// The system's libavcodec: the same pixels in less time. The Rust decoders are used for codecs that it does not support, and
    /// for H.264 from the key frame of an open group on: later pictures mark earlier references as unused that are missing, which
    /// libavcodec treats as damage.
    Libav,
}

/// A file opened by the built-in decoder.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    engine: Engine,
    byte_range: ByteRange,
    track: Track,
    /// The samples that are shown, in presentation order.
    order: Vec<usize>,
    /// Where decoding begins.
    beginning: Beginning,
    /// For each sample, the key frame at which its decoding begins.
    keys: Vec<usize>,
    info: VideoInfo,
    /// Size of the stored frames, before rotation.
    stored: [usize; 2],
    decoded: AtomicU64,
}

/// Maximum number of pixels of a frame: 16384 × 8192, above the largest level of any supported codec.
const MAX_PIXELS: usize = 1 << 27;

/// Maximum ratio of the coded bytes to the length of the file.
const MAX_REUSE: u64 = 64;

impl BuiltIn {
    pub(crate) fn open(byte_range: ByteRange, engine: Engine) -> Result<Self> {
        let path = &byte_range.path;
        let mut track = match sniff(&byte_range)? {
            Container::Mp4 => mp4::open(&byte_range)?,
            Container::Matroska => matroska::open(&byte_range)?,
        };
        if track.samples.is_empty() {
            return Err(Error::not_video(path, "the video track holds no frame"));
        }
        let mut file = byte_range.open()?;
        let file_len = file.len();
        let coded = track.samples.iter().filter(|s| s.lies_within(file_len)).fold(0_u64, |sum, s| sum.saturating_add(s.size));
        // Some files list a picture repeatedly. Without a limit, a small file would keep a decoder busy for days.
        if coded > file_len.saturating_mul(MAX_REUSE) {
            let what = format!("its index lists {coded} bytes of pictures, the file has {file_len}");
            return Err(Error::damaged(path, what));
        }
        let beginning = random_access::settle(path, &track.codec, &mut track.samples, |sample| {
            read_sample(path, &mut file, sample, &track.sample_prefix)
        })?;
        let mut order: Vec<usize> = (0..track.samples.len()).filter(|&s| track.samples[s].is_shown).collect();
        // A stable sort: pictures with the same time stay in decoding order.
        order.sort_by_key(|&s| track.samples[s].time);
        if order.is_empty() {
            return Err(Error::not_video(path, "the video track holds no frame"));
        }
        let times: Vec<f64> = order.iter().map(|&s| track.samples[s].time as f64).collect();
        let variable = is_variable(&times, track.time_tolerance);
        let length = (times[times.len() - 1] - times[0]) / track.units_per_second;
        let average = (times.len() - 1) as f64 / length;
        let fps = match track.fps {
            Some(fps) if fps.is_finite() && fps > 0.0 && (!variable || !average.is_finite()) => fps,
            _ if average.is_finite() && average > 0.0 => average,
            _ => 25.0,
        };
        let mut this = Self {
            engine,
            order,
            beginning,
            keys: keys_before(&track.samples, beginning.sample),
            info: VideoInfo {
                path: path.clone(),
                container: track.container.into(),
                codec: track.codec.name().into(),
                width: 0,
                height: 0,
                rotation: track.orientation.rotation(),
                fps,
                num_frames: times.len(),
                duration: length + 1.0 / fps,
                variable_frame_rate: variable,
                decoder: match engine {
                    Engine::Rust => "built in",
                    Engine::Libav => "libavcodec",
                },
            },
            track,
            byte_range,
            stored: [0, 0],
            decoded: AtomicU64::new(0),
        };
        this.measure()?;
        Ok(this)
    }

    pub(crate) fn info(&self) -> &VideoInfo {
        &self.info
    }

    pub(crate) fn pictures_decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Finds the frame size: from the parameter sets if there are any, else by decoding the first frame.
    fn measure(&mut self) -> Result<()> {
        let size = match &self.track.codec {
            Codec::H264(config) => config.size(),
            Codec::H265(config) => config.size(),
            Codec::Vp9 => None,
        };
        self.stored = if let Some(size) = size {
            size
        } else {
            let mut size = [0, 0];
            self.decode(&self.order[..1], |_, picture, _| {
                size = [picture.width, picture.height];
                Ok(())
            })?;
            size
        };
        let [width, height] = self.stored;
        if width == 0 || height == 0 || width.saturating_mul(height) > MAX_PIXELS {
            return Err(Error::damaged(&self.info.path, format!("frames of {width} × {height} pixels are not possible")));
        }
        [self.info.width, self.info.height] = self.track.orientation.size(self.stored);
        Ok(())
    }

    /// RGB pixels of the frames `indices` (ascending, no repeats), in order.
    pub(crate) fn frames(&self, indices: &[usize]) -> Result<Vec<u8>> {
        let wanted: Vec<usize> = indices.iter().map(|&i| self.order[i]).collect();
        let frame_len = self.info.width * self.info.height * 3;
        let place: BTreeMap<usize, usize> = wanted.iter().enumerate().map(|(place, &sample)| (sample, place)).collect();
        let mut pixels = vec![0; wanted.len() * frame_len];
        let mut stored = vec![0; frame_len];
        self.decode(&wanted, |sample, picture, colour| {
            let [width, height] = self.stored;
            if [picture.width, picture.height] != self.stored {
                let what = format!(
                    "the frame size changes from {width} × {height} to {} × {} within the video; convert it with ffmpeg first",
                    picture.width, picture.height
                );
                return Err(Error::unsupported(&self.info.path, what));
            }
            let out = &mut pixels[place[&sample] * frame_len..][..frame_len];
            if self.track.orientation.is_upright() {
                picture.write_rgb(colour, out);
            } else {
                picture.write_rgb(colour, &mut stored);
                self.track.orientation.apply(&stored, self.stored, out);
            }
            Ok(())
        })?;
        Ok(pixels)
    }

    /// Whether any picture lies beyond the end of the file.
    pub(crate) fn is_cut_off(&self) -> Result<bool> {
        let len = self.byte_range.open()?.len();
        Ok(!self.track.samples.iter().all(|sample| sample.lies_within(len)))
    }

    /// Decodes the samples `wanted` and passes each to `take` once.
    fn decode(&self, wanted: &[usize], mut take: impl FnMut(usize, &Picture, Colour) -> Result<()>) -> Result<()> {
        let mut file = self.byte_range.open()?;
        // One run per key frame, so that the frames between two distant wanted frames are not decoded.
        let mut runs: BTreeMap<usize, (Beginning, BTreeSet<usize>)> = BTreeMap::new();
        let mut known = BTreeMap::new();
        for &sample in wanted {
            let beginning = self.beginning_for(sample, &mut known, &mut file)?;
            runs.entry(beginning.sample).or_insert_with(|| (beginning, BTreeSet::new())).1.insert(sample);
        }
        for (start, run) in runs.into_values() {
            self.decode_group(start, run, &mut file, &mut |sample, picture, colour| {
                take(sample, picture, self.track.colour.overridden_by(colour))
            })?;
        }
        Ok(())
    }

    /// The key frame at which decoding of `sample` begins: the last one before it at which the bitstream allows that. In streams
    /// with periodic intra refresh, containers also mark pictures as key frames at which only the refresh begins.
    fn beginning_for(&self, sample: usize, known: &mut BTreeMap<usize, Beginning>, file: &mut Window<File>) -> Result<Beginning> {
        let (mut key, mut passed) = (self.keys[sample], Vec::new());
        let found = loop {
            if let Some(&found) = known.get(&key) {
                break found;
            }
            if key <= self.beginning.sample {
                break self.beginning;
            }
            // Codecs without open groups, and those whose decoders skip the leading pictures themselves.
            let role = match &self.track.codec {
                Codec::H264(_) => self.track.codec.role(&self.read(file, key)?),
                Codec::H265(_) | Codec::Vp9 => Role::Closed,
            };
            if matches!(role, Role::Closed | Role::Open) {
                break Beginning::at(key, role);
            }
            passed.push(key);
            // The previous key frame that is not shown after the sample.
            key = self.keys[key - 1];
            while key > self.beginning.sample && self.track.samples[key].time > self.track.samples[sample].time {
                key = self.keys[key - 1];
            }
        };
        passed.push(self.keys[sample]);
        known.extend(passed.into_iter().map(|key| (key, found)));
        Ok(found)
    }

    /// Decodes the samples `left` from `start` on.
    fn decode_group(
        &self,
        start: Beginning,
        mut left: BTreeSet<usize>,
        file: &mut Window<File>,
        take: &mut dyn FnMut(usize, &Picture, Colour) -> Result<()>,
    ) -> Result<()> {
        let mut attempt = |engine: Engine, from: Beginning| {
            let run = left.clone();
            self.decode_run(engine, from, &run, file, &mut |sample, picture, colour| {
                left.remove(&sample);
                take(sample, picture, colour)
            })
        };
        // Pictures after an open key frame mark missing references as unused, which is valid, but libavcodec treats it as damage.
        // During a gradual refresh, pictures refer to missing ones, which the Rust decoder treats as damage.
        let is_open = matches!(start.role, Role::Open | Role::Intra) && matches!(self.track.codec, Codec::H264(_));
        let first = if is_open { Engine::Rust } else { self.engine };
        let mut result = attempt(first, start);
        if self.engine == Engine::Libav && matches!(result, Err(Error::Unsupported { .. })) {
            // Only an unsupported feature may switch the engine.
            let (other, from) = if is_open { (Engine::Libav, self.beginning) } else { (Engine::Rust, start) };
            result = attempt(other, from).or(result);
        }
        // Parameter sets may lie before the key frame.
        if start.sample > self.beginning.sample && result.is_err() {
            result = attempt(first, self.beginning).or(result);
        }
        result
    }

    /// Decodes the samples `run`, which must not be empty, from `start` on.
    fn decode_run(
        &self,
        engine: Engine,
        start: Beginning,
        run: &BTreeSet<usize>,
        file: &mut Window<File>,
        hand_over: &mut dyn FnMut(usize, &Picture, Colour) -> Result<()>,
    ) -> Result<()> {
        let path = &self.info.path;
        let mut left = run.clone();
        let mut give = |sink: &mut Sink| -> Result<()> {
            sink.take().into_iter().try_for_each(|(sample, picture, colour)| {
                left.remove(&sample);
                hand_over(sample, &picture, colour)
            })
        };
        let mut sink = Sink::new(run.clone());
        let mut codec = self.track.codec.decoder(engine, self.max_pixels()).map_err(|fault| fault.of(path))?;
        let is_open = start.role != Role::Closed && matches!(self.track.codec, Codec::H264(_));
        if is_open {
            codec.tolerate_missing_references(true).map_err(|fault| fault.of(path))?;
        }
        let whole_time = self.track.samples[start.whole].time;
        for index in start.sample..=run.last().copied().unwrap_or(start.sample) {
            let data = self.read(file, index)?;
            if !sink.wants(index) && self.track.codec.is_disposable(&data) {
                continue;
            }
            self.decoded.fetch_add(1, Ordering::Relaxed);
            let pushed = panic_guard::run(|| codec.push(&data, index, &mut sink));
            // Pictures before the first complete one are decoded only because others refer to them: their own references may be
            // missing.
            if !(is_open && self.track.samples[index].time < whole_time) {
                pushed.map_err(|fault| fault.at(&format!("coded picture {index}")).of(path))?;
            }
            if index == start.whole && start.whole > start.sample {
                codec.tolerate_missing_references(false).map_err(|fault| fault.of(path))?;
            }
            give(&mut sink)?;
        }
        panic_guard::run(|| codec.finish(&mut sink)).map_err(|fault| fault.of(path))?;
        give(&mut sink)?;
        if let Some(missing) = left.first() {
            let frame = self.order.iter().position(|s| s == missing).unwrap_or_default();
            return Err(Error::damaged(path, format!("the decoder gave no picture for frame {frame}")));
        }
        Ok(())
    }

    /// Maximum number of pixels of a coded picture. Cropping usually removes little, so much larger pictures cannot be frames of
    /// this video, whatever a parameter set says.
    fn max_pixels(&self) -> usize {
        match self.stored {
            [0, 0] => MAX_PIXELS,
            [width, height] => MAX_PIXELS.min((4 * width * height).max(1 << 22)),
        }
    }

    fn read(&self, file: &mut Window<File>, index: usize) -> Result<Vec<u8>> {
        read_sample(&self.info.path, file, &self.track.samples[index], &self.track.sample_prefix)
    }
}

/// The data of a sample, including the bytes that the container removed.
fn read_sample(path: &Path, file: &mut Window<File>, sample: &Sample, prefix: &[u8]) -> Result<Vec<u8>> {
    let file_len = file.len();
    if !sample.lies_within(file_len) {
        let what = format!("a coded picture should lie at byte {}, the file has {file_len}", sample.offset);
        return Err(Error::damaged(path, what));
    }
    let mut data = prefix.to_vec();
    file.seek(SeekFrom::Start(sample.offset)).map_err(|e| Error::io(path, e))?;
    file.take(sample.size).read_to_end(&mut data).map_err(|e| Error::io(path, e))?;
    Ok(data)
}

/// A decoder of one codec. Errors are messages; the caller catches panics.
trait PictureDecoder {
    /// Decodes the coded picture `index`, and outputs the pictures that are complete.
    fn push(&mut self, data: &[u8], index: usize, sink: &mut Sink) -> Result<(), Fault>;

    /// Sets whether pictures may refer to others before the first.
    fn tolerate_missing_references(&mut self, _tolerate: bool) -> Result<(), Fault> {
        Ok(())
    }

    /// Outputs the remaining pictures.
    fn finish(&mut self, sink: &mut Sink) -> Result<(), Fault>;
}

impl Codec {
    fn name(&self) -> &'static str {
        match self {
            Self::H264(_) => "h264",
            Self::H265(_) => "hevc",
            Self::Vp9 => "vp9",
        }
    }

    /// Whether no other picture refers to this one, as far as the codec states it.
    fn is_disposable(&self, sample: &[u8]) -> bool {
        match self {
            Self::H264(config) => config.is_disposable(sample),
            Self::H265(_) | Self::Vp9 => false,
        }
    }

    /// `max_pixels` bounds the memory that a damaged stream can make libavcodec allocate.
    fn decoder(&self, engine: Engine, max_pixels: usize) -> Result<Box<dyn PictureDecoder>, Fault> {
        Ok(match (engine, self) {
            (Engine::Libav, _) => Box::new(libav::Decoder::new(self.clone(), max_pixels)?),
            (Engine::Rust, Self::H264(config)) => Box::new(h264::Decoder::new(config.clone())),
            (Engine::Rust, Self::H265(config)) => Box::new(h265::Decoder::new(config.clone())),
            (Engine::Rust, Self::Vp9) => Box::new(vp9::Decoder::new()),
        })
    }
}

enum Container {
    Mp4,
    Matroska,
}

fn sniff(byte_range: &ByteRange) -> Result<Container> {
    let path = &byte_range.path;
    let mut head = Vec::new();
    let file = byte_range.open()?;
    if file.len() == 0 {
        return Err(Error::not_video(path, "the file is empty"));
    }
    file.take(12).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
    if mp4::is_mp4(&head) {
        Ok(Container::Mp4)
    } else if head.starts_with(&[0x1A, 0x45, 0xDF, 0xA3]) {
        Ok(Container::Matroska)
    } else if head.starts_with(&[0, 0, 1]) || head.starts_with(&[0, 0, 0, 1]) {
        let what = "it seems to be a stream of H.264, H.265 or MPEG without a container, which does not say when its pictures are \
                    shown: put it into one first (`ffmpeg -i FILE -c copy FILE.mp4`)";
        Err(Error::not_video(path, what))
    } else {
        let hint = if crate::ffmpeg::is_available() { "" } else { "; install ffmpeg to read more formats" };
        Err(Error::not_video(path, format!("the built-in decoder reads mp4, mov, mkv and webm files{hint}")))
    }
}
