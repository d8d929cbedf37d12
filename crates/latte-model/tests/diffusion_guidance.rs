//! Classifier-free guidance.

use candle_core::{Device, Tensor};
use latte_model::Denoiser;
use latte_model::guidance::{ConditionalDenoiser, Guidance, Guided, GuidedChannels};
use latte_model::noise::TorchRng;

fn values(tensor: &Tensor) -> latte_model::Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

fn tensor(values: &[f64], channels: usize) -> latte_model::Result<Tensor> {
    Ok(Tensor::from_slice(values, (1, 1, channels, 1, values.len() / channels), &Device::Cpu)?)
}

fn first(scale: f64, channels: usize) -> Guidance {
    Guidance::new(scale, GuidedChannels::First(channels))
}

#[test]
fn guidance_by_hand() -> latte_model::Result<()> {
    // One frame of one pixel; channels: two of ε, two of variance.
    let conditional = Tensor::from_slice(&[1.0_f32, 2.0, 10.0, 20.0], (1, 1, 4, 1, 1), &Device::Cpu)?;
    let unconditional = Tensor::from_slice(&[0.5_f32, 4.0, 30.0, 40.0], (1, 1, 4, 1, 1), &Device::Cpu)?;
    let guide = |guidance: Guidance| values(&guidance.combine(&conditional, &unconditional)?);
    assert_eq!(guide(first(3.0, 2))?, [2.0, -2.0, 10.0, 20.0]);
    assert_eq!(guide(first(3.0, 4))?, [2.0, -2.0, -30.0, -20.0]);
    assert_eq!(guide(Guidance::new(3.0, GuidedChannels::All))?, [2.0, -2.0, -30.0, -20.0]);
    Ok(())
}

/// Lin et al. 2024, equations 15 and 16: the share φ of the guided values is rescaled to the deviation of the conditional ones.
#[test]
fn rescaled_guidance_by_hand() -> latte_model::Result<()> {
    // c = (1, 3), u = (0, 0): guided by 2 it is (2, 6), with twice the deviation of c. The last channels are variance.
    let (conditional, unconditional) = (tensor(&[1.0, 3.0, 7.0, 8.0], 2)?, tensor(&[0.0, 0.0, 9.0, 9.0], 2)?);
    for (rescale, expected) in [(0.0, [2.0, 6.0]), (1.0, [1.0, 3.0]), (0.7, [1.3, 3.9])] {
        let guided = Guidance { rescale, ..first(2.0, 1) }.combine(&conditional, &unconditional)?;
        let ours: Vec<f64> = guided.flatten_all()?.to_vec1()?;
        assert!(ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{rescale}: {ours:?}");
        assert_eq!(ours[2..], [7.0, 8.0]);
    }
    // Each sample is rescaled separately; one without deviation is unchanged.
    let c = Tensor::cat(&[&tensor(&[1.0, 3.0], 1)?, &tensor(&[5.0, 5.0], 1)?], 0)?;
    let guided = Guidance { rescale: 1.0, ..Guidance::new(2.0, GuidedChannels::All) }.combine(&c, &c.zeros_like()?)?;
    assert_eq!(guided.flatten_all()?.to_vec1::<f64>()?, [1.0, 3.0, 10.0, 10.0]);
    Ok(())
}

#[test]
fn scale_1_is_conditional_and_scale_0_is_not() -> latte_model::Result<()> {
    let conditional = TorchRng::new(1).randn((3, 2, 8, 3, 3))?;
    let unconditional = TorchRng::new(2).randn((3, 2, 8, 3, 3))?;
    for (scale, expected) in [(1.0, &conditional), (0.0, &unconditional)] {
        let guided = first(scale, 4).combine(&conditional, &unconditional)?;
        let (ours, expected) = (values(&guided.narrow(2, 0, 4)?)?, values(&expected.narrow(2, 0, 4)?)?);
        assert!(ours.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "scale {scale}");
        assert_eq!(values(&guided.narrow(2, 4, 4)?)?, values(&conditional.narrow(2, 4, 4)?)?);
    }
    Ok(())
}

#[test]
fn predictions_that_cannot_be_guided_are_errors() -> latte_model::Result<()> {
    let x = TorchRng::new(1).randn((2, 2, 8, 3, 3))?;
    assert!(first(2.0, 4).combine(&x, &x.narrow(0, 0, 1)?).is_err(), "two shapes");
    assert!(first(2.0, 9).combine(&x, &x).is_err(), "nine channels of eight");
    assert!(first(2.0, 0).combine(&x, &x).is_err(), "nothing to guide");
    assert!(first(2.0, 4).combine(&x.flatten_all()?, &x.flatten_all()?).is_err());
    for (key, guidance) in [
        ("guidance", first(f64::NAN, 4)),
        ("guidance-interval", Guidance { interval: Some([5.0, 4.0]), ..first(2.0, 4) }),
        ("guidance-interval", Guidance { interval: Some([0.0, f64::NAN]), ..first(2.0, 4) }),
        ("guidance-rescale", Guidance { rescale: 1.1, ..first(2.0, 4) }),
    ] {
        let message = guidance.check().err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.starts_with(&format!("{key}: ")), "{message}");
    }
    Ok(())
}

