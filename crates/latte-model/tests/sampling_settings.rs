//! Solvers: configuration files, limits, and every combination of settings.

use candle_core::{DType, Tensor};
use latte_model::diffusion::{BetaSchedule, Denoiser, PredictionType, TimestepSpacing, VarianceType};
use latte_model::noise::TorchRng;
use latte_model::sampling::{
    DpmAlgorithm, FinalSigma, Sampler, SigmaInterpolation, SigmaSpacing, SolverConfig, StepFormula, StepInput, TimestepType,
    sample,
};
use latte_ops::CancelToken;
use proptest::prelude::*;

/// A nonlinear network, optionally with variance values.
struct Toy {
    with_variance: bool,
}

impl Denoiser for Toy {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<Tensor> {
        let epsilon = ((x * 0.2)? + ((x * 1.5)?.sin()? * 0.3)?)?.affine(1.0, 0.1 * (timesteps[0] / 250.0).cos())?;
        if self.with_variance { Ok(Tensor::cat(&[&epsilon, &x.tanh()?], 2)?) } else { Ok(epsilon) }
    }
}

fn noise(seed: u64) -> latte_model::Result<Tensor> {
    TorchRng::new(seed).randn((2, 2, 3, 2, 2))
}

fn run(config: &SolverConfig, steps: usize, with_variance: bool) -> latte_model::Result<Tensor> {
    let mut solver = config.solver(steps)?;
    let go_on = CancelToken::new();
    let end = sample(&mut *solver, &Toy { with_variance }, &noise(1)?, &mut TorchRng::new(2), &go_on, &mut |_| {})?;
    end.finished().ok_or_else(|| latte_model::Error::Config { key: "test".into(), what: "nobody stops it".into() })
}

fn is_finite(x: &Tensor) -> latte_model::Result<bool> {
    Ok(x.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().all(|v| v.is_finite()))
}

fn largest_difference(a: &Tensor, b: &Tensor) -> latte_model::Result<f64> {
    Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar()?)
}

const SPACINGS: [TimestepSpacing; 3] = [TimestepSpacing::Leading, TimestepSpacing::Trailing, TimestepSpacing::Linspace];
const PREDICTIONS: [PredictionType; 3] = [PredictionType::Epsilon, PredictionType::X0, PredictionType::Velocity];

fn config(kind: Sampler, spacing: &TimestepSpacing, prediction: PredictionType) -> SolverConfig {
    let timestep_spacing = if kind == Sampler::DpmSinglestep { TimestepSpacing::Linspace } else { spacing.clone() };
    let clip_sample = matches!(kind, Sampler::Ddim | Sampler::Ddpm);
    SolverConfig { timestep_spacing, prediction, clip_sample, ..SolverConfig::new(kind) }
}

/// With the noise levels of Karras et al.
fn karras(config: SolverConfig) -> SolverConfig {
    SolverConfig { sigma_spacing: SigmaSpacing::Karras, ..config }
}

/// With ten evenly spaced timesteps of the process.
fn respaced(config: SolverConfig) -> SolverConfig {
    SolverConfig { timestep_spacing: TimestepSpacing::evenly(10), ..config }
}

#[test]
fn every_method_spacing_and_prediction_runs_with_any_number_of_steps() -> latte_model::Result<()> {
    for kind in Sampler::ALL {
        for spacing in &SPACINGS {
            for prediction in PREDICTIONS {
                let config = config(kind, spacing, prediction);
                for steps in [1, 2, 3, 7, 50] {
                    for order in if kind == Sampler::Ddim { 2..=2 } else { 1..=3 } {
                        let config = SolverConfig { order, ..config.clone() };
                        let end = run(&config, steps, steps == 7)?;
                        assert_eq!(end.dims(), [2, 2, 3, 2, 2]);
                        assert!(is_finite(&end)?, "{kind} {spacing:?} {prediction:?} {steps} {order}");
                    }
                }
            }
            for steps in [499, 500, 501, 999, 1000] {
                let config = SolverConfig { order: 3, ..config(kind, spacing, PredictionType::Epsilon) };
                let solver = config.solver(steps)?;
                assert!(solver.timesteps().iter().all(|t| (0.0..=999.0).contains(t)), "{kind} {spacing:?} {steps}");
            }
            let config = SolverConfig { order: 3, ..config(kind, spacing, PredictionType::Epsilon) };
            assert!(is_finite(&run(&config, 1000, false)?)?, "{kind} {spacing:?} 1000");
        }
    }
    Ok(())
}

