//! Solvers on a problem with a known solution: Gaussian data.

use candle_core::{DType, Device, Tensor};
use latte_model::diffusion::{Denoiser, TimestepSpacing};
use latte_model::noise::{NoiseSource, TorchRng};
use latte_model::sampling::{
    DpmAlgorithm, FinalSigma, Sampler, SigmaSpacing, Solver, SolverConfig, StepFormula, StepInput, sample,
};
use latte_ops::CancelToken;

/// Mean and standard deviation of the data of every element.
const MEAN: f64 = 0.3;
const DEVIATION: f64 = 0.5;

/// The exact ε for data N(MEAN, DEVIATION²), where x = α x0 + α σ ε.
fn exact_epsilon(x: &Tensor, sigma: f64) -> latte_model::Result<Tensor> {
    let alpha = 1.0 / (1.0 + sigma * sigma).sqrt();
    let variance = alpha * alpha * (DEVIATION * DEVIATION + sigma * sigma);
    Ok(((x - alpha * MEAN)? * (alpha * sigma / variance))?)
}

/// The exact network. It takes the noise level of each call from the solver's own tables, so that rounded timesteps do not reduce
/// the order.
fn sigma_of_call(solver: &dyn Solver, config: &SolverConfig, call: usize) -> latte_model::Result<f64> {
    if solver.input_scale(call) != 1.0 {
        return Ok((solver.input_scale(call).powi(-2) - 1.0).sqrt());
    }
    Ok(match solver.sigmas() {
        Some(sigmas) => sigmas[call],
        None => sigma(config.alphas_cumprod()?[solver.timesteps()[call] as usize]),
    })
}

fn sigma(alpha_cumprod: f64) -> f64 {
    ((1.0 - alpha_cumprod) / alpha_cumprod).sqrt()
}

/// Runs a solver that draws no noise from `x` in x0 + σ ε. Returns the result, and that of the exact flow from `x`.
fn run(config: &SolverConfig, steps: usize, start: &Tensor) -> latte_model::Result<(Tensor, Tensor)> {
    let mut solver = config.solver(steps)?;
    let in_sigma = solver.init_noise_sigma() != 1.0;
    let first = sigma_of_call(&*solver, config, 0)?;
    // Heun's last step, to clean data, is an Euler step: stop before it.
    let calls = solver.timesteps().len() - usize::from(config.kind == Sampler::Heun);
    let last = solver.sigmas().map_or(0.0, |sigmas| sigmas[calls]);
    let (alpha_first, alpha_last) = (1.0 / (1.0 + first * first).sqrt(), 1.0 / (1.0 + last * last).sqrt());
    let mut x = if in_sigma { (start * first)? } else { (start * (alpha_first * first))? };
    for call in 0..calls {
        let scaled = (&x * solver.input_scale(call))?;
        let prediction = exact_epsilon(&scaled, sigma_of_call(&*solver, config, call)?)?;
        x = solver.step(StepInput { prediction: &prediction, call, x: &x, noise: None })?.x;
    }
    // (x0 + σ ε − mean) / deviation is constant along the flow.
    let growth = ((DEVIATION * DEVIATION + last * last) / (DEVIATION * DEVIATION + first * first)).sqrt();
    let exact = (((start * first)? - MEAN)? * growth)?.affine(1.0, MEAN)?;
    Ok((x, if in_sigma { exact } else { (exact * alpha_last)? }))
}

fn largest_difference(a: &Tensor, b: &Tensor) -> latte_model::Result<f64> {
    Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar()?)
}

fn start() -> latte_model::Result<Tensor> {
    Ok(TorchRng::new(1).randn((2, 3, 4, 2, 2))?.to_dtype(DType::F64)?)
}

/// The slope of log error over log steps, between runs with twice the steps.
fn orders(config: &SolverConfig, steps: &[usize]) -> latte_model::Result<(Vec<f64>, Vec<f64>)> {
    let mut errors = Vec::new();
    for &steps in steps {
        let (end, exact) = run(config, steps, &start()?)?;
        errors.push(largest_difference(&end, &exact)?);
    }
    let orders = errors.windows(2).map(|w| (w[0] / w[1]).log2()).collect();
    Ok((errors, orders))
}

/// Evenly in λ = −log σ, down to the smallest σ.
fn even(kind: Sampler) -> SolverConfig {
    let mut config = SolverConfig::new(kind);
    (config.beta_start, config.beta_end) = (1e-4, 0.02);
    config.sigma_spacing = SigmaSpacing::Exponential;
    if kind != Sampler::Heun && kind != Sampler::Deis {
        config.final_sigma = FinalSigma::SigmaMin;
    }
    config
}

