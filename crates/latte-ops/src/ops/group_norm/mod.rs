//! Group normalisation of channels-last images.
//!
//! For inference it comes in two halves. [`GroupNorm::sums`] goes over an image once; [`GroupNorm::normalisation`] turns the sums into one
//! factor and one shift per channel, which the convolution that follows applies, with SiLU, while it reads its input. So the
//! normalised image never exists. Sums of several images can be [merged](GroupSums::merge): statistics of a clip are those of
//! its frames together. [`recorded_group_norm`] is one operation, with gradients.

mod recorded;

use candle_core::Tensor;

pub use recorded::recorded_group_norm;

use crate::backend::cpu::slices::is_cpu_f32;
use crate::backend::{cpu::group_norm as cpu, reference::group_norm as reference};
use crate::{Error, Result};

/// The parameters of a group norm: `(x − mean)/√(variance + eps) · weight + bias`, where mean and variance are those of all
/// places and of the `c / groups` channels of a group.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    groups: usize,
    eps: f64,
}

/// Sums of the channels of `n` images, for their means and variances.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSums {
    /// Sum and sum of squares of each channel `[n, c]`.
    sums: Vec<[f64; 2]>,
    /// Places of each image.
    places: usize,
    images: usize,
}

/// What a group norm comes down to for given images: `(x − mean) · scale + bias` for each channel.
#[derive(Debug, Clone)]
pub struct Normalisation {
    /// `[n, c]`.
    pub(crate) mean: Vec<f32>,
    /// `[n, c]`.
    pub(crate) scale: Vec<f32>,
    /// `[c]`.
    pub(crate) bias: Vec<f32>,
    pub(crate) silu: bool,
}

impl GroupNorm {
    /// A norm of `weight` `[c]` and `bias` `[c]`.
    ///
    /// # Errors
    ///
    /// If the shapes differ, or `groups` does not divide `c`.
    pub fn new(weight: &Tensor, bias: &Tensor, groups: usize, eps: f64) -> Result<Self> {
        let fits = weight.rank() == 1 && weight.dims() == bias.dims() && groups > 0 && weight.elem_count().is_multiple_of(groups);
        if !fits || weight.elem_count() == 0 {
            let expected = format!("weight and bias [c], c a multiple of {groups} groups");
            return Err(Error::shape("group_norm", expected, (weight.dims(), bias.dims())));
        }
        Ok(Self { weight: weight.to_vec1()?, bias: bias.to_vec1()?, groups, eps })
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.weight.len()
    }

    /// The sums of `x` `[n, …, c]`, an image each.
    ///
    /// # Errors
    ///
    /// If the shape does not fit, or `x` is not f32.
    pub fn sums(&self, x: &Tensor) -> Result<GroupSums> {
        match x.dims() {
            &[images, .., c] if x.rank() > 2 && c == self.channels() && x.elem_count() > 0 => {
                let places = x.elem_count() / images / c;
                let sums = if is_cpu_f32(x) {
                    cpu::sums(&x.contiguous()?, places, c)?
                } else {
                    reference::sums(&x.reshape((images, places, c))?)?
                };
                Ok(GroupSums { sums, places, images })
            }
            other => Err(Error::shape("group_norm", format!("x [n, …, {}], not empty", self.channels()), other)),
        }
    }

    /// The factors for images of these sums, with SiLU behind them or without.
    ///
    /// # Errors
    ///
    /// If the sums are of another number of channels.
    pub fn normalisation(&self, sums: &GroupSums, silu: bool) -> Result<Normalisation> {
        let c = self.channels();
        if sums.sums.len() != sums.images * c {
            return Err(Error::shape("group_norm", format!("sums of {c} channels"), sums.sums.len() / sums.images.max(1)));
        }
        let mut normalisation = Normalisation { mean: Vec::new(), scale: Vec::new(), bias: self.bias.clone(), silu };
        let size = c / self.groups;
        let count = (sums.places * size) as f64;
        for image in sums.sums.chunks_exact(c) {
            for (sums, weight) in image.chunks_exact(size).zip(self.weight.chunks_exact(size)) {
                let [sum, squares] = sums.iter().fold([0.0, 0.0], |[a, b], [x, y]| [a + x, b + y]);
                let mean = sum / count;
                let inverse_std = 1.0 / ((squares / count - mean * mean).max(0.0) + self.eps).sqrt();
                normalisation.mean.extend(std::iter::repeat_n(mean as f32, size));
                normalisation.scale.extend(weight.iter().map(|&w| (f64::from(w) * inverse_std) as f32));
            }
        }
        Ok(normalisation)
    }

    /// [`sums`](Self::sums) and [`normalisation`](Self::normalisation) in one.
    ///
    /// # Errors
    ///
    /// As those.
    pub fn of(&self, x: &Tensor, silu: bool) -> Result<Normalisation> {
        self.normalisation(&self.sums(x)?, silu)
    }
}

impl GroupSums {
    /// Sums of one image that consists of the images of all `parts`, for statistics over them together.
    ///
    /// # Errors
    ///
    /// If there is none, or they have different numbers of channels.
    pub fn merge(parts: &[Self]) -> Result<Self> {
        let channels = |part: &Self| part.sums.len() / part.images.max(1);
        let c = parts.first().map_or(0, channels);
        if c == 0 || parts.iter().any(|part| channels(part) != c) {
            return Err(Error::shape(
                "group_norm",
                "sums of equally many channels",
                parts.iter().map(channels).collect::<Vec<_>>(),
            ));
        }
        let mut total = Self { sums: vec![[0.0; 2]; c], places: 0, images: 1 };
        for part in parts {
            total.places += part.places * part.images;
            for image in part.sums.chunks_exact(c) {
                for (t, v) in total.sums.iter_mut().zip(image) {
                    *t = [t[0] + v[0], t[1] + v[1]];
                }
            }
        }
        Ok(total)
    }
}

