//! Features as rows of numbers, and the few operations on matrices that metrics need.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::{Error, Result};

/// `value`, if it is a number: features that are finite each can have sums of products that are not.
pub(super) fn finite(what: &str, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::refused(
        "features",
        format!("{what} is {value}, no finite number: the features are too large, look at the detector"),
    ))
}

/// Features of a set of clips, row by row `[n, d]`.
#[derive(Clone, PartialEq)]
pub struct Features {
    values: Vec<f32>,
    width: usize,
}

// The values themselves would fill the screen.
impl std::fmt::Debug for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Features").field("rows", &self.len()).field("width", &self.width).finish_non_exhaustive()
    }
}

impl Features {
    /// Wraps `values`, rows of `width`. `subject` opens error messages.
    ///
    /// # Errors
    ///
    /// If there is no row, rows are incomplete, or a value is no finite number.
    pub fn new(values: Vec<f32>, width: usize, subject: &str) -> Result<Self> {
        if width == 0 || values.is_empty() || !values.len().is_multiple_of(width) {
            let what = format!("{} values are no rows of {width}; expected at least one whole row", values.len());
            return Err(Error::refused(subject, what));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let what = format!(
                "value {} of row {} is {}, no finite number: these features cannot be used",
                at % width,
                at / width,
                values[at]
            );
            return Err(Error::refused(subject, what));
        }
        Ok(Self { values, width })
    }

    /// How many rows.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one row")]
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Values per row, `d`.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Row `index`.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// The rows `indices`, in that order; repeats are allowed.
    ///
    /// # Panics
    ///
    /// If `indices` is empty or a row is not there.
    #[must_use]
    pub fn rows(&self, indices: &[usize]) -> Self {
        assert!(!indices.is_empty(), "at least one row");
        Self { values: indices.iter().flat_map(|&i| self.row(i).iter().copied()).collect(), width: self.width }
    }

    /// Whether `self` and `other` can be compared.
    pub(super) fn same_width(&self, other: &Self) -> Result<()> {
        if self.width == other.width {
            return Ok(());
        }
        let what = format!(
            "real features have {} values, generated ones {}; both must come from the same detector and output",
            self.width, other.width
        );
        Err(Error::refused("features", what))
    }
}

/// A matrix in f64, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    pub(super) values: Vec<f64>,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Matrix {
    pub(super) fn new(values: Vec<f64>, rows: usize, columns: usize) -> Self {
        debug_assert_eq!(values.len(), rows * columns);
        Self { values, rows, columns }
    }

    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Self::new(vec![0.0; rows * columns], rows, columns)
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    pub(super) fn trace(&self) -> f64 {
        (0..self.rows.min(self.columns)).map(|i| self.values[i * self.columns + i]).sum()
    }

    pub(super) fn transposed(&self) -> Self {
        let mut out = Self::zeros(self.columns, self.rows);
        out.values.par_chunks_mut(self.rows.max(1)).enumerate().for_each(|(column, row)| {
            for (at, value) in row.iter_mut().enumerate() {
                *value = self.values[at * self.columns + column];
            }
        });
        out
    }

    /// `self · other`.
    pub(super) fn times(&self, other: &Self) -> Result<Self> {
        let tensor = |m: &Self| Tensor::from_slice(&m.values, (m.rows, m.columns), &Device::Cpu);
        let product = tensor(self)?.matmul(&tensor(other)?)?;
        Ok(Self::new(product.flatten_all()?.to_vec1()?, self.rows, other.columns))
    }

    /// `self · otherᵀ`.
    pub(super) fn times_transposed(&self, other: &Self) -> Result<Self> {
        let tensor = |m: &Self| Tensor::from_slice(&m.values, (m.rows, m.columns), &Device::Cpu);
        let product = tensor(self)?.matmul(&tensor(other)?.t()?)?;
        Ok(Self::new(product.flatten_all()?.to_vec1()?, self.rows, other.rows))
    }

    /// Makes it exactly symmetric: products of rounded numbers are so only nearly.
    pub(super) fn symmetrise(&mut self) {
        let n = self.rows;
        for i in 0..n {
            for j in 0..i {
                let mean = 0.5 * (self.values[i * n + j] + self.values[j * n + i]);
                self.values[i * n + j] = mean;
                self.values[j * n + i] = mean;
            }
        }
    }
}

/// The inner product, summed in eight parts that the processor can add side by side.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
pub(super) mod testing {
    //! Random numbers for the tests of this folder.

    use super::*;
    use crate::metric::NumpyRandom;

    /// `[rows, columns]` of roughly normal values.
    pub(in crate::metric) fn normal(rows: usize, columns: usize, seed: u32) -> Matrix {
        let mut random = NumpyRandom::new(seed);
        let mut next = || (0..12).map(|_| f64::from(random.next_u32()) / 4294967296.0).sum::<f64>() - 6.0;
        Matrix::new((0..rows * columns).map(|_| next()).collect(), rows, columns)
    }

    pub(in crate::metric) fn features(matrix: &Matrix) -> Features {
        Features::new(matrix.values.iter().map(|&v| v as f32).collect(), matrix.columns, "test").unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_are_no_features_is_refused() {
        assert!(Features::new(vec![1.0; 6], 3, "x").is_ok());
        for (values, width) in [(vec![], 3), (vec![1.0; 5], 3), (vec![1.0; 6], 0)] {
            assert!(Features::new(values, width, "x").is_err());
        }
        let said = Features::new(vec![0.0, 1.0, f32::NAN, 0.0], 2, "some.npz").unwrap_err().to_string();
        assert!(said.contains("some.npz") && said.contains("row 1") && said.contains("NaN"), "{said}");
    }

    #[test]
    fn products_are_products() {
        let a = Matrix::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3);
        assert_eq!(a.times_transposed(&a).unwrap().values, [14.0, 32.0, 32.0, 77.0]);
        assert_eq!(a.transposed().times(&a).unwrap().row(0), [17.0, 22.0, 27.0]);
        let long: Vec<f64> = (0..19).map(f64::from).collect();
        assert_eq!(dot(&long, &long), 2109.0);
    }
}
