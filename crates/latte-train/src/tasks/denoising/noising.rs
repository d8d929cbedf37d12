//! The random part of an optimiser step: diffusion times, noise, dropped conditions.
//!
//! Everything is drawn for the whole step before it is split into passes, so 4 passes (`gradient_accumulation_steps`) of 2 clips
//! get the same noise as one pass of 8.

use candle_core::{DType, Device, Tensor};
use latte_model::diffusion::TimestepSampler;
use latte_model::noise::TorchRng;

use super::step::{Condition, MicroBatch};
use crate::error::Result;

/// The clips of one optimiser step, before times, noise and dropped conditions are drawn.
#[derive(Debug, Clone)]
pub(crate) struct Clips<C> {
    /// `[clips, f + images, c, h, w]`.
    pub(crate) latents: Tensor,
    /// The number of single images after the frames of each clip.
    pub(crate) num_images: usize,
    /// The condition of the network, such as labels.
    pub(crate) condition: C,
}

/// The keys of `[train]` about drawing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrawRules {
    /// Clips of one pass.
    pub(crate) batch_size: usize,
    /// The standard deviation of offset noise; 0 for independent noise.
    pub(crate) offset_noise: f64,
}

/// Draws times and noise for the clips of one optimiser step, lets `drop` draw the dropped conditions, and splits all into passes.
pub(crate) fn draw<C: Condition>(
    clips: Clips<C>,
    rules: DrawRules,
    timesteps: &TimestepSampler,
    drop: &dyn Fn(C, &mut TorchRng) -> Result<C>,
    rng: &mut TorchRng,
) -> Result<Vec<MicroBatch<C>>> {
    let DrawRules { batch_size, offset_noise } = rules;
    let Clips { latents, num_images, condition } = clips;
    let clips = latents.dim(0)?;
    // The order of the reference: times, noise, then inside the network the dropped conditions.
    let times = timesteps.sample(rng, clips)?;
    let noise = rng.randn(latents.shape())?.to_device(latents.device())?;
    let condition = drop(condition, rng)?;
    // Drawn last, and only if it is on, so that all other draws stay the same.
    let noise = if offset_noise > 0.0 { shift(&noise, num_images, offset_noise, rng)? } else { noise };
    let uniform = times.weights.iter().all(|&w| w == 1.0);
    let mut batches = Vec::new();
    for start in (0..clips).step_by(batch_size) {
        let length = batch_size.min(clips - start);
        let range = start..start + length;
        batches.push(MicroBatch {
            latents: latents.narrow(0, start, length)?.contiguous()?, // [b, f + images, c, h, w]
            noise: noise.narrow(0, start, length)?.contiguous()?,
            timesteps: times.timesteps[range.clone()].to_vec(),
            num_images,
            condition: condition.of_clips(range.clone(), num_images)?,
            loss_weights: (!uniform).then(|| times.weights[range].to_vec()),
        });
    }
    Ok(batches)
}

