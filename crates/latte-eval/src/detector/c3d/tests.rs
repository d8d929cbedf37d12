//! Tests of C3D that need no other program; `tools/check-detectors` compares it with one.

use super::super::formula::{identity, preparation};
use super::super::{Kind, ValueMap};
use super::*;

#[test]
fn the_mean_is_subtracted_in_channel_order() -> Result<()> {
    // All weights are 0 except those that carry the first channel (blue) at the centre of each kernel to the first logit.
    let tensors = tensors().into_iter().map(|(name, shape)| {
        let mut values = vec![0f32; shape.iter().product()];
        if name.ends_with("weight") {
            values[if shape.len() == 5 { 13 } else { 0 }] = 1.0;
        }
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    });
    let mean = Tensor::full(7f32, &MEAN_SHAPE, &Device::Cpu)?;
    let weights: latte_ops::Parameters = tensors.chain([(MEAN.to_string(), mean)]).collect();
    let c3d = C3d::new(&weights, identity("c3d"), preparation(ValueMap::Bytes))?;
    let pixels: Vec<u8> = (0..FRAMES * 4 * 4).flat_map(|_| [10, 20, 30]).collect();
    let logits = c3d.features(Clips { pixels: &pixels, shape: [1, FRAMES, 4, 4] }, FEATURE_LAYERS)?[0].to_vec2::<f32>()?;
    assert!((logits[0][0] - (30.0 - 7.0)).abs() < 1e-4, "{}", logits[0][0]);
    assert_eq!(logits[0][1..], [0.0; 100]);
    let short = Clips { pixels: &pixels[..15 * 4 * 4 * 3], shape: [1, 15, 4, 4] };
    assert!(c3d.features(short, FEATURE_LAYERS).is_err_and(|e| e.to_string().contains("clips of 16 frames, got clips of 15")));
    Ok(())
}

#[test]
fn the_last_pool_reaches_over_the_far_border_and_fc6_takes_channels_before_positions() -> Result<()> {
    // All convolutions pass the first channel unchanged, so the last pool sees the maxima of the frames' 16 × 16 blocks, and each
    // logit is one position of its result.
    const PLACES: [usize; 5] = [0, 1, 4, 15, 16];
    let tensors = tensors().into_iter().map(|(name, shape)| {
        let mut values = vec![0f32; shape.iter().product()];
        match name.as_str() {
            "fc6.weight" => PLACES.iter().enumerate().for_each(|(logit, place)| values[logit * shape[1] + place] = 1.0),
            "fc7.weight" | "fc8.weight" => (0..PLACES.len()).for_each(|logit| values[logit * shape[1] + logit] = 1.0),
            name if name.ends_with("weight") => values[13] = 1.0,
            _ => {}
        }
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    });
    // The mean is the row number of the block.
    let mean: Vec<f32> = (0..MEAN_SHAPE.iter().product()).map(|i: usize| (i / SIDE % SIDE / 16) as f32).collect();
    let mean = Tensor::from_vec(mean, &MEAN_SHAPE, &Device::Cpu)?;
    let weights: latte_ops::Parameters = tensors.chain([(MEAN.to_string(), mean)]).collect();
    let c3d = C3d::new(&weights, identity("c3d"), preparation(ValueMap::Bytes))?;
    // Blue is the number of the block of a pixel, row by row.
    let pixel = |i: usize| [0, 0, (i / SIDE % SIDE / 16 * 7 + i % SIDE / 16) as u8];
    let pixels: Vec<u8> = (0..FRAMES * SIDE * SIDE).flat_map(pixel).collect();
    let logits = c3d.features(Clips { pixels: &pixels, shape: [1, FRAMES, SIDE, SIDE] }, FEATURE_LAYERS)?[0].to_vec2::<f32>()?;
    // The block in row r and column c has the value 6r + c. In a 2 × 2 pool with stride 2 over 7 × 7 blocks, the first position has
    // the maximum of rows and columns 0 and 1, the last only row and column 6. The next channel, which is empty, begins at position
    // 16.
    assert_eq!(logits[0][..5], [7.0, 9.0, 19.0, 42.0, 0.0]);
    Ok(())
}

#[test]
fn frames_are_resized_corner_to_corner_and_keep_their_range() {
    let expected = preparation(ValueMap::Bytes);
    assert_eq!(Kind::C3d.preparation(), Preparation { resize: crate::resize::Resize::CornerBilinear, ..expected });
}

#[test]
fn the_number_of_weights_is_that_of_the_published_network() {
    let values: usize = Kind::C3d.specification().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!(values, 78_409_573 + MEAN_SHAPE.iter().product::<usize>());
}
