//! Distances with a polynomial kernel: KID, KVD, and other kernels on any features.

use serde::{Deserialize, Serialize};

use super::matrix::{Features, Matrix, finite};
use super::numpy_random::NumpyRandom;
use crate::{Error, Result};

/// Number of rows per block of comparisons.
const ROWS: usize = 1024;

/// `(γ xᵀy + c)ᵈ`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Polynomial {
    /// `d`.
    pub degree: i32,
    /// `γ`; `None` for 1 ÷ the width of the features.
    pub gamma: Option<f64>,
    /// `c`.
    pub coef0: f64,
}

impl Polynomial {
    /// The kernel of KID: `(xᵀy / width + 1)³`.
    pub const KID: Self = Self { degree: 3, gamma: None, coef0: 1.0 };
    /// The kernel of JEDi: `(xᵀy / width)²`.
    pub const JEDI: Self = Self { degree: 2, gamma: None, coef0: 0.0 };
}

/// Options of the KID estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KernelOptions {
    /// The kernel.
    pub kernel: Polynomial,
    /// Number of subsets.
    pub subsets: usize,
    /// Number of features per subset; limited to the size of the smaller set.
    pub subset_size: usize,
    /// The seed of the subsets (numpy's `RandomState`).
    pub seed: u32,
}

/// Mean and deviation over the subsets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KernelDistance {
    /// The mean over the subsets, not scaled.
    pub mean: f64,
    /// The standard deviation over the subsets (divided by n, not n − 1).
    pub deviation: f64,
    /// Number of features per subset.
    pub subset_size: usize,
}

/// KID: the unbiased squared MMD with the kernel, averaged over random subsets of both sets.
///
/// # Errors
///
/// If widths differ, a set has fewer than two rows, the number of subsets is zero, or memory runs out.
pub fn kernel_distance(real: &Features, fake: &Features, options: &KernelOptions) -> Result<KernelDistance> {
    real.same_width(fake)?;
    let size = options.subset_size.min(real.len()).min(fake.len());
    if options.subsets == 0 {
        return Err(Error::refused("subsets", "at least one is needed"));
    }
    let mut random = NumpyRandom::new(options.seed);
    let mut values = Vec::with_capacity(options.subsets);
    for _ in 0..options.subsets {
        let first = real.rows(&random.choice(real.len(), size));
        let second = fake.rows(&random.choice(fake.len(), size));
        values.push(mmd_unbiased(&first, &second, options.kernel)?);
    }
    let (mean, deviation) = mean_and_deviation(&values);
    Ok(KernelDistance { mean, deviation, subset_size: size })
}

/// The unbiased squared MMD of the two sets: no feature is compared with itself. May be negative.
///
/// # Errors
///
/// If widths differ, a set has fewer than two rows, or memory runs out.
pub fn mmd_unbiased(real: &Features, fake: &Features, kernel: Polynomial) -> Result<f64> {
    check_pairs(real.len().min(fake.len()))?;
    let [within_real, within_fake, across] = sums(real, fake, kernel)?;
    let (n, m) = (real.len() as f64, fake.len() as f64);
    let own = |set: &Features| -> f64 { (0..set.len()).map(|i| kernel_of_row(set, i, kernel)).sum() };
    let within = (within_real - own(real)) / (n * (n - 1.0)) + (within_fake - own(fake)) / (m * (m - 1.0));
    finite("the kernel distance", within - 2.0 * across / (n * m))
}

/// Returns an error if sets of at least `fewest` features have no pairs.
pub(crate) fn check_pairs(fewest: usize) -> Result<()> {
    if fewest < 2 {
        return Err(Error::refused("features", "each set needs at least two features for an unbiased distance"));
    }
    Ok(())
}

/// The squared MMD of the two sets with every feature also compared with itself (as JEDi does, which then multiplies by 100).
///
/// # Errors
///
/// If widths differ, or memory runs out.
pub fn mmd_with_diagonal(real: &Features, fake: &Features, kernel: Polynomial) -> Result<f64> {
    let [within_real, within_fake, across] = sums(real, fake, kernel)?;
    let (n, m) = (real.len() as f64, fake.len() as f64);
    finite("the kernel distance", within_real / (n * n) + within_fake / (m * m) - 2.0 * across / (n * m))
}

