//! Writes mp4 files with H.264.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use muxide::api::{MuxerBuilder, VideoCodec};
use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile, QpRange, RateControlMode, VuiConfig,
};
use openh264::formats::YUVSlices;

use super::write_atomically;
use crate::colour::Yuv420;
use crate::{Clip, Error, Result, ffmpeg};

/// Options for writing an mp4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mp4Options {
    /// Encode with `ffmpeg -c:v libx264 -crf 5`, as the official samples were. It is an error if ffmpeg is not found.
    pub use_ffmpeg: bool,
    /// The quantiser of the built-in encoder, from 12 (best, the default: visually lossless) to 51.
    pub quantiser: u8,
}

impl Default for Mp4Options {
    fn default() -> Self {
        Self { use_ffmpeg: false, quantiser: MIN_QUANTISER }
    }
}

/// The minimum of openh264 in this mode.
const MIN_QUANTISER: u8 = 12;
/// The maximum of H.264.
const MAX_QUANTISER: u8 = 51;
/// Increase of the quantiser per further attempt. An increase by 6 doubles the quantisation step.
const COARSER: usize = 3;

/// Maximum distance of key frames; a seek decodes at most this many frames.
const KEY_FRAME_INTERVAL: u32 = 60;

/// Writes `clip` as mp4: H.264 High, 4:2:0, BT.601 limited range (recorded in the stream), which every browser plays.
///
/// H.264 in 4:2:0 has even sizes only: an odd width or height is padded by repeating the last column or row.
///
/// Frames of some clips, mostly noise, overflow the buffer of the built-in encoder at a fine quantiser. Such a clip is encoded
/// again with coarser quantisers until it fits. Returns the quantiser that was used if it differs from the requested one.
///
/// # Errors
///
/// If the file cannot be written, the clip is smaller than 16 × 16 or too large for H.264, or ffmpeg is requested and missing.
pub fn write_mp4(path: impl AsRef<Path>, clip: &Clip, options: &Mp4Options) -> Result<Option<u8>> {
    let path = path.as_ref();
    let even = Even::new(clip);
    if options.use_ffmpeg {
        return write_with_ffmpeg(path, clip, &even).map(|()| None);
    }
    if !(MIN_QUANTISER..=MAX_QUANTISER).contains(&options.quantiser) {
        let what = format!("the quantiser goes from {MIN_QUANTISER} to {MAX_QUANTISER}, got {}", options.quantiser);
        return Err(Error::format(path, what));
    }
    let (bytes, quantiser) = encode(path, clip, &even, options.quantiser)?;
    write_atomically(path, &bytes)?;
    Ok((quantiser != options.quantiser).then_some(quantiser))
}

/// Encodes with the finest quantiser, from `finest` on, at which every frame fits the encoder's buffer; also returns that
/// quantiser.
fn encode(path: &Path, clip: &Clip, even: &Even, finest: u8) -> Result<(Vec<u8>, u8)> {
    const INSTEAD: &str = "png frames and gif have no such limit";
    if even.width < 16 || even.height < 16 {
        let size = format!("{} × {}", clip.width(), clip.height());
        let what = format!("H.264 needs at least 16 × 16 pixels, the clip has {size}; enlarge it: {INSTEAD}");
        return Err(Error::format(path, what));
    }
    let attempts = (finest..MAX_QUANTISER).step_by(COARSER).chain([MAX_QUANTISER]);
    let mut last = String::new();
    for quantiser in attempts {
        match encode_at(clip, even, quantiser).map_err(|what| Error::encode(path, what))? {
            Encoded::Whole(bytes) => return Ok((bytes, quantiser)),
            Encoded::Overflow(what) => last = what,
        }
    }
    Err(Error::format(path, format!("the H.264 encoder cannot take this clip at any quality ({last}); {INSTEAD}")))
}

/// The result of an attempt.
enum Encoded {
    /// The bytes of the file.
    Whole(Vec<u8>),
    /// The encoder dropped a frame, which it does if the frame overflows its buffer.
    Overflow(String),
}

