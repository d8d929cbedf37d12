//! From trained weights to clips. Shape letters: `b` batch, `f` frames, `c` channels, `h w` height and width.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use candle_core::Tensor;
use latte::diffusion::{Denoiser, Diffusion, TimestepSpacing};
use latte::guidance::{ConditionalDenoiser, Guided};
use latte::model::{Condition, Latte, LatteDenoiser};
use latte::noise::TorchRng;
use latte::sampler::{SampleOptions, Sampler, sample};
use latte::vae::{Autoencoder, AutoencoderKl, KlConfig, LatentSpace, Pixels};
use latte_ops::{PackedWeights, Parameters, Precision};
use latte_train::{AutoencoderKind, ModelCard, find_weights, load_weights};
use latte_video::{Clip, transform};

use crate::failure::bad_input;

/// A trained model, ready to sample from.
#[derive(Debug)]
pub(crate) struct Generator {
    /// The weights file.
    pub(crate) path: PathBuf,
    /// What the file says about itself.
    pub(crate) card: ModelCard,
    model: Latte,
    parameters: Parameters,
    packed_weights: PackedWeights,
    autoencoder: AutoencoderBox,
}

/// A trait object that can stand in a `Debug` struct.
struct AutoencoderBox(Arc<dyn Autoencoder>);

impl std::fmt::Debug for AutoencoderBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Autoencoder")
    }
}

/// How clips are made.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// The method.
    pub(crate) sampler: Sampler,
    /// DDIM's noise, 0 to 1.
    pub(crate) eta: f64,
    /// How many timesteps are visited.
    pub(crate) steps: usize,
    /// How far clips are pushed towards their class; `None`: 4 where the model can, else off.
    pub(crate) guidance: Option<f64>,
    /// Frames; `None`: as trained.
    pub(crate) frames: Option<usize>,
    /// Height and width in pixels; `None`: as trained.
    pub(crate) size: Option<[usize; 2]>,
    /// In which precision products are formed.
    pub(crate) precision: Precision,
}

/// One clip to be made: everything that makes it different from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// The number of its class, for class-conditional models.
    pub(crate) class: Option<u32>,
    /// Where its noise comes from. The same seed gives the same clip, whatever else is made beside it.
    pub(crate) seed: u64,
}

const DEFAULT_GUIDANCE: f64 = 4.0;

impl Generator {
    /// Opens a weights file, or the newest weights of a checkpoint or run folder: the moving average, or with `raw` the
    /// weights themselves. Models that work on latents need their autoencoder: that at `vae`, else the one of their training.
    ///
    /// # Errors
    ///
    /// If there are none, or they do not fit the model that the file describes.
    pub(crate) fn open(path: &Path, raw: bool, vae: Option<&Path>) -> anyhow::Result<Self> {
        let mut file = find_weights(path)?;
        if raw && !path.is_file() {
            file.set_file_name("model.safetensors");
        }
        let (parameters, card) = load_weights(&file)?;
        let model = Latte::new(card.model.clone()).with_context(|| format!("{}", file.display()))?;
        model.check(&parameters).map_err(|what| bad_input(format!("{}: {what}", file.display())))?;
        let autoencoder = AutoencoderBox(autoencoder(&card, vae, &file)?);
        Ok(Self { path: file, card, model, parameters, packed_weights: PackedWeights::new(), autoencoder })
    }

    /// The numbers of the classes called `names` (each a name or a number); all classes if there are none. `None` stands for no
    /// class, where the model has none.
    ///
    /// # Errors
    ///
    /// If the model has no such class.
    pub(crate) fn classes(&self, names: &[String]) -> anyhow::Result<Vec<Option<u32>>> {
        let Condition::Class { num_classes, .. } = self.card.model.condition else {
            return match names.first() {
                None => Ok(vec![None]),
                Some(name) => Err(bad_input(format!("--class {name}: {} was trained without classes", self.path.display()))),
            };
        };
        if names.is_empty() {
            return Ok((0..num_classes as u32).map(Some).collect());
        }
        let number = |name: &String| -> anyhow::Result<Option<u32>> {
            let by_name = self.card.classes.iter().position(|class| class == name).map(|n| n as u32);
            match by_name.or_else(|| name.parse().ok()) {
                Some(number) if (number as usize) < num_classes => Ok(Some(number)),
                _ => Err(bad_input(format!(
                    "--class {name}: this model has {num_classes} classes, 0 to {}{}",
                    num_classes - 1,
                    listed(&self.card.classes)
                ))),
            }
        };
        names.iter().map(number).collect()
    }

