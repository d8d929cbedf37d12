//! All eigenvalues of a symmetric matrix: Householder's reduction to a tridiagonal one, in blocks, then implicit QL.

use rayon::prelude::*;

use super::matrix::{Matrix, dot};
use crate::{Error, Result};

/// Columns that are reduced before the rest of the matrix is brought up to date, in one matmul.
const BLOCK: usize = 32;
/// QL needs two or three iterations for an eigenvalue.
const MAX_ITERATIONS: usize = 60;

/// The eigenvalues of the symmetric matrix `values` `[n, n]`, ascending. Only rounding separates them from those of a matrix
/// within some `n · 2⁻⁵²` of the given one, relative to its norm.
///
/// # Errors
///
/// If the number of values is no square, a value is not finite, or memory runs out.
pub fn symmetric_eigenvalues(values: &[f64]) -> Result<Vec<f64>> {
    let n = values.len().isqrt();
    if n * n != values.len() {
        return Err(Error::refused("matrix", format!("{} values are no square matrix", values.len())));
    }
    if values.iter().any(|v| !v.is_finite()) {
        return Err(Error::refused("matrix", "holds values that are no finite numbers; its eigenvalues are undefined"));
    }
    of_symmetric(Matrix::new(values.to_vec(), n, n))
}

/// As [`symmetric_eigenvalues`]; the matrix is used up.
pub(super) fn of_symmetric(matrix: Matrix) -> Result<Vec<f64>> {
    let (mut diagonal, beside) = tridiagonal(matrix)?;
    implicit_ql(&mut diagonal, beside)?;
    diagonal.sort_by(f64::total_cmp);
    Ok(diagonal)
}

/// The diagonal and what lies beside it of a tridiagonal matrix with the same eigenvalues.
///
/// In a block of columns, the reflections are only collected: of column `i`, the vectors `v` and `w` with which the matrix behind
/// it becomes `A − v wᵀ − w vᵀ`. A column is brought up to date when its turn comes, the rest of the matrix once for the block.
fn tridiagonal(mut a: Matrix) -> Result<(Vec<f64>, Vec<f64>)> {
    let n = a.rows;
    let (mut diagonal, mut beside) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let mut begin = 0;
    while begin < n {
        let end = (begin + BLOCK).min(n);
        // Rows of these are the vectors, of full length, zero before their column.
        let (mut v, mut w): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
        for i in begin..end {
            let mut column = a.row(i)[i..].to_vec();
            for (v, w) in v.iter().zip(&w) {
                let (vi, wi) = (v[i], w[i]);
                for ((value, vr), wr) in column.iter_mut().zip(&v[i..]).zip(&w[i..]) {
                    *value -= vr * wi + wr * vi;
                }
            }
            diagonal.push(column[0]);
            if i + 1 == n {
                break;
            }
            let (reflection, tau, left) = householder(&column[1..]);
            beside.push(left);
            let first = i + 1;
            let mut image = vec![0.0; n];
            if tau != 0.0 {
                image[first..].par_iter_mut().with_min_len(16).enumerate().for_each(|(at, value)| {
                    *value = dot(&a.row(first + at)[first..], &reflection);
                });
                for (v, w) in v.iter().zip(&w) {
                    let (by_w, by_v) = (dot(&w[first..], &reflection), dot(&v[first..], &reflection));
                    for ((value, vr), wr) in image[first..].iter_mut().zip(&v[first..]).zip(&w[first..]) {
                        *value -= vr * by_w + wr * by_v;
                    }
                }
                image[first..].iter_mut().for_each(|value| *value *= tau);
                let half = 0.5 * tau * dot(&image[first..], &reflection);
                for (value, r) in image[first..].iter_mut().zip(&reflection) {
                    *value -= half * r;
                }
            }
            let mut whole = vec![0.0; n];
            whole[first..].copy_from_slice(&reflection);
            v.push(whole);
            w.push(image);
        }
        if end < n {
            update(&mut a, end, &v, &w)?;
        }
        begin = end;
    }
    Ok((diagonal, beside))
}

/// `A − V Wᵀ − W Vᵀ` for the rows and columns from `end` on.
fn update(a: &mut Matrix, end: usize, v: &[Vec<f64>], w: &[Vec<f64>]) -> Result<()> {
    let (n, left) = (a.rows, a.rows - end);
    let side = |first: &[Vec<f64>], second: &[Vec<f64>]| {
        let values = first.iter().chain(second).flat_map(|row| row[end..].iter().copied()).collect();
        Matrix::new(values, first.len() + second.len(), left)
    };
    let change = side(v, w).transposed().times(&side(w, v))?;
    a.values[end * n..].par_chunks_mut(n).enumerate().for_each(|(at, row)| {
        for (value, change) in row[end..].iter_mut().zip(change.row(at)) {
            *value -= change;
        }
    });
    Ok(())
}

/// The vector `v` (first value 1) and `tau` with `(I − tau v vᵀ) x = (left, 0, …)`.
fn householder(x: &[f64]) -> (Vec<f64>, f64, f64) {
    let mut v = x.to_vec();
    let scale = x.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let head = x[0];
    v[0] = 1.0;
    // Only the part behind the head must vanish; scaled, its square neither overflows nor vanishes.
    let tail: f64 = if scale > 0.0 { x[1..].iter().map(|value| (value / scale).powi(2)).sum() } else { 0.0 };
    if tail == 0.0 {
        v[1..].fill(0.0);
        return (v, 0.0, head);
    }
    let norm = scale * (tail + (head / scale).powi(2)).sqrt();
    let left = if head > 0.0 { -norm } else { norm };
    let divisor = head - left;
    v[1..].iter_mut().for_each(|value| *value /= divisor);
    (v, (left - head) / left, left)
}

