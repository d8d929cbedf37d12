//! Gradients of every loss with respect to the network's prediction, against finite differences.

use candle_core::{DType, Device, Tensor, Var};
use latte_model::diffusion::{Diffusion, DiffusionConfig, LossType, MinSnr, PredictionType, TimestepSpacing, VarianceType};
use latte_model::noise::TorchRng;

const LOSSES: [LossType; 4] = [LossType::Mse, LossType::RescaledMse, LossType::Kl, LossType::RescaledKl];
const PREDICTIONS: [PredictionType; 3] = [PredictionType::Epsilon, PredictionType::X0, PredictionType::Velocity];
const VARIANCES: [VarianceType; 4] =
    [VarianceType::FixedSmall, VarianceType::FixedLarge, VarianceType::Learned, VarianceType::LearnedRange];

/// The inputs of a loss, f64. It has step 0 and later steps, so that it covers both forms of the variational term.
struct Problem {
    diffusion: Diffusion,
    x0: Tensor,
    noise: Tensor,
    x_t: Tensor,
    steps: Vec<usize>,
    prediction: Tensor,
}

impl Problem {
    fn new(loss: LossType, prediction: PredictionType, variance: VarianceType, steps: &[usize]) -> latte_model::Result<Self> {
        let config = DiffusionConfig { num_timesteps: 200, prediction, variance, loss, ..DiffusionConfig::default() };
        let diffusion = Diffusion::new(&config, &TimestepSpacing::All)?;
        let mut rng = TorchRng::new(11);
        let mut draw = |scale: f64| -> latte_model::Result<Tensor> {
            Ok((rng.randn((steps.len(), 1, 2, 2, 1))?.to_dtype(DType::F64)? * scale)?)
        };
        let x0 = draw(0.7)?;
        let noise = draw(1.0)?;
        let x_t = diffusion.q_sample(&x0, steps, &noise)?;
        // A prediction near the truth: far from it the likelihood of step 0 is so small that its differences are all rounding. An
        // error of x0 counts in full there; one of ε or v is scaled down.
        let off = if prediction == PredictionType::X0 { 0.005 } else { 0.05 };
        let mut output = (diffusion.target(&x0, &noise, steps)? + draw(off)?)?;
        let values = draw(0.3)?;
        output = match variance {
            VarianceType::LearnedRange => Tensor::cat(&[output, values], 2)?,
            VarianceType::Learned => Tensor::cat(&[output, (values - 4.0)?], 2)?,
            _ => output,
        };
        Ok(Self { diffusion, x0, noise, x_t, steps: steps.to_vec(), prediction: output })
    }

    fn loss(&self, prediction: &Tensor) -> latte_model::Result<Tensor> {
        Ok(self.diffusion.loss(prediction, &self.x0, &self.noise, &self.x_t, &self.steps)?.loss)
    }

    /// d(sum of the losses) / d(prediction).
    fn gradient(&self) -> latte_model::Result<Vec<f64>> {
        let prediction = Var::from_tensor(&self.prediction)?;
        let gradients = self.loss(prediction.as_tensor())?.sum_all()?.backward()?;
        let gradient = gradients.get(&prediction).expect("the loss depends on the prediction");
        Ok(gradient.flatten_all()?.to_vec1()?)
    }

    fn moved(&self, element: usize, by: f64) -> latte_model::Result<Tensor> {
        let mut values: Vec<f64> = self.prediction.flatten_all()?.to_vec1()?;
        values[element] += by;
        Ok(Tensor::from_vec(values, self.prediction.shape(), &Device::Cpu)?)
    }

    /// Central differences of `f`, element by element.
    fn differences(&self, f: impl Fn(&Tensor) -> latte_model::Result<f64>) -> latte_model::Result<Vec<f64>> {
        const H: f64 = 1e-6;
        (0..self.prediction.elem_count()).map(|i| Ok((f(&self.moved(i, H)?)? - f(&self.moved(i, -H)?)?) / (2.0 * H))).collect()
    }
}

fn assert_close(ours: &[f64], expected: &[f64], what: &str) {
    let scale = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    assert!(scale > 1e-4, "{what}: the gradient is 0, nothing is tested");
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        // The finite differences' own error is smaller.
        assert!((a - b).abs() <= 3e-6 * scale, "{what}: element {i}: {a} against {b} (largest {scale})");
    }
}

