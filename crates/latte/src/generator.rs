//! Class-conditional and unconditional models: from weights on disk to clips.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use latte_model::checkpoint::{CheckpointMetadata, LoadedWeights, MODEL_FILE, find_weights, open_weights};
use latte_model::model::Condition;
use latte_model::vae::{Autoencoder, AutoencoderKind, AutoencoderKl, KlConfig, LatentSpace, Pixels};
use latte_ops::{CancelToken, Parameters, Precision};
use latte_video::results::distinct_names;
use latte_video::transform;

use crate::class_model::{ClassModel, ClassModelConfig, ClipPixels, Request};
use crate::clip::GeneratedClip;
use crate::device::Device;
use crate::generation_state::{GenerationState, Resumable};
use latte_progress::{NoProgress, OneOf};

use crate::progress::GenerationProgress;
use crate::request::{ClassId, ClassRequest};
use crate::{Error, Result};

/// A class-conditional or unconditional model, ready to generate.
#[derive(Debug)]
pub struct Generator {
    metadata: CheckpointMetadata,
    /// The file name stem of each class.
    file_names: Vec<String>,
    model: ClassModel,
    weights: Option<PathBuf>,
    notes: Vec<String>,
}

/// A model whose files were found and are not yet read.
#[derive(Debug, Clone)]
pub struct GeneratorBuilder {
    weights: PathBuf,
    /// Whether the weights lie in a checkpoint, which has both the raw and the averaged ones.
    is_in_checkpoint: bool,
    autoencoder: Option<PathBuf>,
    precision: Precision,
    device: Device,
}

impl Generator {
    /// Finds the weights: a weights file (also an official `.pt`), the averaged weights in a checkpoint folder, or those of the
    /// newest checkpoint in a run folder. [`GeneratorBuilder::load`] reads them.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub fn open(path: impl AsRef<Path>) -> Result<GeneratorBuilder> {
        let (path, weights) = (path.as_ref(), find_weights(path.as_ref())?);
        let is_in_checkpoint = !path.is_file();
        Ok(GeneratorBuilder { weights, is_in_checkpoint, autoencoder: None, precision: Precision::F32, device: Device::cpu() })
    }

    /// Builds a model from its parts. The weights must not be changed in place while the model exists: they are packed once.
    ///
    /// # Errors
    ///
    /// If the weights do not fit the network that the metadata describes.
    pub fn from_parts(metadata: CheckpointMetadata, autoencoder: Arc<dyn Autoencoder>, weights: Parameters) -> Result<Self> {
        let model = ClassModel::new(ClassModelConfig::new(&metadata, autoencoder), weights)?;
        Ok(Self { file_names: file_names(&metadata), metadata, model, weights: None, notes: Vec::new() })
    }

    /// The model's metadata.
    pub fn metadata(&self) -> &CheckpointMetadata {
        &self.metadata
    }

    /// The weights file that the model was read from, if any.
    pub fn weights(&self) -> Option<&Path> {
        self.weights.as_deref()
    }

    /// Notes about the opening: which of several sets of weights was chosen, and what was assumed about weights without metadata.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The number of a class. If no class has this name, a name in digits means the number.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the key `class` if the model has no such class.
    pub fn class_number(&self, class: &ClassId) -> Result<u32> {
        let shown = match class {
            ClassId::Number(number) => number.to_string(),
            ClassId::Name(name) => name.clone(),
        };
        let Condition::Class { num_classes, .. } = self.metadata.model.condition else {
            return Err(Error::config("class", format!("{shown}: the model was trained without classes")));
        };
        let classes = &self.metadata.classes;
        let number = match class {
            ClassId::Number(number) => Some(*number),
            ClassId::Name(name) => classes.iter().position(|class| class == name).map(|n| n as u32).or_else(|| name.parse().ok()),
        };
        number.filter(|&number| (number as usize) < num_classes).ok_or_else(|| {
            let known = listed(classes);
            Error::config("class", format!("{shown}: this model has {num_classes} classes, 0 to {}{known}", num_classes - 1))
        })
    }

    /// Generates one clip.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names the value of the request that does not fit the model; other errors if the computation fails.
    pub fn generate(&self, request: &ClassRequest) -> Result<GeneratedClip> {
        self.generate_with(request, &mut NoProgress, &CancelToken::new())
    }

    /// As [`generate`](Self::generate), with progress, until `cancel` is cancelled.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate), and [`Error::Cancelled`].
    pub fn generate_with(
        &self,
        request: &ClassRequest,
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
    ) -> Result<GeneratedClip> {
        self.generate_resumable(request, None, progress, cancel)?.finished().ok_or(Error::Cancelled)
    }

    /// Generates several clips one after the other. `on_clip` receives each clip when it is complete, with its index in `requests`.
    ///
    /// # Errors
    ///
    /// As [`generate_with`](Self::generate_with), and those of `on_clip`.
    pub fn generate_all(
        &self,
        requests: &[ClassRequest],
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
        on_clip: &mut dyn FnMut(usize, GeneratedClip) -> Result<()>,
    ) -> Result<()> {
        for (index, request) in requests.iter().enumerate() {
            let mut of_clip = OneOf { index, pieces: requests.len(), all: progress };
            on_clip(index, self.generate_with(request, &mut of_clip, cancel)?)?;
        }
        Ok(())
    }

    /// As [`generate_with`](Self::generate_with), but a cancelled clip can be resumed: pass its state with the same request, also
    /// in another process, and the clip has the same bits as one that was never stopped.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate), and if the state belongs to another clip. Whether the weights are the same is not checked.
    pub fn generate_resumable(
        &self,
        request: &ClassRequest,
        state: Option<&GenerationState>,
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
    ) -> Result<Resumable<GeneratedClip>> {
        if request.enlarge == 0 {
            return Err(Error::config("enlarge", "expected at least 1, got 0"));
        }
        let class = request.class.as_ref().map(|class| self.class_number(class)).transpose()?;
        if class.is_none() && matches!(self.metadata.model.condition, Condition::Class { .. }) {
            let known = listed(&self.metadata.classes);
            return Err(Error::config("class", format!("none: this model needs a class{known}")));
        }
        let of_clip = Request { class, seed: request.seed };
        let made = self.model.generate(&request.params, of_clip, state, progress, cancel)?;
        made.map(|pixels| self.clip(of_clip, &pixels, request.enlarge))
    }

    fn clip(&self, Request { class, seed }: Request, pixels: &ClipPixels, enlarge: usize) -> Result<GeneratedClip> {
        let clip = transform::to_clip(&pixels.values, pixels.shape, self.metadata.fps)?.enlarged(enlarge)?;
        let class_name = self.metadata.class_name(class);
        let file_name = self.file_names.get(class.unwrap_or(0) as usize).unwrap_or(&class_name);
        Ok(GeneratedClip {
            name: format!("{file_name}_seed{seed}"),
            label: format!("{class_name}, seed {seed}"),
            class,
            seed,
            clip,
        })
    }
}

