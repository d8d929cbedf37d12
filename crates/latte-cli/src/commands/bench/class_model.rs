//! Benchmarks of a class-conditional or unconditional network.

use candle_core::{DType, Device, Tensor};
use latte_model::model::{Input, Latte, LatteConfig};
use latte_model::noise::TorchRng;
use latte_ops::{AdamW, AdamWState, PackedWeightCache, Parameters, Precision, Tape, adamw_ema};

use super::{Case, DOWNSAMPLE, Mode, Work};

/// A forward pass or a training step of the model of `config`.
pub(super) fn case(
    device: &Device,
    mode: Mode,
    config: LatteConfig,
    batch: usize,
    precision: Precision,
    recompute: bool,
) -> anyhow::Result<Case> {
    let ([h, w], frames) = (config.input_size, config.num_frames);
    let shape = (batch, frames, config.in_channels, h, w);
    let mut rng = TorchRng::new(0);
    let model = Latte::new(config)?;
    let work = ClassModel {
        mode,
        parameters: model.init(&mut rng)?.to_device(device)?,
        packed: PackedWeightCache::new(),
        precision,
        x: rng.randn(shape)?.to_device(device)?, // [b, f, c, h, w]
        target: rng.randn(shape)?,               // [b, f, c, h, w]
        timesteps: vec![500.0; batch],
        recompute,
        optimizer: None,
        step: 0,
        model,
    };
    Ok(Case { mode, frames, size: [h, w].map(|side| side * DOWNSAMPLE), work: Box::new(work) })
}

/// A model with an input, and the state for training.
#[derive(Debug)]
struct ClassModel {
    mode: Mode,
    model: Latte,
    precision: Precision,
    parameters: Parameters,
    /// As in sampling, weights are packed once for all forward passes.
    packed: PackedWeightCache,
    x: Tensor,
    target: Tensor,
    timesteps: Vec<f64>,
    /// Moving average, first and second moments; created in the first training step.
    optimizer: Option<[Parameters; 3]>,
    recompute: bool,
    step: u64,
}

impl ClassModel {
    fn forward(&mut self) -> anyhow::Result<()> {
        let tape = Tape::inference().with_precision(self.precision).with_packed_weight_cache(&self.packed);
        self.model.forward(&tape, &self.parameters, &Input::new(&self.x, &self.timesteps))?;
        Ok(())
    }

    /// One training step: the squared error of the predicted noise, its gradient, and one AdamW step.
    fn train(&mut self) -> anyhow::Result<()> {
        let gradients = {
            let tape = Tape::recording().with_precision(self.precision).with_recompute(self.recompute);
            let prediction = self.model.forward(&tape, &self.parameters, &Input::new(&self.x, &self.timesteps))?; // [b, f, 2c, h, w]
            let channels = self.target.dim(2)?;
            let error = (prediction.to_host()?.narrow(2, 0, channels)? - &self.target)?;
            let scale = 2.0 / error.elem_count() as f64;
            let of_mean = (error * scale)?; // [b, f, c, h, w]
            let of_variance = Tensor::zeros(of_mean.shape(), DType::F32, of_mean.device())?;
            tape.backward(&prediction, self.parameters.beside(&Tensor::cat(&[&of_mean, &of_variance], 2)?)?)? // [b, f, 2c, h, w]
        };
        self.step += 1;
        if self.optimizer.is_none() {
            let (ema, zeros) = (self.parameters.deep_copy()?, self.parameters.zeros_like()?);
            self.optimizer = Some([ema, zeros.deep_copy()?, zeros]);
        }
        let Some([ema, first, second]) = &self.optimizer else { return Ok(()) };
        let constants = AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, ema_decay: 0.9999 };
        for (name, weight) in self.parameters.iter() {
            let Some(gradient) = gradients.parameter(name) else { continue };
            let state =
                AdamWState { weight, ema: ema.get(name)?, first_moment: first.get(name)?, second_moment: second.get(name)? };
            adamw_ema(&constants, 1e-4, self.step, gradient, 1.0, &state)?;
        }
        Ok(())
    }
}

impl Work for ClassModel {
    fn once(&mut self) -> anyhow::Result<()> {
        if self.mode == Mode::Train { self.train() } else { self.forward() }
    }
}
