//! Text to video: from a prompt to a clip, with a model in the diffusers layout (Latte-1).

mod parts;
mod request;
mod settings;
mod sidecar;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use latte_model::sampling::AskedFor;
use latte_model::text::{EncodedText, PromptPair, Reading};
use latte_model::vae::Autoencoder;
use latte_ops::{CancelToken, Precision};
use latte_video::results::prompt_file_name;
use latte_video::transform;
use latte_weights::hexadecimal;
use sha2::{Digest, Sha256};

pub use parts::{EncodedTexts, TextToVideoParts, Transformer};
pub use request::TextRequest;
pub use settings::{TemporalDecoding, TextSettings};
pub use sidecar::Sidecar;

use crate::cache::{self, Cache};
use crate::clip::GeneratedClip;
use crate::device::Device;
use crate::generation_state::{GenerationState, Resumable};
use latte_progress::{NoProgress, OneOf, Stage};

use crate::progress::{GenerationProgress, TextOf};
use crate::{Error, Result};

/// The name of latents in files of the cache.
const LATENTS: &str = "latents";

/// Which parts of the model stay in memory between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residency {
    /// None: text encoder, transformer and decoder are loaded one after the other and dropped after use, so the peak memory is that
    /// of the largest.
    #[default]
    Staged,
    /// The transformer, with its weights packed for matmuls, and the decoder: the next request starts without loading. The text
    /// encoder, which is larger than both and needed only for new prompts, is dropped after use.
    Resident,
}

/// A text-to-video model, ready to generate.
#[derive(Debug)]
pub struct TextToVideo {
    folder: PathBuf,
    parts: TextToVideoParts,
    residency: Residency,
    cache: Cache,
    resident: Mutex<ResidentParts>,
}

/// A model whose files were found and are not yet read.
#[derive(Debug, Clone)]
pub struct TextToVideoBuilder {
    folder: PathBuf,
    parts: TextToVideoParts,
    residency: Residency,
    cache: Cache,
}

/// The parts that stay in memory under [`Residency::Resident`].
#[derive(Default)]
struct ResidentParts {
    transformer: Option<Arc<Transformer>>,
    decoder: Option<(DecoderKey, Arc<dyn Autoencoder>)>,
}

// `dyn Autoencoder` does not implement `Debug`.
impl std::fmt::Debug for ResidentParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResidentParts")
            .field("transformer", &self.transformer.is_some())
            .field("decoder", &self.decoder.as_ref().map(|(key, _)| key))
            .finish()
    }
}

/// Identifies a decoder: whether it is the temporal one, its tile size, its precision.
type DecoderKey = (bool, Option<usize>, Precision);

impl TextToVideo {
    /// Opens a folder in the diffusers layout (`model_index.json`, `scheduler`, `tokenizer`, `text_encoder`, `transformer`, `vae`,
    /// optionally `vae_temporal_decoder`): reads the configurations of the parts, no weights.
    ///
    /// # Errors
    ///
    /// If a part is missing or belongs to another kind of model.
    pub fn open(folder: impl AsRef<Path>) -> Result<TextToVideoBuilder> {
        let folder = folder.as_ref();
        let parts = TextToVideoParts::open(folder)?;
        Ok(TextToVideoBuilder { folder: folder.into(), parts, residency: Residency::Staged, cache: Cache::of_user() })
    }

    /// The parts of the model.
    pub fn parts(&self) -> &TextToVideoParts {
        &self.parts
    }

    /// All settings of the clip that `request` describes; values that it does not set are the model's own.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names the value that does not fit the model.
    pub fn resolve(&self, request: &TextRequest) -> Result<Sidecar> {
        let asked = AskedFor { sampler: request.sampler, options: &request.sampler_options, eta: request.eta };
        let sampling = self.parts.sampling(&asked, request.steps)?;
        let settings = TextSettings {
            prompt: request.prompt.clone(),
            negative_prompt: request.negative_prompt.clone(),
            seed: request.seed,
            num_steps: request.steps,
            guidance_scale: request.guidance,
            guidance_interval: request.guidance_interval,
            guidance_rescale: request.guidance_rescale,
            num_frames: request.frames.unwrap_or_else(|| self.parts.default_frames()),
            size: request.size.unwrap_or_else(|| self.parts.default_size()),
            scheduler: sampling.scheduler,
            sampler: sampling.sampler.map(|kind| kind.name().to_string()),
            eta: sampling.eta,
            temporal_attention: request.temporal_attention,
            temporal_decoder: request.temporal_decoder,
            tile: request.tile,
            clean_caption: request.clean_caption,
            compat_masking: request.compat_masking,
            fps: request.fps,
        };
        self.parts.check(&settings)?;
        let latte = env!("CARGO_PKG_VERSION").to_string();
        Ok(Sidecar { latte, model: self.folder.clone(), precision: request.precision, settings })
    }

