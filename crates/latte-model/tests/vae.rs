//! Properties of the autoencoders that no golden file covers: tiles, chunks, names, scales, and errors.

use std::path::Path;

use candle_core::{Device, Tensor};
use latte_model::layers::ParameterSpec;
use latte_model::noise::TorchRng;
use latte_model::vae::{
    Autoencoder, AutoencoderKl, AutoencoderKlTemporalDecoder, DiagonalGaussian, KlConfig, Posterior, TemporalDecoderConfig,
    Tiling,
};
use latte_model::{Error, Result};
use latte_ops::finite_difference::{assert_close, pseudo_random};
use latte_ops::{Parameters, Precision, Value};

/// Three levels, odd numbers of channels in some groups, a factor of 4.
fn config() -> KlConfig {
    KlConfig {
        down_block_types: vec!["DownEncoderBlock2D".into(); 3],
        up_block_types: vec!["UpDecoderBlock2D".into(); 3],
        block_out_channels: vec![6, 10, 12],
        norm_num_groups: 2,
        ..KlConfig::default()
    }
}

fn temporal_config() -> TemporalDecoderConfig {
    TemporalDecoderConfig {
        down_block_types: vec!["DownEncoderBlock2D".into(); 2],
        block_out_channels: vec![32, 32],
        layers_per_block: 2,
        ..TemporalDecoderConfig::default()
    }
}

/// Weights that keep the size of values; norms with a weight that is not 1 and a bias that is not 0.
fn random(tensors: &[ParameterSpec]) -> Result<Parameters> {
    let one = |(seed, ParameterSpec { name, shape, .. }): (usize, &ParameterSpec)| -> Result<(String, Tensor)> {
        let values = pseudo_random(shape, seed as u64 + 1)?;
        let fan_in: usize = shape[1..].iter().product();
        let values = match shape.len() {
            1 if name.ends_with("weight") => ((values * 0.5)? + 1.0)?,
            1 => (values * 0.5)?,
            _ => (values * (3.0 / fan_in as f64).sqrt())?,
        };
        Ok((name.clone(), values))
    };
    tensors.iter().enumerate().map(one).collect()
}

fn parameters() -> Result<Parameters> {
    random(&AutoencoderKl::tensors(&config())?)
}

fn kl() -> Result<AutoencoderKl> {
    AutoencoderKl::new(config(), &parameters()?, Precision::F32)
}

fn temporal() -> Result<AutoencoderKlTemporalDecoder> {
    let tensors = AutoencoderKlTemporalDecoder::tensors(&temporal_config())?;
    AutoencoderKlTemporalDecoder::new(temporal_config(), &random(&tensors)?, Precision::F32)
}

fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let largest = |t: &Tensor| -> Result<f64> { Ok(f64::from(t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?)) };
    Ok(largest(&(a - b)?)? / largest(b)?)
}

#[test]
fn tiles_give_the_whole_frame_at_their_borders_too() -> Result<()> {
    let (whole, pixels, latent) = (kl()?, pseudo_random(&[1, 3, 72, 100], 1)?, pseudo_random(&[1, 4, 18, 25], 2)?);
    let (moments, decoded) = (whole.moments(&pixels)?, whole.decode_unscaled(&latent)?);
    // One that divides neither side, one that divides the width, one that is wider than the height, one that holds the whole frame.
    for tile in [16, 22, 50, 90, 200] {
        let tiled = kl()?.with_tiling(Tiling::new(tile)?);
        assert_close(&tiled.moments(&pixels)?, &moments, 2e-5)?;
        assert_close(&tiled.decode_unscaled(&latent)?, &decoded, 2e-5)?;
    }
    // The statistics of a tile are not enough: half the latent, decoded alone, differs far from its border.
    let half = whole.decode_unscaled(&latent.narrow(3, 0, 13)?)?;
    let inner = |t: &Tensor| t.narrow(3, 0, 20);
    assert!(distance(&inner(&half)?, &inner(&decoded)?)? > 1e-2);
    assert!([0, 14, 17].into_iter().all(|tile| Tiling::new(tile).is_err()));
    Ok(())
}

#[test]
fn a_frame_is_the_same_whatever_the_batch() -> Result<()> {
    let (vae, latent, pixels) = (kl()?, pseudo_random(&[3, 4, 5, 6], 1)?, pseudo_random(&[3, 3, 8, 12], 2)?);
    let (decoded, moments) = (vae.decode_unscaled(&latent)?, vae.moments(&pixels)?);
    for i in 0..3 {
        assert_close(&vae.decode_unscaled(&latent.narrow(0, i, 1)?)?, &decoded.narrow(0, i, 1)?, 0.0)?;
        assert_close(&vae.moments(&pixels.narrow(0, i, 1)?)?, &moments.narrow(0, i, 1)?, 0.0)?;
    }
    let clip = vae.decode(&(latent.reshape((1, 3, 4, 5, 6))? * 0.18215)?)?;
    assert_close(&clip.squeeze(0)?, &decoded, 1e-4)?;
    Ok(())
}

