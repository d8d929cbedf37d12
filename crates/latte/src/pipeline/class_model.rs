//! Clips from a class model or an unconditional one: network, guidance, sampler and autoencoder together.
//!
//! Training's own samples, `latte sample` and the demo all come from here. Shape letters: `b` batch, `f` frames, `c` channels,
//! `h w` height and width.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::Tensor;
use latte_ops::{PackedWeightCache, Parameters, Precision};

use crate::diffusion::{Denoiser, Diffusion, DiffusionConfig, TimestepSpacing};
use crate::guidance::{ConditionalDenoiser, Guided};
use crate::model::{Latte, LatteConfig, LatteDenoiser};
use crate::noise::TorchRng;
use crate::sampler::{SampleOptions, Sampler, StepReport, sample};
use crate::vae::Autoencoder;
use crate::{Error, Result};

/// The guidance scale where none is asked for and the model can be guided.
pub const DEFAULT_GUIDANCE: f64 = 4.0;

/// What must be known about a class model besides its weights.
#[derive(Clone)]
pub struct ClassModelConfig {
    /// The network.
    pub network: LatteConfig,
    /// The process that it was trained on.
    pub diffusion: DiffusionConfig,
    /// The space that it works in.
    pub autoencoder: Arc<dyn Autoencoder>,
    /// Whether every predicted x0 is clamped to [−1, 1]: for pixels, never for latents.
    pub clip_denoised: bool,
    /// Height and width of a frame in pixels, as trained.
    pub frame_size: [usize; 2],
    /// Frames of a clip, as trained.
    pub num_frames: usize,
}

// An autoencoder shows nothing of itself.
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

/// How clips are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The method.
    pub sampler: Sampler,
    /// DDIM's noise, 0 to 1.
    pub eta: f64,
    /// How many timesteps are visited.
    pub steps: usize,
    /// How far clips are pushed towards their class; `None`: [`DEFAULT_GUIDANCE`] where the model can, else off.
    pub guidance: Option<f64>,
    /// Frames; `None`: as trained.
    pub frames: Option<usize>,
    /// Height and width in pixels; `None`: as trained.
    pub size: Option<[usize; 2]>,
    /// In which precision products are formed.
    pub precision: Precision,
}

/// One clip to be made: everything that makes it different from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The number of its class, for class-conditional models.
    pub class: Option<u32>,
    /// Where its noise comes from. The same seed gives the same clip, whatever else is made beside it.
    pub seed: u64,
}

/// The pixels of a clip that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipPixels {
    /// `[f, 3, h, w]`, row-major, around [−1, 1] but not clamped to it.
    pub values: Vec<f32>,
    /// `[f, h, w]`.
    pub shape: [usize; 3],
}

impl ClassModelConfig {
    /// Whether a clip of class `class` can be made by `recipe`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names the first value that does not fit: `steps`, `eta`, `size`, `frames` or `guidance`.
    pub fn check(&self, recipe: &Recipe, class: Option<u32>) -> Result<()> {
        let most = self.diffusion.num_timesteps;
        if recipe.steps == 0 || recipe.steps > most {
            let what = format!("expected 1 to {most}, the timesteps of training, got {}", recipe.steps);
            return Err(Error::config("steps", what));
        }
        if !(0.0..=1.0).contains(&recipe.eta) {
            return Err(Error::config("eta", format!("expected 0 to 1, got {}", recipe.eta)));
        }
        let [height, width] = self.size(recipe);
        let side = self.autoencoder.space().downsample_factor() * self.network.patch_size;
        if height == 0 || width == 0 || !height.is_multiple_of(side) || !width.is_multiple_of(side) {
            return Err(Error::config("size", format!("this model needs multiples of {side}, got {height}x{width}")));
        }
        let (frames, multiple) = (self.frames(recipe), self.network.frames_per_token());
        if frames == 0 || !frames.is_multiple_of(multiple) {
            return Err(Error::config("frames", format!("this model needs a multiple of {multiple}, got {frames}")));
        }
        self.guidance(recipe, class).map(drop)
    }

    fn size(&self, recipe: &Recipe) -> [usize; 2] {
        recipe.size.unwrap_or(self.frame_size)
    }

