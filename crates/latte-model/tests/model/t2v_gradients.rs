//! Gradients of the text-to-video network against finite differences, for every parameter.

use latte_model::model::t2v::{LatteT2v, T2vConfig, T2vInput, text_bias};
use latte_model::noise::TorchRng;

use super::*;

/// One pair of blocks of width 16, on 3 frames of 4 × 6 latents, with texts of 3 tokens.
pub(super) fn tiny_t2v() -> T2vConfig {
    T2vConfig {
        num_attention_heads: 2,
        attention_head_dim: 8,
        in_channels: 2,
        out_channels: 4,
        num_layers: 2,
        cross_attention_dim: 16,
        sample_size: 8,
        patch_size: 2,
        caption_channels: 6,
        video_length: 3,
        ..T2vConfig::latte_1()
    }
}

/// Text, its mask with padding in the second clip, and noisy latents.
pub(super) struct Inputs {
    text: Tensor,
    bias: Tensor,
    x: Tensor,
    temporal: bool,
}

impl Inputs {
    pub(super) fn new(frames: usize, temporal: bool) -> Result<Self> {
        let mask = Tensor::new(&[[1f32, 1.0, 1.0], [1.0, 1.0, 0.0]], &Device::Cpu)?;
        let (text, x) = (pseudo_random(&[2, 3, 6], 21)?, pseudo_random(&[2, frames, 2, 4, 6], 22)?);
        Ok(Self { text, bias: text_bias(&mask)?, x, temporal })
    }

    /// The network's output, recorded on `tape`.
    pub(super) fn run<'a>(&'a self, model: &'a LatteT2v, weights: &'a Parameters, tape: &Tape<'a>) -> Result<latte_ops::Var> {
        let context = model.context(tape, weights, &self.text, Some(&self.bias))?;
        let input = T2vInput { x: &self.x, timesteps: &[30.0, 800.0], text: &context, temporal: self.temporal };
        model.forward(tape, weights, &input)
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}

fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok(values(a)?.iter().zip(values(b)?).map(|(a, b)| a * b).sum())
}

/// Moves one parameter after the other along a random direction and compares with the change that the gradient predicts. Returns
/// how many parameters have a gradient.
pub(super) fn check(model: &LatteT2v, inputs: &Inputs) -> Result<usize> {
    const STEP: f64 = 1.0 / 256.0;
    // No zeros, and large enough that every path has an effect.
    let fresh = model.init(&mut TorchRng::new(1))?;
    let mut weights = Parameters::new();
    for (i, (name, tensor)) in fresh.iter().enumerate() {
        weights.insert(name, (pseudo_random(tensor.dims(), i as u64 + 7)? * 0.4)?);
    }
    let tape = Tape::recording();
    let y = inputs.run(model, &weights, &tape)?;
    let output = pseudo_random(y.dims(), 11)?;
    let gradients = tape.backward(&y, output.clone())?;
    let mut checked = 0;
    for (i, (name, tensor)) in weights.iter().enumerate() {
        let is_temporal = name.starts_with("temporal_transformer_blocks.");
        let Some(gradient) = gradients.parameter(name) else {
            assert!(is_temporal && !inputs.temporal, "no gradient of {name}");
            continue;
        };
        checked += 1;
        assert_eq!(gradient.dims(), tensor.dims(), "{name}");
        let direction = pseudo_random(tensor.dims(), i as u64 + 100)?;
        let gradient = &gradient.to_host()?;
        let predicted = dot(gradient, &direction)?;
        let moved = |step: f64| -> Result<f64> {
            let mut moved = weights.clone();
            moved.insert(name, (tensor.to_host()? + (&direction * step)?)?);
            let y = inputs.run(model, &moved, &Tape::inference())?;
            dot(&y.to_host()?, &output)
        };
        let measured = (moved(STEP)? - moved(-STEP)?) / (2.0 * STEP);
        // Compared with the gradient's length, because a random direction may be almost orthogonal to the gradient.
        let error = (predicted - measured).abs() / dot(gradient, gradient)?.sqrt().max(predicted.abs()).max(0.05);
        assert!(error < 0.02, "{name}: predicted {predicted}, measured {measured}");
    }
    Ok(checked)
}

#[test]
fn gradients_of_every_parameter_agree_with_finite_differences() -> Result<()> {
    for attention_bias in [true, false] {
        let config = T2vConfig { attention_bias, ..tiny_t2v() };
        let model = LatteT2v::new(config)?;
        let all = model.init(&mut TorchRng::new(1))?.len();
        assert_eq!(check(&model, &Inputs::new(3, true)?)?, all);
    }
    Ok(())
}

#[test]
fn gradients_of_images_and_without_temporal_blocks_agree_with_finite_differences() -> Result<()> {
    let model = LatteT2v::new(tiny_t2v())?;
    let all = check(&model, &Inputs::new(1, true)?)?;
    let spatial = check(&model, &Inputs::new(3, false)?)?;
    assert!(spatial < all, "{spatial} of {all}");
    Ok(())
}

#[test]
fn recomputed_blocks_give_the_same_gradients_bit_for_bit() -> Result<()> {
    let (model, inputs) = (LatteT2v::new(tiny_t2v())?, Inputs::new(3, true)?);
    let weights = model.init(&mut TorchRng::new(3))?;
    let run = |recompute: bool| -> Result<Vec<(String, Vec<f32>)>> {
        let tape = Tape::recording().with_recompute(recompute);
        let y = inputs.run(&model, &weights, &tape)?;
        let gradients = tape.backward(&y, pseudo_random(y.dims(), 11)?)?.into_parameters()?;
        gradients.iter().map(|(name, t)| Ok((name.to_string(), t.to_host()?.flatten_all()?.to_vec1()?))).collect()
    };
    assert_eq!(run(false)?, run(true)?);
    Ok(())
}
