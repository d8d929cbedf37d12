//! Classifier-free guidance.

use candle_core::{Device, Tensor};
use latte::Denoiser;
use latte::guidance::{ConditionalDenoiser, Guided, guide_class};
use latte::noise::TorchRng;

fn values(tensor: &Tensor) -> latte::Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

#[test]
fn guidance_by_hand() -> latte::Result<()> {
    // One frame of one pixel; channels: two of ε, two of variance.
    let conditional = [1.0_f32, 2.0, 10.0, 20.0];
    let unconditional = [0.5_f32, 4.0, 30.0, 40.0];
    let prediction = Tensor::from_vec([conditional, unconditional].concat(), (2, 1, 4, 1, 1), &Device::Cpu)?;
    let guided = guide_class(&prediction, 3.0, 2)?;
    assert_eq!(values(&guided)?, [2.0, -2.0, 10.0, 20.0, 2.0, -2.0, 30.0, 40.0]);
    let without_variance = guide_class(&prediction, 3.0, 4)?;
    assert_eq!(values(&without_variance)?, [2.0, -2.0, -30.0, -20.0, 2.0, -2.0, -30.0, -20.0]);
    Ok(())
}

#[test]
fn scale_1_is_conditional_and_scale_0_is_not() -> latte::Result<()> {
    let prediction = TorchRng::new(1).randn((6, 2, 8, 3, 3))?;
    for (scale, start) in [(1.0, 0), (0.0, 3)] {
        let expected = values(&prediction.narrow(0, start, 3)?.narrow(2, 0, 4)?)?;
        let guided = guide_class(&prediction, scale, 4)?;
        for half in [0, 3] {
            let ours = values(&guided.narrow(0, half, 3)?.narrow(2, 0, 4)?)?;
            assert!(ours.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "scale {scale}, half {half}");
        }
        assert_eq!(values(&guided.narrow(2, 4, 4)?)?, values(&prediction.narrow(2, 4, 4)?)?);
    }
    Ok(())
}

#[test]
fn shapes_that_cannot_be_guided_are_errors() -> latte::Result<()> {
    let prediction = TorchRng::new(1).randn((3, 2, 8, 3, 3))?;
    assert!(guide_class(&prediction, 2.0, 4).is_err(), "an odd batch has no halves");
    let prediction = prediction.narrow(0, 0, 2)?;
    assert!(guide_class(&prediction, 2.0, 9).is_err(), "nine channels of eight");
    assert!(guide_class(&prediction, 2.0, 0).is_err(), "nothing to guide");
    assert!(guide_class(&prediction.flatten_all()?, 2.0, 4).is_err());
    Ok(())
}

/// ε = label · x; the null label is −1. Counts the samples that it was asked about.
struct Labelled {
    labels: Vec<f32>,
    samples: std::cell::Cell<usize>,
}

impl Labelled {
    fn predict(&self, x: &Tensor, labels: Vec<f32>) -> latte::Result<Tensor> {
        self.samples.set(self.samples.get() + labels.len());
        let n = labels.len();
        let epsilon = x.broadcast_mul(&Tensor::from_vec(labels, (n, 1, 1, 1, 1), &Device::Cpu)?)?;
        Ok(Tensor::cat(&[&epsilon, x], 2)?)
    }
}

impl ConditionalDenoiser for Labelled {
    fn predict_conditional(&self, x: &Tensor, _timesteps: &[f64]) -> latte::Result<Tensor> {
        self.predict(x, self.labels.clone())
    }

    fn predict_both(&self, x: &Tensor, timesteps: &[f64]) -> latte::Result<Tensor> {
        assert_eq!(timesteps.len(), 2 * self.labels.len());
        self.predict(x, [self.labels.clone(), vec![-1.0; self.labels.len()]].concat())
    }
}

#[test]
fn a_guided_network_guides_every_sample_by_its_own_label() -> latte::Result<()> {
    let x = TorchRng::new(2).randn((2, 1, 3, 2, 2))?;
    for (scale, asked) in [(1.0, 2), (4.0, 4)] {
        let inner = Labelled { labels: vec![2.0, 5.0], samples: std::cell::Cell::new(0) };
        let guided = Guided { inner, scale, channels: 3 };
        let prediction = guided.predict(&x, &[7.0, 7.0])?;
        assert_eq!(prediction.dims(), [2, 1, 6, 2, 2]);
        assert_eq!(guided.inner.samples.get(), asked, "scale {scale}");
        for (sample, label) in [2.0, 5.0].into_iter().enumerate() {
            let factor = -1.0 + scale * (label + 1.0); // u + scale · (c − u)
            let x = x.narrow(0, sample, 1)?;
            let ours = values(&prediction.narrow(0, sample, 1)?.narrow(2, 0, 3)?)?;
            assert!(ours.iter().zip(values(&(&x * factor)?)?).all(|(a, b)| (a - b).abs() < 1e-4), "scale {scale}");
            assert_eq!(values(&prediction.narrow(0, sample, 1)?.narrow(2, 3, 3)?)?, values(&x)?);
        }
    }
    Ok(())
}
