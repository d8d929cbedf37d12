//! The golden files, with a tolerance of 1e-3, must detect the network that libraries call Inception V3.

use latte_ops::Pool;

use super::super::ValueMap;
use super::super::formula::{Example, preparation, weights};
use super::network::{Network, Pools};
use super::*;

#[test]
fn every_wrong_variant_is_detected() -> Result<()> {
    let weights = weights("eval_inception_keys.json");
    let example = Example::read("eval_inception_299.safetensors");
    let clips = Clips { pixels: &example.pixels, shape: example.shape };
    let error = |eps: f64, pools: Pools, values: ValueMap| -> Result<f64> {
        let network = Network::with_pools(&weights, eps, pools)?;
        let output = network.forward(&preparation(values).apply(clips, SIDE)?, &FEATURE_LAYERS[..1])?;
        Ok(example.error("2048", &output[0]))
    };
    let right = Pools { most: Pool::Mean, last: Pool::Max };
    let found = error(1e-3, right, ValueMap::Around128)?;
    assert!(found < 1e-4, "{found:e}");
    let wrong = [
        ("a library's Inception V3", Pools { most: Pool::MeanWithPadding, last: Pool::MeanWithPadding }, 1e-3),
        ("means that count the padding", Pools { most: Pool::MeanWithPadding, ..right }, 1e-3),
        ("a mean in the last block", Pools { last: Pool::Mean, ..right }, 1e-3),
        ("an epsilon of 1e-5", right, 1e-5),
    ];
    for (what, pools, eps) in wrong {
        let error = error(eps, pools, ValueMap::Around128)?;
        assert!(error > 1e-3, "{what}: {error:e}");
    }
    let error = error(1e-3, right, ValueMap::ZeroToOne)?;
    assert!(error > 1e-3, "values from 0 to 1: {error:e}");
    Ok(())
}
