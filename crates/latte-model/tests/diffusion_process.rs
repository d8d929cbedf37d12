//! Schedules, spacings and the algebra of the process.

use candle_core::{DType, Device, Tensor};
use latte_model::diffusion::{
    BetaSchedule, Denoiser, Diffusion, DiffusionConfig, LossType, NoiseSchedule, PredictionType, TimestepSpacing, VarianceType,
    space_timesteps,
};
use latte_model::noise::TorchRng;
use proptest::prelude::*;

const SCHEDULES: [BetaSchedule; 10] = [
    BetaSchedule::Linear,
    BetaSchedule::SquaredcosCapV2,
    BetaSchedule::ScaledLinear,
    BetaSchedule::Warmup10,
    BetaSchedule::Warmup50,
    BetaSchedule::Const,
    BetaSchedule::Jsd,
    BetaSchedule::Sigmoid,
    BetaSchedule::Laplace,
    BetaSchedule::Exp,
];

const PREDICTIONS: [PredictionType; 3] = [PredictionType::Epsilon, PredictionType::X0, PredictionType::Velocity];

fn process(prediction: PredictionType, variance: VarianceType, loss: LossType) -> latte_model::Result<Diffusion> {
    let config = DiffusionConfig { prediction, variance, loss, ..DiffusionConfig::default() };
    Diffusion::new(&config, &TimestepSpacing::All)
}

fn randn(seed: u64) -> latte_model::Result<Tensor> {
    Ok(TorchRng::new(seed).randn((4, 2, 3, 2, 2))?.to_dtype(DType::F64)?)
}

fn largest_difference(a: &Tensor, b: &Tensor) -> latte_model::Result<f64> {
    Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar()?)
}

#[test]
fn linear_schedule_has_the_published_values() -> latte_model::Result<()> {
    let schedule = NoiseSchedule::from_betas(BetaSchedule::Linear.betas(1000))?;
    let near = |ours: f64, published: f64| assert!((ours / published - 1.0).abs() < 1e-5, "{ours} against {published}");
    near(schedule.alphas_cumprod()[0], 0.9999);
    near(schedule.alphas_cumprod()[499], 0.0785872);
    near(schedule.alphas_cumprod()[999], 4.03583e-5);
    near(schedule.posterior_variance()[1], 5.45319e-5);
    near(schedule.posterior_log_variance_clipped(0), -9.816725);
    assert_eq!(schedule.posterior_variance()[0], 0.0);
    Ok(())
}

#[test]
fn each_schedule_is_what_its_name_says() {
    let betas = |schedule: BetaSchedule| schedule.betas(100);
    assert_eq!(betas(BetaSchedule::Const), vec![0.2; 100]);
    let middle = betas(BetaSchedule::Linear)[33];
    assert!((middle - (0.001 + 0.199 / 3.0)).abs() < 1e-15);
    let middle = betas(BetaSchedule::ScaledLinear)[33].sqrt();
    assert!((middle - (2.0 * 0.001_f64.sqrt() + 0.2_f64.sqrt()) / 3.0).abs() < 1e-15);
    for (schedule, warm) in [(BetaSchedule::Warmup10, 10), (BetaSchedule::Warmup50, 50)] {
        let betas = betas(schedule);
        assert_eq!((betas[0], betas[warm - 1], betas[99]), (0.001, 0.2, 0.2));
        assert!(betas[..warm].windows(2).all(|w| w[0] < w[1]));
    }
    assert_eq!(betas(BetaSchedule::Jsd)[98..], [0.5, 1.0]);
    let cosine = NoiseSchedule::from_betas(betas(BetaSchedule::SquaredcosCapV2)).expect("valid");
    let alpha_bar = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
    assert!((cosine.alphas_cumprod()[49] - alpha_bar(0.5) / alpha_bar(0.0)).abs() < 1e-12);
    assert_eq!(betas(BetaSchedule::SquaredcosCapV2)[99], 0.999);
}

