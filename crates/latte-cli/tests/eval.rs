//! Runs `latte eval` with the built program, on tiny videos.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod place;

use std::path::PathBuf;
use std::process::Output;

use place::Place;
use serde_json::Value;

impl Place {
    /// A folder with two sets of eight videos each, `real` and `fake`.
    fn new() -> Self {
        let place = Self::empty();
        for (name, seed) in [("real", "1"), ("fake", "2")] {
            place.ok(&["data", "demo", name, "--clips", "1", "--seed", seed]);
        }
        place
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// Evaluates with the detector that needs no file.
const FVD: [&str; 12] = [
    "eval",
    "fvd",
    "--real",
    "real/videos",
    "--fake",
    "fake/videos",
    "--detector",
    "random-i3d",
    "--frames",
    "9",
    "--allow-few",
    "--real-stride",
];

fn fvd<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    FVD.iter().copied().chain(["2"]).chain(extra.iter().copied()).collect()
}

#[test]
fn a_distance_says_all_that_it_depends_on_and_does_not_depend_on_shares() {
    let place = Place::new();
    let (stdout, stderr) = place.both(&fvd(&["--json", "one.json", "--cache", "one"]));
    assert!(
        stdout.starts_with("fvd ") && stdout.contains("random_i3d (made from a seed") && stdout.contains("2 apart"),
        "{stdout}"
    );
    assert!(stderr.contains("random weights") && stderr.contains("8 generated clips for features of 400 values"), "{stderr}");
    let one = place.json("one.json");
    assert!(one["value"].as_f64().unwrap() > 0.0);
    assert_eq!(one["detector"]["kind"], "random_i3d");
    assert_eq!((&one["real"]["stride"], &one["fake"]["stride"], &one["real"]["clips"]), (&2.into(), &1.into(), &8.into()));
    assert_eq!((&one["protocol"]["name"], &one["protocol"]["frames"]), (&"latte (changed)".into(), &9.into()));
    assert_eq!(one["protocol"]["statistic"]["covariance"], "biased");
    // Two processes: the first one to run has nothing to merge yet, the second one finishes the work.
    let said = place.ok(&fvd(&["--shard", "2/2", "--cache", "two"]));
    assert!(said.contains("1 parts are missing") && !said.contains("fvd "), "{said}");
    place.ok(&fvd(&["--shard", "1/2", "--cache", "two", "--json", "two.json"]));
    assert_eq!(place.json("two.json"), one);
    // A file of features can replace one set.
    let keys: Vec<PathBuf> = std::fs::read_dir(place.path("two")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(keys.len(), 2);
    let files: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(number, key)| {
            let file = format!("set {number}.safetensors");
            let said = place.ok(&["eval", "merge", key.to_str().unwrap(), "--out", &file]);
            assert!(said.contains("8 clips, logits (400) and pool (1024) of random_i3d"), "{said}");
            file
        })
        .collect();
    // The real ones were extracted with a stride of 2.
    let args = |real: usize, stride: &'static str, extra: &[&'static str]| {
        let sets = ["--real", &files[real], "--fake", &files[1 - real], "--real-stride", stride].map(ToString::to_string);
        let rest = ["eval", "fvd", "--detector", "random-i3d", "--allow-few", "--json", "-"];
        rest.iter().chain(extra).map(ToString::to_string).chain(sets).collect::<Vec<_>>()
    };
    let run = |args: Vec<String>| place.latte(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let outputs = [0, 1].map(|real| run(args(real, "2", &["--frames", "9"])));
    let real = outputs.iter().position(|output| output.status.success()).unwrap();
    let again: Value = serde_json::from_slice(&outputs[real].stdout).unwrap();
    assert_eq!(again, one);
    // A score never gets the name of a protocol that its features do not follow.
    let refused = |output: &Output, expected: &str| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains("error: ") && stderr.contains(expected), "{stderr}");
    };
    refused(&outputs[1 - real], "a stride of 2, and the protocol asks for 1");
    refused(&run(args(real, "2", &[])), "frames is 9, and the protocol asks for 16");
    refused(&run(args(real, "2", &["--frames", "9", "--protocol", "tf-fvd"])), "tf_bilinear");
    // The same network with another ε is another detector.
    refused(&run(args(real, "2", &["--frames", "9", "--protocol", "videogpt"])), "but the detector is");
    // NaN is an error.
    let mmd = ["eval", "mmd", "--real", &files[0], "--fake", &files[1], "--name", "pool"];
    for (extra, expected) in [
        (["--gamma", "nan"], "--gamma: expected a finite number, got NaN"),
        (["--coef0", "inf"], "--coef0: expected a finite number"),
        (["--degree", "2000000000"], "no finite number"),
    ] {
        let said = place.refused(&[&mmd[..], &extra, &["--coef0", "3"][..if extra[0] == "--degree" { 2 } else { 0 }]].concat());
        assert!(said.contains(expected), "{extra:?}: {said}");
    }
    // The same with the kernel distance, on the other output.
    let mmd = place.ok(&["eval", "mmd", "--real", &files[0], "--fake", &files[1], "--name", "pool"]);
    assert!(mmd.starts_with("mmd ") && mmd.contains("8 real and 8 generated rows of 1024"), "{mmd}");
}

