//! The built program: its output, its files and its exit codes.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod place;

use std::path::Path;

use place::{Place, text};

/// A model that trains in a moment.
const TINY: [&str; 9] = [
    "model.hidden_size=16",
    "model.depth=2",
    "model.num_heads=2",
    "model.patch_size=4",
    "data.size=16",
    "data.num_frames=4",
    "train.batch_size=2",
    "train.max_steps=2",
    "optimizer.warmup_steps=0",
];

impl Place {
    /// Runs, expects the refusal of bad input, and that standard error has no other line.
    fn refused_at_once(&self, args: &[&str]) -> String {
        let lines = self.refusal(args);
        assert_eq!(lines.len(), 1, "latte {}: {lines:?}", args.join(" "));
        lines.concat()
    }

    /// Writes the demo's data set, with one clip per class.
    fn data(&self) {
        self.ok(&["data", "demo", "clips", "--clips", "1"]);
    }

    fn train_args(extra: &[&'static str]) -> Vec<&'static str> {
        let mut args = vec!["train", "--config", "clips/train.toml", "--set", "output.run=run"];
        for setting in TINY.iter().chain(extra) {
            args.extend(["--set", setting]);
        }
        args
    }

    /// Writes the data set and trains a tiny model on it.
    fn trained(&self) {
        self.data();
        self.ok(&Self::train_args(&[]));
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn help_of_every_command_shows_an_example() {
    let place = Place::empty();
    for command in [
        "demo",
        "train",
        "runs",
        "plot",
        "sample",
        "t2v",
        "inspect",
        "convert",
        "data demo",
        "data index",
        "data check",
        "data frames",
        "data bench",
        "eval",
        "eval fvd",
        "eval kvd",
        "eval fid",
        "eval kid",
        "eval is",
        "eval all",
        "eval flicker",
        "eval mmd",
        "eval import",
        "eval merge",
        "encode",
        "bench",
        "completions",
    ] {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let help = place.ok(&args);
        assert!(help.lines().any(|line| line.starts_with("  latte ")), "{command}: no example:\n{help}");
        assert!(help.contains("Usage: latte"), "{command}:\n{help}");
    }
    assert!(place.ok(&["--help"]).contains("  latte demo"));
    assert!(place.ok(&["--version"]).starts_with("latte "));
}

#[test]
fn completions_know_the_commands() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.ok(&["completions", shell]);
        assert!(script.contains("sample") && script.contains("demo"), "{shell}");
    }
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let place = Place::empty();
    place.data();
    let train = |setting: &'static str| place.refused_at_once(&Place::train_args(&[setting]));

    let line = place.refused_at_once(&["train", "--config", "none.toml"]);
    assert!(line.contains("none.toml"), "{line}");
    let line = train("train.max_stepz=3");
    assert!(line.contains("train.max_stepz") && line.contains("max_steps"), "{line}");
    let line = train("data.path=nowhere");
    assert!(line.contains("nowhere"), "{line}");
    let line = train("model.num_heads=3");
    assert!(line.contains("num_heads"), "{line}");
    let line = place.refused_at_once(&["sample", "--checkpoint", "nowhere"]);
    assert!(line.contains("nowhere"), "{line}");
    let line = place.refused_at_once(&["sample", "--checkpoint", "clips"]);
    assert!(line.contains("clips"), "{line}");
    let line = place.refused_at_once(&["inspect", "nowhere"]);
    assert!(line.contains("nowhere"), "{line}");
    let line = place.refused_at_once(&["inspect", "clips/train.toml/none"]);
    assert!(line.contains("none"), "{line}");
    std::fs::write(place.path("text.mp4"), "no video").unwrap();
    let line = place.refused_at_once(&["inspect", "text.mp4"]);
    assert!(line.contains("text.mp4"), "{line}");
    let line = place.refused_at_once(&["bench", "--model", "M/2"]);
    assert!(line.contains("M/2"), "{line}");
    place.refused_at_once(&["data", "demo", "more", "--clips", "0"]);
    let line = place.refused_at_once(&["train"]);
    assert!(line.contains("--config"), "{line}");
    let line = place.refused_at_once(&["sample", "--checkpoint", "x", "--sampler", "eulr"]);
    assert!(line.contains("eulr") && line.contains("ddim"), "{line}");
    let line = place.refused_at_once(&["sample", "--checkpoint", "x", "--clas", "1"]);
    assert!(line.contains("--clas"), "{line}");
}

#[test]
fn impossible_samples_are_refused_by_name() {
    let place = Place::empty();
    place.trained();
    let sample = |extra: &[&str]| {
        let mut args = vec!["sample", "--checkpoint", "run", "--out", "none"];
        args.extend(extra);
        place.refused_at_once(&args)
    };
    let line = sample(&["--class", "8"]);
    assert!(line.contains("--class 8") && line.contains("0 to 7") && line.contains("up_red_square"), "{line}");
    assert!(sample(&["--class", "sideways"]).contains("sideways"));
    for (option, value) in [("--size", "18x16"), ("--frames", "0"), ("--steps", "0"), ("--steps", "1001"), ("--guidance", "inf")]
    {
        let line = sample(&[option, value]);
        assert!(line.contains(&format!("{option}: ")) && line.contains(&format!("got {value}")), "{line}");
    }
    assert!(sample(&["--num", "0"]).contains("--num"));
    assert!(sample(&["--steps", "2", "--eta", "-1"]).contains("eta"));
    assert!(!place.path("none").join("contact_sheet.png").exists());
}

#[test]
fn a_checkpoint_of_a_wrong_shape_is_refused() {
    let place = Place::empty();
    place.trained();
    let path = place.path("run/checkpoints/0000002/ema.safetensors");
    let bytes = std::fs::read(&path).unwrap();

    // The same values with another shape: the header has [2, 8] instead of [16] for one bias.
    let header_len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    assert_eq!(header["t_embedder.mlp.2.bias"]["shape"], serde_json::json!([16]));
    header["t_embedder.mlp.2.bias"]["shape"] = serde_json::json!([2, 8]);
    let header = header.to_string().into_bytes();
    let wrong = [&(header.len() as u64).to_le_bytes(), &header[..], &bytes[8 + header_len..]].concat();
    std::fs::write(place.path("wrong.safetensors"), wrong).unwrap();
    let line = place.refused_at_once(&["sample", "--checkpoint", "wrong.safetensors"]);
    assert!(line.contains("t_embedder.mlp.2.bias") && line.contains("[2, 8]") && line.contains("[16]"), "{line}");

    std::fs::write(place.path("half.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    let line = place.refused_at_once(&["sample", "--checkpoint", "half.safetensors"]);
    assert!(line.contains("half.safetensors"), "{line}");
}

#[test]
fn a_seed_gives_the_same_video_whatever_is_made_beside_it() {
    let place = Place::empty();
    place.trained();
    let common = ["sample", "--checkpoint", "run", "--steps", "3", "--sampler", "ddpm"];
    let sample = |extra: &[&str]| place.ok(&[&common, extra].concat());
    sample(&["--class", "right_red_square", "--num", "3", "--seed", "4", "--out", "many"]);
    sample(&["--class", "5", "--seed", "6", "--out", "one"]);
    let names = ["contact_sheet.png", "right_red_square_seed4.mp4", "right_red_square_seed5.mp4", "right_red_square_seed6.mp4"];
    assert_eq!(files(&place.path("many")), names);
    let read = |name: &str| std::fs::read(place.path(name)).unwrap();
    assert_eq!(read("one/right_red_square_seed6.mp4"), read("many/right_red_square_seed6.mp4"));
    assert_ne!(read("many/right_red_square_seed5.mp4"), read("many/right_red_square_seed6.mp4"));

    sample(&["--class", "5", "--format", "gif", "--frames", "6", "--size", "16x24", "--enlarge", "2", "--out", "gif"]);
    sample(&["--class", "5", "--format", "png", "--out", "png", "--raw-weights"]);
    assert_eq!(files(&place.path("gif")), ["contact_sheet.png", "right_red_square_seed0.gif"]);
    assert_eq!(files(&place.path("png/right_red_square_seed0")).len(), 4);
    // Without --class, every class once.
    sample(&["--out", "all"]);
    assert_eq!(files(&place.path("all")).len(), 8 + 1);
}

#[test]
fn inspect_describes_files_and_folders() {
    let place = Place::empty();
    place.trained();
    let run = place.ok(&["inspect", "run"]);
    assert!(run.contains("a training run") && run.contains("at steps 2") && run.contains("up_red_square"), "{run}");
    let checkpoint = place.ok(&["inspect", "run/checkpoints/0000002"]);
    assert!(checkpoint.contains("weights after 2 steps") && checkpoint.contains("2 blocks of width 16"), "{checkpoint}");
    let optimizer = place.ok(&["inspect", "run/checkpoints/0000002/optimizer.safetensors"]);
    assert!(optimizer.contains("tensors") && optimizer.contains("not usable"), "{optimizer}");
    let config = place.ok(&["inspect", "clips/train.toml"]);
    assert!(config.contains("a training configuration") && config.contains("ema_decay = 0.99"), "{config}");
    let video = place.ok(&["inspect", "clips/videos/up_red_square/000.mp4"]);
    assert!(video.contains("64 × 64") && video.contains("24 at 8.000"), "{video}");
}

#[test]
fn a_run_generates_the_clips_that_sample_generates() {
    let place = Place::empty();
    place.data();
    let output = place.latte(&Place::train_args(&["samples.every=2", "samples.num=9", "samples.steps=2", "samples.seed=4"]));
    assert!(text(&output.stderr).contains("step 2: samples in run/samples/step_0000002"), "{}", text(&output.stderr));
    // The ninth clip is the second of the first class.
    place.ok(&[
        "sample",
        "--checkpoint",
        "run",
        "--class",
        "0",
        "--seed",
        "5",
        "--steps",
        "2",
        "--enlarge",
        "4",
        "--out",
        "again",
    ]);
    let read = |path: &str| std::fs::read(place.path(path)).unwrap();
    let name = "down_blue_disc_seed5.mp4";
    assert_eq!(read(&format!("again/{name}")), read(&format!("run/samples/step_0000002/{name}")));
}

#[test]
fn runs_are_listed_and_drawn() {
    let place = Place::empty();
    place.trained();
    let table = place.ok(&["runs", "."]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["./run", "finished", "2/2"], "{table}");
    std::fs::create_dir_all(place.path("runs/damaged")).unwrap();
    std::fs::write(place.path("runs/damaged/metrics.jsonl"), "no log\n").unwrap();
    let output = place.latte(&["runs", "--json", ".", "run"]);
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((listed.as_array().unwrap().len(), listed[1]["step"].as_u64()), (2, Some(2)));
    let warning = text(&output.stderr);
    assert!(warning.starts_with("warning: ./runs/damaged/metrics.jsonl: line 1") && warning.lines().count() == 1, "{warning}");

    let drawn = place.ok(&["plot", "run", "run/metrics.jsonl", "--metric", "loss,lr", "--out", "a.svg", "--out", "a.png"]);
    assert!(drawn.is_ascii() && drawn.contains(" loss") && drawn.contains(" lr") && drawn.contains("a run"), "{drawn}");
    let svg = std::fs::read_to_string(place.path("a.svg")).unwrap();
    assert!(svg.contains(">loss<") && svg.contains(">lr<"), "{svg}");
    // Two pixels per pixel of the page.
    let png = std::fs::read(place.path("a.png")).unwrap();
    assert_eq!((&png[1..4], &png[16..20]), (b"PNG".as_slice(), 1920_u32.to_be_bytes().as_slice()));
    for (args, words) in [
        (vec!["run", "--metric", "vb"], "--metric vb: no run has"),
        (vec!["run", "--metric", "acc"], "expected one of loss"),
        (vec!["run", "--out", "a.jpg"], "a.jpg: expected a name that ends in .svg or .png"),
        (vec!["run", "--smooth", "1"], "--smooth 1"),
        (vec!["clips"], "clips: no metrics.jsonl"),
        (vec!["runs/damaged"], "line 1"),
    ] {
        let line = place.refused_at_once(&[&["plot"], args.as_slice()].concat());
        assert!(line.contains(words), "{line}");
    }
    assert!(place.refused_at_once(&["runs", "nowhere"]).contains("nowhere"));
}

#[test]
fn training_resumes_unless_fresh_is_given() {
    let place = Place::empty();
    place.trained();
    let line = place.refused_at_once(&[&Place::train_args(&[])[..], &["--fresh"]].concat());
    assert!(line.contains("run") && line.contains("checkpoint"), "{line}");
    let output = place.latte(&Place::train_args(&["train.max_steps=3"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("resuming from"), "{}", text(&output.stderr));
    assert!(place.path("run/checkpoints/0000003").is_dir());
    let elsewhere = Place::train_args(&["output.run=other"]);
    let line = place.refused_at_once(&[&elsewhere[..], &["--resume"]].concat());
    assert!(line.contains("other"), "{line}");
}

#[test]
fn bench_prints_one_json_line_with_the_agreed_keys() {
    let place = Place::empty();
    let line = place.ok(&["bench", "--model", "S/8", "--mode", "train", "--dtype", "bf16", "--threads", "2", "--runs", "1"]);
    assert_eq!(line.lines().count(), 1, "{line}");
    let report: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((report["model"].as_str(), report["mode"].as_str()), (Some("S/8"), Some("train")));
    assert_eq!((report["dtype"].as_str(), report["threads"].as_u64()), (Some("bf16"), Some(2)));
    assert!(report["median_s"].as_f64() > Some(0.0) && report["min_s"].as_f64() <= report["median_s"].as_f64(), "{line}");
    assert_eq!((report["frames"].as_u64(), &report["size"]), (Some(16), &serde_json::json!([256, 256])));
    // The smallest possible frame, and two of them in one clip.
    for (model, more, frames) in
        [("VAE", &["--mode", "encode"][..], 1), ("VAE", &["--tile", "16"], 1), ("VAE-T", &["--frames", "2"], 2)]
    {
        let args = ["bench", "--model", model, "--size", "8x16", "--runs", "1", "--warm-up", "0"];
        let report: serde_json::Value = serde_json::from_str(&place.ok(&[&args[..], more].concat())).unwrap();
        let mode = if more.contains(&"encode") { "encode" } else { "decode" };
        assert_eq!((report["model"].as_str(), report["mode"].as_str()), (Some(model), Some(mode)));
        assert_eq!((report["frames"].as_u64(), &report["size"]), (Some(frames), &serde_json::json!([8, 16])));
    }
}

#[test]
fn bench_refuses_what_does_not_fit_the_model_before_it_works() {
    let place = Place::empty();
    for (args, part) in [
        (&["--model", "T2V", "--mode", "train"][..], "--mode forward only"),
        (&["--model", "VAE", "--mode", "forward"], "--mode decode or encode only"),
        (&["--model", "VAE-T", "--mode", "encode"], "--mode decode only"),
        (&["--model", "S/2", "--mode", "decode"], "--mode forward or train only"),
        (&["--model", "S/2", "--size", "64x64"], "--size"),
        (&["--model", "VAE-T", "--tile", "16"], "--tile"),
        (&["--model", "VAE", "--recompute"], "--recompute"),
        (&["--model", "VAE", "--size", "60x64"], "multiples of 8"),
        (&["--model", "VAE", "--tile", "17"], "an even number"),
        (&["--model", "VAE", "--frames", "0"], "--frames"),
    ] {
        let line = place.refused_at_once(&[&["bench"], args].concat());
        assert!(line.contains(part), "{args:?}: {line}");
    }
}