/// Eigenvalues of a tridiagonal matrix, in place of its diagonal, in no order.
fn implicit_ql(d: &mut [f64], mut e: Vec<f64>) -> Result<()> {
    let n = d.len();
    e.resize(n, 0.0);
    // What is below the rounding of the reduction does not count. Among many zeros, which are all rounding, nothing else would.
    let norm = d.iter().zip(&e).fold(0.0_f64, |most, (d, e)| most.max(d.abs() + e.abs()));
    for l in 0..n {
        let mut iterations = 0;
        loop {
            // The first entry beside the diagonal, from l on, that does not count.
            let m = (l..n - 1).find(|&m| e[m].abs() <= f64::EPSILON * norm).unwrap_or(n - 1);
            if m == l {
                break;
            }
            iterations += 1;
            if iterations > MAX_ITERATIONS {
                return Err(Error::refused("matrix", "its eigenvalues were not found: QL does not converge"));
            }
            // Wilkinson's shift.
            let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut r = g.hypot(1.0);
            g = d[m] - d[l] + e[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut split = false;
            for i in (l..m).rev() {
                let f = s * e[i];
                let b = c * e[i];
                r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    split = true;
                    break;
                }
                s = f / r;
                c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
            }
            if !split {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::matrix::testing::normal;
    use super::*;

    /// `Q diag(values) Qᵀ` with a product of reflections for `Q`.
    pub(super) fn with_eigenvalues(values: &[f64], seed: u32) -> Vec<f64> {
        let n = values.len();
        let mut a = Matrix::zeros(n, n);
        for (i, value) in values.iter().enumerate() {
            a.values[i * n + i] = *value;
        }
        for turn in 0..3 {
            let v = normal(1, n, seed + turn).values;
            let square = dot(&v, &v);
            let reflect = |m: &Matrix| {
                let mut out = m.clone();
                for (out, row) in out.values.chunks_mut(n).zip(m.values.chunks(n)) {
                    let along = 2.0 * dot(row, &v) / square;
                    out.iter_mut().zip(&v).for_each(|(value, v)| *value -= along * v);
                }
                out.transposed()
            };
            a = reflect(&reflect(&a));
        }
        a.symmetrise();
        a.values
    }

    #[test]
    fn eigenvalues_that_were_put_in_come_out() {
        for n in [1, 2, 3, 31, 32, 33, 65, 130] {
            let expected: Vec<f64> = (0..n).map(|i| f64::from(i).powi(2) - 40.0).collect();
            let found = symmetric_eigenvalues(&with_eigenvalues(&expected, 7)).unwrap();
            let scale = f64::from(n).powi(2) + 40.0;
            for (a, b) in expected.iter().zip(&found) {
                assert!((a - b).abs() < 1e-13 * scale, "{n}: {a} {b}");
            }
        }
    }

    #[test]
    fn multiple_zero_and_far_apart_eigenvalues_are_found() {
        let mut expected = vec![0.0; 40];
        expected.extend([1.0; 20]);
        expected.extend([1e-6, 1e6, -1e6]);
        expected.sort_by(f64::total_cmp);
        let found = symmetric_eigenvalues(&with_eigenvalues(&expected, 3)).unwrap();
        assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-8), "{found:?}");
        assert_eq!(symmetric_eigenvalues(&[0.0; 9]).unwrap(), [0.0; 3]);
        assert_eq!(symmetric_eigenvalues(&[2.0, 0.0, 0.0, 1.0]).unwrap(), [1.0, 2.0]);
        // A column that its head is nearly all of: the difference of head and norm must not vanish.
        let found = symmetric_eigenvalues(&[2.0, 1.0, 1e-9, 1.0, 3.0, 0.0, 1e-9, 0.0, 9.0]).unwrap();
        let root = 5.0_f64.sqrt() / 2.0;
        assert!(found.iter().zip([2.5 - root, 2.5 + root, 9.0]).all(|(a, b)| (a - b).abs() < 1e-14), "{found:?}");
        let tiny: Vec<f64> = [2.0, 1.0, 1.0, 2.0].iter().map(|v| v * 1e-200).collect();
        let found = symmetric_eigenvalues(&tiny).unwrap();
        assert!((found[0] / 1e-200 - 1.0).abs() < 1e-14 && (found[1] / 3e-200 - 1.0).abs() < 1e-14, "{found:?}");
    }

    #[test]
    fn a_matrix_of_low_rank_has_zeros() {
        let half = normal(300, 20, 4);
        let found = symmetric_eigenvalues(&half.times_transposed(&half).unwrap().values).unwrap();
        assert!(found[..280].iter().all(|v| v.abs() < 1e-10 * found[299]) && found[280] > 1e-3 * found[299]);
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        assert!(symmetric_eigenvalues(&[1.0; 5]).is_err());
        assert!(symmetric_eigenvalues(&[f64::NAN; 4]).is_err());
        assert!(symmetric_eigenvalues(&[]).unwrap().is_empty());
    }
}
