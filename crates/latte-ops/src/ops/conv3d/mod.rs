//! Convolution and pooling over time, height and width of channels-last volumes. **Inference only**, f32 on the CPU. Images
//! are volumes of one frame.
//!
//! The values under a kernel are copied side by side for some places of the result at a time, as far as one part of the depth
//! of the product reaches, so the copy stays in the second cache and all patches never exist at once. A copy costs one value
//! where the product does as many as there are channels of the result. Kernels of 1 × 1 × 1 need none.
//!
//! Branches of a network that are concatenated write into one result ([`side_by_side`]).

#[cfg(test)]
mod tests;

use candle_core::Tensor;

use crate::backend::cpu::buffer::{Shared, Unwritten};
use crate::backend::cpu::conv3d::{convolve, pool};
use crate::backend::cpu::gemm::{Kernel, Matrix, Packed};
use crate::backend::cpu::slices::Values;
use crate::{Error, Precision, Result};

/// A convolution over time, height and width: its weights, packed once for the processor's instructions, and what is around.
#[derive(Debug)]
pub struct Conv3d {
    pub(crate) packed: Packed,
    pub(crate) bias: Vec<f32>,
    pub(crate) input: usize,
    pub(crate) window: Window,
    pub(crate) relu: bool,
}

/// Where a kernel goes: its size and its steps in time, height and width, and what is around the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How far it reaches.
    pub size: [usize; 3],
    /// From one place to the next.
    pub stride: [usize; 3],
    /// What is around the volume.
    pub padding: Padding,
}

/// How many places are around a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// In front and behind, in time, height and width.
    Around([[usize; 2]; 3]),
    /// As many as give `length / stride` places, rounded up; where their number is odd, the one more is behind.
    Same,
}

impl Padding {
    /// Nothing around the volume.
    pub const NONE: Self = Self::Around([[0; 2]; 3]);
}

impl Window {
    /// Steps of 1 and nothing around the volume.
    pub const fn valid(size: [usize; 3]) -> Self {
        Self { size, stride: [1; 3], padding: Padding::NONE }
    }

    /// How many places the kernel has along each axis of a volume of this size; `None` if it fits nowhere.
    pub fn places(&self, volume: [usize; 3]) -> Option<[usize; 3]> {
        let padding = self.around(volume)?;
        let mut places = [0; 3];
        for (axis, places) in places.iter_mut().enumerate() {
            let [front, back] = padding[axis];
            let padded = volume[axis].checked_add(front)?.checked_add(back)?;
            *places = padded.checked_sub(self.size[axis])?.checked_div(self.stride[axis])? + 1;
        }
        Some(places)
    }

    /// How many places are around a volume of this size; `None` if steps are 0.
    fn around(&self, volume: [usize; 3]) -> Option<[[usize; 2]; 3]> {
        let mut around = match self.padding {
            Padding::Around(around) => return Some(around),
            Padding::Same => [[0; 2]; 3],
        };
        for (axis, around) in around.iter_mut().enumerate() {
            let places = volume[axis].checked_add(self.stride[axis])?.checked_sub(1)?.checked_div(self.stride[axis])?;
            let reach = places.checked_sub(1)?.checked_mul(self.stride[axis])?.checked_add(self.size[axis])?;
            let missing = reach.saturating_sub(volume[axis]);
            *around = [missing / 2, missing - missing / 2];
        }
        Some(around)
    }
}

/// What a pool makes of the values under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The largest of those inside the volume.
    Max,
    /// The mean of those inside the volume.
    Mean,
    /// The mean with zeros around the volume counted as values.
    MeanWithPadding,
}

/// One of several results that lie side by side along the channels.
#[derive(Debug, Clone, Copy)]
pub enum Branch<'a> {
    /// A convolution of a volume.
    Convolution(&'a Tensor, &'a Conv3d),
    /// A pool over a volume.
    Pool(&'a Tensor, Pool, Window),
}

impl Conv3d {
    /// Packs a weight `[out, in, time, height, width]` and a bias `[out]`. With `relu`, negative results become 0.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit or are empty, a step is 0, or the tensors are not f32 on the CPU.
    pub fn new(weight: &Tensor, bias: &Tensor, stride: [usize; 3], padding: Padding, relu: bool) -> Result<Self> {
        let fits = weight.rank() == 5 && weight.elem_count() > 0 && bias.dims() == &weight.dims()[..1];
        if !fits || stride.contains(&0) {
            let expected = "a weight [out, in, time, height, width] and a bias [out], not empty, and steps of at least 1";
            return Err(Error::shape("conv3d", expected, (weight.dims(), bias.dims(), stride)));
        }
        let (output, input, t, h, w) = weight.dims5()?;
        let rows = weight.permute((0, 2, 3, 4, 1))?.contiguous()?; // [out, time, height, width, in]
        let k = t * h * w * input;
        let packed = Packed::new(Kernel::of(Precision::F32), Matrix::rows(&Values::of(&rows)?, k).transposed(), k, output);
        Ok(Self { packed, bias: bias.to_vec1()?, input, window: Window { size: [t, h, w], stride, padding }, relu })
    }

    /// How many channels go out.
    pub fn output_channels(&self) -> usize {
        self.bias.len()
    }
}

/// The convolution of a volume.
///
/// # Shapes
///
/// `x` `[n, t, h, w, in]`; gives `[n, t', h', w', out]`, as many places as the kernel has (see [`Window::places`]).
///
/// # Errors
///
/// As [`side_by_side`].
pub fn conv3d(x: &Tensor, convolution: &Conv3d) -> Result<Tensor> {
    side_by_side(&[Branch::Convolution(x, convolution)])
}

