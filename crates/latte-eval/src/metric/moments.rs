//! Mean and covariance of features.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::eigenvalues::of_symmetric;
use super::matrix::{Features, Matrix};
use crate::{Error, Result};

/// Rounding to f32 makes eigenvalues negative by about the root of the width times 2⁻²⁴ of the largest one.
const ROUNDED: f64 = 1e-5;

/// Number of rows that are widened to f64 at a time.
const ROWS: usize = 2048;

/// The divisor of the sum of squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// `n`: StyleGAN-V, Latte, NVIDIA.
    Biased,
    /// `n − 1`: the original FVD, pytorch-fid, torch-fidelity, clean-fid.
    Unbiased,
}

impl Covariance {
    /// The divisor for `n` rows.
    pub(super) fn divisor(self, n: usize) -> f64 {
        match self {
            Self::Biased => n as f64,
            Self::Unbiased => n as f64 - 1.0,
        }
    }
}

/// The number of features, their mean, and the sum of the products of their deviations from it. The moments of two sets can be
/// merged.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Number of rows; `None` for files of other programs without it, whose covariance is used as it is.
    count: Option<usize>,
    mean: Vec<f64>,
    /// `Σ (x − mean)(x − mean)ᵀ`; the covariance if the count is unknown.
    scatter: Matrix,
}

impl Moments {
    /// Computes the moments of `features`: first the mean, then the deviations from it, to avoid cancellation.
    ///
    /// # Errors
    ///
    /// If memory runs out.
    pub fn of(features: &Features) -> Result<Self> {
        let width = features.width();
        let mean = mean(features);
        let mut scatter = Matrix::zeros(width, width);
        for block in features.values().chunks(ROWS * width) {
            let centred = centred_rows(block, &mean);
            let part = centred.transposed().times(&centred)?;
            scatter.values.par_iter_mut().zip(&part.values).with_min_len(4096).for_each(|(sum, part)| *sum += part);
        }
        scatter.symmetrise();
        Ok(Self { count: Some(features.len()), mean, scatter })
    }

    /// Wraps a mean and a covariance of another program. Error messages begin with `subject`.
    ///
    /// # Errors
    ///
    /// If the sizes do not match, a value is not finite, or the covariance is invalid: not symmetric, or with a negative
    /// eigenvalue.
    pub fn from_covariance(mean: Vec<f64>, covariance: Vec<f64>, subject: &str) -> Result<Self> {
        let width = mean.len();
        if width == 0 || covariance.len() != width * width {
            let what = format!("a mean of {width} values and a covariance of {}; expected {width} × {width}", covariance.len());
            return Err(Error::refused(subject, what));
        }
        if mean.iter().chain(&covariance).any(|v| !v.is_finite()) {
            return Err(Error::refused(subject, "holds values that are no finite numbers; write the file again"));
        }
        let mut scatter = Matrix::new(covariance, width, width);
        let most = (0..width).fold(0.0_f64, |most, i| most.max(scatter.row(i)[i].abs()));
        let none = |what: &str| Error::refused(subject, format!("its `sigma` is no covariance: {what}; write the file again"));
        if (0..width).any(|i| (0..i).any(|j| (scatter.row(i)[j] - scatter.row(j)[i]).abs() > 1e-6 * most)) {
            return Err(none("it is not symmetric"));
        }
        scatter.symmetrise();
        let eigenvalues = of_symmetric(scatter.clone())?;
        if let (Some(least), Some(largest)) = (eigenvalues.first(), eigenvalues.last())
            && *least < -ROUNDED * largest.abs()
        {
            return Err(none(&format!("its eigenvalues go from {least:.2e} to {largest:.2e}, and none may be negative")));
        }
        Ok(Self { count: None, mean, scatter })
    }

    /// Number of values per feature.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Number of features; `None` if another program did not store it.
    pub fn count(&self) -> Option<usize> {
        self.count
    }

    /// The mean.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance, `[d, d]` in row-major order.
    ///
    /// # Errors
    ///
    /// If an unbiased covariance is requested for one feature.
    pub fn covariance(&self, kind: Covariance) -> Result<Vec<f64>> {
        Ok(self.covariance_matrix(kind)?.values)
    }

    pub(super) fn covariance_matrix(&self, kind: Covariance) -> Result<Matrix> {
        let Some(count) = self.count else { return Ok(self.scatter.clone()) };
        let divisor = divisor(kind, count)?;
        Ok(Matrix::new(self.scatter.values.iter().map(|v| v / divisor).collect(), self.scatter.rows, self.scatter.columns))
    }

