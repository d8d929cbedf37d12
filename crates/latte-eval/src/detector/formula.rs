//! Weights and pixels of the golden files, for the tests of this crate.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use golden::{Case, formula_pixels, formula_weight};
use latte_ops::Parameters;

use super::{Identity, Preparation, ValueMap};
use crate::resize::Resize;

/// Weights from the formula for the names and shapes listed in the file `keys`.
pub(super) fn weights(keys: &str) -> Parameters {
    let text = std::fs::read_to_string(golden::directory().join(keys)).unwrap();
    let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_str(&text).unwrap();
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = formula_weight(&name, &shape);
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    shapes.into_iter().map(tensor).collect()
}

pub(super) fn identity(kind: &str) -> Identity {
    Identity { kind: kind.into(), source: "formula".into(), weights: "formula".into(), batch_norm_eps: Some(1e-3) }
}

/// A golden file: pixels, their shape, and the expected output `layer`.
pub(super) struct Example {
    pub(super) pixels: Vec<u8>,
    pub(super) shape: [usize; 4],
    case: Case,
}

impl Example {
    pub(super) fn read(name: &str) -> Self {
        let case = Case::read(&Path::new(&golden::directory()).join(name)).unwrap();
        let number = |key: &str| case.config.get(key).and_then(serde_json::Value::as_u64).unwrap_or(1) as usize;
        let shape = [number("n"), number("frames"), number("size"), number("size")];
        let pixels = formula_pixels(case.config["pixels_tag"].as_str().unwrap(), shape);
        Self { pixels, shape, case }
    }

    /// The relative error of a detector's output at `layer`.
    pub(super) fn error(&self, layer: &str, ours: &Tensor) -> f64 {
        let ours: Vec<f64> = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect();
        golden::relative_error(&ours, &self.case.tensor(&format!("out.{layer}")).unwrap().values)
    }
}

pub(super) fn preparation(values: ValueMap) -> Preparation {
    Preparation { resize: Resize::TfBilinear, values }
}
