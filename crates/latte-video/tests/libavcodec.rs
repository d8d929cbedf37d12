//! Compares the system's libavcodec with the built-in decoder: the same frames, the same skipped pictures, errors for damage; and
//! the behaviour without the library.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod damage;

use std::path::{Path, PathBuf};
use std::process::Command;

use damage::{damaged, random};
use latte_video::encode::{Mp4Options, write_mp4};
use latte_video::{Clip, ClipWindow, Decoder, FrameRule, Video, ffmpeg_is_available, libavcodec_version};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/clips")
}

/// The clips that are not cut off.
fn clips() -> Vec<PathBuf> {
    let is_clip = |path: &PathBuf| path.extension().is_some_and(|e| e == "mp4" || e == "mkv" || e == "webm");
    let is_whole = |path: &PathBuf| !path.file_name().unwrap().to_string_lossy().starts_with("truncated");
    let all = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path());
    let mut clips: Vec<PathBuf> = all.filter(is_clip).filter(is_whole).collect();
    clips.sort();
    assert!(clips.len() > 10);
    clips
}

/// Whether the library is installed; if not, reports it, or fails where it is required.
fn is_there() -> bool {
    libavcodec_version().inspect_err(|e| needs::not_run("libavcodec", &format!("nothing is compared with it: {e}"))).is_ok()
}

/// The file opened with both decoders.
fn both(path: &Path) -> [Video; 2] {
    [Decoder::BuiltIn, Decoder::Libavcodec].map(|decoder| Video::open(path, decoder).unwrap())
}

fn assert_same(path: &Path, indices: &[usize]) {
    let [ours, libav] = both(path);
    let [a, b] = [&ours, &libav].map(|video| video.frames(indices).unwrap());
    assert!(a.pixels() == b.pixels() && a.shape() == b.shape(), "{} {indices:?}", path.display());
    // In open groups, libavcodec returns an error after a picture or two.
    if !path.ends_with("h264_open_gop.mp4") {
        assert_eq!(ours.pictures_decoded(), libav.pictures_decoded(), "{} {indices:?}", path.display());
    }
}

#[test]
fn frames_and_windows_are_the_built_in_decoders_bit_for_bit() {
    if !is_there() {
        return;
    }
    for path in clips() {
        let [ours, libav] = both(&path);
        let info = libav.info();
        assert_eq!((info.decoder, info.num_frames), ("libavcodec", ours.info().num_frames));
        let n = info.num_frames;
        assert_same(&path, &(0..n).collect::<Vec<_>>());
        assert_same(&path, &[n - 1]);
        assert_same(&path, &[n / 4, n / 4, n / 2]);
        let window = ClipWindow { num_frames: n.div_ceil(4), frame_interval: 2, rule: FrameRule::Linspace };
        for start in [0, n / 5, n / 3] {
            assert_same(&path, &window.indices(n, start).unwrap());
        }
    }
}

#[test]
fn files_of_this_crate_are_decoded_alike() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [frames, height, width] = [40, 50, 70];
    let value = |i: usize| (i % (width * 3) * 2 + i / (width * height * 3) * 5 + i / (width * 3) % height * i % 7) as u8;
    let clip = Clip::new((0..frames * height * width * 3).map(value).collect(), [frames, height, width, 3], 25.0).unwrap();
    let path = dir.path().join("a.mp4");
    write_mp4(&path, &clip, &Mp4Options::default()).unwrap();
    assert_same(&path, &(0..frames).collect::<Vec<_>>());
    assert_same(&path, &[7, 10, 13, 39]);
}

/// With libavcodec, a damaged file gives an error or the right number of frames, never a crash.
#[test]
fn damage_never_crashes() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut random = random(0x2545_F491_4F6C_DD1D);
    let (mut frames, mut errors) = (0, 0);
    for original in clips().into_iter().filter(|path| !path.ends_with("unspecified_720.mp4")) {
        let whole = std::fs::read(&original).unwrap();
        let name = original.file_name().unwrap();
        for round in 0..24 {
            let bytes = damaged(&whole, round, &mut random);
            let path = dir.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            match Video::open(&path, Decoder::Libavcodec).and_then(|v| Ok((v.info().num_frames, v.all()?))) {
                Ok((n, clip)) => {
                    assert_eq!(clip.num_frames(), n);
                    frames += 1;
                }
                Err(e) => {
                    assert!(e.to_string().contains(&*name.to_string_lossy()), "{e}");
                    errors += 1;
                }
            }
        }
    }
    println!("{frames} damaged files gave frames, {errors} an error");
    assert!(frames > 20 && errors > 20);
}

#[test]
fn a_picture_that_is_overwritten_is_an_error() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(folder().join("h264_bframes.mp4")).unwrap();
    // The coded pictures lie between the file header and the index.
    bytes[1500..4000].fill(0x55);
    let path = dir.path().join("damaged.mp4");
    std::fs::write(&path, &bytes).unwrap();
    let said = Video::open(&path, Decoder::Libavcodec).unwrap().all().unwrap_err().to_string();
    assert!(said.contains("damaged.mp4"), "{said}");
}

/// Tells a test in another process which decoder to expect.
const EXPECTED: &str = "LATTE_TEST_EXPECTED_DECODER";