    /// The moments of the union of both sets.
    ///
    /// # Errors
    ///
    /// If widths differ, or the number of features of one set is unknown.
    pub fn merged(&self, other: &Self) -> Result<Self> {
        let (Some(n), Some(m)) = (self.count, other.count) else {
            return Err(Error::refused("moments", "cannot be merged without the number of features; take the features instead"));
        };
        if self.width() != other.width() {
            let what =
                format!("widths {} and {} differ; only features of one detector can be merged", self.width(), other.width());
            return Err(Error::refused("moments", what));
        }
        let (total, share) = ((n + m) as f64, m as f64 / (n + m) as f64);
        let apart: Vec<f64> = other.mean.iter().zip(&self.mean).map(|(b, a)| b - a).collect();
        let mean = self.mean.iter().zip(&apart).map(|(a, d)| a + d * share).collect();
        let weight = n as f64 * m as f64 / total;
        let width = self.width();
        let mut scatter = self.scatter.clone();
        for (i, row) in scatter.values.chunks_mut(width).enumerate() {
            for ((value, b), d) in row.iter_mut().zip(other.scatter.row(i)).zip(&apart) {
                *value += b + apart[i] * d * weight;
            }
        }
        Ok(Self { count: Some(n + m), mean, scatter })
    }
}

/// The divisor of sums over `count` rows.
pub(super) fn divisor(kind: Covariance, count: usize) -> Result<f64> {
    if kind == Covariance::Unbiased {
        check_unbiased(count)?;
    }
    Ok(kind.divisor(count))
}

/// Returns an error if there are too few features for an unbiased covariance.
pub(crate) fn check_unbiased(count: usize) -> Result<()> {
    if count > 1 {
        return Ok(());
    }
    Err(Error::refused("features", "one feature has no unbiased covariance; at least two are needed"))
}

/// The mean of each column.
pub(super) fn mean(features: &Features) -> Vec<f64> {
    let mut sums = vec![0.0; features.width()];
    for row in features.values().chunks(features.width()) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let n = features.len() as f64;
    sums.iter().map(|sum| sum / n).collect()
}

/// Rows in f64, minus the mean.
pub(super) fn centred_rows(values: &[f32], mean: &[f64]) -> Matrix {
    let width = mean.len();
    let centred = values.chunks(width).flat_map(|row| row.iter().zip(mean).map(|(v, m)| f64::from(*v) - m)).collect();
    Matrix::new(centred, values.len() / width, width)
}

#[cfg(test)]
mod tests {
    use super::super::matrix::testing::{features, normal};
    use super::*;

    #[test]
    fn known_moments() {
        let of = |kind| {
            let features = Features::new(vec![1.0, 2.0, 3.0, 6.0], 2, "x").unwrap();
            Moments::of(&features).unwrap().covariance(kind).unwrap()
        };
        assert_eq!(of(Covariance::Biased), [1.0, 2.0, 2.0, 4.0]);
        assert_eq!(of(Covariance::Unbiased), [2.0, 4.0, 4.0, 8.0]);
        let one = Moments::of(&Features::new(vec![1.0, 2.0], 2, "x").unwrap()).unwrap();
        assert!(one.covariance(Covariance::Unbiased).is_err() && one.covariance(Covariance::Biased).is_ok());
    }

    #[test]
    fn merged_moments_are_those_of_the_whole_far_from_zero() {
        let mut values = normal(5000, 6, 1);
        values.values.iter_mut().for_each(|v| *v += 1000.0);
        let all = features(&values);
        let whole = Moments::of(&all).unwrap();
        let parts: Vec<Moments> = [0..3, 3..2500, 2500..5000]
            .into_iter()
            .map(|range| Moments::of(&all.rows(&range.collect::<Vec<_>>())).unwrap())
            .collect();
        for order in [[0, 1, 2], [2, 0, 1]] {
            let merged = parts[order[0]].merged(&parts[order[1]]).unwrap().merged(&parts[order[2]]).unwrap();
            assert_eq!(merged.count(), Some(5000));
            let close = |a: &[f64], b: &[f64]| {
                let scale = b.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
                a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12 * scale)
            };
            assert!(close(merged.mean(), whole.mean()));
            assert!(close(&merged.scatter.values, &whole.scatter.values));
        }
    }

    #[test]
    fn an_invalid_covariance_is_refused() {
        let from = |mean: &[f64], sigma: &[f64]| Moments::from_covariance(mean.to_vec(), sigma.to_vec(), "a.npz");
        assert!(from(&[0.0, 0.0], &[1.0, 0.5, 0.5, 1.0]).is_ok());
        let cases = [
            (&[1.0, 0.5, 0.4, 1.0][..], "not symmetric"),
            (&[1.0, 0.0, 0.0, -1.0], "none may be negative"),
            // No single variance is negative, but that of the difference of both values is.
            (&[1.0, 5.0, 5.0, 1.0], "from -4.00e0 to 6.00e0"),
            (&[0.0, 1.0, 1.0, 0.0], "none may be negative"),
            (&[1.0, 0.0], "expected 2 × 2"),
            (&[f64::NAN, 0.0, 0.0, 1.0], "no finite numbers"),
        ];
        for (sigma, expected) in cases {
            let said = from(&[0.0, 0.0], sigma).unwrap_err().to_string();
            assert!(said.starts_with("a.npz: ") && said.contains(expected), "{said}");
        }
        assert!(from(&[0.0], &[-1.0]).is_err() && from(&[0.0], &[0.0]).is_ok());
        // Rounding of a file in f32 is accepted.
        assert!(from(&[0.0, 0.0], &[1.0, 1.0 + 1e-7, 1.0 + 1e-7, 1.0]).is_ok());
    }
}
