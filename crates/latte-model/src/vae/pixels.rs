//! The identity autoencoder, for diffusion on the pixels themselves.

use candle_core::Tensor;

use super::{Autoencoder, LatentSpace};
use crate::{Error, Result};

/// The identity on pixels in `[-1, 1]`: three latent channels, no downsampling, no weights. For small frames.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pixels;

impl Autoencoder for Pixels {
    fn space(&self) -> &LatentSpace {
        const PIXELS: &LatentSpace = &LatentSpace::pixels();
        PIXELS
    }

    fn clip_moments(&self, pixels: &Tensor) -> Result<Tensor> {
        three_channels("pixels", pixels)?;
        Ok(pixels.clone())
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        three_channels("latent", latent)?;
        Ok(latent.clone())
    }
}

fn three_channels(name: &str, x: &Tensor) -> Result<()> {
    match x.dims() {
        [_, _, 3, _, _] => Ok(()),
        other => Err(Error::Shape { name: name.into(), expected: "[b, f, 3, h, w]".into(), got: other.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::noise::TorchRng;

    #[test]
    fn pixels_come_back_as_they_went_in() {
        let x = Tensor::arange(0.0_f32, 48.0, &Device::Cpu).unwrap().reshape((1, 2, 3, 2, 4)).unwrap();
        let latent = Pixels.encode(&x, &mut TorchRng::new(0)).unwrap();
        let back = Pixels.decode(&latent).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((latent.dims(), flat(&latent)), (x.dims(), flat(&x)));
        assert_eq!((back.dims(), flat(&back)), (x.dims(), flat(&x)));
        assert_eq!(Pixels.space().latent_shape(2, 2, 4).unwrap(), [2, 3, 2, 4]);
    }

    #[test]
    fn another_channel_count_is_refused() {
        let x = Tensor::zeros((1, 2, 4, 2, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let e = Pixels.encode(&x, &mut TorchRng::new(0)).unwrap_err().to_string();
        assert_eq!(e, "pixels: expected shape [b, f, 3, h, w], got [1, 2, 4, 2, 2]");
        assert!(Pixels.decode(&x).is_err());
    }
}