#[test]
fn latents_are_centred_and_scaled_for_diffusion_and_back() -> Result<()> {
    let mut config = config();
    (config.scaling_factor, config.shift_factor) = (0.5, Some(0.25));
    (config.latents_mean, config.latents_std) = (Some(vec![0.0, 1.0, 2.0, 3.0]), Some(vec![1.0, 2.0, 1.0, 4.0]));
    let vae = AutoencoderKl::new(config, &parameters()?, Precision::F32)?;
    let pixels = pseudo_random(&[1, 2, 3, 8, 8], 3)?;
    let latent = vae.encode(&pixels, &mut TorchRng::new(5))?;
    assert_eq!(latent.dims(), [1, 2, 4, 2, 2]);
    let posterior = DiagonalGaussian::new(&vae.moments(&pixels.squeeze(0)?)?)?;
    let sample = posterior.sample(&mut TorchRng::new(5))?;
    let values = |t: &Tensor| -> Result<Vec<f32>> { Ok(t.flatten_all()?.to_vec1()?) };
    for (i, (ours, raw)) in values(&latent)?.into_iter().zip(values(&sample)?).enumerate() {
        let c = i / 4 % 4;
        let (mean, std) = ([0.0, 1.0, 2.0, 3.0][c] + 0.25, [1.0, 2.0, 1.0, 4.0][c] / 0.5);
        assert!((ours - (raw - mean) / std).abs() < 1e-5, "{i}: {ours} {raw}");
    }
    let decoded = vae.decode(&latent)?;
    assert_eq!(decoded.dims(), pixels.dims());
    assert_close(&decoded.squeeze(0)?, &vae.decode_unscaled(&sample)?, 1e-4)?;
    Ok(())
}

/// Clips that were encoded once are trained on later, by a program without weights of the autoencoder.
#[test]
fn moments_and_the_configuration_give_the_latents_of_encoding_bit_for_bit() -> Result<()> {
    let mut config = config();
    (config.scaling_factor, config.latents_mean) = (0.18215, Some(vec![0.1, 0.2, 0.3, 0.4]));
    let vae = AutoencoderKl::new(config.clone(), &parameters()?, Precision::F32)?;
    let pixels = pseudo_random(&[2, 3, 3, 8, 12], 4)?;
    let (space, moments) = (config.latent_space()?, vae.clip_moments(&pixels)?);
    assert_eq!((moments.dims(), space.moment_channels()), ([2, 3, 8, 2, 3].as_slice(), 8));
    let bits =
        |t: &Tensor| -> Result<Vec<u32>> { Ok(t.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect()) };
    let encoded = vae.encode(&pixels, &mut TorchRng::new(6))?;
    assert_eq!(bits(&space.latents(&moments, Posterior::Sample, &mut TorchRng::new(6))?)?, bits(&encoded)?);
    assert_ne!(bits(&space.latents(&moments, Posterior::Sample, &mut TorchRng::new(7))?)?, bits(&encoded)?);
    // The mean does not use the generator.
    let mut rng = TorchRng::new(6);
    let mean = space.latents(&moments, Posterior::Mean, &mut rng)?;
    assert_eq!(rng, TorchRng::new(6));
    assert_close(&space.unscaled(&mean)?.flatten(0, 1)?, &moments.flatten(0, 1)?.narrow(1, 0, 4)?, 1e-6)?;
    Ok(())
}

