//! Precision and recall, density and coverage from nearest neighbours (Kynkäänniemi et al., arXiv:1904.06991; Naeem et al.,
//! arXiv:2002.09797).

use serde::{Deserialize, Serialize};

use super::kernel::blocks;
use super::matrix::Features;
use crate::{Error, Result};

/// How two sets cover each other. All values are between 0 and 1, except that the density may be larger.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Manifolds {
    /// The fraction of generated items inside the neighbourhood of a real one.
    pub precision: f64,
    /// The fraction of real items inside the neighbourhood of a generated one.
    pub recall: f64,
    /// The mean number of real neighbourhoods that contain a generated item, divided by the number of neighbours.
    pub density: f64,
    /// The fraction of real items whose neighbourhood contains a generated one.
    pub coverage: f64,
    /// The number of neighbours: a neighbourhood reaches to this nearest neighbour in the item's own set.
    pub neighbours: usize,
}

/// Computes precision, recall, density and coverage. The neighbourhood of an item is the ball that reaches to its `neighbours`-th
/// nearest neighbour in its own set.
///
/// # Errors
///
/// If widths differ, `neighbours` is zero or not below the number of rows of a set, or memory runs out.
pub fn manifolds(real: &Features, fake: &Features, neighbours: usize) -> Result<Manifolds> {
    real.same_width(fake)?;
    check_neighbours(neighbours, real.len().min(fake.len()))?;
    let (real_radii, fake_radii) = (radii(real, neighbours)?, radii(fake, neighbours)?);
    let (mut within, mut fake_covered) = (0_usize, vec![false; fake.len()]);
    let (mut real_recalled, mut real_covered) = (vec![false; real.len()], vec![false; real.len()]);
    squared_distances(real, fake, |first, row| {
        for (second, &square) in row.iter().enumerate() {
            if square <= real_radii[first] {
                within += 1;
                fake_covered[second] = true;
                real_covered[first] = true;
            }
            real_recalled[first] |= square <= fake_radii[second];
        }
    })?;
    let share = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as f64 / flags.len() as f64;
    Ok(Manifolds {
        precision: share(&fake_covered),
        recall: share(&real_recalled),
        density: within as f64 / (neighbours * fake.len()) as f64,
        coverage: share(&real_covered),
        neighbours,
    })
}

/// Returns an error if sets of at least `fewest` items do not have that many neighbours.
pub(crate) fn check_neighbours(neighbours: usize, fewest: usize) -> Result<()> {
    if neighbours == 0 || fewest <= neighbours {
        let what =
            format!("{neighbours} neighbours of {fewest} items; expected at least 1 neighbour, and more items than neighbours");
        return Err(Error::refused("neighbours", what));
    }
    Ok(())
}

/// The squared distance of each item to its `neighbours`-th nearest neighbour in the set.
fn radii(set: &Features, neighbours: usize) -> Result<Vec<f64>> {
    let mut radii = Vec::with_capacity(set.len());
    squared_distances(set, set, |first, row| {
        row[first] = f64::INFINITY;
        radii.push(*row.select_nth_unstable_by(neighbours - 1, f64::total_cmp).1);
    })?;
    Ok(radii)
}

/// Calls `visit` with the index of each row of `a` and its squared distances to all rows of `b`.
fn squared_distances(a: &Features, b: &Features, mut visit: impl FnMut(usize, &mut [f64])) -> Result<()> {
    let squares = |set: &Features| -> Vec<f64> {
        set.values().chunks(set.width()).map(|row| row.iter().map(|v| f64::from(*v).powi(2)).sum()).collect()
    };
    let (of_a, of_b) = (squares(a), squares(b));
    let mut first = 0;
    for block in blocks(a) {
        let mut rows = vec![Vec::with_capacity(b.len()); block.rows];
        for other in blocks(b) {
            let products = block.times_transposed(&other)?;
            for (row, products) in rows.iter_mut().zip(products.values.chunks(other.rows)) {
                row.extend_from_slice(products);
            }
        }
        for mut row in rows {
            for (value, square) in row.iter_mut().zip(&of_b) {
                *value = (of_a[first] + square - 2.0 * *value).max(0.0);
            }
            visit(first, &mut row);
            first += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::matrix::testing::{features, normal};
    use super::*;

    #[test]
    fn points_on_a_line_computed_by_hand() {
        let line = |values: &[f32]| Features::new(values.to_vec(), 1, "x").unwrap();
        // The radii of the real neighbourhoods are 1, 1 and 9, those of the generated ones 2, 2 and 40.
        let found = manifolds(&line(&[0.0, 1.0, 10.0]), &line(&[3.0, 5.0, 45.0]), 1).unwrap();
        assert_eq!(
            found,
            Manifolds {
                precision: 2.0 / 3.0,
                recall: 1.0 / 3.0 + 1.0 / 3.0,
                density: 2.0 / 3.0,
                coverage: 1.0 / 3.0,
                neighbours: 1
            }
        );
    }

    #[test]
    fn equal_sets_cover_each_other_and_far_ones_do_not() {
        let set = features(&normal(1100, 3, 1));
        let same = manifolds(&set, &set, 3).unwrap();
        assert_eq!((same.precision, same.recall, same.coverage), (1.0, 1.0, 1.0));
        let mut far = normal(50, 3, 2);
        far.values.iter_mut().for_each(|v| *v += 1000.0);
        let apart = manifolds(&set, &features(&far), 3).unwrap();
        assert_eq!((apart.precision, apart.recall, apart.density, apart.coverage), (0.0, 0.0, 0.0, 0.0));
        let few = set.rows(&[0, 1, 2]);
        assert!(manifolds(&set, &few, 3).is_err() && manifolds(&set, &few, 0).is_err());
    }
}
