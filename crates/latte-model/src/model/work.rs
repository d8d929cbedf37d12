//! The number of operations of a pass through the network. It does not depend on the machine, so networks can be compared by it.

use super::block::BlockKind;
use super::config::{Condition, Injection, LatteConfig};
use super::{Latte, ParameterSpec};

/// The number of rows that go through each kind of layer in one pass.
#[derive(Debug, Clone, Copy)]
struct Rows {
    clips: usize,
    /// Token frames of all clips.
    frames: usize,
    /// Token frames of all clips and images.
    with_images: usize,
    /// Tokens of a frame in the blocks, including those of timestep and condition.
    n: usize,
    /// Tokens of a frame that are patches.
    patches: usize,
    /// Whether frames are modulated one by one, because images have their own labels.
    by_frame: bool,
}

impl Latte {
    /// Floating-point operations of the matmuls of one forward pass over `clips` clips, each with `num_images` single images:
    /// linear layers and attention, where a multiplication and an addition count as two. Norms, activations and elementwise sums
    /// are not counted. A training step takes three times as many: the backward pass has two matmuls for each one.
    pub fn forward_flops(&self, clips: usize, num_images: usize) -> f64 {
        let config = self.config();
        let (p, [h, w]) = (config.patch_size, config.input_size);
        let (f, patches) = (config.num_frames / config.frames_per_token(), (h / p) * (w / p));
        let classes = matches!(config.condition, Condition::Class { .. });
        let extra = match (config.injection, &config.condition) {
            (Injection::SAdaln, _) => 0,
            (Injection::AllTokens, Condition::None) => 1,
            (Injection::AllTokens, _) => 2,
        };
        let rows = Rows {
            clips,
            frames: clips * f,
            with_images: clips * (f + num_images),
            n: patches + extra,
            patches,
            by_frame: classes && num_images > 0,
        };
        let linear: f64 =
            self.parameters().iter().map(|spec| 2.0 * rows.through(config, spec) as f64 * spec.num_values() as f64).sum();
        let attention: f64 = (0..config.depth).map(|index| rows.attention(config, BlockKind::of(config, index))).sum();
        linear + attention
    }
}

impl Rows {
    /// The number of rows that are multiplied with this parameter; 0 for parameters that are in no matmul.
    fn through(&self, config: &LatteConfig, spec: &ParameterSpec) -> usize {
        let Some(layer) = spec.name.strip_suffix(".weight") else { return 0 };
        if spec.shape.len() < 2 {
            return 0;
        }
        if let Some((index, layer)) = layer.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            let kind = BlockKind::of(config, index.parse().unwrap_or(0));
            return self.through_block(kind, layer);
        }
        match layer {
            "x_embedder.proj" | "final_layer.linear" => self.with_images * self.patches,
            "final_layer.temporal_upsample" => self.with_images * self.patches * config.patch_size.pow(2),
            "final_layer.adaLN_modulation.1" if self.by_frame => self.with_images,
            // A table lookup is no matmul.
            "y_embedder.embedding_table" => 0,
            _ => self.clips,
        }
    }

    fn through_block(&self, kind: BlockKind, layer: &str) -> usize {
        let frames = if kind == BlockKind::Temporal { self.frames } else { self.with_images };
        match layer {
            "adaLN_modulation.1" => match kind {
                BlockKind::Temporal => self.clips,
                _ if !self.by_frame => self.clips,
                BlockKind::Factorised => self.with_images + self.clips,
                BlockKind::Spatial | BlockKind::Split => self.with_images,
            },
            "attn_temp.qkv" | "attn_temp.proj" => self.frames * self.n,
            _ => frames * self.n,
        }
    }

    /// The two matmuls of attention, for all heads.
    fn attention(&self, config: &LatteConfig, kind: BlockKind) -> f64 {
        let frames_of_a_clip = self.frames / self.clips.max(1);
        let spatial = (self.with_images * self.n * self.n) as f64;
        let temporal = (self.frames * self.n * frames_of_a_clip) as f64;
        4.0 * config.hidden_size as f64
            * match kind {
                BlockKind::Spatial => spatial,
                BlockKind::Temporal => temporal,
                BlockKind::Factorised => spatial + temporal,
                BlockKind::Split => f64::midpoint(spatial, temporal),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::BlockLayout;
    use super::*;

    fn flops(config: LatteConfig, clips: usize, images: usize) -> f64 {
        Latte::new(config).unwrap().forward_flops(clips, images)
    }

    #[test]
    fn as_much_as_the_paper_counts() {
        // Latte-XL/2, 16 frames of 32 × 32 latents: 5572.69 G multiplications with weights, for three videos. Attention is not
        // among them; the original computes the modulation for each of 16 frames or 256 positions, which is done once here.
        for block_layout in [BlockLayout::Interleaved, BlockLayout::LateFusion] {
            let config = LatteConfig { block_layout, ..LatteConfig::preset("Latte-XL/2").unwrap() };
            let (spatial, temporal) = (16.0 * 256.0 * 256.0, 16.0 * 256.0 * 16.0);
            let attention = 3.0 * 4.0 * 1152.0 * 14.0 * (spatial + temporal);
            let copies = 3.0 * 6.0 * 1152.0 * 1152.0 * 14.0 * (15.0 + 255.0);
            let linear = (flops(config, 3, 0) - attention) / 2.0 + copies;
            assert!((linear / 5572.69e9 - 1.0).abs() < 1e-3, "{block_layout:?}: {linear}");
        }
    }

    #[test]
    fn images_pass_spatial_layers_only_and_tokens_of_the_condition_all() {
        let base = LatteConfig {
            input_size: [4, 4],
            in_channels: 1,
            patch_size: 2,
            hidden_size: 8,
            depth: 2,
            num_heads: 2,
            num_frames: 2,
            condition: Condition::Class { num_classes: 3, dropout: 0.1 },
            ..LatteConfig::preset("Latte-S/2").unwrap()
        };
        let out = base.out_channels() as f64;
        // One block with d = 8: 12 d² for each token, 6 d² for each modulation vector.
        let (token, vector, ends) = (12.0 * 64.0, 6.0 * 64.0, 4.0 * 8.0 + 4.0 * out * 8.0);
        let once = 256.0 * 8.0 + 64.0;
        let expected = |spatial: f64, temporal: f64, frames: f64, modulated: f64| {
            let linear = once + 4.0 * frames * ends + 4.0 * (spatial + temporal) * token + modulated;
            2.0 * linear + 4.0 * 8.0 * (spatial * 16.0 + temporal * 4.0 * 2.0)
        };
        assert_eq!(flops(base.clone(), 1, 0), expected(2.0, 2.0, 2.0, 2.0 * vector + 128.0));
        // Three images more: they and the frames have their own labels in the spatial block and at the end.
        assert_eq!(flops(base.clone(), 1, 3), expected(5.0, 2.0, 5.0, 5.0 * vector + vector + 5.0 * 128.0));
        // Two more tokens per frame and no modulation; the two are dropped before the last layer.
        let tokens = LatteConfig { injection: Injection::AllTokens, ..base };
        let linear = once + 8.0 * ends + 6.0 * 4.0 * token;
        assert_eq!(flops(tokens, 1, 0), 2.0 * linear + 4.0 * 8.0 * (2.0 * 36.0 + 2.0 * 6.0 * 2.0));
    }
}