impl GeneratorBuilder {
    /// The autoencoder of a model on latents: a folder (`config.json` and weights) or a weights file. Default: the one of the
    /// training. Official weights have no default.
    #[must_use]
    pub fn autoencoder(self, path: impl Into<PathBuf>) -> Self {
        Self { autoencoder: Some(path.into()), ..self }
    }

    /// Use the raw weights instead of their moving average, if a checkpoint or run folder was opened. No effect on a weights file
    /// that was opened by name.
    #[must_use]
    pub fn raw_weights(self) -> Self {
        let weights = if self.is_in_checkpoint { self.weights.with_file_name(MODEL_FILE) } else { self.weights };
        Self { weights, ..self }
    }

    /// The precision of the autoencoder's matmuls; the network's precision is part of the request.
    #[must_use]
    pub fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The device that the model runs on. Default: the CPU.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// The weights file that [`load`](Self::load) reads.
    pub fn weights(&self) -> &Path {
        &self.weights
    }

    /// Reads the weights, and the autoencoder's weights if the model works on latents.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, weights do not fit their description, or the autoencoder differs from that of the training.
    pub fn load(self) -> Result<Generator> {
        let LoadedWeights { weights, metadata, mut notes } = open_weights(&self.weights)?;
        let autoencoder = self.open_autoencoder(&metadata, &mut notes)?;
        let weights = weights.to_device(self.device.of_tensors())?;
        let generator = Generator::from_parts(metadata, autoencoder, weights).map_err(|e| match e {
            Error::Config { key, problem } if key == "weights" => {
                latte_weights::refuse(&self.weights, format!("{key}: {problem}")).into()
            }
            other => other,
        })?;
        Ok(Generator { weights: Some(self.weights), notes, ..generator })
    }

    /// Opens the autoencoder; that of a model on latents has its own weights.
    fn open_autoencoder(&self, metadata: &CheckpointMetadata, notes: &mut Vec<String>) -> Result<Arc<dyn Autoencoder>> {
        let name = self.weights.display();
        let wrong = |problem: String| Err(Error::config("autoencoder", problem));
        let path = match (metadata.autoencoder.kind, &self.autoencoder, &metadata.autoencoder.path) {
            (AutoencoderKind::Pixels, None, _) => return Ok(Arc::new(Pixels)),
            (AutoencoderKind::Pixels, Some(_), _) => return wrong(format!("{name} works on pixels; leave it out")),
            (AutoencoderKind::Kl, Some(path), _) => path,
            (AutoencoderKind::Kl, None, Some(path)) if path.exists() => path,
            (AutoencoderKind::Kl, None, Some(path)) => {
                let path = path.display();
                return wrong(format!("{name}: the autoencoder of its training was {path}, which does not exist; give its path"));
            }
            (AutoencoderKind::Kl, None, None) => {
                return wrong(format!(
                    "{name}: the model works on latents; give the path of the autoencoder (a folder with config.json and weights)"
                ));
            }
        };
        let autoencoder = AutoencoderKl::open_on(self.device.of_tensors(), path, self.precision)?;
        notes.extend(autoencoder.notes().iter().cloned());
        let expected = metadata.vae.as_ref().map_or_else(KlConfig::stable_diffusion, |vae| vae.config.clone()).latent_space()?;
        let shape = |space: &LatentSpace| (space.channels(), space.downsample_factor());
        if shape(autoencoder.space()) != shape(&expected) {
            let ((channels, factor), (found_channels, found_factor)) = (shape(&expected), shape(autoencoder.space()));
            return wrong(format!(
                "{}: its latents have {found_channels} channels for {found_factor} × {found_factor} pixels, \
                 but those that {name} was trained on have {channels} for {factor} × {factor}",
                path.display()
            ));
        }
        Ok(Arc::new(autoencoder))
    }
}

/// The file name stem of each class, by class number; all are different.
fn file_names(metadata: &CheckpointMetadata) -> Vec<String> {
    let classes = match metadata.model.condition {
        Condition::Class { num_classes, .. } => (0..num_classes as u32).map(Some).collect(),
        _ => vec![None],
    };
    distinct_names(&classes.into_iter().map(|class| metadata.class_name(class)).collect::<Vec<_>>())
}

fn listed(classes: &[String]) -> String {
    const MAX_LISTED: usize = 12;
    match classes.len() {
        0 => String::new(),
        n if n <= MAX_LISTED => format!(" ({})", classes.join(", ")),
        _ => format!(" ({}, …)", classes[..MAX_LISTED].join(", ")),
    }
}
