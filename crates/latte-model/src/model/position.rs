//! Fixed sine-cosine positions, computed for the actual shape.

use candle_core::Tensor;

use crate::{Result, host};

/// `len` sines, then `len` cosines, of `position · 10000^(−k/len)`, computed in f64.
fn sines_and_cosines(position: f64, len: usize, out: &mut Vec<f32>) {
    let angle = |k: usize| position * 10000f64.powf(-(k as f64) / len as f64);
    out.extend((0..len).map(|k| angle(k).sin() as f32));
    out.extend((0..len).map(|k| angle(k).cos() as f32));
}

/// Positions of a grid of tokens, row by row: the first half of the values holds the column, the second the row.
///
/// # Shapes
///
/// Gives `[rows · columns, d]`.
///
/// # Errors
///
/// If memory runs out.
pub fn spatial(rows: usize, columns: usize, d: usize) -> Result<Tensor> {
    grid(rows, columns, d, |index, _| index as f64)
}

/// As [`spatial`], for a grid of any size stretched to `base` × `base` tokens, with positions divided by `interpolation`: the
/// positions of the text-to-video transformer.
///
/// # Errors
///
/// If memory runs out.
pub(crate) fn stretched(rows: usize, columns: usize, d: usize, base: usize, interpolation: usize) -> Result<Tensor> {
    // Positions in f32, angles in f64, as in the reference.
    grid(rows, columns, d, |index, len| f64::from(index as f32 / (len as f64 / base as f64) as f32 / interpolation as f32))
}

/// The positions of a grid; `place` returns the position of an index on an axis of a given length.
fn grid(rows: usize, columns: usize, d: usize, place: impl Fn(usize, usize) -> f64) -> Result<Tensor> {
    // Each axis is computed once: a token's values are those of its column and of its row, concatenated.
    let axis = |len: usize| {
        let mut values = Vec::with_capacity(len * d / 2);
        (0..len).for_each(|index| sines_and_cosines(place(index, len), d / 4, &mut values));
        values
    };
    let (of_rows, of_columns, half) = (axis(rows), axis(columns), 2 * (d / 4));
    let mut values = Vec::with_capacity(rows * columns * d);
    for row in 0..rows {
        for column in 0..columns {
            values.extend_from_slice(&of_columns[column * half..][..half]);
            values.extend_from_slice(&of_rows[row * half..][..half]);
        }
    }
    host::tensor(values, (rows * columns, d))
}

/// Positions of frames.
///
/// # Shapes
///
/// Gives `[frames, d]`.
///
/// # Errors
///
/// If memory runs out.
pub fn temporal(frames: usize, d: usize) -> Result<Tensor> {
    let mut values = Vec::with_capacity(frames * d);
    for frame in 0..frames {
        sines_and_cosines(frame as f64, d / 2, &mut values);
    }
    host::tensor(values, (frames, d))
}

/// Values of a timestep's sinusoid.
pub(crate) const TIMESTEP_WIDTH: usize = 256;

/// The rounding of the frequencies of a timestep's sinusoid. Angles reach 999, so one unit in the last place of a frequency changes an
/// angle, and gradients with it, by up to 3e-5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frequencies {
    /// To the nearest f32.
    Nearest,
    /// As PyTorch's vectorised `exp` rounds them, with which the text-to-video reference values were computed: number 12 is one unit
    /// in the last place above the nearest f32.
    Reference,
}

/// The sinusoid of timesteps: 128 cosines, then 128 sines, of `t · exp(−ln 10000 · k/128)`.
///
/// In f32 throughout, as in the reference: the weights were trained with the rounding of the angle at large `t`.
///
/// # Errors
///
/// If memory runs out.
pub(crate) fn timestep_sinusoid(timesteps: &[f64], rounding: Frequencies) -> Result<Tensor> {
    const HALF: usize = TIMESTEP_WIDTH / 2;
    let mut frequencies: Vec<f32> = (0..HALF).map(|k| ((-(10000f64.ln()) as f32) * k as f32 / HALF as f32).exp()).collect();
    if rounding == Frequencies::Reference {
        frequencies[12] = f32::from_bits(0x3ed7_e89b);
    }
    let mut values = Vec::with_capacity(timesteps.len() * TIMESTEP_WIDTH);
    for &t in timesteps {
        let t = t as f32;
        values.extend(frequencies.iter().map(|f| (t * f).cos()));
        values.extend(frequencies.iter().map(|f| (t * f).sin()));
    }
    host::tensor(values, (timesteps.len(), TIMESTEP_WIDTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_that_is_not_square_has_columns_first() -> Result<()> {
        let p = spatial(2, 3, 8)?.to_vec2::<f32>()?;
        assert_eq!(p.len(), 6);
        // Token 5 is row 1, column 2: sin 2, sin 0.02, cos 2, cos 0.02, sin 1, sin 0.01, …
        let expected =
            [2f64.sin(), 0.02f64.sin(), 2f64.cos(), 0.02f64.cos(), 1f64.sin(), 0.01f64.sin(), 1f64.cos(), 0.01f64.cos()];
        for (a, b) in p[5].iter().zip(expected) {
            assert!((f64::from(*a) - b).abs() < 1e-7);
        }
        Ok(())
    }

    #[test]
    fn frames_have_sines_first_and_timesteps_cosines() -> Result<()> {
        let p = temporal(4, 4)?.to_vec2::<f32>()?;
        assert!((p[3][0] - 3f32.sin()).abs() < 1e-6 && (p[3][2] - 3f32.cos()).abs() < 1e-6);
        let t = timestep_sinusoid(&[3.0], Frequencies::Nearest)?.to_vec2::<f32>()?;
        assert!((t[0][0] - 3f32.cos()).abs() < 1e-6 && (t[0][128] - 3f32.sin()).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn one_frequency_of_the_reference_is_one_unit_higher() -> Result<()> {
        let of = |rounding| -> Result<Vec<f32>> { Ok(timestep_sinusoid(&[999.0], rounding)?.flatten_all()?.to_vec1()?) };
        let (nearest, reference) = (of(Frequencies::Nearest)?, of(Frequencies::Reference)?);
        let differ: Vec<usize> = (0..TIMESTEP_WIDTH).filter(|&i| nearest[i] != reference[i]).collect();
        assert_eq!(differ, [12, 128 + 12]);
        assert!((nearest[12] - reference[12]).abs() < 4e-5);
        Ok(())
    }
}
