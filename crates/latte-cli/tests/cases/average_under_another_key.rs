//! `average-under-another-key`: if a file has several sets of weights, the average is used, whatever its key, and this is reported.

use latte_model::weights::{Pretrained, TensorSource};

use crate::case;

#[test]
fn the_average_is_used_and_reported() {
    let place = case("average-under-another-key");
    let (_, told) = place.both(&["convert", "ema_model.pt", "out.safetensors", "--heads", "2"]);
    assert!(told.contains("the averaged weights in `ema_model` are taken (32 tensors)"), "{told}");
    assert!(told.contains("left are `model` (32 tensors of the same names)"), "{told}");
    let values = |name: &str| {
        let weights = Pretrained::open(&place.path(name)).unwrap();
        weights.f32_tensor("blocks.0.attn.qkv.weight").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert!(values("out.safetensors").iter().any(|value| *value != 0.0));
    let told = place.ok(&["inspect", "ema_model.pt"]);
    assert!(told.contains("`ema_model`; 32 tensors in other parts") && told.contains("left are `model`"), "{told}");
    // The other set can be selected, and a missing one is named.
    place.ok(&["convert", "ema_model.pt", "raw.safetensors", "--heads", "2", "--part", "model"]);
    assert!(values("raw.safetensors").iter().all(|value| *value == 0.0));
    let message = place.refused(&["convert", "ema_model.pt", "x.safetensors", "--heads", "2", "--part", "ema"]);
    assert!(message.contains("`ema`") && message.contains("`ema_model` (32 tensors)"), "{message}");
}

/// The program reports its assumptions about a file without metadata, and asks for what it cannot know.
#[test]
fn assumptions_are_reported() {
    let place = case("average-under-another-key");
    let message = place.refused(&["convert", "ema_model.pt", "x.safetensors"]);
    assert!(message.contains("--heads"), "{message}");
    let args = ["convert", "ema_model.pt", "x.safetensors", "--heads", "2"];
    let (_, told) = place.both(&args);
    for part in ["predicts epsilon", "variance fixed_large", "8 frames per second", "this may be wrong"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let more = ["--prediction", "x0", "--variance", "fixed_small", "--fps", "12.5"];
    let (_, told) = place.both(&[&args[..], &more].concat());
    assert!(!told.contains("predicts epsilon") && !told.contains("frames per second"), "{told}");
    let told = place.ok(&["inspect", "x.safetensors"]);
    assert!(told.contains("predicts x0, variance fixed_small") && told.contains("12.500 per second"), "{told}");
    let message = place.refused(&[&args[..], &["--variance", "learned_range"]].concat());
    assert!(message.contains("predicts no variance"), "{message}");
    // Now the file has metadata: an option that contradicts it is refused.
    let message = place.refused(&["convert", "x.safetensors", "y.pt", "--prediction", "epsilon"]);
    assert!(message.contains("--prediction") && message.contains("says x0"), "{message}");
}
