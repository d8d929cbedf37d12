//! Text to video with a model in the diffusers layout (`LattePipeline`: Latte-1). Shape letters: `b` batch, `f` frames, `c`
//! channels, `h w` height and width, `l` text length.
//!
//! Three stages, each of which loads what it needs and drops it again, so that the memory needed is that of the largest part and
//! not that of all: texts ([`TextToVideo::encode_texts`]), denoising ([`Transformer`]), and decoding, which an [`Autoencoder`] does.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use latte_ops::{Parameters, Precision};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::generation_state::{GenerationState, Resumable};
use super::kept;
use super::settings::{T2vSettings, TemporalDecoding};
use crate::diffusion::VarianceType;
use crate::finite::with_cause;
use crate::model::t2v::{LatteT2v, PromptEmbeddings, T2vConfig, T2vDenoiser};
use crate::noise::{NoiseSource, TorchRng};
use crate::sampling::{AskedFor, Sampled, Sampler, Sampling, SolverConfig, Start, StepReport, sample};
use crate::text::{EncodedText, MAX_LENGTH, PromptPair, Reading, TextEncoder, Tokenizer, Tokens};
use crate::vae::{Autoencoder, AutoencoderKl, AutoencoderKlTemporalDecoder, KlConfig};
use crate::weights::{self, CONFIG, Pretrained, TensorSource, WeightFiles, hexadecimal, read_json};
use crate::{Error, Result};

/// A folder with all parts of a text-to-video model.
#[derive(Debug, Clone)]
pub struct TextToVideo {
    folder: PathBuf,
    transformer: T2vConfig,
    scheduler: Value,
    /// Pixels to a latent value, in height and in width.
    downsample_factor: usize,
    has_temporal_decoder: bool,
    device: Device,
}

/// Texts that were encoded, in the order in which they were given.
#[derive(Debug)]
pub struct EncodedTexts {
    /// The texts.
    pub texts: Vec<EncodedText>,
    /// What was read of each, and what was left out.
    pub readings: Vec<Reading>,
    /// Why new ones could not be kept, if they could not.
    pub cache_error: Option<Error>,
}

/// What encoded texts are called in files of the cache.
const TOKENS: &str = "tokens";

/// The parts of a folder: files and folders in it.
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const TOKENIZER: &str = "tokenizer";
const TEXT_ENCODER: &str = "text_encoder";
const TRANSFORMER: &str = "transformer";
const DECODER: &str = "vae";
const TEMPORAL_DECODER: &str = "vae_temporal_decoder";

impl TextToVideo {
    /// Opens a folder: reads the configurations of its parts, no weights.
    ///
    /// # Errors
    ///
    /// If a part is missing or is one of another model.
    pub fn open(folder: &Path) -> Result<Self> {
        let wrong = |what: String| Error::from(weights::refuse(folder, what));
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

    /// The same model at work on `device`. What goes from one part to the next is on the CPU all the same.
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// Frames of a clip as trained.
    pub fn default_frames(&self) -> usize {
        self.transformer.video_length
    }

    /// Height and width in pixels as trained.
    pub fn default_size(&self) -> [usize; 2] {
        [self.transformer.sample_size * self.downsample_factor; 2]
    }

    /// The folder's sampler configuration with some keys changed.
    ///
    /// # Errors
    ///
    /// If the result is no possible configuration.
    pub fn scheduler_with(&self, changes: &[(String, Value)]) -> Result<Value> {
        let mut scheduler = self.scheduler.clone();
        if let Some(keys) = scheduler.as_object_mut() {
            keys.extend(changes.iter().cloned());
        }
        SolverConfig::from_json(&scheduler.to_string())?;
        Ok(scheduler)
    }

    /// The sampler for `steps` steps from the folder's configuration and what is asked for beside it.
    ///
    /// # Errors
    ///
    /// If something that was asked for is impossible or has no effect.
    pub fn sampling(&self, asked: &AskedFor<'_>, steps: usize) -> Result<Sampling> {
        asked.of(&self.scheduler, steps, &|keys, kind| solver_of(keys, Some(kind), &self.transformer))
    }

    /// Whether a clip of these settings can be made with this model.
    ///
    /// # Errors
    ///
    /// One that names the first setting that does not fit.
    pub fn check(&self, settings: &T2vSettings) -> Result<()> {
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
            let what = "the temporal decoder takes all frames of a clip together and knows no tiles; \
                        turn it off (`--temporal-decoder off`), or leave the tiles out";
            return Err(Error::config("tile", what));
        }
        solver_config(settings, &self.transformer)?.solver(settings.num_steps).map(drop)
    }

    /// The shape of a clip's latents, `[1, f, c, h, w]`.
    pub fn latent_shape(&self, settings: &T2vSettings) -> [usize; 5] {
        let ([height, width], s) = (settings.size, self.downsample_factor);
        [1, settings.num_frames, self.transformer.in_channels, height / s, width / s]
    }

