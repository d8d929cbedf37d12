//! Parts of a work on a data set that processes share.

use std::str::FromStr;

/// Part `number` of `of`, counted from 1: `2/5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    number: usize,
    of: usize,
}

impl Share {
    /// Whether piece `index` of the work, counted from 0, is of this part: the parts take turns.
    pub fn has(self, index: usize) -> bool {
        index % self.of == self.number - 1
    }
}

impl Default for Share {
    fn default() -> Self {
        Self { number: 1, of: 1 }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(k, n)| Some(Self { number: k.parse().ok()?, of: n.parse().ok()? }));
        parsed
            .filter(|share| (1..=share.of).contains(&share.number))
            .ok_or_else(|| format!("expected k/n with 1 ≤ k ≤ n, for example 1/4, got `{text}`"))
    }
}
