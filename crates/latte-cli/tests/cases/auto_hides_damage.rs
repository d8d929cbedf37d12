//! The case `testdata/cases/auto-hides-damage`.

use std::fs;

use super::decoders::ways_to_decode;
use super::{case, testdata};

#[test]
fn damage_is_reported_whatever_the_next_decoder_would_salvage() {
    // The program `ffmpeg`, selected by name, returns the frames that it can decode.
    for (decoder, environment) in ways_to_decode().filter(|(decoder, _)| *decoder != "ffmpeg") {
        let place = case("auto-hides-damage");
        fs::create_dir(place.path("in")).unwrap();
        for name in ["half.mkv", "cut.mp4"] {
            fs::rename(place.path(name), place.path("in").join(name)).unwrap();
        }
        fs::copy(testdata("clips/h264_bframes.mp4"), place.path("in/whole.mp4")).unwrap();
        let run = |args: &[&str]| {
            let output = place.command(args).args(["--decoder", decoder]).envs(environment.iter().copied()).output().unwrap();
            (
                output.status.success(),
                format!("{} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
            )
        };
        let (_, said) = run(&["data", "check", "--path", "in", "--num-frames", "4", "--frame-interval", "1"]);
        let told = |name: &str| said.contains(&format!("{name}: damaged or cut off"));
        assert!(said.contains("warning: 2 of 3 videos cannot be read"), "{decoder} {environment:?}: {said}");
        assert!(told("half.mkv") && told("cut.mp4"), "{decoder} {environment:?}: {said}");
        let (success, said) = run(&["data", "frames", "--path", "in", "--out", "out"]);
        let told = |name: &str| said.contains(&format!("{name}: damaged or cut off"));
        assert!(!success && told("half.mkv") && told("cut.mp4"), "{decoder} {environment:?}: {said}");
        assert!(!place.path("out/half").exists() && !place.path("out/cut").exists() && place.path("out/whole").is_dir());
    }
}