/// Predicts ε = label · x; the null label is −1. Counts the samples of its calls.
struct Labelled {
    labels: Vec<f32>,
    samples: std::cell::Cell<usize>,
}

impl Labelled {
    fn predict(&self, x: &Tensor, labels: Vec<f32>) -> latte_model::Result<Tensor> {
        self.samples.set(self.samples.get() + labels.len());
        let n = labels.len();
        let epsilon = x.broadcast_mul(&Tensor::from_vec(labels, (n, 1, 1, 1, 1), &Device::Cpu)?)?;
        Ok(Tensor::cat(&[&epsilon, x], 2)?)
    }
}

impl ConditionalDenoiser for Labelled {
    fn predict_conditional(&self, x: &Tensor, _timesteps: &[f64]) -> latte_model::Result<Tensor> {
        self.predict(x, self.labels.clone())
    }

    fn predict_both(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<(Tensor, Tensor)> {
        assert_eq!(timesteps.len(), self.labels.len());
        Ok((self.predict(x, self.labels.clone())?, self.predict(x, vec![-1.0; self.labels.len()])?))
    }
}

#[test]
fn a_guided_network_guides_every_sample_by_its_own_label() -> latte_model::Result<()> {
    let x = TorchRng::new(2).randn((2, 1, 3, 2, 2))?;
    for (scale, asked) in [(1.0, 2), (4.0, 4)] {
        let inner = Labelled { labels: vec![2.0, 5.0], samples: std::cell::Cell::new(0) };
        let guided = Guided { inner, guidance: first(scale, 3) };
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

#[test]
fn guidance_acts_in_its_interval_only() -> latte_model::Result<()> {
    let x = TorchRng::new(2).randn((2, 1, 3, 2, 2))?;
    let at = |timesteps: &[f64], scale: f64, interval| -> latte_model::Result<(Vec<f32>, usize)> {
        let inner = Labelled { labels: vec![2.0, 5.0], samples: std::cell::Cell::new(0) };
        let guided = Guided { inner, guidance: Guidance { interval, ..first(scale, 3) } };
        Ok((values(&guided.predict(&x, timesteps)?)?, guided.inner.samples.get()))
    };
    let interval = Some([100.0, 400.0]);
    let (guided, conditional) = (at(&[7.0; 2], 4.0, None)?, at(&[7.0; 2], 1.0, None)?);
    assert_ne!(guided.0, conditional.0);
    for inside in [100.0, 250.5, 400.0] {
        assert_eq!(at(&[inside; 2], 4.0, interval)?, guided);
    }
    for outside in [0.0, 99.9, 400.1, 999.0] {
        assert_eq!(at(&[outside; 2], 4.0, interval)?, conditional, "the network is asked once outside");
    }
    // A batch with samples inside and outside: each by its own timestep.
    let (mixed, _) = at(&[99.0, 100.0], 4.0, interval)?;
    let half = mixed.len() / 2;
    assert_eq!((&mixed[..half], &mixed[half..]), (&conditional.0[..half], &guided.0[half..]));
    Ok(())
}
