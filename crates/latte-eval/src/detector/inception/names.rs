//! The names of the network's tensors in different files, and their shapes.

use super::super::layers::Unit;

/// A naming scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `Mixed_5b.branch5x5_1.conv.weight`: this program's files, and ports to PyTorch.
    Plain,
    /// `layers.mixed.tower.conv.weight`: NVIDIA's TorchScript file, whose normalisations have no weight.
    Layers,
}

/// A convolution: its two names, output channels, height and width of the kernel.
type Row = (&'static str, &'static str, usize, [usize; 2]);

/// A convolution and the name of the one whose output is its input; an empty name stands for the input of the block.
struct Part {
    row: Row,
    input: &'static str,
}

const fn part(name: &'static str, layers: &'static str, output: usize, kernel: [usize; 2], input: &'static str) -> Part {
    Part { row: (name, layers, output, kernel), input }
}

const STEM: [(&str, &str, [usize; 2], usize); 5] = [
    ("Conv2d_1a_3x3", "conv", [3, 32], 3),
    ("Conv2d_2a_3x3", "conv_1", [32, 32], 3),
    ("Conv2d_2b_3x3", "conv_2", [32, 64], 3),
    ("Conv2d_3b_1x1", "conv_3", [64, 80], 1),
    ("Conv2d_4a_3x3", "conv_4", [80, 192], 3),
];

/// The type of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// Kernels of 5 × 5 and 3 × 3; the value is the number of channels after the pool.
    A(usize),
    /// Halves the size with 3 × 3.
    B,
    /// Kernels of 1 × 7 and 7 × 1 with this many channels.
    C(usize),
    /// Halves the size with 1 × 7, 7 × 1 and 3 × 3.
    D,
    /// Branches that fork into 1 × 3 and 3 × 1.
    E,
}

/// The blocks: suffix of the name, input channels, type.
pub(super) const BLOCKS: [(&str, usize, Block); 11] = [
    ("5b", 192, Block::A(32)),
    ("5c", 256, Block::A(64)),
    ("5d", 288, Block::A(64)),
    ("6a", 288, Block::B),
    ("6b", 768, Block::C(128)),
    ("6c", 768, Block::C(160)),
    ("6d", 768, Block::C(160)),
    ("6e", 768, Block::C(192)),
    ("7a", 768, Block::D),
    ("7b", 1280, Block::E),
    ("7c", 2048, Block::E),
];

/// The name of the last matmul without `weight` or `bias`.
pub(crate) fn output(naming: Naming) -> &'static str {
    match naming {
        Naming::Plain => "fc",
        Naming::Layers => "output",
    }
}

/// All units in the order in which the network reads them.
pub(crate) fn units(naming: Naming) -> Vec<Unit> {
    let mut units: Vec<Unit> = STEM
        .iter()
        .map(|&(name, layers, channels, size)| unit(naming, name, &format!("layers.{layers}"), channels, [size; 2]))
        .collect();
    for (index, (block, input, kind)) in BLOCKS.into_iter().enumerate() {
        let parts = parts(kind);
        let layers = if index == 0 { "layers.mixed".to_string() } else { format!("layers.mixed_{index}") };
        for part in &parts {
            let (name, tower, output, kernel) = part.row;
            let before = parts.iter().find(|p| p.row.0 == part.input).map_or(input, |p| p.row.2);
            units.push(unit(naming, &format!("Mixed_{block}.{name}"), &format!("{layers}.{tower}"), [before, output], kernel));
        }
    }
    units
}

fn unit(naming: Naming, name: &str, layers: &str, channels: [usize; 2], kernel: [usize; 2]) -> Unit {
    let (convolution, norm) = match naming {
        Naming::Plain => (format!("{name}.conv"), format!("{name}.bn")),
        Naming::Layers => (layers.to_string(), layers.to_string()),
    };
    Unit { convolution, norm, channels, kernel: kernel.to_vec() }
}

