//! If an output cannot be written, every command reports it before it works.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod place;

use place::Place;

/// Arguments with `OUT` for the output path, and the option that the error names. Inputs are missing, which would be the next
/// error.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["eval", "fvd", "--real", "r", "--fake", "f", "--real-stride", "1", "--detector", "random-i3d", "--json", "OUT"], "--json"),
    (&["eval", "kvd", "--real", "r", "--fake", "f", "--real-stride", "1", "--detector", "random-i3d", "--json", "OUT"], "--json"),
    (&["eval", "fid", "--real", "r", "--fake", "f", "--detector", "d", "--json", "OUT"], "--json"),
    (&["eval", "kid", "--real", "r", "--fake", "f", "--detector", "d", "--json", "OUT"], "--json"),
    (&["eval", "is", "--fake", "f", "--detector", "random-i3d", "--json", "OUT"], "--json"),
    (&["eval", "all", "--real", "r", "--fake", "f", "--real-stride", "1", "--detector", "random-i3d", "--json", "OUT"], "--json"),
    (
        &["eval", "fvd", "--real", "r", "--fake", "f", "--real-stride", "1", "--detector", "random-i3d", "--cache", "OUT"],
        "--cache",
    ),
    (&["eval", "clipsim", "--fake", "f", "--detector", "d", "--json", "OUT"], "--json"),
    (&["eval", "clipsim", "--fake", "f", "--detector", "d", "--cache", "OUT"], "--cache"),
    (&["eval", "flicker", "--fake", "f", "--json", "OUT"], "--json"),
    (&["eval", "mmd", "--real", "r.npz", "--fake", "f.npz", "--json", "OUT"], "--json"),
    (&["eval", "import", "i", "--out", "OUT"], "--out"),
    (&["eval", "merge", "m", "--out", "OUT"], "--out"),
    (&["plot", "run", "--out", "OUT.svg"], "--out"),
    (&["data", "index", "--path", "p", "--out", "OUT"], "--out"),
    (&["data", "frames", "--path", "p", "--out", "OUT"], "--out"),
    (&["data", "demo", "OUT"], "FOLDER"),
    (&["demo", "--out", "OUT"], "--out"),
    (&["encode", "--path", "p", "--vae", "v", "--size", "64", "--out", "OUT"], "--out"),
];

#[test]
fn nothing_is_done_where_nothing_can_be_written() {
    let place = Place::empty();
    std::fs::write(place.path("file"), "before").unwrap();
    for (args, option) in COMMANDS {
        let args: Vec<String> = args.iter().map(|arg| arg.replace("OUT", "file/x")).collect();
        let said = place.refused(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.starts_with(&format!("error: {option} file/x")), "{args:?}: {said}");
    }
    assert_eq!(std::fs::read_to_string(place.path("file")).unwrap(), "before");
    let left: Vec<_> = std::fs::read_dir(place.path(".")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn runs_are_refused_before_their_data_is_read() {
    let place = Place::empty();
    std::fs::write(place.path("file"), "").unwrap();
    place.ok(&["data", "demo", "clips", "--clips", "1"]);
    std::fs::remove_dir_all(place.path("clips/videos")).unwrap();
    let said = place.refused(&["train", "--config", "clips/train.toml", "--set", "output.run=file/run"]);
    assert!(said.starts_with("error: output.run file/run"), "{said}");
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/vae_demo.toml");
    let said = place.refused(&["train-vae", "--config", config, "--set", "output.run=file/run"]);
    assert!(said.starts_with("error: output.run file/run"), "{said}");
}

#[test]
fn folders_of_files_are_made() {
    let place = Place::empty();
    place.ok(&["data", "demo", "clips", "--clips", "1"]);
    place.ok(&["eval", "flicker", "--fake", "clips/videos", "--json", "a/b/flicker.json"]);
    assert!(place.path("a/b/flicker.json").is_file());
    place.ok(&["data", "index", "--path", "clips/videos", "--out", "c/d/index.jsonl"]);
    assert!(place.path("c/d/index.jsonl").is_file());
}
