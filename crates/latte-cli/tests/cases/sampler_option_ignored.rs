//! Options of samplers that have no effect, or another effect than documented.

use std::fs;

use serde_json::Value;

use crate::{case, tiny_t2v};

#[test]
fn an_option_has_an_effect_or_is_refused() {
    let place = case("sampler-option-ignored");
    let model = tiny_t2v();
    let common =
        ["t2v", "--model", &model, "--prompt", "a red ball", "--frames", "1", "--size", "32x32", "--steps", "10", "--seed", "3"];
    let make = |more: &[&str], out: &str| {
        place.ok(&[&common[..], more, &["--out", out]].concat());
        let read = |extension: &str| fs::read(place.path(out).join(format!("a_red_ball_seed3.{extension}"))).unwrap();
        (read("png"), serde_json::from_slice::<Value>(&read("json")).unwrap()["settings"].clone())
    };
    let (ode, _) = make(&["--sampler", "dpm++"], "a");
    let (asked, settings) = make(&["--sampler", "dpm++", "--sampler-option", "algorithm_type=sde-dpmsolver++"], "b");
    let (sde, _) = make(&["--sampler", "dpm++-sde"], "c");
    assert!(asked == sde && sde != ode);
    assert_eq!(
        (&settings["sampler"], &settings["scheduler"]["algorithm_type"]),
        (&"dpm++-sde".into(), &"sde-dpmsolver++".into())
    );
    let (back, settings) = make(&["--sampler", "dpm++-sde", "--sampler-option", "algorithm_type=dpmsolver++"], "d");
    assert!(back == ode);
    assert_eq!((&settings["sampler"], &settings["scheduler"]["algorithm_type"]), (&"dpm++".into(), &"dpmsolver++".into()));
    // Only options with an effect are recorded, and they are enough to generate the video again.
    assert!(settings["scheduler"].get("clip_sample").is_none() && settings["scheduler"]["beta_end"] == 0.02, "{settings}");
    place.ok(&["t2v", "--from", "d/a_red_ball_seed3.json", "--out", "again"]);
    assert!(fs::read(place.path("again/a_red_ball_seed3.png")).unwrap() == ode);
    // η can be given under both of its names.
    let (by_option, settings) = make(&["--sampler-option", "eta=0.5"], "e");
    assert!(by_option == make(&["--eta", "0.5"], "f").0 && by_option != make(&[], "g").0);
    assert_eq!((&settings["eta"], settings["scheduler"].get("eta")), (&0.5.into(), None));

    for (more, parts) in [
        (&["--sampler", "dpm++", "--sampler-option", "clip_sample=true"][..], ["clip_sample: ", "dpm++ has "]),
        (&["--sampler", "dpm++", "--sampler-option", "variance_type=fixed_large"], ["variance_type: ", "dpm++ has "]),
        (&["--sampler", "euler", "--sampler-option", "solver_order=3"], ["solver_order: ", "euler has "]),
        (&["--sampler-option", "use_karras_sigmas=true"], ["use_karras_sigmas: ", "ddim has "]),
        (&["--sampler", "unipc", "--sampler-option", "solver_type=heun"], ["solver_type: ", "unipc does not have"]),
        (&["--sampler-option", "sample_max_value=3"], ["sample_max_value: ", "thresholding=true"]),
        (&["--sampler", "ddpm", "--eta", "0.5"], ["eta: ", "ddpm has "]),
        (&["--eta", "0.5", "--sampler-option", "eta=0.6"], ["eta: ", "twice"]),
        (&["--sampler", "heun", "--sampler-option", "_class_name=DDIMScheduler"], ["_class_name: ", "heun"]),
    ] {
        let line = place.refused(&[&common[..], more, &["--out", "none"]].concat());
        assert!(parts.iter().all(|part| line.contains(part)), "{more:?}: {line}");
    }
    let line = place.refused(&["sample", "--checkpoint", "nowhere", "--sampler", "ddpm", "--eta", "0.5"]);
    assert!(line.contains("--eta: ") && line.contains("ddim"), "{line}");
    assert!(!place.path("none").exists());
}

/// A sidecar from before options were checked still gives the same video.
#[test]
fn an_older_sidecar_is_still_read() {
    let place = case("sampler-option-ignored");
    let model = tiny_t2v();
    let common =
        ["t2v", "--model", &model, "--prompt", "a red ball", "--frames", "1", "--size", "32x32", "--steps", "4", "--seed", "3"];
    place.ok(&[&common[..], &["--sampler", "dpm++", "--out", "a"]].concat());
    let mut sidecar: Value = serde_json::from_slice(&fs::read(place.path("a/a_red_ball_seed3.json")).unwrap()).unwrap();
    let scheduler = &mut sidecar["settings"]["scheduler"];
    for (key, value) in [("algorithm_type", Value::from("sde-dpmsolver++")), ("clip_sample", false.into()), ("eta", 0.7.into())] {
        scheduler[key] = value;
    }
    fs::write(place.path("older.json"), sidecar.to_string()).unwrap();
    place.ok(&["t2v", "--from", "older.json", "--out", "b"]);
    let read = |path: &str| fs::read(place.path(path)).unwrap();
    assert!(read("a/a_red_ball_seed3.png") == read("b/a_red_ball_seed3.png"));
}
