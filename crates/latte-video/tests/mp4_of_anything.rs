//! Any clip of any size that H.264 allows can be written as mp4 and read back.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use latte_video::encode::{self, Mp4Options};
use latte_video::{Clip, Decoder, Video};
use proptest::prelude::*;

/// A pseudorandom generator of bytes, the same on every machine.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }
}

const KINDS: [&str; 8] = ["noise", "saturated", "grey noise", "checkerboard", "stripes", "black", "gradient", "half noise"];

/// A clip of one of [`KINDS`].
fn picture(kind: &str, [frames, height, width]: [usize; 3], seed: u64) -> Clip {
    let mut random = Bytes(seed);
    let mut pixels = Vec::with_capacity(frames * height * width * 3);
    for t in 0..frames {
        for y in 0..height {
            for x in 0..width {
                let on_and_off = |on: bool| if on { [255; 3] } else { [0; 3] };
                pixels.extend(match kind {
                    "noise" => [random.next(), random.next(), random.next()],
                    // Like clips of an untrained model: clamped to the two extremes.
                    "saturated" => [(); 3].map(|()| if random.next() < 128 { 0 } else { 255 }),
                    "grey noise" => [random.next(); 3],
                    "checkerboard" => on_and_off((x + y + t) % 2 == 0),
                    "stripes" => on_and_off((x + t) % 3 == 0),
                    "half noise" if x < width / 2 => [random.next(), random.next(), random.next()],
                    "gradient" | "half noise" => [(x * 255 / width) as u8, (y * 255 / height) as u8, (t * 20) as u8],
                    _ => [0; 3],
                });
            }
        }
    }
    Clip::new(pixels, [frames, height, width, 3], 8.0).unwrap()
}

/// The luma of a pixel. 4:2:0 does not keep the colours of single pixels, whatever the quantiser.
fn brightness(pixel: &[u8]) -> f64 {
    0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2])
}

/// The peak signal-to-noise ratio of the luma of `back` against `clip`, in dB; `back` may have one more row and column.
fn psnr(clip: &Clip, back: &Clip) -> f64 {
    let mut sum = 0.0;
    for t in 0..clip.num_frames() {
        let (a, b) = (clip.frame(t), back.frame(t));
        for y in 0..clip.height() {
            for x in 0..clip.width() {
                let at = |width: usize| (y * width + x) * 3;
                let (at, back_at) = (at(clip.width()), at(back.width()));
                sum += (brightness(&a[at..at + 3]) - brightness(&b[back_at..back_at + 3])).powi(2);
            }
        }
    }
    let mean = sum / (clip.num_frames() * clip.height() * clip.width()) as f64;
    10.0 * (255.0 * 255.0 / mean.max(1e-3)).log10()
}

/// Writes and reads back a clip; returns the PSNR in dB, and the quantiser if it is coarser than usual.
fn round_trip(clip: &Clip) -> (f64, Option<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    let quantiser = encode::write_mp4(&path, clip, &Mp4Options::default()).unwrap();
    let back = Video::open(&path, Decoder::BuiltIn).unwrap().all().unwrap();
    assert_eq!((back.num_frames(), back.height()), (clip.num_frames(), clip.height().next_multiple_of(2)));
    assert_eq!(back.width(), clip.width().next_multiple_of(2));
    (psnr(clip, &back), quantiser)
}

/// The minimum PSNR in dB.
fn least(kind: &str, quantiser: Option<u8>) -> f64 {
    match quantiser {
        // Four pixels of saturated colours share one chroma sample, and luma is clipped at the limits of its range: 4:2:0 loses
        // this much without any compression.
        _ if kind == "saturated" => 25.0,
        None => 40.0,
        Some(_) => 36.0,
    }
}

#[test]
fn every_kind_of_picture_can_be_written_at_every_size() {
    let sizes = [[16, 16], [17, 31], [48, 48], [64, 64], [50, 98], [16, 256], [256, 16], [128, 128], [255, 257], [512, 512]];
    let mut coarse = 0;
    for [height, width] in sizes {
        for kind in KINDS {
            let frames = if height * width > 20_000 { 2 } else { 9 };
            let (psnr, quantiser) = round_trip(&picture(kind, [frames, height, width], 7));
            assert!(psnr > least(kind, quantiser), "{kind}, {height} × {width}: {psnr:.1} dB at {quantiser:?}");
            // A clip that fits at the usual quality is not encoded more coarsely.
            if matches!(kind, "black" | "gradient") {
                assert_eq!(quantiser, None, "{kind}, {height} × {width}");
            }
            coarse += usize::from(quantiser.is_some());
        }
    }
    assert!(coarse > 0, "nothing here is too much for the encoder");
    let (psnr, quantiser) = round_trip(&picture("saturated", [1, 1024, 1024], 1));
    assert!(psnr > least("saturated", quantiser), "1024 × 1024: {psnr:.1} dB at {quantiser:?}");
}

#[test]
fn the_same_noise_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let clip = picture("saturated", [3, 64, 64], 3);
    let [a, b] = ["a.mp4", "b.mp4"].map(|name| {
        assert!(encode::write_mp4(dir.path().join(name), &clip, &Mp4Options::default()).unwrap().is_some());
        std::fs::read(dir.path().join(name)).unwrap()
    });
    assert_eq!(a, b);
}

#[test]
fn a_clip_unfit_for_h264_is_an_error_that_names_an_alternative() {
    let dir = tempfile::tempdir().unwrap();
    let clip = picture("black", [1, 8, 8], 0);
    let error = encode::write_mp4(dir.path().join("a.mp4"), &clip, &Mp4Options::default()).unwrap_err().to_string();
    assert!(error.contains("png") && error.contains("gif") && !error.contains('\n'), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_clip_comes_back(kind in prop::sample::select(&KINDS[..]), frames in 1_usize..5, height in 16_usize..150, width in 16_usize..150, seed: u64) {
        let (psnr, quantiser) = round_trip(&picture(kind, [frames, height, width], seed));
        prop_assert!(psnr > least(kind, quantiser), "{psnr:.1} dB at {quantiser:?}");
    }
}
