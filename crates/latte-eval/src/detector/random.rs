//! I3D with random weights from a seed: a detector without any file. Its distances rank videos only roughly and cannot be compared
//! with published ones, but they respond to motion and texture and are the same on every machine.

use candle_core::{Device, Tensor};
use latte_ops::Parameters;
use rayon::prelude::*;

use super::{Detector, Identity, Kind, Setup};
use crate::Result;

/// The name in results.
const KIND: &str = "random_i3d";

/// I3D with weights from `seed`: convolutions with variance 2/fan_in, and normalisations with moderate scales and shifts, so that
/// channels differ as in trained networks.
///
/// # Errors
///
/// If memory runs out.
pub fn random_i3d(seed: u64, setup: Setup) -> Result<Box<dyn Detector>> {
    let kind = Kind::I3d;
    let tensors = kind.specification().into_par_iter().map(|(name, shape)| {
        let values = values(seed, &name, &shape);
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    });
    let weights: Parameters = tensors.collect::<Result<Vec<_>>>()?.into_iter().collect();
    kind.build(&weights, random_i3d_identity(seed, setup), setup)
}

/// The identity of the detector of [`random_i3d`].
pub fn random_i3d_identity(seed: u64, setup: Setup) -> Identity {
    let identity = Identity {
        kind: KIND.into(),
        source: "made from a seed, trained on nothing".into(),
        weights: format!("seed {seed}"),
        batch_norm_eps: None,
    };
    Identity { batch_norm_eps: Kind::I3d.eps(&identity, setup), ..identity }
}

/// The values of the tensor `name`.
fn values(seed: u64, name: &str, shape: &[usize]) -> Vec<f32> {
    let mut numbers = Numbers::of(seed, name);
    let len: usize = shape.iter().product();
    let part = name.rsplit('.').next().unwrap_or_default();
    match (part, shape) {
        ("weight", [_]) => vec![1.0; len],
        ("running_var", _) => (0..len).map(|_| 0.5 + numbers.uniform() as f32).collect(),
        ("weight", [_, inner @ ..]) => {
            // The weights of the logits are smaller, as in a new last layer.
            let variance = if shape[0] == 400 { 0.02 * 0.02 } else { 2.0 / inner.iter().product::<usize>() as f64 };
            numbers.normal(len, variance.sqrt())
        }
        _ => numbers.normal(len, 0.1),
    }
}

/// A separate generator for every tensor, so that tensors can be generated in parallel.
struct Numbers(u64);

impl Numbers {
    fn of(seed: u64, name: &str) -> Self {
        let mut numbers = Self(seed);
        for byte in name.bytes() {
            numbers.0 = numbers.next() ^ u64::from(byte);
        }
        numbers
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1).
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Normal values, by the Box–Muller method.
    fn normal(&mut self, len: usize, deviation: f64) -> Vec<f32> {
        let mut values = Vec::with_capacity(len + 1);
        while values.len() < len {
            let radius = deviation * (-2.0 * self.uniform().ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
            values.extend([(radius * cos) as f32, (radius * sin) as f32]);
        }
        values.truncate(len);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_variance_and_depend_on_seed_and_name() {
        let shape = [64, 64, 3, 3, 3];
        let name = "Mixed_3b.b1b.conv3d.weight";
        let weights = values(1, name, &shape);
        let mean = weights.iter().map(|&v| f64::from(v)).sum::<f64>() / weights.len() as f64;
        let variance = weights.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / weights.len() as f64;
        let expected = 2.0 / (64.0 * 27.0);
        assert!(mean.abs() < 4.0 * (expected / weights.len() as f64).sqrt(), "{mean}");
        assert!((variance / expected - 1.0).abs() < 0.02, "{variance} is not {expected}");
        assert_eq!(weights, values(1, name, &shape));
        assert_ne!(weights, values(2, name, &shape));
        assert_ne!(weights[..9], values(1, "Mixed_3c.b1b.conv3d.weight", &shape)[..9]);
        assert!(values(1, "a.running_var", &[100]).iter().all(|v| (0.5..1.5).contains(v)));
    }

    #[test]
    fn the_weights_are_the_same_on_every_machine() {
        // Computed by the same steps in Python. Recorded distances of `random_i3d` are for these weights.
        let expected: [(&str, &[usize], &[f32]); 4] = [
            ("Conv3d_1a_7x7.conv3d.weight", &[64, 3, 7, 7, 7], &[0.028_118_407, 0.054_147_035, 0.063_784_12, 0.055_886_063]),
            ("Mixed_3b.b0.bn.running_var", &[64], &[0.768_730_9, 1.164_817_1, 0.759_235_1]),
            ("logits.conv3d.bias", &[400], &[-0.054_989_07, 0.104_972_54, 0.052_753_54, -0.291_129_18]),
            ("logits.conv3d.weight", &[400, 1024, 1, 1, 1], &[-0.000_226_214_7, 0.005_329_597, -0.016_795_05]),
        ];
        for (name, shape, expected) in expected {
            for (found, expected) in values(0, name, shape).iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 1e-5, "{name}: {found} is not {expected}");
            }
        }
    }
}
