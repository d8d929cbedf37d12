//! The parts of a text-to-video model in the diffusers layout (`LattePipeline`: Latte-1). Shape letters: `b` batch, `f` frames, `c`
//! channels, `h w` height and width, `l` text length.
//!
//! There are three stages, and each needs its own part of the model: text encoding ([`TextToVideoParts::encode_texts`]), denoising
//! ([`Transformer`]) and decoding ([`Autoencoder`]).

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use latte_model::diffusion::VarianceType;
use latte_model::finite::with_cause;
use latte_model::model::t2v::{LatteT2v, PromptEmbeddings, T2vConfig, T2vDenoiser};
use latte_model::noise::{NoiseSource, TorchRng};
use latte_model::sampling::{AskedFor, Sampled, Sampler, Sampling, SolverConfig, Start, sample};
use latte_model::text::{EncodedText, MAX_LENGTH, PromptPair, Reading, TextEncoder, Tokenizer, Tokens};
use latte_model::vae::{Autoencoder, AutoencoderKl, AutoencoderKlTemporalDecoder, KlConfig};
use latte_ops::{CancelToken, PackedWeightCache, Parameters, Precision};
use latte_weights::{CONFIG, Pretrained, TensorSource, WeightFiles, hexadecimal, read_json, refuse};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::settings::{TemporalDecoding, TextSettings};
use crate::cache;
use crate::generation_state::{GenerationState, Resumable};
use latte_progress::NoProgress;

use crate::progress::{GenerationProgress, on_step};
use crate::{Error, Result};

/// A folder with all parts of a text-to-video model.
#[derive(Debug, Clone)]
pub struct TextToVideoParts {
    folder: PathBuf,
    transformer: T2vConfig,
    scheduler: Value,
    /// Pixels per latent value, in height and in width.
    downsample_factor: usize,
    has_temporal_decoder: bool,
    device: Device,
}

/// Encoded texts, in the order of the input.
#[derive(Debug)]
pub struct EncodedTexts {
    /// The texts.
    pub texts: Vec<EncodedText>,
    /// Which tokens of each text were read, and what was left out.
    pub readings: Vec<Reading>,
    /// The error, if the new ones could not be cached.
    pub cache_error: Option<Error>,
}

/// The name of encoded texts in files of the cache.
const TOKENS: &str = "tokens";

/// The parts of a folder: the files and folders in it.
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const TOKENIZER: &str = "tokenizer";
const TEXT_ENCODER: &str = "text_encoder";
const TRANSFORMER: &str = "transformer";
const DECODER: &str = "vae";
const TEMPORAL_DECODER: &str = "vae_temporal_decoder";

impl TextToVideoParts {
    /// Opens a folder: reads the configurations of its parts, no weights.
    ///
    /// # Errors
    ///
    /// If a part is missing or belongs to another kind of model.
    pub fn open(folder: &Path) -> Result<Self> {
        let wrong = |what: String| Error::from(refuse(folder, what));
        let config = |part: &str| format!("{part}/{CONFIG}");
        let needed = [SCHEDULER.into(), TOKENIZER.into(), config(TEXT_ENCODER), config(TRANSFORMER), config(DECODER)];
        let missing: Vec<String> = needed.into_iter().filter(|part: &String| !folder.join(part).exists()).collect();
        if !missing.is_empty() {
            let what = "is no text-to-video model in the diffusers layout";
            return Err(wrong(format!(
                "{what}: {} missing; expected the folder that holds model_index.json",
                missing.join(", ")
            )));
        }
        let autoencoder = KlConfig::from_json(&read_json(&folder.join(config(DECODER)))?);
        let downsample_factor = autoencoder.and_then(|config| config.downsample_factor());
        Ok(Self {
            folder: folder.to_path_buf(),
            transformer: T2vConfig::read(&folder.join(config(TRANSFORMER)))?,
            scheduler: SolverConfig::keys_of_file(&folder.join(SCHEDULER))?.into_iter().collect(),
            downsample_factor: downsample_factor.map_err(|e| wrong(format!("{}: {e}", config(DECODER))))?,
            has_temporal_decoder: folder.join(config(TEMPORAL_DECODER)).is_file(),
            device: Device::Cpu,
        })
    }

