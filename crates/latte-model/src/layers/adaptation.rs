//! Changes a network for fine-tuning: frozen parameters, and linear layers with adapters.

use latte_ops::PackedWeightCache;

/// The frozen parameters of a network, and its linear layers with low-rank adapters. Without either, the network is the one of its
/// configuration.
///
/// ```
/// use latte_model::layers::Adaptation;
/// use latte_model::model::{Latte, LatteConfig};
///
/// # fn main() -> latte_model::Result<()> {
/// let adaptation = Adaptation::new().freeze("").adapt("attn.qkv", 8, 1.0);
/// let model = Latte::new(LatteConfig::preset("Latte-S/2")?)?.adapted(&adaptation)?;
/// let trainable: Vec<_> = model.parameters().iter().filter(|p| p.is_trainable()).collect();
/// assert_eq!(trainable[0].name, "blocks.0.attn.qkv.lora_A.weight");
/// assert_eq!(trainable[0].shape, [8, 384]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Adaptation {
    pub(super) frozen: Vec<String>,
    pub(super) adapters: Vec<AdapterRule>,
    /// The cache of packed frozen weights.
    pub(super) packed: PackedWeightCache,
}

/// The layers that get an adapter, with its rank and scale.
#[derive(Debug, Clone)]
pub(super) struct AdapterRule {
    pub(super) layer: String,
    pub(super) rank: usize,
    pub(super) scale: f64,
}

impl Adaptation {
    /// No frozen parameters and no adapters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Freezes the parameters whose names begin with these components: `blocks.1` matches `blocks.1.mlp.fc1.weight`, but not
    /// `blocks.10.…`. An empty prefix matches the whole network. Parameters of adapters are never frozen.
    #[must_use]
    pub fn freeze(mut self, prefix: impl Into<String>) -> Self {
        self.frozen.push(prefix.into());
        self
    }

    /// Adds `scale · B(A x)` to the linear layers whose names end with these components, such as `attn.qkv`; `rank` is the number
    /// of rows of `A`. Layers that are joined in memory are adapted together, under their joined name (`attn1.to_qkv`).
    #[must_use]
    pub fn adapt(mut self, layer: impl Into<String>, rank: usize, scale: f64) -> Self {
        self.adapters.push(AdapterRule { layer: layer.into(), rank, scale });
        self
    }
}

/// Whether `name` begins with the components of `prefix`.
pub(super) fn begins_with(name: &str, prefix: &str) -> bool {
    prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether `name` ends with the components of `suffix`.
pub(super) fn ends_with(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_by_components() {
        assert!(begins_with("blocks.1.mlp", "blocks.1") && begins_with("blocks.1", "blocks.1") && begins_with("a", ""));
        assert!(!begins_with("blocks.10.mlp", "blocks.1") && !begins_with("a", "a.b"));
        assert!(ends_with("blocks.1.attn.qkv", "attn.qkv") && ends_with("qkv", "qkv"));
        assert!(!ends_with("blocks.1.attn.to_qkv", "qkv") && !ends_with("qkv", "attn.qkv"));
    }
}
