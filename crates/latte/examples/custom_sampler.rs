//! A custom sampler in the ordinary sampling loop: `cargo run --release -p latte --example custom_sampler`.

use candle_core::Tensor;
use latte_model::sampling::{Solver, StepInput, StepOutput, sample};
use latte_model::{Denoiser, Result, noise::TorchRng};
use latte_ops::CancelToken;

/// Euler's method from noise to data on x = (1 − t) x0 + t ε; the network predicts x0 at timesteps 1000 t.
#[derive(Debug)]
struct Straight(Vec<f64>);

impl Solver for Straight {
    fn timesteps(&self) -> &[f64] {
        &self.0
    }

    fn step(&mut self, StepInput { prediction: x0, call, x, .. }: StepInput<'_>) -> Result<StepOutput> {
        let kept = self.0.get(call + 1).unwrap_or(&0.0) / self.0[call]; // the share of the noise that is kept
        Ok(StepOutput { x: ((x * kept)? + (x0 * (1.0 - kept))?)?, x0: x0.clone() })
    }
}

/// A network that has learned one image: it predicts 0.5 for every value.
struct OnePicture;

impl Denoiser for OnePicture {
    fn predict(&self, x: &Tensor, _timesteps: &[f64]) -> Result<Tensor> {
        Ok((x.zeros_like()? + 0.5)?)
    }
}

#[allow(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> Result<()> {
    let mut solver = Straight((1..=10).rev().map(|i| 100.0 * f64::from(i)).collect());
    let (mut rng, noise) = (TorchRng::new(0), TorchRng::new(1).randn((1, 2, 3, 4, 4))?);
    let made = sample(&mut solver, &OnePicture, &noise, &mut rng, &CancelToken::new(), &mut |_| {})?.finished();
    println!("{:?} should be 0.5", made.map(|x| x.mean_all()?.to_scalar::<f32>()).transpose()?);
    Ok(())
}