impl Normalisation {
    /// How many channels there are.
    pub(crate) fn channels(&self) -> usize {
        self.bias.len()
    }

    /// `x` `[n, …, c]` normalised, and activated if that is asked for, on the device of `x`.
    pub(crate) fn apply(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (n, c, device) = (self.images(), self.channels(), x.device());
        let vectors = |values: &[f32]| Tensor::from_slice(values, (n, 1, c), device);
        let y = x.reshape((n, (), c))?.broadcast_sub(&vectors(&self.mean)?)?.broadcast_mul(&vectors(&self.scale)?)?;
        let y = y.broadcast_add(&Tensor::from_slice(&self.bias, c, device)?)?.reshape(x.dims())?;
        if self.silu { y.silu() } else { Ok(y) }
    }

    /// How many images there are.
    pub(crate) fn images(&self) -> usize {
        self.mean.len() / self.channels()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use proptest::prelude::*;

    use super::*;
    use crate::backend::cpu::instruction_set::tests::with_each;
    use crate::finite_difference::{assert_close, pseudo_random};

    /// The normalised image, which no convolution reads here.
    fn apply(n: &Normalisation, x: &Tensor) -> Result<Tensor> {
        let c = n.channels();
        let places = x.elem_count() / n.images() / c;
        let mut values = x.flatten_all()?.to_vec1::<f32>()?;
        for (i, v) in values.iter_mut().enumerate() {
            let at = i / c / places * c + i % c;
            *v = (*v - n.mean[at]) * n.scale[at] + n.bias[i % c];
            if n.silu {
                *v /= 1.0 + (-*v).exp();
            }
        }
        Ok(Tensor::from_vec(values, x.dims(), x.device())?)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn agrees_with_the_reference(
            (images, h, w) in (1usize..3, 1usize..60, 1usize..40), (groups, size) in (1usize..5, 1usize..9),
            silu in any::<bool>(), offset in -30f64..30., seed in any::<u64>(),
        ) {
            let run = || -> Result<()> {
                let c = groups * size;
                let x = (pseudo_random(&[images, h, w, c], seed)? + offset)?;
                let (weight, bias) = (pseudo_random(&[c], seed ^ 1)?, pseudo_random(&[c], seed ^ 2)?);
                // A tiny variance takes as much of the difference from a large mean as f32 has.
                let norm = GroupNorm::new(&weight, &bias, groups, 1e-2)?;
                let expected = reference::forward(&x, &weight, &bias, groups, 1e-2, silu)?;
                assert_close(&apply(&norm.of(&x, silu)?, &x)?, &expected, 1e-4)?;
                // Over all images together: as if they were one.
                let parts = (0..images).map(|i| norm.sums(&x.narrow(0, i, 1)?)).collect::<Result<Vec<_>>>()?;
                let together = norm.normalisation(&GroupSums::merge(&parts)?, silu)?;
                let one = x.reshape((1, images * h, w, c))?;
                let expected = reference::forward(&one, &weight, &bias, groups, 1e-2, silu)?;
                assert_close(&apply(&together, &one)?, &expected, 1e-4)
            };
            for (set, result) in with_each(|set| (set, run())) {
                prop_assert!(result.is_ok(), "{set}: {result:?}");
            }
        }
    }

    #[test]
    fn a_large_mean_costs_no_digits_of_the_variance() -> Result<()> {
        // 1000 ± 1: in f32, sums of squares would have lost the variance of 1.
        let values: Vec<f32> = (0..20_000).map(|i| if i % 2 == 0 { 999.0 } else { 1001.0 }).collect();
        let x = Tensor::from_vec(values, (1, 100, 200, 1), &Device::Cpu)?;
        let one = Tensor::ones(1, DType::F32, &Device::Cpu)?;
        for n in with_each(|_| GroupNorm::new(&one, &one, 1, 0.0)?.of(&x, false)) {
            let n = n?;
            assert!((n.mean[0] - 1000.0).abs() < 1e-3 && (n.scale[0] - 1.0).abs() < 1e-6, "{n:?}");
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        let six = pseudo_random(&[6], 1)?;
        assert!(GroupNorm::new(&six, &six, 4, 1e-6).is_err() && GroupNorm::new(&six, &six, 0, 1e-6).is_err());
        assert!(GroupNorm::new(&six, &pseudo_random(&[5], 1)?, 1, 1e-6).is_err());
        let norm = GroupNorm::new(&six, &six, 3, 1e-6)?;
        assert!(norm.of(&pseudo_random(&[1, 2, 2, 5], 1)?, true).is_err());
        let three = GroupNorm::new(&pseudo_random(&[3], 1)?, &pseudo_random(&[3], 1)?, 3, 1e-6)?;
        let sums = three.sums(&pseudo_random(&[1, 2, 2, 3], 1)?)?;
        assert!(norm.normalisation(&sums, true).is_err());
        assert!(GroupSums::merge(&[]).is_err());
        assert!(GroupSums::merge(&[sums, norm.sums(&pseudo_random(&[1, 2, 2, 6], 1)?)?]).is_err());
        Ok(())
    }
}
