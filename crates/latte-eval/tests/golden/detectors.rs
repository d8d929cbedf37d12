//! Outputs of detectors for weights and pixels that a formula gives.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use candle_core::{Device, Tensor};
use golden::{Array, Case, Check, formula_pixels, formula_weight};
use latte_eval::detector::{Clips, FeatureLayer, Identity, Kind, Preparation, Setup, ValueMap};
use latte_eval::resize::Resize;
use latte_ops::Parameters;

const TOLERANCE: f64 = 1e-3;

type Shapes = BTreeMap<String, Vec<usize>>;

/// The names and shapes in the list of keys of a kind.
fn shapes(path: &Path) -> Result<Shapes, Box<dyn Error>> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?)?)
}

fn weights(shapes: Shapes) -> Result<Parameters, Box<dyn Error>> {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = formula_weight(&name, &shape);
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    shapes.into_iter().map(tensor).collect()
}

/// Every output in the file.
pub(crate) fn outputs(path: &Path) -> Result<Vec<Check>, Box<dyn Error>> {
    let case = Case::read(path)?;
    let kind = Kind::from_name(&case.kind).ok_or("a kind of detector")?;
    let text = |key: &str| case.config.get(key).and_then(serde_json::Value::as_str);
    let number = |key: &str| case.config.get(key).and_then(serde_json::Value::as_u64).map(|n| n as usize);
    let preparation = Preparation {
        resize: match text("resize") {
            // Files without this line have frames of the network's own size.
            Some("TF1 bilinear asymmetric to 299") | None => Resize::TfBilinear,
            Some(other) => return Err(format!("resize `{other}` is not known").into()),
        },
        values: match text("normalise") {
            Some("(x-128)/128") => ValueMap::Around128,
            Some("x/255*2-1") => ValueMap::MinusOneToOne,
            other => return Err(format!("normalise {other:?} is not known").into()),
        },
    };
    let setup =
        Setup { preparation: Some(preparation), batch_norm_eps: case.config.get("bn_eps").and_then(serde_json::Value::as_f64) };
    let keys = if kind == Kind::I3d { "eval_i3d_keys.json" } else { "eval_inception_keys.json" };
    let weights = weights(shapes(&path.with_file_name(keys))?)?;
    let identity =
        Identity { kind: kind.name().into(), source: "formula".into(), weights: "formula".into(), batch_norm_eps: None };
    let detector = kind.build(&weights, identity, setup)?;

    let shape =
        [number("n").ok_or("n")?, number("frames").unwrap_or(1), number("size").ok_or("size")?, number("size").ok_or("size")?];
    let pixels = formula_pixels(text("pixels_tag").ok_or("pixels_tag")?, shape);
    let expected: Vec<(&str, &Array)> = case.with_prefix("out.").collect();
    let layer =
        |name: &str| detector.feature_layers().iter().find(|layer| layer.name == name).copied().ok_or(format!("no layer {name}"));
    let layers = expected.iter().map(|(name, _)| layer(name)).collect::<Result<Vec<FeatureLayer>, _>>()?;
    let found = detector.features(Clips { pixels: &pixels, shape }, &layers)?;
    let check = |((name, expected), found): ((&str, &Array), Tensor)| {
        if found.dims() != expected.shape.as_slice() {
            return Err(format!("{name}: expected shape {:?}, got {:?}", expected.shape, found.dims()).into());
        }
        Ok(Check::new_f32(name, &found.flatten_all()?.to_vec1::<f32>()?, expected, TOLERANCE))
    };
    expected.into_iter().zip(found).map(check).collect()
}

/// The list of names and shapes is the network's, so that nothing in it goes unread.
pub(crate) fn keys(path: &Path) -> Result<Vec<Check>, Box<dyn Error>> {
    let mut shapes = shapes(path)?;
    let kind = if shapes.contains_key("fc.weight") { Kind::InceptionFid } else { Kind::I3d };
    let expected = kind.specification();
    let missing = expected.into_iter().filter(|(name, shape)| shapes.remove(name).as_ref() != Some(shape)).count();
    let what = format!("{} names", kind.name());
    Ok(vec![Check { what, error: (missing + shapes.len()) as f64, tolerance: 0.0 }])
}