    /// The same model on `device`. Tensors that one part passes to the next are always on the CPU.
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// Frames of a clip, as in training.
    pub fn default_frames(&self) -> usize {
        self.transformer.video_length
    }

    /// Height and width in pixels, as in training.
    pub fn default_size(&self) -> [usize; 2] {
        [self.transformer.sample_size * self.downsample_factor; 2]
    }

    /// The folder's sampler configuration, with some keys changed.
    ///
    /// # Errors
    ///
    /// If the result is not a valid configuration.
    pub fn scheduler_with(&self, changes: &[(String, Value)]) -> Result<Value> {
        let mut scheduler = self.scheduler.clone();
        if let Some(keys) = scheduler.as_object_mut() {
            keys.extend(changes.iter().cloned());
        }
        SolverConfig::from_json(&scheduler.to_string())?;
        Ok(scheduler)
    }

    /// The sampler for `steps` steps: the folder's configuration, changed by `asked`.
    ///
    /// # Errors
    ///
    /// If a value in `asked` is invalid or has no effect.
    pub fn sampling(&self, asked: &AskedFor<'_>, steps: usize) -> Result<Sampling> {
        Ok(asked.of(&self.scheduler, steps, &|keys, kind| solver_of(keys, Some(kind), &self.transformer))?)
    }

    /// Checks that a clip with these settings can be generated with this model.
    ///
    /// # Errors
    ///
    /// One that names the first setting that does not fit.
    pub fn check(&self, settings: &TextSettings) -> Result<()> {
        settings.validate()?;
        let [height, width] = settings.size;
        let side = self.downsample_factor * self.transformer.patch_size;
        if height == 0 || width == 0 || !height.is_multiple_of(side) || !width.is_multiple_of(side) {
            let what = format!("expected height and width that are multiples of {side}, got {height}x{width}");
            return Err(Error::config("size", what));
        }
        if settings.temporal_decoder == TemporalDecoding::On && !self.has_temporal_decoder {
            let what = format!("{} has no {TEMPORAL_DECODER}; use `auto` or `off`", self.folder.display());
            return Err(Error::config("temporal decoder", what));
        }
        if settings.tile.is_some() && self.decodes_temporally(settings) {
            let what = "the temporal decoder decodes all frames of a clip together, without tiles; \
                        turn it off (`--temporal-decoder off`), or leave the tiles out";
            return Err(Error::config("tile", what));
        }
        solver_config(settings, &self.transformer)?.solver(settings.num_steps)?;
        Ok(())
    }

    /// The shape of a clip's latents, `[1, f, c, h, w]`.
    pub fn latent_shape(&self, settings: &TextSettings) -> [usize; 5] {
        let ([height, width], s) = (settings.size, self.downsample_factor);
        [1, settings.num_frames, self.transformer.in_channels, height / s, width / s]
    }

    /// Whether the clip is decoded by the temporal decoder.
    pub fn decodes_temporally(&self, settings: &TextSettings) -> bool {
        match settings.temporal_decoder {
            TemporalDecoding::On => true,
            TemporalDecoding::Off => false,
            TemporalDecoding::Auto => self.has_temporal_decoder && settings.num_frames > 1,
        }
    }

