//! Class-conditional and unconditional models: network, guidance, sampler and autoencoder together.
//!
//! Training's samples, `latte sample` and the demo all use this code. Shape letters: `b` batch, `f` frames, `c` channels, `h w`
//! height and width.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use latte_model::Denoiser;
use latte_model::checkpoint::CheckpointMetadata;
use latte_model::diffusion::DiffusionConfig;
use latte_model::finite::with_cause;
use latte_model::guidance::{ConditionalDenoiser, Guidance, Guided, GuidedChannels, doubled, halves};
use latte_model::model::{Latte, LatteConfig, LatteDenoiser};
use latte_model::noise::TorchRng;
use latte_model::sampling::{AskedFor, Sampled, Sampler, Solver, SolverConfig, Start, sample};
use latte_model::vae::{Autoencoder, AutoencoderKind};
use latte_ops::{CancelToken, PackedWeightCache, Parameters, Precision};
use serde_json::Value;

use crate::generation_state::{GenerationState, Resumable};
use latte_progress::Stage;

use crate::progress::{GenerationProgress, on_step};
use crate::{Error, Result};

/// The guidance scale if the request has none and the model supports guidance.
pub const DEFAULT_GUIDANCE: f64 = 4.0;

/// The description of a class model without its weights.
#[derive(Clone)]
pub struct ClassModelConfig {
    /// The network.
    pub network: LatteConfig,
    /// The diffusion process that it was trained on.
    pub diffusion: DiffusionConfig,
    /// The autoencoder, which defines the space that the network works in.
    pub autoencoder: Arc<dyn Autoencoder>,
    /// Whether every predicted x0 is clamped to [−1, 1]: true for models on pixels, false for models on latents.
    pub clip_denoised: bool,
    /// Height and width of a frame in pixels, as in training.
    pub frame_size: [usize; 2],
    /// Frames of a clip, as in training.
    pub num_frames: usize,
}

// `dyn Autoencoder` does not implement `Debug`.
impl fmt::Debug for ClassModelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassModelConfig")
            .field("network", &self.network)
            .field("diffusion", &self.diffusion)
            .field("clip_denoised", &self.clip_denoised)
            .field("frame_size", &self.frame_size)
            .field("num_frames", &self.num_frames)
            .finish_non_exhaustive()
    }
}

/// The settings of sampling.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// The sampler.
    pub sampler: Sampler,
    /// The sampler's options, under their keys in `scheduler_config.json`, except those that training fixes (β, the prediction
    /// type).
    pub sampler_options: Vec<(String, Value)>,
    /// η, the noise that DDIM adds in each step, 0 to 1.
    pub eta: f64,
    /// Sampling steps.
    pub steps: usize,
    /// The guidance scale; `None`: [`DEFAULT_GUIDANCE`] if the model supports guidance, else none.
    pub guidance: Option<f64>,
    /// The timesteps at which guidance acts ([`Guidance::interval`]).
    pub guidance_interval: Option<[f64; 2]>,
    /// How far the deviation of guided predictions is restored ([`Guidance::rescale`]).
    pub guidance_rescale: f64,
    /// Frames; `None`: as in training.
    pub frames: Option<usize>,
    /// Height and width in pixels; `None`: as in training.
    pub size: Option<[usize; 2]>,
    /// The precision of matmuls.
    pub precision: Precision,
}

impl Default for SamplingParams {
    /// 50 steps of DDIM; everything else as the model has it.
    fn default() -> Self {
        Self {
            sampler: Sampler::Ddim,
            sampler_options: Vec::new(),
            eta: 0.0,
            steps: 50,
            guidance: None,
            guidance_interval: None,
            guidance_rescale: 0.0,
            frames: None,
            size: None,
            precision: Precision::F32,
        }
    }
}

/// A clip to generate: the values that differ between the clips of one model and one set of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The class number, for class-conditional models.
    pub class: Option<u32>,
    /// The seed of its noise. The same seed gives the same clip, whichever other clips are generated.
    pub seed: u64,
}