/// Each method converges with its order, in both formulas and with both interpolated quantities.
#[test]
fn methods_converge_with_their_order() -> latte_model::Result<()> {
    let mut cases: Vec<(String, SolverConfig, f64)> =
        vec![("euler".into(), even(Sampler::Euler), 1.0), ("heun".into(), even(Sampler::Heun), 2.0)];
    for order in 1..=3 {
        for kind in [Sampler::DpmMultistep, Sampler::DpmSinglestep] {
            for formula in [StepFormula::Midpoint, StepFormula::Heun] {
                for algorithm in [DpmAlgorithm::DpmSolverPlusPlus, DpmAlgorithm::DpmSolver] {
                    let config = SolverConfig { order, formula, algorithm, ..even(kind) };
                    // Reference quirk: the multistep formula of order 3 uses half of the second derivative.
                    let converges_with = if kind == Sampler::DpmMultistep { order.min(2) } else { order };
                    cases.push((format!("{kind} {order} {formula:?} {algorithm:?}"), config, converges_with as f64));
                }
            }
        }
        cases.push((format!("deis {order}"), SolverConfig { order, ..even(Sampler::Deis) }, order as f64));
        for formula in [StepFormula::Bh1, StepFormula::Bh2] {
            for predict_x0 in [true, false] {
                let config = SolverConfig { order, formula, predict_x0, ..even(Sampler::Unipc) };
                cases.push((format!("unipc {order} {formula:?} {predict_x0}"), config.clone(), order as f64 + 1.0));
                let disable_corrector = (0..1000).collect();
                let config = SolverConfig { disable_corrector, ..config };
                cases.push((format!("unip {order} {formula:?} {predict_x0}"), config, order as f64));
            }
        }
    }
    for (name, config, order) in cases {
        let (errors, orders) = orders(&config, &[48, 96, 192, 384])?;
        assert!(orders[1..].iter().all(|o| *o > order - 0.35), "{name}: {errors:?} {orders:?}");
    }
    Ok(())
}

#[test]
fn methods_that_end_at_clean_data_converge() -> latte_model::Result<()> {
    let pndm = SolverConfig { set_alpha_to_one: true, ..SolverConfig::new(Sampler::Pndm) };
    let ddim = SolverConfig { clip_sample: false, ..SolverConfig::new(Sampler::Ddim) };
    for (name, config, steps, order) in [
        ("ddim", ddim, [25, 50, 100, 200], 0.85..1.25),
        ("pndm", pndm.clone(), [25, 50, 100, 200], 0.9..4.0),
        ("plms", SolverConfig { skip_prk_steps: true, ..pndm }, [25, 50, 100, 200], 0.9..4.0),
    ] {
        let (errors, orders) = orders(&config, &steps)?;
        assert!(orders.iter().all(|o| order.contains(o)), "{name}: {errors:?} {orders:?}");
        assert!(errors[3] < 0.03, "{name}: {errors:?}");
    }
    Ok(())
}

/// Every method of order 1 equals DDIM.
#[test]
fn order_1_is_ddim() -> latte_model::Result<()> {
    for steps in [1, 2, 10, 25, 100] {
        let base = |kind| SolverConfig {
            timestep_spacing: TimestepSpacing::Trailing,
            clip_sample: false,
            order: 1,
            ..SolverConfig::new(kind)
        };
        let ddim = base(Sampler::Ddim);
        let (clean, _) = run(&ddim, steps, &start()?)?;
        let (not_quite, _) = run(&SolverConfig { set_alpha_to_one: false, ..ddim }, steps, &start()?)?;
        let unip = SolverConfig { disable_corrector: (0..steps).collect(), ..base(Sampler::Unipc) };
        for (config, end) in [
            (base(Sampler::DpmMultistep), &clean),
            (base(Sampler::Euler), &clean),
            (unip.clone(), &clean),
            (SolverConfig { predict_x0: false, final_sigma: FinalSigma::SigmaMin, ..unip }, &not_quite),
            (base(Sampler::Deis), &not_quite),
        ] {
            let (x, _) = run(&config, steps, &start()?)?;
            let difference = largest_difference(&x, end)?;
            assert!(difference < 1e-5, "{} {steps}: {difference}", config.kind);
        }
    }
    // Singlestep has only one spacing, the same as multistep's.
    let multistep = SolverConfig { order: 1, ..SolverConfig::new(Sampler::DpmMultistep) };
    let (end, _) = run(&multistep, 30, &start()?)?;
    let (x, _) = run(&SolverConfig { kind: Sampler::DpmSinglestep, ..multistep }, 30, &start()?)?;
    assert_eq!(largest_difference(&x, &end)?, 0.0);
    Ok(())
}

