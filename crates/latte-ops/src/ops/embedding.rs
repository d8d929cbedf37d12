//! Table lookup.

use crate::{Error, Result, Tape, Var, backend};

/// The rows of `table` at `indices`.
///
/// # Shapes
///
/// `table` `[rows, d]`; gives `[indices, d]`.
///
/// # Errors
///
/// If an index is not below the number of rows.
pub fn embedding(tape: &Tape<'_>, table: &Var, indices: &[u32]) -> Result<Var> {
    let [rows, _] = *table.dims() else { return Err(Error::shape("embedding", "a table [rows, d]", table.dims())) };
    if let Some(index) = indices.iter().find(|&&i| i as usize >= rows) {
        return Err(Error::shape("embedding", format!("indices below {rows}"), index));
    }
    tape.record("embedding", &[table], backend::of([table.value()]).embedding(table.value(), indices)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finite_difference::{check, pseudo_random};

    #[test]
    fn gradients_agree_with_finite_differences_and_repeats_add_up() -> Result<()> {
        check(&[pseudo_random(&[4, 3], 1)?], |tape, v| embedding(tape, &v[0], &[2, 0, 2, 2]))
    }

    #[test]
    fn an_index_beyond_the_table_is_refused() -> Result<()> {
        let tape = Tape::inference();
        assert!(embedding(&tape, &tape.constant(pseudo_random(&[4, 3], 1)?), &[4]).is_err());
        Ok(())
    }
}
