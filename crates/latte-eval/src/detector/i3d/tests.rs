//! The golden files, with a tolerance of 1e-3, must detect wrong variants of I3D.

use latte_ops::Padding;

use super::super::ValueMap;
use super::super::formula::{Example, preparation, weights};
use super::network::{Network, Paddings};
use super::*;

const TOLERANCE: f64 = 1e-3;

/// The error of logits of the shortest golden clip.
fn error(eps: f64, paddings: Paddings, values: ValueMap, change: impl Fn(&mut [u8; 3])) -> Result<f64> {
    let mut example = Example::read("eval_i3d_10.safetensors");
    example.pixels.as_chunks_mut::<3>().0.iter_mut().for_each(change);
    let network = Network::with_paddings(&weights("eval_i3d_keys.json"), eps, paddings)?;
    let clips = Clips { pixels: &example.pixels, shape: example.shape };
    let [logits, _] = network.forward(&preparation(values).apply(clips, SIDE)?)?;
    Ok(example.error("logits", &logits))
}

const RIGHT: Paddings = Paddings { stem: Padding::Same, pools: |_| Padding::Same };

#[test]
fn every_wrong_variant_is_detected() -> Result<()> {
    let right = error(1e-3, RIGHT, ValueMap::MinusOneToOne, |_| ())?;
    assert!(right < TOLERANCE / 10.0, "{right:e}");
    let symmetric_stem = Paddings { stem: Padding::Around([[3; 2]; 3]), ..RIGHT };
    let symmetric_pools = Paddings { pools: |size| Padding::Around(size.map(|s| [s / 2; 2])), ..RIGHT };
    let wrong = [
        ("a stem padded alike on both sides", error(1e-3, symmetric_stem, ValueMap::MinusOneToOne, |_| ())?),
        ("pools padded alike on both sides", error(1e-3, symmetric_pools, ValueMap::MinusOneToOne, |_| ())?),
        ("values from 0 to 1", error(1e-3, RIGHT, ValueMap::ZeroToOne, |_| ())?),
        ("blue before green before red", error(1e-3, RIGHT, ValueMap::MinusOneToOne, |pixel| pixel.reverse())?),
        ("an epsilon of 1e-5", error(1e-5, RIGHT, ValueMap::MinusOneToOne, |_| ())?),
    ];
    for (what, error) in wrong {
        assert!(error > TOLERANCE, "{what}: {error:e}");
    }
    Ok(())
}

#[test]
fn logits_of_two_time_steps_are_averaged() -> Result<()> {
    // 17 frames leave two time steps after the last pool, while the clips of the golden files leave one. The expected values come
    // from the PyTorch I3D of `tools/check-evaluation`, with the same weights and pixels.
    let pixels = golden::formula_pixels("two steps", [1, 17, SIDE, SIDE]);
    let network = Network::new(&weights("eval_i3d_keys.json"), 1e-3)?;
    let clips = Clips { pixels: &pixels, shape: [1, 17, SIDE, SIDE] };
    let logits = network.forward(&preparation(ValueMap::MinusOneToOne).apply(clips, SIDE)?)?[0].to_vec2::<f32>()?.remove(0);
    let expected = [-1.338_258_3, 4.873_891_4, -0.061_947_405, -2.684_074_4, 4.623_626, -5.330_987];
    for (found, expected) in logits.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{logits:?}");
    }
    let norm = logits.iter().map(|v| v * v).sum::<f32>().sqrt();
    assert!((norm - 68.030_365).abs() < 1e-3, "{norm}");
    Ok(())
}

#[test]
fn short_clips_and_unknown_layers_are_refused() -> Result<()> {
    let i3d = I3d::new(
        &weights("eval_i3d_keys.json"),
        1e-3,
        super::super::formula::identity("i3d"),
        preparation(ValueMap::MinusOneToOne),
    )?;
    let message =
        |clips: Clips<'_>, layer: FeatureLayer| i3d.features(clips, &[layer]).err().map(|e| e.to_string()).unwrap_or_default();
    let pixels = vec![0; 8 * 16 * 16 * 3];
    let eight = Clips { pixels: &pixels, shape: [1, 8, 16, 16] };
    assert!(message(eight, FEATURE_LAYERS[0]).contains("at least 9 frames, got clips of 8"));
    assert!(message(Clips { shape: [1, 9, 16, 16], ..eight }, FEATURE_LAYERS[0]).contains("pixels"));
    let pixels = vec![0; 9 * 16 * 16 * 3];
    let nine = Clips { pixels: &pixels, shape: [1, 9, 16, 16] };
    assert!(message(nine, FeatureLayer { name: "2048", width: 2048 }).contains("logits, pool"));
    Ok(())
}
