//! The Fréchet distance between two sets of features, each modelled as a normal distribution: FVD and FID.

use serde::{Deserialize, Serialize};

use super::cholesky;
use super::eigenvalues::of_symmetric;
use super::matrix::{Features, Matrix, finite};
use super::moments::{Covariance, Moments, centred_rows, divisor, mean};
use crate::{Error, Result};

/// `|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 √(Σ₁ Σ₂))`, and its two terms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Frechet {
    /// The distance (the squared one; no root is taken).
    pub value: f64,
    /// The term of the means.
    pub means: f64,
    /// The term of the covariances.
    pub covariances: f64,
    /// The sum of the traces of both covariances, from which the root is subtracted.
    #[serde(default)]
    pub traces: f64,
}

impl Frechet {
    fn of(means: f64, traces: f64, root: f64) -> Result<Self> {
        let covariances = traces - 2.0 * root;
        let value = finite("the Fréchet distance", means + covariances)?;
        Ok(Self { value, means, covariances, traces })
    }
}

/// Computes the Fréchet distance between two sets of features.
///
/// If a set has fewer rows than columns, its covariance is singular and many of its eigenvalues are rounding errors; the root is
/// then computed from a smaller matrix over the rows, which has the same non-zero eigenvalues.
///
/// # Errors
///
/// If the widths differ, an unbiased covariance is requested for one row, or memory runs out.
pub fn frechet(real: &Features, fake: &Features, covariance: Covariance) -> Result<Frechet> {
    real.same_width(fake)?;
    let width = real.width();
    if real.len() >= width && fake.len() >= width {
        return frechet_of_moments(&Moments::of(real)?, &Moments::of(fake)?, covariance);
    }
    let (first, second) = (Deviations::of(real, covariance)?, Deviations::of(fake, covariance)?);
    // The eigenvalues do not depend on the order of the sets.
    let (few, many) = if first.rows.rows <= second.rows.rows { (&first, &second) } else { (&second, &first) };
    let inner = if many.rows.rows < width {
        let products = few.rows.times_transposed(&many.rows)?; // [few, many]
        products.times_transposed(&products)?
    } else {
        let scatter = many.rows.transposed().times(&many.rows)?; // [d, d]
        few.rows.times(&scatter)?.times_transposed(&few.rows)?
    };
    let root = trace_of_root(inner)? / (first.divisor * second.divisor).sqrt();
    Frechet::of(apart(&first.mean, &second.mean), first.trace() + second.trace(), root)
}

/// Computes the distance from the moments alone.
///
/// With `Σ₁ = L Lᵀ`, the matrices `Σ₁ Σ₂` and `Lᵀ Σ₂ L` have the same non-zero eigenvalues, and the latter is symmetric.
///
/// # Errors
///
/// Those of [`frechet`].
pub fn frechet_of_moments(real: &Moments, fake: &Moments, covariance: Covariance) -> Result<Frechet> {
    if real.width() != fake.width() {
        let (r, f) = (real.width(), fake.width());
        let what = format!("real features have {r} values, generated ones {f}; both must come from the same detector and output");
        return Err(Error::refused("features", what));
    }
    let (first, second) = (real.covariance_matrix(covariance)?, fake.covariance_matrix(covariance)?);
    let traces = first.trace() + second.trace();
    let factor = cholesky::factor(&first); // [d, rank]
    drop(first);
    let root = if factor.columns == 0 { 0.0 } else { trace_of_root(factor.transposed().times(&second.times(&factor)?)?)? };
    Frechet::of(apart(real.mean(), fake.mean()), traces, root)
}