/// A pool over a volume.
///
/// # Shapes
///
/// `x` `[n, t, h, w, c]`; gives `[n, t', h', w', c]`.
///
/// # Errors
///
/// As [`side_by_side`].
pub fn pool3d(x: &Tensor, pool: Pool, window: Window) -> Result<Tensor> {
    side_by_side(&[Branch::Pool(x, pool, window)])
}

/// The results of all branches, one behind the other along the channels, without a copy.
///
/// # Shapes
///
/// Branches give `[n, t', h', w', c]` each, the same but for their channels; gives `[n, t', h', w', sum of channels]`.
///
/// # Errors
///
/// If the shapes do not fit, a pool has a place with no value under it, or a tensor is not f32 on the CPU.
pub fn side_by_side(branches: &[Branch<'_>]) -> Result<Tensor> {
    let sizes = branches.iter().map(Sizes::of).collect::<Result<Vec<_>>>()?;
    let Some(first) = sizes.first() else { return Err(Error::shape("side_by_side", "at least one branch", branches.len())) };
    if let Some(other) = sizes.iter().find(|s| (s.n, s.out) != (first.n, first.out)) {
        let expected = format!("branches that all give {:?}", (first.n, first.out));
        return Err(Error::shape("side_by_side", expected, (other.n, other.out)));
    }
    let channels: usize = sizes.iter().map(|s| s.channels[1]).sum();
    let places = first.n * first.out.iter().product::<usize>();
    let mut out = Unwritten::<f32>::new(places * channels);
    let result = out.as_mut_ptr();
    let mut offset = 0;
    for (branch, sizes) in branches.iter().zip(&sizes) {
        // SAFETY: the channels of this branch lie inside the result's.
        let target = Target { first: Shared::new(unsafe { result.add(offset) }), stride: channels };
        let (Branch::Convolution(x, _) | Branch::Pool(x, ..)) = branch;
        let x = x.contiguous()?;
        let values = Values::of(&x)?;
        // SAFETY: each place of the target has as many channels, `stride` apart, which no other branch has.
        unsafe {
            match branch {
                Branch::Convolution(_, convolution) => convolve::run(&values, convolution, sizes, target),
                Branch::Pool(_, pool, window) => pool::run(&values, *pool, window, sizes, target),
            }
        }
        offset += sizes.channels[1];
    }
    let [t, h, w] = first.out;
    // SAFETY: every branch wrote all its channels of all places, and together they are all channels.
    let values = unsafe { out.written() };
    let (Branch::Convolution(x, _) | Branch::Pool(x, ..)) = branches[0];
    Ok(Tensor::from_vec(values, (first.n, t, h, w, channels), x.device())?)
}

/// Where a branch writes: channels that begin at `first`, from place to place `stride` apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) first: Shared<f32>,
    pub(crate) stride: usize,
}

/// What a branch reads and writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) n: usize,
    /// Time, height and width of the volume, and of the result.
    pub(crate) volume: [usize; 3],
    pub(crate) out: [usize; 3],
    /// Places in front of the volume.
    pub(crate) front: [usize; 3],
    /// Channels of the volume, and of the result.
    pub(crate) channels: [usize; 2],
}

impl Sizes {
    fn of(branch: &Branch<'_>) -> Result<Self> {
        let (x, window, input, output) = match branch {
            Branch::Convolution(x, c) => (x, &c.window, Some(c.input), Some(c.output_channels())),
            Branch::Pool(x, _, window) => (x, window, None, None),
        };
        let &[n, t, h, w, c] = x.dims() else { return Err(Error::shape("side_by_side", "x [n, t, h, w, c]", x.dims())) };
        let volume = [t, h, w];
        // Each place of a pool has a value of the volume under it.
        let covered = |around: &[[usize; 2]; 3]| {
            input.is_some() || around.iter().zip(window.size).all(|(around, size)| around.iter().all(|&a| a < size))
        };
        let fits = x.elem_count() > 0 && input.is_none_or(|i| i == c);
        let found = window.around(volume).filter(|around| fits && covered(around)).zip(window.places(volume));
        match found {
            Some((around, out)) => {
                let front = around.map(|[front, _]| front);
                Ok(Self { n, volume, out, front, channels: [c, output.unwrap_or(c)] })
            }
            None => {
                let channels = input.map_or("c".to_string(), |c| c.to_string());
                Err(Error::shape("side_by_side", format!("x [n, t, h, w, {channels}] that {window:?} fits"), x.dims()))
            }
        }
    }

    /// How many places the result has.
    pub(crate) fn places(&self) -> usize {
        self.n * self.out.iter().product::<usize>()
    }

    /// Clip, time, height and width of place number `place`.
    pub(crate) fn place(&self, place: usize) -> [usize; 4] {
        let (place, w) = (place / self.out[2], place % self.out[2]);
        let (place, h) = (place / self.out[1], place % self.out[1]);
        [place / self.out[0], place % self.out[0], h, w]
    }

    /// Where row `y` of frame `t` of clip `n` begins, if there is one.
    pub(crate) fn row(&self, n: usize, t: Option<usize>, y: Option<usize>) -> Option<usize> {
        let [frames, height, width] = self.volume;
        let (t, y) = (t.filter(|&t| t < frames)?, y.filter(|&y| y < height)?);
        Some(((n * frames + t) * height + y) * width * self.channels[0])
    }
}