/// The kernel summed over all pairs within the first set, within the second, and across.
fn sums(real: &Features, fake: &Features, kernel: Polynomial) -> Result<[f64; 3]> {
    real.same_width(fake)?;
    Ok([sum(real, real, kernel)?, sum(fake, fake, kernel)?, sum(real, fake, kernel)?])
}

fn sum(a: &Features, b: &Features, kernel: Polynomial) -> Result<f64> {
    let gamma = kernel.gamma.unwrap_or(1.0 / a.width() as f64);
    let mut sum = 0.0;
    for x in blocks(a) {
        for y in blocks(b) {
            let products = x.times_transposed(&y)?;
            sum += products.values.iter().map(|p| (gamma * p + kernel.coef0).powi(kernel.degree)).sum::<f64>();
        }
    }
    Ok(sum)
}

fn kernel_of_row(set: &Features, row: usize, kernel: Polynomial) -> f64 {
    let square: f64 = set.row(row).iter().map(|v| f64::from(*v).powi(2)).sum();
    (kernel.gamma.unwrap_or(1.0 / set.width() as f64) * square + kernel.coef0).powi(kernel.degree)
}

/// The features in f64, in blocks of rows.
pub(super) fn blocks(features: &Features) -> impl Iterator<Item = Matrix> {
    let width = features.width();
    features
        .values()
        .chunks(ROWS * width)
        .map(move |rows| Matrix::new(rows.iter().map(|v| f64::from(*v)).collect(), rows.len() / width, width))
}

/// The mean, and the standard deviation (divided by n).
pub(super) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::matrix::testing::{features, normal};
    use super::*;

    #[test]
    fn a_small_example_computed_by_hand() {
        // Three rows against four, three values each, with γ = 1/3.
        let a = Features::new((1_u8..10).map(f32::from).collect(), 3, "a").unwrap();
        let b = Features::new([7_u8, 6, 5, 4, 3, 2, 1, 1, 8, 0, 2, 5].map(f32::from).to_vec(), 3, "b").unwrap();
        let second = mmd_with_diagonal(&a, &b, Polynomial::JEDI).unwrap();
        assert!((second - 270.722222).abs() < 1e-6, "{second}");
        let third = mmd_with_diagonal(&a, &b, Polynomial::KID).unwrap();
        assert!((third - 23088.0833).abs() < 1e-4, "{third}");
    }

    #[test]
    fn one_set_against_itself_and_shifted() {
        let set = features(&normal(1500, 4, 1));
        assert!(mmd_with_diagonal(&set, &set, Polynomial::KID).unwrap().abs() < 1e-9);
        // Halves of one set: unbiased, so near zero with either sign.
        let halves = [0..750, 750..1500].map(|range| set.rows(&range.collect::<Vec<_>>()));
        assert!(mmd_unbiased(&halves[0], &halves[1], Polynomial::KID).unwrap().abs() < 0.1);
        // Degree 1: the squared distance of the means times γ.
        let linear = Polynomial { degree: 1, gamma: Some(2.0), coef0: 0.0 };
        let ones = Features::new(vec![1.0; 12], 4, "x").unwrap();
        let threes = Features::new(vec![3.0; 8], 4, "x").unwrap();
        assert_eq!(mmd_unbiased(&ones, &threes, linear).unwrap(), 32.0);
        assert_eq!(mmd_with_diagonal(&ones, &threes, linear).unwrap(), 32.0);
    }

    #[test]
    fn subsets_follow_the_seed_and_a_full_subset_is_the_whole_set() {
        let [real, fake] = [features(&normal(60, 5, 1)), features(&normal(40, 5, 2))];
        let options = KernelOptions { kernel: Polynomial::KID, subsets: 7, subset_size: 30, seed: 3 };
        let one = kernel_distance(&real, &fake, &options).unwrap();
        assert_eq!(one, kernel_distance(&real, &fake, &options).unwrap());
        assert_ne!(one.mean, kernel_distance(&real, &fake, &KernelOptions { seed: 4, ..options }).unwrap().mean);
        assert!(one.deviation > 0.0 && one.subset_size == 30);
        let all = KernelOptions { subsets: 1, subset_size: 1000, ..options };
        let same_size = real.rows(&(0..40).collect::<Vec<_>>());
        let whole = mmd_unbiased(&same_size, &fake, Polynomial::KID).unwrap();
        assert!((kernel_distance(&same_size, &fake, &all).unwrap().mean - whole).abs() < 1e-12);
        assert!(kernel_distance(&real, &fake, &KernelOptions { subsets: 0, ..options }).is_err());
    }
}
