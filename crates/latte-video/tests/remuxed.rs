//! Videos that ffmpeg encodes, remuxes and cuts without re-encoding: every decoder gives exactly the frames of ffmpeg, in the same
//! order.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests fail the test, or say why it is not run")]

#[expect(dead_code, reason = "only its numbers are used here")]
mod damage;

use std::path::{Path, PathBuf};
use std::process::Command;

use damage::random;
use latte_video::{Decoder, Video, ffmpeg_is_available, libavcodec_version};

const SIZE: [usize; 2] = [64, 48];
const FRAME: usize = SIZE[0] * SIZE[1] * 3;

fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-y"]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A temporary folder; `None`, with a message, if ffmpeg or an encoder is missing.
fn place() -> Option<tempfile::TempDir> {
    if !ffmpeg_is_available() {
        println!("NOT RUN: ffmpeg, which makes the videos, is not found on this machine");
        return None;
    }
    Some(tempfile::tempdir().unwrap())
}

/// The settings of an encoded video.
#[derive(Debug, Clone, Copy)]
struct Coding {
    codec: &'static str,
    b_frames: usize,
    pyramid: bool,
    open_groups: bool,
    key_interval: usize,
}

impl Coding {
    /// Encodes 50 frames into `folder`.
    fn encode(self, folder: &Path, name: &str) -> PathBuf {
        let Self { codec, b_frames, pyramid, open_groups, key_interval } = self;
        let path = folder.join(format!("{name}.mp4"));
        let flag = |on| usize::from(on).to_string();
        let common = format!(
            "keyint={key_interval}:min-keyint={key_interval}:scenecut=0:bframes={b_frames}:b-adapt=0:open-gop={}",
            flag(open_groups)
        );
        let (option, settings) = match codec {
            "libx264" => ("-x264-params", format!("{common}:ref=3:b-pyramid={}", if pyramid { "normal" } else { "none" })),
            _ => ("-x265-params", format!("{common}:log-level=none:pools=none:frame-threads=1:b-pyramid={}", flag(pyramid))),
        };
        let source = format!("testsrc2=s={}x{}:r=25", SIZE[0], SIZE[1]);
        let file = path.to_str().unwrap();
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            &source,
            "-frames:v",
            "50",
            "-c:v",
            codec,
            "-pix_fmt",
            "yuv420p",
            "-threads",
            "1",
            "-crf",
            "32",
            option,
            &settings,
            file,
        ]);
        path
    }
}

/// The ways to remux the same pictures: an extension, and arguments for the input and the output.
const WAYS: [(&str, &[&str], &[&str]); 13] = [
    ("copy.mkv", &[], &[]),
    ("cmaf.mp4", &[], &["-movflags", "cmaf"]),
    ("fragments.mp4", &[], &["-movflags", "frag_keyframe+empty_moov"]),
    ("negative.mp4", &[], &["-movflags", "+negative_cts_offsets"]),
    ("shift.mp4", &[], &["-output_ts_offset", "1.5"]),
    ("cut.mkv", &["-ss", "0.9"], &[]),
    ("cut_copyts.mkv", &["-ss", "0.9"], &["-copyts"]),
    ("cut.mp4", &["-ss", "0.9"], &[]),
    ("cut_plain.mp4", &["-ss", "0.9"], &["-use_editlist", "0"]),
    ("cut_zero.mp4", &["-ss", "0.9"], &["-avoid_negative_ts", "make_zero", "-movflags", "+negative_cts_offsets"]),
    ("cut_cmaf.mp4", &["-ss", "0.9"], &["-movflags", "cmaf"]),
    ("cut_fragments.mp4", &["-ss", "0.9"], &["-movflags", "frag_keyframe+empty_moov+default_base_moof"]),
    ("cut.mov", &["-ss", "0.9"], &["-t", "0.7"]),
];

