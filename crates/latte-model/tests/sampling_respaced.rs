//! DDIM and DDPM over a respaced process, on problems with known solutions.

use candle_core::{DType, Device, Tensor};
use latte_model::diffusion::{Denoiser, Diffusion, DiffusionConfig, PredictionType, TimestepSpacing, VarianceType};
use latte_model::noise::TorchRng;
use latte_model::sampling::{
    InvertOptions, RespacedDdim, RespacedDdpm, Sampler, Solver, SolverConfig, StepInput, ddim_reverse_step, invert, sample,
};
use latte_ops::CancelToken;

/// Mean and standard deviation of the data of every element.
const MEAN: f64 = 0.3;
const DEVIATION: f64 = 0.5;

/// The exact network for data N(MEAN, DEVIATION²), computed from the score of a Gaussian.
struct Gaussian {
    alphas_cumprod: Vec<f64>,
    prediction: PredictionType,
}

impl Gaussian {
    fn new(prediction: PredictionType) -> latte_model::Result<Self> {
        Ok(Self { alphas_cumprod: process("", prediction)?.schedule().alphas_cumprod().to_vec(), prediction })
    }

    /// The mean and variance of x at a level of noise.
    fn at(alpha_bar: f64) -> (f64, f64) {
        (alpha_bar.sqrt() * MEAN, alpha_bar * DEVIATION * DEVIATION + 1.0 - alpha_bar)
    }
}

impl Denoiser for Gaussian {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<Tensor> {
        let alpha_bar = self.alphas_cumprod[timesteps[0] as usize];
        let (mean, variance) = Self::at(alpha_bar);
        let rest = (1.0 - alpha_bar).sqrt();
        let epsilon = ((x - mean)? * (rest / variance))?;
        let x0 = ((x - (&epsilon * rest)?)? / alpha_bar.sqrt())?;
        Ok(match self.prediction {
            PredictionType::Epsilon => epsilon,
            PredictionType::X0 => x0,
            PredictionType::Velocity => ((epsilon * alpha_bar.sqrt())? - (x0 * rest)?)?,
        })
    }
}

/// A nonlinear network: DDIM's steps are not exactly invertible in closed form.
struct Toy;

impl Denoiser for Toy {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<Tensor> {
        Ok(((x * 0.2)? + ((x * 1.5)?.sin()? * 0.3)?)?.affine(1.0, 0.1 * (timesteps[0] / 250.0).cos())?)
    }
}

fn process(spacing: &str, prediction: PredictionType) -> latte_model::Result<Diffusion> {
    let config = DiffusionConfig { prediction, variance: VarianceType::FixedLarge, ..DiffusionConfig::default() };
    Diffusion::new(&config, &spacing.parse()?)
}

fn noise_f64(seed: u64) -> latte_model::Result<Tensor> {
    Ok(TorchRng::new(seed).randn((2, 3, 4, 4, 4))?.to_dtype(DType::F64)?)
}

fn ddim(diffusion: &Diffusion, eta: f64) -> latte_model::Result<RespacedDdim> {
    RespacedDdim::new(diffusion.clone(), false, eta)
}

fn ddpm(diffusion: &Diffusion) -> RespacedDdpm {
    RespacedDdpm::new(diffusion.clone(), false)
}

fn run(mut solver: impl Solver, denoiser: &dyn Denoiser, x_t: &Tensor) -> latte_model::Result<Tensor> {
    let go_on = CancelToken::new();
    Ok(sample(&mut solver, denoiser, x_t, &mut TorchRng::new(9), &go_on, &mut |_| {})?.finished().expect("nobody stops it"))
}

fn largest_difference(a: &Tensor, b: &Tensor) -> latte_model::Result<f64> {
    Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar()?)
}

/// The slope of log error over log steps between neighbours.
fn orders(errors: &[f64]) -> Vec<f64> {
    errors.windows(2).map(|w| (w[0] / w[1]).log2()).collect()
}

/// DDIM solves the probability-flow ODE, whose solution for Gaussian data keeps (x − mean) / deviation. Order 1.
#[test]
fn ddim_converges_with_order_1() -> latte_model::Result<()> {
    for prediction in [PredictionType::Epsilon, PredictionType::X0, PredictionType::Velocity] {
        let denoiser = Gaussian::new(prediction)?;
        let x_t = noise_f64(1)?;
        let (mean, variance) = Gaussian::at(denoiser.alphas_cumprod[999]);
        let exact = (((&x_t - mean)? * (DEVIATION / variance.sqrt()))? + MEAN)?;
        let mut errors = Vec::new();
        for steps in ["10", "20", "40", "80", "160"] {
            let end = run(ddim(&process(steps, prediction)?, 0.0)?, &denoiser, &x_t)?;
            errors.push(largest_difference(&end, &exact)?);
        }
        assert!(errors[4] < 0.05, "{errors:?}");
        assert!(orders(&errors)[1..].iter().all(|order| (0.85..1.25).contains(order)), "{errors:?} {:?}", orders(&errors));
    }
    Ok(())
}

