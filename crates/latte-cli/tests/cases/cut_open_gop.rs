//! The case `testdata/cases/cut-open-gop`.

use std::fs;

use latte_video::{Decoder, Video, ffmpeg_is_available};

use super::case;
use super::decoders::ways_to_decode;

#[test]
fn pictures_whose_references_were_cut_away_are_no_frames() {
    let mut seen: Vec<(String, Video)> = Vec::new();
    let mut places = Vec::new();
    for (decoder, environment) in ways_to_decode() {
        let place = case("cut-open-gop");
        fs::create_dir(place.path("in")).unwrap();
        for name in ["h264_cut.mkv", "hevc_cut.mkv"] {
            fs::rename(place.path(name), place.path("in").join(name)).unwrap();
        }
        let run = |args: &[&str]| {
            let output = place.command(args).args(["--decoder", decoder]).envs(environment.iter().copied()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{decoder} {environment:?}: {said}");
            said.into_owned()
        };
        let said = run(&["data", "frames", "--path", "in", "--out", "out"]);
        assert!(said.contains("60 frames of 2 videos"), "{decoder} {environment:?}: {said}");
        let said = run(&["data", "check", "--path", "in", "--num-frames", "30", "--frame-interval", "1"]);
        assert!(said.contains("2 videos, 60 frames") && !said.contains("warning"), "{decoder} {environment:?}: {said}");
        for name in ["h264_cut", "hevc_cut"] {
            let frames = Video::open(place.path(&format!("out/{name}")), Decoder::Auto).unwrap();
            assert_eq!(frames.info().num_frames, 30, "{decoder} {environment:?} {name}");
            seen.push((format!("{decoder} {environment:?} {name}"), frames));
        }
        places.push(place);
    }
    // All have the same pixels, including those of ffmpeg if it is installed.
    for (index, (who, frames)) in seen.iter().enumerate() {
        let (a, b) = (frames.all().unwrap(), seen[index % 2].1.all().unwrap());
        let apart = a.pixels().iter().zip(b.pixels()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(apart <= 2, "{who}: {apart} apart");
    }
    assert_eq!(seen.iter().any(|(who, _)| who.starts_with("ffmpeg")), ffmpeg_is_available());
}