/// The pixels of a generated clip.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipPixels {
    /// `[f, 3, h, w]`, row-major; about −1 to 1, but not clamped to that range.
    pub values: Vec<f32>,
    /// `[f, h, w]`.
    pub shape: [usize; 3],
}

impl ClassModelConfig {
    /// The model that a checkpoint's metadata describes.
    pub fn new(metadata: &CheckpointMetadata, autoencoder: Arc<dyn Autoencoder>) -> Self {
        Self {
            network: metadata.model.clone(),
            diffusion: metadata.diffusion.clone(),
            autoencoder,
            // Pixels lie in [-1, 1]; latents have no such bound.
            clip_denoised: metadata.autoencoder.kind == AutoencoderKind::Pixels,
            frame_size: metadata.frame_size,
            num_frames: metadata.num_frames,
        }
    }

    /// Checks that a clip of class `class` can be generated with `params`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names the first value that does not fit: `steps`, `eta`, `size`, `frames`, `guidance` or one of its
    /// options, or the key of a sampler option.
    pub fn check(&self, params: &SamplingParams, class: Option<u32>) -> Result<()> {
        let most = self.diffusion.num_timesteps;
        if params.steps == 0 || params.steps > most {
            let what = format!("expected 1 to {most}, the timesteps of training, got {}", params.steps);
            return Err(Error::config("steps", what));
        }
        if !(0.0..=1.0).contains(&params.eta) {
            return Err(Error::config("eta", format!("expected 0 to 1, got {}", params.eta)));
        }
        if params.eta != 0.0 && params.sampler != Sampler::Ddim {
            let what = format!("{} does not use it (ddim does): expected 0, got {}", params.sampler, params.eta);
            return Err(Error::config("eta", what));
        }
        let [height, width] = self.size(params);
        let side = self.autoencoder.space().downsample_factor() * self.network.patch_size;
        if height == 0 || width == 0 || !height.is_multiple_of(side) || !width.is_multiple_of(side) {
            return Err(Error::config("size", format!("this model needs multiples of {side}, got {height}x{width}")));
        }
        let (frames, multiple) = (self.frames(params), self.network.frames_per_token());
        if frames == 0 || !frames.is_multiple_of(multiple) {
            return Err(Error::config("frames", format!("this model needs a multiple of {multiple}, got {frames}")));
        }
        self.guidance(params, class)?;
        self.solver(params).map(drop)
    }

    /// The solver that `params` select, for this model's diffusion process.
    fn solver(&self, params: &SamplingParams) -> Result<Box<dyn Solver>> {
        let eta = (params.eta != 0.0).then_some(params.eta);
        let asked = AskedFor { sampler: Some(params.sampler), options: &params.sampler_options, eta };
        let mut config = SolverConfig::of_process(&self.diffusion, &asked, params.steps)?;
        // An explicit sampler option has priority over the model's own rule.
        config.clip_denoised = self.clip_denoised && params.sampler_options.iter().all(|(key, _)| key != "clip_sample");
        Ok(config.solver(params.steps)?)
    }

    fn size(&self, params: &SamplingParams) -> [usize; 2] {
        params.size.unwrap_or(self.frame_size)
    }

    fn frames(&self, params: &SamplingParams) -> usize {
        params.frames.unwrap_or(self.num_frames)
    }

    fn guidance(&self, params: &SamplingParams, class: Option<u32>) -> Result<Guidance> {
        let can_be_guided = self.network.null_label().is_some();
        let guidance = Guidance {
            scale: params.guidance.unwrap_or(if can_be_guided { DEFAULT_GUIDANCE } else { 1.0 }),
            channels: GuidedChannels::First(self.network.in_channels),
            interval: params.guidance_interval,
            rescale: params.guidance_rescale,
        };
        guidance.check()?;
        if guidance.scale != 1.0 && !can_be_guided {
            let why = match class {
                None => "this model has no classes, so guidance has no effect; leave it out",
                Some(_) => "this model was trained without class dropout and cannot be guided; use 1",
            };
            return Err(Error::config("guidance", format!("{why}; got {}", guidance.scale)));
        }
        Ok(guidance)
    }

