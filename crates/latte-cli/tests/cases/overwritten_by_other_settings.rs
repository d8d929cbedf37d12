//! Videos with the same prompt and seed but other settings.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::{case, names, tiny_t2v};

#[test]
fn a_video_of_other_settings_is_kept() {
    let place = case("overwritten-by-other-settings");
    let model = tiny_t2v();
    let make = |more: &[&str]| {
        let few = ["t2v", "--model", &model, "--prompt", "a red ball", "--size", "32x32", "--steps", "2", "--out", "out"];
        let frames: &[&str] = if more.contains(&"--frames") { &[] } else { &["--frames", "2"] };
        place.both(&[&few[..], more, frames].concat())
    };
    let first: Vec<String> =
        ["2", "7.5", "9"].map(|scale| make(&["--guidance", scale]).0.lines().next().unwrap().to_string()).into();
    assert_eq!(first, ["out/a_red_ball_seed0.mp4", "out/a_red_ball_seed0-2.mp4", "out/a_red_ball_seed0-3.mp4"]);
    let read = |path: &str| fs::read(place.path(path)).unwrap();
    let videos: BTreeSet<Vec<u8>> = first.iter().map(|path| read(path)).collect();
    assert_eq!(videos.len(), 3);
    let guidance = |path: &str| {
        let sidecar: Value = serde_json::from_slice(&read(path)).unwrap();
        sidecar["settings"]["guidance_scale"].as_f64().unwrap()
    };
    let of = first.iter().map(|path| guidance(&path.replace(".mp4", ".json"))).collect::<Vec<_>>();
    assert_eq!(of, [2.0, 7.5, 9.0], "a video's settings lie beside it");

    // The same settings again get the same name, which is reported.
    let (stdout, stderr) = make(&["--guidance", "7.5"]);
    assert!(stdout.starts_with("out/a_red_ball_seed0-2.mp4"), "{stdout}");
    assert!(stderr.contains("out/a_red_ball_seed0.mp4 is another result and is kept"), "{stderr}");
    assert_eq!(names(&place.path("out")).len(), 6);
    // An image is another result than the video with the same name.
    assert!(make(&["--guidance", "9", "--frames", "1"]).0.starts_with("out/a_red_ball_seed0-4.png"));
    // Also from the file beside a video.
    let again = place.ok(&["t2v", "--from", "out/a_red_ball_seed0-3.json", "--out", "out"]);
    assert!(again.starts_with("out/a_red_ball_seed0-3.mp4"), "{again}");
    // Another version of the program with the same settings gives the same result.
    let sidecar = String::from_utf8(read("out/a_red_ball_seed0.json")).unwrap();
    let version = format!("\"latte\": \"{}\"", env!("CARGO_PKG_VERSION"));
    fs::write(place.path("out/a_red_ball_seed0.json"), sidecar.replace(&version, "\"latte\": \"0.0.1\"")).unwrap();
    assert!(make(&["--guidance", "2"]).0.starts_with("out/a_red_ball_seed0.mp4"));
    assert_eq!(String::from_utf8(read("out/a_red_ball_seed0.json")).unwrap(), sidecar);

    let (stdout, stderr) = make(&["--guidance", "3", "--overwrite"]);
    assert!(stdout.starts_with("out/a_red_ball_seed0.mp4") && !stderr.contains("kept"), "{stdout}{stderr}");
    assert_eq!(guidance("out/a_red_ball_seed0.json"), 3.0);
    assert_eq!(names(&place.path("out")).len(), 8);
}