fn encode_at(clip: &Clip, even: &Even, quantiser: u8) -> std::result::Result<Encoded, String> {
    let (width, height) = (even.width, even.height);
    let config = EncoderConfig::new()
        .profile(Profile::High)
        // With equal limits, only this mode uses the given quantiser for every frame and never skips one.
        .rate_control_mode(RateControlMode::Bufferbased)
        .bitrate(BitRate::from_bps(50_000_000))
        .qp(QpRange::new(quantiser, quantiser))
        .max_frame_rate(FrameRate::from_hz(clip.fps() as f32))
        .skip_frames(false)
        .adaptive_quantization(false)
        .background_detection(false)
        .scene_change_detect(false)
        .intra_frame_period(IntraFramePeriod::from_num_frames(KEY_FRAME_INTERVAL))
        // One thread, so that the same clip gives the same bytes on every machine.
        .num_threads(1)
        .vui(VuiConfig::bt601());
    let mut encoder = Encoder::with_api_config(OpenH264API::from_source(), config).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let video = u32::try_from(width).and_then(|w| u32::try_from(height).map(|h| (w, h))).map_err(|e| e.to_string())?;
    let mut muxer =
        MuxerBuilder::new(&mut bytes).video(VideoCodec::H264, video.0, video.1, clip.fps()).build().map_err(|e| e.to_string())?;
    for index in 0..clip.num_frames() {
        let yuv = Yuv420::from_rgb(&even.frame(clip, index), width, height);
        let source = YUVSlices::new((&yuv.y, &yuv.u, &yuv.v), (width, height), (width, width / 2, width / 2));
        let picture = match encoder.encode(&source) {
            Ok(picture) => picture,
            Err(e) => return Ok(Encoded::Overflow(format!("frame {index}: {e}"))),
        };
        let is_key = matches!(picture.frame_type(), FrameType::IDR | FrameType::I);
        let data = picture.to_vec();
        if data.is_empty() {
            return Ok(Encoded::Overflow(format!("frame {index} was left out")));
        }
        muxer.write_video(index as f64 / clip.fps(), &data, is_key).map_err(|e| e.to_string())?;
    }
    muxer.finish().map_err(|e| e.to_string())?;
    Ok(Encoded::Whole(bytes))
}

/// The even size that a clip is padded to.
struct Even {
    width: usize,
    height: usize,
}

impl Even {
    fn new(clip: &Clip) -> Self {
        Self { width: clip.width().next_multiple_of(2), height: clip.height().next_multiple_of(2) }
    }

    /// Frame `index`, padded to the even size by repeating the last column and row.
    fn frame(&self, clip: &Clip, index: usize) -> Vec<u8> {
        let row_len = clip.width() * 3;
        let mut out = Vec::with_capacity(self.width * self.height * 3);
        let rows: Vec<&[u8]> = clip.frame(index).chunks_exact(row_len).collect();
        for y in 0..self.height {
            let row = rows[y.min(rows.len() - 1)];
            out.extend_from_slice(row);
            if self.width > clip.width() {
                out.extend_from_slice(&row[row_len - 3..]);
            }
        }
        out
    }
}

fn write_with_ffmpeg(path: &Path, clip: &Clip, even: &Even) -> Result<()> {
    let missing = || Error::NoProgram { path: path.to_path_buf(), program: "ffmpeg", instead: "encoder" };
    let program = ffmpeg::program("ffmpeg").ok_or_else(missing)?;
    let partial = latte_files::temporary_beside(path);
    let io = |e| Error::io(path, e);
    let size = format!("{}x{}", even.width, even.height);
    let mut child = Command::new(program)
        .args([
            "-nostdin",
            "-v",
            "error",
            "-y",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-s",
            &size,
            "-r",
            &clip.fps().to_string(),
        ])
        .args(["-i", "pipe:0", "-c:v", "libx264", "-crf", "5", "-colorspace", "smpte170m", "-color_range", "tv"])
        .args(["-color_primaries", "smpte170m", "-color_trc", "smpte170m", "-movflags", "+faststart", "-f", "mp4"])
        .arg(&partial)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let listener = std::thread::spawn(move || {
        let mut said = String::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_string(&mut said);
        }
        said
    });
    if let Some(mut stdin) = stdin {
        for index in 0..clip.num_frames() {
            // The write fails if ffmpeg has exited; its own message is reported below.
            let yuv = Yuv420::from_rgb(&even.frame(clip, index), even.width, even.height);
            if [&yuv.y, &yuv.u, &yuv.v].into_iter().any(|plane| stdin.write_all(plane).is_err()) {
                break;
            }
        }
    }
    let status = child.wait().map_err(io)?;
    let said = listener.join().unwrap_or_default();
    if !status.success() {
        let _ = fs::remove_file(&partial);
        return Err(Error::ffmpeg(path, format!("ffmpeg could not encode it: {}", said.trim().replace('\n', "; "))));
    }
    fs::rename(&partial, path).map_err(io)
}