#[test]
fn kl_gradients_reach_every_channel() -> latte_model::Result<()> {
    for loss in [LossType::Kl, LossType::RescaledKl] {
        for prediction in PREDICTIONS {
            for variance in VARIANCES {
                for steps in [&[0, 1, 90, 199][..], &[5, 60], &[0, 0]] {
                    let problem = Problem::new(loss, prediction, variance, steps)?;
                    let expected = problem.differences(|p| Ok(problem.loss(p)?.sum_all()?.to_scalar()?))?;
                    assert_close(&problem.gradient()?, &expected, &format!("{loss:?} {prediction:?} {variance:?} {steps:?}"));
                }
            }
        }
    }
    Ok(())
}

/// With the MSE losses, the squared error's gradient reaches only the prediction, and the variational term's only the variance.
#[test]
fn mse_gradients_keep_the_two_halves_apart() -> latte_model::Result<()> {
    for loss in [LossType::Mse, LossType::RescaledMse] {
        for prediction in PREDICTIONS {
            for variance in VARIANCES {
                let problem = Problem::new(loss, prediction, variance, &[0, 1, 90, 199])?;
                let terms = |p: &Tensor| problem.diffusion.loss(p, &problem.x0, &problem.noise, &problem.x_t, &problem.steps);
                let mse = problem.differences(|p| Ok(terms(p)?.mse.expect("mse").sum_all()?.to_scalar()?))?;
                let vb = problem.differences(|p| terms(p)?.vb.map_or(Ok(0.0), |vb| Ok(vb.sum_all()?.to_scalar()?)))?;
                let channels = problem.prediction.dims()[2];
                let of_variance = |i: usize| variance.is_learned() && i / 2 % channels >= 2; // [b, 1, c, 2, 1]
                let what = format!("{loss:?} {prediction:?} {variance:?}");
                let gradient = problem.gradient()?;
                let pick = |values: &[f64], variance_half: bool| -> Vec<f64> {
                    (0..values.len()).filter(|&i| of_variance(i) == variance_half).map(|i| values[i]).collect()
                };
                assert_close(&pick(&gradient, false), &pick(&mse, false), &what);
                if variance.is_learned() {
                    assert_close(&pick(&gradient, true), &pick(&vb, true), &what);
                    // The term does depend on the prediction; the loss stops its gradient.
                    let leak: f64 = pick(&vb, false).iter().map(|v| v.abs()).sum();
                    assert!(leak > 1e-6, "{what}: the variational term does not depend on the prediction at all");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn rescaled_losses_are_multiples() -> latte_model::Result<()> {
    let of = |loss| -> latte_model::Result<_> {
        let problem = Problem::new(loss, PredictionType::Epsilon, VarianceType::LearnedRange, &[0, 1, 90, 199])?;
        problem.diffusion.loss(&problem.prediction, &problem.x0, &problem.noise, &problem.x_t, &problem.steps)
    };
    let ratio = |a: &Tensor, b: &Tensor| -> latte_model::Result<Vec<f64>> { Ok((a / b)?.to_vec1()?) };
    let all = |ratios: Vec<f64>, expected: f64| assert!(ratios.iter().all(|r| (r - expected).abs() < 1e-9), "{ratios:?}");
    all(ratio(&of(LossType::RescaledKl)?.loss, &of(LossType::Kl)?.loss)?, 200.0);
    let (mse, rescaled) = (of(LossType::Mse)?, of(LossType::RescaledMse)?);
    let vb = |terms: &latte_model::diffusion::LossTerms| terms.vb.clone().expect("learned");
    all(ratio(&vb(&rescaled), &vb(&mse))?, 0.2);
    for terms in [&mse, &rescaled] {
        let sum = (terms.mse.clone().expect("mse") + vb(terms))?;
        all(ratio(&terms.loss, &sum)?, 1.0);
    }
    Ok(())
}

/// An untrained or diverging network in f32: large errors, variances far outside the range.
#[test]
fn extreme_predictions_keep_gradients_finite() -> latte_model::Result<()> {
    for loss in LOSSES {
        let mut problem = Problem::new(loss, PredictionType::Epsilon, VarianceType::LearnedRange, &[0, 1, 90, 199])?;
        problem.prediction = (problem.prediction * 30.0)?;
        for tensor in [&mut problem.prediction, &mut problem.x0, &mut problem.noise, &mut problem.x_t] {
            *tensor = tensor.to_dtype(DType::F32)?;
        }
        let prediction = Var::from_tensor(&problem.prediction)?;
        let gradients = problem.loss(prediction.as_tensor())?.sum_all()?.backward()?;
        let gradient: Vec<f32> = gradients.get(&prediction).expect("a gradient").flatten_all()?.to_vec1()?;
        assert!(gradient.iter().all(|g| g.is_finite()), "{loss:?}: {gradient:?}");
    }
    Ok(())
}

/// Computed by hand: SNR = ᾱ / (1 − ᾱ) is 0, 1, 4, 9 and 99, and γ = 5.
#[test]
fn min_snr_weights_are_those_of_the_paper() -> latte_model::Result<()> {
    let min_snr = MinSnr::new(5.0)?;
    let table = [
        (0.0, [0.0, 1.0, 0.0]),
        (0.5, [1.0, 1.0, 0.5]),
        (0.8, [4.0, 1.0, 0.8]),
        (0.9, [5.0, 5.0 / 9.0, 0.5]),
        (0.99, [5.0, 5.0 / 99.0, 0.05]),
    ];
    for (alpha_bar, [x0, epsilon, velocity]) in table {
        let expected = [(PredictionType::X0, x0), (PredictionType::Epsilon, epsilon), (PredictionType::Velocity, velocity)];
        for (prediction, expected) in expected {
            let weight = min_snr.weight(prediction, alpha_bar);
            assert!((weight - expected).abs() < 1e-12, "{prediction:?} at {alpha_bar}: {weight} instead of {expected}");
        }
    }
    for gamma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(MinSnr::new(gamma).is_err(), "{gamma}");
    }
    Ok(())
}

#[test]
fn min_snr_weights_the_squared_error_and_nothing_else() -> latte_model::Result<()> {
    let min_snr = MinSnr::new(5.0)?;
    for prediction in PREDICTIONS {
        for variance in VARIANCES {
            let mut problem = Problem::new(LossType::Mse, prediction, variance, &[0, 1, 90, 199])?;
            let terms = |p: &Problem| p.diffusion.loss(&p.prediction, &p.x0, &p.noise, &p.x_t, &p.steps);
            let plain = terms(&problem)?;
            problem.diffusion = problem.diffusion.with_min_snr(Some(min_snr))?;
            let weighted = terms(&problem)?;
            let values = |t: &Option<Tensor>| t.as_ref().map_or(Ok(vec![0.0; 4]), Tensor::to_vec1::<f64>);
            let (mse, vb) = (values(&plain.mse)?, values(&plain.vb)?);
            assert_eq!((values(&weighted.mse)?, values(&weighted.vb)?), (mse.clone(), vb.clone()), "the parts have no weight");
            let alpha_bar = problem.diffusion.schedule().alphas_cumprod();
            for (i, loss) in weighted.loss.to_vec1::<f64>()?.into_iter().enumerate() {
                let expected = min_snr.weight(prediction, alpha_bar[problem.steps[i]]) * mse[i] + vb[i];
                assert!(
                    (loss - expected).abs() < 1e-12 * expected.abs().max(1.0),
                    "{prediction:?} {variance:?}: {loss}, {expected}"
                );
            }
        }
    }
    let config = DiffusionConfig { loss: LossType::Kl, ..DiffusionConfig::default() };
    let refused = Diffusion::new(&config, &TimestepSpacing::All)?.with_min_snr(Some(min_snr));
    assert!(refused.is_err_and(|e| e.to_string().contains("min_snr_gamma")));
    Ok(())
}

/// For any kind of prediction, the weighted loss is min(SNR, γ) times the error of the x0 that it implies.
#[test]
fn min_snr_is_the_same_loss_for_every_prediction() -> latte_model::Result<()> {
    let mut losses: Vec<Vec<f64>> = Vec::new();
    for prediction in PREDICTIONS {
        let mut p = Problem::new(LossType::Mse, prediction, VarianceType::FixedSmall, &[0, 1, 40, 90, 199])?;
        // The same estimate of x0, in the form of this prediction.
        let guess = (&p.x0 * 0.9)?;
        let noise = p.diffusion.epsilon_from_x0(&guess, &p.x_t, &p.steps)?;
        p.prediction = p.diffusion.target(&guess, &noise, &p.steps)?;
        p.diffusion = p.diffusion.with_min_snr(Some(MinSnr::new(5.0)?))?;
        losses.push(p.loss(&p.prediction)?.to_vec1()?);
    }
    for other in &losses[1..] {
        for (a, b) in losses[0].iter().zip(other) {
            assert!((a / b - 1.0).abs() < 1e-9, "{losses:?}");
        }
    }
    Ok(())
}
