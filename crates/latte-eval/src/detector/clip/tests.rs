//! Tests of CLIP that need no other program; `tools/check-detectors` compares it with one.

use super::super::formula::{identity, preparation};
use super::super::{Kind, ValueMap};
use super::*;

/// The network with weights from a formula, scaled down so that attention does not select a single token.
fn clip() -> Result<Clip> {
    let tensors = tensors().into_iter().map(|(name, shape)| {
        // A short formula, repeated: it only matters that all parts differ.
        let some = golden::formula_weight(&name, &[1000]);
        let len = shape.iter().product::<usize>();
        let (scale, shift) = if name.contains("norm") && name.ends_with("weight") { (1.0, 1.0) } else { (0.2, 0.0) };
        let values: Vec<f32> = (0..len).map(|i| some[(i + i / 1000 * 7) % 1000] * scale + shift).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    });
    Clip::new(&tensors.collect::<latte_ops::Parameters>(), identity("clip"), preparation(ValueMap::Clip))
}

#[test]
fn texts_and_images_do_not_depend_on_their_neighbours() -> Result<()> {
    let clip = clip()?;
    let texts = [vec![49_406, 320, 49_407], vec![49_406, 1, 2, 3, 4, 49_407]];
    let both = clip.token_texts(&texts)?;
    for (i, text) in texts.iter().enumerate() {
        let alone = clip.token_texts(std::slice::from_ref(text))?.flatten_all()?.to_vec1::<f32>()?;
        let with = both.get(i)?.to_vec1::<f32>()?;
        assert!(alone.iter().zip(&with).all(|(a, b)| (a - b).abs() < 1e-5));
        assert!((alone.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert!(clip.token_texts(&[vec![49_408]]).is_err() && clip.token_texts(&[vec![1; 78]]).is_err());
    assert!(clip.texts(&["a cat"]).is_err_and(|e| e.to_string().contains("merges.txt")));
    let pixels = golden::formula_pixels("clip", [2, 1, 20, 30]);
    let all = clip.features(Clips { pixels: &pixels, shape: [2, 1, 20, 30] }, FEATURE_LAYERS)?;
    let second = clip.features(Clips { pixels: &pixels[20 * 30 * 3..], shape: [1, 1, 20, 30] }, FEATURE_LAYERS)?;
    let [all, second] = [all[0].get(1)?, second[0].get(0)?].map(|t| t.to_vec1::<f32>().unwrap());
    assert!(all.iter().zip(&second).all(|(a, b)| (a - b).abs() < 1e-5));
    Ok(())
}

#[test]
fn the_number_of_weights_is_that_of_the_published_network() {
    // Without the scale of the logits, one value, which is not used.
    let values: usize = Kind::Clip.specification().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!(values, 151_277_313 - 1);
}

#[test]
fn weights_that_were_trained_with_another_activation_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        check_activation(folder.path()).map_err(|e| e.to_string())
    };
    assert_eq!(check_activation(folder.path()).map_err(|e| e.to_string()), Ok(()));
    assert_eq!(said("config.json", r#"{"model_type": "clip", "text_config": {}}"#), Ok(()));
    assert_eq!(said("config.json", r#"{"vision_config": {"hidden_act": "quick_gelu"}}"#), Ok(()));
    assert!(said("config.json", r#"{"vision_config": {"hidden_act": "gelu"}}"#).unwrap_err().contains("`gelu`"));
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert_eq!(said("open_clip_config.json", r#"{"model_cfg": {"quick_gelu": true}}"#), Ok(()));
    let message = said("open_clip_config.json", r#"{"model_cfg": {"embed_dim": 512}}"#).unwrap_err();
    assert!(message.contains("open_clip_config.json") && message.contains("quick_gelu"), "{message}");
}
