//! Messages of `latte train` about a number written as `1e6`, and about a damaged checkpoint.

use std::fs;

use crate::case;

#[test]
fn a_million_steps_may_be_written_as_1e6() {
    let place = case("unclear-errors");
    let reads = |text: &str| {
        fs::write(place.path("written.yaml"), text).unwrap();
        place.refused(&["train", "--config", "written.yaml", "--dry-run"])
    };
    let yaml = fs::read_to_string(place.path("steps.yaml")).unwrap();
    assert!(yaml.contains("max_train_steps: 1e6"));
    for written in ["1e6", "1000000", "1_000_000", "1.0e6"] {
        // The number is accepted: the next error is about the videos, which are missing.
        let refused = reads(&yaml.replace("max_train_steps: 1e6", &format!("max_train_steps: {written}")));
        assert!(refused.contains("t/data: no such folder") && !refused.contains("max_train_steps"), "{written}: {refused}");
    }
    for (written, shown) in [("1.5", "1.5"), ("-1e3", "-1000"), ("1e400", "\"1e400\""), ("many", "\"many\"")] {
        let refused = reads(&yaml.replace("max_train_steps: 1e6", &format!("max_train_steps: {written}")));
        let expected = format!("max_train_steps: expected a whole number of at least 0, got {shown}");
        assert!(refused.ends_with(&expected), "{written}: {refused}");
    }
}

#[test]
fn a_damaged_newest_checkpoint_names_the_one_before() {
    let place = case("h264-noise");
    place.ok(&["train", "--config", "untrained.toml", "--set", "samples.every=0"]);
    let optimizer = place.path("run/checkpoints/0000006/optimizer.safetensors");
    fs::OpenOptions::new().write(true).open(&optimizer).unwrap().set_len(1000).unwrap();
    let more = ["train", "--config", "untrained.toml", "--set", "samples.every=0", "--set", "train.max_steps=7"];
    let refused = place.refused(&more);
    assert!(refused.contains("optimizer.safetensors"), "{refused}");
    let expected = "remove the folder run/checkpoints/0000006 to resume from the one before, run/checkpoints/0000004";
    assert!(refused.ends_with(expected), "{refused}");
    fs::remove_dir_all(place.path("run/checkpoints/0000006")).unwrap();
    let (_, noted) = place.both(&more);
    assert!(noted.contains("resuming from run/checkpoints/0000004"), "{noted}");
    assert!(noted.contains("train.max_steps: 6 → 7"), "{noted}");
}
