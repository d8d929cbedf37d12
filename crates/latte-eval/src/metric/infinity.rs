//! Extrapolates the Fréchet distance to infinitely many generated clips (Chong and Forsyth, arXiv:1911.07023).

use serde::{Deserialize, Serialize};

use super::frechet::frechet;
use super::matrix::Features;
use super::moments::Covariance;
use super::numpy_random::NumpyRandom;
use crate::{Error, Result};

/// Number of subset sizes.
const POINTS: usize = 15;

/// A line through distances over 1/n, and its value at 1/n = 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extrapolation {
    /// The distance at 1/n = 0.
    pub value: f64,
    /// Numbers of generated clips, each with the distance of a random subset of that size.
    pub points: Vec<(usize, f64)>,
}

/// The distance falls with the number n of generated clips, almost linearly in 1/n. This fits a least-squares line through the
/// distances of 15 random subsets, from a third of the clips to all of them, and returns its value at 1/n = 0. The real set is
/// always used whole.
///
/// # Errors
///
/// If there are fewer than 45 generated features, and those of [`frechet`].
pub fn frechet_at_infinity(real: &Features, fake: &Features, covariance: Covariance, seed: u32) -> Result<Extrapolation> {
    let n = fake.len();
    check_count(n)?;
    let (least, mut random) = (n / 3, NumpyRandom::new(seed));
    let mut points = Vec::with_capacity(POINTS);
    for point in 0..POINTS {
        let size = least + (n - least) * point / (POINTS - 1);
        let mut chosen = random.choice(n, size);
        // Rows are summed in the order of the set.
        chosen.sort_unstable();
        points.push((size, frechet(real, &fake.rows(&chosen), covariance)?.value));
    }
    Ok(Extrapolation { value: intercept(&points), points })
}

/// Returns an error if there are too few generated clips.
pub(crate) fn check_count(n: usize) -> Result<()> {
    if n < 3 * POINTS {
        let what = format!("{n} generated clips; extrapolating their number needs at least {}", 3 * POINTS);
        return Err(Error::refused("features", what));
    }
    Ok(())
}

/// The value at zero of the least-squares line through `(1/n, value)`.
fn intercept(points: &[(usize, f64)]) -> f64 {
    let count = points.len() as f64;
    let at = |n: usize| 1.0 / n as f64;
    let x = points.iter().map(|(n, _)| at(*n)).sum::<f64>() / count;
    let y = points.iter().map(|(_, value)| value).sum::<f64>() / count;
    let slope = points.iter().map(|(n, value)| (at(*n) - x) * (value - y)).sum::<f64>()
        / points.iter().map(|(n, _)| (at(*n) - x).powi(2)).sum::<f64>();
    y - slope * x
}

#[cfg(test)]
mod tests {
    use super::super::matrix::testing::{features, normal};
    use super::*;

    #[test]
    fn a_line_is_found() {
        let points: Vec<(usize, f64)> = [10, 20, 50, 100].map(|n| (n, 3.0 + 7.0 / n as f64)).to_vec();
        assert!((intercept(&points) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_bias_of_few_clips_is_removed() {
        // Both sets have the same distribution: the true distance is 0.
        let [real, fake] = [features(&normal(20_000, 8, 1)), features(&normal(300, 8, 2))];
        let all = frechet(&real, &fake, Covariance::Unbiased).unwrap().value;
        let found = frechet_at_infinity(&real, &fake, Covariance::Unbiased, 0).unwrap();
        assert!(found.value.abs() < 0.5 * all, "{} from {all}", found.value);
        assert_eq!((found.points[0].0, found.points[14].0), (100, 300));
        assert!((found.points[14].1 - all).abs() < 1e-12);
        assert!(frechet_at_infinity(&real, &fake.rows(&[0; 44]), Covariance::Unbiased, 0).is_err());
    }
}
