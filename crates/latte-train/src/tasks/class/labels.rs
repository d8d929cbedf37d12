//! The class labels of clips and of single images, the network's condition.

use std::ops::Range;

use latte_model::model::{Condition as ModelCondition, Input, Latte, LatteConfig};
use latte_model::noise::TorchRng;
use latte_ops::{Parameters, Tape, Var};

use crate::error::Result;
use crate::tasks::denoising::step::{Condition, Network, Noisy};

/// The classes of the clips of a pass, and of their single images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// One label per clip, dropped ones already replaced by the null label; `None` without classes.
    pub of_clips: Option<Vec<u32>>,
    /// One label per image of each clip, likewise; `None` without classes or images.
    pub of_images: Option<Vec<u32>>,
}

impl Labels {
    /// Replaces labels by the null label with the probability that `model` has: first those of clips, then those of images, as in the
    /// reference.
    pub(crate) fn dropped(self, model: &LatteConfig, rng: &mut TorchRng) -> Self {
        let of_clips = self.of_clips.map(|labels| drop_labels(labels, model, rng));
        Self { of_clips, of_images: self.of_images.map(|labels| drop_labels(labels, model, rng)) }
    }
}

impl Condition for Labels {
    fn of_clips(&self, clips: Range<usize>, num_images: usize) -> Result<Self> {
        let part = |labels: &Option<Vec<u32>>, each: usize| {
            labels.as_ref().map(|labels| labels[clips.start * each..clips.end * each].to_vec())
        };
        Ok(Self { of_clips: part(&self.of_clips, 1), of_images: part(&self.of_images, num_images) })
    }
}

impl Network for Latte {
    type Condition = Labels;

    fn predict<'a>(
        &'a self,
        tape: &Tape<'a>,
        weights: &'a Parameters,
        noisy: Noisy<'_>,
        condition: &Labels,
    ) -> latte_model::Result<Var> {
        let Noisy { x, timesteps, num_images } = noisy;
        let (labels, image_labels) = (condition.of_clips.as_deref(), condition.of_images.as_deref());
        self.forward(tape, weights, &Input { labels, image_labels, num_images, ..Input::new(x, timesteps) })
    }
}

fn drop_labels(mut labels: Vec<u32>, model: &LatteConfig, rng: &mut TorchRng) -> Vec<u32> {
    if let (Some(null), ModelCondition::Class { dropout, .. }) = (model.null_label(), model.condition) {
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
    use super::*;

    #[test]
    fn labels_are_dropped_about_as_often_as_asked() {
        let labels = vec![3; 4000];
        let dropped = |dropout| {
            let condition = ModelCondition::Class { num_classes: 7, dropout };
            let model = LatteConfig { condition, ..LatteConfig::preset("S/8").unwrap() };
            let after = drop_labels(labels.clone(), &model, &mut TorchRng::new(5));
            assert!(after.iter().all(|&l| l == 3 || l == 7));
            after.iter().filter(|&&l| l == 7).count()
        };
        assert_eq!(dropped(0.0), 0);
        // 1200 ± 4 standard deviations of a binomial distribution.
        assert!((1084..=1316).contains(&dropped(0.3)), "{}", dropped(0.3));
    }
}