    fn frames(&self, recipe: &Recipe) -> usize {
        recipe.frames.unwrap_or(self.num_frames)
    }

    fn guidance(&self, recipe: &Recipe, class: Option<u32>) -> Result<f64> {
        match (recipe.guidance, self.network.null_label()) {
            (None, None) => Ok(1.0),
            (None, Some(_)) => Ok(DEFAULT_GUIDANCE),
            (Some(scale), _) if !scale.is_finite() => Err(Error::config("guidance", format!("expected a number, got {scale}"))),
            (Some(scale), None) if scale != 1.0 => {
                let why = match class {
                    None => "this model has no classes to be guided towards; leave it out",
                    Some(_) => "this model was trained without class dropout and cannot be guided; use 1",
                };
                Err(Error::config("guidance", format!("{why}; got {scale}")))
            }
            (Some(scale), _) => Ok(scale),
        }
    }
}

/// A class model or an unconditional one with its weights, ready to sample from.
#[derive(Debug)]
pub struct ClassModel {
    config: ClassModelConfig,
    network: Latte,
    weights: Parameters,
    packed_weights: PackedWeightCache,
}

impl ClassModel {
    /// Puts the parts together. The weights must stand still for as long as this model is there: they are packed once.
    ///
    /// # Errors
    ///
    /// If the network is none that can be, or the weights are not its own.
    pub fn new(config: ClassModelConfig, weights: Parameters) -> Result<Self> {
        let network = Latte::new(config.network.clone())?;
        network.check(&weights).map_err(|what| Error::config("weights", what))?;
        Ok(Self { config, network, weights, packed_weights: PackedWeightCache::new() })
    }

    /// What is known about the model besides its weights.
    pub fn config(&self) -> &ClassModelConfig {
        &self.config
    }

    /// Makes one clip. `on_step` hears after each step how many are done, and may stop the work; then there is no clip.
    ///
    /// Each clip is made by itself, with a generator of its own: the same request gives the same pixels, bit for bit, whatever
    /// else is made.
    ///
    /// # Errors
    ///
    /// If the recipe does not fit the model ([`ClassModelConfig::check`]), or the work fails.
    pub fn generate(
        &self,
        recipe: &Recipe,
        request: Request,
        on_step: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<ClipPixels>> {
        let config = &self.config;
        config.check(recipe, request.class)?;
        let ([height, width], frames) = (config.size(recipe), config.frames(recipe));
        let diffusion = Diffusion::new(&config.diffusion, &TimestepSpacing::evenly(recipe.steps))?;
        let denoiser = Guided {
            inner: Bound { model: self, class: request.class, precision: recipe.precision },
            scale: config.guidance(recipe, request.class)?,
            channels: config.network.in_channels,
        };
        let options =
            SampleOptions { clip_denoised: config.clip_denoised, eta: recipe.eta, ..SampleOptions::new(recipe.sampler) };
        let mut rng = TorchRng::new(request.seed);
        let [f, c, h, w] = config.autoencoder.space().latent_shape(frames, height, width)?;
        let noise = rng.randn((1, f, c, h, w))?; // [1, f, c, h, w]
        let mut report = |step: &StepReport| on_step(step.done);
        let latents = sample(&diffusion, &denoiser, &noise, &mut rng, &options, &mut report)?;
        let Some(latents) = latents else { return Ok(None) }; // [1, f, c, h, w]
        let pixels = config.autoencoder.decode(&latents)?; // [1, f, 3, h, w]
        Ok(Some(ClipPixels { values: pixels.flatten_all()?.to_vec1()?, shape: [f, height, width] }))
    }
}

/// The network, bound to the class of one clip.
#[derive(Debug, Clone, Copy)]
struct Bound<'m> {
    model: &'m ClassModel,
    class: Option<u32>,
    precision: Precision,
}

impl Bound<'_> {
    fn predict(&self, x: &Tensor, timesteps: &[f64], labels: Option<Vec<u32>>) -> Result<Tensor> {
        let ClassModel { network: model, weights: parameters, packed_weights, .. } = self.model;
        let (precision, packed_weights) = (self.precision, packed_weights.clone());
        LatteDenoiser { model, parameters, labels, text: None, precision, packed_weights }.predict(x, timesteps)
    }
}

