//! Messages of `latte t2v` that were unclear.

use std::fs;

use crate::place::{Place, text};
use crate::{names, tiny_t2v};

#[test]
fn a_number_is_shown_as_a_number() {
    let place = Place::empty();
    let model = tiny_t2v();
    let line =
        place.refused(&["t2v", "--model", &model, "--prompt", "a", "--steps", "1000", "--sampler-option", "steps_offset=1"]);
    assert!(line.contains("the first timestep would be 1000, expected at most 999"), "{line}");
    let sigmas = ["--sampler", "euler", "--sampler-option", "sigma_min=3", "--sampler-option", "sigma_max=2"];
    let karras = ["--sampler-option", "use_karras_sigmas=true"];
    let line = place.refused(&[&["t2v", "--model", &model, "--prompt", "a"][..], &sigmas, &karras].concat());
    assert!(line.contains("got 3 and 2"), "{line}");
}

#[test]
fn a_home_that_cannot_be_written_to_is_a_warning() {
    let place = Place::empty();
    let model = tiny_t2v();
    fs::write(place.path("home"), "no folder").unwrap();
    let args = ["t2v", "--model", &model, "--prompt", "a", "--steps", "2", "--frames", "2", "--size", "32x32", "--out", "o"];
    for (home, warnings) in [(Some("home"), 1), (Some("/proc"), 1), (Some(""), 0), (None, 0)] {
        let mut command = place.command(&args);
        command.env_remove("LATTE_CACHE").env_remove("XDG_CACHE_HOME").env_remove("HOME");
        command.envs(home.map(|home| ("HOME", home)));
        let output = command.output().unwrap();
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert_eq!(stderr.matches("warning: ").count(), warnings, "{home:?}: {stderr}");
        assert!(warnings == 0 || stderr.contains("LATTE_CACHE") && stderr.contains(".cache/latte"), "{stderr}");
        assert_eq!(names(&place.path("o")), ["a_seed0.json", "a_seed0.mp4"]);
    }
}
