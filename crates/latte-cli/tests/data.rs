//! Runs `latte data index`, `check` and `frames` with the built program.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Runs `latte` in `dir`; returns the exit code, standard output and standard error.
fn latte(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_latte")).current_dir(dir).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The demo's data set of 8 classes, with a broken file in one of them.
fn data() -> TempDir {
    let dir = TempDir::new().unwrap();
    assert_eq!(latte(dir.path(), &["data", "demo", "clips", "--clips", "1"]).0, 0);
    std::fs::write(dir.path().join("clips/videos/up_red_square/broken.mp4"), "no video").unwrap();
    dir
}

const PATH: &str = "clips/videos";

#[test]
fn an_index_is_written_beside_the_folder_and_trained_on() {
    let dir = data();
    let index = ["data", "index", "--path", PATH, "--decoder", "built_in"];
    let (code, out, warnings) = latte(dir.path(), &index);
    assert_eq!(code, 0, "{warnings}");
    assert!(
        out.contains("9 videos of 8 classes, 1 unreadable; 9 were opened") && out.contains("clips/videos.index.jsonl"),
        "{out}"
    );
    assert!(warnings.contains("broken.mp4"), "{warnings}");
    let (_, out, _) = latte(dir.path(), &index);
    assert!(out.contains("1 were opened, 8 known before"), "{out}");

    let tiny = ["model.hidden_size=16", "model.depth=2", "model.num_heads=2", "model.patch_size=4", "data.size=16"];
    let mut train = vec!["train", "--config", "clips/train.toml", "--set", "data.index=clips/videos.index.jsonl"];
    for setting in tiny.iter().chain(&["data.joint_images=2", "train.batch_size=2", "train.max_steps=2", "output.run=run"]) {
        train.extend(["--set", setting]);
    }
    let (code, _, said) = latte(dir.path(), &train);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("8 videos of 8 classes") && said.contains("1 of 9 videos cannot be read"), "{said}");

    let (code, _, said) = latte(dir.path(), &["data", "index", "--path", "nowhere"]);
    assert!(code == 2 && said.lines().count() == 1 && said.contains("nowhere"), "{said}");
    let (code, _, said) = latte(dir.path(), &["data", "index", "--layout", "ucf", "--path", PATH]);
    assert!(code == 2 && said.contains("ucf101"), "{said}");
    train[4] = "data.index=clips/train.toml";
    let (code, _, said) = latte(dir.path(), &train);
    assert!(code == 2 && said.contains("clips/train.toml: line 1: not an index"), "{said}");
}

#[test]
fn a_check_ends_with_1_if_training_could_not_run() {
    let dir = data();
    let check =
        |extra: &[&str]| latte(dir.path(), &[&["data", "check", "--path", PATH, "--decoder", "built_in"], extra].concat());
    let (code, out, said) = check(&["--num-frames", "8", "--frame-interval", "2"]);
    assert_eq!(code, 0, "{out}{said}");
    assert!(out.contains("9 videos of 8 classes, 192 frames") && out.contains("warning: 1 of 9 cannot be read"), "{out}");
    assert!(out.contains("training would run; 1 warnings"), "{out}");
    let (code, out, said) = check(&["--num-frames", "30", "--frame-interval", "1"]);
    assert_eq!(code, 1, "{out}{said}");
    assert!(out.contains("error: 8 of 8 videos are too short") && said.contains("error: training could not run"), "{out}{said}");
    let (code, out, _) = check(&["--num-frames", "8", "--num-classes", "7"]);
    assert!(code == 1 && out.contains("error: 8 classes, where the model has 7"), "{out}");
    // A configuration replaces the options, and so does an index.
    let (code, out, said) = latte(dir.path(), &["data", "check", "--config", "clips/train.toml"]);
    assert!(code == 0 && out.contains("1 of 9 cannot be read"), "{out}{said}");
    latte(dir.path(), &["data", "index", "--path", PATH, "--decoder", "built_in"]);
    std::fs::remove_file(dir.path().join("clips/videos/up_red_square/broken.mp4")).unwrap();
    let (code, out, _) = check(&["--index", "clips/videos.index.jsonl", "--num-frames", "8", "--frame-interval", "2"]);
    assert!(code == 0 && out.contains("1 of 9 is gone or has changed since the index was made"), "{out}");
    // Options that contradict each other.
    assert_eq!(latte(dir.path(), &["data", "check"]).0, 2);
    assert_eq!(check(&["--num-frames", "0"]).0, 2);
    assert_eq!(check(&["--image-list", "x.txt"]).0, 2);
    assert_eq!(check(&["--config", "clips/train.toml"]).0, 2);
}

