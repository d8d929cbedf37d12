//! What chance decides about an optimiser step: diffusion times, noise, dropped labels.
//!
//! Everything is drawn for the whole step before it is cut into passes, so `accumulate = 4, batch_size = 2` sees the same
//! noise as `accumulate = 1, batch_size = 8`.

use candle_core::Tensor;
use latte::diffusion::TimestepSampler;
use latte::model::{Condition, LatteConfig};
use latte::noise::TorchRng;

use crate::error::Result;
use crate::step::MicroBatch;

/// The clips of one optimiser step before chance has its say.
#[derive(Debug, Clone)]
pub(crate) struct Clips {
    /// `[clips, f + images, c, h, w]`.
    pub(crate) latents: Tensor,
    /// One for each clip; `None` without classes.
    pub(crate) labels: Option<Vec<u32>>,
    /// How many single images stand behind the frames of each clip.
    pub(crate) num_images: usize,
    /// One for each image of each clip; `None` without classes or images.
    pub(crate) image_labels: Option<Vec<u32>>,
}

/// Decides times, noise and dropped labels for the clips of one optimiser step, and cuts them into passes of `batch_size`.
pub(crate) fn draw(
    clips: Clips,
    batch_size: usize,
    model: &LatteConfig,
    timesteps: &TimestepSampler,
    rng: &mut TorchRng,
) -> Result<Vec<MicroBatch>> {
    let Clips { latents, labels, num_images, image_labels } = clips;
    let clips = latents.dim(0)?;
    // The order of the reference: times, noise, and labels inside the network, those of clips before those of images.
    let times = timesteps.sample(rng, clips)?;
    let noise = rng.randn(latents.shape())?.to_device(latents.device())?;
    let labels = labels.map(|labels| drop_labels(labels, model, rng));
    let image_labels = image_labels.map(|labels| drop_labels(labels, model, rng));
    let uniform = times.weights.iter().all(|&w| w == 1.0);
    let mut batches = Vec::new();
    for start in (0..clips).step_by(batch_size) {
        let length = batch_size.min(clips - start);
        let range = start..start + length;
        batches.push(MicroBatch {
            latents: latents.narrow(0, start, length)?.contiguous()?, // [b, f + images, c, h, w]
            noise: noise.narrow(0, start, length)?.contiguous()?,
            timesteps: times.timesteps[range.clone()].to_vec(),
            labels: labels.as_ref().map(|labels| labels[range.clone()].to_vec()),
            num_images,
            image_labels: image_labels.as_ref().map(|labels| labels[start * num_images..(start + length) * num_images].to_vec()),
            loss_weights: (!uniform).then(|| times.weights[range].to_vec()),
        });
    }
    Ok(batches)
}

fn drop_labels(mut labels: Vec<u32>, model: &LatteConfig, rng: &mut TorchRng) -> Vec<u32> {
    if let (Some(null), Condition::Class { dropout, .. }) = (model.null_label(), model.condition) {
        let chances = rng.rand_f32(labels.len());
        for (label, chance) in labels.iter_mut().zip(chances) {
            if f64::from(chance) < dropout {
                *label = null;
            }
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use latte::diffusion::TimestepSampling;

    use super::*;

    fn model(dropout: f64) -> LatteConfig {
        LatteConfig { condition: Condition::Class { num_classes: 7, dropout }, ..LatteConfig::preset("S/8").unwrap() }
    }

    fn draw_in(batch_size: usize, seed: u64) -> Vec<MicroBatch> {
        let latents = Tensor::zeros((8, 2 + 3, 3, 4, 4), DType::F32, &Device::Cpu).unwrap();
        let times = TimestepSampler::new(TimestepSampling::Uniform, 1000);
        let labels = |count: u32| Some((0..count).map(|i| i % 7).collect());
        let clips = Clips { latents, labels: labels(8), num_images: 3, image_labels: labels(8 * 3) };
        draw(clips, batch_size, &model(0.3), &times, &mut TorchRng::new(seed)).unwrap()
    }

    type Flat = (Vec<f32>, Vec<usize>, Vec<u32>, Vec<u32>);

    fn flat(batches: &[MicroBatch]) -> Flat {
        let mut all: Flat = Default::default();
        for batch in batches {
            all.0.extend(batch.noise.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            all.1.extend(&batch.timesteps);
            all.2.extend(batch.labels.as_ref().unwrap());
            all.3.extend(batch.image_labels.as_ref().unwrap());
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

    #[test]
    fn labels_are_dropped_about_as_often_as_asked() {
        let labels = vec![3; 4000];
        let dropped = |p| {
            let after = drop_labels(labels.clone(), &model(p), &mut TorchRng::new(5));
            assert!(after.iter().all(|&l| l == 3 || l == 7));
            after.iter().filter(|&&l| l == 7).count()
        };
        assert_eq!(dropped(0.0), 0);
        // 1200 ± 4 standard deviations of a binomial distribution.
        assert!((1084..=1316).contains(&dropped(0.3)), "{}", dropped(0.3));
    }
}