#[test]
fn signal_falls_at_every_step_of_every_schedule() -> latte_model::Result<()> {
    for schedule in SCHEDULES {
        for num_timesteps in [100, 1000, 4000] {
            let tables = NoiseSchedule::from_betas(schedule.betas(num_timesteps))?;
            assert_eq!(tables.len(), num_timesteps);
            assert!(tables.alphas_cumprod()[0] < 1.0);
            assert!(tables.alphas_cumprod().windows(2).all(|w| w[1] < w[0]), "{schedule:?} {num_timesteps}");
            for step in 0..num_timesteps {
                assert!(tables.posterior_variance()[step] <= tables.betas()[step]);
                assert!(tables.posterior_log_variance_clipped(step).is_finite(), "{schedule:?} {step}");
            }
        }
    }
    Ok(())
}

#[test]
fn impossible_processes_are_refused_with_a_reason() {
    let build = |num_timesteps, noise_schedule, prediction, spacing: &str| {
        let config = DiffusionConfig { num_timesteps, noise_schedule, prediction, ..DiffusionConfig::default() };
        spacing.parse().and_then(|spacing| Diffusion::new(&config, &spacing)).map(|_| ()).map_err(|e| e.to_string())
    };
    let message = |result: Result<(), String>| result.expect_err("impossible");
    assert!(message(build(10, BetaSchedule::Linear, PredictionType::Epsilon, "")).contains("0 < beta <= 1"));
    assert!(message(build(0, BetaSchedule::Linear, PredictionType::Epsilon, "")).contains("at least 1"));
    assert!(message(build(1000, BetaSchedule::Jsd, PredictionType::Epsilon, "")).contains("pure noise"));
    assert!(message(build(1000, BetaSchedule::Linear, PredictionType::Epsilon, "ddim60")).contains("60 of 1000"));
    assert!(message(build(1000, BetaSchedule::Linear, PredictionType::Epsilon, "1001")).contains("fewer"));
    assert!(message(build(1000, BetaSchedule::Linear, PredictionType::Epsilon, "many")).contains("many"));
    assert!(message(build(1000, BetaSchedule::Linear, PredictionType::Epsilon, "0")).contains("at least 1"));
    assert_eq!(build(1000, BetaSchedule::Jsd, PredictionType::Velocity, ""), Ok(()));
    assert_eq!(build(1000, BetaSchedule::Jsd, PredictionType::Epsilon, "ddim50"), Ok(())); // last 980: some signal is left
}