    /// Generates one clip.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names the value of the request that does not fit the model; other errors if a file is missing or
    /// damaged, or the computation fails.
    pub fn generate(&self, request: &TextRequest) -> Result<GeneratedClip> {
        self.generate_with(request, &mut NoProgress, &CancelToken::new())
    }

    /// As [`generate`](Self::generate), with progress, until `cancel` is cancelled.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate), and [`Error::Cancelled`].
    pub fn generate_with(
        &self,
        request: &TextRequest,
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
    ) -> Result<GeneratedClip> {
        let mut made = None;
        self.generate_all(&[self.resolve(request)?], progress, cancel, &mut |_, clip| {
            made = Some(clip);
            Ok(())
        })?;
        made.ok_or(Error::Cancelled)
    }

    /// As [`generate_with`](Self::generate_with), but a clip that is cancelled during denoising can be resumed: pass its state with
    /// the same settings, also in another process, and the clip has the same bits as one that was never stopped.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate); if the state belongs to another clip; and [`Error::Cancelled`] outside of denoising, where
    /// there is no state to save. Whether the weights are the same is not checked.
    pub fn generate_resumable(
        &self,
        clip: &Sidecar,
        state: Option<&GenerationState>,
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
    ) -> Result<Resumable<GeneratedClip>> {
        self.parts.check(&clip.settings)?;
        let texts = self.encode(std::slice::from_ref(clip), progress, cancel)?;
        let made = self.transformer()?.denoise(&clip.settings, &texts[0], clip.precision, state, progress, cancel)?;
        made.map(|latents| {
            progress.stage(Stage::Decoding, 0, 1);
            let decoder = self.decoder(clip)?;
            self.decode(decoder.as_ref(), clip, &latents, [0, 1], progress, cancel)
        })
    }