    /// Encodes texts. It looks up each text in the folder `cache`, if there is one, and saves new ones there. If no text is new, it
    /// reads no weights. A cache that cannot be read or written is not an error.
    ///
    /// `progress` receives the number of finished layers; `cancel` stops the work between two layers.
    ///
    /// # Errors
    ///
    /// If a file of the model is missing or damaged.
    pub fn encode_texts(
        &self,
        texts: &[&str],
        clean: bool,
        cache: Option<&Path>,
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
    ) -> Result<EncodedTexts> {
        let weights = Pretrained::open(&self.folder.join(TEXT_ENCODER))?;
        let tokenizer = Tokenizer::open(&self.folder.join(TOKENIZER))?;
        let readings = texts.iter().map(|text| tokenizer.read(text, clean)).collect::<latte_model::Result<Vec<_>>>()?;
        let encoder_name = || -> Result<String> {
            let config = weights.files().config()?.unwrap_or_default();
            Ok(format!("{}\n{config}", fingerprint(weights.files())?))
        };
        let cache = cache.map(|folder| Ok::<_, Error>((folder.join("text"), encoder_name()?))).transpose()?;
        // The key has the token ids: with another tokenizer, the cached texts of the old one are not found.
        let place = |reading: &Reading| {
            let (folder, fingerprint) = cache.as_ref()?;
            let hash = Sha256::digest(format!("{fingerprint}\n{:?}", reading.tokens.ids));
            Some(folder.join(format!("{}.safetensors", hexadecimal(&hash))))
        };
        let width = self.transformer.caption_channels;
        let look_up = |reading: &Reading| {
            let tokens = cache::find(&place(reading)?, TOKENS, &[MAX_LENGTH, width])?;
            Some(EncodedText { tokens, length: reading.tokens.length })
        };
        let mut encoded: Vec<Option<EncodedText>> = readings.iter().map(look_up).collect();
        let mut new: Vec<usize> = (0..texts.len()).filter(|&index| encoded[index].is_none()).collect();
        new.sort_by_key(|&index| &readings[index].tokens.ids);
        new.dedup_by_key(|index| &readings[*index].tokens.ids);
        let mut cache_error = None;
        if !new.is_empty() {
            let encoder = TextEncoder::new(tokenizer, &weights)?.on(&self.device).with_cancel(cancel);
            let tokens: Vec<Tokens> = new.iter().map(|&index| readings[index].tokens.clone()).collect();
            for (&index, result) in new.iter().zip(encoder.encode_tokens(&tokens, &mut *progress)?) {
                if let Some(path) = place(&readings[index]).filter(|_| cache_error.is_none()) {
                    cache_error = cache::keep(&path, TOKENS, &result.tokens).err();
                }
                for (_, slot) in readings.iter().zip(&mut encoded).filter(|(other, _)| other.tokens == readings[index].tokens) {
                    *slot = Some(result.clone());
                }
            }
        }
        let missing = || Error::config("text", "was not encoded");
        let texts = encoded.into_iter().map(|found| found.ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
        Ok(EncodedTexts { texts, readings, cache_error })
    }

    /// Checks that the weights of all parts that these settings need exist and can be opened, and returns notes about which of
    /// several sets of weights was chosen in each. It reads no tensor.
    ///
    /// # Errors
    ///
    /// If weights are missing, damaged, or not weights.
    pub fn check_weights(&self, settings: &TextSettings) -> Result<Vec<String>> {
        let decoder = if self.decodes_temporally(settings) { TEMPORAL_DECODER } else { DECODER };
        let open = |part: &str| Pretrained::open(&self.folder.join(part));
        let parts = [TEXT_ENCODER, TRANSFORMER, decoder].map(open).into_iter().collect::<latte_weights::Result<Vec<_>>>()?;
        Ok(parts.iter().filter_map(Pretrained::note).collect())
    }

    /// A hash of names, shapes and samples of the values, which identifies the transformer's weights.
    ///
    /// # Errors
    ///
    /// If they are missing or damaged.
    pub fn transformer_fingerprint(&self) -> Result<String> {
        fingerprint(&WeightFiles::open(&self.folder.join(TRANSFORMER))?)
    }

    /// Reads the transformer's weights.
    ///
    /// # Errors
    ///
    /// If they are missing or damaged, or do not fit `transformer/config.json`.
    pub fn load_transformer(&self) -> Result<Transformer> {
        let folder = self.folder.join(TRANSFORMER);
        let model = LatteT2v::new(self.transformer.clone())?;
        let parameters = model.load(&Pretrained::open(&folder)?).map_err(|e| match e {
            latte_model::Error::Config { what, .. } => refuse(&folder, what).into(),
            other => Error::from(other),
        })?;
        let parameters = parameters.to_device(&self.device)?;
        let packed_weights = PackedWeightCache::new();
        Ok(Transformer { parameters, model, packed_weights, downsample_factor: self.downsample_factor })
    }

    /// Reads the weights of the decoder that the settings select: the temporal decoder, or the one for single frames.
    ///
    /// # Errors
    ///
    /// If they are missing or damaged, or do not fit their configuration.
    pub fn load_decoder(&self, settings: &TextSettings, precision: Precision) -> Result<Box<dyn Autoencoder>> {
        if self.decodes_temporally(settings) {
            return Ok(Box::new(AutoencoderKlTemporalDecoder::open_on(
                &self.device,
                &self.folder.join(TEMPORAL_DECODER),
                precision,
            )?));
        }
        let decoder = AutoencoderKl::open_on(&self.device, &self.folder.join(DECODER), precision)?;
        Ok(Box::new(match settings.tiling()? {
            Some(tiling) => decoder.with_tiling(tiling),
            None => decoder,
        }))
    }
}

/// The transformer with its weights.
#[derive(Debug)]
pub struct Transformer {
    model: LatteT2v,
    parameters: Parameters,
    packed_weights: PackedWeightCache,
    downsample_factor: usize,
}

impl Transformer {
    /// Generates the latents of one clip, `[1, f, c, h, w]`, or resumes a stopped one from `state`; the result has the same bits as
    /// without the stop.
    ///
    /// `progress` receives every prediction. After `cancel` is cancelled, the work stops between two blocks of the network and
    /// returns the state after the last complete prediction.
    ///
    /// # Errors
    ///
    /// If settings or texts do not fit the network, the state belongs to another clip, or memory runs out. Whether the weights are
    /// those of the state is not checked.
    pub fn denoise(
        &self,
        settings: &TextSettings,
        texts: &PromptPair,
        precision: Precision,
        state: Option<&GenerationState>,
        progress: &mut dyn GenerationProgress,
        cancel: &CancelToken,
    ) -> Result<Resumable<Tensor>> {
        let described = serde_json::to_string(&settings.of_latents()).map_err(|e| Error::config("settings", e.to_string()))?;
        let described = format!("{described} in {precision:?}");
        let clip = Clip { settings, texts, precision, cancel };
        let (mut noise, first); // `first` is [1, f, c, h, w]
        let start = match state {
            None => {
                let (config, [height, width], s) = (self.model.config(), settings.size, self.downsample_factor);
                noise = ChannelsFirst(TorchRng::new(settings.seed));
                first = noise.noise(&[1, settings.num_frames, config.in_channels, height / s, width / s])?;
                Start::Noise(&first)
            }
            Some(state) => {
                noise = ChannelsFirst(state.generator(&described)?);
                Start::State(&state.sampling)
            }
        };
        Ok(match self.run(start, &mut noise, clip, progress)? {
            Sampled::Finished(latents) => Resumable::Finished(latents),
            Sampled::Stopped(sampling) => Resumable::Stopped(Box::new(GenerationState::new(*sampling, &noise.0, described))),
        })
    }

