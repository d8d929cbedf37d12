//! Decodes with the `ffmpeg` program over a pipe: crashes and malicious files stay in another process.

mod start;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use start::{leave_out_first, lost_at_start};

use crate::byte_range::ByteRange;
use crate::info::is_variable;
use crate::orientation::Orientation;
use crate::{Error, Result, VideoInfo};

/// Whether the `ffmpeg` and `ffprobe` programs are found: through `LATTE_FFMPEG` (the program or its folder), else in `PATH`.
pub fn is_available() -> bool {
    program("ffmpeg").is_some() && program("ffprobe").is_some()
}

/// The full path of `ffmpeg` or `ffprobe`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    if let Some(set) = std::env::var_os("LATTE_FFMPEG").filter(|v| !v.is_empty()) {
        // Either the program or its folder, which also holds ffprobe. Any other value disables ffmpeg.
        let set = PathBuf::from(set);
        let folder = if set.is_dir() { set.as_path() } else { set.parent()? };
        let path = if set.is_file() && name == "ffmpeg" { set.clone() } else { folder.join(name) };
        return (set.exists() && path.is_file()).then_some(path);
    }
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|dir| dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))).find(|p| p.is_file())
}

/// A file opened with ffprobe.
#[derive(Debug)]
pub(crate) struct Ffmpeg {
    byte_range: ByteRange,
    info: VideoInfo,
    /// Index of the video track.
    stream: usize,
    /// Presentation time of each frame in seconds; `None` if the file does not have them or does not support seeking by time.
    times: Option<Vec<f64>>,
    /// Start time of the file in seconds, on the same scale.
    start: f64,
}

#[derive(Debug, Deserialize)]
struct Probe {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    packets: Vec<Packet>,
    format: Option<Format>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    index: usize,
    codec_name: Option<String>,
    width: Option<usize>,
    height: Option<usize>,
    avg_frame_rate: Option<String>,
    r_frame_rate: Option<String>,
    time_base: Option<String>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Packet {
    stream_index: usize,
    pts_time: Option<String>,
    #[serde(default)]
    flags: String,
}

impl Packet {
    /// Whether it is shown: an edit list may hide it.
    fn is_shown(&self) -> bool {
        !self.flags.contains('D')
    }