impl ConditionalDenoiser for Bound<'_> {
    fn predict_conditional(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor> {
        self.predict(x, timesteps, self.class.map(|class| vec![class; timesteps.len()]))
    }

    fn predict_both(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor> {
        let half = timesteps.len() / 2;
        let labels = match (self.class, self.model.config.network.null_label()) {
            (Some(class), Some(null)) => Some([vec![class; half], vec![null; half]].concat()),
            _ => None,
        };
        self.predict(x, timesteps, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Condition;
    use crate::vae::Pixels;

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
        // Fresh weights predict 0 whatever the class; a little noise everywhere makes the class count.
        let mut rng = TorchRng::new(3);
        let fresh = Latte::new(config.network.clone()).unwrap().init(&mut rng).unwrap();
        let noisy =
            fresh.iter().map(|(name, t)| (name.to_string(), (t + (rng.randn(t.shape()).unwrap() * 0.05).unwrap()).unwrap()));
        ClassModel::new(config, noisy.collect()).unwrap()
    }

    fn recipe() -> Recipe {
        let precision = Precision::F32;
        Recipe { sampler: Sampler::Ddpm, eta: 0.0, steps: 3, guidance: None, frames: None, size: None, precision }
    }

    const CLASSES: Condition = Condition::Class { num_classes: 3, dropout: 0.1 };

    fn generate(model: &ClassModel, recipe: &Recipe, class: Option<u32>, seed: u64) -> Vec<f32> {
        let clip = model.generate(recipe, Request { class, seed }, &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
        assert_eq!(clip.values.len(), clip.shape.iter().product::<usize>() * 3);
        clip.values
    }

    #[test]
    fn seed_class_and_guidance_decide_and_nothing_else() {
        let model = model(CLASSES);
        let one = generate(&model, &recipe(), Some(1), 7);
        assert_ne!(one, generate(&model, &recipe(), Some(2), 7));
        assert_ne!(one, generate(&model, &recipe(), Some(1), 8));
        let weak = Recipe { guidance: Some(1.0), ..recipe() };
        assert_ne!(one, generate(&model, &weak, Some(1), 7));
        assert_eq!(one, generate(&model, &Recipe { guidance: Some(DEFAULT_GUIDANCE), ..recipe() }, Some(1), 7));
        assert_eq!(one, generate(&model, &recipe(), Some(1), 7));
    }

    #[test]
    fn it_can_be_stopped_between_steps() {
        let mut done = Vec::new();
        let mut stop_after_two = |step| {
            done.push(step);
            if step == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let clip = model(CLASSES).generate(&recipe(), Request { class: Some(0), seed: 0 }, &mut stop_after_two).unwrap();
        assert_eq!((clip, done), (None, vec![1, 2]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let classes = config(CLASSES);
        let refuse = |config: &ClassModelConfig, recipe: Recipe, class, key: &str| {
            let message = config.check(&recipe, class).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{key}: ")) && message.contains("got "), "{message}");
        };
        classes.check(&recipe(), Some(0)).unwrap();
        refuse(&classes, Recipe { steps: 0, ..recipe() }, Some(0), "steps");
        refuse(&classes, Recipe { steps: 1001, ..recipe() }, Some(0), "steps");
        refuse(&classes, Recipe { eta: -1.0, ..recipe() }, Some(0), "eta");
        refuse(&classes, Recipe { size: Some([9, 8]), ..recipe() }, Some(0), "size");
        refuse(&classes, Recipe { frames: Some(0), ..recipe() }, Some(0), "frames");
        refuse(&classes, Recipe { guidance: Some(f64::NAN), ..recipe() }, Some(0), "guidance");
        let unguided = config(Condition::Class { num_classes: 3, dropout: 0.0 });
        refuse(&unguided, Recipe { guidance: Some(2.0), ..recipe() }, Some(0), "guidance");
        let none = config(Condition::None);
        refuse(&none, Recipe { guidance: Some(2.0), ..recipe() }, None, "guidance");
        none.check(&Recipe { guidance: Some(1.0), ..recipe() }, None).unwrap();
        let error = ClassModel::new(none, Parameters::new()).unwrap_err().to_string();
        assert!(error.starts_with("weights: "), "{error}");
    }
}