/// `tr √m` of a positive semi-definite matrix.
fn trace_of_root(mut m: Matrix) -> Result<f64> {
    m.symmetrise();
    // Without this check, NaN would count as zero below.
    finite("a product of the covariances", m.values.iter().sum())?;
    // Negative eigenvalues are zeros with rounding errors.
    Ok(of_symmetric(m)?.iter().map(|v| v.max(0.0).sqrt()).sum())
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// Features minus their mean.
struct Deviations {
    mean: Vec<f64>,
    rows: Matrix,
    divisor: f64,
}

impl Deviations {
    fn of(features: &Features, covariance: Covariance) -> Result<Self> {
        let mean = mean(features);
        Ok(Self { rows: centred_rows(features.values(), &mean), divisor: divisor(covariance, features.len())?, mean })
    }

    fn trace(&self) -> f64 {
        self.rows.values.iter().map(|v| v * v).sum::<f64>() / self.divisor
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::testing::{features, normal};
    use super::*;

    fn moments(mean: &[f64], sigma: &Matrix) -> Moments {
        Moments::from_covariance(mean.to_vec(), sigma.values.clone(), "test").unwrap()
    }

    fn diagonal(values: &[f64]) -> Matrix {
        let n = values.len();
        let mut m = Matrix::zeros(n, n);
        values.iter().enumerate().for_each(|(i, v)| m.values[i * n + i] = *v);
        m
    }

    /// A positive definite matrix.
    fn spd(n: usize, seed: u32) -> Matrix {
        let half = normal(n, n + 3, seed);
        half.times_transposed(&half).unwrap()
    }

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1e-300), "{a} is not {b}");
    }

    #[test]
    fn an_overflow_is_an_error_and_not_zero() {
        let huge = || moments(&[0.0; 3], &diagonal(&[1e200, 1e180, 1e160]));
        let said = frechet_of_moments(&huge(), &huge(), Covariance::Biased).unwrap_err().to_string();
        assert!(said.contains("no finite number"), "{said}");
    }

    #[test]
    fn diagonal_covariances() {
        let (a, b) = ([1.0, 4.0, 0.0], [9.0, 1.0, 2.0]);
        let found =
            frechet_of_moments(&moments(&[0.0; 3], &diagonal(&a)), &moments(&[1.0, 2.0, 0.0], &diagonal(&b)), Covariance::Biased)
                .unwrap();
        close(found.value, 5.0 + 4.0 + 1.0 + 2.0, 1e-14);
        assert_eq!(found.means, 5.0);
    }

    #[test]
    fn covariances_that_do_not_commute() {
        // Σ₂ = M Σ₁ M gives tr √(Σ₁ Σ₂) = tr(Σ₁ M).
        for n in [1, 2, 9, 50] {
            let (first, m) = (spd(n, 1), spd(n, 2));
            let second = m.times(&first).unwrap().times(&m).unwrap();
            let expected = first.trace() + second.trace() - 2.0 * first.times(&m).unwrap().trace();
            let zero = vec![0.0; n];
            let found = |a: &Matrix, b: &Matrix| {
                frechet_of_moments(&moments(&zero, a), &moments(&zero, b), Covariance::Biased).unwrap().value
            };
            close(found(&first, &second), expected, 1e-9);
            close(found(&second, &first), expected, 1e-9);
        }
        // 2 × 2: tr √(AB) = √(tr(AB) + 2 √det(AB)).
        let (a, b) = (Matrix::new(vec![2.0, 1.0, 1.0, 3.0], 2, 2), Matrix::new(vec![1.0, -0.5, -0.5, 4.0], 2, 2));
        let expected = 10.0 - 2.0 * (a.times(&b).unwrap().trace() + 2.0 * (5.0_f64 * 3.75).sqrt()).sqrt();
        let found = frechet_of_moments(&moments(&[0.0; 2], &a), &moments(&[0.0; 2], &b), Covariance::Biased).unwrap();
        close(found.value, expected, 1e-13);
    }

    #[test]
    fn general_properties_hold_for_many_and_for_few_rows() {
        for (n, m, d) in [(200, 150, 10), (30, 25, 40), (30, 90, 40), (90, 30, 40)] {
            let (a, b) = (normal(n, d, 1), normal(m, d, 2));
            let [real, fake] = [&a, &b].map(features);
            let distance = |a: &Features, b: &Features| frechet(a, b, Covariance::Unbiased).unwrap().value;
            let found = distance(&real, &fake);
            close(distance(&fake, &real), found, 1e-9);
            let own = real.values().iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n as f64;
            assert!(distance(&real, &real).abs() < 1e-6 * own, "{}", distance(&real, &real));
            // Scaling the features by 4 scales the distance by 16. Powers of two do not round.
            let four = |m: &Matrix| {
                features(&Matrix::new(m.values.iter().map(|v| f64::from(*v as f32) * 4.0).collect(), m.rows, m.columns))
            };
            close(distance(&four(&a), &four(&b)), 16.0 * found, 1e-9);
            // Shifted by 1/2 in each value. Values are multiples of 2⁻¹², so that nothing rounds.
            let grid = |m: &Matrix, by: f64| {
                features(&Matrix::new(m.values.iter().map(|v| (v * 4096.0).round() / 4096.0 + by).collect(), m.rows, m.columns))
            };
            let moved = frechet(&grid(&a, 0.0), &grid(&a, 0.5), Covariance::Biased).unwrap();
            close(moved.means, 0.25 * d as f64, 1e-12);
            assert!(moved.covariances.abs() < 1e-6 * own);
        }
    }

    #[test]
    fn the_form_over_rows_gives_what_the_form_over_columns_gives() {
        for (n, m) in [(30, 25), (30, 90), (90, 30)] {
            let [real, fake] = [features(&normal(n, 40, 1)), features(&normal(m, 40, 2))];
            for kind in [Covariance::Biased, Covariance::Unbiased] {
                let moments = frechet_of_moments(&Moments::of(&real).unwrap(), &Moments::of(&fake).unwrap(), kind).unwrap();
                close(frechet(&real, &fake, kind).unwrap().value, moments.value, 1e-6);
            }
        }
    }

    #[test]
    fn biased_and_unbiased_covariances_differ_by_the_factor_of_n() {
        // For sets of equal size, all unbiased covariances are larger by n/(n − 1).
        let [real, fake] = [features(&normal(50, 5, 1)), features(&normal(50, 5, 2))];
        let [biased, unbiased] = [Covariance::Biased, Covariance::Unbiased].map(|kind| frechet(&real, &fake, kind).unwrap());
        close(unbiased.covariances, biased.covariances * 50.0 / 49.0, 1e-10);
        assert_eq!(unbiased.means, biased.means);
    }

    #[test]
    fn statistics_rounded_to_f32_give_the_distance() {
        // Half of the directions have no variance, so rounding makes some eigenvalues negative.
        let [real, fake] = [features(&normal(20, 40, 1)), features(&normal(200, 40, 2))];
        let (whole, fake) = (Moments::of(&real).unwrap(), Moments::of(&fake).unwrap());
        let rounded = |values: &[f64]| values.iter().map(|v| f64::from(*v as f32)).collect();
        let of_file =
            Moments::from_covariance(rounded(whole.mean()), rounded(&whole.covariance(Covariance::Unbiased).unwrap()), "f32")
                .unwrap();
        assert!(of_symmetric(of_file.covariance_matrix(Covariance::Unbiased).unwrap()).unwrap()[0] < -1e-9);
        let of = |real: &Moments, fake: &Moments| frechet_of_moments(real, fake, Covariance::Unbiased).unwrap();
        let expected = of(&whole, &fake).value;
        close(of(&of_file, &fake).value, expected, 1e-4);
        close(of(&fake, &of_file).value, expected, 1e-4);
    }

    #[test]
    fn other_widths_and_single_rows_are_refused() {
        let one = features(&normal(1, 3, 1));
        assert!(frechet(&one, &features(&normal(4, 2, 1)), Covariance::Biased).is_err());
        assert!(frechet(&one, &one, Covariance::Unbiased).is_err());
        assert_eq!(frechet(&one, &one, Covariance::Biased).unwrap().value, 0.0);
    }
}
