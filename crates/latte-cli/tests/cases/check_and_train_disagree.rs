//! `testdata/cases/check-and-train-disagree`: `latte data check` and training agree about a data set.

use std::fs;

use super::case;

#[test]
fn a_class_without_videos_is_an_error_of_both() {
    let place = case("check-and-train-disagree");
    // A repository cannot have an empty folder.
    fs::create_dir_all(place.path("clips/empty")).unwrap();
    let check = ["data", "check", "--config", "tiny.toml"];
    let output = place.latte(&check);
    let said = super::place::text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let what = "clips/empty: no video in this folder, which is a class";
    assert!(said.contains(&format!("error: {what}")), "{said}");
    assert!(place.refused(&["train", "--config", "tiny.toml"]).contains(what));
    let (_, notes) = place.both(&["data", "index", "--path", "clips"]);
    assert!(notes.contains(&format!("warning: {what}")), "{notes}");
    assert!(place.refused(&["data", "bench", "--config", "tiny.toml", "--clips", "1"]).contains(what));
    // Without the empty folder, all of them succeed.
    fs::remove_dir(place.path("clips/empty")).unwrap();
    place.ok(&check);
    place.ok(&["data", "bench", "--config", "tiny.toml", "--clips", "1"]);
    place.ok(&["train", "--config", "tiny.toml", "--set", "train.max_steps=1"]);
}
