//! Every refusal of this crate, provoked through its public functions and matched by variant and fields. The command's exit codes are in
//! `latte-cli`, `src/failure.rs`.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod run;

use std::io::ErrorKind;

use candle_core::{Device, Tensor};
use latte_ops::Parameters;
use latte_train::tasks::class;
use latte_train::{Error, LossParts, OptimizerConfig, Start, StepGradients, TrainConfig, TrainState, Trainer, read_metrics};

/// The test that provokes the variant: a new variant does not compile until it has one. What a configuration may not say is also in
/// `src/config`.
///
/// `Evaluator` and `Generate` come from what is made beside the training, which ends no run: the trainer warns with them. An operation
/// of the tensor library in this crate itself fails only where memory runs out, so `Tensor` ends with exit code 1.
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::Config { .. } => "a_key_that_no_configuration_has",
        Error::Data { .. } => "videos_of_which_none_can_be_read",
        Error::Checkpoint { .. } => "a_log_of_something_else",
        Error::Diverged { .. } => "training.rs: a_loss_that_is_no_number_stops_and_leaves_the_checkpoint_alone",
        Error::NoGradient(_) | Error::Ops(_) => "gradients_that_do_not_fit",
        Error::Evaluator(_) | Error::Generate(_) => "beside.rs: a warning, and no end of the run",
        Error::Io { .. } => "a_log_that_is_not_there",
        Error::Latte(_) => "an_autoencoder_that_cannot_be_understood",
        Error::Video(_) => "a_data_set_that_is_not_there",
        Error::Tensor(_) => "no test: a fault of the machine",
    }
}

fn opened(config: TrainConfig) -> Result<(), Error> {
    class(config).and_then(|task| Trainer::open(task, Start::Fresh)).map(drop)
}

#[test]
fn a_key_that_no_configuration_has() {
    let error =
        TrainConfig::from_toml("[data]\npath = 'x'\nsize = 16\n[output]\nrun = 'y'\n", "my.toml", &["optimizer.taste=1".into()])
            .unwrap_err();
    assert_eq!(provoked_by(&error), "a_key_that_no_configuration_has");
    let Error::Config { source_name, key, what } = &error else { panic!("{error:?}") };
    assert!(source_name == "my.toml" && key == "optimizer.taste" && !what.is_empty(), "{error:?}");
}

#[test]
fn videos_of_which_none_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for class in ["a", "b"] {
        std::fs::create_dir_all(data.join(class)).unwrap();
        std::fs::write(data.join(class).join("0.mp4"), "no video").unwrap();
    }
    let error = opened(run::config(&data, &dir.path().join("run"), &[])).unwrap_err();
    assert_eq!(provoked_by(&error), "videos_of_which_none_can_be_read");
    assert!(matches!(&error, Error::Data { path, what } if path.starts_with(&data) && !what.is_empty()), "{error:?}");
}

#[test]
fn a_log_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("metrics.jsonl");
    std::fs::write(&log, "no record\n").unwrap();
    let error = read_metrics(&log).unwrap_err();
    assert_eq!(provoked_by(&error), "a_log_of_something_else");
    assert!(matches!(&error, Error::Checkpoint { path, what } if *path == log && what.starts_with("line 1: ")), "{error:?}");
}

#[test]
fn a_log_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none.jsonl");
    let error = read_metrics(&none).unwrap_err();
    assert_eq!(provoked_by(&error), "a_log_that_is_not_there");
    assert!(matches!(&error, Error::Io { path, source } if *path == none && source.kind() == ErrorKind::NotFound), "{error:?}");
}

#[test]
fn gradients_that_do_not_fit() {
    let named =
        |values: &[f32]| [("w".to_string(), Tensor::new(values, &Device::Cpu).unwrap())].into_iter().collect::<Parameters>();
    let mut state = TrainState::new(&named(&[1.0, 2.0]), &["w".into()]).unwrap();
    let mut step = |gradients| {
        let (parts, clip_losses) = (LossParts::default(), Vec::new());
        let found = StepGradients { gradients, grad_norm: 1.0, loss: 1.0, parts, clip_losses };
        let error = state.take_step(&found, &OptimizerConfig::default(), 0.1).unwrap_err();
        assert_eq!(provoked_by(&error), "gradients_that_do_not_fit");
        error
    };
    let error = step(Parameters::new());
    assert!(matches!(&error, Error::NoGradient(name) if name == "w"), "{error:?}");
    let error = step(named(&[1.0]));
    assert!(matches!(&error, Error::Ops(latte_ops::Error::Shape { got, .. }) if got == "[1]"), "{error:?}");
}

#[test]
fn an_autoencoder_that_cannot_be_understood() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    run::write_videos(&data);
    let vae = dir.path().join("vae");
    std::fs::create_dir(&vae).unwrap();
    std::fs::write(vae.join("config.json"), "no JSON").unwrap();
    let overrides = ["autoencoder.kind=kl".to_string(), format!("autoencoder.path={}", vae.display())];
    let overrides = overrides.each_ref().map(String::as_str);
    let error = opened(run::config(&data, &dir.path().join("run"), &overrides)).unwrap_err();
    assert_eq!(provoked_by(&error), "an_autoencoder_that_cannot_be_understood");
    let Error::Latte(latte_model::Error::Weights(latte_model::weights::Error::File { path, what })) = &error else {
        panic!("{error:?}")
    };
    assert!(*path == vae.join("config.json") && what.starts_with("is no JSON"), "{error:?}");
}

#[test]
fn a_data_set_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    let error = opened(run::config(&none, &dir.path().join("run"), &[])).unwrap_err();
    assert_eq!(provoked_by(&error), "a_data_set_that_is_not_there");
    assert!(matches!(&error, Error::Video(latte_video::Error::Folder { path, .. }) if *path == none), "{error:?}");
}