/// The library is searched once per process, so each case needs its own process.
fn in_another_process(library: &str, ffmpeg: Option<&str>, expected: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "auto_takes_the_first_installed_decoder", "--nocapture"]);
    command.env("LATTE_LIBAVCODEC", library).env(EXPECTED, expected);
    if let Some(ffmpeg) = ffmpeg {
        command.env("LATTE_FFMPEG", ffmpeg);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{library}: {said}");
}

#[test]
fn auto_takes_the_first_installed_decoder() {
    let path = folder().join("h264_bframes.mp4");
    let Ok(expected) = std::env::var(EXPECTED) else {
        let video = Video::open(path, Decoder::Auto).unwrap();
        let otherwise = if ffmpeg_is_available() { "ffmpeg" } else { "built in" };
        assert_eq!(video.info().decoder, if is_there() { "libavcodec" } else { otherwise });
        return;
    };
    let video = Video::open(&path, Decoder::Auto).unwrap();
    assert_eq!(video.info().decoder, expected);
    let built_in = Video::open(&path, Decoder::BuiltIn).unwrap();
    let [a, b] = [&video, &built_in].map(|video| video.frames(&[5, 8]).unwrap());
    assert!(a.pixels().iter().zip(b.pixels()).all(|(a, b)| a.abs_diff(*b) <= 2));
    // If the user selects the library by name, its absence is an error that says what to do.
    let said = Video::open(&path, Decoder::Libavcodec).unwrap_err().to_string();
    assert!(said.contains("h264_bframes.mp4") && said.contains("LATTE_LIBAVCODEC") && !said.contains('\n'), "{said}");
    // A missing library needs no note; an installed one that cannot be used does.
    let note = Decoder::Auto.note();
    assert_eq!(note.is_some(), std::env::var("LATTE_LIBAVCODEC").unwrap().starts_with("libc."), "{note:?}");
    assert_eq!(Decoder::BuiltIn.note(), None);
}

#[test]
fn without_the_library_auto_is_ffmpeg_or_built_in() {
    in_another_process("/nowhere/libavcodec.so", Some("/nowhere/ffmpeg"), "built in");
    if ffmpeg_is_available() {
        in_another_process("/nowhere/libavcodec.so", None, "ffmpeg");
    } else {
        needs::not_run("ffmpeg", "it is not tried in place of the library");
    }
}

/// The same with an unknown version.
#[test]
fn a_stream_without_true_key_frames_is_decoded_from_its_beginning() {
    if !ffmpeg_is_available() {
        needs::not_run("ffmpeg", "it makes the stream");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("refreshed.mp4");
    let source = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", "60", "-pix_fmt", "yuv420p"];
    let codec = ["-c:v", "libx264", "-g", "20", "-x264-params", "intra-refresh=1"];
    let made = Command::new("ffmpeg").args(["-v", "error"]).args(source).args(codec).arg(&path).status().unwrap();
    assert!(made.success());
    let all = Video::open(&path, Decoder::Ffmpeg).unwrap().all().unwrap();
    let frame_len = 96 * 64 * 3;
    for decoder in [Decoder::Auto, Decoder::BuiltIn] {
        let video = Video::open(&path, decoder).unwrap();
        for index in [5, 45, 55] {
            let frame = video.frames(&[index]).unwrap();
            assert!(frame.pixels() == &all.pixels()[index * frame_len..][..frame_len], "{decoder:?} {index}");
        }
    }
}

/// If such a stream is cut in the middle, the first pictures are never complete: they do not count as frames.
#[test]
fn a_stream_that_begins_within_a_refresh_begins_when_it_is_complete() {
    if !ffmpeg_is_available() || !is_there() {
        println!("NOT RUN: ffmpeg, which makes the stream, or libavcodec is not found on this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [whole, cut] = ["whole.mp4", "cut.mp4"].map(|name| folder.path().join(name));
    let source = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", "90", "-pix_fmt", "yuv420p"];
    let codec = ["-c:v", "libx264", "-g", "20", "-x264-params", "intra-refresh=1"];
    let run = |args: &[&str]| assert!(Command::new("ffmpeg").args(["-v", "error"]).args(args).status().unwrap().success());
    run(&[source.as_slice(), &codec, &[whole.to_str().unwrap()]].concat());
    run(&["-ss", "1.0", "-i", whole.to_str().unwrap(), "-c", "copy", "-use_editlist", "0", cut.to_str().unwrap()]);
    let pixels = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"];
    let frames = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(&cut).args(pixels).output().unwrap().stdout;
    let video = Video::open(&cut, Decoder::Libavcodec).unwrap();
    let all = video.all().unwrap();
    assert!(all.num_frames() > 30 && all.num_frames() < 65 && all.pixels() == frames, "{}", all.num_frames());
    // The Rust decoder gives the same frames or an error.
    let ours = Video::open(&cut, Decoder::BuiltIn).unwrap();
    assert_eq!(ours.info().num_frames, all.num_frames());
    if let Ok(clip) = ours.all() {
        assert!(clip.pixels() == frames);
    }
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
fn an_unusable_library_is_skipped_and_reported() {
    in_another_process("libc.so.6", Some("/nowhere/ffmpeg"), "built in");
}