    /// Generates several clips stage by stage, so that each part of the model is loaded once: it encodes all texts, then denoises
    /// all clips, then decodes all. `on_clip` receives each clip when it is complete, with its index in `clips`. Finished latents
    /// stay in the cache until all clips are complete: after an interruption, the next call with the same clips uses them.
    ///
    /// # Errors
    ///
    /// As [`generate_with`](Self::generate_with), those of `on_clip`, and if the clips differ in caption cleaning or in the
    /// decoder.
    pub fn generate_all(
        &self,
        clips: &[Sidecar],
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
        on_clip: &mut dyn FnMut(usize, GeneratedClip) -> Result<()>,
    ) -> Result<()> {
        let Some(first) = clips.first() else { return Ok(()) };
        for clip in clips {
            self.parts.check(&clip.settings)?;
            let settings = &clip.settings;
            if settings.clean_caption != first.settings.clean_caption || self.decoder_key(clip) != self.decoder_key(first) {
                let problem =
                    "the clips of one call need the same caption cleaning and the same decoder; generate these in two calls";
                return Err(Error::config("clips", problem));
            }
        }
        for line in self.parts.check_weights(&first.settings)? {
            progress.note(&line);
        }
        let texts = self.encode(clips, progress, cancel)?;
        let kept = self.kept_paths(clips)?;
        let latents = self.denoise(clips, &texts, &kept, progress, cancel)?;
        progress.stage(Stage::Decoding, 0, 1);
        let decoder = self.decoder(first)?;
        for (index, (clip, latents)) in clips.iter().zip(&latents).enumerate() {
            let made = self.decode(decoder.as_ref(), clip, latents, [index, clips.len()], progress, cancel)?;
            on_clip(index, made)?;
        }
        for path in kept.iter().flatten() {
            // All clips are complete; the cached latents would only take space.
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    /// Encodes the prompts and negative prompts of all clips in one batch, each different text once.
    fn encode(&self, clips: &[Sidecar], progress: &mut dyn GenerationProgress, cancel: &CancelToken) -> Result<Vec<PromptPair>> {
        progress.stage(Stage::EncodingText, 0, 1);
        let clean = clips.first().is_some_and(|clip| clip.settings.clean_caption);
        let settings = || clips.iter().map(|clip| &clip.settings);
        let texts: Vec<&str> = settings().flat_map(|s| [s.prompt.as_str(), s.negative_prompt.as_str()]).collect();
        let encoded = self.parts.encode_texts(&texts, clean, self.cache.folder(), progress, cancel)?;
        let EncodedTexts { texts, readings, cache_error } = encoded;
        if let Some(line) = cache_error.and_then(|error| self.cache.failed(&error)) {
            progress.warning(&line);
        }
        for (index, ((settings, texts), readings)) in
            settings().zip(texts.chunks_exact(2)).zip(readings.chunks_exact(2)).enumerate()
        {
            for what in readings[0].left_out() {
                progress.text_left_out(index, TextOf::Prompt, &what);
            }
            for what in negative_left_out(settings, texts, &readings[1]) {
                progress.text_left_out(index, TextOf::NegativePrompt, &what);
            }
        }
        let pairs = texts.chunks_exact(2).zip(settings());
        Ok(pairs.map(|(pair, s)| PromptPair::new(&pair[0], &pair[1], s.compat_masking)).collect::<latte_model::Result<_>>()?)
    }

    /// The clean latents of all clips, `[1, f, c, h, w]` each.
    fn denoise(
        &self,
        clips: &[Sidecar],
        texts: &[PromptPair],
        kept: &[Option<PathBuf>],
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
    ) -> Result<Vec<Tensor>> {
        progress.stage(Stage::Denoising, 0, 1);
        let mut transformer = None;
        let mut all = Vec::new();
        for ((index, (clip, texts)), path) in clips.iter().zip(texts).enumerate().zip(kept) {
            let settings = &clip.settings;
            // An interrupted run may have cached them.
            if let Some(latents) = path.as_deref().and_then(|path| cache::find(path, LATENTS, &self.parts.latent_shape(settings)))
            {
                all.push(latents);
                continue;
            }
            let transformer = match &transformer {
                Some(loaded) => loaded,
                None => transformer.insert(self.transformer()?),
            };
            let mut of_clip = OneOf { index, pieces: clips.len(), all: progress };
            let made = transformer.denoise(settings, texts, clip.precision, None, &mut of_clip, cancel)?;
            let latents = made.finished().ok_or(Error::Cancelled)?;
            let failed = path.as_deref().and_then(|path| cache::keep(path, LATENTS, &latents).err());
            if let Some(line) = failed.and_then(|error| self.cache.failed(&error)) {
                progress.warning(&line);
            }
            all.push(latents);
        }
        Ok(all)
    }

    /// The cache files of the clips' latents. The name is a hash of everything that they depend on.
    fn kept_paths(&self, clips: &[Sidecar]) -> Result<Vec<Option<PathBuf>>> {
        let Some(folder) = self.cache.folder() else { return Ok(vec![None; clips.len()]) };
        let weights = self.parts.transformer_fingerprint()?;
        // After a run fails for lack of memory while decoding, a run with tiles or without the temporal decoder uses the same
        // latents.
        let path = |clip: &Sidecar| -> Result<Option<PathBuf>> {
            let of_latents = Sidecar { settings: clip.settings.of_latents(), ..clip.clone() };
            let text = serde_json::to_string(&of_latents).map_err(|e| Error::config("settings", e.to_string()))?;
            let hash = Sha256::digest(format!("{weights}\n{text}"));
            Ok(Some(folder.join("latents").join(format!("{}.safetensors", hexadecimal(&hash)))))
        };
        clips.iter().map(path).collect()
    }

    /// Decodes latents `[1, f, c, h, w]`; `place` is the clip's index and the number of clips.
    fn decode(
        &self,
        decoder: &dyn Autoencoder,
        clip: &Sidecar,
        latents: &Tensor,
        [index, clips]: [usize; 2],
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
    ) -> Result<GeneratedClip> {
        let settings = &clip.settings;
        let frames = settings.num_frames;
        // The decoder of single frames takes one frame at a time: less memory, and finer progress.
        let together = if self.parts.decodes_temporally(settings) { frames } else { 1 };
        let mut values = Vec::new();
        for first in (0..frames).step_by(together) {
            cancel.check()?;
            let pixels = decoder.decode(&latents.narrow(1, first, together)?)?; // [1, f, 3, h, w]
            values.extend(pixels.flatten_all()?.to_vec1::<f32>()?);
            progress.stage(Stage::Decoding, (index * frames + first + together) as u64, (clips * frames) as u64);
        }
        let [height, width] = settings.size;
        let (prompt, seed) = (&settings.prompt, settings.seed);
        Ok(GeneratedClip {
            name: format!("{}_seed{seed}", prompt_file_name(prompt)),
            label: format!("{prompt}, seed {seed}"),
            class: None,
            seed,
            clip: transform::to_clip(&values, [frames, height, width], settings.fps)?,
        })
    }

    /// The transformer: the resident one, or loaded now.
    fn transformer(&self) -> Result<Arc<Transformer>> {
        let mut resident = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transformer) = &resident.transformer {
            return Ok(Arc::clone(transformer));
        }
        let transformer = Arc::new(self.parts.load_transformer()?);
        if self.residency == Residency::Resident {
            resident.transformer = Some(Arc::clone(&transformer));
        }
        Ok(transformer)
    }

    /// The decoder for the clip: the resident one, or loaded now.
    fn decoder(&self, clip: &Sidecar) -> Result<Arc<dyn Autoencoder>> {
        let wanted = self.decoder_key(clip);
        let mut resident = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, decoder)) = resident.decoder.as_ref().filter(|(key, _)| *key == wanted) {
            return Ok(Arc::clone(decoder));
        }
        // Drop the other decoder first, so that only one is in memory.
        resident.decoder = None;
        let decoder: Arc<dyn Autoencoder> = self.parts.load_decoder(&clip.settings, clip.precision)?.into();
        if self.residency == Residency::Resident {
            resident.decoder = Some((wanted, Arc::clone(&decoder)));
        }
        Ok(decoder)
    }

    fn decoder_key(&self, clip: &Sidecar) -> DecoderKey {
        (self.parts.decodes_temporally(&clip.settings), clip.settings.tile, clip.precision)
    }
}

