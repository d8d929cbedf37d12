//! Layers of detectors: convolutions with the batch normalisation folded into the weights.

use candle_core::{Device, Tensor};
use latte_ops::{Conv3d, Padding, Pool, Tape, Var, Window, pool3d, reshape};
use latte_weights::{TensorSource, expect_tensor};

use crate::{Error, Result};

/// A convolution followed by a batch normalisation, by their names in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// Name prefix of the convolution; the next field is that of the normalisation.
    pub(super) convolution: String,
    pub(super) norm: String,
    /// Input and output channels.
    pub(super) channels: [usize; 2],
    /// Time, height and width of the kernel; height and width for image networks.
    pub(super) kernel: Vec<usize>,
}

/// The parts of a batch normalisation, by their names.
pub(super) const NORM_PARTS: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

impl Unit {
    /// The shape of its weight, `[out, in, …]`.
    pub(super) fn shape(&self) -> Vec<usize> {
        let [input, output] = self.channels;
        [&[output, input], self.kernel.as_slice()].concat()
    }

    /// The names and shapes of all its tensors.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let norm = NORM_PARTS.map(|part| (format!("{}.{part}", self.norm), vec![self.channels[1]]));
        std::iter::once((format!("{}.weight", self.convolution), self.shape())).chain(norm)
    }

    /// The convolution with the normalisation folded in, followed by ReLU: `w·γ/√(var + ε)` and `β − mean·γ/√(var + ε)`.
    pub(super) fn read(&self, source: &dyn TensorSource, eps: f64, stride: [usize; 3], padding: Padding) -> Result<Conv3d> {
        let output = self.channels[1];
        let [gamma, beta, mean, variance] = NORM_PARTS.map(|part| -> Result<Vec<f32>> {
            Ok(expect_tensor(source, &format!("{}.{part}", self.norm), &[output])?.to_vec1()?)
        });
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        let factors: Vec<f64> = gamma
            .iter()
            .zip(&variance)
            .map(|(&gamma, &variance)| f64::from(gamma) / (f64::from(variance) + eps).sqrt())
            .collect();
        let bias: Vec<f32> = factors
            .iter()
            .zip(beta.iter().zip(&mean))
            .map(|(factor, (&beta, &mean))| (f64::from(beta) - f64::from(mean) * factor) as f32)
            .collect();
        let factors: Vec<f32> = factors.into_iter().map(|f| f as f32).collect();
        let weight = expect_tensor(source, &format!("{}.weight", self.convolution), &self.shape())?;
        let weight = of_volumes(&weight)?.broadcast_mul(&Tensor::from_vec(factors, (output, 1, 1, 1, 1), &Device::Cpu)?)?;
        convolution(&weight, &Tensor::from_vec(bias, output, &Device::Cpu)?, stride, padding, true)
    }
}

/// A 3D convolution with this weight and bias, followed by ReLU if `relu` is set.
pub(super) fn convolution(weight: &Tensor, bias: &Tensor, stride: [usize; 3], padding: Padding, relu: bool) -> Result<Conv3d> {
    let tape = Tape::inference();
    Ok(Conv3d::new(&tape.constant(weight), &tape.constant(bias), stride, padding, relu)?)
}

/// Reshapes a weight `[out, in]`, `[out, in, h, w]` or `[out, in, t, h, w]` to `[out, in, t, h, w]`.
pub(super) fn of_volumes(weight: &Tensor) -> Result<Tensor> {
    let shape = match *weight.dims() {
        [output, input] => [output, input, 1, 1, 1],
        [output, input, h, w] => [output, input, 1, h, w],
        _ => return Ok(weight.clone()),
    };
    Ok(weight.reshape(&shape)?)
}

/// A matmul with a weight and a bias at every position.
pub(super) fn dense(weight: &Tensor, bias: &Tensor, relu: bool) -> Result<Conv3d> {
    convolution(&of_volumes(weight)?, bias, [1; 3], Padding::NONE, relu)
}

/// The mean over time, height and width, `[n, c]`.
pub(super) fn mean_of_places(tape: &Tape<'_>, x: &Var) -> Result<Var> {
    let &[n, t, h, w, c] = x.dims() else {
        return Err(Error::refused("features", format!("expected volumes, got {:?}", x.dims())));
    };
    Ok(reshape(tape, &pool3d(tape, x, Pool::Mean, Window::valid([t, h, w]))?, &[n, c])?)
}

#[cfg(test)]
mod tests {
    use latte_ops::{Parameters, conv3d};

    use super::*;

    #[test]
    fn a_folded_normalisation_gives_the_same_result() -> Result<()> {
        let unit = Unit { convolution: "c".into(), norm: "n".into(), channels: [1, 1], kernel: vec![1; 3] };
        let weights: Parameters = [
            ("c.weight", vec![1; 5], 3_f32),
            ("n.weight", vec![1], 5.0),
            ("n.bias", vec![1], 7.0),
            ("n.running_mean", vec![1], 11.0),
        ]
        .into_iter()
        .chain([("n.running_var", vec![1], 3.75)])
        .map(|(name, shape, value)| (name.to_string(), Tensor::full(value, shape, &Device::Cpu).unwrap()))
        .collect();
        let convolution = unit.read(&weights, 0.25, [1; 3], Padding::NONE)?;
        let of = |x: f32| -> Result<f32> {
            let tape = Tape::inference();
            let x = tape.constant(Tensor::full(x, (1, 1, 1, 1, 1), &Device::Cpu)?);
            let y = conv3d(&tape, &x, &convolution)?.to_host()?;
            Ok(y.flatten_all()?.to_vec1::<f32>()?[0])
        };
        // (3x − 11) / √(3.75 + 0.25) · 5 + 7, and negative values become 0.
        assert_eq!((of(5.0)?, of(2.0)?), (17.0, 0.0));
        Ok(())
    }
}