/// The variance of the samples that a method generates from pure noise. For this network every step is linear in x and in the
/// noise, so two trial inputs give the step's factors, and the variance follows without drawing anything.
fn variance_of_samples(diffusion: &Diffusion, denoiser: &Gaussian, eta: Option<f64>) -> latte_model::Result<f64> {
    let mut variance = 1.0;
    let mut solver: Box<dyn Solver> = match eta {
        None => Box::new(ddpm(diffusion)),
        Some(eta) => Box::new(ddim(diffusion, eta)?),
    };
    // Three samples: x = 0 without noise, x = 1 without noise, x = 0 with noise 1.
    let x = Tensor::from_vec(vec![0.0_f64, 1.0, 0.0], (3, 1, 1, 1, 1), &Device::Cpu)?;
    let noise = Tensor::from_vec(vec![0.0_f64, 0.0, 1.0], (3, 1, 1, 1, 1), &Device::Cpu)?;
    for call in 0..diffusion.num_steps() {
        let prediction = denoiser.predict(&x, &[solver.timesteps()[call]; 3])?;
        let output = solver.step(StepInput { prediction: &prediction, call, x: &x, noise: Some(&noise) })?;
        let end: Vec<f64> = output.x.flatten_all()?.to_vec1()?;
        variance = variance * (end[1] - end[0]).powi(2) + (end[2] - end[0]).powi(2);
    }
    Ok(variance)
}

#[test]
fn variance_of_ddpm_and_stochastic_ddim_converges_with_order_1() -> latte_model::Result<()> {
    let denoiser = Gaussian::new(PredictionType::Epsilon)?;
    for eta in [None, Some(0.5), Some(1.0)] {
        let mut errors = Vec::new();
        for steps in ["20", "40", "80", "160", "320"] {
            let variance = variance_of_samples(&process(steps, PredictionType::Epsilon)?, &denoiser, eta)?;
            errors.push((variance - DEVIATION * DEVIATION).abs());
        }
        assert!(errors[4] < 0.02, "eta {eta:?}: {errors:?}");
        assert!(orders(&errors)[1..].iter().all(|o| (0.7..1.4).contains(o)), "eta {eta:?}: {errors:?} {:?}", orders(&errors));
    }
    Ok(())
}