    /// Generates the latents of one clip from noise `[1, f, c, h, w]`.
    ///
    /// # Errors
    ///
    /// As [`denoise`](Self::denoise).
    pub fn denoise_from(
        &self,
        start: &Tensor,
        noise: &mut dyn NoiseSource,
        settings: &TextSettings,
        texts: &PromptPair,
        precision: Precision,
    ) -> Result<Tensor> {
        let clip = Clip { settings, texts, precision, cancel: &CancelToken::new() };
        self.run(Start::Noise(start), noise, clip, &mut NoProgress)?.finished().ok_or(Error::Cancelled)
    }

    fn run(
        &self,
        start: Start<'_>,
        noise: &mut dyn NoiseSource,
        clip: Clip<'_>,
        progress: &mut dyn GenerationProgress,
    ) -> Result<Sampled> {
        let Clip { settings, texts, precision, cancel } = clip;
        let mask = |which: usize| texts.masks.as_ref().map(|masks| &masks[which]);
        let prompt = PromptEmbeddings { text: &texts.text, mask: mask(0) };
        let negative = PromptEmbeddings { text: &texts.negative, mask: mask(1) };
        let guidance = settings.is_guided().then(|| (negative, settings.guidance()));
        let mut denoiser = T2vDenoiser::new(&self.model, &self.parameters, prompt, guidance, precision, &self.packed_weights)?
            .with_cancel(cancel);
        if !settings.temporal_attention {
            denoiser = denoiser.without_temporal_attention();
        }
        let mut solver = solver_config(settings, self.model.config())?.solver(settings.num_steps)?;
        let sampled = sample(solver.as_mut(), &denoiser, start, noise, cancel, &mut on_step(progress));
        Ok(sampled.map_err(|e| with_cause(e, &self.parameters))?)
    }
}

/// The inputs of one clip.
#[derive(Debug, Clone, Copy)]
struct Clip<'c> {
    settings: &'c TextSettings,
    texts: &'c PromptPair,
    precision: Precision,
    cancel: &'c CancelToken,
}