    fn time(&self) -> Option<f64> {
        number(self.pts_time.as_deref())
    }
}

#[derive(Debug, Deserialize)]
struct Format {
    format_name: Option<String>,
    start_time: Option<String>,
}

impl Ffmpeg {
    pub(crate) fn open(byte_range: ByteRange) -> Result<Self> {
        let path = &byte_range.path;
        // Checked first, for a clearer message than that of ffprobe.
        if byte_range.open()?.len() == 0 {
            return Err(Error::not_video(path, "the file is empty"));
        }
        let probe = probe(&byte_range)?;
        let Some(stream) = the_video(&probe.streams) else {
            return Err(Error::not_video(path, "ffprobe finds no video track in it"));
        };
        let (Some(width), Some(height)) = (stream.width.filter(|&w| w > 0), stream.height.filter(|&h| h > 0)) else {
            return Err(Error::damaged(path, "ffprobe cannot tell the frame size"));
        };
        let mut shown: Vec<&Packet> = probe.packets.iter().filter(|p| p.stream_index == stream.index && p.is_shown()).collect();
        if shown.is_empty() {
            return Err(Error::not_video(path, "the video track holds no frame"));
        }
        if stream.codec_name.as_deref().is_some_and(|name| OPEN_GROUPS.contains(&name)) {
            leave_out_first(&mut shown, lost_at_start(&byte_range, stream.index)?);
            if shown.is_empty() {
                return Err(Error::damaged(path, "ffmpeg can decode no frame of it"));
            }
        }
        let start = probe.format.as_ref().and_then(|f| number(f.start_time.as_deref())).unwrap_or(0.0);
        let times: Option<Vec<f64>> = shown.iter().map(|p| p.time()).collect();
        let times = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times
        });
        let unit = stream.time_base.as_deref().and_then(ratio).unwrap_or(0.001);
        let variable = times.as_ref().is_some_and(|t| is_variable(t, 0.0015_f64.max(unit * 1.5)));
        let average =
            times.as_ref().map(|t| (t.len() - 1) as f64 / (t[t.len() - 1] - t[0])).filter(|f| f.is_finite() && *f > 0.0);
        let declared = [&stream.avg_frame_rate, &stream.r_frame_rate];
        let declared = declared.into_iter().find_map(|r| r.as_deref().and_then(ratio).filter(|f| f.is_finite() && *f > 0.0));
        let fps = if variable { average.or(declared) } else { declared.or(average) }.unwrap_or(25.0);
        // ffprobe counts counter-clockwise.
        let rotation = stream.side_data_list.iter().find_map(|s| s.rotation).unwrap_or(0.0);
        // Up to a degree is rounding, which ffmpeg ignores, too.
        let quarters = (-rotation / 90.0).round();
        if (-rotation - quarters * 90.0).abs() > 1.0 {
            return Err(Error::unsupported(path, Orientation::refusal(-rotation)));
        }
        let rotation = quarters.rem_euclid(4.0) as u32 * 90;
        let (width, height) = if rotation % 180 == 90 { (height, width) } else { (width, height) };
        let container = probe.format.and_then(|f| f.format_name).unwrap_or_default();
        let container = container.split(',').next().unwrap_or_default();
        let container = if container == "mov" { "mp4" } else { container };
        let duration = times.as_ref().map_or(shown.len() as f64 / fps, |t| t[t.len() - 1] - t[0] + 1.0 / fps);
        let info = VideoInfo {
            path: path.clone(),
            container: container.into(),
            codec: stream.codec_name.clone().unwrap_or_default(),
            width,
            height,
            rotation,
            fps,
            num_frames: shown.len(),
            duration,
            variable_frame_rate: variable,
            decoder: "ffmpeg",
        };
        // Only these formats support seeking by time; others are decoded from the start, and so are frames with equal times.
        let seeks = matches!(container, "mp4" | "matroska");
        let times = times.filter(|times| seeks && times.windows(2).all(|w| w[1] - w[0] > 1e-4));
        Ok(Self { times, start, stream: stream.index, info, byte_range })
    }

    pub(crate) fn info(&self) -> &VideoInfo {
        &self.info
    }

    pub(crate) fn frames(&self, indices: &[usize]) -> Result<Vec<u8>> {
        let path = &self.info.path;
        // ffmpeg seeks too far in some files; frames are then missing, and everything is decoded from the start.
        if let Some(times) = self.times.as_ref().filter(|_| indices[0] > 0)
            && let Some(pixels) = self.frames_from(times, indices)?
        {
            return Ok(pixels);
        }
        let wanted: Vec<String> = ranges(indices).iter().map(|(a, b)| format!("between(n\\,{a}\\,{b})")).collect();
        let (pixels, said) = self.decode(&[], &wanted.join("+"), indices.len())?;
        if pixels.len() != indices.len() * self.frame_len() {
            let got = pixels.len() / self.frame_len();
            let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
            let what = format!("ffmpeg gave {got} of the {} frames asked for, from frame {}{said}", indices.len(), indices[0]);
            return Err(Error::damaged(path, what));
        }
        Ok(pixels)
    }

    /// The frames with these `times`, decoded from a key frame before the first of them. `None` if some are missing.
    fn frames_from(&self, times: &[f64], indices: &[usize]) -> Result<Option<Vec<u8>>> {
        // Half way between two frames, so that rounding cannot select the wrong one.
        let before = |i: usize| f64::midpoint(times[i - 1], times[i]);
        let after = |i: usize| times.get(i + 1).map_or(times[i] + 1.0, |next| f64::midpoint(times[i], *next));
        let to = before(indices[0]) - self.start;
        if to <= 0.0 {
            return Ok(None);
        }
        let range = |&(a, b): &(usize, usize)| format!("between(t\\,{:.6}\\,{:.6})", before(a), after(b));
        let wanted: Vec<String> = ranges(indices).iter().map(range).collect();
        let seek = ["-copyts", "-noaccurate_seek", "-ss", &format!("{to:.6}")];
        let (pixels, _) = self.decode(&seek, &wanted.join("+"), indices.len())?;
        Ok(Some(pixels).filter(|pixels| pixels.len() == indices.len() * self.frame_len()))
    }

    /// The pixels of the first `count` frames for which the expression `wanted` is true, and the messages of ffmpeg.
    fn decode(&self, seek: &[&str], wanted: &str, count: usize) -> Result<(Vec<u8>, String)> {
        let path = &self.info.path;
        let mut command = command(path, "ffmpeg")?;
        command.args(["-nostdin", "-v", "error", "-threads", "1"]).args(seek).arg("-i").arg(url(&self.byte_range));
        command.args(["-map", &format!("0:{}", self.stream), "-an", "-sn", "-dn", "-vf", &format!("select={wanted}")]);
        command.args(passthrough()?);
        command.args(["-frames:v", &count.to_string(), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]);
        run(path, command, count * self.frame_len())
    }

    fn frame_len(&self) -> usize {
        self.info.width * self.info.height * 3
    }
}

