//! A factor of a covariance.

use rayon::prelude::*;

use super::matrix::{Matrix, dot};

/// `L` `[n, rank]` with `L Lᵀ = a` for a positive semi-definite `a`, to within rounding. What rounding has made of zeros is left
/// out: the factor has as many columns as the largest pivot that is left says.
pub(super) fn factor(a: &Matrix) -> Matrix {
    let n = a.rows;
    let mut left: Vec<f64> = (0..n).map(|i| a.row(i)[i]).collect();
    let smallest = f64::EPSILON * left.iter().fold(0.0_f64, |most, v| most.max(*v));
    let mut taken = vec![false; n];
    let mut l = Matrix::zeros(n, n);
    let mut rank = 0;
    while rank < n {
        let pivot = (0..n).filter(|&i| !taken[i]).max_by(|&i, &j| left[i].total_cmp(&left[j]).then(j.cmp(&i)));
        let Some(pivot) = pivot.filter(|&p| left[p] > smallest) else { break };
        let root = left[pivot].sqrt();
        let done = l.row(pivot)[..rank].to_vec();
        taken[pivot] = true;
        l.values.par_chunks_mut(n).zip(left.par_iter_mut()).enumerate().with_min_len(16).for_each(|(i, (row, left))| {
            if i == pivot {
                row[rank] = root;
            } else if !taken[i] {
                let value = (a.row(i)[pivot] - dot(&row[..rank], &done)) / root;
                row[rank] = value;
                *left -= value * value;
            }
        });
        rank += 1;
    }
    let values = l.values.chunks(n.max(1)).flat_map(|row| row[..rank].iter().copied()).collect();
    Matrix::new(values, n, rank)
}

#[cfg(test)]
mod tests {
    use super::super::matrix::testing::normal;
    use super::*;

    #[test]
    fn the_factor_gives_the_matrix_and_shows_its_rank() {
        for (n, rank) in [(1, 1), (12, 12), (30, 7), (70, 40)] {
            let half = normal(n, rank, 5);
            let a = half.times_transposed(&half).unwrap();
            let l = factor(&a);
            assert!(l.columns >= rank && l.columns <= n, "{n} {rank} {}", l.columns);
            let again = l.times_transposed(&l).unwrap();
            let worst = a.values.iter().zip(&again.values).fold(0.0_f64, |most, (x, y)| most.max((x - y).abs()));
            assert!(worst < 1e-12 * a.trace(), "{n} {rank}: {worst}");
        }
        assert_eq!(factor(&Matrix::zeros(3, 3)).columns, 0);
    }
}
