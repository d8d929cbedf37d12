//! Every refusal of this crate, provoked through its public functions and matched by variant and fields. The command's exit codes are in
//! `latte-cli`, `src/failure.rs`.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use candle_core::{DType, Device, Tensor};
use latte_model::Error;
use latte_model::checkpoint::{FORMAT, find_weights, load_weights};
use latte_model::finite::expect_finite;
use latte_model::guidance::{Guidance, GuidedChannels};
use latte_model::model::t2v::T2vConfig;
use latte_model::model::{ConfigHints, Input, Latte, LatteConfig};
use latte_model::noise::{NoiseSource, TorchRng};
use latte_model::weights;
use latte_ops::{Parameters, Tape};

/// The test that provokes the variant: a new variant does not compile until it has one. Shapes that networks refuse are in `vae.rs`.
fn provoked_by(error: &Error) -> &'static str {
    match error {
        Error::Config { .. } => "a_model_without_blocks",
        Error::Shape { .. } => "noise_for_another_number_of_samples",
        Error::Weights(_) => "weights_that_are_none_or_fit_no_model",
        Error::NewerLayout { .. } => "a_checkpoint_of_a_newer_version",
        Error::NotFinite { .. } => "values_that_are_no_numbers",
        Error::Io { .. } => "vae.rs: a configuration that is not there",
        Error::Tensor(_) => "predictions_of_two_types",
        Error::Ops(_) => "a_network_without_weights",
    }
}

fn small() -> LatteConfig {
    let preset = LatteConfig::preset("Latte-S/2").unwrap();
    LatteConfig { input_size: [4, 4], num_frames: 2, hidden_size: 16, depth: 2, num_heads: 2, ..preset }
}

#[test]
fn a_model_without_blocks() {
    let error = Latte::new(LatteConfig { depth: 0, ..small() }).unwrap_err();
    assert_eq!(provoked_by(&error), "a_model_without_blocks");
    assert!(matches!(&error, Error::Config { key, what } if key == "depth" && what == "expected at least 1, got 0"), "{error:?}");
}

#[test]
fn noise_for_another_number_of_samples() {
    let error = vec![TorchRng::new(0)].noise(&[2, 3]).unwrap_err();
    assert_eq!(provoked_by(&error), "noise_for_another_number_of_samples");
    assert!(matches!(&error, Error::Shape { name, got, .. } if name == "noise" && *got == [2, 3]), "{error:?}");
}

/// A shape in a file is the file's fault, and not that of the program, as other shapes are: the exit codes differ.
#[test]
fn weights_that_are_none_or_fit_no_model() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    let error = find_weights(&none).unwrap_err();
    assert_eq!(provoked_by(&error), "weights_that_are_none_or_fit_no_model");
    assert!(matches!(&error, Error::Weights(weights::Error::File { path, .. }) if *path == none), "{error:?}");
    let of =
        |name: &str| [(name.to_string(), Tensor::new(&[1_f32, 2.0], &Device::Cpu).unwrap())].into_iter().collect::<Parameters>();
    let name = "x_embedder.proj.weight";
    let latte = LatteConfig::from_weights(&of(name), ConfigHints::default()).unwrap_err();
    let text = T2vConfig::from_weights(&of("pos_embed.proj.weight"), None).unwrap_err();
    for (error, tensor) in [(latte, name), (text, "pos_embed.proj.weight")] {
        let fits = |name: &str, got: &[usize]| name == tensor && got == [2];
        assert!(matches!(&error, Error::Weights(weights::Error::Shape { name, got, .. }) if fits(name, got)), "{error:?}");
    }
}

#[test]
fn a_checkpoint_of_a_newer_version() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.safetensors");
    weights::save(&file, &Parameters::new(), Some(&serde_json::json!({ "format": FORMAT + 1 }))).unwrap();
    let error = load_weights(&file).unwrap_err();
    assert_eq!(provoked_by(&error), "a_checkpoint_of_a_newer_version");
    let fits = |layout, known| layout == FORMAT + 1 && known == FORMAT;
    assert!(matches!(&error, Error::NewerLayout { path, layout, known } if *path == file && fits(*layout, *known)), "{error:?}");
}

#[test]
fn values_that_are_no_numbers() {
    let values = Tensor::new(&[1_f32, f32::NAN, f32::INFINITY], &Device::Cpu).unwrap();
    let error = expect_finite(&values, || "the prediction".into()).unwrap_err();
    assert_eq!(provoked_by(&error), "values_that_are_no_numbers");
    assert!(matches!(&error, Error::NotFinite { what, count: 2, of: 3, cause: None } if what == "the prediction"), "{error:?}");
}

#[test]
fn predictions_of_two_types() {
    let zeros = |dtype| Tensor::zeros((1, 1, 1, 1, 1), dtype, &Device::Cpu).unwrap();
    let error = Guidance::new(2.0, GuidedChannels::All).combine(&zeros(DType::F32), &zeros(DType::F64)).unwrap_err();
    assert_eq!(provoked_by(&error), "predictions_of_two_types");
}

#[test]
fn a_network_without_weights() {
    let (model, none) = (Latte::new(small()).unwrap(), Parameters::new());
    let x = Tensor::zeros((1, 2, 4, 4, 4), DType::F32, &Device::Cpu).unwrap();
    let error = model.forward(&Tape::inference(), &none, &Input::new(&x, &[0.0])).unwrap_err();
    assert_eq!(provoked_by(&error), "a_network_without_weights");
    assert!(matches!(&error, Error::Ops(latte_ops::Error::MissingParameter(name)) if !name.is_empty()), "{error:?}");
}
