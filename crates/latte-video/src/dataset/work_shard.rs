//! Divides the work on a data set between processes.

use std::str::FromStr;

/// Shard `number` of `of`, counted from 1: `2/5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkShard {
    number: usize,
    of: usize,
}

impl WorkShard {
    /// Whether this shard has item `index`, counted from 0: items are distributed round-robin.
    pub fn has(self, index: usize) -> bool {
        index % self.of == self.number - 1
    }
}

impl Default for WorkShard {
    fn default() -> Self {
        Self { number: 1, of: 1 }
    }
}

impl FromStr for WorkShard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(k, n)| Some(Self { number: k.parse().ok()?, of: n.parse().ok()? }));
        parsed
            .filter(|shard| (1..=shard.of).contains(&shard.number))
            .ok_or_else(|| format!("expected k/n with 1 ≤ k ≤ n, for example 1/4, got `{text}`"))
    }
}
