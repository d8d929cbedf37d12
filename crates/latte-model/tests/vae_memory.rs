//! The memory figures in the autoencoders' documentation, for clips of 16 frames.
//!
//! The program's allocator counts the blocks in use of the whole process: therefore this is a single test in its own program.

use candle_core::Tensor;
use latte_model::Result;
use latte_model::layers::ParameterSpec;
use latte_model::vae::{AutoencoderKl, AutoencoderKlTemporalDecoder, KlConfig, TemporalDecoderConfig, Tiling};
use latte_ops::finite_difference::{assert_close, pseudo_random};
use latte_ops::{CachingAllocator, Parameters, Precision};

#[global_allocator]
static ALLOCATOR: CachingAllocator = CachingAllocator::new();

/// Frames of a clip.
const FRAMES: usize = 16;
/// Small tensors: latents, weights, scratch memory of tasks.
const SLACK: usize = 6 << 20;

/// Bytes of a tensor of f32.
fn bytes(shape: &[usize]) -> usize {
    4 * shape.iter().product::<usize>()
}

/// Weights that keep the size of values.
fn random(tensors: &[ParameterSpec]) -> Result<Parameters> {
    let one = |(seed, ParameterSpec { name, shape, .. }): (usize, &ParameterSpec)| -> Result<(String, Tensor)> {
        let fan_in: usize = shape[1..].iter().product();
        let values = pseudo_random(shape, seed as u64 + 1)?;
        let values = if shape.len() == 1 { ((values * 0.2)? + 1.0)? } else { (values * (3.0 / fan_in as f64).sqrt())? };
        Ok((name.clone(), values))
    };
    tensors.iter().enumerate().map(one).collect()
}

/// An autoencoder with Stable Diffusion's four levels, but `channels` instead of 128 at the highest.
fn kl(channels: usize) -> Result<AutoencoderKl> {
    let config = KlConfig {
        block_out_channels: [1, 2, 2, 2].map(|times| times * channels).to_vec(),
        layers_per_block: 1,
        norm_num_groups: 8,
        ..KlConfig::stable_diffusion()
    };
    let weights = random(&AutoencoderKl::tensors(&config)?)?;
    AutoencoderKl::new(config, &weights, Precision::F32)
}

fn temporal(channels: usize) -> Result<AutoencoderKlTemporalDecoder> {
    let config = TemporalDecoderConfig {
        block_out_channels: [1, 2, 2, 2].map(|times| times * channels).to_vec(),
        layers_per_block: 1,
        ..TemporalDecoderConfig::stable_video_diffusion()
    };
    let weights = random(&AutoencoderKlTemporalDecoder::tensors(&config)?)?;
    AutoencoderKlTemporalDecoder::new(config, &weights, Precision::F32)
}

/// The result of `run`. Checks that the peak memory is between these bounds.
fn within<T>(what: &str, bounds: [usize; 2], run: impl FnOnce() -> Result<T>) -> Result<T> {
    ALLOCATOR.forget();
    let result = run()?;
    let (peak, [least, most]) = (ALLOCATOR.most_used() >> 20, bounds.map(|bytes| bytes >> 20));
    assert!((least..=most).contains(&peak), "{what}: {peak} MiB, expected {least} to {most}");
    Ok(result)
}

#[test]
fn memory_is_what_the_documentation_says() -> Result<()> {
    let (channels, side, tile) = (16, 512, 128);
    let latent = pseudo_random(&[FRAMES, 4, side / 8, side / 8], 1)?;
    // Half a tensor of the highest level, which has as many channels as the tensor from the level below.
    let half = bytes(&[channels, side, side]);
    let pixels = |frames| bytes(&[frames, 3, side, side]);

    // Tiles: the frame at half its height and width, and four tensors of a tile with its margin.
    let tiled = kl(channels)?.with_tiling(Tiling::new(tile)?);
    let halved = bytes(&[2 * channels, side / 2, side / 2]);
    let most = halved + 4 * bytes(&[2 * channels, tile + 16, tile + 16]) + 2 * pixels(2);
    assert!(most + SLACK < 4 * half, "without tiles it takes more");
    let few = within("tiles", [halved, most + SLACK], || tiled.decode_unscaled(&latent.narrow(0, 0, 2)?))?;

    // The temporal decoder: two tensors of the clip at the highest level, and four frames in progress.
    let (wide, low) = (32, 128);
    let clip = pseudo_random(&[FRAMES, 4, low / 8, low / 8], 2)?;
    let frame = bytes(&[wide, low, low]);
    let vae = temporal(wide)?;
    let most = (2 * FRAMES + 4) * frame + pixels(2);
    within("temporal", [2 * FRAMES * frame, most + SLACK], || vae.decode_unscaled(&clip))?;

    // Frame by frame: four halves, whatever the number of frames, and the pixels of all.
    let vae = kl(channels)?;
    let most = 4 * half + pixels(FRAMES) + pixels(2);
    let all = within("frame by frame", [4 * half + pixels(FRAMES - 1), most + SLACK], || vae.decode_unscaled(&latent))?;
    // Seams between tiles would show here.
    assert_close(&few, &all.narrow(0, 0, 2)?, 2e-5)?;
    Ok(())
}
