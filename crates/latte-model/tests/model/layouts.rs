//! The properties that distinguish the block layouts.

use super::*;

/// Closes the attention gate of block `index`: attention's residual becomes 0.
fn cut_attention(weights: &Parameters, index: usize, name: &str) -> Result<Parameters> {
    let mut cut = weights.clone();
    for part in ["weight", "bias"] {
        let name = format!("blocks.{index}.{name}.proj.{part}");
        let zeros = weights.get(&name)?.zeros_like()?;
        cut.insert(name, zeros);
    }
    Ok(cut)
}

fn model_of(block_layout: BlockLayout, depth: usize) -> Result<(Latte, Parameters)> {
    let model = Latte::new(LatteConfig { block_layout, depth, ..tiny() })?;
    let weights = busy_weights(&model)?;
    Ok((model, weights))
}

#[test]
fn interleaved_has_temporal_attention_in_every_second_block() -> Result<()> {
    let (model, weights) = model_of(BlockLayout::Interleaved, 4)?;
    assert!(influence_on(&model, &weights, 1)? > 1e-4);
    for open in [1, 3] {
        let cut = cut_attention(&weights, 4 - open, "attn")?;
        assert!(influence_on(&model, &cut, 1)? > 1e-4, "block {open} mixes frames");
    }
    let cut = cut_attention(&cut_attention(&weights, 1, "attn")?, 3, "attn")?;
    assert_eq!(influence_on(&model, &cut, 1)?, 0.0, "blocks 0 and 2 do not");
    Ok(())
}

#[test]
fn late_fusion_keeps_frames_apart_in_its_first_half() -> Result<()> {
    let (model, weights) = model_of(BlockLayout::LateFusion, 4)?;
    for open in [2, 3] {
        let cut = cut_attention(&weights, 5 - open, "attn")?;
        assert!(influence_on(&model, &cut, 1)? > 1e-4, "block {open} mixes frames");
    }
    let cut = cut_attention(&cut_attention(&weights, 2, "attn")?, 3, "attn")?;
    assert_eq!(influence_on(&model, &cut, 1)?, 0.0, "blocks 0 and 1 do not");
    Ok(())
}

#[test]
fn factorised_attention_has_both_attentions_in_each_block() -> Result<()> {
    let (model, weights) = model_of(BlockLayout::FactorisedAttention, 1)?;
    assert!(influence_on(&model, &weights, 1)? > 1e-4);
    let no_temporal = cut_attention(&weights, 0, "attn_temp")?;
    assert_eq!(influence_on(&model, &no_temporal, 1)?, 0.0);
    // Without spatial attention, a patch of frame 0 reaches frame 1 only at the same position.
    let no_spatial = cut_attention(&weights, 0, "attn")?;
    assert_eq!(reach(&model, &no_spatial)?, [false, true]);
    assert_eq!(reach(&model, &weights)?, [true, true]);
    Ok(())
}

#[test]
fn split_heads_mix_either_axis_within_one_block_but_not_both() -> Result<()> {
    // In one block a patch reaches its own frame and its own position; other positions of other frames need a second block.
    let (model, weights) = model_of(BlockLayout::SplitHeads, 1)?;
    assert_eq!(reach(&model, &weights)?, [false, true]);
    let (model, weights) = model_of(BlockLayout::SplitHeads, 2)?;
    assert_eq!(reach(&model, &weights)?, [true, true]);
    Ok(())
}

#[test]
fn split_heads_is_the_sum_of_two_projected_halves() -> Result<()> {
    // With zeros in the projection's columns of the temporal half, frames cannot reach each other.
    let (model, mut weights) = model_of(BlockLayout::SplitHeads, 1)?;
    let weight = weights.get("blocks.0.attn.proj.weight")?.to_host()?;
    let spatial_half = Tensor::cat(&[weight.narrow(1, 0, 4)?, weight.narrow(1, 4, 4)?.zeros_like()?], 1)?;
    weights.insert("blocks.0.attn.proj.weight", spatial_half);
    assert_eq!(influence_on(&model, &weights, 1)?, 0.0);
    Ok(())
}

/// Whether changing the first patch of frame 0 reaches frame 1 at another position, and at the same position.
fn reach(model: &Latte, weights: &Parameters) -> Result<[bool; 2]> {
    let x = pseudo_random(&[1, 4, 2, 4, 6], 3)?;
    let mask = Tensor::ones((1, 1, 1, 2, 2), candle_core::DType::F32, &Device::Cpu)?;
    let mask = mask.pad_with_zeros(1, 0, 3)?.pad_with_zeros(3, 0, 2)?.pad_with_zeros(4, 0, 4)?;
    let run = |x: &Tensor| forward(model, weights, &Input { labels: Some(&[1]), ..Input::new(x, &[300.0]) });
    let moved = (run(&x)? - run(&x.broadcast_add(&mask)?)?)?.i((0, 1))?; // [c, h, w]
    Ok([largest(&moved.i((.., 2.., 2..))?)? > 1e-5, largest(&moved.i((.., 0..2, 0..2))?)? > 1e-5])
}
