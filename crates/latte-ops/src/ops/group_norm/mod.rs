//! Group normalisation of channels-last images.
//!
//! [`group_norm`] is one operation. On a tape that does not record it also comes in two halves: [`GroupNorm::sums`] reads an image
//! once; [`GroupNorm::normalisation`] turns the sums into one factor and one shift per channel. The convolution that follows
//! applies them, with SiLU, while it reads its input, so the normalised image is never in memory. Sums of several images can be
//! [merged](GroupSums::merge): the statistics of a clip are those of all its frames together.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::{Error, Result, Tape, Value, Var, backend};

/// A group norm: `(x − mean)/√(variance + eps) · weight + bias`, with mean and variance over all pixels and the `c / groups`
/// channels of a group.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// Weight and bias on the tape.
    parameters: [Var; 2],
    values: Arc<Parts>,
    groups: usize,
    eps: f64,
}

/// Weight and bias as f32 values.
#[derive(Debug)]
struct Parts {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Sums over the pixels of each channel of `n` images, from which means and variances are computed.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSums {
    /// Sum and sum of squares of each channel `[n, c]`.
    sums: Vec<[f64; 2]>,
    /// The number of pixels of each image.
    places: usize,
    images: usize,
}

/// A group norm with the statistics of given images: `(x − mean) · scale + bias` for each channel.
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

/// Applies `norm` to `x`, and SiLU after it if `silu` is set.
///
/// # Shapes
///
/// `x` `[n, …, c]`, `n` images; gives the shape of `x`.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor is not f32.
pub fn group_norm(tape: &Tape<'_>, x: &Var, norm: &GroupNorm, silu: bool) -> Result<Var> {
    // Weight and bias need gradients, so they are applied separately from the statistics.
    let statistics = norm.statistics(&norm.sums(x)?, |_, inverse_std| inverse_std as f32)?;
    let call = Grouped { x: x.value(), norm, statistics, silu };
    let [weight, bias] = &norm.parameters;
    tape.record("group_norm", &[x, weight, bias], backend::of([x.value()]).group_norm(call)?)
}

/// The arguments of a group norm, checked.
#[derive(Debug)]
pub(crate) struct Grouped<'c> {
    pub(crate) x: &'c Value,
    norm: &'c GroupNorm,
    /// Mean and 1/√(variance + eps) of each image and channel: a normalisation with weight 1 and bias 0.
    pub(crate) statistics: Normalisation,
    pub(crate) silu: bool,
}

impl Grouped<'_> {
    pub(crate) fn weight(&self) -> &[f32] {
        &self.norm.values.weight
    }

    pub(crate) fn bias(&self) -> &[f32] {
        &self.norm.values.bias
    }

    pub(crate) fn groups(&self) -> usize {
        self.norm.groups
    }

    /// Weight and bias on their device.
    pub(crate) fn parameters(&self) -> [&Value; 2] {
        self.norm.parameters.each_ref().map(Var::value)
    }

    pub(crate) fn eps(&self) -> f64 {
        self.norm.eps
    }
}

impl GroupNorm {
    /// A norm with `weight` `[c]` and `bias` `[c]`.
    ///
    /// # Errors
    ///
    /// If the shapes differ, or `groups` does not divide `c`.
    pub fn new(weight: &Var, bias: &Var, groups: usize, eps: f64) -> Result<Self> {
        let fits = match *weight.dims() {
            [c] => c > 0 && weight.dims() == bias.dims() && groups > 0 && c.is_multiple_of(groups),
            _ => false,
        };
        if !fits {
            let expected = format!("weight and bias [c], c a multiple of {groups} groups");
            return Err(Error::shape("group_norm", expected, (weight.dims(), bias.dims())));
        }
        let values = Parts { weight: weight.to_host()?.to_vec1()?, bias: bias.to_host()?.to_vec1()? };
        Ok(Self { parameters: [weight.clone(), bias.clone()], values: Arc::new(values), groups, eps })
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.values.weight.len()
    }

    /// The sums of the channels of `x` `[n, …, c]`, `n` images. They have no gradient.
    ///
    /// # Errors
    ///
    /// If the shape does not fit, or `x` is not f32.
    pub fn sums(&self, x: &Var) -> Result<GroupSums> {
        match x.dims() {
            &[images, _, .., c] if x.dims().len() > 2 && c == self.channels() && x.value().elem_count() > 0 => {
                let places = x.value().elem_count() / images / c;
                let sums = backend::of([x.value()]).group_sums(x.value())?;
                Ok(GroupSums { sums, places, images })
            }
            other => Err(Error::shape("group_norm", format!("x [n, …, {}], not empty", self.channels()), other)),
        }
    }

    /// The normalisation for the images of `sums`, with SiLU after it if `silu` is set.
    ///
    /// # Errors
    ///
    /// If the sums have another number of channels.
    pub fn normalisation(&self, sums: &GroupSums, silu: bool) -> Result<Normalisation> {
        let factors = self.statistics(sums, |weight, inverse_std| (f64::from(weight) * inverse_std) as f32)?;
        Ok(Normalisation { bias: self.values.bias.clone(), silu, ..factors })
    }

    /// The mean of each image and channel, and `scale` of the weight and 1/√(variance + eps).
    fn statistics(&self, sums: &GroupSums, scale: impl Fn(f32, f64) -> f32) -> Result<Normalisation> {
        let c = self.channels();
        if sums.sums.len() != sums.images * c {
            return Err(Error::shape("group_norm", format!("sums of {c} channels"), sums.sums.len() / sums.images.max(1)));
        }
        let mut statistics = Normalisation { mean: Vec::new(), scale: Vec::new(), bias: vec![0.0; c], silu: false };
        let size = c / self.groups;
        let count = (sums.places * size) as f64;
        for image in sums.sums.chunks_exact(c) {
            for (sums, weight) in image.chunks_exact(size).zip(self.values.weight.chunks_exact(size)) {
                let [sum, squares] = sums.iter().fold([0.0, 0.0], |[a, b], [x, y]| [a + x, b + y]);
                let mean = sum / count;
                let inverse_std = 1.0 / ((squares / count - mean * mean).max(0.0) + self.eps).sqrt();
                statistics.mean.extend(std::iter::repeat_n(mean as f32, size));
                statistics.scale.extend(weight.iter().map(|&w| scale(w, inverse_std)));
            }
        }
        Ok(statistics)
    }

    /// Calls [`sums`](Self::sums), then [`normalisation`](Self::normalisation).
    ///
    /// # Errors
    ///
    /// Those of both.
    pub fn of(&self, x: &Var, silu: bool) -> Result<Normalisation> {
        self.normalisation(&self.sums(x)?, silu)
    }
}

impl GroupSums {
    /// The sums of all `parts` together, as if they were one image, for joint statistics.
    ///
    /// # Errors
    ///
    /// If there are no parts, or they have different numbers of channels.
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
    /// The number of channels.
    pub(crate) fn channels(&self) -> usize {
        self.bias.len()
    }

    /// The number of images.
    pub(crate) fn images(&self) -> usize {
        self.mean.len() / self.channels()
    }
}
