//! Segments: parts of a pass that may run again in the backward pass instead of keeping their intermediates.

use super::{Gradient, Gradients, Tape, Target, Var};
use crate::Error;

impl<'a> Tape<'a> {
    /// Runs `forward` on `inputs`. With activation checkpointing only `inputs` are kept, and the backward pass runs `forward`
    /// again: less memory for one more forward pass, and the same gradients bit for bit.
    ///
    /// # Errors
    ///
    /// Those of `forward`, and [`Error::Cancelled`] if the tape's work was cancelled.
    pub fn segment<E>(&self, inputs: &[&Var], forward: impl Fn(&Self, &[Var]) -> Result<Var, E> + 'a) -> Result<Var, E>
    where
        E: std::error::Error + From<Error> + Send + Sync + 'static,
    {
        self.cancel.check()?;
        let inputs: Vec<Var> = inputs.iter().map(|&v| v.clone()).collect();
        if !(self.recompute && self.recording) {
            return forward(self, &inputs);
        }
        let (precision, packed_weights) = (self.precision, self.packed_weights.clone());
        let unrecorded = Tape { precision, packed_weights: packed_weights.clone(), ..Tape::inference() };
        let value = forward(&unrecorded, &inputs)?.value;
        let backward = move |gradient: Gradient, gradients: &mut Gradients| {
            let tape = Tape { precision, packed_weights, ..Tape::recording() };
            let inner: Vec<Var> =
                inputs.iter().map(|v| if v.is_wanted() { tape.input(&v.value) } else { tape.constant(&v.value) }).collect();
            let output = forward(&tape, &inner).map_err(|e| Error::Recompute(Box::new(e)))?;
            let mut found = tape.back(&output, gradient)?;
            for (outer, inner) in inputs.iter().zip(&inner) {
                if let Target::Node(index) = inner.target
                    && let Some(gradient) = found.nodes.get_mut(index).and_then(Option::take)
                {
                    gradients.put(&outer.target, gradient)?;
                }
            }
            for (name, gradient) in found.parameters {
                gradients.put(&Target::Parameter(name), gradient)?;
            }
            Ok(())
        };
        // Parameters inside want gradients even if no input does.
        Ok(Var { value, target: self.push(Some(Box::new(backward))), is_parameter: false, packed: None })
    }
}
