//! This crate reads the files that it writes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use latte_video::encode::{self, Mp4Options};
use latte_video::{Clip, Decoder, Video};

/// A smooth image that moves to the right by two pixels per frame, with a bright square.
fn moving(frames: usize, height: usize, width: usize, fps: f64) -> Clip {
    let mut pixels = Vec::with_capacity(frames * height * width * 3);
    for t in 0..frames {
        for y in 0..height {
            for x in 0..width {
                let inside = (x + width - 2 * t % width) % width < width / 4 && y >= height / 4 && y < height / 2;
                let base = [40 + (x * 60 / width) as u8, 50 + (y * 80 / height) as u8, 90];
                pixels.extend(if inside { [220, 60, 40] } else { base });
            }
        }
    }
    Clip::new(pixels, [frames, height, width, 3], fps).unwrap()
}

fn mean_difference(a: &Clip, b: &Clip) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let sum: u64 = a.pixels().iter().zip(b.pixels()).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
    sum as f64 / a.pixels().len() as f64
}

#[test]
fn mp4_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    let clip = moving(24, 64, 96, 8.0);
    encode::write_mp4(&path, &clip, &Mp4Options::default()).unwrap();
    let video = Video::open(&path, Decoder::BuiltIn).unwrap();
    let info = video.info();
    assert_eq!((info.num_frames, info.width, info.height, info.codec.as_str()), (24, 96, 64, "h264"));
    assert!((info.fps - 8.0).abs() < 1e-3, "{}", info.fps);
    assert!(!info.variable_frame_rate);
    let back = video.all().unwrap();
    let difference = mean_difference(&clip, &back);
    assert!(difference < 2.5, "{difference}");
    // Exactly this frame, not merely a similar one.
    let one = video.frames(&[7]).unwrap();
    assert_eq!(one.pixels(), back.frame(7));
    let frame = |i: usize| Clip::new(clip.frame(i).to_vec(), [1, 64, 96, 3], 8.0).unwrap();
    let nearest = (0..24).min_by(|&a, &b| mean_difference(&one, &frame(a)).total_cmp(&mean_difference(&one, &frame(b))));
    assert_eq!(nearest, Some(7));
}

#[test]
fn the_same_clip_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let clip = moving(5, 48, 64, 30000.0 / 1001.0);
    let [a, b] = ["a.mp4", "b.mp4"].map(|name| {
        encode::write_mp4(dir.path().join(name), &clip, &Mp4Options::default()).unwrap();
        std::fs::read(dir.path().join(name)).unwrap()
    });
    assert_eq!(a, b);
    let info = Video::open(dir.path().join("a.mp4"), Decoder::BuiltIn).unwrap().info().clone();
    assert!((info.fps - 29.97).abs() < 0.01 && !info.variable_frame_rate, "{info}");
}

#[test]
fn the_quantiser_trades_size_for_quality() {
    let dir = tempfile::tempdir().unwrap();
    let clip = moving(10, 64, 64, 8.0);
    let [fine, coarse] = [12, 40].map(|quantiser| {
        let path = dir.path().join(format!("{quantiser}.mp4"));
        encode::write_mp4(&path, &clip, &Mp4Options { quantiser, ..Mp4Options::default() }).unwrap();
        let back = Video::open(&path, Decoder::BuiltIn).unwrap().all().unwrap();
        (std::fs::metadata(&path).unwrap().len(), mean_difference(&clip, &back))
    });
    assert!(fine.0 > coarse.0 && fine.1 < coarse.1, "{fine:?} {coarse:?}");
    for quantiser in [0, 52] {
        let options = Mp4Options { quantiser, ..Mp4Options::default() };
        assert!(encode::write_mp4(dir.path().join("no.mp4"), &clip, &options).is_err());
    }
}

#[test]
fn ffmpeg_reads_what_is_written_and_writes_what_is_read() {
    if !latte_video::ffmpeg_is_available() {
        needs::not_run("ffmpeg", "its files are not compared");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let clip = moving(20, 64, 96, 8.0);
    for use_ffmpeg in [false, true] {
        let path = dir.path().join(format!("{use_ffmpeg}.mp4"));
        encode::write_mp4(&path, &clip, &Mp4Options { use_ffmpeg, ..Mp4Options::default() }).unwrap();
        let ours = Video::open(&path, Decoder::BuiltIn).unwrap();
        let theirs = Video::open(&path, Decoder::Ffmpeg).unwrap();
        assert_eq!(ours.info().num_frames, 20);
        assert_eq!(theirs.info().num_frames, 20);
        assert!((theirs.info().fps - 8.0).abs() < 1e-3);
        let (ours, theirs) = (ours.all().unwrap(), theirs.all().unwrap());
        let largest = ours.pixels().iter().zip(theirs.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(largest <= Some(2), "{largest:?}");
        let difference = mean_difference(&clip, &ours);
        assert!(difference < 2.5, "{use_ffmpeg}: {difference}");
    }
}