/// Codecs of still images: such a track beside a video is cover art.
const STILLS: [&str; 6] = ["png", "mjpeg", "gif", "bmp", "tiff", "webp"];

/// Codecs with open groups of pictures. Such a stream may begin with pictures that refer to others before its start; ffmpeg drops
/// them.
const OPEN_GROUPS: [&str; 6] = ["h264", "hevc", "mpeg1video", "mpeg2video", "vc1", "wmv3"];

/// The video track; cover art is not one.
fn the_video(streams: &[Stream]) -> Option<&Stream> {
    let is_still = |stream: &&Stream| stream.codec_name.as_deref().is_some_and(|name| STILLS.contains(&name));
    streams.iter().find(|stream| !is_still(stream)).or_else(|| streams.first())
}

/// Joins consecutive ascending indices into inclusive ranges.
fn ranges(indices: &[usize]) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for &index in indices {
        match out.last_mut() {
            Some((_, to)) if *to + 1 == index => *to = index,
            _ => out.push((index, index)),
        }
    }
    out
}

/// The option of this ffmpeg that neither drops nor repeats frames: `-fps_mode` since 5.1, `-vsync` until 8.
fn passthrough() -> Result<[&'static str; 2]> {
    static OLD: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let old = if let Some(&old) = OLD.get() {
        old
    } else {
        let mut command = command(Path::new("ffmpeg"), "ffmpeg")?;
        command.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", "color=s=16x16:d=0.04", "-fps_mode", "passthrough"]);
        command.args(["-f", "null", "-"]);
        let (_, said) = run(Path::new("ffmpeg"), command, 0)?;
        *OLD.get_or_init(|| said.contains("fps_mode"))
    };
    Ok(if old { ["-vsync", "0"] } else { ["-fps_mode", "passthrough"] })
}

fn command(path: &Path, name: &'static str) -> Result<Command> {
    let missing = || Error::NoProgram { path: path.to_path_buf(), program: name, instead: "decoder" };
    let program = program(name).ok_or_else(missing)?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Runs `command` and returns its standard output (allocated for `expected` bytes) and its messages.
fn run(path: &Path, mut command: Command, expected: usize) -> Result<(Vec<u8>, String)> {
    let mut child = command.spawn().map_err(|e| Error::io(path, e))?;
    let (mut stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Both pipes must be read at the same time, or the program blocks.
    let listener = std::thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_end(&mut said);
        }
        said
    });
    let mut written = Vec::with_capacity(expected);
    let read = stdout.as_mut().map_or(Ok(0), |s| s.read_to_end(&mut written));
    drop(stdout);
    child.wait().map_err(|e| Error::io(path, e))?;
    read.map_err(|e| Error::io(path, e))?;
    let said = listener.join().unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    Ok((written, said.lines().map(str::trim).filter(|l| !l.is_empty()).take(3).collect::<Vec<_>>().join("; ")))
}

fn probe(byte_range: &ByteRange) -> Result<Probe> {
    let path = &byte_range.path;
    let mut command = command(path, "ffprobe")?;
    command.args(["-v", "error", "-select_streams", "V", "-of", "json", "-show_entries"]);
    command.arg(
        "stream=index,codec_name,width,height,avg_frame_rate,r_frame_rate,time_base:stream_side_data=rotation:\
         format=format_name,start_time:packet=stream_index,pts_time,flags",
    );
    command.arg(url(byte_range));
    let (json, said) = run(path, command, 1 << 16)?;
    let probe: Probe =
        serde_json::from_slice(&json).map_err(|e| Error::ffmpeg(path, format!("ffprobe's answer is not clear: {e}")))?;
    if probe.format.is_none() {
        return Err(Error::not_video(path, if said.is_empty() { "ffprobe cannot read it".into() } else { said }));
    }
    Ok(probe)
}

/// The file as an URL, so that a name with a colon or a dash is not taken for a protocol or an option.
fn url(byte_range: &ByteRange) -> std::ffi::OsString {
    let mut url = std::ffi::OsString::new();
    if let Some((start, len)) = byte_range.range {
        url.push(format!("subfile,,start,{start},end,{},,:", start.saturating_add(len)));
    }
    url.push("file:");
    url.push(&byte_range.file);
    url
}

fn number(text: Option<&str>) -> Option<f64> {
    text?.parse().ok().filter(|v: &f64| v.is_finite())
}

fn ratio(text: &str) -> Option<f64> {
    let (a, b) = text.split_once('/')?;
    Some(a.parse::<f64>().ok()? / b.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn consecutive_indices_join_to_ranges() {
        assert_eq!(ranges(&[3, 4, 5, 9, 11, 12]), [(3, 5), (9, 9), (11, 12)]);
    }
}
