//! The network, from images to logits.

use candle_core::{DType, Device, Tensor};
use latte_ops::{Branch, Conv3d, Padding, Pool, Tape, Var, Window, add, conv3d, pool3d, reshape, side_by_side};
use latte_weights::{TensorSource, expect_tensor};

use super::super::FeatureLayer;
use super::super::layers::{dense, mean_of_places};
use super::names::{self, BLOCKS, Block, Naming};
use crate::{Error, Result};

/// The pools before the 1 × 1 convolutions: those of the last block, and those of all others. Only the pools of [`Network::new`]
/// are right; tests use others to show that the golden files detect them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pools {
    pub(super) most: Pool,
    pub(super) last: Pool,
}

#[derive(Debug)]
pub(super) struct Network {
    stem: Vec<Conv3d>,
    /// The convolutions of each block, in the order of the table of names.
    blocks: Vec<Vec<Conv3d>>,
    /// The last matmul without its bias.
    output: Conv3d,
    output_bias: Var,
    pools: Pools,
}

/// The requested outputs.
struct Outputs<'t> {
    layers: &'t [FeatureLayer],
    found: Vec<Option<Tensor>>,
}

impl Outputs<'_> {
    fn is_wanted(&self, name: &str) -> bool {
        self.layers.iter().any(|layer| layer.name == name)
    }

    /// Whether all requested outputs are computed, so that the rest of the network can be skipped.
    fn all_found(&self) -> bool {
        self.found.iter().all(Option::is_some)
    }

    fn offer(&mut self, name: &str, value: impl FnOnce() -> Result<Var>) -> Result<()> {
        if self.is_wanted(name) {
            let value = value()?.to_host()?;
            for (layer, found) in self.layers.iter().zip(&mut self.found) {
                if layer.name == name {
                    *found = Some(value.clone());
                }
            }
        }
        Ok(())
    }
}

impl Network {
    pub(super) fn new(source: &dyn TensorSource, eps: f64) -> Result<Self> {
        Self::with_pools(source, eps, Pools { most: Pool::Mean, last: Pool::Max })
    }

    pub(super) fn with_pools(source: &dyn TensorSource, eps: f64, pools: Pools) -> Result<Self> {
        let units = names::units(Naming::Plain);
        let mut stem = Vec::new();
        let mut blocks: Vec<Vec<Conv3d>> = BLOCKS.iter().map(|_| Vec::new()).collect();
        for unit in &units {
            let block = BLOCKS.iter().position(|(name, ..)| unit.convolution.starts_with(&format!("Mixed_{name}.")));
            let part = unit.convolution.rsplit_once('.').map_or("", |(name, _)| name).rsplit('.').next().unwrap_or_default();
            let halves = matches!(
                (block.map(|b| BLOCKS[b].2), part),
                (None, "Conv2d_1a_3x3")
                    | (Some(Block::B), "branch3x3" | "branch3x3dbl_3")
                    | (Some(Block::D), "branch3x3_2" | "branch7x7x3_4")
            );
            // The stem, except for one convolution, and the layers that halve the size have no padding.
            let same = !halves && (block.is_some() || part == "Conv2d_2b_3x3");
            let padding = if same { Padding::Same } else { Padding::NONE };
            let stride = if halves { [1, 2, 2] } else { [1; 3] };
            let convolution = unit.read(source, eps, stride, padding)?;
            block.map_or(&mut stem, |b| &mut blocks[b]).push(convolution);
        }
        let name = names::output(Naming::Plain);
        let weight = expect_tensor(source, &format!("{name}.weight"), &[1008, 2048])?;
        let output = dense(&weight, &Tensor::zeros(1008, DType::F32, &Device::Cpu)?, false)?;
        let output_bias = Tape::inference().constant(expect_tensor(source, &format!("{name}.bias"), &[1008])?);
        Ok(Self { stem, blocks, output, output_bias, pools })
    }

    /// The outputs at `layers` of images `x` `[n, 1, 299, 299, 3]`.
    pub(super) fn forward(&self, x: &Tensor, layers: &[FeatureLayer]) -> Result<Vec<Tensor>> {
        let mut outputs = Outputs { layers, found: vec![None; layers.len()] };
        self.run(x, &mut outputs)?;
        let missing = |layer: &FeatureLayer| Error::refused(layer.name, "is no output of the Inception network");
        outputs.found.into_iter().zip(layers).map(|(found, layer)| found.ok_or_else(|| missing(layer))).collect()
    }

