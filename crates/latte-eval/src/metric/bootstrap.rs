//! Bootstrap intervals of the Fréchet distance: how much it would vary with other clips from the same sources.

use serde::{Deserialize, Serialize};

use super::frechet::frechet;
use super::kernel::mean_and_deviation;
use super::matrix::Features;
use super::moments::Covariance;
use super::numpy_random::NumpyRandom;
use crate::{Error, Result};

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// The standard deviation of the resampled distances.
    pub deviation: f64,
    /// Number of times that both sets were resampled.
    pub resamples: usize,
}

/// Computes a 95 % interval by resampling both sets with replacement.
///
/// A resampled set repeats features, which reduces the rank of its covariance and increases every distance. So the interval is the
/// spread of the resampled distances around their own mean, shifted to the distance of the original sets.
///
/// # Errors
///
/// If there are fewer than 20 resamples, and those of [`frechet`].
pub fn bootstrap_frechet(
    real: &Features,
    fake: &Features,
    covariance: Covariance,
    resamples: usize,
    seed: u32,
) -> Result<Interval> {
    check_resamples(resamples)?;
    let distance = frechet(real, fake, covariance)?.value;
    let mut random = NumpyRandom::new(seed);
    let mut values = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        let mut again = |set: &Features| {
            let mut rows: Vec<usize> = (0..set.len()).map(|_| random.interval(set.len() - 1)).collect();
            rows.sort_unstable();
            set.rows(&rows)
        };
        let (first, second) = (again(real), again(fake));
        values.push(frechet(&first, &second, covariance)?.value);
    }
    values.sort_by(f64::total_cmp);
    let (mean, deviation) = mean_and_deviation(&values);
    let quantile = |share: f64| values[(share * (resamples - 1) as f64).round() as usize];
    let around = |quantile: f64| distance + quantile - mean;
    Ok(Interval { low: around(quantile(0.025)), high: around(quantile(0.975)), deviation, resamples })
}

/// Returns an error if there are too few resamples for a 95 % interval.
pub(crate) fn check_resamples(resamples: usize) -> Result<()> {
    if resamples < 20 {
        return Err(Error::refused("resamples", format!("{resamples}; an interval of 95 % needs at least 20, better 100")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::matrix::testing::{features, normal};
    use super::*;

    #[test]
    fn the_interval_holds_the_distance_and_shrinks_with_more_clips() {
        let interval = |n: usize| {
            let mut moved = normal(n, 3, 2);
            moved.values.iter_mut().for_each(|v| *v += 1.0);
            let [real, fake] = [features(&normal(n, 3, 1)), features(&moved)];
            let distance = frechet(&real, &fake, Covariance::Unbiased).unwrap().value;
            let found = bootstrap_frechet(&real, &fake, Covariance::Unbiased, 60, 5).unwrap();
            assert!(found.low < distance && distance < found.high, "{found:?} {distance}");
            assert_eq!(found, bootstrap_frechet(&real, &fake, Covariance::Unbiased, 60, 5).unwrap());
            found.high - found.low
        };
        let (few, many) = (interval(50), interval(5000));
        assert!(many < 0.3 * few, "{many} {few}");
        let set = features(&normal(9, 3, 1));
        assert!(bootstrap_frechet(&set, &set, Covariance::Biased, 19, 0).is_err());
    }
}
