//! The error for an unreadable checkpoint says how to resume without it, whichever of its files is damaged.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod run;

use std::path::Path;

use latte_ops::CancelToken;
use latte_train::tasks::{autoencoder, class};
use latte_train::{NoProgress, Start, TrainConfig, Trainer, VaeTrainConfig};

/// Damages each file of the newest checkpoint of the run in `folder` in several ways; `open` must refuse each.
fn every_damage(folder: &Path, open: &dyn Fn() -> Result<(), String>) {
    let (newest, before) = (folder.join("checkpoints/0000002"), folder.join("checkpoints/0000001"));
    for file in ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "config.toml", "state.toml"] {
        let path = newest.join(file);
        let whole = std::fs::read(&path).unwrap();
        let half = &whole[..whole.len() / 2];
        for damage in [None, Some(&[][..]), Some(half), Some(b"\xff\xfe nothing of the kind".as_slice())] {
            match damage {
                None => std::fs::remove_file(&path).unwrap(),
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            }
            let error = open().unwrap_err();
            let expected = format!("remove the folder {} to resume from the one before, {}", newest.display(), before.display());
            assert!(error.contains(&expected) && error.contains(file), "{file}, {:?} bytes: {error}", damage.map(<[u8]>::len));
            assert!(!error.contains("copy it again") && !error.contains('\n'), "{error}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    open().unwrap();
    // Following the advice works.
    std::fs::write(newest.join("optimizer.safetensors"), b"x").unwrap();
    open().unwrap_err();
    std::fs::remove_dir_all(&newest).unwrap();
    open().unwrap();
    // The only checkpoint.
    std::fs::write(before.join("model.safetensors"), b"x").unwrap();
    let error = open().unwrap_err();
    assert!(error.contains(&format!("there is no other one: remove the folder {} to begin anew", before.display())), "{error}");
}

#[test]
fn a_damaged_checkpoint_names_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    let config = || -> TrainConfig {
        let overrides = ["train.max_steps=2", "output.checkpoint_every=1", "output.keep_last=9"];
        run::config(&dir.path().join("data"), &dir.path().join("run"), &overrides)
    };
    Trainer::open(class(config()).unwrap(), Start::Auto).unwrap().run(&CancelToken::new(), &mut NoProgress).unwrap();
    every_damage(&dir.path().join("run"), &|| {
        class(config()).and_then(|task| Trainer::open(task, Start::Auto)).map(|_| ()).map_err(|e| e.to_string())
    });
}

#[test]
fn a_damaged_autoencoder_checkpoint_names_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    let text = format!(
        "[autoencoder]\nblock_out_channels = [8, 8]\n[data]\npath = '{}'\nsize = 16\nnum_frames = 2\ndecoder = \"built_in\"\n\
         [train]\nmax_steps = 2\nbatch_size = 1\n[output]\nrun = '{}'\ncheckpoint_every = 1\nkeep_last = 9\n",
        dir.path().join("data").display(),
        dir.path().join("run").display()
    );
    let config = || VaeTrainConfig::from_toml(&text, "test.toml", &[]).unwrap();
    Trainer::open(autoencoder(config()).unwrap(), Start::Auto).unwrap().run(&CancelToken::new(), &mut NoProgress).unwrap();
    every_damage(&dir.path().join("run"), &|| {
        autoencoder(config()).and_then(|task| Trainer::open(task, Start::Auto)).map(|_| ()).map_err(|e| e.to_string())
    });
}

#[test]
fn a_checkpoint_of_a_newer_version_is_not_to_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    run::write_videos(&dir.path().join("data"));
    let config = || run::config(&dir.path().join("data"), &dir.path().join("run"), &["train.max_steps=1"]);
    Trainer::open(class(config()).unwrap(), Start::Auto).unwrap().run(&CancelToken::new(), &mut NoProgress).unwrap();
    let state = dir.path().join("run/checkpoints/0000001/state.toml");
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, text.replace("format = 1", "format = 99")).unwrap();
    let error = class(config()).and_then(|task| Trainer::open(task, Start::Auto)).unwrap_err().to_string();
    assert!(error.contains("layout 99 by a newer version") && !error.contains("remove"), "{error}");
}