    /// Whether the clip is decoded with the temporal decoder.
    pub fn decodes_temporally(&self, settings: &T2vSettings) -> bool {
        match settings.temporal_decoder {
            TemporalDecoding::On => true,
            TemporalDecoding::Off => false,
            TemporalDecoding::Auto => self.has_temporal_decoder && settings.num_frames > 1,
        }
    }

    /// Encodes texts; each is looked up in the folder `cache` first and kept there afterwards, if there is one. Without texts
    /// that are new, no weights are read. A cache that cannot be read or written is no failure.
    ///
    /// `report` hears how many layers of all are done.
    ///
    /// # Errors
    ///
    /// If a file of the model is missing or damaged.
    pub fn encode_texts(
        &self,
        texts: &[&str],
        clean: bool,
        cache: Option<&Path>,
        report: &mut dyn FnMut(usize, usize),
    ) -> Result<EncodedTexts> {
        let weights = Pretrained::open(&self.folder.join(TEXT_ENCODER))?;
        let tokenizer = Tokenizer::open(&self.folder.join(TOKENIZER))?;
        let readings = texts.iter().map(|text| tokenizer.read(text, clean)).collect::<Result<Vec<_>>>()?;
        let cache = cache.map(|folder| Ok::<_, Error>((folder.join("text"), fingerprint(weights.files())?))).transpose()?;
        // What is read decides, so a tokenizer that was exchanged cannot be answered from what another one read.
        let place = |reading: &Reading| {
            let (folder, fingerprint) = cache.as_ref()?;
            let hash = Sha256::digest(format!("{fingerprint}\n{:?}", reading.tokens.ids));
            Some(folder.join(format!("{}.safetensors", hexadecimal(&hash))))
        };
        let width = self.transformer.caption_channels;
        let look_up = |reading: &Reading| {
            let tokens = kept::find(&place(reading)?, TOKENS, &[MAX_LENGTH, width])?;
            Some(EncodedText { tokens, length: reading.tokens.length })
        };
        let mut encoded: Vec<Option<EncodedText>> = readings.iter().map(look_up).collect();
        let mut new: Vec<usize> = (0..texts.len()).filter(|&index| encoded[index].is_none()).collect();
        new.sort_by_key(|&index| &readings[index].tokens.ids);
        new.dedup_by_key(|index| &readings[*index].tokens.ids);
        let mut cache_error = None;
        if !new.is_empty() {
            let encoder = TextEncoder::new(tokenizer, &weights)?.on(&self.device);
            let tokens: Vec<Tokens> = new.iter().map(|&index| readings[index].tokens.clone()).collect();
            for (&index, result) in new.iter().zip(encoder.encode_tokens(&tokens, report)?) {
                if let Some(path) = place(&readings[index]).filter(|_| cache_error.is_none()) {
                    cache_error = kept::keep(&path, TOKENS, &result.tokens).err();
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

    /// Looks whether the weights of all parts that a clip of these settings needs are there and can be opened, and says which of
    /// several sets of weights was taken in each. No tensor is read.
    ///
    /// # Errors
    ///
    /// If weights are missing, damaged, or something else than weights.
    pub fn check_weights(&self, settings: &T2vSettings) -> Result<Vec<String>> {
        let decoder = if self.decodes_temporally(settings) { TEMPORAL_DECODER } else { DECODER };
        let open = |part: &str| Pretrained::open(&self.folder.join(part));
        let parts = [TEXT_ENCODER, TRANSFORMER, decoder].map(open).into_iter().collect::<weights::Result<Vec<_>>>()?;
        Ok(parts.iter().filter_map(Pretrained::note).collect())
    }

    /// A name for the transformer's weights, and another one for others: from names, shapes and samples of the values.
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
            Error::Config { what, .. } => weights::refuse(&folder, what).into(),
            other => other,
        })?;
        let parameters = parameters.to_device(&self.device)?;
        Ok(Transformer { parameters, model, downsample_factor: self.downsample_factor })
    }

    /// Reads the weights of the decoder that the settings ask for: the temporal decoder, or that of single frames.
    ///
    /// # Errors
    ///
    /// If they are missing or damaged, or do not fit their configuration.
    pub fn load_decoder(&self, settings: &T2vSettings, precision: Precision) -> Result<Box<dyn Autoencoder>> {
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
    downsample_factor: usize,
}

impl Transformer {
    /// Makes the latents of one clip, `[1, f, c, h, w]`. `report` hears after each prediction how many are done.
    ///
    /// # Errors
    ///
    /// If settings or texts do not fit the network, or memory runs out.
    pub fn denoise(
        &self,
        settings: &T2vSettings,
        texts: &PromptPair,
        precision: Precision,
        report: &mut dyn FnMut(usize, usize),
    ) -> Result<Tensor> {
        match self.denoise_resumable(settings, texts, precision, None, &mut all_steps(report))? {
            Resumable::Finished(latents) => Ok(latents),
            Resumable::Stopped(_) => Err(was_stopped()),
        }
    }

    /// As [`denoise`](Self::denoise), but `on_step`, which hears of every prediction, may stop the work, and what is stopped can be
    /// gone on with: hand the state in with the same settings, texts and precision, and the latents have the same bits as those
    /// that were never stopped.
    ///
    /// # Errors
    ///
    /// As [`denoise`](Self::denoise), and if the state belongs to another clip. That the weights are the same is not checked.
    pub fn denoise_resumable(
        &self,
        settings: &T2vSettings,
        texts: &PromptPair,
        precision: Precision,
        state: Option<&GenerationState>,
        on_step: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Resumable<Tensor>> {
        let described = serde_json::to_string(&settings.of_latents()).map_err(|e| Error::config("settings", e.to_string()))?;
        let described = format!("{described} in {precision:?}");
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
        Ok(match self.run(start, &mut noise, settings, texts, precision, on_step)? {
            Sampled::Finished(latents) => Resumable::Finished(latents),
            Sampled::Stopped(sampling) => Resumable::Stopped(Box::new(GenerationState::new(*sampling, &noise.0, described))),
        })
    }

    /// As [`denoise`](Self::denoise), from given noise `[1, f, c, h, w]`.
    ///
    /// # Errors
    ///
    /// As [`denoise`](Self::denoise).
    pub fn denoise_from(
        &self,
        start: &Tensor,
        noise: &mut dyn NoiseSource,
        settings: &T2vSettings,
        texts: &PromptPair,
        precision: Precision,
        report: &mut dyn FnMut(usize, usize),
    ) -> Result<Tensor> {
        let sampled = self.run(Start::Noise(start), noise, settings, texts, precision, &mut all_steps(report))?;
        sampled.finished().ok_or_else(was_stopped)
    }

    fn run(
        &self,
        start: Start<'_>,
        noise: &mut dyn NoiseSource,
        settings: &T2vSettings,
        texts: &PromptPair,
        precision: Precision,
        on_step: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Sampled> {
        let mask = |which: usize| texts.masks.as_ref().map(|masks| &masks[which]);
        let prompt = PromptEmbeddings { text: &texts.text, mask: mask(0) };
        let negative = PromptEmbeddings { text: &texts.negative, mask: mask(1) };
        let guidance = settings.is_guided().then(|| (negative, settings.guidance()));
        let mut denoiser = T2vDenoiser::new(&self.model, &self.parameters, prompt, guidance, precision)?;
        if !settings.temporal_attention {
            denoiser = denoiser.without_temporal_attention();
        }
        let mut solver = solver_config(settings, self.model.config())?.solver(settings.num_steps)?;
        sample(solver.as_mut(), &denoiser, start, noise, on_step).map_err(|e| with_cause(e, &self.parameters))
    }
}

/// Tells `report` how many predictions are done, and never stops.
fn all_steps(report: &mut dyn FnMut(usize, usize)) -> impl FnMut(&StepReport) -> ControlFlow<()> {
    |step| {
        report(step.done, step.num_steps);
        ControlFlow::Continue(())
    }
}

fn was_stopped() -> Error {
    Error::config("sampling", "was stopped")
}

/// The sampler of the settings for this network.
fn solver_config(settings: &T2vSettings, network: &T2vConfig) -> Result<SolverConfig> {
    let kind = settings.sampler.as_deref().map(str::parse).transpose()?;
    Ok(SolverConfig { eta: settings.eta, ..solver_of(&settings.scheduler, kind, network)? })
}

/// The sampler of a file's keys, or with `kind` another method for them, for this network.
fn solver_of(keys: &Value, kind: Option<Sampler>, network: &T2vConfig) -> Result<SolverConfig> {
    let mut config = SolverConfig::from_json(&keys.to_string())?;
    if let Some(kind) = kind {
        config = config.with_kind(kind)?;
    }
    config.eta = 0.0;
    let says = |key: &str| keys.get(key).is_some();
    // diffusers clamps where a file says nothing: right for pixels, wrong for latents.
    config.clip_sample &= says("clip_sample");
    if config.kind == Sampler::Ddpm && !says("variance_type") && network.out_channels > network.in_channels {
        // What the network predicts behind the noise; diffusers' default would throw it away.
        config.variance = VarianceType::LearnedRange;
    }
    Ok(config)
}

/// Noise in the order in which diffusers draws it: a clip's channels before its frames.
struct ChannelsFirst(TorchRng);

impl NoiseSource for ChannelsFirst {
    fn noise(&mut self, shape: &[usize]) -> Result<Tensor> {
        let &[b, f, c, h, w] = shape else { return self.0.noise(shape) };
        Ok(self.0.noise(&[b, c, f, h, w])?.transpose(1, 2)?.contiguous()?)
    }
}

/// A name for the contents of weights, from names, shapes and samples of the values: found in no time, and another one for weights
/// that were trained apart, but no proof against tampering.
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
