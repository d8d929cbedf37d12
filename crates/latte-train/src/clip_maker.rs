//! From a model's card and weights to clips with names: what training's own samples, `latte sample` and the demo share.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use latte_model::model::Condition;
use latte_model::pipeline::{ClassModel, ClassModelConfig, Request, SamplingParams};
use latte_model::vae::Autoencoder;
use latte_ops::Parameters;
use latte_video::encode::{Image, SheetRow, contact_sheet};
use latte_video::results::distinct_names;
use latte_video::{Clip, transform};

use crate::checkpoint::ModelCard;
use crate::config::AutoencoderKind;
use crate::error::Result;

/// Rows of a contact sheet; more cannot be taken in.
pub const MOST_ROWS: usize = 64;
/// Frames of a row.
const COLUMNS: usize = 8;
/// Frames of contact sheets are at least this wide.
const MIN_FRAME_WIDTH: usize = 64;

/// A trained model, ready to make clips.
#[derive(Debug)]
pub struct ClipMaker {
    card: ModelCard,
    /// What the files of each class are called.
    file_names: Vec<String>,
    model: ClassModel,
}

/// A clip that was made.
#[derive(Debug, Clone)]
pub struct MadeClip {
    /// What was asked for.
    pub request: Request,
    /// A name for its file, without an extension: class and seed. Other requests to the same model have other names.
    pub name: String,
    /// The same for people.
    pub label: String,
    /// The pixels.
    pub clip: Clip,
}

impl ModelCard {
    /// What the class model needs besides its weights.
    pub(crate) fn class_model(&self, autoencoder: Arc<dyn Autoencoder>) -> ClassModelConfig {
        ClassModelConfig {
            network: self.model.clone(),
            diffusion: self.diffusion.clone(),
            autoencoder,
            // Pixels lie in [-1, 1]; latents of an autoencoder have no such bound.
            clip_denoised: self.autoencoder.kind == AutoencoderKind::Pixels,
            frame_size: self.frame_size,
            num_frames: self.num_frames,
        }
    }

    /// What to ask for `num` clips: the classes take turns, and each class has the same seeds, from `seed` on.
    pub(crate) fn requests(&self, num: u64, seed: u64) -> Vec<Request> {
        let classes = match self.model.condition {
            Condition::Class { num_classes, .. } => num_classes.max(1) as u64,
            _ => 1,
        };
        let class = |index: u64| matches!(self.model.condition, Condition::Class { .. }).then_some((index % classes) as u32);
        (0..num).map(|index| Request { class: class(index), seed: seed.wrapping_add(index / classes) }).collect()
    }

    /// The name of a class, or its number where it has none; `video` for no class.
    pub fn class_name(&self, class: Option<u32>) -> String {
        match class {
            None => "video".into(),
            Some(number) => self.classes.get(number as usize).cloned().unwrap_or_else(|| format!("class{number}")),
        }
    }

    /// What the files of each class are called, by its number: no two the same.
    fn file_names(&self) -> Vec<String> {
        let classes = match self.model.condition {
            Condition::Class { num_classes, .. } => (0..num_classes as u32).map(Some).collect(),
            _ => vec![None],
        };
        distinct_names(&classes.into_iter().map(|class| self.class_name(class)).collect::<Vec<_>>())
    }
}

impl ClipMaker {
    /// Puts a model together. The weights must stand still for as long as it is there.
    ///
    /// # Errors
    ///
    /// If the weights are not those of the network on the card.
    pub fn new(card: ModelCard, autoencoder: Arc<dyn Autoencoder>, weights: Parameters) -> Result<Self> {
        let model = ClassModel::new(card.class_model(autoencoder), weights)?;
        Ok(Self { file_names: card.file_names(), card, model })
    }

    /// What is known about the model.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Makes one clip, each pixel as a square of `enlarge` × `enlarge`. `on_step` hears after each step of the sampler how many
    /// are done, and may stop the work; then there is no clip.
    ///
    /// # Errors
    ///
    /// As [`ClassModel::generate`], or if `enlarge` is zero.
    pub fn make(
        &self,
        params: &SamplingParams,
        request: Request,
        enlarge: usize,
        on_step: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<MadeClip>> {
        let Some(pixels) = self.model.generate(params, request, on_step)? else { return Ok(None) };
        let clip = transform::to_clip(&pixels.values, pixels.shape, self.card.fps)?.enlarged(enlarge)?;
        let class = self.card.class_name(request.class);
        let file_name = self.file_names.get(request.class.unwrap_or(0) as usize).unwrap_or(&class);
        let name = format!("{file_name}_seed{}", request.seed);
        Ok(Some(MadeClip { request, name, label: format!("{class}, seed {}", request.seed), clip }))
    }
}

/// Clips that are made together.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) params: SamplingParams,
    pub(crate) requests: Vec<Request>,
    /// Each pixel becomes a square of so many.
    pub(crate) enlarge: usize,
}

impl Round {
    /// Makes all clips; none if `stop` is set on the way. `on_step` hears after each step of the sampler how many are done, and of
    /// how many.
    pub(crate) fn make(
        &self,
        card: &ModelCard,
        autoencoder: &Arc<dyn Autoencoder>,
        weights: &Parameters,
        stop: &AtomicBool,
        on_step: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<Vec<MadeClip>>> {
        // A new one each time, for it keeps weights packed. The tensors are shared, and stand still meanwhile.
        let maker = ClipMaker::new(card.clone(), Arc::clone(autoencoder), weights.clone())?;
        let (steps, total) = (self.params.steps as u64, (self.params.steps * self.requests.len()) as u64);
        let mut clips = Vec::with_capacity(self.requests.len());
        for (index, request) in (0_u64..).zip(&self.requests) {
            if stop.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let mut of_clip = |done: usize| {
                on_step(index * steps + done as u64, total);
                if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let Some(clip) = maker.make(&self.params, *request, self.enlarge, &mut of_clip)? else { return Ok(None) };
            clips.push(clip);
        }
        Ok(Some(clips))
    }
}

/// Clips in one picture, a row each; the first [`MOST_ROWS`].
///
/// # Errors
///
/// If there is no clip.
pub fn contact_sheet_of<'a>(clips: impl IntoIterator<Item = &'a MadeClip>) -> Result<Image> {
    let rows: Vec<SheetRow<'_>> =
        clips.into_iter().take(MOST_ROWS).map(|made| SheetRow { label: &made.label, clip: &made.clip }).collect();
    Ok(contact_sheet(&rows, COLUMNS, MIN_FRAME_WIDTH)?)
}