    fn run(&self, x: &Tensor, outputs: &mut Outputs<'_>) -> Result<()> {
        let [c1a, c2a, c2b, c3b, c4a] = self.stem.as_slice() else { unreachable!("the table has five units before the blocks") };
        let tape = &Tape::inference();
        let x = chain(tape, &tape.constant(x), [c1a, c2a, c2b])?; // [n, 1, 147, 147, 64]
        let x = pool3d(tape, &x, Pool::Max, HALVING)?; // [n, 1, 73, 73, 64]
        outputs.offer("64", || mean_of_places(tape, &x))?;
        if outputs.all_found() {
            return Ok(());
        }
        let x = chain(tape, &x, [c3b, c4a])?; // [n, 1, 71, 71, 192]
        let mut x = pool3d(tape, &x, Pool::Max, HALVING)?; // [n, 1, 35, 35, 192]
        outputs.offer("192", || mean_of_places(tape, &x))?;
        for ((name, _, kind), block) in BLOCKS.into_iter().zip(&self.blocks) {
            if outputs.all_found() {
                return Ok(());
            }
            let pool = if name == "7c" { self.pools.last } else { self.pools.most };
            x = run_block(tape, kind, block, pool, &x)?;
            if name == "6e" {
                outputs.offer("768", || mean_of_places(tape, &x))?;
            }
        }
        let pooled = mean_of_places(tape, &x)?; // [n, 2048]
        outputs.offer("2048", || Ok(pooled.clone()))?;
        if outputs.is_wanted("logits") || outputs.is_wanted("logits_unbiased") {
            let n = pooled.dims()[0];
            let places = reshape(tape, &pooled, &[n, 1, 1, 1, 2048])?;
            let logits = reshape(tape, &conv3d(tape, &places, &self.output)?, &[n, 1008])?;
            outputs.offer("logits_unbiased", || Ok(logits.clone()))?;
            outputs.offer("logits", || Ok(add(tape, &logits, &self.output_bias)?))?;
        }
        Ok(())
    }
}

/// 3 × 3 with stride 2, without padding.
const HALVING: Window = Window { size: [1, 3, 3], stride: [1, 2, 2], padding: Padding::NONE };
/// 3 × 3 with stride 1, with padding.
const AROUND: Window = Window { size: [1, 3, 3], stride: [1; 3], padding: Padding::Same };

/// Applies the convolutions in sequence.
fn chain<'c>(tape: &Tape<'_>, x: &Var, parts: impl IntoIterator<Item = &'c Conv3d>) -> Result<Var> {
    let mut x = x.clone();
    for part in parts {
        x = conv3d(tape, &x, part)?;
    }
    Ok(x)
}

fn run_block(tape: &Tape<'_>, kind: Block, parts: &[Conv3d], pool: Pool, x: &Var) -> Result<Var> {
    let branches = |branches: &[Branch<'_>]| -> Result<Var> { Ok(side_by_side(tape, branches)?) };
    let last = |x, part| Branch::Convolution(x, part);
    match (kind, parts) {
        (Block::A(_), [one, five_1, five_2, three_1, three_2, three_3, pooled]) => {
            let (five, pool) = (conv3d(tape, x, five_1)?, pool3d(tape, x, pool, AROUND)?);
            let three = chain(tape, x, [three_1, three_2])?;
            branches(&[last(x, one), last(&five, five_2), last(&three, three_3), last(&pool, pooled)])
        }
        (Block::B, [three, double_1, double_2, double_3]) => {
            let double = chain(tape, x, [double_1, double_2])?;
            branches(&[last(x, three), last(&double, double_3), Branch::Pool(x, Pool::Max, HALVING)])
        }
        (Block::C(_), [one, seven @ .., pooled]) => {
            let (single, double) = seven.split_at(3);
            let pool = pool3d(tape, x, pool, AROUND)?;
            let (first, second) = (chain(tape, x, &single[..2])?, chain(tape, x, &double[..4])?);
            branches(&[last(x, one), last(&first, &single[2]), last(&second, &double[4]), last(&pool, pooled)])
        }
        (Block::D, [three_1, three_2, seven @ ..]) => {
            let (three, sevens) = (conv3d(tape, x, three_1)?, chain(tape, x, &seven[..3])?);
            branches(&[last(&three, three_2), last(&sevens, &seven[3]), Branch::Pool(x, Pool::Max, HALVING)])
        }
        (Block::E, [one, three, three_a, three_b, double_1, double_2, double_a, double_b, pooled]) => {
            let (three, pool) = (conv3d(tape, x, three)?, pool3d(tape, x, pool, AROUND)?);
            let double = chain(tape, x, [double_1, double_2])?;
            let forks = [last(&three, three_a), last(&three, three_b), last(&double, double_a), last(&double, double_b)];
            branches(&[&[last(x, one)], forks.as_slice(), &[last(&pool, pooled)]].concat())
        }
        _ => unreachable!("the table has as many parts as a block of this kind"),
    }
}
