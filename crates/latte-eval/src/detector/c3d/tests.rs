//! What can be said of C3D without another program; `tools/check-detectors` compares it with one.

use super::super::formula::{identity, preparation};
use super::super::{Kind, ValueMap};
use super::*;

#[test]
fn the_mean_is_taken_from_the_channels_in_their_order() -> Result<()> {
    // All weights are 0 but those that carry the first channel (blue) of the middle of each kernel to the first logit.
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
    let logits = c3d.features(Clips { pixels: &pixels, shape: [1, FRAMES, 4, 4] }, TAPS)?[0].to_vec2::<f32>()?;
    assert!((logits[0][0] - (30.0 - 7.0)).abs() < 1e-4, "{}", logits[0][0]);
    assert_eq!(logits[0][1..], [0.0; 100]);
    let short = Clips { pixels: &pixels[..15 * 4 * 4 * 3], shape: [1, 15, 4, 4] };
    assert!(c3d.features(short, TAPS).is_err_and(|e| e.to_string().contains("clips of 16 frames, got clips of 15")));
    Ok(())
}

#[test]
fn it_has_as_many_values_as_the_published_network() {
    let values: usize = Kind::C3d.specification().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!(values, 78_409_573 + MEAN_SHAPE.iter().product::<usize>());
}
