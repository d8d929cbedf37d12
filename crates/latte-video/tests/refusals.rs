//! Provokes every error of this crate through its public functions and matches variant and fields. The command's exit codes are in
//! `latte-cli`, `src/failure.rs`.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use latte_video::dataset::{Dataset, ManifestOptions};
use latte_video::encode::{Mp4Options, write_jpeg, write_mp4, write_png};
use latte_video::{Clip, ClipWindow, Decoder, Error, FrameRule, Video, read_image};

/// The test that provokes the variant. This match fails to compile for a new variant until it has a test.
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::Io { .. } | Error::NotVideo { .. } | Error::Damaged { .. } => "files.rs: a_file_that_is_not_a_video_is_refused",
        Error::Folder { .. } => "files.rs: empty_folders_are_errors",
        Error::Labels(_) => "manifests.rs: one_label_that_is_not_a_number_does_not_renumber_the_others",
        Error::Unsupported { .. } => "an_image_of_another_format",
        Error::Manifest { .. } => "a_manifest_without_the_column",
        Error::FrameIndex { .. } => "a_frame_that_is_not_there",
        Error::Window(_) => "a_window_that_is_longer_than_the_video",
        Error::Shape(_) => "pixels_that_make_no_clip",
        Error::NoProgram { .. } => "an_ffmpeg_that_is_not_there",
        Error::Ffmpeg { .. } => "an_ffmpeg_that_fails",
        Error::Format { .. } => "a_clip_that_the_format_cannot_hold",
        Error::Encode { .. } => "pixels_that_make_no_image",
    }
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/clips/h264_bframes.mp4")
}

fn small(side: usize) -> Clip {
    Clip::new(vec![9; 2 * side * side * 3], [2, side, side, 3], 8.0).unwrap()
}

/// Runs `check` with the environment variable LATTE_FFMPEG, which is read once per process: in a new process with only the test `name`.
fn with_ffmpeg(name: &str, ffmpeg: &Path, check: impl FnOnce()) {
    const INSIDE: &str = "LATTE_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return check();
    }
    let mut itself = Command::new(std::env::current_exe().unwrap());
    let output = itself.args(["--exact", name]).env(INSIDE, "1").env("LATTE_FFMPEG", ffmpeg).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_image_of_another_format() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.png");
    fs::write(&file, b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
    let error = read_image(&file).unwrap_err();
    assert_eq!(provoked_by(&error), "an_image_of_another_format");
    assert!(matches!(&error, Error::Unsupported { path, what } if *path == file && what.contains("WebP")), "{error:?}");
}

#[test]
fn a_manifest_without_the_column() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.csv");
    fs::write(&file, "title\nup\n").unwrap();
    let error = Dataset::from_manifest(&file, &ManifestOptions::default()).unwrap_err();
    assert_eq!(provoked_by(&error), "a_manifest_without_the_column");
    let fits = |place: &str, what: &str| place == "columns" && what.contains("title");
    assert!(matches!(&error, Error::Manifest { path, place, what } if *path == file && fits(place, what)), "{error:?}");
}

#[test]
fn a_frame_that_is_not_there() {
    let video = Video::open(example(), Decoder::BuiltIn).unwrap();
    let num_frames = video.info().num_frames;
    let error = video.frames(&[num_frames]).unwrap_err();
    assert_eq!(provoked_by(&error), "a_frame_that_is_not_there");
    let fits = |index, total| index == num_frames && total == num_frames;
    assert!(
        matches!(&error, Error::FrameIndex { path, index, total } if *path == example() && fits(*index, *total)),
        "{error:?}"
    );
}

#[test]
fn a_window_that_is_longer_than_the_video() {
    let error = ClipWindow { num_frames: 16, frame_interval: 3, rule: FrameRule::ExactStride }.indices(45, 0).unwrap_err();
    assert_eq!(provoked_by(&error), "a_window_that_is_longer_than_the_video");
    assert!(matches!(&error, Error::Window(what) if what.contains("45 frames") && what.contains("at least 46")), "{error:?}");
}