/// The same with drawn samples, through the loop and its noise.
#[test]
fn ddpm_samples_have_the_variance_of_the_data() -> latte_model::Result<()> {
    let denoiser = Gaussian::new(PredictionType::Epsilon)?;
    let x_t = TorchRng::new(4).randn((8, 4, 4, 16, 16))?;
    let mut errors = Vec::new();
    for steps in ["8", "32", "128"] {
        let diffusion = process(steps, PredictionType::Epsilon)?;
        let end: Vec<f32> = run(ddpm(&diffusion), &denoiser, &x_t)?.flatten_all()?.to_vec1()?;
        let n = end.len() as f64;
        let mean = end.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = end.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let predicted = variance_of_samples(&diffusion, &denoiser, None)?;
        assert!((variance / predicted - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{steps}: {variance} against {predicted}");
        errors.push((variance - DEVIATION * DEVIATION).abs());
    }
    assert!(errors[1] < errors[0] / 2.0 && errors[2] < errors[1] / 2.0, "{errors:?}");
    Ok(())
}

#[test]
fn ddim_undoes_its_inversion() -> latte_model::Result<()> {
    let start = (noise_f64(2)? * 0.5)?;
    let round_trip = |steps: &str, denoiser: &dyn Denoiser, corrections| -> latte_model::Result<f64> {
        let diffusion = process(steps, PredictionType::Epsilon)?;
        let noise = invert(&diffusion, denoiser, &start, InvertOptions { corrections })?;
        assert!(largest_difference(&noise, &start)? > 0.1, "nothing was inverted");
        largest_difference(&run(ddim(&diffusion, 0.0)?, denoiser, &noise)?, &start)
    };
    for steps in ["50", "250", "ddim100", ""] {
        let corrections = InvertOptions::default().corrections;
        assert!(round_trip(steps, &Toy, corrections)? < 1e-3, "{steps}");
        assert!(round_trip(steps, &Gaussian::new(PredictionType::Epsilon)?, corrections)? < 1e-3, "{steps}");
    }
    assert!(round_trip("25", &Toy, 6)? < 1e-3);
    // Without corrections the error is of order 1; each correction reduces it.
    let errors = [round_trip("50", &Toy, 0)?, round_trip("100", &Toy, 0)?, round_trip("200", &Toy, 0)?];
    assert!(orders(&errors).iter().all(|order| (0.7..1.5).contains(order)), "{errors:?}");
    let errors = [round_trip("50", &Toy, 0)?, round_trip("50", &Toy, 1)?, round_trip("50", &Toy, 2)?];
    assert!(errors[1] < errors[0] / 3.0 && errors[2] < errors[1] / 3.0, "{errors:?}");
    Ok(())
}

#[test]
fn f32_is_enough_for_inversion() -> latte_model::Result<()> {
    let start = TorchRng::new(2).randn((2, 3, 4, 4, 4))?;
    for prediction in [PredictionType::Epsilon, PredictionType::X0, PredictionType::Velocity] {
        let denoiser = Gaussian::new(prediction)?;
        let diffusion = process("100", prediction)?;
        let noise = invert(&diffusion, &denoiser, &start, InvertOptions::default())?;
        let end = run(ddim(&diffusion, 0.0)?, &denoiser, &noise)?;
        assert_eq!(end.dtype(), DType::F32);
        assert!(largest_difference(&end, &start)? < 1e-3, "{prediction:?}: {}", largest_difference(&end, &start)?);
    }
    Ok(())
}

/// The reference's reverse step is the step of the ODE in the other direction: it inverts DDIM's step up to its own order.
#[test]
fn the_reverse_step_goes_back() -> latte_model::Result<()> {
    let mut errors = Vec::new();
    for steps in ["50", "100", "200"] {
        let diffusion = process(steps, PredictionType::Epsilon)?;
        let start = noise_f64(3)?;
        let mut x = start.clone();
        let last = diffusion.num_steps() - 1;
        let predict = |x: &Tensor, step| Toy.predict(x, &diffusion.original_timesteps(&[step; 2])?);
        for step in 0..last {
            let prediction = predict(&x, step)?;
            x = ddim_reverse_step(&diffusion, &prediction, &x, step, false)?.x;
        }
        let mut solver = ddim(&diffusion, 0.0)?;
        for call in 0..last {
            let prediction = predict(&x, last - call)?;
            x = solver.step(StepInput { prediction: &prediction, call, x: &x, noise: None })?.x;
        }
        errors.push(largest_difference(&x, &start)?);
    }
    assert!(orders(&errors).iter().all(|order| (0.7..1.5).contains(order)), "{errors:?}");
    Ok(())
}

#[test]
fn ddim_with_eta_1_is_ddpm_with_the_small_variance() -> latte_model::Result<()> {
    let config = DiffusionConfig { variance: VarianceType::FixedSmall, ..DiffusionConfig::default() };
    let diffusion = Diffusion::new(&config, &TimestepSpacing::evenly(20))?;
    let x_t = noise_f64(5)?;
    let ddim = run(ddim(&diffusion, 1.0)?, &Toy, &x_t)?;
    let ddpm = run(ddpm(&diffusion), &Toy, &x_t)?;
    assert!(largest_difference(&ddim, &ddpm)? < 1e-10);
    Ok(())
}

#[test]
fn clamping_keeps_x0_in_range() -> latte_model::Result<()> {
    let diffusion = process("10", PredictionType::Epsilon)?;
    let x_t = noise_f64(6)?;
    for sampler in [Sampler::Ddim, Sampler::Ddpm] {
        let mut largest = [0.0_f64; 2];
        for (clip_denoised, largest) in [false, true].into_iter().zip(&mut largest) {
            let mut solver: Box<dyn Solver> = match sampler {
                Sampler::Ddim => Box::new(RespacedDdim::new(diffusion.clone(), clip_denoised, 0.0)?),
                _ => Box::new(RespacedDdpm::new(diffusion.clone(), clip_denoised)),
            };
            sample(&mut *solver, &Toy, &x_t, &mut TorchRng::new(0), &CancelToken::new(), &mut |report| {
                let seen = report.x0.abs().and_then(|x| x.flatten_all()?.max(0)?.to_scalar::<f64>());
                *largest = largest.max(seen.expect("a tensor"));
            })?;
        }
        assert!(largest[0] > 1.0 && largest[1] <= 1.0, "{sampler}: {largest:?}");
    }
    Ok(())
}

#[test]
fn the_loop_reports_stops_and_is_independent_of_the_batch() -> latte_model::Result<()> {
    let diffusion = process("10", PredictionType::Epsilon)?;
    let root = TorchRng::new(8);
    let make = |streams: &[u64]| -> latte_model::Result<Tensor> {
        let mut rngs: Vec<TorchRng> = streams.iter().map(|&stream| root.fork(stream)).collect();
        let starts = rngs.iter_mut().map(|rng| rng.randn((1, 4, 4, 4))).collect::<latte_model::Result<Vec<_>>>()?;
        let x_t = Tensor::stack(&starts, 0)?;
        let go_on = CancelToken::new();
        let sampled = sample(&mut ddpm(&diffusion), &Toy, &x_t, &mut rngs, &go_on, &mut |_| {})?;
        Ok(sampled.finished().expect("nobody stops it"))
    };
    let (both, alone) = (make(&[3, 4])?, make(&[4])?);
    assert_eq!(largest_difference(&both.narrow(0, 1, 1)?, &alone)?, 0.0);
    assert!(largest_difference(&both.narrow(0, 0, 1)?, &alone)? > 0.1);

    let mut seen = Vec::new();
    let stop = CancelToken::new();
    let stopped = sample(&mut ddpm(&diffusion), &Toy, &noise_f64(7)?, &mut TorchRng::new(0), &stop, &mut |report| {
        seen.push((report.done, report.num_steps));
        if report.done == 3 {
            stop.cancel();
        }
    })?;
    assert!(stopped.finished().is_none());
    assert_eq!(seen, [(1, 10), (2, 10), (3, 10)]);
    Ok(())
}

/// Records the timesteps of its calls.
struct Listener(std::cell::RefCell<Vec<f64>>);

impl Denoiser for Listener {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<Tensor> {
        self.0.borrow_mut().extend(timesteps);
        Ok(x.zeros_like()?)
    }
}

#[test]
fn the_network_gets_original_timesteps() -> latte_model::Result<()> {
    let listener = Listener(std::cell::RefCell::default());
    let x = noise_f64(1)?.narrow(0, 0, 1)?;
    run(ddim(&process("5", PredictionType::Epsilon)?, 0.0)?, &listener, &x)?;
    assert_eq!(*listener.0.borrow(), [999.0, 749.0, 500.0, 250.0, 0.0]);
    Ok(())
}

#[test]
fn impossible_options_are_refused() -> latte_model::Result<()> {
    let diffusion = process("5", PredictionType::Epsilon)?;
    for eta in [-0.1, 1.1, f64::NAN] {
        assert!(ddim(&diffusion, eta).is_err());
    }
    let mut rngs = vec![TorchRng::new(0)]; // one generator, two samples
    let go_on = CancelToken::new();
    let result = sample(&mut ddpm(&diffusion), &Toy, &noise_f64(1)?, &mut rngs, &go_on, &mut |_| {});
    assert!(result.expect_err("one generator for two samples").to_string().contains("one sample for each generator"));
    let x = noise_f64(1)?;
    let late = StepInput { prediction: &x, call: 5, x: &x, noise: Some(&x) };
    assert!(ddim(&diffusion, 0.0)?.step(late).is_err() && ddpm(&diffusion).step(late).is_err());
    Ok(())
}

/// A configuration with a spacing that has a count is the same sampler, bit for bit.
#[test]
fn a_configuration_may_respace_the_process() -> latte_model::Result<()> {
    let x_t = TorchRng::new(5).randn((2, 3, 4, 4, 4))?;
    for spacing in ["7", "3,4", "ddim50"] {
        let spacing: TimestepSpacing = spacing.parse()?;
        let config = DiffusionConfig { variance: VarianceType::FixedSmall, ..DiffusionConfig::default() };
        let diffusion = Diffusion::new(&config, &spacing)?;
        for (kind, eta) in [(Sampler::Ddim, 0.4), (Sampler::Ddpm, 0.0)] {
            let config = SolverConfig { timestep_spacing: spacing.clone(), clip_sample: false, eta, ..SolverConfig::new(kind) };
            let mut solver = config.solver(diffusion.num_steps())?;
            let go_on = CancelToken::new();
            let end = sample(&mut *solver, &Toy, &x_t, &mut TorchRng::new(9), &go_on, &mut |_| {})?
                .finished()
                .expect("nobody stops it");
            let expected = match kind {
                Sampler::Ddim => run(ddim(&diffusion, eta)?, &Toy, &x_t)?,
                _ => run(ddpm(&diffusion), &Toy, &x_t)?,
            };
            assert_eq!(largest_difference(&end, &expected)?, 0.0, "{kind} {spacing}");
        }
    }
    Ok(())
}