    /// Everything that a clip depends on besides the weights, as text.
    fn settings(&self, params: &SamplingParams, request: Request) -> Result<String> {
        let SamplingParams { sampler, sampler_options, eta, steps, guidance_interval, guidance_rescale, precision, .. } = params;
        let settings = serde_json::json!({
            "sampler": sampler.name(),
            "sampler_options": sampler_options.iter().cloned().collect::<serde_json::Map<_, _>>(),
            "eta": eta,
            "steps": steps,
            "guidance": self.guidance(params, request.class)?.scale,
            "guidance_interval": guidance_interval,
            "guidance_rescale": guidance_rescale,
            "frames": self.frames(params),
            "size": self.size(params),
            "precision": format!("{precision:?}"),
            "class": request.class,
            "seed": request.seed,
            "diffusion": self.diffusion,
            "clip_denoised": self.clip_denoised,
        });
        Ok(settings.to_string())
    }
}

/// A class-conditional or unconditional model with its weights, ready to sample.
#[derive(Debug)]
pub struct ClassModel {
    config: ClassModelConfig,
    network: Latte,
    weights: Parameters,
    packed_weights: PackedWeightCache,
}

impl ClassModel {
    /// Builds the model. The weights must not be changed while this model exists: they are packed once.
    ///
    /// # Errors
    ///
    /// If the network's configuration is invalid, or the weights do not belong to it.
    pub fn new(config: ClassModelConfig, weights: Parameters) -> Result<Self> {
        let network = Latte::new(config.network.clone())?;
        network.check(&weights).map_err(|what| Error::config("weights", what))?;
        Ok(Self { config, network, weights, packed_weights: PackedWeightCache::new() })
    }

    /// The description of the model without its weights.
    pub fn config(&self) -> &ClassModelConfig {
        &self.config
    }

    /// The weights.
    pub fn weights(&self) -> &Parameters {
        &self.weights
    }

    /// Generates one clip, or resumes a stopped one from `state`.
    ///
    /// Each clip is generated on its own with its own generator: the same request gives the same pixels, bit for bit, whichever
    /// other clips are generated and however often it was stopped and resumed.
    ///
    /// `progress` receives every prediction. After `cancel` is cancelled, the work stops between two blocks of the network and
    /// returns the state after the last complete prediction.
    ///
    /// # Errors
    ///
    /// If the parameters do not fit the model ([`ClassModelConfig::check`]), the state belongs to another clip, or the computation
    /// fails. Whether the weights are those of the state is not checked.
    pub fn generate(
        &self,
        params: &SamplingParams,
        request: Request,
        state: Option<&GenerationState>,
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
    ) -> Result<Resumable<ClipPixels>> {
        let config = &self.config;
        config.check(params, request.class)?;
        let ([height, width], frames) = (config.size(params), config.frames(params));
        let denoiser = Guided {
            inner: Bound { model: self, class: request.class, precision: params.precision, cancel },
            guidance: config.guidance(params, request.class)?,
        };
        let mut solver = config.solver(params)?;
        let settings = config.settings(params, request)?;
        let [f, c, h, w] = config.autoencoder.space().latent_shape(frames, height, width)?;
        let (mut rng, noise); // `noise` is [1, f, c, h, w]
        let start = match state {
            None => {
                rng = TorchRng::new(request.seed);
                noise = rng.randn((1, f, c, h, w))?;
                Start::Noise(&noise)
            }
            Some(state) => {
                rng = state.generator(&settings)?;
                Start::State(&state.sampling)
            }
        };
        let sampled = sample(&mut *solver, &denoiser, start, &mut rng, cancel, &mut on_step(progress));
        let latents = match sampled.map_err(|e| with_cause(e, &self.weights))? {
            Sampled::Finished(latents) => latents, // [1, f, c, h, w]
            Sampled::Stopped(sampling) => {
                return Ok(Resumable::Stopped(Box::new(GenerationState::new(*sampling, &rng, settings))));
            }
        };
        let pixels = config.autoencoder.decode(&latents)?; // [1, f, 3, h, w]
        progress.stage(Stage::Decoding, f as u64, f as u64);
        Ok(Resumable::Finished(ClipPixels { values: pixels.flatten_all()?.to_vec1()?, shape: [f, height, width] }))
    }
}

