//! A tensor that is assembled from parts, so that only the tensor and one part are in memory at once.

use crate::{Error, Result, Tape, Value, Var, backend};

/// A tensor that is assembled from parts. Parts have no gradients.
#[derive(Debug)]
pub struct Canvas {
    value: Value,
}

impl Canvas {
    /// Zeros of shape `dims`, with the device and dtype of `beside`.
    ///
    /// # Errors
    ///
    /// If the device has no memory left.
    pub fn new(dims: &[usize], beside: &Var) -> Result<Self> {
        Ok(Self { value: backend::of([beside.value()]).zeros(beside.value(), dims)? })
    }

    /// Writes `part` at `start` of `axis`; its other axes have the canvas's lengths.
    ///
    /// # Errors
    ///
    /// If the part does not fit, or its gradient is wanted.
    pub fn put(&mut self, part: &Var, axis: usize, start: usize) -> Result<()> {
        let (own, dims) = (self.value.dims(), part.dims());
        let fits = own.len() == dims.len()
            && axis < own.len()
            && start.checked_add(dims[axis]).is_some_and(|end| end <= own[axis])
            && (0..own.len()).all(|other| other == axis || own[other] == dims[other]);
        if !fits {
            return Err(Error::shape("canvas", format!("a part of {own:?} along axis {axis} from {start} on"), dims));
        }
        if part.is_wanted() {
            return Err(Error::NoGradient("a part of a canvas"));
        }
        backend::of([&self.value, part.value()]).put_slice(&self.value, part.value(), axis, start)
    }

    /// The assembled tensor.
    pub fn finish(self, tape: &Tape<'_>) -> Var {
        tape.constant(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concat;
    use crate::finite_difference::{assert_close, pseudo_random};

    #[test]
    fn parts_lie_where_they_were_put_and_misfits_are_refused() -> Result<()> {
        let tape = Tape::recording();
        let (a, b) = (tape.constant(pseudo_random(&[2, 1, 3], 1)?), tape.constant(pseudo_random(&[2, 2, 3], 2)?));
        let mut canvas = Canvas::new(&[2, 3, 3], &a)?;
        canvas.put(&b, 1, 1)?;
        canvas.put(&a, 1, 0)?;
        assert!(canvas.put(&b, 1, 2).is_err() && canvas.put(&b, 0, 0).is_err() && canvas.put(&b, 3, 0).is_err());
        assert!(canvas.put(&tape.input(a.value()), 1, 0).is_err());
        assert_close(&canvas.finish(&tape).to_host()?, &concat(&tape, &[&a, &b], 1)?.to_host()?, 0.0)
    }
}
