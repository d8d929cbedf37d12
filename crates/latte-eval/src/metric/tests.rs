//! Reference numbers: a few lines of numpy 2.4.6 and scipy 1.17.1 compute them from the same features, drawn with the same
//! `RandomState`.

use super::*;

/// Features `[rows, width]` from a formula that does not round.
fn by(rows: usize, width: usize, value: impl Fn(i64, i64) -> f64) -> Features {
    let rows = i64::try_from(rows).unwrap();
    let columns = i64::try_from(width).unwrap();
    let values = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| value(i, j) as f32).collect();
    Features::new(values, width, "formula").unwrap()
}

fn real() -> Features {
    by(60, 4, |i, j| ((i * 7 + j * 5 + i * j * 3) % 11 - 5) as f64 / 4.0)
}

fn fake() -> Features {
    by(50, 4, |i, j| ((i * 5 + j * 3 + i * i * j * 2 + 4) % 13 - 6) as f64 / 4.0)
}

fn close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
}

#[test]
fn frechet_distances() {
    let found = |kind| frechet(&real(), &fake(), kind).unwrap();
    close(found(Covariance::Biased).value, 0.514958917590735);
    close(found(Covariance::Unbiased).value, 0.5257789601344731);
    let parts = found(Covariance::Unbiased);
    assert!(parts.traces > parts.covariances && parts.value == parts.means + parts.covariances);
}

#[test]
fn kernel_distances_of_the_subsets_that_numpy_draws() {
    let options = KernelOptions { kernel: Polynomial::KID, subsets: 6, subset_size: 20, seed: 2020 };
    let found = kernel_distance(&real(), &fake(), &options).unwrap();
    close(found.mean, 0.17295971268101748);
    close(found.deviation, 0.06609130651758421);
}

#[test]
fn inception_scores_of_uneven_splits_in_numpys_order() {
    let logits = by(60, 4, |i, j| ((i * 7 + j * 5 + i * j * 3) % 11 - 5) as f64);
    let found = inception_score(&logits, 7, Some(2020)).unwrap();
    close(found.mean, 2.1759876417391277);
    close(found.deviation, 0.2636518839851774);
}

#[test]
fn few_items_in_a_split_lower_the_score_of_perfect_clips() {
    // Each clip is certain of one of 101 classes, which are drawn at random. 2048 clips in 10 splits give 76.9 ± 3.1.
    let mut random = NumpyRandom::new(1);
    let mut values = vec![0.0; 2048 * 101];
    values.chunks_mut(101).for_each(|row| row[random.interval(100)] = 1e30);
    let logits = Features::new(values, 101, "one-hot").unwrap();
    let score = |splits| inception_score(&logits, splits, None).unwrap().mean;
    assert!((score(10) - 76.9).abs() < 3.1 && (score(1) - 98.9).abs() < 1.0, "{} {}", score(10), score(1));
}

#[test]
fn neighbourhoods_of_two_and_of_five() {
    let set = |rows, shift| by(rows, 3, move |i, j| ((i * 37 + j * 101 + shift) * (i * i + j * 7 + 3) % 1009) as f64 / 64.0);
    let found = |neighbours| {
        let Manifolds { precision, recall, density, coverage, .. } = manifolds(&set(40, 1), &set(30, 500), neighbours).unwrap();
        [precision, recall, density, coverage]
    };
    for (neighbours, expected) in [(2, [14.0 / 15.0, 0.75, 5.0 / 6.0, 0.55]), (5, [1.0, 0.85, 1.08, 0.85])] {
        found(neighbours).into_iter().zip(expected).for_each(|(found, expected)| close(found, expected));
    }
}

#[test]
fn the_line_through_subsets_that_numpy_draws() {
    let found = frechet_at_infinity(&real(), &fake(), Covariance::Biased, 3).unwrap();
    close(found.value, 0.4215869940111747);
    assert_eq!((found.points.len(), found.points[0].0, found.points[7].0, found.points[14].0), (15, 16, 33, 50));
    close(found.points[0].1, 0.8100958341563427);
    close(found.points[7].1, 0.48165116081749115);
}

#[test]
fn the_interval_of_the_resamples_that_numpy_draws() {
    let found = bootstrap_frechet(&real(), &fake(), Covariance::Unbiased, 40, 5).unwrap();
    close(found.low, 0.278975524349134);
    close(found.high, 0.7615363201159636);
    close(found.deviation, 0.14694471443293805);
}

#[test]
fn numbers_after_the_first_state_are_those_of_numpy() {
    let mut random = NumpyRandom::new(7);
    assert_eq!(random.choice(3000, 3), [1306, 2037, 568]);
    assert_eq!(random.permutation(5), [3, 2, 0, 4, 1]);
    assert_eq!([(); 8].map(|()| random.interval(1)), [1, 1, 1, 0, 1, 0, 0, 0]);
}