/// All frames that ffmpeg decodes from a file, in order.
fn expected(path: &Path) -> Vec<u8> {
    let path = path.to_str().unwrap();
    ffmpeg(&["-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
}

/// The installed decoders. The ffmpeg program, by far the slowest, is used every other time.
fn decoders(turn: usize) -> Vec<Decoder> {
    let mut decoders = vec![Decoder::BuiltIn];
    match libavcodec_version() {
        // `Auto` selects it.
        Ok(_) => decoders.push(Decoder::Auto),
        Err(e) => println!("NOT RUN: libavcodec is left out on this machine: {e}"),
    }
    if turn.is_multiple_of(2) {
        decoders.push(Decoder::Ffmpeg);
    }
    decoders
}

/// Requests all frames of `path`, and some of them, from `decoder`.
fn compare(path: &Path, frames: &[u8], decoder: Decoder, random: &mut impl FnMut(usize) -> usize) -> Result<(), String> {
    let count = frames.len() / FRAME;
    let video = Video::open(path, decoder).map_err(|e| e.to_string())?;
    if video.info().num_frames != count {
        return Err(format!("{} frames, not {count}", video.info().num_frames));
    }
    let from = random(count);
    let some = (from..count).step_by(1 + random(4)).take(1 + random(8)).collect();
    for indices in [(0..count).collect::<Vec<_>>(), some, vec![count - 1]] {
        let clip = video.frames(&indices).map_err(|e| format!("{indices:?}: {e}"))?;
        for (place, &index) in indices.iter().enumerate() {
            let theirs = &frames[index * FRAME..][..FRAME];
            let apart = clip.frame(place).iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
            if apart > 2 {
                return Err(format!("frame {index} of {indices:?} is {apart} apart"));
            }
        }
    }
    Ok(())
}

/// Writes a video of `coding` in all ways, and compares the frames.
fn compare_all(coding: Coding, seed: u64) {
    let Some(place) = place() else { return };
    let whole = coding.encode(place.path(), "whole");
    let mut random = random(seed);
    let (mut problems, mut cut) = (Vec::new(), 0);
    for (way, (name, input, output)) in WAYS.into_iter().enumerate() {
        // Two thirds of the ways, different ones for each coding, because all combinations take too long.
        if (way + seed as usize).is_multiple_of(3) {
            continue;
        }
        let path = place.path().join(name);
        let (from, to) = (whole.to_str().unwrap(), path.to_str().unwrap());
        ffmpeg(&[input, &["-i", from, "-c", "copy"], output, &[to]].concat());
        let frames = expected(&path);
        assert!(!frames.is_empty() && frames.len().is_multiple_of(FRAME), "{name}");
        cut += usize::from(frames.len() / FRAME < 50);
        for decoder in decoders(way + seed as usize) {
            if let Err(problem) = compare(&path, &frames, decoder, &mut random) {
                problems.push(format!("{name}, {decoder:?}: {problem}"));
            }
        }
    }
    assert!(problems.is_empty(), "{coding:?}\n{}", problems.join("\n"));
    assert!(cut > 3, "the cuts leave nothing out");
}

const H264: Coding = Coding { codec: "libx264", b_frames: 3, pyramid: true, open_groups: true, key_interval: 20 };
const H265: Coding = Coding { codec: "libx265", ..H264 };

#[test]
fn h264_in_open_groups() {
    compare_all(H264, 1);
}

#[test]
fn h264_in_open_groups_without_a_pyramid() {
    compare_all(Coding { b_frames: 2, pyramid: false, key_interval: 17, ..H264 }, 2);
}

#[test]
fn h264_in_closed_groups() {
    compare_all(Coding { b_frames: 4, open_groups: false, key_interval: 11, ..H264 }, 3);
}

#[test]
fn h264_without_b_frames() {
    compare_all(Coding { b_frames: 0, pyramid: false, ..H264 }, 4);
}

#[test]
fn h265_in_open_groups() {
    compare_all(H265, 5);
}

#[test]
fn h265_in_closed_groups() {
    compare_all(Coding { b_frames: 4, open_groups: false, key_interval: 12, ..H265 }, 6);
}

#[test]
fn h265_in_open_groups_without_a_pyramid() {
    compare_all(Coding { b_frames: 1, pyramid: false, key_interval: 15, ..H265 }, 7);
}

#[test]
fn cover_art_is_skipped() {
    let Some(place) = place() else { return };
    let whole = H264.encode(place.path(), "whole");
    let frames = expected(&whole);
    let mut random = random(8);
    for (codec, name) in [("png", "cover.mov"), ("mjpeg", "cover.mp4"), ("mjpeg", "cover.mkv"), ("png", "cover.mkv")] {
        let path = place.path().join(name);
        let picture = ["-f", "lavfi", "-i", "color=s=32x32:d=0.04", "-i", whole.to_str().unwrap()];
        let tracks = ["-map", "0", "-map", "1", "-c:v:0", codec, "-c:v:1", "copy", path.to_str().unwrap()];
        ffmpeg(&[picture.as_slice(), &tracks].concat());
        for decoder in decoders(0) {
            compare(&path, &frames, decoder, &mut random).unwrap_or_else(|e| panic!("{codec} {name}, {decoder:?}: {e}"));
        }
    }
}

#[test]
fn files_without_video_are_refused_with_their_tracks() {
    let Some(place) = place() else { return };
    for name in ["sound.m4a", "sound.mka"] {
        let path = place.path().join(name);
        ffmpeg(&["-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "aac", path.to_str().unwrap()]);
        for decoder in [Decoder::BuiltIn, Decoder::Auto, Decoder::Ffmpeg] {
            let said = Video::open(&path, decoder).unwrap_err().to_string();
            assert!(said.contains("no video track") && !said.contains("damaged"), "{decoder:?}: {said}");
        }
        let said = Video::open(&path, Decoder::BuiltIn).unwrap_err().to_string();
        assert!(said.contains("sound ("), "{said}");
    }
}

#[test]
fn sound_that_is_longer_than_the_video_is_not_damage() {
    let Some(place) = place() else { return };
    let whole = H264.encode(place.path(), "whole");
    let path = place.path().join("long.mkv");
    let input = ["-i", whole.to_str().unwrap(), "-f", "lavfi", "-i", "sine=d=4", "-c:v", "copy", "-c:a", "aac"];
    ffmpeg(&[input.as_slice(), &[path.to_str().unwrap()]].concat());
    assert_eq!(Video::open(&path, Decoder::BuiltIn).unwrap().info().num_frames, 50);
    // Cut between two blocks, so that no block is incomplete.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    for decoder in [Decoder::BuiltIn, Decoder::Auto] {
        let said = Video::open(&path, decoder).unwrap_err().to_string();
        assert!(said.contains("damaged or cut off"), "{decoder:?}: {said}");
    }
}

#[test]
fn streams_without_a_container_are_refused_or_read_whole() {
    let Some(place) = place() else { return };
    for (coding, name) in [(H264, "a.h264"), (H265, "a.h265")] {
        let (whole, path) = (coding.encode(place.path(), "whole"), place.path().join(name));
        ffmpeg(&["-i", whole.to_str().unwrap(), "-c", "copy", path.to_str().unwrap()]);
        let said = Video::open(&path, Decoder::BuiltIn).unwrap_err().to_string();
        assert!(said.contains("without a container") && said.contains("-c copy"), "{said}");
        let frames = expected(&path);
        assert_eq!(frames.len(), 50 * FRAME);
        compare(&path, &frames, Decoder::Auto, &mut random(9)).unwrap();
    }
}