/// The network with the class of one clip.
#[derive(Debug, Clone, Copy)]
struct Bound<'m> {
    model: &'m ClassModel,
    class: Option<u32>,
    precision: Precision,
    cancel: &'m CancelToken,
}

impl Bound<'_> {
    fn predict(&self, x: &Tensor, timesteps: &[f64], labels: Option<Vec<u32>>) -> latte_model::Result<Tensor> {
        let ClassModel { network: model, weights: parameters, packed_weights, .. } = self.model;
        let (precision, packed_weights, cancel) = (self.precision, packed_weights.clone(), self.cancel.clone());
        LatteDenoiser { model, parameters, labels, text: None, precision, packed_weights, cancel }.predict(x, timesteps)
    }
}

impl ConditionalDenoiser for Bound<'_> {
    fn predict_conditional(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<Tensor> {
        self.predict(x, timesteps, self.class.map(|class| vec![class; timesteps.len()]))
    }

    /// The conditional half comes first in the batch, as in the official code.
    fn predict_both(&self, x: &Tensor, timesteps: &[f64]) -> latte_model::Result<(Tensor, Tensor)> {
        let samples = timesteps.len();
        let labels = match (self.class, self.model.config.network.null_label()) {
            (Some(class), Some(null)) => Some([vec![class; samples], vec![null; samples]].concat()),
            _ => None,
        };
        let (x, timesteps) = doubled(x, timesteps)?;
        halves(&self.predict(&x, &timesteps, labels)?)
    }
}

#[cfg(test)]
mod tests {
    use latte_model::model::Condition;
    use latte_model::sampling::StepReport;
    use latte_model::vae::Pixels;

    use super::*;
    use latte_progress::{NoProgress, Progress};

    fn config(condition: Condition) -> ClassModelConfig {
        let network = LatteConfig {
            input_size: [8, 8],
            num_frames: 2,
            in_channels: 3,
            hidden_size: 16,
            depth: 2,
            num_heads: 2,
            condition,
            ..LatteConfig::preset("Latte-S/2").unwrap()
        };
        let diffusion = DiffusionConfig::default();
        let autoencoder = Arc::new(Pixels);
        ClassModelConfig { network, diffusion, autoencoder, clip_denoised: true, frame_size: [8, 8], num_frames: 2 }
    }

    fn model(condition: Condition) -> ClassModel {
        let config = config(condition);
        // Fresh weights predict 0 for every class; a little noise everywhere makes the class count.
        let mut rng = TorchRng::new(3);
        let fresh = Latte::new(config.network.clone()).unwrap().init(&mut rng).unwrap();
        let noisy = fresh.iter().map(|(name, t)| {
            (name.to_string(), (t.to_host().unwrap() + (rng.randn(t.dims()).unwrap() * 0.05).unwrap()).unwrap())
        });
        ClassModel::new(config, noisy.collect()).unwrap()
    }

    fn params() -> SamplingParams {
        SamplingParams { sampler: Sampler::Ddpm, steps: 3, ..SamplingParams::default() }
    }

    const CLASSES: Condition = Condition::Class { num_classes: 3, dropout: 0.1 };

