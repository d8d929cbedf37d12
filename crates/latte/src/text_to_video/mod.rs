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

/// What latents are called in files of the cache.
const LATENTS: &str = "latents";

/// Which parts of the model stay in memory between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residency {
    /// None: text encoder, transformer and decoder are read one after the other and dropped again, so that the memory needed is that of
    /// the largest.
    #[default]
    Staged,
    /// The transformer, with its weights packed for matmuls, and the decoder: the next request begins at once. The text encoder, which
    /// is larger than both and needed for new prompts only, is read and dropped.
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

/// A model that was found and not yet read.
#[derive(Debug, Clone)]
pub struct TextToVideoBuilder {
    folder: PathBuf,
    parts: TextToVideoParts,
    residency: Residency,
    cache: Cache,
}

/// What stays in memory under [`Residency::Resident`].
#[derive(Default)]
struct ResidentParts {
    transformer: Option<Arc<Transformer>>,
    decoder: Option<(DecoderKey, Arc<dyn Autoencoder>)>,
}

// An autoencoder shows nothing of itself.
impl std::fmt::Debug for ResidentParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResidentParts")
            .field("transformer", &self.transformer.is_some())
            .field("decoder", &self.decoder.as_ref().map(|(key, _)| key))
            .finish()
    }
}

/// What tells one decoder from another: whether it is the temporal one, its tiles, its precision.
type DecoderKey = (bool, Option<usize>, Precision);

impl TextToVideo {
    /// Opens a folder in the diffusers layout (`model_index.json`, `scheduler`, `tokenizer`, `text_encoder`, `transformer`, `vae`,
    /// perhaps `vae_temporal_decoder`): reads the configurations of its parts, no weights.
    ///
    /// # Errors
    ///
    /// If a part is missing or is one of another model.
    pub fn open(folder: impl AsRef<Path>) -> Result<TextToVideoBuilder> {
        let folder = folder.as_ref();
        let parts = TextToVideoParts::open(folder)?;
        Ok(TextToVideoBuilder { folder: folder.into(), parts, residency: Residency::Staged, cache: Cache::of_user() })
    }

    /// The model's parts, one by one.
    pub fn parts(&self) -> &TextToVideoParts {
        &self.parts
    }

    /// All settings of the clip that `request` asks for: the model's own where it says nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names what does not fit the model.
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

    /// Makes one clip.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names what of the request does not fit the model; or if a file is missing or damaged, or the work fails.
    pub fn generate(&self, request: &TextRequest) -> Result<GeneratedClip> {
        self.generate_with(request, &mut NoProgress, &CancelToken::new())
    }

    /// As [`generate`](Self::generate), with progress, and until `cancel` is cancelled.
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

    /// As [`generate_with`](Self::generate_with), but a clip that is cancelled while it is denoised can be resumed: hand its state in
    /// with the same settings, also in another process, and it gets the bits of one that was never stopped.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate), if the state belongs to another clip, and [`Error::Cancelled`] outside of denoising, where nothing
    /// would be lost. That the weights are the same is not checked.
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

    /// Makes several clips stage by stage, so that each part of the model is read once: all texts are encoded, then all clips are
    /// denoised, then all are decoded. `on_clip` gets each as soon as it is there, with its place in `clips`. Finished latents are kept
    /// in the cache until all clips are made: after an interruption, the next call with the same clips begins with those.
    ///
    /// # Errors
    ///
    /// As [`generate_with`](Self::generate_with), those of `on_clip`, and if the clips are not all cleaned in one way or not all decoded by
    /// the same decoder.
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
                    "clips that are made together have one way of cleaning captions and one decoder; make these in two calls";
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
            // The clips are there; what is left behind would only take space.
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    /// The prompts and negative prompts of all clips; each different text is encoded once, and all of them together.
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
            // An interrupted run may have left them.
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

    /// Where the latents of each clip are kept until all clips are made. The name is what they depend on.
    fn kept_paths(&self, clips: &[Sidecar]) -> Result<Vec<Option<PathBuf>>> {
        let Some(folder) = self.cache.folder() else { return Ok(vec![None; clips.len()]) };
        let weights = self.parts.transformer_fingerprint()?;
        // A run that ran out of memory while decoding resumes from its latents with tiles, or without the temporal decoder.
        let path = |clip: &Sidecar| -> Result<Option<PathBuf>> {
            let of_latents = Sidecar { settings: clip.settings.of_latents(), ..clip.clone() };
            let text = serde_json::to_string(&of_latents).map_err(|e| Error::config("settings", e.to_string()))?;
            let hash = Sha256::digest(format!("{weights}\n{text}"));
            Ok(Some(folder.join("latents").join(format!("{}.safetensors", hexadecimal(&hash)))))
        };
        clips.iter().map(path).collect()
    }

    /// The pixels of latents `[1, f, c, h, w]`; `place` is that of the clip among how many.
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
        // A decoder of single frames takes one at a time: less memory, and progress that moves.
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

    /// The transformer: the resident one, or read now.
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

    /// The decoder that the clip needs: the resident one, or read now.
    fn decoder(&self, clip: &Sidecar) -> Result<Arc<dyn Autoencoder>> {
        let wanted = self.decoder_key(clip);
        let mut resident = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, decoder)) = resident.decoder.as_ref().filter(|(key, _)| *key == wanted) {
            return Ok(Arc::clone(decoder));
        }
        // The other one goes before this one is read.
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

    /// On which device the model works. Default: the CPU. What goes from one part to the next is on the CPU all the same.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        Self { parts: self.parts.on(device.of_tensors()), ..self }
    }

    /// Where encoded prompts and unfinished latents are kept. Default: [`Cache::of_user`].
    #[must_use]
    pub fn cache(self, cache: Cache) -> Self {
        Self { cache, ..self }
    }

    /// The model. Under [`Residency::Resident`] this reads the transformer; otherwise it reads no weights.
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

/// What of a negative prompt takes no part.
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
