//! Matrix products over slices.

use gemm::Parallelism;

/// A matrix in a slice: element `(i, j)` lies at `i · row + j · column`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'s> {
    pub(crate) values: &'s [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'s> Matrix<'s> {
    /// Rows of `width` values, one behind the other.
    pub(crate) fn rows(values: &'s [f32], width: usize) -> Self {
        Self { values, row: width, column: 1 }
    }

    /// The same values with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    /// Whether all elements of an `rows × columns` matrix lie in the slice.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.values.len()
    }
}

/// Who works on a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread: for kernels that spread many small products over threads themselves.
    One,
    /// All threads of the pool.
    All,
}

/// `out = scale · a · b`, `[m, k] · [k, n]`, rows of `out` one behind the other.
///
/// # Panics
///
/// If a slice is too short for its matrix.
pub(crate) fn multiply(out: &mut [f32], [m, k, n]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, scale: f32, threads: Threads) {
    assert!(a.holds(m, k) && b.holds(k, n) && out.len() == m * n, "matrices of {m}×{k} and {k}×{n} that fit their slices");
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(rayon::current_num_threads()),
    };
    // SAFETY: by the assertion above every element that the strides reach for i < m, j < n, l < k lies inside its slice;
    // `out` is borrowed mutably, so it overlaps neither `a` nor `b`. `read_dst` is false: old values of `out` do not matter.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.values.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.column as isize,
            b.row as isize,
            0.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_strided_and_transposed_matrices() {
        // a = [[1, 2, 3], [4, 5, 6]] inside rows of 4, b = aᵀ.
        let values = [1., 2., 3., -1., 4., 5., 6., -1.];
        let a = Matrix { values: &values, row: 4, column: 1 };
        let mut out = [f32::NAN; 4];
        multiply(&mut out, [2, 3, 2], a, a.transposed(), 0.5, Threads::One);
        assert_eq!(out, [7., 16., 16., 38.5]);
        let mut out = [f32::NAN; 9];
        multiply(&mut out, [3, 2, 3], a.transposed(), a, 1.0, Threads::All);
        assert_eq!(out, [17., 22., 27., 22., 29., 36., 27., 36., 45.]);
    }

    #[test]
    #[should_panic(expected = "fit their slices")]
    fn a_slice_that_is_too_short_is_noticed() {
        multiply(&mut [0.0; 4], [2, 3, 2], Matrix::rows(&[0.0; 5], 3), Matrix::rows(&[0.0; 6], 2), 1.0, Threads::One);
    }
}
