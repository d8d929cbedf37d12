//! Compares the clips of `testdata/clips`: the built-in decoder, recorded results of ffmpeg, and the installed ffmpeg.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod damage;

use std::path::{Path, PathBuf};

use damage::{damaged, random};
use latte_video::{Clip, ClipWindow, Decoder, FrameRule, Video, ffmpeg_is_available, libavcodec_version};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/clips")
}

fn built_in(name: &str) -> Video {
    Video::open(folder().join(name), Decoder::BuiltIn).unwrap()
}

/// The clips that have a file with the suffix `suffix`.
fn clips(suffix: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_string_lossy().strip_suffix(suffix).map(ToString::to_string))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no clip with {suffix}");
    names
}

/// Adler-32 as in ffmpeg's framecrc, which begins with 0.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (0_u32, 0_u32);
    for &byte in bytes {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    b << 16 | a
}

/// The largest difference between two pixels, and the number of differences above 2.
fn difference(a: &[u8], b: &[u8]) -> (u8, usize) {
    assert_eq!(a.len(), b.len());
    let apart = || a.iter().zip(b).map(|(&a, &b)| a.abs_diff(b));
    (apart().max().unwrap_or(0), apart().filter(|&d| d > 2).count())
}

#[test]
fn every_frame_is_the_one_that_ffmpeg_decoded() {
    every_frame_is_right(Decoder::BuiltIn);
}

#[test]
fn every_frame_is_the_same_through_libavcodec() {
    match libavcodec_version() {
        Ok(_) => every_frame_is_right(Decoder::Libavcodec),
        Err(e) => needs::not_run("libavcodec", &format!("its frames are not compared: {e}")),
    }
}

fn every_frame_is_right(decoder: Decoder) {
    for name in clips(".framecrc") {
        let text = std::fs::read_to_string(folder().join(format!("{name}.framecrc"))).unwrap();
        let sums: Vec<u32> = text
            .lines()
            .filter(|l| !l.starts_with('#'))
            .map(|l| u32::from_str_radix(l.rsplit_once("0x").unwrap().1.trim(), 16).unwrap())
            .collect();
        let size = text.lines().find_map(|l| l.strip_prefix("#dimensions 0: ")).unwrap();
        let video = Video::open(folder().join(&name), decoder).unwrap();
        let info = video.info();
        assert_eq!(info.num_frames, sums.len(), "{name}");
        assert_eq!(format!("{}x{}", info.width, info.height), size, "{name}");
        let clip = video.all().unwrap();
        let ours: Vec<u32> = (0..clip.num_frames()).map(|i| adler32(clip.frame(i))).collect();
        assert_eq!(ours, sums, "{name}");
        // A frame decoded alone is the same as among all.
        for index in [0, sums.len() / 2, sums.len() - 1] {
            assert_eq!(adler32(video.frames(&[index]).unwrap().pixels()), sums[index], "{name}, frame {index} alone");
        }
        // Also if frames between the wanted ones are skipped.
        for (first, step) in [(0, 3), (sums.len() / 5, 7)] {
            let indices: Vec<usize> = (first..sums.len()).step_by(step).collect();
            let clip = video.frames(&indices).unwrap();
            let ours: Vec<u32> = (0..clip.num_frames()).map(|i| adler32(clip.frame(i))).collect();
            assert_eq!(ours, indices.iter().map(|&i| sums[i]).collect::<Vec<u32>>(), "{name}, from {first} every {step}");
        }
    }
}

#[test]
fn frames_with_interpolated_chroma_are_within_a_few_levels() {
    for name in clips(".frame7.png") {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(folder().join(format!("{name}.frame7.png")), dir.path().join("0.png")).unwrap();
        let reference = Video::open(dir.path(), Decoder::Auto).unwrap().all().unwrap();
        let ours = built_in(&name).frames(&[7]).unwrap();
        assert_eq!(ours.shape(), reference.shape(), "{name}");
        let (largest, many) = difference(ours.pixels(), reference.pixels());
        println!("{name}: at most {largest}, {many} of {} by more than 2", ours.pixels().len());
        assert!(largest <= 7 && many * 100 < ours.pixels().len(), "{name}: {largest}, {many}");
    }
}

#[test]
fn both_decoders_agree() {
    if !ffmpeg_is_available() {
        needs::not_run("ffmpeg", "the two decoders are not compared");
        return;
    }
    for name in clips(".framecrc").into_iter().chain(clips(".frame7.png")) {
        let (ours, theirs) = (built_in(&name), Video::open(folder().join(&name), Decoder::Ffmpeg).unwrap());
        let (a, b) = (ours.info(), theirs.info());
        assert_eq!(
            (a.num_frames, a.width, a.height, a.rotation, &a.codec, &a.container),
            (b.num_frames, b.width, b.height, b.rotation, &b.codec, &b.container),
            "{name}"
        );
        assert_eq!(a.variable_frame_rate, b.variable_frame_rate, "{name}");
        assert!((a.fps - b.fps).abs() < 0.01 && (a.duration - b.duration).abs() < 0.02, "{name}: {a}\n{b}");
        let n = a.num_frames;
        let some: Vec<usize> = (n / 3..n).step_by(3).collect();
        for indices in [(0..n).collect(), vec![n / 2], vec![0, n - 1], vec![n / 4, n / 4, n - 1], some] {
            let (x, y) = (ours.frames(&indices).unwrap(), theirs.frames(&indices).unwrap());
            let (largest, many) = difference(x.pixels(), y.pixels());
            let exact = folder().join(format!("{name}.framecrc")).exists();
            let fine = if exact { largest <= 2 } else { largest <= 7 && many * 100 < x.pixels().len() };
            assert!(fine, "{name} {indices:?}: the decoders are {largest} apart, {many} pixels by more than 2");
        }
    }
}