fn parts(kind: Block) -> Vec<Part> {
    match kind {
        Block::A(pooled) => vec![
            part("branch1x1", "conv", 64, [1, 1], ""),
            part("branch5x5_1", "tower.conv", 48, [1, 1], ""),
            part("branch5x5_2", "tower.conv_1", 64, [5, 5], "branch5x5_1"),
            part("branch3x3dbl_1", "tower_1.conv", 64, [1, 1], ""),
            part("branch3x3dbl_2", "tower_1.conv_1", 96, [3, 3], "branch3x3dbl_1"),
            part("branch3x3dbl_3", "tower_1.conv_2", 96, [3, 3], "branch3x3dbl_2"),
            part("branch_pool", "tower_2.conv", pooled, [1, 1], ""),
        ],
        Block::B => vec![
            part("branch3x3", "conv", 384, [3, 3], ""),
            part("branch3x3dbl_1", "tower.conv", 64, [1, 1], ""),
            part("branch3x3dbl_2", "tower.conv_1", 96, [3, 3], "branch3x3dbl_1"),
            part("branch3x3dbl_3", "tower.conv_2", 96, [3, 3], "branch3x3dbl_2"),
        ],
        Block::C(inner) => vec![
            part("branch1x1", "conv", 192, [1, 1], ""),
            part("branch7x7_1", "tower.conv", inner, [1, 1], ""),
            part("branch7x7_2", "tower.conv_1", inner, [1, 7], "branch7x7_1"),
            part("branch7x7_3", "tower.conv_2", 192, [7, 1], "branch7x7_2"),
            part("branch7x7dbl_1", "tower_1.conv", inner, [1, 1], ""),
            part("branch7x7dbl_2", "tower_1.conv_1", inner, [7, 1], "branch7x7dbl_1"),
            part("branch7x7dbl_3", "tower_1.conv_2", inner, [1, 7], "branch7x7dbl_2"),
            part("branch7x7dbl_4", "tower_1.conv_3", inner, [7, 1], "branch7x7dbl_3"),
            part("branch7x7dbl_5", "tower_1.conv_4", 192, [1, 7], "branch7x7dbl_4"),
            part("branch_pool", "tower_2.conv", 192, [1, 1], ""),
        ],
        Block::D => vec![
            part("branch3x3_1", "tower.conv", 192, [1, 1], ""),
            part("branch3x3_2", "tower.conv_1", 320, [3, 3], "branch3x3_1"),
            part("branch7x7x3_1", "tower_1.conv", 192, [1, 1], ""),
            part("branch7x7x3_2", "tower_1.conv_1", 192, [1, 7], "branch7x7x3_1"),
            part("branch7x7x3_3", "tower_1.conv_2", 192, [7, 1], "branch7x7x3_2"),
            part("branch7x7x3_4", "tower_1.conv_3", 192, [3, 3], "branch7x7x3_3"),
        ],
        Block::E => vec![
            part("branch1x1", "conv", 320, [1, 1], ""),
            part("branch3x3_1", "tower.conv", 384, [1, 1], ""),
            part("branch3x3_2a", "tower.mixed.conv", 384, [1, 3], "branch3x3_1"),
            part("branch3x3_2b", "tower.mixed.conv_1", 384, [3, 1], "branch3x3_1"),
            part("branch3x3dbl_1", "tower_1.conv", 448, [1, 1], ""),
            part("branch3x3dbl_2", "tower_1.conv_1", 384, [3, 3], "branch3x3dbl_1"),
            part("branch3x3dbl_3a", "tower_1.mixed.conv", 384, [1, 3], "branch3x3dbl_2"),
            part("branch3x3dbl_3b", "tower_1.mixed.conv_1", 384, [3, 1], "branch3x3dbl_2"),
            part("branch_pool", "tower_2.conv", 192, [1, 1], ""),
        ],
    }
}