    /// The name of a class, or its number where it has none; `video` for no class.
    pub(crate) fn class_name(&self, class: Option<u32>) -> String {
        match class {
            None => "video".into(),
            Some(number) => self.card.classes.get(number as usize).cloned().unwrap_or_else(|| format!("class{number}")),
        }
    }

    /// Makes one clip. `on_step` hears after each step how many are done.
    ///
    /// Each clip is made by itself: the same request gives the same pixels, bit for bit, whatever else is made.
    ///
    /// # Errors
    ///
    /// If the recipe does not fit the model, or the work fails.
    pub(crate) fn generate(&self, recipe: &Recipe, request: Request, on_step: &mut dyn FnMut(usize)) -> anyhow::Result<Clip> {
        let latent = self.latent_shape(recipe)?;
        let guidance = self.guidance(recipe, request.class)?;
        let spacing = TimestepSpacing::evenly(recipe.steps);
        if recipe.steps == 0 || recipe.steps > self.card.diffusion.num_timesteps {
            let most = self.card.diffusion.num_timesteps;
            return Err(bad_input(format!("--steps {}: expected 1 to {most}, the timesteps of training", recipe.steps)));
        }
        let diffusion = Diffusion::new(&self.card.diffusion, &spacing)?;
        let network = Guided {
            inner: Bound { generator: self, class: request.class, precision: recipe.precision },
            scale: guidance,
            channels: self.card.model.in_channels,
        };
        // Pixels lie in [-1, 1]; latents of an autoencoder have no such bound.
        let clip_denoised = self.card.autoencoder.kind == AutoencoderKind::Pixels;
        let options = SampleOptions { clip_denoised, eta: recipe.eta, ..SampleOptions::new(recipe.sampler) };
        let mut rng = TorchRng::new(request.seed);
        let [f, c, h, w] = latent;
        let noise = rng.randn((1, f, c, h, w))?; // [1, f, c, h, w]
        let mut report = |step: &latte::sampler::StepReport| {
            on_step(step.done);
            ControlFlow::Continue(())
        };
        let latents = sample(&diffusion, &network, &noise, &mut rng, &options, &mut report)?;
        let latents = latents.context("sampling was stopped")?; // [1, f, c, h, w]
        let pixels = self.autoencoder.0.decode(&latents)?; // [1, f, 3, h, w]
        let [height, width] = self.size(recipe);
        let pixels = pixels.flatten_all()?.to_vec1::<f32>()?;
        Ok(transform::to_clip(&pixels, [f, height, width], self.card.fps)?)
    }

    fn size(&self, recipe: &Recipe) -> [usize; 2] {
        recipe.size.unwrap_or(self.card.frame_size)
    }

    /// `[f, c, h, w]` of the latent to start from.
    fn latent_shape(&self, recipe: &Recipe) -> anyhow::Result<[usize; 4]> {
        let space = self.autoencoder.0.space();
        let model = &self.card.model;
        let [height, width] = self.size(recipe);
        let frames = recipe.frames.unwrap_or(self.card.num_frames);
        let side = space.downsample_factor() * model.patch_size;
        if height == 0 || width == 0 || !height.is_multiple_of(side) || !width.is_multiple_of(side) {
            return Err(bad_input(format!("--size {height}x{width}: this model needs multiples of {side}")));
        }
        if frames == 0 || !frames.is_multiple_of(model.frames_per_token()) {
            return Err(bad_input(format!("--frames {frames}: this model needs a multiple of {}", model.frames_per_token())));
        }
        Ok(space.latent_shape(frames, height, width)?)
    }