#[test]
fn a_single_file_is_opened_with_the_configuration_beside_it_or_that_of_stable_diffusion() -> Result<()> {
    let io = |source| Error::Io { path: "test".into(), source };
    let dir = tempfile::tempdir().map_err(io)?;
    let file = dir.path().join("vae.safetensors");
    // As training programs store it: everything in a `state_dict`, by the names of the original code where they differ.
    let inside: Parameters = parameters()?.iter().map(|(name, tensor)| (format!("state_dict.{name}"), tensor.clone())).collect();
    latte_model::weights::save(&file, &inside, None)?;
    let latent = pseudo_random(&[1, 4, 3, 4], 1)?;
    let message = AutoencoderKl::open(&file, Precision::F32).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains("vae.safetensors") && message.contains("should be [512] but is [12]"), "{message}");
    let written = serde_json::to_string(&config()).map_err(|e| io(e.into()))?;
    std::fs::write(dir.path().join("config.json"), written).map_err(io)?;
    for path in [file.as_path(), dir.path()] {
        let decoded = AutoencoderKl::open(path, Precision::F32)?.decode_unscaled(&latent)?;
        assert_close(&decoded, &kl()?.decode_unscaled(&latent)?, 0.0)?;
    }
    // A whole Stable Diffusion model in one file, as its training program and as other programs store it.
    let whole = |outer: &str, more: &[&str], vae: &str| -> Result<Parameters> {
        let named = |(name, tensor): (&str, &Value)| (format!("{outer}{vae}{name}"), tensor.clone());
        let mut whole: Parameters = parameters()?.iter().map(named).collect();
        for name in more {
            whole.insert(format!("{outer}{name}"), pseudo_random(&[4], 1)?);
        }
        Ok(whole)
    };
    let others = ["model.diffusion_model.out.2.bias", "cond_stage_model.ln_final.bias", "model_ema.decay"];
    for outer in ["state_dict.", ""] {
        latte_model::weights::save(&file, &whole(outer, &others, "first_stage_model.")?, None)?;
        let decoded = AutoencoderKl::open(&file, Precision::F32)?.decode_unscaled(&latent)?;
        assert_close(&decoded, &kl()?.decode_unscaled(&latent)?, 0.0)?;
    }
    let refused = |file: &Path| AutoencoderKl::open(file, Precision::F32).err().map(|e| e.to_string()).unwrap_or_default();
    let without: Parameters =
        others.iter().map(|name| Ok(((*name).to_string(), pseudo_random(&[4], 1)?))).collect::<Result<_>>()?;
    latte_model::weights::save(&file, &without, None)?;
    assert!(refused(&file).contains("a Stable Diffusion model in one file, but without its autoencoder"), "{}", refused(&file));
    let dit = ["x_embedder.proj.weight", "blocks.0.attn.qkv.weight"];
    let dit: Parameters = dit.iter().map(|name| Ok(((*name).to_string(), pseudo_random(&[4], 1)?))).collect::<Result<_>>()?;
    latte_model::weights::save(&file, &dit, None)?;
    assert!(refused(&file).contains("holds an image DiT; expected an autoencoder"), "{}", refused(&file));
    // The scale of XL's latents differs from the one that is assumed for a file without a configuration.
    let alone = tempfile::tempdir().map_err(io)?;
    let xl = alone.path().join("xl.safetensors");
    latte_model::weights::save(&xl, &whole("", &["conditioner.embedders.0.a"], "first_stage_model.")?, None)?;
    assert!(refused(&xl).contains("Stable Diffusion XL") && refused(&xl).contains("config.json"), "{}", refused(&xl));
    assert_eq!(KlConfig::at(dir.path())?, config());
    assert!(matches!(KlConfig::at(&dir.path().join("none")), Err(Error::Io { .. })));
    Ok(())
}

#[test]
fn a_clip_is_decoded_as_a_whole_unless_chunks_are_asked_for() -> Result<()> {
    let latent = pseudo_random(&[7, 4, 3, 5], 1)?;
    let whole = temporal()?.decode_unscaled(&latent)?;
    assert_eq!(whole.dims(), [7, 3, 6, 10]);
    assert_close(&temporal()?.with_chunks(7)?.decode_unscaled(&latent)?, &whole, 0.0)?;
    let chunks = temporal()?.with_chunks(5)?.decode_unscaled(&latent)?;
    assert_close(&chunks.narrow(0, 5, 2)?, &temporal()?.decode_unscaled(&latent.narrow(0, 5, 2)?)?, 0.0)?;
    // This is why the whole clip is the default: the frames outside a chunk change every frame in it.
    for frame in 0..7 {
        assert!(distance(&chunks.narrow(0, frame, 1)?, &whole.narrow(0, frame, 1)?)? > 1e-3, "frame {frame}");
    }
    assert!(temporal()?.with_chunks(0).is_err());
    // Clips of a batch do not affect each other.
    let batch = Tensor::stack(&[&latent, &(&latent * 2.0)?], 0)?;
    let decoded = temporal()?.decode(&(batch * 0.18215)?)?;
    assert_close(&decoded.get(0)?, &whole, 1e-4)?;
    let latent = temporal()?.encode(&pseudo_random(&[2, 3, 3, 4, 6], 1)?, &mut TorchRng::new(1))?;
    assert_eq!(latent.dims(), [2, 3, 4, 2, 3]);
    Ok(())
}

/// The parameters under other names.
fn renamed(rename: impl Fn(&str) -> String) -> Result<Parameters> {
    Ok(parameters()?.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect())
}