#[test]
fn a_window_decodes_only_what_it_needs() {
    let video = built_in("h264_bframes.mp4");
    assert_eq!(video.pictures_decoded(), Some(0));
    let window = ClipWindow { num_frames: 16, frame_interval: 1, rule: FrameRule::ExactStride };
    video.frames(&window.indices(150, 124).unwrap()).unwrap();
    // Key frames at 0, 60 and 120: from 120 to the end of the window, not from 0.
    let decoded = video.pictures_decoded().unwrap();
    assert!((16..=24).contains(&decoded), "{decoded}");
    let before = decoded;
    video.frames(&[0]).unwrap();
    assert_eq!(video.pictures_decoded().unwrap() - before, 1);
    let before = video.pictures_decoded().unwrap();
    // Two frames in the first and the last group: the group between them is skipped.
    video.frames(&[1, 121]).unwrap();
    assert!(video.pictures_decoded().unwrap() - before < 12);
    let before = video.pictures_decoded().unwrap();
    // Frame 59 needs all of the first group except pictures that no other refers to.
    video.frames(&[59]).unwrap();
    let decoded = video.pictures_decoded().unwrap() - before;
    assert!((20..50).contains(&decoded), "{decoded}");
}

#[test]
fn rotation_and_rate_are_reported() {
    for (name, rotation, size) in
        [("rotated_90.mp4", 90, [48, 64]), ("rotated_180.mp4", 180, [64, 48]), ("rotated_270.mp4", 270, [48, 64])]
    {
        let info = built_in(name).info().clone();
        assert_eq!((info.rotation, [info.width, info.height]), (rotation, size), "{name}");
        assert!(info.to_string().contains(&format!("turned by {rotation}°")));
    }
    let info = built_in("variable_rate.mp4").info().clone();
    assert!(info.variable_frame_rate && info.to_string().contains("variable frame rate"), "{info}");
    assert_eq!(info.num_frames, 20);
    // 10 frames of 1/25 s, 10 of 3/25 s.
    assert!((info.fps - 20.0 / (40.0 / 25.0)).abs() < 0.5, "{}", info.fps);
    assert!(!built_in("h264_bframes.mp4").info().variable_frame_rate);
}

#[test]
fn cut_off_files_give_errors_or_the_frames_that_are_there() {
    let whole = built_in("truncated.mp4");
    assert_eq!(whole.info().num_frames, 30);
    assert_eq!(whole.frames(&[0]).unwrap().num_frames(), 1);
    let said = whole.all().unwrap_err().to_string();
    assert!(said.contains("truncated.mp4") && said.contains("cut off"), "{said}");
    for name in ["truncated_without_index.mp4", "truncated.mkv"] {
        let said = Video::open(folder().join(name), Decoder::BuiltIn).unwrap_err().to_string();
        assert!(said.contains(name) && said.contains("cut off"), "{said}");
    }
    if ffmpeg_is_available() {
        assert!(Video::open(folder().join("truncated_without_index.mp4"), Decoder::Ffmpeg).is_err());
        // The number of frames that it reports does not matter: never fewer than requested.
        let video = Video::open(folder().join("truncated.mp4"), Decoder::Ffmpeg).unwrap();
        if let Ok(clip) = video.all() {
            assert_eq!(clip.num_frames(), video.info().num_frames);
        }
    } else {
        needs::not_run("ffmpeg", "cut-off files are not tried with it");
    }
}

/// Damaged files end in an error or in frames, never in a panic or in a clip of another size.
#[test]
fn damage_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = random(0x9E37_79B9_7F4A_7C15);
    let (mut frames, mut errors) = (0, 0);
    for name in clips(".framecrc").into_iter().chain(clips(".frame7.png")).filter(|n| n != "unspecified_720.mp4") {
        let whole = std::fs::read(folder().join(&name)).unwrap();
        for round in 0..24 {
            let bytes = damaged(&whole, round, &mut random);
            let path = dir.path().join(&name);
            std::fs::write(&path, &bytes).unwrap();
            match Video::open(&path, Decoder::BuiltIn).and_then(|v| Ok((v.info().num_frames, v.all()?))) {
                Ok((n, clip)) => {
                    assert_eq!(Clip::num_frames(&clip), n);
                    frames += 1;
                }
                Err(e) => {
                    assert!(e.to_string().contains(&name), "{e}");
                    errors += 1;
                }
            }
        }
    }
    println!("{frames} damaged files gave frames, {errors} an error");
    assert!(frames > 20 && errors > 20);
}