/// Schedules that end in almost or exactly pure noise, every spacing of σ, and both ends of a run.
#[test]
fn every_schedule_and_spacing_of_sigma_runs() -> latte_model::Result<()> {
    let spacings =
        [SigmaSpacing::Timesteps, SigmaSpacing::Karras, SigmaSpacing::Exponential, SigmaSpacing::Beta, SigmaSpacing::Lu];
    let mut runs = 0;
    for kind in Sampler::ALL {
        for beta_schedule in [
            BetaSchedule::ScaledLinear,
            BetaSchedule::SquaredcosCapV2,
            BetaSchedule::Sigmoid,
            BetaSchedule::Laplace,
            BetaSchedule::Exp,
        ] {
            for sigma_spacing in spacings {
                for final_sigma in [FinalSigma::Zero, FinalSigma::SigmaMin] {
                    for rescale_betas_zero_snr in [false, true] {
                        for spacing in &SPACINGS {
                            let config = SolverConfig {
                                beta_schedule,
                                sigma_spacing,
                                final_sigma,
                                rescale_betas_zero_snr,
                                ..config(kind, spacing, PredictionType::Velocity)
                            };
                            for steps in [1, 2, 5, 20] {
                                let Ok(mut solver) = config.solver(steps) else { continue };
                                let go_on = CancelToken::new();
                                let toy = Toy { with_variance: false };
                                let end = sample(&mut *solver, &toy, &noise(1)?, &mut TorchRng::new(2), &go_on, &mut |_| {})?
                                    .finished();
                                assert!(end.map_or(Ok(false), |end| is_finite(&end))?, "{config:?} {steps}");
                                runs += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(runs > 4000, "only {runs} of the combinations were possible");
    Ok(())
}

#[test]
fn no_step_or_more_steps_than_timesteps_are_refused() {
    for kind in Sampler::ALL {
        for (train, steps) in [(1000, 0), (1000, 1001), (100, 101)] {
            let config = SolverConfig { num_train_timesteps: train, ..SolverConfig::new(kind) };
            let message = config.solver(steps).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(message.contains("steps: expected 1 to") && message.contains(&steps.to_string()), "{kind}: {message}");
        }
        assert!(SolverConfig { num_train_timesteps: 100, ..SolverConfig::new(kind) }.solver(100).is_ok());
    }
}

/// Methods that go to clean data end at the last predicted x0.
#[test]
fn the_last_step_ends_at_the_predicted_x0() -> latte_model::Result<()> {
    use Sampler as K;
    for kind in [K::Ddim, K::Ddpm, K::Euler, K::EulerAncestral, K::DpmMultistep, K::DpmMultistepSde, K::DpmSinglestep] {
        for kind in [kind, K::Heun, K::Kdpm2Ancestral, K::Unipc] {
            let mut solver = SolverConfig { clip_sample: false, order: 3, ..SolverConfig::new(kind) }.solver(8)?;
            let mut last = None;
            let toy = Toy { with_variance: false };
            sample(&mut *solver, &toy, &noise(1)?, &mut TorchRng::new(2), &CancelToken::new(), &mut |report| {
                last = Some((report.x.clone(), report.x0.clone()));
            })?;
            let difference = last.map_or(Ok(f64::NAN), |(x, x0)| largest_difference(&x, &x0))?;
            assert!(difference < 1e-5, "{kind}: {difference}");
        }
    }
    Ok(())
}

#[test]
fn the_loop_counts_calls_stops_and_begins_anew() -> latte_model::Result<()> {
    for (kind, calls) in [(Sampler::Ddim, 10), (Sampler::Heun, 19), (Sampler::Kdpm2Ancestral, 19), (Sampler::Pndm, 19)] {
        let mut solver = SolverConfig::new(kind).solver(10)?;
        let mut seen = Vec::new();
        let toy = Toy { with_variance: false };
        let stop = CancelToken::new();
        let stopped = sample(&mut *solver, &toy, &noise(1)?, &mut TorchRng::new(0), &stop, &mut |report| {
            seen.push((report.done, report.num_steps));
            if report.done == 3 {
                stop.cancel();
            }
        })?;
        assert!(stopped.finished().is_none());
        assert_eq!(seen, [(1, calls), (2, calls), (3, calls)]);
        // The memory of an abandoned run is cleared.
        let mut fresh = SolverConfig::new(kind).solver(10)?;
        let go_on = CancelToken::new();
        let again = sample(&mut *solver, &toy, &noise(1)?, &mut TorchRng::new(0), &go_on, &mut |_| {})?;
        let new = sample(&mut *fresh, &toy, &noise(1)?, &mut TorchRng::new(0), &go_on, &mut |_| {})?;
        assert_eq!(
            again.finished().zip(new.finished()).map(|(a, b)| largest_difference(&a, &b)).transpose()?,
            Some(0.0),
            "{kind}"
        );
    }
    Ok(())
}

#[test]
fn calls_out_of_order_and_wrong_shapes_are_errors() -> latte_model::Result<()> {
    let x = noise(1)?;
    for kind in Sampler::ALL {
        let mut solver = SolverConfig { clip_sample: false, ..SolverConfig::new(kind) }.solver(10)?;
        let too_late = solver.timesteps().len();
        let input = |call, prediction| StepInput { prediction, call, x: &x, noise: Some(&x) };
        assert!(solver.step(input(too_late, &x)).is_err(), "{kind}");
        let wrong = x.narrow(0, 0, 1)?;
        assert!(solver.step(input(0, &wrong)).is_err_and(|e| e.to_string().contains("prediction")), "{kind}");
        if !matches!(kind, Sampler::Ddim | Sampler::Ddpm | Sampler::Euler | Sampler::EulerAncestral) {
            assert!(solver.step(input(3, &x)).is_err_and(|e| e.to_string().contains("in order")), "{kind}");
        }
        let call = (0..too_late).find(|&call| solver.draws_noise(call));
        if let Some(call) = call {
            for earlier in 0..call {
                solver.step(input(earlier, &x))?;
            }
            let silent = StepInput { noise: None, ..input(call, &x) };
            assert!(solver.step(silent).is_err_and(|e| e.to_string().contains("draws noise")), "{kind}");
        }
    }
    Ok(())
}

/// Only a learned variance uses variance channels; the others ignore them.
#[test]
fn variance_channels_are_used_or_left() -> latte_model::Result<()> {
    for kind in Sampler::ALL {
        let config = SolverConfig { clip_sample: false, ..SolverConfig::new(kind) };
        assert_eq!(largest_difference(&run(&config, 6, true)?, &run(&config, 6, false)?)?, 0.0, "{kind}");
    }
    let ddpm = |variance| SolverConfig { variance, clip_sample: false, ..SolverConfig::new(Sampler::Ddpm) };
    let message = run(&ddpm(VarianceType::LearnedRange), 6, false).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("take fixed_small"), "{message}");
    assert!(is_finite(&run(&ddpm(VarianceType::LearnedRange), 6, true)?)?);

    // The ends of the range are the two fixed variances; a learned variance is σ² itself, and negative ones count as 0.
    let (x, z) = (noise(1)?, noise(2)?);
    let step = |variance, value: f64| -> latte_model::Result<Tensor> {
        let prediction = Tensor::cat(&[&x, &x.affine(0.0, value)?], 2)?;
        let input = StepInput { prediction: &prediction, call: 2, x: &x, noise: Some(&z) };
        Ok(ddpm(variance).solver(10)?.step(input)?.x)
    };
    let small = step(VarianceType::FixedSmall, 0.0)?;
    let large = step(VarianceType::FixedLarge, 0.0)?;
    assert!(largest_difference(&small, &large)? > 1e-3);
    assert!(largest_difference(&step(VarianceType::LearnedRange, -1.0)?, &small)? < 1e-5);
    assert!(largest_difference(&step(VarianceType::LearnedRange, 1.0)?, &large)? < 1e-5);
    let none = step(VarianceType::Learned, -3.0)?;
    let one = step(VarianceType::Learned, 1.0)?;
    assert!(largest_difference(&(one - none)?, &z)? < 1e-5);
    Ok(())
}

#[test]
fn limits_keep_x0_in_range() -> latte_model::Result<()> {
    for kind in Sampler::ALL {
        let limited = SolverConfig { thresholding: true, sample_max_value: 1.5, ..SolverConfig::new(kind) };
        let Ok(mut solver) = limited.solver(5) else { continue };
        let mut largest: f64 = 0.0;
        sample(
            &mut *solver,
            &Toy { with_variance: false },
            &(noise(1)? * 3.0)?,
            &mut TorchRng::new(0),
            &CancelToken::new(),
            &mut |report| {
                let seen = report.x0.abs().and_then(|x| x.flatten_all()?.max(0)?.to_scalar::<f32>()).unwrap_or(f32::NAN);
                largest = largest.max(f64::from(seen));
            },
        )?;
        assert!((0.9..1.0 + 1e-6).contains(&largest), "{kind}: {largest}");
    }
    Ok(())
}

#[test]
fn impossible_choices_are_refused_with_their_key() -> latte_model::Result<()> {
    let ddim = SolverConfig { clip_sample: false, ..SolverConfig::new(Sampler::Ddim) };
    let dpm = SolverConfig::new(Sampler::DpmMultistep);
    let trailing = || TimestepSpacing::Trailing;
    for (key, config) in [
        ("eta", SolverConfig { eta: 1.5, ..ddim.clone() }),
        ("eta", SolverConfig { eta: f64::NAN, ..ddim.clone() }),
        ("eta", SolverConfig { eta: 0.5, ..dpm.clone() }),
        ("betas", SolverConfig { beta_end: 1.5, ..ddim.clone() }),
        ("betas", SolverConfig { beta_start: f64::NAN, ..ddim.clone() }),
        ("betas", SolverConfig { beta_start: 0.9, beta_end: 0.99, ..dpm.clone() }),
        ("betas", SolverConfig { beta_start: 1e-30, ..dpm.clone() }),
        ("trained_betas", SolverConfig { trained_betas: Some(vec![0.1; 3]), ..ddim.clone() }),
        ("num_train_timesteps", SolverConfig { num_train_timesteps: 1, ..ddim.clone() }),
        ("num_train_timesteps", SolverConfig { num_train_timesteps: usize::MAX, ..ddim.clone() }),
        ("steps_offset", SolverConfig { steps_offset: 101, ..ddim.clone() }),
        ("steps_offset", SolverConfig { steps_offset: usize::MAX, ..ddim.clone() }),
        ("use_karras_sigmas", SolverConfig { sigma_spacing: SigmaSpacing::Karras, ..ddim.clone() }),
        ("use_lu_lambdas", SolverConfig { sigma_spacing: SigmaSpacing::Lu, ..SolverConfig::new(Sampler::Euler) }),
        ("prediction_type", SolverConfig { rescale_betas_zero_snr: true, timestep_spacing: trailing(), ..ddim.clone() }),
        ("solver_order", SolverConfig { order: 0, ..dpm.clone() }),
        ("solver_order", SolverConfig { order: 4, ..dpm.clone() }),
        ("final_sigmas_type", SolverConfig { algorithm: DpmAlgorithm::DpmSolver, ..dpm.clone() }),
        ("algorithm_type", SolverConfig { algorithm: DpmAlgorithm::SdeDpmSolverPlusPlus, ..dpm.clone() }),
        ("lambda_min_clipped", SolverConfig { lambda_min_clipped: 100.0, ..dpm.clone() }),
        ("lambda_min_clipped", SolverConfig { lambda_min_clipped: f64::NAN, ..dpm.clone() }),
        ("clip_sample", SolverConfig { clip_sample: true, ..dpm.clone() }),
        ("thresholding", SolverConfig { thresholding: true, ..SolverConfig::new(Sampler::Euler) }),
        ("interpolation_type", SolverConfig { interpolation: SigmaInterpolation::LogLinear, ..dpm.clone() }),
        ("timestep_type", SolverConfig { timestep_type: TimestepType::Continuous, ..dpm.clone() }),
        ("timestep_spacing", SolverConfig { timestep_spacing: trailing(), ..SolverConfig::new(Sampler::DpmSinglestep) }),
        ("final_sigmas_type", SolverConfig { final_sigma: FinalSigma::SigmaMin, ..SolverConfig::new(Sampler::Heun) }),
        ("sigma_min", SolverConfig { sigma_min: Some(1.0), ..SolverConfig::new(Sampler::Heun) }),
        ("sigma_min", karras(SolverConfig { sigma_min: Some(500.0), ..SolverConfig::new(Sampler::Euler) })),
        ("use_karras_sigmas", karras(SolverConfig::new(Sampler::Ddim))),
        ("timestep_spacing", SolverConfig { timestep_spacing: TimestepSpacing::evenly(10), ..dpm.clone() }),
        ("steps", SolverConfig { timestep_spacing: TimestepSpacing::evenly(9), ..ddim.clone() }),
        ("set_alpha_to_one", respaced(SolverConfig { set_alpha_to_one: false, ..ddim.clone() })),
        ("thresholding", respaced(SolverConfig { thresholding: true, ..ddim.clone() })),
        ("steps_offset", respaced(SolverConfig { steps_offset: 1, ..ddim.clone() })),
        ("rescale_betas_zero_snr", respaced(SolverConfig { rescale_betas_zero_snr: true, ..ddim.clone() })),
        ("eta", respaced(SolverConfig { eta: 0.5, ..SolverConfig::new(Sampler::Ddpm) })),
        ("trained_betas", respaced(SolverConfig { trained_betas: Some(vec![0.1; 3]), ..ddim.clone() })),
    ] {
        match config.solver(10) {
            Ok(_) => panic!("{key} was not refused: {config:?}"),
            Err(e) => assert!(e.to_string().starts_with(key), "{key}: {e}"),
        }
    }
    let message = "euler-b".parse::<Sampler>().err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("dpm++-sde") && message.contains("euler-b"), "{message}");
    for kind in Sampler::ALL {
        assert_eq!(kind.to_string().parse::<Sampler>()?, kind);
        assert_eq!(Sampler::from_class_name(kind.class_name())?.class_name(), kind.class_name());
    }
    Ok(())
}

const DDIM_FILE: &str = r#"{
  "_class_name": "DDIMScheduler", "_diffusers_version": "0.42.1", "beta_end": 0.02, "beta_schedule": "linear",
  "beta_start": 0.0001, "clip_sample": false, "num_train_timesteps": 1000, "prediction_type": "epsilon",
  "set_alpha_to_one": true, "steps_offset": 0, "timestep_spacing": "leading", "trained_betas": null,
  "skip_prk_steps": true
}"#;

#[test]
fn a_file_is_read_with_its_class_s_defaults_and_serves_every_method() -> latte_model::Result<()> {
    let ddim = SolverConfig::from_json(DDIM_FILE)?;
    let solver = ddim.solver(50)?;
    assert_eq!((solver.timesteps()[0], solver.timesteps()[49]), (980.0, 0.0));
    for kind in Sampler::ALL {
        let other = ddim.with_kind(kind)?;
        // The methods' own default betas differ; the process that the network was trained on stays the same.
        assert_eq!(other.alphas_cumprod()?, ddim.alphas_cumprod()?, "{kind}");
        assert_eq!(other.with_kind(Sampler::Ddim)?.solver(50)?.timesteps(), ddim.solver(50)?.timesteps());
        assert!(is_finite(&run(&other, 10, true)?)?);
    }
    assert!(ddim.with_kind(Sampler::Pndm)?.skip_prk_steps, "a key that the file's own class does not know");
    assert!(!ddim.with_kind(Sampler::Ddpm)?.clip_sample);
    let bare = SolverConfig::from_json(r#"{"_class_name": "DDIM"}"#)?;
    assert!(bare.clip_sample, "the class's default");
    assert_eq!(bare.with_kind(Sampler::Heun)?.beta_end, 0.02);
    assert!(karras(ddim.with_kind(Sampler::DpmMultistep)?).solver(10).is_ok());
    Ok(())
}

#[test]
fn files_of_other_methods_are_accepted() -> latte_model::Result<()> {
    let sde = SolverConfig::from_json(
        r#"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++", "lambda_min_clipped": -Infinity,
            "solver_type": "logrho", "use_karras_sigmas": true, "variance_type": null, "flow_shift": 1.0}"#,
    )?;
    assert_eq!(sde.kind, Sampler::DpmMultistepSde);
    assert_eq!((sde.formula, sde.sigma_spacing), (StepFormula::Midpoint, SigmaSpacing::Karras));
    assert_eq!(sde.lambda_min_clipped, f64::NEG_INFINITY);
    assert_eq!(sde.with_kind(Sampler::DpmMultistep)?.algorithm, DpmAlgorithm::DpmSolverPlusPlus);
    let unipc =
        SolverConfig::from_json(r#"{"_class_name": "UniPCMultistepScheduler", "disable_corrector": [0, 1], "solver_p": null}"#)?;
    assert_eq!((unipc.disable_corrector.as_slice(), unipc.formula), (&[0, 1][..], StepFormula::Bh2));
    let ddpm = SolverConfig::from_json(r#"{"_class_name": "DDPMScheduler", "variance_type": "learned_range"}"#)?;
    assert_eq!(ddpm.variance, VarianceType::LearnedRange);
    Ok(())
}

#[test]
fn invalid_files_are_refused() {
    for (text, part) in [
        ("", "JSON"),
        ("[]", "JSON"),
        ("{}", "_class_name"),
        (r#"{"_class_name": 3}"#, "_class_name"),
        (r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#, "FlowMatch"),
        (r#"{"_class_name": "DDIMScheduler", "beta_scale": 2}"#, "beta_scale"),
        (r#"{"_class_name": "DDIMScheduler", "beta_schedule": "cubic"}"#, "cubic"),
        (r#"{"_class_name": "DDIMScheduler", "timestep_spacing": "50"}"#, "timestep_spacing"),
        (r#"{"_class_name": "DDIMScheduler", "beta_start": "0.1"}"#, "beta_start"),
        (r#"{"_class_name": "DDIMScheduler", "prediction_type": "flow_prediction"}"#, "flow_prediction"),
        (r#"{"_class_name": "DDIMScheduler", "num_train_timesteps": -1}"#, "num_train_timesteps"),
        (r#"{"_class_name": "DDIMScheduler", "trained_betas": [0.1, null]}"#, "trained_betas"),
        (r#"{"_class_name": "DEISMultistepScheduler", "use_flow_sigmas": true}"#, "use_flow_sigmas"),
        (r#"{"_class_name": "UniPCMultistepScheduler", "solver_p": {"a": 1}}"#, "solver_p"),
        (r#"{"_class_name": "HeunDiscreteScheduler", "use_karras_sigmas": true, "use_beta_sigmas": true}"#, "at most one"),
    ] {
        let message = SolverConfig::from_json(text).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains(part), "{text}: {message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// For any file, reading and setting up ends in a solver or an error.
    #[test]
    fn no_file_makes_it_panic(
        class in 0..Sampler::ALL.len(),
        key in prop::sample::select(vec![
            "num_train_timesteps", "beta_start", "beta_end", "steps_offset", "clip_sample_range", "sample_max_value", "sigma_min",
            "sigma_max", "solver_order", "lambda_min_clipped", "dynamic_thresholding_ratio", "disable_corrector", "trained_betas",
        ]),
        value in prop::sample::select(vec![
            "0", "-1", "1", "2", "1e308", "1e-308", "-Infinity", "NaN", "18446744073709551615", "[0]", "\"\\\"NaN\"", "0.5", "null",
        ]),
        steps in 0_usize..30,
    ) {
        let text = format!(r#"{{"_class_name": "{}", "{key}": {value}}}"#, Sampler::ALL[class].class_name());
        if let Ok(solver) = SolverConfig::from_json(&text).and_then(|config| config.solver(steps)) {
            prop_assert!(solver.timesteps().iter().all(|t| t.is_finite()), "{}", text);
        }
    }
}
