//! Training that is stopped by a signal: the step is finished and saved, and the exit code identifies the signal.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod place;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use place::{Place, text};

/// Starts a command, waits until `metrics` has `steps` lines, sends it the signal, and waits for its end.
fn stopped(place: &Place, args: &[&str], metrics: &str, steps: usize, signal: &str) -> Output {
    let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // On a machine of any speed, the child gets there or ends.
    while std::fs::read_to_string(place.path(metrics)).unwrap_or_default().lines().count() < steps {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    send(&child, signal);
    child.wait_with_output().unwrap()
}

fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

fn checkpoints(folder: PathBuf) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_stopped_training_saves_and_ends_with_the_code_of_the_signal() {
    let place = Place::empty();
    place.ok(&["data", "demo", "clips", "--clips", "1"]);
    let endless = ["output.run=run", "train.max_steps=1000000", "output.checkpoint_every=1000000", "train.batch_size=2"];
    let mut args = vec!["train", "--config", "clips/train.toml"];
    args.extend(endless.iter().flat_map(|setting| ["--set", setting]));
    // The second one resumes from the first.
    for (signal, code, wait_for) in [("-INT", 130, 3), ("-TERM", 143, 6)] {
        let output = stopped(&place, &args, "run/metrics.jsonl", wait_for, signal);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        let steps = std::fs::read_to_string(place.path("run/metrics.jsonl")).unwrap().lines().count();
        assert!(checkpoints(place.path("run/checkpoints")).contains(&format!("{steps:07}")));
        assert!(text(&output.stdout).contains(&format!("stopped after step {steps}")), "{}", text(&output.stdout));
        assert!(!text(&output.stderr).contains("error"), "{}", text(&output.stderr));
        let status = std::fs::read_to_string(place.path("run/status.toml")).unwrap();
        assert!(status.contains("phase = \"stopped\""), "{status}");
    }
}

#[test]
fn a_stopped_autoencoder_and_a_stopped_demo_end_in_the_same_way() {
    let place = Place::empty();
    place.ok(&["data", "demo", "clips", "--clips", "2"]);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/vae_demo.toml");
    let mut args = vec!["train-vae", "--config", config];
    for setting in ["data.path=clips/videos", "output.run=vae", "train.max_steps=1000000", "validation.fraction=0.3"] {
        args.extend(["--set", setting]);
    }
    assert_eq!(stopped(&place, &args, "vae/metrics.jsonl", 1, "-INT").status.code(), Some(130));
    let output = stopped(&place, &["demo", "--quick"], "latte-demo/run-450-steps-seed-0/metrics.jsonl", 2, "-TERM");
    assert_eq!(output.status.code(), Some(143), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("the same command resumes from there"), "{}", text(&output.stdout));
    // The run of the demo is found without an argument.
    let table = place.ok(&["runs"]);
    assert!(table.contains("latte-demo/run-450-steps-seed-0") && table.contains("stopped"), "{table}");
}

#[test]
fn without_any_runs_both_places_are_named() {
    let place = Place::empty();
    let refused = place.refused(&["runs"]);
    assert!(refused.contains("runs") && refused.contains("latte-demo") && refused.contains("latte runs FOLDER"), "{refused}");
    std::fs::create_dir(place.path("runs")).unwrap();
    assert!(place.ok(&["runs"]).contains("no runs in runs"));
}
