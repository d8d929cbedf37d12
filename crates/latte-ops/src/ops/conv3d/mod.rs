//! Convolution and pooling over time, height and width of channels-last volumes, without gradients. An image is a volume of one
//! frame. Network branches that are concatenated write into one result ([`side_by_side`]).

#[cfg(test)]
mod tests;

use crate::backend::{self, Prepared3d};
use crate::{Error, Result, Tape, Var};

/// A convolution over time, height and width: its weights in the form that the device reads, its stride and its padding.
#[derive(Debug)]
pub struct Conv3d {
    pub(crate) prepared: Prepared3d,
    /// Input and output channels.
    channels: [usize; 2],
    pub(crate) window: Window,
    pub(crate) relu: bool,
}

/// The size, stride and padding of a kernel, in time, height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The size of the kernel.
    pub size: [usize; 3],
    /// The step from one output position to the next.
    pub stride: [usize; 3],
    /// The padding of the volume.
    pub padding: Padding,
}

/// The padding of a volume, in positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// In front and behind, for time, height and width.
    Around([[usize; 2]; 3]),
    /// As much as gives `length / stride` output positions, rounded up; an odd number has the extra one behind.
    Same,
}

impl Padding {
    /// No padding.
    pub const NONE: Self = Self::Around([[0; 2]; 3]);
}

impl Window {
    /// A kernel with stride 1 and no padding.
    pub const fn valid(size: [usize; 3]) -> Self {
        Self { size, stride: [1; 3], padding: Padding::NONE }
    }

    /// The number of output positions along each axis for a volume of this size; `None` if the kernel does not fit.
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

    /// The padding for a volume of this size; `None` if a stride is 0.
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

/// The function that a pool applies to the values under its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The maximum of the values inside the volume.
    Max,
    /// The mean of the values inside the volume.
    Mean,
    /// The mean over the whole kernel, with the padding counted as zeros.
    MeanWithPadding,
}

/// One of several results that are concatenated along the channels.
#[derive(Debug, Clone, Copy)]
pub enum Branch<'a> {
    /// A convolution of a volume.
    Convolution(&'a Var, &'a Conv3d),
    /// A pool over a volume.
    Pool(&'a Var, Pool, Window),
}

impl<'a> Branch<'a> {
    /// The input volume.
    pub(crate) fn volume(&self) -> &'a Var {
        let (Self::Convolution(x, _) | Self::Pool(x, ..)) = self;
        x
    }
}

impl Conv3d {
    /// Prepares a weight `[out, in, time, height, width]` and a bias `[out]`. With `relu`, negative results become 0.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit or are empty, a stride is 0, or the tensors are not f32.
    pub fn new(weight: &Var, bias: &Var, stride: [usize; 3], padding: Padding, relu: bool) -> Result<Self> {
        match *weight.dims() {
            [output, input, t, h, w] if weight.value().elem_count() > 0 && bias.dims() == [output] && !stride.contains(&0) => {
                let values = [weight, bias].map(Var::value);
                let prepared = backend::of(values).prepare_conv3d(values[0], values[1])?;
                Ok(Self { prepared, channels: [input, output], window: Window { size: [t, h, w], stride, padding }, relu })
            }
            _ => {
                let expected = "a weight [out, in, time, height, width] and a bias [out], not empty, and steps of at least 1";
                Err(Error::shape("conv3d", expected, (weight.dims(), bias.dims(), stride)))
            }
        }
    }

    /// The number of output channels.
    pub fn output_channels(&self) -> usize {
        self.channels[1]
    }
}

/// The 3-D convolution of a volume.
///
/// # Shapes
///
/// `x` `[n, t, h, w, in]`; gives `[n, t', h', w', out]`, with the lengths of [`Window::places`].
///
/// # Errors
///
/// As [`side_by_side`].
pub fn conv3d(tape: &Tape<'_>, x: &Var, convolution: &Conv3d) -> Result<Var> {
    side_by_side(tape, &[Branch::Convolution(x, convolution)])
}

