//! Convolution and pooling over time, height and width of channels-last volumes, without gradients. Images are volumes of one
//! frame. Branches of a network that are concatenated write into one result ([`side_by_side`]).

#[cfg(test)]
mod tests;

use crate::backend::{self, Prepared3d};
use crate::{Error, Result, Tape, Var};

/// A convolution over time, height and width: its weights in the form that the device reads, and what is around.
#[derive(Debug)]
pub struct Conv3d {
    pub(crate) prepared: Prepared3d,
    /// Channels that come in and go out.
    channels: [usize; 2],
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
    Convolution(&'a Var, &'a Conv3d),
    /// A pool over a volume.
    Pool(&'a Var, Pool, Window),
}

impl<'a> Branch<'a> {
    /// The volume that it reads.
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
    /// If the shapes do not fit or are empty, a step is 0, or the tensors are not f32.
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

    /// How many channels go out.
    pub fn output_channels(&self) -> usize {
        self.channels[1]
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
pub fn conv3d(tape: &Tape<'_>, x: &Var, convolution: &Conv3d) -> Result<Var> {
    side_by_side(tape, &[Branch::Convolution(x, convolution)])
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
pub fn pool3d(tape: &Tape<'_>, x: &Var, pool: Pool, window: Window) -> Result<Var> {
    side_by_side(tape, &[Branch::Pool(x, pool, window)])
}

/// The results of all branches, one behind the other along the channels, without a copy.
///
/// # Shapes
///
/// Branches give `[n, t', h', w', c]` each, the same but for their channels; gives `[n, t', h', w', sum of channels]`.
///
/// # Errors
///
/// If the shapes do not fit, a pool has a place with no value under it, a tensor is not f32, weights and values are on several
/// devices, or a gradient is wanted.
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

/// Branches to be computed, whose shapes fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Branches<'c> {
    pub(crate) branches: &'c [Branch<'c>],
    /// Of each branch; at least one.
    pub(crate) sizes: &'c [Sizes],
}

impl Branches<'_> {
    /// The lengths of the axes of the result.
    pub(crate) fn shape(&self) -> [usize; 5] {
        let Sizes { n, out: [t, h, w], .. } = self.sizes[0];
        [n, t, h, w, self.sizes.iter().map(|sizes| sizes.channels[1]).sum()]
    }
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
            Branch::Convolution(x, c) => (x, &c.window, Some(c.channels[0]), Some(c.channels[1])),
            Branch::Pool(x, _, window) => (x, window, None, None),
        };
        let &[n, t, h, w, c] = x.dims() else { return Err(Error::shape("side_by_side", "x [n, t, h, w, c]", x.dims())) };
        let volume = [t, h, w];
        // Each place of a pool has a value of the volume under it.
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