/// The exact network, by timestep.
struct Gaussian {
    sigmas: Vec<f64>,
}

impl Denoiser for Gaussian {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<Tensor> {
        let low = timesteps[0] as usize;
        let high = (low + 1).min(self.sigmas.len() - 1);
        let between = self.sigmas[low] + (self.sigmas[high] - self.sigmas[low]) * (timesteps[0] - low as f64);
        exact_epsilon(x, between)
    }
}

/// Draw k is 1 for sample k + 2 of the batch and 0 for the others.
struct OneHot {
    draws: usize,
}

impl NoiseSource for OneHot {
    fn noise(&mut self, shape: &[usize]) -> latte_model::Result<Tensor> {
        self.draws += 1;
        let values: Vec<f64> = (0..shape[0]).map(|sample| f64::from(u8::from(sample == self.draws + 1))).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}

/// The variance of the samples. The network is linear, and so is a run in its start and in each draw: the variance follows from the
/// response to each of them, without drawing anything.
fn variance_of_samples(config: &SolverConfig, steps: usize) -> latte_model::Result<f64> {
    let network = Gaussian { sigmas: config.alphas_cumprod()?.into_iter().map(sigma).collect() };
    let mut solver = config.solver(steps)?;
    let samples = solver.timesteps().len() + 2;
    // Sample 0 starts at 0 without noise, sample 1 at 1 without noise.
    let mut start = vec![0.0; samples];
    start[1] = 1.0;
    let start = Tensor::from_vec(start, (samples, 1, 1, 1, 1), &Device::Cpu)?;
    let mut noise = OneHot { draws: 0 };
    let end = sample(&mut *solver, &network, &start, &mut noise, &CancelToken::new(), &mut |_| {})?;
    let end: Vec<f64> = end.finished().map_or(Ok(Vec::new()), |end| end.flatten_all()?.to_vec1())?;
    assert!(noise.draws > 0, "{} draws no noise", config.kind);
    Ok(end[1..].iter().map(|x| (x - end[0]).powi(2)).sum())
}

#[test]
fn stochastic_methods_make_samples_with_the_variance_of_the_data() -> latte_model::Result<()> {
    let sde = |algorithm, order, final_sigma| SolverConfig {
        algorithm,
        order,
        final_sigma,
        ..SolverConfig::new(Sampler::DpmMultistepSde)
    };
    let plus_plus = DpmAlgorithm::SdeDpmSolverPlusPlus;
    let single = SolverConfig { algorithm: plus_plus, ..SolverConfig::new(Sampler::DpmSinglestep) };
    let kdpm2 = SolverConfig { beta_start: 1e-4, beta_end: 0.02, ..SolverConfig::new(Sampler::Kdpm2Ancestral) };
    for (name, config, tolerance) in [
        ("ddpm", SolverConfig { clip_sample: false, ..SolverConfig::new(Sampler::Ddpm) }, 0.02),
        ("ddim", SolverConfig { clip_sample: false, eta: 1.0, ..SolverConfig::new(Sampler::Ddim) }, 0.02),
        ("euler-a", SolverConfig::new(Sampler::EulerAncestral), 0.02),
        ("sde 1", sde(plus_plus, 1, FinalSigma::Zero), 0.02),
        ("sde 2", sde(plus_plus, 2, FinalSigma::Zero), 0.01),
        ("sde of epsilon", sde(DpmAlgorithm::SdeDpmSolver, 2, FinalSigma::SigmaMin), 0.02),
        ("singlestep sde", single, 0.02),
        ("kdpm2-a", kdpm2, 0.02),
    ] {
        let mut errors = Vec::new();
        for steps in [25, 100, 400] {
            errors.push((variance_of_samples(&config, steps)? - DEVIATION * DEVIATION).abs());
        }
        // The error may change its sign between short runs, and be small there.
        assert!(errors[2] < tolerance && errors[2] < errors[1] / 2.0, "{name}: {errors:?}");
    }
    Ok(())
}