/// The solver configuration that the settings select for this network.
fn solver_config(settings: &TextSettings, network: &T2vConfig) -> latte_model::Result<SolverConfig> {
    let kind = settings.sampler.as_deref().map(str::parse).transpose()?;
    Ok(SolverConfig { eta: settings.eta, ..solver_of(&settings.scheduler, kind, network)? })
}

/// The solver configuration of a scheduler file's keys for this network; `kind` replaces the file's sampler.
fn solver_of(keys: &Value, kind: Option<Sampler>, network: &T2vConfig) -> latte_model::Result<SolverConfig> {
    let mut config = SolverConfig::from_json(&keys.to_string())?;
    if let Some(kind) = kind {
        config = config.with_kind(kind)?;
    }
    config.eta = 0.0;
    let says = |key: &str| keys.get(key).is_some();
    // diffusers clamps if the file has no such key: right for pixels, wrong for latents.
    config.clip_sample &= says("clip_sample");
    if config.kind == Sampler::Ddpm && !says("variance_type") && network.out_channels > network.in_channels {
        // The network predicts its variance after the noise; the default of diffusers would discard it.
        config.variance = VarianceType::LearnedRange;
    }
    Ok(config)
}

/// Draws noise in the order of diffusers: a clip's channels before its frames.
struct ChannelsFirst(TorchRng);

impl NoiseSource for ChannelsFirst {
    fn noise(&mut self, shape: &[usize]) -> latte_model::Result<Tensor> {
        let &[b, f, c, h, w] = shape else { return self.0.noise(shape) };
        Ok(self.0.noise(&[b, c, f, h, w])?.transpose(1, 2)?.contiguous()?)
    }
}

/// A hash of names, shapes and samples of the values. It is fast, and differs for weights of different trainings, but it does not
/// detect tampering.
fn fingerprint(weights: &WeightFiles) -> Result<String> {
    const SAMPLE: usize = 64;
    let mut hash = Sha256::new();
    for name in weights.names() {
        let tensor = weights.raw(&name)?;
        hash.update(format!("{name} {:?} {:?}\n", tensor.dtype, tensor.shape));
        for start in [0, tensor.bytes.len() / 2] {
            hash.update(&tensor.bytes[start..tensor.bytes.len().min(start + SAMPLE)]);
        }
    }
    Ok(hexadecimal(&hash.finalize()))
}
