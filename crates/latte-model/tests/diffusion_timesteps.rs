//! Timestep sampling for training.

use latte_model::diffusion::{TimestepSampler, TimestepSampling};
use latte_model::noise::TorchRng;

/// A sampler that has seen the loss `t + 1` at each of `n` timesteps.
fn taught(n: usize) -> latte_model::Result<TimestepSampler> {
    let mut sampler = TimestepSampler::new(TimestepSampling::LossSecondMoment, n);
    for round in 0..12 {
        for t in 0..n {
            // Two losses more than are kept: the first two, far off, must be dropped.
            let loss = if round < 2 { 1e6 } else { (t + 1) as f64 };
            sampler.update(&[t], &[loss])?;
        }
    }
    Ok(sampler)
}

fn probabilities(sampler: &TimestepSampler) -> Vec<f64> {
    match sampler {
        TimestepSampler::LossSecondMoment(history) => history.probabilities(),
        TimestepSampler::Uniform { num_timesteps } => vec![1.0 / *num_timesteps as f64; *num_timesteps],
    }
}

#[test]
fn uniform_is_torch_randint() -> latte_model::Result<()> {
    let sampler = TimestepSampler::new(TimestepSampling::Uniform, 1000);
    let draw = sampler.sample(&mut TorchRng::new(5), 64)?;
    let expected: Vec<usize> = TorchRng::new(5).randint(0, 1000, 64)?.iter().map(|&t| t as usize).collect();
    assert_eq!(draw.timesteps, expected);
    assert_eq!(draw.weights, vec![1.0; 64]);
    Ok(())
}

#[test]
fn losses_are_ignored_until_every_timestep_is_known() -> latte_model::Result<()> {
    let mut sampler = TimestepSampler::new(TimestepSampling::LossSecondMoment, 4);
    for _ in 0..10 {
        sampler.update(&[0, 1, 2], &[1.0, 2.0, 3.0])?;
        assert_eq!(probabilities(&sampler), [0.25; 4]);
    }
    for _ in 0..9 {
        sampler.update(&[3], &[4.0])?;
    }
    assert_eq!(probabilities(&sampler), [0.25; 4]);
    sampler.update(&[3], &[4.0])?;
    let expected = [0.1, 0.2, 0.3, 0.4].map(|p| p * 0.999 + 0.00025);
    assert!(probabilities(&sampler).iter().zip(expected).all(|(p, e)| (p - e).abs() < 1e-12));
    Ok(())
}

#[test]
fn draws_follow_the_losses_and_weights_make_up_for_it() -> latte_model::Result<()> {
    let sampler = taught(8)?;
    let p = probabilities(&sampler);
    for (t, p) in p.iter().enumerate() {
        assert!((p - ((t + 1) as f64 / 36.0 * 0.999 + 0.001 / 8.0)).abs() < 1e-12, "only the last 10 losses count");
    }
    let n = 40_000;
    let draw = sampler.sample(&mut TorchRng::new(1), n)?;
    let mut counts = [0.0; 8];
    let mut weighted = 0.0;
    for (&t, weight) in draw.timesteps.iter().zip(&draw.weights) {
        counts[t] += 1.0 / n as f64;
        assert!((weight - 1.0 / (8.0 * p[t])).abs() < 1e-12);
        weighted += weight * ((t * t) as f64) / n as f64;
    }
    assert!(counts.iter().zip(&p).all(|(c, p)| (c - p).abs() < 4.0 * (p * (1.0 - p) / n as f64).sqrt()), "{counts:?} {p:?}");
    // The weighted mean of t² is that of uniform draws, 17.5; four standard errors.
    let variance: f64 = (0..8).map(|t| ((t * t) as f64 / (8.0 * p[t]) - 17.5).powi(2) * p[t]).sum();
    assert!((weighted - 17.5).abs() < 4.0 * (variance / n as f64).sqrt(), "{weighted}");
    Ok(())
}

#[test]
fn a_saved_sampler_continues_exactly() -> Result<(), Box<dyn std::error::Error>> {
    for sampler in [taught(8)?, TimestepSampler::new(TimestepSampling::Uniform, 8)] {
        let restored: TimestepSampler = serde_json::from_str(&serde_json::to_string(&sampler)?)?;
        assert_eq!(restored.sample(&mut TorchRng::new(3), 50)?, sampler.sample(&mut TorchRng::new(3), 50)?);
    }
    Ok(())
}

#[test]
fn wrong_losses_are_refused() -> latte_model::Result<()> {
    let mut sampler = taught(8)?;
    for (timesteps, losses) in [(&[8][..], &[1.0][..]), (&[1], &[f64::NAN]), (&[1, 2], &[1.0])] {
        assert!(sampler.update(timesteps, losses).is_err());
    }
    assert!(TimestepSampler::new(TimestepSampling::LossSecondMoment, 0).sample(&mut TorchRng::new(0), 1).is_err());
    assert!(TimestepSampler::new(TimestepSampling::Uniform, 0).sample(&mut TorchRng::new(0), 1).is_err());
    // All losses are 0: uniform, without a division by 0.
    let mut zero = TimestepSampler::new(TimestepSampling::LossSecondMoment, 2);
    for _ in 0..10 {
        zero.update(&[0, 1], &[0.0, 0.0])?;
    }
    assert_eq!(probabilities(&zero), [0.5; 2]);
    Ok(())
}