    fn generate(model: &ClassModel, params: &SamplingParams, class: Option<u32>, seed: u64) -> Vec<f32> {
        let made = model.generate(params, Request { class, seed }, None, &mut NoProgress, &CancelToken::new()).unwrap();
        let clip = made.finished().unwrap();
        assert_eq!(clip.values.len(), clip.shape.iter().product::<usize>() * 3);
        clip.values
    }

    #[test]
    fn seed_class_and_guidance_decide_and_nothing_else() {
        let model = model(CLASSES);
        let one = generate(&model, &params(), Some(1), 7);
        assert_ne!(one, generate(&model, &params(), Some(2), 7));
        assert_ne!(one, generate(&model, &params(), Some(1), 8));
        let weak = SamplingParams { guidance: Some(1.0), ..params() };
        assert_ne!(one, generate(&model, &weak, Some(1), 7));
        assert_eq!(one, generate(&model, &SamplingParams { guidance: Some(DEFAULT_GUIDANCE), ..params() }, Some(1), 7));
        assert_eq!(one, generate(&model, &params(), Some(1), 7));
    }

    /// Cancels after `after` predictions.
    struct CancelAfter {
        after: usize,
        cancel: CancelToken,
        heard: Vec<(Stage, u64, u64)>,
    }

    impl Progress for CancelAfter {
        fn stage(&mut self, stage: Stage, done: u64, total: u64) {
            self.heard.push((stage, done, total));
        }
    }

    impl GenerationProgress for CancelAfter {
        fn predicted(&mut self, report: &StepReport) {
            if report.done == self.after {
                self.cancel.cancel();
            }
        }
    }

    #[test]
    fn it_can_be_stopped_between_steps() {
        let cancel = CancelToken::new();
        let mut progress = CancelAfter { after: 2, cancel: cancel.clone(), heard: Vec::new() };
        let made = model(CLASSES).generate(&params(), Request { class: Some(0), seed: 0 }, None, &mut progress, &cancel).unwrap();
        let Resumable::Stopped(state) = made else { panic!("it was not stopped") };
        assert_eq!(state.sampling.done, 2);
        assert_eq!(progress.heard, [(Stage::Denoising, 1, 3), (Stage::Denoising, 2, 3)]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let classes = config(CLASSES);
        let refuse = |config: &ClassModelConfig, params: SamplingParams, class, key: &str| {
            let message = config.check(&params, class).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{key}: ")) && message.contains("got "), "{message}");
        };
        classes.check(&params(), Some(0)).unwrap();
        refuse(&classes, SamplingParams { steps: 0, ..params() }, Some(0), "steps");
        refuse(&classes, SamplingParams { steps: 1001, ..params() }, Some(0), "steps");
        refuse(&classes, SamplingParams { eta: -1.0, ..params() }, Some(0), "eta");
        refuse(&classes, SamplingParams { eta: 0.5, ..params() }, Some(0), "eta");
        classes.check(&SamplingParams { eta: 0.5, sampler: Sampler::Ddim, ..params() }, Some(0)).unwrap();
        refuse(&classes, SamplingParams { size: Some([9, 8]), ..params() }, Some(0), "size");
        refuse(&classes, SamplingParams { frames: Some(0), ..params() }, Some(0), "frames");
        refuse(&classes, SamplingParams { guidance: Some(f64::NAN), ..params() }, Some(0), "guidance");
        let unguided = config(Condition::Class { num_classes: 3, dropout: 0.0 });
        refuse(&unguided, SamplingParams { guidance: Some(2.0), ..params() }, Some(0), "guidance");
        let none = config(Condition::None);
        refuse(&none, SamplingParams { guidance: Some(2.0), ..params() }, None, "guidance");
        none.check(&SamplingParams { guidance: Some(1.0), ..params() }, None).unwrap();
        let error = ClassModel::new(none, Parameters::new()).unwrap_err().to_string();
        assert!(error.starts_with("weights: "), "{error}");
    }
}
