//! What this crate writes, it reads again.

use latte_video::encode::{self, Mp4Options};
use latte_video::{Clip, Decoder, Video};

/// A smooth picture that moves to the right by two pixels a frame, with a bright square to follow.
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
    println!("{difference}");
    // The right frame, not merely a similar one.
    let one = video.frames(&[7]).unwrap();
    assert_eq!(one.pixels(), back.frame(7));
    let neighbour = Clip::new(clip.frame(8).to_vec(), [1, 64, 96, 3], 8.0).unwrap();
    assert!(mean_difference(&one, &neighbour) > 2.0 * mean_difference(&one, &Clip::new(clip.frame(7).to_vec(), [1, 64, 96, 3], 8.0).unwrap()));
}
