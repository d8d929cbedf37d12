//! The distribution that an encoder outputs.

use candle_core::Tensor;

use crate::noise::TorchRng;
use crate::{Error, Result};

/// Independent normal distributions, one for each value of a latent.
#[derive(Debug, Clone)]
pub struct DiagonalGaussian {
    mean: Tensor,
    log_variance: Tensor,
}

impl DiagonalGaussian {
    /// From the moments `[n, 2c, h, w]`: means, then logarithms of variances, which are clamped to `[-30, 20]`.
    ///
    /// # Errors
    ///
    /// If the number of channels is odd.
    pub fn new(moments: &Tensor) -> Result<Self> {
        match moments.dims() {
            &[_, c, _, _] if c > 0 && c.is_multiple_of(2) => Ok(Self {
                mean: moments.narrow(1, 0, c / 2)?.contiguous()?,
                log_variance: moments.narrow(1, c / 2, c / 2)?.clamp(-30f32, 20f32)?,
            }),
            other => Err(Error::Shape { name: "moments".into(), expected: "[n, 2c, h, w]".into(), got: other.to_vec() }),
        }
    }

    /// The means `[n, c, h, w]`, which are also the modes.
    pub fn mode(&self) -> &Tensor {
        &self.mean
    }

    /// The standard deviations `[n, c, h, w]`.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn std(&self) -> Result<Tensor> {
        Ok((&self.log_variance * 0.5)?.exp()?)
    }

    /// The Kullback–Leibler divergence from a standard normal distribution, in nats, summed over each frame: `[n]`.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn divergence(&self) -> Result<Tensor> {
        let each = ((self.mean.sqr()? + self.log_variance.exp()?)? - &self.log_variance)?;
        Ok(((each - 1.0)?.flatten_from(1)?.sum(1)? * 0.5)?)
    }

    /// Draws values `[n, c, h, w]` with `rng`, the same as PyTorch's for a batch.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn sample(&self, rng: &mut TorchRng) -> Result<Tensor> {
        let noise = rng.randn(self.mean.dims())?.to_device(self.mean.device())?;
        Ok((&self.mean + (self.std()? * noise)?)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_sample_is_mean_plus_deviation_times_noise() -> Result<()> {
        // Two channels of 2 × 2: means 0 to 3, then variances e⁰, e^(2 ln 3), and one beyond each limit.
        let values = vec![0f32, 1., 2., 3., 0., 2. * 3f32.ln(), -100., 100.];
        let gaussian = DiagonalGaussian::new(&Tensor::from_vec(values, (1, 2, 2, 2), &Device::Cpu)?)?;
        let flat = |t: &Tensor| -> Result<Vec<f32>> { Ok(t.flatten_all()?.to_vec1()?) };
        let std = flat(&gaussian.std()?)?;
        let expected = [1.0, 3.0, (-15f32).exp(), 10f32.exp()];
        assert!(std.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6 * b), "{std:?}");
        let noise = TorchRng::new(7).randn_f32(4);
        let sample = flat(&gaussian.sample(&mut TorchRng::new(7))?)?;
        for i in 0..4 {
            assert!((sample[i] - (i as f32 + expected[i] * noise[i])).abs() <= 1e-6 * (1.0 + expected[i]), "{sample:?}");
        }
        assert_eq!(flat(gaussian.mode())?, [0., 1., 2., 3.]);
        Ok(())
    }

    #[test]
    fn the_divergence_is_that_of_each_frame() -> Result<()> {
        // Frames of one value: ½(mean² + variance − ln variance − 1), with variances 1, 1 and e².
        let values = vec![0f32, 0., 3., 0., -1., 2.];
        let gaussian = DiagonalGaussian::new(&Tensor::from_vec(values, (3, 2, 1, 1), &Device::Cpu)?)?;
        let expected = [0.0, 4.5, 0.5 * (1.0 + 2f32.exp() - 2.0 - 1.0)];
        let found = gaussian.divergence()?.to_vec1::<f32>()?;
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
        Ok(())
    }

    #[test]
    fn odd_channels_are_refused() -> Result<()> {
        for shape in [vec![1, 3, 2, 2], vec![1, 0, 2, 2], vec![2, 2, 2]] {
            let moments = Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu)?;
            assert!(DiagonalGaussian::new(&moments).is_err());
        }
        Ok(())
    }
}