#[test]
fn all_gives_the_scores_of_the_single_commands_and_reads_a_set_once() {
    let place = Place::new();
    let of = |task: &'static str| {
        let mut args = fvd(&["--json", "-"]);
        args[1] = task;
        args
    };
    let value = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let expected = [value(&place.ok(&of("fvd"))), value(&place.ok(&of("kvd")))];
    let mut args = of("all");
    args.extend(["--detector", "random-i3d"]);
    let (stdout, stderr) = place.both(&args);
    let found = value(&stdout);
    assert_eq!(found.as_array().unwrap()[..], [&expected[..], &expected[..]].concat());
    for set in ["real: 8 clips of 9 frames", "generated: 8 clips of 9 frames"] {
        assert_eq!(stderr.matches(set).count(), 1, "{set}: {stderr}");
    }
}

#[test]
fn what_would_give_no_sound_number_is_refused() {
    let place = Place::new();
    let with = |change: &[(&str, &str)], drop: &[&str]| {
        let mut args: Vec<String> = fvd(&[]).iter().filter(|arg| !drop.contains(arg)).map(ToString::to_string).collect();
        for (option, value) in change {
            match args.iter().position(|arg| arg == option) {
                Some(at) => args[at + 1] = (*value).into(),
                None => args.extend([(*option).to_string(), (*value).to_string()]),
            }
        }
        place.refused(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a str);
    let cases: [Case<'_>; 9] = [
        (&[], &["--real-stride", "2"], "--real-stride"),
        (&[], &["--allow-few"], "8 clips"),
        (&[("--frames", "8")], &[], "needs at least 9"),
        (&[("--fake-stride", "3")], &[], "needs 27"),
        (&[("--real-stride", "4")], &[], "8 are too short"),
        (&[("--protocol", "lattee")], &[], "latte, latte-jpeg75, styleganv"),
        (&[("--protocol", "pytorch-fid")], &[], "says nothing of fvd"),
        (&[("--real", "nowhere")], &[], "nowhere"),
        (&[("--detector", "real/train.toml")], &[], "real/train.toml"),
    ];
    for (change, drop, expected) in cases {
        let said = with(change, drop);
        assert!(said.starts_with("error: ") && said.contains(expected), "{change:?} {drop:?}: {said}");
    }
    assert!(
        place
            .refused(&["eval", "fid", "--real", "real/videos", "--fake", "fake/videos", "--detector", "random-i3d"])
            .contains("needs inception_fid")
    );
    std::fs::write(place.path("broken.npz"), b"PK\x03\x04 no archive").unwrap();
    assert!(with(&[("--real", "broken.npz")], &[]).contains("broken.npz"));
    assert!(place.refused(&["eval", "merge", "real/videos", "--out", "x.safetensors"]).contains("no parts"));
    assert!(place.refused(&["eval", "import", "broken.npz", "--out", "x.safetensors"]).contains("broken.npz"));
}

#[test]
fn bad_sets_are_one_clear_error_and_drops_are_counted() {
    let place = Place::new();
    let videos: Vec<PathBuf> = {
        let mut folders = vec![place.path("fake/videos")];
        let mut videos = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { videos.push(path) }
            }
        }
        videos
    };
    let bytes = std::fs::read(&videos[0]).unwrap();
    let set = |name: &str, files: &[&[u8]]| {
        std::fs::create_dir(place.path(name)).unwrap();
        for (number, bytes) in files.iter().enumerate() {
            std::fs::write(place.path(&format!("{name}/{number}.mp4")), bytes).unwrap();
        }
    };
    let mut damaged = bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle..].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(13));
    set("empty", &[]);
    set("one", &[&bytes]);
    set("nothing", &[b"", b"no video"]);
    set("damaged", &[&bytes, &damaged, &bytes[..bytes.len() / 3], b""]);
    std::fs::write(place.path("file"), b"text").unwrap();
    let with = |real: &'static str, fake: &'static str, extra: &[&'static str]| {
        let args =
            ["eval", "fvd", "--real", real, "--fake", fake, "--detector", "random-i3d", "--frames", "9", "--real-stride", "1"];
        [&args[..], extra].concat()
    };
    let cases: [(Vec<&str>, &str); 10] = [
        (with("empty", "one", &["--allow-few"]), "no video in this folder"),
        (with("one", "empty", &["--allow-few"]), "no video in this folder"),
        (with("file", "one", &["--allow-few"]), "expected a folder of videos"),
        (with("nothing", "one", &["--allow-few"]), "none of its 2 videos"),
        (with("one", "one", &[]), "1 clips; fvd of fewer than 64 says nothing"),
        (with("one", "one", &["--shard", "3/2"]), "expected k/n with 1 ≤ k ≤ n"),
        (with("one", "one", &["--shard", "0/2"]), "expected k/n with 1 ≤ k ≤ n"),
        (with("one", "one", &["--allow-few", "--cache", "file"]), "this is a file; expected a folder"),
        (with("one", "one", &["--allow-few", "--neighbours", "3"]), "3 neighbours of 1 items"),
        (with("one", "one", &["--allow-few", "--bootstrap", "3"]), "needs at least 20"),
    ];
    let features = || std::fs::read_dir(place.path("cache/eval")).map_or(0, Iterator::count);
    for (args, expected) in cases {
        let said = place.refused(&args);
        assert!(said.starts_with("error: ") && said.contains(expected), "{args:?}: {said}");
        assert_eq!(features(), 0, "{args:?}: features were taken, and then came: {said}");
    }
    // All errors about any score are reported before the first one is computed.
    let mut header = br#"{"__metadata__":{"kind":"clip"},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_vec();
    header.splice(0..0, (header.len() as u64).to_le_bytes());
    std::fs::write(place.path("clip.safetensors"), [header, vec![0; 4]].concat()).unwrap();
    let all =
        ["eval", "all", "--real", "one", "--fake", "one", "--frames", "9", "--real-stride", "1", "--detector", "random-i3d"];
    let said = place.refused(&[&all[..], &["--allow-few", "--detector", "clip.safetensors"]].concat());
    assert!(said.contains("latte eval clipsim"), "{said}");
    let said = place.refused(&[&all[..], &["--allow-few", "--detector", "file"]].concat());
    assert!(said.contains("file"), "{said}");
    let said = place.refused(&all);
    assert!(said.contains("--allow-few"), "{said}");
    assert_eq!(features(), 0);
    let (_, stderr) = place.both(&with("damaged", "one", &["--allow-few", "--json", "d.json"]));
    let score = place.json("d.json");
    let real = &score["real"];
    let dropped = real["too_short"].as_u64().unwrap() + real["unreadable"].as_array().unwrap().len() as u64;
    assert_eq!((real["videos"].as_u64(), real["clips"].as_u64().unwrap() + dropped), (Some(4), 4), "{real}");
    assert!(dropped >= 2 && stderr.contains("left out") && score["warnings"].to_string().contains("left out"), "{stderr}");
}