    fn guidance(&self, recipe: &Recipe, class: Option<u32>) -> anyhow::Result<f64> {
        match (recipe.guidance, self.card.model.null_label()) {
            (None, None) => Ok(1.0),
            (None, Some(_)) => Ok(DEFAULT_GUIDANCE),
            (Some(scale), _) if !scale.is_finite() => Err(bad_input(format!("--guidance {scale}: expected a number"))),
            (Some(scale), None) if scale != 1.0 => Err(bad_input(match class {
                None => format!("--guidance {scale}: this model has no classes to be guided towards; leave the option out"),
                Some(_) => {
                    format!("--guidance {scale}: this model was trained without class dropout and cannot be guided; use 1")
                }
            })),
            (Some(scale), _) => Ok(scale),
        }
    }
}

/// The space that the model works in. That of latents has weights of its own, at `vae`, else where they lay in training.
fn autoencoder(card: &ModelCard, vae: Option<&Path>, file: &Path) -> anyhow::Result<Arc<dyn Autoencoder>> {
    let name = file.display();
    let path = match (card.autoencoder.kind, vae, &card.autoencoder.path) {
        (AutoencoderKind::Pixels, None, _) => return Ok(Arc::new(Pixels)),
        (AutoencoderKind::Pixels, Some(_), _) => return Err(bad_input(format!("--vae: {name} works on pixels; leave it out"))),
        (AutoencoderKind::Kl, Some(path), _) => path,
        (AutoencoderKind::Kl, None, Some(path)) if path.exists() => path,
        (AutoencoderKind::Kl, None, Some(path)) => {
            return Err(bad_input(format!(
                "{name}: the autoencoder of its training was {}, where nothing is now; say where it lies (--vae FOLDER)",
                path.display()
            )));
        }
        (AutoencoderKind::Kl, None, None) => {
            return Err(bad_input(format!(
                "{name}: the model works on latents; say where the autoencoder lies (--vae FOLDER, with config.json and weights)"
            )));
        }
    };
    let autoencoder = AutoencoderKl::open(path, Precision::F32)?;
    let expected = card.vae.as_ref().map_or_else(KlConfig::stable_diffusion, |vae| vae.config.clone()).latent_space()?;
    let shape = |space: &LatentSpace| (space.channels(), space.downsample_factor());
    if shape(autoencoder.space()) != shape(&expected) {
        let ((channels, factor), (found_channels, found_factor)) = (shape(&expected), shape(autoencoder.space()));
        return Err(bad_input(format!(
            "{}: its latents have {found_channels} channels for {found_factor} × {found_factor} pixels, \
             but those that {name} was trained on have {channels} for {factor} × {factor}",
            path.display()
        )));
    }
    Ok(Arc::new(autoencoder))
}

fn listed(classes: &[String]) -> String {
    const MOST: usize = 12;
    match classes.len() {
        0 => String::new(),
        n if n <= MOST => format!(" ({})", classes.join(", ")),
        _ => format!(" ({}, …)", classes[..MOST].join(", ")),
    }
}

/// The network, bound to the class of one clip.
#[derive(Debug, Clone, Copy)]
struct Bound<'g> {
    generator: &'g Generator,
    class: Option<u32>,
    precision: Precision,
}

impl Bound<'_> {
    fn predict(&self, x: &Tensor, timesteps: &[f64], labels: Option<Vec<u32>>) -> latte::Result<Tensor> {
        let Generator { model, parameters, packed_weights, .. } = self.generator;
        let (precision, packed_weights) = (self.precision, packed_weights.clone());
        LatteDenoiser { model, parameters, labels, text: None, precision, packed_weights }.predict(x, timesteps)
    }
}

impl ConditionalDenoiser for Bound<'_> {
    fn predict_conditional(&self, x: &Tensor, timesteps: &[f64]) -> latte::Result<Tensor> {
        self.predict(x, timesteps, self.class.map(|class| vec![class; timesteps.len()]))
    }

    fn predict_both(&self, x: &Tensor, timesteps: &[f64]) -> latte::Result<Tensor> {
        let half = timesteps.len() / 2;
        let labels = match (self.class, self.generator.card.model.null_label()) {
            (Some(class), Some(null)) => Some([vec![class; half], vec![null; half]].concat()),
            _ => None,
        };
        self.predict(x, timesteps, labels)
    }
}
