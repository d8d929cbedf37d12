//! The network: convolutions and pools with TensorFlow's padding, from frames to logits.

use candle_core::Tensor;
use latte_ops::{Branch, Conv3d, Padding, Pool, Tape, Var, Window, conv3d, pool3d, side_by_side};
use latte_weights::{TensorSource, expect_tensor};

use super::super::layers::{dense, mean_of_places};
use super::names::{self, MIXED, Naming};
use crate::Result;

/// How the network pads. Only the paddings of [`Network::new`] are right; tests use others to show that the golden files detect
/// them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paddings {
    pub(super) stem: Padding,
    pub(super) pools: fn([usize; 3]) -> Padding,
}

#[derive(Debug)]
pub(super) struct Network {
    /// The convolutions before the blocks.
    stem: [Conv3d; 3],
    blocks: Vec<Block>,
    logits: Conv3d,
    pools: fn([usize; 3]) -> Padding,
}

#[derive(Debug)]
struct Block {
    b0: Conv3d,
    b1: [Conv3d; 2],
    b2: [Conv3d; 2],
    b3: Conv3d,
}

impl Network {
    pub(super) fn new(source: &dyn TensorSource, eps: f64) -> Result<Self> {
        Self::with_paddings(source, eps, Paddings { stem: Padding::Same, pools: |_| Padding::Same })
    }

    pub(super) fn with_paddings(source: &dyn TensorSource, eps: f64, paddings: Paddings) -> Result<Self> {
        let units = names::units(Naming::Plain);
        let mut units = units.iter();
        let mut read = |stride: usize, padding: Padding| -> Result<Conv3d> {
            let Some(unit) = units.next() else { unreachable!("the table of units has as many as the network reads") };
            unit.read(source, eps, [stride; 3], padding)
        };
        let stem = [read(2, paddings.stem)?, read(1, Padding::Same)?, read(1, Padding::Same)?];
        let mut blocks = Vec::new();
        for _ in MIXED {
            let mut next = || read(1, Padding::Same);
            blocks.push(Block { b0: next()?, b1: [next()?, next()?], b2: [next()?, next()?], b3: next()? });
        }
        let name = names::logits(Naming::Plain);
        let logits = dense(
            &expect_tensor(source, &format!("{name}.weight"), &[400, 1024, 1, 1, 1])?,
            &expect_tensor(source, &format!("{name}.bias"), &[400])?,
            false,
        )?;
        Ok(Self { stem, blocks, logits, pools: paddings.pools })
    }

    /// Logits `[n, 400]` and the last pool `[n, 1024]` of `x` `[n, t, 224, 224, 3]`, both averaged over the remaining time steps.
    pub(super) fn forward(&self, x: &Tensor) -> Result<[Tensor; 2]> {
        let tape = &Tape::inference();
        let x = conv3d(tape, &tape.constant(x), &self.stem[0])?; // [n, t/2, 112, 112, 64]
        let x = self.max_pool(tape, &x, [1, 3, 3], [1, 2, 2])?; // [n, t/2, 56, 56, 64]
        let x = conv3d(tape, &x, &self.stem[1])?;
        let x = conv3d(tape, &x, &self.stem[2])?; // [n, t/2, 56, 56, 192]
        let mut x = self.max_pool(tape, &x, [1, 3, 3], [1, 2, 2])?; // [n, t/2, 28, 28, 192]
        for (block, (name, ..)) in self.blocks.iter().zip(MIXED) {
            match name {
                "4b" => x = self.max_pool(tape, &x, [3; 3], [2; 3])?, // [n, t/4, 14, 14, 480]
                "5b" => x = self.max_pool(tape, &x, [2; 3], [2; 3])?, // [n, t/8, 7, 7, 832]
                _ => {}
            }
            x = self.block(tape, block, &x)?;
        }
        let pooled = pool3d(tape, &x, Pool::Mean, Window::valid([2, 7, 7]))?; // [n, t/8 − 1, 1, 1, 1024]
        let over_time = |x: &Var| -> Result<Tensor> { Ok(mean_of_places(tape, x)?.to_host()?) };
        Ok([over_time(&conv3d(tape, &pooled, &self.logits)?)?, over_time(&pooled)?])
    }

    fn max_pool(&self, tape: &Tape<'_>, x: &Var, size: [usize; 3], stride: [usize; 3]) -> Result<Var> {
        Ok(pool3d(tape, x, Pool::Max, Window { size, stride, padding: (self.pools)(size) })?)
    }

    fn block(&self, tape: &Tape<'_>, block: &Block, x: &Var) -> Result<Var> {
        let (b1, b2) = (conv3d(tape, x, &block.b1[0])?, conv3d(tape, x, &block.b2[0])?);
        let b3 = self.max_pool(tape, x, [3; 3], [1; 3])?;
        let branches = [
            Branch::Convolution(x, &block.b0),
            Branch::Convolution(&b1, &block.b1[1]),
            Branch::Convolution(&b2, &block.b2[1]),
            Branch::Convolution(&b3, &block.b3),
        ];
        Ok(side_by_side(tape, &branches)?)
    }
}
