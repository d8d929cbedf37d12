//! Custom operations, and the result of an operation as a tape records it.

use super::{Gradient, Tape, Var};
use crate::{Error, Result, Value};

/// A custom operation, which this crate does not have. [`Tape::apply`] runs it and records it.
///
/// Values may be on any device: [`Value::to_host`] copies them to the CPU, [`Value::beside`] moves a result to their device.
pub trait Op {
    /// The name in messages.
    fn name(&self) -> &'static str;

    /// The value of the operation.
    ///
    /// # Errors
    ///
    /// If the inputs do not fit, or the device fails.
    fn forward(&self, inputs: &[Value]) -> Result<Value>;

    /// The gradient of each input, given that of the output; `None` for an input without a gradient. Each has the shape of its
    /// input.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn backward(&self, inputs: &[Value], output: &Value, gradient: &Value) -> Result<Vec<Option<Value>>>;
}

impl<'a> Tape<'a> {
    /// The value of `op` for `inputs`, recorded if this tape records.
    ///
    /// # Errors
    /// Those of `op`. [`Tape::backward`] fails if `op` returns gradients of another number or of other shapes.
    /// Those of `op`, or if it returns gradients of wrong number or shape in the backward pass.
    pub fn apply(&self, op: impl Op + 'a, inputs: &[&Var]) -> Result<Var> {
        let values: Vec<Value> = inputs.iter().map(|input| input.value().clone()).collect();
        let (output, name) = (op.forward(&values)?, op.name());
        let kept = output.clone();
        let computed = Computed::new(output, move |gradient, _| {
            let found = op.backward(&values, &kept, &gradient.value)?;
            let fits = found.len() == values.len()
                && found.iter().zip(&values).all(|(gradient, input)| gradient.as_ref().is_none_or(|g| g.dims() == input.dims()));
            if !fits {
                let expected = format!("a gradient for each input, of its shape: {:?}", dims(&values));
                return Err(Error::shape(name, expected, dims(found.iter().flatten())));
            }
            // An operation may return its argument, so its memory may be shared.
            Ok(found.into_iter().map(|gradient| gradient.map(Gradient::shared)).collect())
        });
        self.record(name, inputs, computed)
    }
}

fn dims<'v>(values: impl IntoIterator<Item = &'v Value>) -> Vec<&'v [usize]> {
    values.into_iter().map(Value::dims).collect()
}

/// Takes the gradient of a value and, for each input, whether its gradient is wanted; returns the gradients of the inputs, in
/// order.
type Backward<'a> = Box<dyn FnOnce(Gradient, &[bool]) -> Result<Vec<Option<Gradient>>> + 'a>;

/// The result of an operation, and its backward function.
pub(crate) struct Computed<'a> {
    pub(super) value: Value,
    /// `None` where there is no gradient.
    pub(super) backward: Option<Backward<'a>>,
}

impl<'a> Computed<'a> {
    /// A value with a function that computes the gradients of the inputs.
    pub(crate) fn new(
        value: impl Into<Value>,
        backward: impl FnOnce(Gradient, &[bool]) -> Result<Vec<Option<Gradient>>> + 'a,
    ) -> Self {
        Self { value: value.into(), backward: Some(Box::new(backward)) }
    }

    /// A value without a gradient.
    pub(crate) fn without_gradient(value: impl Into<Value>) -> Self {
        Self { value: value.into(), backward: None }
    }

    /// The value alone.
    pub(crate) fn into_value(self) -> Value {
        self.value
    }
}