/// Offset noise: shifts the noise of a whole clip by one value per channel, `strength` times a standard normal one, so that the
/// network also learns to change a clip's mean colour. All frames of a clip get the same shift, because a shift per frame would
/// flicker; a single image gets its own.
fn shift(noise: &Tensor, num_images: usize, strength: f64, rng: &mut TorchRng) -> Result<Tensor> {
    let (clips, all, channels, _, _) = noise.dims5()?;
    let shifts = rng.randn((clips, 1 + num_images, channels, 1, 1))?; // [b, 1 + images, c, 1, 1]
    // Frames and images to shifts: the frames of a clip use the first shift, each image its own.
    let frames = all - num_images;
    let of_picture: Vec<u32> = (0..all).map(|i| (i + 1).saturating_sub(frames) as u32).collect();
    let shifts = shifts.index_select(&Tensor::new(of_picture, &Device::Cpu)?, 1)?; // [b, f + images, c, 1, 1]
    let shifts = (shifts * strength)?.to_dtype(DType::F32)?.to_device(noise.device())?;
    Ok(noise.broadcast_add(&shifts)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use latte_model::diffusion::TimestepSampling;

    use latte_model::model::LatteConfig;

    use super::*;
    use crate::tasks::class::labels::Labels;

    fn model(dropout: f64) -> LatteConfig {
        LatteConfig {
            condition: latte_model::model::Condition::Class { num_classes: 7, dropout },
            ..LatteConfig::preset("S/8").unwrap()
        }
    }

    fn draw_in(batch_size: usize, seed: u64) -> Vec<MicroBatch<Labels>> {
        draw_with(DrawRules { batch_size, offset_noise: 0.0 }, seed)
    }

    fn draw_with(rules: DrawRules, seed: u64) -> Vec<MicroBatch<Labels>> {
        let latents = Tensor::zeros((8, 2 + 3, 3, 4, 4), DType::F32, &Device::Cpu).unwrap();
        let times = TimestepSampler::new(TimestepSampling::Uniform, 1000);
        let labels = |count: u32| Some((0..count).map(|i| i % 7).collect());
        let condition = Labels { of_clips: labels(8), of_images: labels(8 * 3) };
        let model = model(0.3);
        let drop = |labels: Labels, rng: &mut TorchRng| Ok(labels.dropped(&model, rng));
        draw(Clips { latents, num_images: 3, condition }, rules, &times, &drop, &mut TorchRng::new(seed)).unwrap()
    }

    type Flat = (Vec<f32>, Vec<usize>, Vec<u32>, Vec<u32>);

    fn flat(batches: &[MicroBatch<Labels>]) -> Flat {
        let mut all: Flat = Default::default();
        for batch in batches {
            all.0.extend(batch.noise.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            all.1.extend(&batch.timesteps);
            all.2.extend(batch.condition.of_clips.as_ref().unwrap());
            all.3.extend(batch.condition.of_images.as_ref().unwrap());
        }
        all
    }

    #[test]
    fn the_cut_into_passes_changes_nothing_that_is_drawn() {
        let (one, four) = (draw_in(8, 1), draw_in(2, 1));
        assert_eq!((one.len(), four.len()), (1, 4));
        assert_eq!(flat(&one), flat(&four));
        assert_ne!(flat(&one), flat(&draw_in(8, 2)));
    }

    /// The shift that the option adds to the noise: `[clips][frames and images][channels]`, after a check that it is constant per
    /// channel.
    fn shifts(batch_size: usize, strength: f64) -> Vec<Vec<Vec<f32>>> {
        let unshifted = draw_in(batch_size, 1);
        let shifted = draw_with(DrawRules { batch_size, offset_noise: strength }, 1);
        let (unshifted, shifted) = (flat(&unshifted), flat(&shifted));
        assert_eq!(
            (&unshifted.1, &unshifted.2, &unshifted.3),
            (&shifted.1, &shifted.2, &shifted.3),
            "times and labels stay as they were"
        );
        let added: Vec<f32> = unshifted.0.iter().zip(&shifted.0).map(|(a, b)| b - a).collect();
        let of_channel = |area: &[f32]| {
            assert!(area.iter().all(|v| (v - area[0]).abs() < 1e-5), "{area:?}");
            area[0]
        };
        added
            .chunks(5 * 3 * 16)
            .map(|clip| clip.chunks(3 * 16).map(|p| p.chunks(16).map(of_channel).collect()).collect())
            .collect()
    }

    #[test]
    fn offset_noise_shifts_a_clip_as_a_whole_and_each_image_by_itself() {
        let shifts = shifts(2, 0.5);
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        let mut squares = 0.0;
        for clip in &shifts {
            assert!(near(&clip[0], &clip[1]), "the frames of a clip shift together: {clip:?}");
            for (i, j) in [(1, 2), (1, 3), (2, 3), (3, 4)] {
                assert!(!near(&clip[i], &clip[j]), "images and clip shift apart: {clip:?}");
            }
            squares += clip[1..].iter().flatten().map(|v| v * v).sum::<f32>();
        }
        assert!(!near(&shifts[0][0], &shifts[1][0]), "clips shift apart");
        // 8 clips × 4 frames and images × 3 channels with standard deviation 0.5.
        let deviation = (squares / 96.0).sqrt();
        assert!((0.38..0.62).contains(&deviation), "{deviation}");
        assert_eq!(self::shifts(8, 0.5).concat().len(), shifts.concat().len());
        assert!(self::shifts(8, 0.5).concat().iter().zip(shifts.concat()).all(|(a, b)| near(a, &b)), "passes change nothing");
    }
}
