//! Every value of every axis of the model: shapes, parameter counts, gradients, and the properties of each value.

mod adaptation;
mod axes;
mod counts;
mod gradients;
mod joint_images;
mod layouts;
mod positions;
mod t2v_gradients;

use candle_core::{D, Device, IndexOp, Tensor};
use latte_model::Result;
use latte_model::model::{BlockLayout, Condition, Injection, Input, Latte, LatteConfig, PatchEmbedding, TemporalPosition};
use latte_ops::finite_difference::{assert_close, pseudo_random};
use latte_ops::{Parameters, Tape};

const LAYOUTS: [BlockLayout; 4] =
    [BlockLayout::Interleaved, BlockLayout::LateFusion, BlockLayout::FactorisedAttention, BlockLayout::SplitHeads];

/// A model small enough for finite differences: 4 frames of 4×6 latents.
fn tiny() -> LatteConfig {
    LatteConfig {
        input_size: [4, 6],
        num_frames: 4,
        in_channels: 2,
        patch_size: 2,
        hidden_size: 8,
        depth: 2,
        num_heads: 2,
        mlp_ratio: 2.0,
        block_layout: BlockLayout::Interleaved,
        patch_embedding: PatchEmbedding::UniformFrame,
        injection: Injection::SAdaln,
        condition: Condition::Class { num_classes: 3, dropout: 0.1 },
        temporal_position: TemporalPosition::Absolute,
        learn_sigma: true,
    }
}

/// All combinations of layout, patch embedding, injection and temporal position on the tiny model.
fn all_combinations() -> Vec<LatteConfig> {
    let mut all = Vec::new();
    for block_layout in LAYOUTS {
        for patch_embedding in [PatchEmbedding::UniformFrame, PatchEmbedding::CompressionFrame { tubelet: 2 }] {
            for injection in [Injection::SAdaln, Injection::AllTokens] {
                for temporal_position in [TemporalPosition::Absolute, TemporalPosition::Rope] {
                    all.push(LatteConfig { block_layout, patch_embedding, injection, temporal_position, ..tiny() });
                }
            }
        }
    }
    all
}

/// Weights without zeros (the official initialisation closes the gates of all blocks); positions are unchanged.
fn busy_weights(model: &Latte) -> Result<Parameters> {
    let fresh = model.init(&mut latte_model::noise::TorchRng::new(1))?;
    let mut weights = Parameters::new();
    for (i, spec) in model.parameters().iter().enumerate() {
        let tensor = if spec.is_trainable() {
            (pseudo_random(&spec.shape, i as u64 + 7)? * 0.4)?
        } else {
            fresh.get(&spec.name)?.to_host()?
        };
        weights.insert(spec.name.clone(), tensor);
    }
    Ok(weights)
}

fn forward(model: &Latte, weights: &Parameters, input: &Input<'_>) -> Result<Tensor> {
    Ok(model.forward(&Tape::inference(), weights, input)?.to_host()?)
}

/// The largest absolute value.
fn largest(x: &Tensor) -> Result<f32> {
    Ok(x.abs()?.flatten_all()?.max(D::Minus1)?.to_scalar()?)
}

/// `[b, f, c, h, w]` with its frames permuted by `order`.
fn frames_in_order(x: &Tensor, order: &[u32]) -> Result<Tensor> {
    Ok(x.index_select(&Tensor::new(order, &Device::Cpu)?, 1)?)
}

/// The largest change of frame `frame` of the output when frame 0 of the input changes.
fn influence_on(model: &Latte, weights: &Parameters, frame: usize) -> Result<f32> {
    let x = pseudo_random(&[1, 4, 2, 4, 6], 3)?;
    let changed = Tensor::cat(&[(x.i((.., 0..1))? + 1.0)?, x.i((.., 1..4))?], 1)?;
    let run = |x: &Tensor| forward(model, weights, &Input { labels: Some(&[1]), ..Input::new(x, &[300.0]) });
    largest(&(run(&x)? - run(&changed)?)?.i((.., frame))?)
}
