//! Kind `latte_t2v`: forward passes of the text-to-video network.

use std::path::Path;

use candle_core::{Device, Tensor};
use golden::{Case, Check};
use latte_model::model::t2v::{LatteT2v, T2vConfig, T2vInput};
use latte_ops::{PackedWeightCache, Precision, Tape};

use super::tensors::{Result, check, parameters, tensor};

const FORWARD: f64 = 1e-5;
/// Operands with 8 significant bits.
const BF16: f64 = 2e-2;

/// `[b, c, f, h, w]`, as files have it, to `[b, f, c, h, w]` and back.
fn frames_first(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.transpose(1, 2)?.contiguous()?)
}

pub(crate) fn latte_t2v(device: &Device, path: &Path) -> Result<Vec<Check>> {
    let case = Case::read(path)?;
    let mut config = case.config.clone();
    // An argument of the reference's forward pass.
    let temporal = config.remove("enable_temporal_attentions").and_then(|v| v.as_bool()).unwrap_or(true);
    let model = LatteT2v::new(T2vConfig::from_json(&config.into())?)?;
    let parameters = model.load(&parameters(&case)?)?.to_device(device)?;
    let x = frames_first(&tensor(case.tensor("in.x")?)?)?.to_device(device)?;
    let timesteps = case.tensor("in.t")?.values.clone();
    let (text, mask) = (tensor(case.tensor("in.text")?)?.to_device(device)?, tensor(case.tensor("in.mask")?)?.to_device(device)?);
    let mut checks = Vec::new();
    for (precision, name, tolerance) in [(Precision::F32, "", FORWARD), (Precision::Bf16, " bf16", BF16)] {
        // Reference quirk: diffusers 0.42 adds the mask unchanged, 0 or 1, to the scores. A mask that hides tokens is tested in
        // crates/latte-model/tests/text_to_video.rs.
        for (output, bias) in [("out", None), ("out_masked", Some(&mask))] {
            let packed = PackedWeightCache::new();
            let tape = Tape::inference().with_precision(precision).with_packed_weight_cache(&packed);
            let context = model.context(&tape, &parameters, &text, bias)?;
            let input = T2vInput { x: &x, timesteps: &timesteps, text: &context, temporal };
            let ours = frames_first(&model.forward(&tape, &parameters, &input)?.to_host()?)?;
            checks.push(check(&case, output, format!("{output}{name}"), &ours, tolerance)?);
        }
    }
    Ok(checks)
}
