//! The README's section "Your own videos": its commands work as written.

use std::path::Path;

use crate::case;

fn shipped(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(name).to_str().unwrap().to_owned()
}

/// The first command of the section, with few steps.
fn train(config: &str, more: &[&str]) -> Vec<String> {
    let block = ["train", "--config", config, "--set", "data.path=my-videos", "--set", "output.run=runs/mine"];
    let few = ["--set", "train.max_steps=2", "--set", "samples.every=2", "--set", "samples.steps=2", "--set", "model.depth=2"];
    block.iter().chain(&few).chain(more).map(ToString::to_string).collect()
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn the_block_works_as_written() {
    let place = case("readme-own-videos");
    let (said, noted) = place.both(&strs(&train(&shipped("small.toml"), &[])));
    assert!(said.contains("finished") && !noted.contains("warning"), "{said}{noted}");
    assert!(noted.contains("2 videos of 2 classes"), "{noted}");
    assert!(place.path("runs/mine/samples/step_0000002/contact_sheet.png").is_file());
    let written =
        place.ok(&["sample", "--checkpoint", "runs/mine", "--num", "4", "--steps", "2", "--guidance", "4", "--out", "samples"]);
    assert_eq!(written.matches(".mp4\n").count(), 8, "{written}");
    assert!(place.path("samples/contact_sheet.png").is_file());
    place.ok(&["sample", "--checkpoint", "runs/mine", "--steps", "2", "--frames", "12", "--size", "64x96", "--out", "wide"]);
    assert!(place.ok(&["inspect", "runs/mine"]).contains("2 classes"), "{}", place.ok(&["inspect", "runs/mine"]));
    assert!(place.ok(&["runs"]).contains("runs/mine"));
}

#[test]
fn the_error_for_a_folder_without_sub_folders_says_what_to_set() {
    let place = case("readme-own-videos");
    for (from, to) in [("life/l1.mp4", "l1.mp4"), ("tests/t1.mp4", "t1.mp4")] {
        std::fs::rename(place.path("my-videos").join(from), place.path("my-videos").join(to)).unwrap();
        std::fs::remove_dir(place.path("my-videos").join(from).parent().unwrap()).unwrap();
    }
    let refused = place.refused(&strs(&train(&shipped("small.toml"), &[])));
    assert!(refused.contains("no sub-folder") && refused.contains("`model.condition = \"none\"`"), "{refused}");
    place.ok(&strs(&train(&shipped("small.toml"), &["--set", "model.condition=none"])));
    place.ok(&["sample", "--checkpoint", "runs/mine", "--steps", "2"]);
}

#[test]
fn a_run_of_days_and_ignored_sub_folders_are_reported() {
    let place = case("readme-own-videos");
    // A small version of the paper's configuration, with so many steps that they take days on every machine.
    let small =
        ["model.preset=Latte-S/8", "model.depth=2", "model.hidden_size=24", "data.size=16", "train.max_steps=1000000000000"];
    let mut args = vec!["train", "--config", "folder.toml", "--set", "data.path=my-videos", "--dry-run"];
    args.extend(small.iter().flat_map(|setting| ["--set", setting]));
    let (said, noted) = place.both(&args);
    assert!(said.contains("# warning: at this speed the run takes") && said.contains("train.max_steps"), "{said}");
    assert!(noted.contains("2 sub-folders (life, tests)") && noted.contains("`model.condition`"), "{noted}");
    let (said, noted) = place.both(&strs(&train(&shipped("small.toml"), &["--dry-run"])));
    assert!(!said.contains("at this speed") && !noted.contains("sub-folders"), "{said}{noted}");
}
