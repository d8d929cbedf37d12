//! From trained weights to clips, as the command line asks for them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use candle_core::Device;
use latte_model::model::Condition;
use latte_model::pipeline::{Request, SamplingParams};
use latte_model::vae::{Autoencoder, AutoencoderKl, KlConfig, LatentSpace, Pixels};
use latte_ops::Precision;
use latte_train::{AutoencoderKind, ClipMaker, LoadedWeights, MadeClip, ModelCard, find_weights, open_weights};

use crate::failure::bad_input;
use crate::terminal::note;

/// A trained model, ready to sample from.
#[derive(Debug)]
pub(crate) struct Generator {
    /// The weights file.
    pub(crate) path: PathBuf,
    maker: ClipMaker,
}

/// What [`SamplingParams`]'s values are called on the command line.
const OPTIONS: [&str; 5] = ["steps", "eta", "size", "frames", "guidance"];

impl Generator {
    /// Opens a weights file, or the newest weights of a checkpoint or run folder: the moving average, or with `raw` the
    /// weights themselves. Models that work on latents need their autoencoder: that at `vae`, else the one of their training; it
    /// forms its products in `precision`. Both work on `device`.
    ///
    /// # Errors
    ///
    /// If there are none, or they do not fit the model that the file describes.
    pub(crate) fn open(
        path: &Path,
        raw: bool,
        vae: Option<&Path>,
        precision: Precision,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let mut file = find_weights(path)?;
        if raw && !path.is_file() {
            file.set_file_name("model.safetensors");
        }
        let LoadedWeights { weights, card, notes } = open_weights(&file)?;
        for line in &notes {
            note(line);
        }
        let autoencoder = autoencoder(&card, vae, &file, precision, device)?;
        let weights = weights.to_device(device)?;
        let maker = ClipMaker::new(card, autoencoder, weights).with_context(|| format!("{}", file.display()))?;
        Ok(Self { path: file, maker })
    }

    /// What the file says about itself.
    pub(crate) fn card(&self) -> &ModelCard {
        self.maker.card()
    }

    /// The numbers of the classes called `names` (each a name or a number); all classes if there are none. `None` stands for no
    /// class, where the model has none.
    ///
    /// # Errors
    ///
    /// If the model has no such class.
    pub(crate) fn classes(&self, names: &[String]) -> anyhow::Result<Vec<Option<u32>>> {
        let Condition::Class { num_classes, .. } = self.card().model.condition else {
            return match names.first() {
                None => Ok(vec![None]),
                Some(name) => Err(bad_input(format!("--class {name}: {} was trained without classes", self.path.display()))),
            };
        };
        if names.is_empty() {
            return Ok((0..num_classes as u32).map(Some).collect());
        }
        let number = |name: &String| -> anyhow::Result<Option<u32>> {
            let by_name = self.card().classes.iter().position(|class| class == name).map(|n| n as u32);
            match by_name.or_else(|| name.parse().ok()) {
                Some(number) if (number as usize) < num_classes => Ok(Some(number)),
                _ => Err(bad_input(format!(
                    "--class {name}: this model has {num_classes} classes, 0 to {}{}",
                    num_classes - 1,
                    listed(&self.card().classes)
                ))),
            }
        };
        names.iter().map(number).collect()
    }

    /// Makes one clip, each pixel as a square of `enlarge` × `enlarge`. `on_step` hears after each step how many are done.
    ///
    /// # Errors
    ///
    /// If the parameters do not fit the model, or the work fails.
    pub(crate) fn generate(
        &self,
        params: &SamplingParams,
        request: Request,
        enlarge: usize,
        on_step: &mut dyn FnMut(usize),
    ) -> anyhow::Result<MadeClip> {
        let mut go_on = |done: usize| {
            on_step(done);
            ControlFlow::Continue(())
        };
        let made = self.maker.make(params, request, enlarge, &mut go_on).map_err(|e| match e {
            latte_train::Error::Latte(latte_model::Error::Config { key, what }) if OPTIONS.contains(&key.as_str()) => {
                bad_input(format!("--{key}: {what}"))
            }
            other => other.into(),
        })?;
        made.context("sampling was stopped")
    }
}

/// The space that the model works in. That of latents has weights of its own, at `vae`, else where they lay in training.
fn autoencoder(
    card: &ModelCard,
    vae: Option<&Path>,
    file: &Path,
    precision: Precision,
    device: &Device,
) -> anyhow::Result<Arc<dyn Autoencoder>> {
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
    let autoencoder = AutoencoderKl::open_on(device, path, precision)?;
    for line in autoencoder.notes() {
        note(line);
    }
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
