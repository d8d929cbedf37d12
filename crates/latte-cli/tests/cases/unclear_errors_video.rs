//! The part of `testdata/cases/unclear-errors` that is about video files.

use std::fs;

use super::case;
use super::decoders::ways_to_decode;

#[test]
fn a_cover_before_the_video_is_skipped() {
    for (decoder, environment) in ways_to_decode() {
        let place = case("unclear-errors");
        fs::create_dir(place.path("i")).unwrap();
        fs::rename(place.path("cover_first.mp4"), place.path("i/cover_first.mp4")).unwrap();
        let args = ["data", "frames", "--path", "i", "--out", "o", "--decoder", decoder];
        let output = place.command(&args).envs(environment.iter().copied()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("50 frames of 1 video"), "{decoder} {environment:?}: {said}");
    }
}

#[test]
fn a_rotation_that_no_decoder_supports_is_reported() {
    let mut told = Vec::new();
    for (decoder, environment) in ways_to_decode() {
        let place = case("unclear-errors");
        fs::create_dir(place.path("j")).unwrap();
        fs::rename(place.path("turned_45.mp4"), place.path("j/turned_45.mp4")).unwrap();
        let args = ["data", "frames", "--path", "j", "--out", "p", "--decoder", decoder];
        let output = place.command(&args).envs(environment.iter().copied()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !said.contains("install"), "{decoder} {environment:?}: {said}");
        told.extend(said.lines().filter(|line| line.contains("turned_45.mp4: ")).map(String::from));
    }
    assert!(told.len() > 4 && told[0].contains("turned by 45°") && told.iter().all(|line| *line == told[0]), "{told:?}");
}