impl TextToVideoBuilder {
    /// Which parts stay in memory between two requests.
    #[must_use]
    pub fn residency(self, residency: Residency) -> Self {
        Self { residency, ..self }
    }

    /// The device that the model runs on. Default: the CPU. Tensors that one part passes to the next are always on the CPU.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        Self { parts: self.parts.on(device.of_tensors()), ..self }
    }

    /// The cache of encoded prompts and unfinished latents. Default: [`Cache::of_user`].
    #[must_use]
    pub fn cache(self, cache: Cache) -> Self {
        Self { cache, ..self }
    }

    /// Returns the model. Under [`Residency::Resident`] this loads the transformer; otherwise it loads no weights.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged.
    pub fn load(self) -> Result<TextToVideo> {
        let Self { folder, parts, residency, cache } = self;
        let model = TextToVideo { folder, parts, residency, cache, resident: Mutex::default() };
        if residency == Residency::Resident {
            model.transformer()?;
        }
        Ok(model)
    }
}

/// Which parts of a negative prompt have no effect.
fn negative_left_out(settings: &TextSettings, texts: &[EncodedText], reading: &Reading) -> Vec<String> {
    if !settings.is_guided() {
        let scale = settings.guidance_scale;
        return if settings.negative_prompt.is_empty() {
            Vec::new()
        } else {
            vec![format!("is not read with a guidance of {scale}; expected one above 1")]
        };
    }
    let mut left_out = reading.left_out();
    let (of_prompt, own) = (texts[0].length, texts[1].length);
    if settings.compat_masking && own > of_prompt {
        left_out.push(format!("of its {own} tokens {of_prompt} are read, as many as the prompt has (--compat-masking)"));
    }
    left_out
}
