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

use super::settings::{T2vSettings, TemporalDecoding};
use crate::diffusion::VarianceType;
use crate::model::t2v::{LatteT2v, T2vConfig, T2vDenoiser, Texts};
use crate::noise::{NoiseSource, TorchRng};
use crate::solver::{SolverConfig, SolverKind, solve};
use crate::text::{EncodedText, PromptPair, TextEncoder};
use crate::vae::{Autoencoder, AutoencoderKl, AutoencoderKlTemporalDecoder, KlConfig};
use crate::weights::{self, CONFIG, TensorSource, WeightFiles, hexadecimal, read_json};
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

    /// Whether the clip is decoded with the temporal decoder.
    pub fn decodes_temporally(&self, settings: &T2vSettings) -> bool {
        match settings.temporal_decoder {
            TemporalDecoding::On => true,
            TemporalDecoding::Off => false,
            TemporalDecoding::Auto => self.has_temporal_decoder && settings.num_frames > 1,
        }
    }

    /// Encodes texts; each is looked up in the folder `cache` first and kept there afterwards, if there is one. Without texts
    /// that are new, no weights are read.
    ///
    /// `report` hears how many layers of all are done.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, or the cache cannot be written.
    pub fn encode_texts(
        &self,
        texts: &[&str],
        clean: bool,
        cache: Option<&Path>,
        report: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<EncodedText>> {
        let weights = WeightFiles::open(&self.folder.join(TEXT_ENCODER))?;
        let cache = cache.map(|folder| Ok::<_, Error>((folder.join("text"), fingerprint(&weights)?))).transpose()?;
        let place = |text: &str| {
            let (folder, fingerprint) = cache.as_ref()?;
            let hash = Sha256::digest(format!("{fingerprint}\n{clean}\n{text}"));
            Some(folder.join(format!("{}.safetensors", hexadecimal(&hash))))
        };
        let mut encoded: Vec<Option<EncodedText>> = texts.iter().map(|text| place(text).and_then(|path| cached(&path))).collect();
        let mut new: Vec<&str> = texts.iter().zip(&encoded).filter(|(_, found)| found.is_none()).map(|(text, _)| *text).collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            let encoder = TextEncoder::open(&self.folder.join(TOKENIZER), &weights)?.on(&self.device);
            let results = encoder.encode(&new, clean, report)?;
            for (text, result) in new.iter().zip(results) {
                if let Some(path) = place(text) {
                    keep(&path, &result)?;
                }
                for (_, slot) in texts.iter().zip(&mut encoded).filter(|(other, _)| *other == text) {
                    *slot = Some(result.clone());
                }
            }
        }
        let missing = || Error::config("text", "was not encoded");
        encoded.into_iter().map(|found| found.ok_or_else(missing)).collect()
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
        let parameters = model.load(&WeightFiles::open(&folder)?).map_err(|e| match e {
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
        let (config, [height, width], s) = (self.model.config(), settings.size, self.downsample_factor);
        let shape = [1, settings.num_frames, config.in_channels, height / s, width / s];
        let mut noise = ChannelsFirst(TorchRng::new(settings.seed));
        let start = noise.noise(&shape)?;
        self.denoise_from(&start, &mut noise, settings, texts, precision, report)
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
        let mask = |which: usize| texts.masks.as_ref().map(|masks| &masks[which]);
        let prompt = Texts { text: &texts.text, mask: mask(0) };
        let negative = Texts { text: &texts.negative, mask: mask(1) };
        let guidance = settings.is_guided().then_some((negative, settings.guidance_scale));
        let mut denoiser = T2vDenoiser::new(&self.model, &self.parameters, prompt, guidance, precision)?;
        if !settings.temporal_attention {
            denoiser = denoiser.without_temporal_attention();
        }
        let mut solver = solver_config(settings, self.model.config())?.solver(settings.num_steps)?;
        let mut on_step = |step: &crate::sampler::StepReport| {
            report(step.done, step.num_steps);
            ControlFlow::Continue(())
        };
        let latents = solve(solver.as_mut(), &denoiser, start, noise, &mut on_step)?;
        latents.ok_or_else(|| Error::config("sampling", "was stopped"))
    }
}

/// The sampler of the settings for this network.
fn solver_config(settings: &T2vSettings, network: &T2vConfig) -> Result<SolverConfig> {
    let mut config = SolverConfig::from_json(&settings.scheduler.to_string())?;
    if let Some(name) = &settings.sampler {
        config = config.with_kind(name.parse::<SolverKind>()?)?;
    }
    config.eta = settings.eta;
    let says = |key: &str| settings.scheduler.get(key).is_some();
    // diffusers clamps where a file says nothing: right for pixels, wrong for latents.
    config.clip_sample &= says("clip_sample");
    if config.kind == SolverKind::Ddpm && !says("variance_type") && network.out_channels > network.in_channels {
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

/// A text of the cache; `None` if it is not there, or damaged and to be made again.
fn cached(path: &Path) -> Option<EncodedText> {
    let (tensors, description) = weights::load(path).ok()?;
    let tokens = tensors.get("tokens").ok()?.to_host().ok()?;
    let length = usize::try_from(description?.get("length")?.as_u64()?).ok()?;
    (tokens.rank() == 2 && length <= tokens.dims()[0]).then_some(EncodedText { tokens, length })
}

fn keep(path: &Path, text: &EncodedText) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.to_path_buf(), source })?;
    }
    let tensors = std::iter::once(("tokens".to_string(), text.tokens.to_device(&Device::Cpu)?)).collect();
    Ok(weights::save(path, &tensors, Some(&serde_json::json!({ "length": text.length })))?)
}