#[test]
fn names_of_older_files_are_known() -> Result<()> {
    let latent = pseudo_random(&[1, 4, 3, 4], 1)?;
    let expected = kl()?.decode_unscaled(&latent)?;
    let mut old = Parameters::new();
    for (name, tensor) in &renamed(|name| {
        let pairs = [(".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")];
        pairs.iter().fold(name.to_string(), |name, (new, old)| name.replace(new, old))
    })?
    .iter()
    .collect::<Vec<_>>()
    {
        // Attention as convolutions of 1 × 1.
        let tensor = if name.contains(".attentions.") && tensor.dims().len() == 2 {
            tensor.to_host()?.unsqueeze(2)?.unsqueeze(3)?
        } else {
            tensor.to_host()?
        };
        old.insert(*name, tensor);
    }
    assert!(old.contains("decoder.mid_block.attentions.0.proj_attn.weight"));
    let vae = AutoencoderKl::new(config(), &old, Precision::F32)?;
    assert_close(&vae.decode_unscaled(&latent)?, &expected, 0.0)?;

    // A file of a whole Stable Diffusion model, by the names of the original code.
    let pairs = [
        ("decoder.up_blocks.0.", "decoder.up.2."),
        ("decoder.up_blocks.1.", "decoder.up.1."),
        ("decoder.up_blocks.2.", "decoder.up.0."),
        ("down_blocks.", "down."),
        ("mid_block.resnets.0", "mid.block_1"),
        ("mid_block.resnets.1", "mid.block_2"),
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
        ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
        ("mid_block.attentions.0.to_", "mid.attn_1."),
        ("resnets", "block"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
        ("downsamplers.0", "downsample"),
        ("upsamplers.0", "upsample"),
    ];
    let mut original = renamed(|name| {
        format!("first_stage_model.{}", pairs.iter().fold(name.to_string(), |name, (new, old)| name.replace(new, old)))
    })?;
    original.insert("model.diffusion_model.out.2.bias", pseudo_random(&[4], 1)?);
    let vae = AutoencoderKl::new(config(), &original, Precision::F32)?;
    assert_close(&vae.decode_unscaled(&latent)?, &expected, 0.0)?;
    Ok(())
}

#[test]
fn every_tensor_that_does_not_fit_is_listed() -> Result<()> {
    let mut parameters = parameters()?;
    parameters.remove("quant_conv.bias");
    parameters.insert("decoder.conv_in.weight", pseudo_random(&[12, 4, 1, 1], 1)?);
    parameters.insert("decoder.extra", pseudo_random(&[1], 1)?);
    let error = |source: &Parameters| AutoencoderKl::new(config(), source, Precision::F32).err().map(|e| e.to_string());
    let message = error(&parameters).unwrap_or_default();
    for part in [
        "`quant_conv.bias` is missing",
        "`decoder.conv_in.weight` should be [12, 4, 3, 3] but is [12, 4, 1, 1]",
        "`decoder.extra` is not known",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let message = error(&Parameters::new()).unwrap_or_default();
    assert!(message.contains("more;") && message.contains("config.json"), "{message}");
    Ok(())
}

#[test]
fn shapes_that_do_not_fit_are_refused() -> Result<()> {
    let (vae, clip_vae) = (kl()?, temporal()?);
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu);
    let refused = |result: Result<Tensor>| matches!(result, Err(Error::Shape { .. }));
    for shape in [[1, 3, 8, 10], [1, 4, 8, 8], [0, 3, 8, 8], [1, 3, 0, 8]] {
        assert!(refused(vae.moments(&zeros(&shape)?)), "{shape:?}");
    }
    for shape in [[1, 3, 2, 2], [0, 4, 2, 2], [1, 4, 2, 0]] {
        assert!(refused(vae.decode_unscaled(&zeros(&shape)?)), "{shape:?}");
        assert!(refused(clip_vae.decode_unscaled(&zeros(&shape)?)), "{shape:?}");
    }
    assert!(refused(vae.decode(&zeros(&[4, 2, 2])?)) && refused(clip_vae.decode(&zeros(&[0, 1, 4, 2, 2])?)));
    assert!(refused(clip_vae.moments(&zeros(&[1, 3, 3, 4])?)));
    let space = vae.space();
    assert_eq!((space.channels(), space.downsample_factor(), space.latent_shape(2, 8, 16)?), (4, 4, [2, 4, 2, 4]));
    assert!(space.latent_shape(2, 8, 18).is_err());
    assert!(refused(space.latents(&zeros(&[1, 2, 4, 2, 2])?, Posterior::Mean, &mut TorchRng::new(0))));
    Ok(())
}
