//! How a network is changed for fine-tuning: which parameters are frozen, and which linear layers have adapters.

use latte_ops::PackedWeightCache;

/// Which parameters of a network are frozen, and which linear layers have low-rank adapters. Without either a network is what its
/// configuration says.
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
    /// Where frozen weights are kept packed.
    pub(super) packed: PackedWeightCache,
}

/// Which layers get an adapter, and of which kind.
#[derive(Debug, Clone)]
pub(super) struct AdapterRule {
    pub(super) layer: String,
    pub(super) rank: usize,
    pub(super) scale: f64,
}

impl Adaptation {
    /// Nothing is frozen, and nothing has an adapter.
    pub fn new() -> Self {
        Self::default()
    }

    /// Freezes the parameters whose name begins with these components: `blocks.1` is `blocks.1.mlp.fc1.weight`, but not
    /// `blocks.10.…`. An empty prefix is the whole network. Parameters of adapters are never frozen.
    #[must_use]
    pub fn freeze(mut self, prefix: impl Into<String>) -> Self {
        self.frozen.push(prefix.into());
        self
    }

    /// Adds `scale · B(A x)` to the linear layers whose name ends with these components, such as `attn.qkv`; `rank` is the rows of
    /// `A`. Layers that are joined in memory are adapted together, under the name that they have there (`attn1.to_qkv`).
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