#[test]
fn still_videos_do_not_flicker() {
    let place = Place::new();
    let said = place.ok(&["eval", "flicker", "--fake", "fake/videos", "--json", "f.json"]);
    assert!(said.starts_with("flicker "), "{said}");
    let value = place.json("f.json")["value"].as_f64().unwrap();
    assert!((0.8..1.0).contains(&value), "{value}");
    assert!(place.refused(&["eval", "flicker", "--fake", "fake/videos", "--frames", "1"]).contains("at least 2"));
}

#[test]
fn evaluation_during_training_does_not_change_the_training() {
    let place = Place::new();
    let run = |name: &str, extra: &[&str]| {
        let output = format!("output.run={name}");
        let mut args = vec!["train", "--config", "real/train.toml", "--set", &output];
        let tiny = ["model.hidden_size=16", "model.depth=2", "model.num_heads=2", "train.batch_size=2", "train.max_steps=2"];
        for setting in tiny.iter().chain(&["optimizer.warmup_steps=0"]).chain(extra) {
            args.extend(["--set", setting]);
        }
        place.both(&args).1
    };
    let evaluation = "evaluation={ detectors = [\"random-i3d\"], real_stride = 2, frames = 9, num = 2, steps = 2, at_start = true, every = 1 }";
    run("plain", &[]);
    let said = run("judged", &[evaluation]);
    assert!(
        said.contains("evaluation: random_i3d_fvd against 2 real clips") && said.contains("step 2: random_i3d_fvd"),
        "{said}"
    );
    let log = std::fs::read_to_string(place.path("judged/evaluation.jsonl")).unwrap();
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.iter().map(|r| r["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(records.iter().all(|r| r["clips"] == 2 && r["scores"]["random_i3d_fvd"].as_f64().unwrap() > 0.0), "{log}");
    let weights = |name: &str| std::fs::read(place.path(&format!("{name}/checkpoints/0000002/model.safetensors"))).unwrap();
    assert_eq!(weights("plain"), weights("judged"));
    // `latte runs` and `latte plot` show the scores.
    let table = place.ok(&["runs", "plain", "judged"]);
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].contains("random_i3d_fvd") && rows[2].contains("best") && !rows[1].contains("best"), "{table}");
    let last = records[2]["scores"]["random_i3d_fvd"].as_f64().unwrap();
    assert!(rows[2].contains(&format!("{last:.2}")), "{table}");
    let drawn = place.ok(&["plot", "judged", "--metric", "fvd", "--out", "fvd.svg"]);
    assert!(drawn.contains(" random_i3d_fvd"), "{drawn}");
    let unknown = place.refused(&["plot", "judged", "--metric", "accuracy"]);
    assert!(unknown.ends_with("validation_vb, random_i3d_fvd"), "{unknown}");
    assert!(place.refused(&["plot", "plain", "--metric", "fvd"]).contains("expected one of loss"));
    // Eight frames are too few for I3D, which is reported before the first step.
    let eight = "evaluation={ detectors = [\"random-i3d\"], real_stride = 2, num = 2 }";
    let args = ["train", "--config", "real/train.toml", "--set", "output.run=short", "--set", eight];
    assert!(place.refused(&args).contains("needs at least 9"));
    assert!(!place.path("short").exists());
}