#[test]
fn configuration_is_plain_text() -> Result<(), Box<dyn std::error::Error>> {
    let text =
        r#"{"num_timesteps":1000,"noise_schedule":"linear","prediction":"epsilon","variance":"learned_range","loss":"mse"}"#;
    assert_eq!(serde_json::to_string(&DiffusionConfig::default())?, text);
    let config: DiffusionConfig = serde_json::from_str(r#"{"noise_schedule":"squaredcos_cap_v2","loss":"rescaled_kl"}"#)?;
    assert_eq!((config.noise_schedule, config.loss), (BetaSchedule::SquaredcosCapV2, LossType::RescaledKl));
    assert!(serde_json::from_str::<DiffusionConfig>(r#"{"schedule":"linear"}"#).is_err());
    for name in
        ["\"linear\"", "\"squaredcos_cap_v2\"", "\"quad\"", "\"warmup10\"", "\"warmup50\"", "\"const\"", "\"jsd\"", "\"exp\""]
    {
        assert_eq!(serde_json::to_string(&serde_json::from_str::<BetaSchedule>(name)?)?, name);
    }
    assert_eq!(serde_json::from_str::<BetaSchedule>("\"scaled_linear\"")?, BetaSchedule::ScaledLinear, "diffusers' name of quad");
    Ok(())
}

#[test]
fn strides_that_exist_and_strides_that_do_not() -> latte_model::Result<()> {
    for count in [10, 20, 25, 50, 100, 125, 200, 250, 334, 500, 1000] {
        assert_eq!(space_timesteps(1000, &TimestepSpacing::Strided(count))?.len(), count);
    }
    for count in [0, 1, 60, 150, 1001] {
        assert!(space_timesteps(1000, &TimestepSpacing::Strided(count)).is_err(), "ddim{count}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_spacing_visits_what_was_asked_for(counts in prop::collection::vec(0_usize..40, 1..6), total in 200_usize..1200) {
        let spacing = TimestepSpacing::Sections(counts.clone());
        prop_assert_eq!(&spacing.to_string().parse::<TimestepSpacing>().expect("own text"), &spacing);
        let asked: usize = counts.iter().sum();
        match space_timesteps(total, &spacing) {
            Ok(steps) => {
                prop_assert_eq!(steps.len(), asked);
                prop_assert!(steps.windows(2).all(|w| w[0] < w[1]));
                prop_assert!(steps[steps.len() - 1] < total);
            }
            Err(_) => prop_assert!(asked == 0),
        }
    }

    #[test]
    fn respacing_keeps_alpha_bar(count in 1_usize..200) {
        let base = NoiseSchedule::from_betas(BetaSchedule::Linear.betas(1000)).expect("valid");
        let steps = space_timesteps(1000, &TimestepSpacing::evenly(count)).expect("valid");
        let respaced = base.respaced(&steps).expect("valid");
        for (i, &step) in steps.iter().enumerate() {
            let (ours, theirs) = (respaced.alphas_cumprod()[i], base.alphas_cumprod()[step]);
            prop_assert!((ours / theirs - 1.0).abs() < 1e-9);
        }
    }
}

#[test]
fn conversions_undo_each_other() -> latte_model::Result<()> {
    let steps = [0, 1, 500, 999];
    let (x0, noise) = (randn(1)?, randn(2)?);
    for prediction in PREDICTIONS {
        let diffusion = process(prediction, VarianceType::FixedSmall, LossType::Mse)?;
        let x_t = diffusion.q_sample(&x0, &steps, &noise)?;
        let target = diffusion.target(&x0, &noise, &steps)?;
        assert!(largest_difference(&diffusion.predict_x0(&target, &x_t, &steps)?, &x0)? < 1e-11, "{prediction:?}");
        assert!(largest_difference(&diffusion.epsilon_from_x0(&x0, &x_t, &steps)?, &noise)? < 1e-11);
        // A perfect prediction has no error, and its reverse step has the posterior's mean.
        let terms = diffusion.loss(&target, &x0, &noise, &x_t, &steps)?;
        assert_eq!(terms.loss.to_vec1::<f64>()?, [0.0; 4]);
        let reverse = diffusion.p_mean_variance(&target, &x_t, &steps, false)?;
        assert!(largest_difference(&reverse.mean, &diffusion.q_posterior(&x0, &x_t, &steps)?.mean)? < 1e-11);
    }
    Ok(())
}

/// q(x₍ₜ₋₁₎ | xₜ, x0) by Bayes' rule from its two Gaussians.
#[test]
fn the_posterior_is_what_bayes_says() -> latte_model::Result<()> {
    let diffusion = process(PredictionType::Epsilon, VarianceType::FixedSmall, LossType::Mse)?;
    let schedule = diffusion.schedule();
    for step in [1, 10, 500, 999] {
        let (beta, previous) = (schedule.betas()[step], schedule.alphas_cumprod()[step - 1]);
        let precision = (1.0 - beta) / beta + 1.0 / (1.0 - previous);
        let of_x_t = (1.0 - beta).sqrt() / beta / precision;
        let of_x0 = previous.sqrt() / (1.0 - previous) / precision;
        assert!((schedule.posterior_variance()[step] * precision - 1.0).abs() < 1e-9);
        let (x0, x_t) = (randn(3)?, randn(4)?);
        let by_hand = ((x0.clone() * of_x0)? + (x_t.clone() * of_x_t)?)?;
        assert!(largest_difference(&diffusion.q_posterior(&x0, &x_t, &[step; 4])?.mean, &by_hand)? < 1e-9);
    }
    Ok(())
}

#[test]
fn variances_are_what_their_names_say() -> latte_model::Result<()> {
    let x_t = randn(5)?;
    let steps = [0, 1, 500, 999];
    let log_variance = |variance, values: &Tensor| -> latte_model::Result<Vec<f64>> {
        let diffusion = process(PredictionType::Epsilon, variance, LossType::Mse)?;
        let reverse = diffusion.p_mean_variance(values, &x_t, &steps, false)?;
        Ok(reverse.log_variance.broadcast_as(x_t.shape())?.flatten_from(1)?.narrow(1, 0, 1)?.flatten_all()?.to_vec1()?)
    };
    let with = |v: f64| Tensor::cat(&[x_t.clone(), Tensor::full(v, x_t.shape(), &Device::Cpu)?], 2);
    let small = log_variance(VarianceType::FixedSmall, &x_t)?;
    let large = log_variance(VarianceType::FixedLarge, &x_t)?;
    let schedule = process(PredictionType::Epsilon, VarianceType::FixedSmall, LossType::Mse)?.schedule().clone();
    assert_eq!(small[3], schedule.posterior_variance()[999].ln());
    assert_eq!(large[3], schedule.betas()[999].ln());
    assert_eq!((small[0], large[0]), (small[1], small[0]));
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(near(&log_variance(VarianceType::LearnedRange, &with(-1.0)?)?, &small));
    assert!(near(&log_variance(VarianceType::LearnedRange, &with(1.0)?)?[1..], &large[1..]));
    assert_eq!(log_variance(VarianceType::Learned, &with(-3.5)?)?, [-3.5; 4]);
    Ok(())
}

#[test]
fn wrong_shapes_and_steps_are_errors() -> latte_model::Result<()> {
    let diffusion = process(PredictionType::Epsilon, VarianceType::LearnedRange, LossType::Mse)?;
    let x = randn(6)?;
    let message = |result: latte_model::Result<Tensor>| result.expect_err("wrong").to_string();
    assert!(message(diffusion.q_sample(&x, &[1000; 4], &x)).contains("below 1000, got 1000"));
    assert!(message(diffusion.q_sample(&x, &[1; 3], &x)).contains("one for each sample"));
    assert!(message(diffusion.q_sample(&x, &[1; 4], &x.narrow(1, 0, 1)?)).contains("noise"));
    assert!(message(diffusion.q_sample(&x.flatten_all()?, &[1], &x.flatten_all()?)).contains("[b, f, c, h, w]"));
    let loss = diffusion.loss(&x, &x, &x, &x, &[1; 4]).map(|terms| terms.loss);
    assert!(message(loss).contains("twice the channels"));
    Ok(())
}

/// A network that predicts the clean data exactly.
struct Oracle {
    x0: Tensor,
    alphas_cumprod: Vec<f64>,
}

impl Denoiser for Oracle {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<Tensor> {
        let alpha_bar = self.alphas_cumprod[timesteps[0] as usize];
        Ok(((x - (&self.x0 * alpha_bar.sqrt())?)? / (1.0 - alpha_bar).sqrt())?)
    }
}

#[test]
fn the_bound_sees_a_perfect_network() -> latte_model::Result<()> {
    let config = DiffusionConfig { variance: VarianceType::FixedSmall, ..DiffusionConfig::default() };
    let diffusion = Diffusion::new(&config, &TimestepSpacing::evenly(50))?;
    let base = Diffusion::new(&config, &TimestepSpacing::All)?;
    // Data in 256 levels, so that the term of step 0 is small for a network that predicts it.
    let x0 = ((randn(7)?.clamp(-1.0, 1.0)? * 127.0)?.round()? / 127.5)?;
    let oracle = Oracle { x0: x0.clone(), alphas_cumprod: base.schedule().alphas_cumprod().to_vec() };
    let bits = diffusion.bits_per_dimension(&oracle, &x0, &mut TorchRng::new(1), false)?;
    assert_eq!((bits.terms.dims(), bits.total.dims()), (&[4, 50][..], &[4][..]));
    assert!(largest_difference(&bits.x0_mse, &bits.x0_mse.zeros_like()?)? < 1e-20);
    // Every KL term is 0: mean and variance are the posterior's.
    let later = bits.terms.narrow(1, 1, 49)?;
    assert!(largest_difference(&later, &later.zeros_like()?)? < 1e-9);
    let sum = (bits.terms.sum(1)? + &bits.prior)?;
    assert!(largest_difference(&sum, &bits.total)? < 1e-12);
    assert!(bits.prior.to_vec1::<f64>()?.iter().all(|&b| b > 0.0 && b < 1e-3));
    Ok(())
}