/// Pooling over a volume.
///
/// # Shapes
///
/// `x` `[n, t, h, w, c]`; gives `[n, t', h', w', c]`.
///
/// # Errors
///
/// As [`side_by_side`].
pub fn pool3d(tape: &Tape<'_>, x: &Var, pool: Pool, window: Window) -> Result<Var> {
    side_by_side(tape, &[Branch::Pool(x, pool, window)])
}

/// The results of all branches, concatenated along the channels without a copy.
///
/// # Shapes
///
/// Each branch gives `[n, t', h', w', c]` with the same `n, t', h', w'`; gives `[n, t', h', w', sum of channels]`.
///
/// # Errors
///
/// If the shapes do not fit, a pool has an output position without a value under it, a tensor is not f32, weights and values are on
/// different devices, or a gradient is wanted.
pub fn side_by_side(tape: &Tape<'_>, branches: &[Branch<'_>]) -> Result<Var> {
    let sizes = branches.iter().map(Sizes::of).collect::<Result<Vec<_>>>()?;
    let Some(first) = sizes.first() else { return Err(Error::shape("side_by_side", "at least one branch", branches.len())) };
    if let Some(other) = sizes.iter().find(|s| (s.n, s.out) != (first.n, first.out)) {
        let expected = format!("branches that all give {:?}", (first.n, first.out));
        return Err(Error::shape("side_by_side", expected, (other.n, other.out)));
    }
    if branches.iter().any(|branch| branch.volume().is_wanted()) {
        return Err(Error::NoGradient("a convolution or pool of volumes"));
    }
    let backend = backend::of(branches.iter().map(|branch| branch.volume().value()));
    Ok(tape.constant(backend.side_by_side(&Branches { branches, sizes: &sizes })?))
}

/// The arguments of [`side_by_side`], checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Branches<'c> {
    pub(crate) branches: &'c [Branch<'c>],
    /// One per branch; at least one.
    pub(crate) sizes: &'c [Sizes],
}

impl Branches<'_> {
    /// The lengths of the axes of the result.
    pub(crate) fn shape(&self) -> [usize; 5] {
        let Sizes { n, out: [t, h, w], .. } = self.sizes[0];
        [n, t, h, w, self.sizes.iter().map(|sizes| sizes.channels[1]).sum()]
    }
}

/// The sizes of a branch's input and output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) n: usize,
    /// Time, height and width of the volume, and of the result.
    pub(crate) volume: [usize; 3],
    pub(crate) out: [usize; 3],
    /// The padding in front of the volume.
    pub(crate) front: [usize; 3],
    /// Channels of the volume, and of the result.
    pub(crate) channels: [usize; 2],
}

impl Sizes {
    fn of(branch: &Branch<'_>) -> Result<Self> {
        let (x, window, input, output) = match branch {
            Branch::Convolution(x, c) => (x, &c.window, Some(c.channels[0]), Some(c.channels[1])),
            Branch::Pool(x, _, window) => (x, window, None, None),
        };
        let &[n, t, h, w, c] = x.dims() else { return Err(Error::shape("side_by_side", "x [n, t, h, w, c]", x.dims())) };
        let volume = [t, h, w];
        // Each output position of a pool has at least one value of the volume under it.
        let covered = |around: &[[usize; 2]; 3]| {
            input.is_some() || around.iter().zip(window.size).all(|(around, size)| around.iter().all(|&a| a < size))
        };
        let fits = x.value().elem_count() > 0 && input.is_none_or(|i| i == c);
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

    /// The number of output positions.
    pub(crate) fn places(&self) -> usize {
        self.n * self.out.iter().product::<usize>()
    }

    /// Clip, time, height and width of output position number `place`.
    pub(crate) fn place(&self, place: usize) -> [usize; 4] {
        let (place, w) = (place / self.out[2], place % self.out[2]);
        let (place, h) = (place / self.out[1], place % self.out[1]);
        [place / self.out[0], place % self.out[0], h, w]
    }

    /// The offset of row `y` of frame `t` of clip `n`; `None` if the row is in the padding.
    pub(crate) fn row(&self, n: usize, t: Option<usize>, y: Option<usize>) -> Option<usize> {
        let [frames, height, width] = self.volume;
        let (t, y) = (t.filter(|&t| t < frames)?, y.filter(|&y| y < height)?);
        Some(((n * frames + t) * height + y) * width * self.channels[0])
    }
}