#[test]
fn pixels_that_make_no_clip() {
    let error = Clip::new(vec![0; 5], [1, 1, 2, 3], 8.0).unwrap_err();
    assert_eq!(provoked_by(&error), "pixels_that_make_no_clip");
    assert!(matches!(&error, Error::Shape(what) if what.contains("[1, 1, 2, 3]") && what.contains('5')), "{error:?}");
}

#[test]
fn an_ffmpeg_that_is_not_there() {
    with_ffmpeg("an_ffmpeg_that_is_not_there", Path::new("/none/ffmpeg"), || {
        let reading = Video::open(example(), Decoder::Ffmpeg).unwrap_err();
        assert_eq!(provoked_by(&reading), "an_ffmpeg_that_is_not_there");
        let said = format!("{}: ffprobe is not found: install ffmpeg, ", example().display());
        assert!(
            matches!(&reading, Error::NoProgram { path, program: "ffprobe", instead: "decoder" } if *path == example()),
            "{reading:?}"
        );
        assert!(reading.to_string().starts_with(&said), "{reading}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.mp4");
        let writing = write_mp4(&file, &small(16), &Mp4Options { use_ffmpeg: true, ..Mp4Options::default() }).unwrap_err();
        assert!(
            matches!(&writing, Error::NoProgram { path, program: "ffmpeg", instead: "encoder" } if *path == file),
            "{writing:?}"
        );
        assert!(!file.exists());
    });
}

#[cfg(unix)]
#[test]
fn an_ffmpeg_that_fails() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    for name in ["ffmpeg", "ffprobe"] {
        let program = dir.path().join(name);
        fs::write(&program, "#!/bin/sh\ncat > /dev/null\necho no answer\nexit 1\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    with_ffmpeg("an_ffmpeg_that_fails", dir.path(), || {
        let error = Video::open(example(), Decoder::Ffmpeg).unwrap_err();
        assert_eq!(provoked_by(&error), "an_ffmpeg_that_fails");
        assert!(
            matches!(&error, Error::Ffmpeg { path, what } if *path == example() && what.starts_with("ffprobe's answer")),
            "{error:?}"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.mp4");
        let error = write_mp4(&file, &small(16), &Mp4Options { use_ffmpeg: true, ..Mp4Options::default() }).unwrap_err();
        assert!(
            matches!(&error, Error::Ffmpeg { path, what } if *path == file && what.starts_with("ffmpeg could not")),
            "{error:?}"
        );
    });
}

#[test]
fn a_clip_that_the_format_cannot_hold() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    let no_quality = Mp4Options { quantiser: 52, ..Mp4Options::default() };
    for (error, expected) in [
        (write_mp4(&file, &small(8), &Mp4Options::default()).unwrap_err(), "at least 16 × 16"),
        (write_mp4(&file, &small(16), &no_quality).unwrap_err(), "from 12 to 51, got 52"),
        (write_jpeg(&file, &[0; 3], 1, 1, 0).unwrap_err(), "1 to 100, not 0"),
        (write_jpeg(&file, &vec![0; 3 << 16], 1 << 16, 1, 90).unwrap_err(), "at most 65535"),
    ] {
        assert_eq!(provoked_by(&error), "a_clip_that_the_format_cannot_hold");
        assert!(matches!(&error, Error::Format { path, what } if *path == file && what.contains(expected)), "{error:?}");
        assert!(!file.exists());
    }
}

/// An error of the calling program: users give files, not pixels.
#[test]
fn pixels_that_make_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    for error in [write_png(&file, &[0; 3], 2, 1).unwrap_err(), write_jpeg(&file, &[0; 3], 2, 1, 90).unwrap_err()] {
        assert_eq!(provoked_by(&error), "pixels_that_make_no_image");
        assert!(matches!(&error, Error::Encode { path, what } if *path == file && what.starts_with("3 values")), "{error:?}");
    }
}
