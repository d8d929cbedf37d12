//! Clips of noise, as an untrained model generates them.

use std::fs;

use latte_video::{Decoder, Video};

use crate::case;

#[test]
fn noise_is_written_as_mp4_at_every_size() {
    let place = case("h264-noise");
    for size in ["16x16", "32x32", "48x48", "64x64", "128x64", "256x256"] {
        let out = format!("out-{size}");
        let args = [
            "sample",
            "--checkpoint",
            "undertrained.safetensors",
            "--steps",
            "3",
            "--frames",
            "4",
            "--size",
            size,
            "--out",
            &out,
        ];
        let (said, noted) = place.both(&args);
        let path = place.path(said.lines().next().unwrap());
        let video = Video::open(&path, Decoder::BuiltIn).unwrap();
        let (height, width) = size.split_once('x').unwrap();
        assert_eq!((video.info().height.to_string().as_str(), video.info().width.to_string().as_str()), (height, width));
        assert_eq!(video.all().unwrap().num_frames(), 4);
        // Only a clip that is compressed more than usual is reported.
        assert!(noted.lines().all(|line| line.contains("compressed more than usual") && line.contains(".mp4")), "{noted}");
        if size == "256x256" {
            assert!(!noted.is_empty());
        }
    }
}

#[test]
fn training_saves_first_and_makes_samples_of_noise() {
    let place = case("h264-noise");
    let (said, noted) = place.both(&["train", "--config", "untrained.toml"]);
    assert!(said.contains("finished"), "{said}");
    for step in [2, 4, 6] {
        let folder = place.path(&format!("run/samples/step_000000{step}"));
        let mp4s = fs::read_dir(&folder).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "mp4"));
        assert_eq!(mp4s.count(), 2);
        let at = |what: String| noted.find(&what).unwrap_or_else(|| panic!("{what}: {noted}"));
        assert!(at(format!("step {step}: saved")) < at(format!("step {step}: samples in")), "{noted}");
    }
}

#[test]
fn samples_that_fail_are_a_warning_and_the_run_continues() {
    let place = case("h264-noise");
    fs::create_dir(place.path("run")).unwrap();
    fs::write(place.path("run/samples"), "in the way").unwrap();
    let (said, noted) = place.both(&["train", "--config", "untrained.toml"]);
    assert!(said.contains("finished"), "{said}");
    assert_eq!(noted.matches("samples could not be made").count(), 3, "{noted}");
    assert!(place.path("run/checkpoints/0000006/ema.safetensors").is_file());
    // Once the disk is writable, the samples of the newest checkpoint are made.
    fs::remove_file(place.path("run/samples")).unwrap();
    place.ok(&["train", "--config", "untrained.toml"]);
    assert!(place.path("run/samples/step_0000006/contact_sheet.png").is_file());
}
