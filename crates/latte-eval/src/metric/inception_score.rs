//! The inception score of frames (Inception) and of clips (C3D).

use serde::{Deserialize, Serialize};

use super::kernel::mean_and_deviation;
use super::matrix::{Features, finite};
use super::numpy_random::NumpyRandom;
use crate::{Error, Result};

/// Mean and deviation over the splits. The maximum possible score falls with the number of splits, so report it with the score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InceptionScore {
    /// The mean over the splits.
    pub mean: f64,
    /// The standard deviation over the splits (divided by n, not n − 1).
    pub deviation: f64,
    /// Number of splits.
    pub splits: usize,
}

/// `exp(mean of KL(p(class | item) ‖ p(class)))` in each of `splits` parts of the set, from logits. With a seed, items are first
/// permuted by numpy's `RandomState(seed).permutation`.
///
/// # Errors
///
/// If there are fewer items than splits, or `splits` is zero.
pub fn inception_score(logits: &Features, splits: usize, shuffle_seed: Option<u32>) -> Result<InceptionScore> {
    let n = logits.len();
    check_splits(n, splits)?;
    let order = shuffle_seed.map_or_else(|| (0..n).collect(), |seed| NumpyRandom::new(seed).permutation(n));
    let scores: Vec<f64> = (0..splits).map(|split| score(logits, &order[split * n / splits..(split + 1) * n / splits])).collect();
    let (mean, deviation) = mean_and_deviation(&scores);
    Ok(InceptionScore { mean: finite("the inception score", mean)?, deviation, splits })
}

/// Returns an error if the items cannot be split.
pub(crate) fn check_splits(n: usize, splits: usize) -> Result<()> {
    if splits == 0 || n < splits {
        let what = format!("{n} items cannot be split into {splits} parts; use at most as many splits as there are items");
        return Err(Error::refused("splits", what));
    }
    Ok(())
}

fn score(logits: &Features, items: &[usize]) -> f64 {
    let logs: Vec<Vec<f64>> = items.iter().map(|&item| log_softmax(logits.row(item))).collect();
    let mut mean = vec![0.0; logits.width()];
    for row in &logs {
        mean.iter_mut().zip(row).for_each(|(sum, log)| *sum += log.exp());
    }
    let n = items.len() as f64;
    let log_mean: Vec<f64> = mean.iter().map(|sum| (sum / n).ln()).collect();
    // p log p is 0 for p = 0, where the logarithm of the mean may be infinite.
    let term = |log: &f64, log_mean: &f64| {
        let p = log.exp();
        if p > 0.0 { p * (log - log_mean) } else { 0.0 }
    };
    let divergence: f64 = logs.iter().map(|row| row.iter().zip(&log_mean).map(|(l, m)| term(l, m)).sum::<f64>()).sum();
    (divergence / n).exp()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().fold(f64::NEG_INFINITY, |most, v| most.max(f64::from(*v)));
    let sum: f64 = logits.iter().map(|v| (f64::from(*v) - most).exp()).sum();
    logits.iter().map(|v| f64::from(*v) - most - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() < tolerance, "{a} is not {b}");
    }

    fn one_hot(n: usize, k: usize, scale: f32) -> Features {
        Features::new((0..n * k).map(|i| if i % k == i / k % k { scale } else { 0.0 }).collect(), k, "x").unwrap()
    }

    #[test]
    fn known_scores_are_reproduced() {
        let uniform = Features::new(vec![0.5; 60], 6, "x").unwrap();
        close(inception_score(&uniform, 2, None).unwrap().mean, 1.0, 1e-12);
        let same = Features::new([3.0, 1.0, -2.0].repeat(8), 3, "x").unwrap();
        close(inception_score(&same, 4, Some(1)).unwrap().mean, 1.0, 1e-12);
        // Certain predictions of each class in turn: the score is the number of classes, also with probabilities of zero.
        let certain = inception_score(&one_hot(202, 101, 1e30), 1, None).unwrap();
        close(certain.mean, 101.0, 1e-9);
        // p = (1 − a) one-hot + a/K: exp(Σ p log p + log K), for a = 0.3 and K = 101.
        let (a, k) = (0.3_f64, 101.0_f64);
        let rest = (a / k).ln();
        let scale = (1.0 - a + a / k).ln() - rest;
        close(inception_score(&one_hot(101, 101, scale as f32), 1, None).unwrap().mean, 13.998100682176, 1e-5);
    }

    #[test]
    fn splits_are_consecutive_parts() {
        // Each half has only one class, unless items are shuffled.
        let halves: Vec<f32> = (0..40).flat_map(|i| if i < 20 { [9.0, 0.0] } else { [0.0, 9.0] }).collect();
        let halves = Features::new(halves, 2, "x").unwrap();
        close(inception_score(&halves, 2, None).unwrap().mean, 1.0, 1e-9);
        assert!(inception_score(&halves, 2, Some(42)).unwrap().mean > 1.5);
        assert!(inception_score(&halves, 3, None).unwrap().deviation > 0.0);
        assert!(inception_score(&halves, 41, None).is_err() && inception_score(&halves, 0, None).is_err());
    }
}
