//! The names of I3D's tensors in different files.

use super::super::layers::Unit;

/// A naming scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `Mixed_3b.b1a.conv3d.weight`: this program's files, and most ports to PyTorch.
    Plain,
    /// `mixed_3b.branch_1.0.conv3d.weight`: another port, and the TorchScript file that many programs use.
    Branches,
    /// `Mixed_3b/Branch_1/Conv3d_0a_1x1/conv_3d/w`: the original in TensorFlow.
    TensorFlow,
}

/// Output channels of a block of four branches: the first, both convolutions of the second and of the third, the fourth.
pub(super) type Mixed = [usize; 6];

/// Each block with its input channels.
pub(super) const MIXED: [(&str, usize, Mixed); 9] = [
    ("3b", 192, [64, 96, 128, 16, 32, 32]),
    ("3c", 256, [128, 128, 192, 32, 96, 64]),
    ("4b", 480, [192, 96, 208, 16, 48, 64]),
    ("4c", 512, [160, 112, 224, 24, 64, 64]),
    ("4d", 512, [128, 128, 256, 24, 64, 64]),
    ("4e", 512, [112, 144, 288, 32, 64, 64]),
    ("4f", 528, [256, 160, 320, 32, 128, 128]),
    ("5b", 832, [256, 160, 320, 32, 128, 128]),
    ("5c", 832, [384, 192, 384, 48, 128, 128]),
];

/// The logits' names without `weight` or `bias`.
pub(crate) fn logits(naming: Naming) -> &'static str {
    match naming {
        Naming::Plain => "logits.conv3d",
        Naming::Branches => "conv3d_0c_1x1.conv3d",
        Naming::TensorFlow => "Logits/Conv3d_0c_1x1/conv_3d",
    }
}

/// All units in the order of the network: three before the blocks, then six per block.
pub(crate) fn units(naming: Naming) -> Vec<Unit> {
    let stem = [("Conv3d_1a_7x7", [3, 64], 7), ("Conv3d_2b_1x1", [64, 64], 1), ("Conv3d_2c_3x3", [64, 192], 3)];
    let mut units: Vec<Unit> = stem
        .into_iter()
        .map(|(name, channels, size)| {
            let name = if naming == Naming::Branches { name.to_lowercase() } else { name.to_string() };
            unit(naming, &name, channels, size)
        })
        .collect();
    for (block, input, [b0, b1a, b1b, b2a, b2b, b3b]) in MIXED {
        let parts = [
            ("b0", "branch_0", "Branch_0/Conv3d_0a_1x1", [input, b0], 1),
            ("b1a", "branch_1.0", "Branch_1/Conv3d_0a_1x1", [input, b1a], 1),
            ("b1b", "branch_1.1", "Branch_1/Conv3d_0b_3x3", [b1a, b1b], 3),
            ("b2a", "branch_2.0", "Branch_2/Conv3d_0a_1x1", [input, b2a], 1),
            // In one block, the original uses another name.
            ("b2b", "branch_2.1", if block == "5b" { "Branch_2/Conv3d_0a_3x3" } else { "Branch_2/Conv3d_0b_3x3" }, [b2a, b2b], 3),
            ("b3b", "branch_3.1", "Branch_3/Conv3d_0b_1x1", [input, b3b], 1),
        ];
        units.extend(parts.map(|(plain, branches, tensor_flow, channels, size)| {
            let name = match naming {
                Naming::Plain => format!("Mixed_{block}.{plain}"),
                Naming::Branches => format!("mixed_{block}.{branches}"),
                Naming::TensorFlow => format!("Mixed_{block}/{tensor_flow}"),
            };
            unit(naming, &name, channels, size)
        }));
    }
    units
}

fn unit(naming: Naming, name: &str, channels: [usize; 2], size: usize) -> Unit {
    let (convolution, norm) = match naming {
        Naming::Plain => (format!("{name}.conv3d"), format!("{name}.bn")),
        Naming::Branches => (format!("{name}.conv3d"), format!("{name}.batch3d")),
        Naming::TensorFlow => (format!("{name}/conv_3d"), format!("{name}/batch_norm")),
    };
    Unit { convolution, norm, channels, kernel: vec![size; 3] }
}