#[test]
fn a_manifest_is_indexed_and_checked_with_its_columns() {
    let dir = data();
    let list = "clip,what\nup_red_square/0000.mp4,A red square rises\n,nothing\nup_red_square/broken.mp4,broken\n";
    std::fs::write(dir.path().join("list.csv"), list).unwrap();
    let name = std::fs::read_dir(dir.path().join(PATH).join("up_red_square")).unwrap();
    let name = name.map(|e| e.unwrap().file_name().into_string().unwrap()).find(|n| n != "broken.mp4").unwrap();
    std::fs::write(dir.path().join("list.csv"), list.replace("0000.mp4", &name)).unwrap();
    let columns = ["--path-column", "clip", "--caption-column", "what", "--video-path", PATH];
    let with = |command: &'static str| {
        [&["data", command, "--layout", "manifest", "--path", "list.csv", "--decoder", "built_in"][..], &columns[..]].concat()
    };
    let (code, out, warnings) = latte(dir.path(), &with("index"));
    assert!(code == 0 && out.contains("2 videos, 1 unreadable; 2 were opened"), "{out}{warnings}");
    assert!(out.contains("--set data.layout=manifest --set data.index=list.csv.index.jsonl"), "{out}");
    assert!(warnings.contains("list.csv, line 3, column `clip`: empty") && warnings.contains("broken.mp4"), "{warnings}");
    let index = std::fs::read_to_string(dir.path().join("list.csv.index.jsonl")).unwrap();
    assert!(index.contains("\"caption\":\"A red square rises\""), "{index}");
    let (code, out, said) = latte(dir.path(), &[&with("check")[..], &["--num-frames", "8"]].concat());
    assert!(code == 0 && out.contains("1 of 2 cannot be read") && out.contains("one is skipped"), "{out}{said}");
    let (code, _, said) = latte(dir.path(), &[&["data", "index", "--path", PATH][..], &columns[..2]].concat());
    assert!(code == 2 && said.contains("`--layout manifest` only"), "{said}");
    for (path, expected) in [("none.csv", "none.csv"), ("list.txt", "expected .csv"), ("clips", "expected .csv")] {
        let (code, _, said) = latte(dir.path(), &["data", "check", "--layout", "manifest", "--path", path]);
        assert!(code == 2 && said.lines().count() == 1 && said.contains(expected), "{said}");
    }
    let (code, _, said) = latte(dir.path(), &["data", "check", "--layout", "shards", "--path", "clips"]);
    assert!(code == 2 && said.lines().count() == 1 && said.contains("no .tar file"), "{said}");
}

#[test]
fn videos_become_frames_that_training_reads() {
    let dir = data();
    let common = ["data", "frames", "--path", PATH, "--decoder", "built_in", "--out"];
    let frames = [&common[..], &["frames", "--size", "16", "--quality", "95"]].concat();
    let (code, out, said) = latte(dir.path(), &frames);
    assert_eq!(code, 2, "{out}{said}");
    assert!(out.contains("192 frames of 8 videos in frames; 0 videos were there before"), "{out}");
    assert!(said.contains("broken.mp4") && said.contains("error: 1 of 9 videos could not be turned into frames"), "{said}");
    std::fs::remove_file(dir.path().join("clips/videos/up_red_square/broken.mp4")).unwrap();
    let (code, out, _) = latte(dir.path(), &frames);
    assert!(code == 0 && out.contains("0 frames of 0 videos in frames; 8 videos were there before"), "{out}");
    let (code, out, said) = latte(dir.path(), &["data", "check", "--path", "frames", "--size", "16", "--num-frames", "8"]);
    assert!(
        code == 0 && out.contains("8 videos of 8 classes, 192 frames") && out.contains("nothing wrong was found"),
        "{out}{said}"
    );
    let (code, _, said) = latte(dir.path(), &["data", "frames", "--path", PATH, "--out", "frames", "--lossless"]);
    assert!(code == 2 && said.contains("another format"), "{said}");
    assert_eq!(latte(dir.path(), &["data", "frames", "--path", PATH, "--out", "x", "--quality", "0"]).0, 2);
    assert_eq!(latte(dir.path(), &["data", "frames", "--path", PATH, "--out", "x", "--quality", "9", "--lossless"]).0, 2);
}
